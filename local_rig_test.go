//go:build !layer

package main

// local_rig_test.go is the rig of the developer's end: its Runtime API is driven with raw HTTP, its
// processes are this test binary, and its way to AppSync is the emulator, with the extension's own tunnel
// at the other side.

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
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
		os.Exit(newConsole().command(os.Args[1:]))
	}
}

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
	keys := credentials{accessKeyID: "AKIDEXAMPLE", secretAccessKey: "secret"}
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
	g := gate{localRig: r, file: filepath.Join(r.TempDir(), name)}
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
