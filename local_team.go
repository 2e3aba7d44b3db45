//go:build !layer

package main

// local_team.go knows the other local ends: who they are, which of them has a function in place of this one,
// and what the developer is told of them. local_presence.go hears them, local_left.go leaves requests to
// them.
//
// Of the ends that have one stage and serve a function, the one whose `since` is latest has it: the one that
// was started last, or has taken its functions back last. Each end finds that out by itself, from what all
// have said. A `since` in the future counts as it is, because ends that corrected it would no longer agree.
// Whoever may publish here can say a later one than everybody's in any case. It keeps this end from running
// requests for as long as it answers asks, and no longer.

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	maxPresence = 200 // other ends that are remembered
	maxPatterns = 500 // of functions that one end serves
	maxLines    = 20  // about other ends, in a minute
	maxShown    = 3   // patterns of functions in a line

	askEvery   = 10 * time.Second
	askTimeout = 3 * time.Second // for an end that is asked to answer
	// For what ends say and requests to overtake each other: for so long after this end has got functions
	// from another, both may have seen a request.
	handover = time.Second
)

// teammate is another local end. presence.mu guards all of it.
type teammate struct {
	presenceMessage
	heard time.Time // when it said hello last
	asked time.Time // when it was asked last whether it is there; zero: it has not been
	over  *session  // over which it was asked
	gone  time.Time // when it said bye; zero: it has not
	told  []string  // functions that it was said to have
	both  string    // the functions that this end and it may serve, in words; "": there are none for sure
}

// after reports whether m has what both serve, and not o.
func (m *presenceMessage) after(o *presenceMessage) bool {
	if m.Since != o.Since {
		return m.Since > o.Since
	}
	return m.Sender > o.Sender
}

// serves reports whether an end has said that it serves a function.
func (m *presenceMessage) serves(function string) bool {
	if slices.Contains(m.Except, function) {
		return false
	}
	return m.part.serves(function)
}

// note notes a hello, and reports whether it is the first one of that sender and `since`.
func (p *presence) note(m *presenceMessage) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.others[m.Sender]
	if known != nil && known.gone.IsZero() {
		known.heard = time.Now()
		if m.Since < known.Since { // it has been overtaken
			return false
		}
		first = m.Since != known.Since
		same := !first && slices.Equal(m.Functions, known.Functions) && m.Stage == known.Stage
		known.presenceMessage = *m
		known.both = p.shared(m)
		if !same {
			p.tellOf(known)
		}
		return first
	}
	p.makeRoom()
	o := &teammate{presenceMessage: *m, heard: time.Now(), both: p.shared(m)}
	p.others[m.Sender] = o
	p.tellOf(o)
	return true
}

// makeRoom forgets the end that was not heard for longest, if there are too many. The mutex is held.
func (p *presence) makeRoom() {
	if len(p.others) < maxPresence {
		return
	}
	oldest := slices.MinFunc(slices.Collect(maps.Values(p.others)), func(a, b *teammate) int {
		return a.heard.Compare(b.heard)
	})
	delete(p.others, oldest.Sender)
}

// forget takes an end's bye, and reports whether that end was one of this stage. It may still work on what it
// has.
func (p *presence) forget(sender string) (known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.others[sender]
	if o == nil || !o.gone.IsZero() {
		return false
	}
	o.gone = time.Now()
	if o.Stage != p.stage() {
		return false
	}
	p.tell(o.By + " has gone" + p.inherited(o))
	return true
}

// stage is this end's.
func (p *presence) stage() string {
	if p.api == nil {
		return ""
	}
	return p.api.stage
}

// team are the ends of this stage that are there. The mutex is held.
func (p *presence) team() []*teammate {
	var team []*teammate
	for _, o := range p.others {
		if o.gone.IsZero() && o.Stage == p.stage() {
			team = append(team, o)
		}
	}
	slices.SortFunc(team, func(a, b *teammate) int {
		return cmp.Or(cmp.Compare(b.Since, a.Since), cmp.Compare(b.Sender, a.Sender))
	})
	return team
}

// leader is the sender of the other end that has a function, "" if this one has it. The first time it is told
// that the end has that function.
func (p *presence) leader(function string) (sender string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	here := p.self.serves(function)
	for _, o := range p.team() { // the latest one first
		if here && p.self.after(&o.presenceMessage) {
			break
		}
		if o.serves(function) {
			p.tellLeft(o, function)
			return o.Sender
		}
	}
	return ""
}

// tellLeft says once that invocations of a function go to o. The mutex is held.
func (p *presence) tellLeft(o *teammate, function string) {
	if slices.Contains(o.told, function) || len(o.told) >= maxLines {
		return
	}
	o.told = append(o.told, function)
	text := "invocations of " + nameText(function) + " go to " + o.By
	if o.after(&p.self) {
		text += ": " + p.takeBack()
	}
	p.tell(text)
}

// unsure reports whether another end may have taken a request of a function that comes now, although this
// end has the function: it has got it only now, or does not know yet who else is there. early says the
// latter.
func (p *presence) unsure(function string) (unsure, early bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	claims := p.said.IsZero() || time.Since(p.said) < handover
	for _, o := range p.others {
		inherits := !o.gone.IsZero() && time.Since(o.gone) < handover && o.after(&p.self)
		takes := o.gone.IsZero() && claims
		if (inherits || takes) && o.Stage == p.stage() && o.serves(function) {
			unsure = true
		}
	}
	return unsure || p.coming, p.coming
}

// What has become of an end that a request was left to.
type whereabouts int

const (
	isThere whereabouts = iota
	hasGone             // in order: it may still work on what it has
	isLost              // it does not answer, or does not serve the function any more
)

// watch finds out about an end that a request of a function was left to. It has it asked whether it is there
// if it has not been for a while. An end that does not answer is forgotten.
func (p *presence) watch(sender, function string) whereabouts {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.others[sender]
	switch {
	case o == nil:
		return isLost
	case !o.gone.IsZero():
		return hasGone
	case o.Stage != p.stage() || !o.serves(function):
		return isLost
	}
	if o.over != nil && o.over.ctx.Err() != nil {
		p.asking(sender, nil) // nobody would have heard the answer
	}
	if o.silent() {
		delete(p.others, sender)
		p.tell(o.By + " does not answer" + p.inherited(o))
		return isLost
	}
	due := o.asked.IsZero() || time.Since(o.asked) >= askEvery
	if due && !slices.Contains(p.asks, sender) {
		p.asks = append(p.asks, sender)
		notify(p.wanted)
	}
	return isThere
}

// silent reports whether o has not answered an ask in time. The mutex is held.
func (o *teammate) silent() bool {
	return !o.asked.IsZero() && o.heard.Before(o.asked) && time.Since(o.asked) >= askTimeout
}

// asking notes that an end is asked over a session; with nil, that it has not been. The mutex is held.
func (p *presence) asking(sender string, conn *session) {
	o := p.others[sender]
	if o == nil {
		return
	}
	o.over = conn
	o.asked = time.Time{}
	if conn != nil {
		o.asked = time.Now()
	}
}

// except says to all that a function is not served here after all, so that another end takes it, or that it
// is again.
func (p *presence) except(function string, not bool) {
	p.mu.Lock()
	names := slices.Clone(p.self.Except)
	names = slices.DeleteFunc(names, func(name string) bool { return name == function })
	if not && len(names) < maxExcept {
		names = append(names, function)
	}
	changed := len(names) != len(p.self.Except)
	p.self.Except = names
	p.mu.Unlock()
	if changed {
		p.want()
	}
}

// takenOver reports whether another end has functions in place of this one.
func (p *presence) takenOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.team(), p.leads)
}

// leads reports whether o has functions that are served here too. The mutex is held.
func (p *presence) leads(o *teammate) bool { return o.both != "" && o.after(&p.self) }

// takeBackAll makes this end the one that has what it serves. Others hear of it by a hello.
func (p *presence) takeBackAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	team := p.team()
	i := slices.IndexFunc(team, p.leads)
	if i < 0 {
		return
	}
	// The clock of that end, or of this one, may be wrong.
	since := max(time.Now().UnixMilli(), team[0].Since+1)
	if since > maxSince {
		p.tell("cannot take anything back from " + team[0].By + ": there is no later time than its own")
		return
	}
	p.self.Since = since
	p.self.Except = nil
	p.said = time.Time{}
	p.helloDue = true
	notify(p.urgent)
	notify(p.wanted)
	p.tell("takes back " + team[i].both + " from " + team[i].By)
}

// tellTeam says who else is there, and from now on who comes and goes.
func (p *presence) tellTeam() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.connected {
		return
	}
	p.connected = true
	for _, o := range p.team() {
		p.tellOf(o)
	}
}

// tellOf says that an end is there. The mutex is held.
func (p *presence) tellOf(o *teammate) {
	if o.Stage != p.stage() {
		return
	}
	since := time.UnixMilli(o.Since).Format(time.TimeOnly)
	if time.Since(time.UnixMilli(o.Since)).Abs() > 12*time.Hour {
		since = time.UnixMilli(o.Since).Format(time.DateTime)
	}
	text := fmt.Sprintf("%s is here too since %s, for %s", o.By, since, functionsText(o.Functions))
	switch {
	case p.leads(o):
		text = fmt.Sprintf("%s has taken over %s since %s: %s", o.By, o.both, since, p.takeBack())
	case o.both != "":
		text += "; what both serve comes to this end"
	}
	p.tell(text)
}

// inherited ends a line about an end that is not there any more: what becomes of its functions. The mutex is
// held.
func (p *presence) inherited(o *teammate) string {
	if !p.leads(o) || slices.ContainsFunc(p.team(), p.leads) {
		return ""
	}
	return ": invocations of " + o.both + " come here again"
}

// tell writes a line about other ends, unless there have been too many. The mutex is held.
func (p *presence) tell(text string) {
	if p.term == nil || !p.connected {
		return
	}
	if time.Since(p.minute) > time.Minute {
		p.minute = time.Now()
		p.lines = 0
	}
	p.lines++
	if p.lines == maxLines {
		text = "there is more news of other local ends than can be shown: see live-lambda who"
	}
	if p.lines <= maxLines {
		p.term.note("%s", text)
	}
}

// shared returns in words which functions this end and another may both serve, "" if there are none for sure.
// The mutex is held.
func (p *presence) shared(m *presenceMessage) string {
	switch {
	case len(p.self.Functions) == 0:
		return functionsText(m.Functions)
	case len(m.Functions) == 0:
		return functionsText(p.self.Functions)
	}
	var both []string
	for _, pattern := range m.Functions {
		meets := func(own string) bool { return mayMeet(own, pattern) }
		if len(pattern) <= maxPattern && slices.ContainsFunc(p.self.Functions, meets) {
			both = append(both, pattern)
		}
	}
	if len(both) == 0 {
		return ""
	}
	return functionsText(both)
}

// mayMeet reports whether a function may match both of two patterns. It is wrong for some that begin in the
// same way and go on in different ones.
func mayMeet(a, b string) bool {
	const special = `*?[\`
	if !strings.ContainsAny(b, special) {
		return matches(a, b)
	}
	if !strings.ContainsAny(a, special) {
		return matches(b, a)
	}
	a = a[:strings.IndexAny(a, special)]
	b = b[:strings.IndexAny(b, special)]
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

// functionsText names the functions of these patterns.
func functionsText(patterns []string) string {
	if len(patterns) == 0 {
		return "all functions"
	}
	shown := make([]string, 0, maxShown)
	for _, pattern := range patterns[:min(len(patterns), maxShown)] {
		shown = append(shown, nameText(pattern))
	}
	text := strings.Join(shown, ", ")
	if more := len(patterns) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
