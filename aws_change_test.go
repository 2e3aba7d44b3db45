//go:build !layer

package main

// aws_change_test.go tests how attach gets on with other updates of the same function.

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// attachDev is a command line that attaches the function orders, configured by the stack dev.
var attachDev = []string{"orders", "--stack", "dev", "--yes"}

// withOrders returns a fake that has the function orders.
func withOrders(t *testing.T) *fakeAWS {
	f := newFakeAWS(t)
	f.function("orders", nil)
	return f
}

func TestAttachWaitsForAnUpdateThatIsUnderWay(t *testing.T) {
	f := withOrders(t)
	f.functions["orders"].state = "Pending"
	f.functions["orders"].updating = true
	r := f.run("attach", attachDev...)
	if r.status != 0 {
		t.Errorf("got %+v", r)
	}
	got := f.waited
	if got != "function-active-v2 function-updated-v2 function-updated-v2 " {
		t.Errorf("waited for %s", got)
	}
}

func TestAttachWaitsForAnUpdateThatBeganAfterItRead(t *testing.T) {
	f := withOrders(t)
	f.before("update-function-configuration", func() { f.functions["orders"].updating = true })
	r := f.run("attach", attachDev...)
	if r.status != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestAttachKeepsAVariableThatCameMeanwhile(t *testing.T) {
	f := withOrders(t)
	f.before("update-function-configuration", func() {
		f.configure("orders", nil, map[string]any{"THEIRS": "kept"})
	})
	r := f.run("attach", attachDev...)
	variables := f.variablesOf("orders")
	if r.status != 0 || variables["THEIRS"] != "kept" || variables[memoryVariable] == nil {
		t.Errorf("got %+v and %v", r, variables)
	}
}

// What the developer has confirmed would be another change now.
func TestAttachDoesNothingIfItsVariableCameMeanwhile(t *testing.T) {
	f := withOrders(t)
	f.before("update-function-configuration", func() {
		f.configure("orders", nil, map[string]any{hostVariable: "theirs.example"})
	})
	r := f.run("attach", attachDev...)
	const want = "orders: somebody else has changed it meanwhile, so nothing was done; run this again\n"
	if r.status != 1 || r.err != want || f.variablesOf("orders")[hostVariable] != "theirs.example" {
		t.Errorf("got %+v", r)
	}
}

// The AWS CLI repeats a request by itself, and meets its own update.
func TestAttachKnowsItsOwnUpdateWhoseAnswerWasLost(t *testing.T) {
	f := withOrders(t)
	f.twice = true
	r := f.run("attach", attachDev...)
	if r.status != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestAttachGivesUpOnAFunctionThatIsAlwaysUpdated(t *testing.T) {
	f := withOrders(t)
	f.functions["orders"].busy = true
	r := f.run("attach", attachDev...)
	if r.status != 1 || r.err != "orders: it is being updated again and again; try later\n" {
		t.Errorf("got %+v", r)
	}
}

func TestAttachSaysWhyTheUpdateFailed(t *testing.T) {
	f := withOrders(t)
	f.functions["orders"].fails = "The layer is gone"
	r := f.run("attach", attachDev...)
	if r.status != 1 || r.err != "orders: updated, and then the update failed: The layer is gone\n" {
		t.Errorf("got %+v", r)
	}
}

// someLocal is the name of a local end.
const someLocal = "0123456789abcdef"

// attachFor attaches functions as a local end would that takes it back later.
func (f *fakeAWS) attachFor(t *console, names []string, settings map[string]string) {
	f.t.Helper()
	cli := awsCLI{profile: ""}
	host := map[string]string{hostVariable: "label.appsync-api.eu-west-1.amazonaws.com"}
	o, err := newAttachOptions(
		attachFlags{extra: settings, attachPolicy: true}, func(name string) string { return host[name] })
	if err != nil {
		f.t.Fatal(err)
	}
	o.policy = stackPolicy
	o.local = someLocal
	f.turn()
	changes, status := t.planAll(f.t.Context(), cli, names, cli.attaching(o))
	if status == 0 {
		status = t.carryOutAll(f.t.Context(), cli, changes, cli.attaching(o), "attached")
	}
	f.turn()
	if status != 0 {
		f.t.Fatalf("attach %v: %v", names, t.err)
	}
}

// A command attaches what it needs, changes that while it runs, and at its end leads back to what it has
// found: one function was attached already, the other was not.
func TestReturningLeadsBackToWhatWasThere(t *testing.T) {
	f := newFakeAWS(t)
	f.function("bills", functionKinds["with both wrappers"])
	f.function("orders", functionKinds["with everything"])
	f.attached("--stage ann --for 2h --seal --set LIVE_LAMBDA_OFFLINE=error")
	f.backdate("orders", since)
	before := f.snapshot()
	var said bytes.Buffer
	console := &console{in: strings.NewReader(""), out: &said, err: &said}
	names := []string{"bills", "orders"}
	f.attachFor(console, names, map[string]string{untilVariable: timeText(time.Now().Add(time.Hour))})
	f.attachFor(console, names, map[string]string{untilVariable: timeText(time.Now().Add(2 * time.Hour))})
	if f.variablesOf("bills")[memoryVariable] == nil ||
		f.variablesOf("orders")["LIVE_LAMBDA_STAGE"] != "ann" ||
		!strings.Contains(f.snapshot(), stackPolicy) {
		t.Fatalf("attached: got %s", f.snapshot())
	}
	back := func(ctx context.Context) int {
		plans, status := console.planAll(ctx, awsCLI{}, names, returning(someLocal))
		return max(status, console.carryOutAll(ctx, awsCLI{}, plans, returning(someLocal), "as before"))
	}
	for range 2 { // the second time there is nothing to do
		f.turn()
		status := back(t.Context())
		f.turn()
		if status != 0 {
			t.Errorf("got status %d and %s", status, said.String())
		}
		f.want(before)
	}
	if strings.Contains(said.String(), secretValue) {
		t.Errorf("a secret is shown: %s", said.String())
	}
}

func TestReturningKeepsWhatOthersHaveChanged(t *testing.T) {
	f := withOrders(t)
	f.attached("--stage ann")
	var said bytes.Buffer
	console := &console{in: strings.NewReader(""), out: &said, err: &said}
	f.attachFor(console, []string{"orders"}, nil)
	variables := f.variablesOf("orders")
	variables["THEIRS"] = "kept"
	f.configure(
		"orders", append(f.layersOf("orders"), "arn:aws:lambda:eu-west-1:123456789012:layer:own:3"),
		variables)
	f.turn()
	plans, _ := console.planAll(t.Context(), awsCLI{}, []string{"orders"}, returning(someLocal))
	console.carryOutAll(t.Context(), awsCLI{}, plans, returning(someLocal), "as before")
	f.turn()
	v := f.variablesOf("orders")
	if v["THEIRS"] != "kept" || v["LIVE_LAMBDA_STAGE"] != "ann" || len(f.layersOf("orders")) != 2 {
		t.Errorf("got %v, %v and %s", v, f.layersOf("orders"), said.String())
	}
}
