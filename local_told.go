//go:build !layer

package main

// local_told.go tells the history what becomes of a request, from submit to finish. If no history is kept, a
// request has no entry, and all of it does nothing.

import (
	"encoding/base64"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	describeNow  = 64 << 10         // bytes of an event that is looked into at once
	printedPause = time.Millisecond // until it is looked again whether a pipe is empty
	printedTries = 20               // at most
)

// keepHistory has what comes from now on kept. It is called before the first request.
func (l *local) keepHistory(stage string) { l.history = newHistory(stage) }

// keep begins to keep q, which is submitted. local.mu is held.
func (l *local) keep(q *request) {
	if l.history == nil {
		return
	}
	c := q.context
	environment := c.Environment
	c.Environment = nil
	q.entry = l.history.add(keptInvocation{
		Event:   q.event,
		Context: c,
		facts: facts{
			Again:      q.again,
			RequestID:  q.id,
			Function:   c.FunctionName,
			Version:    c.FunctionVersion,
			Stage:      l.history.stage,
			Sealed:     q.sealed,
			Mirror:     c.Mirror,
			Arrived:    q.arrived,
			Accepted:   q.accepted,
			Deadline:   q.deadline,
			EventBytes: int64(q.size),
		},
	}, environment)
}

// change changes what is kept of e with f, and tells those who follow.
func (e *entry) change(kind string, f func()) {
	if e == nil {
		return
	}
	e.history.mu.Lock()
	defer e.history.mu.Unlock()
	if e.dropped {
		return
	}
	f()
	e.history.weigh(e)
	if !e.dropped {
		e.history.tell(kind, e)
	}
}

// describe finds out who has invoked e. Looking into a large event takes a while, and nobody waits for that.
func (e *entry) describe() {
	if e == nil {
		return
	}
	e.history.mu.Lock()
	event := e.Event
	e.history.mu.Unlock()
	look := func() {
		by := caller(event)
		sent := sentAt(event)
		e.change(changeChanged, func() {
			e.Caller = by
			if !sent.After(e.Arrived) {
				e.Sent = sent
			}
		})
	}
	if len(event) <= describeNow {
		look()
		return
	}
	e.history.goes(look)
}

// started says that a handler's process gets e.
func (e *entry) started() {
	e.change(changeChanged, func() {
		if e.Started.IsZero() {
			e.Started = time.Now()
		}
	})
}

// heardBody is what a runtime posts; e hears it too.
type heardBody struct {
	io.ReadCloser
	e *entry
}

func (b heardBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.e.heard(p[:n])
	}
	return n, err
}

// hear has what is read from the body of a runtime's answer kept.
func (e *entry) hear(body io.ReadCloser) io.ReadCloser {
	if e == nil {
		return body
	}
	return heardBody{ReadCloser: body, e: e}
}

// heard keeps p, the next bytes of the answer.
func (e *entry) heard(p []byte) {
	e.change(changeProgress, func() {
		if !e.Answered.IsZero() {
			return
		}
		now := time.Now()
		if e.FirstByte.IsZero() {
			e.FirstByte = now
		}
		e.AnswerBytes += int64(len(p))
		whole := e.Streamed || e.AnswerBytes <= maxPayload
		if e.Light || !whole {
			return
		}
		e.Answer = append(e.Answer, p...)
		if e.Streamed && len(e.Pieces) < maxPieces {
			e.Pieces = append(e.Pieces, piece{At: now, Bytes: len(p)})
		}
	})
}

// responds says that a stream begins.
func (e *entry) responds(rep *reply) {
	e.change(changeChanged, func() {
		e.Streamed = true
		e.Headers = rep.headers
	})
}

// ended says that rep, e's reply, has come to its end. local.mu is held.
func (e *entry) ended(q *request, rep *reply) {
	e.change(changeChanged, func() {
		e.Answered = time.Now()
		e.Ms = milliseconds(e.Answered.Sub(e.Arrived))
		e.AnswerBytes = rep.size
		e.Headers = rep.headers
		e.Outcome = "ok"
		if q.context.Mirror {
			e.Text = mirrorText
		}
		if rep.failed() {
			e.fail(q, rep)
		}
	})
}

// fail keeps an error. A stream that broke keeps what came before. history.mu is held.
func (e *entry) fail(q *request, rep *reply) {
	e.Outcome = "error"
	e.ErrorType = rep.errorType
	e.Text = rep.summary(q)
	if len(rep.trailers) > 0 {
		e.Error, _ = base64.StdEncoding.DecodeString(rep.trailers[bodyHeader]) // errorTrailers has made it
		return
	}
	posted := e.Answer
	e.Answer = nil
	e.Error = rep.head
	if rep.size > int64(len(rep.head)) {
		e.Error = posted
	}
}

// over says that nobody waits for q's answer any more. local.mu is held.
func (e *entry) over(q *request, answered bool) {
	e.change(changeChanged, func() {
		e.Done = time.Now()
		e.Over = q.over
		if !answered {
			e.Ms = milliseconds(e.Done.Sub(e.Arrived))
		}
		if !answered || !q.heeded() {
			e.Outcome, e.Text = q.overText(answered)
		}
	})
}

// late says that the handler has answered when it was over.
func (e *entry) late() {
	e.change(changeChanged, func() { e.Late = true })
}

// prints keeps what a handler has printed.
func (e *entry) prints(stderr bool, p []byte) {
	e.change(changeProgress, func() {
		e.PrintedBytes += int64(len(p))
		kept := p[:min(len(p), max(maxKeptPrinted-e.printed, 0))]
		if e.Light || len(kept) == 0 || len(e.Printed) >= maxPieces {
			return
		}
		e.printed += len(kept)
		e.Printed = append(e.Printed, printedPiece{At: time.Now(), Stderr: stderr, Text: string(kept)})
	})
}

// printing is what a worker prints on, if that is kept.
type printing struct {
	// of the request that the worker has or had last: what it prints belongs there
	by    atomic.Pointer[entry]
	pipes []*printedPipe // local.mu guards them
}

// printedPipe reads what a process prints, for the terminal, and has it kept with what the process runs.
type printedPipe struct {
	file   *os.File
	conn   syscall.RawConn
	worker *worker
	stderr bool
	mu     sync.Mutex // is held while bytes come out of the pipe and until they are kept
}

// newPrintedPipe reads from a file of w's. If no history is kept, the file itself is all that is needed.
func (w *worker) newPrintedPipe(file *os.File, stderr bool) (io.Reader, error) {
	l := w.pool.local
	if l.history == nil {
		return file, nil
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &printedPipe{file: file, conn: conn, worker: w, stderr: stderr}
	l.mu.Lock()
	w.printing.pipes = append(w.printing.pipes, p)
	l.mu.Unlock()
	return p, nil
}

// Read is io.Reader's.
func (p *printedPipe) Read(b []byte) (n int, err error) {
	failure := p.conn.Read(func(fd uintptr) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		n, err = syscall.Read(int(fd), b)
		if n > 0 {
			p.worker.printing.by.Load().prints(p.stderr, b[:n])
		}
		return err != syscall.EAGAIN && err != syscall.EINTR
	})
	switch {
	case failure != nil:
		return 0, failure
	case err != nil:
		return 0, err
	case n <= 0:
		return 0, io.EOF
	}
	return n, nil
}

// empty reports whether all that has been printed is kept. A pipe that is closed is empty.
func (p *printedPipe) empty() bool {
	fionread := uintptr(0x541b) // Linux's; package syscall does not have it
	if runtime.GOOS == "darwin" {
		fionread = 0x4004667f
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var waiting int32
	p.conn.Control(func(fd uintptr) {
		syscall.Syscall(syscall.SYS_IOCTL, fd, fionread, uintptr(unsafe.Pointer(&waiting)))
	})
	return waiting == 0
}

// readPrinted waits a moment until what w's process has printed so far is kept. The process asks for another
// event, and what it prints from then on belongs to that.
func (w *worker) readPrinted() {
	l := w.pool.local
	if l.history == nil {
		return
	}
	l.mu.Lock()
	pipes := w.printing.pipes
	l.mu.Unlock()
	for _, p := range pipes {
		for try := 0; try < printedTries && !p.empty(); try++ {
			time.Sleep(printedPause)
		}
	}
}
