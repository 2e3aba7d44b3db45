//go:build !layer

package main

// flags_shared_test.go tests live-lambda.json: what it may have, and what wins over it.

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// sharedCommandLine parses args as `local` would in a directory whose live-lambda.json is text.
func sharedCommandLine(t *testing.T, text string, args ...string) (
	o localFlags, f *commandLine, said string) {
	t.Helper()
	err := os.WriteFile(sharedFile, []byte(text), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	f = (&console{out: &out, err: &out}).commandLine("local", localUsage)
	f.addAPI()
	o.add(f)
	words, _, ok := f.parse(args)
	if ok {
		err = o.take(f, words)
		if err != nil {
			f.wrong("%v", err)
		}
	}
	return o, f, out.String()
}

func TestSharedFileSetsFlags(t *testing.T) {
	inDirectory(t, map[string]string{"services/orders/index.mjs": "", "src/app.py": ""})
	o, f, said := sharedCommandLine(t, `{
		"stack": "dev", "stage": "alice", "max-processes": 3, "watch": true, "function": ["a*", "b"],
		"map": {"orders-*": "services/orders", "pay": "exec ./pay --port 1"}, "handler": "src/app.handler"}`)
	if said != "" {
		t.Fatal(said)
	}
	if f.stack != "dev" || f.variables["LIVE_LAMBDA_STAGE"] != "alice" || o.maxProcesses != 3 || !o.watch {
		t.Errorf("read %+v and %q, %v", o, f.stack, f.variables)
	}
	if !slices.Equal(o.functions, []string{"a*", "b"}) || o.code.handler != "src/app.handler" {
		t.Errorf("read functions %q, handler %q", o.functions, o.code.handler)
	}
	if o.maps["orders-*"].directory != "services/orders" || len(o.maps["pay"].command) != 3 ||
		len(o.maps) != 2 {
		t.Errorf("read maps %v", o.maps)
	}
	want := []string{"function", "map", "max-processes", "stack", "stage", "watch"}
	if !slices.Equal(f.shared.used, want) {
		t.Errorf("it says that it used %q, want %q", f.shared.used, want)
	}
}

func TestSharedFileMayNameACommand(t *testing.T) {
	inDirectory(t, nil)
	o, _, said := sharedCommandLine(t, `{"command": ["sh", "run.sh"]}`)
	if said != "" || !slices.Equal(o.code.command, []string{"sh", "run.sh"}) {
		t.Errorf("read %q, said %q", o.code.command, said)
	}
}

func TestCommandLineAndEnvironmentWinOverSharedFile(t *testing.T) {
	inDirectory(t, map[string]string{"src/app.py": "", "src/other.py": ""})
	t.Setenv("LIVE_LAMBDA_STAGE", "mine")
	text := `{"stack": "dev", "stage": "alice", "max-processes": 3, "map": {"a": "exec a"},
		"handler": "src/app.handler"}`
	o, f, said := sharedCommandLine(t, text, "--stack", "own", "--map", "b=exec b", "src/other.handler")
	if said != "" {
		t.Fatal(said)
	}
	names := slices.Sorted(maps.Keys(o.maps))
	if f.stack != "own" || f.variables["LIVE_LAMBDA_STAGE"] != "" || o.maxProcesses != 3 {
		t.Errorf("stack %q, variables %v, %d processes", f.stack, f.variables, o.maxProcesses)
	}
	if !slices.Equal(names, []string{"b"}) || o.code.handler != "src/other.handler" {
		t.Errorf("maps of %q, handler %q", names, o.code.handler)
	}
	o, _, said = sharedCommandLine(t, text, "--", "sh")
	if said != "" || o.code.handler != "" || !slices.Equal(o.code.command, []string{"sh"}) {
		t.Errorf("with a command: %+v, %s", o.code, said)
	}
	o, f, said = sharedCommandLine(t, text, "--config", "")
	if said != "" || f.stack != "" || o.code.ways() > 0 {
		t.Errorf("without the file: %q, %+v, %s", f.stack, o.code, said)
	}
}

func TestSharedFileThatIsWrongSaysHow(t *testing.T) {
	inDirectory(t, nil)
	for text, want := range map[string]string{
		`{`:               "live-lambda.json is not JSON",
		`[1]`:             "live-lambda.json is not a JSON object of flags",
		`{"stak": "dev"}`: "live-lambda.json: stak: there is no flag of that name",
		`{"api-key": "da2-secret"}`: "api-key: does not belong into this file: it is a secret; set " +
			"LIVE_LAMBDA_APPSYNC_API_KEY",
		`{"external": true}`:     "external: does not belong into this file",
		`{"max-processes": "x"}`: "live-lambda.json: max-processes: ",
		`{"max-processes": 0}`:   "--max-processes is not from 1 to",
		`{"function": [1]}`:      "function: not a list of texts",
		`{"map": {"a": 1}}`:      "map: a: not a text",
		`{"map": {"a": "x.handler"}}`: "live-lambda.json: map: x.handler is no " +
			"directory and no command",
		`{"stack": null}`: "stack: not a text, number, truth value, " +
			"list or object",
		`{"handler": "x.handler"}`:                           "no file for the handler x.handler",
		`{"handler": ["a", "b"]}`:                            "handler: not a text",
		`{"command": ["nosuch"]}`:                            "there is no command nosuch on PATH",
		`{"stack":"` + strings.Repeat("x", maxShared) + `"}`: "live-lambda.json is larger than 1.0 MB",
	} {
		_, _, said := sharedCommandLine(t, text)
		if !strings.Contains(said, want) || strings.Contains(said, "da2-secret") {
			t.Errorf("%s: said %q, want %q", clip(text, 100), said, want)
		}
	}
}

// They have fewer flags than local, which says what is misspelled.
func TestOtherCommandsTakeWhatTheyKnowOfTheSharedFile(t *testing.T) {
	inDirectory(t, map[string]string{
		sharedFile: `{"stack": "dev", "max-processes": 2, "handler": "a.handler"}`,
		"a.mjs":    "",
	})
	var out bytes.Buffer
	f := (&console{out: &out, err: &out}).commandLine("invoke", invokeUsage)
	var o invokeFlags
	o.addHandlers(f)
	f.addShared(false)
	_, _, ok := f.parse(nil)
	if !ok || o.maxProcesses != 2 || f.shared.handler != "a.handler" {
		t.Errorf("%d processes, %q, said %q", o.maxProcesses, f.shared.handler, out.String())
	}
}
