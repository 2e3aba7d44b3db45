//go:build !layer

package main

// local_watch_test.go tests which files restart processes.

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
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
		{glob: "src/**.js", file: "src/b/c/a.js", want: true},
		{glob: "**/src/**/a.js", file: "x/src/y/a.js", want: true},
		{glob: "pages/[id].js", file: "pages/[id].js", want: true},
		{glob: "pages/[id].js", file: "pages/i.js"},

		// a directory that is named stands for what is below it
		{glob: "src", file: "src/b/c.js", want: true},
		{glob: "src/", file: "src/b/c.js", want: true},

		// a GLOB reaches what it spells
		{glob: "target/classes/**", file: "target/classes/a/B.class", want: true},
		{glob: ".build/**", file: ".build/debug/main", want: true},
		{glob: "vendor/*.js", file: "vendor/a.js", want: true},
		{glob: "*/vendor/**", file: "web/vendor/b/a.js", want: true},
		{glob: "**/node_modules/mine/*.js", file: "web/node_modules/mine/a.js", want: true},
		{glob: "vendor", file: "vendor/a.js", want: true},
		{glob: "**/.eslintrc.js", file: "src/.eslintrc.js", want: true},

		// and its wildcards do not reach what is set apart
		{glob: "**", file: "target/classes/a/B.class"},
		{glob: "*/*.js", file: "vendor/a.js"},
		{glob: "vendor/**", file: "vendor/node_modules/a.js"},
		{glob: "*.js", file: ".eslintrc.js"},
		{glob: "**", file: ".build/debug/main"},

		{glob: "**", file: "src/.env", want: true},
		{glob: "**", file: ".env.local", want: true},
	} {
		inDirectory(t, map[string]string{tt.file: "1"})
		w := newWatcher([]string{tt.glob}, nil)
		w.look()
		_, got := w.seen.files[tt.file]
		if got != tt.want {
			t.Errorf("%q names %q: %t", tt.glob, tt.file, got)
		}
	}
}

// The developer would wait for restarts that never come.
func TestGlobThatNamesNothingIsAnError(t *testing.T) {
	r := newTestLocal(t, localOptions{code: code{external: true}})
	inDirectory(t, map[string]string{"src/a.js": "1", "node_modules/a/b.mjs": "1"})
	for _, glob := range []string{"src/*.ts", "*.{js,ts}", "*.mjs", "nowhere/**", ""} {
		c := r.command(
			"", "local", "--host", "example.com", "--region", "eu-west-1", "--watch=src/*.js",
			"--watch="+glob)
		c.exit(2)
		want := "--watch=" + glob + " names no file"
		if !strings.Contains(c.stderr.String(), want) || c.stdout.String() != "" {
			t.Errorf("it said %q, want %q", c.stderr, want)
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

func symlink(t *testing.T, to, name string) {
	t.Helper()
	err := os.Symlink(to, name)
	if err != nil {
		t.Fatal(err)
	}
}

// lookOnce begins to watch what is here.
func lookOnce(except []fs.FileInfo, globs ...string) *watcher {
	w := newWatcher(globs, except)
	w.look()
	return w
}

// want checks which files are watched.
func (w *watcher) want(t *testing.T, want ...string) {
	t.Helper()
	got := slices.Sorted(maps.Keys(w.seen.files))
	if !slices.Equal(got, want) {
		t.Errorf("it looks at %q, want %q", got, want)
	}
}

// wantChanged looks again, and checks which files have changed.
func (w *watcher) wantChanged(t *testing.T, want ...string) {
	t.Helper()
	got := w.look()
	if !slices.Equal(got, want) {
		t.Errorf("%q have changed, want %q", got, want)
	}
}

func TestFilesThatNobodyEditsAreNotWatched(t *testing.T) {
	inProject(t)
	w := lookOnce(nil, "*.js")
	w.want(t, "src/a.js")
	for _, file := range []string{"node_modules/b.js", ".git/c.js", "src/d.txt"} {
		writeText(t, file, "1")
	}
	w.wantChanged(t)
	w.want(t, "src/a.js")
}

// An editor that opens a file and leaves it as it is restarts nothing.
func TestEditorsFilesRestartNothing(t *testing.T) {
	inProject(t)
	for _, globs := range [][]string{nil, {"src/**"}, {"*"}, {"src/.*", "*.js"}} {
		w := lookOnce(nil, globs...)
		scratch := []string{
			"src/.a.js.swp", "src/.a.js.swx", "src/4913", "src/a.js~", "src/#a.js#", "src/.DS_Store",
			"src/.env.swp", "src/a.js___jb_tmp___",
		}
		for _, file := range scratch {
			writeText(t, file, "1")
		}
		symlink(t, "me@host.1234:5678", "src/.#a.js") // Emacs's lock
		w.wantChanged(t)
		for _, file := range append(scratch, "src/.#a.js") {
			os.Remove(file)
		}
		w.wantChanged(t)
		w.want(t, "src/a.js")
	}
}

// As an editor saves: into another file, which takes the name.
func TestFileThatIsReplacedHasChanged(t *testing.T) {
	inProject(t)
	w := lookOnce(nil)
	writeText(t, "src/a.js~", "2")
	err := os.Rename("src/a.js~", "src/a.js")
	if err != nil {
		t.Fatal(err)
	}
	w.wantChanged(t, "src/a.js")
	os.Remove("src/a.js")
	w.wantChanged(t, "src/a.js")
}

// As a compiler does that runs when the handler starts.
func TestSameTextWrittenAgainIsNoChange(t *testing.T) {
	inProject(t)
	w := lookOnce(nil)
	os.Remove("src/a.js")
	writeText(t, "src/a.js", "1")
	w.wantChanged(t)
}

func TestSaveWithTheSameTimeAndSizeIsSeen(t *testing.T) {
	inProject(t)
	info, err := os.Stat("src/a.js")
	if err != nil {
		t.Fatal(err)
	}
	w := lookOnce(nil)
	writeText(t, "src/a.js", "2")
	os.Chtimes("src/a.js", time.Time{}, info.ModTime())
	w.wantChanged(t, "src/a.js")
	w.wantChanged(t)

	// within one step of the file system's time
	before := w.seen.files["src/a.js"]
	writeText(t, "src/a.js", "3")
	same := w.survey().files["src/a.js"]
	same.sum = before.sum
	w.seen.files["src/a.js"] = same
	w.wantChanged(t, "src/a.js")
	w.wantChanged(t)
}

// What was read once is known as long as the file stays, and is not read again when time has passed.
func TestFilesThatStayAreNotRead(t *testing.T) {
	inProject(t)
	w := lookOnce(nil)
	stamp := w.seen.files["src/a.js"]
	if stamp.sum == [32]byte{} {
		t.Fatal("it has just changed, and was not read")
	}
	info, err := os.Stat("src/a.js")
	if err != nil {
		t.Fatal(err)
	}
	later := &survey{before: w.seen.files, start: time.Now().Add(time.Minute), bytes: maxReadFiles}
	if later.stamp("src/a.js", info) != stamp || later.bytes != maxReadFiles {
		t.Error("it was read again")
	}
	poor := &survey{start: time.Now(), bytes: 0}
	if poor.stamp("src/a.js", info).differs(stamp) {
		t.Error("a file that was not read counts as changed")
	}
}

func TestFilesAreReachedThroughLinksAndOtherDirectories(t *testing.T) {
	directory := inDirectory(t, map[string]string{
		"shared/a.py":     "1",
		"lib/b.py":        "1",
		"one/app/main.py": "1",
		"one/app/data":    "1",
	})
	t.Chdir("one/app")
	symlink(t, "../../lib", "linked")
	symlink(t, "../../shared/a.py", "a.py")
	for _, tt := range []struct {
		glob    string
		watched []string
		changed string
	}{
		{glob: "*.py", watched: []string{"a.py", "linked/b.py", "main.py"}, changed: "linked/b.py"},
		{glob: "linked/*.py", watched: []string{"linked/b.py"}, changed: "linked/b.py"},
		{glob: "a.py", watched: []string{"a.py"}, changed: "a.py"},
		{glob: "../../shared/*.py", watched: []string{"../../shared/a.py"}, changed: "../../shared/a.py"},
		{glob: "../../lib", watched: []string{"../../lib/b.py"}, changed: "../../lib/b.py"},
		{
			glob:    directory + "/**/b.py",
			watched: []string{directory + "/lib/b.py"},
			changed: directory + "/lib/b.py",
		},
	} {
		w := lookOnce(nil, tt.glob)
		w.want(t, tt.watched...)
		text, _ := os.ReadFile(tt.changed)
		real, err := filepath.EvalSymlinks(tt.changed)
		if err != nil {
			t.Fatal(err)
		}
		writeText(t, real, string(text)+"1")
		w.wantChanged(t, tt.changed)
	}
}

// GLOBs overlap: each file is watched once, and the directories that only one of them enters too.
func TestSeveralGlobsAreWatchedTogether(t *testing.T) {
	inDirectory(t, map[string]string{"a.js": "1", "src/b.js": "1", "src/c/d.ts": "1", "vendor/e.js": "1"})
	lookOnce(nil, "*.js", "src/**", "vendor/*").want(t, "a.js", "src/b.js", "src/c/d.ts", "vendor/e.js")
}

// Links that lead back would make endlessly many names, and large directories that nobody edits are left
// alone.
func TestLooksAreBounded(t *testing.T) {
	inProject(t)
	for _, name := range []string{"src/up", "src/again", "node_modules/up"} {
		symlink(t, "..", name)
	}
	for i := range 100 {
		writeText(t, "node_modules/"+strconv.Itoa(i)+".js", "1")
	}
	w := newWatcher([]string{"*.js", "**/src/**"}, nil)
	w.most = 20
	w.look()
	if w.seen.full {
		t.Error("it has looked at more than is there")
	}
	w.want(t, "src/a.js")
	lookOnce(nil, "src/up/src/up/src/*.js").want(t, "src/up/src/up/src/a.js")
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
	r := newTestLocal(t, localOptions{record: directory})
	lookOnce(r.local.ownFiles()).want(t, "src/a.js")
}

// Each restart is told, and so would be the next one.
func TestOwnOutputIsNotWatched(t *testing.T) {
	inProject(t)
	out, err := os.Create("src/out.log")
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = out
	t.Cleanup(func() {
		os.Stdout = stdout
		out.Close()
	})
	r := newTestLocal(t, localOptions{})
	w := lookOnce(r.local.ownFiles())
	out.WriteString("a line\n")
	w.wantChanged(t)
	w.want(t, "src/a.js")
}

// src, node_modules and .git count too.
func TestFilesAboveTheLimitAreNotWatched(t *testing.T) {
	inProject(t)
	writeText(t, "src/b.js", "1")
	w := newWatcher(nil, nil)
	w.most = 5
	w.look()
	w.want(t, "src/a.js", "src/b.js")
	if w.seen.full {
		t.Error("five entries are too many, but five may be looked at")
	}
	w = newWatcher(nil, nil)
	w.most = 4
	w.look()
	if !w.seen.full || len(w.seen.files) != 1 {
		t.Errorf("it looks at %v, but four entries may be looked at", w.seen.files)
	}
	writeText(t, "b.js", "1") // another file is beyond the limit now, and has not gone
	w.wantChanged(t)
	writeText(t, "b.js", "2")
	w.wantChanged(t, "b.js")
}

// Handlers that write a file when they start would restart for ever. What handlers load restarts them in any
// case.
func TestHandlersThatWriteFilesAreToldOnce(t *testing.T) {
	for _, tt := range []struct {
		file  string
		stops bool
	}{
		{file: "runs.log", stops: true},
		{file: "run-$$.log", stops: true},
		{file: "made.js"},
	} {
		inProject(t)
		script := "echo 1 >>" + tt.file + `; echo started; exec "$@"`
		command := append([]string{"/bin/sh", "-c", script, "sh"}, testCommand("1")...)
		r := newTestLocal(t, localOptions{code: code{command: command}})
		r.reply(r.direct(task{}, r.context()))
		w := lookOnce(nil)
		writeText(t, "src/a.js", "11")
		r.local.follow(w)
		starts := 2
		for range 5 {
			r.out.waitTimes(r, "started\n", starts)
			r.local.follow(w)
			if !tt.stops || starts < 4 {
				starts++
			}
		}
		r.local.term.note("all is told")
		r.out.wait(r, "all is told")
		text := r.out.String()
		if strings.Count(text, "changes again and again while handlers run") != 1 ||
			strings.Count(text, "with --watch=GLOB") != 1 {
			t.Errorf("%s: it is not told once:\n%s", tt.file, text)
		}
		restarts := strings.Count(text, "has changed: ")
		if restarts != starts-1 {
			t.Errorf("%s: %d restarts, want %d:\n%s", tt.file, restarts, starts-1, text)
		}
	}
}

func TestWhoHasWrittenAFile(t *testing.T) {
	type change struct {
		file         string
		ran          bool // a handler has run meanwhile
		after        time.Duration
		again, first bool // wanted
	}
	for name, changes := range map[string][]change{
		"a developer": {
			{file: "a.txt"}, {file: "a.txt"}, {file: "a.txt"}, {file: "a.txt"},
		},
		"a developer while handlers run": {
			{file: "a.txt", ran: true},
			{file: "a.txt", ran: true, after: time.Second},
			{file: "a.txt", ran: true, after: 2 * time.Minute},
			{file: "a.txt", ran: true, after: time.Second},
		},
		"a handler": {
			{file: "a.txt", ran: true},
			{file: "b.txt", ran: true},
			{file: "a.txt", ran: true, again: true, first: true},
			{file: "a.txt", ran: true, again: true},
			{file: "a.txt", ran: true, after: time.Hour, again: true},
			{file: "other/a.txt", ran: true},
		},
		"a developer after a handler": {
			{file: "a.txt", ran: true}, {file: "a.txt", ran: true},
			{file: "a.txt", ran: true, again: true, first: true},
			{file: "a.txt"},
			{file: "a.txt", ran: true},
		},
		"what a handler may be in": {
			{file: "a.js", ran: true}, {file: "a.js", ran: true},
			{file: "a.js", ran: true, first: true},
			{file: "a.js", ran: true},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWatcher(nil, nil)
			for i, c := range changes {
				time.Sleep(c.after)
				again, first := w.written(c.file, c.ran)
				if again != c.again || first != c.first {
					t.Errorf("%s, change %d: again %t, first %t", name, i, again, first)
				}
			}
		})
	}
}

// There is nothing to tell. If this program's output goes through tee into a file here, each line that tells
// something would be followed by another one.
func TestChangeThatRestartsNothingIsNotTold(t *testing.T) {
	inProject(t)
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	w := lookOnce(nil)
	writeText(t, "src/a.js", "11")
	r.local.follow(w)
	r.local.term.note("all is told")
	r.out.wait(r, "all is told")
	if strings.Contains(r.out.String(), "has changed") {
		t.Errorf("it printed\n%s", r.out)
	}
}

// awaitIdle waits until so many processes wait for an event: one that has answered may not have asked yet.
func (r *localRig) awaitIdle(want int) {
	r.Helper()
	for r.ctx.Err() == nil {
		idle := 0
		for _, a := range r.local.activities() {
			if !a.busy {
				idle++
			}
		}
		if idle == want {
			return
		}
		time.Sleep(time.Millisecond)
	}
	r.Fatal("no process asks for an event")
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
	r.awaitIdle(1)
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

func TestFileThatChangesRestartsIdleProcess(t *testing.T) {
	inProject(t)
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	r.reply(r.direct(task{Do: "pid"}, r.context()))
	r.awaitIdle(1)
	r.local.restartAll("src/a.js")
	r.out.wait(r, "src/a.js has changed: the process restarts\n")
}

func TestSavedEventRestartsNothing(t *testing.T) {
	inProject(t)
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	r.local.firstLook(nil)
	w := r.local.files.watcher
	outside := filepath.Join(t.TempDir(), "outside")
	for _, name := range []string{"one", "./src/two.json", outside} {
		_, err := r.local.saveUnwatched(keptInvocation{Event: []byte("{}")}, name)
		if err != nil {
			t.Fatal(err)
		}
	}
	if names := w.look(); len(names) > 0 {
		t.Errorf("a saved event counts as a change of %q", names)
	}
	writeText(t, "one.json", "[1]")
	if names := w.look(); !slices.Equal(names, []string{"one.json"}) {
		t.Errorf("what has changed is %q", names)
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

// A file may have changed right before the invocation that its change is to be tried with.
func TestInvocationRunsTheCodeThatWasSavedBeforeIt(t *testing.T) {
	inProject(t)
	r := newLocalRig(t, localOptions{code: code{command: testCommand("1")}})
	t.Cleanup(r.local.beginToFollow()) // and nobody looks but who has an invocation
	r.local.firstLook(nil)
	pid := func() string { return string(r.invoke(task{Do: "pid"}, r.context()).body) }
	before := pid()
	writeText(t, "src/a.js", "11")
	for pid() == before { // a look that took long is not repeated at once
		if r.ctx.Err() != nil {
			t.Fatal("the process lives on")
		}
	}
}

// Without --watch nothing restarts but by what is run again.
func TestInvocationRestartsNothingIfChangesAreNotFollowed(t *testing.T) {
	inProject(t)
	r := newLocalRig(t, localOptions{code: code{command: testCommand("1")}})
	r.local.firstLook(nil)
	pid := func() string { return string(r.invoke(task{Do: "pid"}, r.context()).body) }
	before := pid()
	writeText(t, "src/a.js", "11")
	if pid() != before {
		t.Error("the process was restarted")
	}
}

// A look that has just taken a second does not keep an invocation from seeing what has changed since.
func TestLookBeforeAnInvocationWaitsForNoMoreThanALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatcher(nil, nil)
		w.seen = &survey{}
		w.took = time.Second
		w.looked = time.Now()
		time.Sleep(time.Second)
		if w.due() || w.dueAhead() {
			t.Error("nothing has changed")
		}
		w.noticed = true
		if w.due() || !w.dueAhead() {
			t.Error("it waits for more than an invocation should")
		}
	})
}

func TestLooksAreFurtherApartTheLongerNothingHappens(t *testing.T) {
	for _, tt := range []struct {
		name    string
		took    time.Duration // a look
		idle    time.Duration // until the last look
		noticed bool
		hears   bool
		want    time.Duration // until the next one; 0: there is none
	}{
		{name: "small and busy", took: time.Millisecond, want: 10 * time.Millisecond},
		{name: "small and idle", took: time.Millisecond, idle: time.Hour, want: 200 * time.Millisecond},
		{name: "large and busy", took: 100 * time.Millisecond, want: time.Second},
		{
			name: "large, for a minute",
			took: 100 * time.Millisecond,
			idle: time.Minute,
			want: 3157 * time.Millisecond, // and then idle for so much longer
		},
		{name: "large and idle", took: 100 * time.Millisecond, idle: time.Hour, want: 20 * time.Second},
		{
			name:    "large, and something has changed",
			took:    100 * time.Millisecond,
			idle:    time.Hour,
			noticed: true,
			want:    time.Second,
		},
		{
			name:  "the system tells",
			took:  20 * time.Millisecond,
			idle:  time.Hour,
			hears: true,
			want:  20 * time.Second,
		},
		{name: "large, and the system tells", took: 100 * time.Millisecond, idle: time.Hour, hears: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWatcher(nil, nil)
			w.seen = &survey{deaf: !tt.hears}
			w.took = tt.took
			w.noticed = tt.noticed
			w.active = time.Now()
			time.Sleep(tt.idle)
			w.looked = time.Now()
			for !w.due() && time.Since(w.looked) < time.Minute {
				time.Sleep(time.Millisecond)
			}
			got := time.Since(w.looked)
			if got >= time.Minute {
				got = 0
			}
			if tt.want < got-5*time.Millisecond || tt.want > got+5*time.Millisecond {
				t.Errorf("%s: the next look is after %v, want %v", tt.name, got, tt.want)
			}
		})
	}
}
