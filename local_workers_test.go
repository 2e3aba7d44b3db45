//go:build !layer

package main

// local_workers_test.go tests how handlers' processes start, are shared out, and end.

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Two invocations at once have two processes. There are no more than --max-processes: the rest of the
// invocations wait their turn.
func TestInvocationsAtOnceShareTheProcesses(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}, maxProcesses: 3})
	var waiting []*request
	var gates []gate
	for i := range 3 {
		g := r.newGate("gate")
		gates = append(gates, g)
		do := task{Do: "wait", File: g.file, Text: strconv.Itoa(i)}
		waiting = append(waiting, r.direct(do, r.context()))
	}
	queued := r.direct(task{Do: "pid"}, r.context())
	r.out.wait(r, "queued")
	for _, g := range gates {
		g.pass() // returns when the handler has come
	}
	for i, q := range waiting {
		_, body := r.reply(q)
		if body != strconv.Quote(strconv.Itoa(i)) {
			t.Errorf("invocation %d got %s", i, body)
		}
	}
	r.reply(queued)

	var many []*request
	for range 50 {
		many = append(many, r.direct(task{Do: "pid"}, r.context()))
	}
	pids := map[string]bool{}
	for _, q := range many {
		_, body := r.reply(q)
		pids[body] = true
	}
	if len(pids) > 3 {
		t.Errorf("%d processes", len(pids))
	}
	total, _, _, _ := r.local.term.totals()
	if total.Restarts != 0 {
		t.Errorf("%d restarts", total.Restarts)
	}
}

func TestExitAnswersAsLambdaDoes(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	for _, tt := range []struct {
		code    int
		message string
	}{
		{code: 1, message: "Runtime exited with error: exit status 1"},
		{code: 0, message: "Runtime exited without providing a reason"},
	} {
		c := r.context()
		rep, body := r.reply(r.direct(task{Do: "exit", Code: tt.code}, c))
		want := fmt.Sprintf(`{"errorMessage":"RequestId: %s Error: %s","errorType":"Runtime.ExitError"}`,
			c.RequestID, tt.message)
		if rep.errorType != "Runtime.ExitError" || body != want {
			t.Errorf("exit with %d: got %s %s, want %s", tt.code, rep.errorType, body, want)
		}
	}
}

// A process that is killed answers as one that exits. Its children are ended, and the next invocation works.
func TestKilledProcessIsReplaced(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	_, body := r.reply(r.direct(task{Do: "pid"}, r.context()))
	pid, _ := strconv.Atoi(body)
	fifo := r.newGate("hang")
	q := r.direct(task{Do: "hang", File: fifo.file}, r.context())
	f := openRead(t, fifo)
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
}

// What has come of it before is passed on.
func TestExitCutsOffStream(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	g := r.newGate("gate")
	q := r.direct(task{Do: "stream", File: g.file, Pieces: []string{"one", "two"}, Code: 4}, r.context())
	for _, size := range []int64{3, 6} {
		r.awaitData(q, size)
		g.pass()
	}
	rep, body := r.reply(q)
	if body != "onetwo" {
		t.Errorf("got %q", body)
	}
	trailer, _ := base64.StdEncoding.DecodeString(rep.trailers[bodyHeader])
	errorType := rep.trailers[typeHeader]
	if errorType != "Runtime.ExitError" || !strings.Contains(string(trailer), "exit status 4") {
		t.Errorf("got %q and %s", errorType, trailer)
	}
}

// awaitData waits until so much of q's reply has come.
func (r *localRig) awaitData(q *request, size int64) {
	r.Helper()
	for {
		rep, _, _ := r.local.look(q)
		if rep != nil && rep.data.length() >= size {
			return
		}
		select {
		case <-q.news:
		case <-r.ctx.Done():
			r.Fatal("the reply does not come")
		}
	}
}

// It answers the invocation that it was started for, and so does the next one.
func TestProcessThatDoesNotStartAnswersItsInvocation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		command   []string
		errorType string
		message   string
		note      string // on the terminal
	}{
		{
			command:   testCommand("exit"),
			errorType: "Runtime.ExitError",
			message:   "exit status 3",
			note:      "did not start",
		},
		{
			command:   testCommand("initerror"),
			errorType: "Function.Broken",
			message:   "cannot load",
			note:      "cannot load",
		},
		{
			command:   []string{"/nonexistent/command"},
			errorType: "Runtime.InvalidEntrypoint",
			message:   "no such file",
			note:      "did not start",
		},
	} {
		r := newTestLocal(t, localOptions{code: code{command: tt.command}})
		for range 2 {
			rep, body := r.reply(r.direct(task{}, r.context()))
			if rep.errorType != tt.errorType || !strings.Contains(body, tt.message) {
				t.Errorf("%v: got %s %s", tt.command, rep.errorType, body)
			}
		}
		r.out.wait(r, tt.note)
	}
}

// openRead opens a FIFO that a process writes to, or holds open, as soon as that does.
func openRead(t *testing.T, g gate) *os.File {
	t.Helper()
	f, err := os.Open(g.file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// hungProcess starts an invocation that does not end, or not after its answer if that is not empty. Reading
// the file that it returns ends when nothing is left of its process.
func hungProcess(t *testing.T, r *localRig, deadline time.Duration, answer string) *os.File {
	t.Helper()
	fifo := r.newGate("hang")
	c := r.context()
	c.DeadlineMs = time.Now().Add(deadline).UnixMilli()
	r.direct(task{Do: "hang", File: fifo.file, Text: answer}, c)
	return openRead(t, fifo)
}

// So are its children. It makes no difference whether it hangs before its answer or after it.
func TestProcessThatHangsIsEndedAfterTheDeadline(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	io.Copy(io.Discard, hungProcess(t, r, 0, ""))
	r.out.wait(r, "did not come back")
	io.Copy(io.Discard, hungProcess(t, r, 0, "answered"))
	r.out.waitTimes(r, "did not come back", 2)
}

// A child with a session of its own is in no process group that this program knows.
func TestDetachedChildIsEnded(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("it is found in /proc")
	}
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	fifo := r.newGate("detached")
	f, err := os.OpenFile(fifo.file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r.reply(r.direct(task{Do: "detach", File: fifo.file}, r.context()))
	io.Copy(io.Discard, f)
}

func TestCloseEndsProcessThatHangs(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	last := hungProcess(t, r, time.Hour, "")
	r.local.close()
	io.Copy(io.Discard, last)
}

// An environment with older credentials lives on beside the one with newer ones, and may use its process.
func TestOnlyNewerCredentialsRestartProcess(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	pid := func(token string) string {
		t.Helper()
		c := r.context()
		c.Environment = map[string]string{
			"AWS_SESSION_TOKEN":          token,
			"AWS_LAMBDA_LOG_STREAM_NAME": c.RequestID,
		}
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

func TestOptionsSayWhichFunctionsAreServed(t *testing.T) {
	command := []string{"c"}
	for _, tt := range []struct {
		name     string
		opts     localOptions
		function string
		served   bool
		command  string
	}{
		{
			name:     "a command is for every function",
			opts:     localOptions{code: code{command: command}},
			function: "orders",
			served:   true,
			command:  "c",
		},
		{
			name:     "a pattern of --function matches",
			opts:     localOptions{code: code{command: command}, functions: []string{"pay", "ord*"}},
			function: "orders",
			served:   true,
			command:  "c",
		},
		{
			name:     "no pattern of --function matches",
			opts:     localOptions{code: code{command: command}, functions: []string{"pay"}},
			function: "orders",
		},
		{
			name:     "--map names it",
			opts:     localOptions{maps: map[string]code{"pay": {command: []string{"p"}}}},
			function: "pay",
			served:   true,
			command:  "p",
		},
		{
			name:     "--map alone names another",
			opts:     localOptions{maps: map[string]code{"pay": {command: []string{"p"}}}},
			function: "orders",
		},
		{
			name: "--map names another, and there is a command",
			opts: localOptions{
				code: code{command: command},
				maps: map[string]code{"pay": {command: []string{"p"}}},
			},
			function: "orders",
			served:   true,
			command:  "c",
		},
		{
			name: "--map names it, --function does not",
			opts: localOptions{
				code:      code{command: command},
				maps:      map[string]code{"p*": {command: []string{"p"}}},
				functions: []string{"x"},
			},
			function: "pay",
			served:   true,
			command:  "p",
		},
		{
			name:     "a debugger starts the runtime",
			opts:     localOptions{code: code{external: true}},
			function: "orders",
			served:   true,
		},
	} {
		got, served := newLocal(tt.opts, nil).serves(tt.function)
		if served != tt.served || served && strings.Join(got.command, " ") != tt.command {
			t.Errorf("%s: %s is served: %t by %q", tt.name, tt.function, served, got.command)
		}
	}
}

// requestOfEnvironment returns a request of an environment of its own, which i tells apart.
func requestOfEnvironment(r *localRig, i int) *request {
	c := r.context()
	c.Environment = map[string]string{"AWS_SESSION_TOKEN": strconv.Itoa(i)}
	return newRequest(nil, c)
}

func TestEnvironmentsAreCountedUpToALimit(t *testing.T) {
	r := newTestLocal(t, localOptions{code: code{external: true}})
	p := &pool{local: r.local, seen: map[[32]byte]int{}}
	for i := range maxEnvironments + 1 {
		q := requestOfEnvironment(r, i)
		p.classify(q)
		want := i%maxEnvironments + 1
		if q.generation != want {
			t.Fatalf("environment %d is counted as %d, want %d", i, q.generation, want)
		}
	}
	if len(p.seen) != 1 {
		t.Errorf("%d environments are told apart after the limit, want 1", len(p.seen))
	}
}

// A process that is started for one that waits is older than any environment that comes after the limit.
func TestWaitingRequestsAreOldWhenEnvironmentsAreForgotten(t *testing.T) {
	r := newTestLocal(t, localOptions{code: code{external: true}})
	p := &pool{local: r.local, seen: map[[32]byte]int{}}
	var waiting *request
	for i := range maxEnvironments {
		waiting = requestOfEnvironment(r, i)
		p.classify(waiting)
	}
	p.queue = []*request{waiting}
	newest := requestOfEnvironment(r, maxEnvironments)
	p.classify(newest)
	w := &worker{pool: p, identity: waiting.identity, generation: waiting.generation}
	if !w.suits(waiting) || w.suits(newest) {
		t.Errorf("a process of generation %d takes requests of %d: %t, and of %d: %t",
			w.generation, waiting.generation, w.suits(waiting), newest.generation, w.suits(newest))
	}
}

// Each of these ends a process, or has ended one.
func TestSummaryCountsRestartsByCause(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}, maxProcesses: 1})
	pid := func(c eventContext) {
		t.Helper()
		r.reply(r.direct(task{Do: "pid"}, c))
	}
	pid(r.context())
	for range 2 {
		r.local.restartAll("a file")
		pid(r.context())
	}
	r.reply(r.direct(task{Do: "exit", Code: 1}, r.context()))
	pid(r.context())
	c := r.context()
	c.Environment = map[string]string{"AWS_SESSION_TOKEN": "new"}
	pid(c)
	c.FunctionName = "broken"
	r.local.opts.maps = map[string]code{"broken": {command: []string{"/nonexistent/command"}}}
	r.reply(r.direct(task{}, c))
	c = r.context()
	c.FunctionName = "hangs"
	c.DeadlineMs = time.Now().UnixMilli()
	fifo := r.newGate("hang")
	r.direct(task{Do: "hang", File: fifo.file}, c)
	io.Copy(io.Discard, openRead(t, fifo))
	r.local.close()
	total, _, _, _ := r.local.term.totals()
	want := "6 restarts (files changed: 2, exited: 1, did not start: 1, new environment: 1, " +
		"past its deadline: 1)"
	if total.restartsText() != want {
		t.Errorf("it says %q, want %q", total.restartsText(), want)
	}
	text := string(mustJSON(total))
	wantJSON := `"restarts":6,"restart_causes":{"did not start":1,"exited":1,"files changed":2,` +
		`"new environment":1,"past its deadline":1}}`
	if !strings.HasSuffix(text, wantJSON) {
		t.Errorf("as JSON it says %s, want %s", text, wantJSON)
	}
}

// The test's runtime exits if its port is taken.
func TestReplacementStartsWhenTheOldProcessHasGone(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	address := ln.Addr().String()
	ln.Close()
	command := append([]string{"env", "TEST_PORT=" + address}, testCommand("port")...)
	r := newTestLocal(t, localOptions{code: code{command: command}, maxProcesses: 1})
	pids := map[string]bool{}
	for i := range 4 {
		_, pid := r.reply(r.direct(task{Do: "pid"}, r.context()))
		pids[pid] = true
		r.local.restartAll("file" + strconv.Itoa(i))
	}
	if len(pids) != 4 || strings.Contains(r.out.String(), "did not start") {
		t.Errorf("%d processes; it printed\n%s", len(pids), r.out)
	}
}

// So it is with files that are saved, a handler in Node.js and a port that is the same each time.
func TestHandlerOnAPortOutlivesSaves(t *testing.T) {
	needs(t, "node")
	inDirectory(t, nil)
	ln := listen(t)
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	save := func(version int) {
		writeText(t, "index.mjs", fmt.Sprintf(`
			import http from 'node:http';
			const server = http.createServer();
			await new Promise((ready, failed) => {
				server.on('error', failed);
				server.listen(%d, '127.0.0.1', ready);
			});
			export const handler = async () => 'version %d';`, port, version))
	}
	save(10)
	r := newTestLocal(t, localOptions{code: code{handler: "index.handler"}})
	r.background(func(ctx context.Context) { r.local.watch(ctx, nil) })
	r.out.wait(r, "watching 1 file")
	r.reply(r.direct(task{}, r.context()))
	for i, version := range []int{100, 1000, 10000} { // of other lengths, in case that no time passes
		save(version)
		r.out.waitTimes(r, "index.mjs has changed", i+1)
		_, body := r.reply(r.direct(task{}, r.context()))
		want := fmt.Sprintf(`"version %d"`, version)
		if body != want {
			t.Errorf("got %s, want %s", body, want)
		}
	}
	r.local.close()
	total, _, _, _ := r.local.term.totals()
	if total.restartsText() != "3 restarts (files changed)" {
		t.Errorf("it says %q", total.restartsText())
	}
}

// A file that hangs when it is loaded must not keep a request of a newer environment from its process.
func TestProcessThatStartsForNobodyMakesRoom(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}, maxProcesses: 1})
	p := &pool{local: r.local, name: "orders", seen: map[[32]byte]int{}}
	hangs := newWorker(p)
	hangs.identity = "older"
	p.workers = []*worker{hangs}
	r.local.pools[p.name] = p
	q := r.direct(task{Do: "pid"}, r.context())
	r.local.mu.Lock()
	if !hangs.retired || p.leaving != 1 || len(p.workers) != 0 {
		t.Errorf("retired %t, %d leave, %d are there", hangs.retired, p.leaving, len(p.workers))
	}
	p.leaving = 0 // as if it had ended
	r.local.schedule(p)
	r.local.mu.Unlock()
	r.reply(q)
}

func TestFreedProcessMakesRoomForAnotherFunction(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}, maxProcesses: 3})
	g := r.newGate("gate")
	c := r.context()
	c.FunctionName = "a"
	busy := r.direct(task{Do: "wait", File: g.file}, c)
	z := &pool{local: r.local, name: "z", seen: map[[32]byte]int{}}
	for range allProcesses - 1 {
		w := newWorker(z)
		w.become(stateRunning)
		z.workers = append(z.workers, w)
	}
	r.local.mu.Lock()
	r.local.pools["z"] = z
	r.local.mu.Unlock()
	c = r.context()
	c.FunctionName = "b"
	waits := r.direct(task{Do: "pid"}, c)
	g.pass()
	r.reply(busy)
	r.reply(waits)
}

// Its replacement would start in a pool that nobody knows.
func TestFunctionWhoseProcessIsEndingIsNotForgotten(t *testing.T) {
	r := newTestLocal(t, localOptions{code: code{external: true}})
	r.local.mu.Lock()
	defer r.local.mu.Unlock()
	p := r.local.poolOf("first")
	p.leaving = 1
	for i := range maxPools {
		r.local.poolOf(strconv.Itoa(i))
	}
	if r.local.poolOf("first") != p {
		t.Error("the function's pool is another one")
	}
}
