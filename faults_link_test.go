//go:build !layer

package main

// faults_link_test.go breaks the link to AppSync at every step, and looks at what the function's caller
// gets.

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// If it is repeated at all, a request that nobody accepts goes out every two seconds. Meanwhile a link that
// is quiet has to show that it delivers.
func TestUnacceptedRequestIsRepeated(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{noLocal: true}, func(r *rig) {
		time.Sleep(50 * time.Second) // the link is quiet: a keep-alive comes every minute
		var requests, probes int
		r.intercept(func(f rigFrame) (v apiVerdict) {
			switch f.step {
			case "extension publish request 0":
				requests++
			case "extension publish probe 0":
				probes++
			}
			return v
		})
		r.want(r.invokeRequest(invokeRequest{payload: []byte(`1`), timeout: 100 * time.Second}),
			"LiveLambda.NoAnswer")
		most, least := 50, 35
		if !r.api.opts.graphql { // nobody of version 1 has been heard
			most, least = 1, 1
		}
		if requests > most || requests < least || probes < 11 || probes > 17 {
			r.t.Errorf("%d requests, %d probes", requests, probes)
		}
	})
}

// after calls f after d, and closes done then.
func after(d time.Duration, f func()) (done chan struct{}) {
	done = make(chan struct{})
	time.AfterFunc(d, func() {
		defer close(done)
		f()
	})
	return done
}

// each calls f n times at once.
func (r *rig) each(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// told is what the Runtime API was told of an invocation, once: the call, headers and body.
func (r *rig) told(o invoked) string {
	r.t.Helper()
	attempts := r.lambda.completions(o.requestID)
	if len(attempts) != 1 || attempts[0].status != http.StatusAccepted {
		r.t.Fatalf("the Runtime API was told %d times: %v", len(attempts), attempts)
	}
	header := attempts[0].header
	words := []string{attempts[0].kind}
	for _, name := range slices.Sorted(maps.Keys(header)) {
		value := header.Get(name)
		switch {
		case name == idHeader && value == o.invocationID, name == "User-Agent", name == "Accept-Encoding",
			name == "Content-Length", name == "Transfer-Encoding", name == "Trailer":
		default:
			words = append(words, fmt.Sprintf("%s=%q", name, value))
		}
	}
	if header.Get(idHeader) == "" {
		words = append(words, "without the invocation's ID")
	}
	return strings.Join(append(words, string(o.payload)), " ")
}

// An invocation is answered if a connection ends at any step of it, at either end, right before or after.
func TestLinkMayEndAtEveryStep(t *testing.T) {
	t.Parallel()
	steps := []string{
		"extension publish request 0",
		"extension publish_success request 0",
		"local data request 0",
		"local publish accepted 0",
		"local publish_success accepted 0",
		"extension data accepted 0",
		"local publish response 0",
		"local publish_success response 0",
		"extension data response 0",
		"extension data response 1",
		"extension data response 2",
		"extension publish done 0",
	}
	names := map[apiEnding]string{closePolitely: "closed", resetConnection: "reset", goHalfOpen: "half-open"}
	for _, ending := range []apiEnding{closePolitely, resetConnection, goHalfOpen} {
		for _, when := range []string{"before", "after"} {
			for _, step := range steps {
				name := names[ending] + " " + when + " " + step
				linkEndsAt(t, name, ending, when == "before", step, `1`)
			}
		}
	}
}

// What is large takes long, and is no different with the other endings.
func TestLinkMayEndBeforeEveryStepOfALargeRequest(t *testing.T) {
	t.Parallel()
	large := incompressible(230_000)
	for _, step := range []string{
		"extension publish request 0",
		"local data request 0",
		"local data request 1",
	} {
		linkEndsAt(t, step, resetConnection, true, step, large)
	}
}

// linkEndsAt ends the link in a rig whose local end answers in three parts, and in one whose local end is the
// program's own, which answers in one.
func linkEndsAt(t *testing.T, name string, ending apiEnding, before bool, step, event string) {
	t.Helper()
	test := func(r *rig) { endAtStep(r, ending, before, step, event) }
	// The other endings are no different, nor is what is large, and it takes long.
	sealed := ending == resetConnection && before && len(event) < 100
	rigTest(t, name, rigOptions{local: &localEnd{pieces: 8}, sealed: sealed}, test)
	if step != "extension data response 1" && step != "extension data response 2" {
		rigTest(t, name+" (real)", rigOptions{local: &localEnd{real: true}, sealed: sealed}, test)
	}
}

// endAtStep ends the link in the second of three invocations. A request is repeated only if a local end of
// version 1 has been heard, as in the first one.
func endAtStep(r *rig, ending apiEnding, before bool, step, event string) {
	r.want(r.invoke(`0`), "local")
	hit := r.endAt(step, ending, before)
	r.want(r.invoke(event), "local")
	r.want(r.invoke(`2`), "local")
	r.wantHandled(3)
	if !hit.Load() {
		r.t.Error("the step did not come")
	}
}

// endAt ends the connection once, right before or after a step; hit tells whether that has come.
func (r *rig) endAt(step string, ending apiEnding, before bool) (hit *atomic.Bool) {
	hit = new(atomic.Bool)
	r.intercept(func(f rigFrame) (v apiVerdict) {
		if f.step == step && !hit.Swap(true) {
			v.after = ending
			if before {
				v.replace = dropped
			}
		}
		return v
	})
	return hit
}

// dialTest is a fault that is there when the extension dials, or that its first invocation meets.
type dialTest struct {
	name string
	opts rigOptions
	want string
	took time.Duration // anyTime: any
	log  string        // has to be in the log
}

// anyTime is a time that a test does not check.
const anyTime = time.Duration(-1)

// run invokes at once, in a rig of its own, then mends the fault.
func (test dialTest) run(t *testing.T) {
	t.Helper()
	test.opts.noLink = true
	rigTest(t, test.name, test.opts, func(r *rig) {
		o := r.invoke(`1`)
		r.want(o, test.want)
		if test.took != anyTime && o.took.Round(100*time.Millisecond) != test.took {
			r.t.Errorf("it took %v, want %v", o.took, test.took)
		}
		r.wantLogged(test.log)
		handled := 2
		if test.want == "deployed" {
			handled = 1
			o := r.invoke(`2`)
			if o.what != "deployed" || o.took != 0 {
				r.t.Errorf("the next invocation: %s after %v, want deployed at once", o.what, o.took)
			}
		}
		r.mend()
		time.Sleep(missTimeout)
		r.ready()
		r.want(r.invoke(`3`), "local")
		r.wantHandled(handled)
	})
}

// While there is no link the deployed code runs: at once if AppSync refuses, else after five seconds.
func TestInvocationWithoutALinkRunsDeployedCode(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, test := range []dialTest{
		{
			name: "nobody listens",
			opts: rigOptions{before: func(r *rig) { r.net.fail(rigAppSync, syscall.ECONNREFUSED) }},
			took: 5 * s,
			log:  "connection refused",
		},
		{
			name: "the name does not resolve",
			opts: rigOptions{before: func(r *rig) {
				r.net.fail(rigAppSync, &net.DNSError{Err: "no such host", Name: "localhost"})
			}},
			took: 5 * s,
			log:  "no such host",
		},
		{
			name: "the dial hangs",
			opts: rigOptions{before: func(r *rig) { r.net.fail(rigAppSync, nil) }},
			took: 5 * s,
			log:  "still connecting",
		},
		{
			name: "401 at the upgrade",
			opts: at("extension upgrade", status(401)),
			log:  "check that the API key is this API's and has not expired",
		},
		{
			name: "403 at the upgrade",
			opts: at("extension upgrade", status(403)),
			log:  "check that the API key is this API's and has not expired",
		},
		{
			name: "500 at the upgrade",
			opts: at("extension upgrade", status(500)),
			took: 5 * s,
			log:  "500 Internal Server Error",
		},
		{
			name: "429 at the upgrade",
			opts: at("extension upgrade", status(429)),
			took: 5 * s,
			log:  "Too Many Requests",
		},
		{
			name: "no answer to the upgrade",
			opts: at("extension upgrade", hang),
			took: 5 * s,
			log:  "still connecting",
		},
		{
			name: "cut off at the upgrade",
			opts: at("extension upgrade", drop),
			took: 5 * s,
			log:  "EOF",
		},
		{
			name: "connection_error",
			opts: at("extension connection_ack",
				instead(`{"type":"connection_error","errors":[{"errorType":"UnauthorizedException"}]}`,
					closePolitely)),
			log: "check that the API key is this API's and has not expired",
		},
		{
			name: "no connection_ack",
			opts: at("extension connection_ack", drop),
			took: 5 * s,
			log:  "still connecting",
		},
		{
			name: "closed before connection_ack",
			opts: at("extension connection_ack", instead(`{"type":"ka"}`, closePolitely)),
			took: 5 * s,
			log:  "the connection ended: EOF",
		},
		{
			name: "no subscribe_success",
			opts: at("extension subscribe_success", drop),
			took: 5 * s,
			log:  "still connecting",
		},
		{
			name: "subscribe_error",
			opts: signing(at("extension subscribe", reject("Unauthorized"))),
			log: "grant appsync:EventSubscribe on arn:aws:appsync:us-east-1:ACCOUNT:apis/API_ID/" +
				"channelNamespace/live-lambda",
		},
		{
			name: "subscribe_error that passes",
			opts: at("extension subscribe", reject("SubscriptionProcessingError")),
			took: 5 * s,
			log:  "SubscriptionProcessingError",
		},
		{
			name: "may not publish",
			opts: signing(at("extension publish probe 0", reject("UnauthorizedException"))),
			log: "grant appsync:EventPublish on arn:aws:appsync:us-east-1:ACCOUNT:apis/API_ID/" +
				"channelNamespace/" +
				"live-lambda",
		},
		{
			name: "the subscription never delivers",
			opts: at("extension data probe 0", drop),
			took: 5 * s,
			log:  "still connecting",
		},
		{
			name: "a certificate for another name",
			opts: rigOptions{tls: "example.com"},
			took: 5 * s,
			log:  "certificate is valid for example.com, not localhost",
		},
		{
			name: "a certificate of nobody",
			opts: rigOptions{tls: "localhost", noRoots: true},
			took: 5 * s,
			log:  "certificate signed by unknown authority",
		},
		{
			name: "an HTTPS proxy that refuses",
			opts: rigOptions{tls: "localhost", connect: 407},
			took: 5 * s,
			log:  "Proxy Authentication Required",
		},
	} {
		test.want = "deployed"
		test.run(t)
	}
}

// What takes a while, or a detour, is a link all the same.
func TestInvocationWaitsForASlowLink(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, test := range []dialTest{
		{name: "an HTTPS proxy that works", opts: rigOptions{tls: "localhost", connect: 200}},
		{
			name: "confirmed two seconds before it delivers",
			opts: rigOptions{api: eventAPIOptions{activation: 2 * s}},
			took: 2 * s,
		},
		{
			name: "every frame takes 25 ms",
			opts: rigOptions{api: eventAPIOptions{delay: 25 * time.Millisecond}},
			took: anyTime,
		},
	} {
		test.want = "local"
		test.run(t)
	}
}

// laterTest is a fault of a link that has worked, at the next invocation.
type laterTest struct {
	name string
	opts rigOptions
	want string
	took time.Duration // anyTime: any
	log  string        // has to be in the log
}

// run invokes before the fault, with it and after it, in a rig of its own.
func (test laterTest) run(t *testing.T) {
	t.Helper()
	f := test.opts.fault
	test.opts.fault = nil
	rigTest(t, test.name, test.opts, func(r *rig) {
		r.want(r.invoke(`0`), "local")
		if f != nil {
			r.intercept(func(frame rigFrame) apiVerdict { return f(r, frame) })
		}
		o := r.invoke(`1`)
		r.want(o, test.want)
		if test.took != anyTime && o.took.Round(100*time.Millisecond) != test.took {
			r.t.Errorf("it took %v, want %v", o.took, test.took)
		}
		r.wantLogged(test.log)
		handled := 3
		if test.want == "deployed" {
			handled = 2
			r.want(r.invoke(`2`), "deployed")
		}
		r.mend()
		time.Sleep(missTimeout)
		r.want(r.invoke(`3`), "local")
		r.wantHandled(handled)
	})
}

// The deployed code runs if AppSync does not take the request in five seconds, or says that it never will.
func TestRequestThatAppSyncDoesNotTakeRunsDeployedCode(t *testing.T) {
	t.Parallel()
	const s = time.Second
	const request = "extension publish request 0"
	for _, test := range []laterTest{
		{
			name: "the request is refused",
			opts: signing(at(request, reject("UnauthorizedException"))),
			log:  "grant appsync:EventPublish",
		},
		{
			name: "the request is malformed",
			opts: at(request, reject("BadRequestException")),
			log:  "BadRequestException",
		},
		{
			name: "no capacity at all",
			opts: at(request, reject("LimitExceededError")),
			took: 5 * s,
			log:  "LimitExceededError",
		},
		{
			name: "the event fails",
			opts: both(at("extension publish_success request 0", failed("EventTooLargeException")),
				at("local data request 0", drop)),
			took: 5 * s,
			log:  "EventTooLargeException",
		},
	} {
		test.want = "deployed"
		test.run(t)
	}
}

func TestRequestThatAppSyncRefusesForNowIsTriedAgain(t *testing.T) {
	t.Parallel()
	const s = time.Second
	const request = "extension publish request 0"
	for _, test := range []laterTest{
		{
			name: "no capacity, three times",
			opts: at(request, times(3, reject("LimitExceededError"))),
			took: 3 * s / 2,
			log:  "LimitExceededError",
		},
		{
			name: "an error without a type",
			opts: at(request, times(1, reject(""))),
			took: s / 2,
			log:  "no error type",
		},
		{
			name: "the event fails for now",
			opts: both(at("extension publish_success request 0", failed("InternalFailure")),
				at("local data request 0", times(2, drop))),
			took: s,
			log:  "InternalFailure",
		},
	} {
		test.want = "local"
		test.run(t)
	}
}

// failed answers a publish with an event that has failed.
func failed(code string) fault {
	return instead(
		`{"type":"publish_success","successful":[],"failed":[{"index":0,"code":"`+code+`"}]}`, stayOpen)
}

func TestLostMessagesAreSaidAgain(t *testing.T) {
	t.Parallel()
	const s = time.Second
	const request = "extension publish request 0"
	for _, test := range []laterTest{
		{name: "no publish_success", opts: at("extension publish_success request 0", drop)},
		{
			name: "the event is lost",
			opts: at("local data request 0", times(2, drop)),
			took: 4 * s,
		},
		{
			name: "no publish_success and the event is lost",
			opts: both(at("extension publish_success request 0", times(1, drop)),
				at("local data request 0", times(1, drop))),
			took: anyTime,
			log:  "no publish_success within 2",
		},
		{
			name: "the publish is lost",
			opts: at(request, times(1, drop)),
			took: anyTime,
			log:  "no publish_success within 2",
		},
		{name: "accepted is lost", opts: at("extension data accepted 0", drop)},
		{
			name: "the answer is lost, twice",
			opts: at("extension data response 0", times(2, drop)),
			took: 4 * s,
		},
		{
			name: "every event comes twice",
			opts: rigOptions{fault: func(_ *rig, f rigFrame) (v apiVerdict) {
				if f.typ == "data" {
					v.replace = [][]byte{f.raw, f.raw}
				}
				return v
			}},
		},
		{name: "done is lost", opts: at("local data done 0", drop)},
	} {
		test.want = "local"
		test.run(t)
	}
}

func TestUnusualMessagesDoNoHarm(t *testing.T) {
	t.Parallel()
	for _, test := range []laterTest{
		{name: "continuation frames and pings", opts: rigOptions{fault: inPieces}},
		{name: "events in arrays", opts: rigOptions{api: eventAPIOptions{documentedData: true}}},
		{
			name: "what nobody asked for",
			opts: rigOptions{fault: withNoise},
			log:  "is not valid",
		},
		{
			name: "what is not JSON",
			opts: at("extension data accepted 0", times(1, instead(`{"type":`, stayOpen))),
			took: anyTime,
			log:  "invalid character",
		},
		{
			name: "a message of 3 MB",
			opts: at("extension data accepted 0",
				instead(`{"type":"data","event":"`+strings.Repeat("x", 3<<20)+`"}`, stayOpen)),
			took: anyTime,
			log:  "incoming message larger than 2097152 bytes",
		},
		{
			name: "a binary message",
			opts: at("extension data accepted 0", func(*rig, rigFrame) apiVerdict {
				return apiVerdict{wire: webSocketFrame(true, 2, []byte{0xff, 0})}
			}),
			took: anyTime,
			log:  "invalid character",
		},
	} {
		test.want = "local"
		test.run(t)
	}
}

// wantLogged checks that the log has a text, or what stands for it with a GraphQL API: other IAM actions, and
// nothing of a publish that net/http tries again by itself.
func (r *rig) wantLogged(text string) {
	r.t.Helper()
	if r.api.opts.graphql {
		text, _, _ = strings.Cut(text, "no publish_success")
		if strings.HasPrefix(text, "grant ") {
			field := "/types/Subscription/fields/subscribe,"
			if strings.Contains(text, "Publish") {
				field = "/types/Mutation/fields/publish,"
			}
			text = "grant appsync:GraphQL on arn:aws:appsync:us-east-1:ACCOUNT:apis/API_ID" + field
		}
	}
	synctest.Wait() // an invocation may end before the log tells why
	if !strings.Contains(r.log.String(), text) {
		r.t.Errorf("the log lacks %q:\n%s", text, r.log)
	}
}

// inPieces sends each message to the extension in three frames, with pings between them.
func inPieces(_ *rig, f rigFrame) (v apiVerdict) {
	if f.out && strings.HasPrefix(f.step, "extension ") {
		ping := webSocketFrame(true, 9, []byte("ping"))
		v.replace = dropped
		v.wire = slices.Concat(
			webSocketFrame(false, 1, f.raw[:5]), ping, ping, webSocketFrame(false, 0, nil),
			webSocketFrame(false, 0, f.raw[5:9]), ping, webSocketFrame(true, 0, f.raw[9:]))
	}
	return v
}

// withNoise has messages of all kinds that mean nothing precede each to the extension.
func withNoise(_ *rig, f rigFrame) (v apiVerdict) {
	if f.out && strings.HasPrefix(f.step, "extension ") {
		for _, noise := range []string{
			`{"type":"greetings","id":"1"}`,
			`{"type":"data","id":"77","event":"null"}`, `{"type":"publish_success","id":"77"}`,
			`{"type":"data","id":"1","event":[]}`, `{"type":"data","id":"1","event":["{\"live_lambda\":1}"]}`,
			`{"type":"data","id":"1","event":7}`, `null`, `[]`, ``,
			`{"type":"broadcast_error","id":"1","errors":[{"errorType":"MessageProcessingError"}]}`,
			`{"type":"error","errors":[{"errorType":"UnsupportedOperation","message":"one\ntwo"}]}`,
			`{"type":"ka"}`,
		} {
			v.replace = append(v.replace, []byte(noise))
		}
		v.replace = append(v.replace, f.raw)
	}
	return v
}

// times is a fault that happens n times.
func times(n int, f fault) fault {
	happened := map[*rig]int{}
	return func(r *rig, frame rigFrame) apiVerdict {
		happened[r]++
		if happened[r] > n {
			return apiVerdict{}
		}
		return f(r, frame)
	}
}

// both are two faults at different steps.
func both(a, b rigOptions) rigOptions {
	return rigOptions{fault: func(r *rig, f rigFrame) apiVerdict {
		v := a.fault(r, f)
		if v.replace != nil || v.wire != nil {
			return v
		}
		return b.fault(r, f)
	}}
}

// connections is how many connections the API has had.
func (r *rig) connections() int {
	n := 0
	r.api.wait(r.ctx, func(c *eventAPICounts) bool {
		n = c.connections
		return true
	})
	return n
}

// AppSync's connectionTimeoutMs says how long a link may be without keep-alives: five minutes, as a rule.
func TestLinkWithoutKeepAlivesIsReplaced(t *testing.T) {
	t.Parallel()
	silent := at("extension ka", drop)
	rigTest(t, "within five minutes", silent, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		time.Sleep(time.Hour)
		n := r.connections() - 2
		if n < 10 || n > 12 {
			r.t.Errorf("%d connections in an hour", n)
		}
		r.want(r.invoke(`2`), "local")
	})
	silent.api.timeout = 30 * time.Second
	rigTest(t, "within the server's own limit", silent, func(r *rig) {
		time.Sleep(10 * time.Minute)
		n := r.connections() - 2
		if n < 18 {
			r.t.Errorf("%d connections in ten minutes", n)
		}
		r.want(r.invoke(`2`), "local")
	})
}

// AppSync ends a connection after a day. The extension replaces it before, and between invocations.
func TestLinkIsReplacedOnceADayBetweenInvocations(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{}, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		time.Sleep(22*time.Hour + 50*time.Minute)
		r.local.handle = func(*delivery) localReply {
			time.Sleep(14 * time.Minute)
			return respond(`{"by":"local"}`)
		}
		before := r.connections()
		r.want(r.invoke(`2`), "local") // from 22:50 to 23:04
		n := r.connections()
		if n != before {
			r.t.Errorf("%d connections, %d before: replaced in the middle of an invocation", n, before)
		}
		r.local.handle = nil
		o := r.invoke(`3`)
		r.want(o, "local")
		n = r.connections()
		if n != before+1 || o.took != 0 {
			r.t.Errorf("%d connections, %d before, %v; want one more, at once", n, before, o.took)
		}
		time.Sleep(24 * time.Hour)
		r.want(r.invoke(`4`), "local")
		if strings.Contains(r.log.String(), "not connected") {
			r.t.Errorf("the log has %s", r.log)
		}
	})
}

// A function that has more to say than one connection may publish says the rest over HTTPS.
func TestMoreThanAConnectionMayPublishGoesOverHTTPS(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		fault fault // of the publishes over HTTPS
	}{
		{name: "taken", fault: func(*rig, rigFrame) apiVerdict { return apiVerdict{} }},
		{name: "429", fault: times(5, status(429))},
		{name: "500", fault: times(5, status(500))},
		{name: "cut off", fault: times(5, drop)},
		{
			name:  "taken, and the answer lost",
			fault: times(5, func(*rig, rigFrame) apiVerdict { return apiVerdict{after: resetConnection} }),
		},
	}
	for _, test := range tests {
		rigTest(t, test.name, rigOptions{}, func(r *rig) {
			r.intercept(func(f rigFrame) apiVerdict {
				if f.typ == "http_publish" && strings.Contains(f.step, "request") {
					return test.fault(r, f)
				}
				return apiVerdict{}
			})
			for i := range 40 {
				r.want(r.invoke(fmt.Sprint(i)), "local")
			}
			r.wantHandled(40)
			err := r.api.wait(r.ctx, func(c *eventAPICounts) bool {
				return c.busiest <= publishesPerSecond && c.publishes[0] > 20
			})
			if err != nil {
				r.t.Error(err)
			}
		})
	}
}

// A fault says what becomes of a frame.
type fault func(*rig, rigFrame) apiVerdict

// at is a fault at each frame of a step.
func at(step string, f fault) rigOptions {
	return rigOptions{fault: func(r *rig, frame rigFrame) apiVerdict {
		if frame.step != step {
			return apiVerdict{}
		}
		return f(r, frame)
	}}
}

// drop loses the frame.
func drop(*rig, rigFrame) apiVerdict { return apiVerdict{replace: dropped} }

// hang keeps the frame for good.
func hang(*rig, rigFrame) apiVerdict { return apiVerdict{until: make(chan struct{})} }

// status answers an HTTP request with a status.
func status(n int) fault { return func(*rig, rigFrame) apiVerdict { return apiVerdict{status: n} } }

// instead sends the client another message with the frame's ID, and then ends the connection as told.
func instead(message string, after apiEnding) fault {
	return func(r *rig, f rigFrame) apiVerdict {
		withID := strings.Replace(message, "{", fmt.Sprintf(`{"id":%q,`, f.id), 1)
		return apiVerdict{replace: [][]byte{r.message(f, withID)}, after: after}
	}
}

// message is a message of an Event API in a GraphQL API's words where the API is one; of its answer over
// HTTPS where f is one. What is not such a message stays as it is.
func (r *rig) message(f rigFrame, text string) []byte {
	var m struct {
		apiAnswer
		Failed []struct{ Code string }
		Event  any
	}
	if !r.api.opts.graphql || json.Unmarshal([]byte(text), &m) != nil {
		return []byte(text)
	}
	for _, e := range m.Failed {
		m.Errors = append(m.Errors, apiRefusal{ErrorType: e.Code})
	}
	switch {
	case f.typ == "http_publish" || f.typ == "http_published":
		return mustJSON(map[string]any{"data": nil, "errors": m.Errors})
	case m.Type == "data":
		return mustJSON(
			map[string]any{
				"type": "data",
				"id":   m.ID,
				"payload": map[string]any{
					"data": map[string]any{"subscribe": map[string]any{"data": m.Event}},
				},
			})
	}
	return graphqlAnswer(m.apiAnswer)
}

// reject answers an operation with an error; nothing is done.
func reject(errorType string) fault {
	return func(r *rig, f rigFrame) apiVerdict {
		answer := r.message(
			f, fmt.Sprintf(
				`{"type":"%s_error","id":%q,"errors":[{"errorType":%q,"message":"no"}]}`, f.typ, f.id,
				errorType))
		if f.typ == "http_publish" {
			return apiVerdict{status: http.StatusOK, wire: answer}
		}
		r.api.do(f.conn, apiVerdict{replace: [][]byte{answer}})
		return apiVerdict{replace: dropped}
	}
}

// incompressible is a JSON string of n bytes that gzip does not shorten.
func incompressible(n int) string {
	b := make([]byte, n*3/4)
	rand.NewChaCha8([32]byte{}).Read(b)
	return `"` + base64.RawURLEncoding.EncodeToString(b)[:n-2] + `"`
}
