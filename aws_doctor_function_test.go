//go:build !layer

package main

// aws_doctor_function_test.go tests what doctor says of functions that cannot be invoked, are not attached,
// or do not start.

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"
)

// attachedVariables are those that attach sets for the API of doctorFor.
func attachedVariables(more map[string]any) map[string]any {
	variables := map[string]any{
		"AWS_LAMBDA_EXEC_WRAPPER":       "/opt/live-lambda-runtime-wrapper.sh",
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "example.com",
		"LIVE_LAMBDA_STAGE":             "alice",
		"PASSWORD":                      secretValue,
	}
	maps.Copy(variables, more)
	maps.DeleteFunc(variables, func(_ string, value any) bool { return value == nil })
	return map[string]any{"Variables": variables}
}

// attachedFields are those of a function with the layer; more replace them, nil takes them away.
func attachedFields(more map[string]any) map[string]any {
	fields := map[string]any{
		"Layers": []any{
			map[string]any{"Arn": "arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:2"},
			map[string]any{"Arn": "arn:aws:lambda:eu-west-1:123456789012:layer:tracing:7"},
		},
		"Environment": attachedVariables(nil),
	}
	maps.Copy(fields, more)
	return fields
}

// doctorLines returns what doctor prints of the function orders, and whether nothing is wrong. The
// API's own steps are taken as done.
func (f *fakeAWS) doctorLines(tried bool) (string, bool) {
	t := f.t
	t.Helper()
	d, out := doctorFor(t, "https://example.com", nil)
	d.function = "orders"
	steps := functionSteps
	if tried {
		api, err := d.configure(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		d.api = newAppSync(*api, nil, d.transport, d.credentials, slog.New(slog.DiscardHandler))
		if f.here != nil {
			f.here(d)
		}
	} else {
		steps = append([]doctorStep{{
			name:  "configuration",
			needs: nil,
			try:   func(*doctor, context.Context) (string, error) { return "", errNoCLI },
		}}, steps...)
	}
	f.turn()
	ok := d.tryAll(t.Context(), steps)
	f.turn()
	if strings.Contains(out.String(), secretValue) {
		t.Errorf("a secret is shown: %s", out)
	}
	return out.String(), ok
}

// wantDoctorLine looks for a whole line of what doctor has printed of orders.
func (f *fakeAWS) wantDoctorLine(t *testing.T, want string) {
	t.Helper()
	got, ok := f.doctorLines(true)
	if !strings.Contains(got, want+"\n") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if ok != !strings.Contains(got, "FAIL") {
		t.Errorf("all well: got %t\n%s", ok, got)
	}
}

func TestDoctorSaysThatAFunctionIsFine(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", attachedFields(nil))
	f.log("/aws/lambda/orders", loggedAgo(time.Minute, goodStart))
	at := time.UnixMilli(f.logs["/aws/lambda/orders"][0].Timestamp).UTC().Format(time.RFC3339)
	got, ok := f.doctorLines(true)
	want := `ok    function         orders is Active, last update Successful
ok    layer            live-lambda-arm64:2, tracing:7
ok    function's API   the one that was tried
ok    start            the deployed code has started, last at ` + at + "\n"
	if got != want || !ok {
		t.Errorf("got %t\n%s\nwant\n%s", ok, got, want)
	}
}

func TestDoctorLooksAtTheFunctionWithoutAnAPI(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", attachedFields(nil))
	f.log("/aws/lambda/orders")
	got, ok := f.doctorLines(false)
	_, got, _ = strings.Cut(got, "\n") // that of the configuration
	want := `ok    function         orders is Active, last update Successful
ok    layer            live-lambda-arm64:2, tracing:7
-     function's API   not tried without configuration
ok    start            none in the last 1h0m0s of /aws/lambda/orders, so none that failed
`
	if got != want || ok {
		t.Errorf("got %t\n%s\nwant\n%s", ok, got, want)
	}
}

func TestDoctorSaysWhyAFunctionCannotBeInvoked(t *testing.T) {
	tests := []struct {
		name string
		make func(*fakeAWS)
		want string
	}{
		{
			name: "no such function",
			make: func(*fakeAWS) {},
			want: "FAIL  function         aws lambda get-function-configuration: " +
				"ResourceNotFoundException: Function not found: " +
				"arn:aws:lambda:eu-west-1:123456789012:function:orders; check the name, and the AWS CLI's " +
				"region and profile; a Web Function takes no layer\n" +
				notTried("function", "layer", "function's API", "start"),
		},
		{
			name: "pending",
			make: func(f *fakeAWS) {
				f.function("orders", attachedFields(map[string]any{
					"StateReasonCode": "Creating", "StateReason": "The function is being created.",
				}))
				f.functions["orders"].state = "Pending"
			},
			want: "FAIL  function         its state is Pending (Creating: The function is being created.), " +
				"so it cannot be invoked; wait until it is Active\n" +
				notTried("function", "layer", "function's API", "start"),
		},
		{
			name: "inactive, for no reason",
			make: func(f *fakeAWS) {
				f.function("orders", attachedFields(nil))
				f.functions["orders"].state = "Inactive"
			},
			want: "FAIL  function         its state is Inactive (no reason given), so it cannot be " +
				"invoked; it was idle for long: invoke it, which wakes it, and run this again\n" +
				notTried("function", "layer", "function's API", "start"),
		},
		{
			name: "an update has failed",
			make: func(f *fakeAWS) {
				f.function("orders", attachedFields(map[string]any{
					"LastUpdateStatusReasonCode": "ImageAccessDenied",
				}))
				f.functions["orders"].failed = "no access\x1b[2J"
			},
			want: "FAIL  function         its last update has failed (ImageAccessDenied: no access?[2J), " +
				"so it runs what was there before; repair that and update it again\n" +
				notTried("function", "layer", "function's API", "start"),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			tt.make(f)
			got, ok := f.doctorLines(true)
			if got != tt.want || ok {
				t.Errorf("got %t\n%s\nwant\n%s", ok, got, tt.want)
			}
		})
	}
}

func TestDoctorSaysWhatIsNotAttached(t *testing.T) {
	const past = "FAIL  layer            its variable AWS_LAMBDA_EXEC_WRAPPER is not " +
		"/opt/live-lambda-runtime-wrapper.sh, so its runtime goes past the layer: run live-lambda attach"
	without := func(name string) map[string]any {
		return attachedFields(map[string]any{"Environment": attachedVariables(map[string]any{name: nil})})
	}
	with := func(name string, value any) map[string]any {
		return attachedFields(map[string]any{"Environment": attachedVariables(map[string]any{name: value})})
	}
	tests := []struct {
		name   string
		fields map[string]any
		want   string
	}{
		{
			name:   "no layer",
			fields: attachedFields(map[string]any{"Layers": nil}),
			want:   "FAIL  layer            it has no layer: run live-lambda attach",
		},
		{
			name: "the layer is gone",
			fields: with("LIVE_LAMBDA_ATTACHED",
				`{"layer":"arn:aws:lambda:eu-west-1:123456789012:layer:other:1","before":{}}`),
			want: "FAIL  layer            arn:aws:lambda:eu-west-1:123456789012:layer:other:1, which " +
				"attach has added, is gone: run live-lambda attach again",
		},
		{name: "no wrapper", fields: without("AWS_LAMBDA_EXEC_WRAPPER"), want: past},
		{name: "another wrapper", fields: with("AWS_LAMBDA_EXEC_WRAPPER", "/opt/"+secretValue), want: past},
		{
			name: "Lambda Web Adapter",
			fields: attachedFields(map[string]any{"Environment": attachedVariables(map[string]any{
				"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap", adapterVariable: "http://127.0.0.1:8082",
			})}),
			want: "ok    layer            live-lambda-arm64:2, tracing:7",
		},
		{
			name: "an OS-only runtime takes no wrapper",
			fields: attachedFields(map[string]any{
				"Runtime":     "provided.al2023",
				"Environment": attachedVariables(map[string]any{"AWS_LAMBDA_EXEC_WRAPPER": nil}),
			}),
			want: "ok    layer            live-lambda-arm64:2, tracing:7",
		},
		{
			name:   "an old runtime",
			fields: attachedFields(map[string]any{"Runtime": "python3.7"}),
			want: "FAIL  layer            its runtime python3.7 starts no wrapper " +
				"(AWS_LAMBDA_EXEC_WRAPPER), so the function would not use the proxy: choose a newer " +
				"runtime first",
		},
		{
			name: "an image",
			fields: attachedFields(map[string]any{
				"PackageType": "Image", "Runtime": nil, "Layers": nil, "Environment": nil,
			}),
			want: "note  layer            not known of a container image: docs/DEPLOY.md says under " +
				"Container images what has to be in it\n" +
				"note  function's API   not known of a container image, which may set variables itself",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", tt.fields)
			f.wantDoctorLine(t, tt.want)
		})
	}
}

func TestDoctorSaysThatAFunctionHasAnotherAPI(t *testing.T) {
	const tried = ", and doctor has tried example.com/event, realtime host example.com, channel " +
		"/live-lambda/requests/alice: attach it to this one, or give doctor and local the function's"
	tests := []struct {
		name      string
		variables map[string]any
		want      string
	}{
		{
			name:      "none",
			variables: map[string]any{"LIVE_LAMBDA_APPSYNC_HTTP_HOST": nil},
			want: "FAIL  function's API   its variable LIVE_LAMBDA_APPSYNC_HTTP_HOST is not set: run " +
				"live-lambda attach",
		},
		{
			name:      "another host",
			variables: map[string]any{"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "example.org"},
			want: "FAIL  function's API   it has example.org/event, realtime host example.org, channel " +
				"/live-lambda/requests/alice" + tried,
		},
		{
			name:      "another stage",
			variables: map[string]any{"LIVE_LAMBDA_STAGE": nil},
			want: "FAIL  function's API   it has example.com/event, realtime host example.com, channel " +
				"/live-lambda/requests" + tried,
		},
		{
			name:      "another protocol",
			variables: map[string]any{"LIVE_LAMBDA_APPSYNC_PROTOCOL": "graphql"},
			want: "FAIL  function's API   it has example.com/graphql, realtime host example.com, channel " +
				"/live-lambda/requests/alice" + tried,
		},
		{
			name: "another region",
			variables: map[string]any{
				"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "x.appsync-api.us-east-1.amazonaws.com"},
			want: "FAIL  function's API   its requests are signed for eu-west-1, and its API is in " +
				"us-east-1: set its variable LIVE_LAMBDA_APPSYNC_REGION=us-east-1",
		},
		{
			name:      "off",
			variables: map[string]any{"LIVE_LAMBDA": "off"},
			want: "FAIL  function's API   its variable LIVE_LAMBDA is off, so the layer does nothing: take " +
				"it out",
		},
		{
			name:      "the same, and nothing is said of variables that are not the layer's",
			variables: map[string]any{"AWS_LAMBDA_LOG_LEVEL": secretValue},
			want:      "ok    function's API   the one that was tried",
		},
		{
			name:      "not valid",
			variables: map[string]any{"LIVE_LAMBDA_STAGE": "a_b"},
			want: `FAIL  function's API   LIVE_LAMBDA_STAGE is "a_b", not 1 to 50 letters, digits and ` +
				`inner dashes`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders",
				attachedFields(map[string]any{"Environment": attachedVariables(tt.variables)}))
			f.wantDoctorLine(t, tt.want)
		})
	}
}

// It has the stage alice here.
func TestDoctorComparesTheFunctionsSettings(t *testing.T) {
	future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for _, tt := range []struct {
		name string
		its  map[string]any // variables
		keys []string       // here
		here endpoint
		want string
	}{
		{
			name: "all are on",
			its: map[string]any{
				keyVariable:         testKey,
				"LIVE_LAMBDA_ROUTE": "x-dev",
				"LIVE_LAMBDA_MODE":  "mirror",
				"LIVE_LAMBDA_UNTIL": future,
				"LIVE_LAMBDA_STAGE": nil, // the events tell it
			},
			keys: []string{otherKey, testKey},
			here: endpoint{route: "X-Dev"},
			want: `ok    function's API   the one that was tried, sealed with the key 630dcd29, for ` +
				`requests with "x-dev: alice", as copies only (LIVE_LAMBDA_MODE=mirror), whose answers are ` +
				`not used, until ` + future,
		},
		{
			name: "its key is not here",
			its:  map[string]any{keyVariable: testKey},
			keys: []string{otherKey},
			want: "FAIL  function's API   its messages are sealed with the key 630dcd29, which is not set " +
				"here: give it with --key or LIVE_LAMBDA_KEY",
		},
		{
			name: "no key is here",
			its:  map[string]any{keyVariable: testKey},
			want: "FAIL  function's API   its messages are sealed with the key 630dcd29, which is not set " +
				"here: give it with --key or LIVE_LAMBDA_KEY",
		},
		{
			name: "it has no key",
			keys: []string{testKey},
			want: "FAIL  function's API   it has no LIVE_LAMBDA_KEY, and what is not sealed with the key " +
				"630dcd29 is dropped here: set that key of the function too, or none here",
		},
		{
			name: "its key is none",
			its:  map[string]any{keyVariable: secretValue},
			want: "FAIL  function's API   LIVE_LAMBDA_KEY is not 32 bytes in unpadded base64url, as " +
				"`live-lambda key` prints them",
		},
		{
			name: "another route",
			its:  map[string]any{"LIVE_LAMBDA_ROUTE": "x-dev"},
			here: endpoint{route: "x-who"},
			want: "FAIL  function's API   its LIVE_LAMBDA_ROUTE is x-dev, and here it is x-who: give " +
				"--route x-dev",
		},
		{
			name: "no route at the function",
			here: endpoint{route: "x-who"},
			want: "FAIL  function's API   it has no LIVE_LAMBDA_ROUTE, so all its requests come here, and " +
				"x-who is set here: set it of the function too, or not here",
		},
		{
			name: "a route and no stage",
			its:  map[string]any{"LIVE_LAMBDA_ROUTE": "x-dev", "LIVE_LAMBDA_STAGE": nil},
			here: endpoint{stage: "-"},
			want: "FAIL  function's API   with its LIVE_LAMBDA_ROUTE=x-dev nothing comes to an end without " +
				`a stage: give --stage NAME, and send the header "x-dev: NAME"`,
		},
		{
			name: "it is over",
			its:  map[string]any{"LIVE_LAMBDA_UNTIL": "2026-01-02T18:00:00+01:00"},
			want: "FAIL  function's API   its LIVE_LAMBDA_UNTIL has passed, at 2026-01-02T18:00:00+01:00, " +
				"so the deployed code answers: set a later time, or take it out",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", attachedFields(map[string]any{"Environment": attachedVariables(tt.its)}))
			f.log("/aws/lambda/orders")
			f.here = func(d *doctor) {
				d.keys = sealersOf(tt.keys...)
				d.api.route = tt.here.route
				if tt.here.stage != "" {
					d.api.stage = ""
				}
			}
			f.wantDoctorLine(t, tt.want)
		})
	}
}

func TestDoctorDoesNotGuessVariablesThatCannotBeRead(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", attachedFields(map[string]any{
		"Environment": map[string]any{"Error": map[string]any{"ErrorCode": "AccessDeniedException"}},
	}))
	const unreadable = "its variables cannot be read (AccessDeniedException), and an update would lose " +
		"them; it takes kms:Decrypt on the function's key\n"
	f.wantDoctorLine(t, "FAIL  layer            "+unreadable+"FAIL  function's API   "+
		strings.TrimSuffix(unreadable, "\n"))
}

// ---- the log ----

// loggedAgo is an event of one log stream, so long ago.
func loggedAgo(ago time.Duration, message string) fakeLogEvent {
	return fakeLogEvent{LogStreamName: "one", Timestamp: time.Now().Add(-ago).UnixMilli(), Message: message}
}

func (f *fakeAWS) log(group string, events ...fakeLogEvent) { f.logs[group] = events }

// What Lambda writes. https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
const (
	goodStart = "REPORT RequestId: 8f5 Duration: 7.01 ms\tBilled Duration: 8 ms\tMemory Size: 128 MB\t" +
		"Max Memory Used: 64 MB\tInit Duration: 141.32 ms\t\n"
	warmReport = "REPORT RequestId: 8f6 Duration: 1.01 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\t\n"
	initError  = "INIT_REPORT Init Duration: 1236.04 ms\tPhase: init\tStatus: error\tError Type: "
	initJSON   = `{"time":"2026-01-01T00:00:00.000Z","type":"platform.initReport","record":` +
		`{"initializationType":"on-demand","phase":"init","metrics":{"durationMs":1236.04},`
)

const doesNotStart = ": the deployed code does not start, so nothing reaches a local end; repair its " +
	"init, or load dependencies inside of the handler (docs/DEPLOY.md: The deployed code must start)"

// startCase is a log, and what doctor says of it. TIME0, TIME1 and so on stand for the times of its events.
type startCase struct {
	name   string
	events []fakeLogEvent
	want   string
}

func testStarts(t *testing.T, tests []startCase) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", attachedFields(nil))
			f.log("/aws/lambda/orders", tt.events...)
			want := tt.want
			for i, e := range tt.events {
				at := time.UnixMilli(e.Timestamp).UTC().Format(time.RFC3339)
				want = strings.ReplaceAll(want, fmt.Sprint("TIME", i), at)
			}
			f.wantDoctorLine(t, want)
		})
	}
}

func TestDoctorNamesTheFailureOfTheDeployedCode(t *testing.T) {
	testStarts(t, []startCase{
		{
			name:   "exit",
			events: []fakeLogEvent{loggedAgo(time.Minute, initError+"Runtime.ExitError\n")},
			want:   "FAIL  start            Runtime.ExitError at TIME0" + doesNotStart,
		},
		{
			name: "import, which the report does not name",
			events: []fakeLogEvent{
				loggedAgo(2*time.Minute,
					"[ERROR] Runtime.ImportModuleError: Unable to import module 'app': No "+
						"module named '"+secretValue+"'\nTraceback (most recent call last):"),
				loggedAgo(time.Minute, initError+"Runtime.Unknown\n"),
			},
			want: "FAIL  start            Runtime.ImportModuleError at TIME1" + doesNotStart,
		},
		{
			name: "import, and no report",
			events: []fakeLogEvent{
				loggedAgo(time.Minute, "2026-01-01T00:00:00.000Z\tundefined\tERROR\tUncaught Exception \t"+
					`{"errorType":"Runtime.ImportModuleError","errorMessage":"`+secretValue+`"}`),
			},
			want: "FAIL  start            Runtime.ImportModuleError at TIME0" + doesNotStart,
		},
		{
			name: "another environment's does not name it",
			events: []fakeLogEvent{
				{
					LogStreamName: "two", Timestamp: time.Now().Add(-2 * time.Minute).UnixMilli(),
					Message: "[ERROR] Runtime.HandlerNotFound: Handler 'h' missing on module 'app'",
				},
				loggedAgo(time.Minute, initError+"Runtime.ExitError\n"),
			},
			want: "FAIL  start            Runtime.ExitError at TIME1" + doesNotStart,
		},
		{
			name:   "a type that is none",
			events: []fakeLogEvent{loggedAgo(time.Minute, initError+"\x1b[2J"+secretValue+"\n")},
			want:   "FAIL  start            Runtime.Unknown at TIME0" + doesNotStart,
		},
		{
			name: "JSON",
			events: []fakeLogEvent{
				loggedAgo(time.Minute,
					initJSON+`"status":"error","errorType":"Runtime.UserCodeSyntaxError"}}`),
			},
			want: "FAIL  start            Runtime.UserCodeSyntaxError at TIME0" + doesNotStart,
		},
		{
			name: "JSON with a type that is none",
			events: []fakeLogEvent{
				loggedAgo(time.Minute, initJSON+`"status":"failure","errorType":"`+secretValue+` is it"}}`),
			},
			want: "FAIL  start            Runtime.Unknown at TIME0" + doesNotStart,
		},
		{
			name: "a restore",
			events: []fakeLogEvent{
				loggedAgo(time.Minute, "RESTORE_REPORT Restore Duration: 19.11 ms\tStatus: error\t"+
					"Error Type: Runtime.ExitError\n"),
			},
			want: "FAIL  start            Runtime.ExitError at TIME0" + doesNotStart,
		},
		{
			name: "a timeout",
			events: []fakeLogEvent{
				loggedAgo(time.Minute,
					"INIT_REPORT Init Duration: 9999.79 ms\tPhase: init\tStatus: timeout\n"),
			},
			want: "FAIL  start            timeout at TIME0: the deployed code takes longer to start than " +
				"Lambda allows, and until then nothing reaches a local end; load dependencies inside of " +
				"the handler (docs/DEPLOY.md: The deployed code must start)",
		},
	})
}

func TestDoctorSaysThatAnExtensionFailed(t *testing.T) {
	testStarts(t, []startCase{
		{
			name:   "a crash",
			events: []fakeLogEvent{loggedAgo(time.Minute, initError+"Extension.Crash\n")},
			want: "FAIL  start            Extension.Crash at TIME0: an extension does not start, so " +
				"nothing reaches a local end; the log /aws/lambda/orders says which, and why",
		},
		{
			name: "the proxy's port is taken",
			events: []fakeLogEvent{
				loggedAgo(2*time.Minute,
					"EXTENSION\tName: live-lambda-extension\tState: InitError\tEvents: []\t"+
						"Error Type: LiveLambda.PortTaken\n"),
				loggedAgo(time.Minute, initError+"Extension.InitError\n"),
			},
			want: "FAIL  start            LiveLambda.PortTaken at TIME1: another program of the function " +
				"has the proxy's port, so nothing reaches a local end; set its variable LRAP_LISTENER_PORT " +
				"to one that is free",
		},
	})
}

func TestDoctorSaysThatTheDeployedCodeHasStarted(t *testing.T) {
	const started = "ok    start            the deployed code has started, last at "
	testStarts(t, []startCase{
		{
			name: "after a repair",
			events: []fakeLogEvent{
				loggedAgo(2*time.Minute, initError+"Runtime.ExitError\n"), loggedAgo(time.Minute, goodStart),
			},
			want: started + "TIME1; before that Runtime.ExitError at TIME0",
		},
		{
			name: "but not since",
			events: []fakeLogEvent{
				loggedAgo(2*time.Minute, goodStart), loggedAgo(time.Minute, initError+"Runtime.ExitError\n"),
			},
			want: "FAIL  start            Runtime.ExitError at TIME1" + doesNotStart,
		},
		{
			name: "with provisioned concurrency",
			events: []fakeLogEvent{
				loggedAgo(time.Minute, "INIT_REPORT Init Duration: 423.45 ms\n"),
			},
			want: started + "TIME0",
		},
		{
			name:   "JSON",
			events: []fakeLogEvent{loggedAgo(time.Minute, initJSON+`"status":"success"}}`)},
			want:   started + "TIME0",
		},
		{
			name: "JSON, by the report of its first invocation, which failed",
			events: []fakeLogEvent{
				loggedAgo(time.Minute,
					`{"type":"platform.report","record":{"status":"error","errorType":"E",`+
						`"metrics":{"durationMs":7.01,"initDurationMs":141.32}}}`),
			},
			want: started + "TIME0",
		},
		{
			name: "longer than an hour ago",
			events: []fakeLogEvent{
				loggedAgo(2*time.Hour, initError+"Runtime.ExitError\n"), loggedAgo(time.Minute, warmReport),
			},
			want: "ok    start            none in the last 1h0m0s of /aws/lambda/orders, so none that failed",
		},
		{
			name: "what a handler prints is no start",
			events: []fakeLogEvent{
				loggedAgo(4*time.Minute, "got INIT_REPORT Status: error Error Type: Runtime.ExitError"),
				loggedAgo(3*time.Minute, `{"initDurationMs":1,"type":"other"}`),
				loggedAgo(2*time.Minute, `{"initDurationMs":`),
				loggedAgo(time.Minute, "it said Runtime.ImportModuleError"),
			},
			want: "ok    start            none in the last 1h0m0s of /aws/lambda/orders, so none that failed",
		},
	})
}

// CloudWatch Logs gives the oldest events first, and only so many are read.
func TestDoctorReadsTheNewestOfMany(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", attachedFields(nil))
	var events []fakeLogEvent
	for range maxLogEvents + 1 {
		events = append(events, loggedAgo(30*time.Minute, initError+"Runtime.ExitError\n"))
	}
	f.log("/aws/lambda/orders", append(events, loggedAgo(time.Minute, goodStart))...)
	got, ok := f.doctorLines(true)
	if !ok || !strings.Contains(got, "ok    start            the deployed code has started, last at ") {
		t.Errorf("got %t\n%s", ok, got)
	}
}

func TestDoctorReadsNoLessThanTheLastMoments(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", attachedFields(nil))
	var events []fakeLogEvent
	for range maxLogEvents + 1 {
		events = append(events, loggedAgo(-time.Hour, goodStart)) // in any window
	}
	f.log("/aws/lambda/orders", events...)
	got, ok := f.doctorLines(true)
	if !ok || len(f.calls) != 4 {
		t.Errorf("got %t, %d calls\n%s", ok, len(f.calls), got)
	}
}

func TestDoctorNotesThatItCannotReadTheLog(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", attachedFields(nil))
	f.wantDoctorLine(t,
		"note  start            not known: there is no log /aws/lambda/orders, so the function "+
			"has not run yet, or its role may not write logs")
	f.denied = "filter-log-events"
	f.wantDoctorLine(t, "note  start            not known: to read the log, grant logs:FilterLogEvents on "+
		"/aws/lambda/orders")
	got, ok := f.doctorLines(true)
	if !ok {
		t.Errorf("a note is taken for a failure:\n%s", got)
	}
}

func TestDoctorReadsTheLogThatTheFunctionWritesTo(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", attachedFields(map[string]any{
		"LoggingConfig": map[string]any{"LogFormat": "JSON", "LogGroup": "/shop/all"},
	}))
	f.log("/shop/all")
	f.wantDoctorLine(t, "ok    start            none in the last 1h0m0s of /shop/all, so none that failed")
}

// The whole command: the function's steps follow the API's, and count for the exit status.
func TestDoctorCommandLooksAtAFunction(t *testing.T) {
	f := newFakeAWS(t)
	addr := startDoctorAPI(t)
	base := "http://" + addr
	args := []string{"orders", "--host", base, "--region", "eu-west-1", "--api-key",
		"da2-" + secretValue, "--profile", "dev"}
	f.function("orders", attachedFields(map[string]any{
		"Environment": attachedVariables(
			map[string]any{hostVariable: base, "LIVE_LAMBDA_STAGE": nil}),
	}))
	f.log("/aws/lambda/orders", loggedAgo(time.Minute, goodStart))
	r := f.run("doctor", args...)
	if r.status != 0 || r.err != "" || !strings.Contains(r.out, "\nok    function's API   the one that") {
		t.Errorf("got %+v", r)
	}
	f.log("/aws/lambda/orders", loggedAgo(time.Minute, initError+"Runtime.ExitError\n"))
	r = f.run("doctor", args...)
	if r.status != 1 || !strings.Contains(r.out, "\nFAIL  start            Runtime.ExitError at ") {
		t.Errorf("got %+v", r)
	}
	for _, call := range f.calls {
		if !strings.HasSuffix(call.String(), "--output json --profile dev") {
			t.Errorf("got %s", call)
		}
	}
	if strings.Index(r.out, "round trip") > strings.Index(r.out, "FAIL  start") {
		t.Errorf("the function comes before its API:\n%s", r.out)
	}
}
