package main

// ws.go knows one WebSocket (RFC 6455), client side, of JSON messages: dial, read, write, close. What the
// messages mean is the caller's business.
//
// Three parties share the work. net/http dials and sends the handshake, because it knows proxies, TLS and why
// a server refuses. x/net/websocket makes the handshake, checks the answer and does the framing. This file
// joins them: wsStream stands below x/net and carries its bytes, wsConn stands above it and carries messages.
//
// An open connection has two goroutines:
//   - The reader is the only one that reads. It calls the caller's function for each message, so that
//     function must not block. It also answers pings, which x/net does while it reads.
//   - The writer is the only one that sends messages. It takes them from send, one after the other.
//
// The first error of either ends wsConn.ctx. That releases everyone who waits in send, and the writer: it
// sends a closing frame and closes the stream, which ends the reader. If the writer is stuck, a timer closes
// the stream instead. Only close waits for the two; they never wait for each other.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/websocket"
)

const (
	// Bytes of one incoming message. An AppSync event of 240 KB is below 1 MB on the wire.
	maxMessage = 2 << 20
	// From the first packet to the end of the WebSocket handshake.
	dialTimeout = 15 * time.Second
	// Without a frame, until the server has said how long that may be.
	firstIdle = 5 * time.Minute
	// For one message. A peer that takes nothing for so long is gone.
	writeTimeout = 30 * time.Second
	// For the closing frame, and for what is being written when the connection ends.
	closeTimeout = 250 * time.Millisecond
)

// noUpgrade is the error if the server answers the handshake with anything but a WebSocket.
type noUpgrade struct {
	status int    // of HTTP
	text   string // the first 1 KiB of the body as it came: whoever logs it cleans it
}

func (e noUpgrade) Error() string {
	return fmt.Sprintf("the server refuses the WebSocket: %d %s", e.status, http.StatusText(e.status))
}

// wsStream is the connection of bytes that x/net/websocket reads and writes. To x/net it looks like a
// connection to the server from the start. In fact the stream collects x/net's handshake, exchanges it for
// the server's answer through net/http when x/net asks for that, and passes all later bytes as they are.
type wsStream struct {
	ctx       context.Context // of the handshake
	transport *http.Transport
	target    *url.URL
	received  func() // is called after each read from the server; nil during the handshake

	greeting bytes.Buffer // x/net's handshake until it is sent, then the answer until x/net has read it

	io.Writer                    // greeting; the connection as soon as there is one
	conn      io.ReadWriteCloser // to the server; nil until the server has upgraded
}

func (s *wsStream) Read(p []byte) (int, error) {
	if s.conn == nil {
		if err := s.upgrade(); err != nil {
			return 0, err
		}
	}
	if s.greeting.Len() > 0 {
		return s.greeting.Read(p)
	}
	defer s.received()
	return s.conn.Read(p)
}

func (s *wsStream) Close() error { return s.conn.Close() }

// upgrade sends the handshake that x/net has written, and keeps the server's answer for x/net to read.
func (s *wsStream) upgrade() error {
	req, err := http.ReadRequest(bufio.NewReader(&s.greeting))
	if err != nil {
		return err
	}
	req.RequestURI = "" // net/http refuses to send a request that has one
	req.URL = s.target
	resp, err := s.transport.RoundTrip(req.WithContext(s.ctx))
	if err != nil {
		return err
	}
	conn, upgraded := resp.Body.(io.ReadWriteCloser)
	if !upgraded {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // half a text is better than none
		return noUpgrade{resp.StatusCode, string(text)}
	}
	s.conn, s.Writer = conn, conn
	resp.Body = nil // is the connection: Write would wait for its first byte
	return resp.Write(&s.greeting)
}

// wsConn is one open WebSocket, the connection of messages.
type wsConn struct {
	ctx  context.Context         // ends with the connection; its cause says why
	fail context.CancelCauseFunc // ends the connection; the first error is kept

	idle  atomic.Int64 // nanoseconds without a frame after which the connection counts as dead
	heard atomic.Int64 // when something came last, in Unix nanoseconds by the wall clock

	ws  *websocket.Conn // on top of a wsStream
	out chan outgoing   // from send to the writer
	wg  sync.WaitGroup  // of the reader and the writer
}

// outgoing is one message for the writer.
type outgoing struct {
	message []byte
	written chan struct{} // the writer closes it when the operating system has taken the message
}

// dialWebSocket opens a WebSocket to target (http or https) through transport, which knows proxies and
// certificates, and offers the sub-protocols. The connection ends with ctx. The reader calls handle to decode
// one message after the other, and an error of handle ends the connection. A server's refusal is a noUpgrade.
func dialWebSocket(
	ctx context.Context, transport *http.Transport, target *url.URL, protocols []string,
	handle func(*json.Decoder) error,
) (*wsConn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	stream := &wsStream{ctx: dialCtx, transport: transport, target: target}
	stream.Writer = &stream.greeting
	ws, err := websocket.NewClient(&websocket.Config{ // for this dial alone: x/net changes it
		Location: target,
		Origin:   &url.URL{Scheme: target.Scheme, Host: target.Host},
		Protocol: protocols,
		Version:  websocket.ProtocolVersionHybi13,
	}, stream)
	if err != nil {
		if stream.conn != nil { // the server has upgraded, but to something else
			stream.Close()
		}
		return nil, err
	}
	c := &wsConn{ws: ws, out: make(chan outgoing)}
	c.ctx, c.fail = context.WithCancelCause(ctx)
	c.idle.Store(int64(firstIdle))
	silence := time.AfterFunc(firstIdle, func() {
		c.fail(fmt.Errorf("nothing received for %s", time.Duration(c.idle.Load())))
	})
	stream.received = func() { // frames of any kind are a sign of life
		c.heard.Store(time.Now().UnixNano())
		silence.Reset(time.Duration(c.idle.Load()))
	}
	context.AfterFunc(c.ctx, func() { // the writer may be stuck, and not close the stream
		time.AfterFunc(closeTimeout, func() { stream.Close() })
	})
	c.wg.Go(func() {
		c.readLoop(handle)
		silence.Stop() // not before: each read sets it anew
	})
	c.wg.Go(c.writeLoop)
	return c, nil
}

// readLoop is the reader's. It reads until handle returns an error, which may be that of a read.
func (c *wsConn) readLoop(handle func(*json.Decoder) error) {
	limited := &io.LimitedReader{R: c.ws}
	decoder := json.NewDecoder(limited)
	var err error
	for err == nil {
		limited.N = maxMessage
		err = handle(decoder)
	}
	if limited.N <= 0 {
		err = fmt.Errorf("incoming message larger than %d bytes", maxMessage)
	}
	c.fail(err)
}

// writeLoop is the writer's. It writes until a write fails, or until the connection ends for another reason.
func (c *wsConn) writeLoop() {
	// Sends the closing frame, and closes the stream. Its code is 1000, normal:
	// https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1
	defer c.ws.Close()
	for {
		select {
		case next := <-c.out:
			late := time.AfterFunc(writeTimeout, func() {
				c.fail(fmt.Errorf("nothing taken for %s", writeTimeout))
			})
			_, err := c.ws.Write(next.message)
			late.Stop()
			if err != nil {
				c.fail(err)
				return
			}
			close(next.written)
		case <-c.ctx.Done():
			return
		}
	}
}

// send gives message to the writer. It returns when the operating system has taken the message, or with the
// error that ended the connection or ctx. Even if ctx ends, the writer may still be reading message: it must
// not change.
func (c *wsConn) send(ctx context.Context, message []byte) error {
	next := outgoing{message, make(chan struct{})}
	out := c.out
	for {
		select {
		case out <- next:
			out = nil // the writer has it: only its end is left to wait for
		case <-next.written:
			return nil
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// close ends the connection, with a closing frame if the peer still listens, and waits for the reader and the
// writer. handle must not call it, because the reader would wait for itself.
func (c *wsConn) close() {
	c.fail(errors.New("closed by this end"))
	c.wg.Wait()
}
