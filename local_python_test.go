//go:build !layer

package main

// local_python_test.go holds what becomes of what a Python handler returns, raises, and is given. Cases of
// AWS's own tests are among them:
// https://github.com/aws/aws-lambda-python-runtime-interface-client/tree/4.0.1/tests

import (
	"bytes"
	"strings"
	"testing"
)

// Names of variables that decide how responses are written.
const (
	python311 = "AWS_EXECUTION_ENV=AWS_Lambda_python3.11"
	python312 = "AWS_EXECUTION_ENV=AWS_Lambda_python3.12"
)

func TestPythonResponsesAreLambdas(t *testing.T) {
	runPythonCases(t, []string{python312}, []pythonCase{
		{
			name:    "aws_happy_case",
			handler: `return {"input": event, "aws_request_id": context.aws_request_id}`,
			event:   `"event_body"`,
			body:    `{"input": "event_body", "aws_request_id": "aws_happy_case"}`,
		},
		{
			name:    "aws_application_json",
			handler: `return {"response": event["msg"]}`,
			event:   `{"msg":"foo"}`,
			body:    `{"response": "foo"}`,
		},
		{name: "nothing", handler: "pass", body: "null"},
		{name: "text", handler: `return "a\tb\x00\x7f\"\\/"`, body: `"a\tb\u0000` + "\x7f" + `\"\\/"`},
		{
			name:    "constants",
			handler: `return [True, False, None, (), [], {}, ""]`,
			body:    `[true, false, null, [], [], {}, ""]`,
		},
		{
			name:    "plain_numbers",
			handler: `return [0, -1, 2**70, 1.0, 1e16, 1e-7, 0.1 + 0.2, -0.0]`,
			body:    `[0, -1, 1180591620717411303424, 1.0, 1e+16, 1e-07, 0.30000000000000004, -0.0]`,
		},
		{
			name:    "no_numbers",
			handler: `return [float("nan"), float("inf"), -float("inf")]`,
			body:    `[NaN, Infinity, -Infinity]`,
		},
		{
			name:    "aws_decimal",
			module:  "from decimal import Decimal\n",
			handler: `return {"pi": Decimal("3.14159")}`,
			body:    `{"pi": 3.14159}`,
		},
		{
			name:    "aws_decimal_nan",
			module:  "from decimal import Decimal\n",
			handler: `return {"pi": Decimal("nan")}`,
			body:    `{"pi": NaN}`,
		},
		{
			name:    "aws_decimal_negative_nan",
			module:  "from decimal import Decimal\n",
			handler: `return {"pi": Decimal("-nan")}`,
			body:    `{"pi": NaN}`,
		},
		{
			name:   "decimals_keep_their_digits",
			module: "from decimal import Decimal\n",
			handler: `return [Decimal("1.10"), Decimal("1E+3"), Decimal("12345678901234567890.5"), ` +
				`Decimal("-Infinity")]`,
			body: `[1.10, 1E+3, 12345678901234567890.5, -Infinity]`,
		},
		{
			name:    "keys_that_are_no_strings",
			handler: `return {1: 1, 2.5: 2, False: 3, None: 4, b"five": 5, float("nan"): 6}`,
			body:    `{"1": 1, "2.5": 2, "false": 3, "null": 4, "five": 5, "NaN": 6}`,
		},
		{
			name:    "named_tuple_is_an_object",
			module:  "from collections import namedtuple\nPoint = namedtuple('Point', 'x y')\n",
			handler: `return [Point(1, [Point(2, 3)]), (4, 5)]`,
			body:    `[{"x": 1, "y": [{"x": 2, "y": 3}]}, [4, 5]]`,
		},
		{
			name:    "whatever_has_asdict_is_an_object",
			module:  "class Row:\n\tdef _asdict(self):\n\t\treturn {'a': 1}\n",
			handler: `return Row()`,
			body:    `{"a": 1}`,
		},
		{
			name:    "other_methods_asdict_are_not_called",
			module:  "class Row(dict):\n\tdef _asdict(self, how):\n\t\treturn {}\n",
			handler: `return Row(a=1)`,
			body:    `{"a": 1}`,
		},
		{
			name:    "bytes_within_are_text",
			handler: `return {"a": [b"x", "é".encode()]}`,
			body:    `{"a": ["x", "é"]}`,
		},
		{
			name: "subclasses_are_what_they_derive_from",
			module: "import collections, enum\n" +
				"class E(str, enum.Enum):\n\tA = 'a'\n" +
				"class N(enum.IntEnum):\n\tB = 2\n",
			handler: `return [E.A, N.B, {N.B: E.A}, collections.OrderedDict(a=1), collections.Counter("aa")]`,
			body:    `["a", 2, {"2": "a"}, {"a": 1}, {"a": 2}]`,
		},
		{
			name:    "one_object_twice_is_not_circular",
			handler: "a = [1]\nreturn [a, a, {\"a\": a}]",
			body:    `[[1], [1], {"a": [1]}]`,
		},
		{
			name:    "aws_unicode_is_not_escaped",
			handler: `return {"price": "£1.00"}`,
			body:    `{"price": "£1.00"}`,
		},
		{name: "unicode", handler: `return "\u2028😀"`, body: "\"\u2028😀\""},
		{
			name:        "aws_json_request_binary_response",
			handler:     `return b"\x89PNG\r\n\x1a\n\x00\x00\x00"`,
			event:       `{"msg":"ignored"}`,
			body:        "\x89PNG\r\n\x1a\n\x00\x00\x00",
			contentType: "application/unknown",
		},
		{
			name:        "aws_binary_request_binary_response",
			handler:     `return event`,
			event:       "\x89PNG\r\n\x1a\n\x00\x00\x00",
			headers:     map[string]string{"Content-Type": "image/png"},
			body:        "\x89PNG\r\n\x1a\n\x00\x00\x00",
			contentType: "application/unknown",
		},
		{
			name:        "event_without_a_type_is_bytes",
			handler:     `return event + b"!"`,
			event:       `{}`,
			headers:     map[string]string{"Content-Type": ""},
			body:        "{}!",
			contentType: "application/unknown",
		},
		{
			name:    "event_keeps_what_python_can_hold",
			handler: `return repr(event)`,
			event:   ` {"b":1e2,"a":[12345678901234567890,0.10,"\u00e9\ud83d\ude00é"],"b":-0} `,
			body:    `"{'b': 0, 'a': [12345678901234567890, 0.1, 'é😀é']}"`,
		},
	})
}

// Before Python 3.12 AWS's client escapes them.
func TestPythonResponsesAreEscapedAsTheVersionDoes(t *testing.T) {
	runPythonCases(t, []string{python311}, []pythonCase{
		{
			name:    "aws_unicode_is_escaped",
			handler: `return {"price": "£1.00"}`,
			body:    `{"price": "\u00a31.00"}`,
		},
		{name: "pairs", handler: `return "😀\x7f\ud800"`, body: `"\ud83d\ude00\u007f\ud800"`},
		{
			name:      "errors",
			handler:   `raise ValueError("é")`,
			errorType: "ValueError",
			message:   "é",
			printed: "Traceback (most recent call last):\n" + pythonDispatched +
				"  File \"ROOT/errors.py\", line 2, in handler\n    raise ValueError(\"é\")\n" +
				"ValueError: é\n",
		},
	})
}

func TestPythonResponsesThatAreNoJSONAreErrors(t *testing.T) {
	not := func(name, module, handler, message string) pythonCase {
		return pythonCase{
			name:      name,
			module:    module,
			handler:   handler,
			errorType: "Runtime.MarshalError",
			message:   "Unable to marshal response: " + message,
			printed:   "Runtime.MarshalError: Unable to marshal response: " + message + "\n",
		}
	}
	coroutine := not("coroutine", "import asyncio\nasync def run():\n\tpass\n",
		"return run()", "Object of type coroutine is not JSON serializable")
	coroutine.printed = ""
	coroutine.prints = "RuntimeWarning: coroutine 'run' was never awaited"
	runPythonCases(t, nil, []pythonCase{
		not("aws_invalid_response", "", `return type("obj", (object,), {"propertyName": "propertyValue"})`,
			"Object of type type is not JSON serializable"),
		not("a_set", "", `return {"a": {1}}`, "Object of type set is not JSON serializable"),
		not("a_date", "import datetime\n", `return [datetime.date(2026, 1, 2)]`,
			"Object of type date is not JSON serializable"),
		not("a_generator", "", `return (i for i in [1])`,
			"Object of type generator is not JSON serializable"),
		not("a_file", "import io\n", `return io.BytesIO(b"x")`,
			"Object of type BytesIO is not JSON serializable"),
		not("a_bytearray", "", `return bytearray(b"x")`, "Object of type bytearray is not JSON serializable"),
		not("a_complex_number", "", `return 1j`, "Object of type complex is not JSON serializable"),
		not("an_exception", "", `return ValueError("x")`,
			"Object of type ValueError is not JSON serializable"),
		not("a_tuple_as_key", "", `return {(1, 2): 3}`,
			"keys must be str, int, float, bool or None, not tuple"),
		not("a_decimal_as_key", "from decimal import Decimal\n", `return {Decimal(1): 3}`,
			"keys must be str, int, float, bool or None, not Decimal"),
		not("bytes_that_are_no_text", "", `return [b"\xff"]`,
			"'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
		not("asdict_that_returns_no_dict", "class Row:\n\tdef _asdict(self):\n\t\treturn []\n",
			`return [Row()]`,
			"_asdict() must return a dict, not list"),
		not("circular", "", "a = []\na.append({\"a\": a})\nreturn a", "Circular reference detected"),
		coroutine,
	})
}

func TestPythonEventsThatCannotBeReadAreErrors(t *testing.T) {
	runPythonCases(t, nil, []pythonCase{
		{
			name:      "aws_invalid_event_body",
			handler:   `return event`,
			event:     "not_valid_json",
			errorType: "Runtime.UnmarshalError",
			message:   "Unable to unmarshal input: Expecting value: line 1 column 1 (char 0)",
		},
		{
			name:      "aws_binary_with_application_json",
			handler:   `return event`,
			event:     "\x89PNG\r\n\x1a\n\x00\x00\x00",
			errorType: "Runtime.UnmarshalError",
			message: "Unable to unmarshal input: 'utf-8' codec can't decode byte 0x89 in position 0: " +
				"invalid start byte",
		},
		{
			name:      "aws_invalid_client_context",
			handler:   `return event`,
			headers:   map[string]string{"Lambda-Runtime-Client-Context": "invalid_client_context_not_json"},
			errorType: "Runtime.LambdaContextUnmarshalError",
			message:   "Unable to parse Client Context JSON: Expecting value: line 1 column 1 (char 0)",
		},
		{
			name:      "aws_invalid_cognito_identity",
			handler:   `return event`,
			headers:   map[string]string{"Lambda-Runtime-Cognito-Identity": "invalid_cognito_identity"},
			errorType: "Runtime.LambdaContextUnmarshalError",
			message:   "Unable to parse Cognito Identity JSON: Expecting value: line 1 column 1 (char 0)",
		},
	})
}

// pythonMyError is a class that does not call the one that it derives from.
const pythonMyError = `class MyError(Exception):
	def __init__(self, message):
		self.message = message
`

func TestPythonErrorsAreLambdas(t *testing.T) {
	runPythonCases(t, []string{python312}, []pythonCase{
		{
			name:      "aws_custom_exception",
			module:    pythonMyError,
			handler:   `raise MyError("bad")`,
			errorType: "MyError",
			message:   "bad",
			trace: []string{
				"  File \"ROOT/aws_custom_exception.py\", line 5, in handler\n    raise MyError(\"bad\")\n"},
			printed: "Traceback (most recent call last):\n" + pythonDispatched +
				"  File \"ROOT/aws_custom_exception.py\", line 5, in handler\n    raise MyError(\"bad\")\n" +
				"aws_custom_exception.MyError: bad\n",
		},
		{
			name:      "aws_custom_empty_error_message",
			module:    pythonMyError,
			handler:   `raise MyError("")`,
			errorType: "MyError",
			message:   "",
		},
		{
			name:      "aws_no_module",
			handler:   "import invalid_module",
			errorType: "ModuleNotFoundError",
			message:   "No module named 'invalid_module'",
			trace: []string{
				"  File \"ROOT/aws_no_module.py\", line 2, in handler\n    import invalid_module\n"},
		},
		{
			name:      "each_frame_is_told",
			module:    "def inner(value):\n\treturn value['b']\n\n",
			handler:   "return inner(\n\tevent)",
			event:     `{"a":1}`,
			errorType: "KeyError",
			message:   "'b'",
			trace: []string{
				"  File \"ROOT/each_frame_is_told.py\", line 5, in handler\n    return inner(\n",
				"  File \"ROOT/each_frame_is_told.py\", line 2, in inner\n    return value['b']\n",
			},
		},
		{
			name:      "message_of_lines",
			handler:   `raise RuntimeError("one\ntwo \"three\"")`,
			errorType: "RuntimeError",
			message:   "one\ntwo \"three\"",
			prints:    "RuntimeError: one\ntwo \"three\"\n",
		},
		{
			name:      "error_while_another_is_handled",
			handler:   "try:\n\t1 / 0\nexcept ZeroDivisionError:\n\traise KeyError('x')",
			errorType: "KeyError",
			message:   "'x'",
			prints: "ZeroDivisionError: division by zero\n\n" +
				"During handling of the above exception, another exception occurred:\n",
		},
		{
			name:      "error_with_a_cause",
			handler:   "try:\n\t1 / 0\nexcept ZeroDivisionError as e:\n\traise KeyError('x') from e",
			errorType: "KeyError",
			message:   "'x'",
			prints:    "\n\nThe above exception was the direct cause of the following exception:\n",
		},
		{
			name:      "endless_recursion",
			module:    "def again():\n\tagain()\n",
			handler:   "again()",
			errorType: "RecursionError",
			message:   "maximum recursion depth exceeded",
			prints:    " more times]\nRecursionError: maximum recursion depth exceeded\n",
		},
		{
			name:      "syntax_error_in_what_a_handler_reads",
			handler:   `compile("a b", "rules", "exec")`,
			errorType: "SyntaxError",
			message:   "invalid syntax (rules, line 1)",
			prints:    "  File \"rules\", line 1\n    a b\n",
		},
		{
			name:      "error_that_looks_like_the_clients",
			module:    "class Fault(Exception):\n\terror_type = 'Mine'\n\ttrace = ['x']\n",
			handler:   `raise Fault("f")`,
			errorType: "Fault",
			message:   "f",
		},
		{
			name:      "stop_iteration",
			handler:   `next(iter([]))`,
			errorType: "StopIteration",
			message:   "",
		},
		{
			name:   "error_in_a_thread_is_printed",
			module: "import threading\n",
			handler: "def run():\n\t1 / 0\nthread = threading.Thread(target=run)\nthread.start()\n" +
				"thread.join()",
			body:   "null",
			prints: "ZeroDivisionError: division by zero\n",
		},
	})
}

// The order and the spaces are AWS's client's, too.
func TestPythonErrorIsWrittenAsAWSDoes(t *testing.T) {
	p := pythonProcess{
		files:  map[string]string{"app.py": "def handler(event, context):\n\traise ValueError('é')\n"},
		env:    []string{python312},
		events: []pythonEvent{{id: "1", body: []byte("null")}},
	}
	result := p.run(t)
	answer := result.answers["invocation/1/error"]
	want := `{"errorMessage": "é", "errorType": "ValueError", "requestId": "1", "stackTrace": ` +
		`["  File \"ROOT/app.py\", line 2, in handler\n    raise ValueError('é')\n"]}`
	if got := result.plain(string(answer.body)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	cause := `{"working_directory": "ROOT", "exceptions": [{"message": "\u00e9", "type": "ValueError", ` +
		`"stack": [{"label": "handler", "path": "ROOT/app.py", "line": 2}]}], "paths": ["ROOT/app.py"]}`
	if got := result.plain(answer.header.Get(causeHeader)); got != cause && !otherPythonClient() {
		t.Errorf("the cause is %s, want %s", got, cause)
	}
	if got := answer.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("the content type is %q", got)
	}
}

// The name of a class may hold what no header may.
func TestPythonErrorTypeFitsIntoAHeader(t *testing.T) {
	p := pythonProcess{
		files: map[string]string{
			"app.py": "def handler(event, context):\n\traise type('Größe\\n', (Exception,), {})('x')\n"},
		events: []pythonEvent{{id: "1", body: []byte("null")}},
	}
	answer := p.run(t).answers["invocation/1/error"]
	if got := answer.header.Get(typeHeader); got != "Gr??e?" && !otherPythonClient() {
		t.Errorf("the type is %q", got)
	}
}

// X-Ray has no room for more, and the error itself is told all the same.
func TestPythonErrorWithALargeCauseIsTold(t *testing.T) {
	t.Parallel()
	p := pythonProcess{
		files: map[string]string{
			"app.py": "def handler(event, context):\n\traise ValueError('x' * event)\n"},
		events: []pythonEvent{{id: "1", body: []byte("1100000")}},
	}
	answer := p.run(t).answers["invocation/1/error"]
	if cause := answer.header.Get(causeHeader); cause != "" || len(answer.body) < 1100000 {
		t.Errorf("got %d bytes, and a cause of %d", len(answer.body), len(cause))
	}
}

// It raises before there is a frame of its own. The frame of the client is left out.
func TestPythonHandlerThatCannotBeCalledIsAnError(t *testing.T) {
	for _, tt := range []struct {
		name    string
		module  string
		message string
	}{
		{
			name:    "it takes one argument",
			module:  "def handler(event): pass\n",
			message: "handler() takes 1 positional argument but 2 were given",
		},
		{name: "it is no function", module: "handler = 'x'\n", message: "'str' object is not callable"},
	} {
		p := pythonProcess{
			files:  map[string]string{"app.py": tt.module},
			events: []pythonEvent{{id: "1", body: []byte("null")}},
		}
		result := p.run(t)
		want := `{"errorMessage": "` + tt.message +
			`", "errorType": "TypeError", "requestId": "1", "stackTrace": []}`
		if got := string(result.answers["invocation/1/error"].body); got != want && !otherPythonClient() {
			t.Errorf("%s: got %s, want %s", tt.name, got, want)
		}
		if result.printed != "TypeError: "+tt.message+"\n" && !otherPythonClient() {
			t.Errorf("%s: printed %q", tt.name, result.printed)
		}
	}
}

// The largest event that Lambda takes has 6 MB.
func TestPythonLargeEventComesBackWhole(t *testing.T) {
	t.Parallel()
	event := []byte(`"` + strings.Repeat("0123456789abcdé", 6<<20/16) + `"`)
	p := pythonProcess{
		files:  map[string]string{"app.py": "def handler(event, context):\n\treturn event\n"},
		env:    []string{python312},
		events: []pythonEvent{{id: "1", body: event}, {id: "2", body: []byte("2")}, {id: "3", body: event}},
	}
	result := p.run(t)
	for _, id := range []string{"1", "3"} {
		if got := result.answers["invocation/"+id+"/response"].body; !bytes.Equal(got, event) {
			t.Errorf("event %s came back with %d of %d bytes", id, len(got), len(event))
		}
	}
}

// An invocation that comes again has the same request ID. This header tells one from the other.
func TestPythonInvocationIDIsSentBack(t *testing.T) {
	id := map[string]string{"Lambda-Runtime-Invocation-Id": "invocation-7"}
	p := pythonProcess{
		files: map[string]string{"app.py": "def handler(event, context):\n\treturn 1 / event\n"},
		events: []pythonEvent{
			{id: "1", body: []byte("1"), headers: id},
			{id: "2", body: []byte("0"), headers: id},
			{id: "3", body: []byte("1")},
		},
	}
	result := p.run(t)
	for path, want := range map[string]string{
		"invocation/1/response": "invocation-7",
		"invocation/2/error":    "invocation-7",
		"invocation/3/response": "",
	} {
		if got := result.answers[path].header.Get("Lambda-Runtime-Invocation-Id"); got != want &&
			!otherPythonClient() {
			t.Errorf("%s has the invocation ID %q, want %q", path, got, want)
		}
	}
}
