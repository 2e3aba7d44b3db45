//go:build !layer

package main

// local_runtimeapi_test.go tests the local Runtime API with raw HTTP.

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// The states and refusals of AWS's emulator.
func TestLocalRuntimeAPI(t *testing.T) {
	r := newTestLocal(t, localOptions{})
	addr, err := r.local.serveAttached()
	if err != nil {
		t.Fatal(err)
	}
	const base = "/2018-06-01/runtime/"
	call := func(method, path, body string, status int, want string, headers ...string) http.Header {
		t.Helper()
		got, text, h := r.raw(addr, method, base+path, body, headers...)
		if got != status || !strings.Contains(text, want) {
			t.Errorf("%s %s: %d %s, want %d %s", method, path, got, text, status, want)
		}
		return h
	}
	const ok = `{"status":"OK"}`
	call("POST", "invocation/x/response", "1", 400, "InvalidRequestID")
	call("GET", "nonsense", "", 404, "")
	call("GET", "restore/next", "", 200, "")
	call("GET", "restore/next", "", 403, "InvalidStateTransition")
	c := r.context()
	c.ClientContext, c.Identity = []byte(`{"custom": {"é":"\n"}}`), []byte(`{"cognitoIdentityId":"i"}`)
	c.TenantID = "t1"
	q := r.direct([]byte("\"event\""), c)
	h := call("GET", "invocation/next", "", 200, `"event"`)
	for name, want := range map[string]string{"Aws-Request-Id": c.RequestID,
		"Deadline-Ms": strconv.FormatInt(c.DeadlineMs, 10), "Trace-Id": c.TraceID,
		"Invoked-Function-Arn": c.InvokedFunctionARN, "Client-Context": `{"custom":{"\u00e9":"\n"}}`,
		"Cognito-Identity": `{"cognitoIdentityId":"i"}`,
		"Aws-Tenant-Id":    "t1"} {
		if got := h.Get("Lambda-Runtime-" + name); got != want {
			t.Errorf("Lambda-Runtime-%s is %q, want %q", name, got, want)
		}
	}
	call("GET", "invocation/next", "", 200, `"event"`) // again, as Lambda does
	call("POST", "init/error", "{}", 403, "State transition from Running to InitError failed for runtime")
	call("GET", "restore/next", "", 403, "InvalidStateTransition")
	call("POST", "invocation/other/response", "1", 400, "InvalidRequestID")
	to := "invocation/" + c.RequestID + "/"
	call("POST", to+"response", "answer", 202, ok)
	if _, body := r.reply(q); body != "answer" {
		t.Errorf("the reply is %q", body)
	}
	call("POST", to+"response", "1", 400, "InvalidRequestID")
	call("POST", to+"error", "1", 400, "InvalidRequestID")

	c = r.context()
	q = r.direct([]byte("2"), c)
	call("GET", "invocation/next", "", 200, "2")
	to = "invocation/" + c.RequestID + "/"
	call("POST", to+"response", "1", 400, "InvalidFunctionResponseMode", modeHeader, "sideways")
	if rep, _ := r.reply(q); rep.errorType != "Runtime.InvalidResponseModeHeader" {
		t.Errorf("the error is %q", rep.errorType)
	}
	c = r.context()
	q = r.direct([]byte("3"), c)
	call("GET", "invocation/next", "", 200, "3")
	to = "invocation/" + c.RequestID + "/"
	call("POST", to+"response", strings.Repeat("x", maxPayload+1), 413,
		"Exceeded maximum allowed payload size (6291556 bytes).")
	if rep, _ := r.reply(q); rep.errorType != "Function.ResponseSizeTooLarge" {
		t.Errorf("the error is %q", rep.errorType)
	}
	c = r.context()
	q = r.direct([]byte("4"), c)
	call("GET", "invocation/next", "", 200, "4")
	to = "invocation/" + c.RequestID + "/"
	call("POST", to+"error", "any bytes", 202, ok, typeHeader, "Function.Uglyé", causeHeader, "{}")
	if rep, body := r.reply(q); rep.errorType != "Function.Ugly?" || body != "any bytes" ||
		rep.xrayCause != "{}" {
		t.Errorf("the error is %q with %q", rep.errorType, body)
	}
	if status, body, _ := r.raw(addr, "GET", "/2018-06-01/ping", ""); status != 200 || body != "pong" {
		t.Errorf("ping: %d %s", status, body)
	}
}

// A process answers its own invocation and no other, though others are under way.
func TestLocalAnswersItsOwn(t *testing.T) {
	r := newTestLocal(t, localOptions{command: []string{"c"}})
	p := &pool{local: r.local, name: "orders", command: r.local.opts.command, seen: map[[32]byte]int{},
		workers: []*worker{nil, nil}}
	for i := range p.workers { // as if its process were starting
		p.workers[i] = newWorker(p)
		p.workers[i].identity, p.workers[i].generation = "$LATEST\n256\neu-west-1\nindex.handler", 1
	}
	r.local.pools[p.name] = p
	asked := []*request{r.direct([]byte("0"), r.context()), r.direct([]byte("1"), r.context())}
	for i, w := range p.workers {
		r.routes = w.routes()
		if id, event := r.next(); id != asked[i].id || string(event) != strconv.Itoa(i) {
			t.Fatalf("worker %d got %s of %s", i, event, id)
		}
	}
	for _, what := range []string{"response", "error"} { // posted to the worker that was asked last
		if rec := r.call(
			r.ctx, "POST", "invocation/"+asked[0].id+"/"+what, strings.NewReader(`"of another"`)); rec.
			Code != http.StatusBadRequest || !strings.Contains(rec.Body.String(), "InvalidRequestID") {
			t.Fatalf("%s with another's ID: %d %s", what, rec.Code, rec.Body)
		}
	}
	for i, w := range p.workers {
		r.routes = w.routes()
		r.respond(asked[i].id, strings.NewReader(fmt.Sprint("answer ", i)), http.StatusAccepted)
	}
	for i, q := range asked {
		if rep, body := r.reply(q); rep.kind != "response" || body != fmt.Sprint("answer ", i) {
			t.Errorf("invocation %d got %s %q", i, rep.kind, body)
		}
	}
}

// What a page in a browser can send is refused, whatever it does with host names.
func TestLocalRefusesBrowsers(t *testing.T) {
	r := newTestLocal(t, localOptions{})
	addr, err := r.local.serveAttached()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	for _, headers := range [][]string{
		{"Origin", "http://example.com"}, {"Origin", "http://" + addr}, {"Origin", "null"},
		{"Referer", "http://example.com/"},
		{"Sec-Fetch-Site", "cross-site"}, {"Cookie", "a=b"}, {"User-Agent", "Mozilla/5.0 (Macintosh)"},
		{"Host", "example.com"}, {"Host", "example.com:" + port}, {"Host", "localhost"},
	} {
		if status, _,
			_ := r.raw(addr, "GET", "/2018-06-01/ping", "", headers...); status != http.StatusForbidden {
			t.Errorf("%v: %d", headers, status)
		}
	}
	// Node's own fetch sends this one
	for _, headers := range [][]string{{"Host", "localhost:" + port}, {"Sec-Fetch-Mode", "cors"}} {
		if status, _, _ := r.raw(addr, "GET", "/2018-06-01/ping", "", headers...); status != http.StatusOK {
			t.Errorf("%v: %d", headers, status)
		}
	}
}

// So is what comes from another machine, though it listens on loopback alone.
func TestLocalRefusesOtherMachines(t *testing.T) {
	r := newTestLocal(t, localOptions{})
	addr, err := r.local.serveAttached()
	if err != nil {
		t.Fatal(err)
	}
	for peer, want := range map[string]int{"192.0.2.1:1": http.StatusForbidden,
		"[2001:db8::1]:1": http.StatusForbidden, "": http.StatusForbidden,
		"127.0.0.1:1": http.StatusOK, "[::1]:1": http.StatusOK} {
		req, rec := httptest.NewRequest("GET", "/2018-06-01/ping", nil), httptest.NewRecorder()
		req.Host, req.RemoteAddr = addr, peer
		if r.local.attachServer.Handler.ServeHTTP(rec, req); rec.Code != want {
			t.Errorf("%q: %d, want %d", peer, rec.Code, want)
		}
	}
}
