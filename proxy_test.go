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

// What a local end answers, and what the Runtime API is told.
func TestAnswers(t *testing.T) {
	const (
		object = `{"a":1, "big":12345678901234567890.00, "<é😀>":"\ud800"}`
	)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	text := func(headers map[string]string) part { return part{Type: "response", Headers: headers} }
	plain := text(map[string]string{"Content-Type": "text/plain"})
	failure := part{Type: "error", ErrorType: "My.Error"}
	tests := []struct {
		name string
		part part
		body string
		want string
	}{
		{
			name: "JSON",
			part: text(map[string]string{"Content-Type": "application/json"}),
			body: object,
			want: `response Content-Type="application/json" ` + object,
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
	}
	for _, tt := range tests {
		answer := func(d *delivery) localReply {
			body, encoding := compress([]byte(tt.body))
			tt.part.Encoding = encoding
			return localReply{part: tt.part, body: body}
		}
		rigTest(t, tt.name, rigOptions{local: &localEnd{handle: answer}}, func(r *rig) {
			o := r.invoke(object)
			if got := r.told(o); got != tt.want {
				r.t.Errorf("the Runtime API was told\n%.300q, want\n%.300q", got, tt.want)
			}
			r.wantHandled(1)
			r.local.wantTold("answered")
			n := strings.Count(
				r.log.String(),
				"msg=invocation source=live-lambda request_id="+o.requestID+" outcome=")
			if n != 1 {
				r.t.Errorf("%d lines in the log: %s", n, r.log)
			}
		})
	}
}

// The log has one line for each invocation. Its outcome is one word of a fixed set, the error type a field of
// its own.
func TestLogNamesTheOutcome(t *testing.T) {
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

// Where the credentials cannot be read, the environment that is sent has none, instead of empty ones.
func TestRequestContextWithoutCredentials(t *testing.T) {
	a := newTestAPI(nil)
	a.credentials = func(context.Context) (credentials, error) { return credentials{}, errors.New("none") }
	o := proxyOptions{
		function: map[string]any{"environment": map[string]string{"A": "b"}},
		addKeys:  a.addKeys,
	}
	p := newProxy(t.Context(), o, nil, newTunnel(a, false), nil)
	got := string(
		p.context(t.Context(), newInvocation(&http.Response{Header: http.Header{}})))
	if !strings.Contains(
		got, `"environment":{"A":"b"}`) {
		t.Errorf("got %s", got)
	}
}

func TestRequestContext(t *testing.T) {
	env := map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME":        "f",
		"AWS_LAMBDA_FUNCTION_VERSION":     "7",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
		"AWS_REGION":                      "us-east-1",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "g",
		"AWS_LAMBDA_LOG_STREAM_NAME":      "s",
	}
	rigTest(t, "", rigOptions{env: env}, func(r *rig) {
		r.proxy.function["handler"] = "index.handler"
		var got eventContext
		r.local.handle = func(d *delivery) localReply { got = d.context; return respond(`{"by":"local"}`) }
		for _, tt := range []struct{ client, identity, wantClient, wantIdentity string }{
			{
				client:       `{"custom":{"é":"<1>"}}`,
				identity:     ` {"cognitoIdentityId":"i"}`,
				wantClient:   `{"custom":{"\u00e9":"\u003c1\u003e"}}`,
				wantIdentity: `{"cognitoIdentityId":"i"}`,
			},
			{client: `[1]`, identity: `"text"`},
			{client: `{"a":`, identity: "{}}"},
			{client: "", identity: "", wantClient: "", wantIdentity: ""},
		} {
			o := r.invokeRequest(
				invokeRequest{
					payload:         []byte(`1`),
					timeout:         time.Minute,
					qualifier:       "alias",
					traceID:         "Root=1",
					tenantID:        "t",
					clientContext:   tt.client,
					cognitoIdentity: tt.identity,
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
				DeadlineMs:         time.Now().Add(time.Minute).UnixMilli(),
				TraceID:            "Root=1",
				Handler:            "index.handler",
				LogGroupName:       "g",
				LogStreamName:      "s",
				TenantID:           "t",
			}
			if tt.wantClient != "" {
				want.ClientContext, want.Identity = json.RawMessage(tt.wantClient),
					json.RawMessage(tt.wantIdentity)
			}
			if r.api.opts.graphql && got.ClientContext != nil { // in parts it travels as it is
				got.ClientContext = asciiJSON(got.ClientContext)
			}
			if !reflect.DeepEqual(got, want) {
				r.t.Errorf("got %+v, want %+v", got, want)
			}
		}
		r.proxy.function["environment"] = map[string]string{"A": "é"} // as under SnapStart, without keys
		r.credentials.Store(
			&credentials{accessKeyID: "AKID", secretAccessKey: "secret", sessionToken: "token"})
		r.want(r.invoke(`1`), "local")
		synctest.Wait()
		if want := map[string]string{
			"A":                     "é",
			"AWS_ACCESS_KEY_ID":     "AKID",
			"AWS_SECRET_ACCESS_KEY": "secret",
			"AWS_SESSION_TOKEN":     "token",
		}; !maps.Equal(got.Environment, want) {
			r.t.Errorf("environment %v, want %v", got.Environment, want)
		}
		if log := r.log.String(); strings.Contains(log, "secret") || strings.Contains(log, "custom") {
			r.t.Errorf("the log has %s", log)
		}
	})
}

// When nobody answers: what the caller gets instead, and when.
func TestNoAnswer(t *testing.T) {
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
	unplug := func(r *rig) { r.net.fail(rigAppSync, syscall.ECONNREFUSED) }
	unconfigured := map[string]string{"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "", "LIVE_LAMBDA_OFFLINE": "error"}
	offlineErrors, threeSeconds := map[string]string{"LIVE_LAMBDA_OFFLINE": "error"},
		map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "3s"}
	both := map[string]string{"LIVE_LAMBDA_OFFLINE": "error", "LIVE_LAMBDA_ACCEPT_TIMEOUT": "1500ms"}
	tests := []struct {
		name    string
		opts    rigOptions
		timeout time.Duration // of the function
		want    string
		took    time.Duration
		says    string // in the error, or in the log line
		told    string // to the local end
	}{
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
			opts:    rigOptions{noLocal: true, env: both},
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
			opts:    rigOptions{local: &localEnd{script: busy}, env: both},
			timeout: 300 * s,
			want:    "LiveLambda.NoAnswer",
			took:    299 * s,
			says:    "accepted the invocation but did not answer",
			told:    "timeout",
		},
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
			opts:    rigOptions{before: unplug, env: offlineErrors},
			timeout: 900 * s,
			want:    "LiveLambda.Offline",
			took:    5 * s,
			says:    "connection refused",
		},
		{
			name:    "refused, as an error",
			opts:    rigOptions{fault: at("extension upgrade", status(403)).fault, env: offlineErrors},
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
	}
	for _, tt := range tests {
		tt.opts.noLink = tt.opts.before != nil || tt.opts.fault != nil
		rigTest(t, tt.name, tt.opts, func(r *rig) {
			event := []byte(` {"n": 1.0} `)
			o := r.invokeRequest(invokeRequest{payload: event, timeout: tt.timeout})
			r.want(o, tt.want)
			if o.took.Round(s/100) != tt.took {
				r.t.Errorf("it took %v, want %v", o.took, tt.took)
			}
			says := tt.says
			if r.api.opts.graphql {
				says = strings.Replace(says, "appsync:EventConnect", "appsync:GraphQL on ", 1)
			}
			if said := string(o.payload) + r.log.String(); !strings.Contains(said, says) {
				r.t.Errorf("nothing says %q: %s", says, said)
			}
			if r.local != nil {
				r.local.wantTold(strings.Fields(tt.told)...)
			}
			if tt.want == "deployed" || tt.want == "LiveLambda.Offline" {
				r.wantAtOnce(tt.want, tt.took)
			}
			if got := r.runtime.got(); tt.want == "deployed" && got[0] != string(event) {
				r.t.Errorf("the deployed code got %q, want %q", got[0], event)
			} else if tt.want != "deployed" && len(got) > 0 {
				r.t.Errorf("the deployed code got %q", got)
			}
		})
	}
}

// wantAtOnce checks that invocations do not wait for ten seconds after one has waited in vain, and then do.
func (r *rig) wantAtOnce(want string, took time.Duration) {
	r.t.Helper()
	time.Sleep(missTimeout - time.Millisecond)
	if o := r.invoke(`2`); o.what != want || o.took != 0 {
		r.t.Errorf("within ten seconds: %s after %v, want %s at once", o.what, o.took, want)
	}
	time.Sleep(time.Millisecond)
	if o := r.invokeRequest(invokeRequest{payload: []byte(`3`)}); o.what != want || took > 0 && o.took == 0 {
		r.t.Errorf("after ten seconds: %s after %v, want %s", o.what, o.took, want)
	}
}

// With LIVE_LAMBDA_DELIVERY=runtime the deployed code gets the answer as its event, with the event's headers.
func TestDeliveryToTheRuntime(t *testing.T) {
	opts := rigOptions{env: map[string]string{"LIVE_LAMBDA_DELIVERY": "runtime"}}
	tests := []struct {
		name   string
		handle func(*delivery) localReply
		script func(*delivery)
		want   string // what the runtime got, or the error
	}{
		{
			name: "a response",
			handle: func(*delivery) localReply {
				return localReply{part: part{Type: "response"}, body: []byte("not JSON")}
			},
			want: "not JSON",
		},
		{
			name: "an empty response",
			handle: func(*delivery) localReply {
				return localReply{part: part{Type: "response"}}
			},
		},
		{
			name: "a stream",
			handle: func(*delivery) localReply {
				return localReply{
					part: part{Type: "response", Headers: map[string]string{modeHeader: "streaming"}},
					body: []byte("streamed"),
				}
			},
			want: "streamed",
		},
		{name: "a bare result", script: func(d *delivery) { d.publish([]byte(`[null]`)) }, want: "[null]"},
		{
			name: "an error",
			handle: func(*delivery) localReply {
				return localReply{part: part{Type: "error", ErrorType: "Runtime.MyError"}, body: []byte("{}")}
			},
			want: "error Runtime.MyError",
		},
	}
	for _, tt := range tests {
		opts.local, opts.events = &localEnd{handle: tt.handle, script: tt.script}, tt.script != nil
		rigTest(t, tt.name, opts, func(r *rig) {
			o := r.invokeRequest(
				invokeRequest{
					payload:       []byte(`{"n":1}`),
					contentType:   "application/x-event",
					clientContext: `{"c":1}`,
				})
			got := "error " + o.what
			if o.functionError == "" {
				r.want(o, "deployed")
				got = r.runtime.got()[0]
			}
			if got != tt.want {
				r.t.Errorf("the runtime got %q, want %q", got, tt.want)
			}
			h := r.runtime.headers()
			if o.functionError == "" &&
				(h[0].Get("Content-Type") != "application/x-event" ||
					h[0].Get("Lambda-Runtime-Client-Context") != `{"c":1}` ||
					h[0].Get("Content-Length") != fmt.Sprint(len(got))) {
				r.t.Errorf("the runtime got the headers %v", h[0])
			}
			if tt.script == nil {
				r.local.wantTold("answered")
			}
		})
	}
}

// What is not JSON cannot travel in a message.
func TestEvents(t *testing.T) {
	for _, tt := range []struct{ event, want, local string }{
		{want: "local", local: `null`},
		{event: " \n", want: "local", local: `null`},
		{
			event: `{"a":1,"a":2, "big": 1E400, "n": 0.10, "s": "\ud800\u0041é😀<>&"}`,
			want:  "local",
			local: `{"a":1,"a":2,"big":1E400,"n":0.10,` +
				`"s":"\ud800\u0041\u00e9\ud83d\ude00\u003c\u003e\u0026"}`,
		},
		{event: `not JSON`, want: "deployed"},
		{event: `{"a":1} x`, want: "deployed"},
		{event: "\"\xff\"", want: "deployed"},
		{event: "\xef\xbb\xbf{}", want: "deployed"},
	} {
		rigTest(t, fmt.Sprintf("%q", tt.event), rigOptions{}, func(r *rig) {
			r.want(r.invoke(tt.event), tt.want)
			if tt.want == "deployed" {
				if got := r.runtime.got(); len(got) != 1 || got[0] != tt.event {
					r.t.Errorf("the deployed code got %q, want %q", got, tt.event)
				}
				r.want(r.invoke(`1`), "local") // this does not count as a local end that is not there
				return
			}
			r.local.mu.Lock()
			defer r.local.mu.Unlock()
			for _, d := range r.local.known {
				// in parts it travels as it is
				got := string(d.event)
				if got != tt.local &&
					!(r.api.opts.graphql && string(asciiJSON(d.event)) == tt.local) {
					r.t.Errorf("the local end got %s, want %s", got, tt.local)
				}
			}
		})
	}
}
