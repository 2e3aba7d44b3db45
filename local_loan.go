//go:build !layer

package main

// local_loan.go is `local --attach`: functions are lent to this end for as long as it runs. It knows when
// that begins and ends. A lender, which the program's top makes, knows how.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// loanFlags are what the flags of --attach set.
type loanFlags struct {
	words      []string // which functions, as `attach` takes them
	yes        bool
	force      bool
	seal       bool
	keepPolicy bool // roles stay as they are
}

// add adds the flags to f.
func (o *loanFlags) add(f *commandLine) {
	f.Func("attach",
		"attach the `FUNCTION` while this runs: a name, an ARN, a shell pattern, tag:KEY=VALUE or "+
			"stack:NAME; may be repeated",
		func(word string) error {
			o.words = append(o.words, word)
			return nil
		})
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	f.BoolVar(&o.force, "force", false, "with --attach, also what somebody else has attached")
	f.BoolVar(&o.seal, "seal", false,
		"with --attach, seal messages with a new key for each function; one that it has stays")
	f.BoolFunc("attach-policy",
		"with --attach, also attach the stack's function policy to the functions' roles, unless it is "+
			"there; --attach-policy=false leaves them as they are",
		func(value string) error {
			o.keepPolicy = value == "false"
			if value != "true" && value != "false" {
				return errors.New("not true or false")
			}
			return nil
		})
}

// check returns an error if flags do not go together.
func (o *loanFlags) check() error {
	if len(o.words) == 0 && (o.force || o.seal || o.keepPolicy) {
		return errors.New("--force, --seal and --attach-policy go with --attach")
	}
	return nil
}

// lender lends functions.
type lender struct {
	// offer offers to undo what an end that was killed has left.
	offer func(t *console, yes bool)
	// keys reads the keys of the functions that words stand for.
	keys func(profile string, words []string) ([]string, error)
	// variables reads a function's variables.
	variables func(ctx context.Context, profile, function string) (awsVariables, error)
	// role reads the credentials of a function's role, as variables.
	role func(ctx context.Context, profile, function string) (awsVariables, error)
	// prepare reads, shows and asks, and changes nothing. It returns nil and an exit status if nothing is to
	// be done.
	prepare func(t *console, f *commandLine, o loanFlags) (*loan, int)
}

// keeper keeps functions lent until ctx is done. note writes a line.
type keeper func(ctx context.Context, note func(format string, args ...any))

// loan is functions that are lent once attach has been called.
type loan struct {
	functions []string // their names
	attach    func(ctx context.Context) error
	lookup    func() func(name string) string // how their settings are read, after attach
	keep      keeper
	// giveBack undoes what attach has done, also if that has failed or was interrupted. It returns the
	// functions of which that failed, or was not begun before ctx ended, and 1 if something is not as before.
	giveBack func(ctx context.Context) (left []string, status int)
}

// onLoan is local with functions that are attached for as long as it runs.
func (t *console) onLoan(f *commandLine, o *localFlags, lender lender) int {
	shown := t.apart(o.json)
	n, status := lender.prepare(shown, f, o.loan)
	if n == nil {
		return status
	}
	if len(o.functions) == 0 && len(o.maps) == 0 { // others may send events to the same channel
		o.functions = n.functions
	}
	signals := catchSignals()
	defer signal.Stop(signals)
	err := untilStopped(signals, n.attach)
	if err == nil {
		status = t.connect(f, o, n.lookup(), signals, n.keep)
	} else {
		status = f.failed(err)
	}
	fmt.Fprintln(shown.out, "undoing what --attach has done; interrupt once more to leave it")
	return max(status, t.giveBack(f, n, signals))
}

// apart is where lines go that are not to be among local's own, if those are JSON.
func (t *console) apart(json bool) *console {
	shown := *t
	if json {
		shown.out = t.err
	}
	return &shown
}

// untilStopped calls do, whose context ends at a signal to stop.
func untilStopped(signals <-chan os.Signal, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	var err error
	go func() {
		err = do(ctx)
		close(done)
	}()
	stopped := interruptedBefore(done, signals)
	cancel()
	<-done
	if stopped && err == nil {
		err = errors.New("interrupted")
	}
	return err
}

// giveBack ends the loan. A signal to stop ends that, and then it says what is left. It returns the exit
// status.
//
// A terminal that is closed is no wish to leave anything. Its SIGHUP comes to this process and to those of
// the AWS CLI, which inherit that it is ignored, and comes once more when the shell ends.
func (t *console) giveBack(f *commandLine, n *loan, signals <-chan os.Signal) int {
	signal.Ignore(syscall.SIGHUP)
	swallow(signals, oneInterrupt) // the one that has ended the rest
	var left []string
	status := 0
	err := untilStopped(signals, func(ctx context.Context) error {
		left, status = n.giveBack(ctx)
		if len(left) > 0 {
			return fmt.Errorf("still attached: %[1]s; `live-lambda detach %[1]s` undoes that, and the next "+
				"`live-lambda local` or `live-lambda status` offers to", plainText(strings.Join(left, " ")))
		}
		return nil
	})
	if len(left) > 0 {
		return f.failed(err)
	}
	return status
}
