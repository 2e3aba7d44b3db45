//go:build !layer

package main

// local_save.go keeps events in files that invoke takes: every one with --record, which has what became of it
// too, and those that somebody saves. Recordings can be read back into a history.

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	recordTime   = "20060102-150405.000-" // begins a recording's name
	maxRecording = 128 << 20              // bytes of one that is read back
)

// recordFile is the file that q is recorded in.
func (l *local) recordFile(q *request) string {
	id := regexp.MustCompile(`[^A-Za-z0-9_-]`).ReplaceAllString(q.context.FunctionName+"-"+q.id, "_")
	return filepath.Join(l.opts.record, q.arrived.Format(recordTime)+id[:min(len(id), 120)]+".json")
}

// record keeps q's event and context in a file, without the environment: it has credentials.
func (l *local) record(q *request) {
	if l.opts.record == "" {
		return
	}
	l.mu.Lock()
	event := q.event
	l.mu.Unlock()
	if event == nil { // it is over
		return
	}
	l.writeRecording(q, keptInvocation{Event: event, Context: q.context}.recording(false))
}

// recordEnd adds to that file what has become of q.
func (l *local) recordEnd(q *request) {
	if l.opts.record == "" || q.entry == nil {
		return
	}
	i, found := l.history.get(q.entry.id)
	if found && i.Event != nil {
		l.writeRecording(q, i.recording(true))
	}
}

// writeRecording writes q's file, which is whole at any time.
func (l *local) writeRecording(q *request, text []byte) {
	file := l.recordFile(q)
	err := os.WriteFile(file+".new", text, 0o600)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		l.term.note("could not record an event: %v", err)
	}
}

// recording is i as a recording: its event and context, and if it is over what has become of it. The event
// stays byte for byte as it came.
func (i keptInvocation) recording(over bool) []byte {
	i.Context.Environment = nil
	body, _ := json.Marshal(i.Context) // what was read as JSON is written as JSON
	text := slices.Concat([]byte(`{"event_payload":`), i.Event, []byte(`,"context":`), body)
	if over {
		body, _ = json.Marshal(i)
		text = slices.Concat(text, []byte(`,"invocation":`), body)
	}
	return append(text, "}\n"...)
}

// errSavedAlready follows the name of a file.
var errSavedAlready = errors.New("is there already: choose another name")

// save writes i's event into a file of that name, which gets .json if it does not have it, and returns the
// file's name. A file that is there already is written over only if that is wanted.
func (i keptInvocation) save(name string, overwrite bool) (file string, err error) {
	file, err = savedFile(name)
	if err != nil {
		return "", err
	}
	if i.Event == nil {
		return "", fmt.Errorf("the event of %d is not kept: it was too large", i.ID)
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if overwrite {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		info, err := os.Lstat(file)
		if err == nil && !info.Mode().IsRegular() { // a link leads elsewhere, a pipe has the writer wait
			return "", fmt.Errorf("%s is no plain file, and stays: choose another name", file)
		}
	}
	f, err := os.OpenFile(file, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("%s %w", file, errSavedAlready)
	}
	if err != nil {
		return "", fmt.Errorf("save an event: %w", err)
	}
	_, err = f.Write(i.savedText())
	err = cmp.Or(err, f.Close())
	if err != nil {
		return "", fmt.Errorf("save an event: %w", err)
	}
	return file, nil
}

// savedFile is the file that name stands for.
func savedFile(name string) (string, error) {
	name = strings.TrimSpace(name)
	base := filepath.Base(name)
	if name == "" || strings.HasSuffix(name, "/") || base == "." || base == ".." {
		return "", errors.New("save under which name?")
	}
	if !strings.EqualFold(filepath.Ext(name), ".json") {
		name += ".json"
	}
	if strings.EqualFold(filepath.Base(name), sharedFile) { // it names commands, and callers write events
		return "", fmt.Errorf("%s has flags, and no event: choose another name", sharedFile)
	}
	return name, nil
}

// savedText is the event as a file that invoke takes. An event that looks like a recording goes into one.
func (i keptInvocation) savedText() []byte {
	if recorded(i.Event) {
		return i.recording(false)
	}
	return append(slices.Clip(i.Event), '\n')
}

// readRecordings reads the newest recordings of a directory into a history. It returns how many files it
// could not read as recordings.
func readRecordings(directory string) (h *history, skipped int, err error) {
	h = newHistory("")
	skipped, err = h.read(directory)
	return h, skipped, err
}

// read reads as many of the newest recordings of a directory as there is room for. It returns how many files
// it could not read as recordings.
func (h *history) read(directory string) (skipped int, err error) {
	files, err := os.ReadDir(directory) // sorted by name, and so by time
	if err != nil {
		return 0, err
	}
	var found []keptInvocation // newest first
	bytes := 0
	for _, file := range slices.Backward(files) {
		if filepath.Ext(file.Name()) != ".json" {
			continue
		}
		if len(found) == h.most || bytes > h.limit {
			break
		}
		i, err := readRecording(filepath.Join(directory, file.Name()))
		if err != nil {
			skipped++
			continue
		}
		bytes += newEntry(i, nil).bytes()
		found = append(found, i)
	}
	for _, i := range slices.Backward(found) {
		h.add(i, nil)
	}
	return skipped, nil
}

// wholeRecording is a recording with what became of the invocation, which earlier ones do not have.
type wholeRecording struct {
	recording
	Invocation *keptInvocation `json:"invocation"`
}

// readRecording reads one.
func readRecording(file string) (i keptInvocation, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return i, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxRecording {
		return i, errors.New("no file, or too large")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return i, err
	}
	if !recorded(text) {
		return i, errors.New("no recording")
	}
	var r wholeRecording
	err = json.Unmarshal(text, &r)
	if err != nil {
		return i, err
	}
	if r.Invocation != nil {
		i = *r.Invocation
	} else {
		i.Arrived = recordedAt(filepath.Base(file), info.ModTime())
	}
	return r.complete(i), nil
}

// complete is i with what the recording has of it otherwise.
func (r wholeRecording) complete(i keptInvocation) keptInvocation {
	i.Event = r.Event
	i.Context = *r.Context
	i.Context.Environment = nil
	i.Context.FunctionName = cmp.Or(i.Context.FunctionName, "function")
	i.Again = 0 // its number was another program's
	i.RequestID = i.Context.RequestID
	i.Function = i.Context.FunctionName
	i.Version = i.Context.FunctionVersion
	i.Mirror = i.Context.Mirror
	i.EventBytes = int64(len(i.Event))
	i.Caller = caller(i.Event)
	if i.running() {
		i.Outcome = "unknown"
		i.Text = "the recording does not tell"
	}
	return i
}

// recordedAt is when an event was recorded: as the file's name says, else when it was written.
func recordedAt(name string, written time.Time) time.Time {
	if len(name) < len(recordTime) {
		return written
	}
	at, err := time.ParseInLocation(recordTime, name[:len(recordTime)], time.Local)
	if err != nil {
		return written
	}
	return at
}
