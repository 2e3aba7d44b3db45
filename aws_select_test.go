//go:build !layer

package main

// aws_select_test.go tests which functions the words of a command line stand for.

import (
	"slices"
	"strings"
	"testing"
)

// withTeam returns a fake with functions, some of them tagged, some of a stack.
func withTeam(t *testing.T) *fakeAWS {
	f := newFakeAWS(t)
	for _, name := range []string{"orders-get", "orders-put", "bills", "mail"} {
		f.function(name, nil)
	}
	f.tags["orders-put"] = map[string]string{"team": "orders & co", "live": ""}
	f.tags["bills"] = map[string]string{"team": "orders & co"}
	f.tags["mail"] = map[string]string{"team": "mail"}
	f.resources["shop"] = []fakeResource{
		{ResourceType: "AWS::Lambda::Function", PhysicalResourceID: "orders-get",
			ResourceStatus: "UPDATE_COMPLETE"},
		{ResourceType: "AWS::Lambda::Function", PhysicalResourceID: "gone",
			ResourceStatus: "DELETE_COMPLETE"},
		{ResourceType: "AWS::Lambda::Function", PhysicalResourceID: "", ResourceStatus: "CREATE_IN_PROGRESS"},
		{ResourceType: "AWS::IAM::Role", PhysicalResourceID: "orders-role",
			ResourceStatus: "CREATE_COMPLETE"},
		{
			ResourceType:       "AWS::CloudFormation::Stack",
			PhysicalResourceID: "arn:aws:cloudformation:eu-west-1:123456789012:stack/nested/1",
			ResourceStatus:     "CREATE_COMPLETE",
		},
	}
	f.resources["arn:aws:cloudformation:eu-west-1:123456789012:stack/nested/1"] = []fakeResource{
		{ResourceType: "AWS::Lambda::Function", PhysicalResourceID: "bills",
			ResourceStatus: "CREATE_COMPLETE"},
	}
	f.resources["empty"] = nil
	return f
}

func TestWordsStandForFunctions(t *testing.T) {
	f := withTeam(t)
	const arn = "arn:aws:lambda:eu-west-1:123456789012:function:mail"
	for _, tt := range []struct {
		words []string
		want  []string
	}{
		{words: []string{"mail", arn}, want: []string{"mail", arn}},
		{words: []string{"orders-*"}, want: []string{"orders-get", "orders-put"}},
		{words: []string{"*[ls]", "mail"}, want: []string{"bills", "mail"}},
		{words: []string{"tag:team=orders & co"}, want: []string{"bills", "orders-put"}},
		{words: []string{"tag:live="}, want: []string{"orders-put"}},
		{words: []string{"tag:team"}, want: []string{"bills", "mail", "orders-put"}},
		{words: []string{"stack:shop"}, want: []string{"bills", "orders-get"}},
		{words: []string{"mail", "stack:shop", "bill?"}, want: []string{"mail", "bills", "orders-get"}},
	} {
		err := checkWords(tt.words)
		f.turn()
		got, pickErr := awsCLI{}.pick(t.Context(), tt.words, awsCLI{}.functionNames)
		f.turn()
		if err != nil || pickErr != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, %v and %v, want %q", tt.words, got, err, pickErr, tt.want)
		}
	}
	if len(f.calls) != 10 {
		t.Errorf("%d calls of aws: %v", len(f.calls), f.calls)
	}
}

func TestWordsThatStandForNothingAreRefused(t *testing.T) {
	f := withTeam(t)
	before := f.snapshot()
	const none = ": no function matches; check the AWS CLI's region and profile\n"
	for word, want := range map[string]string{
		"bill-*":      "bill-*" + none,
		"tag:team=x":  "tag:team=x" + none,
		"stack:empty": "stack:empty" + none,
		"stack:nope": "stack:nope: aws cloudformation list-stack-resources: ValidationError: Stack with id " +
			"nope does not exist\n",
	} {
		r := f.run("attach", "mail", word, "--stack", "dev", "--yes")
		if r != (result{status: 1, out: "", err: "live-lambda attach: " + want}) {
			t.Errorf("%s: got %+v", word, r)
		}
	}
	f.want(before)
}

func TestStackThatNestsTooManyIsRefused(t *testing.T) {
	asked := 0
	_, err := functionsIn("deep", func(stack string) ([]stackResource, error) {
		asked++
		return []stackResource{{ResourceType: "AWS::CloudFormation::Stack", PhysicalResourceID: "deep"}}, nil
	})
	const want = "more than 100 stacks are nested in it: name one of these"
	if err == nil || err.Error() != want || asked != maxStacks {
		t.Errorf("got %v after %d stacks, want %s", err, asked, want)
	}
}

func TestAttachAsksOnceForAllThatAWordStandsFor(t *testing.T) {
	f := withTeam(t)
	before := f.snapshot()
	f.answer, f.terminal = "y\n", true
	r := f.run("attach", "stack:shop", "orders-put", "--stack", "dev")
	if r.status != 0 || !strings.HasSuffix(r.out,
		"Change these 3 functions? [y/N] bills: attached\norders-get: attached\norders-put: attached\n") {
		t.Errorf("got %+v", r)
	}
	listed := 0
	for _, call := range f.calls {
		if call.args[1] == "list-layer-versions" {
			listed++
		}
	}
	if listed != 1 {
		t.Errorf("the layer's versions were listed %d times", listed)
	}
	r = f.run("detach", "*") // only those that carry it
	if r.status != 0 || strings.Contains(r.out, "nothing to change") || !strings.HasSuffix(r.out,
		"Change these 3 functions? [y/N] bills: detached\norders-get: detached\norders-put: detached\n") {
		t.Errorf("got %+v", r)
	}
	f.want(before)
}

func TestDetachAllUndoesAllThatIsAttached(t *testing.T) {
	f := withTeam(t)
	f.function("by-hand", functionKinds["attached by hand"])
	before := f.snapshot()
	f.attachWithPolicy("mail", "bills")
	f.answer, f.terminal = "y\n", true
	r := f.run("detach", "--all")
	const byHand = "by-hand: nothing to change\n  note: it was not attached by `live-lambda attach`"
	if r.status != 0 || !strings.Contains(r.out, byHand) ||
		!strings.HasSuffix(r.out, "Change these 2 functions? [y/N] bills: detached\nmail: detached\n") {
		t.Errorf("got %+v", r)
	}
	f.want(before)
	delete(f.functions, "by-hand")
	r = f.run("detach", "--all")
	if r != (result{status: 0, out: "no function carries the layer\n", err: ""}) {
		t.Errorf("got %+v", r)
	}
}
