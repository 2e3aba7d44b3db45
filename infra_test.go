//go:build !layer

package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// ---- the command lines ----

func TestInfraCommandLines(t *testing.T) {
	usage := func(lines string) string { return "live-lambda " + lines + "; see --help\n" }
	tests := []struct {
		command string
		args    string
		want    string
	}{
		{"template", "--nope", usage("template: flag provided but not defined: -nope")},
		{"template", "x", usage(`template: what is "x"?`)},
		{"template", "--protocol mqtt", usage(`template: --protocol is "mqtt", not events or graphql`)},
		{"publish-layer", "", usage("publish-layer: for which architecture, x86_64 or arm64?")},
		{"publish-layer", "mips", usage(`publish-layer: the architecture "mips" is not x86_64 or arm64`)},
		{"publish-layer", "arm64 x86_64 --zip x",
			usage("publish-layer: --zip and --name are for one architecture")},
		{"attach", "", usage("attach: which function?")},
		{"attach", "f --nope", usage("attach: flag provided but not defined: -nope")},
		{"attach", "f:live",
			usage(`attach: "f:live" is not a function's name or ARN without version or alias; published ` +
				`versions cannot be changed`)},
		{"attach", "arn:aws:lambda:eu-west-1:123456789012:function:f:7",
			usage(`attach: "arn:aws:lambda:eu-west-1:123456789012:function:f:7" is not a function's name ` +
				`or ARN without version or alias; published versions cannot be changed`)},
		{"attach", "f",
			usage("attach: the AppSync API is not set: " +
				"give --stack, --host or LIVE_LAMBDA_APPSYNC_HTTP_HOST")},
		{"attach", "f --host 127.0.0.1:9",
			usage("attach: the AppSync API's host is this machine, which no function can reach")},
		{"attach", "f --host http://example.com",
			usage("attach: LIVE_LAMBDA_APPSYNC_HTTP_HOST asks for no TLS (http://), which only a loopback " +
				"host may do")},
		{"attach", "f --host example.com --stage a_b",
			usage(`attach: LIVE_LAMBDA_STAGE is "a_b", not 1 to 50 letters, digits and inner dashes`)},
		{"attach", "f --host example.com --set LIVE_LAMBDA_OFFLINE=maybe",
			usage(`attach: LIVE_LAMBDA_OFFLINE is "maybe", not deployed or error; using deployed`)},
		{"attach", "f --host example.com --set LIVE_LAMBDA_EXEC_WRAPPER=/opt/x",
			usage(`attach: invalid value "LIVE_LAMBDA_EXEC_WRAPPER=/opt/x" for flag -set: not NAME=VALUE ` +
				`of one of the layer's variables`)},
		{"attach", "f --host example.com --set TABLE=x",
			usage(`attach: invalid value "TABLE=x" for flag -set: not NAME=VALUE of one of the layer's ` +
				`variables`)},
		{"attach", "f --host example.com --set LIVE_LAMBDA_ATTACHED=x",
			usage(`attach: invalid value "LIVE_LAMBDA_ATTACHED=x" for flag -set: not NAME=VALUE of one of ` +
				`the layer's variables`)},
		{"attach", "f --host example.com --attach-policy",
			usage("attach: --attach-policy takes the policy from a stack: give --stack")},
		{"detach", "--yes", usage("detach: which function?")},
		{"detach", "f --stage x", usage("detach: flag provided but not defined: -stage")},
		{"doctor", "x", usage(`doctor: what is "x"?`)},
		{"doctor", "--nope", usage("doctor: flag provided but not defined: -nope")},
	}
	f := newFakeAWS(t)
	for _, tt := range tests {
		t.Run(tt.command+" "+tt.args, func(t *testing.T) {
			r := f.run(tt.command, strings.Fields(tt.args)...)
			if r.status != 2 || r.out != "" || r.err != tt.want {
				t.Errorf("got status %d, %q and %q, want 2 and %q", r.status, r.out, r.err, tt.want)
			}
		})
	}
	if len(f.calls) > 0 {
		t.Errorf("aws was called: %v", f.calls)
	}
}

// Every flag that a command takes stands in its help, and no other.
func TestInfraHelp(t *testing.T) {
	f := newFakeAWS(t)
	for command, flags := range map[string]string{
		"template":      "protocol",
		"publish-layer": "name profile zip",
		"attach": "api-key attach-policy host layer namespace profile protocol realtime-host region " +
			"set stack stage yes",
		"detach": "profile yes",
		"doctor": "api-key host namespace profile protocol realtime-host region stack stage",
	} {
		long, short := f.run(command, "--help"), f.run(command, "-h")
		if long.status != 0 || long.err != "" || long != short {
			t.Errorf("%s: got %+v for --help and %+v for -h", command, long, short)
		}
		var found []string
		for _, m := range regexp.MustCompile(`(?m)^  --([a-z-]+)`).FindAllStringSubmatch(long.out, -1) {
			found = append(found, m[1])
		}
		slices.Sort(found)
		if got := strings.Join(found, " "); got != flags {
			t.Errorf("%s: help has %q, want %q", command, got, flags)
		}
		for _, line := range strings.Split(long.out, "\n") {
			if len(line) > 120 {
				t.Errorf("%s: help has a line of %d characters: %q", command, len(line), line)
			}
		}
		for _, name := range found {
			if r := f.run(command, "--"+name+"=false", "--not-there"); strings.Contains(
				r.err, "not defined: -"+name) {
				t.Errorf("%s takes no --%s: %s", command, name, r.err)
			}
		}
	}
}

// ---- the template ----

// The attributes that the template may ask for, and what Ref returns.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-appsync-api.html
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-appsync-channelnamespace.html
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-appsync-graphqlapi.html
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-appsync-datasource.html
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-iam-managedpolicy.html
var templateValues = map[string]map[string]string{
	"AWS::AppSync::Api": {
		"ApiArn":       "arn:aws-test:appsync:eu-test-1:123456789012:apis/apiid",
		"ApiId":        "apiid",
		"Dns.Http":     "label.appsync-api.eu-test-1.amazonaws.com",
		"Dns.Realtime": "label.appsync-realtime-api.eu-test-1.amazonaws.com",
		"Ref":          "arn:aws-test:appsync:eu-test-1:123456789012:apis/apiid",
	},
	"AWS::AppSync::ChannelNamespace": {
		"ChannelNamespaceArn": "arn:aws-test:appsync:eu-test-1:123456789012:apis/apiid/channelNamespace/" +
			"live-lambda",
		"Ref": "arn:aws-test:appsync:eu-test-1:123456789012:apis/apiid/channelNamespace/" +
			"live-lambda",
	},
	"AWS::AppSync::GraphQLApi": {
		"ApiId":       "apiid",
		"Arn":         "arn:aws-test:appsync:eu-test-1:123456789012:apis/apiid",
		"GraphQLDns":  "label.appsync-api.eu-test-1.amazonaws.com",
		"GraphQLUrl":  "https://label.appsync-api.eu-test-1.amazonaws.com/graphql",
		"RealtimeDns": "label.appsync-realtime-api.eu-test-1.amazonaws.com",
		"RealtimeUrl": "wss://label.appsync-realtime-api.eu-test-1.amazonaws.com/graphql",
		"Ref":         "arn:aws-test:appsync:eu-test-1:123456789012:apis/apiid",
	},
	"AWS::AppSync::DataSource": {"Name": "none"},
	"AWS::IAM::ManagedPolicy": {
		"PolicyArn": "arn:aws-test:iam::123456789012:policy/p",
		"Ref":       "arn:aws-test:iam::123456789012:policy/p"},
}

var pseudoParameters = map[string]string{
	"AWS::Partition": "aws-test", "AWS::Region": "eu-test-1", "AWS::AccountId": "123456789012"}

func TestTemplate(t *testing.T) {
	iam := []any{map[string]any{"AuthType": "AWS_IAM"}}
	api := "arn:aws-test:appsync:eu-test-1:123456789012:apis/apiid"
	compareTemplate(t, nil, "Event", map[string]any{
		"EventApi": map[string]any{"Type": "AWS::AppSync::Api", "Properties": map[string]any{
			"Name": "live-lambda",
			"EventConfig": map[string]any{"AuthProviders": iam, "ConnectionAuthModes": iam,
				"DefaultPublishAuthModes": iam, "DefaultSubscribeAuthModes": iam},
		}},
		"Namespace": map[string]any{"Type": "AWS::AppSync::ChannelNamespace",
			"Properties": map[string]any{"ApiId": "apiid", "Name": "live-lambda"}},
	}, []any{
		map[string]any{"Effect": "Allow", "Action": "appsync:EventConnect", "Resource": api},
		map[string]any{"Effect": "Allow", "Action": []any{"appsync:EventPublish", "appsync:EventSubscribe"},
			"Resource": api + "/channelNamespace/live-lambda"},
	})
	compareTemplate(t, []string{"--protocol", "graphql"}, "GraphQL", map[string]any{
		"GraphqlApi": map[string]any{
			"Type":       "AWS::AppSync::GraphQLApi",
			"Properties": map[string]any{"Name": "live-lambda", "AuthenticationType": "AWS_IAM"}},
		"Schema": map[string]any{
			"Type":       "AWS::AppSync::GraphQLSchema",
			"Properties": map[string]any{"ApiId": "apiid", "Definition": graphqlSchema}},
		"NoDataSource": map[string]any{
			"Type":       "AWS::AppSync::DataSource",
			"Properties": map[string]any{"ApiId": "apiid", "Name": "none", "Type": "NONE"}},
		"Publish": map[string]any{"Type": "AWS::AppSync::Resolver", "DependsOn": "Schema",
			"Properties": map[string]any{
				"ApiId": "apiid", "TypeName": "Mutation", "FieldName": "publish", "DataSourceName": "none",
				"Runtime": map[string]any{"Name": "APPSYNC_JS", "RuntimeVersion": "1.0.0"},
				"Code": "export function request(ctx) {\n  return { payload: { name: ctx.args.name, data: " +
					"ctx.args.data } };\n}\n" +
					"export function response(ctx) {\n  return ctx.result;\n}\n",
			}},
	}, []any{map[string]any{"Effect": "Allow", "Action": "appsync:GraphQL",
		"Resource": []any{
			api + "/types/Mutation/fields/publish", api + "/types/Subscription/fields/subscribe"}}})
}

// compareTemplate compares what template prints with an API of that kind, of those resources, that needs
// those permissions.
func compareTemplate(t *testing.T, args []string, kind string, resources map[string]any, statements []any) {
	t.Helper()
	r := newFakeAWS(t).run("template", args...)
	if r.status != 0 || r.err != "" {
		t.Fatalf("got %+v", r)
	}
	template := parseYAML(t, r.out).(map[string]any)
	got := resolve(t, template["Resources"].(map[string]any), template).(map[string]any)
	policy := func(description string) map[string]any {
		return map[string]any{"Type": "AWS::IAM::ManagedPolicy", "Properties": map[string]any{
			"Description":    description,
			"PolicyDocument": map[string]any{"Version": "2012-10-17", "Statement": statements},
		}}
	}
	output := func(description, value string) map[string]any {
		return map[string]any{"Description": description, "Value": value}
	}
	resources["FunctionPolicy"] = policy("for the roles of functions that live-lambda is attached to")
	resources["DeveloperPolicy"] = policy("for developers who run live-lambda local")
	outputs := map[string]any{
		"LiveLambdaAppsyncHttpHost": output(
			"LIVE_LAMBDA_APPSYNC_HTTP_HOST", "label.appsync-api.eu-test-1.amazonaws.com"),
		"LiveLambdaAppsyncRealtimeHost": output(
			"LIVE_LAMBDA_APPSYNC_REALTIME_HOST", "label.appsync-realtime-api.eu-test-1.amazonaws.com"),
		"LiveLambdaAppsyncRegion": output("LIVE_LAMBDA_APPSYNC_REGION", "eu-test-1"),
		"LiveLambdaFunctionPolicyArn": output(
			"policy for the roles of functions", "arn:aws-test:iam::123456789012:policy/p"),
		"LiveLambdaDeveloperPolicyArn": output(
			"policy for developers", "arn:aws-test:iam::123456789012:policy/p"),
	}
	if kind == "GraphQL" {
		outputs["LiveLambdaAppsyncProtocol"] = output("LIVE_LAMBDA_APPSYNC_PROTOCOL", "graphql")
	}
	want := map[string]any{
		"AWSTemplateFormatVersion": "2010-09-09",
		"Description": "live-lambda, an AppSync " + kind +
			" API that takes invocations of Lambda functions to developers and back",
		"Resources": resources,
		"Outputs":   outputs,
	}
	if g, w := indentJSON(got), indentJSON(want); !bytes.Equal(g, w) {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

// What the template's outputs are called is what --stack reads, and makes a whole configuration.
func TestTemplateOutputsAreVariables(t *testing.T) {
	f := newFakeAWS(t)
	for stack, text := range map[string]string{"dev": eventTemplate(), "graphql": graphqlTemplate()} {
		template := parseYAML(t, text).(map[string]any)
		outputs := resolve(t, template["Resources"].(map[string]any), template["Outputs"]).(map[string]any)
		for key, output := range outputs {
			f.stacks[stack] = append(
				f.stacks[stack], fakeOutput{key, output.(map[string]any)["Value"].(string)})
		}
	}
	f.turn()
	const http, realtime = "https://label.appsync-api.eu-test-1.amazonaws.com",
		"https://label.appsync-realtime-api.eu-test-1.amazonaws.com"
	for stack, want := range map[string]string{
		"dev":     http + "/event " + realtime + "/event/realtime",
		"graphql": http + "/graphql " + realtime + "/graphql"} {
		getenv, err := stackGetenv(t.Context(), stack, "", func(string) string { return "" })
		if err != nil {
			t.Fatal(err)
		}
		cfg, problems := readConfig(getenv)
		if len(problems) > 0 || cfg.api == nil {
			t.Fatalf("problems: %q", problems)
		}
		got := cfg.api.http.String() + " " + cfg.api.realtime.String() + " " + cfg.api.region + " " +
			cfg.api.requests + " " + getenv(policyVariable)
		if want += " eu-test-1 /live-lambda/requests arn:aws-test:iam::123456789012:policy/p"; got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
		variables, err := functionVariables(getenv, nil) // what attach sets
		if err != nil || variables["LIVE_LAMBDA_APPSYNC_PROTOCOL"] != getenv("LIVE_LAMBDA_APPSYNC_PROTOCOL") {
			t.Errorf("%s: attach would set %v, %v", stack, variables, err)
		}
	}
}

func TestStackGetenv(t *testing.T) {
	f := newFakeAWS(t)
	f.stacks["dev"] =
		[]fakeOutput{{"LiveLambdaAppsyncHttpHost", "dev.example"},
			{"LiveLambdaAppsyncRealtimeHost", "rt.example"},
			{"LiveLambdaAppsyncRegion", "eu-west-1"}, {"LiveLambdaStage", "blue"}, {"Unrelated", "x"}}
	f.stacks["other"] = []fakeOutput{{"BucketName", "b"}}
	const names = "LIVE_LAMBDA_APPSYNC_HTTP_HOST LIVE_LAMBDA_APPSYNC_REALTIME_HOST " +
		"LIVE_LAMBDA_APPSYNC_REGION LIVE_LAMBDA_STAGE UNRELATED HOME"
	tests := []struct {
		name  string
		stack string
		set   map[string]string
		want  string
	}{
		{"nothing is set", "dev", nil, `["dev.example" "rt.example" "eu-west-1" "blue" "x" ""]`},
		{"what is set wins", "dev",
			map[string]string{
				"LIVE_LAMBDA_STAGE": "me", "LIVE_LAMBDA_APPSYNC_REGION": "us-east-1", "HOME": "/h"},
			`["dev.example" "rt.example" "us-east-1" "me" "x" "/h"]`},
		{"the same host", "dev", map[string]string{hostVariable: "dev.example"},
			`["dev.example" "rt.example" "eu-west-1" "blue" "x" ""]`},
		{"another API", "dev", map[string]string{hostVariable: "mine.example"},
			`["mine.example" "" "" "" "" ""]`},
		{"no such stack", "nope", nil,
			`read the outputs of stack "nope": aws cloudformation describe-stacks: ValidationError: Stack ` +
				`with id nope does not exist`},
		{"another stack", "other", nil,
			"stack \"other\" (CREATE_COMPLETE) has no output LiveLambdaAppsyncHttpHost; deploy what " +
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

// ---- the layer ----

func TestPublishLayer(t *testing.T) {
	header := func(machine byte) string {
		return "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 11) + string(rune(machine)) + "\x00rest"
	}
	amd64 := layerZip(t, 0o755, header(62))
	arm64 := layerZip(t, 0o755, "\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 11)+"\xb7\x00rest")
	launcher := layerZip(t, 0o755, "#!/bin/sh\n")
	notZip := filepath.Join(t.TempDir(), "x.zip")
	os.WriteFile(notZip, []byte("no zip"), 0o600)
	tests := []struct {
		name   string
		args   []string
		status int
		want   string // of both outputs
	}{
		{"arm64", []string{"arm64", "--zip", arm64}, 0,
			"arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:1\n"},
		{"again", []string{"--zip", arm64, "aarch64"}, 0,
			"arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:2\n"},
		{"x86_64", []string{"x86_64", "--zip", amd64, "--name", "mine"}, 0,
			"arn:aws:lambda:eu-west-1:123456789012:layer:mine:1\n"},
		{"amd64", []string{"amd64", "--zip", amd64}, 0,
			"arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-amd64:1\n"},
		{"a launcher is for both", []string{"x86_64", "--zip", launcher}, 0,
			"arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-amd64:2\n"},
		{"another architecture", []string{"x86_64", "--zip", arm64}, 1,
			"x86_64: " + arm64 + " is for EM_AARCH64, not for x86_64\n"},
		{"not executable", []string{"arm64", "--zip", layerZip(t, 0o644, header(62))}, 1,
			"arm64: ZIP has no executable extensions/live-lambda-extension; it is not a layer that ./" +
				"build.sh has built\n"},
		{"not a zip", []string{"arm64", "--zip", notZip}, 1,
			"arm64: " + notZip + ": zip: not a valid zip file\n"},
		{"not built", []string{"arm64", "x86_64"}, 1,
			"arm64: dist/live-lambda-layer-arm64.zip is not there; run ./build.sh first, or name the zip " +
				"with --zip\n" +
				"x86_64: dist/live-lambda-layer-amd64.zip is not there; run ./build.sh first, or name the " +
				"zip " +
				"with --zip\n"},
		{"refused", []string{"arm64", "--zip", arm64, "--name", "a b"}, 1,
			"arm64: aws lambda publish-layer-version: ValidationException: 1 validation error detected\n"},
	}
	f := newFakeAWS(t)
	t.Chdir(t.TempDir())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := f.run("publish-layer", tt.args...)
			want := strings.ReplaceAll(tt.want, "ZIP", tt.args[len(tt.args)-1])
			if r.status != tt.status || r.out+r.err != want {
				t.Errorf("got %d, %q and %q, want %d and %q", r.status, r.out, r.err, tt.status, want)
			}
		})
	}
	if got := f.layers["live-lambda-arm64"]; len(got) != 2 || !slices.Equal(got[1], []string{"arm64"}) {
		t.Errorf("published %v", got)
	}
}

// layerZip writes a zip with an extension.
func layerZip(t *testing.T, mode os.FileMode, content string) string {
	path := filepath.Join(t.TempDir(), "layer.zip")
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	header := &zip.FileHeader{Name: "extensions/live-lambda-extension", Method: zip.Deflate}
	header.SetMode(mode)
	w, err := z.CreateHeader(header)
	if err == nil {
		_, err = io.WriteString(w, content)
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		err = os.WriteFile(path, buf.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
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
		{"expired", "",
			"\nThe SSO session associated with this profile has expired. To refresh this SSO session run " +
				"aws sso login with the corresponding profile.\n",
			"aws lambda get-function-configuration: The SSO session associated with this profile has " +
				"expired. To refresh this SSO session run aws sso login with the corresponding profile."},
		{"a warning before it", "",
			"urllib3: warning\n\nAn error occurred (ExpiredTokenException) when calling the " +
				"GetFunctionConfiguration operation (reached max retries: 2): The security token included " +
				"in the request is expired\n",
			"aws lambda get-function-configuration: ExpiredTokenException: The security token included in " +
				"the request is expired"},
		{"nothing", "", "", "aws lambda get-function-configuration: exit status 254"},
		{"long", "", strings.Repeat("x", 1000),
			"aws lambda get-function-configuration: " + strings.Repeat("x", 500)},
		{"all variables", "",
			"An error occurred (InvalidParameterValueException) when calling the " +
				"UpdateFunctionConfiguration operation: exceeded the 4KB limit. String measured: {\"A\":\"" +
				secretValue + "\"}",
			"aws lambda get-function-configuration: InvalidParameterValueException: exceeded the 4KB limit."},
		{"not UTF-8", `{"FunctionName":"` + "\xfc" + `"}`, "",
			"aws lambda get-function-configuration: what it printed is not UTF-8; set PYTHONUTF8=1 or a " +
				"UTF-8 locale"},
		{"not JSON", "FUNCTION orders", "",
			"aws lambda get-function-configuration: what it printed is not the JSON that was expected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAWS(t)
			f.function("orders", nil)
			f.canned = &fakeAnswer{tt.out, tt.err, map[bool]int{true: 254}[tt.out == ""]}
			r := f.run("detach", "orders", "--yes")
			if r != (result{1, "", "orders: " + tt.want + "\n"}) {
				t.Errorf("got %+v, want %s", r, tt.want)
			}
		})
	}
}

// ---- a fake of the AWS CLI ----

const (
	stackPolicy = "arn:aws:iam::123456789012:policy/live-lambda-FunctionPolicy-1"
	basicPolicy = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
)

// fakeAWS is the AWS CLI with an account behind it. On PATH stands a script that hands each command to this
// process and prints what it answers.
type fakeAWS struct {
	t        *testing.T
	answer   string // of whoever sits at the terminal
	terminal bool

	mu        sync.Mutex // held while a command is carried out; all below
	functions map[string]*fakeFunction
	layers    map[string][][]string // architectures of each version
	roles     map[string][]string   // policies
	stacks    map[string][]fakeOutput
	calls     []fakeCall
	waited    string

	dieAt   int  // call at which live-lambda is killed: it and all that follow are not answered
	dieDone bool // after it has been carried out
	dead    bool
	hooks   map[string]func() // run once before a command
	denied  string            // command that is not allowed
	twice   bool              // an update is sent twice
	canned  *fakeAnswer       // to everything
}

// fakeFunction is a function: config is what get-function-configuration shows but for the fields that change
// by themselves.
type fakeFunction struct {
	config   []byte
	revision int
	state    string // Active where empty
	updating bool
	busy     bool   // no wait ends it
	fails    string // why the next update will
	failed   string
}

type fakeOutput struct{ OutputKey, OutputValue string }

type fakeCall struct {
	args  []string
	stdin string
}

func (c fakeCall) String() string { return strings.Join(c.args, " ") }

// fakeAnswer is what a command prints, and its exit status.
type fakeAnswer struct {
	out, err string
	status   int
}

type result struct {
	status   int
	out, err string
}

func newFakeAWS(t *testing.T) *fakeAWS {
	f := &fakeAWS{
		t: t, functions: map[string]*fakeFunction{}, stacks: map[string][]fakeOutput{},
		hooks: map[string]func(){}}
	f.roles = map[string][]string{"orders-role": {basicPolicy}}
	f.layers = map[string][][]string{}
	for _, name := range []string{"live-lambda-arm64", "live-lambda-arm64", "merged"} {
		f.layers[name] = append(f.layers[name], []string{"arm64"})
	}
	f.layers["live-lambda-amd64"] = [][]string{{"x86_64"}, {"x86_64"}}
	if strings.HasPrefix(t.Name(), "TestPublishLayer") {
		clear(f.layers)
	}
	f.stacks["dev"] = []fakeOutput{{"LiveLambdaAppsyncHttpHost", "label.appsync-api.eu-west-1.amazonaws.com"},
		{"LiveLambdaAppsyncRealtimeHost", "label.appsync-realtime-api.eu-west-1.amazonaws.com"},
		{"LiveLambdaAppsyncRegion", "eu-west-1"}, {"LiveLambdaFunctionPolicyArn", stackPolicy}}
	if t.Name() == "TestTemplateOutputsAreVariables" {
		clear(f.stacks)
	}
	for _, a := range apiFlags {
		t.Setenv(a.variable, "")
	}
	f.serve()
	return f
}

// fakeScript uses what is built into the shell alone: it runs hundreds of times.
const fakeScript = `#!/bin/sh
set -eu
copy() { while IFS= read -r line || [ -n "$line" ]; do printf '%s\n' "$line"; done; }
cd "$FAKE_AWS"
printf '%s\n' "$@" >args
copy >stdin
echo >request
read -r status <answer
copy <out
copy <err >&2
exit "$status"
`

// serve answers the script until the test is over.
func (f *fakeAWS) serve() {
	dir, bin := f.t.TempDir(), f.t.TempDir()
	f.t.Setenv("FAKE_AWS", dir)
	f.t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	err := os.WriteFile(filepath.Join(bin, "aws"), []byte(fakeScript), 0o755)
	pipes := map[string]*os.File{}
	for _, name := range []string{"request", "answer"} {
		if err == nil {
			err = syscall.Mkfifo(filepath.Join(dir, name), 0o600)
		}
		if err == nil {
			// so that opening does not wait for the other side
			pipes[name], err = os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		}
	}
	if err != nil {
		f.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for newline := make([]byte, 1); ; {
			if _, err := pipes["request"].Read(newline); err != nil {
				return
			}
			args, _ := os.ReadFile(filepath.Join(dir, "args"))
			stdin, _ := os.ReadFile(filepath.Join(dir, "stdin"))
			f.mu.Lock()
			a := f.call(strings.Split(strings.TrimSuffix(string(args), "\n"), "\n"), string(stdin))
			f.mu.Unlock()
			os.WriteFile(filepath.Join(dir, "out"), []byte(a.out), 0o600)
			os.WriteFile(filepath.Join(dir, "err"), []byte(a.err), 0o600)
			fmt.Fprintln(pipes["answer"], a.status)
		}
	})
	f.t.Cleanup(func() {
		pipes["request"].Close()
		wg.Wait()
		pipes["answer"].Close()
	})
}

// turn passes what is below mu from a test to the commands that it runs, and back: they are never at work at
// once.
func (f *fakeAWS) turn() {
	f.mu.Lock()
	defer f.mu.Unlock()
}

// run runs a command of live-lambda. Nothing that it prints or hands to aws as an argument may hold a secret.
func (f *fakeAWS) run(command string, args ...string) result {
	f.t.Helper()
	var out, errOut bytes.Buffer
	c := &console{in: strings.NewReader(f.answer), asks: f.terminal, out: &out, err: &errOut}
	called := len(f.calls)
	f.turn()
	status := map[string]func(
		[]string) int{"template": c.template, "publish-layer": c.publishLayer, "attach": c.attach,
		"detach": c.detach, "doctor": c.doctor}[command](args)
	f.turn()
	if strings.Contains(out.String()+errOut.String(), secretValue) {
		f.t.Errorf("%s shows a secret: %s%s", command, out.String(), errOut.String())
	}
	for _, call := range f.calls[called:] {
		if strings.Contains(call.String(), secretValue) {
			f.t.Errorf("%s puts a secret on a command line: %s", command, call)
		}
	}
	return result{status, out.String(), errOut.String()}
}

// function makes a function; fields replace those of the usual one, nil takes them away.
func (f *fakeAWS) function(name string, fields map[string]any) {
	config := map[string]any{
		"FunctionName": name, "FunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:" + name,
		"Runtime": "nodejs22.x", "Role": "arn:aws:iam::123456789012:role/service/orders-role",
		"Handler":  "index.handler",
		"CodeSize": 1234, "Description": "", "Timeout": 3, "MemorySize": 128, "Version": "$LATEST",
		"TracingConfig": map[string]any{"Mode": "PassThrough"}, "PackageType": "Zip",
		"Architectures":    []any{"arm64"},
		"EphemeralStorage": map[string]any{"Size": 512},
		"SnapStart":        map[string]any{"ApplyOn": "None", "OptimizationStatus": "Off"},
	}
	maps.Copy(config, fields)
	maps.DeleteFunc(config, func(_ string, value any) bool { return value == nil })
	f.functions[name] = &fakeFunction{config: indentJSON(config)}
}

// configure is an update by somebody else.
func (f *fakeAWS) configure(name string, layers []string, variables map[string]any) {
	f.functions[name].set(layers, variables)
	f.functions[name].revision++
}

func (f *fakeAWS) decoded(name string) map[string]any {
	var config map[string]any
	if err := json.Unmarshal(f.functions[name].config, &config); err != nil {
		f.t.Fatal(err)
	}
	return config
}

func (f *fakeAWS) layersOf(name string) (arns []string) {
	layers, _ := f.decoded(name)["Layers"].([]any)
	for _, l := range layers {
		arns = append(arns, l.(map[string]any)["Arn"].(string))
	}
	return arns
}

func (f *fakeAWS) variablesOf(name string) map[string]any {
	environment, _ := f.decoded(name)["Environment"].(map[string]any)
	variables, _ := environment["Variables"].(map[string]any)
	if variables == nil {
		variables = map[string]any{}
	}
	return variables
}

// snapshot is everything that attach and detach can change, byte for byte.
func (f *fakeAWS) snapshot() string {
	var s strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f.functions)) {
		fmt.Fprintf(&s, "%s %s\n", name, f.functions[name].config)
	}
	fmt.Fprintln(&s, f.roles)
	return s.String()
}

func (f *fakeAWS) want(before string) {
	f.t.Helper()
	if now := f.snapshot(); now != before {
		f.t.Errorf("got\n%s\nwant\n%s", now, before)
	}
}

func (f *fakeAWS) die(call int, done bool) { f.dieAt, f.dieDone = call, done }
func (f *fakeAWS) revive()                 { f.dieAt, f.dead = 0, false }

func (f *fakeAWS) before(command string, hook func()) { f.hooks[command] = hook }

func indentJSON(v any) []byte {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	if err := e.Encode(v); err != nil {
		panic(err) // maps, strings and numbers always encode
	}
	return buf.Bytes()
}

func printed(v any) fakeAnswer { return fakeAnswer{out: string(indentJSON(v))} }

// serviceError254 is an error of a service, as the CLI tells it.
func serviceError254(operation, code, format string, args ...any) fakeAnswer {
	return fakeAnswer{
		err: fmt.Sprintf(
			"\nAn error occurred (%s) when calling the %s operation: %s\n", code, operation,
			fmt.Sprintf(format, args...)), status: 254}
}

// wrongUsage is what the CLI says to a command line that it does not understand.
func wrongUsage(what string) fakeAnswer {
	return fakeAnswer{
		err: "usage: aws [options] <command> <subcommand>\n\naws: error: " + what + "\n", status: 252}
}

// call carries out one command.
func (f *fakeAWS) call(args []string, stdin string) fakeAnswer {
	f.calls = append(f.calls, fakeCall{args, stdin})
	if len(f.calls) == f.dieAt {
		f.dead = true
	}
	if f.dead && (len(f.calls) > f.dieAt || !f.dieDone) {
		return fakeAnswer{status: 255}
	}
	if f.canned != nil {
		return *f.canned
	}
	if len(args) > 2 && args[1] == "wait" {
		args = append([]string{args[0], "wait " + args[2]}, args[3:]...)
	}
	if len(args) < 2 || len(args)%2 == 1 {
		return wrongUsage("too few arguments")
	}
	name, options := args[1], fakeOptions{}
	for i := 2; i < len(args); i += 2 {
		options[args[i]] = args[i+1]
	}
	known, ok := fakeCommands[args[0]+" "+name]
	if !ok || options["--output"] != "json" {
		return wrongUsage("argument operation: Invalid choice: " + name + ", or no --output json")
	}
	for option := range options {
		if option != "--output" && option != "--profile" && !slices.Contains(known.options, option) {
			return wrongUsage("unrecognized arguments: " + option)
		}
	}
	if hook := f.hooks[name]; hook != nil {
		delete(f.hooks, name)
		hook()
	}
	if f.denied == name {
		return serviceError254(
			known.operation, "AccessDenied",
			"User: arn:aws:sts::123456789012:assumed-role/Developer/alice is not authorized to perform: "+
				"iam:%s on resource: role orders-role", known.operation)
	}
	a := known.run(f, options, stdin)
	if f.twice && name == "update-function-configuration" {
		f.twice = false
		a = known.run(f, options, stdin)
	}
	if f.dead {
		return fakeAnswer{status: 255}
	}
	return a
}

type fakeOptions map[string]string

type fakeCommand struct {
	operation string
	options   []string
	run       func(*fakeAWS, fakeOptions, string) fakeAnswer
}

var fakeCommands = map[string]fakeCommand{
	"lambda get-function-configuration": {
		"GetFunctionConfiguration", []string{"--function-name"}, (*fakeAWS).getFunction},
	"lambda update-function-configuration": {
		"UpdateFunctionConfiguration",
		[]string{"--function-name", "--revision-id", "--layers", "--environment"}, (*fakeAWS).updateFunction},
	"lambda wait function-updated-v2": {
		"GetFunction", []string{"--function-name"}, (*fakeAWS).waitUpdated},
	"lambda wait function-active-v2": {
		"GetFunction", []string{"--function-name"}, (*fakeAWS).waitActive},
	"lambda list-functions": {"ListFunctions", []string{"--query"}, (*fakeAWS).listFunctions},
	"lambda list-layer-versions": {
		"ListLayerVersions", []string{"--layer-name", "--compatible-architecture"},
		(*fakeAWS).listLayerVersions},
	"lambda get-layer-version-by-arn": {
		"GetLayerVersionByArn", []string{"--arn"}, (*fakeAWS).getLayerVersion},
	"lambda publish-layer-version": {"PublishLayerVersion",
		[]string{"--layer-name", "--zip-file", "--compatible-architectures", "--description"},
		(*fakeAWS).publishLayerVersion},
	"iam list-attached-role-policies": {
		"ListAttachedRolePolicies", []string{"--role-name"}, (*fakeAWS).listRolePolicies},
	"iam attach-role-policy": {
		"AttachRolePolicy", []string{"--role-name", "--policy-arn"}, (*fakeAWS).attachRolePolicy},
	"iam detach-role-policy": {
		"DetachRolePolicy", []string{"--role-name", "--policy-arn"}, (*fakeAWS).detachRolePolicy},
	"cloudformation describe-stacks": {
		"DescribeStacks", []string{"--stack-name"}, (*fakeAWS).describeStacks},
}

func (f *fakeAWS) getFunction(o fakeOptions, _ string) fakeAnswer {
	fn := f.functions[o["--function-name"]]
	if fn == nil {
		return serviceError254(
			"GetFunctionConfiguration", "ResourceNotFoundException",
			"Function not found: arn:aws:lambda:eu-west-1:123456789012:function:%s", o["--function-name"])
	}
	config := f.decoded(o["--function-name"])
	config["RevisionId"] = fmt.Sprintf("revision-%d", fn.revision)
	config["LastModified"] = fmt.Sprintf("2026-01-01T00:00:%02d.000+0000", fn.revision)
	config["State"], config["LastUpdateStatus"] = "Active", "Successful"
	if fn.state != "" {
		config["State"] = fn.state
	}
	if fn.updating || fn.busy {
		config["LastUpdateStatus"], config["LastUpdateStatusReason"] = "InProgress",
			"The function is being created."
	}
	if fn.failed != "" {
		config["LastUpdateStatus"], config["LastUpdateStatusReason"] = "Failed", fn.failed
	}
	return printed(config)
}

func (f *fakeAWS) updateFunction(o fakeOptions, stdin string) fakeAnswer {
	const operation = "UpdateFunctionConfiguration"
	fn := f.functions[o["--function-name"]]
	var layers []string
	var environment struct{ Variables map[string]any }
	switch {
	case fn == nil:
		return serviceError254(operation, "ResourceNotFoundException", "Function not found")
	case fn.updating || fn.state == "Pending":
		return serviceError254(
			operation, "ResourceConflictException",
			"The operation cannot be performed at this time. An update is in progress for resource: orders")
	case o["--revision-id"] != fmt.Sprintf("revision-%d", fn.revision):
		return serviceError254(
			operation, "PreconditionFailedException",
			"The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias "+
				"API to retrieve the latest Revision Id")
	case o["--environment"] != "file:///dev/stdin":
		return wrongUsage("argument --environment: the test wants it on standard input")
	case json.Unmarshal([]byte(o["--layers"]), &layers) != nil ||
		json.Unmarshal([]byte(stdin), &environment) != nil:
		return wrongUsage("Invalid JSON")
	case strings.IndexFunc(stdin, func(r rune) bool { return r > '~' }) >= 0:
		return wrongUsage("not ASCII, so the locale matters")
	case len(layers) > 5:
		return serviceError254(operation, "InvalidParameterValueException", "Layers exceed the maximum of 5")
	}
	size := 0
	for name, value := range environment.Variables {
		size += len(name) + len(value.(string))
	}
	if size > 4096 {
		return serviceError254(
			operation, "InvalidParameterValueException", "exceeded the 4KB limit. String measured: %s", stdin)
	}
	fn.set(layers, environment.Variables)
	fn.revision++
	fn.updating, fn.failed, fn.fails = fn.fails == "", fn.fails, ""
	return f.getFunction(o, "")
}

// set shows neither an empty list of layers nor an empty environment, as the service.
func (fn *fakeFunction) set(layers []string, variables map[string]any) {
	var config map[string]any
	if err := json.Unmarshal(fn.config, &config); err != nil {
		panic(err) // written by indentJSON
	}
	delete(config, "Layers")
	delete(config, "Environment")
	refs := []any{}
	for _, arn := range layers {
		refs = append(refs, map[string]any{"Arn": arn, "CodeSize": 1000})
	}
	if len(refs) > 0 {
		config["Layers"] = refs
	}
	if len(variables) > 0 {
		config["Environment"] = map[string]any{"Variables": variables}
	}
	fn.config = indentJSON(config)
}

func (f *fakeAWS) waitUpdated(o fakeOptions, _ string) fakeAnswer {
	f.waited += "function-updated-v2 "
	fn := f.functions[o["--function-name"]]
	if fn.failed != "" {
		return fakeAnswer{
			err: "\nWaiter FunctionUpdatedV2 failed: Waiter encountered a terminal failure state: For " +
				"expression \"Configuration.LastUpdateStatus\" we matched expected path: \"Failed\"\n",
			status: 255}
	}
	if fn.updating {
		fn.updating = false
		fn.revision++ // so it does in the service
	}
	return fakeAnswer{}
}

func (f *fakeAWS) waitActive(o fakeOptions, _ string) fakeAnswer {
	f.waited += "function-active-v2 "
	f.functions[o["--function-name"]].state = ""
	return fakeAnswer{}
}

func (f *fakeAWS) listFunctions(o fakeOptions, _ string) fakeAnswer {
	if o["--query"] != "Functions[?Environment.Variables.LIVE_LAMBDA_ATTACHED].[FunctionName, Role, "+
		"Environment.Variables.LIVE_LAMBDA_ATTACHED]" {
		return wrongUsage("the fake knows one query only")
	}
	rows := []any{}
	for _, name := range slices.Sorted(maps.Keys(f.functions)) {
		if memory := f.variablesOf(name)[memoryVariable]; memory != nil {
			rows = append(rows, []any{name, f.decoded(name)["Role"], memory})
		}
	}
	return printed(rows)
}

func (f *fakeAWS) listLayerVersions(o fakeOptions, _ string) fakeAnswer {
	versions := []any{}
	for i, arches := range slices.Backward(f.layers[o["--layer-name"]]) {
		if arch := o["--compatible-architecture"]; arch == "" || slices.Contains(arches, arch) {
			versions = append(versions, layerVersion(o["--layer-name"], i+1, arches))
		}
	}
	return printed(map[string]any{"LayerVersions": versions})
}

func layerVersion(name string, version int, arches []string) map[string]any {
	arn := "arn:aws:lambda:eu-west-1:123456789012:layer:" + name
	return map[string]any{
		"LayerArn": arn, "LayerVersionArn": arn + ":" + strconv.Itoa(version), "Version": version,
		"CompatibleArchitectures": arches}
}

func (f *fakeAWS) getLayerVersion(o fakeOptions, _ string) fakeAnswer {
	parts := strings.Split(o["--arn"], ":")
	version, _ := strconv.Atoi(parts[len(parts)-1])
	versions := f.layers[parts[len(parts)-2]]
	if version < 1 || version > len(versions) {
		return serviceError254(
			"GetLayerVersionByArn", "ResourceNotFoundException", "The resource you requested does not exist.")
	}
	return printed(layerVersion(parts[len(parts)-2], version, versions[version-1]))
}

func (f *fakeAWS) publishLayerVersion(o fakeOptions, _ string) fakeAnswer {
	name := o["--layer-name"]
	path, ok := strings.CutPrefix(o["--zip-file"], "fileb://")
	if _, err := os.ReadFile(path); !ok || err != nil {
		return wrongUsage("Error parsing parameter '--zip-file'")
	}
	if strings.Contains(name, " ") {
		return serviceError254("PublishLayerVersion", "ValidationException", "1 validation error detected")
	}
	f.layers[name] = append(f.layers[name], []string{o["--compatible-architectures"]})
	return printed(layerVersion(name, len(f.layers[name]), []string{o["--compatible-architectures"]}))
}

func (f *fakeAWS) listRolePolicies(o fakeOptions, _ string) fakeAnswer {
	policies, ok := f.roles[o["--role-name"]]
	if !ok {
		return serviceError254(
			"ListAttachedRolePolicies", "NoSuchEntity", "The role with name %s cannot be found.",
			o["--role-name"])
	}
	list := []any{}
	for _, arn := range policies {
		list = append(
			list, map[string]any{"PolicyName": arn[strings.LastIndexByte(arn, '/')+1:], "PolicyArn": arn})
	}
	return printed(map[string]any{"AttachedPolicies": list})
}

func (f *fakeAWS) attachRolePolicy(o fakeOptions, _ string) fakeAnswer {
	if role := o["--role-name"]; !slices.Contains(f.roles[role], o["--policy-arn"]) {
		f.roles[role] = append(f.roles[role], o["--policy-arn"])
	}
	return fakeAnswer{}
}

func (f *fakeAWS) detachRolePolicy(o fakeOptions, _ string) fakeAnswer {
	role := o["--role-name"]
	i := slices.Index(f.roles[role], o["--policy-arn"])
	if i < 0 {
		return serviceError254(
			"DetachRolePolicy", "NoSuchEntity", "Policy %s was not found.", o["--policy-arn"])
	}
	f.roles[role] = slices.Delete(f.roles[role], i, i+1)
	return fakeAnswer{}
}

func (f *fakeAWS) describeStacks(o fakeOptions, _ string) fakeAnswer {
	outputs, ok := f.stacks[o["--stack-name"]]
	if !ok {
		return serviceError254(
			"DescribeStacks", "ValidationError", "Stack with id %s does not exist", o["--stack-name"])
	}
	return printed(
		map[string]any{
			"Stacks": []any{
				map[string]any{
					"StackName": o["--stack-name"], "StackStatus": "CREATE_COMPLETE", "Outputs": outputs}}})
}

// ---- as much of YAML as the template uses ----

// yamlTag is a scalar with a tag: !Ref, !GetAtt or !Sub.
type yamlTag struct{ tag, value string }

// parseYAML parses mappings, sequences and scalars of one line in block style, and fails at everything else.
func parseYAML(t *testing.T, text string) any {
	t.Helper()
	p := &yamlParser{t: t}
	var block *yamlLine
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		trimmed := strings.TrimLeft(line, " ")
		indent := len(line) - len(trimmed)
		if block != nil && (trimmed == "" || indent >= block.indent+2) {
			block.block += strings.TrimPrefix(line, strings.Repeat(" ", block.indent+2)) + "\n"
			continue
		}
		block = nil
		switch {
		case trimmed == "":
		case strings.HasSuffix(line, ": |"): // a text, until what is indented less
			p.lines = append(p.lines, yamlLine{i + 1, indent, trimmed, ""})
			block = &p.lines[len(p.lines)-1]
		case strings.ContainsAny(line, "\t#|>{}[]*%@`") && !strings.Contains(line, "!Sub \"") ||
			strings.TrimRight(line, " ") != line:
			t.Fatalf("line %d is beyond this parser: %q", i+1, line)
		default:
			p.lines = append(p.lines, yamlLine{i + 1, indent, trimmed, ""})
		}
	}
	v := p.node(0)
	if len(p.lines) > 0 {
		t.Fatalf("line %d has a wrong indentation: %q", p.lines[0].number, p.lines[0].text)
	}
	return v
}

type yamlLine struct {
	number, indent int
	text, block    string
}

type yamlParser struct {
	t     *testing.T
	lines []yamlLine
}

// node parses the lines that are indented by indent.
func (p *yamlParser) node(indent int) any {
	if strings.HasPrefix(p.lines[0].text, "- ") {
		var list []any
		for len(p.lines) > 0 && p.lines[0].indent == indent && strings.HasPrefix(p.lines[0].text, "- ") {
			p.lines[0].text, p.lines[0].indent = p.lines[0].text[2:], indent+2
			if !strings.HasSuffix(p.lines[0].text, ":") && !yamlKey.MatchString(p.lines[0].text) {
				list = append(list, p.scalar(p.lines[0].text))
				p.lines = p.lines[1:]
			} else {
				list = append(list, p.node(indent+2))
			}
		}
		return list
	}
	m := map[string]any{}
	for len(p.lines) > 0 && p.lines[0].indent == indent {
		line := p.lines[0]
		key := yamlKey.FindStringSubmatch(line.text)
		if key == nil || m[key[1]] != nil {
			p.t.Fatalf("line %d is no new key: %q", line.number, line.text)
		}
		p.lines = p.lines[1:]
		if rest := key[2]; rest == "|" {
			m[key[1]] = strings.TrimRight(line.block, "\n") + "\n"
		} else if rest != "" {
			m[key[1]] = p.scalar(rest)
		} else if len(p.lines) > 0 && p.lines[0].indent == indent+2 {
			m[key[1]] = p.node(indent + 2)
		} else {
			p.t.Fatalf("line %d has no value: %q", line.number, line.text)
		}
	}
	return m
}

var (
	yamlKey    = regexp.MustCompile(`^([A-Za-z]+):(?: (.+))?$`)
	yamlTagged = regexp.MustCompile(`^!(Ref|GetAtt|Sub) (.+)$`)
	yamlPlain  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9 :,._-]*$`)
)

func (p *yamlParser) scalar(s string) any {
	if m := yamlTagged.FindStringSubmatch(s); m != nil {
		return yamlTag{m[1], p.scalar(m[2]).(string)}
	}
	if strings.HasPrefix(s, `"`) {
		plain, err := strconv.Unquote(s)
		if err != nil {
			p.t.Fatalf("%s: %v", s, err)
		}
		return plain
	}
	// ": " begins a value in YAML, and these words are no strings.
	if !yamlPlain.MatchString(s) || strings.Contains(s, ": ") ||
		slices.Contains([]string{"true", "false", "yes", "no", "null", "on", "off"}, strings.ToLower(s)) {
		p.t.Fatalf("not a plain scalar: %q", s)
	}
	return s
}

// resolve replaces every function of CloudFormation by its value; one that names what is not there fails the
// test.
func resolve(t *testing.T, resources map[string]any, v any) any {
	t.Helper()
	lookUp := func(name, attribute string) string {
		if value, ok := pseudoParameters[name]; ok && attribute == "Ref" {
			return value
		}
		resource, _ := resources[name].(map[string]any)
		value, ok := templateValues[fmt.Sprint(resource["Type"])][attribute]
		if !ok {
			t.Errorf("there is no %s of %s", attribute, name)
		}
		return value
	}
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for key, value := range v {
			m[key] = resolve(t, resources, value)
		}
		return m
	case []any:
		var list []any
		for _, value := range v {
			list = append(list, resolve(t, resources, value))
		}
		return list
	case yamlTag:
		name, attribute, isAttribute := strings.Cut(v.value, ".")
		switch {
		case v.tag == "Ref":
			return lookUp(v.value, "Ref")
		case v.tag == "GetAtt" && isAttribute:
			return lookUp(name, attribute)
		case v.tag == "Sub":
			return regexp.MustCompile(`\$\{([^}]*)\}`).ReplaceAllStringFunc(v.value, func(s string) string {
				name, attribute, isAttribute := strings.Cut(s[2:len(s)-1], ".")
				if !isAttribute {
					attribute = "Ref"
				}
				return lookUp(name, attribute)
			})
		}
		t.Errorf("what is !%s %s?", v.tag, v.value)
	}
	return v
}
