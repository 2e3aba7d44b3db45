//go:build !layer

package main

// local_typed.go hears what the developer types at the terminal. local_commands.go does what it says.
//
// Lines are read only if standard input is this program's terminal and this program is in the foreground:
// somebody else reads there otherwise, and a program in the background that reads is stopped. Handlers have
// no standard input. The terminal is opened anew, because what is set on standard input is set for the shell
// too. It is asked again and again whether there is a line, because a call that waits for one would be
// stopped as well when this program is put into the background. On Linux a signal says when to ask.
//
// The terminal itself shows what is typed, and lets the developer correct it, until Enter: nobody has to put
// it right again, however this program ends. So this program does not know what stands on the screen of a
// line that has not ended. Only the goroutine that writes reads, so that it knows how many lines have ended;
// and whatever it writes begins in a row that it has cleared.

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	maxTyped     = 4096 // bytes of a line; a terminal takes no more
	waitingTyped = 16   // lines that wait for what the one before says to be done

	// How often the terminal is asked: if a signal says when there is something, in case that gets lost; and
	// while nothing is read, whether this program has come into the foreground.
	askSignalled = 5 * time.Second
	askClosed    = liveEvery // a shell's fg says nothing to what has gone on in the background
)

// typed is what is typed at the terminal.
type typed struct {
	all    bool                        // every line means something; otherwise only to take back does
	lines  chan string                 // that have ended
	opened chan struct{}               // closed when lines have begun to be read
	wanted atomic.Pointer[func() bool] // whether lines are to be read now; nil: they are not

	foreground func() bool
	open       func() (terminal int, err error)
	// say that there may be something to read, or to read from; nil: nothing says so
	signals chan os.Signal

	// Only the goroutine that writes uses the following.
	terminal  int       // -1: it is not open
	signalled bool      // signals say when there is something to read
	line      []byte    // that has not ended
	once      sync.Once // closes opened
}

func newTyped(all bool) *typed {
	return &typed{
		all:        all,
		lines:      make(chan string, waitingTyped),
		opened:     make(chan struct{}),
		foreground: inForeground,
		open:       openOwnTerminal,
		terminal:   -1,
	}
}

// openOwnTerminal opens the terminal of this program.
func openOwnTerminal() (terminal int, err error) {
	flags := syscall.O_RDONLY | syscall.O_NONBLOCK | syscall.O_CLOEXEC | syscall.O_NOCTTY
	return syscall.Open("/dev/tty", flags, 0)
}

// heedSignals has signals say when there is something to read.
func (k *typed) heedSignals() {
	k.signals = make(chan os.Signal, 1)
	signal.Notify(k.signals, syscall.SIGIO, syscall.SIGCONT)
}

// signalInput has this process get SIGIO when a line has been typed at a terminal, and reports whether it
// will. Only on Linux that belongs to one opening of the terminal: elsewhere to all, the shell's too.
func signalInput(terminal int) bool {
	if runtime.GOOS != "linux" {
		return false
	}
	for _, set := range [][2]int{ // the owner first: it would be all that is in the foreground
		{syscall.F_SETOWN, os.Getpid()},
		{syscall.F_SETFL, syscall.O_NONBLOCK | syscall.O_ASYNC},
	} {
		_, _, errno := syscall.Syscall(
			syscall.SYS_FCNTL, uintptr(terminal), uintptr(set[0]), uintptr(set[1]))
		if errno != 0 {
			return false
		}
	}
	return true
}

// pause is how long to wait before the terminal is asked again; 0: for ever.
func (k *typed) pause() time.Duration {
	switch {
	case k == nil:
		return 0
	case k.terminal < 0 && k.signals != nil:
		return askClosed
	case k.signalled:
		return askSignalled
	}
	return liveEvery
}

// want has lines read while wanted says so, from now on.
func (k *typed) want(wanted func() bool) { k.wanted.Store(&wanted) }

// inForeground reports whether standard input is this program's terminal, and this program is in its
// foreground.
func inForeground() bool {
	var group int32
	_, _, errno := syscall.Syscall(
		syscall.SYS_IOCTL, os.Stdin.Fd(), syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&group)))
	return errno == 0 && int(group) == syscall.Getpgrp()
}

// hear passes on the lines that have ended, and returns how many there were. What was typed before lines were
// wanted here is not meant for this program.
func (k *typed) hear() (ended int) {
	wanted := k.wanted.Load()
	if wanted == nil || !(*wanted)() || !k.foreground() {
		k.close()
		return 0
	}
	if k.terminal < 0 {
		k.begin()
		return 0
	}
	for range waitingTyped { // a terminal gives one line at a time
		read := k.read()
		if len(read) == 0 {
			break
		}
		k.line = append(k.line, read...)
	}
	lines := bytes.Split(bytes.ReplaceAll(k.line, []byte("\r"), []byte("\n")), []byte("\n"))
	ended = len(lines) - 1
	k.line = lines[ended]
	if len(k.line) > maxTyped {
		k.line = nil
	}
	for _, line := range lines[:ended] {
		select {
		case k.lines <- string(line):
		default: // too many wait
		}
	}
	return ended
}

// begin opens the terminal, and drops what was typed before.
func (k *typed) begin() {
	terminal, err := k.open()
	if err != nil {
		return // it is tried again
	}
	k.terminal = terminal
	k.signalled = k.signals != nil && signalInput(terminal)
	k.line = nil
	for len(k.read()) > 0 {
	}
	k.once.Do(func() { close(k.opened) })
}

// read returns what there is to read, if anything.
func (k *typed) read() []byte {
	b := make([]byte, maxTyped)
	n, err := syscall.Read(k.terminal, b)
	if err != nil {
		return nil
	}
	return b[:n]
}

func (k *typed) close() {
	if k.terminal >= 0 {
		syscall.Close(k.terminal)
		k.terminal = -1
		k.signalled = false
	}
}

// listens reports whether lines are read, so that there may be the beginning of one on the screen.
func (k *typed) listens() bool { return k != nil && k.terminal >= 0 }

// interactive reports whether the developer sees what this program prints and can type what it is to do.
func (t *terminal) interactive() bool { return t.typed != nil && t.typed.all }

// howToTakeBack says how the developer takes functions back.
func (t *terminal) howToTakeBack() string {
	if t.typed != nil && t.typed.foreground() {
		return "t and Enter take it back"
	}
	return startAnew
}

// hear hears what has been typed. A line that has ended is off the screen then, and so is the live line
// above it; without one it stays, above all that follows.
func (w *writer) hear() {
	if w.t.typed == nil || w.held != nil {
		return
	}
	ended := w.t.typed.hear()
	if ended == 0 {
		return
	}
	w.open = nil // Enter has ended that line too
	if w.above {
		fmt.Fprintf(w.t.out, "\r\x1b[%dA\x1b[J", ended+1)
		w.shown = ""
		w.above = false
	}
}

// hideTyped clears the row in which somebody may be typing, and the live line above it. What is typed counts
// all the same.
func (w *writer) hideTyped() {
	switch {
	case w.above:
		fmt.Fprint(w.t.out, "\r\x1b[A\x1b[J")
	case w.open == nil && w.t.columns() > 0:
		fmt.Fprint(w.t.out, "\r\x1b[K")
	}
	w.shown = ""
	w.above = false
}

// showAbove writes the live line above the row in which somebody may be typing, and leaves that as it is.
func (w *writer) showAbove(line string) {
	switch {
	case w.above && line != "":
		fmt.Fprintf(w.t.out, "\x1b7\x1b[A\r%s\x1b[K\x1b8", line)
	case line != "":
		w.hide()
		fmt.Fprint(w.t.out, line+"\n")
		w.above = true
	default:
		w.hide()
	}
	w.shown = line
}

const maxHeld = 1 << 20 // bytes that are kept while somebody else has the screen

// heldBack is what is to be written once the screen is this program's again.
type heldBack struct {
	chunks []chunk
	bytes  int
	lost   int // lines that there was no room for
}

// keep keeps c, or what it tells is lost.
func (h *heldBack) keep(c chunk) {
	if h.bytes+len(c.text) > maxHeld {
		h.lost += bytes.Count(c.text, []byte("\n"))
		return
	}
	h.bytes += len(c.text)
	if len(c.text) > 0 {
		h.chunks = append(h.chunks, c)
	}
}

// release writes what was held back.
func (w *writer) release() {
	h := w.held
	w.held = nil
	if h == nil {
		return
	}
	for _, c := range h.chunks {
		w.putNow(c)
	}
	if h.lost > 0 {
		w.hide()
		w.putLine(fmt.Appendf(nil, "... %s not shown\n", count(h.lost, "line")))
	}
}

// holdBack has nothing written, and nothing read, until release is called: somebody else has the screen.
// Those who print do not wait for that.
func (t *terminal) holdBack() (release func()) {
	held := make(chan struct{})
	if offer(t.chunks, chunk{hold: held}, t.lost) {
		select {
		case <-held:
		case <-t.lost:
		}
	}
	return func() { offer(t.chunks, chunk{release: true}, t.lost) }
}
