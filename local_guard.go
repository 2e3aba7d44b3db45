//go:build !layer

package main

// local_guard.go ends handlers and removes the files of their clients if this program cannot do so itself,
// because it was killed (SIGKILL) or has crashed. It does so with a shell that reads from a pipe which
// handlers they are. Nobody but this program has the other end, so the pipe ends with it, however that comes.
// A handler that would not notice, such as a shell script that tries again for ever, is ended too, and so is
// what it has started, unless that has left its process group.

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// guardScript reads lines of a word and a value: add and drop have process groups, remove has a directory.
// At the end it kills the groups that were not dropped, and removes the directory.
const guardScript = `
groups=' '
directory=
while read -r word value; do
	case $word in
	add) groups="$groups$value " ;;
	drop) groups="${groups%% $value *} ${groups#* $value }" ;;
	remove) directory=$value ;;
	esac
done
for group in $groups; do kill -9 "-$group"; done
[ -z "$directory" ] || rm -rf -- "$directory"
`

// guard is the shell. It is started when there is something to guard. If it cannot be started, nothing is
// guarded.
type guard struct {
	mu      sync.Mutex // guards the following
	shell   *exec.Cmd  // nil until it is started, and when it could not be
	pipe    *os.File   // to the shell
	started bool       // it was tried
}

// start starts a command that has a process group of its own, and guards that until drop. The shell is there
// first, so that it hears of the group at once.
func (g *guard) start(command *exec.Cmd) error {
	g.wake()
	err := command.Start()
	if err == nil {
		g.say("add", fmt.Sprint(command.Process.Pid))
	}
	return err
}

// drop guards a command's process group no longer: nothing is left of it.
func (g *guard) drop(command *exec.Cmd) { g.say("drop", fmt.Sprint(command.Process.Pid)) }

// remove has a directory removed, in place of the one before, which is gone.
func (g *guard) remove(directory string) {
	g.wake()
	if !strings.Contains(directory, "\n") { // that would be another line
		g.say("remove", directory)
	}
}

// say tells the shell something.
func (g *guard) say(word, value string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shell != nil {
		fmt.Fprintln(g.pipe, word, value) // fails if the shell was killed
	}
}

// wake starts the shell, the first time. It has a session of its own, so that no signal from the terminal
// ends it, and nothing in its arguments and environment is this program's name or anybody's secret.
func (g *guard) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.started {
		return
	}
	g.started = true
	reader, writer, err := os.Pipe()
	if err != nil {
		return
	}
	defer reader.Close()
	shell := exec.Command("/bin/sh", "-c", guardScript)
	shell.Dir = "/"
	shell.Env = []string{"PATH=/usr/bin:/bin"} // for rm
	shell.Stdin = reader
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = shell.Start()
	if err != nil {
		writer.Close()
		return
	}
	g.shell = shell
	g.pipe = writer
}

// close ends the guard. What it still has to guard is ended and removed.
func (g *guard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shell == nil {
		return
	}
	g.pipe.Close()
	g.shell.Wait()
	g.shell = nil
}
