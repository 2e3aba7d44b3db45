//go:build !layer

package main

// local_code_test.go tests what runs a function's events: where a handler is looked for, what else may be
// named for a function, and what the developer is told if nothing is there.

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestHandlerIsFoundWhereLambdaFindsIt(t *testing.T) {
	directory := inDirectory(t, map[string]string{
		"index.js":              "",
		"src/orders.mjs":        "",
		"src/old.cjs":           "",
		"src/typed.ts":          "",
		"src/module.mts":        "",
		"src/common.cts":        "",
		"src/both.ts":           "",
		"src/both.js":           "",
		"app.py":                "",
		"pkg/jobs.py":           "",
		"whole/__init__.py":     "",
		"folder.js/in.mjs":      "",
		"with space/a b.mjs":    "",
		"services/pay/index.js": "",
	})
	for _, tt := range []struct {
		handler  string
		language *language // nil: none is found
		err      string
	}{
		{handler: "index.handler", language: nodeLanguage},
		{handler: "src/orders.handler", language: nodeLanguage},
		{handler: "src/orders.api.routes.get", language: nodeLanguage},
		{handler: "src/old.handler", language: nodeLanguage},
		{handler: "src/typed.handler", language: nodeLanguage},
		{handler: "src/module.handler", language: nodeLanguage},
		{handler: "src/common.handler", language: nodeLanguage},
		{handler: "src/both.handler", language: nodeLanguage},
		{handler: "./src/orders.handler", language: nodeLanguage},
		{handler: "with space/a b.handler", language: nodeLanguage},
		{handler: "app.lambda_handler", language: pythonLanguage},
		{handler: "pkg/jobs.handler", language: pythonLanguage},
		{handler: "pkg.jobs.handler", language: pythonLanguage},
		{handler: "whole.handler", language: pythonLanguage},
		{handler: "folder.js", err: "no file for the handler folder.js"},
		{handler: "services/pay.handler", language: nodeLanguage},
		{handler: "services/mail.handler", err: "looked for services/mail/index.js, services/mail.js, "},
		{handler: "missing.handler", err: "missing.cts, missing.py, missing/__init__.py"},
		{handler: "index", err: "is no HANDLER"},
		{handler: "src/.handler", err: "is no HANDLER"},
		{handler: "src/orders.", err: "is no HANDLER"},
		{handler: "../index.handler", err: "leads out of " + directory},
		{handler: "src/../../index.handler", err: "leads out of " + directory},
		{handler: directory + "/index.handler", err: "leads out of " + directory},
	} {
		lang, _, err := findHandler(directory, tt.handler)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if lang != tt.language || !strings.Contains(got, tt.err) || tt.err == "" && err != nil {
			t.Errorf("%s: found %v, error %q, want %q", tt.handler, lang, got, tt.err)
		}
	}
}

func TestHandlerOfTheCommandLineIsCheckedAndMadeRelative(t *testing.T) {
	directory := inDirectory(t, map[string]string{"src/orders.mjs": "", "run.sh": ""})
	for _, tt := range []struct{ word, want, file, err string }{
		{word: "src/orders.handler", want: "src/orders.handler", file: "src/orders.mjs"},
		{word: "./src/orders.handler", want: "src/orders.handler", file: "src/orders.mjs"},
		{word: directory + "/src/orders.handler", want: "src/orders.handler", file: "src/orders.mjs"},
		{
			word: "src/orders.mjs",
			err:  "src/orders.mjs is a file; a HANDLER names a function in it, as src/orders.handler does",
		},
		{word: "./run.sh", err: "./run.sh is a file, and no HANDLER; a program goes after --"},
		{word: "src", err: "is no HANDLER"},
		{word: "src/pay.handler", err: "no file for the handler src/pay.handler in " + directory},
		{word: "../other/a.handler", err: "leads out of"},
	} {
		handler, file, err := namedHandler(tt.word)
		if tt.err == "" && (err != nil || handler != tt.want || file != tt.file) {
			t.Errorf("%s: got %q in %q and %v, want %q in %q", tt.word, handler, file, err, tt.want, tt.file)
		}
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: got %v, want an error with %q", tt.word, err, tt.err)
		}
	}
}

func TestLocalSaysInWhichFileTheHandlerIs(t *testing.T) {
	inDirectory(t, map[string]string{"src/orders/index.js": ""})
	var c code
	err := c.takeWords([]string{"./src/orders.handler"})
	if err != nil {
		t.Fatal(err)
	}
	r := newTestLocal(t, localOptions{code: c})
	err = r.local.prepare()
	if err != nil {
		t.Fatal(err)
	}
	r.out.wait(r, "running src/orders.handler, which is in src/orders/index.js\n")
}

func TestMapTakesHandlerDirectoryOrCommand(t *testing.T) {
	inDirectory(t, map[string]string{
		"src/orders.mjs": "",
		"run.sh":         "#!/bin/sh\n",
		"windows.sh":     "#!/bin/sh\r\n",
	})
	shell := func(line string) code { return code{command: []string{"/bin/sh", "-c", line}} }
	for _, tt := range []struct {
		value string
		want  code
		err   string
	}{
		{value: "src", want: code{directory: "src"}},
		{value: "src/orders.handler", want: code{handler: "src/orders.handler", file: "src/orders.mjs"}},
		{value: "./run.sh", want: shell("./run.sh")},
		{value: "./run.sh a b", want: shell("./run.sh a b")},
		{value: "sh", want: shell("sh")},
		{value: "cd src && exec ./run", want: shell("cd src && exec ./run")},
		{value: "A=1 run", want: shell("A=1 run")},
		{value: " ", want: shell(" ")},
		{value: "src/pay.handler",
			err: "src/pay.handler is no directory and no command, and as a HANDLER: no file"},
		{value: "nosuchcommand", err: "no directory and no command"},
		{value: "./missing.sh a", err: "./missing.sh"},
		{value: "./windows.sh a", err: "ends in a carriage return"},
	} {
		got, err := readCode(tt.value)
		if tt.err == "" {
			if err != nil || !sameCode(got, tt.want) {
				t.Errorf("%q: got %+v and %v, want %+v", tt.value, got, err, tt.want)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: got %v, want an error with %q", tt.value, err, tt.err)
		}
	}
}

func sameCode(a, b code) bool {
	return slices.Equal(a.command, b.command) && a.handler == b.handler && a.file == b.file &&
		a.directory == b.directory
}

func TestVirtualEnvironmentOfTheCodeComesFirst(t *testing.T) {
	directory := inDirectory(t, map[string]string{
		".venv/bin/python":              "",
		"services/own/.venv/bin/python": "",
		"services/none/app.py":          "",
		"active/bin/python":             "",
	})
	outside := t.TempDir()
	for _, tt := range []struct{ directory, active, want string }{
		{directory: directory, want: directory + "/.venv/bin/python"},
		{directory: directory + "/services/own", want: directory + "/services/own/.venv/bin/python"},
		{directory: directory + "/services/none", want: directory + "/.venv/bin/python"},
		{directory: directory, active: directory + "/active", want: directory + "/.venv/bin/python"},
		{directory: outside, active: directory + "/active", want: directory + "/active/bin/python"},
		{directory: outside, want: "python3"},
	} {
		t.Setenv("VIRTUAL_ENV", tt.active)
		got := pythonLanguage.interpreter(tt.directory)
		if got != tt.want {
			t.Errorf("in %s with VIRTUAL_ENV=%s: %s, want %s", tt.directory, tt.active, got, tt.want)
		}
	}
}

// Nothing is accepted, so that another local end, or the deployed code, may answer. A file that comes later
// is found.
func TestRequestWithoutAHandlerHereIsLeftAlone(t *testing.T) {
	needs(t, "node")
	directory := inDirectory(t, nil)
	r := newLocalRig(t, localOptions{})
	e := r.newEar("alone")
	e.ask(1, 1, r.context())
	e.ask(2, 2, r.context())
	other := r.context()
	other.Handler = "other.handler"
	e.ask(3, 3, other) // requests are taken in order: when this one has been told, 2 has been left alone
	r.out.wait(r, "no file for the handler index.handler in "+directory)
	r.out.wait(r, "no file for the handler other.handler in "+directory)
	write(t, directory, map[string]string{"index.mjs": "export const handler = async (e) => e + 1"})
	r.invoke([]byte("41"), r.context()).want(r, "", "42")
	if len(e.parts) > 0 {
		t.Error("a request that nothing runs was accepted")
	}
	if n := strings.Count(r.out.String(), "no file for the handler index"); n != 1 {
		t.Errorf("it said %d times that there is no file", n)
	}
}

func TestDeployedHandlerRunsFromTheDirectoryOfItsFunction(t *testing.T) {
	needs(t, "node")
	needs(t, "python3")
	inDirectory(t, map[string]string{
		"services/orders/index.mjs": "import {readFileSync} from 'node:fs'\n" +
			"export const handler = async () => readFileSync('text', 'utf8')",
		"services/orders/text": "of orders",
		"services/pay/index.py": "def handler(event, context):\n" +
			"    return open('text').read() + ' ' + context.function_name\n",
		"services/pay/text": "of",
	})
	var o localOptions
	for _, value := range []string{"orders=services/orders", "pay=services/pay"} {
		err := o.addMap(value)
		if err != nil {
			t.Fatal(err)
		}
	}
	r := newTestLocal(t, o)
	_, body := r.reply(r.direct([]byte("1"), r.context()))
	if body != `"of orders"` {
		t.Errorf("orders: %s", body)
	}
	c := r.context()
	c.FunctionName = "pay"
	_, body = r.reply(r.direct([]byte("1"), c))
	if body != `"of pay"` {
		t.Errorf("pay: %s", body)
	}
}

// The files are written anew if something has cleaned them up, and go with the local end.
func TestClientsAreFilesWhileTheyAreNeeded(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	f := clientFiles{guard: &guard{}}
	t.Cleanup(f.guard.close)
	for range 2 {
		file, err := f.file(nodeLanguage)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if string(text) != string(nodeClient) || err != nil {
			t.Fatalf("the client is %d bytes, %v", len(text), err)
		}
		os.RemoveAll(filepath.Dir(file))
	}
	file, err := f.file(pythonLanguage)
	if err != nil {
		t.Fatal(err)
	}
	f.remove()
	_, err = os.Stat(filepath.Dir(file))
	if err == nil {
		t.Error("the directory of the clients is left")
	}
}

// It is said before anything is accepted; the exit status is that of a wrong command line.
func TestLocalRefusesAHandlerWithoutAFile(t *testing.T) {
	directory := inDirectory(t, nil)
	r := newRemoteRig(t)
	c := r.command("", "local", "src/orders.handler")
	c.exit(2)
	want := "no file for the handler src/orders.handler in " + directory +
		": looked for src/orders/index.js, "
	if !strings.Contains(c.stderr.String(), want) {
		t.Errorf("it printed %q", c.stderr)
	}
}

// Whoever may publish requests names deployed handlers.
func TestDeployedHandlerIsNotTakenFromOthersFiles(t *testing.T) {
	inDirectory(
		t, map[string]string{"node_modules/x/index.js": "", ".hidden/app.py": "", "src/.x/app.py": ""})
	l := newLocal(localOptions{}, nil)
	defer l.clients.remove()
	for _, handler := range []string{
		"node_modules/x/index.handler", "./node_modules/x/index.handler", ".hidden/app.handler",
		"src/.x/app.handler",
	} {
		_, err := l.program(code{}, "orders", handler)
		if err == nil || !strings.Contains(err.Error(), "is not in a file of your own") {
			t.Errorf("%s: got %v", handler, err)
		}
		_, err = l.program(code{handler: handler}, "orders", "")
		if err != nil {
			t.Errorf("%s, named by the developer: %v", handler, err)
		}
	}
}
