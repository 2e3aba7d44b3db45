package main

// proxy.go knows HTTP and invocations: the Runtime API proxy that the function's runtime talks to, and what becomes of
// one invocation. Requests of the runtime come in; the real Runtime API's answers, or an event, go out. An event goes on
// to appsync.go and its answer to the real Runtime API.
//
// Goroutines: net/http's, one for each request, and one for each call of next to the Runtime API, which outlives the
// runtime's call where the runtime goes away.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// proxy stands between the runtime and the Runtime API.
type proxy struct {
	cfg       config
	log       *slog.Logger
	transport http.RoundTripper
	tunnel    *tunnel                             // nil: there is no AppSync API to use
	life      context.Context                     // of the calls of next, which outlive the runtime's: ends with the environment
	ready     chan func() (*http.Response, error) // what the runtime gets, for whichever of its calls of next takes it
	missed    atomic.Int64                        // when an invocation last waited in vain, Unix nanoseconds by the wall clock
	last      atomic.Value                        // key of the invocation completed last
	served    sync.Map                            // keys of those under way: calls of next at the same time may get the same one
	wg        sync.WaitGroup                      // of the calls of next
	mu        sync.Mutex                          // guards wg: life ends under it, and then there are no more
	orphans   chan struct{}                       // has one for each call of next to the Runtime API that no call of the runtime waits for
}

// handler forwards everything unchanged, in both directions; the way there is p itself, a RoundTripper that keeps back
// the events that go to AppSync.
func (p *proxy) handler() http.Handler {
	reverse := &httputil.ReverseProxy{
		Transport: p, FlushInterval: -1, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug), // flushes at once
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil { // the runtime is still there
				p.log.Error("cannot reach the Runtime API", "endpoint", p.cfg.runtimeAPI, "error", err)
				w.WriteHeader(http.StatusBadGateway)
				w.Write(errorJSON("LiveLambda.RuntimeAPI", "live-lambda cannot reach the Runtime API at "+p.cfg.runtimeAPI))
			}
		},
		Rewrite: func(r *httputil.ProxyRequest) {
			if r.In.Trailer == nil {
				r.In.Trailer = http.Header{} // some senders announce none
			}
			// The same maps: trailers are filled while the body is read. Without Opaque "GET a:http://host/" is no request for host.
			r.Out.Header, r.Out.Trailer, r.Out.Host = r.In.Header, r.In.Trailer, ""
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.Opaque, r.Out.URL.RawQuery = "http", p.cfg.runtimeAPI, "", r.In.URL.RawQuery
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"], w.Header()["Content-Type"] = nil, nil // net/http adds none of its own where there is an entry
		reverse.ServeHTTP(w, r)
	})
}

// RoundTrip sends a request to the Runtime API. The runtime's call of next is held until there is an event for it. As many
// calls of next are under way to the Runtime API: one whose caller has gone serves whoever calls then.
func (p *proxy) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet || req.URL.Path != nextPath || p.tunnel == nil && !p.cfg.offlineError {
		return p.transport.RoundTrip(req)
	}
	io.Copy(io.Discard, cmp.Or[io.ReadCloser](req.Body, http.NoBody)) // net/http notices the runtime's end only behind its body
	p.mu.Lock()
	select {
	case <-p.orphans:
	case <-p.life.Done():
	default:
		p.wg.Go(func() { p.poll(req.Clone(p.life)) })
	}
	p.mu.Unlock()
	select {
	case next := <-p.ready:
		return next()
	case <-req.Context().Done():
		p.orphans <- struct{}{}
		return nil, context.Cause(req.Context())
	}
}

// poll asks the Runtime API for events and completes them, until there is something for the runtime and it has taken it.
func (p *proxy) poll(req *http.Request) {
	for req.Body = http.NoBody; p.life.Err() == nil; { // no body: it may be sent again
		resp, err := p.transport.RoundTrip(req)
		inv := newInvocation(cmp.Or(resp, &http.Response{}))
		if err == nil && resp.StatusCode == http.StatusOK && p.serve(inv) || p.life.Err() != nil {
			continue // nobody is told that the Runtime API cannot be reached when the environment shuts down
		}
		select {
		case p.ready <- func() (*http.Response, error) { return resp, err }:
			return
		case <-time.After(time.Until(inv.deadline)): // there is no runtime, and this is nobody's event any more
		case <-p.life.Done():
		}
	}
}

// invocation is one event.
type invocation struct {
	id, key         string // Lambda-Runtime-Aws-Request-Id, and what tells it from another attempt at the same event
	start, deadline time.Time
	size            int64          // bytes of the event, and of the answer
	next            *http.Response // the Runtime API's
}

// newInvocation makes one of the Runtime API's answer to next.
func newInvocation(next *http.Response) *invocation {
	inv := &invocation{id: next.Header.Get("Lambda-Runtime-Aws-Request-Id"), start: time.Now(), deadline: time.Now().Add(noDeadline), next: next}
	deadline := next.Header.Get("Lambda-Runtime-Deadline-Ms")
	inv.key = inv.id + " " + next.Header.Get(idHeader) + " " + deadline
	if ms, err := strconv.ParseInt(deadline, 10, 64); err == nil {
		inv.deadline = time.UnixMilli(ms)
	}
	return inv
}

// serve completes an invocation, or returns false: then inv.next is for the runtime.
func (p *proxy) serve(inv *invocation) (completed bool) {
	if _, twice := p.served.LoadOrStore(inv.key, true); twice { // it is not to be answered twice
		inv.next.Body.Close()
		sleep(p.life, retryRefused)
		return true
	}
	defer p.served.Delete(inv.key)
	switch {
	case p.last.Load() == inv.key:
		sleep(p.life, min(retryRefused, time.Until(inv.deadline)/2))
		completed = p.fail(inv, &failure{"LiveLambda.AnswerRefused", "the Lambda Runtime API did not take the answer of this invocation"})
	case p.tunnel == nil:
		completed = p.offline(inv, errors.New("LIVE_LAMBDA_APPSYNC_HTTP_HOST is not set, or of no use"))
	case time.Since(time.Unix(0, p.missed.Load())).Abs() < missTimeout:
		completed = p.offline(inv, fmt.Errorf("an invocation waited in vain less than %s ago", missTimeout))
	default:
		completed = p.carry(inv)
	}
	if completed {
		inv.next.Body.Close()
		p.last.Store(inv.key)
		if inv.size > 1<<20 {
			debug.FreeOSMemory() // the environment may be frozen with what is left, for long
		}
	}
	return completed
}

// carry takes an invocation to the developer and completes it, or returns false: inv.next is for the runtime then.
func (p *proxy) carry(inv *invocation) (completed bool) {
	body := bytes.NewBuffer(make([]byte, 0, min(max(inv.next.ContentLength, 0), maxPayload)+bytes.MinRead))
	size, err := body.ReadFrom(inv.next.Body)
	if inv.size = size; err != nil {
		p.log.Error("cannot read the event; asking for it again", "request_id", inv.id, "error", err)
		inv.key = "" // it is not the last one
		return true
	}
	event := body.Bytes()
	if !utf8.Valid(event) || len(bytes.TrimSpace(event)) > 0 && !json.Valid(event) {
		inv.next.Body = io.NopCloser(bytes.NewReader(event))
		p.report(inv, "deployed", errors.New("the event is not JSON"))
		return false
	}
	left := time.Until(inv.deadline)
	margin := min(max(left/10, 250*time.Millisecond), time.Second) // to answer in, before Lambda kills the environment
	ctx, cancel := context.WithDeadlineCause(p.life, inv.deadline.Add(-margin), errors.New("shortly before its deadline"))
	defer cancel()
	// Half of a short timeout stays for the deployed code.
	c := p.tunnel.send(ctx, event, p.context(ctx, inv), p.cfg.accept, min(linkTimeout, left/2))
	a, err := c.wait()
	switch f, ended := err.(*failure); {
	case a == nil && ended:
		p.fail(inv, f)
		c.finish("timeout")
	case a == nil:
		inv.next.Body = io.NopCloser(bytes.NewReader(c.event))
		c.finish("deployed")
		p.missed.Store(time.Now().UnixNano())
		return p.offline(inv, err)
	case p.cfg.toRuntime && a.Type != "error":
		c.finish("answered")
		p.report(inv, "answer for the runtime", nil)
		inv.next.Header.Set("Content-Length", strconv.Itoa(len(a.data)))
		inv.next.ContentLength, inv.next.Body = int64(len(a.data)), io.NopCloser(bytes.NewReader(a.data))
		return false
	default:
		inv.size += int64(len(a.data))
		how, err := p.answer(inv, c, a)
		outcome := "answered"
		if f := c.broken.Load(); f != nil {
			outcome, err = "timeout", f
		}
		p.report(inv, how, err)
		c.finish(outcome)
	}
	return true
}

// report logs what became of an invocation.
func (p *proxy) report(inv *invocation, outcome string, reason error) {
	args := []any{"request_id", inv.id, "outcome", outcome, "ms", time.Since(inv.start).Milliseconds()}
	if reason != nil {
		args = append(args, "reason", reason)
	}
	p.log.Info("invocation", args...)
}

// offline does what LIVE_LAMBDA_OFFLINE says with an invocation that no local end has.
func (p *proxy) offline(inv *invocation, reason error) (completed bool) {
	if p.cfg.offlineError {
		return p.fail(inv, &failure{"LiveLambda.Offline", "no local end is there to answer: " + reason.Error()})
	}
	p.report(inv, "deployed", reason)
	return false
}

// fail completes the invocation with an error of this program's own.
func (p *proxy) fail(inv *invocation, f *failure) (completed bool) {
	io.Copy(io.Discard, inv.next.Body) // the Runtime API may want to be rid of it first
	p.answer(inv, nil, &part{Type: "error", ErrorType: f.errorType, data: errorJSON(f.errorType, "live-lambda: "+f.message)})
	p.report(inv, f.errorType, f)
	return true
}

// answer sends an answer to the Runtime API, where a has no data as the stream c, and says how. An error says that the API
// did not take it.
func (p *proxy) answer(inv *invocation, c *call, a *part) (string, error) {
	header, trailer, what, how, body := http.Header{}, http.Header(nil), "response", "answered", io.Reader(bytes.NewReader(a.data))
	set := func(name, value string) {
		if printable(value) {
			header.Set(name, value)
		}
	}
	set("Content-Type", a.Headers["Content-Type"])
	switch {
	case a.Type == "error":
		header = http.Header{"Content-Type": {"application/json"}, typeHeader: {"Runtime.Unknown"}}
		what, how = "error", "answered with an error"
		set(typeHeader, a.ErrorType)
		set(causeHeader, string(asciiJSON([]byte(a.XRayCause))))
	case a.data == nil:
		header.Set(modeHeader, "streaming")
		how, body, trailer = "answered with a stream", c, c.trailers
	}
	header[idHeader] = inv.next.Header[idHeader]
	// What is under way may go on until the deadline; what is late, or said while the environment shuts down, is tried
	// all the same.
	end := inv.deadline
	if soon := time.Now().Add(500 * time.Millisecond); end.Before(soon) || p.life.Err() != nil {
		end = soon
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(p.life), end)
	defer cancel()
	_, err := exchange(ctx, p.transport, http.MethodPost, "http://"+p.cfg.runtimeAPI+invocationPath+url.PathEscape(inv.id)+"/"+what, header, trailer, body, new(any))
	if err != nil {
		p.log.Error("the Runtime API did not take the answer", "request_id", inv.id, "error", err)
	}
	return how, err
}

// context encodes the context of a request: what the developer's end needs to know of the invocation.
func (p *proxy) context(ctx context.Context, inv *invocation) []byte {
	h, c := inv.next.Header, maps.Clone(p.cfg.function)
	c["tenant_id"] = h.Get("Lambda-Runtime-Aws-Tenant-Id")
	maps.DeleteFunc(c, func(_ string, value any) bool { return value == "" }) // what is not known
	c["request_id"], c["deadline_ms"] = inv.id, inv.deadline.UnixMilli()
	c["invoked_function_arn"], c["trace_id"] = h.Get("Lambda-Runtime-Invoked-Function-Arn"), h.Get("Lambda-Runtime-Trace-Id")
	for key, name := range map[string]string{"identity": "Lambda-Runtime-Cognito-Identity", "client_context": "Lambda-Runtime-Client-Context"} {
		if value := h.Get(name); json.Valid([]byte(value)) && utf8.ValidString(value) && strings.HasPrefix(strings.TrimSpace(value), "{") {
			c[key] = json.RawMessage(value)
		}
	}
	if env, ok := c["environment"].(map[string]string); ok && env["AWS_ACCESS_KEY_ID"] == "" { // SnapStart: not in the environment
		if k, err := p.tunnel.api.credentials(ctx); err == nil {
			env = maps.Clone(env)
			env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env["AWS_SESSION_TOKEN"] = k.accessKeyID, k.secretAccessKey, k.sessionToken
			c["environment"] = env
		}
	}
	encoded, _ := json.Marshal(c) // strings, numbers and valid JSON always marshal
	return encoded
}
