//go:build !layer

package main

// proxy_runtime_test.go tests proxy.go in the rig with a Runtime API and runtimes that have faults.

import (
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

// What the Runtime API may say of an event, deadlines above all. It answers next once, then holds it.
func TestNextHeaders(t *testing.T) {
	ms := func(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).UnixMilli()) }
	tests := []struct {
		name     string
		deadline func() string
		id       string
		local    bool // there is one
		want     string
		took     time.Duration
	}{
		{
			name: "to come",
			deadline: func() string {
				return ms(10 * time.Second)
			},
			id:    "id-1",
			local: true,
			want:  "POST id-1/response",
		},
		{
			name: "to come, nobody there",
			deadline: func() string {
				return ms(10 * time.Second)
			},
			id:   "id-1",
			want: "POST id-1/error LiveLambda.NoAnswer",
			took: 9 * time.Second,
		},
		{
			name: "past",
			deadline: func() string {
				return ms(-time.Hour)
			},
			id:    "id-1",
			local: true,
			want:  "POST id-1/error LiveLambda.NoAnswer",
		},
		{
			name: "now",
			deadline: func() string {
				return ms(0)
			},
			id:    "id-1",
			local: true,
			want:  "POST id-1/error LiveLambda.NoAnswer",
		},
		{
			name: "within the margin",
			deadline: func() string {
				return ms(200 * time.Millisecond)
			},
			id:    "id-1",
			local: true,
			want:  "POST id-1/error LiveLambda.NoAnswer",
		},
		{
			name: "negative",
			deadline: func() string {
				return "-1"
			},
			id:    "id-1",
			local: true,
			want:  "POST id-1/error LiveLambda.NoAnswer",
		},
		{
			name: "missing",
			deadline: func() string {
				return ""
			},
			id:    "id-1",
			local: true,
			want:  "POST id-1/response",
		},
		{
			name: "missing, nobody there",
			deadline: func() string {
				return ""
			},
			id:   "id-1",
			want: "POST id-1/error LiveLambda.NoAnswer",
			took: 15*time.Minute - time.Second,
		},
		{
			name: "not a number",
			deadline: func() string {
				return "soon"
			},
			id:    "id-1",
			local: true,
			want:  "POST id-1/response",
		},
		{
			name: "beyond numbers",
			deadline: func() string {
				return "99999999999999999999"
			},
			id:    "id-1",
			local: true,
			want:  "POST id-1/response",
		},
		{
			name: "in a far future",
			deadline: func() string {
				return "9223372036854775807"
			},
			id:    "id-1",
			local: true,
			want:  "POST id-1/response",
		},
		{
			name: "an ID like a path",
			deadline: func() string {
				return ""
			},
			id:    "../a/b?c=d#e%2F",
			local: true,
			want:  "POST ..%2Fa%2Fb%3Fc=d%23e%252F/response",
		},
		{name: "no ID", deadline: func() string { return "" }, local: true, want: "POST /response"},
	}
	for _, tt := range tests {
		api := &onceAPI{id: tt.id}
		rigTest(t, tt.name, rigOptions{runtimeAPI: api, noLocal: !tt.local, noRuntime: true}, func(r *rig) {
			api.given, api.deadline, api.told = false, tt.deadline(), make(chan string, 9)
			start := time.Now()
			r.runtime = r.startRuntime()
			got := <-api.told
			if took := time.Since(start); got != tt.want || took.Round(10*time.Millisecond) != tt.took {
				r.t.Errorf("the Runtime API was told %q after %v, want %q after %v", got, took, tt.want,
					tt.took)
			}
			synctest.Wait()
			if n := len(api.told); n > 0 {
				r.t.Errorf("and was told %q", <-api.told)
			}
		})
	}
}

// onceAPI is a Runtime API with one event.
type onceAPI struct {
	id, deadline string
	told         chan string
	given        bool
}

func (a *onceAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
		a.told <- strings.TrimSpace(
			"POST " + strings.TrimPrefix(r.URL.EscapedPath(), invocationPath) + " " +
				r.Header.Get(typeHeader))
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
func TestNextWithBody(t *testing.T) {
	for _, body := range []string{
		"Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	} {
		rigTest(t, body, rigOptions{noRuntime: true}, func(r *rig) {
			conn, in := r.connect8082()
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\n%s", nextPath, body)
			if err := r.lambda.ready(r.ctx); err != nil {
				r.t.Fatal(err)
			}
			for range 3 {
				r.want(r.invoke(`1`), "local")
			}
			conn.Close()
			if _, err := in.ReadByte(); err == nil {
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
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			api := transportFunc(func(*http.Request) (*http.Response, error) {
				asked++
				return httpAnswer(http.StatusInternalServerError, fmt.Sprint(asked)), nil
			})
			p := newProxy(
				t.Context(), proxyOptions{offlineError: true}, api, nil, slog.New(slog.DiscardHandler))
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			next := func(ctx context.Context) (*http.Response, error) {
				synctest.Wait()
				return p.RoundTrip(httptest.NewRequestWithContext(ctx, http.MethodGet, nextPath, nil))
			}
			for range 2 { // the second time both channels are ready
				if resp, err := next(gone); err == nil {
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

// The runtime asks for next just when the environment shuts down; the race detector watches.
func TestProxyAskedAtShutdown(t *testing.T) {
	for range 1000 {
		refuse := transportFunc(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("refused")
		})
		p := newProxy(
			t.Context(), proxyOptions{offlineError: true}, refuse, nil, slog.New(slog.DiscardHandler))
		handler := p.handler()
		ctx, gone := context.WithCancel(t.Context())
		asked := async(func() (bool, error) {
			handler.ServeHTTP(
				httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, nextPath, nil))
			return true, nil
		})
		runtime.Gosched()
		p.stop()
		gone()
		<-asked
	}
}

// The Runtime API does not take an answer. The extension lives on; the caller gets an error, or what the
// Runtime API had taken before its own answer was lost.
func TestRuntimeAPIFaults(t *testing.T) {
	for _, kind := range []string{"buffered", "streamed", "error"} {
		for _, tt := range []struct {
			name  string
			fault lambdaFault
			want  string
			tries int // attempts to complete the invocation
		}{
			{
				name:  "400",
				fault: lambdaFault{status: 400, errorType: "InvalidRequestID"},
				want:  "LiveLambda.AnswerRefused",
				tries: 2,
			},
			{
				name:  "403",
				fault: lambdaFault{status: 403, errorType: "InvalidStateTransition"},
				want:  "LiveLambda.AnswerRefused",
				tries: 2,
			},
			{
				name:  "413",
				fault: lambdaFault{status: 413, errorType: "RequestEntityTooLarge"},
				want:  "LiveLambda.AnswerRefused",
				tries: 2,
			},
			{name: "500", fault: lambdaFault{status: 500}, want: "LiveLambda.AnswerRefused", tries: 2},
			{name: "closed", fault: lambdaFault{drop: true}, want: "LiveLambda.AnswerRefused", tries: 2},
			{name: "500, but taken", fault: lambdaFault{status: 500, late: true}, want: "local", tries: 1},
			{name: "closed, but taken", fault: lambdaFault{drop: true, late: true}, want: "local", tries: 1},
		} {
			var opts rigOptions
			var faults atomic.Int32
			opts.lambda.fault = func(r *http.Request) lambdaFault {
				if r.Method == http.MethodPost && faults.Add(-1) == 0 {
					return tt.fault
				}
				return lambdaFault{}
			}
			want := tt.want
			if kind == "error" && want == "local" {
				want = "Runtime.MyError"
			}
			opts.local = &localEnd{handle: func(d *delivery) localReply {
				m := respond(`{"by":"local"}`)
				if kind == "streamed" {
					m.part.Headers[modeHeader] = "streaming"
				} else if kind == "error" && string(d.event) == "1" {
					m.part.Type, m.part.ErrorType = "error", "Runtime.MyError"
				}
				return m
			}}
			rigTest(t, kind+" "+tt.name, opts, func(r *rig) {
				faults.Store(1)
				o := r.invoke(`1`)
				if n := len(r.lambda.completions(o.requestID)); o.what != want || n != tt.tries {
					r.t.Errorf("got %s (%s), the Runtime API was told %d times; want %s, %d times", o.what,
						o.payload, n, want, tt.tries)
				}
				synctest.Wait() // the caller has its answer before the extension hears of it
				if !strings.Contains(r.log.String(), "did not take the answer") {
					r.t.Errorf("nothing of it in the log: %s", r.log)
				}
				faults.Store(1)
				if o := r.invokeRequest(
					invokeRequest{payload: []byte(`2`), timeout: time.Second}); o.what != want &&
					o.what != "local" {
					r.t.Errorf("with a timeout of a second: %s", o.what)
				}
				r.want(r.invoke(`3`), "local")
				r.wantHandled(3)
				if len(r.runtime.got()) > 0 {
					r.t.Errorf("the deployed code got %q, which the local end had accepted", r.runtime.got())
				}
			})
		}
	}
}

// A runtime that is killed while its call of next is held, and started again, gets what the first one would
// have got.
func TestRuntimeStartsAgain(t *testing.T) {
	const s = time.Second
	slow := &localEnd{handle: func(d *delivery) localReply {
		time.Sleep(10 * s)
		return respond(`{"by":"local"}`)
	}}
	tests := []struct {
		name    string
		opts    rigOptions
		down    time.Duration // from a second after the invocation began
		want    string
		events  int // that the second runtime gets
		handled int
	}{
		{name: "while the local end works", opts: rigOptions{local: slow}, want: "local", handled: 1},
		{
			name:    "and is down while the local end answers",
			opts:    rigOptions{local: slow},
			down:    20 * s,
			want:    "local",
			handled: 1,
		},
		{
			name:   "before the deployed code has to answer",
			opts:   rigOptions{noLocal: true, env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "5s"}},
			want:   "deployed",
			events: 1,
		},
		{
			name:   "and is down when the deployed code has to answer",
			opts:   rigOptions{noLocal: true, env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "5s"}},
			down:   20 * s,
			want:   "deployed",
			events: 1,
		},
		{
			name: "and is down when nobody answers",
			opts: rigOptions{noLocal: true, lambda: lambdaOptions{timeout: 10 * s}},
			down: 20 * s,
			want: "LiveLambda.NoAnswer",
		},
	}
	for _, tt := range tests {
		rigTest(t, tt.name, tt.opts, func(r *rig) {
			first := r.runtime
			restarted := after(s, func() {
				first.stop()
				time.Sleep(tt.down)
				r.runtime = r.startRuntime()
			})
			r.want(r.invoke(`1`), tt.want)
			<-restarted
			time.Sleep(30 * s)
			if n := len(r.runtime.got()); n != tt.events || len(first.got()) > 0 {
				r.t.Errorf("the runtimes got %d and %d events, want 0 and %d", len(first.got()), n, tt.events)
			}
			r.wantHandled(tt.handled)
			next := map[bool]string{true: tt.want, false: "local"}[tt.opts.noLocal]
			r.want(r.invoke(`2`), next)
		})
	}
	// The Runtime API did not take the answer of a local end, and hands the event out again to the next
	// runtime.
	var refuse atomic.Bool
	opts := rigOptions{env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "1s"}}
	opts.lambda.fault = func(r *http.Request) (f lambdaFault) {
		if r.Method == http.MethodPost && refuse.Load() {
			f.status = 500
		}
		return f
	}
	opts.local = &localEnd{handle: func(*delivery) localReply {
		time.Sleep(2 * s)
		return respond(`{"by":"local"}`)
	}}
	rigTest(t, "after an answer that was not taken", opts, func(r *rig) {
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
	// Both calls of next get the event from the Runtime API.
	rigTest(t, "without the first one ending",
		rigOptions{env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "5s"}, noLocal: true}, func(r *rig) {
			r.startRuntime()
			synctest.Wait()
			if o := r.invoke(`1`); o.what != "deployed" {
				r.t.Errorf("got %s, want deployed", o.what)
			}
		})
	rigTest(t, "without the first one ending, a local end there", rigOptions{}, func(r *rig) {
		r.startRuntime()
		synctest.Wait()
		for range 20 {
			r.want(r.invoke(`1`), "local")
		}
		r.wantHandled(20)
	})
	// What a local end has accepted, and then says nothing of for a while, is not deployed for the other
	// call's sake.
	silent := &localEnd{
		script: func(d *delivery) {
			d.say(localReply{part: part{Type: "accepted"}})
			time.Sleep(10 * s)
			d.say(respond(`{"by":"local"}`))
		},
		again: func(*delivery) {},
	}
	rigTest(t, "without the first one ending, a local end there that hears the request once",
		rigOptions{local: silent, env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "1s"}}, func(r *rig) {
			second := r.startRuntime()
			synctest.Wait()
			r.want(r.invoke(`1`), "local")
			if n := len(r.runtime.got()) + len(second.got()); n > 0 {
				r.t.Errorf("the deployed code ran %d times", n)
			}
		})
}
