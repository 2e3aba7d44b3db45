package main

// bare.go knows bare results: what a server of another make, which knows nothing of version 1, publishes as
// its answer.
//
// AppSync does not say which channel an event came from, so a bare result on the link's own subscription may
// be any call's. It counts only while it can be nobody else's. What becomes of it:
//
//	on the link                                          a bare result on the link's subscription
//	one call is out, and none before it ended without    answers that call
//	an answer or was answered bare
//	the same, but a local end of version 1 has been      is probably a second answer to a call before:
//	heard                                                it is held back for a second, and answers the
//	                                                     call if no local end accepts meanwhile
//	several calls are out                                is dropped
//	a call before ended without an answer, or was        is dropped
//	answered bare: the link is ambiguous
//
// In the last two cases each call first subscribes to its own channel, and a bare result from that
// subscription is surely its own. Calls do not subscribe on a link where a local end of version 1 has been
// heard: servers of another make are probably not there, and it costs a round trip. A GraphQL API has no
// wildcards, so there bare results never count. If messages are sealed none gets here.

import (
	"context"
	"encoding/json"
	"time"
)

// receiveBare takes a bare result from the link's subscription. The tunnel is locked.
func (l *link) receiveBare(event string) {
	if l.ambiguous {
		return
	}
	var out []*call
	for _, c := range l.t.calls {
		if c.phase >= sending { // a server may have its request
			out = append(out, c)
		}
	}
	if len(out) == 1 {
		out[0].takeBare(l, event, !l.versioned)
	}
}

// prepare gives each call that goes out over l a subscription of its own, if bare results on the link's could
// be another call's, and returns when they deliver or have failed.
func (t *tunnel) prepare(ctx context.Context, l *link) {
	var asked []chan struct{}
	t.Lock()
	mixed := l.ambiguous || len(t.calls) > 1
	if mixed && !l.versioned && !l.graphql && l.sealer == nil {
		for _, c := range t.calls {
			if c.link == l {
				asked = append(asked, c.subscribe(l))
			}
		}
	}
	t.Unlock()
	for _, ready := range asked {
		await(ctx, l.ctx, ready)
	}
}

// subscribe subscribes to the call's own channel, once on each link, and returns what is closed when that
// delivers or has failed. The tunnel is locked.
func (c *call) subscribe(l *link) chan struct{} {
	if c.own != nil {
		return c.own
	}
	own := make(chan struct{})
	c.own = own
	c.wg.Go(func() {
		defer close(own)
		callID := l.callID(c.n)
		l.listen(c.ctx, l.patience(), callID, callID, func(event string, p *part, _ error) {
			if p == nil { // parts come by the link's subscription as well
				c.t.Lock()
				defer c.t.Unlock()
				c.takeBare(l, event, true)
			}
		})
	})
	return own
}

// takeBare takes a bare result; the first answer counts. The tunnel is locked.
func (c *call) takeBare(l *link, event string, sure bool) {
	late := c.link != l || c.heardOn != nil || c.answer != nil
	if late || (!sure && c.heldBack != nil) {
		return
	}
	if !json.Valid([]byte(event)) {
		l.log.Warn("dropped a bare result that is not valid JSON")
		return
	}
	if !sure {
		c.heldBack = time.AfterFunc(time.Second, func() {
			c.t.Lock()
			defer c.t.Unlock()
			c.takeBare(l, event, true)
		})
		return
	}
	l.versioned, l.ambiguous = false, true
	c.reply(&part{Headers: map[string]string{"Content-Type": "application/json"}}, []byte(event))
}
