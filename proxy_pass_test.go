//go:build !layer

package main

// proxy_pass_test.go tests what the proxy passes through: everything but invocations, byte for byte.

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// exchangeTest is a request of the runtime, and the Runtime API's response.
type exchangeTest struct {
	name     string
	request  string
	response string
	lost     string // the lines that arrive on one side only, as differ tells them
}

// run parses both at both ends: what the runtime wrote and what the Runtime API read are the same request,
// and the other way round for the response.
func (test exchangeTest) run(t *testing.T, link bool) {
	t.Helper()
	passTest(t, fmt.Sprint(test.name, ", link ", link), link, func(r *rig, upstream *pipeListener) {
		arrived := make(chan string, 1)
		r.upstream(upstream, func(conn net.Conn, in *bufio.Reader) {
			arrived <- digestRequest(in)
			io.WriteString(conn, test.response)
		})
		client, in := r.connect8082()
		io.WriteString(client, test.request)
		response := digestResponse(in, test.request)
		request := "nothing"
		select {
		case request = <-arrived:
		default:
		}
		wantRequest := digestRequest(bufio.NewReader(strings.NewReader(test.request)))
		wantResponse := digestResponse(bufio.NewReader(strings.NewReader(test.response)), test.request)
		diff := append(differ(wantRequest, request), differ(wantResponse, response)...)
		lost := strings.Join(diff, " ")
		if lost != test.lost {
			r.t.Errorf("the difference is %.300q, want %q", lost, test.lost)
		}
	})
}

// isEvent tells whether the response has an event, which goes to AppSync if there is a link.
func (test exchangeTest) isEvent() bool {
	return strings.Contains(test.request, nextPath) && strings.Contains(test.response, " 200 ")
}

func TestOtherRequestsPassThroughUnchanged(t *testing.T) {
	t.Parallel()
	const post = "POST /2018-06-01/runtime/invocation/id/response HTTP/1.1\r\nHost: h\r\n"
	const ok = "HTTP/1.1 202 Accepted\r\n"
	const empty = ok + "Content-Length: 0\r\n\r\n"
	tests := []exchangeTest{
		{
			name:    "next",
			request: "GET " + nextPath + " HTTP/1.1\r\nHost: h\r\n\r\n",
			response: "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: x\r\n" +
				"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
		},
		{
			name:    "next, chunked and with trailers",
			request: "GET " + nextPath + " HTTP/1.1\r\nHost: h\r\n\r\n",
			response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A, B\r\n\r\n2\r\n" +
				"{}\r\n0\r\nA: 1\r\nB: 2\r\n\r\n",
		},
		{
			name:    "next refused",
			request: "GET " + nextPath + " HTTP/1.1\r\nHost: h\r\n\r\n",
			response: "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n" +
				"Content-Length: 36\r\n\r\n{\"errorType\":\"InvalidStateTransition",
		},
		{
			name: "response",
			request: post +
				"Content-Length: 5\r\nContent-Type: text/plain\r\n" +
				"Lambda-Runtime-Invocation-Id: i\r\n\r\nhello",
			response: ok +
				"Content-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n",
		},
		{name: "no body at all", request: post + "\r\n", response: empty, lost: "+Content-Length: [0]"},
		{name: "an empty body", request: post + "Content-Length: 0\r\n\r\n", response: empty},
		{
			name:     "chunked",
			request:  post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
			response: empty,
		},
		{
			name:     "chunked, nothing in it",
			request:  post + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			response: empty,
		},
		{
			name: "a stream with trailers",
			request: post + "Transfer-Encoding: chunked\r\n" +
				"Lambda-Runtime-Function-Response-Mode: streaming\r\n" +
				"Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n" +
				"1\r\na\r\n0\r\nLambda-Runtime-Function-Error-Type: E\r\n" +
				"Lambda-Runtime-Function-Error-Body: e30=\r\n\r\n",
			response: empty,
		},
		{
			name: "trailers declared and not sent",
			request: post + "Transfer-Encoding: chunked\r\n" +
				"Trailer: Lambda-Runtime-Function-Error-Type\r\n\r\n1\r\na\r\n0\r\n\r\n",
			response: empty,
		},
		{
			name:     "trailers sent and not declared",
			request:  post + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Late: 1\r\n\r\n",
			response: ok + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Late: 1\r\n\r\n",
		},
		{
			name: "gzip stays gzip",
			request: post +
				"Accept-Encoding: gzip\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
			response: ok + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
		},
		{
			name: "all that proxies like to add",
			request: post + "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: a\r\n" +
				"X-Forwarded-Proto: https\r\nForwarded: for=1\r\nVia: 1.1 x\r\nUser-Agent: me\r\n" +
				"Content-Length: 0\r\n\r\n",
			response: ok + "Date: Sat, 01 Jan 2000 00:00:00 GMT\r\nServer: s\r\nVia: 1.1 y\r\n" +
				"Content-Length: 0\r\n\r\n",
		},
		{
			name:     "headers more than once",
			request:  post + "X-A: 1\r\nX-A: 2\r\nCookie: a\r\nCookie: b\r\nContent-Length: 0\r\n\r\n",
			response: ok + "Set-Cookie: a\r\nSet-Cookie: b\r\nX-A: \r\nContent-Length: 0\r\n\r\n",
		},
		{
			name: "hop by hop",
			request: post +
				"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n" +
				"Proxy-Authorization: x\r\nTE: trailers\r\nContent-Length: 0\r\n\r\n",
			response: ok + "Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nContent-Length: 0\r\n\r\n",
			lost:     "-Connection: [X-Hop] -Keep-Alive: [5] -X-Hop: [1]",
		},
		{
			name:     "escapes in the path",
			request:  "GET /a%2Fb//c/../d/%7e/%E9?x HTTP/1.1\r\nHost: h\r\n\r\n",
			response: empty,
		},
		{
			name:     "a path of slashes",
			request:  "GET //host//path HTTP/1.1\r\nHost: h\r\n\r\n",
			response: empty,
		},
		{
			name:     "odd queries",
			request:  "GET /x?a;b=%zz&c=%&d=a+b&&=?%2F HTTP/1.1\r\nHost: h\r\n\r\n",
			response: empty,
		},
		{name: "an empty query", request: "GET /x? HTTP/1.1\r\nHost: h\r\n\r\n", response: empty},
		{
			name: "PUT to telemetry",
			request: "PUT /2022-07-01/telemetry HTTP/1.1\r\nHost: h\r\n" +
				"Lambda-Extension-Identifier: i\r\nContent-Length: 2\r\n\r\n{}",
			response: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
		},
		{
			name:     "a method of one's own",
			request:  "FROB /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
			response: "HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n",
		},
		{
			name:     "HEAD",
			request:  "HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n",
			response: "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n",
		},
		{name: "OPTIONS *", request: "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", response: empty},
		{
			name:     "DELETE with a body",
			request:  "DELETE /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
			response: "HTTP/1.1 204 No Content\r\n\r\n",
		},
		{
			name:     "not modified",
			request:  "GET /x HTTP/1.1\r\nHost: h\r\nIf-None-Match: a\r\n\r\n",
			response: "HTTP/1.1 304 Not Modified\r\nEtag: a\r\n\r\n",
		},
		{
			name:     "until the end of the connection",
			request:  "GET /x HTTP/1.1\r\nHost: h\r\n\r\n",
			response: "HTTP/1.1 200 OK\r\n\r\nhello",
			lost:     `-[] -1 "hello" +[chunked] -1 "hello"`,
		},
		{
			name:    "early hints",
			request: "GET /x HTTP/1.1\r\nHost: h\r\n\r\n",
			response: "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" +
				"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			lost: "+Date: [Sat, 01 Jan 2000 00:00:00 GMT]",
		},
		{
			name:     "a redirect",
			request:  "GET /x HTTP/1.1\r\nHost: h\r\n\r\n",
			response: "HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\nContent-Length: 0\r\n\r\n",
		},
		{
			name:     "an absolute URL",
			request:  "GET http://example.com/x?y HTTP/1.1\r\nHost: example.com\r\n\r\n",
			response: empty,
			lost:     "-GET http://example.com/x?y +GET /x?y",
		},
		{
			name:     "an absolute URL of next",
			request:  "GET http://example.com" + nextPath + " HTTP/1.1\r\nHost: example.org\r\n\r\n",
			response: empty,
			lost:     "-GET http://example.com" + nextPath + " +GET " + nextPath,
		},
		{
			name:     "a header of 200 KB",
			request:  "GET /x HTTP/1.1\r\nHost: h\r\nX-Big: " + strings.Repeat("x", 200<<10) + "\r\n\r\n",
			response: empty,
		},
	}
	for _, test := range tests {
		test.run(t, false)
		if !test.isEvent() {
			test.run(t, true)
		}
	}
}

// Nothing waits for the end of a body, in either direction, and nothing is timed out.
func TestBodiesPassThroughAsTheyCome(t *testing.T) {
	t.Parallel()
	passTest(t, "", true, func(r *rig, ln *pipeListener) {
		heard := make(chan string)
		r.upstream(ln, func(conn net.Conn, in *bufio.Reader) {
			req, err := http.ReadRequest(in)
			if err != nil {
				r.t.Error(err)
				return
			}
			b := make([]byte, 9)
			for range 3 {
				n, _ := req.Body.Read(b)
				heard <- string(b[:n])
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range 3 {
				io.WriteString(conn, "1\r\n"+<-heard+"\r\n")
			}
			io.WriteString(conn, "0\r\n\r\n")
		})
		client, in := r.connect8082()
		io.WriteString(
			client, "POST "+invocationPath+
				"id/response HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
		for _, c := range []string{"a", "b", "c"} {
			time.Sleep(time.Hour)
			io.WriteString(client, "1\r\n"+c+"\r\n")
			got := <-heard
			if got != c {
				r.t.Errorf("the Runtime API got %q, want %q", got, c)
			}
		}
		io.WriteString(client, "0\r\n\r\n")
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, c := range []string{"x", "y", "z"} {
			time.Sleep(time.Hour)
			heard <- c
			b := make([]byte, 9)
			n, err := resp.Body.Read(b)
			if string(b[:n]) != c || err != nil {
				r.t.Errorf("the runtime got %q, %v, want %q", b[:n], err, c)
			}
		}
		_, err = resp.Body.Read(make([]byte, 1))
		if err != io.EOF {
			r.t.Errorf("the response ended with %v", err)
		}
	})
}

// A length that is known does not have a response wait for its end either.
func TestResponseOfKnownLengthPassesThroughAsItComes(t *testing.T) {
	t.Parallel()
	passTest(t, "", true, func(r *rig, ln *pipeListener) {
		next := make(chan string)
		r.upstream(ln, func(conn net.Conn, in *bufio.Reader) {
			_, err := http.ReadRequest(in)
			if err != nil {
				r.t.Error(err)
				return
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
			for range 3 {
				io.WriteString(conn, <-next)
			}
		})
		client, in := r.connect8082()
		io.WriteString(client, "GET /2018-06-01/runtime/anything HTTP/1.1\r\nHost: h\r\n\r\n")
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, c := range []string{"x", "y", "z"} {
			time.Sleep(time.Hour)
			next <- c
			b := make([]byte, 9)
			n, err := resp.Body.Read(b)
			if string(b[:n]) != c || err != nil && err != io.EOF {
				r.t.Errorf("the runtime got %q, %v, want %q", b[:n], err, c)
			}
		}
	})
}

// What one copy of a body uses, no other one gets at the same time.
func TestBufferIsKeptForOneCopyAtATime(t *testing.T) {
	t.Parallel()
	kept := make(buffers, 1)
	one, two := kept.Get(), kept.Get()
	if &one[0] == &two[0] {
		t.Error("two copies have got the same buffer")
	}
	kept.Put(one)
	kept.Put(two) // is dropped
	three, four := kept.Get(), kept.Get()
	if &three[0] != &one[0] || &four[0] == &one[0] || &four[0] == &two[0] {
		t.Error("the buffer that is kept is not used again, once")
	}
}

func TestContinuePassesThroughBeforeTheBody(t *testing.T) {
	t.Parallel()
	passTest(t, "", true, func(r *rig, ln *pipeListener) {
		arrived := make(chan string, 1)
		r.upstream(ln, func(conn net.Conn, in *bufio.Reader) {
			in.Peek(1) // the request has begun
			io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
			arrived <- digestRequest(in)
			io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
		})
		client, in := r.connect8082()
		io.WriteString(
			client, "POST "+invocationPath+
				"id/response HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		line, err := in.ReadString('\n')
		if line != "HTTP/1.1 100 Continue\r\n" || err != nil {
			r.t.Fatalf("got %q, %v before the body was sent", line, err)
		}
		in.ReadString('\n')
		io.WriteString(client, "hello")
		// net/http adds the date after a 1xx
		want := "202 Accepted\nContent-Length: [0]\nDate: [Sat, 01 Jan 2000 00:00:00 GMT]\n[] 0 \"\"\n"
		response := digestResponse(in, "POST ")
		if strings.TrimPrefix(response, "100 Continue\n[] 0 \"\"\n") != want {
			r.t.Errorf("got %q, want %q", response, want)
		}
		request := <-arrived
		if !strings.HasSuffix(request, "[] 5 \"hello\"\n") {
			r.t.Errorf("the Runtime API got %q", request)
		}
	})
}

func TestWhatBreaksOnOneSideBreaksOnTheOther(t *testing.T) {
	t.Parallel()
	const post = "POST " + invocationPath + "id/response HTTP/1.1\r\nHost: h\r\n"
	tests := []struct {
		name     string
		request  string
		response string
		arrives  string // at the Runtime API
		comes    string // to the runtime; empty: it closes its connection
	}{
		{
			name:    "a chunked request",
			request: post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
			arrives: "unexpected EOF",
		},
		{name: "a request", request: post + "Content-Length: 5\r\n\r\nhe", arrives: "unexpected EOF"},
		{
			name:     "a response",
			request:  post + "Content-Length: 1\r\n\r\na",
			response: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe",
			arrives:  `"a"`,
			comes:    "unexpected EOF",
		},
		{
			name:     "a chunked response",
			request:  post + "Content-Length: 1\r\n\r\na",
			response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
			arrives:  `"a"`,
			comes:    "unexpected EOF",
		},
		{
			name:    "no response",
			request: post + "Content-Length: 1\r\n\r\na",
			arrives: `"a"`,
			comes:   "502 Bad Gateway",
		},
		{
			name:     "half a response's head",
			request:  post + "Content-Length: 1\r\n\r\na",
			response: "HTTP/1.1 200 OK\r\nContent-Le",
			arrives:  `"a"`,
			comes:    "502 Bad Gateway",
		},
		{
			name:     "no HTTP",
			request:  post + "Content-Length: 1\r\n\r\na",
			response: "SSH-2.0\r\n",
			arrives:  `"a"`,
			comes:    "502 Bad Gateway",
		},
	}
	for _, test := range tests {
		passTest(t, test.name, true, func(r *rig, ln *pipeListener) {
			arrived := make(chan string, 1)
			r.upstream(ln, func(conn net.Conn, in *bufio.Reader) {
				arrived <- digestRequest(in)
				io.WriteString(conn, test.response)
			})
			client, in := r.connect8082()
			io.WriteString(client, test.request)
			synctest.Wait()
			if test.comes == "" {
				client.Close()
			} else {
				response := digestResponse(in, "POST ")
				if !strings.Contains(response, test.comes) {
					r.t.Errorf("the runtime got %q, want %q", response, test.comes)
				}
			}
			request := <-arrived
			if !strings.Contains(request, test.arrives) {
				r.t.Errorf("the Runtime API got %q, want %q", request, test.arrives)
			}
		})
	}
}

func TestUnreachableRuntimeAPIIsABadGateway(t *testing.T) {
	t.Parallel()
	passTest(t, "", true, func(r *rig, ln *pipeListener) {
		ln.Close()
		client, in := r.connect8082()
		io.WriteString(client, "GET "+nextPath+" HTTP/1.1\r\nHost: h\r\n\r\n")
		got := digestResponse(in, "GET ")
		if !strings.Contains(got, "502 Bad Gateway") ||
			!strings.Contains(got, `LiveLambda.RuntimeAPI`) ||
			!strings.Contains(r.log.String(), "cannot reach the Runtime API") {
			r.t.Errorf("the runtime got %q, the log has %s", got, r.log)
		}
	})
}

// A runtime goes while its call of next is held, and another one asks: the Runtime API is asked once, and the
// second runtime gets what it says.
func TestNextThatIsHeldIsForTheRuntimeThatAsksAgain(t *testing.T) {
	t.Parallel()
	passTest(t, "", true, func(r *rig, ln *pipeListener) {
		asked := make(chan bool, 2)
		event := make(chan bool)
		r.upstream(ln, func(conn net.Conn, in *bufio.Reader) {
			http.ReadRequest(in)
			asked <- true
			<-event
			io.WriteString(
				conn, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nLambda-Runtime-Aws-Request-Id: "+
					"id\r\n\r\nnot JSON")
		})
		first, _ := r.connect8082()
		io.WriteString(first, "GET "+nextPath+" HTTP/1.1\r\nHost: h\r\n\r\n")
		time.Sleep(24 * time.Hour)
		first.Close()
		synctest.Wait()
		second, in := r.connect8082()
		io.WriteString(second, "GET "+nextPath+" HTTP/1.1\r\nHost: h\r\n\r\n")
		synctest.Wait()
		close(event)
		got := digestResponse(in, "GET ")
		if !strings.Contains(got, "200 OK") || len(asked) != 1 {
			r.t.Errorf("the second runtime got %q, the Runtime API was asked %d times", got, len(asked))
		}
		if strings.Contains(r.log.String(), "ERROR") {
			r.t.Errorf("the log has %s", r.log)
		}
	})
}

// Nothing on the way knows what is spoken after an upgrade.
func TestUpgradePassesThrough(t *testing.T) {
	t.Parallel()
	passTest(t, "", true, func(r *rig, ln *pipeListener) {
		r.upstream(ln, func(conn net.Conn, in *bufio.Reader) {
			got := digestRequest(in)
			if !strings.Contains(got, "Upgrade: [any]") {
				r.t.Errorf("the Runtime API got %q", got)
			}
			io.WriteString(
				conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n")
			line, _ := in.ReadString('\n')
			io.WriteString(conn, "echo "+line)
		})
		client, in := r.connect8082()
		io.WriteString(client, "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n")
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != 101 {
			r.t.Fatalf("got %v, %v", resp, err)
		}
		io.WriteString(client, "hello\n")
		line, err := in.ReadString('\n')
		if line != "echo hello\n" {
			r.t.Errorf("got %q, %v", line, err)
		}
	})
}

// passTest runs a test between a runtime and a Runtime API that listens, with a link to AppSync or not
// configured.
func passTest(t *testing.T, name string, link bool, test func(*rig, *pipeListener)) {
	opts := rigOptions{noLocal: true, noRuntime: true, noLambda: true, env: map[string]string{}}
	if !link {
		opts.env["LIVE_LAMBDA_APPSYNC_HTTP_HOST"] = ""
	}
	rigTest(t, name, opts, func(r *rig) {
		test(r, r.net.listen(rigLambda))
		if r.net.lost != nil {
			r.t.Errorf("dialled %q", r.net.lost)
		}
	})
}

// upstream serves one connection as the Runtime API, and closes it.
func (r *rig) upstream(ln *pipeListener, serve func(net.Conn, *bufio.Reader)) {
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		serve(conn, bufio.NewReader(conn))
	})
	r.stops = append(r.stops, func() { ln.Close(); wg.Wait() })
}

// connect8082 connects as the runtime.
func (r *rig) connect8082() (net.Conn, *bufio.Reader) {
	conn, err := r.net.dial(r.ctx, "tcp", rigProxy)
	if err != nil {
		r.t.Fatal(err)
	}
	r.stops = append(r.stops, func() { conn.Close() })
	return conn, bufio.NewReader(conn)
}

// digestRequest reads a request and lists what matters in it. The Host is whatever the proxy calls the
// Runtime API.
func digestRequest(in *bufio.Reader) string {
	r, err := http.ReadRequest(in)
	if err != nil {
		return err.Error()
	}
	body, err := io.ReadAll(r.Body)
	return digest(
		r.Method+" "+r.RequestURI, r.Header, r.TransferEncoding, r.ContentLength, body, r.Trailer, err)
}

// digestResponse reads a response to a request, with the informational ones before it.
func digestResponse(in *bufio.Reader, request string) string {
	method, _, _ := strings.Cut(request, " ")
	lines := ""
	for {
		r, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return lines + err.Error()
		}
		body, err := io.ReadAll(r.Body)
		lines += digest(r.Status, r.Header, r.TransferEncoding, r.ContentLength, body, r.Trailer, err)
		if r.StatusCode >= 200 {
			return lines
		}
	}
}

// digest lists what matters in a request or response, whose first line and parts are given.
func digest(
	first string, header http.Header, encoding []string, length int64, body []byte, trailer http.Header,
	err error) string {
	lines := []string{first}
	for _, name := range slices.Sorted(maps.Keys(header)) {
		lines = append(lines, fmt.Sprintf("%s: %v", name, header[name]))
	}
	lines = append(lines, fmt.Sprintf("%v %d %q", encoding, length, body))
	for _, name := range slices.Sorted(maps.Keys(trailer)) {
		lines = append(lines, fmt.Sprintf("trailer %s: %v", name, trailer[name]))
	}
	if err != nil {
		lines = append(lines, err.Error())
	}
	return strings.Join(lines, "\n") + "\n"
}

// differ lists the lines that only a has, with a -, then those that only b has, with a +.
func differ(a, b string) (diff []string) {
	ofA := strings.Split(strings.TrimSuffix(a, "\n"), "\n")
	ofB := strings.Split(strings.TrimSuffix(b, "\n"), "\n")
	for _, line := range ofA {
		if !slices.Contains(ofB, line) {
			diff = append(diff, "-"+line)
		}
	}
	for _, line := range ofB {
		if !slices.Contains(ofA, line) {
			diff = append(diff, "+"+line)
		}
	}
	return diff
}
