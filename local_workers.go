//go:build !layer

package main

// local_workers.go runs handlers: for each function a queue of requests and the processes that take them, one
// request at a time each. Requests come in through submit; their replies are in them when request.news says
// so. A process is started when a request needs it, kept, and replaced when it exits; with it goes its whole
// process group.
//
// One mutex, local.mu, guards all of it: nothing that is done under it takes long. Each worker has one
// goroutine, which lives as long as its process, and those of its HTTP server.

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// between SIGTERM and SIGKILL; what Lambda gives a runtime beside an extension
	killPause    = 600 * time.Millisecond
	postPause    = 2 * time.Second        // for calls that an exited process has left to be read to their end
	firstRestart = 100 * time.Millisecond // after a process that failed to start, doubled with each in a row
	maxRestart   = 5 * time.Second
	allProcesses = 100  // of all functions together
	maxEvents    = 1000 // requests at hand at once
	maxPools     = 200  // functions
	// for a process that has answered to ask for more, before another is started
	breath       = 50 * time.Millisecond
	maxEventData = 256 << 20 // and bytes of their events
)

// Why nobody waits for an answer any more; the first three are outcomes that the extension tells.
const (
	overAnswered = "answered"
	overTimeout  = "timeout"
	overDeployed = "deployed"
	overDeadline = "deadline" // it has passed here, and nobody has told an outcome
)

// request is one event for a handler, and what becomes of it.
type request struct {
	id       string // Lambda's request ID
	event    []byte // until it is answered or over
	size     int    // of event
	context  eventContext
	deadline time.Time
	arrived  time.Time
	news     chan struct{} // reply, its data or over have changed

	// Under local.mu.
	pool       *pool
	generation int    // of its environment among those of the function
	identity   string // of its environment's other variables
	queued     bool   // it had to wait for a process
	reply      *reply // nil until the handler begins to answer
	over       string // why nobody waits for an answer; "" while somebody does
}

func newRequest(event []byte, c eventContext) *request {
	return &request{id: c.RequestID, event: event, size: len(event), context: c,
		deadline: time.UnixMilli(c.DeadlineMs),
		arrived:  time.Now(), news: make(chan struct{}, 1)}
}

// local runs the handlers of all functions.
type local struct {
	opts  localOptions
	term  *terminal
	quiet *log.Logger // for what net/http would log: a handler's connections may break as they like
	wg    sync.WaitGroup
	kill  chan struct{} // closed when processes shall end at once

	attach       *worker // the one without a process, where there is no command
	attachServer *http.Server

	mu       sync.Mutex
	pools    map[string]*pool
	live     map[*request]bool // not over, or with a reply that has not ended
	held     int               // bytes of their events
	stopping bool
	empty    chan struct{} // closed when stopping and nothing is live
}

// localOptions are what the developer asked for.
type localOptions struct {
	command      []string            // of functions that maps does not name
	maps         map[string][]string // commands by function name, which may be a pattern
	functions    []string            // patterns of those that are served; none: all
	maxProcesses int                 // of one function
	port         int                 // of the Runtime API without a command, 0: any
	profile      string
	record       string // directory
	ownEnv       bool   // whatever environment functions send
}

// pool is one function's requests and processes.
type pool struct {
	local     *local
	name      string
	command   []string // none: a debugger starts the runtime
	queue     []*request
	workers   []*worker
	seen      map[[32]byte]int // environments by fingerprint, counted as they were first seen
	failures  int              // starts that failed, in a row
	notBefore time.Time        // of the next start
	restart   *time.Timer      // for notBefore
}

// worker is one runtime: a process and its own Runtime API. Without a process, in attach mode, it serves
// whatever runtime comes.
type worker struct {
	pool       *pool
	identity   string
	generation int
	env        []string
	quit       chan struct{} // closed when the process shall end
	exited     chan struct{} // closed when it has ended; status then says how
	closed     chan struct{} // closed when its calls of next shall return
	status     string
	turn       chan struct{} // request is there for a call of next
	posted     chan struct{} // a call that answers has ended
	left       chan struct{} // closed when the last call has ended

	// Under local.mu.
	state    string
	sent     time.Time // when it last answered
	request  *request
	calls    int  // under way
	parked   int  // of them, those of next that wait
	shut     bool // no more calls
	stale    bool // to be replaced when it is ready
	outdated bool // to be retired then: there are newer credentials
	retired  bool // it shall end
	killing  *time.Timer
}

func newLocal(opts localOptions, term *terminal) *local {
	return &local{opts: opts, term: term, quiet: log.New(io.Discard, "", 0), kill: make(chan struct{}),
		pools: map[string]*pool{}, live: map[*request]bool{}, empty: make(chan struct{})}
}

// serves reports whether function is served here, and with which command: none in attach mode.
func (l *local) serves(function string) (command []string, ok bool) {
	for _, name := range slices.Sorted(maps.Keys(l.opts.maps)) {
		if matched, _ := path.Match(name, function); matched {
			return l.opts.maps[name], true
		}
	}
	if len(l.opts.maps) > 0 && len(l.opts.command) == 0 && len(l.opts.functions) == 0 {
		return nil, false
	}
	ok = len(l.opts.functions) == 0 || slices.ContainsFunc(l.opts.functions, func(pattern string) bool {
		matched, _ := path.Match(pattern, function)
		return matched
	})
	return l.opts.command, ok
}

// admit makes room for q, or says why there is none. What is admitted is submitted or settled.
func (l *local) admit(q *request) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopping:
		return errors.New("this end is stopping")
	case len(l.live) >= maxEvents || l.held+q.size > maxEventData:
		return fmt.Errorf(
			"%d invocations or %s of their events are at hand already", maxEvents, bytesText(maxEventData))
	}
	l.live[q] = true
	l.held += q.size
	return nil
}

// submit gives q to a handler, as soon as there is one for it.
func (l *local) submit(q *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q.over != "" {
		return
	}
	if l.opts.ownEnv { // before it tells processes apart
		q.context.Environment = nil
	}
	p := l.pools[q.context.FunctionName]
	if p == nil {
		command, _ := l.serves(q.context.FunctionName)
		p = &pool{local: l, name: q.context.FunctionName, command: command, seen: map[[32]byte]int{}}
		if len(l.pools) >= maxPools {
			maps.DeleteFunc(l.pools, func(_ string, p *pool) bool { return len(p.queue)+len(p.workers) == 0 })
		}
		l.pools[p.name] = p
		l.term.functions(len(l.pools))
	}
	q.pool = p
	p.classify(q)
	p.queue = append(p.queue, q)
	l.schedule(p)
	q.queued = slices.Contains(p.queue, q) && p.restart == nil
	queue := l.queueLength()
	if !q.queued && slices.Contains(p.queue, q) {
		queue--
	}
	l.term.arrived(q, queue)
}

// classify tells which processes may take q. Those whose environment differs in more than its variables'
// values may not; of the others those that are as new as q's or newer. A function's environments on Lambda
// differ in their credentials, and each lives on for a while beside newer ones.
func (p *pool) classify(q *request) {
	c := q.context
	q.identity = strings.Join(
		[]string{c.FunctionVersion, strconv.Itoa(c.MemorySizeMB), c.Region, c.Handler}, "\n")
	if len(p.seen) > 1000 {
		clear(p.seen)
		for _, w := range p.workers {
			w.generation = 0
		}
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(c.Environment)) {
		if name != "AWS_LAMBDA_LOG_STREAM_NAME" {
			fmt.Fprintf(h, "%q=%q\n", name, c.Environment[name])
		}
	}
	print := [32]byte(h.Sum(nil))
	if p.seen[print] == 0 {
		p.seen[print] = len(p.seen) + 1
		for _, w := range slices.Clone(p.workers) { // their credentials may end before the newer ones
			w.outdated = w.outdated || w.identity == q.identity
			if w.outdated && w.idle() {
				p.local.retire(w)
			}
		}
	}
	q.generation = p.seen[print]
}

// suits reports whether w may take q.
func (w *worker) suits(q *request) bool {
	return len(w.pool.command) == 0 || w.identity == q.identity && w.generation >= q.generation
}

func (w *worker) idle() bool { return w.state == stateReady && w.parked > 0 }

func (w *worker) starting() bool { return w.state == stateStarted || w.state == stateRestoring }

// schedule gives waiting requests to processes, and starts those that are missing. local.mu is held.
func (l *local) schedule(p *pool) {
	for len(p.queue) > 0 {
		q := p.queue[0]
		w := p.pick(q)
		if w == nil {
			return
		}
		p.queue = p.queue[1:]
		w.request = q
		if w.state == stateReady {
			w.run()
		} else {
			w.limit(q)
		}
	}
}

// scheduleFor gives w, which is ready, something to do. The one without a process serves all functions
// without a command. local.mu is held.
func (l *local) scheduleFor(w *worker) {
	if w != l.attach {
		l.schedule(w.pool)
		return
	}
	var first *pool
	for _, p := range l.pools {
		if len(p.command) == 0 && len(p.queue) > 0 &&
			(first == nil || p.queue[0].arrived.Before(first.queue[0].arrived)) {
			first = p
		}
	}
	if first != nil {
		l.schedule(first)
	}
}

// pick finds the worker that q goes to, or returns nil: q has to wait.
func (p *pool) pick(q *request) *worker {
	if len(p.command) == 0 {
		if w := p.local.attach; w != nil && w.idle() {
			return w
		}
		return nil
	}
	for _, w := range p.workers {
		if w.idle() && w.suits(q) {
			return w
		}
	}
	for _, w := range p.workers { // replacements that are still starting
		if w.starting() && w.request == nil && w.suits(q) && !w.retired {
			return w
		}
	}
	select {
	case <-p.local.kill:
		return nil
	default:
	}
	if wait := time.Until(p.startAt(q)); wait > 0 {
		if p.restart == nil {
			p.restart = time.AfterFunc(wait, func() { p.local.retry(p) })
		}
		return nil
	}
	if !p.makeRoom() {
		return nil
	}
	return p.local.start(p, q.identity, q.generation, p.local.environment(q))
}

// startAt is when another process may be started for q.
func (p *pool) startAt(q *request) time.Time {
	at := p.notBefore
	for _, w := range p.workers {
		if soon := w.sent.Add(breath); w.state == stateSent && w.suits(q) && !w.stale && soon.After(at) {
			at = soon
		}
	}
	return at
}

// retry schedules again after a pause.
func (l *local) retry(p *pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.restart = nil
	if !l.stopping || len(p.queue) > 0 {
		l.schedule(p)
	}
}

// makeRoom reports whether another process may be started, after having ended one that has nothing to do if
// need be.
func (p *pool) makeRoom() bool {
	l := p.local
	total := 0
	var other *worker
	for _, o := range l.pools {
		total += len(o.workers)
		if i := slices.IndexFunc(o.workers, (*worker).idle); i >= 0 && o != p {
			other = o.workers[i]
		}
	}
	var own *worker
	if i := slices.IndexFunc(p.workers, (*worker).idle); i >= 0 {
		own = p.workers[i]
	}
	switch {
	case len(p.workers) < l.opts.maxProcesses && total < allProcesses:
	case own != nil:
		l.retire(own)
	case len(p.workers) < l.opts.maxProcesses && other != nil:
		l.retire(other)
	default:
		return false
	}
	return true
}

func (l *local) queueLength() (n int) {
	for _, p := range l.pools {
		n += len(p.queue)
	}
	return n
}

// start starts a process. local.mu is held.
func (l *local) start(p *pool, identity string, generation int, env []string) *worker {
	w := newWorker(p)
	w.identity, w.generation, w.env = identity, generation, env
	p.workers = append(p.workers, w)
	l.wg.Go(w.live)
	return w
}

func newWorker(p *pool) *worker {
	return &worker{pool: p, state: stateStarted, quit: make(chan struct{}), exited: make(chan struct{}),
		closed: make(chan struct{}),
		turn:   make(chan struct{}, 1), posted: make(chan struct{}, 1), left: make(chan struct{})}
}

// retire ends a process that has nothing to do. local.mu is held.
func (l *local) retire(w *worker) {
	if w.retired {
		return
	}
	w.retired = true
	w.pool.workers = slices.DeleteFunc(w.pool.workers, func(o *worker) bool { return o == w })
	close(w.quit)
}

// replace ends a process and starts another in its place. local.mu is held.
func (l *local) replace(w *worker) {
	if w.retired {
		return
	}
	l.retire(w)
	if !l.stopping {
		l.start(w.pool, w.identity, w.generation, w.env)
	}
}

// killLate ends a process whose invocation has been over for a while.
func (l *local) killLate(w *worker, q *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.request == q && len(w.pool.command) > 0 {
		l.term.note(
			"%s: ended a process that did not come back from %s by its deadline", w.pool.name, short(q.id))
		l.retire(w)
	}
}

// answer gives q its reply; the first one counts. local.mu is held.
func (l *local) answer(q *request, rep *reply) {
	if q.over != "" || q.reply != nil {
		rep.data.close()
		return
	}
	q.reply = rep
	if rep.ended {
		l.end(q, rep)
	}
	notify(q.news)
}

// end is the end of q's reply. local.mu is held.
func (l *local) end(q *request, rep *reply) {
	rep.ended = true
	l.settle(q)
	if q.over == "" {
		l.term.ended(q, rep, l.queueLength())
	}
	notify(q.news)
}

// release gives up a request that was admitted and not submitted.
func (l *local) release(q *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(q)
}

// settle forgets what is needed no more of a request that is answered or over. local.mu is held.
func (l *local) settle(q *request) {
	if !l.live[q] {
		return
	}
	delete(l.live, q)
	l.held -= q.size
	q.event = nil
	if l.stopping && len(l.live) == 0 {
		close(l.empty)
	}
}

// finish says why nobody waits for q's answer any more.
func (l *local) finish(q *request, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q.over != "" {
		return
	}
	q.over = why
	if q.pool != nil {
		q.pool.queue = slices.DeleteFunc(q.pool.queue, func(o *request) bool { return o == q })
	}
	l.settle(q)
	if answered := q.reply != nil && q.reply.ended; !answered || why != overAnswered {
		l.term.over(q, answered, l.queueLength())
	}
	if q.reply != nil {
		q.reply.data.close()
	}
	notify(q.news)
}

// live is a worker's life: its Runtime API, its process, and what both leave.
func (w *worker) live() {
	l := w.pool.local
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.gone(fmt.Sprintf("cannot listen for the runtime: %v", err), "LiveLambda.Local")
		return
	}
	server := w.runtimeAPI(ln)
	status, errorType := w.process(ln.Addr().String())
	w.status = status
	close(w.exited)
	l.mu.Lock()
	answering := w.state == stateAnswering
	l.mu.Unlock()
	if answering { // what it has sent is read to its end
		select {
		case <-w.posted:
		case <-l.kill:
		case <-time.After(postPause):
		}
	}
	w.shutDown(server)
	w.gone(status, errorType)
}

// shutDown ends w's Runtime API and waits for its calls.
func (w *worker) shutDown(server *http.Server) {
	l := w.pool.local
	l.mu.Lock()
	w.shut = true
	wait := w.calls > 0
	l.mu.Unlock()
	close(w.closed)
	server.Close()
	if wait {
		<-w.left
	}
}

// process runs the command until it ends and leaves nothing behind that it has started. It returns what ended
// it.
func (w *worker) process(addr string) (status, errorType string) {
	l := w.pool.local
	command := exec.Command(w.pool.command[0], w.pool.command[1:]...)
	own := "AWS_LAMBDA_RUNTIME_API=" + addr
	command.Env = append(slices.Clone(w.env), own)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, stderr, copied, err := w.outputs()
	if err != nil {
		return "cannot run it: " + err.Error(), "LiveLambda.Local"
	}
	command.Stdout, command.Stderr = stdout, stderr
	err = command.Start()
	stdout.Close()
	stderr.Close()
	if err != nil {
		copied()
		return err.Error(), "Runtime.InvalidEntrypoint"
	}
	group := -command.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	select {
	case err = <-ended:
	case <-l.kill:
		syscall.Kill(group, syscall.SIGKILL)
		err = <-ended
	case <-w.quit:
		syscall.Kill(group, syscall.SIGTERM)
		select {
		case err = <-ended:
		case <-l.kill:
			syscall.Kill(group, syscall.SIGKILL)
			err = <-ended
		case <-time.After(killPause):
			syscall.Kill(group, syscall.SIGKILL)
			err = <-ended
		}
	}
	syscall.Kill(group, syscall.SIGKILL) // what the process has started and left
	killStrays(own)
	copied()
	if err == nil {
		return "Runtime exited without providing a reason", "Runtime.ExitError"
	}
	return "Runtime exited with error: " + err.Error(), "Runtime.ExitError"
}

// killStrays ends what has left the process group, as a browser does that a handler starts detached. On Linux
// it is known by variable, which nothing but one worker's processes have in their environment; elsewhere it
// is not found.
func killStrays(variable string) {
	for range 10 { // those at hand may start others meanwhile
		found := false
		files, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is valid
		for _, file := range files {
			pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
			p, err := os.FindProcess(pid) // before the look: a process ID may be used again
			if err != nil {
				continue
			}
			environ, _ := os.ReadFile(file) // fails for those of others
			if strings.Contains("\x00"+string(environ), "\x00"+variable+"\x00") {
				found = p.Kill() == nil || found
			}
			p.Release()
		}
		if !found {
			return
		}
	}
}

// outputs are pipes for what a handler prints; copied waits until all of it has been passed on.
func (w *worker) outputs() (stdout, stderr *os.File, copied func(), err error) {
	var wg sync.WaitGroup
	var readers []*os.File
	files := make([]*os.File, 2)
	for i := range files {
		r, f, err := os.Pipe()
		if err != nil {
			for _, r := range append(readers, files[:i]...) {
				r.Close()
			}
			return nil, nil, nil, err
		}
		readers, files[i] = append(readers, r), f
		out := w.pool.local.term.output(w.pool.name, i == 1)
		wg.Go(func() {
			io.Copy(out, r)
			out.Close()
		})
	}
	return files[0], files[1], func() {
		late := time.AfterFunc(killPause, func() { // something that left the process group holds them open
			for _, r := range readers {
				r.SetReadDeadline(time.Now())
			}
		})
		defer late.Stop()
		wg.Wait()
		for _, r := range readers {
			r.Close()
		}
	}, nil
}

// exitReply is what the caller gets for an exit in the middle of its invocation.
func (w *worker) exitReply(q *request) *reply {
	return failureReply("Runtime.ExitError", "RequestId: "+q.id+" Error: "+w.status)
}

// gone is the end of a worker: its request is answered, and what it leaves to do is done by another.
func (w *worker) gone(status, errorType string) {
	l := w.pool.local
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.killing != nil {
		w.killing.Stop()
	}
	p := w.pool
	wanted := w.retired
	l.retire(w)
	starting := w.starting() || w.state == stateFailed
	busy := w.state == stateRunning || w.state == stateAnswering
	if q := w.request; q != nil && (starting || busy) {
		l.answer(q, failureReply(errorType, "RequestId: "+q.id+" Error: "+status))
	}
	switch {
	case wanted:
	case starting: // the next request that needs a process tries again
		p.backOff()
		l.term.note("%s: a process did not start: %s", p.name, status)
		l.term.restarted()
	case l.stopping:
	default:
		if !busy {
			l.term.note("%s: a process has exited: %s", p.name, status)
		}
		l.term.restarted()
		if w.state == stateReady { // it has done nothing since
			p.backOff()
		}
		if time.Now().After(p.notBefore) {
			l.start(p, w.identity, w.generation, w.env)
		}
	}
	l.schedule(p)
}

// backOff puts the next start off, for longer with each failure in a row. local.mu is held.
func (p *pool) backOff() {
	p.notBefore = time.Now().Add(min(firstRestart<<min(p.failures, 10), maxRestart))
	p.failures++
}

// failed answers the request of a worker that cannot start. local.mu is held.
func (w *worker) failed(rep *reply) {
	l := w.pool.local
	if q := w.request; q != nil {
		w.request = nil
		l.answer(q, rep)
	} else {
		l.term.note("%s: a process did not start: %s", w.pool.name, clean(rep.message))
	}
	if w == l.attach {
		w.state = stateStarted // the next runtime may do better
		return
	}
	w.killing = time.AfterFunc(exitPause, func() { // it should exit by itself
		l.mu.Lock()
		defer l.mu.Unlock()
		l.retire(w)
	})
}

// serveAttached serves, at addr, a runtime that somebody else starts, until close.
func (l *local) serveAttached() (addr string, err error) {
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(l.opts.port)))
	if err != nil {
		return "", fmt.Errorf("cannot listen for a runtime: %w; choose another --port", err)
	}
	l.attach = newWorker(&pool{local: l, name: "attached runtime"})
	l.attachServer = l.attach.runtimeAPI(ln)
	return ln.Addr().String(), nil
}

// stop lets what is at hand come to its end and takes nothing more. The channel is closed when nothing is
// left.
func (l *local) stop() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stopping {
		l.stopping = true
		if len(l.live) == 0 {
			close(l.empty)
		}
	}
	return l.empty
}

// endAll ends all processes at once. Callers that wait for an answer get an error.
func (l *local) endAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.kill)
	for q := range l.live {
		if q.reply == nil && q.pool != nil {
			l.answer(q, failureReply(
				"LiveLambda.Stopped", "the local end was stopped in the middle of the invocation"))
		}
	}
	for _, p := range l.pools {
		p.queue = nil
	}
}

// close ends all processes and waits for them.
func (l *local) close() {
	l.mu.Lock()
	l.stopping = true
	for _, p := range l.pools {
		for _, w := range slices.Clone(p.workers) {
			l.retire(w)
		}
		p.queue = nil
	}
	l.mu.Unlock()
	if l.attach != nil {
		l.attach.shutDown(l.attachServer)
	}
	l.wg.Wait()
}
