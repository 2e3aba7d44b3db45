//go:build !layer

package main

// local_terminal.go is what the developer sees: a line when an invocation arrives and one when it ends, what
// handlers print, and on a terminal that can show it a last line that tells what is running. With --json each
// line is a JSON object, and what handlers print goes to standard error.
//
// One goroutine writes. Own lines never wait for a terminal that stands still, they are dropped first;
// handlers do wait.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	waitingLines = 4096 // own lines that may wait for a slow terminal
	verboseBytes = 4096 // of an event or answer that --verbose prints
	liveEvery    = 250 * time.Millisecond
	// for what a handler has printed before its answer to come out of the pipe
	endPause     = 10 * time.Millisecond
	maxDurations = 100_000 // kept for the summary
)

// terminal is safe for concurrent use.
type terminal struct {
	out, errors   io.Writer  // the developer's, and in JSON mode the handlers'
	columns       func() int // of out, 0: not a terminal
	colour        bool
	json, verbose bool
	silent        bool // no lines about invocations

	wg     sync.WaitGroup
	chunks chan chunk

	mu          sync.Mutex
	several     bool // more than one function has run
	running     []*request
	queue       int
	dropped     int
	durations   []time.Duration
	slowest     string // request
	maximum     time.Duration
	failures    int
	invocations int
	restarts    int
}

// chunk is something to write: whole lines of this program's, or what a handler has printed.
type chunk struct {
	text    []byte
	handler bool
	stderr  bool
	end     time.Time     // of the invocation that the line is about, where a handler has answered
	tick    bool          // only the live line
	flush   chan struct{} // closed when all before it has been written
}

func newTerminal(out, errors *os.File) *terminal {
	t := &terminal{out: out, errors: errors, columns: func() int {
		return columns(out)
	}, chunks: make(chan chunk, waitingLines)}
	if columns(out) == 0 || os.Getenv("TERM") == "dumb" {
		t.columns = func() int { return 0 }
	}
	t.colour = t.columns() > 0 && os.Getenv("NO_COLOR") == ""
	return t
}

// start begins writing, close ends it when all has been written.
func (t *terminal) start() {
	live := t.columns() > 0 && os.Getenv("NO_COLOR") == "" && !t.json && !t.silent
	stop := make(chan struct{})
	if live {
		t.wg.Go(func() {
			ticker := time.NewTicker(liveEvery)
			defer ticker.Stop()
			for {
				select {
				case <-ticker.C:
					select {
					case t.chunks <- chunk{tick: true}:
					default:
					}
				case <-stop:
					return
				}
			}
		})
	}
	t.wg.Go(func() {
		defer close(stop)
		t.write(live)
	})
}

func (t *terminal) close() {
	done := make(chan struct{})
	t.chunks <- chunk{flush: done}
	<-done
	t.wg.Wait()
}

// write is the writer's goroutine. It keeps the live line, where there is one, below everything else, and
// lets what handlers print before they answer go before the line about the end.
func (t *terminal) write(live bool) {
	shown := ""   // the live line on the screen
	open := false // a handler's line has not ended
	own := func(text []byte) {
		if open && live { // a prompt or the like: the program's own line begins below it
			io.WriteString(t.out, "\n")
			open = false
		}
		t.out.Write(text)
	}
	var end []byte // a line that waits
	var due <-chan time.Time
	for {
		c := chunk{tick: true}
		select {
		case c = <-t.chunks:
		case <-due:
			due = nil
		}
		late := end != nil && (due == nil || !c.handler && !c.tick)
		if shown != "" && (late || !(c.tick && t.liveLine() == shown)) {
			io.WriteString(t.out, "\r\x1b[K")
			shown = ""
		}
		if late {
			own(end)
			end, due = nil, nil
		}
		switch {
		case c.flush != nil:
			close(c.flush)
			return
		case c.handler:
			w := t.out
			if c.stderr || t.json || t.silent {
				w = t.errors
			}
			w.Write(c.text)
			open = !bytes.HasSuffix(c.text, []byte{'\n'})
		case !c.end.IsZero():
			end, due = c.text, time.After(time.Until(c.end.Add(endPause)))
		case !c.tick:
			own(c.text)
		}
		if line := t.liveLine(); live && !open && line != shown {
			shown = line
			io.WriteString(t.out, line)
		}
	}
}

// liveLine tells what is running now, "" for nothing.
func (t *terminal) liveLine() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.running) == 0 {
		return ""
	}
	line := fmt.Sprintf("%d running", len(t.running))
	if t.queue > 0 {
		line = fmt.Sprintf("%d at hand, %d of them queued", len(t.running), t.queue)
	}
	for _, q := range t.running {
		line += fmt.Sprintf(
			"  %s %s %.0fs", nameText(q.context.FunctionName), short(q.id), time.Since(q.arrived).Seconds())
	}
	return "\x1b[2m" + clip(line, t.columns()-1) + "\x1b[0m"
}

// line writes a line of this program's own.
func (t *terminal) line(c chunk) {
	select {
	case t.chunks <- c:
	default:
		t.mu.Lock()
		t.dropped++
		t.mu.Unlock()
	}
}

// event is what a line tells: to people in words, with --json as it is.
type event struct {
	Time      time.Time       `json:"time"`
	Type      string          `json:"type"` // start, end, late, note, summary
	Function  string          `json:"function,omitempty"`
	RequestID string          `json:"request_id,omitempty"`
	Outcome   string          `json:"outcome,omitempty"` // of end: ok, error, timeout, deployed, elsewhere
	ErrorType string          `json:"error_type,omitempty"`
	Message   string          `json:"message,omitempty"`
	Ms        *float64        `json:"ms,omitempty"`
	BytesIn   *int            `json:"bytes_in,omitempty"`
	BytesOut  *int64          `json:"bytes_out,omitempty"`
	Running   *int            `json:"running,omitempty"`
	Queued    *int            `json:"queued,omitempty"`
	Event     json.RawMessage `json:"event,omitempty"`  // with --verbose, where it is not large
	Answer    string          `json:"answer,omitempty"` // with --verbose, its beginning
	Summary   *summary        `json:"summary,omitempty"`
}

type summary struct {
	Invocations int     `json:"invocations"`
	Errors      int     `json:"errors"`
	MedianMs    float64 `json:"median_ms"`
	SlowestMs   float64 `json:"slowest_ms"`
	Slowest     string  `json:"slowest,omitempty"` // request ID
	Restarts    int     `json:"restarts"`
}

// tell writes e: text is its line for people, without the time; more are further lines.
func (t *terminal) tell(e event, colour, text string, more ...string) {
	now := time.Now()
	if e.Time = now.UTC(); t.json {
		line, err := json.Marshal(e)
		if err == nil {
			t.line(chunk{text: append(line, '\n')})
		}
		return
	}
	if width := t.columns(); width > 0 && e.RequestID != "" {
		text = clip(text, width-14)
	}
	if t.colour && colour != "" {
		text = colour + text + "\x1b[0m"
	}
	text = now.Format("15:04:05.000 ") + text + "\n"
	for _, m := range more {
		text += m
	}
	c := chunk{text: []byte(text)}
	if e.BytesOut != nil { // a handler has answered
		c.end = now
	}
	t.line(c)
}

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	faint  = "\x1b[2m"
)

// short is a request ID as lines show it.
func short(id string) string { return clip(plainText(id), 8) }

// nameText is a function's name in a line; a long one loses its middle, as both ends tell more.
func nameText(name string) string {
	const most = 24
	if name = plainText(name); utf8.RuneCountInString(name) > most {
		r := []rune(name)
		name = string(r[:most/2]) + "~" + string(r[len(r)-most/2+1:])
	}
	return name
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// head begins a line about q.
func (t *terminal) head(q *request, word string) string {
	return fmt.Sprintf("%s %-8s %-7s ", nameText(q.context.FunctionName), short(q.id), word)
}

func (t *terminal) functions(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.several = n > 1
}

// arrived says that q has come; queue requests wait for a process.
func (t *terminal) arrived(q *request, queue int) {
	t.mu.Lock()
	t.running = append(t.running, q)
	t.queue = queue
	running := len(t.running)
	t.mu.Unlock()
	if t.silent {
		return
	}
	word, counts := "start", fmt.Sprintf(", %d running", running-queue)
	if q.queued {
		word = "queued"
	}
	if queue > 0 {
		counts += fmt.Sprintf(", %d queued", queue)
	}
	e := event{Type: "start", Function: q.context.FunctionName, RequestID: q.id, BytesIn: &q.size,
		Running: &running, Queued: &queue}
	var more []string
	if t.verbose {
		if len(q.event) <= headBytes {
			e.Event = q.event
		}
		more = append(more, pretty("event", q.event, int64(q.size)))
	}
	t.tell(e, faint, t.head(q, word)+bytesText(int64(q.size))+" in"+counts, more...)
}

// gone takes q off the list of what is running and counts it.
func (t *terminal) gone(q *request, queue int, failed bool) time.Duration {
	took := time.Since(q.arrived)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = slices.DeleteFunc(t.running, func(o *request) bool { return o == q })
	t.queue = queue
	t.invocations++
	if failed {
		t.failures++
	}
	if took > t.maximum {
		t.maximum, t.slowest = took, q.id
	}
	if len(t.durations) < maxDurations {
		t.durations = append(t.durations, took)
	}
	return took
}

// ended says that the handler has answered q.
func (t *terminal) ended(q *request, rep *reply, queue int) {
	failed := rep.kind == "error" || len(rep.trailers) > 0
	took := t.gone(q, queue, failed)
	if t.silent {
		return
	}
	ms := float64(took.Microseconds()) / 1e3
	e := event{Type: "end", Function: q.context.FunctionName, RequestID: q.id, Outcome: "ok", Ms: &ms,
		BytesOut: &rep.size, Queued: &queue}
	colour, text := green, t.head(q, "ok")+durationText(took)+", "+bytesText(rep.size)+" out"
	if failed {
		e.Outcome, e.ErrorType, e.Message = "error", rep.errorType, clip(rep.message, 200)
		summary, _, _ := strings.Cut(rep.summary(q), "\n")
		colour, text = red, t.head(q, "error")+durationText(took)+"  "+clip(plainText(summary), 160)
	}
	if queue > 0 {
		text += fmt.Sprintf(", %d queued", queue)
	}
	var more []string
	if t.verbose {
		e.Answer, _ = textOf(rep.head)
		more = append(more, pretty("answer", rep.head, rep.size))
	}
	t.tell(e, colour, text, more...)
}

// summary is an error in a few words.
func (rep *reply) summary(q *request) string {
	return cmp.Or(strings.Replace(rep.message, "RequestId: "+q.id+" Error: ", "", 1), rep.errorType)
}

// over says that nobody waits for q's answer any more; answered, that there was one.
func (t *terminal) over(q *request, answered bool, queue int) {
	took := time.Since(q.arrived)
	if !answered {
		t.gone(q, queue, q.over == overTimeout || q.over == overDeadline)
	}
	outcome, text := "timeout", "the caller got an error"
	switch {
	case q.over == overDeployed:
		outcome, text = "deployed", "the deployed code answers"
	case q.over == overAnswered:
		outcome, text = "elsewhere", "another local end has answered"
	case q.over == overDeadline && answered:
		outcome, text = "unknown", "nobody said that the answer arrived"
	case q.over == overDeadline:
		text = "deadline passed, the caller got an error"
	}
	if t.silent {
		return
	}
	ms := float64(took.Microseconds()) / 1e3
	t.tell(event{
		Type: "end", Function: q.context.FunctionName, RequestID: q.id, Outcome: outcome, Ms: &ms,
		Message: text},
		yellow, t.head(q, outcome)+durationText(took)+"  "+text)
}

// late says that a runtime has answered an invocation that was over.
func (t *terminal) late(q *request) {
	t.tell(event{Type: "late", Function: q.context.FunctionName, RequestID: q.id}, yellow,
		t.head(q, "late")+"answered after "+durationText(time.Since(q.arrived))+
			", when it was over; nobody got this")
}

// note is a line about anything else.
func (t *terminal) note(format string, args ...any) {
	text := plainText(fmt.Sprintf(format, args...))
	t.tell(event{Type: "note", Message: text}, "", text)
}

func (t *terminal) restarted() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.restarts++
}

// summarise writes the last line.
func (t *terminal) summarise() {
	t.mu.Lock()
	s := summary{
		Invocations: t.invocations, Errors: t.failures, SlowestMs: float64(t.maximum.Microseconds()) / 1e3,
		Slowest: t.slowest, Restarts: t.restarts}
	var median time.Duration
	if n := len(t.durations); n > 0 {
		slices.Sort(t.durations)
		median = t.durations[n/2]
	}
	s.MedianMs = float64(median.Microseconds()) / 1e3
	dropped, slowest := t.dropped, t.maximum
	t.mu.Unlock()
	text := count(s.Invocations, "invocation") + ", " + count(s.Errors, "error")
	if s.Invocations > 0 {
		text += fmt.Sprintf(
			", median %s, slowest %s (%s)", durationText(median), durationText(slowest), short(s.Slowest))
	}
	text += ", " + count(s.Restarts, "restart")
	if dropped > 0 {
		text += fmt.Sprintf("; %d lines not shown", dropped)
	}
	t.tell(event{Type: "summary", Summary: &s}, "", text)
}

// pretty shows an event or an answer: JSON indented, other text as it is, nothing of what is neither.
func pretty(what string, b []byte, size int64) string {
	text, ok := textOf(b)
	var indented bytes.Buffer
	switch {
	case int64(len(b)) == size && json.Indent(&indented, b, "    ", "  ") == nil:
		text = indented.String()
	case !ok:
		return fmt.Sprintf("    %s: %s that are not text\n", what, bytesText(size))
	}
	cut := ""
	if len(text) > verboseBytes {
		text, cut = text[:verboseBytes], fmt.Sprintf("\n    … (%s in all)", bytesText(size))
	}
	lines := strings.Split(strings.ToValidUTF8(text, ""), "\n")
	for i := range lines {
		lines[i] = plainText(strings.ReplaceAll(lines[i], "\t", "  "))
	}
	return "    " + what + ": " + strings.Join(lines, "\n") + cut + "\n"
}

// textOf is b as text, without the last character where that is cut. Bytes that are not text it refuses.
func textOf(b []byte) (text string, ok bool) {
	for cut := 0; cut < utf8.UTFMax && cut <= len(b); cut++ {
		if b := b[:len(b)-cut]; utf8.Valid(b) {
			return string(b), true
		}
	}
	return "", false
}

// output returns a writer for what a process of function prints: bytes as they come, marked by line where
// several functions run.
func (t *terminal) output(function string, stderr bool) io.WriteCloser {
	return &handlerOutput{t: t, name: nameText(function), stderr: stderr}
}

type handlerOutput struct {
	t      *terminal
	name   string
	stderr bool
	line   []byte // that has not ended
}

func (o *handlerOutput) Write(p []byte) (int, error) {
	o.t.mu.Lock()
	several := o.t.several
	o.t.mu.Unlock()
	if !several && len(o.line) == 0 {
		o.t.chunks <- chunk{text: bytes.Clone(p), handler: true, stderr: o.stderr}
		return len(p), nil
	}
	o.line = append(o.line, p...)
	end := bytes.LastIndexByte(o.line, '\n') + 1
	if len(o.line)-end > 64<<10 {
		end = len(o.line)
	}
	if end > 0 {
		o.mark(o.line[:end])
		o.line = append([]byte(nil), o.line[end:]...)
	}
	return len(p), nil
}

// mark writes whole lines, each with the function's name before it.
func (o *handlerOutput) mark(lines []byte) {
	var text []byte
	for line := range bytes.Lines(lines) {
		text = append(append(append(text, o.name...), " | "...), line...)
	}
	o.t.chunks <- chunk{text: text, handler: true, stderr: o.stderr}
}

func (o *handlerOutput) Close() error {
	if len(o.line) > 0 {
		o.mark(append(o.line, '\n'))
		o.line = nil
	}
	return nil
}

// logHandler makes lines of what the link to AppSync logs.
type logHandler struct {
	t     *terminal
	level slog.Level
	attrs []slog.Attr
}

func (h logHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

func (h logHandler) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	add := func(a slog.Attr) bool {
		text += fmt.Sprintf(", %s: %v", a.Key, a.Value)
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	h.t.note("%s", text)
	return nil
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.attrs = append(slices.Clip(h.attrs), attrs...)
	return h
}

func (h logHandler) WithGroup(string) slog.Handler { return h }

// logger makes lines of what is logged.
func (t *terminal) logger(level slog.Level) *slog.Logger {
	return slog.New(logHandler{t: t, level: level})
}
