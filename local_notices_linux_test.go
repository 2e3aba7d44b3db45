//go:build !layer

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// hearProject begins to watch the project here, of which the system tells. A look may be due at once.
func hearProject(t *testing.T, globs ...string) *watcher {
	t.Helper()
	n := openNotices()
	t.Cleanup(n.close)
	if !n.hear(".") {
		unavailable(t, "a file system that tells of changes")
	}
	w := newWatcher(globs, nil)
	w.notices = n
	w.look()
	w.hasPaused()
	w.active = w.looked
	return w
}

func TestSystemTellsOfEachChange(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T)
		want   []string
	}{
		"written in place": {
			change: func(t *testing.T) { writeText(t, "src/a.js", "11") },
			want:   []string{"src/a.js"},
		},
		"renamed over it": {
			change: func(t *testing.T) {
				writeText(t, "node_modules/new", "11")
				rename(t, "node_modules/new", "src/a.js")
			},
			want: []string{"src/a.js"},
		},
		"a new file": {
			change: func(t *testing.T) { writeText(t, "src/b.js", "1") },
			want:   []string{"src/b.js"},
		},
		"gone": {
			change: func(t *testing.T) { os.Remove("src/a.js") },
			want:   []string{"src/a.js"},
		},
		"a new directory": {
			change: func(t *testing.T) { write(t, "src/new", map[string]string{"b.js": "1"}) },
			want:   []string{"src/new/b.js"},
		},
		"a directory renamed": {
			change: func(t *testing.T) { rename(t, "src", "lib") },
			want:   []string{"lib/a.js", "src/a.js"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inProject(t)
			w := hearProject(t)
			if w.dueNow() || w.seen.deaf {
				t.Fatal("it looks although nothing has changed")
			}
			tt.change(t)
			if !w.dueNow() {
				t.Error("nothing was told")
			}
			w.wantChanged(t, tt.want...)
			for _, file := range tt.want { // what has changed is heard too
				_, err := os.Stat(file)
				if err == nil {
					w.hasPaused()
					writeText(t, file, "more")
					if !w.dueNow() {
						t.Errorf("nothing was told of another change of %s", file)
					}
				}
			}
		})
	}
}

// hasPaused has the last look be so long ago that the next one is due if something has changed, and only
// then.
func (w *watcher) hasPaused() {
	w.took = time.Minute
	w.looked = time.Now().Add(-busyPause * w.took)
}

// dueNow reports whether a look is due, by what has been told until now.
func (w *watcher) dueNow() bool {
	w.hear()
	return w.due()
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	err := os.Rename(from, to)
	if err != nil {
		t.Fatal(err)
	}
}

// What the system does not tell is looked for.
func TestPlacesThatNothingIsToldOfAreLookedAt(t *testing.T) {
	for name, tt := range map[string]struct {
		glob  string
		links bool
		deaf  bool
	}{
		"all":                 {glob: "**"},
		"links beside that":   {glob: "src/*.js", links: true},
		"a link":              {glob: "**", links: true, deaf: true},
		"a missing directory": {glob: "other/*.js", deaf: true},
		"by way of a link":    {glob: "linked/new/*.js", links: true, deaf: true},
		"above":               {glob: "../*.js", deaf: true},
		"no file system":      {glob: "/proc/sys/kernel/ostype", deaf: true},
	} {
		t.Run(name, func(t *testing.T) {
			inProject(t)
			if tt.links {
				symlink(t, "src", "linked")
			}
			w := hearProject(t, tt.glob)
			if w.seen.deaf != tt.deaf || w.dueNow() != tt.deaf {
				t.Errorf("deaf: %t, want %t", w.seen.deaf, tt.deaf)
			}
		})
	}
}

func TestDirectoryOnTheWayThatBecomesAnotherIsTold(t *testing.T) {
	inProject(t)
	write(t, "build/src", map[string]string{"a.js": "1"})
	write(t, "next/src", map[string]string{"a.js": "22"})
	w := hearProject(t, "build/src/**")
	if w.dueNow() || w.seen.deaf {
		t.Fatal("it looks although nothing has changed")
	}
	rename(t, "build", "old")
	rename(t, "next", "build")
	if !w.dueNow() {
		t.Error("nothing was told")
	}
	w.wantChanged(t, "build/src/a.js")
}

// A file may be written by another of its names, of which nobody is told.
func TestFileWithAnotherNameIsLookedAt(t *testing.T) {
	inProject(t)
	err := os.Link("src/a.js", filepath.Join(t.TempDir(), "a.js"))
	if err != nil {
		t.Fatal(err)
	}
	w := hearProject(t)
	if !w.seen.deaf {
		t.Error("it counts on being told")
	}
}

// A file that changes while it is looked at may be told of too early.
func TestChangeDuringALookIsSeenByTheNextOne(t *testing.T) {
	inProject(t)
	w := hearProject(t)
	writeText(t, "src/a.js", "11")
	w.notices.any()
	w.seen = w.survey()            // a look
	writeText(t, "src/a.js", "12") // has gone past it
	w.hasPaused()
	if !w.dueNow() {
		t.Error("the next look is not due")
	}
	w.wantChanged(t, "src/a.js")
}
