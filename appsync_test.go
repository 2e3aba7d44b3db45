//go:build !layer

package main

// appsync_test.go tests appsync.go: publishes, and one session with a server that the test plays or
// emulates. Time is synctest's.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"
)

func TestPublishHasFiveEventsAtMost(t *testing.T) {
	t.Parallel()
	for n := range 12 {
		var events []string
		for i := range n {
			events = append(events, fmt.Sprintf(`{"n":%d}`, i))
		}
		var got []string
		var groups []int
		for body := range newTestAPI(nil).publishes("/live-lambda/a", asBytes(events)) {
			m := publishBody(t, body, "/live-lambda/a")
			groups = append(groups, len(m))
			got = append(got, m...)
		}
		want := slices.Repeat([]int{5}, n/5)
		if n%5 > 0 {
			want = append(want, n%5)
		}
		if !slices.Equal(groups, want) || !slices.Equal(got, events) {
			t.Errorf("%d events: groups %v, want %v; events %q", n, groups, want, got)
		}
	}
}

// A publish that fails asks for no more.
func TestPublishesMayBeLeftBeforeTheirEnd(t *testing.T) {
	t.Parallel()
	for range newTestAPI(nil).publishes("/a/b", asBytes(slices.Repeat([]string{"1"}, 11))) {
		break
	}
}

func TestPublishStaysWithinAppSyncsSize(t *testing.T) {
	t.Parallel()
	const channel = "/live-lambda/a"
	// Five events: four of 228,000 bytes as they are escaped, and one that brings them and what precedes it
	// to total bytes.
	five := func(total int) []string {
		before := len(`{"channel":"","events":[`) + len(channel) + 4*228_000 + len(`,,,,`)
		return append(slices.Repeat([]string{eventOf(228_000)}, 4), eventOf(total-before))
	}
	quotes := `"` + strings.Repeat(`\"`, 57_499) + `x"`
	tests := []struct {
		name   string
		events []string
		want   []int // events of each publish
	}{
		{name: "limit-1", events: five(maxPublish - 1), want: []int{5}},
		{name: "limit", events: five(maxPublish), want: []int{5}},
		{name: "limit+1", events: five(maxPublish + 1), want: []int{4, 1}},
		{
			name:   "five of the largest events",
			events: slices.Repeat([]string{eventOf(maxEvent)}, 6),
			want:   []int{4, 2},
		},
		{
			name:   "quotes count twice",
			events: slices.Repeat([]string{quotes}, 6),
			want:   []int{4, 2},
		},
	}
	for _, test := range tests {
		var got []int
		for body := range newTestAPI(nil).publishes(channel, asBytes(test.events)) {
			got = append(got, len(publishBody(t, body, channel)))
			if len(body) > maxPublish+len(`]}`) {
				t.Errorf("%s: a body of %d bytes", test.name, len(body))
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: groups %v, want %v", test.name, got, test.want)
		}
	}
}

// The longest session token and the longest channel are in it too.
func TestLongestPublishStaysBelowTheLimitOfAMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		a := newTestAPI(ln)
		a.credentials = func(context.Context) (credentials, error) {
			return credentials{
				accessKeyID:     "AKIDEXAMPLE",
				secretAccessKey: "secret",
				sessionToken:    strings.Repeat("t", 4096),
			}, nil
		}
		s, p := connectSession(t, ln, a)
		channel := "/live-lambda" + strings.Repeat("/"+strings.Repeat("c", 50), 4)
		events := slices.Repeat([]string{eventOf((maxPublish - 300) / 5)}, 5)
		done := asyncError(func() error { return s.publish(t.Context(), channel, asBytes(events), awaited) })
		_, frame := p.read()
		if len(frame) > 1_150_000 || len(frame) < maxPublish-300 {
			t.Errorf("a frame of %d bytes", len(frame))
		}
		var m clientMessage
		err := json.Unmarshal([]byte(frame), &m)
		if err != nil || len(m.Events) != 5 || m.Channel != channel {
			t.Errorf("%d events to %q, %v", len(m.Events), m.Channel, err)
		}
		p.say(`{"type":"publish_success","id":"%s"}`, m.ID)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The message is put together by hand, so its fields may come in any order. These are all that there are.
func TestPublishOverTheWebSocketIsOneJSONObjectOfFiveFields(t *testing.T) {
	t.Parallel()
	onVectorDate(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		s, p := connectSession(t, ln, newTestAPI(ln))
		const channel = "/live-lambda/response/0a/1"
		events := []string{`{"a":"\"\\\u00fc"}`, `"two"`, `3`}
		done := asyncError(func() error { return s.publish(t.Context(), channel, asBytes(events), awaited) })
		opcode, payload := p.read()
		if opcode != websocket.TextFrame {
			t.Errorf("a frame of opcode %d", opcode)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal([]byte(payload), &fields); err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
		names := slices.Sorted(maps.Keys(fields))
		want := []string{"authorization", "channel", "events", "id", "type"}
		if !slices.Equal(names, want) {
			t.Fatalf("fields %q, want %q", names, want)
		}

		// What is signed is the body of the same publish over HTTPS.
		body := mustJSON(map[string]any{"channel": channel, "events": events})
		authorization, err := s.authorize(t.Context(), "/event", body, true)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]any{
			"type":          "publish",
			"channel":       channel,
			"events":        events,
			"authorization": authorization,
		} {
			if got := fields[name]; !sameJSON(got, mustJSON(want)) {
				t.Errorf("%s is %s, want %s", name, got, mustJSON(want))
			}
		}

		var id string
		if err := json.Unmarshal(fields["id"], &id); err != nil || id == "" {
			t.Fatalf("id is %s: %v", fields["id"], err)
		}
		p.say(`{"type":"publish_success","id":"%s"}`, id)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// eventOf is an event of size bytes as it is escaped in a publish.
func eventOf(size int) string { return `"` + strings.Repeat("x", size-6) + `"` }

// publishBody is the events of a publish's body, which must be compact, for channel, and have nothing else.
func publishBody(t *testing.T, body []byte, channel string) []string {
	t.Helper()
	var m struct {
		Channel string
		Events  []string
	}
	if err := json.Unmarshal(body, &m); err != nil || m.Channel != channel {
		t.Fatalf("%d bytes for %q: %v", len(body), m.Channel, err)
	}
	want, err := json.Marshal(map[string]any{"channel": channel, "events": m.Events})
	if err != nil || !bytes.Equal(body, want) {
		t.Fatalf("a body of %d bytes, want %d, %v", len(body), len(want), err)
	}
	return m.Events
}

// operationTest is an operation on a session, and what AppSync says to it.
type operationTest struct {
	name    string
	says    []string // ID is the operation's
	end     func(*peer)
	want    string // in the error; none: it succeeds
	refused bool
	over    bool // the connection is, too
}

// checkOperations begins each operation on a session of its own, and checks what comes of it. Nothing secret
// is told.
func checkOperations(t *testing.T, kind string, begin func(context.Context, *session) error,
	tests []operationTest) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener("example.com")
				logs := new(logLines)
				a := newTestAPI(ln)
				a.log = logs.logger()
				s, p := connectSession(t, ln, a)
				done := asyncError(func() error { return begin(t.Context(), s) })
				m := p.operation(kind)
				for _, says := range test.says {
					p.say("%s", strings.ReplaceAll(says, "ID", m.ID))
				}
				if test.end != nil {
					test.end(p)
				}
				err := <-done
				checkError(t, err, test.want)
				if errors.Is(err, errRefused) != test.refused {
					t.Errorf("refused %v, want %v", !test.refused, test.refused)
				}
				synctest.Wait()
				if over := s.ctx.Err() != nil; over != test.over {
					t.Errorf("connection over: %v, want %v", over, test.over)
				}
				if said := fmt.Sprint(err, logs); strings.Contains(said, testToken) {
					t.Errorf("told too much: %s", said)
				}
			})
		})
	}
}

func TestSubscribeReturnsWhatAppSyncSays(t *testing.T) {
	t.Parallel()
	subscribe := func(ctx context.Context, s *session) error {
		return s.subscribe(ctx, ackTimeout, "/live-lambda/a", func(string) {})
	}
	checkOperations(t, "subscribe", subscribe, []operationTest{
		{name: "success", says: []string{`{"type":"subscribe_success","id":"ID"}`}},
		{
			name: "success behind others",
			says: []string{
				`{"type":"ka"}`, `{"type":"subscribe_success","id":"other"}`,
				`{"type":"data","id":"ID","event":"1"}`,
				`{"type":"broadcast_error","id":"ID","errors":[{"errorType":"MessageProcessingError",` +
					`"message":"m"}]}`,
				`{"type":"frobnicate"}`,
				`{"type":"subscribe_success","id":"ID"}`,
			},
		},
		{
			name: "refused",
			says: []string{
				`{"type":"subscribe_error","id":"ID","errors":[{"errorType":"UnauthorizedException",` +
					`"message":"no\n` + testToken + `"}]}`,
			},
			refused: true,
			want: `AppSync refused to subscribe: UnauthorizedException "no"; grant appsync:EventSubscribe ` +
				`on arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID/channelNamespace/live-lambda, and`,
		},
		{
			name: "too many",
			says: []string{
				`{"type":"subscribe_error","id":"ID","errors":[{"errorType":"MaxSubscriptionsReachedError",` +
					`"message":"m"}]}`,
			},
			want: `AppSync failed to subscribe: MaxSubscriptionsReachedError "m"`,
		},
		{name: "no answer", over: true, want: "no subscribe_success within 15s"},
		{
			name: "closed",
			end:  func(p *peer) { p.frame(true, websocket.CloseFrame, "\x03\xe9") },
			over: true,
			want: "the connection ended: EOF",
		},
	})
}

func TestPublishReturnsWhatAppSyncSays(t *testing.T) {
	t.Parallel()
	publish := func(ctx context.Context, s *session) error {
		return s.publish(ctx, "/live-lambda/a", asBytes([]string{`"event"`}), awaited)
	}
	checkOperations(t, "publish", publish, []operationTest{
		{
			name: "success",
			says: []string{
				`{"type":"publish_success","id":"ID",` +
					`"successful":[{"identifier":"u","index":0}],"failed":[]}`,
			},
		},
		{
			name: "success twice",
			says: []string{
				`{"type":"publish_success","id":"ID"}`,
				`{"type":"publish_success","id":"ID"}`,
			},
		},
		{
			name: "refused",
			says: []string{
				`{"type":"publish_error","id":"ID","errors":[{"errorType":"UnauthorizedException",` +
					`"message":"no"}]}`,
			},
			refused: true,
			want: `AppSync refused to publish: UnauthorizedException "no"; grant appsync:EventPublish on ` +
				`arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID/channelNamespace/live-lambda, and`,
		},
		{
			name: "busy",
			says: []string{
				`{"type":"publish_error","id":"ID","errors":[{"errorType":"LimitExceededError",` +
					`"message":"Rate limit exceeded"}]}`,
			},
			want: `AppSync failed to publish: LimitExceededError "Rate limit exceeded"`,
		},
		{
			name: "malformed",
			says: []string{
				`{"type":"error","id":"ID","errors":[{"errorType":"UnsupportedOperation","message":"m"}]}`,
			},
			want: "UnsupportedOperation",
		},
		{
			name: "an event failed",
			says: []string{
				`{"type":"publish_success","id":"ID","successful":[],"failed":[{"identifier":"u","index":0,` +
					`"code":"EventTooLargeException","message":"too large\n` + testToken + `"}]}`,
			},
			want: `AppSync failed to publish: EventTooLargeException "too large"`,
		},
		{name: "no answer", over: true, want: "no publish_success within 2"},
		{
			name: "another's answer",
			says: []string{
				`{"type":"publish_success","id":"999"}`,
				`{"type":"publish_success"}`,
				`{"type":"publish_success","id":7}`,
			},
			over: true,
			want: "no publish_success within 2",
		},
		{
			name: "cut off",
			end:  func(p *peer) { p.nc.Close() },
			over: true,
			want: "the connection ended: EOF",
		},
	})
}

// publishEleven begins to publish eleven events, which are three publishes.
func publishEleven(t *testing.T, s *session) chan error {
	return asyncError(func() error {
		events := slices.Repeat([]string{"1"}, 11)
		return s.publish(t.Context(), "/live-lambda/a", asBytes(events), awaited)
	})
}

func TestPublishesGoOutBeforeTheFirstIsAnsweredAndAnswersComeInAnyOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		s, p := connectSession(t, ln, newTestAPI(ln))
		done := publishEleven(t, s)
		first, second, third := p.operation("publish"), p.operation("publish"), p.operation("publish")
		for _, m := range []clientMessage{third, first, second} {
			p.say(`{"type":"publish_success","id":"%s"}`, m.ID)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		done = publishEleven(t, s)
		ids := []string{first.ID, second.ID, third.ID}
		for range 3 {
			m := p.operation("publish")
			ids = append(ids, m.ID)
			p.say(`{"type":"publish_success","id":"%s"}`, m.ID)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		slices.Sort(ids)
		if len(slices.Compact(ids)) != 6 {
			t.Errorf("IDs %q are not all different", ids)
		}
	})
}

func TestFirstErrorOfSeveralPublishesCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		s, p := connectSession(t, ln, newTestAPI(ln))
		done := publishEleven(t, s)
		first, second := p.operation("publish"), p.operation("publish")
		p.operation("publish") // is never answered
		p.say(`{"type":"publish_success","id":"%s"}`, first.ID)
		p.say(`{"type":"publish_error","id":"%s","errors":[{"errorType":"InvalidInputError"}]}`, second.ID)
		if err := <-done; err == nil || !strings.Contains(err.Error(), "InvalidInputError") {
			t.Error(err)
		}
	})
}

func TestCancelledPublishLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		s, p := connectSession(t, ln, newTestAPI(ln))
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("no more use for it")
		done := asyncError(func() error {
			return s.publish(ctx, "/live-lambda/a", asBytes([]string{"1"}), awaited)
		})
		m := p.operation("publish")
		cancel(why)
		if err := <-done; !errors.Is(err, why) {
			t.Error(err)
		}
		p.say(`{"type":"publish_success","id":"%s"}`, m.ID) // too late, and harmless
		synctest.Wait()
		s.mu.Lock()
		if len(s.waits) > 0 {
			t.Errorf("replies are waited for: %v", s.waits)
		}
		s.mu.Unlock()
		if s.ctx.Err() != nil {
			t.Errorf("connection over: %v", context.Cause(s.ctx))
		}
	})
}

// listening is a session with subscriptions, each of which hands on what comes as "NAME EVENT".
type listening struct {
	t    *testing.T
	s    *session
	peer *peer
	got  chan string
	logs *logLines
}

func startListening(t *testing.T) *listening {
	t.Helper()
	ln := newPipeListener("example.com")
	l := &listening{t: t, got: make(chan string, 100), logs: new(logLines)}
	a := newTestAPI(ln)
	a.log = l.logs.logger()
	l.s, l.peer = connectSession(t, ln, a)
	return l
}

// subscribe subscribes to the channel called name, and returns the subscription's ID.
func (l *listening) subscribe(name string) string {
	l.t.Helper()
	channel := "/live-lambda/" + name
	done := asyncError(func() error {
		return l.s.subscribe(l.t.Context(), ackTimeout, channel, func(event string) {
			l.got <- name + " " + event
		})
	})
	m := l.peer.operation("subscribe")
	l.peer.say(`{"type":"subscribe_success","id":"%s"}`, m.ID)
	if err := <-done; err != nil || m.Channel != channel {
		l.t.Fatal(m.Channel, err)
	}
	return m.ID
}

// says has AppSync say a message, and checks what comes of it; if want is empty, nothing must come.
func (l *listening) says(message, want string) {
	l.t.Helper()
	l.peer.say("%s", message)
	if got := strings.Join(receivedMessages(l.got), "|"); got != want {
		l.t.Errorf("%.60s: got %q, want %q", message, got, want)
	}
}

// An event is a string, or an array of one string.
func TestEventReachesItsSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := startListening(t)
		one, two := l.subscribe("one"), l.subscribe("two")
		l.says(`{"type":"data","id":"`+one+`","event":"{\"a\":[1,\"ü\"]}"}`, `one {"a":[1,"ü"]}`)
		l.says(`{"event":"2","id":"`+two+`","type":"data","more":{"a":[]}}`, "two 2")
		l.says(`{"type":"data","id":"`+one+`","event":["[3]"]}`, "one [3]")
		l.says(`{"type":"data","id":"`+one+`","event": [ "4" ] }`, "one 4")
	})
}

func TestMessageThatIsNoEventIsPassedOverWithoutQuotingIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := startListening(t)
		one, two := l.subscribe("one"), l.subscribe("two")
		for _, message := range []string{
			`{"type":"data","id":"` + one + `","event":["4","5"]}`,
			`{"type":"data","id":"` + one + `","event":[]}`,
			`{"type":"data","id":"` + one + `","event":{"marked":1}}`,
			`{"type":"data","id":"` + one + `","event":7}`,
			`{"type":"data","id":"` + one + `","event":["marked",7]}`,
			`{"type":"data","id":"` + one + `"}`,
			`{"type":"data","id":"unknown","event":"marked"}`,
			`{"type":"data","event":"marked"}`,
			`["marked"]`,
			`"marked"`,
			`7 `,
			`null`,
			``,
			`{}`,
			`{"type":"ka"}`,
			`{"type":"frobnicate","id":"` + one + `","event":"marked"}`,
			`{"type":"unsubscribe_success","id":"` + two + `"}`,
			`{"type":"broadcast_error","id":"` + one +
				`","errors":[{"errorType":"MessageProcessingError","message":"first\nmarked"}]}`,
			`{"type":"error","errors":[{"errorType":"UnsupportedOperation","message":"x\nmarked"}]}`,
		} {
			l.says(message, "")
		}
		l.says(`{"type":"data","id":"`+one+`","event":"last"}`, "one last")
		said := l.logs.String()
		if strings.Contains(said, "marked") {
			t.Errorf("an event is in the log:\n%s", said)
		}
		if !strings.Contains(said, "MessageProcessingError") ||
			!strings.Contains(said, "UnsupportedOperation") {
			t.Errorf("AppSync's errors are not in the log:\n%s", said)
		}
		if l.s.ctx.Err() != nil {
			t.Error(context.Cause(l.s.ctx))
		}
	})
}

func TestTwentyPublishesASecondLeaveOnTheWebSocketAndTheRestOverHTTPS(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api, ln := startTestAPI(t, eventAPIOptions{})
		s, err := newTestAPI(ln).connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.conn.close()
		steps := []struct {
			pass      time.Duration // before the publishes
			publishes int
			webSocket int // publishes in all, by now
			https     int
		}{
			{publishes: 20, webSocket: 20},
			{publishes: 1, webSocket: 20, https: 1},
			{pass: time.Second - 1, publishes: 1, webSocket: 20, https: 2},
			{pass: 1, publishes: 15, webSocket: 35, https: 2},
			{pass: 500 * time.Millisecond, publishes: 10, webSocket: 40, https: 7},
			{pass: 500 * time.Millisecond, publishes: 20, webSocket: 55, https: 12},
			{pass: time.Second, publishes: 25, webSocket: 75, https: 17},
		}
		for i, step := range steps {
			time.Sleep(step.pass)
			synctest.Wait() // for the slots of a second ago to be free
			for range step.publishes {
				err := s.publish(t.Context(), "/live-lambda/a", asBytes([]string{`{"a":1}`}), awaited)
				if err != nil {
					t.Fatal(err)
				}
			}
			api.wait(t.Context(), func(c *eventAPICounts) bool {
				if c.publishes[1] != step.webSocket || c.publishes[0] != step.https {
					t.Errorf("step %d: %d over the WebSocket, %d over HTTPS; want %d, %d", i, c.publishes[1],
						c.publishes[0], step.webSocket, step.https)
				}
				return true
			})
		}
		api.wait(t.Context(), func(c *eventAPICounts) bool {
			if c.busiest > publishesPerSecond || c.events["/live-lambda/a"] != 92 || len(c.errors) > 0 {
				t.Errorf("at most %d a second; events %v; errors %v", c.busiest, c.events, c.errors)
			}
			return true
		})
	})
}

func TestPublishOverHTTPSReturnsWhatAppSyncSays(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		answer  string // "-": none, "": the connection is cut off
		want    string // in the error; none: it succeeds
		refused bool
	}{
		{name: "success", answer: `200 {"failed":[],"successful":[{"identifier":"u","index":0}]}`},
		{
			name: "an event failed",
			answer: `200 {"failed":[{"identifier":"u","index":0,"code":"EventTooLargeException",` +
				`"message":"m"}],"successful":[]}`,
			want: `AppSync failed to publish: EventTooLargeException "m"`,
		},
		{
			name: "unauthorized",
			answer: `401 {"errors":[{"errorType":"UnauthorizedException",` +
				`"message":"first\n` + testToken + `"}]}`,
			want:    `AppSync refused to publish: UnauthorizedException "first"; grant`,
			refused: true,
		},
		{
			name:    "forbidden without a word",
			answer:  `403 `,
			want:    `AppSync refused to publish: Forbidden ""; grant`,
			refused: true,
		},
		{
			name:    "HTML",
			answer:  `400 <html>` + testToken,
			want:    `AppSync refused to publish: Bad Request ""; check host, region, clock and key`,
			refused: true,
		},
		{
			name:   "busy",
			answer: `429 {"errors":[{"errorType":"LimitExceededError","message":"m"}]}`,
			want:   `AppSync failed to publish: LimitExceededError "m"`,
		},
		{
			name:   "busy without a word",
			answer: `429 `,
			want:   `AppSync failed to publish: Too Many Requests ""`,
		},
		{name: "broken", answer: `503 no`, want: `AppSync failed to publish: Service Unavailable ""`},
		{name: "redirected", answer: `302 `, want: `AppSync failed to publish: Found ""`},
		{name: "not JSON", answer: `200 <html>`, want: "invalid character"},
		{
			name:   "endless",
			answer: `200 {"x":"` + strings.Repeat("x", 3<<20) + `"}`,
			want:   "unexpected end of JSON input",
		},
		{name: "cut off", want: "EOF"},
		{name: "silence", answer: `-`, want: "context deadline exceeded"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener("example.com")
				body := []byte(`{"channel":"/a/b","events":["1"]}`)
				done := asyncError(func() error {
					return newTestAPI(ln).publishHTTPS(t.Context(), ackTimeout, body)
				})
				p := acceptPeer(t, ln)
				io.ReadAll(p.request.Body)
				switch test.answer {
				case "-":
				case "":
					p.nc.Close()
				default:
					answered := asyncError(func() error { return p.answer(test.answer) })
					defer func() {
						p.nc.Close()
						<-answered
					}()
				}
				err := <-done
				checkError(t, err, test.want)
				if errors.Is(err, errRefused) != test.refused {
					t.Errorf("refused %v, want %v", !test.refused, test.refused)
				}
				if err != nil && strings.Contains(err.Error(), testToken) {
					t.Errorf("told too much: %v", err)
				}
			})
		})
	}
}

// net/http's errors quote what they could not read.
func TestNoLineOfTheLogQuotesWhatCouldNotBeRead(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"marked\r\n\r\n", "HTTP/1.1 marked\r\n\r\n", "HTTP/marked 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nmarked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n marked\r\nmarked {\"a\":1}\r\n\r\n",
	} {
		_, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
		if err == nil {
			t.Errorf("%q can be read", answer)
			continue
		}
		var lines strings.Builder
		for _, json := range []bool{false, true} {
			log := newLogger(config{logJSON: json, logLevel: slog.LevelDebug}, &lines)
			log.Error("a message", "error", fmt.Errorf("transport: %w", err), "reason", err.Error())
			slog.NewLogLogger(log.Handler(), slog.LevelDebug).Printf("reverse proxy: %v", err)
		}
		got := lines.String()
		if strings.Contains(got, "marked") || strings.Count(got, "malformed message") != 6 {
			t.Errorf("%v: logged\n%s", err, got)
		}
	}
}
