//go:build !layer

package main

// local_output.go makes lines of what handlers print. Several processes print at once, and their text comes
// in pieces, as the pipes cut it. A line goes out when it has ended, so that it stays whole. Text that does
// not end, as a prompt or progress, goes out a little later. local_terminal.go writes it all.

import (
	"bytes"
	"sync"
	"time"
)

const (
	maxLine    = 1 << 20               // bytes of a line that are kept until it ends
	linePause  = 90 * time.Millisecond // for the rest of a line to come, if other processes print too
	soon       = 3 * time.Millisecond  // the same for a process that is alone; twice that is below endPause
	longLine   = 4096                  // bytes that are no prompt and no progress, but a line that was cut
	longPause  = time.Second           // for more of such a line to come
	maxPrinted = 64                    // pieces of text that wait for a slow terminal
)

// handlerOutput takes what one process prints on one of its outputs.
type handlerOutput struct {
	t      *terminal
	name   string // of the function
	stderr bool

	mu    sync.Mutex  // guards the following
	line  []byte      // the beginning of a line that has not ended
	pause *time.Timer // passes line on; nil while nothing waits
	late  bool        // pause has fired once: it may be this program that was late
}

// output returns a writer for what a process of function prints.
func (t *terminal) output(function string, stderr bool) *handlerOutput {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outputs++
	return &handlerOutput{t: t, name: nameText(function), stderr: stderr}
}

// Write passes on the whole lines, and keeps the rest for a while.
func (o *handlerOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known := max(len(o.line)-1, 0) // a carriage return may be the last of what has been looked through
	o.line = append(o.line, p...)
	breakLines(o.line[known:])
	end := bytes.LastIndexByte(o.line[known:], '\n') + 1
	if end > 0 {
		end += known
	}
	if len(o.line)-end > maxLine {
		end = len(o.line)
	}
	if end > 0 {
		o.put(end)
		o.stopPause()
	}
	o.awaitRest()
	return len(p), nil
}

// awaitRest has the beginning of a line passed on after a pause. A prompt is not held back by what is added
// to it, but a long line waits anew. o.mu is held.
func (o *handlerOutput) awaitRest() {
	pause := o.t.pause()
	if len(o.line) >= longLine {
		o.stopPause()
		pause = longPause
	}
	if len(o.line) == 0 || o.pause != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(pause, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		switch {
		case o.pause != timer: // the line has gone on
		case !o.late:
			o.late = true
			timer.Reset(soon)
		default:
			o.passOn()
		}
	})
	o.pause = timer
}

// stopPause forgets the pause. o.mu is held.
func (o *handlerOutput) stopPause() {
	if o.pause != nil {
		o.pause.Stop()
	}
	o.pause = nil
	o.late = false
}

// pause is how long the beginning of a line waits for the rest of it.
func (t *terminal) pause() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	ofOneProcess := 2
	if t.onePlace() {
		ofOneProcess = 1
	}
	if t.outputs > ofOneProcess {
		return linePause
	}
	return soon
}

// passOn passes on what has not ended its line. o.mu is held.
func (o *handlerOutput) passOn() {
	o.stopPause()
	last := len(o.line) - 1
	if last >= 0 && o.line[last] == '\r' { // no line feed has come
		o.line[last] = '\n'
	}
	o.put(len(o.line))
}

// Close passes on what is left, when the process has ended.
func (o *handlerOutput) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.passOn()
	o.t.mu.Lock()
	defer o.t.mu.Unlock()
	o.t.outputs--
	return nil
}

// put hands n bytes over to the goroutine that writes, and waits for it if need be. o.mu is held.
func (o *handlerOutput) put(n int) {
	if n == 0 {
		return
	}
	o.t.print(chunk{text: bytes.Clone(o.line[:n]), from: o})
	o.line = bytes.Clone(o.line[n:])
}

// breakLines makes a line break of each carriage return that no line feed follows: a terminal would write the
// rest over the line. It leaves one at the end, for a line feed may follow.
func breakLines(text []byte) {
	for i, c := range text[:max(len(text)-1, 0)] {
		if c == '\r' && text[i+1] != '\n' {
			text[i] = '\n'
		}
	}
}

// marked writes a name before each line. continued says that the first one has begun before.
func marked(name string, lines []byte, continued bool) []byte {
	var text []byte
	for line := range bytes.Lines(lines) {
		if !continued {
			text = append(text, name...)
			text = append(text, " | "...)
		}
		continued = false
		text = append(text, line...)
	}
	return text
}
