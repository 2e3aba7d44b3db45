//go:build !layer

package main

// events.go has sample events of the services that invoke functions, and the command events, which lists and
// prints them. They are the files in events/, written from AWS's documented formats with values of their own.
// It also reads what other commands take as an event: a sample or a file, with what --set changes. In: names
// and files. Out: JSON.

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

//go:embed events/*.json
var sampleFiles embed.FS

// sampleEvent is one of the samples. Its file is events/NAME.json.
type sampleEvent struct {
	name    string
	summary string
}

// sampleEvents are the samples in the order in which they are listed.
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-services.html
var sampleEvents = []sampleEvent{
	{name: "api-v1", summary: "API Gateway: REST API, or HTTP API with format 1.0"},
	{name: "api-v2", summary: "API Gateway: HTTP API with format 2.0"},
	{name: "function-url", summary: "Function URL"},
	{name: "alb", summary: "Application Load Balancer"},
	{name: "alb-multi-value", summary: "Application Load Balancer, multi-value headers"},
	{name: "lattice", summary: "VPC Lattice"},
	{name: "websocket-connect", summary: "API Gateway: WebSocket API, $connect"},
	{name: "websocket-message", summary: "API Gateway: WebSocket API, a message"},
	{name: "websocket-disconnect", summary: "API Gateway: WebSocket API, $disconnect"},
	{name: "authorizer-token", summary: "API Gateway: authorizer, type TOKEN"},
	{name: "authorizer-request", summary: "API Gateway: authorizer, type REQUEST"},
	{name: "authorizer-v2", summary: "API Gateway: authorizer of an HTTP API"},
	{name: "authorizer-websocket", summary: "API Gateway: authorizer of a WebSocket API"},
	{name: "appsync", summary: "AppSync: direct Lambda resolver"},
	{name: "appsync-batch", summary: "AppSync: direct Lambda resolver, BatchInvoke"},
	{name: "appsync-authorizer", summary: "AppSync: Lambda authorization"},
	{name: "sqs", summary: "SQS"},
	{name: "sqs-fifo", summary: "SQS, a FIFO queue"},
	{name: "sns", summary: "SNS"},
	{name: "sns-sqs", summary: "SNS through SQS, not raw"},
	{name: "eventbridge", summary: "EventBridge: an event of your own"},
	{name: "schedule", summary: "EventBridge: a rule's schedule"},
	{name: "pipes-sqs", summary: "EventBridge Pipes: a batch from SQS"},
	{name: "s3", summary: "S3 notification: an object was created"},
	{name: "s3-eventbridge", summary: "S3 through EventBridge: an object was created"},
	{name: "s3-batch", summary: "S3 Batch Operations"},
	{name: "dynamodb", summary: "DynamoDB stream: an item was changed"},
	{name: "kinesis", summary: "Kinesis data stream"},
	{name: "firehose", summary: "Data Firehose: records to transform"},
	{name: "msk", summary: "Amazon MSK (Kafka)"},
	{name: "kafka", summary: "self-managed Kafka"},
	{name: "activemq", summary: "Amazon MQ: ActiveMQ"},
	{name: "rabbitmq", summary: "Amazon MQ: RabbitMQ"},
	{name: "documentdb", summary: "DocumentDB change stream"},
	{name: "step-functions", summary: "Step Functions: the state's input and a task token"},
	{name: "destination", summary: "Lambda: on-failure destination"},
	{name: "cloudwatch-logs", summary: "CloudWatch Logs subscription (base64 of gzip)"},
	{name: "cloudwatch-alarm", summary: "CloudWatch alarm"},
	{name: "ses", summary: "SES: received mail"},
	{name: "iot", summary: "IoT rule: the message, as SELECT * passes it on"},
	{name: "iot-authorizer", summary: "IoT custom authorizer"},
	{name: "lex", summary: "Lex V2: code hook"},
	{name: "custom-resource", summary: "CloudFormation custom resource"},
	{name: "config", summary: "AWS Config: custom rule"},
	{name: "codepipeline", summary: "CodePipeline: Lambda action"},
	{name: "secretsmanager", summary: "Secrets Manager: rotation"},
	{name: "cognito-pre-sign-up", summary: "Cognito trigger: pre sign-up"},
	{name: "cognito-post-confirmation", summary: "Cognito trigger: post confirmation"},
	{name: "cognito-pre-authentication", summary: "Cognito trigger: pre authentication"},
	{name: "cognito-post-authentication", summary: "Cognito trigger: post authentication"},
	{name: "cognito-pre-token", summary: "Cognito trigger: pre token generation, V1"},
	{name: "cognito-pre-token-v2", summary: "Cognito trigger: pre token generation, V2"},
	{name: "cognito-custom-message", summary: "Cognito trigger: custom message"},
	{name: "cognito-email-sender", summary: "Cognito trigger: custom email sender"},
	{name: "cognito-user-migration", summary: "Cognito trigger: migrate user"},
	{name: "cognito-define-challenge", summary: "Cognito trigger: define auth challenge"},
	{name: "cognito-create-challenge", summary: "Cognito trigger: create auth challenge"},
	{name: "cognito-verify-challenge", summary: "Cognito trigger: verify auth challenge response"},
}

const setUsage = "change the event, `PATH=VALUE`: Records[0].body=hello; may be repeated"

const eventsUsage = `usage: live-lambda events [flags] [NAME]

Prints the sample event NAME of a service as JSON; without a NAME it lists the
samples. They have the fields that AWS documents, and made-up values. invoke and
send take them with --event NAME.

With --set, PATH is keys with dots between them and [N] for an item of a list.
["KEY"] is a key with other characters. It goes on into JSON that is in a
string, as the body of an SQS message often is:
  live-lambda events sqs --set 'Records[0].body.total=5'
The last key may be new, and so may the item right behind a list's last one.
VALUE is JSON if it is valid JSON, else a string:
  live-lambda events api-v2 --set 'version="2"' --set isBase64Encoded=true`

// events is the command events.
func (t *console) events(args []string) int {
	f := t.commandLine("events", eventsUsage)
	var o eventFlags
	f.Func("set", setUsage, o.addSet)
	words, status, ok := f.parse(args)
	switch {
	case !ok:
		return status
	case len(words) > 1:
		return f.wrong("there is no use for %q", words[1])
	case len(words) == 0 && len(o.changes) > 0:
		return f.wrong("--set goes with the NAME of a sample")
	case len(words) == 0:
		listSamples(t.out)
		return 0
	}
	o.sample = words[0]
	event, err := o.sampleText()
	if err == nil {
		event, err = o.change(event)
	}
	if err != nil {
		return f.wrong("%v", err)
	}
	var text bytes.Buffer
	json.Indent(&text, event, "", "  ") // it is valid
	fmt.Fprintf(t.out, "%s\n", text.Bytes())
	return 0
}

// listSamples prints the names with what they are.
func listSamples(out io.Writer) {
	width := 0
	for _, s := range sampleEvents {
		width = max(width, len(s.name))
	}
	for _, s := range sampleEvents {
		fmt.Fprintf(out, "%-*s  %s\n", width, s.name, s.summary)
	}
}

// ---- the event of a command ----

// eventFlags say what the event of a command is: a sample, if one is named, and what is changed in it, or in
// the event of a file.
type eventFlags struct {
	sample  string
	changes []eventChange
}

// add adds the flags to f.
func (o *eventFlags) add(f *commandLine) {
	f.StringVar(&o.sample, "event", "",
		"the sample event of this `name`, in place of a FILE")
	f.Func("set", setUsage, o.addSet)
}

// addSet takes the value of --set.
func (o *eventFlags) addSet(text string) error {
	c, err := readChange(text)
	o.changes = append(o.changes, c)
	return err
}

// change returns the event with what --set changes.
func (o *eventFlags) change(event []byte) ([]byte, error) {
	for _, c := range o.changes {
		var err error
		event, err = c.in(event)
		if err != nil {
			return nil, fmt.Errorf("--set %s: %w", c.text, err)
		}
	}
	return event, nil
}

// sampleText is the text of the sample that is named, without white space.
func (o *eventFlags) sampleText() ([]byte, error) {
	text, err := sampleFiles.ReadFile("events/" + o.sample + ".json")
	if err == nil {
		var compact bytes.Buffer
		err = json.Compact(&compact, text)
		return compact.Bytes(), err
	}
	near := nearSamples(o.sample)
	if len(near) == 0 {
		return nil, fmt.Errorf("there is no sample event %q; `live-lambda events` lists them", o.sample)
	}
	return nil, fmt.Errorf("there is no sample event %q; near it: %s", o.sample, strings.Join(near, ", "))
}

const maxNear = 6 // names that an error suggests

// nearSamples returns the names of samples that somebody may mean: first those that have the name in them, or
// in what they are, then those that a few letters tell from it.
func nearSamples(name string) []string {
	word := lettersOf(name)
	var within, near []string
	for _, s := range sampleEvents {
		text := lettersOf(s.name) + " " + lettersOf(s.summary)
		switch {
		case len(word) > 1 && strings.Contains(text, word):
			within = append(within, s.name)
		case distance(word, lettersOf(s.name)) <= 1+len(word)/4:
			near = append(near, s.name)
		}
	}
	near = append(within, near...)
	return near[:min(len(near), maxNear)]
}

// lettersOf is text in lower case, without what is neither a letter nor a digit.
func lettersOf(text string) string {
	return strings.Map(func(r rune) rune {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return -1
		}
		return r
	}, strings.ToLower(text))
}

// distance is how many bytes have to be put in, taken out or replaced to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // for the part of a that has been looked at, and each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j]+1, diagonal+1, replaced)
		}
	}
	return row[len(b)]
}

// files are those that a command line names, - for standard input, or what stands for the sample.
func (o *eventFlags) files(named []string) ([]string, error) {
	switch {
	case o.sample == "" && len(named) == 0:
		return []string{"-"}, nil
	case o.sample == "":
		return named, nil
	case len(named) > 0:
		return nil, fmt.Errorf("there is no use for %q beside --event", named[0])
	}
	return []string{"--event " + o.sample}, nil
}

// read reads the text of a file, one of those that files returns.
func (o *eventFlags) read(stdin io.Reader, file string) ([]byte, error) {
	switch {
	case o.sample != "":
		return o.sampleText()
	case file == "-":
		return io.ReadAll(io.LimitReader(stdin, 2*maxPayload))
	}
	return os.ReadFile(file)
}

// recorded reports whether text is a recording, which `live-lambda local --record` has kept, with or without
// what has become of the invocation, and not an event.
func recorded(text []byte) bool {
	var keys map[string]json.RawMessage
	json.Unmarshal(text, &keys)
	want := 2
	if bytes.HasPrefix(keys["invocation"], []byte("{")) {
		want = 3
	}
	return len(keys) == want && keys["event_payload"] != nil && bytes.HasPrefix(keys["context"], []byte("{"))
}
