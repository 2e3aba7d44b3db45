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
func TestCallBareResult(t *testing.T) {
	for _, eventAsArray := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := startTunnel(t, eventAPIOptions{otherData: eventAsArray}, nil)
			for n, result := range []string{
				`{"statusCode":200,"body":"ü"}`, `null`, `"live_lambda"`, `7`, `[]`, `{"live_lambda":2}`} {
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

// Several invocations out at once: each has its own bare result, whatever the order.
func TestCallBareResultsAtOnce(t *testing.T) {
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
			for m, o := range out {
				if _, a, _ := c.look(o); (a == nil) && m == n {
					t.Errorf("call %d got nothing", m)
				}
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

// The late bare result of an invocation that is over is not the next one's.
func TestCallLateBareResult(t *testing.T) {
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
	// Nor is that of a second server, which comes before the local end has accepted the next one.
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		first := c.send(`1`)
		old := c.request().RequestID
		c.local(part{Type: "response", RequestID: old}, []byte(`"own"`))
		c.await(first)
		first.finish()
		c.done()
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
		third := c.send(`3`) // a server that knows nothing of version 1 is alone now
		id = c.request().RequestID
		c.api.publish("/live-lambda/response/"+id, `"alone"`)
		synctest.Wait()
		kept := third.heldBack // alone: who may publish must not fill the memory
		c.api.publish("/live-lambda/response/"+id, `"again"`)
		synctest.Wait()
		if kept == nil || third.heldBack != kept {
			t.Error("not one bare result is held back")
		}
		if a := c.await(third); a.body != `"alone"` {
			t.Errorf("got %s", a.body)
		}
		third.finish()
	})
}

// A local server that knows nothing of version 1 answers with the bare result.
func TestBareResults(t *testing.T) {
	for _, result := range []string{`null`, `7`, `-1.50e+400`, `"text"`, `true`, `[]`, `{}`,
		` { "a" : [ 1 ] } `, `"é😀<>&='\ud83d"`, `{"a":1,"a":2}`,
		`{"live_lambda":2}`, `{"live_lambda":"1"}`, `{"live_lambda":null,"type":"response"}`,
		`{"LIVE_LAMBDA":1,"type":"error"}`, `[{"live_lambda":1}]`, `"\"live_lambda\":1"`} {
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
	// What says that it is of version 1, and is not, is no result.
	for _, event := range []string{`{"live_lambda":1}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","last":"yes"}`,
		`{"live_lambda":1,"type":"respond","request_id":"ID","last":true}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","index":-1,"last":true}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","last":true,"data":"a"}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","last":true,"encoding":"br"}`,
		`{"live_lambda":1,"type":"response","request_id":"ffff/1","last":true}`,
		`{"live_lambda":1,"type":"response","request_id":"../../next","last":true}`,
		`{"live_lambda":1,"type":"done","request_id":"ID","last":true}`,
		`{"live_lambda":1,"type":"probe","request_id":"ID","last":true}`} {
		script := func(d *delivery) { d.publish([]byte(strings.Replace(event, "ID", d.requestID(), 1))) }
		rigTest(t, event, rigOptions{local: &localEnd{script: script}}, func(r *rig) {
			r.want(r.invokeRequest(invokeRequest{payload: []byte(`{}`), timeout: 3 * time.Second}),
				"LiveLambda.NoAnswer")
		})
	}
}

// A bare result does not say whose it is. On the link's own subscription it counts only while it can be
// nobody else's; then each invocation has a subscription of its own, which may deliver later than it is
// confirmed.
func TestBareResultsAreNobodyElses(t *testing.T) {
	const s = time.Second
	own := func(d *delivery) { d.publish(fmt.Appendf(nil, `{"event":%s}`, d.event)) }
	wantOwn := func(r *rig, o invoked, event string) {
		r.t.Helper()
		r.want(o, fmt.Sprintf(`{"event":%s}`, event))
	}
	for _, activation := range []time.Duration{0, 2 * s} {
		opts := rigOptions{
			events: true, api: eventAPIOptions{activation: activation}, local: &localEnd{script: own}}
		rigTest(t, fmt.Sprint("one after the other, activation ", activation), opts, func(r *rig) {
			time.Sleep(activation)
			for i := range 5 {
				wantOwn(r, r.invokeRequest(invokeRequest{payload: fmt.Append(nil, i), timeout: 30 * s}),
					fmt.Sprint(i))
			}
		})
		opts.lambda.maxConcurrency = 8
		rigTest(t, fmt.Sprint("eight at once, activation ", activation), opts, func(r *rig) {
			time.Sleep(activation)
			r.each(8, func(i int) {
				wantOwn(r, r.invokeRequest(
					invokeRequest{payload: fmt.Append(nil, i), timeout: 30 * s}), fmt.Sprint(i))
			})
		})
		var mu sync.Mutex
		var held []*delivery
		opts.local.script = func(d *delivery) {
			mu.Lock()
			defer mu.Unlock()
			if held = append(held, d); len(held) == 8 {
				for _, d := range slices.Backward(held) {
					own(d)
				}
				held = nil
			}
		}
		rigTest(t, fmt.Sprint("eight at once, answered backwards, activation ", activation), opts,
			func(r *rig) {
				time.Sleep(activation)
				r.each(8, func(i int) {
					wantOwn(r, r.invokeRequest(invokeRequest{payload: fmt.Append(nil, i), timeout: 30 * s}),
						fmt.
							Sprint(i))
				})
			})
	}
	late := func(d *delivery) {
		time.Sleep(4 * s) // the first invocation is over by then, and the second one out
		own(d)
	}
	rigTest(t, "a late one", rigOptions{events: true, local: &localEnd{script: late}}, func(r *rig) {
		r.want(r.invokeRequest(invokeRequest{payload: []byte(`1`), timeout: 3 * s}), "LiveLambda.NoAnswer")
		wantOwn(r, r.invokeRequest(invokeRequest{payload: []byte(`2`), timeout: 30 * s}), `2`)
	})
	twice := func(d *delivery) {
		own(d)
		time.Sleep(s)
		own(d)
	}
	rigTest(t, "the same again", rigOptions{events: true, local: &localEnd{script: twice}}, func(r *rig) {
		for i := range 4 {
			wantOwn(r, r.invokeRequest(invokeRequest{payload: fmt.Append(nil, i), timeout: 30 * s}),
				fmt.Sprint(i))
			time.Sleep(s / 2)
		}
	})
	rigTest(t, "a late one of a second server",
		rigOptions{events: true, local: &localEnd{handle: func(d *delivery) localReply {
			if string(d.event) == "2" {
				time.Sleep(8 * s)
			}
			return respond(`{"by":"local"}`)
		}}}, func(r *rig) {
			r.startLocal(&localEnd{name: "old", script: late})
			r.want(r.invoke(`1`), "local")
			r.want(r.invoke(`2`), "local")
		})
	rigTest(t, "after local ends of version 1",
		rigOptions{events: true, api: eventAPIOptions{activation: 2 * s}}, func(r *rig) {
			time.Sleep(2 * s)
			r.want(r.invoke(`1`), "local")
			r.want(r.invoke(`2`), "local")
			r.local.stop()
			r.startLocal(&localEnd{name: "old", again: own, script: own})
			time.Sleep(2 * s)
			for _, event := range []string{`3`, `4`} {
				wantOwn(r, r.invokeRequest(invokeRequest{payload: []byte(event), timeout: 30 * s}), event)
			}
		})
	rigTest(t, "more of them than one connection has room for",
		rigOptions{events: true, local: &localEnd{script: own}}, func(r *rig) {
			for i := range quotaSubscriptions + 10 {
				wantOwn(r, r.invokeRequest(
					invokeRequest{payload: fmt.Append(nil, i), timeout: 30 * s}), fmt.Sprint(i))
			}
		})
	rigTest(t, "one every 100 ms, of 6 seconds, activation 2s",
		rigOptions{events: true, api: eventAPIOptions{activation: 2 * s}, local: &localEnd{script: own},
			lambda: lambdaOptions{maxConcurrency: 64}}, func(r *rig) {
			time.Sleep(2 * s)
			r.each(60, func(i int) {
				time.Sleep(time.Duration(i) * s / 10)
				wantOwn(r, r.invokeRequest(invokeRequest{payload: fmt.Append(nil, i), timeout: 6 * s}),
					fmt.Sprint(i))
			})
		})
	strays := func(d *delivery) {
		d.local.publishTo(d.ctx, strings.Replace(d.requestID(), "/", "/9", 1), []byte(`"another's"`))
		own(d)
	}
	rigTest(t, "of an invocation that never was, from the second one on",
		rigOptions{events: true, local: &localEnd{script: own}}, func(r *rig) {
			wantOwn(r, r.invoke(`1`), `1`)
			r.local.script = strays
			wantOwn(r, r.invoke(`2`), `2`)
		})
}
