//go:build !layer

package main

// aws_attach_settings_test.go tests the settings that attach writes besides the API's, and what becomes of a
// function that two people attach.

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// attached attaches the function orders, configured by the stack dev, and wants that to work.
func (f *fakeAWS) attached(flags string) result {
	f.t.Helper()
	r := f.run("attach", append(strings.Fields(flags), attachDev...)...)
	if r.status != 0 {
		f.t.Fatalf("attach %s: %+v", flags, r)
	}
	return r
}

// withVariables is a configuration that has variables, or none.
func withVariables(variables map[string]any) map[string]any {
	if len(variables) == 0 {
		return nil
	}
	return map[string]any{"Environment": map[string]any{"Variables": variables}}
}

func TestAttachSetsAnAcceptTimeoutUnlessToldOtherwise(t *testing.T) {
	tests := []struct {
		name string
		has  map[string]any
		args string
		want string
	}{
		{name: "nothing says otherwise", has: nil, args: "", want: "3s"},
		{name: "the function has one", has: map[string]any{acceptVariable: "10s"}, args: "", want: "10s"},
		{name: "an empty one is none", has: map[string]any{acceptVariable: ""}, args: "", want: "3s"},
		{
			name: "the command line has one",
			has:  map[string]any{acceptVariable: "10s"},
			args: "--set LIVE_LAMBDA_ACCEPT_TIMEOUT=1500ms",
			want: "1500ms",
		},
		{name: "none is wanted", has: nil, args: "--set LIVE_LAMBDA_ACCEPT_TIMEOUT=0", want: "0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", withVariables(tt.has))
			before := f.snapshot()
			f.attached(tt.args)
			got := f.variablesOf("orders")[acceptVariable]
			if got != tt.want {
				t.Errorf("got %v, want %s", got, tt.want)
			}
			f.detached("orders")
			f.want(before)
		})
	}
}

func TestAttachWritesWhatTheFlagsSay(t *testing.T) {
	f := withOrders(t)
	before := f.snapshot()
	earliest := time.Now().Add(2 * time.Hour).Truncate(time.Second)
	r := f.attached("--for 2h --route x-live --mirror")
	latest := time.Now().Add(2 * time.Hour)
	v := f.variablesOf("orders")
	text, _ := v[untilVariable].(string)
	until, err := time.Parse(time.RFC3339, text)
	if err != nil || until.Before(earliest) || until.After(latest) || !strings.HasSuffix(text, "Z") {
		t.Errorf("until: got %q, want a time from %s to %s", text, earliest, latest)
	}
	if v[routeVariable] != "x-live" || v[modeVariable] != "mirror" {
		t.Errorf("route and mode: got %v", v)
	}
	for _, line := range []string{
		`  + LIVE_LAMBDA_MODE="mirror"`, `  + LIVE_LAMBDA_ROUTE="x-live"`,
		`  + LIVE_LAMBDA_UNTIL="` + text + `"`,
	} {
		if !strings.Contains(r.out, line+"\n") {
			t.Errorf("%q is not in %s", line, r.out)
		}
	}
	f.attached("--mirror=false") // again, without them
	v = f.variablesOf("orders")
	if v[untilVariable] != nil || v[routeVariable] != nil || v[modeVariable] != nil {
		t.Errorf("attached without the flags: got %v", v)
	}
	f.detached("orders")
	f.want(before)
}

// wantKey checks that a function has a key, and that nobody has seen it.
func (f *fakeAWS) wantKey(name string, said ...result) string {
	f.t.Helper()
	key, _ := f.variablesOf(name)[keyVariable].(string)
	bytes, err := base64.RawURLEncoding.Strict().DecodeString(key)
	if err != nil || len(bytes) != keySize {
		f.t.Fatalf("%s has no key but %q", name, key)
	}
	for _, r := range said {
		if strings.Contains(r.out+r.err, key) {
			f.t.Errorf("the key of %s is shown: %+v", name, r)
		}
	}
	for _, call := range f.calls {
		if strings.Contains(call.String(), key) {
			f.t.Errorf("the key of %s is on a command line: %s", name, call)
		}
	}
	return key
}

func TestAttachSealsEachFunctionWithAKeyOfItsOwn(t *testing.T) {
	f := withOrders(t)
	f.function("bills", nil)
	before := f.snapshot()
	r := f.attached("--seal bills")
	orders := f.wantKey("orders", r)
	bills := f.wantKey("bills", r)
	if orders == bills {
		t.Error("both have one key")
	}
	again := f.attached("--seal bills")
	if !strings.Contains(again.out, "orders: nothing to change\n") || f.wantKey("orders", again) != orders {
		t.Errorf("again: got %s", again.out)
	}
	f.attached("") // orders alone, without --seal
	if f.variablesOf("orders")[keyVariable] != nil {
		t.Error("orders is sealed without --seal")
	}
	f.detached("orders", "bills")
	f.want(before)
}

func TestAttachKeepsTheKeyThatTheFunctionHas(t *testing.T) {
	key := newKey()
	f := newFakeAWS(t)
	f.function("orders", withVariables(map[string]any{keyVariable: key}))
	before := f.snapshot()
	r := f.attached("--seal")
	if f.wantKey("orders", r) != key {
		t.Error("it has another key")
	}
	f.detached("orders")
	f.want(before)
}

// The AWS CLI repeats a request by itself, and meets its own update: the key is in it already.
func TestAttachSealsOnceIfAnAnswerWasLost(t *testing.T) {
	f := withOrders(t)
	f.twice = true
	f.attached("--seal")
	updates := 0
	for _, call := range f.calls {
		if call.args[1] == "update-function-configuration" {
			updates++
		}
	}
	if updates != 1 {
		t.Errorf("%d updates", updates)
	}
	f.wantKey("orders")
}

func TestAttachRefusesVariablesThatTheLayerCannotUse(t *testing.T) {
	const todo = "; change that one, or --set it"
	testRefusals(t, []attachRefusal{
		{
			name: "a value of the function's",
			kind: withVariables(map[string]any{"LIVE_LAMBDA_OFFLINE": "maybe"}),
			want: `its variables would not do: LIVE_LAMBDA_OFFLINE is "maybe", not deployed or error; ` +
				"using deployed" + todo,
		},
		{
			name: "a timeout of the function's",
			kind: withVariables(map[string]any{acceptVariable: "soon"}),
			want: `its variables would not do: LIVE_LAMBDA_ACCEPT_TIMEOUT is "soon", not a duration like ` +
				"3s or 1500ms; using 0" + todo,
		},
	})
}

func TestAttachMendsAVariableThatTheLayerCannotUse(t *testing.T) {
	f := newFakeAWS(t)
	f.function("orders", withVariables(map[string]any{"LIVE_LAMBDA_OFFLINE": "maybe"}))
	before := f.snapshot()
	f.attached("--set LIVE_LAMBDA_OFFLINE=error")
	f.detached("orders")
	f.want(before)
}

// ---- two people ----

// memoryOf is what attach has written of a function.
func (f *fakeAWS) memoryOf(name string) *attachment {
	f.t.Helper()
	text, _ := f.variablesOf(name)[memoryVariable].(string)
	a, err := readAttachment(map[string]string{memoryVariable: text})
	if err != nil || a == nil {
		f.t.Fatalf("%s remembers %q", name, text)
	}
	return a
}

// backdate makes a function's attachment older.
func (f *fakeAWS) backdate(name string, at time.Time) {
	f.t.Helper()
	variables := f.variablesOf(name)
	text := variables[memoryVariable].(string)
	variables[memoryVariable] = strings.Replace(text, timeText(f.memoryOf(name).At), timeText(at), 1)
	f.configure(name, f.layersOf(name), variables)
}

// since is a time at which a function of these tests was attached.
var since = time.Date(2026, 11, 5, 9, 30, 0, 0, time.UTC)

func TestSecondPersonIsToldWhoHasTheFunction(t *testing.T) {
	f := withOrders(t)
	before := f.snapshot()
	f.attached("--for 2h --stage ann")
	until := f.variablesOf("orders")[untilVariable].(string)
	f.backdate("orders", since)
	anns := f.snapshot()
	ann := userAtHost()
	t.Setenv("USER", "bob")
	r := f.run("attach", append([]string{"--stage", "bob"}, attachDev...)...)
	want := "orders: " + ann + " has attached it, on 2026-11-05T09:30:00Z, until " + until +
		": ask them, or take it over with --force\n"
	if r != (result{status: 1, out: "", err: want}) {
		t.Errorf("got %+v, want %s", r, want)
	}
	f.want(anns)
	r = f.attached("--stage bob --force")
	if !strings.Contains(
		r.out, "note: "+ann+" has attached it, on 2026-11-05T09:30:00Z: it is taken over\n") {
		t.Errorf("taken over: got %s", r.out)
	}
	memory := f.memoryOf("orders")
	if memory.By != userAtHost() || !memory.At.After(since) {
		t.Errorf("taken over: got %s, %s", memory.By, memory.At)
	}
	t.Setenv("USER", "ann")
	r = f.run("detach", "orders", "--yes")
	note := "note: bob" + strings.TrimPrefix(ann, "ann") + " has attached it, on " + timeText(memory.At) +
		"\n"
	if r.status != 0 || !strings.Contains(r.out, note) {
		t.Errorf("detach: got %+v, want %s", r, note)
	}
	f.want(before)
}

// Both were told that nobody has it.
func TestSecondPersonOfTwoAtOnceIsToldWhoWasFirst(t *testing.T) {
	f := withOrders(t)
	f.attached("--stage bob")
	bobs := f.variablesOf("orders")
	bobs[memoryVariable] = strings.Replace(bobs[memoryVariable].(string), `"ann@`, `"bob@`, 1)
	layers := f.layersOf("orders")
	f.detached("orders")
	f.before("update-function-configuration", func() { f.configure("orders", layers, bobs) })
	r := f.run("attach", append([]string{"--stage", "ann"}, attachDev...)...)
	bob := f.memoryOf("orders")
	want := "orders: " + bob.By + " has attached it, on " + timeText(bob.At) +
		": ask them, or take it over with --force\n"
	if r.status != 1 || r.err != want || f.variablesOf("orders")["LIVE_LAMBDA_STAGE"] != "bob" {
		t.Errorf("got %+v, want %s", r, want)
	}
}

func TestFunctionWhoseTimeIsOverIsFree(t *testing.T) {
	f := withOrders(t)
	f.attached("")
	variables := f.variablesOf("orders")
	variables[untilVariable] = "2026-11-05T10:00:00Z"
	f.configure("orders", f.layersOf("orders"), variables)
	t.Setenv("USER", "bob")
	f.attached("")
	if f.memoryOf("orders").By != userAtHost() {
		t.Errorf("got %s", f.memoryOf("orders").By)
	}
}

// What an earlier version of this program has attached, nobody is known to have.
func TestFunctionThatNobodyIsKnownToHaveIsFree(t *testing.T) {
	f := withOrders(t)
	before := f.snapshot()
	f.attached("")
	variables := f.variablesOf("orders")
	text, _, _ := strings.Cut(variables[memoryVariable].(string), `,"by"`)
	variables[memoryVariable] = text + "}"
	f.configure("orders", f.layersOf("orders"), variables)
	f.attached("")
	if f.memoryOf("orders").By != userAtHost() {
		t.Errorf("got %q", f.memoryOf("orders").By)
	}
	f.detached("orders")
	f.want(before)
}

func TestAttachingAgainKeepsSinceWhen(t *testing.T) {
	f := withOrders(t)
	f.attached("")
	f.backdate("orders", since)
	f.attached("--stage ann")
	memory := f.memoryOf("orders")
	if !memory.At.Equal(since) || memory.By != userAtHost() {
		t.Errorf("got %s and %s", memory.By, memory.At)
	}
}

func TestPersonIsTheSameOnAnotherNetwork(t *testing.T) {
	for _, tt := range []struct {
		by, other string
		want      bool
	}{
		{by: "ann@laptop", other: "ann@laptop.local", want: true},
		{by: "ann@laptop.example.com", other: "Ann@LAPTOP.fritz.box", want: true},
		{by: "ann@corp@laptop.local", other: "ann@corp@laptop", want: true},
		{by: "ann@laptop", other: "bob@laptop", want: false},
		{by: "ann@laptop", other: "ann@desk", want: false},
		{by: "ann.b@laptop", other: "ann.c@laptop", want: false},
		{by: "", other: "ann@desk", want: true},
	} {
		a := &attachment{By: tt.by}
		if a.belongsTo(tt.other) != tt.want {
			t.Errorf("%q and %q: got %t, want %t", tt.by, tt.other, !tt.want, tt.want)
		}
	}
}

// Anybody who may change the function may write there, and it is printed.
func TestWhoHasTheFunctionIsPlainText(t *testing.T) {
	f := withOrders(t)
	f.attached("")
	variables := f.variablesOf("orders")
	variables[memoryVariable] = strings.Replace(variables[memoryVariable].(string), `"by":"ann@`,
		`"by":"\u001b[31m`+strings.Repeat("x", 2*maxBy)+"@", 1)
	f.configure("orders", f.layersOf("orders"), variables)
	by := f.memoryOf("orders").By
	if len(by) != maxBy || !strings.HasPrefix(by, "?[31mxxx") {
		t.Errorf("got %q", by)
	}
}
