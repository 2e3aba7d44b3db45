//go:build !layer

package main

// aws_change.go is what is to become of functions. In: their configurations, and a planner, which is attach's
// or detach's. Out: what will change, for the developer to confirm, and updates.
//
// A function changes in one call, which also writes what detach needs to know. So nothing is left halfway,
// whatever interrupts it, and an interrupt may end the program at once. No value of a function's variable is
// ever printed unless attach may set it, and none stands on a command line of `aws`, where other users of the
// machine could read it.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// change is what is to become of one function.
type change struct {
	name      string // as the developer gave it
	before    functionConfig
	layers    []string          // ARNs, as they are to be
	variables map[string]string // as they are to be
	grant     *rolePolicy       // to put on a role, nil for none
	revoke    *rolePolicy       // to take off unless another function needs it, nil for none
	notes     []string          // what the developer is told besides
	updated   bool              // the function has taken it
}

// newChange returns a change that begins with what is there.
func newChange(name string, f functionConfig) *change {
	c := &change{
		name:      name,
		before:    f,
		layers:    f.layers(),
		variables: maps.Clone(f.Environment.Variables),
	}
	if c.variables == nil {
		c.variables = map[string]string{}
	}
	return c
}

func (c *change) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// configured reports whether the function's configuration is already what it is to be.
func (c *change) configured() bool {
	return slices.Equal(c.layers, c.before.layers()) &&
		maps.Equal(c.variables, c.before.Environment.Variables)
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

// changeAll plans, shows, asks and carries out what is to become of several functions. It returns the exit
// status. done is what is said of a function that is done.
func (t *console) changeAll(
	ctx context.Context, a awsCLI, names []string, yes bool, p planner, done string,
) int {
	changes, status := t.planAll(ctx, a, names, p)
	if len(changes) == 0 {
		return status
	}
	if !yes && !t.confirm(len(changes)) {
		return 1
	}
	return max(status, t.carryOutAll(ctx, a, changes, p, done))
}

// carryOutAll carries out what planAll has planned with the same planner. One that fails does not keep the
// others from being done. The status is 1 if one has failed, else 0.
func (t *console) carryOutAll(
	ctx context.Context, a awsCLI, changes []*change, p planner, done string,
) (status int) {
	for _, c := range changes {
		if ctx.Err() != nil { // what was interrupted has said so
			return 1
		}
		if err := a.carryOut(ctx, c, p); err != nil {
			fmt.Fprintf(t.err, "%s: %v\n", c.name, err)
			status = 1
			continue
		}
		fmt.Fprintf(t.out, "%s: %s\n", c.name, done)
	}
	return status
}

// planAll plans and shows, and returns the changes that are to be carried out. The status is 1 if a plan has
// failed, else 0.
func (t *console) planAll(
	ctx context.Context, a awsCLI, names []string, p planner,
) (changes []*change, status int) {
	seen := map[string]bool{}
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		c, err := a.plan(ctx, name, p)
		if err != nil {
			fmt.Fprintf(t.err, "%s: %v\n", name, err)
			status = 1
			continue
		}
		arn := cmp.Or(c.before.FunctionArn, name)
		if seen[arn] && arn != name { // it has been named otherwise before
			continue
		}
		seen[arn] = true
		diff := c.diff()
		t.show(c, diff)
		if len(diff) > 0 {
			changes = append(changes, c)
		}
	}
	return changes, status
}

// show prints what will change of one function, and the notes.
func (t *console) show(c *change, diff []string) {
	if len(diff) == 0 {
		fmt.Fprintf(t.out, "%s: nothing to change\n", c.name)
	} else {
		fmt.Fprintf(t.out, "%s (%s)\n", c.name, c.before.kind())
	}
	for _, line := range diff {
		fmt.Fprintln(t.out, "  "+plainText(line))
	}
	for _, note := range c.notes {
		fmt.Fprintln(t.out, "  note: "+plainText(note))
	}
}

// diff says line by line what will change.
func (c *change) diff() []string {
	return slices.Concat(c.layerLines(), c.variableLines(), c.policyLines())
}

func (c *change) layerLines() (lines []string) {
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
	return lines
}

// variableLines are in the order of the names. They show values only of what attach may set.
func (c *change) variableLines() (lines []string) {
	old := c.before.Environment.Variables
	all := maps.Clone(c.variables)
	maps.Copy(all, old)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		before, had := old[name]
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
	return lines
}

func (c *change) policyLines() (lines []string) {
	if c.grant != nil {
		lines = append(lines, "+ policy "+c.grant.policy+" on role "+c.grant.role)
	}
	if c.revoke != nil {
		lines = append(lines, "- policy "+c.revoke.policy+" on role "+c.revoke.role+
			", unless another attached function has the role")
	}
	return lines
}

// shownValue is what to show of a variable's new value, behind its name.
func shownValue(name, value string) string {
	switch {
	case name == memoryVariable:
		return " (what detach restores)"
	case name == furtherVariable:
		return " (the wrapper that was there)"
	case name == wrapperVariable && value != wrapperPath:
		return " (as it was)"
	case name == wrapperVariable:
		return fmt.Sprintf("=%q", value)
	case name == apiKeyVariable || name == keyVariable || !ownVariable(name):
		return " (not shown)"
	}
	return fmt.Sprintf("=%q", value)
}

// confirm asks whether to go ahead with the changes of so many functions.
func (t *console) confirm(functions int) bool {
	return t.ask("Change " + theseFunctions(functions) + "?")
}

// theseFunctions is what the functions that have been shown are called.
func theseFunctions(n int) string {
	if n > 1 {
		return fmt.Sprintf("these %d functions", n)
	}
	return "this function"
}

// ask asks a question that "yes" answers, and says if nothing is changed.
func (t *console) ask(question string) bool {
	if !t.asks {
		fmt.Fprintln(
			t.err, "nothing was changed: standard input is not a terminal to ask on; --yes goes ahead")
		return false
	}
	fmt.Fprint(t.out, question+" [y/N] ")
	switch strings.ToLower(strings.TrimSpace(t.readLine())) {
	case "y", "yes":
		return true
	}
	fmt.Fprintln(t.err, "nothing was changed")
	return false
}

// readLine reads no more than one line, for there may be another question. The end of input ends it too.
func (t *console) readLine() string {
	var line []byte
	var char [1]byte
	for {
		n, err := t.in.Read(char[:])
		if n == 0 && err == nil {
			continue
		}
		if err != nil || char[0] == '\n' {
			return string(line)
		}
		line = append(line, char[0])
	}
}

// carryOut makes one change. A policy is put on a role after the update, and taken off before it: so the
// function remembers the policy for as long as it may be there.
func (a awsCLI) carryOut(ctx context.Context, c *change, p planner) error {
	var revokeErr error
	if c.revoke != nil {
		revokeErr = a.revoke(ctx, c)
	}
	if err := a.update(ctx, c, p); err != nil {
		return err
	}
	if c.grant != nil {
		if err := a.putOn(ctx, *c.grant); err != nil {
			return fmt.Errorf("attached, but its role cannot reach AppSync: %w", err)
		}
	}
	return revokeErr
}

// update changes the function's configuration. If somebody else has changed it since it was read, it is
// planned anew. If that makes the same change, it is carried out; if not, the developer has not confirmed it.
func (a awsCLI) update(ctx context.Context, c *change, p planner) error {
	for range maxUpdates {
		if c.configured() {
			return nil
		}
		err := a.setConfiguration(ctx, c.name, c.before.RevisionID, c.layers, c.variables)
		if err == nil {
			c.updated = true
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
