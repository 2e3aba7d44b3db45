//go:build !layer

package main

// attached_test.go tests `local --attach` as a process: against the fake of the AWS CLI, and an Event API
// behind TLS and a proxy, for a function can reach no API on this machine.

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// attachedLocal is such a process, and what it is for.
type attachedLocal struct {
	*started
	fake   *fakeAWS
	before string // the account's state
}

// newAttachedAPI has an Event API that the stack dev stands for, and a function orders. It returns the
// environment in which the API is reached.
func newAttachedAPI(t *testing.T) (r *localRig, f *fakeAWS, env []string) {
	t.Helper()
	withoutZip(t)
	root := newCertificate(t, "Root", nil)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	err := os.WriteFile(roots, []byte(root.pem()), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r = newRemoteRig(t)
	w := startWayOut(t, "", newCertificate(t, "events.example.com", root))
	w.api.Store(r.client().http.Host)
	f = newFakeAWS(t)
	f.stacks["dev"] = []fakeOutput{
		{OutputKey: "LiveLambdaAppsyncHttpHost", OutputValue: "events.example.com"},
		{OutputKey: "LiveLambdaAppsyncRegion", OutputValue: "eu-west-1"},
		{OutputKey: "LiveLambdaFunctionPolicyArn", OutputValue: stackPolicy},
	}
	f.function("orders", functionKinds["with everything"])
	return r, f, []string{"HTTPS_PROXY=http://" + w.address, "NO_PROXY=", "SSL_CERT_FILE=" + roots}
}

// startAttached starts the process, which is connected then, with a handler that says something when it is
// told to end.
func startAttached(t *testing.T, args ...string) attachedLocal {
	t.Helper()
	r, f, env := newAttachedAPI(t)
	a := attachedLocal{fake: f, before: f.snapshot()}
	args = append([]string{"local", "--attach", "orders", "--stack", "dev", "--yes"}, args...)
	args = append(args, "--", "sh", "-c", `trap : TERM; "$@"; echo last words`, "sh")
	f.turn()
	a.started = r.commandIn(env, "", append(args, testCommand("1")...)...)
	a.started.stdout.wait(r, "waiting for invocations")
	return a
}

// wantBack waits for the end, and wants all to be as before.
func (a attachedLocal) wantBack(status int) {
	a.Helper()
	a.exit(status)
	a.fake.turn()
	a.fake.want(a.before)
	if len(left()) > 0 {
		a.Errorf("it is remembered: %+v", left())
	}
	shown := a.stdout.String() + a.stderr.String()
	if strings.Contains(shown, secretValue) {
		a.Errorf("a secret is shown: %s", shown)
	}
}

// Whatever ends it lets the answer and the output out before the function is given back.
func TestAttachedFunctionIsGivenBackWhateverEndsTheCommand(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			a := startAttached(t)
			g := a.newGate("busy")
			call := a.send(task{Do: "wait", File: g.file, Text: "last"}, a.localRig.context())
			now := sig == syscall.SIGHUP || sig == syscall.SIGQUIT
			if now {
				g.pass()
				a.await(call).want(a.localRig, "", `"last"`)
				a.cmd.Process.Signal(sig)
			} else {
				f, err := os.OpenFile(g.file, os.O_WRONLY, 0) // when the handler has come
				if err != nil {
					t.Fatal(err)
				}
				a.cmd.Process.Signal(sig)
				a.stdout.wait(a.localRig, "interrupt once more to end everything now")
				f.Close()
				a.await(call).want(a.localRig, "", `"last"`)
			}
			call.finish()
			a.wantBack(0)
			out := a.stdout.String()
			words := strings.Index(out, "last words")
			back := strings.LastIndex(out, "orders: as before\n")
			if words < 0 || back < words {
				t.Errorf("it printed %s", out)
			}
		})
	}
}

// Who may attach a function may read its variables.
func TestAttachedFunctionsVariablesReachItsProcesses(t *testing.T) {
	for _, tt := range []struct {
		flags []string
		want  bool
	}{
		{want: true},
		{flags: []string{"--function-env=false"}},
		{flags: []string{"--own-env"}},
	} {
		a := startAttached(t, tt.flags...)
		call := a.send(task{Do: "env"}, a.localRig.context())
		body := string(a.await(call).body)
		call.finish()
		if strings.Contains(body, secretValue) != tt.want || strings.Contains(body, memoryVariable) {
			t.Errorf("%q: got %s", tt.flags, body)
		}
		a.cmd.Process.Signal(os.Interrupt)
		a.wantBack(0)
	}
}

func TestAttachedFunctionAloneIsServed(t *testing.T) {
	a := startAttached(t)
	other := a.localRig.context()
	other.FunctionName = "bills"
	a.send(task{}, other)
	a.stdout.wait(a.localRig, "left alone: invocations of bills")
	a.cmd.Process.Signal(os.Interrupt)
	a.wantBack(0)
}

func TestLinesOfAttachingAreNotAmongJSON(t *testing.T) {
	a := startAttached(t, "--json")
	a.cmd.Process.Signal(os.Interrupt)
	a.wantBack(0)
	for line := range strings.Lines(a.stdout.String()) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("among JSON is %q", line)
		}
	}
}

// The update is carried out all the same: an interrupt comes too late for it.
func TestInterruptWhileAttachingGivesBack(t *testing.T) {
	r, f, env := newAttachedAPI(t)
	a := attachedLocal{fake: f, before: f.snapshot()}
	begun := make(chan struct{})
	f.before("update-function-configuration", func() {
		<-begun
		a.cmd.Process.Signal(os.Interrupt)
	})
	f.turn()
	a.started = r.commandIn(env, "", "local", "--attach", "orders", "--stack", "dev", "--yes", "--", "cat")
	close(begun)
	a.wantBack(1)
}

func TestSecondInterruptSaysWhatIsLeft(t *testing.T) {
	a := startAttached(t)
	a.fake.mu.Lock()
	a.fake.before("get-function-configuration", func() { a.cmd.Process.Signal(os.Interrupt) })
	a.fake.mu.Unlock()
	a.cmd.Process.Signal(os.Interrupt)
	a.exit(1)
	const want = "live-lambda local: still attached: orders; `live-lambda detach orders` undoes that, and " +
		"the " +
		"next `live-lambda local` or `live-lambda status` offers to\n"
	if !strings.HasSuffix(a.stderr.String(), want) {
		t.Errorf("got %s, want %s", a.stderr, want)
	}
	a.fake.offered(0)
	a.fake.want(a.before)
}

// Its SIGHUP comes to every process of the terminal, also to those of the AWS CLI.
func TestTerminalThatIsClosedMeanwhileDoesNotEndTheUndoing(t *testing.T) {
	r, f, env := newAttachedAPI(t)
	a := attachedLocal{fake: f, before: f.snapshot()}
	directory := t.TempDir()
	aws, err := exec.LookPath("aws")
	script := `#!/bin/sh
if [ -e ` + directory + `/closed ]; then kill -HUP "$PPID"; kill -HUP "$$"; fi
exec ` + aws + ` "$@"
`
	if err == nil {
		err = os.WriteFile(filepath.Join(directory, "aws"), []byte(script), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, "PATH="+directory+string(os.PathListSeparator)+os.Getenv("PATH"))
	f.turn()
	a.started = r.commandIn(env, "", "local", "--attach", "orders", "--stack", "dev", "--yes", "--", "cat")
	a.started.stdout.wait(r, "waiting for invocations")
	err = os.WriteFile(filepath.Join(directory, "closed"), nil, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	a.cmd.Process.Signal(os.Interrupt)
	a.wantBack(0)
}

func TestNextLocalOffersToUndoWhatAKilledOneHasLeft(t *testing.T) {
	a := startAttached(t)
	a.cmd.Process.Kill()
	a.exit(-1)
	a.fake.turn()
	if a.fake.memoryOf("orders").Local == "" {
		t.Fatal("it is not attached")
	}
	a.fake.turn()
	next := a.command("", "local", "--config", "", "--json", "--yes", "--host", "http://127.0.0.1:1",
		"--region", "eu-west-1", "--", "cat")
	next.stderr.wait(a.localRig, "orders: as before\n")
	next.cmd.Process.Signal(os.Interrupt)
	next.cmd.Wait()
	a.fake.turn()
	a.fake.want(a.before)
	if strings.Contains(next.stdout.String(), "orders") {
		t.Errorf("among JSON is %s", next.stdout)
	}
}

// Two functions have keys of their own, and what they send is opened; a key of this end's own counts besides.
func TestKeysOfFunctionsAreTaken(t *testing.T) {
	r, f, _ := newAttachedAPI(t)
	orders := newKey()
	bills := newKey()
	own := newKey()
	f.function("orders", withVariables(map[string]any{keyVariable: orders}))
	f.function("bills", withVariables(map[string]any{keyVariable: bills}))
	f.turn()
	c := r.commandIn([]string{"LIVE_LAMBDA_KEY=" + own}, "", "local", "--config", "", "--keys", "orders",
		"--keys",
		"bill*", "--host", "http://"+r.client().http.Host, "--region", "eu-west-1", "--", "cat")
	c.stdout.wait(r, "waiting for invocations")
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
	f.turn()
	want := "taking what is sealed with " + keysText(sealersOf(own, orders, bills)) + ", and nothing else\n"
	shown := c.stdout.String() + c.stderr.String()
	if !strings.Contains(shown, want) || strings.Contains(shown, orders) || strings.Contains(shown, bills) {
		t.Errorf("got %s, want %s", shown, want)
	}
	f.wantCalls("list-functions get-function-configuration get-function-configuration", f.calls)
}

func TestKeyThatCannotBeTakenIsTold(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fields map[string]any
		want   string
	}{
		{
			name:   "none",
			fields: nil,
			want:   "orders: it has no LIVE_LAMBDA_KEY: `live-lambda attach --seal` gives it one\n",
		},
		{
			name:   "no key",
			fields: withVariables(map[string]any{keyVariable: secretValue}),
			want: "orders: its LIVE_LAMBDA_KEY is not 32 bytes in unpadded base64url: `live-lambda attach " +
				"--seal` gives it another\n",
		},
		{
			name: "not readable",
			fields: map[string]any{"Environment": map[string]any{
				"Error": map[string]any{"ErrorCode": "AccessDeniedException"}}},
			want: "orders: its variables cannot be read (AccessDeniedException): it takes kms:Decrypt on " +
				"the function's key\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", tt.fields)
			r := f.run("local", "--config", "", "--keys", "orders", "--host", "events.example.com")
			if r != (result{status: 1, err: "live-lambda local: " + tt.want}) {
				t.Errorf("got %+v, want %s", r, tt.want)
			}
		})
	}
}

func TestFunctionEnvGoesWithWhatItCanBeFor(t *testing.T) {
	f := newFakeAWS(t)
	for _, flag := range []string{"--own-env", "--external"} {
		for _, wish := range []string{"--function-env", "--assume-role"} {
			r := f.run("local", "--config", "", wish, flag, "--host", "events.example.com")
			want := "live-lambda local: " + wish + " goes with neither --own-env nor --external; see --help\n"
			if r.status != 2 || r.err != want {
				t.Errorf("%s %s: got %+v", wish, flag, r)
			}
		}
	}
}

func TestLoanFlagsGoWithAttach(t *testing.T) {
	f := newFakeAWS(t)
	for _, flag := range []string{"--force", "--seal", "--attach-policy=false"} {
		r := f.run("local", flag, "--host", "events.example.com")
		const want = "live-lambda local: --force, --seal and --attach-policy go with --attach; see --help\n"
		if r.status != 2 || r.err != want {
			t.Errorf("%s: got %+v", flag, r)
		}
	}
}
