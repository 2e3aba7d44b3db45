//go:build !layer

package main

// proxy_route_test.go tests what becomes of events if their token says whom they are for (LIVE_LAMBDA_ROUTE).

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// routed is the environment of a function that a team shares. The stage is to be of no account.
var routed = map[string]string{"LIVE_LAMBDA_ROUTE": "x-dev", "LIVE_LAMBDA_STAGE": "team"}

// routedTo is an event with a token.
func routedTo(stage string) string { return `{"headers":{"accept":"*/*","x-dev":"` + stage + `"}}` }

// startDeveloper starts a local end that hears a stage. It answers with the stage's name.
func (r *rig) startDeveloper(stage string) *localEnd {
	return r.startLocal(&localEnd{
		name:   stage,
		stage:  stage,
		handle: func(*delivery) localReply { return respond(`{"by":"` + stage + `"}`) },
	})
}

// events counts the events that have been published on channels that begin so.
func (r *rig) events(prefix string) (n int) {
	synctest.Wait()
	r.api.check(func(c *eventAPICounts) bool {
		for channel, events := range c.events {
			if strings.HasPrefix(channel, prefix) {
				n += events
			}
		}
		return true
	})
	return n
}

// wantTook checks how long a caller has waited.
func (r *rig) wantTook(o invoked, want time.Duration) {
	r.t.Helper()
	if o.took != want {
		r.t.Errorf("it took %v, want %v", o.took, want)
	}
}

func TestRoutedEventGoesToTheStageThatItNames(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true, env: routed}, func(r *rig) {
		var developers []*localEnd
		for _, stage := range []string{"alice", "bob", "team"} {
			developers = append(developers, r.startDeveloper(stage))
		}
		r.want(r.invoke(routedTo("alice")), "alice")
		r.want(r.invoke(routedTo("bob")), "bob")
		r.want(r.invoke(`{"x-DEV":{"stringValue":"bob"}}`), "bob")
		r.wantHandled(3)
		developers[0].wantTold("answered")
		developers[1].wantTold("answered", "answered")
		developers[2].wantTold()
	})
}

func TestEventWithoutATokenIsTheDeployedCodesAtOnce(t *testing.T) {
	t.Parallel()
	env := map[string]string{"LIVE_LAMBDA_ROUTE": "x-dev", "LIVE_LAMBDA_OFFLINE": "error"}
	rigTest(t, "", rigOptions{noLocal: true, env: env}, func(r *rig) {
		r.startDeveloper("alice")
		for _, event := range []string{
			`{}`, `1`, ``, `{"x-dev":null}`, `{"x-dev-2":"alice"}`,
			`{"access-control-request-headers":"a,x-dev"}`,
			`{"x-dev":"alice"`,
		} {
			o := r.invoke(event)
			r.want(o, "deployed")
			r.wantTook(o, 0)
		}
		if n := r.events("/live-lambda/requests"); n != 0 {
			r.t.Errorf("%d messages were sent", n)
		}
		if got := r.runtime.got(); got[4] != `{"x-dev-2":"alice"}` {
			r.t.Errorf("the deployed code got %q", got)
		}
		log := r.log.String()
		if !strings.Contains(log, "the event has no token of LIVE_LAMBDA_ROUTE") ||
			!strings.Contains(log, "the event is not JSON") || strings.Contains(log, "alice") {
			r.t.Errorf("the log says %s", log)
		}
	})
}

// Callers choose the stage, so nobody may be there for long.
func TestRoutedEventWaitsThreeSecondsForItsDeveloper(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true, env: routed}, func(r *rig) {
		r.startDeveloper("alice")
		for i, waits := range []time.Duration{3 * time.Second, 0} {
			o := r.invoke(routedTo("carol"))
			r.want(o, "deployed")
			r.wantTook(o, waits)
			o = r.invoke(routedTo(fmt.Sprint("dave-", i)))
			r.wantTook(o, 3*time.Second)
			r.want(r.invoke(routedTo("alice")), "alice")
		}
	})
	env := map[string]string{
		"LIVE_LAMBDA_ROUTE": "x-dev", "LIVE_LAMBDA_ACCEPT_TIMEOUT": "5s", "LIVE_LAMBDA_OFFLINE": "error"}
	rigTest(t, "as it is set", rigOptions{noLocal: true, env: env}, func(r *rig) {
		o := r.invoke(routedTo("carol"))
		r.want(o, "LiveLambda.Offline")
		r.wantTook(o, 5*time.Second)
	})
}

func TestHelloOfAStageEndsTheMissesOfThatStageAlone(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true, env: routed}, func(r *rig) {
		r.invoke(routedTo("carol"))
		r.invoke(routedTo("dave"))
		for _, fields := range []string{
			``, `,"stage":"team"`, `,"stage":"Carol"`, `,"stage":"carol","functions":["other"]`,
			`,"stage":"carol/x"`,
			`,"stage":"carol","ask":"b4e1"`,
		} {
			r.say(presenceText("hello", fields))
			o := r.invoke(routedTo("carol"))
			r.want(o, "deployed")
			if o.took != 0 {
				r.t.Errorf("after a hello with %s it took %v", fields, o.took)
			}
		}
		r.say(presenceText("hello", `,"stage":"carol"`))
		r.wantTook(r.invoke(routedTo("carol")), 3*time.Second)
		r.wantTook(r.invoke(routedTo("dave")), 0)
	})
}

func TestByeOfAStageEndsTheWaitsForThatStageAlone(t *testing.T) {
	t.Parallel()
	opts := rigOptions{noLocal: true, env: routed, lambda: lambdaOptions{maxConcurrency: 2}}
	rigTest(t, "", opts, func(r *rig) {
		r.say(presenceText("hello", `,"stage":"carol"`))
		go func() {
			time.Sleep(time.Second)
			r.api.publish(presenceChannel, presenceText("bye", `,"stage":"carol"`))
		}()
		other := make(chan invoked)
		go func() { other <- r.invoke(routedTo("dave")) }()
		r.wantTook(r.invoke(routedTo("carol")), time.Second+byePause)
		r.wantTook(<-other, 3*time.Second)
		r.wantTook(r.invoke(routedTo("carol")), 0)
	})
}

// Whoever calls the function can name as many stages as they like.
func TestStagesThatAreRememberedAreBounded(t *testing.T) {
	t.Parallel()
	tn := newTunnel(newTestAPI(nil), "function", false)
	for i := range 10 * maxAudiences {
		tn.audience(fmt.Sprint("/live-lambda/requests/", i)).miss()
		if n := len(tn.audiences); n > maxAudiences {
			t.Fatalf("%d are remembered", n)
		}
	}
}
