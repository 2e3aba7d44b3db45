//go:build !layer

package main

// local_watch_test.go tests which files restart processes.

import (
	"context"
	"os"
	"regexp"
	"syscall"
	"testing"
)

func TestGlobs(t *testing.T) {
	for _, tt := range []struct {
		glob, file string
		want       bool
	}{
		{glob: "*.js", file: "a.js", want: true}, {glob: "*.js", file: "src/deep/a.js", want: true},
		{glob: "*.js", file: "a.jsx"},
		{glob: "src/*.js", file: "src/a.js", want: true}, {glob: "src/*.js", file: "src/b/a.js"},
		{glob: "src/**/*.js", file: "src/a.js", want: true},
		{glob: "src/**/*.js", file: "src/b/c/a.js", want: true},
		{glob: "src/**", file: "src/b/c", want: true},
		{glob: "./src/a?.py", file: "src/ab.py", want: true},
		{glob: "a.b", file: "axb"}, {glob: "src/**/*.js", file: "other/src/a.js"},
	} {
		if got := globPattern(tt.glob).MatchString(tt.file); got != tt.want {
			t.Errorf("%q matches %q: %t", tt.glob, tt.file, got)
		}
	}
}

// A file that changes restarts the idle process at once and the busy one when it has finished.
func TestLocalWatches(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, d := range []string{"src", "node_modules", ".git"} {
		os.Mkdir(d, 0o700)
	}
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("src/a.js", "1")
	r := newTestLocal(t, localOptions{command: testCommand("1")})
	patterns := []*regexp.Regexp{globPattern("*.js")}
	before, _ := scan(patterns, "")
	for _, file := range []string{"node_modules/b.js", ".git/c.js", "src/d.txt"} {
		write(file, "1")
	}
	if now, _ := scan(patterns, ""); changed(before, now) != "" {
		t.Errorf("%s has changed", changed(before, now))
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
	write("src/a.js", "11")
	r.out.wait(r, "src/a.js has changed: 1 idle and 1 busy processes restart")
	g.pass()
	r.reply(busy)
	for range 3 {
		if p := pid(); p == one || p == two {
			t.Error("a process lives on")
		}
	}

	// One that hangs before it has asked for its event leaves that to the next.
	if err := syscall.Mkfifo("hang", 0o600); err != nil {
		t.Fatal(err)
	}
	r = newTestLocal(
		t, localOptions{
			command: append(
				[]string{"/bin/sh", "-c", `while [ -e hang ]; do read x <hang; sleep 1000; done; exec "$@"`,
					"sh"}, testCommand("1")...)})
	hung := r.direct(task{Do: "pid"}, r.context())
	gate{localRig: r, file: "hang"}.pass()
	os.Remove("hang")
	r.local.restartAll("hang")
	r.reply(hung)
}
