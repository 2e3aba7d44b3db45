//go:build !layer

package main

// aws_attach.go is the commands attach and detach. They set on functions what makes them live, and take it
// back: this file works out the layers and variables, aws_change.go carries that out. Which functions the
// words of a command line stand for, aws_select.go knows.

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Lambda's limits. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const (
	maxLayers         = 5
	maxVariablesBytes = 4 << 10 // names and values of all variables together
)

const (
	wrapperPath = "/opt/live-lambda-runtime-wrapper.sh" // the layer's wrapper
	// which wrapper Lambda starts the runtime through
	wrapperVariable = "AWS_LAMBDA_EXEC_WRAPPER"
	// which further one the layer's wrapper starts the runtime through
	furtherVariable = "LIVE_LAMBDA_EXEC_WRAPPER"
	// https://awslabs.github.io/aws-lambda-web-adapter/features/request-interception.html
	adapterVariable = "AWS_LWA_LAMBDA_RUNTIME_API_PROXY"
	memoryVariable  = "LIVE_LAMBDA_ATTACHED" // holds an attachment
	acceptVariable  = "LIVE_LAMBDA_ACCEPT_TIMEOUT"
	modeVariable    = "LIVE_LAMBDA_MODE"
	routeVariable   = "LIVE_LAMBDA_ROUTE"
	stageVariable   = "LIVE_LAMBDA_STAGE"
	untilVariable   = "LIVE_LAMBDA_UNTIL"
	policyVariable  = "LIVE_LAMBDA_FUNCTION_POLICY_ARN" // of the environment, or of a stack's outputs
)

// usualAccept is what attach sets LIVE_LAMBDA_ACCEPT_TIMEOUT to if nothing else does. Without any, a layer
// that was forgotten answers every caller with an error.
const usualAccept = "3s"

// How long --for may be.
const (
	leastLife = time.Minute
	mostLife  = 30 * 24 * time.Hour
)

// ---- what attach has done to a function ----

// attachment is what detach needs to know of what attach has done to a function. The function itself
// remembers it, in a variable.
type attachment struct {
	Layer    string             `json:"layer"`              // version that was added
	Replaced string             `json:"replaced,omitempty"` // version of the same layer that was in its place
	Before   map[string]*string `json:"before"`             // variables as they were, null if not set
	Role     string             `json:"role,omitempty"`     // has got Policy, which it did not have
	Policy   string             `json:"policy,omitempty"`
	By       string             `json:"by,omitempty"` // USER@HOST of who has attached it
	At       time.Time          `json:"at,omitzero"`  // since when By has it
	// name of the local end that has attached it for as long as it runs; empty: detach alone ends it
	Local   string      `json:"local,omitempty"`
	Earlier *attachment `json:"earlier,omitempty"` // that this local end has found, without Before
	// of an Earlier one: the variables in its Before, as they were while it was in force
	Set map[string]string `json:"set,omitempty"`
}

// readAttachment returns what a function's variables remember, nil if it is not attached.
func readAttachment(variables map[string]string) (*attachment, error) {
	text, ok := variables[memoryVariable]
	if !ok {
		return nil, nil
	}
	a := &attachment{}
	err := json.Unmarshal([]byte(text), a)
	if err != nil || a.Layer == "" {
		return nil, fmt.Errorf(
			"its variable %s, which attach wrote, is damaged: take the layer, the wrapper and the "+
				"LIVE_LAMBDA variables out by hand", memoryVariable)
	}
	a.By = clip(plainText(a.By), maxBy)
	return a, nil
}

// holder says who has attached the function, and since when.
func (a *attachment) holder() string {
	return fmt.Sprintf("%s has attached it, on %s", a.By, timeText(a.At))
}

// belongsTo tells whether a person has attached the function, or nobody knows who has. Of a machine's name
// the first label alone counts: the others change with its network.
func (a *attachment) belongsTo(by string) bool {
	return a.By == "" || strings.EqualFold(person(a.By), person(by))
}

// person is USER@HOST without the domain of the host.
func person(by string) string {
	i := strings.LastIndexByte(by, '@')
	host, _, _ := strings.Cut(by[i+1:], ".")
	return by[:i+1] + host
}

// keep has the attachment go on from an earlier one of the same person.
func (a *attachment) keep(earlier *attachment) {
	a.remember(earlier.granted())
	if earlier.By != "" && earlier.belongsTo(a.By) {
		a.By = earlier.By
		a.At = earlier.At
	}
}

// granted is the policy that attach has put on the role, empty if it has put none there.
func (a *attachment) granted() rolePolicy { return rolePolicy{role: a.Role, policy: a.Policy} }

// remember sets what granted returns.
func (a *attachment) remember(p rolePolicy) {
	a.Role = p.role
	a.Policy = p.policy
}

// do adds the layer and sets variables, and keeps in a what was there.
func (a *attachment) do(layers []string, variables, set map[string]string) []string {
	layers = a.addLayer(layers)
	a.setVariables(variables, set)
	memory, _ := json.Marshal(a) // strings always marshal
	variables[memoryVariable] = string(memory)
	return layers
}

// addLayer puts the layer in the place of another version of it, else before all others. Later layers
// overwrite files of earlier ones, so a bootstrap that another layer brings stays in force.
func (a *attachment) addLayer(layers []string) []string {
	i := a.layerIn(layers)
	if i < 0 {
		return slices.Insert(layers, 0, a.Layer)
	}
	a.Replaced = layers[i]
	layers[i] = a.Layer
	return layers
}

// layerIn is the index of any version of the layer, -1 if there is none.
func (a *attachment) layerIn(layers []string) int {
	return slices.IndexFunc(layers, func(arn string) bool { return layerOf(arn) == layerOf(a.Layer) })
}

// setVariables sets variables. If a value is empty, the variable stays as it is and is remembered all the
// same.
func (a *attachment) setVariables(variables, set map[string]string) {
	a.Before = map[string]*string{}
	for name, value := range set {
		a.Before[name] = nil
		old, ok := variables[name]
		if ok {
			a.Before[name] = &old
		}
		if value != "" {
			variables[name] = value
		}
	}
}

// undo takes back what attach did, and keeps what others have changed since.
func (a *attachment) undo(layers []string, variables map[string]string) []string {
	a.restoreVariables(variables)
	return a.removeLayer(layers)
}

func (a *attachment) removeLayer(layers []string) []string {
	i := a.layerIn(layers)
	if i < 0 {
		return layers // somebody else has removed it
	}
	if a.Replaced == "" {
		return slices.Delete(layers, i, i+1)
	}
	layers[i] = a.Replaced
	return layers
}

func (a *attachment) restoreVariables(variables map[string]string) {
	wrapper, changed := a.laterWrapper(variables)
	for name, value := range a.Before {
		if value == nil {
			delete(variables, name)
		} else {
			variables[name] = *value
		}
	}
	delete(variables, memoryVariable)
	if !changed {
		return
	}
	if wrapper == "" {
		delete(variables, wrapperVariable)
	} else {
		variables[wrapperVariable] = wrapper
	}
}

// laterWrapper tells whether somebody else has changed the wrappers since, and which one is to be in force
// without the layer's: the one that has been put in its place, or the one behind it. It is empty if there is
// to be none.
func (a *attachment) laterWrapper(variables map[string]string) (wrapper string, changed bool) {
	_, set := a.Before[wrapperVariable]
	if !set {
		return "", false // the function takes no wrapper
	}
	wrapper = variables[wrapperVariable]
	if wrapper != wrapperPath {
		return wrapper, true
	}
	further := variables[furtherVariable]
	return further, further != a.further()
}

// further is what attach left in LIVE_LAMBDA_EXEC_WRAPPER: the wrapper that was in force, else what that
// variable held already.
func (a *attachment) further() string {
	s := a.Before[wrapperVariable]
	if s != nil && *s != "" && *s != wrapperPath {
		return *s
	}
	s = a.Before[furtherVariable]
	if s != nil {
		return *s
	}
	return ""
}

// ---- the commands ----

const functionWords = `A FUNCTION is a name, an ARN, a shell pattern ('orders-*'), tag:KEY=VALUE or tag:KEY
for functions that are tagged so, or stack:NAME for those of a CloudFormation stack.`

const attachUsage = `usage: live-lambda attach [flags] FUNCTION ...

Attaches the layer to functions: adds the layer, sets its variables and the wrapper, and keeps all
else. Shows what it will change and asks. ` + "`live-lambda detach`" + ` undoes it exactly. Attaching
again brings a function up to date with the flags and the newest layer. Only $LATEST changes, not
published versions. If nothing sets ` + acceptVariable + `, attach sets it to ` + usualAccept + `.

` + functionWords + `

It needs these permissions, the least first:
  lambda:GetFunctionConfiguration, lambda:GetFunction, lambda:UpdateFunctionConfiguration
  lambda:GetLayerVersion of its layers, and lambda:ListLayerVersions unless --layer names a version
  cloudformation:DescribeStacks for --stack, cloudformation:ListStackResources for stack:NAME
  lambda:ListFunctions for patterns, tag:GetResources for tag:KEY=VALUE
  iam:ListAttachedRolePolicies, iam:AttachRolePolicy, iam:DetachRolePolicy and lambda:ListFunctions
  for --attach-policy`

const detachUsage = `usage: live-lambda detach [flags] FUNCTION ...
       live-lambda detach [flags] --all

Takes back what attach did to functions: layer, variables, wrapper and policy are as before. What
others have changed since then is kept. Shows what it will change and asks. A pattern stands for
functions that carry the layer.

` + functionWords + `

It needs these permissions, the least first:
  lambda:GetFunctionConfiguration, lambda:GetFunction, lambda:UpdateFunctionConfiguration
  lambda:GetLayerVersion of the layers that stay
  lambda:ListFunctions for --all and patterns, tag:GetResources for tag:KEY=VALUE
  cloudformation:ListStackResources for stack:NAME
  iam:DetachRolePolicy and lambda:ListFunctions if attach has put a policy on the role`

// attachFlags are what the flags of attach set, but for those of the AppSync API.
type attachFlags struct {
	layer        string            // name, or ARN with or without version; empty: the newest published
	attachPolicy bool              // put the policy on the functions' roles
	extra        map[string]string // variables to set on the functions, beside the API's
	wrong        error             // what is wrong with a --set
	mirror       bool              // developers get copies
	seal         bool              // each function gets a key of its own
	force        bool              // also functions that somebody else has attached
	yes          bool
}

// add adds the flags to f.
func (o *attachFlags) add(f *commandLine) {
	f.StringVar(&o.layer, "layer", "",
		"name, or `ARN` with or without version, of the layer (default the newest that publish-layer "+
			"published)")
	f.BoolVar(&o.attachPolicy, "attach-policy", false,
		"also attach the stack's function policy to the functions' roles")
	f.Func("set",
		"set one more of the layer's variables, `NAME=VALUE` (LIVE_LAMBDA_OFFLINE=error); may be repeated",
		o.addVariable)
	f.Func("for",
		"after this `time` the layer goes out by itself, as if it were not there ("+untilVariable+"): 2h",
		o.setLife)
	f.BoolVar(&o.mirror, "mirror", false,
		"developers get copies of events, and the deployed code answers ("+modeVariable+")")
	f.BoolVar(&o.seal, "seal", false,
		"seal messages with a new key for each function ("+keyVariable+"); one that it has stays")
	f.BoolVar(&o.force, "force", false, "also attach what somebody else has attached")
	addYes(f, &o.yes)
}

// addYes adds the flag of commands that ask.
func addYes(f *commandLine, yes *bool) { f.BoolVar(yes, "yes", false, "do not ask") }

// addVariable takes a --set. What is wrong with it is kept for later, because package flag would print the
// value, which may be a secret.
func (o *attachFlags) addVariable(pair string) error {
	name, value, _ := strings.Cut(pair, "=")
	if ownVariable(name) && value != "" {
		return o.setOwn(name, value)
	}
	if o.wrong == nil {
		o.wrong = fmt.Errorf("--set is not NAME=VALUE of one of the layer's variables, %s",
			strings.Join(layerVariables, ", "))
		if strings.Contains(pair, "=") {
			o.wrong = fmt.Errorf("--set %s: %w", plainText(clip(name, 100)), o.wrong)
		}
	}
	return nil
}

// setOwn sets one of the layer's variables.
func (o *attachFlags) setOwn(name, value string) error {
	if value == "" {
		return errors.New("it is empty")
	}
	if o.extra == nil {
		o.extra = map[string]string{}
	}
	o.extra[name] = value
	return nil
}

// setLife takes a --for.
func (o *attachFlags) setLife(value string) error {
	life, err := time.ParseDuration(value)
	if err != nil || life < leastLife || life > mostLife {
		return errors.New("not a time from 1m to 720h, like 2h or 90m")
	}
	return o.setOwn(untilVariable, timeText(time.Now().Add(life)))
}

// timeText is how times are written down and shown: RFC 3339, in UTC, to the second.
func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// attach is the command attach.
func (t *console) attach(args []string) int {
	f := t.commandLine("attach", attachUsage)
	f.addAPI()
	var flags attachFlags
	flags.add(f)
	words, status, ok := f.parse(args)
	if !ok {
		return status
	}
	err := cmp.Or(flags.wrong, checkWords(words))
	if err != nil {
		return f.wrong("%v", err)
	}
	t.offerLeft(context.Background(), flags.yes)
	getenv, err := f.getenv(context.Background())
	if err != nil {
		return f.failed(err)
	}
	o, err := newAttachOptions(flags, getenv)
	if err != nil {
		return f.wrong("%v", err)
	}
	if o.policy == "" && o.attachPolicy {
		return f.wrong("--attach-policy knows no policy: give --stack, or set %s", policyVariable)
	}
	cli := awsCLI{profile: f.profile}
	names := func(ctx context.Context) ([]string, error) { return cli.pick(ctx, words, cli.functionNames) }
	return f.change(cli, names, flags.yes, cli.attaching(o), "attached")
}

// detach is the command detach.
func (t *console) detach(args []string) int {
	f := t.commandLine("detach", detachUsage)
	f.addProfile()
	var yes bool
	addYes(f, &yes)
	all := f.Bool("all", false, "all functions of the account and region that carry the layer")
	words, status, ok := f.parse(args)
	if !ok {
		return status
	}
	cli := awsCLI{profile: f.profile}
	names := cli.carrierNames
	switch {
	case *all && len(words) > 0:
		return f.wrong("--all stands for all functions, so there is no use for %q", words[0])
	case !*all:
		if err := checkWords(words); err != nil {
			return f.wrong("%v", err)
		}
		names = func(ctx context.Context) ([]string, error) { return cli.pick(ctx, words, cli.carrierNames) }
	}
	return f.change(cli, names, yes, detaching(userAtHost()), "detached")
}

// change is what attach and detach have in common once they know what is asked for. The rest is as of
// changeAll.
func (f *commandLine) change(
	cli awsCLI, names func(context.Context) ([]string, error), yes bool, p planner, done string,
) int {
	ctx := context.Background()
	all, err := names(ctx)
	if err != nil {
		return f.failed(err)
	}
	if len(all) == 0 {
		fmt.Fprintln(f.console.out, "no function carries the layer")
		return 0
	}
	return f.console.changeAll(ctx, cli, all, yes, p, done)
}

// layerVariables are the variables that a developer may have attach set: the layer's own, which readConfig
// reads, and the one by which Lambda Web Adapter finds the proxy. The extension says nothing about a name
// that it does not know, so attach refuses what is not here.
var layerVariables = []string{
	adapterVariable,
	"LIVE_LAMBDA",
	acceptVariable,
	apiKeyVariable,
	hostVariable,
	"LIVE_LAMBDA_APPSYNC_PROTOCOL",
	"LIVE_LAMBDA_APPSYNC_REALTIME_HOST",
	regionVariable,
	"LIVE_LAMBDA_DELIVERY",
	"LIVE_LAMBDA_FORWARD_ENV",
	keyVariable,
	"LIVE_LAMBDA_LOG_LEVEL",
	modeVariable,
	"LIVE_LAMBDA_NAMESPACE",
	"LIVE_LAMBDA_OFFLINE",
	routeVariable,
	stageVariable,
	untilVariable,
	"LRAP_LISTENER_PORT",
	"LRAP_RUNTIME_API_ENDPOINT",
}

// ownVariable tells whether a developer may have attach set a variable.
func ownVariable(name string) bool { return slices.Contains(layerVariables, name) }

// functionVariables are the variables to set on functions: what getenv has of the API, and extra ones. The
// extension must find nothing wrong with them, so they are read here as it reads them.
func functionVariables(getenv func(string) string, extra map[string]string) (map[string]string, error) {
	variables := map[string]string{}
	for _, a := range apiFlags {
		value := getenv(a.variable)
		if value != "" {
			variables[a.variable] = value
		}
	}
	maps.Copy(variables, extra)
	if variables[hostVariable] == "" {
		return nil, errors.New(noAPI)
	}
	cfg, problems := readConfig(inFunction(variables))
	if len(problems) > 0 {
		return nil, configError(problems)
	}
	if loopback(cfg.api.http) || loopback(cfg.api.realtime) {
		return nil, errors.New("the AppSync API's host is this machine, which no function can reach")
	}
	region := regionOf(cfg.api.http.Host)
	if region != "" && variables[regionVariable] == "" {
		variables[regionVariable] = region // the function's own may be another
	}
	return variables, nil
}

// inFunction looks variables up as a function does, for which Lambda sets some region.
func inFunction(variables map[string]string) func(string) string {
	return func(name string) string {
		if name == "AWS_REGION" {
			return "any"
		}
		return variables[name]
	}
}

// ---- what attach and detach change ----

// attachOptions are what attach does to every function.
type attachOptions struct {
	attachFlags
	variables map[string]string // to set, the same on every function
	policy    string            // ARN, empty if neither the environment nor a stack names it
	by        string            // USER@HOST of who attaches
	at        time.Time         // when, in UTC and to the second
	local     string            // name of the local end that attaches for as long as it runs, if one does
	// finds the layer version for a function; nil: the one that layer stands for
	find func(ctx context.Context, f *functionConfig) (string, error)
}

// newAttachOptions reads and checks what the flags and the API's settings come to.
func newAttachOptions(flags attachFlags, getenv func(string) string) (attachOptions, error) {
	o := attachOptions{
		attachFlags: flags,
		policy:      getenv(policyVariable),
		by:          userAtHost(),
		at:          time.Now().UTC().Truncate(time.Second),
	}
	extra := map[string]string{}
	maps.Copy(extra, flags.extra)
	if flags.mirror {
		extra[modeVariable] = "mirror"
	}
	if flags.seal && extra[keyVariable] != "" {
		return o, fmt.Errorf("--seal makes a key for each function, and --set names one in %s", keyVariable)
	}
	if flags.seal {
		extra[keyVariable] = newKey() // some key, for the check: each function gets its own
	}
	variables, err := functionVariables(getenv, extra)
	if flags.seal {
		delete(variables, keyVariable)
	}
	o.variables = variables
	return o, err
}

// attaching is the planner of attach.
func (a awsCLI) attaching(o attachOptions) planner {
	layers := map[string]string{} // by architecture, so that each is looked up once
	if o.find == nil {
		o.find = func(ctx context.Context, f *functionConfig) (string, error) {
			return a.layerFor(ctx, o.layer, f.arch())
		}
	}
	return func(ctx context.Context, c *change) error { return a.attach(ctx, c, o, layers) }
}

// attach plans an attachment, in place of an earlier one if there is one. layers are the layer versions that
// are known already, by architecture.
func (a awsCLI) attach(ctx context.Context, c *change, o attachOptions, layers map[string]string) error {
	if err := c.before.fits(); err != nil {
		return err
	}
	now, err := c.begin(o)
	if err != nil {
		return err
	}
	arch := c.before.arch()
	if layers[arch] == "" {
		layers[arch], err = o.find(ctx, &c.before)
		if err != nil {
			return err
		}
	}
	now.Layer = layers[arch]
	if o.attachPolicy {
		want := rolePolicy{role: c.before.roleName(), policy: o.policy}
		if err := a.grant(ctx, c, now, want); err != nil {
			return err
		}
	}
	c.layers = now.do(c.layers, c.variables, c.toSet(o, now.settings(o)))
	c.remark(o)
	return cmp.Or(c.valid(), c.withinLimits())
}

// begin returns the attachment that is to be. It takes an earlier one back, and goes on from that.
func (c *change) begin(o attachOptions) (*attachment, error) {
	now := &attachment{By: o.by, At: o.at, Local: o.local}
	earlier, err := readAttachment(c.variables)
	if err != nil || earlier == nil {
		return now, err
	}
	if err := c.takeOver(earlier, o); err != nil {
		return nil, err
	}
	if o.local != "" {
		now.Earlier = earlier.found(c.variables)
	}
	c.layers = earlier.undo(c.layers, c.variables)
	now.keep(earlier)
	return now, nil
}

// takeOver refuses a function that somebody else has attached, unless that is over or taking it over was
// asked for.
func (c *change) takeOver(earlier *attachment, o attachOptions) error {
	until, limited := c.until()
	if earlier.belongsTo(o.by) || limited && until.Before(o.at) {
		return nil
	}
	if o.force {
		c.note("%s: it is taken over", earlier.holder())
		return nil
	}
	end := ""
	if limited {
		end = ", until " + timeText(until)
	}
	return fmt.Errorf("%s%s: ask them, or take it over with --force", earlier.holder(), end)
}

// until is the time that the function's variables name for the layer to go out, if they do.
func (c *change) until() (time.Time, bool) {
	until, err := time.Parse(time.RFC3339, c.variables[untilVariable])
	return until, err == nil
}

// valid says what the layer would find wrong with the variables as they are to be.
func (c *change) valid() error {
	after := c.before
	after.Environment.Variables = c.variables
	_, problems := readConfig(after.getenv)
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("its variables would not do: %w; change that one, or --set it", configError(problems))
}

// toSet returns the variables that make the function live. The further wrapper is among them even if there is
// none: it is not set then, but what its variable holds is remembered. set are the layer's own variables.
func (c *change) toSet(o attachOptions, set map[string]string) map[string]string {
	if set[acceptVariable] == "" && c.variables[acceptVariable] == "" {
		set[acceptVariable] = usualAccept
	}
	if o.seal {
		set[keyVariable] = c.key()
	}
	if c.before.osOnly() {
		return set
	}
	set[wrapperVariable] = wrapperPath
	set[furtherVariable] = ""
	old := c.variables[wrapperVariable]
	if old != wrapperPath {
		set[furtherVariable] = old
	}
	return set
}

// key is the key that the function has, or a new one.
func (c *change) key() string {
	old := c.before.Environment.Variables[keyVariable]
	if parseKey(old) != nil {
		return old
	}
	return newKey()
}

// withinLimits says which of Lambda's limits the function would be over.
func (c *change) withinLimits() error {
	if len(c.layers) > maxLayers {
		return fmt.Errorf(
			"it has %d layers, and Lambda allows no more than %d: take one off, or merge two",
			len(c.layers)-1, maxLayers)
	}
	size := 0
	for name, value := range c.variables {
		size += len(name) + len(value)
	}
	if size > maxVariablesBytes {
		return fmt.Errorf(
			"its variables would take %d bytes, and Lambda allows no more than %d: shorten some by %d",
			size, maxVariablesBytes, size-maxVariablesBytes)
	}
	return nil
}

// remark notes what attach cannot do by itself.
func (c *change) remark(o attachOptions) {
	c.remarkRuntime()
	c.remarkWrapper()
	c.remarkVersions()
	c.remarkAdapter()
	if strings.EqualFold(c.variables["LIVE_LAMBDA"], "off") {
		c.note("its variable LIVE_LAMBDA is off, so the layer does nothing")
	}
	accept, err := time.ParseDuration(c.variables[acceptVariable])
	if err != nil || accept == 0 {
		c.note("while no `live-lambda local` is there, callers wait and then get an error; with --set "+
			"%s=3s the deployed code answers", acceptVariable)
	}
	if o.policy != "" && !o.attachPolicy && c.variables[apiKeyVariable] == "" {
		c.note("its role needs the stack's policy, unless it has it: --attach-policy, or aws iam "+
			"attach-role-policy --role-name %s --policy-arn %s", c.before.roleName(), o.policy)
	}
}

// remarkRuntime notes when a runtime may not start what the layer brings.
func (c *change) remarkRuntime() {
	f := c.before
	switch {
	case f.Runtime == customRuntime:
		c.note("a customer-managed runtime starts the wrapper only if it heeds %s, as those do that are "+
			"made from AWS's base image of a language: have it start through %s",
			wrapperVariable, wrapperPath)
	case !f.osOnly():
	case strings.TrimPrefix(f.Handler, "./") == "bootstrap":
		c.note("%s starts the package's own bootstrap: name it otherwise and make that name the handler, "+
			"or have it start through %s", f.Runtime, wrapperPath)
	default:
		c.note("%s starts the layer's /opt/bootstrap, which runs %q, only if the package has no bootstrap "+
			"of its own", f.Runtime, f.Handler)
	}
}

// remarkWrapper notes that another tool's wrapper is there.
func (c *change) remarkWrapper() {
	if c.variables[wrapperVariable] == wrapperPath && c.variables[furtherVariable] != "" {
		c.note("another tool's wrapper was there and still runs, behind the layer's: whoever sets %s again "+
			"takes the layer's out", wrapperVariable)
	}
}

// remarkVersions notes why $LATEST, which is all that changes, may not be what runs.
func (c *change) remarkVersions() {
	publish := "aws lambda publish-version --function-name " + c.before.FunctionName
	if c.before.SnapStart.ApplyOn == "PublishedVersions" {
		c.note("SnapStart is for published versions, which stay as they are: publish a new one afterwards, "+
			"%s", publish)
	}
	if c.before.managedInstances() {
		c.note("Managed Instances run published versions, which stay as they are: publish afterwards, %s "+
			"--publish-to LATEST_PUBLISHED", publish)
	}
}

// remarkAdapter notes how Lambda Web Adapter, which is a runtime of its own, comes to use the proxy.
func (c *change) remarkAdapter() {
	isAdapter := func(arn string) bool { return strings.Contains(arn, ":layer:LambdaAdapterLayer") }
	if slices.ContainsFunc(c.layers, isAdapter) && c.variables[adapterVariable] == "" {
		c.note("Lambda Web Adapter is its runtime and goes past the proxy without --set %s=http://"+
			"127.0.0.1:8082", adapterVariable)
	}
}

// detaching is the planner of detach. by is USER@HOST of who detaches.
func detaching(by string) planner {
	return func(_ context.Context, c *change) error { return c.detach(by) }
}

// detach plans the undoing of an attachment.
func (c *change) detach(by string) error {
	if err := c.before.readable(); err != nil {
		return err
	}
	a, err := readAttachment(c.variables)
	if err != nil {
		return err
	}
	if a == nil {
		if c.before.carries() {
			c.note("it was not attached by `live-lambda attach`: take the layer out where it was put in")
		}
		return nil
	}
	c.layers = a.undo(c.layers, c.variables)
	granted := a.granted()
	if granted.policy != "" {
		c.revoke = &granted
	}
	if !a.belongsTo(by) {
		c.note("%s", a.holder())
	}
	c.remarkVersions()
	return nil
}
