//go:build !layer

package main

// aws_borrow_test.go tests functions that a local end attaches for as long as it runs: what it shows and asks
// before, and the way back, whatever interrupts it. attached_test.go has the whole command.

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// borrowTest is a borrowing, and what was said meanwhile.
type borrowTest struct {
	*borrowing
	fake   *fakeAWS
	status int
	said   bytes.Buffer
}

// borrow prepares what `local --attach` of words attaches, with other flags of local's.
func (f *fakeAWS) borrow(words []string, flags attachFlags, args ...string) *borrowTest {
	f.t.Helper()
	test := &borrowTest{fake: f}
	c := &console{in: strings.NewReader(f.answer), asks: f.terminal, out: &test.said, err: &test.said}
	line := c.commandLine("local", "")
	line.addAPI()
	line.addKeys()
	_, _, ok := line.parse(args)
	if !ok {
		f.t.Fatalf("%q: %s", args, &test.said)
	}
	flags.attachPolicy = true
	f.turn()
	test.borrowing, test.status = c.borrow(line, words, flags)
	f.turn()
	return test
}

// attached attaches what was prepared, and wants that to work.
func (b *borrowTest) attached() {
	b.fake.t.Helper()
	if b.borrowing == nil {
		b.fake.t.Fatalf("not prepared: %s", &b.said)
	}
	b.fake.turn()
	err := b.attach(b.fake.t.Context())
	b.fake.turn()
	if err != nil {
		b.fake.t.Fatalf("not attached: %v, %s", err, &b.said)
	}
}

// back gives back what was attached, and wants that to work.
func (b *borrowTest) back() {
	b.fake.t.Helper()
	b.fake.turn()
	left, status := b.giveBack(b.fake.t.Context())
	b.fake.turn()
	if len(left) > 0 || status != 0 || strings.Contains(b.said.String(), secretValue) {
		b.fake.t.Errorf("left %q; it said %s", left, &b.said)
	}
}

// killed is the end of the local end by SIGKILL.
func (b *borrowTest) killed() {
	if b.borrowing != nil && b.file != nil {
		b.file.Close() // as the kernel does
	}
}

// borrowed attaches functions whose API is the stack dev's, and asks nothing.
func (f *fakeAWS) borrowed(words ...string) *borrowTest {
	f.t.Helper()
	b := f.borrow(words, attachFlags{yes: true}, "--stack", "dev")
	b.attached()
	return b
}

// withoutZip has the test run in a directory that has no layer's zip.
func withoutZip(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
}

// withZip puts the zip of the layer for arm64 into dist, and returns its path.
func withZip(t *testing.T) string {
	t.Helper()
	file := layerZip(t, 0o755, elfFile(elf.EM_AARCH64))
	withoutZip(t)
	err := os.Rename(filepath.Dir(file), "dist")
	if err == nil {
		err = os.Rename("dist/layer.zip", "dist/live-lambda-layer-arm64.zip")
	}
	here, wdErr := os.Getwd()
	if err != nil || wdErr != nil {
		t.Fatal(err, wdErr)
	}
	return filepath.Join(here, "dist", "live-lambda-layer-arm64.zip")
}

func TestBorrowedFunctionIsAsBeforeWhenItIsGivenBack(t *testing.T) {
	withoutZip(t)
	for kind := range functionKinds {
		t.Run(kind, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", functionKinds[kind])
			before := f.snapshot()
			earliest := time.Now().Add(borrowLife).Truncate(time.Second)
			b := f.borrowed("orders")
			f.wantUntil("orders", earliest)
			if !slices.Contains(f.roles["orders-role"], stackPolicy) ||
				f.memoryOf("orders").Local != b.local {
				t.Errorf("attached: got %s", f.snapshot())
			}
			b.back()
			f.want(before)
			if len(left()) > 0 {
				t.Errorf("it is still remembered: %+v", left())
			}
		})
	}
}

// wantUntil wants that the layer goes out at a time or a little later.
func (f *fakeAWS) wantUntil(name string, earliest time.Time) {
	f.t.Helper()
	text, _ := f.variablesOf(name)[untilVariable].(string)
	until, err := time.Parse(time.RFC3339, text)
	if err != nil || until.Before(earliest) || until.After(earliest.Add(time.Hour)) {
		f.t.Errorf("until %q, want %s", text, earliest)
	}
}

func TestRenewingSetsALaterEndAndNothingElse(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	f.attached("--stage ann --seal") // by the same person, for good
	before := f.snapshot()
	b := f.borrowed("orders")
	variables := f.variablesOf("orders")
	layers := f.layersOf("orders")
	f.layers["live-lambda-arm64"] = append(f.layers["live-lambda-arm64"], []string{"arm64"})
	calls := len(f.calls)
	later := time.Now().Add(5 * time.Hour)
	f.turn()
	problem := b.renew(t.Context(), later)
	f.turn()
	f.wantUntil("orders", later.Add(borrowLife).Truncate(time.Second))
	now := f.variablesOf("orders")
	now[untilVariable] = variables[untilVariable]
	if problem != "" || fmt.Sprint(now) != fmt.Sprint(variables) ||
		!slices.Equal(f.layersOf("orders"), layers) {
		t.Errorf("%q: got %v, want %v", problem, now, variables)
	}
	for _, call := range f.calls[calls:] {
		if call.args[0] != "lambda" || strings.HasPrefix(call.args[1], "list") {
			t.Errorf("renewing called %s", call)
		}
	}
	b.back()
	f.want(before)
}

func TestRenewingSaysWhatWentWrongAndKeepsTheEnd(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	b := f.borrowed("orders")
	until := b.until
	f.denied = "update-function-configuration"
	f.turn()
	problem := b.renew(t.Context(), time.Now().Add(5*time.Hour))
	f.turn()
	if !strings.HasPrefix(problem, "orders: aws lambda update-function-configuration: AccessDenied: ") ||
		strings.Contains(problem, "\n") || !b.until.Equal(until) {
		t.Errorf("got %q and %s", problem, b.until)
	}
}

// What the stage of a function is, who attaches it for a while need not say again.
func TestBorrowingKeepsWhatAnAttachmentOfTheSamePersonHasSet(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	f.attached("--stage ann --seal --set LIVE_LAMBDA_ACCEPT_TIMEOUT=9s")
	key := f.wantKey("orders")
	before := f.snapshot()
	b := f.borrowed("orders")
	lookup := b.lookup(nil)
	v := f.variablesOf("orders")
	if lookup("LIVE_LAMBDA_STAGE") != "ann" || lookup(keyVariable) != key || v[acceptVariable] != "9s" ||
		v[keyVariable] != key {
		t.Errorf("got %v", v)
	}
	b.back()
	f.want(before)
}

// ---- other people, and other ends ----

func TestWhatSomebodyHasAttachedSinceStaysAsItIs(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	b := f.borrowed("orders")
	t.Setenv("USER", "bob")
	f.attached("--force --stage bob")
	bobs := f.snapshot()
	f.turn()
	problem := b.renew(t.Context(), time.Now())
	f.turn()
	b.back()
	f.want(bobs)
	if problem != "" {
		t.Errorf("renewing said %q", problem)
	}
}

func TestLastOfTwoEndsLeadsBackToWhatTheFirstHadFound(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	f.attached("--stage ann")
	before := f.snapshot()
	first := f.borrowed("orders")
	second := f.borrowed("orders")
	f.turn()
	problem := first.renew(t.Context(), time.Now())
	f.turn()
	if problem != "" || f.memoryOf("orders").Local != second.local {
		t.Errorf("the first has renewed what the second has: %q", problem)
	}
	first.back()
	if f.memoryOf("orders").Local != second.local {
		t.Error("the first has taken the function from the second")
	}
	second.back()
	f.want(before)
}

func TestAttachingForGoodOutlivesTheEndThatHasBorrowed(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	before := f.snapshot()
	b := f.borrowed("orders")
	f.attached("--attach-policy")
	attached := f.snapshot()
	b.back()
	f.want(attached)
	f.detached("orders")
	f.want(before)
}

func TestDetachTakesBackWhatAnEndHasBorrowed(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	before := f.snapshot()
	f.attached("--stage ann")
	b := f.borrowed("orders")
	f.detached("orders")
	f.want(before)
	b.back()
	f.want(before)
}

func TestBorrowingIsRefusedIfSomebodyElseHasTheFunction(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	f.attached("--stage bob")
	t.Setenv("USER", "bob")
	before := f.snapshot()
	b := f.borrow([]string{"orders"}, attachFlags{yes: true}, "--stack", "dev")
	if b.borrowing != nil || b.status != 1 || !strings.Contains(b.said.String(), " has attached it, on ") {
		t.Errorf("got %d and %s", b.status, &b.said)
	}
	f.want(before)
}

// ---- interruptions ----

// borrowStart is what a function is like before it is borrowed.
var borrowStarts = map[string]func(*fakeAWS){
	"not attached": func(*fakeAWS) {},
	"attached":     func(f *fakeAWS) { f.attached("--stage ann --seal --for 2h --attach-policy bills") },
}

// offered undoes what was left, by way of one of the commands that offer it.
func (f *fakeAWS) offered(call int) result {
	f.terminal = true
	f.answer = "y\n"
	defer func() { f.terminal = false }()
	if call%2 == 0 {
		return f.run("status", "--stack", "dev")
	}
	return f.run("attach", "gone", "--stack", "dev")
}

// Whatever call it is that a kill comes at, or after.
func TestOfferLeadsBackFromAnInterruptedBorrowing(t *testing.T) {
	withoutZip(t)
	for name, start := range borrowStarts {
		t.Run(name, func(t *testing.T) {
			done := name == "attached" // else the call is not carried out
			interruptCalls(t, 14, func(call int) bool {
				f := newFakeAWS(t)
				f.function("bills", functionKinds["with both wrappers"])
				f.function("orders", functionKinds["with everything"])
				start(f)
				before := f.snapshot()
				f.die(len(f.calls)+call, done)
				b := f.borrow([]string{"orders", "bills"}, attachFlags{yes: true}, "--stack", "dev")
				if b.borrowing != nil {
					f.turn()
					b.attach(context.Background())
					b.renew(context.Background(), time.Now().Add(5*time.Hour))
					b.giveBack(context.Background())
					f.turn()
				}
				b.killed()
				dead := f.dead
				f.revive()
				if dead {
					f.offered(call)
				}
				f.want(before)
				if len(left()) > 0 {
					t.Errorf("call %d: it is still remembered", call)
				}
				return dead
			})
		})
	}
}

func TestInterruptedOfferIsMadeAgain(t *testing.T) {
	withoutZip(t)
	f := newFakeAWS(t)
	f.function("bills", functionKinds["with both wrappers"])
	f.function("orders", functionKinds["with everything"])
	before := f.snapshot()
	b := f.borrowed("orders", "bills")
	b.killed()
	borrowed := f.save()
	record := b.record
	interruptEachCall(t, 8, func(call int, done bool) bool {
		record.forget()
		file, err := record.write()
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		f.restore(borrowed)
		f.die(len(f.calls)+call, done)
		f.offered(1)
		dead := f.dead
		f.revive()
		if dead {
			f.offered(1)
		}
		f.want(before)
		return dead
	})
}

func TestEndThatRunsIsNoneThatWasKilled(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	b := f.borrowed("orders")
	attached := f.snapshot()
	r := f.offered(0)
	if strings.Contains(r.out, "killed") || !strings.Contains(
		r.out, " by "+userAtHost()+", for as long as a `live-lambda local` runs, until ") {
		t.Errorf("got %+v", r)
	}
	f.want(attached)
	b.killed()
	r = f.run("status")
	const left = "a `live-lambda local` that was killed has left functions attached: `live-lambda detach " +
		"orders` undoes that\n"
	if r.err != left || !strings.Contains(
		r.out, "  odd: the `live-lambda local` that attached it was killed before it could undo that\n") {
		t.Errorf("killed: got %+v", r)
	}
	f.want(attached)
}

// The record of it is on another machine, or has gone: the function itself remembers.
func TestStatusFindsWhatWasLeftWithoutARecord(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	before := f.snapshot()
	b := f.borrowed("orders")
	b.killed()
	b.record.forget()
	f.offered(0)
	f.want(before)
}

func TestWhatOthersHaveLeftIsNotOffered(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	b := f.borrowed("orders")
	b.killed()
	b.record.forget()
	attached := f.snapshot()
	t.Setenv("USER", "bob")
	r := f.offered(0)
	if strings.Contains(r.out, "killed") {
		t.Errorf("got %+v", r)
	}
	f.want(attached)
}

func TestOfferThatIsRefusedIsMadeAgain(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	b := f.borrowed("orders")
	b.killed()
	attached := f.snapshot()
	f.terminal = true
	for range 2 {
		f.answer = "n\n"
		r := f.run("status")
		if !strings.HasSuffix(r.out, "Undo what it has done to this function? [y/N] ") {
			t.Errorf("got %+v", r)
		}
		f.want(attached)
	}
}

func TestFunctionThatIsGoneIsForgotten(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	b := f.borrowed("orders")
	b.killed()
	delete(f.functions, "orders")
	f.offered(1)
	if len(left()) > 0 {
		t.Errorf("it is still remembered: %+v", left())
	}
}

// Without its variables a function does not tell that it is attached. That is no reason to forget it.
func TestFunctionThatCannotBeReadIsStillLeft(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	before := f.snapshot()
	b := f.borrowed("orders")
	readable := f.functions["orders"].config
	f.function("orders", map[string]any{"Environment": map[string]any{
		"Error": map[string]any{"ErrorCode": "AccessDeniedException"}}})
	f.turn()
	remains, _ := b.giveBack(t.Context())
	f.turn()
	b.killed()
	said := b.said.String()
	if !slices.Equal(remains, []string{"orders"}) || !strings.Contains(said, "it takes kms:Decrypt on") {
		t.Errorf("left %q, said %s", remains, said)
	}
	r := f.offered(1)
	if !strings.Contains(r.err, "it takes kms:Decrypt on") || len(left()) != 1 {
		t.Errorf("got %+v, remembered %+v", r, left())
	}
	f.functions["orders"].config = readable
	f.offered(1)
	f.want(before)
}

func TestFunctionThatIsDeletedMeanwhileIsNotLeft(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	f.function("bills", nil)
	b := f.borrowed("orders", "bills")
	delete(f.functions, "orders")
	b.back()
	const want = "orders: it is there no more\nbills: as before\n"
	if !strings.HasSuffix(b.said.String(), want) || len(left()) > 0 {
		t.Errorf("it said %s, and remembers %+v", &b.said, left())
	}
}

// The function is given back, and only its role is not as before.
func TestPolicyThatStaysIsNoFunctionThatIsLeft(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	b := f.borrowed("orders")
	f.denied = "detach-role-policy"
	f.turn()
	remains, status := b.giveBack(t.Context())
	f.turn()
	if len(remains) > 0 || status != 1 || !strings.Contains(b.said.String(), "orders: the policy stays on") {
		t.Errorf("left %q, status %d, said %s", remains, status, &b.said)
	}
	if f.variablesOf("orders")[memoryVariable] != nil || len(left()) > 0 {
		t.Errorf("it is still attached, or remembered: %+v", left())
	}
}

// An ARN and a name are two words for one function.
func TestFunctionThatIsNamedTwiceIsBorrowedOnce(t *testing.T) {
	withoutZip(t)
	const arn = "arn:aws:lambda:eu-west-1:123456789012:function:orders"
	for _, words := range [][]string{{"orders", arn}, {arn, "orders"}} {
		f := withOrders(t)
		before := f.snapshot()
		b := f.borrowed(words...)
		if len(b.changes) != 1 {
			t.Errorf("%q: it has %d changes", words, len(b.changes))
		}
		b.back()
		f.want(before)
	}
}

// What was on its way as the interrupt came may arrive after the way back was looked for.
func TestUpdateThatArrivesLateIsFoundByTheNextCommand(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	before := f.save()
	start := f.snapshot()
	b := f.borrow([]string{"orders"}, attachFlags{yes: true}, "--stack", "dev")
	ctx, interrupt := context.WithCancel(t.Context())
	f.before("update-function-configuration", interrupt)
	f.turn()
	err := b.attach(ctx)
	f.turn()
	late := f.save()
	f.restore(before)
	if err == nil {
		t.Error("it was not interrupted")
	}
	b.back()
	f.restore(late)
	f.offered(1)
	f.want(start)
	if len(left()) > 0 {
		t.Errorf("it is still remembered: %+v", left())
	}
}

func TestNothingIsBegunAfterAnInterrupt(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	f.function("bills", nil)
	f.function("carts", nil)
	b := f.borrow([]string{"orders", "bills", "carts"}, attachFlags{yes: true}, "--stack", "dev")
	ctx, interrupt := context.WithCancel(t.Context())
	f.before("update-function-configuration", interrupt)
	f.turn()
	b.attach(ctx)
	f.turn()
	said := b.said.String()
	if strings.Contains(said, "bills: aws") || strings.Contains(said, "carts: aws") {
		t.Errorf("it said %s", said)
	}
	b.back()
}

// ---- what is shown and asked ----

func TestBorrowingFromNothingMakesStackAndLayerAfterOneQuestion(t *testing.T) {
	zip := withZip(t)
	f := withOrders(t)
	clear(f.layers)
	dev := f.stacks["dev"]
	delete(f.stacks, "dev")
	f.terminal = true
	f.answer = "y\n"
	before := f.snapshot()
	b := f.borrow([]string{"orders"}, attachFlags{})
	f.stacks["dev"] = dev // whose outputs a new stack gets
	const layer = "arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:"
	want := "orders (nodejs22.x, arm64)\n" +
		"  + layer " + layer + "NEW\n" +
		"  + AWS_LAMBDA_EXEC_WRAPPER=\"/opt/live-lambda-runtime-wrapper.sh\"\n" +
		"  + LIVE_LAMBDA_ACCEPT_TIMEOUT=\"3s\"\n" +
		"  + LIVE_LAMBDA_APPSYNC_HTTP_HOST=\"NEW.appsync-api.eu-west-1.amazonaws.com\"\n" +
		"  + LIVE_LAMBDA_APPSYNC_REALTIME_HOST=\"NEW.appsync-realtime-api.eu-west-1.amazonaws.com\"\n" +
		"  + LIVE_LAMBDA_APPSYNC_REGION=\"eu-west-1\"\n" +
		"  + LIVE_LAMBDA_ATTACHED (what detach restores)\n" +
		"  + LIVE_LAMBDA_UNTIL=\"" + timeText(b.until) + "\"\n" +
		"  + policy arn:aws:iam::123456789012:policy/NEW on role orders-role\n" +
		"stack live-lambda\n" +
		"  + an AppSync API, a policy for functions, and one for developers; it stays when this command " +
		"ends\n" +
		"layer live-lambda-arm64\n" +
		"  + a version of " + zip + "; it stays when this command ends\n" +
		"Make what is new, and change this function until this command ends? [y/N] "
	if b.said.String() != want {
		t.Errorf("got %s, want %s", &b.said, want)
	}
	f.want(before)
	b.said.Reset()
	b.attached()
	want = "stack live-lambda: being created, which takes a minute or two\nstack live-lambda: created\n" +
		layer + "1: published\norders: attached\n"
	if b.said.String() != want {
		t.Errorf("got %s, want %s", &b.said, want)
	}
	host := "label.appsync-api.eu-west-1.amazonaws.com"
	if f.variablesOf("orders")[hostVariable] != host || b.lookup(nil)(hostVariable) != host ||
		!slices.Equal(f.layersOf("orders"), []string{layer + "1"}) ||
		!slices.Contains(f.roles["orders-role"], stackPolicy) {
		t.Errorf("got %s", f.snapshot())
	}
	b.back()
	f.want(before)
	f.wantCalls("describe-stacks get-function-configuration get-function-configuration "+
		"list-layer-versions list-attached-role-policies create-stack wait describe-stacks "+
		"publish-layer-version get-function-configuration list-attached-role-policies "+
		"update-function-configuration wait attach-role-policy get-function-configuration list-functions "+
		"detach-role-policy update-function-configuration wait", f.calls)
}

func TestBorrowingFromNothingMakesAGraphQLAPI(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	f.stacks["dev"] = append(
		[]fakeOutput{{OutputKey: "LiveLambdaAppsyncProtocol", OutputValue: "graphql"}}, f.stacks["dev"]...)
	before := f.snapshot()
	b := f.borrow(
		[]string{"orders"}, attachFlags{yes: true}, "--protocol", "graphql", "--stack", "another")
	b.attached()
	if f.variablesOf("orders")["LIVE_LAMBDA_APPSYNC_PROTOCOL"] != "graphql" || f.stacks["another"] == nil {
		t.Errorf("got %s", f.snapshot())
	}
	b.back()
	f.want(before)
}

// wantCalls wants calls of these commands.
func (f *fakeAWS) wantCalls(want string, calls []fakeCall) {
	f.t.Helper()
	var got []string
	for _, call := range calls {
		got = append(got, call.args[1])
	}
	if strings.Join(got, " ") != want {
		f.t.Errorf("got %q, want %q", got, want)
	}
}

func TestBorrowingPublishesTheLayerUnlessThisZipIsPublished(t *testing.T) {
	withZip(t)
	f := withOrders(t)
	f.run("publish-layer", "arm64")
	published := len(f.layers["live-lambda-arm64"])
	b := f.borrowed("orders")
	b.back()
	if len(f.layers["live-lambda-arm64"]) != published {
		t.Error("it is published again")
	}
	f.layers["live-lambda-arm64"] = append(f.layers["live-lambda-arm64"], []string{"arm64"}) // another one
	f.borrowed("orders")
	want := []string{
		"arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:" + fmt.Sprint(published+2)}
	if !slices.Equal(f.layersOf("orders"), want) {
		t.Errorf("got %q, want %q", f.layersOf("orders"), want)
	}
}

func TestBorrowingStopsIfAFunctionHasChangedWhileTheLayerWasPublished(t *testing.T) {
	withZip(t)
	f := withOrders(t)
	b := f.borrow([]string{"orders"}, attachFlags{yes: true}, "--stack", "dev")
	f.before("publish-layer-version", func() {
		f.configure("orders", nil, map[string]any{hostVariable: "theirs.example"})
	})
	f.turn()
	err := b.attach(t.Context())
	f.turn()
	const want = "somebody else has changed a function meanwhile, so nothing was attached; run this again"
	if err == nil || err.Error() != want || f.variablesOf("orders")[memoryVariable] != nil {
		t.Errorf("got %v", err)
	}
}

func TestBorrowingChangesNothingWithoutAYes(t *testing.T) {
	withoutZip(t)
	for _, tt := range []struct {
		name     string
		terminal bool
		answer   string
		want     string
	}{
		{
			name: "nobody to ask",
			want: "nothing was changed: standard input is not a terminal to ask on; --yes goes ahead\n",
		},
		{
			name: "no", terminal: true, answer: "n\n",
			want: "Change this function until this command ends? [y/N] nothing was changed\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := withOrders(t)
			before := f.snapshot()
			f.terminal = tt.terminal
			f.answer = tt.answer
			b := f.borrow([]string{"orders"}, attachFlags{}, "--stack", "dev")
			if b.borrowing != nil || b.status != 1 || !strings.HasSuffix(b.said.String(), tt.want) {
				t.Errorf("got %d and %s", b.status, &b.said)
			}
			f.want(before)
		})
	}
}

func TestBorrowingIsRefusedIfOneEndCannotServeAllFunctions(t *testing.T) {
	withoutZip(t)
	key := newKey()
	for _, tt := range []struct {
		name   string
		orders map[string]any
		args   []string
		want   string
	}{
		{
			name:   "another stage",
			orders: map[string]any{"LIVE_LAMBDA_STAGE": "ann"},
			want: "live-lambda local: the events of bills and orders would not go to one place: their " +
				"LIVE_LAMBDA_STAGE differ; give the flag for it, or start a `live-lambda local` for each\n",
		},
		{
			name:   "one is sealed",
			orders: map[string]any{keyVariable: key},
			want: "live-lambda local: one of bills and orders is sealed, and the other is not: give " +
				"--seal\n",
		},
		{
			name: "a key here alone",
			args: []string{"--key", key},
			want: "live-lambda local: --key has a key, with which nothing is taken that is not sealed, and " +
				"bills is not: give --seal, or no key\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("bills", nil)
			f.function("orders", withVariables(tt.orders))
			before := f.snapshot()
			b := f.borrow([]string{"bills", "orders"}, attachFlags{yes: true},
				append(tt.args, "--stack", "dev")...)
			if b.borrowing != nil || b.status != 1 || !strings.HasSuffix(b.said.String(), tt.want) {
				t.Errorf("got %d and %s", b.status, &b.said)
			}
			f.want(before)
		})
	}
}

func TestAllFunctionsKeysAreTaken(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	f.function("bills", nil)
	b := f.borrow([]string{"bills", "orders"}, attachFlags{yes: true, seal: true}, "--stack", "dev")
	b.attached()
	want := "mine," + f.wantKey("bills") + "," + f.wantKey("orders")
	got := b.lookup([]string{"mine"})(keyVariable)
	if got != want || strings.Contains(b.said.String(), f.wantKey("bills")) {
		t.Errorf("got %q, want %q", got, want)
	}
	b.back()
}

func TestOneThatCannotBeAttachedKeepsTheOthersAsTheyWere(t *testing.T) {
	withoutZip(t)
	f := withOrders(t)
	f.function("bills", nil)
	before := f.snapshot()
	b := f.borrow([]string{"bills", "orders"}, attachFlags{yes: true}, "--stack", "dev")
	f.before("update-function-configuration", func() { f.functions["bills"].fails = "The layer is gone" })
	f.turn()
	err := b.attach(t.Context())
	f.turn()
	if err == nil {
		t.Errorf("attached: %s", &b.said)
	}
	f.functions["bills"].failed = ""
	b.back()
	f.want(before)
}
