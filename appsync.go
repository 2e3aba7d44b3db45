package main

// appsync.go knows AWS AppSync: the messages and channels of Event APIs and of GraphQL APIs, SigV4, and this program's own
// messages, which travel as events. proxy.go hands an invocation's event in (tunnel.send) and takes the answer out of the
// call it gets back; ws.go carries the bytes. The developer's end uses the same sessions and parts.
//
// https://docs.aws.amazon.com/appsync/latest/eventapi/event-api-websocket-protocol.html
// https://docs.aws.amazon.com/appsync/latest/devguide/real-time-websocket-client.html

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// AppSync's limits, and how far this program stays below them because the pages do not say how bytes are counted.
// https://docs.aws.amazon.com/general/latest/gr/appsync.html#limits_appsync
const (
	maxEvent            = 230_000   // bytes of one event as it is escaped in a publish (240 KB)
	maxPublish          = 1_140_000 // bytes of the events of one publish (1.2 MB with identifier and authorization)
	maxEventsPerPublish = 5
	publishesPerSecond  = 20 // on one WebSocket (25)
)

const (
	ackTimeout     = 15 * time.Second       // for connection_ack and subscribe_success, as AWS's own client waits
	publishTimeout = 2 * time.Second        // for publish_success and for probes: the connection counts as dead without
	slowestUplink  = 128 << 10              // bytes a second: large publishes get so much more time
	probeEvery     = 250 * time.Millisecond // until a new link delivers
	staleAfter     = 90 * time.Second       // without a frame: this end was frozen
	retireAfter    = 23 * time.Hour         // AppSync ends a connection after 24 hours
	// Between dials, drawn with full jitter: doubles with each failure.
	firstBackoff, maxBackoff = 100 * time.Millisecond, 10 * time.Second
	refusedPause             = 10 * time.Second // between dials that AppSync refuses
)

// escapedLen is the length of event inside a publish, quotes included.
func escapedLen(event []byte) int {
	return len(event) + bytes.Count(event, []byte{'"'}) + bytes.Count(event, []byte{'\\'}) + 2
}

// appsync is a client of one AppSync API.
type appsync struct {
	http, realtime *url.URL // of publishes over HTTPS, whose host, without port, is the one that is signed; of WebSockets
	graphql        bool     // a GraphQL API, not an Event API
	region, apiKey string   // the key is used instead of IAM where set
	namespace      string
	requests       string // the channel of requests: /NAMESPACE/requests[/STAGE]
	credentials    func(context.Context) (credentials, error)
	transport      *http.Transport
	log            *slog.Logger
}

// dialect is what Event APIs and GraphQL APIs write differently. Besides, a GraphQL API nests its messages (start,
// receive) and has no wildcards (channel).
type dialect struct {
	protocol, connectPath      string            // sub-protocol of the WebSocket, and the path that its authorization is for
	subscribe, subscribed      string            // types of messages
	subscription, publish, end string            // what is signed: for a channel; for a channel before and after its events
	events, publishes          int               // of one publish; a second over one WebSocket, the others go over HTTPS
	grants                     map[string]string // IAM actions, and on what of the API, by operation
}

func (a *appsync) dialect() dialect {
	if a.graphql {
		const subscribe, publish = "appsync:GraphQL on %s/types/Subscription/fields/subscribe", "appsync:GraphQL on %s/types/Mutation/fields/publish"
		return dialect{"graphql-ws", "/graphql/connect", "start", "start_ack",
			`{"query":"subscription($name:String!){subscribe(name:$name){name data}}","variables":{"name":"%s"}}`,
			`{"query":"mutation($name:String!,$data:AWSJSON!){publish(name:$name,data:$data){name data}}","variables":{"name":"%s","data":`, `}}`, 1, 0,
			map[string]string{"connect": subscribe, "subscribe": subscribe, "publish": publish}}
	}
	namespace := " on %s/channelNamespace/" + a.namespace
	return dialect{"aws-appsync-event-ws", "/event", "subscribe", "subscribe_success",
		`{"channel":"%s"}`, `{"channel":"%s","events":[`, `]}`, maxEventsPerPublish, publishesPerSecond,
		map[string]string{"connect": "appsync:EventConnect on %s", "subscribe": "appsync:EventSubscribe" + namespace, "publish": "appsync:EventPublish" + namespace}}
}

// channel is the channel of answers to a request; LINK/* means all requests of a link, which in a GraphQL API have one.
func (a *appsync) channel(requestID string) string {
	if a.graphql {
		requestID, _, _ = strings.Cut(requestID, "/")
	}
	return "/" + a.namespace + "/response/" + requestID
}

// authorize returns what authorises a POST of body to path, as headers or, for an operation on a WebSocket, as its
// authorization object. Credentials are read anew each time: they change.
func (a *appsync) authorize(ctx context.Context, path string, body []byte, webSocket bool) (map[string]string, error) {
	host, date := a.http.Hostname(), time.Now().UTC().Format("20060102T150405Z")
	if a.apiKey != "" {
		return map[string]string{"host": host, "x-api-key": a.apiKey}, nil
	}
	c, err := a.credentials(ctx)
	if err != nil {
		return nil, fmt.Errorf("read AWS credentials: %w", err)
	}
	headers := []signedHeader{{"content-type", "application/json"}, {"host", host}, {"x-amz-date", date}, {"x-amz-security-token", c.sessionToken}}
	headers = slices.DeleteFunc(headers, func(h signedHeader) bool { return h.value == "" }) // long-lived keys have no token
	if webSocket {
		headers[0].value = "application/json; charset=UTF-8"
		headers = slices.Insert(headers, 0, signedHeader{"accept", "application/json, text/javascript"}, signedHeader{"content-encoding", "amz-1.0"})
	}
	object := map[string]string{"Authorization": c.authorization(a.region, date, path, headers, body)}
	for _, h := range headers {
		object[strings.Replace(h.name, "x-amz-security-token", "X-Amz-Security-Token", 1)] = h.value // as AWS's page writes it
	}
	return object, nil
}

// variables are the credentials as the environment variables that AWS's SDKs read.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-static-credentials.html
func (a *appsync) variables(ctx context.Context) (map[string]string, error) {
	c, err := a.credentials(ctx)
	return map[string]string{
		"AWS_ACCESS_KEY_ID":     c.accessKeyID,
		"AWS_SECRET_ACCESS_KEY": c.secretAccessKey,
		"AWS_SESSION_TOKEN":     c.sessionToken,
	}, err
}

// errRefused is part of errors that only a person can mend: AppSync does not let this end do what it tried.
var errRefused = errors.New("AppSync refused")

// refusal makes an error of what AppSync said about an operation: connect, subscribe, publish. Only the first line of it is
// kept: further ones may quote the whole request, token and all.
func (a *appsync) refusal(operation string, errs ...apiError) error {
	e := append(errs, apiError{})[0]
	kind := firstLine(cmp.Or(e.ErrorType, e.Code, "no error type"))
	refused := []string{"Unauthorized", "Forbidden", "AccessDenied", "BadRequest", "Bad Request", "UnrecognizedClient", "ExpiredToken"}
	if slices.ContainsFunc(refused, func(s string) bool { return strings.Contains(kind, s) }) {
		grant := fmt.Sprintf(a.dialect().grants[operation], "arn:aws:appsync:"+a.region+":ACCOUNT:apis/API_ID")
		return fmt.Errorf("%w to %s: %s %q; grant %s, and check host, region, clock and key", errRefused, operation, kind, firstLine(e.Message), grant)
	}
	return fmt.Errorf("AppSync failed to %s: %s %q", operation, kind, firstLine(e.Message))
}

// apiError is one of AppSync's errors, or one event of a publish that was not taken.
type apiError struct{ ErrorType, Code, Message string }

// serverMessage is any message from AppSync, or its answer to an HTTPS publish.
type serverMessage struct {
	Type, ID            string
	Event               any // a string, or as AWS's page has it an array of one
	Errors, Failed      []apiError
	ConnectionTimeoutMs int64
	Payload             *serverMessage                // of a GraphQL API
	Data                map[string]struct{ Data any } // by field: there, and of a GraphQL API's answer over HTTPS
}

// session is one WebSocket to AppSync from connection_ack to its end.
type session struct {
	api     *appsync
	conn    *wsConn
	born    time.Time
	name    string        // LINK: of the channel of answers that come back over this connection
	lastID  atomic.Uint64 // of an operation
	unacked atomic.Int64  // bytes of publishes under way
	slots   chan struct{} // publishes of the last second
	// By subscription ID: func(event string), called by the reader, must not block. By ID, operations that AppSync has not
	// answered yet: chan serverMessage. By name, probes that have not come back: chan struct{}.
	subs, waits, probes sync.Map
}

// connect opens a WebSocket and waits for connection_ack.
func (a *appsync) connect(ctx context.Context) (*session, error) {
	d := a.dialect()
	auth, err := a.authorize(ctx, d.connectPath, []byte("{}"), true)
	if err != nil {
		return nil, err
	}
	object, _ := json.Marshal(auth) // a map of strings always marshals
	// The name is new for every WebSocket: copies of one snapshot must not share it.
	s := &session{api: a, born: time.Now().Round(0), name: fmt.Sprintf("%x", rand.Text()[:16]), slots: make(chan struct{}, d.publishes)}
	ack := s.expect("")
	a.transport.CloseIdleConnections() // of publishes: where this end was frozen, they are as dead as the WebSocket before
	s.conn, err = dialWebSocket(ctx, a.transport, a.realtime, []string{d.protocol, "header-" + base64.RawURLEncoding.EncodeToString(object)}, s.receive)
	var refused noUpgrade
	if errors.As(err, &refused) {
		err = a.refusal("connect", apiError{ErrorType: fmt.Sprintf("%v: %q", refused, firstLine(refused.text))})
	}
	if err != nil {
		return nil, err
	}
	s.conn.send(ctx, []byte(`{"type":"connection_init"}`)) // where that fails, answer knows why
	m, err := s.answer(ctx, ack, ackTimeout, "connection_ack", "connect")
	if err != nil {
		s.conn.close()
		return nil, err
	}
	s.conn.idle.Store(cmp.Or(max(min(m.ConnectionTimeoutMs, 1e9), 0)*int64(time.Millisecond), int64(firstIdle)))
	return s, nil
}

// expect returns the channel that AppSync's answer to the operation of that ID will come from.
func (s *session) expect(id string) <-chan serverMessage {
	answer := make(chan serverMessage, 1)
	s.waits.Store(id, answer)
	return answer
}

// answer waits for AppSync's answer to an operation and makes an error of any but the wanted one. Without an answer in
// time the connection counts as dead.
func (s *session) answer(ctx context.Context, answer <-chan serverMessage, timeout time.Duration, want, operation string) (serverMessage, error) {
	defer time.AfterFunc(timeout, func() { s.conn.fail(fmt.Errorf("no %s within %s", want, timeout)) }).Stop()
	m, err := await(ctx, s.conn.ctx, answer)
	if err == nil && (m.Type != want || len(m.Failed) > 0) {
		err = s.api.refusal(operation, append(m.Errors, m.Failed...)...)
	}
	return m, err
}

// await returns what comes from c, or why one of the contexts has ended before.
func await[T any](ctx, other context.Context, c <-chan T) (v T, err error) {
	select {
	case v = <-c:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-other.Done():
		err = context.Cause(other)
	}
	return v, err
}

// receive is the reader's: one message from AppSync.
func (s *session) receive(decoder *json.Decoder) error {
	var m serverMessage
	if err := decoder.Decode(&m); errors.As(err, new(*json.UnmarshalTypeError)) {
		m = serverMessage{Type: "error", Errors: []apiError{{ErrorType: "a message that is not valid"}}}
	} else if err != nil {
		return fmt.Errorf("the connection ended: %w", err)
	}
	if p := m.Payload; s.api.graphql && p != nil {
		m.Event, m.Errors, m.ConnectionTimeoutMs = p.Data["subscribe"].Data, p.Errors, p.ConnectionTimeoutMs
	}
	answer, waits := s.waits.Load(m.ID)
	handle, subscribed := s.subs.Load(m.ID)
	if array, _ := m.Event.([]any); len(array) == 1 {
		m.Event = array[0]
	}
	event, text := m.Event.(string)
	if m.Type == "data" && !text {
		m = serverMessage{Type: "broadcast_error", Errors: []apiError{{ErrorType: "an event that is not valid"}}}
	} else if s.api.graphql && strings.HasPrefix(event, `"`) {
		// AWSJSON has been seen to arrive encoded twice. https://github.com/awslabs/aws-mobile-appsync-sdk-js/issues/533
		json.Unmarshal([]byte(event), &event)
	}
	switch {
	case m.Type == "ka":
	case m.Type == "connection_error":
		return s.api.refusal("connect", m.Errors...)
	case m.Type == "data" && subscribed:
		handle.(func(string))(event)
	case m.Type != "data" && m.Type != "broadcast_error" && waits:
		s.waits.Delete(m.ID)
		answer.(chan serverMessage) <- m
	case len(m.Errors) > 0:
		s.api.log.Warn("AppSync reports an error", "error", s.api.refusal("publish", m.Errors...))
	}
	return nil
}

// start sends one operation; AppSync's answer to it will come from the channel. body is the JSON object that is signed.
func (s *session) start(ctx context.Context, kind, id string, body []byte) (<-chan serverMessage, error) {
	object, err := s.api.authorize(ctx, s.api.http.Path, body, true)
	if err != nil {
		return nil, err
	}
	auth, _ := json.Marshal(object) // a map of strings always marshals
	msg := slices.Concat([]byte(`{"type":"`+kind+`","id":"`+id+`",`), body[1:len(body)-1], []byte(`,"authorization":`), auth, []byte{'}'})
	if s.api.graphql {
		msg = fmt.Appendf(nil, `{"type":"%s","id":"%s","payload":{"data":%q,"extensions":{"authorization":%s}}}`, kind, id, body, auth)
	}
	answer := s.expect(id)
	return answer, s.conn.send(ctx, msg)
}

// newID is an ID that no operation of this connection has had.
func (s *session) newID() string { return strconv.FormatUint(s.lastID.Add(1), 10) }

// subscribe subscribes to channel; handle gets the text of each event, from the reader's goroutine. It returns when AppSync
// has confirmed the subscription, which may be before events are delivered; without a word by timeout the connection is dead.
// The subscription ends with ctx, as one connection has room for 200 of them.
func (s *session) subscribe(ctx context.Context, timeout time.Duration, channel string, handle func(event string)) error {
	d, id := s.api.dialect(), s.newID()
	s.subs.Store(id, handle)
	answer, err := s.start(ctx, d.subscribe, id, fmt.Appendf(nil, d.subscription, channel))
	if err == nil {
		context.AfterFunc(ctx, func() { // in a GraphQL API the connection has ended then
			s.subs.Delete(id)
			s.conn.send(s.conn.ctx, []byte(`{"type":"unsubscribe","id":"`+id+`"}`))
		})
		_, err = s.answer(ctx, answer, timeout, d.subscribed, "subscribe")
	}
	return err
}

var errNoProbe = errors.New("the subscription does not deliver")
var errRetired = errors.New("replaced by a new connection")

// listen subscribes to the channel of a request's answers and returns when it delivers, which AppSync confirms before:
// when a probe called name has come back. handle gets every other event: as a part, or nil where it is a bare result.
func (s *session) listen(ctx context.Context, timeout time.Duration, requestID, name string, handle func(event string, p *part, err error)) error {
	err := s.subscribe(ctx, timeout, s.api.channel(requestID), func(event string) {
		p, err := parsePart(event)
		if p == nil || p.Type != "probe" || p.RequestID != name {
			handle(event, p, err)
		} else if probe, ok := s.probes.LoadAndDelete(name); ok {
			close(probe.(chan struct{}))
		}
	})
	for end, again := time.Now().Add(ackTimeout), err == nil; again; again = err == errNoProbe && time.Now().Before(end) {
		err = s.probe(ctx, name, probeEvery)
	}
	return err
}

// probe publishes a probe and returns when it, or an earlier one, has come back; errNoProbe after wait.
func (s *session) probe(ctx context.Context, name string, wait time.Duration) error {
	probe, _ := s.probes.LoadOrStore(name, make(chan struct{}))
	err := s.publish(ctx, s.api.channel(name), slices.Values([][]byte{part{Type: "probe", RequestID: name, Last: true}.encode(nil)}), true)
	if err == nil {
		timeout, cancel := context.WithTimeoutCause(ctx, wait, errNoProbe)
		defer cancel()
		_, err = await(timeout, s.conn.ctx, probe.(chan struct{}))
	}
	return err
}

// quiet is how long nothing has come, by the wall clock, which may be set back: the monotonic one may stand still while this
// end is frozen.
func (s *session) quiet() time.Duration { return time.Since(time.Unix(0, s.conn.heard.Load())).Abs() }

// ctx ends with the connection; its cause says why.
func (s *session) ctx() context.Context { return s.conn.ctx }

// drop ends the connection, for a reason.
func (s *session) drop(why error) { s.conn.fail(why) }

// spent reports whether AppSync has not been heard for so long that this end was frozen, or will end the connection soon.
func (s *session) spent() bool { return s.quiet() > staleAfter || time.Since(s.born) > retireAfter }

// publish publishes events to channel, and returns when AppSync has taken them all or, with no wait, when they are on
// their way. The publishes do not wait for each other; what is over the WebSocket's rate goes out over HTTPS.
func (s *session) publish(ctx context.Context, channel string, events iter.Seq[[]byte], wait bool) (err error) {
	var answers []<-chan serverMessage
	for body := range s.api.publishes(channel, events) {
		s.unacked.Add(int64(len(body)))
		defer s.unacked.Add(-int64(len(body)))
		var answer <-chan serverMessage
		select {
		case s.slots <- struct{}{}:
			time.AfterFunc(time.Second, func() { <-s.slots })
			answer, err = s.start(ctx, "publish", s.newID(), body)
			answers = append(answers, answer)
		default:
			err = s.api.publishHTTPS(ctx, s.patience(), body)
		}
		if err != nil {
			return err
		}
	}
	for i := 0; wait && i < len(answers); i++ {
		if _, err := s.answer(ctx, answers[i], s.patience(), "publish_success", "publish"); err != nil {
			return err
		}
	}
	return nil
}

// patience is how long to wait for a publish_success or a probe: longer while much is on its way.
func (s *session) patience() time.Duration { return publishTimeout + transferTime(s.unacked.Load()) }

// transferTime is how long so many bytes may be on their way.
func transferTime(size int64) time.Duration { return time.Duration(size) * time.Second / slowestUplink }

// publishes groups events into the bodies of as few publishes as AppSync's limits allow. The events are ASCII.
func (a *appsync) publishes(channel string, events iter.Seq[[]byte]) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		d, n := a.dialect(), 0
		var body []byte
		end := func() bool { return n == 0 || yield(append(body[:len(body)-1], d.end...)) }
		for event := range events {
			// Of printable ASCII these two are all that JSON escapes; encoding/json takes ten times as long.
			text := bytes.ReplaceAll(bytes.ReplaceAll(event, []byte(`\`), []byte(`\\`)), []byte(`"`), []byte(`\"`))
			if n == d.events || len(body)+len(text)+2 > maxPublish+1 {
				if !end() {
					return
				}
				n = 0
			}
			if n++; n == 1 {
				body = fmt.Appendf(nil, d.publish, channel)
			}
			body = append(append(append(body, '"'), text...), '"', ',')
		}
		end()
	}
}

// publishHTTPS publishes over HTTPS, which has no limit for each connection.
// https://docs.aws.amazon.com/appsync/latest/eventapi/publish-http.html
func (a *appsync) publishHTTPS(ctx context.Context, timeout time.Duration, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	headers, err := a.authorize(ctx, a.http.Path, body, false)
	if err != nil {
		return err
	}
	// With that key, which is not sent, net/http tries again where the server has closed a connection that was kept.
	header := http.Header{"Content-Type": {"application/json"}, "X-Idempotency-Key": nil}
	for name, value := range headers {
		header.Set(name, value)
	}
	var m serverMessage
	resp, err := exchange(ctx, a.transport, http.MethodPost, a.http.String(), header, nil, bytes.NewReader(body), &m)
	if errs := append(m.Errors, m.Failed...); resp != nil && (resp.StatusCode != http.StatusOK || len(errs) > 0 || a.graphql && err == nil && m.Data["publish"].Data == nil) {
		return a.refusal("publish", append(errs, apiError{ErrorType: http.StatusText(resp.StatusCode)})...)
	}
	return err
}

// run keeps a session up until ctx is done: use makes something of each new one and returns when it has no more use for
// it; up tells whether it has worked. down gets the reason why there is none. Dials are further apart with each failure,
// with full jitter.
func (a *appsync) run(ctx context.Context, use func(context.Context, *session) (up bool, err error), down func(error)) {
	var said string
	for backoff := firstBackoff; ctx.Err() == nil; backoff = min(2*backoff, maxBackoff) {
		life, end := context.WithTimeoutCause(ctx, retireAfter+30*time.Minute, errRetired)
		s, err := a.connect(life)
		if err == nil {
			var up bool
			if up, err = use(ctx, s); up {
				backoff, said = firstBackoff, ""
			}
			s.conn.close()
		}
		end()
		down(err)
		switch {
		case ctx.Err() != nil || errors.Is(err, errRetired):
			continue
		case err.Error() != said:
			said = err.Error()
			a.log.Warn("not connected", "host", a.realtime.Host, "error", err)
		}
		if errors.Is(err, errRefused) {
			sleep(ctx, refusedPause)
		}
		sleep(ctx, mathrand.N(backoff))
	}
}

func oneEvent(event []byte) iter.Seq[[]byte] { return slices.Values([][]byte{event}) }
