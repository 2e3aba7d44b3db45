//go:build !layer

package main

// fake_lambda.go is an AWS Lambda execution environment on loopback, for `demo` and for the tests: its
// options, its record of what happened, and the phases that an invocation goes through. The other
// fake_lambda_*.go are its processes and the APIs that it serves.
//
// In: events, by invoke or as HTTP through serveInvoke. Out: what the function answered, or the error that
// Lambda would give instead, both in a result; an error value says that no invocation came about. Sizes
// are bytes, times are wall time. What happens is in a bounded record that a caller can wait on.
//
// One mutex guards all state; whoever changes it records an event, which wakes every waiter. Goroutines: one
// for each invocation and for the first init, two for each process (its exit, its output), those of the HTTP
// server; close waits for all of them. A sandbox is one generation of processes: a timeout or a crash ends
// it, and the next invocation begins another, which is Lambda's reset.
//
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
// If AWS's pages are silent, it does as https://github.com/aws/aws-lambda-runtime-interface-emulator ("RIE").

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
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
