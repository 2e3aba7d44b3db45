//go:build !layer

package main

// local_presence.go says to extensions and to other local ends that this end hears requests, and when it
// hears no more of them. An extension whose invocations run the deployed code, because nobody was there,
// sends the next one here as soon as it has heard that.
//
// What others say comes in through receive, which the session's reader calls. What this end says goes out
// through keep, which has a goroutine for each session, and sayBye.

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	helloPause  = time.Second // between two of this end's hellos, at least
	byeTimeout  = time.Second // for AppSync to take a bye, if it goes over HTTPS
	maxPresence = 1000        // other ends that are remembered
	maxSender   = 50          // bytes of another end's name, as of a channel's segment
)

// presence is what this end and others have said of themselves.
type presence struct {
	api    *appsync
	self   presenceMessage // what is said, but for its type and request ID
	keys   *keyring
	wanted chan struct{} // a hello is to be said; has room for one

	speaks chan struct{} // has something while this end says something: nothing comes after its bye
	left   bool          // it has said bye, or would have; guarded by speaks

	mu    sync.Mutex       // guards the following
	heard map[string]int64 // `since` of the other ends that have said hello, by sender
}

// presenceMessage is a hello or a bye: a part, and what local ends alone read.
type presenceMessage struct {
	part
	By    string `json:"by"`    // USER@HOST
	Since int64  `json:"since"` // Unix milliseconds of the process's start
}

func newPresence(api *appsync, sender string, opts localOptions, keys *keyring) *presence {
	return &presence{
		api:    api,
		keys:   keys,
		wanted: make(chan struct{}, 1),
		speaks: make(chan struct{}, 1),
		heard:  map[string]int64{},
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

// keepSaying keeps saying hello over a session, until leave is called, which waits for the end of that.
func (p *presence) keepSaying(conn *session) (leave func()) {
	ctx, cancel := context.WithCancel(conn.ctx)
	var wg sync.WaitGroup
	wg.Go(func() { p.keep(ctx, conn) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// keep says hello over a session, whose requests are heard now, and again whenever another end wants to know
// who is there, until ctx is done. What AppSync does not take is said again, and told once.
func (p *presence) keep(ctx context.Context, conn *session) {
	told := false
	for ctx.Err() == nil {
		pause := helloPause
		err := p.say(ctx, conn, "hello")
		if err != nil && ctx.Err() == nil {
			if !told {
				told = true
				p.api.log.Warn("extensions do not hear that this end is here; trying again", "error", err)
			}
			pause = refusedPause
			notify(p.wanted)
		}
		sleep(ctx, pause)
		select {
		case <-p.wanted:
		case <-ctx.Done():
		}
	}
}

// say publishes a hello, unless this end has said bye, or a bye. It does not wait for AppSync. If conn is
// nil, nobody hears it.
func (p *presence) say(ctx context.Context, conn *session, what string) error {
	p.speaks <- struct{}{}
	defer func() { <-p.speaks }()
	if p.left {
		return nil
	}
	p.left = what == "bye"
	if conn == nil {
		return nil
	}
	m := p.self
	m.Type = what
	m.RequestID = m.Sender + "/" + what
	m.Stage = p.api.stage
	return conn.publish(ctx, p.api.presenceChannel(), p.keys.encode(m), unawaited)
}

// sayBye says that this end hears no more requests. It takes byeTimeout at most, but for a hello before.
func (p *presence) sayBye(conn *session) {
	ctx, cancel := context.WithTimeout(context.Background(), byeTimeout)
	defer cancel()
	p.say(ctx, conn, "bye") // if it does not arrive, extensions find out by themselves
}

// receive takes what an end says of itself. The session's reader calls it.
func (p *presence) receive(event string) {
	opened, opens := p.keys.openPresence(event)
	if !opens {
		return
	}
	var m presenceMessage
	err := json.Unmarshal([]byte(opened), &m)
	if err != nil {
		p.api.log.Warn("dropped a message that is not valid", "type", "hello or bye")
		return
	}
	// A number in an any is a float64.
	if m.LiveLambda != 1.0 || m.Sender == p.self.Sender || len(m.Sender) > maxSender {
		return
	}
	switch m.Type {
	case "hello":
		if p.isNews(m) || m.Ask == p.self.Sender {
			notify(p.wanted)
		}
	case "bye":
		p.forget(m.Sender)
		notify(p.wanted) // extensions may have heard that one last
	}
}

// isNews notes a hello, and reports whether it is the first one of that sender since it started.
func (p *presence) isNews(m presenceMessage) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heard[m.Sender] == m.Since {
		return false
	}
	if len(p.heard) >= maxPresence {
		clear(p.heard)
	}
	p.heard[m.Sender] = m.Since
	return true
}

// forget forgets an end that has said bye.
func (p *presence) forget(sender string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.heard, sender)
}
