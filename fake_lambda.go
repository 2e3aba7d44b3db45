//go:build !layer

package main

// fake_lambda.go is an AWS Lambda execution environment on loopback, for `demo` and for the tests: its
// options, its start and its end, and its record of what happened. The other fake_lambda_*.go are its phases,
// its processes and the APIs that it serves.
//
// In: events, by invoke, which serveInvoke calls for HTTP requests. Out: what the function answered, or the
// error that Lambda would give instead, both in a result; an error value says that no invocation came about.
// Sizes are bytes, times are wall time. What happens is in a bounded record that a caller can wait on.
//
// One mutex guards what goroutines share, and whoever changes it wakes every waiter; another is held through
// each init and restore. The structs say what orders the rest.
//
// Goroutines: two for each invocation (its phase, its deadline), one for the first init, two for each process
// (its exit, its output), those of the HTTP server; close waits for all of them. A sandbox is one generation
// of processes: a timeout or a crash ends it, and the next invocation begins another, which is Lambda's
// reset.
//
// Only tests use ready, setCredentials, events, completions, waitFor, the faults, what a caller can play
// itself, and the options for other kinds of environments than an on-demand one.
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
	"sync"
	"time"
)

// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const (
	// bytes of an event, or of an answer that is not streamed (RIE; documented as 6 MB)
	lambdaMaxPayload = 6*1024*1024 + 100

	lambdaMaxRequest = 6 * 1024 * 1024   // bytes of an event in an Invoke call
	lambdaMaxAsync   = 1024 * 1024       // the same with X-Amz-Invocation-Type: Event
	lambdaMaxStream  = 200 * 1024 * 1024 // bytes of a streamed answer
	lambdaMaxTail    = 4 * 1024          // bytes of a log that come with an answer (API_Invoke's LogResult)
	lambdaMaxTimeout = 900 * time.Second // of a function

	// of a function on Managed Instances
	// https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances.html
	lambdaManagedTimeout = 5400 * time.Second

	lambdaMaxExtensions = 10        // registered, external and internal together
	lambdaMaxCause      = 64 * 1024 // bytes of X-Ray's error cause
)

// lambdaRecordSize is how many events the record keeps. It is not Lambda's number.
const lambdaRecordSize = 16384

// lambdaOptions describe a function and its environment. The zero value of each field is usable.
type lambdaOptions struct {
	functionName string            // default: "function"
	version      string            // default: "$LATEST"
	handler      string            // default: "index.handler"
	region       string            // default: "us-east-1"
	account      string            // default: "123456789012"
	memoryMB     int               // default: 128
	timeout      time.Duration     // default: 3 s
	environment  map[string]string // the function's own variables
	credentials  lambdaCredentials // default: invented ones

	// layerDir stands for /opt: extensions/ is started, bin/ is on PATH, bootstrap may be there.
	layerDir string
	// taskDir is LAMBDA_TASK_ROOT, the runtime's working directory. The default is the current one.
	taskDir string
	// runtime is what a managed runtime runs, through AWS_LAMBDA_EXEC_WRAPPER. If it is empty, the caller
	// plays the runtime by HTTP.
	runtime []string
	// osOnly makes it an OS-only runtime: bootstrap from taskDir, else layerDir, and no exec wrapper.
	osOnly bool
	// external are the names of external extensions that the caller plays by HTTP.
	external []string
	// output takes the processes' output, a line a Write. It must not block.
	output io.Writer
	// listener is the Runtime API's. The default is a port on loopback.
	listener net.Listener

	// initType is what AWS_LAMBDA_INITIALIZATION_TYPE says. The default follows from snapStart and
	// maxConcurrency.
	initType string
	// maxConcurrency above 1 means Lambda Managed Instances with so many invocations at once.
	maxConcurrency int
	// snapStart adds restore/next, and gives credentials by an endpoint instead of variables.
	snapStart bool
	// noFreeze leaves the processes running between invocations.
	noFreeze bool
	// initTimeout is 10 s by default on demand, else at least 130 s.
	initTimeout time.Duration
	// shutdownTimeout is for external extensions. The default is 2 s.
	shutdownTimeout time.Duration

	// fault is asked before each Runtime and Extensions API call is served, concurrently. It may be nil.
	fault func(*http.Request) lambdaFault
}

// lambdaFault replaces the reply to one call. The zero value is no fault.
type lambdaFault struct {
	status    int    // the reply's
	errorType string // the reply's
	drop      bool   // close the connection without a reply
	late      bool   // only after the call took effect: just the reply is lost
}

type lambdaCredentials struct {
	accessKeyID     string
	secretAccessKey string
	sessionToken    string
	expiration      time.Time // told by the SnapStart endpoint alone
}

// invokeRequest is one invocation. Empty fields do not reach the runtime, unless they have a default. IDs
// have one.
type invokeRequest struct {
	payload         []byte
	timeout         time.Duration   // default: the function's
	expire          <-chan struct{} // closing it makes the deadline pass at once
	contentType     string          // default: application/json
	requestID       string          // a retry carries the ID of the attempt before
	qualifier       string          // version or alias, part of the ARN
	traceID         string
	tenantID        string
	clientContext   string // JSON
	cognitoIdentity string // JSON
	tail            bool   // the result is to have the end of the log

	// onResponse makes this a streaming invocation: it gets the headers of /response before the first byte,
	// and the writer that it returns takes the bytes as they arrive. If it returns nil, the answer is
	// buffered after all. Neither is used once invoke has returned, so a Write must not block for ever.
	onResponse func(http.Header) io.Writer
}

// invokeResult is what the caller of a function gets.
type invokeResult struct {
	requestID     string
	invocationID  string
	payload       []byte // the answer, or error JSON; not what onResponse's writer took
	contentType   string
	functionError string // "Unhandled" if the function failed, in whatever way
	errorType     string // normalised as Lambda does for its metrics
	xrayCause     json.RawMessage
	streamed      bool          // the writer took the answer, or its beginning
	trailer       http.Header   // of /response
	init          time.Duration // of the init that this invocation waited for, if it did
	restore       time.Duration // the same of a restore
	duration      time.Duration // from the event's release until the answer was complete
	log           []byte        // its end, if that was asked for
}

// lambdaEvent is one line of the record. Names: "init start", "extension launched", "extension registered",
// "runtime started", "runtime next", "extension next", "restore next", "init done", "init failed",
// "restored", "invoke start", "event delivered", "answer begun", "answer", "invoke end", "invoke failed",
// "failure", "frozen", "thawed", "shutdown", "process exited", "shutdown done".
type lambdaEvent struct {
	seq       int // from 1, without gaps
	at        time.Time
	name      string
	who       string // "runtime", an extension's name, or empty for the environment itself
	requestID string
	detail    string // error type, exit status or reason

	// The rest is of an "answer" only, an attempt to complete an invocation.

	kind string // "response" or "error"
	// status is what the Runtime API decided, 0 if it broke the connection off. A late fault changes what the
	// client sees, not this.
	status  int
	header  http.Header
	trailer http.Header
	size    int64
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
	addr  string // host:port of the Runtime API
	token string // of the credentials endpoint

	server      *http.Server
	slots       chan struct{}  // takes one for each invocation that is under way
	closed      chan struct{}  // closed when no new invocations are taken
	work        sync.WaitGroup // invocations and the first init
	serving     sync.WaitGroup // the server
	connections sync.WaitGroup // the server's
	closeOnce   sync.Once

	outputMu sync.Mutex // one line at a time; guards the following
	tail     []byte     // of the log since an invocation has begun

	initMu sync.Mutex // held through each init and restore

	// mu guards everything below, the options' credentials, and what the other structs say.
	mu            sync.Mutex
	changed       chan struct{} // closed, and made anew, by wake
	sb            *lambdaSandbox
	closing       bool
	firstInitDone bool
	firstInit     *lambdaFailure
	report        []lambdaExit // of the last processes that were stopped
	log           []lambdaEvent
	seq           int // of the newest event in log
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
		lambdaOptions: o,
		token:         newUUID(),
		slots:         make(chan struct{}, o.maxConcurrency),
		closed:        make(chan struct{}),
		changed:       make(chan struct{}),
	}
	e.sb, err = e.newSandbox()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", o.functionName, err)
	}
	ln, err := o.listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("listen for the Runtime API: %w", err)
	}
	e.addr = ln.Addr().String()
	e.server = &http.Server{Handler: e.routes(), ConnState: e.count}
	e.serving.Go(func() {
		_ = e.server.Serve(ln) // ends with close, and with nothing to report
	})
	e.initMu.Lock() // no invocation before the first init is over
	e.work.Go(e.initialise)
	return e, nil
}

// listen returns the Runtime API's listener.
func (o lambdaOptions) listen(ctx context.Context) (net.Listener, error) {
	if o.listener != nil {
		return o.listener, nil
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
}

// withDefaults returns the options with a value for each that has a default, or says what is wrong with them.
func (o lambdaOptions) withDefaults() (lambdaOptions, error) {
	o.functionName = cmp.Or(o.functionName, "function")
	o.version = cmp.Or(o.version, "$LATEST")
	o.handler = cmp.Or(o.handler, "index.handler")
	o.region = cmp.Or(o.region, "us-east-1")
	o.account = cmp.Or(o.account, "123456789012")
	o.memoryMB = cmp.Or(o.memoryMB, 128)
	o.timeout = cmp.Or(o.timeout, 3*time.Second)
	o.maxConcurrency = max(o.maxConcurrency, 1)
	o.output = cmp.Or(o.output, io.Discard)
	o.credentials = cmp.Or(o.credentials, lambdaCredentials{
		accessKeyID:     "ASIAEMULATEDLAMBDA00",
		secretAccessKey: "emulated-secret",
		sessionToken:    "emulated-token",
	})
	initType, initTimeout := o.defaultInit()
	o.initType = cmp.Or(o.initType, initType)
	o.initTimeout = cmp.Or(o.initTimeout, initTimeout)
	o.shutdownTimeout = cmp.Or(o.shutdownTimeout, 2*time.Second)
	longest := lambdaMaxTimeout
	if o.maxConcurrency > 1 {
		longest = lambdaManagedTimeout
	}
	if o.timeout < 0 || o.timeout > longest {
		return o, fmt.Errorf("timeout %v: want more than 0 and at most %v", o.timeout, longest)
	}
	return o.withAbsolutePaths()
}

// defaultInit returns the type of the init, and how long it may take. With a type that the caller chose it is
// as long as for any init that is not on demand.
func (o lambdaOptions) defaultInit() (initType string, timeout time.Duration) {
	timeout = max(130*time.Second, o.timeout)
	switch {
	case o.initType != "":
		return o.initType, timeout
	case o.snapStart:
		return "snap-start", timeout
	case o.maxConcurrency > 1:
		return "lambda-managed-instances", timeout
	}
	return "on-demand", 10 * time.Second
}

// withAbsolutePaths makes the directories independent of a process's own.
func (o lambdaOptions) withAbsolutePaths() (lambdaOptions, error) {
	var err error
	o.taskDir, err = filepath.Abs(o.taskDir)
	if err != nil {
		return o, err
	}
	if o.layerDir == "" {
		return o, nil
	}
	o.layerDir, err = filepath.Abs(o.layerDir)
	return o, err
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
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.report
}

// setCredentials changes what the credentials endpoint tells, and the variables of processes yet to start.
func (e *lambdaEnv) setCredentials(c lambdaCredentials) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.credentials = c
}

// managed tells whether the function runs on Lambda Managed Instances.
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
	ev.seq = e.seq
	ev.at = time.Now()
	if len(e.log) == lambdaRecordSize {
		e.log = slices.Clone(e.log[lambdaRecordSize/2:])
	}
	e.log = append(e.log, ev)
	e.wake()
}

// wake has everyone in await look again. e.mu is held.
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

// waitFor returns the first event that match accepts, if need be waiting for it. Only events with a number
// above after count.
func (e *lambdaEnv) waitFor(ctx context.Context, after int, match func(lambdaEvent) bool) (
	found lambdaEvent, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	err = e.await(ctx, func() bool {
		number := max(0, e.seq-after) // of unseen events: the numbers have no gaps
		unseen := e.log[max(0, len(e.log)-number):]
		after = e.seq
		i := slices.IndexFunc(unseen, match)
		if i < 0 {
			return false
		}
		found = unseen[i]
		return true
	})
	return found, err
}
