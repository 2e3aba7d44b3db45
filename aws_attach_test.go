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

// secrets are values of variables that must never be seen.
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
	if r := f.run("attach", attach...); r.status != 0 || !strings.HasSuffix(r.out, "orders: attached\n") {
		t.Fatalf("attach: got %+v", r)
	}
	f.wantAttached("orders", kind, len(flags) > 0)
	if r := f.run("attach", attach...); r.status != 0 ||
		!strings.Contains(r.out, "orders: nothing to change\n") {
		t.Errorf("attach again: got %+v", r)
	}
	if r := f.run("detach", "orders", "--yes"); r.status != 0 ||
		!strings.HasSuffix(r.out, "orders: detached\n") {
		t.Fatalf("detach: got %+v", r)
	}
	f.want(before)
	if r := f.run("detach", "orders"); r.status != 0 ||
		!strings.HasPrefix(r.out, "orders: nothing to change\n") {
		t.Errorf("detach again: got %+v", r)
	}
}

// wantAttached checks what makes a function attached, and that all that is not the layer's is as it was.
func (f *fakeAWS) wantAttached(name, kind string, policy bool) {
	f.t.Helper()
	layers, variables := f.layersOf(name), f.variablesOf(name)
	was, _ := functionKinds[kind]["Environment"].(map[string]any)
	old, _ := was["Variables"].(map[string]any)
	osOnly := strings.HasPrefix(fmt.Sprint(functionKinds[kind]["Runtime"]), "provided")
	wrapper, _ := old[wrapperVariable].(string)
	want := map[string]any{hostVariable: "label.appsync-api.eu-west-1.amazonaws.com",
		"LIVE_LAMBDA_APPSYNC_REALTIME_HOST": "label.appsync-realtime-api.eu-west-1.amazonaws.com",
		"LIVE_LAMBDA_APPSYNC_REGION":        "eu-west-1", "LIVE_LAMBDA_STAGE": "alice",
		"LIVE_LAMBDA_OFFLINE": "error",
		memoryVariable:        variables[memoryVariable]}
	if !osOnly {
		want[wrapperVariable] = wrapperPath
		if wrapper != "" && wrapper != wrapperPath {
			want[furtherVariable] = wrapper
		}
	}
	all := maps.Clone(old)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, want)
	if got, want := indentJSON(variables), indentJSON(all); !bytes.Equal(got, want) {
		f.t.Errorf("variables: got %s, want %s", got, want)
	}
	arch := map[bool]string{true: "arm64", false: "amd64"}[kind != "x86_64" && kind != "without architecture"]
	newest := "arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-" + arch + ":2"
	position := map[bool]int{true: 1}[kind == "attached by hand"]
	oldLayers, _ := functionKinds[kind]["Layers"].([]any)
	rest := slices.DeleteFunc(slices.Clone(layers), func(arn string) bool {
		return layerOf(arn) == layerOf(newest)
	})
	others := []string{}
	for _, l := range oldLayers {
		if arn := l.(map[string]any)["Arn"].(string); layerOf(arn) != layerOf(newest) {
			others = append(others, arn)
		}
	}
	if layers[position] != newest || !slices.Equal(rest, others) {
		f.t.Errorf("layers: got %q, want %s at %d and %q", layers, newest, position, others)
	}
	if got := slices.Contains(f.roles["orders-role"], stackPolicy); got != policy {
		f.t.Errorf("policy on the role: got %t, want %t", got, policy)
	}
}

func TestAttachShowsAndAsks(t *testing.T) {
	const shown = `orders (nodejs22.x, arm64)
  + layer arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:2
  ~ AWS_LAMBDA_EXEC_WRAPPER="/opt/live-lambda-runtime-wrapper.sh"
  + LIVE_LAMBDA_APPSYNC_API_KEY (not shown)
  + LIVE_LAMBDA_APPSYNC_HTTP_HOST="label.appsync-api.eu-west-1.amazonaws.com"
  + LIVE_LAMBDA_APPSYNC_REALTIME_HOST="label.appsync-realtime-api.eu-west-1.amazonaws.com"
  + LIVE_LAMBDA_APPSYNC_REGION="eu-west-1"
  + LIVE_LAMBDA_ATTACHED (what detach restores)
  + LIVE_LAMBDA_EXEC_WRAPPER (the wrapper that was there)
  + LIVE_LAMBDA_STAGE="alice"
  note: while no ` + "`live-lambda local`" +
		` is there, callers wait and then get an error; with --set LIVE_LAMBDA_ACCEPT_TIMEOUT=3s the deployed code answers
`
	const detached = `orders (nodejs22.x, arm64)
  - layer arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:2
  ~ AWS_LAMBDA_EXEC_WRAPPER (as it was)
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

// Whatever ends attach at whichever call, detach finds its way back; and so it does after a detach that was
// ended.
func TestInterruptedAttach(t *testing.T) {
	attach := []string{"orders", "--stack", "dev", "--yes", "--attach-policy", "--stage", "alice"}
	for _, done := range []bool{false, true} { // the call that is the last one has been carried out
		for n := 1; ; n++ {
			f := newFakeAWS(t)
			f.function("orders", functionKinds["with everything"])
			before := f.snapshot()
			f.die(n, done)
			first := f.run("attach", attach...)
			if !f.dead {
				if n < 7 || first.status != 0 {
					t.Errorf("attach took %d calls: %+v", n-1, first)
				}
				break
			}
			f.revive()
			if n%2 == 0 { // by way of another attach
				if r := f.run("attach", attach...); r.status != 0 {
					t.Errorf("call %d: attach again: %+v", n, r)
				}
				f.wantAttachedAtAll()
			}
			if r := f.run("detach", "orders", "--yes"); r.status != 0 {
				t.Errorf("call %d: detach: %+v", n, r)
			}
			f.want(before)
		}
	}
}

func (f *fakeAWS) wantAttachedAtAll() {
	f.t.Helper()
	if f.variablesOf("orders")[memoryVariable] == nil ||
		!slices.Contains(f.roles["orders-role"], stackPolicy) {
		f.t.Error("attached again: it is not attached")
	}
}

func TestInterruptedDetach(t *testing.T) {
	for _, done := range []bool{false, true} {
		for n := 1; ; n++ {
			f := newFakeAWS(t)
			f.function("orders", functionKinds["with everything"])
			before := f.snapshot()
			if r := f.run("attach", "orders", "--stack", "dev", "--yes", "--attach-policy"); r.status != 0 {
				t.Fatalf("attach: %+v", r)
			}
			f.die(len(f.calls)+n, done)
			f.run("detach", "orders", "--yes")
			if !f.dead {
				if n < 5 {
					t.Errorf("detach took %d calls", n-1)
				}
				break
			}
			f.revive()
			if r := f.run("detach", "orders", "--yes"); r.status != 0 {
				t.Errorf("call %d: detach: %+v", n, r)
			}
			f.want(before)
		}
	}
}

// What others change between attach and detach stays.
func TestDetachKeepsLaterChanges(t *testing.T) {
	own := "arn:aws:lambda:eu-west-1:123456789012:layer:own:3"
	datadog := "arn:aws:lambda:eu-west-1:123456789012:layer:datadog:12"
	tests := []struct {
		name   string
		kind   string
		change func(layers []string, variables map[string]any) []string
		layers []string
		want   map[string]any // variables
	}{
		{name: "a layer and a variable", kind: "plain", change: func(l []string, v map[string]any) []string {
			v["NEW"] = "x"
			return append(l, own)
		}, layers: []string{own}, want: map[string]any{"NEW": "x"}},
		{name: "layers in another order", kind: "with everything",
			change: func(l []string, v map[string]any) []string {
				clear(v)
				return []string{l[3], l[0], l[2]}
			}, layers: []string{own, datadog},
			want: map[string]any{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/datadog_wrapper"}},
		{name: "the layer is gone", kind: "plain", change: func(l []string, v map[string]any) []string {
			return nil
		}, want: map[string]any{}},
		{name: "another version of the layer", kind: "plain",
			change: func(l []string, v map[string]any) []string {
				return []string{"arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:1", own}
			}, layers: []string{own}, want: map[string]any{}},
		{name: "another wrapper in its place", kind: "plain",
			change: func(l []string, v map[string]any) []string {
				v[wrapperVariable] = "/opt/other"
				return l
			}, want: map[string]any{wrapperVariable: "/opt/other"}},
		{name: "another wrapper behind it", kind: "plain",
			change: func(l []string, v map[string]any) []string {
				v[furtherVariable] = "/opt/other"
				return l
			}, want: map[string]any{wrapperVariable: "/opt/other"}},
		{name: "the wrapper behind it is gone", kind: "with both wrappers",
			change: func(l []string, v map[string]any) []string {
				delete(v, furtherVariable)
				return l
			}, want: map[string]any{furtherVariable: "/opt/stale"}},
		{name: "the wrapper is gone", kind: "with both wrappers",
			change: func(l []string, v map[string]any) []string {
				delete(v, wrapperVariable)
				return l
			}, want: map[string]any{furtherVariable: "/opt/stale"}},
		{name: "variables of ours", kind: "with variables of ours",
			change: func(l []string, v map[string]any) []string {
				v["LIVE_LAMBDA_STAGE"], v["LIVE_LAMBDA_DELIVERY"] = "other", "runtime"
				delete(v, "LIVE_LAMBDA_APPSYNC_REGION")
				return l
			}, want: map[string]any{"LIVE_LAMBDA_STAGE": "old", "LIVE_LAMBDA_OFFLINE": "error",
				furtherVariable:      "/opt/stale",
				"LRAP_LISTENER_PORT": "9009", "LIVE_LAMBDA_DELIVERY": "runtime"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", functionKinds[tt.kind])
			if r := f.run("attach", "orders", "--stack", "dev", "--yes", "--stage", "alice"); r.status != 0 {
				t.Fatalf("attach: %+v", r)
			}
			variables := f.variablesOf("orders")
			layers := tt.change(f.layersOf("orders"), variables)
			// but for what it cleared: other variables may go, ours may not
			if tt.name == "layers in another order" {
				variables = f.variablesOf("orders")
				maps.DeleteFunc(variables, func(name string, _ any) bool {
					return !strings.HasPrefix(name, "LIVE_") && name != wrapperVariable
				})
			}
			f.configure("orders", layers, variables)
			if r := f.run("detach", "orders", "--yes"); r.status != 0 {
				t.Fatalf("detach: %+v", r)
			}
			if got := f.layersOf("orders"); !slices.Equal(got, tt.layers) {
				t.Errorf("layers: got %q, want %q", got, tt.layers)
			}
			if got, want := indentJSON(f.variablesOf("orders")),
				indentJSON(tt.want); !bytes.Equal(got, want) {
				t.Errorf("variables: got %s, want %s", got, want)
			}
		})
	}
}

// Attaching again follows the flags, and detach still leads to what was before the first time.
func TestAttachAgain(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", functionKinds["with everything"])
	before := f.snapshot()
	for i, args := range []string{"--stage alice",
		"--stage bob --layer arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:1",
		"--attach-policy --layer merged",
		"--set LIVE_LAMBDA_FORWARD_ENV=on --set AWS_LWA_LAMBDA_RUNTIME_API_PROXY=http://127.0.0.1:8082"} {
		if r := f.run(
			"attach", append(strings.Fields(args), "orders", "--stack", "dev", "--yes")...); r.status != 0 {
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
	if r := f.run("detach", "orders", "--yes"); r.status != 0 {
		t.Fatalf("detach: %+v", r)
	}
	f.want(before)
}

func TestAttachRefuses(t *testing.T) {
	big := map[string]any{
		"Environment": map[string]any{"Variables": map[string]any{"BIG": strings.Repeat("b", 3700)}}}
	tests := []struct {
		name string
		kind map[string]any
		args string
		want string
	}{
		{name: "image", kind: map[string]any{"PackageType": "Image", "Runtime": nil, "Handler": nil},
			want: "it is a container image, and images take no layers: copy the layer's files into the " +
				"image, as " +
				"docs/DEPLOY.md shows under Container images"},
		{name: "old runtime", kind: map[string]any{"Runtime": "python3.7"},
			want: "its runtime python3.7 starts no wrapper (AWS_LAMBDA_EXEC_WRAPPER), so the function " +
				"would not " +
				"use the proxy: choose a newer runtime first"},
		{name: "unknown architecture", kind: map[string]any{"Architectures": []any{"riscv64"}},
			want: "its architecture riscv64 is neither x86_64 nor arm64, " +
				"and the layer has binaries for these only"},
		{name: "a layer of another architecture", kind: map[string]any{"Architectures": []any{"x86_64"}},
			args: "--layer arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:1",
			want: "its architecture is x86_64, and layer " +
				"arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:1 is for arm64: publish one " +
				"with `live-lambda publish-layer x86_64`"},
		{name: "no layer of the architecture", kind: map[string]any{}, args: "--layer live-lambda-amd64",
			want: "there is no layer live-lambda-amd64 for arm64: " +
				"publish it with `live-lambda publish-layer arm64`"},
		{name: "no such layer version", kind: map[string]any{},
			args: "--layer arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:9",
			want: "aws lambda get-layer-version-by-arn: ResourceNotFoundException: The resource you " +
				"requested " +
				"does not exist."},
		{name: "five layers",
			kind: map[string]any{
				"Layers": []any{
					layerRef("own:3"), layerRef("own2:3"), layerRef("own3:3"), layerRef("own4:3"),
					layerRef("insights:38")}},
			want: "it has 5 layers, and Lambda allows no more than 5: take one off, or merge two"},
		{name: "4 KB of variables", kind: big,
			want: "its variables would take 4230 bytes, and Lambda allows no more than 4096: shorten some " +
				"by 134"},
		{name: "unreadable variables",
			kind: map[string]any{
				"Environment": map[string]any{
					"Error": map[string]any{"ErrorCode": "AccessDeniedException", "Message": secretValue}}},
			want: "its variables cannot be read (AccessDeniedException), and an update would lose them; it " +
				"takes " +
				"kms:Decrypt on the function's key"},
		{name: "damaged memory",
			kind: map[string]any{
				"Environment": map[string]any{
					"Variables": map[string]any{memoryVariable: "{" + secretValue}}},
			want: "its variable LIVE_LAMBDA_ATTACHED, which attach wrote, is damaged: take the layer, the " +
				"wrapper and the LIVE_LAMBDA variables out by hand"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", tt.kind)
			before := f.snapshot()
			r := f.run("attach", append(strings.Fields(tt.args), "orders", "--stack", "dev", "--yes")...)
			if r != (result{status: 1, err: "orders: " + tt.want + "\n"}) {
				t.Errorf("got %d %q\n%s\nwant %s", r.status, r.out, r.err, tt.want)
			}
			f.want(before)
		})
	}
	t.Run("detach with unreadable variables", func(t *testing.T) {
		f := newFakeAWS(t)
		f.function("orders", tests[8].kind)
		if r := f.run("detach", "orders", "--yes"); r.status != 1 || r.err != "orders: "+tests[8].want+"\n" {
			t.Errorf("got %+v", r)
		}
	})
}

func TestAttachNotes(t *testing.T) {
	const wait = "while no `live-lambda local` is there, callers wait and then get an error; with --set " +
		"LIVE_LAMBDA_ACCEPT_TIMEOUT=3s the deployed code answers"
	const hint = "its role needs the stack's policy, unless it has it: --attach-policy, or aws iam " +
		"attach-role-policy --role-name orders-role --policy-arn " + stackPolicy
	tests := []struct {
		name string
		kind map[string]any
		args string
		want []string
	}{
		{name: "usual", kind: map[string]any{}, want: []string{wait, hint}},
		{name: "no wait", kind: map[string]any{}, args: "--attach-policy --set LIVE_LAMBDA_ACCEPT_TIMEOUT=0s",
			want: []string{wait}},
		{name: "API key", kind: map[string]any{}, args: "--api-key da2-x"},
		{name: "policy", kind: map[string]any{}, args: "--attach-policy"},
		{name: "OS-only", kind: map[string]any{"Runtime": "provided.al2023", "Handler": "main"},
			args: "--attach-policy",
			want: []string{`provided.al2023 starts the layer's /opt/bootstrap, which runs "main", only if ` +
				`the ` +
				`package has no bootstrap of its own`}},
		{name: "OS-only with bootstrap",
			kind: map[string]any{"Runtime": "provided.al2", "Handler": "bootstrap"},
			args: "--attach-policy",
			want: []string{"provided.al2 starts the package's own bootstrap: name it otherwise and make " +
				"that " +
				"name the handler, or have it start through /opt/live-lambda-runtime-wrapper.sh"}},
		{name: "SnapStart", kind: functionKinds["SnapStart"], args: "--attach-policy",
			want: []string{
				"SnapStart is for published versions: publish a new one for the layer to be in it"}},
		{name: "Managed Instances",
			kind: map[string]any{
				"CapacityProviderConfig": map[string]any{
					"LambdaManagedInstancesCapacityProviderConfig": map[string]any{}}},
			args: "--attach-policy",
			want: []string{"Managed Instances run published versions: " +
				"publish a new one for the layer to be in it"}},
		{name: "Lambda Web Adapter",
			kind: map[string]any{
				"Layers": []any{
					map[string]any{
						"Arn": "arn:aws:lambda:eu-west-1:753240598075:layer:LambdaAdapterLayerArm64:27"}}},
			args: "--attach-policy",
			want: []string{"Lambda Web Adapter is its runtime and goes past the proxy without --set " +
				"AWS_LWA_LAMBDA_RUNTIME_API_PROXY=http://127.0.0.1:8082"}},
		{name: "Lambda Web Adapter with its variable",
			kind: map[string]any{
				"Layers": []any{
					map[string]any{
						"Arn": "arn:aws:lambda:eu-west-1:753240598075:layer:LambdaAdapterLayerX86:27"}}},
			args: "--attach-policy --set AWS_LWA_LAMBDA_RUNTIME_API_PROXY=http://127.0.0.1:8082"},
		{name: "off", kind: map[string]any{
			"Environment": map[string]any{"Variables": map[string]any{"LIVE_LAMBDA": "off"}}},
			args: "--attach-policy",
			want: []string{"its variable LIVE_LAMBDA is off, so the layer does nothing"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", tt.kind)
			if tt.want == nil || tt.want[0] != wait {
				tt.args += " --set LIVE_LAMBDA_ACCEPT_TIMEOUT=3s"
			}
			r := f.run("attach", append(strings.Fields(tt.args), "orders", "--stack", "dev", "--yes")...)
			var got []string
			for _, m := range regexp.MustCompile(`(?m)^  note: (.*)$`).FindAllStringSubmatch(r.out, -1) {
				got = append(got, m[1])
			}
			if r.status != 0 || !slices.Equal(got, tt.want) {
				t.Errorf("got %d %q, want %q", r.status, got, tt.want)
			}
		})
	}
	f := newFakeAWS(t)
	f.function("orders", functionKinds["attached by hand"])
	const want = "orders: nothing to change\n  note: it was not attached by `live-lambda attach`: take the " +
		"layer out where it was put in\n"
	if r := f.run("detach", "orders", "--yes"); r != (result{out: want}) {
		t.Errorf("detach of what attach has not attached: got %+v", r)
	}
}

// One function that fails does not keep the others from being done.
func TestAttachSeveral(t *testing.T) {
	f := newFakeAWS(t)
	f.function("a", nil)
	f.function("b", map[string]any{"PackageType": "Image"})
	f.function("c", functionKinds["x86_64"])
	before := f.snapshot()
	names := []string{"a", "gone", "b", "c", "a"}
	r := f.run("attach", append(names, "--stack", "dev", "--yes")...)
	const failed = "gone: aws lambda get-function-configuration: ResourceNotFoundException: Function not " +
		"found: arn:aws:lambda:eu-west-1:123456789012:function:gone\n" +
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

func TestAttachMeetsOtherUpdates(t *testing.T) {
	attach := []string{"orders", "--stack", "dev", "--yes"}
	t.Run("under way", func(t *testing.T) {
		f := newFakeAWS(t)
		f.function("orders", nil)
		f.functions["orders"].state, f.functions["orders"].updating = "Pending", true
		if r := f.run("attach", attach...); r.status != 0 {
			t.Errorf("got %+v", r)
		}
		if got := f.waited; got != "function-active-v2 function-updated-v2 function-updated-v2 " {
			t.Errorf("waited for %s", got)
		}
	})
	t.Run("begun after it was read", func(t *testing.T) {
		f := newFakeAWS(t)
		f.function("orders", nil)
		f.before("update-function-configuration", func() { f.functions["orders"].updating = true })
		if r := f.run("attach", attach...); r.status != 0 {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("another variable", func(t *testing.T) {
		f := newFakeAWS(t)
		f.function("orders", nil)
		f.before("update-function-configuration", func() {
			f.configure("orders", nil, map[string]any{"THEIRS": "kept"})
		})
		r := f.run("attach", attach...)
		if r.status != 0 || f.variablesOf("orders")["THEIRS"] != "kept" ||
			f.variablesOf("orders")[memoryVariable] == nil {
			t.Errorf("got %+v and %v", r, f.variablesOf("orders"))
		}
	})
	t.Run("the same variable", func(t *testing.T) {
		f := newFakeAWS(t)
		f.function("orders", nil)
		f.before("update-function-configuration", func() {
			f.configure("orders", nil, map[string]any{hostVariable: "theirs.example"})
		})
		r := f.run("attach", attach...)
		if r.status != 1 ||
			r.err != "orders: somebody else has changed it meanwhile, "+
				"so nothing was done; run this again\n" ||
			f.variablesOf("orders")[hostVariable] != "theirs.example" {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("its own, whose answer was lost", func(t *testing.T) { // the CLI repeats a request by itself
		f := newFakeAWS(t)
		f.function("orders", nil)
		f.twice = true
		if r := f.run("attach", attach...); r.status != 0 {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("never ending", func(t *testing.T) {
		f := newFakeAWS(t)
		f.function("orders", nil)
		f.functions["orders"].busy = true
		r := f.run("attach", attach...)
		if r.status != 1 || r.err != "orders: it is being updated again and again; try later\n" {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("failing", func(t *testing.T) {
		f := newFakeAWS(t)
		f.function("orders", nil)
		f.functions["orders"].fails = "The layer is gone"
		r := f.run("attach", attach...)
		if r.status != 1 || r.err != "orders: updated, and then the update failed: The layer is gone\n" {
			t.Errorf("got %+v", r)
		}
	})
}

func TestAttachPolicy(t *testing.T) {
	attach := func(names ...string) []string {
		return append(names, "--stack", "dev", "--yes", "--attach-policy")
	}
	t.Run("functions that share a role", func(t *testing.T) {
		for _, order := range [][]string{{"a", "b"}, {"b", "a"}, {"a b"}} {
			f := newFakeAWS(t)
			f.function("a", nil)
			f.function("b", nil)
			before := f.snapshot()
			for _, args := range [][]string{attach("a"), attach("b")} {
				if r := f.run("attach", args...); r.status != 0 {
					t.Fatalf("%v: %+v", args, r)
				}
			}
			for i, names := range order {
				if r := f.run("detach", append(strings.Fields(names), "--yes")...); r.status != 0 {
					t.Fatalf("detach %s: %+v", names, r)
				}
				if got, want := slices.Contains(f.roles["orders-role"], stackPolicy),
					i < len(order)-1; got != want {
					t.Errorf("%v: policy after detach %s: got %t, want %t", order, names, got, want)
				}
			}
			f.want(before)
		}
	})
	t.Run("another function needs it and does not know", func(t *testing.T) {
		f := newFakeAWS(t)
		f.function("a", nil)
		f.function("b", nil)
		f.run("attach", attach("a")...)
		f.run("attach", "b", "--stack", "dev", "--yes")
		r := f.run("detach", "a", "--yes")
		const want = "a: the policy stays on its role: b, attached without --attach-policy, needs it; " +
			"take it off later with `aws iam detach-role-policy --role-name orders-role --policy-arn " +
			stackPolicy + "`\n"
		if r.status != 1 || r.err != want || !slices.Contains(f.roles["orders-role"], stackPolicy) ||
			f.variablesOf("a")[memoryVariable] != nil {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("a policy that was there stays", func(t *testing.T) {
		f := newFakeAWS(t)
		f.function("orders", nil)
		f.roles["orders-role"] = append(f.roles["orders-role"], stackPolicy)
		before := f.snapshot()
		f.run("attach", attach("orders")...)
		if r := f.run("detach", "orders", "--yes"); r.status != 0 {
			t.Errorf("got %+v", r)
		}
		f.want(before)
	})
	t.Run("the role has changed", func(t *testing.T) {
		f := newFakeAWS(t)
		f.function("orders", nil)
		f.run("attach", attach("orders")...)
		f.roles["new"] = nil
		f.functions["orders"].config = bytes.ReplaceAll(
			f.functions["orders"].config, []byte("role/service/orders-role"), []byte("role/new"))
		if r := f.run("attach", attach("orders")...); r.status != 0 {
			t.Errorf("got %+v", r)
		}
		if got := fmt.Sprint(f.roles); got != "map[new:["+stackPolicy+"] orders-role:["+basicPolicy+"]]" {
			t.Errorf("got %s", got)
		}
		f.run("detach", "orders", "--yes")
		if got := fmt.Sprint(f.roles); got != "map[new:[] orders-role:["+basicPolicy+"]]" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("attach is not allowed", func(t *testing.T) {
		f := newFakeAWS(t)
		f.function("orders", nil)
		before := f.snapshot()
		f.denied = "attach-role-policy"
		r := f.run("attach", attach("orders")...)
		if r.status != 1 ||
			!strings.HasPrefix(
				r.err, "orders: attached, but its role cannot reach AppSync: aws iam attach-role-policy: "+
					"AccessDenied: User: ") ||
			!strings.Contains(r.err, "iam:AttachRolePolicy") {
			t.Errorf("got %+v", r)
		}
		f.run("detach", "orders", "--yes")
		f.want(before)
	})
	t.Run("detach is not allowed", func(t *testing.T) {
		f := newFakeAWS(t)
		f.function("orders", nil)
		f.run("attach", attach("orders")...)
		f.denied = "detach-role-policy"
		r := f.run("detach", "orders", "--yes")
		const todo = "; take it off later with `aws iam detach-role-policy --role-name orders-role " +
			"--policy-arn " + stackPolicy + "`\n"
		if r.status != 1 ||
			!strings.HasPrefix(
				r.err, "orders: the policy stays on its role: aws iam detach-role-policy: AccessDenied: ") ||
			!strings.HasSuffix(r.err, todo) {
			t.Errorf("got %+v", r)
		}
		if f.variablesOf("orders")[memoryVariable] != nil {
			t.Error("the function is still attached")
		}
	})
}
