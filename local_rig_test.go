//go:build !layer

package main

// local_rig_test.go is the rig of the developer's end. Its Runtime API is driven with raw HTTP, its processes
// are this test binary, and its way to AppSync is the emulator, with the extension's own tunnel at the other
// side.

import (
	"bytes"
	"context"
	"crypto/rand"
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
		os.Exit(newConsole().command(os.Args[1:]))
	}
}

// task is an event that tells testRuntime what to do.
type task struct {
	Do     string   // one of those that testAnswer knows; otherwise the event is the response
	Text   string   // to answer with, or to print
	Type   string   // content type or error type
	Size   int      // bytes of an answer
	File   string   // a FIFO to wait at or to hold open
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
	case "port": // it wants one that nobody else has
		_, err := net.Listen("tcp", os.Getenv("TEST_PORT"))
		if err != nil {
			os.Exit(3)
		}
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
		id := resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
		testAnswer(base+"invocation/"+id+"/", event, resp.Header)
	}
}

// testAnswer does what one event says. Answers are posted to paths below `to`.
func testAnswer(to string, event []byte, header http.Header) {
	var do task
	json.Unmarshal(event, &do)
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
		testPost(to+"response", bytes.NewReader(mustJSON(os.Environ())))
	case "headers":
		testPost(to+"response", bytes.NewReader(mustJSON(header)))
	case "wait":
		testWait(do.File)
		testPost(to+"response", strings.NewReader(strconv.Quote(do.Text)))
	case "detach":
		testDetach(do.File)
		os.Exit(0)
	case "hang":
		if do.Text != "" {
			testPost(to+"response", strings.NewReader(do.Text))
		}
		testHang(do.File)
	case "stream":
		testStream(to+"response", do)
	case "trailers":
		testTrailers(to+"response", do)
	default:
		testPost(to+"response", bytes.NewReader(event), "Content-Type", "application/json")
	}
}

// testWait waits at a FIFO until its writer has closed it.
func testWait(fifo string) {
	f, err := os.Open(fifo)
	if err == nil {
		io.ReadAll(f)
		f.Close()
	}
}

// testDetach starts a child with a session of its own, which holds the FIFO open, and waits until it has come
// to that.
func testDetach(fifo string) {
	child := exec.Command("/bin/sh", "-c", "exec 3>'"+fifo+"'; while :; do sleep 1000; done")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	child.Start()
	f, err := os.Open(fifo)
	if err == nil {
		f.Close()
	}
}

// testHang hangs with a child that ignores SIGTERM and holds the FIFO open.
func testHang(fifo string) {
	exec.Command("/bin/sh", "-c",
		"trap '' TERM; exec 3>'"+fifo+"'; echo $PPID >&3; while :; do sleep 1000; done").Run()
}

// testTrailers answers with an error as AWS's Go client may do it: in the trailers of a response.
func testTrailers(to string, do task) {
	req, _ := http.NewRequest(http.MethodPost, to, io.MultiReader(strings.NewReader("half")))
	req.Trailer = testError(do.Type, do.Text)
	testDo(req)
}

// testError is an error as trailers carry it.
func testError(errorType, body string) http.Header {
	return http.Header{
		typeHeader: {errorType},
		bodyHeader: {base64.StdEncoding.EncodeToString([]byte(body))},
	}
}

// testStream streams the pieces and then bytes of that size. With a text, an error ends the stream; with an
// exit status, the process's end. With a FIFO, each further piece waits for the reader of the one before.
func testStream(to string, do task) {
	pr, pw := io.Pipe()
	req, _ := http.NewRequest(http.MethodPost, to, pr)
	req.Header.Set(modeHeader, "streaming")
	req.Header.Set("Content-Type", do.Type)
	if do.Text != "" {
		req.Trailer = testError("Function.Middle", do.Text)
	}
	go func() {
		for _, p := range do.Pieces {
			io.WriteString(pw, p)
			if do.File != "" {
				testWait(do.File)
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

// testPost posts body, with headers in pairs of a name and a value.
func testPost(to string, body io.Reader, headers ...string) {
	req, _ := http.NewRequest(http.MethodPost, to, body)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	testDo(req)
}

// testDo makes a call and reads its answer to the end.
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
	ctx    context.Context
	local  *local
	out    *screen
	lastID *int         // of an invocation; counts for the whole rig
	routes http.Handler // in a bubble: the attached worker's

	// nil without AppSync
	graphql bool // over a GraphQL API instead of an Event API
	api     *eventAPI
	client  func() *appsync
	tunnel  *tunnel
	sub     *subscriber
	sign    *atomic.Pointer[currentCredentials] // in place of the rig's own, if there is something in it
}

// on returns the rig for a subtest, which fails for itself.
func (r *localRig) on(t *testing.T) *localRig {
	c := *r
	c.T = t
	return &c
}

// screen is what a terminal, or processes, have written.
type screen struct {
	new chan struct{} // there is more; has room for one

	mu  sync.Mutex // guards the following
	buf bytes.Buffer
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

// await is waitTimes for whoever has no rig. It fails when ctx is done.
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

// newTestLocal starts a local end without AppSync.
func newTestLocal(t *testing.T, opts localOptions) *localRig {
	t.Helper()
	out := &screen{new: make(chan struct{}, 1)}
	term := &terminal{
		out:     out,
		errors:  out,
		columns: func() int { return 0 },
		chunks:  make(chan chunk, waitingLines),
	}
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
	return &localRig{
		T:      t,
		ctx:    t.Context(),
		local:  l,
		out:    out,
		lastID: new(int),
		sign:   new(atomic.Pointer[currentCredentials]),
	}
}

// newLocalRig starts an Event API, a local end and a tunnel.
func newLocalRig(t *testing.T, opts localOptions) *localRig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := newTestLocal(t, opts)
	r.connect(ln, nil)
	r.tunnel = newTunnel(r.client(), "function", false)
	r.background(r.tunnel.run)
	return r
}

// connect joins the local end to an AppSync API on ln.
func (r *localRig) connect(ln net.Listener, dial func(context.Context, string, string) (net.Conn, error)) {
	r.serveAPI(ln, dial, 0)
	r.sub = newSubscriber(r.client(), r.local)
	r.background(r.sub.run)
	r.out.wait(r, "waiting for invocations")
}

// serveAPI starts an AppSync API on ln, which each message takes that long to come to and from.
func (r *localRig) serveAPI(
	ln net.Listener, dial func(context.Context, string, string) (net.Conn, error), delay time.Duration,
) {
	keys := credentials{accessKeyID: "AKIDEXAMPLE", secretAccessKey: "secret"}
	r.api = startEventAPI(ln, eventAPIOptions{
		graphql: r.graphql, credentials: []credentials{keys}, region: "eu-west-1", delay: delay})
	r.Cleanup(r.api.close)
	r.client = func() *appsync {
		transport := &http.Transport{DialContext: dial}
		r.Cleanup(transport.CloseIdleConnections)
		base := "http://" + ln.Addr().String() + r.api.path()
		e := endpoint{
			http:      mustURL(base),
			realtime:  mustURL(base + "/realtime"),
			graphql:   r.graphql,
			region:    "eu-west-1",
			namespace: "live-lambda",
		}
		sign := func(ctx context.Context) (credentials, error) {
			if instead := r.sign.Load(); instead != nil {
				return (*instead)(ctx)
			}
			return keys, nil
		}
		return newAppSync(e, nil, transport, sign, r.local.term.logger(slog.LevelDebug))
	}
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

// localBubble runs a test in a bubble of fake time, over an Event API and over a GraphQL API. The test itself
// is the runtime.
func localBubble(t *testing.T, test func(*localRig)) {
	for _, graphql := range []bool{false, true} {
		t.Run(eventAPIOptions{graphql: graphql}.protocol(), func(t *testing.T) {
			localBubbleOver(t, graphql, test)
		})
	}
}

// localBubbleOver does it over one of them.
func localBubbleOver(t *testing.T, graphql bool, test func(*localRig)) {
	localBubbleWith(t, graphql, nil, test)
}

// sealedBubble does it, over both, with a local end that has keys.
func sealedBubble(t *testing.T, keys []string, test func(*localRig)) {
	for _, graphql := range []bool{false, true} {
		t.Run(eventAPIOptions{graphql: graphql}.protocol(), func(t *testing.T) {
			localBubbleWith(t, graphql, keys, test)
		})
	}
}

// localBubbleWith does it over one of them.
func localBubbleWith(t *testing.T, graphql bool, keys []string, test func(*localRig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newTestLocal(t, localOptions{code: code{external: true}, keys: sealersOf(keys...)})
		r.graphql = graphql
		r.local.attach = newWorker(&pool{local: r.local, name: "attached runtime", external: true})
		r.local.attachServer = &http.Server{}
		r.routes = r.local.attach.routes()
		ln := newPipeListener("example.com")
		r.connect(ln, ln.dial)
		synctest.Wait() // it hears requests from now on, and nobody repeats a copy that comes before
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
	*r.lastID++
	return eventContext{
		RequestID:          fmt.Sprintf("00000000-0000-4000-8000-%012d", *r.lastID),
		FunctionName:       "orders",
		FunctionVersion:    "$LATEST",
		InvokedFunctionARN: "arn:aws:lambda:eu-west-1:123456789012:function:orders",
		MemorySizeMB:       256,
		Region:             "eu-west-1",
		DeadlineMs:         time.Now().Add(10 * time.Minute).UnixMilli(),
		TraceID:            "Root=1-2-3;Sampled=0",
		Handler:            "index.handler",
	}
}

// taskEvent returns an event: bytes as they are, anything else as JSON.
func taskEvent(do any) []byte {
	event, ok := do.([]byte)
	if ok {
		return event
	}
	return mustJSON(do)
}

// got is what came back for an invocation.
type got struct {
	errorType   string
	cause       string
	contentType string
	body        []byte
	trailers    map[string]string // of a stream; else nil
}

// send sends an invocation over the tunnel.
func (r *localRig) send(do any, c eventContext) *call {
	r.Helper()
	call := r.tunnel.send(r.ctx, &call{
		channel: requestsChannel, event: taskEvent(do), context: mustJSON(c), offline: time.Hour})
	r.Cleanup(func() { call.finish() })
	return call
}

// await waits for the answer.
func (r *localRig) await(c *call) got {
	r.Helper()
	a, err := c.wait()
	if err != nil {
		r.Fatalf("no answer: %v; the terminal:\n%s", err, r.out)
	}
	g := got{errorType: a.errorType, cause: a.xrayCause, contentType: a.contentType}
	g.body, err = io.ReadAll(a.body)
	if err != nil {
		r.Fatalf("no end of the answer after %d bytes: %v; the terminal:\n%s", len(g.body), err, r.out)
	}
	if a.size < 0 {
		g.trailers = map[string]string{}
		for name := range a.trailer {
			g.trailers[name] = a.trailer.Get(name)
		}
	}
	return g
}

// invoke is one invocation from beginning to end.
func (r *localRig) invoke(do any, c eventContext) got {
	r.Helper()
	call := r.send(do, c)
	defer call.finish()
	return r.await(call)
}

// want compares what came back.
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
	link   string
	sealer *sealer // of what it says and hears; nil: that is not sealed
	parts  chan *part
}

// newEar subscribes for a link of that name.
func (r *localRig) newEar(link string) *ear {
	r.Helper()
	return r.newSealedEar(link, "")
}

// newSealedEar does it with a key, and wants to hear nothing else than what is sealed with that.
func (r *localRig) newSealedEar(link, key string) *ear {
	r.Helper()
	e := &ear{localRig: r, link: link, sealer: newSealer(keyOf(key)), parts: make(chan *part, 10_000)}
	session, err := r.client().connect(r.ctx)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(session.conn.close)
	err = session.subscribe(r.ctx, ackTimeout, session.channel(link+"/*"), func(event string) {
		p, err := e.sealer.parse(event)
		if err == nil && p != nil {
			e.parts <- p
		} else if key != "" {
			r.Errorf("heard %q: %v", event, err)
		}
	})
	if err != nil {
		r.Fatal(err)
	}
	return e
}

// callID is the request ID of the link's request n.
func (e *ear) callID(n int) string { return fmt.Sprintf("%s/%d", e.link, n) }

// ask sends a request on behalf of the link.
func (e *ear) ask(n int, do any, c eventContext) {
	e.api.publish("/live-lambda/requests", e.request(n, do, c))
}

// request is a request on behalf of the link.
func (e *ear) request(n int, do any, c eventContext) string {
	request := fmt.Sprintf(`{"request_id":"%s","event_payload":%s,"context":%s,"live_lambda":1}`,
		e.callID(n), taskEvent(do), mustJSON(c))
	if e.sealer != nil {
		request = string(e.sealer.seal(e.callID(n), []byte(request), nil))
	}
	return request
}

// done says that request n is over.
func (e *ear) done(n int, outcome string) {
	p := part{Type: "done", RequestID: e.callID(n), Outcome: outcome, sealer: e.sealer}
	e.api.publish("/live-lambda/requests", string(p.event()))
}

// begin sends a request, whose event is n, and takes it as the runtime does. It returns the invocation's ID.
func (e *ear) begin(n int, c eventContext) (id string) {
	e.Helper()
	e.ask(n, []byte(strconv.Itoa(n)), c)
	e.hear(n, "accepted")
	id, event := e.next()
	if string(event) != strconv.Itoa(n) {
		e.Fatalf("the runtime got the event %q, want %d", event, n)
	}
	return id
}

// answer begins a request, answers it as the runtime does, and hears the answer.
func (e *ear) answer(n int, c eventContext, text string) *part {
	e.Helper()
	id := e.begin(n, c)
	e.respond(id, strings.NewReader(text), 202)
	return e.hear(n, "response")
}

// hear waits for the next part, which must be of that type and belong to request n.
func (e *ear) hear(n int, want string) *part {
	e.Helper()
	select {
	case p := <-e.parts:
		if p.Type != want || p.RequestID != e.callID(n) {
			e.Fatalf("heard %q for %q, want %q for %q", p.Type, p.RequestID, want, e.callID(n))
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
			if p.Type == want && p.RequestID == e.callID(n) {
				return
			}
		case <-e.ctx.Done():
			e.Fatalf("did not hear %q; the terminal:\n%s", want, e.out)
		}
	}
}

// clock starts a clock, and returns a check of when a part has been heard.
func (r *localRig) clock() func(want string, p *part) {
	start := time.Now()
	return func(want string, p *part) {
		r.Helper()
		if got := time.Since(start); got.String() != want {
			r.Errorf("%s at %s, want %s", p.Type, got, want)
		}
	}
}

// connection is the number of the local end's connection in the emulator.
func (r *localRig) connection() int {
	r.Helper()
	conns, err := r.api.subscribers(r.ctx, "/live-lambda/requests", 1)
	if err != nil {
		r.Fatal(err)
	}
	return conns[len(conns)-1]
}

// wantRan wants that, in a bubble, so many invocations have come to the runtime or wait for it.
func (r *localRig) wantRan(invocations int) {
	r.Helper()
	synctest.Wait()
	if n := strings.Count(r.out.String(), " B in"); n != invocations {
		r.Errorf("%d invocations ran, want %d:\n%s", n, invocations, r.out)
	}
}

// wantNothingHeld wants that no request and no event is held any more.
func (r *localRig) wantNothingHeld() {
	r.Helper()
	if r.local.held != 0 || len(r.local.live) != 0 {
		r.Errorf("%d bytes of %d requests are still held", r.local.held, len(r.local.live))
	}
}

// randomBytes cannot be compressed.
func randomBytes(size int) []byte {
	random := make([]byte, size)
	rand.Read(random)
	return random
}

// randomText is made of the characters of an alphabet; they are 256, or a half or quarter of that, and so on.
func randomText(size int, alphabet string) []byte {
	text := randomBytes(size)
	for i, b := range text {
		text[i] = alphabet[int(b)%len(alphabet)]
	}
	return text
}

// gate is a FIFO that one handler waits at.
type gate struct {
	*localRig
	file string
}

// newGate makes a FIFO of that name.
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

// attached is a Runtime API without a process, as a debugger's runtime meets it.
type attached struct {
	*localRig
	addr string
}

// newAttached starts one, on a port of its own.
func newAttached(t *testing.T) *attached {
	t.Helper()
	r := newTestLocal(t, localOptions{code: code{external: true}})
	addr, err := r.local.serveAttached()
	if err != nil {
		t.Fatal(err)
	}
	return &attached{localRig: r, addr: addr}
}

// want makes a call and wants that status, and that text in the answer.
func (a *attached) want(
	method, path, body string, status int, text string, headers ...string) http.Header {
	a.Helper()
	got, answer, header := a.raw(a.addr, method, "/2018-06-01/runtime/"+path, body, headers...)
	if got != status || !strings.Contains(answer, text) {
		a.Errorf("%s %s: %d %s, want %d %s", method, path, got, answer, status, text)
	}
	return header
}

// run gives it an invocation and takes that as the runtime does. It returns the path that answers are below.
func (a *attached) run(event string, c eventContext) (q *request, to string) {
	a.Helper()
	q = a.direct([]byte(event), c)
	a.want("GET", "invocation/next", "", 200, event)
	return q, "invocation/" + c.RequestID + "/"
}

// direct gives an invocation to the local end without AppSync.
func (r *localRig) direct(do any, c eventContext) *request {
	r.Helper()
	q, err := newRequestFrom(taskEvent(do), c)
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
			return rep, r.text(rep)
		}
		select {
		case <-q.news:
		case <-r.ctx.Done():
			r.Fatalf("no reply; the terminal:\n%s", r.out)
		}
	}
}

// text is a reply's body.
func (r *localRig) text(rep *reply) string {
	r.Helper()
	body, err := rep.body()
	if err != nil {
		r.Fatal(err)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		r.Fatal(err)
	}
	return string(text)
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
	return r.commandIn(nil, stdin, args...)
}

// commandIn starts the program with further variables in its environment.
func (r *localRig) commandIn(env []string, stdin string, args ...string) *started {
	r.Helper()
	c := &started{
		localRig: r,
		stdout:   &screen{new: make(chan struct{}, 1)},
		stderr:   &screen{new: make(chan struct{}, 1)},
	}
	c.cmd = exec.CommandContext(r.ctx, os.Args[0], args...)
	c.cmd.Env = append(
		os.Environ(), "TEST_MAIN=1", "NO_COLOR=1", "AWS_ACCESS_KEY_ID=AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY=secret", "AWS_SESSION_TOKEN=")
	c.cmd.Env = append(c.cmd.Env, env...)
	c.cmd.Stdin = strings.NewReader(stdin)
	c.cmd.Stdout = c.stdout
	c.cmd.Stderr = c.stderr
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

// startLocal starts `live-lambda local` against the rig's Event API and waits until it is connected.
func (r *localRig) startLocal(args ...string) *started {
	r.Helper()
	host := "http://" + r.client().http.Host
	c := r.command("", append([]string{"local", "--host", host, "--region", "eu-west-1"}, args...)...)
	c.stdout.wait(r, "waiting for invocations")
	return c
}

// newRemoteRig has an Event API and no local end of its own.
func newRemoteRig(t *testing.T) *localRig {
	return newLocalRig(t, localOptions{functions: []string{"none"}})
}
