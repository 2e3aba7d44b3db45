//go:build !layer

package main

// local_commands_test.go tests what typed lines do, where no terminal is needed for that.
// local_typed_linux_test.go types them.

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// fakeBrowser puts a program in the place of the one that opens a page in a browser.
func fakeBrowser(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"open", "xdg-open"} {
		err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700)
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestInspectorIsOpened(t *testing.T) {
	r := newHistoryRig(t, localOptions{})
	fifo := filepath.Join(t.TempDir(), "fifo")
	err := syscall.Mkfifo(fifo, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	fakeBrowser(t, `echo "$1" >'`+fifo+`'; exit 3`)
	r.local.openPage = func() (string, error) { return "http://127.0.0.1:1/?a=b&c", nil }
	r.local.openInspector()
	r.out.wait(r, "the inspector is at http://127.0.0.1:1/?a=b&c\n")
	opened, err := os.ReadFile(fifo)
	if err != nil || string(opened) != "http://127.0.0.1:1/?a=b&c\n" {
		t.Errorf("opened %q, %v", opened, err)
	}
	r.out.wait(r, "open did not open it (exit status 3): open it yourself\n")
	r.local.openPage = func() (string, error) { return "", errors.New("no token") }
	r.local.openInspector()
	r.out.wait(r, "open the inspector: no token\n")
}

// The browser need not come to its end before this program does.
func TestBrowserIsNotWaitedFor(t *testing.T) {
	r := newHistoryRig(t, localOptions{})
	fifo := filepath.Join(t.TempDir(), "fifo")
	err := syscall.Mkfifo(fifo, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	fakeBrowser(t, `exec 3>'`+fifo+`'; exec sleep 1000`)
	r.local.openPage = func() (string, error) { return "http://127.0.0.1:1/", nil }
	r.local.openInspector()
	file, err := os.Open(fifo) // it runs
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r.local.history.close()
}

// With standard output elsewhere, only t does something.
func TestOnlyTakingBackIsTypedWithoutAScreen(t *testing.T) {
	term, out := newScreenTerminal(0)
	term.typed = newTyped(false)
	term.start()
	l := newLocal(localOptions{}, term)
	p := newPresence(nil, "a", localOptions{}, nil)
	for _, line := range []string{"?", "", "r", "o", "what", " T "} {
		l.obeyLine(t.Context(), p, line)
	}
	term.close()
	text := out.String()
	if len(text) < 14 || text[13:] != "no other local end has taken anything over\n" {
		t.Errorf("it wrote %q", text)
	}
}
