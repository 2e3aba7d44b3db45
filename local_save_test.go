//go:build !layer

package main

// local_save_test.go tests the files that events are kept in, and that they are read back.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestEventIsSavedUnderAName(t *testing.T) {
	t.Chdir(t.TempDir())
	os.Mkdir("events", 0o700)
	writeText(t, "there.json", "before")
	writeText(t, "far", "before")
	err := errors.Join(os.Symlink("far", "link.json"), syscall.Mkfifo("pipe.json", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	event := `{"a": 1.0}`
	recording := `{"event_payload":1,"context":{}}`
	c := eventContext{RequestID: "r", FunctionName: "f"}
	for _, tt := range []struct {
		name      string
		event     string
		overwrite bool
		file      string
		text      string
		err       string // a part of it
	}{
		{name: "one", event: event, file: "one.json", text: event + "\n"},
		{name: "two.json", event: event, file: "two.json", text: event + "\n"},
		{name: " events/three.v2 ", event: event, file: "events/three.v2.json", text: event + "\n"},
		{name: "there", event: event, file: "there.json", text: "before", err: "is there already"},
		{name: "there", event: event, overwrite: true, file: "there.json", text: event + "\n"},
		{
			name:  "wrapped",
			event: recording,
			file:  "wrapped.json",
			text: `{"event_payload":` + recording + `,"context":` + string(mustJSON(c)) +
				"}\n",
		},
		{name: "link", event: event, overwrite: true, err: "no plain file"},
		{name: "pipe", event: event, overwrite: true, err: "no plain file"},
		{name: "far.json", event: event, overwrite: true, file: "far.json", text: event + "\n"},
		{name: "live-lambda", event: event, err: "has flags"},
		{name: "events/Live-Lambda.json", event: event, overwrite: true, err: "has flags"},
		{name: "", event: event, err: "which name"},
		{name: "events/", event: event, err: "which name"},
		{name: "..", event: event, err: "which name"},
		{name: "none/four", event: event, err: "no such file"},
		{name: "five", err: "not kept"},
	} {
		i := keptInvocation{Context: c}
		if tt.event != "" {
			i.Event = []byte(tt.event)
		}
		file, err := i.save(tt.name, tt.overwrite)
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) ||
			tt.err == "" && err != nil {
			t.Errorf("%q: %v, want %q", tt.name, err, tt.err)
		}
		if err == nil && file != tt.file {
			t.Errorf("%q: saved in %s, want %s", tt.name, file, tt.file)
		}
		if tt.file == "" {
			continue
		}
		text, err := os.ReadFile(tt.file)
		if err != nil || string(text) != tt.text {
			t.Errorf("%q: saved %q, %v", tt.name, text, err)
		}
		_, err = (invokeFlags{}).readEvent(tt.file, text)
		if tt.err == "" && err != nil {
			t.Errorf("%q: invoke does not take it: %v", tt.name, err)
		}
	}
}

// All that is told of it is there again.
func TestRecordingsAreReadBack(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	r := newHistoryRig(t, localOptions{record: directory})
	var want []keptInvocation
	for _, do := range []task{
		{Do: "print", Text: "printed\n"},
		{Do: "stream", Pieces: []string{"one"}, Type: "text/plain"},
		{Do: "error", Text: `{"errorType":"E","errorMessage":"m"}`, Type: "E"},
	} {
		c := r.context()
		c.Environment = map[string]string{"SECRET": "hush"}
		q := r.direct(do, c)
		r.local.record(q)
		r.reply(q)
		i := r.kept(q.entry.id, func(i keptInvocation) bool {
			return i.PrintedBytes == int64(len(do.Text)) || do.Do != "print"
		})
		r.local.finish(q, overAnswered)
		r.local.recordEnd(q)
		i, _ = r.local.history.get(i.ID)
		want = append(want, i)
	}
	writeText(t, filepath.Join(directory, "other.json"), "{}")
	writeText(t, filepath.Join(directory, "20260102-150405.678-old.json"),
		`{"event_payload":{"a":1},"context":{"function_name":"old","request_id":"r"}}`)
	h, skipped, err := readRecordings(directory)
	if err != nil || skipped != 1 || ids(h.list()) != "4 3 2 1" {
		t.Fatalf("read %s, skipped %d, %v", ids(h.list()), skipped, err)
	}
	old, _ := h.get(1)
	at := time.Date(2026, 1, 2, 15, 4, 5, 678e6, time.Local)
	if old.Function != "old" || old.Outcome != "unknown" || string(old.Event) != `{"a":1}` ||
		!old.Arrived.Equal(at) {
		t.Errorf("the old one: %+v", old.facts)
	}
	for n, w := range want {
		got, _ := h.get(n + 2)
		w.ID = got.ID
		if !alikeAsJSON(got, w) || !bytes.Equal(got.Event, w.Event) ||
			!reflect.DeepEqual(got.Context, w.Context) {
			t.Errorf("read\n%s, want\n%s", mustJSON(got), mustJSON(w))
		}
	}
	files, _ := filepath.Glob(directory + "/*")
	if len(files) != 5 {
		t.Errorf("there are %q", files)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if bytes.Contains(text, []byte("hush")) {
			t.Errorf("%s has the environment", file)
		}
	}
}

// alikeAsJSON reports whether two values are the same as JSON, in which times have no monotonic clock.
func alikeAsJSON(a, b any) bool { return bytes.Equal(mustJSON(a), mustJSON(b)) }

// The newest ones are read, as many as are kept.
func TestNewestRecordingsAreReadBack(t *testing.T) {
	directory := t.TempDir()
	for n := range historyMost + 10 {
		writeText(t, filepath.Join(directory, fmt.Sprintf("%04d.json", n)),
			fmt.Sprintf(`{"event_payload":%d,"context":{}}`, n))
	}
	h, skipped, err := readRecordings(directory)
	if err != nil || skipped != 0 || len(h.list()) != historyMost {
		t.Fatalf("read %d, skipped %d, %v", len(h.list()), skipped, err)
	}
	first, _ := h.get(1)
	last, _ := h.last()
	if string(first.Event) != "10" || string(last.Event) != fmt.Sprint(historyMost+9) {
		t.Errorf("from %s to %s", first.Event, last.Event)
	}
	_, _, err = readRecordings(filepath.Join(directory, "none"))
	if err == nil {
		t.Error("a directory that is not there is read")
	}
}

// What a handler has printed counts as the event does, and an answer as the error.
func TestNoMoreRecordingsAreReadThanThereIsRoomFor(t *testing.T) {
	long := strings.Repeat("x", 20<<10)
	for name, invocation := range map[string]string{
		"answer":  `{"answer":"` + long + `"}`,
		"error":   `{"error":"` + long + `"}`,
		"printed": `{"printed":[{"text":"` + long + `"}]}`,
		"pieces":  `{"pieces":[{}` + strings.Repeat(",{}", 1000) + `]}`,
		"headers": `{"headers":{"a":"` + long + `"}}`,
	} {
		directory := t.TempDir()
		writeText(t, filepath.Join(directory, "1.json"), "none")
		writeText(t, filepath.Join(directory, "2.json"),
			`{"event_payload":1,"context":{},"invocation":`+invocation+`}`)
		h := newHistory("")
		h.limit = 10 << 10
		skipped, err := h.read(directory)
		if err != nil || skipped != 0 || len(h.list()) != 1 {
			t.Errorf("%s: it reads on: %d skipped, %d read, %v", name, skipped, len(h.list()), err)
		}
	}
}

// Nobody knows what wrote it.
func TestHostileRecordingsAreSkipped(t *testing.T) {
	directory := t.TempDir()
	for n, text := range []string{
		``,
		`[]`,
		`{"event_payload":1,"context":{},"invocation":{"printed":7}}`,
		`{"event_payload":1,"context":{},"invocation":{"arrived":"never"}}`,
		`{"event_payload":1,"context":{},"invocation":[]}`,
		`{"event_payload":1,"context":{"deadline_ms":"x"}}`,
		`{"event_payload":1,"context":null}`,
	} {
		writeText(t, filepath.Join(directory, fmt.Sprintf("%d.json", n)), text)
	}
	os.Mkdir(filepath.Join(directory, "directory.json"), 0o700)
	h, skipped, err := readRecordings(directory)
	if err != nil || len(h.list()) != 0 || skipped != 8 {
		t.Errorf("read %+v, skipped %d, %v", h.list(), skipped, err)
	}
}

// `local` writes what became of it, which invoke takes as any other recording.
func TestRecordKeepsWhatBecameOfAnEvent(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	directory := filepath.Join(t.TempDir(), "events")
	c := r.startLocal(append([]string{"--record", directory, "--"}, testCommand("1")...)...)
	r.invoke(task{Do: "text", Text: "the answer", Type: "text/plain"}, r.context())
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
	h, skipped, err := readRecordings(directory)
	if err != nil || skipped != 0 || len(h.list()) != 1 {
		t.Fatalf("read %+v, skipped %d, %v", h.list(), skipped, err)
	}
	i, _ := h.last()
	if string(i.Answer) != "the answer" || i.Outcome != "ok" || i.Over != overAnswered ||
		i.Accepted.IsZero() {
		t.Errorf("it is %+v with %q", i.facts, i.Answer)
	}
	files, _ := filepath.Glob(directory + "/*")
	c = r.command("", append([]string{"invoke", files[0], "--"}, testCommand("1")...)...)
	c.exit(0)
	if c.stdout.String() != "the answer" {
		t.Errorf("invoke printed %q", c.stdout)
	}
}

// An earlier recording does not tell how long it had.
func TestEarlierRecordingRunsAgain(t *testing.T) {
	r := wholeRecording{recording: recording{Event: json.RawMessage("1"), Context: &eventContext{}}}
	i := r.complete(keptInvocation{})
	now := time.UnixMilli(1_800_000_000_000)
	q, err := i.request(nil)
	if err != nil || q.context.FunctionName != "function" {
		t.Fatalf("%+v, %v", q, err)
	}
	if got := time.UnixMilli(i.againContext(now).DeadlineMs).Sub(now); got != maxAgain {
		t.Errorf("it has %v", got)
	}
}
