//go:build !layer

package main

// local_python_context_test.go holds what a Python handler finds: its context, the environment, and where its
// output and its log go.

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestPythonContextIsLambdas(t *testing.T) {
	clientContext := `{"client":{"installation_id":"installid1","app_title":"title1",` +
		`"app_version_name":"name1",` +
		`"app_version_code":"versioncode1","app_package_name":"package1"},` +
		`"custom":{"custom-key":"é"},"env":{"custom-env":"custom-value"}}`
	runPythonCases(t, []string{python312}, []pythonCase{
		{
			name: "aws_init",
			handler: `
return [context.aws_request_id, context.log_group_name, context.log_stream_name, context.function_name,
	context.memory_limit_in_mb, context.function_version, context.invoked_function_arn, context.tenant_id,
	context.client_context, context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id]`,
			body: `["aws_init", "/aws/lambda/orders", "2026/01/02/[$LATEST]0123", "orders", "256", ` +
				`"$LATEST", ` +
				`"arn:aws:lambda:eu-west-1:123456789012:function:orders", null, null, null, null]`,
		},
		{
			name: "aws_init_client_context",
			handler: `
c = context.client_context
return [c.client.installation_id, c.client.app_title, c.client.app_version_name, c.client.app_version_code,
	c.client.app_package_name, c.custom, c.env]`,
			headers: map[string]string{"Lambda-Runtime-Client-Context": clientContext},
			body: `["installid1", "title1", "name1", "versioncode1", "package1", {"custom-key": "é"}, ` +
				`{"custom-env": "custom-value"}]`,
		},
		{
			name: "aws_init_client_context_without_values",
			handler: `
c = context.client_context
return [c.client.installation_id, c.client.app_package_name, c.custom, c.env]`,
			headers: map[string]string{"Lambda-Runtime-Client-Context": `{"client":{}}`},
			body:    `[null, null, null, null]`,
		},
		{
			name:    "aws_init_client_context_without_client",
			handler: `return [context.client_context.client, context.client_context.custom]`,
			headers: map[string]string{"Lambda-Runtime-Client-Context": `{}`},
			body:    `[null, null]`,
		},
		{
			name: "aws_init_cognito",
			handler: `return [context.identity.cognito_identity_id, ` +
				`context.identity.cognito_identity_pool_id]`,
			headers: map[string]string{
				"Lambda-Runtime-Cognito-Identity": `{"cognitoIdentityId":"id1",` +
					`"cognitoIdentityPoolId":"poolid1"}`},
			body: `["id1", "poolid1"]`,
		},
		{
			name:    "aws_init_tenant_id",
			handler: `return context.tenant_id`,
			headers: map[string]string{"Lambda-Runtime-Aws-Tenant-Id": "blue"},
			body:    `"blue"`,
		},
		{
			name:    "aws_remaining_time",
			module:  pythonAt,
			handler: "return at(1415836798.003, context.get_remaining_time_in_millis)",
			headers: map[string]string{"Lambda-Runtime-Deadline-Ms": "1415836801003"},
			body:    `3000`,
		},
		{
			name:    "aws_remaining_time_not_less_than_zero",
			module:  pythonAt,
			handler: "return at(1415836810, context.get_remaining_time_in_millis)",
			headers: map[string]string{"Lambda-Runtime-Deadline-Ms": "1415836801000"},
			body:    `0`,
		},
		{
			name:    "shown",
			handler: "return str(context)",
			headers: map[string]string{"Lambda-Runtime-Client-Context": `{"env":{"a":1}}`},
			body: `"LambdaContext([aws_request_id=shown,log_group_name=/aws/lambda/orders,` +
				`log_stream_name=2026/01/02/[$LATEST]0123,function_name=orders,memory_limit_in_mb=256,` +
				`function_version=$LATEST,` +
				`invoked_function_arn=arn:aws:lambda:eu-west-1:123456789012:function:orders,` +
				`client_context=ClientContext([custom=None,env={'a': 1},client=None]),` +
				`identity=CognitoIdentity([cognito_identity_id=None,cognito_identity_pool_id=None]),` +
				`tenant_id=None])"`,
		},
		{
			name:    "environment_changes",
			handler: "import os\ndel os.environ['AWS_LAMBDA_LOG_GROUP_NAME']",
			body:    "null",
		},
		{name: "aws_init_empty_env", handler: "return context.log_group_name", body: "null"},
	})
}

// pythonAt calls a function at another time.
const pythonAt = `import time
def at(now, function):
	time.time, real = lambda: now, time.time
	try:
		return function()
	finally:
		time.time = real

`

func TestPythonEnvironmentIsLambdas(t *testing.T) {
	version := fmt.Sprintf(`"AWS_Lambda_python3.%d"`, needPython(t).minor)
	trace := `import os` + "\n" + `return os.environ.get("_X_AMZN_TRACE_ID")`
	runPythonCases(t, nil, []pythonCase{
		{name: "no_trace", handler: trace, body: "null"},
		{
			name:    "aws_trace_new_value",
			handler: trace,
			headers: map[string]string{"Lambda-Runtime-Trace-Id": "Root=1-2-3;Sampled=0"},
			body:    `"Root=1-2-3;Sampled=0"`,
		},
		{
			name:    "aws_trace_overwrite",
			handler: trace,
			headers: map[string]string{"Lambda-Runtime-Trace-Id": "Root=4-5-6"},
			body:    `"Root=4-5-6"`,
		},
		{name: "aws_trace_remove_old_value", handler: trace, body: "null"},
		{
			name:    "runtime",
			module:  "import os\n",
			handler: `return os.environ["AWS_EXECUTION_ENV"]`,
			body:    version,
		},
	})
}

func TestPythonOutputComesInOrder(t *testing.T) {
	runPythonCases(t, nil, []pythonCase{
		{
			name:    "both_streams",
			module:  "import sys\n",
			handler: "for i in range(3):\n\tprint(i)\n\tprint('e', i, file=sys.stderr)",
			body:    "null",
			printed: "0\ne 0\n1\ne 1\n2\ne 2\n",
		},
		{
			name:   "parts_of_lines",
			module: "import os, sys\n",
			handler: "print('a', end='')\nos.write(2, b'b')\nsys.stdout.writelines(['c', " +
				"'d'])\nos.write(1, b'e')",
			body:    "null",
			printed: "abcde",
		},
		{
			name:    "children",
			module:  "import subprocess\n",
			handler: "print('a')\nsubprocess.run(['echo', 'b'])\nprint('c')",
			body:    "null",
			printed: "a\nb\nc\n",
		},
		{name: "utf_8", handler: "print('é😀')", body: "null", printed: "é😀\n"},
		{
			name:   "still_a_stream",
			module: "import sys\n",
			handler: "return [sys.stdout.fileno(), sys.stderr.encoding, sys.stdout.isatty(), " +
				"sys.stdout.write('x')]",
			body:    `[1, "utf-8", false, 1]`,
			printed: "x",
			differs: "its write returns nothing",
		},
		{
			name:   "redirected",
			module: "import contextlib, io, logging\n",
			handler: "out = io.StringIO()\nwith contextlib.redirect_stdout(out):\n\tprint('a')\nreturn " +
				"out.getvalue()",
			body: `"a\n"`,
		},
		{
			name:    "warning",
			module:  "import warnings\n",
			handler: "warnings.warn('careful')",
			body:    "null",
			prints:  "UserWarning: careful\n",
		},
		{
			name:    "aws_context_log",
			handler: "context.log('YOLO!')\ncontext.log('twice\\n')\ncontext.log(3)",
			body:    "null",
			printed: "YOLO!\ntwice\n3\n",
			differs: "on Lambda each is an entry of the log; outside there is no line feed between them",
		},
	})
}

func TestPythonLogIsLambdas(t *testing.T) {
	runPythonCases(t, nil, []pythonCase{
		{
			name:    "levels",
			module:  "import logging\n",
			handler: "logging.info('i')\nlogging.warning('w %d', 1)\nlogging.getLogger('a.b').error('e')",
			body:    "null",
			printed: "[WARNING]\tTIME\tlevels\tw 1\n[ERROR]\tTIME\tlevels\te\n",
		},
		{
			name:    "lines",
			module:  "import logging\n",
			handler: "logging.error('one\\ntwo')",
			body:    "null",
			printed: "[ERROR]\tTIME\tlines\tone\ntwo\n",
		},
		{
			name:    "in_order",
			module:  "import logging\n",
			handler: "print('a')\nlogging.error('b')\nprint('c')",
			body:    "null",
			printed: "a\n[ERROR]\tTIME\tin_order\tb\nc\n",
		},
		{
			name:    "exception",
			module:  "import logging\n",
			handler: "try:\n\t1 / 0\nexcept ZeroDivisionError:\n\tlogging.exception('bad')",
			body:    "null",
			printed: "[ERROR]\tTIME\texception\tbad\nTraceback (most recent call last):\n" +
				"  File \"ROOT/exception.py\", line 4, in handler\n    1 / 0\n" +
				"ZeroDivisionError: division by zero\n",
			differs: "it ends without a line feed, and on Lambda each is an entry of the log",
		},
		{
			name:    "basic_config_does_nothing",
			module:  "import logging\nlogging.basicConfig(level=logging.DEBUG, format='mine %(message)s')\n",
			handler: "logging.debug('d')\nlogging.error('e')\nreturn len(logging.getLogger().handlers)",
			body:    "1",
			printed: "[ERROR]\tTIME\tbasic_config_does_nothing\te\n",
		},
		{
			name:   "level_of_a_handler",
			module: "import logging\n",
			handler: `
root = logging.getLogger()
root.setLevel(logging.DEBUG)
logging.debug("d")
root.setLevel(logging.WARNING)`,
			body:    "null",
			printed: "[DEBUG]\tTIME\tlevel_of_a_handler\td\n",
		},
		{
			name:   "format_of_a_handler",
			module: "import logging\n",
			handler: `
handler = logging.getLogger().handlers[0]
saved = handler.formatter
handler.setFormatter(logging.Formatter("%(aws_request_id)s %(message)s"))
logging.error("a")
logging.error("b")
handler.setFormatter(saved)
return type(handler).__name__`,
			body:    `"LambdaLoggerHandler"`,
			printed: "format_of_a_handler a\nformat_of_a_handler b\n",
			differs: "on Lambda each is an entry of the log; outside there is no line feed between them",
		},
		{
			name:   "aws_dict_config",
			module: "import logging, logging.config\n",
			handler: `
root = logging.getLogger()
saved = root.handlers[:]
logging.config.dictConfig({
	"version": 1,
	"disable_existing_loggers": False,
	"formatters": {"simple": {"format": "%(levelname)-8s - %(message)s"}},
	"handlers": {"stdout": {"class": "logging.StreamHandler", "formatter": "simple"}},
	"root": {"level": "CRITICAL", "handlers": ["stdout"]},
})
logger = logging.getLogger("test.logger")
logger.error("error message")
logger.critical("critical message")
root.handlers[:] = saved
root.setLevel(logging.WARNING)`,
			body:    "null",
			printed: "CRITICAL - critical message\n",
		},
	})
}

// Before the first event there is no request ID.
func TestPythonLogOfAModuleHasNoRequestID(t *testing.T) {
	p := pythonProcess{
		files: map[string]string{"app.py": "import logging\nlogging.error('loading')\n" + pythonEcho}}
	result := p.run(t)
	if got := result.plain(result.printed); got != "[ERROR]\tTIME\t\tloading\n" {
		t.Errorf("printed %q", got)
	}
}

// These are AWS's own cases. Logging is set up as often as it is loaded, so one process has all of them.
func TestPythonLogLevelIsTheVariables(t *testing.T) {
	if otherPythonClient() {
		t.Skip("it sets logging up once")
	}
	levels := []struct {
		format string
		level  string
		want   string
	}{
		{level: "TRACE", want: "10"},
		{level: "DEBUG", want: "10"},
		{level: "INFO", want: "20"},
		{level: "WARN", want: "30"},
		{level: "ERROR", want: "40"},
		{level: "FATAL", want: "50"},
		{format: "JSON", level: "TRACE", want: "10"},
		{format: "JSON", level: "DEBUG", want: "10"},
		{format: "JSON", level: "INFO", want: "20"},
		{format: "JSON", level: "WARN", want: "30"},
		{format: "JSON", level: "ERROR", want: "40"},
		{format: "JSON", level: "fatal", want: "50"},
		{format: "Unknown format", level: "INFO", want: "20"},
		{format: "JSON", level: "Unknown level", want: "30"},
		{want: "30"},
	}
	p := pythonProcess{files: map[string]string{"app.py": `
import importlib, logging, os

def handler(event, context):
	os.environ["AWS_LAMBDA_LOG_FORMAT"], os.environ["AWS_LAMBDA_LOG_LEVEL"] = event
	importlib.reload(logging)
	return logging.getLogger().level
`}}
	for i, tt := range levels {
		p.events = append(
			p.events, pythonEvent{id: strconv.Itoa(i), body: mustJSON([]string{tt.format, tt.level})})
	}
	result := p.run(t)
	for i, tt := range levels {
		got := string(result.answers["invocation/"+strconv.Itoa(i)+"/response"].body)
		if got != tt.want {
			t.Errorf("format %q and level %q: got level %s, want %s", tt.format, tt.level, got, tt.want)
		}
	}
}

func TestPythonLogInJSONIsLambdas(t *testing.T) {
	runPythonCases(t, []string{"AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_LEVEL=INFO"}, []pythonCase{
		{
			name:    "aws_lines",
			module:  "import logging\n",
			handler: "logging.getLogger('a.b').error('test \\nwith \\nnew é')",
			body:    "null",
			printed: `{"timestamp": "TIME", "level": "ERROR", "message": "test \nwith \nnew é", "logger": ` +
				`"a.b", ` +
				`"requestId": "aws_lines"}` + "\n",
		},
		{
			name:   "aws_levels",
			module: "import logging\n",
			handler: "logger = logging.getLogger('test.logger')\nlogger.debug('d')\nlogger.info('info %s', " +
				"'message')",
			body: "null",
			printed: `{"timestamp": "TIME", "level": "INFO", "message": "info message", "logger": ` +
				`"test.logger", ` +
				`"requestId": "aws_levels"}` + "\n",
		},
		{
			name:    "aws_tenant",
			module:  "import logging\n",
			handler: "logging.info('m', extra={'order': {'id': 7}, 'none': None})",
			headers: map[string]string{"Lambda-Runtime-Aws-Tenant-Id": "blue"},
			body:    "null",
			printed: `{"timestamp": "TIME", "level": "INFO", "message": "m", "logger": "root", ` +
				`"requestId": "aws_tenant", "tenantId": "blue", "order": {"id": 7}}` + "\n",
		},
		{
			name:   "aws_exception",
			module: "import logging\n",
			handler: `
try:
	raise ValueError("error message")
except ValueError:
	logging.getLogger("test.logger").exception("test exception")`,
			body: "null",
			printed: `{"timestamp": "TIME", "level": "ERROR", "message": "test exception", ` +
				`"logger": "test.logger", "stackTrace": ["  File \"ROOT/aws_exception.py\", line 4, in ` +
				`handler\n` +
				`    raise ValueError(\"error message\")\n"], "errorType": "ValueError", ` +
				`"errorMessage": "error message", "requestId": "aws_exception", ` +
				`"location": "ROOT/aws_exception.py:handler:6"}` + "\n",
		},
		{name: "printing_is_not_logging", handler: "print('a')", body: "null", printed: "a\n"},
	})
}

// Lambda has boto3, so handlers use it without more. It is an ordinary package here: a developer installs it.
func TestPythonHandlerUsesBoto3(t *testing.T) {
	t.Parallel()
	missing := exec.Command(needPython(t).path, "-c", "import boto3").Run()
	if missing != nil {
		unavailable(t, "boto3 (Debian's python3-boto3)")
	}
	var target, agent string
	dynamo := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		target = r.Header.Get("X-Amz-Target")
		agent = r.Header.Get("User-Agent")
		rw.Header().Set("Content-Type", "application/x-amz-json-1.0")
		io.WriteString(rw, `{"Item":{"id":{"S":"7"},"price":{"N":"1.10"}}}`)
	}))
	defer dynamo.Close()
	p := pythonProcess{
		files: map[string]string{"app.py": `
import boto3, os
table = boto3.resource("dynamodb", endpoint_url=os.environ["DYNAMO_URL"]).Table("orders")

def handler(event, context):
	return table.get_item(Key={"id": event})["Item"]
`},
		env: []string{
			"AWS_ACCESS_KEY_ID=AKIDEXAMPLE",
			"AWS_SECRET_ACCESS_KEY=secret",
			"AWS_DEFAULT_REGION=eu-west-1",
			"DYNAMO_URL=" + dynamo.URL,
			"NO_PROXY=127.0.0.1",
		},
		site:   true,
		events: []pythonEvent{{id: "1", body: []byte(`"7"`)}},
	}
	result := p.run(t)
	// The price is a Decimal, which keeps its digits.
	if got := string(result.answers["invocation/1/response"].body); got != `{"id": "7", "price": 1.10}` {
		t.Errorf("got %s; printed %s", got, result.printed)
	}
	if target != "DynamoDB_20120810.GetItem" || !strings.Contains(agent, "AWS_Lambda_python3.") {
		t.Errorf("the call was %q of %q", target, agent)
	}
}
