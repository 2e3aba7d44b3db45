//go:build !layer

package main

// aws_cli_test.go tests how `aws` is run: its errors, a stack's outputs, the developer's credentials.

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ---- errors ----

// wantFailure runs a command that reads a function's configuration, and compares how it fails.
func (f *fakeAWS) wantFailure(answer fakeAnswer, want string) {
	f.t.Helper()
	f.canned = &answer
	r := f.run("detach", "orders", "--yes")
	if r != (result{status: 1, out: "", err: "orders: " + want + "\n"}) {
		f.t.Errorf("got %+v, want %s", r, want)
	}
}

func TestMissingCLISaysWhereToGetIt(t *testing.T) {
	f := newFakeAWS(t)
	t.Setenv("PATH", t.TempDir())
	r := f.run("detach", "orders", "--yes")
	const want = "orders: the AWS CLI is not on PATH: https://docs.aws.amazon.com/cli/latest/userguide/" +
		"getting-started-install.html\n"
	if r.status != 1 || r.err != want {
		t.Errorf("got %+v, want %s", r, want)
	}
}

func TestErrorSaysWhatTheCLISaid(t *testing.T) {
	tests := []struct{ name, err, want string }{
		{
			name: "a warning before it",
			err: "urllib3: warning\n\nAn error occurred (ExpiredTokenException) when calling the " +
				"GetFunctionConfiguration operation (reached max retries: 2): The security token included " +
				"in the request is expired\n",
			want: "ExpiredTokenException: The security token included in the request is expired",
		},
		{
			name: "nothing",
			err:  "",
			want: "exit status 254",
		},
		{
			name: "long",
			err:  strings.Repeat("x", 1000),
			want: strings.Repeat("x", 500),
		},
		{
			name: "all variables",
			err: "An error occurred (InvalidParameterValueException) when calling the " +
				"UpdateFunctionConfiguration operation: exceeded the 4KB limit. String measured: {\"A\":\"" +
				secretValue + "\"}",
			want: "InvalidParameterValueException: exceeded the 4KB limit.",
		},
		{
			name: "a name with SSO in it is no session that has expired",
			err: "An error occurred (ResourceNotFoundException) when calling the " +
				"GetFunctionConfiguration operation: Function not found: sso-session\n",
			want: "ResourceNotFoundException: Function not found: sso-session; check the name, and the AWS " +
				"CLI's " +
				"region and profile; a Web Function takes no layer",
		},
		{
			name: "a profile with SSO in its name",
			err:  "\nThe config profile (SSO-dev) could not be found\n",
			want: "The config profile (SSO-dev) could not be found",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			newFakeAWS(t).wantFailure(
				fakeAnswer{out: "", err: tt.err, status: 254},
				"aws lambda get-function-configuration: "+tt.want)
		})
	}
}

func TestExpiredSSOSessionSaysHowToLogIn(t *testing.T) {
	for _, said := range []string{
		"The SSO session associated with this profile has expired. To refresh this SSO session run aws sso " +
			"login with the corresponding profile.",
		"Error loading SSO Token: Token for x does not exist",
		"Error when retrieving token from sso: Token has expired and refresh failed",
	} {
		newFakeAWS(t).wantFailure(
			fakeAnswer{out: "", err: "\n" + said + "\n", status: 255},
			"aws lambda get-function-configuration: the SSO session has expired: run aws sso login "+
				`(aws says "`+said+`")`)
	}
}

func TestLoginNamesTheProfile(t *testing.T) {
	got := (awsCLI{profile: "dev"}).login()
	if got != "aws sso login --profile dev" {
		t.Errorf("got %s", got)
	}
}

// oldCLIUsage is what version 1 of the AWS CLI prints if it does not know a command.
const oldCLIUsage = "usage: \rNote: AWS CLI version 2, the latest major version of the AWS CLI, is now " +
	"stable\n" +
	"usage: aws [options]\n"

func TestVersion1ThatLacksACommandIsToBeReplaced(t *testing.T) {
	newFakeAWS(t).wantFailure(
		fakeAnswer{out: "", err: oldCLIUsage, status: 2},
		"aws lambda get-function-configuration: the AWS CLI is version 1, which does not know this command: "+
			"install version 2")
}

// What is not understood must not be written back.
func TestOutputThatIsNotUnderstoodIsRefused(t *testing.T) {
	tests := []struct{ name, out, want string }{
		{
			name: "not UTF-8",
			out:  `{"FunctionName":"` + "\xfc" + `"}`,
			want: "what it printed is not UTF-8; set PYTHONUTF8=1 or a UTF-8 locale",
		},
		{
			name: "not JSON",
			out:  "FUNCTION orders",
			want: "what it printed is not the JSON that was expected",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			newFakeAWS(t).wantFailure(
				fakeAnswer{out: tt.out, err: "", status: 0},
				"aws lambda get-function-configuration: "+tt.want)
		})
	}
}

// An interrupt lets the AWS CLI end in order, as Ctrl-C does.
// Version 1 reads one name of the region alone, and version 2 the other one first.
func TestRegionOfTheEnvironmentIsForEachVersion(t *testing.T) {
	for _, tt := range []struct{ region, usual, want string }{
		{region: "eu-west-1", want: "eu-west-1"},
		{usual: "eu-west-2", want: "eu-west-2"},
		{region: "eu-west-1", usual: "eu-west-2", want: "eu-west-2"},
		{want: ""},
	} {
		s := newScriptedAWS(t)
		t.Setenv("AWS_REGION", tt.region)
		t.Setenv("AWS_DEFAULT_REGION", tt.usual)
		if tt.usual == "" {
			os.Unsetenv("AWS_DEFAULT_REGION") // back to what it is, after the test
		}
		s.does(`printf %s "${AWS_DEFAULT_REGION-}"`)
		got, err := awsCLI{}.output(t.Context(), nil, "sts", "get-caller-identity")
		if err != nil || string(got) != tt.want {
			t.Errorf("%+v: got %q, %v", tt, got, err)
		}
	}
}

// Early versions do not read the variable.
func TestEndpointOfTheEnvironmentIsPassedOn(t *testing.T) {
	for _, tt := range []struct{ all, own, ignored, want string }{
		{all: "http://127.0.0.1:9000", want: "sts get-caller-identity --endpoint-url http://127.0.0.1:9000"},
		{all: "http://127.0.0.1:9000", own: "http://127.0.0.1:9001", want: "sts get-caller-identity"},
		{all: "http://127.0.0.1:9000", ignored: "true", want: "sts get-caller-identity"},
		{want: "sts get-caller-identity"},
	} {
		s := newScriptedAWS(t)
		for name, value := range map[string]string{
			"AWS_ENDPOINT_URL": tt.all, "AWS_ENDPOINT_URL_STS": tt.own,
			"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": tt.ignored,
		} {
			t.Setenv(name, value)
			if value == "" {
				os.Unsetenv(name) // back to what it is, after the test
			}
		}
		s.does(`printf %s "$*"`)
		got, err := awsCLI{}.output(t.Context(), nil, "sts", "get-caller-identity")
		if err != nil || string(got) != tt.want {
			t.Errorf("%+v: got %q, %v", tt, got, err)
		}
	}
}

func TestCancelledCommandIsInterrupted(t *testing.T) {
	cli := newScriptedAWS(t)
	started := filepath.Join(cli.directory, "started")
	if err := syscall.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	cli.does("trap 'kill $!; echo interrupted >" + cli.directory + "/end; exit 1' INT\n" +
		"sleep 60 >/dev/null 2>&1 &\necho >" + started + "\nwait")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		os.ReadFile(started) // until the script has written to it
		cancel()
	}()
	err := awsCLI{profile: ""}.run(ctx, nil, nil, "lambda", "list-functions")
	if err == nil || err.Error() != "aws lambda list-functions: interrupted" {
		t.Errorf("got %v", err)
	}
	end, _ := os.ReadFile(filepath.Join(cli.directory, "end"))
	if string(end) != "interrupted\n" {
		t.Errorf("the command's end: %q", end)
	}
}

func TestCommandThatTakesTooLongSaysSo(t *testing.T) {
	newScriptedAWS(t)
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	err := awsCLI{profile: ""}.run(ctx, nil, nil, "lambda", "list-functions")
	const want = "aws lambda list-functions: it took too long and was ended; run it by hand to see why"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// ---- stacks ----

// stackFor returns a fake with two stacks: dev has an API, other has something else.
func stackFor(t *testing.T) *fakeAWS {
	f := newFakeAWS(t)
	f.stacks["dev"] = []fakeOutput{
		{OutputKey: "LiveLambdaAppsyncHttpHost", OutputValue: "dev.example"},
		{OutputKey: "LiveLambdaAppsyncRealtimeHost", OutputValue: "rt.example"},
		{OutputKey: "LiveLambdaAppsyncRegion", OutputValue: "eu-west-1"},
		{OutputKey: "LiveLambdaStage", OutputValue: "blue"},
		{OutputKey: "Unrelated", OutputValue: "x"},
	}
	f.stacks["other"] = []fakeOutput{{OutputKey: "BucketName", OutputValue: "b"}}
	f.turn()
	return f
}

func TestStackGivesWhatIsNotSet(t *testing.T) {
	const names = "LIVE_LAMBDA_APPSYNC_HTTP_HOST LIVE_LAMBDA_APPSYNC_REALTIME_HOST " +
		"LIVE_LAMBDA_APPSYNC_REGION LIVE_LAMBDA_STAGE UNRELATED HOME"
	tests := []struct {
		name string
		set  map[string]string
		want string
	}{
		{
			name: "nothing is set",
			set:  nil,
			want: `["dev.example" "rt.example" "eu-west-1" "blue" "x" ""]`,
		},
		{
			name: "what is set wins",
			set: map[string]string{
				"LIVE_LAMBDA_STAGE": "me", "LIVE_LAMBDA_APPSYNC_REGION": "us-east-1", "HOME": "/h"},
			want: `["dev.example" "rt.example" "us-east-1" "me" "x" "/h"]`,
		},
		{
			name: "the same host",
			set:  map[string]string{hostVariable: "dev.example"},
			want: `["dev.example" "rt.example" "eu-west-1" "blue" "x" ""]`,
		},
		{
			name: "another API",
			set:  map[string]string{hostVariable: "mine.example"},
			want: `["mine.example" "" "" "" "" ""]`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stackFor(t)
			getenv, err := stackGetenv(t.Context(), "dev", awsCLI{profile: "me"}, func(name string) string {
				return tt.set[name]
			})
			if err != nil {
				t.Fatal(err)
			}
			values := []string{}
			for _, name := range strings.Fields(names) {
				values = append(values, getenv(name))
			}
			got := fmt.Sprintf("%q", values)
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestStackWithoutAnAPIIsRefused(t *testing.T) {
	tests := []struct{ stack, want string }{
		{
			stack: "nope",
			want: `read the outputs of stack "nope": aws cloudformation describe-stacks: ValidationError: ` +
				"Stack with id nope does not exist",
		},
		{
			stack: "other",
			want: `stack "other" (CREATE_COMPLETE) has no output LiveLambdaAppsyncHttpHost; deploy what ` +
				"`live-lambda template` prints",
		},
	}
	for _, tt := range tests {
		t.Run(tt.stack, func(t *testing.T) {
			stackFor(t)
			_, err := stackGetenv(t.Context(), tt.stack, awsCLI{profile: "me"}, func(string) string {
				return ""
			})
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestStackIsReadWithTheProfile(t *testing.T) {
	f := stackFor(t)
	_, err := stackGetenv(t.Context(), "dev", awsCLI{profile: "me"}, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	f.turn()
	const want = "cloudformation describe-stacks --stack-name dev --output json --profile me"
	call := f.calls[0].String()
	if call != want {
		t.Errorf("called aws %s, want %s", call, want)
	}
}

// ---- credentials ----

func TestCredentialsSourceSaysWhichWins(t *testing.T) {
	tests := []struct{ profile, env, key, uri, want string }{
		{profile: "", env: "dev", key: "AKID", uri: "", want: "the environment (AWS_ACCESS_KEY_ID)"},
		{profile: "", env: "", key: "AKID", uri: "http://x", want: "the environment (AWS_ACCESS_KEY_ID)"},
		{profile: "", env: "", key: "", uri: "http://x",
			want: "the container's endpoint (AWS_CONTAINER_CREDENTIALS_FULL_URI)"},
		{profile: "", env: "", key: "", uri: "", want: `the AWS CLI, profile "default"`},
		{profile: "", env: "dev", key: "", uri: "", want: `the AWS CLI, profile "dev"`},
		{profile: "me", env: "dev", key: "AKID", uri: "http://x", want: `the AWS CLI, profile "me"`},
	}
	for _, tt := range tests {
		t.Setenv("AWS_PROFILE", tt.env)
		t.Setenv("AWS_ACCESS_KEY_ID", tt.key)
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", tt.uri)
		got := credentialsSource(tt.profile)
		if got != tt.want {
			t.Errorf("%+v: got %s", tt, got)
		}
	}
}

// scriptedAWS is a script in place of the AWS CLI.
type scriptedAWS struct {
	t         *testing.T
	directory string
}

// newScriptedAWS puts a script on PATH, and takes credentials out of the environment.
func newScriptedAWS(t *testing.T) *scriptedAWS {
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	s := &scriptedAWS{t: t, directory: t.TempDir()}
	t.Setenv("PATH", s.directory+":"+os.Getenv("PATH"))
	s.does("exit 1")
	return s
}

// does sets what the script does, beside noting how it is called.
func (s *scriptedAWS) does(text string) {
	s.t.Helper()
	script := "#!/bin/sh\necho \"$*\" >>" + s.directory + "/calls\n" + text + "\n"
	if err := os.WriteFile(filepath.Join(s.directory, "aws"), []byte(script), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

// prints sets that the script prints keys. expires is empty, or when they do.
func (s *scriptedAWS) prints(id, expires string) {
	s.t.Helper()
	if expires != "" {
		expires = `,"Expiration":"` + expires + `"`
	}
	s.does(`echo '{"Version":1,"AccessKeyId":"` + id + `","SecretAccessKey":"s","SessionToken":"t"` +
		expires + `}'`)
}

// wantKeys asks for credentials and wants keys with that id.
func wantKeys(t *testing.T, get currentCredentials, id string) {
	t.Helper()
	c, err := get(t.Context())
	if c.accessKeyID != id || err != nil {
		t.Errorf("got %q and %v, want %q", c.accessKeyID, err, id)
	}
}

// wantNoKeys asks for credentials and wants an error that says so.
func wantNoKeys(t *testing.T, get currentCredentials, why string) {
	t.Helper()
	c, err := get(t.Context())
	if c.accessKeyID != "" || err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("got %q and %v, want %q", c.accessKeyID, err, why)
	}
}

func TestFailureToExportIsKeptForAMoment(t *testing.T) {
	s := newScriptedAWS(t)
	cli := &cliCredentials{profile: "dev"}
	s.does(`echo "Error loading SSO Token: Token for x does not exist" >&2; exit 255`)
	wantNoKeys(t, cli.get, "run aws sso login --profile dev")
	s.prints("TOOSOON", "")
	wantNoKeys(t, cli.get, "run aws sso login --profile dev") // not asked again at once
	cli.until = time.Time{}
	s.prints("ONE", "")
	wantKeys(t, cli.get, "ONE")
}

func TestExportedCredentialsAreKeptUntilTheyExpire(t *testing.T) {
	s := newScriptedAWS(t)
	cli := &cliCredentials{profile: "dev"}
	s.prints("ONE", time.Now().Add(time.Hour).Format(time.RFC3339))
	wantKeys(t, cli.get, "ONE")
	s.prints("TWO", "")
	wantKeys(t, cli.get, "ONE")
	cli.until = time.Time{} // as if shortly before they expire
	s.does("exit 1")
	wantKeys(t, cli.get, "ONE")
	cli.until = time.Time{}
	s.prints("TWO", "")
	wantKeys(t, cli.get, "TWO")
}

func TestAnswersOfTheCLIAreKept(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		name    string
		expires time.Time
		err     error
		want    time.Duration
	}{
		{name: "a failure", expires: time.Time{}, err: errNoCLI, want: 5 * time.Second},
		{name: "keys that do not expire", expires: time.Time{}, err: nil, want: 15 * time.Minute},
		{name: "keys that expire", expires: now.Add(time.Hour), err: nil, want: 55 * time.Minute},
		{name: "keys that expire soon", expires: now.Add(time.Minute), err: nil, want: 5 * time.Second},
	}
	for _, tt := range tests {
		got := keptFor(now, tt.expires, tt.err)
		if got != tt.want {
			t.Errorf("%s: kept for %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestExportNamesTheProfile(t *testing.T) {
	s := newScriptedAWS(t)
	s.prints("ONE", "")
	wantKeys(t, (&cliCredentials{profile: "dev"}).get, "ONE")
	calls, _ := os.ReadFile(s.directory + "/calls")
	want := "configure export-credentials --format process --profile dev\n"
	if string(calls) != want {
		t.Errorf("called with %s, want %s", calls, want)
	}
}

func TestVersion1CannotExport(t *testing.T) {
	s := newScriptedAWS(t)
	s.does(`printf 'usage: \\rNote: AWS CLI version 2, the latest major version of the AWS CLI, is now ` +
		`stable\\nusage: aws [options]\\n' >&2; exit 2`)
	wantNoKeys(t, (&cliCredentials{profile: ""}).get, "install version 2, or set AWS_ACCESS_KEY_ID")
}

func TestExportThatFailsSaysWhatToRun(t *testing.T) {
	s := newScriptedAWS(t)
	s.does(`echo "The config profile (dev) could not be found" >&2; exit 255`)
	wantNoKeys(t, (&cliCredentials{profile: "dev"}).get,
		"aws configure export-credentials: The config profile (dev) could not be found; "+
			"run aws configure or aws sso login --profile dev")
}

func TestExportWithoutCredentialsSaysSo(t *testing.T) {
	s := newScriptedAWS(t)
	s.does("echo nonsense")
	wantNoKeys(t, (&cliCredentials{profile: ""}).get, "printed no credentials")
}

func TestWithoutCLIAndKeysBothAreNamed(t *testing.T) {
	newScriptedAWS(t)
	t.Setenv("PATH", t.TempDir())
	wantNoKeys(t, (&cliCredentials{profile: ""}).get,
		"AWS_ACCESS_KEY_ID is not set, and the AWS CLI is not on PATH: https://docs.aws.amazon.com/")
}

// The keys of the environment do not matter if a profile is asked for.
func TestWithoutCLIAProfileNeedsIt(t *testing.T) {
	newScriptedAWS(t)
	t.Setenv("PATH", t.TempDir())
	_, err := (&cliCredentials{profile: "dev"}).get(t.Context())
	if err == nil || err.Error() != errNoCLI.Error() {
		t.Errorf("got %v", err)
	}
}

func TestEnvironmentIsReadEachTime(t *testing.T) {
	newScriptedAWS(t)
	get := developerCredentials("", http.DefaultTransport)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	t.Setenv("AWS_ACCESS_KEY_ID", "ENV")
	wantKeys(t, get, "ENV")
	t.Setenv("AWS_ACCESS_KEY_ID", "LATER")
	wantKeys(t, get, "LATER")
}

// containerEndpoint sets a container's endpoint, and returns credentials that notes what it is asked.
func containerEndpoint(t *testing.T) (get currentCredentials, asked *string) {
	newScriptedAWS(t)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/c")
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token")
	asked = new(string)
	get = developerCredentials("", transportFunc(func(r *http.Request) (*http.Response, error) {
		*asked = r.URL.Path + " " + r.Header.Get("Authorization")
		return httpAnswer(200, `{"AccessKeyId":"CONTAINER","SecretAccessKey":"s","Token":"t"}`), nil
	}))
	return get, asked
}

func TestKeysWinOverContainersEndpoint(t *testing.T) {
	get, asked := containerEndpoint(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "ENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	wantKeys(t, get, "ENV")
	if *asked != "" {
		t.Errorf("asked for %q", *asked)
	}
}

func TestContainersEndpointGivesCredentials(t *testing.T) {
	get, asked := containerEndpoint(t)
	want := credentials{accessKeyID: "CONTAINER", secretAccessKey: "s", sessionToken: "t"}
	c, err := get(t.Context())
	if c != want || err != nil {
		t.Errorf("got %q and %v", c.accessKeyID, err)
	}
	if *asked != "/c container-token" {
		t.Errorf("asked for %q", *asked)
	}
}

func TestProfileWinsOverEnvironment(t *testing.T) {
	newScriptedAWS(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "ENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	wantNoKeys(t, developerCredentials("dev", http.DefaultTransport), "aws configure export-credentials: ")
}
