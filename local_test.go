//go:build !layer

package main

// local_test.go drives the developer's end: its Runtime API with raw HTTP, its processes with this test
// binary as the handler, and its way to AppSync through the emulator, with the extension's own tunnel at the
// other side.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
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
)

func init() {
	if os.Getenv("TEST_RUNTIME") != "" {
		testRuntime()
		os.Exit(0)
	}
	if os.Getenv("TEST_MAIN") != "" {
		os.Unsetenv("TEST_MAIN")
		os.Exit(runCommand(os.Args[1:]))
	}
}

// ---- the handler ----

// task is an event that tells testRuntime what to do.
type task struct {
	Do     string   // echo (default) or one of those below
	Text   string   // to answer, print, …
	Type   string   // content or error type
	Size   int      // of an answer
	File   string   // to wait for, or to write to
	Pieces []string // of a stream
	Code   int      // exit status
}

// testRuntime is a runtime that does what its events say.
func testRuntime() {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/"
	switch os.Getenv("TEST_RUNTIME") {
	case "exit":
		os.Exit(3)
	case "hang":
		select {}
	case "initerror":
		testPost(base+"init/error",
			strings.NewReader(`{"errorType":"Function.Broken","errorMessage":"cannot load"}`), typeHeader,
			"Function.Broken")
		os.Exit(1)
	}
	for {
		resp, err := http.Get(base + "invocation/next")
		if err != nil {
			return
		}
		event, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return
		}
		var do task
		json.Unmarshal(event, &do)
		id := resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
		to := base + "invocation/" + id + "/"
		switch do.Do {
		case "exit":
			os.Exit(do.Code)
		case "print":
			fmt.Print(do.Text)
			testPost(to+"response", strings.NewReader("null"))
		case "error":
			testPost(to+"error", strings.NewReader(do.Text), typeHeader, do.Type, causeHeader,
				`{"working_directory":"/x"}`)
		case "text":
			testPost(to+"response", strings.NewReader(do.Text), "Content-Type", do.Type)
		case "size":
			testPost(to+"response", bytes.NewReader(make([]byte, do.Size)), "Content-Type",
				"application/octet-stream")
		case "pid":
			testPost(to+"response", strings.NewReader(strconv.Itoa(os.Getpid())))
		case "env":
			body, _ := json.Marshal(os.Environ())
			testPost(to+"response", bytes.NewReader(body))
		case "headers":
			body, _ := json.Marshal(resp.Header)
			testPost(to+"response", bytes.NewReader(body))
		case "wait": // at a FIFO
			if f, err := os.Open(do.File); err == nil {
				io.ReadAll(f)
				f.Close()
			}
			testPost(to+"response", strings.NewReader(strconv.Quote(do.Text)))
		case "detach": // a child with a session of its own, which holds a FIFO open, and exit
			child := exec.Command("/bin/sh", "-c", "exec 3>'"+do.File+"'; while :; do sleep 1000; done")
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			child.Start()
			if f, err := os.Open(do.File); err == nil { // when the child has come
				defer f.Close()
			}
			os.Exit(0)
		case "hang": // with a child that ignores SIGTERM and holds a FIFO open
			if do.Text != "" {
				testPost(to+"response", strings.NewReader(do.Text))
			}
			exec.Command(
				"/bin/sh", "-c",
				"trap '' TERM; exec 3>'"+do.File+"'; echo $PPID >&3; while :; do sleep 1000; done").Run()
		case "stream":
			testStream(to+"response", do)
		case "trailers": // as AWS's Go client answers, an error in the trailers
			trailer := http.Header{
				typeHeader: {do.Type}, bodyHeader: {base64.StdEncoding.EncodeToString([]byte(do.Text))}}
			req, _ := http.NewRequest(
				http.MethodPost, to+"response", io.MultiReader(strings.NewReader("half")))
			req.Trailer = trailer
			testDo(req)
		default:
			testPost(to+"response", bytes.NewReader(event), "Content-Type", "application/json")
		}
	}
}

func testStream(to string, do task) {
	pr, pw := io.Pipe()
	req, _ := http.NewRequest(http.MethodPost, to, pr)
	req.Header.Set(modeHeader, "streaming")
	req.Header.Set("Content-Type", do.Type)
	if do.Text != "" {
		req.Trailer = http.Header{
			typeHeader: {"Function.Middle"}, bodyHeader: {base64.StdEncoding.EncodeToString([]byte(do.Text))}}
	}
	go func() {
		for _, p := range do.Pieces {
			io.WriteString(pw, p)
			if do.File != "" { // each further piece waits for the reader of the one before
				f, err := os.Open(do.File)
				if err == nil {
					io.ReadAll(f)
					f.Close()
				}
			}
		}
		if do.Size > 0 {
			pw.Write(bytes.Repeat([]byte("0123456789abcdef"), do.Size/16))
		}
		if do.Code != 0 {
			os.Exit(do.Code)
		}
		pw.Close()
	}()
	testDo(req)
}

func testPost(to string, body io.Reader, headers ...string) {
	req, _ := http.NewRequest(http.MethodPost, to, body)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	testDo(req)
}

func testDo(req *http.Request) {
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// ---- the rig ----

// localRig is a local end and an extension's tunnel, joined by an emulated Event API.
type localRig struct {
	*testing.T
	ctx     context.Context
	graphql bool // over a GraphQL API, not an Event API
	api     *eventAPI
	client  func() *appsync
	tunnel  *tunnel
	local   *local
	sub     *subscriber
	out     *screen
	lastID  int
	routes  http.Handler // in a bubble: the attached worker's
}

// screen is what a terminal, or processes, have written.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
	new chan struct{}
}

func (b *screen) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	notify(b.new)
	return b.buf.Write(p)
}

func (b *screen) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// wait waits until the terminal has written text.
func (b *screen) wait(t *localRig, text string) {
	t.Helper()
	b.waitTimes(t, text, 1)
}

// waitTimes waits until it has written text so many times.
func (b *screen) waitTimes(t *localRig, text string, times int) {
	t.Helper()
	b.await(t.ctx, t, text, times)
}

// await does it for whoever has no rig, until ctx is done.
func (b *screen) await(ctx context.Context, t testing.TB, text string, times int) {
	t.Helper()
	for strings.Count(b.String(), text) < times {
		select {
		case <-b.new:
		case <-ctx.Done():
			t.Fatalf("not written: %q, but\n%s", text, b)
		}
	}
}

// testCommand runs this test binary as a runtime.
func testCommand(mode string) []string { return []string{"env", "TEST_RUNTIME=" + mode, os.Args[0]} }

// newLocal starts a local end without AppSync.
func newTestLocal(t *testing.T, opts localOptions) *localRig {
	t.Helper()
	out := &screen{new: make(chan struct{}, 1)}
	term := &terminal{out: out, errors: out, columns: func() int {
		return 0
	}, chunks: make(chan chunk, waitingLines)}
	if opts.maxProcesses == 0 {
		opts.maxProcesses = 10
	}
	l := newLocal(opts, term)
	term.start()
	t.Cleanup(func() {
		l.close()
		term.close()
		if t.Failed() {
			t.Logf("the terminal:\n%s", out)
		}
	})
	return &localRig{T: t, ctx: t.Context(), local: l, out: out}
}

// newLocalRig starts the whole: an Event API, a local end and a tunnel.
func newLocalRig(t *testing.T, opts localOptions) *localRig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := newTestLocal(t, opts)
	r.connect(ln, nil)
	r.tunnel = newTunnel(r.client(), false)
	r.background(r.tunnel.run)
	return r
}

// connect joins the local end to an AppSync API on ln.
func (r *localRig) connect(ln net.Listener, dial func(context.Context, string, string) (net.Conn, error)) {
	keys := credentials{"AKIDEXAMPLE", "secret", ""}
	r.api = startEventAPI(
		ln, eventAPIOptions{graphql: r.graphql, credentials: []credentials{keys}, region: "eu-west-1"})
	r.Cleanup(r.api.close)
	r.client = func() *appsync {
		transport := &http.Transport{DialContext: dial}
		r.Cleanup(transport.CloseIdleConnections)
		base := "http://" + ln.Addr().String() + r.api.path()
		e := endpoint{http: mustURL(base), realtime: mustURL(base + "/realtime"), graphql: r.graphql,
			region: "eu-west-1", namespace: "live-lambda", requests: "/live-lambda/requests"}
		return newAppSync(e, nil, transport, func(context.Context) (credentials, error) { return keys, nil },
			r.local.term.logger(slog.LevelDebug))
	}
	r.sub = newSubscriber(r.client(), r.local)
	r.background(r.sub.run)
	r.out.wait(r, "waiting for invocations")
}

// background runs f until the end of the test.
func (r *localRig) background(f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.ctx))
	var wg sync.WaitGroup
	wg.Go(func() { f(ctx) })
	r.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// localBubble runs a test in a bubble of fake time, where the test itself is the runtime, over an Event API
// and over a GraphQL API.
func localBubble(t *testing.T, test func(*localRig)) {
	for _, graphql := range []bool{false, true} {
		t.Run(eventAPIOptions{graphql: graphql}.protocol(), func(t *testing.T) {
			localBubbleOver(t, graphql, test)
		})
	}
}

func localBubbleOver(t *testing.T, graphql bool, test func(*localRig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newTestLocal(t, localOptions{})
		r.graphql = graphql
		r.local.attach = newWorker(&pool{local: r.local, name: "attached runtime"})
		r.local.attachServer = &http.Server{}
		r.routes = r.local.attach.routes()
		ln := newPipeListener("example.com")
		r.connect(ln, ln.dial)
		test(r)
	})
}

// call makes a call to the attached worker's Runtime API without a network.
func (r *localRig) call(
	ctx context.Context, method, path string, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(ctx, method, "/2018-06-01/runtime/"+path, body)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	r.routes.ServeHTTP(rec, req)
	return rec
}

// next takes the next event, as a runtime.
func (r *localRig) next() (id string, event []byte) {
	rec := r.call(r.ctx, "GET", "invocation/next", nil)
	return rec.Header().Get("Lambda-Runtime-Aws-Request-Id"), rec.Body.Bytes()
}

// respond answers, as a runtime, and wants that status.
func (r *localRig) respond(id string, body io.Reader, status int, headers ...string) {
	r.Helper()
	if rec := r.call(r.ctx, "POST", "invocation/"+id+"/response", body, headers...); rec.Code != status {
		r.Errorf("response: %d %s, want %d", rec.Code, rec.Body, status)
	}
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

// context makes the context of a new invocation.
func (r *localRig) context() eventContext {
	r.lastID++
	return eventContext{RequestID: fmt.Sprintf("00000000-0000-4000-8000-%012d", r.lastID),
		FunctionName: "orders", FunctionVersion: "$LATEST",
		InvokedFunctionARN: "arn:aws:lambda:eu-west-1:123456789012:function:orders", MemorySizeMB: 256,
		Region:     "eu-west-1",
		DeadlineMs: time.Now().Add(10 * time.Minute).UnixMilli(), TraceID: "Root=1-2-3;Sampled=0",
		Handler: "index.handler"}
}

// got is what came back for an invocation.
type got struct {
	errorType, cause string
	contentType      string
	body             []byte
	trailers         map[string]string
}

// send sends an invocation over the tunnel.
func (r *localRig) send(do any, c eventContext) *call {
	r.Helper()
	event, ok := do.([]byte)
	if !ok {
		event = mustJSON(do)
	}
	call := r.tunnel.send(r.ctx, event, mustJSON(c), 0, time.Hour)
	r.Cleanup(func() { call.finish() })
	return call
}

// await waits for the answer.
func (r *localRig) await(c *call) (g got) {
	r.Helper()
	a, err := c.wait()
	if err != nil {
		r.Fatalf("no answer: %v; the terminal:\n%s", err, r.out)
	}
	g = got{errorType: a.errorType, cause: a.xrayCause, contentType: a.contentType}
	if a.size >= 0 {
		g.body, err = io.ReadAll(a.body)
		if err != nil {
			r.Fatal(err)
		}
		return g
	}
	for piece := make([]byte, 64<<10); ; {
		var n int
		n, err = c.Read(piece)
		g.body = append(g.body, piece[:n]...)
		if err == io.EOF {
			g.trailers = map[string]string{}
			for name := range a.trailer {
				g.trailers[name] = a.trailer.Get(name)
			}
			return g
		}
		if err != nil {
			r.Fatalf("no end of the stream after %d bytes: %v; the terminal:\n%s", len(g.body), err, r.out)
		}
	}
}

// invoke is one invocation from beginning to end.
func (r *localRig) invoke(do any, c eventContext) got {
	r.Helper()
	call := r.send(do, c)
	defer call.finish()
	return r.await(call)
}

func (g got) want(t *localRig, errorType, body string) {
	t.Helper()
	if g.errorType != errorType || string(g.body) != body {
		t.Errorf("got error type %q and %q, want %q and %q", g.errorType, clip(string(g.body), 300),
			errorType, clip(body, 300))
	}
}

// ear hears what the local end says on the channels of one link, as an extension would.
type ear struct {
	*localRig
	link    string
	session *session
	parts   chan *part
}

func (r *localRig) newEar(link string) *ear {
	r.Helper()
	e := &ear{localRig: r, link: link, parts: make(chan *part, 10_000)}
	var err error
	if e.session, err = r.client().connect(r.ctx); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(e.session.conn.close)
	err = e.session.subscribe(r.ctx, ackTimeout, e.session.channel(link+"/*"), func(event string) {
		if p, err := parsePart(event); err == nil && p != nil {
			e.parts <- p
		}
	})
	if err != nil {
		r.Fatal(err)
	}
	return e
}

// ask sends a request on behalf of the link.
func (e *ear) ask(n int, do any, c eventContext) {
	event, ok := do.([]byte)
	if !ok {
		event = mustJSON(do)
	}
	e.api.publish(
		"/live-lambda/requests",
		fmt.Sprintf(
			`{"request_id":"%s/%d","event_payload":%s,"context":%s,"live_lambda":1}`, e.link, n, event,
			mustJSON(c)))
}

func (e *ear) done(n int, outcome string) {
	e.api.publish(
		"/live-lambda/requests",
		string(part{Type: "done", RequestID: fmt.Sprintf("%s/%d", e.link, n), Outcome: outcome}.event()))
}

// hear waits for the next part, which must be of that type and belong to request n.
func (e *ear) hear(n int, want string) *part {
	e.Helper()
	select {
	case p := <-e.parts:
		if p.Type != want || p.RequestID != fmt.Sprintf("%s/%d", e.link, n) {
			e.Fatalf("heard %q for %q, want %q for %s/%d", p.Type, p.RequestID, want, e.link, n)
		}
		return p
	case <-e.ctx.Done():
		e.Fatalf("heard nothing, want %q; the terminal:\n%s", want, e.out)
		return nil
	}
}

// until waits for a part of that type, whatever comes before.
func (e *ear) until(n int, want string) {
	e.Helper()
	for {
		select {
		case p := <-e.parts:
			if p.Type == want && p.RequestID == fmt.Sprintf("%s/%d", e.link, n) {
				return
			}
		case <-e.ctx.Done():
			e.Fatalf("did not hear %q; the terminal:\n%s", want, e.out)
		}
	}
}

// gate is a FIFO that one handler waits at.
type gate struct {
	*localRig
	file string
}

func (r *localRig) newGate(name string) gate {
	g := gate{r, filepath.Join(r.TempDir(), name)}
	if err := syscall.Mkfifo(g.file, 0o600); err != nil {
		r.Fatal(err)
	}
	return g
}

// pass waits until a handler has come to the gate and lets it go on.
func (g gate) pass() {
	g.Helper()
	f, err := os.OpenFile(g.file, os.O_WRONLY, 0)
	if err != nil {
		g.Fatal(err)
	}
	f.Close()
}

// raw makes one call to a Runtime API.
func (r *localRig) raw(addr, method, path, body string, headers ...string) (int, string, http.Header) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.ctx, method, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), resp.Header
}

// direct gives an invocation to the local end without AppSync.
func (r *localRig) direct(do any, c eventContext) *request {
	r.Helper()
	event, ok := do.([]byte)
	if !ok {
		event = mustJSON(do)
	}
	q, err := newRequestFrom(event, c)
	if err == nil {
		err = r.local.admit(q)
	}
	if err != nil {
		r.Fatal(err)
	}
	r.local.submit(q)
	return q
}

// reply waits for the reply to a request.
func (r *localRig) reply(q *request) (rep *reply, body string) {
	r.Helper()
	for {
		rep, over, ended := r.local.look(q)
		if over {
			r.Fatalf("over: %s; the terminal:\n%s", q.over, r.out)
		}
		if ended {
			b, err := rep.body()
			if err != nil {
				r.Fatal(err)
			}
			text, err := io.ReadAll(b)
			if err != nil {
				r.Fatal(err)
			}
			return rep, string(text)
		}
		select {
		case <-q.news:
		case <-r.ctx.Done():
			r.Fatalf("no reply; the terminal:\n%s", r.out)
		}
	}
}

// ---- local.go, by way of AppSync ----

func TestLocalAnswers(t *testing.T) {
	r := newLocalRig(t, localOptions{command: testCommand("1")})
	const event = `{"n":12345678901234567890.10,"n":1e400,"s":"\u00e9\ud83d\ude00\udead <script>'&=","o":{}` +
		`,"a":[]}`
	g := r.invoke([]byte(event), r.context())
	g.want(r, "", string(asciiJSON([]byte(event))))
	if g.contentType != "application/json" {
		t.Errorf("the content type is %q", g.contentType)
	}
	g = r.invoke(task{Do: "text", Text: "\x00\xff binary", Type: "image/png"}, r.context())
	if g.contentType != "image/png" {
		t.Errorf("the content type is %q", g.contentType)
	}
	g = r.invoke(
		task{Do: "error", Text: `{"errorType":"Oops","errorMessage":"m"}`, Type: "Function.Oops"},
		r.context())
	g.want(r, "Function.Oops", `{"errorType":"Oops","errorMessage":"m"}`)
	if g.cause != `{"working_directory":"/x"}` {
		t.Errorf("the cause is %q", g.cause)
	}
	r.invoke(task{Do: "trailers", Text: `{"errorMessage":"late"}`, Type: "Function.Late"}, r.context()).want(
		r, "Function.Late", `{"errorMessage":"late"}`)
}

// Every size at a boundary of events, publishes, compression and Lambda's own limit comes back byte for byte.
func TestLocalSizes(t *testing.T) {
	r := newLocalRig(t, localOptions{command: testCommand("1")})
	random := make([]byte, maxEvent)
	for i := range random { // incompressible, and nothing that JSON would escape
		random[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[rand.IntN(64)]
	}
	sizes := []int{
		2, 3, gzipAbove - 1, gzipAbove, gzipAbove + 1, partData, maxEvent - 600, maxEvent, maxEvent + 1,
		maxPayload}
	for _, size := range sizes {
		event := []byte(`"` + strings.Repeat("0", size-2) + `"`)
		if size <= maxEvent+1 { // the larger ones are compressible: the emulator takes its time
			copy(event[1:size-1], random)
		}
		g := r.invoke(event, r.context())
		if g.errorType != "" || !bytes.Equal(g.body, event) {
			t.Errorf("%d bytes: got %q, %d bytes", size, g.errorType, len(g.body))
		}
	}
	for _, size := range []int{0, 1} {
		r.invoke(task{Do: "size", Size: size}, r.context()).want(r, "", string(make([]byte, size)))
	}
	g := r.invoke(task{Do: "size", Size: maxPayload + 1}, r.context())
	g.want(r, "Function.ResponseSizeTooLarge",
		`{"errorMessage":"Response payload size (6291557 bytes) exceeded maximum allowed payload size `+
			`(6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}`)
	r.invoke(task{Do: "pid"}, r.context()) // the same process goes on
	if n := r.local.term.restarts; n != 0 {
		t.Errorf("%d restarts", n)
	}
}

// Replies of every size are cut into parts that fit into events, and come together again.
func TestLocalParts(t *testing.T) {
	directory := t.TempDir()
	t.Setenv("TMPDIR", directory)
	random := make([]byte, maxPayload)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	join := func(rep *reply, size int) {
		t.Helper()
		s := newSubscriber(nil, newLocal(localOptions{}, nil))
		o := s.newTransfer(rep)
		o.cut(time.Now().Add(time.Hour))
		j := newJoiner(8 << 20)
		for i := range o.ends {
			data := make([]byte, o.end(i+1)-o.end(i))
			o.rep.data.ReadAt(data, o.end(i))
			event := o.part("aaaa/1", i).encode(data)
			if n := escapedLen(event); n > maxEvent {
				t.Errorf("%d bytes: part %d is an event of %d", size, i, n)
			}
			p, err := parsePart(string(event))
			if err != nil || p == nil {
				t.Fatalf("%d bytes: part %d: %v", size, i, err)
			}
			if err := j.add(p); err != nil {
				t.Fatalf("%d bytes: part %d: %v", size, i, err)
			}
		}
		if !j.complete() {
			t.Fatalf("%d bytes: %d parts are not all", size, len(o.ends))
		}
		if body, err := j.message(maxPayload); err != nil || !bytes.Equal(body, random[:size]) {
			t.Errorf("%d bytes: got %d and %v", size, len(body), err)
		}
	}
	for _, size := range []int{
		0, 1, gzipAbove, gzipAbove + 1, partData, partData + 1, 5*partData + 1, maxPayload} {
		rep := &reply{kind: "response", headers: map[string]string{"Content-Type": "x"}}
		c := &collector{rep: rep}
		if _, err := io.Copy(c, bytes.NewReader(random[:size])); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		rep.ended = true
		join(rep, size)
		rep.data.close()

		stream := &reply{
			kind: "response", streamed: true, ended: true,
			headers: map[string]string{modeHeader: "streaming"}}
		stream.data.Write(random[:size])
		stream.trailers = errorTrailers(errorReply("E", bytes.Repeat([]byte("<"), headBytes)))
		join(stream, size)
		stream.data.close()
	}
	full := errorReply("Function.Big", random[:100])
	full.xrayCause = strings.Repeat(`"`, 60_000)
	if escapedLen(part{XRayCause: full.xrayCause}.event()) > maxCause {
		full.xrayCause = full.xrayCause[:40_000]
	}
	join(full, 100)
	if left, _ := os.ReadDir(directory); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// Fifty invocations at once, through AppSync, are answered, each with its own answer.
func TestLocalFiftyAtOnce(t *testing.T) {
	r := newLocalRig(t, localOptions{command: testCommand("1"), maxProcesses: 5})
	var calls []*call
	for i := range 50 {
		calls = append(calls, r.send(task{Do: "text", Text: strconv.Itoa(i)}, r.context()))
	}
	for i, c := range calls {
		r.await(c).want(r, "", strconv.Itoa(i))
		c.finish()
	}
	if n := strings.Count(r.out.String(), " ok "); n != 50 {
		t.Errorf("%d ran, want 50", n)
	}
}

// A repeated request does not run again: it is accepted again, or answered again, where it now says.
func TestLocalRunsOnce(t *testing.T) {
	r := newLocalRig(t, localOptions{command: testCommand("1")})
	one, two := r.newEar("aaaa"), r.newEar("bbbb")
	g := r.newGate("gate")
	do, c := task{Do: "wait", File: g.file, Text: "x"}, r.context()
	one.ask(1, do, c)
	one.hear(1, "accepted")
	one.ask(1, do, c)
	one.hear(1, "accepted")
	two.ask(7, do, c)
	two.hear(7, "accepted")
	g.pass()
	if p := two.hear(7, "response"); string(p.data) != `"x"` || p.Sender == "" || !p.Last {
		t.Errorf("answered %q", p.data)
	}
	two.ask(7, do, c)
	two.hear(7, "response")
	one.ask(1, do, c)
	one.hear(1, "response")
	one.done(1, "answered")
	// Lambda's retry has the same request ID and another deadline.
	retry := c
	retry.DeadlineMs++
	one.ask(2, task{Do: "text", Text: "retry"}, retry)
	one.hear(2, "accepted")
	if p := one.hear(2, "response"); string(p.data) != "retry" {
		t.Errorf("answered %q", p.data)
	}
	one.done(2, "answered")
	one.ask(2, do, retry) // over, and known to be
	one.ask(1, do, c)
	three := r.context()
	one.ask(3, task{}, three)
	one.hear(3, "accepted")
	one.hear(3, "response")
	if n := strings.Count(r.out.String(), " start "); n != 3 {
		t.Errorf("%d invocations ran, want 3:\n%s", n, r.out)
	}
}

// ---- timing, in a bubble of fake time ----

// While a handler works, `accepted` is said at once and every 5 s; the answer is repeated every 2 s until
// `done`.
func TestLocalSaysItAgain(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		start := time.Now()
		at := func(want string, p *part) {
			t.Helper()
			if got := time.Since(start); got.String() != want {
				t.Errorf("%s at %s, want %s", p.Type, got, want)
			}
		}
		e.ask(1, []byte(`{"a":1}`), r.context())
		at("0s", e.hear(1, "accepted"))
		id, event := r.next()
		if string(event) != `{"a":1}` {
			t.Errorf("the event is %q", event)
		}
		at("500ms", e.hear(1, "accepted"))
		at("5s", e.hear(1, "accepted"))
		at("10s", e.hear(1, "accepted"))
		time.Sleep(time.Second)
		r.respond(id, strings.NewReader("1"), 202)
		at("11s", e.hear(1, "response"))
		at("13s", e.hear(1, "response"))
		at("15s", e.hear(1, "response"))
		e.done(1, "answered")
		synctest.Wait()

		// Without `done` until the deadline.
		c := r.context()
		c.DeadlineMs = time.Now().Add(7 * time.Second).UnixMilli()
		e.ask(2, []byte("2"), c)
		at("15s", e.hear(2, "accepted"))
		id, _ = r.next()
		r.respond(id, strings.NewReader("2"), 202)
		for _, want := range []string{"15s", "17s", "19s", "21s"} {
			at(want, e.hear(2, "response"))
		}
		time.Sleep(time.Minute)
		e.ask(3, []byte("3"), r.context())
		at("1m21s", e.hear(3, "accepted"))
	})
}

// A request that goes out again because the local end that has it may have lost the link is nobody else's.
func TestLocalAcceptedByAnother(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		c := r.context()
		c.AcceptedBy = "another"
		e.ask(1, []byte("1"), c)
		synctest.Wait()
		c = r.context()
		e.ask(2, []byte("2"), c)
		e.hear(2, "accepted")
		r.next()
		c.AcceptedBy = r.sub.sender
		moved := r.newEar("bbbb")
		moved.ask(2, []byte("2"), c)
		moved.hear(2, "accepted")
	})
}

// What AppSync loses is repeated, out of order or not, and comes together at the other end.
func TestLocalAnswerSurvivesLoss(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		r.api.intercept(func(f apiFrame) apiVerdict {
			if f.out && f.typ == "data" && strings.Contains(f.channel, "/response/") && rand.IntN(3) > 0 {
				return apiVerdict{replace: dropped}
			}
			return apiVerdict{}
		})
		event := make([]byte, 700_000)
		for i := range event {
			event[i] = "0123456789abcdef"[rand.IntN(16)]
		}
		e.ask(1, []byte("1"), r.context())
		id, _ := r.next()
		r.respond(id, bytes.NewReader(event), 202)
		j := newJoiner(maxPayload)
		for !j.complete() {
			p := <-e.parts
			if p.Type == "response" {
				if err := j.add(p); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got, err := j.message(maxPayload); err != nil || !bytes.Equal(got, event) {
			t.Errorf("got %d bytes and %v", len(got), err)
		}
	})
}

// A stream's first piece leaves at once, the next ones not more often than every 100 ms, and whatever AppSync
// loses is repeated while the stream goes on.
func TestLocalStreams(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		var lose atomic.Bool
		r.api.intercept(func(f apiFrame) apiVerdict {
			if f.out && f.typ == "data" && strings.Contains(f.events[0], `"type":"response"`) &&
				lose.CompareAndSwap(true, false) {
				return apiVerdict{replace: dropped}
			}
			return apiVerdict{}
		})
		e.ask(1, []byte("1"), r.context())
		e.hear(1, "accepted")
		id, _ := r.next()
		pr, pw := io.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { r.respond(id, pr, 202, modeHeader, "streaming", "Content-Type", "text/plain") })
		start := time.Now()
		want := func(index int, text string, at time.Duration) {
			t.Helper()
			p := e.hear(1, "response")
			if p.Index != index || string(p.data) != text || time.Since(start) != at {
				t.Errorf("part %d, %q at %s; want part %d, %q at %s", p.Index, p.data, time.Since(start),
					index, text, at)
			}
			if index == 0 &&
				(p.Headers[modeHeader] != "streaming" || p.Headers["Content-Type"] != "text/plain" ||
					p.Encoding != "") {
				t.Errorf("part 0 is %+v", p)
			}
		}
		io.WriteString(pw, "one")
		want(0, "one", 0)
		for i := range 10 {
			io.WriteString(pw, strconv.Itoa(i))
			time.Sleep(9 * time.Millisecond)
		}
		want(1, "0123456789", 100*time.Millisecond)
		time.Sleep(200 * time.Millisecond)
		lose.Store(true)
		io.WriteString(pw, "lost")
		synctest.Wait()
		io.WriteString(pw, "four")
		want(3, "four", 400*time.Millisecond)
		seen := map[int]int{}
		for seen[2] == 0 { // accepted, and what was out at 2 s once more
			select {
			case p := <-e.parts:
				seen[p.Index]++
			case <-time.After(10 * time.Second):
				t.Fatal("the lost part was not repeated")
			}
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the lost part was repeated after %s", took)
		}
		pw.Close()
		wg.Wait()
		for {
			if p := <-e.parts; p.Last {
				if p.Index != 4 || len(p.data) != 0 || len(p.Trailers) != 0 {
					t.Errorf("the last part is %+v", p)
				}
				break
			}
		}
	})
}

// AWS's Go client streams without saying so: its content types do, where there is no length.
func TestLocalStreamsOfGo(t *testing.T) {
	for _, test := range []struct {
		contentType string
		length      int64
		streamed    bool
	}{
		{"application/octet-stream", -1, true},
		{"application/vnd.awslambda.http-integration-response", -1, true},
		{"application/octet-stream", 5, false},
		{"application/json", -1, false},
		{"", -1, false},
	} {
		localBubble(t, func(r *localRig) {
			e := r.newEar("aaaa")
			e.ask(1, []byte("1"), r.context())
			e.hear(1, "accepted")
			id, _ := r.next()
			var body io.Reader = io.MultiReader(strings.NewReader("hel"), strings.NewReader("lo"))
			if test.length >= 0 {
				body = strings.NewReader("hello")
			}
			r.respond(id, body, 202, "Content-Type", test.contentType)
			mode := ""
			if test.streamed {
				mode = "streaming"
			}
			p := e.hear(1, "response")
			if p.Headers[modeHeader] != mode || p.Headers["Content-Type"] != test.contentType ||
				!strings.HasPrefix("hello", string(p.data)) {
				t.Errorf("%q, length %d: %+v", test.contentType, test.length, p)
			}
		})
	}
}

// A stream that moves to another channel is sent again there from its beginning.
func TestLocalStreamMoves(t *testing.T) {
	localBubble(t, func(r *localRig) {
		one, two := r.newEar("aaaa"), r.newEar("bbbb")
		c := r.context()
		one.ask(1, []byte("1"), c)
		one.hear(1, "accepted")
		id, _ := r.next()
		pr, pw := io.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { r.respond(id, pr, 400, modeHeader, "streaming") })
		io.WriteString(pw, "one")
		one.hear(1, "response")
		two.ask(1, []byte("1"), c)
		two.hear(1, "accepted")
		if p := two.hear(1, "response"); p.Index != 0 || string(p.data) != "one" {
			t.Errorf("got part %d %q", p.Index, p.data)
		}
		pw.CloseWithError(errors.New("cut"))
		wg.Wait()
		for {
			p := two.hear(1, "response")
			if !p.Last {
				continue
			}
			body, _ := base64.StdEncoding.DecodeString(p.Trailers[bodyHeader])
			if p.Trailers[typeHeader] != "Runtime.TruncatedResponse" || !strings.Contains(string(body), id) {
				t.Errorf("the trailers are %v", p.Trailers)
			}
			break
		}
	})
}

// The extension's word on an invocation ends it here, and the terminal tells what the caller got.
func TestLocalHearsTheOutcome(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		for n, tt := range []struct {
			outcome, says string
			status        int // of the runtime's answer after that
		}{
			{"timeout", "timeout", 400},
			{"deployed", "the deployed code answers", 202},
			{"answered", "another local end has answered", 202},
			{"\x1b[31mnonsense", "another local end has answered", 202},
		} {
			e.ask(n, []byte("1"), r.context())
			e.hear(n, "accepted")
			id, _ := r.next()
			e.done(n, tt.outcome)
			synctest.Wait()
			if !strings.Contains(r.out.String(), tt.says) {
				t.Errorf("%s: the terminal wrote\n%s", tt.outcome, r.out)
			}
			r.respond(id, strings.NewReader("1"), tt.status)
			r.respond(id, strings.NewReader("1"), 400)
		}
		c := r.context()
		c.DeadlineMs = time.Now().Add(3 * time.Second).UnixMilli()
		e.ask(9, []byte("1"), c)
		id, _ := r.next()
		time.Sleep(4 * time.Second)
		r.respond(id, strings.NewReader("1"), 400)
		synctest.Wait()
		for _, want := range []string{"deadline passed", "answered after 4000 ms"} {
			if !strings.Contains(r.out.String(), want) {
				t.Errorf("no %q in\n%s", want, r.out)
			}
		}
		if r.local.held != 0 || len(r.local.live) != 0 {
			t.Errorf("%d bytes of %d requests are still held", r.local.held, len(r.local.live))
		}
	})
}

// A connection that is dead without a word, as after a laptop's sleep, is replaced, and what was to be said
// is said.
func TestLocalReconnects(t *testing.T) {
	localBubble(t, func(r *localRig) {
		connection := func() int {
			conns, err := r.api.subscribers(r.ctx, "/live-lambda/requests", 1)
			if err != nil {
				t.Fatal(err)
			}
			return conns[len(conns)-1]
		}
		e := r.newEar("aaaa")
		e.ask(1, []byte("1"), r.context())
		e.hear(1, "accepted")
		id, _ := r.next()
		r.api.do(connection(), apiVerdict{after: goHalfOpen})
		synctest.Wait()
		r.respond(id, strings.NewReader("1"), 202)
		// the publish that was not answered has told that the connection is dead
		r.out.waitTimes(r, "waiting for invocations", 2)
		e.until(1, "response")
		e.done(1, "answered")
		synctest.Wait()

		r.api.do(connection(), apiVerdict{after: goHalfOpen}) // with nothing to say
		time.Sleep(90 * time.Second)
		e.ask(2, []byte("2"), r.context())
		e.until(2, "accepted")
		id, _ = r.next()
		r.api.do(connection(), apiVerdict{after: resetConnection}) // while the handler works
		e.hear(2, "accepted")
		r.respond(id, strings.NewReader("2"), 202)
		e.hear(2, "response")
	})
}

// Whatever comes on the channel that is not a request for this end is dropped, and the next request is
// served.
func TestLocalDropsNonsense(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		c := r.context()
		context := string(mustJSON(c))
		ask := func(id, event, context string) string {
			return `{"request_id":` + id + `,"event_payload":` + event + `,"context":` + context +
				`,"live_lambda":1}`
		}
		with := func(change func(*eventContext)) string {
			c := c
			change(&c)
			return string(mustJSON(c))
		}
		bomb, encoding := compress(make([]byte, 2*maxPayload))
		var bombs []string
		for event := range (part{Type: "request", RequestID: "aaaa/1", Encoding: encoding}).split(bomb) {
			bombs = append(bombs, string(event))
		}
		messages := append(bombs,
			`7`, `null`, `"text"`, `[]`, `{}`, `{"live_lambda":1}`, `{"live_lambda":2,"request_id":"aaaa/1"}`,
			`{"request_id":"aaaa/1","event_payload":1,"context":`+context+`}`,
			ask(`"aaaa"`, "1", "7"), ask("7", "1", context), ask(`"../x/1"`, "1", context),
			ask(`"a b/1"`, "1", context), ask(`""`, "1", context),
			ask(`"aaaa/1/2/3/4"`, "1", context), ask(`"aaaa/\n1"`, "1", context),
			ask(`"aaaa/1"`, strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000), context),
			ask(`"aaaa/1"`, "1", "{}"), ask(`"aaaa/1"`, "1", `{"environment":{"a":1}}`),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) { c.FunctionName = "a\nb" })),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) { c.RequestID = "\x1b[2J" })),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) { c.TraceID = "a\r\nX-Evil: 1" })),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) { c.RequestID = "" })),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) { c.Handler = strings.Repeat("x", 5000) })),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) { c.DeadlineMs = 0 })),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) {
				c.DeadlineMs = time.Now().Add(-time.Second).UnixMilli()
			})),
			ask(`"aaaa/1"`, "1", with(func(c *eventContext) {
				c.ClientContext = []byte(`"` + strings.Repeat("x", 70_000) + `"`)
			})),
			string(part{Type: "request", RequestID: "aaaa/1", Index: 5, Last: true}.encode([]byte("x"))),
			string(part{Type: "request", RequestID: "aaaa/1", Index: 7, Last: true}.encode([]byte("x"))),
			string(part{Type: "request", RequestID: "aaaa/1"}.event()),
			string(part{Type: "request", RequestID: "aaaa/2", Encoding: "gzip"}.event()),
			`{"live_lambda":1,"type":"request","request_id":"aaaa/1","index":-1,"last":true,"data":"e30"}`,
			`{"live_lambda":1,"type":"request","request_id":"aaaa/1","index":0,"last":true,"data":"!"}`,
			`{"live_lambda":1,"type":"request","request_id":"aaaa/1","index":9999999999,"last":true}`,
			`{"live_lambda":1,"type":"done","request_id":"cccc/1","outcome":"answered"}`,
			`{"live_lambda":1,"type":"response","request_id":"aaaa/1","index":0,"last":true,"data":"e30"}`,
			`{"live_lambda":1,"type":"accepted","request_id":"aaaa/1","index":0,"last":true}`,
		)
		for _, m := range messages {
			r.sub.receive(m)
		}
		e.ask(5, []byte("5"), r.context())
		e.hear(5, "accepted")
		if id, event := r.next(); string(event) != "5" {
			t.Errorf("request %s has the event %q", id, event)
		}
		if strings.ContainsAny(r.out.String(), "\x1b\r") {
			t.Errorf("the terminal got control characters: %q", r.out)
		}
	})
}

// Of 100,000 requests that never become whole few are kept, and one that does is answered.
func TestLocalOpenRequests(t *testing.T) {
	localBubbleOver(t, false, func(r *localRig) {
		e := r.newEar("aaaa")
		for i := range 100_000 {
			r.sub.receive(
				string(part{Type: "request", RequestID: fmt.Sprintf("dddd/%d", i)}.encode(make([]byte, 10))))
		}
		synctest.Wait()
		size := 0
		for _, o := range r.sub.open {
			size += o.size
		}
		if n := len(r.sub.open); n > maxOpen || size > maxOpenBytes {
			t.Errorf("%d requests in parts are kept, %d bytes", n, size)
		}
		e.ask(5, []byte("5"), r.context())
		e.hear(5, "accepted")
		if id, event := r.next(); string(event) != "5" {
			t.Errorf("request %s has the event %q", id, event)
		}
	})
}

// The quick way through a request reads the same as encoding/json.
func TestParseRequest(t *testing.T) {
	for _, message := range []string{
		`{"request_id":"a/1","event_payload":{"a":[1.0,"\ud800"]},"context":{"request_id":"r"},` +
			`"live_lambda":1}`,
		`{"request_id":"a/1","event_payload": 7 ,"context":{"client_context":{"a":1,"context":{"b":2}}},` +
			`"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":{"a":1,"context":{"request_id":"inner"}},` +
			`"context":{"request_id":"r"},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":"x,\"context\":{","context":{"request_id":"r"},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":{"a":1,"event_payload":2},"context":{},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":1,"context":{"request_id":"r"},"event_payload":2,` +
			`"live_lambda":1}`,
		`{"context":{"request_id":"r"},"live_lambda":1,"event_payload":1,"request_id":"a/1"}`,
		`{"event_payload":1,"request_id":"a/1","context":{"request_id":"r"},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":{"a":1,"context":{"request_id":"r"},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":1,"context":{"request_id":7},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":1,2,"context":{"request_id":"r"},"live_lambda":1}`,
		`{"request_id":"a/1","event_payload":,"context":{},"live_lambda":1}`,
		`{"request_id":"a/1"}`, `[1,"event_payload":2,"context":{}]`, ``,
	} {
		var want extensionRequest
		wantErr := json.Unmarshal([]byte(message), &want)
		got, err := parseRequest([]byte(message))
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%s: %v, want %v", message, err, wantErr)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %s, want %s", message, mustJSON(got), mustJSON(want))
		}
	}
}

// FuzzLocalMessages gives the subscriber messages; whatever they are, it keeps to its bounds and goes on.
func FuzzLocalMessages(f *testing.F) {
	request := `{"request_id":"aaaa/1","event_payload":{"a":1},"context":{"request_id":"r",` +
		`"function_name":"f","deadline_ms":32503680000000},"live_lambda":1}`
	body, encoding := compress(slices.Concat([]byte(request), bytes.Repeat([]byte(" "), gzipAbove)))
	for _, seed := range []string{request,
		string(part{Type: "request", RequestID: "aaaa/2", Encoding: encoding}.encode(body)),
		`{"live_lambda":1,"type":"request","request_id":"a/1","index":3}`,
		string(part{Type: "done", RequestID: "aaaa/1", Outcome: "answered"}.event()),
		string(part{Type: "probe", RequestID: "aaaa/probe"}.event()), "[]", "{", `{"live_lambda":1}`} {
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

// Events in parts: the largest, with a context beside it, and pieces in any order.
func TestLocalRequestInParts(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		c := r.context()
		c.Environment = map[string]string{"BIG": strings.Repeat("x", 4096)}
		event := make([]byte, maxPayload)
		for i := range event {
			event[i] = "0123456789abcdef"[rand.IntN(16)]
		}
		event[0], event[len(event)-1] = '"', '"'
		body, encoding := compress(
			slices.Concat(
				[]byte(`{"request_id":"aaaa/1","event_payload":`), event, []byte(`,"context":`), mustJSON(c),
				[]byte(`,"live_lambda":1}`)))
		parts := slices.Collect(part{Type: "request", RequestID: "aaaa/1", Encoding: encoding}.split(body))
		parts = append(parts, parts[:3]...)
		for _, i := range rand.Perm(len(parts)) {
			r.sub.receive(string(parts[i]))
		}
		e.hear(1, "accepted")
		if _, got := r.next(); !bytes.Equal(got, event) {
			t.Errorf("the event has %d bytes", len(got))
		}
	})
}

// ---- workers.go ----

// Two invocations at once have two processes, and no more than --max-processes; the rest wait their turn.
func TestLocalProcesses(t *testing.T) {
	r := newTestLocal(t, localOptions{command: testCommand("1"), maxProcesses: 3})
	var waiting []*request
	var gates []gate
	for i := range 3 {
		gates = append(gates, r.newGate("gate"))
		waiting = append(
			waiting, r.direct(task{Do: "wait", File: gates[i].file, Text: strconv.Itoa(i)}, r.context()))
	}
	queued := r.direct(task{Do: "pid"}, r.context())
	r.out.wait(r, "queued")
	for _, g := range gates {
		g.pass()
	}
	for i, q := range waiting {
		if _, body := r.reply(q); body != strconv.Quote(strconv.Itoa(i)) {
			t.Errorf("invocation %d got %s", i, body)
		}
	}
	r.reply(queued)
	pids := map[string]bool{}
	var many []*request
	for range 50 {
		many = append(many, r.direct(task{Do: "pid"}, r.context()))
	}
	for _, q := range many {
		_, body := r.reply(q)
		pids[body] = true
	}
	if len(pids) > 3 {
		t.Errorf("%d processes", len(pids))
	}
	if r.local.term.restarts != 0 {
		t.Errorf("%d restarts", r.local.term.restarts)
	}
}

// A process that fails answers as Lambda does, and the next invocation works.
func TestLocalExits(t *testing.T) {
	r := newTestLocal(t, localOptions{command: testCommand("1")})
	exit := func(do task, errorType, message string) {
		t.Helper()
		c := r.context()
		rep, body := r.reply(r.direct(do, c))
		want := fmt.Sprintf(
			`{"errorMessage":"RequestId: %s Error: %s","errorType":"%s"}`, c.RequestID, message, errorType)
		if rep.errorType != errorType || body != want {
			t.Errorf("%+v: got %s %s, want %s", do, rep.errorType, body, want)
		}
	}
	exit(task{Do: "exit", Code: 1}, "Runtime.ExitError", "Runtime exited with error: exit status 1")
	exit(task{Do: "exit"}, "Runtime.ExitError", "Runtime exited without providing a reason")
	_, body := r.reply(r.direct(task{Do: "pid"}, r.context()))
	pid, _ := strconv.Atoi(body)
	fifo := r.newGate("hang")
	c := r.context()
	q := r.direct(task{Do: "hang", File: fifo.file}, c)
	f, err := os.Open(fifo.file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line, _ := bufio.NewReader(f).ReadString('\n')
	if line != strconv.Itoa(pid)+"\n" {
		t.Errorf("process %q hangs, want the warm one, %d", line, pid)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	rep, body := r.reply(q)
	if rep.errorType != "Runtime.ExitError" ||
		!strings.Contains(body, "Runtime exited with error: signal: killed") {
		t.Errorf("got %s", body)
	}
	io.Copy(io.Discard, f) // ends when its child is gone, too
	r.reply(r.direct(task{}, r.context()))

	// A stream that the exit cuts off.
	rep, body = r.reply(r.direct(task{Do: "stream", Pieces: []string{"one", "two"}, Code: 4}, r.context()))
	trailer, _ := base64.StdEncoding.DecodeString(rep.trailers[bodyHeader])
	if !strings.HasPrefix("onetwo", body) || rep.trailers[typeHeader] != "Runtime.ExitError" ||
		!strings.Contains(string(trailer), "exit status 4") {
		t.Errorf("got %q and %s", body, trailer)
	}
}

// A process that does not start answers the invocation that it was started for.
func TestLocalInitFails(t *testing.T) {
	for _, tt := range []struct {
		command                  []string
		errorType, message, note string
	}{
		{testCommand("exit"), "Runtime.ExitError", "exit status 3", "did not start"},
		{testCommand("initerror"), "Function.Broken", "cannot load", ""},
		{[]string{"/nonexistent/command"}, "Runtime.InvalidEntrypoint", "no such file", "did not start"},
	} {
		r := newTestLocal(t, localOptions{command: tt.command})
		for range 2 {
			rep, body := r.reply(r.direct(task{}, r.context()))
			if rep.errorType != tt.errorType || !strings.Contains(body, tt.message) {
				t.Errorf("%v: got %s %s", tt.command, rep.errorType, body)
			}
		}
		r.out.wait(r, tt.note)
	}
}

// A process that does not come back after the deadline is ended, its children too; and so is everything at
// the end.
func TestLocalLeavesNothing(t *testing.T) {
	r := newTestLocal(t, localOptions{command: testCommand("1")})
	hang := func(deadline time.Duration, answer string) *os.File {
		t.Helper()
		fifo := r.newGate("hang")
		c := r.context()
		c.DeadlineMs = time.Now().Add(deadline).UnixMilli()
		r.direct(task{Do: "hang", File: fifo.file, Text: answer}, c)
		f, err := os.Open(fifo.file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	late, last := hang(0, ""), hang(time.Hour, "")
	io.Copy(io.Discard, late)
	r.out.wait(r, "did not come back")
	late = hang(0, "answered")
	io.Copy(io.Discard, late)
	r.out.waitTimes(r, "did not come back", 2)
	if runtime.GOOS == "linux" {
		fifo := r.newGate("detached")
		f, err := os.OpenFile(fifo.file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r.reply(r.direct(task{Do: "detach", File: fifo.file}, r.context()))
		io.Copy(io.Discard, f)
	}
	r.local.close()
	io.Copy(io.Discard, last)
}

// A process that never asks for an event is ended after the deadline of the one that it was started for.
func TestLocalHangsAtStart(t *testing.T) {
	r := newTestLocal(t, localOptions{command: testCommand("hang"), maxProcesses: 1})
	c := r.context()
	c.DeadlineMs = time.Now().UnixMilli()
	r.direct(task{}, c)
	r.out.wait(r, "did not come back")
}

// The environment is Lambda's with what the developer has, or the function's own without the developer's AWS
// settings.
func TestLocalEnvironment(t *testing.T) {
	t.Setenv("AWS_PROFILE", "mine")
	t.Setenv("AWS_ACCESS_KEY_ID", "MINE")
	t.Setenv("LIVE_LAMBDA_APPSYNC_API_KEY", "da2-secret")
	t.Setenv("OF_THE_DEVELOPER", "1")
	r := newTestLocal(t, localOptions{command: testCommand("1")})
	environ := func(c eventContext) map[string]string {
		t.Helper()
		_, body := r.reply(r.direct(task{Do: "env"}, c))
		var list []string
		json.Unmarshal([]byte(body), &list)
		env := map[string]string{}
		for _, s := range list {
			name, value, _ := strings.Cut(s, "=")
			env[name] = value
		}
		return env
	}
	directory, _ := os.Getwd()
	want := func(env map[string]string, pairs ...string) {
		t.Helper()
		for i := 0; i < len(pairs); i += 2 {
			if env[pairs[i]] != pairs[i+1] {
				t.Errorf("%s is %q, want %q", pairs[i], env[pairs[i]], pairs[i+1])
			}
		}
	}
	c := r.context()
	env := environ(c)
	want(env, "AWS_LAMBDA_FUNCTION_NAME", "orders", "AWS_LAMBDA_FUNCTION_VERSION", "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256",
		"AWS_REGION", "eu-west-1", "_HANDLER", "index.handler", "LAMBDA_TASK_ROOT", directory, "AWS_PROFILE",
		"mine", "AWS_ACCESS_KEY_ID", "MINE",
		"OF_THE_DEVELOPER", "1", "LIVE_LAMBDA_APPSYNC_API_KEY", "")
	if !strings.HasPrefix(env["AWS_LAMBDA_RUNTIME_API"], "127.0.0.1:") {
		t.Errorf("AWS_LAMBDA_RUNTIME_API is %q", env["AWS_LAMBDA_RUNTIME_API"])
	}
	c = r.context()
	c.Environment =
		map[string]string{"TABLE": "t", "AWS_ACCESS_KEY_ID": "ROLE", "AWS_SECRET_ACCESS_KEY": "s",
			"AWS_SESSION_TOKEN": "1", "PATH": "/lambda",
			"NODE_OPTIONS": "--import evil", "LD_PRELOAD": "evil", "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
			"AWS_LAMBDA_EXEC_WRAPPER": "/opt/x",
			"NODE_ENV":                "production", "TZ": ":UTC", "ZERO\x00": "1", "": "1"}
	env = environ(c)
	want(env, "TABLE", "t", "AWS_ACCESS_KEY_ID", "ROLE", "AWS_SESSION_TOKEN", "1", "AWS_PROFILE", "", "PATH",
		os.Getenv("PATH"), "NODE_OPTIONS", "",
		"LD_PRELOAD", os.Getenv("LD_PRELOAD"), "AWS_LAMBDA_EXEC_WRAPPER", "", "NODE_ENV", "production", "TZ",
		":UTC", "OF_THE_DEVELOPER", "1")
	if strings.HasSuffix(env["AWS_LAMBDA_RUNTIME_API"], ":9001") {
		t.Error("the runtime was sent to Lambda's own address")
	}

	// What would load code, run commands or lead traffic elsewhere is not the function's to set; the rest is.
	t.Setenv("HTTPS_PROXY", "http://mine.example.com:3128")
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("AWS_ENDPOINT_URL", "http://mine.example.com")
	c = r.context()
	c.Environment = map[string]string{}
	for _, name := range strings.Fields(notTheFunctions) {
		c.Environment[name] = "evil"
	}
	for _, name := range strings.Fields(theFunctions) {
		c.Environment[name] = "the function's"
	}
	maps.Copy(c.Environment, map[string]string{"ENV": "prod", "NODE_ENV": "eu-1.test", "GOMEMLIMIT": "1GiB"})
	env = environ(c)
	for _, name := range strings.Fields(notTheFunctions) {
		wanted := os.Getenv(name)
		if strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "LIVE_LAMBDA") ||
			strings.HasPrefix(name, "LRAP_") {
			wanted = "" // nor the developer's
		}
		if name != "AWS_LAMBDA_RUNTIME_API" && name != "LAMBDA_TASK_ROOT" && name != "_" {
			want(env, name, wanted)
		}
	}
	for name, value := range env {
		if value == "evil" {
			t.Errorf("%s is the function's", name)
		}
	}
	for _, name := range strings.Fields(theFunctions) {
		want(env, name, "the function's")
	}
	want(env, "ENV", "prod", "NODE_ENV", "eu-1.test", "GOMEMLIMIT", "1GiB", "HTTPS_PROXY",
		"http://mine.example.com:3128", "GOFLAGS", "-mod=mod")
	c.Environment = map[string]string{"ENV": "$(evil)", "NODE_ENV": "../evil", "A": "1"}
	want(environ(c), "ENV", os.Getenv("ENV"), "NODE_ENV", os.Getenv("NODE_ENV"), "A", "1")

	// With --own-env nothing is the function's, and new credentials restart nothing.
	r = newTestLocal(t, localOptions{command: testCommand("1"), ownEnv: true, profile: "dev"})
	c = r.context()
	c.Environment = map[string]string{
		"TABLE": "t", "OF_THE_DEVELOPER": "2", "AWS_ACCESS_KEY_ID": "ROLE", "AWS_SESSION_TOKEN": "1"}
	env = environ(c)
	want(env, "TABLE", "", "OF_THE_DEVELOPER", "1", "AWS_ACCESS_KEY_ID", "MINE", "AWS_SESSION_TOKEN",
		os.Getenv("AWS_SESSION_TOKEN"),
		"AWS_PROFILE", "dev", "AWS_ENDPOINT_URL", "http://mine.example.com", "AWS_LAMBDA_FUNCTION_NAME",
		"orders")
	address := env["AWS_LAMBDA_RUNTIME_API"] // of this process alone
	c = r.context()
	c.Environment = map[string]string{"AWS_SESSION_TOKEN": "2"}
	want(environ(c), "AWS_LAMBDA_RUNTIME_API", address)
}

// notTheFunctions are variables that TestLocalEnvironment wants to be left out of what a function sends.
const notTheFunctions = `
	PATH HOME PWD TMPDIR TMP USER _ LAMBDA_TASK_ROOT LAMBDA_RUNTIME_DIR LIVE_LAMBDA_STAGE LRAP_LISTENER_PORT
	XDG_CONFIG_HOME XDG_DATA_DIRS AWS_LAMBDA_RUNTIME_API AWS_LAMBDA_EXEC_WRAPPER
	AWS_LWA_LAMBDA_RUNTIME_API_PROXY AWS_XRAY_DAEMON_ADDRESS AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3
	AWS_ENDPOINT_URL_DYNAMODB AWS_CONTAINER_CREDENTIALS_FULL_URI AWS_EC2_METADATA_SERVICE_ENDPOINT
	AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE AWS_WEB_IDENTITY_TOKEN_FILE AWS_PROFILE AWS_DEFAULT_PROFILE
	AWS_CA_BUNDLE AWS_DATA_PATH AWS_CSM_HOST AWS_PAGER BOTO_CONFIG BOTOCORE_EXPERIMENTAL__PLUGINS NETRC
	NOPROXY HTTPS_PROXY HTTP_PROXY ALL_PROXY NO_PROXY https_proxy http_proxy all_proxy no_proxy Https_Proxy
	GLOBAL_AGENT_HTTP_PROXY HOSTALIASES SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE OPENSSL_CONF
	OPENSSL_MODULES OPENSSL_ENGINES REQUESTS_CA_BUNDLE CURL_CA_BUNDLE CURL_HOME WGETRC LD_PRELOAD
	LD_LIBRARY_PATH LD_AUDIT DYLD_INSERT_LIBRARIES GCONV_PATH GLIBC_TUNABLES LOCPATH MAGICK_CONFIGURE_PATH
	DBUS_SESSION_BUS_ADDRESS SHELL SHELLOPTS SHLVL IFS BASH_ENV BASH_FUNC_ls%% BASHOPTS PROMPT_COMMAND PS0
	PS1 PS2 PS3 PS4 PROMPT4 CDPATH ZDOTDIR FPATH MODULE_PATH NULLCMD HISTFILE fish_function_path LESS
	LESSOPEN LESSCLOSE MANPAGER PAGER EDITOR SUDO_EDITOR VISUAL BROWSER TERM TERMINFO TERMINFO_DIRS TERMCAP
	DOCKER_HOST KUBECONFIG SSH_AUTH_SOCK SSH_ASKPASS PUPPETEER_EXECUTABLE_PATH TAR_OPTIONS RSYNC_RSH SVN_SSH
	HGRCPATH GIT_SSH_COMMAND GIT_CONFIG_COUNT GIT_CONFIG_KEY_0 GIT_SSL_NO_VERIFY GIT_DIR GIT_EXEC_PATH
	GIT_EXTERNAL_DIFF GIT_TRACE GIT_ALLOW_PROTOCOL NVM_DIR VOLTA_HOME PYENV_HOOK_PATH RBENV_HOOK_PATH
	rvm_path ASDF_DIR MISE_ENV_FILE VIRTUAL_ENV NODE_OPTIONS NODE_PATH NODE_TLS_REJECT_UNAUTHORIZED
	NODE_EXTRA_CA_CERTS NODE_REDIRECT_WARNINGS NODE_V8_COVERAGE NODE_CONFIG_DIR NODE_DEBUG NODE_CHANNEL_FD
	TS_NODE_REQUIRE TS_NODE_COMPILER ESBUILD_BINARY_PATH SWC_BINARY_PATH NAPI_RS_NATIVE_LIBRARY_PATH
	PRISMA_QUERY_ENGINE_LIBRARY npm_config_registry NPM_CONFIG_REGISTRY Npm_Config_Script_Shell npm_execpath
	YARN_RC_FILENAME yarn_registry pnpm_config_registry COREPACK_NPM_REGISTRY NODEJS_ORG_MIRROR DENO_DIR
	DENO_CERT BUN_INSTALL BUN_OPTIONS PYTHONPATH PYTHONSTARTUP PYTHONWARNINGS PYTHON PY_SAX_PARSER
	PIP_INDEX_URL UV_INDEX_URL UV_PYTHON COVERAGE_PROCESS_START RUBYOPT RUBYLIB RUBYSHELL RUBYGEMS_GEMDEPS
	GEM_HOME GEM_PATH GEMRC BUNDLE_GEMFILE BUNDLER_ORIG_RUBYOPT PHPRC PHP_INI_SCAN_DIR COMPOSER_HOME
	XDEBUG_CONFIG BREF_AUTOLOAD_PATH PERL5OPT PERL5LIB PERL LUA_INIT LUA_PATH_5_4 R_PROFILE_USER ERL_FLAGS
	JAVA_TOOL_OPTIONS JAVA_HOME _JAVA_OPTIONS JDK_JAVA_OPTIONS JVM_OPTS SBT_OPTS MAVEN_OPTS MAVEN_ARGS
	MVNW_REPOURL GRADLE_OPTS GRADLE_USER_HOME ORG_GRADLE_PROJECT_x CLASSPATH JAVACMD
	LOG4J_CONFIGURATION_FILE DOTNET_STARTUP_HOOKS DOTNET_ROOT DOTNET_GCName DOTNET_CLI_HOME
	CORECLR_PROFILER_PATH COR_ENABLE_PROFILING COMPlus_GCName ASPNETCORE_HOSTINGSTARTUPASSEMBLIES
	MSBuildSDKsPath MSBUILDEXTENSIONSPATH msbuildloadallfiles NUGET_PACKAGES NuGetPackageRoot PreBuildEvent
	PREBUILDEVENT PostBuildEvent RunCommand RUNCOMMAND RunArguments RunWorkingDirectory StartProgram
	RestoreSources RestoreConfigFile CustomBeforeMicrosoftCommonProps CustomAfterMicrosoftCommonTargets
	BeforeMicrosoftNETSdkTargets DirectoryBuildPropsPath _DirectoryBuildPropsFile ImportDirectoryBuildProps
	AlternateCommonProps LanguageTargets CscToolPath CscToolExe CSharpCoreTargetsPath
	BaseIntermediateOutputPath OutputPath OutDir VCTargetsPath CompilerResponseFile
	MicrosoftNETBuildTasksAssembly NetCoreTargetingPackRoot GOFLAGS GOENV GOROOT GOPATH GOPROXY GOSUMDB
	GONOSUMDB GONOSUMCHECK GOTOOLCHAIN GOINSECURE GOPRIVATE GOWORK GOVCS GOAUTH GOBIN GOCACHE GOCACHEPROG
	GOMODCACHE GOTMPDIR GOTOOLDIR GOOS GOARCH GODEBUG GOCOVERDIR GO111MODULE GOEXPERIMENT GO_EXTLINK_ENABLED
	GCCGO CGO_CFLAGS CARGO CARGO_HOME CARGO_BUILD_RUSTC_WRAPPER RUSTC RUSTC_WRAPPER RUSTFLAGS RUSTDOC
	RUSTDOCFLAGS RUSTUP_TOOLCHAIN RUSTUP_DIST_SERVER RUSTUP_HOME RUST_TARGET_PATH PROTOC LIBCLANG_PATH
	BINDGEN_EXTRA_CLANG_ARGS CCACHE_PREFIX PYO3_PYTHON X86_64_UNKNOWN_LINUX_GNU_OPENSSL_DIR CC CXX CPP AR AS
	LD FC NM RANLIB CFLAGS CXXFLAGS LDFLAGS CC_x86_64-unknown-linux-gnu CXXFLAGS_aarch64_apple_darwin
	HOST_CC TARGET_AR PKG_CONFIG PKG_CONFIG_PATH HOST_PKG_CONFIG CMAKE CMAKE_TOOLCHAIN_FILE NINJA_STATUS
	MAKE MAKEFLAGS MAKEFILES GNUMAKEFLAGS MFLAGS CONFIG_SHELL COMPILER_PATH LIBRARY_PATH CPATH
	C_INCLUDE_PATH GCC_EXEC_PREFIX CCC_OVERRIDE_OPTIONS SDKROOT DEVELOPER_DIR`

// theFunctions are variables that handlers need, some of which look like others.
const theFunctions = `
	TABLE_NAME TableName LOG_LEVEL DATABASE_URL STAGE ENVIRONMENT RUNTIME REGION DEBUG PORT API_KEY
	ConnectionStrings__Default ASPNETCORE_ENVIRONMENT POWERTOOLS_SERVICE_NAME POWERTOOLS_METRICS_NAMESPACE
	AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_EXECUTION_ENV AWS_LAMBDA_LOG_LEVEL
	AWS_NODEJS_CONNECTION_REUSE_ENABLED AWS_RETRY_MODE AWS_MAX_ATTEMPTS AWS_USE_FIPS_ENDPOINT TZ LANG LC_ALL
	NODE_CONFIG UV_THREADPOOL_SIZE DOTNET_ENVIRONMENT GOMAXPROCS RUST_LOG RUST_BACKTRACE RAILS_ENV
	DJANGO_SETTINGS_MODULE APP_ENV SPRING_PROFILES_ACTIVE GOOGLE_API_KEY GIT_SHA GIT_COMMIT GIT_BRANCH
	DOCKER_IMAGE SSH_HOST HISTORY_TABLE LESSON_TABLE PROMPT_BUCKET CC_EMAIL GST_RATE TERMS_URL N_RETRIES
	COLLECT_METRICS COVERAGE_TABLE MAKER_ID PATH_PREFIX HOME_URL RESTORE_BUCKET RUN_COMMAND OUTPUT_PATH
	ALARM_TARGETS DB_PROXY RDS_PROXY_ENDPOINT HOSTNAME DD_ENV OTEL_SERVICE_NAME MALLOC_ARENA_MAX StartDate
	ImportBucket`

// New credentials restart a function's process; those of an older environment, which lives on beside it, do
// not.
func TestLocalCredentialsRestart(t *testing.T) {
	r := newTestLocal(t, localOptions{command: testCommand("1")})
	pid := func(token string) string {
		t.Helper()
		c := r.context()
		c.Environment = map[string]string{
			"AWS_SESSION_TOKEN": token, "AWS_LAMBDA_LOG_STREAM_NAME": c.RequestID}
		_, body := r.reply(r.direct(task{Do: "pid"}, c))
		return body
	}
	one := pid("1")
	if pid("1") != one {
		t.Error("the same credentials have restarted the process")
	}
	two := pid("2")
	if two == one {
		t.Error("new credentials have not restarted the process")
	}
	if pid("1") != two || pid("2") != two {
		t.Error("older credentials have restarted the process")
	}
}

func TestLocalServes(t *testing.T) {
	for _, tt := range []struct {
		opts     localOptions
		function string
		command  string
		served   bool
	}{
		{localOptions{command: []string{"c"}}, "orders", "c", true},
		{localOptions{command: []string{"c"}, functions: []string{"pay", "ord*"}}, "orders", "c", true},
		{localOptions{command: []string{"c"}, functions: []string{"pay"}}, "orders", "", false},
		{localOptions{maps: map[string][]string{"pay": {"p"}}}, "pay", "p", true},
		{localOptions{maps: map[string][]string{"pay": {"p"}}}, "orders", "", false},
		{localOptions{command: []string{"c"}, maps: map[string][]string{"pay": {"p"}}}, "orders", "c", true},
		{localOptions{
			command: []string{"c"}, maps: map[string][]string{"p*": {"p"}}, functions: []string{"x"}}, "pay",
			"p", true},
		{localOptions{}, "orders", "", true},
	} {
		command, served := newLocal(tt.opts, nil).serves(tt.function)
		if served != tt.served || served && strings.Join(command, " ") != tt.command {
			t.Errorf("%+v: %s is served: %t by %q", tt.opts, tt.function, served, command)
		}
	}
}

// ---- runtimeapi.go ----

// The states and refusals of AWS's emulator.
func TestLocalRuntimeAPI(t *testing.T) {
	r := newTestLocal(t, localOptions{})
	addr, err := r.local.serveAttached()
	if err != nil {
		t.Fatal(err)
	}
	const base = "/2018-06-01/runtime/"
	call := func(method, path, body string, status int, want string, headers ...string) http.Header {
		t.Helper()
		got, text, h := r.raw(addr, method, base+path, body, headers...)
		if got != status || !strings.Contains(text, want) {
			t.Errorf("%s %s: %d %s, want %d %s", method, path, got, text, status, want)
		}
		return h
	}
	const ok = `{"status":"OK"}`
	call("POST", "invocation/x/response", "1", 400, "InvalidRequestID")
	call("GET", "nonsense", "", 404, "")
	call("GET", "restore/next", "", 200, "")
	call("GET", "restore/next", "", 403, "InvalidStateTransition")
	c := r.context()
	c.ClientContext, c.Identity = []byte(`{"custom": {"é":"\n"}}`), []byte(`{"cognitoIdentityId":"i"}`)
	c.TenantID = "t1"
	q := r.direct([]byte("\"event\""), c)
	h := call("GET", "invocation/next", "", 200, `"event"`)
	for name, want := range map[string]string{"Aws-Request-Id": c.RequestID,
		"Deadline-Ms": strconv.FormatInt(c.DeadlineMs, 10), "Trace-Id": c.TraceID,
		"Invoked-Function-Arn": c.InvokedFunctionARN, "Client-Context": `{"custom":{"\u00e9":"\n"}}`,
		"Cognito-Identity": `{"cognitoIdentityId":"i"}`,
		"Aws-Tenant-Id":    "t1"} {
		if got := h.Get("Lambda-Runtime-" + name); got != want {
			t.Errorf("Lambda-Runtime-%s is %q, want %q", name, got, want)
		}
	}
	call("GET", "invocation/next", "", 200, `"event"`) // again, as Lambda does
	call("POST", "init/error", "{}", 403, "State transition from Running to InitError failed for runtime")
	call("GET", "restore/next", "", 403, "InvalidStateTransition")
	call("POST", "invocation/other/response", "1", 400, "InvalidRequestID")
	to := "invocation/" + c.RequestID + "/"
	call("POST", to+"response", "answer", 202, ok)
	if _, body := r.reply(q); body != "answer" {
		t.Errorf("the reply is %q", body)
	}
	call("POST", to+"response", "1", 400, "InvalidRequestID")
	call("POST", to+"error", "1", 400, "InvalidRequestID")

	c = r.context()
	q = r.direct([]byte("2"), c)
	call("GET", "invocation/next", "", 200, "2")
	to = "invocation/" + c.RequestID + "/"
	call("POST", to+"response", "1", 400, "InvalidFunctionResponseMode", modeHeader, "sideways")
	if rep, _ := r.reply(q); rep.errorType != "Runtime.InvalidResponseModeHeader" {
		t.Errorf("the error is %q", rep.errorType)
	}
	c = r.context()
	q = r.direct([]byte("3"), c)
	call("GET", "invocation/next", "", 200, "3")
	to = "invocation/" + c.RequestID + "/"
	call("POST", to+"response", strings.Repeat("x", maxPayload+1), 413,
		"Exceeded maximum allowed payload size (6291556 bytes).")
	if rep, _ := r.reply(q); rep.errorType != "Function.ResponseSizeTooLarge" {
		t.Errorf("the error is %q", rep.errorType)
	}
	c = r.context()
	q = r.direct([]byte("4"), c)
	call("GET", "invocation/next", "", 200, "4")
	to = "invocation/" + c.RequestID + "/"
	call("POST", to+"error", "any bytes", 202, ok, typeHeader, "Function.Uglyé", causeHeader, "{}")
	if rep, body := r.reply(q); rep.errorType != "Function.Ugly?" || body != "any bytes" ||
		rep.xrayCause != "{}" {
		t.Errorf("the error is %q with %q", rep.errorType, body)
	}
	if status, body, _ := r.raw(addr, "GET", "/2018-06-01/ping", ""); status != 200 || body != "pong" {
		t.Errorf("ping: %d %s", status, body)
	}
}

// A process answers its own invocation and no other, though others are under way.
func TestLocalAnswersItsOwn(t *testing.T) {
	r := newTestLocal(t, localOptions{command: []string{"c"}})
	p := &pool{local: r.local, name: "orders", command: r.local.opts.command, seen: map[[32]byte]int{},
		workers: []*worker{nil, nil}}
	for i := range p.workers { // as if its process were starting
		p.workers[i] = newWorker(p)
		p.workers[i].identity, p.workers[i].generation = "$LATEST\n256\neu-west-1\nindex.handler", 1
	}
	r.local.pools[p.name] = p
	asked := []*request{r.direct([]byte("0"), r.context()), r.direct([]byte("1"), r.context())}
	for i, w := range p.workers {
		r.routes = w.routes()
		if id, event := r.next(); id != asked[i].id || string(event) != strconv.Itoa(i) {
			t.Fatalf("worker %d got %s of %s", i, event, id)
		}
	}
	for _, what := range []string{"response", "error"} { // posted to the worker that was asked last
		if rec := r.call(
			r.ctx, "POST", "invocation/"+asked[0].id+"/"+what, strings.NewReader(`"of another"`)); rec.
			Code != http.StatusBadRequest || !strings.Contains(rec.Body.String(), "InvalidRequestID") {
			t.Fatalf("%s with another's ID: %d %s", what, rec.Code, rec.Body)
		}
	}
	for i, w := range p.workers {
		r.routes = w.routes()
		r.respond(asked[i].id, strings.NewReader(fmt.Sprint("answer ", i)), http.StatusAccepted)
	}
	for i, q := range asked {
		if rep, body := r.reply(q); rep.kind != "response" || body != fmt.Sprint("answer ", i) {
			t.Errorf("invocation %d got %s %q", i, rep.kind, body)
		}
	}
}

// What a page in a browser can send is refused, whatever it does with host names.
func TestLocalRefusesBrowsers(t *testing.T) {
	r := newTestLocal(t, localOptions{})
	addr, err := r.local.serveAttached()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	for _, headers := range [][]string{
		{"Origin", "http://example.com"}, {"Origin", "http://" + addr}, {"Origin", "null"},
		{"Referer", "http://example.com/"},
		{"Sec-Fetch-Site", "cross-site"}, {"Cookie", "a=b"}, {"User-Agent", "Mozilla/5.0 (Macintosh)"},
		{"Host", "example.com"}, {"Host", "example.com:" + port}, {"Host", "localhost"},
	} {
		if status, _,
			_ := r.raw(addr, "GET", "/2018-06-01/ping", "", headers...); status != http.StatusForbidden {
			t.Errorf("%v: %d", headers, status)
		}
	}
	// Node's own fetch sends this one
	for _, headers := range [][]string{{"Host", "localhost:" + port}, {"Sec-Fetch-Mode", "cors"}} {
		if status, _, _ := r.raw(addr, "GET", "/2018-06-01/ping", "", headers...); status != http.StatusOK {
			t.Errorf("%v: %d", headers, status)
		}
	}
}

// So is what comes from another machine, though it listens on loopback alone.
func TestLocalRefusesOtherMachines(t *testing.T) {
	r := newTestLocal(t, localOptions{})
	addr, err := r.local.serveAttached()
	if err != nil {
		t.Fatal(err)
	}
	for peer, want := range map[string]int{"192.0.2.1:1": http.StatusForbidden,
		"[2001:db8::1]:1": http.StatusForbidden, "": http.StatusForbidden,
		"127.0.0.1:1": http.StatusOK, "[::1]:1": http.StatusOK} {
		req, rec := httptest.NewRequest("GET", "/2018-06-01/ping", nil), httptest.NewRecorder()
		req.Host, req.RemoteAddr = addr, peer
		if r.local.attachServer.Handler.ServeHTTP(rec, req); rec.Code != want {
			t.Errorf("%q: %d, want %d", peer, rec.Code, want)
		}
	}
}

// ---- the commands, as processes of their own ----

// started is a command that runs.
type started struct {
	*localRig
	cmd            *exec.Cmd
	stdout, stderr *screen
}

// command starts the program.
func (r *localRig) command(stdin string, args ...string) *started {
	r.Helper()
	c := &started{
		localRig: r, stdout: &screen{new: make(chan struct{}, 1)},
		stderr: &screen{new: make(chan struct{}, 1)}}
	c.cmd = exec.CommandContext(r.ctx, os.Args[0], args...)
	c.cmd.Env = append(
		os.Environ(), "TEST_MAIN=1", "NO_COLOR=1", "AWS_ACCESS_KEY_ID=AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY=secret", "AWS_SESSION_TOKEN=")
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = strings.NewReader(stdin), c.stdout, c.stderr
	if err := c.cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { c.cmd.Process.Kill() })
	return c
}

// exit waits for the command's end, which must have that status.
func (c *started) exit(status int) {
	c.Helper()
	c.cmd.Wait()
	if got := c.cmd.ProcessState.ExitCode(); got != status {
		c.Errorf("%v: exit status %d, want %d\n%s%s", c.cmd.Args[1:], got, status, c.stdout, c.stderr)
	}
}

// local starts `live-lambda local` against the rig's Event API and waits until it is connected.
func (r *localRig) startLocal(args ...string) *started {
	r.Helper()
	host := "http://" + r.client().http.Host
	c := r.command("", append([]string{"local", "--host", host, "--region", "eu-west-1"}, args...)...)
	c.stdout.wait(r, "waiting for invocations")
	return c
}

// newRemoteRig has an Event API and no local end of its own.
func newRemoteRig(t *testing.T) *localRig {
	r := newLocalRig(t, localOptions{functions: []string{"none"}})
	return r
}

// An interrupt lets running invocations finish, says so, and sums up.
func TestLocalInterrupted(t *testing.T) {
	r := newRemoteRig(t)
	c := r.startLocal(append([]string{"--"}, testCommand("1")...)...)
	r.invoke(task{}, r.context())
	g := r.newGate("gate")
	call := r.send(task{Do: "wait", File: g.file, Text: "last"}, r.context())
	f, err := os.OpenFile(g.file, os.O_WRONLY, 0) // when the handler has come
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Process.Signal(os.Interrupt)
	c.stdout.wait(r, "waiting for orders 00000000; interrupt once more")
	f.Close()
	r.await(call).want(r, "", `"last"`)
	call.finish()
	c.exit(0)
	if !strings.Contains(c.stdout.String(), " 2 invocations, 0 errors, median ") {
		t.Errorf("it printed\n%s", c.stdout)
	}
}

// Another interrupt ends everything; the callers hear of it.
func TestLocalKilled(t *testing.T) {
	r := newRemoteRig(t)
	c := r.startLocal(append([]string{"--json", "--"}, testCommand("1")...)...)
	fifo := r.newGate("hang")
	call := r.send(task{Do: "hang", File: fifo.file}, r.context())
	f, err := os.Open(fifo.file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c.cmd.Process.Signal(syscall.SIGTERM)
	c.stdout.wait(r, "interrupt once more")
	c.cmd.Process.Signal(os.Interrupt)
	if g := r.await(call); g.errorType != "LiveLambda.Stopped" {
		t.Errorf("the caller got %q", g.errorType)
	}
	call.finish()
	io.Copy(io.Discard, f)
	c.exit(1)
	for line := range strings.Lines(c.stdout.String()) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Type == "" || e.Time.IsZero() {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// Several functions have processes of their own; what these print is marked. One that is not served is left
// alone.
func TestLocalFunctions(t *testing.T) {
	r := newRemoteRig(t)
	c := r.startLocal(
		append([]string{
			"--verbose", "--function", "ord*", "--map", "pay=exec env TEST_RUNTIME=1 " + os.Args[0], "--"},
			testCommand("1")...)...)
	as := func(name string) eventContext {
		c := r.context()
		c.FunctionName = name
		return c
	}
	r.invoke(task{Do: "print", Text: "one\n"}, as("orders"))
	c.stdout.wait(r, "\none\n")
	alone := r.send(task{}, as("stock"))
	c.stdout.wait(r, "left alone: invocations of stock")
	r.invoke(task{Do: "print", Text: "two\nthree\n"}, as("pay"))
	c.stdout.wait(r, "pay | two\npay | three\n")
	alone.t.mu.Lock()
	if alone.heardOn != nil {
		t.Error("an invocation that is not served was accepted")
	}
	alone.t.mu.Unlock()
	c.stdout.wait(r, "    event: {\n")
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
}

// What --record keeps, invoke runs; and it runs any event.
func TestInvoke(t *testing.T) {
	r := newRemoteRig(t)
	directory := filepath.Join(t.TempDir(), "events")
	c := r.startLocal(append([]string{"--record", directory, "--"}, testCommand("1")...)...)
	recorded := r.context()
	recorded.Environment = map[string]string{"AWS_SECRET_ACCESS_KEY": "hush"}
	r.invoke([]byte(`{"Do":"headers","n":1.0}`), recorded)
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
	files, err := filepath.Glob(directory + "/*.json")
	if err != nil || len(files) != 1 {
		t.Fatalf("recorded %v, %v", files, err)
	}
	text, _ := os.ReadFile(files[0])
	if info, _ := os.Stat(files[0]); info.Mode() != 0o600 || bytes.Contains(text, []byte("hush")) ||
		!bytes.Contains(text, []byte(`{"Do":"headers","n":1.0}`)) {
		t.Errorf("recorded, with %v: %s", info.Mode(), text)
	}

	run := append([]string{"--"}, testCommand("1")...)
	c = r.command("", append([]string{"invoke", files[0]}, run...)...)
	c.exit(0)
	if out := c.stdout.String(); !strings.Contains(out, recorded.RequestID) ||
		!strings.Contains(out, recorded.InvokedFunctionARN) {
		t.Errorf("invoke printed %s", out)
	}
	for _, tt := range []struct {
		stdin  string
		status int
		stdout string
	}{
		{`{"a":1}`, 0, `{"a":1}`},
		{`{"event_payload":1,"context":{},"more":2}`, 0, `{"event_payload":1,"context":{},"more":2}`},
		{`{"Do":"error","Text":"{\"errorType\":\"E\",\"errorMessage\":\"m\"}","Type":"E"}`, 1,
			`{"errorType":"E","errorMessage":"m"}`},
		{`{"Do":"exit","Code":7}`, 1, `exit status 7`},
		{`{"Do":"stream","Pieces":["one","two"]}`, 0, `onetwo`},
		{`{"Do":"stream","Pieces":["one"],"Text":"{\"errorType\":\"E\",\"errorMessage\":\"broken off\"}"}`, 1,
			`one`},
		{`{"Do":"print","Text":"to stderr"}`, 0, `null`},
		{`not JSON`, 2, ``},
	} {
		c := r.command(tt.stdin, append([]string{"invoke"}, run...)...)
		c.exit(tt.status)
		if out := c.stdout.String(); out != tt.stdout &&
			!(tt.status == 1 && strings.Contains(out, tt.stdout)) {
			t.Errorf("%s: printed %q, want %q", tt.stdin, out, tt.stdout)
		}
		if strings.Contains(tt.stdin, "broken off") &&
			!strings.Contains(c.stderr.String(), "the function failed: E: broken off") {
			t.Errorf("%s: said %q", tt.stdin, c.stderr)
		}
	}
}

func TestCommandLines(t *testing.T) {
	r := newTestLocal(t, localOptions{})
	event, notJSON := filepath.Join(t.TempDir(), "event"), filepath.Join(t.TempDir(), "command")
	if err := errors.Join(
		os.WriteFile(event, []byte("1"), 0o600),
		os.WriteFile(notJSON, []byte("#!/bin/sh"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   string
		status int
		want   string
	}{
		{"", 0, "usage: live-lambda COMMAND"}, {"help", 0, "  invoke "}, {"--help", 0, "  local "},
		{"nonsense", 2, `there is no command "nonsense"`},
		{"local --help", 0, "--max-processes"},
		{"local --help", 0, "  --own-env\n        leave out the environment"},
		{"invoke --own-env", 2, "not defined"}, {"invoke --help", 0, "--timeout"},
		{"local --nonsense", 2, "not defined"},
		{"local -- true", 2, "LIVE_LAMBDA_APPSYNC_HTTP_HOST"},
		{"local --host a b -- true", 2, `what is "b"?`}, {"local --host a --", 2, "no command after --"},
		{"local --host a --max-processes 0", 2, "--max-processes"},
		{"local --host a --map x", 2, "NAME=COMMAND"}, {"local --host a --map [=x", 2, "syntax error"},
		{"local --host a --function [", 2, "syntax error"},
		{"local --host http://example.com", 2, "TLS"}, {"invoke /nonexistent -- true", 2, "no such file"},
		{"invoke " + event + " " + notJSON, 2, "It goes after --"},
		{"invoke " + event + " " + notJSON + " -- true", 2, "is not JSON"},
		{"sample --help", 0, "WHERE"}, {"sample", 2, "WHERE"}, {"demo --help", 0, "--listen"},
		{"demo a", 2, `what is "a"?`}, {"demo --listen 0.0.0.0:0", 2, "not an address on loopback"},
		{"demo --listen 127.0.0.1:99999", 2, "not an address on loopback"},
	} {
		c := r.command("", strings.Fields(tt.args)...)
		c.exit(tt.status)
		out := c.stdout
		if tt.status != 0 {
			out = c.stderr
		}
		if !strings.Contains(out.String(), tt.want) {
			t.Errorf("%q printed %q and %q, want %q", tt.args, c.stdout, c.stderr, tt.want)
		}
	}
}

// ---- credentials ----

func TestCLICredentials(t *testing.T) {
	directory := t.TempDir()
	script := filepath.Join(directory, "aws")
	answer := func(text string) {
		t.Helper()
		if err := os.WriteFile(
			script, []byte("#!/bin/sh\necho \"$*\" >>"+directory+"/calls\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", directory+":"+path)
	cli := &cliCredentials{profile: "dev"}
	get := func(want, wantError string) {
		t.Helper()
		c, err := cli.get(t.Context())
		if c.accessKeyID != want || (err == nil) != (wantError == "") ||
			err != nil && !strings.Contains(err.Error(), wantError) {
			t.Errorf("got %q and %v, want %q and %q", c.accessKeyID, err, want, wantError)
		}
	}
	keys := func(id, expires string) string {
		return `echo '{"Version":1,"AccessKeyId":"` + id + `","SecretAccessKey":"s","SessionToken":"t"` +
			expires + `}'`
	}
	answer(`echo "Error loading SSO Token: Token for x does not exist" >&2; exit 255`)
	get("", "run aws sso login --profile dev")
	answer(keys("TOOSOON", ""))
	get("", "run aws sso login --profile dev") // not asked again at once
	cli.until = time.Time{}
	answer(keys("ONE", `,"Expiration":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`"`))
	get("ONE", "")
	answer(keys("TWO", ""))
	get("ONE", "")
	cli.until = time.Time{} // as if shortly before they expire
	answer("exit 1")
	get("ONE", "")
	cli.until = time.Time{}
	answer(keys("TWO", ""))
	get("TWO", "")
	if calls, _ := os.ReadFile(directory + "/calls"); !strings.HasPrefix(
		string(calls), "configure export-credentials --format process --profile dev\n") {
		t.Errorf("called with %s", calls)
	}
	cli = &cliCredentials{}
	answer(`printf 'usage: \\rNote: AWS CLI version 2, the latest major version of the AWS CLI, is now ` +
		`stable\\nusage: aws [options]\\n' >&2; exit 2`)
	get("", "install version 2, or set AWS_ACCESS_KEY_ID")
	cli = &cliCredentials{}
	answer("echo nonsense")
	get("", "printed no credentials")
	t.Setenv("PATH", t.TempDir())
	cli = &cliCredentials{}
	get("", "AWS CLI")

	environment := developerCredentials("", http.DefaultTransport)
	t.Setenv("AWS_ACCESS_KEY_ID", "ENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	if c, err := environment(t.Context()); c.accessKeyID != "ENV" || err != nil {
		t.Errorf("got %q and %v", c.accessKeyID, err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "LATER")
	if c, err := environment(t.Context()); c.accessKeyID != "LATER" || err != nil {
		t.Errorf("the environment has changed: got %q and %v", c.accessKeyID, err)
	}
	var asked string
	container := developerCredentials("", transportFunc(func(r *http.Request) (*http.Response, error) {
		asked = r.URL.Path + " " + r.Header.Get("Authorization")
		return httpAnswer(200, `{"AccessKeyId":"CONTAINER","SecretAccessKey":"s","Token":"t"}`), nil
	}))
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/c")
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token")
	if c, err := container(t.Context()); c.accessKeyID != "LATER" || err != nil || asked != "" {
		t.Errorf("keys besides an endpoint: got %q and %v, asked for %q", c.accessKeyID, err, asked)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	if c, err := container(t.Context()); c != (credentials{"CONTAINER", "s", "t"}) || err != nil ||
		asked != "/c container-token" {
		t.Errorf("got %q and %v, asked for %q", c.accessKeyID, err, asked)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "ENV")
	if _, err := developerCredentials("dev", http.DefaultTransport)(t.Context()); err == nil {
		t.Error("the environment won over --profile")
	}
}

// ---- watch.go ----

func TestGlobs(t *testing.T) {
	for _, tt := range []struct {
		glob, file string
		want       bool
	}{
		{"*.js", "a.js", true}, {"*.js", "src/deep/a.js", true}, {"*.js", "a.jsx", false},
		{"src/*.js", "src/a.js", true}, {"src/*.js", "src/b/a.js", false},
		{"src/**/*.js", "src/a.js", true}, {"src/**/*.js", "src/b/c/a.js", true}, {"src/**", "src/b/c", true},
		{"./src/a?.py", "src/ab.py", true},
		{"a.b", "axb", false}, {"src/**/*.js", "other/src/a.js", false},
	} {
		if got := globPattern(tt.glob).MatchString(tt.file); got != tt.want {
			t.Errorf("%q matches %q: %t", tt.glob, tt.file, got)
		}
	}
}

// A file that changes restarts the idle process at once and the busy one when it has finished.
func TestLocalWatches(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, d := range []string{"src", "node_modules", ".git"} {
		os.Mkdir(d, 0o700)
	}
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("src/a.js", "1")
	r := newTestLocal(t, localOptions{command: testCommand("1")})
	patterns := []*regexp.Regexp{globPattern("*.js")}
	before, _ := scan(patterns, "")
	for _, file := range []string{"node_modules/b.js", ".git/c.js", "src/d.txt"} {
		write(file, "1")
	}
	if now, _ := scan(patterns, ""); changed(before, now) != "" {
		t.Errorf("%s has changed", changed(before, now))
	}
	pid := func() string {
		t.Helper()
		_, body := r.reply(r.direct(task{Do: "pid"}, r.context()))
		return body
	}
	one := pid()
	g := r.newGate("gate")
	busy := r.direct(task{Do: "wait", File: g.file}, r.context())
	two := pid()
	r.background(func(ctx context.Context) { r.local.watch(ctx, []string{"*.js"}) })
	r.out.wait(r, "watching 1 file")
	write("src/a.js", "11")
	r.out.wait(r, "src/a.js has changed: 1 idle and 1 busy processes restart")
	g.pass()
	r.reply(busy)
	for range 3 {
		if p := pid(); p == one || p == two {
			t.Error("a process lives on")
		}
	}

	// One that hangs before it has asked for its event leaves that to the next.
	if err := syscall.Mkfifo("hang", 0o600); err != nil {
		t.Fatal(err)
	}
	r = newTestLocal(
		t, localOptions{
			command: append(
				[]string{"/bin/sh", "-c", `while [ -e hang ]; do read x <hang; sleep 1000; done; exec "$@"`,
					"sh"}, testCommand("1")...)})
	hung := r.direct(task{Do: "pid"}, r.context())
	gate{r, "hang"}.pass()
	os.Remove("hang")
	r.local.restartAll("hang")
	r.reply(hung)
}

// ---- terminal.go ----

func TestTerminalLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name                  string
			columns               int
			colour, json, verbose bool
			want                  []string
		}{
			{"pipe", 0, false, false, false, []string{
				"00:00:00.000 orders 00000000 start   1.2 kB in, 1 running\n",
				"00:00:00.100 orders 00000000 ok      100 ms, 2.5 MB out\n",
				"00:00:00.100 orders 00000000 error   0 ms  E: what went wrong?[31m\n"}},
			{"terminal", 60, true, false, false, []string{
				"00:00:00.000 \x1b[2morders 00000000 start   1.2 kB in, 1 running\x1b[0m\n",
				"00:00:00.100 \x1b[32morders 00000000 ok      100 ms, 2.5 MB out\x1b[0m\n",
				"00:00:00.100 \x1b[31morders 00000000 error   0 ms  E: what went wro\x1b[0m\n"}},
			{"json", 0, false, true, false, []string{
				`{"time":"START","type":"start","function":"orders","request_id":"00000000-0000",` +
					`"bytes_in":1200,"running":1,"queued":0}` + "\n",
				`"type":"end","function":"orders","request_id":"00000000-0000","outcome":"ok","ms":100,` +
					`"bytes_out":2500000,"queued":0}` + "\n",
				`"outcome":"error","error_type":"E","message":"E: what went wrong\u001b[31m\nat line 1",`}},
			{"verbose", 0, false, false, true,
				[]string{"    event: {\n      \"a\": 1\n    }\n", "    answer: 2.5 MB that are not text\n",
					"    answer: äö\n"}},
		} {
			out := &screen{new: make(chan struct{}, 1)}
			term := &terminal{out: out, errors: out, columns: func() int {
				return tt.columns
			}, colour: tt.colour, json: tt.json, verbose: tt.verbose,
				chunks: make(chan chunk, 100)}
			start := time.Now()
			q := newRequest(
				[]byte(`{"a":1}`), eventContext{RequestID: "00000000-0000", FunctionName: "orders"})
			if q.size = 1200; tt.verbose {
				q.size = len(q.event)
			}
			term.arrived(q, 0)
			time.Sleep(100 * time.Millisecond)
			term.ended(q, &reply{kind: "response", size: 2_500_000, head: []byte("\xff\xfe\xff\xff\xff")}, 0)
			// its beginning ends within a character
			term.ended(q, &reply{kind: "response", size: 20_000, head: []byte("äöü")[:5]}, 0)
			failed := newRequest([]byte("1"), q.context)
			term.ended(failed,
				errorReply("E",
					[]byte(`{"errorType":"E","errorMessage":"what went wrong\u001b[31m\nat line 1"}`)), 0)
			term.start()
			term.close()
			for _, want := range tt.want {
				want = strings.
					NewReplacer("00:00:00.000", start.Format("15:04:05.000"), "START",
						start.UTC().Format(time.RFC3339Nano),
						"00:00:00.100", start.Add(100*time.Millisecond).Format("15:04:05.000")).Replace(want)
				if !strings.Contains(out.String(), want) {
					t.Errorf("%s: no %q in\n%q", tt.name, want, out)
				}
			}
		}
	})
}

// The live line tells what is running, stays below everything else, and goes.
func TestTerminalLiveLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &screen{new: make(chan struct{}, 1)}
		term := &terminal{out: out, errors: out, columns: func() int {
			return 40
		}, chunks: make(chan chunk, 100)}
		term.start()
		q := newRequest(
			[]byte("1"),
			eventContext{RequestID: "00000000-0000", FunctionName: "a-function-with-a-long-name"})
		term.arrived(q, 0)
		synctest.Wait()
		time.Sleep(time.Second)
		w := term.output("a", false)
		io.WriteString(w, "a handler's line\n")
		synctest.Wait()
		term.ended(q, &reply{kind: "response"}, 0)
		synctest.Wait()
		io.WriteString(w, "printed before it answered\n")
		synctest.Wait()
		if lines := strings.Split(out.String(), "\n"); !strings.HasSuffix(
			lines[len(lines)-2], "printed before it answered") {
			t.Errorf("it wrote %q", out)
		}
		ended := time.Now().Format("15:04:05.000 ")
		time.Sleep(time.Second)
		if !strings.Contains(out.String(), "\n"+ended) {
			t.Errorf("it wrote %q", out)
		}
		term.close()
		text := out.String()
		const live = "\x1b[2m1 running  a-function-w~a-long-name 000\x1b[0m"
		for _, want := range []string{live + "\r\x1b[Ka handler's line\n" + live, "\r\x1b[Kprinted before"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in %q", want, text)
			}
		}
		if !strings.HasSuffix(text, "\n") {
			t.Errorf("it ends with %q", text[max(0, len(text)-30):])
		}
	})
}
