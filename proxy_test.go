//go:build !layer

package main

// proxy_test.go tests proxy.go in the rig: what becomes of one invocation. What a caller of the function gets
// is always Lambda's word, not the extension's.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// oddJSON is an object with a number, a key and a text that a program may easily change.
const oddJSON = `{"a":1, "big":12345678901234567890.00, "<é😀>":"\ud800"}`

// answerTest is what a local end answers, and what the Runtime API is told.
type answerTest struct {
	name string
	part part
	body string
	want string
}

// run answers an invocation so, over a link of its own.
func (test answerTest) run(t *testing.T) {
	t.Helper()
	answer := func(d *delivery) localReply {
		reply := localReply{part: test.part}
		reply.body, reply.part.Encoding = compress([]byte(test.body))
		return reply
	}
	rigTest(t, test.name, rigOptions{local: &localEnd{handle: answer}}, func(r *rig) {
		o := r.invoke(oddJSON)
		got := r.told(o)
		if got != test.want {
			r.t.Errorf("the Runtime API was told\n%.300q, want\n%.300q", got, test.want)
		}
		r.wantHandled(1)
		r.local.wantTold("answered")
		line := "msg=invocation source=live-lambda request_id=" + o.requestID + " outcome="
		n := strings.Count(r.log.String(), line)
		if n != 1 {
			r.t.Errorf("%d lines in the log: %s", n, r.log)
		}
	})
}

func TestResponseReachesTheRuntimeAPI(t *testing.T) {
	t.Parallel()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	text := func(headers map[string]string) part { return part{Type: "response", Headers: headers} }
	plain := text(map[string]string{"Content-Type": "text/plain"})
	for _, test := range []answerTest{
		{
			name: "JSON",
			part: text(map[string]string{"Content-Type": "application/json"}),
			body: oddJSON,
			want: `response Content-Type="application/json" ` + oddJSON,
		},
		{name: "text", part: plain, body: "hello", want: `response Content-Type="text/plain" hello`},
		{
			name: "all bytes",
			part: plain,
			body: string(all),
			want: `response Content-Type="text/plain" ` + string(all),
		},
		{name: "no bytes", part: plain, want: `response Content-Type="text/plain" `},
		{name: "no content type", part: text(nil), body: "hello", want: "response hello"},
		{
			name: "many bytes",
			part: plain,
			body: strings.Repeat("x", 1<<20),
			want: `response Content-Type="text/plain" ` + strings.Repeat("x", 1<<20),
		},
		{
			name: "a content type with a line end",
			part: text(map[string]string{"Content-Type": "text/plain\r\nX-Evil: 1"}),
			body: "hello",
			want: "response hello",
		},
		{
			name: "a content type with a control character",
			part: text(map[string]string{"Content-Type": "text/\x00plain"}),
			body: "hello",
			want: "response hello",
		},
		{
			name: "a content type in Greek",
			part: text(map[string]string{"Content-Type": "κείμενο"}),
			body: "hello",
			want: "response hello",
		},
		{
			name: "a long content type",
			part: text(map[string]string{"Content-Type": strings.Repeat("x", 70<<10)}),
			body: "hello",
			want: "response hello",
		},
		{
			name: "other headers",
			part: text(map[string]string{
				"Content-Type":                 "a/b",
				"Lambda-Runtime-Invocation-Id": "x",
				"Host":                         "evil",
				"X-Evil":                       "1",
			}),
			body: "hello",
			want: `response Content-Type="a/b" hello`,
		},
		{
			name: "a mode that is none",
			part: text(map[string]string{modeHeader: "buffered"}),
			body: "hello",
			want: "response hello",
		},
		{
			name: "not even a type",
			part: part{Type: "response", ErrorType: "My.Error", Outcome: "deployed"},
			body: "hello",
			want: "response hello",
		},
	} {
		test.run(t)
	}
}

func TestErrorReachesTheRuntimeAPI(t *testing.T) {
	t.Parallel()
	failure := part{Type: "error", ErrorType: "My.Error"}
	for _, test := range []answerTest{
		{
			name: "error",
			part: failure,
			body: `{"errorType":"x"}`,
			want: `error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="My.Error" ` +
				`{"errorType":"x"}`,
		},
		{
			name: "error without a body",
			part: failure,
			want: `error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="My.Error" `,
		},
		{
			name: "error that is not JSON",
			part: failure,
			body: "\xff",
			want: `error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="My.Error" ` +
				"\xff",
		},
		{
			name: "error without a type",
			part: part{Type: "error"},
			body: "{}",
			want: `error Content-Type="application/json" ` +
				`Lambda-Runtime-Function-Error-Type="Runtime.Unknown" {}`,
		},
		{
			name: "error type with a line end",
			part: part{Type: "error", ErrorType: "My\nX-Evil: 1"},
			body: "{}",
			want: `error Content-Type="application/json" ` +
				`Lambda-Runtime-Function-Error-Type="Runtime.Unknown" {}`,
		},
		{
			name: "error type in Greek",
			part: part{Type: "error", ErrorType: "Σφάλμα"},
			body: "{}",
			want: `error Content-Type="application/json" ` +
				`Lambda-Runtime-Function-Error-Type="Runtime.Unknown" {}`,
		},
		{
			name: "a long error type",
			part: part{Type: "error", ErrorType: strings.Repeat("E", 70<<10)},
			body: "{}",
			want: `error Content-Type="application/json" ` +
				`Lambda-Runtime-Function-Error-Type="Runtime.Unknown" {}`,
		},
		{
			name: "X-Ray cause",
			part: part{Type: "error", ErrorType: "E", XRayCause: "{\n\"message\": \"é\\n<\"}"},
			body: "{}",
			want: `error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="E" ` +
				`Lambda-Runtime-Function-Xray-Error-Cause="{\"message\":\"\\u00e9\\n\\u003c\"}" {}`,
		},
		{
			name: "X-Ray cause that is not JSON",
			part: part{Type: "error", ErrorType: "E", XRayCause: "{}\r\nX-Evil: 1"},
			body: "{}",
			want: `error Content-Type="application/json" ` +
				`Lambda-Runtime-Function-Error-Type="E" {}`,
		},
		{
			name: "a long X-Ray cause",
			part: part{Type: "error", ErrorType: "E", XRayCause: `"` + strings.Repeat("x", 64<<10) + `"`},
			body: "{}",
			want: `error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="E" {}`,
		},
	} {
		test.run(t)
	}
}

// The log has one line for each invocation. Its outcome is one word of a fixed set, the error type a field of
// its own.
func TestLogNamesTheOutcome(t *testing.T) {
	t.Parallel()
	fails := localReply{part: part{Type: "error", ErrorType: "My.Error"}, body: []byte(`{}`)}
	streams := func(last bool) *localEnd {
		return &localEnd{script: func(d *delivery) { d.publish(streamed(d, 0, last, "a", nil)) }}
	}
	replies := func(reply localReply) *localEnd {
		return &localEnd{handle: func(*delivery) localReply { return reply }}
	}
	soon := map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "1s"}
	soonAnError := map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "1s", "LIVE_LAMBDA_OFFLINE": "error"}
	tests := []struct {
		name string
		opts rigOptions
		want string
	}{
		{name: "a response", opts: rigOptions{local: replies(respond("{}"))}, want: "answered"},
		{name: "an error", opts: rigOptions{local: replies(fails)}, want: "error"},
		{name: "a stream", opts: rigOptions{local: streams(true)}, want: "stream"},
		{
			name: "a stream that is given up",
			opts: rigOptions{local: streams(false)},
			want: "failed error_type=LiveLambda.Gone",
		},
		{
			name: "for the runtime",
			opts: rigOptions{
				local: replies(respond("{}")),
				env:   map[string]string{"LIVE_LAMBDA_DELIVERY": "runtime"},
			},
			want: "runtime",
		},
		{name: "nobody there", opts: rigOptions{noLocal: true, env: soon}, want: "deployed"},
		{
			name: "nobody there, as an error",
			opts: rigOptions{noLocal: true, env: soonAnError},
			want: "failed error_type=LiveLambda.Offline",
		},
	}
	logged := regexp.MustCompile(
		`msg=invocation source=live-lambda request_id=\S+ outcome=(\S+) ms=\d+( error_type=\S+)?( ` +
			`reason=.+)?\n`)
	for _, test := range tests {
		rigTest(t, test.name, test.opts, func(r *rig) {
			r.invoke(`{}`)
			synctest.Wait()
			lines := logged.FindAllStringSubmatch(r.log.String(), -1)
			if len(lines) != 1 || lines[0][1]+lines[0][2] != test.want {
				r.t.Errorf("logged %q, want one line with %s", lines, test.want)
			}
			reason := test.want == "deployed" || strings.HasPrefix(test.want, "failed")
			if len(lines) == 1 && reason != (lines[0][3] != "") {
				r.t.Errorf("the reason is %q", lines[0][3])
			}
		})
	}
}

// If the credentials cannot be read, the environment that is sent has none, instead of empty ones.
func TestRequestContextHasNoEmptyCredentials(t *testing.T) {
	t.Parallel()
	a := newTestAPI(nil)
	a.credentials = func(context.Context) (credentials, error) { return credentials{}, errors.New("none") }
	o := config{function: map[string]any{"environment": map[string]string{"A": "b"}}}
	p := newProxy(t.Context(), o, nil, newTunnel(a, "function", false), nil)
	inv := newInvocation(&http.Response{Header: http.Header{}})
	got := string(p.context(t.Context(), inv, inv.deadline))
	if !strings.Contains(got, `"environment":{"A":"b"}`) {
		t.Errorf("got %s", got)
	}
}

func TestRequestContextSaysWhatLambdaSaysOfTheInvocation(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME":        "f",
		"AWS_LAMBDA_FUNCTION_VERSION":     "7",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
		"AWS_REGION":                      "us-east-1",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "g",
		"AWS_LAMBDA_LOG_STREAM_NAME":      "s",
	}
	tests := []struct {
		client       string
		identity     string
		wantClient   string
		wantIdentity string
	}{
		{
			client:       `{"custom":{"é":"<1>"}}`,
			identity:     ` {"cognitoIdentityId":"i"}`,
			wantClient:   `{"custom":{"\u00e9":"\u003c1\u003e"}}`,
			wantIdentity: `{"cognitoIdentityId":"i"}`,
		},
		{client: `[1]`, identity: `"text"`},
		{client: `{"a":`, identity: "{}}"},
		{client: "", identity: "", wantClient: "", wantIdentity: ""},
	}
	rigTest(t, "", rigOptions{env: env}, func(r *rig) {
		r.proxy.function["handler"] = "index.handler"
		var got eventContext
		r.local.handle = func(d *delivery) localReply {
			got = d.context
			return respond(`{"by":"local"}`)
		}
		for _, test := range tests {
			o := r.invokeRequest(invokeRequest{
				payload:         []byte(`1`),
				timeout:         time.Minute,
				qualifier:       "alias",
				traceID:         "Root=1",
				tenantID:        "t",
				clientContext:   test.client,
				cognitoIdentity: test.identity,
			})
			r.want(o, "local")
			synctest.Wait()
			want := eventContext{
				RequestID:          o.requestID,
				FunctionName:       "f",
				FunctionVersion:    "7",
				InvokedFunctionARN: "arn:aws:lambda:us-east-1:123456789012:function:function:alias",
				MemorySizeMB:       256,
				Region:             "us-east-1",
				DeadlineMs:         time.Now().Add(59 * time.Second).UnixMilli(), // a second to answer in
				TraceID:            "Root=1",
				Handler:            "index.handler",
				LogGroupName:       "g",
				LogStreamName:      "s",
				TenantID:           "t",
			}
			if test.wantClient != "" {
				want.ClientContext = json.RawMessage(test.wantClient)
				want.Identity = json.RawMessage(test.wantIdentity)
			}
			if r.api.opts.graphql && got.ClientContext != nil { // in parts it travels as it is
				got.ClientContext = asciiJSON(got.ClientContext)
			}
			if !reflect.DeepEqual(got, want) {
				r.t.Errorf("got %+v, want %+v", got, want)
			}
		}
		if strings.Contains(r.log.String(), "custom") {
			r.t.Errorf("the log has %s", r.log)
		}
	})
}

// As under SnapStart the extension's own environment has no keys: they come from the credentials.
func TestRequestContextHasTheEnvironmentWithCredentials(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{}, func(r *rig) {
		var got eventContext
		r.local.handle = func(d *delivery) localReply {
			got = d.context
			return respond(`{"by":"local"}`)
		}
		r.proxy.function["environment"] = map[string]string{"A": "é"}
		r.credentials.Store(
			&credentials{accessKeyID: "AKID", secretAccessKey: "secret", sessionToken: "token"})
		r.want(r.invoke(`1`), "local")
		synctest.Wait()
		want := map[string]string{
			"A":                     "é",
			"AWS_ACCESS_KEY_ID":     "AKID",
			"AWS_SECRET_ACCESS_KEY": "secret",
			"AWS_SESSION_TOKEN":     "token",
		}
		if !maps.Equal(got.Environment, want) {
			r.t.Errorf("environment %v, want %v", got.Environment, want)
		}
		if strings.Contains(r.log.String(), "secret") {
			r.t.Errorf("the log has %s", r.log)
		}
	})
}

// noAnswerTest is an invocation that nobody answers: what its caller gets instead, and when.
type noAnswerTest struct {
	name    string
	opts    rigOptions
	timeout time.Duration // of the function
	want    string
	took    time.Duration
	says    string // in the error, or in the log line
	told    string // to the local end
}

// run invokes the function in a rig of its own.
func (test noAnswerTest) run(t *testing.T) {
	t.Helper()
	test.opts.noLink = test.opts.before != nil || test.opts.fault != nil
	rigTest(t, test.name, test.opts, func(r *rig) {
		event := []byte(` {"n": 1.0} `)
		o := r.invokeRequest(invokeRequest{payload: event, timeout: test.timeout})
		r.want(o, test.want)
		if o.took.Round(10*time.Millisecond) != test.took {
			r.t.Errorf("it took %v, want %v", o.took, test.took)
		}
		says := test.says
		if r.api.opts.graphql {
			says = strings.Replace(says, "appsync:EventConnect", "appsync:GraphQL on ", 1)
		}
		said := string(o.payload) + r.log.String()
		if !strings.Contains(said, says) {
			r.t.Errorf("nothing says %q: %s", says, said)
		}
		if r.local != nil {
			r.local.wantTold(strings.Fields(test.told)...)
		}
		if test.want == "deployed" || test.want == "LiveLambda.Offline" {
			r.wantAtOnce(test.want, test.took)
		}
		got := r.runtime.got()
		if test.want == "deployed" && got[0] != string(event) {
			r.t.Errorf("the deployed code got %q, want %q", got[0], event)
		}
		if test.want != "deployed" && len(got) > 0 {
			r.t.Errorf("the deployed code got %q", got)
		}
	})
}

// The deployed code runs, or the caller gets an error, when LIVE_LAMBDA_ACCEPT_TIMEOUT is over or shortly
// before Lambda's own timeout, whichever comes first.
func TestInvocationDoesNotWaitForeverForALocalEnd(t *testing.T) {
	t.Parallel()
	const s = time.Second
	threeSeconds := map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "3s"}
	asAnError := map[string]string{"LIVE_LAMBDA_OFFLINE": "error", "LIVE_LAMBDA_ACCEPT_TIMEOUT": "1500ms"}
	for _, test := range []noAnswerTest{
		{
			name:    "nobody there",
			opts:    rigOptions{noLocal: true, env: threeSeconds},
			timeout: 900 * s,
			want:    "deployed",
			took:    3 * s,
			says:    "no local end accepted within 3s",
		},
		{
			name:    "nobody there, as an error",
			opts:    rigOptions{noLocal: true, env: asAnError},
			timeout: 900 * s,
			want:    "LiveLambda.Offline",
			took:    3 * s / 2,
			says:    "no local end is there to answer: no local end accepted within 1.5s",
		},
		{
			name:    "nobody there, no limit",
			opts:    rigOptions{noLocal: true},
			timeout: 60 * s,
			want:    "LiveLambda.NoAnswer",
			took:    59 * s,
			says:    "no local end (is `live-lambda local` running?) accepted the invocation within 59s",
		},
		{
			name:    "nobody there, a later limit",
			opts:    rigOptions{noLocal: true, env: threeSeconds},
			timeout: 3 * s,
			want:    "LiveLambda.NoAnswer",
			took:    2700 * time.Millisecond,
			says:    "is `live-lambda local` running?",
		},
		{
			name:    "margin of a quarter",
			opts:    rigOptions{noLocal: true},
			timeout: 1 * s,
			want:    "LiveLambda.NoAnswer",
			took:    750 * time.Millisecond,
			says:    "shortly before its deadline",
		},
		{
			name:    "margin of a tenth",
			opts:    rigOptions{noLocal: true},
			timeout: 5 * s,
			want:    "LiveLambda.NoAnswer",
			took:    4500 * time.Millisecond,
			says:    "within 4.5s",
		},
		{
			name:    "margin of a second",
			opts:    rigOptions{noLocal: true},
			timeout: 900 * s,
			want:    "LiveLambda.NoAnswer",
			took:    899 * s,
			says:    "within 14m59s",
		},
	} {
		test.run(t)
	}
}

// Handlers look at the clock, and stop in time to answer with what they have.
func TestHandlerThatStopsByTheClockIsAnswered(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{time.Second, 3 * time.Second, 15 * time.Minute} {
		stops := func(d *delivery) localReply {
			time.Sleep(time.Until(time.UnixMilli(d.context.DeadlineMs)) - 50*time.Millisecond)
			return respond(`{"by":"local"}`)
		}
		rigTest(t, timeout.String(), rigOptions{local: &localEnd{real: true, handle: stops}}, func(r *rig) {
			o := r.invokeRequest(invokeRequest{timeout: timeout})
			r.want(o, "local")
			if left := timeout - o.took; left > time.Second+100*time.Millisecond {
				r.t.Errorf("the handler was to stop %v before the timeout", left)
			}
		})
	}
}

// A function on Managed Instances may take so long. The connection that its event came over has to be
// replaced meanwhile, because AppSync ends it after a day.
func TestInvocationOfNinetyMinutesIsAnswered(t *testing.T) {
	t.Parallel()
	slow := func(d *delivery) localReply {
		time.Sleep(89 * time.Minute)
		return respond(`{"by":"local"}`)
	}
	for name, age := range map[string]time.Duration{
		"over one connection":               0,
		"over a connection that is retired": retireAfter - 45*time.Minute,
	} {
		opts := rigOptions{
			lambda: lambdaOptions{maxConcurrency: 8, timeout: lambdaManagedTimeout},
			local:  &localEnd{real: true, handle: slow},
		}
		rigTest(t, name, opts, func(r *rig) {
			time.Sleep(age)
			before, _ := r.link()
			o := r.invoke("1")
			r.want(o, "local")
			r.wantHandled(1)
			after, _ := r.link()
			if replaced := before != after; replaced != (age > 0) {
				r.t.Errorf("the connection was replaced: %v", replaced)
			}
		})
	}
}

// Once a local end has accepted, the deployed code does not run.
func TestAcceptedInvocationFailsIfItIsNotAnswered(t *testing.T) {
	t.Parallel()
	const s = time.Second
	accepts := func(d *delivery) { d.say(localReply{part: part{Type: "accepted"}}) }
	acceptsTwice := func(d *delivery) {
		accepts(d)
		time.Sleep(5 * s)
		accepts(d)
	}
	busy := func(d *delivery) {
		for range 1000 {
			accepts(d)
			time.Sleep(5 * s)
		}
	}
	asAnError := map[string]string{"LIVE_LAMBDA_OFFLINE": "error", "LIVE_LAMBDA_ACCEPT_TIMEOUT": "1500ms"}
	for _, test := range []noAnswerTest{
		{
			name:    "accepted, and silence",
			opts:    rigOptions{local: &localEnd{script: accepts}},
			timeout: 900 * s,
			want:    "LiveLambda.Gone",
			took:    15 * s,
			says:    "accepted the invocation and then was not heard of for 15s",
			told:    "timeout",
		},
		{
			name:    "accepted again, and silence",
			opts:    rigOptions{local: &localEnd{script: acceptsTwice}},
			timeout: 900 * s,
			want:    "LiveLambda.Gone",
			took:    20 * s,
			says:    "for 15s",
			told:    "timeout",
		},
		{
			name:    "accepted, and silence until the deadline",
			opts:    rigOptions{local: &localEnd{script: accepts}},
			timeout: 10 * s,
			want:    "LiveLambda.NoAnswer",
			took:    9 * s,
			says:    "accepted the invocation but did not answer within 9s",
			told:    "timeout",
		},
		{
			name:    "busy until the deadline",
			opts:    rigOptions{local: &localEnd{script: busy}, env: asAnError},
			timeout: 300 * s,
			want:    "LiveLambda.NoAnswer",
			took:    299 * s,
			says:    "accepted the invocation but did not answer",
			told:    "timeout",
		},
	} {
		test.run(t)
	}
}

// Without a link an invocation waits for five seconds, or for half of a shorter timeout. It does not wait if
// AppSync refuses, or if there is no API at all.
func TestInvocationWithoutALinkIsOfflineSoon(t *testing.T) {
	t.Parallel()
	const s = time.Second
	unplug := func(r *rig) { r.net.fail(rigAppSync, syscall.ECONNREFUSED) }
	asAnError := map[string]string{"LIVE_LAMBDA_OFFLINE": "error"}
	unconfigured := map[string]string{"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "", "LIVE_LAMBDA_OFFLINE": "error"}
	for _, test := range []noAnswerTest{
		{
			name:    "no link",
			opts:    rigOptions{before: unplug},
			timeout: 900 * s,
			want:    "deployed",
			took:    5 * s,
			says:    "no connection to AppSync within 5s",
		},
		{
			name:    "no link, a shorter timeout",
			opts:    rigOptions{before: unplug},
			timeout: 8 * s,
			want:    "deployed",
			took:    4 * s,
			says:    "no connection to AppSync within 4s",
		},
		{
			name:    "no link, a short timeout",
			opts:    rigOptions{before: unplug},
			timeout: 1 * s,
			want:    "deployed",
			took:    s / 2,
			says:    "no connection to AppSync within 500ms",
		},
		{
			name:    "no link, as an error",
			opts:    rigOptions{before: unplug, env: asAnError},
			timeout: 900 * s,
			want:    "LiveLambda.Offline",
			took:    5 * s,
			says:    "connection refused",
		},
		{
			name: "refused, as an error",
			opts: signing(
				rigOptions{fault: at("extension upgrade", status(403)).fault, env: asAnError}),
			timeout: 900 * s,
			want:    "LiveLambda.Offline",
			says:    "appsync:EventConnect",
		},
		{
			name:    "not configured, as an error",
			opts:    rigOptions{env: unconfigured},
			timeout: 900 * s,
			want:    "LiveLambda.Offline",
			says:    "LIVE_LAMBDA_APPSYNC_HTTP_HOST is not set",
		},
	} {
		test.run(t)
	}
}

// wantAtOnce checks that after an invocation that has waited in vain the next ones do not wait, for ten
// seconds, and that then one waits again, if there is anything to wait for.
func (r *rig) wantAtOnce(want string, took time.Duration) {
	r.t.Helper()
	time.Sleep(missTimeout - time.Millisecond)
	o := r.invoke(`2`)
	if o.what != want || o.took != 0 {
		r.t.Errorf("within ten seconds: %s after %v, want %s at once", o.what, o.took, want)
	}
	time.Sleep(time.Millisecond)
	o = r.invoke(`3`)
	if o.what != want || took > 0 && o.took == 0 {
		r.t.Errorf("after ten seconds: %s after %v, want %s", o.what, o.took, want)
	}
}

// With LIVE_LAMBDA_DELIVERY=runtime the deployed code gets the answer as its event, with the event's headers.
func TestRuntimeGetsTheAnswerAsItsEvent(t *testing.T) {
	t.Parallel()
	streamed := part{Type: "response", Headers: map[string]string{modeHeader: "streaming"}}
	tests := []struct {
		name   string
		answer localReply
		want   string
	}{
		{
			name:   "a response",
			answer: localReply{part: part{Type: "response"}, body: []byte("not JSON")},
			want:   "not JSON",
		},
		{name: "an empty response", answer: localReply{part: part{Type: "response"}}},
		{name: "a stream", answer: localReply{part: streamed, body: []byte("streamed")}, want: "streamed"},
	}
	for _, test := range tests {
		local := &localEnd{handle: func(*delivery) localReply { return test.answer }}
		rigTest(t, test.name, deliversToTheRuntime(local), func(r *rig) {
			r.wantAsEvent(test.want)
			r.local.wantTold("answered")
		})
	}
}

// What servers of another make answer goes to the runtime as well.
func TestRuntimeGetsABareResultAsItsEvent(t *testing.T) {
	t.Parallel()
	opts := deliversToTheRuntime(&localEnd{script: func(d *delivery) { d.publish([]byte(`[null]`)) }})
	opts.events = true
	rigTest(t, "", opts, func(r *rig) { r.wantAsEvent(`[null]`) })
}

// An error is for the caller, as without LIVE_LAMBDA_DELIVERY.
func TestErrorIsNotDeliveredToTheRuntime(t *testing.T) {
	t.Parallel()
	fails := localReply{part: part{Type: "error", ErrorType: "Runtime.MyError"}, body: []byte("{}")}
	local := &localEnd{handle: func(*delivery) localReply { return fails }}
	rigTest(t, "", deliversToTheRuntime(local), func(r *rig) {
		o := r.invoke(`{"n":1}`)
		if o.functionError == "" || o.what != "Runtime.MyError" {
			r.t.Errorf("got %s, want Runtime.MyError", o.what)
		}
		r.local.wantTold("answered")
	})
}

// deliversToTheRuntime are the options of a rig with LIVE_LAMBDA_DELIVERY=runtime.
func deliversToTheRuntime(local *localEnd) rigOptions {
	return rigOptions{env: map[string]string{"LIVE_LAMBDA_DELIVERY": "runtime"}, local: local}
}

// wantAsEvent invokes and checks the event that the deployed code gets instead of the invocation's own.
func (r *rig) wantAsEvent(want string) {
	r.t.Helper()
	o := r.invokeRequest(invokeRequest{
		payload:       []byte(`{"n":1}`),
		contentType:   "application/x-event",
		clientContext: `{"c":1}`,
	})
	r.want(o, "deployed")
	got := r.runtime.got()[0]
	if got != want {
		r.t.Errorf("the runtime got %q, want %q", got, want)
	}
	header := r.runtime.headers()[0]
	if header.Get("Content-Type") != "application/x-event" ||
		header.Get("Lambda-Runtime-Client-Context") != `{"c":1}` ||
		header.Get("Content-Length") != fmt.Sprint(len(want)) {
		r.t.Errorf("the runtime got the headers %v", header)
	}
}

func TestEventReachesTheLocalEndAsJSON(t *testing.T) {
	t.Parallel()
	tests := []struct {
		event string
		want  string
	}{
		{event: "", want: `null`},
		{event: " \n", want: `null`},
		{
			event: `{"a":1,"a":2, "big": 1E400, "n": 0.10, "s": "\ud800\u0041é😀<>&"}`,
			want: `{"a":1,"a":2,"big":1E400,"n":0.10,` +
				`"s":"\ud800\u0041\u00e9\ud83d\ude00\u003c\u003e\u0026"}`,
		},
	}
	for _, test := range tests {
		rigTest(t, fmt.Sprintf("%q", test.event), rigOptions{}, func(r *rig) {
			r.want(r.invoke(test.event), "local")
			r.local.mu.Lock()
			defer r.local.mu.Unlock()
			for _, d := range r.local.known {
				got := string(d.event)
				if r.api.opts.graphql && got != test.want { // in parts it travels as it is
					got = string(asciiJSON(d.event))
				}
				if got != test.want {
					r.t.Errorf("the local end got %s, want %s", got, test.want)
				}
			}
		})
	}
}

// What is not JSON cannot travel in a message. It does not count as a local end that is not there.
func TestEventThatIsNotJSONRunsDeployedCode(t *testing.T) {
	t.Parallel()
	for _, event := range []string{`not JSON`, `{"a":1} x`, "\"\xff\"", "\xef\xbb\xbf{}"} {
		rigTest(t, fmt.Sprintf("%q", event), rigOptions{}, func(r *rig) {
			r.want(r.invoke(event), "deployed")
			got := r.runtime.got()
			if len(got) != 1 || got[0] != event {
				r.t.Errorf("the deployed code got %q, want %q", got, event)
			}
			r.want(r.invoke(`1`), "local")
		})
	}
}
