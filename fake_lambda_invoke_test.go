//go:build !layer

package main

// fake_lambda_invoke_test.go tests the emulated Invoke API.

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// ordersARN is the function's in these tests.
const ordersARN = "arn:aws:lambda:us-east-1:123456789012:function:orders"

// startInvokeAPI serves Invoke for the function orders. Its runtime returns the event, the client context and
// the ARN, or an error if the event is "fail".
func startInvokeAPI(t *testing.T) (p *lambdaPlayer, url string) {
	t.Helper()
	p = playLambda(t, lambdaOptions{functionName: "orders", version: "7"})
	url = p.serveInvokes()
	p.serve(func(event played) (string, string, []string) {
		if event.body == `"fail"` {
			return "error", `{"errorMessage":"no"}`, nil
		}
		return "response",
			event.body + event.header.Get("Lambda-Runtime-Client-Context") +
				event.header.Get("Lambda-Runtime-Invoked-Function-Arn"), nil
	})
	return p, url + "/2015-03-31/functions/"
}

// serveInvokes serves the Lambda API for a function with this one environment.
func (p *lambdaPlayer) serveInvokes() (url string) {
	p.t.Helper()
	f, err := newLambdaFleet(p.env.lambdaOptions, 1, func(context.Context) (*lambdaEnv, error) {
		return p.env, nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(f.close)
	server := httptest.NewServer(serveInvoke(f))
	p.t.Cleanup(server.Close)
	return server.URL
}

// invokeCase is a call of Invoke and what comes back.
type invokeCase struct {
	method   string // default: POST
	path     string // in place of the function
	function string
	body     string
	header   []string
	status   int
	want     string // the body; not looked at if empty
	errType  string // X-Amzn-Errortype
	failed   string // X-Amz-Function-Error
}

func wantInvokes(t *testing.T, cases map[string]invokeCase) *lambdaPlayer {
	t.Helper()
	p, functions := startInvokeAPI(t)
	for name, row := range cases {
		t.Run(name, func(t *testing.T) {
			url := functions + row.function
			if !strings.Contains(url, "/invocations") {
				url += "/invocations"
			}
			if row.path != "" {
				url = strings.TrimSuffix(functions, "/2015-03-31/functions/") + row.path
			}
			got := p.call(cmp.Or(row.method, "POST"), url, strings.NewReader(row.body), row.header...)
			if got.status != row.status || row.want != "" && got.body != row.want {
				t.Errorf("got %d %.200q, want %d %q", got.status, got.body, row.status, row.want)
			}
			if got.header.Get("X-Amzn-Errortype") != row.errType ||
				got.header.Get("X-Amz-Function-Error") != row.failed {
				t.Errorf("header %v", got.header)
			}
			if row.errType != "" {
				wantAPIError(t, got)
			}
			if row.status == 200 &&
				(got.header.Get("X-Amz-Executed-Version") != "7" ||
					got.header.Get("X-Amzn-Requestid") == "") {
				t.Errorf("header %v", got.header)
			}
		})
	}
	return p
}

// wantAPIError checks that an error has what AWS's clients look for beside its type.
func wantAPIError(t *testing.T, got played) {
	t.Helper()
	var body struct{ Message string } // or message
	err := json.Unmarshal([]byte(got.body), &body)
	if err != nil || body.Message == "" || got.header.Get("Content-Type") != "application/json" ||
		got.header.Get("X-Amzn-Requestid") == "" {
		t.Errorf("got %q, header %v", got.body, got.header)
	}
}

func TestInvokeAPIAnswers(t *testing.T) {
	arn := ordersARN
	wantInvokes(t, map[string]invokeCase{
		"answer":    {function: "orders", body: `{"a":1}`, status: 200, want: `{"a":1}` + arn},
		"no body":   {function: "orders", status: 200, want: `{}` + arn},
		"qualifier": {function: "orders:live", body: `1`, status: 200, want: `1` + arn + `:live`},
		"version":   {function: "orders:7", body: `1`, status: 200, want: `1` + arn + `:7`},
		"$LATEST":   {function: "orders:$LATEST", body: `1`, status: 200, want: `1` + arn + `:$LATEST`},
		"ARN":       {function: arn, body: `1`, status: 200, want: `1` + arn},
		"ARN with a qualifier": {
			function: arn + ":live", body: `1`, status: 200, want: `1` + arn + `:live`},
		"partial ARN": {
			function: "123456789012:function:orders:live", body: `1`, status: 200, want: `1` + arn + `:live`},
		"partial ARN without an account": {
			function: "function:orders", body: `1`, status: 200, want: `1` + arn},
		"escaped ARN": {
			function: strings.ReplaceAll(arn+":live", ":", "%3A"), body: `1`, status: 200,
			want: `1` + arn + `:live`},
		"slash at the end": {
			path: "/2015-03-31/functions/orders/invocations/", body: `1`, status: 200, want: `1` + arn},
		"the same qualifier twice": {
			function: "orders:blue/invocations?Qualifier=blue", body: `1`, status: 200,
			want: `1` + arn + `:blue`},
		"curl's form": {
			function: "orders", body: `1`, status: 200, want: `1` + arn,
			header: []string{"Content-Type", "application/x-www-form-urlencoded"}},
		"bytes": {
			function: "orders", body: `1`, status: 200, want: `1` + arn,
			header: []string{"Content-Type", "application/octet-stream"}},
		"JSON": {
			function: "orders", body: `1`, status: 200, want: `1` + arn,
			header: []string{"Content-Type", "application/json; charset=utf-8"}},
		"qualifier apart": {
			function: "orders/invocations?Qualifier=blue", body: `1`, status: 200, want: `1` + arn + `:blue`},
		"error": {
			function: "orders", body: `"fail"`, status: 200, want: `{"errorMessage":"no"}`,
			failed: "Unhandled"},
		"client context": {
			function: "orders", body: `1`,
			header: []string{
				"X-Amz-Client-Context", base64.StdEncoding.EncodeToString([]byte("{\n\"c\": 1}"))},
			status: 200, want: `1{"c":1}` + arn},
	})
}

func TestInvokeAPIRefusesOtherRequests(t *testing.T) {
	t.Parallel()
	large := strings.Repeat(" ", lambdaMaxRequest)
	wantInvokes(t, map[string]invokeCase{
		"bad context": {
			function: "orders", body: `1`, header: []string{"X-Amz-Client-Context", "e30"}, status: 400,
			errType: "InvalidRequestContentException"},
		"large context": {
			function: "orders", body: `1`, header: []string{
				"X-Amz-Client-Context",
				base64.StdEncoding.EncodeToString([]byte(`"` + strings.Repeat("a", 2688) + `"`))},
			status: 400, errType: "InvalidRequestContentException"},
		"request's ID": {
			function: "orders", body: `1`, header: []string{"X-Amzn-Requestid", "1"}, status: 400,
			errType: "InvalidRequestContentException"},
		"not JSON": {
			function: "orders", body: `{`, status: 400, errType: "InvalidRequestContentException"},
		"too large": {
			function: "orders", body: large + "1", status: 413, errType: "RequestTooLargeException"},
		"much too large": {
			function: "orders", body: large + large, status: 413, errType: "RequestTooLargeException"},
		"too large, async": {
			function: "orders", body: large[:lambdaMaxAsync] + "1",
			header: []string{"X-Amz-Invocation-Type", "Event"}, status: 413,
			errType: "RequestTooLargeException"},
		"XML": {
			function: "orders", body: `1`, header: []string{"Content-Type", "text/xml"}, status: 415,
			errType: "UnsupportedMediaTypeException"},
		"unknown type": {
			function: "orders", body: `1`, header: []string{"X-Amz-Invocation-Type", "Later"}, status: 400,
			errType: "ValidationException",
			want: `{"message":"1 validation error detected: Value 'Later' at 'invocationType' failed to ` +
				`satisfy constraint: Member must satisfy enum value set: [DryRun, RequestResponse, Event]"}` +
				"\n"},
		"unknown type of log": {
			function: "orders", body: `1`, header: []string{"X-Amz-Log-Type", "Head"}, status: 400,
			errType: "ValidationException"},
		"asynchronous stream": {
			path: "/2021-11-15/functions/orders/response-streaming-invocations", body: `1`,
			header: []string{"X-Amz-Invocation-Type", "Event"}, status: 400, errType: "ValidationException"},
	})
}

// A client that sends all before it reads, as the AWS CLI does, sees why it is refused.
func TestInvokeAPIHearsARequestOutThatIsTooLarge(t *testing.T) {
	t.Parallel()
	_, functions := startInvokeAPI(t)
	address, path, _ := strings.Cut(strings.TrimPrefix(functions, "http://"), "/")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	size := 8 * lambdaMaxRequest
	_, err = fmt.
		Fprintf(conn, "POST /%sorders/invocations HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s",
			path, address, size, strings.Repeat(" ", size))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %s", response.Status)
	}
}

func TestInvokeAPIRefusesOtherFunctions(t *testing.T) {
	wantInvokes(t, map[string]invokeCase{
		"unknown": {
			function: "other", body: `1`, status: 404, errType: "ResourceNotFoundException",
			want: `{"Message":"Function not found: arn:aws:lambda:us-east-1:123456789012:function:other",` +
				`"Type":"User"}` + "\n"},
		"unknown, as a stream": {
			path: "/2021-11-15/functions/other/response-streaming-invocations", body: `1`, status: 404,
			errType: "ResourceNotFoundException"},
		"another version": {
			function: "orders:8", body: `1`, status: 404, errType: "ResourceNotFoundException"},
		"another region": {
			function: strings.Replace(ordersARN, "us-east-1", "eu-west-1", 1), body: `1`, status: 404,
			errType: "ResourceNotFoundException"},
		"another account": {
			function: "210987654321:function:orders", body: `1`, status: 403,
			errType: "AccessDeniedException"},
		"two qualifiers": {
			function: "orders:blue/invocations?Qualifier=green", body: `1`, status: 400,
			errType: "InvalidParameterValueException"},
		"no name": {
			function: "orders%20get", body: `1`, status: 400, errType: "ValidationException"},
		"another service's ARN": {
			function: "arn:aws:sqs:us-east-1:123456789012:orders", body: `1`, status: 400,
			errType: "ValidationException"},
		"long name": {
			function: strings.Repeat("a", 171), body: `1`, status: 400, errType: "ValidationException"},
		"no qualifier": {
			function: "orders/invocations?Qualifier=a.b", body: `1`, status: 400,
			errType: "ValidationException"},
	})
}

func TestInvokeAPIRefusesOtherCalls(t *testing.T) {
	rows := map[string]invokeCase{
		"another method":    {method: "GET", function: "orders"},
		"another stream":    {method: "PUT", path: "/2021-11-15/functions/a/response-streaming-invocations"},
		"no function":       {function: "/invocations"},
		"no path":           {path: "/"},
		"one slash more":    {path: "//2015-03-31/functions/orders/invocations"},
		"one segment more":  {function: "orders/more/invocations"},
		"another operation": {method: "GET", path: "/2015-03-31/functions/orders"},
		"another version":   {path: "/2014-11-13/functions/orders/invoke-async/"},
	}
	for name, row := range rows {
		row.status = 403
		row.errType = "AccessDeniedException"
		rows[name] = row
	}
	wantInvokes(t, rows)
}

func TestInvokeAPIInvokesNothingInADryRun(t *testing.T) {
	p := wantInvokes(t, map[string]invokeCase{
		"dry run": {
			function: "orders", body: `1`, header: []string{"X-Amz-Invocation-Type", "DryRun"}, status: 204},
	})
	// If the dry run had begun an invocation, it would be over when another one is and the environment has
	// closed.
	<-p.invoke(invokeRequest{payload: []byte("2"), requestID: "another"})
	p.env.close()
	var invoked []string
	for _, ev := range p.env.events() {
		if ev.name == "invoke start" {
			invoked = append(invoked, ev.requestID)
		}
	}
	if !slices.Equal(invoked, []string{"another"}) {
		t.Errorf("invocations %q, want only the one after the dry run", invoked)
	}
}

func TestInvokeAPIServesLoopbackNamesAndNoBrowsers(t *testing.T) {
	arn := ordersARN
	wantInvokes(t, map[string]invokeCase{
		"another host": {
			function: "orders", body: `1`, header: []string{"Host", "evil.example"}, status: 403,
			errType: "AccessDeniedException"},
		"loopback by name": {
			function: "orders", body: `1`, header: []string{"Host", "localhost:9000"}, status: 200,
			want: `1` + arn},
		"IPv6": {
			function: "orders", body: `1`, header: []string{"Host", "[::1]:9000"}, status: 200,
			want: `1` + arn},
		"a web page": {
			function: "orders", body: `1`, header: []string{"Origin", "http://127.0.0.1:9000"}, status: 403,
			errType: "AccessDeniedException"},
		"a browser's image": {
			function: "orders", body: `1`, header: []string{"Sec-Fetch-Site", "cross-site"}, status: 403,
			errType: "AccessDeniedException"},
	})
}

// An asynchronous invocation gets no client context, and its log nobody.
func TestInvokeAPIAcceptsAsynchronousInvocations(t *testing.T) {
	p := playLambda(t, lambdaOptions{functionName: "orders"})
	url := p.serveInvokes()
	next := p.holdNext()
	got := p.call("POST", url+"/2015-03-31/functions/orders/invocations", strings.NewReader(`"later"`),
		"X-Amz-Invocation-Type", "Event", "X-Amz-Client-Context", "e30=", "X-Amz-Log-Type", "Tail")
	if got.status != 202 || got.body != "" || got.header.Get("X-Amz-Log-Result") != "" {
		t.Errorf("async: %+v", got)
	}
	event := <-next
	if event.body != `"later"` || event.id() != got.header.Get("X-Amzn-Requestid") ||
		event.header.Get("Lambda-Runtime-Client-Context") != "" {
		t.Errorf("event %+v of the call %+v", event, got)
	}
	p.respond(event.id(), `1`)
}

// It waits for the whole stream, for there is no other way to say that it broke.
func TestInvokeAPISaysThatAStreamBroke(t *testing.T) {
	p := playLambda(t, lambdaOptions{functionName: "orders"})
	url := p.serveInvokes()
	p.tasks.Go(func() {
		p.stream(p.next().id(), http.Header{
			lambdaErrorTypeHeader: {"Function.Broke"},
			lambdaErrorBodyHeader: {base64.StdEncoding.EncodeToString([]byte(`{"errorType":"Broke"}`))},
		}, strings.NewReader("one\n"))
	})
	got := p.call("POST", url+"/2015-03-31/functions/orders/invocations", strings.NewReader(`1`))
	if got.status != 200 || got.header.Get("X-Amz-Function-Error") != "Unhandled" ||
		got.body != `{"errorType":"Broke"}` || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %+v", got)
	}
}
