//go:build !layer

package main

// proxy_runtime_test.go tests proxy.go in the rig with a Runtime API and runtimes that have faults.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// nextTest is what the Runtime API says of an event in the headers of next, and what it is told then.
type nextTest struct {
	name     string
	deadline func() string // nil: none
	id       string
	noLocal  bool
	want     string
	took     time.Duration
}

// run runs one invocation of a Runtime API that answers next once, then holds it.
func (test nextTest) run(t *testing.T) {
	t.Helper()
	api := &onceAPI{id: test.id}
	opts := rigOptions{runtimeAPI: api, noLocal: test.noLocal, noRuntime: true}
	rigTest(t, test.name, opts, func(r *rig) {
		api.given = false
		api.deadline = ""
		if test.deadline != nil {
			api.deadline = test.deadline()
		}
		api.told = make(chan string, 9)
		start := time.Now()
		r.runtime = r.startRuntime()
		got := <-api.told
		took := time.Since(start)
		if got != test.want || took.Round(10*time.Millisecond) != test.took {
			r.t.Errorf("the Runtime API was told %q after %v, want %q after %v", got, took, test.want,
				test.took)
		}
		synctest.Wait()
		if len(api.told) > 0 {
			r.t.Errorf("and was told %q", <-api.told)
		}
	})
}

// deadlineIn is a deadline so long from when the runtime asks.
func deadlineIn(d time.Duration) func() string {
	return func() string { return fmt.Sprint(time.Now().Add(d).UnixMilli()) }
}

// deadlineText is what the Runtime API may say instead.
func deadlineText(text string) func() string {
	return func() string { return text }
}

func TestDeadlineOfAnInvocationIsKept(t *testing.T) {
	t.Parallel()
	const answered, noAnswer = "POST id-1/response", "POST id-1/error LiveLambda.NoAnswer"
	for _, test := range []nextTest{
		{name: "to come", deadline: deadlineIn(10 * time.Second), want: answered},
		{
			name:     "to come, nobody there",
			deadline: deadlineIn(10 * time.Second),
			noLocal:  true,
			want:     noAnswer,
			took:     9 * time.Second,
		},
		{name: "past", deadline: deadlineIn(-time.Hour), want: noAnswer},
		{name: "now", deadline: deadlineIn(0), want: noAnswer},
		{name: "within the margin", deadline: deadlineIn(200 * time.Millisecond), want: noAnswer},
		{name: "negative", deadline: deadlineText("-1"), want: noAnswer},
	} {
		test.id = "id-1"
		test.run(t)
	}
}

// Without a usable deadline an invocation has as long as Lambda gives at the most.
func TestInvocationWithoutADeadlineHasLambdasMaximum(t *testing.T) {
	t.Parallel()
	const answered, noAnswer = "POST id-1/response", "POST id-1/error LiveLambda.NoAnswer"
	for _, test := range []nextTest{
		{name: "missing", want: answered},
		{
			name:    "missing, nobody there",
			noLocal: true,
			want:    noAnswer,
			took:    90*time.Minute - time.Second,
		},
		{name: "not a number", deadline: deadlineText("soon"), want: answered},
		{name: "beyond numbers", deadline: deadlineText("99999999999999999999"), want: answered},
		{name: "in a far future", deadline: deadlineText("9223372036854775807"), want: answered},
	} {
		test.id = "id-1"
		test.run(t)
	}
}

func TestRequestIDIsEscapedInThePath(t *testing.T) {
	t.Parallel()
	for _, test := range []nextTest{
		{
			name: "an ID like a path",
			id:   "../a/b?c=d#e%2F",
			want: "POST ..%2Fa%2Fb%3Fc=d%23e%252F/response",
		},
		{name: "no ID", want: "POST /response"},
	} {
		test.run(t)
	}
}

// Under Managed Instances the environment lives on after a timeout, and Lambda refuses the late answer. That
// is no fault of anybody here, and there is nothing to repeat.
func TestAnswerAfterTheTimeoutIsNotCalledAnError(t *testing.T) {
	t.Parallel()
	api := &onceAPI{
		id:       "id-1",
		deadline: "1",
		refusal:  `{"errorType":"InvokeTimeout","errorMessage":"Invoke timeout"}`,
		status:   http.StatusGone,
	}
	rigTest(t, "", rigOptions{runtimeAPI: api, noRuntime: true}, func(r *rig) {
		api.given = false
		api.told = make(chan string, 9)
		r.runtime = r.startRuntime()
		<-api.told
		synctest.Wait()
		log := r.log.String()
		if !strings.Contains(log, "the answer came after the invocation's timeout") ||
			strings.Contains(log, "level=ERROR") || len(api.told) > 0 {
			r.t.Errorf("told again: %d, log: %s", len(api.told), log)
		}
	})
}

// onceAPI is a Runtime API with one event.
type onceAPI struct {
	id       string
	deadline string
	told     chan string
	given    bool
	refusal  string // of an answer; "": it is accepted
	status   int    // of the refusal
}

func (a *onceAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(cmp.Or(a.status, http.StatusAccepted))
		io.WriteString(w, a.refusal)
		path := strings.TrimPrefix(r.URL.EscapedPath(), invocationPath)
		a.told <- strings.TrimSpace("POST " + path + " " + r.Header.Get(typeHeader))
	case !a.given:
		a.given = true
		if a.id != "" {
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", a.id)
		}
		if a.deadline != "" {
			w.Header().Set("Lambda-Runtime-Deadline-Ms", a.deadline)
		}
		io.WriteString(w, `{}`)
	default:
		<-r.Context().Done()
	}
}

// A runtime's next may have a body, which is of no use to the calls that follow from it.
func TestNextMayHaveABody(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"Content-Length: 2\r\n\r\n{}",
		"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	} {
		rigTest(t, body, rigOptions{noRuntime: true}, func(r *rig) {
			conn, in := r.connect8082()
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\n%s", nextPath, body)
			err := r.lambda.ready(r.ctx)
			if err != nil {
				r.t.Fatal(err)
			}
			for range 3 {
				r.want(r.invoke(`1`), "local")
			}
			conn.Close()
			_, err = in.ReadByte()
			if err == nil {
				r.t.Error("the runtime got an answer to next")
			}
			r.runtime = r.startRuntime()
			r.want(r.invoke(`2`), "local")
		})
	}
}

// What is for the runtime is not lost if the runtime goes away in the instant in which it comes: its next
// call gets it. The rounds differ in which of two ready channels is drawn.
func TestNextOutlivesTheCallThatGoes(t *testing.T) {
	t.Parallel()
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			api := transportFunc(func(*http.Request) (*http.Response, error) {
				asked++
				return httpAnswer(http.StatusInternalServerError, fmt.Sprint(asked)), nil
			})
			p := newProxy(
				t.Context(), config{offlineError: true, until: time.Now().AddDate(1, 0, 0)}, api, nil,
				slog.New(slog.DiscardHandler))
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			next := func(ctx context.Context) (*http.Response, error) {
				synctest.Wait()
				return p.RoundTrip(httptest.NewRequestWithContext(ctx, http.MethodGet, nextPath, nil))
			}
			for range 2 { // the second time both channels are ready
				resp, err := next(gone)
				if err == nil {
					t.Fatalf("a call that has gone got %v", resp)
				}
			}
			resp, err := next(t.Context())
			if err != nil || readAll(resp.Body) != "1" || asked != 1 {
				t.Errorf("got %v, %v; the Runtime API was asked %d times, want once", resp, err, asked)
			}
			p.stop()
		})
	}
}

// The runtime asks for next just when the environment shuts down. The race detector watches.
func TestNextMayComeAtShutdown(t *testing.T) {
	t.Parallel()
	for range 1000 {
		refuse := transportFunc(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("refused")
		})
		p := newProxy(
			t.Context(), config{offlineError: true, until: time.Now().AddDate(1, 0, 0)}, refuse, nil,
			slog.New(slog.DiscardHandler))
		handler := p.handler()
		ctx, gone := context.WithCancel(t.Context())
		asked := async(func() (bool, error) {
			request := httptest.NewRequestWithContext(ctx, http.MethodGet, nextPath, nil)
			handler.ServeHTTP(httptest.NewRecorder(), request)
			return true, nil
		})
		runtime.Gosched()
		p.stop()
		gone()
		<-asked
	}
}

// refusal is a fault of the Runtime API when an invocation is completed, and what its caller gets of it.
type refusal struct {
	name  string
	fault lambdaFault
	taken bool // the answer, before the Runtime API's own reply was lost
}

var refusals = []refusal{
	{name: "400", fault: lambdaFault{status: 400, errorType: "InvalidRequestID"}},
	{name: "403", fault: lambdaFault{status: 403, errorType: "InvalidStateTransition"}},
	{name: "413", fault: lambdaFault{status: 413, errorType: "RequestEntityTooLarge"}},
	{name: "500", fault: lambdaFault{status: 500}},
	{name: "closed", fault: lambdaFault{drop: true}},
	{name: "500, but taken", fault: lambdaFault{status: 500, late: true}, taken: true},
	{name: "closed, but taken", fault: lambdaFault{drop: true, late: true}, taken: true},
}

// The Runtime API does not take an answer. The extension lives on, and the caller gets an error, unless the
// Runtime API had taken the answer.
func TestAnswerThatTheRuntimeAPIRefusesIsAnError(t *testing.T) {
	t.Parallel()
	response := respond(`{"by":"local"}`)
	stream := respond(`{"by":"local"}`)
	stream.part.Headers[modeHeader] = "streaming"
	failure := respond(`{"by":"local"}`)
	failure.part.Type = "error"
	failure.part.ErrorType = "Runtime.MyError"
	for _, refused := range refusals {
		refused.run(t, "buffered", response, response, "local")
		refused.run(t, "streamed", stream, stream, "local")
		refused.run(t, "error", failure, response, "Runtime.MyError")
	}
}

// run has the answer to the first invocation refused, then the answer to one with a short timeout. The local
// end answers the first one with first, and the others with then. answer is what first is for the caller.
func (refused refusal) run(t *testing.T, kind string, first, then localReply, answer string) {
	t.Helper()
	want, attempts := "LiveLambda.AnswerRefused", 2
	if refused.taken {
		want, attempts = answer, 1
	}
	var opts rigOptions
	var posts atomic.Int32 // until the one with the fault
	opts.lambda.fault = func(r *http.Request) lambdaFault {
		if r.Method == http.MethodPost && posts.Add(-1) == 0 {
			return refused.fault
		}
		return lambdaFault{}
	}
	opts.local = &localEnd{handle: func(d *delivery) localReply {
		if string(d.event) == "1" {
			return first
		}
		return then
	}}
	rigTest(t, kind+" "+refused.name, opts, func(r *rig) {
		posts.Store(1)
		o := r.invoke(`1`)
		n := len(r.lambda.completions(o.requestID))
		if o.what != want || n != attempts {
			r.t.Errorf("got %s (%s), the Runtime API was told %d times; want %s, %d times", o.what,
				o.payload, n, want, attempts)
		}
		synctest.Wait() // the caller has its answer before the extension hears of it
		if !strings.Contains(r.log.String(), "did not take the answer") {
			r.t.Errorf("nothing of it in the log: %s", r.log)
		}
		posts.Store(1)
		o = r.invokeRequest(invokeRequest{payload: []byte(`2`), timeout: time.Second})
		if o.what != want && o.what != "local" {
			r.t.Errorf("with a timeout of a second: %s", o.what)
		}
		r.want(r.invoke(`3`), "local")
		r.wantHandled(3)
		if len(r.runtime.got()) > 0 {
			r.t.Errorf("the deployed code got %q, which the local end had accepted", r.runtime.got())
		}
	})
}

// A runtime that is killed while its call of next is held, and started again, gets what the first one would
// have got.
func TestRestartedRuntimeGetsWhatTheFirstOneWould(t *testing.T) {
	t.Parallel()
	const s = time.Second
	soon := map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "5s"}
	slow := &localEnd{handle: func(d *delivery) localReply {
		time.Sleep(10 * s)
		return respond(`{"by":"local"}`)
	}}
	tests := []struct {
		name    string
		opts    rigOptions
		down    time.Duration // from a second after the invocation began
		want    string
		next    string // of the invocation after it
		events  int    // that the second runtime gets
		handled int
	}{
		{
			name:    "while the local end works",
			opts:    rigOptions{local: slow},
			want:    "local",
			next:    "local",
			handled: 1,
		},
		{
			name:    "and is down while the local end answers",
			opts:    rigOptions{local: slow},
			down:    20 * s,
			want:    "local",
			next:    "local",
			handled: 1,
		},
		{
			name:   "before the deployed code has to answer",
			opts:   rigOptions{noLocal: true, env: soon},
			want:   "deployed",
			next:   "deployed",
			events: 1,
		},
		{
			name:   "and is down when the deployed code has to answer",
			opts:   rigOptions{noLocal: true, env: soon},
			down:   20 * s,
			want:   "deployed",
			next:   "deployed",
			events: 1,
		},
		{
			name: "and is down when nobody answers",
			opts: rigOptions{noLocal: true, lambda: lambdaOptions{timeout: 10 * s}},
			down: 20 * s,
			want: "LiveLambda.NoAnswer",
			next: "LiveLambda.NoAnswer",
		},
	}
	for _, test := range tests {
		rigTest(t, test.name, test.opts, func(r *rig) {
			first := r.runtime
			restarted := after(s, func() {
				first.stop()
				time.Sleep(test.down)
				r.runtime = r.startRuntime()
			})
			r.want(r.invoke(`1`), test.want)
			<-restarted
			time.Sleep(30 * s)
			events := len(r.runtime.got())
			if events != test.events || len(first.got()) > 0 {
				r.t.Errorf("the runtimes got %d and %d events, want 0 and %d", len(first.got()), events,
					test.events)
			}
			r.wantHandled(test.handled)
			r.want(r.invoke(`2`), test.next)
		})
	}
}

// The Runtime API does not take the answer of a local end, and hands the event out again to the runtime that
// starts next. Nobody is there by then, but a local end has run for the event: the deployed code may not.
func TestEventThatIsHandedOutAgainDoesNotRunDeployedCode(t *testing.T) {
	t.Parallel()
	const s = time.Second
	var refuse atomic.Bool
	opts := rigOptions{env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "1s"}}
	opts.lambda.fault = func(r *http.Request) lambdaFault {
		if r.Method == http.MethodPost && refuse.Load() {
			return lambdaFault{status: 500}
		}
		return lambdaFault{}
	}
	opts.local = &localEnd{handle: func(*delivery) localReply {
		time.Sleep(2 * s)
		return respond(`{"by":"local"}`)
	}}
	rigTest(t, "", opts, func(r *rig) {
		refuse.Store(true)
		restarted := after(s, func() {
			r.runtime.stop()
			time.Sleep(4 * s)
			r.local.stop()
			refuse.Store(false)
			r.runtime = r.startRuntime()
		})
		o := r.invoke(`1`)
		<-restarted
		if o.what != "LiveLambda.AnswerRefused" || len(r.runtime.got()) > 0 {
			r.t.Errorf("got %s, and the deployed code ran %d times; want LiveLambda.AnswerRefused and 0",
				o.what, len(r.runtime.got()))
		}
	})
}

// A second runtime starts without the first one ending, and both calls of next get the event from the Runtime
// API.
func TestTwoCallsOfNextGetOneAnswer(t *testing.T) {
	t.Parallel()
	nobody := rigOptions{env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "5s"}, noLocal: true}
	rigTest(t, "nobody there", nobody, func(r *rig) {
		r.startRuntime()
		synctest.Wait()
		o := r.invoke(`1`)
		if o.what != "deployed" {
			r.t.Errorf("got %s, want deployed", o.what)
		}
	})
	rigTest(t, "a local end there", rigOptions{}, func(r *rig) {
		r.startRuntime()
		synctest.Wait()
		for range 20 {
			r.want(r.invoke(`1`), "local")
		}
		r.wantHandled(20)
	})
}

// What a local end has accepted, and then says nothing of for a while, is not deployed for the sake of the
// other call, whose request that local end does not answer.
func TestTwoCallsOfNextDoNotRunDeployedCode(t *testing.T) {
	t.Parallel()
	silent := &localEnd{
		script: func(d *delivery) {
			d.say(localReply{part: part{Type: "accepted"}})
			time.Sleep(10 * time.Second)
			d.say(respond(`{"by":"local"}`))
		},
		again: func(*delivery) {},
	}
	opts := rigOptions{local: silent, env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "1s"}}
	rigTest(t, "", opts, func(r *rig) {
		second := r.startRuntime()
		synctest.Wait()
		r.want(r.invoke(`1`), "local")
		n := len(r.runtime.got()) + len(second.got())
		if n > 0 {
			r.t.Errorf("the deployed code ran %d times", n)
		}
	})
}
