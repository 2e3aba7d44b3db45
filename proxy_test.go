//go:build !layer

package main

// proxy_test.go tests proxy.go, and with it the whole extension under faults, in one process: the real proxy
// and tunnel between the two emulators, a runtime with deployed code, and local ends, on a network of pipes
// in a bubble of fake time. What a caller of the function gets is always Lambda's word, not the extension's.

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
)

// ---- everything but invocations ----

// What passes through is told by parsing it at both ends: what the runtime wrote and what the Runtime API
// read are the same request, and the other way round for the response. lost and gained are the lines of the
// difference.
func TestPassThrough(t *testing.T) {
	const post, ok = "POST /2018-06-01/runtime/invocation/id/response HTTP/1.1\r\nHost: h\r\n",
		"HTTP/1.1 202 Accepted\r\n"
	const empty = ok + "Content-Length: 0\r\n\r\n"
	tests := []struct {
		name, request, response string
		lost                    string // lines that do not arrive, and a - before each
	}{
		{"next", "GET " + nextPath + " HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: x\r\nContent-Type: application/" +
				"json\r\nContent-Length: 2\r\n\r\n{}", ""},
		{"next, chunked and with trailers", "GET " + nextPath + " HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A, B\r\n\r\n2\r\n{}\r\n0\r\nA: " +
				"1\r\nB: 2\r\n\r\n", ""},
		{"next refused", "GET " + nextPath + " HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: " +
				"36\r\n\r\n{\"errorType\":\"InvalidStateTransition", ""},
		{"response",
			post + "Content-Length: 5\r\nContent-Type: text/plain\r\nLambda-Runtime-Invocation-Id: " +
				"i\r\n\r\nhello",
			ok + "Content-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n", ""},
		{"no body at all", post + "\r\n", empty, "+Content-Length: [0]"},
		{"an empty body", post + "Content-Length: 0\r\n\r\n", empty, ""},
		{"chunked", post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", empty, ""},
		{"chunked, nothing in it", post + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", empty, ""},
		{"a stream with trailers",
			post + "Transfer-Encoding: chunked\r\nLambda-Runtime-Function-Response-Mode: " +
				"streaming\r\nTrailer: Lambda-Runtime-Function-Error-Type, " +
				"Lambda-Runtime-Function-Error-Body\r\n" +
				"\r\n1\r\na\r\n0\r\nLambda-Runtime-Function-Error-Type: " +
				"E\r\nLambda-Runtime-Function-Error-Body: e30=\r\n\r\n", empty, ""},
		{"trailers declared and not sent",
			post + "Transfer-Encoding: chunked\r\nTrailer: Lambda-Runtime-Function-Error-Type\r\n" +
				"\r\n1\r\na\r\n0\r\n\r\n", empty, ""},
		{"trailers sent and not declared",
			post + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Late: 1\r\n\r\n",
			ok + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Late: 1\r\n\r\n", ""},
		{"gzip stays gzip",
			post + "Accept-Encoding: gzip\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
			ok + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08", ""},
		{"all that proxies like to add",
			post + "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: a\r\nX-Forwarded-Proto: " +
				"https\r\nForwarded: for=1\r\nVia: 1.1 x\r\nUser-Agent: me\r\nContent-Length: 0\r\n\r\n",
			ok + "Date: Sat, 01 Jan 2000 00:00:00 GMT\r\nServer: s\r\nVia: 1.1 y\r\n" +
				"Content-Length: 0\r\n\r\n",
			""},
		{"headers more than once",
			post + "X-A: 1\r\nX-A: 2\r\nCookie: a\r\nCookie: b\r\nContent-Length: 0\r\n\r\n",
			ok + "Set-Cookie: a\r\nSet-Cookie: b\r\nX-A: \r\nContent-Length: 0\r\n\r\n", ""},
		{"hop by hop",
			post + "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authorization: " +
				"x\r\nTE: trailers\r\nContent-Length: 0\r\n\r\n",
			ok + "Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nContent-Length: 0\r\n\r\n",
			"-Connection: [X-Hop] -Keep-Alive: [5] -X-Hop: [1]"},
		{"escapes in the path", "GET /a%2Fb//c/../d/%7e/%E9?x HTTP/1.1\r\nHost: h\r\n\r\n", empty, ""},
		{"a path of slashes", "GET //host//path HTTP/1.1\r\nHost: h\r\n\r\n", empty, ""},
		{"odd queries", "GET /x?a;b=%zz&c=%&d=a+b&&=?%2F HTTP/1.1\r\nHost: h\r\n\r\n", empty, ""},
		{"an empty query", "GET /x? HTTP/1.1\r\nHost: h\r\n\r\n", empty, ""},
		{"PUT to telemetry",
			"PUT /2022-07-01/telemetry HTTP/1.1\r\nHost: h\r\nLambda-Extension-Identifier: " +
				"i\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", ""},
		{"a method of one's own", "FROB /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
			"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n", ""},
		{"HEAD", "HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n", ""},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", empty, ""},
		{"DELETE with a body", "DELETE /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
			"HTTP/1.1 204 No Content\r\n\r\n", ""},
		{"not modified", "GET /x HTTP/1.1\r\nHost: h\r\nIf-None-Match: a\r\n\r\n",
			"HTTP/1.1 304 Not Modified\r\nEtag: a\r\n\r\n", ""},
		{"until the end of the connection", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 200 OK\r\n\r\nhello", `-[] -1 "hello" +[chunked] -1 "hello"`},
		{"early hints", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 " +
				"OK\r\nContent-Length: 0\r\n\r\n", "+Date: [Sat, 01 Jan 2000 00:00:00 GMT]"},
		{"a redirect", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n",
			"HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\nContent-Length: 0\r\n\r\n", ""},
		{"an absolute URL", "GET http://example.com/x?y HTTP/1.1\r\nHost: example.com\r\n\r\n", empty,
			"-GET http://example.com/x?y +GET /x?y"},
		{"an absolute URL of next",
			"GET http://example.com" + nextPath + " HTTP/1.1\r\nHost: example.org\r\n\r\n", empty,
			"-GET http://example.com" + nextPath + " +GET " + nextPath},
		{"a header of 200 KB",
			"GET /x HTTP/1.1\r\nHost: h\r\nX-Big: " + strings.Repeat("x", 200<<10) + "\r\n\r\n", empty, ""},
	}
	for _, link := range []bool{false, true} {
		for _, tt := range tests {
			if link && strings.Contains(tt.request, nextPath) && strings.Contains(tt.response, " 200 ") {
				continue // an event for AppSync
			}
			passTest(t, fmt.Sprint(tt.name, ", link ", link), link, func(r *rig, upstream *pipeListener) {
				arrived := make(chan string, 1)
				r.upstream(upstream, func(conn net.Conn, in *bufio.Reader) {
					arrived <- digestRequest(in)
					io.WriteString(conn, tt.response)
				})
				client, in := r.connect8082()
				io.WriteString(client, tt.request)
				got := digestResponse(in, tt.request)
				request := "nothing"
				select {
				case request = <-arrived:
				default:
				}
				diff := differ(digestRequest(bufio.NewReader(strings.NewReader(tt.request))), request)
				diff = append(
					diff, differ(
						digestResponse(bufio.NewReader(strings.NewReader(tt.response)), tt.request), got)...)
				if d := strings.Join(diff, " "); d != tt.lost {
					r.t.Errorf("the difference is %.300q, want %q", d, tt.lost)
				}
			})
		}
	}
}

// Nothing waits for the end of a body, in either direction; nothing is timed out.
func TestPassThroughStreams(t *testing.T) {
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
			if got := <-heard; got != c {
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
			if n, err := resp.Body.Read(b); string(b[:n]) != c || err != nil {
				r.t.Errorf("the runtime got %q, %v, want %q", b[:n], err, c)
			}
		}
		if _, err := resp.Body.Read(make([]byte, 1)); err != io.EOF {
			r.t.Errorf("the response ended with %v", err)
		}
	})
}

func TestPassThroughContinue(t *testing.T) {
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
		if line, err := in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" || err != nil {
			r.t.Fatalf("got %q, %v before the body was sent", line, err)
		}
		in.ReadString('\n')
		io.WriteString(client, "hello")
		// net/http adds the date after a 1xx
		want := "202 Accepted\nContent-Length: [0]\nDate: [Sat, 01 Jan 2000 00:00:00 GMT]\n[] 0 \"\"\n"
		if got := digestResponse(in, "POST "); strings.TrimPrefix(got, "100 Continue\n[] 0 \"\"\n") != want {
			r.t.Errorf("got %q, want %q", got, want)
		}
		if got := <-arrived; !strings.HasSuffix(got, "[] 5 \"hello\"\n") {
			r.t.Errorf("the Runtime API got %q", got)
		}
	})
}

// What breaks on one side breaks on the other.
func TestPassThroughBreaks(t *testing.T) {
	const post = "POST " + invocationPath + "id/response HTTP/1.1\r\nHost: h\r\n"
	for _, tt := range []struct{ name, request, response, arrives, comes string }{
		{"a chunked request", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhe", "", "unexpected EOF", ""},
		{"a request", post + "Content-Length: 5\r\n\r\nhe", "", "unexpected EOF", ""},
		{"a response", post + "Content-Length: 1\r\n\r\na", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe",
			`"a"`, "unexpected EOF"},
		{"a chunked response", post + "Content-Length: 1\r\n\r\na",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", `"a"`, "unexpected EOF"},
		{"no response", post + "Content-Length: 1\r\n\r\na", "", `"a"`, "502 Bad Gateway"},
		{"half a response's head", post + "Content-Length: 1\r\n\r\na", "HTTP/1.1 200 OK\r\nContent-Le",
			`"a"`, "502 Bad Gateway"},
		{"no HTTP", post + "Content-Length: 1\r\n\r\na", "SSH-2.0\r\n", `"a"`, "502 Bad Gateway"},
	} {
		passTest(t, tt.name, true, func(r *rig, ln *pipeListener) {
			arrived := make(chan string, 1)
			r.upstream(ln, func(conn net.Conn, in *bufio.Reader) {
				arrived <- digestRequest(in)
				io.WriteString(conn, tt.response)
			})
			client, in := r.connect8082()
			io.WriteString(client, tt.request)
			synctest.Wait()
			if tt.comes == "" {
				client.Close()
			} else if got := digestResponse(in, "POST "); !strings.Contains(got, tt.comes) {
				r.t.Errorf("the runtime got %q, want %q", got, tt.comes)
			}
			if got := <-arrived; !strings.Contains(got, tt.arrives) {
				r.t.Errorf("the Runtime API got %q, want %q", got, tt.arrives)
			}
		})
	}
	passTest(t, "nobody listens", true, func(r *rig, ln *pipeListener) {
		ln.Close()
		client, in := r.connect8082()
		io.WriteString(client, "GET "+nextPath+" HTTP/1.1\r\nHost: h\r\n\r\n")
		if got := digestResponse(in, "GET "); !strings.Contains(got, "502 Bad Gateway") ||
			!strings.Contains(got, `LiveLambda.RuntimeAPI`) ||
			!strings.Contains(r.log.String(), "cannot reach the Runtime API") {
			r.t.Errorf("the runtime got %q, the log has %s", got, r.log)
		}
	})
	passTest(t, "the runtime goes while its next is held", true, func(r *rig, ln *pipeListener) {
		asked, event := make(chan bool, 2), make(chan bool)
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
		// the Runtime API was asked once
		if got := digestResponse(in, "GET "); !strings.Contains(got, "200 OK") || len(asked) != 1 {
			r.t.Errorf("the second runtime got %q, the Runtime API was asked %d times", got, len(asked))
		}
		if strings.Contains(r.log.String(), "ERROR") {
			r.t.Errorf("the log has %s", r.log)
		}
	})
}

// An upgrade passes too: nothing on the way knows what is spoken then.
func TestPassThroughUpgrade(t *testing.T) {
	passTest(t, "", true, func(r *rig, ln *pipeListener) {
		r.upstream(ln, func(conn net.Conn, in *bufio.Reader) {
			if got := digestRequest(in); !strings.Contains(got, "Upgrade: [any]") {
				r.t.Errorf("the Runtime API got %q", got)
			}
			io.WriteString(
				conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n")
			line, _ := in.ReadString('\n')
			io.WriteString(conn, "echo "+line)
		})
		client, in := r.connect8082()
		io.WriteString(client, "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n")
		if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != 101 {
			r.t.Fatalf("got %v, %v", resp, err)
		}
		io.WriteString(client, "hello\n")
		if line, err := in.ReadString('\n'); line != "echo hello\n" {
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
func digestResponse(in *bufio.Reader, request string) (lines string) {
	for {
		r, err := http.ReadResponse(in, &http.Request{Method: request[:strings.Index(request, " ")]})
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
	of := func(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }
	for _, line := range of(a) {
		if !slices.Contains(of(b), line) {
			diff = append(diff, "-"+line)
		}
	}
	for _, line := range of(b) {
		if !slices.Contains(of(a), line) {
			diff = append(diff, "+"+line)
		}
	}
	return diff
}

// ---- one invocation ----

// What a local end answers, and what the Runtime API is told.
func TestAnswers(t *testing.T) {
	const (
		object = `{"a":1, "big":12345678901234567890.00, "<é😀>":"\ud800"}`
	)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	text := func(headers map[string]string) part { return part{Type: "response", Headers: headers} }
	plain := text(map[string]string{"Content-Type": "text/plain"})
	failure := part{Type: "error", ErrorType: "My.Error"}
	tests := []struct {
		name string
		part part
		body string
		want string
	}{
		{"JSON", text(map[string]string{"Content-Type": "application/json"}), object,
			`response Content-Type="application/json" ` + object},
		{"text", plain, "hello", `response Content-Type="text/plain" hello`},
		{"all bytes", plain, string(all), `response Content-Type="text/plain" ` + string(all)},
		{"no bytes", plain, "", `response Content-Type="text/plain" `},
		{"no content type", text(nil), "hello", "response hello"},
		{"many bytes", plain, strings.Repeat("x", 1<<20),
			`response Content-Type="text/plain" ` + strings.Repeat("x", 1<<20)},
		{"a content type with a line end", text(map[string]string{"Content-Type": "text/plain\r\nX-Evil: 1"}),
			"hello", "response hello"},
		{"a content type with a control character", text(map[string]string{"Content-Type": "text/\x00plain"}),
			"hello", "response hello"},
		{"a content type in Greek", text(map[string]string{"Content-Type": "κείμενο"}), "hello",
			"response hello"},
		{"a long content type", text(map[string]string{"Content-Type": strings.Repeat("x", 70<<10)}), "hello",
			"response hello"},
		{"other headers",
			text(map[string]string{
				"Content-Type": "a/b", "Lambda-Runtime-Invocation-Id": "x", "Host": "evil", "X-Evil": "1"}),
			"hello", `response Content-Type="a/b" hello`},
		{"a mode that is none", text(map[string]string{modeHeader: "buffered"}), "hello", "response hello"},
		{"not even a type", part{Type: "response", ErrorType: "My.Error", Outcome: "deployed"}, "hello",
			"response hello"},

		{"error", failure, `{"errorType":"x"}`,
			`error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="My.Error" ` +
				`{"errorType":"x"}`},
		{"error without a body", failure, "",
			`error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="My.Error" `},
		{"error that is not JSON", failure, "\xff",
			`error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="My.Error" ` + "\xff"},
		{"error without a type", part{Type: "error"}, "{}",
			`error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="Runtime.Unknown" {}`},
		{"error type with a line end", part{Type: "error", ErrorType: "My\nX-Evil: 1"}, "{}",
			`error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="Runtime.Unknown" {}`},
		{"error type in Greek", part{Type: "error", ErrorType: "Σφάλμα"}, "{}",
			`error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="Runtime.Unknown" {}`},
		{"a long error type", part{Type: "error", ErrorType: strings.Repeat("E", 70<<10)}, "{}",
			`error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="Runtime.Unknown" {}`},
		{"X-Ray cause", part{Type: "error", ErrorType: "E", XRayCause: "{\n\"message\": \"é\\n<\"}"}, "{}",
			`error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="E" ` +
				`Lambda-Runtime-Function-Xray-Error-Cause="{\"message\":\"\\u00e9\\n\\u003c\"}" {}`},
		{"X-Ray cause that is not JSON", part{Type: "error", ErrorType: "E", XRayCause: "{}\r\nX-Evil: 1"},
			"{}", `error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="E" {}`},
		{"a long X-Ray cause",
			part{Type: "error", ErrorType: "E", XRayCause: `"` + strings.Repeat("x", 64<<10) + `"`}, "{}",
			`error Content-Type="application/json" Lambda-Runtime-Function-Error-Type="E" {}`},
	}
	for _, tt := range tests {
		answer := func(d *delivery) localReply {
			body, encoding := compress([]byte(tt.body))
			tt.part.Encoding = encoding
			return localReply{tt.part, body}
		}
		rigTest(t, tt.name, rigOptions{local: &localEnd{handle: answer}}, func(r *rig) {
			o := r.invoke(object)
			if got := r.told(o); got != tt.want {
				r.t.Errorf("the Runtime API was told\n%.300q, want\n%.300q", got, tt.want)
			}
			r.wantHandled(1)
			r.local.wantTold("answered")
			if n := strings.Count(
				r.log.String(),
				"msg=invocation source=live-lambda request_id="+o.requestID+" outcome="); n != 1 {
				r.t.Errorf("%d lines in the log: %s", n, r.log)
			}
		})
	}
}

// The log has one line for each invocation. Its outcome is one word of a fixed set, the error type a field of
// its own.
func TestLogNamesTheOutcome(t *testing.T) {
	fails := localReply{part: part{Type: "error", ErrorType: "My.Error"}, body: []byte(`{}`)}
	streams := func(last bool) *localEnd {
		return &localEnd{script: func(d *delivery) { d.publish(streamed(d, 0, last, "a", nil)) }}
	}
	replies := func(reply localReply) *localEnd {
		return &localEnd{handle: func(*delivery) localReply { return reply }}
	}
	soon := map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "1s"}
	soonAnError := map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "1s", "LIVE_LAMBDA_OFFLINE": "error"}
	tests := []struct {
		name string
		opts rigOptions
		want string
	}{
		{name: "a response", opts: rigOptions{local: replies(respond("{}"))}, want: "answered"},
		{name: "an error", opts: rigOptions{local: replies(fails)}, want: "error"},
		{name: "a stream", opts: rigOptions{local: streams(true)}, want: "stream"},
		{
			name: "a stream that is given up",
			opts: rigOptions{local: streams(false)},
			want: "failed error_type=LiveLambda.Gone",
		},
		{
			name: "for the runtime",
			opts: rigOptions{
				local: replies(respond("{}")),
				env:   map[string]string{"LIVE_LAMBDA_DELIVERY": "runtime"},
			},
			want: "runtime",
		},
		{name: "nobody there", opts: rigOptions{noLocal: true, env: soon}, want: "deployed"},
		{
			name: "nobody there, as an error",
			opts: rigOptions{noLocal: true, env: soonAnError},
			want: "failed error_type=LiveLambda.Offline",
		},
	}
	logged := regexp.MustCompile(
		`msg=invocation source=live-lambda request_id=\S+ outcome=(\S+) ms=\d+( error_type=\S+)?( ` +
			`reason=.+)?\n`)
	for _, test := range tests {
		rigTest(t, test.name, test.opts, func(r *rig) {
			r.invoke(`{}`)
			synctest.Wait()
			lines := logged.FindAllStringSubmatch(r.log.String(), -1)
			if len(lines) != 1 || lines[0][1]+lines[0][2] != test.want {
				r.t.Errorf("logged %q, want one line with %s", lines, test.want)
			}
			reason := test.want == "deployed" || strings.HasPrefix(test.want, "failed")
			if len(lines) == 1 && reason != (lines[0][3] != "") {
				r.t.Errorf("the reason is %q", lines[0][3])
			}
		})
	}
}

// What the local end is told of an invocation.
// The runtime asks for next just when the environment shuts down; the race detector watches.
func TestProxyAskedAtShutdown(t *testing.T) {
	for range 1000 {
		refuse := transportFunc(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("refused")
		})
		p := newProxy(
			t.Context(), proxyOptions{offlineError: true}, refuse, nil, slog.New(slog.DiscardHandler))
		handler := p.handler()
		ctx, gone := context.WithCancel(t.Context())
		asked := async(func() (bool, error) {
			handler.ServeHTTP(
				httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, nextPath, nil))
			return true, nil
		})
		runtime.Gosched()
		p.stop()
		gone()
		<-asked
	}
}

// What is for the runtime is not lost if the runtime goes away in the instant in which it comes: its next
// call gets it. The rounds differ in which of two ready channels is drawn.
func TestNextOutlivesTheCallThatGoes(t *testing.T) {
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			api := transportFunc(func(*http.Request) (*http.Response, error) {
				asked++
				return httpAnswer(http.StatusInternalServerError, fmt.Sprint(asked)), nil
			})
			p := newProxy(
				t.Context(), proxyOptions{offlineError: true}, api, nil, slog.New(slog.DiscardHandler))
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			next := func(ctx context.Context) (*http.Response, error) {
				synctest.Wait()
				return p.RoundTrip(httptest.NewRequestWithContext(ctx, http.MethodGet, nextPath, nil))
			}
			for range 2 { // the second time both channels are ready
				if resp, err := next(gone); err == nil {
					t.Fatalf("a call that has gone got %v", resp)
				}
			}
			resp, err := next(t.Context())
			if err != nil || readAll(resp.Body) != "1" || asked != 1 {
				t.Errorf("got %v, %v; the Runtime API was asked %d times, want once", resp, err, asked)
			}
			p.stop()
		})
	}
}

// Where the credentials cannot be read, the environment that is sent has none, instead of empty ones.
func TestRequestContextWithoutCredentials(t *testing.T) {
	a := newTestAPI(nil)
	a.credentials = func(context.Context) (credentials, error) { return credentials{}, errors.New("none") }
	o := proxyOptions{
		function: map[string]any{"environment": map[string]string{"A": "b"}}, addKeys: a.addKeys}
	p := newProxy(t.Context(), o, nil, newTunnel(a, false), nil)
	if got := string(
		p.context(t.Context(), newInvocation(&http.Response{Header: http.Header{}}))); !strings.Contains(
		got, `"environment":{"A":"b"}`) {
		t.Errorf("got %s", got)
	}
}

func TestRequestContext(t *testing.T) {
	env := map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_VERSION": "7",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "AWS_REGION": "us-east-1", "AWS_LAMBDA_LOG_GROUP_NAME": "g",
		"AWS_LAMBDA_LOG_STREAM_NAME": "s"}
	rigTest(t, "", rigOptions{env: env}, func(r *rig) {
		r.proxy.function["handler"] = "index.handler"
		var got eventContext
		r.local.handle = func(d *delivery) localReply { got = d.context; return respond(`{"by":"local"}`) }
		for _, tt := range []struct{ client, identity, wantClient, wantIdentity string }{
			{`{"custom":{"é":"<1>"}}`, ` {"cognitoIdentityId":"i"}`, `{"custom":{"\u00e9":"\u003c1\u003e"}}`,
				`{"cognitoIdentityId":"i"}`},
			{`[1]`, `"text"`, "", ""},
			{`{"a":`, "{}}", "", ""},
			{"", "", "", ""},
		} {
			o := r.invokeRequest(
				invokeRequest{
					payload: []byte(`1`), timeout: time.Minute, qualifier: "alias", traceID: "Root=1",
					tenantID: "t", clientContext: tt.client, cognitoIdentity: tt.identity})
			r.want(o, "local")
			synctest.Wait()
			want := eventContext{RequestID: o.requestID, FunctionName: "f", FunctionVersion: "7",
				InvokedFunctionARN: "arn:aws:lambda:us-east-1:123456789012:function:function:alias",
				MemorySizeMB:       256,
				Region:             "us-east-1", DeadlineMs: time.Now().Add(time.Minute).UnixMilli(),
				TraceID: "Root=1",
				Handler: "index.handler", LogGroupName: "g", LogStreamName: "s", TenantID: "t"}
			if tt.wantClient != "" {
				want.ClientContext, want.Identity = json.RawMessage(tt.wantClient),
					json.RawMessage(tt.wantIdentity)
			}
			if r.api.opts.graphql && got.ClientContext != nil { // in parts it travels as it is
				got.ClientContext = asciiJSON(got.ClientContext)
			}
			if !reflect.DeepEqual(got, want) {
				r.t.Errorf("got %+v, want %+v", got, want)
			}
		}
		r.proxy.function["environment"] = map[string]string{"A": "é"} // as under SnapStart, without keys
		r.credentials.Store(&credentials{"AKID", "secret", "token"})
		r.want(r.invoke(`1`), "local")
		synctest.Wait()
		if want := map[string]string{
			"A": "é", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret",
			"AWS_SESSION_TOKEN": "token"}; !maps.Equal(got.Environment, want) {
			r.t.Errorf("environment %v, want %v", got.Environment, want)
		}
		if log := r.log.String(); strings.Contains(log, "secret") || strings.Contains(log, "custom") {
			r.t.Errorf("the log has %s", log)
		}
	})
}

// When nobody answers: what the caller gets instead, and when.
func TestNoAnswer(t *testing.T) {
	const s = time.Second
	accepts := func(d *delivery) { d.say(localReply{part: part{Type: "accepted"}}) }
	acceptsTwice := func(d *delivery) {
		accepts(d)
		time.Sleep(5 * s)
		accepts(d)
	}
	busy := func(d *delivery) {
		for range 1000 {
			accepts(d)
			time.Sleep(5 * s)
		}
	}
	unplug := func(r *rig) { r.net.fail(rigAppSync, syscall.ECONNREFUSED) }
	unconfigured := map[string]string{"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "", "LIVE_LAMBDA_OFFLINE": "error"}
	offlineErrors, threeSeconds := map[string]string{"LIVE_LAMBDA_OFFLINE": "error"},
		map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "3s"}
	both := map[string]string{"LIVE_LAMBDA_OFFLINE": "error", "LIVE_LAMBDA_ACCEPT_TIMEOUT": "1500ms"}
	tests := []struct {
		name    string
		opts    rigOptions
		timeout time.Duration // of the function
		want    string
		took    time.Duration
		says    string // in the error, or in the log line
		told    string // to the local end
	}{
		{"nobody there", rigOptions{noLocal: true, env: threeSeconds}, 900 * s, "deployed", 3 * s,
			"no local end accepted within 3s", ""},
		{"nobody there, as an error", rigOptions{noLocal: true, env: both}, 900 * s, "LiveLambda.Offline",
			3 * s / 2, "no local end is there to answer: no local end accepted within 1.5s", ""},
		{"nobody there, no limit", rigOptions{noLocal: true}, 60 * s, "LiveLambda.NoAnswer", 59 * s,
			"no local end (is `live-lambda local` running?) accepted the invocation within 59s", ""},
		{"nobody there, a later limit", rigOptions{noLocal: true, env: threeSeconds}, 3 * s,
			"LiveLambda.NoAnswer", 2700 * time.Millisecond, "is `live-lambda local` running?", ""},
		{"margin of a quarter", rigOptions{noLocal: true}, 1 * s, "LiveLambda.NoAnswer",
			750 * time.Millisecond, "shortly before its deadline", ""},
		{"margin of a tenth", rigOptions{noLocal: true}, 5 * s, "LiveLambda.NoAnswer",
			4500 * time.Millisecond, "within 4.5s", ""},
		{"margin of a second", rigOptions{noLocal: true}, 900 * s, "LiveLambda.NoAnswer", 899 * s,
			"within 14m59s", ""},
		{"accepted, and silence", rigOptions{local: &localEnd{script: accepts}}, 900 * s, "LiveLambda.Gone",
			15 * s, "accepted the invocation and then was not heard of for 15s", "timeout"},
		{"accepted again, and silence", rigOptions{local: &localEnd{script: acceptsTwice}}, 900 * s,
			"LiveLambda.Gone", 20 * s, "for 15s", "timeout"},
		{"accepted, and silence until the deadline", rigOptions{local: &localEnd{script: accepts}}, 10 * s,
			"LiveLambda.NoAnswer", 9 * s, "accepted the invocation but did not answer within 9s", "timeout"},
		{"busy until the deadline", rigOptions{local: &localEnd{script: busy}, env: both}, 300 * s,
			"LiveLambda.NoAnswer", 299 * s, "accepted the invocation but did not answer", "timeout"},
		{"no link", rigOptions{before: unplug}, 900 * s, "deployed", 5 * s,
			"no connection to AppSync within 5s", ""},
		{"no link, a shorter timeout", rigOptions{before: unplug}, 8 * s, "deployed", 4 * s,
			"no connection to AppSync within 4s", ""},
		{"no link, a short timeout", rigOptions{before: unplug}, 1 * s, "deployed", s / 2,
			"no connection to AppSync within 500ms", ""},
		{"no link, as an error", rigOptions{before: unplug, env: offlineErrors}, 900 * s,
			"LiveLambda.Offline", 5 * s, "connection refused", ""},
		{"refused, as an error",
			rigOptions{fault: at("extension upgrade", status(403)).fault, env: offlineErrors}, 900 * s,
			"LiveLambda.Offline", 0, "appsync:EventConnect", ""},
		{"not configured, as an error", rigOptions{env: unconfigured}, 900 * s, "LiveLambda.Offline", 0,
			"LIVE_LAMBDA_APPSYNC_HTTP_HOST is not set", ""},
	}
	for _, tt := range tests {
		tt.opts.noLink = tt.opts.before != nil || tt.opts.fault != nil
		rigTest(t, tt.name, tt.opts, func(r *rig) {
			event := []byte(` {"n": 1.0} `)
			o := r.invokeRequest(invokeRequest{payload: event, timeout: tt.timeout})
			r.want(o, tt.want)
			if o.took.Round(s/100) != tt.took {
				r.t.Errorf("it took %v, want %v", o.took, tt.took)
			}
			says := tt.says
			if r.api.opts.graphql {
				says = strings.Replace(says, "appsync:EventConnect", "appsync:GraphQL on ", 1)
			}
			if said := string(o.payload) + r.log.String(); !strings.Contains(said, says) {
				r.t.Errorf("nothing says %q: %s", says, said)
			}
			if r.local != nil {
				r.local.wantTold(strings.Fields(tt.told)...)
			}
			if tt.want == "deployed" || tt.want == "LiveLambda.Offline" {
				r.wantAtOnce(tt.want, tt.took)
			}
			if got := r.runtime.got(); tt.want == "deployed" && got[0] != string(event) {
				r.t.Errorf("the deployed code got %q, want %q", got[0], event)
			} else if tt.want != "deployed" && len(got) > 0 {
				r.t.Errorf("the deployed code got %q", got)
			}
		})
	}
}

// wantAtOnce checks that invocations do not wait for ten seconds after one has waited in vain, and then do.
func (r *rig) wantAtOnce(want string, took time.Duration) {
	r.t.Helper()
	time.Sleep(missTimeout - time.Millisecond)
	if o := r.invoke(`2`); o.what != want || o.took != 0 {
		r.t.Errorf("within ten seconds: %s after %v, want %s at once", o.what, o.took, want)
	}
	time.Sleep(time.Millisecond)
	if o := r.invokeRequest(invokeRequest{payload: []byte(`3`)}); o.what != want || took > 0 && o.took == 0 {
		r.t.Errorf("after ten seconds: %s after %v, want %s", o.what, o.took, want)
	}
}

// With LIVE_LAMBDA_DELIVERY=runtime the deployed code gets the answer as its event, with the event's headers.
func TestDeliveryToTheRuntime(t *testing.T) {
	opts := rigOptions{env: map[string]string{"LIVE_LAMBDA_DELIVERY": "runtime"}}
	tests := []struct {
		name   string
		handle func(*delivery) localReply
		script func(*delivery)
		want   string // what the runtime got, or the error
	}{
		{"a response", func(*delivery) localReply {
			return localReply{part{Type: "response"}, []byte("not JSON")}
		}, nil, "not JSON"},
		{"an empty response", func(*delivery) localReply {
			return localReply{part{Type: "response"}, nil}
		}, nil, ""},
		{"a stream", func(*delivery) localReply {
			return localReply{
				part{Type: "response", Headers: map[string]string{modeHeader: "streaming"}},
				[]byte("streamed")}
		}, nil, "streamed"},
		{"a bare result", nil, func(d *delivery) { d.publish([]byte(`[null]`)) }, "[null]"},
		{"an error", func(*delivery) localReply {
			return localReply{part{Type: "error", ErrorType: "Runtime.MyError"}, []byte("{}")}
		}, nil, "error Runtime.MyError"},
	}
	for _, tt := range tests {
		opts.local, opts.events = &localEnd{handle: tt.handle, script: tt.script}, tt.script != nil
		rigTest(t, tt.name, opts, func(r *rig) {
			o := r.invokeRequest(
				invokeRequest{
					payload: []byte(`{"n":1}`), contentType: "application/x-event", clientContext: `{"c":1}`})
			got := "error " + o.what
			if o.functionError == "" {
				r.want(o, "deployed")
				got = r.runtime.got()[0]
			}
			if got != tt.want {
				r.t.Errorf("the runtime got %q, want %q", got, tt.want)
			}
			if h := r.runtime.headers(); o.functionError == "" &&
				(h[0].Get("Content-Type") != "application/x-event" ||
					h[0].Get("Lambda-Runtime-Client-Context") != `{"c":1}` ||
					h[0].Get("Content-Length") != fmt.Sprint(len(got))) {
				r.t.Errorf("the runtime got the headers %v", h[0])
			}
			if tt.script == nil {
				r.local.wantTold("answered")
			}
		})
	}
}

// What is not JSON cannot travel in a message.
func TestEvents(t *testing.T) {
	for _, tt := range []struct{ event, want, local string }{
		{``, "local", `null`},
		{" \n", "local", `null`},
		{`{"a":1,"a":2, "big": 1E400, "n": 0.10, "s": "\ud800\u0041é😀<>&"}`, "local",
			`{"a":1,"a":2,"big":1E400,"n":0.10,"s":"\ud800\u0041\u00e9\ud83d\ude00\u003c\u003e\u0026"}`},
		{`not JSON`, "deployed", ""},
		{`{"a":1} x`, "deployed", ""},
		{"\"\xff\"", "deployed", ""},
		{"\xef\xbb\xbf{}", "deployed", ""},
	} {
		rigTest(t, fmt.Sprintf("%q", tt.event), rigOptions{}, func(r *rig) {
			r.want(r.invoke(tt.event), tt.want)
			if tt.want == "deployed" {
				if got := r.runtime.got(); len(got) != 1 || got[0] != tt.event {
					r.t.Errorf("the deployed code got %q, want %q", got, tt.event)
				}
				r.want(r.invoke(`1`), "local") // this does not count as a local end that is not there
				return
			}
			r.local.mu.Lock()
			defer r.local.mu.Unlock()
			for _, d := range r.local.known {
				// in parts it travels as it is
				if got := string(d.event); got != tt.local &&
					!(r.api.opts.graphql && string(asciiJSON(d.event)) == tt.local) {
					r.t.Errorf("the local end got %s, want %s", got, tt.local)
				}
			}
		})
	}
}

// What the Runtime API may say of an event, deadlines above all. It answers next once, then holds it.
func TestNextHeaders(t *testing.T) {
	ms := func(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).UnixMilli()) }
	tests := []struct {
		name     string
		deadline func() string
		id       string
		local    bool // there is one
		want     string
		took     time.Duration
	}{
		{"to come", func() string { return ms(10 * time.Second) }, "id-1", true, "POST id-1/response", 0},
		{"to come, nobody there", func() string {
			return ms(10 * time.Second)
		}, "id-1", false, "POST id-1/error LiveLambda.NoAnswer", 9 * time.Second},
		{"past", func() string {
			return ms(-time.Hour)
		}, "id-1", true, "POST id-1/error LiveLambda.NoAnswer", 0},
		{"now", func() string { return ms(0) }, "id-1", true, "POST id-1/error LiveLambda.NoAnswer", 0},
		{"within the margin", func() string {
			return ms(200 * time.Millisecond)
		}, "id-1", true, "POST id-1/error LiveLambda.NoAnswer", 0},
		{"negative", func() string { return "-1" }, "id-1", true, "POST id-1/error LiveLambda.NoAnswer", 0},
		{"missing", func() string { return "" }, "id-1", true, "POST id-1/response", 0},
		{"missing, nobody there", func() string {
			return ""
		}, "id-1", false, "POST id-1/error LiveLambda.NoAnswer", 15*time.Minute - time.Second},
		{"not a number", func() string { return "soon" }, "id-1", true, "POST id-1/response", 0},
		{"beyond numbers", func() string {
			return "99999999999999999999"
		}, "id-1", true, "POST id-1/response", 0},
		{"in a far future", func() string {
			return "9223372036854775807"
		}, "id-1", true, "POST id-1/response", 0},
		{"an ID like a path", func() string {
			return ""
		}, "../a/b?c=d#e%2F", true, "POST ..%2Fa%2Fb%3Fc=d%23e%252F/response", 0},
		{"no ID", func() string { return "" }, "", true, "POST /response", 0},
	}
	for _, tt := range tests {
		api := &onceAPI{id: tt.id}
		rigTest(t, tt.name, rigOptions{runtimeAPI: api, noLocal: !tt.local, noRuntime: true}, func(r *rig) {
			api.given, api.deadline, api.told = false, tt.deadline(), make(chan string, 9)
			start := time.Now()
			r.runtime = r.startRuntime()
			got := <-api.told
			if took := time.Since(start); got != tt.want || took.Round(10*time.Millisecond) != tt.took {
				r.t.Errorf("the Runtime API was told %q after %v, want %q after %v", got, took, tt.want,
					tt.took)
			}
			synctest.Wait()
			if n := len(api.told); n > 0 {
				r.t.Errorf("and was told %q", <-api.told)
			}
		})
	}
}

// onceAPI is a Runtime API with one event.
type onceAPI struct {
	id, deadline string
	told         chan string
	given        bool
}

func (a *onceAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
		a.told <- strings.TrimSpace(
			"POST " + strings.TrimPrefix(r.URL.EscapedPath(), invocationPath) + " " +
				r.Header.Get(typeHeader))
	case !a.given:
		a.given = true
		if a.id != "" {
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", a.id)
		}
		if a.deadline != "" {
			w.Header().Set("Lambda-Runtime-Deadline-Ms", a.deadline)
		}
		io.WriteString(w, `{}`)
	default:
		<-r.Context().Done()
	}
}

// ---- faults of the Runtime API and the runtime ----

// The Runtime API does not take an answer. The extension lives on; the caller gets an error, or what the
// Runtime API had taken before its own answer was lost.
func TestRuntimeAPIFaults(t *testing.T) {
	for _, kind := range []string{"buffered", "streamed", "error"} {
		for _, tt := range []struct {
			name  string
			fault lambdaFault
			want  string
			tries int // attempts to complete the invocation
		}{
			{"400", lambdaFault{status: 400, errorType: "InvalidRequestID"}, "LiveLambda.AnswerRefused", 2},
			{"403", lambdaFault{status: 403, errorType: "InvalidStateTransition"}, "LiveLambda.AnswerRefused",
				2},
			{"413", lambdaFault{status: 413, errorType: "RequestEntityTooLarge"}, "LiveLambda.AnswerRefused",
				2},
			{"500", lambdaFault{status: 500}, "LiveLambda.AnswerRefused", 2},
			{"closed", lambdaFault{drop: true}, "LiveLambda.AnswerRefused", 2},
			{"500, but taken", lambdaFault{status: 500, late: true}, "local", 1},
			{"closed, but taken", lambdaFault{drop: true, late: true}, "local", 1},
		} {
			var opts rigOptions
			var faults atomic.Int32
			opts.lambda.fault = func(r *http.Request) lambdaFault {
				if r.Method == http.MethodPost && faults.Add(-1) == 0 {
					return tt.fault
				}
				return lambdaFault{}
			}
			want := tt.want
			if kind == "error" && want == "local" {
				want = "Runtime.MyError"
			}
			opts.local = &localEnd{handle: func(d *delivery) localReply {
				m := respond(`{"by":"local"}`)
				if kind == "streamed" {
					m.part.Headers[modeHeader] = "streaming"
				} else if kind == "error" && string(d.event) == "1" {
					m.part.Type, m.part.ErrorType = "error", "Runtime.MyError"
				}
				return m
			}}
			rigTest(t, kind+" "+tt.name, opts, func(r *rig) {
				faults.Store(1)
				o := r.invoke(`1`)
				if n := len(r.lambda.completions(o.requestID)); o.what != want || n != tt.tries {
					r.t.Errorf("got %s (%s), the Runtime API was told %d times; want %s, %d times", o.what,
						o.payload, n, want, tt.tries)
				}
				synctest.Wait() // the caller has its answer before the extension hears of it
				if !strings.Contains(r.log.String(), "did not take the answer") {
					r.t.Errorf("nothing of it in the log: %s", r.log)
				}
				faults.Store(1)
				if o := r.invokeRequest(
					invokeRequest{payload: []byte(`2`), timeout: time.Second}); o.what != want &&
					o.what != "local" {
					r.t.Errorf("with a timeout of a second: %s", o.what)
				}
				r.want(r.invoke(`3`), "local")
				r.wantHandled(3)
				if len(r.runtime.got()) > 0 {
					r.t.Errorf("the deployed code got %q, which the local end had accepted", r.runtime.got())
				}
			})
		}
	}
}

// A runtime that is killed while its call of next is held, and started again, gets what the first one would
// have got.
func TestRuntimeStartsAgain(t *testing.T) {
	const s = time.Second
	slow := &localEnd{handle: func(d *delivery) localReply {
		time.Sleep(10 * s)
		return respond(`{"by":"local"}`)
	}}
	tests := []struct {
		name    string
		opts    rigOptions
		down    time.Duration // from a second after the invocation began
		want    string
		events  int // that the second runtime gets
		handled int
	}{
		{"while the local end works", rigOptions{local: slow}, 0, "local", 0, 1},
		{"and is down while the local end answers", rigOptions{local: slow}, 20 * s, "local", 0, 1},
		{"before the deployed code has to answer",
			rigOptions{noLocal: true, env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "5s"}}, 0,
			"deployed", 1, 0},
		{"and is down when the deployed code has to answer",
			rigOptions{noLocal: true, env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "5s"}}, 20 * s,
			"deployed", 1, 0},
		{"and is down when nobody answers", rigOptions{noLocal: true, lambda: lambdaOptions{timeout: 10 * s}},
			20 * s, "LiveLambda.NoAnswer", 0, 0},
	}
	for _, tt := range tests {
		rigTest(t, tt.name, tt.opts, func(r *rig) {
			first := r.runtime
			restarted := after(s, func() {
				first.stop()
				time.Sleep(tt.down)
				r.runtime = r.startRuntime()
			})
			r.want(r.invoke(`1`), tt.want)
			<-restarted
			time.Sleep(30 * s)
			if n := len(r.runtime.got()); n != tt.events || len(first.got()) > 0 {
				r.t.Errorf("the runtimes got %d and %d events, want 0 and %d", len(first.got()), n, tt.events)
			}
			r.wantHandled(tt.handled)
			next := map[bool]string{true: tt.want, false: "local"}[tt.opts.noLocal]
			r.want(r.invoke(`2`), next)
		})
	}
	// The Runtime API did not take the answer of a local end, and hands the event out again to the next
	// runtime.
	var refuse atomic.Bool
	opts := rigOptions{env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "1s"}}
	opts.lambda.fault = func(r *http.Request) (f lambdaFault) {
		if r.Method == http.MethodPost && refuse.Load() {
			f.status = 500
		}
		return f
	}
	opts.local = &localEnd{handle: func(*delivery) localReply {
		time.Sleep(2 * s)
		return respond(`{"by":"local"}`)
	}}
	rigTest(t, "after an answer that was not taken", opts, func(r *rig) {
		refuse.Store(true)
		restarted := after(s, func() {
			r.runtime.stop()
			time.Sleep(4 * s)
			r.local.stop()
			refuse.Store(false)
			r.runtime = r.startRuntime()
		})
		o := r.invoke(`1`)
		<-restarted
		if o.what != "LiveLambda.AnswerRefused" || len(r.runtime.got()) > 0 {
			r.t.Errorf("got %s, and the deployed code ran %d times; want LiveLambda.AnswerRefused and 0",
				o.what, len(r.runtime.got()))
		}
	})
	// Both calls of next get the event from the Runtime API.
	rigTest(t, "without the first one ending",
		rigOptions{env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "5s"}, noLocal: true}, func(r *rig) {
			r.startRuntime()
			synctest.Wait()
			if o := r.invoke(`1`); o.what != "deployed" {
				r.t.Errorf("got %s, want deployed", o.what)
			}
		})
	rigTest(t, "without the first one ending, a local end there", rigOptions{}, func(r *rig) {
		r.startRuntime()
		synctest.Wait()
		for range 20 {
			r.want(r.invoke(`1`), "local")
		}
		r.wantHandled(20)
	})
	// What a local end has accepted, and then says nothing of for a while, is not deployed for the other
	// call's sake.
	silent := &localEnd{script: func(d *delivery) {
		d.say(localReply{part: part{Type: "accepted"}})
		time.Sleep(10 * s)
		d.say(respond(`{"by":"local"}`))
	}, again: func(*delivery) {}}
	rigTest(t, "without the first one ending, a local end there that hears the request once",
		rigOptions{local: silent, env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "1s"}}, func(r *rig) {
			second := r.startRuntime()
			synctest.Wait()
			r.want(r.invoke(`1`), "local")
			if n := len(r.runtime.got()) + len(second.got()); n > 0 {
				r.t.Errorf("the deployed code ran %d times", n)
			}
		})
}

// ---- streams ----

// streamed is a part of a streamed answer.
func streamed(d *delivery, index int, last bool, data string, trailers map[string]string) []byte {
	p := part{Type: "response", RequestID: d.requestID(), Sender: d.local.name, Index: index, Last: last,
		Trailers: trailers}
	if index == 0 {
		p.Headers = map[string]string{"Content-Type": "text/event-stream", modeHeader: "streaming"}
	}
	return p.encode([]byte(data))
}

func TestStreams(t *testing.T) {
	const s = time.Second
	broken := map[string]string{
		typeHeader: "Runtime.Oops", bodyHeader: "eyJlcnJvclR5cGUiOiJ4In0=", "X-Evil": "1",
		"Content-Length": "7"}
	tests := []struct {
		name    string
		timeout time.Duration
		script  func(*delivery)
		want    string // the stream's pieces, with the seconds that they came after
		fails   string // with this error, in trailers
		told    string
	}{
		{"as it comes", 60 * s, func(d *delivery) {
			d.publish(streamed(d, 0, false, "a", nil))
			time.Sleep(s)
			d.publish(streamed(d, 1, false, "b", nil), streamed(d, 2, false, "", nil))
			time.Sleep(s)
			d.publish(streamed(d, 3, true, "c", nil))
		}, "0s:a 1s:b 2s:c", "", "answered"},
		{"at once", 60 * s, func(d *delivery) {
			d.publish(streamed(d, 0, true, "abc", nil))
		}, "0s:abc", "", "answered"},
		{"empty", 60 * s, func(d *delivery) { d.publish(streamed(d, 0, true, "", nil)) }, "", "", "answered"},
		{"out of order and twice", 60 * s, func(d *delivery) {
			d.publish(streamed(d, 0, false, "a", nil), streamed(d, 2, false, "c", nil),
				streamed(d, 2, false, "c", nil))
			time.Sleep(s)
			d.publish(streamed(d, 0, false, "a", nil), streamed(d, 1, false, "b", nil),
				streamed(d, 3, true, "d", nil), streamed(d, 3, true, "d", nil))
		}, "0s:a 1s:b 1s:c 1s:d", "", "answered"},
		{"broken by the handler", 60 * s, func(d *delivery) {
			d.publish(streamed(d, 0, false, "a", nil), streamed(d, 1, true, "", broken))
		}, "0s:a", "Runtime.Oops", "answered"},
		{"broken with what is no header", 60 * s, func(d *delivery) {
			d.publish(streamed(
				d, 0, true, "a",
				map[string]string{typeHeader: "Runtime.Oops\r\nX-Evil: 1", bodyHeader: "\x00"}))
		}, "0s:a", "", "answered"},
		{"not ended, and silence", 60 * s, func(d *delivery) {
			d.publish(streamed(d, 0, false, "a", nil))
		}, "0s:a", "LiveLambda.Gone", "timeout"},
		{"not ended, and silence after a sign of life", 60 * s, func(d *delivery) {
			d.publish(streamed(d, 0, false, "a", nil))
			time.Sleep(10 * s)
			d.say(localReply{part: part{Type: "accepted"}})
		}, "0s:a", "LiveLambda.Gone", "timeout"},
		{"a part that never comes", 60 * s, func(d *delivery) {
			d.publish(streamed(d, 0, false, "a", nil), streamed(d, 2, true, "c", nil))
		}, "0s:a", "LiveLambda.Gone", "timeout"},
		{"not ended by the deadline", 5 * s, func(d *delivery) {
			d.publish(streamed(d, 0, false, "a", nil))
		}, "0s:a", "LiveLambda.NoAnswer", "timeout"},
	}
	for _, tt := range tests {
		rigTest(t, tt.name, rigOptions{local: &localEnd{script: tt.script}}, func(r *rig) {
			w := &pieces{start: time.Now()}
			o := r.invokeRequest(invokeRequest{payload: []byte(`1`), timeout: tt.timeout,
				onResponse: func(h http.Header) io.Writer {
					w.header = h.Clone()
					return w
				}})
			if got := strings.Join(w.got, " "); got != tt.want {
				r.t.Errorf("the caller got %q, want %q", got, tt.want)
			}
			r.wantTrailer(o, tt.fails)
			if w.header.Get("Content-Type") != "text/event-stream" ||
				w.header.Get(modeHeader) != "streaming" || w.header.Get("Content-Length") != "" ||
				w.header.Get("X-Evil") != "" {
				r.t.Errorf("headers %v", w.header)
			}
			r.local.wantTold(tt.told)
			r.local.script = nil
			r.want(r.invoke(`2`), "local")
		})
	}
}

// wantTrailer checks that an answer has ended with an error of a type in its trailers, or without one.
func (r *rig) wantTrailer(o invoked, errorType string) {
	r.t.Helper()
	if n := r.lambda.completions(o.requestID); len(n) != 1 || n[0].status != http.StatusAccepted {
		r.t.Fatalf("the Runtime API was told %d times: %v", len(n), n)
	}
	if got := o.trailer.Get(typeHeader); got != errorType {
		r.t.Errorf("trailers %v, want an error of type %q", o.trailer, errorType)
	}
	for name := range o.trailer {
		if name != typeHeader && name != bodyHeader {
			r.t.Errorf("trailers %v", o.trailer)
		}
	}
	var e struct{ ErrorType, ErrorMessage string }
	body, err := base64.StdEncoding.DecodeString(o.trailer.Get(bodyHeader))
	if err != nil || errorType != "" && json.Unmarshal(body, &e) != nil {
		r.t.Errorf("the error's body is %q, %v", body, err)
	}
	if strings.HasPrefix(errorType, "LiveLambda.") && (e.ErrorType != errorType || e.ErrorMessage == "") {
		r.t.Errorf("the error's body is %q", body)
	}
}

// pieces notes what is written to it, and when.
type pieces struct {
	start  time.Time
	header http.Header
	got    []string
}

func (w *pieces) Write(p []byte) (int, error) {
	w.got = append(w.got, fmt.Sprintf("%v:%s", time.Since(w.start).Round(10*time.Millisecond), p))
	return len(p), nil
}

// The link ends in the middle of a stream: at each part of it, before or after.
func TestLinkEndsInAStream(t *testing.T) {
	for _, ending := range []apiEnding{closePolitely, resetConnection, goHalfOpen} {
		for _, step := range []string{
			"extension data response 0", "extension data response 1", "extension data response 2",
			"local publish response 0", "local publish response 1", "local publish response 2"} {
			for _, before := range []bool{true, false} {
				rigTest(t, fmt.Sprint(ending, before, step), rigOptions{}, func(r *rig) {
					r.want(r.invoke(`0`), "local")
					r.local.script = streamsSlowly
					r.endAt(step, ending, before)
					w := &pieces{start: time.Now()}
					o := r.invokeRequest(
						invokeRequest{payload: []byte(`1`), onResponse: func(http.Header) io.Writer {
							return w
						}})
					var all strings.Builder
					for _, p := range w.got {
						_, piece, _ := strings.Cut(p, ":")
						all.WriteString(piece)
					}
					if all.String() != "abc" {
						r.t.Errorf("the caller got %q, want abc", w.got)
					}
					r.wantTrailer(o, "")
					r.local.script = nil
					r.want(r.invoke(`2`), "local")
				})
			}
		}
	}
}

// streamsSlowly streams three parts, a second apart, and repeats those it has until done.
func streamsSlowly(d *delivery) {
	d.say(localReply{part: part{Type: "accepted"}})
	for n := range 60 {
		for i := range min(n+1, 3) {
			d.publish(streamed(d, i, i == 2, "abc"[i:i+1], nil))
		}
		select {
		case <-time.After(time.Second):
		case <-d.over:
			return
		case <-d.ctx.Done():
			return
		}
	}
}

// The Runtime API ends, or refuses, a stream in the middle of it.
func TestRuntimeAPIEndsStreams(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(w http.ResponseWriter, r *http.Request)
	}{
		{"closed", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"413", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}},
		{"500", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
		}},
		{"no answer", func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}},
	} {
		api := &streamEndAPI{end: tt.end}
		script := func(d *delivery) {
			d.publish(streamed(d, 0, false, "a", nil))
			for i := 1; i < 120; i++ {
				time.Sleep(time.Second)
				d.publish(streamed(d, i, false, "b", nil))
			}
		}
		rigTest(t, tt.name, rigOptions{runtimeAPI: api, noRuntime: true, local: &localEnd{script: script}},
			func(r *rig) {
				api.calls, api.deadline, api.again = 0, time.Now().Add(time.Minute), make(chan struct{})
				r.runtime = r.startRuntime()
				<-api.again // the extension asks for the next event
				if got := len(r.runtime.got()); got != 0 {
					r.t.Errorf("the deployed code got %d events", got)
				}
				if !strings.Contains(r.log.String(), "did not take the answer") {
					r.t.Errorf("nothing of it in the log: %s", r.log)
				}
				if time.Since(api.deadline) > 0 {
					r.t.Errorf("the next event was asked for %v after the deadline", time.Since(api.deadline))
				}
			})
	}
}

// streamEndAPI is a Runtime API with one event, which ends the answer to it after a byte.
type streamEndAPI struct {
	end      func(http.ResponseWriter, *http.Request)
	deadline time.Time
	calls    int
	again    chan struct{}
}

func (a *streamEndAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		io.ReadFull(r.Body, make([]byte, 1))
		a.end(w, r)
		return
	}
	if a.calls++; a.calls == 1 {
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", "id-1")
		w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(a.deadline.UnixMilli()))
		io.WriteString(w, `{}`)
		return
	}
	close(a.again)
	<-r.Context().Done()
}

// A local server that knows nothing of version 1 answers with the bare result.
func TestBareResults(t *testing.T) {
	for _, result := range []string{`null`, `7`, `-1.50e+400`, `"text"`, `true`, `[]`, `{}`,
		` { "a" : [ 1 ] } `, `"é😀<>&='\ud83d"`, `{"a":1,"a":2}`,
		`{"live_lambda":2}`, `{"live_lambda":"1"}`, `{"live_lambda":null,"type":"response"}`,
		`{"LIVE_LAMBDA":1,"type":"error"}`, `[{"live_lambda":1}]`, `"\"live_lambda\":1"`} {
		script := func(d *delivery) { d.publish([]byte(result)) }
		rigTest(t, result, rigOptions{events: true, local: &localEnd{script: script}}, func(r *rig) {
			for range 2 { // the second one on a subscription of its own
				o := r.invoke(`{}`)
				if got, want := r.told(o), `response Content-Type="application/json" `+result; got != want {
					r.t.Errorf("the Runtime API was told %s, want %s", got, want)
				}
			}
			r.local.wantTold() // it would not know what that means
		})
	}
	// What says that it is of version 1, and is not, is no result.
	for _, event := range []string{`{"live_lambda":1}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","last":"yes"}`,
		`{"live_lambda":1,"type":"respond","request_id":"ID","last":true}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","index":-1,"last":true}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","last":true,"data":"a"}`,
		`{"live_lambda":1,"type":"response","request_id":"ID","last":true,"encoding":"br"}`,
		`{"live_lambda":1,"type":"response","request_id":"ffff/1","last":true}`,
		`{"live_lambda":1,"type":"response","request_id":"../../next","last":true}`,
		`{"live_lambda":1,"type":"done","request_id":"ID","last":true}`,
		`{"live_lambda":1,"type":"probe","request_id":"ID","last":true}`} {
		script := func(d *delivery) { d.publish([]byte(strings.Replace(event, "ID", d.requestID(), 1))) }
		rigTest(t, event, rigOptions{local: &localEnd{script: script}}, func(r *rig) {
			r.want(r.invokeRequest(invokeRequest{payload: []byte(`{}`), timeout: 3 * time.Second}),
				"LiveLambda.NoAnswer")
		})
	}
}

// A bare result does not say whose it is. On the link's own subscription it counts only while it can be
// nobody else's; then each invocation has a subscription of its own, which may deliver later than it is
// confirmed.
func TestBareResultsAreNobodyElses(t *testing.T) {
	const s = time.Second
	own := func(d *delivery) { d.publish(fmt.Appendf(nil, `{"event":%s}`, d.event)) }
	wantOwn := func(r *rig, o invoked, event string) {
		r.t.Helper()
		r.want(o, fmt.Sprintf(`{"event":%s}`, event))
	}
	for _, activation := range []time.Duration{0, 2 * s} {
		opts := rigOptions{
			events: true, api: eventAPIOptions{activation: activation}, local: &localEnd{script: own}}
		rigTest(t, fmt.Sprint("one after the other, activation ", activation), opts, func(r *rig) {
			time.Sleep(activation)
			for i := range 5 {
				wantOwn(r, r.invokeRequest(invokeRequest{payload: fmt.Append(nil, i), timeout: 30 * s}),
					fmt.Sprint(i))
			}
		})
		opts.lambda.maxConcurrency = 8
		rigTest(t, fmt.Sprint("eight at once, activation ", activation), opts, func(r *rig) {
			time.Sleep(activation)
			r.each(8, func(i int) {
				wantOwn(r, r.invokeRequest(
					invokeRequest{payload: fmt.Append(nil, i), timeout: 30 * s}), fmt.Sprint(i))
			})
		})
		var mu sync.Mutex
		var held []*delivery
		opts.local.script = func(d *delivery) {
			mu.Lock()
			defer mu.Unlock()
			if held = append(held, d); len(held) == 8 {
				for _, d := range slices.Backward(held) {
					own(d)
				}
				held = nil
			}
		}
		rigTest(t, fmt.Sprint("eight at once, answered backwards, activation ", activation), opts,
			func(r *rig) {
				time.Sleep(activation)
				r.each(8, func(i int) {
					wantOwn(r, r.invokeRequest(invokeRequest{payload: fmt.Append(nil, i), timeout: 30 * s}),
						fmt.
							Sprint(i))
				})
			})
	}
	late := func(d *delivery) {
		time.Sleep(4 * s) // the first invocation is over by then, and the second one out
		own(d)
	}
	rigTest(t, "a late one", rigOptions{events: true, local: &localEnd{script: late}}, func(r *rig) {
		r.want(r.invokeRequest(invokeRequest{payload: []byte(`1`), timeout: 3 * s}), "LiveLambda.NoAnswer")
		wantOwn(r, r.invokeRequest(invokeRequest{payload: []byte(`2`), timeout: 30 * s}), `2`)
	})
	twice := func(d *delivery) {
		own(d)
		time.Sleep(s)
		own(d)
	}
	rigTest(t, "the same again", rigOptions{events: true, local: &localEnd{script: twice}}, func(r *rig) {
		for i := range 4 {
			wantOwn(r, r.invokeRequest(invokeRequest{payload: fmt.Append(nil, i), timeout: 30 * s}),
				fmt.Sprint(i))
			time.Sleep(s / 2)
		}
	})
	rigTest(t, "a late one of a second server",
		rigOptions{events: true, local: &localEnd{handle: func(d *delivery) localReply {
			if string(d.event) == "2" {
				time.Sleep(8 * s)
			}
			return respond(`{"by":"local"}`)
		}}}, func(r *rig) {
			r.startLocal(&localEnd{name: "old", script: late})
			r.want(r.invoke(`1`), "local")
			r.want(r.invoke(`2`), "local")
		})
	rigTest(t, "after local ends of version 1",
		rigOptions{events: true, api: eventAPIOptions{activation: 2 * s}}, func(r *rig) {
			time.Sleep(2 * s)
			r.want(r.invoke(`1`), "local")
			r.want(r.invoke(`2`), "local")
			r.local.stop()
			r.startLocal(&localEnd{name: "old", again: own, script: own})
			time.Sleep(2 * s)
			for _, event := range []string{`3`, `4`} {
				wantOwn(r, r.invokeRequest(invokeRequest{payload: []byte(event), timeout: 30 * s}), event)
			}
		})
	rigTest(t, "more of them than one connection has room for",
		rigOptions{events: true, local: &localEnd{script: own}}, func(r *rig) {
			for i := range quotaSubscriptions + 10 {
				wantOwn(r, r.invokeRequest(
					invokeRequest{payload: fmt.Append(nil, i), timeout: 30 * s}), fmt.Sprint(i))
			}
		})
	rigTest(t, "one every 100 ms, of 6 seconds, activation 2s",
		rigOptions{events: true, api: eventAPIOptions{activation: 2 * s}, local: &localEnd{script: own},
			lambda: lambdaOptions{maxConcurrency: 64}}, func(r *rig) {
			time.Sleep(2 * s)
			r.each(60, func(i int) {
				time.Sleep(time.Duration(i) * s / 10)
				wantOwn(r, r.invokeRequest(invokeRequest{payload: fmt.Append(nil, i), timeout: 6 * s}),
					fmt.Sprint(i))
			})
		})
	strays := func(d *delivery) {
		d.local.publishTo(d.ctx, strings.Replace(d.requestID(), "/", "/9", 1), []byte(`"another's"`))
		own(d)
	}
	rigTest(t, "of an invocation that never was, from the second one on",
		rigOptions{events: true, local: &localEnd{script: own}}, func(r *rig) {
			wantOwn(r, r.invoke(`1`), `1`)
			r.local.script = strays
			wantOwn(r, r.invoke(`2`), `2`)
		})
}

// A request that nobody accepts goes out every two seconds where it is repeated at all, and meanwhile a link
// that is quiet has to show that it delivers.
func TestRequestsAreRepeated(t *testing.T) {
	rigTest(t, "", rigOptions{noLocal: true}, func(r *rig) {
		time.Sleep(50 * time.Second) // the link is quiet: a keep-alive comes every minute
		var requests, probes int
		r.intercept(func(f rigFrame) (v apiVerdict) {
			switch f.step {
			case "extension publish request 0":
				requests++
			case "extension publish probe 0":
				probes++
			}
			return v
		})
		r.want(r.invokeRequest(invokeRequest{payload: []byte(`1`), timeout: 100 * time.Second}),
			"LiveLambda.NoAnswer")
		most, least := 50, 35
		if !r.api.opts.graphql { // nobody of version 1 has been heard
			most, least = 1, 1
		}
		if requests > most || requests < least || probes < 11 || probes > 17 {
			r.t.Errorf("%d requests, %d probes", requests, probes)
		}
	})
}

// after calls f after d, and closes done then.
func after(d time.Duration, f func()) (done chan struct{}) {
	done = make(chan struct{})
	time.AfterFunc(d, func() {
		defer close(done)
		f()
	})
	return done
}

// each calls f n times at once.
func (r *rig) each(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// told is what the Runtime API was told of an invocation, once: the call, headers and body.
func (r *rig) told(o invoked) string {
	r.t.Helper()
	attempts := r.lambda.completions(o.requestID)
	if len(attempts) != 1 || attempts[0].status != http.StatusAccepted {
		r.t.Fatalf("the Runtime API was told %d times: %v", len(attempts), attempts)
	}
	words := []string{attempts[0].kind}
	for _, name := range slices.Sorted(maps.Keys(attempts[0].header)) {
		value := attempts[0].header.Get(name)
		switch {
		case name == idHeader && value == o.invocationID, name == "User-Agent", name == "Accept-Encoding",
			name == "Content-Length", name == "Transfer-Encoding", name == "Trailer":
		default:
			words = append(words, fmt.Sprintf("%s=%q", name, value))
		}
	}
	if attempts[0].header.Get(idHeader) == "" {
		words = append(words, "without the invocation's ID")
	}
	return strings.Join(append(words, string(o.payload)), " ")
}

// ---- faults of the link ----

// Every step of an invocation, at either end's connection, with the connection ending right before or after
// it.
func TestLinkEndsAtEveryStep(t *testing.T) {
	large := incompressible(230_000)
	steps := []struct{ step, event string }{
		{"extension publish request 0", `1`}, {"extension publish_success request 0", `1`},
		{"local data request 0", `1`},
		{"local publish accepted 0", `1`}, {"local publish_success accepted 0", `1`},
		{"extension data accepted 0", `1`},
		{"local publish response 0", `1`}, {"local publish_success response 0", `1`},
		{"extension data response 0", `1`}, {"extension data response 1", `1`},
		{"extension data response 2", `1`},
		{"extension publish done 0", `1`},
		{"extension publish request 0", large}, {"local data request 0", large},
		{"local data request 1", large},
	}
	for _, ending := range []apiEnding{closePolitely, resetConnection, goHalfOpen} {
		for _, when := range []string{"before", "after"} {
			for _, s := range steps {
				if len(s.event) > 1 && (ending != resetConnection || when == "after") {
					continue // what is large takes long, and is no different
				}
				name := fmt.Sprintf(
					"%s %s %s of %d bytes", []string{"", "closed", "reset", "half-open"}[ending], when,
					s.step, len(s.event))
				test := func(r *rig) { endAtStep(r, ending, when == "before", s.step, s.event) }
				// each answer has three
				rigTest(t, name, rigOptions{local: &localEnd{pieces: 8}}, test)
				// it has one
				if s.step != "extension data response 1" && s.step != "extension data response 2" {
					rigTest(t, name+" (real)", rigOptions{local: &localEnd{real: true}}, test)
				}
			}
		}
	}
}

func endAtStep(r *rig, ending apiEnding, before bool, step, event string) {
	r.want(r.invoke(`0`), "local") // a request is repeated where a local end of version 1 has been heard
	hit := r.endAt(step, ending, before)
	r.want(r.invoke(event), "local")
	r.want(r.invoke(`2`), "local")
	r.wantHandled(3)
	if !hit.Load() {
		r.t.Error("the step did not come")
	}
}

// endAt ends the connection once, right before or after a step; hit tells whether that has come.
func (r *rig) endAt(step string, ending apiEnding, before bool) (hit *atomic.Bool) {
	hit = new(atomic.Bool)
	r.intercept(func(f rigFrame) (v apiVerdict) {
		if f.step == step && !hit.Swap(true) {
			v.after = ending
			if before {
				v.replace = dropped
			}
		}
		return v
	})
	return hit
}

// A runtime's next may have a body, which is of no use to the calls that follow from it.
func TestNextWithBody(t *testing.T) {
	for _, body := range []string{
		"Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"} {
		rigTest(t, body, rigOptions{noRuntime: true}, func(r *rig) {
			conn, in := r.connect8082()
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\n%s", nextPath, body)
			if err := r.lambda.ready(r.ctx); err != nil {
				r.t.Fatal(err)
			}
			for range 3 {
				r.want(r.invoke(`1`), "local")
			}
			conn.Close()
			if _, err := in.ReadByte(); err == nil {
				r.t.Error("the runtime got an answer to next")
			}
			r.runtime = r.startRuntime()
			r.want(r.invoke(`2`), "local")
		})
	}
}

// Faults that are there when the extension dials, or that its first invocation meets.
func TestLinkFaults(t *testing.T) {
	const s, anyTime = time.Second, time.Duration(-1)
	tests := []struct {
		name string
		opts rigOptions
		want string
		took time.Duration
		log  string // has to be in the log
	}{
		// While there is no link: the deployed code, at once where AppSync refuses, else after five seconds.
		{"nobody listens", rigOptions{before: func(r *rig) { r.net.fail(rigAppSync, syscall.ECONNREFUSED) }},
			"deployed", 5 * s, "connection refused"},
		{"the name does not resolve",
			rigOptions{before: func(r *rig) {
				r.net.fail(rigAppSync, &net.DNSError{Err: "no such host", Name: "localhost"})
			}}, "deployed", 5 * s, "no such host"},
		{"the dial hangs", rigOptions{before: func(r *rig) { r.net.fail(rigAppSync, nil) }}, "deployed",
			5 * s, "still connecting"},
		{"401 at the upgrade", at("extension upgrade", status(401)), "deployed", 0,
			"grant appsync:EventConnect on arn:aws:appsync:us-east-1:ACCOUNT:apis/API_ID"},
		{"403 at the upgrade", at("extension upgrade", status(403)), "deployed", 0,
			"grant appsync:EventConnect"},
		{"500 at the upgrade", at("extension upgrade", status(500)), "deployed", 5 * s,
			"500 Internal Server Error"},
		{"429 at the upgrade", at("extension upgrade", status(429)), "deployed", 5 * s, "Too Many Requests"},
		{"no answer to the upgrade", at("extension upgrade", hang), "deployed", 5 * s, "still connecting"},
		{"cut off at the upgrade", at("extension upgrade", drop), "deployed", 5 * s, "EOF"},
		{"connection_error",
			at("extension connection_ack",
				instead(`{"type":"connection_error","errors":[{"errorType":"UnauthorizedException"}]}`,
					closePolitely)), "deployed", 0, "grant appsync:EventConnect"},
		{"no connection_ack", at("extension connection_ack", drop), "deployed", 5 * s, "still connecting"},
		{"closed before connection_ack",
			at("extension connection_ack", instead(`{"type":"ka"}`, closePolitely)), "deployed", 5 * s,
			"the connection ended: EOF"},
		{"no subscribe_success", at("extension subscribe_success", drop), "deployed", 5 * s,
			"still connecting"},
		{"subscribe_error", at("extension subscribe", reject("Unauthorized")), "deployed", 0,
			"grant appsync:EventSubscribe on arn:aws:appsync:us-east-1:ACCOUNT:apis/API_ID/" +
				"channelNamespace/live-lambda"},
		{"subscribe_error that passes", at("extension subscribe", reject("SubscriptionProcessingError")),
			"deployed", 5 * s, "SubscriptionProcessingError"},
		{"may not publish", at("extension publish probe 0", reject("UnauthorizedException")), "deployed", 0,
			"grant appsync:EventPublish on arn:aws:appsync:us-east-1:ACCOUNT:apis/API_ID/channelNamespace/" +
				"live-lambda"},
		{"the subscription never delivers", at("extension data probe 0", drop), "deployed", 5 * s,
			"still connecting"},
		{"a certificate for another name", rigOptions{tls: "example.com"}, "deployed", 5 * s,
			"certificate is valid for example.com, not localhost"},
		{"a certificate of nobody", rigOptions{tls: "localhost", noRoots: true}, "deployed", 5 * s,
			"certificate signed by unknown authority"},
		{"an HTTPS proxy that refuses", rigOptions{tls: "localhost", connect: 407}, "deployed", 5 * s,
			"Proxy Authentication Required"},
		{"an HTTPS proxy that works", rigOptions{tls: "localhost", connect: 200}, "local", 0, ""},

		{"confirmed two seconds before it delivers", rigOptions{api: eventAPIOptions{activation: 2 * s}},
			"local", 2 * s, ""},
		{"every frame takes 25 ms", rigOptions{api: eventAPIOptions{delay: 25 * time.Millisecond}}, "local",
			anyTime, ""},
	}
	for _, tt := range tests {
		tt.opts.noLink = true
		rigTest(t, tt.name, tt.opts, func(r *rig) {
			o := r.invoke(`1`)
			r.want(o, tt.want)
			if o.took.Round(s/10) != tt.took && tt.took != anyTime {
				r.t.Errorf("it took %v, want %v", o.took, tt.took)
			}
			r.wantLogged(tt.log)
			handled := 2
			if tt.want == "deployed" {
				if o := r.invoke(`2`); o.what != "deployed" || o.took != 0 {
					r.t.Errorf("the next invocation: %s after %v, want deployed at once", o.what, o.took)
				}
				handled = 1
			}
			r.mend()
			time.Sleep(missTimeout)
			r.ready()
			r.want(r.invoke(`3`), "local")
			r.wantHandled(handled)
		})
	}
}

// Faults of a link that has worked, at the next invocation.
func TestLinkFaultsLater(t *testing.T) {
	const s, anyTime = time.Second, time.Duration(-1)
	failed := func(code string) fault {
		return instead(
			`{"type":"publish_success","successful":[],"failed":[{"index":0,"code":"`+code+`"}]}`, stayOpen)
	}
	const request = "extension publish request 0"
	tests := []struct {
		name string
		opts rigOptions
		want string
		took time.Duration
		log  string
	}{
		{"the request is refused", at(request, reject("UnauthorizedException")), "deployed", 0,
			"grant appsync:EventPublish"},
		{"the request is malformed", at(request, reject("BadRequestException")), "deployed", 0,
			"BadRequestException"},
		{"no capacity at all", at(request, reject("LimitExceededError")), "deployed", 5 * s,
			"LimitExceededError"},
		{"no capacity, three times", at(request, times(3, reject("LimitExceededError"))), "local", 3 * s / 2,
			"LimitExceededError"},
		{"an error without a type", at(request, times(1, reject(""))), "local", s / 2, "no error type"},
		{"the event fails",
			both(at("extension publish_success request 0", failed("EventTooLargeException")),
				at("local data request 0", drop)), "deployed", 5 * s, "EventTooLargeException"},
		{"the event fails for now",
			both(at("extension publish_success request 0", failed("InternalFailure")),
				at("local data request 0", times(2, drop))), "local", s, "InternalFailure"},
		{"no publish_success", at("extension publish_success request 0", drop), "local", 0, ""},
		{"the event is lost", at("local data request 0", times(2, drop)), "local", 4 * s, ""},
		{"no publish_success and the event is lost",
			both(at("extension publish_success request 0", times(1, drop)),
				at("local data request 0", times(1, drop))), "local", anyTime, "no publish_success within 2"},
		{"the publish is lost", at(request, times(1, drop)), "local", anyTime, "no publish_success within 2"},
		{"accepted is lost", at("extension data accepted 0", drop), "local", 0, ""},
		{"the answer is lost, twice", at("extension data response 0", times(2, drop)), "local", 4 * s, ""},
		{"every event comes twice", rigOptions{fault: func(_ *rig, f rigFrame) (v apiVerdict) {
			if f.typ == "data" {
				v.replace = [][]byte{f.raw, f.raw}
			}
			return v
		}}, "local", 0, ""},
		{"done is lost", at("local data done 0", drop), "local", 0, ""},

		{"continuation frames and pings", rigOptions{fault: inPieces}, "local", 0, ""},
		{"events in arrays", rigOptions{api: eventAPIOptions{otherData: true}}, "local", 0, ""},
		{"what nobody asked for", rigOptions{fault: withNoise}, "local", 0, "is not valid"},
		{"what is not JSON", at("extension data accepted 0", times(1, instead(`{"type":`, stayOpen))),
			"local", anyTime, "invalid character"},
		{"a message of 3 MB",
			at("extension data accepted 0",
				instead(`{"type":"data","event":"`+strings.Repeat("x", 3<<20)+`"}`, stayOpen)), "local",
			anyTime, "incoming message larger than 2097152 bytes"},
		{"a binary message", at("extension data accepted 0", func(*rig, rigFrame) apiVerdict {
			return apiVerdict{wire: webSocketFrame(true, 2, []byte{0xff, 0})}
		}), "local", anyTime, "invalid character"},
	}
	for _, tt := range tests {
		f := tt.opts.fault
		tt.opts.fault = nil
		rigTest(t, tt.name, tt.opts, func(r *rig) {
			r.want(r.invoke(`0`), "local")
			if f != nil {
				r.intercept(func(frame rigFrame) apiVerdict { return f(r, frame) })
			}
			o := r.invoke(`1`)
			r.want(o, tt.want)
			if o.took.Round(s/10) != tt.took && tt.took != anyTime {
				r.t.Errorf("it took %v, want %v", o.took, tt.took)
			}
			r.wantLogged(tt.log)
			handled := 3
			if tt.want == "deployed" {
				r.want(r.invoke(`2`), "deployed")
				handled = 2
			}
			r.mend()
			time.Sleep(missTimeout)
			r.want(r.invoke(`3`), "local")
			if tt.want == "local" {
				handled = 3
			}
			r.wantHandled(handled)
		})
	}
}

// wantLogged checks that the log has a text, or what stands for it with a GraphQL API: other IAM actions, and
// nothing of a publish that net/http tries again by itself.
func (r *rig) wantLogged(text string) {
	r.t.Helper()
	if r.api.opts.graphql {
		text, _, _ = strings.Cut(text, "no publish_success")
		if strings.HasPrefix(text, "grant ") {
			text = map[bool]string{
				false: "/types/Subscription/fields/subscribe,",
				true:  "/types/Mutation/fields/publish,"}[strings.Contains(text, "Publish")]
			text = "grant appsync:GraphQL on arn:aws:appsync:us-east-1:ACCOUNT:apis/API_ID" + text
		}
	}
	synctest.Wait() // an invocation may end before the log tells why
	if !strings.Contains(r.log.String(), text) {
		r.t.Errorf("the log lacks %q:\n%s", text, r.log)
	}
}

// inPieces sends each message to the extension in three frames, with pings between them.
func inPieces(_ *rig, f rigFrame) (v apiVerdict) {
	if f.out && strings.HasPrefix(f.step, "extension ") {
		ping := webSocketFrame(true, 9, []byte("ping"))
		v.replace = dropped
		v.wire = slices.Concat(
			webSocketFrame(false, 1, f.raw[:5]), ping, ping, webSocketFrame(false, 0, nil),
			webSocketFrame(false, 0, f.raw[5:9]), ping, webSocketFrame(true, 0, f.raw[9:]))
	}
	return v
}

// withNoise has messages of all kinds that mean nothing precede each to the extension.
func withNoise(_ *rig, f rigFrame) (v apiVerdict) {
	if f.out && strings.HasPrefix(f.step, "extension ") {
		for _, noise := range []string{`{"type":"greetings","id":"1"}`,
			`{"type":"data","id":"77","event":"null"}`, `{"type":"publish_success","id":"77"}`,
			`{"type":"data","id":"1","event":[]}`, `{"type":"data","id":"1","event":["{\"live_lambda\":1}"]}`,
			`{"type":"data","id":"1","event":7}`, `null`, `[]`, ``,
			`{"type":"broadcast_error","id":"1","errors":[{"errorType":"MessageProcessingError"}]}`,
			`{"type":"error","errors":[{"errorType":"UnsupportedOperation","message":"one\ntwo"}]}`,
			`{"type":"ka"}`} {
			v.replace = append(v.replace, []byte(noise))
		}
		v.replace = append(v.replace, f.raw)
	}
	return v
}

// times is a fault that happens n times.
func times(n int, f fault) fault {
	happened := map[*rig]int{}
	return func(r *rig, frame rigFrame) apiVerdict {
		if happened[r]++; happened[r] > n {
			return apiVerdict{}
		}
		return f(r, frame)
	}
}

// both are two faults at different steps.
func both(a, b rigOptions) rigOptions {
	return rigOptions{fault: func(r *rig, f rigFrame) apiVerdict {
		if v := a.fault(r, f); v.replace != nil || v.wire != nil {
			return v
		}
		return b.fault(r, f)
	}}
}

// A link that is left alone: without keep-alives, for a day, and with more to say than one connection may.
func TestLinkLives(t *testing.T) {
	connections := func(r *rig) (n int) {
		r.api.wait(r.ctx, func(c *eventAPICounts) bool { n = c.connections; return true })
		return n
	}
	rigTest(t, "no keep-alives", at("extension ka", drop), func(r *rig) {
		r.want(r.invoke(`1`), "local")
		time.Sleep(time.Hour)
		if n := connections(r) - 2; n < 10 || n > 12 { // AppSync's connectionTimeoutMs is five minutes
			r.t.Errorf("%d connections in an hour", n)
		}
		r.want(r.invoke(`2`), "local")
	})
	rigTest(t, "no keep-alives within the server's own limit",
		rigOptions{api: eventAPIOptions{timeout: 30 * time.Second}, fault: at("extension ka", drop).fault},
		func(r *rig) {
			time.Sleep(10 * time.Minute)
			if n := connections(r) - 2; n < 18 {
				r.t.Errorf("%d connections in ten minutes", n)
			}
			r.want(r.invoke(`2`), "local")
		})
	rigTest(t, "a day", rigOptions{}, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		time.Sleep(22*time.Hour + 50*time.Minute)
		r.local.handle = func(*delivery) localReply {
			time.Sleep(14 * time.Minute)
			return respond(`{"by":"local"}`)
		}
		before := connections(r)
		r.want(r.invoke(`2`), "local") // from 22:50 to 23:04
		if n := connections(r); n != before {
			r.t.Errorf("%d connections, %d before: replaced in the middle of an invocation", n, before)
		}
		r.local.handle = nil
		o := r.invoke(`3`)
		if r.want(o, "local"); connections(r) != before+1 || o.took != 0 {
			r.t.Errorf("%d connections, %d before, %v; want one more, at once", connections(r), before,
				o.took)
		}
		time.Sleep(24 * time.Hour)
		r.want(r.invoke(`4`), "local")
		if strings.Contains(r.log.String(), "not connected") {
			r.t.Errorf("the log has %s", r.log)
		}
	})
	for _, tt := range []struct {
		name  string
		fault fault
	}{
		{"taken", func(*rig, rigFrame) apiVerdict { return apiVerdict{} }},
		{"429", times(5, status(429))},
		{"500", times(5, status(500))},
		{"cut off", times(5, drop)},
		{"taken, and the answer lost",
			times(5, func(*rig, rigFrame) apiVerdict { return apiVerdict{after: resetConnection} })},
	} {
		rigTest(t, "more than a connection may publish, over HTTPS: "+tt.name, rigOptions{}, func(r *rig) {
			r.intercept(func(f rigFrame) apiVerdict {
				if f.typ == "http_publish" && strings.Contains(f.step, "request") {
					return tt.fault(r, f)
				}
				return apiVerdict{}
			})
			for i := range 40 {
				r.want(r.invoke(fmt.Sprint(i)), "local")
			}
			r.wantHandled(40)
			if err := r.api.wait(r.ctx, func(c *eventAPICounts) bool {
				return c.busiest <= publishesPerSecond && c.publishes[0] > 20
			}); err != nil {
				r.t.Error(err)
			}
		})
	}
}

// A fault says what becomes of a frame.
type fault func(*rig, rigFrame) apiVerdict

// at is a fault at each frame of a step.
func at(step string, f fault) rigOptions {
	return rigOptions{fault: func(r *rig, frame rigFrame) apiVerdict {
		if frame.step != step {
			return apiVerdict{}
		}
		return f(r, frame)
	}}
}

func drop(*rig, rigFrame) apiVerdict { return apiVerdict{replace: dropped} }
func hang(*rig, rigFrame) apiVerdict { return apiVerdict{until: make(chan struct{})} }

func status(n int) fault { return func(*rig, rigFrame) apiVerdict { return apiVerdict{status: n} } }

// instead sends the client another message with the frame's ID, and then ends the connection as told.
func instead(message string, after apiEnding) fault {
	return func(r *rig, f rigFrame) apiVerdict {
		return apiVerdict{
			replace: [][]byte{r.message(f, strings.Replace(message, "{", fmt.Sprintf(`{"id":%q,`, f.id), 1))},
			after:   after}
	}
}

// message is a message of an Event API in a GraphQL API's words where the API is one; of its answer over
// HTTPS where f is one. What is not such a message stays as it is.
func (r *rig) message(f rigFrame, text string) []byte {
	var m struct {
		apiAnswer
		Failed []struct{ Code string }
		Event  any
	}
	if !r.api.opts.graphql || json.Unmarshal([]byte(text), &m) != nil {
		return []byte(text)
	}
	for _, e := range m.Failed {
		m.Errors = append(m.Errors, apiError{ErrorType: e.Code})
	}
	switch {
	case f.typ == "http_publish" || f.typ == "http_published":
		return mustJSON(map[string]any{"data": nil, "errors": m.Errors})
	case m.Type == "data":
		return mustJSON(
			map[string]any{
				"type": "data", "id": m.ID,
				"payload": map[string]any{
					"data": map[string]any{"subscribe": map[string]any{"data": m.Event}}}})
	}
	return graphqlAnswer(m.apiAnswer)
}

// reject answers an operation with an error; nothing is done.
func reject(errorType string) fault {
	return func(r *rig, f rigFrame) apiVerdict {
		answer := r.message(
			f, fmt.Sprintf(
				`{"type":"%s_error","id":%q,"errors":[{"errorType":%q,"message":"no"}]}`, f.typ, f.id,
				errorType))
		if f.typ == "http_publish" {
			return apiVerdict{status: http.StatusOK, wire: answer}
		}
		r.api.do(f.conn, apiVerdict{replace: [][]byte{answer}})
		return apiVerdict{replace: dropped}
	}
}

// incompressible is a JSON string of n bytes that gzip does not shorten.
func incompressible(n int) string {
	b := make([]byte, n*3/4)
	rand.NewChaCha8([32]byte{}).Read(b)
	return `"` + base64.RawURLEncoding.EncodeToString(b)[:n-2] + `"`
}

// ---- faults of the developer's end ----

func TestLocalEndGoes(t *testing.T) {
	const s = time.Second
	slow := func(d *delivery) localReply {
		if string(d.event) == `1` {
			time.Sleep(40 * s)
		}
		return respond(`{"by":"local"}`)
	}
	connections := func(r *rig, ending apiEnding) {
		conns, _ := r.api.subscribers(r.ctx, "/live-lambda/requests", 0)
		for _, c := range conns {
			r.api.do(c, apiVerdict{after: ending})
		}
	}
	again := func(r *rig) { r.local = r.startLocal(&localEnd{name: "again"}) }
	tests := []struct {
		name    string
		first   func(*rig) // before the invocation
		then    func(*rig) // eleven seconds later
		timeout time.Duration
		want    string
		took    time.Duration
		next    time.Duration
	}{
		// it was heard after 10 s
		{"in the middle, for good", nil, func(r *rig) {
			r.local.leave()
		}, 900 * s, "LiveLambda.Gone", 25 * s, 0},
		{"in the middle, and starts again", nil, func(r *rig) {
			r.local.leave()
			again(r)
		}, 900 * s, "LiveLambda.Gone", 25 * s, 0},
		{"in the middle, starts again, and the link is new", nil, func(r *rig) {
			r.local.leave()
			again(r)
			time.Sleep(s)
			_, conn := r.link()
			r.api.do(conn, apiVerdict{after: resetConnection})
		}, 900 * s, "LiveLambda.Gone", 25 * s, 0},
		{"in the middle, the deadline near", nil, func(r *rig) {
			r.local.leave()
		}, 20 * s, "LiveLambda.NoAnswer", 19 * s, 0},
		// the request goes out every two seconds
		{"before it accepted, and comes back", func(r *rig) {
			r.local.stop()
		}, again, 900 * s, "local", 12 * s, 0},
		{"its connection resets", nil, func(r *rig) {
			connections(r, resetConnection)
		}, 900 * s, "local", 40 * s, 0},
		{"its connection dies", nil, func(r *rig) {
			connections(r, goHalfOpen)
		}, 900 * s, "local", 40 * s, 0},
		{"asleep for an hour", nil, func(r *rig) {
			connections(r, goHalfOpen)
			awake := make(chan struct{})
			time.AfterFunc(time.Hour, func() { close(awake) })
			r.intercept(func(f rigFrame) (v apiVerdict) {
				if f.typ == "upgrade" || strings.HasPrefix(f.step, "local publish") {
					v.until = awake
				}
				return v
			})
		}, 900 * s, "LiveLambda.Gone", 25 * s, 2 * time.Hour},
	}
	for _, tt := range tests {
		rigTest(t, tt.name, rigOptions{local: &localEnd{handle: slow}}, func(r *rig) {
			r.want(r.invoke(`0`), "local")
			if tt.first != nil {
				tt.first(r)
			}
			done := after(11*s, func() { tt.then(r) })
			o := r.invokeRequest(invokeRequest{payload: []byte(`1`), timeout: tt.timeout})
			<-done
			r.want(o, tt.want)
			if r.wantHandled(2); len(r.handled) != 2 {
				r.t.Errorf("several local ends' handlers ran: %v", r.handled)
			}
			// a probe takes a request's turn
			if took := o.took.Round(s); took != tt.took && !(r.api.opts.graphql && took == tt.took+2*s) {
				r.t.Errorf("it took %v, want %v", o.took, tt.took)
			}
			time.Sleep(tt.next)
			if tt.want != "local" && tt.next == 0 {
				r.startLocal(&localEnd{name: "another"})
			}
			r.want(r.invoke(`2`), "local")
			r.wantHandled(3)
			if len(r.runtime.got()) > 0 {
				r.t.Errorf("the deployed code got %q", r.runtime.got())
			}
		})
	}
}

// With LIVE_LAMBDA_ACCEPT_TIMEOUT the deployed code runs where nobody accepts in that time, but not where
// accepted was lost, or is only late: what a local end has accepted is never also given to the deployed code.
func TestAcceptTimeout(t *testing.T) {
	const s = time.Second
	atLink := func(step string) func(*rig) {
		return func(r *rig) {
			_, conn := r.link()
			var hit atomic.Bool
			r.intercept(func(f rigFrame) (v apiVerdict) {
				switch {
				case f.step != step || hit.Swap(true):
				case f.conn == 0: // over HTTPS
					r.api.do(conn, apiVerdict{after: goHalfOpen})
				default:
					v.after = goHalfOpen
				}
				return v
			})
		}
	}
	once := func(step string, f fault) func(*rig) {
		judge := at(step, times(1, f)).fault
		return func(r *rig) { r.intercept(func(f rigFrame) apiVerdict { return judge(r, f) }) }
	}
	lastFrame := func(ago time.Duration) func(*rig) {
		return func(r *rig) {
			l, conn := r.link()
			r.api.do(conn, apiVerdict{after: goHalfOpen})
			synctest.Wait() // whatever was on its way has come
			l.conn.heard.Add(-int64(ago))
		}
	}
	tests := []struct {
		name   string
		accept string
		first  bool // invocation over the link
		fault  func(*rig)
		want   string
		took   time.Duration // 0: any
		delay  time.Duration // of every frame
	}{
		{"nobody is there", "3s", true, func(r *rig) { r.local.stop() }, "deployed", 3 * s, 0},
		{"nobody is there, and nobody was", "1500ms", false, func(r *rig) {
			r.local.stop()
		}, "deployed", 1500 * time.Millisecond, 0},
		{"accepted is lost", "3s", false, once("extension data accepted 0", drop), "local", 4 * s, 0},
		{"accepted is lost, not the first one", "3s", true, once("extension data accepted 0", drop), "local",
			4 * s, 0},
		{"AppSync has no capacity for accepted", "3s", false,
			once("local publish accepted 0", reject("LimitExceededError")), "local", 4 * s, 0},
		{"accepted dies with its connection", "3s", false, func(r *rig) {
			r.endAt("local publish accepted 0", goHalfOpen, true)
		}, "local", 0, 0},
		{"the link dies with the request", "3s", true, atLink("extension publish request 0"), "local", 0, 0},
		{"the link dies behind the request", "3s", true, atLink("extension publish_success request 0"),
			"local", 0, 0},
		{"the link dies behind accepted", "3s", true, atLink("extension data accepted 0"), "local", 0, 0},
		{"the link died while frozen for 10 seconds", "1500ms", true, lastFrame(10 * s), "local", 0, 0},
		{"the link died while frozen for 80 seconds", "1500ms", true, lastFrame(80 * s), "local", 0, 0},
		{"the link died, and the clock is set back", "3s", true, lastFrame(-300 * s), "local", 0, 0},
		{"the link died, and the clock is set back, without a timeout", "0", true, lastFrame(-300 * s),
			"local", 0, 0},
		{"accepted is on its way", "3s", false, once("local data request 0", func(*rig, rigFrame) apiVerdict {
			late := make(chan struct{})
			time.AfterFunc(2960*time.Millisecond, func() { close(late) })
			return apiVerdict{until: late}
		}), "local", 0, 25 * time.Millisecond},
	}
	for _, tt := range tests {
		opts := rigOptions{
			env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": tt.accept},
			api: eventAPIOptions{delay: tt.delay}, local: &localEnd{real: true}}
		rigTest(t, tt.name, opts, func(r *rig) {
			handled := 0
			if tt.first {
				handled++
				r.want(r.invoke(`1`), "local")
			}
			r.local.handle = func(*delivery) localReply {
				time.Sleep(4 * s)
				return respond(`{"by":"local"}`)
			}
			tt.fault(r)
			o := r.invokeRequest(invokeRequest{payload: []byte(`2`), timeout: time.Minute})
			r.want(o, tt.want)
			if tt.took != 0 && o.took.Round(s/10) != tt.took {
				r.t.Errorf("it took %v, want %v", o.took, tt.took)
			}
			if tt.want == "local" {
				handled++
				if got := r.runtime.got(); len(got) > 0 {
					r.t.Errorf("the deployed code got %q", got)
				}
			}
			time.Sleep(time.Minute)
			r.wantHandled(handled)
		})
	}
}

// Two local ends on one channel: each runs its handler once at the most, and one answer counts, whole.
func TestTwoLocalEnds(t *testing.T) {
	const s = time.Second
	answers := func(by string, after time.Duration) *localEnd {
		return &localEnd{name: by, pieces: 5, handle: func(*delivery) localReply {
			time.Sleep(after)
			return respond(`{"by":"` + by + `"}`)
		}}
	}
	accepts := &localEnd{name: "accepts", script: func(d *delivery) {
		d.say(localReply{part: part{Type: "accepted"}})
	}}
	begins := &localEnd{name: "begins", script: func(d *delivery) {
		d.publish(part{Type: "response", RequestID: d.requestID(), Sender: "begins"}.encode([]byte(`{"by":`)))
	}}
	fails := &localEnd{name: "fails", handle: func(*delivery) localReply {
		return localReply{part{Type: "error", ErrorType: "Runtime.MyError"}, []byte(`{}`)}
	}}
	tests := []struct {
		name   string
		locals []*localEnd
		want   string
	}{
		{"one is quicker", []*localEnd{answers("a", 3*s), answers("b", s)}, "b"},
		{"one never answers", []*localEnd{accepts, answers("b", 30*s)}, "b"},
		{"one begins to answer and goes", []*localEnd{begins, answers("b", s)}, "b"},
		{"one fails at once", []*localEnd{fails, answers("b", s)}, "Runtime.MyError"},
		{"three", []*localEnd{answers("a", 3*s), answers("b", 2*s), answers("c", s)}, "c"},
	}
	for _, tt := range tests {
		rigTest(t, tt.name, rigOptions{noLocal: true}, func(r *rig) {
			for _, l := range tt.locals {
				r.startLocal(l)
			}
			for i := range 3 {
				r.want(r.invoke(fmt.Sprint(i)), tt.want)
			}
			r.wantHandled(3)
		})
	}
	rigTest(t, "just as quick", rigOptions{noLocal: true}, func(r *rig) {
		r.startLocal(answers("a", s))
		r.startLocal(answers("b", s))
		for range 20 {
			if o := r.invoke(`1`); o.what != "a" && o.what != "b" {
				r.t.Errorf("got %s, of neither", o.what)
			} else {
				r.want(o, o.what)
			}
		}
		r.wantHandled(20)
	})
}

// Answers that come too often, too late, or to someone else.
func TestStrayAnswers(t *testing.T) {
	const s = time.Second
	other := func(d *delivery, id string) part {
		return part{Type: "response", RequestID: id, Sender: d.local.name}
	}
	link := func(d *delivery) string { l, _, _ := strings.Cut(d.requestID(), "/"); return l }
	var last atomic.Value
	tests := []struct {
		name   string
		script func(*delivery)
	}{
		{"twice", func(d *delivery) { d.say(respond(`{"by":"local"}`)); d.say(respond(`{"by":"twice"}`)) }},
		{"a hundred times", func(d *delivery) {
			for range 100 {
				d.say(respond(`{"by":"local"}`))
			}
		}},
		{"a response and an error", func(d *delivery) {
			d.say(respond(`{"by":"local"}`))
			d.say(localReply{part{Type: "error", ErrorType: "E"}, []byte(`{}`)})
		}},
		{"the one before, again", func(d *delivery) {
			if id := last.Swap(d.requestID()); id != nil {
				d.publish(part{
					Type: "response", RequestID: id.(string), Last: true, Sender: "local"}.encode(
					[]byte(`{"by":"the one before"}`)))
			}
			d.say(respond(`{"by":"local"}`))
		}},
		{"to another's channel", func(d *delivery) {
			for _, id := range []string{
				link(d) + "/99", link(d) + "/0", link(d) + "/probe", link(d) + "/18446744073709551616",
				"0123456789abcdef01234567/1", link(d)} {
				d.local.publishTo(d.ctx, id, other(d, id).event())
			}
			d.say(respond(`{"by":"local"}`))
		}},
		{"with another's ID on its own channel", func(d *delivery) {
			for _, id := range []string{
				link(d) + "/99", link(d) + "/", "/", "", "..", link(d) + "/1/2", "x/1", link(d) + "/-1",
				link(d) + "/+1"} {
				d.publish(other(d, id).event())
			}
			d.say(respond(`{"by":"local"}`))
		}},
	}
	for _, tt := range tests {
		last = atomic.Value{}
		rigTest(t, tt.name, rigOptions{local: &localEnd{script: tt.script}}, func(r *rig) {
			for i := range 5 {
				r.want(r.invoke(fmt.Sprint(i)), "local")
			}
		})
	}
	rigTest(t, "after the deadline", rigOptions{local: &localEnd{handle: func(d *delivery) localReply {
		if string(d.event) == "1" {
			time.Sleep(4 * s)
		}
		return respond(fmt.Sprintf(`{"by":"local","event":%s}`, d.event))
	}}}, func(r *rig) {
		r.want(r.invokeRequest(invokeRequest{payload: []byte(`1`), timeout: 3 * s}), "LiveLambda.NoAnswer")
		late := after(s, func() {}) // while this one is out, the late answer comes
		o := r.invoke(`2`)
		<-late
		r.want(o, "local")
		time.Sleep(5 * s)
		r.want(r.invoke(`3`), "local")
		r.local.wantTold("answered", "answered", "timeout")
	})
}

// ---- faults of the environment ----

// The environment was frozen for minutes: the socket is dead, nobody has said so, and the wall clock is
// ahead.
func TestFrozen(t *testing.T) {
	for _, ending := range []apiEnding{stayOpen, goHalfOpen, resetConnection, closePolitely} {
		frozen := func(r *rig) {
			r.want(r.invoke(`1`), "local")
			l, conn := r.link()
			r.api.do(conn, apiVerdict{after: ending})
			synctest.Wait()                           // whatever was on its way has come
			l.conn.heard.Add(-int64(5 * time.Minute)) // as it looks to whoever wakes up
			o := r.invoke(`2`)
			r.want(o, "local")
			if o.took > time.Second {
				r.t.Errorf("it took %v to find out", o.took)
			}
			r.wantHandled(2)
		}
		for _, real := range []bool{false, true} {
			opts := rigOptions{
				env: map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "3s"}, local: &localEnd{real: real}}
			rigTest(t, fmt.Sprint(ending, " real ", real), opts, frozen)
		}
	}
}

// Two copies of one snapshot count their invocations alike, and have a name each.
func TestCopiesOfASnapshot(t *testing.T) {
	rigTest(t, "", rigOptions{}, func(r *rig) {
		copies := make([]*tunnel, 3)
		ctx, cancel := context.WithCancel(r.ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		for i := range copies {
			copies[i] = newTunnel(r.proxy.tunnel.api, false)
			wg.Go(func() { copies[i].run(ctx) })
		}
		r.local.handle = func(d *delivery) localReply { return respond(string(d.event)) }
		names := map[string]bool{}
		for range 10 {
			for i, c := range copies {
				call := c.send(
					r.ctx, fmt.Append(nil, i),
					fmt.Appendf(nil, `{"request_id":"%d-%d","deadline_ms":9000000000000}`, i, len(names)), 0,
					time.Minute)
				a, err := call.wait()
				if err != nil {
					r.t.Fatal(err)
				}
				l := call.link
				if names[l.name] || !isSegment(l.name) || len(l.name) < 16 {
					r.t.Errorf("the link's name is %q", l.name)
				}
				names[l.name] = true
				if readAll(a.body) != fmt.Sprint(i) {
					r.t.Errorf("copy %d got another answer than its own", i)
				}
				call.finish()
				l.drop(errRetired)
				synctest.Wait()
			}
		}
	})
}

// Credentials are read at each operation: they change, and they end.
func TestCredentialsChange(t *testing.T) {
	first, second := credentials{"AKIDONE", "one", "token-1"}, credentials{"AKIDTWO", "two", "token-2"}
	opts := rigOptions{
		env: map[string]string{"LIVE_LAMBDA_APPSYNC_API_KEY": ""}, credentials: first,
		api: eventAPIOptions{credentials: []credentials{first}, region: "us-east-1"}}
	rigTest(t, "in time", opts, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		r.api.accept("da2-key", second)
		r.credentials.Store(&second)
		r.want(r.invoke(`2`), "local")
	})
	rigTest(t, "too late", opts, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		r.api.accept("da2-key", second)
		if o := r.invoke(`2`); o.what != "deployed" || o.took != 0 {
			r.t.Errorf("got %s after %v, want deployed at once", o.what, o.took)
		}
		time.Sleep(missTimeout)
		r.credentials.Store(&second)
		r.want(r.invoke(`3`), "local")
	})
	rigTest(t, "too late for a new connection", opts, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		r.api.accept("da2-key", second)
		r.api.do(2, apiVerdict{after: resetConnection})
		synctest.Wait()
		time.Sleep(time.Second)
		r.want(r.invoke(`2`), "deployed")
		r.credentials.Store(&second)
		time.Sleep(refusedPause)
		r.want(r.invoke(`3`), "local")
	})
	rigTest(t, "there are none", opts, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		r.credentials.Store(nil)
		o := r.invokeRequest(invokeRequest{payload: []byte(`2`), timeout: 10 * time.Second})
		if r.want(o, "deployed"); o.took.Round(time.Second) != 5*time.Second {
			r.t.Errorf("it took %v, want 5s", o.took)
		}
		r.credentials.Store(&first)
		time.Sleep(missTimeout)
		r.want(r.invoke(`3`), "local")
	})
}

// SHUTDOWN in the middle of an invocation: its caller hears of it, if there is time, and so does the local
// end.
func TestShutdownDuringAnInvocation(t *testing.T) {
	for _, accepted := range []bool{true, false} {
		rigTest(t, fmt.Sprint("accepted ", accepted), rigOptions{noLocal: !accepted}, func(r *rig) {
			if accepted {
				r.local.handle = func(d *delivery) localReply { <-d.over; return respond(`1`) }
			}
			done := after(time.Second, r.stopExtension)
			o := r.invoke(`1`)
			<-done
			r.want(o, "LiveLambda.NoAnswer")
			if o.took != time.Second ||
				!strings.Contains(string(o.payload), "the execution environment shut down") {
				r.t.Errorf("after %v: %s", o.took, o.payload)
			}
			if accepted {
				r.local.wantTold("timeout")
			}
		})
	}
	rigTest(t, "between invocations", rigOptions{}, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		synctest.Wait()
		r.stopExtension()
		synctest.Wait()
		// the runtime's call of next is held still
		if log := r.log.String(); strings.Contains(log, "level=ERROR") {
			r.t.Errorf("the log has %s", log)
		}
	})
}

// The extension's whole life on loopback, in this process: registration, with INVOKE or where that is refused
// without, an invocation, and SHUTDOWN in the middle of another one, which the emulated environment fails
// itself.
func TestRunUntilShutdown(t *testing.T) {
	for _, concurrency := range []int{1, 2} {
		t.Run(fmt.Sprint("concurrency ", concurrency), func(t *testing.T) {
			r := &rig{t: t, ctx: t.Context(), net: &pipeNetwork{real: true}, log: &logBook{},
				handled: map[string]int{}, concurrency: concurrency}
			defer r.close()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			r.url = "http://" + ln.Addr().String()
			r.api = startEventAPI(ln, eventAPIOptions{apiKey: "da2-key"})
			r.stops = append(r.stops, r.api.close)
			accepted := make(chan struct{})
			r.local = r.startLocal(&localEnd{handle: func(d *delivery) localReply {
				if string(d.event) == "2" {
					close(accepted)
					<-d.ctx.Done()
				}
				return respond(`{"by":"local"}`)
			}})
			r.lambda, err = startLambda(
				t.Context(),
				lambdaOptions{
					external: []string{"live-lambda-extension"}, maxConcurrency: concurrency,
					timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			port, err := freePort()
			if err != nil {
				t.Fatal(err)
			}
			cfg := r.config(
				map[string]string{"AWS_LAMBDA_RUNTIME_API": r.lambda.addr, "LRAP_LISTENER_PORT": port})
			r.proxyAddr = fmt.Sprint("127.0.0.1:", cfg.port)
			ended := make(chan error, 1)
			go func() { ended <- run(r.ctx, cfg, newLogger(cfg, r.log)) }()
			if _, err := r.lambda.waitFor(r.ctx, 0, func(ev lambdaEvent) bool {
				return ev.name == "extension registered"
			}); err != nil {
				t.Fatal(err)
			}
			r.startRuntime()
			r.want(r.invoke(`1`), "local")
			var cut invoked
			done := after(0, func() { cut = r.invoke(`2`) })
			<-accepted
			r.lambda.close()
			<-done
			if err := <-ended; err != nil {
				t.Errorf("run ended with %v", err)
			}
			if cut.what != "Sandbox.Failure" {
				t.Errorf("the invocation cut short ended with %s: %s", cut.what, cut.payload)
			}
			if err := r.api.wait(t.Context(), func(n *eventAPICounts) bool {
				return n.open == 1 && n.events["/live-lambda/requests"] >= 3
			}); err != nil {
				t.Error(err) // two requests, and done where the extension has heard of accepted
			}
		})
	}
}

// SHUTDOWN while a local end has an invocation and has not answered it: before run returns, the Runtime API
// has an error. The emulated environment fails such an invocation itself, so this one gives SHUTDOWN and
// takes what comes.
func TestRunTellsOfShutdown(t *testing.T) {
	r := &rig{t: t, ctx: t.Context(), net: &pipeNetwork{real: true}, log: &logBook{},
		handled: map[string]int{}}
	defer r.close()
	ln := listen(t)
	r.url = "http://" + ln.Addr().String()
	r.api = startEventAPI(ln, eventAPIOptions{apiKey: "da2-key"})
	r.stops = append(r.stops, r.api.close)
	taken := make(chan struct{})
	r.local = r.startLocal(&localEnd{handle: func(d *delivery) localReply {
		close(taken)
		<-d.ctx.Done()
		return respond(`1`)
	}})

	registered, shutdown, told := make(chan struct{}), make(chan struct{}), make(chan string, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2020-01-01/extension/register", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"functionName":"f"}`)
		close(registered)
	})
	mux.HandleFunc("GET /2020-01-01/extension/event/next", func(w http.ResponseWriter, _ *http.Request) {
		<-shutdown
		io.WriteString(w, `{"eventType":"SHUTDOWN","shutdownReason":"spindown"}`)
	})
	mux.HandleFunc("GET "+nextPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", "id-1")
		w.Header().Set(
			"Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(time.Minute).UnixMilli(), 10))
		io.WriteString(w, `1`)
	})
	mux.HandleFunc("POST "+invocationPath+"{id}/{what}", func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		told <- fmt.Sprintf(
			"%s %s %s %s %v", req.PathValue("id"), req.PathValue("what"), req.Header.Get(typeHeader), body,
			err)
		w.WriteHeader(http.StatusAccepted)
	})
	lambda := httptest.NewServer(mux)
	defer lambda.Close()

	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	cfg := r.config(
		map[string]string{
			"AWS_LAMBDA_RUNTIME_API": lambda.Listener.Addr().String(), "LRAP_LISTENER_PORT": port})
	ended := async(func() (bool, error) { return true, run(r.ctx, cfg, newLogger(cfg, r.log)) })
	select {
	case <-registered:
	case got := <-ended:
		t.Fatal(got.err)
	}
	next := async(func() (*http.Response, error) { return http.Get("http://127.0.0.1:" + port + nextPath) })
	select {
	case <-taken:
	case got := <-next:
		t.Errorf("the runtime got %v, %v; the log:\n%s", got.value, got.err, r.log)
	}
	close(shutdown)
	if got := <-ended; got.err != nil {
		t.Errorf("run ended with %v", got.err)
	}
	lambda.Close()
	close(told)
	var got []string
	for call := range told {
		got = append(got, call)
	}
	want := `id-1 error LiveLambda.NoAnswer {"errorMessage":"live-lambda: the execution environment shut ` +
		`down before there was an answer","errorType":"LiveLambda.NoAnswer"} <nil>`
	if !slices.Equal(got, []string{want}) {
		t.Errorf("the Runtime API was told %q, want %q", got, want)
	}
}

// Lambda's own deadline passes, whatever the extension thinks: the environment is reset.
func TestLambdaTimesOut(t *testing.T) {
	rigTest(t, "", rigOptions{}, func(r *rig) {
		expire := make(chan struct{})
		r.local.handle = func(d *delivery) localReply {
			if string(d.event) == "1" {
				close(expire)
				time.Sleep(time.Minute)
			}
			return respond(`{"by":"local"}`)
		}
		if o := r.invokeRequest(
			invokeRequest{payload: []byte(`1`), expire: expire}); o.what != "Sandbox.Timedout" {
			r.t.Errorf("got %s", o.what)
		}
		r.want(r.invoke(`2`), "local")
		time.Sleep(2 * time.Minute) // the late answer comes
		r.want(r.invoke(`3`), "local")
		r.wantHandled(3)
	})
}

// Many invocations at once, as on Managed Instances: each has its own answer.
func TestManyAtOnce(t *testing.T) {
	rigTest(t, "", rigOptions{lambda: lambdaOptions{maxConcurrency: 8}}, func(r *rig) {
		r.local.handle = func(d *delivery) localReply {
			time.Sleep(time.Duration(len(d.event)) * time.Second)
			return respond(string(d.event))
		}
		r.each(40, func(i int) {
			event := strings.Repeat("7", 1+i%5) + fmt.Sprint(i)
			r.want(r.invoke(event), event)
		})
		r.wantHandled(40)
		if err := r.api.wait(r.ctx, func(c *eventAPICounts) bool {
			return c.busiest <= publishesPerSecond && c.connections == 2
		}); err != nil {
			r.t.Error(err)
		}
	})
}

// ---- a soak ----

// TestSoak invokes again and again with faults drawn at random. SOAK=10000 is its full length; SOAK_SEED=N
// draws others.
func TestSoak(t *testing.T) { soakWith(t, &localEnd{}) }

// The same with the developer's end that users have.
func TestSoakReal(t *testing.T) { soakWith(t, &localEnd{real: true}) }

func soakWith(t *testing.T, local *localEnd) {
	n, seed := 60, uint64(1)
	if s := os.Getenv("SOAK"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	if s := os.Getenv("SOAK_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("SOAK=%d SOAK_SEED=%d", n, seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var apiFault atomic.Pointer[lambdaFault] // of the next answer
	opts := rigOptions{local: local}
	opts.lambda.fault = func(r *http.Request) (f lambdaFault) {
		if r.Method == http.MethodPost {
			if next := apiFault.Swap(nil); next != nil {
				f = *next
			}
		}
		return f
	}
	rigTest(t, "", opts, func(r *rig) {
		s := &soak{rig: r, rng: rng, apiFault: &apiFault, others: r.stops, outcomes: map[string]int{}}
		var half uint64
		for i := range n {
			if i == n/2 {
				half = heap()
			}
			s.round(i)
			if r.t.Failed() {
				r.t.Fatalf("round %d, %s", i, s.fault)
			}
		}
		perRound := (int64(heap()) - int64(half)) / int64(max(1, n-n/2))
		r.t.Logf("%d invocations, %d with a fault: %v; %d bytes of heap more for each of the second half", n,
			s.faults, s.outcomes, perRound)
		if n >= 5000 && perRound > 200 {
			r.t.Error("memory grows")
		}
	})
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// soak is a soak under way.
type soak struct {
	*rig
	rng      *rand.Rand
	apiFault *atomic.Pointer[lambdaFault]
	fault    string // of the round
	faults   int
	others   []func() // what stops all but the local end and the runtime
	outcomes map[string]int
	heard    atomic.Bool // the extension was told of a local end while it was refused for a while
}

// round invokes once, with a fault or without. Whatever happened, it leaves everything as it was.
func (s *soak) round(i int) {
	timeout := time.Duration(1+s.rng.IntN(60)) * time.Second
	work := timeout * time.Duration(max(0, s.rng.IntN(8)-4)) / 8 // most handlers take no time
	// The local end may still be at what the round before has given up.
	s.mu.Lock()
	s.local.handle = func(d *delivery) localReply {
		time.Sleep(work)
		return respond(`{"by":"local","event":` + string(d.event) + `}`)
	}
	s.mu.Unlock()
	s.fault = "no fault"
	s.heard.Store(false)
	undo := func() {}
	if s.rng.IntN(3) == 0 {
		s.faults++
		undo = s.draw()
	}
	event := fmt.Sprintf(
		`{"n":%d,"filler":"%s"}`, i,
		strings.Repeat("x", []int{0, 1, 10, 100, 1000, 1000, 1000, 20_000}[s.rng.IntN(8)]))
	o := s.invokeRequest(invokeRequest{payload: []byte(event), timeout: timeout})
	undo()
	s.outcomes[o.what]++
	s.check(o, event)
	s.mend()
	s.apiFault.Store(nil)
	if s.fault != "no fault" {
		time.Sleep(2 * missTimeout)
		s.ready()
		if o := s.invoke(`"clean"`); o.what != "local" {
			s.t.Errorf("after %s: %s, %s\n%s", s.fault, o.what, o.payload, s.log)
		}
	}
	s.forget()
}

// check checks that an invocation has one outcome, that it may have it, and that the answer is its own.
func (s *soak) check(o invoked, event string) {
	taken := 0
	for _, attempt := range s.lambda.completions(o.requestID) {
		if attempt.status == http.StatusAccepted {
			taken++
		}
	}
	s.mu.Lock()
	runs := s.handled["local "+o.requestID]
	s.mu.Unlock()
	switch {
	case taken != 1:
		s.t.Errorf("the Runtime API took %d answers: %v", taken, s.lambda.completions(o.requestID))
	case runs > 1:
		s.t.Errorf("the handler ran %d times", runs)
	case o.what == "local" && string(o.payload) != `{"by":"local","event":`+event+`}`:
		s.t.Errorf("the answer is another's: %.100s", o.payload)
	// what the local end said went with the connection
	case o.what == "deployed" && s.fault == "refused for a while" && !s.heard.Load():
	case o.what == "local" && s.fault != "no fault",
		o.what == "deployed" && runs == 0 && s.fault != "no fault",
		strings.HasPrefix(o.what, "LiveLambda.") && s.fault != "no fault":
	case o.what != "local":
		s.t.Errorf("%s after %v, %d runs: %s", o.what, o.took, runs, o.payload)
	}
}

// forget drops what the rig noted, which is not the extension's.
func (s *soak) forget() {
	s.mu.Lock()
	clear(s.handled)
	s.mu.Unlock()
	s.local.mu.Lock()
	clear(s.local.known)
	clear(s.local.done)
	clear(s.local.parts)
	s.local.mu.Unlock()
	s.runtime.mu.Lock()
	s.runtime.events, s.runtime.header = nil, nil
	s.runtime.mu.Unlock()
	s.log.reset()
	s.lambda.mu.Lock()
	s.lambda.log = nil
	s.lambda.mu.Unlock()
	s.api.update(func() {
		clear(s.api.counts.events)
		for _, c := range s.api.conns {
			if c.state == goHalfOpen {
				c.end() // the emulator keeps them for good
			}
		}
	})
	s.stops = append(slices.Clip(s.others), s.local.stop, s.runtime.stop)
}

var soakSteps = []string{
	"extension publish request 0", "extension publish_success request 0", "extension data accepted 0",
	"extension data response 0", "extension publish done 0",
	"local data request 0", "local publish accepted 0", "local publish_success accepted 0",
	"local publish response 0", "local publish_success response 0", "local data done 0",
}

// draw sets up a fault, once, at a step drawn at random, or somewhere else.
func (s *soak) draw() (undo func()) {
	step, n := soakSteps[s.rng.IntN(len(soakSteps))], 1+s.rng.IntN(3)
	pause := time.Duration(s.rng.IntN(20_000)) * time.Millisecond
	s.fault = step
	once := func(name string, f fault) func() {
		s.fault = name + " at " + step
		f = times(n, f)
		s.intercept(func(frame rigFrame) apiVerdict {
			if frame.step != step {
				return apiVerdict{}
			}
			return f(s.rig, frame)
		})
		return func() {}
	}
	idle := func(name string, end apiEnding) func() {
		s.fault = name
		_, conn := s.link()
		if s.rng.IntN(2) == 0 {
			conns, _ := s.api.subscribers(s.ctx, "/live-lambda/requests", 1)
			conn = conns[0]
		}
		s.api.do(conn, apiVerdict{after: end})
		return func() {}
	}
	switch s.rng.IntN(14) {
	case 0:
		return once("dropped", drop)
	case 1:
		return once("doubled", func(_ *rig, f rigFrame) apiVerdict {
			return apiVerdict{replace: [][]byte{f.raw, f.raw}}
		})
	case 2:
		return once("late", func(*rig, rigFrame) apiVerdict {
			until := make(chan struct{})
			time.AfterFunc(pause, func() { close(until) })
			return apiVerdict{until: until}
		})
	case 3, 4, 5:
		ending := apiEnding(s.rng.IntN(3) + 1)
		return once(fmt.Sprint("before ending ", ending), func(*rig, rigFrame) apiVerdict {
			return apiVerdict{replace: dropped, after: ending}
		})
	case 6, 7:
		ending := apiEnding(s.rng.IntN(3) + 1)
		return once(fmt.Sprint("after ending ", ending), func(*rig, rigFrame) apiVerdict {
			return apiVerdict{after: ending}
		})
	case 8:
		step = []string{"extension publish request 0", "local publish response 0"}[s.rng.IntN(2)]
		return once(
			"rejected", reject(
				[]string{"LimitExceededError", "UnauthorizedException",
					"MessageProcessingError"}[s.rng.IntN(3)]))
	case 9:
		return idle("an idle connection ends", apiEnding(s.rng.IntN(3)+1))
	case 10:
		s.fault = "the Runtime API does not take the answer"
		s.apiFault.Store(
			&lambdaFault{
				status: []int{400, 403, 413, 500}[s.rng.IntN(4)], late: s.rng.IntN(2) == 0,
				drop: s.rng.IntN(2) == 0})
	case 11:
		s.fault = "the runtime starts again"
		done := after(pause/10, func() {
			s.runtime.stop()
			s.runtime = s.startRuntime()
		})
		return func() { <-done }
	case 12:
		s.fault = "the local end starts again"
		done := after(pause/10, func() {
			s.local.stop()
			old := s.local
			s.local = s.startLocal(&localEnd{real: old.real, handle: old.handle})
		})
		return func() { <-done }
	case 13:
		s.fault = "refused for a while"
		idle("", resetConnection)
		s.intercept(func(f rigFrame) (v apiVerdict) {
			if f.typ == "upgrade" {
				v.status = []int{401, 403, 429, 500}[n]
			}
			if strings.HasPrefix(f.step, "extension data accepted") ||
				strings.HasPrefix(f.step, "extension data response") {
				s.heard.Store(true)
			}
			return v
		})
		s.fault = "refused for a while"
	}
	return func() {}
}

// ---- fuzz tests ----

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
			o := proxyOptions{runtimeAPI: api, offlineError: true}
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
			conn.SetReadDeadline(time.Now().Add(time.Minute)) // where the rest of a request is waited for
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
			o := r.invokeRequest(
				invokeRequest{
					payload: []byte(`1`), timeout: 3 * time.Second, onResponse: func(http.Header) io.Writer {
						return io.Discard
					}})
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

// ---- a bubble with everything in it ----

const (
	rigAppSync = "localhost:4000"
	rigLambda  = "127.0.0.1:9001"
	rigProxy   = "127.0.0.1:8082"
)

// rigOptions say how a rig differs from the usual one.
type rigOptions struct {
	env         map[string]string // of the extension; a value that is "-" unsets
	api         eventAPIOptions
	credentials credentials // of the extension, where it has no API key
	lambda      lambdaOptions
	local       *localEnd    // where not the usual one
	noLocal     bool         // none is started
	fault       fault        // judges every frame, from before the extension starts
	before      func(*rig)   // is called before the extension starts
	tls         string       // the name in the API's certificate, if TLS is spoken
	noRoots     bool         // the extension does not trust it
	connect     int          // there is an HTTPS proxy, with this answer to CONNECT
	runtimeAPI  http.Handler // instead of an emulated environment's
	noRuntime   bool
	noLambda    bool // the test listens itself
	noLink      bool // do not wait for the link
	events      bool // with an Event API only: of bare results, or of what its WebSocket publishes
}

// rig is everything in one bubble of fake time: an AppSync API, a Lambda environment, the extension between
// them, a runtime with the deployed code, and local ends.
type rig struct {
	t             *testing.T
	ctx           context.Context
	net           *pipeNetwork
	api           *eventAPI
	lambda        *lambdaEnv
	concurrency   int
	proxy         *proxy
	log           *logBook
	credentials   atomic.Pointer[credentials] // of the extension
	stopExtension func()
	tls           atomic.Pointer[tls.Certificate]
	roots         string // a file with it
	url           string // of AppSync, where not the usual one
	proxyAddr     string
	connect       atomic.Int64
	runtime       *deployedRuntime
	local         *localEnd
	stops         []func() // in reverse order

	mu      sync.Mutex
	handled map[string]int // runs of handlers, by local end and AWS request ID
}

// rigTest runs a test in a rig of its own, with an Event API and with a GraphQL API.
func rigTest(t *testing.T, name string, opts rigOptions, test func(*rig)) {
	t.Helper()
	if !opts.events && !opts.api.graphql {
		graphql := opts
		graphql.api.graphql = true
		rigTest(t, strings.TrimPrefix(name+" (GraphQL)", " "), graphql, test)
	}
	run := func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			defer time.Sleep(2 * time.Second) // for connections that linger
			r := newRig(t, opts)
			defer r.close()
			test(r)
		})
	}
	if name == "" {
		run(t)
		return
	}
	t.Run(name, run)
}

func newRig(t *testing.T, opts rigOptions) *rig {
	t.Helper()
	r := &rig{t: t, ctx: t.Context(), net: &pipeNetwork{hosts: map[string]*pipeListener{}}, log: &logBook{},
		handled: map[string]int{}}
	opts.api.apiKey = cmp.Or(opts.api.apiKey, "da2-key")
	r.api = startEventAPI(r.listenAppSync(opts), opts.api)
	r.stops = append(r.stops, r.api.close)
	r.startLambda(opts)
	if !opts.noLocal {
		r.local = r.startLocal(cmp.Or(opts.local, &localEnd{}))
	}
	if opts.before != nil {
		opts.before(r)
	}
	if opts.fault != nil {
		r.intercept(func(f rigFrame) apiVerdict { return opts.fault(r, f) })
	}
	r.startExtension(opts)
	if !opts.noRuntime {
		r.runtime = r.startRuntime()
		if err := r.lambda.ready(r.ctx); err != nil {
			t.Fatal(err)
		}
	}
	if r.proxy.tunnel != nil && !opts.noLink {
		r.ready()
	}
	return r
}

// startLambda starts the environment, or the Runtime API that stands for it.
func (r *rig) startLambda(opts rigOptions) {
	if opts.noLambda {
		return
	}
	ln := r.net.listen(rigLambda)
	r.concurrency = max(1, opts.lambda.maxConcurrency)
	if opts.runtimeAPI != nil {
		server := &http.Server{Handler: opts.runtimeAPI}
		var wg sync.WaitGroup
		wg.Go(func() { server.Serve(ln) })
		r.stops = append(r.stops, func() { server.Close(); wg.Wait() })
		return
	}
	opts.lambda.timeout = cmp.Or(opts.lambda.timeout, 15*time.Minute)
	opts.lambda.listener = ln
	var err error
	if r.lambda, err = startLambda(r.ctx, opts.lambda); err != nil {
		r.t.Fatal(err)
	}
	r.stops = append(r.stops, func() { r.lambda.close() })
}

// ready waits for the extension's link.
func (r *rig) ready() {
	r.t.Helper()
	for timeout := time.After(time.Minute); ; {
		r.proxy.tunnel.mu.Lock()
		l, err := r.proxy.tunnel.link, r.proxy.tunnel.err
		r.proxy.tunnel.mu.Unlock()
		if l != nil && l.ctx.Err() == nil {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-timeout:
			r.t.Fatal("no link:", err)
		}
	}
}

// link is the extension's link, and its connection's number.
func (r *rig) link() (l *link, conn int) {
	r.ready()
	r.proxy.tunnel.mu.Lock()
	l = r.proxy.tunnel.link
	r.proxy.tunnel.mu.Unlock()
	conns, _ := r.api.subscribers(r.ctx, "/live-lambda/response/"+l.name+"*", 1)
	return l, conns[0]
}

// mend takes back every fault.
func (r *rig) mend() {
	synctest.Wait() // for frames on their way
	r.api.intercept(nil)
	r.net.fail("", nil)
	r.connect.Store(http.StatusOK)
	if r.tls.Load() != nil {
		r.useCertificate("localhost")
	}
}

// listenAppSync listens as the API, with TLS where that is asked for.
func (r *rig) listenAppSync(opts rigOptions) net.Listener {
	ln := r.net.listen(rigAppSync)
	if opts.tls == "" {
		return ln
	}
	r.roots = filepath.Join(r.t.TempDir(), "roots.pem")
	r.useCertificate(opts.tls)
	if opts.noRoots {
		os.Remove(r.roots)
	}
	return tls.NewListener(
		ln, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return r.tls.Load(), nil
		}})
}

// useCertificate makes a certificate for name that signs itself, serves it, and has the extension trust it.
func (r *rig) useCertificate(name string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	template := &x509.
		Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		DNSNames:  []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(
		r.roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.tls.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
}

// startHTTPSProxy starts a proxy at proxy:3128, which answers CONNECT with the status in r.connect.
func (r *rig) startHTTPSProxy() {
	var wg sync.WaitGroup
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if n := int(r.connect.Load()); n != http.StatusOK {
			http.Error(w, "no", n)
			return
		}
		target, err := r.net.dial(req.Context(), "tcp", req.Host)
		if err != nil {
			r.t.Error(err)
			return
		}
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			r.t.Error(err)
			return
		}
		io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		wg.Go(func() { io.Copy(target, client); target.Close() })
		wg.Go(func() { io.Copy(client, target); client.Close() })
	})}
	ln := r.net.listen("proxy:3128")
	wg.Go(func() { server.Serve(ln) })
	r.stops = append(r.stops, func() { server.Close(); wg.Wait() })
}

func (r *rig) appSyncURL() string {
	if r.tls.Load() != nil {
		return "https://" + rigAppSync
	}
	return cmp.Or(r.url, "http://"+rigAppSync)
}

// config is the extension's configuration, changed by env.
func (r *rig) config(env map[string]string) config {
	all := map[string]string{
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST": r.appSyncURL(), "LIVE_LAMBDA_APPSYNC_API_KEY": "da2-key",
		"SSL_CERT_FILE": cmp.Or(r.roots, "/none"), "SSL_CERT_DIR": "/none",
		"AWS_LAMBDA_RUNTIME_API": rigLambda, "AWS_LAMBDA_FUNCTION_NAME": "function",
		"AWS_REGION": "us-east-1", "LIVE_LAMBDA_LOG_LEVEL": "debug",
		"LIVE_LAMBDA_APPSYNC_PROTOCOL": r.api.opts.protocol(),
	}
	maps.Copy(all, env)
	cfg, problems := readConfig(func(name string) string { return all[name] })
	if problems != nil {
		r.t.Fatal(problems)
	}
	return cfg
}

// startExtension does as run does, without registering: on the rig's network, and with its log.
func (r *rig) startExtension(opts rigOptions) {
	cfg := r.config(opts.env)
	lambda := r.net.transport()
	log := newLogger(cfg, r.log)
	o := proxyOptions{
		runtimeAPI: cfg.runtimeAPI, offlineError: cfg.offlineError, toRuntime: cfg.toRuntime,
		accept:   cfg.accept,
		function: cfg.function}
	var wg sync.WaitGroup
	linkCtx, stopLink := context.WithCancel(context.Background())
	var tn *tunnel
	appSync := &http.Transport{DialContext: r.net.dial, IdleConnTimeout: staleAfter}
	if cfg.api != nil {
		r.credentials.Store(&opts.credentials)
		keys := func(context.Context) (credentials, error) {
			if c := r.credentials.Load(); c != nil {
				return *c, nil
			}
			return credentials{}, errors.New("there are none")
		}
		if opts.connect != 0 {
			r.connect.Store(int64(opts.connect))
			r.startHTTPSProxy()
			appSync.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy:3128"})
		}
		api := newAppSync(endpoint(*cfg.api), cfg.roots, appSync, keys, log)
		o.addKeys = api.addKeys
		tn = newTunnel(api, cfg.toRuntime)
		wg.Go(func() { tn.run(linkCtx) })
	}
	p := newProxy(linkCtx, o, lambda, tn, log)
	server := &http.Server{
		Handler: p.handler(), MaxHeaderBytes: 2 << 20, DisableGeneralOptionsHandler: true,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	ln := r.net.listen(rigProxy)
	r.proxyAddr = rigProxy
	wg.Go(func() { server.Serve(ln) })
	r.proxy = p
	r.stopExtension = sync.OnceFunc(func() {
		p.stop()
		server.Close()
		stopLink()
		wg.Wait()
		lambda.CloseIdleConnections()
		appSync.CloseIdleConnections()
	})
	r.stops = append(r.stops, r.stopExtension)
}

func (r *rig) close() {
	for _, stop := range slices.Backward(r.stops) {
		stop()
	}
}

// invoked is what became of one invocation.
type invoked struct {
	invokeResult
	what string        // "local", "deployed", or an error type
	took time.Duration // until the caller had it
}

// invoke invokes the function and waits for what comes of it.
func (r *rig) invoke(payload string) invoked {
	r.t.Helper()
	return r.invokeRequest(invokeRequest{payload: []byte(payload)})
}

func (r *rig) invokeRequest(req invokeRequest) invoked {
	r.t.Helper()
	start := time.Now()
	res, err := r.lambda.invoke(r.ctx, req)
	if err != nil {
		r.t.Fatalf("invoke: %v", err)
	}
	o := invoked{invokeResult: res, took: time.Since(start)}
	var answer struct{ By string }
	switch {
	case res.functionError != "":
		o.what = res.errorType
		var e struct{ ErrorType string }
		if json.Unmarshal(res.payload, &e); strings.HasPrefix(e.ErrorType, "LiveLambda.") {
			o.what = e.ErrorType
		}
	case json.Unmarshal(res.payload, &answer) == nil && answer.By != "":
		o.what = answer.By
	default:
		o.what = string(res.payload)
	}
	return o
}

// want checks an outcome, and that the Runtime API was told exactly once.
func (r *rig) want(o invoked, what string) {
	r.t.Helper()
	if o.what != what {
		r.t.Errorf("got %s after %v (%s), want %s", o.what, o.took, o.payload, what)
	}
	if n := r.lambda.completions(o.requestID); len(n) != 1 || n[0].status != http.StatusAccepted {
		r.t.Errorf("the Runtime API was told %d times: %v", len(n), n)
	}
}

// wantHandled checks how many invocations a local handler ran for, and that it ran once for each.
func (r *rig) wantHandled(n int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	invocations := map[string]bool{}
	for key, runs := range r.handled {
		name, id, _ := strings.Cut(key, " ")
		invocations[id] = true
		if runs > 1 {
			r.t.Errorf("the handler of %s ran %d times for %s", name, runs, id)
		}
	}
	if len(invocations) != n {
		r.t.Errorf("local handlers ran for %d invocations, want %d", len(invocations), n)
	}
}

// deployedRuntime is the function's runtime with the deployed code, which answers {"by":"deployed"}.
type deployedRuntime struct {
	stop   func()
	mu     sync.Mutex
	events []string // that it got, byte for byte
	header []http.Header
}

func (d *deployedRuntime) got() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.events)
}

func (d *deployedRuntime) headers() []http.Header {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.header)
}

func (r *rig) startRuntime() *deployedRuntime {
	d := &deployedRuntime{}
	ctx, cancel := context.WithCancel(context.Background())
	transport := r.net.transport()
	var wg sync.WaitGroup
	for range r.concurrency {
		wg.Go(func() { runRuntime(ctx, transport, r.proxyAddr, d.handle) })
	}
	d.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		transport.CloseIdleConnections()
	})
	r.stops = append(r.stops, d.stop)
	return d
}

func (d *deployedRuntime) handle(header http.Header, event []byte) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events, d.header = append(d.events, string(event)), append(d.header, header)
	return `{"by":"deployed"}`
}

// runRuntime is a runtime's loop. It ends with ctx alone.
func runRuntime(
	ctx context.Context, transport http.RoundTripper, addr string, handle func(http.Header, []byte) string) {
	for ctx.Err() == nil {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+nextPath, nil)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			time.Sleep(100 * time.Millisecond) // the extension has stopped
			continue
		}
		event, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			continue
		}
		answer := strings.NewReader(handle(resp.Header, event))
		req, _ = http.NewRequestWithContext(
			ctx, http.MethodPost,
			"http://"+addr+invocationPath+resp.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response",
			answer)
		req.Header.Set(idHeader, resp.Header.Get(idHeader))
		if resp, err = transport.RoundTrip(req); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
}

// logBook keeps log lines.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// ---- frames, as faults see them ----

// rigFrame is a frame with the step that it is of an invocation: the connection's end (extension or local),
// the frame's type, and the type and index of the message in it.
type rigFrame struct {
	apiFrame
	step string
}

// intercept has hook judge every frame from now on.
func (r *rig) intercept(hook func(rigFrame) apiVerdict) {
	ends, published := map[int]string{}, map[string]string{}
	conns, _ := r.api.subscribers(r.ctx, "/live-lambda/requests", 0)
	for _, c := range conns {
		ends[c] = "local"
	}
	r.api.intercept(func(f apiFrame) apiVerdict {
		if f.typ == "subscribe" && f.channel == "/live-lambda/requests" {
			ends[f.conn] = "local"
		}
		what, key, end, typ := "", fmt.Sprint(f.conn, " ", f.id), cmp.Or(ends[f.conn], "extension"), f.typ
		switch f.typ {
		case "publish", "data", "http_publish", "http_published":
			what = messageIn(f.events[0])
			published[key] = what
		case "publish_success", "publish_error":
			what = published[key]
			delete(published, key)
		}
		if r.api.opts.graphql && strings.HasPrefix(f.typ, "http_") { // the steps are the same
			typ = map[string]string{"http_publish": "publish", "http_published": "publish_success"}[f.typ]
			if kind, _, _ := strings.Cut(what, " "); slices.Contains(
				[]string{"accepted", "response", "error"}, kind) {
				end = "local"
			}
		}
		return hook(rigFrame{f, strings.TrimSpace(end + " " + typ + " " + what)})
	})
}

// messageIn tells type and index of the message in an event.
func messageIn(event string) string {
	if p, _ := parsePart(event); p != nil && p.Type != "" {
		return fmt.Sprint(p.Type, " ", p.Index)
	} else if p != nil {
		return "request 0"
	}
	return "bare"
}

// ---- local ends ----

// localEnd is a local end of version 1 with a handler of its own, as `live-lambda local` has it, or that
// itself.
type localEnd struct {
	rig    *rig
	name   string
	real   bool // it is the program's own; of what follows it has the handler alone
	up     chan struct{}
	leave  func()                     // ends it, but for its handlers
	stop   func()                     // and waits for those
	handle func(*delivery) localReply // the handler; nil: answers {"by":"local"}
	script func(*delivery)            // instead of all that a local end does with a request
	again  func(*delivery)            // where the request comes again
	pieces int                        // bytes in a part of its answers, where not as many as possible

	mu      sync.Mutex
	session *session
	parts   map[string][]*part   // of requests, by request ID
	known   map[string]*delivery // by AWS request ID and deadline
	done    map[string]string    // outcomes told, by request ID
	wg      sync.WaitGroup
}

// delivery is one request as a local end has it.
type delivery struct {
	local   *localEnd
	id      string // request_id, the latest one
	event   json.RawMessage
	context eventContext
	raw     string
	again   chan struct{} // it came again
	over    chan struct{} // closed: the extension said done
	ctx     context.Context
}

// startLocal starts a local end like l.
func (r *rig) startLocal(l *localEnd) *localEnd {
	r.t.Helper()
	l = &localEnd{rig: r, name: cmp.Or(l.name, "local"), real: l.real, handle: l.handle, script: l.script,
		again: l.again, pieces: l.pieces,
		up: make(chan struct{}, 1), parts: map[string][]*part{}, known: map[string]*delivery{},
		done: map[string]string{}}
	cfg, _ := readConfig(func(name string) string {
		return map[string]string{
			"LIVE_LAMBDA_APPSYNC_HTTP_HOST": r.appSyncURL(), "LIVE_LAMBDA_APPSYNC_API_KEY": "da2-key",
			"LIVE_LAMBDA_APPSYNC_PROTOCOL": r.api.opts.protocol()}[name]
	})
	transport := r.net.transport()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	a := newAppSync(endpoint(*cfg.api), nil, transport, nil, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	if l.real {
		wg.Go(func() { l.runReal(ctx, a) })
	} else {
		wg.Go(func() { l.run(ctx, a) })
	}
	l.leave = cancel
	l.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		l.wg.Wait()
		a.transport.CloseIdleConnections()
	})
	r.stops = append(r.stops, l.stop)
	select {
	case <-l.up:
	case <-time.After(time.Minute):
		r.t.Fatal("the local end does not connect")
	}
	return l
}

func (l *localEnd) run(ctx context.Context, a *appsync) {
	a.run(ctx, func(s *session) (bool, error) {
		if err := s.subscribe(ctx, ackTimeout, a.requests, func(event string) {
			l.receive(ctx, event)
		}); err != nil {
			return false, err
		}
		l.use(s)
		notify(l.up)
		<-s.ctx.Done()
		return true, context.Cause(s.ctx)
	}, func(error) { l.use(nil) })
}

// runReal runs what `live-lambda local` runs. Its runtime is a goroutine that came by itself, as from a
// debugger, and asks over the rig's network, whose connections have no address to be known for this machine's
// (guarded).
func (l *localEnd) runReal(ctx context.Context, a *appsync) {
	term := &terminal{out: l, errors: l, columns: func() int {
		return 0
	}, chunks: make(chan chunk, waitingLines)}
	term.start()
	defer term.close()
	a.log = term.logger(slog.LevelDebug)
	real := newLocal(localOptions{}, term)
	real.attach = newWorker(&pool{local: real, name: "attached runtime"})
	real.attachServer = &http.Server{Handler: real.attach.routes(), ErrorLog: real.quiet}
	ln, transport := l.rig.net.listen(l.name+":80"), l.rig.net.transport()
	defer transport.CloseIdleConnections()
	real.wg.Go(func() { real.attachServer.Serve(ln) })
	l.wg.Go(func() {
		runRuntime(ctx, transport, ln.host, func(header http.Header, event []byte) string {
			d := &delivery{
				local: l, event: event,
				context: eventContext{RequestID: header.Get("Lambda-Runtime-Aws-Request-Id")}}
			return string(d.run().body)
		})
	})
	newSubscriber(a, real).run(ctx)
	real.close()
}

// Write takes what the real one's terminal shows.
func (l *localEnd) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("waiting for invocations")) {
		notify(l.up)
	}
	return l.rig.log.Write(p)
}

func (l *localEnd) use(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = s
}

// receive takes an event from the requests channel, in the reader's goroutine.
func (l *localEnd) receive(ctx context.Context, event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, _ := parsePart(event)
	switch {
	case p != nil && p.Type == "done":
		l.done[p.RequestID] = p.Outcome
		for _, d := range l.known {
			if d.id == p.RequestID {
				select {
				case <-d.over:
				default:
					close(d.over)
				}
			}
		}
		return
	case p != nil && p.Type == "request":
		parts := append(l.parts[p.RequestID], p)
		l.parts[p.RequestID] = parts
		whole, err := joinWhole(parts)
		if err != nil {
			l.rig.t.Error(err)
		}
		if whole == nil {
			return
		}
		delete(l.parts, p.RequestID)
		event = string(whole)
	}
	var request struct {
		RequestID    string          `json:"request_id"`
		EventPayload json.RawMessage `json:"event_payload"`
		Context      eventContext    `json:"context"`
	}
	if err := json.Unmarshal([]byte(event), &request); err != nil || request.RequestID == "" {
		l.rig.t.Errorf("not a request: %q, %v", event, err)
		return
	}
	key := fmt.Sprint(request.Context.RequestID, request.Context.DeadlineMs)
	if by := request.Context.AcceptedBy; by != "" && by != l.name {
		return
	}
	if d := l.known[key]; d != nil {
		d.id = request.RequestID
		notify(d.again)
		if l.again != nil {
			l.wg.Go(func() { l.again(d) })
		}
		return
	}
	d := &delivery{local: l, id: request.RequestID, event: request.EventPayload, context: request.Context,
		raw:   event,
		again: make(chan struct{}, 1), over: make(chan struct{}), ctx: ctx}
	l.known[key] = d
	l.wg.Go(d.serve)
}

// wantTold compares the outcomes that a local end has been told.
func (l *localEnd) wantTold(want ...string) {
	l.rig.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := slices.Sorted(maps.Values(l.done)); !slices.Equal(got, want) {
		l.rig.t.Errorf("the local end was told %v, want %v", got, want)
	}
}

// joinWhole joins the parts of a message, in whatever order and however often they came, once they are all
// there.
func joinWhole(parts []*part) ([]byte, error) {
	ordered := map[int]*part{}
	n := -1
	for _, p := range parts {
		ordered[p.Index] = p
		if p.Last {
			n = p.Index + 1
		}
	}
	if len(ordered) != n {
		return nil, nil
	}
	var body []byte
	for i := range n {
		body = append(body, ordered[i].data...)
	}
	if parts[0].Encoding != "gzip" {
		return body, nil
	}
	zr, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zr)
}

// localReply is a local handler's answer.
type localReply struct {
	part part
	body []byte
}

// respond is the reply of a handler that returned body.
func respond(body string) localReply {
	return localReply{
		part{Type: "response", Headers: map[string]string{"Content-Type": "application/json"}}, []byte(body)}
}

// serve accepts, runs the handler, and answers until the extension says that it knows.
func (d *delivery) serve() {
	if d.local.script != nil {
		d.local.script(d)
		return
	}
	ctx, cancel := context.WithDeadline(d.ctx, time.UnixMilli(d.context.DeadlineMs))
	defer cancel()
	answer := localReply{part: part{Type: "accepted"}}
	d.say(answer)
	handled := make(chan localReply, 1)
	d.local.wg.Go(func() { handled <- d.run() })
	every := time.NewTicker(5 * time.Second)
	defer every.Stop()
	for {
		select {
		case answer = <-handled:
			every.Reset(2 * time.Second)
		case <-every.C:
		case <-d.again:
		case <-d.over:
			return
		case <-ctx.Done():
			return
		}
		d.say(answer)
	}
}

// run runs the handler.
func (d *delivery) run() localReply {
	r := d.local.rig
	r.mu.Lock()
	r.handled[d.local.name+" "+d.context.RequestID]++
	handle := d.local.handle
	r.mu.Unlock()
	if handle != nil {
		return handle(d)
	}
	return respond(fmt.Sprintf(`{"by":"local","got":%d}`, len(d.event)))
}

// say publishes a message about the delivery. What is lost is said again.
func (d *delivery) say(m localReply) {
	m.part.RequestID, m.part.Sender = d.requestID(), d.local.name
	if d.local.pieces == 0 || m.part.Type == "accepted" {
		d.publish(slices.Collect(m.part.split(m.body))...)
		return
	}
	var events [][]byte
	for piece := range slices.Chunk(m.body, d.local.pieces) {
		m.part.Last = (len(events)+1)*d.local.pieces >= len(m.body)
		events = append(events, m.part.encode(piece))
		m.part.Index, m.part.Headers = m.part.Index+1, nil
	}
	d.publish(events...)
}

// publish publishes events on the delivery's channel, as they are.
func (d *delivery) publish(events ...[]byte) {
	d.local.publishTo(d.ctx, d.requestID(), events...)
}

func (d *delivery) requestID() string {
	d.local.mu.Lock()
	defer d.local.mu.Unlock()
	return d.id
}

func (l *localEnd) publishTo(ctx context.Context, requestID string, events ...[]byte) {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s != nil {
		s.publish(ctx, s.channel(requestID), slices.Values(events), true)
	}
}

// ---- a network of pipes ----

// pipeNetwork connects the names that listen on it, and nothing else.
type pipeNetwork struct {
	mu    sync.Mutex
	hosts map[string]*pipeListener
	lost  []string // addresses that were dialled and are not there
	bad   string   // the address that cannot be dialled
	why   error    // nil: dialling it hangs
	real  bool     // it is no network of pipes after all
}

// fail makes dials of addr fail with err, or hang.
func (n *pipeNetwork) fail(addr string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bad, n.why = addr, err
}

func (n *pipeNetwork) listen(addr string) *pipeListener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := newPipeListener(addr)
	n.hosts[addr] = l
	return l
}

// transport is Lambda's own way: as run has it.
func (n *pipeNetwork) transport() *http.Transport {
	return &http.Transport{DialContext: n.dial, DisableCompression: true, MaxIdleConnsPerHost: 64}
}

func (n *pipeNetwork) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if n.real {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	n.mu.Lock()
	l, bad, why := n.hosts[addr], n.bad == addr, n.why
	if l == nil {
		n.lost = append(n.lost, addr)
	}
	n.mu.Unlock()
	if bad && why != nil {
		return nil, why
	}
	if bad {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: pipeAddr(addr), Err: syscall.ECONNREFUSED}
	}
	a, b := net.Pipe()
	client, server := newBufferedConn(a), newBufferedConn(b)
	var err error
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		err = syscall.ECONNREFUSED
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	client.Close()
	server.Close()
	return nil, err
}

// bufferedConn is a pipe with a send buffer, as TCP has one: what is written to a peer that reads nothing is
// gone without an error.
type bufferedConn struct {
	net.Conn
	mu     sync.Mutex
	queue  [][]byte
	more   chan struct{}
	closed bool
	err    error
}

func newBufferedConn(c net.Conn) *bufferedConn {
	b := &bufferedConn{Conn: c, more: make(chan struct{}, 1)}
	go b.drain() // ends with the pipe, which either end closes
	return b
}

// drain moves the queue into the pipe, and closes it when it has all of a closed connection.
func (b *bufferedConn) drain() {
	defer b.Conn.Close()
	for range b.more {
		b.mu.Lock()
		queue, closed := b.queue, b.closed
		b.queue = nil
		b.mu.Unlock()
		for _, p := range queue {
			if _, err := b.Conn.Write(p); err != nil {
				b.mu.Lock()
				b.err = err
				b.mu.Unlock()
				return
			}
		}
		if closed {
			return
		}
	}
}

func (b *bufferedConn) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.err != nil {
		return 0, cmp.Or(b.err, net.ErrClosed)
	}
	b.queue = append(b.queue, bytes.Clone(p))
	notify(b.more)
	return len(p), nil
}

func (b *bufferedConn) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed && err != nil {
		err = net.ErrClosed
	}
	return n, err
}

// Close lets the peer read what was written, for a second, as TCP does.
func (b *bufferedConn) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.Conn.SetReadDeadline(time.Now())
		b.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		notify(b.more)
	}
	return nil
}
