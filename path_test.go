//go:build !layer

package main

// The whole path, with separate processes for the extension, the wrapper and deployed runtime behind it,
// `live-lambda local` and the handler; Lambda and AppSync are the emulators.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// programs are built once for all tests of the path, where one of them runs: the layer's extension, and the
// developer's program.
var programs = sync.OnceValues(func() (dir string, err error) {
	dir, err = os.MkdirTemp("", "live-lambda-test")
	if err != nil {
		return "", err
	}
	programsDir = dir
	for name, tags := range map[string]string{"extension": "layer,nethttpomithttp2", "live-lambda": ""} {
		cmd := exec.Command("go", "build", "-tags", tags, "-o", filepath.Join(dir, name), ".")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	return dir, nil
})

var programsDir string // where there is one, TestMain removes it

func TestMain(m *testing.M) {
	status := m.Run()
	if programsDir != "" {
		os.RemoveAll(programsDir)
	}
	os.Exit(status)
}

// wholePath is one function with the layer, an AppSync API, and what the processes have printed.
type wholePath struct {
	api    *eventAPI
	env    *lambdaEnv
	host   string // of the API
	dir    string
	output *screen
	shared []string // environment of the local end
}

// overBoth runs a test over an Event API and over a GraphQL API, for startPathOver.
func overBoth(t *testing.T, test func(t *testing.T, over eventAPIOptions)) {
	for _, over := range []eventAPIOptions{{}, {graphql: true}} {
		t.Run(over.protocol(), func(t *testing.T) { test(t, over) })
	}
}

// protocol is the value of LIVE_LAMBDA_APPSYNC_PROTOCOL for such an API.
func (o eventAPIOptions) protocol() string {
	return map[bool]string{false: "events", true: "graphql"}[o.graphql]
}

// needCurl skips a test of shell programs where their HTTP client is missing; .ci/run installs it.
func needCurl(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl")
	}
}

// startPath starts a function whose deployed code says that it is deployed. variables come on top of the
// layer's own.
func startPath(t testing.TB, o lambdaOptions, variables map[string]string) *wholePath {
	return startPathOver(t, eventAPIOptions{}, o, variables)
}

// startPathOver does it with an AppSync API that has options.
func startPathOver(
	t testing.TB, api eventAPIOptions, o lambdaOptions, variables map[string]string) *wholePath {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	layer := cmp.Or(o.layerDir, t.TempDir())
	if err := os.MkdirAll(filepath.Join(layer, "extensions"), 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{filepath.Join(
		dir, "extension"): "extensions/live-lambda-extension",
		"wrapper.sh": "live-lambda-runtime-wrapper.sh", "bootstrap.sh": "bootstrap"} {
		from, err := filepath.Abs(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(from, filepath.Join(layer, to)); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	keys := credentials{
		accessKeyID: "AKIDEXAMPLE", secretAccessKey: "marked-secret-key",
		sessionToken: "marked-session-token"}
	p := &wholePath{host: ln.Addr().String(), dir: dir, output: &screen{new: make(chan struct{}, 1)}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the processes have printed:\n%s", p.output)
		}
	})
	api.credentials, api.region = []credentials{keys}, "us-east-1"
	p.api = startEventAPI(ln, api)
	t.Cleanup(p.api.close)
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	o.functionName, o.layerDir, o.output = "f", layer, p.output
	o.credentials = lambdaCredentials{
		accessKeyID: keys.accessKeyID, secretAccessKey: keys.secretAccessKey, sessionToken: keys.sessionToken}
	o.environment = map[string]string{
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "http://" + ln.Addr().String(),
		"LIVE_LAMBDA_APPSYNC_PROTOCOL":  api.protocol(),
		"LRAP_LISTENER_PORT":            port,
		"AWS_LAMBDA_EXEC_WRAPPER":       filepath.Join(layer, "live-lambda-runtime-wrapper.sh"),
	}
	for name, value := range variables {
		o.environment[name] = value
	}
	if o.runtime == nil {
		o.runtime = []string{filepath.Join(dir, "live-lambda"), "sample", "deployed"}
	}
	if p.env, err = startLambda(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.env.close() })
	p.shared = append(os.Environ(), "LIVE_LAMBDA_APPSYNC_HTTP_HOST=http://"+ln.Addr().String(),
		"LIVE_LAMBDA_APPSYNC_PROTOCOL="+api.protocol(), "AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID="+keys.accessKeyID, "AWS_SECRET_ACCESS_KEY="+keys.secretAccessKey,
		"AWS_SESSION_TOKEN="+keys.sessionToken)
	return p
}

// startLocal starts `live-lambda local` with arguments and returns when it has subscribed.
func (p *wholePath) startLocal(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(filepath.Join(p.dir, "live-lambda"), append([]string{"local"}, args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.shared, p.output, p.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("live-lambda local: %v", err)
		}
	})
	if _, err := p.api.subscribers(t.Context(), "/live-lambda/requests", 1); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// invoke invokes the function and checks that this completed exactly once.
func (p *wholePath) invoke(t testing.TB, payload string) invokeResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result, err := p.env.invoke(ctx, invokeRequest{payload: []byte(payload)})
	if err != nil {
		t.Fatalf("invoke: %v\n%s", err, p.output)
	}
	if n := len(p.env.completions(result.requestID)); n != 1 {
		t.Errorf("%d completions of one invocation", n)
	}
	return result
}

// sameJSON compares two JSON texts token for token.
func sameJSON(a, b []byte) bool {
	return json.Valid(a) && json.Valid(b) && bytes.Equal(asciiJSON(a), asciiJSON(b))
}

func TestPathThousandInvocations(t *testing.T) { overBoth(t, testPathThousandInvocations) }

func testPathThousandInvocations(t *testing.T, over eventAPIOptions) {
	p := startPathOver(t, over, lambdaOptions{timeout: 30 * time.Second}, nil)
	p.startLocal(t, "--", filepath.Join(p.dir, "live-lambda"), "sample", sampleEcho)
	for i := range 1000 {
		event := fmt.Sprintf(`{"n":%d,"text":"<é😀>&='\u2028","big":12345678901234567890}`, i)
		if got := p.invoke(t, event); !sameJSON(got.payload, []byte(event)) || got.functionError != "" {
			t.Fatalf("invocation %d: %s %s", i, got.payload, got.errorType)
		}
	}
}

// A 6 MB event and its answer, and a stream: each of its pieces comes before the handler writes the next one.
func TestPathLargeAndStreamed(t *testing.T) { overBoth(t, testPathLargeAndStreamed) }

func testPathLargeAndStreamed(t *testing.T, over eventAPIOptions) {
	p := startPathOver(t, over, lambdaOptions{timeout: time.Minute}, nil)
	p.startLocal(t, append([]string{"--"}, testCommand("1")...)...)
	event := incompressible(6<<20 - 100)
	if got := p.invoke(t, event); string(got.payload) != event || got.functionError != "" {
		t.Errorf("%d bytes came back, %s", len(got.payload), got.errorType)
	}
	file := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	const size = 8 << 20
	pieces := make(chan string)
	done := async(func() (invokeResult, error) {
		return p.env.
			invoke(t.Context(),
				invokeRequest{payload: mustJSON(
					task{Do: "stream", Type: "text/event-stream", Pieces: []string{"one", "two"}, Size: size,
						File: file}),
					onResponse: func(http.Header) io.Writer {
						return writerFunc(func(b []byte) (int, error) {
							pieces <- string(b)
							return len(b), nil
						})
					}})
	})
	var streamed strings.Builder
	for _, piece := range []string{"one", "onetwo"} {
		for streamed.String() != piece {
			select {
			case b := <-pieces:
				streamed.WriteString(b)
			case r := <-done:
				t.Fatalf("the stream has ended: %s %v", r.value.errorType, r.err)
			}
		}
		gate, err := os.OpenFile(file, os.O_WRONLY, 0) // the handler goes on
		if err != nil {
			t.Fatal(err)
		}
		gate.Close()
	}
	for {
		select {
		case b := <-pieces:
			streamed.WriteString(b)
		case r := <-done:
			if r.err != nil || r.value.functionError != "" || streamed.Len() != size+len("onetwo") {
				t.Errorf("%d bytes, %s, %v", streamed.Len(), r.value.errorType, r.err)
			}
			return
		}
	}
}

// Nobody listens: the deployed code answers, once with a wait and then without.
func TestPathDeployed(t *testing.T) { overBoth(t, testPathDeployed) }

func testPathDeployed(t *testing.T, over eventAPIOptions) {
	p := startPathOver(
		t, over, lambdaOptions{timeout: 30 * time.Second},
		map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "100ms"})
	for range 3 {
		if got := p.invoke(t, `{"a":1}`); !sameJSON(
			got.payload, []byte(`{"event":{"a":1},"message":"hello from deployed"}`)) {
			t.Fatalf("answer %s %s", got.payload, got.errorType)
		}
	}
}

// Off, not configured and not usable: the function works as if the layer were not there.
func TestPathOff(t *testing.T) { overBoth(t, testPathOff) }

func testPathOff(t *testing.T, over eventAPIOptions) {
	for name, variables := range map[string]map[string]string{
		"off":            {"LIVE_LAMBDA": "off"},
		"not configured": {"LIVE_LAMBDA_APPSYNC_HTTP_HOST": ""},
		"not usable":     {"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "http://example.com"},
		"bad values": {
			"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "", "LIVE_LAMBDA_OFFLINE": "maybe",
			"LIVE_LAMBDA_ACCEPT_TIMEOUT": "soon", "LIVE_LAMBDA_DELIVERY": "?"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPathOver(t, over, lambdaOptions{timeout: 30 * time.Second}, variables)
			if got := p.invoke(t, `[1]`); !sameJSON(
				got.payload, []byte(`{"event":[1],"message":"hello from deployed"}`)) {
				t.Errorf("answer %s %s\n%s", got.payload, got.errorType, p.output)
			}
			for _, exit := range p.env.close() {
				if exit.name == "live-lambda-extension" && (exit.code != 0 || !exit.byItself) {
					t.Errorf("the extension ended with %s", exit.status)
				}
			}
			for variable := range variables {
				if bad := strings.HasPrefix(name, "bad") ||
					name == "not usable"; bad && variables[variable] != "" &&
					strings.Count(p.output.String(), variable) != 1 {
					t.Errorf("not one line about %s in:\n%s", variable, p.output)
				}
			}
		})
	}
}

// A port that is taken is an init error that says which, and what to do.
func TestPathPortTaken(t *testing.T) { overBoth(t, testPathPortTaken) }

func testPathPortTaken(t *testing.T, over eventAPIOptions) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	p := startPathOver(
		t, over, lambdaOptions{timeout: 30 * time.Second}, map[string]string{"LRAP_LISTENER_PORT": port})
	err = p.env.ready(t.Context())
	if err == nil {
		t.Fatal("the environment is ready")
	}
	if _, err := p.env.waitFor(t.Context(), 0, func(e lambdaEvent) bool {
		return e.name == "process exited"
	}); err != nil {
		t.Fatal(err)
	}
	if out := p.output.String(); !strings.Contains(out, port) ||
		!strings.Contains(out, "LRAP_LISTENER_PORT") {
		t.Errorf("the log does not name the port and the variable:\n%s", out)
	}
}

// A function that sends its environment: secrets travel, but are in no log, at any level, at either end.
func TestPathKeepsSecrets(t *testing.T) { overBoth(t, testPathKeepsSecrets) }

func testPathKeepsSecrets(t *testing.T, over eventAPIOptions) {
	p := startPathOver(t, over, lambdaOptions{timeout: 30 * time.Second, noFreeze: true}, map[string]string{
		"LIVE_LAMBDA_LOG_LEVEL": "debug", "LIVE_LAMBDA_FORWARD_ENV": "on", "MARKED": "marked-variable"})
	p.shared = append(p.shared, "LIVE_LAMBDA_LOG_LEVEL=debug")
	p.startLocal(t, "--", filepath.Join(p.dir, "live-lambda"), "sample", sampleEcho)
	got, err := p.env.
		invoke(t.Context(),
			invokeRequest{payload: []byte(`"marked-event"`), contentType: "application/json",
				tenantID:        "marked-tenant",
				clientContext:   `{"custom":{"c":"marked-context"}}`,
				cognitoIdentity: `{"cognitoIdentityId":"marked-identity"}`})
	if err != nil || string(got.payload) != `"marked-event"` {
		t.Fatalf("answer %s, %v", got.payload, err)
	}
	p.api.accept("") // from here on AppSync refuses these credentials, and quotes requests
	conns, err := p.api.subscribers(t.Context(), "/live-lambda/*", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range conns {
		p.api.do(conn, apiVerdict{after: resetConnection})
	}
	if err := p.api.wait(t.Context(), func(c *eventAPICounts) bool {
		return c.connections > 3 && c.open == 0
	}); err != nil {
		t.Fatal(err)
	}
	p.env.close()
	for line := range strings.Lines(p.output.String()) {
		for _, secret := range []string{"marked-", "AKIDEXAMPLE", "Signature=", "header-ey"} {
			if strings.Contains(line, secret) {
				t.Errorf("printed: %s", line)
			}
		}
	}
}

// What passes through to the deployed code is byte for byte what it would be without the layer.
func TestPathPassesThroughUnchanged(t *testing.T) { overBoth(t, testPathPassesThroughUnchanged) }

func testPathPassesThroughUnchanged(t *testing.T, over eventAPIOptions) {
	exchange := func(layered bool) string {
		variables := map[string]string{"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "http://127.0.0.1:1"} // nobody there
		p := startPathOver(
			t, over, lambdaOptions{
				timeout: 30 * time.Second, noFreeze: true, runtime: []string{"sleep", "60"}}, variables)
		addr := p.env.addr
		if _, err := p.env.waitFor(t.Context(), 0, func(e lambdaEvent) bool {
			return e.name == "runtime started"
		}); err != nil {
			t.Fatal(err)
		}
		if layered {
			addr = "127.0.0.1:" + p.env.environment["LRAP_LISTENER_PORT"]
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		answer := make(chan invokeResult, 1)
		go func() {
			result, err :=
				p.env.invoke(t.Context(),
					invokeRequest{payload: []byte(` {"b":1,  "a":"é"} `),
						requestID: "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
						traceID:   "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0", tenantID: "t",
						clientContext: `{"a":1}`, cognitoIdentity: `{"cognitoIdentityId":"i"}`})
			if err != nil {
				t.Error(err)
			}
			answer <- result
		}()
		var seen strings.Builder
		ask := func(request string, until string) {
			io.WriteString(conn, request)
			buf, got := make([]byte, 4096), ""
			for !strings.HasSuffix(got, until) {
				n, err := conn.Read(buf)
				if err != nil {
					t.Fatalf("after %q: %v", got, err)
				}
				got += string(buf[:n])
			}
			seen.WriteString(got + "\n---\n")
		}
		ask("GET "+nextPath+" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", `"é"} `)
		ask("POST "+invocationPath+
			"8476a536-e9f4-11e8-9739-2dfe598c3fcd/response HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: a/"+
			"b\r\nX-Forwarded-For: 1\r\nTransfer-Encoding: chunked\r\n"+
			"Trailer: Lambda-Runtime-Function-Error-Type\r\nLambda-Runtime-Function-Response-Mode: "+
			"streaming\r\n\r\n3\r\nabc\r\n0\r\nLambda-Runtime-Function-Error-Type: Function.Late\r\n\r\n",
			"}\n")
		result := <-answer
		fmt.Fprintf(
			&seen, "%s %s %s %v", result.payload, result.contentType, result.errorType, result.trailer)
		for _, c := range p.env.completions(result.requestID) {
			for _, name := range slices.Sorted(mapKeys(c.header)) {
				if name != "Lambda-Runtime-Invocation-Id" {
					fmt.Fprintf(&seen, "\n%s: %q", name, c.header[name])
				}
			}
		}
		return maskVarying(seen.String())
	}
	with, without := exchange(true), exchange(false)
	if with != without {
		t.Errorf("with the layer:\n%s\n\nwithout:\n%s", with, without)
	}
}

func mapKeys(h http.Header) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range h {
			if !yield(name) {
				return
			}
		}
	}
}

// maskVarying blanks the values that differ from invocation to invocation, and sorts headers: their order
// means nothing.
func maskVarying(s string) string {
	lines := strings.Split(s, "\n")
	for start, i := 0, 0; i < len(lines); i++ {
		if lines[i] = strings.TrimSuffix(lines[i], "\r"); strings.HasPrefix(lines[i], "HTTP/1.1 ") {
			start = i + 1
		} else if lines[i] == "" && start > 0 {
			slices.Sort(lines[start:i])
			start = 0
		}
	}
	for i, line := range lines {
		for _, name := range []string{
			"Date:", "Lambda-Runtime-Deadline-Ms:", "Lambda-Runtime-Invocation-Id:"} {
			if strings.HasPrefix(line, name) {
				lines[i] = name
			}
		}
	}
	return strings.Join(lines, "\n")
}

// ---- kinds of function ----

// eachPath runs a kind of function twice, each time in an environment of its own that prepare makes ready:
// with a local end, which answers, and without an API, so that the deployed code does.
func eachPath(
	t *testing.T, over eventAPIOptions, prepare func(t *testing.T) (lambdaOptions, map[string]string),
	then func(t *testing.T, p *wholePath, local bool)) {
	t.Helper()
	for _, local := range []bool{true, false} {
		t.Run(map[bool]string{true: "local", false: "deployed"}[local], func(t *testing.T) {
			o, variables := prepare(t)
			o.timeout = 30 * time.Second
			want := `[1]`
			if !local {
				variables["LIVE_LAMBDA_APPSYNC_HTTP_HOST"], want = "",
					`{"event":[1],"message":"hello from deployed"}`
			}
			p := startPathOver(t, over, o, variables)
			if local {
				p.startLocal(t, "--", filepath.Join(p.dir, "live-lambda"), "sample", sampleEcho)
			}
			for range 2 {
				if got := p.invoke(t, `[1]`); !sameJSON(got.payload, []byte(want)) {
					t.Fatalf("answer %s %s, want %s\n%s", got.payload, got.errorType, want, p.output)
				}
			}
			if then != nil {
				then(t, p, local)
			}
		})
	}
}

// deployedProgram writes a program without arguments that is the deployed code, as OS-only runtimes have it.
func deployedProgram(t *testing.T, name string) {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	writeScript(t, name, "#!/bin/sh\nexec "+filepath.Join(dir, "live-lambda")+" sample deployed\n", 0o755)
}

// A function on provided.al2023 whose program the layer's bootstrap starts, and one with the bootstrap that
// docs/DEPLOY.md shows, which needs no handler.
func TestPathOSOnly(t *testing.T) { overBoth(t, testPathOSOnly) }

func testPathOSOnly(t *testing.T, over eventAPIOptions) {
	page, err := os.ReadFile("docs/DEPLOY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, _ := strings.Cut(string(page), "```sh\n#!/bin/sh\n")
	script, _, _ = strings.Cut(script, "```")
	if !strings.Contains(script, "\nwrapper=/opt/live-lambda-runtime-wrapper.sh\n") {
		t.Fatalf("the bootstrap of docs/DEPLOY.md is %q", script)
	}
	t.Run("the layer's bootstrap", func(t *testing.T) {
		eachPath(t, over, func(t *testing.T) (lambdaOptions, map[string]string) {
			task := t.TempDir()
			deployedProgram(t, filepath.Join(task, "main"))
			return lambdaOptions{osOnly: true, taskDir: task, handler: "main"}, map[string]string{}
		}, nil)
	})
	for _, layer := range []bool{true, false} {
		t.Run(fmt.Sprintf("the package's own bootstrap, wrapper %t", layer), func(t *testing.T) {
			task, wrapper := t.TempDir(), filepath.Join(t.TempDir(), "not there")
			deployedProgram(t, filepath.Join(task, "main"))
			if layer {
				if wrapper, err = filepath.Abs("wrapper.sh"); err != nil {
					t.Fatal(err)
				}
			}
			writeScript(
				t, filepath.Join(task, "bootstrap"),
				"#!/bin/sh\n"+strings.Replace(script, "/opt/live-lambda-runtime-wrapper.sh", wrapper, 1),
				0o755)
			p := startPathOver(
				t, over, lambdaOptions{
					osOnly: true, taskDir: task, handler: "whatever", timeout: 30 * time.Second}, nil)
			p.startLocal(t, "--", filepath.Join(p.dir, "live-lambda"), "sample", sampleEcho)
			// past the proxy
			want := map[bool]string{
				true: `[1]`, false: `{"event":[1],"message":"hello from deployed"}`}[layer]
			if got := p.invoke(t, `[1]`); !sameJSON(got.payload, []byte(want)) {
				t.Errorf("answer %s %s, want %s\n%s", got.payload, got.errorType, want, p.output)
			}
		})
	}
}

// startOtherProxy is another Runtime API proxy, which forwards to whatever to returns and records what it
// forwarded.
func startOtherProxy(t *testing.T, to func() string) (address string, forwarded func() string) {
	t.Helper()
	var seen screen
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: to()})
		seen.Write([]byte(
			r.In.Method + " " + r.In.URL.Path[strings.LastIndexByte(r.In.URL.Path, '/')+1:] + "\n"))
		// the environment ends while it waits in next
	}, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	s := httptest.NewServer(proxy)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String(), seen.String
}

// Two Runtime API proxies: this one behind LRAP_RUNTIME_API_ENDPOINT nearer to the runtime, or the other one,
// by a wrapper of its own. That variable may then name this one: it is meant for the other.
func TestPathProxies(t *testing.T) { overBoth(t, testPathProxies) }

func testPathProxies(t *testing.T, over eventAPIOptions) {
	var forwarded func() string
	t.Run("this one nearer to the runtime", func(t *testing.T) {
		eachPath(t, over, func(t *testing.T) (lambdaOptions, map[string]string) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var other string
			other, forwarded = startOtherProxy(t, ln.Addr().String)
			return lambdaOptions{listener: ln}, map[string]string{"LRAP_RUNTIME_API_ENDPOINT": other}
		}, func(t *testing.T, p *wholePath, _ bool) {
			if got := forwarded(); !strings.HasPrefix(
				got, "GET next\nPOST response\nGET next\nPOST response\n") {
				t.Errorf("the other proxy forwarded %q", got)
			}
		})
	})
	t.Run("the other one nearer to the runtime", func(t *testing.T) {
		eachPath(t, over, func(t *testing.T) (lambdaOptions, map[string]string) {
			port, err := freePort()
			if err != nil {
				t.Fatal(err)
			}
			this := "127.0.0.1:" + port
			var other string
			other, forwarded = startOtherProxy(t, func() string { return this })
			wrapper := filepath.Join(t.TempDir(), "wrapper")
			writeScript(
				t, wrapper, "#!/bin/sh\nexport AWS_LAMBDA_RUNTIME_API="+other+"\nexec \"$@\"\n", 0o755)
			return lambdaOptions{},
				map[string]string{
					"LIVE_LAMBDA_EXEC_WRAPPER": wrapper, "LRAP_LISTENER_PORT": port,
					"LRAP_RUNTIME_API_ENDPOINT": this}
		}, func(t *testing.T, p *wholePath, local bool) {
			want := "GET next\nPOST response\nGET next\nPOST response\n"
			if local { // the runtime's first next is still held
				want = "GET next\n"
			}
			if got := forwarded(); !strings.HasPrefix(got, want) || local && got != want {
				t.Errorf("the other proxy forwarded %q, want %q", got, want)
			}
		})
	})
}

// webAdapter does what Lambda Web Adapter does: an extension that is the runtime as soon as the web server is
// up, which Lambda starts as the runtime, and takes the Runtime API's address from a variable of its own.
// https://aws.github.io/aws-lambda-web-adapter/features/request-interception.html
const webAdapter = `#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension
id=$(curl -sS -D - -o /dev/null -H 'Lambda-Extension-Name: lambda-adapter' -d '{"events":[]}' "$api/register" |
	tr -d '\r' | sed -n 's/^Lambda-Extension-Identifier: //p')
curl -sS -H "Lambda-Extension-Identifier: $id" "$api/event/next" &
read -r _ <"$SERVER"
AWS_LAMBDA_RUNTIME_API=${AWS_LWA_LAMBDA_RUNTIME_API_PROXY#http://}
export AWS_LAMBDA_RUNTIME_API
exec "$PROGRAM" sample deployed
`

func TestPathWebAdapter(t *testing.T) { overBoth(t, testPathWebAdapter) }

func testPathWebAdapter(t *testing.T, over eventAPIOptions) {
	needCurl(t)
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	eachPath(t, over, func(t *testing.T) (lambdaOptions, map[string]string) {
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		opt := t.TempDir()
		writeScript(t, filepath.Join(opt, "extensions", "lambda-adapter"), webAdapter, 0o755)
		server := filepath.Join(opt, "server")
		if err := syscall.Mkfifo(server, 0o600); err != nil {
			t.Fatal(err)
		}
		return lambdaOptions{
				layerDir: opt, runtime: []string{"sh", "-c", `echo up >"$SERVER"; exec sleep 60`}},
			map[string]string{
				"SERVER": server, "LRAP_LISTENER_PORT": port,
				"AWS_LWA_LAMBDA_RUNTIME_API_PROXY": "http://127.0.0.1:" + port,
				"PROGRAM":                          filepath.Join(dir, "live-lambda")}
	}, nil)
}

// startWayOut is an HTTP proxy, the only way to events.example.com, which is the API behind TLS. It wants the
// user where one is given. asked are the tunnels it was asked for, served what went through them.
func startWayOut(t *testing.T, user string, api *atomic.Value, leaf *certificate) (
	address string, asked, served func() string) {
	t.Helper()
	var tunnels, requests screen
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	behind := httptest.
		NewUnstartedServer(&httputil.ReverseProxy{ErrorLog: quiet, Rewrite: func(r *httputil.ProxyRequest) {
			requests.Write([]byte(r.In.Method + " " + r.In.URL.Path + "\n"))
			host, _ := api.Load().(string)
			r.SetURL(&url.URL{Scheme: "http", Host: host})
			r.Out.Host = r.In.Host
		}})
	behind.Config.ErrorLog, behind.TLS = quiet,
		&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: leaf.key}}}
	behind.StartTLS()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tunnels.Write([]byte(r.Method + " " + r.RequestURI + "\n"))
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer client.Close()
		as := &http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
		if name, password, _ := as.BasicAuth(); user != "" && name+":"+password != user {
			io.WriteString(client, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
			return
		}
		server, err := net.Dial("tcp", behind.Listener.Addr().String())
		if err != nil {
			return // the test is over
		}
		defer server.Close()
		io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
		back := async(func() (int64, error) { defer client.Close(); return io.Copy(client, server) })
		io.Copy(server, client)
		server.Close()
		<-back
	}))
	t.Cleanup(func() {
		behind.CloseClientConnections()
		behind.Close()
		proxy.Close()
	})
	return proxy.Listener.Addr().String(), tunnels.String, requests.String
}

// A function in a VPC whose way out is a proxy: it takes WebSocket and HTTPS publishes, and the Runtime API
// never, which goes by a name that no rule excepts (Go's own exception for localhost is in lower case).
func TestPathHTTPSProxy(t *testing.T) { overBoth(t, testPathHTTPSProxy) }

func testPathHTTPSProxy(t *testing.T, over eventAPIOptions) {
	root := newCertificate(t, "Root", nil)
	leaf := newCertificate(t, "events.example.com", root)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, []byte(root.pem()), 0o600); err != nil {
		t.Fatal(err)
	}
	// which crypto/x509 alone reads
	certFile, certDir := "SSL_CERT_FILE="+roots, "SSL_CERT_DIR="+filepath.Dir(roots)
	for _, test := range []struct{ name, roots, variable, given, wanted, noProxy, reason string }{
		{name: "no password", roots: certFile, variable: "HTTPS_PROXY"},
		{name: "password", roots: certFile, variable: "https_proxy", given: "me:p%40ss@", wanted: "me:p@ss",
			noProxy: "other.example.com"},
		{name: "roots in a directory", roots: certDir, variable: "HTTPS_PROXY"},
		{name: "wrong password", roots: certFile, variable: "HTTPS_PROXY", given: "me:marked@",
			wanted: "me:p@ss", reason: "Proxy Authentication Required"},
		{name: "excepted", roots: certFile, variable: "HTTPS_PROXY", noProxy: ".example.com",
			reason: "events.example.com"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.roots == certDir && runtime.GOOS == "darwin" {
				t.Skip("crypto/x509 has the keychain's roots there")
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			runtimeAPI, _ := startOtherProxy(t, ln.Addr().String)
			var api atomic.Value // its host, which is known when the function has started
			address, asked, served := startWayOut(t, test.wanted, &api, leaf)
			proxy := "http://" + test.given + address
			rootsVariable, where, _ := strings.Cut(test.roots, "=")
			p := startPathOver(t, over, lambdaOptions{timeout: 4 * time.Second, listener: ln},
				map[string]string{
					"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "events.example.com", rootsVariable: where,
					test.variable: proxy, "HTTP_PROXY": proxy,
					"NO_PROXY":                  test.noProxy,
					"LRAP_RUNTIME_API_ENDPOINT": strings.Replace(runtimeAPI, "127.0.0.1", "LOCALHOST", 1)})
			api.Store(p.host)
			if test.reason != "" {
				if got := p.invoke(t, `[1]`); !sameJSON(
					got.payload, []byte(`{"event":[1],"message":"hello from deployed"}`)) {
					t.Errorf("answer %s %s", got.payload, got.errorType)
				}
				p.env.close() // with all that it has printed
				if out := p.output.String(); !strings.Contains(out, test.reason) ||
					strings.Contains(out, "marked") {
					t.Errorf("the log does not say %q, or too much:\n%s", test.reason, out)
				}
			} else {
				p.startLocal(t, "--", filepath.Join(p.dir, "live-lambda"), "sample", sampleEcho)
				for range 1000 { // until what the function publishes is more than a WebSocket may take
					if got := p.invoke(t, `[1]`); string(got.payload) != `[1]` {
						t.Fatalf("answer %s %s\n%s", got.payload, got.errorType, p.output)
					}
					if strings.Contains(served(), "POST "+p.api.path()+"\n") {
						break
					}
				}
				if got := served(); !strings.HasPrefix(got, "GET "+p.api.path()+"/realtime\n") ||
					!strings.Contains(got, "POST "+p.api.path()+"\n") {
					t.Errorf("through the proxy went %q", got)
				}
			}
			if got := strings.ReplaceAll(asked(), "CONNECT events.example.com:443\n", ""); got != "" ||
				(asked() == "") != (test.noProxy == ".example.com") {
				t.Errorf("the proxy was asked %q", asked())
			}
		})
	}
}

// A function without a way out, whose packets nobody answers: one invocation waits, for no more than half of
// its time, and the next do not wait again.
func TestPathNoEgress(t *testing.T) { overBoth(t, testPathNoEgress) }

func testPathNoEgress(t *testing.T, over eventAPIOptions) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections stay in its queue
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p := startPathOver(
		t, over, lambdaOptions{timeout: 4 * time.Second},
		map[string]string{"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "https://" + silent.Addr().String()})
	for i := range 3 {
		if got := p.invoke(t, `[1]`); !sameJSON(
			got.payload, []byte(`{"event":[1],"message":"hello from deployed"}`)) {
			t.Fatalf("invocation %d: answer %s %s\n%s", i, got.payload, got.errorType, p.output)
		}
	}
	p.env.close() // with all that it has printed
	var lines []string
	for line := range strings.Lines(p.output.String()) {
		if strings.Contains(line, "outcome=deployed") {
			lines = append(lines, line)
		}
	}
	if len(lines) != 3 || !strings.Contains(lines[0], "no connection to AppSync") ||
		!strings.Contains(lines[1], "waited in vain") || !strings.Contains(lines[2], "waited in vain") {
		t.Errorf("the log has %q", lines)
	}
}

// SnapStart: no credentials in the environment, other ones after the restore, and a connection that did not
// survive it.
func TestPathSnapStart(t *testing.T) { overBoth(t, testPathSnapStart) }

func testPathSnapStart(t *testing.T, over eventAPIOptions) {
	needCurl(t)
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	// the runtime waits: a snapshot may be taken before there is a link
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	runtime := []string{
		"sh", "-c", "cat '" + fifo +
			"' && curl -sS -o /dev/null \"http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/restore/next\" " +
			"&& exec \"$0\" sample deployed", filepath.Join(dir, "live-lambda")}
	p := startPathOver(
		t, over, lambdaOptions{snapStart: true, runtime: runtime, timeout: 30 * time.Second}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	links := func() (conns []int) {
		t.Helper()
		conns, err := p.api.subscribers(ctx, "/live-lambda/response/*", 1)
		if err != nil {
			t.Fatal(err)
		}
		return conns
	}
	before := links()
	p.output.await(ctx, t, "msg=connected", 1) // with the credentials from before the snapshot
	if err := os.WriteFile(fifo, nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := p.env.ready(ctx); err != nil { // the snapshot is taken
		t.Fatal(err)
	}
	restored := credentials{
		accessKeyID: "AKIDRESTORED", secretAccessKey: "restored", sessionToken: "restored-token"}
	p.env.setCredentials(
		lambdaCredentials{
			accessKeyID: restored.accessKeyID, secretAccessKey: restored.secretAccessKey,
			sessionToken: restored.sessionToken})
	p.api.accept("", restored)
	p.api.do(before[0], apiVerdict{after: resetConnection})
	p.shared = append(
		p.shared, "AWS_ACCESS_KEY_ID="+restored.accessKeyID,
		"AWS_SECRET_ACCESS_KEY="+restored.secretAccessKey, "AWS_SESSION_TOKEN="+restored.sessionToken)
	p.startLocal(t, "--", filepath.Join(p.dir, "live-lambda"), "sample", sampleEcho)
	if got := p.invoke(t, `[1]`); string(got.payload) != `[1]` || got.restore == 0 {
		t.Fatalf("answer %s %s, restore %v\n%s", got.payload, got.errorType, got.restore, p.output)
	}
	if after := links(); slices.Contains(after, before[0]) {
		t.Errorf("connections %v before, %v after", before, after)
	}
}

// A hook that fails after the restore: the caller gets what the runtime says of it.
func TestPathRestoreError(t *testing.T) { overBoth(t, testPathRestoreError) }

func testPathRestoreError(t *testing.T, over eventAPIOptions) {
	needCurl(t)
	const script = `api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/restore
curl -sS -o /dev/null "$api/next"
curl -sS -o /dev/null -H 'Lambda-Runtime-Function-Error-Type: Runtime.AfterRestore' -d '{"errorMessage":"hook"}' "$api/error"
exit 1`
	p := startPathOver(
		t, over, lambdaOptions{
			snapStart: true, runtime: []string{"sh", "-c", script}, timeout: 30 * time.Second}, nil)
	got, err := p.env.invoke(t.Context(), invokeRequest{payload: []byte(`[1]`)})
	if err != nil || got.errorType != "Runtime.AfterRestore" ||
		string(got.payload) != `{"errorMessage":"hook"}` {
		t.Errorf("answer %s %s %v\n%s", got.payload, got.errorType, err, p.output)
	}
}

// Lambda Managed Instances: INVOKE is refused, several runtime processes ask for next at once, and each of
// several invocations has its own answer, from a local end and from the deployed code.
func TestPathManagedInstances(t *testing.T) { overBoth(t, testPathManagedInstances) }

func testPathManagedInstances(t *testing.T, over eventAPIOptions) {
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	runtime := []string{
		"sh", "-c", `for i in 1 2 3 4 5 6 7; do "$0" sample deployed & done; exec "$0" sample deployed`,
		filepath.Join(dir, "live-lambda")}
	eachPath(t, over, func(*testing.T) (lambdaOptions, map[string]string) {
		return lambdaOptions{maxConcurrency: 8, runtime: runtime}, map[string]string{}
	}, func(t *testing.T, p *wholePath, local bool) {
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				want := fmt.Sprintf(`{"n":%d}`, i)
				result, err := p.env.invoke(t.Context(), invokeRequest{payload: []byte(want)})
				if !local {
					want = `{"event":` + want + `,"message":"hello from deployed"}`
				}
				if err != nil || !sameJSON(result.payload, []byte(want)) ||
					len(p.env.completions(result.requestID)) != 1 {
					t.Errorf("got %s %s %v, want %s", result.payload, result.errorType, err, want)
				}
			})
		}
		wg.Wait()
	})
}
