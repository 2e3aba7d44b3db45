//go:build !layer

package main

// local_editor.go has the developer edit an event, and runs what comes of it. The editor has the terminal
// meanwhile: nothing is printed and nothing typed is read, and an interrupt is the editor's. It is in this
// program's process group, so that Ctrl-Z stops both and the shell lets both go on.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// plainEditor is an editor that is a program and its arguments, and no more for a shell to do.
var plainEditor = regexp.MustCompile(`^[\w@%+:,./-]+( +[\w@%+:,./-]+)*$`)

// afterEditor is for a signal to arrive that has ended the editor.
const afterEditor = 100 * time.Millisecond

// forEditor reports whether a signal that has come is the editor's business: keys send it to all programs in
// the foreground.
func (l *local) forEditor(sig os.Signal) bool {
	return l.editing.Load() && (sig == os.Interrupt || sig == syscall.SIGQUIT)
}

// edit has the developer edit the event of an invocation, and runs it. What is not JSON can be edited again.
func (l *local) edit(ctx context.Context, i keptInvocation) {
	_, err := i.request(nil)
	if err != nil {
		l.term.note("%v", err)
		return
	}
	text := editable(i.Event)
	for {
		text, err = l.editText(ctx, fmt.Sprintf("event-%d.json", i.ID), text)
		if err != nil {
			l.term.note("nothing runs: %v", err)
			return
		}
		err = checkJSON(text)
		if err == nil {
			break
		}
		l.term.note("the event is not JSON: %v; e and Enter edit it again, anything else gives it up", err)
		if !l.editsAgain(ctx) {
			l.term.note("gave it up: nothing runs")
			return
		}
	}
	if equalJSON(text, i.Event) {
		l.term.note("the event is as it was: nothing runs; r %d runs it as it is", i.ID)
		return
	}
	l.runAgain(i, compactJSON(text))
}

// editable is an event as it is edited: indented, if that does not make too much of it.
func editable(event []byte) []byte {
	indented, ok := indentedJSON(event, "")
	if !ok {
		indented = string(event)
	}
	return append([]byte(indented), '\n')
}

// editsAgain waits for the next line that is typed.
func (l *local) editsAgain(ctx context.Context) bool {
	select {
	case line := <-l.term.typed.lines:
		return strings.EqualFold(strings.TrimSpace(line), "e")
	case <-ctx.Done():
		return false
	}
}

// checkJSON says in which line text is not JSON, if it is not.
func checkJSON(text []byte) error {
	var value json.RawMessage
	err := json.Unmarshal(text, &value)
	syntax := new(json.SyntaxError)
	if errors.As(err, &syntax) {
		before := text[:max(int(syntax.Offset)-1, 0)] // it counts the byte that is wrong too
		return fmt.Errorf("line %d: %w", 1+bytes.Count(before, []byte("\n")), err)
	}
	return err
}

// editText has the developer edit text in a file of that name, and returns what it is then. Nothing of the
// file is left.
func (l *local) editText(ctx context.Context, name string, text []byte) (edited []byte, err error) {
	directory, err := os.MkdirTemp("", "live-lambda-") // for this user alone
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(directory)
	file := filepath.Join(directory, name)
	err = os.WriteFile(file, text, 0o600)
	if err != nil {
		return nil, err
	}
	err = l.runEditor(ctx, file)
	if err != nil {
		return nil, err
	}
	return readEdited(file)
}

// readEdited reads a file that has been edited.
func readEdited(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 2*maxPayload))
	if err != nil {
		return nil, err
	}
	if len(text) == 2*maxPayload {
		return nil, errors.New("the event is too large")
	}
	return text, nil
}

// runEditor gives the terminal to an editor until that has ended.
func (l *local) runEditor(ctx context.Context, file string) error {
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	release := l.term.holdBack()
	defer release()
	l.editing.Store(true)
	defer l.editing.Store(false)
	settings := stty("-g")
	err := editorCommand(ctx, editor, file).Run()
	time.Sleep(afterEditor)
	if settings != "" && inForeground() {
		stty(settings) // an editor that has crashed does not put them right
	}
	if err != nil {
		return fmt.Errorf("the editor %s ended with %w", editor, err)
	}
	return nil
}

// editorCommand is the command that edits a file, until ctx is done.
func editorCommand(ctx context.Context, editor, file string) *exec.Cmd {
	script := editor + ` "$1"`
	if plainEditor.MatchString(editor) {
		script = "exec " + script // what ends the shell is to end the editor
	}
	command := exec.CommandContext(ctx, "sh", "-c", script, "sh", file)
	command.Stdin = os.Stdin
	command.Stdout = os.Stdout
	command.Stderr = os.Stderr
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = killPause
	return command
}

// stty runs stty, and returns what it prints; "" if it cannot be run.
func stty(arguments ...string) string {
	command := exec.Command("stty", arguments...)
	command.Stdin = os.Stdin
	out, _ := command.Output()
	return strings.TrimSpace(string(out))
}
