//go:build !layer

package main

// aws_policy_test.go tests what becomes of the policy on the roles of functions.

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// attachWithPolicy attaches functions, each with the policy on its role, and wants that to work.
func (f *fakeAWS) attachWithPolicy(names ...string) {
	f.t.Helper()
	r := f.run("attach", append(names, "--stack", "dev", "--yes", "--attach-policy")...)
	if r.status != 0 {
		f.t.Fatalf("attach %v: %+v", names, r)
	}
}

// detached detaches functions and wants that to work.
func (f *fakeAWS) detached(names ...string) {
	f.t.Helper()
	r := f.run("detach", append(names, "--yes")...)
	if r.status != 0 {
		f.t.Fatalf("detach %v: %+v", names, r)
	}
}

func TestLastFunctionWithTheRoleTakesThePolicyOff(t *testing.T) {
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}, {"a b"}} {
		f := newFakeAWS(t)
		f.function("a", nil)
		f.function("b", nil)
		before := f.snapshot()
		f.attachWithPolicy("a")
		f.attachWithPolicy("b")
		for i, names := range order {
			f.detached(strings.Fields(names)...)
			got := slices.Contains(f.roles["orders-role"], stackPolicy)
			want := i < len(order)-1
			if got != want {
				t.Errorf("%v: policy after detach %s: got %t, want %t", order, names, got, want)
			}
		}
		f.want(before)
	}
}

// The other function does not remember the policy, so nothing would take it off later.
func TestPolicyThatAnotherFunctionNeedsStays(t *testing.T) {
	f := newFakeAWS(t)
	f.function("a", nil)
	f.function("b", nil)
	f.attachWithPolicy("a")
	f.run("attach", "b", "--stack", "dev", "--yes")
	r := f.run("detach", "a", "--yes")
	const want = "a: the policy stays on its role: b, attached without --attach-policy, needs it; " +
		"take it off later with `aws iam detach-role-policy --role-name orders-role --policy-arn " +
		stackPolicy + "`\n"
	if r.status != 1 || r.err != want || !slices.Contains(f.roles["orders-role"], stackPolicy) ||
		f.variablesOf("a")[memoryVariable] != nil {
		t.Errorf("got %+v", r)
	}
}

func TestPolicyThatWasThereStays(t *testing.T) {
	f := withOrders(t)
	f.roles["orders-role"] = append(f.roles["orders-role"], stackPolicy)
	before := f.snapshot()
	f.attachWithPolicy("orders")
	f.detached("orders")
	f.want(before)
}

func TestPolicyFollowsTheFunctionToAnotherRole(t *testing.T) {
	f := withOrders(t)
	f.attachWithPolicy("orders")
	f.roles["new"] = nil
	f.functions["orders"].config = bytes.ReplaceAll(
		f.functions["orders"].config, []byte("role/service/orders-role"), []byte("role/new"))
	f.attachWithPolicy("orders")
	got := fmt.Sprint(f.roles)
	if got != "map[new:["+stackPolicy+"] orders-role:["+basicPolicy+"]]" {
		t.Errorf("attached: got %s", got)
	}
	f.detached("orders")
	got = fmt.Sprint(f.roles)
	if got != "map[new:[] orders-role:["+basicPolicy+"]]" {
		t.Errorf("detached: got %s", got)
	}
}

func TestAttachSaysThatItMayNotGrant(t *testing.T) {
	f := withOrders(t)
	before := f.snapshot()
	f.denied = "attach-role-policy"
	r := f.run("attach", append(slices.Clone(attachDev), "--attach-policy")...)
	const want = "orders: attached, but its role cannot reach AppSync: aws iam attach-role-policy: " +
		"AccessDenied: User: "
	if r.status != 1 || !strings.HasPrefix(r.err, want) || !strings.Contains(r.err, "iam:AttachRolePolicy") {
		t.Errorf("got %+v", r)
	}
	f.run("detach", "orders", "--yes")
	f.want(before)
}

// The function is detached all the same.
func TestDetachSaysThatItMayNotRevoke(t *testing.T) {
	f := withOrders(t)
	f.attachWithPolicy("orders")
	f.denied = "detach-role-policy"
	r := f.run("detach", "orders", "--yes")
	const want = "orders: the policy stays on its role: aws iam detach-role-policy: AccessDenied: "
	const todo = "; take it off later with `aws iam detach-role-policy --role-name orders-role " +
		"--policy-arn " + stackPolicy + "`\n"
	if r.status != 1 || !strings.HasPrefix(r.err, want) || !strings.HasSuffix(r.err, todo) {
		t.Errorf("got %+v", r)
	}
	if f.variablesOf("orders")[memoryVariable] != nil {
		t.Error("the function is still attached")
	}
}
