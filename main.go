// Command live-lambda makes a deployed AWS Lambda function run on a developer's machine.
//
// In the function's layer it is an extension: a proxy between the function's runtime and the Lambda Runtime API, which
// sends each event to the developer over AWS AppSync and completes the invocation with what comes back. The data walks
// main.go → proxy.go → tunnel.go → appsync.go → ws.go and back; extapi.go stands beside them. Twelve files are all of the layer's
// binary. On the developer's machine the same program hands the events to a handler: live-lambda --help.
package main

// main.go knows the configuration from the environment, which nothing else reads, and the order of start and stop.

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
)

// program carries what only some builds have: the developer's commands. The layer's build has none.
type program struct{}

// main is the extension where Lambda has started it, which is without arguments.
func main() {
	if len(os.Args) == 1 && os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		os.Exit(extension())
	}
	p, ok := any(program{}).(interface{ command(args []string) int })
	if !ok {
		fmt.Fprintln(os.Stderr, "live-lambda: this binary is the layer's extension; Lambda starts it, without arguments")
		os.Exit(2)
	}
	os.Exit(p.command(os.Args[1:]))
}

// newLogger logs lines of text, or of JSON, to w.
func newLogger(cfg config, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.logLevel, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if before, _, quotes := strings.Cut(a.Value.String(), "malformed "); quotes { // net/http's errors quote what they could not read
			a.Value = slog.StringValue(before + "malformed message")
		}
		return a
	}}
	handlers := map[bool]slog.Handler{false: slog.NewTextHandler(w, opts), true: slog.NewJSONHandler(w, opts)}
	return slog.New(handlers[cfg.logJSON]).With("source", "live-lambda") // among the function's lines
}

// roleCredentials returns the credentials of the function's role as they are now: those in the environment, else, under
// SnapStart, those of the container credential endpoint.
// https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html
func roleCredentials(ctx context.Context, transport http.RoundTripper) (c credentials, err error) {
	c = credentials{os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")}
	if c.accessKeyID != "" && c.secretAccessKey != "" {
		return c, nil
	}
	uri, err := url.Parse(os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"))
	if err != nil || uri.Host == "" {
		return c, errors.New("neither AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY nor AWS_CONTAINER_CREDENTIALS_FULL_URI is set, or the latter is not an URL")
	}
	var answer struct{ AccessKeyID, SecretAccessKey, Token string }
	_, err = exchange(ctx, transport, http.MethodGet, uri.String(), http.Header{"Authorization": {os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")}}, nil, nil, &answer)
	if err != nil || answer.AccessKeyID == "" || answer.SecretAccessKey == "" {
		return c, fmt.Errorf("container credentials: there are none in the answer: %w", cmp.Or(err, errors.New("a key is missing")))
	}
	return credentials{answer.AccessKeyID, answer.SecretAccessKey, answer.Token}, nil
}

// newTransport is the way to AppSync. Dials end by themselves: net/http detaches them from the request that began them.
// With a TLS configuration of its own it speaks no HTTP/2, which has no WebSockets here.
func newTransport(cfg *tls.Config) *http.Transport {
	return &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSClientConfig: cfg, TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: staleAfter}
}

// extension is the program in the layer. It returns the exit status.
func extension() int {
	cfg, problems := readConfig(os.Getenv)
	if cfg.forwardEnv {
		environment := map[string]string{}
		for _, s := range os.Environ() {
			name, value, _ := strings.Cut(s, "=")
			environment[name] = value
		}
		cfg.function["environment"] = environment
	}
	log := newLogger(cfg, os.Stderr)
	for _, p := range problems {
		log.Warn(p)
	}
	if err := run(context.Background(), cfg, log); err != nil {
		log.Error("cannot go on", "error", err)
		return 1
	}
	return 0
}

// run is the extension's life, until SHUTDOWN or the end of ctx. The proxy listens before the extension registers, because
// the runtime starts right after that; the link to AppSync comes up beside it all.
func run(ctx context.Context, cfg config, log *slog.Logger) error {
	// No proxy, no compression, no timeout: this is the way to Lambda's own APIs, which may hold a call for weeks.
	lambda := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	x := &extensionsAPI{base: "http://" + cfg.extensionsAPI, name: cfg.extensionName, transport: lambda}
	if cfg.off {
		return x.run(ctx, log, func(_ extensionAnswer, err error) error { return err })
	}
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", cfg.port))
	if err != nil {
		err = fmt.Errorf("cannot listen for the runtime on port %s: %w; set LRAP_LISTENER_PORT to a port that is free", cfg.port, err)
		return x.run(ctx, log, func(_ extensionAnswer, refused error) error {
			return x.initError(ctx, "LiveLambda.PortTaken", errors.Join(err, refused))
		})
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	linkCtx, stopLink := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLink()
	options := proxyOptions{
		runtimeAPI:   cfg.runtimeAPI,
		offlineError: cfg.offlineError,
		toRuntime:    cfg.toRuntime,
		accept:       cfg.accept,
		function:     cfg.function,
	}
	var t *tunnel
	if cfg.api != nil {
		cfg.api.log, cfg.api.transport = log, newTransport(cfg.roots.tlsConfig(cfg.api.realtime.Hostname()))
		cfg.api.credentials = func(ctx context.Context) (credentials, error) { return roleCredentials(ctx, lambda) }
		options.keys = cfg.api.variables
		t = newTunnel(cfg.api, cfg.toRuntime)
		wg.Go(func() { t.run(linkCtx) })
	}
	p := newProxy(linkCtx, options, lambda, t, log)
	server := &http.Server{Handler: p.handler(), MaxHeaderBytes: 2 << 20, DisableGeneralOptionsHandler: true, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	err = x.run(ctx, log, func(fn extensionAnswer, err error) error {
		if err == nil {
			cfg.function["handler"] = fn.Handler
			log.Info("registered", "function", fn.FunctionName, "port", cfg.port, "appsync", cfg.api != nil)
			wg.Go(func() { server.Serve(ln) })
		}
		return err
	})
	p.stop() // local ends are told, so the link comes last
	server.Close()
	return err
}
