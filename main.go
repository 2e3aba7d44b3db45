// Command live-lambda makes a deployed AWS Lambda function run on a developer's machine.
//
// In the function's layer it is an extension: a proxy between the function's runtime and the Lambda Runtime
// API. It sends each event to the developer over AWS AppSync and completes the invocation with the answer. On
// the developer's machine the same program hands the events to a handler: live-lambda --help.
//
// The layer's binary is built from the files below and from nothing else. An event goes through these from
// the top down, and its answer goes back up:
//
//	main.go        start and stop; it alone reads the environment and makes what opens connections
//	proxy.go       the proxy of the Runtime API: what becomes of one invocation
//	tunnel.go      one call to a developer, over whichever link to AppSync there is
//	appsync.go     AppSync: connect, subscribe, publish
//	ws.go          one WebSocket
//
// Beside that way stand the files that these use:
//
//	main_layer.go  func main of the layer's binary
//	config.go      the variables of the environment
//	extapi.go      the Extensions API: the extension's own registration and events
//	lambdaapi.go   what Lambda's APIs have in common: paths, headers, errors, one exchange
//	bare.go        the answers of local ends of another make
//	message.go     the messages that travel as AppSync's events
//	seal.go        messages that are sealed with a key
//	route.go       tokens in events, which say whom they are for
//	sigv4.go       how AWS signs requests
//	roots.go       root certificates
package main

// main.go knows start and stop.

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

// connectTimeout is for a TCP connection to AppSync, and then for its TLS handshake.
const connectTimeout = 15 * time.Second

// startedByLambda reports whether Lambda has started the program as an extension, which is without arguments.
func startedByLambda() bool {
	return len(os.Args) == 1 && os.Getenv("AWS_LAMBDA_RUNTIME_API") != ""
}

// extension is the program in the layer. It returns the exit status.
func extension() int {
	cfg, problems := readConfig(os.Getenv)
	if cfg.forwardEnv {
		environment := map[string]string{}
		for _, pair := range os.Environ() {
			name, value, _ := strings.Cut(pair, "=")
			if !strings.HasPrefix(name, "LIVE_LAMBDA") { // the key, for one, is nobody's business
				environment[name] = value
			}
		}
		cfg.function["environment"] = environment
	}
	runtime.GOMAXPROCS(processors(cfg.function["memory_size_mb"].(int), runtime.GOMAXPROCS(0)))
	log := newLogger(cfg, os.Stderr)
	for _, problem := range problems {
		log.Warn(problem)
	}
	if err := run(context.Background(), cfg, log); err != nil {
		log.Error("cannot go on", "error", err)
		return 1
	}
	return 0
}

// processors is how many a function of that memory uses, of those that it sees: it has one for each 1,769 MB,
// and more threads than that only wake each other up.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
func processors(memoryMB, seen int) int { return min(seen, 1+max(0, memoryMB-1)/1769) }

// newLogger logs lines of text, or of JSON, to w. Each names its source, because the function's stand between
// them.
func newLogger(cfg config, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.logLevel, ReplaceAttr: withoutQuote}
	var handler slog.Handler = slog.NewTextHandler(w, opts)
	if cfg.logJSON {
		handler = slog.NewJSONHandler(w, opts)
	}
	return slog.New(handler).With("source", "live-lambda")
}

// withoutQuote cuts off what net/http's errors quote of a message that it could not read: it may be secret.
func withoutQuote(_ []string, a slog.Attr) slog.Attr {
	before, _, quotes := strings.Cut(a.Value.String(), "malformed ")
	if quotes {
		a.Value = slog.StringValue(before + "malformed message")
	}
	return a
}

// newTransport is the way to AppSync. Dials end by themselves: net/http detaches them from the request that
// began them. With a dialer of its own it speaks no HTTP/2, which has no WebSockets here.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSHandshakeTimeout: connectTimeout,
		IdleConnTimeout:     staleAfter,
	}
}

// newServer is the HTTP server that the runtime talks to.
func newServer(p *proxy) *http.Server {
	return &http.Server{
		Handler:                      p.handler(),
		MaxHeaderBytes:               2 << 20, // Lambda takes 1 MB, and it is Lambda that refuses more
		DisableGeneralOptionsHandler: true,    // "OPTIONS *" is for Lambda to answer
		ErrorLog:                     slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

// run is the extension's life, until SHUTDOWN or the end of ctx. The proxy's port is open before the
// extension registers, because the runtime starts right after that. The link to AppSync comes up while the
// runtime starts: before, it would take the processor from the registration.
func run(ctx context.Context, cfg config, log *slog.Logger) error {
	// This is the way to Lambda's own APIs: without an HTTP proxy, without compression, and without a
	// timeout, because they may hold a call for weeks.
	lambda := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	x := &extensionsAPI{base: "http://" + cfg.extensionsAPI, name: cfg.extensionName, transport: lambda}
	if cfg.off { // Lambda waits for the extension all the same
		_, err := x.register(ctx)
		if err == nil {
			err = x.awaitShutdown(ctx, log)
		}
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:"+cfg.port)
	if err != nil {
		return x.portTaken(ctx, fmt.Errorf(
			"cannot listen for the runtime on port %s: %w; set LRAP_LISTENER_PORT to a port that is free",
			cfg.port, err))
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	// The link outlives ctx, because p.stop tells the local ends over it.
	linkCtx, stopLink := context.WithCancel(context.Background())
	defer stopLink()
	var t *tunnel
	if cfg.api != nil && time.Now().Before(cfg.until) {
		api := newAppSync(*cfg.api, cfg.roots, newTransport(), roleCredentials(cfg.keys, lambda), log)
		t = newTunnel(api, cfg.function["function_name"].(string), cfg.toRuntime)
		t.stop = stopLink
	}
	p := newProxy(context.Background(), cfg, lambda, t, log)
	server := newServer(p)
	fn, err := x.register(ctx)
	if err == nil {
		cfg.function["handler"] = fn.Handler
		log.Info("registered", "function", fn.FunctionName, "port", cfg.port, "appsync", t != nil,
			"on", strings.Join(cfg.on(), ", "))
		wg.Go(func() { server.Serve(ln) }) // until Close
		if t != nil {
			wg.Go(func() { t.run(linkCtx) })
		}
		err = x.awaitShutdown(ctx, log)
	}
	p.stop() // local ends are told, so the link comes last
	server.Close()
	return err
}
