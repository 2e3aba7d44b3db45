// local_node.mjs runs a Node.js function on this machine, as Lambda's managed runtimes run it. It loads the
// handler, asks the local Runtime API for an event, calls the handler, posts what has come of it, and asks
// for the next one. live-lambda starts it with the function's environment, in the function's directory. It
// needs Node.js 18 or later and nothing else.
//
// What it does, and the words that it does it in, are those of AWS's own client, aws-lambda-ric: version 3.3
// for Node.js 22 and before, version 4.0 for what Node.js 24 does otherwise. Where it differs on purpose, the
// comment there says so, and the tests have a table of it (local_node_test.go).
//
// With --check it loads the handler only, and says whether it could.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
// https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html
// https://github.com/aws/aws-lambda-nodejs-runtime-interface-client

import { existsSync, readFileSync } from 'node:fs';
import * as modules from 'node:module';
import net from 'node:net';
import path from 'node:path';
import { Writable } from 'node:stream';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { inspect, types } from 'node:util';

const require = modules.createRequire(import.meta.url);

// How the process ends if no handler catches an error. The numbers are those of AWS's client.
const exitUncaught = 129;
const exitUnhandled = 128;

const checkOnly = process.argv[2] === '--check';
let loading = true; // the handler's module is not loaded yet
let current = null; // the invocation that runs, or null
let ending = false; // an error that nobody has caught ends the process
let whenIdle = null; // is called when the event loop has nothing left to do
let api = null; // the Runtime API

async function main() {
  // On Lambda what a handler prints is written before it goes on. Here it would wait if a pipe is full, and
  // process.exit would lose it.
  for (const stream of [process.stdout, process.stderr]) {
    stream._handle?.setBlocking?.(true);
  }
  process.env.AWS_EXECUTION_ENV ||= `AWS_Lambda_nodejs${process.versions.node.split('.')[0]}.x`;
  if (!checkOnly) {
    api = new RuntimeAPI(process.env.AWS_LAMBDA_RUNTIME_API);
  }
  process.on('uncaughtException', (error) => die(error, error, exitUncaught));
  process.on('unhandledRejection', (reason) => die(unhandledRejection(reason), reason, exitUnhandled));
  process.on('beforeExit', () => {
    if (whenIdle !== null) {
      setImmediate(whenIdle); // promises do not go on from here: that takes an event of the loop
      whenIdle = null;
    }
  });
  defineGlobals();
  let handler;
  try {
    handler = await loadHandler(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
  } catch (error) {
    die(error, error, 1);
    return;
  }
  if (checkOnly) {
    process.exit(0); // whatever the module has left running
  }
  loading = false;
  serve(handler).catch(endServing);
}

// serve runs one invocation after the other.
async function serve(handler) {
  const run = handler[streamingKey] ? runStreaming : runBuffered;
  for (;;) {
    const invocation = await api.next();
    if (invocation.traceId === undefined) {
      delete process.env._X_AMZN_TRACE_ID;
    } else {
      process.env._X_AMZN_TRACE_ID = invocation.traceId;
    }
    current = invocation;
    await run(handler, invocation);
    if (ending) {
      return; // die ends the process
    }
    current = null;
  }
}

// endServing ends the process if the Runtime API cannot be talked to. live-lambda closes the connection when
// it wants the process to end, so that is no error.
function endServing(error) {
  if (error instanceof ConnectionClosed) {
    process.exit(0);
  }
  report(error);
  process.exit(1);
}

// die ends the process because of an error that nobody has caught. Lambda's caller is told of it, if there is
// one. shown is what the developer gets to see.
async function die(error, shown, status) {
  if (ending) {
    return; // the first one counts. Others may come of telling it, if nobody reads standard error any more.
  }
  ending = true;
  try {
    if (loading) {
      await dieLoading(error, shown);
    } else if (current !== null && current.posted === null) {
      await current.fail(error, shown);
    } else {
      report(shown);
      await current?.posted;
    }
  } catch {
    // There is nobody left to tell.
  }
  process.exit(loading ? 1 : status);
}

// dieLoading tells of an error of the handler's module.
async function dieLoading(error, shown) {
  if (checkOnly) {
    const { errorType, errorMessage } = described(error);
    process.stderr.write(`${errorType}: ${errorMessage.replaceAll(/\s*\n\s*/g, ' ')}\n`);
  }
  const wrongLine = error?.name === 'Runtime.UserCodeSyntaxError' && error.cause !== undefined;
  if (!wrongLine) {
    report(shown);
  }
  if (!checkOnly) {
    await api.postError('init/error', error, {});
  }
  if (wrongLine) {
    // Only Node.js itself knows which line of an ES module is wrong. It prints that if nobody catches the
    // error, and exits with 1.
    process.removeAllListeners('uncaughtException');
    setImmediate(() => {
      throw error.cause;
    });
    await new Promise(() => {});
  }
}

// unhandledRejection is what the caller gets to see of a promise whose rejection nobody has caught.
function unhandledRejection(reason) {
  let message = 'a promise was rejected';
  try {
    message = String(reason);
  } catch {
    // It cannot be told.
  }
  return runtimeError('UnhandledPromiseRejection', message, reason);
}

// report prints an error and its stack.
function report(error) {
  let text;
  try {
    text = inspect(error);
  } catch {
    text = described(error).errorMessage; // its getters fail
  }
  process.stderr.write(text + '\n');
}

// ---- Loading the handler

// loadHandler returns the function that a handler's name stands for: a path below root, a dot, and the name
// of an export, which may have dots itself.
async function loadHandler(root, name) {
  if (name.includes('..')) {
    throw runtimeError('MalformedHandlerName', `'${name}' is not a valid handler name. Use absolute paths ` +
      'when specifying root directories in handler names.');
  }
  const base = path.basename(name);
  const dot = base.indexOf('.');
  if (dot < 0) {
    throw runtimeError('MalformedHandlerName', 'Bad handler');
  }
  const module = await loadModule(path.resolve(root, path.dirname(name)), base.slice(0, dot), root);
  const keys = base.slice(dot + 1).split('.');
  const handler = find(module, keys) || find(module?.default, keys);
  if (!handler) {
    throw runtimeError('HandlerNotFound', `${name} is undefined or not exported`);
  }
  if (typeof handler !== 'function') {
    throw runtimeError('HandlerNotFound', `${name} is not a function`);
  }
  if (![undefined, null, false, 'response'].includes(handler[streamingKey])) {
    throw runtimeError('MalformedStreamingHandler', 'Only response streaming is supported.');
  }
  return handler;
}

// find follows keys from object to object.
function find(object, keys) {
  let found = object;
  for (const key of keys) {
    found = found && found[key];
  }
  return found;
}

// loadModule loads the module called name in a directory.
async function loadModule(directory, name, root) {
  try {
    const file = findModule(directory, name, root);
    // Stacks in the words of the source are worth their time only if there are source maps. The handler's own
    // file tells for the others.
    if (readFileSync(file).includes('\n//# sourceMappingURL=')) {
      process.setSourceMapsEnabled(true);
    }
    if (/\.[mc]?ts$/.test(file)) {
      return await importTypeScript(file);
    }
    if (isESModule(file)) {
      return await import(pathToFileURL(file));
    }
    return require(file);
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw runtimeError('UserCodeSyntaxError', String(error), error);
    }
    if (error?.code === 'MODULE_NOT_FOUND') {
      throw runtimeError('ImportModuleError', String(error), error);
    }
    throw error; // also ERR_MODULE_NOT_FOUND: on Lambda an ES module that is not found is an "Error"
  }
}

// findModule returns the file of a module. Lambda knows no TypeScript: there the file has been compiled or
// bundled to one of the first three.
function findModule(directory, name, root) {
  const base = path.join(directory, name);
  if (existsSync(base)) {
    try {
      return require.resolve(base); // a file without extension, or a directory with an index.js
    } catch {
      // A directory may have the name of a file beside it.
    }
  }
  for (const end of ['.js', '.mjs', '.cjs', '.ts', '.mts', '.cts', '/index.ts']) {
    if (existsSync(base + end)) {
      return base + end;
    }
  }
  return require.resolve(name, { paths: [root, directory] }); // in node_modules
}

// isESModule reports whether a JavaScript file is an ES module, by its extension or the nearest package.json.
function isESModule(file) {
  const extension = path.extname(file);
  return extension === '.mjs' || extension === '.js' && packageType(path.dirname(file)) === 'module';
}

// packageType is "type" of the nearest package.json.
function packageType(directory) {
  const parent = path.dirname(directory);
  if (path.basename(directory) === 'node_modules') {
    return undefined;
  }
  try {
    return JSON.parse(readFileSync(path.join(directory, 'package.json'), 'utf8'))?.type;
  } catch (error) {
    if (error.code !== 'ENOENT' || parent === directory) {
      return undefined; // one that cannot be read: Node.js itself says it better
    }
  }
  return packageType(parent);
}

// ---- TypeScript

// Failures of Node.js's own TypeScript that tsx knows how to avoid: syntax that is more than types, paths of
// tsconfig.json, and JSON files.
const tsxHelps = /^ERR_(UNSUPPORTED_TYPESCRIPT_SYNTAX|MODULE_NOT_FOUND|IMPORT_ATTRIBUTE_MISSING)$/;

// tsxMayHelp reports whether tsx may import what Node.js has not. Decorators, and types that are imported
// without the word type, are plain syntax errors once the types are left out.
function tsxMayHelp(error) {
  return tsxHelps.test(error?.code) || error instanceof SyntaxError && error.code === undefined;
}

// importTypeScript imports a TypeScript file. Node.js does it itself from 22.18 on, by leaving out the types,
// which costs no time. tsx, if the project has it, does what Node.js cannot do.
// https://nodejs.org/api/typescript.html
async function importTypeScript(file) {
  const url = pathToFileURL(file);
  const tsx = tsxOf(file);
  const native = Boolean(process.features.typescript);
  if (native) {
    hookTypeScript();
  } else if (tsx !== null) {
    await import(tsx);
  }
  try {
    // Without either, NODE_OPTIONS may have something like tsx.
    return native && path.extname(file) === '.cts' ? require(file) : await import(url);
  } catch (error) {
    if (!native || tsx === null || !tsxMayHelp(error)) {
      throw withHint(error, file);
    }
  }
  await import(tsx);
  url.searchParams.set('tsx', ''); // Node.js remembers that the import has failed
  return import(url);
}

// What Node.js says of a type that is imported without the word type, and of a decorator.
const likeTypes = /^(The requested module .* does not provide an export named|Invalid or unexpected token)/;

// withHint returns an error that says what to do, if that is to install tsx.
function withHint(error, file) {
  const hint = 'install tsx, which live-lambda then uses: npm install --save-dev tsx';
  if (error?.code === 'ERR_UNKNOWN_FILE_EXTENSION') {
    return runtimeError('ImportModuleError', `Node.js ${process.versions.node} does not run TypeScript ` +
      `(${file}): use Node.js 22.18 or 24, or ${hint}`, error);
  }
  if (error?.code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX') {
    const told = runtimeError('UserCodeSyntaxError', `${error}. Node.js only leaves types out: ${hint}`);
    told.stack += '\n' + error.stack; // has the line
    return told;
  }
  if (process.features.typescript && likeTypes.test(error?.message)) {
    return runtimeError('UserCodeSyntaxError', `${error}. Node.js only leaves types out: import a type with ` +
      `"import type", or ${hint}`, error);
  }
  return error;
}

// tsxOf returns the URL of tsx as the project of a file has it, or null. To import it is what
// node --import tsx does.
function tsxOf(file) {
  try {
    return pathToFileURL(modules.createRequire(file).resolve('tsx'));
  } catch {
    return null;
  }
}

// hookTypeScript makes imports work as developers write them for bundlers. It also keeps Node.js from warning
// about TypeScript without "type" in package.json, which a bundler does not need.
function hookTypeScript() {
  const emitWarning = process.emitWarning;
  process.emitWarning = (warning, ...rest) => {
    const text = String(warning);
    if (rest[0]?.code === 'MODULE_TYPELESS_PACKAGE_JSON' && /\.[mc]?ts is not specified/.test(text)) {
      return;
    }
    if (text.startsWith('Type Stripping is an experimental feature')) {
      return;
    }
    emitWarning.call(process, warning, ...rest);
  };
  modules.registerHooks?.({
    resolve(specifier, context, next) {
      try {
        return next(specifier, context);
      } catch (error) {
        const file = findImport(specifier, context.parentURL);
        if (file === null) {
          throw error;
        }
        return { url: pathToFileURL(file).href, shortCircuit: true };
      }
    },
  });
}

// findImport finds what a TypeScript file imports by a relative path without extension, of a directory, or of
// the JavaScript file that it would be compiled to. It returns null if there is no such file.
function findImport(specifier, parentURL) {
  if (!/^\.\.?(\/|$)/.test(specifier) || !/^file:.*\.[mc]?ts(\?|$)/.test(parentURL ?? '')) {
    return null;
  }
  const base = path.resolve(path.dirname(fileURLToPath(parentURL)), specifier);
  const ends = ['.ts', '.mts', '.cts', '.js', '.mjs', '.cjs', '/index.ts', '/index.js'];
  const files = ends.map((end) => base + end);
  files.unshift(base.replace(/\.([mc]?)js$/, '.$1ts'));
  return files.find((file) => file !== base && existsSync(file)) ?? null;
}

// ---- Errors

// runtimeError makes an error that the runtime, not the handler, has found. Its stack is that of its cause.
function runtimeError(type, message, cause) {
  const error = new Error(message);
  Object.defineProperty(error, 'name', { value: `Runtime.${type}` });
  Object.defineProperty(error, 'cause', { value: cause });
  Object.defineProperty(error, inspect.custom, { value: () => error.stack });
  let stack = `${error.name}: ${message}`;
  if (typeof cause?.stack === 'string') {
    const frames = cause.stack.split('\n').filter((line) => /^\s+at /.test(line));
    stack = [stack, ...frames].join('\n');
  }
  error.stack = stack;
  return error;
}

// described is an error as Lambda's callers see it.
// https://docs.aws.amazon.com/lambda/latest/dg/nodejs-exceptions.html
function described(error) {
  try {
    if (isError(error)) {
      return {
        errorType: escapeDelete(error.name),
        errorMessage: escapeDelete(error.message),
        trace: escapeDelete(error.stack)?.split('\n') ?? [],
      };
    }
    return { errorType: typeof error, errorMessage: String(error), trace: [] };
  } catch {
    return {
      errorType: 'handled',
      errorMessage: 'callback called with Error argument, but there was a problem while retrieving one or ' +
        'more of its message, name, and stack',
      trace: [],
    };
  }
}

// isError reports whether something is an error, or looks like one.
function isError(error) {
  if (types.isNativeError(error)) {
    return true;
  }
  const texts = [error?.name, error?.message, error?.stack];
  return texts.every((text) => typeof text === 'string' && text !== '');
}

// escapeDelete escapes the one character that JSON leaves as it is and a header must not have.
function escapeDelete(text) {
  return text?.replaceAll('\x7f', '%7F');
}

// xrayCause is an error in the form that X-Ray shows, or '' if it cannot be told.
function xrayCause(error) {
  try {
    const lines = escapeDelete(error.stack)?.split('\n').slice(1) ?? [];
    const stack = lines.map(xrayFrame);
    const cause = {
      working_directory: process.cwd(),
      exceptions: [{ type: escapeDelete(error.name), message: escapeDelete(error.message), stack }],
      paths: [...new Set(stack.map((frame) => frame.path))],
    };
    return JSON.stringify(cause);
  } catch {
    return '';
  }
}

// xrayFrame takes a line of a stack apart: "at label (path:line:column)".
function xrayFrame(line) {
  const text = line.trim().replaceAll(/[()]/g, '');
  const at = text.slice(text.indexOf(' ') + 1);
  const space = at.lastIndexOf(' ');
  const [file, number] = at.slice(space + 1).split(':');
  const label = space > 0 ? at.slice(0, space) : 'anonymous';
  return { path: file, line: Number.parseInt(number, 10), label };
}

// ---- The Runtime API

// ConnectionClosed says that live-lambda has closed the connection.
class ConnectionClosed extends Error {}

// RuntimeAPI talks to live-lambda's Runtime API: HTTP/1.1 on loopback, one connection, one request at a time.
// It writes HTTP itself. To load Node.js's own client takes half as long as to start Node.js. And what
// patches that client, to trace calls or to answer them in a test, is meant for the handler's calls.
class RuntimeAPI {
  constructor(address) {
    const colon = address.lastIndexOf(':');
    this.address = address;
    this.host = address.slice(0, colon);
    this.port = Number(address.slice(colon + 1));
    this.reached = false; // there has been a connection
    this.socket = null; // null if there is no connection
    this.waiting = null; // for the answer to the request that has been sent: { resolve, reject }
    this.chunks = []; // of that answer
    this.size = 0; // bytes in chunks
    this.answer = null; // that answer's head, if it has come
  }

  connect() {
    const socket = net.connect({ host: this.host, port: this.port, noDelay: true });
    let failure = new ConnectionClosed('the Runtime API has closed the connection');
    socket.on('connect', () => {
      this.reached = true;
    });
    socket.on('data', (chunk) => this.receive(chunk));
    socket.on('error', (error) => {
      if (!this.reached) {
        failure = new Error(`cannot reach the Runtime API at ${this.address}: ${error.message}`);
      }
    });
    socket.on('close', () => {
      if (this.socket === socket) {
        this.socket = null;
        this.waiting?.reject(failure);
        this.waiting = null;
      }
    });
    this.socket = socket;
  }

  // send sends a request, or the beginning of one, and returns its answer when it has come. The connection
  // keeps the process alive until then, and no longer.
  send(text) {
    if (this.socket === null) {
      this.connect();
    }
    this.socket.ref();
    this.socket.write(text);
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
    });
  }

  // receive takes a piece of an answer. live-lambda gives every answer a length.
  receive(chunk) {
    this.chunks.push(chunk);
    this.size += chunk.length;
    if (this.answer === null) {
      const data = Buffer.concat(this.chunks);
      const end = data.indexOf('\r\n\r\n');
      if (end < 0) {
        return;
      }
      this.answer = parseHead(data.toString('utf8', 0, end));
      this.chunks = [data.subarray(end + 4)];
      this.size = data.length - end - 4;
    }
    const { answer } = this;
    if (this.size < answer.length) {
      return;
    }
    answer.body = Buffer.concat(this.chunks).toString();
    this.chunks = [];
    this.size = 0;
    this.answer = null;
    this.socket.unref();
    if (answer.headers.connection === 'close') {
      this.socket = null;
    }
    const { waiting } = this;
    this.waiting = null;
    waiting.resolve(answer);
  }

  // head writes the head of a request.
  head(method, target, headers) {
    let text = `${method} /2018-06-01/runtime/${target} HTTP/1.1\r\nHost: ${this.address}\r\n` +
      'User-Agent: live-lambda-node\r\n';
    for (const name in headers) {
      text += `${name}: ${headers[name]}\r\n`;
    }
    return text + '\r\n';
  }

  // next waits for an invocation.
  async next() {
    const answer = await this.send(this.head('GET', 'invocation/next', {}));
    if (answer.status !== 200) {
      throw new Error(`the Runtime API answers next with ${answer.status}: ${answer.body}`);
    }
    return new Invocation(answer.headers, answer.body);
  }

  // post posts JSON. A refusal is nothing to act on: the Runtime API has told the caller what it has found.
  async post(target, headers, body) {
    const head = this.head('POST', target, {
      ...headers,
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(body),
    });
    await this.send(head + body);
  }

  async postError(target, error, headers) {
    const description = described(error);
    const all = { ...headers, 'Lambda-Runtime-Function-Error-Type': headerText(description.errorType) };
    const cause = asciiJSON(xrayCause(error));
    if (cause.length < 1 << 20) {
      all['Lambda-Runtime-Function-XRay-Error-Cause'] = cause;
    }
    await this.post(target, all, JSON.stringify(description));
  }
}

// parseHead takes the head of an answer apart.
function parseHead(text) {
  const lines = text.split('\r\n');
  const headers = {};
  for (const line of lines.slice(1)) {
    const colon = line.indexOf(':');
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  const length = Number(headers['content-length']);
  if (Number.isNaN(length)) {
    throw new Error('the Runtime API has answered without a Content-Length');
  }
  return { status: Number(lines[0].split(' ')[1]), headers, length };
}

// headerText makes an error's type fit for a header.
function headerText(text) {
  return String(text).slice(0, 1024).replaceAll(/[^ -~]/g, '?'); // Lambda's types are short; a header must be
}

// asciiJSON escapes what a header may not have in it.
function asciiJSON(json) {
  return json.replaceAll(/[^ -~]/g, (unit) => '\\u' + unit.charCodeAt(0).toString(16).padStart(4, '0'));
}

// ---- Invocations

// Invocation is one event, what is known about it, and what becomes of it.
class Invocation {
  constructor(headers, body) {
    this.headers = headers;
    this.body = body;
    this.id = headers['lambda-runtime-aws-request-id'];
    this.traceId = headers['lambda-runtime-trace-id'];
    this.stream = null; // of a streaming handler
    this.posted = null; // a promise that the Runtime API has the answer; null while there is none
    this.echo = {}; // headers that the answer has to repeat
    const delivery = headers['lambda-runtime-invocation-id'];
    if (delivery !== undefined) {
      this.echo['Lambda-Runtime-Invocation-Id'] = delivery;
    }
  }

  // target is the path of an answer.
  target(kind) {
    return `invocation/${encodeURIComponent(this.id)}/${kind}`;
  }

  // context is what handlers get to know.
  // https://docs.aws.amazon.com/lambda/latest/dg/nodejs-context.html
  context() {
    const deadline = Number(this.headers['lambda-runtime-deadline-ms']);
    return {
      functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
      functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
      memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
      logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
      logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
      clientContext: parseHeader(this.headers['lambda-runtime-client-context'], 'ClientContext'),
      identity: parseHeader(this.headers['lambda-runtime-cognito-identity'], 'CognitoIdentity'),
      invokedFunctionArn: this.headers['lambda-runtime-invoked-function-arn'],
      awsRequestId: this.id,
      tenantId: this.headers['lambda-runtime-aws-tenant-id'],
      getRemainingTimeInMillis: () => deadline - Date.now(),
    };
  }

  // succeed posts the response, and returns when it is taken. What JSON cannot tell is an error.
  succeed(result) {
    if (this.posted !== null) {
      return this.posted;
    }
    let body;
    try {
      body = toJSON(result);
    } catch (cause) {
      const error = runtimeError('JSONStringifyError', 'Unable to stringify response body', cause);
      return this.fail(error, cause);
    }
    this.posted = api.post(this.target('response'), this.echo, body);
    return this.posted;
  }

  // fail posts an error, or breaks off a stream that has begun, and returns when that is taken. The developer
  // gets to see shown.
  fail(error, shown = error) {
    if (this.posted !== null) {
      return this.posted;
    }
    report(shown);
    if (this.stream?.begun) {
      this.posted = this.stream.breakOff(error);
    } else {
      this.posted = api.postError(this.target('error'), error, this.echo);
    }
    return this.posted;
  }
}

// toJSON is the JSON of a handler's result.
function toJSON(result) {
  const text = JSON.stringify(result === undefined ? null : result);
  if (text === undefined) {
    throw new TypeError(`a ${typeof result} is no JSON value`);
  }
  return text;
}

// parseHeader parses JSON in a header.
function parseHeader(text, name) {
  if (!text) {
    return undefined;
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`Cannot parse ${name} as json: ${error}`);
  }
}

// waitsForEventLoop reports whether the function's runtime has callbacks, and all the waiting for the event
// loop that goes with them. Lambda has taken them away with Node.js 24.
function waitsForEventLoop() {
  const runtime = /nodejs(\d+)/.exec(process.env.AWS_EXECUTION_ENV);
  return runtime === null || Number(runtime[1]) < 24;
}

// runBuffered calls a handler that returns its response, and posts that.
async function runBuffered(handler, invocation) {
  await null; // keeps stacks short, and what AsyncLocalStorage.enterWith enters ends with the invocation
  let result;
  try {
    const event = JSON.parse(invocation.body);
    const context = invocation.context();
    // With Node.js 24 Lambda refuses a handler whose third parameter is a callback. Here it works.
    if (waitsForEventLoop() || handler.length > 2) {
      const { callback, returned, outcome } = addCallbacks(context);
      try {
        returned(handler(event, context, callback));
      } catch (error) {
        callback(error);
      }
      [result] = await outcome;
    } else {
      // If it never comes to an end, the event loop empties and the process ends. So it does on Lambda.
      result = await handler(event, context);
    }
  } catch (error) {
    await invocation.fail(error);
    return;
  }
  await invocation.succeed(result);
}

// addCallbacks makes a callback, and adds to a context what handlers could call before there were callbacks.
// returned is to be called with what the handler returns, which may be a promise. outcome is a promise of the
// handler's result in an array. The first call counts. If the event loop empties before, the result is null.
function addCallbacks(context) {
  let settle = null;
  const outcome = new Promise((resolve, reject) => {
    settle = (error, result) => {
      whenIdle = null;
      if ((error ?? null) === null) {
        resolve([result]);
      } else {
        reject(error);
      }
    };
  });
  let called = false;
  const once = (f) => (...args) => {
    if (!called) {
      called = true;
      f(...args);
    }
  };
  const succeed = once((result) => settle(null, result));
  const fail = once((error) => settle(error ?? 'handled'));
  const callback = once((error, result) => {
    if ((error ?? null) === null && context.callbackWaitsForEmptyEventLoop) {
      whenIdle = () => settle(null, result);
    } else {
      settle(error, result);
    }
  });
  Object.assign(context, { callbackWaitsForEmptyEventLoop: true, succeed, fail, done: once(settle) });
  whenIdle = () => settle(null, null);
  const returned = (value) => {
    if (isPromise(value)) {
      Promise.resolve(value).then(succeed, fail);
    }
  };
  return { callback, returned, outcome };
}

function isPromise(value) {
  return typeof value?.then === 'function';
}

// runStreaming calls a handler that writes its response to a stream.
async function runStreaming(handler, invocation) {
  await null; // as in runBuffered
  const stream = new ResponseStream(invocation, handler[highWaterMarkKey]);
  invocation.stream = stream;
  let waits = false;
  try {
    const event = JSON.parse(invocation.body);
    const context = invocation.context();
    if (waitsForEventLoop()) {
      context.callbackWaitsForEmptyEventLoop = true;
    }
    // If the event loop empties before the stream has ended, Lambda waits until the function times out. It
    // waits for nothing, so the function fails here.
    const emptied = eventLoopEmpties().then(() => {
      if (!stream.writableEnded) {
        throw notFinished();
      }
    });
    const returned = handler(event, stream, context);
    if (!isPromise(returned)) {
      throw new Error('Streaming does not support non-async handlers.');
    }
    await Promise.race([Promise.resolve(returned), emptied]);
    await Promise.race([stream.done, emptied.then(() => stream.done)]);
    waits = context.callbackWaitsForEmptyEventLoop;
  } catch (error) {
    if (error instanceof ConnectionClosed) {
      throw error;
    }
    await invocation.fail(error);
  }
  whenIdle = null;
  if (waits) {
    await eventLoopEmpties();
  }
}

// eventLoopEmpties waits until the event loop has nothing left to do.
function eventLoopEmpties() {
  return new Promise((resolve) => {
    whenIdle = resolve;
  });
}

// ---- Streams

const streamingKey = Symbol.for('aws.lambda.runtime.handler.streaming');
const highWaterMarkKey = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');

const errorTypeTrailer = 'Lambda-Runtime-Function-Error-Type';
const errorBodyTrailer = 'Lambda-Runtime-Function-Error-Body';

// defineGlobals defines what streaming handlers use.
// https://docs.aws.amazon.com/lambda/latest/dg/config-rs-write-functions.html
function defineGlobals() {
  if (['1', 'true'].includes(process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA)) {
    return;
  }
  globalThis.awslambda = {
    streamifyResponse(handler, options) {
      handler[streamingKey] = 'response';
      if (typeof options?.highWaterMark === 'number') {
        handler[highWaterMarkKey] = options.highWaterMark;
      }
      return handler;
    },
    HttpResponseStream: class {
      // from makes a stream begin with the status and the headers of an HTTP response: JSON, and eight
      // zeros. As on Lambda they go out with the first write, and not at all if there is none.
      static from(stream, prelude) {
        stream.setContentType('application/vnd.awslambda.http-integration-response');
        const json = JSON.stringify(prelude);
        stream._onBeforeFirstWrite = (write) => {
          write(json);
          write(new Uint8Array(8));
        };
        return stream;
      }
    },
  };
}

// ResponseStream is a response that is sent as it is written, in HTTP's chunks.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
class ResponseStream extends Writable {
  constructor(invocation, highWaterMark) {
    super({ highWaterMark: Math.trunc(highWaterMark) || undefined });
    this.invocation = invocation;
    this.contentType = 'application/octet-stream';
    this.written = false; // write has been called
    this.begun = false; // the request has been begun
    this.ended = false; // the request has been ended
    this.socket = null; // that it goes out by
    this.answer = null; // a promise of the Runtime API's
    this.trailers = '';
    this._onBeforeFirstWrite = null; // a name that AWS's client has given it, and that libraries use
    this.done = new Promise((resolve, reject) => {
      this.on('close', () => {
        if (this.writableFinished) {
          resolve(this.answer);
        } else {
          reject(this.errored ?? notFinished());
        }
      });
    });
    this.done.catch(() => {}); // whoever needs it waits for it
    this.on('error', () => {}); // it is in done
  }

  setContentType(type) {
    if (this.written) {
      throw runtimeError('InvalidStreamingOperation', 'Cannot set content-type, too late.', new Error());
    }
    if (/[^\t -~\x80-\xff]/.test(type)) {
      throw new TypeError('Invalid character in header content ["Content-Type"]');
    }
    this.contentType = type;
  }

  // write takes text, bytes, or anything else as JSON.
  write(chunk, encoding, callback) {
    const data = typeof chunk === 'string' || chunk instanceof Uint8Array ? chunk : JSON.stringify(chunk);
    if (!this.written) {
      this.written = true;
      this._onBeforeFirstWrite?.((prelude) => super.write(prelude));
    }
    return super.write(data, encoding, callback);
  }

  // begin sends the head of the request.
  begin() {
    if (this.begun) {
      return;
    }
    this.begun = true;
    this.answer = api.send(api.head('POST', this.invocation.target('response'), {
      ...this.invocation.echo,
      'Content-Type': this.contentType,
      'Lambda-Runtime-Function-Response-Mode': 'streaming',
      'Transfer-Encoding': 'chunked',
      Trailer: `${errorTypeTrailer}, ${errorBodyTrailer}`,
    }));
    this.socket = api.socket;
    this.socket.unref(); // until the stream ends, it is the handler that keeps the process alive
    const refused = ({ status, body }) => {
      if (!this.ended) {
        this.destroy(new Error(`the Runtime API has refused the response: ${status} ${body}`));
      }
    };
    this.answer.then(refused, (error) => this.destroy(error));
  }

  _write(chunk, encoding, done) {
    this.begin();
    if (chunk.length === 0) {
      done(); // an empty chunk would end the request
      return;
    }
    this.socket.cork();
    this.socket.write(chunk.length.toString(16) + '\r\n');
    this.socket.write(chunk);
    this.socket.write('\r\n', done);
    this.socket.uncork();
  }

  _final(done) {
    this.begin();
    this.finish(done);
  }

  // finish ends the request.
  finish(done) {
    this.ended = true;
    this.socket.ref();
    this.socket.write(`0\r\n${this.trailers}\r\n`, done);
  }

  // breakOff ends a stream that has begun with an error, after what has been written before, and returns when
  // that is taken. A stream that the handler has ended stays as it is.
  async breakOff(error) {
    if (this.destroyed && !this.ended) {
      this.trailers = errorTrailers(error);
      this.finish();
    } else if (!this.writableEnded) {
      this.trailers = errorTrailers(error);
      this.end();
    }
    await this.answer;
  }
}

function notFinished() {
  return new Error('Response stream is not finished.');
}

// errorTrailers are the lines that end a stream with an error. Go's HTTP server, and so the Runtime API,
// takes 4 KB of them: a stack may be cut.
function errorTrailers(error) {
  const description = described(error);
  const tooLong = () => Buffer.byteLength(JSON.stringify(description)) > 2500;
  while (tooLong() && description.trace.length > 0) {
    description.trace.pop();
  }
  if (tooLong()) {
    description.errorMessage = description.errorMessage.slice(0, 300);
    description.errorType = String(description.errorType).slice(0, 200);
  }
  const errorType = headerText(description.errorType).slice(0, 200);
  const body = Buffer.from(JSON.stringify(description)).toString('base64');
  return `${errorTypeTrailer}: ${errorType}\r\n${errorBodyTrailer}: ${body}\r\n`;
}

main();
