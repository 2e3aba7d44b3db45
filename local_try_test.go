//go:build !layer

package main

import (
	"os"
	"strings"
	"testing"
)

// local_try_test.go tests what is tried before the first event comes.

func TestCommandIsTriedBeforeAnythingComes(t *testing.T) {
	inDirectory(t, map[string]string{
		"run.sh":       "#!/bin/sh\n",
		"spaces.sh":    "#! /bin/sh -e\n",
		"env.sh":       "#!/usr/bin/env sh\n",
		"split.sh":     "#!/usr/bin/env -S sh -e\n",
		"windows.sh":   "#!/bin/sh\r\necho\r\n",
		"moved.py":     "#!/nosuch/python3\n",
		"env.py":       "#!/usr/bin/env nosuchpython\n",
		"bare.sh":      "echo\n",
		"empty":        "",
		"program":      "\x7fELF\x00",
		"marked.sh":    "\ufeff#!/bin/sh\n",
		"directory/ok": "",
	})
	write(t, ".", map[string]string{"plain": "text"})
	os.Chmod("plain", 0o644)
	for command, want := range map[string]string{
		"sh":           "",
		"./run.sh":     "",
		"./spaces.sh":  "",
		"./env.sh":     "",
		"./split.sh":   "",
		"./program":    "",
		"./windows.sh": "windows.sh ends in a carriage return",
		"./moved.py":   "./moved.py names /nosuch/python3, which is not there",
		"./env.py":     "./env.py names nosuchpython, which is not there",
		"./bare.sh":    "./bare.sh is no program and does not begin with #!",
		"./empty":      "./empty is no program and does not begin with #!",
		"./marked.sh":  "./marked.sh is no program and does not begin with #!",
		"./plain":      "./plain cannot be run",
		"./directory":  "./directory cannot be run",
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

// A shell command is tried as far as that does nothing.
func TestShellCommandIsTriedBeforeAnythingComes(t *testing.T) {
	inDirectory(t, map[string]string{
		"run.sh":   "#!/bin/sh\n",
		"bare.sh":  "echo\n",
		"moved.py": "#!/nosuch/python3\n",
	})
	for line, want := range map[string]string{
		"sh run.sh":           "",
		"exec ./run.sh":       "",
		"./bare.sh x":         "",
		"./moved.py x":        "./moved.py names /nosuch/python3",
		"cd / && ls":          "",
		"if true; then :; fi": "",
		"A=1 nosuch x":        "",
		"$SHELL x":            "",
		"./run.sh x":          "",
		"./missing x":         "./missing cannot be run",
		"nosuch x":            "there is no command nosuch",
		"nosuch; ls":          "",
	} {
		err := checkShellCommand(line)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

func TestHandlerThatDoesNotLoadIsTold(t *testing.T) {
	needs(t, "node")
	inDirectory(t, map[string]string{
		"broken.mjs": "console.log('of the file'); import './missing.mjs'; export const handler = 1",
		"child.mjs": "import {spawn} from 'node:child_process'; " +
			"spawn('sleep', ['1000'], {stdio: 'inherit'}); export const handler = async () => 1",
		"good.mjs": "console.log('quiet'); setInterval(() => {}, 1000); export const handler = async () " +
			"=> 1",
	})
	r := newTestLocal(t, localOptions{
		code: code{handler: "good.handler"},
		maps: map[string]code{"a": {handler: "broken.handler"}, "b": {handler: "child.handler"}},
	})
	r.local.try(t.Context())
	r.out.wait(r, "broken.handler does not load")
	r.out.wait(r, "Cannot find module")
	if strings.Contains(r.out.String(), "quiet") || strings.Contains(r.out.String(), "good") ||
		strings.Contains(r.out.String(), "child") {
		t.Errorf("it printed\n%s", r.out)
	}
}

// The client prints the error and its stack, which begins with it.
func TestErrorOfHandlerThatDoesNotLoadIsToldOnce(t *testing.T) {
	needs(t, "node")
	inDirectory(t, map[string]string{"broken.mjs": "throw new Error('no table')"})
	r := newTestLocal(t, localOptions{code: code{handler: "broken.handler"}})
	r.local.try(t.Context())
	r.out.wait(r, "    at ")
	if strings.Count(r.out.String(), "Error: no table\n") != 1 {
		t.Errorf("it printed\n%s", r.out)
	}
}

// The port is that of the first function that runs, which nobody knows when local starts.
func TestTryTakesNoDebuggersPort(t *testing.T) {
	needs(t, "node")
	inDirectory(t, map[string]string{"app.mjs": "export const handler = async () => 1\n"})
	r := newTestLocal(t, localOptions{code: code{handler: "app.handler"}, inspect: true, debugPort: 9300})
	r.local.try(t.Context())
	p, err := r.local.program(r.local.opts.code, "orders", "")
	if err != nil {
		t.Fatal(err)
	}
	if p.debugPort != 9300 {
		t.Errorf("the function's port is %d, want 9300", p.debugPort)
	}
}
