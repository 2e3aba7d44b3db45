// Command live-lambda makes a deployed AWS Lambda function run on a developer's machine.
//
// In the function's layer it is an extension: a proxy between the function's runtime and the Lambda Runtime API, which
// sends each event to the developer over AWS AppSync and completes the invocation with what comes back. The data walks
// main.go → proxy.go → appsync.go → ws.go and back; extapi.go stands beside them. Those five files are all of the layer's
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
	"strconv"
	"strings"
	"sync"
	"time"
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

// config is what the environment says.
type config struct {
	off, offlineError, toRuntime, forwardEnv, logJSON bool // LIVE_LAMBDA=off, _OFFLINE=error, _DELIVERY=runtime, …
	accept                                            time.Duration
	extensionsAPI, runtimeAPI, port                   string // host:port; the proxy forwards to runtimeAPI and listens on port
	extensionName                                     string
	logLevel                                          slog.Level
	roots                                             rootFiles
	function                                          map[string]any // for the context of requests
	api                                               *appsync       // nil: not configured
}

// readConfig reads the configuration through getenv. It never fails: each problem is a line that names the variable,
// what is wrong with it and what is done instead.
func readConfig(getenv func(string) string) (cfg config, problems []string) {
	// read has set take the value of a variable, or where it does not take that its default.
	read := func(name, byDefault, want string, set func(value string) bool) {
		if value := cmp.Or(getenv(name), byDefault); !set(value) {
			problems = append(problems, fmt.Sprintf("%s is %q, not %s; using %s", name, value, want, byDefault))
			set(byDefault)
		}
	}
	// second reports whether a variable has the second of its two values, not the first, its default.
	second := func(name, first, second string) (is bool) {
		read(name, first, first+" or "+second, func(s string) bool { is = strings.EqualFold(s, second); return is || strings.EqualFold(s, first) })
		return is
	}
	cfg.off = second("LIVE_LAMBDA", "on", "off")
	cfg.offlineError = second("LIVE_LAMBDA_OFFLINE", "deployed", "error")
	cfg.toRuntime = second("LIVE_LAMBDA_DELIVERY", "caller", "runtime")
	cfg.forwardEnv = second("LIVE_LAMBDA_FORWARD_ENV", "off", "on")
	cfg.logJSON = strings.EqualFold(getenv("AWS_LAMBDA_LOG_FORMAT"), "JSON")
	// Lambda's own levels have two more. https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
	level := strings.NewReplacer("TRACE", "debug", "FATAL", "error").Replace(getenv("AWS_LAMBDA_LOG_LEVEL"))
	read("LIVE_LAMBDA_LOG_LEVEL", cmp.Or(level, "info"), "one of debug, info, warn, error", func(s string) bool { return cfg.logLevel.UnmarshalText([]byte(s)) == nil })
	read("LIVE_LAMBDA_ACCEPT_TIMEOUT", "0", "a duration like 3s or 1500ms", func(s string) bool { d, err := time.ParseDuration(s); cfg.accept = d; return err == nil && d >= 0 })
	read("LRAP_LISTENER_PORT", "8082", "a port from 1 to 65535", func(s string) bool { cfg.port = s; n, err := strconv.ParseUint(s, 10, 16); return err == nil && n > 0 })
	cfg.extensionsAPI = getenv("AWS_LAMBDA_RUNTIME_API")
	read("LRAP_RUNTIME_API_ENDPOINT", cfg.extensionsAPI, "another server's host:port", func(s string) bool {
		u, err := url.Parse("http://" + s)
		cfg.runtimeAPI = s
		return s == cfg.extensionsAPI || err == nil && u.Host == s && u.Hostname() != "" && u.Port() != "" && (u.Port() != cfg.port || net.ParseIP(u.Hostname()).IsGlobalUnicast() || net.ParseIP(u.Hostname()).IsLinkLocalUnicast())
	})
	// Where Amazon Linux and Debian keep them. crypto/x509 knows more places, and reads SSL_CERT_FILE too.
	cfg.roots = strings.Split(cmp.Or(getenv("SSL_CERT_FILE"), "/etc/pki/tls/certs/ca-bundle.crt:/etc/ssl/certs/ca-certificates.crt"), ":")
	cfg.extensionName = cmp.Or(getenv("AWS_LAMBDA_EXTENSION_NAME"), "live-lambda-extension")
	memory, _ := strconv.Atoi(getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"))
	cfg.function = map[string]any{"aws_region": getenv("AWS_REGION"), "memory_size_mb": memory, "function_name": getenv("AWS_LAMBDA_FUNCTION_NAME"),
		"function_version": getenv("AWS_LAMBDA_FUNCTION_VERSION"), "log_group_name": getenv("AWS_LAMBDA_LOG_GROUP_NAME"), "log_stream_name": getenv("AWS_LAMBDA_LOG_STREAM_NAME")}
	if getenv("LIVE_LAMBDA_APPSYNC_HTTP_HOST") != "" {
		var err error
		if cfg.api, err = readAPI(getenv); err != nil {
			problems = append(problems, err.Error()+"; going without AppSync")
		}
	}
	return cfg, problems
}

// readAPI reads which AppSync API to use, and how. A host that ends in /graphql is a GraphQL API's.
func readAPI(getenv func(string) string) (*appsync, error) {
	const httpName, realtimeName = "LIVE_LAMBDA_APPSYNC_HTTP_HOST", "LIVE_LAMBDA_APPSYNC_REALTIME_HOST"
	host, err := parseHost(httpName, getenv(httpName))
	realtime := host.Scheme + "://" + strings.Replace(host.Host, ".appsync-api.", ".appsync-realtime-api.", 1) // a custom domain has one host
	realtimeHost, realtimeErr := parseHost(realtimeName, cmp.Or(getenv(realtimeName), realtime))
	a := &appsync{http: host, realtime: realtimeHost, apiKey: getenv("LIVE_LAMBDA_APPSYNC_API_KEY"), namespace: cmp.Or(getenv("LIVE_LAMBDA_NAMESPACE"), "live-lambda")}
	a.region, a.realtime.Scheme = cmp.Or(getenv("LIVE_LAMBDA_APPSYNC_REGION"), getenv("AWS_REGION")), a.http.Scheme
	protocol := strings.ToLower(getenv("LIVE_LAMBDA_APPSYNC_PROTOCOL"))
	if a.graphql = protocol == "graphql" || protocol == "" && (a.http.Path == "graphql" || a.realtime.Path == "graphql"); !a.graphql {
		a.http.Path, a.realtime.Path = "/event", "/event/realtime"
	} else if a.http.Path, a.realtime.Path = "/graphql", "/graphql"; a.http.Host == a.realtime.Host { // a custom domain
		a.realtime.Path = "/graphql/realtime"
	}
	stage := getenv("LIVE_LAMBDA_STAGE")
	a.requests = strings.TrimSuffix("/"+a.namespace+"/requests/"+stage, "/")
	switch {
	case cmp.Or(err, realtimeErr) != nil:
		return nil, cmp.Or(err, realtimeErr)
	case a.realtime.Scheme == "http" && !loopback(a.realtime):
		return nil, fmt.Errorf("%s is not a loopback host, and %s asks for no TLS", realtimeName, httpName)
	case protocol != "" && protocol != "graphql" && protocol != "events":
		return nil, fmt.Errorf("LIVE_LAMBDA_APPSYNC_PROTOCOL is %q, not events or graphql", protocol)
	case !isSegment(a.namespace):
		return nil, fmt.Errorf("LIVE_LAMBDA_NAMESPACE is %q, not 1 to 50 letters, digits and inner dashes", a.namespace)
	case stage != "" && !isSegment(stage):
		return nil, fmt.Errorf("LIVE_LAMBDA_STAGE is %q, not 1 to 50 letters, digits and inner dashes", stage)
	case a.region == "" && a.apiKey == "":
		return nil, errors.New("LIVE_LAMBDA_APPSYNC_REGION is not set, and neither is AWS_REGION")
	}
	return a, nil
}

// isSegment reports whether s may be one segment of a channel.
// https://docs.aws.amazon.com/appsync/latest/eventapi/channel-namespaces.html
func isSegment(s string) bool {
	return s != "" && len(s) <= 50 && strings.Trim(s, "-") == s && strings.Trim(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-") == ""
}

// parseHost reads a variable that is a host, a host with a port, or an URL, of which it returns scheme, host and the first
// part of the path.
func parseHost(name, value string) (*url.URL, error) {
	if !strings.Contains(value, "://") {
		value = "https://" + value
	}
	u, err := url.Parse(strings.NewReplacer("wss://", "https://", "ws://", "http://").Replace(strings.ToLower(value)))
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http":
		return &url.URL{}, errors.New(name + " is not a host, host:port or https:// URL")
	case u.Scheme == "http" && !loopback(u):
		return &url.URL{}, errors.New(name + " asks for no TLS (http://), which only a loopback host may do")
	}
	path, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: path}, nil
}

// loopback reports whether u's host is this machine itself.
func loopback(u *url.URL) bool {
	return u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
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
	life, stopInvocations := context.WithCancelCause(linkCtx)
	p := &proxy{cfg: cfg, log: log, transport: lambda, life: life, ready: make(chan func() (*http.Response, error)), orphans: make(chan struct{}, 1<<16)}
	server := &http.Server{Handler: p.handler(), MaxHeaderBytes: 2 << 20, DisableGeneralOptionsHandler: true, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	if cfg.api != nil {
		cfg.api.log, cfg.api.transport = log, newTransport(cfg.roots.tlsConfig(cfg.api.realtime.Hostname()))
		cfg.api.credentials = func(ctx context.Context) (credentials, error) { return roleCredentials(ctx, lambda) }
		p.tunnel = &tunnel{api: cfg.api, buffered: cfg.toRuntime, err: errors.New("still connecting"), calls: map[uint64]*call{}}
		wg.Go(func() { p.tunnel.run(linkCtx) })
	}
	err = x.run(ctx, log, func(fn extensionAnswer, err error) error {
		if err == nil {
			cfg.function["handler"] = fn.Handler
			log.Info("registered", "function", fn.FunctionName, "port", cfg.port, "appsync", cfg.api != nil)
			wg.Go(func() { server.Serve(ln) })
		}
		return err
	})
	p.mu.Lock()
	stopInvocations(&failure{"LiveLambda.NoAnswer", "the execution environment shut down before there was an answer"})
	p.mu.Unlock()
	p.wg.Wait() // local ends are told, so the link comes last
	server.Close()
	return err
}
