//go:build !layer

package main

// aws_policy.go puts the stack's policy on the roles of functions, and takes it off again when no attached
// function needs it.

import (
	"context"
	"fmt"
)

type rolePolicy struct{ role, policy string }

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
