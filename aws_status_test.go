//go:build !layer

package main

// aws_status_test.go tests the command status against the fake of the AWS CLI.

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// withRelease returns a fake, and has this program be a release whose zip is live-lambda-arm64:2.
func withRelease(t *testing.T) *fakeAWS {
	f := newFakeAWS(t)
	t.Cleanup(func() { releaseVersion, releaseZips = "", "" })
	releaseVersion = "v1.2.3"
	hash := sha256.Sum256([]byte("zip"))
	releaseZips = fmt.Sprintf("live-lambda-layer-arm64.zip=%x", hash)
	f.hashes["arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:2"] = hash
	return f
}

// hold attaches a function, and has it have been attached on the day of these tests.
func (f *fakeAWS) hold(name string, flags ...string) {
	f.t.Helper()
	r := f.run("attach", append(flags, name, "--stack", "dev", "--yes")...)
	if r.status != 0 {
		f.t.Fatalf("attach %s: %+v", name, r)
	}
	f.backdate(name, since)
}

func TestStatusSaysWhoHasWhichFunctionSinceWhen(t *testing.T) {
	f := withRelease(t)
	f.function("plain", nil)
	f.function("orders", nil)
	f.function("bills", map[string]any{"Architectures": []any{"x86_64"}, "Runtime": "python3.13"})
	f.hold("orders", "--stage", "ann", "--route", "x-live", "--mirror", "--seal", "--for", "2h")
	f.hold("bills", "--layer", "arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-amd64:1")
	f.function("by-hand", functionKinds["attached by hand"])
	until := f.variablesOf("orders")[untilVariable].(string)
	r := f.run("status")
	want := `bills (python3.13, x86_64)
  attached on 2026-11-05T09:30:00Z by ` + userAtHost() + `
  layer live-lambda-amd64:1, not this program's: publish-layer and attach again bring that
by-hand (nodejs22.x, arm64)
  put there by other means than attach
  layer live-lambda-arm64:1, not this program's: publish-layer and attach again bring that
  odd: no LIVE_LAMBDA_ACCEPT_TIMEOUT: while no local end is there, callers wait and then get an error
orders (nodejs22.x, arm64), stage ann, route x-live, mode mirror, sealed
  attached on 2026-11-05T09:30:00Z by ` + userAtHost() + `, until ` + until + `
  layer live-lambda-arm64:2, this program's
3 functions carry the layer; something is odd of 1
`
	if r != (result{status: 0, out: want, err: ""}) {
		t.Errorf("got %d, %q and\n%s\nwant\n%s", r.status, r.err, r.out, want)
	}
	key := f.variablesOf("orders")[keyVariable].(string)
	if strings.Contains(r.out, key) {
		t.Error("the key is shown")
	}
}

func TestStatusInJSONIsOneObjectALine(t *testing.T) {
	f := withRelease(t)
	f.function("orders", nil)
	f.function("bills", functionKinds["attached by hand"])
	f.hold("orders", "--stage", "ann", "--for", "2h", "--seal")
	until, err := time.Parse(time.RFC3339, f.variablesOf("orders")[untilVariable].(string))
	if err != nil {
		t.Fatal(err)
	}
	r := f.run("status", "--json")
	lines := strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
	if r.status != 0 || len(lines) != 2 {
		t.Fatalf("got %+v", r)
	}
	var got, orders functionStatus
	err = json.Unmarshal([]byte(lines[1]), &orders)
	if err != nil || orders.OurLayer == nil || !*orders.OurLayer {
		t.Errorf("got %s and %v", lines[1], err)
	}
	orders.OurLayer = nil
	want := functionStatus{
		Function: "orders",
		ARN:      "arn:aws:lambda:eu-west-1:123456789012:function:orders",
		Attached: true,
		By:       userAtHost(),
		Since:    since,
		Until:    until,
		Host:     "label.appsync-api.eu-west-1.amazonaws.com",
		Stage:    "ann",
		Sealed:   true,
		Layer:    "arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:2",
		Odd:      []string{},
	}
	if fmt.Sprintf("%+v", orders) != fmt.Sprintf("%+v", want) {
		t.Errorf("got\n%+v, want\n%+v", orders, want)
	}
	err = json.Unmarshal([]byte(lines[0]), &got)
	if err != nil || got.Function != "bills" || got.Attached || len(got.Odd) != 1 ||
		!strings.Contains(lines[1], `"odd":[]`) || strings.Contains(lines[0], "since") {
		t.Errorf("got %s and %v", lines[0], err)
	}
}

func TestStatusOfNothing(t *testing.T) {
	f := withRelease(t)
	f.function("plain", nil)
	r := f.run("status")
	if r != (result{status: 0, out: "no function of this account and region carries the layer\n", err: ""}) {
		t.Errorf("got %+v", r)
	}
	r = f.run("status", "--json")
	if r != (result{status: 0, out: "", err: ""}) || len(f.calls) != 2 {
		t.Errorf("got %+v, %v", r, f.calls)
	}
}

// oddCase is a change of the function orders, which is attached, and what status finds odd of it then.
type oddCase struct {
	name   string
	args   string // of status
	change func(f *fakeAWS, layers []string, variables map[string]any) []string
	want   []string
}

func testOdd(t *testing.T, tests []oddCase) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := withRelease(t)
			f.function("orders", nil)
			f.attachWithPolicy("orders")
			variables := f.variablesOf("orders")
			layers := tt.change(f, f.layersOf("orders"), variables)
			f.configure("orders", layers, variables)
			r := f.run("status", strings.Fields(tt.args)...)
			var got []string
			for line := range strings.Lines(r.out) {
				odd, found := strings.CutPrefix(line, "  odd: ")
				if found {
					got = append(got, strings.TrimSuffix(odd, "\n"))
				}
			}
			if r.status != 0 || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", tt.want) {
				t.Errorf("got %d, %q and %q, want %q", r.status, got, r.err, tt.want)
			}
		})
	}
}

func TestStatusSaysWhatIsOddOfTheSettings(t *testing.T) {
	const callersWait = "no LIVE_LAMBDA_ACCEPT_TIMEOUT: while no local end is there, callers wait and then " +
		"get an error"
	set := func(name, value string) func(*fakeAWS, []string, map[string]any) []string {
		return func(_ *fakeAWS, layers []string, variables map[string]any) []string {
			variables[name] = value
			return layers
		}
	}
	testOdd(t, []oddCase{
		{name: "nothing", change: set("TABLE", secretValue), want: nil},
		{name: "no accept timeout", change: set(acceptVariable, "0s"), want: []string{callersWait}},
		{
			name:   "its time is over",
			change: set(untilVariable, "2026-11-05T09:30:00Z"),
			want: []string{
				"its time is over, so the layer does nothing: detach it, or attach it again"},
		},
		{name: "off", change: set("LIVE_LAMBDA", "off"), want: []string{
			"its variable LIVE_LAMBDA is off, so the layer does nothing: take it out"}},
		{name: "a value of no use", change: set("LIVE_LAMBDA_STAGE", "a_b"), want: []string{
			`LIVE_LAMBDA_STAGE is "a_b", not 1 to 50 letters, digits and inner dashes`}},
		{
			name: "another wrapper", change: set(wrapperVariable, "/opt/"+secretValue), want: []string{
				"its variable AWS_LAMBDA_EXEC_WRAPPER is not /opt/live-lambda-runtime-wrapper.sh, so its " +
					"runtime goes past the layer: run live-lambda attach"},
		},
		{name: "another host", args: "--stack dev", change: set(hostVariable, "other.example.com"),
			want: []string{"its API is other.example.com, not label.appsync-api.eu-west-1.amazonaws.com"}},
	})
}

func TestStatusSaysWhatIsOddOfLayersAndRoles(t *testing.T) {
	const lacks = "its role orders-role lacks the policy " + stackPolicy +
		": attach --attach-policy puts it there, and detach takes all back"
	testOdd(t, []oddCase{
		{
			name: "the layer is gone",
			change: func(_ *fakeAWS, _ []string, _ map[string]any) []string {
				return []string{"arn:aws:lambda:eu-west-1:123456789012:layer:own:3"}
			},
			want: []string{"arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:2, which attach " +
				"has added, is gone: run live-lambda attach again"},
		},
		{
			name: "the variables are gone, as after a deployment",
			change: func(_ *fakeAWS, layers []string, variables map[string]any) []string {
				clear(variables)
				return layers
			},
			want: []string{
				"its variable LIVE_LAMBDA_APPSYNC_HTTP_HOST is not set: run live-lambda attach",
				"its variable AWS_LAMBDA_EXEC_WRAPPER is not /opt/live-lambda-runtime-wrapper.sh, so its " +
					"runtime goes past the layer: run live-lambda attach",
			},
		},
		{
			name: "what attach remembers is damaged",
			change: func(_ *fakeAWS, layers []string, variables map[string]any) []string {
				variables[memoryVariable] = "{" + secretValue
				return layers
			},
			want: []string{damagedMemory},
		},
		{
			name: "attach was interrupted before it put the policy on the role",
			change: func(f *fakeAWS, layers []string, _ map[string]any) []string {
				f.roles["orders-role"] = nil
				return layers
			},
			want: []string{lacks},
		},
	})
}

const damagedMemory = "its variable LIVE_LAMBDA_ATTACHED, which attach wrote, is damaged: take the layer, " +
	"the " +
	"wrapper and the LIVE_LAMBDA variables out by hand"

// Attached without --attach-policy, a function does not remember a policy. The stack tells which it needs.
func TestStatusSaysWhichRoleLacksTheStacksPolicy(t *testing.T) {
	f := withRelease(t)
	f.function("bills", nil)
	f.function("orders", nil)
	f.hold("orders")
	f.hold("bills", "--api-key", "da2-"+secretValue)
	const want = "  odd: its role orders-role lacks the policy " + stackPolicy
	r := f.run("status", "--stack", "dev")
	if r.status != 0 || strings.Count(r.out, want) != 1 {
		t.Errorf("got %+v", r)
	}
	f.roles["orders-role"] = append(f.roles["orders-role"], stackPolicy)
	r = f.run("status", "--stack", "dev")
	if r.status != 0 || !strings.HasSuffix(r.out, "\n2 functions carry the layer; nothing is odd\n") {
		t.Errorf("with the policy: got %+v", r)
	}
}

func TestStatusTellsWhatItMayNotLookAt(t *testing.T) {
	const may = "AccessDenied: User: arn:aws:sts::123456789012:assumed-role/Developer/alice is not authorized"
	f := withRelease(t)
	f.function("bills", nil)
	f.function("orders", nil)
	f.hold("bills", "--attach-policy")
	f.hold("orders", "--attach-policy")
	for command, want := range map[string]string{
		"get-layer-version-by-arn": "live-lambda status: whether a layer is this program's is not known: " +
			"aws lambda get-layer-version-by-arn: " + may,
		"list-entities-for-policy": "live-lambda status: whether roles have the policy is not known: " +
			"aws iam list-entities-for-policy: " + may,
	} {
		f.denied = command
		called := len(f.calls)
		r := f.run("status")
		if r.status != 0 || !strings.HasPrefix(r.err, want) || strings.Count(r.err, "\n") != 1 ||
			!strings.HasSuffix(r.out, "\n2 functions carry the layer; nothing is odd\n") {
			t.Errorf("%s: got %+v", command, r)
		}
		if len(f.calls) != called+3 {
			t.Errorf("%s: called %v", command, f.calls[called:])
		}
	}
	f.denied = "list-functions"
	r := f.run("status")
	if r.status != 1 || r.out != "" ||
		!strings.HasPrefix(r.err, "live-lambda status: aws lambda list-functions: "+may) {
		t.Errorf("got %+v", r)
	}
}

func TestStatusOfVariablesThatCannotBeRead(t *testing.T) {
	f := withRelease(t)
	f.function("orders", map[string]any{
		"Layers":      []any{layerRef("live-lambda-arm64:2")},
		"Environment": withUnreadableVariables["Environment"],
	})
	r := f.run("status")
	const want = "orders (nodejs22.x, arm64)\n  put there by other means than attach\n" +
		"  layer live-lambda-arm64:2, this program's\n  odd: " + unreadableVariables + "\n" +
		"1 function carries the layer; something of it is odd\n"
	if r != (result{status: 0, out: want, err: ""}) {
		t.Errorf("got %+v", r)
	}
}

// However many there are, each layer version and each policy is asked for once.
func TestStatusOfManyFunctionsTakesThreeCalls(t *testing.T) {
	f := withRelease(t)
	f.function("f0", nil)
	f.attachWithPolicy("f0")
	variables := f.variablesOf("f0")
	layers := f.layersOf("f0")
	for i := 1; i < 40; i++ {
		name := fmt.Sprintf("f%d", i)
		f.function(name, nil)
		f.configure(name, layers, variables)
	}
	called := len(f.calls)
	r := f.run("status")
	if r.status != 0 || len(f.calls) != called+3 ||
		!strings.HasSuffix(r.out, "\n40 functions carry the layer; nothing is odd\n") {
		t.Errorf("got %d, %d calls and %s", r.status, len(f.calls)-called, r.err)
	}
}
