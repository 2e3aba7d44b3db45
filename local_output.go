//go:build !layer

package main

// local_output.go makes lines of what handlers print. Several processes print at once, each in pieces as a
// pipe cuts them. One process's line stays whole, up to 1 MB. An unfinished line, a prompt or
// progress, is passed on a little later. local_terminal.go writes it all.

import (
	"bytes"
	"sync"
	"time"
)

const (
	maxLine    = 1 << 20                // bytes of a line that are kept until it ends
	linePause  = 100 * time.Millisecond // for the rest of a line to come, if other processes print too
	soon       = 5 * time.Millisecond   // the same for a process that is alone; less than endPause
	maxPrinted = 64                     // pieces of text that wait for a slow terminal
)

// handlerOutput takes what one process prints on one of its outputs.
type handlerOutput struct {
	t      *terminal
	name   string // of the function
	stderr bool

	mu    sync.Mutex  // guards the following
	line  []byte      // the beginning of a line that has not ended
	pause *time.Timer // passes line on; nil while nothing waits
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
	o.line = brokenLines(append(o.line, p...))
	end := bytes.LastIndexByte(o.line, '\n') + 1
	if len(o.line)-end > maxLine {
		end = len(o.line)
	}
	o.put(end)
	if len(o.line) > 0 && o.pause == nil {
		o.pause = time.AfterFunc(o.t.pause(), o.passOn)
	}
	return len(p), nil
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

// passOn passes on what has not ended its line.
func (o *handlerOutput) passOn() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pause = nil
	last := len(o.line) - 1
	if last >= 0 && o.line[last] == '\r' { // no line feed has come
		o.line[last] = '\n'
	}
	o.put(len(o.line))
}

// Close passes on what is left, when the process has ended.
func (o *handlerOutput) Close() error {
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
	o.t.printed <- struct{}{}
	o.t.chunks <- chunk{text: bytes.Clone(o.line[:n]), from: o}
	o.line = bytes.Clone(o.line[n:])
}

// brokenLines makes a line break of each carriage return that no line feed follows: a terminal would write
// the rest over the line. It leaves one at the end, for a line feed may follow.
func brokenLines(text []byte) []byte {
	for i, c := range text[:max(len(text)-1, 0)] {
		if c == '\r' && text[i+1] != '\n' {
			text[i] = '\n'
		}
	}
	return text
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
