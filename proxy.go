package main

// proxy.go knows HTTP and invocations: the Runtime API proxy that the function's runtime talks to, and what
// becomes of one invocation. Requests of the runtime come in; the real Runtime API's responses, or events, go
// out to it. An event goes on to tunnel.go, and its answer from there to the real Runtime API.
//
// Goroutines: net/http's, one for each request; one for each call of next to the Runtime API (poll), which
// outlives the runtime's call if the runtime goes away; and one for each copy. stop waits for the latter two.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
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

// retryRefused is the time before an event whose answer was not taken is tried again.
const retryRefused = time.Second

// proxy stands between the runtime and the Runtime API.
type proxy struct {
	config
	log       *slog.Logger
	transport http.RoundTripper
	tunnel    *tunnel         // nil: there is no AppSync API to use
	life      context.Context // of polls and copies: ends with the execution environment
	end       context.CancelCauseFunc
	ready     chan next      // from the polls to whichever of the runtime's calls of next takes it
	wg        sync.WaitGroup // of polls and copies
	// when the deployed code got an event last, for want of a local end: Unix milliseconds; 0: never
	deployed atomic.Int64

	// guards the following; and life ends under it, so that no poll begins after stop
	sync.Mutex
	orphans int             // polls that no call of the runtime waits for
	served  map[string]bool // keys of the invocations that are under way: two polls may get the same one
	last    string          // key of the invocation that was completed last
}

// next is what a call of next gets.
type next struct {
	resp *http.Response
	err  error
	gone chan bool // told by the call that takes it: whether the runtime went away in that instant
}

// newProxy returns a proxy that forwards over transport. Its invocations end with ctx, or by stop.
func newProxy(
	ctx context.Context, cfg config, transport http.RoundTripper, t *tunnel, log *slog.Logger) *proxy {
	p := &proxy{
		config: cfg, log: log, transport: transport, tunnel: t,
		ready: make(chan next), served: map[string]bool{},
	}
	p.life, p.end = context.WithCancelCause(ctx)
	return p
}

// stop ends the invocations that are under way, because the execution environment shuts down. When it returns
// their callers and local ends have been told.
func (p *proxy) stop() {
	p.Lock()
	p.end(&failure{"LiveLambda.NoAnswer", "the execution environment shut down before there was an answer"})
	p.Unlock()
	p.wg.Wait()
}

// handler forwards everything unchanged, in both directions. It sends requests through p.RoundTrip, which
// keeps the events back that go to AppSync.
func (p *proxy) handler() http.Handler {
	reverse := &httputil.ReverseProxy{
		Transport:     p,
		FlushInterval: -1, // at once
		ErrorLog:      slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		ErrorHandler:  p.unreachable,
		Rewrite:       p.rewrite,
		BufferPool:    make(buffers, 1),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// net/http adds none of its own if there is an entry.
		header := w.Header()
		header["Date"], header["Content-Type"] = nil, nil
		reverse.ServeHTTP(w, r)
	})
}

// buffers keeps what bodies are copied through, instead of 32 kB of garbage for each.
type buffers chan []byte

func (b buffers) Get() []byte {
	select {
	case buffer := <-b:
		return buffer
	default:
		return make([]byte, 32<<10)
	}
}

func (b buffers) Put(buffer []byte) {
	select {
	case b <- buffer:
	default:
	}
}

// rewrite directs a request to the Runtime API and leaves the rest as it is.
func (p *proxy) rewrite(r *httputil.ProxyRequest) {
	in, out := r.In, r.Out
	if in.Trailer == nil {
		in.Trailer = http.Header{} // some senders announce none
	}
	// These are the very maps of the request that came in: trailers are filled while the body is read.
	out.Header = in.Header
	out.Trailer = in.Trailer
	out.Host = ""
	out.URL.Scheme = "http"
	out.URL.Host = p.runtimeAPI
	out.URL.Opaque = "" // else "GET a:http://host/" would be a request for host
	out.URL.RawQuery = in.URL.RawQuery
}

// unreachable answers a request that did not get to the Runtime API, if the runtime is still there.
func (p *proxy) unreachable(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return
	}
	p.log.Error("cannot reach the Runtime API", "endpoint", p.runtimeAPI, "error", err)
	w.WriteHeader(http.StatusBadGateway)
	w.Write(errorJSON("LiveLambda.RuntimeAPI", "live-lambda cannot reach the Runtime API at "+p.runtimeAPI))
}

// RoundTrip sends a request to the Runtime API. The runtime's call of next is held until there is something
// for it. There are as many polls as calls of the runtime: a poll whose call has gone serves the call that
// comes next.
func (p *proxy) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	held := req.Method == "GET" && req.URL.Path == nextPath && (p.tunnel != nil || p.offlineError)
	if !held {
		return p.transport.RoundTrip(req)
	}
	if req.Body != nil {
		// net/http looks whether the runtime is there only once the body is read
		io.Copy(io.Discard, req.Body)
	}
	p.Lock()
	switch {
	case p.life.Err() != nil:
	case p.orphans > 0:
		p.orphans--
	default:
		p.wg.Go(func() { p.poll(req.Clone(p.life)) })
	}
	p.Unlock()
	select {
	case n := <-p.ready:
		gone := ctx.Err() != nil
		n.gone <- gone
		if !gone {
			return n.resp, n.err
		}
	case <-ctx.Done():
	}
	p.Lock()
	defer p.Unlock()
	p.orphans++
	return nil, context.Cause(ctx)
}

// poll asks the Runtime API for events and completes them, until there is something for the runtime and it
// has taken it.
func (p *proxy) poll(req *http.Request) {
	req.Body = http.NoBody // so that it may be sent again
	for p.life.Err() == nil {
		resp, err := p.transport.RoundTrip(req)
		inv := newInvocation(cmp.Or(resp, &http.Response{}))
		if err == nil && resp.StatusCode == 200 && p.serve(inv) {
			continue
		}
		if p.offer(next{resp: resp, err: err, gone: make(chan bool, 1)}, inv.deadline) {
			return
		}
	}
}

// offer hands n to a call of the runtime, and returns false if none has taken it until the deadline: then it
// is nobody's any more. While the environment shuts down it hands out nothing: no runtime needs to hear that
// the Runtime API cannot be reached.
func (p *proxy) offer(n next, deadline time.Time) (taken bool) {
	for p.life.Err() == nil {
		select {
		case p.ready <- n:
			gone := <-n.gone
			if !gone {
				return true
			}
		case <-time.After(time.Until(deadline)):
			if n.resp != nil {
				n.resp.Body.Close()
			}
			return false
		case <-p.life.Done():
		}
	}
	return false
}

// invocation is one event on its way.
type invocation struct {
	requestID string
	key       string // tells it from another attempt at the same event
	start     time.Time
	deadline  time.Time
	size      int            // bytes of the event, and of the answer
	next      *http.Response // the Runtime API's, with the event
}

// newInvocation makes an invocation of what the Runtime API has answered to next.
func newInvocation(next *http.Response) *invocation {
	now := time.Now()
	deadline := next.Header.Get("Lambda-Runtime-Deadline-Ms")
	inv := &invocation{
		requestID: next.Header.Get("Lambda-Runtime-Aws-Request-Id"),
		start:     now,
		deadline:  now.Add(noDeadline),
		next:      next,
	}
	inv.key = inv.requestID + " " + next.Header.Get(idHeader) + " " + deadline
	ms, err := strconv.ParseInt(deadline, 10, 64)
	if err == nil {
		inv.deadline = time.UnixMilli(ms)
	}
	return inv
}

// serve completes an invocation, or returns false: then inv.next is for the runtime.
func (p *proxy) serve(inv *invocation) (completed bool) {
	p.Lock()
	twice := p.served[inv.key]
	again := p.last == inv.key
	p.served[inv.key] = true
	p.Unlock()
	if twice { // it is not to be answered twice
		inv.next.Body.Close()
		sleep(p.life, retryRefused)
		return true
	}
	key := inv.key
	switch {
	case again:
		sleep(p.life, min(retryRefused, time.Until(inv.deadline)/2))
		completed = p.fail(inv, &failure{"LiveLambda.AnswerRefused",
			"the Lambda Runtime API did not take the answer of this invocation"})
	case time.Now().After(p.until): // by the wall clock
		if p.tunnel != nil {
			p.tunnel.retire()
		}
		p.report(inv, "deployed", errors.New("LIVE_LAMBDA_UNTIL has passed, or is no time"))
	case p.tunnel == nil:
		completed = p.offline(inv, errors.New("LIVE_LAMBDA_APPSYNC_HTTP_HOST is not set, or of no use"))
	default:
		completed = p.call(inv)
	}
	p.Lock()
	delete(p.served, key)
	if completed {
		p.last = inv.key
	}
	p.Unlock()
	if completed {
		inv.next.Body.Close()
		if inv.size > 1<<20 {
			debug.FreeOSMemory() // the environment may be frozen with what is left, for long
		}
	}
	return completed
}

// call takes an invocation to the developer and completes it, or returns false: inv.next is for the runtime
// then.
func (p *proxy) call(inv *invocation) (completed bool) {
	event, err := readEvent(inv.next)
	inv.size = len(event)
	if err != nil {
		p.log.Error("cannot read the event; asking for it again", "request_id", inv.requestID, "error", err)
		inv.key = "" // when it comes again, it is not taken for one whose answer was refused
		return true
	}
	channel, err := p.destination(event)
	if err != nil {
		inv.give(event)
		p.report(inv, "deployed", err)
		return false
	}
	left := time.Until(inv.deadline)
	// The rest is kept to answer in, before Lambda kills the environment.
	end := inv.deadline.Add(-min(max(left/10, 250*time.Millisecond), time.Second))
	ctx, cancel := context.WithDeadlineCause(p.life, end, errors.New("shortly before its deadline"))
	defer cancel()
	// If there is no link, half of a short timeout stays for the deployed code.
	c := &call{
		channel: channel, event: event, context: p.context(ctx, inv, end), copied: p.mirror, accept: p.accept,
		offline: min(linkTimeout, left/2)}
	if p.mirror {
		inv.give(event)
		p.copy(inv, c)
		return false
	}
	p.tunnel.send(ctx, c)
	defer c.finish()
	a, err := c.wait()
	var failed *failure
	switch {
	case errors.As(err, &failed):
		return p.fail(inv, failed)
	case err != nil:
		inv.give(c.event)
		return p.offline(inv, err)
	case p.toRuntime && !a.isError:
		// The answer takes the place of the event, with the invocation's own headers.
		inv.next.Header.Set("Content-Length", strconv.Itoa(a.size))
		inv.next.Body = io.NopCloser(a.body)
		p.report(inv, "runtime", nil)
		return false
	}
	p.complete(inv, c, a)
	return true
}

// destination is the channel that an event's request goes to. An error says why the deployed code gets it
// instead.
func (p *proxy) destination(event []byte) (channel string, err error) {
	stage := p.api.stage
	if p.api.route != "" {
		stage = routeOf(event, p.api.route)
		if stage == "" {
			return "", errors.New("the event has no token of LIVE_LAMBDA_ROUTE")
		}
	}
	if !isJSON(event) {
		return "", errors.New("the event is not JSON")
	}
	return p.api.requests(stage), nil
}

// copy sends a copy of an event beside the deployed code, which does not wait for it.
func (p *proxy) copy(inv *invocation, c *call) {
	p.tunnel.send(p.life, c)
	p.wg.Go(func() {
		_, err := c.wait()
		c.finish()
		if err == context.Canceled { // it is out
			p.report(inv, "mirrored", nil)
		} else {
			p.report(inv, "deployed", err)
		}
	})
}

// give has the runtime get an event.
func (inv *invocation) give(event []byte) { inv.next.Body = io.NopCloser(bytes.NewReader(event)) }

// readEvent reads the event out of what the Runtime API has answered to next.
func readEvent(next *http.Response) ([]byte, error) {
	// Buffer.Grow would clear the memory as well, which takes as long as the reading.
	body := bytes.NewBuffer(make([]byte, 0, min(max(next.ContentLength, 0), maxPayload)+bytes.MinRead))
	_, err := body.ReadFrom(next.Body)
	return body.Bytes(), err
}

// isJSON reports whether an event can travel as JSON. An empty one can: as null.
func isJSON(event []byte) bool {
	return utf8.Valid(event) && (len(bytes.TrimSpace(event)) == 0 || json.Valid(event))
}

// complete completes the invocation with a local end's answer.
func (p *proxy) complete(inv *invocation, c *call, a *answer) {
	outcome := "answered"
	if a.isError {
		outcome = "error"
	}
	if a.size < 0 {
		outcome = "stream"
	}
	inv.size += a.size
	err := p.post(inv, a)
	if failed := c.failed(); failed != nil {
		err = failed
	}
	if err != nil {
		outcome = "failed"
	}
	p.report(inv, outcome, err)
}

// report logs what became of an invocation. outcome is one of: answered, error and stream, as a local end
// answered; runtime, if the runtime got its answer; deployed, if the deployed code runs; mirrored, if a copy
// went out besides; failed, if the caller gets an error of this program's own, or not what the local
// end answered.
func (p *proxy) report(inv *invocation, outcome string, reason error) {
	args := []any{"request_id", inv.requestID, "outcome", outcome, "ms", time.Since(inv.start).Milliseconds()}
	if failed := (*failure)(nil); errors.As(reason, &failed) {
		args = append(args, "error_type", failed.errorType)
	}
	if reason != nil {
		args = append(args, "reason", reason)
	}
	p.log.Info("invocation", args...)
}

// offline does what LIVE_LAMBDA_OFFLINE says with an invocation that no local end has.
func (p *proxy) offline(inv *invocation, reason error) (completed bool) {
	if p.offlineError {
		return p.fail(
			inv, &failure{"LiveLambda.Offline", "no local end is there to answer: " + reason.Error()})
	}
	p.report(inv, "deployed", reason)
	p.deployed.Store(time.Now().UnixMilli())
	return false
}

// fail completes the invocation with an error of this program's own.
func (p *proxy) fail(inv *invocation, f *failure) (completed bool) {
	io.Copy(io.Discard, inv.next.Body) // the Runtime API may want to be rid of it first
	p.post(inv, &answer{
		isError:   true,
		errorType: f.errorType,
		body:      bytes.NewReader(errorJSON(f.errorType, "live-lambda: "+f.message))})
	p.report(inv, "failed", f)
	return true
}

// post sends an answer to the Runtime API. An error says that the API did not take it, and has been logged.
func (p *proxy) post(inv *invocation, a *answer) error {
	path := "/response"
	header := http.Header{}
	setHeader(header, "Content-Type", a.contentType)
	if a.isError {
		path = "/error"
		header = http.Header{"Content-Type": {"application/json"}, typeHeader: {"Runtime.Unknown"}}
		setHeader(header, typeHeader, a.errorType)
		setHeader(header, causeHeader, a.xrayCause)
	}
	if a.size < 0 {
		header.Set(modeHeader, "streaming")
	}
	header[idHeader] = inv.next.Header[idHeader]
	// What is under way may go on until the deadline. What is late, or said while the environment shuts down,
	// is tried all the same.
	end := inv.deadline
	soon := time.Now().Add(500 * time.Millisecond)
	if end.Before(soon) || p.life.Err() != nil {
		end = soon
	}
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	var resp *http.Response
	req, err := http.NewRequestWithContext(ctx, "POST",
		"http://"+p.runtimeAPI+invocationPath+url.PathEscape(inv.requestID)+path, a.body)
	if err == nil {
		req.Header, req.Trailer = header, a.trailer
		resp, err = roundTrip(p.transport, req, new(any))
	}
	switch {
	case err == nil:
	case resp != nil && resp.StatusCode == http.StatusGone: // Managed Instances go on after a timeout
		p.log.Warn("the answer came after the invocation's timeout", "request_id", inv.requestID)
	default:
		p.log.Error("the Runtime API did not take the answer", "request_id", inv.requestID, "error", err)
	}
	return err
}

// context encodes the context of a request: what the developer's end needs to know of the invocation. An
// answer counts until end: who stops by the clock has to stop by that one.
func (p *proxy) context(ctx context.Context, inv *invocation, end time.Time) []byte {
	h := inv.next.Header
	c := maps.Clone(p.function)
	c["tenant_id"] = h.Get("Lambda-Runtime-Aws-Tenant-Id")
	maps.DeleteFunc(c, func(_ string, value any) bool { return value == "" }) // what is not known
	c["request_id"] = inv.requestID
	c["deadline_ms"] = end.UnixMilli()
	if p.accept > 0 {
		c["accept_until_ms"] = time.Now().Add(p.accept).UnixMilli()
	}
	if p.mirror {
		c["mirror"] = true
	}
	if ms := p.deployed.Load(); ms > 0 && p.api.route == "" { // else it may have been for another stage
		c["deployed_ms"] = ms
	}
	c["invoked_function_arn"] = h.Get("Lambda-Runtime-Invoked-Function-Arn")
	c["trace_id"] = h.Get("Lambda-Runtime-Trace-Id")
	for key, value := range map[string]string{
		"identity":       h.Get("Lambda-Runtime-Cognito-Identity"),
		"client_context": h.Get("Lambda-Runtime-Client-Context"),
	} {
		if isJSON([]byte(value)) && strings.HasPrefix(strings.TrimSpace(value), "{") {
			c[key] = json.RawMessage(value)
		}
	}
	env, forwarded := c["environment"].(map[string]string)
	if forwarded && env["AWS_ACCESS_KEY_ID"] == "" { // SnapStart: the keys are not in the environment
		env = maps.Clone(env)
		p.tunnel.api.addKeys(ctx, env)
		c["environment"] = env
	}
	encoded, _ := json.Marshal(c) // strings, numbers and valid JSON always marshal
	return encoded
}
