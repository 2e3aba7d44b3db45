//go:build !layer

package main

// tunnel_rig_test.go is the rig of the tunnel's tests: a tunnel, and the emulated AppSync that it reaches.

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"time"
)

// tunnelTest is a running tunnel, and the local end of its calls, played by the test.
type tunnelTest struct {
	t      *testing.T
	api    *eventAPI
	tunnel *tunnel
	logs   *logLines
	events chan string // published on the requests channel
}

// startTunnel runs a tunnel to an emulator whose frames hook judges.
func startTunnel(t *testing.T, opts eventAPIOptions, hook func(apiFrame) apiVerdict) *tunnelTest {
	api, ln := startTestAPI(t, opts)
	c := &tunnelTest{t: t, api: api, logs: new(logLines), events: make(chan string, 1000)}
	api.intercept(func(f apiFrame) apiVerdict {
		var v apiVerdict
		if hook != nil {
			v = hook(f)
		}
		var m clientMessage
		if !f.out && f.channel == "/live-lambda/requests" && v.replace == nil &&
			json.Unmarshal(f.raw, &m) == nil {
			for _, event := range m.Events {
				c.events <- event
			}
		}
		return v
	})
	a := newTestAPI(ln)
	a.log = c.logs.logger()
	c.tunnel = newTunnel(a, "function", false)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		c.tunnel.run(ctx)
		close(over)
	}()
	t.Cleanup(func() {
		cancel()
		<-over
	})
	return c
}

// link is the tunnel's, as it is.
func (c *tunnelTest) link() *link {
	c.t.Helper()
	c.tunnel.Lock()
	defer c.tunnel.Unlock()
	if c.tunnel.link == nil {
		c.t.Fatal("no link")
	}
	return c.tunnel.link
}

// ready waits for the link. Its error is why there is none, after wait or if AppSync refuses it.
func (c *tunnelTest) ready(wait time.Duration) (*link, error) {
	start := time.Now()
	for {
		c.tunnel.Lock()
		l, err := c.tunnel.link, c.tunnel.err
		c.tunnel.Unlock()
		if l != nil || errors.Is(err, errRefused) || time.Since(start) > wait {
			return l, err
		}
		time.Sleep(time.Millisecond)
	}
}

// mustBeReady waits for the link, and fails the test if there is none within a minute.
func (c *tunnelTest) mustBeReady() *link {
	c.t.Helper()
	l, err := c.ready(time.Minute)
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

// send begins a call that waits for `accepted` without a limit.
func (c *tunnelTest) send(event string) *call {
	return c.tunnel.send(c.t.Context(), &call{
		channel: requestsChannel,
		event:   []byte(event),
		context: []byte(`{"request_id":"aws"}`),
		offline: linkTimeout,
	})
}

// receive hands an event to the tunnel, as the link's subscription does.
func (c *tunnelTest) receive(l *link, event string) {
	p, err := parsePart(event)
	l.receiveEvent(event, p, err)
}

// requestMessage is a request that fits in one event.
type requestMessage struct {
	RequestID    string          `json:"request_id"`
	EventPayload json.RawMessage `json:"event_payload"`
	Context      json.RawMessage `json:"context"`
	LiveLambda   int             `json:"live_lambda"`
}

// request is the next event on the requests channel, a request.
func (c *tunnelTest) request() (m requestMessage) {
	c.t.Helper()
	event := <-c.events
	if err := json.Unmarshal([]byte(event), &m); err != nil || m.EventPayload == nil {
		c.t.Fatalf("got %s, %v; want a request", event, err)
	}
	return m
}

// done is the next event on the requests channel, which tells the end of an invocation.
func (c *tunnelTest) done() *part {
	c.t.Helper()
	event := <-c.events
	p, err := parsePart(event)
	if err != nil || p == nil || p.Type != "done" {
		c.t.Fatalf("got %s, %v; want done", event, err)
	}
	return p
}

// local publishes a message of the local end.
func (c *tunnelTest) local(p part, body []byte) {
	if p.Last {
		c.api.publish("/live-lambda/response/"+p.RequestID, string(p.encode(body)))
		return
	}
	for event := range p.split(body) {
		c.api.publish("/live-lambda/response/"+p.RequestID, string(event))
	}
}

// answerOne has a local end of version 1 answer a call, to its end.
func (c *tunnelTest) answerOne() (requestID string) {
	c.t.Helper()
	out := c.send(`1`)
	requestID = c.request().RequestID
	c.local(part{Type: "response", RequestID: requestID}, []byte(`"own"`))
	c.await(out)
	out.finish()
	c.done()
	return requestID
}

// look returns whether a local end has accepted, the answer if there is one, and why the call has ended.
func (c *tunnelTest) look(out *call) (accepted bool, a *answer, err error) {
	c.tunnel.Lock()
	defer c.tunnel.Unlock()
	return out.heardOn != nil, out.answer, context.Cause(out.ctx)
}

// received is an answer.
type received struct{ contentType, errorType, xrayCause, body string }

// readAll is what r gives, or the error.
func readAll(r io.Reader) string {
	all, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	return string(all)
}

// await waits for the call's answer.
func (c *tunnelTest) await(out *call) received {
	c.t.Helper()
	late := time.AfterFunc(time.Minute, func() { out.cancel(nil) })
	defer late.Stop()
	a, err := out.wait()
	if err != nil {
		c.t.Fatalf("%v; log:\n%s", err, c.logs)
	}
	return received{
		contentType: a.contentType,
		errorType:   a.errorType,
		xrayCause:   a.xrayCause,
		body:        readAll(a.body),
	}
}
