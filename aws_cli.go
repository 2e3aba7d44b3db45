//go:build !layer

package main

// aws_cli.go is the one way to the AWS CLI: it runs `aws`, reads its errors, and takes from it the
// developer's credentials and the outputs of a stack.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// developerCredentials returns the developer's AWS credentials as they are now: those in the environment,
// unless a profile is asked for, else the AWS CLI's, which knows profiles, SSO and the rest.
// https://docs.aws.amazon.com/cli/latest/reference/configure/export-credentials.html
func developerCredentials(profile string, transport http.RoundTripper) func(context.Context) (
	credentials, error) {
	cli := &cliCredentials{profile: profile}
	return func(ctx context.Context) (credentials, error) {
		if profile == "" &&
			(os.Getenv("AWS_ACCESS_KEY_ID") != "" || os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != "") {
			return roleCredentials(environmentRole(), transport)(ctx)
		}
		return cli.get(ctx)
	}
}

// environmentRole is the role that the environment names now.
func environmentRole() role {
	return role{
		accessKeyID:     os.Getenv("AWS_ACCESS_KEY_ID"),
		secretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
		sessionToken:    os.Getenv("AWS_SESSION_TOKEN"),
		containerURI:    os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
		containerToken:  os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
	}
}

// cliCredentials are those of `aws configure export-credentials`, kept until shortly before they expire.
type cliCredentials struct {
	profile string

	mu      sync.Mutex
	keys    credentials
	err     error
	expires time.Time // of keys, zero where they do not say
	until   time.Time // when to ask again
}

const (
	refreshBefore = 5 * time.Minute  // credentials expire
	staticLife    = 15 * time.Minute // of credentials that do not say when they expire
	failureLife   = 5 * time.Second  // of a failure: the CLI takes its time
)

func (c *cliCredentials) get(ctx context.Context) (credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Before(c.until) {
		return c.keys, c.err
	}
	keys, expires, err := c.export(ctx)
	switch {
	case ctx.Err() != nil:
		return keys, context.Cause(ctx)
	case err != nil && now.Before(c.expires): // those at hand will do for now
		c.until = now.Add(failureLife)
		return c.keys, nil
	case err != nil:
		c.until = now.Add(failureLife)
	case expires.IsZero():
		c.until = now.Add(staticLife)
	default:
		c.until = later(expires.Add(-refreshBefore), now.Add(failureLife))
	}
	c.keys, c.expires, c.err = keys, expires, err
	return c.keys, c.err
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// export asks the AWS CLI.
func (c *cliCredentials) export(ctx context.Context) (keys credentials, expires time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	args := []string{"configure", "export-credentials", "--format", "process"}
	login := "aws sso login"
	if profile := cmp.Or(c.profile, os.Getenv("AWS_PROFILE")); profile != "" {
		args = append(args, "--profile", profile)
		login += " --profile " + profile
	}
	command := exec.CommandContext(ctx, "aws", args...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	command.WaitDelay = time.Second
	err = command.Run()
	said := firstLine(strings.TrimSpace(stderr.String()))
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return keys, expires,
			errors.New("neither AWS_ACCESS_KEY_ID nor the AWS CLI is there; set the one or install the other")
	case err != nil && strings.Contains(strings.ToUpper(stderr.String()), "SSO"):
		return keys, expires, fmt.Errorf("the SSO session has expired: run %s (aws says %q)", login, said)
	// version 1 has no such command, and says so in passing
	case err != nil && strings.Contains(stderr.String(), "AWS CLI version 2"):
		return keys, expires,
			errors.New("the AWS CLI is version 1, which cannot export credentials: install version 2, or " +
				"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	case err != nil:
		return keys, expires,
			fmt.Errorf("aws configure export-credentials: %w, %q; run aws configure or %s", err, said, login)
	}
	var out struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      time.Time
	}
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil || out.AccessKeyID == "" {
		return keys, expires, errors.New("aws configure export-credentials printed no credentials")
	}
	return credentials{out.AccessKeyID, out.SecretAccessKey, out.SessionToken}, out.Expiration, nil
}

// credentialsSource says where developerCredentials takes them from.
func credentialsSource(profile string) string {
	switch {
	case profile == "" && os.Getenv("AWS_ACCESS_KEY_ID") != "":
		return "the environment (AWS_ACCESS_KEY_ID)"
	case profile == "" && os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != "":
		return "the container's endpoint (AWS_CONTAINER_CREDENTIALS_FULL_URI)"
	}
	return fmt.Sprintf("the AWS CLI, profile %q", cmp.Or(profile, os.Getenv("AWS_PROFILE"), "default"))
}

// awsCLI runs the AWS CLI, of version 1 or 2.
type awsCLI struct{ profile string }

// awsError is why a command of the AWS CLI failed. code is the service's, if it was the service.
type awsError struct{ command, code, message string }

func (e *awsError) Error() string {
	return fmt.Sprintf("aws %s: %s", e.command, strings.TrimPrefix(e.code+": "+e.message, ": "))
}

func hasCode(err error, codes ...string) bool {
	var e *awsError
	return errors.As(err, &e) && slices.Contains(codes, e.code)
}

// run runs one command with stdin as its standard input, and decodes what it prints into out unless that is
// nil.
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-envvars.html
func (a awsCLI) run(ctx context.Context, out any, stdin []byte, args ...string) error {
	name := strings.Join(args[:2], " ")
	args = append(args, "--output", "json")
	if a.profile != "" {
		args = append(args, "--profile", a.profile)
	}
	command := exec.CommandContext(ctx, "aws", args...)
	command.Env = append(
		os.Environ(), "AWS_PAGER=", "AWS_CLI_AUTO_PROMPT=off", "AWS_CLI_OUTPUT_ENCODING=UTF-8",
		"PYTHONUTF8=1")
	var stdout, stderr bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 5 * time.Second
	err := command.Run()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("aws %s: interrupted", name)
	case errors.Is(err, exec.ErrNotFound):
		return errors.New(
			"the AWS CLI is not on PATH: https://docs.aws.amazon.com/cli/latest/userguide/" +
				"getting-started-install.html")
	case err != nil:
		return newAWSError(name, stderr.String(), err)
	case out == nil:
		return nil
	case !utf8.Valid(stdout.Bytes()): // what is not understood must not be written back
		return fmt.Errorf("aws %s: what it printed is not UTF-8; set PYTHONUTF8=1 or a UTF-8 locale", name)
	}
	if err := json.Unmarshal(stdout.Bytes(), out); err != nil {
		return fmt.Errorf("aws %s: what it printed is not the JSON that was expected", name)
	}
	return nil
}

var serviceError = regexp.MustCompile(
	`An error occurred \((\w+)\) when calling the \w+ operation(?: \(reached max retries: \d+\))?: ([^\n]*)`)

// newAWSError reads what the CLI says on standard error. Lambda quotes all variables where they are too
// large: that is cut off.
func newAWSError(command, stderr string, err error) error {
	stderr = strings.TrimSpace(stderr)
	e := &awsError{command: command, message: stderr[strings.LastIndexByte(stderr, '\n')+1:]}
	if m := serviceError.FindStringSubmatch(stderr); m != nil {
		e.code, e.message = m[1], m[2]
	}
	e.message, _, _ = strings.Cut(e.message, "String measured")
	e.message = strings.TrimSpace(cmp.Or(e.message, err.Error()))
	e.message = plainText(clip(e.message, 500))
	return e
}

// stackGetenv returns getenv with the outputs of a stack for what is not set. Where getenv has another host
// than the stack's, the stack's API is not the one that is meant, and nothing of it is taken.
func stackGetenv(ctx context.Context, stack, profile string, getenv func(string) string) (
	func(string) string, error) {
	var described struct {
		Stacks []struct {
			StackStatus string
			Outputs     []struct{ OutputKey, OutputValue string }
		}
	}
	err := awsCLI{
		profile}.run(ctx, &described, nil, "cloudformation", "describe-stacks", "--stack-name", stack)
	if err != nil {
		return nil, fmt.Errorf("read the outputs of stack %q: %w", stack, err)
	}
	outputs := map[string]string{}
	status := "not described"
	for _, s := range described.Stacks {
		status = s.StackStatus
		for _, o := range s.Outputs {
			outputs[variableOf(o.OutputKey)] = o.OutputValue
		}
	}
	if outputs[hostVariable] == "" {
		return nil, fmt.Errorf(
			"stack %q (%s) has no output LiveLambdaAppsyncHttpHost; "+
				"deploy what `live-lambda template` prints",
			stack, status)
	}
	host := getenv(hostVariable)
	return func(name string) string {
		if value := getenv(name); value != "" || host != "" && host != outputs[hostVariable] {
			return value
		}
		return outputs[name]
	}, nil
}

var upperCase = regexp.MustCompile(`\B[A-Z]`)

// variableOf is the variable that an output is for: LiveLambdaStage becomes LIVE_LAMBDA_STAGE. Outputs are
// named with letters and digits only.
func variableOf(output string) string {
	return strings.ToUpper(upperCase.ReplaceAllString(output, "_$0"))
}
