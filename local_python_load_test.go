//go:build !layer

package main

// local_python_load_test.go holds how a Python handler is found and loaded, and how its process ends.

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const pythonEcho = "def handler(event, context):\n\treturn event\n"

func TestPythonHandlerIsFound(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		file    string
		handler string
		env     []string
	}{
		{name: "beside", file: "app.py", handler: "app.handler"},
		{name: "aws: slash", file: "test_handler_with_slash/app.py",
			handler: "test_handler_with_slash/app.handler"},
		{name: "dots", file: "a/b/app.py", handler: "a.b.app.handler"},
		{name: "no identifier", file: "my-functions/get-order.py", handler: "my-functions/get-order.handler"},
		{name: "package", file: "orders/__init__.py", handler: "orders.handler"},
		{name: "aws: name of a built-in module, slash", file: "names/sys.py", handler: "names/sys.handler"},
		{name: "aws: name of a built-in module, dot", file: "names/sys.py", handler: "names.sys.handler"},
		// Python has more modules than those that are loaded before the handler.
		{name: "name of another module of Python's", file: "calendar.py", handler: "calendar.handler"},
		{
			name:    "before PYTHONPATH",
			file:    "app.py",
			handler: "app.handler",
			env:     []string{"PYTHONPATH=other"},
		},
	} {
		p := pythonProcess{
			files:   map[string]string{tt.file: pythonEcho, "other/app.py": "handler = None\n"},
			handler: tt.handler,
			env:     tt.env,
			events:  []pythonEvent{{id: "1", body: []byte("7")}},
		}
		result := p.run(t)
		if got := string(result.answers["invocation/1/response"].body); got != "7" || result.status != "" {
			t.Errorf("%s: got %q and %q; printed %s", tt.name, got, result.status, result.printed)
		}
	}
}

// A process whose handler cannot be loaded says so to Lambda, prints the same with the trace, and exits.
func TestPythonHandlerThatCannotBeLoadedIsAnInitError(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		module    string
		handler   string // app.handler if empty
		errorType string
		message   string
		trace     []string // of the error, but for Python's own frames
		printed   string
	}{
		{
			name:      "aws: bad handler",
			handler:   "bad_handler",
			errorType: "Runtime.MalformedHandlerName",
			message:   "Bad handler 'bad_handler': not enough values to unpack (expected 2, got 1)",
			printed: "Runtime.MalformedHandlerName: Bad handler 'bad_handler': " +
				"not enough values to unpack (expected 2, got 1)\n",
		},
		{
			name:      "aws: import error",
			handler:   "no_module.handler",
			errorType: "Runtime.ImportModuleError",
			message:   "Unable to import module 'no_module': No module named 'no_module'",
			printed: "Runtime.ImportModuleError: Unable to import module 'no_module': " +
				"No module named 'no_module'\n" +
				"ModuleNotFoundError: No module named 'no_module'\n",
		},
		{
			name:      "the handler imports what is not there",
			module:    "import no_module\n",
			errorType: "Runtime.ImportModuleError",
			message:   "Unable to import module 'app': No module named 'no_module'",
			printed: "Runtime.ImportModuleError: Unable to import module 'app': " +
				"No module named 'no_module'\n" +
				"Traceback (most recent call last):\n" +
				"  File \"ROOT/app.py\", line 1, in <module>\n    import no_module\n" +
				"ModuleNotFoundError: No module named 'no_module'\n",
		},
		{
			name:      "aws: syntax error",
			module:    "def syntax_error()\n\tprint('syntax error, no colon after function')",
			errorType: "Runtime.UserCodeSyntaxError",
			message:   "Syntax error in module 'app': " + pythonColon(t) + " (app.py, line 1)",
			trace:     []string{"  File \"ROOT/app.py\" Line 1\n    def syntax_error()\n"},
			printed: "Runtime.UserCodeSyntaxError: Syntax error in module 'app': " + pythonColon(t) +
				" (app.py, line 1)\n  File \"ROOT/app.py\", line 1\n    def syntax_error()\n" +
				"SyntaxError: " + pythonColon(t) + "\n",
		},
		{
			name:      "aws: missing handler",
			handler:   "app.my_handler",
			module:    "def wrong_handler_name():\n\tprint('hello')",
			errorType: "Runtime.HandlerNotFound",
			message:   "Handler 'my_handler' missing on module 'app'",
			printed:   "Runtime.HandlerNotFound: Handler 'my_handler' missing on module 'app'\n",
		},
		{
			name:      "aws: built-in module",
			handler:   "sys.hello",
			errorType: "Runtime.BuiltInModuleConflict",
			message:   "Cannot use built-in module sys as a handler module",
			printed:   "Runtime.BuiltInModuleConflict: Cannot use built-in module sys as a handler module\n",
		},
		{
			name:      "the module raises",
			module:    "def load():\n\treturn {}['x']\n\nload()\n",
			errorType: "KeyError",
			message:   "'x'",
			trace: []string{
				"  File \"ROOT/app.py\", line 4, in <module>\n    load()\n",
				"  File \"ROOT/app.py\", line 2, in load\n    return {}['x']\n",
			},
			printed: "KeyError: 'x'\nTraceback (most recent call last):\n" +
				"  File \"ROOT/app.py\", line 4, in <module>\n    load()\n" +
				"  File \"ROOT/app.py\", line 2, in load\n    return {}['x']\n" +
				"KeyError: 'x'\n",
		},
		// Lambda's client has loaded Python's own before.
		{
			name:      "name of a module that Lambda's client has loaded",
			handler:   "numbers.handler",
			errorType: "Runtime.HandlerNotFound",
			message:   "Handler 'handler' missing on module 'numbers'",
			printed:   "Runtime.HandlerNotFound: Handler 'handler' missing on module 'numbers'\n",
		},
	} {
		p := pythonProcess{
			files:   map[string]string{"app.py": tt.module, "numbers.py": pythonEcho},
			handler: tt.handler,
		}
		result := p.run(t)
		answer := result.answers["init/error"]
		var got pythonError
		if err := json.Unmarshal([]byte(result.plain(string(answer.body))), &got); err != nil {
			t.Errorf("%s: %v: %s", tt.name, err, answer.body)
			continue
		}
		if got.ErrorType != tt.errorType || got.ErrorMessage != tt.message || got.RequestID != "" {
			t.Errorf("%s: got %s", tt.name, answer.body)
		}
		// As on Lambda, the first frames are those of Python's import.
		first := len(got.StackTrace) - len(tt.trace)
		if first < 0 || strings.Join(got.StackTrace[first:], "") != strings.Join(tt.trace, "") {
			t.Errorf("%s: the trace is %q, want %q", tt.name, got.StackTrace, tt.trace)
		}
		if errorType := answer.header.Get(typeHeader); errorType != tt.errorType {
			t.Errorf("%s: the header has type %q", tt.name, errorType)
		}
		if result.status != "exit status 1" {
			t.Errorf("%s: the process ended with %q", tt.name, result.status)
		}
		if printed := result.plain(result.printed); printed != tt.printed && !otherPythonClient() {
			t.Errorf("%s: printed %q, want %q", tt.name, printed, tt.printed)
		}
	}
}

// pythonColon is what Python says of a colon that is not there.
func pythonColon(t *testing.T) string {
	if needPython(t).minor < 10 {
		return "invalid syntax"
	}
	return "expected ':'"
}

// It needs no Runtime API, and does not wait for a thread that the module has left.
func TestPythonCheckLoadsTheHandler(t *testing.T) {
	t.Parallel()
	if otherPythonClient() {
		t.Skip("it has no --check")
	}
	thread := "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
	for _, tt := range []struct {
		name    string
		module  string
		status  string
		printed string
	}{
		{name: "it is there", module: "import sys\nprint(len(sys.argv))\n" + pythonEcho, printed: "1\n"},
		{name: "a thread is left", module: thread + pythonEcho},
		{
			name:    "it is not there",
			module:  thread,
			status:  "exit status 1",
			printed: "Runtime.HandlerNotFound: Handler 'handler' missing on module 'app'\n",
		},
		{
			name:   "the module raises",
			module: "raise ValueError('one\\ntwo')\n",
			status: "exit status 1",
			printed: "ValueError: one two\nTraceback (most recent call last):\n" +
				"  File \"ROOT/app.py\", line 1, in <module>\n    raise ValueError('one\\ntwo')\n" +
				"ValueError: one\ntwo\n",
		},
		{
			name:   "the module exits",
			module: "import sys\nsys.exit(3)\n",
			status: "exit status 1",
			printed: "Runtime.ExitError: Runtime exited with error: exit status 3\n" +
				"Traceback (most recent call last):\n" +
				"  File \"ROOT/app.py\", line 2, in <module>\n    sys.exit(3)\nSystemExit: 3\n",
		},
		{
			name:   "the module exits without an error",
			module: "raise SystemExit\n",
			status: "exit status 1",
			printed: "Runtime.ExitError: Runtime exited without providing a reason\n" +
				"Traceback (most recent call last):\n" +
				"  File \"ROOT/app.py\", line 1, in <module>\n    raise SystemExit\nSystemExit\n",
		},
	} {
		p := pythonProcess{
			files:  map[string]string{"app.py": tt.module},
			client: []string{pythonClientFile(t), "--check"},
			env:    []string{"AWS_LAMBDA_RUNTIME_API="},
		}
		result := p.run(t)
		if result.status != tt.status || result.plain(result.printed) != tt.printed {
			t.Errorf("%s: the process ended with %q, and has printed %q, want %q and %q", tt.name,
				result.status, result.plain(result.printed), tt.status, tt.printed)
		}
	}
}

// What is no Exception ends the process, and nobody answers for it: Lambda says that it has exited.
func TestPythonProcessEndsAsOnLambda(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		handler string
		status  string
		prints  string
	}{
		{name: "exit", handler: "import sys\n\tsys.exit()", status: ""},
		{name: "exit with a status", handler: "import sys\n\tsys.exit(3)", status: "exit status 3"},
		{
			name:    "exit with a text",
			handler: "import sys\n\tsys.exit('bad')",
			status:  "exit status 1",
			prints:  "bad\n",
		},
		{name: "exit at once", handler: "import os\n\tos._exit(4)", status: "exit status 4"},
		{
			name:    "interrupt",
			handler: "raise KeyboardInterrupt",
			status:  "signal: interrupt",
			prints:  "KeyboardInterrupt\n",
		},
		{
			name:    "no Exception",
			handler: "raise BaseException('base')",
			status:  "exit status 1",
			prints:  "BaseException: base\n",
		},
		{
			name:    "cancelled",
			handler: "import asyncio\n\traise asyncio.CancelledError()",
			status:  "exit status 1",
			prints:  "CancelledError",
		},
		{
			name:    "half of a surrogate pair has no UTF-8",
			handler: `return "\ud800"`,
			status:  "exit status 1",
			prints:  "surrogates not allowed\n",
		},
	} {
		p := pythonProcess{
			files:  map[string]string{"app.py": "def handler(event, context):\n\t" + tt.handler + "\n"},
			env:    []string{python312},
			events: []pythonEvent{{id: "1", body: []byte("null")}},
		}
		result := p.run(t)
		if result.status != tt.status || len(result.answers) != 0 ||
			!strings.Contains(result.printed, tt.prints) {
			t.Errorf("%s: the process ended with %q after %d answers, and has printed %q, want %q, 0 and %q",
				tt.name, result.status, len(result.answers), result.printed, tt.status, tt.prints)
		}
	}
}

func TestPythonModuleThatExitsEndsTheProcess(t *testing.T) {
	p := pythonProcess{files: map[string]string{"app.py": "import sys\nsys.exit(3)\n"}}
	result := p.run(t)
	if result.status != "exit status 3" || len(result.answers) != 0 || result.printed != "" {
		t.Errorf("got %q, %d answers, and %q", result.status, len(result.answers), result.printed)
	}
}

// When live-lambda closes the connection, the process ends with a thread that is left, and what the handler
// has printed is not lost.
func TestPythonProcessThatIsNotNeededEndsQuietly(t *testing.T) {
	p := pythonProcess{
		files: map[string]string{"app.py": "import sys, threading\n" +
			"def handler(event, context):\n\tprint('a', end='')\n\tsys.stderr.write('b')\n" +
			"\tthreading.Thread(target=threading.Event().wait).start()\n"},
		events: []pythonEvent{{id: "1", body: []byte("null")}},
	}
	result := p.run(t)
	if result.status != "" || result.printed != "ab" {
		t.Errorf("got %q, and %q", result.status, result.printed)
	}
}

// SIGTERM ends the process while it waits for an event, unless the handler has other plans.
func TestPythonProcessDiesOfSIGTERM(t *testing.T) {
	for _, tt := range []struct {
		name   string
		module string
		status string
	}{
		{name: "the default", status: "signal: terminated"},
		{
			name: "the handler's own",
			module: "import os, signal\n" +
				"signal.signal(signal.SIGTERM, lambda number, frame: os._exit(9))\n",
			status: "exit status 9",
		},
	} {
		dir := directoryOf(t, map[string]string{"app.py": tt.module + pythonEcho})
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), needPython(t).path, pythonClientFile(t))
		cmd.Env = pythonEnv(dir, ln.Addr().String(), "")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			t.Fatal(err)
		}
		cmd.Process.Signal(syscall.SIGTERM)
		// As live-lambda does. A signal that comes right before Python waits is only noticed when that ends.
		conn.Close()
		if err := cmd.Wait(); err == nil || err.Error() != tt.status {
			t.Errorf("%s: the process ended with %v, want %s", tt.name, err, tt.status)
		}
		ln.Close()
	}
}

// The second process has what Python compiled for the first one, which starts faster, and differs in nothing.
func TestPythonKeepsTheCompiledClient(t *testing.T) {
	if otherPythonClient() {
		t.Skip("it is this program's client that is kept")
	}
	p := pythonProcess{
		files: map[string]string{
			"app.py": "import sys\ndef handler(event, context):\n\treturn 1 / event, sys.path[0]\n"},
		client: []string{pythonClientFile(t)},
		env:    []string{"PYTHONDONTWRITEBYTECODE="},
		events: []pythonEvent{{id: "1", body: []byte("0")}, {id: "2", body: []byte("1")}},
	}
	for range 2 {
		result := p.run(t)
		failure := result.plain(string(result.answers["invocation/1/error"].body))
		if !strings.Contains(failure, `"stackTrace": ["  File \"ROOT/app.py\", line 3, in handler\n`) {
			t.Errorf("got %s", failure)
		}
		response := result.plain(string(result.answers["invocation/2/response"].body))
		if response != `[1.0, "ROOT"]` {
			t.Errorf("got %s", response)
		}
		cache := filepath.Join(filepath.Dir(p.client[0]), "__pycache__")
		compiled, _ := filepath.Glob(filepath.Join(cache, "local_python.*.pyc"))
		if len(compiled) != 1 {
			t.Errorf("Python has kept %q", compiled)
		}
	}
}

// The handler's children begin with the handler's own module, and not with the client.
func TestPythonChildrenDoNotRunTheClient(t *testing.T) {
	t.Parallel()
	p := pythonProcess{
		files: map[string]string{"app.py": `
import multiprocessing
import sys

def double(n):
	return 2 * n, "local_python" in sys.modules

def handler(event, context):
	main = [name for name in vars(sys.modules["__main__"]) if not name.startswith("__")]
	with multiprocessing.get_context("spawn").Pool(1) as pool:
		return main, pool.map(double, [event])
`},
		events: []pythonEvent{{id: "1", body: []byte("7")}},
	}
	result := p.run(t)
	if got := string(result.answers["invocation/1/response"].body); got != "[[], [[14, false]]]" &&
		!otherPythonClient() {
		t.Errorf("got %s; printed %s", got, result.printed)
	}
}

// sys.path has the function's directory, and neither the client's nor the current one.
func TestPythonPathIsTheHandlers(t *testing.T) {
	client := pythonClientFile(t)
	p := pythonProcess{
		files: map[string]string{
			"app.py": "import sys\ndef handler(event, context):\n\treturn sys.path\n"},
		client: []string{client},
		events: []pythonEvent{{id: "1", body: []byte("null")}},
	}
	result := p.run(t)
	var path []string
	json.Unmarshal(result.answers["invocation/1/response"].body, &path)
	if len(path) == 0 || path[0] != result.dir {
		t.Fatalf("the path is %q, want %s first", path, result.dir)
	}
	for _, dir := range path[1:] {
		if (dir == "" || dir == filepath.Dir(client)) && !otherPythonClient() {
			t.Errorf("the path has %q", dir)
		}
	}
}

// The developer's end takes an error for one, and lets a process live on whose response was too large.
func TestPythonProcessServesInvocations(t *testing.T) {
	t.Parallel()
	if otherPythonClient() {
		t.Skip("AWS's client dies of a response that is refused, and tells no type in a header")
	}
	dir := directoryOf(t, map[string]string{"app.py": `
import os
def handler(event, context):
	if event == "large":
		return "x" * (7 << 20)
	if event == "raise":
		raise ValueError("bad")
	return [event, os.getpid(), context.function_name]
`})
	command := []string{
		"env", "LAMBDA_TASK_ROOT=" + dir, "_HANDLER=app.handler", needPython(t).path, pythonClientFile(t)}
	r := newTestLocal(t, localOptions{code: code{command: command}, maxProcesses: 1})
	_, first := r.reply(r.direct("one", r.context()))
	rep, body := r.reply(r.direct("raise", r.context()))
	if rep.errorType != "ValueError" || !strings.Contains(body, `"errorMessage": "bad"`) {
		t.Errorf("got %s %s", rep.errorType, body)
	}
	r.out.wait(r, "ValueError: bad")
	rep, _ = r.reply(r.direct("large", r.context()))
	if rep.errorType != "Function.ResponseSizeTooLarge" {
		t.Errorf("got %s", rep.errorType)
	}
	_, last := r.reply(r.direct("one", r.context()))
	if last != first || !strings.Contains(first, `"orders"]`) {
		t.Errorf("got %s first, and %s last", first, last)
	}
}
