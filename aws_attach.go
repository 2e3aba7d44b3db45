//go:build !layer

package main

// aws_attach.go is the commands attach and detach. They set on functions what makes them live, and take it
// back: this file works out the layers and variables, aws_change.go carries that out.

import (
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
	wrapperPath     = "/opt/live-lambda-runtime-wrapper.sh"
	wrapperVariable = "AWS_LAMBDA_EXEC_WRAPPER"
	furtherVariable = "LIVE_LAMBDA_EXEC_WRAPPER"
	// https://awslabs.github.io/aws-lambda-web-adapter/features/request-interception.html
	adapterVariable = "AWS_LWA_LAMBDA_RUNTIME_API_PROXY"
	memoryVariable  = "LIVE_LAMBDA_ATTACHED" // an attachment
	acceptVariable  = "LIVE_LAMBDA_ACCEPT_TIMEOUT"
	policyVariable  = "LIVE_LAMBDA_FUNCTION_POLICY_ARN" // known from a stack's outputs
)

// attachment is what attach has done to a function, in what detach needs to know.
type attachment struct {
	Layer    string             `json:"layer"`              // version that was added
	Replaced string             `json:"replaced,omitempty"` // version of the same layer that was in its place
	Before   map[string]*string `json:"before"`             // variables as they were, null where not set
	Role     string             `json:"role,omitempty"`     // got Policy, which it did not have
	Policy   string             `json:"policy,omitempty"`
}

func readAttachment(variables map[string]string) (*attachment, error) {
	text, ok := variables[memoryVariable]
	if !ok {
		return nil, nil
	}
	a := &attachment{}
	if err := json.Unmarshal([]byte(text), a); err != nil || a.Layer == "" {
		return nil, fmt.Errorf(
			"its variable %s, which attach wrote, is damaged: take the layer, the wrapper and the "+
				"LIVE_LAMBDA variables out by hand", memoryVariable)
	}
	return a, nil
}

// layerIn is the index of any version of the layer, -1 if there is none.
func (a *attachment) layerIn(layers []string) int {
	return slices.IndexFunc(layers, func(arn string) bool { return layerOf(arn) == layerOf(a.Layer) })
}

// further is what attach left in LIVE_LAMBDA_EXEC_WRAPPER: the wrapper that was there, else what was there
// already.
func (a *attachment) further() string {
	if s := a.Before[wrapperVariable]; s != nil && *s != "" && *s != wrapperPath {
		return *s
	}
	if s := a.Before[furtherVariable]; s != nil {
		return *s
	}
	return ""
}

// undo takes back what attach did, and keeps what others have changed since.
func (a *attachment) undo(layers []string, variables map[string]string) []string {
	if i := a.layerIn(layers); i >= 0 {
		layers = slices.Delete(layers, i, i+1)
		if a.Replaced != "" {
			layers = slices.Insert(layers, i, a.Replaced)
		}
	}
	wrapper, further := variables[wrapperVariable], variables[furtherVariable]
	for name, value := range a.Before {
		if value == nil {
			delete(variables, name)
		} else {
			variables[name] = *value
		}
	}
	delete(variables, memoryVariable)
	if _, set := a.Before[wrapperVariable]; set && (wrapper != wrapperPath || further != a.further()) {
		if wrapper == wrapperPath { // another one has been put behind it, not in its place
			wrapper = further
		}
		variables[wrapperVariable] = wrapper
		if wrapper == "" {
			delete(variables, wrapperVariable)
		}
	}
	return layers
}

// do adds the layer and sets variables, and keeps in a what was there. The layer comes first, since later
// layers overwrite files of earlier ones: a bootstrap that another layer brings stays in force.
func (a *attachment) do(layers []string, variables, set map[string]string) []string {
	if i := a.layerIn(layers); i >= 0 {
		a.Replaced = layers[i]
		layers[i] = a.Layer
	} else {
		layers = slices.Insert(layers, 0, a.Layer)
	}
	a.Before = map[string]*string{}
	for name, value := range set {
		if old, ok := variables[name]; ok {
			a.Before[name] = &old
		} else {
			a.Before[name] = nil
		}
		if value != "" {
			variables[name] = value
		}
	}
	memory, _ := json.Marshal(a) // strings always marshal
	variables[memoryVariable] = string(memory)
	return layers
}

// ownVariable tells variables that attach may set: the layer's, and the one by which Lambda Web Adapter finds
// the proxy.
func ownVariable(name string) bool {
	return strings.HasPrefix(name, "LIVE_LAMBDA") || strings.HasPrefix(name, "LRAP_") ||
		name == adapterVariable
}

// ---- attach and detach ----

const attachUsage = `usage: live-lambda attach [flags] FUNCTION ...

Attaches the layer to functions: adds the layer, sets its variables and the wrapper, and keeps all
else. Shows what it will change and asks. ` + "`live-lambda detach`" + ` undoes it exactly. Attaching
again brings a function up to date with the flags and the newest layer. Only $LATEST changes, not
published versions.`

const detachUsage = `usage: live-lambda detach [flags] FUNCTION ...

Takes back what attach did to functions: layer, variables, wrapper and policy are as before. What
others have changed since then is kept. Shows what it will change and asks.`

// attachFlags are what the flags of attach set, but for those of the AppSync API.
type attachFlags struct {
	layer        string
	attachPolicy bool
	extra        map[string]string // variables to set on the functions
	yes          bool
}

// add adds the flags to f.
func (o *attachFlags) add(f *commandLine) {
	f.StringVar(&o.layer, "layer", "",
		"name or `ARN` of the layer, with or without version (default the newest that publish-layer "+
			"published)")
	f.BoolVar(&o.attachPolicy, "attach-policy", false,
		"also attach the stack's function policy to the functions' roles")
	f.Func("set",
		"set one more of the layer's variables, `NAME=VALUE` (LIVE_LAMBDA_OFFLINE=error); may be repeated",
		o.addVariable)
	addYes(f, &o.yes)
}

// addYes adds the flag of commands that ask.
func addYes(f *commandLine, yes *bool) { f.BoolVar(yes, "yes", false, "do not ask") }

func (o *attachFlags) addVariable(value string) error {
	name, value, _ := strings.Cut(value, "=")
	if !ownVariable(name) || name == memoryVariable || name == furtherVariable || value == "" {
		return errors.New("not NAME=VALUE of one of the layer's variables")
	}
	if o.extra == nil {
		o.extra = map[string]string{}
	}
	o.extra[name] = value
	return nil
}

// attach is the command attach.
func (t *console) attach(args []string) int {
	f := t.commandLine("attach", attachUsage)
	f.addAPI()
	var flags attachFlags
	flags.add(f)
	names, status, ok := f.parse(args)
	if !ok {
		return status
	}
	err := functionNames(names)
	if err != nil {
		return f.wrong("%v", err)
	}
	getenv, err := f.getenv(context.Background())
	if err != nil {
		return f.failed(err)
	}
	o := attachOptions{layer: flags.layer, policy: getenv(policyVariable), attachPolicy: flags.attachPolicy}
	o.variables, err = functionVariables(getenv, flags.extra)
	if err != nil {
		return f.wrong("%v", err)
	}
	if o.policy == "" && o.attachPolicy {
		return f.wrong("--attach-policy takes the policy from a stack: give --stack")
	}
	cli := awsCLI{profile: f.profile}
	plan := func(ctx context.Context, c *change) error { return cli.attach(ctx, c, o) }
	return t.changeAll(context.Background(), cli, names, flags.yes, plan, "attached")
}

// detach is the command detach.
func (t *console) detach(args []string) int {
	f := t.commandLine("detach", detachUsage)
	f.addProfile()
	var yes bool
	addYes(f, &yes)
	names, status, ok := f.parse(args)
	if !ok {
		return status
	}
	err := functionNames(names)
	if err != nil {
		return f.wrong("%v", err)
	}
	cli := awsCLI{profile: f.profile}
	return t.changeAll(context.Background(), cli, names, yes, detach, "detached")
}

// functionNames checks the functions of a command line: names, or ARNs, but no versions and aliases.
// https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionConfiguration.html
func functionNames(names []string) error {
	if len(names) == 0 {
		return errors.New("which function?")
	}
	for _, name := range names {
		parts := strings.Split(name, ":")
		if i := slices.Index(parts, "function"); i >= 0 {
			parts = parts[i+1:]
		}
		if strings.HasPrefix(name, "-") || len(parts) > 1 {
			return fmt.Errorf(
				"%q is not a function's name or ARN without version or alias; published versions cannot be "+
					"changed", name)
		}
	}
	return nil
}

// functionVariables are the variables to set on functions. The extension's own reading of them must find
// nothing wrong.
func functionVariables(getenv func(string) string, extra map[string]string) (map[string]string, error) {
	variables := map[string]string{}
	for _, a := range apiFlags {
		if value := getenv(a.variable); value != "" {
			variables[a.variable] = value
		}
	}
	maps.Copy(variables, extra)
	if variables[hostVariable] == "" {
		return nil, errors.New(noAPI)
	}
	cfg, problems := readConfig(func(name string) string {
		if name == "AWS_REGION" {
			return "any" // Lambda sets it
		}
		return variables[name]
	})
	if len(problems) > 0 {
		return nil, configError(problems)
	}
	if loopback(cfg.api.http) || loopback(cfg.api.realtime) {
		return nil, errors.New("the AppSync API's host is this machine, which no function can reach")
	}
	if region := regionOf(cfg.api.http.Host); region != "" && variables["LIVE_LAMBDA_APPSYNC_REGION"] == "" {
		variables["LIVE_LAMBDA_APPSYNC_REGION"] = region // the function's own may be another
	}
	return variables, nil
}

// configError makes an error of what readConfig found, which is worded for a function's log.
func configError(problems []string) error {
	return errors.New(strings.ReplaceAll(strings.Join(problems, "; "), "; going without AppSync", ""))
}

// attachOptions are what attach does to every function.
type attachOptions struct {
	layer        string
	variables    map[string]string
	policy       string // known from the stack
	attachPolicy bool
}

// attach plans an attachment, in place of an earlier one if there is one.
func (a awsCLI) attach(ctx context.Context, c *change, o attachOptions) error {
	if err := c.before.fits(); err != nil {
		return err
	}
	earlier, err := readAttachment(c.variables)
	if err != nil {
		return err
	}
	now := &attachment{}
	if earlier != nil {
		c.layers = earlier.undo(c.layers, c.variables)
		now.Role, now.Policy = earlier.Role, earlier.Policy
	}
	if now.Layer, err = a.layerFor(ctx, o.layer, c.before.arch()); err != nil {
		return err
	}
	if o.attachPolicy {
		if err := a.grant(ctx, c, now, rolePolicy{c.before.roleName(), o.policy}); err != nil {
			return err
		}
	}
	c.layers = now.do(c.layers, c.variables, c.toSet(o))
	c.remark(o)
	return c.withinLimits()
}

// toSet returns the variables that make the function live. An empty value is not set, but what is there
// remembered.
func (c *change) toSet(o attachOptions) map[string]string {
	set := maps.Clone(o.variables)
	if c.before.osOnly() {
		return set
	}
	set[wrapperVariable], set[furtherVariable] = wrapperPath, ""
	if old := c.variables[wrapperVariable]; old != wrapperPath {
		set[furtherVariable] = old
	}
	return set
}

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
		return fmt.Errorf("its variables would take %d bytes, and Lambda allows no more than %d: shorten "+
			"some by %d",
			size, maxVariablesBytes, size-maxVariablesBytes)
	}
	return nil
}

// remark notes what attach cannot do by itself.
func (c *change) remark(o attachOptions) {
	f := c.before
	switch {
	case f.osOnly() && strings.TrimPrefix(f.Handler, "./") == "bootstrap":
		c.note("%s starts the package's own bootstrap: name it otherwise and make that name the handler, "+
			"or have it start through %s", f.Runtime, wrapperPath)
	case f.osOnly():
		c.note("%s starts the layer's /opt/bootstrap, which runs %q, only if the package has no bootstrap "+
			"of its own", f.Runtime, f.Handler)
	}
	if f.SnapStart.ApplyOn == "PublishedVersions" {
		c.note("SnapStart is for published versions: publish a new one for the layer to be in it")
	}
	if len(f.CapacityProviderConfig) > 0 && string(f.CapacityProviderConfig) != "null" {
		c.note("Managed Instances run published versions: publish a new one for the layer to be in it")
	}
	isAdapter := func(arn string) bool { return strings.Contains(arn, ":layer:LambdaAdapterLayer") }
	if slices.ContainsFunc(c.layers, isAdapter) && c.variables[adapterVariable] == "" {
		c.note("Lambda Web Adapter is its runtime and goes past the proxy without --set %s=http://"+
			"127.0.0.1:8082", adapterVariable)
	}
	if strings.EqualFold(c.variables["LIVE_LAMBDA"], "off") {
		c.note("its variable LIVE_LAMBDA is off, so the layer does nothing")
	}
	if d, err := time.ParseDuration(c.variables[acceptVariable]); err != nil || d == 0 {
		c.note("while no `live-lambda local` is there, callers wait and then get an error; with --set "+
			"%s=3s the deployed code answers", acceptVariable)
	}
	if o.policy != "" && !o.attachPolicy && c.variables[apiKeyVariable] == "" {
		c.note("its role needs the stack's policy, unless it has it: --attach-policy, or aws iam "+
			"attach-role-policy --role-name %s --policy-arn %s", f.roleName(), o.policy)
	}
}

// detach plans the undoing of an attachment.
func detach(_ context.Context, c *change) error {
	if err := c.before.readable(); err != nil {
		return err
	}
	a, err := readAttachment(c.variables)
	if err != nil {
		return err
	}
	if a == nil {
		if c.variables[wrapperVariable] == wrapperPath {
			c.note("it was not attached by `live-lambda attach`: take the layer out where it was put in")
		}
		return nil
	}
	c.layers = a.undo(c.layers, c.variables)
	if a.Policy != "" {
		c.revoke = &rolePolicy{a.Role, a.Policy}
	}
	return nil
}
