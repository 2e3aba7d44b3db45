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
	// in which a second signal is the same interrupt: npm, for one, passes on what its child gets too
	oneInterrupt = 50 * time.Millisecond
)

const localUsage = `usage: live-lambda local [flags] [-- COMMAND [ARGUMENT ...]]

Runs the invocations of deployed functions with COMMAND, any program that speaks the Lambda Runtime
API. Without a COMMAND it prints the address of a Runtime API and waits for a runtime that a debugger
starts. An interrupt lets what runs come to its end, a second one ends everything now.`

// localCommand is the command local. It returns the exit status.
func localCommand(args []string) int {
	f := newFlags("local", localUsage)
	f.variable("host", "LIVE_LAMBDA_APPSYNC_HTTP_HOST", "the AppSync API's HTTP domain")
	f.variable("realtime-host", "LIVE_LAMBDA_APPSYNC_REALTIME_HOST",
		"its realtime domain, where it cannot be derived")
	f.variable("region", "LIVE_LAMBDA_APPSYNC_REGION", "its region")
	f.variable("api-key", "LIVE_LAMBDA_APPSYNC_API_KEY", "an API key instead of IAM")
	f.variable("namespace", "LIVE_LAMBDA_NAMESPACE", "channel namespace")
	f.variable("stage", "LIVE_LAMBDA_STAGE", "serve this stage's functions")
	f.variable("protocol", "LIVE_LAMBDA_APPSYNC_PROTOCOL", "events or graphql: an Event API or a GraphQL API")
	f.handlers()
	stack := f.String("stack", "", "take what is not set from the outputs of this CloudFormation stack")
	f.BoolVar(&f.opts.ownEnv, "own-env", false,
		"leave out the environment that functions send (LIVE_LAMBDA_FORWARD_ENV)")
	f.BoolVar(&f.term.json, "json", false,
		"one JSON object a line; what handlers print goes to standard error")
	f.StringVar(
		&f.opts.record, "record", "", "keep each event with its context in a file in this `directory`")
	f.BoolFunc("watch",
		"restart processes when files change: all here, or those that `GLOB`s name (--watch 'src/**/*.js' "+
			"...)", func(s string) error {
			f.watch = true
			if s != "true" {
				f.globs = append(f.globs, s)
			}
			return nil
		})
	f.Func("function", "serve only functions of this `name`, a shell pattern; may be repeated",
		func(s string) error {
			f.opts.functions = append(f.opts.functions, s)
			_, err := path.Match(s, "")
			return err
		})
	f.Func("map",
		"a shell command of their own for functions of a name, a shell pattern: `NAME=COMMAND`; may be "+
			"repeated", func(s string) error {
			name, line, ok := strings.Cut(s, "=")
			if !ok || name == "" || line == "" {
				return errors.New("not NAME=COMMAND")
			}
			f.opts.maps[name] = []string{"/bin/sh", "-c", line}
			_, err := path.Match(name, "")
			return err
		})
	words, status, ok := f.parse(args)
	if !ok {
		return status
	}
	if len(words) > 0 && !f.watch {
		return f.wrong("what is %q? A command goes after --", words[0])
	}
	getenv := f.getenv
	if *stack != "" {
		var err error
		if getenv, err = stackGetenv(context.Background(), *stack, f.opts.profile, f.getenv); err != nil {
			fmt.Fprintf(os.Stderr, "live-lambda local: %v\n", err)
			return 1
		}
	}
	if getenv("LIVE_LAMBDA_APPSYNC_HTTP_HOST") == "" {
		return f.wrong("the AppSync API is not set: give --host, --stack or LIVE_LAMBDA_APPSYNC_HTTP_HOST")
	}
	api, err := readAPI(regional(getenv))
	if err != nil {
		return f.wrong("%v", err)
	}
	cfg, _ := readConfig(getenv) // for the log level
	if f.opts.record != "" {
		if err := os.MkdirAll(f.opts.record, 0o700); err != nil {
			return f.wrong("--record: %v", err)
		}
	}
	term := newTerminal(os.Stdout, os.Stderr)
	term.json, term.verbose = f.term.json, f.term.verbose
	term.start()
	defer term.close()
	transport := newTransport()
	defer transport.CloseIdleConnections()
	client := newAppSync(endpoint(*api), nil, transport, developerCredentials(f.opts.profile, transport),
		term.logger(cfg.logLevel))
	l := newLocal(f.opts, term)
	return l.serve(newSubscriber(client, l), f.watch, append(f.globs, words...))
}

// serve is local's life until it is interrupted: once, and what runs may come to its end; twice, and nothing
// may.
func (l *local) serve(s *subscriber, watch bool, globs []string) int {
	signals := make(chan os.Signal, 8)
	// SIGPIPE is caught, not ignored: processes would inherit that.
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	defer signal.Stop(signals)
	if len(l.opts.command) == 0 && (len(l.opts.maps) == 0 || len(l.opts.functions) > 0) {
		addr, err := l.serveAttached()
		if err != nil {
			l.term.note("%v", err)
			return 1
		}
		l.term.note("no command: start the runtime, in a debugger say, with AWS_LAMBDA_RUNTIME_API=%s", addr)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.run(ctx) })
	if watch {
		wg.Go(func() { l.watch(ctx, globs) })
	}
	hangup := interrupted(signals) == syscall.SIGHUP
	status := l.shutDown(s, signals, hangup)
	cancel()
	wg.Wait()
	l.close()
	l.term.summarise()
	return status
}

// shutDown waits until what is at hand has come to its end, or for another signal (not where it all must end
// now: the terminal is gone), and then for the extension to say that it has the answers.
func (l *local) shutDown(s *subscriber, signals <-chan os.Signal, now bool) (status int) {
	empty := l.stop()
	for same := time.After(oneInterrupt); same != nil; {
		select {
		case <-signals:
		case <-same:
			same = nil
		}
	}
	again := make(chan struct{})
	go func() { // ends with the program, for lack of a signal
		if !now {
			interrupted(signals)
		}
		close(again)
	}()
	if names := l.waitingFor(); names != "" {
		l.term.note("waiting for %s; interrupt once more to end everything now", names)
	}
	pause := goodbyePause
	select {
	case <-empty:
	case <-again:
		l.term.note("ending everything")
		l.endAll()
		pause, status = time.Second, 1
		again = nil
	}
	late := time.NewTimer(pause)
	defer late.Stop()
	for s.talking() > 0 {
		select {
		case <-s.ended:
		case <-again:
			return 1
		case <-late.C:
			return status
		}
	}
	return status
}

// interrupted waits for a signal to stop. That nobody reads what is printed any more (SIGPIPE) is none.
func interrupted(signals <-chan os.Signal) os.Signal {
	for {
		if s := <-signals; s != syscall.SIGPIPE {
			return s
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
