//go:build !layer

package main

// local_watch.go restarts processes when files change: it looks at their times of modification, again and
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
	maxFiles  = 50_000 // looked at
)

// notWatched are directories that are full of files that nobody edits.
var notWatched = []string{"node_modules", "__pycache__", "venv", "vendor", "target"}

// watch restarts processes when one of the files below the working directory that globs name (none: any)
// appears, changes or goes, until ctx is done.
func (l *local) watch(ctx context.Context, globs []string) {
	var patterns []*regexp.Regexp
	for _, g := range globs {
		patterns = append(patterns, globPattern(g))
	}
	before, full := scan(patterns, l.opts.record)
	l.term.note("watching %s", count(len(before), "file"))
	if full {
		l.term.note("there are more files; name those to watch with --watch GLOB")
	}
	ticker := time.NewTicker(pollFiles)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now, _ := scan(patterns, l.opts.record)
		if file := changed(before, now); file != "" {
			l.restartAll(file)
		}
		before = now
	}
}

// restartAll replaces the processes that run nothing now, and the others when they are ready.
func (l *local) restartAll(file string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	idle, busy := 0, 0
	for _, p := range l.pools {
		p.failures, p.notBefore = 0, time.Time{}
		for _, w := range slices.Clone(p.workers) {
			if q := w.request; q == nil || w.starting() {
				// its event has not been handed out yet; what loads may be old, or hang
				if q != nil && q.over == "" {
					p.queue = slices.Insert(p.queue, 0, q)
				}
				w.request = nil
				l.replace(w)
				idle++
			} else {
				w.stale = true
				busy++
			}
		}
		l.schedule(p)
	}
	l.term.note(
		"%s has changed: %d idle and %d busy processes restart, the busy ones when they have finished", file,
		idle, busy)
}

// stamp is what changes with a file.
type stamp struct {
	modified time.Time
	size     int64
}

// scan looks at the files below the working directory; full says that there are too many.
func scan(patterns []*regexp.Regexp, except string) (files map[string]stamp, full bool) {
	files = map[string]stamp{}
	filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // gone in this moment, or not ours to read
		case d.IsDir():
			hidden := strings.HasPrefix(d.Name(), ".") && name != "."
			if hidden || slices.Contains(notWatched, d.Name()) || except != "" && sameFile(name, except) {
				return filepath.SkipDir
			}
		case len(files) >= maxFiles:
			full = true
			return filepath.SkipAll
		case len(patterns) == 0 || slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool {
			return p.MatchString(filepath.ToSlash(name))
		}):
			if info, err := d.Info(); err == nil {
				files[name] = stamp{info.ModTime(), info.Size()}
			}
		}
		return nil
	})
	return files, full
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// changed names a file that differs between two scans.
func changed(before, now map[string]stamp) string {
	for name, s := range now {
		if before[name] != s {
			return name
		}
	}
	for name := range before {
		if _, there := now[name]; !there {
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
	for _, r := range [][2]string{{`\*\*/`, `(?:.*/)?`}, {`\*\*`, `.*`}, {`\*`, `[^/]*`}, {`\?`, `[^/]`}} {
		quoted = strings.ReplaceAll(quoted, r[0], r[1])
	}
	return regexp.MustCompile("^" + quoted + "$")
}
