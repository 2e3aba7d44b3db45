//go:build !layer

package main

// local_python_rig_test.go runs local_python.py against a small Runtime API. One process answers the events
// of many cases, because a start takes more time than they do. Each case has a module of its own, which the
// event's request ID names.
//
// TEST_PYTHON names another interpreter than python3. TEST_PYTHON_CLIENT names another client to run: with
// AWS's own, the cases say whether it answers as this table claims.

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// pythonCase is one event, and what comes of it.
type pythonCase struct {
	name    string // also the request ID and the name of its module
	module  string // Python, above the handler
	handler string // the lines of the function: handler(event, context)
	event   string // null if empty
	headers map[string]string
	differs string // why AWS's own client does something else; empty if it does not

	// The response. Its content type is application/json if that is empty.
	body        string
	contentType string

	// The error.
	errorType string
	message   string
	trace     []string // what stackTrace has of the case's module; not compared if it is nil

	// What standard output and standard error have got. For an error, only its last line is compared if both
	// are empty.
	printed string
	prints  string // a part of it
}

// pythonProcess is a process of the client, and what it gets.
type pythonProcess struct {
	files   map[string]string // of the function's directory
	handler string            // app.handler if empty
	env     []string          // beside the usual
	client  []string          // its arguments; else pythonClientFile
	site    bool              // packages that are installed can be imported; it takes longer to start
	events  []pythonEvent
}

type pythonEvent struct {
	id      string
	body    []byte
	headers map[string]string // beside the usual; an empty value removes one
}

// pythonAnswer is what the client has posted.
type pythonAnswer struct {
	header  http.Header
	body    []byte
	printed string // since the event, or the start
}

// pythonResult is what came of a process.
type pythonResult struct {
	dir     string
	answers map[string]pythonAnswer // by path below /2018-06-01/runtime/
	status  string                  // as exec.Cmd.Wait says; empty if all went well
	start   string                  // what was written before the first event
	printed string                  // all of it
}

// pythonAPI is a Runtime API. When the events are at their end it closes the connection, as live-lambda does.
type pythonAPI struct {
	output string // the file that the process writes to

	mu      sync.Mutex // guards the following
	events  []pythonEvent
	answers map[string]pythonAnswer
	last    string // the path of the last answer
	start   string // what was written before the first event
	seen    int    // bytes of output that have been taken
	problem string // of the rig; empty if there is none
}

// python is an interpreter.
type python struct {
	path  string // the program itself: python3 may be a script of pyenv, which takes longer to start
	minor int    // 12 of Python 3.12
}

var findPython = sync.OnceValues(func() (python, error) {
	name := cmp.Or(os.Getenv("TEST_PYTHON"), "python3")
	out, err := exec.Command(name, "-c", "import sys; print(sys.version_info[1], sys.executable)").Output()
	if err != nil {
		return python{}, fmt.Errorf("%s: %w", name, err)
	}
	minor, path, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	n, err := strconv.Atoi(minor)
	return python{path: path, minor: n}, err
})

// needPython returns the interpreter, and skips the test without one.
func needPython(t testing.TB) python {
	t.Helper()
	found, err := findPython()
	if err != nil {
		unavailable(t, "Python: "+err.Error())
	}
	return found
}

// pythonClientFile returns the program that Python runs: what ships, in a directory of its own, or the other
// client.
func pythonClientFile(t testing.TB) string {
	t.Helper()
	if otherPythonClient() {
		path, err := filepath.Abs(os.Getenv("TEST_PYTHON_CLIENT"))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	return clientFile(t, pythonLanguage)
}

// otherPythonClient reports whether the tests run another client than this program's.
func otherPythonClient() bool { return os.Getenv("TEST_PYTHON_CLIENT") != "" }

// run runs the process to its end.
func (p pythonProcess) run(t *testing.T) pythonResult {
	t.Helper()
	found := needPython(t)
	dir := directoryOf(t, p.files)
	output, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	api := &pythonAPI{output: output.Name(), events: p.events, answers: map[string]pythonAnswer{}}
	server := httptest.NewServer(api)
	defer server.Close()
	args := p.client
	if args == nil {
		args = []string{pythonClientFile(t)}
	}
	if !p.site {
		args = append([]string{"-S"}, args...)
	}
	cmd := exec.CommandContext(t.Context(), found.path, args...)
	cmd.Dir = dir
	cmd.Env = append(pythonEnv(dir, server.Listener.Addr().String(), p.handler), p.env...)
	// Both are one file, so that what has been written when an answer comes is known.
	cmd.Stdout = output
	cmd.Stderr = output
	result := pythonResult{dir: dir, answers: api.answers}
	if err := cmd.Run(); err != nil {
		result.status = err.Error()
	}
	server.Close() // waits until its calls have ended
	if api.problem != "" {
		t.Error(api.problem)
	}
	result.start = api.start
	written, err := os.ReadFile(output.Name())
	if err != nil {
		t.Fatal(err)
	}
	result.printed = string(written)
	return result
}

func pythonEnv(dir, api, handler string) []string {
	return append(functionEnv(dir, api, cmp.Or(handler, "app.handler")),
		"HOME="+os.Getenv("HOME"),
		"LC_ALL=C", // what is written is UTF-8 all the same
		"PYTHONDONTWRITEBYTECODE=1")
}

func (a *pythonAPI) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.problem = err.Error()
	}
	path := strings.TrimPrefix(r.URL.Path, "/2018-06-01/runtime/")
	if path == "invocation/next" && r.Method == http.MethodGet {
		a.next(rw)
		return
	}
	if r.Method != http.MethodPost || r.ContentLength != int64(len(body)) {
		a.problem = fmt.Sprintf("%s %s with %d bytes", r.Method, r.URL, r.ContentLength)
	}
	a.answers[path] = pythonAnswer{header: r.Header, body: body, printed: a.take()}
	a.last = path
	rw.WriteHeader(http.StatusAccepted)
	io.WriteString(rw, `{"status":"OK"}`)
}

// next hands out an event. What has been written since the answer before belongs to that. a.mu is held.
func (a *pythonAPI) next(rw http.ResponseWriter) {
	answer, ok := a.answers[a.last]
	if ok {
		answer.printed += a.take()
		a.answers[a.last] = answer
	} else {
		a.start += a.take()
	}
	if len(a.events) == 0 {
		panic(http.ErrAbortHandler) // closes the connection
	}
	e := a.events[0]
	a.events = a.events[1:]
	giveEvent(rw, e.id, e.body, e.headers)
}

// take returns what the process has written since it was last called. a.mu is held.
func (a *pythonAPI) take() string {
	written, err := os.ReadFile(a.output)
	if err != nil {
		a.problem = err.Error()
		return ""
	}
	text := string(written[a.seen:])
	a.seen = len(written)
	return text
}

// ---- cases that share a process

// pythonDispatcher runs the case that the request ID names.
const pythonDispatcher = `import importlib

def handler(event, context):
	return importlib.import_module(context.aws_request_id).handler(event, context)
`

// pythonDispatched is the dispatcher's frame in a trace.
const pythonDispatched = "  File \"ROOT/app.py\", line 4, in handler\n" +
	"    return importlib.import_module(context.aws_request_id).handler(event, context)\n"

// runPythonCases runs the cases in one process, each as a subtest.
func runPythonCases(t *testing.T, env []string, cases []pythonCase) {
	t.Helper()
	p := pythonProcess{files: map[string]string{"app.py": pythonDispatcher}, env: env}
	for _, tt := range cases {
		lines := strings.Split(strings.Trim(tt.handler, "\n"), "\n")
		p.files[tt.name+".py"] = tt.module + "def handler(event, context):\n\t" +
			strings.Join(lines, "\n\t") + "\n"
		e := pythonEvent{id: tt.name, body: []byte(cmp.Or(tt.event, "null")), headers: tt.headers}
		p.events = append(p.events, e)
	}
	result := p.run(t)
	if result.status != "" || len(result.answers) != len(cases) {
		t.Errorf("the process ended with %q after %d of %d answers; it has written\n%s", result.status,
			len(result.answers), len(cases), result.printed)
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			if otherPythonClient() && tt.differs != "" {
				t.Skip(tt.differs)
			}
			tt.check(t, result)
		})
	}
}

// check compares what came of the case.
func (tt pythonCase) check(t *testing.T, result pythonResult) {
	response, responded := result.answers["invocation/"+tt.name+"/response"]
	failure, failed := result.answers["invocation/"+tt.name+"/error"]
	switch {
	case responded && tt.errorType == "":
		if got := string(response.body); got != tt.body {
			t.Errorf("got %s, want %s", clip(got, 500), clip(tt.body, 500))
		}
		got := response.header.Get("Content-Type")
		if want := cmp.Or(tt.contentType, "application/json"); got != want {
			t.Errorf("its content type is %q, want %q", got, want)
		}
		tt.checkPrinted(t, result.plain(response.printed))
	case failed && tt.errorType != "":
		tt.checkError(t, result, failure)
		tt.checkPrinted(t, result.plain(failure.printed))
	case responded:
		t.Errorf("got the response %s, want the error %s", response.body, tt.errorType)
	case failed:
		t.Errorf("got the error %s, want the response %s", failure.body, tt.body)
	default:
		t.Error("got no answer")
	}
}

// pythonError is the JSON of an error.
type pythonError struct {
	ErrorMessage string
	ErrorType    string
	RequestID    string `json:"requestId"`
	StackTrace   []string
}

// pythonCause is what X-Ray gets of an error.
type pythonCause struct {
	WorkingDirectory string `json:"working_directory"`
	Exceptions       []struct {
		Message string
		Type    string
		Stack   []struct {
			Label string
			Path  string
			Line  int
		}
	}
	Paths []string
}

// checkError compares an error with the case: its JSON, its type in a header, and X-Ray's view of it.
func (tt pythonCase) checkError(t *testing.T, result pythonResult, got pythonAnswer) {
	var failure pythonError
	var cause pythonCause
	err := errors.Join(
		json.Unmarshal([]byte(result.plain(string(got.body))), &failure),
		json.Unmarshal([]byte(got.header.Get(causeHeader)), &cause))
	if err != nil {
		t.Fatalf("%v: %s, %s", err, got.body, got.header.Get(causeHeader))
	}
	if failure.ErrorType != tt.errorType || failure.ErrorMessage != tt.message ||
		failure.RequestID != tt.name {
		t.Errorf("got %s, want the type %q and the message %q", got.body, tt.errorType, tt.message)
	}
	wantCause := tt.errorType
	frames := failure.StackTrace
	if strings.HasPrefix(tt.errorType, "Runtime.") {
		wantCause = "LambdaValidationError"
		if frames == nil || len(frames) != 0 {
			t.Errorf("its trace is %q, want an empty list", frames)
		}
	} else if len(frames) == 0 || frames[0] != pythonDispatched {
		t.Errorf("its trace is %q, and does not begin with the dispatcher's frame", frames)
	} else if tt.trace != nil && !slices.Equal(frames[1:], tt.trace) {
		t.Errorf("its trace is %q, want %q", frames[1:], tt.trace)
	}
	x := cause.Exceptions
	if len(x) != 1 || result.plain(x[0].Message) != tt.message || x[0].Type != wantCause ||
		len(x[0].Stack) < len(frames) || cause.WorkingDirectory != result.dir || cause.Paths == nil {
		t.Errorf("X-Ray's cause is %s", got.header.Get(causeHeader))
	}
	if got.header.Get(typeHeader) != tt.errorType && !otherPythonClient() {
		t.Errorf("the header has type %q, want %q", got.header.Get(typeHeader), tt.errorType)
	}
}

// checkPrinted compares what the handler has printed. AWS's client has lines of its own for errors.
func (tt pythonCase) checkPrinted(t *testing.T, got string) {
	line, _, _ := strings.Cut(tt.message, "\n")
	switch {
	case otherPythonClient() && tt.errorType != "":
	case tt.prints != "":
		if !strings.Contains(got, tt.prints) {
			t.Errorf("printed %q, want %q in it", got, tt.prints)
		}
	case tt.errorType != "" && tt.printed == "":
		if !strings.Contains(got, strings.TrimSuffix(tt.errorType+": "+line, ": ")) {
			t.Errorf("printed %q, want the error in it", got)
		}
	case got != tt.printed:
		t.Errorf("printed %q, want %q", got, tt.printed)
	}
}

var (
	pythonTime   = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z`)
	pythonCarets = regexp.MustCompile(`(?m)^ +[\^~]+\n`) // under the source, from Python 3.11 on
)

// plain returns what was written without what differs from one run, or version of Python, to another.
func (r pythonResult) plain(text string) string {
	text = strings.ReplaceAll(text, r.dir, "ROOT")
	text = pythonTime.ReplaceAllString(text, "TIME")
	return pythonCarets.ReplaceAllString(text, "")
}
