//go:build !layer

package main

// aws_doctor_test.go tests what doctor says of APIs that lack one thing each.

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var doctorKeys = credentials{
	accessKeyID: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/" + secretValue,
	sessionToken: "token-" + secretValue}

// doctorFor makes a doctor for an API at base, with dial in place of the network where it is not nil.
func doctorFor(t testing.TB, base string, dial func(context.Context, string, string) (net.Conn, error)) (
	*doctor, *bytes.Buffer) {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	out := &bytes.Buffer{}
	d := &doctor{
		out: out, transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{}},
		source: "the test", sizes: [3]int{1 << 10, 20_000, 170_000}}
	d.lookup = func(_ context.Context, host string) ([]string, error) { return []string{"192.0.2.1"}, nil }
	d.credentials = func(context.Context) (credentials, error) { return doctorKeys, nil }
	d.configure = func(context.Context) (*apiConfig, error) {
		return &apiConfig{http: &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/event"},
			realtime: &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/event/realtime"}, region: "eu-west-1",
			namespace: "live-lambda", requests: "/live-lambda/requests/alice"}, nil
	}
	return d, out
}

const doctorAllWell = `ok    configuration    example.com, namespace live-lambda, region eu-west-1, stage alice
ok    names            example.com is 192.0.2.1
ok    proxy            none
ok    TLS              none, as http:// asks for
ok    clock            within 5s of the server's
ok    credentials      from the test, temporary
ok    connect          example.com in 0 ms
ok    subscribe        /live-lambda/requests/alice and /live-lambda/response/NAME/*
ok    publish          taken in 0 ms
ok    publish (HTTPS)  taken in 0 ms
ok    delivery         the subscription delivers, after 0 ms
ok    round trip       1.0 kB (events: 1) in 0 ms
ok    round trip       20.0 kB (events: 1) in 0 ms
ok    round trip       170.0 kB (events: 2) in 0 ms
`

// What is wrong with an API, and which lines of the doctor's are then other than when all is well.
func TestDoctor(t *testing.T) {
	grant := func(action, resource string) string {
		return "; grant " + action + " on arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID" + resource +
			", and check host, region, clock and key\n"
	}
	const namespace = "/channelNamespace/live-lambda"
	const notAuthorized = `: UnauthorizedException "You are not authorized to make this call."`
	without := func(step string, names ...string) (lines string) {
		for _, name := range names {
			lines += "-     " + (name + strings.Repeat(" ", 17))[:17] + "not tried without " + step + "\n"
		}
		return lines
	}
	late := without("connect", "subscribe", "publish")
	undelivered := without("delivery", "round trip", "round trip", "round trip")
	tests := []struct {
		name  string
		opts  eventAPIOptions
		wrong func(*doctor, *eventAPI, *pipeListener)
		from  string // the step from which on
		want  string // is printed instead
	}{
		{name: "all is well", opts: eventAPIOptions{}, from: "configuration", want: doctorAllWell},
		{name: "the real sizes", opts: eventAPIOptions{},
			wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) {
				d.sizes = roundTrips
			}, from: "round trip",
			want: "ok    round trip       1.0 kB (events: 1) in 0 ms\nok    round trip       150.0 kB " +
				"(events: " +
				"1) in 0 ms\nok    round trip       1.0 MB (events: 7) in 0 ms\n"},
		{name: "slow network",
			opts: eventAPIOptions{delay: 20 * time.Millisecond, activation: 600 * time.Millisecond},
			from: "connect", want: `ok    connect          example.com in 40 ms
ok    subscribe        /live-lambda/requests/alice and /live-lambda/response/NAME/*
ok    publish          taken in 40 ms
ok    publish (HTTPS)  taken in 40 ms
ok    delivery         the subscription delivers, after 620 ms
ok    round trip       1.0 kB (events: 1) in 40 ms
ok    round trip       20.0 kB (events: 1) in 40 ms
ok    round trip       170.0 kB (events: 2) in 40 ms
`},
		{name: "event as an array", opts: eventAPIOptions{otherData: true}, from: "configuration",
			want: doctorAllWell},
		{name: "two hosts", opts: eventAPIOptions{host: "example.com"},
			wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) {
				configure := d.configure
				d.configure = func(ctx context.Context) (*apiConfig, error) {
					api, err := configure(ctx)
					api.realtime.Host = "rt.example.com"
					return api, err
				}
			}, from: "names", want: strings.NewReplacer(
				"example.com is 192.0.2.1", "example.com is 192.0.2.1, rt.example.com is 192.0.2.1",
				"example.com in", "rt.example.com in").
				Replace(doctorAllWell[strings.Index(doctorAllWell, "ok    names"):])},
		{name: "API key", opts: eventAPIOptions{apiKey: "da2-" + secretValue},
			wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) {
				configure := d.configure
				d.configure = func(ctx context.Context) (*apiConfig, error) {
					api, err := configure(ctx)
					api.apiKey = "da2-" + secretValue
					return api, err
				}
			}, from: "credentials",
			want: strings.Replace(
				doctorAllWell[strings.Index(doctorAllWell, "ok    credentials"):], "from the test, temporary",
				"an API key", 1)},
		{name: "not configured", opts: eventAPIOptions{},
			wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) {
				d.configure = func(context.Context) (*apiConfig, error) {
					return nil, errors.New("what to do")
				}
			}, from: "configuration", want: "FAIL  configuration    what to do\n" +
				without("configuration", "names", "proxy", "TLS", "clock", "credentials", "connect") +
				late + without("configuration", "publish (HTTPS)") + without("subscribe", "delivery") +
				undelivered},
		{name: "another region", opts: eventAPIOptions{},
			wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) {
				configure := d.configure
				d.configure = func(ctx context.Context) (*apiConfig, error) {
					api, err := configure(ctx)
					api.http.Host = "x.appsync-api.us-east-1.amazonaws.com"
					return api, err
				}
			}, from: "configuration",
			want: "FAIL  configuration    requests would be signed for eu-west-1, and " +
				"x.appsync-api.us-east-1.amazonaws.com is in us-east-1: " +
				"give --region us-east-1, or set LIVE_LAMBDA_APPSYNC_REGION\n" +
				without("configuration", "names", "proxy", "TLS", "clock", "credentials", "connect") +
				late + without("configuration", "publish (HTTPS)") +
				without("subscribe", "delivery") + undelivered},
		{name: "unknown name", opts: eventAPIOptions{}, wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) {
			d.lookup = func(_ context.Context, host string) ([]string, error) {
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
		}, from: "names",
			want: "FAIL  names            example.com is not found: lookup example.com: no such host; " +
				"check the name, and this machine's DNS\n" +
				"ok    proxy            none\n" + without("names", "TLS", "clock") +
				"ok    credentials      from the test, temporary\n" +
				without("names", "connect") + late + without("names", "publish (HTTPS)") +
				without("subscribe", "delivery") + undelivered},
		{name: "unreachable", opts: eventAPIOptions{}, wrong: func(_ *doctor, _ *eventAPI, ln *pipeListener) {
			ln.Close()
		}, from: "TLS",
			want: "FAIL  TLS              example.com: connection refused; is the host right, and is there " +
				"a way " +
				"out to port 443, or does it take HTTPS_PROXY?\n" +
				without("TLS", "clock") + "ok    credentials      from the test, temporary\n" +
				without("TLS", "connect") + late + without("TLS", "publish (HTTPS)") +
				without("subscribe", "delivery") + undelivered},
		{name: "no credentials", opts: eventAPIOptions{},
			wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) {
				d.credentials = func(context.Context) (credentials, error) {
					return credentials{}, errors.New("run aws sso login")
				}
			}, from: "credentials",
			want: "FAIL  credentials      run aws sso login\n" + without("credentials", "connect") + late +
				without("credentials", "publish (HTTPS)") + without("subscribe", "delivery") + undelivered},
		{name: "long-lived credentials that are not accepted", opts: eventAPIOptions{},
			wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) {
				d.credentials = func(context.Context) (credentials, error) {
					return credentials{accessKeyID: "AKIDOTHER", secretAccessKey: secretValue}, nil
				}
			}, from: "credentials", want: "ok    credentials      from the test, long-lived\n" +
				"FAIL  connect          AppSync refused to connect" + notAuthorized +
				grant("appsync:EventConnect", "") +
				late + "FAIL  publish (HTTPS)  AppSync refused to publish" + notAuthorized +
				grant("appsync:EventPublish", namespace) +
				without("subscribe", "delivery") + undelivered},
		{name: "subscribe is refused", opts: eventAPIOptions{},
			wrong: func(_ *doctor, api *eventAPI, _ *pipeListener) {
				api.intercept(answerWith("subscribe_success", `"subscribe_error"`, "UnauthorizedException"))
			}, from: "subscribe",
			want: "FAIL  subscribe        AppSync refused to subscribe" +
				notAuthorized + grant("appsync:EventSubscribe", namespace) +
				"ok    publish          taken in 0 ms\nok    publish (HTTPS)  taken in 0 ms\n" +
				without("subscribe", "delivery") + undelivered},
		{name: "publish is refused", opts: eventAPIOptions{},
			wrong: func(_ *doctor, api *eventAPI, _ *pipeListener) {
				api.intercept(answerWith("publish_success", `"publish_error"`, "UnauthorizedException"))
			}, from: "publish",
			want: "FAIL  publish          AppSync refused to publish" + notAuthorized +
				grant("appsync:EventPublish", namespace) +
				"ok    publish (HTTPS)  taken in 0 ms\n" + without("publish", "delivery") + undelivered},
		{name: "publish over HTTPS is refused", opts: eventAPIOptions{},
			wrong: func(_ *doctor, api *eventAPI, _ *pipeListener) {
				api.intercept(func(f apiFrame) (v apiVerdict) {
					if f.typ == "http_publish" {
						v.status = http.StatusForbidden
					}
					return v
				})
			}, from: "publish (HTTPS)",
			want: `FAIL  publish (HTTPS)  AppSync refused to publish: Forbidden ""` +
				grant("appsync:EventPublish", namespace) +
				doctorAllWell[strings.Index(doctorAllWell, "ok    delivery"):]},
		{name: "no namespace", opts: eventAPIOptions{namespaces: []string{"default"}}, from: "subscribe",
			want: "FAIL  subscribe        AppSync refused to subscribe" + notAuthorized +
				grant("appsync:EventSubscribe", namespace) +
				"FAIL  publish          AppSync refused to publish" + notAuthorized +
				grant("appsync:EventPublish", namespace) +
				"FAIL  publish (HTTPS)  AppSync refused to publish" + notAuthorized +
				grant("appsync:EventPublish", namespace) +
				without("subscribe", "delivery") + undelivered},
		{name: "nothing is delivered", opts: eventAPIOptions{},
			wrong: func(_ *doctor, api *eventAPI, _ *pipeListener) {
				api.intercept(func(f apiFrame) (v apiVerdict) {
					if f.out && f.typ == "data" {
						v.replace = dropped
					}
					return v
				})
			}, from: "delivery",
			want: "FAIL  delivery         nothing has come back within 15s of what AppSync has taken: has " +
				"the " +
				"API handlers or resolvers of its own that drop events?\n" + undelivered},
		{name: "large events are lost", opts: eventAPIOptions{},
			wrong: func(_ *doctor, api *eventAPI, _ *pipeListener) {
				api.intercept(func(f apiFrame) (v apiVerdict) {
					if f.out && f.typ == "data" && len(f.raw) > 10_000 {
						v.replace = dropped
					}
					return v
				})
			}, from: "round trip", want: "ok    round trip       1.0 kB (events: 1) in 0 ms\n" +
				"FAIL  round trip       20.0 kB were taken and have not come back within 15.3 s\n" +
				"FAIL  round trip       170.0 kB were taken and have not come back within 17.6 s\n"},
		{name: "events come back changed", opts: eventAPIOptions{},
			wrong: func(_ *doctor, api *eventAPI, _ *pipeListener) {
				api.intercept(func(f apiFrame) (v apiVerdict) {
					const data = `\"data\":\"`
					if i := bytes.Index(f.raw, []byte(data)); f.out && i >= 0 {
						raw := bytes.Clone(f.raw)
						if i += len(data); raw[i] == 'Q' {
							raw[i] = 'R'
						} else {
							raw[i] = 'Q'
						}
						v.replace = [][]byte{raw}
					}
					return v
				})
			}, from: "round trip",
			want: "FAIL  round trip       1.0 kB came back changed: is there a handler or resolver of its " +
				"own?\n" +
				"FAIL  round trip       20.0 kB came back changed: is there a handler or resolver of its " +
				"own?\n" +
				"FAIL  round trip       170.0 kB came back changed: is there a handler or resolver of its " +
				"own?\n"},
		{name: "the connection is lost", opts: eventAPIOptions{},
			wrong: func(_ *doctor, api *eventAPI, _ *pipeListener) {
				api.intercept(func(f apiFrame) (v apiVerdict) {
					if f.typ == "publish" {
						v.after, v.replace = resetConnection, dropped
					}
					return v
				})
			}, from: "publish", want: "FAIL  publish          the connection ended: EOF\n" +
				"ok    publish (HTTPS)  taken in 0 ms\n" + without("publish", "delivery") + undelivered},
	}
	for _, tt := range tests {
		tt.opts.region = "eu-west-1"
		tt.opts.credentials = []credentials{doctorKeys}
		eventAPITest(t, tt.name, tt.opts, func(t *testing.T, api *eventAPI, ln *pipeListener) {
			d, out := doctorFor(t, "http://example.com", ln.dial)
			if tt.wrong != nil {
				tt.wrong(d, api, ln)
			}
			ok := d.run(t.Context())
			d.transport.CloseIdleConnections()
			well, _, _ := strings.Cut(doctorAllWell, "ok    "+tt.from+"  ")
			compareDoctor(t, d, out.String(), well+tt.want)
			if ok != !strings.Contains(out.String(), "FAIL") {
				t.Errorf("all well: got %t", ok)
			}
		})
	}
}

// A GraphQL API is tried in the same steps; publishes are mutations in both of them.
func TestDoctorGraphQL(t *testing.T) {
	well := strings.NewReplacer("stage alice", "a GraphQL API, stage alice", "NAME/*", "NAME").Replace(
		doctorAllWell)
	for _, tt := range []struct {
		name     string
		wrong    func(*doctor, *eventAPI)
		from, to string // what is other than when all is well
	}{
		{name: "all is well", wrong: func(*doctor, *eventAPI) {}},
		{name: "an Event API's namespace is not looked for", wrong: func(d *doctor, api *eventAPI) {
			api.opts.namespaces = nil
		}},
		{name: "may not publish", wrong: func(_ *doctor, api *eventAPI) {
			api.intercept(func(f apiFrame) (v apiVerdict) {
				if f.typ == "http_publish" {
					v.status = http.StatusOK
					v.wire = []byte(
						`{"data":{"publish":null},"errors":[{"path":["publish"],"errorType":"Unauthorized",` +
							`"message":"Not Authorized to access publish on type Mutation"}]}`)
				}
				return v
			})
		}, from: "ok    publish          taken in 0 ms\nok    publish (HTTPS)  taken in 0 ms\n",
			to: strings.
				Repeat(`FAIL  publish PAD AppSync refused to publish: Unauthorized "Not Authorized to `+
					`access publish on type Mutation"; `+
					"grant appsync:GraphQL on arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID/types/Mutation/"+
					"fields/"+
					"publish, and check host, region, clock and key\n", 2)},
	} {
		eventAPITest(t, tt.name,
			eventAPIOptions{graphql: true, region: "eu-west-1", credentials: []credentials{doctorKeys}},
			func(t *testing.T, api *eventAPI, ln *pipeListener) {
				d, out := doctorFor(t, "http://example.com", ln.dial)
				configure := d.configure
				d.configure = func(ctx context.Context) (*apiConfig, error) {
					a, err := configure(ctx)
					a.graphql, a.http.Path, a.realtime.Path = true, "/graphql", "/graphql/realtime"
					return a, err
				}
				tt.wrong(d, api)
				ok := d.run(t.Context())
				d.transport.CloseIdleConnections()
				want := strings.Replace(well, tt.from, tt.to, 1)
				if tt.to != "" {
					want = strings.Replace(
						strings.Replace(want, "publish PAD", "publish         ", 1), "publish PAD",
						"publish (HTTPS) ", 1)
					before, _, _ := strings.Cut(want, "ok    delivery")
					want = before + "-     delivery         not tried without publish\n" +
						strings.Repeat("-     round trip       not tried without delivery\n", 3)
				}
				compareDoctor(t, d, out.String(), want)
				if ok != (tt.to == "") {
					t.Errorf("all well: got %t", ok)
				}
			})
	}
}

// compareDoctor compares what was printed, with NAME for the doctor's own channel.
func compareDoctor(t *testing.T, d *doctor, got, want string) {
	t.Helper()
	if d.session != nil {
		got = strings.ReplaceAll(got, d.session.name, "NAME")
	}
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if strings.Contains(got, secretValue) {
		t.Error("a secret is shown")
	}
}

// answerWith has every answer of a type replaced by a refusal.
func answerWith(typ, refusal, errorType string) func(apiFrame) apiVerdict {
	return func(f apiFrame) (v apiVerdict) {
		if f.out && f.typ == typ {
			v.replace = [][]byte{
				[]byte(`{"type":` + refusal + `,"id":"` + f.id + `","errors":[{"errorType":"` + errorType +
					`","message":"You are not authorized to make this call."}]}`)}
		}
		return v
	}
}

func TestDoctorClock(t *testing.T) {
	tests := []struct {
		name string
		skew time.Duration // of the server
		want string
	}{
		{name: "none", want: "ok    clock            within 5s of the server's"},
		{name: "a little ahead", skew: 4 * time.Second,
			want: "ok    clock            within 5s of the server's"},
		{name: "a little behind", skew: -4 * time.Second,
			want: "ok    clock            within 5s of the server's"},
		{name: "an hour behind", skew: time.Hour,
			want: "FAIL  clock            this machine is 1h0m0s behind the server: set its clock; AppSync " +
				"refuses signatures that are minutes off, and invocations look too old or too young here"},
		{name: "a minute ahead", skew: -61 * time.Second,
			want: "FAIL  clock            this machine is 1m0s ahead of the server: set its clock; AppSync " +
				"refuses signatures that are minutes off, and invocations look too old or too young here"},
		{name: "no date", skew: -1, want: "FAIL  clock            example.com does not tell its date"},
	}
	for _, tt := range tests {
		eventAPITest(t, tt.name, eventAPIOptions{region: "eu-west-1", credentials: []credentials{doctorKeys}},
			func(t *testing.T, api *eventAPI, _ *pipeListener) {
				ln := newPipeListener("example.com")
				server := &http.
					Server{ConnContext: api.server.ConnContext,
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						w.Header()["Date"] = nil
						if tt.skew != -1 {
							w.Header().Set("Date", time.Now().Add(tt.skew).UTC().Format(http.TimeFormat))
						}
						api.server.Handler.ServeHTTP(w, r)
					})}
				var wg sync.WaitGroup
				wg.Go(func() { server.Serve(ln) })
				d, out := doctorFor(t, "http://example.com", ln.dial)
				ok := d.run(t.Context())
				d.transport.CloseIdleConnections()
				server.Close()
				wg.Wait()
				// A clock that is wrong keeps nothing from being tried.
				want := strings.Replace(
					doctorAllWell, "ok    clock            within 5s of the server's", tt.want, 1)
				compareDoctor(t, d, out.String(), want)
				if ok != strings.HasPrefix(tt.want, "ok") {
					t.Errorf("all well: got %t", ok)
				}
			})
	}
}

func doctorLine(out, name string) string {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line[min(6, len(line)):], name+" ") {
			return strings.TrimSuffix(line, "\n")
		}
	}
	return ""
}

// doctorTLS returns a certificate for example.com and roots that trust it; both are valid in a bubble of fake
// time, too.
func doctorTLS(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	model := httptest.NewTLSServer(http.NotFoundHandler())
	defer model.Close()
	roots := x509.NewCertPool()
	roots.AddCert(model.Certificate())
	// tickets need a pipe with a buffer
	return &tls.Config{Certificates: model.TLS.Certificates, SessionTicketsDisabled: true}, roots
}

func TestDoctorTLS(t *testing.T) {
	server, roots := doctorTLS(t)
	tests := []struct {
		name, base string
		server     *tls.Config
		roots      *x509.CertPool
		ok         bool
		want       string
	}{
		{name: "trusted", base: "https://example.com", server: server, roots: roots, ok: true,
			want: "ok    TLS              TLS 1.3, certificate of example.com *.example.com until " +
				"2084-01-29"},
		{name: "unknown authority", base: "https://example.com", server: server, roots: x509.NewCertPool(),
			want: "FAIL  TLS              example.com: tls: failed to verify certificate: " +
				"x509: certificate signed by unknown authority; a proxy that opens TLS? Put its root " +
				"certificate where SSL_CERT_FILE or SSL_CERT_DIR says"},
		{name: "another name", base: "https://example.org", server: server, roots: roots,
			want: "FAIL  TLS              example.org: tls: failed to verify certificate: " +
				"x509: certificate is valid for example.com, *.example.com, not example.org; is the host " +
				"right?"},
		{name: "no TLS there", base: "https://example.com", roots: roots,
			want: "FAIL  TLS              example.com: tls: first record does not look like a TLS " +
				"handshake; " +
				"what answers there does not speak TLS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pipes := newPipeListener("example.com")
				ln := net.Listener(pipes)
				if tt.server != nil {
					ln = tls.NewListener(ln, tt.server)
				}
				api := startEventAPI(
					ln, eventAPIOptions{region: "eu-west-1", credentials: []credentials{doctorKeys}})
				defer api.close()
				d, out := doctorFor(t, tt.base, pipes.dial)
				d.transport.TLSClientConfig.RootCAs = tt.roots
				ok := d.run(t.Context())
				d.transport.CloseIdleConnections()
				if line := doctorLine(out.String(), "TLS"); ok != tt.ok || line != tt.want {
					t.Errorf("got %t\n%s", ok, out)
				}
			})
		})
	}
}

// connectProxy is a proxy that knows CONNECT alone, for one user where user is not empty.
func connectProxy(user string, dial func(context.Context, string, string) (net.Conn, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user != "" &&
			r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(user)) {
			http.Error(w, "", http.StatusProxyAuthRequired)
			return
		}
		up, err := dial(r.Context(), "tcp", r.Host)
		if err != nil {
			http.Error(w, "", http.StatusBadGateway)
			return
		}
		defer up.Close()
		down, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer down.Close()
		io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		var wg sync.WaitGroup
		wg.Go(func() {
			defer up.Close()
			io.Copy(up, buffered)
		})
		io.Copy(down, up)
		down.Close()
		wg.Wait()
	})
}

func TestDoctorProxy(t *testing.T) {
	server, roots := doctorTLS(t)
	tests := []struct {
		name  string
		user  string // that the proxy wants
		proxy string
		ok    bool
		line  string
		want  string
	}{
		{name: "open", proxy: "http://proxy.example:3128", ok: true, line: "proxy",
			want: "ok    proxy            proxy.example:3128"},
		{name: "its name is looked up", proxy: "http://proxy.example", ok: true, line: "names",
			want: "ok    names            proxy.example is 192.0.2.1"},
		{name: "with a password", user: "user:" + secretValue,
			proxy: "http://user:" + secretValue + "@proxy.example", ok: true,
			line: "proxy", want: "ok    proxy            proxy.example:80, with user name"},
		{name: "without the password", user: "user:" + secretValue, proxy: "http://proxy.example",
			line: "TLS",
			want: "FAIL  TLS              example.com: Proxy Authentication Required; put user name and " +
				"password " +
				"into HTTPS_PROXY"},
		{name: "gone", proxy: "http://gone.example:3128", line: "proxy",
			want: "FAIL  proxy            connection refused; is HTTPS_PROXY right, or does NO_PROXY lack " +
				"example.com?"},
		{name: "no URL", proxy: "http://user:" + secretValue + "@[::1", line: "proxy",
			want: "FAIL  proxy            HTTPS_PROXY (or https_proxy) is not an URL like http://" +
				"USER:PASSWORD@HOST:PORT"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pipes, proxyPipes := newPipeListener("example.com"), newPipeListener("proxy.example")
				api := startEventAPI(
					tls.NewListener(pipes, server),
					eventAPIOptions{region: "eu-west-1", credentials: []credentials{doctorKeys}})
				defer api.close()
				proxy := &http.Server{Handler: connectProxy(tt.user, pipes.dial)}
				var wg sync.WaitGroup
				wg.Go(func() { proxy.Serve(proxyPipes) })
				d, out := doctorFor(t, "https://example.com",
					func(ctx context.Context, network, addr string) (net.Conn, error) {
						if strings.HasPrefix(addr, "proxy.example:") {
							return proxyPipes.dial(ctx, network, addr)
						}
						return nil, syscall.ECONNREFUSED // there is no other way out
					})
				d.transport.TLSClientConfig.RootCAs = roots
				d.transport.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(tt.proxy) }
				ok := d.run(t.Context())
				d.transport.CloseIdleConnections()
				proxy.Close()
				wg.Wait()
				if line := doctorLine(out.String(), tt.line); ok != tt.ok || line != tt.want {
					t.Errorf("got %t\n%s\nwant %s", ok, out, tt.want)
				}
				if strings.Contains(out.String(), secretValue) {
					t.Errorf("a secret is shown: %s", out)
				}
			})
		})
	}
}

// net/http passes over a proxy that is no URL, and says nothing.
func TestDoctorProxyPassedOver(t *testing.T) {
	u := &url.URL{Scheme: "https", Host: "example.com"}
	d := &doctor{api: &appsync{endpoint: endpoint{http: u, realtime: u}}, transport: new(http.Transport)}
	for _, tt := range []struct{ name, value, want string }{
		{name: "HTTPS_PROXY", value: "http://user:" + secretValue + "%@proxy.example",
			want: "none: HTTPS_PROXY is not an URL"},
		{name: "https_proxy", value: "http://" + secretValue + "%@proxy.example",
			want: "none: https_proxy is not an URL"},
		{name: "HTTPS_PROXY", value: "192.0.2.1:3128", want: "none"}, // which net/http understands
		{name: "HTTPS_PROXY", want: "none"},
	} {
		t.Setenv("HTTPS_PROXY", "")
		t.Setenv("https_proxy", "")
		t.Setenv(tt.name, tt.value)
		found, err := d.checkProxy(t.Context())
		if err != nil || !strings.HasPrefix(found, tt.want) || tt.want == "none" && found != tt.want ||
			strings.Contains(found, secretValue) {
			t.Errorf("%s: got %q, %v; want %q", tt.name, found, err, tt.want)
		}
	}
}

// The whole command, configured by flags, by a stack, and not at all.
func TestDoctorCommand(t *testing.T) {
	f := newFakeAWS(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	api := startEventAPI(ln, eventAPIOptions{apiKey: "da2-" + secretValue})
	t.Cleanup(api.close)
	base := "http://" + ln.Addr().String()
	f.stacks["here"] = []fakeOutput{
		{OutputKey: "LiveLambdaAppsyncHttpHost", OutputValue: base},
		{OutputKey: "LiveLambdaAppsyncRegion", OutputValue: "eu-west-1"}}
	tests := []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{name: "flags",
			args: []string{"--host", base, "--region", "eu-west-1", "--api-key", "da2-" + secretValue},
			want: "ok    configuration    " + ln.Addr().String() +
				", namespace live-lambda, region eu-west-1\n"},
		{name: "stack", args: []string{"--stack", "here", "--api-key", "da2-" + secretValue, "--stage", "me"},
			want: "ok    configuration    " + ln.Addr().String() +
				", namespace live-lambda, region eu-west-1, stage me\n"},
		{name: "wrong key", args: []string{"--stack", "here", "--api-key", "da2-other"}, status: 1,
			want: "ok    configuration    "},
		{name: "no stack", args: []string{"--stack", "gone"}, status: 1,
			want: `FAIL  configuration    read the outputs of stack "gone": aws cloudformation ` +
				`describe-stacks: ` +
				`ValidationError: Stack with id gone does not exist` + "\n"},
		{name: "nothing", status: 1,
			want: "FAIL  configuration    the AppSync API is not set: give --stack, --host or " +
				"LIVE_LAMBDA_APPSYNC_HTTP_HOST\n"},
		{name: "wrong", args: []string{"--host", base, "--stage", "a_b"}, status: 1,
			want: `FAIL  configuration    LIVE_LAMBDA_STAGE is "a_b", ` +
				"not 1 to 50 letters, digits and inner dashes\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := f.run("doctor", tt.args...)
			if r.status != tt.status || !strings.HasPrefix(r.out, tt.want) || r.err != "" {
				t.Errorf("got %d\n%s%s\nwant %d\n%s", r.status, r.out, r.err, tt.status, tt.want)
			}
		})
	}
}
