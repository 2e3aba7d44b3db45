//go:build !layer

package main

// local_node_rig_test.go runs handlers with the Node.js client, local_node.mjs, against a Runtime API that
// keeps what comes back. With RIC=DIRECTORY it runs them with AWS's own client instead, aws-lambda-ric as npm
// installs it there, so that the tables can be compared with the truth:
//
//	npm install --prefix DIRECTORY aws-lambda-ric@3.3.0
//	RIC=DIRECTORY go test -run Node .
//
// Node.js is the one on PATH.

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// nodeAnswer is what becomes of one invocation, or of loading a handler.
type nodeAnswer struct {
	body        string // of the response
	contentType string // "": JSON
	errorType   string // "": it is a response
	message     string // of the error; "prefix…" stands for whatever begins so
	trace       string // the trace's beginning, "any" or "none"; "": error type and message
	trailers    bool   // the error comes in the trailers of body
	init        bool   // the error is that of the handler's loading
	cutOff      bool   // the response does not come to its end
	printed     string // on standard output
	complained  string // a part of what stands on standard error
	exit        string // how the process ends then: "exit status 1"; "": it goes on
	silent      bool   // there is no answer
}

// nodeCase is one invocation.
type nodeCase struct {
	name    string
	source  string            // of the handler, a function
	event   string            // "": {}
	headers map[string]string // that come with the event, beside the usual ones
	want    nodeAnswer

	aws *nodeAnswer // of AWS's client, if it differs
	why string      // it differs
}

// nodeGot is what came back.
type nodeGot struct {
	path        string // what is posted to: response, error, init
	header      http.Header
	body        []byte
	trailer     http.Header
	err         error // of reading the body
	out, errors string
}

// nodeEvent is an invocation that waits for a runtime.
type nodeEvent struct {
	id      string
	event   string
	headers map[string]string
}

// nodeRuntime is a process and its Runtime API.
type nodeRuntime struct {
	owner  testing.TB // that it lives for
	t      testing.TB // that runs, maybe a part of owner
	server *httptest.Server
	events chan nodeEvent
	posted chan nodeGot
	asked  chan struct{} // a call of next has come; has room for one
	drop   chan struct{} // closed when calls of next are to be dropped

	command *exec.Cmd
	exited  chan struct{} // closed when status is known
	status  string

	closed chan struct{} // a connection has been closed; has room for one
	mu     sync.Mutex    // guards the following, out and errors against run of the next process
	open   int           // connections
	out    *nodePipe
	errors *nodePipe
}

// awsClient returns the directory in which AWS's own client is to be tested, or "".
func awsClient() string { return os.Getenv("RIC") }

// awsVersion returns the first digit of the client's version: 3, or 4 for Node.js 24 and later.
func awsVersion() string {
	if awsClient() == "" {
		return ""
	}
	var description struct{ Version string }
	data, _ := os.ReadFile(filepath.Join(awsClient(), "node_modules/aws-lambda-ric/package.json"))
	json.Unmarshal(data, &description)
	return description.Version[:1]
}

// needAWSVersion skips a test if AWS's own client is to be tested and that is not the one that the test tells
// of.
func needAWSVersion(t testing.TB, version string) {
	if awsClient() != "" && awsVersion() != version {
		t.Skipf("this is about version %s of AWS's client", version)
	}
}

// withoutCallbacks is a variable for functions of a runtime that has no callbacks.
const withoutCallbacks = "AWS_EXECUTION_ENV=AWS_Lambda_nodejs24.x"

// nodeVersion returns the major and the minor version of Node.js.
var nodeVersion = sync.OnceValues(func() (major, minor int) {
	out, _ := exec.Command("node", "--version").Output()
	fmt.Sscanf(string(out), "v%d.%d", &major, &minor)
	return major, minor
})

// newNodeRuntime starts a Runtime API. start starts the process.
func newNodeRuntime(t testing.TB) *nodeRuntime {
	needs(t, "node")
	n := &nodeRuntime{
		owner:  t,
		t:      t,
		events: make(chan nodeEvent, 1),
		posted: make(chan nodeGot, 10),
		asked:  make(chan struct{}, 1),
		drop:   make(chan struct{}),
		closed: make(chan struct{}, 1),
	}
	n.server = httptest.NewUnstartedServer(http.HandlerFunc(n.serve))
	n.server.Config.ConnState = n.connected
	n.server.Start()
	t.Cleanup(func() {
		n.stop()
		n.server.CloseClientConnections()
		n.server.Close()
	})
	return n
}

// start runs a handler of a project.
func (n *nodeRuntime) start(root, handler string, env ...string) {
	n.t.Helper()
	arguments := []string{clientFile(n.owner, nodeLanguage)}
	if awsClient() != "" {
		arguments = awsArguments(handler)
	}
	n.run(root, handler, arguments, env...)
}

// awsArguments are what Node.js runs AWS's own client with.
func awsArguments(handler string) []string {
	if awsVersion() == "3" {
		return []string{filepath.Join(awsClient(), "node_modules/aws-lambda-ric/bin/index.mjs"), handler}
	}
	return []string{filepath.Join(awsClient(), "node_modules/aws-lambda-ric/index.mjs")}
}

// run runs Node.js with arguments.
func (n *nodeRuntime) run(root, handler string, arguments []string, env ...string) {
	n.t.Helper()
	n.disconnected() // a call of next that an ended process has left would take the next event
	n.command = exec.Command("node", arguments...)
	n.command.Dir = root
	n.command.Env = functionEnv(root, n.server.Listener.Addr().String(), handler)
	n.command.Env = append(n.command.Env, "HOME="+root, "AWS_EXECUTION_ENV=AWS_Lambda_nodejs20.x")
	n.command.Env = append(n.command.Env, env...)
	n.mu.Lock()
	n.out = newNodePipe(n.owner)
	n.errors = newNodePipe(n.owner)
	n.mu.Unlock()
	n.command.Stdout = n.out.w
	n.command.Stderr = n.errors.w
	err := n.command.Start()
	if err != nil {
		n.t.Fatal(err)
	}
	n.out.w.Close()
	n.errors.w.Close()
	exited := make(chan struct{})
	n.exited = exited
	command := n.command
	go func() {
		command.Wait()
		n.status = command.ProcessState.String()
		close(exited)
	}()
}

// printed takes what the process has printed until now.
func (n *nodeRuntime) printed() (out, errors string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.out.read(n.owner), n.errors.read(n.owner)
}

// stop ends the process.
func (n *nodeRuntime) stop() {
	if n.command != nil {
		n.command.Process.Kill()
		<-n.exited
	}
}

// connected counts connections.
func (n *nodeRuntime) connected(_ net.Conn, state http.ConnState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch state {
	case http.StateNew:
		n.open++
	case http.StateClosed:
		n.open--
		notify(n.closed)
	}
}

// disconnected waits until there is no connection.
func (n *nodeRuntime) disconnected() {
	for {
		n.mu.Lock()
		open := n.open
		n.mu.Unlock()
		if open == 0 {
			return
		}
		<-n.closed
	}
}

// serve is the Runtime API.
func (n *nodeRuntime) serve(rw http.ResponseWriter, r *http.Request) {
	const base = "/2018-06-01/runtime/"
	switch {
	case r.URL.Path == base+"invocation/next":
		n.next(rw, r)
	case strings.HasPrefix(r.URL.Path, base):
		got := nodeGot{path: r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:], header: r.Header}
		if r.URL.Path == base+"init/error" {
			got.path = "init"
		}
		got.body, got.err = io.ReadAll(r.Body)
		got.trailer = r.Trailer
		got.out, got.errors = n.printed()
		n.posted <- got
		rw.WriteHeader(http.StatusAccepted)
		io.WriteString(rw, `{"status":"OK"}`)
	default:
		io.WriteString(rw, "pong") // for handlers that call something
	}
}

// next gives out an invocation when there is one.
func (n *nodeRuntime) next(rw http.ResponseWriter, r *http.Request) {
	notify(n.asked)
	var e nodeEvent
	select {
	case e = <-n.events:
	case <-n.drop:
		panic(http.ErrAbortHandler)
	case <-r.Context().Done():
		return
	}
	giveEvent(rw, e.id, []byte(e.event), e.headers)
}

// nodePipe is a pipe that a process prints to.
type nodePipe struct {
	r, w *os.File
}

func newNodePipe(t testing.TB) *nodePipe {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return &nodePipe{r: r, w: w}
}

// read takes what the process has printed until now. It does not wait for more.
func (p *nodePipe) read(t testing.TB) string {
	conn, err := p.r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for {
		var buf [64 << 10]byte
		size := 0
		conn.Read(func(fd uintptr) bool {
			size, _ = syscall.Read(int(fd), buf[:])
			return true
		})
		if size <= 0 {
			return text.String()
		}
		text.Write(buf[:size])
	}
}

// invoke runs one invocation and returns what has been posted. ok is false if the process has exited without.
func (n *nodeRuntime) invoke(e nodeEvent) (got nodeGot, ok bool) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	if e.event == "" {
		e.event = "{}"
	}
	select {
	case n.events <- e:
	default:
		n.t.Fatal("the event before has not been taken")
	}
	return n.await(ctx)
}

// await waits for what the process posts.
func (n *nodeRuntime) await(ctx context.Context) (got nodeGot, ok bool) {
	n.t.Helper()
	select {
	case got = <-n.posted:
		return got, true
	default:
	}
	select {
	case got = <-n.posted:
		return got, true
	case <-n.exited:
		n.disconnected() // by then what it has posted at last is here
		select {
		case got = <-n.posted:
			return got, true
		default:
		}
		got.out, got.errors = n.printed()
		return got, false
	case <-ctx.Done():
		n.t.Fatalf("no answer; standard error:\n%s", n.errors.read(n.t))
		return got, false
	}
}

// runNodeCases runs a table with one process, or with another one after each that ends it. module makes a
// module of the cases' sources; its handler picks the case by the number in the request ID.
func runNodeCases(
	t *testing.T, file string, module func(sources string) string, cases []nodeCase, env ...string) {
	version := "3"
	if slices.Contains(env, withoutCallbacks) {
		version = "4"
	}
	needAWSVersion(t, version)
	n := newNodeRuntime(t)
	var sources strings.Builder
	for _, c := range cases {
		fmt.Fprintf(&sources, "// %s\n(%s),\n", c.name, strings.TrimSpace(c.source))
	}
	root := directoryOf(t, map[string]string{file: module(sources.String())})
	running := false
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			want := c.want
			if awsClient() != "" && c.aws != nil {
				want = *c.aws
			}
			if awsClient() != "" && strings.HasPrefix(c.why, "skip") {
				t.Skip(c.why)
			}
			n.t = t
			if !running {
				n.start(root, "index.handler", env...)
			}
			running = false // a case that fails at once leaves a process that nobody knows
			defer func() {
				if !running {
					n.stop()
					n.forget()
				}
			}()
			got, ok := n.invoke(nodeEvent{id: fmt.Sprintf("case-%d", i), event: c.event, headers: c.headers})
			want.check(t, got, ok)
			if want.exit != "" && !t.Failed() {
				n.checkExit(want.exit)
			}
			running = want.exit == "" && !t.Failed()
		})
	}
	n.t = t
}

// checkExit waits for the process to end.
func (n *nodeRuntime) checkExit(want string) {
	n.t.Helper()
	select {
	case <-n.exited:
	case <-time.After(time.Minute):
		n.t.Error("it does not end")
		n.stop()
	}
	if n.status != want {
		n.t.Errorf("it ended with %q, want %q", n.status, want)
	}
}

// forget forgets what a process that has ended has not taken, and what it has posted at last.
func (n *nodeRuntime) forget() {
	for len(n.events) > 0 {
		<-n.events
	}
	for len(n.posted) > 0 {
		<-n.posted
	}
}

// check compares what came back.
func (want nodeAnswer) check(t testing.TB, got nodeGot, ok bool) {
	t.Helper()
	if t.Failed() {
		return
	}
	switch {
	case want.silent && ok:
		t.Errorf("an answer: %s %s", got.path, got.body)
	case want.silent:
	case !ok:
		t.Errorf("no answer; standard error:\n%s", got.errors)
	case want.cutOff != (got.err != nil):
		t.Errorf("reading the answer: %v", got.err)
	case want.errorType != "":
		want.checkError(t, got)
	default:
		want.checkResponse(t, got)
	}
	if awsClient() == "" && !strings.HasPrefix(got.out, want.printed) ||
		!strings.Contains(got.out, want.printed) {
		t.Errorf("printed %q, want %q", clip(got.out, 300), want.printed)
	}
	if awsClient() != "" {
		return // which writes to standard output, in a form of its own
	}
	quiet := want.errorType == "" && want.complained == ""
	if want.exit != "" && !want.silent {
		quiet = false // what ends the process after its answer may have been written already
	}
	if !strings.Contains(got.errors, want.complained) || quiet && got.errors != "" {
		t.Errorf("standard error is %q, want %q in it", clip(got.errors, 300), want.complained)
	}
}

func (want nodeAnswer) checkResponse(t testing.TB, got nodeGot) {
	t.Helper()
	contentType := got.header.Get("Content-Type")
	wantType := want.contentType
	if wantType == "" {
		wantType = "application/json"
	}
	if got.path != "response" || string(got.body) != want.body || contentType != wantType {
		t.Errorf("got %s %s %s, want %s %s", got.path, contentType, clip(string(got.body), 300), wantType,
			clip(want.body, 300))
	}
	if errorType := got.trailer.Get(typeHeader); errorType != "" {
		t.Errorf("trailers tell of %q", errorType)
	}
}

func (want nodeAnswer) checkError(t testing.TB, got nodeGot) {
	t.Helper()
	path := "error"
	headers := got.header
	body := got.body
	if want.init {
		path = "init"
	}
	if want.trailers {
		path = "response"
		headers = got.trailer
		body, _ = base64.StdEncoding.DecodeString(got.trailer.Get(bodyHeader))
		if string(got.body) != want.body {
			t.Errorf("the stream is %q, want %q", clip(string(got.body), 300), want.body)
		}
	}
	var description struct {
		ErrorType    string   `json:"errorType"`
		ErrorMessage string   `json:"errorMessage"`
		Trace        []string `json:"trace"`
	}
	json.Unmarshal(body, &description)
	if got.path != path || description.ErrorType != want.errorType ||
		!like(description.ErrorMessage, want.message) {
		t.Fatalf("got %s %s, want %s %s %q", got.path, clip(string(body), 500), path, want.errorType,
			want.message)
	}
	trace := want.trace
	if trace == "" {
		trace = description.ErrorType + ": " + description.ErrorMessage
	}
	all := strings.Join(description.Trace, "\n")
	good := strings.HasPrefix(all, trace)
	switch trace {
	case "any": // what an error's name is when the stack is made depends on Node.js
		good = all != ""
	case "none":
		good = all == ""
	}
	if !good {
		t.Errorf("the trace is %q, want %q", clip(all, 300), trace)
	}
	if awsClient() != "" && !want.init && !want.trailers {
		return // it does not tell the type in a header
	}
	if headers.Get(typeHeader) != clean(description.ErrorType) {
		t.Errorf("the header's error type is %q", headers.Get(typeHeader))
	}
}

// like compares a text with a pattern that may end in "…".
func like(text, pattern string) bool {
	prefix, found := strings.CutSuffix(pattern, "…")
	if found {
		return strings.HasPrefix(text, prefix)
	}
	return text == pattern
}
