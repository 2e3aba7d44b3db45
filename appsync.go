package main

// appsync.go knows AWS AppSync: the messages and channels of Event APIs and of GraphQL APIs, and how their
// operations are authorised. A session publishes events to channels, and calls a func for each event of a
// subscription. tunnel.go and the developer's end use the same sessions; ws.go carries the bytes.
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
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// AppSync's limits, and how far this program stays below them, because the page does not say how bytes are
// counted.
// https://docs.aws.amazon.com/general/latest/gr/appsync.html#limits_appsync
const (
	maxEvent            = 230_000   // bytes of one event as it is escaped in a publish (240 KB)
	maxPublish          = 1_140_000 // bytes of one publish without authorization (1.2 MB with it)
	maxEventsPerPublish = 5         // the limit itself
	publishesPerSecond  = 20        // on one WebSocket (25)
)

// How long a session waits, and how fast it has to be.
const (
	ackTimeout     = 15 * time.Second       // for connection_ack and subscribe_success, as AWS's client waits
	keysTimeout    = 2 * time.Second        // for the container credential endpoint, which is near
	publishTimeout = 2 * time.Second        // for publish_success and for probes; the connection is dead then
	slowestUplink  = 128 << 10              // bytes a second: a large publish gets so much more time
	probeEvery     = 250 * time.Millisecond // until a new subscription delivers
	staleAfter     = 90 * time.Second       // without a frame: this end was frozen
	retireAfter    = 23 * time.Hour         // AppSync ends a connection after 24 hours
	firstBackoff   = 100 * time.Millisecond // at most, before the second dial; it doubles with each failure
	maxBackoff     = 10 * time.Second       // at most, between two dials
	refusedPause   = 10 * time.Second       // besides, after a dial that AppSync refuses
)

// appsync is a client of one AppSync API.
type appsync struct {
	endpoint
	dialect
	transport   *http.Transport
	credentials currentCredentials
	log         *slog.Logger
	sealer      *sealer // of what this end sends; nil: messages are not sealed
}

// currentCredentials returns the credentials as they are now.
type currentCredentials func(context.Context) (credentials, error)

// newAppSync makes a client of the API at e. It may change transport: roots are files of root certificates,
// nil leaves transport as it is. keys is asked at each signing.
func newAppSync(e endpoint, roots rootFiles, transport *http.Transport,
	keys currentCredentials, log *slog.Logger) *appsync {
	if roots != nil { // which is faster than crypto/tls's own way
		transport.TLSClientConfig = roots.tlsConfig(e.realtime.Hostname())
	}
	return &appsync{
		endpoint: e, dialect: e.dialect(), transport: transport, credentials: keys, log: log,
		sealer: newSealer(e.key)}
}

// roleCredentials returns what tells the credentials of the function's role as they are now: those among keys
// or, under SnapStart, those of the container credential endpoint.
// https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html
func roleCredentials(keys role, transport http.RoundTripper) currentCredentials {
	return func(ctx context.Context) (c credentials, err error) {
		if keys.accessKeyID != "" && keys.secretAccessKey != "" {
			return credentials{keys.accessKeyID, keys.secretAccessKey, keys.sessionToken}, nil
		}
		ctx, cancel := context.WithTimeout(ctx, keysTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", keys.containerURI, nil)
		if err != nil || req.Host == "" { // the error may quote the URL
			return c, errors.New("neither AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY nor " +
				"AWS_CONTAINER_CREDENTIALS_FULL_URI is set, or the latter is not an URL")
		}
		req.Header.Set("Authorization", keys.containerToken)
		var answer struct{ AccessKeyID, SecretAccessKey, Token string }
		_, err = roundTrip(transport, req, &answer)
		if answer.AccessKeyID == "" || answer.SecretAccessKey == "" {
			err = cmp.Or(err, errors.New("there are none in the answer"))
		}
		if err != nil {
			return c, fmt.Errorf("container credentials: %w", err)
		}
		return credentials{answer.AccessKeyID, answer.SecretAccessKey, answer.Token}, nil
	}
}

// dialect is what Event APIs and GraphQL APIs write differently. Besides, a GraphQL API wraps its messages
// (start, normalise), and its subscriptions know no wildcards (channel).
type dialect struct {
	protocol     string            // sub-protocol of the WebSocket
	connectPath  string            // the path that the WebSocket's authorization is for
	subscribe    string            // type of the message that subscribes
	subscribed   string            // type of the reply that confirms it
	subscription string            // what is signed to subscribe; %s stands for the channel
	publishHead  string            // what is signed to publish, up to the first event; %s is the channel
	publishTail  string            // and from the end of the last one
	events       int               // of one publish, at most
	perSecond    int               // publishes a second over one WebSocket, at most; the others go over HTTPS
	grants       map[string]string // by operation: IAM action and resource; %s stands for the API's ARN
}

// dialect returns what the API speaks. A GraphQL API's publishes are mutations: they go over HTTPS, with one
// event each.
func (e endpoint) dialect() dialect {
	if e.graphql {
		return dialect{
			protocol:    "graphql-ws",
			connectPath: "/graphql/connect",
			subscribe:   "start",
			subscribed:  "start_ack",
			subscription: `{"query":"subscription($name:String!){subscribe(name:$name){name data}}",` +
				`"variables":{"name":"%s"}}`,
			publishHead: `{"query":"mutation($name:String!,$data:AWSJSON!)` +
				`{publish(name:$name,data:$data){name data}}","variables":{"name":"%s","data":"`,
			publishTail: `"}}`,
			events:      1,
			grants: map[string]string{
				"connect":   "appsync:GraphQL on %s/types/Subscription/fields/subscribe",
				"subscribe": "appsync:GraphQL on %s/types/Subscription/fields/subscribe",
				"publish":   "appsync:GraphQL on %s/types/Mutation/fields/publish",
			},
		}
	}
	resource := " on %s/channelNamespace/" + e.namespace
	return dialect{
		protocol:     "aws-appsync-event-ws",
		connectPath:  "/event",
		subscribe:    "subscribe",
		subscribed:   "subscribe_success",
		subscription: `{"channel":"%s"}`,
		publishHead:  `{"channel":"%s","events":["`,
		publishTail:  `"]}`,
		events:       maxEventsPerPublish,
		perSecond:    publishesPerSecond,
		grants: map[string]string{
			"connect":   "appsync:EventConnect on %s",
			"subscribe": "appsync:EventSubscribe" + resource,
			"publish":   "appsync:EventPublish" + resource,
		},
	}
}

// channel is the channel of the answers to a request. LINK/* stands for all requests of a link. A GraphQL API
// has no wildcards, so there all requests of a link have one channel.
func (a *appsync) channel(callID string) string {
	if a.graphql {
		callID, _, _ = strings.Cut(callID, "/")
	}
	return "/" + a.namespace + "/response/" + callID
}

// presenceChannel is the one on which local ends say that they come and go.
func (e endpoint) presenceChannel() string { return "/" + e.namespace + "/presence" }

// authorize returns what authorises a POST of body to path: as headers or, for an operation on a WebSocket,
// as its authorization object. Credentials are read anew each time, because they change.
// https://docs.aws.amazon.com/appsync/latest/eventapi/event-api-websocket-protocol.html
func (a *appsync) authorize(
	ctx context.Context, path string, body []byte, webSocket bool,
) (map[string]string, error) {
	headers := map[string]string{"host": a.http.Hostname()}
	if a.apiKey != "" {
		headers["x-api-key"] = a.apiKey
		return headers, nil
	}
	c, err := a.credentials(ctx)
	if err != nil {
		return nil, fmt.Errorf("read AWS credentials: %w", err)
	}
	date := time.Now().UTC().Format("20060102T150405Z")
	headers["x-amz-date"] = date
	headers["content-type"] = "application/json"
	if webSocket {
		headers["accept"] = "application/json, text/javascript"
		headers["content-encoding"] = "amz-1.0"
		headers["content-type"] = "application/json; charset=UTF-8"
	}
	signed := maps.Clone(headers)
	if c.sessionToken != "" { // long-lived keys have none
		signed["x-amz-security-token"] = c.sessionToken
		headers["X-Amz-Security-Token"] = c.sessionToken // as AWS's page writes it
	}
	headers["Authorization"] = c.authorization(a.region, date, path, signed, body)
	return headers, nil
}

// addKeys puts the credentials into an environment, if they can be read, as the variables that AWS's SDKs
// read.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-static-credentials.html
func (a *appsync) addKeys(ctx context.Context, env map[string]string) {
	c, err := a.credentials(ctx)
	if err == nil {
		env["AWS_ACCESS_KEY_ID"] = c.accessKeyID
		env["AWS_SECRET_ACCESS_KEY"] = c.secretAccessKey
		env["AWS_SESSION_TOKEN"] = c.sessionToken
	}
}

// errRefused is part of errors that only a person can mend: AppSync does not let this end do what it tried.
var errRefused = errors.New("AppSync refused")

// apiError is one of AppSync's errors, or one event of a publish that was not taken.
type apiError struct {
	ErrorType string
	Code      string // instead, of an event that was not taken
	Message   string
}

// refusal makes an error of what AppSync said about an operation, which is connect, subscribe or publish. The
// first of errs counts. Only the first line of its texts is kept: further ones may quote the whole request,
// token and all.
//
// What AppSync says of a signature mostly has the type BadRequestException, whatever is wrong with it, so the
// message decides what to do.
// https://github.com/aws-amplify/amplify-js/issues/14001 and 11480
func (a *appsync) refusal(operation string, errs ...apiError) error {
	e := append(errs, apiError{})[0] // there may be none
	kind := firstLine(cmp.Or(e.ErrorType, e.Code, "no error type"))
	said := fmt.Sprintf("%s: %s %q", operation, kind, firstLine(e.Message))
	// The first one that fits counts. What ends with a quotation mark is the end of the error's type: those
	// in the message are escaped.
	for _, remedy := range []struct {
		says string // alternatives, parted by |
		todo string
	}{
		{`signature you provided`, "the secret access key is not the one of this access key: set both anew"},
		{`Signature expired|Signature not yet current`, "the clock here is wrong: set it"},
		{`Credential should be scoped`, "the region is not the API's: set LIVE_LAMBDA_APPSYNC_REGION"},
		{`request is expired|ExpiredToken`, "the credentials have expired: get new ones"},
		{`request is invalid|UnrecognizedClient`, "AWS does not know these credentials: get new ones"},
		{`Unauthorized "|UnauthorizedException "|Forbidden "|AccessDenied`, a.permission(operation)},
		{`BadRequestException "|Bad Request "|SignatureException "`, "check host, region, clock and key"},
	} {
		for _, words := range strings.Split(remedy.says, "|") {
			if strings.Contains(said, words) {
				return fmt.Errorf("%w to %s; %s", errRefused, said, remedy.todo)
			}
		}
	}
	return errors.New("AppSync failed to " + said)
}

// permission says what an operation takes. AppSync refuses unknown namespaces in the same words.
func (a *appsync) permission(operation string) string {
	if a.apiKey != "" {
		return "check that the API key is this API's and has not expired, and host and namespace"
	}
	return fmt.Sprintf("grant "+a.grants[operation]+", and check host and namespace",
		"arn:aws:appsync:"+a.region+":ACCOUNT:apis/API_ID")
}

// serverMessage is any message from AppSync, or its reply to a publish over HTTPS.
type serverMessage struct {
	Type                string
	ID                  string // of the operation or the subscription that it is about
	Event               any    // a string, or as AWS's page has it an array of one
	Errors              []apiError
	Failed              []apiError // events of a publish that were not taken
	ConnectionTimeoutMs int64
	Payload             *serverMessage                // of a GraphQL API's message: all but Type and ID
	Data                map[string]struct{ Data any } // of a GraphQL API's Payload or HTTPS reply, by field
}

// session is one WebSocket to AppSync from connection_ack to its end.
type session struct {
	*appsync
	conn    *wsConn
	ctx     context.Context         // ends with the connection; its cause says why
	drop    context.CancelCauseFunc // ends the connection; the first reason for that stays its cause
	name    string                  // LINK: of the channel of answers that come back over this connection
	born    time.Time               // by the wall clock
	lastID  atomic.Uint64           // of an operation
	unacked atomic.Int64            // bytes of publishes under way
	slots   chan struct{}           // publishes of the last second; has room for as many as there may be

	mu    sync.Mutex                    // guards the following
	subs  map[string]func(string)       // by a subscription's ID: takes each event; must not block the reader
	waits map[string]chan serverMessage // by an operation's ID or a probe's name: who expects it or its reply
}

// newSession is a session without a connection.
func newSession(a *appsync) *session {
	return &session{
		appsync: a,
		name:    fmt.Sprintf("%x", rand.Text()[:16]), // anew: copies of a snapshot must not share it
		born:    time.Now().Round(0),
		slots:   make(chan struct{}, a.perSecond),
		subs:    map[string]func(string){},
		waits:   map[string]chan serverMessage{},
	}
}

// connect opens a WebSocket and waits for connection_ack. The session ends with ctx.
func (a *appsync) connect(ctx context.Context) (*session, error) {
	auth, err := a.authorize(ctx, a.connectPath, []byte("{}"), true)
	if err != nil {
		return nil, err
	}
	object, _ := json.Marshal(auth) // a map of strings always marshals
	s := newSession(a)
	reply := s.expect("")
	// If this end was frozen, the connections of its publishes are as dead as the WebSocket before.
	a.transport.CloseIdleConnections()
	s.conn, err = dialWebSocket(
		ctx, a.transport, a.realtime,
		[]string{a.protocol, "header-" + base64.RawURLEncoding.EncodeToString(object)}, s.receive)
	if err != nil {
		var refused noUpgrade
		if errors.As(err, &refused) {
			err = a.refusal("connect", apiError{ErrorType: refused.Error(), Message: refused.text})
		}
		return nil, err
	}
	s.ctx, s.drop = s.conn.ctx, s.conn.fail
	s.conn.send(ctx, []byte(`{"type":"connection_init"}`)) // if that fails, awaitReply knows why
	m, err := s.awaitReply(ctx, reply, ackTimeout, "connection_ack", "connect")
	if err != nil {
		s.conn.close()
		return nil, err
	}
	if m.ConnectionTimeoutMs > 0 {
		// In nanoseconds; an absurd one must not overflow.
		s.conn.idle.Store(min(m.ConnectionTimeoutMs, 1e9) * 1e6)
	}
	return s, nil
}

// quiet is how long nothing has come. It goes by the wall clock, because the monotonic one may stand still
// while this end is frozen; the wall clock may be set back.
func (s *session) quiet() time.Duration { return time.Since(time.Unix(0, s.conn.heard.Load())).Abs() }

// spent reports whether a connection should be replaced: this end was frozen, or AppSync will end it soon.
func (s *session) spent() bool { return s.quiet() > staleAfter || time.Since(s.born) > retireAfter }

// expect returns the channel that AppSync's reply to the operation of that ID will come from. A probe has its
// name as the ID, which no operation has, and instead of a reply it comes back itself. Several may expect one
// probe, so settle closes the channel.
func (s *session) expect(id string) <-chan serverMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := s.waits[id]
	if reply == nil {
		reply = make(chan serverMessage, 1)
		s.waits[id] = reply
	}
	return reply
}

// settle hands m, the reply to the operation of that ID, to who expects it, and reports whether anyone does.
func (s *session) settle(id string, m serverMessage) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply, expected := s.waits[id]
	if expected {
		delete(s.waits, id)
		reply <- m
		close(reply)
	}
	return expected
}

// awaitReply waits for AppSync's reply to an operation and makes an error of any but the wanted one. If none
// comes in time, the connection counts as dead.
func (s *session) awaitReply(
	ctx context.Context, reply <-chan serverMessage, timeout time.Duration, want, operation string,
) (serverMessage, error) {
	late := time.AfterFunc(timeout, func() { s.drop(fmt.Errorf("no %s within %s", want, timeout)) })
	defer late.Stop()
	m, err := await(ctx, s.ctx, reply)
	if err == nil && (m.Type != want || len(m.Failed) > 0) {
		err = s.refusal(operation, append(m.Errors, m.Failed...)...)
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

// receive takes one message from AppSync: for a subscription, or for the operation that it replies to. Errors
// about neither are logged. The connection's reader calls it; its error ends the connection.
func (s *session) receive(decoder *json.Decoder) error {
	var m serverMessage
	err := decoder.Decode(&m)
	if errors.As(err, new(*json.UnmarshalTypeError)) {
		m = serverMessage{Errors: []apiError{{ErrorType: "a message that is not valid"}}}
	} else if err != nil {
		return fmt.Errorf("the connection ended: %w", err)
	}
	if m.Payload != nil {
		m.Event = m.Payload.Data["subscribe"].Data
		m.Errors = m.Payload.Errors
		m.ConnectionTimeoutMs = m.Payload.ConnectionTimeoutMs
	}
	switch m.Type {
	case "ka", "broadcast_error": // are no replies, whatever their ID
	case "connection_error":
		return s.refusal("connect", m.Errors...)
	case "data":
		text, valid := s.text(m.Event)
		s.mu.Lock()
		handle := s.subs[m.ID]
		s.mu.Unlock()
		switch {
		case !valid:
			m.Errors = []apiError{{ErrorType: "an event that is not valid"}}
		case handle != nil:
			handle(text)
			return nil
		}
	default:
		if s.settle(m.ID, m) {
			return nil
		}
	}
	if len(m.Errors) > 0 {
		s.log.Warn("AppSync reports an error", "error", s.refusal("publish", m.Errors...))
	}
	return nil
}

// text returns an event of a message from AppSync. ok is false if it is not a text.
func (a *appsync) text(event any) (text string, ok bool) {
	array, _ := event.([]any)
	if len(array) == 1 {
		event = array[0]
	}
	text, ok = event.(string)
	if a.graphql && strings.HasPrefix(text, `"`) {
		// AWSJSON has been seen to arrive encoded twice. A text that is not JSON stays as it is.
		// https://github.com/awslabs/aws-mobile-appsync-sdk-js/issues/533
		json.Unmarshal([]byte(text), &text)
	}
	return text, ok
}

// start sends one operation; AppSync's reply to it will come from the channel. kind is the type of the
// message, body the JSON object that is signed.
func (s *session) start(ctx context.Context, kind, id string, body []byte) (<-chan serverMessage, error) {
	object, err := s.authorize(ctx, s.http.Path, body, true)
	if err != nil {
		return nil, err
	}
	auth, _ := json.Marshal(object) // a map of strings always marshals
	// The body is appended because it may be large, and fmt copies what it formats more than once.
	message := append(
		fmt.Appendf(nil, `{"type":"%s","id":"%s","authorization":%s,`, kind, id, auth), body[1:]...)
	if s.graphql {
		message = fmt.Appendf(nil,
			`{"type":"%s","id":"%s","payload":{"data":%q,"extensions":{"authorization":%s}}}`,
			kind, id, body, auth)
	}
	return s.expect(id), s.conn.send(ctx, message) // in this order: the reply may come at once
}

// subscribe subscribes to channel until ctx is done, because one connection has room for 200 subscriptions
// only. The reader calls handle with the text of each event. subscribe returns when AppSync has confirmed the
// subscription, which may be before it delivers. If there is no reply within timeout, the connection counts
// as dead.
func (s *session) subscribe(
	ctx context.Context, timeout time.Duration, channel string, handle func(string),
) error {
	id := fmt.Sprint(s.lastID.Add(1))
	s.mu.Lock()
	s.subs[id] = handle
	s.mu.Unlock()
	reply, err := s.start(ctx, s.dialect.subscribe, id, fmt.Appendf(nil, s.subscription, channel))
	if err != nil {
		return err
	}
	// A GraphQL API has another word for it, but there no subscription ends before its connection.
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		delete(s.subs, id)
		s.mu.Unlock()
		s.conn.send(s.ctx, fmt.Appendf(nil, `{"type":"unsubscribe","id":"%s"}`, id))
	})
	_, err = s.awaitReply(ctx, reply, timeout, s.subscribed, "subscribe")
	return err
}

// errNoProbe says that no probe has come back in time.
var errNoProbe = errors.New("the subscription does not deliver")

// errRetired ends a connection that the next one replaces; nothing is wrong then.
var errRetired = errors.New("replaced by a new connection")

// listen subscribes to the channel of a request's answers. AppSync confirms a subscription before it
// delivers, so listen then publishes probes, called name, until one comes back; the error is errNoProbe if
// none does within ackTimeout. handle gets every other event: with its part, opened if it was sealed, and
// parse's error, or with neither if it is a bare result.
func (s *session) listen(
	ctx context.Context, timeout time.Duration, callID, name string,
	handle func(string, *part, error),
) error {
	err := s.subscribe(ctx, timeout, s.channel(callID), func(event string) {
		p, err := s.sealer.parse(event)
		if p == nil || p.Type != "probe" || p.RequestID != name {
			handle(event, p, err)
			return
		}
		s.settle(name, serverMessage{})
	})
	if err != nil {
		return err
	}
	start := time.Now()
	for {
		err = s.probe(ctx, name, probeEvery)
		if err != errNoProbe || time.Since(start) >= ackTimeout {
			return err
		}
	}
}

// probe publishes a probe and returns when it, or an earlier one of that name, has come back; errNoProbe
// after wait.
func (s *session) probe(ctx context.Context, name string, wait time.Duration) error {
	back := s.expect(name)
	err := s.publish(
		ctx, s.channel(name), slices.Values([][]byte{part{Type: "probe", RequestID: name}.event()}), awaited)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errNoProbe)
	defer cancel()
	_, err = await(ctx, s.ctx, back)
	return err
}

// effort is what is done for a publish.
type effort int

const (
	awaited   effort = iota // until AppSync has taken it
	unawaited               // until it is on its way
	optional                // the same, and not at all beyond the WebSocket's rate
)

// publish publishes events to channel. It returns when AppSync has taken them all or, if that is not awaited,
// when they are on their way. The publishes do not wait for each other.
func (s *session) publish(ctx context.Context, channel string, events iter.Seq[[]byte], e effort) error {
	var replies []<-chan serverMessage
	for body := range s.publishes(channel, events) {
		size := int64(len(body))
		s.unacked.Add(size)
		defer s.unacked.Add(-size) // when publish returns
		select {
		case s.slots <- struct{}{}:
			time.AfterFunc(time.Second, func() { <-s.slots })
			reply, err := s.start(ctx, "publish", fmt.Sprint(s.lastID.Add(1)), body)
			if err != nil {
				return err
			}
			if e == awaited {
				replies = append(replies, reply)
			}
		default:
			if e == optional {
				return errors.New("the WebSocket takes no more publishes now")
			}
			err := s.publishHTTPS(ctx, s.patience(), body)
			if err != nil {
				return err
			}
		}
	}
	for _, reply := range replies {
		_, err := s.awaitReply(ctx, reply, s.patience(), "publish_success", "publish")
		if err != nil {
			return err
		}
	}
	return nil
}

// patience is how long to wait for a publish_success or a probe: longer while much is on its way.
func (s *session) patience() time.Duration { return publishTimeout + transferTime(s.unacked.Load()) }

// transferTime is how long so many bytes may be on their way.
func transferTime(size int64) time.Duration { return time.Duration(size) * time.Second / slowestUplink }

// publishes groups events, which are printable ASCII, into the bodies of as few publishes as AppSync's limits
// allow.
func (a *appsync) publishes(channel string, events iter.Seq[[]byte]) iter.Seq[[]byte] {
	head := fmt.Appendf(nil, a.publishHead, channel)
	empty := len(head) - 2 // the first event has no comma, and head has one of its quotes
	return func(yield func([]byte) bool) {
		var group [][]byte // of the next publish
		size := empty      // of its body
		for event := range events {
			more := escapedLen(event) + len(",")
			// This cannot be true of the first event: no event has more than maxEvent bytes.
			if len(group) == a.events || size+more > maxPublish {
				if !yield(a.body(head, group, size)) {
					return
				}
				group, size = nil, empty
			}
			group = append(group, event)
			size += more
		}
		if len(group) > 0 {
			yield(a.body(head, group, size))
		}
	}
}

// body is the body of a publish. Without its tail it has at most size bytes. In printable ASCII JSON escapes
// nothing but quotation marks and backslashes.
func (a *appsync) body(head []byte, events [][]byte, size int) []byte {
	body := append(make([]byte, 0, size+len(a.publishTail)), head...)
	for i, event := range events {
		if i > 0 {
			body = append(body, `","`...)
		}
		for _, c := range event {
			if c == '"' || c == '\\' {
				body = append(body, '\\')
			}
			body = append(body, c)
		}
	}
	return append(body, a.publishTail...)
}

// escapedLen is the length of event, which is printable ASCII, in a publish, with its quotes.
func escapedLen(event []byte) int {
	return len(event) + bytes.Count(event, []byte(`"`)) + bytes.Count(event, []byte(`\`)) + len(`""`)
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
	req, _ := http.NewRequestWithContext(ctx, "POST", "", bytes.NewReader(body))
	req.URL = a.http // with the method valid and no URL to parse, there is no error above
	// With that key, which is not sent, net/http tries again if the server has closed a connection that was
	// kept.
	req.Header = http.Header{"Content-Type": {"application/json"}, "X-Idempotency-Key": nil}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	req.Host = headers["host"] // without port, as it is signed
	var m serverMessage
	resp, err := roundTrip(a.transport, req, &m)
	errs := append(m.Errors, m.Failed...)
	if resp != nil && (resp.StatusCode != 200 || len(errs) > 0 ||
		a.graphql && err == nil && m.Data["publish"].Data == nil) {
		return a.refusal("publish", append(errs, apiError{ErrorType: http.StatusText(resp.StatusCode)})...)
	}
	return err
}

// run keeps a session up until ctx is done: whenever one has ended, it makes the next. It calls use with each
// new session. use returns when the session has ended, with whether it has ever worked, and with why it
// ended. Then run calls down with that, or with why there was no session. A reason is not logged twice in a
// row. The pauses between dials grow with each failure, with full jitter.
func (a *appsync) run(ctx context.Context, use func(*session) (bool, error), down func(error)) {
	backoff := firstBackoff
	logged := ""
	for ctx.Err() == nil {
		life, end := context.WithTimeoutCause(ctx, retireAfter+30*time.Minute, errRetired)
		s, err := a.connect(life)
		up := false
		if err == nil {
			up, err = use(s)
			s.conn.close()
		}
		end()
		down(err)
		if up {
			backoff = firstBackoff
			logged = ""
		}
		if ctx.Err() == nil && err != errRetired {
			if err.Error() != logged {
				logged = err.Error()
				a.log.Warn("not connected", "host", a.realtime.Host, "error", err)
			}
			pause := mathrand.N(backoff)
			if errors.Is(err, errRefused) {
				pause += refusedPause
			}
			sleep(ctx, pause)
		}
		backoff = min(2*backoff, maxBackoff)
	}
}
