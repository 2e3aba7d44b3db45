//go:build !layer

package main

// local_subscriber_test.go tests the way of a request from AppSync to a handler and of its reply back.

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLocalAnswers(t *testing.T) {
	r := newLocalRig(t, localOptions{command: testCommand("1")})
	const event = `{"n":12345678901234567890.10,"n":1e400,"s":"\u00e9\ud83d\ude00\udead <script>'&=","o":{}` +
		`,"a":[]}`
	g := r.invoke([]byte(event), r.context())
	g.want(r, "", string(asciiJSON([]byte(event))))
	if g.contentType != "application/json" {
		t.Errorf("the content type is %q", g.contentType)
	}
	g = r.invoke(task{Do: "text", Text: "\x00\xff binary", Type: "image/png"}, r.context())
	if g.contentType != "image/png" {
		t.Errorf("the content type is %q", g.contentType)
	}
	g = r.invoke(
		task{Do: "error", Text: `{"errorType":"Oops","errorMessage":"m"}`, Type: "Function.Oops"},
		r.context())
	g.want(r, "Function.Oops", `{"errorType":"Oops","errorMessage":"m"}`)
	if g.cause != `{"working_directory":"/x"}` {
		t.Errorf("the cause is %q", g.cause)
	}
	r.invoke(task{Do: "trailers", Text: `{"errorMessage":"late"}`, Type: "Function.Late"}, r.context()).want(
		r, "Function.Late", `{"errorMessage":"late"}`)
}

// Every size at a boundary of events, publishes, compression and Lambda's own limit comes back byte for byte.
func TestLocalSizes(t *testing.T) {
	r := newLocalRig(t, localOptions{command: testCommand("1")})
	random := make([]byte, maxEvent)
	for i := range random { // incompressible, and nothing that JSON would escape
		random[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[rand.IntN(64)]
	}
	sizes := []int{
		2, 3, gzipAbove - 1, gzipAbove, gzipAbove + 1, partData, maxEvent - 600, maxEvent, maxEvent + 1,
		maxPayload}
	for _, size := range sizes {
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
	g := r.invoke(task{Do: "size", Size: maxPayload + 1}, r.context())
	g.want(r, "Function.ResponseSizeTooLarge",
		`{"errorMessage":"Response payload size (6291557 bytes) exceeded maximum allowed payload size `+
			`(6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}`)
	r.invoke(task{Do: "pid"}, r.context()) // the same process goes on
	if n := r.local.term.restarts; n != 0 {
		t.Errorf("%d restarts", n)
	}
}

// Replies of every size are cut into parts that fit into events, and come together again.
func TestLocalParts(t *testing.T) {
	directory := t.TempDir()
	t.Setenv("TMPDIR", directory)
	random := make([]byte, maxPayload)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	join := func(rep *reply, size int) {
		t.Helper()
		s := newSubscriber(nil, newLocal(localOptions{}, nil))
		o := s.newTransfer(rep)
		o.cut(time.Now().Add(time.Hour))
		j := newJoiner(8 << 20)
		for i := range o.ends {
			data := make([]byte, o.end(i+1)-o.end(i))
			o.rep.data.ReadAt(data, o.end(i))
			event := o.part("aaaa/1", i).encode(data)
			if n := escapedLen(event); n > maxEvent {
				t.Errorf("%d bytes: part %d is an event of %d", size, i, n)
			}
			p, err := parsePart(string(event))
			if err != nil || p == nil {
				t.Fatalf("%d bytes: part %d: %v", size, i, err)
			}
			if err := j.add(p); err != nil {
				t.Fatalf("%d bytes: part %d: %v", size, i, err)
			}
		}
		if !j.complete() {
			t.Fatalf("%d bytes: %d parts are not all", size, len(o.ends))
		}
		if body, err := j.message(maxPayload); err != nil || !bytes.Equal(body, random[:size]) {
			t.Errorf("%d bytes: got %d and %v", size, len(body), err)
		}
	}
	for _, size := range []int{
		0, 1, gzipAbove, gzipAbove + 1, partData, partData + 1, 5*partData + 1, maxPayload} {
		rep := &reply{kind: "response", headers: map[string]string{"Content-Type": "x"}}
		c := &collector{rep: rep}
		if _, err := io.Copy(c, bytes.NewReader(random[:size])); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		rep.ended = true
		join(rep, size)
		rep.data.close()

		stream := &reply{
			kind: "response", streamed: true, ended: true,
			headers: map[string]string{modeHeader: "streaming"}}
		stream.data.Write(random[:size])
		stream.trailers = errorTrailers(errorReply("E", bytes.Repeat([]byte("<"), headBytes)))
		join(stream, size)
		stream.data.close()
	}
	full := errorReply("Function.Big", random[:100])
	full.xrayCause = strings.Repeat(`"`, 60_000)
	if escapedLen(part{XRayCause: full.xrayCause}.event()) > maxCause {
		full.xrayCause = full.xrayCause[:40_000]
	}
	join(full, 100)
	if left, _ := os.ReadDir(directory); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// Fifty invocations at once, through AppSync, are answered, each with its own answer.
func TestLocalFiftyAtOnce(t *testing.T) {
	r := newLocalRig(t, localOptions{command: testCommand("1"), maxProcesses: 5})
	var calls []*call
	for i := range 50 {
		calls = append(calls, r.send(task{Do: "text", Text: strconv.Itoa(i)}, r.context()))
	}
	for i, c := range calls {
		r.await(c).want(r, "", strconv.Itoa(i))
		c.finish()
	}
	if n := strings.Count(r.out.String(), " ok "); n != 50 {
		t.Errorf("%d ran, want 50", n)
	}
}

// A repeated request does not run again: it is accepted again, or answered again, where it now says.
func TestLocalRunsOnce(t *testing.T) {
	r := newLocalRig(t, localOptions{command: testCommand("1")})
	one, two := r.newEar("aaaa"), r.newEar("bbbb")
	g := r.newGate("gate")
	do, c := task{Do: "wait", File: g.file, Text: "x"}, r.context()
	one.ask(1, do, c)
	one.hear(1, "accepted")
	one.ask(1, do, c)
	one.hear(1, "accepted")
	two.ask(7, do, c)
	two.hear(7, "accepted")
	g.pass()
	if p := two.hear(7, "response"); string(p.data) != `"x"` || p.Sender == "" || !p.Last {
		t.Errorf("answered %q", p.data)
	}
	two.ask(7, do, c)
	two.hear(7, "response")
	one.ask(1, do, c)
	one.hear(1, "response")
	one.done(1, "answered")
	// Lambda's retry has the same request ID and another deadline.
	retry := c
	retry.DeadlineMs++
	one.ask(2, task{Do: "text", Text: "retry"}, retry)
	one.hear(2, "accepted")
	if p := one.hear(2, "response"); string(p.data) != "retry" {
		t.Errorf("answered %q", p.data)
	}
	one.done(2, "answered")
	one.ask(2, do, retry) // over, and known to be
	one.ask(1, do, c)
	three := r.context()
	one.ask(3, task{}, three)
	one.hear(3, "accepted")
	one.hear(3, "response")
	if n := strings.Count(r.out.String(), " start "); n != 3 {
		t.Errorf("%d invocations ran, want 3:\n%s", n, r.out)
	}
}

// While a handler works, `accepted` is said at once and every 5 s; the answer is repeated every 2 s until
// `done`.
func TestLocalSaysItAgain(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		start := time.Now()
		at := func(want string, p *part) {
			t.Helper()
			if got := time.Since(start); got.String() != want {
				t.Errorf("%s at %s, want %s", p.Type, got, want)
			}
		}
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
		e.done(1, "answered")
		synctest.Wait()

		// Without `done` until the deadline.
		c := r.context()
		c.DeadlineMs = time.Now().Add(7 * time.Second).UnixMilli()
		e.ask(2, []byte("2"), c)
		at("15s", e.hear(2, "accepted"))
		id, _ = r.next()
		r.respond(id, strings.NewReader("2"), 202)
		for _, want := range []string{"15s", "17s", "19s", "21s"} {
			at(want, e.hear(2, "response"))
		}
		time.Sleep(time.Minute)
		e.ask(3, []byte("3"), r.context())
		at("1m21s", e.hear(3, "accepted"))
	})
}

// A request that goes out again because the local end that has it may have lost the link is nobody else's.
func TestLocalAcceptedByAnother(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		c := r.context()
		c.AcceptedBy = "another"
		e.ask(1, []byte("1"), c)
		synctest.Wait()
		c = r.context()
		e.ask(2, []byte("2"), c)
		e.hear(2, "accepted")
		r.next()
		c.AcceptedBy = r.sub.sender
		moved := r.newEar("bbbb")
		moved.ask(2, []byte("2"), c)
		moved.hear(2, "accepted")
	})
}

// What AppSync loses is repeated, out of order or not, and comes together at the other end.
func TestLocalAnswerSurvivesLoss(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		r.api.intercept(func(f apiFrame) apiVerdict {
			if f.out && f.typ == "data" && strings.Contains(f.channel, "/response/") && rand.IntN(3) > 0 {
				return apiVerdict{replace: dropped}
			}
			return apiVerdict{}
		})
		event := make([]byte, 700_000)
		for i := range event {
			event[i] = "0123456789abcdef"[rand.IntN(16)]
		}
		e.ask(1, []byte("1"), r.context())
		id, _ := r.next()
		r.respond(id, bytes.NewReader(event), 202)
		j := newJoiner(maxPayload)
		for !j.complete() {
			p := <-e.parts
			if p.Type == "response" {
				if err := j.add(p); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got, err := j.message(maxPayload); err != nil || !bytes.Equal(got, event) {
			t.Errorf("got %d bytes and %v", len(got), err)
		}
	})
}

// A stream's first piece leaves at once, the next ones not more often than every 100 ms, and whatever AppSync
// loses is repeated while the stream goes on.
func TestLocalStreams(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		var lose atomic.Bool
		r.api.intercept(func(f apiFrame) apiVerdict {
			if f.out && f.typ == "data" && strings.Contains(f.events[0], `"type":"response"`) &&
				lose.CompareAndSwap(true, false) {
				return apiVerdict{replace: dropped}
			}
			return apiVerdict{}
		})
		e.ask(1, []byte("1"), r.context())
		e.hear(1, "accepted")
		id, _ := r.next()
		pr, pw := io.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { r.respond(id, pr, 202, modeHeader, "streaming", "Content-Type", "text/plain") })
		start := time.Now()
		want := func(index int, text string, at time.Duration) {
			t.Helper()
			p := e.hear(1, "response")
			if p.Index != index || string(p.data) != text || time.Since(start) != at {
				t.Errorf("part %d, %q at %s; want part %d, %q at %s", p.Index, p.data, time.Since(start),
					index, text, at)
			}
			if index == 0 &&
				(p.Headers[modeHeader] != "streaming" || p.Headers["Content-Type"] != "text/plain" ||
					p.Encoding != "") {
				t.Errorf("part 0 is %+v", p)
			}
		}
		io.WriteString(pw, "one")
		want(0, "one", 0)
		for i := range 10 {
			io.WriteString(pw, strconv.Itoa(i))
			time.Sleep(9 * time.Millisecond)
		}
		want(1, "0123456789", 100*time.Millisecond)
		time.Sleep(200 * time.Millisecond)
		lose.Store(true)
		io.WriteString(pw, "lost")
		synctest.Wait()
		io.WriteString(pw, "four")
		want(3, "four", 400*time.Millisecond)
		seen := map[int]int{}
		for seen[2] == 0 { // accepted, and what was out at 2 s once more
			select {
			case p := <-e.parts:
				seen[p.Index]++
			case <-time.After(10 * time.Second):
				t.Fatal("the lost part was not repeated")
			}
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the lost part was repeated after %s", took)
		}
		pw.Close()
		wg.Wait()
		for {
			if p := <-e.parts; p.Last {
				if p.Index != 4 || len(p.data) != 0 || len(p.Trailers) != 0 {
					t.Errorf("the last part is %+v", p)
				}
				break
			}
		}
	})
}

// AWS's Go client streams without saying so: its content types do, where there is no length.
func TestLocalStreamsOfGo(t *testing.T) {
	for _, test := range []struct {
		contentType string
		length      int64
		streamed    bool
	}{
		{contentType: "application/octet-stream", length: -1, streamed: true},
		{contentType: "application/vnd.awslambda.http-integration-response", length: -1, streamed: true},
		{contentType: "application/octet-stream", length: 5},
		{contentType: "application/json", length: -1},
		{length: -1},
	} {
		localBubble(t, func(r *localRig) {
			e := r.newEar("aaaa")
			e.ask(1, []byte("1"), r.context())
			e.hear(1, "accepted")
			id, _ := r.next()
			var body io.Reader = io.MultiReader(strings.NewReader("hel"), strings.NewReader("lo"))
			if test.length >= 0 {
				body = strings.NewReader("hello")
			}
			r.respond(id, body, 202, "Content-Type", test.contentType)
			mode := ""
			if test.streamed {
				mode = "streaming"
			}
			p := e.hear(1, "response")
			if p.Headers[modeHeader] != mode || p.Headers["Content-Type"] != test.contentType ||
				!strings.HasPrefix("hello", string(p.data)) {
				t.Errorf("%q, length %d: %+v", test.contentType, test.length, p)
			}
		})
	}
}

// A stream that moves to another channel is sent again there from its beginning.
func TestLocalStreamMoves(t *testing.T) {
	localBubble(t, func(r *localRig) {
		one, two := r.newEar("aaaa"), r.newEar("bbbb")
		c := r.context()
		one.ask(1, []byte("1"), c)
		one.hear(1, "accepted")
		id, _ := r.next()
		pr, pw := io.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { r.respond(id, pr, 400, modeHeader, "streaming") })
		io.WriteString(pw, "one")
		one.hear(1, "response")
		two.ask(1, []byte("1"), c)
		two.hear(1, "accepted")
		if p := two.hear(1, "response"); p.Index != 0 || string(p.data) != "one" {
			t.Errorf("got part %d %q", p.Index, p.data)
		}
		pw.CloseWithError(errors.New("cut"))
		wg.Wait()
		for {
			p := two.hear(1, "response")
			if !p.Last {
				continue
			}
			body, _ := base64.StdEncoding.DecodeString(p.Trailers[bodyHeader])
			if p.Trailers[typeHeader] != "Runtime.TruncatedResponse" || !strings.Contains(string(body), id) {
				t.Errorf("the trailers are %v", p.Trailers)
			}
			break
		}
	})
}

// The extension's word on an invocation ends it here, and the terminal tells what the caller got.
func TestLocalHearsTheOutcome(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		for n, tt := range []struct {
			outcome, says string
			status        int // of the runtime's answer after that
		}{
			{outcome: "timeout", says: "timeout", status: 400},
			{outcome: "deployed", says: "the deployed code answers", status: 202},
			{outcome: "answered", says: "another local end has answered", status: 202},
			{outcome: "\x1b[31mnonsense", says: "another local end has answered", status: 202},
		} {
			e.ask(n, []byte("1"), r.context())
			e.hear(n, "accepted")
			id, _ := r.next()
			e.done(n, tt.outcome)
			synctest.Wait()
			if !strings.Contains(r.out.String(), tt.says) {
				t.Errorf("%s: the terminal wrote\n%s", tt.outcome, r.out)
			}
			r.respond(id, strings.NewReader("1"), tt.status)
			r.respond(id, strings.NewReader("1"), 400)
		}
		c := r.context()
		c.DeadlineMs = time.Now().Add(3 * time.Second).UnixMilli()
		e.ask(9, []byte("1"), c)
		id, _ := r.next()
		time.Sleep(4 * time.Second)
		r.respond(id, strings.NewReader("1"), 400)
		synctest.Wait()
		for _, want := range []string{"deadline passed", "answered after 4000 ms"} {
			if !strings.Contains(r.out.String(), want) {
				t.Errorf("no %q in\n%s", want, r.out)
			}
		}
		if r.local.held != 0 || len(r.local.live) != 0 {
			t.Errorf("%d bytes of %d requests are still held", r.local.held, len(r.local.live))
		}
	})
}

// A connection that is dead without a word, as after a laptop's sleep, is replaced, and what was to be said
// is said.
func TestLocalReconnects(t *testing.T) {
	localBubble(t, func(r *localRig) {
		connection := func() int {
			conns, err := r.api.subscribers(r.ctx, "/live-lambda/requests", 1)
			if err != nil {
				t.Fatal(err)
			}
			return conns[len(conns)-1]
		}
		e := r.newEar("aaaa")
		e.ask(1, []byte("1"), r.context())
		e.hear(1, "accepted")
		id, _ := r.next()
		r.api.do(connection(), apiVerdict{after: goHalfOpen})
		synctest.Wait()
		r.respond(id, strings.NewReader("1"), 202)
		// the publish that was not answered has told that the connection is dead
		r.out.waitTimes(r, "waiting for invocations", 2)
		e.until(1, "response")
		e.done(1, "answered")
		synctest.Wait()

		r.api.do(connection(), apiVerdict{after: goHalfOpen}) // with nothing to say
		time.Sleep(90 * time.Second)
		e.ask(2, []byte("2"), r.context())
		e.until(2, "accepted")
		id, _ = r.next()
		r.api.do(connection(), apiVerdict{after: resetConnection}) // while the handler works
		e.hear(2, "accepted")
		r.respond(id, strings.NewReader("2"), 202)
		e.hear(2, "response")
	})
}

// Whatever comes on the channel that is not a request for this end is dropped, and the next request is
// served.
func TestLocalDropsNonsense(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		c := r.context()
		context := string(mustJSON(c))
		ask := func(id, event, context string) string {
			return `{"request_id":` + id + `,"event_payload":` + event + `,"context":` + context +
				`,"live_lambda":1}`
		}
		with := func(change func(*eventContext)) string {
			c := c
			change(&c)
			return string(mustJSON(c))
		}
		bomb, encoding := compress(make([]byte, 2*maxPayload))
		var bombs []string
		for event := range (part{Type: "request", RequestID: "aaaa/1", Encoding: encoding}).split(bomb) {
			bombs = append(bombs, string(event))
		}
		messages := append(bombs,
			`7`, `null`, `"text"`, `[]`, `{}`, `{"live_lambda":1}`, `{"live_lambda":2,"request_id":"aaaa/1"}`,
			`{"request_id":"aaaa/1","event_payload":1,"context":`+context+`}`,
			ask(`"aaaa"`, "1", "7"), ask("7", "1", context), ask(`"../x/1"`, "1", context),
			ask(`"a b/1"`, "1", context), ask(`""`, "1", context),
			ask(`"aaaa/1/2/3/4"`, "1", context), ask(`"aaaa/\n1"`, "1", context),
			ask(`"aaaa/1"`, strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000), context),
			ask(`"aaaa/1"`, "1", "{}"), ask(`"aaaa/1"`, "1", `{"environment":{"a":1}}`),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) { c.FunctionName = "a\nb" })),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) { c.RequestID = "\x1b[2J" })),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) { c.TraceID = "a\r\nX-Evil: 1" })),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) { c.RequestID = "" })),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) { c.Handler = strings.Repeat("x", 5000) })),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) { c.DeadlineMs = 0 })),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) {
				c.DeadlineMs = time.Now().Add(-time.Second).UnixMilli()
			})),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) {
				c.ClientContext = []byte(`"` + strings.Repeat("x", 70_000) + `"`)
			})),
			string(part{Type: "request", RequestID: "aaaa/1", Index: 5, Last: true}.encode([]byte("x"))),
			string(part{Type: "request", RequestID: "aaaa/1", Index: 7, Last: true}.encode([]byte("x"))),
			string(part{Type: "request", RequestID: "aaaa/1"}.event()),
			string(part{Type: "request", RequestID: "aaaa/2", Encoding: "gzip"}.event()),
			`{"live_lambda":1,"type":"request","request_id":"aaaa/1","index":-1,"last":true,"data":"e30"}`,
			`{"live_lambda":1,"type":"request","request_id":"aaaa/1","index":0,"last":true,"data":"!"}`,
			`{"live_lambda":1,"type":"request","request_id":"aaaa/1","index":9999999999,"last":true}`,
			`{"live_lambda":1,"type":"done","request_id":"cccc/1","outcome":"answered"}`,
			`{"live_lambda":1,"type":"response","request_id":"aaaa/1","index":0,"last":true,"data":"e30"}`,
			`{"live_lambda":1,"type":"accepted","request_id":"aaaa/1","index":0,"last":true}`,
		)
		for _, m := range messages {
			r.sub.receive(m)
		}
		e.ask(5, []byte("5"), r.context())
		e.hear(5, "accepted")
		if id, event := r.next(); string(event) != "5" {
			t.Errorf("request %s has the event %q", id, event)
		}
		if strings.ContainsAny(r.out.String(), "\x1b\r") {
			t.Errorf("the terminal got control characters: %q", r.out)
		}
	})
}

// Of 100,000 requests that never become whole few are kept, and one that does is answered.
func TestLocalOpenRequests(t *testing.T) {
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
		e.ask(5, []byte("5"), r.context())
		e.hear(5, "accepted")
		if id, event := r.next(); string(event) != "5" {
			t.Errorf("request %s has the event %q", id, event)
		}
	})
}

// The quick way through a request reads the same as encoding/json.
func TestParseRequest(t *testing.T) {
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

// Events in parts: the largest, with a context beside it, and pieces in any order.
func TestLocalRequestInParts(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		c := r.context()
		c.Environment = map[string]string{"BIG": strings.Repeat("x", 4096)}
		event := make([]byte, maxPayload)
		for i := range event {
			event[i] = "0123456789abcdef"[rand.IntN(16)]
		}
		event[0], event[len(event)-1] = '"', '"'
		body, encoding := compress(
			slices.Concat(
				[]byte(`{"request_id":"aaaa/1","event_payload":`), event, []byte(`,"context":`), mustJSON(c),
				[]byte(`,"live_lambda":1}`)))
		parts := slices.Collect(part{Type: "request", RequestID: "aaaa/1", Encoding: encoding}.split(body))
		parts = append(parts, parts[:3]...)
		for _, i := range rand.Perm(len(parts)) {
			r.sub.receive(string(parts[i]))
		}
		e.hear(1, "accepted")
		if _, got := r.next(); !bytes.Equal(got, event) {
			t.Errorf("the event has %d bytes", len(got))
		}
	})
}
