//go:build !layer

package main

// aws_status.go is the command status: which functions of an account and region carry the layer, and what of
// that is odd. It changes nothing. In: what `aws` lists. Out: lines, or JSON.

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

const statusUsage = `usage: live-lambda status [flags]

Lists the functions of the account and region that carry the layer: who has attached it and since
when, until when it stays, the stage, whether the layer is this program's, and what is odd: with
` + hostVariable + ` or --stack also another API, and with --stack a role that
lacks the stack's policy. It changes nothing. If ` + "`live-lambda local --attach`" + ` was killed on this
machine, it offers to undo what that has left.

It needs these permissions, the least first:
  lambda:ListFunctions
  lambda:GetLayerVersion to compare the layer, iam:ListEntitiesForPolicy to look at the roles; what
  may not be looked at is told, and is no failure
  cloudformation:DescribeStacks for --stack`

// ---- the functions that carry the layer ----

const layerMark = ":layer:" + layerName // in the ARN of a layer that publish-layer has published

// carriersQuery has the AWS CLI leave out the functions that do not carry the layer, whoever has put it
// there. It is applied to all pages together.
const carriersQuery = "Functions[?Environment.Variables." + memoryVariable +
	" || Environment.Variables." + hostVariable +
	" || Environment.Variables." + wrapperVariable + "=='" + wrapperPath + "'" +
	" || Layers[?contains(Arn, '" + layerMark + "')]]"

// carriers returns the functions that carry the layer, in the order of their names. Their State and
// LastUpdateStatus are not known.
// https://docs.aws.amazon.com/lambda/latest/api/API_ListFunctions.html
func (a awsCLI) carriers(ctx context.Context) ([]functionConfig, error) {
	var functions []functionConfig
	err := a.run(ctx, &functions, nil, "lambda", "list-functions", "--query", carriersQuery)
	slices.SortFunc(functions, func(f, g functionConfig) int {
		return strings.Compare(f.FunctionName, g.FunctionName)
	})
	return functions, err
}

// carrierNames returns the names of the functions that carry the layer.
func (a awsCLI) carrierNames(ctx context.Context) ([]string, error) {
	functions, err := a.carriers(ctx)
	var names []string
	for _, f := range functions {
		names = append(names, f.FunctionName)
	}
	return names, err
}

// carries reports whether the function starts through the layer's wrapper, or has a layer of its name.
func (f *functionConfig) carries() bool {
	return f.Environment.Variables[wrapperVariable] == wrapperPath || f.ownLayer(nil) != ""
}

// ownLayer is the version of the layer that the function has, as far as that can be told: the one that attach
// has added, else one of the usual name.
func (f *functionConfig) ownLayer(a *attachment) string {
	layers := f.layers()
	i := slices.IndexFunc(layers, func(arn string) bool { return strings.Contains(arn, layerMark) })
	if a != nil {
		i = a.layerIn(layers)
	}
	if i < 0 {
		return ""
	}
	return layers[i]
}

// ---- the command ----

// functionStatus is what status says of one function.
type functionStatus struct {
	Function string     `json:"function"`
	ARN      string     `json:"arn"`
	Attached bool       `json:"attached"` // by attach
	Local    bool       `json:"local"`    // by a local end, for as long as that runs
	By       string     `json:"by,omitempty"`
	Since    time.Time  `json:"since,omitzero"`
	Until    time.Time  `json:"until,omitzero"`
	Host     string     `json:"host,omitempty"`
	Stage    string     `json:"stage,omitempty"`
	Route    string     `json:"route,omitempty"`
	Mode     string     `json:"mode,omitempty"`
	Sealed   bool       `json:"sealed"`
	Layer    string     `json:"layer,omitempty"`     // ARN of its version
	OurLayer *bool      `json:"our_layer,omitempty"` // it is one that this program publishes; nil: not known
	Odd      []string   `json:"odd"`                 // nothing: an empty list
	kind     string     // runtime and architecture
	policy   rolePolicy // that the function needs; empty: not known
	left     record     // what a local end of this machine has left on it; empty: nothing
}

// status is the command status.
func (t *console) status(args []string) int {
	f := t.commandLine("status", statusUsage)
	f.addProfile()
	f.addStack()
	asJSON := f.Bool("json", false, "print one JSON object a line")
	status, ok := f.parseFlags(args)
	if !ok {
		return status
	}
	getenv, err := f.getenv(context.Background())
	if err != nil {
		return f.failed(err)
	}
	all, notes, err := awsCLI{profile: f.profile}.status(context.Background(), getenv)
	if err != nil {
		return f.failed(err)
	}
	for _, note := range notes {
		f.say("%s", note)
	}
	if *asJSON {
		for _, s := range all {
			line, _ := json.Marshal(s) // strings and times always marshal
			fmt.Fprintf(t.out, "%s\n", line)
		}
		return 0
	}
	for _, s := range all {
		fmt.Fprint(t.out, s.text())
	}
	fmt.Fprintln(t.out, statusSum(all))
	for _, r := range leftOn(all, f.profile, left()) {
		t.offer(context.Background(), r, false)
	}
	return 0
}

// text is what is printed of a function.
func (s *functionStatus) text() string {
	lines := []string{fmt.Sprintf("%s (%s)%s", s.Function, s.kind, s.settings()), "  " + s.origin()}
	if s.Layer != "" {
		lines = append(lines, "  "+s.layerText())
	}
	for _, odd := range s.Odd {
		lines = append(lines, "  odd: "+odd)
	}
	text := ""
	for _, line := range lines {
		text += plainText(line) + "\n"
	}
	return text
}

// settings are the variables that say whom events go to, and how.
func (s *functionStatus) settings() string {
	text := ""
	if s.Stage != "" {
		text += ", stage " + s.Stage
	}
	if s.Route != "" {
		text += ", route " + s.Route
	}
	if s.Mode != "" {
		text += ", mode " + s.Mode
	}
	if s.Sealed {
		text += ", sealed"
	}
	return text
}

// origin says who has put the layer there, and for how long.
func (s *functionStatus) origin() string {
	text := "attached"
	switch {
	case !s.Attached:
		text = "put there by other means than attach"
	case s.By != "":
		text = fmt.Sprintf("attached on %s by %s", timeText(s.Since), s.By)
	}
	if s.Local {
		text += ", for as long as a `live-lambda local` runs"
	}
	if !s.Until.IsZero() {
		text += ", until " + timeText(s.Until)
	}
	return text
}

func (s *functionStatus) layerText() string {
	_, name, _ := strings.Cut(s.Layer, ":layer:")
	switch {
	case s.OurLayer == nil:
		return "layer " + name
	case *s.OurLayer:
		return "layer " + name + ", this program's"
	}
	return "layer " + name + ", not this program's: publish-layer and attach again bring that"
}

// statusSum is the last line.
func statusSum(all []functionStatus) string {
	odd := 0
	for _, s := range all {
		if len(s.Odd) > 0 {
			odd++
		}
	}
	switch {
	case len(all) == 0:
		return "no function of this account and region carries the layer"
	case len(all) == 1 && odd == 0:
		return "1 function carries the layer; nothing is odd"
	case odd == 0:
		return fmt.Sprintf("%d functions carry the layer; nothing is odd", len(all))
	case len(all) == 1:
		return "1 function carries the layer; something of it is odd"
	}
	return fmt.Sprintf("%d functions carry the layer; something is odd of %d", len(all), odd)
}

// ---- what is looked at ----

// status looks at all functions that carry the layer. getenv tells which API and policy they are to have, if
// that is known. notes say what could not be looked at.
func (a awsCLI) status(ctx context.Context, getenv func(string) string) (
	all []functionStatus, notes []string, err error,
) {
	functions, err := a.carriers(ctx)
	if err != nil {
		return nil, nil, err
	}
	want := inFunction(map[string]string{hostVariable: getenv(hostVariable)})
	cfg, _ := readConfig(want) // a host of no use is none
	host := ""
	if cfg.api != nil {
		host = cfg.api.http.Host
	}
	for _, f := range functions {
		all = append(all, newFunctionStatus(&f, host, getenv(policyVariable)))
	}
	layerNote := a.compareLayers(ctx, all)
	roleNote := a.checkRoles(ctx, all)
	notes = slices.DeleteFunc([]string{layerNote, roleNote}, func(note string) bool { return note == "" })
	return all, notes, nil
}

// newFunctionStatus is what a function's configuration tells. host and policy are those that it is to have;
// empty: not known.
func newFunctionStatus(f *functionConfig, host, policy string) functionStatus {
	variables := f.Environment.Variables
	c := newChange(f.FunctionName, *f)
	until, limited := c.until()
	s := functionStatus{
		Function: f.FunctionName,
		ARN:      f.FunctionArn,
		Stage:    variables[stageVariable],
		Route:    variables[routeVariable],
		Mode:     strings.ToLower(variables[modeVariable]),
		Until:    until,
		Sealed:   variables[keyVariable] != "",
		kind:     f.kind(),
		Odd:      []string{},
	}
	if limited && until.Before(time.Now()) {
		s.odd("its time is over, so the layer does nothing: detach it, or attach it again")
	}
	_, s.Attached = variables[memoryVariable]
	attached, _ := readAttachment(variables) // judge says if it is damaged
	if attached != nil {
		s.By = attached.By
		s.Since = attached.At
		s.policy = attached.granted()
		s.Local = attached.Local != ""
		s.judgeLocal(attached, f)
	}
	s.Layer = f.ownLayer(attached)
	s.judge(f, host, policy)
	return s
}

func (s *functionStatus) odd(text string) { s.Odd = append(s.Odd, text) }

// judge says what is odd of a function's settings. host and policy are as in newFunctionStatus.
func (s *functionStatus) judge(f *functionConfig, host, policy string) {
	cfg, err := f.settings()
	if err != nil {
		s.odd(err.Error())
	}
	if f.PackageType != "Image" && f.readable() == nil {
		if err := f.attached(); err != nil {
			s.odd(err.Error())
		}
	}
	if err != nil {
		return
	}
	api := cfg.api
	s.Host = api.http.Host
	switch {
	case host == "":
	case host != s.Host:
		s.odd(fmt.Sprintf("its API is %s, not %s", s.Host, host))
	case api.apiKey == "" && policy != "" && s.policy.policy == "":
		s.policy = rolePolicy{role: f.roleName(), policy: policy}
	}
	accept, err := time.ParseDuration(f.Environment.Variables[acceptVariable])
	if (err != nil || accept == 0) && s.Mode != "mirror" {
		s.odd("no " + acceptVariable + ": while no local end is there, callers wait and then get an error")
	}
}

// judgeLocal says if the local end that has attached a function was killed, which this machine knows if it
// ran here.
func (s *functionStatus) judgeLocal(a *attachment, f *functionConfig) {
	if !validLocal.MatchString(a.Local) || a.By == "" || !a.belongsTo(userAtHost()) {
		return
	}
	_, running, _ := readRecord(a.Local) // without a record it does not run
	if running {
		return
	}
	s.left = record{Local: a.Local, Region: f.region(), Functions: []string{f.FunctionArn}}
	s.odd("the `live-lambda local` that attached it was killed before it could undo that")
}

// leftOn are the records of local ends that were killed: those that are at hand, and one made up for each
// other local end that has left functions attached. profile is the AWS CLI's.
func leftOn(all []functionStatus, profile string, records []record) []record {
	found := slices.Clone(records)
	for _, s := range all {
		i := slices.IndexFunc(found, func(r record) bool { return r.Local == s.left.Local })
		switch {
		case s.left.Local == "" || i >= 0 && i < len(records):
		case i >= 0:
			found[i].Functions = append(found[i].Functions, s.left.Functions...)
		default:
			s.left.Profile = profile
			found = append(found, s.left)
		}
	}
	return found
}

// kind is the runtime and the architecture.
func (f *functionConfig) kind() string {
	if f.PackageType == "Image" {
		return "container image, " + f.arch()
	}
	return f.Runtime + ", " + f.arch()
}

// compareLayers says of each function whether its layer is one that this program publishes. It asks once for
// each layer version. The note says why it could not.
func (a awsCLI) compareLayers(ctx context.Context, all []functionStatus) (note string) {
	own := ownHashes()
	if len(own) == 0 {
		return ""
	}
	ours := map[string]*bool{} // by ARN
	for i := range all {
		s := &all[i]
		if s.Layer == "" {
			continue
		}
		is, asked := ours[s.Layer]
		if !asked {
			hash, err := a.layerHash(ctx, s.Layer)
			if err != nil {
				note = "whether a layer is this program's is not known: " + err.Error()
			} else {
				found := slices.Contains(own, hash)
				is = &found
			}
			ours[s.Layer] = is
		}
		s.OurLayer = is
	}
	return note
}

// layerHash is the SHA-256, in hexadecimal, of the zip that a layer version was published from.
// https://docs.aws.amazon.com/lambda/latest/api/API_LayerVersionContentOutput.html
func (a awsCLI) layerHash(ctx context.Context, arn string) (string, error) {
	var version struct{ Content struct{ CodeSha256 string } }
	err := a.run(ctx, &version, nil, "lambda", "get-layer-version-by-arn", "--arn", arn)
	hash, _ := base64.StdEncoding.DecodeString(version.Content.CodeSha256) // else it equals none
	return hex.EncodeToString(hash), err
}

// ownHashes are those of the zips that this program publishes: a release's own, else those at hand.
func ownHashes() []string {
	var hashes []string
	for _, hash := range releasedZips() {
		hashes = append(hashes, hash)
	}
	if len(hashes) > 0 {
		return hashes
	}
	for _, ending := range []string{"-amd64", "-arm64", ""} {
		file, err := findLayerZip("live-lambda-layer" + ending + ".zip")
		if err != nil {
			continue
		}
		content, err := os.ReadFile(file)
		if err == nil {
			hashes = append(hashes, sumOf(content))
		}
	}
	return hashes
}

// checkRoles says which functions' roles lack the policy that they need. It asks once for each policy. The
// note says why it could not.
func (a awsCLI) checkRoles(ctx context.Context, all []functionStatus) (note string) {
	roles := map[string][]string{} // by policy; nil: not known
	for i := range all {
		s := &all[i]
		if s.policy.policy == "" {
			continue
		}
		having, asked := roles[s.policy.policy]
		if !asked {
			found, err := a.rolesWith(ctx, s.policy.policy)
			if err != nil {
				note = "whether roles have the policy is not known: " + err.Error()
			}
			having = found
			roles[s.policy.policy] = having
		}
		if having != nil && !slices.Contains(having, s.policy.role) {
			s.odd(s.lacks())
		}
	}
	return note
}

// lacks says that a role lacks the policy. If attach was to put it there, attach or detach has been
// interrupted, and the function remembers all that there was.
func (s *functionStatus) lacks() string {
	text := fmt.Sprintf("its role %s lacks the policy %s", s.policy.role, s.policy.policy)
	if s.Attached {
		return text + ": attach --attach-policy puts it there, and detach takes all back"
	}
	return text
}
