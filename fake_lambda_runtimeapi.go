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
			status: http.StatusNotFound, body: []byte("cannot get credentials for the provided token\n")}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.credentials
	return lambdaJSON(http.StatusOK, map[string]string{
		"AccessKeyId": c.accessKeyID, "SecretAccessKey": c.secretAccessKey, "Token": c.sessionToken,
		"Expiration": c.expiration.UTC().Format(time.RFC3339),
	})
}

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
	if e.await(r.Context(), func() bool {
		return sb.over || len(sb.queue) > 0 && r.Context().Err() == nil
	}) != nil || sb.over {
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
	return lambdaReply{status: http.StatusOK, body: inv.payload, header: map[string]string{
		"Content-Type":                        inv.contentType,
		"Lambda-Runtime-Aws-Request-Id":       inv.requestID,
		lambdaAttemptHeader:                   inv.attempt,
		"Lambda-Runtime-Deadline-Ms":          strconv.FormatInt(inv.deadline.UnixMilli(), 10),
		"Lambda-Runtime-Invoked-Function-Arn": e.arn(inv.qualifier),
		"Lambda-Runtime-Trace-Id":             inv.traceID,
		"Lambda-Runtime-Client-Context":       inv.clientContext,
		"Lambda-Runtime-Cognito-Identity":     inv.cognitoIdentity,
		"Lambda-Runtime-Aws-Tenant-Id":        inv.tenantID,
	}}
}

// runtimeAnswer serves /response and /error.
func (e *lambdaEnv) runtimeAnswer(w http.ResponseWriter, r *http.Request) lambdaReply {
	ev := lambdaEvent{
		name: "answer", who: "runtime", requestID: r.PathValue("id"), kind: path.Base(r.URL.Path),
		header: r.Header.Clone()}
	sb, inv, reply := e.beginAnswer(w, r, ev)
	if inv == nil {
		return reply
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
	ev.status, ev.detail = reply.status, reply.refuse
	e.record(ev)
	return reply
}

// beginAnswer checks the ID before the state, as Lambda does, and reserves the invocation for this one
// answer.
func (e *lambdaEnv) beginAnswer(w http.ResponseWriter, r *http.Request, ev lambdaEvent) (
	sb *lambdaSandbox, inv *lambdaInvocation, refusal lambdaReply) {
	e.mu.Lock()
	defer e.mu.Unlock()
	state := map[string]string{"response": lambdaResponse, "error": lambdaErrorResponse}[ev.kind]
	attempt, mode := r.Header.Get(lambdaAttemptHeader), r.Header.Get(lambdaModeHeader)
	sb = e.sb
	inv = sb.invocations[ev.requestID]
	switch {
	case inv == nil || !inv.delivered:
		refusal = lambdaRefusal(http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
	case attempt != "" && attempt != inv.attempt:
		refusal = lambdaRefusal(http.StatusBadRequest, "InvalidInvocationId", "Invalid invocation ID")
	case inv.answering:
		refusal = lambdaNotAllowed(sb.state, state)
	case ev.kind == "response" && mode != "" && mode != "streaming":
		refusal = lambdaRefusal(
			http.StatusBadRequest, "InvalidFunctionResponseMode", "Invalid function response mode")
		e.answered(sb, inv,
			lambdaBroken("Runtime.InvalidResponseModeHeader", "Invalid function response mode"))
	}
	if refusal.status != 0 {
		ev.status, ev.detail = refusal.status, refusal.refuse
		e.record(ev)
		return nil, nil, refusal
	}
	e.record(lambdaEvent{name: "answer begun", who: "runtime", requestID: inv.requestID, detail: ev.kind})
	inv.answering = true
	inv.abort = func() { _ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) }
	if !e.managed() {
		sb.state = state
	}
	return sb, inv, refusal
}

// answered hands an answer to whoever waits in deliver. e.mu is held; the caller records.
func (e *lambdaEnv) answered(sb *lambdaSandbox, inv *lambdaInvocation, result invokeResult) {
	result.init, result.restore = inv.result.init, inv.result.restore
	inv.result, inv.answered = result, true
	sb.forget(inv)
	if !e.managed() {
		sb.state = lambdaResponseSent
	}
}

// lambdaBroken is what the invoker gets where the function gave no usable answer.
func lambdaBroken(errorType, message string) invokeResult {
	body, _ := json.Marshal(map[string]string{"errorType": errorType, "errorMessage": message})
	return invokeResult{
		payload: body, contentType: "application/json", functionError: "Unhandled", errorType: errorType}
}

// lambdaReadAnswer reads a completion: a streamed one goes where the invoker wants it, another one into the
// result.
func lambdaReadAnswer(r *http.Request, inv *lambdaInvocation, ev *lambdaEvent) (invokeResult, lambdaReply) {
	body := make(lambdaBuffer, 0, min(max(r.ContentLength, 0), lambdaMaxPayload))
	dst, limit := io.Writer(&body), int64(lambdaMaxPayload)
	streamed := ev.kind == "response" && inv.sink.begin(r.Header)
	if streamed {
		dst, limit = &inv.sink, lambdaMaxStream
	}
	n, err := io.Copy(dst, io.LimitReader(r.Body, lambdaMaxStream+1))
	ev.size, ev.trailer = n, r.Trailer.Clone()
	result, reply := invokeResult{
		payload: body, contentType: cmp.Or(r.Header.Get("Content-Type"), "application/octet-stream")},
		lambdaAccepted
	failed, honoured := ev.trailer.Get(lambdaErrorTypeHeader),
		streamed || r.Header.Get(lambdaModeHeader) != ""
	switch {
	case err != nil:
		result, reply = lambdaBroken("Runtime.TruncatedResponse", "Response body was truncated"),
			lambdaTruncated
	case n > limit:
		reply = lambdaRefusal(
			http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
			"Exceeded maximum allowed payload size (%d bytes).", limit)
		result = lambdaBroken("Function.ResponseSizeTooLarge",
			fmt.Sprintf(
				"Response payload size (%d bytes) exceeded maximum allowed payload size (%d bytes).", n,
				limit))
	case ev.kind == "error":
		result.functionError, result.errorType = "Unhandled",
			lambdaErrorType(r.Header.Get(lambdaErrorTypeHeader))
		result.xrayCause = lambdaCause(r.Header.Get(lambdaXRayHeader))
	case failed != "" && honoured:
		result.functionError, result.errorType = "Unhandled", lambdaErrorType(failed)
	}
	result.streamed, result.trailer = streamed, ev.trailer
	return result, reply
}

// lambdaCause is X-Ray's error cause where it can be used. RIE shortens a long one, this drops it.
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
	if _, err := io.Copy(&body, io.LimitReader(r.Body, lambdaMaxPayload)); err != nil {
		return lambdaTruncated
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	from, to := lambdaStarted, lambdaInitError
	if e.sb.state == lambdaRestoring || strings.HasSuffix(r.URL.Path, "/restore/error") {
		from, to = lambdaRestoring, lambdaRestoreError
	}
	if e.sb.state != from {
		return lambdaNotAllowed(e.sb.state, to)
	}
	e.sb.state = to
	e.fail(e.sb,
		&lambdaFailure{
			lambdaErrorType(r.Header.Get(lambdaErrorTypeHeader)), "the runtime reported an error", body})
	return lambdaAccepted
}

func (e *lambdaEnv) runtimeRestoreNext(_ http.ResponseWriter, r *http.Request) lambdaReply {
	e.mu.Lock()
	defer e.mu.Unlock()
	sb := e.sb
	if sb.state != lambdaStarted {
		return lambdaNotAllowed(sb.state, lambdaRestoreReady)
	}
	sb.state = lambdaRestoreReady
	e.record(lambdaEvent{name: "restore next", who: "runtime"})
	if e.await(r.Context(), func() bool { return sb.over || sb.restoring }) != nil || sb.over {
		return lambdaReply{}
	}
	sb.state = lambdaRestoring
	return lambdaReply{status: http.StatusOK}
}

// lambdaSink is where a streamed answer goes while its invocation has a caller.
type lambdaSink struct {
	mu   sync.Mutex
	open func(http.Header) io.Writer
	w    io.Writer
	used bool
}

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
		if _, err := s.w.Write(p); err != nil {
			s.w = nil
		}
	}
	return len(p), nil
}

// detach returns when the writer is not in use and will not be again.
func (s *lambdaSink) detach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.w = nil, nil
}

// lambdaBuffer keeps what may be an answer and drops the rest.
type lambdaBuffer []byte

func (b *lambdaBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p[:min(len(p), lambdaMaxPayload-len(*b))]...)
	return len(p), nil
}
