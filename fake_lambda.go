//go:build !layer

// An AWS Lambda execution environment on loopback, for `demo` and for the tests: the Runtime API, the
// Extensions API and the life of the processes that use them.
//
// In: events, by invoke or as HTTP through serveInvoke. Out: what the function answered, or the error that
// Lambda would give instead, both in a result; error values are for what never became an invocation. Sizes
// are bytes, times are wall time. What happens is in a bounded record that a caller can wait on.
//
// One mutex guards all state; whoever changes it records an event, which wakes every waiter. Goroutines: one
// for each invocation and for the first init, two for each process (its exit, its output), those of the HTTP
// server; close waits for all of them. A sandbox is one generation of processes: a timeout or a crash ends
// it, and the next invocation begins another, which is Lambda's reset.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
// Where those are silent it does as https://github.com/aws/aws-lambda-runtime-interface-emulator ("RIE").

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const (
	// an event, or an answer that is not streamed (RIE; documented as 6 MB)
	lambdaMaxPayload    = 6*1024*1024 + 100
	lambdaMaxRequest    = 6 * 1024 * 1024   // an event in an Invoke call
	lambdaMaxAsync      = 1024 * 1024       // the same with X-Amz-Invocation-Type: Event
	lambdaMaxStream     = 200 * 1024 * 1024 // a streamed answer
	lambdaMaxTimeout    = 900 * time.Second
	lambdaMaxExtensions = 10 // registered, external and internal together
	lambdaMaxCause      = 64 * 1024

	lambdaRecordSize = 16384 // events that the record keeps; these two are not Lambda's numbers
	lambdaAsyncQueue = 1000  // asynchronous invocations that are not over
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

// lambdaOptions describe a function and its environment. The zero value of each field is usable.
type lambdaOptions struct {
	functionName, version, handler string            // "function", "$LATEST", "index.handler"
	region, account                string            // "us-east-1", "123456789012"
	memoryMB                       int               // 128
	timeout                        time.Duration     // 3 s
	environment                    map[string]string // the function's own variables
	credentials                    lambdaCredentials // invented ones

	layerDir string // stands for /opt: extensions/ is started, bin/ is on PATH, bootstrap may be there
	taskDir  string // LAMBDA_TASK_ROOT, the runtime's working directory; the current one
	// what a managed runtime runs, through AWS_LAMBDA_EXEC_WRAPPER; empty: the caller plays it by HTTP
	runtime  []string
	osOnly   bool         // an OS-only runtime: bootstrap from taskDir, else layerDir, and no exec wrapper
	external []string     // external extensions that the caller plays by HTTP
	output   io.Writer    // takes the processes' output, a line a Write, and must not block
	listener net.Listener // of the Runtime API; a port on loopback

	initType        string        // what follows from snapStart and maxConcurrency, else on-demand
	maxConcurrency  int           // above 1: Lambda Managed Instances with so many invocations at once
	snapStart       bool          // restore/next, and credentials from an endpoint instead of variables
	noFreeze        bool          // leave processes running between invocations
	initTimeout     time.Duration // 10 s on demand, else at least 130 s
	shutdownTimeout time.Duration // 2 s, with external extensions

	// fault, where set, is asked before each Runtime and Extensions API call is served, concurrently.
	fault func(*http.Request) lambdaFault
}

// lambdaFault replaces the reply to one call. The zero value is no fault.
type lambdaFault struct {
	status    int // answer this
	errorType string
	drop      bool // close the connection without an answer
	late      bool // only after the call took effect: just the reply is lost
}

type lambdaCredentials struct {
	accessKeyID, secretAccessKey, sessionToken string
	expiration                                 time.Time // told by the SnapStart endpoint alone
}

// invokeRequest is one invocation. What is empty does not reach the runtime, but for what has a default and
// for IDs.
type invokeRequest struct {
	payload                        []byte
	timeout                        time.Duration   // the function's
	expire                         <-chan struct{} // closing it makes the deadline pass at once
	contentType                    string          // application/json
	requestID                      string          // a retry carries the ID of the attempt before
	qualifier                      string          // version or alias, part of the ARN
	traceID, tenantID              string
	clientContext, cognitoIdentity string // JSON

	// onResponse makes this a streaming invocation: it gets the headers of /response before the first byte,
	// and the writer that it returns takes the bytes as they arrive. With nil the answer is buffered after
	// all. Neither is used once invoke has returned, so a Write must not block for ever.
	onResponse func(http.Header) io.Writer
}

// invokeResult is what the caller of a function gets.
type invokeResult struct {
	requestID, invocationID string
	payload                 []byte // the answer, or error JSON; not what onResponse's writer took
	contentType             string
	functionError           string // "Unhandled" when the function failed, however it did
	errorType               string // normalised as Lambda does for its metrics
	xrayCause               json.RawMessage
	streamed                bool          // the writer took the answer, or its beginning
	trailer                 http.Header   // of /response
	init, restore           time.Duration // of this invocation's own
	duration                time.Duration // from the event's release until the answer was complete
}

// lambdaEvent is one line of the record. Names: "init start", "extension launched", "extension registered",
// "runtime started", "runtime next", "extension next", "restore next", "init done", "init failed",
// "restored", "invoke start", "event delivered", "answer begun", "answer", "invoke end", "invoke failed",
// "failure", "frozen", "thawed", "shutdown", "process exited", "shutdown done".
type lambdaEvent struct {
	seq       int // from 1
	at        time.Time
	name, who string // who: "runtime", an extension's name, or empty for the environment itself
	requestID string
	detail    string // error type, exit status or reason

	// Of an "answer" only, an attempt to complete an invocation. status is what the Runtime API decided, 0
	// where it broke the connection off; a late fault changes what the client sees, not this.
	kind            string // "response" or "error"
	status          int
	header, trailer http.Header
	size            int64
}

// lambdaExit says how one process ended at shutdown.
type lambdaExit struct {
	name     string
	status   string // "exit status 0", "signal: killed"
	code     int    // -1 for a signal
	byItself bool   // not by this emulator's SIGKILL
}

type lambdaEnv struct {
	lambdaOptions
	addr string // host:port of the Runtime API

	server        *http.Server
	slots, async  chan struct{}  // a place for each invocation at once; for each asynchronous one
	closed        chan struct{}  // no new invocations
	work          sync.WaitGroup // invocations and the first init
	serving       sync.WaitGroup
	connections   sync.WaitGroup
	closeOnce     sync.Once
	token         string     // of the credentials endpoint
	outputMu      sync.Mutex // one line at a time
	initMu        sync.Mutex // held through each init and restore
	mu            sync.Mutex // guards the rest, everything in a sandbox, and credentials
	changed       chan struct{}
	sb            *lambdaSandbox
	closing       bool
	firstInitDone bool
	firstInit     *lambdaFailure
	report        []lambdaExit // of the last processes that were stopped
	log           []lambdaEvent
	seq           int
}

// lambdaSandbox is one generation of the environment's processes and what the APIs know of them.
type lambdaSandbox struct {
	state                    string   // the runtime's
	ready, restoring, frozen bool     // ready: init is done
	restored, stopping, over bool     // over: held calls are dropped
	external                 []string // names that must register before the runtime starts
	extensions               []*lambdaExtension
	queue                    []*lambdaInvocation // for next
	invocations              map[string]*lambdaInvocation
	failure                  *lambdaFailure // the first one counts
	processes                []*lambdaProcess
	runtime                  *lambdaProcess
	waits                    sync.WaitGroup
	stopOnce                 sync.Once
}

type lambdaInvocation struct {
	invokeRequest
	attempt            string
	deadline, released time.Time
	delivered          bool
	answering          bool   // a completion is being read
	answered           bool   // result is complete
	over               bool   // nobody waits for it any more
	abort              func() // interrupts the completion being read
	result             invokeResult
	sink               lambdaSink
}

type lambdaExtension struct {
	name, id                   string
	external, invoke, shutdown bool // what it is and registered for
	called, waiting            bool // next: at least once; now
	busy                       bool // INVOKE is out and next not called since
	told                       bool // an event is being written to it
	failed                     bool // it reported init/error or exit/error
	event                      *lambdaExtensionEvent
}

type lambdaExtensionEvent struct {
	EventType          string            `json:"eventType"`
	ShutdownReason     string            `json:"shutdownReason,omitempty"`
	DeadlineMs         int64             `json:"deadlineMs"`
	RequestID          string            `json:"requestId,omitempty"`
	InvokedFunctionArn string            `json:"invokedFunctionArn,omitempty"`
	Tracing            map[string]string `json:"tracing,omitempty"`
}

// lambdaFailure ends an invocation or an init other than by an answer.
type lambdaFailure struct {
	errorType, message string
	body               []byte // what the runtime itself said, instead
}

func (f *lambdaFailure) Error() string { return f.errorType + ": " + f.message }

// reason is what SHUTDOWN says after it.
func (f *lambdaFailure) reason() string {
	switch {
	case f == errLambdaDown:
		return "spindown"
	case f.errorType == "Sandbox.Timedout":
		return "timeout"
	}
	return "failure"
}

func lambdaTimedOut(limit time.Duration) *lambdaFailure {
	return &lambdaFailure{
		errorType: "Sandbox.Timedout",
		message:   fmt.Sprintf("Task timed out after %.2f seconds", limit.Seconds())}
}

var (
	errLambdaClosed = errors.New("invoke: the environment is closed")
	errLambdaDown   = &lambdaFailure{errorType: "Sandbox.Failure", message: "the environment was shut down"}
)

// ---- start and stop ----

// startLambda opens the Runtime API, begins init and returns; ctx bounds that alone. A failed init is no
// error here: as in Lambda the first invocation repeats it and reports what comes of that. See ready.
func startLambda(ctx context.Context, o lambdaOptions) (*lambdaEnv, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", o.functionName, err)
	}
	e := &lambdaEnv{
		lambdaOptions: o, token: lambdaUUID(),
		slots: make(chan struct{}, o.maxConcurrency), async: make(chan struct{}, lambdaAsyncQueue),
		closed: make(chan struct{}), changed: make(chan struct{}),
	}
	if e.sb, err = e.newSandbox(); err != nil {
		return nil, fmt.Errorf("start %s: %w", o.functionName, err)
	}
	ln := o.listener
	if ln == nil {
		if ln, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("listen for the Runtime API: %w", err)
		}
	}
	e.addr = ln.Addr().String()
	e.server = &http.Server{Handler: e.routes(), ConnState: e.count}
	e.serving.Go(func() { _ = e.server.Serve(ln) }) // ends with close, and with nothing to report
	e.initMu.Lock()                                 // no invocation before the first init is over
	e.work.Go(e.initialise)
	return e, nil
}

func (o lambdaOptions) withDefaults() (lambdaOptions, error) {
	o.functionName, o.version = cmp.Or(o.functionName, "function"), cmp.Or(o.version, "$LATEST")
	o.handler, o.region = cmp.Or(o.handler, "index.handler"), cmp.Or(o.region, "us-east-1")
	o.account, o.memoryMB = cmp.Or(o.account, "123456789012"), cmp.Or(o.memoryMB, 128)
	o.timeout, o.maxConcurrency = cmp.Or(o.timeout, 3*time.Second), max(o.maxConcurrency, 1)
	o.output = cmp.Or(o.output, io.Discard)
	o.credentials = cmp.Or(o.credentials, lambdaCredentials{
		accessKeyID: "ASIAEMULATEDLAMBDA00", secretAccessKey: "emulated-secret",
		sessionToken: "emulated-token",
	})
	initTimeout := max(130*time.Second, o.timeout)
	switch {
	case o.initType != "":
	case o.snapStart:
		o.initType = "snap-start"
	case o.maxConcurrency > 1:
		o.initType = "lambda-managed-instances"
	default:
		o.initType, initTimeout = "on-demand", 10*time.Second
	}
	o.initTimeout, o.shutdownTimeout = cmp.Or(o.initTimeout, initTimeout),
		cmp.Or(o.shutdownTimeout, 2*time.Second)
	if o.timeout < 0 || o.timeout > lambdaMaxTimeout {
		return o, fmt.Errorf("timeout %v: want more than 0 and at most %v", o.timeout, lambdaMaxTimeout)
	}
	var err1, err2 error
	o.taskDir, err1 = filepath.Abs(o.taskDir)
	if o.layerDir != "" {
		o.layerDir, err2 = filepath.Abs(o.layerDir)
	}
	return o, errors.Join(err1, err2)
}

// count lets close wait for the server's connections, and so for their handlers.
func (e *lambdaEnv) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		e.connections.Add(1)
	case http.StateClosed, http.StateHijacked:
		e.connections.Done()
	}
}

// initialise is the first init.
func (e *lambdaEnv) initialise() {
	defer e.initMu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), e.initTimeout)
	defer cancel()
	sb := e.current()
	failure := e.init(ctx, sb, e.initTimeout)
	if failure != nil {
		e.stop(sb, failure.reason())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.firstInitDone, e.firstInit = true, failure
	e.wake()
}

// ready returns when the first init is over: nil, or how it failed.
func (e *lambdaEnv) ready(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.await(ctx, func() bool { return e.firstInitDone }); err != nil {
		return fmt.Errorf("wait for the init of %s: %w", e.functionName, err)
	}
	if e.firstInit != nil {
		return e.firstInit
	}
	return nil
}

// close shuts down at once, with the reason SPINDOWN: a running invocation fails, extensions get SHUTDOWN as
// soon as they ask. It returns when nothing is left, with how the last generation's processes ended.
func (e *lambdaEnv) close() []lambdaExit {
	e.closeOnce.Do(func() {
		e.mu.Lock()
		e.closing = true
		close(e.closed)
		e.fail(e.sb, errLambdaDown)
		e.mu.Unlock()
		e.work.Wait()
		e.stop(e.current(), "spindown")
		e.server.Close()
		e.serving.Wait()
		e.connections.Wait()
	})
	return e.report
}

// setCredentials changes what the credentials endpoint tells, and the variables of processes yet to start.
func (e *lambdaEnv) setCredentials(c lambdaCredentials) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.credentials = c
}

func (e *lambdaEnv) managed() bool { return e.maxConcurrency > 1 }

func (e *lambdaEnv) current() *lambdaSandbox {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sb
}

// ---- the record ----

// record notes an event and wakes everyone in await. e.mu is held.
func (e *lambdaEnv) record(ev lambdaEvent) {
	e.seq++
	ev.seq, ev.at = e.seq, time.Now()
	if len(e.log) == lambdaRecordSize {
		e.log = slices.Clone(e.log[lambdaRecordSize/2:])
	}
	e.log = append(e.log, ev)
	e.wake()
}

func (e *lambdaEnv) wake() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// await returns once done says true, or else with the context's cause. e.mu is held on entry, in done and on
// return.
func (e *lambdaEnv) await(ctx context.Context, done func() bool) error {
	for !done() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		changed := e.changed
		e.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		e.mu.Lock()
	}
	return nil
}

// events is what the record holds, oldest first.
func (e *lambdaEnv) events() []lambdaEvent {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.log)
}

// completions are the attempts to complete an invocation, in the order in which they were decided.
func (e *lambdaEnv) completions(requestID string) (attempts []lambdaEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.log {
		if ev.kind != "" && ev.requestID == requestID {
			attempts = append(attempts, ev)
		}
	}
	return attempts
}

// waitFor returns the first event with a number above after (0: any) that match accepts, and waits for it.
func (e *lambdaEnv) waitFor(ctx context.Context, after int, match func(lambdaEvent) bool) (
	found lambdaEvent, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	err = e.await(ctx, func() bool {
		unseen := e.log[len(e.log)-min(len(e.log), max(0, e.seq-after)):] // numbers have no gaps
		after = e.seq
		i := slices.IndexFunc(unseen, match)
		if i >= 0 {
			found = unseen[i]
		}
		return i >= 0
	})
	return found, err
}

// ---- one invocation ----

// invoke runs one invocation and returns when its caller would have the answer; the phase may last longer. A
// cancelled ctx ends the wait, not the invocation.
func (e *lambdaEnv) invoke(ctx context.Context, req invokeRequest) (invokeResult, error) {
	if len(req.payload) > lambdaMaxPayload {
		return invokeResult{},
			fmt.Errorf("invoke %s: event of %d bytes, want at most %d", e.functionName, len(req.payload),
				lambdaMaxPayload)
	}
	select {
	case e.slots <- struct{}{}:
	case <-e.closed:
		return invokeResult{}, errLambdaClosed
	case <-ctx.Done():
		return invokeResult{}, fmt.Errorf("wait for %s to be free: %w", e.functionName, context.Cause(ctx))
	}
	req.timeout = cmp.Or(req.timeout, e.timeout)
	inv := newLambdaInvocation(req)
	answer := make(chan invokeResult, 1)
	if !e.spawn(func() { e.phase(inv, answer); <-e.slots }) {
		return invokeResult{}, errLambdaClosed
	}
	select {
	case result := <-answer:
		return result, nil
	case <-ctx.Done():
		inv.sink.detach()
		return invokeResult{}, fmt.Errorf("invoke %s: %w", e.functionName, context.Cause(ctx))
	}
}

// spawn starts work that close waits for, unless close has begun.
func (e *lambdaEnv) spawn(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closing {
		e.work.Go(f)
	}
	return !e.closing
}

func newLambdaInvocation(req invokeRequest) *lambdaInvocation {
	req.requestID, req.contentType = cmp.Or(req.requestID, lambdaUUID()),
		cmp.Or(req.contentType, "application/json")
	if req.traceID == "" {
		id := strings.ReplaceAll(lambdaUUID()+lambdaUUID(), "-", "")
		req.traceID = fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=0", time.Now().Unix(), id[:24], id[24:40])
	}
	return &lambdaInvocation{
		invokeRequest: req, attempt: lambdaUUID(), sink: lambdaSink{open: req.onResponse}}
}

// phase is Lambda's Invoke phase with what may precede it.
func (e *lambdaEnv) phase(inv *lambdaInvocation, answer chan<- invokeResult) {
	e.initMu.Lock()
	inv.deadline = time.Now().Add(inv.timeout) // the first init was not on this clock, a repeated one is
	ctx, cancel := context.WithDeadline(context.Background(), inv.deadline)
	defer cancel()
	e.work.Go(func() {
		select {
		case <-inv.expire:
			cancel()
		case <-ctx.Done():
		}
	})
	sb, failure := e.prepare(ctx, inv)
	e.initMu.Unlock()
	if failure == nil {
		failure = e.deliver(ctx, sb, inv)
	}
	inv.sink.detach() // without e.mu: it waits for a Write
	answer <- e.result(inv, failure)
	if failure == nil {
		failure = e.finish(ctx, sb, inv)
	}
	if failure == nil {
		return
	}
	e.mu.Lock()
	e.record(lambdaEvent{name: "invoke failed", requestID: inv.requestID, detail: failure.errorType})
	// RIE: a timeout there, as other invocations are in the same process
	goesOn := e.managed() && sb.failure == nil
	e.mu.Unlock()
	if !goesOn {
		e.stop(sb, failure.reason())
	}
}

// prepare gives the sandbox for an invocation, initialised and restored. e.initMu is held.
func (e *lambdaEnv) prepare(ctx context.Context, inv *lambdaInvocation) (
	sb *lambdaSandbox, failure *lambdaFailure) {
	sb = e.current()
	if start := time.Now(); !sb.ready {
		failure = e.init(ctx, sb, inv.timeout)
		inv.result.init = time.Since(start)
	}
	if start := time.Now(); failure == nil && e.snapStart && !sb.restored {
		failure = e.restore(ctx, sb)
		inv.result.restore = time.Since(start)
	}
	return sb, failure
}

// deliver releases the event to the runtime and INVOKE to the extensions, and returns once inv.result is the
// answer.
func (e *lambdaEnv) deliver(ctx context.Context, sb *lambdaSandbox, inv *lambdaInvocation) *lambdaFailure {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.thaw(sb)
	inv.released = time.Now()
	sb.invocations[inv.requestID] = inv
	sb.queue = append(sb.queue, inv)
	for _, x := range sb.extensions {
		if x.invoke {
			x.busy = true
			x.event = &lambdaExtensionEvent{
				EventType: "INVOKE", DeadlineMs: inv.deadline.UnixMilli(), RequestID: inv.requestID,
				InvokedFunctionArn: e.arn(inv.qualifier),
				Tracing:            map[string]string{"type": "X-Amzn-Trace-Id", "value": inv.traceID},
			}
		}
	}
	e.record(lambdaEvent{name: "invoke start", requestID: inv.requestID})
	late := e.await(ctx, func() bool { return inv.answered || sb.failure != nil })
	if inv.answered {
		return nil
	}
	inv.over = true
	sb.forget(inv)
	if inv.abort != nil {
		inv.abort()
	}
	if late != nil {
		return lambdaTimedOut(inv.timeout)
	}
	return sb.failure
}

// finish waits until nothing holds the phase open: the runtime and the extensions that got INVOKE have called
// next.
func (e *lambdaEnv) finish(ctx context.Context, sb *lambdaSandbox, inv *lambdaInvocation) *lambdaFailure {
	e.mu.Lock()
	defer e.mu.Unlock()
	busy := func(x *lambdaExtension) bool { return x.busy }
	late := e.await(ctx, func() bool {
		return sb.failure != nil || sb.state == lambdaReady && !slices.ContainsFunc(sb.extensions, busy)
	})
	if late != nil {
		return lambdaTimedOut(inv.timeout)
	}
	if sb.failure == nil {
		e.freeze(sb)
		e.record(lambdaEvent{name: "invoke end", requestID: inv.requestID})
	}
	return sb.failure
}

func (e *lambdaEnv) result(inv *lambdaInvocation, failure *lambdaFailure) invokeResult {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := inv.result
	r.requestID, r.invocationID = inv.requestID, inv.attempt
	if !inv.released.IsZero() {
		r.duration = time.Since(inv.released)
	}
	if failure != nil {
		broken := lambdaBroken(failure.errorType, "RequestId: "+inv.requestID+" Error: "+failure.message)
		r.functionError, r.errorType, r.contentType, r.payload = broken.functionError, broken.errorType,
			broken.contentType, broken.payload
		r.streamed = inv.sink.used
		if failure.body != nil {
			r.payload = failure.body
		}
	}
	return r
}

func (e *lambdaEnv) arn(qualifier string) string {
	arn := "arn:aws:lambda:" + e.region + ":" + e.account + ":function:" + e.functionName
	if qualifier != "" {
		arn += ":" + qualifier
	}
	return arn
}

// ---- init, restore, freeze, shutdown ----

func (e *lambdaEnv) newSandbox() (*lambdaSandbox, error) {
	paths, err := e.extensionPaths()
	sb := &lambdaSandbox{
		state: lambdaStarted, external: slices.Clone(e.external), invocations: map[string]*lambdaInvocation{}}
	for _, p := range paths {
		sb.external = append(sb.external, filepath.Base(p))
	}
	return sb, err
}

// extensionPaths are the entries of /opt/extensions that are not directories, by name: each is an external
// extension.
func (e *lambdaEnv) extensionPaths() (paths []string, err error) {
	if e.layerDir == "" {
		return nil, nil
	}
	dir := filepath.Join(e.layerDir, "extensions")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list extensions: %w", err)
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			paths = append(paths, filepath.Join(dir, entry.Name()))
		}
	}
	return paths, nil
}

// init starts the extensions, then, when all external ones have registered, the runtime, and waits until
// everyone has called next. e.initMu is held; limit is what a timeout says.
func (e *lambdaEnv) init(ctx context.Context, sb *lambdaSandbox, limit time.Duration) *lambdaFailure {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.record(lambdaEvent{name: "init start"})
	if sb.failure == nil {
		e.launchExtensions(sb)
	}
	late := e.await(ctx, func() bool { return sb.failure != nil || sb.allRegistered() })
	if late == nil && sb.failure == nil {
		e.launchRuntime(sb)
		late = e.await(ctx, func() bool { return sb.failure != nil || sb.allWaiting() })
	}
	if late != nil {
		e.fail(sb, lambdaTimedOut(limit))
	}
	if sb.failure != nil {
		e.record(lambdaEvent{name: "init failed", detail: sb.failure.errorType})
		return sb.failure
	}
	sb.ready = true
	e.freeze(sb)
	e.record(lambdaEvent{name: "init done"})
	return nil
}

func (sb *lambdaSandbox) allRegistered() bool {
	return !slices.ContainsFunc(sb.external, func(name string) bool { return sb.extension(name) == nil })
}

func (sb *lambdaSandbox) allWaiting() bool {
	waits := sb.state == lambdaReady || sb.state == lambdaRestoreReady
	return waits && !slices.ContainsFunc(sb.extensions, func(x *lambdaExtension) bool { return !x.called })
}

func (sb *lambdaSandbox) extension(name string) *lambdaExtension {
	for _, x := range sb.extensions {
		if x.name == name {
			return x
		}
	}
	return nil
}

// forget makes an invocation's ID invalid.
func (sb *lambdaSandbox) forget(inv *lambdaInvocation) {
	delete(sb.invocations, inv.requestID)
	sb.queue = slices.DeleteFunc(sb.queue, func(i *lambdaInvocation) bool { return i == inv })
}

// restore lets restore/next return and waits for the runtime's after-restore hooks.
// https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks.html
func (e *lambdaEnv) restore(ctx context.Context, sb *lambdaSandbox) *lambdaFailure {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.thaw(sb)
	sb.restoring = true
	e.wake()
	if e.await(ctx, func() bool { return sb.failure != nil || sb.state == lambdaReady }) != nil {
		e.fail(sb, &lambdaFailure{
			errorType: "SnapStartTimeoutException",
			message:   "the runtime did not call next in time after the restore"})
	}
	if sb.restored = sb.failure == nil; sb.restored {
		e.record(lambdaEvent{name: "restored"})
	}
	return sb.failure
}

// fail ends the sandbox's invocations unless something did before. e.mu is held.
func (e *lambdaEnv) fail(sb *lambdaSandbox, failure *lambdaFailure) {
	if sb.failure == nil && !sb.stopping {
		sb.failure = failure
		e.record(lambdaEvent{name: "failure", detail: failure.errorType})
	}
}

// freeze stops all processes, as Lambda does between phases. e.mu is held.
func (e *lambdaEnv) freeze(sb *lambdaSandbox) {
	if !e.noFreeze && !e.managed() && !sb.frozen {
		sb.frozen = true
		sb.signal(syscall.SIGSTOP)
		e.record(lambdaEvent{name: "frozen"})
	}
}

// thaw is freeze's opposite. e.mu is held.
func (e *lambdaEnv) thaw(sb *lambdaSandbox) {
	if sb.frozen {
		sb.frozen = false
		sb.signal(syscall.SIGCONT)
		e.record(lambdaEvent{name: "thawed"})
	}
}

func (sb *lambdaSandbox) signal(s syscall.Signal) {
	for _, p := range sb.processes {
		p.signal(s)
	}
}

// stop is Lambda's Shutdown phase, for a reset too: first the runtime, with 30 % of the time, then the
// extensions. The sandbox that follows stays empty until the next invocation.
func (e *lambdaEnv) stop(sb *lambdaSandbox, reason string) {
	sb.stopOnce.Do(func() {
		e.mu.Lock()
		sb.stopping = true
		e.thaw(sb)
		e.record(lambdaEvent{name: "shutdown", detail: reason})
		start, budget := time.Now(), time.Duration(0)
		if len(sb.external) > 0 {
			budget = e.shutdownTimeout
		} else if len(sb.extensions) > 0 {
			budget = 500 * time.Millisecond
		}
		e.mu.Unlock()
		if sb.runtime != nil && budget > 0 { // without extensions there is no SIGTERM
			sb.runtime.signal(syscall.SIGTERM)
			sb.runtime.waitUntil(start.Add(budget * 3 / 10))
		}
		sb.runtime.kill()
		e.stopExtensions(sb, start.Add(budget), reason)
		e.mu.Lock()
		sb.over = true
		e.wake()
		e.mu.Unlock()
		sb.waits.Wait()
		e.replace(sb)
	})
}

// stopExtensions gives SHUTDOWN to those that registered for it, and the time until the deadline to exit.
func (e *lambdaEnv) stopExtensions(sb *lambdaSandbox, deadline time.Time, reason string) {
	event := lambdaExtensionEvent{
		EventType: "SHUTDOWN", ShutdownReason: reason, DeadlineMs: deadline.UnixMilli()}
	subscribed := map[string]bool{}
	e.mu.Lock()
	for _, x := range sb.extensions {
		if x.event = nil; x.shutdown {
			x.event, subscribed[x.name] = &event, true
		}
	}
	e.wake()
	e.mu.Unlock()
	for _, p := range sb.processes {
		if !subscribed[p.name] {
			p.kill()
		}
	}
	for _, p := range sb.processes {
		p.waitUntil(deadline)
		p.kill()
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	e.mu.Lock()
	defer e.mu.Unlock()
	// Those without a process have nothing to exit: they are done when they have the event.
	_ = e.await(ctx, func() bool {
		return !slices.ContainsFunc(sb.extensions, func(x *lambdaExtension) bool {
			return slices.Contains(e.external, x.name) && !x.failed && (x.event != nil || x.told)
		})
	})
}

// replace reports on a stopped sandbox and puts a new one in its place.
func (e *lambdaEnv) replace(sb *lambdaSandbox) {
	next, err := e.newSandbox()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(sb.processes) > 0 {
		e.report = nil
	}
	for _, p := range sb.processes {
		state := p.cmd.ProcessState
		e.report = append(
			e.report, lambdaExit{
				name: p.name, status: state.String(), code: state.ExitCode(), byItself: !p.killed})
	}
	if e.closing {
		next.failure = errLambdaDown
	} else if err != nil {
		next.failure = &lambdaFailure{errorType: "Extension.LaunchError", message: err.Error()}
	}
	e.sb = next
	e.record(lambdaEvent{name: "shutdown done"})
}

// ---- processes ----

// lambdaProcess is an extension or the runtime, leader of a process group of its own.
type lambdaProcess struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{} // closed once cmd.ProcessState is set
	killed bool          // by kill, before it had exited
}

// launchExtensions starts them one after another without waiting for any. e.mu is held.
func (e *lambdaEnv) launchExtensions(sb *lambdaSandbox) {
	paths, err := e.extensionPaths()
	if err == nil && len(sb.external) > lambdaMaxExtensions {
		err = errors.New("TooManyExtensions")
	}
	for _, p := range paths {
		if err == nil {
			_, err = e.launch(sb, filepath.Base(p), []string{p}, "/", e.variables(false))
			e.record(lambdaEvent{name: "extension launched", who: filepath.Base(p)})
		}
	}
	if err != nil {
		e.fail(sb, &lambdaFailure{errorType: "Extension.LaunchError", message: err.Error()})
	}
}

// launchRuntime starts the runtime's process, unless the caller plays it. e.mu is held.
func (e *lambdaEnv) launchRuntime(sb *lambdaSandbox) {
	argv, wrapper := e.runtime, e.environment["AWS_LAMBDA_EXEC_WRAPPER"]
	if e.osOnly {
		argv = []string{e.bootstrap()}
	} else if wrapper != "" && len(argv) > 0 {
		argv = append([]string{"/bin/sh", "-c", lambdaWrapperScript, e.inLayer(wrapper)}, argv...)
	}
	e.record(lambdaEvent{name: "runtime started"})
	if len(argv) > 0 {
		var err error
		if sb.runtime, err = e.launch(sb, "runtime", argv, e.taskDir, e.variables(true)); err != nil {
			e.fail(sb, &lambdaFailure{errorType: "Runtime.InvalidEntrypoint", message: err.Error()})
		}
	}
}

// lambdaWrapperScript does what the managed runtimes' own bootstrap scripts do with AWS_LAMBDA_EXEC_WRAPPER.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-modify.html#runtime-wrapper
const lambdaWrapperScript = `[ -f "$0" ] || { echo "$0: does not exist"; exit 127; }
[ -x "$0" ] || { echo "$0: is not an executable"; exit 126; }
exec "$0" "$@"`

// inLayer maps a path in /opt to the layer directory.
func (e *lambdaEnv) inLayer(p string) string {
	if rest, ok := strings.CutPrefix(p, "/opt/"); ok && e.layerDir != "" {
		return filepath.Join(e.layerDir, rest)
	}
	return p
}

// bootstrap is the task directory's, or else the layer's, there or not.
func (e *lambdaEnv) bootstrap() string {
	own := filepath.Join(e.taskDir, "bootstrap")
	if _, err := os.Stat(own); err != nil && e.layerDir != "" {
		return filepath.Join(e.layerDir, "bootstrap")
	}
	return own
}

// launch starts one process with its output as lines. e.mu is held.
func (e *lambdaEnv) launch(sb *lambdaSandbox, name string, argv []string, dir string, env []string) (
	*lambdaProcess, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("output of %s: %w", name, err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &lambdaProcess{name: name, cmd: cmd, exited: make(chan struct{})}
	sb.processes = append(sb.processes, p)
	sb.waits.Go(func() { e.copyLines(r) })
	sb.waits.Go(func() { e.reap(sb, p, r) })
	return p, nil
}

// copyLines writes whole lines to the output, whichever process they come from.
func (e *lambdaEnv) copyLines(r *os.File) {
	defer r.Close()
	lines := bufio.NewReaderSize(r, 64*1024) // a longer line is cut
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			e.outputMu.Lock()
			_, _ = e.output.Write(append(bytes.TrimSuffix(line, []byte("\n")), '\n'))
			e.outputMu.Unlock()
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// reap waits for a process to exit, ends what it left in its group, and fails the sandbox: outside of a
// shutdown any exit is fatal, whatever the status.
func (e *lambdaEnv) reap(sb *lambdaSandbox, p *lambdaProcess, output *os.File) {
	_ = p.cmd.Wait() // the status is in ProcessState
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	// a process that left the group may hold it open for ever
	_ = output.SetReadDeadline(time.Now().Add(time.Second))
	e.mu.Lock()
	defer e.mu.Unlock()
	close(p.exited)
	state := p.cmd.ProcessState
	e.record(lambdaEvent{name: "process exited", who: p.name, detail: state.String()})
	failure := &lambdaFailure{errorType: "Extension.Crash", message: state.String()}
	if p == sb.runtime {
		failure = &lambdaFailure{
			errorType: "Runtime.ExitError", message: "Runtime exited with error: " + state.String()}
		if state.Success() {
			failure.message = "Runtime exited without providing a reason"
		}
	}
	e.fail(sb, failure)
}

// signal reaches the whole group, unless its leader is gone, whose number may be another's by now.
func (p *lambdaProcess) signal(s syscall.Signal) {
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

func (p *lambdaProcess) waitUntil(deadline time.Time) {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
	}
}

func (p *lambdaProcess) kill() {
	if p == nil {
		return
	}
	select {
	case <-p.exited:
	default:
		p.killed = true
		p.signal(syscall.SIGKILL)
		<-p.exited
	}
}

// variables are the environment of the runtime, or of an extension, which sees less. PATH has this machine's
// directories: interpreters are not in /var/lang here. e.mu is held.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
func (e *lambdaEnv) variables(runtime bool) []string {
	v := map[string]string{"PATH": os.Getenv("PATH"), "LANG": "en_US.UTF-8", "TZ": ":UTC"}
	if e.layerDir != "" {
		v["PATH"], v["LD_LIBRARY_PATH"] = filepath.Join(e.layerDir, "bin")+":"+v["PATH"],
			filepath.Join(e.layerDir, "lib")
	}
	maps.Copy(v, e.environment)
	maps.Copy(v, map[string]string{
		"AWS_REGION": e.region, "AWS_DEFAULT_REGION": e.region, "AWS_LAMBDA_RUNTIME_API": e.addr,
		"AWS_LAMBDA_FUNCTION_NAME": e.functionName, "AWS_LAMBDA_FUNCTION_VERSION": e.version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(e.memoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  e.initType,
	})
	if e.managed() {
		v["AWS_LAMBDA_MAX_CONCURRENCY"] = strconv.Itoa(e.maxConcurrency)
	}
	if e.snapStart {
		v["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://" + e.addr + lambdaCredentialsPath
		v["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = e.token
	} else {
		v["AWS_ACCESS_KEY_ID"], v["AWS_SECRET_ACCESS_KEY"] = e.credentials.accessKeyID,
			e.credentials.secretAccessKey
		v["AWS_SESSION_TOKEN"] = e.credentials.sessionToken
	}
	if runtime {
		v["_HANDLER"], v["LAMBDA_TASK_ROOT"], v["LAMBDA_RUNTIME_DIR"] = e.handler, e.taskDir, "/var/runtime"
	}
	if runtime && !e.snapStart {
		v["AWS_LAMBDA_LOG_GROUP_NAME"] = "/aws/lambda/" + e.functionName
		v["AWS_LAMBDA_LOG_STREAM_NAME"] = time.Now().UTC().Format("2006/01/02/[") + e.version + "]" +
			strings.ReplaceAll(e.token, "-", "")
	}
	list := make([]string, 0, len(v))
	for name, value := range v {
		list = append(list, name+"="+value)
	}
	return list
}

// ---- HTTP: what the APIs share ----

func (e *lambdaEnv) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, call lambdaCall) { mux.Handle(pattern, e.serve(call)) }
	always := func(reply lambdaReply) lambdaCall {
		return func(http.ResponseWriter, *http.Request) lambdaReply { return reply }
	}
	handle("GET /2018-06-01/ping", always(lambdaReply{status: 200, body: []byte("pong")}))
	handle("GET /2018-06-01/runtime/invocation/next", e.runtimeNext)
	handle("POST /2018-06-01/runtime/invocation/{id}/response", e.runtimeAnswer)
	handle("POST /2018-06-01/runtime/invocation/{id}/error", e.runtimeAnswer)
	handle("POST /2018-06-01/runtime/init/error", e.runtimeInitError)
	if e.snapStart {
		handle("GET /2018-06-01/runtime/restore/next", e.runtimeRestoreNext)
		handle("POST /2018-06-01/runtime/restore/error", e.runtimeInitError)
		handle("GET "+lambdaCredentialsPath, e.credentialsEndpoint)
	}
	handle("POST /2020-01-01/extension/register", e.extensionRegister)
	handle("GET /2020-01-01/extension/event/next", e.extensionNext)
	handle("POST /2020-01-01/extension/init/error", e.extensionError)
	handle("POST /2020-01-01/extension/exit/error", e.extensionError)
	// RIE's answers where these APIs are not there, made so that extensions go on without.
	handle("PUT /2020-08-15/logs",
		always(lambdaRefusal(202, "Logs.NotSupported", "Logs API is not supported")))
	handle("PUT /2022-07-01/telemetry",
		always(lambdaRefusal(202, "Telemetry.NotSupported", "Telemetry API is not supported")))
	return lambdaLoopback(mux)
}

// lambdaLoopback refuses what a web page in this machine's browser could send: names that were made to point
// here, and any page's requests.
func lambdaLoopback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		switch ip := net.ParseIP(host); {
		case host != "localhost" && !ip.IsLoopback():
			lambdaRefusal(403, "AccessDeniedException", "the Host header is not a loopback address").send(w)
		case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "":
			lambdaRefusal(403, "AccessDeniedException", "not for browsers").send(w)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// lambdaCall is one call of the APIs; w is there for its connection's deadlines alone.
type lambdaCall func(w http.ResponseWriter, r *http.Request) lambdaReply

// lambdaReply is what comes back. The zero value breaks the connection off.
type lambdaReply struct {
	status int
	header map[string]string // values that are empty are left out
	body   []byte            // JSON where no Content-Type says otherwise
	refuse string            // the error type in body, if any
	sent   func()            // called when it is out
}

func lambdaJSON(status int, v any) lambdaReply {
	body, _ := json.Marshal(v)
	return lambdaReply{status: status, body: append(body, '\n')}
}

func lambdaRefusal(status int, errorType, format string, args ...any) lambdaReply {
	reply := lambdaJSON(
		status, map[string]string{"errorType": errorType, "errorMessage": fmt.Sprintf(format, args...)})
	reply.refuse = errorType
	return reply
}

// lambdaRefused is the Extensions API's one way to say no (RIE; the documentation lists 400 too).
func lambdaRefused(errorType, format string, args ...any) lambdaReply {
	return lambdaRefusal(http.StatusForbidden, "Extension."+errorType, format, args...)
}

func lambdaNotAllowed(from, to string) lambdaReply {
	return lambdaRefusal(http.StatusForbidden, "InvalidStateTransition",
		"State transition from %s to %s failed for runtime. Error: State transition is not allowed", from, to)
}

var (
	lambdaAccepted  = lambdaJSON(http.StatusAccepted, map[string]string{"status": "OK"})
	lambdaTruncated = lambdaRefusal(
		http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
)

func (reply lambdaReply) send(w http.ResponseWriter) {
	if reply.status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	for name, value := range reply.header {
		if value != "" {
			w.Header().Set(name, value)
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(reply.body)))
	w.WriteHeader(reply.status)
	_, _ = w.Write(reply.body) // a client that is gone needs no reply
	if reply.sent != nil {
		_ = http.NewResponseController(w).Flush()
		reply.sent()
	}
}

// serve makes a call and replies, unless a fault is wanted.
func (e *lambdaEnv) serve(call lambdaCall) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var fault lambdaFault
		if e.fault != nil {
			fault = e.fault(r)
		}
		if fault == (lambdaFault{}) {
			call(w, r).send(w)
			return
		}
		if fault.late {
			if lost := call(w, r); lost.sent != nil {
				lost.sent()
			}
		} else if id := r.PathValue("id"); id != "" {
			e.mu.Lock()
			e.record(lambdaEvent{
				name: "answer", who: "runtime", requestID: id, kind: path.Base(r.URL.Path),
				status: fault.status, header: r.Header.Clone()})
			e.mu.Unlock()
		}
		reply := lambdaRefusal(fault.status, cmp.Or(fault.errorType, "InternalServerError"), "injected fault")
		if fault.drop {
			reply = lambdaReply{}
		}
		reply.send(w)
	}
}

func lambdaUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

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

// ---- Runtime API ----

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

// ---- Extensions API ----

func (e *lambdaEnv) extensionRegister(_ http.ResponseWriter, r *http.Request) lambdaReply {
	var body struct {
		Events            []string `json:"events"`
		ConfigurationKeys []string `json:"configurationKeys"`
	}
	name := r.Header.Get("Lambda-Extension-Name")
	if name == "" {
		return lambdaRefused("InvalidExtensionName", "Empty extension name")
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, lambdaMaxPayload))
	if err == nil {
		err = json.Unmarshal(raw, &body)
	}
	if err == nil && len(body.ConfigurationKeys) > 0 {
		err = errors.New("configurationKeys are deprecated; use environment variables instead")
	}
	if err != nil {
		return lambdaRefusal(http.StatusForbidden, "InvalidRequestFormat", "%v", err)
	}
	id, refusal := e.register(name, body.Events)
	if refusal.status != 0 {
		return refusal
	}
	answer := map[string]string{
		"functionName": e.functionName, "functionVersion": e.version, "handler": e.handler}
	for feature := range strings.SplitSeq(r.Header.Get("Lambda-Extension-Accept-Feature"), ",") {
		if strings.TrimSpace(feature) == "accountId" {
			answer["accountId"] = e.account
		}
	}
	reply := lambdaJSON(http.StatusOK, answer)
	reply.header = map[string]string{lambdaExtensionHeader: id}
	return reply
}

// register takes a name that is no file in extensions/ for an internal extension, which runs in the runtime's
// process.
func (e *lambdaEnv) register(name string, events []string) (id string, refusal lambdaReply) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sb := e.sb
	x := &lambdaExtension{name: name, id: lambdaUUID(), external: slices.Contains(sb.external, name)}
	for _, event := range events {
		switch {
		case event == "INVOKE" && e.managed():
			return "", lambdaRefused("InvalidEventType", "INVOKE: not supported with Managed Instances")
		case event == "SHUTDOWN" && !x.external:
			return "", lambdaRefused(
				"InvalidEventType", "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension")
		case event != "INVOKE" && event != "SHUTDOWN":
			return "", lambdaRefused("InvalidEventType", "%s: InvalidEventType", event)
		}
	}
	known := len(sb.external)
	for _, other := range sb.extensions {
		if !other.external {
			known++
		}
	}
	switch {
	case !x.external && sb.state != lambdaStarted:
		return "", lambdaRefused("RegistrationClosed", "Extension registration closed already")
	case sb.extension(name) != nil:
		return "", lambdaRefused("InvalidExtensionState", "Extension with this name already registered")
	case !x.external && known >= lambdaMaxExtensions:
		return "", lambdaRefused("TooManyExtensions", "Extension limit (%d) reached", lambdaMaxExtensions)
	}
	x.invoke, x.shutdown = slices.Contains(events, "INVOKE"), slices.Contains(events, "SHUTDOWN")
	sb.extensions = append(sb.extensions, x)
	e.record(lambdaEvent{name: "extension registered", who: name})
	return x.id, lambdaReply{}
}

var lambdaUUIDPattern = regexp.MustCompile(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)

// identify finds the extension that a call is from. e.mu is held.
func (e *lambdaEnv) identify(r *http.Request) (*lambdaExtension, lambdaReply) {
	id := r.Header.Get(lambdaExtensionHeader)
	i := slices.IndexFunc(e.sb.extensions, func(x *lambdaExtension) bool { return x.id == id })
	switch {
	case id == "":
		return nil, lambdaRefused("MissingExtensionIdentifier", "Missing %s header", lambdaExtensionHeader)
	case !lambdaUUIDPattern.MatchString(id):
		return nil, lambdaRefused("InvalidExtensionIdentifier", "Invalid %s", lambdaExtensionHeader)
	case i < 0:
		return nil, lambdaRefused("UnknownExtensionIdentifier", "Unknown extension %s", id)
	}
	return e.sb.extensions[i], lambdaReply{}
}

// extensionNext delivers an event once, unlike the runtime's next.
func (e *lambdaEnv) extensionNext(_ http.ResponseWriter, r *http.Request) lambdaReply {
	e.mu.Lock()
	defer e.mu.Unlock()
	x, refusal := e.identify(r)
	if refusal.status != 0 {
		return refusal
	}
	if x.waiting || x.failed {
		return lambdaRefused("InvalidExtensionState", "next is not allowed now for extension %s", x.name)
	}
	sb := e.sb
	x.waiting, x.called, x.busy = true, true, x.event != nil
	e.record(lambdaEvent{name: "extension next", who: x.name})
	err := e.await(r.Context(), func() bool { return sb.over || x.event != nil && r.Context().Err() == nil })
	x.waiting = false
	if err != nil || sb.over {
		return lambdaReply{}
	}
	event := x.event
	x.event, x.told = nil, true
	e.record(lambdaEvent{
		name: "event delivered", who: x.name, requestID: event.RequestID, detail: event.EventType})
	reply := lambdaJSON(http.StatusOK, event)
	if event.EventType == "INVOKE" {
		reply.header = map[string]string{"Lambda-Extension-Event-Identifier": lambdaUUID()}
	}
	reply.sent = func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		x.told = false
		e.wake()
	}
	return reply
}

// extensionError serves /extension/init/error, allowed until the first next, and /extension/exit/error.
func (e *lambdaEnv) extensionError(_ http.ResponseWriter, r *http.Request) lambdaReply {
	e.mu.Lock()
	defer e.mu.Unlock()
	fatal, errorType := "Extension.ExitError", r.Header.Get("Lambda-Extension-Function-Error-Type")
	if strings.HasSuffix(r.URL.Path, "/init/error") {
		fatal = "Extension.InitError"
	}
	x, refusal := e.identify(r)
	switch {
	case refusal.status != 0:
		return refusal
	case errorType == "":
		return lambdaRefused("MissingHeader", "Lambda-Extension-Function-Error-Type not found")
	case fatal == "Extension.InitError" && x.called:
		return lambdaRefused(
			"InvalidExtensionState", "init/error is not allowed after next for extension %s", x.name)
	}
	x.failed = true
	e.fail(e.sb, &lambdaFailure{errorType: fatal, message: errorType})
	return lambdaAccepted
}

// ---- the Lambda API's Invoke ----

// serveInvoke serves Invoke for some functions, without authentication, to loopback names only.
// https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
//
// A convenience that Lambda has not: what a function streams reaches the caller as it comes. An error in the
// middle then shows in the trailer X-Amz-Function-Error. Asynchronous invocations are not retried.
func serveInvoke(envs ...*lambdaEnv) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/{name}/invocations",
		func(w http.ResponseWriter, r *http.Request) {
			name := r.PathValue("name") // NAME, ACCOUNT:function:NAME or the ARN, each with :QUALIFIER
			if _, rest, ok := strings.Cut(name, "function:"); ok {
				name = rest
			}
			name, qualifier, _ := strings.Cut(name, ":")
			for _, e := range envs {
				if e.functionName == name {
					e.serveInvocation(w, r, cmp.Or(r.URL.Query().Get("Qualifier"), qualifier))
					return
				}
			}
			lambdaAPIError(w, http.StatusNotFound, "ResourceNotFoundException", "Function not found: "+name)
		})
	return lambdaLoopback(mux)
}

func lambdaAPIError(w http.ResponseWriter, status int, errorType, message string) {
	w.Header().Set("X-Amzn-Errortype", errorType)
	lambdaJSON(status, map[string]string{"Type": "User", "message": message}).send(w)
}

func (e *lambdaEnv) serveInvocation(w http.ResponseWriter, r *http.Request, qualifier string) {
	kind, limit := cmp.Or(r.Header.Get("X-Amz-Invocation-Type"), "RequestResponse"), int64(lambdaMaxRequest)
	if kind == "Event" {
		limit = lambdaMaxAsync
	}
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		lambdaAPIError(w, http.StatusRequestEntityTooLarge, "RequestTooLargeException",
			fmt.Sprintf("Request must be smaller than %d bytes for the InvokeFunction operation", limit))
		return
	}
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	clientContext, err := lambdaClientContext(r.Header.Get("X-Amz-Client-Context"))
	if err == nil && !json.Valid(payload) {
		err = errors.New("Could not parse request body into json")
	}
	if err != nil {
		lambdaAPIError(w, http.StatusBadRequest, "InvalidRequestContentException", err.Error())
		return
	}
	req := invokeRequest{
		payload: payload, qualifier: qualifier, clientContext: clientContext, requestID: lambdaUUID(),
		traceID: r.Header.Get("X-Amzn-Trace-Id"), tenantID: r.Header.Get("X-Amz-Tenant-Id"),
	}
	w.Header().Set("X-Amzn-Requestid", req.requestID)
	switch kind {
	case "RequestResponse":
		e.serveAnswer(w, r, req)
	case "Event":
		e.serveAsync(w, req)
	case "DryRun":
		w.WriteHeader(http.StatusNoContent)
	default:
		lambdaAPIError(
			w, http.StatusBadRequest, "InvalidParameterValueException",
			"X-Amz-Invocation-Type: want RequestResponse, Event or DryRun")
	}
}

func (e *lambdaEnv) serveAsync(w http.ResponseWriter, req invokeRequest) {
	select {
	case e.async <- struct{}{}:
		// What comes of it nobody asks; the record has it.
		e.spawn(func() { _, _ = e.invoke(context.Background(), req); <-e.async })
		w.WriteHeader(http.StatusAccepted)
	default:
		lambdaAPIError(w, http.StatusTooManyRequests, "TooManyRequestsException", "Rate Exceeded.")
	}
}

// lambdaClientContext decodes the header into one line of JSON.
func lambdaClientContext(header string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(header)
	var line bytes.Buffer
	if err == nil && len(raw) > 0 {
		err = json.Compact(&line, raw)
	}
	if err != nil {
		return "", errors.New("Client context must be a valid Base64-encoded JSON object")
	}
	return line.String(), nil
}

func (e *lambdaEnv) serveAnswer(w http.ResponseWriter, r *http.Request, req invokeRequest) {
	control := http.NewResponseController(w)
	w.Header().Set("X-Amz-Executed-Version", e.version)
	req.onResponse = func(h http.Header) io.Writer {
		if h.Get(lambdaModeHeader) != "streaming" {
			return nil
		}
		w.Header().Set("Content-Type", cmp.Or(h.Get("Content-Type"), "application/octet-stream"))
		w.Header().Set("Trailer", "X-Amz-Function-Error, "+lambdaErrorTypeHeader+", "+lambdaErrorBodyHeader)
		// a caller that does not read must not hold the function
		_ = control.SetWriteDeadline(time.Now().Add(e.timeout))
		_ = control.Flush()
		return lambdaFlusher{w, control}
	}
	result, err := e.invoke(r.Context(), req)
	if errors.Is(err, errLambdaClosed) {
		lambdaAPIError(w, http.StatusInternalServerError, "ServiceException", err.Error())
	}
	if err != nil { // else the caller is gone
		return
	}
	if result.functionError != "" {
		w.Header().Set("X-Amz-Function-Error", result.functionError)
	}
	if !result.streamed {
		w.Header().Set("Content-Type", cmp.Or(result.contentType, "application/json"))
		_, _ = w.Write(result.payload)
		return
	}
	if result.functionError != "" {
		w.Header().Set(lambdaErrorTypeHeader, result.errorType)
		w.Header().Set(
			lambdaErrorBodyHeader,
			cmp.Or(result.trailer.Get(lambdaErrorBodyHeader),
				base64.StdEncoding.EncodeToString(result.payload)))
	}
	_ = control.SetWriteDeadline(time.Time{})
}

type lambdaFlusher struct {
	w       io.Writer
	control *http.ResponseController
}

func (f lambdaFlusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	return n, errors.Join(err, f.control.Flush())
}
