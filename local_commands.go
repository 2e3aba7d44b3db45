//go:build !layer

package main

// local_commands.go does what the developer types: it shows what has become of an invocation, runs it again,
// with another event if that is wanted, and saves its event. local_typed.go hears what is typed,
// local_show.go has the texts, local_editor.go the editor.

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// toldPause is for the line about the end of an invocation, and for what the handler printed before it, to
// be on the screen.
const toldPause = 2 * endPause

const typedHint = "press Enter for the last invocation, ? for more"

// typedHelp lists what can be typed.
var typedHelp = []string{
	"Enter        show the last invocation: its event, and what became of it",
	"12           show invocation #12",
	"r [12]       run the last one, or #12, again with the same event",
	"e [12]       edit its event in $VISUAL or $EDITOR, and run that",
	"s [12] NAME  save its event in NAME.json, for live-lambda invoke",
	"o            open the inspector's page (with --ui)",
	"t            take back what another local end has taken over",
	"?            this list",
}

// obey does what is typed, until ctx is done.
func (l *local) obey(ctx context.Context, p *presence) {
	k := l.term.typed
	if k == nil {
		return
	}
	opened := k.opened
	if k.all {
		k.want(func() bool { return true })
	} else {
		k.want(p.takenOver)
		opened = nil
	}
	for {
		select {
		case <-opened:
			l.term.note(typedHint)
			opened = nil
		case line := <-k.lines:
			l.obeyLine(ctx, p, line)
		case <-ctx.Done():
			return
		}
	}
}

// obeyLine does what one line says: a word, the number of an invocation, and the rest.
func (l *local) obeyLine(ctx context.Context, p *presence, line string) {
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	word = strings.ToLower(word)
	number, known := invocationNumber(word)
	if known {
		word = ""
	} else {
		number, rest = leadingNumber(rest)
	}
	switch {
	case word == "t":
		l.takeBack(p)
	case !l.term.typed.all:
	case word == "?":
		l.term.list("with Enter, this can be typed:", typedHelp)
	case word == "o":
		l.openInspector()
	case !slices.Contains([]string{"", "r", "e", "s"}, word) || rest != "" && word != "s":
		l.term.note("%q is not known here: ? and Enter list what is", clip(strings.TrimSpace(line), 40))
	default:
		l.obeyAbout(ctx, word, number, rest)
	}
}

// invocationNumber is the number of an invocation, as lines show it or without its #.
func invocationNumber(word string) (number int, ok bool) {
	number, err := strconv.Atoi(strings.TrimPrefix(word, "#"))
	return number, err == nil && number > 0
}

// leadingNumber takes the number of an invocation off text. It is 0 if there is none.
func leadingNumber(text string) (number int, rest string) {
	text = strings.TrimSpace(text)
	word, rest, _ := strings.Cut(text, " ")
	number, ok := invocationNumber(word)
	if !ok {
		return 0, text
	}
	return number, strings.TrimSpace(rest)
}

// obeyAbout does what a word says about an invocation, the last one if number is 0.
func (l *local) obeyAbout(ctx context.Context, word string, number int, rest string) {
	i, found := l.history.last()
	if number > 0 {
		i, found = l.history.get(number)
	}
	switch {
	case !found && number > 0:
		l.term.note("there is no invocation #%d, or not any more", number)
	case !found:
		l.term.note("there has been no invocation yet")
	case word == "":
		l.show(i)
	case word == "r":
		l.runAgain(i, nil)
	case word == "e":
		l.edit(ctx, i)
	case word == "s":
		l.saveEvent(i, rest)
	}
}

// takeBack takes back what other ends have taken over.
func (l *local) takeBack(p *presence) {
	if !p.takenOver() {
		l.term.note("no other local end has taken anything over")
		return
	}
	p.takeBackAll()
}

// saveEvent saves the event of an invocation.
func (l *local) saveEvent(i keptInvocation, name string) {
	file, err := l.saveUnwatched(i, name)
	if err != nil {
		l.term.note("%v", err)
		return
	}
	l.term.note("saved the event of #%d: live-lambda invoke %s", i.ID, shellWord(file))
}

// runAgain runs an invocation again, with event in place of its own unless that is nil, and shows what comes
// of it once it is over.
func (l *local) runAgain(i keptInvocation, event []byte) {
	follower, _ := l.history.follow()
	id, err := l.again(i.ID, event)
	if err != nil {
		follower.close()
		l.term.note("%v", err)
		return
	}
	follows := l.history.goes(func() {
		defer follower.close()
		l.showWhenOver(follower, id, i)
	})
	if !follows {
		follower.close()
	}
}

// showWhenOver waits until the invocation of that ID, which runs before again, is over, and shows what has
// come of it.
func (l *local) showWhenOver(f *follower, id int, before keptInvocation) {
	ctx := l.history.ctx
	for ctx.Err() == nil {
		i, found := l.history.get(id)
		if !found {
			return
		}
		if !i.Done.IsZero() {
			l.awaitTold()
			sleep(ctx, toldPause)
			l.showAgain(i, before)
			return
		}
		f.next(ctx)
	}
}

// awaitTold waits until what the history has been told is told here too.
func (l *local) awaitTold() {
	l.mu.Lock()
	defer l.mu.Unlock()
}

// equalJSON reports whether two texts are the same, but for white space in JSON.
func equalJSON(a, b []byte) bool { return bytes.Equal(compactJSON(a), compactJSON(b)) }

// compactJSON is JSON without white space; what is not JSON stays as it is.
func compactJSON(text []byte) []byte {
	var compact bytes.Buffer
	err := json.Compact(&compact, text)
	if err != nil {
		return text
	}
	return compact.Bytes()
}

// openInspector opens the inspector's page in a browser, and says where it is.
func (l *local) openInspector() {
	if l.openPage == nil {
		l.term.note("there is no inspector: start local with --ui")
		return
	}
	address, err := l.openPage()
	if err != nil {
		l.term.note("open the inspector: %v", err)
		return
	}
	l.term.note("the inspector is at %s", address)
	program := "xdg-open"
	if runtime.GOOS == "darwin" {
		program = "open"
	}
	command := exec.CommandContext(l.history.ctx, program, address)
	// A browser is not to end with this program, nor to read its terminal.
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	l.history.goes(func() {
		err := command.Run()
		if err != nil && l.history.ctx.Err() == nil {
			l.term.note("%s did not open it (%v): open it yourself", program, err)
		}
	})
}
