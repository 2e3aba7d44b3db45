//go:build !layer

package main

// local_output_test.go tests that what several processes print comes out in whole lines.

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// screenAfter has write print, and returns what is on the screen when a while has
// passed.
func screenAfter(t *testing.T, write func(term *terminal)) (text string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		term, out := newScreenTerminal(0)
		term.start()
		write(term)
		time.Sleep(time.Minute)
		synctest.Wait()
		term.close()
		text = out.String()
	})
	return text
}

func TestLinesOfTwoProcessesStayWhole(t *testing.T) {
	const pieces, length = 16, 64_000
	want := []string{strings.Repeat("a", pieces*length), strings.Repeat("b", pieces*length)}
	for _, several := range []bool{false, true} {
		text := screenAfter(t, func(term *terminal) {
			one := term.output("one", false)
			two := term.output("two", false)
			if several {
				term.functions(2)
			}
			for range pieces {
				io.WriteString(one, strings.Repeat("a", length))
				io.WriteString(two, strings.Repeat("b", length))
			}
			io.WriteString(one, "\n")
			io.WriteString(two, "\n")
		})
		wanted := want[0] + "\n" + want[1] + "\n"
		if several {
			wanted = "one | " + want[0] + "\ntwo | " + want[1] + "\n"
		}
		if text != wanted {
			t.Errorf("several %t: %d bytes on the screen, want %d", several, len(text), len(wanted))
		}
	}
}

// It is passed on as it comes, and stays one line: nothing else is printed meanwhile.
func TestLineAboveTheLimitIsPassedOn(t *testing.T) {
	text := screenAfter(t, func(term *terminal) {
		term.functions(2)
		o := term.output("one", false)
		for range 6 {
			io.WriteString(o, strings.Repeat("x", maxLine/2))
		}
		io.WriteString(o, "\n")
	})
	if !strings.HasPrefix(text, "one | xxx") || strings.Count(text, "\n") != 1 ||
		strings.Count(text, "|") != 1 {
		t.Errorf("%d lines, %d marks", strings.Count(text, "\n"), strings.Count(text, "|"))
	}
}

func TestHandlersLinesOnTheScreen(t *testing.T) {
	for _, tt := range []struct {
		name   string
		pieces []string // "1:" and "2:" say which process prints; "-" is a pause, "own" a line of the program
		want   string
	}{
		{
			name:   "text and its line end come apart",
			pieces: []string{"1:text", "2:other\n", "1:\n"},
			want:   "other\ntext\n",
		},
		{
			name:   "progress is shown when it stands still, and goes on in its line",
			pieces: []string{"1:progress ", "-", "1:50%", "-", "1: done\n"},
			want:   "progress 50% done\n",
		},
		{
			name:   "an own line begins in column 1",
			pieces: []string{"1:progress 50%...", "-", "own", "1:done\n"},
			want:   "progress 50%...\nOWN\ndone\n",
		},
		{
			name:   "another process's line begins in column 1",
			pieces: []string{"1:a prompt: ", "-", "2:line\n", "1:answer\n"},
			want:   "a prompt: \nline\nanswer\n",
		},
		{
			name:   "a carriage return breaks the line",
			pieces: []string{"1:Error: x\r    at y\r    at z\n"},
			want:   "Error: x\n    at y\n    at z\n",
		},
		{
			name:   "a line feed may follow the carriage return in another piece",
			pieces: []string{"1:one\r", "1:\ntwo\r", "1:three\n"},
			want:   "one\r\ntwo\nthree\n",
		},
		{
			name:   "nothing follows the carriage return",
			pieces: []string{"1:50%\r", "-", "1:60%\r", "-"},
			want:   "50%\n60%\n",
		},
	} {
		text := screenAfter(t, func(term *terminal) {
			outputs := map[string]io.Writer{"1": term.output("one", false), "2": term.output("two", true)}
			for _, piece := range tt.pieces {
				which, what, ok := strings.Cut(piece, ":")
				switch {
				case ok:
					io.WriteString(outputs[which], what)
				case piece == "-":
					time.Sleep(time.Second)
					synctest.Wait()
				default:
					term.line(chunk{text: []byte("OWN\n")})
				}
				synctest.Wait()
			}
		})
		if text != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, text, tt.want)
		}
	}
}

// With --json what handlers print goes to standard error, which may be the same terminal.
func TestOwnLineOnAnotherFileLeavesTheHandlersAlone(t *testing.T) {
	for same, want := range map[bool]string{false: "text!\n", true: "text\n!\n"} {
		synctest.Test(t, func(t *testing.T) {
			term, _ := newScreenTerminal(0)
			errors := &screen{new: make(chan struct{}, 1)}
			term.errors = errors
			term.json = true
			term.same = same
			term.start()
			o := term.output("one", false)
			io.WriteString(o, "text")
			time.Sleep(time.Second)
			term.note("own")
			synctest.Wait()
			io.WriteString(o, "!\n")
			synctest.Wait()
			term.close()
			if errors.String() != want {
				t.Errorf("same %t: got %q, want %q", same, errors, want)
			}
		})
	}
}

// If both go to one place they come through one pipe, and so in the order in which they were printed.
func TestOutputsKeepTheirOrder(t *testing.T) {
	script := "i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; exit 3"
	r := newTestLocal(t, localOptions{code: code{command: []string{"sh", "-c", script}}})
	r.local.term.same = true
	r.reply(r.direct([]byte("1"), r.context()))
	var want strings.Builder
	for i := range 200 {
		want.WriteString("out " + strconv.Itoa(i) + "\nerr " + strconv.Itoa(i) + "\n")
	}
	r.out.wait(r, want.String())
}
