//go:build !layer

package main

// local.go is the command local: from its flags, through interrupts, to its exit status. local_subscriber.go
// brings requests in and replies out, local_workers.go runs handlers, local_runtimeapi.go talks to them,
// local_terminal.go shows it all.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path"
	"slices"
	"strconv"
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

const localUsage = `usage: live-lambda local [flags] [HANDLER | -- COMMAND [ARGUMENT ...]]

Runs the invocations of deployed functions on this machine. HANDLER is a path and a function's name, as
Lambda's setting has it: src/orders.handler. Its file may be JavaScript or TypeScript (.js .mjs .cjs .ts
.mts .cts, run by the node on PATH) or Python (.py, run by .venv, VIRTUAL_ENV or python3). COMMAND is any
program that speaks the Lambda Runtime API. Without either it runs the deployed functions' own handlers,
from the working directory. An interrupt lets what runs come to its end, a second one ends everything now.
On a terminal ? and Enter list what can be typed.

With --attach it first attaches functions, and undoes that at its end, whatever ends it: it takes their API
from the stack live-lambda or --stack, offers to make that, publishes the layer unless this very zip is
published, shows what it will change and asks once. If it is killed, the next local, attach or status of
the same person offers to undo what is left.

The credentials here need these permissions, the least first:
  of the stack's developer policy: appsync:EventConnect, appsync:EventPublish, appsync:EventSubscribe
  lambda:GetFunctionConfiguration for --keys, --function-env and --assume-role
  sts:AssumeRole on the function's role for --assume-role; the role's trust policy must name you as well
  cloudformation:DescribeStacks for --stack, and what follows for --attach:
  lambda:GetFunctionConfiguration, lambda:GetFunction, lambda:UpdateFunctionConfiguration,
  lambda:ListLayerVersions, lambda:GetLayerVersion, and lambda:PublishLayerVersion to publish
  lambda:ListFunctions for patterns, tag:GetResources, or cloudformation:ListStackResources for stack:NAME
  unless --attach-policy=false: iam:ListAttachedRolePolicies, iam:AttachRolePolicy, iam:DetachRolePolicy,
  lambda:ListFunctions
  to make the stack: cloudformation:CreateStack, appsync:CreateApi, appsync:CreateChannelNamespace,
  iam:CreatePolicy`

// localFlags are what the flags of local set, but for those of the AppSync API.
type localFlags struct {
	localOptions
	json    bool
	verbose bool
	watch   bool
	globs   []string // of files to watch; none: all in this directory
	keysOf  []string // functions whose keys are taken
	// processes get the variables of functions' configurations: wanted, or not wanted
	functionEnv   bool
	noFunctionEnv bool
	assumeRole    bool // processes get the credentials of functions' roles
	loan          loanFlags
	ui            uiFlag
}

// local is the command local.
func (t *console) local(args []string, lender lender) int {
	f := t.commandLine("local", localUsage)
	f.addAPI()
	f.addKeys()
	var o localFlags
	o.add(f)
	words, status, ok := f.parse(args)
	if !ok {
		return status
	}
	err := cmp.Or(o.take(f, words), o.loan.check(), o.takeVariables())
	if err == nil && o.watch {
		err = checkGlobs(o.globs)
	}
	if err != nil {
		return f.wrong("%v", err)
	}
	o.setReaders(f, lender)
	if len(o.keysOf) > 0 {
		f.functionKeys, err = lender.keys(f.profile, o.keysOf)
	}
	if err != nil {
		return f.failed(err)
	}
	if len(o.loan.words) > 0 {
		return t.onLoan(f, &o, lender)
	}
	lender.offer(t.apart(o.json), o.loan.yes)
	getenv, err := f.getenv(context.Background())
	if err != nil {
		return f.failed(err)
	}
	signals := catchSignals()
	defer signal.Stop(signals)
	return t.connect(f, &o, getenv, signals, nil)
}

// connect runs what getenv says to connect to, until it is interrupted. keep goes on beside that, if there is
// any.
func (t *console) connect(
	f *commandLine, o *localFlags, getenv func(string) string, signals <-chan os.Signal, keep keeper,
) int {
	if getenv(hostVariable) == "" {
		return f.wrong(noAPI)
	}
	keys, err := f.sealers(getenv)
	if err != nil {
		return f.wrong("%v", err)
	}
	o.keys = keys
	getenv = withVariable(getenv, keyVariable, "") // this end may have several
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
	term := o.terminal()
	term.start()
	defer term.close()
	transport := newTransport()
	transport.MaxIdleConnsPerHost = mostPublishes // what comes in crowds may come again
	defer transport.CloseIdleConnections()
	cfg, _ := readConfig(getenv) // for the log level; what else is wrong in it is a function's business
	client := newAppSync(
		*api, nil, transport, developerCredentials(f.profile, transport), term.logger(cfg.logLevel))
	if len(f.shared.used) > 0 {
		term.note("flags from %s: %s", f.shared.file, strings.Join(f.shared.used, ", "))
	}
	if len(o.keys) > 0 {
		term.note("taking what is sealed with %s, and nothing else", keysText(o.keys))
	}
	o.region = api.region
	l := newLocal(o.localOptions, term)
	if term.interactive() || o.record != "" || o.ui.on { // somebody may look at it
		l.keepHistory(api.stage)
	}
	if o.ui.on {
		err := l.inspect(o.ui)
		if err != nil {
			l.close()
			return f.failed(err)
		}
	}
	beside := l.beside(o)
	if keep != nil {
		beside = append(beside, func(ctx context.Context) { keep(ctx, term.note) })
	}
	return l.serve(newSubscriber(client, l), signals, beside)
}

// terminal is where all of it is shown, and typed.
func (o *localFlags) terminal() *terminal {
	term := newTerminal(os.Stdout, os.Stderr)
	term.json = o.json
	term.verbose = o.verbose
	if !o.json && columns(os.Stdin) > 0 {
		term.typed = newTyped(term.columns() > 0)
		term.typed.heedSignals()
	}
	return term
}

// beside is what goes on beside the invocations.
func (l *local) beside(o *localFlags) (all []func(context.Context)) {
	switch {
	case o.watch:
		all = append(all, func(ctx context.Context) { l.watch(ctx, o.globs) })
	case l.history != nil: // what runs again is the code as it is then
		all = append(all, func(context.Context) { l.firstLook(nil) })
	}
	for _, v := range l.variables {
		all = append(all, func(ctx context.Context) { v.keepFresh(ctx, o.named()) })
	}
	return all
}

// add adds the flags to f.
func (o *localFlags) add(f *commandLine) {
	o.addHandlers(f)
	f.addShared(true)
	o.loan.add(f)
	f.BoolFunc("function-env",
		"processes get the variables of the function, as its configuration tells them; nothing of them "+
			"passes AppSync; --attach asks for that, unless --function-env=false",
		o.setFunctionEnv)
	f.BoolVar(&o.assumeRole, "assume-role", false,
		"processes get the credentials of the function's role, from STS, if its trust policy allows that")
	f.Func("keys",
		"take the key that the `FUNCTION` seals with from its configuration: a name, an ARN, a shell "+
			"pattern, "+
			"tag:KEY=VALUE or stack:NAME; may be repeated",
		func(word string) error {
			o.keysOf = append(o.keysOf, word)
			return nil
		})
	f.BoolVar(&o.verbose, "verbose", false, "print events and answers")
	f.BoolVar(&o.json, "json", false, "one JSON object a line; what handlers print goes to standard error")
	f.BoolVar(&o.ownEnv, "own-env", false,
		"leave out the environment that functions send, sealed (LIVE_LAMBDA_FORWARD_ENV)")
	f.StringVar(
		&o.record, "record", "", "keep each event, and what became of it, in a file in this `directory`")
	f.BoolFunc("watch",
		"restart processes when files change: all here, or those that a `GLOB` names (--watch='src/**/"+
			"*.js'); "+
			"may be repeated",
		o.addGlob)
	f.BoolFunc("ui",
		"serve a page, to this machine alone, that shows invocations and runs them again, at any port or at "+
			"this `ADDRESS` (--ui=127.0.0.1:9100)",
		o.ui.set)
	f.Func("function", "serve only functions of this `name`, a shell pattern; may be repeated", o.addFunction)
}

// takeVariables completes the flags of variables, and returns an error if they do not go together. Who may
// attach a function may read it, so processes of functions that are attached get their variables, unless that
// is not wanted.
func (o *localFlags) takeVariables() error {
	apart := o.ownEnv || o.code.external
	if len(o.loan.words) > 0 && !apart {
		o.functionEnv = !o.noFunctionEnv
	}
	switch {
	case apart && o.functionEnv:
		return errors.New("--function-env goes with neither --own-env nor --external")
	case apart && o.assumeRole:
		return errors.New("--assume-role goes with neither --own-env nor --external")
	}
	return nil
}

// setFunctionEnv takes the value of --function-env, which is "true" if it has none.
func (o *localFlags) setFunctionEnv(value string) error {
	o.functionEnv = value == "true"
	o.noFunctionEnv = value == "false"
	if !o.functionEnv && !o.noFunctionEnv {
		return errors.New("not true or false")
	}
	return nil
}

// named are the functions that are served, as far as their names are known.
func (o *localFlags) named() (names []string) {
	for _, pattern := range o.functions {
		if !strings.ContainsAny(pattern, `*?[\`) {
			names = append(names, pattern)
		}
	}
	return names
}

// setReaders says how what processes get is read: by lender.
func (o *localFlags) setReaders(f *commandLine, lender lender) {
	if o.functionEnv {
		o.variables = func(ctx context.Context, function string) (awsVariables, error) {
			return lender.variables(ctx, f.profile, function)
		}
	}
	if o.assumeRole {
		o.role = func(ctx context.Context, function string) (awsVariables, error) {
			return lender.role(ctx, f.profile, function)
		}
	}
}

// addHandlers adds to f the flags of commands that run handlers.
func (o *localOptions) addHandlers(f *commandLine) {
	f.takesCommand = true
	f.IntVar(&o.maxProcesses, "max-processes", 10,
		"at most `n` processes of one function; further invocations wait")
	f.Func("map",
		"`NAME=...`: what runs functions of this name, a shell pattern: a HANDLER, a directory with the "+
			"deployed handler in it, or a shell command; may be repeated",
		o.addMap)
	f.BoolFunc("inspect",
		"run handlers with a debugger's port, one process of each function, and the next port for the next "+
			"function: from 9229 for Node.js, 5678 for Python (debugpy), or `PORT` (--inspect=9300)",
		o.addInspect)
	f.BoolVar(&o.code.external, "external", false,
		"start nothing: print a Runtime API's address, for a runtime that a debugger starts")
	f.IntVar(&o.port, "port", 0, "with --external, the `port` of the Runtime API (default any)")
	f.StringVar(&o.envFile, "env-file", "",
		"with --external, write the environment that the runtime wants into this `file`")
}

// take completes the options with what f has read beside them: words, of which one may be a HANDLER, and a
// command. It returns an error if they do not go together, or one is out of range.
func (o *localOptions) take(f *commandLine, words []string) error {
	err := o.code.take(f, words)
	if err != nil {
		return err
	}
	o.profile = f.profile
	o.debugged = o.inspect || inDebugTerminal()
	if (o.envFile != "" || o.port != 0) && !o.code.external {
		return errors.New("--env-file and --port go with --external")
	}
	if o.port < 0 || o.port > 65535 {
		return errors.New("--port is not from 0 to 65535")
	}
	if o.maxProcesses < 1 || o.maxProcesses > allProcesses {
		return fmt.Errorf("--max-processes is not from 1 to %d", allProcesses)
	}
	if o.inspect {
		o.maxProcesses = 1
	}
	return checkEnvFile(o.envFile)
}

// addGlob takes the value of --watch, which is "true" if it has none, and may be "false".
func (o *localFlags) addGlob(value string) error {
	o.watch = value != "false"
	if value != "true" && value != "false" {
		o.globs = append(o.globs, value)
	}
	return nil
}

// addInspect takes the value of --inspect, which is "true" if it has none, and may be "false".
func (o *localOptions) addInspect(value string) error {
	o.inspect = value != "false"
	if value == "true" || value == "false" {
		return nil
	}
	port, err := strconv.ParseUint(value, 10, 16)
	if err != nil || port == 0 {
		return errors.New("not a port")
	}
	o.debugPort = int(port)
	return nil
}

func (o *localOptions) addFunction(pattern string) error {
	o.functions = append(o.functions, pattern)
	_, err := path.Match(pattern, "")
	return err
}

func (o *localOptions) addMap(value string) error {
	name, what, ok := strings.Cut(value, "=")
	if !ok || name == "" || what == "" {
		return errors.New("not NAME=HANDLER, NAME=DIRECTORY or NAME=COMMAND")
	}
	_, err := path.Match(name, "")
	if err != nil {
		return err
	}
	if o.maps == nil {
		o.maps = map[string]code{}
	}
	o.maps[name], err = readCode(what)
	return err
}

// routeText says what to put into a request for it to come here, if the token in it tells the stage.
func routeText(e endpoint) string {
	switch {
	case e.route == "":
		return ""
	case e.stage == "":
		return fmt.Sprintf("; with LIVE_LAMBDA_ROUTE=%s nothing comes there: give --stage NAME, and send "+
			"the header %q", e.route, e.route+": NAME")
	}
	return fmt.Sprintf("; send the header %q", e.route+": "+e.stage)
}

// catchSignals has the signals that end this program come through a channel.
func catchSignals() chan os.Signal {
	signals := make(chan os.Signal, 8)
	// SIGPIPE is caught, not ignored: processes would inherit that.
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGHUP) { // under nohup it is
		signal.Notify(signals, syscall.SIGHUP)
	}
	return signals
}

// serve is local's life until it is interrupted: once, and what runs may come to its end; twice, and nothing
// may, nor if the terminal is gone (SIGHUP) or it is told to quit (SIGQUIT, Ctrl-\). beside goes on beside
// it. It returns the exit status.
func (l *local) serve(s *subscriber, caught <-chan os.Signal, beside []func(context.Context)) int {
	signals, stop := l.heed(caught)
	defer stop()
	err := l.prepare()
	if err != nil {
		l.term.note("%v", err)
		l.close()
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { l.try(ctx) })
	wg.Go(func() { s.run(ctx) })
	wg.Go(func() { l.obey(ctx, s.presence) })
	for _, f := range beside {
		wg.Go(func() { f(ctx) })
	}
	sig := interrupted(signals)
	now := sig == syscall.SIGHUP || sig == syscall.SIGQUIT
	status := l.shutDown(s, signals, now)
	cancel()
	l.history.close() // what is typed may wait for what AWS says
	wg.Wait()
	l.closeBefore(signals)
	l.term.summarise()
	return status
}

// heed passes on the signals that are for this program, and not for an editor, until stop is called.
func (l *local) heed(caught <-chan os.Signal) (signals <-chan os.Signal, stop func()) {
	heeded := make(chan os.Signal, cap(caught))
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case sig := <-caught:
				if !l.forEditor(sig) {
					pass(heeded, sig)
				}
			case <-done:
				return
			}
		}
	})
	return heeded, func() {
		close(done)
		wg.Wait()
	}
}

// pass passes a signal on, unless enough of them wait.
func pass(to chan<- os.Signal, sig os.Signal) {
	select {
	case to <- sig:
	default:
	}
}

// closeBefore is close. What handlers have printed may wait for a terminal that stands still: if a signal to
// stop comes first, that is given up.
func (l *local) closeBefore(signals <-chan os.Signal) {
	closed := make(chan struct{})
	go func() {
		l.close()
		close(closed)
	}()
	if interruptedBefore(closed, signals) {
		l.term.giveUp()
		<-closed
	}
}

// prepare makes ready what is to run handlers, and says what that is.
func (l *local) prepare() error {
	switch {
	case l.opts.code.external:
		return l.attachRuntime()
	case l.opts.code.handler != "":
		l.term.note("running %s, which is in %s", l.opts.code.handler, l.opts.code.file)
	case l.opts.code.ways() == 0 && !l.opts.onlyMapped():
		directory, err := os.Getwd()
		if err != nil {
			return err
		}
		l.term.note("running the deployed functions' own handlers from %s", directory)
	}
	return nil
}

// shutDown waits until what is at hand has come to its end, or for another signal, and then for the extension
// to say that it has the answers. With now, as if the signal had come already, all ends at once. It returns
// the exit status: 1 if something was at hand that could not come to its end.
func (l *local) shutDown(s *subscriber, signals <-chan os.Signal, now bool) (status int) {
	empty := l.stop()
	var bye sync.WaitGroup
	bye.Go(func() {
		conn, _ := s.current()
		s.presence.sayBye(conn)
	})
	defer bye.Wait() // before the connection ends
	swallow(signals, oneInterrupt)
	names := l.waitingFor()
	if names != "" && !now {
		l.term.note("waiting for %s; interrupt once more to end everything now", names)
	}
	hurry := now || interruptedBefore(empty, signals)
	if !hurry {
		status = s.sayGoodbye(signals, goodbyePause)
		if status != 0 {
			l.term.giveUp()
		}
		return status
	}
	l.term.giveUp()
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
