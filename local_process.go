//go:build !layer

package main

// local_process.go is the life of one process: its Runtime API, its start, what it prints, and its end.
// Whatever ends a process ends its whole process group, and on Linux what has left that. local_workers.go
// says when it starts and when it is to end. local_guard.go ends it if this program is killed.
//
// Goroutines: one that lives as long as the process, one that waits for it, and one for each of its outputs.

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// live is a worker's life: its Runtime API, its process, and what both leave.
func (w *worker) live() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.gone(fmt.Sprintf("cannot listen for the runtime: %v", err), "LiveLambda.Local")
		return
	}
	server := w.runtimeAPI(ln)
	status, errorType := w.process(ln.Addr().String())
	w.status = status
	close(w.exited)
	w.awaitPosted()
	w.shutDown(server)
	w.gone(status, errorType)
}

// awaitPosted waits for what an exited process has sent of an answer to be read to its end.
func (w *worker) awaitPosted() {
	l := w.pool.local
	l.mu.Lock()
	answering := w.state == stateAnswering
	l.mu.Unlock()
	if !answering {
		return
	}
	select {
	case <-w.posted:
	case <-l.kill:
	case <-time.After(postPause):
	}
}

// shutDown ends w's Runtime API and waits for its calls.
func (w *worker) shutDown(server *http.Server) {
	l := w.pool.local
	l.mu.Lock()
	w.shut = true
	wait := w.calls > 0
	l.mu.Unlock()
	close(w.closed)
	server.Close()
	if wait {
		<-w.left
	}
}

// process runs the command until it ends, and then ends whatever it has started. It returns what ended it.
func (w *worker) process(addr string) (status, errorType string) {
	variable := "AWS_LAMBDA_RUNTIME_API=" + addr
	line := w.program.line()
	command := exec.Command(line[0], line[1:]...)
	command.Dir = w.program.directory
	command.Env = append(slices.Clone(w.env), variable)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := w.newOutputs()
	if err != nil {
		return "cannot run it: " + err.Error(), "LiveLambda.Local"
	}
	command.Stdout = out.stdout
	command.Stderr = out.stderr
	err = w.pool.local.guard.start(command)
	out.closeChildEnds()
	if err != nil {
		out.finish()
		return err.Error(), "Runtime.InvalidEntrypoint"
	}
	err = w.supervise(command)
	killStrays(variable)
	out.finish()
	if err == nil {
		return "Runtime exited without providing a reason", "Runtime.ExitError"
	}
	return "Runtime exited with error: " + err.Error(), "Runtime.ExitError"
}

// supervise waits for a process to end, and ends it if it is to end. It returns how it ended. Nothing of its
// process group is left then.
func (w *worker) supervise(command *exec.Cmd) error {
	group := -command.Process.Pid
	defer w.pool.local.guard.drop(command)
	var err error
	ended := make(chan struct{})
	go func() {
		err = command.Wait()
		close(ended)
	}()
	w.awaitExit(group, ended)
	syscall.Kill(group, syscall.SIGKILL)
	<-ended
	return err
}

// awaitExit returns when a process has ended, or has to be killed. A process that is to quit gets SIGTERM and
// some time first.
func (w *worker) awaitExit(group int, ended <-chan struct{}) {
	kill := w.pool.local.kill
	select {
	case <-ended:
		return
	case <-kill:
		return
	case <-w.quit:
	}
	syscall.Kill(group, syscall.SIGTERM)
	select {
	case <-ended:
	case <-kill:
	case <-time.After(killPause):
	}
}

// killStrays ends what has left the process group, as a browser does that a handler starts detached. On Linux
// it is known by variable, which only the processes of one worker have in their environment. Elsewhere it is
// not found.
func killStrays(variable string) {
	for range 10 { // those at hand may start others meanwhile
		found := false
		files, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is valid
		for _, file := range files {
			if killStray(file, variable) {
				found = true
			}
		}
		if !found {
			return
		}
	}
}

// killStray ends the process whose environment is in file, /proc/PID/environ, if variable is part of it.
func killStray(file, variable string) (killed bool) {
	pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
	p, err := os.FindProcess(pid) // before the look into file: a process ID may be used again
	if err != nil {
		return false
	}
	defer p.Release()
	environ, _ := os.ReadFile(file) // fails for other users' processes
	if !strings.Contains("\x00"+string(environ), "\x00"+variable+"\x00") {
		return false
	}
	return p.Kill() == nil
}

// outputs are the pipes for what a handler prints. If what it prints on standard output and on standard error
// goes to one place, there is one pipe for both: two would not keep the order.
type outputs struct {
	stdout, stderr *os.File   // the process's ends; may be the same
	readers        []*os.File // this program's
	copying        sync.WaitGroup
}

// newOutputs opens the pipes and passes on what comes out of them.
func (w *worker) newOutputs() (*outputs, error) {
	term := w.pool.local.term
	o := &outputs{}
	var err error
	o.stdout, err = o.pipe(w, term.output(w.pool.name, false))
	if err != nil {
		return nil, err
	}
	if term.onePlace() {
		o.stderr = o.stdout
		return o, nil
	}
	o.stderr, err = o.pipe(w, term.output(w.pool.name, true))
	if err != nil {
		o.stdout.Close()
		o.finish()
		return nil, err
	}
	return o, nil
}

// pipe opens a pipe for w, and passes on to `to` what comes out of it. It returns the process's end.
func (o *outputs) pipe(w *worker, to *handlerOutput) (*os.File, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o.readers = append(o.readers, reader)
	from, err := w.newPrintedPipe(reader, to.stderr)
	if err != nil {
		writer.Close()
		return nil, err
	}
	o.copying.Go(func() {
		io.Copy(to, from)
		to.Close()
	})
	return writer, nil
}

// closeChildEnds closes the process's ends here. It has its own by now, if it could be started.
func (o *outputs) closeChildEnds() {
	o.stdout.Close()
	o.stderr.Close() // fails if it is the same, and may
}

// finish waits until all that was printed has been passed on. It does not wait for long if something that has
// left the process group holds the pipes open.
func (o *outputs) finish() {
	late := time.AfterFunc(killPause, func() {
		for _, r := range o.readers {
			r.SetReadDeadline(time.Now())
		}
	})
	defer late.Stop()
	o.copying.Wait()
	for _, r := range o.readers {
		r.Close()
	}
}
