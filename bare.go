package main

// bare.go knows the bare results of local ends that know nothing of version 1.

import (
	"context"
	"encoding/json"
	"time"
)

// subscribe gives each call that is out over l a subscription to its own channel, where a bare result on the link's could
// be another call's, and waits for them all.
func (t *tunnel) subscribe(ctx context.Context, l *session) {
	unlock := t.lock()
	for _, c := range t.calls {
		if c.link != l || t.api.graphql || l.versioned || !l.ambiguous && len(t.calls) == 1 {
			continue
		}
		if c.own == nil {
			var done func()
			c.own, done = context.WithCancel(l.conn.ctx)
			c.wg.Go(func() {
				defer done()
				l.listen(c.ctx, l.patience(), l.id(c.n), l.id(c.n), func(event string, p *part, _ error) {
					if p == nil { // parts come with the link's
						defer t.lock()()
						c.takeBare(l, event, true)
					}
				})
			})
		}
		defer await[any](ctx, c.own, nil) // with the tunnel unlocked
	}
	unlock()
}

// takeBare takes a bare result; the first answer counts. Where it may be the second answer to a call before, and so not sure,
// a local end of version 1 has some time to accept. The tunnel is locked.
func (c *call) takeBare(l *session, event string, sure bool) {
	switch {
	case c.link != l || c.heardOn != nil || c.answer != nil || !sure && c.bare != nil:
	case !json.Valid([]byte(event)):
		c.t.api.log.Warn("dropped a bare result that is not valid JSON")
	case !sure:
		c.bare = time.AfterFunc(time.Second, func() { defer c.t.lock()(); c.takeBare(l, event, true) })
	default:
		l.versioned, l.ambiguous = false, true
		c.answer = &part{Headers: map[string]string{"Content-Type": "application/json"}, data: []byte(event)}
		c.arm(noDeadline, nil)
	}
}
