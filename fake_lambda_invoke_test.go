//go:build !layer

package main

// fake_lambda_invoke_test.go tests the emulated Invoke API.

import (
	"bufio"
	"encoding/base64"
	"io"
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
	server := httptest.NewServer(serveInvoke(p.env))
	t.Cleanup(server.Close)
	p.serve(func(event played) (string, string, []string) {
		if event.body == `"fail"` {
			return "error", `{"errorMessage":"no"}`, nil
		}
		return "response",
			event.body + event.header.Get("Lambda-Runtime-Client-Context") +
				event.header.Get("Lambda-Runtime-Invoked-Function-Arn"), nil
	})
	return p, server.URL + "/2015-03-31/functions/"
}

// invokeCase is a call of Invoke and what comes back.
type invokeCase struct {
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
			got := p.call("POST", url, strings.NewReader(row.body), row.header...)
			if got.status != row.status || row.want != "" && got.body != row.want {
				t.Errorf("got %d %.200q, want %d %q", got.status, got.body, row.status, row.want)
			}
			if got.header.Get("X-Amzn-Errortype") != row.errType ||
				got.header.Get("X-Amz-Function-Error") != row.failed {
				t.Errorf("header %v", got.header)
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

func TestInvokeAPIAnswers(t *testing.T) {
	arn := ordersARN
	wantInvokes(t, map[string]invokeCase{
		"answer":    {function: "orders", body: `{"a":1}`, status: 200, want: `{"a":1}` + arn},
		"no body":   {function: "orders", status: 200, want: `{}` + arn},
		"qualifier": {function: "orders:live", body: `1`, status: 200, want: `1` + arn + `:live`},
		"ARN":       {function: arn, body: `1`, status: 200, want: `1` + arn},
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
	large := strings.Repeat(" ", lambdaMaxRequest)
	wantInvokes(t, map[string]invokeCase{
		"bad context": {
			function: "orders", body: `1`, header: []string{"X-Amz-Client-Context", "e30"}, status: 400,
			errType: "InvalidRequestContentException"},
		"not JSON": {
			function: "orders", body: `{`, status: 400, errType: "InvalidRequestContentException"},
		"too large": {
			function: "orders", body: large + "1", status: 413, errType: "RequestTooLargeException"},
		"too large, async": {
			function: "orders", body: large[:lambdaMaxAsync] + "1",
			header: []string{"X-Amz-Invocation-Type", "Event"}, status: 413,
			errType: "RequestTooLargeException"},
		"unknown": {
			function: "other", body: `1`, status: 404, errType: "ResourceNotFoundException"},
		"unknown type": {
			function: "orders", body: `1`, header: []string{"X-Amz-Invocation-Type", "Later"}, status: 400,
			errType: "InvalidParameterValueException"},
	})
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
			function: "orders", body: `1`, header: []string{"Host", "evil.example"}, status: 403},
		"loopback by name": {
			function: "orders", body: `1`, header: []string{"Host", "localhost:9000"}, status: 200,
			want: `1` + arn},
		"IPv6": {
			function: "orders", body: `1`, header: []string{"Host", "[::1]:9000"}, status: 200,
			want: `1` + arn},
		"a web page": {
			function: "orders", body: `1`, header: []string{"Origin", "http://127.0.0.1:9000"}, status: 403},
		"a browser's image": {
			function: "orders", body: `1`, header: []string{"Sec-Fetch-Site", "cross-site"}, status: 403},
	})
}

func TestInvokeAPIAcceptsAsynchronousInvocations(t *testing.T) {
	p, functions := startInvokeAPI(t)
	got := p.call("POST", functions+"orders/invocations", strings.NewReader(`"later"`),
		"X-Amz-Invocation-Type", "Event")
	if got.status != 202 || got.body != "" {
		t.Errorf("async: %+v", got)
	}
	_, err := p.env.waitFor(t.Context(), 0, func(ev lambdaEvent) bool {
		return ev.name == "answer" && ev.requestID == got.header.Get("X-Amzn-Requestid")
	})
	if err != nil {
		t.Error(err)
	}
}

func TestInvokeAPIStreamsAnswers(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	server := httptest.NewServer(serveInvoke(p.env))
	defer server.Close()
	body, send := io.Pipe()
	trailer := http.Header{lambdaErrorTypeHeader: nil, lambdaErrorBodyHeader: nil}
	p.tasks.Go(func() {
		event := p.next()
		post, _ := http.NewRequest(
			"POST", "http://"+p.env.addr+"/2018-06-01/runtime/invocation/"+event.id()+"/response", body)
		post.Header.Set(lambdaModeHeader, "streaming")
		post.Header.Set("Content-Type", "text/plain")
		post.Trailer = trailer
		p.do(post)
	})
	p.tasks.Go(func() { _, _ = io.WriteString(send, "one\n") })
	response, err := http.Post(
		server.URL+"/2015-03-31/functions/function/invocations", "", strings.NewReader("1"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	line, _ := lines.ReadString('\n')
	if line != "one\n" || response.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("first line %q, header %v", line, response.Header)
	}
	_, _ = io.WriteString(send, "two\n") // only now
	trailer.Set(lambdaErrorTypeHeader, "Function.Broke")
	trailer.Set(lambdaErrorBodyHeader, "e30=")
	send.Close()
	rest, err := io.ReadAll(lines)
	if string(rest) != "two\n" || err != nil {
		t.Errorf("rest %q, %v", rest, err)
	}
	if response.Trailer.Get("X-Amz-Function-Error") != "Unhandled" ||
		response.Trailer.Get(lambdaErrorTypeHeader) != "Function.Broke" ||
		response.Trailer.Get(lambdaErrorBodyHeader) != "e30=" {
		t.Errorf("trailer %v", response.Trailer)
	}
}
