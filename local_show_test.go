//go:build !layer

package main

// local_show_test.go tests how an invocation is written for a terminal.

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestInvocationIsShown(t *testing.T) {
	lines := strings.TrimSuffix(strings.Repeat("1,\n", 300), ",\n")
	for _, tt := range []struct {
		name   string
		i      keptInvocation
		opts   localOptions
		ui     bool
		want   []string
		absent string
	}{
		{
			name: "answer",
			i: keptInvocation{
				Event:  []byte(`{"a":[1,"\u001b[31m"]}`),
				Answer: []byte(`"ok"`),
				facts:  facts{Outcome: "ok", Ms: 12, Caller: "GET /\x1b[31m", Again: 3, AnswerBytes: 4},
			},
			want: []string{
				"#7 orders 00000000 ok, 12 ms, ran #3 again, GET /?[31m\n",
				"    event, 22 B:\n    {\n      \"a\": [\n        1,\n        \"\\u001b[31m\"\n      " +
					"]\n    }\n",
				"    answer, 4 B:\n    \"ok\"\n",
			},
			absent: "…",
		},
		{
			name: "text that a terminal would obey",
			i: keptInvocation{
				Event:  []byte("\"\x1b]0;title\x07\u202e\""),
				Answer: []byte("one\x1b[2J\r\n\ttwo\u009b31m\nthree"),
				facts:  facts{Outcome: "ok"},
			},
			want: []string{
				"    event, 15 B:\n    \"?]0;title??\"\n",
				"    one?[2J?\n      two?31m\n    three\n",
			},
		},
		{
			name: "running",
			i: keptInvocation{
				Event: []byte(`1`),
				facts: facts{Arrived: time.Now().Add(-time.Minute)},
			},
			want:   []string{"has been running for 60.0 s\n", "    1\n"},
			absent: "answer",
		},
		{
			name: "stream so far",
			i: keptInvocation{
				Event:  []byte(`1`),
				Answer: []byte("half\n"),
				facts:  facts{Streamed: true, AnswerBytes: 5, Arrived: time.Now()},
			},
			want: []string{"    streamed answer, 5 B:\n    half\n"},
		},
		{
			name: "over without an answer",
			i: keptInvocation{
				Event: []byte(`1`),
				facts: facts{Outcome: "timeout", Text: "deadline passed", Ms: 3000},
			},
			want: []string{"timeout, 3000 ms: deadline passed\n"},
		},
		{
			name: "empty answer",
			i:    keptInvocation{Event: []byte(`1`), facts: facts{Outcome: "ok"}},
			want: []string{"    answer: empty\n"},
		},
		{
			name: "not text",
			i: keptInvocation{
				Event:  []byte(`1`),
				Answer: []byte("\xff\x00\xff\x00\xff"),
				facts:  facts{Outcome: "ok"},
			},
			want: []string{"    answer: 5 B that are not text\n"},
		},
		{
			name: "Python's error",
			i: keptInvocation{
				Event: []byte(`1`),
				Error: []byte(`{"errorType":"E","errorMessage":"what\u001b[31m","stackTrace":["  File ` +
					`\"a.py\"\n` +
					`    code\n"]}`),
				facts: facts{Outcome: "error", Text: "E: what"},
			},
			want: []string{
				"#7 orders 00000000 error, 0 ms\n",
				"    error:\n    E: what?[31m\n      File \"a.py\"\n        code\n",
			},
			absent: "answer",
		},
		{
			name: "JavaScript's error",
			i: keptInvocation{
				Event: []byte(`1`),
				Error: []byte(
					`{"errorType":"E","errorMessage":"what","trace":["E: what","    at f (a.js)"]}`),
				facts: facts{Outcome: "error"},
			},
			want: []string{"    error:\n    E: what\n        at f (a.js)\n"},
		},
		{
			name: "another error",
			i: keptInvocation{
				Event: []byte(`1`), Error: []byte(`no JSON`), facts: facts{Outcome: "error"}},
			want: []string{"    error, 7 B:\n    no JSON\n"},
		},
		{
			name: "too many lines",
			i: keptInvocation{
				Event:  []byte("[" + strings.ReplaceAll(lines, "\n", "") + "]"),
				Answer: []byte(strings.ReplaceAll(lines, ",", "")),
				facts:  facts{Outcome: "ok"},
			},
			want: []string{
				strings.Repeat("      1,\n", 199) +
					"    … 302 lines, 601 B in all: s 7 NAME saves all of it\n",
				strings.Repeat("    1\n", 200) +
					"    … 300 lines, 599 B in all: local --record DIRECTORY keeps all of it\n",
			},
		},
		{
			name: "too long, and cut within a character",
			i: keptInvocation{
				Event:  []byte(`"` + strings.Repeat("ä", maxShownBytes) + `"`),
				Answer: []byte(strings.Repeat("x", maxShownBytes+1)),
				facts:  facts{Outcome: "ok"},
			},
			ui: true,
			want: []string{
				"    \"" + strings.Repeat("ä", maxShownBytes/2-1) +
					"\n    … 1 line, 40.0 kB in all: s 7 NAME",
				"    x", "x\n    … 1 line, 20.0 kB in all: o opens the inspector, which has all of it\n",
			},
		},
		{
			name: "not kept",
			i: keptInvocation{
				facts: facts{Outcome: "ok", Light: true, EventBytes: 2_000_000, AnswerBytes: 3_000_000},
			},
			want: []string{
				"    event: 2.0 MB, too large to be kept\n    answer: 3.0 MB, too large to be kept\n",
			},
		},
		{
			name: "recorded",
			i: keptInvocation{
				Event:  []byte(`1`),
				Answer: []byte(strings.Repeat("x", maxShownBytes+1)),
				facts:  facts{Outcome: "ok"},
			},
			opts: localOptions{record: "there"},
			want: []string{"in all: all of it is in there\n"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newTestLocal(t, tt.opts)
			if tt.ui {
				r.local.openPage = func() (string, error) { return "", nil }
			}
			tt.i.ID = 7
			tt.i.Function = "orders"
			tt.i.RequestID = "00000000-0000"
			r.local.show(tt.i)
			for _, want := range tt.want {
				r.out.wait(r, want)
			}
			if tt.absent != "" && strings.Contains(r.out.String(), tt.absent) {
				t.Errorf("it shows %q:\n%s", tt.absent, r.out)
			}
		})
	}
}

func TestAnswersThatAreTheSameAreNotShownAgain(t *testing.T) {
	before := keptInvocation{
		Answer: []byte(`{"a": 1}`),
		facts:  facts{ID: 1, Outcome: "ok"},
	}
	for _, tt := range []struct {
		name string
		i    keptInvocation
		want string
	}{
		{
			name: "the same",
			i:    keptInvocation{Answer: []byte(`{"a":1}`), facts: facts{Outcome: "ok"}},
			want: " #2 came to the same as #1\n",
		},
		{
			name: "another answer",
			i:    keptInvocation{Answer: []byte(`{"a":2}`), facts: facts{Outcome: "ok"}},
			want: "    answer, 7 B:\n    {\n      \"a\": 2\n    }\n",
		},
		{
			name: "another outcome",
			i:    keptInvocation{Answer: []byte(`{"a":1}`), facts: facts{Outcome: "timeout"}},
			want: " timeout, 0 ms",
		},
		{
			name: "not kept",
			i:    keptInvocation{facts: facts{Outcome: "ok", Light: true, AnswerBytes: 7}},
			want: "    answer: 7 B, too large to be kept\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newTestLocal(t, localOptions{})
			tt.i.ID = 2
			r.local.showAgain(tt.i, before)
			r.out.wait(r, tt.want)
		})
	}
}

// An event of 6 MB could take 60 GB otherwise.
func TestDeepJSONIsShownAsItIs(t *testing.T) {
	r := newTestLocal(t, localOptions{})
	deep := strings.Repeat("[", 8000) + `"]\"]"` + strings.Repeat(",1", 500) + strings.Repeat("]", 8000)
	i := keptInvocation{Event: []byte(deep), Answer: []byte(deep)}
	for name, text := range map[string]string{
		"event":     r.local.shownEvent(i),
		"answer":    r.local.shownOutcome(i),
		"--verbose": pretty("event", i.Event, int64(len(deep))),
		"editor":    string(editable(i.Event)),
	} {
		if !strings.Contains(text, "[[[[") {
			t.Errorf("%s: %.20q", name, text)
		}
	}
	got, ok := indentedJSON([]byte(`["[[",{"a":[1,2]}]`), "  ")
	const want = "[\n    \"[[\",\n    {\n      \"a\": [\n        1,\n        2\n      ]\n    }\n  ]"
	if !ok || got != want {
		t.Errorf("indented: %q, %v", got, ok)
	}
}

func TestWhatIsNotJSONIsToldWithItsLine(t *testing.T) {
	for text, line := range map[string]int{
		"{\n  \"a\": 1,\n}":      3,
		"{\n  \"a\": \"x\n}":     2,
		"{\n":                    1,
		"{}\n{}":                 2,
		"":                       1,
		"{\n\n\n  \"a\": tru\n}": 4,
	} {
		err := checkJSON([]byte(text))
		want := fmt.Sprintf("line %d: ", line)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	err := checkJSON([]byte(" [1] \n"))
	if err != nil {
		t.Error(err)
	}
}
