//go:build !layer

package main

// local_start_test.go tests processes that take long to start, or do not start at all, as compilers do.

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// slowStart is a command whose process is a shell at first, which becomes the test's runtime.
type slowStart struct {
	*localRig
	directory string
}

// newSlowStart starts a local end whose processes note each start, wait at a FIFO as long as a file is there
// that holds them, and then become the test's runtime in that mode. The first of them start at once.
func newSlowStart(t *testing.T, mode string, first int) slowStart {
	t.Helper()
	directory := t.TempDir()
	err := syscall.Mkfifo(filepath.Join(directory, "gate"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	script := `cd ` + directory + `; echo >>starts; n=$(wc -l <starts)
		if [ "$n" -gt ` + strconv.Itoa(first) + ` ] && [ -e held ]; then read x <gate; fi; exec "$@"`
	command := append([]string{"/bin/sh", "-c", script, "sh"}, testCommand(mode)...)
	s := slowStart{
		localRig:  newTestLocal(t, localOptions{code: code{command: command}}),
		directory: directory,
	}
	writeText(t, filepath.Join(directory, "held"), "")
	return s
}

// letGo lets the process that is held go on, and those that come hold no longer.
func (s slowStart) letGo() {
	s.Helper()
	f, err := os.OpenFile(filepath.Join(s.directory, "gate"), os.O_WRONLY, 0) // when it has come there
	if err != nil {
		s.Fatal(err)
	}
	os.Remove(filepath.Join(s.directory, "held"))
	f.Close()
}

// wantStarts wants that so many processes have been started.
func (s slowStart) wantStarts(want int) {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(s.directory, "starts"))
	if err != nil || strings.Count(string(text), "\n") != want {
		s.Errorf("%d processes were started, want %d (%v)", strings.Count(string(text), "\n"), want, err)
	}
}

// A process that files have made out of date finishes what it runs, and gets nothing more, even if the
// process of the next request is slow to start.
func TestProcessThatIsToEndGetsNoOtherRequest(t *testing.T) {
	t.Parallel()
	s := newSlowStart(t, "1", 1)
	g := s.newGate("busy")
	busy := s.direct(task{Do: "wait", File: g.file}, s.context())
	gate, err := os.OpenFile(g.file, os.O_WRONLY, 0) // when the handler waits there
	if err != nil {
		t.Fatal(err)
	}
	s.local.restartAll("a.js")
	second := s.direct(task{Do: "pid"}, s.context())
	gate.Close()
	s.reply(busy)
	s.letGo()
	rep, body := s.reply(second)
	if rep.errorType != "" {
		t.Errorf("the second invocation failed: %s", body)
	}
}

// A deadline ends the invocation and not the process, which takes the next one.
func TestProcessThatStartsSlowlyTakesTheNextInvocation(t *testing.T) {
	s := newSlowStart(t, "1", 0)
	for range 3 {
		late := s.direct(task{}, s.context())
		s.local.finish(late, overDeadline)
	}
	next := s.direct(task{Do: "text", Text: "next"}, s.context())
	s.letGo()
	_, body := s.reply(next)
	if body != "next" {
		t.Errorf("the answer is %q", body)
	}
	s.wantStarts(1)
}

func TestDeadlineDoesNotEndAProcessThatStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTestLocal(t, localOptions{code: code{command: []string{"c"}}})
		p := &pool{local: r.local, name: "orders", seen: map[[32]byte]int{}}
		r.local.pools[p.name] = p
		w := newWorker(p)
		w.pool.workers = []*worker{w}
		w.generation = 1
		r.local.mu.Lock()
		w.limitStart()
		r.local.mu.Unlock()
		c := r.context()
		c.DeadlineMs = time.Now().Add(3 * time.Second).UnixMilli()
		w.identity = strings.Join([]string{c.FunctionVersion, "256", c.Region, c.Handler}, "\n")
		q := r.direct(task{}, c)
		r.local.mu.Lock()
		if w.request != q {
			t.Error("the process that starts has not got the request")
		}
		r.local.mu.Unlock()
		time.Sleep(3 * time.Second)
		r.local.finish(q, overDeadline)
		time.Sleep(startLimit - 4*time.Second)
		r.local.mu.Lock()
		if w.retired || w.request != nil {
			t.Errorf("before its limit: retired %t, request %v", w.retired, w.request)
		}
		r.local.mu.Unlock()
		time.Sleep(2 * time.Second)
		r.local.mu.Lock()
		if !w.retired || w.cause != restartUnstarted {
			t.Errorf("after its limit: retired %t because %q", w.retired, w.cause)
		}
		r.local.mu.Unlock()
		r.out.wait(r, "orders: ended a process that has not asked for an event within 15 minutes")
	})
}

// The others wait for the first process. Once that has started they have processes of their own.
func TestInvocationsDuringTheFirstStartStartNoOtherProcess(t *testing.T) {
	t.Parallel()
	s := newSlowStart(t, "1", 0)
	var asked []*request
	var gates []gate
	for range 5 {
		g := s.newGate("gate")
		gates = append(gates, g)
		asked = append(asked, s.direct(task{Do: "wait", File: g.file}, s.context()))
	}
	s.local.mu.Lock()
	p := s.local.pools["orders"]
	if len(p.workers) != 1 || len(p.queue) != 4 {
		t.Errorf("%d processes, and %d invocations wait; want 1 and 4", len(p.workers), len(p.queue))
	}
	s.local.mu.Unlock()
	s.letGo()
	var open []*os.File
	for _, g := range gates { // all of them are with a handler at once
		f, err := os.OpenFile(g.file, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	s.wantStarts(5)
	for _, f := range open {
		f.Close()
	}
	for _, q := range asked {
		s.reply(q)
	}
}

// Of a request that is over, another process of the function starts only if the one that it leaves behind
// does not suit.
func TestFirstStartOfAnotherEnvironmentWaitsForNobody(t *testing.T) {
	t.Parallel()
	s := newSlowStart(t, "1", 0)
	first := s.direct(task{}, s.context())
	c := s.context()
	c.Handler = "other.handler"
	other := s.direct(task{}, c)
	s.local.mu.Lock()
	p := s.local.pools["orders"]
	waits := slices.Contains(p.queue, other)
	s.local.mu.Unlock()
	if !waits {
		t.Error("the other one does not wait for the first start")
	}
	s.local.finish(first, overDeadline)
	s.local.mu.Lock()
	waits = slices.Contains(p.queue, other)
	s.local.mu.Unlock()
	if waits {
		t.Error("the other one waits for a process that it cannot have")
	}
	s.letGo()
	s.reply(other)
}

// An invocation whose process takes long goes to one that has become free.
func TestFreeProcessTakesTheInvocationOfOneThatStarts(t *testing.T) {
	t.Parallel()
	s := newSlowStart(t, "1", 1)
	g := s.newGate("busy")
	busy := s.direct(task{Do: "wait", File: g.file, Text: "busy"}, s.context())
	f, err := os.OpenFile(g.file, os.O_WRONLY, 0) // when the handler has come
	if err != nil {
		t.Fatal(err)
	}
	waits := s.direct(task{Do: "text", Text: "waits"}, s.context())
	s.local.mu.Lock()
	n := len(s.local.pools["orders"].workers)
	s.local.mu.Unlock()
	if n != 2 {
		t.Errorf("%d processes, want 2", n)
	}
	f.Close()
	s.reply(busy)
	_, body := s.reply(waits)
	if body != "waits" {
		t.Errorf("the answer is %q", body)
	}
}

// One start is enough to know that the code does not start, and what it says of that is for all who wait.
func TestFailureOfTheFirstStartAnswersAllThatWaitForIt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode      string
		errorType string
		message   string
	}{
		{mode: "exit", errorType: "Runtime.ExitError", message: "exit status 3"},
		{mode: "initerror", errorType: "Function.Broken", message: "cannot load"},
	} {
		s := newSlowStart(t, tt.mode, 0)
		var asked []*request
		for range 10 {
			asked = append(asked, s.direct(task{}, s.context()))
		}
		s.letGo()
		for _, q := range asked {
			rep, body := s.reply(q)
			if rep.errorType != tt.errorType || !strings.Contains(body, tt.message) {
				t.Errorf("%s: got %s %s", tt.mode, rep.errorType, body)
			}
			if tt.mode == "exit" && !strings.Contains(body, q.id) {
				t.Errorf("the error of %s is %s", q.id, body)
			}
		}
		s.wantStarts(1)
		s.reply(s.direct(task{}, s.context())) // the next one tries again
		s.wantStarts(2)
	}
}
