package main

// tunnel.go knows what becomes of a call to a developer, over whichever link to AppSync there is.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// tunnel is the extension's side: it keeps one link to AppSync, sends requests over it and takes in their answers. It needs
// an api, an err for the time before the first link, and calls that is not nil.
type tunnel struct {
	api      *appsync
	buffered bool // streamed answers are collected

	mu    sync.Mutex
	link  *session // nil while there is none that delivers; err then says why
	err   error
	calls map[uint64]*call
	lastN uint64
}

// lock locks the tunnel and returns what unlocks it.
func (t *tunnel) lock() func() { t.mu.Lock(); return t.mu.Unlock }

// run keeps a link up until ctx is done.
func (t *tunnel) run(ctx context.Context) {
	t.api.run(ctx, func(ctx context.Context, l *session) (up bool, err error) {
		if err = l.listen(l.conn.ctx, ackTimeout, l.name+"/*", l.name+"/probe", func(event string, p *part, err error) { t.receive(l, event, p, err) }); err != nil {
			return false, err
		}
		debug.SetGCPercent(25) // with Go's usual 100 a 6 MB event and answer take twice the memory, and the function pays for it
		t.set(l, nil)
		t.api.log.Info("connected", "host", t.api.realtime.Host, "ms", time.Since(l.born).Milliseconds())
		<-l.conn.ctx.Done()
		return true, context.Cause(l.conn.ctx)
	}, func(err error) { t.set(nil, err) })
}

// set tells the calls that there is a link, or none.
func (t *tunnel) set(l *session, err error) {
	defer t.lock()()
	t.link, t.err = l, err
	for _, c := range t.calls {
		c.relink()
	}
}

// receive takes an event from the link's answers. It runs in the reader's goroutine.
func (t *tunnel) receive(l *session, event string, p *part, err error) {
	defer t.lock()()
	if p == nil { // a bare result counts only while it can be nobody else's
		if out := slices.DeleteFunc(slices.Collect(maps.Values(t.calls)), func(c *call) bool { return c.held }); len(out) == 1 && !l.ambiguous {
			out[0].takeBare(l, event, !l.versioned)
		}
		return
	}
	n, _ := strconv.ParseUint(strings.TrimPrefix(p.RequestID, l.name+"/"), 10, 64)
	switch c := t.calls[n]; {
	case err != nil, p.Type == "probe":
	case p.RequestID != l.id(n) || n > t.lastN:
		err = errors.New("its request is unknown")
	case c != nil:
		err = c.take(l, p)
	}
	if err != nil {
		t.api.log.Warn("dropped a message that is not valid", "type", firstLine(p.Type), "error", err)
	}
}

// id is the ID of request n, as it goes out over s.
func (s *session) id(n uint64) string { return s.name + "/" + strconv.FormatUint(n, 10) }

// call is one request and its answer.
type call struct {
	t              *tunnel
	n              uint64
	event, context []byte          // valid JSON in UTF-8
	ctx            context.Context // ends with the call
	cancel         context.CancelCauseFunc
	wg             sync.WaitGroup
	start          time.Time
	changed        chan struct{}           // has room for one
	trailers       http.Header             // of a streamed answer that broke
	broken         atomic.Pointer[failure] // why this end broke it

	// Under the tunnel's mu.
	link, heardOn *session        // over which it goes out; over which a local end was heard last
	own           context.Context // ends when it has a subscription of its own on that link; nil: it has asked for none
	accept        time.Duration   // to wait for `accepted` once the request is out
	held          bool            // it is not out yet: subscriptions come first
	timer, bare   *time.Timer     // of what the call waits for: it ends the call with why; of a bare result, the one that is held back
	why           error
	parts         map[string]*joiner // of answers, by sender
	answer        *part              // its data whole, or nil: to be read as it comes
	stream        *joiner            // the one that streams
	size          int                // of the stream, in bytes
}

// send sends a request with an invocation's event and context, and goes on doing so as often as it takes until finish is
// called. ctx ends shortly before the invocation's deadline; its cause says so.
func (t *tunnel) send(ctx context.Context, event, eventContext []byte, accept, offline time.Duration) *call {
	c := &call{t: t, event: event, context: eventContext, accept: cmp.Or(accept, noDeadline), start: time.Now(), changed: make(chan struct{}, 1), parts: map[string]*joiner{}, timer: time.NewTimer(offline), trailers: http.Header{typeHeader: nil, bodyHeader: nil}}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	defer t.lock()()
	if t.link != nil && len(t.calls) == 0 && t.link.spent() { // it was frozen, or is near its end
		t.link.conn.fail(errRetired)
		t.link, t.err = nil, errRetired
	}
	t.lastN++
	c.n, t.calls[t.lastN] = t.lastN, c
	c.arm(offline, fmt.Errorf("no connection to AppSync within %s: %w", offline, t.err))
	c.relink()
	return c
}

// relink sends the request over the tunnel's link, or waits for one. The tunnel is locked.
func (c *call) relink() {
	l, lost := c.t.link, c.link != nil
	c.link, c.own, c.held, c.bare = l, nil, true, nil
	switch {
	case l != nil:
		c.wg.Go(func() { c.publish(l) })
		c.arm(linkTimeout+transferTime(int64(len(c.event))), errors.New("AppSync did not take the request"))
	case errors.Is(c.t.err, errRefused):
		c.arm(0, c.t.err)
	case lost:
		c.arm(linkTimeout, fmt.Errorf("no connection to AppSync for %s", linkTimeout)) // some local end may have it
	}
}

// arm has the call end with why after d, unless it is armed anew; once a local end has accepted, only with a *failure. The
// tunnel is locked.
func (c *call) arm(d time.Duration, why error) {
	if _, gone := why.(*failure); gone || c.heardOn == nil {
		c.timer.Stop()
		c.why, c.timer = why, time.AfterFunc(d, func() {
			defer c.t.lock()()
			if c.why == why { // not armed anew in this instant
				c.cancel(why)
			}
		})
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// wait returns the answer when it is there or, as a stream, has begun; without one a *failure where there will be none, or
// another error where the invocation is offline: nobody has accepted it.
func (c *call) wait() (_ *part, err error) {
	defer c.t.lock()()
	for c.answer == nil && err == nil {
		err = c.pause()
	}
	return c.answer, err
}

// pause unlocks the tunnel until the call has changed, and returns what over returns then.
func (c *call) pause() error {
	c.t.mu.Unlock()
	await(c.ctx, c.ctx, c.changed)
	c.t.mu.Lock()
	return c.over()
}

// over returns why there will be no answer, or no end of it; nil while the call goes on.
func (c *call) over() error {
	err := context.Cause(c.ctx)
	what := map[bool]string{false: "no local end (is `live-lambda local` running?) accepted the invocation", true: "the local end accepted the invocation but did not answer"}[c.heardOn != nil]
	if errors.Is(c.ctx.Err(), context.DeadlineExceeded) {
		err = &failure{"LiveLambda.NoAnswer", fmt.Sprintf("%s within %s, %s", what, time.Since(c.start).Round(100*time.Millisecond), err)}
	}
	return err
}

// Read reads a streamed answer. It ends where the local end has ended it and where it has to be given up: then with the
// trailers of a runtime whose handler fails in the middle.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
func (c *call) Read(b []byte) (n int, err error) {
	defer c.t.lock()()
	// Look before taking: what has been taken and then is given up would be missing in a stream that ends as if it were whole.
	for !c.stream.ready() && err == nil {
		err = c.pause()
	}
	if err == nil && !c.stream.ended() { // who reads slowly does not keep the call alive
		err = c.over()
	}
	if err == nil {
		n, err = c.stream.Read(b)
	}
	if c.size += n; c.size > maxStream {
		n, err = 0, &failure{tooLargeType, fmt.Sprintf("the stream is larger than %d bytes", maxStream)}
	}
	trailers := c.stream.trailers
	if f, ok := err.(*failure); ok {
		c.broken.Store(f)
		trailers = map[string]string{typeHeader: f.errorType, bodyHeader: base64.StdEncoding.EncodeToString(errorJSON(f.errorType, "live-lambda: "+f.message))}
		err = io.EOF
	}
	for name, value := range trailers {
		if _, known := c.trailers[name]; known && printable(value) {
			c.trailers.Set(name, value)
		}
	}
	return n, err
}

// publish publishes the request over l until l ends, or the call.
func (c *call) publish(l *session) {
	start := time.Now() // and once it is out, when it went out: a large request takes its time
	c.t.subscribe(c.ctx, l)
	var sent, inParts bool
	for l.conn.ctx.Err() == nil && c.ctx.Err() == nil {
		var events iter.Seq[[]byte]
		unlock := c.t.lock()
		pause, err := min(repeatRequest, time.Until(start.Add(c.accept))), error(nil)
		c.held = false
		// A server that knows nothing of version 1 never accepts, and would run the handler for every repetition.
		if c.event != nil && (!sent || pause > 0 && l.quiet() < quietTimeout && c.heardOn != l && (l.versioned || inParts || c.heardOn != nil)) {
			events, inParts = c.request(l)
		}
		unlock()
		switch {
		case events != nil:
			err = l.publish(c.ctx, c.t.api.requests, events, true)
		case pause <= 0 || l.quiet() >= quietTimeout: // what is on its way, an accepted say, comes before a probe
			if err = l.probe(c.ctx, l.name+"/probe", l.patience()); err == errNoProbe {
				l.conn.fail(err)
			}
		}
		unlock = c.t.lock()
		switch {
		case c.ctx.Err() != nil || l.conn.ctx.Err() != nil:
		case errors.Is(err, errRefused):
			c.arm(0, err)
		case err != nil:
			c.t.api.log.Warn("AppSync did not take the request; trying again", "error", err)
			if pause = retryPublish; !sent {
				c.arm(linkTimeout+transferTime(int64(len(c.event)))-time.Since(start), err)
			}
		case !sent:
			sent, start, pause = true, time.Now(), min(repeatRequest, c.accept)
			c.arm(c.accept+linkTimeout, fmt.Errorf("no local end accepted within %s", c.accept))
		case pause <= 0:
			c.arm(0, fmt.Errorf("no local end accepted within %s", c.accept))
		}
		unlock()
		sleep(c.ctx, min(pause, max(quietTimeout-l.quiet(), probeEvery)))
	}
}

// request encodes the request for a link: as one event, or in parts where it is too large for one, or would be parsed and
// written anew on its way, as AWSJSON is: numbers lose digits then. The tunnel is locked.
// https://docs.aws.amazon.com/appsync/latest/devguide/scalars.html
func (c *call) request(l *session) (events iter.Seq[[]byte], inParts bool) {
	pieces := [][]byte{[]byte(`{"request_id":"` + l.id(c.n) + `","event_payload":`), c.event, []byte(`,"context":`), c.context, []byte(`,"live_lambda":1}`)}
	if len(bytes.TrimSpace(c.event)) == 0 {
		pieces[1] = []byte("null")
	}
	if len(c.event) < maxEvent && !c.t.api.graphql {
		if event := asciiJSON(bytes.Join(pieces, nil)); escapedLen(event) <= maxEvent {
			return slices.Values([][]byte{event}), false
		}
	}
	return part{Type: "request", RequestID: l.id(c.n)}.compressed(pieces...), true
}

// take takes a part that a local end sent for this call. The tunnel is locked.
func (c *call) take(l *session, p *part) error {
	j := cmp.Or(c.parts[p.Sender], &joiner{limit: maxPayload + maxEvent})
	switch {
	case p.Type != "accepted" && p.Type != "response" && p.Type != "error":
		return errors.New("its type is unknown")
	case c.ctx.Err() != nil, c.stream != nil && c.stream != j, c.parts[p.Sender] == nil && len(c.parts) == 2:
		return nil // it comes too late, another local end's answer counts, or this is a third
	}
	if c.heardOn == nil && isSegment(p.Sender) { // no other one is to run it when it goes out again
		c.context = fmt.Appendf(slices.Clip(c.context[:len(c.context)-1]), `,"accepted_by":"%s"}`, p.Sender)
	}
	l.versioned, c.heardOn, c.accept = true, l, noDeadline
	c.arm(15*time.Second, &failure{"LiveLambda.Gone", "the local end accepted the invocation and then was not heard of for 15s"})
	if p.Type == "accepted" || c.stream == nil && c.answer != nil {
		return nil
	}
	c.parts[p.Sender] = j
	err := j.add(p)
	switch {
	case c.stream != nil && err == errTooBig: // what is too far ahead of a stream will be repeated
	case c.stream != nil, err != nil && err != errTooBig:
		return err
	case p.Index == 0 && p.Type == "response" && p.Headers[modeHeader] == "streaming" && !c.t.buffered:
		j.limit, c.stream, c.answer = streamWindow, j, &part{Headers: p.Headers}
	case err != nil || j.complete():
		return c.assemble(j, err)
	}
	return nil
}

// assemble makes an answer of its parts, or where err is errTooBig what Lambda itself answers then. Where they do not fit
// together repetition gets another chance. The tunnel is locked.
func (c *call) assemble(j *joiner, err error) error {
	c.event = nil // it will not go out again: that much memory less
	a := *j.first
	if err == nil {
		a.data, err = j.message(maxPayload)
	}
	switch errorType := j.trailers[typeHeader]; {
	case err == errTooBig:
		a = part{Type: "error", ErrorType: tooLargeType, data: errorJSON(tooLargeType, fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", maxPayload))}
	case err != nil:
		clear(c.parts)
		return fmt.Errorf("its parts do not fit together: %w", err)
	case errorType != "": // a stream that broke while it was collected
		body, _ := base64.StdEncoding.DecodeString(j.trailers[bodyHeader])
		a = part{Type: "error", ErrorType: errorType, data: body}
	}
	c.answer = &a
	return nil
}

// finish ends the call; outcome is answered, timeout or deployed. A local end that has accepted has been told when
// finish returns, as far as a write to the connection tells.
func (c *call) finish(outcome string) {
	c.cancel(nil)
	unlock := c.t.lock()
	c.timer.Stop()
	l := cmp.Or(c.link, c.heardOn)
	delete(c.t.calls, c.n)
	if l != nil && c.answer == nil {
		l.ambiguous = true
	}
	c.link, c.event, c.answer, c.parts = nil, nil, nil, nil // a subscription of its own keeps c for a while
	unlock()
	c.wg.Wait()
	if c.heardOn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// Without a wait: the environment may be frozen before AppSync answers.
		l.publish(ctx, l.api.requests, slices.Values([][]byte{part{Type: "done", RequestID: l.id(c.n), Last: true, Outcome: outcome}.encode(nil)}), false)
	}
}

// notify says on a channel with room for one that there is something new.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
