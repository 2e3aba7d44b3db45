//go:build !layer

package main

// local_terminal.go is what the developer sees: a line when an invocation arrives, a line when it ends, and
// what handlers print. A terminal that can show it has a live line below all that, which tells what is
// running. With --json each line is a JSON object, and what handlers print goes to standard error.
//
// One goroutine writes. This program's own lines never wait for a terminal that stands still: they are
// dropped. Handlers do wait, until giveUp.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	waitingLines = 4096     // own lines that may wait for a slow terminal
	verboseBytes = 4096     // of an event or answer that --verbose prints
	maxIndented  = 64 << 20 // bytes that JSON may become by being indented
	maxDurations = 100_000  // kept for the summary

	liveEvery = 250 * time.Millisecond // the live line is written anew
	endPause  = 10 * time.Millisecond  // for what a handler printed before its answer to come out of the pipe
	lastPause = 500 * time.Millisecond // after giveUp, for the terminal to take the last lines
)

// terminal is safe for concurrent use.
type terminal struct {
	out     io.Writer
	errors  io.Writer  // for what handlers print to standard error, and for all that they print with --json
	same    bool       // out and errors are the same
	columns func() int // of out; 0: not a terminal
	colour  bool
	json    bool
	verbose bool
	silent  bool   // no lines about invocations
	typed   *typed // nil: nothing is read

	wg      sync.WaitGroup
	chunks  chan chunk
	printed chan struct{} // has one for each of the chunks that handlers have printed
	lost    chan struct{} // closed by giveUp
	giveUp  func()        // has nothing wait any more for a terminal that stands still

	// mu guards the following.
	mu          sync.Mutex
	several     bool // more than one function has run
	outputs     int  // of processes that have not ended
	running     []*request
	queue       int // how many of them wait for a process
	dropped     int // lines
	invocations int // that are over
	copies      int // of these, whose answers were not used
	failures    int
	restarts    map[string]int  // by cause
	durations   []time.Duration // of the first maxDurations invocations
	maximum     time.Duration
	slowest     string // the request that took maximum
}

// chunk is something to write: whole lines of this program's, or what a handler has printed.
type chunk struct {
	text    []byte
	from    *handlerOutput // a handler has printed text there; nil for a line of this program's
	end     time.Time      // of the invocation that the line is about, if a handler has answered
	tick    bool           // there is nothing but the live line to write
	hold    chan struct{}  // closed when nothing more is written
	release bool           // until then
	flush   chan struct{}  // closed when all before it has been written
}

func newTerminal(out, errors *os.File) *terminal {
	t := &terminal{
		out:     out,
		errors:  errors,
		same:    oneFile(out, errors),
		columns: func() int { return columns(out) },
		chunks:  make(chan chunk, waitingLines),
	}
	if columns(out) == 0 || os.Getenv("TERM") == "dumb" {
		t.columns = func() int { return 0 }
	}
	t.colour = t.columns() > 0 && os.Getenv("NO_COLOR") == ""
	return t
}

// oneFile reports whether two files are one: a terminal, or what 2>&1 makes the same.
func oneFile(a, b *os.File) bool {
	one, err := a.Stat()
	other, otherErr := b.Stat()
	return err == nil && otherErr == nil && os.SameFile(one, other)
}

// onePlace reports whether all that handlers print goes to one place.
func (t *terminal) onePlace() bool { return t.same || t.json || t.silent }

// start begins writing.
func (t *terminal) start() {
	live := t.columns() > 0 && os.Getenv("NO_COLOR") == "" && !t.json && !t.silent
	t.printed = make(chan struct{}, maxPrinted)
	t.lost = make(chan struct{})
	t.giveUp = sync.OnceFunc(func() { close(t.lost) })
	t.wg.Go(func() { t.write(live) })
}

// close ends writing when all has been written. After giveUp it leaves behind what the terminal does not
// take.
func (t *terminal) close() {
	done := make(chan struct{})
	var late <-chan time.Time // nil: it waits
	select {
	case <-t.lost:
		late = time.After(lastPause)
	default:
	}
	select {
	case t.chunks <- chunk{flush: done}:
	case <-late:
		return
	}
	select {
	case <-done:
		t.wg.Wait()
	case <-late:
	}
}

// print has a handler's text written. It waits until there is room for it, but after giveUp it drops it.
func (t *terminal) print(c chunk) {
	if offer(t.printed, struct{}{}, t.lost) {
		offer(t.chunks, c, t.lost)
	}
}

// offer sends v. It reports false if there is no room for it, and lost is closed.
func offer[T any](to chan<- T, v T, lost <-chan struct{}) bool {
	select {
	case to <- v:
		return true
	default:
	}
	select {
	case to <- v:
		return true
	case <-lost:
		return false
	}
}

// writer is what the goroutine that writes knows. Nobody else uses it.
//
// It keeps the live line below everything else. The line about the end of an invocation waits for endPause:
// what the handler printed before it answered comes through a pipe, and goes first.
type writer struct {
	t     *terminal
	live  bool             // there is a live line
	shown string           // the live line on the screen; "" if there is none now
	above bool             // it is above the row in which somebody may be typing
	held  *heldBack        // nil: what comes is written
	open  *handlerOutput   // what it has printed last has not ended its line; nil if nothing is so
	end   []byte           // the line about an end that waits; nil if none does
	due   <-chan time.Time // when end has waited long enough; nil from then on
	again *time.Timer      // for the live line to be written anew, and lines to be read
}

// write is the writer's goroutine.
func (t *terminal) write(live bool) {
	w := &writer{t: t, live: live, again: time.NewTimer(0)} // begins to read lines
	defer w.again.Stop()
	for {
		c := w.next()
		w.put(c)
		if c.flush != nil {
			if w.t.typed != nil {
				w.t.typed.close()
			}
			close(c.flush)
			return
		}
		w.show()
		w.wind()
	}
}

// next waits for something to write, for the line that waits to be due, or until something is to be read or
// to be written anew.
func (w *writer) next() chunk {
	var typing <-chan os.Signal // nil: nothing comes
	if w.t.typed != nil {
		typing = w.t.typed.signals
	}
	select {
	case c := <-w.t.chunks:
		return c
	case <-w.due:
		w.due = nil
	case <-typing:
	case <-w.again.C:
	}
	return chunk{tick: true}
}

// wind sets when the live line is written anew, and lines are read, if nothing happens before.
func (w *writer) wind() {
	pause := w.t.typed.pause()
	if w.shown != "" {
		pause = liveEvery
	}
	if pause > 0 {
		w.again.Reset(pause)
	}
}

// put writes c, unless it is held back.
func (w *writer) put(c chunk) {
	w.hear()
	if c.flush != nil || c.release {
		w.release()
	}
	if w.held != nil {
		w.held.keep(c)
	} else {
		w.putNow(c)
	}
	if c.from != nil {
		<-w.t.printed
	}
	if c.hold != nil {
		w.held = &heldBack{}
		if w.t.typed != nil {
			w.t.typed.close()
		}
		close(c.hold)
	}
}

// putNow writes c. The line that waits goes before c if it is due, or if c is another line of this program's.
func (w *writer) putNow(c chunk) {
	ownLine := c.from == nil && !c.tick
	endIsDue := w.end != nil && (w.due == nil || ownLine)
	if endIsDue || !c.tick {
		w.hide()
	}
	if endIsDue {
		w.putLine(w.end)
		w.end = nil
		w.due = nil
	}
	switch {
	case c.flush != nil, c.hold != nil, c.release:
	case c.from != nil:
		w.putPrinted(c)
	case !c.end.IsZero():
		w.end = c.text
		w.due = time.After(time.Until(c.end.Add(endPause)))
	case !c.tick:
		w.putLine(c.text)
	}
}

// putLine writes a line of this program's own.
func (w *writer) putLine(text []byte) {
	if w.open != nil && (w.t.same || w.t.place(w.open) == w.t.out) {
		w.endLine()
	}
	w.t.out.Write(text)
}

// putPrinted writes what a handler has printed. Once several functions have run, each line is marked with the
// function's name.
func (w *writer) putPrinted(c chunk) {
	if w.open != nil && w.open != c.from {
		w.endLine()
	}
	text := c.text
	w.t.mu.Lock()
	several := w.t.several
	w.t.mu.Unlock()
	if several {
		text = marked(c.from.name, text, w.open != nil)
	}
	w.t.place(c.from).Write(text)
	w.open = nil
	if !bytes.HasSuffix(text, []byte{'\n'}) {
		w.open = c.from
	}
}

// endLine ends the line that a handler has not ended: something else follows, and begins in column 1.
func (w *writer) endLine() {
	io.WriteString(w.t.place(w.open), "\n")
	w.open = nil
}

// place returns where what a handler prints on an output goes.
func (t *terminal) place(o *handlerOutput) io.Writer {
	if o.stderr || t.json || t.silent {
		return t.errors
	}
	return t.out
}

// hide takes the live line off the screen.
func (w *writer) hide() {
	if w.above || w.t.typed.listens() {
		w.hideTyped()
		return
	}
	if w.shown != "" {
		io.WriteString(w.t.out, "\r\x1b[K")
		w.shown = ""
	}
}

// show writes the live line, unless it is on the screen already.
func (w *writer) show() {
	if !w.live || w.open != nil || w.held != nil {
		return
	}
	line := w.t.liveLine()
	if line == w.shown {
		return
	}
	if w.t.typed.listens() {
		w.showAbove(line)
	} else {
		w.hide()
		io.WriteString(w.t.out, line)
		w.shown = line
	}
}

// liveLine tells what is running now. It is "" if nothing is.
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
		name := nameText(q.context.FunctionName)
		line += fmt.Sprintf("  %s %s %.0fs", name, short(q.id), time.Since(q.arrived).Seconds())
	}
	return faint + shorten(line, t.columns()-1) + reset
}

// line has a line of this program's own written, or drops it.
func (t *terminal) line(c chunk) {
	select {
	case t.chunks <- c:
	default:
		t.mu.Lock()
		t.dropped++
		t.mu.Unlock()
	}
}

// report is what a line tells: to people in words, with --json as it is. The type is start, end, late, note
// or summary. The outcome of an end is ok, error, timeout, deployed, elsewhere or unknown.
type report struct {
	Time      time.Time       `json:"time"`
	Type      string          `json:"type"`
	Function  string          `json:"function,omitempty"`
	RequestID string          `json:"request_id,omitempty"`
	Outcome   string          `json:"outcome,omitempty"`
	ErrorType string          `json:"error_type,omitempty"`
	Message   string          `json:"message,omitempty"`
	Ms        *float64        `json:"ms,omitempty"`
	BytesIn   *int            `json:"bytes_in,omitempty"`
	BytesOut  *int64          `json:"bytes_out,omitempty"`
	Running   *int            `json:"running,omitempty"`
	Queued    *int            `json:"queued,omitempty"`
	Execution string          `json:"execution,omitempty"` // durable
	Replay    bool            `json:"replay,omitempty"`    // of that execution
	Mirror    bool            `json:"mirror,omitempty"`    // a copy, whose answer is not used
	Again     int             `json:"again,omitempty"`     // the number of the invocation that it runs again
	Event     json.RawMessage `json:"event,omitempty"`     // with --verbose, if it is not large
	Answer    string          `json:"answer,omitempty"`    // with --verbose, its beginning
	Summary   *summary        `json:"summary,omitempty"`
}

type summary struct {
	Invocations int     `json:"invocations"`
	Copies      int     `json:"copies,omitempty"` // of these, whose answers were not used
	Errors      int     `json:"errors"`
	MedianMs    float64 `json:"median_ms"`
	SlowestMs   float64 `json:"slowest_ms"`
	Slowest     string  `json:"slowest,omitempty"` // request ID
	Restarts    int     `json:"restarts"`

	// how many of them, by cause
	RestartCauses map[string]int `json:"restart_causes,omitempty"`
}

// reportAbout begins a report about q.
func reportAbout(q *request, what string) report {
	return report{
		Type:      what,
		Function:  q.context.FunctionName,
		RequestID: q.id,
		Mirror:    q.context.Mirror,
		Again:     q.again,
	}
}

// milliseconds are a duration's in a report.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// tell writes e. To people it writes text, in a colour if there is one, with the time before it; more are
// further lines.
func (t *terminal) tell(e report, colour, text string, more ...string) {
	now := time.Now()
	if t.json {
		e.Time = now.UTC()
		line, err := json.Marshal(e)
		if err == nil {
			t.line(chunk{text: append(line, '\n')})
		}
		return
	}
	width := t.columns()
	if width > 0 && e.RequestID != "" {
		text = shorten(text, width-len("15:04:05.000 ")-1)
	}
	if t.colour && colour != "" {
		text = colour + text + reset
	}
	text = now.Format("15:04:05.000 ") + text + "\n" + strings.Join(more, "")
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
	reset  = "\x1b[0m"
)

// short is a request ID as lines show it.
func short(id string) string { return clip(plainText(id), 8) }

// nameText is a function's name in a line. A long one loses its middle, as both ends tell more.
func nameText(name string) string {
	const most = 24
	name = plainText(name)
	if utf8.RuneCountInString(name) <= most {
		return name
	}
	r := []rune(name)
	return string(r[:most/2]) + "~" + string(r[len(r)-most/2+1:])
}

// count is a number of things in words.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// head begins a line about q. If its number can be typed, the line tells it. local.mu is held.
func (t *terminal) head(q *request, word string) string {
	text := fmt.Sprintf("%s %-8s %-7s ", nameText(q.context.FunctionName), short(q.id), word)
	if t.interactive() && q.entry != nil {
		text = fmt.Sprintf("#%d ", q.entry.id) + text
	}
	return text
}

// functions says how many functions have run.
func (t *terminal) functions(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.several = n > 1
}

// arrived says that q has come. queue is how many requests wait for a process.
func (t *terminal) arrived(q *request, queue int) {
	t.mu.Lock()
	t.running = append(t.running, q)
	t.queue = queue
	running := len(t.running)
	t.mu.Unlock()
	if t.silent {
		return
	}
	word := "start"
	if q.context.Mirror {
		word = "copy"
	}
	if q.queued {
		word = "queued"
	}
	text := t.head(q, word) + bytesText(int64(q.size)) + " in"
	text += fmt.Sprintf(", %d running", running-queue) + queuedText(queue)
	if q.program != nil && q.program.debugPort > 0 {
		text += fmt.Sprintf(", debugger's port %d", q.program.debugPort)
	}
	text += q.execution.text()
	if q.again > 0 {
		text += fmt.Sprintf(", runs #%d again", q.again)
	}
	e := reportAbout(q, "start")
	e.Execution = q.execution.name
	e.Replay = q.execution.replay
	e.BytesIn = &q.size
	e.Running = &running
	e.Queued = &queue
	if !t.verbose {
		t.tell(e, faint, text)
		return
	}
	if len(q.event) <= headBytes {
		e.Event = q.event
	}
	t.tell(e, faint, text, pretty("event", q.event, int64(q.size)))
}

// queuedText ends a line that tells how many requests wait.
func queuedText(queue int) string {
	if queue == 0 {
		return ""
	}
	return fmt.Sprintf(", %d queued", queue)
}

// gone takes q off the list of what is running, and counts it. It returns how long q took.
func (t *terminal) gone(q *request, queue int, failed bool) time.Duration {
	took := time.Since(q.arrived)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = slices.DeleteFunc(t.running, func(o *request) bool { return o == q })
	t.queue = queue
	t.invocations++
	if q.context.Mirror {
		t.copies++
	}
	if failed {
		t.failures++
	}
	if took > t.maximum {
		t.maximum = took
		t.slowest = q.id
	}
	if len(t.durations) < maxDurations {
		t.durations = append(t.durations, took)
	}
	return took
}

// ended says that the handler has answered q.
func (t *terminal) ended(q *request, rep *reply, queue int) {
	failed := rep.failed()
	took := t.gone(q, queue, failed)
	if t.silent {
		return
	}
	ms := milliseconds(took)
	e := reportAbout(q, "end")
	e.Outcome = "ok"
	e.Ms = &ms
	e.BytesOut = &rep.size
	e.Queued = &queue
	colour := green
	text := durationText(took) + ", " + bytesText(rep.size) + " out"
	if failed {
		e.Outcome = "error"
		e.ErrorType = rep.errorType
		e.Message = clip(rep.message, 200)
		colour = red
		text = durationText(took) + "  " + rep.summary(q)
	}
	if q.context.Mirror {
		text = mirrorText + "; " + text
	}
	text = t.head(q, e.Outcome) + text + queuedText(queue)
	if !t.verbose {
		t.tell(e, colour, text)
		return
	}
	e.Answer, _ = textOf(rep.head)
	t.tell(e, colour, text, pretty("answer", rep.head, rep.size))
}

// failed reports whether the reply is an error, or a stream that broke.
func (rep *reply) failed() bool { return rep.kind == "error" || len(rep.trailers) > 0 }

// summary is an error in a few words, for a line: its message, or if it has none its type.
func (rep *reply) summary(q *request) string {
	message := strings.Replace(rep.message, q.errorPrefix(), "", 1)
	line, _, _ := strings.Cut(cmp.Or(message, rep.errorType), "\n")
	return shorten(plainText(line), 160)
}

// over says that nobody waits for q's answer any more. answered says that there was one.
func (t *terminal) over(q *request, answered bool, queue int) {
	took := time.Since(q.arrived)
	if !answered {
		failed := q.over == overTimeout || q.over == overDeadline || q.over == overStopped
		t.gone(q, queue, failed)
	}
	if t.silent {
		return
	}
	outcome, text := q.overText(answered)
	ms := milliseconds(took)
	e := reportAbout(q, "end")
	e.Outcome = outcome
	e.Ms = &ms
	e.Message = text
	t.tell(e, yellow, t.head(q, outcome)+durationText(took)+"  "+text)
}

// overText names what became of an invocation that is over, and says it in words.
func (q *request) overText(answered bool) (outcome, text string) {
	over := q.over
	switch {
	case over == overDeployed:
		return "deployed", "the deployed code answers"
	case over == overAnswered:
		return "elsewhere", "another local end has answered"
	case answered && (over == overDeadline || over == overStopped):
		return "unknown", "nobody said that the answer arrived"
	case over == overStopped:
		return "unknown", "this end stopped before it had an answer"
	case q.context.Mirror:
		return "timeout", mirrorText + "; deadline passed"
	case q.again > 0:
		return "timeout", "deadline passed"
	case over == overDeadline:
		return "timeout", "deadline passed, the caller got an error"
	}
	return "timeout", "the caller got an error"
}

// late says that a runtime has answered an invocation that was over.
func (t *terminal) late(q *request) {
	took := durationText(time.Since(q.arrived))
	text := t.head(q, "late") + "answered after " + took + ", when it was over; nobody got this"
	t.tell(reportAbout(q, "late"), yellow, text)
}

// note is a line about anything else.
func (t *terminal) note(format string, args ...any) {
	text := plainText(fmt.Sprintf(format, args...))
	t.tell(report{Type: "note", Message: text}, "", text)
}

// list is a note with lines of its own below it.
func (t *terminal) list(text string, lines []string) {
	var below strings.Builder
	for _, line := range lines {
		below.WriteString("    " + plainText(line) + "\n")
	}
	e := report{Type: "note", Message: text + "\n" + strings.Join(lines, "\n")}
	t.tell(e, "", plainText(text), below.String())
}

// restarted counts a process that has ended, by its cause.
func (t *terminal) restarted(cause string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cause == noRestart {
		return
	}
	if t.restarts == nil {
		t.restarts = map[string]int{}
	}
	t.restarts[cause]++
}

// summarise writes the last line.
func (t *terminal) summarise() {
	s, median, slowest, dropped := t.totals()
	text := count(s.Invocations, "invocation")
	if s.Copies > 0 {
		text += fmt.Sprintf(" (%d as copies, whose answers were not used)", s.Copies)
	}
	text += ", " + count(s.Errors, "error")
	if s.Invocations > 0 {
		text += fmt.Sprintf(", median %s, slowest %s (%s)",
			durationText(median), durationText(slowest), short(s.Slowest))
	}
	text += ", " + s.restartsText()
	if dropped > 0 {
		text += fmt.Sprintf("; %d lines not shown", dropped)
	}
	t.tell(report{Type: "summary", Summary: &s}, "", text)
}

// restartsText tells how many restarts there were, and of what causes.
func (s summary) restartsText() string {
	text := count(s.Restarts, "restart")
	var causes []string
	for _, cause := range []string{
		restartFiles, restartExited, restartUnstarted, restartEnvironment, restartLate,
	} {
		n := s.RestartCauses[cause]
		if n > 0 {
			causes = append(causes, fmt.Sprintf("%s: %d", cause, n))
		}
		if n == s.Restarts && n > 0 {
			return text + " (" + cause + ")"
		}
	}
	if len(causes) > 0 {
		text += " (" + strings.Join(causes, ", ") + ")"
	}
	return text
}

// totals sums up what has been counted.
func (t *terminal) totals() (s summary, median, slowest time.Duration, dropped int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.durations)
	if n > 0 {
		slices.Sort(t.durations)
		median = (t.durations[(n-1)/2] + t.durations[n/2]) / 2
	}
	s = summary{
		Invocations: t.invocations,
		Copies:      t.copies,
		Errors:      t.failures,
		MedianMs:    milliseconds(median),
		SlowestMs:   milliseconds(t.maximum),
		Slowest:     t.slowest,

		RestartCauses: maps.Clone(t.restarts),
	}
	for _, n := range t.restarts {
		s.Restarts += n
	}
	return s, median, t.maximum, t.dropped
}

// pretty shows the beginning b of an event or an answer of this size: JSON indented, other text as it is. Of
// what is not text it tells the size.
func pretty(what string, b []byte, size int64) string {
	text, ok := textOf(b)
	indented, isJSON := indentedJSON(b, "    ")
	whole := int64(len(b)) == size
	switch {
	case whole && isJSON:
		text = indented
	case !ok:
		return fmt.Sprintf("    %s: %s that are not text\n", what, bytesText(size))
	}
	rest := ""
	if len(text) > verboseBytes {
		text = text[:verboseBytes]
		rest = fmt.Sprintf("\n    … (%s in all)", bytesText(size))
	}
	lines := strings.Split(strings.ToValidUTF8(text, ""), "\n")
	for i, line := range lines {
		lines[i] = plainText(strings.ReplaceAll(line, "\t", "  "))
	}
	return "    " + what + ": " + strings.Join(lines, "\n") + rest + "\n"
}

// indentedJSON is b with each value on a line of its own, which begins with prefix. It reports false if b is
// not JSON, or would become too large: in deep JSON each value stands behind thousands of spaces.
func indentedJSON(b []byte, prefix string) (string, bool) {
	if indentedSize(b) > maxIndented {
		return "", false
	}
	var indented bytes.Buffer
	err := json.Indent(&indented, b, prefix, "  ")
	return indented.String(), err == nil
}

// indentedSize is about how many bytes JSON has when it is indented.
func indentedSize(b []byte) int {
	size := len(b)
	depth := 0
	inString := false
	escaped := false
	for _, c := range b {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped = c == '\\'
			inString = c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			depth++
			size += 2 * depth
		case c == '}' || c == ']':
			depth--
			size += 2 * depth
		case c == ',':
			size += 2 * depth
		}
	}
	return size
}

// textOf is b as text. If b ends within a character, the text ends before it. If b is not text, ok is false.
func textOf(b []byte) (text string, ok bool) {
	for cut := 0; cut < utf8.UTFMax && cut <= len(b); cut++ {
		kept := b[:len(b)-cut]
		if utf8.Valid(kept) {
			return string(kept), true
		}
	}
	return "", false
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

// logger returns a log whose entries become lines.
func (t *terminal) logger(level slog.Level) *slog.Logger {
	return slog.New(logHandler{t: t, level: level})
}
