//go:build !layer

package main

// fake_lambda_runtimeapi.go is the Runtime API of the emulated Lambda, with SnapStart's calls and its
// credentials endpoint. The runtime takes events here, and its answers become results of invocations.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
// https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks.html

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	lambdaModeHeader      = "Lambda-Runtime-Function-Response-Mode"
	lambdaErrorTypeHeader = "Lambda-Runtime-Function-Error-Type"
	lambdaErrorBodyHeader = "Lambda-Runtime-Function-Error-Body"
	lambdaXRayHeader      = "Lambda-Runtime-Function-XRay-Error-Cause"
	lambdaAttemptHeader   = "Lambda-Runtime-Invocation-Id"
	lambdaExtensionHeader = "Lambda-Extension-Identifier"
	lambdaCredentialsPath = "/2021-04-23/credentials"
)

// The runtime's states, as RIE names them. Under Managed Instances only the first three count.
const (
	lambdaStarted       = "Started"
	lambdaInitError     = "InitError"
	lambdaReady         = "Ready"
	lambdaRunning       = "Running"
	lambdaResponse      = "InvocationResponse"
	lambdaErrorResponse = "InvocationErrorResponse"
	lambdaResponseSent  = "ResponseSent"
	lambdaRestoreReady  = "RestoreReady"
	lambdaRestoring     = "Restoring"
	lambdaRestoreError  = "RestoreError"
)

func (e *lambdaEnv) credentialsEndpoint(_ http.ResponseWriter, r *http.Request) lambdaReply {
	if r.Header.Get("Authorization") != e.token {
		return lambdaReply{
			status: http.StatusNotFound,
			body:   []byte("cannot get credentials for the provided token\n"),
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.credentials
	return lambdaJSON(http.StatusOK, map[string]string{
		"AccessKeyId":     c.accessKeyID,
		"SecretAccessKey": c.secretAccessKey,
		"Token":           c.sessionToken,
		"Expiration":      c.expiration.UTC().Format(time.RFC3339),
	})
}

// runtimeNext waits for an event. A runtime that has not answered the last one gets that again.
func (e *lambdaEnv) runtimeNext(_ http.ResponseWriter, r *http.Request) lambdaReply {
	e.mu.Lock()
	defer e.mu.Unlock()
	sb := e.sb
	switch sb.state {
	case lambdaRunning: // the same event again
	case lambdaStarted, lambdaReady, lambdaResponseSent, lambdaRestoring:
		sb.state = lambdaReady
	default:
		return lambdaNotAllowed(sb.state, lambdaReady)
	}
	e.record(lambdaEvent{name: "runtime next", who: "runtime"})
	gone := e.await(r.Context(), func() bool {
		return sb.over || len(sb.queue) > 0 && r.Context().Err() == nil
	})
	if gone != nil || sb.over {
		return lambdaReply{}
	}
	inv := sb.queue[0]
	inv.delivered = true
	// Outside of Managed Instances it stays the current one until it is answered: a runtime that lost it can
	// ask again.
	if e.managed() {
		sb.queue = sb.queue[1:]
	} else {
		sb.state = lambdaRunning
	}
	e.record(lambdaEvent{name: "event delivered", who: "runtime", requestID: inv.requestID})
	return e.runtimeEvent(inv)
}

// runtimeEvent is the reply that takes the runtime its event.
func (e *lambdaEnv) runtimeEvent(inv *lambdaInvocation) lambdaReply {
	return lambdaReply{
		status: http.StatusOK,
		body:   inv.payload,
		header: map[string]string{
			"Content-Type":                        inv.contentType,
			"Lambda-Runtime-Aws-Request-Id":       inv.requestID,
			lambdaAttemptHeader:                   inv.attempt,
			"Lambda-Runtime-Deadline-Ms":          strconv.FormatInt(inv.deadline.UnixMilli(), 10),
			"Lambda-Runtime-Invoked-Function-Arn": e.arn(inv.qualifier),
			"Lambda-Runtime-Trace-Id":             inv.traceID,
			"Lambda-Runtime-Client-Context":       inv.clientContext,
			"Lambda-Runtime-Cognito-Identity":     inv.cognitoIdentity,
			"Lambda-Runtime-Aws-Tenant-Id":        inv.tenantID,
		},
	}
}

// runtimeAnswer serves /response and /error.
func (e *lambdaEnv) runtimeAnswer(w http.ResponseWriter, r *http.Request) lambdaReply {
	ev := lambdaEvent{
		name:      "answer",
		who:       "runtime",
		requestID: r.PathValue("id"),
		kind:      path.Base(r.URL.Path),
		header:    r.Header.Clone(),
	}
	sb, inv, refusal := e.beginAnswer(w, r, ev)
	if refusal.status != 0 {
		return refusal
	}
	result, reply := lambdaReadAnswer(r, inv, &ev)
	e.mu.Lock()
	defer e.mu.Unlock()
	inv.abort = nil
	if inv.over { // a reset is under way, which breaks this off
		reply = lambdaReply{}
	} else {
		e.answered(sb, inv, result)
	}
	ev.status = reply.status
	ev.detail = reply.refuse
	e.record(ev)
	return reply
}

// beginAnswer reserves the invocation for this one answer, or records why it is refused.
func (e *lambdaEnv) beginAnswer(w http.ResponseWriter, r *http.Request, ev lambdaEvent) (
	*lambdaSandbox, *lambdaInvocation, lambdaReply) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sb := e.sb
	inv := sb.invocations[ev.requestID]
	state := lambdaResponse
	if ev.kind == "error" {
		state = lambdaErrorResponse
	}
	refusal := e.checkAnswer(inv, r, ev.kind, state)
	if refusal.status != 0 {
		ev.status = refusal.status
		ev.detail = refusal.refuse
		e.record(ev)
		return nil, nil, refusal
	}
	e.record(lambdaEvent{name: "answer begun", who: "runtime", requestID: inv.requestID, detail: ev.kind})
	inv.answering = true
	inv.abort = func() { _ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) }
	if !e.managed() {
		sb.state = state
	}
	return sb, inv, lambdaReply{}
}

// checkAnswer checks the ID before the state, as Lambda does. inv is nil if no invocation has the ID; state
// is the one that the runtime would come to. e.mu is held.
func (e *lambdaEnv) checkAnswer(inv *lambdaInvocation, r *http.Request, kind, state string) lambdaReply {
	attempt := r.Header.Get(lambdaAttemptHeader)
	mode := r.Header.Get(lambdaModeHeader)
	switch {
	case inv == nil && e.managed() && e.sb.timedOut[r.PathValue("id")]:
		return lambdaRefusal(http.StatusGone, "InvokeTimeout", "Invoke timeout")
	case inv == nil || !inv.delivered:
		return lambdaRefusal(http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
	case attempt != "" && attempt != inv.attempt:
		return lambdaRefusal(http.StatusBadRequest, "InvalidInvocationId", "Invalid invocation ID")
	case inv.answering:
		return lambdaNotAllowed(e.sb.state, state)
	case kind == "response" && mode != "" && mode != "streaming":
		const message = "Invalid function response mode"
		e.answered(e.sb, inv, lambdaBroken("Runtime.InvalidResponseModeHeader", message))
		return lambdaRefusal(http.StatusBadRequest, "InvalidFunctionResponseMode", message)
	}
	return lambdaReply{}
}

// answered hands an answer to whoever waits in deliver. e.mu is held; the caller records.
func (e *lambdaEnv) answered(sb *lambdaSandbox, inv *lambdaInvocation, result invokeResult) {
	result.init = inv.result.init
	result.restore = inv.result.restore
	inv.result = result
	inv.answered = true
	sb.forget(inv)
	if !e.managed() {
		sb.state = lambdaResponseSent
	}
}

// lambdaBroken is what the invoker gets if the function gave no usable answer.
func lambdaBroken(errorType, message string) invokeResult {
	body, _ := json.Marshal(map[string]string{"errorType": errorType, "errorMessage": message})
	return invokeResult{
		payload:       body,
		contentType:   "application/json",
		functionError: "Unhandled",
		errorType:     errorType,
	}
}

// lambdaReadAnswer reads a completion: a streamed one goes to the invoker's writer, another one into the
// result. It adds to ev what it has read.
func lambdaReadAnswer(r *http.Request, inv *lambdaInvocation, ev *lambdaEvent) (invokeResult, lambdaReply) {
	body := make(lambdaBuffer, 0, min(max(r.ContentLength, 0), lambdaMaxPayload))
	var dst io.Writer = &body
	limit := int64(lambdaMaxPayload)
	streamed := ev.kind == "response" && inv.sink.begin(r.Header)
	if streamed {
		dst = &inv.sink
		limit = lambdaMaxStream
	}
	n, err := io.Copy(dst, io.LimitReader(r.Body, lambdaMaxStream+1))
	ev.size = n
	ev.trailer = r.Trailer.Clone()

	var result invokeResult
	reply := lambdaAccepted
	switch {
	case err != nil:
		result = lambdaBroken("Runtime.TruncatedResponse", "Response body was truncated")
		reply = lambdaTruncated
	case n > limit:
		result, reply = lambdaTooLarge(n, limit)
	default:
		result = invokeResult{
			payload:     body,
			contentType: cmp.Or(r.Header.Get("Content-Type"), "application/octet-stream"),
		}
		result.readError(r, ev, streamed)
	}
	result.streamed = streamed
	result.trailer = ev.trailer
	return result, reply
}

// lambdaTooLarge is what becomes of an answer of n bytes, above the limit.
func lambdaTooLarge(n, limit int64) (invokeResult, lambdaReply) {
	result := lambdaBroken("Function.ResponseSizeTooLarge", fmt.Sprintf(
		"Response payload size (%d bytes) exceeded maximum allowed payload size (%d bytes).", n, limit))
	reply := lambdaRefusal(
		http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
		"Exceeded maximum allowed payload size (%d bytes).", limit)
	return result, reply
}

// readError notes how the function failed, if it says so: by /error, or in the trailer of an answer that is
// streamed or was meant to be.
func (result *invokeResult) readError(r *http.Request, ev *lambdaEvent, streamed bool) {
	failed := ev.trailer.Get(lambdaErrorTypeHeader)
	if ev.kind == "error" {
		result.functionError = "Unhandled"
		result.errorType = lambdaErrorType(r.Header.Get(lambdaErrorTypeHeader))
		result.xrayCause = lambdaCause(r.Header.Get(lambdaXRayHeader))
	} else if failed != "" && (streamed || r.Header.Get(lambdaModeHeader) != "") {
		result.functionError = "Unhandled"
		result.errorType = lambdaErrorType(failed)
	}
}

// lambdaCause is X-Ray's error cause if it can be used. RIE shortens a long one, this drops it.
func lambdaCause(s string) json.RawMessage {
	if len(s) > lambdaMaxCause || !json.Valid([]byte(s)) {
		return nil
	}
	return json.RawMessage(s)
}

var lambdaErrorTypePattern = regexp.MustCompile(`(Runtime|Function)\.[A-Z][a-zA-Z]+`)

// lambdaErrorType is what Lambda makes of a runtime's error type for its metrics and logs.
func lambdaErrorType(t string) string {
	switch {
	case lambdaErrorTypePattern.MatchString(t):
		return t
	case strings.HasPrefix(t, "Function."):
		return "Function.Unknown"
	}
	return "Runtime.Unknown"
}

// runtimeInitError serves /init/error and /restore/error: each ends the environment, in its own state.
func (e *lambdaEnv) runtimeInitError(_ http.ResponseWriter, r *http.Request) lambdaReply {
	var body lambdaBuffer
	_, err := io.Copy(&body, io.LimitReader(r.Body, lambdaMaxPayload))
	if err != nil {
		return lambdaTruncated
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	from := lambdaStarted
	to := lambdaInitError
	if e.sb.state == lambdaRestoring || strings.HasSuffix(r.URL.Path, "/restore/error") {
		from = lambdaRestoring
		to = lambdaRestoreError
	}
	if e.sb.state != from {
		return lambdaNotAllowed(e.sb.state, to)
	}
	e.sb.state = to
	e.fail(e.sb, &lambdaFailure{
		errorType: lambdaErrorType(r.Header.Get(lambdaErrorTypeHeader)),
		message:   "the runtime reported an error",
		body:      body,
	})
	return lambdaAccepted
}

// runtimeRestoreNext returns when the snapshot of the runtime is restored, in a first invocation.
func (e *lambdaEnv) runtimeRestoreNext(_ http.ResponseWriter, r *http.Request) lambdaReply {
	e.mu.Lock()
	defer e.mu.Unlock()
	sb := e.sb
	if sb.state != lambdaStarted {
		return lambdaNotAllowed(sb.state, lambdaRestoreReady)
	}
	sb.state = lambdaRestoreReady
	e.record(lambdaEvent{name: "restore next", who: "runtime"})
	gone := e.await(r.Context(), func() bool { return sb.over || sb.restoring })
	if gone != nil || sb.over {
		return lambdaReply{}
	}
	sb.state = lambdaRestoring
	return lambdaReply{status: http.StatusOK}
}

// lambdaSink takes a streamed answer as long as its invocation has a caller.
type lambdaSink struct {
	mu   sync.Mutex // guards the following
	open func(http.Header) io.Writer
	w    io.Writer
	used bool
}

// begin opens the invoker's writer. It returns false if the answer is to be buffered.
func (s *lambdaSink) begin(h http.Header) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil {
		s.w = s.open(h)
		s.used = s.w != nil
	}
	return s.used
}

// Write never fails: a caller that hangs up does not stop the function.
func (s *lambdaSink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w != nil {
		_, err := s.w.Write(p)
		if err != nil {
			s.w = nil
		}
	}
	return len(p), nil
}

// detach returns when the writer is not in use and will not be again.
func (s *lambdaSink) detach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = nil
	s.w = nil
}

// lambdaBuffer keeps what may be an answer and drops the rest.
type lambdaBuffer []byte

func (b *lambdaBuffer) Write(p []byte) (int, error) {
	room := lambdaMaxPayload - len(*b)
	*b = append(*b, p[:min(len(p), room)]...)
	return len(p), nil
}
