//go:build !layer

package main

// local_caller_test.go tests who has invoked, as events tell it.

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// The samples of events are what services send.
func TestCallersOfTheSamples(t *testing.T) {
	for name, want := range map[string]string{
		"api-v1":            "PUT /orders/1001",
		"alb":               "ALB POST /orders",
		"function-url":      "function URL GET /orders/1001",
		"websocket-connect": "API Gateway WebSocket $connect",
		"sqs":               "SQS orders-queue",
		"sns-sqs":           "SQS orders-from-topic",
		"s3":                "S3 ObjectCreated:Put example-orders",
		"eventbridge":       "EventBridge Order Placed",
		"schedule":          "schedule every-hour",
		"dynamodb":          "DynamoDB orders",
		"cognito-pre-token": "Cognito TokenGeneration_Authentication",
		"step-functions":    "",
	} {
		event, err := sampleFiles.ReadFile("events/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		got := caller(event)
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestCallerIsTakenFromTheEvent(t *testing.T) {
	sqs := `{"messageId":"1","body":"x","eventSource":"aws:sqs",` +
		`"eventSourceARN":"arn:aws:sqs:us-east-1:1:orders-queue"}`
	stream := `{"eventSource":"aws:dynamodb",` +
		`"eventSourceARN":"arn:aws:dynamodb:us-east-1:1:table/orders/stream/2026-01-01T00:00:00.000"}`
	for _, tt := range []struct {
		event string
		want  string
	}{
		{
			event: `{"version":"2.0","rawPath":"/orders","requestContext":{` +
				`"domainName":"a.execute-api.us-east-1.amazonaws.com","http":{"method":"GET","path":"/o"}}}`,
			want: "GET /orders",
		},
		{
			event: `{"version":"2.0","rawPath":"/","requestContext":{` +
				`"domainName":"a.lambda-url.us-east-1.on.aws","http":{"method":"GET","path":"/"}}}`,
			want: "function URL GET /",
		},
		{
			event: `{"resource":"/{p+}","path":"/orders","httpMethod":"POST","requestContext":{}}`,
			want:  "POST /orders",
		},
		{
			event: `{"requestContext":{"elb":{"targetGroupArn":"a"}},"httpMethod":"GET","path":"/"}`,
			want:  "ALB GET /",
		},
		{
			event: `{"requestContext":{"routeKey":"$connect","connectionId":"a=","eventType":"CONNECT"}}`,
			want:  "API Gateway WebSocket $connect",
		},
		{
			event: `{"type":"TOKEN","methodArn":"arn:aws:execute-api:us-east-1:1:a/b/GET/"}`,
			want:  "API Gateway authorizer",
		},
		{
			event: `{"Records":[` + sqs + `]}`,
			want:  "SQS orders-queue",
		},
		{
			event: `{"Records":[` + strings.Repeat(sqs+",", 9) + sqs + `]}`,
			want:  "SQS orders-queue ×10",
		},
		{
			event: `{"Records":[` + strings.Repeat(stream+",", 2) + stream + `]}`,
			want:  "DynamoDB orders ×3",
		},
		{
			event: `{"Records":[{"EventSource":"aws:sns",` +
				`"Sns":{"TopicArn":"arn:aws:sns:us-east-1:1:news"}}]}`,
			want: "SNS news",
		},
		{
			event: `{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put",` +
				`"s3":{"bucket":{"name":"photos"}}}]}`,
			want: "S3 ObjectCreated:Put photos",
		},
		{
			event: `{"Records":[{"eventSource":"aws:kinesis",` +
				`"eventSourceARN":"arn:aws:kinesis:us-east-1:1:stream/clicks"},{}]}`,
			want: "Kinesis clicks ×2",
		},
		{
			event: `{"Records":[{"cf":{"config":{"eventType":"viewer-request"}}}]}`,
			want:  "CloudFront viewer-request",
		},
		{
			event: `{"detail-type":"Order Placed","source":"shop","resources":[],"detail":{}}`,
			want:  "EventBridge Order Placed",
		},
		{
			event: `{"detail-type":"Scheduled Event","source":"aws.events",` +
				`"resources":["arn:aws:events:us-east-1:1:rule/nightly"]}`,
			want: "schedule nightly",
		},
		{
			event: `{"detail-type":"Scheduled Event","source":"aws.scheduler",` +
				`"resources":["arn:aws:scheduler:us-east-1:1:schedule/default/hourly"]}`,
			want: "schedule hourly",
		},
		{
			event: `{"version":"1","triggerSource":"PreSignUp_SignUp","userPoolId":"u"}`,
			want:  "Cognito PreSignUp_SignUp",
		},
		{
			event: `{"eventSource":"aws:kafka","records":{"t-0":[{}]}}`,
			want:  "Kafka",
		},
		{
			event: `{"deliveryStreamArn":"arn:aws:firehose:us-east-1:1:deliverystream/in","records":[{}]}`,
			want:  "Firehose in",
		},
		{
			event: `{"awslogs":{"data":""}}`,
			want:  "CloudWatch Logs",
		},
		{
			event: `{"RequestType":"Create","StackId":"s"}`,
			want:  "CloudFormation Create",
		},
		{
			event: `{"info":{"fieldName":"getPost","parentTypeName":"Query"}}`,
			want:  "AppSync Query.getPost",
		},
		{event: `{"order":1}`},
		{event: `[{"eventSource":"aws:sqs"}]`},
		{event: `"text"`},
		{event: `null`},
		{event: ``},
		{event: `{"Records":[]}`},
		{event: `{"Records":[{}]}`},
	} {
		got := caller([]byte(tt.event))
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.event, got, tt.want)
		}
	}
}

// What is told of a hostile event is short, and nothing in it can do harm to a terminal.
func TestCallerOfAHostileEventIsShortAndPrintable(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é\u001b[31m", 100_000)
	for _, event := range []string{
		`{"httpMethod":"` + strings.Repeat("A", 1_000_000) + `","path":"/"}`,
		`{"httpMethod":"GET","path":"/` + strings.ReplaceAll(long, "\x1b", `\u001b`) + `"}`,
		`{"httpMethod":"GET","path":"\u202e\u0000\n\r\t\u2028"}`,
		`{"httpMethod":"GET","path":"\xff\xfe"}`,
		"{\"httpMethod\":\"GET\",\"path\":\"\xff\xfe\x1b\"}",
		`{"httpMethod":1,"path":{},"Records":{"a":1},"requestContext":[1],"resources":7,"detail-type":[]}`,
		`{"Records":[` + strings.Repeat("{},", 1_000_000) + `{}]}`,
		`{"Records":[1,null,"x",[],{"eventSource":7}]}`,
		`{"Records":[{"eventSource":"aws:sqs","eventSourceARN":"` + strings.Repeat(":", 10_000) + `"}]}`,
		`{"Records":[{"eventSource":"aws:dynamodb","eventSourceARN":"//////"}]}`,
		`{"resources":[{}],"source":"a","detail-type":"Scheduled Event"}`,
		strings.Repeat(`{"Records":[`, 100_000),
		strings.Repeat(`[`, 100_000),
		`{"requestContext":` + strings.Repeat(`{"http":`, 5_000) + `1` + strings.Repeat("}", 5_001),
	} {
		got := caller([]byte(event))
		unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
		if utf8.RuneCountInString(got) > maxCaller || strings.ContainsFunc(got, unprintable) {
			t.Errorf("%.80s: got %q", event, got)
		}
		sentAt([]byte(event))
	}
}

func TestTimeOfAnHTTPRequestIsTakenFromTheEvent(t *testing.T) {
	for _, tt := range []struct {
		event string
		want  int64
	}{
		{event: `{"requestContext":{"timeEpoch":1700000000123}}`, want: 1700000000123},
		{event: `{"requestContext":{"requestTimeEpoch":1700000000123}}`, want: 1700000000123},
		{event: `{"requestContext":{"requestTimeEpoch":-1}}`},
		{event: `{"requestContext":{"requestTimeEpoch":"1"}}`},
		{event: `{"timeEpoch":1}`},
	} {
		got := sentAt([]byte(tt.event))
		want := time.Time{}
		if tt.want != 0 {
			want = time.UnixMilli(tt.want)
		}
		if !got.Equal(want) {
			t.Errorf("%s: got %v, want %v", tt.event, got, want)
		}
	}
}
