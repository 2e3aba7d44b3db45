//go:build !layer

package main

// aws_borrow.go attaches functions for as long as a local end runs, with what attach and detach do. Before
// that it makes sure that there is a stack and a layer. A function remembers the local end that has attached
// it, and what that has found, so that the way back depends on the function alone.

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	usualStack = "live-lambda"  // that is made if there is none
	borrowLife = 12 * time.Hour // after it the layer goes out, unless it is renewed
	// before half of borrowLife, so that one failure, or a machine that sleeps, does no harm
	renewAfter = borrowLife / 3
	renewEvery = time.Minute // look whether it is time; the wall clock goes on while this machine sleeps
	comingPart = "NEW"       // in the names of what is still to be made
)

// ---- what a function remembers ----

// found is what the function has to go back to when a local end gives it back: a, which is in force with
// variables, or what an earlier local end had found.
func (a *attachment) found(variables map[string]string) *attachment {
	if a.Local != "" {
		return a.Earlier
	}
	earlier := *a
	earlier.Before = nil // do knows it again
	earlier.Set = map[string]string{}
	for name := range a.Before {
		earlier.Set[name] = variables[name]
	}
	return &earlier
}

// settings are the layer's variables that are to be set: those of the options and, for a local end, what an
// attachment to the same API that it has found has set besides, such as a stage.
func (a *attachment) settings(o attachOptions) map[string]string {
	set := maps.Clone(o.variables)
	if a.Earlier == nil || a.Earlier.Set[hostVariable] != set[hostVariable] {
		return set
	}
	for name, value := range a.Earlier.Set {
		if set[name] == "" && value != "" && ownVariable(name) {
			set[name] = value
		}
	}
	return set
}

// giveBack takes back what a local end has done: what it had found is in force again.
func (a *attachment) giveBack(layers []string, variables map[string]string) []string {
	layers = a.undo(layers, variables)
	if a.Earlier == nil {
		return layers
	}
	earlier := *a.Earlier
	earlier.Set = nil
	return earlier.do(layers, variables, a.Earlier.Set)
}

// returning is the planner that takes back what the local end of that name has done. What others have changed
// since is kept, and what somebody else has attached since stays as it is.
func returning(local string) planner {
	return func(_ context.Context, c *change) error {
		a, err := c.remembered()
		if err != nil || a == nil || a.Local != local {
			return err
		}
		c.layers = a.giveBack(c.layers, c.variables)
		granted := a.granted()
		if granted.policy != "" && (a.Earlier == nil || a.Earlier.granted() != granted) {
			c.revoke = &granted
		}
		return nil
	}
}

// renewing is the planner that attaches again what the local end of the options still has.
func (a awsCLI) renewing(o attachOptions) planner {
	attach := a.attaching(o)
	return func(ctx context.Context, c *change) error {
		now, err := c.remembered()
		if err != nil || now == nil || now.Local != o.local {
			return err
		}
		return attach(ctx, c)
	}
}

// remembered is what the function remembers, if it is attached. Without its variables that is not known.
func (c *change) remembered() (*attachment, error) {
	err := c.before.readable()
	if err != nil {
		return nil, err
	}
	return readAttachment(c.variables)
}

// ---- from a command line to a question ----

// borrowing is functions that one local end attaches for as long as it runs.
type borrowing struct {
	console *console
	cli     awsCLI
	local   string // name of the local end
	flags   attachFlags
	names   []string // of functions, as they were picked
	stack   string   // to be made first; "": none
	// of that stack's API: events or graphql
	protocol string
	// how the settings are read; before the stack is made, its outputs are made up
	getenv  func(name string) string
	outputs map[string]string // of the stack, which are made up; nil: none are
	zips    map[string]string // to be published first, by architecture
	layers  map[string]string // layer versions, by architecture
	changes []*change
	until   time.Time
	record  record
	file    *os.File // of record; nil before it is written
	// attach has failed, or was interrupted: an update of it may arrive after the function was looked at
	cut bool
}

// borrow prepares what a local end is to attach: it reads, shows and asks, and changes nothing. It returns
// nil and an exit status if nothing is to be done. f is the command line of local.
func (t *console) borrow(f *commandLine, words []string, flags attachFlags) (*borrowing, int) {
	err := checkWords(words)
	if err != nil {
		return nil, f.wrong("--attach: %v", err)
	}
	ctx := context.Background()
	t.offerLeft(ctx, flags.yes)
	var name [8]byte
	rand.Read(name[:])
	b := &borrowing{
		console: t,
		cli:     awsCLI{profile: f.profile},
		local:   hex.EncodeToString(name[:]),
		flags:   flags,
		zips:    map[string]string{},
		layers:  map[string]string{},
	}
	err = b.find(ctx, f, words)
	if err != nil {
		return nil, f.failed(err)
	}
	o, err := b.options(time.Now())
	if err != nil {
		return nil, f.wrong("%v", err)
	}
	changes, status := t.planAll(ctx, b.cli, b.names, b.cli.attaching(o))
	if status != 0 {
		return nil, status
	}
	b.changes = changes
	err = b.together(f)
	if err != nil {
		return nil, f.failed(err)
	}
	b.showFirst()
	if !flags.yes && !t.ask(b.question()) {
		return nil, 1
	}
	return b, 0
}

// find finds the stack and the functions.
func (b *borrowing) find(ctx context.Context, f *commandLine, words []string) error {
	getenv, err := f.getenv(ctx)
	if err == nil && f.stack == "" && getenv(hostVariable) == "" {
		f.stack = usualStack
		getenv, err = f.getenv(ctx)
	}
	missing := noStack(err)
	if err != nil && !missing {
		return err
	}
	b.getenv = getenv
	b.names, err = b.cli.pick(ctx, words, b.cli.functionNames)
	if err != nil || !missing {
		return err
	}
	return b.comingStack(ctx, f)
}

// noStack reports whether a stack's outputs could not be read because there is none of that name.
func noStack(err error) bool {
	return hasCode(err, "ValidationError") && strings.Contains(err.Error(), "does not exist")
}

// comingStack makes up the outputs of the stack that is to be made, so that all can be shown before.
func (b *borrowing) comingStack(ctx context.Context, f *commandLine) error {
	first, err := b.cli.configuration(ctx, b.names[0])
	if err != nil {
		return fmt.Errorf("%s: %w", plainText(b.names[0]), err)
	}
	region := first.region()
	b.stack = f.stack
	b.outputs = map[string]string{
		hostVariable: comingPart + ".appsync-api." + region + ".amazonaws.com",
		"LIVE_LAMBDA_APPSYNC_REALTIME_HOST": comingPart + ".appsync-realtime-api." + region +
			".amazonaws.com",
		regionVariable: region,
		policyVariable: first.account("iam", "") + ":policy/" + comingPart,
	}
	withoutStack := *f
	withoutStack.stack = ""
	getenv, err := withoutStack.getenv(ctx)
	b.protocol = getenv("LIVE_LAMBDA_APPSYNC_PROTOCOL")
	b.getenv = func(name string) string {
		value := getenv(name)
		if value == "" {
			return b.outputs[name]
		}
		return value
	}
	return err
}

// account is the beginning of ARNs of the function's account: arn:aws:SERVICE:REGION:ACCOUNT.
func (f *functionConfig) account(service, region string) string {
	parts := strings.Split(f.FunctionArn+":::::", ":")
	return strings.Join([]string{parts[0], parts[1], service, region, parts[4]}, ":")
}

// options are those of attach, with an end that is borrowLife from now on.
func (b *borrowing) options(now time.Time) (attachOptions, error) {
	b.until = now.Add(borrowLife)
	return b.sameOptions()
}

// sameOptions are the options with the end that was chosen last.
func (b *borrowing) sameOptions() (attachOptions, error) {
	flags := b.flags
	flags.extra = map[string]string{untilVariable: timeText(b.until)}
	o, err := newAttachOptions(flags, b.getenv)
	o.local = b.local
	o.find = b.layerFor
	if o.policy == "" || o.variables[apiKeyVariable] != "" {
		o.attachPolicy = false // there is none, or functions go without
	}
	return o, err
}

// layerFor returns the layer version for a function: the one that was published from this program's zip, or
// is to be. Without a zip it is the newest.
func (b *borrowing) layerFor(ctx context.Context, f *functionConfig) (string, error) {
	arch := f.arch()
	if b.layers[arch] != "" {
		return b.layers[arch], nil
	}
	newest, err := b.cli.newestLayer(ctx, layerName+goArch[arch], arch)
	if err != nil {
		return "", err
	}
	_, missing := findLayerZip("live-lambda-layer-" + goArch[arch] + ".zip")
	if missing != nil && newest == "" {
		return "", missing
	}
	if missing == nil {
		newest, err = b.published(ctx, f, newest)
	}
	b.layers[arch] = newest
	return newest, err
}

// published returns the newest layer version if it was published from this program's zip, else one that is to
// be.
func (b *borrowing) published(ctx context.Context, f *functionConfig, newest string) (string, error) {
	arch := f.arch()
	zip, err := publishFlags{}.checkedZip(arch)
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(zip)
	if err != nil {
		return "", err
	}
	if newest != "" {
		hash, err := b.cli.layerHash(ctx, newest)
		if err != nil || hash == sumOf(content) {
			return newest, err
		}
	}
	b.zips[arch] = zip
	return f.account("lambda", f.region()) + ":layer:" + layerName + goArch[arch] + ":" + comingPart, nil
}

// places are the variables that say where a function's events go.
func places() (names []string) {
	for _, a := range apiFlags {
		if a.variable != apiKeyVariable {
			names = append(names, a.variable)
		}
	}
	return names
}

// together returns an error unless one local end can serve all functions: their events go to one place, and
// if one is sealed, all are. f has the keys that are set here.
func (b *borrowing) together(f *commandLine) error {
	first := b.changes[0]
	for _, c := range b.changes[1:] {
		for _, name := range places() {
			if c.variables[name] != first.variables[name] {
				return fmt.Errorf("the events of %s and %s would not go to one place: their %s differ; "+
					"give the flag for it, or start a `live-lambda local` for each", first.name, c.name, name)
			}
		}
		if (c.variables[keyVariable] == "") != (first.variables[keyVariable] == "") {
			return fmt.Errorf("one of %s and %s is sealed, and the other is not: give --seal",
				first.name, c.name)
		}
	}
	texts, from := f.keyTexts(b.getenv)
	if len(texts) > 0 && first.variables[keyVariable] == "" {
		return fmt.Errorf("%s has a key, with which nothing is taken that is not sealed, and %s is not: "+
			"give --seal, or no key", from, first.name)
	}
	return nil
}

// showFirst shows what is to be made before functions are changed.
func (b *borrowing) showFirst() {
	if b.stack != "" {
		fmt.Fprintf(b.console.out, "stack %s\n  + an AppSync API, a policy for functions, and one for "+
			"developers; it stays when this command ends\n", plainText(b.stack))
	}
	for _, arch := range slices.Sorted(maps.Keys(b.zips)) {
		fmt.Fprintf(b.console.out, "layer %s%s\n  + a version of %s; it stays when this command ends\n",
			layerName, goArch[arch], plainText(b.zips[arch]))
	}
}

// question is what is asked before anything is done.
func (b *borrowing) question() string {
	text := "change " + theseFunctions(len(b.changes)) + " until this command ends?"
	if b.stack != "" || len(b.zips) > 0 {
		return "Make what is new, and " + text
	}
	return "C" + text[1:]
}

// ---- what is done ----

// attach does what was confirmed. If it returns an error, giveBack may have something to do.
func (b *borrowing) attach(ctx context.Context) error {
	err := b.remember()
	if err != nil {
		return fmt.Errorf("keep on this machine what is attached, to undo it if this program is killed: %w",
			err)
	}
	if b.stack != "" || len(b.zips) > 0 {
		err = b.makeFirst(ctx)
		if err != nil {
			return err
		}
	}
	o, err := b.sameOptions()
	if err != nil {
		return err
	}
	status := b.console.carryOutAll(ctx, b.cli, b.changes, b.cli.attaching(o), "attached")
	b.cut = status != 0
	if status != 0 {
		return errors.New("not all functions could be attached, so none stays so")
	}
	return nil
}

// remember keeps on this machine what is going to be attached.
func (b *borrowing) remember() error {
	b.record = record{
		Local:   b.local,
		Profile: cmp.Or(b.cli.profile, os.Getenv("AWS_PROFILE")), // the next command may have another
		Region:  b.changes[0].before.region(),
	}
	for _, c := range b.changes {
		b.record.Functions = append(b.record.Functions, c.before.FunctionArn)
	}
	file, err := b.record.write()
	b.file = file
	return err
}

// makeFirst makes the stack and the layer versions, and plans again with what they are called now. What would
// change besides nobody has confirmed.
func (b *borrowing) makeFirst(ctx context.Context) error {
	var names []string // what was shown, and then what it is called now
	made, err := b.makeStack(ctx)
	if err != nil {
		return err
	}
	for name, shown := range b.outputs {
		if made[name] != "" {
			names = append(names, shown, made[name])
		}
	}
	b.outputs = made // nothing that was made up stays
	for _, arch := range slices.Sorted(maps.Keys(b.zips)) {
		arn, err := b.cli.publishLayer(ctx, arch, publishFlags{})
		if err != nil {
			return fmt.Errorf("publish the layer: %w", err)
		}
		names = append(names, b.layers[arch], arn)
		b.layers[arch] = arn
		fmt.Fprintf(b.console.out, "%s: published\n", arn)
	}
	return b.planAgain(ctx, names)
}

// makeStack makes the stack, if there is to be one, and returns its outputs.
func (b *borrowing) makeStack(ctx context.Context) (map[string]string, error) {
	if b.stack == "" {
		return nil, nil
	}
	fmt.Fprintf(b.console.out, "stack %s: being created, which takes a minute or two\n", plainText(b.stack))
	outputs, err := b.cli.createStack(ctx, b.stack, b.protocol)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(b.console.out, "stack %s: created\n", plainText(b.stack))
	return outputs, nil
}

// planAgain plans what is to be carried out. names are as of changeLines.
func (b *borrowing) planAgain(ctx context.Context, names []string) error {
	o, err := b.sameOptions()
	if err != nil {
		return err
	}
	quiet := &console{out: io.Discard, err: b.console.err}
	again, status := quiet.planAll(ctx, b.cli, b.names, b.cli.attaching(o))
	if status != 0 {
		return errors.New("nothing was attached")
	}
	if !slices.Equal(changeLines(b.changes, names), changeLines(again, nil)) {
		return errors.New("somebody else has changed a function meanwhile, so nothing was attached; run " +
			"this again")
	}
	b.changes = again
	return nil
}

// changeLines are the lines that show changes, with other names in them. names has each name and then what
// stands for it.
func changeLines(changes []*change, names []string) (lines []string) {
	replacer := strings.NewReplacer(names...)
	for _, c := range changes {
		for _, line := range c.diff() {
			lines = append(lines, c.name+replacer.Replace(line))
		}
	}
	return lines
}

// createStack makes the stack of `live-lambda template` and returns its outputs.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html
func (a awsCLI) createStack(ctx context.Context, stack, protocol string) (map[string]string, error) {
	text := eventTemplate()
	if protocol == "graphql" {
		text = graphqlTemplate()
	}
	err := a.run(ctx, nil, []byte(text), "cloudformation", "create-stack", "--stack-name", stack,
		"--template-body", "file:///dev/stdin", "--capabilities", "CAPABILITY_IAM")
	if err == nil {
		err = a.run(ctx, nil, nil, "cloudformation", "wait", "stack-create-complete", "--stack-name", stack)
	}
	if err != nil {
		return nil, fmt.Errorf("create the stack %s: %w", plainText(stack), err)
	}
	return stackOutputs(ctx, stack, a)
}

// lookup reads the settings of a local end that is to serve the functions: where their events go, and all
// keys. given are the keys that are set here.
func (b *borrowing) lookup(given []string) func(name string) string {
	first := b.changes[0].variables
	keys := slices.Clone(given)
	for _, c := range b.changes {
		key := c.variables[keyVariable]
		if key != "" {
			keys = append(keys, key)
		}
	}
	return func(name string) string {
		switch {
		case name == keyVariable:
			return strings.Join(keys, ",")
		case slices.Contains(places(), name):
			return first[name]
		}
		return b.getenv(name)
	}
}

// functions are the functions' names.
func (b *borrowing) functions() (names []string) {
	for _, c := range b.changes {
		names = append(names, c.before.FunctionName)
	}
	return names
}

// keep renews the end of the attachments until ctx is done. note writes a line of local's.
func (b *borrowing) keep(ctx context.Context, note func(format string, args ...any)) {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	told := ""
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		due := b.until.Add(renewAfter - borrowLife)
		if time.Now().Round(0).Before(due.Round(0)) {
			continue
		}
		problem := b.renew(ctx, time.Now())
		if problem != "" && problem != told && ctx.Err() == nil {
			note("the attachment is not renewed, and ends at %s: %s", timeText(b.until), problem)
		}
		told = problem
	}
}

// renew attaches the functions again with a later end. It returns what went wrong, if something did.
func (b *borrowing) renew(ctx context.Context, now time.Time) (problem string) {
	earlier := b.until
	o, err := b.options(now)
	if err != nil {
		b.until = earlier
		return err.Error()
	}
	o.attachPolicy = false // it is there, and remembered
	var said strings.Builder
	quiet := &console{out: io.Discard, err: &said}
	renewing := b.cli.renewing(o)
	changes, status := quiet.planAll(ctx, b.cli, b.names, renewing)
	status = max(status, quiet.carryOutAll(ctx, b.cli, changes, renewing, "renewed"))
	if status != 0 {
		b.until = earlier
	}
	return strings.TrimSpace(strings.ReplaceAll(said.String(), "\n", "; "))
}

// giveBack takes back what attach has done. It returns the functions of which that failed, or was not begun
// before ctx ended. The status is 1 if something is not as before, else 0.
func (b *borrowing) giveBack(ctx context.Context) (left []string, status int) {
	if b.file == nil {
		return nil, 0
	}
	defer b.file.Close()
	sure := true
	for i, c := range b.changes {
		if ctx.Err() != nil {
			left = append(left, b.functions()[i:]...)
			break
		}
		way, err := b.giveBackOne(ctx, c.name)
		switch {
		case err == nil:
			sure = sure && (way == nil || way.updated || !b.cut)
		case way == nil || !way.updated:
			left = append(left, c.before.FunctionName)
		}
		if err != nil {
			fmt.Fprintf(b.console.err, "%s: %v\n", c.name, err)
			status = 1
		}
	}
	if len(left) > 0 {
		return left, 1
	}
	if sure { // else the next command looks once more
		b.record.forget()
	}
	return nil, status
}

// giveBackOne takes back what attach has done to one function. It returns the change that this took, nil if
// the function is there no more, or is not known to be.
func (b *borrowing) giveBackOne(ctx context.Context, name string) (*change, error) {
	cli := b.cli
	cli.grace = time.Second // this program is to end
	p := returning(b.local)
	way, err := cli.plan(ctx, name, p)
	if hasCode(err, "ResourceNotFoundException") {
		fmt.Fprintf(b.console.out, "%s: it is there no more\n", name)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	changes := !way.configured() || way.revoke != nil
	err = cli.carryOut(ctx, way, p)
	if err == nil && changes {
		fmt.Fprintf(b.console.out, "%s: as before\n", name)
	}
	return way, err
}
