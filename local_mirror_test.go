//go:build !layer

package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A copy is run and shown. Nothing goes back for it, whatever becomes of it.
func TestCopyIsRunAndNothingIsSaid(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", testKey} {
		t.Run(key, func(t *testing.T) {
			sealedBubble(t, strings.Fields(key), func(r *localRig) {
				e := r.newSealedEar("aaaa", key)
				r.term().verbose = true
				c := r.context()
				c.Mirror = true
				var id string
				var event []byte
				taken := make(chan struct{})
				go func() {
					defer close(taken)
					id, event = r.next()
				}()
				synctest.Wait() // the runtime waits for an event, which so is not queued
				e.ask(1, []byte(`"of the copy"`), c)
				<-taken
				if string(event) != `"of the copy"` {
					t.Errorf("the event is %s", event)
				}
				e.ask(1, []byte(`"of the copy"`), c)
				r.respond(id, strings.NewReader(`"the answer"`), 202)
				e.ask(1, []byte(`"of the copy"`), c)
				time.Sleep(time.Minute)
				if len(e.parts) > 0 {
					t.Errorf("it said %q", (<-e.parts).Type)
				}
				r.wantNothingHeld()
				if n := r.sub.talking(); n != 0 {
					t.Errorf("%d are not over", n)
				}
				r.wantShown(
					"orders 00000000 copy    13 B in, 1 running\n", `event: "of the copy"`,
					"orders 00000000 ok      a copy, not used; 0 ms, 12 B out\n",
					`answer: "the answer"`,
				)
				r.term().summarise()
				r.wantShown("1 invocation (1 as copies, whose answers were not used), 0 errors, median")
			})
		})
	}
}

// wantShown wants each of these on the terminal once.
func (r *localRig) wantShown(texts ...string) {
	r.Helper()
	synctest.Wait()
	for _, text := range texts {
		if n := strings.Count(r.out.String(), text); n != 1 {
			r.Errorf("shown %d times: %q in\n%s", n, text, r.out)
		}
	}
}

// term is what the developer sees.
func (r *localRig) term() *terminal { return r.local.term }

func TestCopyThatFailsOrIsLateIsShownSo(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		r.term().json = true
		failed, late := r.context(), r.context()
		failed.Mirror, late.Mirror = true, true
		e.ask(1, []byte("1"), failed)
		id, _ := r.next()
		r.call(r.ctx, "POST", "invocation/"+id+"/error",
			strings.NewReader(`{"errorType":"E","errorMessage":"went wrong"}`), typeHeader, "E")
		e.ask(2, []byte("2"), late)
		r.next()
		time.Sleep(time.Until(time.UnixMilli(late.DeadlineMs)))
		r.wantShown(
			`"outcome":"error","error_type":"E","message":"E: went wrong"`,
			`"outcome":"timeout","message":"a copy, not used; deadline passed"`,
		)
		if n := strings.Count(r.out.String(), `"mirror":true`); n != 4 {
			t.Errorf("%d lines are marked, want 4:\n%s", n, r.out)
		}
		if len(e.parts) > 0 {
			t.Errorf("it said %q", (<-e.parts).Type)
		}
		r.term().summarise()
		r.wantShown(`"summary":{"invocations":2,"copies":2,"errors":2,`)
		r.wantNothingHeld()
	})
}

// It is not waited for: neither `done` nor the extension's word comes.
func TestLocalEndThatEndsWaitsForCopiesHandlersOnly(t *testing.T) {
	t.Parallel()
	localBubble(t, func(r *localRig) {
		c := r.context()
		c.Mirror = true
		r.newEar("aaaa").ask(1, []byte("1"), c)
		id, _ := r.next()
		start := time.Now()
		time.AfterFunc(time.Second, func() { r.respond(id, strings.NewReader("1"), 202) })
		status := r.local.shutDown(r.sub, nil, false)
		if took := time.Since(start); took != time.Second || status != 0 {
			t.Errorf("it ended after %s with status %d", took, status)
		}
	})
}

func TestInvokeTakesNoNoteOfMirror(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	c := r.context()
	c.Mirror = true
	rep, body := r.reply(r.direct([]byte(`"x"`), c))
	if rep.kind != "response" || body != `"x"` {
		t.Errorf("%s %s", rep.kind, body)
	}
}
