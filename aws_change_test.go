//go:build !layer

package main

// aws_change_test.go tests how attach gets on with other updates of the same function.

import "testing"

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
