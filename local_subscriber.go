//go:build !layer

package main

// local_subscriber.go takes requests from AppSync to the handlers, and brings their replies back. Requests,
// and what extensions say about them, come in on the requests channel. `accepted` and the parts of a reply go
// out on the channel that the request names. local_workers.go runs the handlers.
//
// A request goes through these functions, in their order here: receive, read, take, part (if it comes in
// parts), request, begin, start, talk, accept, converse. local_left.go leaves it to another local end that
// has its function. local_transfer.go publishes the reply.
//
// Goroutines: the session's reader only queues messages, and one goroutine reads the queue. Each request has
// a goroutine of its own from its arrival until the extension says that it is over, or until its deadline.
// Each `accepted` that is said again has one too, because it waits until AppSync has taken it.

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

// When this end says that it is at work on a request, and for how long.
const (
	// An extension gives up when it has not heard `accepted` for 15 s.
	acceptEvery = 5 * time.Second
	// The second `accepted` comes sooner: if the first is lost, LIVE_LAMBDA_ACCEPT_TIMEOUT may end before the
	// third.
	acceptAgain = 500 * time.Millisecond
	// At most this long a request is worked on: Lambda's longest timeout, which is that of Managed Instances,
	// and time for clocks that differ.
	maxLife = noDeadline + 10*time.Minute
	// After the deadline, for the extension to say whether an answer that came right before has counted.
	lastWord = time.Second
)

// When a connection is looked at.
const (
	// Without a frame. AppSync sends one every 60 s, but a connection may be dead long before one is missing,
	// and all that time the deployed code answers. So idle, this costs four messages a minute to AppSync and
	// four back.
	pingAfter = 15 * time.Second
	// Look whether it has been quiet for so long: this machine may have slept. An idle program wakes up for
	// this alone.
	pingEvery = 2 * time.Second
)

// Publishes of answers that go at once, and of `accepted`: beyond the WebSocket's rate each takes a
// connection of its own, which is a file, and a program may have 256 of these open on macOS. The others wait,
// and AppSync's time to take them has not begun then.
const mostPublishes = 48

// How much is kept of what has come.
const (
	maxContext     = 256 << 10           // bytes of a request message beside its event
	maxContextText = 2048                // bytes of one text in a request's context
	maxDeadlineMs  = 253_370_764_800_000 // the year 9999, the last that JSON can tell
	maxOpen        = 100                 // requests in parts that are not whole
	maxOpenBytes   = 64 << 20            // bytes of their parts
	openLife       = time.Minute         // of one that gets no new part
	maxInbox       = 64 << 20            // bytes of messages that wait to be read
	maxKnown       = 100_000             // requests that are remembered, so that they do not run again
	purgeEvery     = time.Minute         // of those whose deadline has passed
	maxNames       = 8                   // channels of one request
	maxReported    = 100                 // kinds of lines that are written only once
)

// subscriber is this end of the requests channel.
type subscriber struct {
	api    *appsync
	local  *local
	sender string // stands in every part from here: the extension tells two local ends apart by it
	probe  string // request ID of the probes that show whether the subscription delivers
	wg     sync.WaitGroup
	ended  chan struct{} // a talk has ended; has room for one
	woken  chan struct{} // the inbox has something; has room for one

	presence  *presence // what is said of this end
	keys      *keyring
	answers   turns // of replies
	accepting turns // of `accepted`, which must not wait for replies that are large

	mu      sync.Mutex       // guards the following, and what talk says that it guards
	session *session         // nil while there is none
	since   time.Time        // when that delivered first
	changed chan struct{}    // closed, and made anew, when session changes
	inbox   []string         // messages that wait to be read
	waiting int              // bytes in inbox
	talks   map[string]*talk // those that go on, by each of their names
	known   map[string]*talk // those that go on and those that are over, by invocation
	purged  time.Time        // when known was last rid of those whose deadline has passed

	// The goroutine that reads the inbox alone uses the following.
	open       map[string]*openRequest // by request ID
	reported   map[string]bool         // what has been written, and is not to be written again
	deployed   int64                   // deployed_ms of the latest invocation that tellDeployed has told
	aside      map[string]*leftRequest // requests that are left to other ends, by invocation
	asideBytes int                     // of their events
	tended     time.Time               // when aside was looked through last
}

// talk is one request, and what goes back for it.
type talk struct {
	q        *request // nil when it is over and only known
	deadline time.Time
	again    chan struct{} // the request has come again; has room for one

	// subscriber.mu guards the following.
	names    []string // request IDs that it came with; the last one is the channel to answer on
	sealer   *sealer  // of the request as it came last: what it is answered with
	repeated bool     // the request has come again since takeRepeat
	moved    bool     // it came with another ID
	over     bool
}

// openRequest is a request in parts that is not whole yet.
type openRequest struct {
	*joiner
	latest time.Time // when the last part came
}

func newSubscriber(api *appsync, l *local) *subscriber {
	var name [8]byte
	rand.Read(name[:])
	sender := hex.EncodeToString(name[:])
	keys := newKeyring(l.opts.keys, l.term)
	woken := make(chan struct{}, 1)
	p := newPresence(api, sender, l.opts, keys)
	p.term = l.term
	p.takeBack = l.term.howToTakeBack
	p.arrived = func() { notify(woken) }
	return &subscriber{
		api:       api,
		keys:      keys,
		local:     l,
		sender:    sender,
		presence:  p,
		answers:   make(turns, mostPublishes),
		accepting: make(turns, mostPublishes),
		probe:     sender + "/probe",
		ended:     make(chan struct{}, 1),
		woken:     woken,
		changed:   make(chan struct{}),
		talks:     map[string]*talk{},
		known:     map[string]*talk{},
		open:      map[string]*openRequest{},
		reported:  map[string]bool{},
		aside:     map[string]*leftRequest{},
	}
}

// run serves requests until ctx is done.
func (s *subscriber) run(ctx context.Context) {
	s.wg.Go(func() { s.read(ctx) })
	use := func(conn *session) (bool, error) { return s.use(ctx, conn) }
	s.api.run(ctx, use, func(error) {})
	s.wg.Wait()
}

// use subscribes over a new session and stays with it until it ends. up tells whether it has delivered.
//
// AppSync may confirm a subscription before it delivers, and a request that nobody hears may never be
// repeated. So this end says that it is connected only when a probe has come back, on a channel of its own
// that it subscribes to after that of the requests.
func (s *subscriber) use(ctx context.Context, conn *session) (up bool, err error) {
	s.set(conn) // now, because a request may come before its subscription is confirmed
	defer s.set(nil)
	// Requests come without this one too. It is the first, because this end must know who else may run them.
	err = s.presence.listen(conn)
	if err != nil && conn.ctx.Err() == nil {
		s.api.log.Warn("other local ends are not heard", "error", err)
	}
	err = conn.subscribe(conn.ctx, ackTimeout, s.api.requests(s.api.stage), s.receive)
	if err != nil {
		return false, err
	}
	err = conn.listen(conn.ctx, ackTimeout, s.probe, s.probe, func(string, *part, error) {})
	if err != nil && err != errNoProbe {
		return false, err
	}
	delivers := err == nil
	s.local.term.note("connected to %s, waiting for invocations on %s%s",
		s.api.http.Host, s.api.requests(s.api.stage), routeText(s.api.endpoint))
	s.presence.tellTeam()
	s.mu.Lock()
	s.since = time.Now()
	s.mu.Unlock()
	if delivers { // else extensions would send what does not come
		leave := s.presence.keepSaying(conn)
		defer leave()
	} else {
		s.presence.come()
	}
	return true, s.watchOver(ctx, conn)
}

// watchOver returns when the session has ended. If the session has been quiet for long, perhaps because this
// machine has slept, it has to show that it still delivers.
func (s *subscriber) watchOver(ctx context.Context, conn *session) error {
	for {
		pause := min(pingEvery, pingAfter-conn.quiet())
		select {
		case <-conn.ctx.Done():
			return context.Cause(conn.ctx)
		case <-time.After(pause + time.Millisecond): // past pingAfter, not just before
		}
		// The wall clock goes on while this machine sleeps, the monotonic one may not.
		age := time.Now().Round(0).Sub(conn.born)
		if age > retireAfter && s.talking() == 0 {
			return errRetired
		}
		if conn.quiet() > pingAfter {
			err := conn.probe(ctx, s.probe, publishTimeout)
			if err != nil {
				return err
			}
		}
	}
}

// set tells the talks that there is a session, or with nil that there is none.
func (s *subscriber) set(conn *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = conn
	close(s.changed)
	s.changed = make(chan struct{})
}

// current returns the session, and a channel that is closed when there is another.
func (s *subscriber) current() (*session, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session, s.changed
}

// talking counts the talks that go on.
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

// receive queues a message. The session's reader calls it, so it must not block.
func (s *subscriber) receive(message string) {
	s.mu.Lock()
	fits := s.waiting+len(message) <= maxInbox
	if fits {
		s.inbox = append(s.inbox, message)
		s.waiting += len(message)
	}
	s.mu.Unlock()
	if !fits {
		s.api.log.Warn("dropped a message: too many wait to be read")
		return
	}
	notify(s.woken)
}

// read takes the messages from the inbox until ctx is done.
func (s *subscriber) read(ctx context.Context) {
	for {
		var tick <-chan time.Time
		if len(s.aside) > 0 {
			tick = time.After(tendEvery)
		}
		select {
		case <-s.woken:
		case <-tick:
		case <-ctx.Done():
			return
		}
		s.tend(ctx)
		s.mu.Lock()
		inbox := s.inbox
		s.inbox = nil
		s.waiting = 0
		s.mu.Unlock()
		for _, message := range inbox {
			err := s.take(ctx, message)
			if err != nil {
				s.api.log.Warn("dropped a message that is not valid", "error", err)
			}
		}
	}
}

// take reads one message.
func (s *subscriber) take(ctx context.Context, message string) error {
	p, opened, err := s.keys.open(message, false)
	if err != nil || !opened {
		return err
	}
	if p == nil {
		s.once("message of another version",
			"ignored messages that are not of version 1, as those of other layers")
		return nil
	}
	if !validRequestID.MatchString(p.RequestID) {
		return fmt.Errorf("its request ID %q is not LINK/N", firstLine(p.RequestID))
	}
	switch p.Type {
	case "":
		return s.request(ctx, p, []byte(p.text))
	case "request":
		return s.part(ctx, p)
	case "done":
		s.done(p.RequestID, p.Outcome)
	}
	return nil
}

// validRequestID is what may follow /NAMESPACE/response/ in a channel's name.
// https://docs.aws.amazon.com/appsync/latest/eventapi/channel-namespaces.html
var validRequestID = regexp.MustCompile(
	`^[A-Za-z0-9]([A-Za-z0-9-]{0,48}[A-Za-z0-9])?(/[A-Za-z0-9]([A-Za-z0-9-]{0,48}[A-Za-z0-9])?){0,2}$`)

// once writes a line for something that would be written again and again. key tells such things apart.
func (s *subscriber) once(key, text string) {
	if s.reported[key] || len(s.reported) >= maxReported {
		return
	}
	s.reported[key] = true
	s.local.term.note("%s", text)
}

// part takes one part of a request, and if it makes the request whole, the request.
func (s *subscriber) part(ctx context.Context, p *part) error {
	s.makeRoom(p)
	o := s.open[p.RequestID]
	if o == nil {
		o = &openRequest{joiner: newJoiner(maxPayload + maxContext)}
		s.open[p.RequestID] = o
	}
	o.latest = time.Now()
	if o.first != nil && o.first.sealer != p.sealer {
		return errors.New("a request whose parts are not sealed with one key")
	}
	err := o.add(p)
	if err != nil {
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
	return s.request(ctx, p, body)
}

// makeRoom forgets the open requests that have not got a part for long. If there is still no room for p, it
// forgets the one of the others that has waited longest for a part.
func (s *subscriber) makeRoom(p *part) {
	now := time.Now()
	size := 0
	oldest := ""
	for name, o := range s.open {
		if now.Sub(o.latest) > openLife {
			delete(s.open, name)
			continue
		}
		size += o.size
		if name == p.RequestID {
			continue
		}
		if oldest == "" || o.latest.Before(s.open[oldest].latest) {
			oldest = name
		}
	}
	_, open := s.open[p.RequestID]
	tooMany := !open && len(s.open) >= maxOpen
	tooLarge := size+len(p.data) > maxOpenBytes
	if oldest != "" && (tooMany || tooLarge) {
		delete(s.open, oldest) // if it is a request, the extension will repeat it
		s.once("open", "dropped a request in parts that was not whole: too many at once")
	}
}

// request takes a whole request message. p is the part that has made it whole.
func (s *subscriber) request(ctx context.Context, p *part, message []byte) error {
	m, err := parseRequest(message)
	if err != nil {
		return errors.New("a request with a field that is not of its type")
	}
	if p.sealer == nil && len(m.Context.Environment) > 0 {
		m.Context.Environment = nil // anybody who may publish could set variables here
		s.once("environment", "left out the environment that came with a request: it was not sealed; set "+
			"LIVE_LAMBDA_KEY of the function and here")
	}
	q, err := newRequestFrom(m.Event, m.Context)
	if err != nil {
		return err
	}
	if m.RequestID != p.RequestID {
		return errors.New("a request whose parts name another")
	}
	if string(m.Version) != "1" {
		return errors.New("a request in parts that is not of version 1")
	}
	if s.leaves(q) {
		return nil
	}
	s.begin(ctx, origin{name: p.RequestID, sealer: p.sealer}, q)
	return nil
}

// leaves reports whether q is not for this end. It writes why, once.
func (s *subscriber) leaves(q *request) bool {
	c := q.context
	if c.AcceptedBy != "" && c.AcceptedBy != s.sender {
		s.drop(q.key())
		return true // another local end has it, or had it until that ended
	}
	_, served := s.local.serves(c.FunctionName)
	if !served {
		s.once("function "+c.FunctionName, "left alone: invocations of "+clip(c.FunctionName, 64)+
			", which is not served here")
		return true
	}
	late := time.Since(q.deadline)
	if late > 0 {
		s.once("deadline", fmt.Sprintf("left alone: %s %s, and what else comes after its deadline, here by "+
			"%s; is this machine's clock right?",
			nameText(c.FunctionName), short(q.id), durationText(late)))
		return true
	}
	return false
}

// tellDeployed says so if an earlier invocation of q's environment was given to the deployed code while this
// end was connected.
func (s *subscriber) tellDeployed(q *request) {
	at := q.context.DeployedMs
	s.mu.Lock()
	since := s.since
	s.mu.Unlock()
	if at <= s.deployed || since.IsZero() || at <= since.UnixMilli() {
		return
	}
	s.deployed = at
	s.local.term.note("%s: the deployed code has answered an invocation at %s, although this end was "+
		"connected: its request, or `accepted`, was lost or took longer than LIVE_LAMBDA_ACCEPT_TIMEOUT",
		nameText(q.context.FunctionName), time.UnixMilli(at).Format(time.TimeOnly))
}

// extensionRequest is the message in which an extension asks for an answer.
type extensionRequest struct {
	RequestID string          `json:"request_id"`
	Event     json.RawMessage `json:"event_payload"`
	Context   eventContext    `json:"context"`
	Version   json.RawMessage `json:"live_lambda"`
}

// parseRequest reads a request message. It first looks for the event between the two fields that an extension
// writes it between, so that encoding/json need not go over the event twice and copy it. With 6 MB that is
// the longest step of an invocation here.
func parseRequest(message []byte) (m extensionRequest, err error) {
	id, rest, _ := bytes.Cut(message, []byte(`,"event_payload":`))
	end := bytes.LastIndex(rest, []byte(`,"context":{`))
	if end >= 0 && json.Valid(rest[:end]) {
		err = json.Unmarshal(slices.Concat(id, rest[end:]), &m)
		if err == nil && m.Event == nil {
			m.Event = bytes.TrimSpace(rest[:end])
			return m, nil
		}
		m = extensionRequest{}
	}
	err = json.Unmarshal(message, &m)
	return m, err
}

// eventContext is the context of a request: what the extension says about the invocation.
type eventContext struct {
	RequestID          string            `json:"request_id"`
	FunctionName       string            `json:"function_name"`
	FunctionVersion    string            `json:"function_version"`
	InvokedFunctionARN string            `json:"invoked_function_arn"`
	MemorySizeMB       int               `json:"memory_size_mb"`
	Region             string            `json:"aws_region"`
	DeadlineMs         int64             `json:"deadline_ms"`           // Unix time
	DeployedMs         int64             `json:"deployed_ms,omitempty"` // Unix time; 0: never
	TraceID            string            `json:"trace_id"`
	Handler            string            `json:"handler"`
	LogGroupName       string            `json:"log_group_name,omitempty"`
	LogStreamName      string            `json:"log_stream_name,omitempty"`
	Identity           json.RawMessage   `json:"identity,omitempty"`
	ClientContext      json.RawMessage   `json:"client_context,omitempty"`
	TenantID           string            `json:"tenant_id,omitempty"`
	Environment        map[string]string `json:"environment,omitempty"`
	// When it goes elsewhere if nobody accepts it; 0: never.
	AcceptUntilMs int64  `json:"accept_until_ms,omitempty"`
	AcceptedBy    string `json:"accepted_by,omitempty"` // sender of the local end that has it
	Mirror        bool   `json:"mirror,omitempty"`      // a copy: nobody waits for an answer
}

// newRequestFrom makes a request of an event and its context. It checks that nothing in them can break a line
// or a header.
func newRequestFrom(event []byte, c eventContext) (*request, error) {
	if event == nil {
		event = []byte("null")
	}
	if len(event) > maxPayload {
		return nil, errTooBig
	}
	err := c.check()
	if err != nil {
		return nil, err
	}
	c.ClientContext = headerJSON(c.ClientContext)
	c.Identity = headerJSON(c.Identity)
	if len(c.ClientContext) > maxHeaderText || len(c.Identity) > maxHeaderText {
		return nil, errors.New("a request whose client context or identity is too large for a header")
	}
	return newRequest(event, c), nil
}

// check checks the texts of a context, and that it has what every request needs.
func (c eventContext) check() error {
	for _, text := range []string{
		c.RequestID, c.FunctionName, c.FunctionVersion, c.InvokedFunctionARN, c.Region, c.TraceID, c.Handler,
		c.TenantID, c.LogGroupName, c.LogStreamName,
	} {
		if text == "" {
			continue
		}
		if len(text) > maxContextText || !printable(text) {
			return errors.New("a request whose context has characters that do not belong there")
		}
	}
	if c.RequestID == "" || c.FunctionName == "" || c.DeadlineMs <= 0 {
		return errors.New("a request without request_id, function_name or deadline_ms in its context")
	}
	if c.DeadlineMs > maxDeadlineMs {
		return errors.New("a request whose deadline_ms is no time")
	}
	return nil
}

// headerJSON returns an object as a header can hold it; nothing for null.
func headerJSON(object json.RawMessage) json.RawMessage {
	if string(object) == "null" {
		return nil
	}
	return asciiJSON(object)
}

// origin is where a request has come from.
type origin struct {
	name   string  // its request ID, which names the channel to answer on
	sealer *sealer // that the answer is sealed with; nil: it is not
}

// begin begins a talk about q, unless q has come before, for no handler gets an invocation twice, or is left
// to another end.
func (s *subscriber) begin(ctx context.Context, from origin, q *request) {
	if s.recognise(q.key(), from) || s.putAside(q, from) {
		return
	}
	s.tellDeployed(q)
	s.start(ctx, from, q)
}

// key tells invocations apart: a retry of Lambda's has the same request ID and another deadline.
func (q *request) key() string { return q.id + " " + strconv.FormatInt(q.context.DeadlineMs, 10) }

// start begins a talk about q, which has not come before, or says why not.
func (s *subscriber) start(ctx context.Context, from origin, q *request) {
	err := s.admit(q)
	if err != nil {
		s.once(err.Error(), fmt.Sprintf("left alone: %s %s and what comes now: %v",
			nameText(q.context.FunctionName), short(q.id), err))
		return
	}
	latest := time.Now().Add(maxLife)
	if latest.Before(q.deadline) {
		q.deadline = latest
	}
	q.sealed = from.sealer != nil
	t := &talk{
		q:        q,
		deadline: q.deadline,
		again:    make(chan struct{}, 1),
		names:    []string{from.name},
		sealer:   from.sealer,
	}
	key := q.key()
	s.mu.Lock()
	s.known[key] = t
	s.talks[from.name] = t
	s.mu.Unlock()
	talk := s.talk
	if q.context.Mirror {
		talk = s.mirror
	}
	s.wg.Go(func() { talk(ctx, t, key) })
}

// recognise reports whether an invocation is known, and notes then that it has come again.
func (s *subscriber) recognise(key string, from origin) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.known[key]
	if t != nil {
		t.repeat(s, from)
		return true
	}
	if time.Since(s.purged) > purgeEvery {
		s.purged = time.Now()
		maps.DeleteFunc(s.known, func(_ string, t *talk) bool {
			return t.over && s.purged.After(t.deadline)
		})
	}
	return false
}

// admit makes room for q, or says why there is none.
func (s *subscriber) admit(q *request) error {
	s.mu.Lock()
	full := len(s.known) >= maxKnown
	s.mu.Unlock()
	if full {
		return fmt.Errorf("%d invocations are remembered already", maxKnown)
	}
	err := s.local.admit(q)
	unfit := errors.As(err, new(noProgram))
	if unfit || err == nil {
		s.presence.except(q.context.FunctionName, unfit)
	}
	return err
}

// repeat notes that the request has come again. subscriber.mu is held.
func (t *talk) repeat(s *subscriber, from origin) {
	if t.over {
		return
	}
	t.repeated = true
	t.sealer = from.sealer
	if t.names[len(t.names)-1] != from.name {
		t.move(s, from.name)
	}
	notify(t.again)
}

// move makes name the channel to answer on. The earlier ones stay known, because `done` may come with one of
// them. subscriber.mu is held.
func (t *talk) move(s *subscriber, name string) {
	t.moved = true
	others := slices.DeleteFunc(t.names, func(o string) bool { return o == name })
	t.names = append(others, name)
	s.talks[name] = t
	if len(t.names) > maxNames {
		delete(s.talks, t.names[0])
		t.names = t.names[1:]
	}
}

// done takes the extension's word that an invocation is over.
func (s *subscriber) done(name, outcome string) {
	switch outcome {
	case overAnswered, overTimeout, overDeployed:
	default:
		outcome = overAnswered
	}
	s.mu.Lock()
	t := s.talks[name]
	if t != nil {
		s.close(t)
	}
	s.mu.Unlock()
	if t == nil {
		s.doneAside(name)
		return
	}
	s.local.finish(t.q, outcome)
}

// close ends a talk, whose invocation stays known. subscriber.mu is held.
func (s *subscriber) close(t *talk) {
	t.over = true
	for _, name := range t.names {
		delete(s.talks, name)
	}
}

// talk says `accepted` before anything else and gives the request to a handler. It goes on with `accepted`
// and the reply until the invocation is over or its deadline has come.
func (s *subscriber) talk(ctx context.Context, t *talk, key string) {
	defer notify(s.ended)
	timeout, cancel := context.WithDeadline(ctx, t.deadline)
	defer cancel()
	if !s.accept(timeout, t) {
		// The extension does not know that the request has come. It may have the deployed code answer; if
		// not, it repeats the request.
		s.local.release(t.q)
		s.mu.Lock()
		s.close(t)
		delete(s.known, key)
		s.mu.Unlock()
		return
	}
	t.q.accepted = time.Now()
	s.local.record(t.q)
	s.local.submitWith(timeout, t.q)
	s.converse(timeout, t)
	s.hearOut(ctx, t.q)
	s.local.finish(t.q, unheard(ctx)) // does nothing if it is over already
	s.local.recordEnd(t.q)
	s.mu.Lock()
	s.close(t)
	s.known[key] = &talk{over: true, deadline: t.deadline} // a repetition may still come
	s.mu.Unlock()
}

// hearOut waits a moment for what the extension says of an answer that has come by the deadline.
func (s *subscriber) hearOut(ctx context.Context, q *request) {
	_, over, ended := s.local.look(q)
	if over || !ended {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lastWord)
	defer cancel()
	for !over {
		select {
		case <-q.news:
			_, over, _ = s.local.look(q)
		case <-ctx.Done():
			return
		}
	}
}

// unheard says why an invocation is over although nobody has told an outcome: ctx, which is this end's, is
// done, or the invocation's deadline has come.
func unheard(ctx context.Context) string {
	if ctx.Err() != nil {
		return overStopped
	}
	return overDeadline
}

// accept writes `accepted` and reports whether it did. Without a connection it does not wait for one.
//
// If writing fails, AppSync may have taken it all the same, and an extension that has heard it does not ask
// again. So accept writes it once more, over the next connection if this one has ended. That has to come
// before an extension that has heard nothing would ask again by itself.
func (s *subscriber) accept(ctx context.Context, t *talk) bool {
	conn, _ := s.current()
	if conn == nil {
		return false
	}
	err := s.sayAccepted(ctx, conn, t, unawaited)
	if err == nil {
		return true
	}
	soon, cancel := context.WithTimeout(ctx, repeatRequest)
	defer cancel()
	conn = s.usable(soon)
	if conn == nil {
		return false
	}
	err = s.sayAccepted(ctx, conn, t, unawaited)
	return err == nil
}

// usable waits for a session that has not ended; nil if ctx is done first.
func (s *subscriber) usable(ctx context.Context) *session {
	for {
		conn, changed := s.current()
		if conn != nil && conn.ctx.Err() == nil {
			return conn
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// sayAccepted publishes `accepted`. If that is awaited, the connection ends if AppSync does not confirm that
// it has taken it, and it is said again over the next one.
func (s *subscriber) sayAccepted(ctx context.Context, conn *session, t *talk, e effort) error {
	name, sealer := s.address(t)
	event := part{Type: "accepted", RequestID: name, Sender: s.sender, sealer: sealer}.event()
	return s.accepting.publish(ctx, conn, s.api.channel(name), slices.Values([][]byte{event}), e)
}

// turns has room for so many publishes as may go at once.
type turns chan struct{}

// publish is the session's, when it has its turn.
func (t turns) publish(
	ctx context.Context, conn *session, channel string, events iter.Seq[[]byte], e effort,
) error {
	select {
	case t <- struct{}{}:
	case <-conn.ctx.Done():
		return context.Cause(conn.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-t }()
	return conn.publish(ctx, channel, events, e)
}

// address returns the request ID to answer with, and what seals the answer.
func (s *subscriber) address(t *talk) (name string, sealer *sealer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.names[len(t.names)-1], t.sealer
}

// conversation is what the goroutine of a talk knows of what it has said.
type conversation struct {
	s     *subscriber
	t     *talk
	began time.Time
	due   time.Time // of the next `accepted`
	last  *session  // over which it spoke last
	out   *transfer // of the reply; nil until there is something to send
}

// converse keeps the extension informed until the request is over or ctx is done.
func (s *subscriber) converse(ctx context.Context, t *talk) {
	timer := time.NewTimer(acceptEvery)
	defer timer.Stop()
	began := time.Now()
	c := &conversation{s: s, t: t, began: began, due: began.Add(acceptAgain)}
	c.last, _ = s.current()
	for {
		rep, over, ended := s.local.look(t.q)
		if over {
			return
		}
		conn, changed := s.current()
		wait := acceptEvery
		if conn != nil {
			wait = c.step(ctx, conn, rep, ended)
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

// step says over conn what is to be said now. It returns how long there is nothing more to say, unless
// something comes. rep is the reply, nil if there is none yet; ended says that it has come to its end.
func (c *conversation) step(ctx context.Context, conn *session, rep *reply, ended bool) time.Duration {
	repeated, moved := c.s.takeRepeat(c.t)
	if conn != c.last {
		// What was written last may have gone with the old connection.
		c.last = conn
		repeated = repeated || !ended
	}
	if !ended {
		c.accept(ctx, conn, repeated)
	}
	wait := acceptEvery
	if rep != nil && (ended || rep.streamed) {
		if c.out == nil {
			c.out = c.s.newTransfer(rep)
		}
		wait = c.out.step(ctx, conn, c.t, repeated && (moved || ended))
	}
	if !ended {
		wait = min(wait, time.Until(c.due))
	}
	return wait
}

// accept says `accepted` again if it is due or if the request has come again.
func (c *conversation) accept(ctx context.Context, conn *session, repeated bool) {
	now := time.Now()
	if !repeated && now.Before(c.due) {
		return
	}
	c.s.wg.Go(func() { c.s.sayAccepted(ctx, conn, c.t, awaited) })
	rounds := now.Sub(c.began)/acceptEvery + 1
	c.due = c.began.Add(rounds * acceptEvery)
}

// takeRepeat tells whether the request has come again since takeRepeat was called last, and whether on
// another channel.
func (s *subscriber) takeRepeat(t *talk) (repeated, moved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	repeated = t.repeated
	moved = t.moved
	t.repeated = false
	t.moved = false
	return repeated, moved
}

// look tells what has become of q: its reply, nil if there is none yet; whether nobody waits for it any more;
// and whether the reply has come to its end.
func (l *local) look(q *request) (rep *reply, over, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return q.reply, q.over != "", q.reply != nil && q.reply.ended
}

// notify leaves news in a channel that has room for one, unless there are some already.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// drain takes the news out of such a channel, if there are any.
func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}
