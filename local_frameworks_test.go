//go:build !layer

package main

// local_frameworks_test.go runs handlers made with other people's packages, as developers have them: their
// code is what counts on the client's details. The packages are those of testdata/frameworks/package.json,
// and `npm ci` in there fetches them. Node.js is the one on PATH.
//
// With RIC=DIRECTORY, AWS's own client runs the handlers, aws-lambda-ric as npm installs it there. The same
// tests pass, but that version 4 refuses express.cjs because its handler has a callback.

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// wantNode skips the test if node is older than that version.
func wantNode(t *testing.T, major, minor int) {
	t.Helper()
	needs(t, "node")
	gotMajor, gotMinor := nodeVersion()
	if gotMajor < major || gotMajor == major && gotMinor < minor {
		t.Skipf("Node.js %d.%d is older than %d.%d", gotMajor, gotMinor, major, minor)
	}
}

// frameworks returns the directory of the handlers. It skips the test if their packages are not there.
func frameworks(t *testing.T) (directory string) {
	t.Helper()
	needs(t, "node")
	directory = absolute(t, "testdata/frameworks")
	_, err := os.Stat(filepath.Join(directory, "node_modules"))
	if err != nil {
		unavailable(t, "node_modules in testdata/frameworks: run `npm ci` there")
	}
	return directory
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// newNode starts a local end whose handlers are in directory. A process of a handler gets all events of that
// handler, one after the other.
func newNode(t *testing.T, directory string) *localRig {
	t.Helper()
	c := code{directory: directory}
	if awsClient() != "" {
		// Version 3 wants the handler's name as an argument, which version 4 does not mind.
		script := `export AWS_EXECUTION_ENV=AWS_Lambda_nodejs22.x AWS_LAMBDA_LOG_GROUP_NAME=orders ` +
			`AWS_LAMBDA_LOG_STREAM_NAME=stream && exec node "$0" "$_HANDLER"`
		client := filepath.Join(awsClient(), "node_modules/.bin/aws-lambda-ric")
		c.command = []string{"sh", "-c", script, absolute(t, client)}
	}
	return newTestLocal(t, localOptions{code: c, maxProcesses: 1})
}

// run gives handler an event. It returns the answer and the context's request ID.
func (r *localRig) run(handler string, event []byte) (rep *reply, body, requestID string) {
	r.Helper()
	c := r.context()
	c.Handler = handler
	rep, body = r.reply(r.direct(event, c))
	return rep, body, c.RequestID
}

// integration is the content type of a stream whose beginning says status and headers.
const integration = "application/vnd.awslambda.http-integration-response"

// preludeEnd stands between such a beginning and the body.
const preludeEnd = "\x00\x00\x00\x00\x00\x00\x00\x00"

// handled is an event, and what its handler has to make of it.
type handled struct {
	name    string
	handler string
	event   []byte
	want    string // as JSON, with REQUEST for the request's ID and DATE for an HTTP header's
	body    string // of a stream, after want
	stream  bool
}

// httpDate is the text of a Date header.
var httpDate = regexp.MustCompile(`\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT`)

// answers runs the events in one local end, each handler in a process of its own.
func (r *localRig) answers(cases []handled) {
	r.Helper()
	outer := r.T
	for _, tt := range cases {
		outer.Run(tt.name, func(t *testing.T) { r.on(t).answer(tt) })
	}
}

func (r *localRig) answer(tt handled) {
	r.Helper()
	rep, text, requestID := r.run(tt.handler, tt.event)
	if rep.kind != "response" || rep.errorType != "" {
		r.Fatalf("the answer is %s %s: %s", rep.kind, rep.errorType, text)
	}
	if rep.streamed != tt.stream {
		r.Errorf("streamed: %t", rep.streamed)
	}
	if tt.stream {
		head, body, _ := strings.Cut(text, preludeEnd)
		if got := rep.headers["Content-Type"]; got != integration {
			r.Errorf("the content type is %q", got)
		}
		if body != tt.body {
			r.Errorf("the body is %q, want %q", body, tt.body)
		}
		text = head
	}
	want := strings.ReplaceAll(tt.want, "REQUEST", requestID)
	r.sameJSON(httpDate.ReplaceAllLiteralString(text, "DATE"), want)
}

// sameJSON wants two texts to be the same JSON.
func (r *localRig) sameJSON(got, want string) {
	r.Helper()
	var g, w any
	errGot := json.Unmarshal([]byte(got), &g)
	errWant := json.Unmarshal([]byte(want), &w)
	if errGot != nil || errWant != nil || !reflect.DeepEqual(g, w) {
		r.Errorf("the answer is\n%s\nwant\n%s", got, want)
	}
}

// httpRequest is what a client asks an API for.
type httpRequest struct {
	method      string
	path        string
	contentType string
	body        []byte
	base64      bool // body is not text
}

// httpEvent makes the event of a request: of an API of API Gateway's (rest: payload 1.0, http: 2.0) or of a
// function URL (url).
func httpEvent(t *testing.T, shape string, request httpRequest) []byte {
	t.Helper()
	template, err := os.ReadFile("testdata/frameworks/events/" + shape + ".json")
	if err != nil {
		t.Fatal(err)
	}
	body := "null"
	if request.body != nil {
		text := string(request.body)
		if request.base64 {
			text = base64.StdEncoding.EncodeToString(request.body)
		}
		body = string(mustJSON(text))
	}
	return []byte(strings.NewReplacer(
		"{METHOD}", request.method,
		"{PATH}", request.path,
		"{PROXY}", strings.TrimPrefix(request.path, "/"),
		"{TYPE}", cmp.Or(request.contentType, "text/plain"),
		`"{BODY}"`, body,
		`"{BASE64}"`, strconv.FormatBool(request.base64),
	).Replace(string(template)))
}

func get(path string) httpRequest { return httpRequest{method: "GET", path: path} }

func postJSON(path, body string) httpRequest {
	return httpRequest{method: "POST", path: path, contentType: "application/json", body: []byte(body)}
}

func TestMiddyHandlersAnswer(t *testing.T) {
	t.Parallel()
	r := newNode(t, frameworks(t))
	r.answers([]handled{
		{
			name:    "a parsed body",
			handler: "middy.handler",
			event:   httpEvent(t, "rest", postJSON("/orders", `{"item":"tea"}`)),
			want: `{"statusCode":201,"headers":{"content-type":"application/json",` +
				`"x-request-id":"REQUEST"},"body":"{\"item\":\"tea\",\"aborted\":false}"}`,
		},
		{
			name:    "a body that is not JSON",
			handler: "middy.handler",
			event:   httpEvent(t, "rest", postJSON("/orders", `{"item":`)),
			want: `{"statusCode":422,"headers":{"Content-Type":"text/plain"},` +
				`"body":"Invalid or malformed JSON was provided"}`,
		},
		{
			name:    "an error for the client",
			handler: "middy.handler",
			event:   httpEvent(t, "http", postJSON("/orders", `{"item":"unknown"}`)),
			want:    `{"statusCode":404,"headers":{"Content-Type":"text/plain"},"body":"no such item"}`,
		},
		{
			name:    "an error that is not for the client",
			handler: "middy.handler",
			event:   httpEvent(t, "url", postJSON("/orders", `{"item":"broken"}`)),
			want:    `{"statusCode":500,"headers":{"Content-Type":"text/plain"},"body":"sorry"}`,
		},
		{
			name:    "a stream",
			handler: "middy.stream",
			event:   httpEvent(t, "url", get("/orders")),
			want:    `{"statusCode":200,"headers":{"content-type":"text/csv"}}`,
			body:    "id,item\n1,tea\n",
			stream:  true,
		},
	})
}

// wantHonoOrder is the body that hono.mjs answers to a request for an order, as a JSON string.
const wantHonoOrder = `"{\"id\":\"7\",\"colours\":[\"red\",\"green\"],\"agent\":\"curl/8.5.0\",` +
	`\"requestID\":\"REQUEST\"}"`

// wantOrder is what express.cjs and fastify.mjs answer.
const wantOrder = `"{\"id\":\"7\",\"colours\":[\"red\",\"green\"],\"requestID\":\"REQUEST\"}"`

func TestHonoHandlersAnswer(t *testing.T) {
	t.Parallel()
	r := newNode(t, frameworks(t))
	r.answers([]handled{
		{
			name:    "a REST API's request",
			handler: "hono.handler",
			event:   httpEvent(t, "rest", get("/orders/7")),
			want: `{"statusCode":200,"isBase64Encoded":false,` +
				`"multiValueHeaders":{"content-type":["application/json"],` +
				`"set-cookie":["first=1; Path=/","second=2; Path=/"]},"body":` + wantHonoOrder + `}`,
		},
		{
			name:    "an HTTP API's request",
			handler: "hono.handler",
			event:   httpEvent(t, "http", get("/orders/7")),
			want: `{"statusCode":200,"isBase64Encoded":false,"headers":{"content-type":"application/json"},` +
				`"cookies":["first=1; Path=/","second=2; Path=/"],"body":` + wantHonoOrder + `}`,
		},
		{
			name:    "a function URL's request",
			handler: "hono.handler",
			event:   httpEvent(t, "url", get("/orders/7")),
			want: `{"statusCode":200,"isBase64Encoded":false,"headers":{"content-type":"application/json"},` +
				`"cookies":["first=1; Path=/","second=2; Path=/"],"body":` + wantHonoOrder + `}`,
		},
		{
			name:    "bytes",
			handler: "hono.handler",
			event:   httpEvent(t, "http", picture("/echo")),
			want: `{"statusCode":200,"isBase64Encoded":true,` +
				`"headers":{"content-type":"image/png"},"body":"iVBORwD/"}`,
		},
		{
			name:    "an error",
			handler: "hono.handler",
			event:   httpEvent(t, "http", get("/broken")),
			want: `{"statusCode":500,"isBase64Encoded":false,` +
				`"headers":{"content-type":"text/plain; charset=UTF-8"},"body":"the database is gone"}`,
		},
		{
			name:    "nothing there",
			handler: "hono.handler",
			event:   httpEvent(t, "rest", get("/nothing")),
			want: `{"statusCode":404,"isBase64Encoded":false,` +
				`"multiValueHeaders":{"content-type":["text/plain; charset=UTF-8"]},"body":"404 Not Found"}`,
		},
		{
			name:    "a stream",
			handler: "hono.stream",
			event:   httpEvent(t, "url", get("/ticks")),
			want: `{"statusCode":200,"headers":{` +
				`"content-type":"text/plain; charset=UTF-8",` +
				`"transfer-encoding":"chunked","x-content-type-options":"nosniff","x-ticks":"3"},` +
				`"cookies":[]}`,
			body:   "one two drei ü",
			stream: true,
		},
		{
			name:    "a stream of bytes",
			handler: "hono.stream",
			event:   httpEvent(t, "url", picture("/echo")),
			want:    `{"statusCode":200,"headers":{"content-type":"image/png"},"cookies":[]}`,
			body:    "\x89PNG\x00\xff",
			stream:  true,
		},
	})
}

func picture(path string) httpRequest {
	return httpRequest{
		method:      "POST",
		path:        path,
		contentType: "image/png",
		body:        []byte("\x89PNG\x00\xff"),
		base64:      true,
	}
}

func TestExpressHandlersAnswer(t *testing.T) {
	t.Parallel()
	needAWSVersion(t, "3") // the adapter's handler has a callback, which version 4 refuses
	r := newNode(t, frameworks(t))
	r.answers([]handled{
		{
			name:    "a REST API's request",
			handler: "express.handler",
			event:   httpEvent(t, "rest", get("/orders/7")),
			want: `{"statusCode":200,"isBase64Encoded":false,"multiValueHeaders":{` +
				`"content-type":["application/json; charset=utf-8"],"content-length":["87"],` +
				`"set-cookie":["first=1; Path=/","second=2; Path=/"]},"body":` + wantOrder + `}`,
		},
		{
			name:    "an HTTP API's request",
			handler: "express.handler",
			event:   httpEvent(t, "http", get("/orders/7")),
			want: `{"statusCode":200,"isBase64Encoded":false,` +
				`"headers":{"content-type":"application/json; charset=utf-8","content-length":"87"},` +
				`"cookies":["first=1; Path=/","second=2; Path=/"],"body":` + wantOrder + `}`,
		},
		{
			name:    "a body",
			handler: "express.handler",
			event:   httpEvent(t, "url", postJSON("/orders", `{"item":"tea"}`)),
			want: `{"statusCode":201,"isBase64Encoded":false,` +
				`"headers":{"content-type":"application/json; charset=utf-8","content-length":"17"},` +
				`"body":"{\"created\":\"tea\"}"}`,
		},
		{
			name:    "a body that is not JSON",
			handler: "express.handler",
			event:   httpEvent(t, "http", postJSON("/orders", `{"item":`)),
			want: `{"statusCode":400,"isBase64Encoded":false,` +
				`"headers":{"content-type":"application/json; charset=utf-8",` +
				`"content-length":"40"},` +
				`"body":"{\"error\":\"Unexpected end of JSON input\"}"}`,
		},
		{
			name:    "bytes",
			handler: "express.handler",
			event:   httpEvent(t, "rest", get("/picture")),
			want: `{"statusCode":200,"isBase64Encoded":true,` +
				`"multiValueHeaders":{"content-type":["image/png"],"content-length":["4"]},` +
				`"body":"iVAA/w=="}`,
		},
		{
			name:    "an error",
			handler: "express.handler",
			event:   httpEvent(t, "http", get("/broken")),
			want: `{"statusCode":500,"isBase64Encoded":false,` +
				`"headers":{"content-type":"application/json; charset=utf-8","content-length":"32"},` +
				`"body":"{\"error\":\"the database is gone\"}"}`,
		},
	})
}

func TestFastifyHandlersAnswer(t *testing.T) {
	t.Parallel()
	directory := frameworks(t)
	wantNode(t, 20, 19) // what Fastify is made of needs it
	r := newNode(t, directory)
	r.answers([]handled{
		{
			name:    "a REST API's request",
			handler: "fastify.handler",
			event:   httpEvent(t, "rest", get("/orders/7")),
			want: `{"statusCode":200,"isBase64Encoded":false,` +
				`"headers":{"content-type":"application/json; charset=utf-8","content-length":"87",` +
				`"date":"DATE","connection":"keep-alive"},"body":` + wantOrder + `}`,
		},
		{
			name:    "an HTTP API's request",
			handler: "fastify.handler",
			event:   httpEvent(t, "http", get("/orders/7")),
			want: `{"statusCode":200,"isBase64Encoded":false,` +
				`"headers":{"content-type":"application/json; charset=utf-8","content-length":"87",` +
				`"date":"DATE","connection":"keep-alive"},"body":` + wantOrder + `}`,
		},
		{
			name:    "a body",
			handler: "fastify.handler",
			event:   httpEvent(t, "url", postJSON("/orders", `{"item":"tea"}`)),
			want: `{"statusCode":201,"isBase64Encoded":false,` +
				`"headers":{"content-type":"application/json; charset=utf-8","content-length":"17",` +
				`"date":"DATE","connection":"keep-alive"},"body":"{\"created\":\"tea\"}"}`,
		},
		{
			name:    "a body that is not valid",
			handler: "fastify.handler",
			event:   httpEvent(t, "http", postJSON("/orders", `{}`)),
			want: `{"statusCode":400,"isBase64Encoded":false,` +
				`"headers":{"content-type":"application/json; charset=utf-8","content-length":"120",` +
				`"date":"DATE","connection":"keep-alive"},"body":"{\"statusCode\":400,` +
				`\"code\":\"FST_ERR_VALIDATION\",\"error\":\"Bad Request\",` +
				`\"message\":\"body must have required property 'item'\"}"}`,
		},
		{
			name:    "a stream",
			handler: "fastify.stream",
			event:   httpEvent(t, "url", get("/ticks")),
			want: `{"statusCode":200,"headers":{"content-type":"text/plain","x-ticks":"3","date":"DATE",` +
				`"connection":"keep-alive","transfer-encoding":"chunked"}}`,
			body:   "one two drei ü",
			stream: true,
		},
	})
}

// powertools is what powertools.mjs has left of two invocations: one that went well, and one that failed.
type powertools struct {
	*localRig
	requestIDs []string
	printed    []map[string]any // lines of JSON
	segments   []map[string]any // what X-Ray's daemon got
}

// The trace that both invocations belong to.
const (
	traceRoot   = "1-5759e988-bd862e3fe1be46a994272793"
	traceParent = "53995c3f42cd8ad8"
)

func newPowertools(t *testing.T) *powertools {
	t.Helper()
	daemon, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { daemon.Close() })
	t.Setenv("POWERTOOLS_SERVICE_NAME", "shop")
	t.Setenv("POWERTOOLS_METRICS_NAMESPACE", "sales")
	t.Setenv("AWS_XRAY_DAEMON_ADDRESS", daemon.LocalAddr().String())
	p := &powertools{localRig: newNode(t, frameworks(t))}
	p.order(daemon, "tea")
	p.order(daemon, "broken")
	p.out.waitTimes(p.localRig, `"ordersCreated":1}`+"\n", 2) // the last on standard output
	p.out.wait(p.localRig, `"}}`+"\n")                        // the end of the error
	for line := range strings.Lines(p.out.String()) {
		var object map[string]any
		if strings.HasPrefix(line, "{") {
			p.unmarshal(line, &object)
			p.printed = append(p.printed, object)
		}
	}
	return p
}

// order gives the handler an event and takes what comes of it, but for what is printed.
func (p *powertools) order(daemon net.PacketConn, item string) {
	p.Helper()
	c := p.context()
	c.Handler = "powertools.handler"
	c.TraceID = "Root=" + traceRoot + ";Parent=" + traceParent + ";Sampled=1"
	rep, body := p.reply(p.direct(map[string]string{"item": item}, c))
	want := `{"traced":true,"root":"` + traceRoot + `"}`
	switch {
	case item == "broken" && rep.errorType == "":
		p.Fatalf("the order of %s did not fail: %s", item, body)
	case item != "broken" && body != want:
		p.Fatalf("the answer is %s, want %s", body, want)
	}
	p.requestIDs = append(p.requestIDs, c.RequestID)
	p.segments = append(p.segments, p.segment(daemon))
}

// segment reads one datagram of X-Ray's: a line that says so, and the segment.
func (p *powertools) segment(daemon net.PacketConn) map[string]any {
	p.Helper()
	stop := context.AfterFunc(p.ctx, func() { daemon.Close() })
	defer stop()
	datagram := make([]byte, 64<<10)
	n, _, err := daemon.ReadFrom(datagram)
	if err != nil {
		p.Fatal(err)
	}
	_, segment, _ := strings.Cut(string(datagram[:n]), "\n")
	var object map[string]any
	p.unmarshal(segment, &object)
	return object
}

func (p *powertools) unmarshal(text string, into any) {
	p.Helper()
	err := json.Unmarshal([]byte(text), into)
	if err != nil {
		p.Fatalf("%v: %s", err, text)
	}
}

// with returns the printed objects that have such a field.
func (p *powertools) with(field string) []map[string]any {
	var found []map[string]any
	for _, object := range p.printed {
		if object[field] != nil {
			found = append(found, object)
		}
	}
	return found
}

// wantFields wants an object to have fields of these values.
func (p *powertools) wantFields(object, want map[string]any) {
	p.Helper()
	for name, value := range want {
		if !reflect.DeepEqual(object[name], value) {
			p.Errorf("%s is %v, want %v, in %v", name, object[name], value, object)
		}
	}
}

func TestPowertoolsTellsOfInvocations(t *testing.T) {
	p := newPowertools(t)
	p.Run("logs", func(t *testing.T) { p.on(t).wantLogs() })
	p.Run("metrics", func(t *testing.T) { p.on(t).wantMetrics() })
	p.Run("traces", func(t *testing.T) { p.on(t).wantTraces() })
}

// on returns p for a subtest, which fails for itself.
func (p *powertools) on(t *testing.T) *powertools {
	c := *p
	c.localRig = p.localRig.on(t)
	return &c
}

// Errors go to standard error, so they may come before or after the others.
func (p *powertools) wantLogs() {
	var infos, errors []map[string]any
	for _, log := range p.with("level") {
		if log["level"] == "ERROR" {
			errors = append(errors, log)
		} else {
			infos = append(infos, log)
		}
	}
	if len(infos) != 2 || len(errors) != 1 {
		p.Fatalf("%d infos, %d errors: %v", len(infos), len(errors), p.printed)
	}
	p.wantLog(infos[0], 0, map[string]any{"level": "INFO", "message": "order created", "item": "tea"})
	p.wantLog(infos[1], 1, map[string]any{"level": "INFO", "message": "order created", "item": "broken"})
	p.wantLog(errors[0], 1, map[string]any{"level": "ERROR", "message": "order failed"})
}

// wantLog wants a log line to be one of the invocation with this number, with these fields too.
func (p *powertools) wantLog(log map[string]any, invocation int, fields map[string]any) {
	p.Helper()
	p.wantFields(log, fields)
	p.wantFields(log, map[string]any{
		"cold_start":           invocation == 0,
		"function_arn":         "arn:aws:lambda:eu-west-1:123456789012:function:orders",
		"function_memory_size": "256",
		"function_name":        "orders",
		"function_request_id":  p.requestIDs[invocation],
		"service":              "shop",
		"xray_trace_id":        traceRoot,
	})
}

// They are lines in CloudWatch's embedded metric format.
func (p *powertools) wantMetrics() {
	cold := p.with("ColdStart")
	if len(cold) != 1 {
		p.Fatalf("%d cold starts: %v", len(cold), cold)
	}
	p.wantFields(cold[0], map[string]any{"ColdStart": 1.0, "service": "shop", "function_name": "orders"})
	created := p.with("ordersCreated")
	if len(created) != 2 {
		p.Fatalf("%d metrics: %v", len(created), created)
	}
	for _, metric := range created {
		p.wantFields(metric, map[string]any{"ordersCreated": 1.0, "service": "shop"})
		directive, _ := json.Marshal(metric["_aws"].(map[string]any)["CloudWatchMetrics"])
		p.sameJSON(string(directive), `[{"Namespace":"sales","Dimensions":[["service"]],`+
			`"Metrics":[{"Name":"ordersCreated","Unit":"Count"}]}]`)
	}
}

func (p *powertools) wantTraces() {
	for i, segment := range p.segments {
		p.wantFields(segment, map[string]any{
			"name":      "## powertools.handler",
			"type":      "subsegment",
			"trace_id":  traceRoot,
			"parent_id": traceParent,
			"annotations": map[string]any{
				"ColdStart": i == 0,
				"Service":   "shop",
				"item":      []string{"tea", "broken"}[i],
			},
		})
	}
	if p.segments[0]["fault"] != nil || p.segments[1]["fault"] != true {
		p.Errorf("faults: %v, %v", p.segments[0]["fault"], p.segments[1]["fault"])
	}
}

// newTable starts a DynamoDB with one item in the table orders, and gives handlers its endpoint and keys. The
// channel has the requests.
func newTable(t *testing.T) <-chan *http.Request {
	t.Helper()
	calls := make(chan *http.Request, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- r
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		if string(body) == `{"TableName":"orders","Key":{"id":{"S":"7"}}}` {
			io.WriteString(w, `{"Item":{"id":{"S":"7"},"item":{"S":"tea"}}}`)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException",`+
			`"message":"Requested resource not found"}`)
	}))
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL_DYNAMODB", server.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	return calls
}

func TestAWSSDKCallsWithTheFunctionsSettings(t *testing.T) {
	calls := newTable(t)
	t.Setenv("AWS_SESSION_TOKEN", "token")
	r := newNode(t, frameworks(t))
	r.answer(handled{
		handler: "dynamodb.handler",
		event:   []byte(`{"table":"orders","id":"7"}`),
		want:    `{"item":"tea"}`,
	})
	call := <-calls
	if len(calls) > 0 {
		t.Errorf("%d more calls", len(calls))
	}
	for name, want := range map[string]string{
		"X-Amz-Target":         "DynamoDB_20120810.GetItem",
		"X-Amz-Security-Token": "token",
		"X-Amzn-Trace-Id":      "Root=1-2-3;Sampled=0", // keeps Lambda from endless loops of calls
	} {
		if got := call.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	signature := call.Header.Get("Authorization")
	signed := regexp.MustCompile(
		`^AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\d{8}/eu-west-1/dynamodb/aws4_request, `)
	if !signed.MatchString(signature) {
		t.Errorf("signed with %q", signature)
	}
	agent := call.Header.Get("User-Agent")
	if !regexp.MustCompile(`exec-env/AWS_Lambda_nodejs\d+\.x`).MatchString(agent) {
		t.Errorf("the user agent is %q", agent)
	}
}

func TestAWSSDKsErrorIsTheAnswer(t *testing.T) {
	newTable(t)
	r := newNode(t, frameworks(t))
	rep, body, _ := r.run("dynamodb.handler", []byte(`{"table":"nothing","id":"7"}`))
	var got struct {
		ErrorType    string
		ErrorMessage string
		Trace        []string
	}
	err := json.Unmarshal([]byte(body), &got)
	if err != nil || rep.kind != "error" {
		t.Fatalf("the answer is %s %s", rep.kind, body)
	}
	if got.ErrorType != "ResourceNotFoundException" || got.ErrorMessage != "Requested resource not found" {
		t.Errorf("the error is %s: %s", got.ErrorType, got.ErrorMessage)
	}
	if len(got.Trace) < 2 || got.Trace[0] != got.ErrorType+": "+got.ErrorMessage {
		t.Errorf("the trace is %q", got.Trace)
	}
}
