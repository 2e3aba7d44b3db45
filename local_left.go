//go:build !layer

package main

// local_left.go leaves requests to another local end that has their function, and takes them if that end
// turns out not to run them. All of it runs in the goroutine that reads the inbox.
//
// What another end has accepted is not heard here. The extension repeats a request every two seconds until it
// has been accepted, and says `done` when it is over. So a request that comes again under the same name has
// not been accepted, and one that does not may have been.
//
//	what becomes of the other end     a request that it has
//	it is there                       stays with it
//	it says bye                       is taken if it comes again: the other may still work on it
//	it does not answer an ask         is taken, unless the deployed code has it by then
//	it has no handler for it          is taken
//
// After this end has got a function from another, a request that comes in that moment is taken if it comes
// again after that: both may have got it. One that comes before this end knows who else is there waits for
// that.

import (
	"context"
	"maps"
	"slices"
	"time"
)

const (
	tendEvery     = 500 * time.Millisecond // requests that are left are looked through
	maxAside      = 1000                   // requests
	maxAsideBytes = 64 << 20               // of their events
)

// leftRequest is a request that is left to another end.
type leftRequest struct {
	q      *request
	sealer *sealer   // that it came sealed with last; nil: it was not
	names  []string  // request IDs that it came with; the last one is the channel to answer on
	came   time.Time // first with that one
	to     string    // the end's sender; "": it is taken if it comes again
	early  bool      // it came before it was known who else is there: then it is decided
}

// putAside reports whether q, which has come from there, is left to another end. It remembers q then.
func (s *subscriber) putAside(q *request, from origin) bool {
	function := q.context.FunctionName
	to := s.presence.leader(function)
	unsure, early := s.presence.unsure(function)
	if q.context.Mirror { // it does not come again, and nobody says when it is over
		return to != "" || early
	}
	o := s.aside[q.key()]
	switch {
	case to != "":
	case unsure:
	case o == nil:
		return false
	case o.comesAgain(from.name):
		s.drop(q.key())
		return false
	}
	if o == nil {
		o = s.remember(q)
	}
	o.to = to
	o.early = early && to == ""
	o.note(from)
	if to != "" {
		s.presence.watch(to, function)
	}
	return true
}

// note notes where a request has come from.
func (o *leftRequest) note(from origin) {
	if !slices.Contains(o.names, from.name) {
		o.came = time.Now()
	}
	others := slices.DeleteFunc(o.names, func(other string) bool { return other == from.name })
	o.names = append(others[max(0, len(others)-maxNames+1):], from.name)
	o.sealer = from.sealer
}

// comesAgain reports whether the extension says with this name that nobody has accepted the request. AppSync
// may deliver a message twice, but not so long after the first time.
func (o *leftRequest) comesAgain(name string) bool {
	return o.names[len(o.names)-1] == name && time.Since(o.came) >= repeatRequest/2
}

// remember keeps a request that is left to another end. If there are too many it is not kept: it is taken
// only if it comes again, and then the next time.
func (s *subscriber) remember(q *request) *leftRequest {
	o := &leftRequest{q: q}
	if len(s.aside) < maxAside && s.asideBytes+q.size <= maxAsideBytes {
		s.aside[q.key()] = o
		s.asideBytes += q.size
	}
	return o
}

// drop forgets a request that was left to another end.
func (s *subscriber) drop(key string) {
	o := s.aside[key]
	if o != nil {
		delete(s.aside, key)
		s.asideBytes -= o.q.size
	}
}

// doneAside takes the extension's word that a request is over that was left to another end. It may still come
// again, and is known then.
func (s *subscriber) doneAside(name string) {
	for key, o := range s.aside {
		if !slices.Contains(o.names, name) {
			continue
		}
		s.drop(key)
		s.mu.Lock()
		s.known[key] = &talk{over: true, deadline: o.q.deadline}
		s.mu.Unlock()
	}
}

// tend looks what has become of the requests that are left to other ends, and takes those that nobody has. It
// does nothing without a session, over which ends could answer.
func (s *subscriber) tend(ctx context.Context) {
	conn, _ := s.current()
	if len(s.aside) == 0 || conn == nil {
		return
	}
	due := time.Since(s.tended) >= tendEvery
	if due {
		s.tended = time.Now()
	}
	for _, o := range slices.SortedFunc(maps.Values(s.aside), func(a, b *leftRequest) int {
		return a.q.arrived.Compare(b.q.arrived)
	}) {
		if due || o.early {
			s.tendOne(ctx, o)
		}
	}
}

// tendOne does it for one of them.
func (s *subscriber) tendOne(ctx context.Context, o *leftRequest) {
	function := o.q.context.FunctionName
	unsure, early := s.presence.unsure(function)
	switch {
	case time.Now().After(o.q.deadline):
		s.drop(o.q.key())
	case o.early && early:
	case o.early:
		o.early = false
		o.to = s.presence.leader(function)
		if o.to == "" && !unsure {
			s.takeUp(ctx, o)
		}
	case o.to != "":
		s.look(ctx, o)
	}
}

// look looks for the end that a request is left to.
func (s *subscriber) look(ctx context.Context, o *leftRequest) {
	function := o.q.context.FunctionName
	switch s.presence.watch(o.to, function) {
	case hasGone:
		o.to = ""
	case isLost:
		o.to = s.presence.leader(function) // which is looked for next
		if o.to == "" {
			s.takeUp(ctx, o)
		}
	}
}

// takeUp takes a request that was left to another end. If the time to accept it is over, the deployed code
// has it, or its caller has an error.
func (s *subscriber) takeUp(ctx context.Context, o *leftRequest) {
	s.drop(o.q.key())
	until := o.q.context.AcceptUntilMs
	if until != 0 && time.Now().UnixMilli() >= until {
		return
	}
	o.q.arrived = time.Now()
	s.start(ctx, origin{name: o.names[len(o.names)-1], sealer: o.sealer}, o.q)
}
