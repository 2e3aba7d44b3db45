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
	want := []string{"function", "handler", "map", "max-processes", "stack", "stage", "watch"}
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
		``:                "live-lambda.json is not JSON: EOF",
		`{`:               "live-lambda.json is not JSON: unexpected EOF",
		`{"a": 1,}`:       "live-lambda.json is not JSON: invalid character '}'",
		`{} {`:            "live-lambda.json is not JSON: more text follows its end",
		`{}}`:             "live-lambda.json is not JSON: more text follows its end",
		`[1]`:             "live-lambda.json is not a JSON object of flags",
		`{"stak": "dev"}`: "live-lambda.json: stak: there is no flag of that name",
		`{"api-key": "da2-secret"}`: "api-key: does not belong in this file: it is a secret; set " +
			"LIVE_LAMBDA_APPSYNC_API_KEY",
		`{"key": "da2-secret"}`:  "key: does not belong in this file: it is a secret; set LIVE_LAMBDA_KEY",
		`{"inspect": true}`:      "inspect: does not belong in this file",
		`{"external": true}`:     "external: does not belong in this file",
		`{"max-processes": "x"}`: "live-lambda.json: max-processes: ",
		`{"max-processes": 0}`:   "--max-processes is not from 1 to",
		`{"function": [1]}`:      "function: must be a list of strings",
		`{"map": {"a": 1}}`:      "map: a: must be a string",
		`{"map": {"a": "x.handler"}}`: "live-lambda.json: map: x.handler is no " +
			"directory and no command",
		`{"stack": null}`: "stack: must be a string, a number, true, " +
			"false, a list or an object",
		`{"handler": "x.handler"}`: "live-lambda.json: no file for the handler " +
			"x.handler",
		`{"handler": ["a", "b"]}`: "handler: must be a string",
		`{"command": "sh run.sh"}`: "command: must be a list of strings, the " +
			"program and its arguments",
		`{"command": ["nosuch"]}`: "live-lambda.json: there is no command " +
			"nosuch on PATH",
		`{"stack":"` + strings.Repeat("x", maxShared) + `"}`: "live-lambda.json is larger than 1.0 MB",
	} {
		_, _, said := sharedCommandLine(t, text)
		if !strings.Contains(said, want) || strings.Contains(said, "da2-secret") {
			t.Errorf("%s: said %q, want %q", clip(text, 100), said, want)
		}
	}
}

// Commands with fewer flags leave misspelled keys to local.
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

// The API is named as a whole: a team's host and one's own stack do not go together.
func TestSharedFileNamesNoAPIBesideAnotherOne(t *testing.T) {
	inDirectory(t, nil)
	_, f, said := sharedCommandLine(
		t, `{"host": "team.example.com", "region": "r", "stage": "s"}`, "--stack", "own")
	if said != "" || f.stack != "own" || f.variables[hostVariable] != "" ||
		f.variables[regionVariable] != "" {
		t.Errorf("stack %q, variables %v, said %q", f.stack, f.variables, said)
	}
	if f.variables["LIVE_LAMBDA_STAGE"] != "s" {
		t.Errorf("the stage is %q", f.variables["LIVE_LAMBDA_STAGE"])
	}
	t.Setenv("AWS_PROFILE", "own")
	t.Setenv(hostVariable, "own.example.com")
	_, f, _ = sharedCommandLine(t, `{"stack": "team", "profile": "team"}`)
	if f.stack != "" || f.profile != "" {
		t.Errorf("stack %q, profile %q", f.stack, f.profile)
	}
}

func TestSharedFileMayTurnOffWhatIsOff(t *testing.T) {
	inDirectory(t, nil)
	o, _, said := sharedCommandLine(t, `{"watch": false}`)
	if o.watch || len(o.globs) > 0 || said != "" {
		t.Errorf("watch %t %q, said %q", o.watch, o.globs, said)
	}
	o, _, said = sharedCommandLine(t, `{"watch": true}`, "--watch=false", "--inspect=false")
	if o.watch || o.inspect || len(o.globs) > 0 || said != "" {
		t.Errorf("watch %t %q, inspect %t, said %q", o.watch, o.globs, o.inspect, said)
	}
}
