//go:build !layer

package main

// local_invoke_test.go runs the command invoke, as a process.

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// The recording is for the developer alone, and without the function's credentials.
func TestInvokeRunsWhatRecordHasKept(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	directory := filepath.Join(t.TempDir(), "events")
	c := r.startLocal(append([]string{"--record", directory, "--"}, testCommand("1")...)...)
	recorded := r.context()
	recorded.Environment = map[string]string{"AWS_SECRET_ACCESS_KEY": "hush"}
	r.invoke([]byte(`{"Do":"headers","n":1.0}`), recorded)
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
	files, err := filepath.Glob(directory + "/*.json")
	if err != nil || len(files) != 1 {
		t.Fatalf("recorded %v, %v", files, err)
	}
	text, _ := os.ReadFile(files[0])
	info, _ := os.Stat(files[0])
	if info.Mode() != 0o600 || bytes.Contains(text, []byte("hush")) ||
		!bytes.Contains(text, []byte(`{"Do":"headers","n":1.0}`)) {
		t.Errorf("recorded, with %v: %s", info.Mode(), text)
	}

	c = r.command("", append([]string{"invoke", files[0], "--"}, testCommand("1")...)...)
	c.exit(0)
	out := c.stdout.String()
	if !strings.Contains(out, recorded.RequestID) || !strings.Contains(out, recorded.InvokedFunctionARN) {
		t.Errorf("invoke printed %s", out)
	}
}

// If the function fails, the exit status is 1.
func TestInvokeRunsAnyEvent(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{external: true}})
	for _, tt := range []struct {
		stdin  string
		status int
		stdout string // if the status is 1, a part of it
		stderr string // a part of it
	}{
		{
			stdin:  `{"a":1}`,
			stdout: `{"a":1}` + "\n",
		},
		{ // no recording, though it looks like one
			stdin:  `{"event_payload":1,"context":{},"more":2}`,
			stdout: `{"event_payload":1,"context":{},"more":2}` + "\n",
		},
		{
			stdin:  `{"Do":"error","Text":"{\"errorType\":\"E\",\"errorMessage\":\"m\"}","Type":"E"}`,
			status: 1,
			stdout: `{"errorType":"E","errorMessage":"m"}`,
		},
		{
			stdin:  `{"Do":"exit","Code":7}`,
			status: 1,
			stdout: `exit status 7`,
		},
		{
			stdin:  `{"Do":"stream","Pieces":["one","two"]}`,
			stdout: `onetwo`,
		},
		{
			stdin: `{"Do":"stream","Pieces":["one"],` +
				`"Text":"{\"errorType\":\"E\",\"errorMessage\":\"broken off\"}"}`,
			status: 1,
			stdout: `one`,
			stderr: "the function failed: E: broken off",
		},
		{ // what handlers print is not the answer
			stdin:  `{"Do":"print","Text":"to stderr"}`,
			stdout: `null` + "\n",
		},
		{
			stdin:  `{"Do":"text","Text":"<p>","Type":"text/html"}`,
			stdout: "<p>",
		},
		{ // as it is, even if it could be JSON
			stdin:  `{"Do":"text","Text":"1","Type":"application/octet-stream"}`,
			stdout: "1",
		},
		{ // what curl says of itself
			stdin:  `{"Do":"text","Text":"1","Type":"application/x-www-form-urlencoded"}`,
			stdout: "1\n",
		},
		{
			stdin:  `{"Do":"text","Text":"1\n","Type":"application/json; charset=utf-8"}`,
			stdout: "1\n",
		},
		{
			stdin:  `not JSON`,
			status: 2,
		},
	} {
		c := r.command(tt.stdin, append([]string{"invoke", "--"}, testCommand("1")...)...)
		c.exit(tt.status)
		out := c.stdout.String()
		if out != tt.stdout && !(tt.status == 1 && strings.Contains(out, tt.stdout)) {
			t.Errorf("%s: printed %q, want %q", tt.stdin, out, tt.stdout)
		}
		if !strings.Contains(c.stderr.String(), tt.stderr) {
			t.Errorf("%s: said %q, want %q", tt.stdin, c.stderr, tt.stderr)
		}
	}
}

// A change is made in the recording's event, not in its context.
func TestInvokeRunsASampleAndWhatSetChanges(t *testing.T) {
	r := newTestLocal(t, localOptions{code: code{external: true}})
	directory := inDirectory(t, map[string]string{
		"kept.json": `{"event_payload":{"n":1.0,"m":2},"context":{"function_name":"orders"}}`})
	kept := filepath.Join(directory, "kept.json")
	tests := []struct {
		name, args, stdin string
		status            int
		stdout, stderr    string
	}{
		{
			name: "a sample", args: "--event step-functions",
			stdout: `{"input":{"orderId":"1001","total":42.5},"taskToken":"EXAMPLETASKTOKEN="}` + "\n",
		},
		{
			name:   "a sample with changes",
			args:   "--set input.total=7 --event step-functions --set taskToken=t",
			stdout: `{"input":{"orderId":"1001","total":7},"taskToken":"t"}` + "\n",
		},
		{name: "a recording with a change", args: "--set m=3 " + kept, stdout: `{"n":1.0,"m":3}` + "\n"},
		{name: "standard input with a change", args: "--set a.b=3", stdin: `{"a":{"b":1}}`,
			stdout: `{"a":{"b":3}}` + "\n"},
		{name: "a file beside a sample", args: "--event sqs " + kept, status: 2,
			stderr: fmt.Sprintf("there is no use for %q beside --event", kept)},
		{name: "no such sample", args: "--event sqss", status: 2,
			stderr: `there is no sample event "sqss"; near it: sqs, sns, ses`},
		{name: "no such place", args: "--set context.n=1 " + kept, status: 2,
			stderr: "--set context.n: the event has no context; it has n, m"},
	}
	for _, tt := range tests {
		args := append([]string{"invoke"}, strings.Fields(tt.args)...)
		c := r.command(tt.stdin, append(append(args, "--"), testCommand("1")...)...)
		c.exit(tt.status)
		if c.stdout.String() != tt.stdout {
			t.Errorf("%s: printed %q, want %q", tt.name, c.stdout, tt.stdout)
		}
		if !strings.Contains(c.stderr.String(), tt.stderr) {
			t.Errorf("%s: said %q, want %q", tt.name, c.stderr, tt.stderr)
		}
	}
}

// The handler ignores SIGTERM, so it takes a while to end it. npm, for one, passes on an interrupt that its
// child gets too.
func TestInvokeInterruptedTwiceLeavesNoHandler(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{external: true}})
	fifo := r.newGate("hang")
	const script = `trap "" TERM; exec 9>"$0"; echo $$ >&9; while :; do sleep 1; done`
	c := r.command("1", "invoke", "--", "sh", "-c", script, fifo.file)
	f := openRead(t, fifo)
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Process.Signal(os.Interrupt)
	c.stderr.wait(r, "interrupted")
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(1)
	if t.Failed() {
		pid, _ := strconv.Atoi(strings.TrimSpace(line))
		syscall.Kill(pid, syscall.SIGKILL)
	}
	io.Copy(io.Discard, f) // ends when the handler and its children are gone
}

// invokeUnanswered has an event wait for a process, of which there is none, until ctx is done or its deadline
// has come. It returns what the terminal shows.
func invokeUnanswered(t *testing.T, ctx context.Context) string {
	t.Helper()
	r := newTestLocal(t, localOptions{code: code{external: true}})
	c := r.context()
	c.DeadlineMs = time.Now().Add(time.Second).UnixMilli()
	err := r.local.invoke(ctx, newRequest([]byte("1"), c), io.Discard, false)
	if err == nil {
		t.Error("nothing has failed")
	}
	r.local.term.note("all is told")
	r.out.wait(r, "all is told")
	return r.out.String()
}

// Its caller has not got an error yet.
func TestInterruptedInvocationIsNotToldAsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		text := invokeUnanswered(t, ctx)
		if !strings.Contains(text, "this end stopped before it had an answer") ||
			strings.Contains(text, "deadline passed") {
			t.Errorf("the terminal shows %s", text)
		}
	})
}

func TestInvocationPastItsDeadlineIsToldAsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := invokeUnanswered(t, t.Context())
		if !strings.Contains(text, "deadline passed, the caller got an error") {
			t.Errorf("the terminal shows %s", text)
		}
	})
}
