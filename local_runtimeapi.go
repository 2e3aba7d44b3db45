//go:build !layer

package main

// local_runtimeapi.go is the Lambda Runtime API as one runtime on this machine meets it: HTTP/1.1 on a
// loopback port of its own. A request's event goes out as the answer to next, the reply comes in as response
// or error. States, refusals and their texts are those of AWS's own emulator; times are Unix milliseconds,
// sizes bytes.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
// https://github.com/aws/aws-lambda-runtime-interface-emulator
//
// A web page in the developer's browser can reach loopback ports too; what a browser sends is refused
// (guarded).

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// States of a runtime, by the names that refusals give them.
const (
	stateStarted   = "Started"            // has not asked for anything yet
	stateReady     = "Ready"              // waits in next
	stateRunning   = "Running"            // has an event
	stateAnswering = "InvocationResponse" // a response or error is being read
	stateSent      = "ResponseSent"       // has answered, has not asked for the next event yet
	stateFailed    = "InitError"
	stateRestoring = "Restoring" // has called restore/next
)

const (
	// bytes of a reply that stay in memory; what is longer goes to a temporary file
	spillAbove     = 64 << 10
	gzipAbove      = 16 << 10    // bytes of a buffered reply that are worth compressing
	headBytes      = 16 << 10    // of a reply that the terminal may show
	maxContentType = 8 << 10     // bytes of one that is passed on
	maxCause       = 200_000     // bytes of an X-Ray cause as it is escaped in part 0
	exitPause      = time.Second // for a runtime whose response broke off to turn out to have exited
	// for a runtime whose invocation is over to answer all the same, before it is killed
	lateRuntime = 2 * time.Second
	// bytes of a response that is too large that are read before the connection is closed
	maxDrain = 1 << 30
)

var (
	errOver = errors.New("the invocation is over")
	errKeep = errors.New("cannot keep a reply in a temporary file")
)

// spool keeps bytes while they are needed, many of them in a file that has no name: nothing is left behind.
// It has one writer, and readers at any time.
type spool struct {
	mu     sync.Mutex
	memory []byte
	file   *os.File
	size   int64
	closed bool
}

func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, errOver
	}
	if s.file == nil && len(s.memory)+len(p) > spillAbove {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	if s.file == nil {
		s.memory = append(s.memory, p...)
	} else if _, err := s.file.WriteAt(p, s.size); err != nil {
		return 0, fmt.Errorf("%w: %w", errKeep, err)
	}
	s.size += int64(len(p))
	return len(p), nil
}

func (s *spool) spill() error {
	f, err := os.CreateTemp("", "live-lambda-*")
	if err == nil {
		os.Remove(f.Name()) // its bytes stay until the file is closed
		if _, err = f.WriteAt(s.memory, 0); err != nil {
			f.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errKeep, err)
	}
	s.file, s.memory = f, nil
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

// reply is a handler's answer to one request. data may still be growing while it is streamed; everything else
// of a reply is fixed once the request has it, but for ended, size and trailers, which local.mu guards.
type reply struct {
	kind      string            // response or error, as the part's type
	headers   map[string]string // of a response: what Lambda needs of the runtime's
	errorType string            // of an error
	xrayCause string
	streamed  bool
	encoding  string // of data: gzip or none
	data      spool

	ended    bool
	size     int64             // bytes that the handler gave
	head     []byte            // their beginning, for the terminal
	trailers map[string]string // of a stream that broke
	message  string            // of an error, for the terminal
}

// failureReply is the reply of a runtime that could not give one itself.
func failureReply(errorType, message string) *reply {
	return errorReply(errorType, errorJSON(errorType, message))
}

func errorReply(errorType string, body []byte) *reply {
	rep := &reply{
		kind: "error", errorType: errorType, size: int64(len(body)), head: body[:min(len(body), headBytes)],
		ended: true}
	var parsed struct{ ErrorType, ErrorMessage string }
	json.Unmarshal(body, &parsed) // any body is allowed
	rep.message = strings.TrimPrefix(parsed.ErrorType+": "+parsed.ErrorMessage, ": ")
	body, rep.encoding = compress(body)
	if _, err := rep.data.Write(body); err != nil {
		rep.data, rep.encoding = spool{}, ""
		rep.data.Write(errorJSON(errorType, err.Error())) // small: stays in memory
	}
	return rep
}

// compress gzips what is worth it and names the encoding.
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

// collector takes a buffered reply in as it comes: gzipped above gzipAbove, at most maxPayload bytes.
type collector struct {
	rep   *reply
	small []byte // while nothing has been written to the spool
	zw    *gzip.Writer
}

func (c *collector) Write(p []byte) (int, error) {
	c.rep.size += int64(len(p))
	c.rep.head = append(c.rep.head, p[:min(len(p), headBytes-len(c.rep.head))]...)
	if c.rep.size > maxPayload {
		return 0, errTooBig
	}
	if c.zw == nil && len(c.small)+len(p) <= gzipAbove {
		c.small = append(c.small, p...)
		return len(p), nil
	}
	if c.zw == nil {
		c.rep.encoding = "gzip"
		c.zw, _ = gzip.NewWriterLevel(&c.rep.data, gzip.BestSpeed) // the level is valid
		if _, err := c.zw.Write(c.small); err != nil {
			return 0, err
		}
	}
	return c.zw.Write(p)
}

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

// runtimeAPI serves w's Runtime API on ln until the server is closed.
func (w *worker) runtimeAPI(ln net.Listener) *http.Server {
	server := &http.Server{
		Handler:        guarded(ln.Addr().String(), w.routes()),
		MaxHeaderBytes: 2 << 20, // an X-Ray cause may come near 1 MiB
		ErrorLog:       w.pool.local.quiet,
	}
	w.pool.local.wg.Go(func() { server.Serve(ln) })
	return server
}

func (w *worker) routes() http.Handler {
	mux := http.NewServeMux()
	const base = "/2018-06-01/runtime/"
	mux.HandleFunc("GET "+base+"invocation/next", w.next)
	mux.HandleFunc("POST "+base+"invocation/{id}/response", w.response)
	mux.HandleFunc("POST "+base+"invocation/{id}/error", w.error)
	mux.HandleFunc("POST "+base+"init/error", w.initError)
	mux.HandleFunc("GET "+base+"restore/next", w.restoreNext)
	mux.HandleFunc("POST "+base+"restore/error", w.initError)
	mux.HandleFunc("GET /2018-06-01/ping", func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, "pong")
	})
	return w.counted(mux)
}

// guarded refuses what a browser sends, even where a page's host name was made to mean this machine: its
// requests name another host or come with headers that no runtime sends.
func guarded(addr string, next http.Handler) http.Handler {
	_, port, _ := net.SplitHostPort(addr)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		peer, _, _ := net.SplitHostPort(r.RemoteAddr)
		// as all of them begin
		browser := r.Host != addr && r.Host != "localhost:"+port ||
			strings.HasPrefix(r.UserAgent(), "Mozilla/")
		for _, name := range []string{"Origin", "Referer", "Cookie", "Sec-Fetch-Site"} {
			browser = browser || r.Header.Get(name) != ""
		}
		if ip := net.ParseIP(peer); browser || ip == nil || !ip.IsLoopback() {
			refuse(rw, http.StatusForbidden, "LiveLambda.Forbidden",
				"only a runtime on this machine may use this address")
			return
		}
		next.ServeHTTP(rw, r)
	})
}

// counted keeps count of the calls under way, so that the worker can wait for them.
func (w *worker) counted(next http.Handler) http.Handler {
	l := w.pool.local
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		shut := w.shut
		if !shut {
			w.calls++
		}
		l.mu.Unlock()
		if shut {
			panic(http.ErrAbortHandler)
		}
		defer func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if w.calls--; w.shut && w.calls == 0 {
				close(w.left)
			}
		}()
		next.ServeHTTP(rw, r)
	})
}

// say writes an answer of the Runtime API.
func say(rw http.ResponseWriter, status int, body []byte) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	rw.Write(append(body, '\n'))
}

func refuse(rw http.ResponseWriter, status int, errorType, message string) {
	say(rw, status, errorJSON(errorType, message))
}

func accept(rw http.ResponseWriter) { say(rw, http.StatusAccepted, []byte(`{"status":"OK"}`)) }

func refuseState(rw http.ResponseWriter, from, to string) {
	refuse(rw, http.StatusForbidden, "InvalidStateTransition",
		"State transition from "+from+" to "+to+" failed for runtime. Error: State transition is not allowed")
}

func refuseID(rw http.ResponseWriter) {
	refuse(rw, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
}

// next hands out the worker's next event. A runtime that asks again while it has one gets it again, as from
// Lambda.
func (w *worker) next(rw http.ResponseWriter, r *http.Request) {
	l := w.pool.local
	l.mu.Lock()
	for w.state != stateRunning || w.request.over != "" {
		if w.state == stateAnswering || w.state == stateFailed {
			state := w.state
			l.mu.Unlock()
			refuseState(rw, state, stateReady)
			return
		}
		w.ready()
		w.parked++
		l.scheduleFor(w)
		l.mu.Unlock()
		got := w.await(r)
		l.mu.Lock()
		w.parked--
		if !got {
			l.mu.Unlock()
			panic(http.ErrAbortHandler) // an empty answer would be taken for an event
		}
	}
	select {
	case <-w.turn: // was for a call of next that has gone
	default:
	}
	q, event := w.request, w.request.event
	l.mu.Unlock()
	q.writeEvent(rw, event)
}

// await waits for an event; without one, the call has ended.
func (w *worker) await(r *http.Request) bool {
	select {
	case <-w.turn:
		return true
	case <-r.Context().Done():
		return false
	case <-w.closed:
		return false
	}
}

// ready is the end of one invocation and the wait for another. local.mu is held.
func (w *worker) ready() {
	if w.killing != nil {
		w.killing.Stop()
	}
	starting := w.starting()
	switch {
	case starting && w.request != nil && w.request.over == "": // the process was started for it
		w.run()
		return
	case !starting && w.state != stateReady:
		w.pool.failures = 0
	}
	w.state, w.request = stateReady, nil
	switch {
	case w.stale:
		w.pool.local.replace(w)
	case w.outdated:
		w.pool.local.retire(w)
	}
}

// run begins the invocation of w.request. local.mu is held.
func (w *worker) run() {
	w.state = stateRunning
	w.limit(w.request)
	notify(w.turn)
}

// limit has w's process killed, as Lambda does, where it is not ready for another invocation some time after
// q's deadline: it may not even have started, or hang after its answer. local.mu is held.
func (w *worker) limit(q *request) {
	w.killing = time.AfterFunc(time.Until(q.deadline)+lateRuntime, func() { w.pool.local.killLate(w, q) })
}

// writeEvent answers a call of next.
func (q *request) writeEvent(rw http.ResponseWriter, event []byte) {
	c := q.context
	for name, value := range map[string]string{
		"Lambda-Runtime-Aws-Request-Id":       c.RequestID,
		"Lambda-Runtime-Deadline-Ms":          strconv.FormatInt(c.DeadlineMs, 10),
		"Lambda-Runtime-Invoked-Function-Arn": c.InvokedFunctionARN,
		"Lambda-Runtime-Trace-Id":             c.TraceID,
		"Lambda-Runtime-Client-Context":       string(c.ClientContext),
		"Lambda-Runtime-Cognito-Identity":     string(c.Identity),
		"Lambda-Runtime-Aws-Tenant-Id":        c.TenantID,
		"Content-Type":                        "application/json",
		"Content-Length":                      strconv.Itoa(len(event)),
	} {
		if value != "" {
			rw.Header().Set(name, value)
		}
	}
	rw.Write(event)
}

// claim finds the request that a call answers, and keeps others from answering it. Otherwise it has refused
// the call.
func (w *worker) claim(rw http.ResponseWriter, r *http.Request) *request {
	l := w.pool.local
	l.mu.Lock()
	defer l.mu.Unlock()
	q := w.request
	late := q != nil && (q.over == overTimeout || q.over == overDeadline)
	if q == nil || r.PathValue("id") != q.id || w.state != stateRunning || late {
		if late && w.state == stateRunning && r.PathValue("id") == q.id {
			w.state = stateSent
			l.term.late(q)
		}
		refuseID(rw)
		return nil
	}
	select {
	case <-w.posted:
	default:
	}
	w.state = stateAnswering
	return q
}

// answered is the end of a call that claimed q: rep, where it is not nil, is q's reply.
func (w *worker) answered(q *request, rep *reply) {
	l := w.pool.local
	l.mu.Lock()
	w.state, w.sent = stateSent, time.Now()
	if rep != nil {
		l.answer(q, rep)
	}
	l.mu.Unlock()
	notify(w.posted)
}

func (w *worker) response(rw http.ResponseWriter, r *http.Request) {
	q := w.claim(rw, r)
	if q == nil {
		return
	}
	headers := map[string]string{}
	if t := r.Header.Get("Content-Type"); len(t) <= maxContentType && printable(t) {
		headers["Content-Type"] = t
	}
	mode := r.Header.Get(modeHeader)
	if mode == "" && r.ContentLength < 0 && slices.Contains(streamedTypes, headers["Content-Type"]) {
		mode = "streaming"
	}
	switch mode {
	case "":
		w.buffered(rw, r, q, headers)
	case "streaming":
		headers[modeHeader] = mode
		w.streamed(rw, r, q, headers)
	default:
		w.answered(q, failureReply("Runtime.InvalidResponseModeHeader", "Invalid response mode header"))
		refuse(rw, http.StatusBadRequest, "InvalidFunctionResponseMode", "Invalid function response mode")
	}
}

// streamedTypes are the content types that AWS's Go client gives to what a handler streams. It never names
// the mode, and gives no response a length. On Lambda the caller's way of invoking decides then, which no
// runtime is told.
// https://github.com/aws/aws-lambda-go/blob/v1.55.1/lambda/invoke_loop.go
var streamedTypes = []string{
	"application/octet-stream", "application/vnd.awslambda.http-integration-response"}

// buffered reads a whole response. Its trailers may say that it is none but an error: AWS's Go client
// declares them with every response.
func (w *worker) buffered(rw http.ResponseWriter, r *http.Request, q *request, headers map[string]string) {
	c := &collector{rep: &reply{kind: "response", headers: headers}}
	_, err := io.Copy(c, r.Body)
	if err == nil {
		err = c.Close()
	}
	switch errorType := r.Trailer.Get(typeHeader); {
	case errors.Is(err, errTooBig):
		c.rep.data.close()
		rest, _ := io.Copy(io.Discard, io.LimitReader(r.Body, maxDrain))
		w.tooLarge(rw, q, c.rep.size+rest)
	case err != nil:
		c.rep.data.close()
		w.broken(rw, q, err)
	case errorType != "":
		c.rep.data.close()
		body, err := base64.StdEncoding.DecodeString(r.Trailer.Get(bodyHeader))
		if err != nil || len(body) == 0 {
			body = errorJSON(errorType, "the runtime's response ended with an error")
		}
		w.answered(q, errorReply(clean(errorType), body))
		accept(rw)
	default:
		c.rep.ended = true
		w.answered(q, c.rep)
		accept(rw)
	}
}

// tooLarge tells the runtime and the caller what Lambda tells them; the runtime goes on.
func (w *worker) tooLarge(rw http.ResponseWriter, q *request, size int64) {
	w.answered(q, failureReply("Function.ResponseSizeTooLarge",
		fmt.Sprintf(
			"Response payload size (%d bytes) exceeded maximum allowed payload size (%d bytes).", size,
			maxPayload)))
	refuse(rw, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
		fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", maxPayload))
}

// broken handles a response that could not be read to its end.
func (w *worker) broken(rw http.ResponseWriter, q *request, err error) {
	w.answered(q, w.breakage(q, err))
	refuse(rw, http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request was truncated")
}

// breakage says what the caller gets for a response that broke off: that the runtime has exited, where it
// has.
func (w *worker) breakage(q *request, err error) *reply {
	if errors.Is(err, errKeep) {
		return failureReply("LiveLambda.Local", err.Error())
	}
	select {
	case <-w.exited:
		return w.exitReply(q)
	case <-time.After(exitPause):
	}
	return failureReply(
		"Runtime.TruncatedResponse", "RequestId: "+q.id+" Error: the runtime's response broke off")
}

// streamed reads a response while it is sent on. Whatever ends it early is in its trailers.
func (w *worker) streamed(rw http.ResponseWriter, r *http.Request, q *request, headers map[string]string) {
	l := w.pool.local
	rep := &reply{kind: "response", headers: headers, streamed: true}
	l.mu.Lock()
	l.answer(q, rep)
	l.mu.Unlock()
	size, err := io.Copy(streamWriter{l, q, rep}, io.LimitReader(r.Body, maxStream))
	var more [1]byte
	if n, _ := r.Body.Read(more[:]); err == nil && n > 0 {
		err = errTooBig
	}
	var failure *reply
	switch errorType := r.Trailer.Get(typeHeader); {
	case errors.Is(err, errOver):
	case errors.Is(err, errTooBig):
		failure = failureReply("Function.ResponseSizeTooLarge",
			fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", maxStream))
	case err != nil:
		failure = w.breakage(q, err)
	case errorType != "":
		body, _ := base64.StdEncoding.DecodeString(r.Trailer.Get(bodyHeader))
		failure = errorReply(clean(errorType), body)
	}
	l.mu.Lock()
	rep.size = size
	if failure != nil {
		rep.errorType, rep.message, rep.trailers = failure.errorType, failure.message, errorTrailers(failure)
	}
	l.end(q, rep)
	l.mu.Unlock()
	w.answered(q, nil)
	switch {
	case errors.Is(err, errTooBig):
		rw.Header().Set("Connection", "close")
		refuse(rw, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
			fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", maxStream))
	case err != nil && !errors.Is(err, errOver):
		refuse(rw, http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request was truncated")
	default:
		io.Copy(io.Discard, io.LimitReader(r.Body, maxStream))
		accept(rw)
	}
}

// errorTrailers makes the trailers that end a stream of an error.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
func errorTrailers(rep *reply) map[string]string {
	body := rep.head
	if rep.size > int64(len(body)) { // it has to fit beside nothing else in one part
		body = errorJSON(rep.errorType, "the error is too large to be told at the end of a stream")
	}
	rep.data.close()
	return map[string]string{typeHeader: rep.errorType, bodyHeader: base64.StdEncoding.EncodeToString(body)}
}

// streamWriter keeps a stream's bytes and tells whoever sends them on.
type streamWriter struct {
	local *local
	q     *request
	rep   *reply
}

func (s streamWriter) Write(p []byte) (int, error) {
	n, err := s.rep.data.Write(p)
	s.local.mu.Lock()
	s.rep.size += int64(n)
	s.rep.head = append(s.rep.head, p[:min(n, headBytes-len(s.rep.head))]...)
	s.local.mu.Unlock()
	notify(s.q.news)
	return n, err
}

// error takes a function's error.
func (w *worker) error(rw http.ResponseWriter, r *http.Request) {
	q := w.claim(rw, r)
	if q == nil {
		return
	}
	rep, err := readError(r)
	switch {
	case errors.Is(err, errTooBig):
		w.tooLarge(rw, q, maxPayload+1)
	case err != nil:
		w.broken(rw, q, err)
	default:
		w.answered(q, rep)
		accept(rw)
	}
}

func readError(r *http.Request) (*reply, error) {
	var body bytes.Buffer
	if _, err := io.Copy(&body, io.LimitReader(r.Body, maxPayload+1)); err != nil {
		return nil, err
	}
	if body.Len() > maxPayload {
		return nil, errTooBig
	}
	rep := errorReply(clean(cmp.Or(r.Header.Get(typeHeader), "Runtime.Unknown")), body.Bytes())
	// A cause that is too long is left out: cut, it would not be JSON.
	if cause := r.Header.Get(causeHeader); len(cause) <= maxHeaderText &&
		escapedLen(part{XRayCause: cause}.event()) <= maxCause {
		rep.xrayCause = cause
	}
	return rep, nil
}

// clean makes a runtime's error type fit to be a header and a word in a line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), 1024)])
}

// initError takes the error of a runtime that cannot start; it is expected to exit.
func (w *worker) initError(rw http.ResponseWriter, r *http.Request) {
	l := w.pool.local
	rep, err := readError(r)
	if err != nil {
		refuse(rw, http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request was truncated or too large")
		return
	}
	l.mu.Lock()
	if w.state != stateStarted && w.state != stateRestoring {
		state := w.state
		l.mu.Unlock()
		refuseState(rw, state, stateFailed)
		return
	}
	w.state = stateFailed
	w.failed(rep)
	l.mu.Unlock()
	accept(rw)
}

// restoreNext is for SnapStart, where it returns after a restore; here there is nothing to wait for.
func (w *worker) restoreNext(rw http.ResponseWriter, r *http.Request) {
	l := w.pool.local
	l.mu.Lock()
	state := w.state
	if state == stateStarted {
		w.state = stateRestoring
	}
	l.mu.Unlock()
	if state != stateStarted {
		refuseState(rw, state, stateRestoring)
	}
}
