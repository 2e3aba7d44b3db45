//go:build !layer

package main

// local_terminal_test.go tests what the developer sees.

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newScreenTerminal returns a terminal of so many columns, 0 for none, and what it shows.
func newScreenTerminal(columns int) (*terminal, *screen) {
	out := &screen{new: make(chan struct{}, 1)}
	term := &terminal{
		out:     out,
		errors:  out,
		columns: func() int { return columns },
		chunks:  make(chan chunk, 100),
	}
	return term, out
}

// It tells one invocation that begins and is answered, and two more answers: one that ends within a character
// where its beginning is cut off, and an error. The developer must not get what a terminal would obey.
func TestTerminalTellsInvocations(t *testing.T) {
	for _, tt := range []struct {
		name    string
		columns int
		colour  bool
		json    bool
		verbose bool
		want    []string
	}{
		{
			name: "pipe",
			want: []string{
				"00:00:00.000 orders 00000000 start   1.2 kB in, 1 running\n",
				"00:00:00.100 orders 00000000 ok      100 ms, 2.5 MB out\n",
				"00:00:00.100 orders 00000000 error   0 ms  E: what went wrong?[31m\n",
			},
		},
		{
			name:    "terminal",
			columns: 60,
			colour:  true,
			want: []string{
				"00:00:00.000 \x1b[2morders 00000000 start   1.2 kB in, 1 running\x1b[0m\n",
				"00:00:00.100 \x1b[32morders 00000000 ok      100 ms, 2.5 MB out\x1b[0m\n",
				"00:00:00.100 \x1b[31morders 00000000 error   0 ms  E: what went wr…\x1b[0m\n",
			},
		},
		{
			name: "json",
			json: true,
			want: []string{
				`{"time":"START","type":"start","function":"orders","request_id":"00000000-0000",` +
					`"bytes_in":1200,"running":1,"queued":0}` + "\n",
				`"type":"end","function":"orders","request_id":"00000000-0000","outcome":"ok","ms":100,` +
					`"bytes_out":2500000,"queued":0}` + "\n",
				`"outcome":"error","error_type":"E","message":"E: what went wrong\u001b[31m\nat line 1",`,
			},
		},
		{
			name:    "verbose",
			verbose: true,
			want: []string{
				"    event: {\n      \"a\": 1\n    }\n",
				"    answer: 2.5 MB that are not text\n",
				"    answer: äö\n",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				term, out := newScreenTerminal(tt.columns)
				term.colour = tt.colour
				term.json = tt.json
				term.verbose = tt.verbose
				start := time.Now()
				tellInvocations(term)
				term.start()
				term.close()
				times := strings.NewReplacer(
					"START", start.UTC().Format(time.RFC3339Nano),
					"00:00:00.000", start.Format("15:04:05.000"),
					"00:00:00.100", start.Add(100*time.Millisecond).Format("15:04:05.000"),
				)
				for _, want := range tt.want {
					want = times.Replace(want)
					if !strings.Contains(out.String(), want) {
						t.Errorf("no %q in\n%q", want, out)
					}
				}
			})
		})
	}
}

func tellInvocations(term *terminal) {
	c := eventContext{RequestID: "00000000-0000", FunctionName: "orders"}
	q := newRequest([]byte(`{"a":1}`), c)
	if !term.verbose {
		q.size = 1200
	}
	term.arrived(q, 0)
	time.Sleep(100 * time.Millisecond)
	term.ended(q, &reply{kind: "response", size: 2_500_000, head: []byte("\xff\xfe\xff\xff\xff")}, 0)
	term.ended(q, &reply{kind: "response", size: 20_000, head: []byte("äöü")[:5]}, 0)
	failed := newRequest([]byte("1"), c)
	body := []byte(`{"errorType":"E","errorMessage":"what went wrong\u001b[31m\nat line 1"}`)
	term.ended(failed, errorReply("E", body), 0)
}

func TestMedianOfAnEvenNumberIsBetweenTheTwoInTheMiddle(t *testing.T) {
	for _, tt := range []struct {
		took []time.Duration
		want time.Duration
	}{
		{},
		{took: []time.Duration{7}, want: 7},
		{took: []time.Duration{10, 2}, want: 6},
		{took: []time.Duration{9, 1, 2}, want: 2},
		{took: []time.Duration{100, 1, 4, 2}, want: 3},
	} {
		term := &terminal{durations: tt.took}
		_, median, _, _ := term.totals()
		if median != tt.want {
			t.Errorf("the median of %v is %v, want %v", tt.took, median, tt.want)
		}
	}
}

// The live line tells what is running. It goes when nothing is.
func TestLiveLineStaysBelowEverythingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term, out := newScreenTerminal(40)
		term.start()
		q := newRequest([]byte("1"),
			eventContext{RequestID: "00000000-0000", FunctionName: "a-function-with-a-long-name"})
		term.arrived(q, 0)
		synctest.Wait()
		time.Sleep(time.Second)
		w := term.output("a", false)
		io.WriteString(w, "a handler's line\n")
		synctest.Wait()
		term.ended(q, &reply{kind: "response"}, 0)
		synctest.Wait()
		io.WriteString(w, "printed before it answered\n")
		term.close()
		text := out.String()
		const live = "\x1b[2m1 running  a-function-w~a-long-name 00…\x1b[0m"
		for _, want := range []string{live + "\r\x1b[Ka handler's line\n" + live, "\r\x1b[Kprinted before"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in %q", want, text)
			}
		}
		if !strings.HasSuffix(text, "\n") {
			t.Errorf("it ends with %q", text[max(0, len(text)-30):])
		}
	})
}

// What a handler printed before it answered comes through a pipe, and so after the answer.
func TestEndIsToldAfterWhatTheHandlerPrinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term, out := newScreenTerminal(40)
		term.start()
		q := newRequest([]byte("1"), eventContext{RequestID: "00000000-0000", FunctionName: "orders"})
		term.arrived(q, 0)
		synctest.Wait()
		time.Sleep(time.Second)
		term.ended(q, &reply{kind: "response"}, 0)
		ended := time.Now().Format("15:04:05.000 ")
		synctest.Wait()
		io.WriteString(term.output("a", false), "printed before it answered\n")
		synctest.Wait()
		lines := strings.Split(out.String(), "\n")
		if !strings.HasSuffix(lines[len(lines)-2], "printed before it answered") {
			t.Errorf("it wrote %q", out)
		}
		time.Sleep(time.Second)
		if !strings.Contains(out.String(), "\n"+ended) {
			t.Errorf("it wrote %q", out)
		}
		term.close()
	})
}
