//go:build !layer

package main

// ws_test.go tests one WebSocket against a peer that the test plays byte by byte.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

func TestWebSocketHandshakeAsksForWhatAppSyncWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p, _ := openWebSocket(t)
		if p.request.Host != "example.com" || p.request.RequestURI != "/event/realtime" {
			t.Errorf("asked %s for %s", p.request.Host, p.request.RequestURI)
		}
		for name, want := range map[string]string{
			"Upgrade":                  "websocket",
			"Sec-WebSocket-Protocol":   "chat, header-x",
			"Sec-WebSocket-Version":    "13",
			"Sec-WebSocket-Extensions": "",
		} {
			if got := p.request.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	})
}

// receivedMessages returns the messages that have come until now.
func receivedMessages(got chan string) (all []string) {
	synctest.Wait()
	for len(got) > 0 {
		all = append(all, <-got)
	}
	return all
}

// All of them come on one connection: what one leaves behind must not be in the next one.
func TestWebSocketMessagesComeWholeHoweverTheyAreSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, p, got := openWebSocket(t)
		long := strings.Repeat("x", 70_000)
		longest := strings.Repeat("x", maxMessage-100)
		tests := []struct {
			name string
			say  func()
			want []string
		}{
			{
				name: "text",
				say:  func() { p.say(`{"m":"hello"}`) },
				want: []string{"hello"},
			},
			{name: "empty", say: func() { p.say("") }},
			{name: "white space", say: func() { p.say(" \n") }},
			{
				name: "binary",
				say:  func() { p.frame(true, websocket.BinaryFrame, `{"m":"bytes"}`) },
				want: []string{"bytes"},
			},
			{
				name: "16-bit length",
				say:  func() { p.say(`{"m":"%s"}`, long[:126]) },
				want: []string{long[:126]},
			},
			{
				name: "64-bit length",
				say:  func() { p.say(`{"m":"%s"}`, long) },
				want: []string{long},
			},
			{
				name: "as large as may be",
				say:  func() { p.say(`{"m":"%s"}`, longest) },
				want: []string{longest},
			},
			{
				name: "small after large",
				say:  func() { p.say(`{"m":"small"}`) },
				want: []string{"small"},
			},
			{
				name: "two in one packet",
				say: func() {
					first := webSocketFrame(true, websocket.TextFrame, []byte(`{"m":"a"}`))
					second := webSocketFrame(true, websocket.TextFrame, []byte(`{"m":"b"}`))
					p.write(string(first) + string(second))
				},
				want: []string{"a", "b"},
			},
			{
				name: "byte by byte",
				say: func() {
					for _, b := range webSocketFrame(true, websocket.TextFrame, []byte(`{"m":"slow"}`)) {
						p.nc.Write([]byte{b})
					}
				},
				want: []string{"slow"},
			},
			{
				name: "fragments",
				say: func() {
					p.frame(false, websocket.TextFrame, `{"m":"a`)
					p.frame(false, websocket.ContinuationFrame, "")
					p.frame(false, websocket.ContinuationFrame, "b")
					p.frame(true, websocket.ContinuationFrame, `c"}`)
				},
				want: []string{"abc"},
			},
			{
				name: "fragments around a pong",
				say: func() {
					p.frame(false, websocket.TextFrame, `{"m":"a`)
					p.frame(true, websocket.PongFrame, "unasked")
					p.frame(true, websocket.ContinuationFrame, `b"}`)
				},
				want: []string{"ab"},
			},
			{
				name: "fragments around a ping",
				say: func() {
					p.frame(false, websocket.TextFrame, `{"m":"a`)
					p.ping("are you there?")
					p.frame(true, websocket.ContinuationFrame, `b"}`)
				},
				want: []string{"ab"},
			},
		}
		for _, test := range tests {
			test.say()
			if all := receivedMessages(got); !slices.Equal(all, test.want) {
				t.Errorf("%s: got %d messages, %.40q; want %d", test.name, len(all), all, len(test.want))
			}
		}
	})
}

func TestWebSocketAnswersPingsWithTheirPayload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p, _ := openWebSocket(t)
		for _, payload := range []string{"", "x", strings.Repeat("x", 125)} {
			p.ping(payload)
		}
	})
}

func TestWebSocketSendsAMessageAsOneFrameOfText(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := openWebSocket(t)
		for _, want := range []string{"hello", strings.Repeat("y", 1_150_000)} {
			sent := asyncError(func() error { return c.send(t.Context(), []byte(want)) })
			if opcode, got := p.read(); opcode != websocket.TextFrame || got != want {
				t.Errorf("sent %d bytes: opcode %d, %d bytes", len(want), opcode, len(got))
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestWebSocketSaysWhenItCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := openWebSocket(t)
		closed := make(chan struct{})
		go func() {
			c.close()
			close(closed)
		}()
		if opcode, payload := p.read(); opcode != websocket.CloseFrame || payload != "\x03\xe8" {
			t.Errorf("close: opcode %d, %q", opcode, payload)
		}
		<-closed
		p.drain()
		if err := c.send(t.Context(), []byte("late")); err == nil || err.Error() != "closed by this end" {
			t.Errorf("send after close: %v", err)
		}
		if c.ctx.Err() == nil {
			t.Error("its context has not ended")
		}
		c.close() // twice does no harm
	})
}

// checkWebSocketEnds opens a connection, has the peer do something, and checks the error with which it ends.
func checkWebSocketEnds(t *testing.T, name, want string, do func(*peer)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p, got := openWebSocket(t)
			drained := asyncError(func() error { p.drain(); return nil })
			do(p)
			<-c.ctx.Done()
			why := context.Cause(c.ctx)
			if !strings.Contains(why.Error(), want) {
				t.Errorf("error %v, want %s", why, want)
			}
			if err := c.send(t.Context(), []byte("x")); err != why {
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

func TestWebSocketEndsWithAClosingFrame(t *testing.T) {
	checkWebSocketEnds(t, "with a code", "EOF", func(p *peer) {
		p.frame(true, websocket.CloseFrame, "\x03\xe9restarting\n")
	})
	checkWebSocketEnds(t, "without a code", "EOF", func(p *peer) {
		p.frame(true, websocket.CloseFrame, "")
	})
	checkWebSocketEnds(t, "between fragments", "unexpected EOF", func(p *peer) {
		p.frame(false, websocket.TextFrame, `"a`)
		p.frame(true, websocket.CloseFrame, "\x03\xe8")
	})
}

func TestWebSocketEndsIfItIsCutOff(t *testing.T) {
	checkWebSocketEnds(t, "between messages", "EOF", func(p *peer) {
		p.nc.Close()
	})
	checkWebSocketEnds(t, "in a message", "unexpected EOF", func(p *peer) {
		p.write("\x81\x05\"e")
		p.nc.Close()
	})
	checkWebSocketEnds(t, "between fragments", "unexpected EOF", func(p *peer) {
		p.frame(false, websocket.TextFrame, `"e`)
		p.nc.Close()
	})
	checkWebSocketEnds(t, "in a header", "EOF", func(p *peer) {
		p.write("\x81")
		p.nc.Close()
	})
}

func TestWebSocketEndsWithAMessageThatIsNoJSON(t *testing.T) {
	want := "invalid character 'm' looking for beginning of value"
	checkWebSocketEnds(t, "not JSON", want, func(p *peer) {
		p.say("marked")
	})
	checkWebSocketEnds(t, "too deep", "exceeded max depth", func(p *peer) {
		p.nc.Write(webSocketFrame(true, 1, []byte(strings.Repeat("[", 20_000))))
	})
}

func TestWebSocketEndsWithAMessageThatIsTooLarge(t *testing.T) {
	t.Parallel()
	const want = "incoming message larger than 2097152 bytes"
	large := strings.Repeat("x", maxMessage)
	checkWebSocketEnds(t, "in one frame", want, func(p *peer) {
		p.nc.Write(webSocketFrame(true, 1, []byte(`"`+large)))
	})
	checkWebSocketEnds(t, "in fragments", want, func(p *peer) {
		p.nc.Write(webSocketFrame(false, 1, []byte(`"`+large[:maxMessage/2])))
		p.nc.Write(webSocketFrame(true, 0, []byte(large[:maxMessage/2])))
	})
	checkWebSocketEnds(t, "white space without end", want, func(p *peer) {
		for range 5 {
			p.nc.Write(webSocketFrame(true, 1, bytes.Repeat([]byte(" "), maxMessage/4)))
		}
	})
}

func TestWebSocketEndsAfterFiveMinutesOfSilence(t *testing.T) {
	const want = "nothing received for 5m0s"
	checkWebSocketEnds(t, "between messages", want, func(*peer) {})
	checkWebSocketEnds(t, "in a frame", want, func(p *peer) {
		p.write("\x81\x05\"e")
	})
}

// A server must not mask its frames (RFC 6455, section 5.1).
func TestWebSocketEndsWithAMaskedFrame(t *testing.T) {
	checkWebSocketEnds(t, "masked", "EOF", func(p *peer) {
		p.write("\x81\x83\x00\x00\x00\x00\"x\"")
	})
}

func TestFramesOfAnyKindAreASignOfLife(t *testing.T) {
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
		if took := time.Since(start); took != time.Minute {
			t.Errorf("it ended after %v", took)
		}
		if why := context.Cause(c.ctx); why.Error() != "nothing received for 1m0s" {
			t.Errorf("it ended with %v", why)
		}
	})
}

func TestWebSocketThatHasEndedIsKeptByNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended []weak.Pointer[wsConn]
		for range 3 {
			ln := newPipeListener("example.com")
			transport := &http.Transport{DialContext: ln.dial}
			dialled := dial(t.Context(), transport, "http://example.com/event/realtime", nil)
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

func TestPingIsAnsweredHoweverLongAgoTheLastMessageWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := openWebSocket(t)
		c.idle.Store(int64(5 * time.Minute))
		sent := asyncError(func() error { return c.send(t.Context(), []byte("x")) })
		p.read()
		<-sent
		p.say(`{"m":"y"}`)
		time.Sleep(2 * time.Minute)
		p.ping("still there?")
		if c.ctx.Err() != nil {
			t.Errorf("ended: %v", context.Cause(c.ctx))
		}
	})
}

func TestPeerThatTakesNothingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := openWebSocket(t)
		c.idle.Store(int64(5 * time.Minute))
		p.frame(true, websocket.PongFrame, "")
		start := time.Now()
		first := asyncError(func() error { return c.send(t.Context(), []byte("stuck")) })
		synctest.Wait()
		// One that waits behind it ends with its own context.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := c.send(ctx, []byte("behind"))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("second send: %v after %v", err, time.Since(start))
		}
		if err := <-first; err == nil || time.Since(start) != writeTimeout {
			t.Errorf("first send: %v after %v", err, time.Since(start))
		}
		<-c.ctx.Done()
		c.close()
		p.nc.Close()
	})
}

func TestCloseReleasesASendToAPeerThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := openWebSocket(t)
		stuck := asyncError(func() error { return c.send(t.Context(), []byte("stuck")) })
		synctest.Wait()
		start := time.Now()
		c.close()
		if took := time.Since(start); took > closeTimeout {
			t.Errorf("close took %v", took)
		}
		if err := <-stuck; err == nil {
			t.Error("the stuck send succeeded")
		}
		p.nc.Close()
	})
}

// upgradeHead is an answer that accepts a WebSocket, up to headers that are to follow. KEY is for the
// challenge's.
const upgradeHead = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Accept: KEY\r\n"

// dialAnswered dials a server that gives this answer. If the answer breaks off, the connection does too.
func dialAnswered(t *testing.T, answer string, breaksOff bool) (*wsConn, *peer, error) {
	t.Helper()
	ln := newPipeListener("example.com")
	transport := &http.Transport{DialContext: ln.dial, DisableKeepAlives: true}
	dialled := dial(t.Context(), transport, "http://example.com/event/realtime", nil)
	p := acceptPeer(t, ln)
	answered := asyncError(func() error {
		_, err := io.WriteString(p.nc, strings.Replace(answer, "KEY", p.accept(), 1))
		return err
	})
	if breaksOff {
		<-answered
		p.nc.Close()
	}
	r := <-dialled
	return r.value, p, r.err
}

// What the server says instead of accepting is kept, up to a limit: AppSync's reason is in it.
func TestWebSocketThatIsRefusedTellsStatusAndText(t *testing.T) {
	tests := []struct {
		name   string
		answer string // after HTTP/1.1
		want   string // after "the server refuses the WebSocket: "
		text   string
	}{
		{
			name:   "401",
			answer: "401 Unauthorized\r\nContent-Length: 5\r\n\r\nno\nno",
			want:   "401 Unauthorized",
			text:   "no\nno",
		},
		{
			name:   "403",
			answer: "403 Forbidden\r\nContent-Length: 16\r\n\r\n{\"message\":\"no\"}",
			want:   "403 Forbidden",
			text:   `{"message":"no"}`,
		},
		{
			name:   "500",
			answer: "500 x\r\nContent-Length: 0\r\n\r\n",
			want:   "500 Internal Server Error",
		},
		{
			name:   "599",
			answer: "599 x\r\nContent-Length: 0\r\n\r\n",
			want:   "599 ",
		},
		{
			name:   "200",
			answer: "200 OK\r\nContent-Length: 6\r\n\r\n<html>",
			want:   "200 OK",
			text:   "<html>",
		},
		{
			name:   "302",
			answer: "302 Found\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n",
			want:   "302 Found",
		},
		{
			name:   "long",
			answer: "403 Forbidden\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 4000),
			want:   "403 Forbidden",
			text:   strings.Repeat("x", 1024),
		},
		{
			name:   "text that does not end",
			answer: "403 Forbidden\r\nContent-Length: 10\r\n\r\nno",
			want:   "403 Forbidden",
			text:   "no",
		},
		{
			name:   "no upgrade",
			answer: "101 Switching Protocols\r\n\r\n",
			want:   "101 Switching Protocols",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, p, err := dialAnswered(t, "HTTP/1.1 "+test.answer, false)
				refused, ok := err.(noUpgrade)
				if !ok || refused.text != test.text {
					t.Errorf("got %#v, want the text %q", err, test.text)
				}
				if err == nil || err.Error() != "the server refuses the WebSocket: "+test.want {
					t.Errorf("error %v, want %s", err, test.want)
				}
				p.drain() // this end has closed the connection
			})
		})
	}
}

func TestWebSocketIsNotOpenedByABadHandshake(t *testing.T) {
	tests := []struct {
		name      string
		answer    string
		breaksOff bool
		want      string
	}{
		{
			name: "other upgrade",
			answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n" +
				"Sec-WebSocket-Accept: KEY\r\n\r\n",
			want: "missing or bad upgrade",
		},
		{
			name:   "other sub-protocol",
			answer: upgradeHead + "Sec-WebSocket-Protocol: other\r\n\r\n",
			want:   "missing or bad WebSocket-Protocol",
		},
		{
			name:   "extension",
			answer: upgradeHead + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
			want:   "unsupported extensions",
		},
		{
			name:   "wrong key",
			answer: strings.Replace(upgradeHead, "KEY", "d3Jvbmc=", 1) + "\r\n",
			want:   "mismatch challenge/response",
		},
		{name: "empty", answer: "", breaksOff: true, want: "EOF"},
		{
			name:      "not HTTP",
			answer:    "SSH-2.0-OpenSSH_9.2\r\n",
			breaksOff: true,
			want:      `malformed HTTP response "SSH-2.0-OpenSSH_9.2"`,
		},
		{
			name:      "half an answer",
			answer:    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso",
			breaksOff: true,
			want:      "unexpected EOF",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, p, err := dialAnswered(t, test.answer, test.breaksOff)
				checkError(t, err, test.want)
				if _, refused := errors.AsType[noUpgrade](err); refused {
					t.Errorf("%v says that the server refuses", err)
				}
				p.drain() // this end has closed the connection
			})
		})
	}
}

func TestServerMayChooseASubProtocolOrNone(t *testing.T) {
	for _, headers := range []string{"Sec-WebSocket-Protocol: header-x\r\n\r\n", "\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			c, p, err := dialAnswered(t, upgradeHead+headers, false)
			if err != nil {
				t.Fatal(err)
			}
			go p.drain()
			c.close()
		})
	}
}

func TestHandshakeIsGivenUpAfterItsTimeoutOrWithItsContext(t *testing.T) {
	for _, limit := range []time.Duration{time.Minute, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener("example.com")
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			start := time.Now()
			transport := &http.Transport{DialContext: ln.dial, DisableKeepAlives: true}
			dialled := dial(ctx, transport, "http://example.com/", nil)
			p := acceptPeer(t, ln)
			r := <-dialled
			if !errors.Is(r.err, context.DeadlineExceeded) || time.Since(start) != min(limit, dialTimeout) {
				t.Errorf("after %v: %v", time.Since(start), r.err)
			}
			p.drain()
		})
	}
}

func TestDialIsGivenUpIfNobodyTakesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ln := newPipeListener("example.com")
		defer ln.Close() // net/http goes on dialling
		transport := &http.Transport{DialContext: ln.dial}
		r := <-dial(t.Context(), transport, "http://example.com/", nil)
		if !errors.Is(r.err, context.DeadlineExceeded) || time.Since(start) != dialTimeout {
			t.Errorf("after %v: %v", time.Since(start), r.err)
		}
	})
}

// Over real sockets, against x/net's server, with and without TLS.
func TestMessagesOfManySendersAtOnceAreWholeAndComeOnce(t *testing.T) {
	t.Parallel()
	const senders, messages = 8, 50
	text := func(sender, message int) string {
		return fmt.Sprintf("%d %d %s", sender, message, strings.Repeat("x", sender*message*7))
	}
	for _, secure := range []bool{false, true} {
		server := startEchoServer(t, secure)
		got := make(chan string, senders*messages)
		transport := server.Client().Transport.(*http.Transport)
		r := <-dial(t.Context(), transport, server.URL, func(m string) { got <- m })
		if r.err != nil {
			t.Fatal(r.err)
		}
		var wg sync.WaitGroup
		for n := range senders {
			wg.Go(func() {
				for m := range messages {
					err := r.value.send(t.Context(), fmt.Appendf(nil, `{"m":"%s"}`, text(n, m)))
					if err != nil {
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
				if times := seen[text(n, m)]; times != 1 {
					t.Errorf("message %d of sender %d came %d times", m, n, times)
				}
			}
		}
		r.value.close()
	}
}

func TestResetConnectionSaysSo(t *testing.T) {
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
	why := context.Cause(r.value.ctx)
	if why == nil || !strings.Contains(why.Error(), "connection reset by peer") {
		t.Error(why)
	}
	r.value.close()
}

func TestRefusedConnectionSaysSo(t *testing.T) {
	ln := listen(t)
	ln.Close()
	r := <-dial(t.Context(), &http.Transport{}, "http://"+ln.Addr().String(), nil)
	if r.err == nil || !strings.Contains(r.err.Error(), "connection refused") {
		t.Errorf("nobody listens: %v", r.err)
	}
}

// dialThrough dials a server through a proxy, as HTTPS_PROXY would have it. user is the user and password in
// the proxy's URL.
func dialThrough(t *testing.T, proxy *recordingServer, user string, server *httptest.Server,
	handle func(string)) asyncResult[*wsConn] {
	t.Helper()
	address, err := url.Parse("http://" + user + proxy.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.Proxy = http.ProxyURL(address) // ProxyFromEnvironment leaves loopback alone
	r := <-dial(t.Context(), transport, server.URL, handle)
	asked := proxy.seen(0)
	if want := "CONNECT " + server.Listener.Addr().String(); asked.what != want {
		t.Errorf("asked %q, want %q", asked.what, want)
	}
	header := http.Header{"Authorization": asked.header["Proxy-Authorization"]}
	name, password, told := (&http.Request{Header: header}).BasicAuth()
	if told != (user != "") || told && (name != "me" || password != "p@ss") {
		t.Errorf("proxy authorization of %q: %q, %q, %v", user, name, password, told)
	}
	return r
}

func TestWebSocketGoesThroughAProxyWithAndWithoutAPassword(t *testing.T) {
	server := startEchoServer(t, true)
	for _, user := range []string{"", "me:p%40ss@"} {
		got := make(chan string, 1)
		proxy := startConnectProxy(t, "200")
		r := dialThrough(t, proxy, user, server, func(m string) { got <- m })
		if r.err != nil {
			t.Fatal(r.err)
		}
		if err := r.value.send(t.Context(), []byte(`{"m":"through"}`)); err != nil {
			t.Fatal(err)
		}
		if m := <-got; m != "through" {
			t.Errorf("got %q", m)
		}
		r.value.close()
	}
}

func TestProxysRefusalIsToldWithoutThePassword(t *testing.T) {
	server := startEchoServer(t, true)
	for _, test := range []struct{ user, answer, want string }{
		{answer: "407 Proxy Authentication Required", want: "Proxy Authentication Required"},
		{user: "me:p%40ss@", answer: "403 Forbidden", want: "Forbidden"},
		{answer: "502 Bad Gateway", want: "Bad Gateway"},
	} {
		r := dialThrough(t, startConnectProxy(t, test.answer), test.user, server, nil)
		if r.err == nil || !strings.Contains(r.err.Error(), test.want) ||
			strings.Contains(r.err.Error(), "ss@") {
			t.Errorf("%s: %v", test.answer, r.err)
		}
	}
}
