//go:build !layer

package main

// local_runtimeapi.go is the Lambda Runtime API as one runtime on this machine meets it: HTTP/1.1 on a
// loopback port of its own. A request's event goes out as the answer to next, and the reply comes in as
// response or error. The states, the refusals and their texts are those of AWS's own emulator, but that it
// has another state while an error is being read, InvocationErrorResponse. Times are Unix milliseconds, sizes
// are bytes.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
// https://github.com/aws/aws-lambda-runtime-interface-emulator
//
// A web page in the developer's browser can reach loopback ports too, so what a browser sends is refused
// (guarded).
//
// Goroutines: net/http has one for each call. local.mu guards a worker's state and its request.

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// States of a runtime, by the names that refusals give them.
const (
	stateStarted   = "Started"            // it has not asked for anything yet
	stateReady     = "Ready"              // it waits in next
	stateRunning   = "Running"            // it has an event
	stateAnswering = "InvocationResponse" // its response or error is being read
	stateSent      = "ResponseSent"       // it has answered and has not asked for the next event yet
	stateFailed    = "InitError"
	stateRestoring = "Restoring" // it has called restore/next
)

const (
	maxContentType = 8 << 10 // bytes of one that is passed on
	maxTypeText    = 1024    // bytes of an error type
	maxCause       = 200_000 // bytes of an X-Ray cause as it is escaped in part 0
	maxSealedCause = 165_000 // bytes of one as it is in a part 0 that is sealed, in base64url then
	maxDrain       = 1 << 30 // bytes of a response that is too large that are read before it is refused

	// A runtime whose response breaks off may have exited, which is noticed a moment later.
	exitPause = time.Second
	// A runtime may answer so much after its deadline before its process is killed.
	lateRuntime = 2 * time.Second
)

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

// guarded serves only runtimes on this machine, and no browser. addr is the one that it listens on.
func guarded(addr string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if fromBrowser(addr, r) || !fromLoopback(r) {
			refuse(rw, http.StatusForbidden, "LiveLambda.Forbidden",
				"only a runtime on this machine may use this address")
			return
		}
		next.ServeHTTP(rw, r)
	})
}

// fromBrowser reports whether a browser may have sent r: it has headers that no runtime sends, or names
// another host. The latter is how a page reaches loopback whose own host name was made to mean this machine.
func fromBrowser(addr string, r *http.Request) bool {
	_, port, _ := net.SplitHostPort(addr)
	if r.Host != addr && r.Host != "localhost:"+port {
		return true
	}
	for _, name := range []string{"Origin", "Referer", "Cookie", "Sec-Fetch-Site"} {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	return strings.HasPrefix(r.UserAgent(), "Mozilla/") // as every browser's begins
}

// fromLoopback reports whether r comes from this machine.
func fromLoopback(r *http.Request) bool {
	peer, _, _ := net.SplitHostPort(r.RemoteAddr)
	ip := net.ParseIP(peer)
	return ip != nil && ip.IsLoopback()
}

// counted counts the calls that are under way, so that the worker can wait for them.
func (w *worker) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !w.enter() {
			panic(http.ErrAbortHandler) // closes the connection
		}
		defer w.leave()
		next.ServeHTTP(rw, r)
	})
}

// enter begins a call, unless the worker takes none any more.
func (w *worker) enter() bool {
	l := w.pool.local
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.shut {
		return false
	}
	w.calls++
	return true
}

// leave ends a call.
func (w *worker) leave() {
	l := w.pool.local
	l.mu.Lock()
	defer l.mu.Unlock()
	w.calls--
	if w.shut && w.calls == 0 {
		close(w.left)
	}
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

func confirm(rw http.ResponseWriter) { say(rw, http.StatusAccepted, []byte(`{"status":"OK"}`)) }

func refuseState(rw http.ResponseWriter, from, to string) {
	refuse(rw, http.StatusForbidden, "InvalidStateTransition",
		"State transition from "+from+" to "+to+" failed for runtime. Error: State transition is not allowed")
}

func refuseID(rw http.ResponseWriter) {
	refuse(rw, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
}

// next hands out the worker's next event.
func (w *worker) next(rw http.ResponseWriter, r *http.Request) {
	w.readPrinted()
	l := w.pool.local
	l.mu.Lock()
	w.noticeLoss()
	for !w.hasEvent() {
		if w.state == stateFailed {
			l.mu.Unlock()
			refuseState(rw, stateFailed, stateReady)
			return
		}
		if !w.park(r) {
			l.mu.Unlock()
			panic(http.ErrAbortHandler) // an empty answer would be taken for an event
		}
	}
	drain(w.turn) // it was for a call of next that has gone
	q := w.request
	event := q.event
	w.out = true
	l.mu.Unlock()
	err := q.writeEvent(rw, event)
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.request == q {
		w.out = false
	}
}

// runs reports whether somebody waits for what w's runtime is to answer. local.mu is held.
func (w *worker) runs() bool { return w.state == stateRunning && w.request.over == "" }

// hasEvent reports whether there is an event for a call of next. local.mu is held.
func (w *worker) hasEvent() bool { return w.runs() && (!w.out || w == w.pool.local.attach) }

// noticeLoss is for a runtime that asks for an event and has got one that it has not answered. It has lost
// that: it was started anew, as node --watch does, while its process lives on. The invocation fails then, as
// it would on Lambda. But a runtime that somebody else starts gets the event again: they want to look at that
// very one in their debugger. local.mu is held.
func (w *worker) noticeLoss() {
	if !w.runs() || !w.out {
		return
	}
	l := w.pool.local
	q := w.request
	if w == l.attach {
		l.term.note("%s %s: handed out again, because the runtime asks for an event and has not answered",
			nameText(q.context.FunctionName), short(q.id))
		return
	}
	l.answer(q, q.failureReply("Runtime.ExitError",
		"Runtime exited without providing a reason: it was started anew in the middle of the invocation"))
}

// park takes the worker for ready, or while an answer is being read leaves that to the end of it, and has the
// call of next wait. It reports false when the call has ended. local.mu is held, but not while it waits.
func (w *worker) park(r *http.Request) bool {
	l := w.pool.local
	w.parked++
	if w.state == stateAnswering {
		notify(w.asked)
	} else {
		w.ready()
		l.scheduleFor(w)
	}
	l.mu.Unlock()
	got := w.await(r)
	l.mu.Lock()
	w.parked--
	return got
}

// await waits for an event. It reports false if the call has ended without one.
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

// ready ends one invocation, and the worker waits for another. local.mu is held.
func (w *worker) ready() {
	w.spare()
	if w.starting() {
		w.pool.works = true
		given := w.request != nil && w.request.over == ""
		if given { // the process was started for it
			w.run()
			return
		}
	} else if w.state != stateReady {
		w.pool.failures = 0
	}
	w.become(stateReady)
	w.assign(nil)
	switch {
	case w.stale:
		w.pool.local.replace(w)
	case w.outdated:
		w.pool.local.retire(w, restartEnvironment)
	}
}

// run begins the invocation of w.request. local.mu is held.
func (w *worker) run() {
	w.become(stateRunning)
	w.out = false
	w.request.entry.started()
	w.limit(w.request)
	notify(w.turn)
}

// limit has w's process killed, as Lambda does, if it is not ready for another invocation some time after
// q's deadline. It may hang after its answer, too. local.mu is held.
func (w *worker) limit(q *request) {
	if w.pool.local.opts.debugged {
		return // it may stand at a breakpoint
	}
	late := time.Until(q.deadline) + lateRuntime
	w.endAfter(late, func() { w.pool.local.killLate(w, q) })
}

// writeEvent answers a call of next.
func (q *request) writeEvent(rw http.ResponseWriter, event []byte) error {
	c := q.context
	headers := map[string]string{
		"Lambda-Runtime-Aws-Request-Id":       c.RequestID,
		"Lambda-Runtime-Deadline-Ms":          strconv.FormatInt(c.DeadlineMs, 10),
		"Lambda-Runtime-Invoked-Function-Arn": c.InvokedFunctionARN,
		"Lambda-Runtime-Trace-Id":             c.TraceID,
		"Lambda-Runtime-Client-Context":       string(c.ClientContext),
		"Lambda-Runtime-Cognito-Identity":     string(c.Identity),
		"Lambda-Runtime-Aws-Tenant-Id":        c.TenantID,
		"Content-Type":                        "application/json",
		"Content-Length":                      strconv.Itoa(len(event)),
	}
	for name, value := range headers {
		if value != "" {
			rw.Header().Set(name, value)
		}
	}
	_, err := rw.Write(event)
	return err
}

// claim finds the request that a call answers, and keeps others from answering it. If there is none, it
// refuses the call and returns nil. So it does if the request is over for lack of an answer; the terminal
// then tells that one came late, and the runtime has answered all the same.
func (w *worker) claim(rw http.ResponseWriter, r *http.Request) *request {
	l := w.pool.local
	l.mu.Lock()
	defer l.mu.Unlock()
	q := w.request
	if q == nil || w.state != stateRunning || r.PathValue("id") != q.id {
		refuseID(rw)
		return nil
	}
	if q.over == overTimeout || q.over == overDeadline || q.over == overStopped {
		w.become(stateSent)
		q.entry.late()
		l.term.late(q)
		refuseID(rw)
		return nil
	}
	drain(w.posted)
	drain(w.asked)
	w.become(stateAnswering)
	r.Body = q.entry.hear(r.Body)
	return q
}

// answered ends a call that has claimed q. rep is q's reply, nil if it has that already.
func (w *worker) answered(q *request, rep *reply) {
	l := w.pool.local
	l.mu.Lock()
	w.become(stateSent)
	w.sent = time.Now()
	if rep != nil {
		l.answer(q, rep)
	}
	if w.parked > 0 { // another runtime, or the same one started anew, has asked meanwhile
		w.ready()
		l.scheduleFor(w)
	}
	l.mu.Unlock()
	notify(w.posted)
}

// response takes a function's response.
func (w *worker) response(rw http.ResponseWriter, r *http.Request) {
	q := w.claim(rw, r)
	if q == nil {
		return
	}
	headers := map[string]string{}
	contentType := r.Header.Get("Content-Type")
	if len(contentType) <= maxContentType && printable(contentType) {
		headers["Content-Type"] = contentType
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
// the mode, and gives no response a length, streamed or not. On Lambda the way in which the caller invokes
// decides then, but no runtime is told of it.
// https://github.com/aws/aws-lambda-go/blob/v1.55.1/lambda/invoke_loop.go
var streamedTypes = []string{
	"application/octet-stream", "application/vnd.awslambda.http-integration-response"}

// buffered reads a whole response. Its trailers may say that it is an error instead: AWS's Go client declares
// them with every response.
func (w *worker) buffered(rw http.ResponseWriter, r *http.Request, q *request, headers map[string]string) {
	c := &collector{rep: &reply{kind: "response", headers: headers}}
	_, err := io.Copy(c, r.Body)
	if err == nil {
		err = c.Close()
	}
	errorType := r.Trailer.Get(typeHeader)
	if err != nil || errorType != "" {
		c.rep.data.close()
	}
	switch {
	case errors.Is(err, errTooBig):
		rest, _ := io.Copy(io.Discard, io.LimitReader(r.Body, maxDrain))
		w.tooLarge(rw, q, c.rep.size+rest)
	case err != nil:
		w.broken(rw, q, err)
	case errorType != "":
		body, err := trailerBody(r)
		if err != nil || len(body) == 0 {
			body = errorJSON(errorType, "the runtime's response ended with an error")
		}
		w.answered(q, errorReply(clean(errorType), body))
		confirm(rw)
	default:
		c.rep.ended = true
		w.answered(q, c.rep)
		confirm(rw)
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
	refuse(rw, http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
}

// breakage is the reply to a response that broke off. If the runtime has exited, it says so.
func (w *worker) breakage(q *request, err error) *reply {
	if errors.Is(err, errKeep) {
		return failureReply("LiveLambda.Local", err.Error())
	}
	select {
	case <-w.exited:
		return w.exitReply(q)
	case <-w.asked: // it was started anew, or has given up this answer
	case <-time.After(exitPause):
	}
	return q.failureReply("Runtime.TruncatedResponse", "the runtime's response broke off")
}

// streamed reads a response while it is sent on. What ends it early goes into its trailers.
func (w *worker) streamed(rw http.ResponseWriter, r *http.Request, q *request, headers map[string]string) {
	l := w.pool.local
	rep := &reply{kind: "response", headers: headers, streamed: true}
	q.entry.responds(rep)
	l.mu.Lock()
	l.answer(q, rep)
	l.mu.Unlock()
	err := l.copyStream(q, rep, r.Body)
	failure := w.streamFailure(r, q, err)
	l.mu.Lock()
	if failure != nil {
		rep.errorType = failure.errorType
		rep.message = failure.message
		rep.trailers = errorTrailers(failure)
	}
	l.end(q, rep)
	l.mu.Unlock()
	w.answered(q, nil)
	concludeStream(rw, r, err)
}

// copyStream copies a stream's bytes to its reply. It fails with errTooBig if there are too many.
func (l *local) copyStream(q *request, rep *reply, body io.Reader) error {
	out := streamWriter{local: l, q: q, rep: rep}
	_, err := io.Copy(out, io.LimitReader(body, maxStream))
	if err != nil {
		return err
	}
	var more [1]byte
	n, _ := body.Read(more[:])
	if n > 0 {
		return errTooBig
	}
	return nil
}

// streamFailure is the error that ends a stream: because reading it has failed with err, or because its
// trailers say so. It is nil if the stream is whole, or if nobody waits for it any more.
func (w *worker) streamFailure(r *http.Request, q *request, err error) *reply {
	errorType := r.Trailer.Get(typeHeader)
	switch {
	case errors.Is(err, errOver):
		return nil
	case errors.Is(err, errTooBig):
		return failureReply("Function.ResponseSizeTooLarge",
			fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", maxStream))
	case err != nil:
		return w.breakage(q, err)
	case errorType != "":
		body, _ := trailerBody(r) // whatever of it can be read
		return errorReply(clean(errorType), body)
	}
	return nil
}

// concludeStream answers the runtime when its stream has ended, or when reading it has failed with err.
func concludeStream(rw http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errTooBig):
		rw.Header().Set("Connection", "close")
		refuse(rw, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
			fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", maxStream))
	case err != nil && !errors.Is(err, errOver):
		refuse(rw, http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
	default:
		io.Copy(io.Discard, io.LimitReader(r.Body, maxStream))
		confirm(rw)
	}
}

// trailerBody is the error, as JSON, in a response's trailers.
func trailerBody(r *http.Request) ([]byte, error) {
	return base64.StdEncoding.DecodeString(r.Trailer.Get(bodyHeader))
}

// errorTrailers makes the trailers that end a stream of an error.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
func errorTrailers(rep *reply) map[string]string {
	body := rep.head
	if rep.size > int64(len(body)) { // the trailers have to fit into one part
		body = errorJSON(rep.errorType, "the error is too large to be told at the end of a stream")
	}
	rep.data.close()
	return map[string]string{
		typeHeader: rep.errorType,
		bodyHeader: base64.StdEncoding.EncodeToString(body),
	}
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
	s.rep.keepHead(p[:n])
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
	rep, err := w.readError(r)
	switch {
	case errors.Is(err, errTooBig):
		w.tooLarge(rw, q, maxPayload+1)
	case err != nil:
		w.broken(rw, q, err)
	default:
		w.answered(q, rep)
		confirm(rw)
	}
}

// readError reads the error of a function, or of a runtime that cannot start.
func (w *worker) readError(r *http.Request) (*reply, error) {
	var body bytes.Buffer
	_, err := io.Copy(&body, io.LimitReader(r.Body, maxPayload+1))
	if err != nil {
		return nil, err
	}
	if body.Len() > maxPayload {
		return nil, errTooBig
	}
	errorType := cmp.Or(r.Header.Get(typeHeader), "Runtime.Unknown")
	rep := errorReply(clean(errorType), body.Bytes())
	// A cause that is too long is left out, because it would not be JSON if it were cut.
	cause := r.Header.Get(causeHeader)
	sealed := len(w.pool.local.opts.keys) > 0
	if fitsIntoPart(cause, sealed) {
		rep.xrayCause = cause
	}
	return rep, nil
}

// fitsIntoPart reports whether part 0 has room for a cause.
func fitsIntoPart(cause string, sealed bool) bool {
	event := part{XRayCause: cause}.event()
	if sealed && len(event) > maxSealedCause {
		return false
	}
	return len(cause) <= maxHeaderText && escapedLen(event) <= maxCause
}

// clean makes a runtime's error type fit for a header and for a line.
func clean(s string) string {
	ascii := func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}
	return strings.Map(ascii, s[:min(len(s), maxTypeText)])
}

// initError takes the error of a runtime that cannot start. The runtime is expected to exit.
func (w *worker) initError(rw http.ResponseWriter, r *http.Request) {
	l := w.pool.local
	rep, err := w.readError(r)
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
	w.become(stateFailed)
	w.failed(rep)
	l.mu.Unlock()
	confirm(rw)
}

// restoreNext is for SnapStart. On Lambda it returns after a restore; here there is nothing to wait for.
func (w *worker) restoreNext(rw http.ResponseWriter, r *http.Request) {
	l := w.pool.local
	l.mu.Lock()
	state := w.state
	if state == stateStarted {
		w.become(stateRestoring)
	}
	l.mu.Unlock()
	if state != stateStarted {
		refuseState(rw, state, stateRestoring)
	}
}
