package main

// tunnel.go knows a call to a developer: one invocation's event goes out as a request over whichever link to
// AppSync there is, and the answer of a local end comes in. proxy.go begins a call with tunnel.send, waits
// for its answer with call.wait, and ends it with call.finish; appsync.go carries the messages.
//
// A call is always in one phase. Each phase waits for one thing, for so long at most:
//
//	phase      waits for                         at most                            and then the invocation
//	waiting    a link                            5 s, or half of what time is left  is offline
//	preparing  subscriptions for bare results    5 s, and time for its size         is offline
//	sending    AppSync to take the request       (together with preparing)          is offline
//	sent       a local end to accept it          the accept timeout, if one is set  is offline
//	accepted   the answer, or more of a stream   15 s without a word                fails: LiveLambda.Gone
//	answered   proxy.go to be done with it
//
// If AppSync refuses to connect or to take the request, the invocation is offline at once, unless a local end
// has it. Shortly before the invocation's deadline, and when the execution environment shuts down, it fails
// in any phase: LiveLambda.NoAnswer. If the link is lost, a call that nobody has accepted waits again; one
// that is accepted stays so. Either way the request goes out again over the next link, because answers come
// back over the link that asked.
//
// After a call that was offline the next ones are not begun for a while (missed): their callers would wait in
// vain too. A local end says when it comes and when it goes, which ends such a while and begins one.
//
// Goroutines: one for each call and link publishes the request (call.carry) and, for servers of another make,
// one subscribes (bare.go). finish waits for both. They and the link's reader change a call under the
// tunnel's mutex.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	linkTimeout   = 5 * time.Second        // for a connection to AppSync, and for it to take a request
	repeatRequest = 2 * time.Second        // without `accepted`, before a request is published again
	retryPublish  = 500 * time.Millisecond // after AppSync has not taken a request
	quietTimeout  = 6 * time.Second        // without a frame while an invocation is out, before a probe
	missTimeout   = 10 * time.Second       // after an invocation was offline: the next ones do not wait
	byePause      = 250 * time.Millisecond // after a bye, for the hello of one that was started anew
	maxPattern    = 140                    // bytes of a pattern of functions; names have 64 at most
	maxAudiences  = 1000                   // that are remembered; callers choose them (LIVE_LAMBDA_ROUTE)
	// kinds of messages that are not valid, each of which is logged once
	maxSaid = 100
)

// tunnel keeps one link to AppSync, sends requests over it and takes in their answers.
type tunnel struct {
	api      *appsync
	function string // its name: local ends say which functions they serve
	buffered bool   // streamed answers are collected, because the runtime gets them whole
	stop     func() // ends run: set before it begins

	sync.Mutex       // guards the following, and what the calls and the link say it guards
	link       *link // nil while there is none that delivers
	err        error // why there is none
	calls      map[uint64]*call
	lastN      uint64               // of a call
	begun      int                  // calls that have begun and have not been finished
	audiences  map[string]*audience // by channel of requests
	said       map[string]bool      // what was wrong with messages, as it was logged
}

// audience is what is known of the local ends that hear one channel of requests.
type audience struct {
	heard  string    // sender of the one that was heard last
	hello  time.Time // when one said hello last
	missed time.Time // when a call was offline last, or that local end went, by the wall clock
}

// link is a connection to AppSync whose answers arrive. The tunnel's mutex guards its fields.
type link struct {
	*session
	t         *tunnel
	versioned bool // a local end of version 1 has been heard, and no bare result has answered a call since
	ambiguous bool // a bare result may belong to a call that is over
}

// newTunnel returns a tunnel that has no link yet; run makes one.
func newTunnel(api *appsync, function string, buffered bool) *tunnel {
	return &tunnel{
		api: api, function: function, buffered: buffered,
		err: errors.New("still connecting"), calls: map[uint64]*call{},
		audiences: map[string]*audience{}, said: map[string]bool{}}
}

// audience returns what is known of a channel's local ends. The tunnel is locked.
func (t *tunnel) audience(channel string) *audience {
	if len(t.audiences) == maxAudiences {
		clear(t.audiences)
	}
	a := cmp.Or(t.audiences[channel], &audience{})
	t.audiences[channel] = a
	return a
}

// run keeps a link up until ctx is done.
func (t *tunnel) run(ctx context.Context) {
	t.api.run(ctx, t.use, func(err error) { t.set(nil, err) })
}

// retire ends run, and the link with it, unless a call may need it.
func (t *tunnel) retire() {
	t.Lock()
	defer t.Unlock()
	if t.begun == 0 {
		t.stop()
	}
}

// use makes a link of a session that has connected, and returns when the session has ended. up tells whether
// the link has delivered.
func (t *tunnel) use(s *session) (up bool, err error) {
	// a GraphQL API has no wildcards, which bare results need
	l := &link{session: s, t: t, ambiguous: s.graphql}
	err = l.listen(l.ctx, ackTimeout, l.name+"/*", l.name+"/probe", l.receiveEvent)
	if err != nil {
		return false, err
	}
	// With Go's usual 100 an event and an answer of 6 MB take more memory, and the function pays for it.
	debug.SetGCPercent(50)
	t.set(l, nil)
	l.log.Info("connected", "host", l.realtime.Host, "ms", time.Since(l.born).Milliseconds())
	// No invocation waits for this one.
	err = l.subscribe(l.ctx, ackTimeout, l.presenceChannel(), l.receivePresence)
	if err != nil && l.ctx.Err() == nil {
		l.log.Warn("local ends that come or go are not heard", "error", err)
	}
	<-l.ctx.Done()
	return true, context.Cause(l.ctx)
}

// set tells the calls that there is a link, or with nil and an error that there is none.
func (t *tunnel) set(l *link, err error) {
	t.Lock()
	defer t.Unlock()
	t.link, t.err = l, err
	for _, c := range t.calls {
		c.relink()
	}
}

// receiveEvent takes an event from the link's answers: as a part, which may come with what is wrong with it,
// or with no part as a bare result. The link's reader calls it.
func (l *link) receiveEvent(event string, p *part, err error) {
	t := l.t
	t.Lock()
	defer t.Unlock()
	if p == nil {
		l.receiveBare(event)
		return
	}
	n, _ := strconv.ParseUint(strings.TrimPrefix(p.RequestID, l.name+"/"), 10, 64)
	c := t.calls[n]
	switch {
	case err != nil || p.Type == "probe":
	case p.RequestID != l.callID(n) || n > t.lastN:
		err = errors.New("its request is unknown")
	case c != nil: // else the call is over
		err = c.take(l, p)
	}
	if err != nil {
		l.dropped(p, err)
	}
}

// dropped logs that a message from outside is not valid, once for each reason. The tunnel is locked.
func (l *link) dropped(p *part, err error) {
	reason := err.Error()
	if l.t.said[reason] || len(l.t.said) == maxSaid {
		return
	}
	l.t.said[reason] = true
	l.log.Warn("dropped a message that is not valid", "type", firstLine(p.Type), "error", err)
}

// receivePresence takes what a local end says of itself. The link's reader calls it.
func (l *link) receivePresence(event string) {
	p, err := l.sealer.parse(event)
	t := l.t
	t.Lock()
	defer t.Unlock()
	if err != nil {
		l.dropped(p, err)
		return
	}
	if p == nil || p.Sender == "" || !isSegment(p.Sender) || !p.serves(t.function) {
		return
	}
	if p.Stage != l.stage && (l.route == "" || !isSegment(p.Stage)) {
		return // it hears other requests. If events tell the stage, it may have any.
	}
	channel := l.requests(p.Stage)
	a := t.audience(channel)
	switch {
	case p.Type == "hello" && p.Ask == "":
		*a = audience{heard: p.Sender, hello: time.Now()}
		l.versioned = true
	case p.Type == "bye" && p.Sender == a.heard:
		said := time.Now()
		time.AfterFunc(byePause, func() { t.leave(channel, p.Sender, said) })
	}
}

// leave takes the bye of a local end, if that is still the one that was heard last.
func (t *tunnel) leave(channel, sender string, said time.Time) {
	t.Lock()
	defer t.Unlock()
	a := t.audience(channel)
	if sender != a.heard || a.hello.After(said) {
		return
	}
	a.miss()
	for _, c := range t.calls {
		if c.channel == channel {
			c.giveUp(errors.New("the local end has ended"))
		}
	}
}

// serves reports whether the local end that says p takes requests of a function.
func (p *part) serves(function string) bool {
	return len(p.Functions) == 0 || slices.ContainsFunc(p.Functions, func(pattern string) bool {
		if len(pattern) > maxPattern {
			return false // matching it may take long
		}
		matched, _ := path.Match(pattern, function) // a pattern that is none matches nothing
		return matched
	})
}

// miss notes that there is no local end now. The tunnel is locked.
func (a *audience) miss() { a.missed = time.Now().Round(0) }

// callID is the request ID of call n as it travels over l: LINK/N.
func (l *link) callID(n uint64) string { return fmt.Sprintf("%s/%d", l.name, n) }

// phase is what a call waits for: the table above.
type phase int

// The phases, in the order in which a call comes to them.
const (
	waiting phase = iota
	preparing
	sending
	sent
	accepted
	answered
)

// call is one invocation's request and its answer.
type call struct {
	channel string        // of the request
	copied  bool          // it goes out once, over a link that is there, within its rate; there is no answer
	accept  time.Duration // how long a request that is out waits for a local end to accept it; 0: for ever
	event   []byte        // valid JSON in UTF-8, or empty; nil once it will not go out again
	context []byte        // valid JSON in UTF-8: an object
	offline time.Duration // how long it waits for a link

	t       *tunnel
	n       uint64
	ctx     context.Context // ends with the call; that of a copy with context.Canceled, once it is out
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup // of the goroutines that publish and subscribe
	start   time.Time
	changed chan struct{} // has news for whoever waits for the call; has room for one

	// The tunnel's mutex guards the following, and event, context and offline.
	phase   phase
	since   time.Time // when the time of the phase began
	refusal error     // why AppSync did not take the request the last time
	link    *link     // over which it goes out; nil: none
	taken   bool      // AppSync has taken the request on this link
	inParts bool      // it went out in parts, which only a local end of version 1 understands
	heardOn *link     // over which a local end of version 1 was heard last; nil: none has been
	// closed when its own subscription on this link delivers or has failed; nil: it has none
	own      chan struct{}
	heldBack *time.Timer // of the bare result that waits whether a local end accepts
	parts    map[string]*joiner
	stream   *joiner // the one of parts that streams
	streamed int     // bytes of it that have been read
	broken   *failure
	trailer  http.Header // the answer's; Read may go on for a moment when the call is finished
	answer   *answer
}

// answer is what a local end has answered. Nobody has checked its texts.
type answer struct {
	isError     bool
	contentType string
	errorType   string
	xrayCause   string
	size        int         // bytes of body; -1: a stream
	body        io.Reader   // a stream's blocks until more of it has come
	trailer     http.Header // of a stream that broke; filled when its body has been read
}

// send begins a call, whose fields up to offline are set. The request goes out as often as it takes until
// finish is called, or not at all if that is in vain: then wait says why. ctx ends shortly before the
// invocation's deadline; its cause says so.
func (t *tunnel) send(ctx context.Context, c *call) *call {
	c.t, c.start = t, time.Now()
	c.accept = cmp.Or(c.accept, noDeadline)
	c.changed = make(chan struct{}, 1)
	c.parts = map[string]*joiner{}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	t.Lock()
	defer t.Unlock()
	sinceMiss := time.Since(t.audience(c.channel).missed).Abs() // the clock may be set back
	switch {
	case t.link == nil && c.copied:
		c.cancel(fmt.Errorf("no connection to AppSync: %w", t.err))
	case c.copied && t.link.unacked.Load() > maxPublish:
		c.cancel(errors.New("the copies before are still on their way"))
	case !c.copied && sinceMiss < missTimeout: // it would wait in vain too
		c.cancel(fmt.Errorf("there was no local end less than %s ago", missTimeout))
	}
	if t.link != nil && len(t.calls) == 0 && t.link.spent() { // it was frozen, or is near its end
		t.link.drop(errRetired)
		t.link, t.err = nil, errRetired
	}
	t.lastN++
	t.begun++
	c.n = t.lastN
	t.calls[c.n] = c
	c.enter(waiting)
	if c.ctx.Err() == nil {
		c.relink()
	}
	return c
}

// enter begins a phase, whose time counts from now. The tunnel is locked.
func (c *call) enter(p phase) {
	c.phase, c.since = p, time.Now()
	select {
	case c.changed <- struct{}{}:
	default: // there are news already
	}
}

// limit is how long the call may be in its phase, and what ends it then: a *failure, or why it is offline.
// Whoever waits for the call sees to it (until). The tunnel is locked.
func (c *call) limit() (time.Duration, error) {
	switch c.phase {
	case waiting:
		return c.offline, fmt.Errorf("no connection to AppSync within %s: %w", c.offline, c.t.err)
	case preparing, sending:
		return linkTimeout + transferTime(int64(len(c.event))),
			cmp.Or(c.refusal, errors.New("AppSync did not take the request"))
	case sent:
		// carry looks whether the link is alive before it ends the call. This is for when that takes too
		// long.
		return c.accept + linkTimeout, fmt.Errorf("no local end accepted within %s", c.accept)
	case accepted:
		return 15 * time.Second, &failure{"LiveLambda.Gone",
			"the local end accepted the invocation and then was not heard of for 15s"}
	}
	return noDeadline, nil
}

// giveUp ends the call as offline, unless a local end has it. The tunnel is locked.
func (c *call) giveUp(why error) {
	if c.phase >= accepted || c.ctx.Err() != nil {
		return
	}
	c.cancel(why)
	a := c.t.audience(c.channel)
	if c.start.After(a.hello) { // else a local end has come meanwhile, which the next one may reach
		a.miss()
	}
}

// relink sends the request over the tunnel's link, or has it wait for one. The tunnel is locked.
func (c *call) relink() {
	l := c.t.link
	c.link, c.taken, c.own, c.heldBack = l, false, nil, nil
	if l != nil {
		c.wg.Go(func() { c.carry(l) })
	}
	switch {
	case c.phase >= accepted: // repetition lets the local end answer over the new link
	case l != nil:
		c.refusal = nil
		c.enter(preparing)
	case errors.Is(c.t.err, errRefused):
		c.giveUp(c.t.err)
	case c.phase != waiting:
		// the request has been on its way, so this is worth more than half of the timeout
		c.offline = linkTimeout
		c.enter(waiting)
	}
}

// wait returns the answer once it is there or, if it is a stream, has begun. Otherwise it returns a *failure,
// or if nobody has accepted the invocation another error, which says why.
func (c *call) wait() (*answer, error) {
	c.t.Lock()
	defer c.t.Unlock()
	err := c.until(func() bool { return c.answer != nil })
	return c.answer, err
}

// until waits, with the tunnel unlocked, until done reports true. It returns nil then, or what over returns.
// It ends the call if a phase takes too long.
func (c *call) until(done func() bool) error {
	for !done() {
		limit, why := c.limit()
		left := time.Until(c.since.Add(limit))
		if left <= 0 {
			c.giveUp(why)
			c.cancel(why) // also if a local end has it
		}
		if err := c.over(); err != nil {
			return err
		}
		c.t.Unlock()
		select {
		case <-c.changed:
		case <-time.After(left):
		case <-c.ctx.Done():
		}
		c.t.Lock()
	}
	return nil
}

// over returns why the call has ended, nil if it has not. The tunnel is locked.
func (c *call) over() error {
	cause := context.Cause(c.ctx)
	if !errors.Is(c.ctx.Err(), context.DeadlineExceeded) {
		return cause
	}
	what := "no local end (is `live-lambda local` running?) accepted the invocation"
	if c.heardOn != nil {
		what = "the local end accepted the invocation but did not answer"
	}
	return &failure{"LiveLambda.NoAnswer", fmt.Sprintf("%s within %s, %s",
		what, time.Since(c.start).Round(100*time.Millisecond), cause)}
}

// Read reads a streamed answer. It ends when the local end has ended the stream, or if the call ends before:
// then with the trailers of a runtime whose handler fails in the middle.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
func (c *call) Read(b []byte) (n int, err error) {
	c.t.Lock()
	defer c.t.Unlock()
	// Look before taking: what is taken and then given up would be missing from a stream that ends as if it
	// were whole.
	err = c.until(c.stream.ready)
	if err == nil && !c.stream.ended() {
		err = c.over() // whoever reads slowly does not keep the call alive
	}
	if err == nil {
		n, err = c.stream.Read(b)
		c.streamed += n
	}
	if c.streamed > maxStream {
		n, err = 0, &failure{tooLargeType, fmt.Sprintf("the stream is larger than %d bytes", maxStream)}
	}
	trailers := c.stream.trailers
	if errors.As(err, &c.broken) {
		trailers = map[string]string{
			typeHeader: c.broken.errorType,
			bodyHeader: base64.StdEncoding.EncodeToString(
				errorJSON(c.broken.errorType, "live-lambda: "+c.broken.message)),
		}
		err = io.EOF
	}
	for name := range c.trailer {
		setHeader(c.trailer, name, trailers[name])
	}
	return n, err
}

// failed returns why this end has broken off the answer's stream, nil if it has not.
func (c *call) failed() *failure {
	c.t.Lock()
	defer c.t.Unlock()
	return c.broken
}

// carry publishes the request over l, and again as often as it takes, until l ends or the call.
func (c *call) carry(l *link) {
	if c.copied {
		events, _ := c.due(l)
		if events != nil { // else finish has been called
			c.cancel(l.publish(c.ctx, c.channel, events, optional))
		}
		return
	}
	c.t.prepare(c.ctx, l)
	for l.ctx.Err() == nil && c.ctx.Err() == nil {
		events, left := c.due(l)
		var err error
		switch {
		case events != nil:
			err = l.publish(c.ctx, c.channel, events, awaited)
		case left <= 0 || l.quiet() >= quietTimeout:
			// A link that has died unnoticed must not look like a local end that is not there.
			err = l.probe(c.ctx, l.name+"/probe", l.patience())
			if err == errNoProbe {
				l.drop(err)
			}
		}
		pause := c.settle(l, left, err)
		// What is on its way, `accepted` for instance, is heard before the link counts as quiet.
		sleep(c.ctx, min(pause, max(quietTimeout-l.quiet(), probeEvery)))
	}
}

// due returns the request's events if they are to be published now, else nil. left is how long a local end
// still has to accept the request, much if that does not end the call now.
func (c *call) due(l *link) (events iter.Seq[[]byte], left time.Duration) {
	c.t.Lock()
	defer c.t.Unlock()
	left = noDeadline
	if c.phase == sent {
		left = time.Until(c.since.Add(c.accept))
	}
	// A server that knows nothing of version 1 never accepts, and would run the handler for every repetition.
	understood := l.versioned || c.inParts || c.heardOn != nil
	again := understood && c.heardOn != l && left > 0 && l.quiet() < quietTimeout
	if c.event == nil || (c.taken && !again) {
		return nil, left
	}
	if c.phase == preparing {
		c.phase = sending // within the same time
	}
	events, c.inParts = c.request(l)
	return events, left
}

// settle draws the consequences of a publish or a probe. It returns how long to wait before the next one.
func (c *call) settle(l *link, left time.Duration, err error) time.Duration {
	c.t.Lock()
	defer c.t.Unlock()
	switch {
	case c.ctx.Err() != nil || l.ctx.Err() != nil:
		return 0
	case errors.Is(err, errRefused):
		c.giveUp(err)
	case err != nil:
		c.refusal = err
		l.log.Warn("AppSync did not take the request; trying again", "error", err)
		return retryPublish
	case !c.taken:
		c.taken = true
		if c.phase == sending {
			c.enter(sent)
			return min(repeatRequest, c.accept)
		}
	case left <= 0:
		_, why := c.limit()
		c.giveUp(why)
	}
	return min(repeatRequest, max(left, 0))
}

// request encodes the request for a link. It comes in parts if it is too large for one event. It also does if
// AppSync would parse it and write it anew, as it does with AWSJSON: numbers lose digits then. The tunnel is
// locked.
// https://docs.aws.amazon.com/appsync/latest/devguide/scalars.html
func (c *call) request(l *link) (events iter.Seq[[]byte], inParts bool) {
	callID, event := l.callID(c.n), c.event
	if len(bytes.TrimSpace(event)) == 0 {
		event = []byte("null")
	}
	pieces := [][]byte{
		[]byte(`{"request_id":"` + callID + `","event_payload":`), event,
		[]byte(`,"context":`), c.context,
		[]byte(`,"live_lambda":1}`),
	}
	if len(event) < maxEvent && !l.graphql {
		whole := make([]byte, 0, len(event)+2*len(c.context))
		for _, piece := range pieces {
			whole = appendASCII(whole, piece)
		}
		if l.sealer != nil {
			whole = l.sealer.seal(callID, whole, nil)
		}
		if escapedLen(whole) <= maxEvent {
			return slices.Values([][]byte{whole}), false
		}
	}
	return part{Type: "request", RequestID: callID, sealer: l.sealer}.compressed(pieces...), true
}

// take takes a part that a local end sent for this call. It returns an error if the part is not valid. The
// tunnel is locked.
func (c *call) take(l *link, p *part) error {
	switch p.Type {
	case "accepted", "response", "error":
	default:
		return errors.New("its type is unknown")
	}
	j := c.parts[p.Sender]
	late := c.ctx.Err() != nil || c.copied
	another := c.stream != nil && c.stream != j
	surplus := j == nil && len(c.parts) == 2 // of more local ends than two no parts are kept
	if late || another || surplus {
		return nil
	}
	c.hear(l, p.Sender)
	if p.Type == "accepted" || c.phase == answered {
		return nil
	}
	if j == nil {
		j = newJoiner(maxPayload + maxEvent)
		c.parts[p.Sender] = j
	}
	err := j.add(p)
	switch {
	case c.stream != nil && err == errTooBig:
		return nil // it is too far ahead of the stream; it will be repeated
	case c.stream != nil:
		return err // nil: the stream has grown by this part
	case err != nil && err != errTooBig:
		return err
	case p.Index == 0 && p.Type == "response" && p.Headers[modeHeader] == "streaming" && !c.t.buffered:
		j.limit = streamWindow
		c.stream = j
		c.answer = newAnswer(p, c, -1)
		c.trailer = http.Header{typeHeader: nil, bodyHeader: nil}
		c.answer.trailer = c.trailer
	case err != nil || j.complete():
		return c.assemble(j, err)
	}
	return nil
}

// hear notes that a local end of version 1 is at work on the call. The tunnel is locked.
func (c *call) hear(l *link, sender string) {
	if printable(sender) && len(sender) <= 50 {
		if c.heardOn == nil {
			// No other local end is to run it when it goes out again. %q escapes what JSON does, in ASCII.
			c.context = fmt.Appendf(nil, `%s,"accepted_by":%q}`, c.context[:len(c.context)-1], sender)
		}
		c.t.audience(c.channel).heard = sender
	}
	l.versioned, c.heardOn = true, l
	if c.phase != answered {
		c.enter(accepted)
	}
}

// reply makes a whole message the answer, and ends the wait for it. p is its first part. The tunnel is
// locked.
func (c *call) reply(p *part, data []byte) {
	c.answer = newAnswer(p, bytes.NewReader(data), len(data))
	c.enter(answered)
}

// newAnswer makes an answer of a message's first part and its body.
func newAnswer(p *part, body io.Reader, size int) *answer {
	return &answer{
		isError:     p.Type == "error",
		contentType: p.Headers["Content-Type"],
		errorType:   p.ErrorType,
		xrayCause:   string(asciiJSON([]byte(p.XRayCause))),
		size:        size,
		body:        body,
	}
}

// assemble makes the answer of its parts, or if err is errTooBig what Lambda itself answers then. If the
// parts do not fit together, their repetition gets another chance. The tunnel is locked.
func (c *call) assemble(j *joiner, err error) error {
	first := j.first
	var data []byte
	if err == nil {
		data, err = j.message(maxPayload)
	}
	brokenBy := j.trailers[typeHeader]
	switch {
	case err == errTooBig:
		first = &part{Type: "error", ErrorType: tooLargeType}
		data = errorJSON(tooLargeType, // Lambda's own words; the number is maxPayload
			"Response payload size exceeded maximum allowed payload size (6291556 bytes).")
	case err != nil:
		clear(c.parts)
		return fmt.Errorf("its parts do not fit together: %w", err)
	case brokenBy != "": // a stream that broke while it was collected
		first = &part{Type: "error", ErrorType: brokenBy}
		data, _ = base64.StdEncoding.DecodeString(j.trailers[bodyHeader]) // whatever of it can be read
	}
	c.event = nil // it will not go out again: that much memory less
	c.reply(first, data)
	return nil
}

// finish ends the call. A local end that has accepted is told whether its answer counts: it has been told
// when finish returns, as far as a write to the connection tells.
func (c *call) finish() {
	defer func() { // the link is needed until the local end has been told
		c.t.Lock()
		c.t.begun--
		c.t.Unlock()
	}()
	c.cancel(nil)
	c.t.Lock()
	delete(c.t.calls, c.n)
	l := cmp.Or(c.link, c.heardOn)
	outcome := "answered"
	if c.answer == nil || c.broken != nil {
		outcome = "timeout"
	}
	if l != nil && c.answer == nil {
		l.ambiguous = true
	}
	// No bare result counts any more. The timer of one that is held back, and a subscription that failed, may
	// keep c for a while, but not what is large.
	c.link, c.event, c.answer, c.parts = nil, nil, nil, nil
	c.t.Unlock()
	c.wg.Wait()
	if c.heardOn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// Without a wait: the environment may be frozen before AppSync answers.
	l.publish(ctx, c.channel, slices.Values([][]byte{
		part{
			Type: "done", RequestID: c.heardOn.callID(c.n), Outcome: outcome, sealer: l.sealer,
		}.event(),
	}), unawaited)
}
