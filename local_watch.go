//go:build !layer

package main

// local_watch.go restarts processes when files change. It looks at the files' times of modification again and
// again.

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	pollFiles = 500 * time.Millisecond
	maxFiles  = 50_000 // that are looked at
)

// notWatched are directories that are full of files that nobody edits.
var notWatched = []string{"node_modules", "__pycache__", "venv", "vendor", "target"}

// watch restarts processes when a file below the working directory appears, changes or goes, until ctx is
// done. If there are globs, it looks only at the files that they name.
func (l *local) watch(ctx context.Context, globs []string) {
	var patterns []*regexp.Regexp
	for _, g := range globs {
		patterns = append(patterns, globPattern(g))
	}
	before, full := scan(patterns, l.opts.record, maxFiles)
	l.term.note("watching %s", count(len(before), "file"))
	if full {
		l.term.note("there are more files; name those to watch with --watch=GLOB")
	}
	ticker := time.NewTicker(pollFiles)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now, _ := scan(patterns, l.opts.record, maxFiles)
		file := changed(before, now)
		if file != "" {
			l.restartAll(file)
		}
		before = now
	}
}

// restartAll replaces the processes that run nothing, and has the others replaced when they are ready.
func (l *local) restartAll(file string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	idle := 0
	busy := 0
	for _, p := range l.pools {
		p.failures = 0
		p.notBefore = time.Time{}
		for _, w := range slices.Clone(p.workers) {
			if w.request != nil && !w.starting() {
				w.stale = true
				busy++
				continue
			}
			w.giveBack()
			l.replace(w)
			idle++
		}
		l.schedule(p)
	}
	l.term.note("%s has changed: %d idle and %d busy processes restart, "+
		"the busy ones when they have finished", file, idle, busy)
}

// giveBack puts the request of a process that is still starting back into the queue, as its first. The
// process has not got the event yet, and what it loads may be old or may hang. local.mu is held.
func (w *worker) giveBack() {
	q := w.request
	w.assign(nil)
	if q != nil && q.over == "" {
		w.pool.queue = slices.Insert(w.pool.queue, 0, q)
	}
}

// stamp is what changes with a file.
type stamp struct {
	modified time.Time
	size     int64
}

// scan looks at the files below the working directory whose names match one of patterns, or at all files if
// there are none. It leaves out the directory except. If there are more files than most, full is true.
func scan(patterns []*regexp.Regexp, except string, most int) (files map[string]stamp, full bool) {
	files = map[string]stamp{}
	filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it has just gone, or is not ours to read
		}
		if d.IsDir() {
			if leftOut(name, d, except) {
				return filepath.SkipDir
			}
			return nil
		}
		if len(files) >= most {
			full = true
			return filepath.SkipAll
		}
		if !watched(name, patterns) {
			return nil
		}
		info, err := d.Info()
		if err == nil {
			files[name] = stamp{modified: info.ModTime(), size: info.Size()}
		}
		return nil
	})
	return files, full
}

// leftOut reports whether no file in this directory is looked at.
func leftOut(name string, d fs.DirEntry, except string) bool {
	hidden := strings.HasPrefix(d.Name(), ".") && name != "."
	if hidden || slices.Contains(notWatched, d.Name()) {
		return true
	}
	return except != "" && sameFile(name, except)
}

// watched reports whether one of patterns matches a file's name. If there are none, all files are watched.
func watched(name string, patterns []*regexp.Regexp) bool {
	if len(patterns) == 0 {
		return true
	}
	name = filepath.ToSlash(name)
	for _, p := range patterns {
		if p.MatchString(name) {
			return true
		}
	}
	return false
}

// sameFile reports whether both names are of one file.
func sameFile(a, b string) bool {
	infoA, err := os.Stat(a)
	if err != nil {
		return false
	}
	infoB, err := os.Stat(b)
	if err != nil {
		return false
	}
	return os.SameFile(infoA, infoB)
}

// changed names a file that differs between two scans. It returns "" if none does.
func changed(before, now map[string]stamp) string {
	for name, s := range now {
		if before[name] != s {
			return name
		}
	}
	for name := range before {
		_, there := now[name]
		if !there {
			return name
		}
	}
	return ""
}

// globPattern makes a pattern of a glob: * and ? stay within a directory's name, ** crosses it, and a glob
// without a slash is for the names of files in any directory.
func globPattern(glob string) *regexp.Regexp {
	glob = strings.TrimPrefix(filepath.ToSlash(filepath.Clean(glob)), "./")
	if !strings.Contains(glob, "/") {
		glob = "**/" + glob
	}
	quoted := regexp.QuoteMeta(glob)
	// The longer come first, as they begin with the shorter.
	quoted = strings.ReplaceAll(quoted, `\*\*/`, `(?:.*/)?`)
	quoted = strings.ReplaceAll(quoted, `\*\*`, `.*`)
	quoted = strings.ReplaceAll(quoted, `\*`, `[^/]*`)
	quoted = strings.ReplaceAll(quoted, `\?`, `[^/]`)
	return regexp.MustCompile("^" + quoted + "$")
}
