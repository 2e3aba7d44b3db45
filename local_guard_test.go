//go:build !layer

package main

// local_guard_test.go tests that nothing is left of handlers if the local end is killed.

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// hangs starts `live-lambda local`, and in it a handler that does not answer. Reading the file that it
// returns ends when nothing is left of the handler's process and its children, which ignore SIGTERM.
func hangs(r *localRig, args ...string) (*started, *os.File, *call) {
	r.Helper()
	c := r.startLocal(append(args, append([]string{"--"}, testCommand("1")...)...)...)
	r.invoke(task{}, r.context()) // its process is guarded by now
	fifo := r.newGate("hang")
	call := r.send(task{Do: "hang", File: fifo.file}, r.context())
	return c, openRead(r.T, fifo), call
}

func TestHandlersEndWithALocalEndThatIsKilled(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	c, last, _ := hangs(r)
	c.cmd.Process.Kill()
	io.Copy(io.Discard, last)
	c.cmd.Wait()
}

// A shell's own loop goes on although its calls fail.
func TestShellRuntimeEndsWithALocalEndThatIsKilled(t *testing.T) {
	r := newRemoteRig(t)
	fifo := r.newGate("loop")
	script := `next=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next
		curl -s "$next"; exec 3>` + fifo.file + `; while :; do curl -s "$next"; done`
	c := r.startLocal("--", "/bin/sh", "-c", script)
	r.send(task{}, r.context())
	last := openRead(t, fifo)
	c.cmd.Process.Kill()
	io.Copy(io.Discard, last)
	c.cmd.Wait()
}

// It is as after a second interrupt: the caller hears of it, nothing is left, and no stack is printed.
func TestQuitEndsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	c, last, call := hangs(r)
	c.cmd.Process.Signal(syscall.SIGQUIT)
	g := r.await(call)
	if g.errorType != "LiveLambda.Stopped" {
		t.Errorf("the caller got %q", g.errorType)
	}
	call.finish()
	io.Copy(io.Discard, last)
	c.exit(1)
	printed := c.stdout.String() + c.stderr.String()
	if strings.Contains(printed, "goroutine") || strings.Contains(printed, "interrupt once more") {
		t.Errorf("it printed\n%s", printed)
	}
}

func TestQuitWithNothingAtHandIsNoFailure(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	c := r.startLocal(append([]string{"--"}, testCommand("1")...)...)
	c.cmd.Process.Signal(syscall.SIGQUIT)
	c.exit(0)
}

func TestQuitEndsInvokeAndItsHandler(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	fifo := r.newGate("hang")
	event := string(mustJSON(task{Do: "hang", File: fifo.file}))
	c := r.command(event, append([]string{"invoke", "--"}, testCommand("1")...)...)
	last := openRead(t, fifo)
	c.cmd.Process.Signal(syscall.SIGQUIT)
	io.Copy(io.Discard, last)
	c.exit(1)
}

// sleeper has g start a process in a group of its own, which holds a FIFO open.
func sleeper(r *localRig, g *guard) (command *exec.Cmd, last *os.File) {
	r.Helper()
	fifo := r.newGate("group")
	stdin, held, err := os.Pipe()
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { held.Close() })
	defer stdin.Close()
	command = exec.Command("/bin/sh", "-c", "exec 3>'"+fifo.file+"'; read x")
	command.Stdin = stdin
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = g.start(command)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		command.Wait()
	})
	return command, openRead(r.T, fifo)
}

// The end of the pipe is what the guard sees of a program that was killed.
func TestGuardEndsWhatWasNotDroppedAndRemovesTheDirectory(t *testing.T) {
	r := newTestLocal(t, localOptions{code: code{external: true}})
	directory := filepath.Join(t.TempDir(), "with a space")
	err := os.Mkdir(directory, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, filepath.Join(directory, "client"), "")
	var g guard
	_, first := sleeper(r, &g)
	dropped, second := sleeper(r, &g)
	g.remove(directory)
	_, third := sleeper(r, &g)
	g.drop(dropped)
	g.close()
	io.Copy(io.Discard, first)
	io.Copy(io.Discard, third)
	dropped.Process.Signal(syscall.SIGTERM)
	io.Copy(io.Discard, second)
	dropped.Wait()
	if got := dropped.ProcessState.String(); got != "signal: terminated" {
		t.Errorf("what was dropped has ended: %s", got)
	}
	_, err = os.Stat(directory)
	if !os.IsNotExist(err) {
		t.Errorf("the directory is there: %v", err)
	}
}

func TestGuardRemovesTheClientsFiles(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	f := clientFiles{guard: &guard{}}
	file, err := f.file(nodeLanguage)
	if err != nil {
		t.Fatal(err)
	}
	f.guard.close() // without f.remove
	_, err = os.Stat(filepath.Dir(file))
	if !os.IsNotExist(err) {
		t.Errorf("the files are there: %v", err)
	}
}
