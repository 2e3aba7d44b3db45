//go:build !layer

package main

// local_show.go writes what has become of an invocation for a terminal: its event, its answer or its error.
// What it printed has been on the screen already. Of what is long it writes the beginning. Nothing in it is
// obeyed by a terminal.

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxShownLines = 200
	maxShownBytes = 20_000
)

// show shows what has become of an invocation so far.
func (l *local) show(i keptInvocation) {
	text := l.shownEvent(i) + l.shownOutcome(i)
	l.term.tell(report{Type: "note"}, "", i.headline(), text)
}

// showAgain shows what has come of i, which ran before again.
func (l *local) showAgain(i, before keptInvocation) {
	switch {
	case i.Light || before.Light || i.Outcome != before.Outcome:
	case equalJSON(i.Answer, before.Answer) && equalJSON(i.Error, before.Error):
		l.term.note("#%d came to the same as #%d", i.ID, before.ID)
		return
	}
	l.term.tell(report{Type: "note"}, "", i.headline(), l.shownOutcome(i))
}

// headline is the first line about an invocation.
func (i keptInvocation) headline() string {
	text := fmt.Sprintf("#%d %s %s", i.ID, nameText(i.Function), short(i.RequestID))
	if i.running() {
		text += fmt.Sprintf(" has been running for %s", durationText(time.Since(i.Arrived)))
	} else {
		text += fmt.Sprintf(" %s, %s", i.Outcome, millisecondsText(i.Ms))
	}
	if i.Again > 0 {
		text += fmt.Sprintf(", ran #%d again", i.Again)
	}
	if i.Caller != "" {
		text += ", " + clip(i.Caller, 100)
	}
	if i.Text != "" && len(i.Error) == 0 {
		text += ": " + i.Text
	}
	return plainText(text)
}

// millisecondsText writes milliseconds for people.
func millisecondsText(ms float64) string {
	return durationText(time.Duration(ms * float64(time.Millisecond)))
}

// shownEvent is an invocation's event.
func (l *local) shownEvent(i keptInvocation) string {
	if i.Event == nil {
		return fmt.Sprintf("    event: %s, too large to be kept\n", bytesText(i.EventBytes))
	}
	return shownJSON("event", i.Event, fmt.Sprintf("s %d NAME saves all of it", i.ID))
}

// shownOutcome is an invocation's answer or error, if there is one.
func (l *local) shownOutcome(i keptInvocation) string {
	more := "local --record DIRECTORY keeps all of it"
	switch {
	case l.openPage != nil:
		more = "o opens the inspector, which has all of it"
	case l.opts.record != "":
		more = "all of it is in " + l.opts.record
	}
	text := ""
	what := "answer"
	if i.Streamed {
		what = "streamed answer"
	}
	switch {
	case i.AnswerBytes > 0 && i.Light && i.Answer == nil:
		text = fmt.Sprintf("    %s: %s, too large to be kept\n", what, bytesText(i.AnswerBytes))
	case len(i.Answer) > 0:
		text = shownJSON(what, i.Answer, more)
	case i.Outcome == "ok":
		text = fmt.Sprintf("    %s: empty\n", what)
	}
	if len(i.Error) > 0 {
		text += shownError(i.Error, more)
	}
	return text
}

// shownJSON is JSON indented, or other text as it is.
func shownJSON(what string, b []byte, more string) string {
	text, isText := textOf(b)
	indented, isJSON := indentedJSON(b, "")
	switch {
	case isJSON:
		text = indented
	case !isText || len(text) < len(b):
		return fmt.Sprintf("    %s: %s that are not text\n", what, bytesText(int64(len(b))))
	}
	title := fmt.Sprintf("%s, %s:", what, bytesText(int64(len(b))))
	return shownLines(title, strings.TrimRight(text, "\n"), len(b), more)
}

// shownError is an error as runtimes post it, with its stack if it has one.
func shownError(b []byte, more string) string {
	var e struct {
		ErrorType    string   `json:"errorType"`
		ErrorMessage string   `json:"errorMessage"`
		StackTrace   []string `json:"stackTrace"` // Python's
		Trace        []string `json:"trace"`      // JavaScript's; begins with the message
	}
	err := json.Unmarshal(b, &e)
	if err != nil || e.ErrorMessage == "" && e.ErrorType == "" {
		return shownJSON("error", b, more)
	}
	text := strings.Join(append(e.Trace, e.StackTrace...), "\n")
	if !strings.Contains(text, e.ErrorMessage) || e.ErrorMessage == "" {
		text = e.ErrorType + ": " + e.ErrorMessage + "\n" + text
	}
	return shownLines("error:", strings.TrimRight(text, "\n"), len(b), more)
}

// shownLines is a title and the beginning of text below it. If there is more, it tells how to see that.
func shownLines(title, text string, size int, more string) string {
	var shown strings.Builder
	shown.WriteString("    " + title + "\n")
	begins := beginning(text)
	for line := range strings.SplitSeq(begins, "\n") {
		shown.WriteString("    " + plainText(strings.ReplaceAll(line, "\t", "  ")) + "\n")
	}
	if len(begins) < len(text) {
		lines := count(1+strings.Count(text, "\n"), "line")
		fmt.Fprintf(&shown, "    … %s, %s in all: %s\n", lines, bytesText(int64(size)), more)
	}
	return shown.String()
}

// beginning is as much of text as is shown.
func beginning(text string) string {
	text = cutText(text, maxShownBytes)
	lines := strings.SplitN(text, "\n", maxShownLines+1)
	return strings.Join(lines[:min(len(lines), maxShownLines)], "\n")
}

// cutText is the beginning of s, at most so many bytes, that ends with a character.
func cutText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
