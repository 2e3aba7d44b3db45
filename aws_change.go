//go:build !layer

package main

// aws_change.go is what is to become of functions. In: their configurations, and a planner. Out: what will
// change, for the developer to confirm, and updates.
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
)

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
