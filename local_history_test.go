//go:build !layer

package main

// local_history_test.go tests what is kept of invocations, and how it is followed.

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// keptOf is an invocation with an event of that many bytes.
func keptOf(bytes int) keptInvocation {
	return keptInvocation{Event: make([]byte, bytes), facts: facts{EventBytes: int64(bytes)}}
}

// ids are those of entries, newest first.
func ids(all []facts) string {
	var text strings.Builder
	for _, f := range all {
		fmt.Fprintf(&text, "%d ", f.ID)
	}
	return strings.TrimSpace(text.String())
}

func TestOldestInvocationsAreDroppedFirst(t *testing.T) {
	for _, tt := range []struct {
		name    string
		most    int
		limit   int
		want    string
		dropped int
	}{
		{
			name:  "all have room",
			most:  5,
			limit: 1 << 20,
			want:  "5 4 3 2 1",
		},
		{
			name:    "too many",
			most:    3,
			limit:   1 << 20,
			want:    "5 4 3",
			dropped: 2,
		},
		{
			name:    "too many bytes",
			most:    5,
			limit:   2 * (entryOverhead + 100_000),
			want:    "5 4",
			dropped: 3,
		},
		{
			name:    "no room for two",
			most:    5,
			limit:   1,
			want:    "5",
			dropped: 4,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHistory("")
			h.most = tt.most
			h.limit = tt.limit
			for range 5 {
				h.add(keptOf(100_000), nil)
			}
			if got := ids(h.list()); got != tt.want {
				t.Errorf("kept %s, want %s", got, tt.want)
			}
			gone := h.letGo()
			bytes := int64(tt.dropped * (entryOverhead + 100_000))
			if gone.Invocations != tt.dropped || gone.Bytes != bytes {
				t.Errorf("dropped %+v, want %d with %d bytes", gone, tt.dropped, bytes)
			}
			_, first := h.get(1)
			_, last := h.get(5)
			if first != (tt.dropped == 0) || !last {
				t.Errorf("the first one is kept: %v, the last one: %v", first, last)
			}
		})
	}
}

// What it holds is counted, whatever it is.
func TestEveryByteThatIsKeptCounts(t *testing.T) {
	const n = 100_000
	many := strings.Repeat("x", n)
	for _, tt := range []struct {
		name        string
		kept        keptInvocation
		environment map[string]string
		then        func(*entry)
	}{
		{name: "event", kept: keptOf(n)},
		{name: "environment", environment: map[string]string{"A": many}},
		{name: "context", kept: keptInvocation{Context: eventContext{ClientContext: []byte(many)}}},
		{name: "answer", then: func(e *entry) { e.heard([]byte(many)) }},
		{name: "printed", then: func(e *entry) { e.prints(false, []byte(many)) }},
		{name: "headers", then: func(e *entry) {
			e.responds(&reply{headers: map[string]string{"Content-Type": many}})
		}},
		{name: "pieces", then: func(e *entry) {
			e.responds(&reply{})
			for range maxPieces {
				e.heard([]byte{0})
			}
		}},
		{name: "error", then: func(e *entry) {
			e.ended(&request{}, &reply{kind: "error", errorType: "E", size: n, head: []byte(many)})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHistory("")
			e := h.add(tt.kept, tt.environment)
			if tt.then != nil {
				tt.then(e)
			}
			if h.bytes < n {
				t.Errorf("%d bytes are counted", h.bytes)
			}
			h.most = 1
			h.add(keptInvocation{}, nil)
			if h.bytes > 2*entryOverhead {
				t.Errorf("%d bytes are counted when it is dropped", h.bytes)
			}
		})
	}
}

// It does not push out the others.
func TestInvocationThatIsTooLargeKeepsItsFacts(t *testing.T) {
	for _, tt := range []struct {
		name    string
		each    int
		answer  int
		event   int // that are kept
		printed int // pieces that are kept
	}{
		{name: "without its answer", each: 20_000, answer: 50_000, event: 10_000, printed: 1},
		{name: "without its event", each: 5_000, answer: 10, event: 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHistory("")
			h.each = tt.each
			h.add(keptOf(10), nil)
			e := h.add(keptOf(10_000), nil)
			e.responds(&reply{streamed: true})
			e.prints(false, []byte("printed\n"))
			for range 10 {
				e.heard(make([]byte, tt.answer/10))
			}
			i, found := h.get(e.id)
			if !found || !i.Light || i.Answer != nil || len(i.Event) != tt.event ||
				len(i.Printed) != tt.printed {
				t.Errorf("kept %+v", i.facts)
			}
			if i.AnswerBytes != int64(tt.answer) || i.EventBytes != 10_000 || i.PrintedBytes != 8 {
				t.Errorf("its facts are %+v", i.facts)
			}
			gone := h.letGo()
			if len(h.list()) != 2 || gone.Light != 1 || gone.Invocations != 0 || gone.Bytes == 0 {
				t.Errorf("dropped %+v", gone)
			}
			if h.bytes > tt.each+entryOverhead+10 {
				t.Errorf("%d bytes are counted", h.bytes)
			}
		})
	}
}

func TestPrintedTextIsBounded(t *testing.T) {
	h := newHistory("")
	e := h.add(keptOf(1), nil)
	for range 3 {
		e.prints(true, bytes.Repeat([]byte("x"), maxKeptPrinted/2+1))
	}
	for range 2 * maxPieces {
		e.prints(false, nil)
	}
	i, _ := h.get(1)
	text := 0
	for _, p := range i.Printed {
		text += len(p.Text)
	}
	if text != maxKeptPrinted || i.PrintedBytes != 3*(maxKeptPrinted/2+1) || len(i.Printed) != 2 {
		t.Errorf("kept %d bytes in %d pieces of %d", text, len(i.Printed), i.PrintedBytes)
	}
}

// An entry that has been read stays as it was.
func TestEntryThatWasReadDoesNotChange(t *testing.T) {
	h := newHistory("")
	e := h.add(keptOf(1), nil)
	e.responds(&reply{})
	e.heard([]byte("one"))
	before, _ := h.get(1)
	e.heard([]byte("two"))
	_ = append(before.Answer, "xxx"...)
	after, _ := h.get(1)
	if string(before.Answer) != "one" || string(after.Answer) != "onetwo" || len(before.Pieces) != 1 {
		t.Errorf("got %q, then %q", before.Answer, after.Answer)
	}
}

func TestFollowerGetsEachChangeInOrder(t *testing.T) {
	h := newHistory("")
	h.most = 2
	h.add(keptOf(1), nil)
	f, now := h.follow()
	defer f.close()
	if ids(now) != "1" {
		t.Errorf("it begins with %s", ids(now))
	}
	e := h.add(keptOf(1), nil)
	e.started()
	e.prints(false, []byte("a"))
	e.prints(false, []byte("b"))
	e.late()
	h.add(keptOf(1), nil)
	changes, missed, _ := f.next(t.Context())
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprint(c.Kind, c.Facts.ID))
	}
	want := "[new2 changed2 progress2 changed2 new3 dropped1]"
	if missed || fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if changes[2].Facts.PrintedBytes != 2 {
		t.Errorf("progress tells of %d bytes", changes[2].Facts.PrintedBytes)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if changes, missed, _ := f.next(done); missed || changes != nil {
		t.Errorf("then got %v", changes)
	}
}

// Whoever is slow keeps nobody waiting.
func TestSlowFollowerIsToldToReadAnew(t *testing.T) {
	h := newHistory("")
	f, _ := h.follow()
	e := h.add(keptOf(1), nil)
	for range 2 * maxChanges {
		e.started()
	}
	changes, missed, anew := f.next(t.Context())
	if !missed || changes != nil || ids(anew) != "1" {
		t.Errorf("got %d changes, missed: %v, entries %s", len(changes), missed, ids(anew))
	}
	e.late()
	changes, missed, _ = f.next(t.Context())
	if missed || len(changes) != 1 || !changes[0].Facts.Late {
		t.Errorf("then got %v, missed: %v", changes, missed)
	}
	f.close()
	e.late()
	if changes, missed, _ := f.take(); missed || changes != nil {
		t.Errorf("when it was closed it got %v", changes)
	}
}

// With -race this finds what is shared without a lock.
func TestHistoryIsSafeForConcurrentUse(t *testing.T) {
	h := newHistory("")
	h.most = 20
	h.each = 100_000
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			f, _ := h.follow()
			defer f.close()
			for ctx.Err() == nil {
				f.next(ctx)
				i, _ := h.last()
				bytes.Count(i.Answer, []byte{1})
				for _, p := range i.Printed {
					strings.Count(p.Text, "x")
				}
			}
		})
	}
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 50 {
				e := h.add(keptOf(10), nil)
				e.responds(&reply{})
				for range 20 {
					e.heard(make([]byte, 1000))
					e.prints(false, []byte("x"))
				}
				e.ended(&request{}, &reply{})
				e.over(&request{over: overAnswered}, true)
			}
		})
	}
	writers.Wait()
	cancel()
	readers.Wait()
	if len(h.list()) != 20 || h.letGo().Invocations != 180 {
		t.Errorf("kept %s, dropped %+v", ids(h.list()), h.letGo())
	}
}
