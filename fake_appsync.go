//go:build !layer

package main

// fake_appsync.go is AWS AppSync on this machine, for `demo` and for the tests: publish over HTTPS (here over
// what the listener speaks) and, in fake_appsync_conn.go, the WebSocket protocol, with the service's checks
// and limits. HTTP requests and WebSocket messages come in on one listener. Replies and events go out, and
// the faults that a test asks for. Errors are told to clients as AppSync tells them. If AWS's pages leave a
// question open, the answer here is the harder one for a client. All is said in Event APIs' words here;
// fake_graphql.go translates if the API is a GraphQL API.
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
