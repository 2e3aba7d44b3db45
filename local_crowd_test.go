//go:build !layer

package main

// local_crowd_test.go gives one local end many invocations at once.

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// crowdHandler is a Node.js handler that notes each run of it, and waits for as long as its event says.
const crowdHandler = `
import {appendFileSync} from "node:fs";
export const handler = async ({n, ms}) => {
	appendFileSync("runs.log", n + " " + process.pid + "\n");
	await new Promise((done) => setTimeout(done, ms));
	return {n};
};
`

// crowd invokes a function many times at once, as so many execution environments do.
type crowd struct {
	testing.TB
	api     *eventAPI
	session *session
	parts   chan *part
	sent    int // requests
}

// crowdLink is the link that all answers come to.
const crowdLink = "crowd"

// newCrowd connects to the same AppSync as the local end.
func (p *wholePath) newCrowd(t testing.TB) *crowd {
	t.Helper()
	values := map[string]string{}
	for _, s := range p.shared {
		name, value, _ := strings.Cut(s, "=")
		values[name] = value
	}
	cfg, problems := readConfig(func(name string) string { return values[name] })
	if cfg.api == nil {
		t.Fatal(problems)
	}
	keys := func(context.Context) (credentials, error) { return pathKeys, nil }
	client := newAppSync(*cfg.api, cfg.roots, new(http.Transport), keys, newLogger(cfg, os.Stderr))
	session, err := client.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.conn.close)
	c := &crowd{TB: t, api: p.api, session: session, parts: make(chan *part, 10_000)}
	hear := func(event string) {
		p, err := parsePart(event)
		if err == nil && p != nil && (p.Type == "response" || p.Type == "error") {
			c.parts <- p
		}
	}
	err = session.subscribe(t.Context(), ackTimeout, session.channel(crowdLink+"/*"), hear)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// invoke sends n requests at once, waits for the answer of each, which must be its own, and says that it has
// come.
func (c *crowd) invoke(n int, wait time.Duration) {
	c.Helper()
	want := map[string]string{}
	for range n {
		c.sent++
		id := fmt.Sprintf("%s/%d", crowdLink, c.sent)
		want[id] = strconv.Itoa(c.sent)
		c.api.publish("/live-lambda/requests", c.request(id, wait))
	}
	late := time.After(time.Minute)
	for len(want) > 0 {
		select {
		case p := <-c.parts:
			number, waits := want[p.RequestID]
			if !waits {
				continue // it has come again, before `done` has
			}
			delete(want, p.RequestID)
			var answer struct{ N json.Number }
			json.Unmarshal(p.data, &answer)
			if p.Type != "response" || answer.N.String() != number {
				c.Errorf("%s to %s: %s", p.Type, p.RequestID, p.data)
			}
			done := part{Type: "done", RequestID: p.RequestID, Outcome: overAnswered}
			c.api.publish("/live-lambda/requests", string(done.event()))
		case <-late:
			c.Fatalf("%d of %d invocations have no answer", len(want), n)
		}
	}
}

// request is the message of a request of that ID.
func (c *crowd) request(id string, wait time.Duration) string {
	ms := wait.Milliseconds()
	return fmt.Sprintf(`{"request_id":"%s","event_payload":{"n":%d,"ms":%d},"context":%s,"live_lambda":1}`,
		id, c.sent, ms, mustJSON(eventContext{
			RequestID:       fmt.Sprintf("00000000-0000-4000-8000-%012d", c.sent),
			FunctionName:    "f",
			FunctionVersion: "$LATEST",
			MemorySizeMB:    256,
			Region:          "us-east-1",
			DeadlineMs:      time.Now().Add(time.Minute).UnixMilli(),
			Handler:         "index.handler",
		}))
}

// runs are the lines that crowdHandler has written: the number of an invocation, and a process.
func (c *crowd) runs() (lines []string) {
	text, err := os.ReadFile("runs.log")
	if err != nil {
		c.Fatal(err)
	}
	return strings.Fields(string(text))
}

// processes counts those that have run the handler, and wants that each invocation has run once.
func (c *crowd) processes() int {
	c.Helper()
	processes := map[string]bool{}
	ran := map[string]bool{}
	words := c.runs()
	for i := 0; i < len(words); i += 2 {
		ran[words[i]] = true
		processes[words[i+1]] = true
	}
	if len(ran) != c.sent || len(words) != 2*c.sent {
		c.Errorf("%d runs of %d invocations, and %d were sent", len(words)/2, len(ran), c.sent)
	}
	return len(processes)
}

// Beyond the WebSocket's rate each publish takes a connection of its own. A program may have few files open.
func TestManyAtOnceTakeFewConnections(t *testing.T) {
	localBubbleOver(t, false, func(r *localRig) {
		const requests = 200
		e := r.newEar("0a")
		var under atomic.Int32
		taken := make(chan struct{})
		r.api.intercept(func(f apiFrame) apiVerdict {
			if f.typ != "http_publish" {
				return apiVerdict{}
			}
			under.Add(1)
			return apiVerdict{until: taken}
		})
		for n := range requests {
			e.ask(n, task{}, r.context())
		}
		synctest.Wait()
		if got := under.Load(); got != mostPublishes {
			t.Errorf("%d publishes over HTTPS at once, want %d", got, mostPublishes)
		}
		close(taken)
		accepted := map[string]bool{}
		for len(accepted) < requests {
			select {
			case p := <-e.parts:
				accepted[p.RequestID] = true
			case <-time.After(time.Minute):
				t.Fatalf("%d of %d requests are accepted", len(accepted), requests)
			}
		}
		for n := range requests {
			e.done(n, overDeployed)
		}
		synctest.Wait()
		r.wantNothingHeld()
	})
}

// Each has its own answer, and runs once.
func TestManyAtOnceRunOnceEach(t *testing.T) {
	needs(t, "node")
	p := startPath(t, lambdaOptions{}, nil)
	c := p.newCrowd(t)
	t.Chdir(directoryOf(t, map[string]string{"index.mjs": crowdHandler}))
	p.startLocal(t, "index.handler")
	c.invoke(200, time.Millisecond)
	if n := c.processes(); n > 10 {
		t.Errorf("%d processes ran them", n)
	}
}
