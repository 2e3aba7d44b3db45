//go:build !layer

package main

// rig_local_test.go has the rig's local ends: one of version 1 whose handler and script a test may choose,
// and the one that users have.

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// localEnd is a local end of version 1 with a handler of its own, as `live-lambda local` has it, or that
// itself.
type localEnd struct {
	rig    *rig
	name   string
	real   bool   // it is the program's own; of what follows it has the stage, the key and the handler
	stage  string // LIVE_LAMBDA_STAGE
	up     chan struct{}
	leave  func()                     // ends it, but for its handlers
	stop   func()                     // ends it and waits for those
	handle func(*delivery) localReply // the handler; nil: answers {"by":"local"}
	script func(*delivery)            // instead of all that a local end does with a request
	again  func(*delivery)            // is called if the request comes again
	pieces int                        // bytes in a part of its answers, if not as many as possible
	key    string                     // LIVE_LAMBDA_KEY, if not the extension's; "-": none
	sealer *sealer                    // of that key; nil: none
	wg     sync.WaitGroup             // of its handlers

	mu      sync.Mutex // guards the following
	session *session
	parts   map[string][]*part   // of requests, by request ID
	known   map[string]*delivery // by AWS request ID and deadline
	done    map[string]string    // outcomes told, by request ID
}

// delivery is one request as a local end has it.
type delivery struct {
	local   *localEnd
	id      string // request_id, the latest one; guarded by the local end's mu
	event   json.RawMessage
	context eventContext
	raw     string
	again   chan struct{} // it came again
	over    chan struct{} // closed: the extension said done
	ctx     context.Context
}

// startLocal starts a local end like l.
func (r *rig) startLocal(l *localEnd) *localEnd {
	r.t.Helper()
	l = &localEnd{
		rig:    r,
		name:   cmp.Or(l.name, "local"),
		real:   l.real,
		stage:  l.stage,
		handle: l.handle,
		script: l.script,
		again:  l.again,
		pieces: l.pieces,
		key:    cmp.Or(l.key, r.key),
		up:     make(chan struct{}, 1),
		parts:  map[string][]*part{},
		known:  map[string]*delivery{},
		done:   map[string]string{},
	}
	cfg, _ := readConfig(func(name string) string {
		return map[string]string{
			"LIVE_LAMBDA_APPSYNC_HTTP_HOST": r.appSyncURL(),
			"LIVE_LAMBDA_APPSYNC_API_KEY":   "da2-key",
			"LIVE_LAMBDA_APPSYNC_PROTOCOL":  r.api.opts.protocol(),
			"LIVE_LAMBDA_STAGE":             l.stage,
			"LIVE_LAMBDA_KEY":               strings.Trim(l.key, "-"),
		}[name]
	})
	transport := r.net.transport()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	a := newAppSync(*cfg.api, nil, transport, nil, slog.New(slog.DiscardHandler))
	l.sealer = a.sealer
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	if l.real {
		wg.Go(func() { l.runReal(ctx, a) })
	} else {
		wg.Go(func() { l.run(ctx, a) })
	}
	l.leave = cancel
	l.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		l.wg.Wait()
		a.transport.CloseIdleConnections()
	})
	r.stops = append(r.stops, l.stop)
	select {
	case <-l.up:
	case <-time.After(time.Minute):
		r.t.Fatal("the local end does not connect")
	}
	return l
}

// run subscribes and takes requests, on one connection after the other.
func (l *localEnd) run(ctx context.Context, a *appsync) {
	a.run(ctx, func(s *session) (bool, error) {
		if err := s.subscribe(ctx, ackTimeout, a.requests(a.stage), func(event string) {
			l.receive(ctx, event)
		}); err != nil {
			return false, err
		}
		l.use(s)
		notify(l.up)
		<-s.ctx.Done()
		return true, context.Cause(s.ctx)
	}, func(error) { l.use(nil) })
}

// options are those of the program's own local end.
func (l *localEnd) options() localOptions {
	opts := localOptions{code: code{external: true}}
	if l.sealer != nil {
		opts.keys = []*sealer{l.sealer}
	}
	return opts
}

// runReal runs what `live-lambda local` runs. Its runtime is a goroutine that came by itself, as from a
// debugger, and asks over the rig's network, whose connections have no address to be known for this machine's
// (guarded).
func (l *localEnd) runReal(ctx context.Context, a *appsync) {
	term := &terminal{
		out:     l,
		errors:  l,
		columns: func() int { return 0 },
		chunks:  make(chan chunk, waitingLines),
	}
	term.start()
	defer term.close()
	a.log = term.logger(slog.LevelDebug)
	real := newLocal(l.options(), term)
	real.attach = newWorker(&pool{local: real, name: "attached runtime", external: true})
	real.attachServer = &http.Server{Handler: real.attach.routes(), ErrorLog: real.quiet}
	ln, transport := l.rig.net.listen(l.name+":80"), l.rig.net.transport()
	defer transport.CloseIdleConnections()
	real.wg.Go(func() { real.attachServer.Serve(ln) })
	l.wg.Go(func() {
		runRuntime(ctx, transport, ln.host, func(header http.Header, event []byte) string {
			deadline, _ := strconv.ParseInt(header.Get("Lambda-Runtime-Deadline-Ms"), 10, 64)
			d := &delivery{
				local: l,
				event: event,
				context: eventContext{
					RequestID:  header.Get("Lambda-Runtime-Aws-Request-Id"),
					DeadlineMs: deadline,
				},
			}
			return string(d.run().body)
		})
	})
	newSubscriber(a, real).run(ctx)
	real.close()
}

// Write takes what the real one's terminal shows.
func (l *localEnd) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("waiting for invocations")) {
		notify(l.up)
	}
	return l.rig.log.Write(p)
}

// use has answers go out over a session; nil: over none.
func (l *localEnd) use(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = s
}

// receive takes an event from the requests channel, in the reader's goroutine.
func (l *localEnd) receive(ctx context.Context, event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.sealer.parse(event)
	if l.sealer != nil && err != nil {
		if err != errRecorded { // AppSync may deliver a message twice
			l.rig.t.Errorf("not opened: %q, %v", event, err)
		}
		return
	}
	if p != nil {
		event = p.text
	}
	switch {
	case p != nil && p.Type == "done":
		l.hearDone(p)
		return
	case p != nil && p.Type == "request":
		whole := l.join(p)
		if whole == nil {
			return
		}
		event = string(whole)
	}
	var request struct {
		RequestID    string          `json:"request_id"`
		EventPayload json.RawMessage `json:"event_payload"`
		Context      eventContext    `json:"context"`
	}
	err = json.Unmarshal([]byte(event), &request)
	if err != nil || request.RequestID == "" {
		l.rig.t.Errorf("not a request: %q, %v", event, err)
		return
	}
	acceptedBy := request.Context.AcceptedBy
	if acceptedBy != "" && acceptedBy != l.name {
		return
	}
	key := fmt.Sprint(request.Context.RequestID, request.Context.DeadlineMs)
	known := l.known[key]
	if known != nil {
		known.id = request.RequestID
		notify(known.again)
		if l.again != nil {
			l.wg.Go(func() { l.again(known) })
		}
		return
	}
	d := &delivery{
		local:   l,
		id:      request.RequestID,
		event:   request.EventPayload,
		context: request.Context,
		raw:     event,
		again:   make(chan struct{}, 1),
		over:    make(chan struct{}),
		ctx:     ctx,
	}
	l.known[key] = d
	l.wg.Go(d.serve)
}

// hearDone notes what became of an invocation. It is called with mu locked.
func (l *localEnd) hearDone(p *part) {
	l.done[p.RequestID] = p.Outcome
	for _, d := range l.known {
		if d.id != p.RequestID {
			continue
		}
		select {
		case <-d.over:
		default:
			close(d.over)
		}
	}
}

// join keeps a part of a request, and returns the request once it is whole. It is called with mu locked.
func (l *localEnd) join(p *part) []byte {
	parts := append(l.parts[p.RequestID], p)
	l.parts[p.RequestID] = parts
	whole, err := joinWhole(parts)
	if err != nil {
		l.rig.t.Error(err)
	}
	if whole != nil {
		delete(l.parts, p.RequestID)
	}
	return whole
}

// wantTold compares the outcomes that a local end has been told.
func (l *localEnd) wantTold(want ...string) {
	l.rig.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	got := slices.Sorted(maps.Values(l.done))
	if !slices.Equal(got, want) {
		l.rig.t.Errorf("the local end was told %v, want %v", got, want)
	}
}

// joinWhole joins the parts of a message, in whatever order and however often they came, once they are all
// there.
func joinWhole(parts []*part) ([]byte, error) {
	ordered := map[int]*part{}
	n := -1
	for _, p := range parts {
		ordered[p.Index] = p
		if p.Last {
			n = p.Index + 1
		}
	}
	if len(ordered) != n {
		return nil, nil
	}
	var body []byte
	for i := range n {
		body = append(body, ordered[i].data...)
	}
	if parts[0].Encoding != "gzip" {
		return body, nil
	}
	zr, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zr)
}

// localReply is a local handler's answer.
type localReply struct {
	part part
	body []byte
}

// respond is the reply of a handler that returned body.
func respond(body string) localReply {
	return localReply{
		part: part{Type: "response", Headers: map[string]string{"Content-Type": "application/json"}},
		body: []byte(body),
	}
}

// serve accepts, runs the handler, and answers until the extension says that it knows.
func (d *delivery) serve() {
	if d.local.script != nil {
		d.local.script(d)
		return
	}
	if d.context.Mirror {
		d.run()
		return
	}
	ctx, cancel := context.WithDeadline(d.ctx, time.UnixMilli(d.context.DeadlineMs))
	defer cancel()
	answer := localReply{part: part{Type: "accepted"}}
	d.say(answer)
	handled := make(chan localReply, 1)
	d.local.wg.Go(func() { handled <- d.run() })
	every := time.NewTicker(5 * time.Second)
	defer every.Stop()
	for {
		select {
		case answer = <-handled:
			every.Reset(2 * time.Second)
		case <-every.C:
		case <-d.again:
		case <-d.over:
			return
		case <-ctx.Done():
			return
		}
		d.say(answer)
	}
}

// run runs the handler.
func (d *delivery) run() localReply {
	r := d.local.rig
	r.mu.Lock()
	r.handled[d.local.name+" "+d.context.RequestID]++
	handle := d.local.handle
	r.mu.Unlock()
	if handle != nil {
		return handle(d)
	}
	return respond(fmt.Sprintf(`{"by":"local","got":%d}`, len(d.event)))
}

// say publishes a message about the delivery. What is lost is said again.
func (d *delivery) say(m localReply) {
	m.part.RequestID = d.requestID()
	m.part.Sender = d.local.name
	m.part.sealer = d.local.sealer
	if d.local.pieces == 0 || m.part.Type == "accepted" {
		d.publish(slices.Collect(m.part.split(m.body))...)
		return
	}
	var events [][]byte
	for piece := range slices.Chunk(m.body, d.local.pieces) {
		m.part.Last = (len(events)+1)*d.local.pieces >= len(m.body)
		events = append(events, m.part.encode(piece))
		m.part.Index++
		m.part.Headers = nil
	}
	d.publish(events...)
}

// publish publishes events on the delivery's channel, as they are.
func (d *delivery) publish(events ...[]byte) {
	d.local.publishTo(d.ctx, d.requestID(), events...)
}

// requestID is the ID that the request came with last.
func (d *delivery) requestID() string {
	d.local.mu.Lock()
	defer d.local.mu.Unlock()
	return d.id
}

// publishTo publishes events on the channel of a request, if there is a session.
func (l *localEnd) publishTo(ctx context.Context, requestID string, events ...[]byte) {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s != nil {
		s.publish(ctx, s.channel(requestID), slices.Values(events), awaited)
	}
}

// unavailable skips a test for want of something. On a machine that is to run all tests, it fails.
func unavailable(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("there is no %s", what)
	}
	t.Skipf("there is no %s", what)
}

// needs returns the path of a program, and skips the test if it is not on this machine.
func needs(t testing.TB, program string) (path string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		unavailable(t, program)
	}
	return path
}

// write writes files, by their names, below directory. Nothing is started meanwhile: what is executed must
// not be open for writing in a process that is about to become another program.
func write(t testing.TB, directory string, files map[string]string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	for name, text := range files {
		file := filepath.Join(directory, name)
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		if err == nil {
			err = os.WriteFile(file, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// directoryOf makes a directory of files.
func directoryOf(t testing.TB, files map[string]string) (directory string) {
	t.Helper()
	directory, err := filepath.EvalSymlinks(t.TempDir()) // as os.Getwd has it
	if err != nil {
		t.Fatal(err)
	}
	write(t, directory, files)
	return directory
}

// inDirectory makes a directory of files the working directory.
func inDirectory(t *testing.T, files map[string]string) (directory string) {
	t.Helper()
	directory = directoryOf(t, files)
	t.Chdir(directory)
	return directory
}
