//go:build !layer

package main

// local_again.go runs an invocation once more: with the same event or an edited one, through the code as it
// is now. Nothing of it goes to AWS or over the link.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	minAgain = time.Second      // for an invocation that came right before its deadline
	maxAgain = 15 * time.Minute // for one of which nobody knows how long it had: Lambda's longest timeout
)

// again runs the entry of that ID again, with event in place of its own unless that is nil. It returns the ID
// of the new entry, which is followed as any other, or why nothing runs.
func (l *local) again(id int, event []byte) (newID int, err error) {
	h := l.history
	h.mu.Lock()
	e := h.find(id)
	var i keptInvocation
	var environment map[string]string
	if e != nil {
		i = e.copy()
		environment = e.environment
	}
	h.mu.Unlock()
	if e == nil {
		return 0, fmt.Errorf("there is no invocation %d any more: only the last ones are kept", id)
	}
	i.Context.Environment = environment
	q, err := i.request(event)
	if err != nil {
		return 0, err
	}
	err = l.admit(q)
	if err != nil {
		return 0, fmt.Errorf("run %d again: %w", id, err)
	}
	l.lookNow()
	l.submitWith(l.history.ctx, q)
	if !h.goes(func() { l.stayWith(h.ctx, q) }) {
		l.finish(q, overStopped)
		return 0, errors.New("this end is stopping")
	}
	return q.entry.id, nil
}

// stayWith waits until q, which runs again, has come to its end.
func (l *local) stayWith(ctx context.Context, q *request) {
	timeout, cancel := context.WithDeadline(ctx, q.deadline)
	defer cancel()
	why := overAnswered
	if !l.awaitEnd(timeout, q) {
		why = unheard(ctx)
	}
	l.finish(q, why)
}

// request makes the request that runs i again, with event in place of its own unless that is nil.
func (i keptInvocation) request(event []byte) (*request, error) {
	if event == nil {
		event = i.Event
	}
	if event == nil {
		return nil, fmt.Errorf("the event of %d is not kept: it was too large", i.ID)
	}
	if !json.Valid(event) {
		return nil, errors.New("the event is not JSON")
	}
	execution := durableOf(event)
	if execution.name != "" {
		return nil, execution.spent(fmt.Sprintf("%d", i.ID))
	}
	q, err := newRequestFrom(event, i.againContext(time.Now()))
	if err != nil {
		return nil, err
	}
	q.again = i.ID
	return q, nil
}

// againContext is the context of i for another run at that time: of another request, and with as long as
// Lambda gave it. Lambda's timeouts are whole seconds, and some of it had passed when it arrived.
func (i keptInvocation) againContext(now time.Time) eventContext {
	c := i.Context
	c.RequestID = madeUpContext().RequestID
	length := i.Deadline.Sub(i.Arrived)
	seconds := (length + time.Second - 1).Truncate(time.Second)
	if i.Deadline.IsZero() { // an earlier recording, which does not tell
		seconds = maxAgain
	}
	c.DeadlineMs = now.Add(max(seconds, minAgain)).UnixMilli()
	c.Mirror = false
	c.DeployedMs = 0
	c.AcceptUntilMs = 0
	c.AcceptedBy = ""
	return c
}
