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
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"
)

func TestPublishesGroup(t *testing.T) {
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

func TestPublishesStop(t *testing.T) {
	for range newTestAPI(nil).publishes("/a/b", asBytes(slices.Repeat([]string{"1"}, 11))) {
		break // a publish that fails asks for no more
	}
}

func TestPublishesSize(t *testing.T) {
	const channel = "/live-lambda/a"
	// Five events: four of 228,000 bytes as they are escaped, and one that brings them and what precedes it
	// to total bytes.
	five := func(total int) []string {
		before := len(`{"channel":"","events":[`) + len(channel) + 4*228_000 + len(`,,,,`)
		return append(slices.Repeat([]string{eventOf(228_000)}, 4), eventOf(total-before))
	}
	tests := []struct {
		name   string
		events []string
		want   []int
	}{
		{name: "limit-1", events: five(maxPublish - 1), want: []int{5}},
		{name: "limit", events: five(maxPublish), want: []int{5}},
		{name: "limit+1", events: five(maxPublish + 1), want: []int{4, 1}},
		{name: "five of the largest events", events: slices.Repeat([]string{eventOf(maxEvent)}, 6),
			want: []int{4, 2}},
		{name: "quotes count twice",
			events: slices.Repeat([]string{`"` + strings.Repeat(`\"`, 57_499) + `x"`}, 6),
			want:   []int{4, 2}},
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

// The whole message stays below AppSync's limit, with the longest session token and channel too.
func TestPublishFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		a := newTestAPI(ln)
		a.credentials = func(context.Context) (credentials, error) {
			return credentials{
				accessKeyID: "AKIDEXAMPLE", secretAccessKey: "secret",
				sessionToken: strings.Repeat("t", 4096)}, nil
		}
		s, p := connectSession(t, ln, a)
		channel := "/live-lambda" + strings.Repeat("/"+strings.Repeat("c", 50), 4)
		events := slices.Repeat([]string{eventOf((maxPublish - 300) / 5)}, 5)
		done := async(func() (bool, error) {
			return true, s.publish(t.Context(), channel, asBytes(events), true)
		})
		_, frame := p.read()
		if len(frame) > 1_150_000 || len(frame) < maxPublish-300 {
			t.Errorf("a frame of %d bytes", len(frame))
		}
		var m clientMessage
		if err := json.Unmarshal([]byte(frame), &m); err != nil || len(m.Events) != 5 ||
			m.Channel != channel {
			t.Errorf("%d events to %q, %v", len(m.Events), m.Channel, err)
		}
		p.say(`{"type":"publish_success","id":"%s"}`, m.ID)
		if r := <-done; r.err != nil {
			t.Error(r.err)
		}
	})
}

// eventOf is an event of size bytes as it is escaped in a publish.
func eventOf(size int) string { return `"` + strings.Repeat("x", size-6) + `"` }

func publishBody(t *testing.T, body []byte, channel string) []string {
	t.Helper()
	var m struct {
		Channel string
		Events  []string
	}
	if err := json.Unmarshal(body, &m); err != nil || m.Channel != channel {
		t.Fatalf("%d bytes for %q: %v", len(body), m.Channel, err)
	}
	// compact, nothing else in it
	if want, _ := json.Marshal(map[string]any{"channel": channel, "events": m.Events}); !bytes.Equal(
		body, want) {
		t.Fatalf("a body of %d bytes, want %d", len(body), len(want))
	}
	return m.Events
}

func TestConnect(t *testing.T) {
	const foreign = `{"type":"connection_error","errors":[{"errorType":"%s","message":"%s"}]}`
	tests := []struct {
		name string
		says []string // after connection_init; the last is followed by silence
		then string   // "close", "cut": what the server does then
		err  string
		no   bool // AppSync lets this end not in: nothing to try again soon
	}{
		{name: "ack", says: []string{`{"type":"connection_ack","connectionTimeoutMs":300000}`}},
		{name: "ack behind others",
			says: []string{
				`{"type":"ka"}`, `{"type":"frobnicate","id":"x"}`, `{"type":"data","id":"1","event":"1"}`,
				`{"type":"connection_ack"}`}},
		{name: "not JSON", says: []string{`not JSON`}, err: "invalid character"},
		{name: "unauthorized",
			says: []string{
				fmt.Sprintf(foreign, "UnauthorizedException", "You are not authorized to make this call.")},
			no: true,
			err: `AppSync refused to connect: UnauthorizedException "You are not authorized to make this ` +
				`call."; grant appsync:EventConnect on arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID, and ` +
				`check host, region, clock and key`},
		{name: "unauthorized, and closed",
			says: []string{fmt.Sprintf(foreign, "UnauthorizedException", "no")}, then: "close", no: true,
			err: "AppSync refused to connect: UnauthorizedException"},
		{name: "unauthorized, and cut off",
			says: []string{fmt.Sprintf(foreign, "UnauthorizedException", "no")}, then: "cut", no: true,
			err: "AppSync refused to connect: UnauthorizedException"},
		{name: "with an id",
			says: []string{
				`{"type":"connection_error","id":"7","errors":[{"errorType":"UnauthorizedException"}]}`},
			no: true, err: "AppSync refused to connect"},
		{name: "wrong signature",
			says: []string{
				fmt.Sprintf(
					foreign, "BadRequestException",
					`The request signature does not match.\nThe Canonical String should have `+
						`been\nx-amz-security-token:`+testToken)}, no: true,
			err: `BadRequestException "The request signature does not match."`},
		{name: "a long line",
			says: []string{fmt.Sprintf(foreign, "BadRequestException", strings.Repeat("m", 300)+testToken)},
			no:   true, err: `"` + strings.Repeat("m", 160) + `"`},
		{name: "no errors", says: []string{`{"type":"connection_error"}`},
			err: `AppSync failed to connect: no error type ""`},
		{name: "busy",
			says: []string{
				`{"type":"error","errors":[{"errorType":"LimitExceededError","message":"Rate limit ` +
					`exceeded"}]}`},
			err: `AppSync failed to connect: LimitExceededError "Rate limit exceeded"`},
		{name: "closed", then: "close", err: "the connection ended: EOF"},
		{name: "cut off", then: "cut", err: "the connection ended: EOF"},
		{name: "silence", err: "15s"},
		{name: "keep-alives alone", says: slices.Repeat([]string{`{"type":"ka"}`}, 10),
			err: "no connection_ack within 15s"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln, logs := newPipeListener("example.com"), new(logLines)
				a := newTestAPI(ln)
				a.log = logs.logger()
				done := async(func() (*session, error) { return a.connect(t.Context()) })
				p := acceptPeer(t, ln)
				p.upgrade("aws-appsync-event-ws")
				p.operation("connection_init")
				synctest.Wait()
				for _, m := range test.says {
					p.say("%s", m)
					if len(test.says) == 10 {
						time.Sleep(time.Second)
					}
				}
				switch test.then {
				case "close":
					// the client may have gone
					p.nc.Write(webSocketFrame(true, websocket.CloseFrame, []byte("\x03\xe9going away")))
				case "cut":
					p.nc.Close()
				}
				ended := async(func() (bool, error) { p.drain(); return true, nil })
				r := <-done
				if test.err == "" {
					if r.err != nil || (r.value.ctx.Err() != nil) {
						t.Fatalf("error %v", r.err)
					}
					r.value.conn.close()
				} else if r.err == nil || !strings.Contains(r.err.Error(), test.err) ||
					errors.Is(r.err, errRefused) != test.no {
					t.Errorf("error %v, refused %v; want %s, %v", r.err, errors.Is(r.err, errRefused),
						test.err, test.no)
				}
				if said := fmt.Sprint(r.err, logs); strings.Contains(said, testToken) ||
					strings.Contains(fmt.Sprint(r.err), "\n") {
					t.Errorf("told too much: %s", said)
				}
				<-ended // this end has left
			})
		})
	}
}

// Without a frame for so long that this end must have slept a session is of no more use; after
// connectionTimeoutMs the connection is dead.
func TestSessionKeepAlive(t *testing.T) {
	for ack, want := range map[string]time.Duration{
		`{"type":"connection_ack","connectionTimeoutMs":300000}`: 5 * time.Minute,
		`{"type":"connection_ack","connectionTimeoutMs":120000}`: 2 * time.Minute,
		`{"type":"connection_ack"}`:                              5 * time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener("example.com")
			s, p := connectSessionWith(t, ln, newTestAPI(ln), ack)
			for range 5 { // keep-alives keep it up
				time.Sleep(want - time.Second)
				p.say(`{"type":"ka"}`)
			}
			start := time.Now()
			time.Sleep(staleAfter)
			if s.spent() {
				t.Errorf("%s: spent after %v", ack, staleAfter)
			}
			if time.Sleep(time.Millisecond); !s.spent() {
				t.Errorf("%s: not spent after more than %v", ack, staleAfter)
			}
			if <-s.ctx.Done(); time.Since(start) != want ||
				context.Cause(s.ctx).Error() != "nothing received for "+want.String() {
				t.Errorf("%s: after %v: %v", ack, time.Since(start), context.Cause(s.ctx))
			}
		})
	}
}

func TestConnectFails(t *testing.T) {
	tests := []struct {
		answer, err string
		no          bool
	}{
		{answer: "401 Unauthorized\r\n\r\n{\"message\":\"no\"}",
			err: `AppSync refused to connect: the server refuses the WebSocket: 401 Unauthorized ` +
				`"{\"message\":\"no\"}"; grant appsync:EventConnect`, no: true},
		{answer: "403 Forbidden\r\n\r\n<html>",
			err: `AppSync refused to connect: the server refuses the WebSocket: 403 Forbidden "<html>"; ` +
				`grant`,
			no: true},
		{answer: "401 Unauthorized\r\n\r\nno\nno",
			err: `AppSync refused to connect: the server refuses the WebSocket: 401 Unauthorized "no"; grant`,
			no:  true},
		{answer: "403 Forbidden\r\n\r\n" + strings.Repeat("x", 4000),
			err: `the server refuses the WebSocket: 403 Forbidden "` + strings.Repeat("x", 160) + `"; grant`,
			no:  true},
		{answer: "599 x\r\n\r\n",
			err: `AppSync failed to connect: the server refuses the WebSocket: 599  ""`},
		{answer: "302 Found\r\nLocation: http://other/\r\n\r\n",
			err: `AppSync failed to connect: the server refuses the WebSocket: 302 Found ""`},
		{answer: "101 Switching Protocols\r\n\r\n",
			err: `AppSync failed to connect: the server refuses the WebSocket: 101 Switching Protocols ""`},
		{answer: "400 Bad Request\r\n\r\n",
			err: `AppSync refused to connect: the server refuses the WebSocket: 400 Bad Request`, no: true},
		{answer: "404 Not Found\r\n\r\n",
			err: `AppSync failed to connect: the server refuses the WebSocket: 404 Not Found`},
		{answer: "429 Too Many Requests\r\n\r\n",
			err: `the server refuses the WebSocket: 429 Too Many Requests`},
		{answer: "503 Service Unavailable\r\n\r\nbusy",
			err: `the server refuses the WebSocket: 503 Service Unavailable "busy"`},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener("example.com")
			done := async(func() (*session, error) { return newTestAPI(ln).connect(t.Context()) })
			p := acceptPeer(t, ln)
			p.write("HTTP/1.1 " + strings.Replace(test.answer, "\r\n", "\r\nConnection: close\r\n", 1))
			p.nc.Close()
			if r := <-done; r.err == nil || !strings.Contains(r.err.Error(), test.err) ||
				errors.Is(r.err, errRefused) != test.no {
				t.Errorf("error %v, refused %v; want %s, %v", r.err, errors.Is(r.err, errRefused), test.err,
					test.no)
			}
		})
	}
	a := newTestAPI(nil)
	a.credentials = func(context.Context) (credentials, error) { return credentials{}, errors.New("none") }
	if _, err := a.connect(t.Context()); err == nil || err.Error() != "read AWS credentials: none" {
		t.Errorf("no credentials: %v", err)
	}
}

// The answers to a subscribe and to a publish.
func TestSessionOperations(t *testing.T) {
	const success = `{"type":"KIND_success","id":"ID"}`
	tests := []struct {
		name, kind string
		says       []string
		then, err  string
		no, over   bool // refused; the connection is over
	}{
		{name: "success", kind: "subscribe", says: []string{success}},
		{name: "success behind others", kind: "subscribe",
			says: []string{`{"type":"ka"}`, `{"type":"subscribe_success","id":"other"}`,
				`{"type":"data","id":"ID","event":"1"}`,
				`{"type":"broadcast_error","id":"ID","errors":[{"errorType":"MessageProcessingError",` +
					`"message":"m"}]}`, `{"type":"frobnicate"}`, success}},
		{name: "refused", kind: "subscribe",
			says: []string{
				`{"type":"subscribe_error","id":"ID","errors":[{"errorType":"UnauthorizedException",` +
					`"message":"no\n` + testToken + `"}]}`}, no: true,
			err: `AppSync refused to subscribe: UnauthorizedException "no"; grant appsync:EventSubscribe ` +
				`on arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID/channelNamespace/live-lambda, and`},
		{name: "too many", kind: "subscribe",
			says: []string{
				`{"type":"subscribe_error","id":"ID","errors":[{"errorType":"MaxSubscriptionsReachedError",` +
					`"message":"m"}]}`},
			err: `AppSync failed to subscribe: MaxSubscriptionsReachedError "m"`},
		{name: "no answer", kind: "subscribe", over: true, err: "no subscribe_success within 15s"},
		{name: "closed", kind: "subscribe", then: "close", over: true, err: "the connection ended: EOF"},

		{name: "success", kind: "publish",
			says: []string{
				`{"type":"publish_success","id":"ID",` +
					`"successful":[{"identifier":"u","index":0}],"failed":[]}`}},
		{name: "success twice", kind: "publish", says: []string{success, success}},
		{name: "refused", kind: "publish",
			says: []string{
				`{"type":"publish_error","id":"ID","errors":[{"errorType":"UnauthorizedException",` +
					`"message":"no"}]}`}, no: true,
			err: `AppSync refused to publish: UnauthorizedException "no"; grant appsync:EventPublish on ` +
				`arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID/channelNamespace/live-lambda, and`},
		{name: "busy", kind: "publish",
			says: []string{
				`{"type":"publish_error","id":"ID","errors":[{"errorType":"LimitExceededError",` +
					`"message":"Rate limit exceeded"}]}`},
			err: `AppSync failed to publish: LimitExceededError "Rate limit exceeded"`},
		{name: "malformed", kind: "publish",
			says: []string{
				`{"type":"error","id":"ID","errors":[{"errorType":"UnsupportedOperation","message":"m"}]}`},
			err: "UnsupportedOperation"},
		{name: "an event failed", kind: "publish",
			says: []string{
				`{"type":"publish_success","id":"ID","successful":[],"failed":[{"identifier":"u","index":0,` +
					`"code":"EventTooLargeException","message":"too large\n` + testToken + `"}]}`},
			err: `AppSync failed to publish: EventTooLargeException "too large"`},
		{name: "no answer", kind: "publish", over: true, err: "no publish_success within 2"},
		{name: "another's answer", kind: "publish",
			says: []string{
				`{"type":"publish_success","id":"999"}`, `{"type":"publish_success"}`,
				`{"type":"publish_success","id":7}`}, over: true, err: "no publish_success within 2"},
		{name: "cut off", kind: "publish", then: "cut", over: true, err: "the connection ended: EOF"},
	}
	for _, test := range tests {
		t.Run(test.kind+" "+test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln, logs := newPipeListener("example.com"), new(logLines)
				a := newTestAPI(ln)
				a.log = logs.logger()
				s, p := connectSession(t, ln, a)
				done := async(func() (bool, error) {
					if test.kind == "subscribe" {
						return true, s.subscribe(t.Context(), ackTimeout, "/live-lambda/a", func(string) {})
					}
					return true, s.publish(t.Context(), "/live-lambda/a", asBytes([]string{`"event"`}), true)
				})
				m := p.operation(test.kind)
				for _, says := range test.says {
					p.say("%s", strings.NewReplacer("KIND", test.kind, "ID", m.ID).Replace(says))
				}
				switch test.then {
				case "close":
					p.frame(true, websocket.CloseFrame, "\x03\xe9")
				case "cut":
					p.nc.Close()
				}
				r := <-done
				if (r.err == nil) != (test.err == "") ||
					r.err != nil && !strings.Contains(r.err.Error(), test.err) ||
					errors.Is(r.err, errRefused) != test.no {
					t.Errorf("error %v, refused %v; want %q, %v", r.err, errors.Is(r.err, errRefused),
						test.err, test.no)
				}
				synctest.Wait()
				if (s.ctx.Err() != nil) != test.over {
					t.Errorf("connection over: %v, want %v", (s.ctx.Err() != nil), test.over)
				}
				if said := fmt.Sprint(r.err, logs); strings.Contains(said, testToken) {
					t.Errorf("told too much: %s", said)
				}
			})
		})
	}
}

// Five groups go out before the first is answered; answers may come in any order, and the first error counts.
func TestPublishPipelined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		s, p := connectSession(t, ln, newTestAPI(ln))
		publish := func() chan asyncResult[bool] {
			return async(func() (bool, error) {
				return true,
					s.publish(t.Context(), "/live-lambda/a", asBytes(slices.Repeat([]string{"1"}, 11)), true)
			})
		}
		done := publish()
		ids := []string{p.operation("publish").ID, p.operation("publish").ID, p.operation("publish").ID}
		for _, id := range []string{ids[2], ids[0], ids[1]} {
			p.say(`{"type":"publish_success","id":"%s"}`, id)
		}
		if r := <-done; r.err != nil {
			t.Error(r.err)
		}
		done = publish()
		ids = append(ids, p.operation("publish").ID, p.operation("publish").ID, p.operation("publish").ID)
		p.say(`{"type":"publish_success","id":"%s"}`, ids[3])
		p.say(`{"type":"publish_error","id":"%s","errors":[{"errorType":"InvalidInputError"}]}`, ids[4])
		if r := <-done; r.err == nil || !strings.Contains(r.err.Error(), "InvalidInputError") {
			t.Error(r.err)
		}
		slices.Sort(ids)
		if len(slices.Compact(ids)) != 6 {
			t.Errorf("IDs %q are not all different", ids)
		}
	})
}

func TestSessionCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		s, p := connectSession(t, ln, newTestAPI(ln))
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("no more use for it")
		done := async(func() (bool, error) {
			return true, s.publish(ctx, "/live-lambda/a", asBytes([]string{"1"}), true)
		})
		m := p.operation("publish")
		cancel(why)
		if r := <-done; !errors.Is(r.err, why) {
			t.Error(r.err)
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

func TestSessionData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, logs := newPipeListener("example.com"), new(logLines)
		a := newTestAPI(ln)
		a.log = logs.logger()
		s, p := connectSession(t, ln, a)
		got := make(chan string, 100)
		subscribe := func(name string) string {
			done := async(func() (bool, error) {
				return true, s.subscribe(t.Context(), ackTimeout, "/live-lambda/"+name, func(event string) {
					got <- name + " " + event
				})
			})
			m := p.operation("subscribe")
			p.say(`{"type":"subscribe_success","id":"%s"}`, m.ID)
			if r := <-done; r.err != nil || m.Channel != "/live-lambda/"+name {
				t.Fatal(m.Channel, r.err)
			}
			return m.ID
		}
		one, two := subscribe("one"), subscribe("two")
		tests := []struct{ say, want string }{
			{say: `{"type":"data","id":"` + one + `","event":"{\"a\":[1,\"ü\"]}"}`,
				want: `one {"a":[1,"ü"]}`},
			{say: `{"event":"2","id":"` + two + `","type":"data","more":{"a":[]}}`, want: "two 2"},
			{say: `{"type":"data","id":"` + one + `","event":["[3]"]}`, want: "one [3]"},
			{say: `{"type":"data","id":"` + one + `","event": [ "4" ] }`, want: "one 4"},
			{say: `{"type":"data","id":"` + one + `","event":["4","5"]}`},
			{say: `{"type":"data","id":"` + one + `","event":[]}`},
			{say: `{"type":"data","id":"` + one + `","event":{"marked":1}}`},
			{say: `{"type":"data","id":"` + one + `","event":7}`},
			{say: `{"type":"data","id":"` + one + `","event":["marked",7]}`},
			{say: `{"type":"data","id":"` + one + `"}`},
			{say: `{"type":"data","id":"unknown","event":"marked"}`},
			{say: `{"type":"data","event":"marked"}`},
			{say: `["marked"]`}, {say: `"marked"`}, {say: `7 `}, {say: `null`}, {say: ``, want: ""},
			{say: `{}`},
			{say: `{"type":"ka"}`}, {say: `{"type":"frobnicate","id":"` + one + `","event":"marked"}`},
			{say: `{"type":"unsubscribe_success","id":"` + two + `"}`},
			{say: `{"type":"broadcast_error","id":"` + one +
				`","errors":[{"errorType":"MessageProcessingError","message":"first\nmarked"}]}`},
			{say: `{"type":"error","errors":[{"errorType":"UnsupportedOperation","message":"x\nmarked"}]}`},
			{say: `{"type":"data","id":"` + one + `","event":"last"}`, want: "one last"},
		}
		for _, test := range tests {
			p.say("%s", test.say)
			synctest.Wait()
			var all []string
			for len(got) > 0 {
				all = append(all, <-got)
			}
			if said := strings.Join(all, "|"); said != test.want {
				t.Errorf("%.60s: got %q, want %q", test.say, said, test.want)
			}
		}
		if said := logs.String(); strings.Contains(said, "marked") ||
			!strings.Contains(said, "MessageProcessingError") ||
			!strings.Contains(said, "UnsupportedOperation") {
			t.Errorf("log:\n%s", said)
		}
		if s.ctx.Err() != nil {
			t.Error(context.Cause(s.ctx))
		}
	})
}

// Twenty publishes a second leave on the WebSocket; what is over goes out over HTTPS, signed.
func TestPublishRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, ln := startTestAPI(t, eventAPIOptions{})
		s, err := newTestAPI(ln).connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.conn.close()
		published := func() (webSocket, https int) {
			api.wait(t.Context(), func(c *eventAPICounts) bool {
				webSocket, https = c.publishes[1], c.publishes[0]
				return true
			})
			return
		}
		publish := func(n int) {
			for range n {
				if err := s.publish(
					t.Context(), "/live-lambda/a", asBytes([]string{`{"a":1}`}), true); err != nil {
					t.Fatal(err)
				}
			}
		}
		steps := []struct {
			pass             time.Duration
			publishes        int
			webSocket, https int
		}{{publishes: 20, webSocket: 20}, {publishes: 1, webSocket: 20, https: 1},
			{pass: time.Second - 1, publishes: 1, webSocket: 20, https: 2},
			{pass: 1, publishes: 15, webSocket: 35, https: 2},
			{pass: 500 * time.Millisecond, publishes: 10, webSocket: 40, https: 7},
			{pass: 500 * time.Millisecond, publishes: 20, webSocket: 55, https: 12},
			{pass: time.Second, publishes: 25, webSocket: 75, https: 17}}
		for i, step := range steps {
			time.Sleep(step.pass)
			synctest.Wait() // for the slots of a second ago to be free
			publish(step.publishes)
			if webSocket, https := published(); webSocket != step.webSocket || https != step.https {
				t.Errorf("step %d: %d over the WebSocket, %d over HTTPS; want %d, %d", i, webSocket, https,
					step.webSocket, step.https)
			}
		}
		api.wait(t.Context(), func(c *eventAPICounts) bool {
			if c.busiest > publishesPerSecond || c.events["/live-lambda/a"] != 92 || len(c.errors) > 0 {
				t.Errorf("at most %d a second; events %v; errors %v", c.busiest, c.events, c.errors)
			}
			return true
		})
	})
}

func TestPublishHTTPSAnswers(t *testing.T) {
	tests := []struct {
		name, answer, err string
		no                bool
	}{
		{name: "success", answer: `200 {"failed":[],"successful":[{"identifier":"u","index":0}]}`},
		{name: "an event failed",
			answer: `200 {"failed":[{"identifier":"u","index":0,"code":"EventTooLargeException",` +
				`"message":"m"}],` +
				`"successful":[]}`, err: `AppSync failed to publish: EventTooLargeException "m"`},
		{name: "unauthorized",
			answer: `401 {"errors":[{"errorType":"UnauthorizedException","message":"first\n` + testToken +
				`"}]}`,
			err: `AppSync refused to publish: UnauthorizedException "first"; grant`, no: true},
		{name: "forbidden without a word", answer: `403 `,
			err: `AppSync refused to publish: Forbidden ""; grant`, no: true},
		{name: "HTML", answer: `400 <html>` + testToken,
			err: `AppSync refused to publish: Bad Request ""; grant`, no: true},
		{name: "busy", answer: `429 {"errors":[{"errorType":"LimitExceededError","message":"m"}]}`,
			err: `AppSync failed to publish: LimitExceededError "m"`},
		{name: "busy without a word", answer: `429 `, err: `AppSync failed to publish: Too Many Requests ""`},
		{name: "broken", answer: `503 no`, err: `AppSync failed to publish: Service Unavailable ""`},
		{name: "redirected", answer: `302 `, err: `AppSync failed to publish: Found ""`},
		{name: "not JSON", answer: `200 <html>`, err: "invalid character"},
		{name: "endless", answer: `200 {"x":"` + strings.Repeat("x", 3<<20) + `"}`,
			err: "unexpected end of JSON input"},
		{name: "cut off", err: "EOF"},
		{name: "silence", answer: `-`, err: "context deadline exceeded"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener("example.com")
				done := async(func() (bool, error) {
					return true,
						newTestAPI(ln).publishHTTPS(
							t.Context(), ackTimeout, []byte(`{"channel":"/a/b","events":["1"]}`))
				})
				p := acceptPeer(t, ln)
				io.ReadAll(p.request.Body)
				if test.answer != "" && test.answer != "-" {
					status, body := splitAnswer(test.answer)
					answer := async(func() (int, error) {
						return fmt.Fprintf(
							p.nc, "HTTP/1.1 %d %s\r\nLocation: /x\r\nConnection: close\r\nContent-Length: "+
								"%d\r\n\r\n%s", status, http.StatusText(status), len(body), body)
					})
					defer func() { p.nc.Close(); <-answer }()
				} else if test.answer == "" {
					p.nc.Close()
				}
				r := <-done
				if (r.err == nil) != (test.err == "") || r.err != nil &&
					!strings.Contains(r.err.Error(), test.err) || errors.Is(r.err, errRefused) != test.no {
					t.Errorf("error %v, refused %v; want %q, %v", r.err,
						errors.Is(r.err, errRefused), test.err, test.no)
				}
				if r.err != nil &&
					(strings.Contains(r.err.Error(), testToken) || strings.Contains(r.err.Error(), "\n")) {
					t.Errorf("told too much: %v", r.err)
				}
			})
		})
	}
}

// net/http's errors quote what they could not read; no line of the log does.
func TestLogQuotesNothing(t *testing.T) {
	for _, answer := range []string{
		"marked\r\n\r\n", "HTTP/1.1 marked\r\n\r\n", "HTTP/marked 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nmarked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n marked\r\nmarked {\"a\":1}\r\n\r\n"} {
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
		if got := lines.String(); strings.Contains(got, "marked") ||
			strings.Count(got, "malformed message") != 6 {
			t.Errorf("%v: logged\n%s", err, got)
		}
	}
}

// A minute without a frame, right after connection_ack, ends nothing.
func TestSessionQuietAfterAck(t *testing.T) {
	for _, ack := range []string{
		`{"type":"connection_ack","connectionTimeoutMs":300000}`,
		`{"type":"connection_ack","connectionTimeoutMs":-5}`} {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener("example.com")
			done := async(func() (*session, error) { return newTestAPI(ln).connect(t.Context()) })
			p := acceptPeer(t, ln)
			p.upgrade("aws-appsync-event-ws")
			p.operation("connection_init")
			p.say("%s", ack)
			r := <-done
			if r.err != nil {
				t.Fatal(r.err)
			}
			defer r.value.conn.close()
			time.Sleep(time.Minute)
			if r.value.ctx.Err() != nil {
				t.Errorf("%s: %v", ack, context.Cause(r.value.ctx))
			}
		})
	}
}

// Dials that fail are further and further apart, with full jitter, and those that AppSync refuses 10 s at
// least.
func TestDialsBackOff(t *testing.T) {
	for _, refused := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			logs := new(logLines)
			a := newTestAPI(nil)
			a.log = logs.logger()
			var at []time.Time
			ctx, cancel := context.WithCancel(t.Context())
			a.credentials = func(context.Context) (credentials, error) {
				if at = append(at, time.Now()); len(at) == 100 {
					cancel()
				}
				if refused {
					return credentials{}, fmt.Errorf("%w to connect", errRefused)
				}
				return credentials{}, errors.New("connection refused")
			}
			a.run(ctx, func(*session) (bool, error) { return false, nil }, func(error) {})
			if time.Since(at[99]) != 0 {
				t.Error("run waits after the end")
			}
			low, high, bound := 0, 0, firstBackoff
			for i := range 99 {
				pause := at[i+1].Sub(at[i])
				if refused {
					pause -= refusedPause
				}
				switch {
				case pause < 0 || pause >= bound:
					t.Errorf("refused %v, pause %d: %v, at most %v", refused, i, pause, bound)
				case pause < bound/4:
					low++
				case pause > bound*3/4:
					high++
				}
				bound = min(2*bound, maxBackoff)
			}
			if low == 0 || high == 0 { // each misses with a probability of 1 in 10^12
				t.Errorf("%d pauses in the first quarter, %d in the last", low, high)
			}
			if n := strings.Count(logs.String(), "level=WARN"); n != 1 {
				t.Errorf("told %d times, want once:\n%s", n, logs)
			}
		})
	}
}
