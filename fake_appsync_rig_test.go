//go:build !layer

package main

// fake_appsync_rig_test.go is the client of the emulated AppSync's own tests.

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"
)

const (
	apiKeyAuth = `{"host":"example.com","x-api-key":"da2-key"}`
	keyField   = `"authorization":{"x-api-key":"da2-key"}`
)

var (
	errGoodbye = errors.New("a closing frame")
	errSilent  = errors.New("nothing comes any more")
	dataOne    = []byte(`{"type":"data","id":"s","event":"1"}`)
)

func apiQuote(s string) string { return string(mustJSON(s)) }

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// eventAPITest runs a test in a bubble of fake time, against an emulator on pipes that serves as example.com.
func eventAPITest(
	t *testing.T, name string, opts eventAPIOptions, test func(*testing.T, *eventAPI, *pipeListener)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener("example.com")
			api := startEventAPI(ln, opts)
			defer api.close()
			test(t, api, ln)
		})
	})
}

// client connects with an authorization object.
func (l *pipeListener) client(t testing.TB, auth string) *eventAPIClient {
	return dialEventAPI(t, func() (net.Conn, error) { return l.dial(t.Context(), "", "") }, l.host, auth)
}

func (l *pipeListener) clientWith(t testing.TB, protocols string) *eventAPIClient {
	return dialProtocols(t, func() (net.Conn, error) {
		return l.dial(t.Context(), "", "")
	}, l.host, protocols)
}

// post publishes over HTTP, with the API key if header is nil, and returns the status and a digest of the
// answer.
func (l *pipeListener) post(t *testing.T, header http.Header, body string) string {
	t.Helper()
	status, raw := l.postTo(t, "/event", header, body)
	if !json.Valid(raw) {
		return status
	}
	if status != "200" {
		status += " error"
	}
	return strings.TrimSpace(status + " " + apiDigest(raw))
}

// postTo returns the status, or EOF, and the answer.
func (l *pipeListener) postTo(t *testing.T, path string, header http.Header, body string) (string, []byte) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: l.dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(
		t.Context(), http.MethodPost, "http://"+l.host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	if header == nil {
		req.Header = http.Header{"X-Api-Key": {"da2-key"}}
	}
	resp, err := client.Do(req)
	if errors.Is(err, io.EOF) {
		return "EOF", nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode), raw
}

// upgrade asks for a WebSocket and returns the status of the answer, 0 when there is none within a minute.
func (l *pipeListener) upgrade(t *testing.T, protocols string) int {
	t.Helper()
	nc, err := l.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(time.Minute))
	var answer bytes.Buffer
	websocket.NewClient(websocketConfig(l.host, protocols), readTee{Conn: nc, read: &answer})
	var status int
	fmt.Sscanf(answer.String(), "HTTP/1.1 %d", &status)
	return status
}

// readTee keeps what is read.
type readTee struct {
	net.Conn
	read *bytes.Buffer
}

func (c readTee) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Write(p[:n])
	return n, err
}

func websocketConfig(host, protocols string) *websocket.Config {
	return &websocket.Config{
		Location: &url.URL{Scheme: "ws", Host: host, Path: "/event/realtime"},
		Origin:   &url.URL{Scheme: "http", Host: host},
		Protocol: strings.Split(strings.ReplaceAll(protocols, " ", ""), ","),
		Version:  websocket.ProtocolVersionHybi13,
	}
}

// eventAPIClient is a client that knows no more than the protocol's frames.
type eventAPIClient struct {
	t  testing.TB
	nc net.Conn
	ws *websocket.Conn
}

func dialEventAPI(t testing.TB, dial func() (net.Conn, error), host, auth string) *eventAPIClient {
	t.Helper()
	return dialProtocols(
		t, dial, host, "aws-appsync-event-ws, header-"+base64.RawURLEncoding.EncodeToString([]byte(auth)))
}

func dialProtocols(t testing.TB, dial func() (net.Conn, error), host, protocols string) *eventAPIClient {
	t.Helper()
	return dialConfig(t, dial, websocketConfig(host, protocols))
}

func dialConfig(t testing.TB, dial func() (net.Conn, error), config *websocket.Config) *eventAPIClient {
	t.Helper()
	nc, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	ws, err := websocket.NewClient(config, nc)
	if err != nil {
		t.Fatal(err)
	}
	return &eventAPIClient{t: t, nc: nc, ws: ws}
}

func (c *eventAPIClient) send(message string) {
	c.t.Helper()
	if err := websocket.Message.Send(c.ws, message); err != nil {
		c.t.Fatal(err)
	}
}

// tryReceive returns one message, its frames joined, or errGoodbye for a closing frame.
func (c *eventAPIClient) tryReceive() ([]byte, error) {
	var message bytes.Buffer
	for {
		frame, err := c.ws.NewFrameReader()
		if err != nil {
			return nil, err
		}
		first := []byte{0}
		frame.HeaderReader().Read(first)
		if frame.PayloadType() == websocket.CloseFrame {
			return nil, errGoodbye
		}
		payload, err := c.ws.HandleFrame(frame) // answers pings
		if err != nil {
			return nil, err
		}
		if payload == nil {
			continue
		}
		_, err = message.ReadFrom(payload)
		if err != nil {
			return nil, err
		}
		if first[0]&0x80 != 0 {
			return message.Bytes(), nil
		}
	}
}

func (c *eventAPIClient) receive() []byte {
	c.t.Helper()
	raw, err := c.tryReceive()
	if err != nil {
		c.t.Fatal(err)
	}
	return raw
}

// wantConnection expects that the handshake is refused, or how the connection begins.
func (c *eventAPIClient) wantConnection(want string) {
	c.t.Helper()
	if strings.HasPrefix(want, "connection_error") {
		c.want(want)
		c.wantEnd(errGoodbye)
		return
	}
	c.send(`{"type":"connection_init"}`)
	c.want(want)
}

// want receives messages and compares their digests; other keep-alives than the first are passed over.
func (c *eventAPIClient) want(want ...string) {
	c.t.Helper()
	for _, w := range want {
		got := apiDigest(c.receive())
		for got == "ka" && w != "ka" {
			got = apiDigest(c.receive())
		}
		if got != w {
			c.t.Fatalf("got %s, want %s", got, w)
		}
	}
}

// wantAll is want in any order.
func (c *eventAPIClient) wantAll(want ...string) {
	c.t.Helper()
	var got []string
	for range want {
		got = append(got, apiDigest(c.receive()))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		c.t.Fatalf("got %q, want %q", got, want)
	}
}

func (c *eventAPIClient) wantEnd(want error) {
	c.t.Helper()
	raw, err := c.tryReceive()
	if !errors.Is(err, want) {
		c.t.Fatalf("got %q, %v; want %v", raw, err, want)
	}
}

// ask sends one operation and compares the answer.
func (c *eventAPIClient) ask(typ, id, channel, want string) {
	c.t.Helper()
	c.send(fmt.Sprintf(`{"type":%q,"id":%q,"channel":%q,"events":["1"],%s}`, typ, id, channel, keyField))
	c.want(want)
}

func (c *eventAPIClient) subscribe(id, channel string) {
	c.t.Helper()
	c.ask("subscribe", id, channel, "subscribe_success "+id)
}

func (c *eventAPIClient) publish(id, channel, event string) {
	c.t.Helper()
	c.send(fmt.Sprintf(
		`{"type":"publish","id":%q,"channel":%q,"events":[%q],%s}`, id, channel, event, keyField))
	c.want("publish_success " + id + " ok 0")
}

// apiDigest is a message in one line: type, ID and what else matters in it.
func apiDigest(raw []byte) string {
	type digestedError struct{ ErrorType string }
	type digestedEvent struct {
		Index int
		Code  string
	}
	var m struct {
		Type                string
		ID                  string
		ConnectionTimeoutMs int
		Event               any
		Errors              []digestedError
		Payload             struct {
			ConnectionTimeoutMs int
			Data                any
			Errors              []digestedError
		}
		Successful []digestedEvent
		Failed     []digestedEvent
	}
	if json.Unmarshal(raw, &m) != nil {
		return "not JSON"
	}
	words := []string{m.Type, m.ID}
	m.ConnectionTimeoutMs += m.Payload.ConnectionTimeoutMs // one of the two
	m.Errors = append(m.Errors, m.Payload.Errors...)
	if m.ConnectionTimeoutMs != 0 {
		words = append(words, fmt.Sprint(m.ConnectionTimeoutMs))
	}
	if m.Payload.Data != nil {
		words = append(words, quoteRaw(m.Payload.Data))
	}
	array, isArray := m.Event.([]any)
	if isArray && len(array) == 1 {
		m.Event = array[0]
	}
	if m.Event != nil {
		words = append(words, quoteRaw(m.Event))
	}
	for _, e := range m.Errors {
		words = append(words, e.ErrorType)
	}
	var ok, failed []string
	for _, e := range m.Successful {
		ok = append(ok, fmt.Sprint(e.Index))
	}
	for _, e := range m.Failed {
		failed = append(failed, fmt.Sprintf("%d:%s", e.Index, e.Code))
	}
	if ok != nil {
		words = append(words, "ok", strings.Join(ok, ","))
	}
	if failed != nil {
		words = append(words, "failed", strings.Join(failed, ","))
	}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}

// quoteRaw is a JSON string with its < > & as they are.
func quoteRaw(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(v)
	return strings.TrimSpace(b.String())
}
