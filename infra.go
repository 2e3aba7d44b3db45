//go:build !layer

package main

// infra.go is what live-lambda needs in an AWS account, attach.go aside: the CloudFormation template and its
// outputs, and the layer. Everything goes through the AWS CLI that the developer has, with its profiles,
// regions and credentials. In: command lines, and the JSON and errors that `aws` prints. Out: calls of `aws`,
// and lines for the developer. Exit status: 0 where all is as asked for, 1 where something failed, was
// refused or not confirmed, 2 for a command line that is not understood.

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	hostVariable   = "LIVE_LAMBDA_APPSYNC_HTTP_HOST"
	apiKeyVariable = "LIVE_LAMBDA_APPSYNC_API_KEY"
	layerName      = "live-lambda-" // and Go's name of the architecture
)

// goArch has Go's names for Lambda's architectures, by which build.sh names the zips.
var goArch = map[string]string{"x86_64": "amd64", "arm64": "arm64"}

// ---- command lines ----

// console is where a command reads and writes.
type console struct {
	in       io.Reader
	asks     bool // somebody at a terminal can answer
	out, err io.Writer
}

func newConsole() *console {
	return &console{in: os.Stdin, asks: columns(os.Stdin) > 0, out: os.Stdout, err: os.Stderr}
}

func templateCommand(args []string) int     { return newConsole().template(args) }
func publishLayerCommand(args []string) int { return newConsole().publishLayer(args) }
func attachCommand(args []string) int       { return newConsole().attach(args) }
func detachCommand(args []string) int       { return newConsole().detach(args) }

// apiFlags are the flags that win over environment variables.
var apiFlags = []struct{ name, variable string }{
	{"host", hostVariable},
	{"realtime-host", "LIVE_LAMBDA_APPSYNC_REALTIME_HOST"},
	{"region", "LIVE_LAMBDA_APPSYNC_REGION"},
	{"api-key", apiKeyVariable},
	{"namespace", "LIVE_LAMBDA_NAMESPACE"},
	{"stage", "LIVE_LAMBDA_STAGE"},
	{"protocol", "LIVE_LAMBDA_APPSYNC_PROTOCOL"},
}

// apiHelp describes apiFlags, and --stack and --profile.
const apiHelp = `  --stack NAME          read what is not set below from the outputs of this CloudFormation stack
  --profile NAME        profile of the AWS CLI
  --host HOST           the AppSync API's HTTP domain      (LIVE_LAMBDA_APPSYNC_HTTP_HOST)
  --realtime-host HOST  its realtime domain                (LIVE_LAMBDA_APPSYNC_REALTIME_HOST)
  --region REGION       its region                         (LIVE_LAMBDA_APPSYNC_REGION)
  --api-key KEY         an API key instead of IAM          (LIVE_LAMBDA_APPSYNC_API_KEY)
  --namespace NAME      channel namespace, live-lambda     (LIVE_LAMBDA_NAMESPACE)
  --stage NAME          a request channel of its own       (LIVE_LAMBDA_STAGE)
  --protocol PROTOCOL   events or graphql                  (LIVE_LAMBDA_APPSYNC_PROTOCOL)
`

// commandLine is the command line of one subcommand.
type commandLine struct {
	*flag.FlagSet
	console        *console
	help           string
	profile, stack string
	variables      map[string]string // set by flags
}

func (t *console) commandLine(name, help string) *commandLine {
	f := &commandLine{
		FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), console: t, help: help,
		variables: map[string]string{}}
	f.SetOutput(io.Discard) // parse tells what is wrong, and prints help that is shorter than flag's own
	return f
}

func (f *commandLine) addProfile() { f.StringVar(&f.profile, "profile", "", "") }

func (f *commandLine) addAPI() {
	f.addProfile()
	f.StringVar(&f.stack, "stack", "", "")
	for _, a := range apiFlags {
		f.Func(a.name, "", func(s string) error { f.variables[a.variable] = s; return nil })
	}
}

// parse reads flags and other words in any order. ok is false where the command is to end with status.
func (f *commandLine) parse(args []string) (words []string, status int, ok bool) {
	for len(args) > 0 {
		err := f.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(f.console.out, f.help)
			return nil, 0, false
		}
		if err != nil {
			return nil, f.wrong("%v", err), false
		}
		if args = f.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	return words, 0, true
}

// wrong says what is wrong with the command line and returns the exit status.
func (f *commandLine) wrong(format string, args ...any) int {
	fmt.Fprintf(f.console.err, "live-lambda %s: %s; see --help\n", f.Name(), fmt.Sprintf(format, args...))
	return 2
}

// getenv returns what is set: by flags, else by the environment, else by the stack.
func (f *commandLine) getenv(ctx context.Context) (func(string) string, error) {
	getenv := func(name string) string { return cmp.Or(f.variables[name], os.Getenv(name)) }
	if f.stack == "" {
		return getenv, nil
	}
	return stackGetenv(ctx, f.stack, f.profile, getenv)
}

// ---- the AWS CLI ----

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

// ---- stacks ----

// stackTemplate makes an AppSync API and the policies that its two ends need, of which an allowance says the
// rest. Outputs are named after the variables that they are for: see variableOf.
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsappsync.html
const stackTemplate = `AWSTemplateFormatVersion: "2010-09-09"
Description: live-lambda, an AppSync KIND API that takes invocations of Lambda functions to developers and back

Resources:
RESOURCES
  FunctionPolicy:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      Description: for the roles of functions that live-lambda is attached to
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
ALLOWANCE
  DeveloperPolicy:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      Description: for developers who run live-lambda local
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
ALLOWANCE
Outputs:
OUTPUTS  LiveLambdaAppsyncRegion:
    Description: LIVE_LAMBDA_APPSYNC_REGION
    Value: !Ref AWS::Region
  LiveLambdaFunctionPolicyArn:
    Description: policy for the roles of functions
    Value: !Ref FunctionPolicy
  LiveLambdaDeveloperPolicyArn:
    Description: policy for developers
    Value: !Ref DeveloperPolicy
`

// eventTemplate has an Event API and its namespace.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-appsync-api.html
func eventTemplate() string {
	return strings.NewReplacer("KIND", "Event", "RESOURCES", `  EventApi:
    Type: AWS::AppSync::Api
    Properties:
      Name: live-lambda
      EventConfig:
        AuthProviders:
          - AuthType: AWS_IAM
        ConnectionAuthModes:
          - AuthType: AWS_IAM
        DefaultPublishAuthModes:
          - AuthType: AWS_IAM
        DefaultSubscribeAuthModes:
          - AuthType: AWS_IAM

  Namespace:
    Type: AWS::AppSync::ChannelNamespace
    Properties:
      ApiId: !GetAtt EventApi.ApiId
      Name: live-lambda
`, "ALLOWANCE", `          - Effect: Allow
            Action: appsync:EventConnect
            Resource: !Sub "arn:${AWS::Partition}:appsync:${AWS::Region}:${AWS::AccountId}:apis/${EventApi.ApiId}"
          - Effect: Allow
            Action:
              - appsync:EventPublish
              - appsync:EventSubscribe
            Resource: !Sub "arn:${AWS::Partition}:appsync:${AWS::Region}:${AWS::AccountId}:apis/${EventApi.ApiId}/channelNamespace/live-lambda"
`, "OUTPUTS", `  LiveLambdaAppsyncHttpHost:
    Description: LIVE_LAMBDA_APPSYNC_HTTP_HOST
    Value: !GetAtt EventApi.Dns.Http
  LiveLambdaAppsyncRealtimeHost:
    Description: LIVE_LAMBDA_APPSYNC_REALTIME_HOST
    Value: !GetAtt EventApi.Dns.Realtime
`).Replace(stackTemplate)
}

// graphqlTemplate has a GraphQL API in which what is published passes through, without a data source. The
// resolver gets a value of AWSJSON parsed, and AppSync makes text of what it returns.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-appsync-graphqlapi.html
// https://docs.aws.amazon.com/appsync/latest/devguide/tutorial-local-resolvers-js.html
func graphqlTemplate() string {
	return strings.NewReplacer("KIND", "GraphQL", "RESOURCES", `  GraphqlApi:
    Type: AWS::AppSync::GraphQLApi
    Properties:
      Name: live-lambda
      AuthenticationType: AWS_IAM

  Schema:
    Type: AWS::AppSync::GraphQLSchema
    Properties:
      ApiId: !GetAtt GraphqlApi.ApiId
      Definition: |
`+regexp.MustCompile(`(?m)^.`).ReplaceAllString(graphqlSchema, "        $0")+`
  NoDataSource:
    Type: AWS::AppSync::DataSource
    Properties:
      ApiId: !GetAtt GraphqlApi.ApiId
      Name: none
      Type: NONE

  Publish:
    Type: AWS::AppSync::Resolver
    DependsOn: Schema
    Properties:
      ApiId: !GetAtt GraphqlApi.ApiId
      TypeName: Mutation
      FieldName: publish
      DataSourceName: !GetAtt NoDataSource.Name
      Runtime:
        Name: APPSYNC_JS
        RuntimeVersion: "1.0.0"
      Code: |
        export function request(ctx) {
          return { payload: { name: ctx.args.name, data: ctx.args.data } };
        }
        export function response(ctx) {
          return ctx.result;
        }
`, "ALLOWANCE", `          - Effect: Allow
            Action: appsync:GraphQL
            Resource:
              - !Sub "arn:${AWS::Partition}:appsync:${AWS::Region}:${AWS::AccountId}:apis/${GraphqlApi.ApiId}/types/Mutation/fields/publish"
              - !Sub "arn:${AWS::Partition}:appsync:${AWS::Region}:${AWS::AccountId}:apis/${GraphqlApi.ApiId}/types/Subscription/fields/subscribe"
`, "OUTPUTS", `  LiveLambdaAppsyncProtocol:
    Description: LIVE_LAMBDA_APPSYNC_PROTOCOL
    Value: graphql
  LiveLambdaAppsyncHttpHost:
    Description: LIVE_LAMBDA_APPSYNC_HTTP_HOST
    Value: !GetAtt GraphqlApi.GraphQLDns
  LiveLambdaAppsyncRealtimeHost:
    Description: LIVE_LAMBDA_APPSYNC_REALTIME_HOST
    Value: !GetAtt GraphqlApi.RealtimeDns
`).Replace(stackTemplate)
}

const templateHelp = `usage: live-lambda template [--protocol events|graphql]

Prints a CloudFormation template: an AppSync Event API with IAM authorization and the namespace
live-lambda, a policy for the roles of functions, one for developers, and as outputs what --stack
reads. Deploy it with

  live-lambda template > live-lambda.yaml
  aws cloudformation deploy --stack-name live-lambda --template-file live-lambda.yaml \
    --capabilities CAPABILITY_IAM

  --protocol PROTOCOL  graphql: a GraphQL API, with schema and resolver, instead of an Event API
`

func (t *console) template(args []string) int {
	f := t.commandLine("template", templateHelp)
	protocol := f.String("protocol", "events", "")
	words, status, ok := f.parse(args)
	switch {
	case !ok:
		return status
	case len(words) > 0:
		return f.wrong("what is %q?", words[0])
	}
	template := map[string]string{"events": eventTemplate(), "graphql": graphqlTemplate()}[*protocol]
	if template == "" {
		return f.wrong("--protocol is %q, not events or graphql", *protocol)
	}
	fmt.Fprint(t.out, template)
	return 0
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

// ---- the layer ----

const publishLayerHelp = `usage: live-lambda publish-layer [flags] ARCHITECTURE ...

Publishes the layer that ./build.sh has built for an architecture, x86_64 or arm64, as a new
version, and prints its ARN. attach takes the newest version by itself.

  --zip FILE      the layer, instead of dist/live-lambda-layer-amd64.zip or -arm64.zip
  --name NAME     the layer's name, instead of live-lambda-amd64 or live-lambda-arm64
  --profile NAME  profile of the AWS CLI
`

func (t *console) publishLayer(args []string) int {
	f := t.commandLine("publish-layer", publishLayerHelp)
	f.addProfile()
	file, name := f.String("zip", "", ""), f.String("name", "", "")
	words, status, ok := f.parse(args)
	switch {
	case !ok:
		return status
	case len(words) == 0:
		return f.wrong("for which architecture, x86_64 or arm64?")
	case len(words) > 1 && *file+*name != "":
		return f.wrong("--zip and --name are for one architecture")
	}
	for i, word := range words {
		words[i] = map[string]string{"amd64": "x86_64", "x86-64": "x86_64", "aarch64": "arm64"}[word]
		words[i] = cmp.Or(words[i], word)
		if goArch[words[i]] == "" {
			return f.wrong("the architecture %q is not x86_64 or arm64", word)
		}
	}
	for _, arch := range words {
		arn, err := awsCLI{
			f.profile}.publishLayer(context.Background(), arch, cmp.Or(*name, layerName+goArch[arch]),
			cmp.Or(*file, filepath.Join("dist", "live-lambda-layer-"+goArch[arch]+".zip")))
		if err != nil {
			fmt.Fprintf(t.err, "%s: %v\n", arch, err)
			status = 1
			continue
		}
		fmt.Fprintln(t.out, arn)
	}
	return status
}

func (a awsCLI) publishLayer(ctx context.Context, arch, name, file string) (arn string, err error) {
	if err := checkLayerZip(file, arch); err != nil {
		return "", err
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	var published struct{ LayerVersionArn string }
	err = a.run(ctx, &published, nil, "lambda", "publish-layer-version", "--layer-name", name, "--zip-file",
		"fileb://"+path,
		"--compatible-architectures", arch, "--description",
		"live-lambda: invocations run on a developer's machine")
	return published.LayerVersionArn, err
}

// checkLayerZip checks what would keep every function with this layer from starting: the extension is
// missing, cannot be executed, or is for another architecture. A launcher, which is a script, is for all of
// them.
func checkLayerZip(file, arch string) error {
	z, err := zip.OpenReader(file)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is not there; run ./build.sh first, or name the zip with --zip", file)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer z.Close()
	const name = "extensions/live-lambda-extension"
	i := slices.IndexFunc(z.File, func(f *zip.File) bool { return f.Name == name })
	if i < 0 || z.File[i].Mode()&0o111 == 0 {
		return fmt.Errorf("%s has no executable %s; it is not a layer that ./build.sh has built", file, name)
	}
	r, err := z.File[i].Open()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer r.Close()
	head, err := io.ReadAll(io.LimitReader(r, 20))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) || len(head) < 20 {
		return nil
	}
	machine := elf.Machine(uint16(head[18]) | uint16(head[19])<<8)
	if want := map[string]elf.Machine{
		"x86_64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]; machine != want {
		return fmt.Errorf("%s is for %s, not for %s", file, machine, arch)
	}
	return nil
}

// layerFor returns the ARN of the layer version to attach to a function of an architecture. layer is such an
// ARN, or a layer, whose newest version is taken; empty stands for the one that publish-layer publishes.
func (a awsCLI) layerFor(ctx context.Context, layer, arch string) (string, error) {
	if layerOf(layer) != layer {
		var version struct{ CompatibleArchitectures []string }
		if err := a.run(
			ctx, &version, nil, "lambda", "get-layer-version-by-arn", "--arn", layer); err != nil {
			return "", err
		}
		if fits := version.CompatibleArchitectures; len(fits) > 0 && !slices.Contains(fits, arch) {
			return "", fmt.
				Errorf("its architecture is %s, and layer %s is for %s: publish one with `live-lambda "+
					"publish-layer %s`",
					arch, layer, strings.Join(fits, " and "), arch)
		}
		return layer, nil
	}
	name := cmp.Or(layer, layerName+goArch[arch])
	var list struct {
		LayerVersions []struct {
			LayerVersionArn string
			Version         int
		}
	}
	err := a.run(
		ctx, &list, nil, "lambda", "list-layer-versions", "--layer-name", name, "--compatible-architecture",
		arch)
	if err != nil {
		return "", err
	}
	arn, newest := "", 0
	for _, v := range list.LayerVersions {
		if v.Version > newest {
			arn, newest = v.LayerVersionArn, v.Version
		}
	}
	if arn == "" {
		return "", fmt.Errorf(
			"there is no layer %s for %s: publish it with `live-lambda publish-layer %s`", name, arch, arch)
	}
	return arn, nil
}

// layerOf is the layer of a layer version's ARN: arn:aws:lambda:REGION:ACCOUNT:layer:NAME of …:NAME:VERSION.
func layerOf(arn string) string {
	if parts := strings.Split(arn, ":"); len(parts) == 8 {
		return strings.Join(parts[:7], ":")
	}
	return arn
}

// regional is getenv with the region of a standard host name, LABEL.appsync-api.REGION.amazonaws.com, where
// none is set.
func regional(getenv func(string) string) func(string) string {
	return func(name string) string {
		value := getenv(name)
		if name == "LIVE_LAMBDA_APPSYNC_REGION" && value == "" && getenv("AWS_REGION") == "" {
			return regionOf(strings.ToLower(getenv(hostVariable)))
		}
		return value
	}
}

// regionOf is the region in a standard host name, or empty.
func regionOf(host string) string {
	_, rest, _ := strings.Cut(host, ".appsync-api.")
	region, _, _ := strings.Cut(rest, ".")
	return region
}
