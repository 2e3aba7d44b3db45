//go:build !layer

package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// It says nothing that others would take for a local end.
func TestWhoHearsThoseThatAreThere(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		want := func(names string) {
			r.Helper()
			start := time.Now()
			ends, err := r.client().whoIsThere(r.ctx, newKeyring(nil, nil))
			if err != nil {
				r.Fatal(err)
			}
			var got []string
			for _, m := range ends {
				got = append(
					got, strings.TrimSuffix(m.By, "@desk")+" "+m.Stage+" "+functionsText(m.Functions))
			}
			if text := strings.Join(got, "; "); text != names {
				r.Errorf("got %q, want %q", text, names)
			}
			if took := time.Since(start); took > whoPause+time.Second {
				r.Errorf("it took %v", took)
			}
		}
		r.tunnel.Lock()
		r.tunnel.audience(requestsChannel).miss()
		r.tunnel.Unlock()
		want("")
		r.tunnel.Lock()
		missed := !r.tunnel.audience(requestsChannel).missed.IsZero()
		r.tunnel.Unlock()
		if !missed {
			r.Error("the question has ended a miss")
		}
		ann := r.join("ann", mateOptions{})
		settle()
		r.join("bob", mateOptions{functions: []string{"pay", "orders-*"}})
		cid := r.join("cid", mateOptions{stage: "cid"})
		settle()
		want("bob  orders-*, pay; ann  all functions; cid cid all functions")
		want("bob  orders-*, pay; ann  all functions; cid cid all functions")
		cid.leave()
		want("bob  orders-*, pay; ann  all functions")
		synctest.Wait()
		ann.sub.presence.mu.Lock()
		defer ann.sub.presence.mu.Unlock()
		if n := len(ann.sub.presence.others); n != 2 { // bob, and cid who has gone
			r.Errorf("ann knows %d others", n)
		}
	})
}

// They have been written by whoever may publish.
func TestWhoPrintsALineForEachEnd(t *testing.T) {
	since := time.Date(2026, 11, 29, 10, 4, 11, 0, time.Local)
	last := time.UnixMilli(maxSince)
	ends := []presenceMessage{
		{
			part:  part{Sender: "b4e1", Stage: "al\x1bice", Functions: []string{"a", "b\x1b", "c", "d"}},
			By:    "bob@desk",
			Since: since.UnixMilli(),
		},
		{
			part:   part{Sender: "a3\u202ef0"},
			By:     "alice@laptop",
			Since:  maxSince,
			Except: []string{"pay"},
		},
	}
	for _, tt := range []struct {
		ends []presenceMessage
		json bool
		want string
	}{
		{want: "nobody is there: no live-lambda local has answered; one that has a key answers only " +
			"who has it too (--key)\n"},
		{json: true},
		{
			ends: ends,
			want: "bob@desk      stage al?ice  a, b?, c and 1 more    since 2026-11-29 10:04:11\n" +
				"alice@laptop  no stage      all functions but pay  since " +
				last.Format(time.DateTime) + "\n",
		},
		{
			ends: ends,
			json: true,
			want: `{"by":"bob@desk","stage":"al\u001bice","functions":["a","b\u001b","c","d"],"since":"` +
				since.UTC().Format(time.RFC3339) + `","sender":"b4e1"}` + "\n" +
				`{"by":"alice@laptop","stage":"","except":["pay"],"since":"` +
				last.UTC().Format(time.RFC3339) + `","sender":"a3\u202ef0"}` + "\n",
		},
	} {
		var out bytes.Buffer
		(&console{out: &out}).printEnds(tt.ends, tt.json)
		if out.String() != tt.want {
			t.Errorf("it printed\n%s\nwant\n%s", out.String(), tt.want)
		}
	}
}

func TestWhoFailsWithoutAnAPI(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{})
	c := r.command("", "who", "--host", "http://127.0.0.1:1", "--region", "eu-west-1")
	c.exit(1)
	if !strings.HasPrefix(c.stderr.String(), "live-lambda who: ") || c.stdout.String() != "" {
		t.Errorf("it printed %q and %q", c.stdout, c.stderr)
	}
	r.command("", "who", "orders").exit(2)
}
