//go:build !layer

package main

// local_ui_events.go tells a page what happens, as server-sent events, and draws the picture of the last
// hour. A page that connects, or connects again, gets all that is kept; then what has changed, a few times a
// second. Events:
//
//	all      pageState, in place of what the page has
//	changes  pageChanges
//	hour     hourPicture
//
// https://html.spec.whatwg.org/multipage/server-sent-events.html

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	pagePause = 100 * time.Millisecond // between changes that a page is told
	hourPause = time.Second            // between pictures
	pagePing  = 15 * time.Second       // of silence, until it is looked whether the page is still there
	pageWrite = 10 * time.Second       // for a page to take what it is told
	maxPages  = 20                     // that listen at once
)

// pageState is all that a page shows of the list.
type pageState struct {
	About   string       `json:"about"`
	Runs    bool         `json:"runs"` // invocations can be run again
	Now     time.Time    `json:"now"`
	Facts   []facts      `json:"facts"` // newest first
	Dropped droppedFacts `json:"dropped"`
	Most    int          `json:"most"`  // invocations that are kept
	Limit   int          `json:"limit"` // bytes
}

// pageChanges are what has changed since the last ones.
type pageChanges struct {
	Facts   []facts      `json:"facts,omitempty"` // of entries that are new or have changed, as they are now
	Gone    []int        `json:"gone,omitempty"`  // IDs of entries that were dropped
	Dropped droppedFacts `json:"dropped"`
}

// page is one that listens.
type page struct {
	u       *uiServer
	out     http.ResponseWriter
	control *http.ResponseController
	drawn   int       // the version of the picture that it has; 0: none
	at      time.Time // when it got that
	minute  int64     // that the picture ends with
}

// events is the route of a page that listens.
func (u *uiServer) events(out http.ResponseWriter, r *http.Request) {
	if u.pages.Add(1) > maxPages {
		u.pages.Add(-1)
		http.Error(out, "too many pages are open: close some", http.StatusServiceUnavailable)
		return
	}
	defer u.pages.Add(-1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(u.ctx, cancel)()
	out.Header().Set("Content-Type", "text/event-stream")
	p := &page{u: u, out: out, control: http.NewResponseController(out)}
	f, all := u.history.follow()
	defer f.close()
	err := p.tell("all", u.state(all))
	for err == nil && ctx.Err() == nil {
		err = p.draw()
		if err == nil {
			err = p.goOn(ctx, f)
		}
		sleep(ctx, pagePause)
	}
}

// goOn waits for changes and tells them. It also returns when a new picture is due.
func (p *page) goOn(ctx context.Context, f *follower) error {
	wait := pagePing
	if p.stale() {
		wait = hourPause
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	changes, missed, anew := f.next(ctx)
	switch {
	case missed:
		return p.tell("all", p.u.state(anew))
	case len(changes) > 0:
		return p.tell("changes", p.u.changes(changes))
	}
	return p.write(": nothing new\n\n")
}

// state is all that a page shows of the list, if these are the entries.
func (u *uiServer) state(all []facts) pageState {
	return pageState{
		About:   u.about,
		Runs:    u.local != nil,
		Now:     time.Now(),
		Facts:   all,
		Dropped: u.history.letGo(),
		Most:    u.history.most,
		Limit:   u.history.limit,
	}
}

// changes are those that a page is told: of each entry the last one.
func (u *uiServer) changes(all []entryChange) pageChanges {
	var told pageChanges
	last := map[int]facts{}
	for _, c := range all {
		if c.Kind == changeDropped {
			told.Gone = append(told.Gone, c.Facts.ID)
			delete(last, c.Facts.ID)
			continue
		}
		last[c.Facts.ID] = c.Facts
	}
	for _, id := range slices.Sorted(maps.Keys(last)) {
		told.Facts = append(told.Facts, last[id])
	}
	told.Dropped = u.history.letGo()
	return told
}

// stale reports whether there is another picture than the page has.
func (p *page) stale() bool { return p.drawn != p.u.picture.version() }

// draw tells the picture of the last hour, if it has changed and the page has not got one just now.
func (p *page) draw() error {
	now := p.u.now()
	sameMinute := p.minute == minuteOf(now)
	if p.drawn > 0 && sameMinute && (!p.stale() || time.Since(p.at) < hourPause) {
		return nil
	}
	hour, version := p.u.picture.hour(now)
	p.drawn = version
	p.at = time.Now()
	p.minute = minuteOf(now)
	return p.tell("hour", hour)
}

// tell sends an event.
func (p *page) tell(event string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return p.write(fmt.Sprintf("event: %s\ndata: %s\n\n", event, text)) // JSON has no line ends
}

// write sends a text, if the page takes it in time.
func (p *page) write(text string) error {
	p.control.SetWriteDeadline(time.Now().Add(pageWrite))
	_, err := p.out.Write([]byte(text))
	if err != nil {
		return err
	}
	return p.control.Flush()
}

// ---- the last hour ----

const hourMinutes = 60

// lastHour counts the invocations of the last hour by the minute in which they ended.
type lastHour struct {
	mu      sync.Mutex // guards the following
	changed int        // counts changes, from 1
	minutes map[int64]*minuteCount
	counted map[int]countedEntry // by ID, of entries that are kept
}

// countedEntry is how an entry was counted.
type countedEntry struct {
	minute int64
	failed bool
}

// minuteCount counts the invocations of one minute.
type minuteCount struct {
	count, errors int
	durations     map[float64]int // how many took that long, in milliseconds, of three digits
}

// minuteFigures are what is drawn of a minute, or of the hour.
type minuteFigures struct {
	Minute int64   `json:"minute"` // Unix time; the last one of the hour
	Count  int     `json:"count"`
	Errors int     `json:"errors"`
	P50    float64 `json:"p50"` // milliseconds
	P95    float64 `json:"p95"`
}

// hourPicture is what is drawn. Minutes without an invocation are left out.
type hourPicture struct {
	Hour    minuteFigures   `json:"hour"`
	Minutes []minuteFigures `json:"minutes"`
}

func newLastHour() *lastHour {
	return &lastHour{changed: 1, minutes: map[int64]*minuteCount{}, counted: map[int]countedEntry{}}
}

// keepPicture counts what happens for the picture of the last hour, until the inspector ends.
func (u *uiServer) keepPicture(f *follower) {
	defer f.close()
	for u.ctx.Err() == nil {
		changes, missed, anew := f.next(u.ctx)
		if missed {
			u.picture.takeAll(anew)
		}
		for _, c := range changes {
			u.picture.take(c)
		}
	}
}

// minuteOf is the minute of a time.
func minuteOf(at time.Time) int64 { return at.Unix() / 60 }

// endOf is when an invocation ended.
func endOf(f facts) time.Time {
	switch {
	case !f.Answered.IsZero():
		return f.Answered
	case !f.Done.IsZero():
		return f.Done
	}
	return f.Arrived
}

// takeAll counts those of the entries that are not counted yet, and forgets those that are not kept.
func (p *lastHour) takeAll(all []facts) {
	kept := map[int]bool{}
	for _, f := range all {
		kept[f.ID] = true
		p.take(entryChange{Kind: changeChanged, Facts: f})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.counted, func(id int, _ countedEntry) bool { return !kept[id] })
}

// take counts an invocation when it has an outcome, which may change later.
func (p *lastHour) take(c entryChange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := c.Facts
	before, counted := p.counted[f.ID]
	if c.Kind == changeDropped {
		delete(p.counted, f.ID)
	}
	failed := f.Outcome == "error" || f.Outcome == "timeout"
	if f.running() || counted && before.failed == failed {
		return
	}
	p.changed++
	if counted {
		p.counted[f.ID] = countedEntry{minute: before.minute, failed: failed}
		p.recount(before.minute, failed)
		return
	}
	minute := minuteOf(endOf(f))
	if c.Kind != changeDropped {
		p.counted[f.ID] = countedEntry{minute: minute, failed: failed}
	}
	p.count(minute, failed, f.Ms)
}

// recount makes one of a minute's invocations a failure, or none. p.mu is held.
func (p *lastHour) recount(minute int64, failed bool) {
	m := p.minutes[minute]
	switch {
	case m == nil:
	case failed:
		m.errors++
	default:
		m.errors--
	}
}

// count counts one more. p.mu is held.
func (p *lastHour) count(minute int64, failed bool, ms float64) {
	m := p.minutes[minute]
	if m == nil {
		m = &minuteCount{durations: map[float64]int{}}
		p.minutes[minute] = m
		maps.DeleteFunc(p.minutes, func(at int64, _ *minuteCount) bool { return at <= minute-hourMinutes })
	}
	m.count++
	if failed {
		m.errors++
	}
	m.durations[threeDigits(ms)]++
}

// threeDigits is a number with no more than three digits that count, so that there are not too many.
func threeDigits(n float64) float64 {
	if n < 0.001 {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(n))-2)
	return math.Round(n/unit) * unit
}

// version is another one after each change.
func (p *lastHour) version() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// hour is the picture of the hour that ends now.
func (p *lastHour) hour(now time.Time) (hour hourPicture, version int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := minuteOf(now)
	all := &minuteCount{durations: map[float64]int{}}
	for _, minute := range slices.Sorted(maps.Keys(p.minutes)) {
		if minute <= last-hourMinutes || minute > last {
			continue
		}
		m := p.minutes[minute]
		hour.Minutes = append(hour.Minutes, m.figures(minute))
		all.count += m.count
		all.errors += m.errors
		for ms, n := range m.durations {
			all.durations[ms] += n
		}
	}
	hour.Hour = all.figures(last)
	return hour, p.changed
}

// figures are what is drawn of m.
func (m *minuteCount) figures(minute int64) minuteFigures {
	sorted := slices.Sorted(maps.Keys(m.durations))
	return minuteFigures{
		Minute: minute * 60,
		Count:  m.count,
		Errors: m.errors,
		P50:    m.percentile(sorted, 0.5),
		P95:    m.percentile(sorted, 0.95),
	}
}

// percentile is the least of the durations that this part of all does not exceed.
func (m *minuteCount) percentile(sorted []float64, part float64) float64 {
	left := int(math.Ceil(part * float64(m.count)))
	for _, ms := range sorted {
		left -= m.durations[ms]
		if left <= 0 {
			return ms
		}
	}
	return 0
}
