//go:build !layer

package main

// aws_attach.go sets on functions what makes them live, and takes it back. In: names of functions, and their
// configurations as the AWS CLI prints them. Out: what will change, for the developer to confirm, and
// updates.
//
// A function changes in one call, what detach needs to know included: so nothing is left halfway, whatever
// interrupts it, and an interrupt may end the program at once. No value of a function's variable is ever
// printed unless attach sets it, and none stands on a command line of `aws`, where other users of the machine
// could read it.

import (
	"bufio"
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

// ---- functions ----

// functionConfig is what matters here of a function's configuration.
// https://docs.aws.amazon.com/lambda/latest/api/API_FunctionConfiguration.html
type functionConfig struct {
	FunctionName, Runtime, Role, Handler, PackageType, RevisionID string
	State, LastUpdateStatus, LastUpdateStatusReason               string
	Architectures                                                 []string
	Layers                                                        []struct{ Arn string }
	Environment                                                   struct {
		Variables map[string]string
		Error     *struct{ ErrorCode string }
	}
	SnapStart              struct{ ApplyOn string }
	CapacityProviderConfig json.RawMessage // of a function on Lambda Managed Instances
}

func (f *functionConfig) arch() string {
	if len(f.Architectures) == 0 {
		return "x86_64"
	}
	return f.Architectures[0]
}

func (f *functionConfig) osOnly() bool { return strings.HasPrefix(f.Runtime, "provided") }

func (f *functionConfig) roleName() string { return f.Role[strings.LastIndexByte(f.Role, '/')+1:] }

func (f *functionConfig) layers() []string {
	arns := []string{}
	for _, l := range f.Layers {
		arns = append(arns, l.Arn)
	}
	return arns
}

// readable says why the configuration must not be written back.
func (f *functionConfig) readable() error {
	if e := f.Environment.Error; e != nil {
		return fmt.Errorf(
			"its variables cannot be read (%s), and an update would lose them; it takes kms:Decrypt on the "+
				"function's key", e.ErrorCode)
	}
	return nil
}

// Runtimes without Amazon Linux 2 or later have no exec wrapper.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-modify.html#runtime-wrapper
var withoutWrapper = strings.
	Fields("nodejs nodejs4.3 nodejs4.3-edge nodejs6.10 nodejs8.10 python2.7 python3.6 python3.7 " +
		"java8 dotnetcore1.0 dotnetcore2.0 dotnetcore2.1 ruby2.5 go1.x")

// fits says why live-lambda cannot be attached to the function.
func (f *functionConfig) fits() error {
	switch {
	case f.PackageType == "Image":
		return errors.New(
			"it is a container image, and images take no layers: copy the layer's files into the image, as " +
				"docs/DEPLOY.md shows under Container images")
	case slices.Contains(withoutWrapper, f.Runtime):
		return fmt.Errorf(
			"its runtime %s starts no wrapper (%s), so the function would not use the proxy: choose a "+
				"newer runtime first", f.Runtime, wrapperVariable)
	case goArch[f.arch()] == "":
		return fmt.Errorf(
			"its architecture %s is neither x86_64 nor arm64, and the layer has binaries for these only",
			f.arch())
	}
	return f.readable()
}

// function reads a function's configuration, when no update of it is under way.
func (a awsCLI) function(ctx context.Context, name string) (f functionConfig, err error) {
	for range 5 {
		f = functionConfig{}
		err = a.run(ctx, &f, nil, "lambda", "get-function-configuration", "--function-name", name)
		switch {
		case err != nil:
			return f, err
		case f.State == "Pending":
			err = a.run(ctx, nil, nil, "lambda", "wait", "function-active-v2", "--function-name", name)
		case f.LastUpdateStatus == "InProgress":
			err = a.waitUpdated(ctx, name)
		default:
			return f, nil
		}
		if err != nil {
			return f, err
		}
	}
	return f, errors.New("it is being updated again and again; try later")
}

func (a awsCLI) waitUpdated(ctx context.Context, name string) error {
	return a.run(ctx, nil, nil, "lambda", "wait", "function-updated-v2", "--function-name", name)
}

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

// ---- changes ----

// change is what is to become of one function.
type change struct {
	name      string // as the developer gave it
	before    functionConfig
	layers    []string
	variables map[string]string
	grant     *rolePolicy // to attach
	revoke    *rolePolicy // to detach, unless another function needs it
	notes     []string
}

type rolePolicy struct{ role, policy string }

// newChange begins with what is there.
func newChange(name string, f functionConfig) *change {
	c := &change{name: name, before: f, layers: f.layers(), variables: maps.Clone(f.Environment.Variables)}
	if c.variables == nil {
		c.variables = map[string]string{}
	}
	return c
}

func (c *change) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// diff says line by line what will change. Values are shown of what attach sets alone.
func (c *change) diff() []string {
	var lines []string
	old := c.before.layers()
	for _, arn := range old {
		if !slices.Contains(c.layers, arn) {
			lines = append(lines, "- layer "+arn)
		}
	}
	for _, arn := range c.layers {
		if !slices.Contains(old, arn) {
			lines = append(lines, "+ layer "+arn)
		}
	}
	was := c.before.Environment.Variables
	names := slices.Concat(slices.Collect(maps.Keys(was)), slices.Collect(maps.Keys(c.variables)))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		before, had := was[name]
		after, has := c.variables[name]
		switch {
		case had && !has:
			lines = append(lines, "- "+name)
		case !had:
			lines = append(lines, "+ "+name+shownValue(name, after))
		case before != after:
			lines = append(lines, "~ "+name+shownValue(name, after))
		}
	}
	if c.grant != nil {
		lines = append(lines, "+ policy "+c.grant.policy+" on role "+c.grant.role)
	}
	if c.revoke != nil {
		lines = append(
			lines, "- policy "+c.revoke.policy+" on role "+c.revoke.role+
				", unless another attached function has the role")
	}
	return lines
}

// shownValue is what to show of a variable's new value.
func shownValue(name, value string) string {
	switch {
	case name == memoryVariable:
		return " (what detach restores)"
	case name == furtherVariable:
		return " (the wrapper that was there)"
	case name == wrapperVariable && value != wrapperPath:
		return " (as it was)"
	case name == apiKeyVariable || name != wrapperVariable && !ownVariable(name):
		return " (not shown)"
	}
	return fmt.Sprintf("=%q", value)
}

// ownVariable tells variables that attach may set: the layer's, and the one by which Lambda Web Adapter finds
// the proxy.
func ownVariable(name string) bool {
	return strings.HasPrefix(name, "LIVE_LAMBDA") || strings.HasPrefix(name, "LRAP_") ||
		name == adapterVariable
}

// planner works out a change from a function's configuration.
type planner func(ctx context.Context, c *change) error

// plan reads a function's configuration and works out its change.
func (a awsCLI) plan(ctx context.Context, name string, p planner) (*change, error) {
	f, err := a.function(ctx, name)
	if err != nil {
		return nil, err
	}
	c := newChange(name, f)
	return c, p(ctx, c)
}

// changeAll plans, shows, asks and carries out what is to become of several functions. One that fails does
// not keep the others from being done. It returns the exit status.
func (t *console) changeAll(ctx context.Context, a awsCLI, names []string, yes bool, p planner, done string) (
	status int) {
	var changes []*change
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		c, err := a.plan(ctx, name, p)
		if err != nil {
			fmt.Fprintf(t.err, "%s: %v\n", name, err)
			status = 1
			continue
		}
		if t.show(c); len(c.diff()) > 0 {
			changes = append(changes, c)
		}
	}
	if len(changes) == 0 {
		return status
	}
	if !yes && !t.confirm(len(changes)) {
		return 1
	}
	for _, c := range changes {
		if err := a.carryOut(ctx, c, p); err != nil {
			fmt.Fprintf(t.err, "%s: %v\n", c.name, err)
			status = 1
			continue
		}
		fmt.Fprintf(t.out, "%s: %s\n", c.name, done)
	}
	return status
}

func (t *console) show(c *change) {
	diff := c.diff()
	if len(diff) == 0 {
		fmt.Fprintf(t.out, "%s: nothing to change\n", c.name)
	} else {
		fmt.Fprintf(t.out, "%s (%s, %s)\n", c.name, c.before.Runtime, c.before.arch())
	}
	for _, line := range diff {
		fmt.Fprintln(t.out, "  "+plainText(line))
	}
	for _, note := range c.notes {
		fmt.Fprintln(t.out, "  note: "+plainText(note))
	}
}

func (t *console) confirm(functions int) bool {
	if !t.asks {
		fmt.Fprintln(
			t.err, "nothing was changed: standard input is not a terminal to ask on; --yes goes ahead")
		return false
	}
	what := "this function"
	if functions > 1 {
		what = fmt.Sprintf("these %d functions", functions)
	}
	fmt.Fprintf(t.out, "Change %s? [y/N] ", what)
	line, _ := bufio.NewReader(t.in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
		return true
	}
	fmt.Fprintln(t.err, "nothing was changed")
	return false
}

// carryOut makes one change. A policy is granted after the update and revoked before: while it may be there,
// the function remembers it.
func (a awsCLI) carryOut(ctx context.Context, c *change, p planner) error {
	var revokeErr error
	if c.revoke != nil {
		revokeErr = a.revoke(ctx, c)
	}
	if err := a.update(ctx, c, p); err != nil {
		return err
	}
	if c.grant != nil {
		err := a.run(
			ctx, nil, nil, "iam", "attach-role-policy", "--role-name", c.grant.role, "--policy-arn",
			c.grant.policy)
		if err != nil {
			return fmt.Errorf("attached, but its role cannot reach AppSync: %w", err)
		}
	}
	return revokeErr
}

// update changes the function's configuration, if nobody else has since it was read; if somebody has, and the
// change is still the same, it is made to the new one.
func (a awsCLI) update(ctx context.Context, c *change, p planner) error {
	for range 5 {
		if c.configured() {
			return nil
		}
		err := a.updateOnce(ctx, c)
		if err == nil {
			return a.settled(ctx, c.name)
		}
		if !hasCode(err, "ResourceConflictException", "PreconditionFailedException") {
			return err
		}
		again, err := a.plan(ctx, c.name, p)
		if err != nil {
			return err
		}
		if !again.configured() && !slices.Equal(again.diff(), c.diff()) {
			return errors.New("somebody else has changed it meanwhile, so nothing was done; run this again")
		}
		*c = *again
	}
	return errors.New("it is being updated again and again, so nothing was done; try later")
}

// configured reports whether the function's configuration is what it is to be.
func (c *change) configured() bool {
	return slices.Equal(c.layers, c.before.layers()) &&
		maps.Equal(c.variables, c.before.Environment.Variables)
}

// updateOnce passes the variables through standard input, in ASCII, so that no locale matters.
// https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionConfiguration.html
func (a awsCLI) updateOnce(ctx context.Context, c *change) error {
	layers, _ := json.Marshal(c.layers) // strings always marshal
	environment, _ := json.Marshal(map[string]any{"Variables": c.variables})
	return a.run(ctx, nil, asciiJSON(environment), "lambda", "update-function-configuration",
		"--function-name", c.name,
		"--revision-id", c.before.RevisionID, "--layers", string(layers), "--environment",
		"file:///dev/stdin")
}

// settled waits until the update is active, and says why where it will not be.
func (a awsCLI) settled(ctx context.Context, name string) error {
	waitErr := a.waitUpdated(ctx, name)
	if waitErr == nil {
		return nil
	}
	var f functionConfig
	if err := a.run(
		ctx, &f, nil, "lambda", "get-function-configuration", "--function-name", name); err == nil &&
		f.LastUpdateStatus == "Failed" {
		return fmt.Errorf("updated, and then the update failed: %s", plainText(f.LastUpdateStatusReason))
	}
	return fmt.Errorf("updated, but not known to be active: %w", waitErr)
}

// revoke detaches a policy that attach has attached, unless another function that is attached needs it.
func (a awsCLI) revoke(ctx context.Context, c *change) error {
	others, remembered, err := a.sharing(ctx, *c.revoke, c.before.FunctionName)
	switch {
	case err == nil && remembered:
		return nil // detaching that function takes it off
	case err == nil && len(others) > 0:
		err = fmt.Errorf("%s, attached without --attach-policy, needs it", others[0])
	case err == nil:
		err = a.run(
			ctx, nil, nil, "iam", "detach-role-policy", "--role-name", c.revoke.role, "--policy-arn",
			c.revoke.policy)
	}
	if err != nil && !hasCode(err, "NoSuchEntity") {
		return fmt.Errorf("the policy stays on its role: %w; take it off later with `aws iam "+
			"detach-role-policy --role-name %s --policy-arn %s`",
			err, c.revoke.role, c.revoke.policy)
	}
	return nil
}

// sharing names the other functions of the region that are attached and have the same role, and tells whether
// one of them remembers that attach has put the policy there.
func (a awsCLI) sharing(ctx context.Context, p rolePolicy, except string) (
	names []string, remembered bool, err error) {
	const memory = "Environment.Variables." + memoryVariable
	var functions [][3]string
	if err := a.run(
		ctx, &functions, nil, "lambda", "list-functions", "--query",
		"Functions[?"+memory+"].[FunctionName, Role, "+memory+"]"); err != nil {
		return nil, false, err
	}
	for _, row := range functions {
		f := functionConfig{FunctionName: row[0], Role: row[1]}
		if f.FunctionName == except || f.roleName() != p.role {
			continue
		}
		names = append(names, f.FunctionName)
		other, err := readAttachment(map[string]string{memoryVariable: row[2]})
		remembered = remembered || err == nil && other.Role == p.role && other.Policy == p.policy
	}
	return names, remembered, nil
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

// grant plans the policy on the function's role. attach remembers one that was not there, or that another
// function's attach has brought there.
func (a awsCLI) grant(ctx context.Context, c *change, now *attachment, want rolePolicy) error {
	if old := (rolePolicy{now.Role, now.Policy}); now.Policy != "" && old != want {
		c.revoke = &old
		now.Role, now.Policy = "", ""
	}
	var list struct{ AttachedPolicies []struct{ PolicyArn string } }
	if err := a.run(
		ctx, &list, nil, "iam", "list-attached-role-policies", "--role-name", want.role); err != nil {
		return err
	}
	ours := now.Policy != ""
	for _, p := range list.AttachedPolicies {
		if p.PolicyArn != want.policy {
			continue
		}
		if !ours {
			var err error
			if _, ours, err = a.sharing(ctx, want, c.before.FunctionName); err != nil {
				return err
			}
		}
		if ours {
			now.Role, now.Policy = want.role, want.policy
		}
		return nil
	}
	now.Role, now.Policy = want.role, want.policy
	c.grant = &want
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
