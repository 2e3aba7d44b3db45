package main

// ws.go knows one WebSocket (RFC 6455), client side: dial, read messages, write messages, close, dial again. Bytes of a
// message come in and go out; what they mean is the caller's business.
//
// Goroutines of one connection: a reader, which calls the caller's function with each message, and a writer, the only
// one that sends messages. The first error ends both, and close waits for both.

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	closeTimeout = 250 * time.Millisecond // for the closing frame
	firstBackoff = 100 * time.Millisecond // between dials: doubles with each failure, drawn with full jitter
	maxBackoff   = 10 * time.Second
	atOnce       = -1 // a pause for redial: do not wait at all
)

var (
	errClosed   = errors.New("closed by this end")
	errTooLarge = fmt.Errorf("incoming message larger than %d bytes", maxMessage)
	errNoClose  = errors.New("the connection ended without a closing frame")
)

// wsConn is one open WebSocket.
type wsConn struct {
	nc        net.Conn
	ws        *websocket.Conn
	out       chan outgoing
	done      chan struct{} // closed when the connection has ended; err then says why
	once      sync.Once
	err       error
	wg        sync.WaitGroup
	idle      atomic.Int64 // nanoseconds without a frame after which the connection counts as dead
	lastFrame atomic.Int64 // when the last frame came, Unix nanoseconds by the wall clock
}

// outgoing is one message on its way to the writer; a nil msg is the closing frame.
type outgoing struct {
	msg    []byte
	result chan error
}

// dialWebSocket opens a WebSocket to target (http or https) through transport, which knows proxies and certificates,
// offering the sub-protocols. handle is called by the reader with one message at a time; the bytes are the reader's
// again when it returns. A server's refusal is an error with its HTTP status, a *handshakeError.
func dialWebSocket(ctx context.Context, transport *http.Transport, target *url.URL, protocols []string, handle func([]byte)) (*wsConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	u := &upgrade{ctx: ctx, transport: transport, target: target}
	// A Config is good for one dial: the handshake overwrites Protocol.
	ws, err := websocket.NewClient(&websocket.Config{
		Location: target,
		Origin:   &url.URL{Scheme: target.Scheme, Host: target.Host},
		Protocol: protocols,
		Version:  websocket.ProtocolVersionHybi13,
	}, u)
	if err != nil {
		u.Close()
		return nil, cmp.Or(u.err, err)
	}
	if t, ok := u.conn.(*tls.Conn); ok {
		u.conn = t.NetConn() // TLS would say goodbye before it closes, and wait for a peer that takes nothing
	}
	c := &wsConn{nc: u.conn, ws: ws, out: make(chan outgoing), done: make(chan struct{})}
	c.idle.Store(int64(firstIdle))
	c.lastFrame.Store(time.Now().UnixNano())
	c.wg.Go(func() { c.fail(c.readLoop(handle)) })
	c.wg.Go(func() { c.fail(c.writeLoop()) })
	return c, nil
}

// systemRoots are where an operating system keeps its root certificates: files, of which the first one that can be read
// counts, and directories.
type systemRoots struct{ files, dirs []string }

// tlsConfig verifies servers as crypto/tls does by itself, but at less cost: that parses all of the system's certificates,
// which takes longer than everything else this program does when it starts. TLS names no server that is an IP address,
// so there the certificate has to be host's.
func (r systemRoots) tlsConfig(host string) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, // VerifyConnection does what is skipped
		VerifyConnection: func(cs tls.ConnectionState) error {
			return r.verify(cmp.Or(cs.ServerName, host), cs)
		},
	}
}

// verify checks the chain, the name, the dates and the usage of a server's certificate. Only those roots are parsed
// whose name is that of a certificate in the chain or of its issuer; the others cannot be part of it.
func (r systemRoots) verify(host string, cs tls.ConnectionState) error {
	opts := x509.VerifyOptions{DNSName: host, Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	for _, c := range cs.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	for _, file := range r.files {
		if bundle, err := os.ReadFile(file); err == nil {
			addRoots(opts.Roots, bundle, cs.PeerCertificates)
			break
		}
	}
	_, err := cs.PeerCertificates[0].Verify(opts)
	for i := 0; err != nil && i < len(r.dirs); i++ {
		files, _ := os.ReadDir(r.dirs[i]) // what cannot be read is not trusted
		for _, f := range files {
			if bundle, readErr := os.ReadFile(filepath.Join(r.dirs[i], f.Name())); readErr == nil {
				addRoots(opts.Roots, bundle, cs.PeerCertificates)
			}
		}
		_, err = cs.PeerCertificates[0].Verify(opts)
	}
	return err
}

// addRoots adds to pool those certificates of a PEM bundle that chain may lead to.
func addRoots(pool *x509.CertPool, bundle []byte, chain []*x509.Certificate) {
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		named := func(c *x509.Certificate) bool {
			return bytes.Contains(block.Bytes, c.RawIssuer) || bytes.Contains(block.Bytes, c.RawSubject)
		}
		if slices.ContainsFunc(chain, named) {
			if c, err := x509.ParseCertificate(block.Bytes); err == nil {
				pool.AddCert(c)
			}
		}
	}
}

// upgrade carries the bytes of one WebSocket. x/net/websocket writes its own handshake and tells nothing of a refusal;
// so the handshake it writes is sent by net/http, and what net/http got is handed back for it to read.
type upgrade struct {
	ctx       context.Context // of the handshake
	transport *http.Transport
	target    *url.URL
	request   []byte             // the handshake, until it is whole
	answer    bytes.Buffer       // net/http's answer, until it is read
	conn      net.Conn           // below stream, for its deadlines
	stream    io.ReadWriteCloser // after the handshake
	err       error              // why there is none
}

func (u *upgrade) Write(p []byte) (int, error) {
	if u.stream != nil {
		return u.stream.Write(p)
	}
	u.request = append(u.request, p...)
	if bytes.HasSuffix(u.request, []byte("\r\n\r\n")) {
		u.err = u.handshake()
	}
	return len(p), u.err
}

func (u *upgrade) handshake() error {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(u.request)))
	if err != nil {
		return err
	}
	req.RequestURI, req.URL = "", u.target
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { u.conn = info.Conn }}
	resp, err := u.transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(u.ctx, trace)))
	if err != nil {
		return err
	}
	stream, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return &handshakeError{resp.StatusCode, string(text)}
	}
	fmt.Fprintf(&u.answer, "HTTP/1.1 %s\r\n", resp.Status)
	resp.Header.Write(&u.answer)
	u.answer.WriteString("\r\n")
	u.stream = stream
	return nil
}

func (u *upgrade) Read(p []byte) (int, error) {
	if u.answer.Len() > 0 {
		return u.answer.Read(p)
	}
	return u.stream.Read(p)
}

func (u *upgrade) Close() error {
	if u.stream == nil {
		return nil
	}
	return u.stream.Close()
}

// handshakeError is a server's refusal to upgrade.
type handshakeError struct {
	status int    // HTTP status
	text   string // the beginning of what the server said
}

func (e *handshakeError) Error() string {
	return fmt.Sprintf("the server refuses the WebSocket: %d %s: %q", e.status, http.StatusText(e.status), firstLine(e.text))
}

// firstLine is the beginning of a text from outside, short enough for a log line.
func firstLine(s string) string {
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[:i]
	}
	return s[:min(len(s), 160)]
}

// readLoop hands every message to handle until the connection ends. x/net's own Receive returns frames, not messages,
// so fragments are joined here.
func (c *wsConn) readLoop(handle func([]byte)) error {
	var msg bytes.Buffer
	for {
		c.nc.SetReadDeadline(time.Now().Add(time.Duration(c.idle.Load())))
		frame, err := c.ws.NewFrameReader()
		if err != nil {
			return c.readError(err)
		}
		header, _ := io.ReadAll(frame.HeaderReader()) // from memory
		switch frame.PayloadType() {
		case websocket.CloseFrame:
			return closeReason(frame)
		case websocket.PingFrame: // HandleFrame will answer it
			c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
		}
		payload, err := c.ws.HandleFrame(frame)
		if err != nil {
			return c.readError(err)
		}
		c.lastFrame.Store(time.Now().UnixNano())
		if payload == nil {
			continue
		}
		size := frame.Len() - len(header)
		if size < 0 || size > maxMessage-msg.Len() {
			return errTooLarge
		}
		if n, err := msg.ReadFrom(payload); err != nil || n < int64(size) {
			return c.readError(cmp.Or(err, io.ErrUnexpectedEOF))
		}
		if final := header[0]&0x80 != 0; !final {
			continue
		}
		handle(msg.Bytes())
		if msg.Cap() > 64<<10 { // a large message's buffer is not kept for the small ones that follow
			msg = bytes.Buffer{}
		}
		msg.Reset()
	}
}

// readError names what a read error means to someone who reads the log.
func (c *wsConn) readError(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errNoClose
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("nothing received for %s", time.Duration(c.idle.Load()))
	}
	return err
}

// closeReason reads a closing frame (RFC 6455, section 5.5.1).
func closeReason(frame io.Reader) error {
	payload, _ := io.ReadAll(io.LimitReader(frame, 125))
	if len(payload) < 2 {
		return errors.New("closed by the server")
	}
	return fmt.Errorf("closed by the server: code %d %q", binary.BigEndian.Uint16(payload), payload[2:])
}

func (c *wsConn) writeLoop() error {
	for {
		select {
		case o := <-c.out:
			err := c.write(o.msg)
			o.result <- err
			if err != nil {
				return err
			}
		case <-c.done:
			return c.err
		}
	}
}

func (c *wsConn) write(msg []byte) error {
	if msg == nil {
		c.nc.SetWriteDeadline(time.Now().Add(closeTimeout))
		c.ws.WriteClose(1000) // best effort: the connection ends either way
		return errClosed
	}
	c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.ws.Write(msg)
	return err
}

// send returns when msg has been given to the operating system, or with the connection's or the context's error.
func (c *wsConn) send(ctx context.Context, msg []byte) error {
	o := outgoing{msg, make(chan error, 1)}
	select {
	case c.out <- o:
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-o.result:
		return err
	case <-c.done:
		return c.err
	}
}

// fail keeps the first error and releases both goroutines and every send.
func (c *wsConn) fail(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.done)
		c.nc.Close()
	})
}

// ended reports whether the connection is over.
func (c *wsConn) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// close says goodbye where the peer still listens, and waits for the connection's goroutines. Not to be called from
// handle.
func (c *wsConn) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	c.send(ctx, nil)
	c.fail(errClosed)
	c.wg.Wait()
}

// redial calls once until ctx is done. once returns when a connection could not be made or has ended: up says that it
// had worked, which starts the backoff anew, and pause is the least time before the next try.
func redial(ctx context.Context, once func(context.Context) (up bool, pause time.Duration)) {
	for backoff := firstBackoff; ctx.Err() == nil; backoff = min(2*backoff, maxBackoff) {
		up, pause := once(ctx)
		if up {
			backoff = firstBackoff
		}
		if pause == atOnce {
			continue
		}
		select {
		case <-time.After(max(pause, rand.N(backoff))):
		case <-ctx.Done():
		}
	}
}
