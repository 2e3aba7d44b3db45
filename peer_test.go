//go:build !layer

package main

// peer_test.go is the other end, played by the tests: recording servers, a WebSocket's other side byte by
// byte, certificates, and a network of pipes.

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// pipeListener is a net.Listener whose connections are pipes: tests in a bubble of fake time need them.
type pipeListener struct {
	host  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener(host string) *pipeListener {
	return &pipeListener{host: host, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.host) }

type pipeAddr string

func (a pipeAddr) Network() string { return "pipe" }

func (a pipeAddr) String() string { return string(a) }

// dial connects to the listener, whatever the address.
func (l *pipeListener) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// environ is an environment of NAME=VALUE pairs, separated by spaces, with what Lambda always sets below
// them.
func environ(pairs string) func(string) string {
	values := map[string]string{"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "AWS_REGION": "eu-west-1"}
	for _, pair := range strings.Split(pairs, " ") {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	return func(name string) string { return values[name] }
}

// logLines keeps what is logged.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) logger() *slog.Logger {
	return newLogger(config{logLevel: slog.LevelDebug}, l)
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

type asyncResult[T any] struct {
	value T
	err   error
}

// async calls f; the channel brings what it returns.
func async[T any](f func() (T, error)) chan asyncResult[T] {
	done := make(chan asyncResult[T], 1)
	go func() {
		value, err := f()
		done <- asyncResult[T]{value: value, err: err}
	}()
	return done
}

// asyncError calls f; the channel brings its error.
func asyncError(f func() error) chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// checkError checks that err says want in one line; if want is empty, that there is none.
func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "":
		if err != nil {
			t.Errorf("error %v, want none", err)
		}
	case err == nil:
		t.Errorf("no error, want %q", want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("error %v, want %q", err, want)
	case strings.Contains(err.Error(), "\n"):
		t.Errorf("error of more than one line: %q", err)
	}
}

// asBytes is the events, one after the other.
func asBytes(events []string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, e := range events {
			if !yield([]byte(e)) {
				return
			}
		}
	}
}

// jsonStrings is an object of strings.
func jsonStrings(t *testing.T, raw []byte) (object map[string]string) {
	t.Helper()
	if err := json.Unmarshal(raw, &object); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return object
}

// transportFunc is an http.RoundTripper.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// httpAnswer is an answer to an HTTP request.
func httpAnswer(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status,
		Status:     fmt.Sprint(status, " ", http.StatusText(status)),
		Header:     http.Header{},
		Body:       io.NopCloser(strings.NewReader(body)),
	}
}

// splitAnswer takes an answer, "200 BODY", apart.
func splitAnswer(answer string) (status int, body string) {
	code, body, _ := strings.Cut(answer, " ")
	fmt.Sscan(code, &status)
	return status, body
}

// listen takes a port of loopback until the test ends.
func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// port is the port of a listener.
func port(ln net.Listener) string { return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port) }

// recordingServer is an HTTP server that keeps what it was asked.
type recordingServer struct {
	*httptest.Server
	t     *testing.T
	mu    sync.Mutex
	calls []recordedCall
}

type recordedCall struct {
	what   string // method and path, without the API's prefix
	header http.Header
	body   string
}

// record keeps a call and returns its number.
func (s *recordingServer) record(r *http.Request) int {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	what := r.Method + " " + strings.TrimPrefix(cmp.Or(r.URL.Path, r.Host), "/2020-01-01/extension/")
	s.calls = append(s.calls, recordedCall{what: what, header: r.Header.Clone(), body: string(body)})
	return len(s.calls) - 1
}

// seen returns a call, counted from 0.
func (s *recordingServer) seen(n int) recordedCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n >= len(s.calls) {
		s.t.Fatalf("%d calls, want one more", n)
	}
	return s.calls[n]
}

// want checks what was asked, in order.
func (s *recordingServer) want(calls ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for _, c := range s.calls {
		got = append(got, c.what)
	}
	if !slices.Equal(got, calls) {
		s.t.Errorf("calls %q, want %q", got, calls)
	}
}

// certificate is one, with its key.
type certificate struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// newCertificate issues a certificate for name, signed with its own key if issuer is nil. Names with a dot
// are of servers, others of authorities.
func newCertificate(
	t *testing.T, name string, issuer *certificate, changes ...func(*x509.Certificate)) *certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-2 * time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	if strings.Contains(name, ".") {
		c.DNSNames = []string{name}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	} else {
		c.IsCA = true
		c.BasicConstraintsValid = true
		c.KeyUsage = x509.KeyUsageCertSign
	}
	for _, change := range changes {
		change(c)
	}
	by := &certificate{Certificate: c, key: key}
	if issuer != nil {
		by = issuer
	}
	der, err := x509.CreateCertificate(crand.Reader, c, by.Certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &certificate{Certificate: issued, key: key}
}

// pem is the certificate as a file has it.
func (c *certificate) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// peer is the server's end of one connection, byte for byte.
type peer struct {
	t       *testing.T
	nc      net.Conn
	r       *bufio.Reader
	request *http.Request // what the client asked first
}

// acceptPeer takes the next connection, and the request on it.
func acceptPeer(t *testing.T, ln net.Listener) *peer {
	t.Helper()
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	p := &peer{t: t, nc: nc, r: bufio.NewReader(nc)}
	if p.request, err = http.ReadRequest(p.r); err != nil {
		t.Fatal(err)
	}
	return p
}

// accept answers the handshake's challenge (RFC 6455, section 4.2.2).
func (p *peer) accept() string {
	sum := sha1.Sum(
		[]byte(p.request.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// upgrade accepts the WebSocket, with this sub-protocol.
func (p *peer) upgrade(protocol string) {
	p.t.Helper()
	p.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: " +
		"Upgrade\r\nSec-WebSocket-Accept: " + p.accept() +
		"\r\nSec-WebSocket-Protocol: " + protocol + "\r\n\r\n")
}

// write sends bytes as they are.
func (p *peer) write(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.nc, text); err != nil {
		p.t.Error(err)
	}
}

// frame sends one frame.
func (p *peer) frame(final bool, opcode byte, payload string) {
	p.t.Helper()
	p.write(string(webSocketFrame(final, opcode, []byte(payload))))
}

// say sends one text message.
func (p *peer) say(format string, args ...any) {
	p.t.Helper()
	p.frame(true, websocket.TextFrame, fmt.Sprintf(format, args...))
}

// read returns the client's next frame, which must be whole and masked.
func (p *peer) read() (opcode byte, payload string) {
	p.t.Helper()
	var head [14]byte
	n := 2
	if _, err := io.ReadFull(p.r, head[:2]); err != nil {
		p.t.Fatal(err)
	}
	switch head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if _, err := io.ReadFull(p.r, head[2:n+4]); err != nil {
		p.t.Fatal(err)
	}
	size := uint64(head[1] & 0x7f)
	if n == 4 {
		size = uint64(binary.BigEndian.Uint16(head[2:]))
	} else if n == 10 {
		size = binary.BigEndian.Uint64(head[2:])
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(p.r, body); err != nil {
		p.t.Fatal(err)
	}
	for i := range body {
		body[i] ^= head[n+i%4]
	}
	if head[0]&0xf0 != 0x80 || head[1]&0x80 == 0 {
		p.t.Errorf("frame header %x: not final, or not masked", head[:2])
	}
	return head[0] & 0x0f, string(body)
}

// answer sends the answer to an HTTP request, "STATUS BODY", and says that it is the last one.
func (p *peer) answer(answer string) error {
	status, body := splitAnswer(answer)
	_, err := fmt.Fprintf(p.nc,
		"HTTP/1.1 %d %s\r\nLocation: /x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), len(body), body)
	return err
}

// ping sends a ping, and wants a pong with the same payload next.
func (p *peer) ping(payload string) {
	p.t.Helper()
	p.frame(true, websocket.PingFrame, payload)
	if opcode, got := p.read(); opcode != websocket.PongFrame || got != payload {
		p.t.Errorf("pong: opcode %d, %q; want %q", opcode, got, payload)
	}
}

// drain reads until the client has closed the connection.
func (p *peer) drain() { io.Copy(io.Discard, p.r) }

// operation reads the client's next message, which must be an AppSync operation of this type.
func (p *peer) operation(typ string) (m clientMessage) {
	p.t.Helper()
	opcode, payload := p.read()
	if err := json.Unmarshal([]byte(payload), &m); err != nil || opcode != websocket.TextFrame ||
		m.Type != typ {
		p.t.Fatalf("got opcode %d, %s, %v; want %s", opcode, payload, err, typ)
	}
	return m
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
		back := async(func() (int64, error) {
			defer client.Close()
			return io.Copy(client, server)
		})
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
			for {
				var message string
				if err := websocket.Message.Receive(ws, &message); err != nil {
					return
				}
				websocket.Message.Send(ws, message)
			}
		},
	}
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.TLS = &tls.Config{Certificates: certificates}
	if secure {
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
	transport := &http.Transport{DialContext: ln.dial}
	dialled := dial(t.Context(), transport, "http://example.com/event/realtime", func(m string) { got <- m })
	p := acceptPeer(t, ln)
	p.upgrade("chat")
	r := <-dialled
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(r.value.close)
	return r.value, p, got
}

const testToken = "marked-session-token"

var testCredentials = credentials{
	accessKeyID: "AKIDTEST", secretAccessKey: "test-secret", sessionToken: testToken}

// newTestAPI is a client of the API that ln serves as example.com.
func newTestAPI(ln *pipeListener) *appsync {
	var transport *http.Transport
	if ln != nil {
		transport = &http.Transport{DialContext: ln.dial, DisableKeepAlives: true}
	}
	return newAppSync(
		endpoint{
			http:      &url.URL{Scheme: "http", Host: "example.com", Path: "/event"},
			realtime:  &url.URL{Scheme: "http", Host: "example.com", Path: "/event/realtime"},
			region:    "eu-west-1",
			namespace: "live-lambda",
		},
		nil, transport,
		func(context.Context) (credentials, error) { return testCredentials, nil },
		slog.New(slog.DiscardHandler))
}

// startTestAPI is the emulator, for newTestAPI.
func startTestAPI(t *testing.T, opts eventAPIOptions) (*eventAPI, *pipeListener) {
	ln := newPipeListener("example.com")
	opts.region = "eu-west-1"
	if opts.apiKey == "" {
		opts.credentials = []credentials{testCredentials}
	}
	api := startEventAPI(ln, opts)
	t.Cleanup(api.close)
	return api, ln
}

// connectSession connects to AppSync, played by the test.
func connectSession(t *testing.T, ln *pipeListener, a *appsync) (*session, *peer) {
	t.Helper()
	return connectSessionWith(t, ln, a, `{"type":"connection_ack","connectionTimeoutMs":300000}`)
}

// connectSessionWith is connectSession with these words for connection_ack.
func connectSessionWith(t *testing.T, ln *pipeListener, a *appsync, ack string) (*session, *peer) {
	t.Helper()
	done := async(func() (*session, error) { return a.connect(t.Context()) })
	p := acceptPeer(t, ln)
	p.upgrade("aws-appsync-event-ws")
	p.operation("connection_init")
	p.say("%s", ack)
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(r.value.conn.close)
	p.say(`{"type":"ka"}`) // the acknowledged timeout counts from the next frame on
	return r.value, p
}

// pipeNetwork connects the names that listen on it, and nothing else.
type pipeNetwork struct {
	mu    sync.Mutex // guards the following; real does not change once it is in use
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

// listen makes an address one that can be dialled.
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

// dial connects to the listener at an address, through pipes with send buffers.
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
