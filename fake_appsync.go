//go:build !layer

package main

// fake_appsync.go is AWS AppSync on this machine, for `demo` and for the tests: publish over HTTPS (here over
// what the listener speaks) and the WebSocket protocol, with the service's checks and limits. HTTP requests
// and WebSocket messages come in on one listener; answers, events and, where a test asks for them, faults go
// out. Errors are told to clients as AppSync tells them. Where AWS's pages leave a question open, the answer
// here is the harder one for a client. All is said in Event APIs' words here; fake_graphql.go translates
// where the API is a GraphQL API.
//
// Goroutines of one connection: a reader (net/http's), one that works through what was read, and a writer.
//
// https://docs.aws.amazon.com/appsync/latest/eventapi/event-api-websocket-protocol.html
// https://docs.aws.amazon.com/appsync/latest/eventapi/publish-http.html

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/net/websocket"
)

// AppSync's quotas. The page does not say how bytes count: here KB is 1000 bytes, an event is its UTF-8 text,
// and a publish is the channel and the events as the service serialises them.
// https://docs.aws.amazon.com/general/latest/gr/appsync.html#limits_appsync
const (
	quotaEventBytes    = 240_000 // in a GraphQL API of a subscription's payload
	quotaPublishBytes  = 1_200_000
	quotaEvents        = 5   // in one publish
	quotaPublishes     = 25  // in any second, on one connection
	quotaSubscriptions = 200 // on one connection
	quotaLife          = 24 * time.Hour
	quotaClockSkew     = 5 * time.Minute // of a signature's date, as SigV4 has it elsewhere
)

// The emulator's own bounds.
const (
	maxClientMessage = 8 << 20          // bytes of one message or HTTPS body
	inQueue          = 32               // messages of one connection that were read and wait for their turn
	outQueue         = 128              // messages that wait for one connection's writer
	slowReader       = 10 * time.Second // a connection whose full outQueue does not move is ended
	goodbye          = 5 * time.Second  // for the client's closing frame
	maxChannels      = 10_000           // counted by name; events on others count under ""
)

// The patterns of the protocol page. It does not say whether a wildcard is one of the five segments: here it
// is.
const channelSegment = `[A-Za-z0-9](?:[A-Za-z0-9-]{0,48}[A-Za-z0-9])?`

var (
	publishChannel  = regexp.MustCompile(`^/?` + channelSegment + `(?:/` + channelSegment + `){0,4}/?$`)
	wildcardChannel = regexp.MustCompile(`^/?` + channelSegment + `(?:/` + channelSegment + `){0,3}/\*$`)
	operationID     = regexp.MustCompile(`^[a-zA-Z0-9\-_+]{1,128}$`)
)

// eventAPIOptions say how the emulated API is set up.
type eventAPIOptions struct {
	graphql     bool          // a GraphQL API, not an Event API
	apiKey      string        // accepted; none where empty
	credentials []credentials // accepted
	region      string        // that signatures must be for
	// that authorizations must name, ports aside; default: the request's Host header
	host       string
	namespaces []string      // default: live-lambda
	delay      time.Duration // of each message in each direction, and of HTTPS requests and answers
	activation time.Duration // from subscribe_success to the first event delivered
	keepAlive  time.Duration // between two ka; default 60 s
	timeout    time.Duration // announced as connectionTimeoutMs; default 300 s
	// data carries ["…"], as AWS's page has it, not the "…" that the service sends; AWSJSON twice encoded
	otherData bool
	log       *slog.Logger // may be nil
}

// eventAPI is a running emulator.
type eventAPI struct {
	opts   eventAPIOptions
	log    *slog.Logger
	server *http.Server
	wg     sync.WaitGroup

	hook     atomic.Pointer[func(apiFrame) apiVerdict]
	hookCall sync.Mutex // one call of the hook at a time

	mu      sync.Mutex
	closed  bool
	changed chan struct{} // closed, and made anew, when something below changes
	conns   map[int]*apiConn
	counts  eventAPICounts
}

// eventAPICounts counts what happened since the start.
type eventAPICounts struct {
	// WebSocket upgrades asked for, refused ones included: the number of the newest connection
	connections int
	open        int            // connections now
	publishes   map[int]int    // publish requests by connection, refused ones included; 0 is HTTPS
	busiest     int            // most publish requests of one connection within one second
	events      map[string]int // events taken, by channel
	errors      map[string]int // errors answered, by errorType, and codes of failed events
}

// startEventAPI serves on ln until close.
func startEventAPI(ln net.Listener, opts eventAPIOptions) *eventAPI {
	opts.keepAlive = cmp.Or(opts.keepAlive, time.Minute)
	opts.timeout = cmp.Or(opts.timeout, 5*time.Minute)
	opts.log = cmp.Or(opts.log, slog.New(slog.DiscardHandler))
	if opts.namespaces == nil {
		opts.namespaces = []string{"live-lambda"}
	}
	a := &eventAPI{opts: opts, log: opts.log, changed: make(chan struct{}), conns: map[int]*apiConn{}}
	a.counts = eventAPICounts{publishes: map[int]int{}, events: map[string]int{}, errors: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+a.path(), a.tracked(a.publishHTTP))
	mux.HandleFunc("GET "+a.path()+"/realtime", a.tracked(a.realtime))
	if opts.graphql { // the path on a realtime host of its own
		mux.HandleFunc("GET "+a.path(), a.tracked(a.realtime))
	}
	a.server = &http.Server{
		Handler:  mux,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, netConnKey{}, nc)
		},
	}
	a.wg.Go(func() { a.server.Serve(ln) })
	return a
}

// path is that of operations, as they are signed.
func (a *eventAPI) path() string {
	if a.opts.graphql {
		return "/graphql"
	}
	return "/event"
}

// netConnKey is the context key of a request's net.Conn: faults need what lies below the WebSocket.
type netConnKey struct{}

// tracked lets close wait for handlers, those of upgraded connections included, which net/http forgets.
func (a *eventAPI) tracked(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		closed := false
		a.update(func() {
			if closed = a.closed; !closed {
				a.wg.Add(1)
			}
		})
		if closed {
			panic(http.ErrAbortHandler)
		}
		defer a.wg.Done()
		h(w, r)
	}
}

// close ends every connection and waits for every goroutine.
func (a *eventAPI) close() {
	a.update(func() {
		a.closed = true
		for _, c := range a.conns {
			c.end()
		}
	})
	a.server.Close()
	a.wg.Wait()
}

// update changes what mu guards and wakes up every wait.
func (a *eventAPI) update(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	close(a.changed)
	a.changed = make(chan struct{})
}

// ---- what tests do to it and see of it ----

// apiFrame is one message, or one HTTP request, as the hook sees it. raw must not be changed.
type apiFrame struct {
	conn int  // counted from 1; 0: HTTPS
	out  bool // towards the client
	// the message's type in an Event API; "upgrade" and "http_publish" for HTTP requests, "http_published"
	// for the latter's answer
	typ     string
	id      string
	channel string   // of a subscribe, of a publish, and of the publish that a data message comes from
	events  []string // of a publish or data message
	raw     []byte   // nil for upgrade
}

// apiVerdict says what becomes of a frame; the zero value lets it pass. An HTTP request with a replacement is
// cut off before anything is done, and one with an ending, or whose answer is dropped or has one, afterwards,
// without an answer.
type apiVerdict struct {
	until <-chan struct{} // waited for first; whatever is behind the frame, in its direction, waits too
	// where not nil, these messages take its place: none drops it, two copies double it
	replace [][]byte
	// towards the client: written after them as it is, frame headers and all; of an HTTP request: the
	// answer's body
	wire   []byte
	after  apiEnding // what becomes of the connection then
	status int       // of an HTTP request: answered with this, nothing is done
}

// dropped in a verdict's replace makes the frame disappear.
var dropped = [][]byte{}

// apiEnding is what becomes of a connection.
type apiEnding int

const (
	stayOpen        apiEnding = iota
	closePolitely             // a closing frame, and time to answer it
	resetConnection           // at once; TCP clients see a reset
	goHalfOpen                // nothing is read or written any more, and the socket stays
)

// intercept has hook judge every frame from now on, one call at a time; nil lets everything pass. The hook
// must not block: that is what until is for.
func (a *eventAPI) intercept(hook func(apiFrame) apiVerdict) { a.hook.Store(&hook) }

func (a *eventAPI) judge(f apiFrame) apiVerdict {
	a.hookCall.Lock()
	defer a.hookCall.Unlock()
	if hook := a.hook.Load(); hook != nil && *hook != nil {
		return (*hook)(f)
	}
	return apiVerdict{}
}

// do carries out a verdict towards the client of connection conn, behind what is queued; a mere reset or
// half-open at once. It reports whether the connection was open.
func (a *eventAPI) do(conn int, v apiVerdict) bool {
	a.mu.Lock()
	c := a.conns[conn]
	open := c != nil && c.live()
	a.mu.Unlock()
	if !open {
		return false
	}
	if v.after > closePolitely && v.replace == nil && v.wire == nil && v.until == nil {
		c.finish(v.after)
		return true
	}
	v.replace = append(dropped, v.replace...)
	c.queue(apiItem{verdict: &v})
	return true
}

// publish delivers one event text, unchecked, to a channel's subscribers.
func (a *eventAPI) publish(channel, text string) { a.deliver(channel, text, wholeChannel) }

// accept replaces what authorizes from now on: keys change, credentials expire.
func (a *eventAPI) accept(apiKey string, creds ...credentials) {
	a.update(func() { a.opts.apiKey, a.opts.credentials = apiKey, creds })
}

// wait returns when cond holds, or with the context's error. cond must not keep the counts.
func (a *eventAPI) wait(ctx context.Context, cond func(*eventAPICounts) bool) error {
	for {
		a.mu.Lock()
		a.counts.open = 0
		for _, c := range a.conns {
			if c.live() {
				a.counts.open++
			}
		}
		ok, changed := cond(&a.counts), a.changed
		a.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// subscribers waits until at least n subscriptions to channel are confirmed on open connections, and returns
// their connections' numbers, sorted. A channel that ends in * stands for all that begin with what precedes
// it.
func (a *eventAPI) subscribers(ctx context.Context, channel string, n int) (conns []int, err error) {
	prefix, many := strings.CutSuffix(channel, "*")
	err = a.wait(ctx, func(*eventAPICounts) bool {
		conns = conns[:0]
		for _, c := range a.conns {
			for _, s := range c.subs {
				if c.live() && (s.channel == channel || many && strings.HasPrefix(s.channel, prefix)) {
					conns = append(conns, c.number)
				}
			}
		}
		return len(conns) >= n
	})
	slices.Sort(conns)
	return conns, err
}

// webSocketFrame is one frame of a server (RFC 6455, section 5.2), for a verdict's wire: opcode 0 continues a
// message, 1 is text, 8 close, 9 ping.
func webSocketFrame(final bool, opcode byte, payload []byte) []byte {
	if final {
		opcode |= 0x80
	}
	var frame []byte
	switch n := len(payload); {
	case n < 126:
		frame = []byte{opcode, byte(n)}
	case n <= 0xffff:
		frame = binary.BigEndian.AppendUint16([]byte{opcode, 126}, uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64([]byte{opcode, 127}, uint64(n))
	}
	return slices.Concat(frame, payload)
}

// hold waits for a delay, then for until where it is not nil; it returns false when stop is or gets closed.
func hold(delay time.Duration, until, stop <-chan struct{}) bool {
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-stop:
		}
	}
	if until != nil {
		select {
		case <-until:
		case <-stop:
		}
	}
	select {
	case <-stop:
		return false
	default:
		return true
	}
}

// ---- HTTP ----

// admit does what the hook says about a request before it is served, and reports whether it is to be served.
func (a *eventAPI) admit(w http.ResponseWriter, r *http.Request, f apiFrame) (v apiVerdict, ok bool) {
	v = a.judge(f)
	if !hold(0, v.until, r.Context().Done()) || v.replace != nil {
		panic(http.ErrAbortHandler)
	}
	if v.status != 0 && v.wire != nil {
		writeAnswer(w, v.status, v.wire)
	} else if v.status != 0 {
		http.Error(w, http.StatusText(v.status), v.status)
	}
	return v, v.status == 0
}

func writeAnswer(w http.ResponseWriter, status int, answer []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-RequestId", newUUID())
	w.WriteHeader(status)
	w.Write(answer)
}

// publishHTTP is the HTTPS publish.
func (a *eventAPI) publishHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxClientMessage))
	if err != nil || !hold(a.opts.delay, nil, r.Context().Done()) {
		panic(http.ErrAbortHandler)
	}
	var m clientMessage
	if a.opts.graphql {
		m = graphqlOperation("mutation", body)
	} else if err := json.Unmarshal(body, &m); err != nil {
		m.fault = &apiError{ErrorType: "BadRequestException", Message: "Malformed request: " + err.Error()}
	}
	frame := apiFrame{typ: "http_publish", channel: m.Channel, events: m.Events, raw: body}
	v, ok := a.admit(w, r, frame)
	if !ok {
		return
	}
	a.update(func() { a.counts.publishes[0]++ })
	var result *apiPublished
	fault := a.authorize(r.Header.Get, r.Host, a.path(), body)
	if fault == nil {
		result, fault = a.take(m, len(m.encode()))
	}
	status, answer := http.StatusOK, mustJSON(result)
	switch {
	case fault != nil && fault.ErrorType == "UnauthorizedException":
		status, answer = http.StatusUnauthorized, mustJSON(apiAnswer{Errors: []apiError{*fault}})
	case fault != nil && (!a.opts.graphql || fault.ErrorType != ""):
		status, answer = http.StatusBadRequest, mustJSON(apiAnswer{Errors: []apiError{*fault}})
	case a.opts.graphql:
		answer = graphqlResult(m, fault)
	}
	if v.after == stayOpen {
		frame.out, frame.typ, frame.raw = true, "http_published", answer
		if v = a.judge(frame); len(v.replace) > 0 {
			answer = v.replace[0]
		} else if v.replace != nil && v.after == stayOpen {
			v.after = resetConnection
		}
	}
	if v.after == goHalfOpen {
		v.until = make(chan struct{})
	}
	if !hold(a.opts.delay, v.until, r.Context().Done()) || v.after != stayOpen {
		panic(http.ErrAbortHandler)
	}
	writeAnswer(w, status, answer)
}

// realtime upgrades to a WebSocket. Refused credentials are told there, as the service does.
func (a *eventAPI) realtime(w http.ResponseWriter, r *http.Request) {
	var number int
	a.update(func() { a.counts.connections++; number = a.counts.connections })
	v, ok := a.admit(w, r, apiFrame{conn: number, typ: "upgrade"})
	if !ok {
		return
	}
	if v.after != stayOpen {
		panic(http.ErrAbortHandler)
	}
	offered := strings.Fields(
		strings.ReplaceAll(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), ",", " "))
	protocol := "aws-appsync-event-ws"
	if a.opts.graphql {
		protocol = "graphql-ws"
	}
	if !slices.Contains(offered, protocol) {
		http.Error(w, "the sub-protocol "+protocol+" is missing", http.StatusBadRequest)
		return
	}
	nc := r.Context().Value(netConnKey{}).(net.Conn)
	websocket.Server{
		Handshake: func(config *websocket.Config, _ *http.Request) error {
			config.Protocol = []string{protocol}
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			ws.MaxPayloadBytes = maxClientMessage
			newAPIConn(a, number, r.Host, nc, ws).serve(a.authorizeConnect(offered, r.URL.Query(), r.Host))
		},
	}.ServeHTTP(w, r)
}

// ---- one connection ----

// apiConn is one WebSocket.
type apiConn struct {
	api    *eventAPI
	number int
	host   string // its upgrade's Host header
	nc     net.Conn
	// nc, or below its TLS, whose Close would say goodbye and wait for a client that takes nothing
	below net.Conn
	// for reading, and for the pongs that x/net sends while it reads; the writer uses nc
	ws  *websocket.Conn
	in  chan apiItem
	out chan apiItem

	done    chan struct{} // closed by end: all is over
	mute    chan struct{} // closed by silence and end: nothing is written any more
	end     func()
	silence func()

	began  bool                       // connection_init has come; the working goroutine's, and what follows
	recent []time.Time                // publishes of the last second
	state  apiEnding                  // guarded by api.mu
	left   bool                       // the client has ended the connection; guarded by api.mu
	subs   map[string]apiSubscription // by ID; changed by the working goroutine, under api.mu
}

// apiSubscription is a confirmed subscription.
type apiSubscription struct {
	channel  string
	selected selection // of a GraphQL API's subscription
	from     time.Time // delivers from then on
}

// apiItem is a message on its way through a queue, or a verdict to carry out.
type apiItem struct {
	due     time.Time
	frame   apiFrame
	verdict *apiVerdict
}

// closing has the writer say goodbye.
var closing = apiItem{verdict: &apiVerdict{replace: dropped, after: closePolitely}}

func newAPIConn(a *eventAPI, number int, host string, nc net.Conn, ws *websocket.Conn) *apiConn {
	c := &apiConn{
		api: a, number: number, host: host, nc: nc, below: nc, ws: ws, subs: map[string]apiSubscription{}}
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		c.below = t.NetConn()
	}
	c.in, c.out = make(chan apiItem, inQueue), make(chan apiItem, outQueue)
	c.done, c.mute = make(chan struct{}), make(chan struct{})
	c.silence = sync.OnceFunc(func() { close(c.mute) })
	c.end = sync.OnceFunc(func() { c.silence(); close(c.done); c.below.Close() })
	return c
}

// serve runs the connection to its end; fault is why it is refused, if it is.
func (c *apiConn) serve(fault *apiError) {
	c.api.update(func() {
		c.api.conns[c.number] = c
		if c.api.closed {
			c.end()
		}
	})
	c.api.log.Debug("AppSync emulator: connected", "connection", c.number)
	var wg sync.WaitGroup
	wg.Go(c.writeLoop)
	wg.Go(c.workLoop)
	if fault != nil {
		c.reply(apiAnswer{Type: "connection_error", Errors: []apiError{*fault}})
		c.queue(closing)
	}
	err := c.readLoop()
	c.api.update(func() { c.left = true })
	close(c.in)
	wg.Wait()
	c.api.update(func() { delete(c.api.conns, c.number) })
	c.api.log.Debug("AppSync emulator: disconnected", "connection", c.number, "reason", err)
}

// finish carries out an ending; closePolitely is the writer's alone.
func (c *apiConn) finish(e apiEnding) {
	if e == stayOpen {
		return
	}
	c.api.update(func() { c.state = max(c.state, e) })
	switch e {
	case closePolitely:
		c.nc.Write(webSocketFrame(true, websocket.CloseFrame, binary.BigEndian.AppendUint16(nil, 1000)))
		c.nc.SetReadDeadline(time.Now().Add(goodbye))
	case resetConnection:
		if t, ok := c.below.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
		c.end()
	}
	c.silence()
}

// live tells whether anything can still be said to the client; api.mu is held.
func (c *apiConn) live() bool { return c.state == stayOpen && !c.left }

func (c *apiConn) ending() apiEnding {
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	return c.state
}

// readLoop queues messages until the client ends the connection, or the emulator does.
func (c *apiConn) readLoop() error {
	for {
		var raw []byte
		err := websocket.Message.Receive(c.ws, &raw)
		switch state := c.ending(); {
		case state == goHalfOpen:
			<-c.done
			return nil
		case err != nil:
			return err
		case state == closePolitely: // what the client sent before it saw the closing frame
			continue
		}
		select {
		case c.in <- apiItem{
			due: time.Now().Add(c.api.opts.delay), frame: apiFrame{conn: c.number, raw: raw}}:
		case <-c.done:
			return nil
		}
	}
}

// workLoop answers what was read, in order, until the reader has ended and everything is worked through. Then
// it returns the client's goodbye and ends the connection.
func (c *apiConn) workLoop() {
	defer c.end()
	for item := range c.in {
		if !hold(time.Until(item.due), nil, c.done) || c.ending() != stayOpen {
			continue
		}
		m := c.api.parse(item.frame.raw)
		item.frame.typ, item.frame.id, item.frame.channel, item.frame.events = m.Type, m.ID, m.Channel,
			m.Events
		v := c.api.judge(item.frame)
		if !hold(0, v.until, c.done) {
			continue
		}
		if v.replace == nil {
			c.handle(m)
		}
		for _, raw := range v.replace {
			c.handle(c.api.parse(raw))
		}
		if v.after == closePolitely {
			c.queue(closing)
		} else {
			c.finish(v.after)
		}
	}
	if c.ending() == stayOpen {
		c.queue(closing)
		select {
		case <-c.mute:
		case <-time.After(goodbye):
		}
	}
}

// queue hands an item to the writer. A full queue makes whoever publishes wait, as long as it moves.
func (c *apiConn) queue(item apiItem) {
	item.due = time.Now().Add(c.api.opts.delay)
	item.frame.conn, item.frame.out = c.number, true
	select {
	case c.out <- item:
		return
	default:
	}
	select {
	case c.out <- item:
	case <-c.mute:
	case <-time.After(slowReader):
		c.api.log.Info("AppSync emulator: ended a connection that reads too slowly", "connection", c.number)
		c.finish(resetConnection)
	}
}

// writeLoop is the only one that writes messages.
func (c *apiConn) writeLoop() {
	ka, life := time.NewTicker(c.api.opts.keepAlive), time.NewTimer(quotaLife)
	defer ka.Stop()
	defer life.Stop()
	for {
		var item apiItem
		select {
		case item = <-c.out:
		case <-ka.C:
			item.frame = apiFrame{conn: c.number, out: true, typ: "ka", raw: []byte(`{"type":"ka"}`)}
		case <-life.C:
			item = closing
		case <-c.mute:
			return
		}
		if !hold(time.Until(item.due), nil, c.mute) {
			return
		}
		if item.verdict == nil {
			v := c.api.judge(item.frame)
			item.verdict = &v
		}
		if err := c.write(item.frame.raw, *item.verdict); err != nil {
			c.silence()
			return
		}
	}
}

// write carries out a verdict on one outgoing message. Each frame is one Write, so that no pong gets into its
// middle.
func (c *apiConn) write(raw []byte, v apiVerdict) error {
	if !hold(0, v.until, c.mute) {
		return net.ErrClosed
	}
	if v.replace == nil {
		v.replace = [][]byte{raw}
	}
	for _, msg := range v.replace {
		if _, err := c.nc.Write(webSocketFrame(true, websocket.TextFrame, msg)); err != nil {
			return err
		}
	}
	if len(v.wire) > 0 {
		if _, err := c.nc.Write(v.wire); err != nil {
			return err
		}
	}
	c.finish(v.after)
	return nil
}

// ---- messages ----

// clientMessage is any message of a client, and the body of an HTTPS publish.
type clientMessage struct {
	Type          string            `json:"type"`
	ID            string            `json:"id"`
	Channel       string            `json:"channel"`
	Events        []string          `json:"events"`
	Authorization map[string]string `json:"authorization"`

	fault    *apiError // it cannot be understood
	signed   []byte    // of a GraphQL API's operation: what its signature covers
	selected selection // and what it selects
}

func (a *eventAPI) parse(raw []byte) (m clientMessage) {
	if a.opts.graphql {
		return graphqlMessage(raw)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		m.fault = &apiError{ErrorType: "BadRequestException", Message: "Malformed message: " + err.Error()}
	}
	return m
}

// apiAnswer is any message to a client but data, and the body of an HTTPS error.
type apiAnswer struct {
	Type                string     `json:"type,omitempty"`
	ID                  string     `json:"id,omitempty"`
	ConnectionTimeoutMs int64      `json:"connectionTimeoutMs,omitempty"`
	Errors              []apiError `json:"errors,omitempty"`
	*apiPublished
}

// apiPublished tells what became of a publish's events.
type apiPublished struct {
	Successful []apiEvent `json:"successful"`
	Failed     []apiEvent `json:"failed"`
}

type apiEvent struct {
	Identifier string `json:"identifier"`
	Index      int    `json:"index"`
	Code       string `json:"code,omitempty"`
	Message    string `json:"message,omitempty"`
}

// fault makes, and counts, an error for a client. AppSync's errorTypes are partly on the protocol page,
// partly known from AWS's own clients only (github.com/aws-amplify/amplify-js, amplify-android).
func (a *eventAPI) fault(errorType, message string) *apiError {
	a.log.Debug("AppSync emulator: refused", "errorType", errorType)
	a.update(func() { a.counts.errors[errorType]++ })
	return &apiError{ErrorType: errorType, Message: message}
}

// MarshalJSON writes the names as AppSync does, which encoding/json reads in any case.
func (e apiError) MarshalJSON() ([]byte, error) {
	names := map[string]string{"message": e.Message}
	if e.ErrorType != "" {
		names["errorType"] = e.ErrorType
	}
	return json.Marshal(names)
}

func mustJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // only strings and numbers come here
	}
	return raw
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (c *apiConn) reply(answer apiAnswer) {
	raw := mustJSON(answer)
	if c.api.opts.graphql {
		raw = graphqlAnswer(answer)
	}
	c.queue(apiItem{frame: apiFrame{typ: answer.Type, id: answer.ID, raw: raw}})
}

// handle answers one message. A GraphQL API ignores what comes before connection_init.
func (c *apiConn) handle(m clientMessage) {
	c.began = c.began || m.Type == "connection_init"
	if c.api.opts.graphql && !c.began {
		return
	}
	var fault *apiError
	operation := map[string]func(clientMessage) *apiError{
		"subscribe": c.subscribe, "unsubscribe": c.unsubscribe, "publish": c.publish,
	}[m.Type]
	switch {
	case m.fault != nil && operation == nil:
		fault = c.api.fault(m.fault.ErrorType, m.fault.Message)
	case m.Type == "connection_init":
		c.reply(apiAnswer{Type: "connection_ack", ConnectionTimeoutMs: c.api.opts.timeout.Milliseconds()})
	case operation == nil:
		fault = c.api.fault("UnsupportedOperation", "Unknown message type")
	case !operationID.MatchString(m.ID):
		fault = c.api.fault("BadRequestException", "Invalid id")
	default:
		fault = operation(m)
	}
	if fault == nil {
		return
	}
	answer := apiAnswer{Type: "error", ID: m.ID, Errors: []apiError{*fault}}
	if operation != nil && m.ID != "" {
		answer.Type = m.Type + "_error"
	}
	c.reply(answer)
}

func (c *apiConn) subscribe(m clientMessage) *apiError {
	body := append(appendGson([]byte(`{"channel":`), m.Channel), '}')
	if c.api.opts.graphql {
		body = m.signed
	}
	if fault := c.api.authorize(m.field, c.host, c.api.path(), body); fault != nil {
		return fault
	}
	if m.fault != nil {
		return c.api.fault(m.fault.ErrorType, m.fault.Message)
	}
	if fault := c.api.checkChannel(m.Channel, wildcardChannel.MatchString(m.Channel)); fault != nil {
		return fault
	}
	if _, taken := c.subs[m.ID]; taken {
		return c.api.fault("DuplicatedOperationError", "The subscription id is in use")
	}
	if len(c.subs) >= quotaSubscriptions {
		return c.api.fault("MaxSubscriptionsReachedError", "Too many subscriptions on this connection")
	}
	// First the subscription, so that nothing published after subscribe_success is missed; an event may
	// overtake it.
	c.api.update(func() {
		c.subs[m.ID] = apiSubscription{m.Channel, m.selected, time.Now().Add(c.api.opts.activation)}
	})
	c.reply(apiAnswer{Type: "subscribe_success", ID: m.ID})
	return nil
}

func (c *apiConn) unsubscribe(m clientMessage) *apiError {
	if _, known := c.subs[m.ID]; !known {
		return c.api.fault("UnknownOperationError", "Unknown subscription id")
	}
	c.api.update(func() { delete(c.subs, m.ID) })
	c.reply(apiAnswer{Type: "unsubscribe_success", ID: m.ID})
	return nil
}

func (c *apiConn) publish(m clientMessage) *apiError {
	now := time.Now()
	c.recent = slices.DeleteFunc(c.recent, func(t time.Time) bool { return now.Sub(t) >= time.Second })
	rate := len(c.recent) + 1
	c.api.update(func() {
		c.api.counts.publishes[c.number]++
		c.api.counts.busiest = max(c.api.counts.busiest, rate)
	})
	if rate > quotaPublishes {
		return c.api.fault("LimitExceededError", "Rate limit exceeded")
	}
	c.recent = append(c.recent, now)
	body := m.encode()
	if fault := c.api.authorize(m.field, c.host, c.api.path(), body); fault != nil {
		return fault
	}
	result, fault := c.api.take(m, len(body))
	if fault == nil {
		c.reply(apiAnswer{Type: "publish_success", ID: m.ID, apiPublished: result})
	}
	return fault
}

// checkChannel refuses names outside AppSync's pattern and namespaces that do not exist. To a GraphQL API a
// name is any string.
func (a *eventAPI) checkChannel(channel string, wildcard bool) *apiError {
	if a.opts.graphql {
		return nil
	}
	if !wildcard && !publishChannel.MatchString(channel) {
		return a.fault("BadRequestException", "Invalid channel")
	}
	namespace, _, _ := strings.Cut(strings.Trim(channel, "/"), "/")
	if !slices.Contains(a.opts.namespaces, namespace) {
		return a.fault("UnauthorizedException", "You are not authorized to make this call.")
	}
	return nil
}

// take checks an authorized publish of so many bytes and delivers its events.
func (a *eventAPI) take(m clientMessage, size int) (*apiPublished, *apiError) {
	if m.fault != nil {
		return nil, a.fault(m.fault.ErrorType, m.fault.Message)
	}
	if fault := a.checkChannel(m.Channel, false); fault != nil {
		return nil, fault
	}
	if n := len(m.Events); n < 1 || n > quotaEvents {
		return nil, a.fault("InvalidInputError", "A publish takes one to five events")
	}
	if size > quotaPublishBytes {
		return nil, a.fault("BadRequestException", "The publish payload is too large")
	}
	if slices.ContainsFunc(m.Events, func(text string) bool { return !json.Valid([]byte(text)) }) {
		return nil, a.fault("BadRequestException", "An event is not valid JSON")
	}
	result := &apiPublished{Successful: []apiEvent{}, Failed: []apiEvent{}}
	for i, text := range m.Events {
		if len(text) > quotaEventBytes && !a.opts.graphql {
			f := a.fault("EventTooLargeException", "The event is too large")
			result.Failed = append(result.Failed, apiEvent{newUUID(), i, f.ErrorType, f.Message})
			continue
		}
		result.Successful = append(result.Successful, apiEvent{Identifier: newUUID(), Index: i})
		a.deliver(m.Channel, text, m.selected)
	}
	return result, nil
}

// deliver queues an event for every subscription that matches, the publisher's own included; overlapping
// subscriptions each get it. published is what the mutation has selected, in a GraphQL API.
func (a *eventAPI) deliver(channel, text string, published selection) {
	event := appendGson(nil, text)
	if a.opts.otherData && !a.opts.graphql {
		event = slices.Concat([]byte{'['}, event, []byte{']'})
	}
	type target struct {
		c  *apiConn
		id string
		s  apiSubscription
	}
	var targets []target
	now := time.Now()
	a.update(func() {
		for _, c := range a.conns {
			for id, s := range c.subs {
				if c.live() && !now.Before(s.from) &&
					(a.opts.graphql && s.channel == channel || !a.opts.graphql && s.matches(channel)) {
					targets = append(targets, target{c, id, s})
				}
			}
		}
		name := channel
		if a.counts.events[name] == 0 && len(a.counts.events) >= maxChannels {
			name = ""
		}
		a.counts.events[name]++
	})
	for _, t := range targets {
		raw := slices.Concat([]byte(`{"type":"data","id":"`+t.id+`","event":`), event, []byte{'}'})
		if a.opts.graphql {
			if raw = graphqlData(t.id, t.s.selected, published, channel, text, a.opts.otherData); raw == nil {
				continue
			}
		}
		t.c.queue(apiItem{
			frame: apiFrame{typ: "data", id: t.id, channel: channel, events: []string{text}, raw: raw}})
	}
}

// matches compares without outer slashes; a wildcard takes any depth below its parent, but not the parent.
func (s apiSubscription) matches(channel string) bool {
	prefix, wild := strings.CutSuffix(strings.Trim(s.channel, "/"), "*")
	channel = strings.Trim(channel, "/")
	return channel == prefix || wild && strings.HasPrefix(channel, prefix)
}

// encode is a publish as the service serialises it: what its signature is checked against.
func (m clientMessage) encode() []byte {
	size := 64 + len(m.Channel)
	for _, text := range m.Events {
		size += len(text) + len(text)/4 + 3
	}
	body := append(appendGson(append(make([]byte, 0, size), `{"channel":`...), m.Channel), `,"events":[`...)
	for i, text := range m.Events {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendGson(body, text)
	}
	return append(body, "]}"...)
}

// plainInGson tells the bytes that stand for themselves in appendGson's strings.
func plainInGson(b byte) bool {
	return b >= ' ' && b < 0x7f && b != '"' && b != '\\' && b != '<' && b != '>' && b != '&' && b != '=' &&
		b != '\''
}

// appendGson appends s as a JSON string the way an HTML-safe serialiser (Gson's default) writes it. The
// service checks the signature of a WebSocket publish against its own serialisation, and refuses events with
// < or > that the client signed as they are. Whatever else serialisers disagree on is escaped here too.
// https://github.com/aws/aws-appsync-community/issues/400
func appendGson(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for len(s) > 0 {
		n := 0
		for n < len(s) && plainInGson(s[n]) {
			n++
		}
		dst = append(dst, s[:n]...)
		r, size := utf8.DecodeRuneInString(s[n:])
		s = s[n+size:]
		switch {
		case size == 0:
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r >= 0x10000:
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
	}
	return append(dst, '"')
}

// ---- authorization ----

// field returns a value of the authorization object; its names' case does not count.
func (m clientMessage) field(name string) string {
	for k, v := range m.Authorization {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// authorizeConnect checks the connection's authorization object, which comes in a sub-protocol or, to a
// GraphQL API, in the query.
func (a *eventAPI) authorizeConnect(protocols []string, query url.Values, host string) *apiError {
	var m clientMessage
	path, encoded, encoding := a.path(), "", base64.RawURLEncoding
	for _, p := range protocols {
		if s, ok := strings.CutPrefix(p, "header-"); ok {
			encoded = s
		}
	}
	if a.opts.graphql {
		path += "/connect"
		if payload, err := base64.StdEncoding.DecodeString(query.Get("payload")); encoded == "" &&
			query.Has("header") {
			if encoded, encoding = query.Get("header"),
				base64.StdEncoding; err != nil || string(payload) != "{}" {
				return a.fault("BadRequestException", "The query's payload is not {}")
			}
		}
	}
	if encoded != "" {
		raw, err := encoding.Strict().DecodeString(encoded)
		if err == nil {
			err = json.Unmarshal(raw, &m.Authorization)
		}
		if err != nil {
			return a.fault("BadRequestException", "Malformed authorization header: "+err.Error())
		}
		if !a.isHost(m.field("host"), host) {
			return a.fault("BadRequestException", "The authorization object is for another host")
		}
	}
	return a.authorize(m.field, host, path, []byte("{}"))
}

// isHost compares a host that a client names with the API's own; asked is the Host header it came with.
func (a *eventAPI) isHost(named, asked string) bool {
	return strings.EqualFold(bareHost(named), bareHost(cmp.Or(a.opts.host, asked)))
}

func bareHost(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

// authorize checks one operation: field returns its authorization headers, asked is the Host header of the
// request or of the connection's upgrade, path and body are what a signature covers.
func (a *eventAPI) authorize(field func(string) string, asked, path string, body []byte) *apiError {
	a.mu.Lock()
	apiKey, accepted := a.opts.apiKey, a.opts.credentials
	a.mu.Unlock()
	const refusal = "You are not authorized to make this call."
	key, header := field("x-api-key"), field("authorization")
	if key != "" && apiKey != "" && subtle.ConstantTimeCompare([]byte(key), []byte(apiKey)) == 1 {
		return nil
	}
	if key != "" || header == "" {
		return a.fault("UnauthorizedException", refusal)
	}
	s, err := parseSigV4(header)
	if err != nil {
		return a.fault("BadRequestException", err.Error())
	}
	i := slices.IndexFunc(accepted, func(c credentials) bool { return c.accessKeyID == s.accessKeyID })
	if i < 0 || accepted[i].sessionToken != field("x-amz-security-token") {
		return a.fault("UnauthorizedException", refusal)
	}
	if err := a.verify(s, accepted[i], field, asked, path, body); err != nil {
		return a.fault("BadRequestException", err.Error())
	}
	return nil
}

// sigV4 is a parsed Authorization header; scope is DATE/REGION/SERVICE/aws4_request.
type sigV4 struct {
	accessKeyID, scope, signature string
	signedHeaders                 []string
}

var authorizationHeader = regexp.MustCompile(
	`^AWS4-HMAC-SHA256 Credential=([^/, ]+)/([^, ]+), ?SignedHeaders=([^, ]+), ?Signature=([0-9a-f]{64})$`)

func parseSigV4(header string) (sigV4, error) {
	p := authorizationHeader.FindStringSubmatch(header)
	if p == nil {
		return sigV4{}, errors.New("the Authorization header is not a Signature Version 4 signature")
	}
	s := sigV4{accessKeyID: p[1], scope: p[2], signature: p[4], signedHeaders: strings.Split(p[3], ";")}
	if !slices.IsSorted(s.signedHeaders) || !slices.Contains(s.signedHeaders, "host") {
		return sigV4{}, errors.New("SignedHeaders must be sorted and include host")
	}
	return s, nil
}

// verify makes the signature again from the headers that it says it covers. Every operation, a WebSocket's
// included, is signed as a POST.
func (a *eventAPI) verify(
	s sigV4, c credentials, field func(string) string, asked, path string, body []byte) error {
	date := field("x-amz-date")
	at, err := time.Parse("20060102T150405Z", date)
	switch {
	case err != nil:
		return errors.New("x-amz-date is missing or not of the form YYYYMMDDTHHMMSSZ")
	case time.Since(at).Abs() > quotaClockSkew:
		return fmt.Errorf("signature expired: %s is too far from now", date)
	case s.scope != date[:8]+"/"+a.opts.region+"/appsync/aws4_request":
		return fmt.Errorf(
			"the credential should be scoped to %s/%s/appsync/aws4_request", date[:8], a.opts.region)
	}
	headers := map[string]string{}
	for _, name := range s.signedHeaders {
		value := strings.Join(strings.Fields(field(name)), " ")
		switch {
		case name == "host":
			value = cmp.Or(value, asked) // over HTTPS it is the Host header itself
			if !a.isHost(value, asked) {
				return errors.New("the signature is for another host")
			}
		case name == "content-length":
			value = cmp.Or(value, fmt.Sprint(len(body))) // the service is known to fill it in
		case value == "":
			return fmt.Errorf("header %q is signed and not there", name)
		}
		headers[name] = value
	}
	want := c.authorization(a.opts.region, date, path, headers, body)
	if strings.HasSuffix(want, "Signature="+s.signature) {
		return nil
	}
	return signatureMismatch(path, headers, body)
}

// signatureMismatch quotes the canonical request, token and all, as the service does: a client that logs it
// leaks it.
// https://github.com/aws-amplify/amplify-js/issues/14001
func signatureMismatch(path string, headers map[string]string, body []byte) error {
	canonical, _ := canonicalRequest(path, headers, body)
	return fmt.Errorf("The request signature we calculated does not match the signature you provided. "+
		"Check your AWS Secret Access Key and signing method.\n\nThe Canonical String for this request "+
		"should have been\n'%s'\n", canonical)
}
