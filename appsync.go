package main

// appsync.go knows AWS AppSync Events: its messages and channels, SigV4, and this program's own messages, which travel
// as events. proxy.go hands an invocation's event in (tunnel.send) and takes the answer out of the call it gets back;
// ws.go carries the bytes. The developer's end uses the same sessions and parts.
//
// https://docs.aws.amazon.com/appsync/latest/eventapi/event-api-websocket-protocol.html

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
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
	doneTimeout    = time.Second            // for writing what ends an invocation
	probeEvery     = 250 * time.Millisecond // until a new link delivers
	quietTimeout   = 6 * time.Second        // without a frame while an invocation is out, before a probe
	repeatRequest  = 2 * time.Second        // without `accepted`, before a request is published again
	retryPublish   = 500 * time.Millisecond // after AppSync had no capacity for a request
	notTaken       = 5 * time.Second        // without such luck, before the request counts as refused
	staleAfter     = 90 * time.Second       // without a frame: AppSync sends one every 60 s, so this end was frozen
	refusedPause   = 10 * time.Second       // between dials that AppSync refuses
	retireAfter    = 23 * time.Hour         // AppSync ends a connection after 24 hours
)

// Sizes of this program's own messages, in bytes.
const (
	gzipAbove    = 16 << 10          // a smaller message is not worth compressing
	partData     = 165_000           // of data in one part: 220,000 in base64url, which leaves 8,000 for the rest
	maxPayload   = 6*1024*1024 + 100 // Lambda's limit for events and buffered responses
	maxStream    = 200 << 20         // and for streamed ones
	streamWindow = 8 << 20           // of a stream's parts kept while an earlier one is missing
	maxIndex     = 1 << 20           // of a part
)

// credentials are AWS credentials as SigV4 uses them; sessionToken is empty for long-lived keys.
type credentials struct{ accessKeyID, secretAccessKey, sessionToken string }

// authorization returns the value of the Authorization header that signs POST path, without a query, for AppSync.
// headers are name and value pairs, names in lower case, sorted; all of them are signed.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func (c credentials) authorization(region, amzDate, path string, headers [][2]string, body []byte) string {
	names := make([]string, len(headers))
	canonical := "POST\n" + path + "\n\n"
	for i, h := range headers {
		canonical += h[0] + ":" + h[1] + "\n"
		names[i] = h[0]
	}
	signed := strings.Join(names, ";")
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
	return "AWS4-HMAC-SHA256 Credential=" + c.accessKeyID + "/" + scope +
		", SignedHeaders=" + signed + ", Signature=" + hex.EncodeToString(key)
}

// hexSHA256 is the hash of b as SigV4 writes it.
func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// signed returns headers with what SigV4 adds to them: date, session token and signature.
func (c credentials) signed(region, amzDate string, body []byte, headers ...[2]string) [][2]string {
	headers = append(headers, [2]string{"x-amz-date", amzDate})
	if c.sessionToken != "" {
		headers = append(headers, [2]string{"x-amz-security-token", c.sessionToken})
	}
	authorization := c.authorization(region, amzDate, "/event", headers, body)
	if c.sessionToken != "" {
		headers[len(headers)-1][0] = "X-Amz-Security-Token" // as AWS's page writes it in authorization objects
	}
	return append(headers, [2]string{"Authorization", authorization})
}

// asciiJSON appends src, which must be valid JSON in UTF-8, token for token, without the white space between them.
// AppSync checks a WebSocket publish against its own serialisation of the events, so the characters inside strings that
// serialisers disagree on (< > & = ' and whatever is not printable ASCII) are written as \uXXXX.
// https://github.com/aws/aws-appsync-community/issues/400
func asciiJSON(dst, src []byte) []byte {
	var compact bytes.Buffer
	json.Compact(&compact, src) // what is not valid stays out
	for _, r := range compact.String() {
		switch {
		case r >= 0x10000:
			high, low := utf16.EncodeRune(r)
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
		case r == '<', r == '>', r == '&', r == '=', r == '\'', r > '~':
			dst = fmt.Appendf(dst, `\u%04x`, r)
		default:
			dst = append(dst, byte(r))
		}
	}
	return dst
}

// escapedLen is the length of event inside a publish, quotes included.
func escapedLen(event []byte) int {
	return len(event) + bytes.Count(event, []byte{'"'}) + bytes.Count(event, []byte{'\\'}) + 2
}

// appsync is a client of one Event API.
type appsync struct {
	http        *url.URL // https://HOST/event; its host, without port, is the one that is signed
	realtime    *url.URL // https://HOST/event/realtime
	region      string
	apiKey      string // used instead of IAM where set
	namespace   string
	requests    string // the channel of requests: /NAMESPACE/requests[/STAGE]
	credentials func(context.Context) (credentials, error)
	transport   *http.Transport
	log         *slog.Logger
}

// headers returns the given headers, names in lower case, sorted, with those that authorise an operation with body.
// Credentials are read anew each time: they change.
func (a *appsync) headers(ctx context.Context, body []byte, headers ...[2]string) ([][2]string, error) {
	if a.apiKey != "" {
		return append(headers, [2]string{"x-api-key", a.apiKey}), nil
	}
	c, err := a.credentials(ctx)
	if err != nil {
		return nil, fmt.Errorf("read AWS credentials: %w", err)
	}
	return c.signed(a.region, time.Now().UTC().Format("20060102T150405Z"), body, headers...), nil
}

// authorize returns the authorization object of one operation on a WebSocket: body is `{}` for connect, else the
// operation's channel and events.
func (a *appsync) authorize(ctx context.Context, body []byte) (json.RawMessage, error) {
	if a.apiKey != "" {
		return json.Marshal(map[string]string{"host": a.http.Hostname(), "x-api-key": a.apiKey})
	}
	headers, err := a.headers(ctx, body,
		[2]string{"accept", "application/json, text/javascript"},
		[2]string{"content-encoding", "amz-1.0"},
		[2]string{"content-type", "application/json; charset=UTF-8"},
		[2]string{"host", a.http.Hostname()})
	if err != nil {
		return nil, err
	}
	object := map[string]string{}
	for _, h := range headers {
		object[h[0]] = h[1]
	}
	return json.Marshal(object)
}

// refusal is AppSync's error answer to an operation. Only the first line of what it said is kept: further ones may quote
// the whole request, token and all.
type refusal struct{ action, resource, errorType, message string }

func (a *appsync) refusal(action string, errs ...apiError) *refusal {
	r := &refusal{action: action, resource: "arn:aws:appsync:" + a.region + ":ACCOUNT:apis/API_ID"}
	if action != "appsync:EventConnect" {
		r.resource += "/channelNamespace/" + a.namespace
	}
	if len(errs) > 0 {
		r.errorType, r.message = firstLine(errs[0].ErrorType), firstLine(errs[0].Message)
	}
	return r
}

func (r *refusal) Error() string {
	s := fmt.Sprintf("%s refused: %s %q", r.action, cmp.Or(r.errorType, "no error type"), r.message)
	if r.final() {
		s += "; grant " + r.action + " on " + r.resource + ", and check host, region, clock and key"
	}
	return s
}

// final tells what only a person can mend from trouble that passes.
func (r *refusal) final() bool {
	return slices.ContainsFunc([]string{"Unauthorized", "Forbidden", "AccessDenied", "BadRequest", "Bad Request", "UnrecognizedClient", "ExpiredToken"},
		func(s string) bool { return strings.Contains(r.errorType, s) })
}

// refused reports whether err says that AppSync does not let this end do what it tried.
func refused(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.final()
}

// apiError is one element of AppSync's errors.
type apiError struct{ ErrorType, Message string }

// serverMessage is any message from AppSync, or its answer to an HTTPS publish.
type serverMessage struct {
	Type                string
	ID                  string
	Event               eventTexts
	Errors              []apiError
	ConnectionTimeoutMs int64
	Failed              []struct{ Code, Message string } // events of a publish that were not taken
}

// eventTexts is the event of a data message: a string, or as AWS's page has it an array of one.
type eventTexts []string

func (e *eventTexts) UnmarshalJSON(raw []byte) error {
	if raw[0] == '[' {
		return json.Unmarshal(raw, (*[]string)(e))
	}
	*e = make([]string, 1)
	return json.Unmarshal(raw, &(*e)[0])
}

// session is one WebSocket to AppSync from connection_ack to its end.
type session struct {
	api  *appsync
	conn *wsConn
	born time.Time

	mu     sync.Mutex
	lastID uint64
	subs   map[string]func(event string)   // by subscription ID; called by the reader, must not block
	waits  map[string]chan<- serverMessage // by ID, of operations that AppSync has not answered yet
	sent   [publishesPerSecond]time.Time   // when the latest publishes went out, a ring
	next   int                             // in sent

	unacked atomic.Int64 // bytes of publishes under way
}

// connect opens a WebSocket and waits for connection_ack.
func (a *appsync) connect(ctx context.Context) (*session, error) {
	auth, err := a.authorize(ctx, []byte("{}"))
	if err != nil {
		return nil, err
	}
	ack := make(chan serverMessage, 1)
	s := &session{api: a, born: time.Now(), subs: map[string]func(string){}, waits: map[string]chan<- serverMessage{"": ack}}
	protocols := []string{"aws-appsync-event-ws", "header-" + base64.RawURLEncoding.EncodeToString(auth)}
	s.conn, err = dialWebSocket(ctx, a.transport, a.realtime, protocols, s.receive)
	var h *handshakeError
	if errors.As(err, &h) && h.status >= 400 && h.status < 500 {
		err = a.refusal("appsync:EventConnect", apiError{http.StatusText(h.status), h.text})
	}
	if err != nil {
		return nil, err
	}
	s.conn.send(ctx, []byte(`{"type":"connection_init"}`)) // where that fails, the reason may be waiting among the answers
	m, err := s.answer(ctx, ack, ackTimeout, "connection_ack", "appsync:EventConnect")
	if err != nil {
		s.conn.close()
		return nil, err
	}
	s.conn.idle.Store(int64(cmp.Or(time.Duration(max(0, min(m.ConnectionTimeoutMs, 1e9)))*time.Millisecond, firstIdle)))
	return s, nil
}

// answer waits for AppSync's answer to an operation and makes an error of any but the wanted one. Without an answer in
// time the connection counts as dead.
func (s *session) answer(ctx context.Context, answer <-chan serverMessage, timeout time.Duration, want, action string) (m serverMessage, err error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case m = <-answer:
	case <-s.conn.done:
		select {
		case m = <-answer: // connection_error and the end of the connection come together
		default:
			return m, s.conn.err
		}
	case <-ctx.Done():
		return m, context.Cause(ctx)
	case <-timer.C:
		s.conn.fail(fmt.Errorf("no %s within %s", want, timeout))
		return m, s.conn.err
	}
	switch {
	case m.Type != want:
		return m, s.api.refusal(action, m.Errors...)
	case len(m.Failed) > 0:
		return m, s.api.refusal(action, apiError{m.Failed[0].Code, m.Failed[0].Message})
	}
	return m, nil
}

// receive is the reader's: one message from AppSync.
func (s *session) receive(raw []byte) {
	var m serverMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		s.api.log.Warn("dropped a message from AppSync that is not valid", "bytes", len(raw))
		return
	}
	s.mu.Lock()
	handle, wait := s.subs[m.ID], s.waits[m.ID]
	if m.Type == "connection_error" {
		m.ID, wait = "", s.waits[""]
	}
	answers := wait != nil && m.Type != "data" && m.Type != "ka" && m.Type != "broadcast_error"
	if answers {
		delete(s.waits, m.ID)
	}
	s.mu.Unlock()
	switch {
	case answers:
		wait <- m
	case m.Type == "data" && handle != nil:
		for _, event := range m.Event {
			handle(event)
		}
	case len(m.Errors) > 0:
		s.api.log.Warn("AppSync reports an error", "error", s.api.refusal(firstLine(m.Type), m.Errors...))
	}
}

// start sends one operation; AppSync's answer to it will come from the channel. body is the JSON object that is signed.
func (s *session) start(ctx context.Context, kind, id string, body []byte) (<-chan serverMessage, error) {
	auth, err := s.api.authorize(ctx, body)
	if err != nil {
		return nil, err
	}
	answer := make(chan serverMessage, 1)
	s.mu.Lock()
	s.waits[id] = answer
	s.mu.Unlock()
	msg := slices.Concat([]byte(`{"type":"`+kind+`","id":"`+id+`",`), body[1:len(body)-1], []byte(`,"authorization":`), auth, []byte{'}'})
	return answer, s.conn.send(ctx, msg)
}

func (s *session) newID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastID++
	return strconv.FormatUint(s.lastID, 10)
}

// subscribe subscribes to channel under a new ID; handle gets the text of each event, from the reader's goroutine. It
// returns when AppSync has confirmed the subscription, which may be before events are delivered.
func (s *session) subscribe(ctx context.Context, id, channel string, handle func(event string)) error {
	s.mu.Lock()
	s.subs[id] = handle
	s.mu.Unlock()
	answer, err := s.start(ctx, "subscribe", id, []byte(`{"channel":"`+channel+`"}`))
	if err == nil {
		_, err = s.answer(ctx, answer, ackTimeout, "subscribe_success", "appsync:EventSubscribe")
	}
	return err
}

// unsubscribe ends a subscription; AppSync's answer is of no interest.
func (s *session) unsubscribe(id string) error {
	s.mu.Lock()
	delete(s.subs, id)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), doneTimeout)
	defer cancel()
	return s.conn.send(ctx, []byte(`{"type":"unsubscribe","id":"`+id+`"}`))
}

// publish publishes events to channel, at most five at once, and returns when AppSync has taken them all. The publishes
// do not wait for each other.
func (s *session) publish(ctx context.Context, channel string, events iter.Seq[[]byte]) error {
	var answers []<-chan serverMessage
	total := int64(0)
	defer func() { s.unacked.Add(-total) }()
	for body := range publishes(channel, events) {
		total += int64(len(body))
		s.unacked.Add(int64(len(body)))
		answer, err := s.startPublish(ctx, body)
		if err != nil {
			return err
		}
		if answer != nil {
			answers = append(answers, answer)
		}
	}
	for _, answer := range answers {
		if _, err := s.answer(ctx, answer, s.patience(), "publish_success", "appsync:EventPublish"); err != nil {
			return err
		}
	}
	return nil
}

// patience is how long to wait for a publish_success or a probe: longer while much is on its way.
func (s *session) patience() time.Duration {
	return publishTimeout + time.Duration(s.unacked.Load())*time.Second/slowestUplink
}

// announce publishes one event and returns when it has been written, without waiting for AppSync's answer: the
// execution environment may freeze before there is one.
func (s *session) announce(ctx context.Context, channel string, event []byte) (err error) {
	for body := range publishes(channel, slices.Values([][]byte{event})) {
		_, err = s.startPublish(ctx, body)
	}
	return err
}

// startPublish sends one publish. What is over the WebSocket's rate goes out over HTTPS; then there is no answer to
// wait for.
func (s *session) startPublish(ctx context.Context, body []byte) (<-chan serverMessage, error) {
	now := time.Now()
	s.mu.Lock()
	allowed := now.Sub(s.sent[s.next]) >= time.Second
	if allowed {
		s.sent[s.next] = now
		s.next = (s.next + 1) % len(s.sent)
	}
	s.mu.Unlock()
	if !allowed {
		return nil, s.api.publishHTTPS(ctx, body)
	}
	return s.start(ctx, "publish", s.newID(), body)
}

// publishes groups events into the bodies of as few publishes as AppSync's limits allow. The events are printable ASCII.
func publishes(channel string, events iter.Seq[[]byte]) iter.Seq[[]byte] {
	head := `{"channel":"` + channel + `","events":[`
	return func(yield func([]byte) bool) {
		body, n := []byte(head), 0
		for event := range events {
			if n == maxEventsPerPublish || n > 0 && len(body)+escapedLen(event) > maxPublish {
				if !yield(append(body, "]}"...)) {
					return
				}
				body, n = []byte(head), 0
			}
			if n > 0 {
				body = append(body, ',')
			}
			body = append(slices.Grow(body, escapedLen(event)+2), '"')
			for i := bytes.IndexAny(event, `"\`); i >= 0; i = bytes.IndexAny(event, `"\`) {
				body = append(append(body, event[:i]...), '\\', event[i])
				event = event[i+1:]
			}
			body = append(append(body, event...), '"')
			n++
		}
		if n > 0 {
			yield(append(body, "]}"...))
		}
	}
}

// publishHTTPS publishes over HTTPS, which has no limit for each connection.
// https://docs.aws.amazon.com/appsync/latest/eventapi/publish-http.html
func (a *appsync) publishHTTPS(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.http.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Host = a.http.Hostname()
	headers, err := a.headers(ctx, body, [2]string{"content-type", "application/json"}, [2]string{"host", req.Host})
	if err != nil {
		return err
	}
	for _, h := range headers {
		req.Header.Set(h[0], h[1])
	}
	resp, err := a.transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("publish over HTTPS: %w", err)
	}
	defer resp.Body.Close()
	var m serverMessage
	err = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&m)
	switch {
	case resp.StatusCode != http.StatusOK:
		return a.refusal("appsync:EventPublish", append(m.Errors, apiError{http.StatusText(resp.StatusCode), ""})...)
	case err != nil:
		return fmt.Errorf("publish over HTTPS: read the answer: %w", err)
	case len(m.Failed) > 0:
		return a.refusal("appsync:EventPublish", apiError{m.Failed[0].Code, m.Failed[0].Message})
	}
	return nil
}

var errRetired = errors.New("replaced by a new connection")

// run keeps a session up until ctx is done: use gets each new one and returns when it has no more use for it, with up
// false where it never got as far as working; run then closes it. down gets the reason why there is no session; it is
// logged once.
func (a *appsync) run(ctx context.Context, use func(context.Context, *session) (up bool, err error), down func(error)) {
	var last string
	redial(ctx, func(ctx context.Context) (up bool, pause time.Duration) {
		s, err := a.connect(ctx)
		if err == nil {
			up, err = use(ctx, s)
			s.conn.close()
		}
		down(err)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errRetired):
			pause = atOnce
		case up:
			a.log.Warn("connection lost", "host", a.realtime.Host, "error", err)
		case err.Error() != last:
			a.log.Warn("not connected", "host", a.realtime.Host, "error", err)
		}
		if last = ""; !up {
			last = err.Error()
		}
		if refused(err) {
			pause = refusedPause
		}
		return up, pause
	})
}

// wait returns when the session has ended, when it has to be replaced, or when ctx is done.
func (s *session) wait(ctx context.Context) error {
	tick := time.NewTicker(staleAfter / 6)
	defer tick.Stop()
	for {
		select {
		case <-s.conn.done:
			return s.conn.err
		case <-tick.C:
			if s.stale() || s.age() > retireAfter+30*time.Minute {
				return errRetired
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// stale reports whether AppSync has not been heard for so long that this end must have slept, or been frozen. It goes
// by the wall clock, since the monotonic one may stand still meanwhile; so do quiet and age.
func (s *session) stale() bool { return s.quiet() > staleAfter }

func (s *session) quiet() time.Duration {
	return time.Duration(time.Now().UnixNano() - s.conn.lastFrame.Load())
}

func (s *session) age() time.Duration { return time.Now().Round(0).Sub(s.born.Round(0)) }

// part is one message of version 1, or one piece of it: everything but a request that fits in one event.
type part struct {
	LiveLambda json.RawMessage   `json:"live_lambda"` // 1
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
	p.LiveLambda, p.Data = json.RawMessage("1"), ""
	head, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings, numbers and maps of strings always marshal
	}
	event := asciiJSON(make([]byte, 0, len(head)+base64.RawURLEncoding.EncodedLen(len(data))+256), head)
	if len(data) == 0 {
		return event
	}
	event = append(event[:len(event)-1], `,"data":"`...)
	return append(base64.RawURLEncoding.AppendEncode(event, data), `"}`...)
}

// event is p as the only part of its message, without data.
func (p part) event() []byte {
	p.Last = true
	return p.encode(nil)
}

// split cuts body, encoded as p says, into the events of one message. What belongs to part 0 alone goes there, and
// nothing else where it takes much room.
func (p part) split(body []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for p.Index = 0; !p.Last; p.Index++ {
			n := min(partData, len(body))
			if p.Index == 0 {
				if size := escapedLen(p.encode(nil)); size > maxEvent {
					p.XRayCause = ""
				} else if size > 7_000 {
					n = 0
				}
			}
			p.Last = n == len(body)
			if !yield(p.encode(body[:n])) {
				return
			}
			body = body[n:]
			p.Headers, p.ErrorType, p.XRayCause = nil, "", ""
		}
	}
}

// compress joins pieces, gzipped where they are above 16 KiB together, and names the encoding. The fastest level: an
// invocation waits for it.
func compress(pieces ...[]byte) (body []byte, encoding string) {
	size := 0
	for _, p := range pieces {
		size += len(p)
	}
	if size <= gzipAbove {
		return bytes.Join(pieces, nil), ""
	}
	var buf bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed) // the level is valid
	for _, p := range pieces {
		zw.Write(p) // a bytes.Buffer takes everything
	}
	zw.Close()
	return buf.Bytes(), "gzip"
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
	if string(p.LiveLambda) != "1" {        // not JSON after all, or the key comes twice
		return nil, nil
	}
	if err == nil {
		p.data, err = base64.RawURLEncoding.Strict().DecodeString(p.Data)
	}
	p.Data = ""
	switch {
	case err != nil:
		return p, errors.New("a field is not of its type")
	case p.Index < 0 || p.Index >= maxIndex:
		return p, errors.New("its index is out of range")
	case p.Encoding != "" && p.Encoding != "gzip":
		return p, errors.New("its encoding is unknown")
	}
	return p, nil
}

// errTooBig says that a message is larger than Lambda allows.
var errTooBig = fmt.Errorf("larger than %d bytes", maxPayload)

// joiner puts the parts of one message together again, whatever order they come in. It is not safe for concurrent use.
type joiner struct {
	limit    int           // bytes of parts that may wait
	waiting  map[int]*part // by index, parts that have come and were not taken
	size     int           // bytes in waiting
	next     int           // index of the part to take next
	last     int           // index of the last part once it has come, else -1
	highest  int           // index that has come
	first    *part         // part 0, without its data, once it has come, else any: what all parts have in common
	trailers map[string]string
}

// add keeps p unless it has come before. It returns an error where p contradicts what has come, errTooBig where it is
// more than the limit; the part that is taken next always has a place.
func (j *joiner) add(p *part) error {
	if j.waiting == nil {
		j.waiting, j.last, j.first = map[int]*part{}, -1, p
	}
	size := j.size + len(p.data) + 512 // for the part itself
	switch {
	case p.Type != j.first.Type || p.Sender != j.first.Sender || p.Encoding != j.first.Encoding:
		return errors.New("it differs from the other parts")
	case p.Index < j.next || j.waiting[p.Index] != nil:
		return nil
	case j.last >= 0 && (p.Index > j.last || p.Last) || p.Last && p.Index < j.highest:
		return errors.New("its index is beyond the last part's")
	case size > j.limit && p.Index != j.next:
		return errTooBig
	}
	j.waiting[p.Index], j.size, j.highest = p, size, max(j.highest, p.Index)
	if p.Index == 0 {
		j.first = p
	}
	if p.Last {
		j.last, j.trailers = p.Index, p.Trailers
	}
	return nil
}

// take returns the data of the next part in order, if it has come.
func (j *joiner) take() (data []byte, ok bool) {
	p := j.waiting[j.next]
	if p == nil {
		return nil, false
	}
	delete(j.waiting, j.next)
	j.size -= len(p.data) + 512
	j.next++
	data, p.data = p.data, nil
	return data, true
}

// complete reports whether all parts have come; ended, whether all have been taken.
func (j *joiner) complete() bool {
	return j.waiting != nil && j.last >= 0 && len(j.waiting) == j.last+1-j.next
}
func (j *joiner) ended() bool { return j.waiting != nil && j.last >= 0 && j.next > j.last }

// reader reads a complete message, decompressed. It may be called again.
func (j *joiner) reader() (io.Reader, error) {
	var parts []io.Reader
	for i := j.next; i <= j.last; i++ {
		parts = append(parts, bytes.NewReader(j.waiting[i].data))
	}
	if j.first.Encoding == "gzip" {
		return gzip.NewReader(io.MultiReader(parts...))
	}
	return io.MultiReader(parts...), nil
}

// measure checks that the parts of a complete message fit together, and returns its size: at most limit bytes, or
// errTooBig.
func (j *joiner) measure(limit int64) (int64, error) {
	r, err := j.reader()
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = errTooBig
	}
	return n, err
}

// tunnel is the extension's side: it keeps one link to AppSync, sends requests over it and takes in their answers.
type tunnel struct {
	api      *appsync
	buffered bool // streamed answers are collected
	wg       sync.WaitGroup

	mu      sync.Mutex
	link    *link         // nil while there is none that delivers
	err     error         // why there is none
	changed chan struct{} // closed, and made anew, whenever link or err changes
	calls   map[uint64]*call
	lastN   uint64
	over    map[uint64]string // outcomes of the latest calls that ended
}

// link is one session of the tunnel, with the name that its answers' channels carry.
type link struct {
	session *session
	name    string
	probed  chan struct{} // a probe has come back
	probing sync.Mutex    // one at a time

	// Under the tunnel's mu.
	versioned bool // a local end of version 1 has been heard
	ambiguous bool // a bare result may belong to a call that is over
}

// newTunnel returns a tunnel that is not connected yet; run connects it.
func newTunnel(api *appsync) *tunnel {
	return &tunnel{api: api, changed: make(chan struct{}), calls: map[uint64]*call{}, over: map[uint64]string{}}
}

// run keeps a link up until ctx is done.
func (t *tunnel) run(ctx context.Context) {
	t.api.run(ctx, t.use, func(err error) { t.set(nil, err) })
	t.wg.Wait()
}

func (t *tunnel) set(l *link, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.link, t.err = l, err
	close(t.changed)
	t.changed = make(chan struct{})
}

// use makes a link of s and stays with it until it ends.
func (t *tunnel) use(ctx context.Context, s *session) (up bool, err error) {
	var name [12]byte
	rand.Read(name[:]) // anew for every WebSocket: copies of one snapshot must not share a name
	l := &link{session: s, name: hex.EncodeToString(name[:]), probed: make(chan struct{}, 1)}
	if err := s.subscribe(ctx, s.newID(), t.channel(l.name+"/*"), func(event string) { t.receive(l, event) }); err != nil {
		return false, err
	}
	if err := t.delivers(ctx, l, l.name+"/probe", l.probed); err != nil {
		return false, err
	}
	t.set(l, nil)
	t.api.log.Info("connected", "host", t.api.realtime.Host, "ms", time.Since(s.born).Milliseconds())
	return true, s.wait(ctx)
}

var errNoProbe = errors.New("the subscription does not deliver")

// delivers returns when a subscription delivers, which AppSync confirms before: when a probe to its channel, name below
// the answers', has come back by probed.
func (t *tunnel) delivers(ctx context.Context, l *link, name string, probed <-chan struct{}) error {
	for deadline := time.Now().Add(ackTimeout); ; {
		err := t.probe(ctx, l, name, probed, probeEvery)
		if !errors.Is(err, errNoProbe) || time.Now().After(deadline) {
			return err
		}
	}
}

// probe publishes a probe to a channel that the link subscribes to, and waits for it to come back.
func (t *tunnel) probe(ctx context.Context, l *link, name string, probed <-chan struct{}, wait time.Duration) error {
	probe := part{Type: "probe", RequestID: name}.event()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	if err := l.session.publish(ctx, t.channel(name), slices.Values([][]byte{probe})); err != nil {
		return err
	}
	select {
	case <-probed:
		return nil
	case <-timer.C:
	case <-l.session.conn.done:
		return l.session.conn.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-probed: // it has come meanwhile
		return nil
	default:
		return errNoProbe
	}
}

func (t *tunnel) channel(name string) string { return "/" + t.api.namespace + "/response/" + name }

// current returns the link, if there is one to use, else why not, and a channel that is closed when that changes.
// A link that was frozen, or is near its end, is given up.
func (t *tunnel) current() (l *link, err error, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l = t.link
	if l != nil {
		if l.session.stale() || l.session.age() > retireAfter && len(t.calls) == 0 {
			l.session.conn.fail(errRetired)
		}
		if l.session.conn.ended() {
			l = nil
		}
	}
	return l, t.err, t.changed
}

// ready returns nil as soon as there is a link; an error after wait, or at once where AppSync refuses this end.
func (t *tunnel) ready(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		l, err, changed := t.current()
		if l != nil {
			return nil
		}
		if refused(err) {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return fmt.Errorf("no connection to AppSync within %s: %w", wait, cmp.Or(err, errors.New("still connecting")))
		}
	}
}

// receive takes an event from the link's subscription. It runs in the reader's goroutine.
func (t *tunnel) receive(l *link, event string) {
	p, err := parsePart(event)
	if p == nil {
		t.receiveBare(l, nil, event)
		return
	}
	id, number, _ := strings.Cut(p.RequestID, "/")
	if p.Type == "probe" && id == l.name {
		select {
		case l.probed <- struct{}{}:
		default:
		}
		return
	}
	n, parseErr := strconv.ParseUint(number, 10, 64)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch c := t.calls[n]; {
	case err != nil:
	case id != l.name || parseErr != nil:
		err = errors.New("its request is unknown")
	case c != nil:
		err = c.take(l, p)
	case t.over[n] != "" && p.Last: // whoever sent it has not heard that the invocation is over; told once more
		outcome := t.over[n]
		delete(t.over, n)
		t.wg.Go(func() { t.tellDone(l, n, outcome) })
	}
	if err != nil {
		t.api.log.Warn("dropped a message that is not valid", "type", firstLine(p.Type), "error", err)
	}
}

// receiveBare takes a bare result: from the subscription of call c alone, or else (c is nil) from the link's, where it
// counts only while it can be nobody else's.
func (t *tunnel) receiveBare(l *link, c *call, event string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// What a local end of version 1 has accepted it will answer as such.
	if out := slices.DeleteFunc(t.out(l), func(o *call) bool { return o.held }); c == nil && len(out) == 1 && !l.ambiguous && out[0].heardOn == nil {
		c = out[0]
	}
	if c == nil || c.link != l || c.answer != nil || c.parts.first != nil || !json.Valid([]byte(event)) {
		t.api.log.Debug("dropped a result that belongs to no invocation for sure")
		return
	}
	l.ambiguous = true
	c.answer = newAnswer("", []byte(event))
	c.answer.headers = map[string]string{"Content-Type": "application/json"}
	notify(c.news)
}

// out lists the calls whose request has gone out over l. The tunnel is locked.
func (t *tunnel) out(l *link) []*call {
	return slices.Collect(func(yield func(*call) bool) {
		for _, c := range t.calls {
			if c.link == l && !yield(c) {
				return
			}
		}
	})
}

// notify says on a channel with room for one that there is something new.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// tellDone tells the local ends that an invocation is over.
func (t *tunnel) tellDone(l *link, n uint64, outcome string) {
	ctx, cancel := context.WithTimeout(context.Background(), doneTimeout)
	defer cancel()
	done := part{Type: "done", RequestID: l.id(n), Outcome: outcome}.event()
	if err := l.session.announce(ctx, t.api.requests, done); err != nil {
		t.api.log.Debug("could not tell the local end that the invocation is over", "error", err)
	}
}

func (l *link) id(n uint64) string { return l.name + "/" + strconv.FormatUint(n, 10) }

// call is one request and its answer.
type call struct {
	t       *tunnel
	n       uint64
	event   []byte        // valid JSON in UTF-8
	context []byte        // a JSON object
	news    chan struct{} // look has something new to say
	more    chan struct{} // a part of a stream has come
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	// Under the tunnel's mu.
	link    *link            // over which the request went out last
	own     *ownSubscription // on link
	inParts bool
	held    bool      // not yet published: subscriptions come first
	sent    time.Time // when AppSync had taken it for the first time
	begun   time.Time // when AppSync did not take it, the first time
	heardOn *link     // where the local end was heard last, nil before it accepted
	heard   time.Time // and when
	err     error     // AppSync does not take the request
	parts   joiner    // of the answer
	other   joiner    // of another local end's, of which parts came before; the first that is whole counts
	answer  *answer
}

// answer is what came back for one invocation: a response, or an error where errorType is set.
type answer struct {
	headers   map[string]string // of a response
	errorType string
	xrayCause string
	body      io.Reader
	size      int64
	stream    bool // instead: the body is to be read from the call, as it comes
}

// send sends a request with an invocation's event and context, and goes on doing so as often as it takes until finish
// is called.
func (t *tunnel) send(ctx context.Context, event, eventContext []byte) *call {
	c := &call{t: t, event: event, context: eventContext, news: make(chan struct{}, 1), more: make(chan struct{}, 1)}
	c.parts.limit = maxPayload + maxEvent
	ctx, c.cancel = context.WithCancel(ctx)
	t.mu.Lock()
	t.lastN++
	c.n = t.lastN
	t.calls[c.n] = c
	t.mu.Unlock()
	c.wg.Go(func() { c.keepOut(ctx) })
	return c
}

// keepOut publishes the request, again after a reconnect, and again where no `accepted` has come; and it probes a link
// that has been quiet for long.
func (c *call) keepOut(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var due time.Time // of the next repetition
	for {
		l, _, changed := c.t.current()
		if l != nil {
			if now := time.Now(); c.mustPublish(l, now.After(due)) {
				pause := c.publish(ctx, l)
				due = time.Now().Add(pause)
			} else if now.After(due) {
				due = now.Add(repeatRequest)
			}
			next := time.Until(due)
			if quiet := l.session.quiet(); quiet < quietTimeout {
				next = min(next, quietTimeout-quiet)
			} else if l.probing.TryLock() {
				select {
				case <-l.probed: // an earlier one's
				default:
				}
				if err := c.t.probe(ctx, l, l.name+"/probe", l.probed, l.session.patience()); errors.Is(err, errNoProbe) {
					l.session.conn.fail(err)
				}
				l.probing.Unlock()
			}
			timer.Reset(max(next, time.Millisecond))
		}
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// mustPublish tells whether the request has to go out (again) over l. A server that knows nothing of version 1 never
// accepts, and would run the handler for every repetition.
func (c *call) mustPublish(l *link, due bool) bool {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	switch {
	case c.err != nil || c.answer != nil && !c.answer.stream:
		return false
	case c.link != nil && c.link != l:
		return true
	}
	return due && (c.link == nil || c.heardOn != l && (l.versioned || c.inParts || c.heardOn != nil))
}

// publish publishes the request over l, and says when to look at it again.
func (c *call) publish(ctx context.Context, l *link) time.Duration {
	c.goOut(ctx, l)
	err := l.session.publish(ctx, c.t.api.requests, c.request(l))
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if err == nil && c.sent.IsZero() {
		c.sent = time.Now()
		notify(c.news)
	}
	if err == nil || ctx.Err() != nil || l.session.conn.ended() {
		return repeatRequest
	}
	if c.begun.IsZero() {
		c.begun = time.Now()
	}
	var r *refusal
	hopeless := c.sent.IsZero() && c.heardOn == nil && time.Since(c.begun) >= notTaken
	if hopeless || errors.As(err, &r) && (r.final() || strings.Contains(r.errorType, "TooLarge") || strings.Contains(r.errorType, "InvalidInput")) {
		c.err = err
		notify(c.news)
		return repeatRequest
	}
	c.t.api.log.Warn("AppSync did not take the request; trying again", "error", err)
	c.link = nil
	return retryPublish
}

// goOut marks the call as out over l. Where a bare result on the link's own subscription could be another call's, each
// call gets a subscription of its own first.
func (c *call) goOut(ctx context.Context, l *link) {
	t := c.t
	t.mu.Lock()
	c.link, c.held = l, true
	var own []*ownSubscription
	if out := t.out(l); l.ambiguous || len(out) > 1 {
		for _, o := range out {
			if o.own == nil || o.own.link != l {
				sub := &ownSubscription{link: l, id: l.session.newID(), settled: make(chan struct{})}
				o.own = sub
				t.wg.Go(func() { o.subscribe(sub) })
			}
			own = append(own, o.own)
		}
	}
	if l.versioned {
		own = nil // nobody needs to wait for what will hardly be used
	}
	t.mu.Unlock()
	for _, o := range own {
		select {
		case <-o.settled:
		case <-ctx.Done():
		}
	}
	t.mu.Lock()
	c.held = false
	t.mu.Unlock()
}

// ownSubscription is a subscription to one call's channel, for bare results alone: parts come with the link's.
type ownSubscription struct {
	link    *link
	id      string
	settled chan struct{} // closed, under the tunnel's mu, when it delivers or failed
}

// subscribe subscribes to the call's own channel. It returns when the link ends, at the latest.
func (c *call) subscribe(own *ownSubscription) {
	t, ctx, name := c.t, context.Background(), own.link.id(c.n)
	probed := make(chan struct{}, 1)
	err := own.link.session.subscribe(ctx, own.id, t.channel(name), func(event string) {
		if p, _ := parsePart(event); p == nil {
			t.receiveBare(own.link, c, event)
		} else if p.Type == "probe" {
			notify(probed)
		}
	})
	t.mu.Lock()
	versioned := own.link.versioned
	t.mu.Unlock()
	if err == nil && !versioned {
		err = t.delivers(ctx, own.link, name, probed)
	}
	if err != nil {
		t.api.log.Debug("a local end that knows nothing of version 1 would not be heard", "error", err)
	}
	t.mu.Lock()
	over := t.calls[c.n] == nil
	close(own.settled)
	t.mu.Unlock()
	if over {
		own.link.session.unsubscribe(own.id)
	}
}

// request encodes the request for a link: as one event, or as parts where it is too large for one.
func (c *call) request(l *link) iter.Seq[[]byte] {
	pieces := [][]byte{[]byte(`{"request_id":"` + l.id(c.n) + `","event_payload":`), c.event, []byte(`,"context":`), c.context, []byte(`,"live_lambda":1}`)}
	if len(c.event) < maxEvent {
		if event := asciiJSON(nil, bytes.Join(pieces, nil)); escapedLen(event) <= maxEvent {
			return slices.Values([][]byte{event})
		}
	}
	c.t.mu.Lock()
	c.inParts = true
	c.t.mu.Unlock()
	body, encoding := compress(pieces...)
	return part{Type: "request", RequestID: l.id(c.n), Encoding: encoding}.split(body)
}

// take takes a part that a local end sent for this call. The tunnel is locked.
func (c *call) take(l *link, p *part) error {
	if p.Type != "accepted" && p.Type != "response" && p.Type != "error" {
		return errors.New("its type is unknown")
	}
	if first := c.parts.first; first != nil && first.Sender != p.Sender {
		if c.answer != nil || c.parts.complete() || c.other.first != nil && c.other.first.Sender != p.Sender {
			return nil // another local end's answer counts, or this is a third
		}
		if p.Type != "accepted" {
			c.parts, c.other = c.other, c.parts
			c.parts.limit = c.other.limit
		}
	}
	l.versioned, c.heardOn, c.heard = true, l, time.Now()
	if p.Type != "accepted" && (c.answer == nil || c.answer.stream) {
		if err := c.parts.add(p); errors.Is(err, errTooBig) && c.answer == nil {
			c.answer = tooLarge()
		} else if err != nil && !errors.Is(err, errTooBig) { // a stream's part too far ahead will be repeated
			return err
		}
		if p.Index == 0 && c.answer == nil && p.Type == "response" && p.Headers["Lambda-Runtime-Function-Response-Mode"] == "streaming" && !c.t.buffered {
			c.parts.limit = streamWindow
			c.answer = &answer{headers: p.Headers, stream: true}
		}
		notify(c.more)
	}
	notify(c.news)
	return nil
}

// look returns when AppSync had taken the request, when the local end was heard last (never: it has not accepted), the
// answer once it is there or, as a stream, has begun, and an error where AppSync does not take the request.
func (c *call) look() (sent, heard time.Time, a *answer, err error) {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if c.answer == nil && c.parts.complete() {
		c.answer = c.assemble()
	}
	return c.sent, c.heard, c.answer, c.err
}

// assemble makes an answer of its parts. Where they do not fit together it returns nil, and repetition gets another
// chance. The tunnel is locked.
func (c *call) assemble() *answer {
	first := c.parts.first
	size, err := c.parts.measure(maxPayload)
	var body io.Reader
	if err == nil {
		body, err = c.parts.reader()
	}
	switch {
	case errors.Is(err, errTooBig):
		return tooLarge()
	case err != nil:
		c.t.api.log.Warn("dropped an answer whose parts do not fit together", "error", err)
		c.parts = joiner{limit: c.parts.limit}
		return nil
	case c.parts.trailers["Lambda-Runtime-Function-Error-Type"] != "": // of a stream that broke while it was collected
		message, _ := base64.StdEncoding.DecodeString(c.parts.trailers["Lambda-Runtime-Function-Error-Body"])
		return newAnswer(c.parts.trailers["Lambda-Runtime-Function-Error-Type"], message)
	case first.Type == "error":
		return &answer{errorType: cmp.Or(first.ErrorType, "Runtime.Unknown"), xrayCause: first.XRayCause, body: body, size: size}
	}
	return &answer{headers: first.Headers, body: body, size: size}
}

// newAnswer is an answer of body alone, an error where errorType is set.
func newAnswer(errorType string, body []byte) *answer {
	return &answer{errorType: errorType, body: bytes.NewReader(body), size: int64(len(body))}
}

// tooLargeType is Lambda's type of the error of an answer that is larger than it allows.
const tooLargeType = "Function.ResponseSizeTooLarge"

// tooLarge is the answer that Lambda itself gives.
func tooLarge() *answer {
	return newAnswer(tooLargeType, errorJSON(tooLargeType, fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", maxPayload)))
}

// errorJSON is Lambda's JSON of an error.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-invokeerror
func errorJSON(errorType, message string) []byte {
	body, _ := json.Marshal(map[string]string{"errorType": errorType, "errorMessage": message}) // strings always marshal
	return body
}

// read takes the data of a streamed answer's next part, nil where it has not come yet; more then tells when to try
// again. ended says that no part is left, trailers those of a stream that broke, heard when the local end was heard last.
func (c *call) read() (data []byte, ended bool, trailers map[string]string, heard time.Time) {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	for ok := true; ok && len(data) == 0; {
		data, ok = c.parts.take()
	}
	return data, c.parts.ended(), c.parts.trailers, c.heard
}

// finish ends the call; outcome is answered, timeout or deployed. A local end that has accepted has been told when
// finish returns, as far as a write to the connection tells.
func (c *call) finish(outcome string) {
	c.cancel()
	c.wg.Wait()
	t := c.t
	t.mu.Lock()
	l, own, tell := c.link, c.own, c.heardOn != nil
	delete(t.calls, c.n)
	delete(t.over, c.n-64)
	t.over[c.n] = outcome
	if l != nil && c.answer == nil {
		l.ambiguous = true
	}
	c.link = nil
	unsubscribe := false
	if own != nil && own.link == l {
		select {
		case <-own.settled:
			unsubscribe = true
		default: // it does so itself
		}
	}
	t.mu.Unlock()
	if l != nil && tell {
		t.tellDone(l, c.n, outcome)
	}
	if unsubscribe {
		l.session.unsubscribe(own.id)
	}
}
