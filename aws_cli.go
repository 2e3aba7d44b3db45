//go:build !layer

package main

// aws_cli.go is the one way to the AWS CLI: it runs `aws`, says what its errors mean, and takes from it the
// developer's credentials and the outputs of a stack. No error holds anything secret.

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

// ---- running it ----

// awsCLI runs the AWS CLI. Version 1 will do for what is asked of it here, but for credentials.
type awsCLI struct {
	profile string        // of its configuration; empty: the one that the environment names, or its default
	region  string        // empty: the one of the environment or the profile
	grace   time.Duration // between an interrupt and its end; 0: usualGrace
	once    bool          // nothing is repeated, because it must not happen twice
}

// usualGrace is long enough for an update that is under way to be answered.
const usualGrace = 5 * time.Second

// awsError is what the AWS CLI said about a command that failed.
type awsError struct {
	command string // its first two words
	code    string // of the service's error, empty if no service refused
	message string
}

func (e *awsError) Error() string {
	if e.code == "" {
		return fmt.Sprintf("aws %s: %s", e.command, e.message)
	}
	return fmt.Sprintf("aws %s: %s: %s", e.command, e.code, e.message)
}

// hasCode reports whether a service refused a command with one of these codes.
func hasCode(err error, codes ...string) bool {
	var e *awsError
	return errors.As(err, &e) && slices.Contains(codes, e.code)
}

var (
	errNoCLI = errors.New("the AWS CLI is not on PATH: " +
		"https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html")
	errOldCLI = errors.New(
		"the AWS CLI is version 1, which does not know this command: install version 2")
)

// run runs one command with stdin as its standard input, and decodes what it prints into out unless that is
// nil.
func (a awsCLI) run(ctx context.Context, out any, stdin []byte, args ...string) error {
	printed, err := a.output(ctx, stdin, append(slices.Clone(args), "--output", "json")...)
	if err != nil || out == nil {
		return err
	}
	// json.Unmarshal would replace bytes that are not UTF-8, and what is read here is written back later
	if !utf8.Valid(printed) {
		return fmt.Errorf("aws %s: what it printed is not UTF-8; set PYTHONUTF8=1 or a UTF-8 locale",
			commandName(args))
	}
	if err := json.Unmarshal(printed, out); err != nil {
		return fmt.Errorf("aws %s: what it printed is not the JSON that was expected", commandName(args))
	}
	return nil
}

// output runs one command with stdin as its standard input, and returns what it prints. Nothing else in this
// program starts `aws`, which repeats by itself what a service throttles. If ctx ends, the command is
// interrupted, as by Ctrl-C, and soon after killed.
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-envvars.html
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-retries.html
func (a awsCLI) output(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	name := commandName(args)
	if a.profile != "" {
		args = append(slices.Clone(args), "--profile", a.profile)
	}
	if a.region != "" {
		args = append(slices.Clone(args), "--region", a.region)
	}
	endpoint := commonEndpoint()
	if endpoint != "" {
		args = append(slices.Clone(args), "--endpoint-url", endpoint)
	}
	command := exec.CommandContext(ctx, "aws", args...)
	usual := []string{}
	region := os.Getenv("AWS_REGION")
	if region != "" {
		usual = []string{"AWS_DEFAULT_REGION=" + region} // version 1 does not know AWS_REGION
	}
	command.Env = slices.Concat(
		usual,
		[]string{"AWS_RETRY_MODE=standard", "AWS_MAX_ATTEMPTS=10"}, // unless the environment has others
		os.Environ(),
		[]string{"AWS_PAGER=", "AWS_CLI_AUTO_PROMPT=off", "AWS_CLI_OUTPUT_ENCODING=UTF-8", "PYTHONUTF8=1"})
	if a.once {
		command.Env = append(command.Env, "AWS_MAX_ATTEMPTS=1")
	}
	var stdout, stderr bytes.Buffer
	command.Stdin = bytes.NewReader(stdin)
	command.Stdout = &stdout
	command.Stderr = &stderr
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = cmp.Or(a.grace, usualGrace)
	err := command.Run()
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf(
			"aws %s: it took too long and was ended; run it by hand to see why", name)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("aws %s: interrupted", name)
	}
	return nil, a.failure(name, stderr.String(), err)
}

// commonEndpoint is where all services are, if the environment says so. The AWS CLI itself knows the variable
// from 1.29 and 2.13 on: an earlier one would call AWS. One of a service's own wins, which it knows as well.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
func commonEndpoint() string {
	for _, variable := range os.Environ() {
		if strings.HasPrefix(variable, "AWS_ENDPOINT_URL_") ||
			variable == "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true" {
			return ""
		}
	}
	return os.Getenv("AWS_ENDPOINT_URL")
}

// commandName is how errors name a command: its first two words, for what follows them is long.
func commandName(args []string) string { return strings.Join(args[:2], " ") }

// Version 1 prints this beside its usage when it does not know a command.
const oldCLINote = "Note: AWS CLI version 2"

// expiredSSO finds what the AWS CLI says if it has no token of AWS IAM Identity Center, or one that has
// expired. https://github.com/boto/botocore/blob/develop/botocore/exceptions.py
var expiredSSO = regexp.MustCompile(
	`(?i)loading SSO token|SSO session associated with|SSO token has expired|token from sso:`)

// failure says why a command failed: what the AWS CLI said on standard error and, if known, what to do.
func (a awsCLI) failure(command, stderr string, err error) error {
	said := newAWSError(command, stderr, err)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return errNoCLI
	case said.code != "":
		return said
	case strings.Contains(stderr, oldCLINote):
		return fmt.Errorf("aws %s: %w", command, errOldCLI)
	case expiredSSO.MatchString(stderr):
		return fmt.Errorf(
			"aws %s: the SSO session has expired: run %s (aws says %q)", command, a.login(), said.message)
	}
	return said
}

// login is the command that begins a session of AWS IAM Identity Center.
func (a awsCLI) login() string {
	if a.profile == "" {
		return "aws sso login"
	}
	return "aws sso login --profile " + a.profile
}

var serviceError = regexp.MustCompile(
	`An error occurred \((\w+)\) when calling the \w+ operation(?: \(reached max retries: \d+\))?: ([^\n]*)`)

// newAWSError reads what the AWS CLI said on standard error: a service's error or, behind warnings and the
// like, the last line. err is why the command failed if it said nothing.
func newAWSError(command, stderr string, err error) *awsError {
	stderr = strings.TrimSpace(stderr)
	e := &awsError{command: command, message: stderr[strings.LastIndexByte(stderr, '\n')+1:]}
	m := serviceError.FindStringSubmatch(stderr)
	if m != nil {
		e.code = m[1]
		e.message = m[2]
	}
	// Lambda quotes all variables, secrets included, behind these words if they are too large
	e.message, _, _ = strings.Cut(e.message, "String measured")
	e.message = strings.TrimSpace(e.message)
	if e.message == "" {
		e.message = err.Error()
	}
	e.message = plainText(clip(e.message, 500))
	return e
}

// ---- credentials ----

// developerCredentials returns what tells the developer's AWS credentials as they are now: those in the
// environment, unless a profile is asked for, else the AWS CLI's, which knows profiles, SSO and the rest.
func developerCredentials(profile string, transport http.RoundTripper) currentCredentials {
	cli := &cliCredentials{profile: profile}
	return func(ctx context.Context) (credentials, error) {
		named := os.Getenv("AWS_ACCESS_KEY_ID") != "" ||
			os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != ""
		if profile == "" && named {
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

const (
	refreshBefore = 5 * time.Minute  // credentials are asked for again so long before they expire
	staticLife    = 15 * time.Minute // how long credentials are kept that do not say when they expire
	failureLife   = 5 * time.Second  // how long a failure is kept: the AWS CLI takes its time
)

// cliCredentials are those of `aws configure export-credentials`, kept until shortly before they expire.
type cliCredentials struct {
	profile string

	mu      sync.Mutex // held while the AWS CLI is asked; guards the following
	keys    credentials
	expires time.Time // when keys do, zero if they do not say
	err     error     // why there are no keys
	until   time.Time // when to ask again
}

// get returns the credentials that are at hand, or asks the AWS CLI.
func (c *cliCredentials) get(ctx context.Context) (credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Before(c.until) {
		return c.keys, c.err
	}
	keys, expires, err := c.export(ctx)
	if ctx.Err() != nil { // the caller has gone, which says nothing about the credentials
		return credentials{}, context.Cause(ctx)
	}
	c.until = now.Add(keptFor(now, expires, err))
	if err != nil && now.Before(c.expires) { // those at hand are still good
		return c.keys, nil
	}
	c.keys = keys
	c.expires = expires
	c.err = err
	return c.keys, c.err
}

// keptFor is how long an answer of the AWS CLI is kept.
func keptFor(now, expires time.Time, err error) time.Duration {
	switch {
	case err != nil:
		return failureLife
	case expires.IsZero():
		return staticLife
	}
	return max(expires.Sub(now)-refreshBefore, failureLife)
}

// export asks the AWS CLI.
// https://docs.aws.amazon.com/cli/latest/reference/configure/export-credentials.html
func (c *cliCredentials) export(ctx context.Context) (credentials, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	cli := awsCLI{profile: cmp.Or(c.profile, os.Getenv("AWS_PROFILE")), grace: time.Second}
	printed, err := cli.output(ctx, nil, "configure", "export-credentials", "--format", "process")
	if err != nil {
		return credentials{}, time.Time{}, c.advice(err, cli)
	}
	var out struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      time.Time
	}
	err = json.Unmarshal(printed, &out)
	if err != nil || out.AccessKeyID == "" { // the error may quote a key
		return credentials{}, time.Time{},
			errors.New("aws configure export-credentials printed no credentials; run it by hand to see why")
	}
	keys := credentials{
		accessKeyID:     out.AccessKeyID,
		secretAccessKey: out.SecretAccessKey,
		sessionToken:    out.SessionToken,
	}
	return keys, out.Expiration, nil
}

// advice adds to the AWS CLI's error what helps someone who needs credentials. The environment's own count
// only if no profile was asked for.
func (c *cliCredentials) advice(err error, cli awsCLI) error {
	var said *awsError
	switch {
	case c.profile == "" && errors.Is(err, errNoCLI):
		return fmt.Errorf("AWS_ACCESS_KEY_ID is not set, and %w", err)
	case c.profile == "" && errors.Is(err, errOldCLI):
		return fmt.Errorf("%w, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", err)
	case errors.As(err, &said):
		return fmt.Errorf("%w; run aws configure or %s", err, cli.login())
	}
	return err
}

// ---- stacks ----

// stackGetenv returns getenv, with the outputs of a stack for what is not set. If getenv has another host
// than the stack's, another API is meant than the stack's, and nothing is taken from the stack.
func stackGetenv(ctx context.Context, stack string, cli awsCLI, getenv func(string) string) (
	func(string) string, error) {
	outputs, err := stackOutputs(ctx, stack, cli)
	if err != nil {
		return nil, err
	}
	host := getenv(hostVariable)
	otherAPI := host != "" && host != outputs[hostVariable]
	return func(name string) string {
		value := getenv(name)
		if value != "" || otherAPI {
			return value
		}
		return outputs[name]
	}, nil
}

// stackOutputs are the outputs of a stack of `live-lambda template`, by the variables that they are for.
func stackOutputs(ctx context.Context, stack string, cli awsCLI) (map[string]string, error) {
	var described struct {
		Stacks []struct {
			StackStatus string
			Outputs     []struct{ OutputKey, OutputValue string }
		}
	}
	err := cli.run(ctx, &described, nil, "cloudformation", "describe-stacks", "--stack-name", stack)
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
	if outputs[hostVariable] == "" && status == "CREATE_IN_PROGRESS" {
		return nil, fmt.Errorf("stack %q is being created: try again in a minute", stack)
	}
	if outputs[hostVariable] == "" {
		return nil, fmt.Errorf(
			"stack %q (%s) has no output LiveLambdaAppsyncHttpHost; "+
				"deploy what `live-lambda template` prints", stack, status)
	}
	return outputs, nil
}

var upperCase = regexp.MustCompile(`\B[A-Z]`)

// variableOf is the variable that an output is for: LiveLambdaStage becomes LIVE_LAMBDA_STAGE. Outputs are
// named with letters and digits only.
func variableOf(output string) string {
	return strings.ToUpper(upperCase.ReplaceAllString(output, "_$0"))
}
