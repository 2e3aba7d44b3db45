//go:build !layer

package main

// path_test.go tests the whole path of an invocation in processes: what comes of it with a local end, without
// one, and if the layer has nothing to do.

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestThousandInvocationsHaveTheirOwnAnswers(t *testing.T) {
	t.Parallel()
	overBoth(t, testThousandInvocationsHaveTheirOwnAnswers)
}

func testThousandInvocationsHaveTheirOwnAnswers(t *testing.T, over eventAPIOptions) {
	p := startPathOver(t, over, lambdaOptions{timeout: 30 * time.Second}, nil)
	p.startEcho(t)
	for i := range 1000 {
		event := fmt.Sprintf(`{"n":%d,"text":"<é😀>&='\u2028","big":12345678901234567890}`, i)
		got := p.invoke(t, event)
		if !sameJSON(got.payload, []byte(event)) || got.functionError != "" {
			t.Fatalf("invocation %d: %s %s", i, got.payload, got.errorType)
		}
	}
}

// One function has both tests, for the time that its processes take to start.
func TestLargeEventsAndStreamsComeBackWhole(t *testing.T) {
	t.Parallel()
	overBoth(t, testLargeEventsAndStreamsComeBackWhole)
}

func testLargeEventsAndStreamsComeBackWhole(t *testing.T, over eventAPIOptions) {
	p := startPathOver(t, over, lambdaOptions{timeout: time.Minute}, nil)
	p.startLocal(t, append([]string{"--"}, testCommand("1")...)...)
	t.Run("an event of 6 MB", func(t *testing.T) { wantLargeEvent(t, p) })
	t.Run("a stream", func(t *testing.T) { wantStreamAsItComes(t, p) })
}

// wantLargeEvent checks that the largest event that Lambda takes comes back from an echo.
func wantLargeEvent(t *testing.T, p *wholePath) {
	event := incompressible(6<<20 - 100)
	got := p.invoke(t, event)
	if string(got.payload) != event || got.functionError != "" {
		t.Errorf("%d bytes came back, %s", len(got.payload), got.errorType)
	}
}

// wantStreamAsItComes checks that each piece of a stream comes before the handler writes the next one: it
// writes one more whenever its gate opens.
func wantStreamAsItComes(t *testing.T, p *wholePath) {
	gate := filepath.Join(t.TempDir(), "gate")
	err := syscall.Mkfifo(gate, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	const size = 8 << 20
	pieces := make(chan string)
	keep := writerFunc(func(b []byte) (int, error) {
		pieces <- string(b)
		return len(b), nil
	})
	request := invokeRequest{
		payload: mustJSON(task{
			Do:     "stream",
			Type:   "text/event-stream",
			Pieces: []string{"one", "two"},
			Size:   size,
			File:   gate,
		}),
		onResponse: func(http.Header) io.Writer { return keep },
	}
	done := async(func() (invokeResult, error) { return p.env.invoke(t.Context(), request) })

	var streamed strings.Builder
	for _, soFar := range []string{"one", "onetwo"} {
		for streamed.String() != soFar {
			select {
			case b := <-pieces:
				streamed.WriteString(b)
			case r := <-done:
				t.Fatalf("the stream has ended: %s %v", r.value.errorType, r.err)
			}
		}
		opened, err := os.OpenFile(gate, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		opened.Close()
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

// The first invocation waits for a local end, and the next ones do not.
func TestFunctionWithoutALocalEndRunsDeployedCode(t *testing.T) {
	t.Parallel()
	overBoth(t, testFunctionWithoutALocalEndRunsDeployedCode)
}

func testFunctionWithoutALocalEndRunsDeployedCode(t *testing.T, over eventAPIOptions) {
	variables := map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "100ms"}
	p := startPathOver(t, over, lambdaOptions{timeout: 30 * time.Second}, variables)
	for range 3 {
		p.wantDeployed(t, `{"a":1}`)
	}
}

// The first thing that everybody does: invoke, see that nothing runs here, start it, invoke.
func TestLocalEndThatStartsLateGetsTheNextInvocations(t *testing.T) {
	t.Parallel()
	overBoth(t, func(t *testing.T, over eventAPIOptions) {
		variables := map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "100ms"}
		p := startPathOver(t, over, lambdaOptions{timeout: 30 * time.Second}, variables)
		p.wantDeployed(t, `{"a":1}`)
		p.startEcho(t)
		for range 100 { // its hello may take a moment
			result := p.invoke(t, `{"a":1}`)
			if string(result.payload) == `{"a":1}` {
				return
			}
		}
		t.Error("the deployed code has answered all of a hundred invocations")
	})
}

func TestFunctionWorksIfTheLayerIsOffOrMisconfigured(t *testing.T) {
	t.Parallel()
	overBoth(t, testFunctionWorksIfTheLayerIsOffOrMisconfigured)
}

func testFunctionWorksIfTheLayerIsOffOrMisconfigured(t *testing.T, over eventAPIOptions) {
	tests := []struct {
		name      string
		variables map[string]string
		logged    []string // variables that the log has to name, in one line each
	}{
		{name: "off", variables: map[string]string{"LIVE_LAMBDA": "off"}},
		{name: "not configured", variables: map[string]string{"LIVE_LAMBDA_APPSYNC_HTTP_HOST": ""}},
		{
			name:      "not usable",
			variables: map[string]string{"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "http://example.com"},
			logged:    []string{"LIVE_LAMBDA_APPSYNC_HTTP_HOST"},
		},
		{
			name: "bad values",
			variables: map[string]string{
				"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "",
				"LIVE_LAMBDA_OFFLINE":           "maybe",
				"LIVE_LAMBDA_ACCEPT_TIMEOUT":    "soon",
				"LIVE_LAMBDA_DELIVERY":          "?",
			},
			logged: []string{"LIVE_LAMBDA_OFFLINE", "LIVE_LAMBDA_ACCEPT_TIMEOUT", "LIVE_LAMBDA_DELIVERY"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := startPathOver(t, over, lambdaOptions{timeout: 30 * time.Second}, test.variables)
			p.wantDeployed(t, `[1]`)
			for _, exit := range p.env.close() {
				if exit.name == "live-lambda-extension" && (exit.code != 0 || !exit.byItself) {
					t.Errorf("the extension ended with %s", exit.status)
				}
			}
			for _, variable := range test.logged {
				if strings.Count(p.output.String(), variable) != 1 {
					t.Errorf("the log does not name %s once", variable)
				}
			}
		})
	}
}

// The error of the init says which port is taken, and which variable to change.
func TestTakenPortFailsTheInit(t *testing.T) { overBoth(t, testTakenPortFailsTheInit) }

func testTakenPortFailsTheInit(t *testing.T, over eventAPIOptions) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	variables := map[string]string{"LRAP_LISTENER_PORT": port}
	p := startPathOver(t, over, lambdaOptions{timeout: 30 * time.Second}, variables)
	err = p.env.ready(t.Context())
	if err == nil {
		t.Fatal("the environment is ready")
	}
	p.awaitEvent(t, "process exited")
	out := p.output.String()
	if !strings.Contains(out, port) || !strings.Contains(out, "LRAP_LISTENER_PORT") {
		t.Errorf("the log does not name the port and the variable:\n%s", out)
	}
}

// A function that sends its environment to the local end, with AppSync refusing its credentials afterwards:
// at any level, the log of neither end has a secret.
func TestSecretsTravelButAreInNoLog(t *testing.T) {
	t.Parallel()
	overBoth(t, testSecretsTravelButAreInNoLog)
}

func testSecretsTravelButAreInNoLog(t *testing.T, over eventAPIOptions) {
	variables := map[string]string{
		"LIVE_LAMBDA_LOG_LEVEL":   "debug",
		"LIVE_LAMBDA_FORWARD_ENV": "on",
		"LIVE_LAMBDA_KEY":         testKey,
		"MARKED":                  "marked-variable",
	}
	p := startPathOver(t, over, lambdaOptions{timeout: 30 * time.Second, noFreeze: true}, variables)
	p.shared = append(p.shared, "LIVE_LAMBDA_LOG_LEVEL=debug", "LIVE_LAMBDA_KEY="+testKey)
	p.startEcho(t)
	got, err := p.env.invoke(t.Context(), invokeRequest{
		payload:         []byte(`"marked-event"`),
		contentType:     "application/json",
		tenantID:        "marked-tenant",
		clientContext:   `{"custom":{"c":"marked-context"}}`,
		cognitoIdentity: `{"cognitoIdentityId":"marked-identity"}`,
	})
	if err != nil || string(got.payload) != `"marked-event"` {
		t.Fatalf("answer %s, %v", got.payload, err)
	}
	p.refuseEverybody(t)
	p.env.close()
	for line := range strings.Lines(p.output.String()) {
		for _, secret := range []string{
			"marked-", "AKIDEXAMPLE", "Signature=", "header-ey", testKey[:8]} {
			if strings.Contains(line, secret) {
				t.Errorf("printed: %s", line)
			}
		}
	}
}

// A layer whose time is over does not even dial.
func TestLayerThatIsOutDoesNotConnect(t *testing.T) {
	variables := map[string]string{
		"LIVE_LAMBDA_UNTIL":   "2026-01-01T00:00:00Z",
		"LIVE_LAMBDA_OFFLINE": "error",
	}
	p := startPath(t, lambdaOptions{timeout: 30 * time.Second}, variables)
	p.wantDeployed(t, `[1]`)
	p.api.check(func(c *eventAPICounts) bool {
		if c.connections != 0 {
			t.Errorf("%d connections", c.connections)
		}
		return true
	})
}

// refuseEverybody ends all connections and has AppSync refuse the credentials from then on, which quotes
// requests when it does. It returns when both ends have tried.
func (p *wholePath) refuseEverybody(t *testing.T) {
	t.Helper()
	p.api.accept("")
	conns, err := p.api.subscribers(t.Context(), "/live-lambda/*", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range conns {
		p.api.do(conn, apiVerdict{after: resetConnection})
	}
	err = p.api.wait(t.Context(), func(c *eventAPICounts) bool {
		return c.connections > 3 && c.open == 0
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What passes through to the deployed code, and what comes back, is byte for byte what it would be without
// the layer.
func TestDeployedCodeSeesNothingOfTheLayer(t *testing.T) {
	t.Parallel()
	overBoth(t, testDeployedCodeSeesNothingOfTheLayer)
}

func testDeployedCodeSeesNothingOfTheLayer(t *testing.T, over eventAPIOptions) {
	with := bytesOfAnInvocation(t, over, true)
	without := bytesOfAnInvocation(t, over, false)
	if with != without {
		t.Errorf("with the layer:\n%s\n\nwithout:\n%s", with, without)
	}
}

// bytesOfAnInvocation is the runtime of one invocation, byte by byte, at the proxy or at the Runtime API
// itself. It returns what the runtime, the caller and the Runtime API got.
func bytesOfAnInvocation(t *testing.T, over eventAPIOptions, layered bool) string {
	t.Helper()
	const requestID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
	variables := map[string]string{"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "http://127.0.0.1:1"} // nobody there
	idle := lambdaOptions{timeout: 30 * time.Second, noFreeze: true, runtime: []string{"sleep", "60"}}
	p := startPathOver(t, over, idle, variables)
	p.awaitEvent(t, "runtime started")
	addr := p.env.addr
	if layered {
		addr = "127.0.0.1:" + p.env.environment["LRAP_LISTENER_PORT"]
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	answered := async(func() (invokeResult, error) {
		return p.env.invoke(t.Context(), invokeRequest{
			payload:         []byte(` {"b":1,  "a":"é"} `),
			requestID:       requestID,
			traceID:         "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
			tenantID:        "t",
			clientContext:   `{"a":1}`,
			cognitoIdentity: `{"cognitoIdentityId":"i"}`,
		})
	})

	var seen strings.Builder
	next := "GET " + nextPath + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
	seen.WriteString(ask(t, conn, next, `"é"} `) + "\n---\n")
	response := "POST " + invocationPath + requestID + "/response HTTP/1.1\r\n" +
		"Host: 127.0.0.1\r\n" +
		"Content-Type: a/b\r\n" +
		"X-Forwarded-For: 1\r\n" +
		"Transfer-Encoding: chunked\r\n" +
		"Trailer: Lambda-Runtime-Function-Error-Type\r\n" +
		"Lambda-Runtime-Function-Response-Mode: streaming\r\n" +
		"\r\n" +
		"3\r\nabc\r\n0\r\n" +
		"Lambda-Runtime-Function-Error-Type: Function.Late\r\n\r\n"
	seen.WriteString(ask(t, conn, response, "}\n") + "\n---\n")

	answer := <-answered
	if answer.err != nil {
		t.Error(answer.err)
	}
	result := answer.value
	fmt.Fprintf(&seen, "%s %s %s %v", result.payload, result.contentType, result.errorType, result.trailer)
	for _, c := range p.env.completions(result.requestID) {
		for _, name := range slices.Sorted(maps.Keys(c.header)) {
			if name != "Lambda-Runtime-Invocation-Id" {
				fmt.Fprintf(&seen, "\n%s: %q", name, c.header[name])
			}
		}
	}
	return maskVarying(seen.String())
}

// ask writes a request and reads until what came ends with a text.
func ask(t *testing.T, conn net.Conn, request, until string) string {
	t.Helper()
	io.WriteString(conn, request)
	buf := make([]byte, 4096)
	got := ""
	for !strings.HasSuffix(got, until) {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		got += string(buf[:n])
	}
	return got
}

// maskVarying blanks the values that differ from invocation to invocation, and sorts headers: their order
// means nothing.
func maskVarying(s string) string {
	varying := []string{"Date:", "Lambda-Runtime-Deadline-Ms:", "Lambda-Runtime-Invocation-Id:"}
	lines := strings.Split(s, "\n")
	headers := 0 // the first line of those that are being read; 0: none are
	for i, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		for _, name := range varying {
			if strings.HasPrefix(line, name) {
				line = name
			}
		}
		lines[i] = line
		switch {
		case strings.HasPrefix(line, "HTTP/1.1 "):
			headers = i + 1
		case line == "" && headers > 0:
			slices.Sort(lines[headers:i])
			headers = 0
		}
	}
	return strings.Join(lines, "\n")
}
