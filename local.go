//go:build !layer

package main

// local.go is the command local: from its flags, through interrupts, to its exit status. local_subscriber.go
// brings requests in and replies out, local_workers.go runs handlers, local_runtimeapi.go talks to them,
// local_terminal.go shows it all.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	goodbyePause = 10 * time.Second // at the end, for the extension to say that it has the last answers
	shortGoodbye = time.Second      // the same, if everything is to end now
	// in which a second signal is the same interrupt: npm, for one, passes on what its child gets too
	oneInterrupt = 50 * time.Millisecond
)

const localUsage = `usage: live-lambda local [flags] [-- COMMAND [ARGUMENT ...]]

Runs the invocations of deployed functions with COMMAND, any program that speaks the Lambda Runtime
API. Without a COMMAND it prints the address of a Runtime API and waits for a runtime that a debugger
starts. An interrupt lets what runs come to its end, a second one ends everything now.`

// localFlags are what the flags of local set, but for those of the AppSync API.
type localFlags struct {
	localOptions
	json    bool
	verbose bool
	watch   bool
	globs   []string // of files to watch; none: all in this directory
}

// local is the command local.
func (t *console) local(args []string) int {
	f := t.commandLine("local", localUsage)
	f.addAPI()
	var o localFlags
	o.add(f)
	words, status, ok := f.parse(args)
	if !ok {
		return status
	}
	err := o.take(f)
	if err != nil {
		return f.wrong("%v", err)
	}
	if len(words) > 0 && !o.watch {
		return f.wrong("there is no use for %q; a command goes after --", words[0])
	}
	o.globs = append(o.globs, words...)
	getenv, err := f.getenv(context.Background())
	if err != nil {
		return f.failed(err)
	}
	if getenv(hostVariable) == "" {
		return f.wrong(noAPI)
	}
	api, err := readAPI(regional(getenv))
	if err != nil {
		return f.wrong("%v", err)
	}
	if o.record != "" {
		err := os.MkdirAll(o.record, 0o700)
		if err != nil {
			return f.wrong("--record: %v", err)
		}
	}
	term := newTerminal(os.Stdout, os.Stderr)
	term.json = o.json
	term.verbose = o.verbose
	term.start()
	defer term.close()
	transport := newTransport()
	defer transport.CloseIdleConnections()
	cfg, _ := readConfig(getenv) // for the log level; what else is wrong in it is a function's business
	client := newAppSync(
		endpoint(*api), nil, transport, developerCredentials(f.profile, transport), term.logger(cfg.logLevel))
	l := newLocal(o.localOptions, term)
	return l.serve(newSubscriber(client, l), o.watch, o.globs)
}

// add adds the flags to f.
func (o *localFlags) add(f *commandLine) {
	o.addHandlers(f)
	f.BoolVar(&o.verbose, "verbose", false, "print events and answers")
	f.BoolVar(&o.json, "json", false, "one JSON object a line; what handlers print goes to standard error")
	f.BoolVar(&o.ownEnv, "own-env", false,
		"leave out the environment that functions send (LIVE_LAMBDA_FORWARD_ENV)")
	f.StringVar(&o.record, "record", "", "keep each event with its context in a file in this `directory`")
	f.BoolFunc("watch",
		"restart processes when files change: all here, or those that `GLOB`s name (--watch 'src/**/*.js' "+
			"...)",
		o.addGlob)
	f.Func("function", "serve only functions of this `name`, a shell pattern; may be repeated", o.addFunction)
	f.Func("map",
		"a shell command of their own for functions of a name, a shell pattern: `NAME=COMMAND`; may be "+
			"repeated",
		o.addMap)
}

// addHandlers adds to f the flags of commands that run handlers.
func (o *localOptions) addHandlers(f *commandLine) {
	f.takesCommand = true
	f.IntVar(&o.maxProcesses, "max-processes", 10,
		"at most `n` processes of one function; further invocations wait")
	f.IntVar(&o.port, "port", 0, "`port` of the Runtime API if there is no COMMAND (default any)")
}

// take completes the options with what f has read beside them. It returns an error if one is out of range.
func (o *localOptions) take(f *commandLine) error {
	o.command = f.command
	o.profile = f.profile
	if o.maxProcesses < 1 || o.maxProcesses > allProcesses {
		return fmt.Errorf("--max-processes is not from 1 to %d", allProcesses)
	}
	return nil
}

// addGlob takes the value of --watch, which is "true" if it has none.
func (o *localFlags) addGlob(value string) error {
	o.watch = true
	if value != "true" {
		o.globs = append(o.globs, value)
	}
	return nil
}

func (o *localFlags) addFunction(pattern string) error {
	o.functions = append(o.functions, pattern)
	_, err := path.Match(pattern, "")
	return err
}

func (o *localFlags) addMap(value string) error {
	name, line, ok := strings.Cut(value, "=")
	if !ok || name == "" || line == "" {
		return errors.New("not NAME=COMMAND")
	}
	if o.maps == nil {
		o.maps = map[string][]string{}
	}
	o.maps[name] = []string{"/bin/sh", "-c", line}
	_, err := path.Match(name, "")
	return err
}

// serve is local's life until it is interrupted: once, and what runs may come to its end; twice, and nothing
// may. It returns the exit status.
func (l *local) serve(s *subscriber, watch bool, globs []string) int {
	signals := make(chan os.Signal, 8)
	// SIGPIPE is caught, not ignored: processes would inherit that.
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGHUP) { // under nohup it is
		signal.Notify(signals, syscall.SIGHUP)
	}
	defer signal.Stop(signals)
	if len(l.opts.command) == 0 && !l.opts.onlyMapped() {
		err := l.attachRuntime()
		if err != nil {
			l.term.note("%v", err)
			return 1
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.run(ctx) })
	if watch {
		wg.Go(func() { l.watch(ctx, globs) })
	}
	terminalIsGone := interrupted(signals) == syscall.SIGHUP
	status := l.shutDown(s, signals, terminalIsGone)
	cancel()
	wg.Wait()
	l.close()
	l.term.summarise()
	return status
}

// attachRuntime listens for a runtime that somebody else starts, and says where.
func (l *local) attachRuntime() error {
	addr, err := l.serveAttached()
	if err != nil {
		return err
	}
	l.term.note("no command: start the runtime, in a debugger say, with AWS_LAMBDA_RUNTIME_API=%s", addr)
	return nil
}

// shutDown waits until what is at hand has come to its end, or for another signal, and then for the extension
// to say that it has the answers. With now, as if the signal had come already, all ends at once. It returns
// the exit status: 1 if something was at hand that could not come to its end.
func (l *local) shutDown(s *subscriber, signals <-chan os.Signal, now bool) (status int) {
	empty := l.stop()
	swallow(signals, oneInterrupt)
	names := l.waitingFor()
	if names != "" {
		l.term.note("waiting for %s; interrupt once more to end everything now", names)
	}
	hurry := now || interruptedBefore(empty, signals)
	if !hurry {
		return s.sayGoodbye(signals, goodbyePause)
	}
	if l.waitingFor() != "" {
		l.term.note("ending everything")
		l.endAll()
		status = 1
	}
	s.sayGoodbye(nil, shortGoodbye)
	return status
}

// sayGoodbye waits until no talk goes on, but no longer than pause. It returns 1 if a signal comes first,
// else 0.
func (s *subscriber) sayGoodbye(signals <-chan os.Signal, pause time.Duration) (status int) {
	late := time.NewTimer(pause)
	defer late.Stop()
	for s.talking() > 0 {
		select {
		case <-s.ended:
		case sig := <-signals:
			if stops(sig) {
				return 1
			}
		case <-late.C:
			return 0
		}
	}
	return 0
}

// swallow takes the signals that come within d.
func swallow(signals <-chan os.Signal, d time.Duration) {
	end := time.After(d)
	for {
		select {
		case <-signals:
		case <-end:
			return
		}
	}
}

// stops reports whether a signal is one to stop. That nobody reads what is printed any more (SIGPIPE) is
// none.
func stops(s os.Signal) bool { return s != syscall.SIGPIPE }

// interrupted waits for a signal to stop.
func interrupted(signals <-chan os.Signal) os.Signal {
	for {
		s := <-signals
		if stops(s) {
			return s
		}
	}
}

// interruptedBefore waits for a signal to stop. It reports false if done is closed before one comes.
func interruptedBefore(done <-chan struct{}, signals <-chan os.Signal) bool {
	for {
		select {
		case <-done:
			return false
		case s := <-signals:
			if stops(s) {
				return true
			}
		}
	}
}

// waitingFor names what is at hand.
func (l *local) waitingFor() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := []string{}
	for q := range l.live {
		names = append(names, q.context.FunctionName+" "+short(q.id))
	}
	slices.Sort(names)
	if len(names) > 5 {
		names = append(names[:5], fmt.Sprintf("%d more", len(names)-5))
	}
	return strings.Join(names, ", ")
}
