//go:build !layer

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ---- the Runtime API, played in process ----

func TestLambdaInvocationRoundTrip(t *testing.T) {
	p := playLambda(t, lambdaOptions{functionName: "orders", region: "eu-west-1", version: "7"})
	invoked := p.invoke(invokeRequest{
		payload: []byte(`{"n":1.0}`), requestID: "req-1", qualifier: "live", traceID: "Root=1-2-3",
		clientContext:   `{"a":1}`,
		cognitoIdentity: `{"cognitoIdentityId":"x"}`, tenantID: "blue",
	})
	before := time.Now()
	event := p.next()
	if event.body != `{"n":1.0}` {
		t.Errorf("event %q", event.body)
	}
	want := map[string]string{
		"Lambda-Runtime-Aws-Request-Id": "req-1", "Lambda-Runtime-Trace-Id": "Root=1-2-3",
		"Content-Type":                        "application/json",
		"Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:123456789012:function:orders:live",
		"Lambda-Runtime-Client-Context":       `{"a":1}`,
		"Lambda-Runtime-Cognito-Identity":     `{"cognitoIdentityId":"x"}`,
		"Lambda-Runtime-Aws-Tenant-Id":        "blue",
	}
	for name, value := range want {
		if got := event.header.Get(name); got != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
	deadline, err := strconv.ParseInt(event.header.Get("Lambda-Runtime-Deadline-Ms"), 10, 64)
	if left := time.UnixMilli(deadline).Sub(before); err != nil || left <= 0 ||
		left > lambdaMaxTimeout+time.Minute {
		t.Errorf("deadline %q leaves %v", event.header.Get("Lambda-Runtime-Deadline-Ms"), left)
	}
	p.want(p.respond(
		"req-1", "fine", "Content-Type", "text/x", lambdaAttemptHeader,
		event.header.Get(lambdaAttemptHeader)), 202, "")
	result := <-invoked
	if string(result.payload) != "fine" || result.contentType != "text/x" || result.functionError != "" ||
		result.requestID != "req-1" {
		t.Errorf("result %+v", result)
	}
	attempts := p.env.completions("req-1")
	if len(attempts) != 1 || attempts[0].status != 202 || attempts[0].kind != "response" ||
		attempts[0].size != 4 || attempts[0].header.Get("Content-Type") != "text/x" {
		t.Errorf("completions %+v", attempts)
	}
}

func TestLambdaEmptyValuesAreLeftOut(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	p.invoke(invokeRequest{})
	event := p.next()
	for _, name := range []string{"Client-Context", "Cognito-Identity", "Aws-Tenant-Id"} {
		if v, ok := event.header["Lambda-Runtime-"+name]; ok {
			t.Errorf("%s: %q", name, v)
		}
	}
	if id := event.header.Get("Lambda-Runtime-Trace-Id"); !strings.HasPrefix(id, "Root=1-") {
		t.Errorf("trace ID %q", id)
	}
}

// Each row posts to an invocation that is running, as request ID "now".
func TestLambdaAnswersRefused(t *testing.T) {
	for name, row := range map[string]struct {
		id, call string
		header   []string
		body     int
		status   int
		errType  string
		invoker  string // error type that the invoker gets, if it gets an answer
	}{
		"unknown ID":          {id: "other", call: "response", status: 400, errType: "InvalidRequestID"},
		"unknown ID of error": {id: "other", call: "error", status: 400, errType: "InvalidRequestID"},
		"escaped slash in ID": {id: "a%2Fb", call: "response", status: 400, errType: "InvalidRequestID"},
		"stale attempt": {
			id: "now", call: "response", header: []string{lambdaAttemptHeader, "x"}, status: 400,
			errType: "InvalidInvocationId"},
		"stale attempt's error": {
			id: "now", call: "error", header: []string{lambdaAttemptHeader, "x"}, status: 400,
			errType: "InvalidInvocationId"},
		"mode": {id: "now", call: "response", header: []string{lambdaModeHeader, "buffered"}, status: 400,
			errType: "InvalidFunctionResponseMode", invoker: "Runtime.InvalidResponseModeHeader"},
		"largest": {id: "now", call: "response", body: lambdaMaxPayload, status: 202, invoker: "-"},
		"too large": {
			id: "now", call: "response", body: lambdaMaxPayload + 1, status: 413,
			errType: "RequestEntityTooLarge", invoker: "Function.ResponseSizeTooLarge"},
		"too large with streaming mode": {id: "now", call: "response",
			header: []string{lambdaModeHeader, "streaming"}, body: lambdaMaxPayload + 1,
			status: 413, errType: "RequestEntityTooLarge", invoker: "Function.ResponseSizeTooLarge"},
		"error too large": {
			id: "now", call: "error", body: lambdaMaxPayload + 1, status: 413,
			errType: "RequestEntityTooLarge", invoker: "Function.ResponseSizeTooLarge"},
	} {
		t.Run(name, func(t *testing.T) {
			p := playLambda(t, lambdaOptions{})
			invoked := p.invoke(invokeRequest{requestID: "now"})
			p.next()
			answer := p.post(
				"/2018-06-01/runtime/invocation/"+row.id+"/"+row.call, strings.Repeat("x", row.body),
				row.header...)
			p.want(answer, row.status, row.errType)
			if row.invoker == "" {
				p.want(p.respond("now", "fine"), 202, "") // the refusal changed nothing
			}
			result := <-invoked
			switch row.invoker {
			case "":
				if string(result.payload) != "fine" {
					t.Errorf("result %+v", result)
				}
			case "-":
				if len(result.payload) != row.body || result.functionError != "" {
					t.Errorf("%d bytes, %q", len(result.payload), result.functionError)
				}
			default:
				if result.errorType != row.invoker || result.functionError != "Unhandled" {
					t.Errorf("result %+v", result)
				}
			}
			p.holdNext() // in every case the runtime goes on
			p.await("invoke end", "")
		})
	}
}

func TestLambdaRuntimeStates(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	p.want(p.respond("now", ""), 400, "InvalidRequestID") // before next
	p.want(p.get("/2018-06-01/runtime/restore/next"), 404, "")
	p.want(p.get("/2018-06-01/ping"), 200, "")

	invoked := p.invoke(invokeRequest{requestID: "now", payload: []byte("event")})
	first := p.next()
	again := p.next() // while it runs: the same event at once
	if again.body != "event" ||
		again.header.Get(lambdaAttemptHeader) != first.header.Get(lambdaAttemptHeader) {
		t.Errorf("second next: %+v", again)
	}
	p.want(p.post("/2018-06-01/runtime/init/error", ""), 403, "InvalidStateTransition")

	body, send := io.Pipe() // an answer in progress
	answered := make(chan played, 1)
	go func() { answered <- p.call("POST", "/2018-06-01/runtime/invocation/now/response", body) }()
	_, _ = send.Write([]byte("sl"))
	p.await("answer begun", "runtime")
	p.want(p.respond("now", "second"), 403, "InvalidStateTransition")
	p.want(p.post("/2018-06-01/runtime/invocation/now/error", "{}"), 403, "InvalidStateTransition")
	p.want(p.get("/2018-06-01/runtime/invocation/next"), 403, "InvalidStateTransition")
	_, _ = send.Write([]byte("ow"))
	send.Close()
	p.want(<-answered, 202, "")
	if result := <-invoked; string(result.payload) != "slow" {
		t.Errorf("result %+v", result)
	}
	p.want(p.respond("now", "late"), 400, "InvalidRequestID")
	statuses := []int{}
	for _, c := range p.env.completions("now") {
		statuses = append(statuses, c.status)
	}
	if want := []int{400, 403, 403, 202, 400}; !slices.Equal(statuses, want) {
		t.Errorf("completions %v, want %v", statuses, want)
	}
}

func TestLambdaErrors(t *testing.T) {
	cause := `{"working_directory":"/","exceptions":[]}`
	for name, row := range map[string]struct {
		header  []string
		body    string
		want    invokeResult
		payload string
	}{
		"verbatim": {
			header: []string{lambdaErrorTypeHeader, "Function.Odd"}, body: `{"errorMessage":"é","x":1}`,
			payload: `{"errorMessage":"é","x":1}`, want: invokeResult{errorType: "Function.Odd"}},
		"anywhere in it": {
			header: []string{lambdaErrorTypeHeader, "x Runtime.Odd!"},
			want:   invokeResult{errorType: "x Runtime.Odd!"}},
		"function": {
			header: []string{lambdaErrorTypeHeader, "Function.odd"},
			want:   invokeResult{errorType: "Function.Unknown"}},
		"anything": {
			header: []string{lambdaErrorTypeHeader, "TypeError"},
			want:   invokeResult{errorType: "Runtime.Unknown"}},
		"nothing": {body: "bytes", payload: "bytes", want: invokeResult{errorType: "Runtime.Unknown"}},
		"cause": {
			header: []string{lambdaXRayHeader, cause},
			want:   invokeResult{errorType: "Runtime.Unknown", xrayCause: json.RawMessage(cause)}},
		"bad cause": {
			header: []string{lambdaXRayHeader, "{"}, want: invokeResult{errorType: "Runtime.Unknown"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := playLambda(t, lambdaOptions{})
			invoked := p.invoke(invokeRequest{requestID: "now"})
			p.next()
			p.want(p.post("/2018-06-01/runtime/invocation/now/error", row.body, row.header...), 202, "")
			got := <-invoked
			if got.functionError != "Unhandled" || got.errorType != row.want.errorType ||
				string(got.payload) != row.payload ||
				!bytes.Equal(got.xrayCause, row.want.xrayCause) {
				t.Errorf("got %+v with payload %q", got, got.payload)
			}
			p.holdNext()
			p.await("invoke end", "") // a handler's error is an ordinary end
		})
	}
}

func TestLambdaTruncatedResponse(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	invoked := p.invoke(invokeRequest{requestID: "now"})
	p.next()
	conn, err := net.Dial("tcp", p.env.addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(
		conn, "POST /2018-06-01/runtime/invocation/now/response HTTP/1.1\r\nHost: %s\r\nContent-Length: "+
			"100\r\n\r\nhalf", p.env.addr)
	conn.(*net.TCPConn).CloseWrite()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || answer.StatusCode != 400 {
		t.Errorf("answer %+v, %v", answer, err)
	}
	conn.Close()
	if result := <-invoked; result.errorType != "Runtime.TruncatedResponse" {
		t.Errorf("result %+v", result)
	}
	p.holdNext()
	p.await("invoke end", "")
}

func TestLambdaStreamedResponse(t *testing.T) {
	for name, row := range map[string]struct {
		mode      string
		streaming bool // the invoker's wish
		fails     bool // by trailer
		want      string
	}{
		"streamed":                    {mode: "streaming", streaming: true},
		"streamed without the header": {streaming: true},
		"breaks": {
			mode: "streaming", streaming: true, fails: true, want: "Function.Broke"},
		"breaks, without the header":              {streaming: true, fails: true, want: "Function.Broke"},
		"buffered":                                {mode: "streaming"},
		"buffered, breaks":                        {mode: "streaming", fails: true, want: "Function.Broke"},
		"buffered, trailers of no streaming mode": {fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := playLambda(t, lambdaOptions{})
			arrived := make(chan string)
			req := invokeRequest{requestID: "now"}
			if row.streaming {
				req.onResponse = func(h http.Header) io.Writer {
					if h.Get(lambdaModeHeader) != row.mode || h.Get("Content-Type") != "text/event-stream" {
						t.Errorf("headers %v", h)
					}
					return chanWriter(arrived)
				}
			}
			invoked := p.invoke(req)
			p.next()
			body, send := io.Pipe()
			post, _ := http.NewRequest(
				"POST", "http://"+p.env.addr+"/2018-06-01/runtime/invocation/now/response", body)
			post.Header.Set("Content-Type", "text/event-stream")
			if row.mode != "" {
				post.Header.Set(lambdaModeHeader, row.mode)
			}
			post.Trailer = http.Header{lambdaErrorTypeHeader: nil, lambdaErrorBodyHeader: nil}
			answered := make(chan played, 1)
			go func() { answered <- p.do(post) }()
			for _, part := range []string{"one", "two"} {
				_, _ = io.WriteString(send, part)
				if row.streaming { // each part arrives before the next one is sent
					if got := <-arrived; got != part {
						t.Errorf("arrived %q, want %q", got, part)
					}
				}
			}
			errorBody := base64.StdEncoding.EncodeToString([]byte(`{"errorMessage":"broke"}`))
			if row.fails {
				post.Trailer.Set(lambdaErrorTypeHeader, "Function.Broke")
				post.Trailer.Set(lambdaErrorBodyHeader, errorBody)
			}
			send.Close()
			p.want(<-answered, 202, "")
			result := <-invoked
			if result.errorType != row.want || (result.functionError != "") != (row.want != "") ||
				result.streamed != row.streaming {
				t.Errorf("result %+v", result)
			}
			if row.fails && result.trailer.Get(lambdaErrorBodyHeader) != errorBody {
				t.Errorf("trailer %v", result.trailer)
			}
			if want := map[bool]string{false: "onetwo"}[row.streaming]; string(result.payload) != want {
				t.Errorf("payload %q, want %q", result.payload, want)
			}
		})
	}
}

// A deadline in the middle of an answer breaks the runtime's connection off and takes the writer back.
func TestLambdaTimeoutWhileStreaming(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	arrived := make(chan string)
	expire := make(chan struct{})
	invoked := p.invoke(
		invokeRequest{requestID: "now", expire: expire, onResponse: func(http.Header) io.Writer {
			return chanWriter(arrived)
		}})
	p.next()
	body, send := io.Pipe()
	answered := p.hold(func() played {
		return p.call("POST", "/2018-06-01/runtime/invocation/now/response", body)
	})
	_, _ = io.WriteString(send, "one")
	<-arrived
	close(expire)
	result := <-invoked
	if !result.streamed || result.errorType != "Sandbox.Timedout" {
		t.Errorf("result %+v", result)
	}
	send.Close() // this HTTP client reports nothing before
	if got := <-answered; got.status != 0 {
		t.Errorf("the runtime got an answer: %+v", got)
	}
	if c := p.env.completions("now"); len(c) != 1 || c[0].status != 0 {
		t.Errorf("completions %+v", c)
	}
}

func TestLambdaTimeoutAndReset(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	expire := make(chan struct{})
	invoked := p.invoke(invokeRequest{requestID: "now", timeout: 90 * time.Second, expire: expire})
	p.next()
	close(expire)
	result := <-invoked
	want := `{"errorMessage":"RequestId: now Error: Task timed out after 90.00 seconds",` +
		`"errorType":"Sandbox.Timedout"}`
	if string(result.payload) != want || result.functionError != "Unhandled" ||
		result.errorType != "Sandbox.Timedout" {
		t.Errorf("result %+v with %s", result, result.payload)
	}
	p.want(p.respond("now", "late"), 400, "InvalidRequestID")
	p.await("shutdown done", "")
	p.want(p.respond("now", "later"), 400, "InvalidRequestID")

	invoked = p.invoke(invokeRequest{requestID: "retry"}) // begins with an init
	p.await("init start", "")
	p.next()
	p.want(p.respond("retry", "fine"), 202, "")
	if result := <-invoked; string(result.payload) != "fine" || result.init == 0 {
		t.Errorf("result %+v", result)
	}
}

func TestLambdaInitErrorIsTheAnswer(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	p.want(p.post("/2018-06-01/runtime/init/error", "first", lambdaErrorTypeHeader, "Runtime.NoHandler"), 202,
		"")
	if err := p.env.ready(t.Context()); err == nil || !strings.Contains(err.Error(), "Runtime.NoHandler") {
		t.Errorf("ready: %v", err)
	}
	invoked := p.invoke(invokeRequest{}) // repeats the init
	p.await("init start", "")
	p.want(p.post(
		"/2018-06-01/runtime/init/error", `{"errorMessage":"no handler"}`, lambdaErrorTypeHeader,
		"Runtime.NoHandler"), 202, "")
	if result := <-invoked; string(result.payload) != `{"errorMessage":"no handler"}` ||
		result.errorType != "Runtime.NoHandler" {
		t.Errorf("result %+v", result)
	}
}

func TestLambdaFaults(t *testing.T) {
	var faults []lambdaFault // for the next calls to /response
	var mu sync.Mutex
	p := playLambda(t, lambdaOptions{fault: func(r *http.Request) (f lambdaFault) {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasSuffix(r.URL.Path, "/response") && len(faults) > 0 {
			f, faults = faults[0], faults[1:]
		}
		return f
	}})
	for name, row := range map[string]struct {
		fault  lambdaFault
		status int // 0: no reply
	}{
		"refused":          {lambdaFault{status: 403, errorType: "InvalidStateTransition"}, 403},
		"broken":           {lambdaFault{status: 500}, 500},
		"dropped":          {lambdaFault{drop: true}, 0},
		"broken too late":  {lambdaFault{status: 500, late: true}, 500},
		"dropped too late": {lambdaFault{drop: true, late: true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			invoked := p.invoke(invokeRequest{requestID: name})
			p.next()
			mu.Lock()
			faults = []lambdaFault{row.fault}
			mu.Unlock()
			post, _ := http.NewRequest(
				"POST", "http://"+p.env.addr+"/2018-06-01/runtime/invocation/"+
					strings.ReplaceAll(name, " ", "%20")+"/response", io.NopCloser(strings.NewReader("fine")))
			response, err := p.client.Do(post)
			switch {
			case err == nil:
				response.Body.Close()
				if response.StatusCode != row.status {
					t.Errorf("status %d, want %d", response.StatusCode, row.status)
				}
			case row.status != 0:
				t.Error(err)
			}
			want := 202
			if !row.fault.late {
				want = row.fault.status
				p.want(p.respond(strings.ReplaceAll(name, " ", "%20"), "fine"), 202, "")
			}
			if result := <-invoked; string(result.payload) != "fine" {
				t.Errorf("result %+v", result)
			}
			if c := p.env.completions(name); c[0].status != want || c[len(c)-1].status != 202 {
				t.Errorf("completions %+v", c)
			}
		})
	}
}

// ---- the Extensions API, played in process ----

func TestLambdaRegistrationRefused(t *testing.T) {
	invoke, both := `{"events":["INVOKE"]}`, `{"events":["INVOKE","SHUTDOWN"]}`
	for name, row := range map[string]struct {
		options lambdaOptions
		names   []string // registered one after another; the last is the one that counts
		body    string
		ready   bool // only after the runtime's next
		errType string
	}{
		"external":  {names: []string{"ours"}, body: both},
		"no events": {names: []string{"ours"}, body: `{}`},
		"no name": {
			names: []string{""}, body: both, errType: "Extension.InvalidExtensionName"},
		"empty body": {names: []string{"ours"}, body: ``, errType: "InvalidRequestFormat"},
		"configuration keys": {
			names: []string{"ours"}, body: `{"configurationKeys":["x"]}`, errType: "InvalidRequestFormat"},
		"unknown event": {
			names: []string{"ours"}, body: `{"events":["FREEZE"]}`, errType: "Extension.InvalidEventType"},
		"internal": {names: []string{"inner"}, body: invoke},
		"internal and SHUTDOWN": {
			names: []string{"inner"}, body: both, errType: "Extension.InvalidEventType"},
		"internal, too late": {
			names: []string{"inner"}, body: invoke, ready: true, errType: "Extension.RegistrationClosed"},
		"twice": {
			names: []string{"ours", "ours"}, body: both, errType: "Extension.InvalidExtensionState"},
		"internal twice": {
			names: []string{"inner", "inner"}, body: invoke, errType: "Extension.InvalidExtensionState"},
		"INVOKE where it is not": {
			options: lambdaOptions{maxConcurrency: 2}, names: []string{"ours"}, body: both,
			errType: "Extension.InvalidEventType"},
		"eleventh": {
			names: []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}, body: invoke,
			errType: "Extension.TooManyExtensions"},
	} {
		t.Run(name, func(t *testing.T) {
			row.options.external = []string{"ours"}
			p := playLambda(t, row.options)
			if row.ready {
				p.holdNext()
				p.await("runtime next", "runtime")
			}
			var got played
			for _, name := range row.names {
				got = p.post(
					"/2020-01-01/extension/register", row.body, "Lambda-Extension-Name", name,
					"Lambda-Extension-Accept-Feature", "x, accountId")
			}
			if row.errType != "" {
				p.want(got, 403, row.errType)
				return
			}
			p.want(got, 200, "")
			if want := `{"accountId":"123456789012","functionName":"function","functionVersion":"$LATEST",` +
				`"handler":"index.handler"}` + "\n"; got.body != want {
				t.Errorf("got %s, want %s", got.body, want)
			}
		})
	}
}

func TestLambdaExtensionCallsRefused(t *testing.T) {
	p := playLambda(t, lambdaOptions{external: []string{"ours"}})
	id := p.register("ours", "INVOKE", "SHUTDOWN")
	next, initError, exitError := "/2020-01-01/extension/event/next", "/2020-01-01/extension/init/error",
		"/2020-01-01/extension/exit/error"
	p.want(p.get(next), 403, "Extension.MissingExtensionIdentifier")
	p.want(p.get(next, lambdaExtensionHeader, "x"), 403, "Extension.InvalidExtensionIdentifier")
	p.want(p.get(next, lambdaExtensionHeader, lambdaUUID()), 403, "Extension.UnknownExtensionIdentifier")
	p.want(p.post(initError, "", lambdaExtensionHeader, id), 403, "Extension.MissingHeader")
	p.want(p.post(exitError, "", lambdaExtensionHeader, lambdaUUID()), 403,
		"Extension.UnknownExtensionIdentifier")
	p.holdExtensionNext(id)
	p.await("extension next", "ours")
	p.want(p.get(next, lambdaExtensionHeader, id), 403, "Extension.InvalidExtensionState") // one at a time
	p.want(p.post(
		initError, "", lambdaExtensionHeader, id, "Lambda-Extension-Function-Error-Type", "Extension.X"), 403,
		"Extension.InvalidExtensionState")
	p.want(p.post(
		exitError, "", lambdaExtensionHeader, id, "Lambda-Extension-Function-Error-Type", "Extension.X"), 202,
		"")
	if err := p.env.ready(t.Context()); err == nil || !strings.Contains(err.Error(), "Extension.ExitError") {
		t.Errorf("ready: %v", err)
	}
}

func TestLambdaExtensionInitError(t *testing.T) {
	p := playLambda(t, lambdaOptions{external: []string{"ours"}})
	id := p.register("ours")
	p.want(p.post(
		"/2020-01-01/extension/init/error", "", lambdaExtensionHeader, id,
		"Lambda-Extension-Function-Error-Type", "Extension.X"), 202, "")
	if err := p.env.ready(t.Context()); err == nil || err.Error() != "Extension.InitError: Extension.X" {
		t.Errorf("ready: %v", err)
	}
}

// The runtime waits for external extensions; init and each phase wait for everyone's next; then comes the
// freeze.
func TestLambdaPhases(t *testing.T) {
	p := playLambda(t, lambdaOptions{external: []string{"ours", "quiet"}})
	p.await("init start", "")
	quiet := p.register("quiet")
	id := p.register("ours", "INVOKE", "SHUTDOWN")
	p.await("runtime started", "")
	runtimeNext := p.holdNext()
	p.holdExtensionNext(quiet) // no events, but the next is owed
	event := p.holdExtensionNext(id)
	p.await("frozen", "")
	invoked := p.invoke(invokeRequest{requestID: "now", traceID: "Root=x"})
	<-runtimeNext
	var got map[string]any
	if err := json.Unmarshal([]byte((<-event).body), &got); err != nil {
		t.Fatal(err)
	}
	deadline, _ := got["deadlineMs"].(float64)
	delete(got, "deadlineMs")
	want := map[string]any{"eventType": "INVOKE", "requestId": "now",
		"invokedFunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:function",
		"tracing":            map[string]any{"type": "X-Amzn-Trace-Id", "value": "Root=x"}}
	if !reflect.DeepEqual(got, want) || deadline < 1e12 {
		t.Errorf("event %v, deadline %v", got, deadline)
	}
	p.want(p.respond("now", "fine"), 202, "")
	<-invoked // the caller does not wait for the extension
	p.holdNext()
	p.holdExtensionNext(id)
	p.await("invoke end", "")
	names := []string{}
	for _, ev := range p.env.events() {
		names = append(names, strings.TrimSpace(ev.name+" "+ev.who))
	}
	order(t, names, "init start", "extension registered quiet", "extension registered ours",
		"runtime started", "runtime next runtime", "init done")
	order(t, names, "extension next ours", "init done")
	order(t, names, "extension next quiet", "init done")
	order(t, names, "frozen", "thawed", "invoke start", "event delivered runtime", "answer runtime",
		"runtime next runtime", "frozen", "invoke end")
	order(t, names, "invoke start", "event delivered ours", "extension next ours", "frozen")
}

func TestLambdaExtensionHoldsThePhaseOpen(t *testing.T) {
	p := playLambda(t, lambdaOptions{external: []string{"ours"}, shutdownTimeout: time.Minute})
	id := p.register("ours", "INVOKE", "SHUTDOWN")
	event := p.holdExtensionNext(id)
	expire := make(chan struct{})
	invoked := p.invoke(invokeRequest{requestID: "now", expire: expire})
	p.next()
	<-event
	p.want(p.respond("now", "fine"), 202, "")
	if result := <-invoked; string(result.payload) != "fine" {
		t.Errorf("result %+v", result)
	}
	p.holdNext()
	close(expire)
	if ev := p.await("invoke failed", ""); ev.detail != "Sandbox.Timedout" { // never called next
		t.Errorf("event %+v", ev)
	}
	var shutdown struct{ EventType, ShutdownReason string }
	_ = json.Unmarshal([]byte((<-p.holdExtensionNext(id)).body), &shutdown)
	if shutdown.EventType != "SHUTDOWN" || shutdown.ShutdownReason != "timeout" {
		t.Errorf("got %+v", shutdown)
	}
	p.await("shutdown done", "")
	p.want(p.get("/2020-01-01/extension/event/next", lambdaExtensionHeader, id), 403,
		"Extension.UnknownExtensionIdentifier")
}

func TestLambdaTelemetryNotSupported(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	p.want(p.call("PUT", "/2022-07-01/telemetry", nil), 202, "Telemetry.NotSupported")
	p.want(p.call("PUT", "/2020-08-15/logs", nil), 202, "Logs.NotSupported")
}

func TestLambdaCloseDuringInvocation(t *testing.T) {
	p := playLambda(t, lambdaOptions{external: []string{"ours"}, shutdownTimeout: time.Minute})
	id := p.register("ours", "SHUTDOWN")
	event := p.holdExtensionNext(id)
	invoked := p.invoke(invokeRequest{requestID: "now"})
	p.next()
	p.env.close()
	if result := <-invoked; result.errorType != "Sandbox.Failure" {
		t.Errorf("result %+v", result)
	}
	if got := <-event; !strings.Contains(got.body, `"shutdownReason":"spindown"`) {
		t.Errorf("event %+v", got)
	}
	if _, err := p.env.invoke(t.Context(), invokeRequest{}); err != errLambdaClosed {
		t.Errorf("invoke after close: %v", err)
	}
	var stacks []byte
	for range 10_000 { // net/http's goroutines of closed connections may be on their last lines
		stacks = make([]byte, 1<<20)
		if stacks = stacks[:runtime.Stack(stacks, true)]; !bytes.Contains(stacks, []byte("(*lambdaEnv)")) {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("goroutines left behind:\n%s", stacks)
}

// ---- Managed Instances, SnapStart ----

func TestLambdaManagedInstances(t *testing.T) {
	p := playLambda(t, lambdaOptions{maxConcurrency: 2, external: []string{"ours"}})
	p.holdExtensionNext(p.register("ours", "SHUTDOWN"))
	results := []<-chan invokeResult{
		p.invoke(invokeRequest{requestID: "0"}), p.invoke(invokeRequest{requestID: "1"})}
	first, second := p.next(), p.next()
	if first.id() == second.id() {
		t.Errorf("both got %s", first.id())
	}
	for _, event := range []played{second, first} {
		p.want(p.respond(event.id(), "to "+event.id()), 202, "")
	}
	for i, result := range results {
		if got := string((<-result).payload); got != "to "+strconv.Itoa(i) {
			t.Errorf("invocation %d got %q", i, got)
		}
	}
	expire := make(chan struct{})
	slow := p.invoke(invokeRequest{requestID: "slow", expire: expire})
	p.next()
	close(expire)
	if result := <-slow; result.errorType != "Sandbox.Timedout" {
		t.Errorf("result %+v", result)
	}
	p.want(p.respond("slow", "late"), 400, "InvalidRequestID")
	after := p.invoke(invokeRequest{requestID: "after"})
	p.next()
	p.want(p.respond("after", "fine"), 202, "")
	if result := <-after; string(result.payload) != "fine" || result.init != 0 {
		t.Errorf("the timeout reset the environment: %+v", result)
	}
}

func TestLambdaSnapStart(t *testing.T) {
	expires := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	p := playLambda(t, lambdaOptions{snapStart: true,
		credentials: lambdaCredentials{
			accessKeyID: "A", secretAccessKey: "B", sessionToken: "C", expiration: expires}})
	restored := make(chan played, 1)
	go func() { restored <- p.get("/2018-06-01/runtime/restore/next") }()
	p.await("init done", "")
	p.want(p.get("/2018-06-01/runtime/restore/next"), 403, "InvalidStateTransition")
	p.want(p.post("/2018-06-01/runtime/restore/error", ""), 403, "InvalidStateTransition")
	invoked := p.invoke(invokeRequest{requestID: "now"})
	if got := <-restored; got.status != 200 || got.body != "" {
		t.Errorf("restore/next: %+v", got)
	}
	p.next()
	p.want(p.respond("now", "fine"), 202, "")
	if result := <-invoked; result.restore == 0 || string(result.payload) != "fine" {
		t.Errorf("result %+v", result)
	}

	p.want(p.get(lambdaCredentialsPath, "Authorization", "x"), 404, "")
	p.env.setCredentials(
		lambdaCredentials{accessKeyID: "D", secretAccessKey: "E", sessionToken: "F", expiration: expires})
	got := p.get(lambdaCredentialsPath, "Authorization", p.env.token)
	if want := `{"AccessKeyId":"D","Expiration":"2030-01-02T03:04:05Z","SecretAccessKey":"E","Token":"F"}` +
		"\n"; got.body != want {
		t.Errorf("credentials %s", got.body)
	}
	variables := strings.Join(p.env.variables(true), "\n") + "\n"
	if !strings.Contains(variables, "AWS_CONTAINER_AUTHORIZATION_TOKEN="+p.env.token+"\n") ||
		strings.Contains(variables, "AWS_ACCESS_KEY_ID") ||
		!strings.Contains(variables, "AWS_LAMBDA_INITIALIZATION_TYPE=snap-start\n") ||
		strings.Contains(variables, "LOG_STREAM") {
		t.Errorf("variables %s", variables)
	}
}

func TestLambdaRestoreError(t *testing.T) {
	p := playLambda(t, lambdaOptions{snapStart: true})
	restored := make(chan played, 1)
	go func() { restored <- p.get("/2018-06-01/runtime/restore/next") }()
	p.await("init done", "")
	invoked := p.invoke(invokeRequest{})
	<-restored
	p.want(p.post(
		"/2018-06-01/runtime/restore/error", `{"errorMessage":"hook"}`, lambdaErrorTypeHeader,
		"Runtime.AfterRestore"), 202, "")
	if result := <-invoked; result.errorType != "Runtime.AfterRestore" ||
		string(result.payload) != `{"errorMessage":"hook"}` {
		t.Errorf("result %+v", result)
	}
}

// ---- with processes ----

func TestLambdaProcesses(t *testing.T) {
	var output lockedBuffer
	layer := lambdaLayer(t, "20-second", "10-first")
	env := launchLambda(
		t, lambdaOptions{
			layerDir: layer, output: &output, environment: map[string]string{"GREETING": "hello"}})
	if err := env.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, ev := range env.events() {
		names = append(names, strings.TrimSpace(ev.name+" "+ev.who))
	}
	order(t, names, "extension launched 10-first", "extension launched 20-second", "runtime started",
		"runtime next runtime", "init done")
	order(t, names, "extension registered 10-first", "runtime started")
	order(t, names, "extension registered 20-second", "runtime started")

	waitStopped(t, env) // frozen until there is something to do
	got := invokeLambda(t, env, "env")
	for name, want := range map[string]string{
		"GREETING": "hello", "_HANDLER": "index.handler", "AWS_LAMBDA_FUNCTION_NAME": "function",
		"AWS_REGION":             "us-east-1",
		"AWS_LAMBDA_RUNTIME_API": env.addr, "LAMBDA_TASK_ROOT": env.taskDir,
		"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
		"AWS_ACCESS_KEY_ID":              "ASIAEMULATEDLAMBDA00", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
		"HOME": "",
	} {
		if value := variable(string(got.payload), name); value != want {
			t.Errorf("%s=%q, want %q", name, value, want)
		}
	}
	frozen := 0
	if _, err := env.waitFor(t.Context(), 0, func(ev lambdaEvent) bool {
		if ev.name == "frozen" {
			frozen++
		}
		return frozen == 2
	}); err != nil {
		t.Fatal(err)
	}
	waitStopped(t, env)
	exits := env.close()
	for _, exit := range exits {
		if exit.status != "exit status 0" || !exit.byItself {
			t.Errorf("%+v", exit)
		}
	}
	if len(exits) != 3 {
		t.Errorf("exits %+v", exits)
	}
	for _, want := range []string{
		"10-first: SHUTDOWN spindown\n", "20-second: SHUTDOWN spindown\n", "runtime: SIGTERM\n",
		"10-first: GREETING=hello\n", "10-first: _HANDLER=\n",
		"10-first: LAMBDA_TASK_ROOT=\n", "10-first: AWS_LAMBDA_LOG_GROUP_NAME=\n",
	} {
		if !strings.Contains(output.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, output.String())
		}
	}
}

func TestLambdaProcessFailures(t *testing.T) {
	for name, row := range map[string]struct {
		do     string
		id     string
		layer  []string
		want   string
		says   string
		reason string
	}{
		"runtime exits": {
			do: "exit 0", want: "Runtime.ExitError", says: "Runtime exited without providing a reason",
			reason: "failure"},
		"runtime crashes": {
			do: "exit 3", want: "Runtime.ExitError", says: "Runtime exited with error: exit status 3",
			reason: "failure"},
		"extension exits": {
			do: "hang", id: "crash", layer: []string{"ours"}, want: "Extension.Crash", says: "exit status 0",
			reason: "failure"},
		"runtime hangs": {
			do: "hang", want: "Sandbox.Timedout", says: "Task timed out after 0.30 seconds",
			reason: "timeout"},
		"runtime hangs with extension": {
			do: "hang", layer: []string{"ours"}, want: "Sandbox.Timedout",
			says: "Task timed out after 0.30 seconds", reason: "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			var output lockedBuffer
			o := lambdaOptions{output: &output}
			if row.layer != nil {
				o.layerDir = lambdaLayer(t, row.layer...)
			}
			env := launchLambda(t, o)
			if err := env.ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			req := invokeRequest{payload: []byte(row.do), requestID: cmp.Or(row.id, "now")}
			if row.reason == "timeout" { // passes whether or not it reaches the runtime in time
				req.timeout = 300 * time.Millisecond
			}
			result, err := env.invoke(t.Context(), req)
			if err != nil || result.errorType != row.want ||
				!strings.Contains(
					string(result.payload), "RequestId: "+req.requestID+" Error: "+row.says+`"`) {
				t.Errorf("result %+v with %s, %v", result, result.payload, err)
			}
			if got := string(invokeLambda(t, env, "again").payload); got != "did again" {
				t.Errorf("the invocation after the reset: %q", got)
			}
			env.close()
			if row.layer != nil && row.reason == "timeout" &&
				!strings.Contains(output.String(), "ours: SHUTDOWN "+row.reason+"\n") {
				t.Errorf("output %s", output.String())
			}
		})
	}
}

// A runtime that dies while nothing runs fails the invocation that meets it, and no more.
func TestLambdaRuntimeKilledWhileFrozen(t *testing.T) {
	env := launchLambda(t, lambdaOptions{})
	if err := env.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(env.sb.runtime.cmd.Process.Pid, syscall.SIGKILL)
	<-env.sb.runtime.exited
	if result := invokeLambda(t, env, "first"); result.errorType != "Runtime.ExitError" {
		t.Errorf("result %+v", result)
	}
	if result := invokeLambda(t, env, "second"); string(result.payload) != "did second" {
		t.Errorf("result %+v", result)
	}
}

func TestLambdaInitFailures(t *testing.T) {
	write := func(dir, name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		writeScript(t, path, text, mode)
		return path
	}
	for name, row := range map[string]struct {
		options func(dir string) lambdaOptions
		want    string
		output  string
	}{
		"no bootstrap": {want: "Runtime.InvalidEntrypoint", options: func(dir string) lambdaOptions {
			return lambdaOptions{osOnly: true, taskDir: dir, layerDir: dir}
		}},
		"no such runtime": {want: "Runtime.InvalidEntrypoint", options: func(dir string) lambdaOptions {
			return lambdaOptions{runtime: []string{filepath.Join(dir, "none")}}
		}},
		"extension not executable": {want: "Extension.LaunchError", options: func(dir string) lambdaOptions {
			write(dir, "extensions/readme", "text", 0o644)
			return lambdaOptions{layerDir: dir, runtime: []string{"true"}}
		}},
		"eleven extensions": {want: "Extension.LaunchError", options: func(dir string) lambdaOptions {
			for i := range 11 {
				write(dir, fmt.Sprintf("extensions/x%d", i), "#!/bin/sh\nexec cat\n", 0o755)
			}
			return lambdaOptions{layerDir: dir, runtime: []string{"true"}}
		}},
		"extension exits": {want: "Extension.Crash", options: func(dir string) lambdaOptions {
			write(dir, "extensions/x", "#!/bin/sh\nexit 0\n", 0o755)
			return lambdaOptions{layerDir: dir, runtime: []string{"true"}}
		}},
		"wrapper missing": {want: "Runtime.ExitError: Runtime exited with error: exit status 127",
			output: "none: does not exist", options: func(dir string) lambdaOptions {
				return lambdaOptions{
					layerDir: dir, runtime: []string{"true"},
					environment: map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/none"}}
			}},
		"wrapper not executable": {want: "Runtime.ExitError: Runtime exited with error: exit status 126",
			output: "is not an executable", options: func(dir string) lambdaOptions {
				write(dir, "wrapper", "", 0o644)
				return lambdaOptions{
					layerDir: dir, runtime: []string{"true"},
					environment: map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}}
			}},
		"timeout": {want: "Sandbox.Timedout: Task timed out after 0.05 seconds",
			options: func(string) lambdaOptions {
				return lambdaOptions{external: []string{"never"}, initTimeout: 50 * time.Millisecond}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			var output lockedBuffer
			o := row.options(t.TempDir())
			o.output = &output
			env := startTestLambda(t, o)
			if err := env.ready(t.Context()); err == nil || !strings.HasPrefix(err.Error(), row.want) {
				t.Errorf("ready: %v, want %s", err, row.want)
			}
			env.close()
			if !strings.Contains(output.String(), row.output) {
				t.Errorf("output %q, want %q", output.String(), row.output)
			}
		})
	}
}

func TestLambdaExecWrapperAndBootstrap(t *testing.T) {
	wrapper := "#!/bin/sh\nexport WRAPPED=yes\nexec \"$@\"\n"
	bootstrap := "#!/bin/sh\nexport WRAPPED=bootstrap\nexec " + strings.Join(lambdaHelper(), " ") + "\n"
	for name, row := range map[string]struct {
		osOnly    bool
		bootstrap string // where it is
		wrapper   string
		want      string
	}{
		"managed":                  {wrapper: "/opt/wrapper", want: "yes"},
		"managed, no wrapper":      {want: ""},
		"bootstrap in the package": {osOnly: true, bootstrap: "task", want: "bootstrap"},
		"bootstrap in the layer":   {osOnly: true, bootstrap: "layer", want: "bootstrap"},
		"OS-only runtimes know no wrapper": {
			osOnly: true, bootstrap: "layer", wrapper: "/opt/none", want: "bootstrap"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := lambdaOptions{
				layerDir: filepath.Join(dir, "layer"), taskDir: filepath.Join(dir, "task"),
				osOnly: row.osOnly, environment: map[string]string{}}
			writeScript(t, filepath.Join(dir, "layer", "wrapper"), wrapper, 0o755)
			writeScript(t, filepath.Join(dir, "task", "unused"), "", 0o644)
			if row.bootstrap != "" {
				writeScript(t, filepath.Join(dir, row.bootstrap, "bootstrap"), bootstrap, 0o755)
			}
			if row.wrapper != "" {
				o.environment["AWS_LAMBDA_EXEC_WRAPPER"] = row.wrapper
			}
			env := launchLambda(t, o)
			if got := variable(string(invokeLambda(t, env, "env").payload), "WRAPPED"); got != row.want {
				t.Errorf("WRAPPED=%q, want %q", got, row.want)
			}
		})
	}
}

// At the end of the time what has not exited is killed, with all that it started.
func TestLambdaShutdownKills(t *testing.T) {
	dir := t.TempDir()
	writeScript(
		t, filepath.Join(dir, "extensions", "ours"),
		"#!/bin/sh\nLAMBDA_HELPER_NAME=ours LAMBDA_HELPER_STUBBORN=1 exec "+strings.Join(lambdaHelper(), " ")+
			"\n", 0o755)
	env := launchLambda(t, lambdaOptions{layerDir: dir, shutdownTimeout: 300 * time.Millisecond})
	if got := string(invokeLambda(t, env, "child").payload); got != "did child" {
		t.Fatalf("got %q", got)
	}
	for _, exit := range env.close() { // returns although the runtime's child holds the output open
		if exit.name == "ours" && (exit.byItself || exit.status != "signal: killed") {
			t.Errorf("%+v", exit)
		}
	}
}

func TestLambdaCloseWhileProcessesWork(t *testing.T) {
	var output lockedBuffer
	env := launchLambda(t, lambdaOptions{layerDir: lambdaLayer(t, "ours"), output: &output})
	failed := make(chan invokeResult, 1)
	go func() {
		result, _ := env.invoke(context.Background(), invokeRequest{payload: []byte("hang")})
		failed <- result
	}()
	for _, who := range []string{"runtime", "ours"} {
		if _, err := env.waitFor(t.Context(), 0, func(ev lambdaEvent) bool {
			return ev.name == "event delivered" && ev.who == who
		}); err != nil {
			t.Fatal(err)
		}
	}
	exits := env.close()
	if result := <-failed; result.errorType != "Sandbox.Failure" {
		t.Errorf("result %+v", result)
	}
	want := []lambdaExit{{"ours", "exit status 0", 0, true}, {"runtime", "exit status 0", 0, true}}
	if !slices.Equal(exits, want) || !strings.Contains(output.String(), "ours: SHUTDOWN spindown\n") {
		t.Errorf("exits %+v, output %s", exits, output.String())
	}
}

func TestLambdaOptionsRefused(t *testing.T) {
	for name, o := range map[string]lambdaOptions{
		"too long": {timeout: 901 * time.Second},
		"negative": {timeout: -1},
	} {
		if env, err := startLambda(t.Context(), o); err == nil {
			env.close()
			t.Errorf("%s: no error", name)
		}
	}
}

// ---- Invoke ----

func TestServeInvoke(t *testing.T) {
	p := playLambda(t, lambdaOptions{functionName: "orders", version: "7"})
	server := httptest.NewServer(serveInvoke(p.env))
	defer server.Close()
	go p.serve(func(event played) (string, string, []string) {
		if event.body == `"fail"` {
			return "error", `{"errorMessage":"no"}`, nil
		}
		return "response",
			event.body + event.header.Get("Lambda-Runtime-Client-Context") +
				event.header.Get("Lambda-Runtime-Invoked-Function-Arn"), nil
	})
	arn := "arn:aws:lambda:us-east-1:123456789012:function:orders"
	large := strings.Repeat(" ", lambdaMaxRequest)
	for name, row := range map[string]struct {
		function, body string
		header         []string
		status         int
		want           string
		errType        string // X-Amzn-Errortype
		failed         string // X-Amz-Function-Error
	}{
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
		"dry run": {
			function: "orders", body: `1`, header: []string{"X-Amz-Invocation-Type", "DryRun"}, status: 204},
		"unknown type": {
			function: "orders", body: `1`, header: []string{"X-Amz-Invocation-Type", "Later"}, status: 400,
			errType: "InvalidParameterValueException"},
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
	} {
		t.Run(name, func(t *testing.T) {
			url := server.URL + "/2015-03-31/functions/" + row.function
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
	got := p.call(
		"POST", server.URL+"/2015-03-31/functions/orders/invocations", strings.NewReader(`"later"`),
		"X-Amz-Invocation-Type", "Event")
	if got.status != 202 || got.body != "" {
		t.Errorf("async: %+v", got)
	}
	if _, err := p.env.waitFor(t.Context(), 0, func(ev lambdaEvent) bool {
		return ev.name == "answer" && ev.requestID == got.header.Get("X-Amzn-Requestid")
	}); err != nil {
		t.Error(err)
	}
}

func TestServeInvokeStreams(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	server := httptest.NewServer(serveInvoke(p.env))
	defer server.Close()
	body, send := io.Pipe()
	trailer := http.Header{lambdaErrorTypeHeader: nil, lambdaErrorBodyHeader: nil}
	go func() {
		event := p.next()
		post, _ := http.NewRequest(
			"POST", "http://"+p.env.addr+"/2018-06-01/runtime/invocation/"+event.id()+"/response", body)
		post.Header.Set(lambdaModeHeader, "streaming")
		post.Header.Set("Content-Type", "text/plain")
		post.Trailer = trailer
		p.do(post)
	}()
	go io.WriteString(send, "one\n")
	response, err := http.Post(
		server.URL+"/2015-03-31/functions/function/invocations", "", strings.NewReader("1"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	if line, _ := lines.ReadString('\n'); line != "one\n" ||
		response.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("first line %q, header %v", line, response.Header)
	}
	_, _ = io.WriteString(send, "two\n") // only now
	trailer.Set(lambdaErrorTypeHeader, "Function.Broke")
	trailer.Set(lambdaErrorBodyHeader, "e30=")
	send.Close()
	if rest, err := io.ReadAll(lines); string(rest) != "two\n" || err != nil {
		t.Errorf("rest %q, %v", rest, err)
	}
	if response.Trailer.Get("X-Amz-Function-Error") != "Unhandled" ||
		response.Trailer.Get(lambdaErrorTypeHeader) != "Function.Broke" ||
		response.Trailer.Get(lambdaErrorBodyHeader) != "e30=" {
		t.Errorf("trailer %v", response.Trailer)
	}
}

// One invocation at a time, the others wait; each gets its own answer, once.
func TestLambdaManyInvocations(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	go p.serve(func(event played) (string, string, []string) { return "response", event.body + "!", nil })
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 50 {
				id := fmt.Sprintf("%d-%d", worker, i)
				result, err := p.env.invoke(t.Context(), invokeRequest{requestID: id, payload: []byte(id)})
				if attempts := p.env.completions(id); err != nil || string(result.payload) != id+"!" ||
					len(attempts) != 1 || attempts[0].status != 202 {
					t.Errorf("%s: %q, %v, completions %+v", id, result.payload, err, attempts)
				}
			}
		})
	}
	wg.Wait()
	running := ""
	for _, ev := range p.env.events() {
		switch {
		case ev.name == "invoke start" && running != "":
			t.Errorf("%s began before %s had ended", ev.requestID, running)
		case ev.name == "invoke start":
			running = ev.requestID
		case ev.name == "invoke end":
			running = ""
		}
	}
}

// A caller that gives up does not stop the function.
func TestLambdaInvokeCancelled(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := p.env.invoke(ctx, invokeRequest{requestID: "now"})
		gone <- err
	}()
	p.next()
	cancel()
	if err := <-gone; err == nil {
		t.Error("no error")
	}
	p.want(p.respond("now", "fine"), 202, "")
	p.holdNext()
	p.await("invoke end", "")
}

// ---- a runtime and an extension of plain HTTP calls ----

type lambdaPlayer struct {
	t      *testing.T
	env    *lambdaEnv
	client *http.Client
	seen   map[string]int
}

// played is the answer to a call; status 0 when the connection broke.
type played struct {
	status int
	header http.Header
	body   string
}

func (a played) id() string { return a.header.Get("Lambda-Runtime-Aws-Request-Id") }

func startTestLambda(t *testing.T, o lambdaOptions) *lambdaEnv {
	t.Helper()
	env, err := startLambda(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.close() })
	return env
}

// playLambda starts an environment without processes.
func playLambda(t *testing.T, o lambdaOptions) *lambdaPlayer {
	t.Helper()
	o.timeout, o.initTimeout = lambdaMaxTimeout, cmp.Or(o.initTimeout, time.Hour)
	if o.shutdownTimeout == 0 {
		o.shutdownTimeout = 50 * time.Millisecond // nobody fetches SHUTDOWN
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &lambdaPlayer{
		t: t, env: startTestLambda(t, o), client: &http.Client{Transport: transport}, seen: map[string]int{}}
}

func (p *lambdaPlayer) do(req *http.Request) played {
	response, err := p.client.Do(req)
	if err != nil {
		return played{body: err.Error()}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return played{body: err.Error()}
	}
	return played{response.StatusCode, response.Header, string(body)}
}

// call takes a path of the Runtime API, or a whole URL, and headers as names and values in turn.
func (p *lambdaPlayer) call(method, url string, body io.Reader, header ...string) played {
	if strings.HasPrefix(url, "/") {
		url = "http://" + p.env.addr + url
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	return p.do(req)
}

func (p *lambdaPlayer) get(path string, header ...string) played {
	return p.call("GET", path, nil, header...)
}

func (p *lambdaPlayer) post(path, body string, header ...string) played {
	return p.call("POST", path, strings.NewReader(body), header...)
}

func (p *lambdaPlayer) next() played { return p.get("/2018-06-01/runtime/invocation/next") }

func (p *lambdaPlayer) respond(id, body string, header ...string) played {
	return p.post("/2018-06-01/runtime/invocation/"+id+"/response", body, header...)
}

// holdNext calls next without waiting for the event.
func (p *lambdaPlayer) holdNext() <-chan played {
	return p.hold(func() played { return p.next() })
}

func (p *lambdaPlayer) holdExtensionNext(id string) <-chan played {
	return p.hold(func() played {
		return p.get("/2020-01-01/extension/event/next", lambdaExtensionHeader, id)
	})
}

func (p *lambdaPlayer) hold(call func() played) <-chan played {
	answer := make(chan played, 1)
	go func() { answer <- call() }()
	return answer
}

// serve is a whole runtime: handle gives the call, the body and headers of the answer.
func (p *lambdaPlayer) serve(handle func(played) (call, body string, header []string)) {
	for event := p.next(); event.status == 200; event = p.next() {
		call, body, header := handle(event)
		p.post("/2018-06-01/runtime/invocation/"+event.id()+"/"+call, body, header...)
	}
}

func (p *lambdaPlayer) register(name string, events ...string) string {
	p.t.Helper()
	body, _ := json.Marshal(map[string][]string{"events": events})
	got := p.post("/2020-01-01/extension/register", string(body), "Lambda-Extension-Name", name)
	p.want(got, 200, "")
	return got.header.Get(lambdaExtensionHeader)
}

func (p *lambdaPlayer) invoke(req invokeRequest) <-chan invokeResult {
	result := make(chan invokeResult, 1)
	go func() {
		r, err := p.env.invoke(context.Background(), req) // close ends it
		if err != nil {
			r.functionError = err.Error()
		}
		result <- r
	}()
	return result
}

// want checks status and errorType; an errorType comes with a message, in JSON that ends in a newline.
func (p *lambdaPlayer) want(got played, status int, errorType string) {
	p.t.Helper()
	var body struct{ ErrorType, ErrorMessage string }
	_ = json.Unmarshal([]byte(got.body), &body)
	if got.status != status || body.ErrorType != errorType {
		p.t.Fatalf("got %d %q, want %d %s", got.status, got.body, status, errorType)
	}
	if errorType != "" &&
		(body.ErrorMessage == "" || !strings.HasSuffix(got.body, "\n") ||
			got.header.Get("Content-Type") != "application/json") {
		p.t.Errorf("got %q as %s", got.body, got.header.Get("Content-Type"))
	}
}

// await waits for the next event of a name that this player has not awaited yet.
func (p *lambdaPlayer) await(name, who string) lambdaEvent {
	p.t.Helper()
	ev, err := p.env.waitFor(p.t.Context(), p.seen[name+who], func(ev lambdaEvent) bool {
		return ev.name == name && ev.who == who
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.seen[name+who] = ev.seq
	return ev
}

type chanWriter chan string

func (c chanWriter) Write(b []byte) (int, error) {
	c <- string(b)
	return len(b), nil
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// order checks that want comes in this order, with anything between.
func order(t *testing.T, got []string, want ...string) {
	t.Helper()
	rest := got
	for _, name := range want {
		i := slices.Index(rest, name)
		if i < 0 {
			t.Fatalf("no %q in its place\ngot  %q\nwant %q", name, got, want)
		}
		rest = rest[i+1:]
	}
}

// ---- processes for the tests: this test binary, as TestLambdaHelperProcess ----

func lambdaHelper() []string {
	return []string{os.Args[0], "-test.run=^TestLambdaHelperProcess$"}
}

// launchLambda starts an environment whose runtime is the helper.
func launchLambda(t *testing.T, o lambdaOptions) *lambdaEnv {
	t.Helper()
	if o.environment == nil {
		o.environment = map[string]string{}
	}
	o.environment["LAMBDA_HELPER"] = "1"
	o.environment["GORACE"] = "atexit_sleep_ms=0" // else each exit takes a second under -race
	if !o.osOnly {
		o.runtime = lambdaHelper()
	}
	o.timeout, o.initTimeout = lambdaMaxTimeout, time.Hour
	if o.shutdownTimeout == 0 {
		o.shutdownTimeout = time.Hour // everyone exits by itself
	}
	return startTestLambda(t, o)
}

func invokeLambda(t *testing.T, env *lambdaEnv, do string) invokeResult {
	t.Helper()
	result, err := env.invoke(t.Context(), invokeRequest{payload: []byte(do)})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// lambdaLayer is a layer directory with helpers as extensions.
func lambdaLayer(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "extensions", "ignored-directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		writeScript(
			t, filepath.Join(dir, "extensions", name),
			"#!/bin/sh\nLAMBDA_HELPER_NAME=${0##*/} exec "+strings.Join(lambdaHelper(), " ")+"\n", 0o755)
	}
	return dir
}

// writeScript holds back forks meanwhile: a child that inherited the open file would make the script "text
// file busy".
// https://go.dev/issue/22315
func writeScript(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// waitStopped returns when the kernel says that all of the environment's processes are stopped.
func waitStopped(t *testing.T, env *lambdaEnv) {
	t.Helper()
	for _, p := range env.current().processes {
		var status syscall.WaitStatus
		for !status.Stopped() {
			if _, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil &&
				err != syscall.EINTR {
				t.Fatal(err)
			}
		}
	}
}

func variable(environ, name string) string {
	for line := range strings.Lines(environ) {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// TestLambdaHelperProcess is no test: in a process of the emulator it is the runtime or an extension.
func TestLambdaHelperProcess(t *testing.T) {
	if os.Getenv("LAMBDA_HELPER") == "" {
		t.Skip("only as a process of the Lambda emulator")
	}
	if name := os.Getenv("LAMBDA_HELPER_NAME"); name != "" {
		os.Exit(helperExtension(name))
	}
	os.Exit(helperRuntime())
}

func helperRuntime() int {
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go func() {
		<-terminate
		fmt.Println("runtime: SIGTERM")
		os.Exit(0)
	}()
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		response, err := http.Get(base + "next")
		if err != nil {
			return 9
		}
		event, _ := io.ReadAll(response.Body)
		answer := "did " + string(event)
		switch do := string(event); {
		case do == "env":
			answer = strings.Join(os.Environ(), "\n")
		case do == "hang":
			helperBlock()
		case do == "child": // that outlives it, with the output open
			child := exec.Command("tail", "-f", "/dev/null")
			child.Stdout, child.Stderr = os.Stdout, os.Stderr
			if child.Start() != nil {
				return 8
			}
		case strings.HasPrefix(do, "exit "):
			code, _ := strconv.Atoi(do[5:])
			os.Exit(code)
		}
		posted, err := http.Post(
			base+response.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "",
			strings.NewReader(answer))
		if err != nil {
			return 9
		}
		posted.Body.Close()
	}
}

func helperExtension(name string) int {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2020-01-01/extension/"
	call := func(method, path, body string, header ...string) (*http.Response, []byte) {
		req, _ := http.NewRequest(method, base+path, strings.NewReader(body))
		req.Header.Set(header[0], header[1])
		response, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println(name+":", err)
			os.Exit(9)
		}
		defer response.Body.Close()
		answer, _ := io.ReadAll(response.Body)
		return response, answer
	}
	for _, v := range []string{"GREETING", "_HANDLER", "LAMBDA_TASK_ROOT", "AWS_LAMBDA_LOG_GROUP_NAME"} {
		fmt.Printf("%s: %s=%s\n", name, v, os.Getenv(v))
	}
	registered, _ := call(
		"POST", "register", `{"events":["INVOKE","SHUTDOWN"]}`, "Lambda-Extension-Name", name)
	for {
		_, body := call(
			"GET", "event/next", "", lambdaExtensionHeader, registered.Header.Get(lambdaExtensionHeader))
		var event lambdaExtensionEvent
		_ = json.Unmarshal(body, &event)
		if event.EventType == "SHUTDOWN" {
			fmt.Printf("%s: SHUTDOWN %s\n", name, event.ShutdownReason)
			if os.Getenv("LAMBDA_HELPER_STUBBORN") != "" {
				helperBlock()
			}
			return 0
		}
		if event.RequestID == "crash" {
			return 0
		}
	}
}

func helperBlock() {
	never := make(chan os.Signal, 1)
	signal.Notify(never, syscall.SIGUSR1)
	<-never
}
