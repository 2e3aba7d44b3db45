//go:build !layer

package main

// local_node_stream_test.go has the tables of handlers that stream their response.

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

// streamingModule makes an ES module of which each case is one streaming handler.
func streamingModule(sources string) string {
	return `import { once } from 'node:events';
import { Readable, Transform, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
const cases = [
` + sources + `];
export const handler = awslambda.streamifyResponse(
	(event, stream, context) => cases[Number(context.awsRequestId.slice(5))](event, stream, context),
	{ highWaterMark: 30000 },
);
`
}

const (
	bytesType   = "application/octet-stream"
	preludeType = "application/vnd.awslambda.http-integration-response"
	zeros       = "\x00\x00\x00\x00\x00\x00\x00\x00"
)

// usualHighWaterMark is that of streams that do not say another.
func usualHighWaterMark() string {
	major, _ := nodeVersion()
	if major < 22 {
		return "16384"
	}
	return "65536"
}

func TestNodeHandlersStream(t *testing.T) {
	t.Parallel()
	runNodeCases(t, "index.mjs", streamingModule, []nodeCase{
		{
			name:   "text is written",
			source: `async (event, stream) => { stream.write('one '); await pause(1); stream.end('zwö'); }`,
			want:   nodeAnswer{body: "one zwö", contentType: bytesType},
		},
		{
			name:   "nothing but an end",
			source: `async (event, stream) => { stream.end(); }`,
			want:   nodeAnswer{body: "", contentType: bytesType},
		},
		{
			name: "bytes, objects and other encodings",
			source: `async (event, stream) => {
				stream.write(new Uint8Array([65, 66]));
				stream.write(Buffer.from('C'));
				stream.write({ a: [1] });
				stream.write(5);
				stream.write('4445', 'hex');
				stream.write('');
				stream.end('F');
			}`,
			want: nodeAnswer{body: `ABC{"a":[1]}5DEF`, contentType: bytesType},
		},
		{
			name: "a content type",
			source: `async (event, stream) => {
				stream.setContentType('text/event-stream; charset=utf-8');
				stream.end('data: 1\n\n');
			}`,
			want: nodeAnswer{body: "data: 1\n\n", contentType: "text/event-stream; charset=utf-8"},
		},
		{
			name: "a prelude",
			source: `async (event, stream) => {
				const http = awslambda.HttpResponseStream.from(stream, { statusCode: 201, cookies: ['é'] });
				http.write('body');
				http.end();
			}`,
			want: nodeAnswer{
				body: `{"statusCode":201,"cookies":["é"]}` + zeros + "body", contentType: preludeType},
		},
		{
			name: "a prelude and an empty body",
			source: `async (event, stream) => {
				stream = awslambda.HttpResponseStream.from(stream, { statusCode: 204 });
				stream.write('');
				stream.end();
			}`,
			want: nodeAnswer{body: `{"statusCode":204}` + zeros, contentType: preludeType},
		},
		{
			name: "a prelude does not go out with an end",
			source: `async (event, stream) => {
				awslambda.HttpResponseStream.from(stream, { statusCode: 200 }).end('body');
			}`,
			want: nodeAnswer{body: "body", contentType: preludeType},
		},
		{
			name: "a pipeline",
			source: `async (event, stream) => {
				const upper = new Transform({
					transform(c, e, done) { done(null, c.toString().toUpperCase()); },
				});
				await pipeline(Readable.from(['a', 'b', 'c']), upper, stream);
			}`,
			want: nodeAnswer{body: "ABC", contentType: bytesType},
		},
		{
			name:   "a pipe that nobody waits for",
			source: `async (event, stream) => { Readable.from(['a', 'b']).pipe(stream); }`,
			want:   nodeAnswer{body: "ab", contentType: bytesType},
		},
		{
			name: "back pressure",
			source: `async (event, stream) => {
				let waits = 0;
				for (let i = 0; i < 64; i++) {
					if (!stream.write('0123456789abcdef'.repeat(4096))) {
						waits++;
						await once(stream, 'drain');
					}
				}
				stream.end(waits > 0 ? '!' : '?');
			}`,
			want: nodeAnswer{body: strings.Repeat("0123456789abcdef", 4096*64) + "!", contentType: bytesType},
		},
		{
			name:   "the high-water mark",
			source: `async (event, stream) => { stream.end(String(stream.writableHighWaterMark)); }`,
			want:   nodeAnswer{body: "30000", contentType: bytesType},
			aws:    &nodeAnswer{body: usualHighWaterMark(), contentType: bytesType},
			why:    "its socket has it, and the stream shows that of the one before",
		},
		{
			name: "callbacks of writes and of the end",
			source: `async (event, stream) => {
				await new Promise((resolve) => stream.write('a', resolve));
				await new Promise((resolve) => stream.write('b', 'utf8', resolve));
				stream.end(() => process.stdout.write('ended'));
			}`,
			want: nodeAnswer{body: "ab", contentType: bytesType},
		},
		{
			name: "corked writes",
			source: `async (event, stream) => {
				stream.cork();
				stream.write('a');
				stream.write('b');
				stream.uncork();
				stream.end('c');
			}`,
			want: nodeAnswer{body: "abc", contentType: bytesType},
		},
		{
			name: "what the stream says of itself",
			source: `async (event, stream) => {
				const states = [
					stream.writable, stream.writableEnded, stream.writableFinished, stream.destroyed];
				stream.write(JSON.stringify(states));
				const finished = once(stream, 'finish');
				stream.end();
				await finished;
				process.stdout.write(JSON.stringify([stream.writableEnded, stream.writableFinished]));
			}`,
			want: nodeAnswer{body: "[true,false,false,false]", contentType: bytesType},
		},
		{
			name:   "a result is ignored",
			source: `async (event, stream) => { stream.end('body'); return 'result'; }`,
			want:   nodeAnswer{body: "body", contentType: bytesType},
		},
		{
			name: "the next event waits for the event loop",
			source: `async (event, stream, context) => {
				stream.end(String(context.callbackWaitsForEmptyEventLoop));
				setTimeout(() => { globalThis.later = true; }, 20);
			}`,
			want: nodeAnswer{body: "true", contentType: bytesType},
		},
		{
			name: "the event loop was empty",
			source: `async (event, stream, context) => {
				context.callbackWaitsForEmptyEventLoop = false;
				globalThis.timer = setInterval(() => {}, 1000);
				stream.end(String(globalThis.later));
			}`,
			want: nodeAnswer{body: "true", contentType: bytesType},
		},
		{
			name:   "the next event does not wait if the context says so",
			source: `async (event, stream) => { clearInterval(globalThis.timer); stream.end('soon'); }`,
			want:   nodeAnswer{body: "soon", contentType: bytesType},
		},
		{
			name:   "a promise that is never settled after the end",
			source: `async (event, stream) => { stream.end('body'); await new Promise(() => {}); }`,
			want:   nodeAnswer{body: "body", contentType: bytesType},
		},
		{
			name:   "and the next event",
			source: `async (event, stream) => { stream.end('comes'); }`,
			want:   nodeAnswer{body: "comes", contentType: bytesType},
		},
	})
}

func TestNodeStreamsBreak(t *testing.T) {
	t.Parallel()
	const sync = "Streaming does not support non-async handlers."
	const unfinished = "Response stream is not finished."
	early := "the response has begun for it, though nothing has been written"
	runNodeCases(t, "index.mjs", streamingModule, []nodeCase{
		{
			name:   "an error before the first write",
			source: `async () => { throw new RangeError('bad'); }`,
			want: nodeAnswer{
				errorType: "RangeError", message: "bad", complained: "RangeError: bad\n    at "},
			aws: &nodeAnswer{errorType: "RangeError", message: "bad", trailers: true},
			why: early,
		},
		{
			name:   "an error after the first write",
			source: `async (event, stream) => { stream.write('half'); throw new RangeError('bad'); }`,
			want: nodeAnswer{errorType: "RangeError", message: "bad", trailers: true, body: "half",
				complained: "RangeError: bad\n    at "},
		},
		{
			name: "an error after much has been written",
			source: `async (event, stream) => {
				for (let i = 0; i < 64; i++) {
					stream.write('x'.repeat(65536));
				}
				throw new RangeError('bad');
			}`,
			want: nodeAnswer{errorType: "RangeError", message: "bad", trailers: true,
				body: strings.Repeat("x", 64*65536)},
		},
		{
			name:   "an error after the end does not count",
			source: `async (event, stream) => { stream.end('whole'); throw new RangeError('bad'); }`,
			want:   nodeAnswer{body: "whole", contentType: bytesType, complained: "RangeError: bad"},
		},
		{
			name:   "a content type that comes too late",
			source: `async (event, stream) => { stream.write('x'); stream.setContentType('text/plain'); }`,
			want: nodeAnswer{errorType: "Runtime.InvalidStreamingOperation",
				message: "Cannot set content-type, too late.", trailers: true, body: "x"},
		},
		{
			name:   "a content type that is no header",
			source: `async (event, stream) => { stream.setContentType('a\r\nb: c'); stream.end(); }`,
			want: nodeAnswer{errorType: "TypeError",
				message: `Invalid character in header content ["Content-Type"]`, trace: "TypeError"},
			aws: &nodeAnswer{errorType: "TypeError", trailers: true,
				message: `Invalid character in header content ["Content-Type"]`, trace: "TypeError"},
			why: early,
		},
		{
			name: "a pipeline that breaks",
			source: `async (event, stream) => {
				await pipeline(async function* () {
					yield 'half';
					await pause(5);
					throw new RangeError('bad');
				}, stream);
			}`,
			want: nodeAnswer{errorType: "RangeError", message: "bad", trailers: true, body: "half"},
			why:  "skip: it destroys its connection, and a promise of its own that nobody handles ends it",
		},
		{
			name:   "a stream that is destroyed",
			source: `async (event, stream) => { stream.write('half'); await pause(5); stream.destroy(); }`,
			want:   nodeAnswer{errorType: "Error", message: unfinished, trailers: true, body: "half"},
			why:    "skip: it destroys its connection, and a promise of its own that nobody handles ends it",
		},
		{
			name:   "a handler that is not async",
			source: `(event, stream) => { stream.end('x'); }`,
			want:   nodeAnswer{body: "x", contentType: bytesType, complained: sync},
		},
		{
			name:   "a handler that is not async and has not written",
			source: `() => {}`,
			want:   nodeAnswer{errorType: "Error", message: sync},
			aws:    &nodeAnswer{errorType: "string", message: sync, trailers: true, trace: "none"},
			why:    "it is text there, and an error in version 4; " + early,
		},
		{
			name:   "a stream that nobody ends",
			source: `async (event, stream) => { stream.write('half'); }`,
			want:   nodeAnswer{errorType: "Error", message: unfinished, trailers: true, body: "half"},
			why:    "skip: it waits until the function times out",
		},
		{
			name:   "a stream that nobody begins",
			source: `async () => new Promise(() => {})`,
			want:   nodeAnswer{errorType: "Error", message: unfinished},
			why:    "skip: it waits until the function times out",
		},
		{
			name: "an exception in the middle",
			source: `async (event, stream) => {
				stream.write('half');
				setTimeout(() => { throw new RangeError('bad'); }, 5);
				await pause(1000);
			}`,
			want: nodeAnswer{errorType: "RangeError", message: "bad", trailers: true, body: "half",
				complained: "RangeError: bad\n    at ", exit: "exit status 129"},
			why: "skip: it posts the error beside the stream, which breaks off",
		},
		{
			name: "a rejection in the middle",
			source: `async (event, stream) => {
				stream.write('half');
				Promise.reject(new RangeError('bad'));
				await pause(1000);
			}`,
			want: nodeAnswer{errorType: "Runtime.UnhandledPromiseRejection", message: "RangeError: bad",
				trailers: true, body: "half", exit: "exit status 128"},
			why: "skip: it posts the error beside the stream, which breaks off",
		},
		{
			name:   "process.exit in the middle",
			source: `async (event, stream) => { stream.write('half'); await pause(5); process.exit(4); }`,
			want:   nodeAnswer{cutOff: true, body: "half", contentType: bytesType, exit: "exit status 4"},
			why:    "skip: its stream has a connection of its own, which may be gone before it is seen",
		},
	})
}

// Node.js 24 does not wait for the event loop.
func TestNodeStreamsWithoutCallbacks(t *testing.T) {
	t.Parallel()
	runNodeCases(t, "index.mjs", streamingModule, []nodeCase{
		{
			name: "the next event does not wait",
			source: `async (event, stream, context) => {
				globalThis.timer = setInterval(() => {}, 1000);
				stream.end(String('callbackWaitsForEmptyEventLoop' in context));
			}`,
			want: nodeAnswer{body: "false", contentType: bytesType},
		},
		{
			name:   "so it comes",
			source: `async (event, stream) => { clearInterval(globalThis.timer); stream.end('here'); }`,
			want:   nodeAnswer{body: "here", contentType: bytesType},
		},
		{
			name:   "a handler that is not async",
			source: `() => {}`,
			want:   nodeAnswer{errorType: "Error", message: "Streaming does not support non-async handlers."},
			aws: &nodeAnswer{errorType: "Error", message: "Streaming does not support non-async handlers.",
				trailers: true},
			why: "the response has begun for it, though nothing has been written",
		},
	}, withoutCallbacks)
}

// Trailers are of 4 KB at most, so a long error is cut.
func TestNodeStreamCutsALongErrorAtItsEnd(t *testing.T) {
	t.Parallel()
	if awsClient() != "" {
		t.Skip("AWS's client does not cut it")
	}
	n := newNodeRuntime(t)
	root := directoryOf(t, map[string]string{"index.mjs": `
export const handler = awslambda.streamifyResponse(async (event, stream) => {
	stream.write('half');
	const deep = (n) => { if (n === 0) { throw new RangeError('\u0001'.repeat(event.size)); } deep(n - 1); };
	Error.stackTraceLimit = 100;
	deep(100);
});`})
	n.start(root, "index.handler")
	for _, event := range []string{`{"size":0}`, `{"size":10000}`} {
		got, ok := n.invoke(nodeEvent{id: "1", event: event})
		if !ok || got.err != nil || string(got.body) != "half" {
			t.Fatalf("got %q: %v", got.body, got.err)
		}
		body, _ := base64.StdEncoding.DecodeString(got.trailer.Get(bodyHeader))
		var description struct{ ErrorType string }
		err := json.Unmarshal(body, &description)
		if err != nil || description.ErrorType != "RangeError" {
			t.Errorf("the error is %s: %v", body, err)
		}
	}
}

// startNodeLocal runs a handler on the program's own Runtime API.
func startNodeLocal(t *testing.T, source string) *localRig {
	node := needs(t, "node")
	client := clientFile(t, nodeLanguage)
	root := directoryOf(t, map[string]string{"index.js": source})
	command := []string{"env", "_HANDLER=index.handler", "LAMBDA_TASK_ROOT=" + root, node, client}
	return newTestLocal(t, localOptions{code: code{command: command}})
}

// The program's own Runtime API and the client understand each other, and the process goes on after a
// refusal.
func TestNodeClientAnswersTheLocalRuntimeAPI(t *testing.T) {
	t.Parallel()
	r := startNodeLocal(t, `exports.handler = async ({ size, fail }) => {
	if (fail) { throw new RangeError(fail); }
	return [process.pid, 'x'.repeat(size)];
};`)
	_, first := r.reply(r.direct([]byte(`{"size":1}`), r.context()))
	rep, _ := r.reply(r.direct([]byte(`{"size":7000000}`), r.context()))
	if rep.errorType != "Function.ResponseSizeTooLarge" {
		t.Errorf("a response that is too large: %q", rep.errorType)
	}
	rep, body := r.reply(r.direct([]byte(`{"fail":"bäd"}`), r.context()))
	if rep.errorType != "RangeError" ||
		!strings.HasPrefix(body, `{"errorType":"RangeError","errorMessage":"bäd"`) {
		t.Errorf("an error: %q, %s", rep.errorType, body)
	}
	if !strings.Contains(rep.xrayCause, `"message":"b\u00e4d"`) {
		t.Errorf("an error's cause: %s", rep.xrayCause)
	}
	_, last := r.reply(r.direct([]byte(`{"size":1}`), r.context()))
	if first != last {
		t.Errorf("processes %s and %s", first, last)
	}
}

func TestNodeClientStreamsToTheLocalRuntimeAPI(t *testing.T) {
	t.Parallel()
	r := startNodeLocal(t, `exports.handler = awslambda.streamifyResponse(async (event, stream) => {
	stream.setContentType('text/plain');
	stream.write('half');
	if (event.fail) { throw new RangeError(event.fail); }
	stream.end(' and half');
});`)
	rep, body := r.reply(r.direct([]byte(`{}`), r.context()))
	if body != "half and half" || rep.headers["Content-Type"] != "text/plain" || len(rep.trailers) > 0 {
		t.Errorf("a stream: %q, %v, %v", body, rep.headers, rep.trailers)
	}
	rep, body = r.reply(r.direct([]byte(`{"fail":"bad"}`), r.context()))
	if body != "half" || rep.trailers[typeHeader] != "RangeError" {
		t.Errorf("a stream that breaks: %q, %v", body, rep.trailers)
	}
}
