//go:build !layer

package main

// local_who.go is the command who: it has all local ends say who they are, and prints what they say.

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

const (
	whoPause = 2 * time.Second // for local ends to answer, each of which speaks once a second at most
	whoAgain = time.Second     // they are asked again: messages may get lost
	maxWho   = 1000            // local ends that are listed
)

const whoUsage = `usage: live-lambda who [flags]

Prints the local ends that are there: who runs each, for which stage, which functions it serves, and since
when it does. Of those that serve one function on one stage the first one listed gets its invocations. It
takes two seconds.

It needs the permissions of the stack's developer policy: appsync:EventConnect, appsync:EventPublish,
appsync:EventSubscribe; and cloudformation:DescribeStacks for --stack.`

// who is the command who.
func (t *console) who(args []string) int {
	f := t.commandLine("who", whoUsage)
	f.addAPI()
	f.addKeys()
	f.addShared(false, "stage")
	asJSON := f.Bool("json", false, "one JSON object a line")
	status, ok := f.parseFlags(args)
	if !ok {
		return status
	}
	config, keys, err := f.endpoint(context.Background())
	if err != nil {
		return f.wrong("%v", err)
	}
	transport := newTransport()
	defer transport.CloseIdleConnections()
	api := newAppSync(
		*config, nil, transport, developerCredentials(f.profile, transport),
		slog.New(slog.DiscardHandler))
	ends, err := api.whoIsThere(context.Background(), newKeyring(keys, nil))
	if err != nil {
		return f.failed(err)
	}
	t.printEnds(f.ofStage(ends), *asJSON)
	return 0
}

// ofStage are those of the stage that --stage names, all without it.
func (f *commandLine) ofStage(ends []presenceMessage) []presenceMessage {
	stage, named := f.variables["LIVE_LAMBDA_STAGE"]
	return slices.DeleteFunc(ends, func(m presenceMessage) bool { return named && m.Stage != stage })
}

// roll is what local ends have answered.
type roll struct {
	keys  *keyring
	mu    sync.Mutex                 // guards the following
	ends  map[string]presenceMessage // by sender
	heard chan struct{}              // the question itself has come back; has room for one
}

// newQuestion is what somebody says who serves nothing and wants to hear from all.
func newQuestion() presenceMessage {
	sender := rand.Text()[:16]
	return presenceMessage{part: part{
		LiveLambda: 1,
		Type:       "hello",
		RequestID:  sender + "/hello",
		Last:       true,
		Sender:     sender,
		Functions:  noFunctions,
		Ask:        askAll,
	}}
}

// whoIsThere asks all local ends who they are. The later of two that share functions comes first.
func (a *appsync) whoIsThere(ctx context.Context, keys *keyring) ([]presenceMessage, error) {
	conn, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.conn.close()
	question := newQuestion()
	r := &roll{keys: keys, ends: map[string]presenceMessage{}, heard: make(chan struct{}, 1)}
	take := func(event string) { r.take(event, question.Sender) }
	err = conn.subscribe(conn.ctx, ackTimeout, a.presenceChannel(), take)
	if err != nil {
		return nil, err
	}
	err = r.ask(conn, question)
	if err != nil {
		return nil, err
	}
	return r.list(), nil
}

// list returns those who are there.
func (r *roll) list() []presenceMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.ends), func(a, b presenceMessage) int {
		return cmp.Or(
			cmp.Compare(a.Stage, b.Stage), cmp.Compare(b.Since, a.Since), cmp.Compare(b.Sender, a.Sender))
	})
}

// ask asks again and again until whoPause after the question has come back, which shows that the subscription
// delivers.
func (r *roll) ask(conn *session, question presenceMessage) error {
	var end <-chan time.Time
	late := time.After(ackTimeout)
	again := time.NewTicker(whoAgain)
	defer again.Stop()
	due := true
	for {
		if due {
			err := conn.publish(conn.ctx, conn.presenceChannel(), r.keys.encode(question), awaited)
			if err != nil {
				return err
			}
			due = false
		}
		select {
		case <-r.heard:
			if end == nil {
				end = time.After(whoPause)
			}
		case <-again.C:
			due = true
		case <-end:
			return nil
		case <-late:
			if end == nil {
				return errors.New("the presence channel does not deliver: try live-lambda doctor")
			}
		case <-conn.ctx.Done():
			return context.Cause(conn.ctx)
		}
	}
}

// take takes an event of the presence channel. The session's reader calls it.
func (r *roll) take(event, self string) {
	p, err := r.keys.parse(event)
	if err != nil || p == nil {
		return
	}
	m, err := decodePresence(p.text)
	if err != nil || m == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case m.Sender == self:
		notify(r.heard)
	case m.Type == "bye":
		delete(r.ends, m.Sender)
	case m.Type == "hello" && m.Ask != askAll && len(r.ends) < maxWho:
		r.ends[m.Sender] = *m
	}
}

// whoLine is a line of `who --json`.
type whoLine struct {
	By        string   `json:"by"`
	Stage     string   `json:"stage"`               // "": none
	Functions []string `json:"functions,omitempty"` // patterns; none: all
	Except    []string `json:"except,omitempty"`
	Since     string   `json:"since"` // RFC 3339, unless the year has more than four digits
	Sender    string   `json:"sender"`
}

// printEnds prints a line for each local end.
func (t *console) printEnds(ends []presenceMessage, asJSON bool) {
	if len(ends) == 0 && !asJSON {
		fmt.Fprintln(t.out, "nobody is there: no live-lambda local has answered; one that has a key answers "+
			"only who has it too (--key)")
		return
	}
	table := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	defer table.Flush()
	for _, m := range ends {
		if asJSON {
			fmt.Fprintf(t.out, "%s\n", m.lineJSON())
		} else {
			fmt.Fprintln(table, m.line())
		}
	}
}

// lineJSON is the line of an end with --json. There is nothing in it that a terminal would obey.
func (m presenceMessage) lineJSON() []byte {
	line, _ := json.Marshal(whoLine{ // strings always marshal
		By:        m.By,
		Stage:     m.Stage,
		Functions: m.Functions,
		Except:    m.Except,
		Since:     time.UnixMilli(m.Since).UTC().Format(time.RFC3339),
		Sender:    m.Sender,
	})
	return asciiJSON(line)
}

// line is the line of an end, its columns apart by tabs.
func (m presenceMessage) line() string {
	stage := "no stage"
	if m.Stage != "" {
		stage = "stage " + m.Stage
	}
	functions := functionsText(m.Functions)
	if len(m.Except) > 0 {
		functions += " but " + functionsText(m.Except)
	}
	since := time.UnixMilli(m.Since).Format(time.DateTime)
	return strings.Join([]string{m.By, plainText(stage), functions, "since " + since}, "\t")
}
