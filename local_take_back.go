//go:build !layer

package main

// local_take_back.go hears the developer at the terminal: `t` and Enter take back what another local end has
// taken over.
//
// It reads only while there is something to take back, and only if standard input is this program's terminal
// and this program is in the foreground: somebody else reads there otherwise, and a program in the background
// that reads is stopped. Handlers have no standard input. It opens the terminal anew, because what is set on
// standard input is set for the shell too, and it asks again and again whether there is a line, because a
// call that waits for one would be stopped as well when this program is put into the background.

import (
	"bytes"
	"context"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	keysEvery = 250 * time.Millisecond // for a line from the terminal to be looked for
	maxKeys   = 256                    // bytes that are read at once
)

// howToTakeBack says how the developer takes functions back.
func howToTakeBack() string {
	if columns(os.Stdin) > 0 && inForeground() {
		return "t and Enter take it back"
	}
	return "to take it back, start this end anew"
}

// inForeground reports whether standard input is this program's terminal, and this program is in its
// foreground.
func inForeground() bool {
	var group int32
	_, _, errno := syscall.Syscall(
		syscall.SYS_IOCTL, os.Stdin.Fd(), syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&group)))
	return errno == 0 && int(group) == syscall.Getpgrp()
}

// hearKeys takes functions back when the developer says so, until ctx is done.
func (p *presence) hearKeys(ctx context.Context) {
	if columns(os.Stdin) == 0 {
		return
	}
	k := keys{terminal: -1}
	defer k.close()
	ticker := time.NewTicker(keysEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if !p.takenOver() || !inForeground() {
			k.close()
			continue
		}
		if k.taken() {
			p.takeBackAll()
		}
	}
}

// keys is the terminal that is read.
type keys struct {
	terminal int    // -1: it is not open
	line     []byte // that has not ended
}

// taken reports whether there is a line with a t. What was typed before there was something to take back is
// not meant for it.
func (k *keys) taken() bool {
	if k.terminal < 0 {
		k.open()
		return false
	}
	k.line = append(k.line, k.read()...)
	lines := bytes.Split(bytes.ReplaceAll(k.line, []byte("\r"), []byte("\n")), []byte("\n"))
	k.line = lines[len(lines)-1]
	if len(k.line) > maxKeys {
		k.line = nil
	}
	for _, line := range lines[:len(lines)-1] {
		if strings.EqualFold(string(bytes.TrimSpace(line)), "t") {
			return true
		}
	}
	return false
}

// open opens the terminal, and drops what was typed before.
func (k *keys) open() {
	flags := syscall.O_RDONLY | syscall.O_NONBLOCK | syscall.O_CLOEXEC | syscall.O_NOCTTY
	terminal, err := syscall.Open("/dev/tty", flags, 0)
	if err != nil {
		return // it is tried again
	}
	k.terminal = terminal
	k.line = nil
	for len(k.read()) > 0 {
	}
}

// read returns what there is to read, if anything.
func (k *keys) read() []byte {
	b := make([]byte, maxKeys)
	n, err := syscall.Read(k.terminal, b)
	if err != nil {
		return nil
	}
	return b[:n]
}

func (k *keys) close() {
	if k.terminal >= 0 {
		syscall.Close(k.terminal)
		k.terminal = -1
	}
}
