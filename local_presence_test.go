//go:build !layer

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// presenceRig plays other ends on the presence channel.
type presenceRig struct {
	*localRig
	said chan string // by the end that is tested
}

// presenceBubble runs a test in a bubble, when the end that is tested has said its first hello.
func presenceBubble(t *testing.T, test func(*presenceRig)) {
	t.Setenv("USER", "alice")
	localBubble(t, func(r *localRig) {
		p := &presenceRig{localRig: r, said: make(chan string, 100)}
		time.Sleep(2 * helloPause)
		r.api.intercept(func(f apiFrame) apiVerdict {
			published := f.typ == "publish" || f.typ == "http_publish"
			if published && f.channel == presenceChannel {
				var fields map[string]json.RawMessage
				json.Unmarshal([]byte(f.events[0]), &fields)
				sorted, _ := json.Marshal(fields) // only an Event API has sorted them
				p.said <- string(sorted)
			}
			return apiVerdict{}
		})
		test(p)
	})
}

// others says something on behalf of others, and returns what the end that is tested says then.
func (p *presenceRig) others(messages ...string) (said []string) {
	p.Helper()
	for _, message := range messages {
		p.api.publish(presenceChannel, message)
	}
	time.Sleep(2 * helloPause)
	for len(p.said) > 0 {
		said = append(said, <-p.said)
	}
	return said
}

// ownText is a hello or a bye of the end that is tested, with its keys sorted.
func (p *presenceRig) ownText(what string) string {
	host, _ := os.Hostname()
	sender := p.sub.sender
	return fmt.Sprintf(`{"by":"alice@%s","index":0,"last":true,"live_lambda":1,"request_id":"%s/%s",`+
		`"sender":%q,"since":%d,"type":%q}`, host, sender, what, sender, p.sub.presence.self.Since, what)
}

// Each of the others is told once who is here, so that ends that come at different times know each other.
func TestLocalEndSaysHelloWhenAnotherOneComesOrGoes(t *testing.T) {
	presenceBubble(t, func(p *presenceRig) {
		hello := presenceText("hello", "")
		for _, step := range []struct {
			name    string
			message string
			hellos  int
		}{
			{name: "another end comes", message: hello, hellos: 1},
			{name: "the same again", message: hello},
			{name: "it has started anew", message: strings.Replace(hello, ":17958", ":17959", 1), hellos: 1},
			{name: "it asks", message: presenceText("hello", `,"ask":"`+p.sub.sender+`"`), hellos: 1},
			{name: "it asks somebody else", message: presenceText("hello", `,"ask":"b4e1"`)},
			{name: "it goes", message: presenceText("bye", ""), hellos: 1},
			{name: "it comes back", message: hello, hellos: 1},
			{name: "of another version", message: strings.Replace(hello, `":1,"type`, `":2,"type`, 1)},
			{name: "no JSON", message: "hello"},
			{name: "its own", message: p.ownText("hello")},
			{name: "of another type", message: presenceText("hallo", "")},
		} {
			said := p.others(step.message)
			want := slices.Repeat([]string{p.ownText("hello")}, step.hellos)
			if !slices.Equal(said, want) {
				t.Errorf("%s: it said %q, want %q", step.name, said, want)
			}
		}
	})
}

func TestLocalEndSaysHelloOnceASecondAtMost(t *testing.T) {
	presenceBubble(t, func(p *presenceRig) {
		var crowd []string
		for i := range 50 {
			hello := strings.ReplaceAll(presenceText("hello", ""), "a3f0", fmt.Sprintf("a%d", i))
			crowd = append(crowd, hello)
		}
		said := p.others(crowd...)
		if len(said) == 0 || len(said) > 2 {
			t.Errorf("it said %d hellos to 50 others in two seconds", len(said))
		}
	})
}

// After bye it says nothing more: an extension that hears a hello sends requests.
func TestLocalEndSaysByeWhenItEnds(t *testing.T) {
	presenceBubble(t, func(p *presenceRig) {
		p.local.shutDown(p.sub, nil, true)
		said := p.others(presenceText("hello", ""))
		if !slices.Equal(said, []string{p.ownText("bye")}) {
			t.Errorf("it said %q", said)
		}
	})
}

// The connection comes back while it waits for its last invocation: it hears no new ones then.
func TestLocalEndThatIsEndingSaysNoHello(t *testing.T) {
	presenceBubble(t, func(p *presenceRig) {
		p.newEar("aaaa").begin(1, p.context())
		conn, _ := p.sub.current()
		conn.drop(errors.New("cut"))
		var wg sync.WaitGroup
		wg.Go(func() { p.local.shutDown(p.sub, nil, false) })
		p.out.waitTimes(p.localRig, "waiting for invocations", 2)
		said := p.others(presenceText("hello", ""))
		if slices.Contains(said, p.ownText("hello")) {
			t.Errorf("it said %q", said)
		}
		p.local.endAll()
		wg.Wait()
	})
}

// Signing may take long, if the AWS CLI is asked for credentials.
func TestNothingIsSaidAfterABye(t *testing.T) {
	presenceBubble(t, func(p *presenceRig) {
		slow := currentCredentials(func(context.Context) (credentials, error) {
			time.Sleep(200 * time.Millisecond)
			return credentials{accessKeyID: "AKIDEXAMPLE", secretAccessKey: "secret"}, nil
		})
		p.sign.Store(&slow)
		p.api.publish(presenceChannel, presenceText("hello", ""))
		time.Sleep(10 * time.Millisecond)
		p.local.shutDown(p.sub, nil, true) // returns when bye has been said
		said := p.others()
		if want := []string{p.ownText("hello"), p.ownText("bye")}; !slices.Equal(said, want) {
			t.Errorf("it said %q, want %q", said, want)
		}
	})
}

func TestHelloIsSaidAgainIfItFails(t *testing.T) {
	presenceBubble(t, func(p *presenceRig) {
		none := currentCredentials(func(context.Context) (credentials, error) {
			return credentials{}, errors.New("none now")
		})
		p.sign.Store(&none)
		if said := p.others(presenceText("hello", "")); len(said) > 0 {
			t.Errorf("it said %q", said)
		}
		p.sign.Store(nil)
		time.Sleep(refusedPause)
		if said := p.others(); !slices.Equal(said, []string{p.ownText("hello")}) {
			t.Errorf("it said %q", said)
		}
	})
}

func TestHelloNamesTheFunctionsAndTheStageThatAreServed(t *testing.T) {
	for _, tt := range []struct {
		opts  localOptions
		want  []string
		stage string
	}{
		{},
		{stage: "alice"},
		{
			opts: localOptions{functions: []string{"pay", "orders-*"}},
			want: []string{"orders-*", "pay"},
		},
		{
			opts: localOptions{maps: map[string]code{"pay": {handler: "pay.handler"}}},
			want: []string{"pay"},
		},
		{
			opts: localOptions{
				code: code{handler: "index.handler"},
				maps: map[string]code{"pay": {handler: "pay.handler"}},
			},
		},
		{
			opts: localOptions{
				functions: []string{"orders", "pay"},
				maps:      map[string]code{"pay": {handler: "pay.handler"}},
			},
			want: []string{"orders", "pay"},
		},
	} {
		api := &appsync{endpoint: endpoint{namespace: "team", stage: tt.stage}}
		p := newPresence(api, "a3f0", tt.opts, newKeyring(nil, nil))
		if !slices.Equal(p.self.Functions, tt.want) || p.api.stage != tt.stage {
			t.Errorf("%+v: functions %q, stage %q; want %q, %q",
				tt.opts, p.self.Functions, p.api.stage, tt.want, tt.stage)
		}
	}
}

// It is told once, whichever environment says so again.
func TestLocalTellsThatTheDeployedCodeAnsweredMeanwhile(t *testing.T) {
	localBubble(t, func(r *localRig) {
		e := r.newEar("aaaa")
		start := time.Now()
		time.Sleep(time.Minute)
		during := start.Add(time.Second)
		for i, at := range []time.Time{{}, start.Add(-time.Second), during, during} {
			c := r.context()
			if !at.IsZero() {
				c.DeployedMs = at.UnixMilli()
			}
			e.ask(i+1, i, c)
		}
		synctest.Wait()
		want := "orders: the deployed code has answered an invocation at " +
			during.Format(time.TimeOnly) + ", although this end was connected"
		if n := strings.Count(r.out.String(), "although"); n != 1 || !strings.Contains(r.out.String(), want) {
			t.Errorf("it is told %d times, want once %q in\n%s", n, want, r.out)
		}
	})
}
