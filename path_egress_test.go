//go:build !layer

package main

// path_egress_test.go tests the whole path of functions whose way out is an HTTPS proxy, and of those that
// have none.

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// wayOut is an HTTP proxy, the only way to events.example.com, which is the API behind TLS.
type wayOut struct {
	address string
	user    string       // that it wants, with the password; empty: everybody may pass
	api     atomic.Value // the API's address, which is known when the function has started
	asked   screen       // the tunnels that it was asked for, a line each
	served  screen       // the requests that went through them, a line each
}

// startWayOut starts a proxy that wants a user, if one is given.
func startWayOut(t *testing.T, user string, leaf *certificate) *wayOut {
	t.Helper()
	w := &wayOut{user: user}
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	behind := httptest.NewUnstartedServer(&httputil.ReverseProxy{ErrorLog: quiet, Rewrite: w.toAPI})
	behind.Config.ErrorLog = quiet
	behind.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: leaf.key}},
	}
	behind.StartTLS()
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.asked.Write([]byte(r.Method + " " + r.RequestURI + "\n"))
		client, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer client.Close()
		w.tunnel(client, r.Header.Get("Proxy-Authorization"), behind.Listener.Addr().String())
	}))
	w.address = proxy.Listener.Addr().String()
	t.Cleanup(func() {
		behind.CloseClientConnections()
		behind.Close()
		proxy.Close()
	})
	return w
}

// toAPI sends on what has come through a tunnel.
func (w *wayOut) toAPI(r *httputil.ProxyRequest) {
	w.served.Write([]byte(r.In.Method + " " + r.In.URL.Path + "\n"))
	host, _ := w.api.Load().(string)
	r.SetURL(&url.URL{Scheme: "http", Host: host})
	r.Out.Host = r.In.Host
}

// tunnel is what the proxy does with a CONNECT.
func (w *wayOut) tunnel(client net.Conn, authorization, target string) {
	as := &http.Request{Header: http.Header{"Authorization": {authorization}}}
	name, password, _ := as.BasicAuth()
	if w.user != "" && name+":"+password != w.user {
		io.WriteString(client, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		return // the test is over
	}
	defer server.Close()
	io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	back := async(func() (int64, error) {
		defer client.Close()
		return io.Copy(client, server)
	})
	io.Copy(server, client)
	server.Close()
	<-back
}

// egress is the configuration of a function in a VPC whose way out is a proxy.
type egress struct {
	rootsDir bool   // SSL_CERT_DIR has the root certificate, instead of SSL_CERT_FILE
	variable string // that names the proxy
	user     string // in that variable, as in a URL and with the @ behind it
	wanted   string // the user that the proxy wants
	noProxy  string
}

// start starts such a function. Its Runtime API must never be asked for through the proxy, and goes by a name
// that no rule excepts: Go's own exception for localhost is in lower case.
func (e egress) start(t *testing.T, over eventAPIOptions) (*wholePath, *wayOut) {
	t.Helper()
	root := newCertificate(t, "Root", nil)
	leaf := newCertificate(t, "events.example.com", root)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	err := os.WriteFile(roots, []byte(root.pem()), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	runtimeAPI, _ := startOtherProxy(t, ln.Addr().String)
	w := startWayOut(t, e.wanted, leaf)
	proxy := "http://" + e.user + w.address
	variables := map[string]string{
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "events.example.com",
		"LRAP_RUNTIME_API_ENDPOINT":     strings.Replace(runtimeAPI, "127.0.0.1", "LOCALHOST", 1),
		"HTTP_PROXY":                    proxy,
		e.variable:                      proxy,
		"NO_PROXY":                      e.noProxy,
	}
	if e.rootsDir {
		variables["SSL_CERT_DIR"] = filepath.Dir(roots)
	} else {
		variables["SSL_CERT_FILE"] = roots
	}
	p := startPathOver(t, over, lambdaOptions{timeout: 4 * time.Second, listener: ln}, variables)
	w.api.Store(p.host)
	return p, w
}

// wantAsked checks that the proxy was asked for AppSync, and for nothing else.
func (w *wayOut) wantAsked(t *testing.T) {
	t.Helper()
	asked := w.asked.String()
	others := strings.ReplaceAll(asked, "CONNECT events.example.com:443\n", "")
	if asked == "" || others != "" {
		t.Errorf("the proxy was asked %q", asked)
	}
}

// The proxy takes the WebSocket and HTTPS publishes.
func TestFunctionReachesAppSyncThroughHTTPSProxy(t *testing.T) {
	t.Parallel()
	overBoth(t, testFunctionReachesAppSyncThroughHTTPSProxy)
}

func testFunctionReachesAppSyncThroughHTTPSProxy(t *testing.T, over eventAPIOptions) {
	tests := []struct {
		name   string
		egress egress
	}{
		{name: "no password", egress: egress{variable: "HTTPS_PROXY"}},
		{
			name: "password",
			egress: egress{
				variable: "https_proxy",
				user:     "me:p%40ss@",
				wanted:   "me:p@ss",
				noProxy:  "other.example.com",
			},
		},
		{name: "roots in a directory", egress: egress{variable: "HTTPS_PROXY", rootsDir: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.egress.rootsDir && runtime.GOOS == "darwin" {
				t.Skip("crypto/x509 alone reads SSL_CERT_DIR, and has the keychain's roots there")
			}
			p, w := test.egress.start(t, over)
			p.startEcho(t)
			p.invokeUntilHTTPS(t, w)
			served := w.served.String()
			if !strings.HasPrefix(served, "GET "+p.api.path()+"/realtime\n") ||
				!strings.Contains(served, "POST "+p.api.path()+"\n") {
				t.Errorf("through the proxy went %q", served)
			}
			w.wantAsked(t)
		})
	}
}

// invokeUntilHTTPS invokes until what the function publishes is more than a WebSocket may take.
func (p *wholePath) invokeUntilHTTPS(t *testing.T, w *wayOut) {
	t.Helper()
	for range 1000 {
		got := p.invoke(t, `[1]`)
		if string(got.payload) != `[1]` {
			t.Fatalf("answer %s %s", got.payload, got.errorType)
		}
		if strings.Contains(w.served.String(), "POST "+p.api.path()+"\n") {
			return
		}
	}
}

func TestLogSaysWhyThereIsNoWayThroughHTTPSProxy(t *testing.T) {
	t.Parallel()
	overBoth(t, testLogSaysWhyThereIsNoWayThroughHTTPSProxy)
}

func testLogSaysWhyThereIsNoWayThroughHTTPSProxy(t *testing.T, over eventAPIOptions) {
	t.Run("wrong password", func(t *testing.T) {
		wrong := egress{variable: "HTTPS_PROXY", user: "me:marked@", wanted: "me:p@ss"}
		p, w := wrong.start(t, over)
		p.wantDeployedFor(t, "Proxy Authentication Required")
		w.wantAsked(t)
	})
	t.Run("excepted", func(t *testing.T) {
		excepted := egress{variable: "HTTPS_PROXY", noProxy: ".example.com"}
		p, w := excepted.start(t, over)
		p.wantDeployedFor(t, "events.example.com")
		if w.asked.String() != "" {
			t.Errorf("the proxy was asked %q", w.asked.String())
		}
	})
}

// wantDeployedFor checks that the deployed code answers for a reason that the log names, without the
// password.
func (p *wholePath) wantDeployedFor(t *testing.T, reason string) {
	t.Helper()
	p.wantDeployed(t, `[1]`)
	p.env.close() // with all that it has printed
	out := p.output.String()
	if !strings.Contains(out, reason) || strings.Contains(out, "marked") {
		t.Errorf("the log does not say %q, or too much:\n%s", reason, out)
	}
}

// A function without a way out, whose packets nobody answers: one invocation waits, for no more than half of
// its time, and the next ones do not wait again.
func TestFunctionWithoutAWayOutWaitsOnce(t *testing.T) {
	t.Parallel()
	overBoth(t, testFunctionWithoutAWayOutWaitsOnce)
}

func testFunctionWithoutAWayOutWaitsOnce(t *testing.T, over eventAPIOptions) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections stay in its queue
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	variables := map[string]string{
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "https://" + silent.Addr().String(),
	}
	p := startPathOver(t, over, lambdaOptions{timeout: 4 * time.Second}, variables)
	for range 3 {
		p.wantDeployed(t, `[1]`)
	}
	p.env.close() // with all that it has printed
	var lines []string
	for line := range strings.Lines(p.output.String()) {
		if strings.Contains(line, "outcome=deployed") {
			lines = append(lines, line)
		}
	}
	if len(lines) != 3 ||
		!strings.Contains(lines[0], "no connection to AppSync") ||
		!strings.Contains(lines[1], "there was no local end") ||
		!strings.Contains(lines[2], "there was no local end") {
		t.Errorf("the log has %q", lines)
	}
}
