//go:build !layer

package main

// tunnel_presence_test.go tests what an extension makes of what local ends say of themselves.

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const presenceChannel = "/live-lambda/presence"

// threeSeconds has invocations wait so long for a local end.
var threeSeconds = map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "3s"}

// say publishes what a local end says of itself, and waits until it has arrived.
func (r *rig) say(message string) {
	r.t.Helper()
	r.presence()
	r.api.publish(presenceChannel, message)
	synctest.Wait()
}

// presence waits until the extension hears local ends.
func (r *rig) presence() {
	r.t.Helper()
	r.link()
	_, err := r.api.subscribers(r.ctx, presenceChannel, 1)
	if err != nil {
		r.t.Fatal(err)
	}
}

// presenceText is a hello or a bye of the sender a3f0, with further fields.
func presenceText(what, fields string) string {
	return `{"live_lambda":1,"type":"` + what + `","request_id":"a3f0/` + what +
		`","index":0,"last":true,"sender":"a3f0","by":"a@b","since":1795867200000` + fields + `}`
}

// The first thing that everybody does: invoke, see that no local end runs, start one, invoke.
func TestLocalEndThatStartsAfterAMissGetsTheNextInvocation(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true, env: threeSeconds}, func(r *rig) {
		r.want(r.invoke("1"), "deployed")
		r.presence()
		r.startLocal(&localEnd{real: true})
		synctest.Wait()
		o := r.invoke("2")
		r.want(o, "local")
		if o.took > time.Second {
			r.t.Errorf("it took %v", o.took)
		}
	})
}

// One whose connection has died without a word says hello when it is back.
func TestLocalEndThatReconnectsAfterAMissGetsTheNextInvocation(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{local: &localEnd{real: true}, env: threeSeconds}, func(r *rig) {
		r.want(r.invoke("1"), "local")
		r.presence()
		conns, err := r.api.subscribers(r.ctx, "/live-lambda/requests", 1)
		if err != nil {
			r.t.Fatal(err)
		}
		r.intercept(func(f rigFrame) apiVerdict {
			if f.conn == conns[0] {
				return apiVerdict{replace: dropped}
			}
			return apiVerdict{}
		})
		cut := time.Now()
		for r.invoke("2").what != "local" && time.Since(cut) < time.Hour {
			time.Sleep(100 * time.Millisecond)
		}
		// That long the local end takes to find out, and the last request before that waits.
		if took := time.Since(cut); took > pingAfter+publishTimeout+3*time.Second {
			r.t.Errorf("it was back after %v", took)
		}
	})
}

func TestHelloEndsAMissIfItIsForThisFunction(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		message string
		stage   string
		ends    bool
	}{
		"all functions": {message: presenceText("hello", ""), ends: true},
		"this function": {
			message: presenceText("hello", `,"functions":["other","func*"]`), ends: true},
		"other functions":        {message: presenceText("hello", `,"functions":["other","f"]`)},
		"patterns that are none": {message: presenceText("hello", `,"functions":["[","func["]`)},
		"another stage":          {message: presenceText("hello", `,"stage":"alice"`)},
		"this stage": {
			message: presenceText("hello", `,"stage":"alice"`), stage: "alice", ends: true},
		"no stage":         {message: presenceText("hello", ""), stage: "alice"},
		"asks another end": {message: presenceText("hello", `,"ask":"b4e1"`)},
		"another type":     {message: presenceText("hallo", "")},
		"another version": {
			message: strings.Replace(presenceText("hello", ""), `":1,"type`, `":2,"type`, 1)},
		"functions that are none": {message: presenceText("hello", `,"functions":"func*"`)},
		"no JSON":                 {message: "hello"},
		"a sender that is long": {message: strings.Replace(
			presenceText("hello", ""), `"sender":"a3f0"`, `"sender":"`+strings.Repeat("a", 51)+`"`, 1)},
	} {
		env := map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "3s", "LIVE_LAMBDA_STAGE": test.stage}
		rigTest(t, name, rigOptions{noLocal: true, env: env, events: name != "all functions"}, func(r *rig) {
			r.want(r.invoke("1"), "deployed")
			r.say(test.message)
			o := r.invoke("2")
			r.want(o, "deployed")
			if waited := o.took >= 3*time.Second; waited != test.ends {
				r.t.Errorf("it waited: %v, want %v", waited, test.ends)
			}
		})
	}
}

// The local end that was heard last is gone: nobody waits for it any more, neither the invocation that is out
// nor the next ones.
func TestByeEndsTheWaitForALocalEnd(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true}, func(r *rig) {
		r.say(presenceText("hello", ""))
		go func() {
			time.Sleep(2 * time.Second)
			r.api.publish(presenceChannel, presenceText("bye", ""))
		}()
		for i, took := range []time.Duration{2*time.Second + byePause, 0} {
			o := r.invoke("1")
			r.want(o, "deployed")
			if o.took != took {
				r.t.Errorf("invocation %d took %v, want %v", i, o.took, took)
			}
		}
		log := r.log.String()
		for _, reason := range []string{
			"the local end has ended", "there was no local end less than 10s ago"} {
			if !strings.Contains(log, reason) {
				r.t.Errorf("no %q in the log: %s", reason, log)
			}
		}
	})
}

// It was started anew. If the environment was frozen meanwhile, all of this comes at once.
func TestByeBeforeAHelloEndsNothing(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true}, func(r *rig) {
		r.say(presenceText("hello", ""))
		r.api.publish(presenceChannel, presenceText("bye", ""))
		r.startLocal(&localEnd{real: true})
		r.want(r.invoke("1"), "local")
		time.Sleep(2 * byePause)
		r.want(r.invoke("2"), "local")
	})
}

// Nobody is named.
func TestByeOfNobodyEndsNothing(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{}, func(r *rig) {
		r.say(strings.ReplaceAll(presenceText("bye", ""), "a3f0", ""))
		time.Sleep(2 * byePause)
		r.want(r.invoke("1"), "local")
	})
}

// A local end that came while an invocation waited in vain gets the next one.
func TestMissDoesNotBeginAfterAHello(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true, env: threeSeconds}, func(r *rig) {
		r.invokeBeforeLocal(2900 * time.Millisecond) // whichever of the two answers
		r.want(r.invoke("2"), "local")
	})
}

// Another one has been heard since, or is at work.
func TestByeOfAnotherLocalEndEndsNothing(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{}, func(r *rig) {
		r.say(presenceText("hello", ""))
		r.want(r.invoke("1"), "local") // by another, which so is the one heard last
		r.say(presenceText("bye", ""))
		r.want(r.invoke("2"), "local")
	})
}

func TestByeEndsNoInvocationThatIsAccepted(t *testing.T) {
	t.Parallel()
	works := func(*delivery) localReply {
		time.Sleep(20 * time.Second)
		return respond(`{"by":"local"}`)
	}
	local := &localEnd{name: "a3f0", handle: works}
	rigTest(t, "", rigOptions{local: local}, func(r *rig) {
		go func() {
			time.Sleep(8 * time.Second)
			r.api.publish(presenceChannel, presenceText("bye", ""))
		}()
		r.want(r.invoke("1"), "local")
	})
}

// A request that went out before anybody was there is not lost.
func TestHelloHasARequestSentAgainThatIsOut(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true}, func(r *rig) {
		o := r.invokeBeforeLocal(10 * time.Second)
		r.want(o, "local")
		if o.took < 10*time.Second || o.took > 10*time.Second+repeatRequest+time.Second {
			r.t.Errorf("it took %v", o.took)
		}
	})
}

// invokeBeforeLocal invokes the function, and starts a local end so long after that.
func (r *rig) invokeBeforeLocal(wait time.Duration) invoked {
	r.t.Helper()
	r.presence()
	result := make(chan invoked, 1)
	go func() { result <- r.invoke("1") }()
	time.Sleep(wait)
	r.startLocal(&localEnd{real: true})
	return <-result
}

// Older permissions may not allow it. Invocations do without.
func TestFunctionWorksIfItMayNotHearLocalEnds(t *testing.T) {
	t.Parallel()
	var id atomic.Value // of the subscription
	id.Store("")
	refuse := func(_ *rig, f rigFrame) apiVerdict {
		switch {
		case f.typ == "subscribe" && f.channel == presenceChannel:
			id.Store(f.id)
		case f.typ == "subscribe_success" && f.id == id.Load():
			return apiVerdict{replace: [][]byte{[]byte(`{"type":"subscribe_error","id":"` + f.id +
				`","errors":[{"errorType":"UnauthorizedException","message":"no"}]}`)}}
		}
		return apiVerdict{}
	}
	rigTest(t, "", rigOptions{fault: refuse, events: true}, func(r *rig) {
		r.want(r.invoke("1"), "local")
		synctest.Wait()
		if log := r.log.String(); strings.Count(log, "local ends that come or go are not heard") != 1 {
			r.t.Errorf("the log has %s", log)
		}
	})
}

// The extension tells with the next request that an invocation ran the deployed code: a local end that was
// there all the time did not hear of it.
func TestRequestSaysWhenTheDeployedCodeRanLast(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true, env: threeSeconds}, func(r *rig) {
		deployed := time.Now().Add(3 * time.Second).UnixMilli()
		r.want(r.invoke("1"), "deployed")
		time.Sleep(missTimeout)
		got := make(chan int64, 1)
		r.startLocal(&localEnd{handle: func(d *delivery) localReply {
			got <- d.context.DeployedMs
			return respond(`{"by":"local"}`)
		}})
		r.want(r.invoke("2"), "local")
		if ms := <-got; ms != deployed {
			r.t.Errorf("deployed_ms is %d, want %d", ms, deployed)
		}
	})
}
