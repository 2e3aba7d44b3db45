//go:build !layer

package main

// local_subscriber.go is the way of a request from AppSync to a handler and of the reply back. Requests and
// what the extension says about them come in on the requests channel; `accepted` and the reply's parts go out
// on the channel that the request names. local_workers.go runs the handlers.
//
// Goroutines: the session's reader only queues what comes; one goroutine reads that; and each request has
// one, from its arrival until the extension says that it is over, or its deadline.

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// `accepted`, while a handler works; the extension gives up after 15 s
	acceptEvery = 5 * time.Second
	// and once so soon: where the first is lost, LIVE_LAMBDA_ACCEPT_TIMEOUT may end before the next
	acceptAgain  = 500 * time.Millisecond
	repeatAnswer = 2 * time.Second  // until the extension says that it has it
	maxLife      = 20 * time.Minute // of a request: Lambda's longest timeout and clocks that differ
	pingAfter    = 65 * time.Second // without a frame: AppSync sends one every 60 s
	pingEvery    = 5 * time.Second  // look for that; after a sleep of this machine, too
	maxContext   = 256 << 10        // bytes of a request message beside its event
	maxOpen      = 100              // requests in parts that are not whole
	maxOpenBytes = 64 << 20         // and bytes of their parts
	openLife     = time.Minute      // of one without a new part
	maxInbox     = 64 << 20         // bytes of messages that wait to be read
	maxKnown     = 100_000          // requests that are remembered, not to be run again
	// between publishes of one stream: leaves half the publish rate to others
	streamPause = 100 * time.Millisecond
	streamBatch = 40            // parts of a stream published together
	repairParts = 20            // of a stream that goes on, repeated each time
	repairBytes = 10 * partData // or less, where they are large
)

// Lambda streams the first 6 MB as fast as they come and the rest at 2 MB/s; more would pile up in the
// extension.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html#config-rs-bandwidth
const (
	streamBurst = 6 << 20
	streamRate  = 2 << 20
)

// subscriber is this end of the requests channel.
type subscriber struct {
	api    *appsync
	local  *local
	sender string // in every part from here: the extension keeps two local ends apart by it
	probe  string // request ID of a probe that shows that the subscription delivers
	wg     sync.WaitGroup
	ended  chan struct{} // a talk has ended
	woken  chan struct{} // inbox has something

	mu      sync.Mutex
	session *session      // nil while there is none
	changed chan struct{} // closed, and made anew, when session changes
	inbox   []string
	waiting int              // bytes in inbox
	talks   map[string]*talk // by channel name, all of each
	known   map[string]*talk // by AWS request ID and deadline, until the deadline
	purged  time.Time        // when known was last rid of those

	// The reading goroutine's alone.
	open     map[string]*openRequest
	reported map[string]bool // of what one line is enough
}

// talk is one request and what goes back for it.
type talk struct {
	q        *request
	deadline time.Time // q's, but not beyond maxLife
	again    chan struct{}

	// Under subscriber.mu.
	names    []string // request IDs that it is known by; the last is the channel to answer on
	repeated bool     // the request has come again
	moved    bool     // on another channel
	over     bool
}

// openRequest is a request in parts that is not whole yet.
type openRequest struct {
	*joiner
	latest time.Time
}

func newSubscriber(api *appsync, l *local) *subscriber {
	var name [8]byte
	rand.Read(name[:])
	sender := hex.EncodeToString(name[:])
	return &subscriber{api: api, local: l, sender: sender, probe: sender + "/probe",
		ended: make(chan struct{}, 1), woken: make(chan struct{}, 1), changed: make(chan struct{}),
		talks: map[string]*talk{},
		known: map[string]*talk{}, open: map[string]*openRequest{}, reported: map[string]bool{}}
}

// run serves requests until ctx is done.
func (s *subscriber) run(ctx context.Context) {
	s.wg.Go(func() { s.read(ctx) })
	s.api.run(ctx, func(conn *session) (bool, error) { return s.use(ctx, conn) }, func(error) {})
	s.wg.Wait()
}

// use subscribes over a new session and stays with it until it ends. AppSync confirms subscriptions before
// they deliver, and a request that nobody hears may never be repeated; so this end says that it is connected
// when a probe to a channel of its own, subscribed to after that of the requests, has come back.
func (s *subscriber) use(ctx context.Context, conn *session) (up bool, err error) {
	s.set(conn) // a request may come before its subscription is confirmed
	defer s.set(nil)
	if err := conn.subscribe(conn.ctx, ackTimeout, s.api.requests, s.receive); err != nil {
		return false, err
	}
	if err := conn.listen(
		conn.ctx, ackTimeout, s.probe, s.probe, func(string, *part, error) {}); err != nil &&
		err != errNoProbe {
		return false, err
	}
	s.local.term.note("connected to %s, waiting for invocations on %s", s.api.http.Host, s.api.requests)
	return true, s.watchOver(ctx, conn)
}

// watchOver returns when the session has ended. One that has been quiet for long, this machine having slept
// perhaps, has to show that it delivers.
func (s *subscriber) watchOver(ctx context.Context, conn *session) error {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-conn.ctx.Done():
			return context.Cause(conn.ctx)
		case <-ticker.C:
		}
		// by the wall clock: this machine may sleep
		if time.Now().Round(0).Sub(conn.born) > retireAfter && s.talking() == 0 {
			return errRetired
		}
		if conn.quiet() > pingAfter {
			if err := conn.probe(ctx, s.probe, publishTimeout); err != nil {
				return err
			}
		}
	}
}

func (s *subscriber) set(conn *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = conn
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *subscriber) talking() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, t := range s.known {
		if !t.over {
			n++
		}
	}
	return n
}

// receive is called by the session's reader and must not block.
func (s *subscriber) receive(event string) {
	s.mu.Lock()
	fits := s.waiting+len(event) <= maxInbox
	if fits {
		s.inbox = append(s.inbox, event)
		s.waiting += len(event)
	}
	s.mu.Unlock()
	if fits {
		notify(s.woken)
	} else {
		s.api.log.Warn("dropped a message: too many wait to be read")
	}
}

// read takes the messages from the inbox until ctx is done.
func (s *subscriber) read(ctx context.Context) {
	for {
		select {
		case <-s.woken:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		inbox := s.inbox
		s.inbox, s.waiting = nil, 0
		s.mu.Unlock()
		for _, event := range inbox {
			if err := s.take(ctx, event); err != nil {
				s.api.log.Warn("dropped a message that is not valid", "error", err)
			}
		}
	}
}

// take reads one message.
func (s *subscriber) take(ctx context.Context, event string) error {
	p, err := parsePart(event)
	switch {
	case err != nil:
		return err
	case p == nil:
		s.once("message of another version",
			"ignored messages that are not of version 1, as those of other layers")
		return nil
	case !validRequestID.MatchString(p.RequestID):
		return fmt.Errorf("its request ID %q is not LINK/N", firstLine(p.RequestID))
	}
	switch p.Type {
	case "":
		return s.request(ctx, p.RequestID, []byte(event))
	case "request":
		return s.part(ctx, p)
	case "done":
		s.done(p.RequestID, p.Outcome)
	}
	return nil
}

// validRequestID is what can follow /NAMESPACE/response/ in a channel's name.
// https://docs.aws.amazon.com/appsync/latest/eventapi/channel-namespaces.html
var validRequestID = regexp.MustCompile(
	`^[A-Za-z0-9]([A-Za-z0-9-]{0,48}[A-Za-z0-9])?(/[A-Za-z0-9]([A-Za-z0-9-]{0,48}[A-Za-z0-9])?){0,2}$`)

// once logs something that would come again and again.
func (s *subscriber) once(key, text string) {
	if !s.reported[key] && len(s.reported) < 100 {
		s.reported[key] = true
		s.local.term.note("%s", text)
	}
}

// part takes one part of a request.
func (s *subscriber) part(ctx context.Context, p *part) error {
	now := time.Now()
	size := 0
	oldest := ""
	for name, o := range s.open {
		if now.Sub(o.latest) > openLife {
			delete(s.open, name)
			continue
		}
		size += o.size
		if name != p.RequestID && (oldest == "" || o.latest.Before(s.open[oldest].latest)) {
			oldest = name
		}
	}
	o := s.open[p.RequestID]
	if oldest != "" && (o == nil && len(s.open) >= maxOpen || size+len(p.data) > maxOpenBytes) {
		delete(s.open, oldest) // it will be repeated, if it was one
		s.once("open", "dropped a request in parts that was not whole: too many at once")
	}
	if o == nil {
		o = &openRequest{joiner: newJoiner(maxPayload + maxContext)}
		s.open[p.RequestID] = o
	}
	o.latest = now
	if err := o.add(p); err != nil {
		delete(s.open, p.RequestID)
		return err
	}
	if !o.complete() {
		return nil
	}
	delete(s.open, p.RequestID)
	body, err := o.message(maxPayload + maxContext)
	if err != nil {
		return fmt.Errorf("a request in parts: %w", err)
	}
	return s.request(ctx, p.RequestID, body)
}

// request takes a whole request message, which came on the channel that name belongs to.
func (s *subscriber) request(ctx context.Context, name string, message []byte) error {
	m, err := parseRequest(message)
	if err != nil {
		return errors.New("a request with a field that is not of its type")
	}
	q, err := newRequestFrom(m.Event, m.Context)
	switch {
	case err != nil:
		return err
	case m.RequestID != name:
		return errors.New("a request whose parts name another")
	case string(m.Version) != "1":
		return errors.New("a request in parts that is not of version 1")
	case m.Context.AcceptedBy != "" && m.Context.AcceptedBy != s.sender:
		return nil // it comes again, for the local end that runs it, or did when it ended
	}
	if _, served := s.local.serves(m.Context.FunctionName); !served {
		s.once("function "+m.Context.FunctionName,
			"left alone: invocations of "+clip(m.Context.FunctionName, 64)+", which is not served here")
		return nil
	}
	if now := time.Now(); now.After(q.deadline) {
		s.once("deadline",
			fmt.Sprintf("left alone: %s %s, and what else comes after its deadline, here by %s; is this "+
				"machine's clock right?",
				nameText(q.context.FunctionName), short(q.id), durationText(now.Sub(q.deadline))))
		return nil
	}
	s.begin(ctx, name, q)
	return nil
}

// extensionRequest is what an extension asks for.
type extensionRequest struct {
	RequestID string          `json:"request_id"`
	Event     json.RawMessage `json:"event_payload"`
	Context   eventContext    `json:"context"`
	Version   json.RawMessage `json:"live_lambda"`
}

// parseRequest reads a request message. As an extension writes it the event stands between two marks, and
// then encoding/json does not go over it twice and copy it: with 6 MB that is the longest step of an
// invocation here.
func parseRequest(message []byte) (m extensionRequest, err error) {
	id, rest, _ := bytes.Cut(message, []byte(`,"event_payload":`))
	if i := bytes.LastIndex(rest, []byte(`,"context":{`)); i >= 0 && json.Valid(rest[:i]) {
		if json.Unmarshal(slices.Concat(id, rest[i:]), &m) == nil && m.Event == nil {
			m.Event = bytes.TrimSpace(rest[:i])
			return m, nil
		}
		m = extensionRequest{}
	}
	return m, json.Unmarshal(message, &m)
}

// eventContext is the context of a request: what the extension tells of the invocation.
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
	// the sender of the local end that has it, where it comes again
	AcceptedBy string `json:"accepted_by,omitempty"`
}

// newRequestFrom checks what came as an event and its context: nothing of it may break a line or a header.
func newRequestFrom(event []byte, c eventContext) (*request, error) {
	if event == nil {
		event = []byte("null")
	}
	if len(event) > maxPayload {
		return nil, errTooBig
	}
	for _, s := range []string{c.RequestID, c.FunctionName, c.FunctionVersion, c.InvokedFunctionARN, c.Region,
		c.TraceID, c.Handler,
		c.TenantID, c.LogGroupName, c.LogStreamName} {
		if s != "" && !printable(s) || len(s) > 2048 {
			return nil, errors.New("a request whose context has characters that do not belong there")
		}
	}
	if c.RequestID == "" || c.FunctionName == "" || c.DeadlineMs <= 0 {
		return nil, errors.New("a request without request_id, function_name or deadline_ms in its context")
	}
	for _, object := range []*json.RawMessage{&c.ClientContext, &c.Identity} {
		if string(*object) == "null" {
			*object = nil
		}
		if *object = asciiJSON(*object); len(*object) > maxHeaderText {
			return nil, errors.New("a request whose client context or identity is too large for a header")
		}
	}
	return newRequest(event, c), nil
}

// begin begins a talk about q, or goes on with the one about the same invocation: a handler never gets one
// twice.
func (s *subscriber) begin(ctx context.Context, name string, q *request) {
	// A retry of Lambda's has the same request ID and another deadline.
	key := q.id + " " + strconv.FormatInt(q.context.DeadlineMs, 10)
	s.mu.Lock()
	if t := s.known[key]; t != nil {
		t.repeat(s, name)
		s.mu.Unlock()
		return
	}
	if time.Since(s.purged) > openLife {
		s.purged = time.Now()
		maps.DeleteFunc(s.known, func(_ string, t *talk) bool { return t.over && s.purged.After(t.deadline) })
	}
	full := len(s.known) >= maxKnown
	s.mu.Unlock()
	err := fmt.Errorf("%d invocations are remembered already", maxKnown)
	if !full {
		err = s.local.admit(q)
	}
	if err != nil {
		s.once(err.Error(),
			fmt.Sprintf(
				"left alone: %s %s and what comes now: %v", nameText(q.context.FunctionName), short(q.id),
				err))
		return
	}
	t := &talk{q: q, again: make(chan struct{}, 1), names: []string{name}, deadline: q.deadline}
	if latest := time.Now().Add(maxLife); latest.Before(q.deadline) {
		t.deadline = latest
	}
	q.deadline = t.deadline
	s.mu.Lock()
	s.known[key], s.talks[name] = t, t
	s.mu.Unlock()
	s.wg.Go(func() { s.talk(ctx, t, key) })
}

// repeat notes that the request has come again, on name's channel. subscriber.mu is held.
func (t *talk) repeat(s *subscriber, name string) {
	if t.over {
		return
	}
	t.repeated = true
	if latest := len(t.names) - 1; t.names[latest] != name {
		t.moved = true
		t.names = append(slices.DeleteFunc(t.names, func(o string) bool { return o == name }), name)
		s.talks[name] = t
		if len(t.names) > 8 {
			delete(s.talks, t.names[0])
			t.names = t.names[1:]
		}
	}
	notify(t.again)
}

// done is the extension's word that an invocation is over.
func (s *subscriber) done(name, outcome string) {
	if outcome != overAnswered && outcome != overTimeout && outcome != overDeployed {
		outcome = overAnswered
	}
	s.mu.Lock()
	t := s.talks[name]
	if t != nil {
		s.close(t)
	}
	s.mu.Unlock()
	if t != nil {
		s.local.finish(t.q, outcome)
	}
}

// close ends a talk; its request stays known. subscriber.mu is held.
func (s *subscriber) close(t *talk) {
	t.over = true
	for _, name := range t.names {
		delete(s.talks, name)
	}
}

// talk says `accepted` before anything else, gives the request to a handler, and goes on with `accepted` and
// the reply until the invocation is over or its deadline has come.
func (s *subscriber) talk(ctx context.Context, t *talk, key string) {
	defer notify(s.ended)
	timeout, cancel := context.WithDeadline(ctx, t.deadline)
	defer cancel()
	if !s.accept(timeout, t) {
		// The extension does not know that it was accepted here; the deployed code may answer. If not, it
		// repeats it.
		s.local.release(t.q)
		s.mu.Lock()
		s.close(t)
		delete(s.known, key)
		s.mu.Unlock()
		return
	}
	s.local.record(t.q)
	s.local.submit(t.q)
	s.converse(timeout, t)
	s.local.finish(t.q, overDeadline) // does nothing where it is over already
	s.mu.Lock()
	s.close(t)
	s.known[key] = &talk{over: true, deadline: t.deadline} // a repetition may still come
	s.mu.Unlock()
}

// accept writes `accepted`; without a connection it does not wait for one. Where that fails AppSync may have
// taken it all the same, and an extension that has heard it does not ask again: it is said once more, over
// the next connection if this one has ended, if that comes in the time after which an extension that has
// heard nothing asks again itself.
func (s *subscriber) accept(ctx context.Context, t *talk) bool {
	conn, _ := s.current()
	if conn == nil {
		return false
	}
	if s.sayAccepted(ctx, conn, t, false) == nil {
		return true
	}
	soon, cancel := context.WithTimeout(ctx, repeatRequest)
	defer cancel()
	for {
		conn, changed := s.current()
		if conn != nil && conn.ctx.Err() == nil {
			return s.sayAccepted(ctx, conn, t, false) == nil
		}
		select {
		case <-changed:
		case <-soon.Done():
			return false
		}
	}
}

func (s *subscriber) current() (*session, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session, s.changed
}

// sayAccepted publishes `accepted`. With wait the connection ends where AppSync does not confirm that it has
// it: the next one says it again.
func (s *subscriber) sayAccepted(ctx context.Context, conn *session, t *talk, wait bool) error {
	name := s.name(t)
	event := part{Type: "accepted", RequestID: name, Sender: s.sender}.event()
	return conn.publish(ctx, s.api.channel(name), slices.Values([][]byte{event}), wait)
}

// name is the request ID to answer with.
func (s *subscriber) name(t *talk) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.names[len(t.names)-1]
}

// converse keeps the extension informed until the request is over or ctx is done.
func (s *subscriber) converse(ctx context.Context, t *talk) {
	timer := time.NewTimer(acceptEvery)
	defer timer.Stop()
	began := time.Now()
	due := began.Add(acceptAgain) // of the next `accepted`
	last, _ := s.current()
	var out *transfer
	for {
		rep, over, ended := s.local.look(t.q)
		if over {
			return
		}
		conn, changed := s.current()
		wait := acceptEvery
		if conn != nil {
			repeated, moved := s.takeRepeat(t)
			if conn != last { // what was written last may have gone with the old connection
				repeated, last = repeated || !ended, conn
			}
			if now := time.Now(); !ended && (repeated || !now.Before(due)) {
				s.wg.Go(func() { s.sayAccepted(ctx, conn, t, true) })
				due = began.Add((now.Sub(began)/acceptEvery + 1) * acceptEvery)
			}
			if rep != nil && (ended || rep.streamed) {
				if out == nil {
					out = s.newTransfer(rep)
				}
				wait = out.step(ctx, conn, t, repeated && (moved || ended))
			}
			if !ended {
				wait = min(wait, time.Until(due))
			}
		}
		timer.Reset(max(wait, time.Millisecond))
		select {
		case <-t.q.news:
		case <-t.again:
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// takeRepeat tells whether the request has come again since it was asked last, and whether on another
// channel.
func (s *subscriber) takeRepeat(t *talk) (repeated, moved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	repeated, moved = t.repeated, t.moved
	t.repeated, t.moved = false, false
	return repeated, moved
}

// look tells what has become of q.
func (l *local) look(q *request) (rep *reply, over, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return q.reply, q.over != "", q.reply != nil && q.reply.ended
}

// transfer is a reply on its way, in parts that are cut as they go and can be sent again: nothing tells which
// of them arrived, but that the invocation is over.
type transfer struct {
	s      *subscriber
	rep    *reply
	ends   []int64   // where each part's data ends
	whole  bool      // the last part is among them
	next   int       // part to publish next
	due    time.Time // when everything is published again
	began  time.Time
	warned bool // that AppSync does not take it

	notBefore  time.Time // of a stream's next publish
	repairAt   time.Time // of the next repetitions of a stream that goes on
	aged       int       // parts that were out at the last ones
	fresh, old int       // the next of those to repeat for the first time, and of all
}

func (s *subscriber) newTransfer(rep *reply) *transfer {
	now := time.Now()
	return &transfer{s: s, rep: rep, began: now, repairAt: now.Add(repeatAnswer)}
}

// step publishes what is to be published now and returns how long there is nothing more to do, as far as the
// transfer itself knows. again says that the extension may have lost what it got.
func (o *transfer) step(ctx context.Context, conn *session, t *talk, again bool) time.Duration {
	now := time.Now()
	if again || o.whole && o.next == len(o.ends) && !now.Before(o.due) {
		o.next = 0
	}
	if pause := o.notBefore.Sub(now); o.rep.streamed && pause > 0 {
		return pause
	}
	wait := o.cut(now)
	to := len(o.ends)
	if o.rep.streamed {
		to = min(to, o.next+streamBatch)
	}
	if o.next < to {
		published, err := o.publish(ctx, conn, t, o.indexes(o.next, to))
		o.notBefore = now.Add(time.Duration(published) * streamPause)
		if err != nil {
			return o.failed(conn, err)
		}
		o.warned = false
		if o.next = to; o.whole && o.next == len(o.ends) {
			o.due = time.Now().Add(repeatAnswer)
			return repeatAnswer
		}
		return max(0, time.Until(o.notBefore))
	}
	if o.whole {
		return time.Until(o.due)
	}
	if !now.Before(o.repairAt) {
		o.repair(ctx, conn, t)
		o.repairAt = time.Now().Add(repeatAnswer)
	}
	return min(wait, time.Until(o.repairAt))
}

// failed says when to try again.
func (o *transfer) failed(conn *session, err error) time.Duration {
	if conn.ctx.Err() == nil && !o.warned {
		o.warned = true
		o.s.api.log.Warn("AppSync did not take an answer; trying again", "error", err)
	}
	if errors.Is(err, errRefused) {
		return repeatAnswer
	}
	return retryPublish
}

// cut cuts what has come since into parts. A stream is not cut faster than Lambda would send it on; the
// result is how long that takes.
func (o *transfer) cut(now time.Time) (wait time.Duration) {
	l := o.s.local
	l.mu.Lock()
	ended, trailers := o.rep.ended, len(o.rep.trailers) > 0
	l.mu.Unlock()
	size := o.rep.data.length()
	for !o.whole {
		from := o.end(len(o.ends))
		n := min(partData, size-from)
		if len(o.ends) == 0 && !o.roomInFirst() {
			n = 0
		}
		last := ended && from+n == size && !(trailers && n > 0)
		if n == 0 && !last && (len(o.ends) > 0 || size == 0) {
			return repeatAnswer
		}
		if allowed := streamBurst + int64(streamRate*now.Sub(o.began).Seconds()); o.rep.streamed &&
			from+n > allowed {
			return time.Duration(float64(from+n-allowed) / streamRate * float64(time.Second))
		}
		o.ends = append(o.ends, from+n)
		o.whole = last
	}
	return repeatAnswer
}

// end is where part i begins: the end of the one before.
func (o *transfer) end(i int) int64 {
	if i == 0 {
		return 0
	}
	return o.ends[i-1]
}

// escapedLen is the length of event inside a publish, quotes included.
func escapedLen(event []byte) int { return len(escaped(event)) + 2 }

// roomInFirst reports whether part 0 can hold data beside what only it carries.
func (o *transfer) roomInFirst() bool { return escapedLen(o.part("", 0).encode(nil)) <= 7_000 }

// part is part i for the channel of name, without its data.
func (o *transfer) part(name string, i int) part {
	p := part{Type: o.rep.kind, RequestID: name, Index: i, Last: o.whole && i == len(o.ends)-1,
		Encoding: o.rep.encoding, Sender: o.s.sender}
	if i == 0 {
		p.Headers, p.ErrorType, p.XRayCause = o.rep.headers, o.rep.errorType, o.rep.xrayCause
		if o.rep.kind == "response" {
			p.ErrorType = ""
		}
	}
	if p.Last {
		p.Trailers = o.rep.trailers
	}
	return p
}

func (o *transfer) indexes(from, to int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := from; i < to && yield(i); i++ {
		}
	}
}

// publish publishes the parts of those indexes and returns in how many publishes.
func (o *transfer) publish(ctx context.Context, conn *session, t *talk, indexes iter.Seq[int]) (
	publishes int, err error) {
	name := o.s.name(t)
	parts := 0
	events := func(yield func([]byte) bool) {
		for i := range indexes {
			data := make([]byte, o.end(i+1)-o.end(i))
			if n, err := o.rep.data.ReadAt(data, o.end(i)); err != nil && n < len(data) {
				return // it is over
			}
			parts++
			if !yield(o.part(name, i).encode(data)) {
				return
			}
		}
	}
	err = conn.publish(ctx, o.s.api.channel(name), events, true)
	return (parts + maxEventsPerPublish - 1) / maxEventsPerPublish, err
}

// repair repeats parts of a stream that goes on, as AppSync may have lost one and those after it wait for it:
// first each once a while after it was sent, then all of them in turn.
func (o *transfer) repair(ctx context.Context, conn *session, t *talk) {
	indexes := func(yield func(int) bool) {
		parts, bytes := 0, int64(0)
		for parts < repairParts && parts < o.aged && bytes < repairBytes {
			i := o.old
			if o.fresh < o.aged {
				i = o.fresh
				o.fresh++
			} else {
				o.old = (o.old + 1) % o.aged
			}
			parts++
			bytes += o.end(i+1) - o.end(i)
			if !yield(i) {
				return
			}
		}
	}
	if _, err := o.publish(ctx, conn, t, indexes); err != nil {
		o.failed(conn, err)
	}
	o.aged = o.next
}

// notify leaves news in a channel that has room for one, unless there are some.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
