package main

// ws.go knows one WebSocket (RFC 6455), client side, of JSON messages: dial, read, write, close. What the messages mean
// is the caller's business.
//
// Goroutines of one connection: a reader, which calls the caller's function for each message, and a writer, the only one
// that sends messages. The first error ends both, and close waits for both.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/websocket"
)

const (
	maxMessage   = 2 << 20                // bytes of one incoming message; an AppSync event of 240 KB is below 1 MB on the wire
	dialTimeout  = 15 * time.Second       // from the first packet to the end of the WebSocket handshake
	firstIdle    = 5 * time.Minute        // without a frame, until the server has said how long that may be
	writeTimeout = 30 * time.Second       // for one message; a peer that takes nothing for so long is gone
	closeTimeout = 250 * time.Millisecond // for the closing frame, and for what is being written then
)

// errNoUpgrade is part of errors that say with which HTTP status a server refused.
var errNoUpgrade = errors.New("the server refuses the WebSocket")

// wsConn is one open WebSocket. Its Read, Write and Close are for x/net/websocket, which does the framing above them.
type wsConn struct {
	ws   *websocket.Conn
	ctx  context.Context         // ends with the connection; its cause says why
	fail context.CancelCauseFunc // ends the connection; the first error is kept
	out  chan []byte
	wg   sync.WaitGroup
	// Nanoseconds without a frame after which the connection counts as dead; when something came last, Unix nanoseconds by
	// the wall clock.
	idle, heard atomic.Int64
	silence     *time.Timer // ends the connection

	stream    io.ReadWriteCloser // after the handshake
	handshake bytes.Buffer       // x/net's request until it is sent, then net/http's answer until it is read
	upgrade   func() error
}

// dialWebSocket opens a WebSocket to target (http or https) through transport, which knows proxies and certificates,
// offering the sub-protocols. It ends with ctx. handle is called by the reader to decode one message after the other; its
// error ends the connection. A server's refusal is errNoUpgrade, with its HTTP status.
func dialWebSocket(ctx context.Context, transport *http.Transport, target *url.URL, protocols []string, handle func(*json.Decoder) error) (_ *wsConn, err error) {
	c := &wsConn{out: make(chan []byte)}
	c.idle.Store(int64(firstIdle))
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	// net/http sends x/net's handshake, because it knows proxies and tells why a server refuses; what it got is for x/net to read.
	c.upgrade = func() error {
		req, err := http.ReadRequest(bufio.NewReader(&c.handshake))
		if err != nil {
			return err
		}
		req.RequestURI, req.URL = "", target
		resp, err := transport.RoundTrip(req.WithContext(dialCtx))
		if err != nil {
			return err
		}
		if c.stream, _ = resp.Body.(io.ReadWriteCloser); c.stream == nil { // not upgraded
			defer resp.Body.Close()
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
			return fmt.Errorf("%w: %d %s: %q", errNoUpgrade, resp.StatusCode, http.StatusText(resp.StatusCode), firstLine(string(text)))
		}
		head, err := httputil.DumpResponse(resp, false)
		c.handshake.Write(head)
		return err
	}
	// A Config is good for one dial: the handshake overwrites Protocol.
	config := &websocket.Config{Location: target, Origin: &url.URL{Scheme: target.Scheme, Host: target.Host}, Protocol: protocols, Version: websocket.ProtocolVersionHybi13}
	if c.ws, err = websocket.NewClient(config, c); err != nil {
		if c.stream != nil {
			c.Close()
		}
		return nil, err
	}
	c.ctx, c.fail = context.WithCancelCause(ctx)
	c.silence = time.AfterFunc(firstIdle, func() { c.fail(fmt.Errorf("nothing received for %s", time.Duration(c.idle.Load()))) })
	context.AfterFunc(c.ctx, func() { time.AfterFunc(closeTimeout, func() { c.Close() }) })
	c.wg.Go(func() { c.fail(c.readLoop(handle)) })
	c.wg.Go(func() { c.fail(c.writeLoop()) })
	return c, nil
}

func (c *wsConn) Read(p []byte) (int, error) {
	if c.stream == nil {
		if err := c.upgrade(); err != nil {
			return 0, err
		}
	}
	if c.handshake.Len() > 0 {
		return c.handshake.Read(p)
	}
	n, err := c.stream.Read(p)
	c.heard.Store(time.Now().UnixNano())
	c.silence.Reset(time.Duration(c.idle.Load()))
	return n, err
}

func (c *wsConn) Write(p []byte) (int, error) {
	if c.stream == nil {
		return c.handshake.Write(p)
	}
	return c.stream.Write(p)
}

func (c *wsConn) Close() error { return c.stream.Close() }

func (c *wsConn) readLoop(handle func(*json.Decoder) error) (err error) {
	defer c.silence.Stop()
	limited := &io.LimitedReader{R: c.ws}
	for decoder := json.NewDecoder(limited); err == nil; {
		limited.N = maxMessage
		err = handle(decoder)
	}
	if limited.N <= 0 {
		err = fmt.Errorf("incoming message larger than %d bytes", maxMessage)
	}
	return err
}

func (c *wsConn) writeLoop() (err error) {
	defer c.Close()
	for err == nil {
		select {
		case msg := <-c.out:
			if len(msg) > 0 {
				late := time.AfterFunc(writeTimeout, func() { c.fail(fmt.Errorf("nothing taken for %s", writeTimeout)) })
				_, err = c.ws.Write(msg)
				late.Stop()
			}
		case <-c.ctx.Done():
			return c.ws.WriteClose(1000)
		}
	}
	return err
}

// send returns when msg has been given to the operating system, or with the connection's or ctx's error.
func (c *wsConn) send(ctx context.Context, msg []byte) error {
	for _, m := range [][]byte{msg, nil} { // the writer takes the second one when it has written the first
		select {
		case c.out <- m:
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// close ends the connection, with a closing frame where the peer still listens, and waits for its goroutines. Not to be
// called from handle.
func (c *wsConn) close() { c.fail(errors.New("closed by this end")); c.wg.Wait() }
