//go:build !layer

package main

// aws_policy.go puts the stack's policy on the roles of functions, and takes it off again when no attached
// function needs it. A role may be the role of several functions, each of which is attached and detached by
// itself. What attach has put on a role, each function that is attached with the policy remembers; the last
// one takes it off.

import (
	"context"
	"fmt"
	"slices"
)

// rolePolicy is a policy on a role.
type rolePolicy struct {
	role   string // name
	policy string // ARN
}

// grant plans the policy on the function's role, and what now remembers of it. A policy that is already there
// is remembered only if attach has brought it, for this function or another one; else it stays after detach.
func (a awsCLI) grant(ctx context.Context, c *change, now *attachment, want rolePolicy) error {
	old := now.granted()
	if old.policy != "" && old != want {
		c.revoke = &old
		now.remember(rolePolicy{})
	}
	there, err := a.roleHas(ctx, want)
	if err != nil {
		return err
	}
	if !there {
		c.grant = &want
		now.remember(want)
		return nil
	}
	if now.granted() == want {
		return nil
	}
	others, err := a.sharing(ctx, want, c.before.FunctionName)
	if err != nil {
		return err
	}
	if anyRemembers(others) {
		now.remember(want)
	}
	return nil
}

// roleHas reports whether a policy is on a role.
func (a awsCLI) roleHas(ctx context.Context, p rolePolicy) (bool, error) {
	var list struct{ AttachedPolicies []struct{ PolicyArn string } }
	err := a.run(ctx, &list, nil, "iam", "list-attached-role-policies", "--role-name", p.role)
	if err != nil {
		return false, err
	}
	for _, there := range list.AttachedPolicies {
		if there.PolicyArn == p.policy {
			return true, nil
		}
	}
	return false, nil
}

// putOn puts a policy on its role.
func (a awsCLI) putOn(ctx context.Context, p rolePolicy) error {
	return a.run(
		ctx, nil, nil, "iam", "attach-role-policy", "--role-name", p.role, "--policy-arn", p.policy)
}

// revoke takes off the policy that attach has brought, unless another attached function needs it. If the
// policy has gone already, that is as good.
func (a awsCLI) revoke(ctx context.Context, c *change) error {
	err := a.takeOff(ctx, *c.revoke, c.before.FunctionName)
	if err == nil || hasCode(err, "NoSuchEntity") {
		return nil
	}
	return fmt.Errorf("the policy stays on its role: %w; take it off later with `aws iam "+
		"detach-role-policy --role-name %s --policy-arn %s`", err, c.revoke.role, c.revoke.policy)
}

// takeOff takes a policy off its role, unless a function other than the named one needs it.
func (a awsCLI) takeOff(ctx context.Context, p rolePolicy, function string) error {
	others, err := a.sharing(ctx, p, function)
	if err != nil {
		return err
	}
	if anyRemembers(others) {
		return nil // detaching that function takes it off
	}
	if len(others) > 0 {
		return fmt.Errorf("%s, attached without --attach-policy, needs it", others[0].name)
	}
	return a.run(
		ctx, nil, nil, "iam", "detach-role-policy", "--role-name", p.role, "--policy-arn", p.policy)
}

// sharer is another attached function that has the same role.
type sharer struct {
	name      string
	remembers bool // that attach has put the policy on the role
}

func anyRemembers(others []sharer) bool {
	return slices.ContainsFunc(others, func(s sharer) bool { return s.remembers })
}

// sharing returns the attached functions of the region that have a policy's role, but for one.
func (a awsCLI) sharing(ctx context.Context, p rolePolicy, except string) ([]sharer, error) {
	carriers, err := a.carriers(ctx)
	if err != nil {
		return nil, err
	}
	var others []sharer
	for _, f := range carriers {
		if f.FunctionName == except || f.roleName() != p.role {
			continue
		}
		attached, err := readAttachment(f.Environment.Variables)
		if attached == nil && err == nil {
			continue // by other means than attach
		}
		remembers := err == nil && attached.granted() == p
		others = append(others, sharer{name: f.FunctionName, remembers: remembers})
	}
	return others, nil
}

// rolesWith returns the names of the roles that a policy is on, nil if they are not known.
func (a awsCLI) rolesWith(ctx context.Context, policy string) ([]string, error) {
	var list struct{ PolicyRoles []struct{ RoleName string } }
	err := a.run(ctx, &list, nil, "iam", "list-entities-for-policy", "--policy-arn", policy,
		"--entity-filter", "Role")
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, role := range list.PolicyRoles {
		names = append(names, role.RoleName)
	}
	return names, nil
}
