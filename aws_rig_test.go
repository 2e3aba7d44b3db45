//go:build !layer

package main

// aws_rig_test.go is a fake of the AWS CLI: a script named aws, whose calls the test answers from
// functions, layers, policies, stacks and logs that it keeps.

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// fakeAWS is the AWS CLI with an account behind it. On PATH stands a script that hands each command to this
// process and prints what it answers.
type fakeAWS struct {
	t        *testing.T
	answer   string        // what standard input has, as of somebody at the terminal
	terminal bool          // somebody is at a terminal
	here     func(*doctor) // changes what is set here; nil: as doctorFor has it

	mu        sync.Mutex // held while a command is carried out; guards the following
	functions map[string]*fakeFunction
	layers    map[string][][]string // architectures of each version, by name
	roles     map[string][]string   // policies, by name
	stacks    map[string][]fakeOutput
	resources map[string][]fakeResource    // of stacks
	tags      map[string]map[string]string // by function
	hashes    map[string][sha256.Size]byte // of layer versions' zips, by ARN
	logs      map[string][]fakeLogEvent    // by group, the oldest first
	calls     []fakeCall
	waited    string // what has been waited for
	invoked   fakeInvocation

	dieAt   int  // call at which live-lambda is killed: it and all that follow are not answered
	dieDone bool // that call is carried out before
	dead    bool
	hooks   map[string]func() // run once before a command
	denied  string            // command that is not allowed
	twice   bool              // an update is sent twice
	canned  *fakeAnswer       // to everything, nil for none
}

// fakeFunction is a function.
type fakeFunction struct {
	config   []byte // what get-function-configuration shows, but for the fields that change by themselves
	revision int
	state    string // Active if empty
	updating bool   // an update is under way
	busy     bool   // updates are under way whatever is waited for
	fails    string // why the next update will fail, empty if it will not
	failed   string // why the last update has failed
}

// fakeInvocation is what a function answers if it is invoked.
type fakeInvocation struct {
	answer        string
	functionError string
	log           string // empty: none comes back
}

type fakeOutput struct{ OutputKey, OutputValue string }

// fakeResource is one of a stack.
type fakeResource struct {
	ResourceType       string
	PhysicalResourceID string `json:"PhysicalResourceId"`
	ResourceStatus     string
}

type fakeLogEvent struct {
	LogStreamName string `json:"logStreamName"`
	Timestamp     int64  `json:"timestamp"`
	Message       string `json:"message"`
}

type fakeCall struct {
	args  []string
	stdin string
}

func (c fakeCall) String() string { return strings.Join(c.args, " ") }

// fakeAnswer is what a command prints, and its exit status.
type fakeAnswer struct {
	out, err string
	status   int
}

type result struct {
	status   int
	out, err string
}

// newFakeAWS puts the fake on PATH. It has a role, some layers, and the stack of an Event API.
func newFakeAWS(t *testing.T) *fakeAWS {
	f := &fakeAWS{
		t:         t,
		functions: map[string]*fakeFunction{},
		layers: map[string][][]string{
			"live-lambda-arm64": {{"arm64"}, {"arm64"}},
			"live-lambda-amd64": {{"x86_64"}, {"x86_64"}},
			"merged":            {{"arm64"}},
		},
		roles: map[string][]string{"orders-role": {basicPolicy}},
		stacks: map[string][]fakeOutput{
			"dev": {
				{OutputKey: "LiveLambdaAppsyncHttpHost",
					OutputValue: "label.appsync-api.eu-west-1.amazonaws.com"},
				{OutputKey: "LiveLambdaAppsyncRealtimeHost",
					OutputValue: "label.appsync-realtime-api.eu-west-1.amazonaws.com"},
				{OutputKey: "LiveLambdaAppsyncRegion", OutputValue: "eu-west-1"},
				{OutputKey: "LiveLambdaFunctionPolicyArn", OutputValue: stackPolicy},
			},
		},
		resources: map[string][]fakeResource{},
		tags:      map[string]map[string]string{},
		hashes:    map[string][sha256.Size]byte{},
		logs:      map[string][]fakeLogEvent{},
		hooks:     map[string]func(){},
	}
	t.Setenv("USER", "ann")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, a := range apiFlags {
		t.Setenv(a.variable, "")
	}
	f.serve()
	return f
}

// fakeScript uses what is built into the shell alone: it runs hundreds of times. An interrupt comes too late
// for it, as for a call that has been sent.
const fakeScript = `#!/bin/sh
set -eu
trap '' INT
copy() { while IFS= read -r line || [ -n "$line" ]; do printf '%s\n' "$line"; done; }
cd "$FAKE_AWS"
printf '%s\n' "$@" >args
copy >stdin
echo >request
read -r status <answer
copy <out
copy <err >&2
exit "$status"
`

// serve answers the script until the test is over.
func (f *fakeAWS) serve() {
	dir, bin := f.t.TempDir(), f.t.TempDir()
	f.t.Setenv("FAKE_AWS", dir)
	f.t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	if err := os.WriteFile(filepath.Join(bin, "aws"), []byte(fakeScript), 0o755); err != nil {
		f.t.Fatal(err)
	}
	requests := f.pipe(dir, "request")
	answers := f.pipe(dir, "answer")
	var wg sync.WaitGroup
	wg.Go(func() {
		newline := make([]byte, 1)
		for {
			_, err := requests.Read(newline)
			if err != nil {
				return
			}
			fmt.Fprintln(answers, f.answerOne(dir))
		}
	})
	f.t.Cleanup(func() {
		requests.Close()
		wg.Wait()
		answers.Close()
	})
}

// pipe makes a named pipe, and opens it for both directions, so that opening does not wait for the other
// side.
func (f *fakeAWS) pipe(dir, name string) *os.File {
	path := filepath.Join(dir, name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		f.t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	return file
}

// answerOne carries out the command that the script has written to dir, writes there what it is to print, and
// returns its exit status.
func (f *fakeAWS) answerOne(dir string) int {
	args, _ := os.ReadFile(filepath.Join(dir, "args"))
	stdin, _ := os.ReadFile(filepath.Join(dir, "stdin"))
	f.mu.Lock()
	a := f.call(strings.Split(strings.TrimSuffix(string(args), "\n"), "\n"), string(stdin))
	f.mu.Unlock()
	os.WriteFile(filepath.Join(dir, "out"), []byte(a.out), 0o600)
	os.WriteFile(filepath.Join(dir, "err"), []byte(a.err), 0o600)
	return a.status
}

// turn passes what is below mu from a test to the commands that it runs, and back: they are never at work at
// once.
func (f *fakeAWS) turn() {
	f.mu.Lock()
	defer f.mu.Unlock()
}

// run runs a command of live-lambda. Nothing that it prints or hands to aws as an argument may hold a secret.
func (f *fakeAWS) run(command string, args ...string) result {
	f.t.Helper()
	var out, errOut bytes.Buffer
	c := &console{in: strings.NewReader(f.answer), asks: f.terminal, out: &out, err: &errOut}
	called := len(f.calls)
	f.turn()
	status := c.command(append([]string{command}, args...))
	f.turn()
	if strings.Contains(out.String()+errOut.String(), secretValue) {
		f.t.Errorf("%s shows a secret: %s%s", command, out.String(), errOut.String())
	}
	for _, call := range f.calls[called:] {
		if strings.Contains(call.String(), secretValue) {
			f.t.Errorf("%s puts a secret on a command line: %s", command, call)
		}
	}
	return result{status: status, out: out.String(), err: errOut.String()}
}

// function makes a function; fields replace those of the usual one, nil takes them away.
func (f *fakeAWS) function(name string, fields map[string]any) {
	config := map[string]any{
		"FunctionName": name, "FunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:" + name,
		"Runtime": "nodejs22.x", "Role": "arn:aws:iam::123456789012:role/service/orders-role",
		"Handler":  "index.handler",
		"CodeSize": 1234, "Description": "", "Timeout": 3, "MemorySize": 128, "Version": "$LATEST",
		"TracingConfig": map[string]any{"Mode": "PassThrough"}, "PackageType": "Zip",
		"Architectures":    []any{"arm64"},
		"EphemeralStorage": map[string]any{"Size": 512},
		"SnapStart":        map[string]any{"ApplyOn": "None", "OptimizationStatus": "Off"},
	}
	maps.Copy(config, fields)
	maps.DeleteFunc(config, func(_ string, value any) bool { return value == nil })
	f.functions[name] = &fakeFunction{config: indentJSON(config)}
}

// configure is an update by somebody else.
func (f *fakeAWS) configure(name string, layers []string, variables map[string]any) {
	f.functions[name].set(layers, variables)
	f.functions[name].revision++
}

func (f *fakeAWS) decoded(name string) map[string]any {
	var config map[string]any
	if err := json.Unmarshal(f.functions[name].config, &config); err != nil {
		f.t.Fatal(err)
	}
	return config
}

func (f *fakeAWS) layersOf(name string) (arns []string) {
	layers, _ := f.decoded(name)["Layers"].([]any)
	for _, l := range layers {
		arns = append(arns, l.(map[string]any)["Arn"].(string))
	}
	return arns
}

func (f *fakeAWS) variablesOf(name string) map[string]any {
	environment, _ := f.decoded(name)["Environment"].(map[string]any)
	variables, _ := environment["Variables"].(map[string]any)
	if variables == nil {
		variables = map[string]any{}
	}
	return variables
}

// snapshot is everything that attach and detach can change, byte for byte.
func (f *fakeAWS) snapshot() string {
	var s strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f.functions)) {
		fmt.Fprintf(&s, "%s %s\n", name, f.functions[name].config)
	}
	fmt.Fprintln(&s, f.roles)
	return s.String()
}

func (f *fakeAWS) want(before string) {
	f.t.Helper()
	now := f.snapshot()
	if now != before {
		f.t.Errorf("got\n%s\nwant\n%s", now, before)
	}
}

func (f *fakeAWS) die(call int, done bool) { f.dieAt, f.dieDone = call, done }

func (f *fakeAWS) revive() { f.dieAt, f.dead = 0, false }

func (f *fakeAWS) before(command string, hook func()) { f.hooks[command] = hook }

func indentJSON(v any) []byte {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	if err := e.Encode(v); err != nil {
		panic(err) // maps, strings and numbers always encode
	}
	return buf.Bytes()
}

func printed(v any) fakeAnswer { return fakeAnswer{out: string(indentJSON(v))} }

// serviceError254 is an error of a service, as the CLI tells it.
func serviceError254(operation, code, format string, args ...any) fakeAnswer {
	return fakeAnswer{
		err: fmt.Sprintf(
			"\nAn error occurred (%s) when calling the %s operation: %s\n", code, operation,
			fmt.Sprintf(format, args...)), status: 254}
}

// wrongUsage is what the CLI says to a command line that it does not understand.
func wrongUsage(what string) fakeAnswer {
	return fakeAnswer{
		err: "usage: aws [options] <command> <subcommand>\n\naws: error: " + what + "\n", status: 252}
}

// call carries out one command, unless live-lambda has been killed or the answer is canned.
func (f *fakeAWS) call(args []string, stdin string) fakeAnswer {
	f.calls = append(f.calls, fakeCall{args: args, stdin: stdin})
	if len(f.calls) == f.dieAt {
		f.dead = true
	}
	if f.dead && (len(f.calls) > f.dieAt || !f.dieDone) {
		return fakeAnswer{status: 255}
	}
	if f.canned != nil {
		return *f.canned
	}
	a := f.carryOut(args, stdin)
	if f.dead {
		return fakeAnswer{status: 255}
	}
	return a
}

// carryOut carries out one command, if it is one that the AWS CLI understands and that is allowed.
func (f *fakeAWS) carryOut(args []string, stdin string) fakeAnswer {
	if len(args) > 2 && args[1] == "wait" {
		args = append([]string{args[0], "wait " + args[2]}, args[3:]...)
	}
	options := fakeOptions{}
	if len(args) > 2 && args[1] == "invoke" {
		options["outfile"] = args[2]
		args = slices.Delete(slices.Clone(args), 2, 3)
	}
	if len(args) < 2 || len(args)%2 == 1 {
		return wrongUsage("too few arguments")
	}
	name := args[1]
	for i := 2; i < len(args); i += 2 {
		options[args[i]] = args[i+1]
	}
	_, function, isARN := strings.Cut(options["--function-name"], ":function:")
	if isARN {
		options["--function-name"] = function
	}
	known, ok := fakeCommands[args[0]+" "+name]
	if !ok || options["--output"] != "json" {
		return wrongUsage("argument operation: Invalid choice: " + name + ", or no --output json")
	}
	for option := range options {
		common := slices.Contains([]string{"--output", "--profile", "--region"}, option)
		if !common && !slices.Contains(known.options, option) {
			return wrongUsage("unrecognized arguments: " + option)
		}
	}
	hook := f.hooks[name]
	if hook != nil {
		delete(f.hooks, name)
		hook()
	}
	if f.denied == name {
		return serviceError254(
			known.operation, "AccessDenied",
			"User: arn:aws:sts::123456789012:assumed-role/Developer/alice is not authorized to perform: "+
				"iam:%s on resource: role orders-role", known.operation)
	}
	a := known.run(f, options, stdin)
	if f.twice && name == "update-function-configuration" {
		f.twice = false
		a = known.run(f, options, stdin)
	}
	return a
}

type fakeOptions map[string]string

type fakeCommand struct {
	operation string
	options   []string
	run       func(*fakeAWS, fakeOptions, string) fakeAnswer
}

var fakeCommands = map[string]fakeCommand{
	"lambda get-function-configuration": {
		operation: "GetFunctionConfiguration", options: []string{"--function-name"},
		run: (*fakeAWS).getFunction},
	"lambda update-function-configuration": {
		operation: "UpdateFunctionConfiguration",
		options:   []string{"--function-name", "--revision-id", "--layers", "--environment"},
		run:       (*fakeAWS).updateFunction},
	"lambda wait function-updated-v2": {
		operation: "GetFunction", options: []string{"--function-name"}, run: (*fakeAWS).waitUpdated},
	"lambda wait function-active-v2": {
		operation: "GetFunction", options: []string{"--function-name"}, run: (*fakeAWS).waitActive},
	"lambda invoke": {
		operation: "Invoke",
		options: []string{
			"outfile", "--function-name", "--payload", "--log-type", "--qualifier", "--cli-read-timeout",
		},
		run: (*fakeAWS).invoke},
	"lambda list-functions": {
		operation: "ListFunctions", options: []string{"--query"}, run: (*fakeAWS).listFunctions},
	"lambda list-layer-versions": {
		operation: "ListLayerVersions", options: []string{"--layer-name", "--compatible-architecture"},
		run: (*fakeAWS).listLayerVersions},
	"lambda get-layer-version-by-arn": {
		operation: "GetLayerVersionByArn", options: []string{"--arn"}, run: (*fakeAWS).getLayerVersion},
	"lambda publish-layer-version": {operation: "PublishLayerVersion",
		options: []string{"--layer-name", "--zip-file", "--compatible-architectures", "--description"},
		run:     (*fakeAWS).publishLayerVersion},
	"iam list-attached-role-policies": {
		operation: "ListAttachedRolePolicies", options: []string{"--role-name"},
		run: (*fakeAWS).listRolePolicies},
	"iam attach-role-policy": {
		operation: "AttachRolePolicy", options: []string{"--role-name", "--policy-arn"},
		run: (*fakeAWS).attachRolePolicy},
	"iam detach-role-policy": {
		operation: "DetachRolePolicy", options: []string{"--role-name", "--policy-arn"},
		run: (*fakeAWS).detachRolePolicy},
	"iam list-entities-for-policy": {
		operation: "ListEntitiesForPolicy", options: []string{"--policy-arn", "--entity-filter"},
		run: (*fakeAWS).listPolicyRoles},
	"resourcegroupstaggingapi get-resources": {
		operation: "GetResources", options: []string{"--resource-type-filters", "--tag-filters"},
		run: (*fakeAWS).getResources},
	"cloudformation list-stack-resources": {
		operation: "ListStackResources", options: []string{"--stack-name"},
		run: (*fakeAWS).listStackResources},
	"cloudformation create-stack": {operation: "CreateStack",
		options: []string{"--stack-name", "--template-body", "--capabilities"}, run: (*fakeAWS).createStack},
	"cloudformation wait stack-create-complete": {
		operation: "DescribeStacks", options: []string{"--stack-name"}, run: (*fakeAWS).waitCreated},
	"cloudformation describe-stacks": {
		operation: "DescribeStacks", options: []string{"--stack-name"}, run: (*fakeAWS).describeStacks},
	"sts assume-role": {
		operation: "AssumeRole", options: []string{"--role-arn", "--role-session-name"},
		run: (*fakeAWS).assumeRole},
	"sts get-caller-identity": {operation: "GetCallerIdentity", run: (*fakeAWS).callerIdentity},
	"logs filter-log-events": {operation: "FilterLogEvents",
		options: []string{"--log-group-name", "--start-time", "--filter-pattern", "--max-items"},
		run:     (*fakeAWS).filterLogEvents},
}

func (f *fakeAWS) getFunction(o fakeOptions, _ string) fakeAnswer {
	fn := f.functions[o["--function-name"]]
	if fn == nil {
		return serviceError254(
			"GetFunctionConfiguration", "ResourceNotFoundException",
			"Function not found: arn:aws:lambda:eu-west-1:123456789012:function:%s", o["--function-name"])
	}
	config := f.decoded(o["--function-name"])
	config["RevisionId"] = fmt.Sprintf("revision-%d", fn.revision)
	config["LastModified"] = fmt.Sprintf("2026-01-01T00:00:%02d.000+0000", fn.revision)
	config["State"], config["LastUpdateStatus"] = "Active", "Successful"
	if fn.state != "" {
		config["State"] = fn.state
	}
	if fn.updating || fn.busy {
		config["LastUpdateStatus"], config["LastUpdateStatusReason"] = "InProgress",
			"The function is being created."
	}
	if fn.failed != "" {
		config["LastUpdateStatus"], config["LastUpdateStatusReason"] = "Failed", fn.failed
	}
	return printed(config)
}

func (f *fakeAWS) updateFunction(o fakeOptions, stdin string) fakeAnswer {
	const operation = "UpdateFunctionConfiguration"
	fn := f.functions[o["--function-name"]]
	var layers []string
	var environment struct{ Variables map[string]any }
	switch {
	case fn == nil:
		return serviceError254(operation, "ResourceNotFoundException", "Function not found")
	case fn.updating || fn.state == "Pending":
		return serviceError254(
			operation, "ResourceConflictException",
			"The operation cannot be performed at this time. An update is in progress for resource: orders")
	case o["--revision-id"] != fmt.Sprintf("revision-%d", fn.revision):
		return serviceError254(
			operation, "PreconditionFailedException",
			"The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias "+
				"API to retrieve the latest Revision Id")
	case o["--environment"] != "file:///dev/stdin":
		return wrongUsage("argument --environment: the test wants it on standard input")
	case json.Unmarshal([]byte(o["--layers"]), &layers) != nil ||
		json.Unmarshal([]byte(stdin), &environment) != nil:
		return wrongUsage("Invalid JSON")
	case strings.IndexFunc(stdin, func(r rune) bool { return r > '~' }) >= 0:
		return wrongUsage("not ASCII, so the locale matters")
	case len(layers) > 5:
		return serviceError254(operation, "InvalidParameterValueException", "Layers exceed the maximum of 5")
	}
	size := 0
	for name, value := range environment.Variables {
		size += len(name) + len(value.(string))
	}
	if size > 4096 {
		return serviceError254(
			operation, "InvalidParameterValueException", "exceeded the 4KB limit. String measured: %s", stdin)
	}
	fn.set(layers, environment.Variables)
	fn.revision++
	fn.updating, fn.failed, fn.fails = fn.fails == "", fn.fails, ""
	return f.getFunction(o, "")
}

// invoke writes the answer into a file, as the AWS CLI.
func (f *fakeAWS) invoke(o fakeOptions, stdin string) fakeAnswer {
	name, _, _ := strings.Cut(o["--function-name"], ":")
	switch {
	case f.functions[name] == nil:
		return serviceError254("Invoke", "ResourceNotFoundException", "Function not found: %s", name)
	case o["--payload"] != "fileb:///dev/stdin" || !json.Valid([]byte(stdin)):
		return wrongUsage("argument --payload: the test wants JSON on standard input")
	case o["--log-type"] != "Tail":
		return wrongUsage("argument --log-type: the test wants the log")
	}
	if err := os.WriteFile(o["outfile"], []byte(f.invoked.answer), 0o600); err != nil {
		return wrongUsage(err.Error())
	}
	said := map[string]any{"StatusCode": 200, "ExecutedVersion": "$LATEST"}
	if f.invoked.functionError != "" {
		said["FunctionError"] = f.invoked.functionError
	}
	if f.invoked.log != "" {
		said["LogResult"] = base64.StdEncoding.EncodeToString([]byte(f.invoked.log))
	}
	return printed(said)
}

// set shows neither an empty list of layers nor an empty environment, as the service.
func (fn *fakeFunction) set(layers []string, variables map[string]any) {
	var config map[string]any
	if err := json.Unmarshal(fn.config, &config); err != nil {
		panic(err) // written by indentJSON
	}
	delete(config, "Layers")
	delete(config, "Environment")
	refs := []any{}
	for _, arn := range layers {
		refs = append(refs, map[string]any{"Arn": arn, "CodeSize": 1000})
	}
	if len(refs) > 0 {
		config["Layers"] = refs
	}
	if len(variables) > 0 {
		config["Environment"] = map[string]any{"Variables": variables}
	}
	fn.config = indentJSON(config)
}

func (f *fakeAWS) waitUpdated(o fakeOptions, _ string) fakeAnswer {
	f.waited += "function-updated-v2 "
	fn := f.functions[o["--function-name"]]
	if fn.failed != "" {
		return fakeAnswer{
			err: "\nWaiter FunctionUpdatedV2 failed: Waiter encountered a terminal failure state: For " +
				"expression \"Configuration.LastUpdateStatus\" we matched expected path: \"Failed\"\n",
			status: 255}
	}
	if fn.updating {
		fn.updating = false
		fn.revision++ // so it does in the service
	}
	return fakeAnswer{}
}

func (f *fakeAWS) waitActive(o fakeOptions, _ string) fakeAnswer {
	f.waited += "function-active-v2 "
	f.functions[o["--function-name"]].state = ""
	return fakeAnswer{}
}

// listFunctions knows two queries: for all names, and for the functions that carry the layer.
func (f *fakeAWS) listFunctions(o fakeOptions, _ string) fakeAnswer {
	found := []any{}
	for _, name := range slices.Sorted(maps.Keys(f.functions)) {
		switch o["--query"] {
		case "Functions[].FunctionName":
			found = append(found, name)
		case carriersQuery:
			if f.carries(name) {
				found = append(found, f.decoded(name))
			}
		default:
			return wrongUsage("the fake knows two queries only")
		}
	}
	return printed(found)
}

// carries is what carriersQuery asks for.
func (f *fakeAWS) carries(name string) bool {
	v := f.variablesOf(name)
	return v[memoryVariable] != nil || v[hostVariable] != nil || v[wrapperVariable] == wrapperPath ||
		strings.Contains(strings.Join(f.layersOf(name), " "), ":layer:live-lambda-")
}

func (f *fakeAWS) listLayerVersions(o fakeOptions, _ string) fakeAnswer {
	versions := []any{}
	for i, arches := range slices.Backward(f.layers[o["--layer-name"]]) {
		arch := o["--compatible-architecture"]
		if arch == "" || slices.Contains(arches, arch) {
			versions = append(versions, layerVersion(o["--layer-name"], i+1, arches))
		}
	}
	return printed(map[string]any{"LayerVersions": versions})
}

func layerVersion(name string, version int, arches []string) map[string]any {
	arn := "arn:aws:lambda:eu-west-1:123456789012:layer:" + name
	return map[string]any{
		"LayerArn": arn, "LayerVersionArn": arn + ":" + strconv.Itoa(version), "Version": version,
		"CompatibleArchitectures": arches}
}

// zipHash is the SHA-256 of a layer version's zip, as Lambda writes it.
func (f *fakeAWS) zipHash(arn string) string {
	hash := f.hashes[arn]
	return base64.StdEncoding.EncodeToString(hash[:])
}

func (f *fakeAWS) getLayerVersion(o fakeOptions, _ string) fakeAnswer {
	parts := strings.Split(o["--arn"], ":")
	version, _ := strconv.Atoi(parts[len(parts)-1])
	versions := f.layers[parts[len(parts)-2]]
	if version < 1 || version > len(versions) {
		return serviceError254(
			"GetLayerVersionByArn", "ResourceNotFoundException", "The resource you requested does not exist.")
	}
	v := layerVersion(parts[len(parts)-2], version, versions[version-1])
	v["Content"] = map[string]any{"Location": "https://…", "CodeSha256": f.zipHash(o["--arn"])}
	return printed(v)
}

func (f *fakeAWS) publishLayerVersion(o fakeOptions, _ string) fakeAnswer {
	name := o["--layer-name"]
	path, ok := strings.CutPrefix(o["--zip-file"], "fileb://")
	content, err := os.ReadFile(path)
	if !ok || err != nil {
		return wrongUsage("Error parsing parameter '--zip-file'")
	}
	if strings.Contains(name, " ") {
		return serviceError254("PublishLayerVersion", "ValidationException", "1 validation error detected")
	}
	f.layers[name] = append(f.layers[name], []string{o["--compatible-architectures"]})
	v := layerVersion(name, len(f.layers[name]), []string{o["--compatible-architectures"]})
	f.hashes[v["LayerVersionArn"].(string)] = sha256.Sum256(content)
	return printed(v)
}

func (f *fakeAWS) listRolePolicies(o fakeOptions, _ string) fakeAnswer {
	policies, ok := f.roles[o["--role-name"]]
	if !ok {
		return serviceError254(
			"ListAttachedRolePolicies", "NoSuchEntity", "The role with name %s cannot be found.",
			o["--role-name"])
	}
	list := []any{}
	for _, arn := range policies {
		list = append(
			list, map[string]any{"PolicyName": arn[strings.LastIndexByte(arn, '/')+1:], "PolicyArn": arn})
	}
	return printed(map[string]any{"AttachedPolicies": list})
}

func (f *fakeAWS) attachRolePolicy(o fakeOptions, _ string) fakeAnswer {
	role := o["--role-name"]
	if !slices.Contains(f.roles[role], o["--policy-arn"]) {
		f.roles[role] = append(f.roles[role], o["--policy-arn"])
	}
	return fakeAnswer{}
}

func (f *fakeAWS) detachRolePolicy(o fakeOptions, _ string) fakeAnswer {
	role := o["--role-name"]
	i := slices.Index(f.roles[role], o["--policy-arn"])
	if i < 0 {
		return serviceError254(
			"DetachRolePolicy", "NoSuchEntity", "Policy %s was not found.", o["--policy-arn"])
	}
	f.roles[role] = slices.Delete(f.roles[role], i, i+1)
	return fakeAnswer{}
}

func (f *fakeAWS) listPolicyRoles(o fakeOptions, _ string) fakeAnswer {
	if o["--entity-filter"] != "Role" {
		return wrongUsage("the fake knows roles only")
	}
	list := []any{}
	for _, role := range slices.Sorted(maps.Keys(f.roles)) {
		if slices.Contains(f.roles[role], o["--policy-arn"]) {
			list = append(list, map[string]any{"RoleName": role})
		}
	}
	return printed(map[string]any{"PolicyRoles": list})
}

// getResources knows one filter.
func (f *fakeAWS) getResources(o fakeOptions, _ string) fakeAnswer {
	var filters []struct {
		Key    string
		Values []string
	}
	err := json.Unmarshal([]byte(o["--tag-filters"]), &filters)
	if err != nil || len(filters) != 1 || o["--resource-type-filters"] != "lambda:function" {
		return wrongUsage("Error parsing parameter '--tag-filters'")
	}
	list := []any{}
	for _, name := range slices.Sorted(maps.Keys(f.tags)) {
		value, has := f.tags[name][filters[0].Key]
		if has && (filters[0].Values == nil || slices.Contains(filters[0].Values, value)) {
			list = append(list, map[string]any{
				"ResourceARN": "arn:aws:lambda:eu-west-1:123456789012:function:" + name, "Tags": []any{}})
		}
	}
	return printed(map[string]any{"ResourceTagMappingList": list})
}

func (f *fakeAWS) listStackResources(o fakeOptions, _ string) fakeAnswer {
	resources, ok := f.resources[o["--stack-name"]]
	if !ok {
		return serviceError254("ListStackResources", "ValidationError", "Stack with id %s does not exist",
			o["--stack-name"])
	}
	return printed(map[string]any{"StackResourceSummaries": resources})
}

// createStack makes a stack with the outputs of the stack dev.
func (f *fakeAWS) createStack(o fakeOptions, stdin string) fakeAnswer {
	outputs := f.stacks["dev"]
	want := eventTemplate()
	if outputs[0].OutputKey == "LiveLambdaAppsyncProtocol" {
		want = graphqlTemplate()
	}
	if stdin != want || o["--template-body"] != "file:///dev/stdin" ||
		o["--capabilities"] != "CAPABILITY_IAM" {
		return wrongUsage("the fake wants the template of the API that the stack dev has")
	}
	f.stacks[o["--stack-name"]] = outputs
	return printed(map[string]any{"StackId": "arn:aws:cloudformation:…"})
}

func (f *fakeAWS) waitCreated(o fakeOptions, _ string) fakeAnswer {
	f.waited += "stack-create-complete "
	return f.describeStacks(o, "")
}

func (f *fakeAWS) describeStacks(o fakeOptions, _ string) fakeAnswer {
	outputs, ok := f.stacks[o["--stack-name"]]
	if !ok {
		return serviceError254(
			"DescribeStacks", "ValidationError", "Stack with id %s does not exist", o["--stack-name"])
	}
	return printed(
		map[string]any{
			"Stacks": []any{
				map[string]any{
					"StackName": o["--stack-name"], "StackStatus": "CREATE_COMPLETE", "Outputs": outputs}}})
}

func (f *fakeAWS) assumeRole(o fakeOptions, _ string) fakeAnswer {
	if !validSessionName.MatchString(o["--role-session-name"]) {
		return serviceError254("AssumeRole", "ValidationError", "Value at 'roleSessionName' failed")
	}
	return printed(map[string]any{
		"Credentials": map[string]any{
			"AccessKeyId":     "ASIAROLE",
			"SecretAccessKey": secretValue,
			"SessionToken":    o["--role-arn"] + "'s token",
			"Expiration":      "2099-01-01T00:00:00+00:00",
		},
	})
}

// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
var validSessionName = regexp.MustCompile(`^live-lambda-[\w+=,.@-]{1,52}$`)

func (f *fakeAWS) callerIdentity(fakeOptions, string) fakeAnswer {
	return printed(map[string]any{"Arn": "arn:aws:sts::123456789012:assumed-role/Developer/alice"})
}

// filterLogEvents knows patterns of terms of which one must be there: ?TERM ?"ANY TEXT".
func (f *fakeAWS) filterLogEvents(o fakeOptions, _ string) fakeAnswer {
	events, ok := f.logs[o["--log-group-name"]]
	if !ok {
		return serviceError254(
			"FilterLogEvents", "ResourceNotFoundException", "The specified log group does not exist.")
	}
	since, sinceErr := strconv.ParseInt(o["--start-time"], 10, 64)
	most, mostErr := strconv.Atoi(o["--max-items"])
	if sinceErr != nil || mostErr != nil {
		return wrongUsage("argument --start-time or --max-items: invalid int value")
	}
	terms := fakeTerm.FindAllStringSubmatch(o["--filter-pattern"], -1)
	found := []fakeLogEvent{}
	for _, e := range events {
		matches := func(term []string) bool { return strings.Contains(e.Message, term[1]+term[2]) }
		if e.Timestamp >= since && slices.ContainsFunc(terms, matches) {
			found = append(found, e)
		}
	}
	answer := map[string]any{"events": found, "searchedLogStreams": []any{}}
	if len(found) > most {
		answer["events"], answer["NextToken"] = found[:most], "more"
	}
	return printed(answer)
}

var fakeTerm = regexp.MustCompile(`\?(?:(\w+)|"([^"]*)")(?: |$)`)
