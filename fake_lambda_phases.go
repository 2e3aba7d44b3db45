//go:build !layer

package main

// fake_lambda_phases.go is the life of the emulated Lambda's environment: init, restore, the phase of each
// invocation, the freeze between two, and the shutdown.
//
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// lambdaSandbox is one generation of the environment's processes and what the APIs know of them.
type lambdaSandbox struct {
	external []string       // names that must register before the runtime starts; never changed
	waits    sync.WaitGroup // the processes' goroutines
	stopOnce sync.Once

	// The environment's initMu guards these two.
	ready    bool // init is done
	restored bool

	// Init alone writes these two, with both of the environment's mutexes held. A stop reads them without: it
	// does not begin before the sandbox's last init is over, but for one that launches nothing any more.
	processes []*lambdaProcess
	runtime   *lambdaProcess

	// The environment's mu guards the following.
	state       string // the runtime's
	restoring   bool   // restore/next may return
	frozen      bool
	stopping    bool // failures do not count any more
	over        bool // calls that are held are dropped
	extensions  []*lambdaExtension
	queue       []*lambdaInvocation          // for the runtime's next
	invocations map[string]*lambdaInvocation // by request ID
	timedOut    map[string]bool              // request IDs of invocations that had no answer in time
	failure     *lambdaFailure               // the first one counts
}

// lambdaInvocation is one invocation on its way. Until deliver has put it into its sandbox, only the
// goroutine of its phase knows it.
type lambdaInvocation struct {
	invokeRequest           // never changed
	attempt       string    // the ID that Lambda gives to each attempt; never changed
	deadline      time.Time // set before deliver; not changed after
	sink          lambdaSink

	// From deliver on, the environment's mu guards the following.
	released  time.Time // when the event was there for the runtime
	delivered bool      // the runtime has the event
	answering bool      // a completion is being read
	answered  bool      // result is complete
	over      bool      // nobody waits for it any more
	abort     func()    // interrupts the completion that is being read
	result    invokeResult
}

// lambdaFailure is an end of an invocation, or of an init, that is not an answer.
type lambdaFailure struct {
	errorType string
	message   string
	body      []byte // what the runtime itself said, instead
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
		message:   fmt.Sprintf("Task timed out after %.2f seconds", limit.Seconds()),
	}
}

// ---- one invocation ----

// invoke runs one invocation and returns when its caller would have the answer; the phase may last longer. A
// cancelled ctx ends the wait, not the invocation.
func (e *lambdaEnv) invoke(ctx context.Context, req invokeRequest) (invokeResult, error) {
	if len(req.payload) > lambdaMaxPayload {
		return invokeResult{}, fmt.Errorf(
			"invoke %s: event of %d bytes, want at most %d", e.functionName, len(req.payload),
			lambdaMaxPayload)
	}
	select {
	case e.slots <- struct{}{}:
	case <-e.closed:
		return invokeResult{}, errLambdaClosed
	case <-ctx.Done():
		return invokeResult{}, fmt.Errorf("wait for %s to be free: %w", e.functionName, context.Cause(ctx))
	}
	inv := e.newInvocation(req)
	answer := make(chan invokeResult, 1)
	started := e.spawn(func() {
		e.phase(inv, answer)
		<-e.slots
	})
	if !started {
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

// rest returns when the environment could take another invocation, or is closed.
func (e *lambdaEnv) rest() {
	select {
	case e.slots <- struct{}{}:
		<-e.slots
	case <-e.closed:
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

// newInvocation fills in what the request leaves open.
func (e *lambdaEnv) newInvocation(req invokeRequest) *lambdaInvocation {
	req.timeout = cmp.Or(req.timeout, e.timeout)
	req.requestID = cmp.Or(req.requestID, newUUID())
	req.contentType = cmp.Or(req.contentType, "application/json")
	if req.traceID == "" {
		id := strings.ReplaceAll(newUUID()+newUUID(), "-", "")
		req.traceID = fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=0", time.Now().Unix(), id[:24], id[24:40])
	}
	return &lambdaInvocation{
		invokeRequest: req,
		attempt:       newUUID(),
		sink:          lambdaSink{open: req.onResponse},
	}
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
	if inv.tail {
		e.beginLog(inv)
	}
	sb, failure := e.prepare(ctx, inv)
	e.initMu.Unlock()
	if failure == nil {
		failure = e.deliver(ctx, sb, inv)
	}
	inv.sink.detach() // without e.mu: it waits for a Write
	result := e.result(inv, failure)
	if inv.tail {
		result.log = e.endLog(sb, result)
	}
	answer <- result
	if failure == nil {
		failure = e.finish(ctx, sb, inv)
	}
	if failure != nil {
		e.invokeFailed(sb, inv, failure)
	}
}

// invokeFailed ends the sandbox. Under Managed Instances it goes on if this invocation alone has failed, by a
// timeout: other invocations are in the same process (RIE).
func (e *lambdaEnv) invokeFailed(sb *lambdaSandbox, inv *lambdaInvocation, failure *lambdaFailure) {
	e.mu.Lock()
	e.record(lambdaEvent{name: "invoke failed", requestID: inv.requestID, detail: failure.errorType})
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
	if !sb.ready {
		start := time.Now()
		failure = e.init(ctx, sb, inv.timeout)
		inv.result.init = time.Since(start)
	}
	if failure == nil && e.snapStart && !sb.restored {
		start := time.Now()
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
			x.event = e.invokeEvent(inv)
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
		if len(sb.timedOut) < lambdaRecordSize {
			sb.timedOut[inv.requestID] = true
		}
		return lambdaTimedOut(inv.timeout)
	}
	return sb.failure
}

// finish waits until nothing holds the phase open: the runtime and the extensions that got INVOKE have called
// next.
func (e *lambdaEnv) finish(ctx context.Context, sb *lambdaSandbox, inv *lambdaInvocation) *lambdaFailure {
	e.mu.Lock()
	defer e.mu.Unlock()
	late := e.await(ctx, func() bool { return sb.failure != nil || sb.idle() })
	if late != nil {
		return lambdaTimedOut(inv.timeout)
	}
	if sb.failure == nil {
		e.freeze(sb)
		e.record(lambdaEvent{name: "invoke end", requestID: inv.requestID})
	}
	return sb.failure
}

// idle tells whether neither the runtime nor an extension has anything to do.
func (sb *lambdaSandbox) idle() bool {
	busy := slices.ContainsFunc(sb.extensions, func(x *lambdaExtension) bool { return x.busy })
	return sb.state == lambdaReady && !busy
}

// result is what the invocation's caller gets.
func (e *lambdaEnv) result(inv *lambdaInvocation, failure *lambdaFailure) invokeResult {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := inv.result
	if failure != nil {
		r = lambdaBroken(failure.errorType, "RequestId: "+inv.requestID+" Error: "+failure.message)
		r.init = inv.result.init
		r.restore = inv.result.restore
		r.streamed = inv.sink.used // does not change once the sink is detached
	}
	if failure != nil && failure.body != nil {
		r.payload = failure.body
	}
	r.requestID = inv.requestID
	r.invocationID = inv.attempt
	if !inv.released.IsZero() {
		r.duration = time.Since(inv.released)
	}
	return r
}

func (e *lambdaEnv) arn(qualifier string) string {
	return lambdaARN(e.region, e.account, e.functionName, qualifier)
}

// lambdaARN is a function's ARN, with a qualifier if there is one.
func lambdaARN(region, account, name, qualifier string) string {
	arn := "arn:aws:lambda:" + region + ":" + account + ":function:" + name
	if qualifier != "" {
		arn += ":" + qualifier
	}
	return arn
}

// ---- init, restore, freeze, shutdown ----

func (e *lambdaEnv) newSandbox() (*lambdaSandbox, error) {
	paths, err := e.extensionPaths()
	sb := &lambdaSandbox{
		state:       lambdaStarted,
		external:    slices.Clone(e.external),
		invocations: map[string]*lambdaInvocation{},
		timedOut:    map[string]bool{},
	}
	for _, p := range paths {
		sb.external = append(sb.external, filepath.Base(p))
	}
	return sb, err
}

// initialise is the first init. The caller has locked initMu.
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
	e.firstInitDone = true
	e.firstInit = failure
	e.wake()
}

// init starts the extensions. If all external ones have registered, it starts the runtime, and waits until
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

// allWaiting tells whether the runtime waits for an event, and each extension has asked for one.
func (sb *lambdaSandbox) allWaiting() bool {
	if sb.state != lambdaReady && sb.state != lambdaRestoreReady {
		return false
	}
	return !slices.ContainsFunc(sb.extensions, func(x *lambdaExtension) bool { return !x.called })
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
	late := e.await(ctx, func() bool { return sb.failure != nil || sb.state == lambdaReady })
	if late != nil {
		e.fail(sb, &lambdaFailure{
			errorType: "SnapStartTimeoutException",
			message:   "the runtime did not call next in time after the restore",
		})
	}
	if sb.failure == nil {
		sb.restored = true
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
		start := time.Now()
		budget := e.shutdownBudget(sb)
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

// shutdownBudget is the time that the Shutdown phase may take. e.mu is held.
func (e *lambdaEnv) shutdownBudget(sb *lambdaSandbox) time.Duration {
	switch {
	case len(sb.external) > 0:
		return e.shutdownTimeout
	case len(sb.extensions) > 0:
		return 500 * time.Millisecond
	}
	return 0
}

// stopExtensions gives SHUTDOWN to those that registered for it, and the time until the deadline to exit.
func (e *lambdaEnv) stopExtensions(sb *lambdaSandbox, deadline time.Time, reason string) {
	subscribed := e.offerShutdown(sb, deadline, reason)
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
	waits := func(x *lambdaExtension) bool {
		return slices.Contains(e.external, x.name) && !x.failed && (x.event != nil || x.told)
	}
	_ = e.await(ctx, func() bool { return !slices.ContainsFunc(sb.extensions, waits) })
}

// offerShutdown puts SHUTDOWN out for the extensions that registered for it, and returns their names. Any
// other event that is out is taken back.
func (e *lambdaEnv) offerShutdown(sb *lambdaSandbox, deadline time.Time, reason string) map[string]bool {
	event := &lambdaExtensionEvent{
		EventType:      "SHUTDOWN",
		ShutdownReason: reason,
		DeadlineMs:     deadline.UnixMilli(),
	}
	subscribed := map[string]bool{}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range sb.extensions {
		x.event = nil
		if x.shutdown {
			x.event = event
			subscribed[x.name] = true
		}
	}
	e.wake()
	return subscribed
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
		e.report = append(e.report, lambdaExit{
			name:     p.name,
			status:   state.String(),
			code:     state.ExitCode(),
			byItself: !p.killed,
		})
	}
	if e.closing {
		next.failure = errLambdaDown
	} else if err != nil {
		next.failure = &lambdaFailure{errorType: "Extension.LaunchError", message: err.Error()}
	}
	e.sb = next
	e.record(lambdaEvent{name: "shutdown done"})
}
