//go:build !layer

package main

// events_test.go tests the sample events against what AWS documents of them, and the command events.

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// runEvents runs the command events.
func runEvents(args ...string) result {
	var out, errOut bytes.Buffer
	status := (&console{out: &out, err: &errOut}).command(append([]string{"events"}, args...))
	return result{status: status, out: out.String(), err: errOut.String()}
}

const (
	proxyKeys = "body headers httpMethod isBase64Encoded multiValueHeaders multiValueQueryStringParameters " +
		"path pathParameters queryStringParameters requestContext resource stageVariables"
	eventBridgeKeys = "account detail detail-type id region resources source time version"
	cognitoKeys     = "callerContext region request response triggerSource userName userPoolId version"
	appsyncKeys     = "arguments identity info prev request source stash"
)

// sampleFacts say of each sample which keys its event has at the top, or the first item if it is a list, and
// a value at a path (as of --set) which no other sample has there: it tells who has invoked the function.
var sampleFacts = map[string]struct{ keys, path, value string }{
	"api-v1": {keys: proxyKeys, path: "requestContext.resourcePath", value: `"/orders/{orderId}"`},
	"api-v2": {
		keys: "body cookies headers isBase64Encoded queryStringParameters rawPath rawQueryString " +
			"requestContext routeKey version",
		path: "requestContext.routeKey", value: `"POST /orders"`,
	},
	"function-url": {
		keys: "headers isBase64Encoded queryStringParameters rawPath rawQueryString requestContext " +
			"routeKey version",
		path:  "requestContext.domainName",
		value: `"abcdefghijklmnopqrstuvwxyz012345.lambda-url.eu-west-1.on.aws"`,
	},
	"alb": {
		keys: "body headers httpMethod isBase64Encoded path queryStringParameters requestContext",
		path: "headers.host", value: `"shop.example.com"`,
	},
	"alb-multi-value": {
		keys: "body httpMethod isBase64Encoded multiValueHeaders multiValueQueryStringParameters path " +
			"requestContext",
		path: "multiValueHeaders.host", value: `["shop.example.com"]`,
	},
	"lattice": {
		keys: "body headers isBase64Encoded method path queryStringParameters requestContext version",
		path: "requestContext.serviceArn",
		value: `"arn:aws:vpc-lattice:eu-west-1:123456789012:service/` +
			`svc-0123456789abcdef0"`,
	},
	"websocket-connect": {
		keys: "headers isBase64Encoded multiValueHeaders multiValueQueryStringParameters " +
			"queryStringParameters requestContext",
		path: "queryStringParameters.room", value: `"orders"`,
	},
	"websocket-message": {
		keys: "body isBase64Encoded requestContext",
		path: "requestContext.eventType", value: `"MESSAGE"`,
	},
	"websocket-disconnect": {
		keys: "headers isBase64Encoded multiValueHeaders requestContext",
		path: "requestContext.eventType", value: `"DISCONNECT"`,
	},
	"authorizer-token": {keys: "authorizationToken methodArn type", path: "type", value: `"TOKEN"`},
	"authorizer-request": {
		keys: "headers httpMethod methodArn multiValueHeaders multiValueQueryStringParameters path " +
			"pathParameters queryStringParameters requestContext resource stageVariables type",
		path: "headers.Authorization", value: `"Bearer example-token"`,
	},
	"authorizer-v2": {
		keys: "cookies headers identitySource queryStringParameters rawPath rawQueryString requestContext " +
			"routeArn routeKey type version",
		path:  "routeArn",
		value: `"arn:aws:execute-api:eu-west-1:123456789012:abcde12345/$default/GET/orders"`,
	},
	"authorizer-websocket": {
		keys: "headers methodArn multiValueHeaders multiValueQueryStringParameters queryStringParameters " +
			"requestContext stageVariables type",
		path: "methodArn", value: `"arn:aws:execute-api:eu-west-1:123456789012:vwxyz67890/prod/$connect"`,
	},
	"appsync":       {keys: appsyncKeys, path: "info.parentTypeName", value: `"Query"`},
	"appsync-batch": {keys: appsyncKeys, path: "[0].info.parentTypeName", value: `"Customer"`},
	"appsync-authorizer": {
		keys: "authorizationToken requestContext requestHeaders",
		path: "requestContext.operationName", value: `"Order"`,
	},
	"sqs": {keys: "Records", path: "Records[0].eventSourceARN",
		value: `"arn:aws:sqs:eu-west-1:123456789012:orders-queue"`},
	"sqs-fifo": {keys: "Records", path: "Records[0].attributes.MessageGroupId", value: `"customer-7"`},
	"sns":      {keys: "Records", path: "Records[0].EventSource", value: `"aws:sns"`},
	"sns-sqs": {keys: "Records", path: "Records[0].body.TopicArn",
		value: `"arn:aws:sns:eu-west-1:123456789012:orders-topic"`},
	"eventbridge": {keys: eventBridgeKeys, path: "source", value: `"com.example.shop"`},
	"schedule":    {keys: eventBridgeKeys, path: "detail-type", value: `"Scheduled Event"`},
	"pipes-sqs": {
		keys: "attributes awsRegion body eventSource eventSourceARN md5OfBody messageAttributes messageId " +
			"receiptHandle",
		path: "[0].eventSource", value: `"aws:sqs"`,
	},
	"s3":             {keys: "Records", path: "Records[0].eventSource", value: `"aws:s3"`},
	"s3-eventbridge": {keys: eventBridgeKeys, path: "source", value: `"aws.s3"`},
	"s3-batch": {
		keys: "invocationId invocationSchemaVersion job tasks",
		path: "tasks[0].s3BucketArn", value: `"arn:aws:s3:::example-orders"`,
	},
	"dynamodb": {keys: "Records", path: "Records[0].eventSource", value: `"aws:dynamodb"`},
	"kinesis":  {keys: "Records", path: "Records[0].eventSource", value: `"aws:kinesis"`},
	"firehose": {
		keys: "deliveryStreamArn invocationId records region", path: "deliveryStreamArn",
		value: `"arn:aws:firehose:eu-west-1:123456789012:deliverystream/orders-delivery"`,
	},
	"msk": {
		keys: "bootstrapServers eventSource eventSourceArn records",
		path: "eventSource", value: `"aws:kafka"`,
	},
	"kafka": {
		keys: "bootstrapServers eventSource records", path: "eventSource", value: `"SelfManagedKafka"`,
	},
	"activemq": {keys: "eventSource eventSourceArn messages", path: "eventSource", value: `"aws:mq"`},
	"rabbitmq": {
		keys: "eventSource eventSourceArn rmqMessagesByQueue", path: "eventSource", value: `"aws:rmq"`,
	},
	"documentdb":     {keys: "eventSource eventSourceArn events", path: "eventSource", value: `"aws:docdb"`},
	"step-functions": {keys: "input taskToken", path: "taskToken", value: `"EXAMPLETASKTOKEN="`},
	"destination": {
		keys: "requestContext requestPayload responseContext responsePayload timestamp version",
		path: "requestContext.condition", value: `"RetriesExhausted"`,
	},
	"cloudwatch-logs": {keys: "awslogs"},
	"cloudwatch-alarm": {
		keys: "accountId alarmArn alarmData region source time", path: "source", value: `"aws.cloudwatch"`,
	},
	"ses": {keys: "Records", path: "Records[0].eventSource", value: `"aws:ses"`},
	"iot": {keys: "deviceId temperature timestamp", path: "deviceId", value: `"sensor-7"`},
	"iot-authorizer": {
		keys: "connectionMetadata protocolData protocols signatureVerified token",
		path: "protocolData.mqtt.clientId", value: `"sensor-7"`,
	},
	"lex": {
		keys: "bot inputMode inputTranscript interpretations invocationSource messageVersion " +
			"proposedNextState requestAttributes responseContentType sessionId sessionState transcriptions",
		path: "bot.name", value: `"ShopBot"`,
	},
	"custom-resource": {
		keys: "LogicalResourceId RequestId RequestType ResourceProperties ResourceType ResponseURL " +
			"ServiceToken StackId",
		path: "ResourceType", value: `"Custom::OrdersSeed"`,
	},
	"config": {
		keys: "accountId configRuleArn configRuleId configRuleName eventLeftScope executionRoleArn " +
			"invokingEvent resultToken ruleParameters version",
		path: "configRuleName", value: `"bucket-has-owner"`,
	},
	"codepipeline": {
		keys: "CodePipeline.job", path: `["CodePipeline.job"].data.outputArtifacts`, value: `[]`,
	},
	"secretsmanager": {
		keys: "ClientRequestToken RotationToken SecretId Step", path: "Step", value: `"createSecret"`,
	},
	"cognito-pre-sign-up": {
		keys: cognitoKeys, path: "triggerSource", value: `"PreSignUp_SignUp"`},
	"cognito-post-confirmation": {
		keys: cognitoKeys, path: "triggerSource", value: `"PostConfirmation_ConfirmSignUp"`},
	"cognito-pre-authentication": {
		keys: cognitoKeys, path: "triggerSource", value: `"PreAuthentication_Authentication"`},
	"cognito-post-authentication": {
		keys: cognitoKeys, path: "triggerSource", value: `"PostAuthentication_Authentication"`},
	"cognito-pre-token": {
		keys: cognitoKeys, path: "triggerSource", value: `"TokenGeneration_Authentication"`},
	"cognito-pre-token-v2": {
		keys: cognitoKeys, path: "triggerSource", value: `"TokenGeneration_HostedAuth"`},
	"cognito-custom-message": {
		keys: cognitoKeys, path: "triggerSource", value: `"CustomMessage_ForgotPassword"`},
	"cognito-email-sender": {
		keys: cognitoKeys, path: "triggerSource", value: `"CustomEmailSender_SignUp"`},
	"cognito-user-migration": {
		keys: cognitoKeys, path: "triggerSource", value: `"UserMigration_Authentication"`},
	"cognito-define-challenge": {
		keys: cognitoKeys, path: "triggerSource", value: `"DefineAuthChallenge_Authentication"`},
	"cognito-create-challenge": {
		keys: cognitoKeys, path: "triggerSource", value: `"CreateAuthChallenge_Authentication"`},
	"cognito-verify-challenge": {
		keys: cognitoKeys, path: "triggerSource", value: `"VerifyAuthChallengeResponse_Authentication"`},
}

// sampleOf is a sample as a command takes it.
func sampleOf(t *testing.T, name string) []byte {
	t.Helper()
	text, err := (&eventFlags{sample: name}).sampleText()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// valueAt is the value at a path of an event as it is written there, empty if there is none.
func valueAt(event []byte, path string) string {
	c, err := readChange(path + "=null")
	for _, step := range c.path {
		if len(event) == 0 {
			return ""
		}
		inner := jsonWithin(event)
		if inner != nil {
			event = inner
		}
		if err != nil || !isContainer(event) || (event[0] == '[') != step.isIndex {
			return ""
		}
		var found json.RawMessage
		for i, m := range membersOf(event) {
			if step.isIndex && i == step.index || !step.isIndex && m.name() == step.key {
				found = m.value
			}
		}
		event = found
	}
	return string(event)
}

func TestEverySampleHasTheKeysThatAWSDocuments(t *testing.T) {
	for _, s := range sampleEvents {
		event := sampleOf(t, s.name)
		if event[0] == '[' {
			event = membersOf(event)[0].value
		}
		var names []string
		for _, m := range membersOf(event) {
			names = append(names, m.name())
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != sampleFacts[s.name].keys {
			t.Errorf("%s has %s, want %s", s.name, got, sampleFacts[s.name].keys)
		}
	}
	if len(sampleFacts) != len(sampleEvents) {
		t.Errorf("%d have facts, and there are %d", len(sampleFacts), len(sampleEvents))
	}
}

func TestEverySamplesCallerIsDistinct(t *testing.T) {
	t.Parallel()
	for name, d := range sampleFacts {
		for _, s := range sampleEvents {
			if d.path == "" {
				continue // cloudwatch-logs alone has its one key
			}
			got := valueAt(sampleOf(t, s.name), d.path)
			if (got == d.value) != (s.name == name) {
				t.Errorf("%s has %s at %s, as %s", s.name, got, d.path, name)
			}
		}
	}
}

func TestEverySampleIsAFileAndALineOfTheList(t *testing.T) {
	files, err := fs.Glob(sampleFiles, "events/*.json")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, s := range sampleEvents {
		want = append(want, "events/"+s.name+".json")
	}
	slices.Sort(want)
	if !slices.Equal(files, want) {
		t.Errorf("the files are %q, and the list has %q", files, want)
	}
	r := runEvents()
	for line := range strings.Lines(r.out) {
		name, _, _ := strings.Cut(line, " ")
		got = append(got, "events/"+name+".json")
		if utf8.RuneCountInString(line)-1 > 80 {
			t.Errorf("wider than 80 columns: %s", line)
		}
		if line[29] == ' ' || line[28] != ' ' {
			t.Errorf("not aligned: %s", line)
		}
	}
	slices.Sort(got)
	if r.status != 0 || r.err != "" || !slices.Equal(got, want) {
		t.Errorf("got %d, %q and %s", r.status, r.err, r.out)
	}
}

// What is printed is the file, so that its keys stand as whoever wrote it has put them.
func TestEventsPrintsTheSamplesAsTheyAreWritten(t *testing.T) {
	for _, s := range sampleEvents {
		want, err := sampleFiles.ReadFile("events/" + s.name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		r := runEvents(s.name)
		if r != (result{status: 0, out: string(want), err: ""}) {
			t.Errorf("%s: got %d, %q and\n%s", s.name, r.status, r.err, r.out)
		}
	}
}

// Accounts, hosts and addresses are those that are kept for examples.
func TestNoSampleNamesSomebodyElses(t *testing.T) {
	for _, s := range sampleEvents {
		text := string(sampleOf(t, s.name))
		for _, arn := range strings.Split(text, "arn:aws:")[1:] {
			account := strings.Split(arn+"::::", ":")[2]
			if account != "" && account != "123456789012" {
				t.Errorf("%s has the account %s", s.name, account)
			}
		}
		for _, address := range strings.Split(text, "://")[1:] {
			host := strings.FieldsFunc(address, func(r rune) bool {
				return strings.ContainsRune(`/"\:`, r)
			})[0]
			allowed := strings.HasSuffix(host, "example.com") || strings.HasSuffix(host, ".amazonaws.com") ||
				host == "127.0.0.1"
			if !allowed {
				t.Errorf("%s has the host %s", s.name, host)
			}
		}
	}
}

func TestSamplesHashTheirBodies(t *testing.T) {
	for _, name := range []string{"sqs", "sqs-fifo", "sns-sqs"} {
		var body, hash string
		json.Unmarshal([]byte(valueAt(sampleOf(t, name), "Records[0].body")), &body)
		json.Unmarshal([]byte(valueAt(sampleOf(t, name), "Records[0].md5OfBody")), &hash)
		if want := fmt.Sprintf("%x", md5.Sum([]byte(body))); hash != want {
			t.Errorf("%s: got %s, want %s", name, hash, want)
		}
	}
}

func TestCloudWatchLogsSampleIsGzipInBase64(t *testing.T) {
	var event struct{ AWSLogs struct{ Data []byte } }
	json.Unmarshal(sampleOf(t, "cloudwatch-logs"), &event)
	r, err := gzip.NewReader(bytes.NewReader(event.AWSLogs.Data))
	if err != nil {
		t.Fatal(err)
	}
	var data map[string]any
	err = json.NewDecoder(r).Decode(&data)
	got := strings.Join(slices.Sorted(maps.Keys(data)), " ")
	want := "logEvents logGroup logStream messageType owner subscriptionFilters"
	if err != nil || got != want || data["messageType"] != "DATA_MESSAGE" {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestStreamSamplesHaveJSONInBase64(t *testing.T) {
	for name, path := range map[string]string{
		"kinesis":  "Records[0].kinesis.data",
		"firehose": "records[0].data",
		"msk":      "records.orders-0[0].value",
		"kafka":    "records.orders-0[0].value",
		"activemq": "messages[0].data",
		"rabbitmq": `rmqMessagesByQueue["orders::/"][0].data`,
	} {
		text := strings.Trim(valueAt(sampleOf(t, name), path), `"`)
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil || !json.Valid(data) || len(data) < 10 {
			t.Errorf("%s: got %q, %v", name, data, err)
		}
	}
}

func TestEventsSaysWhatIsNoSample(t *testing.T) {
	const end = "; see --help\n"
	tests := []struct {
		args string
		err  string
	}{
		{args: "sqss", err: `there is no sample event "sqss"; near it: sqs, sns, ses`},
		{args: "dynamo", err: `there is no sample event "dynamo"; near it: dynamodb`},
		{args: "API-gateway", err: `there is no sample event "API-gateway"; near it: api-v1, api-v2, ` +
			"websocket-connect, websocket-message, websocket-disconnect, authorizer-token"},
		{args: "../events/sqs", err: `there is no sample event "../events/sqs"; ` +
			"`live-lambda events` lists them"},
		{args: "sqs sns", err: `there is no use for "sns"`},
		{args: "--set a=1", err: "--set goes with the NAME of a sample"},
		{args: "sqs --set Records.a=1",
			err: "--set Records.a: Records is a list, so there is no a in it"},
		{args: "sqs --set Records",
			err: `invalid value "Records" for flag --set: it is not PATH=VALUE, like ` +
				`Records[0].body=hello or detail["a.b"]=5`},
	}
	for _, tt := range tests {
		r := runEvents(strings.Fields(tt.args)...)
		if r != (result{status: 2, out: "", err: "live-lambda events: " + tt.err + end}) {
			t.Errorf("%s: got %+v", tt.args, r)
		}
	}
}

func TestDistanceCountsChanges(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{a: "", b: "", want: 0},
		{a: "sqs", b: "", want: 3},
		{a: "", b: "sqs", want: 3},
		{a: "sqs", b: "sns", want: 1},
		{a: "kinesis", b: "kinsis", want: 1},
		{a: "kinsis", b: "kinesis", want: 1},
		{a: "kitten", b: "sitting", want: 3},
	}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("%q, %q: got %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
