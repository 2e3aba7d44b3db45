//go:build !layer

package main

// local_reply.go keeps what a handler answers until the invocation is over, in memory or in a temporary file.
// local_runtimeapi.go takes it in, local_transfer.go sends it on.

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

const (
	spillAbove = 64 << 10 // bytes of a reply that stay in memory; a longer one goes to a temporary file
	gzipAbove  = 16 << 10 // bytes of a buffered reply; it is worth compressing if there are more
	headBytes  = 16 << 10 // bytes of a reply that the terminal may show
)

var (
	errOver = errors.New("the invocation is over")
	errKeep = errors.New("cannot keep a reply in a temporary file")
)

// spool keeps bytes while they are needed. If they are many it keeps them in a file that has no name, so that
// nothing is left behind. It has one writer, and may have readers at any time.
type spool struct {
	mu     sync.Mutex // guards the following
	memory []byte     // all of them, as long as there is no file
	file   *os.File
	size   int64
	closed bool
}

// Write is io.Writer's. It fails with errOver when the spool is closed.
func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, errOver
	}
	if s.file == nil && len(s.memory)+len(p) > spillAbove {
		err := s.spill()
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errKeep, err)
		}
	}
	if s.file == nil {
		s.memory = append(s.memory, p...)
	} else {
		_, err := s.file.WriteAt(p, s.size)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errKeep, err)
		}
	}
	s.size += int64(len(p))
	return len(p), nil
}

// spill moves the bytes from memory to a file. s.mu is held.
func (s *spool) spill() error {
	f, err := os.CreateTemp("", "live-lambda-*")
	if err != nil {
		return err
	}
	os.Remove(f.Name()) // its bytes stay until the file is closed
	_, err = f.WriteAt(s.memory, 0)
	if err != nil {
		f.Close()
		return err
	}
	s.file = f
	s.memory = nil
	return nil
}

// ReadAt is io.ReaderAt's: io.EOF at the end of what has been written so far.
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return 0, errOver
	case s.file != nil:
		return s.file.ReadAt(p, off)
	case off >= int64(len(s.memory)):
		return 0, io.EOF
	}
	n := copy(p, s.memory[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *spool) length() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		s.file.Close()
	}
	s.closed, s.file, s.memory = true, nil, nil
}

// reply is what a handler answers to one request.
type reply struct {
	kind      string            // response or error, as in the type of a part
	headers   map[string]string // of a response: those of the runtime's that Lambda needs
	xrayCause string            // of an error
	streamed  bool              // data grows until ended is set
	encoding  string            // of data: gzip or none
	data      spool

	// local.mu guards the following from when the request has the reply until ended is set. Nothing of it
	// changes after that.
	ended     bool
	size      int64             // bytes that the handler gave
	head      []byte            // the first of them, for the terminal
	errorType string            // of an error, or of a stream that broke
	message   string            // the same, for the terminal
	trailers  map[string]string // of a stream that broke
}

// copy is the same reply, which has ended, for another request.
func (rep *reply) copy() *reply {
	c := &reply{
		kind:      rep.kind,
		headers:   rep.headers,
		xrayCause: rep.xrayCause,
		encoding:  rep.encoding,
		ended:     rep.ended,
		size:      rep.size,
		head:      rep.head,
		errorType: rep.errorType,
		message:   rep.message,
	}
	io.Copy(&c.data, io.NewSectionReader(&rep.data, 0, rep.data.length()))
	return c
}

// keepHead keeps p, the next bytes of the reply, for the terminal, as far as it may show them.
func (rep *reply) keepHead(p []byte) {
	room := headBytes - len(rep.head)
	rep.head = append(rep.head, p[:min(len(p), room)]...)
}

// failureReply is the reply of a runtime that could not give one itself.
func failureReply(errorType, message string) *reply {
	return errorReply(errorType, errorJSON(errorType, message))
}

// failureReply is the same with the request's ID in the message, where Lambda has it.
func (q *request) failureReply(errorType, message string) *reply {
	return failureReply(errorType, q.errorPrefix()+message)
}

// errorPrefix is how Lambda's messages about q begin.
func (q *request) errorPrefix() string { return "RequestId: " + q.id + " Error: " }

// errorReply is the reply of a runtime that answers with an error. body may be anything.
func errorReply(errorType string, body []byte) *reply {
	var parsed struct{ ErrorType, ErrorMessage string }
	json.Unmarshal(body, &parsed) // leaves what it does not find
	rep := &reply{
		kind:      "error",
		errorType: errorType,
		ended:     true,
		size:      int64(len(body)),
		message:   strings.TrimPrefix(parsed.ErrorType+": "+parsed.ErrorMessage, ": "),
	}
	rep.keepHead(body)
	body, rep.encoding = compress(body)
	_, err := rep.data.Write(body)
	if err != nil {
		rep.data = spool{}
		rep.encoding = ""
		rep.data.Write(errorJSON(errorType, err.Error())) // it is small and stays in memory
	}
	return rep
}

// compress gzips what is worth it, and names the encoding.
func compress(body []byte) (_ []byte, encoding string) {
	if len(body) <= gzipAbove {
		return body, ""
	}
	var buf bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed) // the level is valid
	zw.Write(body)                                     // a bytes.Buffer takes everything
	zw.Close()
	return buf.Bytes(), "gzip"
}

// collector takes a buffered reply in as it comes: at most maxPayload bytes, gzipped if they are more than
// gzipAbove.
type collector struct {
	rep   *reply
	small []byte       // all of them, as long as there is no zw
	zw    *gzip.Writer // writes to the reply's spool
}

func (c *collector) Write(p []byte) (int, error) {
	c.rep.size += int64(len(p))
	c.rep.keepHead(p)
	if c.rep.size > maxPayload {
		return 0, errTooBig
	}
	if c.zw == nil && len(c.small)+len(p) <= gzipAbove {
		c.small = append(c.small, p...)
		return len(p), nil
	}
	if c.zw == nil {
		err := c.beginGzip()
		if err != nil {
			return 0, err
		}
	}
	return c.zw.Write(p)
}

func (c *collector) beginGzip() error {
	c.rep.encoding = "gzip"
	c.zw, _ = gzip.NewWriterLevel(&c.rep.data, gzip.BestSpeed) // the level is valid
	_, err := c.zw.Write(c.small)
	return err
}

// Close ends the reply's data.
func (c *collector) Close() error {
	if c.zw != nil {
		return c.zw.Close()
	}
	_, err := c.rep.data.Write(c.small)
	return err
}

// body reads the reply's bytes as the handler gave them, once it has ended.
func (rep *reply) body() (io.Reader, error) {
	r := io.Reader(io.NewSectionReader(&rep.data, 0, rep.data.length()))
	if rep.encoding == "gzip" {
		return gzip.NewReader(r)
	}
	return r, nil
}
