//go:build !layer

package main

// local_workers_test.go tests how handlers' processes start, are shared out, and end.

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Two invocations at once have two processes, and no more than --max-processes; the rest wait their turn.
func TestLocalProcesses(t *testing.T) {
	r := newTestLocal(t, localOptions{command: testCommand("1"), maxProcesses: 3})
	var waiting []*request
	var gates []gate
	for i := range 3 {
		gates = append(gates, r.newGate("gate"))
		waiting = append(
			waiting, r.direct(task{Do: "wait", File: gates[i].file, Text: strconv.Itoa(i)}, r.context()))
	}
	queued := r.direct(task{Do: "pid"}, r.context())
	r.out.wait(r, "queued")
	for _, g := range gates {
		g.pass()
	}
	for i, q := range waiting {
		if _, body := r.reply(q); body != strconv.Quote(strconv.Itoa(i)) {
			t.Errorf("invocation %d got %s", i, body)
		}
	}
	r.reply(queued)
	pids := map[string]bool{}
	var many []*request
	for range 50 {
		many = append(many, r.direct(task{Do: "pid"}, r.context()))
	}
	for _, q := range many {
		_, body := r.reply(q)
		pids[body] = true
	}
	if len(pids) > 3 {
		t.Errorf("%d processes", len(pids))
	}
	if r.local.term.restarts != 0 {
		t.Errorf("%d restarts", r.local.term.restarts)
	}
}

// A process that fails answers as Lambda does, and the next invocation works.
func TestLocalExits(t *testing.T) {
	r := newTestLocal(t, localOptions{command: testCommand("1")})
	exit := func(do task, errorType, message string) {
		t.Helper()
		c := r.context()
		rep, body := r.reply(r.direct(do, c))
		want := fmt.Sprintf(
			`{"errorMessage":"RequestId: %s Error: %s","errorType":"%s"}`, c.RequestID, message, errorType)
		if rep.errorType != errorType || body != want {
			t.Errorf("%+v: got %s %s, want %s", do, rep.errorType, body, want)
		}
	}
	exit(task{Do: "exit", Code: 1}, "Runtime.ExitError", "Runtime exited with error: exit status 1")
	exit(task{Do: "exit"}, "Runtime.ExitError", "Runtime exited without providing a reason")
	_, body := r.reply(r.direct(task{Do: "pid"}, r.context()))
	pid, _ := strconv.Atoi(body)
	fifo := r.newGate("hang")
	c := r.context()
	q := r.direct(task{Do: "hang", File: fifo.file}, c)
	f, err := os.Open(fifo.file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line, _ := bufio.NewReader(f).ReadString('\n')
	if line != strconv.Itoa(pid)+"\n" {
		t.Errorf("process %q hangs, want the warm one, %d", line, pid)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	rep, body := r.reply(q)
	if rep.errorType != "Runtime.ExitError" ||
		!strings.Contains(body, "Runtime exited with error: signal: killed") {
		t.Errorf("got %s", body)
	}
	io.Copy(io.Discard, f) // ends when its child is gone, too
	r.reply(r.direct(task{}, r.context()))

	// A stream that the exit cuts off.
	rep, body = r.reply(r.direct(task{Do: "stream", Pieces: []string{"one", "two"}, Code: 4}, r.context()))
	trailer, _ := base64.StdEncoding.DecodeString(rep.trailers[bodyHeader])
	if !strings.HasPrefix("onetwo", body) || rep.trailers[typeHeader] != "Runtime.ExitError" ||
		!strings.Contains(string(trailer), "exit status 4") {
		t.Errorf("got %q and %s", body, trailer)
	}
}

// A process that does not start answers the invocation that it was started for.
func TestLocalInitFails(t *testing.T) {
	for _, tt := range []struct {
		command                  []string
		errorType, message, note string
	}{
		{command: testCommand("exit"), errorType: "Runtime.ExitError", message: "exit status 3",
			note: "did not start"},
		{command: testCommand("initerror"), errorType: "Function.Broken", message: "cannot load"},
		{command: []string{"/nonexistent/command"}, errorType: "Runtime.InvalidEntrypoint",
			message: "no such file", note: "did not start"},
	} {
		r := newTestLocal(t, localOptions{command: tt.command})
		for range 2 {
			rep, body := r.reply(r.direct(task{}, r.context()))
			if rep.errorType != tt.errorType || !strings.Contains(body, tt.message) {
				t.Errorf("%v: got %s %s", tt.command, rep.errorType, body)
			}
		}
		r.out.wait(r, tt.note)
	}
}

// A process that does not come back after the deadline is ended, its children too; and so is everything at
// the end.
func TestLocalLeavesNothing(t *testing.T) {
	r := newTestLocal(t, localOptions{command: testCommand("1")})
	hang := func(deadline time.Duration, answer string) *os.File {
		t.Helper()
		fifo := r.newGate("hang")
		c := r.context()
		c.DeadlineMs = time.Now().Add(deadline).UnixMilli()
		r.direct(task{Do: "hang", File: fifo.file, Text: answer}, c)
		f, err := os.Open(fifo.file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	late, last := hang(0, ""), hang(time.Hour, "")
	io.Copy(io.Discard, late)
	r.out.wait(r, "did not come back")
	late = hang(0, "answered")
	io.Copy(io.Discard, late)
	r.out.waitTimes(r, "did not come back", 2)
	if runtime.GOOS == "linux" {
		fifo := r.newGate("detached")
		f, err := os.OpenFile(fifo.file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r.reply(r.direct(task{Do: "detach", File: fifo.file}, r.context()))
		io.Copy(io.Discard, f)
	}
	r.local.close()
	io.Copy(io.Discard, last)
}

// A process that never asks for an event is ended after the deadline of the one that it was started for.
func TestLocalHangsAtStart(t *testing.T) {
	r := newTestLocal(t, localOptions{command: testCommand("hang"), maxProcesses: 1})
	c := r.context()
	c.DeadlineMs = time.Now().UnixMilli()
	r.direct(task{}, c)
	r.out.wait(r, "did not come back")
}

// New credentials restart a function's process; those of an older environment, which lives on beside it, do
// not.
func TestLocalCredentialsRestart(t *testing.T) {
	r := newTestLocal(t, localOptions{command: testCommand("1")})
	pid := func(token string) string {
		t.Helper()
		c := r.context()
		c.Environment = map[string]string{
			"AWS_SESSION_TOKEN": token, "AWS_LAMBDA_LOG_STREAM_NAME": c.RequestID}
		_, body := r.reply(r.direct(task{Do: "pid"}, c))
		return body
	}
	one := pid("1")
	if pid("1") != one {
		t.Error("the same credentials have restarted the process")
	}
	two := pid("2")
	if two == one {
		t.Error("new credentials have not restarted the process")
	}
	if pid("1") != two || pid("2") != two {
		t.Error("older credentials have restarted the process")
	}
}

func TestLocalServes(t *testing.T) {
	for _, tt := range []struct {
		opts     localOptions
		function string
		command  string
		served   bool
	}{
		{opts: localOptions{command: []string{"c"}}, function: "orders", command: "c", served: true},
		{opts: localOptions{command: []string{"c"}, functions: []string{"pay", "ord*"}}, function: "orders",
			command: "c", served: true},
		{opts: localOptions{command: []string{"c"}, functions: []string{"pay"}}, function: "orders"},
		{opts: localOptions{maps: map[string][]string{"pay": {"p"}}}, function: "pay", command: "p",
			served: true},
		{opts: localOptions{maps: map[string][]string{"pay": {"p"}}}, function: "orders"},
		{opts: localOptions{command: []string{"c"}, maps: map[string][]string{"pay": {"p"}}},
			function: "orders", command: "c", served: true},
		{opts: localOptions{
			command: []string{"c"}, maps: map[string][]string{"p*": {"p"}}, functions: []string{"x"}},
			function: "pay",
			command:  "p", served: true},
		{opts: localOptions{}, function: "orders", served: true},
	} {
		command, served := newLocal(tt.opts, nil).serves(tt.function)
		if served != tt.served || served && strings.Join(command, " ") != tt.command {
			t.Errorf("%+v: %s is served: %t by %q", tt.opts, tt.function, served, command)
		}
	}
}
