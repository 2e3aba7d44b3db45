//go:build !layer

package main

// fake_lambda_log.go is what the emulated Lambda's processes print: whole lines to the output, whichever
// process they come from, and the end of one invocation's log for a caller that asks for it.
//
// https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-view.html

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"sync"
	"syscall"
)

// lambdaMaxLine is where a longer line is cut. It is as much as a pipe holds.
const lambdaMaxLine = 64 * 1024

// lambdaOutput is what one process prints. Its own goroutine reads it, and so does an invocation that is to
// have all that was printed before its answer.
type lambdaOutput struct {
	env  *lambdaEnv
	pipe *os.File

	mu     sync.Mutex          // guards the following, and keeps what is read in order
	rest   []byte              // of a line that has not ended
	buffer [lambdaMaxLine]byte // of one read
}

// copy reads until the process has closed its output.
func (o *lambdaOutput) copy() {
	defer o.pipe.Close()
	pipe, err := o.pipe.SyscallConn()
	over := err != nil
	for !over {
		err := pipe.Read(func(fd uintptr) (done bool) {
			var some bool
			some, over = o.read(int(fd))
			return some || over
		})
		if err != nil {
			break
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.rest) > 0 {
		o.env.print(o.rest)
	}
}

// drain reads what has been printed so far.
func (o *lambdaOutput) drain() {
	pipe, err := o.pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = pipe.Control(func(fd uintptr) { // which is closed if all has been read
		_, _ = o.read(int(fd))
	})
}

// read prints the lines that can be read without waiting. It says whether there was something, and whether
// nothing more can come.
func (o *lambdaOutput) read(fd int) (some, over bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := syscall.Read(fd, o.buffer[:])
	switch {
	case err == syscall.EINTR:
		return true, false
	case err == syscall.EAGAIN:
		return false, false
	case err != nil || n == 0:
		return false, true
	}
	o.rest = append(o.rest, o.buffer[:n]...)
	for {
		line, rest, found := bytes.Cut(o.rest, []byte("\n"))
		if !found && len(line) < lambdaMaxLine {
			return true, false
		}
		o.env.print(line)
		o.rest = rest
	}
}

// print writes one line to the output and to the log's tail.
func (e *lambdaEnv) print(line []byte) {
	e.outputMu.Lock()
	defer e.outputMu.Unlock()
	line = append(bytes.Clone(line), '\n')
	_, _ = e.output.Write(line)
	e.tail = append(e.tail, line...)
	if len(e.tail) > lambdaMaxLine {
		e.tail = bytes.Clone(lambdaLast(e.tail))
	}
}

// lambdaLast is as much of a log's end as an answer may have.
func lambdaLast(log []byte) []byte { return log[max(0, len(log)-lambdaMaxTail):] }

// beginLog forgets what was printed before an invocation. e.initMu is held.
func (e *lambdaEnv) beginLog(inv *lambdaInvocation) {
	drainAll(e.current().processes)
	e.outputMu.Lock()
	defer e.outputMu.Unlock()
	e.tail = fmt.Appendf(nil, "START RequestId: %s Version: %s\n", inv.requestID, e.version)
}

// endLog returns the end of an invocation's log.
func (e *lambdaEnv) endLog(sb *lambdaSandbox, result invokeResult) []byte {
	drainAll(sb.processes)
	e.outputMu.Lock()
	defer e.outputMu.Unlock()
	id := result.requestID
	log := fmt.Appendf(e.tail, "END RequestId: %s\nREPORT RequestId: %s\t%s\n", id, id, e.reportLine(result))
	return bytes.Clone(lambdaLast(log))
}

func drainAll(processes []*lambdaProcess) {
	for _, p := range processes {
		p.output.drain()
	}
}

// reportLine is what Lambda's REPORT line says, but for the memory, which nobody measures here.
func (e *lambdaEnv) reportLine(result invokeResult) string {
	milliseconds := float64(result.duration.Microseconds()) / 1e3
	line := fmt.Sprintf("Duration: %.2f ms\tBilled Duration: %.0f ms\tMemory Size: %d MB",
		milliseconds, math.Ceil(milliseconds), e.memoryMB)
	if result.init > 0 {
		line += fmt.Sprintf("\tInit Duration: %.2f ms", float64(result.init.Microseconds())/1e3)
	}
	return line
}
