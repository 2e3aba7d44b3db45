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
		{"in the middle, for good", nil, func(r *rig) {
			r.local.leave()
		}, 900 * s, "LiveLambda.Gone", 25 * s, 0},
		{"in the middle, and starts again", nil, func(r *rig) {
			r.local.leave()
			again(r)
		}, 900 * s, "LiveLambda.Gone", 25 * s, 0},
		{"in the middle, starts again, and the link is new", nil, func(r *rig) {
			r.local.leave()
			again(r)
			time.Sleep(s)
			_, conn := r.link()
			r.api.do(conn, apiVerdict{after: resetConnection})
		}, 900 * s, "LiveLambda.Gone", 25 * s, 0},
		{"in the middle, the deadline near", nil, func(r *rig) {
			r.local.leave()
		}, 20 * s, "LiveLambda.NoAnswer", 19 * s, 0},
		// the request goes out every two seconds
		{"before it accepted, and comes back", func(r *rig) {
			r.local.stop()
		}, again, 900 * s, "local", 12 * s, 0},
		{"its connection resets", nil, func(r *rig) {
			connections(r, resetConnection)
		}, 900 * s, "local", 40 * s, 0},
		{"its connection dies", nil, func(r *rig) {
			connections(r, goHalfOpen)
		}, 900 * s, "local", 40 * s, 0},
		{"asleep for an hour", nil, func(r *rig) {
			connections(r, goHalfOpen)
			awake := make(chan struct{})
			time.AfterFunc(time.Hour, func() { close(awake) })
			r.intercept(func(f rigFrame) (v apiVerdict) {
				if f.typ == "upgrade" || strings.HasPrefix(f.step, "local publish") {
					v.until = awake
				}
				return v
			})
		}, 900 * s, "LiveLambda.Gone", 25 * s, 2 * time.Hour},
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
		{"nobody is there", "3s", true, func(r *rig) { r.local.stop() }, "deployed", 3 * s, 0},
		{"nobody is there, and nobody was", "1500ms", false, func(r *rig) {
			r.local.stop()
		}, "deployed", 1500 * time.Millisecond, 0},
		{"accepted is lost", "3s", false, once("extension data accepted 0", drop), "local", 4 * s, 0},
		{"accepted is lost, not the first one", "3s", true, once("extension data accepted 0", drop), "local",
			4 * s, 0},
		{"AppSync has no capacity for accepted", "3s", false,
			once("local publish accepted 0", reject("LimitExceededError")), "local", 4 * s, 0},
		{"accepted dies with its connection", "3s", false, func(r *rig) {
			r.endAt("local publish accepted 0", goHalfOpen, true)
		}, "local", 0, 0},
		{"the link dies with the request", "3s", true, atLink("extension publish request 0"), "local", 0, 0},
		{"the link dies behind the request", "3s", true, atLink("extension publish_success request 0"),
			"local", 0, 0},
		{"the link dies behind accepted", "3s", true, atLink("extension data accepted 0"), "local", 0, 0},
		{"the link died while frozen for 10 seconds", "1500ms", true, lastFrame(10 * s), "local", 0, 0},
		{"the link died while frozen for 80 seconds", "1500ms", true, lastFrame(80 * s), "local", 0, 0},
		{"the link died, and the clock is set back", "3s", true, lastFrame(-300 * s), "local", 0, 0},
		{"the link died, and the clock is set back, without a timeout", "0", true, lastFrame(-300 * s),
			"local", 0, 0},
		{"accepted is on its way", "3s", false, once("local data request 0", func(*rig, rigFrame) apiVerdict {
			late := make(chan struct{})
			time.AfterFunc(2960*time.Millisecond, func() { close(late) })
			return apiVerdict{until: late}
		}), "local", 0, 25 * time.Millisecond},
	}
	for _, tt := range tests {
		opts := rigOptions{
			env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": tt.accept},
			api: eventAPIOptions{delay: tt.delay}, local: &localEnd{real: true}}
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
		return &localEnd{name: by, pieces: 5, handle: func(*delivery) localReply {
			time.Sleep(after)
			return respond(`{"by":"` + by + `"}`)
		}}
	}
	accepts := &localEnd{name: "accepts", script: func(d *delivery) {
		d.say(localReply{part: part{Type: "accepted"}})
	}}
	begins := &localEnd{name: "begins", script: func(d *delivery) {
		d.publish(part{Type: "response", RequestID: d.requestID(), Sender: "begins"}.encode([]byte(`{"by":`)))
	}}
	fails := &localEnd{name: "fails", handle: func(*delivery) localReply {
		return localReply{part{Type: "error", ErrorType: "Runtime.MyError"}, []byte(`{}`)}
	}}
	tests := []struct {
		name   string
		locals []*localEnd
		want   string
	}{
		{"one is quicker", []*localEnd{answers("a", 3*s), answers("b", s)}, "b"},
		{"one never answers", []*localEnd{accepts, answers("b", 30*s)}, "b"},
		{"one begins to answer and goes", []*localEnd{begins, answers("b", s)}, "b"},
		{"one fails at once", []*localEnd{fails, answers("b", s)}, "Runtime.MyError"},
		{"three", []*localEnd{answers("a", 3*s), answers("b", 2*s), answers("c", s)}, "c"},
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
		{"twice", func(d *delivery) { d.say(respond(`{"by":"local"}`)); d.say(respond(`{"by":"twice"}`)) }},
		{"a hundred times", func(d *delivery) {
			for range 100 {
				d.say(respond(`{"by":"local"}`))
			}
		}},
		{"a response and an error", func(d *delivery) {
			d.say(respond(`{"by":"local"}`))
			d.say(localReply{part{Type: "error", ErrorType: "E"}, []byte(`{}`)})
		}},
		{"the one before, again", func(d *delivery) {
			if id := last.Swap(d.requestID()); id != nil {
				d.publish(part{
					Type: "response", RequestID: id.(string), Last: true, Sender: "local"}.encode(
					[]byte(`{"by":"the one before"}`)))
			}
			d.say(respond(`{"by":"local"}`))
		}},
		{"to another's channel", func(d *delivery) {
			for _, id := range []string{
				link(d) + "/99", link(d) + "/0", link(d) + "/probe", link(d) + "/18446744073709551616",
				"0123456789abcdef01234567/1", link(d)} {
				d.local.publishTo(d.ctx, id, other(d, id).event())
			}
			d.say(respond(`{"by":"local"}`))
		}},
		{"with another's ID on its own channel", func(d *delivery) {
			for _, id := range []string{
				link(d) + "/99", link(d) + "/", "/", "", "..", link(d) + "/1/2", "x/1", link(d) + "/-1",
				link(d) + "/+1"} {
				d.publish(other(d, id).event())
			}
			d.say(respond(`{"by":"local"}`))
		}},
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
