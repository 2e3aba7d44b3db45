//go:build !layer

package main

// fake_appsync_conn.go is one WebSocket of the emulated AppSync: its upgrade, its queues, and its answers to
// what a client sends.
//
// Goroutines of one connection: a reader (net/http's), one that works through what was read, and a writer.
//
// https://docs.aws.amazon.com/appsync/latest/eventapi/event-api-websocket-protocol.html

import (
	"encoding/binary"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/websocket"
)

// netConnKey is the context key of a request's net.Conn: faults need what lies below the WebSocket.
type netConnKey struct{}

// webSocketFrame is one frame of a server (RFC 6455, section 5.2), for a verdict's wire too: opcode 0
// continues a message, 1 is text, 8 close, 9 ping. Only tests make frames that are not final.
func webSocketFrame(final bool, opcode byte, payload []byte) []byte {
	if final {
		opcode |= 0x80
	}
	n := len(payload)
	var frame []byte
	switch {
	case n < 126:
		frame = []byte{opcode, byte(n)}
	case n <= 0xffff:
		frame = binary.BigEndian.AppendUint16([]byte{opcode, 126}, uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64([]byte{opcode, 127}, uint64(n))
	}
	return slices.Concat(frame, payload)
}

// hold waits for a delay, then for until if that is not nil. It returns false if stop is closed or gets
// closed.
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

// realtime upgrades to a WebSocket. Refused credentials are told there, as the service does.
func (a *eventAPI) realtime(w http.ResponseWriter, r *http.Request) {
	var number int
	a.update(func() {
		a.counts.connections++
		number = a.counts.connections
	})
	v, ok := a.admit(w, r, apiFrame{conn: number, typ: "upgrade"})
	if !ok {
		return
	}
	if v.after != stayOpen {
		panic(http.ErrAbortHandler)
	}
	protocol := "aws-appsync-event-ws"
	if a.opts.graphql {
		protocol = "graphql-ws"
	}
	offered := offeredProtocols(r)
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
			refused := a.authorizeConnect(offered, r.URL.Query(), r.Host)
			newAPIConn(a, number, r.Host, nc, ws).serve(refused)
		},
	}.ServeHTTP(w, r)
}

// offeredProtocols are the WebSocket sub-protocols that a client names.
func offeredProtocols(r *http.Request) []string {
	list := strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ",")
	return strings.Fields(strings.ReplaceAll(list, ",", " "))
}

// apiConn is one WebSocket.
type apiConn struct {
	api    *eventAPI
	number int
	host   string // its upgrade's Host header
	nc     net.Conn
	// below is what is below nc's TLS, whose Close would say goodbye and wait for a client that takes
	// nothing. Without TLS it is nc.
	below net.Conn
	// ws is for reading, and for the pongs that x/net sends while it reads. The writer uses nc.
	ws  *websocket.Conn
	in  chan apiItem
	out chan apiItem

	done    chan struct{} // closed by end: all is over
	mute    chan struct{} // closed by silence and end: nothing is written any more
	end     func()
	silence func()

	// The working goroutine alone uses these two.
	began  bool        // connection_init has come
	recent []time.Time // publishes of the last second

	// api.mu guards the following.
	state apiEnding
	left  bool // the client has ended the connection
	// by ID; the working goroutine alone changes it, and may read it without mu
	subs map[string]apiSubscription
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
		api:    a,
		number: number,
		host:   host,
		nc:     nc,
		below:  nc,
		ws:     ws,
		in:     make(chan apiItem, inQueue),
		out:    make(chan apiItem, outQueue),
		done:   make(chan struct{}),
		mute:   make(chan struct{}),
		subs:   map[string]apiSubscription{},
	}
	t, ok := nc.(interface{ NetConn() net.Conn })
	if ok {
		c.below = t.NetConn()
	}
	c.silence = sync.OnceFunc(func() { close(c.mute) })
	c.end = sync.OnceFunc(func() {
		c.silence()
		close(c.done)
		c.below.Close()
	})
	return c
}

// serve runs the connection to its end; refused is why it is refused, if it is.
func (c *apiConn) serve(refused *apiRefusal) {
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
	if refused != nil {
		c.reply(apiAnswer{Type: "connection_error", Errors: []apiRefusal{*refused}})
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
		t, ok := c.below.(*net.TCPConn)
		if ok {
			t.SetLinger(0)
		}
		c.end()
	}
	c.silence()
}

// live tells whether anything can still be said to the client; api.mu is held.
func (c *apiConn) live() bool { return c.state == stayOpen && !c.left }

// ending tells which ending the connection has come to.
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
		state := c.ending()
		if state == goHalfOpen {
			<-c.done
			return nil
		}
		if err != nil {
			return err
		}
		if state == closePolitely { // what the client sent before it saw the closing frame
			continue
		}
		item := apiItem{
			due:   time.Now().Add(c.api.opts.delay),
			frame: apiFrame{conn: c.number, raw: raw},
		}
		select {
		case c.in <- item:
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
		if hold(time.Until(item.due), nil, c.done) && c.ending() == stayOpen {
			c.work(item.frame)
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

// work does with a client's message what the hook says.
func (c *apiConn) work(frame apiFrame) {
	m := c.api.parse(frame.raw)
	frame.typ = m.Type
	frame.id = m.ID
	frame.channel = m.Channel
	frame.events = m.Events
	v := c.api.judge(frame)
	if !hold(0, v.until, c.done) {
		return
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

// queue hands an item to the writer. A full queue makes whoever publishes wait, as long as it moves.
func (c *apiConn) queue(item apiItem) {
	item.due = time.Now().Add(c.api.opts.delay)
	item.frame.conn = c.number
	item.frame.out = true
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
	ka := time.NewTicker(c.api.opts.keepAlive)
	defer ka.Stop()
	life := time.NewTimer(quotaLife)
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
		_, err := c.nc.Write(webSocketFrame(true, websocket.TextFrame, msg))
		if err != nil {
			return err
		}
	}
	if len(v.wire) > 0 {
		_, err := c.nc.Write(v.wire)
		if err != nil {
			return err
		}
	}
	c.finish(v.after)
	return nil
}

// parse reads a client's message.
func (a *eventAPI) parse(raw []byte) (m clientMessage) {
	if a.opts.graphql {
		return graphqlMessage(raw)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		m.refused = &apiRefusal{
			ErrorType: "BadRequestException", Message: "Malformed message: " + err.Error()}
	}
	return m
}

// reply queues a message that answers the client.
func (c *apiConn) reply(answer apiAnswer) {
	raw := mustJSON(answer)
	if c.api.opts.graphql {
		raw = graphqlAnswer(answer)
	}
	c.queue(apiItem{frame: apiFrame{typ: answer.Type, id: answer.ID, raw: raw}})
}

// handle answers one message. A GraphQL API ignores what comes before connection_init.
func (c *apiConn) handle(m clientMessage) {
	if m.Type == "connection_init" {
		c.began = true
	}
	if c.api.opts.graphql && !c.began {
		return
	}
	operation := c.operation(m.Type)
	refused := c.perform(operation, m)
	if refused == nil {
		return
	}
	answer := apiAnswer{Type: "error", ID: m.ID, Errors: []apiRefusal{*refused}}
	if operation != nil && m.ID != "" {
		answer.Type = m.Type + "_error"
	}
	c.reply(answer)
}

// operation is what does an operation of that type, or nil.
func (c *apiConn) operation(typ string) func(clientMessage) *apiRefusal {
	switch typ {
	case "subscribe":
		return c.subscribe
	case "unsubscribe":
		return c.unsubscribe
	case "publish":
		return c.publish
	}
	return nil
}

// perform does what a message asks for, and returns why not. operation is nil for other messages.
func (c *apiConn) perform(operation func(clientMessage) *apiRefusal, m clientMessage) *apiRefusal {
	switch {
	case m.refused != nil && operation == nil:
		return c.api.refuse(m.refused.ErrorType, m.refused.Message)
	case m.Type == "connection_init":
		c.reply(apiAnswer{Type: "connection_ack", ConnectionTimeoutMs: c.api.opts.timeout.Milliseconds()})
		return nil
	case operation == nil:
		return c.api.refuse("UnsupportedOperation", "Unknown message type")
	case !operationID.MatchString(m.ID):
		return c.api.refuse("BadRequestException", "Invalid id")
	}
	return operation(m)
}

func (c *apiConn) subscribe(m clientMessage) *apiRefusal {
	body := append(appendGson([]byte(`{"channel":`), m.Channel), '}')
	if c.api.opts.graphql {
		body = m.signed
	}
	refused := c.api.authorize(m.field, c.host, c.api.path(), body)
	if refused != nil {
		return refused
	}
	refused = c.checkSubscription(m)
	if refused != nil {
		return refused
	}
	// First the subscription, so that nothing published after subscribe_success is missed; an event may
	// overtake it.
	c.api.update(func() {
		c.subs[m.ID] = apiSubscription{
			channel:  m.Channel,
			selected: m.selected,
			from:     time.Now().Add(c.api.opts.activation),
		}
	})
	c.reply(apiAnswer{Type: "subscribe_success", ID: m.ID})
	return nil
}

// checkSubscription refuses an authorized subscription.
func (c *apiConn) checkSubscription(m clientMessage) *apiRefusal {
	if m.refused != nil {
		return c.api.refuse(m.refused.ErrorType, m.refused.Message)
	}
	wildcard := wildcardChannel.MatchString(m.Channel)
	refused := c.api.checkChannel(m.Channel, wildcard)
	if refused != nil {
		return refused
	}
	_, taken := c.subs[m.ID]
	if taken {
		return c.api.refuse("DuplicatedOperationError", "The subscription id is in use")
	}
	if len(c.subs) >= quotaSubscriptions {
		return c.api.refuse("MaxSubscriptionsReachedError", "Too many subscriptions on this connection")
	}
	return nil
}

func (c *apiConn) unsubscribe(m clientMessage) *apiRefusal {
	_, known := c.subs[m.ID]
	if !known {
		return c.api.refuse("UnknownOperationError", "Unknown subscription id")
	}
	c.api.update(func() { delete(c.subs, m.ID) })
	c.reply(apiAnswer{Type: "unsubscribe_success", ID: m.ID})
	return nil
}

func (c *apiConn) publish(m clientMessage) *apiRefusal {
	if !c.mayPublish() {
		return c.api.refuse("LimitExceededError", "Rate limit exceeded")
	}
	body := m.encode()
	refused := c.api.authorize(m.field, c.host, c.api.path(), body)
	if refused != nil {
		return refused
	}
	result, refused := c.api.take(m, len(body))
	if refused != nil {
		return refused
	}
	c.reply(apiAnswer{Type: "publish_success", ID: m.ID, apiPublished: result})
	return nil
}

// mayPublish counts a publish, and tells whether it is within the quota of publishes a second.
func (c *apiConn) mayPublish() bool {
	now := time.Now()
	c.recent = slices.DeleteFunc(c.recent, func(t time.Time) bool { return now.Sub(t) >= time.Second })
	rate := len(c.recent) + 1
	c.api.update(func() {
		c.api.counts.publishes[c.number]++
		c.api.counts.busiest = max(c.api.counts.busiest, rate)
	})
	if rate > quotaPublishes {
		return false
	}
	c.recent = append(c.recent, now)
	return true
}
