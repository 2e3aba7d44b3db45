//go:build !layer

package main

// fake_appsync.go is AWS AppSync on this machine, for `demo` and for the tests: publish over HTTPS (here over
// what the listener speaks) and, in fake_appsync_conn.go, the WebSocket protocol, with the service's checks
// and limits. HTTP requests and WebSocket messages come in on one listener. Replies and events go out, and
// the faults that a test asks for. Errors are told to clients as AppSync tells them. If AWS's pages leave a
// question open, the answer here is the harder one for a client. All is said in Event APIs' words here;
// fake_graphql.go translates if the API is a GraphQL API.
//
// The program starts it, watches its frames by intercept and waits by subscribers. Only tests use verdicts
// other than the zero value, do, publish (with wholeChannel), accept, the counts, and the options but for
// graphql, credentials and region.
//
// https://docs.aws.amazon.com/appsync/latest/eventapi/publish-http.html

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
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
	apiKey      string        // accepted; none if empty
	credentials []credentials // accepted
	denied      bool          // their policies allow nothing
	region      string        // that signatures must be for
	ahead       time.Duration // its clock is ahead of the clients'
	// host is what authorizations must name, ports aside. The default is the request's Host header.
	host       string
	namespaces []string      // default: live-lambda
	delay      time.Duration // of each message in each direction, and of HTTPS requests and replies
	activation time.Duration // from subscribe_success to the first event delivered
	keepAlive  time.Duration // between two ka; default: 60 s
	timeout    time.Duration // announced as connectionTimeoutMs; default: 300 s
	// documentedData makes data carry ["…"], as AWS's page has it, not the "…" that the service sends. A
	// GraphQL API then encodes AWSJSON twice.
	documentedData bool
	log            *slog.Logger // may be nil
}

// eventAPI is a running emulator.
type eventAPI struct {
	opts   eventAPIOptions // mu guards apiKey and credentials
	log    *slog.Logger
	server *http.Server
	wg     sync.WaitGroup // the server and its handlers

	hook     atomic.Pointer[func(apiFrame) apiVerdict]
	hookCall sync.Mutex // one call of the hook at a time

	mu      sync.Mutex // guards the following
	closed  bool
	changed chan struct{} // closed, and made anew, by update
	conns   map[int]*apiConn
	counts  eventAPICounts
	expired []credentials // temporary ones that accept has taken back
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
	a := &eventAPI{
		opts:    opts,
		log:     opts.log,
		changed: make(chan struct{}),
		conns:   map[int]*apiConn{},
		counts: eventAPICounts{
			publishes: map[int]int{},
			events:    map[string]int{},
			errors:    map[string]int{},
		},
	}
	a.server = &http.Server{
		Handler:  a.routes(),
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, netConnKey{}, nc)
		},
	}
	a.wg.Go(func() { a.server.Serve(ln) })
	return a
}

func (a *eventAPI) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+a.path(), a.tracked(a.publishHTTP))
	mux.HandleFunc("GET "+a.path()+"/realtime", a.tracked(a.realtime))
	if a.opts.graphql { // the path on a realtime host of its own
		mux.HandleFunc("GET "+a.path(), a.tracked(a.realtime))
	}
	return mux
}

// path is that of operations, as they are signed.
func (a *eventAPI) path() string {
	if a.opts.graphql {
		return "/graphql"
	}
	return "/event"
}

// tracked lets close wait for handlers, those of upgraded connections included, which net/http forgets.
func (a *eventAPI) tracked(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !a.track() {
			panic(http.ErrAbortHandler)
		}
		defer a.wg.Done()
		h(w, r)
	}
}

// track adds a handler to those that close waits for, unless close has begun.
func (a *eventAPI) track() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.wg.Add(1)
	return true
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

// apiFrame is one message, or one HTTP request, as the hook sees it.
type apiFrame struct {
	conn int  // counted from 1; 0: HTTPS
	out  bool // towards the client
	// typ is the message's type in an Event API. HTTP requests have "upgrade" and "http_publish", and the
	// latter's reply has "http_published".
	typ     string
	id      string
	channel string   // of a subscribe, of a publish, and of the publish that a data message comes from
	events  []string // of a publish or data message
	raw     []byte   // must not be changed; nil for upgrade
}

// apiVerdict says what becomes of a frame; the zero value lets it pass. For HTTP its fields mean:
//
//	frame            field                  what becomes of it
//	upgrade          replace, after         it is cut off, and nothing is done
//	http_publish     replace                it is cut off, and nothing is done
//	either of them   status                 it gets this status with the body wire, and nothing is done
//	http_publish     after                  it is done, and cut off without a reply
//	http_published   replace with a frame   the reply is the first one
//	http_published   replace without any    the request is cut off without a reply
//	http_published   after                  the same
type apiVerdict struct {
	// until is waited for first. Whatever is behind the frame, in its direction, waits too.
	until <-chan struct{}
	// replace takes the frame's place if it is not nil: no message drops it, two copies double it.
	replace [][]byte
	// wire is written after them as it is, frame headers and all; only towards the client.
	wire   []byte
	after  apiEnding // what becomes of the connection then
	status int       // for HTTP alone
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

// judge asks the hook about a frame.
func (a *eventAPI) judge(f apiFrame) apiVerdict {
	a.hookCall.Lock()
	defer a.hookCall.Unlock()
	hook := a.hook.Load()
	if hook == nil || *hook == nil {
		return apiVerdict{}
	}
	return (*hook)(f)
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

// accept replaces what authorizes from now on: keys change, and temporary credentials expire.
func (a *eventAPI) accept(apiKey string, creds ...credentials) {
	a.update(func() {
		for _, c := range a.opts.credentials {
			if c.sessionToken != "" {
				a.expired = append(a.expired, c)
			}
		}
		a.opts.apiKey = apiKey
		a.opts.credentials = creds
	})
}

// wait returns when cond holds, or with the context's error. cond must not keep the counts.
func (a *eventAPI) wait(ctx context.Context, cond func(*eventAPICounts) bool) error {
	for {
		ok, changed := a.check(cond)
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

// check tells whether cond holds now. The channel is closed when that may have changed.
func (a *eventAPI) check(cond func(*eventAPICounts) bool) (ok bool, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts.open = 0
	for _, c := range a.conns {
		if c.live() {
			a.counts.open++
		}
	}
	return cond(&a.counts), a.changed
}

// subscribers waits until at least n subscriptions to channel are confirmed on open connections, and returns
// their connections' numbers, sorted. A channel that ends in * stands for all that begin with what precedes
// it.
func (a *eventAPI) subscribers(ctx context.Context, channel string, n int) (conns []int, err error) {
	prefix, many := strings.CutSuffix(channel, "*")
	err = a.wait(ctx, func(*eventAPICounts) bool {
		conns = conns[:0]
		for _, c := range a.conns {
			if !c.live() {
				continue
			}
			for _, s := range c.subs {
				if s.channel == channel || many && strings.HasPrefix(s.channel, prefix) {
					conns = append(conns, c.number)
				}
			}
		}
		return len(conns) >= n
	})
	slices.Sort(conns)
	return conns, err
}

// ---- HTTP ----

// admit does what the hook says about a request before it is served, and reports whether it is to be served.
func (a *eventAPI) admit(w http.ResponseWriter, r *http.Request, f apiFrame) (v apiVerdict, ok bool) {
	v = a.judge(f)
	if !hold(0, v.until, r.Context().Done()) || v.replace != nil {
		panic(http.ErrAbortHandler)
	}
	if v.status == 0 {
		return v, true
	}
	if v.wire != nil {
		writeAnswer(w, v.status, v.wire)
	} else {
		http.Error(w, http.StatusText(v.status), v.status)
	}
	return v, false
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
	m := a.parsePublish(body)
	frame := apiFrame{typ: "http_publish", channel: m.Channel, events: m.Events, raw: body}
	v, ok := a.admit(w, r, frame)
	if !ok {
		return
	}
	a.update(func() { a.counts.publishes[0]++ })
	status, answer := a.publishOperation(r, m, body)
	if v.after == stayOpen {
		frame.out = true
		frame.typ = "http_published"
		frame.raw = answer
		answer, v = a.judgeAnswer(frame)
	}
	if v.after == goHalfOpen {
		v.until = make(chan struct{}) // for ever
	}
	if !hold(a.opts.delay, v.until, r.Context().Done()) || v.after != stayOpen {
		panic(http.ErrAbortHandler)
	}
	writeAnswer(w, status, answer)
}

// parsePublish reads the body of an HTTPS publish.
func (a *eventAPI) parsePublish(body []byte) (m clientMessage) {
	if a.opts.graphql {
		return graphqlOperation("mutation", body)
	}
	if err := json.Unmarshal(body, &m); err != nil {
		m.refused = &apiRefusal{
			ErrorType: "BadRequestException", Message: "Malformed request: " + err.Error()}
	}
	return m
}

// publishOperation does what an HTTPS publish asks for, and returns the reply.
func (a *eventAPI) publishOperation(r *http.Request, m clientMessage, body []byte) (
	status int, answer []byte) {
	refused := a.authorize(r.Header.Get, r.Host, a.path(), body)
	if refused != nil {
		return a.publishAnswer(m, nil, refused)
	}
	result, refused := a.take(m, len(m.encode()))
	return a.publishAnswer(m, result, refused)
}

// publishAnswer is the reply to an HTTPS publish. A GraphQL API tells refusals of a mutation, which have no
// type here, in a reply of status 200.
func (a *eventAPI) publishAnswer(m clientMessage, result *apiPublished, refused *apiRefusal) (
	status int, answer []byte) {
	switch {
	case a.opts.graphql && (refused == nil || refused.ErrorType == ""):
		return http.StatusOK, graphqlResult(m, refused)
	case refused == nil:
		return http.StatusOK, mustJSON(result)
	case refused.ErrorType == "UnauthorizedException":
		status = http.StatusUnauthorized
	case refused.ErrorType == "ExpiredTokenException" || refused.ErrorType == "UnrecognizedClientException":
		status = http.StatusForbidden
	default:
		status = http.StatusBadRequest
	}
	return status, mustJSON(apiAnswer{Errors: []apiRefusal{*refused}})
}

// judgeAnswer asks the hook about the reply to an HTTPS publish. A reply that it drops ends the connection.
func (a *eventAPI) judgeAnswer(f apiFrame) (answer []byte, v apiVerdict) {
	v = a.judge(f)
	if len(v.replace) > 0 {
		return v.replace[0], v
	}
	if v.replace != nil && v.after == stayOpen {
		v.after = resetConnection
	}
	return f.raw, v
}

// ---- messages ----

// clientMessage is any message of a client, and the body of an HTTPS publish.
type clientMessage struct {
	Type          string            `json:"type"`
	ID            string            `json:"id"`
	Channel       string            `json:"channel"`
	Events        []string          `json:"events"`
	Authorization map[string]string `json:"authorization"`

	refused  *apiRefusal // why it cannot be understood
	signed   []byte      // what a signature covers of a GraphQL API's operation
	selected selection   // what the operation selects
}

// apiAnswer is any message to a client but data, and the body of an HTTPS error.
type apiAnswer struct {
	Type                string       `json:"type,omitempty"`
	ID                  string       `json:"id,omitempty"`
	ConnectionTimeoutMs int64        `json:"connectionTimeoutMs,omitempty"`
	Errors              []apiRefusal `json:"errors,omitempty"`
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

// apiRefusal is an error that a client is told.
type apiRefusal struct {
	ErrorType string `json:"errorType,omitempty"`
	Message   string `json:"message"`
}

// refuse makes, and counts, an error for a client. AppSync's errorTypes are partly on the protocol page,
// partly known from AWS's own clients only (github.com/aws-amplify/amplify-js, amplify-android).
func (a *eventAPI) refuse(errorType, message string) *apiRefusal {
	a.log.Debug("AppSync emulator: refused", "errorType", errorType)
	a.update(func() { a.counts.errors[errorType]++ })
	return &apiRefusal{ErrorType: errorType, Message: message}
}

func mustJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // only strings and numbers come here
	}
	return raw
}

// newUUID is a random UUID, version 4, for the emulated Lambda too.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// checkChannel refuses names outside AppSync's pattern and namespaces that do not exist. To a GraphQL API a
// name is any string.
func (a *eventAPI) checkChannel(channel string, wildcard bool) *apiRefusal {
	if a.opts.graphql {
		return nil
	}
	if !wildcard && !publishChannel.MatchString(channel) {
		return a.refuse("BadRequestException", "Invalid channel")
	}
	namespace, _, _ := strings.Cut(strings.Trim(channel, "/"), "/")
	if !slices.Contains(a.opts.namespaces, namespace) {
		return a.unauthorized()
	}
	return nil
}

// take checks an authorized publish of so many bytes and delivers its events.
func (a *eventAPI) take(m clientMessage, size int) (*apiPublished, *apiRefusal) {
	refused := a.checkPublish(m, size)
	if refused != nil {
		return nil, refused
	}
	result := &apiPublished{Successful: []apiEvent{}, Failed: []apiEvent{}}
	for i, text := range m.Events {
		event := apiEvent{Identifier: newUUID(), Index: i}
		if len(text) > quotaEventBytes && !a.opts.graphql {
			refused := a.refuse("EventTooLargeException", "The event is too large")
			event.Code = refused.ErrorType
			event.Message = refused.Message
			result.Failed = append(result.Failed, event)
			continue
		}
		result.Successful = append(result.Successful, event)
		a.deliver(m.Channel, text, m.selected)
	}
	return result, nil
}

// checkPublish refuses a publish as a whole.
func (a *eventAPI) checkPublish(m clientMessage, size int) *apiRefusal {
	if m.refused != nil {
		return a.refuse(m.refused.ErrorType, m.refused.Message)
	}
	refused := a.checkChannel(m.Channel, false)
	if refused != nil {
		return refused
	}
	if len(m.Events) < 1 || len(m.Events) > quotaEvents {
		return a.refuse("InvalidInputError", "A publish takes one to five events")
	}
	if size > quotaPublishBytes {
		return a.refuse("BadRequestException", "The publish payload is too large")
	}
	for _, text := range m.Events {
		if !json.Valid([]byte(text)) {
			return a.refuse("BadRequestException", "An event is not valid JSON")
		}
	}
	return nil
}

// apiDelivery is an event's way to one subscription.
type apiDelivery struct {
	conn *apiConn
	id   string // the subscription's
	sub  apiSubscription
}

// deliver queues an event for every subscription that matches, the publisher's own included; overlapping
// subscriptions each get it. published is what the mutation has selected, in a GraphQL API.
func (a *eventAPI) deliver(channel, text string, published selection) {
	event := appendGson(nil, text)
	if a.opts.documentedData && !a.opts.graphql {
		event = slices.Concat([]byte{'['}, event, []byte{']'})
	}
	for _, d := range a.deliveries(channel) {
		var raw []byte
		if a.opts.graphql {
			raw = graphqlData(d.id, d.sub.selected, published, channel, text, a.opts.documentedData)
		} else {
			raw = slices.Concat([]byte(`{"type":"data","id":"`+d.id+`","event":`), event, []byte{'}'})
		}
		if raw == nil {
			continue
		}
		frame := apiFrame{typ: "data", id: d.id, channel: channel, events: []string{text}, raw: raw}
		d.conn.queue(apiItem{frame: frame})
	}
}

// deliveries counts an event on a channel, and returns the subscriptions that get it.
func (a *eventAPI) deliveries(channel string) (found []apiDelivery) {
	now := time.Now()
	a.update(func() {
		for _, c := range a.conns {
			if !c.live() {
				continue
			}
			for id, s := range c.subs {
				if !now.Before(s.from) && a.matches(s, channel) {
					found = append(found, apiDelivery{conn: c, id: id, sub: s})
				}
			}
		}
		name := channel
		if a.counts.events[name] == 0 && len(a.counts.events) >= maxChannels {
			name = ""
		}
		a.counts.events[name]++
	})
	return found
}

// matches tells whether a subscription gets what is published on a channel. To a GraphQL API a channel is any
// string. In an Event API outer slashes do not count, and a wildcard takes any depth below its parent, but
// not the parent.
func (a *eventAPI) matches(s apiSubscription, channel string) bool {
	if a.opts.graphql {
		return s.channel == channel
	}
	prefix, wild := strings.CutSuffix(strings.Trim(s.channel, "/"), "*")
	channel = strings.Trim(channel, "/")
	return channel == prefix || wild && strings.HasPrefix(channel, prefix)
}
