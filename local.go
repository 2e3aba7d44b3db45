//go:build !layer

package main

// local.go is the command line of the developer's end: the commands, local and invoke among them, from their
// flags to their exit status, and the developer's AWS credentials. subscriber.go brings requests in and
// replies out, workers.go runs handlers, runtimeapi.go talks to them, terminal.go shows it all.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
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

// main of the developer's build runs a command or, if Lambda has started it, the extension.
func main() {
	if startedByLambda() {
		os.Exit(extension())
	}
	os.Exit(runCommand(os.Args[1:]))
}

// command is one of the program's subcommands.
type command struct {
	name, summary string
	run           func(args []string) int
}

func commands() []command {
	return []command{
		{"local", "run a deployed function's invocations on this machine", localCommand},
		{"invoke", "run an event on this machine, without AWS", invokeCommand},
		{"demo", "show the whole path on this machine, without AWS", demoCommand},
		{"doctor", "try the AppSync API and say what is missing", doctorCommand},
		{"template", "print a CloudFormation template of the AppSync API", templateCommand},
		{"publish-layer", "publish the layer's zip", publishLayerCommand},
		{"attach", "attach the layer to functions", attachCommand},
		{"detach", "undo attach", detachCommand},
		{"sample", "a handler to try things with", sampleCommand},
	}
}

// runCommand runs a subcommand and returns the exit status: 2 for a command line that is not understood.
func runCommand(args []string) int {
	name := "help"
	if len(args) > 0 {
		name = args[0]
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(args[1:])
		}
	}
	out, status := os.Stdout, 0
	if name != "help" && name != "-h" && name != "-help" && name != "--help" {
		fmt.Fprintf(os.Stderr, "live-lambda: there is no command %q\n\n", name)
		out, status = os.Stderr, 2
	}
	fmt.Fprint(out,
		"live-lambda makes a deployed AWS Lambda function run on this machine.\n\nusage: live-lambda "+
			"COMMAND [flags] ...\n\n")
	for _, c := range commands() {
		fmt.Fprintf(out, "  %-13s %s\n", c.name, c.summary)
	}
	fmt.Fprint(out,
		"\n`live-lambda COMMAND --help` tells more. In a function's layer, where AWS_LAMBDA_RUNTIME_API is "+
			"set,\n"+
			"the program without arguments is the extension.\n")
	return status
}

// flags are the command line of a subcommand.
type flags struct {
	*flag.FlagSet
	usage string
	api   map[string]*string // by the variable that each flag corresponds to
	opts  localOptions
	term  struct{ json, verbose bool }

	watch   bool
	globs   []string
	timeout time.Duration
	name    string
}

// newFlags begins a subcommand's flags with those of every command.
func newFlags(command, usage string) *flags {
	f := &flags{
		FlagSet: flag.NewFlagSet(command, flag.ContinueOnError), usage: usage, api: map[string]*string{}}
	f.SetOutput(io.Discard) // parse tells what is wrong, and prints help
	f.opts.maps = map[string][]string{}
	f.opts.maxProcesses = 10
	f.BoolVar(&f.term.verbose, "verbose", false, "print events and answers")
	return f
}

func (f *flags) help() {
	fmt.Print(f.usage, "\n\nflags:\n")
	f.VisitAll(func(g *flag.Flag) {
		value, usage := flag.UnquoteUsage(g)
		if g.DefValue != "" && g.DefValue != "0" && g.DefValue != "false" {
			usage += " (default " + g.DefValue + ")"
		}
		fmt.Printf("  --%s\n        %s\n", strings.TrimSpace(g.Name+" "+value), usage)
	})
}

// handlers adds the flags of commands that run handlers.
func (f *flags) handlers() {
	f.IntVar(&f.opts.maxProcesses, "max-processes", f.opts.maxProcesses,
		"processes of one function at most; further invocations wait")
	f.IntVar(&f.opts.port, "port", 0, "port of the Runtime API where there is no COMMAND (default any)")
	f.StringVar(&f.opts.profile, "profile", "", "profile of the AWS CLI to use (AWS_PROFILE)")
}

// variable adds a flag that wins over an environment variable.
func (f *flags) variable(name, variable, usage string) {
	f.api[variable] = f.String(name, "", usage+" ("+variable+")")
}

// getenv is os.Getenv with the flags laid over.
func (f *flags) getenv(name string) string {
	if value := f.api[name]; value != nil && *value != "" {
		return *value
	}
	return os.Getenv(name)
}

// parse reads args up to a "--", flags and other words in any order, and what follows it as the command. ok
// is false where the program is to exit with status.
func (f *flags) parse(args []string) (words []string, status int, ok bool) {
	if i := slices.Index(args, "--"); i >= 0 {
		f.opts.command, args = args[i+1:], args[:i]
		if len(f.opts.command) == 0 {
			return nil, f.wrong("there is no command after --"), false
		}
	}
	for len(args) > 0 {
		err := f.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			f.help()
			return nil, 0, false
		}
		if err != nil {
			return nil, f.wrong("%v", err), false
		}
		args = f.Args()
		if len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	if f.opts.maxProcesses < 1 || f.opts.maxProcesses > allProcesses {
		return nil, f.wrong("--max-processes is not from 1 to %d", allProcesses), false
	}
	return words, 0, true
}

// wrong says what is wrong with the command line and returns the exit status.
func (f *flags) wrong(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, "live-lambda %s: %s; see --help\n", f.Name(), fmt.Sprintf(format, args...))
	return 2
}

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

// recording is a file of --record, which invoke takes.
type recording struct {
	Event   json.RawMessage `json:"event_payload"`
	Context *eventContext   `json:"context"`
}

// record keeps q's event and context in a file, without the environment: it has credentials.
func (l *local) record(q *request) {
	if l.opts.record == "" {
		return
	}
	c := q.context
	c.Environment = nil
	id := regexp.MustCompile(`[^A-Za-z0-9_-]`).ReplaceAllString(c.FunctionName+"-"+q.id, "_")
	file := filepath.Join(
		l.opts.record, q.arrived.Format("20060102-150405.000-")+id[:min(len(id), 120)]+".json")
	body, err := json.Marshal(c)
	if err == nil {
		body = slices.Concat([]byte(`{"event_payload":`), q.event, []byte(`,"context":`), body, []byte("}\n"))
		err = os.WriteFile(file, body, 0o600)
	}
	if err != nil {
		l.term.note("could not record an event: %v", err)
	}
}

const invokeUsage = `usage: live-lambda invoke [flags] [FILE ...] [-- COMMAND [ARGUMENT ...]]

Runs each FILE, an event or what ` + "`live-lambda local --record`" + ` has kept, with COMMAND and prints
the answers. Without a FILE, or where it is -, the event is read from standard input. What COMMAND
prints goes to standard error. Without a COMMAND it waits for a runtime that a debugger starts, as
local does. The exit status is 1 where the function failed.`

// invokeCommand is the command invoke. It returns the exit status.
func invokeCommand(args []string) int {
	f := newFlags("invoke", invokeUsage)
	f.handlers()
	f.StringVar(&f.name, "function", "", "the function's `name` (default the recorded one, else function)")
	f.DurationVar(&f.timeout, "timeout", 15*time.Minute, "the function's timeout")
	files, status, ok := f.parse(args)
	if !ok {
		return status
	}
	if len(files) == 0 {
		files = []string{"-"}
	}
	var texts [][]byte
	for _, file := range files { // before signals are caught: standard input may never end
		text, err := readFile(file)
		if err == nil {
			_, err = f.readEvent(file, text)
		}
		switch {
		case err != nil && len(f.opts.command) == 0 && len(files) > 1:
			return f.wrong("%v; does a command follow? It goes after --", err)
		case err != nil:
			return f.wrong("%v", err)
		}
		texts = append(texts, text)
	}
	term := newTerminal(os.Stderr, os.Stderr)
	term.silent = !f.term.verbose
	term.verbose = f.term.verbose
	term.start()
	defer term.close()
	l := newLocal(f.opts, term)
	ctx, stop := signal.NotifyContext(
		context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	defer l.close()
	if len(f.opts.command) == 0 {
		addr, err := l.serveAttached()
		if err != nil {
			term.note("%v", err)
			return 1
		}
		term.note("no command: start the runtime, in a debugger say, with AWS_LAMBDA_RUNTIME_API=%s", addr)
	}
	for i, file := range files {
		q, err := f.readEvent(file, texts[i]) // anew: its deadline counts from here
		if err != nil {
			return f.wrong("%v", err)
		}
		if ctx.Err() != nil {
			return 1
		}
		if err := l.invoke(ctx, q, os.Stdout, len(files) > 1 || columns(os.Stdout) > 0); err != nil {
			term.note("%v", err)
			status = 1
		}
	}
	return status
}

// readFile is os.ReadFile, and reads standard input for -.
func readFile(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, 2*maxPayload))
	}
	return os.ReadFile(file)
}

// readEvent reads one event or recording, which a file has as its text.
func (f *flags) readEvent(file string, text []byte) (*request, error) {
	if !json.Valid(text) {
		return nil, fmt.Errorf("%s is not JSON", file)
	}
	id := make([]byte, 16)
	rand.Read(id)
	c := eventContext{RequestID: fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
		FunctionVersion: "$LATEST",
		MemorySizeMB:    128,
		Region:          cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1"),
		Handler:         os.Getenv("_HANDLER")}
	r := recording{Context: &c}
	if recorded(text) {
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("%s: its context is not valid: %w", file, err)
		}
		text = r.Event
	}
	c.FunctionName = cmp.Or(f.name, c.FunctionName, "function")
	c.InvokedFunctionARN = cmp.Or(
		c.InvokedFunctionARN, "arn:aws:lambda:"+c.Region+":000000000000:function:"+c.FunctionName)
	c.DeadlineMs = time.Now().Add(f.timeout).UnixMilli()
	return newRequestFrom(text, c)
}

// recorded reports whether text is a recording, not an event.
func recorded(text []byte) bool {
	var keys map[string]json.RawMessage
	json.Unmarshal(text, &keys)
	return len(keys) == 2 && keys["event_payload"] != nil && bytes.HasPrefix(keys["context"], []byte("{"))
}

// invoke runs q and writes the answer to w, a stream as it comes. It returns an error where the function
// failed.
func (l *local) invoke(ctx context.Context, q *request, w io.Writer, newline bool) error {
	timeout, cancel := context.WithDeadline(ctx, q.deadline)
	defer cancel()
	if err := l.admit(q); err != nil {
		return err
	}
	l.submit(q)
	var written int64
	for {
		rep, _, ended := l.look(q)
		if rep != nil && rep.streamed && !ended || rep != nil && ended {
			n, err := rep.copyTo(w, written, ended)
			if written += n; err != nil {
				return fmt.Errorf("print the answer: %w", err)
			}
		}
		if ended {
			if newline {
				io.WriteString(w, "\n")
			}
			l.finish(q, overAnswered)
			if rep.kind == "error" || len(rep.trailers) > 0 {
				return fmt.Errorf(
					"%s: the function failed: %s", q.context.FunctionName, cmp.Or(rep.message, rep.errorType))
			}
			return nil
		}
		select {
		case <-q.news:
		case <-timeout.Done():
			l.finish(q, overDeadline)
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			return fmt.Errorf("%s: the function has not answered within its timeout", q.context.FunctionName)
		}
	}
}

// copyTo writes what has come of the reply beyond the bytes already written.
func (rep *reply) copyTo(w io.Writer, written int64, ended bool) (int64, error) {
	if rep.streamed {
		return io.Copy(w, io.NewSectionReader(&rep.data, written, rep.data.length()-written))
	}
	r, err := rep.body()
	if err != nil {
		return 0, err
	}
	return io.Copy(w, r)
}

// developerCredentials returns the developer's AWS credentials as they are now: those in the environment,
// unless a profile is asked for, else the AWS CLI's, which knows profiles, SSO and the rest.
// https://docs.aws.amazon.com/cli/latest/reference/configure/export-credentials.html
func developerCredentials(profile string, transport http.RoundTripper) func(context.Context) (
	credentials, error) {
	cli := &cliCredentials{profile: profile}
	return func(ctx context.Context) (credentials, error) {
		if profile == "" &&
			(os.Getenv("AWS_ACCESS_KEY_ID") != "" || os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != "") {
			return roleCredentials(environmentRole(), transport)(ctx)
		}
		return cli.get(ctx)
	}
}

// environmentRole is the role that the environment names now.
func environmentRole() role {
	return role{
		accessKeyID:     os.Getenv("AWS_ACCESS_KEY_ID"),
		secretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
		sessionToken:    os.Getenv("AWS_SESSION_TOKEN"),
		containerURI:    os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
		containerToken:  os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
	}
}

// cliCredentials are those of `aws configure export-credentials`, kept until shortly before they expire.
type cliCredentials struct {
	profile string

	mu      sync.Mutex
	keys    credentials
	err     error
	expires time.Time // of keys, zero where they do not say
	until   time.Time // when to ask again
}

const (
	refreshBefore = 5 * time.Minute  // credentials expire
	staticLife    = 15 * time.Minute // of credentials that do not say when they expire
	failureLife   = 5 * time.Second  // of a failure: the CLI takes its time
)

func (c *cliCredentials) get(ctx context.Context) (credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Before(c.until) {
		return c.keys, c.err
	}
	keys, expires, err := c.export(ctx)
	switch {
	case ctx.Err() != nil:
		return keys, context.Cause(ctx)
	case err != nil && now.Before(c.expires): // those at hand will do for now
		c.until = now.Add(failureLife)
		return c.keys, nil
	case err != nil:
		c.until = now.Add(failureLife)
	case expires.IsZero():
		c.until = now.Add(staticLife)
	default:
		c.until = later(expires.Add(-refreshBefore), now.Add(failureLife))
	}
	c.keys, c.expires, c.err = keys, expires, err
	return c.keys, c.err
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// export asks the AWS CLI.
func (c *cliCredentials) export(ctx context.Context) (keys credentials, expires time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	args := []string{"configure", "export-credentials", "--format", "process"}
	login := "aws sso login"
	if profile := cmp.Or(c.profile, os.Getenv("AWS_PROFILE")); profile != "" {
		args = append(args, "--profile", profile)
		login += " --profile " + profile
	}
	command := exec.CommandContext(ctx, "aws", args...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	command.WaitDelay = time.Second
	err = command.Run()
	said := firstLine(strings.TrimSpace(stderr.String()))
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return keys, expires,
			errors.New("neither AWS_ACCESS_KEY_ID nor the AWS CLI is there; set the one or install the other")
	case err != nil && strings.Contains(strings.ToUpper(stderr.String()), "SSO"):
		return keys, expires, fmt.Errorf("the SSO session has expired: run %s (aws says %q)", login, said)
	// version 1 has no such command, and says so in passing
	case err != nil && strings.Contains(stderr.String(), "AWS CLI version 2"):
		return keys, expires,
			errors.New("the AWS CLI is version 1, which cannot export credentials: install version 2, or " +
				"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	case err != nil:
		return keys, expires,
			fmt.Errorf("aws configure export-credentials: %w, %q; run aws configure or %s", err, said, login)
	}
	var out struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      time.Time
	}
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil || out.AccessKeyID == "" {
		return keys, expires, errors.New("aws configure export-credentials printed no credentials")
	}
	return credentials{out.AccessKeyID, out.SecretAccessKey, out.SessionToken}, out.Expiration, nil
}

// notify leaves news in a channel that has room for one, unless there are some.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
