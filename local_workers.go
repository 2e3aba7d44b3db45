//go:build !layer

package main

// local_workers.go runs handlers. Each function has a queue of requests, and processes that take them, each
// one request at a time. A request comes in through submit. Its reply is in it when request.news says so. A
// process is started when a request needs it. It is kept, and replaced when it exits. Whatever ends a process
// ends its whole process group.
//
// One mutex, local.mu, guards all of it, so nothing slow is done under it. Each worker has one goroutine,
// which lives as long as its process, and the goroutines of its HTTP server.

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// What a process has between SIGTERM and SIGKILL: as long as Lambda gives a runtime that has an
	// extension.
	killPause = 600 * time.Millisecond
	// For what a process has posted before it exited to be read to its end.
	postPause = 2 * time.Second
	// After a process that failed to start. It doubles with each failure in a row, up to maxRestart.
	firstRestart = 100 * time.Millisecond
	maxRestart   = 5 * time.Second
	// For a process to ask for its first event: Lambda's longest timeout. A compiler may run before.
	startLimit = 15 * time.Minute
	// For a process that has answered to ask for more, before another one is started.
	breath = 50 * time.Millisecond

	allProcesses    = 100       // of all functions together
	maxPools        = 200       // functions
	maxEvents       = 1000      // requests at hand at once
	maxEventData    = 256 << 20 // bytes of their events
	maxEnvironments = 1000      // of one function that are told apart
)

// Why nobody waits for an answer any more. The first three are outcomes that the extension tells.
const (
	overAnswered = "answered"
	overTimeout  = "timeout"
	overDeployed = "deployed"
	overDeadline = "deadline" // the deadline has passed here, and nobody has told an outcome
	overStopped  = "stopped"  // this end has stopped before the deadline, and nobody has told an outcome
)

// request is one event for a handler, and what becomes of it.
type request struct {
	id        string // Lambda's request ID
	size      int    // of event
	execution durable
	context   eventContext
	deadline  time.Time
	arrived   time.Time
	accepted  time.Time         // when this end had said so; zero: nobody wants to know
	sealed    bool              // it came sealed
	again     int               // the entry of the history that it runs again; 0: none
	news      chan struct{}     // reply, its data or over have changed
	variables map[string]string // that AWS tells about the function; submitWith sets them, if at all
	entry     *entry            // what the history keeps of it, from submit on; nil if that is nothing

	// local.mu guards the following, from admit on.
	event      []byte // until it is answered or over
	pool       *pool
	program    *program // what runs it; nil if it is for an external runtime
	identity   string   // of its environment, but for the values of variables
	generation int      // of its environment among those that the function has had
	queued     bool     // it had to wait for a process
	reply      *reply   // nil until the handler begins to answer
	over       string   // why nobody waits for an answer; "" while somebody does
}

func newRequest(event []byte, c eventContext) *request {
	return &request{
		id:        c.RequestID,
		event:     event,
		size:      len(event),
		execution: durableOf(event),
		context:   c,
		deadline:  time.UnixMilli(c.DeadlineMs),
		arrived:   time.Now(),
		news:      make(chan struct{}, 1),
	}
}

// local runs the handlers of all functions.
type local struct {
	opts      localOptions
	term      *terminal
	quiet     *log.Logger      // for what net/http would log: a handler's connections may break as they like
	variables []*variableCache // what requests are submitted with
	wg        sync.WaitGroup
	kill      chan struct{} // closed when processes are to end at once

	files      fileWatch
	guard      *guard
	clients    clientFiles
	debugPorts debugPorts
	history    *history  // nil: none is kept
	inspector  *uiServer // nil: there is none

	editing  atomic.Bool                        // an editor has the terminal
	openPage func() (address string, err error) // of the inspector; nil: there is none

	// For external runtimes there is one worker without a process. serveAttached sets both before requests
	// come.
	attach       *worker
	attachServer *http.Server

	// mu guards the following, and what pools, workers and requests say that it guards.
	mu       sync.Mutex
	pools    map[string]*pool  // by function name
	live     map[*request]bool // admitted, and neither over nor answered to the end
	held     int               // bytes of their events
	stopping bool
	empty    chan struct{} // closed when stopping and nothing is live
}

// localOptions are what the developer asked for.
type localOptions struct {
	code         code            // of functions that maps does not name
	maps         map[string]code // by function name, which may be a pattern
	functions    []string        // patterns of the functions that are served; none: all
	maxProcesses int             // of one function
	port         int             // of the Runtime API for external code; 0: any
	region       string          // for external code, before an event names one; "": the debugger's
	envFile      string          // that is to have the environment of external code; "": none
	inspect      bool            // handlers run with a port for a debugger
	debugPort    int             // the first of these ports; 0: what debuggers of the language expect
	debugged     bool            // a debugger may stop handlers, past their deadlines too
	profile      string          // of the AWS CLI
	record       string          // the directory that events are kept in; "": they are not
	ownEnv       bool            // whatever environment functions send
	keys         []*sealer       // of the messages that are taken; none: those that are not sealed
	variables    variablesReader // reads functions' variables; nil: processes go without
	role         variablesReader // reads the credentials of functions' roles; nil: processes go without
}

// onlyMapped reports whether only functions that maps names are served.
func (o localOptions) onlyMapped() bool {
	return len(o.maps) > 0 && o.code.ways() == 0 && len(o.functions) == 0
}

// pool is one function's requests and processes.
type pool struct {
	local    *local
	name     string
	external bool // somebody else starts the runtime

	// local.mu guards the following.
	queue     []*request
	workers   []*worker
	leaving   int              // processes that are not in workers any more and have not ended yet
	works     bool             // a process has asked for an event, and no file has changed since
	seen      map[[32]byte]int // generations of environments, by fingerprint
	failures  int              // starts that failed, in a row
	notBefore time.Time        // of the next start
	restart   *time.Timer      // schedules again when a start may be made; nil if none is put off
}

// worker is one runtime: a process and its own Runtime API. Without a process it serves whatever
// external runtime comes.
type worker struct {
	pool     *pool
	program  *program // of the process
	identity string   // as a request's
	env      []string // of the process, but for the address of its Runtime API

	quit   chan struct{} // closed when the process is to end
	exited chan struct{} // closed when it has ended
	status string        // how it has ended; written before exited is closed
	closed chan struct{} // closed when its calls of next are to return
	left   chan struct{} // closed when the last call has ended
	turn   chan struct{} // request is there for a call of next
	posted chan struct{} // a call that answers has ended
	asked  chan struct{} // a call of next has come while an answer is read

	printing printing

	// local.mu guards the following.
	generation int         // as a request's
	state      string      // only become changes it
	sent       time.Time   // when it last answered
	request    *request    // only assign changes it
	out        bool        // the runtime has the event of request
	failure    *reply      // what it has said of its start that failed; nil if it has said nothing
	killing    *time.Timer // ends it if it does not come back; only endAfter changes it
	calls      int         // of its Runtime API that are under way
	parked     int         // of these, the calls of next that wait
	shut       bool        // it takes no more calls
	stale      bool        // files have changed since it started: it is replaced when it is ready
	outdated   bool        // there are newer credentials: it is retired when it is ready
	retired    bool        // it is to end
	cause      string      // why it is retired
	replaced   bool        // another one starts when it has ended
}

func newLocal(opts localOptions, term *terminal) *local {
	guard := &guard{}
	return &local{
		variables:  newVariableCaches(opts, term.note),
		guard:      guard,
		clients:    clientFiles{guard: guard},
		opts:       opts,
		term:       term,
		quiet:      log.New(io.Discard, "", 0),
		kill:       make(chan struct{}),
		pools:      map[string]*pool{},
		live:       map[*request]bool{},
		empty:      make(chan struct{}),
		debugPorts: debugPorts{first: opts.debugPort, ports: map[string]int{}},
	}
}

// serves reports whether function is served here, and what runs its events.
func (l *local) serves(function string) (code code, ok bool) {
	for _, pattern := range slices.Sorted(maps.Keys(l.opts.maps)) {
		if matches(pattern, function) {
			return l.opts.maps[pattern], true
		}
	}
	if l.opts.onlyMapped() {
		return l.opts.code, false
	}
	if len(l.opts.functions) == 0 {
		return l.opts.code, true
	}
	for _, pattern := range l.opts.functions {
		if matches(pattern, function) {
			return l.opts.code, true
		}
	}
	return l.opts.code, false
}

// matches reports whether a function has a name of this shell pattern. Patterns were checked as flags.
func matches(pattern, function string) bool {
	matched, _ := path.Match(pattern, function)
	return matched
}

// noProgram is the error of a function that nothing here can run.
type noProgram struct{ error }

// admit finds what is to run q and makes room for it, or says why it cannot. Whoever admits a request then
// submits or releases it.
func (l *local) admit(q *request) error {
	code, _ := l.serves(q.context.FunctionName)
	program, err := l.program(code, q.context.FunctionName, q.context.Handler)
	if err != nil {
		return noProgram{err}
	}
	q.program = program
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopping:
		return errors.New("this end is stopping")
	case len(l.live) >= maxEvents || l.held+q.size > maxEventData:
		return fmt.Errorf("%d invocations or %s of their events are at hand already",
			maxEvents, bytesText(maxEventData))
	}
	l.live[q] = true
	l.held += q.size
	return nil
}

// submit gives q to a handler, as soon as there is one for it.
func (l *local) submit(q *request) {
	l.enqueue(q)
	q.entry.describe()
}

// enqueue is submit, but for what takes a while without local.mu.
func (l *local) enqueue(q *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q.over != "" {
		return
	}
	if l.opts.ownEnv {
		q.context.Environment = nil // before classify tells processes apart by it
	}
	l.keep(q)
	p := l.poolOf(q.context.FunctionName)
	q.pool = p
	p.classify(q)
	p.queue = append(p.queue, q)
	l.schedule(p)

	// A request that waits only until a process may be started is not shown as queued.
	waits := slices.Contains(p.queue, q)
	putOff := waits && (p.restart != nil || p.leaving > 0)
	q.queued = waits && !putOff
	queue := l.queueLength()
	if putOff {
		queue--
	}
	l.term.arrived(q, queue)
}

// poolOf returns function's pool. If there are too many, those without requests and processes make room for
// a new one. local.mu is held.
func (l *local) poolOf(function string) *pool {
	p := l.pools[function]
	if p != nil {
		return p
	}
	if len(l.pools) >= maxPools {
		maps.DeleteFunc(l.pools, func(_ string, p *pool) bool {
			return len(p.queue) == 0 && len(p.workers) == 0 && p.leaving == 0
		})
	}
	code, _ := l.serves(function)
	p = &pool{local: l, name: function, external: code.external, seen: map[[32]byte]int{}}
	l.pools[function] = p
	l.term.functions(len(l.pools))
	return p
}

// classify says in q which processes may take it, and retires those that its environment makes out of date. A
// process whose environment differs in more than the values of variables may not. Of the others, those may
// that are as new as q's environment or newer: a function's environments on Lambda differ in their
// credentials, and each lives on for a while beside newer ones. Of variables that AWS tells, those of now
// alone count. local.mu is held.
func (p *pool) classify(q *request) {
	c := q.context
	memory := strconv.Itoa(c.MemorySizeMB)
	q.identity = strings.Join([]string{c.FunctionVersion, memory, c.Region, c.Handler}, "\n")
	environment := fingerprint(c.Environment)
	if len(c.Environment) == 0 {
		environment = fingerprint(q.variables)
		known := p.seen[environment]
		if len(q.variables) > 0 && known > 0 && known < len(p.seen) { // they are again what they once were
			p.forgetEnvironments()
		}
	}
	if p.seen[environment] == 0 {
		if len(p.seen) >= maxEnvironments {
			p.forgetEnvironments()
		}
		p.seen[environment] = len(p.seen) + 1
		p.outdate(q.identity)
	}
	q.generation = p.seen[environment]
}

// forgetEnvironments begins to count environments anew. The processes at hand are older than any that comes
// then, and so are the environments of the requests that wait: a process that is started for one of them must
// not count as newer. local.mu is held.
func (p *pool) forgetEnvironments() {
	clear(p.seen)
	for _, w := range p.workers {
		w.generation = 0
	}
	for _, q := range p.queue {
		q.generation = 0
	}
}

// outdate retires the processes of this identity, the busy ones later: their credentials may end before those
// of an environment that was first seen now. local.mu is held.
func (p *pool) outdate(identity string) {
	for _, w := range slices.Clone(p.workers) {
		if w.identity == identity {
			w.outdated = true
		}
		if w.outdated && w.idle() {
			p.local.retire(w, restartEnvironment)
		}
	}
}

// fingerprint tells environments apart, but not by the log stream: each has one of its own.
func fingerprint(environment map[string]string) [32]byte {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		if name != "AWS_LAMBDA_LOG_STREAM_NAME" {
			fmt.Fprintf(h, "%q=%q\n", name, environment[name])
		}
	}
	return [32]byte(h.Sum(nil))
}

// suits reports whether w may take q. local.mu is held.
func (w *worker) suits(q *request) bool {
	if w.pool.external {
		return true
	}
	return w.identity == q.identity && w.generation >= q.generation
}

// idle reports whether w waits for an event. local.mu is held.
func (w *worker) idle() bool { return w.state == stateReady && w.parked > 0 && !w.retired }

// starting reports whether w's runtime has not asked for an event yet. local.mu is held.
func (w *worker) starting() bool { return w.state == stateStarted || w.state == stateRestoring }

// unstarted reports whether w's runtime has never asked for an event. local.mu is held.
func (w *worker) unstarted() bool { return w.starting() || w.state == stateFailed }

// become changes w's state; nothing else does. A runtime goes this way:
//
//	Started -> Ready -> Running -> InvocationResponse -> ResponseSent -> Ready -> ...
//
// It may be Restoring after Started. It goes from either to Running if a request has been waiting for it,
// from Running to ResponseSent if its invocation was over before it answered, and from Running to Ready if it
// asks for another event then, or has lost the one that it had. If it says that it cannot start it goes from
// Started or Restoring to InitError: a process ends there, and the worker without one is Started again, for
// the next runtime. local.mu is held.
func (w *worker) become(state string) { w.state = state }

// assign gives w a request, or with nil none; nothing else does. What a process prints after its answer still
// belongs to that request. local.mu is held.
func (w *worker) assign(q *request) {
	w.request = q
	switch {
	case q != nil:
		w.printing.by.Store(q.entry)
	case w.starting():
		w.printing.by.Store(nil)
	}
}

// endAfter has end called after pause, in place of what was to end w before. local.mu is held.
func (w *worker) endAfter(pause time.Duration, end func()) {
	w.spare()
	w.killing = time.AfterFunc(pause, end)
}

// spare has nothing end w that was to end it. local.mu is held.
func (w *worker) spare() {
	if w.killing != nil {
		w.killing.Stop()
	}
}

// schedule gives waiting requests to processes, and starts processes that are missing. local.mu is held.
func (l *local) schedule(p *pool) {
	for len(p.queue) > 0 {
		q := p.queue[0]
		w := p.pick(q)
		if w == nil {
			return
		}
		p.queue = p.queue[1:]
		w.assign(q)
		if w.state == stateReady {
			w.run()
		}
	}
}

// scheduleFor gives w, which is ready, something to do. The worker without a process serves all functions
// of external code. local.mu is held.
func (l *local) scheduleFor(w *worker) {
	if w != l.attach {
		l.schedule(w.pool)
		l.scheduleOthers(w.pool)
		if w.idle() {
			w.relieve()
		}
		return
	}
	p := l.longestWaiting()
	if p != nil {
		l.schedule(p)
	}
}

// relieve gives w, which is idle, the request that has waited longest for a process that is still starting.
// local.mu is held.
func (w *worker) relieve() {
	var from *worker
	for _, o := range w.pool.workers {
		if !o.starting() || o.request == nil || !w.suits(o.request) {
			continue
		}
		if from == nil || o.request.arrived.Before(from.request.arrived) {
			from = o
		}
	}
	if from == nil {
		return
	}
	w.assign(from.request)
	from.assign(nil)
	w.run()
}

// scheduleOthers starts processes of other functions than p's that had to wait because all processes together
// were too many. local.mu is held.
func (l *local) scheduleOthers(p *pool) {
	for _, other := range l.pools {
		if other != p && !other.external && len(other.queue) > 0 {
			l.schedule(other)
		}
	}
}

// longestWaiting returns the function of external code whose first request has waited longest, or nil if
// none waits. local.mu is held.
func (l *local) longestWaiting() *pool {
	var longest *pool
	for _, p := range l.pools {
		if !p.external || len(p.queue) == 0 {
			continue
		}
		if longest == nil || p.queue[0].arrived.Before(longest.queue[0].arrived) {
			longest = p
		}
	}
	return longest
}

// pick finds or starts the worker that q goes to. It returns nil if q has to wait. local.mu is held.
func (p *pool) pick(q *request) *worker {
	if p.external {
		w := p.local.attach
		if w == nil || !w.idle() {
			return nil
		}
		return w
	}
	w := p.free(q)
	if w != nil {
		return w
	}
	// A handler may need what the process that ends still holds: a port, a file.
	if p.leaving > 0 || p.local.killed() || p.firstIsStarting() {
		return nil
	}
	wait := time.Until(p.startAt(q))
	if wait > 0 {
		if p.restart == nil {
			p.restart = time.AfterFunc(wait, func() { p.local.retry(p) })
		}
		return nil
	}
	if !p.makeRoom() {
		return nil
	}
	return p.local.start(p, q)
}

// free returns a worker that has nothing to do and may take q, or nil. Replacements that are still starting
// have nothing to do either. local.mu is held.
func (p *pool) free(q *request) *worker {
	for _, w := range p.workers {
		if w.idle() && w.suits(q) {
			return w
		}
	}
	for _, w := range p.workers {
		if w.starting() && w.request == nil && !w.retired && w.suits(q) {
			return w
		}
	}
	return nil
}

// firstIsStarting reports whether a process is starting for a request, and none has become ready yet. As long
// as nobody knows that the function's code starts, and how quickly, the other requests wait for that process:
// COMMAND may be a compiler, and five of those at once take longer than one. Once one has become ready, each
// request that finds none free has one started. A process that starts for nobody keeps nobody waiting: those
// that it suits get it, and those that it does not suit need another. local.mu is held.
func (p *pool) firstIsStarting() bool {
	return !p.works && slices.ContainsFunc(p.workers, func(w *worker) bool {
		return w.unstarted() && w.request != nil
	})
}

// killed reports whether endAll has been called.
func (l *local) killed() bool {
	select {
	case <-l.kill:
		return true
	default:
		return false
	}
}

// startAt is when another process may be started for q. One that has just answered may ask for q before then.
// local.mu is held.
func (p *pool) startAt(q *request) time.Time {
	at := p.notBefore
	for _, w := range p.workers {
		if w.state != stateSent || w.stale || !w.suits(q) {
			continue
		}
		soon := w.sent.Add(breath)
		if soon.After(at) {
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

// makeRoom reports whether another process may be started now. If need be it retires one that has nothing to
// do; if that is one of this function, it has to end first. local.mu is held.
func (p *pool) makeRoom() bool {
	l := p.local
	total := 0
	var other *worker // of another function
	for _, o := range l.pools {
		total += len(o.workers)
		w := o.firstSpare()
		if w != nil && o != p {
			other = w
		}
	}
	own := p.firstSpare()
	fewer := len(p.workers) < l.opts.maxProcesses
	switch {
	case fewer && total < allProcesses:
		return true
	case own != nil:
		l.retire(own, noRestart)
		return false
	case fewer && other != nil:
		l.retire(other, noRestart)
		return true
	}
	return false
}

// firstSpare returns a worker that has nothing to do, or nil. One that is still starting may hang.
// local.mu is held.
func (p *pool) firstSpare() *worker {
	i := slices.IndexFunc(p.workers, func(w *worker) bool {
		return w.idle() || w.starting() && w.request == nil
	})
	if i < 0 {
		return nil
	}
	return p.workers[i]
}

// queueLength counts the requests of all functions that wait. local.mu is held.
func (l *local) queueLength() int {
	n := 0
	for _, p := range l.pools {
		n += len(p.queue)
	}
	return n
}

// start starts a process for q. local.mu is held.
func (l *local) start(p *pool, q *request) *worker {
	w := newWorker(p)
	w.program = q.program
	w.identity = q.identity
	w.generation = q.generation
	w.env = l.environment(q)
	l.launch(w)
	return w
}

// startLike starts a process as old was. local.mu is held.
func (l *local) startLike(old *worker) {
	w := newWorker(old.pool)
	w.program = old.program
	w.identity = old.identity
	w.generation = old.generation
	w.env = old.env
	l.launch(w)
}

// launch begins the life of a process. local.mu is held.
func (l *local) launch(w *worker) {
	w.pool.workers = append(w.pool.workers, w)
	w.limitStart()
	l.wg.Go(w.live)
}

// limitStart has w's process ended if it does not ask for an event within startLimit. The deadline of the
// request that it was started for does not end it: the next request takes it. local.mu is held.
func (w *worker) limitStart() {
	l := w.pool.local
	if l.opts.debugged {
		return // it may stand at a breakpoint
	}
	w.endAfter(startLimit, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if w.retired || !w.starting() {
			return
		}
		l.term.note("%s: ended a process that has not asked for an event within %.0f minutes", w.pool.name,
			startLimit.Minutes())
		l.retire(w, restartUnstarted)
	})
}

func newWorker(p *pool) *worker {
	w := &worker{
		pool:   p,
		quit:   make(chan struct{}),
		exited: make(chan struct{}),
		closed: make(chan struct{}),
		left:   make(chan struct{}),
		turn:   make(chan struct{}, 1),
		posted: make(chan struct{}, 1),
		asked:  make(chan struct{}, 1),
	}
	w.become(stateStarted) // nobody else has it yet
	return w
}

// retire ends a process, and takes it off the list of those that requests may go to. cause says why: one of
// those that the summary counts, or noRestart. local.mu is held.
func (l *local) retire(w *worker, cause string) {
	if w.retired {
		return
	}
	w.retired = true
	w.cause = cause
	w.pool.leaving++
	w.pool.workers = slices.DeleteFunc(w.pool.workers, func(o *worker) bool { return o == w })
	close(w.quit)
}

// replace ends a process because files have changed, and has another started in its place when it has ended.
// local.mu is held.
func (l *local) replace(w *worker) {
	w.replaced = true
	l.retire(w, restartFiles)
}

// killLate ends a process if it still has q, whose deadline passed a while ago.
func (l *local) killLate(w *worker, q *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.request == q && !w.pool.external {
		l.term.note("%s: ended a process that did not come back from %s by its deadline",
			w.pool.name, short(q.id))
		l.retire(w, restartLate)
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

// end marks the end of q's reply. local.mu is held.
func (l *local) end(q *request, rep *reply) {
	rep.ended = true
	l.settle(q)
	if q.over == "" {
		q.entry.ended(q, rep)
		l.term.ended(q, rep, l.queueLength())
	}
	notify(q.news)
}

// release gives up a request that was admitted but not submitted.
func (l *local) release(q *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(q)
}

// settle lets go of a request that is answered or over: its event, and its place among the live ones.
// local.mu is held.
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

// finish says why nobody waits for q's answer any more. The first reason counts.
func (l *local) finish(q *request, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q.over != "" {
		return
	}
	q.over = why
	l.unassign(q)
	l.settle(q)
	answered := q.reply != nil && q.reply.ended
	q.entry.over(q, answered)
	if !answered || !q.heeded() {
		l.term.over(q, answered, l.queueLength())
	}
	if q.reply != nil {
		q.reply.data.close()
	}
	notify(q.news)
}

// heeded reports whether q is over because its answer has been taken. local.mu is held.
func (q *request) heeded() bool { return q.over == overAnswered || q.over == overMirrored }

// unassign takes a request that is over away from where it waits. If a process is starting for it, that goes
// on, for the next one. local.mu is held.
func (l *local) unassign(q *request) {
	p := q.pool
	if p == nil {
		return
	}
	p.queue = slices.DeleteFunc(p.queue, func(o *request) bool { return o == q })
	i := slices.IndexFunc(p.workers, func(w *worker) bool { return w.request == q && w.starting() })
	if i >= 0 {
		p.workers[i].assign(nil)
		l.schedule(p)
	}
}

// serveAttached serves, at addr, a runtime that somebody else starts, until close.
func (l *local) serveAttached() (addr string, err error) {
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(l.opts.port)))
	if err != nil {
		return "", fmt.Errorf("cannot listen for a runtime: %w; choose another --port", err)
	}
	l.attach = newWorker(&pool{local: l, name: "attached runtime", external: true})
	l.attachServer = l.attach.runtimeAPI(ln)
	return ln.Addr().String(), nil
}

// stop lets what is at hand come to its end, and takes nothing more. The channel that it returns is closed
// when nothing is left.
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
			l.answer(q, failureReply("LiveLambda.Stopped",
				"the local end was stopped in the middle of the invocation"))
		}
	}
	for _, p := range l.pools {
		p.queue = nil
	}
}

// close ends all processes and waits for them.
func (l *local) close() {
	l.history.close() // first: what the inspector is asked may wait for what AWS says
	l.inspector.close()
	l.mu.Lock()
	l.stopping = true
	for _, p := range l.pools {
		for _, w := range slices.Clone(p.workers) {
			l.retire(w, noRestart)
		}
		p.queue = nil
	}
	l.mu.Unlock()
	if l.attach != nil {
		l.attach.shutDown(l.attachServer)
	}
	l.wg.Wait()
	l.clients.remove()
	l.guard.close()
}
