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

func TestLocalEndGoes(t *testing.T) {
	const s = time.Second
	slow := func(d *delivery) localReply {
		if string(d.event) == `1` {
			time.Sleep(40 * s)
		}
		return respond(`{"by":"local"}`)
	}
	connections := func(r *rig, ending apiEnding) {
		conns, _ := r.api.subscribers(r.ctx, "/live-lambda/requests", 0)
		for _, c := range conns {
			r.api.do(c, apiVerdict{after: ending})
		}
	}
	again := func(r *rig) { r.local = r.startLocal(&localEnd{name: "again"}) }
	tests := []struct {
		name    string
		first   func(*rig) // before the invocation
		then    func(*rig) // eleven seconds later
		timeout time.Duration
		want    string
		took    time.Duration
		next    time.Duration
	}{
		// it was heard after 10 s
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
				again(r)
			},
			timeout: 900 * s,
			want:    "LiveLambda.Gone",
			took:    25 * s,
		},
		{
			name: "in the middle, starts again, and the link is new",
			then: func(r *rig) {
				r.local.leave()
				again(r)
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
		// the request goes out every two seconds
		{
			name: "before it accepted, and comes back",
			first: func(r *rig) {
				r.local.stop()
			},
			then:    again,
			timeout: 900 * s,
			want:    "local",
			took:    12 * s,
		},
		{
			name: "its connection resets",
			then: func(r *rig) {
				connections(r, resetConnection)
			},
			timeout: 900 * s,
			want:    "local",
			took:    40 * s,
		},
		{
			name: "its connection dies",
			then: func(r *rig) {
				connections(r, goHalfOpen)
			},
			timeout: 900 * s,
			want:    "local",
			took:    40 * s,
		},
		{
			name: "asleep for an hour",
			then: func(r *rig) {
				connections(r, goHalfOpen)
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
	}
	for _, tt := range tests {
		rigTest(t, tt.name, rigOptions{local: &localEnd{handle: slow}}, func(r *rig) {
			r.want(r.invoke(`0`), "local")
			if tt.first != nil {
				tt.first(r)
			}
			done := after(11*s, func() { tt.then(r) })
			o := r.invokeRequest(invokeRequest{payload: []byte(`1`), timeout: tt.timeout})
			<-done
			r.want(o, tt.want)
			if r.wantHandled(2); len(r.handled) != 2 {
				r.t.Errorf("several local ends' handlers ran: %v", r.handled)
			}
			// a probe takes a request's turn
			if took := o.took.Round(s); took != tt.took && !(r.api.opts.graphql && took == tt.took+2*s) {
				r.t.Errorf("it took %v, want %v", o.took, tt.took)
			}
			time.Sleep(tt.next)
			if tt.want != "local" && tt.next == 0 {
				r.startLocal(&localEnd{name: "another"})
			}
			r.want(r.invoke(`2`), "local")
			r.wantHandled(3)
			if len(r.runtime.got()) > 0 {
				r.t.Errorf("the deployed code got %q", r.runtime.got())
			}
		})
	}
}

// With LIVE_LAMBDA_ACCEPT_TIMEOUT the deployed code runs where nobody accepts in that time, but not where
// accepted was lost, or is only late: what a local end has accepted is never also given to the deployed code.
func TestAcceptTimeout(t *testing.T) {
	const s = time.Second
	atLink := func(step string) func(*rig) {
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
	once := func(step string, f fault) func(*rig) {
		judge := at(step, times(1, f)).fault
		return func(r *rig) { r.intercept(func(f rigFrame) apiVerdict { return judge(r, f) }) }
	}
	lastFrame := func(ago time.Duration) func(*rig) {
		return func(r *rig) {
			l, conn := r.link()
			r.api.do(conn, apiVerdict{after: goHalfOpen})
			synctest.Wait() // whatever was on its way has come
			l.conn.heard.Add(-int64(ago))
		}
	}
	tests := []struct {
		name   string
		accept string
		first  bool // invocation over the link
		fault  func(*rig)
		want   string
		took   time.Duration // 0: any
		delay  time.Duration // of every frame
	}{
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
		{
			name:   "accepted is lost",
			accept: "3s",
			fault:  once("extension data accepted 0", drop),
			want:   "local",
			took:   4 * s,
		},
		{
			name:   "accepted is lost, not the first one",
			accept: "3s",
			first:  true,
			fault:  once("extension data accepted 0", drop),
			want:   "local",
			took:   4 * s,
		},
		{
			name:   "AppSync has no capacity for accepted",
			accept: "3s",
			fault:  once("local publish accepted 0", reject("LimitExceededError")),
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
			fault:  atLink("extension publish request 0"),
			want:   "local",
		},
		{
			name:   "the link dies behind the request",
			accept: "3s",
			first:  true,
			fault:  atLink("extension publish_success request 0"),
			want:   "local",
		},
		{
			name:   "the link dies behind accepted",
			accept: "3s",
			first:  true,
			fault:  atLink("extension data accepted 0"),
			want:   "local",
		},
		{
			name:   "the link died while frozen for 10 seconds",
			accept: "1500ms",
			first:  true,
			fault:  lastFrame(10 * s),
			want:   "local",
		},
		{
			name:   "the link died while frozen for 80 seconds",
			accept: "1500ms",
			first:  true,
			fault:  lastFrame(80 * s),
			want:   "local",
		},
		{
			name:   "the link died, and the clock is set back",
			accept: "3s",
			first:  true,
			fault:  lastFrame(-300 * s),
			want:   "local",
		},
		{
			name:   "the link died, and the clock is set back, without a timeout",
			accept: "0",
			first:  true,
			fault:  lastFrame(-300 * s),
			want:   "local",
		},
		{
			name:   "accepted is on its way",
			accept: "3s",
			fault: once("local data request 0", func(*rig, rigFrame) apiVerdict {
				late := make(chan struct{})
				time.AfterFunc(2960*time.Millisecond, func() { close(late) })
				return apiVerdict{until: late}
			}),
			want:  "local",
			delay: 25 * time.Millisecond,
		},
	}
	for _, tt := range tests {
		opts := rigOptions{
			env:   map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": tt.accept},
			api:   eventAPIOptions{delay: tt.delay},
			local: &localEnd{real: true},
		}
		rigTest(t, tt.name, opts, func(r *rig) {
			handled := 0
			if tt.first {
				handled++
				r.want(r.invoke(`1`), "local")
			}
			r.local.handle = func(*delivery) localReply {
				time.Sleep(4 * s)
				return respond(`{"by":"local"}`)
			}
			tt.fault(r)
			o := r.invokeRequest(invokeRequest{payload: []byte(`2`), timeout: time.Minute})
			r.want(o, tt.want)
			if tt.took != 0 && o.took.Round(s/10) != tt.took {
				r.t.Errorf("it took %v, want %v", o.took, tt.took)
			}
			if tt.want == "local" {
				handled++
				if got := r.runtime.got(); len(got) > 0 {
					r.t.Errorf("the deployed code got %q", got)
				}
			}
			time.Sleep(time.Minute)
			r.wantHandled(handled)
		})
	}
}

// Two local ends on one channel: each runs its handler once at the most, and one answer counts, whole.
func TestTwoLocalEnds(t *testing.T) {
	const s = time.Second
	answers := func(by string, after time.Duration) *localEnd {
		return &localEnd{
			name:   by,
			pieces: 5,
			handle: func(*delivery) localReply {
				time.Sleep(after)
				return respond(`{"by":"` + by + `"}`)
			},
		}
	}
	accepts := &localEnd{
		name: "accepts",
		script: func(d *delivery) {
			d.say(localReply{part: part{Type: "accepted"}})
		},
	}
	begins := &localEnd{
		name: "begins",
		script: func(d *delivery) {
			d.publish(part{
				Type: "response", RequestID: d.requestID(), Sender: "begins"}.encode([]byte(`{"by":`)))
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
		{name: "one is quicker", locals: []*localEnd{answers("a", 3*s), answers("b", s)}, want: "b"},
		{name: "one never answers", locals: []*localEnd{accepts, answers("b", 30*s)}, want: "b"},
		{name: "one begins to answer and goes", locals: []*localEnd{begins, answers("b", s)}, want: "b"},
		{name: "one fails at once", locals: []*localEnd{fails, answers("b", s)}, want: "Runtime.MyError"},
		{
			name:   "three",
			locals: []*localEnd{answers("a", 3*s), answers("b", 2*s), answers("c", s)},
			want:   "c",
		},
	}
	for _, tt := range tests {
		rigTest(t, tt.name, rigOptions{noLocal: true}, func(r *rig) {
			for _, l := range tt.locals {
				r.startLocal(l)
			}
			for i := range 3 {
				r.want(r.invoke(fmt.Sprint(i)), tt.want)
			}
			r.wantHandled(3)
		})
	}
	rigTest(t, "just as quick", rigOptions{noLocal: true}, func(r *rig) {
		r.startLocal(answers("a", s))
		r.startLocal(answers("b", s))
		for range 20 {
			if o := r.invoke(`1`); o.what != "a" && o.what != "b" {
				r.t.Errorf("got %s, of neither", o.what)
			} else {
				r.want(o, o.what)
			}
		}
		r.wantHandled(20)
	})
}

// Answers that come too often, too late, or to someone else.
func TestStrayAnswers(t *testing.T) {
	const s = time.Second
	other := func(d *delivery, id string) part {
		return part{Type: "response", RequestID: id, Sender: d.local.name}
	}
	link := func(d *delivery) string { l, _, _ := strings.Cut(d.requestID(), "/"); return l }
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
				if id := last.Swap(d.requestID()); id != nil {
					d.publish(part{
						Type:      "response",
						RequestID: id.(string),
						Last:      true,
						Sender:    "local",
					}.encode(
						[]byte(`{"by":"the one before"}`)))
				}
				d.say(respond(`{"by":"local"}`))
			},
		},
		{
			name: "to another's channel",
			script: func(d *delivery) {
				for _, id := range []string{
					link(d) + "/99", link(d) + "/0", link(d) + "/probe", link(d) + "/18446744073709551616",
					"0123456789abcdef01234567/1", link(d),
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
					link(d) + "/99", link(d) + "/", "/", "", "..", link(d) + "/1/2", "x/1", link(d) + "/-1",
					link(d) + "/+1",
				} {
					d.publish(other(d, id).event())
				}
				d.say(respond(`{"by":"local"}`))
			},
		},
	}
	for _, tt := range tests {
		last = atomic.Value{}
		rigTest(t, tt.name, rigOptions{local: &localEnd{script: tt.script}}, func(r *rig) {
			for i := range 5 {
				r.want(r.invoke(fmt.Sprint(i)), "local")
			}
		})
	}
	rigTest(t, "after the deadline", rigOptions{local: &localEnd{handle: func(d *delivery) localReply {
		if string(d.event) == "1" {
			time.Sleep(4 * s)
		}
		return respond(fmt.Sprintf(`{"by":"local","event":%s}`, d.event))
	}}}, func(r *rig) {
		r.want(r.invokeRequest(invokeRequest{payload: []byte(`1`), timeout: 3 * s}), "LiveLambda.NoAnswer")
		late := after(s, func() {}) // while this one is out, the late answer comes
		o := r.invoke(`2`)
		<-late
		r.want(o, "local")
		time.Sleep(5 * s)
		r.want(r.invoke(`3`), "local")
		r.local.wantTold("answered", "answered", "timeout")
	})
}
