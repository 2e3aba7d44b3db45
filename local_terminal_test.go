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

func TestTerminalLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name                  string
			columns               int
			colour, json, verbose bool
			want                  []string
		}{
			{name: "pipe", want: []string{
				"00:00:00.000 orders 00000000 start   1.2 kB in, 1 running\n",
				"00:00:00.100 orders 00000000 ok      100 ms, 2.5 MB out\n",
				"00:00:00.100 orders 00000000 error   0 ms  E: what went wrong?[31m\n"}},
			{name: "terminal", columns: 60, colour: true, want: []string{
				"00:00:00.000 \x1b[2morders 00000000 start   1.2 kB in, 1 running\x1b[0m\n",
				"00:00:00.100 \x1b[32morders 00000000 ok      100 ms, 2.5 MB out\x1b[0m\n",
				"00:00:00.100 \x1b[31morders 00000000 error   0 ms  E: what went wro\x1b[0m\n"}},
			{name: "json", json: true, want: []string{
				`{"time":"START","type":"start","function":"orders","request_id":"00000000-0000",` +
					`"bytes_in":1200,"running":1,"queued":0}` + "\n",
				`"type":"end","function":"orders","request_id":"00000000-0000","outcome":"ok","ms":100,` +
					`"bytes_out":2500000,"queued":0}` + "\n",
				`"outcome":"error","error_type":"E","message":"E: what went wrong\u001b[31m\nat line 1",`}},
			{name: "verbose", verbose: true,
				want: []string{"    event: {\n      \"a\": 1\n    }\n",
					"    answer: 2.5 MB that are not text\n",
					"    answer: äö\n"}},
		} {
			out := &screen{new: make(chan struct{}, 1)}
			term := &terminal{out: out, errors: out, columns: func() int {
				return tt.columns
			}, colour: tt.colour, json: tt.json, verbose: tt.verbose,
				chunks: make(chan chunk, 100)}
			start := time.Now()
			q := newRequest(
				[]byte(`{"a":1}`), eventContext{RequestID: "00000000-0000", FunctionName: "orders"})
			if q.size = 1200; tt.verbose {
				q.size = len(q.event)
			}
			term.arrived(q, 0)
			time.Sleep(100 * time.Millisecond)
			term.ended(q, &reply{kind: "response", size: 2_500_000, head: []byte("\xff\xfe\xff\xff\xff")}, 0)
			// its beginning ends within a character
			term.ended(q, &reply{kind: "response", size: 20_000, head: []byte("äöü")[:5]}, 0)
			failed := newRequest([]byte("1"), q.context)
			term.ended(failed,
				errorReply("E",
					[]byte(`{"errorType":"E","errorMessage":"what went wrong\u001b[31m\nat line 1"}`)), 0)
			term.start()
			term.close()
			for _, want := range tt.want {
				want = strings.
					NewReplacer("00:00:00.000", start.Format("15:04:05.000"), "START",
						start.UTC().Format(time.RFC3339Nano),
						"00:00:00.100", start.Add(100*time.Millisecond).Format("15:04:05.000")).Replace(want)
				if !strings.Contains(out.String(), want) {
					t.Errorf("%s: no %q in\n%q", tt.name, want, out)
				}
			}
		}
	})
}

// The live line tells what is running, stays below everything else, and goes.
func TestTerminalLiveLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &screen{new: make(chan struct{}, 1)}
		term := &terminal{out: out, errors: out, columns: func() int {
			return 40
		}, chunks: make(chan chunk, 100)}
		term.start()
		q := newRequest(
			[]byte("1"),
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
		synctest.Wait()
		if lines := strings.Split(out.String(), "\n"); !strings.HasSuffix(
			lines[len(lines)-2], "printed before it answered") {
			t.Errorf("it wrote %q", out)
		}
		ended := time.Now().Format("15:04:05.000 ")
		time.Sleep(time.Second)
		if !strings.Contains(out.String(), "\n"+ended) {
			t.Errorf("it wrote %q", out)
		}
		term.close()
		text := out.String()
		const live = "\x1b[2m1 running  a-function-w~a-long-name 000\x1b[0m"
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
