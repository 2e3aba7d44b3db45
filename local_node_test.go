//go:build !layer

package main

// local_node_test.go has tables of what becomes of Node.js handlers' invocations. What AWS's own client does
// otherwise stands beside it, with the reason. local_node_rig_test.go says how to run the tables with it.

import (
	"encoding/json"
	"strings"
	"testing"
)

// nodeModule makes a CommonJS module of which each case is one handler.
func nodeModule(sources string) string {
	return "const cases = [\n" + sources + `];
let count = 0;
exports.handler = function (event, context, callback) {
	return cases[Number(context.awsRequestId.slice(5))].apply(this, arguments);
};
`
}

const unserializable = "Unable to stringify response body"

const notRetrieved = "callback called with Error argument, but there was a problem while retrieving one or " +
	"more " +
	"of its message, name, and stack"

// Handlers answer by what they return, or by callbacks.
func TestNodeHandlersAnswer(t *testing.T) {
	t.Parallel()
	runNodeCases(t, "index.js", nodeModule, []nodeCase{
		{
			name:   "an async function's result is the response",
			source: `async (event) => ({ got: event, list: [1, null, 'é'] })`,
			event:  `{"a":1}`,
			want:   nodeAnswer{body: `{"got":{"a":1},"list":[1,null,"é"]}`},
		},
		{
			name:   "undefined is null",
			source: `async () => {}`,
			want:   nodeAnswer{body: "null"},
		},
		{
			name:   "a promise's result is the response",
			source: `() => new Promise((resolve) => setTimeout(resolve, 5, 'late'))`,
			want:   nodeAnswer{body: `"late"`},
		},
		{
			name:   "a thenable's result is the response",
			source: `() => ({ then(resolve) { resolve(1); } })`,
			want:   nodeAnswer{body: "1"},
		},
		{
			name:   "a callback's result is the response",
			source: `(event, context, callback) => callback(null, { a: 1 })`,
			want:   nodeAnswer{body: `{"a":1}`},
		},
		{
			name:   "a callback without result is null",
			source: `(event, context, callback) => { setTimeout(callback, 1); }`,
			want:   nodeAnswer{body: "null"},
		},
		{
			name: "a callback waits for the event loop",
			source: `(event, context, callback) => {
				callback(null, 'done');
				setTimeout(() => process.stdout.write('later'), 5);
			}`,
			want: nodeAnswer{body: `"done"`, printed: "later"},
		},
		{
			name: "a callback's result is told when the event loop is empty",
			source: `(event, context, callback) => {
				const result = { a: 1 };
				callback(null, result);
				setImmediate(() => { result.a = 2; });
			}`,
			want: nodeAnswer{body: `{"a":2}`},
		},
		{
			name: "a callback does not wait if the context says so",
			source: `(event, context, callback) => {
				context.callbackWaitsForEmptyEventLoop = false;
				globalThis.timer = setInterval(() => {}, 1000);
				callback(null, 'at once');
			}`,
			want: nodeAnswer{body: `"at once"`},
		},
		{
			name:   "a promise does not wait for the event loop",
			source: `async (event, context) => context.callbackWaitsForEmptyEventLoop`,
			want:   nodeAnswer{body: "true"},
		},
		{
			name: "idle connections do not keep a callback waiting",
			source: `(event, context, callback) => {
				clearInterval(globalThis.timer);
				const http = require('http');
				const agent = new http.Agent({ keepAlive: true });
				http.get('http://' + process.env.AWS_LAMBDA_RUNTIME_API + '/ping', { agent }, (res) => {
					res.setEncoding('utf8').on('data', (text) => callback(null, text));
				});
			}`,
			want: nodeAnswer{body: `"pong"`},
		},
		{
			name:   "context.succeed",
			source: `(event, context) => { setTimeout(context.succeed, 1, 'ok'); }`,
			want:   nodeAnswer{body: `"ok"`},
		},
		{
			name:   "context.done with a result",
			source: `(event, context) => { context.done(null, 'ok'); }`,
			want:   nodeAnswer{body: `"ok"`},
		},
		{
			name: "context.done does not wait for the event loop",
			source: `(event, context) => {
				globalThis.timer = setInterval(() => {}, 1000);
				context.done(null, 'at once');
			}`,
			want: nodeAnswer{body: `"at once"`},
		},
		{
			name: "context.done with an error",
			source: `(event, context) => { clearInterval(globalThis.timer); context.done(new ` +
				`RangeError('no')); }`,
			want: nodeAnswer{errorType: "RangeError", message: "no", complained: "RangeError: no\n    at "},
		},
		{
			name:   "context.fail",
			source: `(event, context) => { context.fail(new RangeError('no')); }`,
			want:   nodeAnswer{errorType: "RangeError", message: "no"},
		},
		{
			name:   "context.fail without an error",
			source: `(event, context) => { context.fail(); }`,
			want:   nodeAnswer{errorType: "string", message: "handled", trace: "none"},
		},
		{
			name: "the first of many answers counts",
			source: `async (event, context, callback) => {
				callback(null, 1);
				callback(null, 2);
				context.succeed(3);
				return 4;
			}`,
			want: nodeAnswer{body: "1"},
		},
		{
			name: "an error after the callback does not count",
			source: `(event, context, callback) => {
				callback(null, 1);
				throw new Error('too late');
			}`,
			want: nodeAnswer{body: "1"},
		},
		{
			name:   "a function that returns a value without promise answers null",
			source: `() => 5`,
			want:   nodeAnswer{body: "null"},
		},
		{
			name:   "a function that never answers answers null when the event loop is empty",
			source: `() => { setTimeout(() => process.stdout.write('tick'), 5); }`,
			want:   nodeAnswer{body: "null", printed: "tick"},
		},
		{
			name:   "a promise that is never settled answers null when the event loop is empty",
			source: `() => new Promise(() => {})`,
			want:   nodeAnswer{body: "null"},
		},
		{
			name:   "handlers are called with three arguments",
			source: `async function () { return arguments.length; }`,
			want:   nodeAnswer{body: "3"},
		},
		{
			name:   "a module keeps what it has",
			source: `async () => [++count, ++count]`,
			want:   nodeAnswer{body: "[1,2]"},
		},
		{
			name:   "toJSON",
			source: `async () => [new Date(0), { toJSON: () => 'made' }, NaN, Buffer.from('a')]`,
			want: nodeAnswer{
				body: `["1970-01-01T00:00:00.000Z","made",null,{"type":"Buffer","data":[97]}]`},
		},
		{
			name:   "half a character",
			source: `async () => '\ud83d'`,
			want:   nodeAnswer{body: `"\ud83d"`},
		},
		{
			name:   "six megabytes come back",
			source: `async () => 'x'.repeat(6 * 1024 * 1024)`,
			want:   nodeAnswer{body: `"` + strings.Repeat("x", 6<<20) + `"`},
		},
		{
			name: "what is printed keeps its order",
			source: `async () => {
				process.stdout.write('one\n');
				process.stderr.write('two\n');
				process.stdout.write('three\n');
			}`,
			want: nodeAnswer{body: "null", printed: "one\nthree\n", complained: "two\n"},
		},
		{
			name: "AsyncLocalStorage has what runs in it",
			source: `(event, context, callback) => {
				const { AsyncLocalStorage } = require('async_hooks');
				globalThis.storage = new AsyncLocalStorage();
				storage.run('mine', () => setTimeout(() => callback(null, storage.getStore()), 1));
			}`,
			want: nodeAnswer{body: `"mine"`},
		},
		{
			name:   "AsyncLocalStorage.enterWith",
			source: `async () => { storage.enterWith('mine'); await null; return storage.getStore(); }`,
			want:   nodeAnswer{body: `"mine"`},
		},
		{
			name:   "what one invocation has entered another one does not see",
			source: `async () => storage.getStore() ?? 'nothing'`,
			want:   nodeAnswer{body: `"nothing"`},
			aws:    &nodeAnswer{body: `"mine"`},
			why:    "its next invocation begins in what the last one has entered",
		},
	})
}

// Events are as JSON.parse takes them, and the context has what came with them.
func TestNodeHandlersGetEventAndContext(t *testing.T) {
	t.Parallel()
	runNodeCases(t, "index.js", nodeModule, []nodeCase{
		{
			name:   "a large number",
			source: `async (event) => event`,
			event:  `[12345678901234567890,1e400,-0,0.1]`,
			want:   nodeAnswer{body: `[12345678901234567000,null,0,0.1]`},
		},
		{
			name:   "text",
			source: `async (event) => event`,
			event:  `"\ud83d\ude00 é \u0000 \/"`,
			want:   nodeAnswer{body: `"😀 é \u0000 /"`},
		},
		{
			name:   "null",
			source: `async (event) => [event]`,
			event:  `null`,
			want:   nodeAnswer{body: `[null]`},
		},
		{
			name:   "__proto__ is a name like any other",
			source: `async (event) => [event, event.a]`,
			event:  `{"__proto__":{"a":1}}`,
			want:   nodeAnswer{body: `[{"__proto__":{"a":1}},null]`},
		},
		{
			name:   "no JSON",
			source: `async (event) => event`,
			event:  `{"a":`,
			want:   nodeAnswer{errorType: "SyntaxError", message: "Unexpected end of JSON input…"},
		},
		{
			name:   "six megabytes",
			source: `async (event) => event.length`,
			event:  `"` + strings.Repeat("é", 3<<20) + `"`,
			want:   nodeAnswer{body: "3145728"},
		},
		{
			name:   "the context's fields",
			source: `async (event, context) => context`,
			want: nodeAnswer{body: `{"functionName":"orders","functionVersion":"$LATEST",` +
				`"memoryLimitInMB":"256",` +
				`"logGroupName":"/aws/lambda/orders","logStreamName":"2026/01/02/[$LATEST]0123",` +
				`"invokedFunctionArn":"arn:aws:lambda:eu-west-1:123456789012:function:orders",` +
				`"awsRequestId":"case-6","callbackWaitsForEmptyEventLoop":true}`},
			aws: &nodeAnswer{body: `{"callbackWaitsForEmptyEventLoop":true,"functionVersion":"$LATEST",` +
				`"functionName":"orders","memoryLimitInMB":"256","logGroupName":"/aws/lambda/orders",` +
				`"logStreamName":"2026/01/02/[$LATEST]0123",` +
				`"invokedFunctionArn":"arn:aws:lambda:eu-west-1:123456789012:function:orders",` +
				`"awsRequestId":"case-6"}`},
			why: "the same fields in another order",
		},
		{
			name: "the remaining time",
			source: `async (event, { getRemainingTimeInMillis }) => {
				const rest = getRemainingTimeInMillis();
				return rest > 3500000 && rest <= 3600000;
			}`,
			want: nodeAnswer{body: "true"},
		},
		{
			name:   "client context, identity and tenant",
			source: `async (event, c) => [c.clientContext, c.identity, c.tenantId]`,
			headers: map[string]string{
				"Lambda-Runtime-Client-Context":   `{"custom":{"k":"é"},"Custom":{"\u00e9":1}}`,
				"Lambda-Runtime-Cognito-Identity": `{"cognitoIdentityId":"i"}`,
				"Lambda-Runtime-Aws-Tenant-Id":    "t1",
			},
			want: nodeAnswer{
				body: `[{"custom":{"k":"é"},"Custom":{"é":1}},{"cognitoIdentityId":"i"},"t1"]`},
		},
		{
			name:    "an empty client context",
			source:  `async (event, c) => [typeof c.clientContext, 'clientContext' in c, typeof c.tenantId]`,
			headers: map[string]string{"Lambda-Runtime-Client-Context": ""},
			want:    nodeAnswer{body: `["undefined",true,"undefined"]`},
		},
		{
			name:    "a client context that is no JSON",
			source:  `async () => 1`,
			headers: map[string]string{"Lambda-Runtime-Client-Context": "{"},
			want: nodeAnswer{errorType: "Error",
				message: "Cannot parse ClientContext as json: SyntaxError: …"},
		},
		{
			name:    "the trace ID",
			source:  `async () => process.env._X_AMZN_TRACE_ID`,
			headers: map[string]string{"Lambda-Runtime-Trace-Id": "Root=1-2-3;Sampled=0"},
			want:    nodeAnswer{body: `"Root=1-2-3;Sampled=0"`},
		},
		{
			name:   "no trace ID",
			source: `async () => process.env._X_AMZN_TRACE_ID`,
			want:   nodeAnswer{body: "null"},
		},
		{
			name:   "the environment",
			source: `async () => [process.cwd() === process.env.LAMBDA_TASK_ROOT, process.env._HANDLER]`,
			want:   nodeAnswer{body: `[true,"index.handler"]`},
		},
	})
}

// Errors are told as Lambda tells them, and standard error has their stack.
func TestNodeHandlersFail(t *testing.T) {
	t.Parallel()
	handled := nodeAnswer{errorType: "handled", message: notRetrieved, trace: "none"}
	unserialized := nodeAnswer{errorType: "Runtime.JSONStringifyError", message: unserializable}
	unserializedByAWS := nodeAnswer{errorType: "Error", message: unserializable}
	runNodeCases(t, "index.js", nodeModule, []nodeCase{
		{
			name:   "a function throws",
			source: `() => { throw new TypeError('bad'); }`,
			want:   nodeAnswer{errorType: "TypeError", message: "bad", complained: "TypeError: bad\n    at "},
		},
		{
			name:   "a promise is rejected",
			source: `async () => { throw new TypeError('bad\nworse'); }`,
			want: nodeAnswer{errorType: "TypeError", message: "bad\nworse",
				complained: "TypeError: bad\nworse\n    at "},
		},
		{
			name:   "a callback gets an error",
			source: `(event, context, callback) => { setTimeout(callback, 1, new TypeError('bad')); }`,
			want:   nodeAnswer{errorType: "TypeError", message: "bad"},
		},
		{
			name: "a callback's error does not wait for the event loop",
			source: `(event, context, callback) => { globalThis.timer = setInterval(() => {}, 1000); ` +
				`callback('bad'); }`,
			want: nodeAnswer{errorType: "string", message: "bad", trace: "none", complained: "'bad'\n"},
		},
		{
			name:   "text is thrown",
			source: `async () => { clearInterval(globalThis.timer); throw 'text'; }`,
			want:   nodeAnswer{errorType: "string", message: "text", trace: "none"},
		},
		{
			name:   "an object is thrown",
			source: `async () => { throw { code: 1 }; }`,
			want: nodeAnswer{
				errorType: "object", message: "[object Object]", trace: "none", complained: "{ code: 1 }"},
		},
		{
			name:   "an object without any text is thrown",
			source: `async () => { throw Object.create(null); }`,
			want:   handled,
			aws: &nodeAnswer{
				errorType: "TypeError", message: "Cannot convert object to primitive value"},
			why: "printing the error fails",
		},
		{
			name:   "a symbol is thrown",
			source: `async () => { throw Symbol('s'); }`,
			want:   nodeAnswer{errorType: "symbol", message: "Symbol(s)", trace: "none"},
			aws: &nodeAnswer{
				errorType: "TypeError", message: "Cannot convert a Symbol value to a string"},
			why: "printing the error fails",
		},
		{
			name:   "a promise is rejected with nothing",
			source: `() => Promise.reject()`,
			want:   nodeAnswer{errorType: "string", message: "handled", trace: "none"},
		},
		{
			name:   "null that is thrown is no error",
			source: `() => { throw null; }`,
			want:   nodeAnswer{body: "null"},
		},
		{
			name: "an error's name is its type",
			source: `async () => { const e = new Error('bad'); e.name = 'OrderError'; e.code = 'E1'; throw ` +
				`e; }`,
			want: nodeAnswer{errorType: "OrderError", message: "bad", trace: "any",
				complained: "code: 'E1'"},
		},
		{
			name:   "an error's class is not its type",
			source: `async () => { throw new (class OrderError extends Error {})('bad'); }`,
			want:   nodeAnswer{errorType: "Error", message: "bad"},
		},
		{
			name:   "an error without message",
			source: `async () => { throw new Error(); }`,
			want:   nodeAnswer{errorType: "Error", trace: "Error\n    at "},
		},
		{
			name:   "an error's cause is complained of",
			source: `async () => { throw new Error('outer', { cause: new Error('inner') }); }`,
			want:   nodeAnswer{errorType: "Error", message: "outer", complained: "[cause]: Error: inner"},
		},
		{
			name:   "an error that has itself in it",
			source: `async () => { const e = new Error('round'); e.self = e; throw e; }`,
			want:   nodeAnswer{errorType: "Error", message: "round", complained: "self: [Circular *1]"},
		},
		{
			name:   "what looks like an error is one",
			source: `async () => { throw { name: 'Like', message: 'an error', stack: 'a stack' }; }`,
			want:   nodeAnswer{errorType: "Like", message: "an error", trace: "a stack"},
		},
		{
			name:   "an error of another context is one",
			source: `async () => require('vm').runInNewContext('throw new RangeError("far")')`,
			want:   nodeAnswer{errorType: "RangeError", message: "far", trace: "evalmachine"},
		},
		{
			name: "an error whose fields fail",
			source: `async () => {
				const e = new Error('x');
				Object.defineProperty(e, 'message', { get() { throw new Error('y'); } });
				throw e;
			}`,
			want: handled,
		},
		{
			name:   "an error whose message is no text",
			source: `async () => { const e = new Error('x'); e.message = { a: 1 }; throw e; }`,
			want:   handled,
		},
		{
			name:   "an error without stack",
			source: `async () => { const e = new Error('x'); e.stack = undefined; throw e; }`,
			want:   nodeAnswer{errorType: "Error", message: "x", trace: "none"},
			aws:    &handled,
			why:    "version 4 of AWS's client tells it as it is",
		},
		{
			name:   "a character that no header has",
			source: `async () => { const e = new Error('a\x7fb é'); e.name = 'N\x7fé'; throw e; }`,
			want:   nodeAnswer{errorType: "N%7Fé", message: "a%7Fb é", trace: "any"},
		},
		{
			name:   "an error's name has more than one line",
			source: `async () => { const e = new Error('bad'); e.name = 'One\nTwo: x'; throw e; }`,
			want:   nodeAnswer{errorType: "One\nTwo: x", message: "bad", trace: "any"},
		},
		{
			name:   "a BigInt is no JSON",
			source: `async () => 1n`,
			want: nodeAnswer{errorType: "Runtime.JSONStringifyError", message: unserializable,
				complained: "TypeError: Do not know how to serialize a BigInt"},
			aws: &unserializedByAWS,
			why: "version 4 of AWS's client has given it a type",
		},
		{
			name:   "a cycle is no JSON",
			source: `async () => { const a = {}; a.a = a; return a; }`,
			want:   unserialized,
			aws:    &unserializedByAWS,
			why:    "version 4 of AWS's client has given it a type",
		},
		{
			name:   "a function is no JSON",
			source: `async () => () => 1`,
			want:   unserialized,
			aws:    &nodeAnswer{errorType: "TypeError", message: "Wrong arguments"},
			why:    "that is what its native part says",
		},
		{
			name:   "a callback's BigInt is no JSON",
			source: `(event, context, callback) => callback(null, 1n)`,
			want:   unserialized,
			aws:    &nodeAnswer{errorType: "Error", message: unserializable, exit: "exit status 129"},
			why:    "it happens in a timer, where nothing catches it",
		},
	})
}

// What nobody catches ends the process.
func TestNodeProcessesEnd(t *testing.T) {
	t.Parallel()
	runNodeCases(t, "index.js", nodeModule, []nodeCase{
		{
			name: "a promise is rejected and nobody handles it",
			source: `() => { Promise.reject(new RangeError('bad')); return new Promise((r) => ` +
				`setTimeout(r, 1000)); }`,
			want: nodeAnswer{errorType: "Runtime.UnhandledPromiseRejection", message: "RangeError: bad",
				complained: "RangeError: bad\n    at ", exit: "exit status 128"},
		},
		{
			name:   "a promise is rejected with text",
			source: `() => { Promise.reject('text'); return new Promise((r) => setTimeout(r, 1000)); }`,
			want: nodeAnswer{errorType: "Runtime.UnhandledPromiseRejection", message: "text",
				complained: "'text'\n", exit: "exit status 128"},
		},
		{
			name: "an exception in a timer",
			source: `() => new Promise(() => setTimeout(() => {
				process.stdout.write('first\n');
				throw new RangeError('bad');
			}, 1))`,
			want: nodeAnswer{errorType: "RangeError", message: "bad", printed: "first\n",
				complained: "RangeError: bad\n    at ", exit: "exit status 129"},
		},
		{
			name: "an exception after the answer",
			source: `async () => {
				setTimeout(() => { throw new RangeError('bad'); }, 20);
				return 'answered';
			}`,
			want: nodeAnswer{body: `"answered"`, exit: "exit status 129"},
			why:  "skip: it posts an error while it waits in next, with one connection for both, and hangs",
		},
		{
			name:   "process.exit",
			source: `() => { process.stdout.write('bye'); process.exit(3); }`,
			want:   nodeAnswer{silent: true, printed: "bye", exit: "exit status 3"},
		},
		{
			name: "a handler ends the process by a signal",
			source: `() => { process.kill(process.pid, 'SIGTERM'); return new Promise((r) => setTimeout(r, ` +
				`10000)); }`,
			want: nodeAnswer{silent: true, exit: "signal: terminated"},
		},
		{
			name: "a handler takes the signal itself",
			source: `() => new Promise((resolve) => {
				process.once('SIGTERM', () => resolve('stays'));
				process.kill(process.pid, 'SIGTERM');
				setTimeout(() => {}, 100);
			})`,
			want: nodeAnswer{body: `"stays"`},
		},
	})
}

// Node.js 24 has no callbacks, and nothing waits for the event loop. What AWS's client does is that of
// version 4; the other tables are those of version 3.
func TestNodeWithoutCallbacks(t *testing.T) {
	t.Parallel()
	runNodeCases(t, "index.js", func(sources string) string {
		return "const cases = [\n" + sources + `];
exports.handler = (event, context) => cases[Number(context.awsRequestId.slice(5))](event, context);
`
	}, []nodeCase{
		{
			name:   "an async function",
			source: `async () => 1`,
			want:   nodeAnswer{body: "1"},
		},
		{
			name:   "a value without promise is the response",
			source: `() => 5`,
			want:   nodeAnswer{body: "5"},
		},
		{
			name: "the context has no callbacks",
			source: `(event, c) => [typeof c.done, typeof c.succeed, typeof c.fail, ` +
				`'callbackWaitsForEmptyEventLoop' in c]`,
			want: nodeAnswer{body: `["undefined","undefined","undefined",false]`},
		},
		{
			name:   "a function throws",
			source: `() => { throw new TypeError('bad'); }`,
			want:   nodeAnswer{errorType: "TypeError", message: "bad"},
		},
		{
			name:   "null is thrown",
			source: `() => { throw null; }`,
			want:   nodeAnswer{errorType: "object", message: "null", trace: "none"},
		},
		{
			name:   "a BigInt is no JSON",
			source: `() => 1n`,
			want:   nodeAnswer{errorType: "Runtime.JSONStringifyError", message: unserializable},
		},
		{
			name:   "a promise that is never settled ends the process",
			source: `() => new Promise(() => {})`,
			want:   nodeAnswer{silent: true, exit: "exit status 0"},
		},
	}, withoutCallbacks)
}

// A handler with a callback works all the same. Lambda would refuse it.
func TestNodeCallbackOnNodeThatHasNone(t *testing.T) {
	t.Parallel()
	if awsClient() != "" {
		t.Skip("AWS's client refuses the handler")
	}
	n := newNodeRuntime(t)
	root := directoryOf(t, map[string]string{
		"index.js": `exports.handler = (event, context, callback) => { callback(null, 1); };`})
	n.start(root, "index.handler", withoutCallbacks)
	got, ok := n.invoke(nodeEvent{id: "1"})
	nodeAnswer{body: "1"}.check(t, got, ok)
}

// X-Ray is told where the error was thrown, in ASCII.
func TestNodeErrorHasItsXRayCause(t *testing.T) {
	t.Parallel()
	needAWSVersion(t, "3")
	n := newNodeRuntime(t)
	root := directoryOf(t, map[string]string{
		"index.js": "exports.handler = async function orders() {\n\tthrow new RangeError('é\\n');\n};\n"})
	n.start(root, "index.handler")
	got, _ := n.invoke(nodeEvent{id: "1"})
	type frame struct {
		Path, Label string
		Line        int
	}
	var cause struct {
		WorkingDirectory string `json:"working_directory"`
		Exceptions       []struct {
			Type, Message string
			Stack         []frame
		}
		Paths []string
	}
	text := got.header.Get(causeHeader)
	err := json.Unmarshal([]byte(text), &cause)
	if err != nil || len(cause.Exceptions) != 1 || len(cause.Exceptions[0].Stack) < 2 ||
		len(cause.Paths) < 2 {
		t.Fatalf("the cause is %s: %v", text, err)
	}
	e := cause.Exceptions[0]
	if cause.WorkingDirectory != root || e.Type != "RangeError" || e.Message != "é\n" {
		t.Errorf("the cause is %s", text)
	}
	// The message's second line is taken for a frame, as AWS takes it.
	file := root + "/index.js"
	want := frame{Path: file, Label: "orders", Line: 2}
	if awsClient() != "" {
		want.Label = "Runtime.orders [as handler]"
	}
	if e.Stack[1] != want || cause.Paths[1] != file {
		t.Errorf("the frames are %+v, the paths %q", e.Stack, cause.Paths)
	}
	if awsClient() == "" && strings.ContainsFunc(text, func(r rune) bool { return r > '~' }) {
		t.Errorf("the header is not ASCII: %q", text)
	}
}

// A Runtime API that numbers deliveries gets the number back.
func TestNodeAnswersRepeatTheInvocationID(t *testing.T) {
	t.Parallel()
	if awsClient() != "" {
		t.Skip("AWS's client has nothing of it yet")
	}
	n := newNodeRuntime(t)
	root := directoryOf(t, map[string]string{
		"index.js": `exports.handler = async (event) => { if (event.fail) throw new Error('x'); };`})
	n.start(root, "index.handler")
	const name = "Lambda-Runtime-Invocation-Id"
	for _, event := range []string{`{}`, `{"fail":1}`} {
		got, _ := n.invoke(nodeEvent{id: "1", event: event, headers: map[string]string{name: "delivery-7"}})
		if got.header.Get(name) != "delivery-7" {
			t.Errorf("%s repeats %q", got.path, got.header.Get(name))
		}
	}
}
