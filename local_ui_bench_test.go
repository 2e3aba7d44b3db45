//go:build !layer

package main

// local_ui_bench_test.go measures whether invocations are slower if somebody looks at them.

import (
	"encoding/json"
	"io"
	"os"
	"testing"
	"time"
)

const (
	inspectorRounds = 6 // with and without the page, in turn
	inspectorEvery  = 10 * time.Millisecond
)

// inspectorRound is how long a round lasts: with SOAK all of them take a minute.
func inspectorRound() time.Duration {
	if os.Getenv("SOAK") != "" {
		return 5 * time.Second
	}
	return time.Second
}

// BenchmarkInspector invokes 100 times a second, with the page open in a browser and, in the same process,
// without any history. The ratio is of the medians of what an invocation takes.
func BenchmarkInspector(b *testing.B) {
	browser := startBrowser(b)
	bare := newBenchLocal(b)
	shown := newBenchLocal(b)
	shown.keepHistory("dev")
	err := shown.inspect(uiFlag{on: true})
	if err != nil {
		b.Fatal(err)
	}
	page := browser.open(b, 1440, 900, shown.inspector.link())
	invokeFor(b, bare, 20*inspectorEvery) // their processes start
	invokeFor(b, shown, 20*inspectorEvery)
	page.until(`document.querySelectorAll(".row").length > 10`)
	for b.Loop() {
		with := func() float64 {
			took := median(invokeFor(b, shown, inspectorRound()))
			page.click(".row", "ok") // the page is of use meanwhile
			page.sees(".head h2", "ok")
			return took
		}
		without := func() float64 { return median(invokeFor(b, bare, inspectorRound())) }
		ratio(b, inspectorRounds, "ms", with, without)
	}
	if n := len(shown.history.list()); n != historyMost {
		b.Errorf("%d invocations are kept", n)
	}
	page.until(`document.querySelectorAll(".row").length === 500`)
}

// newBenchLocal is a local end whose terminal nobody reads.
func newBenchLocal(b *testing.B) *local {
	term := &terminal{
		out:     io.Discard,
		errors:  io.Discard,
		columns: func() int { return 0 },
		chunks:  make(chan chunk, waitingLines),
	}
	l := newLocal(localOptions{code: code{command: testCommand("1")}, maxProcesses: 10}, term)
	term.start()
	b.Cleanup(func() {
		l.close()
		term.close()
	})
	return l
}

// invokeFor invokes at that rate for so long, and returns what each invocation took, in milliseconds.
func invokeFor(b *testing.B, l *local, long time.Duration) (took []float64) {
	b.Helper()
	ticks := time.NewTicker(inspectorEvery)
	defer ticks.Stop()
	event, _ := json.Marshal(map[string]any{"text": "an event of an ordinary size", "rawPath": "/orders"})
	for range long / inspectorEvery {
		<-ticks.C
		c := madeUpContext()
		c.FunctionName = "orders"
		c.DeadlineMs = time.Now().Add(time.Minute).UnixMilli()
		begin := time.Now()
		q, err := newRequestFrom(event, c)
		if err == nil {
			err = l.admit(q)
		}
		if err != nil {
			b.Fatal(err)
		}
		l.submit(q)
		if !l.awaitEnd(b.Context(), q) {
			b.Fatal("no answer")
		}
		took = append(took, float64(time.Since(begin))/1e6)
		l.finish(q, overAnswered)
	}
	return took
}
