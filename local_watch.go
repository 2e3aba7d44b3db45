//go:build !layer

package main

// local_watch.go restarts processes when files change. It looks at the files: at their times and sizes, and
// at what is in those that have just changed. It does so when the system tells that something has changed in
// one of the directories (local_notices_linux.go). If the system does not tell of all of them, it looks again
// and again, less often the longer nothing happens. Either way it looks before an invocation runs.

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	pollFiles  = 500 * time.Millisecond // between two looks, at least, unless an invocation comes
	maxEntries = 100_000                // files and directories that one look goes through

	// At most the tenth part of a processor looks, and for invocations that come at most a half. If nobody
	// has changed a file or invoked for a while, two looks are as far apart as the twentieth part of that
	// while, but the pause is at most two hundred times as long as a look.
	busyPause = 10
	idlePart  = 20
	idlePause = 200
	// The system does not tell of what is written through memory (mmap), so there are looks even if it has
	// told nothing: after a thousand times as long as the last one took.
	rarePause = 1000

	// A file that changed so recently may change again without another time or size: file systems count time
	// in steps, of up to two seconds. So it is read as well.
	sameStep     = 3 * time.Second
	maxReadFile  = 1 << 20  // bytes of a file that is read
	maxReadFiles = 32 << 20 // bytes that one look reads

	// A file that changes so often while handlers run, each time this soon, seems to be written by them.
	manyWrites = 3
	writePause = time.Minute
)

// notWatched are directories that are full of files that nobody edits.
var notWatched = []string{"node_modules", "__pycache__", "venv", "vendor", "target"}

// scratch matches the names of files that editors and the Finder write beside those that somebody edits. No
// GLOB reaches them.
var scratch = regexp.MustCompile(
	`^(\..*\.sw[a-px]|4913|.*~|\.#.*|#.*#|.*___jb_(tmp|old)___|\.DS_Store)$`)

// fileWatch is who looks at the files: watch, and whoever runs an invocation again.
type fileWatch struct {
	mu      sync.Mutex // held while somebody looks; guards the following
	watcher *watcher   // nil until the first look
	follows bool       // a change restarts processes, also if nothing is run again
	notices *notices   // nil: the system tells nothing
}

// firstLook looks at the files below the working directory, or if there are globs at those that they name. A
// later look finds what has changed since. It returns how many files there are, and whether they are too many
// to look at all.
func (l *local) firstLook(globs []string) (files int, full bool) {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	w := newWatcher(globs, l.ownFiles())
	w.notices = l.files.notices
	w.look()
	l.files.watcher = w
	return len(w.seen.files), w.seen.full
}

// lookNow restarts processes if a file has changed since the last look.
func (l *local) lookNow() {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	if l.files.watcher != nil {
		l.follow(l.files.watcher)
	}
}

// watch restarts processes when a file below the working directory appears, changes or goes, until ctx is
// done. If there are globs, it looks only at the files that they name.
func (l *local) watch(ctx context.Context, globs []string) {
	stop := l.beginToFollow()
	defer stop()
	files, full := l.firstLook(globs)
	l.term.note("watching %s", count(files, "file"))
	if full {
		l.term.note("there are more than %d files and directories, and the rest is not watched; "+
			"name the files to watch with --watch=GLOB", maxEntries)
	}
	for {
		l.lookIfDue()
		select {
		case <-time.After(pollFiles):
		case <-ctx.Done():
			return
		}
	}
}

// beginToFollow has changes restart processes, until stop is called.
func (l *local) beginToFollow() (stop func()) {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	l.files.follows = true
	l.files.notices = openNotices()
	return func() {
		l.files.mu.Lock()
		defer l.files.mu.Unlock()
		l.files.follows = false
		l.files.watcher.notices = nil
		l.files.notices.close()
		l.files.notices = nil
	}
}

// lookIfDue looks if a file may have changed.
func (l *local) lookIfDue() {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	w := l.files.watcher
	now := l.activities()
	if !quiet(w.handlers, now) {
		w.active = time.Now()
	}
	w.hear()
	switch {
	case w.due():
		l.follow(w)
	case w.known():
		w.handlers = now
	}
}

// lookAhead looks if a file may have changed, before an invocation runs.
func (l *local) lookAhead() {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	w := l.files.watcher
	if w == nil || !l.files.follows {
		return
	}
	w.active = time.Now()
	w.hear()
	if w.due() || w.dueAhead() {
		l.follow(w)
	}
}

// ownFiles are files and directories that this program writes: where its output goes, and its recordings.
func (l *local) ownFiles() []fs.FileInfo {
	var own []fs.FileInfo
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		info, err := f.Stat()
		if err == nil {
			own = append(own, info)
		}
	}
	info, err := os.Stat(l.opts.record)
	if err == nil {
		own = append(own, info)
	}
	return own
}

// saveUnwatched saves an event, which restarts no process.
func (l *local) saveUnwatched(i keptInvocation, name string) (file string, err error) {
	l.files.mu.Lock() // nobody looks until the new file is known
	defer l.files.mu.Unlock()
	file, err = i.save(name, false)
	if err == nil && l.files.watcher != nil {
		l.files.watcher.know(filepath.Clean(file))
	}
	return file, err
}

// follow looks once, and restarts processes if a file has changed. What handlers seem to write restarts
// nothing: they would write it again. l.files.mu is held.
func (l *local) follow(w *watcher) {
	before := w.handlers
	w.handlers = l.activities()
	files := w.look()
	ran := !quiet(before, l.activities())
	if len(files) > 0 {
		w.active = time.Now()
	}
	cause := ""
	for _, file := range files {
		again, first := w.written(file, ran)
		if first {
			l.term.note("%s", writtenText(file))
		}
		if cause == "" && !again {
			cause = file
		}
	}
	if cause != "" {
		l.restartAll(cause)
	}
}

// writtenText says that handlers seem to write a file.
func writtenText(file string) string {
	text := file + " changes again and again while handlers run; if they write it, " +
		"name the files to watch without it, with --watch=GLOB"
	if isCode(file) {
		return text
	}
	return text + " (until it changes while none runs, it restarts nothing)"
}

// isCode reports whether a file is one that a handler may be in. Those restart processes in any case.
func isCode(file string) bool { return slices.Contains(codeExtensions(), filepath.Ext(file)) }

// activity is what a process was doing when somebody looked.
type activity struct {
	busy bool
	sent time.Time // when it last answered
}

// activities tells what the processes are doing. Those that are to end are under nil.
func (l *local) activities() map[*worker]activity {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[*worker]activity{}
	for _, p := range l.pools {
		for _, w := range p.workers {
			all[w] = activity{busy: !w.idle(), sent: w.sent}
		}
		if p.leaving > 0 {
			all[nil] = activity{busy: true}
		}
	}
	return all
}

// quiet reports whether no process has started, run or ended between two looks.
func quiet(before, now map[*worker]activity) bool {
	for _, a := range now {
		if a.busy {
			return false
		}
	}
	return maps.Equal(before, now)
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
		p.works = false
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
	switch {
	case busy > 0:
		l.term.note("%s has changed: %d idle and %d busy processes restart, "+
			"the busy ones when they have finished", file, idle, busy)
	case idle > 1:
		l.term.note("%s has changed: %d processes restart", file, idle)
	case idle > 0:
		l.term.note("%s has changed: the process restarts", file)
	}
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

// watcher finds the files that change. One goroutine uses it at a time.
type watcher struct {
	roots    []place
	except   []fs.FileInfo        // files and directories that are not watched
	most     int                  // entries of directories that one look goes through
	seen     *survey              // by the last look; nil before the first
	handlers map[*worker]activity // when it was last known that no file had changed
	writes   map[string]writes    // by what writesKey makes of the files' names
	notices  *notices             // nil: the system tells nothing
	noticed  bool                 // the system has told something since the last look began
	looked   time.Time            // when the last look ended
	took     time.Duration        // that look
	active   time.Time            // when a file had changed last, or a handler had run
}

// writes counts how often files have changed while handlers ran.
type writes struct {
	times int
	last  time.Time
}

// place is a directory to look into, and what is left there of the GLOBs that lead to it.
type place struct {
	directory string
	globs     []string
}

// newWatcher watches the files that globs name, or if there are none all files here.
func newWatcher(globs []string, except []fs.FileInfo) *watcher {
	w := &watcher{except: except, most: maxEntries, writes: map[string]writes{}}
	if len(globs) == 0 {
		globs = []string{"**"}
	}
	for _, text := range globs {
		directory, glob := cutGlob(text)
		i := slices.IndexFunc(w.roots, func(p place) bool { return p.directory == directory })
		if i < 0 {
			i = len(w.roots)
			w.roots = append(w.roots, place{directory: directory})
		}
		w.roots[i].globs = append(w.roots[i].globs, glob)
	}
	return w
}

// checkGlobs returns an error if one of globs names no file.
func checkGlobs(globs []string) error {
	for _, text := range globs {
		w := newWatcher([]string{text}, nil)
		w.look()
		if len(w.seen.files) > 0 {
			continue
		}
		if w.seen.full {
			return fmt.Errorf(
				"--watch=%s names none of the first %d files and directories here", text, w.most)
		}
		return fmt.Errorf("--watch=%s names no file; in a GLOB *, ? and ** stand for other characters", text)
	}
	return nil
}

// written counts a change of a file. again reports that it is not to restart processes, as handlers seem to
// have written the file, and first that this is to be told now. A change while none ran is somebody else's.
func (w *watcher) written(file string, ran bool) (again, first bool) {
	key := writesKey(file)
	if !ran {
		delete(w.writes, key)
		return false, false
	}
	now := time.Now()
	c := w.writes[key]
	if c.times < manyWrites && now.Sub(c.last) > writePause {
		c.times = 0
	}
	c.times++
	c.last = now
	w.writes[key] = c
	return c.times >= manyWrites && !isCode(file), c.times == manyWrites
}

// writesKey is the same for files that one handler may write: those of one kind in one directory.
func writesKey(file string) string { return filepath.Join(filepath.Dir(file), "*"+filepath.Ext(file)) }

// look looks at all files once, and names those that have changed since the last look, in order.
func (w *watcher) look() []string {
	before := w.seen
	start := time.Now()
	w.notices.any() // what is told from now on may come too late for this look
	w.noticed = false
	w.seen = w.survey()
	w.looked = time.Now()
	w.took = w.looked.Sub(start)
	if before == nil {
		w.active = w.looked
		return nil
	}
	return changed(before, w.seen)
}

// hear takes what the system has told.
func (w *watcher) hear() {
	told := w.notices.any()
	w.noticed = w.noticed || told
}

// due reports whether it is time for a look: something has changed, or may have and nobody would tell.
func (w *watcher) due() bool {
	pause := time.Since(w.looked)
	switch {
	case w.noticed:
		return pause >= busyPause*w.took
	case w.known():
		return pause >= rarePause*w.took
	}
	return pause >= max(busyPause*w.took, min(time.Since(w.active)/idlePart, idlePause*w.took))
}

// dueAhead reports whether it is time for a look before an invocation runs, when due has said no: something
// has changed. A handler may be what writes the files, so at most half of the time goes by with looking.
func (w *watcher) dueAhead() bool { return w.noticed && time.Since(w.looked) >= w.took }

// known reports whether no file has changed since the last look. The system tells first.
func (w *watcher) known() bool { return !w.noticed && !w.seen.deaf }

// know has the next look find a file unchanged, if it finds that file at all.
func (w *watcher) know(file string) {
	stamp, found := w.survey().files[file]
	if found {
		w.seen.files[file] = stamp
	}
}

// changed names the files that differ between two looks. A look that did not reach all files does not tell
// which ones are there.
func changed(before, now *survey) []string {
	var names []string
	for name, s := range now.files {
		old, known := before.files[name]
		if known && s.differs(old) || !known && !before.full && !now.full {
			names = append(names, name)
		}
	}
	for name := range before.files {
		_, there := now.files[name]
		if !there && !before.full && !now.full {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// ---- one look ----

// survey is one look.
type survey struct {
	files map[string]stamp
	full  bool // there was more than it may look at
	deaf  bool // the system does not tell of all that changes from now on

	notices *notices
	before  map[string]stamp // what the look before has found
	except  []fs.FileInfo
	start   time.Time
	places  []place         // still to go to, the nearest first
	entered map[string]bool // directories, each with its GLOBs: symbolic links may lead there again
	entries int             // of directories that it may still look at
	bytes   int64           // of files that it may still read
}

// survey looks at the files, the nearest first.
func (w *watcher) survey() *survey {
	s := &survey{
		files:   map[string]stamp{},
		notices: w.notices,
		except:  w.except,
		start:   time.Now(),
		places:  slices.Clone(w.roots),
		entered: map[string]bool{},
		entries: w.most,
		bytes:   maxReadFiles,
	}
	if w.seen != nil {
		s.before = w.seen.files
	}
	for _, root := range w.roots {
		s.deaf = s.deaf || !s.hearWay(root.directory)
	}
	for len(s.places) > 0 && !s.full {
		p := s.places[0]
		s.places = s.places[1:]
		s.enter(p)
	}
	s.before = nil
	s.notices = nil
	s.deaf = s.deaf || s.full
	return s
}

// hearWay reports whether the system tells if one of the directories on the way to a root, from the working
// directory on, becomes another one.
func (s *survey) hearWay(root string) bool {
	if !filepath.IsLocal(root) {
		return false // above the working directory anything may go on
	}
	for root != "." {
		info, err := os.Lstat(root)
		root = filepath.Dir(root)
		if err != nil || !info.IsDir() || !s.notices.hear(root) {
			return false // it is not there, or a link
		}
	}
	return true
}

// enter looks into a directory.
func (s *survey) enter(p place) {
	info, err := os.Stat(p.directory)
	if err != nil || !info.IsDir() {
		s.deaf = true // it may come
		return
	}
	if s.excepted(info) {
		return
	}
	device, inode := identity(info)
	key := fmt.Sprint(device, " ", inode, " ", strings.Join(p.globs, "\n"))
	if s.entered[key] {
		return
	}
	s.entered[key] = true
	if !s.notices.hear(p.directory) { // before it is read: what comes later is told
		s.deaf = true
	}
	for _, entry := range s.read(p.directory) {
		s.visit(p, entry)
	}
}

// read returns what is in a directory, in order, as far as the survey may look.
func (s *survey) read(directory string) []fs.DirEntry {
	f, err := os.Open(directory)
	if err != nil {
		return nil // it has just gone, or is not ours to read
	}
	defer f.Close()
	entries, _ := f.ReadDir(s.entries + 1)
	if len(entries) > s.entries {
		entries = entries[:s.entries]
		s.full = true
	}
	s.entries -= len(entries)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries
}

// visit looks at what is in a directory: at a file if a GLOB names it, and later into a directory if
// something in it may be named.
func (s *survey) visit(p place, entry fs.DirEntry) {
	name := entry.Name()
	link := entry.Type() == fs.ModeSymlink
	var left []string
	for _, glob := range p.globs {
		left = append(left, below(glob, name)...)
	}
	enters := len(left) > 0 && (link || entry.IsDir())
	named := slices.ContainsFunc(p.globs, func(glob string) bool { return names(glob, name) })
	looks := named && (link || entry.Type().IsRegular())
	if !enters && !looks {
		return
	}
	if link {
		s.deaf = true // where it leads, nobody listens
	}
	file := filepath.Join(p.directory, name)
	info, err := os.Stat(file)
	switch {
	case err != nil: // it has just gone, or is a link to nothing
	case enters && info.IsDir():
		slices.Sort(left)
		s.places = append(s.places, place{directory: file, globs: slices.Compact(left)})
	case looks && info.Mode().IsRegular() && !s.excepted(info):
		s.files[file] = s.stamp(file, info)
		if otherNames(info) {
			s.deaf = true // it may be written by one of them
		}
	}
}

// excepted reports whether this file or directory is not watched.
func (s *survey) excepted(info fs.FileInfo) bool {
	return slices.ContainsFunc(s.except, func(o fs.FileInfo) bool { return os.SameFile(o, info) })
}

// ---- files ----

// stamp is what changes with a file.
type stamp struct {
	modified int64 // time of modification
	changed  int64 // time of change, which nobody can set
	size     int64
	inode    uint64
	sum      [sha256.Size]byte // of what is in it; zero if it was not read
}

// differs reports whether a file has changed. If both times it was read, what is in it decides: a compiler
// that starts with the handler writes the same again.
func (s stamp) differs(old stamp) bool {
	if s.sum == [sha256.Size]byte{} || old.sum == [sha256.Size]byte{} {
		s.sum = old.sum
		return s != old
	}
	return s.sum != old.sum
}

// stamp looks at a file, and reads it if it has just changed.
func (s *survey) stamp(name string, info fs.FileInfo) stamp {
	_, inode := identity(info)
	now := stamp{
		modified: info.ModTime().UnixNano(),
		changed:  changeTime(info),
		size:     info.Size(),
		inode:    inode,
	}
	recent := s.start.Add(-sameStep).UnixNano()
	if max(now.modified, now.changed) < recent {
		old := s.before[name]
		if !now.differs(old) {
			now.sum = old.sum
		}
		return now
	}
	if now.size > maxReadFile || now.size > s.bytes {
		return now
	}
	s.bytes -= now.size
	text, err := os.ReadFile(name)
	if err == nil {
		now.sum = sha256.Sum256(text)
	}
	return now
}

// identity tells files apart.
func identity(info fs.FileInfo) (device, inode uint64) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return uint64(stat.Dev), stat.Ino
}

// otherNames reports whether a file has other names too (hard links).
func otherNames(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink > 1
}

// changeTime is a file's time of change, or 0 if there is none. Its field has another name on macOS.
func changeTime(info fs.FileInfo) int64 {
	stat := reflect.Indirect(reflect.ValueOf(info.Sys()))
	for _, name := range []string{"Ctim", "Ctimespec"} {
		field := stat.FieldByName(name)
		if field.IsValid() {
			changed := field.Interface().(syscall.Timespec)
			return changed.Nano()
		}
	}
	return 0
}

// ---- GLOBs ----

// cutGlob cuts a GLOB into the directory that it begins with and the rest. * and ? stay within a name, and **
// stands for any directories. A GLOB without a slash is for files of that name in any directory, and one that
// is a directory for all files below it.
func cutGlob(text string) (directory, glob string) {
	info, err := os.Stat(text)
	if err == nil && info.IsDir() {
		text += "/**"
	}
	text = filepath.Clean(text)
	if !strings.Contains(text, "/") {
		text = "**/" + text
	}
	parts := strings.Split(strings.ReplaceAll(text, "**/**/", "**/"), "/")
	n := 0
	for n < len(parts)-1 && !strings.ContainsAny(parts[n], "*?") {
		n++
	}
	directory = strings.Join(parts[:n], "/")
	switch {
	case n == 0:
		directory = "."
	case directory == "":
		directory = "/"
	}
	// **.js is **/*.js
	for i, part := range parts {
		if len(part) > 2 && strings.HasPrefix(part, "**") {
			parts[i] = "**/" + part[1:]
		}
	}
	// path.Match gives these a meaning that they do not have here
	plain := strings.NewReplacer(`\`, `\\`, `[`, `\[`)
	return directory, plain.Replace(strings.Join(parts[n:], "/"))
}

// names reports whether a GLOB names a file of this name in the directory where it begins.
func names(glob, file string) bool {
	part, rest, more := strings.Cut(glob, "/")
	switch {
	case scratch.MatchString(file):
		return false
	case part == "**" && more:
		return names(rest, file)
	}
	hidden := strings.HasPrefix(file, ".") && !strings.HasPrefix(file, ".env")
	return !more && fits(part, file, hidden)
}

// below returns what is left of a GLOB in a directory of this name: nothing, if it names no file there.
func below(glob, directory string) []string {
	part, rest, more := strings.Cut(glob, "/")
	apart := strings.HasPrefix(directory, ".") || slices.Contains(notWatched, directory)
	if part != "**" {
		if more && fits(part, directory, apart) {
			return []string{rest}
		}
		return nil
	}
	var left []string
	if !apart {
		left = append(left, glob)
	}
	if more {
		left = append(left, below(rest, directory)...)
	}
	return left
}

// fits reports whether a part of a GLOB is for this name. It has to spell the beginning of a name that is set
// apart.
func fits(part, name string, apart bool) bool {
	if apart && strings.ContainsAny(part[:1], "*?") {
		return false
	}
	fits, _ := path.Match(part, name) // the pattern is valid
	return fits
}
