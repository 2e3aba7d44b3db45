//go:build !layer

package main

// rig_test.go is the rig: the whole extension in one process, the real proxy and tunnel between the two
// emulators, a runtime with deployed code, and local ends (rig_local_test.go), on a network of pipes in a
// bubble of fake time.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
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
	credentials credentials // of the extension, if it has no API key
	lambda      lambdaOptions
	local       *localEnd    // if not the usual one
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
	events      bool // with an Event API only: a test of bare results, or of what its WebSocket publishes
	sealed      bool // with an Event API whose ends have a key as well
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
	key           string // LIVE_LAMBDA_KEY of the extension
	url           string // of AppSync, if not the usual one
	proxyAddr     string
	connect       atomic.Int64
	runtime       *deployedRuntime
	local         *localEnd
	stops         []func() // in reverse order

	mu      sync.Mutex
	handled map[string]int // guarded by mu: runs of handlers, by local end and AWS request ID
}

// rigTest runs a test in a rig of its own, with an Event API and with a GraphQL API, and with a key if that
// is asked for.
func rigTest(t *testing.T, name string, opts rigOptions, test func(*rig)) {
	t.Helper()
	if !opts.events && !opts.api.graphql {
		graphql := opts
		graphql.api.graphql = true
		rigTest(t, strings.TrimPrefix(name+" (GraphQL)", " "), graphql, test)
	}
	if opts.sealed {
		sealed := opts
		sealed.sealed, sealed.events = false, true
		sealed.env = maps.Clone(opts.env)
		if sealed.env == nil {
			sealed.env = map[string]string{}
		}
		sealed.env["LIVE_LAMBDA_KEY"] = testKey
		rigTest(t, strings.TrimPrefix(name+" (sealed)", " "), sealed, test)
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

// newRig starts what the options say, and returns when the extension has a link, if it is to have one.
func newRig(t *testing.T, opts rigOptions) *rig {
	t.Helper()
	r := &rig{
		t:       t,
		ctx:     t.Context(),
		net:     &pipeNetwork{hosts: map[string]*pipeListener{}},
		log:     &logBook{},
		key:     opts.env["LIVE_LAMBDA_KEY"],
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
		r.stops = append(r.stops, func() {
			server.Close()
			wg.Wait()
		})
		return
	}
	opts.lambda.timeout = cmp.Or(opts.lambda.timeout, 15*time.Minute)
	opts.lambda.listener = ln
	var err error
	r.lambda, err = startLambda(r.ctx, opts.lambda)
	if err != nil {
		r.t.Fatal(err)
	}
	r.stops = append(r.stops, func() { r.lambda.close() })
}

// ready waits for the extension's link.
func (r *rig) ready() {
	r.t.Helper()
	timeout := time.After(time.Minute)
	for {
		r.proxy.tunnel.Lock()
		l, err := r.proxy.tunnel.link, r.proxy.tunnel.err
		r.proxy.tunnel.Unlock()
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
	r.proxy.tunnel.Lock()
	l = r.proxy.tunnel.link
	r.proxy.tunnel.Unlock()
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

// listenAppSync listens as the API, with TLS if that is asked for.
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
	template := &x509.Certificate{
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
		n := int(r.connect.Load())
		if n != http.StatusOK {
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
		wg.Go(func() {
			io.Copy(target, client)
			target.Close()
		})
		wg.Go(func() {
			io.Copy(client, target)
			client.Close()
		})
	})}
	ln := r.net.listen("proxy:3128")
	wg.Go(func() { server.Serve(ln) })
	r.stops = append(r.stops, func() {
		server.Close()
		wg.Wait()
	})
}

// appSyncURL is the value of LIVE_LAMBDA_APPSYNC_HTTP_HOST, at either end.
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

// requestsChannel is where requests without a stage go.
const requestsChannel = "/live-lambda/requests"

// startExtension does as run does, without registering: on the rig's network, and with its log.
func (r *rig) startExtension(opts rigOptions) {
	cfg := r.config(opts.env)
	lambda := r.net.transport()
	log := newLogger(cfg, r.log)
	var wg sync.WaitGroup
	linkCtx, stopLink := context.WithCancel(context.Background())
	appSync := &http.Transport{DialContext: r.net.dial, IdleConnTimeout: staleAfter}
	var tn *tunnel
	if cfg.api != nil && time.Now().Before(cfg.until) {
		r.credentials.Store(&opts.credentials)
		if opts.connect != 0 {
			r.connect.Store(int64(opts.connect))
			r.startHTTPSProxy()
			appSync.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy:3128"})
		}
		api := newAppSync(*cfg.api, cfg.roots, appSync, r.extensionKeys, log)
		tn = newTunnel(api, cfg.function["function_name"].(string), cfg.toRuntime)
		tn.stop = stopLink
		wg.Go(func() { tn.run(linkCtx) })
	}
	p := newProxy(context.Background(), cfg, lambda, tn, log)
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

// extensionKeys are the extension's credentials, if it has any.
func (r *rig) extensionKeys(context.Context) (credentials, error) {
	keys := r.credentials.Load()
	if keys == nil {
		return credentials{}, errors.New("there are none")
	}
	return *keys, nil
}

// close stops everything, in the reverse order of the starts.
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

// invokeRequest does it with a request of any kind.
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
		json.Unmarshal(res.payload, &e)
		if strings.HasPrefix(e.ErrorType, "LiveLambda.") {
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
	told := r.lambda.completions(o.requestID)
	if len(told) != 1 || told[0].status != http.StatusAccepted {
		r.t.Errorf("the Runtime API was told %d times: %v", len(told), told)
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
	stop func()

	mu     sync.Mutex // guards the following
	events []string   // that it got, byte for byte
	header []http.Header
}

// got are the events that it got.
func (d *deployedRuntime) got() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.events)
}

// headers are the headers that they came with.
func (d *deployedRuntime) headers() []http.Header {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.header)
}

// startRuntime starts a runtime with as many calls of next at once as the function has invocations.
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

// handle is the deployed code.
func (d *deployedRuntime) handle(header http.Header, event []byte) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, string(event))
	d.header = append(d.header, header)
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
		requestID := resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
		answer := strings.NewReader(handle(resp.Header, event))
		url := "http://" + addr + invocationPath + requestID + "/response"
		req, _ = http.NewRequestWithContext(ctx, http.MethodPost, url, answer)
		req.Header.Set(idHeader, resp.Header.Get(idHeader))
		resp, err = transport.RoundTrip(req)
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
}

// logBook keeps log lines.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
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
	steps := stepper{
		graphql:   r.api.opts.graphql,
		key:       r.key,
		ends:      map[int]string{},
		published: map[string]string{},
	}
	conns, _ := r.api.subscribers(r.ctx, "/live-lambda/requests", 0)
	for _, c := range conns {
		steps.ends[c] = "local"
	}
	r.api.intercept(func(f apiFrame) apiVerdict { return hook(rigFrame{apiFrame: f, step: steps.of(f)}) })
}

// stepper names the steps of frames, in the order in which the API sees those.
type stepper struct {
	graphql   bool
	key       string            // LIVE_LAMBDA_KEY
	ends      map[int]string    // by connection; none: the extension
	published map[string]string // what is in publishes without an answer, by connection and ID
}

// of names the step of a frame.
func (s stepper) of(f apiFrame) string {
	if f.typ == "subscribe" && f.channel == "/live-lambda/requests" {
		s.ends[f.conn] = "local"
	}
	end := cmp.Or(s.ends[f.conn], "extension")
	typ := f.typ
	what := ""
	key := fmt.Sprint(f.conn, " ", f.id)
	switch f.typ {
	case "publish", "data", "http_publish", "http_published":
		what = messageIn(f.events[0], s.key)
		s.published[key] = what
	case "publish_success", "publish_error":
		what = s.published[key]
		delete(s.published, key)
	}
	// Both ends publish over HTTPS to a GraphQL API. The steps are the same as over a WebSocket.
	if s.graphql && strings.HasPrefix(f.typ, "http_") {
		typ = ""
		switch f.typ {
		case "http_publish":
			typ = "publish"
		case "http_published":
			typ = "publish_success"
		}
		kind, _, _ := strings.Cut(what, " ")
		switch kind {
		case "accepted", "response", "error":
			end = "local"
		}
	}
	return strings.TrimSpace(end + " " + typ + " " + what)
}

// messageIn tells type and index of the message in an event, which may be sealed with a key.
func messageIn(event, key string) string {
	secret, _ := base64.RawURLEncoding.DecodeString(key)
	p, _ := newSealer(secret).parse(event) // a new one: a message is seen more than once
	switch {
	case p == nil:
		return "bare"
	case p.Type == "":
		return "request 0"
	default:
		return fmt.Sprint(p.Type, " ", p.Index)
	}
}
