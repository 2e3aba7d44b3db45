//go:build !layer

package main

// aws_send_test.go tests the command send against the fake of the AWS CLI.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withInvoked returns a fake with the function orders, which answers {"ok":true}.
func withInvoked(t *testing.T, variables map[string]any) *fakeAWS {
	f := newFakeAWS(t)
	t.Setenv("TMPDIR", t.TempDir())
	f.function("orders", map[string]any{"Environment": map[string]any{"Variables": variables}})
	f.invoked = fakeInvocation{answer: `{"ok":true}`}
	return f
}

// invokeCall is how `aws` is called for an invocation, but for the file that the answer goes into.
const invokeCall = "lambda invoke FILE --function-name orders --payload fileb:///dev/stdin --log-type Tail " +
	"--cli-read-timeout 5460"

// called are the calls of `aws`, with FILE for the file that an answer goes into.
func (f *fakeAWS) called() []string {
	var calls []string
	for _, c := range f.calls {
		args := c.args
		if args[1] == "invoke" && strings.HasPrefix(args[2], os.Getenv("TMPDIR")) {
			args = append([]string{"lambda", "invoke", "FILE"}, args[3:]...)
		}
		calls = append(calls, strings.Join(args, " "))
	}
	return calls
}

// withFile returns the name of a file with this text.
func withFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestSendInvokesOnceWithTheEvent(t *testing.T) {
	const sample = "--event step-functions"
	const sampleText = `{"input":{"orderId":"1001","total":42.5},"taskToken":"EXAMPLETASKTOKEN="}`
	file := withFile(t, `{"n": 1.0, "a":"ü"}`)
	kept := withFile(t, `{"event_payload":{"n":2.0},"context":{"function_name":"other"}}`)
	tests := []struct {
		name, args, stdin string
		call              string // what follows invokeCall
		event             string
	}{
		{name: "standard input", args: "orders", stdin: ` {"n":1}` + "\n", event: ` {"n":1}` + "\n"},
		{name: "a dash", args: "orders -", stdin: `[1]`, event: `[1]`},
		{name: "a file", args: "orders " + file, event: `{"n": 1.0, "a":"ü"}`},
		{name: "a recording", args: "orders " + kept, event: `{"n":2.0}`},
		{name: "a sample", args: "orders " + sample, event: sampleText},
		{
			name: "changes of a sample", args: "orders --set input.total=7 --set taskToken=t " + sample,
			event: `{"input":{"orderId":"1001","total":7},"taskToken":"t"}`,
		},
		{name: "changes of a file", args: "orders --set n=2 " + file, event: `{"n":2,"a":"ü"}`},
		{name: "changes of a recording", args: "orders --set n=3 " + kept, event: `{"n":3}`},
		{
			name: "a version, a profile and a region",
			args: "orders --qualifier live --profile me --region eu-west-2 " + sample,
			call: " --qualifier live --output json --profile me --region eu-west-2", event: sampleText,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := withInvoked(t, nil)
			f.answer = tt.stdin
			call := invokeCall + " --output json"
			if tt.call != "" {
				call = invokeCall + tt.call
			}
			r := f.run("send", strings.Fields(tt.args)...)
			want := result{
				out: `{"ok":true}` + "\n",
				err: "live-lambda send: who has answered is not known: no log came back\n",
			}
			if r != want {
				t.Errorf("got %+v", r)
			}
			got := f.called()
			if len(got) != 1 || got[0] != call {
				t.Fatalf("called %q, want %s", got, call)
			}
			event := f.calls[0].stdin
			if event != tt.event && event != tt.event+"\n" { // the script ends a line
				t.Errorf("sent %s, want %s", event, tt.event)
			}
			left, _ := filepath.Glob(os.Getenv("TMPDIR") + "/*")
			if len(left) > 0 {
				t.Errorf("left %q", left)
			}
		})
	}
}

func TestSendPrintsTheAnswerAsItIs(t *testing.T) {
	for answer, want := range map[string]string{
		"null":            "null\n",
		"{\"a\": 1}\n":    "{\"a\": 1}\n",
		"not JSON":        "not JSON",
		"":                "",
		"\x00\xff binary": "\x00\xff binary",
	} {
		f := withInvoked(t, nil)
		f.invoked.answer = answer
		r := f.run("send", "orders", "--event", "iot")
		if r.status != 0 || r.out != want {
			t.Errorf("%q: got %+v", answer, r)
		}
	}
}

// layerText is a line of the layer's log as text.
func layerText(id, fields string) string {
	return "time=2026-01-15T12:00:00.000Z level=INFO msg=invocation source=live-lambda request_id=" + id +
		" " +
		fields + "\n"
}

func TestSendSaysWhoHasAnswered(t *testing.T) {
	const unknown = "who has answered is not known: the end of the log has no line of the layer about it; " +
		"if a local end has, its terminal shows it"
	const start = "START RequestId: 11-22 Version: $LATEST\n"
	const report = "REPORT RequestId: 11-22\tDuration: 3.00 ms\n"
	const platform = `{"time":"2026-01-15T12:00:00Z","type":"platform.start","record":{"requestId":"11-22",` +
		`"version":"$LATEST"}}` + "\n"
	const asJSON = `{"time":"2026-01-15T12:00:00Z","level":"INFO","msg":"invocation",` +
		`"source":"live-lambda","request_id":"11-22","outcome":"deployed","ms":1,` +
		`"reason":"it is \"late\""}` + "\n"
	tests := []struct{ name, log, want string }{
		{name: "no log", log: "", want: "who has answered is not known: no log came back"},
		{name: "a log of the function's alone", log: start + "hello\n" + report, want: unknown},
		{name: "a local end", log: start + layerText("11-22", "outcome=answered ms=5") + report,
			want: "a local end answered"},
		{name: "a local end's error", log: layerText("11-22", "outcome=error ms=5") + report,
			want: "a local end answered, with an error"},
		{name: "a local end's stream", log: layerText("11-22", "outcome=stream ms=5") + report,
			want: "a local end answered, with a stream"},
		{name: "the runtime", log: layerText("11-22", "outcome=runtime ms=5") + report,
			want: "a local end answered, and the deployed code got that as its event"},
		{
			name: "the deployed code",
			log: start +
				layerText("11-22", `outcome=deployed ms=1 reason="the event has no token of \"x\""`) +
				report,
			want: `the deployed code ran: the event has no token of "x"`,
		},
		{name: "the deployed code, one word", log: layerText("11-22", "outcome=deployed ms=1 reason=late"),
			want: "the deployed code ran: late"},
		{name: "the deployed code, in JSON", log: platform + asJSON,
			want: `the deployed code ran: it is "late"`},
		{name: "a copy", log: start + layerText("11-22", "outcome=mirrored ms=1") + report,
			want: "the deployed code ran; a copy of the event has gone out"},
		{
			name: "the layer",
			log: layerText("11-22", `outcome=failed ms=1 error_type=LiveLambda.Gone reason="no word"`) +
				report,
			want: "no local end's answer arrived, and the layer answered: LiveLambda.Gone: no word",
		},
		{name: "the invocation before", log: layerText("00-11", "outcome=answered ms=5") + start + report,
			want: unknown},
		{
			name: "the invocation before, in JSON",
			log:  layerText("00-11", "outcome=answered ms=5") + platform, want: unknown,
		},
		{
			name: "the invocation before, and this one",
			log: layerText("00-11", "outcome=answered ms=5") + start +
				layerText("11-22", "outcome=deployed ms=1") + report,
			want: "the deployed code ran",
		},
		{name: "an outcome of a later layer", log: layerText("11-22", "outcome=new ms=5") + report,
			want: unknown},
		{name: "another program's line", log: "msg=invocation outcome=deployed request_id=11-22\n" + report,
			want: unknown},
		{name: "another line of the layer's", log: "msg=connected source=live-lambda outcome=deployed\n",
			want: unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := withInvoked(t, nil)
			f.invoked.log = tt.log
			r := f.run("send", "orders", "--event", "iot")
			want := tt.log + "live-lambda send: " + tt.want + "\n"
			if r != (result{out: `{"ok":true}` + "\n", err: want}) {
				t.Errorf("got %+v, want %q", r, want)
			}
		})
	}
}

// What a function has logged may hold what a terminal would obey.
func TestSendShowsTheLogWithoutWhatATerminalObeys(t *testing.T) {
	f := withInvoked(t, nil)
	f.invoked.log = "a\tb \x1b[31mred\r\nü\x9b\n\nlast"
	r := f.run("send", "orders", "--event", "iot")
	if !strings.HasPrefix(r.err, "a\tb ?[31mred\nü\ufffd\n\nlast\nlive-lambda send: ") {
		t.Errorf("got %q", r.err)
	}
}

func TestSendFailsIfTheFunctionDoes(t *testing.T) {
	tests := []struct{ answer, want string }{
		{answer: `{"errorType":"E","errorMessage":"no\u001b address"}`, want: ": E: no? address"},
		{answer: `{"errorMessage":"late"}`, want: ": late"},
		{answer: `[]`, want: ": "},
	}
	for _, tt := range tests {
		f := withInvoked(t, nil)
		f.invoked = fakeInvocation{answer: tt.answer, functionError: "Unhandled"}
		r := f.run("send", "orders", "--event", "iot")
		want := "live-lambda send: orders: the function failed (Unhandled)" + tt.want + "\n"
		if r.status != 1 || r.out != tt.answer+"\n" || !strings.HasSuffix(r.err, want) {
			t.Errorf("got %+v, want %q", r, want)
		}
	}
}

func TestSendSaysWhatIsWrong(t *testing.T) {
	file := withFile(t, `{"a":`)
	tests := []struct {
		name, args, stdin string
		status            int
		err               string
	}{
		{name: "no function", args: "", status: 2, err: "name a function; see --help"},
		{name: "a pattern", args: "orders-*", status: 2,
			err: `"orders-*" is not the name or the ARN of one function; see --help`},
		{name: "a tag", args: "tag:a", status: 2,
			err: `"tag:a" is not the name or the ARN of one function; see --help`},
		{name: "two files", args: "orders a b", status: 2, err: `there is no use for "b"; see --help`},
		{name: "a file and a sample", args: "orders a --event sqs", status: 2,
			err: `there is no use for "a" beside --event; see --help`},
		{name: "no file", args: "orders /nowhere", status: 2,
			err: "open /nowhere: no such file or directory; see --help"},
		{name: "a file that is not JSON", args: "orders " + file, status: 2,
			err: file + " is not JSON; see --help"},
		{name: "standard input that is not JSON", args: "orders", stdin: "{", status: 2,
			err: "standard input is not JSON; see --help"},
		{name: "no such sample", args: "orders --event sqss", status: 2,
			err: `there is no sample event "sqss"; near it: sqs, sns, ses; see --help`},
		{name: "no such place", args: "orders --event sqs --set a.b=1", status: 2,
			err: "--set a.b: the event has no a; it has Records; see --help"},
		{name: "no such function", args: "bills --event sqs", status: 1,
			err: "aws lambda invoke: ResourceNotFoundException: Function not found: bills; check the name, " +
				"and the AWS CLI's region and profile"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := withInvoked(t, nil)
			f.answer = tt.stdin
			r := f.run("send", strings.Fields(tt.args)...)
			if r != (result{status: tt.status, err: "live-lambda send: " + tt.err + "\n"}) {
				t.Errorf("got %+v", r)
			}
			if tt.status == 2 && len(f.calls) > 0 {
				t.Errorf("called %q", f.called())
			}
		})
	}
}

func TestSendSaysThatItWaitsForSomebodyToType(t *testing.T) {
	f := withInvoked(t, nil)
	f.terminal, f.answer = true, "{}"
	r := f.run("send", "orders")
	if r.status != 0 || !strings.HasPrefix(r.err, "type the event, and Ctrl-D behind it\n") {
		t.Errorf("got %+v", r)
	}
}

// An invocation must not happen twice, so the AWS CLI may not repeat it, whatever the environment says.
func TestSendHasTheAWSCLIRepeatNothing(t *testing.T) {
	directory := t.TempDir()
	script := "#!/bin/sh\nprintf '%s' \"$AWS_MAX_ATTEMPTS\" >\"$3\"\necho '{}'\n"
	if err := os.WriteFile(directory+"/aws", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", directory+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("AWS_MAX_ATTEMPTS", "5")
	var out, errOut bytes.Buffer
	c := &console{in: strings.NewReader("{}"), out: &out, err: &errOut}
	status := c.command([]string{"send", "orders"})
	if status != 0 || out.String() != "1\n" {
		t.Errorf("got %d, %q and %q", status, out.String(), errOut.String())
	}
}

// ---- for whom it is ----

const configurationCall = "lambda get-function-configuration --function-name orders --output json"

func TestSendPutsTheTokenOfTheFunctionIntoTheEvent(t *testing.T) {
	const told = "live-lambda send: for stage alice the event has the token x-dev, at headers.x-dev\n"
	const unknown = "live-lambda send: who has answered is not known: no log came back\n"
	const lacks = "live-lambda send: nothing was sent: orders has no LIVE_LAMBDA_ROUTE and not the stage " +
		"alice, so the event would not come there: run live-lambda attach with --route NAME or --stage " +
		"alice, or send without a stage\n"
	routed := map[string]any{"LIVE_LAMBDA_ROUTE": "x-dev"}
	tests := []struct {
		name      string
		args      string
		variables map[string]any // of the function
		set       string         // NAME=VALUE of the environment
		calls     []string       // before the invocation
		err       string
		header    string // that the event has then
		status    int
	}{
		{name: "no stage", variables: routed, err: unknown},
		{name: "a stage", args: "--stage alice", variables: routed, calls: []string{configurationCall},
			err: told + unknown, header: `"alice"`},
		{name: "the environment's stage", set: "LIVE_LAMBDA_STAGE=alice", variables: routed,
			calls: []string{configurationCall}, err: told + unknown, header: `"alice"`},
		{name: "a token that is named", args: "--stage alice --route x-dev", err: told + unknown,
			header: `"alice"`},
		{
			name: "of a version", args: "--stage alice --qualifier live", variables: routed,
			calls: []string{
				"lambda get-function-configuration --function-name orders:live --output json"},
			err: "live-lambda send: find the token for stage alice: aws lambda get-function-configuration: " +
				"ResourceNotFoundException: Function not found: " +
				"arn:aws:lambda:eu-west-1:123456789012:function:orders:live; check the name, and the AWS " +
				"CLI's region and profile; a Web Function takes no layer; or give --route NAME\n",
			status: 1,
		},
		{name: "the function's own stage", args: "--stage alice",
			variables: map[string]any{"LIVE_LAMBDA_STAGE": "alice"}, calls: []string{configurationCall},
			err: unknown},
		{name: "no token", args: "--stage alice", variables: map[string]any{"LIVE_LAMBDA_STAGE": "bob"},
			calls: []string{configurationCall}, err: lacks, status: 1},
		{
			name: "no stage's name", args: "--stage a_b --route x-dev", status: 1,
			err: `live-lambda send: nothing was sent: "a_b" is not a stage, 1 to 50 letters, digits and ` +
				`inner ` +
				"dashes\n",
		},
		{
			name: "a stage that the layer takes for none", args: "--stage null --route x-dev", status: 1,
			err: "live-lambda send: nothing was sent: no stage can be called null, because the layer takes " +
				"that for no name\n",
		},
		{
			name: "no token's name", args: "--stage alice --route x_dev", status: 1,
			err: `live-lambda send: nothing was sent: LIVE_LAMBDA_ROUTE is "x_dev", not 1 to 50 letters, ` +
				`digits and inner dashes` +
				"\n",
		},
		{
			name: "another stage's token before it", status: 1,
			args: "--stage alice --route x-dev --set rawQueryString=x-dev=bob",
			err: "live-lambda send: nothing was sent: the first x-dev in the event says bob, not alice: " +
				"take it out\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := withInvoked(t, tt.variables)
			name, value, isSet := strings.Cut(tt.set, "=")
			if isSet {
				t.Setenv(name, value)
			}
			r := f.run("send", append(strings.Fields(tt.args), "orders", "--event", "api-v2")...)
			if r.status != tt.status || r.err != tt.err {
				t.Errorf("got %+v, want %q", r, tt.err)
			}
			calls := tt.calls
			if tt.status == 0 {
				calls = append(calls, invokeCall+" --output json")
				event := []byte(strings.TrimSpace(f.calls[len(f.calls)-1].stdin))
				if got := valueAt(event, "headers.x-dev"); got != tt.header {
					t.Errorf("the event has %s, want %s", got, tt.header)
				}
			}
			got := f.called()
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", calls) {
				t.Errorf("called %q, want %q", got, calls)
			}
		})
	}
}

func TestSendFindsNoTokenInVariablesThatCannotBeRead(t *testing.T) {
	f := withInvoked(t, nil)
	f.function("orders", map[string]any{"Environment": map[string]any{
		"Error": map[string]any{"ErrorCode": "AccessDeniedException"}}})
	r := f.run("send", "orders", "--event", "sqs", "--stage", "alice")
	const want = "live-lambda send: find the token for stage alice: the function's variables cannot be " +
		"read (AccessDeniedException): give --route NAME\n"
	if r != (result{status: 1, err: want}) {
		t.Errorf("got %+v", r)
	}
}

// The API's flags of live-lambda.json are not the function's.
func TestSendTakesStageAndTokenOfTheSharedFile(t *testing.T) {
	f := withInvoked(t, nil)
	inDirectory(t, map[string]string{
		"live-lambda.json": `{"stack":"dev","region":"eu-west-9","stage":"alice","route":"x-dev"}`})
	r := f.run("send", "orders", "--event", "iot")
	if r.status != 0 ||
		!strings.Contains(r.err, "for stage alice the event has the token x-dev, at x-dev\n") {
		t.Errorf("got %+v", r)
	}
	if got := f.called(); len(got) != 1 || got[0] != invokeCall+" --output json" {
		t.Errorf("called %q", got)
	}
}

func TestSendTakesStageAndTokenOfTheStack(t *testing.T) {
	f := withInvoked(t, nil)
	f.stacks["dev"] = append(f.stacks["dev"],
		fakeOutput{OutputKey: "LiveLambdaStage", OutputValue: "alice"},
		fakeOutput{OutputKey: "LiveLambdaRoute", OutputValue: "x-dev"})
	r := f.run("send", "orders", "--event", "iot", "--stack", "dev", "--region", "eu-west-2")
	if r.status != 0 || !strings.Contains(
		r.err, "for stage alice the event has the token x-dev, at x-dev\n") {
		t.Errorf("got %+v", r)
	}
	const stack = "cloudformation describe-stacks --stack-name dev --output json --region eu-west-2"
	got := f.called()
	if len(got) != 2 || got[0] != stack || got[1] != invokeCall+" --output json --region eu-west-2" {
		t.Errorf("called %q", got)
	}
}

// tokenPlaces says of each sample where the token x-dev goes, if that is not a field x-dev.
var tokenPlaces = map[string]string{
	"api-v1":               "headers.x-dev multiValueHeaders.x-dev",
	"api-v2":               "headers.x-dev",
	"function-url":         "headers.x-dev",
	"alb":                  "headers.x-dev",
	"alb-multi-value":      "multiValueHeaders.x-dev",
	"lattice":              "headers.x-dev",
	"websocket-connect":    "headers.x-dev multiValueHeaders.x-dev",
	"websocket-disconnect": "headers.x-dev multiValueHeaders.x-dev",
	"authorizer-request":   "headers.x-dev multiValueHeaders.x-dev",
	"authorizer-v2":        "headers.x-dev",
	"authorizer-websocket": "headers.x-dev multiValueHeaders.x-dev",
	"appsync":              "request.headers.x-dev",
	"appsync-batch":        "[0].request.headers.x-dev [1].request.headers.x-dev",
	"appsync-authorizer":   "requestHeaders.x-dev",
	"sqs":                  "Records[0].messageAttributes.x-dev",
	"sqs-fifo":             "Records[0].messageAttributes.x-dev",
	"sns":                  "Records[0].Sns.MessageAttributes.x-dev",
	"sns-sqs":              "Records[0].messageAttributes.x-dev",
	"pipes-sqs":            "[0].messageAttributes.x-dev",
	"eventbridge":          "detail.x-dev",
	"schedule":             "detail.x-dev",
	"s3-eventbridge":       "detail.x-dev",
}

// put checks by the layer's own rule that it finds the stage.
func TestTokenGoesToWhereAnEventOfItsKindHasIt(t *testing.T) {
	for _, s := range sampleEvents {
		event, places, err := stageToken{name: "x-dev", stage: "alice"}.put(sampleOf(t, s.name))
		want := tokenPlaces[s.name]
		if want == "" {
			want = "x-dev"
		}
		if err != nil || strings.Join(places, " ") != want || routeOf(event, "x-dev") != "alice" {
			t.Errorf("%s: got %q, %v, want %s", s.name, places, err, want)
		}
		if !json.Valid(event) {
			t.Errorf("%s: not JSON: %s", s.name, event)
		}
	}
}

func TestTokenHasTheFormOfItsPlace(t *testing.T) {
	const attribute = `{"stringValue":"alice","stringListValues":[],"binaryListValues":[],` +
		`"dataType":"String"}`
	tests := []struct{ name, event, want string }{
		{name: "a header", event: `{"headers":{"a":"b"}}`, want: `{"headers":{"a":"b","x-dev":"alice"}}`},
		{name: "a header that is there", event: `{"headers":{"X-Dev":"bob","a":"b"}}`,
			want: `{"headers":{"X-Dev":"alice","a":"b"}}`},
		{name: "headers with lists", event: `{"headers":{"a":["b"]}}`,
			want: `{"headers":{"a":["b"],"x-dev":["alice"]}}`},
		{name: "no headers", event: `{"headers":null,"multiValueHeaders":null}`,
			want: `{"headers":null,"multiValueHeaders":null,"x-dev":"alice"}`},
		{name: "headers of another kind", event: `{"headers":"a"}`,
			want: `{"headers":"a","x-dev":"alice"}`},
		{name: "every message", event: `{"Records":[{"eventSource":"aws:sqs","messageAttributes":{}},` +
			`{"eventSource":"aws:sqs"}]}`,
			want: `{"Records":[{"eventSource":"aws:sqs","messageAttributes":{"x-dev":` + attribute + `}},` +
				`{"eventSource":"aws:sqs","messageAttributes":{"x-dev":` + attribute + `}}]}`},
		{name: "a notification", event: `{"Records":[{"EventSource":"aws:sns","Sns":{}}]}`,
			want: `{"Records":[{"EventSource":"aws:sns","Sns":{"MessageAttributes":{"x-dev":` +
				`{"Type":"String","Value":"alice"}}}}]}`},
		{name: "nothing", event: `{}`, want: `{"x-dev":"alice"}`},
		{name: "a field that is there", event: `{"x-dev":"bob"}`, want: `{"x-dev":"alice"}`},
	}
	for _, tt := range tests {
		got, _, err := stageToken{name: "x-dev", stage: "alice"}.put([]byte(tt.event))
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestTokenHasNoPlaceInWhatIsNoObject(t *testing.T) {
	for _, event := range []string{`1`, `"a"`, `null`, `[]`, `[1]`} {
		got, _, err := stageToken{name: "x-dev", stage: "alice"}.put([]byte(event))
		if err == nil ||
			!strings.HasPrefix(err.Error(), "nothing was sent: the event has no place for x-dev") {
			t.Errorf("%s: got %s, %v", event, got, err)
		}
	}
}
