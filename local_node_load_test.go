//go:build !layer

package main

// local_node_load_test.go tests how the Node.js client finds and loads handlers, and what it says if it
// cannot.

import (
	"context"
	"io"
	"maps"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nodeProject is a project with a handler.
type nodeProject struct {
	name    string
	handler string
	files   map[string]string
	env     []string
	want    nodeAnswer

	aws *nodeAnswer // of AWS's client, if it differs
	why string      // it differs
}

// answers is a CommonJS module whose handler answers with a text, answersESM an ES module.
func answers(text string) string { return "exports.handler = async () => '" + text + "';\n" }

func answersESM(text string) string { return "export const handler = async () => '" + text + "';\n" }

// Files are found in Lambda's order, and loaded as what they are.
func TestNodeFindsHandlers(t *testing.T) {
	t.Parallel()
	runNodeProjects(t, []nodeProject{
		{
			name:    "an ES module",
			handler: "index.handler",
			files:   map[string]string{"index.mjs": answersESM("esm")},
			want:    nodeAnswer{body: `"esm"`},
		},
		{
			name:    "an ES module by package.json",
			handler: "src/orders.handler",
			files: map[string]string{
				"package.json":  `{"type":"module"}`,
				"src/orders.js": "import fs from 'node:fs';\nexport const handler = async () => typeof fs;\n",
			},
			want: nodeAnswer{body: `"object"`},
		},
		{
			name:    "the nearest package.json counts",
			handler: "src/orders.handler",
			files: map[string]string{
				"package.json":     `{"type":"module"}`,
				"src/package.json": `{}`,
				"src/orders.js":    answers("commonjs"),
			},
			want: nodeAnswer{body: `"commonjs"`},
		},
		{
			name:    ".cjs",
			handler: "index.handler",
			files:   map[string]string{"package.json": `{"type":"module"}`, "index.cjs": answers("cjs")},
			want:    nodeAnswer{body: `"cjs"`},
		},
		{
			name:    ".js comes before .mjs and .cjs",
			handler: "index.handler",
			files: map[string]string{
				"index.js": answers("js"), "index.mjs": answersESM("mjs"), "index.cjs": answers("cjs")},
			want: nodeAnswer{body: `"js"`},
		},
		{
			name:    ".mjs comes before .cjs and TypeScript",
			handler: "index.handler",
			files: map[string]string{
				"index.ts": answersESM("ts"), "index.mjs": answersESM("mjs"), "index.cjs": answers("cjs")},
			want: nodeAnswer{body: `"mjs"`},
		},
		{
			name:    "a file without extension",
			handler: "bootstrap.handler",
			files:   map[string]string{"bootstrap": answers("bare")},
			want:    nodeAnswer{body: `"bare"`},
		},
		{
			name:    "a directory with an index.js",
			handler: "src/orders.handler",
			files:   map[string]string{"src/orders/index.js": answers("directory")},
			want:    nodeAnswer{body: `"directory"`},
		},
		{
			name:    "a directory beside a file",
			handler: "src/orders.handler",
			files:   map[string]string{"src/orders/prices.js": "", "src/orders.mjs": answersESM("file")},
			want:    nodeAnswer{body: `"file"`},
			aws: &nodeAnswer{init: true, errorType: "Runtime.ImportModuleError", trace: "any",
				message: "Error: Cannot find module '…", exit: "exit status 129"},
			why: "a developer's directory has more in it than a deployed one",
		},
		{
			name:    "a package",
			handler: "orders.handler",
			files: map[string]string{
				"node_modules/orders/package.json": `{"main":"lib/main.js"}`,
				"node_modules/orders/lib/main.js":  answers("package"),
			},
			want: nodeAnswer{body: `"package"`},
		},
		{
			name:    "names with dots",
			handler: "a.b/index.api.v1.get",
			files: map[string]string{
				"a.b/index.js": "exports.api = { v1: { get: async () => 'deep' } };\n"},
			want: nodeAnswer{body: `"deep"`},
		},
		{
			name:    "a default export's names",
			handler: "index.handler",
			files:   map[string]string{"index.mjs": "export default { handler: async () => 'default' };\n"},
			want:    nodeAnswer{body: `"default"`},
			aws: &nodeAnswer{init: true, errorType: "Runtime.HandlerNotFound",
				message: "index.handler is undefined or not exported", exit: "exit status 129"},
			why: "version 4 of AWS's client finds it",
		},
		{
			name:    "the default export",
			handler: "index.default",
			files:   map[string]string{"index.mjs": "export default async () => 'default';\n"},
			want:    nodeAnswer{body: `"default"`},
		},
		{
			name:    "what is awaited at the top",
			handler: "index.handler",
			files: map[string]string{
				"index.mjs": "const text = await new Promise((r) => setTimeout(r, 10, 'awaited'));\n" +
					"export const handler = async () => text;\n"},
			want: nodeAnswer{body: `"awaited"`},
		},
		{
			name:    "a source map",
			handler: "index.handler",
			files: map[string]string{
				"index.js": "exports.handler = async () => { throw new Error('mapped'); };\n" +
					"//# sourceMappingURL=index.js.map\n",
				"index.js.map": `{"version":3,"sources":["orders.ts"],"names":[],` +
					`"mappings":"AAKI"}`, // all of it is line 6, column 5
			},
			want: nodeAnswer{errorType: "Error", message: "mapped", complained: "orders.ts:6:5"},
		},
	})
}

// What cannot be loaded is told by Lambda's names.
func TestNodeCannotLoadHandlers(t *testing.T) {
	t.Parallel()
	missing := func(errorType, message string) nodeAnswer {
		return nodeAnswer{init: true, errorType: errorType, message: message, exit: "exit status 1",
			complained: errorType + ": "}
	}
	module := answers("here")
	projects := []nodeProject{
		{
			name:    "there is no file",
			handler: "src/orders.handler",
			files:   map[string]string{"index.js": module},
			want: missing(
				"Runtime.ImportModuleError", "Error: Cannot find module 'orders'\nRequire stack:…"),
		},
		{
			name:    "a module is missing",
			handler: "index.handler",
			files:   map[string]string{"index.js": "require('left-pad');\n"},
			want: missing(
				"Runtime.ImportModuleError", "Error: Cannot find module 'left-pad'\nRequire stack:\n- /…"),
		},
		{
			name:    "an ES module is missing",
			handler: "index.handler",
			files:   map[string]string{"index.mjs": "import 'left-pad';\n"},
			want: nodeAnswer{init: true, errorType: "Error",
				message: "Cannot find package 'left-pad' imported from /…",
				trace:   "any", exit: "exit status 1", complained: "code: 'ERR_MODULE_NOT_FOUND'"},
		},
		{
			name:    "a syntax error",
			handler: "index.handler",
			files:   map[string]string{"index.js": "exports.handler = async () => {\n\treturn 1 +;\n};\n"},
			want: nodeAnswer{init: true, errorType: "Runtime.UserCodeSyntaxError", exit: "exit status 1",
				message: "SyntaxError: Unexpected token ';'", complained: "index.js:2\n\treturn 1 +;\n"},
		},
		{
			name:    "a syntax error in an ES module",
			handler: "index.handler",
			files: map[string]string{
				"index.mjs": "export const handler = async () => {\n\treturn 1 +;\n};\n"},
			want: nodeAnswer{init: true, errorType: "Runtime.UserCodeSyntaxError", exit: "exit status 1",
				message: "SyntaxError: Unexpected token ';'", complained: "index.mjs:2\n\treturn 1 +;\n"},
		},
		{
			name:    "no such export",
			handler: "index.api.get",
			files:   map[string]string{"index.js": module},
			want:    missing("Runtime.HandlerNotFound", "index.api.get is undefined or not exported"),
		},
		{
			name:    "an export that is no function",
			handler: "index.handler",
			files:   map[string]string{"index.js": "exports.handler = { get() {} };\n"},
			want:    missing("Runtime.HandlerNotFound", "index.handler is not a function"),
		},
		{
			name:    "a name without dot",
			handler: "index",
			files:   map[string]string{"index.js": module},
			want:    missing("Runtime.MalformedHandlerName", "Bad handler"),
		},
		{
			name:    "a path with two dots",
			handler: "../index.handler",
			files:   map[string]string{"index.js": module},
			want: missing("Runtime.MalformedHandlerName", "'../index.handler' is not a valid handler name. "+
				"Use absolute paths when specifying root directories in handler names."),
		},
		{
			name:    "the module throws",
			handler: "index.handler",
			files:   map[string]string{"index.js": "throw new RangeError('no database');\n"},
			want:    missing("RangeError", "no database"),
		},
		{
			name:    "the module throws text",
			handler: "index.handler",
			files:   map[string]string{"index.mjs": "throw 'text';\n"},
			want: nodeAnswer{init: true, errorType: "string", message: "text", trace: "none",
				exit: "exit status 1", complained: "'text'\n"},
		},
		{
			name:    "an exception while the module loads",
			handler: "index.handler",
			files: map[string]string{"index.mjs": "setTimeout(() => { throw new RangeError('late'); });\n" +
				"await new Promise((r) => setTimeout(r, 1000));\n"},
			want: missing("RangeError", "late"),
		},
		{
			name:    "a rejection while the module loads",
			handler: "index.handler",
			files: map[string]string{"index.mjs": "Promise.reject(new RangeError('late'));\n" +
				"await new Promise((r) => setTimeout(r, 1000));\n"},
			want: nodeAnswer{init: true, errorType: "Runtime.UnhandledPromiseRejection",
				message: "RangeError: late", exit: "exit status 1", complained: "RangeError: late\n    at "},
			aws: &nodeAnswer{init: true, errorType: "Runtime.UnhandledPromiseRejection",
				message: "RangeError: late", exit: "exit status 128"},
		},
		{
			name:    "a kind of streaming that there is not",
			handler: "index.handler",
			files: map[string]string{"index.js": "exports.handler = async () => {};\n" +
				"exports.handler[Symbol.for('aws.lambda.runtime.handler.streaming')] = 'request';\n"},
			want: missing("Runtime.MalformedStreamingHandler", "Only response streaming is supported."),
			aws: &nodeAnswer{init: true, errorType: "ReferenceError", exit: "exit status 129",
				message: "MalformedStreamingHandler is not defined"},
			why: "it has forgotten to import the error's class",
		},
		{
			name:    "process.exit",
			handler: "index.handler",
			files:   map[string]string{"index.js": "process.exit(7);\n"},
			want:    nodeAnswer{silent: true, exit: "exit status 7"},
		},
	}
	for i := range projects {
		p := &projects[i]
		if p.aws == nil && p.want.exit == "exit status 1" {
			aws := p.want
			aws.exit = "exit status 129"
			if strings.Contains(p.want.errorType, "Syntax") {
				aws.trace = "any"
			}
			p.aws = &aws
			p.why = "its statuses are those of uncaught exceptions"
		}
	}
	runNodeProjects(t, projects)
}

// runNodeProjects runs a table, each project with a process of its own, two at a time.
func runNodeProjects(t *testing.T, projects []nodeProject) {
	needAWSVersion(t, "3")
	for _, p := range projects {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			want := p.want
			if awsClient() != "" && p.aws != nil {
				want = *p.aws
			}
			n := newNodeRuntime(t)
			n.start(directoryOf(t, p.files), p.handler, p.env...)
			got, ok := n.invoke(nodeEvent{id: "1"})
			if want.exit != "" {
				n.checkExit(want.exit)
				got.errors += n.errors.read(t)
			}
			want.check(t, got, ok)
		})
	}
}

func TestNodeHandlersPathMayBeAbsolute(t *testing.T) {
	t.Parallel()
	needAWSVersion(t, "3")
	n := newNodeRuntime(t)
	root := directoryOf(t, map[string]string{"src/orders.js": answers("absolute")})
	n.start(directoryOf(t, nil), root+"/src/orders.handler")
	got, ok := n.invoke(nodeEvent{id: "1"})
	nodeAnswer{body: `"absolute"`}.check(t, got, ok)
}

// needTypeScript skips a test if Node.js runs no TypeScript by itself.
func needTypeScript(t *testing.T) {
	needs(t, "node")
	major, minor := nodeVersion()
	if awsClient() != "" || major < 22 || major == 22 && minor < 18 {
		t.Skipf("Node.js %d.%d runs no TypeScript", major, minor)
	}
}

// Developers write imports for bundlers: without extension, of directories, or of the JavaScript that is to
// be.
func TestNodeRunsTypeScript(t *testing.T) {
	t.Parallel()
	needTypeScript(t)
	files := map[string]string{
		"src/orders.ts": `import { readFileSync } from 'node:fs';
import { one } from './lib/one';
import { two } from './lib/two.js';
import { three } from './three';
import four from './four';
import type { Order } from './types';
interface Event { id: number }
export const handler = async (event: Event): Promise<unknown[]> =>
	[event.id as number, one, two, three, four.name, typeof readFileSync];
`,
		"src/lib/one.ts":     "import { two } from './two';\nexport const one: string = 'one' + two;\n",
		"src/lib/two.ts":     "export const two: string = 'two';\n",
		"src/three/index.ts": "export const three = <T>(x: T): T => x, list: string[] = [];\n",
		"src/four.js":        "module.exports = { name: 'four' };\n",
	}
	files["src/three/index.ts"] = "export const three: string = 'three';\n"
	for name, description := range map[string]string{"no type": `{}`, "module": `{"type":"module"}`} {
		t.Run(name, func(t *testing.T) {
			n := newNodeRuntime(t)
			all := maps.Clone(files)
			all["package.json"] = description
			if name == "module" {
				all["src/four.js"] = "export default { name: 'four' };\n"
			}
			n.start(directoryOf(t, all), "src/orders.handler")
			got, ok := n.invoke(nodeEvent{id: "1", event: `{"id":7}`})
			nodeAnswer{body: `[7,"onetwo","two","three","four","function"]`}.check(t, got, ok)
		})
	}
}

func TestNodeRunsTypeScriptInCommonJS(t *testing.T) {
	t.Parallel()
	needTypeScript(t)
	n := newNodeRuntime(t)
	n.start(directoryOf(t, map[string]string{
		"orders.cts": "const { one } = require('./one');\nexports.handler = async (e: unknown): " +
			"Promise<string> => one;\n",
		"one.cts": "exports.one = 'one' as string;\n",
	}), "orders.handler")
	got, ok := n.invoke(nodeEvent{id: "1"})
	nodeAnswer{body: `"one"`}.check(t, got, ok)
}

// Syntax that is more than types needs tsx, and Node.js without TypeScript needs it anyway.
func TestNodeSaysHowToRunTypeScript(t *testing.T) {
	t.Parallel()
	if awsClient() != "" {
		t.Skip("AWS's client knows no TypeScript")
	}
	needs(t, "node")
	major, minor := nodeVersion()
	native := major > 22 || major == 22 && minor >= 18
	for _, tt := range []struct{ name, source, message string }{
		{
			name:   "an enum",
			source: "enum Size { Small = 1 }\nexport const handler = async () => Size.Small;\n",
			message: "SyntaxError [ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX]: TypeScript enum is not supported in " +
				"strip-only mode…",
		},
		{
			name: "a type that is imported like a value",
			source: "import { Id } from './types.ts';\n" +
				"export const handler = async (id: Id) => id;\n",
			message: "SyntaxError: The requested module './types.ts' does not provide an export named " +
				"'Id'. Node.js only leaves types out: import a type with \"import type\", or install tsx…",
		},
		{
			name: "a decorator",
			source: "const log = (f: unknown) => f;\nclass A { @log m() {} }\n" +
				"export const handler = async () => new A();\n",
			message: "SyntaxError: Invalid or unexpected token. Node.js only leaves types out…",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := nodeAnswer{
				errorType:  "Runtime.UserCodeSyntaxError",
				message:    tt.message,
				init:       true,
				trace:      "any",
				exit:       "exit status 1",
				complained: "\nSyntaxError",
			}
			if !native {
				want.errorType = "Runtime.ImportModuleError"
				want.message = "Node.js …"
				want.complained = "npm install --save-dev tsx"
			}
			n := newNodeRuntime(t)
			n.start(directoryOf(t, map[string]string{
				"index.ts": tt.source,
				"types.ts": "export type Id = number;\n",
			}), "index.handler")
			got, ok := n.invoke(nodeEvent{id: "1"})
			n.checkExit(want.exit)
			got.errors += n.errors.read(t) // Node.js tells the line at last
			want.check(t, got, ok)
		})
	}
}

// A project's tsx is used for what Node.js cannot do. Here it is one that puts something in place of
// TypeScript.
func TestNodeUsesTheProjectsTsx(t *testing.T) {
	t.Parallel()
	if awsClient() != "" {
		t.Skip("AWS's client knows no TypeScript")
	}
	needs(t, "node")
	for name, source := range map[string]string{
		"syntax":           "enum Size { Small = 1 }\nexport const handler = async () => Size.Small;\n",
		"syntax elsewhere": "import { size } from './size.ts';\nexport const handler = async () => size;\n",
		"paths":            "import { size } from '@/size';\nexport const handler = async () => size;\n",
		"a type that is imported like a value": "import { Id } from './types.ts';\n" +
			"export const handler = async (id: Id) => id;\n",
		"a decorator": "const log = (f: unknown) => f;\nclass A { @log m() {} }\n" +
			"export const handler = async () => new A();\n",
	} {
		t.Run(name, func(t *testing.T) {
			n := newNodeRuntime(t)
			n.start(directoryOf(t, map[string]string{
				"src/index.ts": source,
				"src/types.ts": "export type Id = number;\n",
				"src/size.ts": "export enum Size { Small = 1 }\nexport const size = " +
					"Size.Small;\n",
				"node_modules/tsx/package.json": `{"type":"module","exports":"./loader.mjs"}`,
				"node_modules/tsx/loader.mjs": "import { register } from 'node:module';\nregister('./" +
					"hooks.mjs', import.meta.url);\n",
				"node_modules/tsx/hooks.mjs": `export const load = async (url, context, next) =>
	/\.ts(\?|$)/.test(url)
	? { format: 'module', shortCircuit: true, source: 'export const handler = async () => "by tsx";' }
	: next(url, context);
`,
			}), "src/index.handler")
			got, ok := n.invoke(nodeEvent{id: "1"})
			nodeAnswer{body: `"by tsx"`}.check(t, got, ok)
		})
	}
}

// checkNode runs the client with --check.
func checkNode(t *testing.T, handler string, files map[string]string) (status int, out, complaint string) {
	if awsClient() != "" {
		t.Skip("AWS's client has no check")
	}
	node := needs(t, "node")
	root := directoryOf(t, files)
	var stdout, stderr strings.Builder
	command := exec.Command(node, clientFile(t, nodeLanguage), "--check")
	command.Dir = root
	command.Env = []string{"_HANDLER=" + handler, "LAMBDA_TASK_ROOT=" + root}
	command.Stdout = &stdout
	command.Stderr = &stderr
	command.Run()
	return command.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// It ends at once, whatever the module has left running, and the module's environment is as it will be.
func TestNodeCheckLoadsTheHandler(t *testing.T) {
	t.Parallel()
	status, out, complaint := checkNode(t, "src/orders.handler", map[string]string{
		"src/orders.js": answers("here") + "setInterval(() => {}, 1000);\n" +
			"console.log(typeof awslambda.streamifyResponse, /^AWS_Lambda_nodejs\\d+\\.x$/" +
			".test(process.env.AWS_EXECUTION_ENV));\n"})
	if status != 0 || out != "function true\n" || complaint != "" {
		t.Errorf("exit status %d, %q, %q", status, out, complaint)
	}
}

func TestNodeCheckSaysWhyItCannotLoadTheHandler(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		handler string
		want    string // the beginning of standard error; "%" stands for some text
	}{
		{
			handler: "index.other",
			want: "Runtime.HandlerNotFound: index.other is undefined or not " +
				"exported\nRuntime.HandlerNotFound: index.other is",
		},
		{
			handler: "orders.handler",
			want: "Runtime.ImportModuleError: Error: Cannot find module 'orders' Require stack: - /" +
				"%\nRuntime.ImportModuleError: ",
		},
		{handler: "throws.handler", want: "RangeError: no database\nRangeError: no database\n    at "},
		{handler: "late.handler", want: "RangeError: late\nRangeError: late\n    at "},
		{handler: "rejects.handler",
			want: "Runtime.UnhandledPromiseRejection: RangeError: no\nRangeError: no\n    at "},
	} {
		t.Run(tt.handler, func(t *testing.T) {
			t.Parallel()
			status, _, complaint := checkNode(t, tt.handler, map[string]string{
				"index.js":  answers("here"),
				"throws.js": "throw new RangeError('no database');\n",
				"late.mjs": "setTimeout(() => { throw new RangeError('late'); });\nawait new Promise(() " +
					"=> {});\n",
				"rejects.mjs": "Promise.reject(new RangeError('no'));\nawait new Promise(() => {});\n",
			})
			first, rest, _ := strings.Cut(tt.want, "%")
			if status != 1 || !strings.HasPrefix(complaint, first) || !strings.Contains(complaint, rest) {
				t.Errorf("exit status %d, %q, want %q", status, complaint, tt.want)
			}
		})
	}
}

// live-lambda closes the connection when a process is to end.
func TestNodeEndsQuietlyWhenItsConnectionIsClosed(t *testing.T) {
	t.Parallel()
	if awsClient() != "" {
		t.Skip("AWS's client tells of it")
	}
	n := newNodeRuntime(t)
	n.start(directoryOf(t, map[string]string{"index.js": answers("here") + "setInterval(() => {}, 1000);\n"}),
		"index.handler")
	n.invoke(nodeEvent{id: "1"})
	<-n.asked
	close(n.drop)
	n.checkExit("exit status 0")
	if out, complaint := n.out.read(t), n.errors.read(t); out+complaint != "" {
		t.Errorf("printed %q and %q", out, complaint)
	}
}

func TestNodeSaysThatThereIsNoRuntimeAPI(t *testing.T) {
	t.Parallel()
	if awsClient() != "" {
		t.Skip("AWS's client has words of its own")
	}
	n := newNodeRuntime(t)
	n.start(directoryOf(t, map[string]string{"index.js": answers("here")}), "index.handler",
		"AWS_LAMBDA_RUNTIME_API=127.0.0.1:1")
	n.checkExit("exit status 1")
	complaint := n.errors.read(t)
	if !strings.Contains(complaint, "cannot reach the Runtime API at 127.0.0.1:1: connect ECONNREFUSED") {
		t.Errorf("standard error is %q", complaint)
	}
}

// A process whose output nobody reads any more ends instead of telling that it cannot tell it.
func TestNodeEndsWhenNobodyReadsItsOutput(t *testing.T) {
	t.Parallel()
	if awsClient() != "" {
		t.Skip("AWS's client goes round and round")
	}
	n := newNodeRuntime(t)
	n.start(directoryOf(t, map[string]string{
		"index.js": "exports.handler = () => new Promise(() => setInterval(() => console.log('tick'), 1));\n",
	}), "index.handler")
	n.out.r.Close()
	n.errors.r.Close()
	n.events <- nodeEvent{id: "1", event: "{}"}
	n.checkExit("exit status 129")
}

// Node.js writes to pipes before it goes on, so process.exit loses nothing.
func TestNodeLosesNothingThatWasPrinted(t *testing.T) {
	t.Parallel()
	if awsClient() != "" {
		t.Skip("AWS's client loses what a full pipe has not taken")
	}
	n := newNodeRuntime(t)
	text := strings.Repeat("0123456789abcde\n", 1<<16)
	n.start(directoryOf(t, map[string]string{
		"index.js": "exports.handler = async () => {\n" +
			"\tprocess.stdout.write('0123456789abcde\\n'.repeat(65536));\n" +
			"\tprocess.exit(0);\n};\n",
	}), "index.handler", "AWS_LAMBDA_LOG_FORMAT=TEXT")
	n.events <- nodeEvent{id: "1", event: "{}"}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	context.AfterFunc(ctx, func() { n.command.Process.Signal(syscall.SIGKILL) })
	data, err := io.ReadAll(n.out.r)
	if err != nil || string(data) != text {
		t.Errorf("%d bytes, want %d: %v", len(data), len(text), err)
	}
}
