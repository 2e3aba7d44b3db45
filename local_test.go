//go:build !layer

package main

// local_test.go runs the command local, as a process: interrupts, ends, which functions it serves.

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// It also says what it waits for, and sums up.
func TestInterruptLetsRunningInvocationsFinish(t *testing.T) {
	r := newRemoteRig(t)
	c := r.startLocal(append([]string{"--"}, testCommand("1")...)...)
	r.invoke(task{}, r.context())
	g := r.newGate("gate")
	call := r.send(task{Do: "wait", File: g.file, Text: "last"}, r.context())
	f, err := os.OpenFile(g.file, os.O_WRONLY, 0) // when the handler has come
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Process.Signal(os.Interrupt)
	c.stdout.wait(r, "waiting for orders 00000000; interrupt once more")
	f.Close()
	r.await(call).want(r, "", `"last"`)
	call.finish()
	c.exit(0)
	if !strings.Contains(c.stdout.String(), " 2 invocations, 0 errors, median ") {
		t.Errorf("it printed\n%s", c.stdout)
	}
}

// The callers hear of it. With --json each line of all that is an object.
func TestSecondInterruptEndsEverything(t *testing.T) {
	r := newRemoteRig(t)
	c := r.startLocal(append([]string{"--json", "--"}, testCommand("1")...)...)
	fifo := r.newGate("hang")
	call := r.send(task{Do: "hang", File: fifo.file}, r.context())
	f := openRead(t, fifo)
	c.cmd.Process.Signal(syscall.SIGTERM)
	c.stdout.wait(r, "interrupt once more")
	c.cmd.Process.Signal(os.Interrupt)
	g := r.await(call)
	if g.errorType != "LiveLambda.Stopped" {
		t.Errorf("the caller got %q", g.errorType)
	}
	call.finish()
	io.Copy(io.Discard, f)
	c.exit(1)
	for line := range strings.Lines(c.stdout.String()) {
		var e report
		err := json.Unmarshal([]byte(line), &e)
		if err != nil || e.Type == "" || e.Time.IsZero() {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// Several functions have processes of their own, and what these print is marked. A function that is not
// served is left alone. --verbose shows events.
func TestLocalServesTheFunctionsThatFlagsName(t *testing.T) {
	r := newRemoteRig(t)
	args := []string{
		"--verbose",
		"--function", "ord*",
		"--map", "pay=exec env TEST_RUNTIME=1 " + os.Args[0],
		"--",
	}
	c := r.startLocal(append(args, testCommand("1")...)...)
	as := func(name string) eventContext {
		c := r.context()
		c.FunctionName = name
		return c
	}
	r.invoke(task{Do: "print", Text: "one\n"}, as("orders"))
	c.stdout.wait(r, "\none\n")
	alone := r.send(task{}, as("stock"))
	c.stdout.wait(r, "left alone: invocations of stock")
	r.invoke(task{Do: "print", Text: "two\nthree\n"}, as("pay"))
	c.stdout.wait(r, "pay | two\npay | three\n")
	alone.t.mu.Lock()
	if alone.heardOn != nil {
		t.Error("an invocation that is not served was accepted")
	}
	alone.t.mu.Unlock()
	c.stdout.wait(r, "    event: {\n")
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
}

// inShutDown runs a test in a bubble, which also notices a goroutine that is left behind.
func inShutDown(t *testing.T, test func(r *localRig, s *subscriber)) {
	synctest.Test(t, func(t *testing.T) {
		r := newTestLocal(t, localOptions{code: code{external: true}})
		test(r, newSubscriber(nil, r.local))
	})
}

// It runs many times because a choice among several ready channels would be drawn.
func TestHangupWithNothingAtHandIsNoFailure(t *testing.T) {
	for range 50 {
		inShutDown(t, func(r *localRig, s *subscriber) {
			status := r.local.shutDown(s, make(chan os.Signal), true)
			if status != 0 || strings.Contains(r.out.String(), "ending everything") {
				t.Errorf("the exit status is %d; it printed %q", status, r.out)
			}
		})
	}
}

func TestHangupEndsWhatIsAtHand(t *testing.T) {
	inShutDown(t, func(r *localRig, s *subscriber) {
		err := r.local.admit(newRequest(nil, r.context()))
		if err != nil {
			t.Fatal(err)
		}
		status := r.local.shutDown(s, make(chan os.Signal), true)
		if status != 1 {
			t.Errorf("the exit status is %d", status)
		}
	})
}

// That nobody reads what is printed is no interrupt.
func TestInterruptWaitsForWhatIsAtHand(t *testing.T) {
	inShutDown(t, func(r *localRig, s *subscriber) {
		q := newRequest(nil, r.context())
		err := r.local.admit(q)
		if err != nil {
			t.Fatal(err)
		}
		signals := make(chan os.Signal)
		ended := make(chan int)
		go func() { ended <- r.local.shutDown(s, signals, false) }()
		time.Sleep(2 * oneInterrupt) // of the bubble's time
		signals <- syscall.SIGPIPE
		r.local.release(q)
		status := <-ended
		if status != 0 {
			t.Errorf("the exit status is %d", status)
		}
	})
}
