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
	wrapperPath = "/opt/live-lambda-runtime-wrapper.sh" // the layer's wrapper
	// which wrapper Lambda starts the runtime through
	wrapperVariable = "AWS_LAMBDA_EXEC_WRAPPER"
	// which further one the layer's wrapper starts the runtime through
	furtherVariable = "LIVE_LAMBDA_EXEC_WRAPPER"
	// https://awslabs.github.io/aws-lambda-web-adapter/features/request-interception.html
	adapterVariable = "AWS_LWA_LAMBDA_RUNTIME_API_PROXY"
	memoryVariable  = "LIVE_LAMBDA_ATTACHED" // holds an attachment
	acceptVariable  = "LIVE_LAMBDA_ACCEPT_TIMEOUT"
	policyVariable  = "LIVE_LAMBDA_FUNCTION_POLICY_ARN" // of the environment, or of a stack's outputs
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
	return a, nil
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
	layer        string            // name, or ARN with or without version; empty: the newest published
	attachPolicy bool              // put the policy on the functions' roles
	extra        map[string]string // variables to set on the functions, beside the API's
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
	addYes(f, &o.yes)
}

// addYes adds the flag of commands that ask.
func addYes(f *commandLine, yes *bool) { f.BoolVar(yes, "yes", false, "do not ask") }

func (o *attachFlags) addVariable(value string) error {
	name, value, _ := strings.Cut(value, "=")
	if !ownVariable(name) || value == "" {
		return fmt.Errorf(
			"not NAME=VALUE of one of the layer's variables, %s", strings.Join(layerVariables, ", "))
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
	o := attachOptions{attachFlags: flags, policy: getenv(policyVariable)}
	o.variables, err = functionVariables(getenv, flags.extra)
	if err != nil {
		return f.wrong("%v", err)
	}
	if o.policy == "" && o.attachPolicy {
		return f.wrong("--attach-policy knows no policy: give --stack, or set %s", policyVariable)
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
		return errors.New("name a function")
	}
	for _, name := range names {
		parts := strings.Split(name, ":") // NAME, or arn:aws:lambda:REGION:ACCOUNT:function:NAME
		i := slices.Index(parts, "function")
		if strings.HasPrefix(name, "-") || len(parts[i+1:]) > 1 {
			return fmt.Errorf(
				"%q is not a function's name or ARN without version or alias; published versions cannot be "+
					"changed", name)
		}
	}
	return nil
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
	"LIVE_LAMBDA_MODE",
	"LIVE_LAMBDA_NAMESPACE",
	"LIVE_LAMBDA_OFFLINE",
	"LIVE_LAMBDA_ROUTE",
	"LIVE_LAMBDA_STAGE",
	"LIVE_LAMBDA_UNTIL",
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
	variables map[string]string // to set
	policy    string            // ARN, empty if neither the environment nor a stack names it
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
		now.remember(earlier.granted())
	}
	now.Layer, err = a.layerFor(ctx, o.layer, c.before.arch())
	if err != nil {
		return err
	}
	if o.attachPolicy {
		want := rolePolicy{role: c.before.roleName(), policy: o.policy}
		if err := a.grant(ctx, c, now, want); err != nil {
			return err
		}
	}
	c.layers = now.do(c.layers, c.variables, c.toSet(o))
	c.remark(o)
	return c.withinLimits()
}

// toSet returns the variables that make the function live. The further wrapper is among them even if there is
// none: it is not set then, but what its variable holds is remembered.
func (c *change) toSet(o attachOptions) map[string]string {
	set := maps.Clone(o.variables)
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
	c.remarkBootstrap()
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

// remarkBootstrap notes when an OS-only runtime starts what the layer brings.
func (c *change) remarkBootstrap() {
	f := c.before
	if !f.osOnly() {
		return
	}
	if strings.TrimPrefix(f.Handler, "./") == "bootstrap" {
		c.note("%s starts the package's own bootstrap: name it otherwise and make that name the handler, "+
			"or have it start through %s", f.Runtime, wrapperPath)
	} else {
		c.note("%s starts the layer's /opt/bootstrap, which runs %q, only if the package has no bootstrap "+
			"of its own", f.Runtime, f.Handler)
	}
}

// remarkVersions notes why $LATEST, which is all that attach changes, may not be what runs.
func (c *change) remarkVersions() {
	if c.before.SnapStart.ApplyOn == "PublishedVersions" {
		c.note("SnapStart is for published versions: publish a new one for the layer to be in it")
	}
	provider := string(c.before.CapacityProviderConfig)
	if provider != "" && provider != "null" {
		c.note("Managed Instances run published versions: publish a new one for the layer to be in it")
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
	granted := a.granted()
	if granted.policy != "" {
		c.revoke = &granted
	}
	return nil
}
