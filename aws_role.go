//go:build !layer

package main

// aws_role.go takes the credentials of a function's role from STS. In: a function's name. Out: variables that
// AWS SDKs read, or what to add to the role's trust policy. No error holds a credential.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// roleOf takes the credentials of a function's role, and says when they expire.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func (a awsCLI) roleOf(ctx context.Context, name string) (map[string]string, time.Time, error) {
	err := checkName(name)
	if err != nil {
		return nil, time.Time{}, err
	}
	f, err := a.configuration(ctx, name)
	if err != nil {
		return nil, time.Time{}, err
	}
	var out struct {
		Credentials struct {
			AccessKeyID     string `json:"AccessKeyId"`
			SecretAccessKey string
			SessionToken    string
			Expiration      time.Time
		}
	}
	err = a.run(ctx, &out, nil, "sts", "assume-role", "--role-arn", f.Role, "--role-session-name",
		sessionName())
	if hasCode(err, "AccessDenied") {
		err = fmt.Errorf("%w; %s", err, a.trustAdvice(ctx, f.Role))
	}
	keys := out.Credentials
	if err == nil && (keys.AccessKeyID == "" || keys.Expiration.IsZero()) {
		err = errors.New("aws sts assume-role printed no credentials; run it by hand to see why")
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	return map[string]string{
		"AWS_ACCESS_KEY_ID":     keys.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY": keys.SecretAccessKey,
		"AWS_SESSION_TOKEN":     keys.SessionToken,
	}, keys.Expiration, nil
}

var notInSessionName = regexp.MustCompile(`[^\w+=,.@-]`)

// sessionName tells in the account's CloudTrail who has assumed a role: 2 to 64 of some characters.
func sessionName() string {
	name := notInSessionName.ReplaceAllString("live-lambda-"+userAtHost(), "-")
	return name[:min(len(name), 64)]
}

// trustAdvice says what a role's trust policy lacks, for who asked.
func (a awsCLI) trustAdvice(ctx context.Context, role string) string {
	var caller struct{ Arn string }
	err := a.run(ctx, &caller, nil, "sts", "get-caller-identity")
	if err != nil || caller.Arn == "" {
		return "the role's trust policy must allow you sts:AssumeRole"
	}
	text, _ := json.Marshal(trustStatement(caller.Arn)) // strings always marshal
	return fmt.Sprintf("add to the trust policy of role %s: %s", plainText(role[strings.LastIndexByte(role,
		'/')+1:]), plainText(string(text)))
}

// statement is one of a role's trust policy.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
type statement struct {
	Effect    string
	Action    string
	Principal map[string]string
	Condition map[string]map[string]string `json:",omitempty"`
}

// assumedRole finds the account and the role in the ARN of a session.
var assumedRole = regexp.MustCompile(`^arn:([^:]+):sts::(\d+):assumed-role/([^/]+)/`)

// trustStatement lets the caller of that ARN assume a role. What is in force is the role of a session, whose
// ARN says all but the role's path: so the account is trusted, for that role's name alone.
func trustStatement(caller string) statement {
	s := statement{Effect: "Allow", Action: "sts:AssumeRole", Principal: map[string]string{"AWS": caller}}
	m := assumedRole.FindStringSubmatch(caller)
	if m == nil {
		return s
	}
	account := "arn:" + m[1] + ":iam::" + m[2]
	s.Principal["AWS"] = account + ":root"
	s.Condition = map[string]map[string]string{
		"ArnLike": {"aws:PrincipalArn": account + ":role*/" + m[3]},
	}
	return s
}
