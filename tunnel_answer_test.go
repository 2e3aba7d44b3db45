//go:build !layer

package main

// tunnel_answer_test.go tests what a call does with its answer: streams, sizes, and what is broken.

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// streamingCall is a call that a local end has begun to answer with a stream: data has come, in the last part
// or not.
func streamingCall(ctx context.Context, t *testing.T, data string, last bool) *call {
	t.Helper()
	tn := newTunnel(newTestAPI(nil), "function", false)
	c := tn.send(ctx, &call{
		channel: requestsChannel, event: []byte("1"), context: []byte(`{"a":1}`), offline: time.Hour})
	tn.Lock()
	defer tn.Unlock()
	err := c.take(&link{session: &session{}}, &part{
		Type: "response", Last: last, Headers: map[string]string{modeHeader: "streaming"},
		data: []byte(data)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A slow reader could make it outlast the deadline otherwise.
func TestStreamEndsWithItsCallWhateverOfItHasCome(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithDeadlineCause(
		t.Context(), time.Now().Add(time.Hour), errors.New("shortly before its deadline"))
	defer cancel()
	c := streamingCall(ctx, t, "some of it", false)
	if n, err := c.Read(make([]byte, 4)); n != 4 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	c.cancel(&failure{errorType: "LiveLambda.NoAnswer", message: "it is over"})
	if n, err := c.Read(make([]byte, 4)); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
	if f := c.failed(); f == nil || c.trailer.Get(typeHeader) != "LiveLambda.NoAnswer" {
		t.Errorf("broken %v, trailers %v", f, c.trailer)
	}
}

// What of it is not passed on must not be missing in a response that looks whole. The runs differ in which of
// two ready channels is drawn.
func TestStreamEndsWithItsCallBeforeItsLastPartIsRead(t *testing.T) {
	t.Parallel()
	for range 30 {
		c := streamingCall(t.Context(), t, "all of it", true)
		if n, err := c.Read(make([]byte, 3)); n != 3 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		c.cancel(&failure{errorType: "LiveLambda.Gone", message: "it is over"})
		if n, err := c.Read(make([]byte, 100)); n != 0 || err != io.EOF {
			t.Errorf("read %d, %v", n, err)
		}
		if f := c.failed(); f == nil || c.trailer.Get(typeHeader) != "LiveLambda.Gone" {
			t.Fatalf("broken %v, trailers %v", f, c.trailer)
		}
	}
}

func TestStreamThatIsReadToItsEndIsWholeWhateverBecomesOfItsCall(t *testing.T) {
	t.Parallel()
	c := streamingCall(t.Context(), t, "all of it", true)
	if n, err := c.Read(make([]byte, 100)); n != 9 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	c.cancel(&failure{errorType: "LiveLambda.Gone", message: "it is over"})
	if n, err := c.Read(make([]byte, 100)); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
	if f := c.failed(); f != nil || c.trailer.Get(typeHeader) != "" {
		t.Errorf("broken %v, trailers %v", f, c.trailer)
	}
}

// Lambda would make the same of it.
func TestAnswerAboveLambdasLimitIsAnErrorOfItsSize(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string]func(id string) iter.Seq[[]byte]{
		"bomb": func(id string) iter.Seq[[]byte] {
			p := part{Type: "response", RequestID: id, Encoding: "gzip"}
			return p.split(gzipTimes(make([]byte, 1<<20), 7))
		},
		"parts": func(id string) iter.Seq[[]byte] {
			p := part{Type: "response", RequestID: id, Index: 1}
			return p.from(1, make([]byte, maxPayload+2*maxEvent))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startTunnel(t, eventAPIOptions{}, nil)
				out := c.send(`1`)
				id, l := c.request().RequestID, c.link()
				for event := range answers(id) {
					c.receive(l, string(event))
				}
				a := c.await(out)
				if a.errorType != "Function.ResponseSizeTooLarge" ||
					!strings.Contains(a.body, "6291556 bytes") || !json.Valid([]byte(a.body)) {
					t.Errorf("got %s %s", a.errorType, a.body)
				}
				out.finish()
			})
		})
	}
}

// from is split, but for the parts before index.
func (p part) from(index int, body []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		n := 0
		for event := range p.split(body) {
			n++
			if n <= index {
				continue
			}
			if !yield(event) {
				return
			}
		}
	}
}

// streamReader reads a call's stream, and keeps what each Read gives and the error at the end.
type streamReader struct {
	t    *testing.T
	read chan string
}

func startReading(t *testing.T, out *call) *streamReader {
	r := &streamReader{t: t, read: make(chan string, 100)}
	go func() { // ends with the stream
		var b [100]byte
		for {
			n, err := out.Read(b[:])
			if n > 0 {
				r.read <- string(b[:n])
			}
			if err != nil {
				r.read <- err.Error()
				return
			}
		}
	}()
	return r
}

// want checks what has been read since the last time.
func (r *streamReader) want(pieces ...string) {
	r.t.Helper()
	if got := receivedMessages(r.read); !slices.Equal(got, pieces) {
		r.t.Errorf("read %q, want %q", got, pieces)
	}
}

// sayPart publishes a part of a local end, and waits until it has been dealt with.
func (c *tunnelTest) sayPart(p part, data string) {
	c.t.Helper()
	c.api.publish("/live-lambda/response/"+p.RequestID, string(p.encode([]byte(data))))
	synctest.Wait()
}

func TestStreamCanBeReadAsSoonAsItsFirstPartIsThereAndInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id := c.request().RequestID
		first := part{
			Type:      "response",
			RequestID: id,
			Headers: map[string]string{
				"Lambda-Runtime-Function-Response-Mode": "streaming",
				"Content-Type":                          "text/plain",
			},
		}
		last := part{
			Type:      "response",
			RequestID: id,
			Index:     4,
			Last:      true,
			Trailers:  map[string]string{"Lambda-Runtime-Function-Error-Type": "E"},
		}
		middle := func(index int) part { return part{Type: "response", RequestID: id, Index: index} }

		c.sayPart(middle(1), "two")
		if _, a, _ := c.look(out); a != nil {
			t.Errorf("an answer without part 0: %+v", a)
		}
		c.sayPart(first, "one")
		if a, err := out.wait(); err != nil || a.size >= 0 || a.contentType != "text/plain" {
			t.Fatalf("got %+v, %v", a, err)
		}
		r := startReading(t, out)
		r.want("one", "two")
		c.sayPart(middle(1), "again")
		r.want()
		c.sayPart(last, "last")
		c.sayPart(middle(3), "four")
		r.want()
		c.sayPart(middle(2), "") // an empty part is passed over
		r.want("four", "last", "EOF")
		if out.trailer.Get("Lambda-Runtime-Function-Error-Type") != "E" {
			t.Errorf("trailers %v", out.trailer)
		}
		out.finish()
		c.done()
	})
}

func TestPartOfAStreamWithoutDataIsNeitherItsEndNorAFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id, l := c.request().RequestID, c.link()
		say := func(index int, data string) {
			p := part{
				Type:      "response",
				RequestID: id,
				Index:     index,
				Last:      index == 3,
				Headers:   map[string]string{modeHeader: "streaming"},
			}
			c.receive(l, string(p.encode([]byte(data))))
		}
		say(0, "")
		read := async(func() (string, error) {
			all, err := io.ReadAll(out)
			return string(all), err
		})
		for index, data := range []string{"", "", "data", ""} {
			synctest.Wait()
			say(index, data)
		}
		got := <-read
		if got.value != "data" || got.err != nil || len(out.trailer.Get(typeHeader)) > 0 {
			t.Errorf("read %q, %v, trailers %v", got.value, got.err, out.trailer)
		}
		out.finish()
	})
}

// Stopped timers keep the call itself for a while.
func TestFinishedCallKeepsNothingLarge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id := c.request().RequestID
		c.local(part{Type: "response", RequestID: id}, []byte("2"))
		c.await(out)
		out.finish()
		if out.event != nil || out.answer != nil || out.parts != nil {
			t.Errorf("kept: event %q, answer %v, parts %v", out.event, out.answer, out.parts)
		}
		c.done()
	})
}

func TestLateReadOfAFinishedCallFindsItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		stream := part{
			Type:      "response",
			RequestID: c.request().RequestID,
			Last:      true,
			Headers:   map[string]string{modeHeader: "streaming"},
		}
		c.local(stream, nil)
		if _, err := out.wait(); err != nil {
			t.Fatal(err)
		}
		out.finish()
		if n, err := out.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("late: read %d, %v", n, err)
		}
	})
}

// They will be repeated.
func TestPartsOfAStreamThatAreTooFarAheadAreDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id, l := c.request().RequestID, c.link()
		say := func(index int, data []byte) {
			p := part{
				Type:      "response",
				RequestID: id,
				Index:     index,
				Headers:   map[string]string{"Lambda-Runtime-Function-Response-Mode": "streaming"},
			}
			c.receive(l, string(p.encode(data)))
		}
		say(0, []byte("x"))
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		data := make([]byte, partData)
		for index := 2; index < 70; index++ {
			say(index, data)
			if out.stream.size > streamWindow {
				t.Fatalf("%d bytes wait", out.stream.size)
			}
		}
		if a, err := out.wait(); err != nil || a.size >= 0 {
			t.Errorf("%+v, %v", a, err)
		}
		kept := len(out.stream.waiting)
		say(1, data)
		read, err := io.ReadAll(out.stream)
		if len(read) != (kept+1)*partData || err != errMissing || kept < 45 {
			t.Errorf("read %d bytes, %v; %d parts waited", len(read), err, kept)
		}
		out.finish()
	})
}

func TestBrokenAnswerIsDroppedAndItsRepetitionCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		p := part{Type: "response", RequestID: c.request().RequestID, Encoding: "gzip", Last: true}
		c.sayPart(p, "marked, not gzip")
		c.sayPart(p, string(gzipTimes([]byte("good"), 1)))
		if _, a, err := c.look(out); err != nil || a == nil || readAll(a.body) != "good" {
			t.Errorf("got %+v, %v", a, err)
		}
		said := c.logs.String()
		if strings.Count(said, "level=WARN") != 1 || strings.Contains(said, "marked") {
			t.Errorf("log:\n%s", said)
		}
		out.finish()
	})
}
