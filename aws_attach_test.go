//go:build !layer

package main

// aws_attach_test.go tests attach and detach against the fake of the AWS CLI.

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// secretValue is in values of variables that must never be seen.
const secretValue = "s3cr3t"

// functionKinds are configurations of functions, as far as they are not the usual one.
var functionKinds = map[string]map[string]any{
	"plain": {},
	"with everything": {
		"Layers": []any{layerRef("insights:38"), layerRef("datadog:12"), layerRef("own:3")},
		"Environment": map[string]any{"Variables": map[string]any{"TABLE": secretValue,
			"AWS_LAMBDA_EXEC_WRAPPER": "/opt/datadog_wrapper",
			"EMPTY":                   "", "UNICODE": "Grüße <&'\"\\ 漢字 \u2028 😀 \t",
			"JSON": `{"a":["` + secretValue + `"]}`}},
		"KMSKeyArn":     "arn:aws:kms:eu-west-1:123456789012:key/k",
		"VpcConfig":     map[string]any{"SubnetIds": []any{"subnet-1"}},
		"LoggingConfig": map[string]any{"LogFormat": "JSON"}, "Timeout": 900,
	},
	"OS-only": {"Runtime": "provided.al2023", "Handler": "main", "Layers": []any{layerRef("own:3")},
		"Environment": map[string]any{
			"Variables": map[string]any{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/ignored", "A1": secretValue}}},
	"x86_64": {"Architectures": []any{"x86_64"}, "Runtime": "python3.13"},
	"without architecture": {"Architectures": nil,
		"Layers":      []any{layerRef("own:3"), layerRef("own2:3"), layerRef("own3:3"), layerRef("own4:3")},
		"Environment": map[string]any{"Variables": map[string]any{"A1": "x"}}},
	"with variables of ours": {"Environment": map[string]any{"Variables": map[string]any{
		"LIVE_LAMBDA_STAGE":        "old",
		"LIVE_LAMBDA_OFFLINE":      "error",
		"LIVE_LAMBDA_EXEC_WRAPPER": "/opt/stale",
		"LRAP_LISTENER_PORT":       "9009",
	}}},
	"with both wrappers": {"Environment": map[string]any{"Variables": map[string]any{
		"LIVE_LAMBDA_EXEC_WRAPPER": "/opt/stale",
		"AWS_LAMBDA_EXEC_WRAPPER":  "/opt/otel-handler",
	}}},
	"with an empty wrapper": {
		"Environment": map[string]any{
			"Variables": map[string]any{"AWS_LAMBDA_EXEC_WRAPPER": "", "LIVE_LAMBDA_EXEC_WRAPPER": ""}}},
	"attached by hand": {"Layers": []any{
		layerRef("own:3"), layerRef("live-lambda-arm64:1"), layerRef("own2:3")},
		"Environment": map[string]any{"Variables": map[string]any{"AWS_LAMBDA_EXEC_WRAPPER": wrapperPath,
			"LIVE_LAMBDA_EXEC_WRAPPER":      "/opt/otel-handler",
			"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "old.example"}}},
	"SnapStart": {
		"Runtime":   "java21",
		"SnapStart": map[string]any{"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}},
}

func layerRef(name string) map[string]any {
	return map[string]any{"Arn": "arn:aws:lambda:eu-west-1:123456789012:layer:" + name, "CodeSize": 1000}
}

func TestAttachThenDetachChangesNothing(t *testing.T) {
	for kind := range functionKinds {
		t.Run(kind, func(t *testing.T) { attachThenDetach(t, kind) })
	}
	t.Run("with the policy", func(t *testing.T) { attachThenDetach(t, "with everything", "--attach-policy") })
}

func attachThenDetach(t *testing.T, kind string, flags ...string) {
	f := newFakeAWS(t)
	f.function("orders", functionKinds[kind])
	before := f.snapshot()
	attach := append(
		flags, "orders", "--stack", "dev", "--yes", "--stage", "alice", "--set", "LIVE_LAMBDA_OFFLINE=error")
	r := f.run("attach", attach...)
	if r.status != 0 || !strings.HasSuffix(r.out, "orders: attached\n") {
		t.Fatalf("attach: got %+v", r)
	}
	f.wantAttached("orders", kind, len(flags) > 0)
	r = f.run("attach", attach...)
	if r.status != 0 || !strings.Contains(r.out, "orders: nothing to change\n") {
		t.Errorf("attach again: got %+v", r)
	}
	r = f.run("detach", "orders", "--yes")
	if r.status != 0 || !strings.HasSuffix(r.out, "orders: detached\n") {
		t.Fatalf("detach: got %+v", r)
	}
	f.want(before)
	r = f.run("detach", "orders")
	if r.status != 0 || !strings.HasPrefix(r.out, "orders: nothing to change\n") {
		t.Errorf("detach again: got %+v", r)
	}
}

// wantAttached checks what makes a function attached, and that all that is not the layer's is as it was.
func (f *fakeAWS) wantAttached(name, kind string, policy bool) {
	f.t.Helper()
	f.wantVariables(name, kind)
	f.wantLayers(name, kind)
	got := slices.Contains(f.roles["orders-role"], stackPolicy)
	if got != policy {
		f.t.Errorf("policy on the role: got %t, want %t", got, policy)
	}
}

// wantVariables checks the variables of a function that is attached.
func (f *fakeAWS) wantVariables(name, kind string) {
	f.t.Helper()
	variables := f.variablesOf(name)
	was, _ := functionKinds[kind]["Environment"].(map[string]any)
	old, _ := was["Variables"].(map[string]any)
	want := map[string]any{}
	maps.Copy(want, old)
	maps.Copy(want, map[string]any{
		hostVariable:                        "label.appsync-api.eu-west-1.amazonaws.com",
		"LIVE_LAMBDA_APPSYNC_REALTIME_HOST": "label.appsync-realtime-api.eu-west-1.amazonaws.com",
		"LIVE_LAMBDA_APPSYNC_REGION":        "eu-west-1",
		"LIVE_LAMBDA_STAGE":                 "alice",
		"LIVE_LAMBDA_OFFLINE":               "error",
		acceptVariable:                      "3s",
		memoryVariable:                      variables[memoryVariable],
	})
	osOnly := strings.HasPrefix(fmt.Sprint(functionKinds[kind]["Runtime"]), "provided")
	if !osOnly {
		want[wrapperVariable] = wrapperPath
		wrapper, _ := old[wrapperVariable].(string)
		if wrapper != "" && wrapper != wrapperPath {
			want[furtherVariable] = wrapper
		}
	}
	got := indentJSON(variables)
	wanted := indentJSON(want)
	if !bytes.Equal(got, wanted) {
		f.t.Errorf("variables: got %s, want %s", got, wanted)
	}
}

// wantLayers checks the layers of a function that is attached: the newest version of the layer is the first
// one, or stands where another version of it stood.
func (f *fakeAWS) wantLayers(name, kind string) {
	f.t.Helper()
	newest := "arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:2"
	if kind == "x86_64" || kind == "without architecture" {
		newest = "arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-amd64:2"
	}
	position := 0
	if kind == "attached by hand" {
		position = 1
	}
	want := []string{}
	old, _ := functionKinds[kind]["Layers"].([]any)
	for _, l := range old {
		arn := l.(map[string]any)["Arn"].(string)
		if layerOf(arn) != layerOf(newest) {
			want = append(want, arn)
		}
	}
	want = slices.Insert(want, position, newest)
	got := f.layersOf(name)
	if !slices.Equal(got, want) {
		f.t.Errorf("layers: got %q, want %q", got, want)
	}
}

func TestAttachShowsAndAsks(t *testing.T) {
	const shown = `orders (nodejs22.x, arm64)
  + layer arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:2
  ~ AWS_LAMBDA_EXEC_WRAPPER="/opt/live-lambda-runtime-wrapper.sh"
  + LIVE_LAMBDA_ACCEPT_TIMEOUT="3s"
  + LIVE_LAMBDA_APPSYNC_API_KEY (not shown)
  + LIVE_LAMBDA_APPSYNC_HTTP_HOST="label.appsync-api.eu-west-1.amazonaws.com"
  + LIVE_LAMBDA_APPSYNC_REALTIME_HOST="label.appsync-realtime-api.eu-west-1.amazonaws.com"
  + LIVE_LAMBDA_APPSYNC_REGION="eu-west-1"
  + LIVE_LAMBDA_ATTACHED (what detach restores)
  + LIVE_LAMBDA_EXEC_WRAPPER (the wrapper that was there)
  + LIVE_LAMBDA_STAGE="alice"
  note: another tool's wrapper was there and still runs, behind the layer's: whoever sets ` +
		"AWS_LAMBDA_EXEC_WRAPPER again takes the layer's out\n"
	const detached = `orders (nodejs22.x, arm64)
  - layer arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:2
  ~ AWS_LAMBDA_EXEC_WRAPPER (as it was)
  - LIVE_LAMBDA_ACCEPT_TIMEOUT
  - LIVE_LAMBDA_APPSYNC_API_KEY
  - LIVE_LAMBDA_APPSYNC_HTTP_HOST
  - LIVE_LAMBDA_APPSYNC_REALTIME_HOST
  - LIVE_LAMBDA_APPSYNC_REGION
  - LIVE_LAMBDA_ATTACHED
  - LIVE_LAMBDA_EXEC_WRAPPER
  - LIVE_LAMBDA_STAGE
`
	f := newFakeAWS(t)
	f.function("orders", functionKinds["with everything"])
	t.Setenv("LIVE_LAMBDA_STAGE", "alice")
	args := []string{"orders", "--stack", "dev", "--api-key", "da2-" + secretValue}
	steps := []struct {
		name, command, answer string
		terminal              bool
		status                int
		out, err              string
	}{
		{name: "no terminal", command: "attach", answer: "y\n", status: 1, out: shown,
			err: "nothing was changed: standard input is not a terminal to ask on; --yes goes ahead\n"},
		{name: "no", command: "attach", answer: "n\n", terminal: true, status: 1,
			out: shown + "Change this function? [y/N] ", err: "nothing was changed\n"},
		{name: "nothing", command: "attach", terminal: true, status: 1,
			out: shown + "Change this function? [y/N] ", err: "nothing was changed\n"},
		{name: "yes", command: "attach", answer: "y\n", terminal: true,
			out: shown + "Change this function? [y/N] orders: attached\n"},
		{name: "no detach", command: "detach", answer: "\n", terminal: true, status: 1,
			out: detached + "Change this function? [y/N] ",
			err: "nothing was changed\n"},
		{name: "detach", command: "detach", answer: " YES \n", terminal: true,
			out: detached + "Change this function? [y/N] orders: detached\n"},
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			f.answer, f.terminal = s.answer, s.terminal
			a := args
			if s.command == "detach" {
				a = args[:1]
			}
			r := f.run(s.command, a...)
			if r != (result{status: s.status, out: s.out, err: s.err}) {
				t.Errorf("got %d\n%s\n%s\nwant %d\n%s\n%s", r.status, r.out, r.err, s.status, s.out, s.err)
			}
		})
	}
}

// interruptEachCall has a command killed at its first call of the AWS CLI, at its second, and so on, both
// before and after the call is carried out. try does it for one call, and returns false if the command has
// come to its end without that many. The command takes that many calls at least.
func interruptEachCall(t *testing.T, atLeast int, try func(call int, done bool) bool) {
	t.Helper()
	for _, done := range []bool{false, true} {
		interruptCalls(t, atLeast, func(call int) bool { return try(call, done) })
	}
}

// interruptCalls is interruptEachCall for calls that are carried out, or for such that are not.
func interruptCalls(t *testing.T, atLeast int, try func(call int) bool) {
	t.Helper()
	call := 1
	for try(call) {
		call++
	}
	if call-1 < atLeast {
		t.Errorf("the command took %d calls, want %d at least", call-1, atLeast)
	}
}

// state is a copy of what attach and detach can change.
type state struct {
	functions map[string]fakeFunction
	roles     map[string][]string
}

func (f *fakeAWS) save() state {
	s := state{functions: map[string]fakeFunction{}, roles: map[string][]string{}}
	for name, fn := range f.functions {
		s.functions[name] = *fn
	}
	for name, policies := range f.roles {
		s.roles[name] = slices.Clone(policies)
	}
	return s
}

func (f *fakeAWS) restore(s state) {
	f.functions = map[string]*fakeFunction{}
	for name, fn := range s.functions {
		f.functions[name] = &fn
	}
	f.roles = map[string][]string{}
	for name, policies := range s.roles {
		f.roles[name] = slices.Clone(policies)
	}
}

// The functions have one role, and the policy is on it as long as one of them needs it.
func TestDetachUndoesAnInterruptedDetachOfAll(t *testing.T) {
	f := newFakeAWS(t)
	f.function("bills", functionKinds["with everything"])
	f.function("orders", functionKinds["with both wrappers"])
	before := f.snapshot()
	f.attachWithPolicy("bills", "orders")
	attached := f.save()
	interruptCalls(t, 10, func(call int) bool {
		f.restore(attached)
		f.die(len(f.calls)+call, true)
		f.run("detach", "--all", "--yes")
		if !f.dead {
			return false
		}
		f.revive()
		r := f.run("detach", "--all", "--yes")
		if r.status != 0 {
			t.Errorf("call %d: detach: %+v", call, r)
		}
		f.want(before)
		return true
	})
}

// The second attach moves the policy to another role, and gives the function a key and an end.
func TestDetachUndoesAnInterruptedSecondAttach(t *testing.T) {
	f := newFakeAWS(t)
	f.roles["new"] = nil
	f.function("orders", functionKinds["with variables of ours"])
	f.attachWithPolicy("orders")
	f.functions["orders"].config = bytes.ReplaceAll(
		f.functions["orders"].config, []byte("role/service/orders-role"), []byte("role/new"))
	attached := f.save()
	f.detached("orders")
	before := f.snapshot()
	interruptCalls(t, 8, func(call int) bool {
		f.restore(attached)
		f.die(len(f.calls)+call, true)
		f.run("attach", "orders", "--stack", "dev", "--yes", "--attach-policy", "--seal", "--for", "2h")
		if !f.dead {
			return false
		}
		f.revive()
		r := f.run("detach", "orders", "--yes")
		if r.status != 0 {
			t.Errorf("call %d: detach: %+v", call, r)
		}
		f.want(before)
		return true
	})
}

func TestDetachUndoesAnInterruptedAttach(t *testing.T) {
	attach := []string{"orders", "--stack", "dev", "--yes", "--attach-policy", "--stage", "alice"}
	interruptEachCall(t, 6, func(call int, done bool) bool {
		f := newFakeAWS(t)
		f.function("orders", functionKinds["with everything"])
		before := f.snapshot()
		f.die(call, done)
		first := f.run("attach", attach...)
		if !f.dead {
			if first.status != 0 {
				t.Errorf("attach: %+v", first)
			}
			return false
		}
		f.revive()
		if call%2 == 0 { // by way of another attach
			r := f.run("attach", attach...)
			if r.status != 0 {
				t.Errorf("call %d: attach again: %+v", call, r)
			}
			f.wantAttachedAtAll()
		}
		r := f.run("detach", "orders", "--yes")
		if r.status != 0 {
			t.Errorf("call %d: detach: %+v", call, r)
		}
		f.want(before)
		return true
	})
}

// wantAttachedAtAll checks that the function orders is attached, with the policy.
func (f *fakeAWS) wantAttachedAtAll() {
	f.t.Helper()
	if f.variablesOf("orders")[memoryVariable] == nil ||
		!slices.Contains(f.roles["orders-role"], stackPolicy) {
		f.t.Error("attached again: it is not attached")
	}
}

func TestDetachUndoesAnInterruptedDetach(t *testing.T) {
	interruptEachCall(t, 4, func(call int, done bool) bool {
		f := newFakeAWS(t)
		f.function("orders", functionKinds["with everything"])
		before := f.snapshot()
		r := f.run("attach", "orders", "--stack", "dev", "--yes", "--attach-policy")
		if r.status != 0 {
			t.Fatalf("attach: %+v", r)
		}
		f.die(len(f.calls)+call, done)
		f.run("detach", "orders", "--yes")
		if !f.dead {
			return false
		}
		f.revive()
		r = f.run("detach", "orders", "--yes")
		if r.status != 0 {
			t.Errorf("call %d: detach: %+v", call, r)
		}
		f.want(before)
		return true
	})
}

// laterChange is what somebody changes between attach and detach, and what is there after detach.
type laterChange struct {
	name      string
	kind      string // of the function
	change    func(layers []string, variables map[string]any) []string
	layers    []string
	variables map[string]any
}

func testLaterChanges(t *testing.T, tests []laterChange) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", functionKinds[tt.kind])
			r := f.run("attach", "orders", "--stack", "dev", "--yes", "--stage", "alice")
			if r.status != 0 {
				t.Fatalf("attach: %+v", r)
			}
			variables := f.variablesOf("orders")
			layers := tt.change(f.layersOf("orders"), variables)
			f.configure("orders", layers, variables)
			r = f.run("detach", "orders", "--yes")
			if r.status != 0 {
				t.Fatalf("detach: %+v", r)
			}
			layers = f.layersOf("orders")
			if !slices.Equal(layers, tt.layers) {
				t.Errorf("layers: got %q, want %q", layers, tt.layers)
			}
			got, want := indentJSON(f.variablesOf("orders")), indentJSON(tt.variables)
			if !bytes.Equal(got, want) {
				t.Errorf("variables: got %s, want %s", got, want)
			}
		})
	}
}

func TestDetachKeepsLaterLayersAndVariables(t *testing.T) {
	const own = "arn:aws:lambda:eu-west-1:123456789012:layer:own:3"
	const datadog = "arn:aws:lambda:eu-west-1:123456789012:layer:datadog:12"
	testLaterChanges(t, []laterChange{
		{
			name: "a layer and a variable",
			kind: "plain",
			change: func(l []string, v map[string]any) []string {
				v["NEW"] = "x"
				return append(l, own)
			},
			layers:    []string{own},
			variables: map[string]any{"NEW": "x"},
		},
		{
			name: "layers in another order, and variables are gone but for the layer's",
			kind: "with everything",
			change: func(l []string, v map[string]any) []string {
				maps.DeleteFunc(v, func(name string, _ any) bool {
					return !strings.HasPrefix(name, "LIVE_") && name != wrapperVariable
				})
				return []string{l[3], l[0], l[2]}
			},
			layers:    []string{own, datadog},
			variables: map[string]any{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/datadog_wrapper"},
		},
		{
			name:      "the layer is gone",
			kind:      "plain",
			change:    func(l []string, v map[string]any) []string { return nil },
			layers:    nil,
			variables: map[string]any{},
		},
		{
			name: "another version of the layer",
			kind: "plain",
			change: func(l []string, v map[string]any) []string {
				return []string{"arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:1", own}
			},
			layers:    []string{own},
			variables: map[string]any{},
		},
		{
			name: "variables of ours",
			kind: "with variables of ours",
			change: func(l []string, v map[string]any) []string {
				v["LIVE_LAMBDA_STAGE"] = "other"
				v["LIVE_LAMBDA_DELIVERY"] = "runtime"
				delete(v, "LIVE_LAMBDA_APPSYNC_REGION")
				return l
			},
			layers: nil,
			variables: map[string]any{
				"LIVE_LAMBDA_STAGE":    "old",
				"LIVE_LAMBDA_OFFLINE":  "error",
				furtherVariable:        "/opt/stale",
				"LRAP_LISTENER_PORT":   "9009",
				"LIVE_LAMBDA_DELIVERY": "runtime",
			},
		},
	})
}

func TestDetachKeepsLaterWrappers(t *testing.T) {
	testLaterChanges(t, []laterChange{
		{
			name: "another wrapper in its place",
			kind: "plain",
			change: func(l []string, v map[string]any) []string {
				v[wrapperVariable] = "/opt/other"
				return l
			},
			layers:    nil,
			variables: map[string]any{wrapperVariable: "/opt/other"},
		},
		{
			name: "another wrapper behind it",
			kind: "plain",
			change: func(l []string, v map[string]any) []string {
				v[furtherVariable] = "/opt/other"
				return l
			},
			layers:    nil,
			variables: map[string]any{wrapperVariable: "/opt/other"},
		},
		{
			name: "the wrapper behind it is gone",
			kind: "with both wrappers",
			change: func(l []string, v map[string]any) []string {
				delete(v, furtherVariable)
				return l
			},
			layers:    nil,
			variables: map[string]any{furtherVariable: "/opt/stale"},
		},
		{
			name: "the wrapper is gone",
			kind: "with both wrappers",
			change: func(l []string, v map[string]any) []string {
				delete(v, wrapperVariable)
				return l
			},
			layers:    nil,
			variables: map[string]any{furtherVariable: "/opt/stale"},
		},
	})
}

// Detach leads to what was before the first time.
func TestAttachingAgainFollowsTheFlags(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", functionKinds["with everything"])
	before := f.snapshot()
	for i, args := range []string{"--stage alice",
		"--stage bob --layer arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:1",
		"--attach-policy --layer merged",
		"--set LIVE_LAMBDA_KEY=" + testKey +
			" --set LIVE_LAMBDA_FORWARD_ENV=on --set " +
			"AWS_LWA_LAMBDA_RUNTIME_API_PROXY=http://127.0.0.1:8082"} {
		r := f.run("attach", append(strings.Fields(args), "orders", "--stack", "dev", "--yes")...)
		if r.status != 0 || strings.Contains(r.out+r.err, testKey) {
			t.Fatalf("%s: %+v", args, r)
		}
		v, layers := f.variablesOf("orders"), f.layersOf("orders")
		got := fmt.Sprint(
			v["LIVE_LAMBDA_STAGE"], " ", v["LIVE_LAMBDA_FORWARD_ENV"], " ", v[furtherVariable], " ",
			strings.TrimPrefix(layers[0], "arn:aws:lambda:eu-west-1:123456789012:layer:"), " ", len(layers))
		want := []string{"alice <nil> /opt/datadog_wrapper live-lambda-arm64:2 4",
			"bob <nil> /opt/datadog_wrapper live-lambda-arm64:1 4",
			"<nil> <nil> /opt/datadog_wrapper merged:1 4",
			"<nil> on /opt/datadog_wrapper live-lambda-arm64:2 4"}[i]
		if got != want {
			t.Errorf("%s: got %s, want %s", args, got, want)
		}
	}
	r := f.run("detach", "orders", "--yes")
	if r.status != 0 {
		t.Fatalf("detach: %+v", r)
	}
	f.want(before)
}

// withUnreadableVariables is the configuration of a function whose key the developer may not use.
var withUnreadableVariables = map[string]any{
	"Environment": map[string]any{
		"Error": map[string]any{"ErrorCode": "AccessDeniedException", "Message": secretValue}},
}

const unreadableVariables = "its variables cannot be read (AccessDeniedException), and an update would " +
	"lose them; it takes kms:Decrypt on the function's key"

// attachRefusal is a function, what attach is asked for besides, and why it does not do it.
type attachRefusal struct {
	name string
	kind map[string]any
	args string
	want string
}

func testRefusals(t *testing.T, tests []attachRefusal) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", tt.kind)
			before := f.snapshot()
			r := f.run("attach", append(strings.Fields(tt.args), "orders", "--stack", "dev", "--yes")...)
			if r != (result{status: 1, out: "", err: "orders: " + tt.want + "\n"}) {
				t.Errorf("got %d %q\n%s\nwant %s", r.status, r.out, r.err, tt.want)
			}
			f.want(before)
		})
	}
}

const toolkitAtWork = "AWS Toolkit's remote debugging is at work on it, and sets layers and variables back " +
	"when it ends: end it first"

func TestAttachRefusesFunctionsThatCannotRunTheLayer(t *testing.T) {
	testRefusals(t, []attachRefusal{
		{
			name: "image",
			kind: map[string]any{"PackageType": "Image", "Runtime": nil, "Handler": nil},
			want: "it is a container image, and images take no layers: copy the layer's files into the " +
				"image, as docs/DEPLOY.md shows under Container images",
		},
		{
			name: "old runtime",
			kind: map[string]any{"Runtime": "python3.7"},
			want: "its runtime python3.7 starts no wrapper (AWS_LAMBDA_EXEC_WRAPPER), so the function " +
				"would not use the proxy: choose a newer runtime first",
		},
		{
			name: "unknown architecture",
			kind: map[string]any{"Architectures": []any{"riscv64"}},
			want: "its architecture riscv64 is neither x86_64 nor arm64, " +
				"and the layer has binaries for these only",
		},
		{name: "AWS Toolkit's layer", want: toolkitAtWork, kind: map[string]any{"Layers": []any{
			map[string]any{"Arn": "arn:aws:lambda:eu-west-1:166855510987:layer:LDKLayerArm64:6"}}}},
		{name: "AWS Toolkit's variables", want: toolkitAtWork, kind: withVariables(map[string]any{
			wrapperVariable: "/opt/bin/ldk_wrapper", "AWS_LDK_DESTINATION_TOKEN": secretValue})},
	})
}

func TestAttachRefusesLayersThatAreNotThere(t *testing.T) {
	testRefusals(t, []attachRefusal{
		{
			name: "a layer of another architecture",
			kind: map[string]any{"Architectures": []any{"x86_64"}},
			args: "--layer arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:1",
			want: "its architecture is x86_64, and layer " +
				"arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:1 is for arm64: publish one " +
				"with `live-lambda publish-layer x86_64`",
		},
		{
			name: "no layer of the architecture",
			kind: map[string]any{},
			args: "--layer live-lambda-amd64",
			want: "there is no layer live-lambda-amd64 for arm64: " +
				"publish it with `live-lambda publish-layer arm64`",
		},
		{
			name: "no such layer version",
			kind: map[string]any{},
			args: "--layer arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:9",
			want: "aws lambda get-layer-version-by-arn: ResourceNotFoundException: The resource you " +
				"requested does not exist.",
		},
	})
}

func TestAttachRefusesWhatIsOverLambdasLimits(t *testing.T) {
	t.Setenv("USER", "ann") // as newFakeAWS does
	testRefusals(t, []attachRefusal{
		{
			name: "five layers",
			kind: map[string]any{
				"Layers": []any{
					layerRef("own:3"), layerRef("own2:3"), layerRef("own3:3"), layerRef("own4:3"),
					layerRef("insights:38")},
			},
			want: "it has 5 layers, and Lambda allows no more than 5: take one off, or merge two",
		},
		{
			name: "4 KB of variables",
			kind: map[string]any{
				"Environment": map[string]any{
					"Variables": map[string]any{"BIG": strings.Repeat("b", 3700)}},
			},
			want: fmt.Sprintf("its variables would take %d bytes, and Lambda allows no more than 4096: "+
				"shorten some by %d", 4328+len(userAtHost()), 232+len(userAtHost())),
		},
	})
}

func TestAttachRefusesVariablesThatItCannotRead(t *testing.T) {
	testRefusals(t, []attachRefusal{
		{
			name: "unreadable variables",
			kind: withUnreadableVariables,
			want: unreadableVariables,
		},
		{
			name: "damaged memory",
			kind: map[string]any{
				"Environment": map[string]any{
					"Variables": map[string]any{memoryVariable: "{" + secretValue}},
			},
			want: "its variable LIVE_LAMBDA_ATTACHED, which attach wrote, is damaged: take the layer, the " +
				"wrapper and the LIVE_LAMBDA variables out by hand",
		},
	})
}

// An update would lose variables that cannot be read.
func TestDetachRefusesUnreadableVariables(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", withUnreadableVariables)
	r := f.run("detach", "orders", "--yes")
	if r.status != 1 || r.err != "orders: "+unreadableVariables+"\n" {
		t.Errorf("got %+v", r)
	}
}

// noteCase is a function, what attach is asked for besides, and what it notes.
type noteCase struct {
	name string
	kind map[string]any
	args string
	want []string
}

// noteLine is how notes are printed.
var noteLine = regexp.MustCompile(`(?m)^  note: (.*)$`)

func testNotes(t *testing.T, tests []noteCase) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", tt.kind)
			r := f.run("attach", append(strings.Fields(tt.args), "orders", "--stack", "dev", "--yes")...)
			var got []string
			for _, m := range noteLine.FindAllStringSubmatch(r.out, -1) {
				got = append(got, m[1])
			}
			if r.status != 0 || !slices.Equal(got, tt.want) {
				t.Errorf("got %d %q, want %q", r.status, got, tt.want)
			}
		})
	}
}

// withoutNotes are flags with which attach notes nothing of a usual function.
const withoutNotes = "--attach-policy"

func TestAttachNotesThatCallersWaitAndPolicyIsNeeded(t *testing.T) {
	const wait = "while no `live-lambda local` is there, callers wait and then get an error; with --set " +
		"LIVE_LAMBDA_ACCEPT_TIMEOUT=3s the deployed code answers"
	const hint = "its role needs the stack's policy, unless it has it: --attach-policy, or aws iam " +
		"attach-role-policy --role-name orders-role --policy-arn " + stackPolicy
	testNotes(t, []noteCase{
		{name: "usual", kind: map[string]any{}, args: "", want: []string{hint}},
		{
			name: "no wait",
			kind: map[string]any{},
			args: "--attach-policy --set LIVE_LAMBDA_ACCEPT_TIMEOUT=0s",
			want: []string{wait},
		},
		{
			name: "API key",
			kind: map[string]any{},
			args: "--api-key da2-x",
			want: nil,
		},
		{name: "policy", kind: map[string]any{}, args: withoutNotes, want: nil},
	})
}

func TestAttachNotesWhatAnOSOnlyRuntimeStarts(t *testing.T) {
	testNotes(t, []noteCase{
		{
			name: "OS-only",
			kind: map[string]any{"Runtime": "provided.al2023", "Handler": "main"},
			args: withoutNotes,
			want: []string{`provided.al2023 starts the layer's /opt/bootstrap, which runs "main", only if ` +
				`the package has no bootstrap of its own`},
		},
		{
			name: "OS-only with bootstrap",
			kind: map[string]any{"Runtime": "provided.al2", "Handler": "bootstrap"},
			args: withoutNotes,
			want: []string{"provided.al2 starts the package's own bootstrap: name it otherwise and make " +
				"that name the handler, or have it start through /opt/live-lambda-runtime-wrapper.sh"},
		},
	})
}

func TestAttachNotesWhatACustomerManagedRuntimeStarts(t *testing.T) {
	testNotes(t, []noteCase{{
		name: "customer-managed",
		kind: map[string]any{"Runtime": "custom"},
		args: withoutNotes,
		want: []string{"a customer-managed runtime starts the wrapper only if it heeds " +
			"AWS_LAMBDA_EXEC_WRAPPER, as those do that are made from AWS's base image of a language: have " +
			"it start through /opt/live-lambda-runtime-wrapper.sh"},
	}})
}

func TestAttachNotesAnotherToolsWrapper(t *testing.T) {
	testNotes(t, []noteCase{{
		name: "wrapper",
		kind: withVariables(map[string]any{wrapperVariable: "/opt/otel-handler"}),
		args: withoutNotes,
		want: []string{"another tool's wrapper was there and still runs, behind the layer's: whoever sets " +
			"AWS_LAMBDA_EXEC_WRAPPER again takes the layer's out"},
	}})
}

// Those have the layer until a new one is published.
func TestDetachNotesThatAPublishedVersionRuns(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", functionKinds["SnapStart"])
	f.attached("")
	r := f.run("detach", "orders", "--yes")
	const want = "  note: SnapStart is for published versions, which stay as they are: publish a new one " +
		"afterwards, aws lambda publish-version --function-name orders\n"
	if r.status != 0 || !strings.Contains(r.out, want) {
		t.Errorf("got %+v", r)
	}
}

func TestAttachNotesThatAPublishedVersionRuns(t *testing.T) {
	testNotes(t, []noteCase{
		{
			name: "SnapStart",
			kind: functionKinds["SnapStart"],
			args: withoutNotes,
			want: []string{
				"SnapStart is for published versions, which stay as they are: publish a new one " +
					"afterwards, aws lambda publish-version --function-name orders"},
		},
		{
			name: "Managed Instances",
			kind: map[string]any{
				"CapacityProviderConfig": map[string]any{
					"LambdaManagedInstancesCapacityProviderConfig": map[string]any{}},
			},
			args: withoutNotes,
			want: []string{"Managed Instances run published versions, which stay as they are: publish " +
				"afterwards, aws lambda publish-version --function-name orders --publish-to " +
				"LATEST_PUBLISHED"},
		},
	})
}

// withAdapter is a function that has Lambda Web Adapter's layer for an architecture.
func withAdapter(arch string) map[string]any {
	arn := "arn:aws:lambda:eu-west-1:753240598075:layer:LambdaAdapterLayer" + arch + ":27"
	return map[string]any{"Layers": []any{map[string]any{"Arn": arn}}}
}

func TestAttachNotesWhatLambdaWebAdapterNeeds(t *testing.T) {
	testNotes(t, []noteCase{
		{
			name: "Lambda Web Adapter",
			kind: withAdapter("Arm64"),
			args: withoutNotes,
			want: []string{"Lambda Web Adapter is its runtime and goes past the proxy without --set " +
				"AWS_LWA_LAMBDA_RUNTIME_API_PROXY=http://127.0.0.1:8082"},
		},
		{
			name: "Lambda Web Adapter with its variable",
			kind: withAdapter("X86"),
			args: withoutNotes + " --set AWS_LWA_LAMBDA_RUNTIME_API_PROXY=http://127.0.0.1:8082",
			want: nil,
		},
	})
}

func TestAttachNotesThatTheLayerIsOff(t *testing.T) {
	testNotes(t, []noteCase{{
		name: "off",
		kind: map[string]any{
			"Environment": map[string]any{"Variables": map[string]any{"LIVE_LAMBDA": "off"}}},
		args: withoutNotes,
		want: []string{"its variable LIVE_LAMBDA is off, so the layer does nothing"},
	}})
}

func TestDetachNotesWhatAttachHasNotAttached(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", functionKinds["attached by hand"])
	const want = "orders: nothing to change\n  note: it was not attached by `live-lambda attach`: take the " +
		"layer out where it was put in\n"
	r := f.run("detach", "orders", "--yes")
	if r != (result{status: 0, out: want, err: ""}) {
		t.Errorf("got %+v", r)
	}
}

func TestFunctionThatFailsDoesNotStopTheOthers(t *testing.T) {
	f := newFakeAWS(t)
	f.function("a", nil)
	f.function("b", map[string]any{"PackageType": "Image"})
	f.function("c", functionKinds["x86_64"])
	before := f.snapshot()
	names := []string{"a", "gone", "b", "c", "a"}
	r := f.run("attach", append(names, "--stack", "dev", "--yes")...)
	const failed = "gone: aws lambda get-function-configuration: ResourceNotFoundException: Function not " +
		"found: arn:aws:lambda:eu-west-1:123456789012:function:gone; check the name, and the AWS CLI's " +
		"region and profile; a Web Function takes no layer\n" +
		"b: it is a container image, and images take no layers: copy the layer's files into the image, as " +
		"docs/DEPLOY.md shows under Container images\n"
	if r.status != 1 || r.err != failed || !strings.HasSuffix(r.out, "a: attached\nc: attached\n") {
		t.Errorf("got %+v", r)
	}
	f.answer, f.terminal = "y\n", true
	r = f.run("detach", names...)
	if r.status != 1 || !strings.HasPrefix(r.err, "gone: ") ||
		!strings.HasSuffix(r.out, "Change these 2 functions? [y/N] a: detached\nc: detached\n") {
		t.Errorf("got %+v", r)
	}
	f.want(before)
}

// The list of attach and what the extension reads are written down apart.
func TestAttachSetsWhatTheExtensionReads(t *testing.T) {
	read := map[string]bool{
		adapterVariable: true, // which Lambda Web Adapter reads
	}
	readConfig(func(name string) string {
		if strings.HasPrefix(name, "LIVE_LAMBDA") || strings.HasPrefix(name, "LRAP_") {
			read[name] = true
		}
		if name == hostVariable {
			return "example.com"
		}
		return ""
	})
	want := slices.Sorted(maps.Keys(read))
	if !slices.Equal(layerVariables, want) {
		t.Errorf("attach sets %q, and the extension reads %q", layerVariables, want)
	}
}

// Attach refuses a name that the layer does not know, but what stands there under one is not its business.
func TestAttachKeepsVariablesThatTheLayerDoesNotKnow(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", map[string]any{"Environment": map[string]any{"Variables": map[string]any{
		"LIVE_LAMBDA_ACEPT_TIMEOUT": "3s",
	}}})
	before := f.snapshot()
	for range 2 { // the second time anew
		r := f.run("attach", "orders", "--stack", "dev", "--yes")
		if r.status != 0 {
			t.Fatalf("attach: %+v", r)
		}
		if f.variablesOf("orders")["LIVE_LAMBDA_ACEPT_TIMEOUT"] != "3s" {
			t.Errorf("attach left %v", f.variablesOf("orders"))
		}
	}
	r := f.run("detach", "orders", "--yes")
	if r.status != 0 {
		t.Fatalf("detach: %+v", r)
	}
	f.want(before)
}
