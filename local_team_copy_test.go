//go:build !layer

package main

// local_team_copy_test.go has local ends on one API, and events that the deployed code gets.

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Copies do not come again, and nobody says when they are over.
func TestTeamRunsEachCopyOnce(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		r.join("ann", mateOptions{})
		bob := r.join("bob", mateOptions{})
		settle()
		var ids []string
		for range 20 {
			c := r.context()
			c.Mirror = true
			ids = append(ids, c.RequestID)
			r.api.publish(
				requestsChannel, requestText(`"aaaa/`+fmt.Sprint(len(ids))+`"`, "1", string(mustJSON(c))))
			time.Sleep(time.Second)
		}
		settle()
		bob.end() // without a word
		time.Sleep(time.Minute)
		r.mu.Lock()
		defer r.mu.Unlock()
		twice := 0
		for _, id := range ids {
			if len(r.ran[id]) != 1 {
				twice++
			}
		}
		if twice > 0 {
			r.Errorf("%d of %d copies were not run once: %v", twice, len(ids), r.ran)
		}
	})
}

func TestCopyAtAHandoverIsRun(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		r.join("ann", mateOptions{})
		bob := r.join("bob", mateOptions{})
		settle()
		bob.leave()
		c := r.context()
		c.Mirror = true
		time.Sleep(300 * time.Millisecond)
		r.api.publish(requestsChannel, requestText(`"aaaa/1"`, "1", string(mustJSON(c))))
		time.Sleep(time.Minute)
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.ran[c.RequestID]) != 1 {
			r.Errorf("run by %v", r.ran[c.RequestID])
		}
	})
}

// The end that has the function was killed. Nobody says `done` for an event that nobody has accepted.
func TestRequestThatTheDeployedCodeHasGotIsNotTaken(t *testing.T) {
	t.Parallel()
	for _, accept := range []time.Duration{2 * time.Second, 3 * time.Second} {
		for pause := time.Duration(0); pause < time.Second; pause += 500 * time.Millisecond {
			t.Run(fmt.Sprint(accept, pause), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					local := newTestLocal(t, localOptions{})
					ln := newPipeListener("example.com")
					local.serveAPI(ln, ln.dial, 20*time.Millisecond)
					local.tunnel = newTunnel(local.client(), "orders", false)
					local.background(local.tunnel.run)
					local.api.subscribers(local.ctx, presenceChannel, 1)
					r := &teamRig{localRig: local, ran: map[string][]string{}}
					r.join("ann", mateOptions{})
					bob := r.join("bob", mateOptions{})
					settle()
					bob.end()
					time.Sleep(pause)
					c := r.context()
					c.AcceptUntilMs = time.Now().Add(accept).UnixMilli()
					call := r.tunnel.send(r.ctx, &call{channel: requestsChannel, event: []byte("1"),
						context: mustJSON(c), offline: time.Hour, accept: accept})
					_, err := call.wait()
					call.finish()
					settle()
					settle()
					r.mu.Lock()
					defer r.mu.Unlock()
					if err != nil && len(r.ran[c.RequestID]) != 0 {
						t.Errorf("accept timeout %v, pause %v: the deployed code has it (%v), and then it "+
							"is run by %v", accept, pause, err, r.ran[c.RequestID])
					}
				})
			})
		}
	}
}
