//go:build !layer

package main

// fake_lambda_test.go plays a runtime, and extensions if need be, in process against the emulated Lambda.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// ---- the Runtime API, played in process ----

func TestLambdaNextGivesTheEventAndItsContext(t *testing.T) {
	p := playLambda(t, lambdaOptions{functionName: "orders", region: "eu-west-1", version: "7"})
	p.invoke(invokeRequest{
		payload:         []byte(`{"n":1.0}`),
		requestID:       "req-1",
		qualifier:       "live",
		traceID:         "Root=1-2-3",
		clientContext:   `{"a":1}`,
		cognitoIdentity: `{"cognitoIdentityId":"x"}`,
		tenantID:        "blue",
	})
	before := time.Now()
	event := p.next()
	if event.body != `{"n":1.0}` {
		t.Errorf("event %q", event.body)
	}
	want := map[string]string{
		"Lambda-Runtime-Aws-Request-Id":       "req-1",
		"Lambda-Runtime-Trace-Id":             "Root=1-2-3",
		"Content-Type":                        "application/json",
		"Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:123456789012:function:orders:live",
		"Lambda-Runtime-Client-Context":       `{"a":1}`,
		"Lambda-Runtime-Cognito-Identity":     `{"cognitoIdentityId":"x"}`,
		"Lambda-Runtime-Aws-Tenant-Id":        "blue",
	}
	for name, value := range want {
		got := event.header.Get(name)
		if got != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
	deadline, err := strconv.ParseInt(event.header.Get("Lambda-Runtime-Deadline-Ms"), 10, 64)
	left := time.UnixMilli(deadline).Sub(before)
	if err != nil || left <= 0 || left > lambdaMaxTimeout+time.Minute {
		t.Errorf("deadline %q leaves %v", event.header.Get("Lambda-Runtime-Deadline-Ms"), left)
	}
}

func TestLambdaResponseIsTheResult(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	invoked := p.invoke(invokeRequest{requestID: "req-1"})
	attempt := p.next().header.Get(lambdaAttemptHeader)
	response := p.respond("req-1", "fine", "Content-Type", "text/x", lambdaAttemptHeader, attempt)
	p.want(response, 202, "")
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
		v, ok := event.header["Lambda-Runtime-"+name]
		if ok {
			t.Errorf("%s: %q", name, v)
		}
	}
}

func TestLambdaGivesATraceIDToEachInvocation(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	p.invoke(invokeRequest{})
	id := p.next().header.Get("Lambda-Runtime-Trace-Id")
	if !strings.HasPrefix(id, "Root=1-") {
		t.Errorf("trace ID %q", id)
	}
}

// Each row posts to an invocation that is running, as request ID "now". In every case the runtime goes on.
func TestLambdaRefusesWrongAnswers(t *testing.T) {
	t.Parallel()
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
			p.holdNext()
			p.await("invoke end", "")
		})
	}
}

func TestLambdaKnowsNoInvocationBeforeNext(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	p.want(p.respond("now", ""), 400, "InvalidRequestID")
}

func TestLambdaRestoresNothingWithoutSnapStart(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	p.want(p.get("/2018-06-01/runtime/restore/next"), 404, "")
}

func TestLambdaAnswersPings(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	p.want(p.get("/2018-06-01/ping"), 200, "")
}

func TestLambdaNextGivesARunningEventAgain(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	p.invoke(invokeRequest{requestID: "now", payload: []byte("event")})
	first := p.next()
	again := p.next()
	if again.body != "event" ||
		again.header.Get(lambdaAttemptHeader) != first.header.Get(lambdaAttemptHeader) {
		t.Errorf("second next: %+v", again)
	}
	p.want(p.post("/2018-06-01/runtime/init/error", ""), 403, "InvalidStateTransition")
}

// While an answer is under way, no other call of the runtime is allowed.
func TestLambdaTakesOneAnswer(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	p.want(p.respond("now", ""), 400, "InvalidRequestID")
	invoked := p.invoke(invokeRequest{requestID: "now"})
	p.next()
	body, send := io.Pipe()
	answered := p.hold(func() played {
		return p.call("POST", "/2018-06-01/runtime/invocation/now/response", body)
	})
	_, _ = send.Write([]byte("sl"))
	p.await("answer begun", "runtime")
	p.want(p.respond("now", "second"), 403, "InvalidStateTransition")
	p.want(p.post("/2018-06-01/runtime/invocation/now/error", "{}"), 403, "InvalidStateTransition")
	p.want(p.get("/2018-06-01/runtime/invocation/next"), 403, "InvalidStateTransition")
	_, _ = send.Write([]byte("ow"))
	send.Close()
	p.want(<-answered, 202, "")
	result := <-invoked
	if string(result.payload) != "slow" {
		t.Errorf("result %+v", result)
	}
	p.want(p.respond("now", "late"), 400, "InvalidRequestID")
	var statuses []int
	for _, c := range p.env.completions("now") {
		statuses = append(statuses, c.status)
	}
	want := []int{400, 403, 403, 202, 400}
	if !slices.Equal(statuses, want) {
		t.Errorf("completions %v, want %v", statuses, want)
	}
}

func TestLambdaNormalisesErrorTypes(t *testing.T) {
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

func TestLambdaTruncatedResponseIsAnError(t *testing.T) {
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
	result := <-invoked
	if result.errorType != "Runtime.TruncatedResponse" {
		t.Errorf("result %+v", result)
	}
	p.holdNext()
	p.await("invoke end", "")
}

func TestLambdaStreamsOrBuffersResponses(t *testing.T) {
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
			answered := p.hold(func() played { return p.do(post) })
			for _, part := range []string{"one", "two"} {
				_, _ = io.WriteString(send, part)
				if row.streaming { // each part arrives before the next one is sent
					got := <-arrived
					if got != part {
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
			want := "onetwo"
			if row.streaming {
				want = ""
			}
			if string(result.payload) != want {
				t.Errorf("payload %q, want %q", result.payload, want)
			}
		})
	}
}

// A deadline in the middle of an answer breaks the runtime's connection off and takes the writer back.
func TestLambdaTimeoutBreaksOffAStream(t *testing.T) {
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
	got := <-answered
	if got.status != 0 {
		t.Errorf("the runtime got an answer: %+v", got)
	}
	c := p.env.completions("now")
	if len(c) != 1 || c[0].status != 0 {
		t.Errorf("completions %+v", c)
	}
}

func TestLambdaTimeoutResetsTheEnvironment(t *testing.T) {
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
	result = <-invoked
	if string(result.payload) != "fine" || result.init == 0 {
		t.Errorf("result %+v", result)
	}
}

func TestLambdaInitErrorIsTheAnswer(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	p.want(p.post("/2018-06-01/runtime/init/error", "first", lambdaErrorTypeHeader, "Runtime.NoHandler"), 202,
		"")
	err := p.env.ready(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Runtime.NoHandler") {
		t.Errorf("ready: %v", err)
	}
	invoked := p.invoke(invokeRequest{}) // repeats the init
	p.await("init start", "")
	p.want(p.post(
		"/2018-06-01/runtime/init/error", `{"errorMessage":"no handler"}`, lambdaErrorTypeHeader,
		"Runtime.NoHandler"), 202, "")
	result := <-invoked
	if string(result.payload) != `{"errorMessage":"no handler"}` ||
		result.errorType != "Runtime.NoHandler" {
		t.Errorf("result %+v", result)
	}
}

func TestLambdaRepliesWithInjectedFaults(t *testing.T) {
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
		"refused": {
			fault: lambdaFault{status: 403, errorType: "InvalidStateTransition"}, status: 403},
		"broken":           {fault: lambdaFault{status: 500}, status: 500},
		"dropped":          {fault: lambdaFault{drop: true}},
		"broken too late":  {fault: lambdaFault{status: 500, late: true}, status: 500},
		"dropped too late": {fault: lambdaFault{drop: true, late: true}},
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
			result := <-invoked
			if string(result.payload) != "fine" {
				t.Errorf("result %+v", result)
			}
			c := p.env.completions(name)
			if c[0].status != want || c[len(c)-1].status != 202 {
				t.Errorf("completions %+v", c)
			}
		})
	}
}

// ---- phases ----

// The runtime waits for external extensions; init and each phase wait for everyone's next; then comes the
// freeze.
func TestLambdaPhasesWaitForEveryNext(t *testing.T) {
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

func TestLambdaCloseFailsARunningInvocation(t *testing.T) {
	p := playLambda(t, lambdaOptions{external: []string{"ours"}, shutdownTimeout: time.Minute})
	id := p.register("ours", "SHUTDOWN")
	event := p.holdExtensionNext(id)
	invoked := p.invoke(invokeRequest{requestID: "now"})
	p.next()
	p.env.close()
	result := <-invoked
	if result.errorType != "Sandbox.Failure" {
		t.Errorf("result %+v", result)
	}
	got := <-event
	if !strings.Contains(got.body, `"shutdownReason":"spindown"`) {
		t.Errorf("event %+v", got)
	}
	_, err := p.env.invoke(t.Context(), invokeRequest{})
	if err != errLambdaClosed {
		t.Errorf("invoke after close: %v", err)
	}
	var stacks []byte
	for range 10_000 { // net/http's goroutines of closed connections may be on their last lines
		stacks = make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if !bytes.Contains(stacks, []byte("(*lambdaEnv)")) {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("goroutines left behind:\n%s", stacks)
}

// The others wait; each gets its own answer, once.
func TestLambdaRunsOneInvocationAtATime(t *testing.T) {
	t.Parallel()
	p := playLambda(t, lambdaOptions{})
	p.serve(func(event played) (string, string, []string) { return "response", event.body + "!", nil })
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 50 {
				id := fmt.Sprintf("%d-%d", worker, i)
				result, err := p.env.invoke(t.Context(), invokeRequest{requestID: id, payload: []byte(id)})
				attempts := p.env.completions(id)
				if err != nil || string(result.payload) != id+"!" ||
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

func TestLambdaCallerThatGivesUpDoesNotStopTheFunction(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	p.tasks.Go(func() {
		_, err := p.env.invoke(ctx, invokeRequest{requestID: "now"})
		gone <- err
	})
	p.next()
	cancel()
	err := <-gone
	if err == nil {
		t.Error("no error")
	}
	p.want(p.respond("now", "fine"), 202, "")
	p.holdNext()
	p.await("invoke end", "")
}

// ---- Managed Instances, SnapStart ----

func TestLambdaManagedInstancesRunInvocationsAtOnce(t *testing.T) {
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
		got := string((<-result).payload)
		if got != "to "+strconv.Itoa(i) {
			t.Errorf("invocation %d got %q", i, got)
		}
	}
}

func TestLambdaManagedInstancesGoOnAfterATimeout(t *testing.T) {
	p := playLambda(t, lambdaOptions{maxConcurrency: 2, external: []string{"ours"}})
	p.holdExtensionNext(p.register("ours", "SHUTDOWN"))
	first := p.invoke(invokeRequest{requestID: "first"}) // brings the init
	p.next()
	p.want(p.respond("first", "fine"), 202, "")
	<-first
	expire := make(chan struct{})
	slow := p.invoke(invokeRequest{requestID: "slow", expire: expire})
	p.next()
	close(expire)
	result := <-slow
	if result.errorType != "Sandbox.Timedout" {
		t.Errorf("result %+v", result)
	}
	p.want(p.respond("slow", "late"), 410, "InvokeTimeout")
	after := p.invoke(invokeRequest{requestID: "after"})
	p.next()
	p.want(p.respond("after", "fine"), 202, "")
	result = <-after
	if string(result.payload) != "fine" || result.init != 0 {
		t.Errorf("the timeout reset the environment: %+v", result)
	}
}

func TestLambdaSnapStartRestoresBeforeTheFirstInvocation(t *testing.T) {
	p := playLambda(t, lambdaOptions{snapStart: true})
	restored := p.hold(func() played { return p.get("/2018-06-01/runtime/restore/next") })
	p.await("init done", "")
	p.want(p.get("/2018-06-01/runtime/restore/next"), 403, "InvalidStateTransition")
	p.want(p.post("/2018-06-01/runtime/restore/error", ""), 403, "InvalidStateTransition")
	invoked := p.invoke(invokeRequest{requestID: "now"})
	got := <-restored
	if got.status != 200 || got.body != "" {
		t.Errorf("restore/next: %+v", got)
	}
	p.next()
	p.want(p.respond("now", "fine"), 202, "")
	result := <-invoked
	if result.restore == 0 || string(result.payload) != "fine" {
		t.Errorf("result %+v", result)
	}
}

func TestLambdaSnapStartGivesCredentialsByAnEndpoint(t *testing.T) {
	expires := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	p := playLambda(t, lambdaOptions{
		snapStart: true,
		credentials: lambdaCredentials{
			accessKeyID: "A", secretAccessKey: "B", sessionToken: "C", expiration: expires},
	})
	p.want(p.get(lambdaCredentialsPath, "Authorization", "x"), 404, "")
	p.env.setCredentials(
		lambdaCredentials{accessKeyID: "D", secretAccessKey: "E", sessionToken: "F", expiration: expires})
	got := p.get(lambdaCredentialsPath, "Authorization", p.env.token)
	want := `{"AccessKeyId":"D","Expiration":"2030-01-02T03:04:05Z","SecretAccessKey":"E","Token":"F"}` + "\n"
	if got.body != want {
		t.Errorf("credentials %s", got.body)
	}
}

func TestLambdaSnapStartGivesNoCredentialsInVariables(t *testing.T) {
	p := playLambda(t, lambdaOptions{snapStart: true})
	p.env.mu.Lock()
	variables := strings.Join(p.env.variables(true), "\n") + "\n"
	p.env.mu.Unlock()
	if !strings.Contains(variables, "AWS_CONTAINER_AUTHORIZATION_TOKEN="+p.env.token+"\n") ||
		strings.Contains(variables, "AWS_ACCESS_KEY_ID") ||
		!strings.Contains(variables, "AWS_LAMBDA_INITIALIZATION_TYPE=snap-start\n") ||
		strings.Contains(variables, "LOG_STREAM") {
		t.Errorf("variables %s", variables)
	}
}

func TestLambdaRestoreErrorIsTheAnswer(t *testing.T) {
	p := playLambda(t, lambdaOptions{snapStart: true})
	restored := p.hold(func() played { return p.get("/2018-06-01/runtime/restore/next") })
	p.await("init done", "")
	invoked := p.invoke(invokeRequest{})
	<-restored
	p.want(p.post(
		"/2018-06-01/runtime/restore/error", `{"errorMessage":"hook"}`, lambdaErrorTypeHeader,
		"Runtime.AfterRestore"), 202, "")
	result := <-invoked
	if result.errorType != "Runtime.AfterRestore" ||
		string(result.payload) != `{"errorMessage":"hook"}` {
		t.Errorf("result %+v", result)
	}
}

func TestLambdaRefusesTimeoutsOutOfRange(t *testing.T) {
	for name, o := range map[string]lambdaOptions{
		"too long": {timeout: 901 * time.Second},
		"negative": {timeout: -1},
	} {
		env, err := startLambda(t.Context(), o)
		if err == nil {
			env.close()
			t.Errorf("%s: no error", name)
		}
	}
}
