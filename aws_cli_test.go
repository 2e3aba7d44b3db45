//go:build !layer

package main

// aws_cli_test.go tests how `aws` is run: its errors, a stack's outputs, the developer's credentials.

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCredentialsSource(t *testing.T) {
	tests := []struct{ profile, env, key, uri, want string }{
		{env: "dev", key: "AKID", want: "the environment (AWS_ACCESS_KEY_ID)"},
		{key: "AKID", uri: "http://x", want: "the environment (AWS_ACCESS_KEY_ID)"},
		{uri: "http://x", want: "the container's endpoint (AWS_CONTAINER_CREDENTIALS_FULL_URI)"},
		{want: `the AWS CLI, profile "default"`},
		{env: "dev", want: `the AWS CLI, profile "dev"`},
		{profile: "me", env: "dev", key: "AKID", uri: "http://x", want: `the AWS CLI, profile "me"`},
	}
	for _, tt := range tests {
		t.Setenv("AWS_PROFILE", tt.env)
		t.Setenv("AWS_ACCESS_KEY_ID", tt.key)
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", tt.uri)
		if got := credentialsSource(tt.profile); got != tt.want {
			t.Errorf("%+v: got %s", tt, got)
		}
	}
}

func TestStackGetenv(t *testing.T) {
	f := newFakeAWS(t)
	f.stacks["dev"] =
		[]fakeOutput{{OutputKey: "LiveLambdaAppsyncHttpHost", OutputValue: "dev.example"},
			{OutputKey: "LiveLambdaAppsyncRealtimeHost", OutputValue: "rt.example"},
			{OutputKey: "LiveLambdaAppsyncRegion", OutputValue: "eu-west-1"},
			{OutputKey: "LiveLambdaStage", OutputValue: "blue"}, {OutputKey: "Unrelated", OutputValue: "x"}}
	f.stacks["other"] = []fakeOutput{{OutputKey: "BucketName", OutputValue: "b"}}
	const names = "LIVE_LAMBDA_APPSYNC_HTTP_HOST LIVE_LAMBDA_APPSYNC_REALTIME_HOST " +
		"LIVE_LAMBDA_APPSYNC_REGION LIVE_LAMBDA_STAGE UNRELATED HOME"
	tests := []struct {
		name  string
		stack string
		set   map[string]string
		want  string
	}{
		{name: "nothing is set", stack: "dev",
			want: `["dev.example" "rt.example" "eu-west-1" "blue" "x" ""]`},
		{name: "what is set wins", stack: "dev",
			set: map[string]string{
				"LIVE_LAMBDA_STAGE": "me", "LIVE_LAMBDA_APPSYNC_REGION": "us-east-1", "HOME": "/h"},
			want: `["dev.example" "rt.example" "us-east-1" "me" "x" "/h"]`},
		{name: "the same host", stack: "dev", set: map[string]string{hostVariable: "dev.example"},
			want: `["dev.example" "rt.example" "eu-west-1" "blue" "x" ""]`},
		{name: "another API", stack: "dev", set: map[string]string{hostVariable: "mine.example"},
			want: `["mine.example" "" "" "" "" ""]`},
		{name: "no such stack", stack: "nope",
			want: `read the outputs of stack "nope": aws cloudformation describe-stacks: ValidationError: ` +
				`Stack ` +
				`with id nope does not exist`},
		{name: "another stack", stack: "other",
			want: "stack \"other\" (CREATE_COMPLETE) has no output LiveLambdaAppsyncHttpHost; deploy what " +
				"`live-lambda template` prints"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.turn()
			getenv, err := stackGetenv(t.Context(), tt.stack, "me", func(name string) string {
				return tt.set[name]
			})
			var got string
			if err != nil {
				got = err.Error()
			} else {
				values := []string{}
				for _, name := range strings.Fields(names) {
					values = append(values, getenv(name))
				}
				got = fmt.Sprintf("%q", values)
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	f.turn()
	if call := f.calls[0].String(); call != "cloudformation describe-stacks --stack-name dev --output json "+
		"--profile me" {
		t.Errorf("called aws %s", call)
	}
}

func TestAWSErrors(t *testing.T) {
	t.Run("not installed", func(t *testing.T) {
		f := newFakeAWS(t)
		t.Setenv("PATH", t.TempDir())
		r := f.run("detach", "orders", "--yes")
		if r.status != 1 ||
			r.err != "orders: the AWS CLI is not on PATH: https://docs.aws.amazon.com/cli/latest/userguide/"+
				"getting-started-install.html\n" {
			t.Errorf("got %+v", r)
		}
	})
	tests := []struct{ name, out, err, want string }{
		{name: "expired",
			err: "\nThe SSO session associated with this profile has expired. To refresh this SSO session " +
				"run " +
				"aws sso login with the corresponding profile.\n",
			want: "aws lambda get-function-configuration: The SSO session associated with this profile has " +
				"expired. To refresh this SSO session run aws sso login with the corresponding profile."},
		{name: "a warning before it",
			err: "urllib3: warning\n\nAn error occurred (ExpiredTokenException) when calling the " +
				"GetFunctionConfiguration operation (reached max retries: 2): The security token included " +
				"in the request is expired\n",
			want: "aws lambda get-function-configuration: ExpiredTokenException: The security token " +
				"included in " +
				"the request is expired"},
		{name: "nothing", want: "aws lambda get-function-configuration: exit status 254"},
		{name: "long", err: strings.Repeat("x", 1000),
			want: "aws lambda get-function-configuration: " + strings.Repeat("x", 500)},
		{name: "all variables", err: "An error occurred (InvalidParameterValueException) when calling the " +
			"UpdateFunctionConfiguration operation: exceeded the 4KB limit. String measured: {\"A\":\"" +
			secretValue + "\"}",
			want: "aws lambda get-function-configuration: InvalidParameterValueException: exceeded the 4KB " +
				"limit."},
		{name: "not UTF-8", out: `{"FunctionName":"` + "\xfc" + `"}`,
			want: "aws lambda get-function-configuration: what it printed is not UTF-8; set PYTHONUTF8=1 " +
				"or a " +
				"UTF-8 locale"},
		{name: "not JSON", out: "FUNCTION orders",
			want: "aws lambda get-function-configuration: what it printed is not the JSON that was expected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", nil)
			f.canned = &fakeAnswer{out: tt.out, err: tt.err, status: map[bool]int{true: 254}[tt.out == ""]}
			r := f.run("detach", "orders", "--yes")
			if r != (result{status: 1, err: "orders: " + tt.want + "\n"}) {
				t.Errorf("got %+v, want %s", r, tt.want)
			}
		})
	}
}

func TestCLICredentials(t *testing.T) {
	directory := t.TempDir()
	script := filepath.Join(directory, "aws")
	answer := func(text string) {
		t.Helper()
		if err := os.WriteFile(
			script, []byte("#!/bin/sh\necho \"$*\" >>"+directory+"/calls\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", directory+":"+path)
	cli := &cliCredentials{profile: "dev"}
	get := func(want, wantError string) {
		t.Helper()
		c, err := cli.get(t.Context())
		if c.accessKeyID != want || (err == nil) != (wantError == "") ||
			err != nil && !strings.Contains(err.Error(), wantError) {
			t.Errorf("got %q and %v, want %q and %q", c.accessKeyID, err, want, wantError)
		}
	}
	keys := func(id, expires string) string {
		return `echo '{"Version":1,"AccessKeyId":"` + id + `","SecretAccessKey":"s","SessionToken":"t"` +
			expires + `}'`
	}
	answer(`echo "Error loading SSO Token: Token for x does not exist" >&2; exit 255`)
	get("", "run aws sso login --profile dev")
	answer(keys("TOOSOON", ""))
	get("", "run aws sso login --profile dev") // not asked again at once
	cli.until = time.Time{}
	answer(keys("ONE", `,"Expiration":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`"`))
	get("ONE", "")
	answer(keys("TWO", ""))
	get("ONE", "")
	cli.until = time.Time{} // as if shortly before they expire
	answer("exit 1")
	get("ONE", "")
	cli.until = time.Time{}
	answer(keys("TWO", ""))
	get("TWO", "")
	if calls, _ := os.ReadFile(directory + "/calls"); !strings.HasPrefix(
		string(calls), "configure export-credentials --format process --profile dev\n") {
		t.Errorf("called with %s", calls)
	}
	cli = &cliCredentials{}
	answer(`printf 'usage: \\rNote: AWS CLI version 2, the latest major version of the AWS CLI, is now ` +
		`stable\\nusage: aws [options]\\n' >&2; exit 2`)
	get("", "install version 2, or set AWS_ACCESS_KEY_ID")
	cli = &cliCredentials{}
	answer("echo nonsense")
	get("", "printed no credentials")
	t.Setenv("PATH", t.TempDir())
	cli = &cliCredentials{}
	get("", "AWS CLI")

	environment := developerCredentials("", http.DefaultTransport)
	t.Setenv("AWS_ACCESS_KEY_ID", "ENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	if c, err := environment(t.Context()); c.accessKeyID != "ENV" || err != nil {
		t.Errorf("got %q and %v", c.accessKeyID, err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "LATER")
	if c, err := environment(t.Context()); c.accessKeyID != "LATER" || err != nil {
		t.Errorf("the environment has changed: got %q and %v", c.accessKeyID, err)
	}
	var asked string
	container := developerCredentials("", transportFunc(func(r *http.Request) (*http.Response, error) {
		asked = r.URL.Path + " " + r.Header.Get("Authorization")
		return httpAnswer(200, `{"AccessKeyId":"CONTAINER","SecretAccessKey":"s","Token":"t"}`), nil
	}))
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/c")
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token")
	if c, err := container(t.Context()); c.accessKeyID != "LATER" || err != nil || asked != "" {
		t.Errorf("keys besides an endpoint: got %q and %v, asked for %q", c.accessKeyID, err, asked)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	if c, err := container(
		t.Context()); c != (credentials{accessKeyID: "CONTAINER", secretAccessKey: "s", sessionToken: "t"}) ||
		err != nil ||
		asked != "/c container-token" {
		t.Errorf("got %q and %v, asked for %q", c.accessKeyID, err, asked)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "ENV")
	if _, err := developerCredentials("dev", http.DefaultTransport)(t.Context()); err == nil {
		t.Error("the environment won over --profile")
	}
}
