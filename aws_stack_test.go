//go:build !layer

package main

// aws_stack_test.go resolves the templates as CloudFormation would, with as much of YAML as they use.

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

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

const templateAPI = "arn:aws-test:appsync:eu-test-1:123456789012:apis/apiid"

func TestTemplateMakesAnEventAPI(t *testing.T) {
	iam := []any{map[string]any{"AuthType": "AWS_IAM"}}
	resources := map[string]any{
		"EventApi": map[string]any{
			"Type": "AWS::AppSync::Api",
			"Properties": map[string]any{
				"Name": "live-lambda",
				"EventConfig": map[string]any{
					"AuthProviders":             iam,
					"ConnectionAuthModes":       iam,
					"DefaultPublishAuthModes":   iam,
					"DefaultSubscribeAuthModes": iam,
				},
			},
		},
		"Namespace": map[string]any{
			"Type":       "AWS::AppSync::ChannelNamespace",
			"Properties": map[string]any{"ApiId": "apiid", "Name": "live-lambda"},
		},
	}
	compareTemplate(t, nil, "Event", resources, []any{
		map[string]any{"Effect": "Allow", "Action": "appsync:EventConnect", "Resource": templateAPI},
		map[string]any{
			"Effect":   "Allow",
			"Action":   []any{"appsync:EventPublish", "appsync:EventSubscribe"},
			"Resource": templateAPI + "/channelNamespace/live-lambda",
		},
	})
}

func TestTemplateMakesAGraphQLAPI(t *testing.T) {
	resources := map[string]any{
		"GraphqlApi": map[string]any{
			"Type":       "AWS::AppSync::GraphQLApi",
			"Properties": map[string]any{"Name": "live-lambda", "AuthenticationType": "AWS_IAM"},
		},
		"Schema": map[string]any{
			"Type":       "AWS::AppSync::GraphQLSchema",
			"Properties": map[string]any{"ApiId": "apiid", "Definition": graphqlSchema},
		},
		"NoDataSource": map[string]any{
			"Type":       "AWS::AppSync::DataSource",
			"Properties": map[string]any{"ApiId": "apiid", "Name": "none", "Type": "NONE"},
		},
		"Publish": map[string]any{
			"Type":      "AWS::AppSync::Resolver",
			"DependsOn": "Schema",
			"Properties": map[string]any{
				"ApiId":          "apiid",
				"TypeName":       "Mutation",
				"FieldName":      "publish",
				"DataSourceName": "none",
				"Runtime":        map[string]any{"Name": "APPSYNC_JS", "RuntimeVersion": "1.0.0"},
				"Code": "export function request(ctx) {\n" +
					"  return { payload: { name: ctx.args.name, data: ctx.args.data } };\n}\n" +
					"export function response(ctx) {\n  return ctx.result;\n}\n",
			},
		},
	}
	compareTemplate(t, []string{"--protocol", "graphql"}, "GraphQL", resources, []any{
		map[string]any{
			"Effect": "Allow",
			"Action": "appsync:GraphQL",
			"Resource": []any{
				templateAPI + "/types/Mutation/fields/publish",
				templateAPI + "/types/Subscription/fields/subscribe",
			},
		},
	})
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
	g := indentJSON(got)
	w := indentJSON(want)
	if !bytes.Equal(g, w) {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

// templateEnvironment deploys both templates to the fake, as the stacks dev and graphql, and returns what
// --stack reads of one.
func templateEnvironment(t *testing.T, stack string) func(string) string {
	t.Helper()
	f := newFakeAWS(t)
	clear(f.stacks)
	for stack, text := range map[string]string{"dev": eventTemplate(), "graphql": graphqlTemplate()} {
		template := parseYAML(t, text).(map[string]any)
		outputs := resolve(t, template["Resources"].(map[string]any), template["Outputs"]).(map[string]any)
		for key, output := range outputs {
			value := output.(map[string]any)["Value"].(string)
			f.stacks[stack] = append(f.stacks[stack], fakeOutput{OutputKey: key, OutputValue: value})
		}
	}
	f.turn()
	getenv, err := stackGetenv(t.Context(), stack, awsCLI{}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return getenv
}

func TestTemplateOutputsAreAWholeConfiguration(t *testing.T) {
	const http = "https://label.appsync-api.eu-test-1.amazonaws.com"
	const realtime = "https://label.appsync-realtime-api.eu-test-1.amazonaws.com"
	for stack, want := range map[string]string{
		"dev":     http + "/event " + realtime + "/event/realtime",
		"graphql": http + "/graphql " + realtime + "/graphql",
	} {
		getenv := templateEnvironment(t, stack)
		cfg, problems := readConfig(getenv)
		if len(problems) > 0 || cfg.api == nil {
			t.Fatalf("problems: %q", problems)
		}
		got := cfg.api.http.String() + " " + cfg.api.realtime.String() + " " + cfg.api.region + " " +
			cfg.api.requests(cfg.api.stage) + " " + getenv(policyVariable)
		want += " eu-test-1 /live-lambda/requests arn:aws-test:iam::123456789012:policy/p"
		if got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}

func TestAttachTakesTheProtocolFromTheTemplate(t *testing.T) {
	for stack, want := range map[string]string{"dev": "", "graphql": "graphql"} {
		variables, err := functionVariables(templateEnvironment(t, stack), nil)
		if err != nil || variables["LIVE_LAMBDA_APPSYNC_PROTOCOL"] != want {
			t.Errorf("%s: attach would set %v, %v", stack, variables, err)
		}
	}
}

const (
	stackPolicy = "arn:aws:iam::123456789012:policy/live-lambda-FunctionPolicy-1"
	basicPolicy = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
)

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
			p.lines = append(p.lines, yamlLine{number: i + 1, indent: indent, text: trimmed})
			block = &p.lines[len(p.lines)-1]
		case strings.ContainsAny(line, "\t#|>{}[]*%@`") && !strings.Contains(line, "!Sub \"") ||
			strings.TrimRight(line, " ") != line:
			t.Fatalf("line %d is beyond this parser: %q", i+1, line)
		default:
			p.lines = append(p.lines, yamlLine{number: i + 1, indent: indent, text: trimmed})
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
		rest := key[2]
		if rest == "|" {
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
	m := yamlTagged.FindStringSubmatch(s)
	if m != nil {
		return yamlTag{tag: m[1], value: p.scalar(m[2]).(string)}
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
		value, ok := pseudoParameters[name]
		if ok && attribute == "Ref" {
			return value
		}
		resource, _ := resources[name].(map[string]any)
		value, ok = templateValues[fmt.Sprint(resource["Type"])][attribute]
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
