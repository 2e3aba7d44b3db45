//go:build !layer

package main

// local_typed_linux_test.go runs `local` on a terminal, and types.

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// openTerminal opens a terminal: the end that a person sits at, and the program's.
func openTerminal(t testing.TB) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		unavailable(t, "/dev/ptmx")
	}
	t.Cleanup(func() { person.Close() })
	var number, unlock int32
	for request, value := range map[uintptr]*int32{
		syscall.TIOCSPTLCK: &unlock,
		syscall.TIOCGPTN:   &number,
	} {
		_, _, errno := syscall.Syscall(
			syscall.SYS_IOCTL, person.Fd(), request, uintptr(unsafe.Pointer(value)))
		if errno != 0 {
			t.Fatal(errno)
		}
	}
	size := [4]uint16{24, 120}
	_, _, errno := syscall.Syscall(
		syscall.SYS_IOCTL, person.Fd(), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		t.Fatal(errno)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return person, program
}

// seat is a terminal that somebody sits at, with a command in its foreground.
type seat struct {
	*localRig
	person *os.File
	shown  *screen
}

// sit starts a command on a terminal of its own. Its arguments and variables are added to what `local` needs
// to serve the function orders on the rig's Event API; before is what runs that, such as a shell.
func (r *localRig) sit(variables, before []string, flags ...string) *seat {
	r.Helper()
	person, program := openTerminal(r.T)
	arguments := append(before, os.Args[0], "local", "--host", "http://"+r.client().http.Host,
		"--region", "eu-west-1", "--function", "orders")
	arguments = append(append(arguments, flags...), "--")
	arguments = append(arguments, testCommand("1")...)
	c := exec.Command(arguments[0], arguments[1:]...)
	c.Env = append(os.Environ(), "TEST_MAIN=1", "TERM=xterm", "NO_COLOR=1", "VISUAL=", "EDITOR=false",
		"AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret", "AWS_SESSION_TOKEN=")
	c.Env = append(c.Env, variables...)
	c.Stdin, c.Stdout, c.Stderr = program, program, program
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err := c.Start()
	program.Close()
	if err != nil {
		r.Fatal(err)
	}
	s := &seat{localRig: r, person: person, shown: &screen{new: make(chan struct{}, 1)}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		io.Copy(s.shown, person) // until the program has ended
		c.Wait()
	}()
	r.Cleanup(func() {
		group := s.foreground()
		if group > 1 { // a job of a shell's, or the editor
			syscall.Kill(-group, syscall.SIGKILL)
		}
		c.Process.Kill()
		<-ended
		if r.Failed() {
			r.Logf("the terminal:\n%q", s.shown)
		}
	})
	s.wait("waiting for invocations")
	return s
}

// foreground is the process group in the terminal's foreground; 0 if the session has ended.
func (s *seat) foreground() int {
	var group int32
	syscall.Syscall(syscall.SYS_IOCTL, s.person.Fd(), syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&group)))
	return int(group)
}

// types types text.
func (s *seat) types(text string) {
	s.Helper()
	_, err := io.WriteString(s.person, text)
	if err != nil {
		s.Fatal(err)
	}
}

// wait waits until the terminal shows text.
func (s *seat) wait(text string) {
	s.Helper()
	s.shown.wait(s.localRig, text)
}

// ran has an event run.
func (s *seat) ran(event string) {
	s.Helper()
	s.invoke([]byte(event), s.context()).want(s.localRig, "", event)
}

// What is typed before there is something to take back is no command, so it is typed until it is heard.
func TestTAndEnterTakeBackFunctions(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	s := r.sit(nil, nil)
	hello := leaderText("mallory", time.Now().Add(time.Hour).UnixMilli())
	r.api.publish(presenceChannel, hello)
	s.wait("has taken over orders since")
	s.wait("t and Enter take it back")
	stop := make(chan struct{})
	var typing sync.WaitGroup
	typing.Go(func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			io.WriteString(s.person, "what\nt\n")
			select {
			case <-ticker.C:
			case <-stop:
				return
			}
		}
	})
	defer typing.Wait()
	defer close(stop)
	s.wait("takes back orders from ?[31mmallory?@x")
}

func TestTypedLinesAreObeyed(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	s := r.sit(nil, nil)
	s.wait("press Enter for the last invocation, ? for more\r\n")
	s.types("\n")
	s.wait("there has been no invocation yet\r\n")
	s.ran(`{"name":"you"}`)
	s.wait("#1 orders 00000000 start ")
	s.types("\n")
	s.wait("    event, 14 B:\r\n    {\r\n      \"name\": \"you\"\r\n    }\r\n    answer, 14 B:\r\n    {\r\n")
	s.types("r\n")
	s.wait("runs #1 again\r\n")
	s.wait("#2 came to the same as #1\r\n")
	s.types("R #1\n")
	s.wait("#3 came to the same as #1\r\n")
	s.types(" 3 \n")
	s.wait(", ran #1 again\r\n    event, 14 B:\r\n")
	file := filepath.Join(t.TempDir(), "my event")
	s.types("s 1 " + file + "\n")
	s.wait("saved the event of #1: live-lambda invoke '" + file + ".json'\r\n")
	saved, err := os.ReadFile(file + ".json")
	if err != nil || string(saved) != `{"name":"you"}`+"\n" {
		t.Errorf("saved %q, %v", saved, err)
	}
	for line, want := range map[string]string{
		"s " + file:     "is there already: choose another name\r\n",
		"s":             "save under which name?\r\n",
		"r 99":          "there is no invocation #99, or not any more\r\n",
		"e 98":          "there is no invocation #98, or not any more\r\n",
		"drop":          "\"drop\" is not known here: ? and Enter list what is\r\n",
		"r 1 2":         "\"r 1 2\" is not known here",
		"?":             "    r [12]       run the last one, or #12, again with the same event\r\n",
		"o":             "there is no inspector: start local with --ui\r\n",
		"t":             "no other local end has taken anything over\r\n",
		"e":             "nothing runs: the editor false ended with exit status 1\r\n",
		"\x1b[31mx\x00": `"\x1b[31mx\x00" is not known here`,
	} {
		s.types(line + "\n")
		s.wait(want)
	}
}

// The editor sees the event indented, in a file that nobody else can read and that does not stay.
func TestEditedEventRuns(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	temporary := t.TempDir()
	modes := filepath.Join(t.TempDir(), "modes")
	s := r.sit([]string{"TMPDIR=" + temporary,
		`EDITOR=stat -c '%a %n' "$1" "${1%/*}" >` + modes + `; sed -i 's/^  "name": "you"/"name":   "me"/'`},
		nil)
	s.wait("press Enter")
	s.ran(`{"name":"you"}`)
	s.types("e\n")
	s.wait("runs #1 again\r\n")
	s.wait("ran #1 again\r\n    answer, 13 B:\r\n    {\r\n      \"name\": \"me\"\r\n    }\r\n")
	told, err := os.ReadFile(modes)
	if err != nil {
		t.Fatal(err)
	}
	got := string(told)
	if !strings.HasPrefix(got, "600 "+temporary) || !strings.Contains(got, "event-1.json\n700 ") {
		t.Errorf("the file and its directory had the modes %q", got)
	}
	left, err := os.ReadDir(temporary)
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	s.types("e 2\n")
	s.wait("the event is as it was: nothing runs; r 2 runs it as it is\r\n")
}

func TestWhatIsNotJSONIsEditedAgain(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	s := r.sit([]string{`EDITOR=sed -i 's/"you"/"me/;t;s/"me/"me"/'`}, nil)
	s.wait("press Enter")
	s.ran(`{"name":"you"}`)
	s.types("e\n")
	s.wait("the event is not JSON: line 2: ")
	s.types("\n")
	s.wait("gave it up: nothing runs\r\n")
	s.types("e\n")
	s.shown.waitTimes(r, "the event is not JSON: line 2: ", 2)
	s.types("e\n")
	s.wait("ran #1 again\r\n    answer, 13 B:\r\n    {\r\n      \"name\": \"me\"\r\n    }\r\n")
}

// It is a shell that reads a line, and goes on after an interrupt.
func TestEditorHasTheTerminal(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	editor := `trap "echo heard" INT; echo editing; until [ "$line" = done ]; do read -r line; done; ` +
		`echo got done; :`
	s := r.sit([]string{"EDITOR=" + editor}, nil)
	s.wait("press Enter")
	s.ran(`{"name":"you"}`)
	s.types("e\n")
	s.wait("editing\r\n")
	s.types("\x03")
	s.wait("heard\r\n")
	s.ran(`{"name":"other"}`) // invocations go on
	s.types("done\n")
	s.wait("got done\r\n")
	s.wait("the event is as it was: nothing runs")
	s.wait("#2 orders 00000000 ok ")
	text := s.shown.String()
	if strings.Index(text, "#2 orders") < strings.Index(text, "got done") {
		t.Error("it was printed while the editor had the terminal")
	}
	if strings.Contains(text, "is not known here") {
		t.Error("what was typed for the editor is obeyed")
	}
	s.types("2\n")
	s.wait("    event, 16 B:\r\n")
	s.types("\x03")
	s.wait("2 invocations, 0 errors, ")
}

// A shell starts `local` in the background, and fetches it into the foreground for each line that it reads.
func TestTerminalIsReadInTheForegroundAlone(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	shell := []string{"sh", "-m", "-c",
		`"$@" & while read -r line; do echo "shell got $line"; fg; echo "shell goes on"; done`, "sh"}
	s := r.sit(nil, shell)
	s.ran(`1`)
	s.ran(`2`)
	s.types("?\n")
	s.wait("shell got ?\r\n")
	s.wait("press Enter for the last invocation")
	s.types("1\n")
	s.wait("    event, 1 B:\r\n")
	s.types("\x1a") // Ctrl-Z
	s.wait("shell goes on\r\n")
	s.types("2\n")
	s.wait("shell got 2\r\n")
	s.ran(`"three"`) // it has gone on
	s.types("3\n")
	s.wait("    event, 7 B:\r\n    \"three\"\r\n")
	text := s.shown.String()
	if strings.Contains(text, "this can be typed") || strings.Count(text, "press Enter") > 1 {
		t.Errorf("it read in the background, or was told to twice")
	}
	s.types("\x03")
	s.wait("3 invocations, 0 errors, ")
}

func TestNothingIsReadWithJSON(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	s := r.sit(nil, nil, "--json")
	for range 3 {
		s.types("?\n")
		s.ran(`{"name":"you"}`)
	}
	s.types("\x03")
	s.wait(`"type":"summary"`)
	for _, wrong := range []string{"press Enter", "this can be typed", "#1"} {
		if strings.Contains(s.shown.String(), wrong) {
			t.Errorf("it shows %q", wrong)
		}
	}
}

func TestEditorEndsWithLocal(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	directory := t.TempDir()
	editor := filepath.Join(directory, "editor")
	script := "#!/bin/sh\ntrap 'echo told to end; exit 1' TERM\necho editing $PPID\n" +
		"while :; do read -r line; done\n"
	write(t, directory, map[string]string{"editor": script})
	s := r.sit([]string{"EDITOR=" + editor + " --wait"}, nil)
	s.wait("press Enter")
	s.ran(`1`)
	s.types("e\n")
	s.wait("editing ")
	syscall.Kill(s.foreground(), syscall.SIGTERM)
	s.wait("told to end\r\n")
	s.wait("1 invocation, 0 errors, ")
}

// Nobody has to ask the terminal again and again.
func TestTypedLineIsSignalled(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGIO)
	defer signal.Stop(signals)
	person, program := openTerminal(t)
	defer program.Close()
	if !signalInput(int(program.Fd())) {
		t.Fatal("it cannot be signalled")
	}
	drainSignals(signals)
	io.WriteString(person, "?\n")
	<-signals
}

// drainSignals forgets what has been signalled.
func drainSignals(signals <-chan os.Signal) {
	for len(signals) > 0 {
		<-signals
	}
}
