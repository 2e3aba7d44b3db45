//go:build !layer

package main

// local_presence.go says to extensions and to other local ends that this end hears requests, and when it
// hears no more of them. An extension whose invocations run the deployed code, because nobody was there,
// sends the next one here as soon as it has heard that.
//
// What others say comes in through receive, which the session's reader calls; local_team.go keeps it. What
// this end says goes out through listen, keep, which has a goroutine for each session, and sayBye. encode
// and decodePresence alone know what travels.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	helloPause = time.Second // between two of this end's hellos, at least
	byeTimeout = time.Second // for AppSync to take a bye, if it goes over HTTPS
	startAnew  = "to take it back, start this end anew"
	askAll     = "*" // in a hello's ask: everybody is asked, and its sender serves nothing

	maxHello  = 64 << 10  // bytes of another end's message
	maxSender = 50        // bytes of another end's name or stage, as of a channel's segment
	maxSince  = 1<<53 - 1 // of `since`: the largest number that every JSON parser reads as it is
	maxExcept = 100       // functions that this end has no handler for and says so
)

// presence is what this end and others have said of themselves.
type presence struct {
	api      *appsync
	keys     *keyring
	term     *terminal     // nil until there is somebody to tell
	takeBack func() string // how the developer takes functions back
	arrived  func()        // is called when this end has said hello first over a session
	wanted   chan struct{} // something is to be said; has room for one
	urgent   chan struct{} // and soon; has room for one

	speaks chan struct{} // has something while this end says something: nothing comes after its bye
	left   bool          // it has said bye, or would have; guarded by speaks

	mu        sync.Mutex           // guards the following, and all of each teammate
	self      presenceMessage      // what is said, but for its type and request ID
	helloDue  bool                 // a hello is to be said
	asks      []string             // senders that are to be asked whether they are there
	coming    bool                 // a session has begun, and this end has not tried to say hello over it
	said      time.Time            // when `since` was said first over this session; zero: it has not been
	connected bool                 // this end has been connected once, and says who else is there
	others    map[string]*teammate // the other ends that have said hello, by sender
	lines     int                  // about other ends, in this minute
	minute    time.Time            // when it began
}

// presenceMessage is a hello or a bye: a part, and what local ends alone read.
type presenceMessage struct {
	part
	By     string   `json:"by"`               // USER@HOST
	Since  int64    `json:"since"`            // Unix milliseconds of the process's start, or last taking back
	Except []string `json:"except,omitempty"` // names of functions that are not served after all
}

func newPresence(api *appsync, sender string, opts localOptions, keys *keyring) *presence {
	return &presence{
		api:      api,
		keys:     keys,
		takeBack: func() string { return startAnew },
		arrived:  func() {},
		wanted:   make(chan struct{}, 1),
		urgent:   make(chan struct{}, 1),
		speaks:   make(chan struct{}, 1),
		others:   map[string]*teammate{},
		self: presenceMessage{
			part: part{
				LiveLambda: 1,
				Last:       true,
				Sender:     sender,
				Functions:  opts.servedFunctions(),
			},
			By:    userAtHost(),
			Since: time.Now().UnixMilli(),
		},
	}
}

// servedFunctions are the patterns of the functions that are served here; none: all are.
func (o localOptions) servedFunctions() []string {
	if len(o.functions) == 0 && !o.onlyMapped() {
		return nil
	}
	patterns := slices.Concat(o.functions, slices.Collect(maps.Keys(o.maps)))
	slices.Sort(patterns)
	return slices.Compact(patterns)
}

// listen hears other ends over a new session, and asks them all who they are, before this end hears requests:
// it must know who else may run one. The question ends no miss.
func (p *presence) listen(conn *session) error {
	err := conn.subscribe(conn.ctx, ackTimeout, p.api.presenceChannel(), p.receive)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.coming = true
	p.said = time.Time{}
	p.mu.Unlock()
	return p.say(conn.ctx, conn, "hello", askAll)
}

// come ends that: whoever else is there has had time to say so.
func (p *presence) come() {
	p.mu.Lock()
	was := p.coming
	p.coming = false
	p.mu.Unlock()
	if was {
		p.arrived()
	}
}

// keepSaying keeps saying hello over a session, until leave is called, which waits for the end of that.
func (p *presence) keepSaying(conn *session) (leave func()) {
	p.want()
	ctx, cancel := context.WithCancel(conn.ctx)
	var wg sync.WaitGroup
	wg.Go(func() { p.keep(ctx, conn) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// want has a hello said.
func (p *presence) want() {
	p.mu.Lock()
	p.helloDue = true
	p.mu.Unlock()
	notify(p.wanted)
}

// keep says what is to be said over a session, whose requests are heard now, until ctx is done: hello,
// whenever another end wants to know who is there, and the asks. What AppSync does not take is said again,
// and told once.
func (p *presence) keep(ctx context.Context, conn *session) {
	told := false
	hurried := false
	for ctx.Err() == nil {
		select {
		case <-p.wanted:
		case <-ctx.Done():
			return
		}
		drain(p.urgent)
		pause := helloPause
		err := p.sayNext(ctx, conn)
		p.come()
		if err != nil && ctx.Err() == nil {
			if !told {
				told = true
				p.api.log.Warn("extensions do not hear that this end is here; trying again", "error", err)
			}
			pause = refusedPause
		}
		// An extension waits only for byePause after a bye for the hello of another end. Messages may come in
		// a flood, so only one of two pauses ends early.
		soon := p.urgent
		if hurried || err != nil {
			soon = nil
		}
		select {
		case <-soon:
			hurried = true
		case <-time.After(pause):
			hurried = false
		case <-ctx.Done():
		}
	}
}

// sayNext says a hello if one is due, else one of the asks.
func (p *presence) sayNext(ctx context.Context, conn *session) error {
	hello, ask := p.next(conn)
	if !hello && ask == "" {
		return nil
	}
	err := p.say(ctx, conn, "hello", ask)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case hello && p.said.IsZero():
		p.said = time.Now() // also if it failed: the others will not hear of it for long
	case err != nil && !hello:
		p.asking(ask, nil)
	}
	if err != nil {
		p.helloDue = true
		notify(p.wanted)
	}
	return err
}

// next takes what is to be said next over a session: a hello, or the sender of an end to ask.
func (p *presence) next(conn *session) (hello bool, ask string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	hello = p.helloDue
	p.helloDue = false
	if !hello && len(p.asks) > 0 {
		ask = p.asks[0]
		p.asks = p.asks[1:]
		p.asking(ask, conn)
	}
	if len(p.asks) > 0 {
		notify(p.wanted)
	}
	return hello, ask
}

// say publishes a hello, unless this end has said bye, or a bye. It does not wait for AppSync. If conn is
// nil, nobody hears it.
func (p *presence) say(ctx context.Context, conn *session, what, ask string) error {
	p.speaks <- struct{}{}
	defer func() { <-p.speaks }()
	if p.left {
		return nil
	}
	p.left = what == "bye"
	if conn == nil {
		return nil
	}
	p.mu.Lock()
	m := p.self
	p.mu.Unlock()
	m.Type = what
	m.RequestID = m.Sender + "/" + what
	m.Stage = p.api.stage
	m.Ask = ask
	if ask == askAll {
		m.Functions = noFunctions
	}
	return conn.publish(ctx, p.api.presenceChannel(), p.keys.encode(m), unawaited)
}

// noFunctions are patterns that match no function.
var noFunctions = []string{""}

// decodePresence reads an event of the presence channel. It returns nil, without an error, if that is of
// another version.
func decodePresence(event string) (*presenceMessage, error) {
	if len(event) > maxHello {
		return nil, fmt.Errorf("it has more than %d bytes", maxHello)
	}
	m := new(presenceMessage)
	err := json.Unmarshal([]byte(event), m)
	if err != nil {
		return nil, errors.New("it is not JSON, or a field is of another type")
	}
	if m.LiveLambda != 1.0 { // a number in an any is a float64
		return nil, nil
	}
	if m.Sender == "" || len(m.Sender) > maxSender || len(m.Stage) > maxSender {
		return nil, errors.New("its sender or stage is missing or too long")
	}
	if len(m.Functions) > maxPatterns || len(m.Except) > maxExcept {
		return nil, errors.New("it has too many functions")
	}
	if m.Since < 0 || m.Since > maxSince {
		return nil, errors.New("its field since is out of range")
	}
	m.By = clip(plainText(m.By), maxBy)
	return m, nil
}

// sayBye says that this end hears no more requests. It takes byeTimeout at most, but for a hello before.
func (p *presence) sayBye(conn *session) {
	ctx, cancel := context.WithTimeout(context.Background(), byeTimeout)
	defer cancel()
	p.say(ctx, conn, "bye", "") // if it does not arrive, extensions find out by themselves
}

// receive takes what an end says of itself. The session's reader calls it.
func (p *presence) receive(event string) {
	opened, opens := p.keys.openPresence(event)
	if !opens {
		return
	}
	m, err := decodePresence(opened)
	if err != nil {
		p.api.log.Warn("dropped a message that is not valid", "type", "hello or bye", "error", err)
		return
	}
	if m == nil || m.Sender == p.self.Sender {
		return
	}
	switch m.Type {
	case "hello":
		if m.Ask == askAll { // by one who is about to hear requests
			p.answerSoon()
		} else if p.note(m) || m.Ask == p.self.Sender {
			p.want()
		}
	case "bye":
		if p.forget(m.Sender) {
			p.answerSoon()
		} else {
			p.want() // extensions may have heard that one last
		}
	}
}

// answerSoon has a hello said that others wait for.
func (p *presence) answerSoon() {
	notify(p.urgent)
	p.want()
}
