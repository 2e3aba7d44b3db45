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

// A request that nobody accepts goes out every two seconds where it is repeated at all, and meanwhile a link
// that is quiet has to show that it delivers.
func TestRequestsAreRepeated(t *testing.T) {
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
	words := []string{attempts[0].kind}
	for _, name := range slices.Sorted(maps.Keys(attempts[0].header)) {
		value := attempts[0].header.Get(name)
		switch {
		case name == idHeader && value == o.invocationID, name == "User-Agent", name == "Accept-Encoding",
			name == "Content-Length", name == "Transfer-Encoding", name == "Trailer":
		default:
			words = append(words, fmt.Sprintf("%s=%q", name, value))
		}
	}
	if attempts[0].header.Get(idHeader) == "" {
		words = append(words, "without the invocation's ID")
	}
	return strings.Join(append(words, string(o.payload)), " ")
}

// Every step of an invocation, at either end's connection, with the connection ending right before or after
// it.
func TestLinkEndsAtEveryStep(t *testing.T) {
	large := incompressible(230_000)
	steps := []struct{ step, event string }{
		{step: "extension publish request 0", event: `1`},
		{step: "extension publish_success request 0", event: `1`},
		{step: "local data request 0", event: `1`},
		{step: "local publish accepted 0", event: `1`},
		{step: "local publish_success accepted 0", event: `1`},
		{step: "extension data accepted 0", event: `1`},
		{step: "local publish response 0", event: `1`},
		{step: "local publish_success response 0", event: `1`},
		{step: "extension data response 0", event: `1`},
		{step: "extension data response 1", event: `1`},
		{step: "extension data response 2", event: `1`},
		{step: "extension publish done 0", event: `1`},
		{step: "extension publish request 0", event: large},
		{step: "local data request 0", event: large},
		{step: "local data request 1", event: large},
	}
	for _, ending := range []apiEnding{closePolitely, resetConnection, goHalfOpen} {
		for _, when := range []string{"before", "after"} {
			for _, s := range steps {
				if len(s.event) > 1 && (ending != resetConnection || when == "after") {
					continue // what is large takes long, and is no different
				}
				name := fmt.Sprintf(
					"%s %s %s of %d bytes", []string{"", "closed", "reset", "half-open"}[ending], when,
					s.step, len(s.event))
				test := func(r *rig) { endAtStep(r, ending, when == "before", s.step, s.event) }
				// each answer has three
				rigTest(t, name, rigOptions{local: &localEnd{pieces: 8}}, test)
				// it has one
				if s.step != "extension data response 1" && s.step != "extension data response 2" {
					rigTest(t, name+" (real)", rigOptions{local: &localEnd{real: true}}, test)
				}
			}
		}
	}
}

func endAtStep(r *rig, ending apiEnding, before bool, step, event string) {
	r.want(r.invoke(`0`), "local") // a request is repeated where a local end of version 1 has been heard
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

// Faults that are there when the extension dials, or that its first invocation meets.
func TestLinkFaults(t *testing.T) {
	const s, anyTime = time.Second, time.Duration(-1)
	tests := []struct {
		name string
		opts rigOptions
		want string
		took time.Duration
		log  string // has to be in the log
	}{
		// While there is no link: the deployed code, at once where AppSync refuses, else after five seconds.
		{
			name: "nobody listens",
			opts: rigOptions{before: func(r *rig) { r.net.fail(rigAppSync, syscall.ECONNREFUSED) }},
			want: "deployed",
			took: 5 * s,
			log:  "connection refused",
		},
		{
			name: "the name does not resolve",
			opts: rigOptions{before: func(r *rig) {
				r.net.fail(rigAppSync, &net.DNSError{Err: "no such host", Name: "localhost"})
			}},
			want: "deployed",
			took: 5 * s,
			log:  "no such host",
		},
		{
			name: "the dial hangs",
			opts: rigOptions{before: func(r *rig) { r.net.fail(rigAppSync, nil) }},
			want: "deployed",
			took: 5 * s,
			log:  "still connecting",
		},
		{
			name: "401 at the upgrade",
			opts: at("extension upgrade", status(401)),
			want: "deployed",
			log:  "grant appsync:EventConnect on arn:aws:appsync:us-east-1:ACCOUNT:apis/API_ID",
		},
		{
			name: "403 at the upgrade",
			opts: at("extension upgrade", status(403)),
			want: "deployed",
			log:  "grant appsync:EventConnect",
		},
		{
			name: "500 at the upgrade",
			opts: at("extension upgrade", status(500)),
			want: "deployed",
			took: 5 * s,
			log:  "500 Internal Server Error",
		},
		{
			name: "429 at the upgrade",
			opts: at("extension upgrade", status(429)),
			want: "deployed",
			took: 5 * s,
			log:  "Too Many Requests",
		},
		{
			name: "no answer to the upgrade",
			opts: at("extension upgrade", hang),
			want: "deployed",
			took: 5 * s,
			log:  "still connecting",
		},
		{
			name: "cut off at the upgrade",
			opts: at("extension upgrade", drop),
			want: "deployed",
			took: 5 * s,
			log:  "EOF",
		},
		{
			name: "connection_error",
			opts: at("extension connection_ack",
				instead(`{"type":"connection_error","errors":[{"errorType":"UnauthorizedException"}]}`,
					closePolitely)),
			want: "deployed",
			log:  "grant appsync:EventConnect",
		},
		{
			name: "no connection_ack",
			opts: at("extension connection_ack", drop),
			want: "deployed",
			took: 5 * s,
			log:  "still connecting",
		},
		{
			name: "closed before connection_ack",
			opts: at("extension connection_ack", instead(`{"type":"ka"}`, closePolitely)),
			want: "deployed",
			took: 5 * s,
			log:  "the connection ended: EOF",
		},
		{
			name: "no subscribe_success",
			opts: at("extension subscribe_success", drop),
			want: "deployed",
			took: 5 * s,
			log:  "still connecting",
		},
		{
			name: "subscribe_error",
			opts: at("extension subscribe", reject("Unauthorized")),
			want: "deployed",
			log: "grant appsync:EventSubscribe on arn:aws:appsync:us-east-1:ACCOUNT:apis/API_ID/" +
				"channelNamespace/live-lambda",
		},
		{
			name: "subscribe_error that passes",
			opts: at("extension subscribe", reject("SubscriptionProcessingError")),
			want: "deployed",
			took: 5 * s,
			log:  "SubscriptionProcessingError",
		},
		{
			name: "may not publish",
			opts: at("extension publish probe 0", reject("UnauthorizedException")),
			want: "deployed",
			log: "grant appsync:EventPublish on arn:aws:appsync:us-east-1:ACCOUNT:apis/API_ID/" +
				"channelNamespace/" +
				"live-lambda",
		},
		{
			name: "the subscription never delivers",
			opts: at("extension data probe 0", drop),
			want: "deployed",
			took: 5 * s,
			log:  "still connecting",
		},
		{
			name: "a certificate for another name",
			opts: rigOptions{tls: "example.com"},
			want: "deployed",
			took: 5 * s,
			log:  "certificate is valid for example.com, not localhost",
		},
		{
			name: "a certificate of nobody",
			opts: rigOptions{tls: "localhost", noRoots: true},
			want: "deployed",
			took: 5 * s,
			log:  "certificate signed by unknown authority",
		},
		{
			name: "an HTTPS proxy that refuses",
			opts: rigOptions{tls: "localhost", connect: 407},
			want: "deployed",
			took: 5 * s,
			log:  "Proxy Authentication Required",
		},
		{name: "an HTTPS proxy that works", opts: rigOptions{tls: "localhost", connect: 200}, want: "local"},

		{
			name: "confirmed two seconds before it delivers",
			opts: rigOptions{api: eventAPIOptions{activation: 2 * s}},
			want: "local",
			took: 2 * s,
		},
		{
			name: "every frame takes 25 ms",
			opts: rigOptions{api: eventAPIOptions{delay: 25 * time.Millisecond}},
			want: "local",
			took: anyTime,
		},
	}
	for _, tt := range tests {
		tt.opts.noLink = true
		rigTest(t, tt.name, tt.opts, func(r *rig) {
			o := r.invoke(`1`)
			r.want(o, tt.want)
			if o.took.Round(s/10) != tt.took && tt.took != anyTime {
				r.t.Errorf("it took %v, want %v", o.took, tt.took)
			}
			r.wantLogged(tt.log)
			handled := 2
			if tt.want == "deployed" {
				if o := r.invoke(`2`); o.what != "deployed" || o.took != 0 {
					r.t.Errorf("the next invocation: %s after %v, want deployed at once", o.what, o.took)
				}
				handled = 1
			}
			r.mend()
			time.Sleep(missTimeout)
			r.ready()
			r.want(r.invoke(`3`), "local")
			r.wantHandled(handled)
		})
	}
}

// Faults of a link that has worked, at the next invocation.
func TestLinkFaultsLater(t *testing.T) {
	const s, anyTime = time.Second, time.Duration(-1)
	failed := func(code string) fault {
		return instead(
			`{"type":"publish_success","successful":[],"failed":[{"index":0,"code":"`+code+`"}]}`, stayOpen)
	}
	const request = "extension publish request 0"
	tests := []struct {
		name string
		opts rigOptions
		want string
		took time.Duration
		log  string
	}{
		{
			name: "the request is refused",
			opts: at(request, reject("UnauthorizedException")),
			want: "deployed",
			log:  "grant appsync:EventPublish",
		},
		{
			name: "the request is malformed",
			opts: at(request, reject("BadRequestException")),
			want: "deployed",
			log:  "BadRequestException",
		},
		{
			name: "no capacity at all",
			opts: at(request, reject("LimitExceededError")),
			want: "deployed",
			took: 5 * s,
			log:  "LimitExceededError",
		},
		{
			name: "no capacity, three times",
			opts: at(request, times(3, reject("LimitExceededError"))),
			want: "local",
			took: 3 * s / 2,
			log:  "LimitExceededError",
		},
		{
			name: "an error without a type",
			opts: at(request, times(1, reject(""))),
			want: "local",
			took: s / 2,
			log:  "no error type",
		},
		{
			name: "the event fails",
			opts: both(at("extension publish_success request 0", failed("EventTooLargeException")),
				at("local data request 0", drop)),
			want: "deployed",
			took: 5 * s,
			log:  "EventTooLargeException",
		},
		{
			name: "the event fails for now",
			opts: both(at("extension publish_success request 0", failed("InternalFailure")),
				at("local data request 0", times(2, drop))),
			want: "local",
			took: s,
			log:  "InternalFailure",
		},
		{name: "no publish_success", opts: at("extension publish_success request 0", drop), want: "local"},
		{
			name: "the event is lost",
			opts: at("local data request 0", times(2, drop)),
			want: "local",
			took: 4 * s,
		},
		{
			name: "no publish_success and the event is lost",
			opts: both(at("extension publish_success request 0", times(1, drop)),
				at("local data request 0", times(1, drop))),
			want: "local",
			took: anyTime,
			log:  "no publish_success within 2",
		},
		{
			name: "the publish is lost",
			opts: at(request, times(1, drop)),
			want: "local",
			took: anyTime,
			log:  "no publish_success within 2",
		},
		{name: "accepted is lost", opts: at("extension data accepted 0", drop), want: "local"},
		{
			name: "the answer is lost, twice",
			opts: at("extension data response 0", times(2, drop)),
			want: "local",
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
			want: "local",
		},
		{name: "done is lost", opts: at("local data done 0", drop), want: "local"},

		{name: "continuation frames and pings", opts: rigOptions{fault: inPieces}, want: "local"},
		{name: "events in arrays", opts: rigOptions{api: eventAPIOptions{otherData: true}}, want: "local"},
		{
			name: "what nobody asked for",
			opts: rigOptions{fault: withNoise},
			want: "local",
			log:  "is not valid",
		},
		{
			name: "what is not JSON",
			opts: at("extension data accepted 0", times(1, instead(`{"type":`, stayOpen))),
			want: "local",
			took: anyTime,
			log:  "invalid character",
		},
		{
			name: "a message of 3 MB",
			opts: at("extension data accepted 0",
				instead(`{"type":"data","event":"`+strings.Repeat("x", 3<<20)+`"}`, stayOpen)),
			want: "local",
			took: anyTime,
			log:  "incoming message larger than 2097152 bytes",
		},
		{
			name: "a binary message",
			opts: at("extension data accepted 0", func(*rig, rigFrame) apiVerdict {
				return apiVerdict{wire: webSocketFrame(true, 2, []byte{0xff, 0})}
			}),
			want: "local",
			took: anyTime,
			log:  "invalid character",
		},
	}
	for _, tt := range tests {
		f := tt.opts.fault
		tt.opts.fault = nil
		rigTest(t, tt.name, tt.opts, func(r *rig) {
			r.want(r.invoke(`0`), "local")
			if f != nil {
				r.intercept(func(frame rigFrame) apiVerdict { return f(r, frame) })
			}
			o := r.invoke(`1`)
			r.want(o, tt.want)
			if o.took.Round(s/10) != tt.took && tt.took != anyTime {
				r.t.Errorf("it took %v, want %v", o.took, tt.took)
			}
			r.wantLogged(tt.log)
			handled := 3
			if tt.want == "deployed" {
				r.want(r.invoke(`2`), "deployed")
				handled = 2
			}
			r.mend()
			time.Sleep(missTimeout)
			r.want(r.invoke(`3`), "local")
			if tt.want == "local" {
				handled = 3
			}
			r.wantHandled(handled)
		})
	}
}

// wantLogged checks that the log has a text, or what stands for it with a GraphQL API: other IAM actions, and
// nothing of a publish that net/http tries again by itself.
func (r *rig) wantLogged(text string) {
	r.t.Helper()
	if r.api.opts.graphql {
		text, _, _ = strings.Cut(text, "no publish_success")
		if strings.HasPrefix(text, "grant ") {
			text = map[bool]string{
				false: "/types/Subscription/fields/subscribe,",
				true:  "/types/Mutation/fields/publish,",
			}[strings.Contains(text, "Publish")]
			text = "grant appsync:GraphQL on arn:aws:appsync:us-east-1:ACCOUNT:apis/API_ID" + text
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
		if happened[r]++; happened[r] > n {
			return apiVerdict{}
		}
		return f(r, frame)
	}
}

// both are two faults at different steps.
func both(a, b rigOptions) rigOptions {
	return rigOptions{fault: func(r *rig, f rigFrame) apiVerdict {
		if v := a.fault(r, f); v.replace != nil || v.wire != nil {
			return v
		}
		return b.fault(r, f)
	}}
}

// A link that is left alone: without keep-alives, for a day, and with more to say than one connection may.
func TestLinkLives(t *testing.T) {
	connections := func(r *rig) (n int) {
		r.api.wait(r.ctx, func(c *eventAPICounts) bool { n = c.connections; return true })
		return n
	}
	rigTest(t, "no keep-alives", at("extension ka", drop), func(r *rig) {
		r.want(r.invoke(`1`), "local")
		time.Sleep(time.Hour)
		if n := connections(r) - 2; n < 10 || n > 12 { // AppSync's connectionTimeoutMs is five minutes
			r.t.Errorf("%d connections in an hour", n)
		}
		r.want(r.invoke(`2`), "local")
	})
	rigTest(t, "no keep-alives within the server's own limit",
		rigOptions{api: eventAPIOptions{timeout: 30 * time.Second}, fault: at("extension ka", drop).fault},
		func(r *rig) {
			time.Sleep(10 * time.Minute)
			if n := connections(r) - 2; n < 18 {
				r.t.Errorf("%d connections in ten minutes", n)
			}
			r.want(r.invoke(`2`), "local")
		})
	rigTest(t, "a day", rigOptions{}, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		time.Sleep(22*time.Hour + 50*time.Minute)
		r.local.handle = func(*delivery) localReply {
			time.Sleep(14 * time.Minute)
			return respond(`{"by":"local"}`)
		}
		before := connections(r)
		r.want(r.invoke(`2`), "local") // from 22:50 to 23:04
		if n := connections(r); n != before {
			r.t.Errorf("%d connections, %d before: replaced in the middle of an invocation", n, before)
		}
		r.local.handle = nil
		o := r.invoke(`3`)
		if r.want(o, "local"); connections(r) != before+1 || o.took != 0 {
			r.t.Errorf("%d connections, %d before, %v; want one more, at once", connections(r), before,
				o.took)
		}
		time.Sleep(24 * time.Hour)
		r.want(r.invoke(`4`), "local")
		if strings.Contains(r.log.String(), "not connected") {
			r.t.Errorf("the log has %s", r.log)
		}
	})
	for _, tt := range []struct {
		name  string
		fault fault
	}{
		{name: "taken", fault: func(*rig, rigFrame) apiVerdict { return apiVerdict{} }},
		{name: "429", fault: times(5, status(429))},
		{name: "500", fault: times(5, status(500))},
		{name: "cut off", fault: times(5, drop)},
		{
			name:  "taken, and the answer lost",
			fault: times(5, func(*rig, rigFrame) apiVerdict { return apiVerdict{after: resetConnection} }),
		},
	} {
		rigTest(t, "more than a connection may publish, over HTTPS: "+tt.name, rigOptions{}, func(r *rig) {
			r.intercept(func(f rigFrame) apiVerdict {
				if f.typ == "http_publish" && strings.Contains(f.step, "request") {
					return tt.fault(r, f)
				}
				return apiVerdict{}
			})
			for i := range 40 {
				r.want(r.invoke(fmt.Sprint(i)), "local")
			}
			r.wantHandled(40)
			if err := r.api.wait(r.ctx, func(c *eventAPICounts) bool {
				return c.busiest <= publishesPerSecond && c.publishes[0] > 20
			}); err != nil {
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

func drop(*rig, rigFrame) apiVerdict { return apiVerdict{replace: dropped} }

func hang(*rig, rigFrame) apiVerdict { return apiVerdict{until: make(chan struct{})} }

func status(n int) fault { return func(*rig, rigFrame) apiVerdict { return apiVerdict{status: n} } }

// instead sends the client another message with the frame's ID, and then ends the connection as told.
func instead(message string, after apiEnding) fault {
	return func(r *rig, f rigFrame) apiVerdict {
		return apiVerdict{
			replace: [][]byte{r.message(f, strings.Replace(message, "{", fmt.Sprintf(`{"id":%q,`, f.id), 1))},
			after:   after,
		}
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
		m.Errors = append(m.Errors, apiError{ErrorType: e.Code})
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
