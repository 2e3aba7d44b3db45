//go:build !layer

package main

// rig_test.go is the rig: the whole extension in one process, the real proxy and tunnel between the two
// emulators, a runtime with deployed code, and local ends, on a network of pipes in a bubble of fake time.

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	rigAppSync = "localhost:4000"
	rigLambda  = "127.0.0.1:9001"
	rigProxy   = "127.0.0.1:8082"
)

// rigOptions say how a rig differs from the usual one.
type rigOptions struct {
	env         map[string]string // of the extension; a value that is "-" unsets
	api         eventAPIOptions
	credentials credentials // of the extension, where it has no API key
	lambda      lambdaOptions
	local       *localEnd    // where not the usual one
	noLocal     bool         // none is started
	fault       fault        // judges every frame, from before the extension starts
	before      func(*rig)   // is called before the extension starts
	tls         string       // the name in the API's certificate, if TLS is spoken
	noRoots     bool         // the extension does not trust it
	connect     int          // there is an HTTPS proxy, with this answer to CONNECT
	runtimeAPI  http.Handler // instead of an emulated environment's
	noRuntime   bool
	noLambda    bool // the test listens itself
	noLink      bool // do not wait for the link
	events      bool // with an Event API only: of bare results, or of what its WebSocket publishes
}

// rig is everything in one bubble of fake time: an AppSync API, a Lambda environment, the extension between
// them, a runtime with the deployed code, and local ends.
type rig struct {
	t             *testing.T
	ctx           context.Context
	net           *pipeNetwork
	api           *eventAPI
	lambda        *lambdaEnv
	concurrency   int
	proxy         *proxy
	log           *logBook
	credentials   atomic.Pointer[credentials] // of the extension
	stopExtension func()
	tls           atomic.Pointer[tls.Certificate]
	roots         string // a file with it
	url           string // of AppSync, where not the usual one
	proxyAddr     string
	connect       atomic.Int64
	runtime       *deployedRuntime
	local         *localEnd
	stops         []func() // in reverse order

	mu      sync.Mutex
	handled map[string]int // runs of handlers, by local end and AWS request ID
}

// rigTest runs a test in a rig of its own, with an Event API and with a GraphQL API.
func rigTest(t *testing.T, name string, opts rigOptions, test func(*rig)) {
	t.Helper()
	if !opts.events && !opts.api.graphql {
		graphql := opts
		graphql.api.graphql = true
		rigTest(t, strings.TrimPrefix(name+" (GraphQL)", " "), graphql, test)
	}
	run := func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			defer time.Sleep(2 * time.Second) // for connections that linger
			r := newRig(t, opts)
			defer r.close()
			test(r)
		})
	}
	if name == "" {
		run(t)
		return
	}
	t.Run(name, run)
}

func newRig(t *testing.T, opts rigOptions) *rig {
	t.Helper()
	r := &rig{
		t:       t,
		ctx:     t.Context(),
		net:     &pipeNetwork{hosts: map[string]*pipeListener{}},
		log:     &logBook{},
		handled: map[string]int{},
	}
	opts.api.apiKey = cmp.Or(opts.api.apiKey, "da2-key")
	r.api = startEventAPI(r.listenAppSync(opts), opts.api)
	r.stops = append(r.stops, r.api.close)
	r.startLambda(opts)
	if !opts.noLocal {
		r.local = r.startLocal(cmp.Or(opts.local, &localEnd{}))
	}
	if opts.before != nil {
		opts.before(r)
	}
	if opts.fault != nil {
		r.intercept(func(f rigFrame) apiVerdict { return opts.fault(r, f) })
	}
	r.startExtension(opts)
	if !opts.noRuntime {
		r.runtime = r.startRuntime()
		if err := r.lambda.ready(r.ctx); err != nil {
			t.Fatal(err)
		}
	}
	if r.proxy.tunnel != nil && !opts.noLink {
		r.ready()
	}
	return r
}

// startLambda starts the environment, or the Runtime API that stands for it.
func (r *rig) startLambda(opts rigOptions) {
	if opts.noLambda {
		return
	}
	ln := r.net.listen(rigLambda)
	r.concurrency = max(1, opts.lambda.maxConcurrency)
	if opts.runtimeAPI != nil {
		server := &http.Server{Handler: opts.runtimeAPI}
		var wg sync.WaitGroup
		wg.Go(func() { server.Serve(ln) })
		r.stops = append(r.stops, func() { server.Close(); wg.Wait() })
		return
	}
	opts.lambda.timeout = cmp.Or(opts.lambda.timeout, 15*time.Minute)
	opts.lambda.listener = ln
	var err error
	if r.lambda, err = startLambda(r.ctx, opts.lambda); err != nil {
		r.t.Fatal(err)
	}
	r.stops = append(r.stops, func() { r.lambda.close() })
}

// ready waits for the extension's link.
func (r *rig) ready() {
	r.t.Helper()
	for timeout := time.After(time.Minute); ; {
		r.proxy.tunnel.mu.Lock()
		l, err := r.proxy.tunnel.link, r.proxy.tunnel.err
		r.proxy.tunnel.mu.Unlock()
		if l != nil && l.ctx.Err() == nil {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-timeout:
			r.t.Fatal("no link:", err)
		}
	}
}

// link is the extension's link, and its connection's number.
func (r *rig) link() (l *link, conn int) {
	r.ready()
	r.proxy.tunnel.mu.Lock()
	l = r.proxy.tunnel.link
	r.proxy.tunnel.mu.Unlock()
	conns, _ := r.api.subscribers(r.ctx, "/live-lambda/response/"+l.name+"*", 1)
	return l, conns[0]
}

// mend takes back every fault.
func (r *rig) mend() {
	synctest.Wait() // for frames on their way
	r.api.intercept(nil)
	r.net.fail("", nil)
	r.connect.Store(http.StatusOK)
	if r.tls.Load() != nil {
		r.useCertificate("localhost")
	}
}

// listenAppSync listens as the API, with TLS where that is asked for.
func (r *rig) listenAppSync(opts rigOptions) net.Listener {
	ln := r.net.listen(rigAppSync)
	if opts.tls == "" {
		return ln
	}
	r.roots = filepath.Join(r.t.TempDir(), "roots.pem")
	r.useCertificate(opts.tls)
	if opts.noRoots {
		os.Remove(r.roots)
	}
	return tls.NewListener(
		ln, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return r.tls.Load(), nil
		}})
}

// useCertificate makes a certificate for name that signs itself, serves it, and has the extension trust it.
func (r *rig) useCertificate(name string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	template := &x509.
		Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(
		r.roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.tls.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
}

// startHTTPSProxy starts a proxy at proxy:3128, which answers CONNECT with the status in r.connect.
func (r *rig) startHTTPSProxy() {
	var wg sync.WaitGroup
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if n := int(r.connect.Load()); n != http.StatusOK {
			http.Error(w, "no", n)
			return
		}
		target, err := r.net.dial(req.Context(), "tcp", req.Host)
		if err != nil {
			r.t.Error(err)
			return
		}
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			r.t.Error(err)
			return
		}
		io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		wg.Go(func() { io.Copy(target, client); target.Close() })
		wg.Go(func() { io.Copy(client, target); client.Close() })
	})}
	ln := r.net.listen("proxy:3128")
	wg.Go(func() { server.Serve(ln) })
	r.stops = append(r.stops, func() { server.Close(); wg.Wait() })
}

func (r *rig) appSyncURL() string {
	if r.tls.Load() != nil {
		return "https://" + rigAppSync
	}
	return cmp.Or(r.url, "http://"+rigAppSync)
}

// config is the extension's configuration, changed by env.
func (r *rig) config(env map[string]string) config {
	all := map[string]string{
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST": r.appSyncURL(),
		"LIVE_LAMBDA_APPSYNC_API_KEY":   "da2-key",
		"SSL_CERT_FILE":                 cmp.Or(r.roots, "/none"),
		"SSL_CERT_DIR":                  "/none",
		"AWS_LAMBDA_RUNTIME_API":        rigLambda,
		"AWS_LAMBDA_FUNCTION_NAME":      "function",
		"AWS_REGION":                    "us-east-1",
		"LIVE_LAMBDA_LOG_LEVEL":         "debug",
		"LIVE_LAMBDA_APPSYNC_PROTOCOL":  r.api.opts.protocol(),
	}
	maps.Copy(all, env)
	cfg, problems := readConfig(func(name string) string { return all[name] })
	if problems != nil {
		r.t.Fatal(problems)
	}
	return cfg
}

// startExtension does as run does, without registering: on the rig's network, and with its log.
func (r *rig) startExtension(opts rigOptions) {
	cfg := r.config(opts.env)
	lambda := r.net.transport()
	log := newLogger(cfg, r.log)
	o := proxyOptions{
		runtimeAPI:   cfg.runtimeAPI,
		offlineError: cfg.offlineError,
		toRuntime:    cfg.toRuntime,
		accept:       cfg.accept,
		function:     cfg.function,
	}
	var wg sync.WaitGroup
	linkCtx, stopLink := context.WithCancel(context.Background())
	var tn *tunnel
	appSync := &http.Transport{DialContext: r.net.dial, IdleConnTimeout: staleAfter}
	if cfg.api != nil {
		r.credentials.Store(&opts.credentials)
		keys := func(context.Context) (credentials, error) {
			if c := r.credentials.Load(); c != nil {
				return *c, nil
			}
			return credentials{}, errors.New("there are none")
		}
		if opts.connect != 0 {
			r.connect.Store(int64(opts.connect))
			r.startHTTPSProxy()
			appSync.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy:3128"})
		}
		api := newAppSync(endpoint(*cfg.api), cfg.roots, appSync, keys, log)
		o.addKeys = api.addKeys
		tn = newTunnel(api, cfg.toRuntime)
		wg.Go(func() { tn.run(linkCtx) })
	}
	p := newProxy(linkCtx, o, lambda, tn, log)
	server := &http.Server{
		Handler:                      p.handler(),
		MaxHeaderBytes:               2 << 20,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ln := r.net.listen(rigProxy)
	r.proxyAddr = rigProxy
	wg.Go(func() { server.Serve(ln) })
	r.proxy = p
	r.stopExtension = sync.OnceFunc(func() {
		p.stop()
		server.Close()
		stopLink()
		wg.Wait()
		lambda.CloseIdleConnections()
		appSync.CloseIdleConnections()
	})
	r.stops = append(r.stops, r.stopExtension)
}

func (r *rig) close() {
	for _, stop := range slices.Backward(r.stops) {
		stop()
	}
}

// invoked is what became of one invocation.
type invoked struct {
	invokeResult
	what string        // "local", "deployed", or an error type
	took time.Duration // until the caller had it
}

// invoke invokes the function and waits for what comes of it.
func (r *rig) invoke(payload string) invoked {
	r.t.Helper()
	return r.invokeRequest(invokeRequest{payload: []byte(payload)})
}

func (r *rig) invokeRequest(req invokeRequest) invoked {
	r.t.Helper()
	start := time.Now()
	res, err := r.lambda.invoke(r.ctx, req)
	if err != nil {
		r.t.Fatalf("invoke: %v", err)
	}
	o := invoked{invokeResult: res, took: time.Since(start)}
	var answer struct{ By string }
	switch {
	case res.functionError != "":
		o.what = res.errorType
		var e struct{ ErrorType string }
		if json.Unmarshal(res.payload, &e); strings.HasPrefix(e.ErrorType, "LiveLambda.") {
			o.what = e.ErrorType
		}
	case json.Unmarshal(res.payload, &answer) == nil && answer.By != "":
		o.what = answer.By
	default:
		o.what = string(res.payload)
	}
	return o
}

// want checks an outcome, and that the Runtime API was told exactly once.
func (r *rig) want(o invoked, what string) {
	r.t.Helper()
	if o.what != what {
		r.t.Errorf("got %s after %v (%s), want %s", o.what, o.took, o.payload, what)
	}
	if n := r.lambda.completions(o.requestID); len(n) != 1 || n[0].status != http.StatusAccepted {
		r.t.Errorf("the Runtime API was told %d times: %v", len(n), n)
	}
}

// wantHandled checks how many invocations a local handler ran for, and that it ran once for each.
func (r *rig) wantHandled(n int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	invocations := map[string]bool{}
	for key, runs := range r.handled {
		name, id, _ := strings.Cut(key, " ")
		invocations[id] = true
		if runs > 1 {
			r.t.Errorf("the handler of %s ran %d times for %s", name, runs, id)
		}
	}
	if len(invocations) != n {
		r.t.Errorf("local handlers ran for %d invocations, want %d", len(invocations), n)
	}
}

// deployedRuntime is the function's runtime with the deployed code, which answers {"by":"deployed"}.
type deployedRuntime struct {
	stop   func()
	mu     sync.Mutex
	events []string // that it got, byte for byte
	header []http.Header
}

func (d *deployedRuntime) got() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.events)
}

func (d *deployedRuntime) headers() []http.Header {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.header)
}

func (r *rig) startRuntime() *deployedRuntime {
	d := &deployedRuntime{}
	ctx, cancel := context.WithCancel(context.Background())
	transport := r.net.transport()
	var wg sync.WaitGroup
	for range r.concurrency {
		wg.Go(func() { runRuntime(ctx, transport, r.proxyAddr, d.handle) })
	}
	d.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		transport.CloseIdleConnections()
	})
	r.stops = append(r.stops, d.stop)
	return d
}

func (d *deployedRuntime) handle(header http.Header, event []byte) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events, d.header = append(d.events, string(event)), append(d.header, header)
	return `{"by":"deployed"}`
}

// runRuntime is a runtime's loop. It ends with ctx alone.
func runRuntime(
	ctx context.Context, transport http.RoundTripper, addr string, handle func(http.Header, []byte) string) {
	for ctx.Err() == nil {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+nextPath, nil)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			time.Sleep(100 * time.Millisecond) // the extension has stopped
			continue
		}
		event, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			continue
		}
		answer := strings.NewReader(handle(resp.Header, event))
		req, _ = http.NewRequestWithContext(
			ctx, http.MethodPost,
			"http://"+addr+invocationPath+resp.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response",
			answer)
		req.Header.Set(idHeader, resp.Header.Get(idHeader))
		if resp, err = transport.RoundTrip(req); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
}

// logBook keeps log lines.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rigFrame is a frame with the step that it is of an invocation: the connection's end (extension or local),
// the frame's type, and the type and index of the message in it.
type rigFrame struct {
	apiFrame
	step string
}

// intercept has hook judge every frame from now on.
func (r *rig) intercept(hook func(rigFrame) apiVerdict) {
	ends, published := map[int]string{}, map[string]string{}
	conns, _ := r.api.subscribers(r.ctx, "/live-lambda/requests", 0)
	for _, c := range conns {
		ends[c] = "local"
	}
	r.api.intercept(func(f apiFrame) apiVerdict {
		if f.typ == "subscribe" && f.channel == "/live-lambda/requests" {
			ends[f.conn] = "local"
		}
		what, key, end, typ := "", fmt.Sprint(f.conn, " ", f.id), cmp.Or(ends[f.conn], "extension"), f.typ
		switch f.typ {
		case "publish", "data", "http_publish", "http_published":
			what = messageIn(f.events[0])
			published[key] = what
		case "publish_success", "publish_error":
			what = published[key]
			delete(published, key)
		}
		if r.api.opts.graphql && strings.HasPrefix(f.typ, "http_") { // the steps are the same
			typ = map[string]string{"http_publish": "publish", "http_published": "publish_success"}[f.typ]
			kind, _, _ := strings.Cut(what, " ")
			if slices.Contains(
				[]string{"accepted", "response", "error"}, kind) {
				end = "local"
			}
		}
		return hook(rigFrame{apiFrame: f, step: strings.TrimSpace(end + " " + typ + " " + what)})
	})
}

// messageIn tells type and index of the message in an event.
func messageIn(event string) string {
	if p, _ := parsePart(event); p != nil && p.Type != "" {
		return fmt.Sprint(p.Type, " ", p.Index)
	} else if p != nil {
		return "request 0"
	}
	return "bare"
}

// localEnd is a local end of version 1 with a handler of its own, as `live-lambda local` has it, or that
// itself.
type localEnd struct {
	rig    *rig
	name   string
	real   bool // it is the program's own; of what follows it has the handler alone
	up     chan struct{}
	leave  func()                     // ends it, but for its handlers
	stop   func()                     // and waits for those
	handle func(*delivery) localReply // the handler; nil: answers {"by":"local"}
	script func(*delivery)            // instead of all that a local end does with a request
	again  func(*delivery)            // where the request comes again
	pieces int                        // bytes in a part of its answers, where not as many as possible

	mu      sync.Mutex
	session *session
	parts   map[string][]*part   // of requests, by request ID
	known   map[string]*delivery // by AWS request ID and deadline
	done    map[string]string    // outcomes told, by request ID
	wg      sync.WaitGroup
}

// delivery is one request as a local end has it.
type delivery struct {
	local   *localEnd
	id      string // request_id, the latest one
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
		handle: l.handle,
		script: l.script,
		again:  l.again,
		pieces: l.pieces,
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
		}[name]
	})
	transport := r.net.transport()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	a := newAppSync(endpoint(*cfg.api), nil, transport, nil, slog.New(slog.DiscardHandler))
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

func (l *localEnd) run(ctx context.Context, a *appsync) {
	a.run(ctx, func(s *session) (bool, error) {
		if err := s.subscribe(ctx, ackTimeout, a.requests, func(event string) {
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

// runReal runs what `live-lambda local` runs. Its runtime is a goroutine that came by itself, as from a
// debugger, and asks over the rig's network, whose connections have no address to be known for this machine's
// (guarded).
func (l *localEnd) runReal(ctx context.Context, a *appsync) {
	term := &terminal{
		out:    l,
		errors: l,
		columns: func() int {
			return 0
		},
		chunks: make(chan chunk, waitingLines),
	}
	term.start()
	defer term.close()
	a.log = term.logger(slog.LevelDebug)
	real := newLocal(localOptions{}, term)
	real.attach = newWorker(&pool{local: real, name: "attached runtime"})
	real.attachServer = &http.Server{Handler: real.attach.routes(), ErrorLog: real.quiet}
	ln, transport := l.rig.net.listen(l.name+":80"), l.rig.net.transport()
	defer transport.CloseIdleConnections()
	real.wg.Go(func() { real.attachServer.Serve(ln) })
	l.wg.Go(func() {
		runRuntime(ctx, transport, ln.host, func(header http.Header, event []byte) string {
			d := &delivery{
				local:   l,
				event:   event,
				context: eventContext{RequestID: header.Get("Lambda-Runtime-Aws-Request-Id")},
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

func (l *localEnd) use(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = s
}

// receive takes an event from the requests channel, in the reader's goroutine.
func (l *localEnd) receive(ctx context.Context, event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, _ := parsePart(event)
	switch {
	case p != nil && p.Type == "done":
		l.done[p.RequestID] = p.Outcome
		for _, d := range l.known {
			if d.id == p.RequestID {
				select {
				case <-d.over:
				default:
					close(d.over)
				}
			}
		}
		return
	case p != nil && p.Type == "request":
		parts := append(l.parts[p.RequestID], p)
		l.parts[p.RequestID] = parts
		whole, err := joinWhole(parts)
		if err != nil {
			l.rig.t.Error(err)
		}
		if whole == nil {
			return
		}
		delete(l.parts, p.RequestID)
		event = string(whole)
	}
	var request struct {
		RequestID    string          `json:"request_id"`
		EventPayload json.RawMessage `json:"event_payload"`
		Context      eventContext    `json:"context"`
	}
	if err := json.Unmarshal([]byte(event), &request); err != nil || request.RequestID == "" {
		l.rig.t.Errorf("not a request: %q, %v", event, err)
		return
	}
	key := fmt.Sprint(request.Context.RequestID, request.Context.DeadlineMs)
	if by := request.Context.AcceptedBy; by != "" && by != l.name {
		return
	}
	if d := l.known[key]; d != nil {
		d.id = request.RequestID
		notify(d.again)
		if l.again != nil {
			l.wg.Go(func() { l.again(d) })
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

// wantTold compares the outcomes that a local end has been told.
func (l *localEnd) wantTold(want ...string) {
	l.rig.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := slices.Sorted(maps.Values(l.done)); !slices.Equal(got, want) {
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
	m.part.RequestID, m.part.Sender = d.requestID(), d.local.name
	if d.local.pieces == 0 || m.part.Type == "accepted" {
		d.publish(slices.Collect(m.part.split(m.body))...)
		return
	}
	var events [][]byte
	for piece := range slices.Chunk(m.body, d.local.pieces) {
		m.part.Last = (len(events)+1)*d.local.pieces >= len(m.body)
		events = append(events, m.part.encode(piece))
		m.part.Index, m.part.Headers = m.part.Index+1, nil
	}
	d.publish(events...)
}

// publish publishes events on the delivery's channel, as they are.
func (d *delivery) publish(events ...[]byte) {
	d.local.publishTo(d.ctx, d.requestID(), events...)
}

func (d *delivery) requestID() string {
	d.local.mu.Lock()
	defer d.local.mu.Unlock()
	return d.id
}

func (l *localEnd) publishTo(ctx context.Context, requestID string, events ...[]byte) {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s != nil {
		s.publish(ctx, s.channel(requestID), slices.Values(events), true)
	}
}
