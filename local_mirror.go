//go:build !layer

package main

// local_mirror.go runs copies of invocations (LIVE_LAMBDA_MODE=mirror): the deployed code answers them, and
// nothing goes back from here.

import "context"

const (
	overMirrored = "mirrored" // the handler has answered a copy
	mirrorText   = "a copy, not used"
)

// mirror gives a copy to a handler, and stays with it until it is handled or its deadline has come.
func (s *subscriber) mirror(ctx context.Context, t *talk, key string) {
	defer notify(s.ended)
	timeout, cancel := context.WithDeadline(ctx, t.deadline)
	defer cancel()
	s.local.record(t.q)
	s.local.submitWith(timeout, t.q)
	why := overMirrored
	if !s.local.awaitEnd(timeout, t.q) {
		why = unheard(ctx)
	}
	s.local.finish(t.q, why)
	s.local.recordEnd(t.q)
	s.mu.Lock()
	s.close(t)
	s.known[key] = &talk{over: true, deadline: t.deadline} // it may be sent again
	s.mu.Unlock()
}

// awaitEnd waits until q's reply has come to its end. It reports false if ctx is done before.
func (l *local) awaitEnd(ctx context.Context, q *request) bool {
	for {
		_, _, ended := l.look(q)
		if ended {
			return true
		}
		select {
		case <-q.news:
		case <-ctx.Done():
			return false
		}
	}
}
