//go:build !layer

package main

// local_try.go tries what the developer has named before the first event comes: whether a command can be run,
// and whether a handler's file loads. A command that cannot be run is an error of the command line. A handler
// that does not load is told in a line, with what it printed; the next event tries again.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	tryTimeout = time.Minute // for a handler to load
	maxTried   = 16 << 10    // bytes of what it prints that are shown
)

// checkCommand returns an error if a command cannot be run.
func checkCommand(argv []string) error {
	file, err := findCommand(argv[0])
	if err != nil {
		return err
	}
	head, err := fileBeginning(file)
	if err != nil {
		return nil // a program may be run by those who may not read it
	}
	isText := !bytes.Contains(head, []byte{0})
	if isText && !bytes.HasPrefix(head, []byte("#!")) {
		return fmt.Errorf("%s is no program and does not begin with #!, as a script must: "+
			"add the line #!/bin/sh, or name what runs it", file)
	}
	return checkScript(file, head)
}

// findCommand returns the file of a command.
func findCommand(name string) (string, error) {
	file, err := exec.LookPath(name)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("there is no command %s on PATH", name)
	case err != nil && !errors.Is(err, exec.ErrDot):
		return "", fmt.Errorf("the command %s cannot be run: %w", name, err)
	}
	return file, nil
}

// fileBeginning returns as much of a file as Linux reads to find out how to run it.
func fileBeginning(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var head [256]byte
	n, err := io.ReadFull(f, head[:])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // it is shorter
	}
	return head[:n], err
}

// checkScript returns an error if file is a script, as its beginning tells, whose interpreter is not there.
// It is not if the first line ends in a carriage return: the kernel takes that for a part of the name, and
// says that the script is not there.
func checkScript(file string, head []byte) error {
	first, _, _ := strings.Cut(string(head), "\n")
	rest, isScript := strings.CutPrefix(first, "#!")
	if strings.HasSuffix(rest, "\r") {
		return fmt.Errorf(
			"the first line of %s ends in a carriage return: save the file with Unix line ends", file)
	}
	words := strings.Fields(rest)
	if !isScript || len(words) == 0 {
		return nil
	}
	name := words[0]
	_, err := os.Stat(name)
	if err == nil && path.Base(name) == "env" {
		words = slices.DeleteFunc(words[1:], func(word string) bool { return word == "-S" })
		name = strings.Join(words[:min(1, len(words))], "")
		err = checkOnPath(name)
	}
	if err != nil {
		return fmt.Errorf("the first line of %s names %s, which is not there", file, name)
	}
	return nil
}

// checkOnPath returns an error if a word is the name of a command, and there is none of that name.
func checkOnPath(word string) error {
	if !plainName.MatchString(word) {
		return nil
	}
	_, err := exec.LookPath(word)
	return err
}

// plainName matches words that mean nothing else to a shell.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]*$`)

// checkShellCommand returns an error if a shell command begins with a command that cannot be run.
func checkShellCommand(line string) error {
	words := strings.Fields(line)
	switch {
	case len(words) == 0 || strings.ContainsAny(words[0], shellCharacters):
		return nil // the shell's business
	case strings.Contains(words[0], "/"):
		return checkShellScript(words[0])
	case checkOnPath(words[0]) == nil:
		return nil
	}
	// The shell has commands of its own.
	err := exec.Command("/bin/sh", "-c", `command -v "$1"`, "sh", words[0]).Run()
	if err != nil {
		return fmt.Errorf("there is no command %s on PATH", words[0])
	}
	return nil
}

// checkShellScript returns an error if a shell cannot run a command. It runs text without #! itself.
func checkShellScript(name string) error {
	file, err := findCommand(name)
	if err != nil {
		return err
	}
	head, err := fileBeginning(file)
	if err != nil {
		return nil // as in checkCommand
	}
	return checkScript(file, head)
}

// try loads the handlers that have a name, one after the other. It does nothing in a debug terminal, because
// the debugger would attach to a process that ends at once.
func (l *local) try(ctx context.Context) {
	if inDebugTerminal() {
		return
	}
	l.tryCode(ctx, l.opts.code, l.onlyFunction())
	for _, pattern := range slices.Sorted(maps.Keys(l.opts.maps)) {
		l.tryCode(ctx, l.opts.maps[pattern], nameOf(pattern))
	}
}

// tryCode loads the handler of a code, if it has one, for a function of that name.
func (l *local) tryCode(ctx context.Context, c code, function string) {
	if c.handler == "" {
		return
	}
	p, err := l.program(c, "", "")
	var printed []byte
	if err == nil {
		printed, err = l.load(ctx, p, function)
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	var lines []string
	if len(printed) > 0 {
		lines = strings.Split(strings.TrimRight(string(printed), "\n"), "\n")
	}
	if len(lines) > 1 && lines[0] == lines[1] { // the error, and the first line of its stack
		lines = lines[1:]
	}
	l.term.list(fmt.Sprintf(
		"%s does not load, without the function's environment: %v; the next event tries again", c.handler,
		err),
		lines)
}

// load has the client of p load the handler, and end. It returns what was printed, and an error if the
// handler does not load.
func (l *local) load(ctx context.Context, p *program, function string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	c := madeUpContext()
	c.FunctionName = function
	var printed firstBytes
	command := exec.CommandContext(ctx, p.argv[0], append(slices.Clone(p.argv[1:]), "--check")...)
	command.Dir = p.directory
	command.Env = l.environment(&request{context: c, program: p})
	command.Stdout = &printed
	command.Stderr = &printed
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = killPause
	err := l.guard.start(command)
	if err != nil {
		return nil, err
	}
	defer l.guard.drop(command)
	err = command.Wait()
	syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // what the handler's file has started
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has left a process, which held the pipe
	}
	if ctx.Err() != nil {
		return printed, fmt.Errorf("it took longer than %s", tryTimeout)
	}
	return printed, err
}

// firstBytes keeps the first maxTried bytes that are written to it.
type firstBytes []byte

func (b *firstBytes) Write(p []byte) (int, error) {
	*b = append(*b, p[:min(len(p), maxTried-len(*b))]...)
	return len(p), nil
}
