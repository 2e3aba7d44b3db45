//go:build !layer

package main

// bare_test.go tests the answers of servers of another make: first one call, then the whole extension.

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A server that knows nothing of version 1 answers with the handler's bare result, any JSON value.
func TestBareResultAnswersItsCall(t *testing.T) {
	for _, eventAsArray := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := startTunnel(t, eventAPIOptions{documentedData: eventAsArray}, nil)
			for n, result := range []string{
				`{"statusCode":200,"body":"ü"}`, `null`, `"live_lambda"`, `7`, `[]`, `{"live_lambda":2}`,
			} {
				out := c.send(`{}`)
				req := c.request()
				c.api.publish("/live-lambda/response/"+req.RequestID, "no JSON")
				c.api.publish("/live-lambda/response/"+req.RequestID, result)
				want := received{contentType: "application/json", body: result}
				if got := c.await(out); !reflect.DeepEqual(got, want) {
					t.Errorf("%d: got %+v, want %+v", n, got, want)
				}
				out.finish()
			}
		})
	}
}

func TestCallsThatAreOutAtOnceGetTheirOwnBareResultsInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		var out []*call
		var ids []string
		for n := range 5 {
			out = append(out, c.send(fmt.Sprint(n)))
			req := c.request()
			ids = append(ids, req.RequestID)
			if string(req.EventPayload) != fmt.Sprint(n) {
				t.Errorf("request %d: %s", n, req.EventPayload)
			}
		}
		for _, n := range []int{3, 0, 4, 2, 1} {
			c.api.publish("/live-lambda/response/"+ids[n], fmt.Sprint(10+n))
			synctest.Wait()
			if _, a, _ := c.look(out[n]); a == nil {
				t.Errorf("call %d got nothing", n)
			}
		}
		for n, o := range out {
			if got := c.await(o); got.body != fmt.Sprint(10+n) {
				t.Errorf("call %d got %s", n, got.body)
			}
			o.finish()
		}
	})
}

func TestLateBareResultIsNotTheNextCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		first := c.send(`1`)
		old := c.request().RequestID
		first.finish()
		second := c.send(`2`)
		id := c.request().RequestID
		c.api.publish("/live-lambda/response/"+old, `"late"`)
		synctest.Wait()
		if _, a, _ := c.look(second); a != nil {
			t.Fatalf("got %+v", a)
		}
		c.api.publish("/live-lambda/response/"+id, `"own"`)
		if a := c.await(second); a.body != `"own"` {
			t.Errorf("got %s", a.body)
		}
		second.finish()
	})
}

// The result comes before the local end has accepted the next call.
func TestLateBareResultOfASecondServerIsNotTheNextCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		old := c.answerOne()
		second := c.send(`2`)
		id := c.request().RequestID
		c.api.publish("/live-lambda/response/"+old, `"late"`)
		time.Sleep(time.Second / 2)
		c.local(part{Type: "accepted", RequestID: id}, nil)
		time.Sleep(time.Second)
		if _, a, _ := c.look(second); a != nil {
			t.Fatalf("got %+v", a)
		}
		c.local(part{Type: "response", RequestID: id}, []byte(`"own"`))
		if a := c.await(second); a.body != `"own"` {
			t.Errorf("got %s", a.body)
		}
		second.finish()
		c.done()
	})
}

// Local ends of version 1 have answered, and now a server that knows nothing of it is alone. Its result is
// held back until it is clear that nobody accepts. Whoever may publish must not fill the memory in that time.
func TestOneBareResultIsHeldBackAndAnswersIfNobodyAccepts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		c.answerOne()
		c.answerOne()
		out := c.send(`3`)
		id := c.request().RequestID
		c.api.publish("/live-lambda/response/"+id, `"alone"`)
		synctest.Wait()
		kept := out.heldBack
		c.api.publish("/live-lambda/response/"+id, `"again"`)
		synctest.Wait()
		if kept == nil || out.heldBack != kept {
			t.Error("not one bare result is held back")
		}
		if a := c.await(out); a.body != `"alone"` {
			t.Errorf("got %s", a.body)
		}
		out.finish()
	})
}

func TestBareResultReachesTheRuntimeAPIAsItIs(t *testing.T) {
	for _, result := range []string{`null`, `7`, `-1.50e+400`, `"text"`, `true`, `[]`, `{}`,
		` { "a" : [ 1 ] } `, `"é😀<>&='\ud83d"`, `{"a":1,"a":2}`,
		`{"live_lambda":2}`, `{"live_lambda":"1"}`, `{"live_lambda":null,"type":"response"}`,
		`{"LIVE_LAMBDA":1,"type":"error"}`, `[{"live_lambda":1}]`, `"\"live_lambda\":1"`,
	} {
		script := func(d *delivery) { d.publish([]byte(result)) }
		rigTest(t, result, rigOptions{events: true, local: &localEnd{script: script}}, func(r *rig) {
			for range 2 { // the second one on a subscription of its own
				o := r.invoke(`{}`)
				if got, want := r.told(o), `response Content-Type="application/json" `+result; got != want {
					r.t.Errorf("the Runtime API was told %s, want %s", got, want)
				}
			}
			r.local.wantTold() // it would not know what that means
		})
	}
}

func TestMessageThatSaysItIsOfVersion1AndIsNotIsNoResult(t *testing.T) {
	t.Parallel()
	for _, event := range []string{
		`{"live_lambda":1}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","last":"yes"}`,
		`{"live_lambda":1,"type":"respond","request_id":"ID","last":true}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","index":-1,"last":true}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","last":true,"data":"a"}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","last":true,"encoding":"br"}`,
		`{"live_lambda":1,"type":"response","request_id":"ffff/1","last":true}`,
		`{"live_lambda":1,"type":"response","request_id":"../../next","last":true}`,
		`{"live_lambda":1,"type":"done","request_id":"ID","last":true}`,
		`{"live_lambda":1,"type":"probe","request_id":"ID","last":true}`,
	} {
		script := func(d *delivery) { d.publish([]byte(strings.Replace(event, "ID", d.requestID(), 1))) }
		rigTest(t, event, rigOptions{local: &localEnd{script: script}}, func(r *rig) {
			r.want(r.invokeRequest(invokeRequest{payload: []byte(`{}`), timeout: 3 * time.Second}),
				"LiveLambda.NoAnswer")
		})
	}
}

// ---- bare results are nobody else's ----
//
// A bare result does not say whose it is. On the link's own subscription it counts only while it can be
// nobody else's; then each invocation has a subscription of its own, which may deliver later than it is
// confirmed.

// ownResult answers a request with its event, as a server of another make does.
func ownResult(d *delivery) { d.publish(fmt.Appendf(nil, `{"event":%s}`, d.event)) }

// invokeForOwn invokes with an event, and wants the result that ownResult gives for it.
func (r *rig) invokeForOwn(event any, timeout time.Duration) {
	r.t.Helper()
	o := r.invokeRequest(invokeRequest{payload: fmt.Append(nil, event), timeout: timeout})
	r.want(o, fmt.Sprintf(`{"event":%v}`, event))
}

// activations are how long a subscription may take until it delivers.
var activations = []time.Duration{0, 2 * time.Second}

func TestInvocationsOneAfterTheOtherGetTheirOwnBareResults(t *testing.T) {
	for _, activation := range activations {
		opts := rigOptions{
			events: true,
			api:    eventAPIOptions{activation: activation},
			local:  &localEnd{script: ownResult},
		}
		rigTest(t, fmt.Sprint("activation ", activation), opts, func(r *rig) {
			time.Sleep(activation)
			for i := range 5 {
				r.invokeForOwn(i, 30*time.Second)
			}
		})
	}
}

func TestEightInvocationsAtOnceGetTheirOwnBareResults(t *testing.T) {
	for _, activation := range activations {
		opts := rigOptions{
			events: true,
			api:    eventAPIOptions{activation: activation},
			local:  &localEnd{script: ownResult},
			lambda: lambdaOptions{maxConcurrency: 8},
		}
		rigTest(t, fmt.Sprint("activation ", activation), opts, func(r *rig) {
			time.Sleep(activation)
			r.each(8, func(i int) { r.invokeForOwn(i, 30*time.Second) })
		})
	}
}

func TestEightInvocationsAnsweredBackwardsGetTheirOwnBareResults(t *testing.T) {
	for _, activation := range activations {
		var mu sync.Mutex
		var held []*delivery
		backwards := func(d *delivery) {
			mu.Lock()
			defer mu.Unlock()
			held = append(held, d)
			if len(held) < 8 {
				return
			}
			for _, d := range slices.Backward(held) {
				ownResult(d)
			}
			held = nil
		}
		opts := rigOptions{
			events: true,
			api:    eventAPIOptions{activation: activation},
			local:  &localEnd{script: backwards},
			lambda: lambdaOptions{maxConcurrency: 8},
		}
		rigTest(t, fmt.Sprint("activation ", activation), opts, func(r *rig) {
			time.Sleep(activation)
			r.each(8, func(i int) { r.invokeForOwn(i, 30*time.Second) })
		})
	}
}

// lateResult is ownResult when the first invocation is over, and the second one out.
func lateResult(d *delivery) {
	time.Sleep(4 * time.Second)
	ownResult(d)
}

func TestBareResultOfAnInvocationThatIsOverIsNotTheNextOnes(t *testing.T) {
	opts := rigOptions{events: true, local: &localEnd{script: lateResult}}
	rigTest(t, "", opts, func(r *rig) {
		first := r.invokeRequest(invokeRequest{payload: []byte(`1`), timeout: 3 * time.Second})
		r.want(first, "LiveLambda.NoAnswer")
		r.invokeForOwn(2, 30*time.Second)
	})
}

func TestBareResultThatComesTwiceIsNotTheNextInvocations(t *testing.T) {
	twice := func(d *delivery) {
		ownResult(d)
		time.Sleep(time.Second)
		ownResult(d)
	}
	rigTest(t, "", rigOptions{events: true, local: &localEnd{script: twice}}, func(r *rig) {
		for i := range 4 {
			r.invokeForOwn(i, 30*time.Second)
			time.Sleep(time.Second / 2)
		}
	})
}

func TestLateBareResultDoesNotOvertakeALocalEndOfVersion1(t *testing.T) {
	handle := func(d *delivery) localReply {
		if string(d.event) == "2" {
			time.Sleep(8 * time.Second)
		}
		return respond(`{"by":"local"}`)
	}
	rigTest(t, "", rigOptions{events: true, local: &localEnd{handle: handle}}, func(r *rig) {
		r.startLocal(&localEnd{name: "old", script: lateResult})
		r.want(r.invoke(`1`), "local")
		r.want(r.invoke(`2`), "local")
	})
}

func TestBareResultsCountAfterLocalEndsOfVersion1(t *testing.T) {
	opts := rigOptions{events: true, api: eventAPIOptions{activation: 2 * time.Second}}
	rigTest(t, "", opts, func(r *rig) {
		time.Sleep(2 * time.Second)
		r.want(r.invoke(`1`), "local")
		r.want(r.invoke(`2`), "local")
		r.local.stop()
		r.startLocal(&localEnd{name: "old", again: ownResult, script: ownResult})
		time.Sleep(2 * time.Second)
		r.invokeForOwn(3, 30*time.Second)
		r.invokeForOwn(4, 30*time.Second)
	})
}

func TestInvocationsWithBareResultsMayOutnumberAConnectionsSubscriptions(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{events: true, local: &localEnd{script: ownResult}}, func(r *rig) {
		for i := range quotaSubscriptions + 10 {
			r.invokeForOwn(i, 30*time.Second)
		}
	})
}

// One invocation every 100 ms, of 6 seconds, while a subscription delivers after 2 seconds.
func TestOverlappingInvocationsGetTheirOwnBareResults(t *testing.T) {
	t.Parallel()
	opts := rigOptions{
		events: true,
		api:    eventAPIOptions{activation: 2 * time.Second},
		local:  &localEnd{script: ownResult},
		lambda: lambdaOptions{maxConcurrency: 64},
	}
	rigTest(t, "", opts, func(r *rig) {
		time.Sleep(2 * time.Second)
		r.each(60, func(i int) {
			time.Sleep(time.Duration(i) * time.Second / 10)
			r.invokeForOwn(i, 6*time.Second)
		})
	})
}

func TestBareResultOfAnInvocationThatNeverWasIsNobodys(t *testing.T) {
	strays := func(d *delivery) {
		d.local.publishTo(d.ctx, strings.Replace(d.requestID(), "/", "/9", 1), []byte(`"another's"`))
		ownResult(d)
	}
	rigTest(t, "", rigOptions{events: true, local: &localEnd{script: ownResult}}, func(r *rig) {
		r.want(r.invoke(`1`), `{"event":1}`)
		r.local.script = strays // from the second one on
		r.want(r.invoke(`2`), `{"event":2}`)
	})
}
