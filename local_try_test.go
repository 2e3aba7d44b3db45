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
