//go:build !layer

package main

// local_exit.go is what becomes of a worker that has ended, or does not start: its request is answered, the
// restart is counted, and another process takes its place. local_process.go says that one has ended.
// local_workers.go starts the others.

import (
	"slices"
	"time"
)

// Why a process was ended, or has ended, and another one starts in its place or would. The summary counts
// restarts by them, in this order.
const (
	restartFiles       = "files changed"
	restartExited      = "exited"
	restartUnstarted   = "did not start"
	restartEnvironment = "new environment"
	restartLate        = "past its deadline"
	noRestart          = "" // it has made room, or this end is stopping
)

// exitReply is what the caller gets for an exit in the middle of its invocation.
func (w *worker) exitReply(q *request) *reply {
	return q.failureReply("Runtime.ExitError", w.status)
}

// gone is the end of a worker: its request is answered, and what it leaves to do is done by another.
func (w *worker) gone(status, errorType string) {
	l := w.pool.local
	l.mu.Lock()
	defer l.mu.Unlock()
	w.spare()
	wanted := w.retired
	l.retire(w, w.exitCause())
	w.pool.leaving--
	if w.request != nil && (w.unstarted() || w.busy()) {
		l.answer(w.request, w.failureFor(w.request, errorType, status))
	}
	w.follow(wanted, status, errorType)
	l.term.restarted(w.cause)
	l.schedule(w.pool)
	l.scheduleOthers(w.pool)
}

// busy reports whether w's runtime has an event. local.mu is held.
func (w *worker) busy() bool { return w.state == stateRunning || w.state == stateAnswering }

// follow does what has to follow when w has ended. wanted says that it was to end. local.mu is held.
func (w *worker) follow(wanted bool, status, errorType string) {
	l := w.pool.local
	switch {
	case w.cause == restartUnstarted: // the next request that needs a process tries again
		if !wanted {
			l.term.note("%s: a process did not start: %s", w.pool.name, status)
		}
		w.pool.backOff()
		w.failWaiting(errorType, status)
	case w.replaced:
		w.replaceChanged()
	case !wanted && !l.stopping:
		if !w.busy() {
			l.term.note("%s: a process has exited: %s", w.pool.name, status)
		}
		w.replaceExited()
	}
}

// exitCause says why w has ended, if nobody has ended it. local.mu is held.
func (w *worker) exitCause() string {
	l := w.pool.local
	switch {
	case l.killed():
		return noRestart
	case w.unstarted():
		return restartUnstarted
	case l.stopping:
		return noRestart
	}
	return restartExited
}

// failureFor is the reply to a request that w leaves behind. local.mu is held.
func (w *worker) failureFor(q *request, errorType, status string) *reply {
	if w.failure != nil {
		return w.failure.copy()
	}
	return q.failureReply(errorType, status)
}

// failWaiting answers the requests that have waited for w, the function's first process, with its failure:
// their own processes would end as it did, one after the other. local.mu is held.
func (w *worker) failWaiting(errorType, status string) {
	p := w.pool
	if p.works {
		return
	}
	for _, q := range p.queue {
		if w.suits(q) {
			p.local.answer(q, w.failureFor(q, errorType, status))
		}
	}
	p.queue = slices.DeleteFunc(p.queue, w.suits)
}

// replaceChanged starts another process in place of w, which was ended because files have changed. If one of
// the function is starting already, the others start when requests need them. local.mu is held.
func (w *worker) replaceChanged() {
	p := w.pool
	if !p.local.stopping && (p.works || !slices.ContainsFunc(p.workers, (*worker).unstarted)) {
		p.local.startLike(w)
	}
}

// replaceExited starts another process in place of w, which has exited by itself, unless starts are put off.
// local.mu is held.
func (w *worker) replaceExited() {
	p := w.pool
	if w.state == stateReady { // it has exited before it did anything
		p.backOff()
	}
	if time.Now().After(p.notBefore) {
		p.local.startLike(w)
	}
}

// backOff puts the next start off, for longer with each failure in a row. local.mu is held.
func (p *pool) backOff() {
	pause := min(firstRestart<<min(p.failures, 10), maxRestart)
	p.notBefore = time.Now().Add(pause)
	p.failures++
}

// failed takes the word of a runtime that it cannot start. Its process should exit by itself, and then its
// request is answered: what it prints before may tell more than the answer. local.mu is held.
func (w *worker) failed(rep *reply) {
	l := w.pool.local
	q := w.request
	if q == nil {
		l.term.note("%s: a process did not start: %s", w.pool.name, clean(rep.message))
	}
	if w == l.attach {
		if q != nil {
			w.assign(nil)
			l.answer(q, rep)
		}
		w.become(stateStarted) // the next runtime may do better
		return
	}
	w.failure = rep
	w.endAfter(exitPause, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.retire(w, restartUnstarted)
	})
}
