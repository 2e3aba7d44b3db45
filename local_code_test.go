//go:build !layer

package main

// local_code_test.go tests what runs a function's events: where a handler is looked for, what else may be
// named for a function, and what the developer is told if nothing is there.

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// needs skips a test if there is no such program on this machine. On a machine that is to run all tests, it
// fails.
func needs(t testing.TB, program string) {
	t.Helper()
	_, err := exec.LookPath(program)
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("there is no %s", program)
	default:
		t.Skipf("there is no %s", program)
	}
}

// write writes files, by their names, below directory.
func write(t testing.TB, directory string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(directory, name)
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		if err == nil {
			err = os.WriteFile(file, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// inDirectory makes a directory of files the working directory.
func inDirectory(t *testing.T, files map[string]string) (directory string) {
	t.Helper()
	directory, err := filepath.EvalSymlinks(t.TempDir()) // as os.Getwd has it
	if err != nil {
		t.Fatal(err)
	}
	write(t, directory, files)
	t.Chdir(directory)
	return directory
}

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
		{handler: "services/pay.handler",
			err: "looked for services/pay.js, services/pay.mjs, services/pay.cjs, "},
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
	directory := inDirectory(t, map[string]string{"src/orders.mjs": ""})
	for word, want := range map[string]string{
		"src/orders.handler":              "src/orders.handler",
		"./src/orders.handler":            "src/orders.handler",
		directory + "/src/orders.handler": "src/orders.handler",
		"src/orders.mjs": "src/orders.mjs is a file; a HANDLER names a function in it, as " +
			"src/orders.handler does",
		"src":             "is no HANDLER",
		"src/pay.handler": "no file for the handler src/pay.handler in " + directory,
		"../" + filepath.Base(directory) + "x/a.handler": "leads out of",
	} {
		handler, err := namedHandler(word)
		got := handler
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
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
		{value: "src/orders.handler", want: code{handler: "src/orders.handler"}},
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
	return slices.Equal(a.command, b.command) && a.handler == b.handler && a.directory == b.directory
}

func TestCommandIsTriedBeforeAnythingComes(t *testing.T) {
	inDirectory(t, map[string]string{
		"run.sh":     "#!/bin/sh\n",
		"windows.sh": "#!/bin/sh\r\necho\r\n",
		"empty":      "",
	})
	write(t, ".", map[string]string{"plain": "text"})
	os.Chmod("plain", 0o644)
	for command, want := range map[string]string{
		"sh":           "",
		"./run.sh":     "",
		"./empty":      "",
		"./windows.sh": "windows.sh ends in a carriage return",
		"./plain":      "./plain cannot be run",
		"./missing":    "./missing cannot be run",
		"nosuch":       "there is no command nosuch on PATH",
	} {
		err := checkCommand([]string{command})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", command, got, want)
		}
	}
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
	r.out.wait(r, "no file for the handler index.handler in "+directory)
	write(t, directory, map[string]string{"index.mjs": "export const handler = async (e) => e + 1"})
	r.invoke([]byte("41"), r.context()).want(r, "", "42")
	if len(e.parts) > 0 {
		t.Error("a request that nothing runs was accepted")
	}
	if n := strings.Count(r.out.String(), "no file for"); n != 1 {
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
	var f clientFiles
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

func TestHandlerThatDoesNotLoadIsTold(t *testing.T) {
	needs(t, "node")
	inDirectory(t, map[string]string{
		"broken.mjs": "console.log('of the file'); import './missing.mjs'; export const handler = 1",
		"good.mjs": "console.log('quiet'); setInterval(() => {}, 1000); export const handler = async () " +
			"=> 1",
	})
	r := newTestLocal(t, localOptions{
		code: code{handler: "good.handler"},
		maps: map[string]code{"a": {handler: "broken.handler"}},
	})
	r.local.try(t.Context())
	r.out.wait(r, "broken.handler does not load")
	r.out.wait(r, "Cannot find module")
	if strings.Contains(r.out.String(), "quiet") || strings.Contains(r.out.String(), "good") {
		t.Errorf("it printed\n%s", r.out)
	}
}

// It is said before anything is accepted; the exit status is that of a wrong command line.
func TestLocalRefusesAHandlerWithoutAFile(t *testing.T) {
	directory := inDirectory(t, nil)
	r := newRemoteRig(t)
	c := r.command("", "local", "src/orders.handler")
	c.exit(2)
	want := "no file for the handler src/orders.handler in " + directory + ": looked for src/orders.js, "
	if !strings.Contains(c.stderr.String(), want) {
		t.Errorf("it printed %q", c.stderr)
	}
}

func TestDebuggerHasAPortOfItsOwnForEachHandler(t *testing.T) {
	inDirectory(t, map[string]string{"a.mjs": "", "b.mjs": "", "c.py": ""})
	for first, want := range map[int]string{
		0: "node --inspect=127.0.0.1:9229|node --inspect=127.0.0.1:9230|python3 -m debugpy --listen " +
			"127.0.0.1:5678",
		9300: "node --inspect=127.0.0.1:9300|node --inspect=127.0.0.1:9301|python3 -m debugpy --listen " +
			"127.0.0.1:9302",
	} {
		l := newLocal(localOptions{inspect: true, debugPort: first}, nil)
		for range 2 { // a handler keeps its port
			var lines []string
			for _, handler := range []string{"a.handler", "b.handler", "c.handler"} {
				p, err := l.program(code{}, handler)
				if err != nil {
					t.Fatal(err)
				}
				line := p.line()
				lines = append(lines, strings.Join(line[:len(line)-1], " "))
			}
			if got := strings.Join(lines, "|"); got != want {
				t.Errorf("from %d: %s, want %s", first, got, want)
			}
		}
		l.clients.remove()
	}
}

// A process that a debugger may have stopped is not ended after its deadline.
func TestDebuggedProcessOutlivesItsDeadline(t *testing.T) {
	for _, debugged := range []bool{false, true} {
		l := newLocal(localOptions{debugged: debugged}, nil)
		w := newWorker(&pool{local: l})
		l.mu.Lock()
		w.limit(&request{deadline: time.Now().Add(time.Hour)})
		limited := w.killing != nil
		w.spare()
		l.mu.Unlock()
		if limited == debugged {
			t.Errorf("debugged %t: limited %t", debugged, limited)
		}
	}
}

// The test's runtime exits if its port is taken.
func TestReplacementStartsWhenTheOldProcessHasGone(t *testing.T) {
	ln := listen(t)
	address := ln.Addr().String()
	ln.Close()
	command := append([]string{"env", "TEST_PORT=" + address}, testCommand("port")...)
	r := newTestLocal(t, localOptions{code: code{command: command}, maxProcesses: 1})
	pids := map[string]bool{}
	for i := range 4 {
		_, pid := r.reply(r.direct(task{Do: "pid"}, r.context()))
		pids[pid] = true
		r.local.restartAll("file" + strconv.Itoa(i))
	}
	if len(pids) != 4 || strings.Contains(r.out.String(), "did not start") {
		t.Errorf("%d processes; it printed\n%s", len(pids), r.out)
	}
}

// If both go to one place they come through one pipe, and so in the order in which they were printed.
func TestOutputsKeepTheirOrder(t *testing.T) {
	script := "i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; exit 3"
	r := newTestLocal(t, localOptions{code: code{command: []string{"sh", "-c", script}}})
	r.local.term.same = true
	r.reply(r.direct([]byte("1"), r.context()))
	var want strings.Builder
	for i := range 200 {
		want.WriteString("out " + strconv.Itoa(i) + "\nerr " + strconv.Itoa(i) + "\n")
	}
	if !strings.Contains(r.out.String(), want.String()) {
		t.Errorf("the order is not that of the handler:\n%s", clip(r.out.String(), 2000))
	}
}
