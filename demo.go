//go:build !layer

package main

// demo.go is the command demo: the whole path on one machine. Lambda and AppSync are emulated, in this
// process; the extension, the deployed runtime behind wrapper.sh, `live-lambda local` and the handler are
// real, each a process.

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

//go:embed wrapper.sh
var wrapperScript []byte

const (
	demoFunction  = "demo"
	demoTimeout   = 30 * time.Second        // the function's
	demoAccept    = 1500 * time.Millisecond // until the deployed code runs, if nobody accepts
	demoGoodbye   = demoTimeout             // for what runs to come to its end, before it is told more firmly
	demoShown     = 300                     // bytes of an event or answer that are printed
	demoInvokeURL = "http://%s" + lambdaInvokePath + demoFunction + lambdaInvokeSuffix
)

const demoUsage = `usage: live-lambda demo [flags] [HANDLER | -- COMMAND [ARGUMENT ...]]

Runs the whole path on this machine: invokes a function whose runtime runs behind the layer's
extension, and answers from a local handler: HANDLER or COMMAND, as for local, if there is one.
Lambda and AppSync are emulated on loopback; no AWS account is needed.`

// demoFlags are what the flags of demo set.
type demoFlags struct {
	listen      string // a loopback address; empty: invoke twice, and end
	concurrency int    // of invocations
	protocol    string // events or graphql
	file        string // has the event
	verbose     bool
	set         attachFlags // variables of the function
	ui          uiFlag
}

// demo is the command demo. Its exit status is 0 only if the local handler has answered.
func (t *console) demo(args []string) int {
	f := t.commandLine("demo", demoUsage)
	f.takesCommand = true
	var o demoFlags
	f.StringVar(&o.listen, "listen", "",
		"stay up and take invocations at this loopback `address`, as the Lambda API does")
	f.IntVar(&o.concurrency, "concurrency", 10,
		"with --listen, run at most `N` invocations at once, each in an environment of its own; others wait")
	f.StringVar(&o.protocol, "protocol", "events",
		"`protocol` of the API that is emulated: events or graphql")
	f.StringVar(&o.file, "event", "",
		"invoke with the event in this `file`; without a HANDLER or COMMAND the handler returns it")
	f.BoolVar(&o.verbose, "verbose", false, "show what the function's processes print")
	f.Func("set",
		"with --listen, set one of the layer's variables, `NAME=VALUE` (LIVE_LAMBDA_ROUTE=x-dev); may be "+
			"repeated",
		o.set.addVariable)
	f.BoolFunc("ui",
		"stay up, and have the local end serve its page, at any port or at this `ADDRESS` "+
			"(--ui=127.0.0.1:9100)",
		o.ui.set)
	words, status, ok := f.parse(args)
	if !ok {
		return status
	}
	if o.ui.on && o.listen == "" {
		o.listen = "127.0.0.1:0"
	}
	var code code
	err := cmp.Or(o.set.wrong, o.check(), code.take(f, words))
	if err != nil {
		return f.wrong("%v", err)
	}
	d := &demo{
		out:         t.out,
		concurrency: o.concurrency,
		protocol:    o.protocol,
		code:        code,
		handler:     "this machine",
		verbose:     o.verbose,
		set:         o.set.extra,
		ui:          o.ui,
		event:       []byte(`{"name":"you"}`),
	}
	if o.file != "" {
		d.handler = sampleEcho
		d.event, err = readEventFile(o.file)
		if err != nil {
			return f.wrong("--event: %v", err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), demoSignals()...)
	defer stop()
	err = d.run(ctx, o.listen)
	if err != nil {
		f.say("%v", err)
		if !o.verbose && d.function != nil && !d.legs.answered() {
			f.say("--verbose shows what the function's processes print")
		}
		return 1
	}
	return 0
}

// demoSignals are those that end the demonstration. A hangup is one, unless it is ignored, as under nohup:
// the local end is in a process group of its own, and does not hear of it.
func demoSignals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// check returns an error if a flag has a value that it must not have.
func (o demoFlags) check() error {
	if o.protocol != "events" && o.protocol != "graphql" {
		return fmt.Errorf("--protocol is %q, not events or graphql", o.protocol)
	}
	if o.listen == "" && len(o.set.extra) > 0 {
		return errors.New("--set goes with --listen")
	}
	if o.set.extra[demoPortVariable] != "" && o.concurrency > 1 {
		return errors.New("--set " + demoPortVariable + " goes with --concurrency 1: there is one such port")
	}
	if o.concurrency < 1 || o.concurrency > allProcesses {
		return fmt.Errorf("--concurrency is %d, not from 1 to %d", o.concurrency, allProcesses)
	}
	_, problems := readConfig(withVariable(inFunction(o.set.extra), hostVariable, "localhost"))
	if len(problems) > 0 {
		return configError(problems)
	}
	if o.listen == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(o.listen)
	_, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || !loopback(&url.URL{Host: o.listen}) {
		return fmt.Errorf("--listen is %q, not an address on loopback, like 127.0.0.1:9000", o.listen)
	}
	return nil
}

// readEventFile reads an event, which must be JSON.
func readEventFile(name string) ([]byte, error) {
	event, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if !json.Valid(event) {
		return nil, fmt.Errorf("%s is not JSON", name)
	}
	return event, nil
}

// demo is one run of the demonstration.
type demo struct {
	out         io.Writer
	concurrency int    // of invocations, at most
	protocol    string // events or graphql
	code        code   // the local handler; if it names none, the sample, as handler says
	handler     string // what the sample is to say
	event       []byte
	verbose     bool
	set         map[string]string // variables of the function, beside those that it needs here
	ui          uiFlag            // of the local end

	listener net.Listener // takes invocations; nil: none are taken
	api      *eventAPI
	function *lambdaFleet
	legs     demoLegs
	guard    guard // ends the local end if this process is killed
	local    *exec.Cmd
	exited   chan struct{}     // the local end has
	common   map[string]string // variables of the function and of local ends
	stage    string            // of this local end; empty: none
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// run starts everything, and either tells the story or takes invocations.
func (d *demo) run(ctx context.Context, listen string) error {
	dir, err := os.MkdirTemp("", "live-lambda-demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer d.guard.close()
	d.guard.remove(dir)
	program, err := os.Executable()
	if err != nil {
		return err
	}
	if d.code.ways() == 0 {
		d.code.command = []string{program, "sample", d.handler}
	}
	if listen != "" {
		d.listener, err = net.Listen("tcp", listen)
		if err != nil {
			return fmt.Errorf("--listen: %w: choose another port", err)
		}
		defer d.listener.Close()
	}
	appsync := "AppSync Events"
	if d.protocol == "graphql" {
		appsync = "AppSync GraphQL"
	}
	d.say("AWS is emulated here: Lambda and %s, on loopback. The rest is real:", appsync)
	d.say("the extension, the function's deployed runtime behind it, `live-lambda local`")
	d.say("and the handler are processes of their own.")
	d.say("")
	settings, err := d.startAppSync()
	if err != nil {
		return err
	}
	defer d.api.close()
	if err := d.startFunction(ctx, dir, program, settings); err != nil {
		return err
	}
	defer d.function.close()
	d.common = settings
	d.stage = d.set["LIVE_LAMBDA_STAGE"]
	if d.set["LIVE_LAMBDA_ROUTE"] != "" {
		d.stage = demoStage
	}
	if err := d.startLocal(ctx, program); err != nil {
		return err
	}
	defer d.stopLocal()
	if d.listener != nil {
		return d.serve(ctx, program)
	}
	return d.tell(ctx)
}

// demoRegion is that of the emulated function and of AppSync.
const demoRegion = "us-east-1"

// These are developers: the demonstration's own local end, and another one, if a token in events tells them
// apart.
const (
	demoStage      = "alice"
	demoOtherStage = "bob"
)

// demoPortVariable says where the extension listens for the runtime.
const demoPortVariable = "LRAP_LISTENER_PORT"

// demoEndpointVariable has AWS's clients call the emulated Lambda, so that a handler may invoke the function.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
const demoEndpointVariable = "AWS_ENDPOINT_URL_LAMBDA"

// demoWrapper is the wrapper script's name in the layer.
const demoWrapper = "live-lambda-runtime-wrapper.sh"

// demoKeys are the credentials that the emulated AppSync accepts.
var demoKeys = credentials{
	accessKeyID:     "AKIDEXAMPLE",
	secretAccessKey: "demo-secret",
	sessionToken:    "demo-token",
}

// startAppSync starts AppSync; legs sees what passes through it. It returns the variables that the function
// and the local end share.
func (d *demo) startAppSync() (map[string]string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d.api = startEventAPI(ln, eventAPIOptions{
		graphql:     d.protocol == "graphql",
		credentials: []credentials{demoKeys},
		region:      demoRegion,
	})
	d.api.intercept(d.legs.watch)
	settings := map[string]string{
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "http://" + ln.Addr().String(),
		"LIVE_LAMBDA_APPSYNC_PROTOCOL":  d.protocol,
	}
	for _, name := range []string{"LIVE_LAMBDA_NAMESPACE", "LIVE_LAMBDA_ROUTE", keyVariable} {
		if d.set[name] != "" {
			settings[name] = d.set[name]
		}
	}
	if d.listener != nil {
		settings[demoEndpointVariable] = "http://" + d.listener.Addr().String()
	}
	return settings, nil
}

// startFunction starts Lambda, with the extension in a directory laid out as the layer's.
func (d *demo) startFunction(
	ctx context.Context, dir, program string, settings map[string]string) error {
	layer := filepath.Join(dir, "layer")
	if err := demoLayer(layer, program); err != nil {
		return err
	}
	environment := map[string]string{
		"LIVE_LAMBDA_ACCEPT_TIMEOUT": demoAccept.String(),
		"AWS_LAMBDA_EXEC_WRAPPER":    filepath.Join(layer, demoWrapper),
	}
	maps.Copy(environment, d.set)
	maps.Copy(environment, settings)
	o := lambdaOptions{
		functionName: demoFunction,
		timeout:      demoTimeout,
		region:       demoRegion,
		layerDir:     layer,
		taskDir:      dir,
		output:       d.output(),
		credentials: lambdaCredentials{
			accessKeyID:     demoKeys.accessKeyID,
			secretAccessKey: demoKeys.secretAccessKey,
			sessionToken:    demoKeys.sessionToken,
		},
		runtime:     []string{program, "sample", "the deployed code"},
		environment: environment,
	}
	start := func(ctx context.Context) (*lambdaEnv, error) { return demoStart(ctx, o) }
	var err error
	d.function, err = newLambdaFleet(o, d.concurrency, start)
	if err != nil {
		return err
	}
	return d.function.warm(ctx)
}

// output takes what the function's processes print.
func (d *demo) output() io.Writer {
	if !d.verbose {
		return io.Discard
	}
	return &demoWhole{w: os.Stderr}
}

// demoWhole passes one Write on after the other, for each environment has its own.
type demoWhole struct {
	mu sync.Mutex // held through each Write
	w  io.Writer
}

func (o *demoWhole) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(p)
}

// demoStart starts an environment. Its extension listens on a port of its own: on Lambda each environment is
// a machine, here they share one.
func demoStart(ctx context.Context, o lambdaOptions) (*lambdaEnv, error) {
	if o.environment[demoPortVariable] != "" {
		return startLambda(ctx, o)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	o.environment = maps.Clone(o.environment)
	o.environment[demoPortVariable] = port
	return startLambda(ctx, o)
}

// demoLayer makes a directory that is laid out as the layer is in /opt.
func demoLayer(layer, program string) error {
	extensions := filepath.Join(layer, "extensions")
	return errors.Join(
		os.MkdirAll(extensions, 0o755),
		os.Symlink(program, filepath.Join(extensions, "live-lambda-extension")),
		os.WriteFile(filepath.Join(layer, demoWrapper), wrapperScript, 0o755))
}

// freePort is a port that was free a moment ago. It is below those that systems give to whoever asks for any,
// and so to the next connection.
func freePort() (string, error) {
	err := errors.New("none was tried")
	for range 100 {
		port := strconv.Itoa(10_000 + mathrand.IntN(20_000))
		var ln net.Listener
		ln, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			return port, ln.Close()
		}
	}
	return "", err
}

// startLocal starts `live-lambda local` and returns when it has subscribed.
func (d *demo) startLocal(ctx context.Context, program string) error {
	arguments := []string{"local", "--config", "", "--max-processes", strconv.Itoa(d.concurrency)}
	if d.ui.on {
		arguments = append(arguments, "--ui="+cmp.Or(d.ui.address, "true"))
	}
	if d.code.handler != "" {
		arguments = append(arguments, d.code.handler)
	} else {
		arguments = append(append(arguments, "--"), d.code.command...)
	}
	d.local = exec.Command(program, arguments...)
	settings := maps.Clone(d.common)
	settings["LIVE_LAMBDA_STAGE"] = d.stage
	d.local.Env = demoEnvironment(settings)
	d.local.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for this process to pass on
	lines := &demoLines{out: d.out, prefix: "    local | "}
	d.local.Stdout = lines
	d.local.Stderr = lines
	if err := d.guard.start(d.local); err != nil {
		return fmt.Errorf("start the local end: %w", err)
	}
	d.exited = make(chan struct{})
	go func() { // stopLocal waits for it
		d.local.Wait()
		d.guard.drop(d.local)
		close(d.exited)
	}()
	if err := d.awaitLocal(ctx); err != nil {
		d.stopLocal()
		return fmt.Errorf("the local end did not subscribe: %w", err)
	}
	return nil
}

// demoEnvironment is the local end's. What the developer has set for live-lambda and for AWS is not in it: it
// is meant for another API than the emulated one.
func demoEnvironment(settings map[string]string) []string {
	environment := developersEnvironment(true)
	maps.Copy(environment, map[string]string{
		"AWS_ACCESS_KEY_ID":     demoKeys.accessKeyID,
		"AWS_SECRET_ACCESS_KEY": demoKeys.secretAccessKey,
		"AWS_SESSION_TOKEN":     demoKeys.sessionToken,
		"AWS_REGION":            demoRegion,
	})
	maps.Copy(environment, settings)
	var list []string
	for name, value := range environment {
		list = append(list, name+"="+value)
	}
	return list
}

// awaitLocal returns when the local end has subscribed, or an error if it does not, or exits.
func (d *demo) awaitLocal(ctx context.Context) error {
	ctx, stopTimer := context.WithTimeoutCause(
		ctx, demoTimeout, fmt.Errorf("nothing has come within %s", demoTimeout))
	defer stopTimer()
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-d.exited:
			cancel(errors.New("it has exited; what it has printed says why"))
		case <-ctx.Done():
		}
	})
	e := endpoint{namespace: cmp.Or(d.common["LIVE_LAMBDA_NAMESPACE"], "live-lambda")}
	_, err := d.api.subscribers(ctx, e.requests(d.stage), 1)
	cancel(nil)
	wg.Wait()
	return err
}

// stopLocal ends the local end: what runs may come to its end, unless that takes long or there is an
// interrupt; then it is to end everything now, because a handler outlives a local end that is killed.
func (d *demo) stopLocal() {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, demoSignals()...)
	defer signal.Stop(interrupts)
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGTERM, os.Kill} {
		d.local.Process.Signal(sig)
		select {
		case <-d.exited:
			return
		case <-interrupts:
		case <-time.After(demoGoodbye):
		}
	}
	<-d.exited
}

// tell invokes the function with the local end there, and again without it.
func (d *demo) tell(ctx context.Context) error {
	if err := d.tellWithLocal(ctx); err != nil {
		return err
	}
	d.stopLocal()
	d.say("")
	if err := d.tellWithoutLocal(ctx); err != nil {
		return err
	}
	d.say("")
	d.say("AWS was emulated. With a function of yours: build the layer (./build.sh), and run")
	d.say("")
	d.say("  live-lambda local --attach FUNCTION %s", cmp.Or(d.code.handler, "src/orders.handler"))
	return nil
}

func (d *demo) tellWithLocal(ctx context.Context) error {
	d.say("1. Someone invokes the function %s with %s", demoFunction, demoPreview(d.event))
	result, err := d.invoke(ctx)
	if err != nil {
		return err
	}
	d.legs.tell(d)
	d.tellAnswer(result)
	if json.Valid(result.payload) && bytes.Equal(asciiJSON(result.payload), asciiJSON(d.event)) {
		d.say("               it equals the event, token for token (%d bytes)", len(result.payload))
	}
	if result.functionError != "" {
		return errors.New("the function answered with an error")
	}
	if !d.legs.answered() {
		return errors.New("the local handler did not answer; the deployed code did")
	}
	return nil
}

func (d *demo) tellWithoutLocal(ctx context.Context) error {
	d.say("2. The local end has gone, and has said so. Someone invokes the function again")
	result, err := d.invoke(ctx)
	if err != nil {
		return err
	}
	d.tellAnswer(result)
	return nil
}

func (d *demo) tellAnswer(result invokeResult) {
	d.say("   %s  the caller has the answer: %s", d.legs.since(time.Now()), demoPreview(result.payload))
}

// invoke invokes the function once.
func (d *demo) invoke(ctx context.Context) (invokeResult, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*demoTimeout)
	defer cancel()
	d.legs.begin()
	return d.function.invoke(ctx, invokeRequest{payload: d.event})
}

// serve takes invocations as the Lambda API does, until ctx is done.
func (d *demo) serve(ctx context.Context, program string) error {
	address := d.listener.Addr().String()
	d.say("The function %s takes invocations, until an interrupt:", demoFunction)
	d.say("")
	d.say("  curl -d '{\"name\":\"you\"}' "+demoInvokeURL, address)
	d.say("  aws lambda invoke --no-sign-request --endpoint-url http://%s \\", address)
	d.say("    --region %s --function-name %s /dev/stdout", demoRegion, demoFunction)
	d.say("")
	if len(d.set) > 0 {
		d.tellRoute(address)
		d.tellOther(program)
	}
	server := &http.Server{Handler: serveInvoke(d.function)}
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(d.listener) })
	var err error
	select {
	case <-ctx.Done():
		d.stopLocal()
		goodbye, cancel := context.WithTimeout(context.Background(), demoGoodbye)
		defer cancel()
		server.Shutdown(goodbye) // with the answers of what was under way
	case <-d.exited:
		err = errors.New("the local end has exited")
	}
	server.Close()
	wg.Wait()
	return err
}

// tellRoute says what to send for whom, if a token in the event tells the stage.
func (d *demo) tellRoute(address string) {
	route := d.set["LIVE_LAMBDA_ROUTE"]
	if route == "" {
		return
	}
	what := "With it, for the stage that it names:"
	if d.set["LIVE_LAMBDA_MODE"] == "mirror" {
		what = "With it, a copy is for the stage that it names:"
	}
	d.say("Without the token %s that is for the deployed code. %s", route, what)
	d.say("")
	for _, stage := range []string{demoStage, demoOtherStage} {
		d.say(`  curl -d '{"headers":{"%s":"%s"}}' `+demoInvokeURL, route, stage, address)
	}
	d.say("")
}

// tellOther says how to start another local end, in another terminal. A key is not printed.
func (d *demo) tellOther(program string) {
	stage := d.stage
	if d.set["LIVE_LAMBDA_ROUTE"] != "" {
		stage = demoOtherStage
	}
	settings := maps.Clone(d.common)
	settings["LIVE_LAMBDA_STAGE"] = stage
	settings["AWS_ACCESS_KEY_ID"] = demoKeys.accessKeyID
	settings["AWS_SECRET_ACCESS_KEY"] = demoKeys.secretAccessKey
	settings["AWS_SESSION_TOKEN"] = demoKeys.sessionToken
	settings["AWS_REGION"] = demoRegion
	text := "Another local end, in another terminal:"
	if settings[keyVariable] != "" {
		settings[keyVariable] = "KEY"
		text = "Another local end, in another terminal, with your key for KEY:"
	}
	d.say("%s", text)
	d.say("")
	for _, variable := range assignments(settings) {
		if !strings.HasSuffix(variable, "=") {
			d.say("  export %s", variable)
		}
	}
	d.say("  %s local --config '' -- %s sample '%s'", program, program, cmp.Or(stage, "another machine"))
	d.say("")
}

// demoPreview is JSON short enough to read.
func demoPreview(b []byte) string {
	if len(b) <= demoShown {
		return string(b)
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(string(b[:demoShown/4]), ""), len(b))
}

// demoLegs sees an invocation pass through AppSync. A leg that it has not seen is zero.
type demoLegs struct {
	mu       sync.Mutex // guards the following
	start    time.Time
	request  time.Time
	accepted time.Time
	response time.Time
}

// begin starts the clock of one invocation.
func (l *demoLegs) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start = time.Now()
	l.request = time.Time{}
	l.accepted = time.Time{}
	l.response = time.Time{}
}

// watch is the emulator's hook: it notes the time of what clients publish, and lets every frame pass.
func (l *demoLegs) watch(f apiFrame) apiVerdict {
	if !f.out && (f.typ == "publish" || f.typ == "http_publish") {
		l.note(f)
	}
	return apiVerdict{}
}

// note keeps the time of the first message of each leg.
func (l *demoLegs) note(f apiFrame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	leg := l.leg(f)
	if leg != nil && leg.IsZero() {
		*leg = time.Now()
	}
}

// leg is the one that a publish belongs to, or nil. l.mu is held.
func (l *demoLegs) leg(f apiFrame) *time.Time {
	if strings.HasPrefix(f.channel, "/live-lambda/requests") {
		return &l.request
	}
	message := ""
	if len(f.events) > 0 {
		message = f.events[0]
	}
	p, _ := parsePart(message)
	switch {
	case p != nil && p.Type == "accepted":
		return &l.accepted
	case p == nil || p.Type == "response" || p.Type == "error":
		return &l.response
	}
	return nil
}

// since is how long after the invocation's begin t is.
func (l *demoLegs) since(t time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%8.1f ms", float64(t.Sub(l.start).Microseconds())/1e3)
}

// answered tells whether an answer has come through AppSync.
func (l *demoLegs) answered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.response.IsZero()
}

// tell prints the legs in the order of the path.
func (l *demoLegs) tell(d *demo) {
	legs := []struct {
		at   time.Time
		what string
	}{
		{at: l.request, what: "the extension has sent the event to AppSync, on /live-lambda/requests"},
		{at: l.accepted, what: "the local end has accepted it"},
		{at: l.response, what: "the handler's answer is on its way back through AppSync"},
	}
	for _, leg := range legs {
		if !leg.at.IsZero() {
			d.say("   %s  %s", l.since(leg.at), leg.what)
		}
	}
}

// demoLines prefixes the lines that a process prints.
type demoLines struct {
	out    io.Writer
	prefix string

	mu   sync.Mutex // guards rest
	rest []byte     // of a line that has not ended
}

func (l *demoLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		fmt.Fprintf(l.out, "%s%s\n", l.prefix, line)
		l.rest = rest
	}
}

// sampleEcho makes the sample handler return its event.
const sampleEcho = "echo"

const sampleUsage = `usage: AWS_LAMBDA_RUNTIME_API=HOST:PORT live-lambda sample WHERE

A handler that says hello from WHERE; if that is echo, it returns the event.`

// sample is the command sample: a handler for the demonstration, and an example of what the Runtime API
// takes.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
func (t *console) sample(args []string) int {
	f := t.commandLine("sample", sampleUsage)
	words, status, ok := f.parse(args)
	if !ok {
		return status
	}
	api := os.Getenv("AWS_LAMBDA_RUNTIME_API")
	if len(words) != 1 || api == "" {
		fmt.Fprintln(t.err, sampleUsage)
		return 2
	}
	for {
		err := sampleInvocation("http://"+api+invocationPath, words[0])
		if err != nil {
			return f.failed(err)
		}
	}
}

// sampleInvocation handles one event.
func sampleInvocation(base, where string) error {
	resp, err := http.Get(base + "next")
	if err != nil {
		return err
	}
	body := bytes.NewBuffer(make([]byte, 0, max(resp.ContentLength, 0)+bytes.MinRead))
	_, err = body.ReadFrom(resp.Body)
	resp.Body.Close()
	if err != nil {
		return err
	}
	answer, err := sampleAnswer(body.Bytes(), where)
	if err != nil {
		return err
	}
	id := resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
	resp, err = http.Post(base+id+"/response", "application/json", bytes.NewReader(answer))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// sampleAnswer says hello from where, or is the event.
func sampleAnswer(event []byte, where string) ([]byte, error) {
	if where == sampleEcho {
		return event, nil
	}
	return json.Marshal(map[string]any{
		"message": "hello from " + where,
		"event":   json.RawMessage(event),
	})
}
