//go:build !layer

package main

// fuzz_test.go has the fuzz targets, a few for each language that comes from outside.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"
)

// FuzzGraphQLOperation: whatever a client sends, it is understood whole, or a fault.
func FuzzGraphQLOperation(f *testing.F) {
	f.Add(graphqlMutation)
	f.Add(graphqlSubscription)
	f.Add(`{"query":"mutation { publish(name: \"\\u00e9\", data: \"{}\") { name, d: data __typename } }"}`)
	f.Add(`{"query":"{","variables":[]}`)
	f.Fuzz(func(t *testing.T, body string) {
		for _, kind := range []string{"mutation", "subscription"} {
			m := graphqlOperation(kind, []byte(body))
			if m.refused == nil &&
				(len(m.selected.fields) == 0 ||
					kind == "mutation" && (len(m.Events) != 1 || !json.Valid([]byte(m.Events[0])))) {
				t.Errorf("%s %q: got %+v", kind, body, m)
			}
		}
	})
}

// FuzzLocalMessages gives the subscriber messages; whatever they are, it keeps to its bounds and goes on.
func FuzzLocalMessages(f *testing.F) {
	request := `{"request_id":"aaaa/1","event_payload":{"a":1},"context":{"request_id":"r",` +
		`"function_name":"f","deadline_ms":32503680000000},"live_lambda":1}`
	body, encoding := compress(slices.Concat([]byte(request), bytes.Repeat([]byte(" "), gzipAbove)))
	for _, seed := range []string{
		request,
		string(part{Type: "request", RequestID: "aaaa/2", Encoding: encoding}.encode(body)),
		`{"live_lambda":1,"type":"request","request_id":"a/1","index":3}`,
		string(part{Type: "done", RequestID: "aaaa/1", Outcome: "answered"}.event()),
		string(part{Type: "probe", RequestID: "aaaa/probe"}.event()),
		"[]", "{", `{"live_lambda":1}`,
	} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		term := &terminal{columns: func() int { return 0 }, chunks: make(chan chunk, 100)}
		l := newLocal(localOptions{functions: []string{"f*"}}, term)
		api := &appsync{endpoint: endpoint{namespace: "live-lambda"}, log: slog.New(slog.DiscardHandler)}
		s := newSubscriber(api, l)
		for range 2 {
			s.take(t.Context(), one)
			s.take(t.Context(), two)
		}
		s.wg.Wait() // without a connection nothing is accepted
		if len(s.open) > 2 || len(l.live) > 0 || l.held != 0 || s.talking() > 0 {
			t.Errorf("%d open, %d live with %d bytes, %d talks", len(s.open), len(l.live), l.held,
				s.talking())
		}
		close(term.chunks)
		for c := range term.chunks {
			if bytes.ContainsFunc(c.text[:len(c.text)-1], func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("a line has control characters: %q", c.text)
			}
		}
	})
}

// FuzzReadConfig: whatever the environment says, the function can go on.
func FuzzReadConfig(f *testing.F) {
	f.Add("LIVE_LAMBDA=off")
	f.Add("LIVE_LAMBDA_APPSYNC_HTTP_HOST=https://a.appsync-api.us-east-1.amazonaws.com/event " +
		"LIVE_LAMBDA_STAGE=dev LIVE_LAMBDA_LOG_LEVEL=x")
	f.Add("LIVE_LAMBDA_APPSYNC_HTTP_HOST=http://[::1%25lo]:1 LIVE_LAMBDA_APPSYNC_REALTIME_HOST=ws://ws://" +
		"localhost")
	f.Add("LIVE_LAMBDA_ACCEPT_TIMEOUT=9223372036s LRAP_LISTENER_PORT=08082 LRAP_RUNTIME_API_ENDPOINT=:")
	f.Add("LIVE_LAMBDA_NAMESPACE=\x00 LIVE_LAMBDA_OFFLINE=\n AWS_LAMBDA_FUNCTION_MEMORY_SIZE=1e9")
	f.Fuzz(func(t *testing.T, env string) {
		cfg, problems := readConfig(environ(env))
		for _, p := range problems {
			name, _, _ := strings.Cut(p, " ")
			if environ(env)(name) == "" && name != "LIVE_LAMBDA_APPSYNC_REGION" &&
				name != "LIVE_LAMBDA_APPSYNC_REALTIME_HOST" {
				t.Errorf("%q is about a variable that is not set", p)
			}
			if strings.ContainsAny(p, "\n\r") {
				t.Errorf("%q is more than one line", p)
			}
		}
		if cfg.port == "" || len(strings.TrimLeft(cfg.port, "0")) > 5 || cfg.accept < 0 ||
			cfg.extensionName == "" {
			t.Errorf("port %s, accept timeout %v, name %q", cfg.port, cfg.accept, cfg.extensionName)
		}
		if cfg.api != nil {
			checkEndpoint(t, cfg.api.http)
			checkEndpoint(t, cfg.api.realtime)
			if !publishChannel.MatchString(cfg.api.requests(cfg.api.stage)) {
				t.Errorf("requests go to %q", cfg.api.requests(cfg.api.stage))
			}
		}
	})
}

// checkEndpoint checks that a URL is one, and that TLS protects what goes there unless it is this machine.
func checkEndpoint(t *testing.T, u *url.URL) {
	t.Helper()
	again, err := url.Parse(u.String())
	if err != nil || again.Host != u.Host || u.Hostname() == "" {
		t.Errorf("the URL %q: %v", u, err)
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && loopback(u)) {
		t.Errorf("no TLS to %q", u)
	}
}

// FuzzAuthorization: the canonical form never panics, the same input has the same signature, and any change
// another.
func FuzzAuthorization(f *testing.F) {
	f.Add("AKIDEXAMPLE", "secret", "us-east-1", vectorAmzDate, "/event", "host", "example.com", []byte("{}"))
	f.Add("", "", "", "", "", "", "", []byte(nil))
	f.Add("a\nb", "\xff", "ü", "2015", "/ event?\n", ":", "a\r\nb: c", []byte{0})
	f.Fuzz(func(t *testing.T, key, secret, region, date, path, name, value string, body []byte) {
		c := credentials{accessKeyID: key, secretAccessKey: secret}
		headers := map[string]string{name: value}
		got := c.authorization(region, date, path, headers, body)
		if again := c.authorization(region, date, path, headers, body); got != again {
			t.Errorf("%q, then %q", got, again)
		}
		signature := got[strings.LastIndex(got, "=")+1:]
		if !strings.HasPrefix(got, "AWS4-HMAC-SHA256 Credential="+key+"/") || len(signature) != 64 ||
			strings.Trim(signature, "0123456789abcdef") != "" {
			t.Errorf("got %q", got)
		}
		otherSecret := credentials{accessKeyID: key, secretAccessKey: secret + "x"}
		for i, other := range []string{
			c.authorization(region, date, path, headers, append(slices.Clone(body), 'x')),
			c.authorization(region, date, path, map[string]string{name: value + "x"}, body),
			c.authorization(region, date, path+"x", headers, body),
			c.authorization(region+"x", date, path, headers, body),
			otherSecret.authorization(region, date, path, headers, body),
		} {
			if strings.HasSuffix(other, signature) {
				t.Errorf("change %d has the same signature", i)
			}
		}
	})
}

func FuzzASCIIJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,2.50,-0,1e400,true,null],"a":"\ud83d<ü\u2028\\\""}`, ` "😀" `, `"\\\""`, "\"\x7f\"",
		`[[[[]]]]`, `"\u005c"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if json.Valid(in) && utf8.Valid(in) {
			checkASCIIJSON(t, in)
		}
	})
}

// FuzzParts: whatever arrives, parsing and joining stay within their limits and agree with each other. The
// lines of the input are events.
func FuzzParts(f *testing.F) {
	// The last part comes first.
	events := func(p part, body []byte) (lines string) {
		for event := range p.split(body) {
			lines = string(event) + "\n" + lines
		}
		return lines
	}
	f.Add(events(
		part{Type: "response", RequestID: "l/1", Headers: map[string]string{"Content-Type": "text/plain"}},
		[]byte("hello")))
	f.Add(events(part{Type: "error", Encoding: "gzip", ErrorType: "T"}, gzipTimes([]byte("hello"), 3)))
	f.Add(string(part{Type: "response", Index: 1, Last: true}.encode([]byte("b"))) + "\n" +
		string(part{Type: "response"}.encode([]byte("a"))))
	f.Add(`{"live_lambda":1,"index":1048575,"last":true}` + "\n" + `{"live_lambda":1,"index":1048575}` +
		"\n" + `{"live_lambda":1,"index":0}`)
	f.Add(`{"live_lambda":1,"index":2}` + "\n" + `{"live_lambda":1,"index":1,"last":true}`)
	f.Add(`{"live_lambda":1,"data":"YQ","encoding":"gzip","last":true}` + "\n" + `[{"live_lambda":1}]` +
		"\n" + `{"live_lambda":2}`)
	f.Fuzz(func(t *testing.T, lines string) {
		j := newJoiner(4096)
		for line := range strings.Lines(lines) {
			p, err := parsePart(line)
			if p == nil && err != nil {
				t.Fatalf("an error of a bare result: %v", err)
			}
			if p != nil && err == nil {
				checkParsed(t, line, p)
				j.add(p)
			}
			checkWaiting(t, j, len(line))
		}
		if !j.complete() {
			return
		}
		if body, err := j.message(maxPayload); err == nil && len(body) > maxPayload {
			t.Fatalf("joined %d bytes", len(body))
		}
	})
}

// checkParsed checks a part that a line was parsed as: it is within its limits, and the same when it has been
// written and read once more.
func checkParsed(t *testing.T, line string, p *part) {
	t.Helper()
	if p.Index < 0 || p.Index >= 1<<20 || len(p.data) > len(line) {
		t.Fatalf("%q was parsed as %+v", line, p)
	}
	event := p.encode(p.data)
	checkPlain(t, event)
	again, err := parsePart(string(event))
	if err != nil || !bytes.Equal(again.data, p.data) || again.Index != p.Index || again.Last != p.Last {
		t.Fatalf("%q was encoded, then parsed as %+v, %v", line, again, err)
	}
}

// checkWaiting checks what waits in a joiner, whose size may be over its limit by the line that came last.
func checkWaiting(t *testing.T, j *joiner, line int) {
	t.Helper()
	size := 0
	for index, data := range j.waiting {
		size += len(data) + partOverhead
		if index < j.next || j.last >= 0 && index > j.last {
			t.Fatalf("part %d waits, of %d to %d", index, j.next, j.last)
		}
	}
	if size != j.size || size > j.limit+line+partOverhead {
		t.Fatalf("%d bytes wait, counted %d", size, j.size)
	}
}

// fuzzLink is the name of the link in FuzzReceive.
const fuzzLink = "0123456789abcdef01234567"

// dataMessage is what AppSync says when an event comes for subscription 1.
func dataMessage(event any) []byte {
	return mustJSON(map[string]any{"type": "data", "id": "1", "event": event})
}

// FuzzReceive: whatever AppSync sends, the reader lives, and the log has no more than a short line of it,
// which tells nothing of an event.
func FuzzReceive(f *testing.F) {
	const id = fuzzLink
	data := dataMessage
	streaming := part{
		Type:      "response",
		RequestID: id + "/1",
		Last:      true,
		Headers:   map[string]string{"Lambda-Runtime-Function-Response-Mode": "streaming"},
	}
	failed := part{Type: "error", RequestID: id + "/1", Encoding: "gzip", ErrorType: "T", Last: true}
	f.Add([]byte(`{"type":"ka"}`))
	f.Add([]byte(`{"type":"connection_ack","connectionTimeoutMs":300000}`))
	f.Add([]byte(
		`{"type":"connection_error","errors":[{"errorType":"UnauthorizedException","message":"a\nb"}]}`))
	f.Add([]byte(`{"type":"publish_success","id":"2","failed":[{"index":0,"code":"c"}],"successful":[]}`))
	f.Add(data("7"))
	f.Add(data([]string{`{"a":1}`, `"x"`}))
	f.Add(data(string(part{Type: "accepted", RequestID: id + "/1"}.event())))
	f.Add(data(string(streaming.encode([]byte("a")))))
	f.Add(data(string(failed.encode(gzipTimes([]byte("{}"), 1)))))
	f.Add(data(string(part{Type: "probe", RequestID: id + "/probe"}.event())))
	f.Add(data(string(part{Type: "response", RequestID: id + "/9", Last: true}.event())))
	f.Add(data(string(part{Type: "acce\x7fted", RequestID: id + "/1", Last: true}.event())))
	f.Add([]byte(`{"type":"data","id":"3","event":"null"}`))
	f.Add([]byte(`{"type":"data","id":"2"}`)) // the ID of an operation that waits
	for _, kind := range []string{"BadRequest\x01", "Busy\x01"} {
		long := apiRefusal{ErrorType: strings.Repeat(kind, 200), Message: strings.Repeat("\x01", 500)}
		f.Add(mustJSON(map[string]any{"type": "error", "errors": []apiRefusal{long}}))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		logs := new(logLines)
		s, c := receivingSession(t, logs)
		marked := "marked, not to be told " + string(raw)
		cut := part{
			Type:      "response",
			RequestID: id + "/1",
			Encoding:  "gzip",
			Last:      true,
			Headers:   map[string]string{"Content-Type": marked},
		}
		messages := [][]byte{
			raw,
			data(marked),
			data(string(cut.encode([]byte(marked)))),
			data([]string{marked, marked}),
			mustJSON(map[string]any{"type": "data", "id": "3", "event": marked}),
		}
		for _, message := range slices.Concat(messages, messages) { // twice: nothing may block the reader
			before := len(logs.String())
			s.receive(json.NewDecoder(bytes.NewReader(message)))
			said := logs.String()[before:]
			if said != "" {
				checkShortLine(t, said)
			}
			if !bytes.Equal(message, raw) && strings.Contains(said, "marked") {
				t.Errorf("it tells of an event: %s", said)
			}
		}
		if c.answer != nil && c.answer.size > maxPayload {
			t.Errorf("an answer of %d bytes", c.answer.size)
		}
	})
}

// checkShortLine checks that the log says one line, without control characters. AppSync's words are cut
// before they are escaped, which may be twice.
func checkShortLine(t *testing.T, said string) {
	t.Helper()
	line, end := strings.CutSuffix(said, "\n")
	if !end || !strings.HasPrefix(line, "time=") || len(line) > 2000 ||
		strings.ContainsFunc(line, unicode.IsControl) {
		t.Errorf("log line %q", line)
	}
}

// receivingSession is a session without a connection. Call 1 is out on it, subscription 1 is the link's,
// subscription 3 the call's own, and operation 2 waits for its reply.
func receivingSession(t *testing.T, logs *logLines) (*session, *call) {
	t.Helper()
	a := newTestAPI(nil)
	a.log = logs.logger()
	ctx, fail := context.WithCancelCause(t.Context())
	fail(errors.New("closed"))
	tn := newTunnel(a, "function", false)
	s := newSession(a)
	s.name = fuzzLink
	s.conn = &wsConn{ctx: ctx, fail: fail, out: make(chan outgoing)}
	s.ctx = ctx
	s.drop = fail
	s.expect("")
	s.expect("2")
	l := &link{session: s, t: tn}
	c := &call{
		t:       tn,
		n:       1,
		link:    l,
		ctx:     t.Context(),
		cancel:  func(error) {},
		phase:   sent,
		changed: make(chan struct{}, 1),
		parts:   map[string]*joiner{},
		context: []byte(`{"a":1}`),
	}
	tn.calls[1] = c
	tn.lastN = 9
	s.subs["1"] = func(event string) {
		p, err := parsePart(event)
		l.receiveEvent(event, p, err)
	}
	s.subs["3"] = func(event string) {
		tn.Lock()
		defer tn.Unlock()
		c.takeBare(l, event, true)
	}
	return s, c
}

// FuzzProxy: whatever bytes come in on the proxy's port, nothing but the Runtime API is ever spoken to, with
// its own Host, and nothing panics.
func FuzzProxy(f *testing.F) {
	for _, seed := range []string{
		"GET " + nextPath + " HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST " + invocationPath + "id/response HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
		"POST " + invocationPath +
			"id/error HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: " +
			"A\r\n\r\n1\r\nx\r\n0\r\nA: 1\r\n\r\n",
		"GET http://example.com/x HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"GET http://user:pw@example.com:1/ HTTP/1.0\r\n\r\n",
		"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
		"CONNECT /x HTTP/1.1\r\nHost: h\r\n\r\n", "GET //example.com/x HTTP/1.1\r\nHost: @\r\n\r\n",
		"GET foo:bar HTTP/1.1\r\nHost: h\r\n\r\n", "GET foo:http://example.com/ HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET http:bar HTTP/1.1\r\nHost: h\r\n\r\n", "GET http:////example.com HTTP/1.1\r\nHost: h\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, Host\r\nUpgrade: websocket\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET /%2e%2e/?a;b=%zz HTTP/1.1\r\nHost: h\r\nX-Forwarded-Host: example.com\r\nTE: " +
			"trailers\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET " +
			"/smuggled HTTP/1.1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\nabc",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		synctest.Test(t, func(t *testing.T) {
			const api = "runtime.api:9001"
			n := &pipeNetwork{hosts: map[string]*pipeListener{}}
			var given atomic.Bool
			upstream := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Host != api {
					t.Errorf("Host %q", r.Host)
				}
				io.Copy(w, r.Body)
				if r.URL.Path == nextPath && given.Swap(true) {
					<-r.Context().Done() // there is one event
				}
			}), DisableGeneralOptionsHandler: true, ErrorLog: log.New(io.Discard, "", 0)}
			transport := n.transport()
			o := config{runtimeAPI: api, offlineError: true, until: time.Now().AddDate(1, 0, 0)}
			p := newProxy(t.Context(), o, transport, nil, slog.New(slog.DiscardHandler))
			handler := p.handler()
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() {
					if v := recover(); v != nil && v != http.ErrAbortHandler {
						t.Errorf("panic: %v", v)
					}
				}()
				handler.ServeHTTP(w, r)
			}), DisableGeneralOptionsHandler: true, ErrorLog: log.New(io.Discard, "", 0)}
			var wg sync.WaitGroup
			up, down := n.listen(api), n.listen(rigProxy)
			wg.Go(func() { upstream.Serve(up) })
			wg.Go(func() { server.Serve(down) })
			conn, err := n.dial(t.Context(), "tcp", rigProxy)
			if err != nil {
				t.Fatal(err)
			}
			conn.Write(in)
			conn.SetReadDeadline(time.Now().Add(time.Minute)) // if the rest of a request is waited for
			io.Copy(io.Discard, conn)
			conn.Close()
			p.stop()
			server.Close()
			upstream.Close()
			wg.Wait()
			transport.CloseIdleConnections()
			if n.lost != nil {
				t.Errorf("dialled %q", n.lost)
			}
			time.Sleep(2 * time.Second) // for connections that linger
		})
	})
}

// FuzzAnswer: whatever event comes on an invocation's channel, the Runtime API is told once at the most, on
// the invocation's path, with the headers that it knows; and the next invocation works.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"live_lambda":1,"type":"accepted","request_id":"ID","index":0,"last":true}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","index":0,"last":true,` +
			`"headers":{"Content-Type":"a\r\nb: c","Lambda-Runtime-Function-Response-Mode":"streaming",` +
			`"X-Evil":"1"},"data":"YQ"}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","index":0,"last":true,` +
			`"trailers":{"Lambda-Runtime-Function-Error-Type":"E\n","X-Evil":"1"},` +
			`"headers":{"Lambda-Runtime-Function-Response-Mode":"streaming"}}`,
		`{"live_lambda":1,"type":"error","request_id":"ID","index":0,"last":true,"error_type":"E\u0000",` +
			`"xray_cause":"{\"a\":\"é\"}","data":"e30"}`,
		`{"live_lambda":1,"type":"response","request_id":"../../../x","index":-1,"last":false}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","index":1048575,"encoding":"gzip",` +
			`"last":true,"data":"H4sI"}`,
		"{\"live_lambda\":1,\"type\":\"res\x7fponse\",\"request_id\":\"ID\",\"index\":0,\"last\":true}",
		`null`, `"x"`, `{"live_lambda":2}`, `{"live_lambda":1}`, `[[[[[[[[`,
		`{"live_lambda":1,"live_lambda":2,"type":"response"}`, `{`, ``,
	} {
		f.Add(seed, seed)
	}
	f.Add(`{"live_lambda":1,"type":"response","request_id":"ID","index":0,"last":true}`, `"late"`)
	known := []string{
		"Content-Type", "Content-Length", "User-Agent", "Accept-Encoding", modeHeader, typeHeader,
		causeHeader, idHeader}
	f.Fuzz(func(t *testing.T, first, second string) {
		synctest.Test(t, func(t *testing.T) {
			defer time.Sleep(2 * time.Second) // for connections that linger
			r := newRig(t, rigOptions{})
			defer r.close()
			r.local.script = func(d *delivery) {
				for _, event := range []string{first, second} {
					r.api.publish(
						d.local.session.channel(d.requestID()),
						strings.ReplaceAll(event, "ID", d.requestID()))
				}
			}
			o := r.invokeRequest(invokeRequest{
				payload:    []byte(`1`),
				timeout:    3 * time.Second,
				onResponse: func(http.Header) io.Writer { return io.Discard },
			})
			attempts := r.lambda.completions(o.requestID)
			if len(attempts) != 1 || attempts[0].status != http.StatusAccepted {
				t.Fatalf("the Runtime API was told %d times: %v", len(attempts), attempts)
			}
			for name, values := range attempts[0].header {
				if !slices.Contains(known, name) || len(values) != 1 || !printable(values[0]) {
					t.Errorf("header %q: %q", name, values)
				}
			}
			for name := range attempts[0].trailer {
				if name != typeHeader && name != bodyHeader {
					t.Errorf("trailer %q", name)
				}
			}
			for line := range strings.Lines(r.log.String()) {
				if !strings.HasPrefix(line, "time=") || len(line) > 1000 ||
					strings.ContainsFunc(strings.TrimSuffix(line, "\n"), unicode.IsControl) {
					t.Errorf("log line %q", line)
				}
			}
			r.local.script = nil
			r.want(r.invoke(`2`), "local")
		})
	})
}
