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
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf16"
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
	quietTimeout   = 6 * time.Second        // without a frame while an invocation is out, before a probe
	staleAfter     = 90 * time.Second       // without a frame: this end was frozen
	repeatRequest  = 2 * time.Second        // without `accepted`, before a request is published again
	retryPublish   = 500 * time.Millisecond // after AppSync had no capacity for a request
	retireAfter    = 23 * time.Hour         // AppSync ends a connection after 24 hours
	// Between dials, drawn with full jitter: doubles with each failure.
	firstBackoff, maxBackoff = 100 * time.Millisecond, 10 * time.Second
	refusedPause             = 10 * time.Second // between dials that AppSync refuses
)

// Sizes of this program's own messages, in bytes.
const (
	partData     = 165_000           // of data in one part: 220,000 in base64url, which leaves 8,000 for the rest
	maxPayload   = 6*1024*1024 + 100 // Lambda's limit for events and buffered responses
	maxStream    = 200 << 20         // and for streamed ones
	streamWindow = 8 << 20           // of a stream's parts kept while an earlier one is missing
)

// credentials are AWS credentials as SigV4 uses them; sessionToken is empty for long-lived keys.
type credentials struct{ accessKeyID, secretAccessKey, sessionToken string }

// authorization returns the value of the Authorization header that signs POST path, without a query, for AppSync.
// headers are name and value pairs, names in lower case, sorted; all of them are signed.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func (c credentials) authorization(region, amzDate, path string, headers [][2]string, body []byte) string {
	canonical, signed := "POST\n"+path+"\n\n", ""
	for _, h := range headers {
		canonical += h[0] + ":" + h[1] + "\n"
		signed = strings.TrimPrefix(signed+";"+h[0], ";")
	}
	canonical += "\n" + signed + "\n" + hexSHA256(body)
	day := amzDate[:min(8, len(amzDate))]
	scope := day + "/" + region + "/appsync/aws4_request"
	toSign := "AWS4-HMAC-SHA256\n" + amzDate + "\n" + scope + "\n" + hexSHA256([]byte(canonical))
	key := []byte("AWS4" + c.secretAccessKey)
	for _, s := range []string{day, region, "appsync", "aws4_request", toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(s))
		key = mac.Sum(nil)
	}
	return fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", c.accessKeyID, scope, signed, key)
}

// hexSHA256 is the hash of b as SigV4 writes it.
func hexSHA256(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// asciiJSON is src, which must be valid JSON in UTF-8, token for token, without the white space between them. AppSync
// checks a WebSocket publish against its own serialisation of the events, so the characters inside strings that
// serialisers disagree on (< > & = ' and whatever is not printable ASCII) are written as \uXXXX.
// https://github.com/aws/aws-appsync-community/issues/400
func asciiJSON(src []byte) (dst []byte) {
	var compact bytes.Buffer
	json.Compact(&compact, src) // what is not valid stays out
	for _, r := range compact.String() {
		if r >= ' ' && r <= '~' && r != '<' && r != '>' && r != '&' && r != '=' && r != '\'' {
			dst = append(dst, byte(r))
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			dst = fmt.Appendf(dst, `\u%04x`, unit)
		}
	}
	return dst
}

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
	headers := [][2]string{{"content-type", "application/json"}, {"host", host}, {"x-amz-date", date}, {"x-amz-security-token", c.sessionToken}}
	headers = slices.DeleteFunc(headers, func(h [2]string) bool { return h[1] == "" }) // long-lived keys have no token
	if webSocket {
		headers[0][1] = "application/json; charset=UTF-8"
		headers = slices.Insert(headers, 0, [2]string{"accept", "application/json, text/javascript"}, [2]string{"content-encoding", "amz-1.0"})
	}
	object := map[string]string{"Authorization": c.authorization(a.region, date, path, headers, body)}
	for _, h := range headers {
		object[strings.Replace(h[0], "x-amz-security-token", "X-Amz-Security-Token", 1)] = h[1] // as AWS's page writes it
	}
	return object, nil
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

	// Of a link, guarded by the tunnel's mu: whether a local end of version 1 has been heard, and no bare result has answered a
	// call since; whether a bare result may belong to a call that is over.
	versioned, ambiguous bool
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
	s := &session{api: a, born: time.Now().Round(0), name: fmt.Sprintf("%x", rand.Text()[:16]), slots: make(chan struct{}, d.publishes), ambiguous: a.graphql} // bare results need wildcards
	ack := s.expect("")
	a.transport.CloseIdleConnections() // of publishes: where this end was frozen, they are as dead as the WebSocket before
	s.conn, err = dialWebSocket(ctx, a.transport, a.realtime, []string{d.protocol, "header-" + base64.RawURLEncoding.EncodeToString(object)}, s.receive)
	if errors.Is(err, errNoUpgrade) {
		err = a.refusal("connect", apiError{ErrorType: err.Error()})
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

// spent reports whether AppSync has not been heard for so long that this end was frozen, or will end the connection soon.
func (s *session) spent() bool { return s.quiet() > staleAfter || time.Since(s.born) > retireAfter }

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) { await(ctx, ctx, time.After(d)) }

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

// part is one message of version 1, or one piece of it: everything but a request that fits in one event.
type part struct {
	LiveLambda any               `json:"live_lambda"` // 1
	Type       string            `json:"type"`        // request, accepted, response, error, done, probe
	RequestID  string            `json:"request_id"`
	Index      int               `json:"index"`
	Last       bool              `json:"last"`
	Encoding   string            `json:"encoding,omitempty"` // gzip where the joined data is
	Headers    map[string]string `json:"headers,omitempty"`  // in part 0 of a response
	Trailers   map[string]string `json:"trailers,omitempty"` // in the last part of a stream that broke
	ErrorType  string            `json:"error_type,omitempty"`
	XRayCause  string            `json:"xray_cause,omitempty"`
	Outcome    string            `json:"outcome,omitempty"` // of done: answered, timeout, deployed
	Sender     string            `json:"sender,omitempty"`  // a local end's random name: two may answer one request
	Data       string            `json:"data,omitempty"`    // unpadded base64url

	data []byte // Data, decoded
}

// encode writes p, with data, as an event.
func (p part) encode(data []byte) []byte {
	p.LiveLambda, p.Data = 1, ""
	head, _ := json.Marshal(p) // strings, numbers and maps of strings always marshal
	event := asciiJSON(head)
	if len(data) == 0 {
		return event
	}
	event = append(event[:len(event)-1], `,"data":"`...)
	return append(base64.RawURLEncoding.AppendEncode(event, data), `"}`...)
}

// compressed cuts the pieces together, gzipped, into the events of one message. The fastest level: an invocation waits
// for it.
func (p part) compressed(pieces ...[]byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var buf bytes.Buffer
		zw, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed) // the level is valid
		p.Encoding = "gzip"
		goOn := true
		cut := func() {
			for ; goOn && buf.Len() > partData; p.Index++ {
				goOn = yield(p.encode(buf.Next(partData)))
			}
		}
		for _, piece := range pieces {
			for chunk := range slices.Chunk(piece, 64<<10) { // never all of it at once
				zw.Write(chunk)
				cut()
			}
		}
		zw.Close()
		if cut(); goOn {
			p.Last = true
			yield(p.encode(buf.Bytes()))
		}
	}
}

// parsePart reads an event. It returns nil where the event is not a message of version 1 but a bare result, and an error
// where it claims to be one and is not valid.
func parsePart(event string) (*part, error) {
	p := new(part)
	var exact map[string]json.RawMessage // encoding/json takes a struct's keys in any case
	if !strings.HasPrefix(event, `{"live_lambda":1,`) && (json.Unmarshal([]byte(event), &exact) != nil || string(exact["live_lambda"]) != "1") {
		return nil, nil
	}
	err := json.Unmarshal([]byte(event), p) // a field of the wrong type does not keep it from the others
	if p.LiveLambda != 1.0 {                // not JSON after all, or the key comes twice
		return nil, nil
	}
	if err == nil {
		p.data, err = base64.RawURLEncoding.Strict().DecodeString(p.Data)
	}
	if p.Data = ""; err != nil || p.Index < 0 || p.Index >= 1<<20 || p.Encoding != "" && p.Encoding != "gzip" {
		return p, errors.New("a field has a value that it must not have")
	}
	return p, nil
}

// errTooBig says that a message is larger than Lambda allows.
var errTooBig = fmt.Errorf("larger than %d bytes", maxPayload)

// joiner puts the parts of one message together again, whatever order they come in. It is not safe for concurrent use.
type joiner struct {
	limit, size int            // bytes of parts that may wait, and that do
	waiting     map[int][]byte // by index, data of parts that have come and were not read; of the others no more is kept
	next, last  int            // index of the part to read next; of the last part once it has come, else -1
	first       *part          // part 0, once it has come, else any: what all parts have in common
	trailers    map[string]string
	rest        []byte // of the part that is being read
}

// add keeps p unless it has come before. It returns an error where p contradicts what has come, errTooBig where it is
// more than the limit; the part that is read next always has a place.
func (j *joiner) add(p *part) error {
	if j.waiting == nil {
		j.waiting, j.last, j.first = map[int][]byte{}, -1, p
	}
	_, twice := j.waiting[p.Index]
	size := j.size + len(p.data) + 512 // for the part itself
	switch {
	case p.Index < j.next || twice:
		return nil
	case p.Type != j.first.Type, p.Encoding != j.first.Encoding, j.last >= 0 && (p.Index > j.last || p.Last),
		p.Last && slices.ContainsFunc(slices.Collect(maps.Keys(j.waiting)), func(index int) bool { return index > p.Index }):
		return errors.New("it contradicts the other parts")
	case size > j.limit && p.Index != j.next:
		return errTooBig
	}
	j.waiting[p.Index], j.size = p.data, size
	if p.Index == 0 {
		j.first = p
	}
	if p.Last {
		j.last, j.trailers = p.Index, p.Trailers
	}
	return nil
}

// complete reports whether all parts have come.
func (j *joiner) complete() bool { return j.last >= 0 && len(j.waiting) == j.last+1-j.next }

// ended reports whether all of the message has been read.
func (j *joiner) ended() bool { return len(j.rest) == 0 && j.last >= 0 && j.next > j.last }

// ready reports whether Read has something to say: data, or the end.
func (j *joiner) ready() bool {
	for len(j.rest) == 0 && !j.ended() {
		data, there := j.waiting[j.next]
		if !there {
			return false
		}
		delete(j.waiting, j.next)
		j.rest, j.size, j.next = data, j.size-len(data)-512, j.next+1
	}
	return true
}

// errMissing says that the next part has not come yet.
var errMissing = errors.New("a part is missing")

// Read reads the data of the parts in order, as they are; errMissing where one has to come first.
func (j *joiner) Read(b []byte) (int, error) {
	switch {
	case !j.ready():
		return 0, errMissing
	case j.ended():
		return 0, io.EOF
	}
	n := copy(b, j.rest)
	j.rest = j.rest[n:]
	return n, nil
}

// message reads a complete message of at most limit bytes, decompressed, or returns errTooBig.
func (j *joiner) message(limit int) ([]byte, error) {
	r, size, err := io.Reader(j), j.size, error(nil)
	if j.first.Encoding == "gzip" {
		// Its last four bytes say how much it is (RFC 1952, ISIZE); where that is not true it takes more memory to read.
		if end := j.waiting[j.last]; len(end) >= 4 {
			size = int(binary.LittleEndian.Uint32(end[len(end)-4:]))
		}
		if r, err = gzip.NewReader(j); err != nil {
			return nil, err
		}
	}
	body := bytes.NewBuffer(make([]byte, 0, min(size, limit+1)+bytes.MinRead))
	n, err := body.ReadFrom(io.LimitReader(r, int64(limit)+1))
	if n > int64(limit) {
		err = errTooBig
	}
	return body.Bytes(), err
}

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

// subscribe gives each call that is out over l a subscription to its own channel, where a bare result on the link's could
// be another call's, and waits for them all.
func (t *tunnel) subscribe(ctx context.Context, l *session) {
	unlock := t.lock()
	for _, c := range t.calls {
		if c.link != l || t.api.graphql || l.versioned || !l.ambiguous && len(t.calls) == 1 {
			continue
		}
		if c.own == nil {
			var done func()
			c.own, done = context.WithCancel(l.conn.ctx)
			c.wg.Go(func() {
				defer done()
				l.listen(c.ctx, l.patience(), l.id(c.n), l.id(c.n), func(event string, p *part, _ error) {
					if p == nil { // parts come with the link's
						defer t.lock()()
						c.takeBare(l, event, true)
					}
				})
			})
		}
		defer await[any](ctx, c.own, nil) // with the tunnel unlocked
	}
	unlock()
}

// takeBare takes a bare result; the first answer counts. Where it may be the second answer to a call before, and so not sure,
// a local end of version 1 has some time to accept. The tunnel is locked.
func (c *call) takeBare(l *session, event string, sure bool) {
	switch {
	case c.link != l || c.heardOn != nil || c.answer != nil || !sure && c.bare != nil:
	case !json.Valid([]byte(event)):
		c.t.api.log.Warn("dropped a bare result that is not valid JSON")
	case !sure:
		c.bare = time.AfterFunc(time.Second, func() { defer c.t.lock()(); c.takeBare(l, event, true) })
	default:
		l.versioned, l.ambiguous = false, true
		c.answer = &part{Headers: map[string]string{"Content-Type": "application/json"}, data: []byte(event)}
		c.arm(noDeadline, nil)
	}
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
