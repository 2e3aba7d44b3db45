//go:build !layer

package main

// local_typed_test.go tests that what is typed and what is printed do not mix.

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// listen has a terminal read lines from a pipe, and returns that.
func (t *terminal) listen(test *testing.T) (typist *os.File) {
	test.Helper()
	reader, typist, err := os.Pipe()
	if err != nil {
		test.Fatal(err)
	}
	test.Cleanup(func() {
		reader.Close()
		typist.Close()
	})
	t.typed = newTyped(true)
	t.typed.foreground = func() bool { return true }
	t.typed.want(func() bool { return true })
	t.typed.open = func() (int, error) {
		terminal, err := syscall.Dup(int(reader.Fd()))
		if err == nil {
			err = syscall.SetNonblock(terminal, true)
		}
		return terminal, err
	}
	return typist
}

// The live line stands above the row in which somebody may be typing, and changes without touching it.
func TestTypedRowIsCleanWhereverSomethingIsPrinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term, out := newScreenTerminal(60)
		typist := term.listen(t)
		io.WriteString(typist, "before it is read\n")
		term.start()
		q := newRequest([]byte("1"), eventContext{RequestID: "00000000-0000", FunctionName: "orders"})
		live := func(seconds int) string {
			return fmt.Sprintf("\x1b[2m1 running  orders 00000000 %ds\x1b[0m", seconds)
		}
		step := func(what string, do func(), want string) {
			t.Helper()
			shown := len(out.String())
			do()
			synctest.Wait()
			got := out.String()[shown:]
			if !strings.HasSuffix(got, want) {
				t.Errorf("%s: it wrote %q, want %q at the end", what, got, want)
			}
		}
		printed := term.output("orders", false)
		step("begins", func() { term.arrived(q, 0) }, "1 running\n\r\x1b[K"+live(0)+"\n")
		step("time passes", func() { time.Sleep(time.Second) }, "\x1b7\x1b[A\r"+live(1)+"\x1b[K\x1b8")
		step("prints", func() { io.WriteString(printed, "a line\n") },
			"\r\x1b[A\x1b[Ja line\n\r\x1b[K"+live(1)+"\n")
		io.WriteString(typist, "r 1\n")
		step("is read", func() { time.Sleep(liveEvery) }, "\r\x1b[2A\x1b[J\r\x1b[K"+live(1)+"\n")
		if line := <-term.typed.lines; line != "r 1" {
			t.Errorf("read %q", line)
		}
		step("ends", func() {
			term.ended(q, &reply{kind: "response"}, 0)
			time.Sleep(endPause)
		}, " 0 B out\n")
		step("prints when nothing runs", func() { io.WriteString(printed, "another\n") }, "\r\x1b[Kanother\n")
		term.close()
		if strings.Contains(out.String(), live(0)+"\r") {
			t.Error("the live line was wiped from within its row")
		}
	})
}

// What has been printed is there once the screen is free again, and who prints does not wait.
func TestOutputIsHeldBackWhileSomebodyElseHasTheScreen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term, out := newScreenTerminal(60)
		typist := term.listen(t)
		term.start()
		time.Sleep(liveEvery)
		q := newRequest([]byte("1"), eventContext{RequestID: "00000000-0000", FunctionName: "orders"})
		term.arrived(q, 0)
		time.Sleep(liveEvery)
		release := term.holdBack()
		before := out.String()
		printed := term.output("orders", false)
		for n := range 2 * maxPrinted {
			fmt.Fprintf(printed, "line %d\n", n)
		}
		large := strings.Repeat("x", maxHeld/2) + "\n"
		io.WriteString(printed, large)
		io.WriteString(printed, large)
		term.ended(q, &reply{kind: "response"}, 0)
		io.WriteString(typist, "typed for somebody else\n")
		time.Sleep(time.Second)
		if out.String() != before {
			t.Errorf("it wrote %.200q", strings.TrimPrefix(out.String(), before))
		}
		release()
		time.Sleep(time.Second)
		after := strings.TrimPrefix(out.String(), before)
		for _, want := range []string{"line 0\n", fmt.Sprintf("line %d\n", 2*maxPrinted-1), large,
			"0 B out\n",
			"... 1 line not shown\n"} {
			if strings.Count(after, want) != 1 {
				t.Errorf("%d times %.100q in what it wrote then", strings.Count(after, want), want)
			}
		}
		io.WriteString(typist, "next\n")
		time.Sleep(time.Second)
		if line := <-term.typed.lines; line != "next" {
			t.Errorf("read %q", line)
		}
		term.close()
	})
}

func TestHeldBackOutputIsWrittenAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term, out := newScreenTerminal(60)
		term.start()
		term.holdBack()
		term.note("the last line")
		term.close()
		if !strings.Contains(out.String(), "the last line\n") {
			t.Errorf("it wrote %q", out)
		}
	})
}

// A program that is idle uses no processor.
func TestIdleTerminalIsSeldomAsked(t *testing.T) {
	for _, tt := range []struct {
		name      string
		open      bool // lines are read
		signals   bool
		signalled bool
		most      int64 // times in a minute
	}{
		{name: "in the background", signals: true, most: 240},
		{name: "signalled", open: true, signals: true, signalled: true, most: 12},
		{name: "not signalled", open: true, most: 240},
	} {
		synctest.Test(t, func(t *testing.T) {
			term, _ := newScreenTerminal(60)
			term.listen(t)
			var asked atomic.Int64
			term.typed.foreground = func() bool {
				asked.Add(1)
				return tt.open
			}
			if tt.signals {
				term.typed.signals = make(chan os.Signal, 1)
			}
			term.start()
			synctest.Wait()
			if tt.signals {
				term.typed.signalled = tt.signalled
				term.typed.signals <- syscall.SIGIO
				synctest.Wait()
			}
			before := asked.Load()
			time.Sleep(time.Minute)
			synctest.Wait()
			got := asked.Load() - before
			if got > tt.most+1 || got < tt.most-1 {
				t.Errorf("%s: asked %d times in a minute, want %d", tt.name, got, tt.most)
			}
			term.close()
		})
	}
}
