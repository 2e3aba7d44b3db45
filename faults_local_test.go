//go:build !layer

package main

// faults_local_test.go has local ends that go, hesitate, contradict each other or talk nonsense.

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// goingTest is a local end that has an invocation and goes.
type goingTest struct {
	name    string
	first   func(*rig) // before the invocation
	then    func(*rig) // eleven seconds later
	timeout time.Duration
	want    string
	took    time.Duration
	next    time.Duration // until the next invocation; 0: another local end is started, if this one is gone
}

// run invokes a handler that takes forty seconds, in a rig of its own.
func (test goingTest) run(t *testing.T) {
	t.Helper()
	const s = time.Second
	slow := func(d *delivery) localReply {
		if string(d.event) == `1` {
			time.Sleep(40 * s)
		}
		return respond(`{"by":"local"}`)
	}
	rigTest(t, test.name, rigOptions{local: &localEnd{handle: slow}}, func(r *rig) {
		r.want(r.invoke(`0`), "local")
		if test.first != nil {
			test.first(r)
		}
		done := after(11*s, func() { test.then(r) })
		o := r.invokeRequest(invokeRequest{payload: []byte(`1`), timeout: test.timeout})
		<-done
		r.want(o, test.want)
		r.wantHandled(2)
		if len(r.handled) != 2 {
			r.t.Errorf("several local ends' handlers ran: %v", r.handled)
		}
		took := o.took.Round(s)
		if r.api.opts.graphql && took == test.took+2*s { // a probe takes a request's turn
			took = test.took
		}
		if took != test.took {
			r.t.Errorf("it took %v, want %v", o.took, test.took)
		}
		time.Sleep(test.next)
		if test.want != "local" && test.next == 0 {
			r.startLocal(&localEnd{name: "another"})
		}
		r.want(r.invoke(`2`), "local")
		r.wantHandled(3)
		if len(r.runtime.got()) > 0 {
			r.t.Errorf("the deployed code got %q", r.runtime.got())
		}
	})
}

// endConnections ends the connections of local ends.
func endConnections(r *rig, ending apiEnding) {
	conns, _ := r.api.subscribers(r.ctx, "/live-lambda/requests", 0)
	for _, c := range conns {
		r.api.do(c, apiVerdict{after: ending})
	}
}

// startAgain starts another local end, as after a crash.
func startAgain(r *rig) { r.local = r.startLocal(&localEnd{name: "again"}) }

func TestInvocationFailsIfItsLocalEndGoes(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, test := range []goingTest{
		{
			name: "in the middle, for good",
			then: func(r *rig) {
				r.local.leave()
			},
			timeout: 900 * s,
			want:    "LiveLambda.Gone",
			took:    25 * s,
		},
		{
			name: "in the middle, and starts again",
			then: func(r *rig) {
				r.local.leave()
				startAgain(r)
			},
			timeout: 900 * s,
			want:    "LiveLambda.Gone",
			took:    25 * s,
		},
		{
			name: "in the middle, starts again, and the link is new",
			then: func(r *rig) {
				r.local.leave()
				startAgain(r)
				time.Sleep(s)
				_, conn := r.link()
				r.api.do(conn, apiVerdict{after: resetConnection})
			},
			timeout: 900 * s,
			want:    "LiveLambda.Gone",
			took:    25 * s,
		},
		{
			name: "in the middle, the deadline near",
			then: func(r *rig) {
				r.local.leave()
			},
			timeout: 20 * s,
			want:    "LiveLambda.NoAnswer",
			took:    19 * s,
		},
		{
			name: "asleep for an hour",
			then: func(r *rig) {
				endConnections(r, goHalfOpen)
				awake := make(chan struct{})
				time.AfterFunc(time.Hour, func() { close(awake) })
				r.intercept(func(f rigFrame) (v apiVerdict) {
					if f.typ == "upgrade" || strings.HasPrefix(f.step, "local publish") {
						v.until = awake
					}
					return v
				})
			},
			timeout: 900 * s,
			want:    "LiveLambda.Gone",
			took:    25 * s,
			next:    2 * time.Hour,
		},
	} {
		test.run(t)
	}
}

func TestInvocationIsAnsweredIfItsLocalEndComesBack(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, test := range []goingTest{
		// The request goes out every two seconds.
		{
			name: "before it accepted, and comes back",
			first: func(r *rig) {
				r.local.stop()
			},
			then:    startAgain,
			timeout: 900 * s,
			want:    "local",
			took:    12 * s,
		},
		{
			name: "its connection resets",
			then: func(r *rig) {
				endConnections(r, resetConnection)
			},
			timeout: 900 * s,
			want:    "local",
			took:    40 * s,
		},
		{
			name: "its connection dies",
			then: func(r *rig) {
				endConnections(r, goHalfOpen)
			},
			timeout: 900 * s,
			want:    "local",
			took:    40 * s,
		},
	} {
		test.run(t)
	}
}

// acceptTest is an invocation with LIVE_LAMBDA_ACCEPT_TIMEOUT and a fault, at a local end that users have.
type acceptTest struct {
	name   string
	accept string        // the variable's value
	first  bool          // there is an invocation over the link before
	delay  time.Duration // of every frame
	fault  func(*rig)
	want   string
	took   time.Duration // 0: any
}

// run invokes a handler that takes four seconds, in a rig of its own.
func (test acceptTest) run(t *testing.T) {
	t.Helper()
	const s = time.Second
	opts := rigOptions{
		env:   map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": test.accept},
		api:   eventAPIOptions{delay: test.delay},
		local: &localEnd{real: true},
	}
	rigTest(t, test.name, opts, func(r *rig) {
		handled := 0
		if test.first {
			handled++
			r.want(r.invoke(`1`), "local")
		}
		r.local.handle = func(*delivery) localReply {
			time.Sleep(4 * s)
			return respond(`{"by":"local"}`)
		}
		test.fault(r)
		o := r.invokeRequest(invokeRequest{payload: []byte(`2`), timeout: time.Minute})
		r.want(o, test.want)
		if test.took != 0 && o.took.Round(s/10) != test.took {
			r.t.Errorf("it took %v, want %v", o.took, test.took)
		}
		if test.want == "local" {
			handled++
			got := r.runtime.got()
			if len(got) > 0 {
				r.t.Errorf("the deployed code got %q", got)
			}
		}
		time.Sleep(time.Minute)
		r.wantHandled(handled)
	})
}

// linkDiesAt has the extension's link go half-open at a step.
func linkDiesAt(step string) func(*rig) {
	return func(r *rig) {
		_, conn := r.link()
		var hit atomic.Bool
		r.intercept(func(f rigFrame) (v apiVerdict) {
			switch {
			case f.step != step || hit.Swap(true):
			case f.conn == 0: // over HTTPS
				r.api.do(conn, apiVerdict{after: goHalfOpen})
			default:
				v.after = goHalfOpen
			}
			return v
		})
	}
}

// faultOnce has one frame of a step meet a fault.
func faultOnce(step string, f fault) func(*rig) {
	judge := at(step, times(1, f)).fault
	return func(r *rig) { r.intercept(func(f rigFrame) apiVerdict { return judge(r, f) }) }
}

// frozenSince has the link die, and its last frame have come so long ago.
func frozenSince(ago time.Duration) func(*rig) {
	return func(r *rig) {
		l, conn := r.link()
		r.api.do(conn, apiVerdict{after: goHalfOpen})
		synctest.Wait() // whatever was on its way has come
		l.conn.heard.Add(-int64(ago))
	}
}

// With LIVE_LAMBDA_ACCEPT_TIMEOUT the deployed code runs if nobody accepts in that time.
func TestUnacceptedInvocationRunsDeployedCode(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, test := range []acceptTest{
		{
			name:   "nobody is there",
			accept: "3s",
			first:  true,
			fault: func(r *rig) {
				r.local.stop()
			},
			want: "deployed",
			took: 3 * s,
		},
		{
			name:   "nobody is there, and nobody was",
			accept: "1500ms",
			fault: func(r *rig) {
				r.local.stop()
			},
			want: "deployed",
			took: 1500 * time.Millisecond,
		},
	} {
		test.run(t)
	}
}

// What a local end has accepted is never also given to the deployed code: not if accepted was lost, and not
// if it is only late.
func TestAcceptedInvocationDoesNotRunDeployedCode(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, test := range []acceptTest{
		{
			name:   "accepted is lost",
			accept: "3s",
			fault:  faultOnce("extension data accepted 0", drop),
			want:   "local",
			took:   4 * s,
		},
		{
			name:   "accepted is lost, not the first one",
			accept: "3s",
			first:  true,
			fault:  faultOnce("extension data accepted 0", drop),
			want:   "local",
			took:   4 * s,
		},
		{
			name:   "AppSync has no capacity for accepted",
			accept: "3s",
			fault:  faultOnce("local publish accepted 0", reject("LimitExceededError")),
			want:   "local",
			took:   4 * s,
		},
		{
			name:   "accepted dies with its connection",
			accept: "3s",
			fault: func(r *rig) {
				r.endAt("local publish accepted 0", goHalfOpen, true)
			},
			want: "local",
		},
		{
			name:   "the link dies with the request",
			accept: "3s",
			first:  true,
			fault:  linkDiesAt("extension publish request 0"),
			want:   "local",
		},
		{
			name:   "the link dies behind the request",
			accept: "3s",
			first:  true,
			fault:  linkDiesAt("extension publish_success request 0"),
			want:   "local",
		},
		{
			name:   "the link dies behind accepted",
			accept: "3s",
			first:  true,
			fault:  linkDiesAt("extension data accepted 0"),
			want:   "local",
		},
		{
			name:   "the link died while frozen for 10 seconds",
			accept: "1500ms",
			first:  true,
			fault:  frozenSince(10 * s),
			want:   "local",
		},
		{
			name:   "the link died while frozen for 80 seconds",
			accept: "1500ms",
			first:  true,
			fault:  frozenSince(80 * s),
			want:   "local",
		},
		{
			name:   "the link died, and the clock is set back",
			accept: "3s",
			first:  true,
			fault:  frozenSince(-300 * s),
			want:   "local",
		},
		{
			name:   "the link died, and the clock is set back, without a timeout",
			accept: "0",
			first:  true,
			fault:  frozenSince(-300 * s),
			want:   "local",
		},
		{
			name:   "accepted is on its way",
			accept: "3s",
			fault: faultOnce("local data request 0", func(*rig, rigFrame) apiVerdict {
				late := make(chan struct{})
				time.AfterFunc(2960*time.Millisecond, func() { close(late) })
				return apiVerdict{until: late}
			}),
			want:  "local",
			delay: 25 * time.Millisecond,
		},
	} {
		test.run(t)
	}
}

// answersAfter is a local end that answers with its name, in parts, when its handler has taken a while.
func answersAfter(name string, d time.Duration) *localEnd {
	return &localEnd{
		name:   name,
		pieces: 5,
		handle: func(*delivery) localReply {
			time.Sleep(d)
			return respond(`{"by":"` + name + `"}`)
		},
	}
}

// Each of several local ends on one channel runs its handler once at the most, and one answer counts, whole.
func TestOneAnswerOfSeveralLocalEndsCounts(t *testing.T) {
	t.Parallel()
	const s = time.Second
	accepts := &localEnd{
		name:   "accepts",
		script: func(d *delivery) { d.say(localReply{part: part{Type: "accepted"}}) },
	}
	begins := &localEnd{
		name: "begins",
		script: func(d *delivery) {
			first := part{Type: "response", RequestID: d.requestID(), Sender: "begins"}
			d.publish(first.encode([]byte(`{"by":`)))
		},
	}
	fails := &localEnd{
		name: "fails",
		handle: func(*delivery) localReply {
			return localReply{part: part{Type: "error", ErrorType: "Runtime.MyError"}, body: []byte(`{}`)}
		},
	}
	tests := []struct {
		name   string
		locals []*localEnd
		want   string
	}{
		{
			name:   "one is quicker",
			locals: []*localEnd{answersAfter("a", 3*s), answersAfter("b", s)},
			want:   "b",
		},
		{name: "one never answers", locals: []*localEnd{accepts, answersAfter("b", 30*s)}, want: "b"},
		{
			name:   "one begins to answer and goes",
			locals: []*localEnd{begins, answersAfter("b", s)},
			want:   "b",
		},
		{
			name:   "one fails at once",
			locals: []*localEnd{fails, answersAfter("b", s)},
			want:   "Runtime.MyError",
		},
		{
			name:   "three",
			locals: []*localEnd{answersAfter("a", 3*s), answersAfter("b", 2*s), answersAfter("c", s)},
			want:   "c",
		},
	}
	for _, test := range tests {
		rigTest(t, test.name, rigOptions{noLocal: true}, func(r *rig) {
			for _, l := range test.locals {
				r.startLocal(l)
			}
			for i := range 3 {
				r.want(r.invoke(fmt.Sprint(i)), test.want)
			}
			r.wantHandled(3)
		})
	}
}

func TestOneAnswerOfTwoQuickLocalEndsCounts(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true}, func(r *rig) {
		r.startLocal(answersAfter("a", time.Second))
		r.startLocal(answersAfter("b", time.Second))
		for range 20 {
			o := r.invoke(`1`)
			if o.what != "a" && o.what != "b" {
				r.t.Errorf("got %s, of neither", o.what)
				continue
			}
			r.want(o, o.what)
		}
		r.wantHandled(20)
	})
}

// Answers come too often, or to someone else.
func TestStrayAnswersAreIgnored(t *testing.T) {
	t.Parallel()
	other := func(d *delivery, id string) part {
		return part{Type: "response", RequestID: id, Sender: d.local.name}
	}
	link := func(d *delivery) string {
		name, _, _ := strings.Cut(d.requestID(), "/")
		return name
	}
	var last atomic.Value
	tests := []struct {
		name   string
		script func(*delivery)
	}{
		{
			name: "twice",
			script: func(d *delivery) {
				d.say(respond(`{"by":"local"}`))
				d.say(respond(`{"by":"twice"}`))
			},
		},
		{
			name: "a hundred times",
			script: func(d *delivery) {
				for range 100 {
					d.say(respond(`{"by":"local"}`))
				}
			},
		},
		{
			name: "a response and an error",
			script: func(d *delivery) {
				d.say(respond(`{"by":"local"}`))
				d.say(localReply{part: part{Type: "error", ErrorType: "E"}, body: []byte(`{}`)})
			},
		},
		{
			name: "the one before, again",
			script: func(d *delivery) {
				id := last.Swap(d.requestID())
				if id != nil {
					before := part{Type: "response", RequestID: id.(string), Last: true, Sender: "local"}
					d.publish(before.encode([]byte(`{"by":"the one before"}`)))
				}
				d.say(respond(`{"by":"local"}`))
			},
		},
		{
			name: "to another's channel",
			script: func(d *delivery) {
				for _, id := range []string{
					link(d) + "/99",
					link(d) + "/0",
					link(d) + "/probe",
					link(d) + "/18446744073709551616",
					"0123456789abcdef01234567/1",
					link(d),
				} {
					d.local.publishTo(d.ctx, id, other(d, id).event())
				}
				d.say(respond(`{"by":"local"}`))
			},
		},
		{
			name: "with another's ID on its own channel",
			script: func(d *delivery) {
				for _, id := range []string{
					link(d) + "/99",
					link(d) + "/",
					"/",
					"",
					"..",
					link(d) + "/1/2",
					"x/1",
					link(d) + "/-1",
					link(d) + "/+1",
				} {
					d.publish(other(d, id).event())
				}
				d.say(respond(`{"by":"local"}`))
			},
		},
	}
	for _, test := range tests {
		last = atomic.Value{}
		rigTest(t, test.name, rigOptions{local: &localEnd{script: test.script}}, func(r *rig) {
			for i := range 5 {
				r.want(r.invoke(fmt.Sprint(i)), "local")
			}
		})
	}
}

func TestAnswerAfterTheDeadlineDoesNotReachTheNextInvocation(t *testing.T) {
	t.Parallel()
	const s = time.Second
	late := &localEnd{handle: func(d *delivery) localReply {
		if string(d.event) == "1" {
			time.Sleep(4 * s)
		}
		return respond(fmt.Sprintf(`{"by":"local","event":%s}`, d.event))
	}}
	rigTest(t, "", rigOptions{local: late}, func(r *rig) {
		r.want(r.invokeRequest(invokeRequest{payload: []byte(`1`), timeout: 3 * s}), "LiveLambda.NoAnswer")
		comes := after(s, func() {}) // while this one is out, the late answer comes
		o := r.invoke(`2`)
		<-comes
		r.want(o, "local")
		time.Sleep(5 * s)
		r.want(r.invoke(`3`), "local")
		r.local.wantTold("answered", "answered", "timeout")
	})
}
