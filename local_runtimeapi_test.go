//go:build !layer

package main

// local_runtimeapi_test.go tests the local Runtime API with raw HTTP. Its states and refusals are those of
// AWS's emulator.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

const testOK = `{"status":"OK"}` // what an answer gets that is taken

func TestLocalRuntimeAPIRefusesAnAnswerWithoutAnEvent(t *testing.T) {
	a := newAttached(t)
	a.want("POST", "invocation/x/response", "1", 400, "InvalidRequestID")
}

func TestLocalRuntimeAPIKnowsNoOtherPaths(t *testing.T) {
	a := newAttached(t)
	a.want("GET", "nonsense", "", 404, "")
}

func TestLocalRuntimeAPIRestoresOnceBeforeTheFirstEvent(t *testing.T) {
	a := newAttached(t)
	a.want("GET", "restore/next", "", 200, "")
	a.want("GET", "restore/next", "", 403, "InvalidStateTransition")
	_, to := a.run(`"event"`, a.context())
	a.want("GET", "restore/next", "", 403, "InvalidStateTransition")
	a.want("POST", to+"response", "answer", 202, testOK)
}

func TestLocalRuntimeAPITellsTheContextInHeaders(t *testing.T) {
	a := newAttached(t)
	c := a.context()
	c.ClientContext = []byte(`{"custom": {"é":"\n"}}`)
	c.Identity = []byte(`{"cognitoIdentityId":"i"}`)
	c.TenantID = "t1"
	a.direct([]byte(`"event"`), c)
	header := a.want("GET", "invocation/next", "", 200, `"event"`)
	for name, want := range map[string]string{
		"Aws-Request-Id":       c.RequestID,
		"Deadline-Ms":          strconv.FormatInt(c.DeadlineMs, 10),
		"Trace-Id":             c.TraceID,
		"Invoked-Function-Arn": c.InvokedFunctionARN,
		"Client-Context":       `{"custom":{"\u00e9":"\n"}}`,
		"Cognito-Identity":     `{"cognitoIdentityId":"i"}`,
		"Aws-Tenant-Id":        "t1",
	} {
		if got := header.Get("Lambda-Runtime-" + name); got != want {
			t.Errorf("Lambda-Runtime-%s is %q, want %q", name, got, want)
		}
	}
}

func TestLocalRuntimeAPIGivesTheSameEventAgainUntilItIsAnswered(t *testing.T) {
	a := newAttached(t)
	_, to := a.run(`"event"`, a.context())
	a.want("GET", "invocation/next", "", 200, `"event"`)
	a.out.wait(a.localRig, "orders 00000000: handed out again, because the runtime asks for an event")
	a.want("POST", to+"response", "answer", 202, testOK)
}

// A runtime that was started anew while its process lives on has lost the event, as on Lambda.
func TestRuntimeThatAsksAgainHasLostItsEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := newWorkerOfNothing(t)
		q := r.direct([]byte("1"), r.context())
		id, _ := r.next()
		again := make(chan string)
		go func() {
			id, _ := r.next()
			again <- id
		}()
		rep, body := r.reply(q)
		if rep.errorType != "Runtime.ExitError" || !strings.Contains(body, id+" Error: Runtime exited") {
			t.Errorf("the caller got %s %s", rep.errorType, body)
		}
		r.respond(id, strings.NewReader("2"), http.StatusBadRequest) // of the one that has gone
		other := r.direct([]byte("3"), r.context())
		got := <-again
		if got != other.id {
			t.Errorf("it got the event of %s, want that of %s", got, other.id)
		}
		r.respond(other.id, strings.NewReader("4"), http.StatusAccepted)
		if w.retired {
			t.Error("the process is to end")
		}
	})
}

// Its answer breaks off, and the new one must not be refused for that: it would exit.
func TestRuntimeThatIsStartedAnewInTheMiddleOfItsAnswerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newWorkerOfNothing(t)
		q := r.direct([]byte("1"), r.context())
		id, _ := r.next()
		body, sender := io.Pipe()
		answered := make(chan int)
		go func() {
			rec := r.call(t.Context(), http.MethodPost, "invocation/"+id+"/response", body)
			answered <- rec.Code
		}()
		io.WriteString(sender, "half")
		again := make(chan string)
		go func() {
			id, _ := r.next()
			again <- id
		}()
		synctest.Wait()
		sender.CloseWithError(io.ErrUnexpectedEOF)
		start := time.Now()
		rep, _ := r.reply(q)
		if rep.errorType != "Runtime.TruncatedResponse" || time.Since(start) > 0 {
			t.Errorf("the caller got %s after %s", rep.errorType, time.Since(start))
		}
		if status := <-answered; status != http.StatusBadRequest {
			t.Errorf("the answer that broke off got %d", status)
		}
		other := r.direct([]byte("3"), r.context())
		if got := <-again; got != other.id {
			t.Errorf("it got the event of %q, want that of %s", got, other.id)
		}
		r.respond(other.id, strings.NewReader("4"), http.StatusAccepted)
	})
}

// newWorkerOfNothing returns a local end, in a bubble, with a worker whose process is the test: r.next and
// r.respond are its calls.
func newWorkerOfNothing(t *testing.T) (*localRig, *worker) {
	t.Helper()
	r := newTestLocal(t, localOptions{code: code{command: []string{"c"}}})
	p := &pool{local: r.local, name: "orders", seen: map[[32]byte]int{fingerprint(nil): 1}}
	w := newWorker(p)
	c := r.context()
	w.identity = strings.Join([]string{c.FunctionVersion, "256", c.Region, c.Handler}, "\n")
	w.generation = 1
	p.workers = []*worker{w}
	r.local.pools[p.name] = p
	r.routes = w.routes()
	t.Cleanup(func() { // as if its process had ended
		r.local.mu.Lock()
		defer r.local.mu.Unlock()
		w.spare()
	})
	return r, w
}

// watchedRuntime is a runtime in JavaScript. It notes each event that it gets, and does not answer the one
// that says so.
const watchedRuntime = `
import { appendFileSync } from 'node:fs';
const api = 'http://' + process.env.AWS_LAMBDA_RUNTIME_API + '/2018-06-01/runtime/invocation/';
for (;;) {
	const next = await fetch(api + 'next');
	const id = next.headers.get('lambda-runtime-aws-request-id');
	const event = await next.text();
	appendFileSync('events', event + '\n');
	if (event === '"hang"') {
		console.log('it hangs');
		await new Promise((resolve) => setTimeout(resolve, 1e9));
	}
	await fetch(api + id + '/response', { method: 'POST', body: '"VERSION"' });
}
`

// node --watch starts the handler anew when a file is saved, within the process that this program knows.
func TestSaveDuringAnInvocationRunsNoHandlerTwiceForIt(t *testing.T) {
	out, err := exec.Command("node", "--help").Output()
	if err != nil || !strings.Contains(string(out), "--watch") {
		t.Skip("there is no node with --watch")
	}
	t.Chdir(t.TempDir())
	save := func(version string) {
		writeText(t, "handler.mjs", strings.Replace(watchedRuntime, "VERSION", version, 1))
	}
	save("first")
	r := newTestLocal(t, localOptions{code: code{command: []string{"node", "--watch", "handler.mjs"}}})
	_, body := r.reply(r.direct([]byte(`"one"`), r.context()))
	hangs := r.direct([]byte(`"hang"`), r.context())
	r.out.wait(r, "it hangs")
	save("second")
	rep, _ := r.reply(hangs)
	if rep.errorType != "Runtime.ExitError" {
		t.Errorf("the invocation ends with %s", rep.errorType)
	}
	_, again := r.reply(r.direct([]byte(`"two"`), r.context()))
	if body != `"first"` || again != `"second"` {
		t.Errorf("the answers are %s and %s", body, again)
	}
	events, _ := os.ReadFile("events")
	if string(events) != "\"one\"\n\"hang\"\n\"two\"\n" {
		t.Errorf("the handler got the events\n%s", events)
	}
}

func TestLocalRuntimeAPIRefusesInitErrorsWhileAnEventRuns(t *testing.T) {
	a := newAttached(t)
	a.run(`"event"`, a.context())
	a.want("POST", "init/error", "{}", 403, "State transition from Running to InitError failed for runtime")
}

func TestLocalRuntimeAPITakesOneAnswerOfTheEventThatRuns(t *testing.T) {
	a := newAttached(t)
	q, to := a.run(`"event"`, a.context())
	a.want("POST", "invocation/other/response", "1", 400, "InvalidRequestID")
	a.want("POST", to+"response", "answer", 202, testOK)
	if _, body := a.reply(q); body != "answer" {
		t.Errorf("the reply is %q", body)
	}
	a.want("POST", to+"response", "1", 400, "InvalidRequestID")
	a.want("POST", to+"error", "1", 400, "InvalidRequestID")
}

func TestLocalRuntimeAPIRefusesUnknownResponseModes(t *testing.T) {
	a := newAttached(t)
	q, to := a.run("2", a.context())
	a.want("POST", to+"response", "1", 400, "InvalidFunctionResponseMode", modeHeader, "sideways")
	if rep, _ := a.reply(q); rep.errorType != "Runtime.InvalidResponseModeHeader" {
		t.Errorf("the error is %q", rep.errorType)
	}
	a.run("3", a.context()) // the runtime goes on
}

func TestLocalRuntimeAPIRefusesResponsesThatAreTooLarge(t *testing.T) {
	t.Parallel()
	a := newAttached(t)
	q, to := a.run("3", a.context())
	a.want("POST", to+"response", strings.Repeat("x", maxPayload+1), 413,
		"Exceeded maximum allowed payload size (6291556 bytes).")
	if rep, _ := a.reply(q); rep.errorType != "Function.ResponseSizeTooLarge" {
		t.Errorf("the error is %q", rep.errorType)
	}
	a.run("4", a.context()) // the runtime goes on
}

// Its body may be any bytes, and its type is made fit for a header.
func TestLocalRuntimeAPITakesAnError(t *testing.T) {
	a := newAttached(t)
	q, to := a.run("4", a.context())
	a.want("POST", to+"error", "any bytes", 202, testOK, typeHeader, "Function.Uglyé", causeHeader, "{}")
	rep, body := a.reply(q)
	if rep.errorType != "Function.Ugly?" || body != "any bytes" || rep.xrayCause != "{}" {
		t.Errorf("the error is %q with %q", rep.errorType, body)
	}
}

func TestLocalRuntimeAPIAnswersPings(t *testing.T) {
	a := newAttached(t)
	status, body, _ := a.raw(a.addr, "GET", "/2018-06-01/ping", "")
	if status != 200 || body != "pong" {
		t.Errorf("ping: %d %s", status, body)
	}
}

// Other invocations are under way, in other processes.
func TestLocalProcessAnswersItsOwnInvocationAlone(t *testing.T) {
	r := newTestLocal(t, localOptions{code: code{command: []string{"c"}}})
	p := &pool{
		local:   r.local,
		name:    "orders",
		seen:    map[[32]byte]int{},
		workers: []*worker{newWorker(nil), newWorker(nil)},
	}
	for _, w := range p.workers { // as if its process were starting
		w.pool = p
		w.identity = "$LATEST\n256\neu-west-1\nindex.handler"
		w.generation = 1
	}
	r.local.pools[p.name] = p
	asked := []*request{r.direct([]byte("0"), r.context()), r.direct([]byte("1"), r.context())}
	for i, w := range p.workers {
		r.routes = w.routes()
		id, event := r.next()
		if id != asked[i].id || string(event) != strconv.Itoa(i) {
			t.Fatalf("worker %d got %s of %s", i, event, id)
		}
	}
	for _, what := range []string{"response", "error"} { // posted to the worker that was asked last
		path := "invocation/" + asked[0].id + "/" + what
		rec := r.call(r.ctx, "POST", path, strings.NewReader(`"of another"`))
		if rec.Code != http.StatusBadRequest || !strings.Contains(rec.Body.String(), "InvalidRequestID") {
			t.Fatalf("%s with another's ID: %d %s", what, rec.Code, rec.Body)
		}
	}
	for i, w := range p.workers {
		r.routes = w.routes()
		r.respond(asked[i].id, strings.NewReader(fmt.Sprint("answer ", i)), http.StatusAccepted)
	}
	for i, q := range asked {
		rep, body := r.reply(q)
		if rep.kind != "response" || body != fmt.Sprint("answer ", i) {
			t.Errorf("invocation %d got %s %q", i, rep.kind, body)
		}
	}
}

// A page may have its own host name mean this machine.
func TestLocalRuntimeAPIRefusesWhatABrowserSends(t *testing.T) {
	a := newAttached(t)
	_, port, _ := net.SplitHostPort(a.addr)
	for _, header := range [][]string{
		{"Origin", "http://example.com"},
		{"Origin", "http://" + a.addr},
		{"Origin", "null"},
		{"Referer", "http://example.com/"},
		{"Sec-Fetch-Site", "cross-site"},
		{"Cookie", "a=b"},
		{"User-Agent", "Mozilla/5.0 (Macintosh)"},
		{"Host", "example.com"},
		{"Host", "example.com:" + port},
		{"Host", "localhost"},
	} {
		status, _, _ := a.raw(a.addr, "GET", "/2018-06-01/ping", "", header...)
		if status != http.StatusForbidden {
			t.Errorf("%v: %d", header, status)
		}
	}
}

// Node's own fetch sends Sec-Fetch-Mode.
func TestLocalRuntimeAPIServesWhatARuntimeSends(t *testing.T) {
	a := newAttached(t)
	_, port, _ := net.SplitHostPort(a.addr)
	for _, header := range [][]string{{"Host", "localhost:" + port}, {"Sec-Fetch-Mode", "cors"}} {
		status, _, _ := a.raw(a.addr, "GET", "/2018-06-01/ping", "", header...)
		if status != http.StatusOK {
			t.Errorf("%v: %d", header, status)
		}
	}
}

// It listens on loopback alone, but a peer may be somewhere else all the same.
func TestLocalRuntimeAPIRefusesOtherMachines(t *testing.T) {
	a := newAttached(t)
	for peer, want := range map[string]int{
		"192.0.2.1:1":     http.StatusForbidden,
		"[2001:db8::1]:1": http.StatusForbidden,
		"":                http.StatusForbidden,
		"127.0.0.1:1":     http.StatusOK,
		"[::1]:1":         http.StatusOK,
	} {
		req := httptest.NewRequest("GET", "/2018-06-01/ping", nil)
		req.Host = a.addr
		req.RemoteAddr = peer
		rec := httptest.NewRecorder()
		a.local.attachServer.Handler.ServeHTTP(rec, req)
		if rec.Code != want {
			t.Errorf("%q: %d, want %d", peer, rec.Code, want)
		}
	}
}

// The runtime is told what AWS's emulator tells it, the caller that the answer broke off.
func TestAnswerThatBreaksOffIsRefused(t *testing.T) {
	for _, tt := range []struct {
		path string
		mode string
	}{
		{path: "response"},
		{path: "response", mode: "streaming"},
		{path: "error"},
	} {
		t.Run(tt.path+tt.mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newTestLocal(t, localOptions{code: code{external: true}})
				r.local.attach = newWorker(&pool{local: r.local, name: "attached runtime", external: true})
				r.local.attachServer = &http.Server{}
				r.routes = r.local.attach.routes()
				q := r.direct(task{}, r.context())
				id, _ := r.next()
				body := io.MultiReader(strings.NewReader("{"), iotest.ErrReader(io.ErrUnexpectedEOF))
				path := "invocation/" + id + "/" + tt.path
				rec := r.call(t.Context(), http.MethodPost, path, body, modeHeader, tt.mode)
				want := `{"errorMessage":"HTTP request detected as truncated",` +
					`"errorType":"TruncatedHTTPRequest"}`
				if rec.Code != http.StatusBadRequest || strings.TrimSpace(rec.Body.String()) != want {
					t.Errorf("the runtime got %d %s", rec.Code, rec.Body)
				}
				rep, _ := r.reply(q)
				wantMessage := "RequestId: " + id + " Error: the runtime's response broke off"
				if rep.errorType != "Runtime.TruncatedResponse" ||
					!strings.HasSuffix(rep.message, wantMessage) {
					t.Errorf("the caller got %s %s", rep.errorType, rep.message)
				}
			})
		})
	}
}

// Of two runtimes that ask while the answer of a third is read, one goes. The other gets the next event.
func TestRuntimeThatAskedWhileAnAnswerWasReadIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTestLocal(t, localOptions{code: code{external: true}})
		w := newWorker(&pool{local: r.local, name: "attached runtime", external: true})
		r.local.attach = w
		r.routes = w.routes()
		defer func() { r.local.attach = nil }() // it has no server to shut down
		r.direct("1", r.context())
		id, _ := r.next()
		body, writer := io.Pipe()
		go r.respond(id, body, 400)
		synctest.Wait()
		served := make(chan string, 2)
		ask := func(ctx context.Context, who string) {
			defer func() { recover() }() // a call that has ended aborts its connection
			call := httptest.NewRequestWithContext(ctx, "GET", nextPath, nil)
			r.routes.ServeHTTP(httptest.NewRecorder(), call)
			served <- who
		}
		gone, cancel := context.WithCancel(r.ctx)
		go ask(gone, "the one that goes")
		synctest.Wait()
		go ask(r.ctx, "the one that stays")
		synctest.Wait()
		writer.CloseWithError(errors.New("broken off"))
		synctest.Wait()
		cancel()
		synctest.Wait()
		r.direct("2", r.context())
		synctest.Wait()
		select {
		case who := <-served:
			if who != "the one that stays" {
				t.Errorf("%s got the event", who)
			}
		default:
			t.Error("nobody got the event")
		}
		close(w.closed)
	})
}
