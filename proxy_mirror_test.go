//go:build !layer

package main

// proxy_mirror_test.go tests copies of events, beside which the deployed code runs (LIVE_LAMBDA_MODE=mirror),
// and the end of it all by the clock (LIVE_LAMBDA_UNTIL).

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var mirrored = map[string]string{"LIVE_LAMBDA_MODE": "mirror", "LIVE_LAMBDA_OFFLINE": "error"}

// copies is a local end's list of the requests that it has got. It answers nothing.
type copies struct {
	*localEnd
	got chan *delivery
}

// startCopies starts one.
func (r *rig) startCopies(stage string) copies {
	got := make(chan *delivery, 1000)
	return copies{
		localEnd: r.startLocal(&localEnd{stage: stage, script: func(d *delivery) { got <- d }}),
		got:      got,
	}
}

// want checks which events have come since it was called last, in any order.
func (c copies) want(events ...string) {
	c.rig.t.Helper()
	synctest.Wait()
	waiting := map[string]int{}
	for _, event := range events {
		waiting[event]++
	}
	for len(c.got) > 0 {
		d := <-c.got
		waiting[string(d.event)]--
		var about struct {
			Context struct {
				Mirror     bool
				DeadlineMs int64 `json:"deadline_ms"`
			}
		}
		err := json.Unmarshal([]byte(d.raw), &about)
		if err != nil || !about.Context.Mirror || about.Context.DeadlineMs == 0 {
			c.rig.t.Errorf("the copy is %s", d.raw)
		}
	}
	for event, n := range waiting {
		if n != 0 {
			c.rig.t.Errorf("copies of %.100s: %d more were wanted", event, n)
		}
	}
}

func TestMirroredEventIsTheDeployedCodesAtOnce(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true, env: mirrored, events: true}, func(r *rig) {
		local := r.startCopies("")
		large := `"` + strings.Repeat("large ", 60_000) + `"`
		for _, event := range []string{`{"a": 1.00}`, large, ``} {
			o := r.invoke(event)
			r.want(o, "deployed")
			r.wantTook(o, 0)
		}
		local.want(`{"a":1.00}`, large, `null`)
		if got := r.runtime.got(); got[0] != `{"a": 1.00}` || got[1] != large || got[2] != `` {
			r.t.Errorf("the deployed code got %.100q", got)
		}
		time.Sleep(time.Minute) // nothing is repeated, and nobody is told an end
		local.want()
		local.wantTold()
		line := "outcome=mirrored"
		if n := strings.Count(r.log.String(), line); n != 3 {
			r.t.Errorf("%d lines with %s in the log: %s", n, line, r.log)
		}
	})
}

// A local end that does not know that this is a copy accepts it and answers.
func TestAnswersToACopyChangeNothing(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{env: mirrored, events: true}, func(r *rig) {
		for range 3 {
			o := r.invoke(`1`)
			r.want(o, "deployed")
			r.wantTook(o, 0)
			time.Sleep(10 * time.Second)
		}
		r.local.wantTold()
	})
}

func TestRoutedEventsAreMirroredToTheirStage(t *testing.T) {
	t.Parallel()
	env := map[string]string{"LIVE_LAMBDA_MODE": "mirror", "LIVE_LAMBDA_ROUTE": "x-dev"}
	rigTest(t, "", rigOptions{noLocal: true, env: env, events: true}, func(r *rig) {
		alice, bob := r.startCopies("alice"), r.startCopies("bob")
		for _, event := range []string{`{"x-dev":"bob"}`, `{}`, `{"x-dev":"carol"}`, `{"x-dev":"bob"}`} {
			o := r.invoke(event)
			r.want(o, "deployed")
			r.wantTook(o, 0)
		}
		alice.want()
		bob.want(`{"x-dev":"bob"}`, `{"x-dev":"bob"}`)
		if n := r.events("/live-lambda/requests"); n != 3 {
			r.t.Errorf("%d copies were sent", n)
		}
	})
}

// GraphQL APIs take publishes over HTTPS only.
func TestCopyNeverGoesOverHTTPS(t *testing.T) {
	t.Parallel()
	opts := rigOptions{noLocal: true, env: mirrored, api: eventAPIOptions{graphql: true}}
	rigTest(t, "GraphQL", opts, func(r *rig) {
		o := r.invoke(`1`)
		r.want(o, "deployed")
		r.wantTook(o, 0)
		if n := r.events("/live-lambda/requests"); n != 0 {
			r.t.Errorf("%d copies were sent", n)
		}
		if !strings.Contains(r.log.String(), "takes no more publishes") {
			r.t.Errorf("the log says %s", r.log)
		}
	})
	rigTest(t, "at full rate", rigOptions{noLocal: true, env: mirrored, events: true}, func(r *rig) {
		local := r.startCopies("")
		time.Sleep(2 * time.Second) // for the probes' share of the rate
		var fit []string
		for i := range 3 * publishesPerSecond {
			o := r.invoke(fmt.Sprint(i))
			r.want(o, "deployed")
			r.wantTook(o, 0)
			synctest.Wait()
			if i < publishesPerSecond {
				fit = append(fit, fmt.Sprint(i))
			}
		}
		local.want(fit...)
		time.Sleep(time.Second)
		r.invoke(`"later"`)
		local.want(`"later"`)
		r.api.check(func(c *eventAPICounts) bool {
			if c.publishes[0] != 0 {
				r.t.Errorf("%d publishes went over HTTPS", c.publishes[0])
			}
			return true
		})
		if n := strings.Count(r.log.String(), "outcome=deployed"); n != 2*publishesPerSecond {
			r.t.Errorf("%d events were left out: %s", n, r.log)
		}
	})
}

func TestMirrorDoesNotWaitForALink(t *testing.T) {
	t.Parallel()
	opts := rigOptions{noLocal: true, noLink: true, env: mirrored}
	opts.fault = func(r *rig, f rigFrame) apiVerdict {
		if f.typ == "upgrade" {
			return apiVerdict{status: 403, wire: []byte(`{"errors":[{"errorType":"UnauthorizedException"}]}`)}
		}
		return apiVerdict{}
	}
	rigTest(t, "", opts, func(r *rig) {
		for range 5 {
			o := r.invoke(`1`)
			r.want(o, "deployed")
			r.wantTook(o, 0)
			time.Sleep(3 * time.Second)
		}
		if !strings.Contains(r.log.String(), `outcome=deployed ms=0 reason="no connection to AppSync`) {
			r.t.Errorf("the log says %s", r.log)
		}
	})
}

// AppSync takes nothing for a while. What waits is bounded, and the deployed code answers as ever.
func TestMirrorDoesNotWaitForASlowLink(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true, env: mirrored, events: true}, func(r *rig) {
		local := r.startCopies("")
		l, _ := r.link()
		const behind = maxPublish + 1
		l.unacked.Add(behind)
		o := r.invoke(`1`)
		r.want(o, "deployed")
		r.wantTook(o, 0)
		local.want()
		if !strings.Contains(r.log.String(), `reason="the copies before are still on their way"`) {
			r.t.Errorf("the log says %s", r.log)
		}
		l.unacked.Add(-behind)
		r.invoke(`2`)
		local.want(`2`)
	})
}

// An environment that was frozen for long has a connection that may be dead. Its next event's copy goes out
// over a new one.
func TestCopyGoesOutAfterALongRest(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true, env: mirrored, events: true}, func(r *rig) {
		local := r.startCopies("")
		var frozen atomic.Bool
		r.intercept(func(f rigFrame) apiVerdict {
			if frozen.Load() && strings.HasPrefix(f.step, "extension") {
				return apiVerdict{replace: dropped}
			}
			return apiVerdict{}
		})
		l, _ := r.link()
		frozen.Store(true)
		time.Sleep(staleAfter + time.Second)
		frozen.Store(false)
		o := r.invoke(`"after"`)
		r.want(o, "deployed")
		r.wantTook(o, 0)
		time.Sleep(time.Second)
		local.want(`"after"`)
		if again, _ := r.link(); again == l {
			r.t.Error("the connection is the one before")
		}
	})
}

// until is an environment in which the layer is to go out after d. The bubble's clock begins in 2000.
func until(d time.Duration) map[string]string {
	end := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d)
	return map[string]string{"LIVE_LAMBDA_UNTIL": end.Format(time.RFC3339), "LIVE_LAMBDA_OFFLINE": "error"}
}

func TestLayerGoesOutByItself(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{env: until(time.Hour)}, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		time.Sleep(time.Hour - time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) - time.Second)
		r.want(r.invoke(`2`), "local")
		time.Sleep(2 * time.Second)
		dials := func() (n int) {
			r.api.check(func(c *eventAPICounts) bool { n = c.connections; return true })
			return n
		}
		before := dials()
		for range 3 {
			o := r.invoke(`3`)
			r.want(o, "deployed")
			r.wantTook(o, 0)
			time.Sleep(time.Hour)
		}
		if after := dials(); after != before {
			r.t.Errorf("%d new connections", after-before)
		}
		if conns, _ := r.api.subscribers(r.ctx, presenceChannel, 0); len(conns) != 0 {
			r.t.Errorf("the link is there still: %v", conns)
		}
		r.wantHandled(2)
		if !strings.Contains(r.log.String(), "LIVE_LAMBDA_UNTIL has passed") {
			r.t.Errorf("the log says %s", r.log)
		}
	})
}

// What a local end has accepted before goes on, also if another event comes in the meantime.
func TestAcceptedInvocationOutlivesTheLayersEnd(t *testing.T) {
	t.Parallel()
	slow := func(d *delivery) localReply {
		time.Sleep(5 * time.Minute)
		return respond(`{"by":"local"}`)
	}
	opts := rigOptions{
		env: until(time.Minute), local: &localEnd{handle: slow}, lambda: lambdaOptions{maxConcurrency: 2}}
	rigTest(t, "", opts, func(r *rig) {
		first := make(chan invoked)
		go func() { first <- r.invoke(`1`) }()
		time.Sleep(2 * time.Minute)
		r.want(r.invoke(`2`), "deployed")
		r.want(<-first, "local")
		r.local.wantTold("answered")
		r.want(r.invoke(`3`), "deployed")
		synctest.Wait()
		if conns, _ := r.api.subscribers(r.ctx, presenceChannel, 0); len(conns) != 0 {
			r.t.Errorf("the link is there still: %v", conns)
		}
	})
}

func TestLayerThatIsOutDoesNotEvenConnect(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{env: until(-time.Second), noLocal: true, noLink: true}, func(r *rig) {
		r.want(r.invoke(`1`), "deployed")
		time.Sleep(time.Minute)
		r.api.check(func(c *eventAPICounts) bool {
			if c.connections != 0 {
				r.t.Errorf("%d connections", c.connections)
			}
			return true
		})
	})
}

// It is a fuse: if nobody can tell when it blows, it has.
func TestEndThatCannotBeReadHasCome(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"tomorrow", "2026-12-31", "2026-12-31 18:00:00Z", "1795867200", "2026-12-31T18:00"} {
		env := map[string]string{
			"LIVE_LAMBDA_UNTIL": value, "LIVE_LAMBDA_OFFLINE": "error",
			"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "example.com", "AWS_REGION": "us-east-1",
		}
		cfg, problems := readConfig(func(name string) string { return env[name] })
		if cfg.api != nil || !time.Now().After(cfg.until) || len(problems) != 1 ||
			!strings.Contains(problems[0], "LIVE_LAMBDA_UNTIL") {
			t.Errorf("%s: %+v, %q", value, cfg.api, problems)
		}
	}
}

// A local end has run it: the deployed code must not.
func TestAcceptedEventIsNotTheDeployedCodesAfterTheEnd(t *testing.T) {
	t.Parallel()
	var refuse atomic.Bool
	opts := rigOptions{env: until(time.Minute)}
	opts.lambda.fault = func(r *http.Request) lambdaFault {
		if r.Method == "POST" && refuse.Swap(false) {
			return lambdaFault{status: 500}
		}
		return lambdaFault{}
	}
	opts.local = &localEnd{handle: func(*delivery) localReply {
		time.Sleep(2 * time.Minute)
		return respond(`{"by":"local"}`)
	}}
	rigTest(t, "", opts, func(r *rig) {
		refuse.Store(true)
		o := r.invoke(`1`)
		if o.what != "LiveLambda.AnswerRefused" || len(r.runtime.got()) > 0 {
			r.t.Errorf("got %s, and the deployed code ran %d times", o.what, len(r.runtime.got()))
		}
	})
}
