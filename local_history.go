//go:build !layer

package main

// local_history.go keeps what has become of the last invocations, for whoever looks at them while this
// program runs. local_told.go tells it what happens to a request. local_again.go runs an entry once more.
//
// What it gives away never changes: facts and invocations are copies, and the bytes that they share with an
// entry are only ever added to behind their ends.

import (
	"context"
	"slices"
	"sync"
	"time"
)

// How much is kept.
const (
	historyMost  = 500       // invocations
	historyBytes = 256 << 20 // of them all
	entryBytes   = 64 << 20  // of one: it leaves room for others

	maxKeptPrinted = 256 << 10 // bytes of what a handler prints in one invocation
	maxPieces      = 4096      // of one answer, and of what is printed, that are told apart
	maxChanges     = 1000      // that wait for one follower

	// What Go needs for them, about.
	entryOverhead   = 2 << 10
	pieceOverhead   = 32
	printedOverhead = 64
	headerOverhead  = 64
)

// facts are what is known of an invocation, but for what it carries. Times that are zero have not come.
type facts struct {
	ID        int    `json:"id"`              // from 1, short to type
	Again     int    `json:"again,omitempty"` // the entry that it runs again; 0: none
	RequestID string `json:"request_id"`
	Function  string `json:"function"`
	Version   string `json:"version,omitempty"`
	Stage     string `json:"stage,omitempty"`
	Sealed    bool   `json:"sealed,omitempty"` // it came sealed with a key
	Mirror    bool   `json:"mirror,omitempty"` // a copy, whose answer is not used
	Caller    string `json:"caller,omitempty"` // who invoked it, as far as the event tells

	Sent      time.Time `json:"sent,omitzero"`     // when the service that calls got it, if the event tells
	Arrived   time.Time `json:"arrived,omitzero"`  // here
	Accepted  time.Time `json:"accepted,omitzero"` // when this end had said that it runs it
	Started   time.Time `json:"started,omitzero"`  // given to a handler's process
	FirstByte time.Time `json:"first_byte,omitzero"`
	Answered  time.Time `json:"answered,omitzero"` // to the end
	Done      time.Time `json:"done,omitzero"`     // nobody waits any more
	Deadline  time.Time `json:"deadline,omitzero"`

	// ok, error, timeout, deployed, elsewhere, unknown; "" before
	Outcome   string  `json:"outcome,omitempty"`
	Text      string  `json:"text,omitempty"` // more of that in words
	Over      string  `json:"over,omitempty"` // why nobody waits any more
	Late      bool    `json:"late,omitempty"` // the handler answered when it was over
	ErrorType string  `json:"error_type,omitempty"`
	Ms        float64 `json:"ms"` // from the arrival until it was answered or over; 0 before

	EventBytes   int64 `json:"event_bytes"`
	AnswerBytes  int64 `json:"answer_bytes"`
	PrintedBytes int64 `json:"printed_bytes"`

	Headers  map[string]string `json:"headers,omitempty"` // of the response, which nobody changes
	Streamed bool              `json:"streamed,omitempty"`
	// bytes of it were not kept, because they were too many
	Light bool `json:"light,omitempty"`
}

// running reports whether somebody still waits for an answer.
func (f facts) running() bool { return f.Outcome == "" }

// piece is a part of an answer, as it came.
type piece struct {
	At    time.Time `json:"at"`
	Bytes int       `json:"bytes"`
}

// printedPiece is a part of what a handler has printed. If both outputs go to one place, as with a terminal,
// they share a pipe, and all of it counts as standard output.
type printedPiece struct {
	At     time.Time `json:"at"`
	Stderr bool      `json:"stderr,omitempty"`
	Text   string    `json:"text"`
}

// keptInvocation is all that is kept of one. The environment of its function, which has credentials, is not
// in it.
type keptInvocation struct {
	facts
	Event   []byte       `json:"-"`
	Context eventContext `json:"-"`
	// as the handler gave it; of a stream what has come so far
	Answer  []byte         `json:"answer,omitempty"`
	Error   []byte         `json:"error,omitempty"`   // as JSON, if the runtime gave it so
	Pieces  []piece        `json:"pieces,omitempty"`  // of a stream
	Printed []printedPiece `json:"printed,omitempty"` // at most maxKeptPrinted bytes
}

// entry is an invocation in a history.
type entry struct {
	history     *history
	id          int
	environment map[string]string // of the function; it never changes

	// history.mu guards the following.
	keptInvocation
	texts   int  // bytes of the texts that never change
	printed int  // bytes in Printed
	size    int  // bytes that history.bytes counts for it
	dropped bool // it is not in the history any more
}

// droppedFacts are what a history has let go.
type droppedFacts struct {
	Invocations int   `json:"invocations"`
	Light       int   `json:"light"` // kept without some of their bytes
	Bytes       int64 `json:"bytes"`
}

// history keeps the last invocations. It is safe for concurrent use.
type history struct {
	stage       string // of all of them
	most        int    // invocations
	limit, each int    // bytes of all, and of one
	ctx         context.Context
	cancel      context.CancelFunc
	wg          sync.WaitGroup // of what goes starts

	// mu guards the following, and what entries and followers say that it guards. Nothing else is locked
	// while it is held.
	mu        sync.Mutex
	entries   []*entry // oldest first
	lastID    int
	bytes     int
	gone      droppedFacts
	followers map[*follower]bool
	closed    bool
}

func newHistory(stage string) *history {
	ctx, cancel := context.WithCancel(context.Background())
	return &history{
		stage:     stage,
		most:      historyMost,
		limit:     historyBytes,
		each:      entryBytes,
		ctx:       ctx,
		cancel:    cancel,
		followers: map[*follower]bool{},
	}
}

// goes runs f in a goroutine, which close waits for. It reports false if the history is closed already.
func (h *history) goes(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.wg.Go(f)
	return true
}

// close ends what goes has started, and waits for it. What is kept can still be read.
func (h *history) close() {
	if h == nil {
		return
	}
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	h.wg.Wait()
}

// add keeps an invocation, and gives it an ID.
func (h *history) add(i keptInvocation, environment map[string]string) *entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastID++
	i.ID = h.lastID
	e := newEntry(i, environment)
	e.history = h
	h.entries = append(h.entries, e)
	h.tell(changeNew, e)
	h.weigh(e)
	return e
}

// newEntry is an entry that is in no history yet.
func newEntry(i keptInvocation, environment map[string]string) *entry {
	e := &entry{id: i.ID, environment: environment, keptInvocation: i}
	e.texts = textBytes(i.Context) + environmentBytes(environment)
	for _, p := range i.Printed {
		e.printed += len(p.Text)
	}
	return e
}

// textBytes are the bytes of a context's texts.
func textBytes(c eventContext) int {
	n := len(c.Identity) + len(c.ClientContext)
	for _, text := range []string{
		c.RequestID, c.FunctionName, c.FunctionVersion, c.InvokedFunctionARN, c.Region, c.TraceID, c.Handler,
		c.LogGroupName, c.LogStreamName, c.TenantID, c.AcceptedBy,
	} {
		n += len(text)
	}
	return n
}

// environmentBytes are the bytes of variables.
func environmentBytes(environment map[string]string) int {
	n := 0
	for name, value := range environment {
		n += len(name) + len(value) + headerOverhead
	}
	return n
}

// bytes are those that e holds. history.mu is held.
func (e *entry) bytes() int {
	n := entryOverhead + e.texts + cap(e.Event) + cap(e.Answer) + cap(e.Error) + len(e.Text) +
		len(e.ErrorType)
	n += cap(e.Pieces)*pieceOverhead + cap(e.Printed)*printedOverhead + e.printed
	return n + environmentBytes(e.Headers)
}

// weigh counts e's bytes anew. It lets go of e's if they are too many, and of the oldest entries if there is
// no room for all. h.mu is held.
func (h *history) weigh(e *entry) {
	h.bytes -= e.size
	if e.bytes() > h.each {
		h.lighten(e)
	}
	e.size = e.bytes()
	h.bytes += e.size
	for len(h.entries) > h.most || h.bytes > h.limit && len(h.entries) > 1 {
		h.drop(h.entries[0])
	}
}

// lighten lets go of what an entry that is too large carries: its answer, and what was printed and the event
// only if that does not help. h.mu is held.
func (h *history) lighten(e *entry) {
	before := e.bytes()
	if !e.Light {
		h.gone.Light++
	}
	e.Light = true
	e.Answer = nil
	e.Pieces = nil
	if e.bytes() > h.each {
		e.Printed = nil
		e.printed = 0
		e.Error = nil
	}
	if e.bytes() > h.each {
		e.Event = nil
	}
	h.gone.Bytes += int64(before - e.bytes())
}

// drop lets go of the oldest entry. h.mu is held.
func (h *history) drop(e *entry) {
	h.entries = slices.Delete(h.entries, 0, 1)
	e.dropped = true
	h.bytes -= e.size
	h.gone.Invocations++
	h.gone.Bytes += int64(e.size)
	h.tell(changeDropped, e)
}

// copy is e as it is now. history.mu is held.
func (e *entry) copy() keptInvocation {
	i := e.keptInvocation
	i.Answer = slices.Clip(i.Answer)
	i.Pieces = slices.Clip(i.Pieces)
	i.Printed = slices.Clip(i.Printed)
	return i
}

// get returns the entry of that ID.
func (h *history) get(id int) (keptInvocation, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.find(id)
	if e == nil {
		return keptInvocation{}, false
	}
	return e.copy(), true
}

// find returns the entry of that ID, or nil. h.mu is held.
func (h *history) find(id int) *entry {
	i, found := slices.BinarySearchFunc(h.entries, id, func(e *entry, id int) int { return e.id - id })
	if !found {
		return nil
	}
	return h.entries[i]
}

// last returns the newest entry.
func (h *history) last() (keptInvocation, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.entries) == 0 {
		return keptInvocation{}, false
	}
	return h.entries[len(h.entries)-1].copy(), true
}

// list returns the facts of all entries, newest first.
func (h *history) list() []facts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.facts()
}

// facts is list. h.mu is held.
func (h *history) facts() []facts {
	all := make([]facts, 0, len(h.entries))
	for _, e := range slices.Backward(h.entries) {
		all = append(all, e.facts)
	}
	return all
}

// letGo tells what has been dropped so far.
func (h *history) letGo() droppedFacts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gone
}

// What a change is.
const (
	changeNew      = "new"
	changeChanged  = "changed"
	changeProgress = "progress" // more has been answered or printed; several in a row may be told as one
	changeDropped  = "dropped"
)

// entryChange is what has happened to an entry, which is as facts has it then.
type entryChange struct {
	Kind  string `json:"kind"`
	Facts facts  `json:"facts"`
}

// follower gets each change, in order, unless it is too slow.
type follower struct {
	history *history
	news    chan struct{} // something waits; has room for one

	// history.mu guards the following.
	waiting []entryChange
	missed  bool // there were too many: it is to read anew
}

// follow returns the entries as they are now, newest first, and a follower that gets what comes after that.
// Whoever follows closes the follower.
func (h *history) follow() (*follower, []facts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &follower{history: h, news: make(chan struct{}, 1)}
	h.followers[f] = true
	return f, h.facts()
}

// close ends the follower, which then gets nothing more.
func (f *follower) close() {
	f.history.mu.Lock()
	defer f.history.mu.Unlock()
	delete(f.history.followers, f)
}

// next waits for changes and returns them. It returns none when ctx is done. With missed, changes have been
// lost, and the follower is to take the entries that are returned, newest first, in place of all that it has.
func (f *follower) next(ctx context.Context) (changes []entryChange, missed bool, anew []facts) {
	for {
		changes, missed, anew = f.take()
		if missed || len(changes) > 0 {
			return changes, missed, anew
		}
		select {
		case <-f.news:
		case <-ctx.Done():
			return nil, false, nil
		}
	}
}

// take returns what waits.
func (f *follower) take() (changes []entryChange, missed bool, anew []facts) {
	f.history.mu.Lock()
	defer f.history.mu.Unlock()
	changes = f.waiting
	missed = f.missed
	f.waiting = nil
	f.missed = false
	if missed {
		return nil, true, f.history.facts()
	}
	return changes, false, nil
}

// tell tells those who follow. h.mu is held.
func (h *history) tell(kind string, e *entry) {
	c := entryChange{Kind: kind, Facts: e.facts}
	for f := range h.followers {
		f.put(c)
		notify(f.news)
	}
}

// put keeps a change until it is taken. history.mu is held.
func (f *follower) put(c entryChange) {
	last := len(f.waiting) - 1
	switch {
	case f.missed:
	case last >= 0 && f.waiting[last].goesOn(c):
		f.waiting[last] = c
	case len(f.waiting) >= maxChanges:
		f.waiting = nil
		f.missed = true
	default:
		f.waiting = append(f.waiting, c)
	}
}

// goesOn reports whether c tells all that the change before it told.
func (before entryChange) goesOn(c entryChange) bool {
	return before.Kind == changeProgress && c.Kind == changeProgress && before.Facts.ID == c.Facts.ID
}
