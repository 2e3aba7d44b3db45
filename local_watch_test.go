//go:build !layer

package main

// local_watch_test.go tests which files restart processes.

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
)

func TestGlobsNameFiles(t *testing.T) {
	for _, tt := range []struct {
		glob string
		file string
		want bool
	}{
		{glob: "*.js", file: "a.js", want: true},
		{glob: "*.js", file: "src/deep/a.js", want: true},
		{glob: "*.js", file: "a.jsx"},
		{glob: "src/*.js", file: "src/a.js", want: true},
		{glob: "src/*.js", file: "src/b/a.js"},
		{glob: "src/**/*.js", file: "src/a.js", want: true},
		{glob: "src/**/*.js", file: "src/b/c/a.js", want: true},
		{glob: "src/**", file: "src/b/c", want: true},
		{glob: "./src/a?.py", file: "src/ab.py", want: true},
		{glob: "a.b", file: "axb"},
		{glob: "src/**/*.js", file: "other/src/a.js"},
	} {
		got := globPattern(tt.glob).MatchString(tt.file)
		if got != tt.want {
			t.Errorf("%q matches %q: %t", tt.glob, tt.file, got)
		}
	}
}

// inProject makes a directory with src/a.js the working directory.
func inProject(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, d := range []string{"src", "node_modules", ".git"} {
		os.Mkdir(d, 0o700)
	}
	writeText(t, "src/a.js", "1")
}

func writeText(t *testing.T, file, text string) {
	t.Helper()
	err := os.WriteFile(file, []byte(text), 0o600)
	if err != nil {
		t.Fatal(err)
	}
}

// wantWatched checks which files a scan looks at.
func wantWatched(t *testing.T, files map[string]stamp, want ...string) {
	t.Helper()
	got := slices.Sorted(maps.Keys(files))
	if !slices.Equal(got, want) {
		t.Errorf("it looks at %q, want %q", got, want)
	}
}

func TestFilesThatNobodyEditsAreNotWatched(t *testing.T) {
	inProject(t)
	patterns := []*regexp.Regexp{globPattern("*.js")}
	before, _ := scan(patterns, "", maxFiles)
	wantWatched(t, before, "src/a.js")
	for _, file := range []string{"node_modules/b.js", ".git/c.js", "src/d.txt"} {
		writeText(t, file, "1")
	}
	now, _ := scan(patterns, "", maxFiles)
	wantWatched(t, now, "src/a.js")
	file := changed(before, now)
	if file != "" {
		t.Errorf("%s has changed", file)
	}
}

// A recorded event would restart the process that gets it.
func TestRecordingsAreNotWatched(t *testing.T) {
	inProject(t)
	directory, err := filepath.Abs("events")
	if err != nil {
		t.Fatal(err)
	}
	os.Mkdir(directory, 0o700)
	writeText(t, "events/b.json", "1")
	files, _ := scan(nil, directory, maxFiles)
	wantWatched(t, files, "src/a.js")
}

func TestFilesAboveTheLimitAreNotWatched(t *testing.T) {
	inProject(t)
	writeText(t, "src/b.js", "1")
	files, full := scan(nil, "", 2)
	wantWatched(t, files, "src/a.js", "src/b.js")
	if full {
		t.Error("two files are too many, but two may be watched")
	}
	files, full = scan(nil, "", 1)
	wantWatched(t, files, "src/a.js")
	if !full {
		t.Error("two files are not too many, but one may be watched")
	}
}

// The idle process is restarted at once, the busy one when it has finished.
func TestFileThatChangesRestartsProcesses(t *testing.T) {
	inProject(t)
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	for _, file := range []string{"node_modules/b.js", ".git/c.js", "src/d.txt"} {
		writeText(t, file, "1") // they are not counted
	}
	pid := func() string {
		t.Helper()
		_, body := r.reply(r.direct(task{Do: "pid"}, r.context()))
		return body
	}
	one := pid()
	g := r.newGate("gate")
	busy := r.direct(task{Do: "wait", File: g.file}, r.context())
	two := pid()
	r.background(func(ctx context.Context) { r.local.watch(ctx, []string{"*.js"}) })
	r.out.wait(r, "watching 1 file")
	writeText(t, "src/a.js", "11")
	r.out.wait(r, "src/a.js has changed: 1 idle and 1 busy processes restart")
	g.pass()
	r.reply(busy)
	for range 3 {
		p := pid()
		if p == one || p == two {
			t.Error("a process lives on")
		}
	}
}

// A process that hangs before it has asked for its event leaves the event to the next process.
func TestFileThatChangesFreesRequestOfProcessThatHangsAtStart(t *testing.T) {
	t.Chdir(t.TempDir())
	err := syscall.Mkfifo("hang", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	const script = `while [ -e hang ]; do read x <hang; sleep 1000; done; exec "$@"`
	command := append([]string{"/bin/sh", "-c", script, "sh"}, testCommand("1")...)
	r := newTestLocal(t, localOptions{code: code{command: command}})
	hung := r.direct(task{Do: "pid"}, r.context())
	gate{localRig: r, file: "hang"}.pass()
	os.Remove("hang")
	r.local.restartAll("hang")
	r.reply(hung)
}
