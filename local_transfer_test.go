//go:build !layer

package main

// local_transfer_test.go tests how replies are cut into parts, published and repeated.

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// longestID is as long as a request ID may be.
var longestID = strings.Repeat("a", 50) + "/" + strings.Repeat("b", 50) + "/" + strings.Repeat("c", 50)

// wantJoined cuts a reply into parts and joins them as an extension does: plain, and sealed.
func wantJoined(t *testing.T, rep *reply, want []byte) {
	t.Helper()
	for _, sealer := range []*sealer{nil, newSealer(make([]byte, keySize))} {
		wantJoinedSealed(t, rep, want, sealer)
	}
}

// wantJoinedSealed does it with what seals the parts, if anything does.
func wantJoinedSealed(t *testing.T, rep *reply, want []byte, sealer *sealer) {
	t.Helper()
	size := len(want)
	o := newSubscriber(nil, newLocal(localOptions{}, nil)).newTransfer(rep)
	o.cut(time.Now().Add(time.Hour))
	j := newJoiner(8 << 20)
	for i := range o.ends {
		data, err := o.data(i)
		if err != nil {
			t.Fatalf("%d bytes: part %d: %v", size, i, err)
		}
		part := o.part(longestID, i)
		part.sealer = sealer
		event := part.encode(data)
		if n := escapedLen(event); n > maxEvent {
			t.Errorf("%d bytes: part %d is an event of %d", size, i, n)
		}
		p, err := sealer.parse(string(event))
		if err != nil || p == nil {
			t.Fatalf("%d bytes: part %d: %v", size, i, err)
		}
		err = j.add(p)
		if err != nil {
			t.Fatalf("%d bytes: part %d: %v", size, i, err)
		}
	}
	if !j.complete() {
		t.Fatalf("%d bytes: %d parts are not all", size, len(o.ends))
	}
	body, err := j.message(maxPayload)
	if err != nil || !bytes.Equal(body, want) {
		t.Errorf("%d bytes: got %d and %v", size, len(body), err)
	}
}

// noTemporaryFiles fails the test if it leaves some.
func noTemporaryFiles(t *testing.T) {
	directory := t.TempDir()
	t.Setenv("TMPDIR", directory)
	t.Cleanup(func() {
		left, err := os.ReadDir(directory)
		if err != nil || len(left) > 0 {
			t.Errorf("temporary files are left: %v, %v", left, err)
		}
	})
}

// partSizes are sizes of replies at the bounds of parts and compression.
var partSizes = []int{
	0, 1, gzipAbove, gzipAbove + 1, partData, partData + 1, 5*partData + 1, maxPayload,
}

func TestLocalReplyOfAnySizeFitsIntoParts(t *testing.T) {
	noTemporaryFiles(t)
	random := randomBytes(maxPayload)
	for _, size := range partSizes {
		rep := &reply{kind: "response", headers: map[string]string{"Content-Type": "x"}}
		c := &collector{rep: rep}
		_, err := io.Copy(c, bytes.NewReader(random[:size]))
		if err != nil {
			t.Fatal(err)
		}
		err = c.Close()
		if err != nil {
			t.Fatal(err)
		}
		rep.ended = true
		wantJoined(t, rep, random[:size])
		rep.data.close()
	}
}

// Its error is the largest one.
func TestLocalStreamOfAnySizeThatBreaksFitsIntoParts(t *testing.T) {
	noTemporaryFiles(t)
	random := randomBytes(maxPayload)
	for _, size := range partSizes {
		rep := &reply{
			kind:     "response",
			headers:  map[string]string{modeHeader: "streaming"},
			streamed: true,
			ended:    true,
			trailers: errorTrailers(errorReply("E", bytes.Repeat([]byte("<"), headBytes))),
		}
		rep.data.Write(random[:size])
		wantJoined(t, rep, random[:size])
		rep.data.close()
	}
}

// largestCause returns the longest text of that character that is passed on as a cause.
func largestCause(character string, sealed bool) string {
	n := sort.Search(maxHeaderText, func(n int) bool {
		return !fitsIntoPart(strings.Repeat(character, n+1), sealed)
	})
	return strings.Repeat(character, n)
}

func TestLocalErrorWithTheLargestCauseFitsIntoParts(t *testing.T) {
	noTemporaryFiles(t)
	random := randomBytes(100)
	for _, character := range []string{`"`, `\`, "<", "x"} {
		rep := errorReply(strings.Repeat("<", maxTypeText), random)
		rep.xrayCause = largestCause(character, true)
		wantJoinedSealed(t, rep, random, newSealer(make([]byte, keySize)))
		rep.xrayCause = largestCause(character, false)
		wantJoinedSealed(t, rep, random, nil)
		if len(rep.xrayCause) < 1000 {
			t.Errorf("of %q only %d are passed on", character, len(rep.xrayCause))
		}
	}
}

// Its headers are the largest ones that leave room for data, and the smallest ones that do not.
func TestLocalResponseWithTheLargestHeadersFitsIntoParts(t *testing.T) {
	noTemporaryFiles(t)
	random := randomBytes(2 * partData)
	with := func(n int) *reply {
		return &reply{
			kind:     "response",
			headers:  map[string]string{"Content-Type": strings.Repeat("x", n), modeHeader: "streaming"},
			streamed: true,
			ended:    true,
		}
	}
	s := newSubscriber(nil, newLocal(localOptions{}, nil))
	full := sort.Search(maxContentType, func(n int) bool { return !s.newTransfer(with(n)).roomInFirst() })
	if full == maxContentType {
		t.Fatal("there is always room")
	}
	for _, n := range []int{full - 1, full, maxContentType} {
		rep := with(n)
		rep.data.Write(random)
		wantJoined(t, rep, random)
		rep.data.close()
	}
}

func TestLocalAnswerIsRepeatedEveryTwoSecondsUntilDone(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		at := r.clock()
		at("0s", e.answer(1, r.context(), "1"))
		at("2s", e.hear(1, "response"))
		at("4s", e.hear(1, "response"))
		e.done(1, "answered")
		time.Sleep(time.Minute)
		e.ask(2, []byte("2"), r.context())
		at("1m4s", e.hear(2, "accepted"))
	})
}

func TestLocalAnswerIsRepeatedUntilTheDeadline(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		c := r.context()
		c.DeadlineMs = time.Now().Add(7 * time.Second).UnixMilli()
		at := r.clock()
		at("0s", e.answer(2, c, "2"))
		for _, want := range []string{"2s", "4s", "6s"} {
			at(want, e.hear(2, "response"))
		}
		time.Sleep(time.Minute)
		e.ask(3, []byte("3"), r.context())
		at("1m6s", e.hear(3, "accepted"))
	})
}

// AppSync loses two of three.
func TestLocalLostPartsOfAnAnswerAreRepeatedUntilItIsWhole(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		r.api.intercept(func(f apiFrame) apiVerdict {
			if f.out && f.typ == "data" && strings.Contains(f.channel, "/response/") && rand.IntN(3) > 0 {
				return apiVerdict{replace: dropped}
			}
			return apiVerdict{}
		})
		answer := randomText(700_000, "0123456789abcdef")
		e.ask(1, []byte("1"), r.context())
		id, _ := r.next()
		r.respond(id, bytes.NewReader(answer), 202)
		j := newJoiner(maxPayload)
		for !j.complete() {
			p := <-e.parts
			if p.Type != "response" {
				continue
			}
			err := j.add(p)
			if err != nil {
				t.Fatal(err)
			}
		}
		got, err := j.message(maxPayload)
		if err != nil || !bytes.Equal(got, answer) {
			t.Errorf("got %d bytes and %v", len(got), err)
		}
	})
}

// stream is request 1 of a link, whose handler streams its answer.
type stream struct {
	*ear
	id    string // Lambda's
	pipe  *io.PipeWriter
	wg    sync.WaitGroup // of the runtime's call
	start time.Time
}

// newStream begins one. status is what the runtime gets in the end.
func (e *ear) newStream(c eventContext, status int) *stream {
	e.Helper()
	pr, pw := io.Pipe()
	s := &stream{ear: e, id: e.begin(1, c), pipe: pw, start: time.Now()}
	s.wg.Go(func() {
		e.respond(s.id, pr, status, modeHeader, "streaming", "Content-Type", "text/plain")
	})
	e.Cleanup(func() { s.end(nil) })
	return s
}

// write has the handler write a piece.
func (s *stream) write(piece string) { io.WriteString(s.pipe, piece) }

// end ends the stream; with an error it breaks off.
func (s *stream) end(err error) {
	s.pipe.CloseWithError(err)
	s.wg.Wait()
}

// want hears the next part, which must be that one, at that time after the beginning.
func (s *stream) want(index int, text string, at time.Duration) *part {
	s.Helper()
	p := s.hear(1, "response")
	took := time.Since(s.start)
	if p.Index != index || string(p.data) != text || took != at {
		s.Errorf("part %d, %q at %s; want part %d, %q at %s", p.Index, p.data, took, index, text, at)
	}
	return p
}

// last hears the last part, whatever comes before.
func (s *stream) last() *part {
	for {
		p := <-s.parts
		if p.Last && p.Type == "response" {
			return p
		}
	}
}

func TestLocalStreamsFirstPieceLeavesAtOnceWithTheHeaders(t *testing.T) {
	localBubble(t, func(r *localRig) {
		s := r.newEar("aaaa").newStream(r.context(), 202)
		s.write("one")
		p := s.want(0, "one", 0)
		if p.Headers[modeHeader] != "streaming" || p.Headers["Content-Type"] != "text/plain" ||
			p.Encoding != "" {
			t.Errorf("part 0 is %+v", p)
		}
	})
}

func TestLocalStreamsNextPiecesLeaveTogetherEvery100Milliseconds(t *testing.T) {
	localBubble(t, func(r *localRig) {
		s := r.newEar("aaaa").newStream(r.context(), 202)
		s.write("one")
		s.want(0, "one", 0)
		for i := range 10 {
			s.write(strconv.Itoa(i))
			time.Sleep(9 * time.Millisecond)
		}
		s.want(1, "0123456789", 100*time.Millisecond)
	})
}

func TestLocalStreamsLostPartIsRepeatedWhileItGoesOn(t *testing.T) {
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
		s := e.newStream(r.context(), 202)
		s.write("one")
		s.want(0, "one", 0)
		s.write("two")
		s.want(1, "two", 100*time.Millisecond)
		time.Sleep(200 * time.Millisecond)
		lose.Store(true)
		s.write("lost")
		synctest.Wait()
		s.write("four")
		s.want(3, "four", 400*time.Millisecond)
		seen := map[int]int{}
		for seen[2] == 0 { // `accepted` comes too, and what was out at 2 s once more
			select {
			case p := <-e.parts:
				seen[p.Index]++
			case <-time.After(10 * time.Second):
				t.Fatal("the lost part was not repeated")
			}
		}
		if took := time.Since(s.start); took > 5*time.Second {
			t.Errorf("the lost part was repeated after %s", took)
		}
		s.end(nil)
		p := s.last()
		if p.Index != 4 || len(p.data) != 0 || len(p.Trailers) != 0 {
			t.Errorf("the last part is %+v", p)
		}
	})
}

func TestLocalStreamEndsWithAnEmptyPart(t *testing.T) {
	localBubble(t, func(r *localRig) {
		s := r.newEar("aaaa").newStream(r.context(), 202)
		s.write("one")
		s.want(0, "one", 0)
		s.end(nil)
		p := s.last()
		if p.Index != 1 || len(p.data) != 0 || len(p.Trailers) != 0 {
			t.Errorf("the last part is %+v", p)
		}
	})
}

func TestLocalStreamThatMovesIsSentAgainFromItsBeginning(t *testing.T) {
	localBubble(t, func(r *localRig) {
		one, two := r.newEar("aaaa"), r.newEar("bbbb")
		c := r.context()
		s := one.newStream(c, 202)
		s.write("one")
		one.hear(1, "response")
		two.ask(1, []byte("1"), c)
		two.hear(1, "accepted")
		p := two.hear(1, "response")
		if p.Index != 0 || string(p.data) != "one" {
			t.Errorf("got part %d %q", p.Index, p.data)
		}
	})
}

// It has moved to another channel before.
func TestLocalStreamThatBreaksOffEndsWithItsErrorInTrailers(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		one, two := r.newEar("aaaa"), r.newEar("bbbb")
		c := r.context()
		s := one.newStream(c, 400)
		s.write("one")
		one.hear(1, "response")
		two.ask(1, []byte("1"), c)
		two.hear(1, "accepted")
		two.hear(1, "response")
		s.end(errors.New("cut"))
		p := two.hear(1, "response")
		for !p.Last {
			p = two.hear(1, "response")
		}
		body, _ := base64.StdEncoding.DecodeString(p.Trailers[bodyHeader])
		if p.Trailers[typeHeader] != "Runtime.TruncatedResponse" ||
			!strings.Contains(string(body), s.id) {
			t.Errorf("the trailers are %v", p.Trailers)
		}
	})
}

// Part 0 is still being published when the runtime breaks the stream off: AppSync does not confirm it.
func TestLocalStreamMayBreakWhileAPartIsPublished(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		s := e.newStream(r.context(), 400)
		r.api.intercept(func(f apiFrame) apiVerdict {
			if f.out && f.typ == "publish_success" {
				return apiVerdict{replace: dropped}
			}
			return apiVerdict{}
		})
		s.write("one")
		s.end(errors.New("cut"))
		r.api.intercept(nil)
		p := s.last()
		if p.Trailers[typeHeader] != "Runtime.TruncatedResponse" || p.ErrorType != "" {
			t.Errorf("the last part is %+v", p)
		}
	})
}

// AWS's Go client does not say that it streams.
func TestLocalStreamsOfGoAreKnownByContentTypeAndNoLength(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
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
			id := e.begin(1, r.context())
			var body io.Reader = io.MultiReader(strings.NewReader("hel"), strings.NewReader("lo"))
			if tt.length >= 0 {
				body = strings.NewReader("hello")
			}
			r.respond(id, body, 202, "Content-Type", tt.contentType)
			mode := ""
			if tt.streamed {
				mode = "streaming"
			}
			p := e.hear(1, "response")
			if p.Headers[modeHeader] != mode || p.Headers["Content-Type"] != tt.contentType ||
				!strings.HasPrefix("hello", string(p.data)) {
				t.Errorf("%q, length %d: %+v", tt.contentType, tt.length, p)
			}
		})
	}
}
