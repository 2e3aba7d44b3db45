package main

// proxy.go knows HTTP and invocations: the Runtime API proxy that the function's runtime talks to, and what becomes of
// one invocation. Requests of the runtime come in; the real Runtime API's answers, or an event, go out. An event goes on
// to appsync.go and its answer to the real Runtime API.
//
// Goroutines: net/http's, one for each request, and one for each invocation under way, which outlives the runtime's
// request where the runtime goes away.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
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
	"time"
	"unicode/utf8"
)

// The Runtime API's paths and headers.
const (
	nextPath       = "/2018-06-01/runtime/invocation/next"
	invocationPath = "/2018-06-01/runtime/invocation/"
	modeHeader     = "Lambda-Runtime-Function-Response-Mode"
	typeHeader     = "Lambda-Runtime-Function-Error-Type"
	bodyHeader     = "Lambda-Runtime-Function-Error-Body"
	causeHeader    = "Lambda-Runtime-Function-Xray-Error-Cause"
	idHeader       = "Lambda-Runtime-Invocation-Id"
)

const (
	linkTimeout   = 5 * time.Second        // for a connection to AppSync, before the invocation is offline
	missTimeout   = 10 * time.Second       // after an invocation was offline, in which the next ones do not wait
	goneTimeout   = 15 * time.Second       // without a word from the local end that accepted
	lastChance    = 500 * time.Millisecond // for an answer that is late, or the last
	retryRefused  = time.Second            // before an event is taken again that the Runtime API did not let us answer
	noDeadline    = 15 * time.Minute       // where an event names none: the longest timeout a function can have
	largeEvent    = 1 << 20                // bytes from which on memory is given back after an invocation
	maxHeaderText = 64 << 10               // bytes of a header value from a local end
)

// proxy stands between the runtime and the Runtime API.
type proxy struct {
	cfg       config
	log       *slog.Logger
	transport http.RoundTripper
	tunnel    *tunnel         // nil: there is no AppSync API to use
	life      context.Context // of the invocations, which outlive the runtime's requests: ends with the environment
	wg        sync.WaitGroup

	mu     sync.Mutex
	open   map[string]*invocation // under way, or waiting for the runtime to take them
	last   string                 // key of the invocation completed last
	ended  bool                   // no more invocations are taken
	missed time.Time              // when an invocation last waited in vain, by the wall clock
}

// function completes what is known of the function.
func (p *proxy) function(fn function) {
	p.cfg.function.Handler = fn.Handler
	if fn.Name != "" {
		p.cfg.function.FunctionName, p.cfg.function.FunctionVersion = fn.Name, fn.Version
	}
}

// handler forwards everything unchanged, in both directions; the way there is p itself, a RoundTripper that keeps back
// the events that go to AppSync.
func (p *proxy) handler() http.Handler {
	reverse := &httputil.ReverseProxy{
		Transport:     p,
		FlushInterval: -1, // at once
		ErrorLog:      slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		ErrorHandler:  p.unreachable,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", p.cfg.runtimeAPI, ""
			r.Out.URL.Opaque = "" // "GET a:http://host/" is not passed on as a request for host
			r.Out.URL.RawQuery = r.In.URL.RawQuery
			if r.In.Trailer == nil {
				r.In.Trailer = http.Header{} // some senders announce none
			}
			r.Out.Trailer = r.In.Trailer // the same map: it is filled while the body is read
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if v, ok := r.In.Header[name]; ok {
					r.Out.Header[name] = v
				}
			}
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reverse.ServeHTTP(unadorned{w}, r) })
}

// unadorned sends no header of net/http's own where the Runtime API sent none.
type unadorned struct{ http.ResponseWriter }

func (w unadorned) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w unadorned) WriteHeader(status int) {
	for _, name := range []string{"Date", "Content-Type"} {
		w.Header()[name] = w.Header()[name] // net/http adds what has no entry, an empty one is enough
	}
	w.ResponseWriter.WriteHeader(status)
}

// unreachable answers the runtime where the Runtime API did not.
func (p *proxy) unreachable(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the runtime has gone
	}
	p.log.Error("cannot reach the Runtime API", "endpoint", p.cfg.runtimeAPI, "error", err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadGateway)
	w.Write(errorJSON("LiveLambda.RuntimeAPI", "live-lambda cannot reach the Runtime API at "+p.cfg.runtimeAPI))
}

// RoundTrip sends a request to the Runtime API. The runtime's call of next is held: each event that AppSync answers is
// completed and the next one asked for on the runtime's behalf, until there is one for the runtime.
func (p *proxy) RoundTrip(req *http.Request) (*http.Response, error) {
	ours := req.Method == http.MethodGet && req.URL.Path == nextPath && (p.tunnel != nil || p.cfg.offlineError)
	for {
		resp, err := p.transport.RoundTrip(req)
		if err != nil || !ours || resp.StatusCode != http.StatusOK {
			return resp, err
		}
		inv, err := p.receive(resp)
		if inv == nil {
			return resp, err
		}
		select {
		case <-inv.decided:
		case <-req.Context().Done():
		}
		if req.Context().Err() != nil {
			return nil, context.Cause(req.Context())
		}
		if resp := p.take(inv); resp != nil {
			return resp, nil
		}
	}
}

// invocation is one event and what becomes of it.
type invocation struct {
	id       string // Lambda-Runtime-Aws-Request-Id
	key      string // what tells it from another attempt at the same event
	deadline time.Time
	start    time.Time
	next     *http.Response // the Runtime API's, its body read
	event    []byte

	decided    chan struct{}  // closed when it is completed, or forRuntime is set
	forRuntime *http.Response // what the runtime gets for its call of next; nil: the invocation is completed
}

// receive makes an invocation of the Runtime API's answer to next and starts it; where a runtime that has gone left it
// under way, that one is returned. It returns nil where the answer is for the runtime as it is.
func (p *proxy) receive(resp *http.Response) (*invocation, error) {
	h := resp.Header
	inv := &invocation{id: h.Get("Lambda-Runtime-Aws-Request-Id"), start: time.Now(), next: resp, decided: make(chan struct{})}
	inv.key = inv.id + " " + h.Get(idHeader) + " " + h.Get("Lambda-Runtime-Deadline-Ms")
	inv.deadline = inv.start.Add(noDeadline)
	if ms, err := strconv.ParseInt(h.Get("Lambda-Runtime-Deadline-Ms"), 10, 64); err == nil {
		inv.deadline = time.UnixMilli(ms)
	}
	p.mu.Lock()
	earlier, again := p.open[inv.key], p.last == inv.key
	skip := time.Now().Round(0).Sub(p.missed).Abs() < missTimeout && !again
	deployed := skip && !p.cfg.offlineError || p.ended
	if earlier == nil && !deployed {
		p.open[inv.key] = inv
		p.wg.Add(1)
	}
	p.mu.Unlock()
	switch {
	case earlier != nil:
		resp.Body.Close()
		return earlier, nil
	case deployed:
		p.report(inv, "deployed", errSkipped)
		return nil, nil
	}
	event := bytes.NewBuffer(make([]byte, 0, max(resp.ContentLength, 0)+bytes.MinRead))
	_, err := event.ReadFrom(resp.Body)
	resp.Body.Close()
	if err != nil {
		p.take(inv)
		close(inv.decided) // whoever has got the same event asks for it again
		p.wg.Done()
		return nil, fmt.Errorf("read the event: %w", err)
	}
	inv.event = event.Bytes()
	resp.Body = io.NopCloser(event)
	go func() {
		defer p.wg.Done()
		switch {
		case again:
			p.refusedAgain(inv)
		case skip:
			p.offline(inv, errSkipped)
		default:
			p.carry(inv)
		}
		if inv.forRuntime == nil {
			p.completed(inv)
			if len(inv.event) > largeEvent {
				inv.event, inv.next = nil, nil
				debug.FreeOSMemory() // the environment may be frozen with what is left, for long
			}
		}
		close(inv.decided)
	}()
	return inv, nil
}

// wait waits for the invocations under way. No more are taken then: they are for the runtime.
func (p *proxy) wait() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.wg.Wait()
}

// completed notes that an invocation is over.
func (p *proxy) completed(inv *invocation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, inv.key)
	p.last = inv.key
}

// take returns what the runtime gets of an invocation, to one call of next alone; nil: nothing, or not any more.
func (p *proxy) take(inv *invocation) *http.Response {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[inv.key] != inv {
		return nil
	}
	delete(p.open, inv.key)
	return inv.forRuntime
}

var errSkipped = fmt.Errorf("an invocation waited in vain less than %s ago", missTimeout)

// refusedAgain handles an event that the Runtime API hands out again although it has been answered: it did not take
// the answer.
func (p *proxy) refusedAgain(inv *invocation) {
	select {
	case <-time.After(min(retryRefused, time.Until(inv.deadline)/2)):
	case <-p.life.Done():
	}
	p.fail(inv, "LiveLambda.AnswerRefused", "the Lambda Runtime API did not take the answer of this invocation")
}

// report logs what became of an invocation.
func (p *proxy) report(inv *invocation, outcome string, reason error) {
	args := []any{"request_id", inv.id, "outcome", outcome, "ms", time.Since(inv.start).Milliseconds()}
	if reason != nil {
		args = append(args, "reason", reason)
	}
	p.log.Info("invocation", args...)
}

// carry takes an invocation to the developer and completes it, or hands it to the runtime.
func (p *proxy) carry(inv *invocation) {
	event := inv.event
	if len(bytes.TrimSpace(event)) == 0 {
		event = []byte("null")
	}
	left := time.Until(inv.deadline)
	margin := min(max(left/10, 250*time.Millisecond), time.Second) // to answer in, before Lambda kills the environment
	ctx, cancel := context.WithDeadline(p.life, inv.deadline.Add(-margin))
	defer cancel()
	switch {
	case p.tunnel == nil:
		p.offline(inv, errors.New("LIVE_LAMBDA_APPSYNC_HTTP_HOST is not set, or of no use"))
		return
	case !json.Valid(event) || !utf8.Valid(event):
		p.log.Warn("the event is not JSON; it goes to the deployed code", "request_id", inv.id)
		p.deploy(inv, errors.New("the event is not JSON"))
		return
	}
	// Half of a short timeout stays for the deployed code.
	if err := p.tunnel.ready(ctx, min(linkTimeout, left/2)); ctx.Err() != nil {
		p.fail(inv, "LiveLambda.NoAnswer", "the invocation's deadline came before a connection to AppSync")
		return
	} else if err != nil {
		p.miss(inv, err)
		return
	}
	c := p.tunnel.send(ctx, event, p.context(ctx, inv))
	switch out := p.await(ctx, inv, c); {
	case out.offline != nil:
		c.finish("deployed")
		p.miss(inv, out.offline)
	case out.answer == nil:
		p.fail(inv, out.errorType, out.message)
		c.finish("timeout")
	case p.cfg.toRuntime && out.answer.errorType == "":
		c.finish("answered")
		p.handOver(inv, out.answer)
	default:
		c.finish(p.complete(ctx, inv, c, out.answer))
	}
}

// outcome is what came of waiting: an answer, a reason to go without one, or an error.
type outcome struct {
	answer             *answer
	offline            error
	errorType, message string
}

// await waits until something decides about the invocation. ctx ends shortly before the invocation's deadline.
func (p *proxy) await(ctx context.Context, inv *invocation, c *call) outcome {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var noLink time.Time // since when there is none
	for {
		sent, heard, answer, err := c.look()
		limited := p.cfg.acceptTimeout > 0 && !sent.IsZero() // a large request takes its time to go out
		l, why, changed := p.tunnel.current()
		due := inv.deadline // of what has to be looked at next
		switch now := time.Now(); {
		case answer != nil:
			return outcome{answer: answer}
		case !heard.IsZero():
			if due = heard.Add(goneTimeout); !now.Before(due) {
				return outcome{errorType: "LiveLambda.Gone", message: fmt.Sprintf("the local end accepted the invocation and then was not heard of for %s", goneTimeout)}
			}
		case err != nil:
			return outcome{offline: err}
		case limited && !now.Before(sent.Add(p.cfg.acceptTimeout)):
			return outcome{offline: fmt.Errorf("no local end accepted within %s", p.cfg.acceptTimeout)}
		case l == nil && refused(why):
			return outcome{offline: why}
		case l == nil && !noLink.IsZero() && !now.Before(noLink.Add(linkTimeout)):
			return outcome{offline: fmt.Errorf("no connection to AppSync for %s", linkTimeout)}
		default:
			if limited {
				due = sent.Add(p.cfg.acceptTimeout)
			}
			if l != nil {
				noLink = time.Time{}
			} else if noLink.IsZero() {
				noLink = now
			}
			if lost := noLink.Add(linkTimeout); l == nil && lost.Before(due) {
				due = lost
			}
		}
		timer.Reset(time.Until(due))
		select {
		case <-c.news:
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			return outcome{errorType: "LiveLambda.NoAnswer", message: p.noAnswer(inv, heard.IsZero())}
		}
	}
}

// noAnswer says what was waited for when the time was up.
func (p *proxy) noAnswer(inv *invocation, unaccepted bool) string {
	waited := time.Since(inv.start).Round(100 * time.Millisecond)
	switch {
	case p.life.Err() != nil:
		return "the execution environment shut down while a local end was waited for"
	case unaccepted:
		return fmt.Sprintf("no local end accepted the invocation within %s, shortly before its deadline; is `live-lambda local` running?", waited)
	}
	return fmt.Sprintf("the local end accepted the invocation but did not answer within %s, shortly before its deadline", waited)
}

// miss notes that an invocation waited in vain: for a while the next ones do not.
func (p *proxy) miss(inv *invocation, reason error) {
	p.mu.Lock()
	p.missed = time.Now().Round(0)
	p.mu.Unlock()
	p.offline(inv, reason)
}

// offline does what LIVE_LAMBDA_OFFLINE says with an invocation that no local end has.
func (p *proxy) offline(inv *invocation, reason error) {
	if p.cfg.offlineError {
		p.fail(inv, "LiveLambda.Offline", "no local end is there to answer: "+reason.Error())
		return
	}
	p.deploy(inv, reason)
}

// deploy hands the event to the runtime just as it came.
func (p *proxy) deploy(inv *invocation, reason error) {
	p.report(inv, "deployed", reason)
	inv.forRuntime = inv.next
}

// handOver gives the runtime an answer in place of the event.
func (p *proxy) handOver(inv *invocation, a *answer) {
	p.report(inv, "answer for the runtime", nil)
	inv.forRuntime = inv.next
	inv.forRuntime.Header.Set("Content-Length", strconv.FormatInt(a.size, 10))
	inv.forRuntime.ContentLength, inv.forRuntime.Body = a.size, io.NopCloser(a.body)
}

// fail completes the invocation with an error of this program's own.
func (p *proxy) fail(inv *invocation, errorType, message string) {
	header := http.Header{"Content-Type": {"application/json"}, typeHeader: {errorType}}
	body := errorJSON(errorType, "live-lambda: "+message)
	p.post(inv, "error", header, bytes.NewReader(body), int64(len(body)))
	p.report(inv, errorType, errors.New(message))
}

// complete completes the invocation with a local end's answer and says how that went, answered or timeout. ctx ends
// shortly before the invocation's deadline.
func (p *proxy) complete(ctx context.Context, inv *invocation, c *call, a *answer) string {
	header := http.Header{}
	if a.errorType != "" {
		header.Set("Content-Type", "application/json")
		header.Set(typeHeader, "Runtime.Unknown")
		if printable(a.errorType) {
			header.Set(typeHeader, a.errorType)
		}
		if cause := []byte(a.xrayCause); json.Valid(cause) && utf8.Valid(cause) && len(cause) <= maxHeaderText {
			header.Set(causeHeader, string(asciiJSON(nil, cause)))
		}
		err := p.post(inv, "error", header, a.body, a.size)
		if a.errorType == tooLargeType {
			err = cmp.Or(err, errTooBig)
		}
		p.report(inv, "answered with an error", err)
		return "answered"
	}
	if t := a.headers["Content-Type"]; t != "" && printable(t) {
		header.Set("Content-Type", t)
	}
	if !a.stream {
		p.report(inv, "answered", p.post(inv, "response", header, a.body, a.size))
		return "answered"
	}
	header.Set(modeHeader, "streaming")
	s := &answerStream{call: c, end: ctx.Done(), trailer: http.Header{typeHeader: nil, bodyHeader: nil}}
	err := p.post(inv, "response", header, s, -1)
	if s.broken == nil {
		p.report(inv, "answered with a stream", err)
		return "answered"
	}
	p.report(inv, "answered with a stream that broke", s.broken)
	return "timeout"
}

// answerStream is the body of a streamed answer on its way to the Runtime API.
type answerStream struct {
	call    *call
	rest    []byte
	size    int
	end     <-chan struct{} // the deadline is near, or the environment shuts down
	trailer http.Header     // filled at the end of a stream that broke
	broken  error           // why this end broke it
}

// Read returns io.EOF where the local end has ended the stream, and where the stream has to be given up.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
func (s *answerStream) Read(b []byte) (int, error) {
	for len(s.rest) == 0 {
		data, ended, trailers, heard := s.call.read()
		s.size += len(data)
		switch {
		case s.size > maxStream:
			return 0, s.breakOff(tooLargeType, fmt.Sprintf("the stream is larger than %d bytes", maxStream))
		case len(data) > 0:
			s.rest = data
			continue
		case ended:
			for name, value := range trailers {
				if (name == typeHeader || name == bodyHeader) && printable(value) {
					s.trailer.Set(name, value)
				}
			}
			return 0, io.EOF
		}
		select {
		case <-s.call.more:
		case <-time.After(time.Until(heard.Add(goneTimeout))):
			if _, _, _, again := s.call.read(); again.Equal(heard) {
				return 0, s.breakOff("LiveLambda.Gone", fmt.Sprintf("the local end was not heard of for %s", goneTimeout))
			}
		case <-s.end:
			return 0, s.breakOff("LiveLambda.NoAnswer", "the local end did not end the stream in time, shortly before the invocation's deadline")
		}
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// breakOff ends the stream as a runtime does whose handler fails in the middle.
func (s *answerStream) breakOff(errorType, message string) error {
	s.broken = errors.New(message)
	s.trailer.Set(typeHeader, errorType)
	s.trailer.Set(bodyHeader, base64.StdEncoding.EncodeToString(errorJSON(errorType, "live-lambda: "+message)))
	return io.EOF
}

// post sends an answer of size bytes (-1: unknown) to the Runtime API. An error says that the API did not take it.
func (p *proxy) post(inv *invocation, what string, header http.Header, body io.Reader, size int64) error {
	// What is under way may go on until the deadline; what is late, or said while the environment shuts down, is tried
	// all the same.
	end := inv.deadline
	if soon := time.Now().Add(lastChance); end.Before(soon) || p.life.Err() != nil {
		end = soon
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(p.life), end)
	defer cancel()
	url := "http://" + p.cfg.runtimeAPI + invocationPath + url.PathEscape(inv.id) + "/" + what
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return err
	}
	req.Header, req.ContentLength = header, size
	if size == 0 {
		req.Body = http.NoBody
	}
	if id := inv.next.Header.Get(idHeader); id != "" {
		header.Set(idHeader, id)
	}
	if s, ok := body.(*answerStream); ok {
		req.Trailer = s.trailer
	}
	resp, err := p.transport.RoundTrip(req)
	if err == nil {
		err = readAnswer(resp, what, nil)
	}
	if err != nil {
		p.log.Error("the Runtime API did not take the answer", "request_id", inv.id, "error", err)
	}
	return err
}

// printable reports whether s may be the value of a header.
func printable(s string) bool {
	return len(s) <= maxHeaderText && strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// eventContext is the context of a request: what the developer's end needs to know of the invocation.
type eventContext struct {
	RequestID          string            `json:"request_id"`
	FunctionName       string            `json:"function_name"`
	FunctionVersion    string            `json:"function_version"`
	InvokedFunctionARN string            `json:"invoked_function_arn"`
	MemorySizeMB       int               `json:"memory_size_mb"`
	Region             string            `json:"aws_region"`
	DeadlineMs         int64             `json:"deadline_ms"`
	TraceID            string            `json:"trace_id"`
	Handler            string            `json:"handler"`
	LogGroupName       string            `json:"log_group_name,omitempty"`
	LogStreamName      string            `json:"log_stream_name,omitempty"`
	Identity           json.RawMessage   `json:"identity,omitempty"`
	ClientContext      json.RawMessage   `json:"client_context,omitempty"`
	TenantID           string            `json:"tenant_id,omitempty"`
	Environment        map[string]string `json:"environment,omitempty"`
}

// context encodes the invocation's context.
func (p *proxy) context(ctx context.Context, inv *invocation) []byte {
	h, c := inv.next.Header, p.cfg.function
	c.RequestID, c.DeadlineMs = inv.id, inv.deadline.UnixMilli()
	c.InvokedFunctionARN = h.Get("Lambda-Runtime-Invoked-Function-Arn")
	c.TraceID = h.Get("Lambda-Runtime-Trace-Id")
	c.TenantID = h.Get("Lambda-Runtime-Aws-Tenant-Id")
	c.Identity = object(h.Get("Lambda-Runtime-Cognito-Identity"))
	c.ClientContext = object(h.Get("Lambda-Runtime-Client-Context"))
	if c.Environment != nil && c.Environment["AWS_ACCESS_KEY_ID"] == "" { // SnapStart: not in the environment
		if k, err := p.tunnel.api.credentials(ctx); err == nil {
			c.Environment = maps.Clone(c.Environment)
			c.Environment["AWS_ACCESS_KEY_ID"], c.Environment["AWS_SECRET_ACCESS_KEY"], c.Environment["AWS_SESSION_TOKEN"] = k.accessKeyID, k.secretAccessKey, k.sessionToken
		}
	}
	encoded, _ := json.Marshal(c) // strings, numbers and valid JSON always marshal
	return encoded
}

// object is a header's value where that is a JSON object, as AWS documents it.
func object(value string) json.RawMessage {
	if !json.Valid([]byte(value)) || !utf8.ValidString(value) || !strings.HasPrefix(strings.TrimSpace(value), "{") {
		return nil
	}
	return json.RawMessage(value)
}
