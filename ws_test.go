//go:build !layer

package main

// ws_test.go tests one WebSocket against a peer that the test plays byte by byte.

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"golang.org/x/net/websocket"
)

func TestWebSocketMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, got := openWebSocket(t)
		if h := p.request.Header; p.request.RequestURI != "/event/realtime" ||
			p.request.Host != "example.com" || h.Get("Upgrade") != "websocket" ||
			h.Get("Sec-WebSocket-Protocol") != "chat, header-x" || h.Get("Sec-WebSocket-Version") != "13" ||
			h.Get("Sec-WebSocket-Extensions") != "" {
			t.Errorf("handshake %s %s %v", p.request.Host, p.request.RequestURI, h)
		}
		long := strings.Repeat("x", 70_000)
		tests := []struct {
			name string
			say  func()
			want []string
		}{
			{name: "text", say: func() { p.say(`{"m":"hello"}`) }, want: []string{"hello"}},
			{name: "empty", say: func() { p.say("") }},
			{name: "white space", say: func() { p.say(" \n") }},
			{name: "binary", say: func() {
				p.frame(true, websocket.BinaryFrame, `{"m":"bytes"}`)
			}, want: []string{"bytes"}},
			{name: "16-bit length", say: func() {
				p.say(`{"m":"%s"}`, long[:126])
			}, want: []string{long[:126]}},
			{name: "64-bit length", say: func() { p.say(`{"m":"%s"}`, long) }, want: []string{long}},
			{name: "as large as may be", say: func() {
				p.say(`{"m":"%s"}`, strings.Repeat("x", maxMessage-100))
			}, want: []string{strings.Repeat("x", maxMessage-100)}},
			{name: "small after large", say: func() { p.say(`{"m":"small"}`) }, want: []string{"small"}},
			{name: "two in one packet", say: func() {
				p.write(string(
					slices.Concat(
						webSocketFrame(true, 1, []byte(`{"m":"a"}`)),
						webSocketFrame(true, 1, []byte(`{"m":"b"}`)))))
			}, want: []string{"a", "b"}},
			{name: "byte by byte", say: func() {
				for _, b := range webSocketFrame(true, websocket.TextFrame, []byte(`{"m":"slow"}`)) {
					p.nc.Write([]byte{b})
				}
			}, want: []string{"slow"}},
			{name: "fragments", say: func() {
				p.frame(false, websocket.TextFrame, `{"m":"a`)
				p.frame(false, websocket.ContinuationFrame, "")
				p.frame(false, websocket.ContinuationFrame, "b")
				p.frame(true, websocket.ContinuationFrame, `c"}`)
			}, want: []string{"abc"}},
			{name: "fragments around a pong", say: func() {
				p.frame(false, websocket.TextFrame, `{"m":"a`)
				p.frame(true, websocket.PongFrame, "unasked")
				p.frame(true, websocket.ContinuationFrame, `b"}`)
			}, want: []string{"ab"}},
			{name: "fragments around a ping", say: func() {
				p.frame(false, websocket.TextFrame, `{"m":"a`)
				p.frame(true, websocket.PingFrame, "are you there?")
				if opcode, payload := p.read(); opcode != websocket.PongFrame || payload != "are you there?" {
					t.Errorf("pong: opcode %d, %q", opcode, payload)
				}
				p.frame(true, websocket.ContinuationFrame, `b"}`)
			}, want: []string{"ab"}},
		}
		for _, test := range tests {
			test.say()
			synctest.Wait()
			var all []string
			for len(got) > 0 {
				all = append(all, <-got)
			}
			if !slices.Equal(all, test.want) {
				t.Errorf("%s: got %d messages, %.40q; want %d", test.name, len(all), all, len(test.want))
			}
		}
		for _, payload := range []string{"", "x", strings.Repeat("x", 125)} {
			p.frame(true, websocket.PingFrame, payload)
			if opcode, got := p.read(); opcode != websocket.PongFrame || got != payload {
				t.Errorf("pong: opcode %d, %q", opcode, got)
			}
		}
		for _, want := range []string{"hello", strings.Repeat("y", 1_150_000)} {
			sent := async(func() (bool, error) { return true, c.send(t.Context(), []byte(want)) })
			if opcode, got := p.read(); opcode != websocket.TextFrame || got != want {
				t.Errorf("sent %d bytes: opcode %d, %d bytes", len(want), opcode, len(got))
			}
			if r := <-sent; r.err != nil {
				t.Error(r.err)
			}
		}
		closed := async(func() (bool, error) { c.close(); return true, nil })
		if opcode, payload := p.read(); opcode != websocket.CloseFrame || payload != "\x03\xe8" {
			t.Errorf("close: opcode %d, %q", opcode, payload)
		}
		<-closed
		p.drain()
		if err := c.send(t.Context(), []byte("late")); err.Error() != "closed by this end" ||
			c.ctx.Err() == nil {
			t.Errorf("send after close: %v", err)
		}
		c.close() // twice does no harm
	})
}

// How a connection ends is told by its error.
func TestWebSocketEnds(t *testing.T) {
	large := strings.Repeat("x", maxMessage)
	tests := []struct {
		name string
		do   func(*peer)
		want string
	}{
		{name: "closing frame", do: func(p *peer) {
			p.frame(true, websocket.CloseFrame, "\x03\xe9restarting\n")
		}, want: "EOF"},
		{name: "closing frame without a code", do: func(p *peer) {
			p.frame(true, websocket.CloseFrame, "")
		}, want: "EOF"},
		{name: "closing frame between fragments", do: func(p *peer) {
			p.frame(false, websocket.TextFrame, `"a`)
			p.frame(true, websocket.CloseFrame, "\x03\xe8")
		}, want: "unexpected EOF"},
		{name: "cut off", do: func(p *peer) { p.nc.Close() }, want: "EOF"},
		{name: "cut off in a message", do: func(p *peer) {
			p.write("\x81\x05\"e")
			p.nc.Close()
		}, want: "unexpected EOF"},
		{name: "cut off between fragments", do: func(p *peer) {
			p.frame(false, websocket.TextFrame, `"e`)
			p.nc.Close()
		}, want: "unexpected EOF"},
		{name: "cut off in a header", do: func(p *peer) { p.write("\x81"); p.nc.Close() }, want: "EOF"},
		{name: "not JSON", do: func(p *peer) {
			p.say("marked")
		}, want: "invalid character 'm' looking for beginning of value"},
		{name: "too deep", do: func(p *peer) {
			p.nc.Write(webSocketFrame(true, 1, []byte(strings.Repeat("[", 20_000))))
		}, want: "exceeded max depth"},
		{name: "too large", do: func(p *peer) {
			p.nc.Write(webSocketFrame(true, 1, []byte(`"`+large)))
		}, want: "incoming message larger than 2097152 bytes"},
		{name: "too large in fragments", do: func(p *peer) {
			p.nc.Write(webSocketFrame(false, 1, []byte(`"`+large[:maxMessage/2])))
			p.nc.Write(webSocketFrame(true, 0, []byte(large[:maxMessage/2])))
		}, want: "incoming message larger than 2097152 bytes"},
		{name: "white space without end", do: func(p *peer) {
			for range 5 {
				p.nc.Write(webSocketFrame(true, 1, bytes.Repeat([]byte(" "), maxMessage/4)))
			}
		}, want: "incoming message larger than 2097152 bytes"},
		{name: "silence", do: func(*peer) {}, want: "nothing received for 5m0s"},
		{name: "silence in a frame", do: func(p *peer) {
			p.write("\x81\x05\"e")
		}, want: "nothing received for 5m0s"},
		{name: "masked", do: func(p *peer) { p.write("\x81\x83\x00\x00\x00\x00\"x\"") }, want: "EOF"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p, got := openWebSocket(t)
				drained := async(func() (bool, error) { p.drain(); return true, nil })
				test.do(p)
				<-c.ctx.Done()
				if !strings.Contains(context.Cause(c.ctx).Error(), test.want) {
					t.Errorf("error %v, want %s", context.Cause(c.ctx), test.want)
				}
				if err := c.send(t.Context(), []byte("x")); err != context.Cause(c.ctx) {
					t.Errorf("send afterwards: %v", err)
				}
				c.close()
				<-drained // the connection is closed at this end too
				if len(got) > 0 {
					t.Errorf("a message: %q", <-got)
				}
			})
		})
	}
}

// Frames of any kind are a sign of life.
func TestWebSocketIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := openWebSocket(t)
		c.idle.Store(int64(time.Minute))
		p.say(`{"m":"x"}`) // the new limit counts from the next frame on
		for range 3 {
			time.Sleep(time.Minute - 1)
			p.frame(true, websocket.PongFrame, "")
			synctest.Wait()
			if got := time.Now().UnixNano(); c.heard.Load() != got {
				t.Errorf("last frame %d, now %d", c.heard.Load(), got)
			}
		}
		start := time.Now()
		<-c.ctx.Done()
		if took := time.Since(start); took != time.Minute ||
			context.Cause(c.ctx).Error() != "nothing received for 1m0s" {
			t.Errorf("after %v: %v", took, context.Cause(c.ctx))
		}
	})
}

// A connection that has ended is kept by nothing.
func TestWebSocketIsCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended []weak.Pointer[wsConn]
		for range 3 {
			ln := newPipeListener("example.com")
			dialled := dial(
				t.Context(), &http.Transport{DialContext: ln.dial}, "http://example.com/event/realtime", nil)
			p := acceptPeer(t, ln)
			p.upgrade("chat")
			r := <-dialled
			if r.err != nil {
				t.Fatal(r.err)
			}
			go p.drain()
			r.value.close()
			p.nc.Close()
			ended = append(ended, weak.Make(r.value))
		}
		time.Sleep(2 * closeTimeout)
		synctest.Wait()
		runtime.GC()
		runtime.GC()
		held := 0
		for _, c := range ended {
			if c.Value() != nil {
				held++
			}
		}
		if held > 1 { // the last one may still be on the stack
			t.Errorf("%d of %d are still held", held, len(ended))
		}
	})
}

// A ping is answered, however long ago the last message was sent.
func TestWebSocketLatePing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := openWebSocket(t)
		c.idle.Store(int64(5 * time.Minute))
		sent := async(func() (bool, error) { return true, c.send(t.Context(), []byte("x")) })
		p.read()
		<-sent
		p.say(`{"m":"y"}`)
		time.Sleep(2 * time.Minute)
		p.frame(true, websocket.PingFrame, "still there?")
		if opcode, payload := p.read(); opcode != websocket.PongFrame || payload != "still there?" ||
			(c.ctx.Err() != nil) {
			t.Errorf("pong: opcode %d, %q; ended %v", opcode, payload, (c.ctx.Err() != nil))
		}
	})
}

// A peer that takes nothing is gone after a while; the wait for it, its context's end and close release
// everyone.
func TestWebSocketStuckPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := openWebSocket(t)
		c.idle.Store(int64(5 * time.Minute))
		p.frame(true, websocket.PongFrame, "")
		start := time.Now()
		first := async(func() (bool, error) { return true, c.send(t.Context(), []byte("stuck")) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.send(ctx, []byte("behind")); !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(start) != time.Second {
			t.Errorf("second send: %v after %v", err, time.Since(start))
		}
		if r := <-first; r.err == nil || time.Since(start) != writeTimeout {
			t.Errorf("first send: %v after %v", r.err, time.Since(start))
		}
		<-c.ctx.Done()
		c.close()
		p.nc.Close()
	})
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := openWebSocket(t)
		stuck := async(func() (bool, error) { return true, c.send(t.Context(), []byte("stuck")) })
		synctest.Wait()
		start := time.Now()
		c.close()
		if took := time.Since(start); took > closeTimeout {
			t.Errorf("close took %v", took)
		}
		if r := <-stuck; r.err == nil {
			t.Error("the stuck send succeeded")
		}
		p.nc.Close()
	})
}

func TestWebSocketRefused(t *testing.T) {
	const accept = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: " +
		"Upgrade\r\nSec-WebSocket-Accept: KEY\r\n"
	tests := []struct {
		name, answer, want string
		text               *string // of a noUpgrade
	}{
		{name: "401", answer: "HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nno\nno",
			want: "the server refuses the WebSocket: 401 Unauthorized", text: new("no\nno")},
		{name: "403", answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 16\r\n\r\n{\"message\":\"no\"}",
			want: "the server refuses the WebSocket: 403 Forbidden", text: new(`{"message":"no"}`)},
		{name: "500", answer: "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n",
			want: "the server refuses the WebSocket: 500 Internal Server Error", text: new("")},
		{name: "599", answer: "HTTP/1.1 599 x\r\nContent-Length: 0\r\n\r\n",
			want: "the server refuses the WebSocket: 599 ", text: new("")},
		{name: "200", answer: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
			want: "the server refuses the WebSocket: 200 OK", text: new("<html>")},
		{name: "302", answer: "HTTP/1.1 302 Found\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n",
			want: "the server refuses the WebSocket: 302 Found", text: new("")},
		{name: "long",
			answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 4000),
			want:   "the server refuses the WebSocket: 403 Forbidden", text: new(strings.Repeat("x", 1024))},
		{name: "text that does not end",
			answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nno",
			want:   "the server refuses the WebSocket: 403 Forbidden", text: new("no")},
		{name: "no upgrade", answer: "HTTP/1.1 101 Switching Protocols\r\n\r\n",
			want: "the server refuses the WebSocket: 101 Switching Protocols", text: new("")},
		{name: "other upgrade",
			answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: " +
				"Upgrade\r\nSec-WebSocket-Accept: KEY\r\n\r\n", want: "missing or bad upgrade"},
		{name: "other sub-protocol", answer: accept + "Sec-WebSocket-Protocol: other\r\n\r\n",
			want: "missing or bad WebSocket-Protocol"},
		{name: "extension", answer: accept + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
			want: "unsupported extensions"},
		{name: "wrong key", answer: strings.Replace(accept, "KEY", "d3Jvbmc=", 1) + "\r\n",
			want: "mismatch challenge/response"},
		{name: "empty", answer: "", want: "EOF"},
		{name: "not HTTP", answer: "SSH-2.0-OpenSSH_9.2\r\n",
			want: `malformed HTTP response "SSH-2.0-OpenSSH_9.2"`},
		{name: "half an answer", answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso",
			want: "unexpected EOF"},
		{name: "sub-protocol chosen", answer: accept + "Sec-WebSocket-Protocol: header-x\r\n\r\n", want: ""},
		{name: "no sub-protocol chosen", answer: accept + "\r\n", want: ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener("example.com")
				dialled := dial(
					t.Context(), &http.Transport{DialContext: ln.dial, DisableKeepAlives: true},
					"http://example.com/event/realtime", nil)
				p := acceptPeer(t, ln)
				answered := async(func() (int, error) {
					return io.WriteString(p.nc, strings.Replace(test.answer, "KEY", p.accept(), 1))
				})
				switch test.name {
				case "empty", "not HTTP", "half an answer":
					<-answered
					p.nc.Close()
				}
				r := <-dialled
				if test.want == "" {
					if r.err != nil {
						t.Fatal(r.err)
					}
					go p.drain()
					r.value.close()
					return
				}
				if r.err == nil || !strings.Contains(r.err.Error(), test.want) ||
					strings.Contains(r.err.Error(), "\n") {
					t.Errorf("error %v, want %s", r.err, test.want)
				}
				var refused noUpgrade
				if errors.As(r.err, &refused) != (test.text != nil) || test.text != nil &&
					(refused.text != *test.text || refused.Error() != test.want || r.err != refused) {
					t.Errorf("refused with %q, error %q", refused.text, r.err)
				}
				p.drain() // this end has closed the connection
			})
		})
	}
}

// A server that never answers: after 15 s, or when the context ends.
func TestWebSocketHandshakeHangs(t *testing.T) {
	for _, limit := range []time.Duration{time.Minute, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener("example.com")
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			start := time.Now()
			dialled := dial(
				ctx, &http.Transport{DialContext: ln.dial, DisableKeepAlives: true}, "http://example.com/",
				nil)
			p := acceptPeer(t, ln)
			if r := <-dialled; !errors.Is(r.err, context.DeadlineExceeded) ||
				time.Since(start) != min(limit, dialTimeout) {
				t.Errorf("after %v: %v", time.Since(start), r.err)
			}
			p.drain()
		})
	}
	synctest.Test(t, func(t *testing.T) { // nobody even takes the connection
		start := time.Now()
		ln := newPipeListener("example.com")
		defer ln.Close() // net/http goes on dialling
		transport := &http.Transport{DialContext: ln.dial}
		if r := <-dial(t.Context(), transport, "http://example.com/", nil); !errors.Is(
			r.err, context.DeadlineExceeded) || time.Since(start) != dialTimeout {
			t.Errorf("after %v: %v", time.Since(start), r.err)
		}
	})
}

// Over real sockets, against x/net's server: many senders at once, each message whole, and echoed once.
func TestWebSocketEcho(t *testing.T) {
	for _, secure := range []bool{false, true} {
		server := startEchoServer(t, secure)
		const senders, messages = 8, 50
		got := make(chan string, senders*messages)
		r := <-dial(t.Context(), server.Client().Transport.(*http.Transport), server.URL, func(m string) {
			got <- m
		})
		if r.err != nil {
			t.Fatal(r.err)
		}
		var wg sync.WaitGroup
		for n := range senders {
			wg.Go(func() {
				for m := range messages {
					if err := r.value.send(
						t.Context(),
						fmt.Appendf(nil, `{"m":"%d %d %s"}`, n, m, strings.Repeat("x", n*m*7))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		seen := map[string]int{}
		for range senders * messages {
			seen[<-got]++
		}
		for n := range senders {
			for m := range messages {
				if want := fmt.Sprintf("%d %d %s", n, m, strings.Repeat("x", n*m*7)); seen[want] != 1 {
					t.Errorf("message %d of sender %d came %d times", m, n, seen[want])
				}
			}
		}
		r.value.close()
	}
}

func TestWebSocketReset(t *testing.T) {
	ln := listen(t)
	dialled := dial(t.Context(), &http.Transport{}, "http://"+ln.Addr().String(), nil)
	p := acceptPeer(t, ln)
	p.upgrade("chat")
	r := <-dialled
	if r.err != nil {
		t.Fatal(r.err)
	}
	p.nc.(*net.TCPConn).SetLinger(0)
	p.nc.Close()
	<-r.value.ctx.Done()
	if err := context.Cause(r.value.ctx); err == nil ||
		!strings.Contains(err.Error(), "connection reset by peer") {
		t.Error(err)
	}
	r.value.close()

	ln.Close()
	if r := <-dial(t.Context(), &http.Transport{}, "http://"+ln.Addr().String(), nil); r.err == nil ||
		!strings.Contains(r.err.Error(), "connection refused") {
		t.Errorf("nobody listens: %v", r.err)
	}
}

// HTTPS_PROXY: a tunnel through a proxy, with and without a password.
func TestWebSocketProxy(t *testing.T) {
	server := startEchoServer(t, true)
	for _, test := range []struct{ user, answer, err string }{
		{answer: "200"},
		{user: "me:p%40ss@", answer: "200"},
		{answer: "407 Proxy Authentication Required", err: "Proxy Authentication Required"},
		{user: "me:p%40ss@", answer: "403 Forbidden", err: "Forbidden"},
		{answer: "502 Bad Gateway", err: "Bad Gateway"},
	} {
		proxy := startConnectProxy(t, test.answer)
		address, err := url.Parse("http://" + test.user + proxy.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		transport := server.Client().Transport.(*http.Transport).Clone()
		transport.Proxy = http.ProxyURL(address) // ProxyFromEnvironment leaves loopback alone
		got := make(chan string, 1)
		r := <-dial(t.Context(), transport, server.URL, func(m string) { got <- m })
		asked := proxy.seen(0)
		if want := "CONNECT " + server.Listener.Addr().String(); asked.what != want {
			t.Errorf("asked %q, want %q", asked.what, want)
		}
		user, password,
			ok := (&http.Request{Header: http.Header{"Authorization": asked.header["Proxy-Authorization"]}}).
			BasicAuth()
		if ok != (test.user != "") || ok && (user != "me" || password != "p@ss") {
			t.Errorf("proxy authorization of %q: %q, %q, %v", test.user, user, password, ok)
		}
		if test.err != "" {
			if r.err == nil || !strings.Contains(r.err.Error(), test.err) ||
				strings.Contains(r.err.Error(), "ss@") {
				t.Errorf("%s: %v", test.answer, r.err)
			}
			continue
		}
		if r.err != nil {
			t.Fatal(r.err)
		}
		if err := r.value.send(t.Context(), []byte(`{"m":"through"}`)); err != nil || <-got != "through" {
			t.Error(err)
		}
		r.value.close()
	}
}

// startConnectProxy is an HTTP proxy that opens tunnels, or refuses to, with a status.
func startConnectProxy(t *testing.T, status string) *recordingServer {
	s := &recordingServer{t: t}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.record(r)
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer client.Close()
		fmt.Fprintf(client, "HTTP/1.1 %s\r\n\r\n", status)
		if status != "200" {
			return
		}
		server, err := net.Dial("tcp", r.Host)
		if err != nil {
			t.Error(err)
			return
		}
		defer server.Close()
		back := async(func() (int64, error) { defer client.Close(); return io.Copy(client, server) })
		io.Copy(server, client)
		server.Close()
		<-back
	}))
	t.Cleanup(s.Close)
	return s
}

// startEchoServer is x/net's WebSocket server, which says back what it is told.
func startEchoServer(t *testing.T, secure bool, certificates ...tls.Certificate) *httptest.Server {
	handler := websocket.Server{
		Handshake: func(config *websocket.Config, _ *http.Request) error {
			config.Protocol = config.Protocol[:1]
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			for message := ""; websocket.Message.Receive(ws, &message) == nil; {
				websocket.Message.Send(ws, message)
			}
		},
	}
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if s.TLS = (&tls.Config{Certificates: certificates}); secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// dial opens a WebSocket to a URL. handle gets the M of each message.
func dial(ctx context.Context, transport *http.Transport, target string,
	handle func(string)) chan asyncResult[*wsConn] {
	return async(func() (*wsConn, error) {
		u, err := url.Parse(target)
		if err != nil {
			return nil, err
		}
		return dialWebSocket(ctx, transport, u, []string{"chat", "header-x"},
			func(decoder *json.Decoder) error {
				var m struct{ M string }
				err := decoder.Decode(&m)
				if err == nil && handle != nil {
					handle(m.M)
				}
				return err
			})
	})
}

// openWebSocket returns both ends of a WebSocket, and what comes in at the client's.
func openWebSocket(t *testing.T) (*wsConn, *peer, chan string) {
	t.Helper()
	ln := newPipeListener("example.com")
	got := make(chan string, 100)
	dialled := dial(
		t.Context(), &http.Transport{DialContext: ln.dial}, "http://example.com/event/realtime",
		func(m string) { got <- m })
	p := acceptPeer(t, ln)
	p.upgrade("chat")
	r := <-dialled
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(r.value.close)
	return r.value, p, got
}
