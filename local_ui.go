//go:build !layer

package main

// local_ui.go is the inspector: a page of what has become of invocations, and of what --record has kept. It
// shows events, so it lets in nobody but whoever has read its address at the terminal. local_ui_routes.go
// says who may ask for what, local_ui_events.go tells the page what happens.

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pageGoodbye = 2 * time.Second // for answers to pages that are under way at the end
	pageHeader  = 10 * time.Second
	pageIdle    = 2 * time.Minute
)

// uiServer serves the page. It is safe for concurrent use.
type uiServer struct {
	local   *local // runs invocations again; nil: nothing can
	history *history
	about   string    // what it shows, for people
	picture *lastHour // of the last hour
	now     func() time.Time
	port    string
	session string // the value of the cookie
	key     string // that only pages of this port know

	pages atomic.Int32 // that listen

	server *http.Server
	ctx    context.Context // done when it ends
	cancel context.CancelFunc
	wg     sync.WaitGroup

	answers sync.WaitGroup // that are under way; while closed is false it grows

	mu     sync.Mutex // guards the following
	closed bool
	token  string // of the address, which turns into the cookie once; "" when it has
}

// uiFlag is the value of --ui.
type uiFlag struct {
	on      bool
	address string // "" for any port
}

// set takes the value of --ui, which is "true" if it has none, and may be "false".
func (u *uiFlag) set(value string) error {
	u.on = value != "false"
	u.address = ""
	if value == "true" || value == "false" {
		return nil
	}
	u.address = value
	return checkPageAddress(value)
}

// checkPageAddress returns an error unless the page may be served there. Its own address is 127.0.0.1, or
// localhost, and no other name leads to it.
func checkPageAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	_, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || host != "127.0.0.1" && host != "localhost" {
		return errors.New("the page is for this machine alone: give an address like 127.0.0.1:9100")
	}
	return nil
}

// startInspector serves the page at address, which is checked already; "" stands for any port. l is nil if
// nothing can run again.
func startInspector(h *history, l *local, about, address string) (*uiServer, error) {
	_, port, _ := net.SplitHostPort(address)
	ln, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", cmp.Or(port, "0")))
	if err != nil {
		return nil, fmt.Errorf("--ui: %w", err)
	}
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	u := &uiServer{
		local:   l,
		history: h,
		about:   about,
		picture: newLastHour(),
		now:     time.Now,
		port:    port,
		session: rand.Text(),
		key:     rand.Text(),
	}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	u.server = &http.Server{
		Handler:           u.guard(u.routes()),
		ReadHeaderTimeout: pageHeader,
		IdleTimeout:       pageIdle,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // browsers break connections as they like
	}
	if l == nil {
		u.lookBack()
	}
	f, all := h.follow()
	u.picture.takeAll(all)
	u.wg.Go(func() { u.keepPicture(f) })
	u.wg.Go(func() { u.server.Serve(ln) })
	return u, nil
}

// close ends the server, and waits for what it has started.
func (u *uiServer) close() {
	if u == nil {
		return
	}
	u.mu.Lock()
	u.closed = true
	u.mu.Unlock()
	u.cancel()
	late := time.AfterFunc(pageGoodbye, func() { u.server.Close() })
	u.answers.Wait()
	late.Stop()
	u.server.Close()
	u.wg.Wait()
}

// enter begins an answer, which leave ends. It reports false if none begins any more.
func (u *uiServer) enter() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return false
	}
	u.answers.Add(1)
	return true
}

func (u *uiServer) leave() { u.answers.Done() }

// link is a new address of the page, for one browser to open once. The one before it does not open any more.
func (u *uiServer) link() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.token = rand.Text()
	return "http://127.0.0.1:" + u.port + "/?token=" + u.token
}

// inspect starts the inspector of what l does.
func (l *local) inspect(o uiFlag) error {
	about := "everything that comes here"
	if l.history.stage != "" {
		about = "stage " + l.history.stage
	}
	u, err := startInspector(l.history, l, about, o.address)
	if err != nil {
		return err
	}
	l.inspector = u
	l.openPage = func() (string, error) { return u.link(), nil }
	l.term.note("inspector: %s", u.link())
	return nil
}

const uiUsage = `usage: live-lambda ui [flags] DIRECTORY

Shows what ` + "`live-lambda local --record DIRECTORY`" + ` has kept on the inspector's page: prints its
address, and serves it on this machine until an interrupt. Nothing runs again there;
` + "`live-lambda invoke HANDLER FILE`" + ` does that.`

// ui is the command ui.
func (t *console) ui(args []string) int {
	f := t.commandLine("ui", uiUsage)
	address := ""
	f.Func("listen", "serve the page at this loopback `address` (default any port)",
		func(value string) error {
			address = value
			return checkPageAddress(value)
		})
	words, status, ok := f.parse(args)
	if !ok {
		return status
	}
	if len(words) != 1 {
		return f.wrong("give the DIRECTORY that `live-lambda local --record` has written")
	}
	h, skipped, err := readRecordings(words[0])
	if err != nil {
		return f.failed(err)
	}
	signals := catchSignals()
	defer signal.Stop(signals)
	u, err := startInspector(h, nil, "recordings in "+words[0], address)
	if err != nil {
		return f.failed(err)
	}
	defer u.close()
	fmt.Fprintln(t.out, plainText(recordingsText(len(h.list()), skipped, words[0])))
	fmt.Fprintln(t.out, "inspector: "+u.link())
	interrupted(signals)
	return 0
}

// recordingsText says how many recordings were read.
func recordingsText(read, skipped int, directory string) string {
	text := count(read, "recording") + " in " + directory
	if skipped > 0 {
		text += "; left out, as no recording: " + count(skipped, "file")
	}
	return text
}

// lookBack has the last hour end with the newest invocation: those of recordings may be old.
func (u *uiServer) lookBack() {
	i, found := u.history.last()
	if found {
		end := endOf(i.facts)
		u.now = func() time.Time { return end }
	}
}
