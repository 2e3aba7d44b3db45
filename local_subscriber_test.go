//go:build !layer

package main

// local_subscriber_test.go tests the way of a request from AppSync to a handler, and what is said about it.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLocalHandlersAnswersComeBack(t *testing.T) {
	t.Parallel()
	whole := newLocalRig(t, localOptions{code: code{command: testCommand("1")}})
	t.Run("its event, token for token", func(t *testing.T) {
		r := whole.on(t)
		const event = `{"n":12345678901234567890.10,"n":1e400,"s":"\u00e9\ud83d\ude00\udead <script>'&=",` +
			`"o":{},"a":[]}`
		g := r.invoke([]byte(event), r.context())
		g.want(r, "", string(asciiJSON([]byte(event))))
		if g.contentType != "application/json" {
			t.Errorf("the content type is %q", g.contentType)
		}
	})
	t.Run("bytes of another content type", func(t *testing.T) {
		r := whole.on(t)
		g := r.invoke(task{Do: "text", Text: "\x00\xff binary", Type: "image/png"}, r.context())
		if g.contentType != "image/png" {
			t.Errorf("the content type is %q", g.contentType)
		}
	})
	t.Run("an error with its cause", func(t *testing.T) {
		r := whole.on(t)
		const text = `{"errorType":"Oops","errorMessage":"m"}`
		g := r.invoke(task{Do: "error", Text: text, Type: "Function.Oops"}, r.context())
		g.want(r, "Function.Oops", text)
		if g.cause != `{"working_directory":"/x"}` {
			t.Errorf("the cause is %q", g.cause)
		}
	})
	t.Run("an error in trailers", func(t *testing.T) {
		r := whole.on(t)
		const text = `{"errorMessage":"late"}`
		g := r.invoke(task{Do: "trailers", Text: text, Type: "Function.Late"}, r.context())
		g.want(r, "Function.Late", text)
	})
}

// The sizes are those at the bounds of events, publishes, compression and Lambda's own limit.
func TestLocalEventOfAnySizeComesBack(t *testing.T) {
	t.Parallel()
	r := newLocalRig(t, localOptions{code: code{command: testCommand("1")}})
	// It cannot be compressed, and has nothing that JSON would escape.
	random := randomText(maxEvent, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
	for _, size := range []int{
		2, 3, gzipAbove - 1, gzipAbove, gzipAbove + 1, partData, maxEvent - 600, maxEvent, maxEvent + 1,
		maxPayload,
	} {
		event := []byte(`"` + strings.Repeat("0", size-2) + `"`)
		if size <= maxEvent+1 { // the larger ones are compressible: the emulator takes its time
			copy(event[1:size-1], random)
		}
		g := r.invoke(event, r.context())
		if g.errorType != "" || !bytes.Equal(g.body, event) {
			t.Errorf("%d bytes: got %q, %d bytes", size, g.errorType, len(g.body))
		}
	}
	for _, size := range []int{0, 1} {
		r.invoke(task{Do: "size", Size: size}, r.context()).want(r, "", string(make([]byte, size)))
	}
	if n := len(r.local.term.restarts); n != 0 {
		t.Errorf("restarts of %d causes", n)
	}
}

func TestLocalAnswerThatIsTooLargeFailsAndTheProcessGoesOn(t *testing.T) {
	t.Parallel()
	r := newLocalRig(t, localOptions{code: code{command: testCommand("1")}})
	g := r.invoke(task{Do: "size", Size: maxPayload + 1}, r.context())
	g.want(r, "Function.ResponseSizeTooLarge",
		`{"errorMessage":"Response payload size (6291557 bytes) exceeded maximum allowed payload size `+
			`(6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}`)
	r.invoke(task{Do: "pid"}, r.context())
	if n := len(r.local.term.restarts); n != 0 {
		t.Errorf("restarts of %d causes", n)
	}
}

func TestLocalFiftyInvocationsAtOnceGetTheirOwnAnswers(t *testing.T) {
	t.Parallel()
	r := newLocalRig(t, localOptions{code: code{command: testCommand("1")}, maxProcesses: 5})
	var calls []*call
	for i := range 50 {
		calls = append(calls, r.send(task{Do: "text", Text: strconv.Itoa(i)}, r.context()))
	}
	for i, c := range calls {
		r.await(c).want(r, "", strconv.Itoa(i))
		c.finish()
	}
	r.out.waitTimes(r, " ok ", 50)
	if n := strings.Count(r.out.String(), " ok "); n != 50 {
		t.Errorf("%d ran, want 50", n)
	}
}

func TestLocalRepeatedRequestIsAcceptedAgainAndRunsOnce(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		one, two := r.newEar("aaaa"), r.newEar("bbbb")
		c := r.context()
		one.begin(1, c)
		at := r.clock()
		one.ask(1, []byte("1"), c)
		at("0s", one.hear(1, "accepted"))
		two.ask(7, []byte("1"), c)
		at("0s", two.hear(7, "accepted"))
		r.wantRan(1)
	})
}

func TestLocalAnswerGoesWhereTheRequestCameFromLast(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		one, two := r.newEar("aaaa"), r.newEar("bbbb")
		c := r.context()
		id := one.begin(1, c)
		two.ask(7, []byte("1"), c)
		two.hear(7, "accepted")
		at := r.clock()
		r.respond(id, strings.NewReader(`"x"`), 202)
		p := two.hear(7, "response")
		at("0s", p)
		if string(p.data) != `"x"` || p.Sender == "" || !p.Last {
			t.Errorf("answered %q", p.data)
		}
		two.ask(7, []byte("1"), c)
		at("0s", two.hear(7, "response"))
		one.ask(1, []byte("1"), c)
		at("0s", one.hear(1, "response"))
		one.done(1, "answered")
		r.wantRan(1)
	})
}

// Lambda's retry has the same request ID and another deadline.
func TestLocalRetryOfLambdaRuns(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		c := r.context()
		e.answer(1, c, "1")
		e.done(1, "answered")
		c.DeadlineMs++
		p := e.answer(2, c, "retry")
		if string(p.data) != "retry" {
			t.Errorf("answered %q", p.data)
		}
		r.wantRan(2)
	})
}

func TestLocalRequestThatIsOverRunsNoMore(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		one, retry := r.context(), r.context()
		retry.RequestID = one.RequestID
		retry.DeadlineMs++
		e.answer(1, one, "1")
		e.done(1, "answered")
		e.answer(2, retry, "2")
		e.done(2, "answered")
		e.ask(2, []byte("2"), retry)
		e.ask(1, []byte("1"), one)
		e.answer(3, r.context(), "3") // and nothing is heard for the others
		r.wantRan(3)
	})
}

func TestLocalAcceptedIsSaidAtOnceAndEveryFiveSecondsUntilTheAnswer(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		at := r.clock()
		e.ask(1, []byte(`{"a":1}`), r.context())
		at("0s", e.hear(1, "accepted"))
		id, event := r.next()
		if string(event) != `{"a":1}` {
			t.Errorf("the event is %q", event)
		}
		at("500ms", e.hear(1, "accepted"))
		at("5s", e.hear(1, "accepted"))
		at("10s", e.hear(1, "accepted"))
		time.Sleep(time.Second)
		r.respond(id, strings.NewReader("1"), 202)
		at("11s", e.hear(1, "response"))
		at("13s", e.hear(1, "response"))
		at("15s", e.hear(1, "response"))
	})
}

// A request goes out again if the local end that has it may have lost the link.
func TestLocalRequestThatAnotherHasAcceptedIsLeftAlone(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		c := r.context()
		c.AcceptedBy = "another"
		e.ask(1, []byte("1"), c)
		synctest.Wait()
		e.begin(2, r.context())
	})
}

func TestLocalRequestThatThisEndHasAcceptedIsAcceptedAgain(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		c := r.context()
		r.newEar("aaaa").begin(2, c)
		c.AcceptedBy = r.sub.sender
		moved := r.newEar("bbbb")
		moved.ask(2, []byte("2"), c)
		moved.hear(2, "accepted")
	})
}

// The terminal tells what the caller got.
func TestLocalOutcomeEndsTheInvocationAndIsShown(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		for n, tt := range []struct {
			outcome string
			says    string
			status  int // of the runtime's answer after that
		}{
			{outcome: "timeout", says: "timeout", status: 400},
			{outcome: "deployed", says: "the deployed code answers", status: 202},
			{outcome: "answered", says: "another local end has answered", status: 202},
			{outcome: "\x1b[31mnonsense", says: "another local end has answered", status: 202},
		} {
			id := e.begin(n, r.context())
			e.done(n, tt.outcome)
			synctest.Wait()
			if !strings.Contains(r.out.String(), tt.says) {
				t.Errorf("%s: the terminal wrote\n%s", tt.outcome, r.out)
			}
			r.respond(id, strings.NewReader("1"), tt.status)
			r.respond(id, strings.NewReader("1"), 400)
		}
		r.wantNothingHeld()
	})
}

// The extension says so after the deadline, because that is when it answers by itself.
func TestLocalHearsWhetherAnAnswerRightBeforeTheDeadlineCounted(t *testing.T) {
	t.Parallel()
	for outcome, shown := range map[string]bool{"answered": false, "timeout": true} {
		localBubble(t, func(r *localRig) {
			c := r.context()
			c.DeadlineMs = time.Now().Add(3 * time.Second).UnixMilli()
			e := r.newEar("aaaa")
			id := e.begin(9, c)
			time.Sleep(2900 * time.Millisecond)
			r.respond(id, strings.NewReader("1"), 202)
			e.until(9, "response")
			time.Sleep(500 * time.Millisecond)
			e.done(9, outcome)
			time.Sleep(time.Second)
			synctest.Wait()
			if strings.Contains(r.out.String(), "unknown") {
				t.Errorf("what was told is not known:\n%s", r.out)
			}
			if got := strings.Contains(r.out.String(), "the caller got an error"); got != shown {
				t.Errorf("an error is shown: %v, want %v\n%s", got, shown, r.out)
			}
			r.wantNothingHeld()
		})
	}
}

func TestLocalDeadlineEndsTheInvocationAndALateAnswerIsShown(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		c := r.context()
		c.DeadlineMs = time.Now().Add(3 * time.Second).UnixMilli()
		id := r.newEar("aaaa").begin(9, c)
		time.Sleep(4 * time.Second)
		r.respond(id, strings.NewReader("1"), 400)
		synctest.Wait()
		for _, want := range []string{"deadline passed", "answered after 4000 ms"} {
			if !strings.Contains(r.out.String(), want) {
				t.Errorf("no %q in\n%s", want, r.out)
			}
		}
		r.wantNothingHeld()
	})
}

// A connection dies without a word when a laptop sleeps.
func TestLocalDeadConnectionIsReplacedAndTheAnswerIsSaid(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		id := e.begin(1, r.context())
		r.api.do(r.connection(), apiVerdict{after: goHalfOpen})
		synctest.Wait()
		r.respond(id, strings.NewReader("1"), 202)
		// The publish that is not answered tells that the connection is dead.
		r.out.waitTimes(r, "waiting for invocations", 2)
		e.until(1, "response")
	})
}

func TestLocalDeadConnectionIsReplacedThoughThereIsNothingToSay(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		r.api.do(r.connection(), apiVerdict{after: goHalfOpen})
		time.Sleep(90 * time.Second)
		e.ask(2, []byte("2"), r.context())
		e.until(2, "accepted")
	})
}

func TestLocalConnectionThatResetsIsReplacedAndAcceptedIsSaidAgain(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		id := e.begin(2, r.context())
		r.api.do(r.connection(), apiVerdict{after: resetConnection}) // while the handler works
		e.hear(2, "accepted")
		r.respond(id, strings.NewReader("2"), 202)
		e.hear(2, "response")
	})
}

// wantDropped wants that none of the messages reaches a handler or the terminal, and that the next request is
// served.
func wantDropped(t *testing.T, messages ...string) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		for _, m := range messages {
			r.sub.receive(m)
		}
		e.begin(5, r.context())
		if strings.ContainsAny(r.out.String(), "\x1b\r") {
			t.Errorf("the terminal got control characters: %q", r.out)
		}
	})
}

// requestText is a request message of a request ID, an event and a context, all as JSON.
func requestText(id, event, context string) string {
	return `{"request_id":` + id + `,"event_payload":` + event + `,"context":` + context + `,"live_lambda":1}`
}

// validContext is the context of an invocation, changed by change if that is not nil.
func validContext(change func(*eventContext)) string {
	c := eventContext{
		RequestID:    "00000000-0000-4000-8000-000000000099",
		FunctionName: "orders",
		DeadlineMs:   time.Now().AddDate(1000, 0, 0).UnixMilli(),
	}
	if change != nil {
		change(&c)
	}
	return string(mustJSON(c))
}

func TestLocalMessagesThatAreNoRequestsAreDropped(t *testing.T) {
	t.Parallel()
	context := validContext(nil)
	wantDropped(t,
		`7`, `null`, `"text"`, `[]`, `{}`, `{"live_lambda":1}`, `{"live_lambda":2,"request_id":"aaaa/1"}`,
		`{"request_id":"aaaa/1","event_payload":1,"context":`+context+`}`,
		requestText(`"aaaa"`, "1", "7"),
		requestText("7", "1", context),
		requestText(`"aaaa/1"`, strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000), context),
		`{"live_lambda":1,"type":"done","request_id":"cccc/1","outcome":"answered"}`,
		`{"live_lambda":1,"type":"response","request_id":"aaaa/1","index":0,"last":true,"data":"e30"}`,
		`{"live_lambda":1,"type":"accepted","request_id":"aaaa/1","index":0,"last":true}`,
	)
}

func TestLocalRequestsWithoutAValidChannelAreDropped(t *testing.T) {
	t.Parallel()
	context := validContext(nil)
	wantDropped(t,
		requestText(`"../x/1"`, "1", context),
		requestText(`"a b/1"`, "1", context),
		requestText(`""`, "1", context),
		requestText(`"aaaa/1/2/3/4"`, "1", context),
		requestText(`"aaaa/\n1"`, "1", context),
	)
}

func TestLocalRequestsWhoseContextIsNotValidAreDropped(t *testing.T) {
	t.Parallel()
	contexts := []string{"{}", `{"environment":{"a":1}}`}
	for _, change := range []func(*eventContext){
		func(c *eventContext) { c.FunctionName = "a\nb" },
		func(c *eventContext) { c.RequestID = "\x1b[2J" },
		func(c *eventContext) { c.TraceID = "a\r\nX-Evil: 1" },
		func(c *eventContext) { c.RequestID = "" },
		func(c *eventContext) { c.Handler = strings.Repeat("x", 5000) },
		func(c *eventContext) { c.DeadlineMs = 0 },
		func(c *eventContext) { c.DeadlineMs = math.MaxInt64 },
		func(c *eventContext) { c.ClientContext = []byte(`"` + strings.Repeat("x", 70_000) + `"`) },
	} {
		contexts = append(contexts, validContext(change))
	}
	var messages []string
	for _, context := range contexts {
		messages = append(messages, requestText(`"aaaa/1"`, "1", context))
	}
	wantDropped(t, messages...)
}

func TestLocalRequestAfterItsDeadlineIsLeftAlone(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		c := r.context()
		c.DeadlineMs = time.Now().Add(-time.Second).UnixMilli()
		e.ask(1, []byte("1"), c)
		e.begin(5, r.context())
		const want = "what else comes after its deadline, here by 1000 ms; is this machine's clock right?"
		r.out.wait(r, want) // the terminal writes in its own time
	})
}

func TestLocalPartsThatDoNotFitTogetherAreDropped(t *testing.T) {
	t.Parallel()
	const one = `{"live_lambda":1,"type":"request","request_id":"aaaa/1",`
	wantDropped(t,
		string(part{Type: "request", RequestID: "aaaa/1", Index: 5, Last: true}.encode([]byte("x"))),
		string(part{Type: "request", RequestID: "aaaa/1", Index: 7, Last: true}.encode([]byte("x"))),
		string(part{Type: "request", RequestID: "aaaa/1"}.event()),
		string(part{Type: "request", RequestID: "aaaa/2", Encoding: "gzip"}.event()),
		one+`"index":-1,"last":true,"data":"e30"}`,
		one+`"index":0,"last":true,"data":"!"}`,
		one+`"index":9999999999,"last":true}`,
	)
}

// What is gzipped is small and becomes more than a request may have.
func TestLocalGzippedBombIsDropped(t *testing.T) {
	t.Parallel()
	bomb, encoding := compress(make([]byte, 2*maxPayload))
	var messages []string
	for event := range (part{Type: "request", RequestID: "aaaa/1", Encoding: encoding}).split(bomb) {
		messages = append(messages, string(event))
	}
	wantDropped(t, messages...)
}

// There are 100,000 of them. A request that does become whole is served all the same.
func TestLocalFewRequestsThatNeverBecomeWholeAreKept(t *testing.T) {
	t.Parallel()
	localBubbleOver(t, false, func(r *localRig) {
		e := r.newEar("aaaa")
		for i := range 100_000 {
			r.sub.receive(
				string(part{Type: "request", RequestID: fmt.Sprintf("dddd/%d", i)}.encode(make([]byte, 10))))
		}
		synctest.Wait()
		size := 0
		for _, o := range r.sub.open {
			size += o.size
		}
		if n := len(r.sub.open); n > maxOpen || size > maxOpenBytes {
			t.Errorf("%d requests in parts are kept, %d bytes", n, size)
		}
		e.begin(5, r.context())
	})
}

// The quick way must not read anything else.
func TestParseRequestReadsAsEncodingJSONDoes(t *testing.T) {
	t.Parallel()
	for _, message := range []string{
		`{"request_id":"a/1","event_payload":{"a":[1.0,"\ud800"]},"context":{"request_id":"r"},` +
			`"live_lambda":1}`,
		`{"request_id":"a/1","event_payload": 7 ,"context":{"client_context":{"a":1,"context":{"b":2}}},` +
			`"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":{"a":1,"context":{"request_id":"inner"}},` +
			`"context":{"request_id":"r"},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":"x,\"context\":{","context":{"request_id":"r"},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":{"a":1,"event_payload":2},"context":{},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":1,"context":{"request_id":"r"},"event_payload":2,` +
			`"live_lambda":1}`,
		`{"context":{"request_id":"r"},"live_lambda":1,"event_payload":1,"request_id":"a/1"}`,
		`{"event_payload":1,"request_id":"a/1","context":{"request_id":"r"},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":{"a":1,"context":{"request_id":"r"},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":1,"context":{"request_id":7},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":1,2,"context":{"request_id":"r"},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":,"context":{},"live_lambda":1}`,
		`{"request_id":"a/1"}`, `[1,"event_payload":2,"context":{}]`, ``,
	} {
		var want extensionRequest
		wantErr := json.Unmarshal([]byte(message), &want)
		got, err := parseRequest([]byte(message))
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%s: %v, want %v", message, err, wantErr)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %s, want %s", message, mustJSON(got), mustJSON(want))
		}
	}
}

// The event is the largest one. A large context stands beside it, and some parts come twice.
func TestLocalRequestInPartsComesTogetherInAnyOrder(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		c := r.context()
		c.Environment = map[string]string{"BIG": strings.Repeat("x", 4096)}
		event := randomText(maxPayload, "0123456789abcdef")
		event[0] = '"'
		event[len(event)-1] = '"'
		body, encoding := compress([]byte(requestText(`"aaaa/1"`, string(event), string(mustJSON(c)))))
		parts := slices.Collect(part{Type: "request", RequestID: "aaaa/1", Encoding: encoding}.split(body))
		parts = append(parts, parts[:3]...)
		for _, i := range rand.Perm(len(parts)) {
			r.sub.receive(string(parts[i]))
		}
		e.hear(1, "accepted")
		_, got := r.next()
		if !bytes.Equal(got, event) {
			t.Errorf("the event has %d bytes", len(got))
		}
	})
}
