//go:build !layer

package main

// local_output_test.go tests that what several processes print comes out in whole lines, and soon.

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"regexp"
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
	t.Parallel()
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

// The rest of a long line may be late, on a machine that has much to do.
func TestLongLineWaitsForItsRest(t *testing.T) {
	long := strings.Repeat("a", longLine)
	text := screenAfter(t, func(term *terminal) {
		one := term.output("one", false)
		two := term.output("two", false)
		for range 5 {
			io.WriteString(one, long)
			time.Sleep(longPause / 2)
			io.WriteString(two, "between\n")
			term.line(chunk{text: []byte("OWN\n")})
		}
		io.WriteString(one, "\n")
	})
	want := strings.Repeat("between\nOWN\n", 5) + strings.Repeat(long, 5) + "\n"
	if text != want {
		t.Errorf("it is torn: %q", strings.ReplaceAll(text, long, "LONG"))
	}
}

// The pause of one line's beginning is not that of the next line's.
func TestEachLineWaitsForItsOwnRest(t *testing.T) {
	text := screenAfter(t, func(term *terminal) {
		one := term.output("one", false)
		two := term.output("two", false)
		term.output("three", false)
		for range 5 {
			io.WriteString(one, "begin")
			time.Sleep(linePause * 2 / 3)
			io.WriteString(two, "between\n")
			io.WriteString(one, "end\n")
		}
	})
	want := strings.Repeat("between\nbeginend\n", 5)
	if text != want {
		t.Errorf("got %q, want %q", text, want)
	}
}

// Progress is shown although more of it comes all the time.
func TestProgressIsNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term, out := newScreenTerminal(80)
		term.start()
		one := term.output("one", false)
		term.output("two", false)
		term.output("three", false)
		for range 20 {
			io.WriteString(one, ".")
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		if !strings.HasPrefix(out.String(), "........") {
			t.Errorf("after 200 ms the screen has %q", out)
		}
		term.close()
	})
}

// It is passed on as it comes, and stays one line: nothing else is printed meanwhile.
func TestLineAboveTheLimitIsPassedOn(t *testing.T) {
	t.Parallel()
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
			name: "they come byte by byte",
			pieces: []string{
				"1:a", "1:\r", "1:b", "1:\r", "1:\n", "1:c", "1:\r", "1:\r", "1:\n", "1:\n", "1:\r", "1:d\n",
			},
			want: "a\nb\r\nc\n\r\n\n\nd\n",
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

// writtenBy has real processes of several functions, or of one, print at once, and returns the lines that are
// written from then on, when wait has seen that all is there.
func writtenBy(t *testing.T, functions []string, texts []string, wait ...string) []string {
	t.Helper()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	var requests []*request
	for i, text := range texts {
		c := r.context()
		c.FunctionName = functions[i%len(functions)]
		requests = append(requests, r.direct(task{Do: "print", Text: text}, c))
	}
	for _, q := range requests {
		r.reply(q)
	}
	for _, text := range wait {
		r.out.wait(r, text)
	}
	r.local.term.note("all is told")
	r.out.wait(r, "all is told")
	return strings.Split(strings.TrimSuffix(r.out.String(), "\n"), "\n")
}

// ownLine is how a line of the program's begins.
var ownLine = regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d\d\d `)

func TestLongLinesOfProcessesStayWhole(t *testing.T) {
	t.Parallel()
	texts := make([]string, 2)
	var wait []string
	for i := range 24 {
		line := `{"n":` + strconv.Itoa(i) + `,"text":"` + strings.Repeat(strconv.Itoa(i%10), 100_000) +
			"\"}\n"
		texts[i%2] += line
		wait = append(wait, line)
	}
	for _, functions := range [][]string{{"orders"}, {"orders", "pay"}} {
		found := map[int]bool{}
		for _, line := range writtenBy(t, functions, texts, wait...) {
			if ownLine.MatchString(line) {
				continue
			}
			name, text, marked := strings.Cut(line, " | ")
			if !marked {
				text = line
			}
			var entry struct{ N int }
			err := json.Unmarshal([]byte(text), &entry)
			if err != nil || marked && name != functions[entry.N%2] {
				t.Errorf("%v: a line of %d bytes begins with %q", functions, len(line), clip(line, 40))
			}
			found[entry.N] = true
		}
		if len(found) != 24 {
			t.Errorf("%v: %d lines are whole, want 24", functions, len(found))
		}
	}
}

// A line of the program's begins in column 1, whatever a handler has printed before.
func TestOwnLinesFollowWhatProcessesPrint(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		printed string
		want    []string // lines
	}{
		{printed: "progress 50%...", want: []string{"progress 50%..."}},
		{printed: "Error: x\r    at y\r    at z\n", want: []string{"Error: x", "    at y", "    at z"}},
		{printed: "50%\r60%\r", want: []string{"50%", "60%"}},
	} {
		var got []string
		own := 0
		for _, line := range writtenBy(t, []string{"orders"}, []string{tt.printed}, tt.want...) {
			if ownLine.MatchString(line) {
				own++
			} else {
				got = append(got, line)
			}
		}
		if strings.Join(got, "\n") != strings.Join(tt.want, "\n") || own != 3 {
			t.Errorf("%q: %d own lines and %q", tt.printed, own, got)
		}
	}
}

// printsInto has a real `local` run a handler that prints, with its output in one file, and returns the
// file's lines. It is for the handler's text to have been answered.
func printsInto(t *testing.T, text string, flags ...string) []string {
	t.Helper()
	r := newRemoteRig(t)
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	args := append(
		[]string{"local", "--host", "http://" + r.client().http.Host, "--region", "eu-west-1"}, flags...)
	cmd := exec.Command(os.Args[0], append(append(args, "--"), testCommand("1")...)...)
	cmd.Env = append(os.Environ(), "TEST_MAIN=1", "AWS_ACCESS_KEY_ID=AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY=secret", "AWS_SESSION_TOKEN=")
	cmd.Stdout = file
	cmd.Stderr = file
	err = cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.api.subscribers(r.ctx, "/live-lambda/requests", 2) // it and the rig's own
	if err != nil {
		t.Fatal(err)
	}
	r.invoke(task{Do: "print", Text: text}, r.context())
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	written, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(written), "\n"), "\n")
}

func TestOwnLinesInAFileBeginInColumnOne(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--json"}} {
		var printed []string
		for _, line := range printsInto(t, "progress 50%...", flags...) {
			own := ownLine.MatchString(line)
			if flags != nil {
				own = json.Valid([]byte(line))
			}
			if !own {
				printed = append(printed, line)
			}
		}
		if len(printed) != 1 || printed[0] != "progress 50%..." {
			t.Errorf("%v: beside the program's lines there are %q", flags, printed)
		}
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
