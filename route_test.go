//go:build !layer

package main

// route_test.go tests the search for a token in an event: in events as AWS's pages have them, in texts that
// come near, and against another reading of the same rule.

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// routeCase is an event, and the value of the token x-live-lambda in it.
type routeCase struct{ event, want string }

// runRouteCases also runs the events with white space in them, and as text in another event's field.
func runRouteCases(t *testing.T, cases map[string]routeCase) {
	t.Helper()
	for name, c := range cases {
		var object any
		err := json.Unmarshal([]byte(c.event), &object)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		compact, _ := json.Marshal(object)
		inText, _ := json.Marshal(map[string]string{"body": string(compact)})
		twice, _ := json.Marshal(map[string]string{"Message": string(inText)})
		for form, event := range map[string]string{
			"as it is": c.event, "compact": string(compact), "in a string": string(inText),
			"in two":             string(twice),
			"in capital letters": strings.NewReplacer("x-live-lambda", "X-LIVE-LAMBDA").Replace(c.event),
		} {
			got := routeOf([]byte(event), "x-live-lambda")
			if got != c.want {
				t.Errorf("%s, %s: got %q, want %q in %s", name, form, got, c.want, event)
			}
			if other := routeOf([]byte(event), "x-live-lambd"); other != "" {
				t.Errorf("%s, %s: a name that is a part of it has %q", name, form, other)
			}
		}
	}
}

// https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway.html
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
// https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
// https://docs.aws.amazon.com/lambda/latest/dg/services-alb.html
func TestRouteIsFoundInRequestsOfHTTP(t *testing.T) {
	runRouteCases(t, map[string]routeCase{
		"API Gateway, a header": {want: "alice", event: `{
			"resource": "/orders", "path": "/orders", "httpMethod": "GET",
			"headers": {"Accept": "*/*", "Host": "abc.execute-api.eu-west-1.amazonaws.com",
				"x-live-lambda": "alice", "X-Forwarded-Proto": "https"},
			"queryStringParameters": null, "pathParameters": null, "body": null, "isBase64Encoded": false}`},
		"API Gateway, a header of many values": {want: "alice", event: `{
			"httpMethod": "GET", "headers": null,
			"multiValueHeaders": {"Accept": ["*/*"], "x-live-lambda": ["alice", "bob"]}}`},
		"API Gateway, a query": {want: "alice", event: `{
			"httpMethod": "GET", "queryStringParameters": {"page": "1", "x-live-lambda": "alice"},
			"multiValueQueryStringParameters": {"page": ["1"], "x-live-lambda": ["alice"]}}`},
		"API Gateway, a cookie": {want: "alice", event: `{
			"headers": {"Cookie": "session=0123456789; x-live-lambda=alice; theme=dark"}}`},
		"HTTP API, a header": {want: "alice", event: `{
			"version": "2.0", "routeKey": "$default", "rawPath": "/orders", "rawQueryString": "",
			"headers": {"accept": "*/*", "content-length": "0", "x-live-lambda": "alice"},
			"requestContext": {"http": {"method": "GET", "path": "/orders"}}, "isBase64Encoded": false}`},
		"HTTP API, cookies": {want: "alice", event: `{
			"version": "2.0", "cookies": ["a=b", "x-live-lambda=alice"], "headers": {}}`},
		"function URL, a query": {want: "alice", event: `{
			"version": "2.0", "rawPath": "/", "rawQueryString": "page=1&x-live-lambda=alice&size=2",
			"queryStringParameters": {"page": "1", "size": "2", "x-live-lambda": "alice"}}`},
		"load balancer, a header": {want: "alice", event: `{
			"requestContext": {"elb": {"targetGroupArn":
				"arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/lambda-1/0123456789abcdef"}},
			"httpMethod": "GET", "path": "/",
			"headers": {"x-forwarded-port": "80", "x-live-lambda": "alice"}}`},
		"load balancer, a header of many values": {want: "alice", event: `{
			"httpMethod": "GET", "multiValueHeaders": {"x-live-lambda": ["alice"]}}`},
		"baggage alone": {want: "alice", event: `{
			"headers": {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
				"baggage": "x-live-lambda=alice"}}`},
		"baggage among others": {want: "alice", event: `{
			"headers": {"baggage": "userId=alan,x-live-lambda = alice;ttl=1,serverNode=DF%2028"}}`},
		"no header but a body": {want: "alice", event: `{
			"httpMethod": "POST", "headers": {}, "body": "{\"order\":{\"x-live-lambda\":\"alice\"}}"}`},
		"what a CORS preflight asks for": {event: `{
			"httpMethod": "OPTIONS", "headers": {"Access-Control-Request-Method": "GET",
				"access-control-request-headers": "content-type,x-live-lambda",
				"Origin": "https://example.com"}}`},
		"what a CORS preflight asks for first": {event: `{
			"headers": {"access-control-request-headers": "x-live-lambda,content-type"}}`},
		"a preflight, and a query": {want: "alice", event: `{
			"headers": {"access-control-request-headers": "x-live-lambda, content-type"},
			"rawQueryString": "x-live-lambda=alice"}`},
	})
}

// https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
// https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
func TestRouteIsFoundInMessages(t *testing.T) {
	runRouteCases(t, map[string]routeCase{
		"SQS, an attribute": {want: "alice", event: `{"Records": [{
			"messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
			"receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxl",
			"body": "Test message.",
			"attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183"},
			"messageAttributes": {"x-live-lambda": {"stringValue": "alice", "stringListValues": [],
				"binaryListValues": [], "dataType": "String"}},
			"md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3", "eventSource": "aws:sqs",
			"awsRegion": "us-east-2"}]}`},
		"SQS, an attribute the other way round": {want: "alice",
			event: `{"Records": [{"body": "", "messageAttributes": {
			"x-live-lambda": {"dataType": "String", "binaryListValues": [], "stringListValues": [],
				"stringValue": "alice"}}}]}`},
		"SQS as its API writes it": {want: "alice", event: `{"Messages": [{"Body": "", "MessageAttributes": {
			"x-live-lambda": {"DataType": "String", "StringValue": "alice"}}}]}`},
		"SQS, the body": {want: "alice", event: `{"Records": [{"body": "{\"x-live-lambda\": \"alice\"}"}]}`},
		"SNS, an attribute": {want: "alice",
			event: `{"Records": [{"EventVersion": "1.0", "EventSource": "aws:sns",
			"Sns": {"Type": "Notification", "Subject": "TestInvoke", "Message": "Hello from SNS!",
				"MessageAttributes": {"Other": {"Type": "Binary", "Value": "TestBinary"},
					"x-live-lambda": {"Type": "String", "Value": "alice"}}}}]}`},
		"SNS by way of SQS": {want: "alice",
			event: `{"Records": [{"body": "{\n  \"Type\" : \"Notification\",\n` +
				`  \"Message\" : \"Hello\",\n  \"MessageAttributes\" : {\n    \"x-live-lambda\" : {` +
				`\"Type\":\"String\",\"Value\":\"alice\"}\n  }\n}"}]}`},
		"EventBridge": {want: "alice",
			event: `{"version": "0", "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
			"detail-type": "Order Placed", "source": "com.example.orders", "account": "111122223333",
			"time": "2026-11-22T18:43:48Z", "region": "us-west-1", "resources": [],
			"detail": {"id": 7, "x-live-lambda": "alice"}}`},
		"EventBridge by way of SQS": {want: "alice", event: `{"Records": [{"body":
			"{\"version\":\"0\",\"detail-type\":\"t\",\"detail\":{\"x-live-lambda\":\"alice\"}}"}]}`},
		"a field deep in a task's input": {
			want: "alice", event: `{"a": [1, {"b": {"x-live-lambda": "alice"}}]}`},
		"an attribute without a value": {event: `{"messageAttributes": {"x-live-lambda": {
			"stringListValues": [], "binaryListValues": [], "dataType": "String"},
			"a": {"stringValue": "b"}}}`},
		"an attribute of another name": {event: `{"messageAttributes": {"x-live-lambda-2": {
			"stringValue": "alice", "dataType": "String"}}}`},
		"an empty attribute": {
			event: `{"MessageAttributes": {"x-live-lambda": {"Type": "String", "Value": ""}}}`},
		"data in base64": {event: `{"Records": [{"kinesis": {"data": "eC1saXZlLWxhbWJkYTphbGljZQ=="}}]}`},
	})
}

func TestRouteTakesAValueAndNothingElse(t *testing.T) {
	fifty := strings.Repeat("a", 50)
	for text, want := range map[string]string{
		`"x-live-lambda":"alice"`:                    "alice",
		`"x-live-lambda":"Alice-2"`:                  "Alice-2",
		`"x-live-lambda":7`:                          "7",
		`"x-live-lambda":"` + fifty + `"`:            fifty,
		`"x-live-lambda":"` + fifty + `a"`:           "",
		`"x-live-lambda":"-alice"`:                   "",
		`"x-live-lambda":"alice-"`:                   "",
		`"x-live-lambda":-7`:                         "",
		`"x-live-lambda":null`:                       "",
		`"x-live-lambda":true`:                       "",
		`"x-live-lambda":"false"`:                    "",
		`"x-live-lambda":"nullable"`:                 "nullable",
		`"x-live-lambda":""`:                         "",
		`"x-live-lambda":{}`:                         "",
		`"x-live-lambda":"é"`:                        "",
		`"x-live-lambda":"_a"`:                       "",
		`"x-live-lambda":"a.b"`:                      "a",
		`"x-live-lambda":"\u0061"`:                   "",
		`"x-live-lambda":"\nalice"`:                  "",
		`"x-live-lambda":"\"alice\""`:                "alice",
		`"x-live-lambda":"\\"alice`:                  "alice",
		`x-live-lambda\: alice`:                      "",
		`x-live-lambda`:                              "",
		`x-live-lambda=`:                             "",
		`x-live-lambda\`:                             "",
		`x-live-lambda=Value`:                        "",
		`x-live-lambda=Value=Values`:                 "Values",
		`x-live-lambda=value`:                        "value", // as SNS and SQS do not write it
		`x-live-lambda,alice`:                        "",
		`x-live-lambda:Type,alice`:                   "alice",
		`x-live-lambda:Type_,alice`:                  "",
		`x-live-lambda:Type.alice`:                   "",
		`x-live-lambda:{alice`:                       "alice",
		`x-live-lambda:}alice`:                       "",
		`x-live-lambda:[["alice`:                     "alice",
		`x-live-lambda;alice`:                        "",
		`x-live-lambda` + " \t\r\n" + `alice`:        "alice",
		"x-live-lambda\valice":                       "",
		`ax-live-lambda:alice`:                       "",
		`_x-live-lambda:alice`:                       "",
		`-x-live-lambda:alice`:                       "",
		`x-live-lambda_:alice`:                       "",
		`éx-live-lambda:alice`:                       "alice",
		`x-live-lambda.x-live-lambda:alice`:          "alice",
		`x-live-lambda:null x-live-lambda:alice`:     "alice",
		`x-live-lambda:x-live-lambda:alice`:          "x-live-lambda",
		`x-live-lambda:x-live-lambda_ x-live-lambda`: "x-live-lambda",
		`x-live-lambda:bob,x-live-lambda:alice`:      "bob",
		`x-Live-LAMBDA:alice`:                        "alice",
		"x-live-lambda:\u00a0alice":                  "",
		"":                                           "",
	} {
		got := routeOf([]byte(text), "x-live-lambda")
		if got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
	for _, name := range []string{"v", "7", "Value", "stringValue", "true", strings.Repeat("n", 50)} {
		for _, text := range []string{name + "=alice", `{"` + name + `":{"Type":"String","Value":"alice"}}`} {
			got := routeOf([]byte(text), name)
			if got != "alice" {
				t.Errorf("name %s: got %q in %s", name, got, text)
			}
		}
	}
	if got := routeOf([]byte("\u212aelvin=alice"), "kelvin"); got != "" {
		t.Errorf("the sign for kelvin counts as a letter: %q", got)
	}
}

// otherRouteOf reads the rule again, with regular expressions.
func otherRouteOf(event, name string) string {
	words := []string{"Type", "String", "StringValue", "stringValue", "Value", "DataType", "dataType",
		"stringListValues", "binaryListValues"}
	const separator = "[\":={\\[\\] \t\r\n]|\\\\+\""
	value := regexp.MustCompile(fmt.Sprintf(
		`^(?:%s)*(?:(?:%s)(?:%s|,)+)*([A-Za-z0-9-]+)`, separator, strings.Join(words, "|"), separator))
	valid := regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,48}[A-Za-z0-9])?$`)
	beside := regexp.MustCompile(`[A-Za-z0-9_-]`)
	for i := 0; i+len(name) <= len(event); i++ {
		end := i + len(name)
		named := strings.EqualFold(event[i:end], name) && (i == 0 || !beside.MatchString(event[i-1:i])) &&
			(end == len(event) || !beside.MatchString(event[end:end+1]))
		if !named {
			continue
		}
		found := value.FindStringSubmatch(event[end:])
		if found == nil || !valid.MatchString(found[1]) || slices.Contains(words, found[1]) ||
			slices.Contains([]string{"null", "true", "false"}, found[1]) {
			continue
		}
		return found[1]
	}
	return ""
}

func FuzzRoute(f *testing.F) {
	for _, event := range []string{
		`{"headers":{"x":"alice"}}`, `x=alice;y`, `{"x":{"Type":"String","Value":"alice"}}`, `x:x:x=x`,
		`{"m":"{\"x\":{\"stringListValues\":[],\"stringValue\":\"alice\"}}"}`, `x Value_x=Type,-a`, `x\\\"a`,
		`{"x":null,"X":true,"x":["b"]}`, `Value Value Value=Value`,
	} {
		for _, name := range []string{"x", "X", "Value", "a-b", "7"} {
			f.Add(event, name)
		}
	}
	f.Fuzz(func(t *testing.T, event, name string) {
		if !isSegment(name) || name == "" {
			return
		}
		got := routeOf([]byte(event), name)
		want := otherRouteOf(event, name)
		if got != want {
			t.Errorf("name %q: got %q, want %q in %q", name, got, want, event)
		}
	})
}
