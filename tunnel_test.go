//go:build !layer

package main

// tunnel_test.go tests tunnel.go: its link, and calls up to their answer. Time is synctest's.

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// AppSync may confirm a subscription before it delivers.
func TestLinkIsReadyWhenAProbeHasComeBack(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		opts        eventAPIOptions
		ready       time.Duration
		least, most int // probes
	}{
		{opts: eventAPIOptions{}, least: 1, most: 1},
		{
			opts:  eventAPIOptions{activation: 2 * time.Second},
			ready: 2 * time.Second,
			least: 8,
			most:  10,
		},
		{
			opts:  eventAPIOptions{activation: 200 * time.Millisecond, documentedData: true},
			ready: 250 * time.Millisecond,
			least: 2,
			most:  2,
		},
		{
			opts:  eventAPIOptions{delay: 25 * time.Millisecond},
			ready: 150 * time.Millisecond,
			least: 1,
			most:  1,
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			c := startTunnel(t, test.opts, nil)
			l := c.mustBeReady()
			took := time.Since(start)
			synctest.Wait()
			if took < test.ready || took > test.ready+probeEvery {
				t.Errorf("%+v: ready after %v, want %v", test.opts, took, test.ready)
			}
			c.api.wait(t.Context(), func(n *eventAPICounts) bool {
				got := n.events["/live-lambda/response/"+l.name+"/probe"]
				if got < test.least || got > test.most || n.connections != 1 {
					t.Errorf("%+v: %d probes on %d connections, want %d to %d", test.opts, got, n.connections,
						test.least, test.most)
				}
				return true
			})
			said := c.logs.String()
			if strings.Count(said, "msg=connected source=live-lambda host=example.com") != 1 {
				t.Errorf("log:\n%s", said)
			}
		})
	}
}

func TestSubscriptionThatNeverDeliversIsTriedAgainOnAnotherConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, func(f apiFrame) apiVerdict {
			if f.typ == "data" && f.conn == 1 {
				return apiVerdict{replace: dropped}
			}
			return apiVerdict{}
		})
		if _, err := c.ready(5 * time.Second); err == nil || err.Error() != "still connecting" {
			t.Error(err)
		}
		if _, err := c.ready(time.Minute); err != nil {
			t.Error(err)
		}
		const want = `msg="not connected" source=live-lambda host=example.com error="the subscription does ` +
			`not deliver"`
		if said := c.logs.String(); !strings.Contains(said, want) {
			t.Errorf("log:\n%s", said)
		}
	})
}

// Whatever comes first, AppSync's answer to the publish or the event.
func TestLinkWithALongRoundTripBecomesReady(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{
		50 * time.Millisecond, 130 * time.Millisecond, 300 * time.Millisecond,
	} {
		for _, late := range []time.Duration{0, 20 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				var c *tunnelTest
				started := make(chan struct{})
				c = startTunnel(t, eventAPIOptions{delay: delay}, func(f apiFrame) apiVerdict {
					if f.typ != "data" || late == 0 {
						return apiVerdict{}
					}
					time.AfterFunc(late, func() {
						<-started
						c.api.do(f.conn, apiVerdict{replace: [][]byte{f.raw}})
					})
					return apiVerdict{replace: dropped}
				})
				close(started)
				start := time.Now()
				c.mustBeReady()
				took, most := time.Since(start), 8*delay+late+2*probeEvery
				if took > most {
					t.Errorf("round trip %v, events %v later: ready after %v, at most %v", 2*delay, late,
						took, most)
				}
			})
		}
	}
}

// What was meant for the connection before reaches nobody.
func TestEachConnectionHasANameOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		names := map[string]bool{}
		for n := range 3 {
			name := c.mustBeReady().name
			if names[name] || len(name) != 32 || strings.Trim(name, "0123456789abcdef") != "" {
				t.Errorf("name %q after %v", name, names)
			}
			names[name] = true
			if _, err := c.api.subscribers(t.Context(), "/live-lambda/response/"+name+"/*", 1); err != nil {
				t.Error(err)
			}
			c.api.do(n+1, apiVerdict{after: resetConnection})
			synctest.Wait()
		}
		const want = `level=WARN msg="not connected" source=live-lambda host=example.com error="the ` +
			`connection ended: EOF"`
		if got := strings.Count(c.logs.String(), want); got != 3 {
			t.Errorf("log:\n%s", c.logs)
		}
	})
}

// After more than 90 s by the wall clock without a frame, this end was frozen.
func TestLinkThatWasFrozenIsReplacedBeforeItsNextUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{keepAlive: time.Hour, timeout: time.Hour}, nil)
		first := c.mustBeReady()
		time.Sleep(staleAfter - time.Second)
		early := c.send(`1`)
		if c.link() != first {
			t.Errorf("after %v: another link", staleAfter)
		}
		early.finish()
		time.Sleep(staleAfter + time.Millisecond)
		out := c.send(`2`)
		defer out.finish()
		c.tunnel.Lock()
		if c.tunnel.link == first {
			t.Error("the stale link is used")
		}
		c.tunnel.Unlock()
		if l, err := c.ready(time.Second); err != nil || l == first {
			t.Errorf("no new link at once: %v", err)
		}
		if said := c.logs.String(); strings.Contains(said, "WARN") {
			t.Errorf("log:\n%s", said)
		}
	})
}

// AppSync ends a connection after 24 hours.
func TestLinkIsReplacedBeforeAppSyncEndsItWhenNoInvocationIsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		first := c.mustBeReady()
		time.Sleep(retireAfter - time.Second)
		out := c.send(`{}`)
		time.Sleep(time.Minute)
		other := c.send(`{}`)
		if c.link() != first {
			t.Error("retired too early, or while an invocation was out")
		}
		other.finish()
		out.finish()
		c.send(`{}`).finish()
		if l, err := c.ready(time.Second); err != nil || l == first {
			t.Errorf("not retired: %v", err)
		}
		second := c.link()
		time.Sleep(retireAfter + 31*time.Minute) // not used for all that time
		if l := c.link(); l == second {
			t.Error("not retired before AppSync would end it")
		}
		if said := c.logs.String(); strings.Contains(said, "WARN") {
			t.Errorf("log:\n%s", said)
		}
	})
}

// Nor does ready wait for the next try.
func TestRefusedConnectionIsTriedEveryTenSecondsAndToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{apiKey: "other", delay: 10 * time.Millisecond}, nil)
		start := time.Now()
		for time.Since(start) < 34*time.Second {
			time.Sleep(time.Second)
			_, err := c.ready(time.Minute)
			if !errors.Is(err, errRefused) ||
				!strings.Contains(err.Error(), "does not know these credentials") {
				t.Fatal(err)
			}
		}
		c.api.wait(t.Context(), func(n *eventAPICounts) bool {
			if n.connections > 4 || n.connections < 3 {
				t.Errorf("%d connections in 34 s", n.connections)
			}
			return true
		})
		if said := c.logs.String(); strings.Count(said, "not connected") != 1 {
			t.Errorf("log:\n%s", said)
		}
		c.api.accept("", testCredentials)
		time.Sleep(refusedPause + maxBackoff)
		if _, err := c.ready(0); err != nil {
			t.Error(err)
		}
	})
}

// The namespace's permissions count as well as the API's.
func TestLinkThatMayNotSubscribeOrPublishSaysWhatToGrant(t *testing.T) {
	t.Parallel()
	for action, typ := range map[string]string{
		"appsync:EventSubscribe": "subscribe",
		"appsync:EventPublish":   "publish",
	} {
		synctest.Test(t, func(t *testing.T) {
			c := startTunnel(t, eventAPIOptions{}, func(f apiFrame) apiVerdict {
				if f.typ != typ+"_success" {
					return apiVerdict{}
				}
				refusal := fmt.Appendf(nil,
					`{"type":"%s_error","id":"%s","errors":[{"errorType":"UnauthorizedException",`+
						`"message":"m"}]}`, typ, f.id)
				return apiVerdict{replace: [][]byte{refusal}}
			})
			time.Sleep(25 * time.Second)
			_, err := c.ready(time.Minute)
			checkError(t, err, "grant "+action+
				" on arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID/channelNamespace/live-lambda")
			if !errors.Is(err, errRefused) {
				t.Errorf("%s: %v is no refusal", action, err)
			}
			c.api.wait(t.Context(), func(n *eventAPICounts) bool {
				if n.connections != 3 {
					t.Errorf("%s: %d connections in 25 s", action, n.connections)
				}
				return true
			})
		})
	}
}

func TestRequestHasEventContextAndItsID(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`{"key":"<v>"}`)
		req := c.request()
		if string(req.EventPayload) != `{"key":"\u003cv\u003e"}` ||
			string(req.Context) != `{"request_id":"aws"}` || req.RequestID != c.link().name+"/1" ||
			req.LiveLambda != 1 {
			t.Errorf("request %+v", req)
		}
		out.finish()
	})
}

func TestCallIsSentThenAcceptedThenAnswered(t *testing.T) {
	t.Parallel()
	streaming := map[string]string{
		"Lambda-Runtime-Function-Response-Mode": "streaming",
		"Content-Type":                          "text/html",
	}
	large := bytes.Repeat([]byte(`{"a":"b"}`), 60_000)
	tests := []struct {
		name     string
		answer   part
		body     []byte
		buffered bool // Lambda does not take streams
		want     received
	}{
		{
			name:   "response",
			answer: part{Type: "response", Headers: map[string]string{"Content-Type": "text/plain"}},
			body:   []byte("\x00\xff"),
			want:   received{contentType: "text/plain", body: "\x00\xff"},
		},
		{
			name:   "empty response",
			answer: part{Type: "response"},
			want:   received{},
		},
		{
			name:   "large response",
			answer: part{Type: "response"},
			body:   large,
			want:   received{body: string(large)},
		},
		{
			name:   "error",
			answer: part{Type: "error", ErrorType: "Error", XRayCause: "{}"},
			body:   []byte(`{"errorType":"Error"}`),
			want:   received{errorType: "Error", xrayCause: "{}", body: `{"errorType":"Error"}`},
		},
		{
			name:   "error without a type",
			answer: part{Type: "error"},
			body:   []byte(`{}`),
			want:   received{body: "{}"},
		},
		{
			name:     "stream, collected",
			answer:   part{Type: "response", Headers: streaming},
			body:     []byte("<p>"),
			buffered: true,
			want:     received{contentType: "text/html", body: "<p>"},
		},
		{
			name: "stream that broke, collected",
			answer: part{
				Type:    "response",
				Last:    true,
				Headers: streaming,
				Trailers: map[string]string{
					"Lambda-Runtime-Function-Error-Type": "E",
					"Lambda-Runtime-Function-Error-Body": "e30=",
				},
			},
			body:     []byte("<p>"),
			buffered: true,
			want:     received{errorType: "E", body: "{}"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startTunnel(t, eventAPIOptions{}, nil)
				c.tunnel.buffered = test.buffered
				out := c.send(`{"key":"<v>"}`)
				id := c.request().RequestID
				synctest.Wait()
				if accepted, a, err := c.look(out); accepted || a != nil || err != nil {
					t.Errorf("before: accepted %v, %v, %v", accepted, a, err)
				}
				time.Sleep(time.Second)
				c.local(part{Type: "accepted", RequestID: id}, nil)
				synctest.Wait()
				if accepted, a, _ := c.look(out); !accepted || a != nil {
					t.Errorf("accepted %v, %v", accepted, a)
				}
				answer := test.answer
				answer.RequestID = id
				body, encoding := compress(test.body)
				answer.Encoding = encoding
				c.local(answer, body)
				if got := c.await(out); !reflect.DeepEqual(got, test.want) {
					t.Errorf("got %+v\nwant %+v", got, test.want)
				}
				out.finish()
				done := c.done()
				if done.RequestID != id || done.Outcome != "answered" || !done.Last {
					t.Errorf("done: %+v", done)
				}
				if len(c.tunnel.calls) != 0 {
					t.Errorf("%d calls left", len(c.tunnel.calls))
				}
			})
		})
	}
}

func TestNobodyIsToldOfTheEndOfACallThatNobodyAccepted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		c.request()
		time.Sleep(time.Minute)
		out.finish()
		synctest.Wait()
		if len(c.events) != 0 {
			t.Errorf("published %s", <-c.events)
		}
	})
}

// requestOf is what a call with this event publishes on a link, all of it checked to be plain.
func (c *tunnelTest) requestOf(l *link, event string) (events [][]byte, inParts bool) {
	c.t.Helper()
	out := &call{t: c.tunnel, n: 1, event: []byte(event), context: []byte(`{}`)}
	all, inParts := out.request(l)
	for event := range all {
		checkPlain(c.t, event)
		events = append(events, event)
	}
	return events, inParts
}

// wantRequest is the request for an event, as requestOf has to publish it in one event or in parts.
func wantRequest(l *link, event string) string {
	return `{"request_id":"` + l.name + `/1","event_payload":` + event + `,"context":{},"live_lambda":1}`
}

// requestOverhead is what an event that fits has beside its payload, as it is escaped.
func (c *tunnelTest) requestOverhead(l *link) int {
	c.t.Helper()
	events, _ := c.requestOf(l, `""`)
	return escapedLen(events[0])
}

func TestRequestThatFitsInOneEventGoesAsItIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		l := c.mustBeReady()
		room := maxEvent - c.requestOverhead(l)
		for _, event := range []string{
			`""`,
			strings.Repeat(" ", 100_000) + "{}",
			`"` + strings.Repeat("x", room-1) + `"`,
			`"` + strings.Repeat("x", room) + `"`,
			`"` + strings.Repeat("<", room/7) + `"`,
		} {
			events, inParts := c.requestOf(l, event)
			want := string(asciiJSON([]byte(wantRequest(l, event))))
			if len(events) != 1 || string(events[0]) != want || escapedLen(events[0]) > maxEvent || inParts {
				t.Errorf("event of %d bytes: %d messages", len(event), len(events))
			}
		}
	})
}

func TestRequestThatDoesNotFitInOneEventGoesInParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		l := c.mustBeReady()
		room := maxEvent - c.requestOverhead(l)
		noise := make([]byte, 1<<20)
		rand.NewChaCha8([32]byte{4}).Read(noise)
		for _, test := range []struct {
			event string
			least int // parts
		}{
			{event: `"` + strings.Repeat("x", room+1) + `"`, least: 1},
			{event: `"` + strings.Repeat("<", room/7+1) + `"`, least: 1},
			{event: `"` + strings.Repeat("x", maxEvent-3) + `"`, least: 1},
			{event: `"` + strings.Repeat("x", maxEvent-2) + `"`, least: 1},
			{event: `"` + strings.Repeat("x", maxEvent-1) + `"`, least: 1},
			{event: `"` + base64.StdEncoding.EncodeToString(noise) + `"`, least: 7},
		} {
			events, inParts := c.requestOf(l, test.event)
			var parts []*part
			for _, event := range events {
				parts = append(parts, checkPart(t, event))
			}
			got, first := joinParts(t, parts)
			if string(got) != wantRequest(l, test.event) || first.Type != "request" ||
				first.RequestID != l.name+"/1" || !inParts || len(parts) < test.least {
				t.Errorf("event of %d bytes: %d bytes in %d parts, %s", len(test.event), len(got),
					len(parts), first.Type)
			}
		}
	})
}

func TestLocalEndThatAcceptsInTheLastInstantHasAccepted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		c.mustBeReady()
		out := c.tunnel.send(t.Context(), &call{
			channel: requestsChannel, event: []byte(`1`), context: []byte(`{}`),
			accept: time.Second, offline: linkTimeout,
		})
		id := c.request().RequestID
		waited := async(out.wait)
		synctest.Wait()
		c.tunnel.Lock()
		time.Sleep(time.Second) // the timer has fired, and needs the lock
		err := out.take(out.link, &part{Type: "accepted", RequestID: id, Last: true})
		c.tunnel.Unlock()
		time.Sleep(time.Second)
		if err != nil || out.ctx.Err() != nil {
			t.Errorf("%v, ended with %v", err, context.Cause(out.ctx))
		}
		c.local(part{Type: "response", RequestID: id}, []byte("2"))
		if r := <-waited; r.err != nil || readAll(r.value.body) != "2" {
			t.Errorf("got %v, %v", r.value, r.err)
		}
		out.finish()
	})
}

// nestedArrays is JSON of so many levels.
func nestedArrays(levels int) string {
	return strings.Repeat("[", levels) + strings.Repeat("]", levels)
}

func TestMessageThatIsNestedTooDeepIsDroppedWithALine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`{}`)
		id := c.request().RequestID
		synctest.Wait() // the link is there before the log says so
		answer := func(field string) string {
			return `{"live_lambda":1,"type":"response","request_id":"` + id + `","index":0,"last":true,` +
				field + `}`
		}
		for _, event := range []string{
			nestedArrays(20_000),
			`{"live_lambda":` + nestedArrays(20_000) + `}`,
			answer(`"x":` + nestedArrays(20_000)),
			answer(`"headers":` + nestedArrays(9_000)),
			answer(`"data":` + nestedArrays(9_000)),
			answer(`"index":` + strings.Repeat(`{"a":`, 9_000) + "1" + strings.Repeat("}", 9_000)),
		} {
			before := strings.Count(c.logs.String(), "\n")
			c.api.publish("/live-lambda/response/"+id, event)
			synctest.Wait()
			if _, a, err := c.look(out); a != nil || err != nil {
				t.Fatalf("%.80s: %+v, %v", event, a, err)
			}
			said := strings.Split(c.logs.String(), "\n")[before:]
			if len(said) != 2 || !strings.Contains(said[0], "dropped") || len(said[0]) > 300 {
				t.Errorf("%.80s: said %q, want one line", event, said)
			}
		}
		c.local(part{Type: "response", RequestID: id}, []byte("fine"))
		if got := c.await(out); got.body != "fine" {
			t.Errorf("the answer is %s", got.body)
		}
		out.finish()
	})
}

// An answer's own bytes are none of this program's business.
func TestAnswerMayBeNestedHoweverDeep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`{}`)
		deep := nestedArrays(1_000_000)
		c.local(part{Type: "response", RequestID: c.request().RequestID}, []byte(deep))
		if got := c.await(out); got.body != deep {
			t.Errorf("the answer has %d bytes, want %d", len(got.body), len(deep))
		}
		out.finish()
	})
}

// Every 2 s, and only if that cannot make a handler run twice.
func TestRequestThatNobodyAcceptsGoesOutAgain(t *testing.T) {
	t.Parallel()
	large := `"` + strings.Repeat("x", maxEvent) + `"`
	for _, test := range []struct {
		name, event string
		versioned   bool // a local end of version 1 has answered before
		want        int  // messages in 9 s
	}{
		{name: "unknown local end", event: `1`, want: 1},
		{name: "local end of version 1", event: `1`, versioned: true, want: 5},
		{name: "in parts", event: large, want: 5},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := startTunnel(t, eventAPIOptions{}, nil)
			if test.versioned {
				c.answerOne()
			}
			out := c.send(test.event)
			time.Sleep(9 * time.Second)
			if got := len(c.events); got != test.want {
				t.Errorf("%s: %d messages in 9 s, want %d", test.name, got, test.want)
			}
			for range len(c.events) - 1 {
				<-c.events
			}
			p, err := parsePart(<-c.events)
			id := c.link().name + fmt.Sprintf("/%d", out.n)
			if test.name == "in parts" && (err != nil || p.RequestID != id || p.Type != "request") {
				t.Errorf("%s: %+v, %v", test.name, p, err)
			}
			c.local(part{Type: "accepted", RequestID: id}, nil)
			time.Sleep(9 * time.Second)
			if got := len(c.events); got != 0 {
				t.Errorf("%s: %d messages after it was accepted", test.name, got)
			}
			out.finish()
		})
	}
}

func TestRequestGoesOutAgainUnderANewLinksName(t *testing.T) {
	t.Parallel()
	for _, accepted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := startTunnel(t, eventAPIOptions{}, nil)
			out := c.send(`1`)
			old := c.request().RequestID
			if accepted {
				c.local(part{Type: "accepted", RequestID: old}, nil)
				synctest.Wait()
			}
			c.api.do(1, apiVerdict{after: resetConnection})
			again := c.request()
			if again.RequestID == old || again.RequestID != c.link().name+"/1" ||
				string(again.EventPayload) != "1" {
				t.Errorf("accepted %v: %s, then %+v", accepted, old, again)
			}
			c.local(part{Type: "response", RequestID: old}, []byte("old")) // nobody listens there any more
			c.local(part{Type: "response", RequestID: again.RequestID}, []byte("new"))
			if a := c.await(out); a.body != "new" {
				t.Errorf("accepted %v: got %s", accepted, a.body)
			}
			out.finish()
			if done := c.done(); done.RequestID != again.RequestID {
				t.Errorf("done: %+v", done)
			}
		})
	}
}

// acceptedCall sends a call that a local end accepts, on a link without keep-alives, and returns both when
// everything has been answered.
func acceptedCall(t *testing.T) (*tunnelTest, *call, *link) {
	t.Helper()
	c := startTunnel(t, eventAPIOptions{keepAlive: time.Hour, timeout: time.Hour}, nil)
	out := c.send(`1`)
	c.local(part{Type: "accepted", RequestID: c.request().RequestID}, nil)
	synctest.Wait()
	synctest.Wait() // the publish has been answered
	return c, out, c.link()
}

// wantUpUntilProbed waits until a probe of a link that is quiet from now on has all but failed. The link must
// be up all that time.
func (c *tunnelTest) wantUpUntilProbed(first *link) {
	c.t.Helper()
	time.Sleep(quietTimeout + publishTimeout - time.Millisecond)
	if c.link() != first || first.ctx.Err() != nil {
		c.t.Error("given up too early")
	}
}

func TestQuietLinkIsProbedWhileAnInvocationIsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, out, first := acceptedCall(t)
		c.wantUpUntilProbed(first)
		time.Sleep(time.Second)
		if first.ctx.Err() != nil {
			t.Errorf("given up: %v", context.Cause(first.ctx))
		}
		c.api.wait(t.Context(), func(n *eventAPICounts) bool {
			probes := n.events["/live-lambda/response/"+first.name+"/probe"]
			if probes != 2 || n.connections != 1 {
				t.Errorf("%d probes on %d connections", probes, n.connections)
			}
			return true
		})
		out.finish()
	})
}

func TestQuietLinkWhoseProbeDoesNotComeBackIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, out, first := acceptedCall(t)
		c.api.do(1, apiVerdict{after: goHalfOpen})
		c.wantUpUntilProbed(first)
		time.Sleep(time.Second)
		if first.ctx.Err() == nil {
			t.Error("not given up")
		}
		c.request() // again, on the new connection
		out.finish()
	})
}

// startTunnelNotTaking runs a tunnel to an AppSync that answers so to requests: to the first publish of one,
// or to all of them. asked counts these.
func startTunnelNotTaking(t *testing.T, answer string, always bool) (c *tunnelTest, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	c = startTunnel(t, eventAPIOptions{}, func(f apiFrame) apiVerdict {
		if !f.out && f.channel == "/live-lambda/requests" && (always || asked.Load() == 0) {
			asked.Add(1)
			// The emulator does not know this type. Its own answer becomes the test's below.
			return apiVerdict{replace: [][]byte{[]byte(`{"type":"ask","id":"` + f.id + `"}`)}}
		}
		if f.typ == "error" && strings.Contains(string(f.raw), "UnsupportedOperation") {
			return apiVerdict{replace: [][]byte{[]byte(`{"id":"` + f.id + `",` + answer + `}`)}}
		}
		return apiVerdict{}
	})
	return c, asked
}

func TestRequestThatAppSyncDoesNotTakeForNowIsPublishedAgain(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		`"type":"publish_error","errors":[{"errorType":"LimitExceededError","message":"m"}]`,
		`"type":"publish_error","errors":[{"errorType":"MessageProcessingError"}]`,
		`"type":"error","errors":[]`,
	} {
		synctest.Test(t, func(t *testing.T) {
			c, _ := startTunnelNotTaking(t, answer, false)
			start := time.Now()
			out := c.send(`1`)
			c.request()
			if took := time.Since(start); took < retryPublish || took > retryPublish+10*time.Millisecond {
				t.Errorf("%s: again after %v, want %v", answer, took, retryPublish)
			}
			out.finish()
		})
	}
}

// What a person must mend is told at once. What may pass is told when the time for it is over.
func TestRequestThatAppSyncNeverTakesIsAnError(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ answer, want string }{
		{
			answer: `"type":"publish_error","errors":[{"errorType":"UnauthorizedException","message":"m"}]`,
			want:   "AppSync refused to publish: UnauthorizedException",
		},
		{
			answer: `"type":"publish_error","errors":[{"errorType":"InvalidInputError","message":"m"}]`,
			want:   `InvalidInputError "m"`,
		},
		{
			answer: `"type":"publish_success","failed":[{"index":0,"code":"EventTooLargeException"}]`,
			want:   "EventTooLargeException",
		},
		{
			answer: `"type":"publish_error","errors":[{"errorType":"MessageProcessingError",` +
				`"message":"again"}]`,
			want: `MessageProcessingError "again"`,
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, asked := startTunnelNotTaking(t, test.answer, true)
			start := time.Now()
			out := c.send(`1`)
			_, err := out.wait()
			checkError(t, err, test.want)
			took := time.Since(start)
			if errors.Is(err, errRefused) != (took == 0) || took > linkTimeout+time.Second {
				t.Errorf("%s: told after %v, %d tries", test.answer, took, asked.Load())
			}
			tries := asked.Load()
			time.Sleep(time.Minute)
			if asked.Load() > tries+1 || len(c.events) > 0 {
				t.Errorf("%s: tried again", test.answer)
			}
			out.finish()
		})
	}
}

func TestFirstOfTwoLocalEndsThatBeginsAnAnswerGivesItWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id := c.request().RequestID
		body := bytes.Repeat([]byte("a"), partData+1)
		other := bytes.Repeat([]byte("b"), partData+1)
		var one, two []string
		for event := range (part{Type: "response", RequestID: id, Sender: "one"}).split(body) {
			one = append(one, string(event))
		}
		theirs := part{Type: "error", RequestID: id, Sender: "two", Encoding: "gzip"}
		for event := range theirs.split(other) {
			two = append(two, string(event))
		}
		accepted := string(part{Type: "accepted", RequestID: id, Sender: "two"}.event())
		for _, event := range []string{accepted, one[1], two[0], two[1], one[1], one[0]} {
			c.api.publish("/live-lambda/response/"+id, event)
		}
		if a := c.await(out); a.body != string(body) || a.errorType != "" {
			t.Errorf("got %d bytes, %s", len(a.body), a.errorType)
		}
		out.finish()
	})
}

func TestAnswersMayComeInterleavedAndOutOfOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		type published struct{ channel, event string }
		var out []*call
		var events []published
		var bodies [][]byte
		for n := range 4 {
			out = append(out, c.send(fmt.Sprint(n)))
			id := c.request().RequestID
			bodies = append(bodies, bytes.Repeat([]byte{byte('a' + n)}, (n+1)*partData))
			for event := range (part{Type: "response", RequestID: id}).split(bodies[n]) {
				events = append(events, published{"/live-lambda/response/" + id, string(event)})
			}
		}
		r := rand.New(rand.NewPCG(5, 5))
		r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		for _, e := range events {
			c.api.publish(e.channel, e.event)
		}
		for n, o := range out {
			if a := c.await(o); a.body != string(bodies[n]) {
				t.Errorf("call %d: %d bytes", n, len(a.body))
			}
			o.finish()
		}
	})
}

// The link may be new by then.
func TestLocalEndHearsOfACallsEndByTheIDThatItKnows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id, first := c.request().RequestID, c.link()
		c.local(part{Type: "response", RequestID: id}, []byte("2"))
		c.await(out)
		first.drop(errors.New("the link is cut"))
		synctest.Wait()
		if l, err := c.ready(time.Minute); err != nil || l == first {
			t.Fatalf("no new link: %v", err)
		}
		out.finish()
		if done := c.done(); done.RequestID != id || done.Outcome != "answered" {
			t.Errorf("done: %+v, want it for %s", done, id)
		}
	})
}

// Anybody may publish on the namespace.
func TestHostileMessagesDoNoHarmAndAreQuotedInNoLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id := c.request().RequestID
		names := strings.NewReplacer("ID", id, "NAME", c.link().name)
		for _, hostile := range []string{
			`{"live_lambda":1,"type":"response","request_id":"ID","index":"marked"}`,
			`{"live_lambda":1,"type":"response","request_id":"ID","index":1048576}`,
			`{"live_lambda":1,"type":"response","request_id":"ID","data":"marked!"}`,
			`{"live_lambda":1,"type":"response","request_id":"ID","encoding":"marked"}`,
			`{"live_lambda":1,"type":"request","request_id":"ID","last":true}`,
			`{"live_lambda":1,"type":"done","request_id":"ID","last":true}`,
			`{"live_lambda":1,"type":"probe","request_id":"ID/1"}`,
			`{"live_lambda":1,"type":"probe","request_id":"other/probe"}`,
			`{"live_lambda":1,"type":"\u001b[31m\nlevel=ERROR","request_id":"ID"}`,
			`{"live_lambda":1,"type":"response","request_id":"NAME/2","last":true}`,
			`{"live_lambda":1,"type":"response","request_id":"NAME/1/2","last":true}`,
			`{"live_lambda":1,"type":"response","request_id":"NAME/-1","last":true}`,
			`{"live_lambda":1,"type":"response","request_id":"NAME/18446744073709551616","last":true}`,
			`{"live_lambda":1,"type":"response","request_id":"NAME","last":true}`,
			`{"live_lambda":1,"type":"response","request_id":"marked/1","last":true}`,
			`{"live_lambda":1,"type":"response","request_id":"/","last":true}`,
			`{"live_lambda":1,"last":true}`,
			`{"live_lambda":1`, `{"marked`, ``,
		} {
			c.api.publish("/live-lambda/response/"+id, names.Replace(hostile))
			synctest.Wait()
			if _, a, err := c.look(out); a != nil || err != nil {
				t.Fatalf("%s: got %+v, %v", hostile, a, err)
			}
		}
		said := c.logs.String()
		if strings.Contains(said, "marked") || strings.Contains(said, "level=ERROR") ||
			strings.Contains(said, "\x1b") {
			t.Errorf("log:\n%s", said)
		}
		c.local(part{Type: "response", RequestID: id}, []byte("fine"))
		if a := c.await(out); a.body != "fine" {
			t.Errorf("got %s", a.body)
		}
		out.finish()
	})
}

func TestStrayPartOfAnotherLocalEndDoesNotKeepAWholeAnswerFromCounting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id := c.request().RequestID
		c.local(part{Type: "accepted", RequestID: id, Sender: "good"}, nil)
		c.api.publish(
			"/live-lambda/response/"+id,
			string(part{Type: "response", RequestID: id, Index: 5, Sender: "gone"}.encode([]byte("x"))))
		synctest.Wait()
		c.local(part{Type: "response", RequestID: id, Sender: "good"}, []byte("answer"))
		synctest.Wait()
		if _, a, _ := c.look(out); a == nil {
			t.Error("the whole answer does not count after a stray part")
		}
		out.finish()
	})
}

func TestCallThatIsOverWhenItBeginsIsNotWritten(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*link) *call{
		"a copy while those before are on their way": func(l *link) *call {
			l.unacked.Store(maxPublish + 1)
			return &call{copied: true}
		},
		"an event right after a miss": func(l *link) *call {
			l.t.audience("").miss()
			return &call{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			api := newTestAPI(nil)
			api.apiKey = "key"
			s := newSession(api)
			s.conn = &wsConn{ctx: ctx, fail: cancel, out: make(chan outgoing)}
			s.ctx, s.drop = ctx, cancel
			s.slots = make(chan struct{}, 1000)
			l := &link{session: s, t: newTunnel(api, "function", false)}
			l.t.set(l, nil)
			var wg sync.WaitGroup
			defer wg.Wait()
			defer close(s.conn.out)
			wg.Go(func() {
				for next := range s.conn.out {
					t.Errorf("written: %s", next.message)
				}
			})
			for range 100 { // with both at hand, a select takes either
				c := begin(l)
				c.event, c.context = []byte(`{}`), []byte(`{}`)
				l.t.send(t.Context(), c)
				if _, err := c.wait(); err == nil {
					t.Error("the call is not over")
				}
				c.wg.Wait() // for what would publish it
				c.finish()
			}
		})
	}
}
