// Command live-lambda makes a deployed AWS Lambda function run on a developer's machine.
//
// In the function's layer it is an extension: a proxy between the function's runtime and the Lambda Runtime API, which
// sends each event to the developer over AWS AppSync Events and completes the invocation with what comes back. The data
// walks main.go → proxy.go → appsync.go → ws.go and back; extapi.go stands beside them. Those five files are all of the
// layer's binary. On the developer's machine the same program hands the events to a handler: live-lambda --help.
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
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// program carries what only some builds have: the developer's commands. The layer's build has none.
type program struct{}

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
	off           bool
	api           *appsync // nil: not configured
	acceptTimeout time.Duration
	offlineError  bool // LIVE_LAMBDA_OFFLINE=error
	toRuntime     bool // LIVE_LAMBDA_DELIVERY=runtime
	forwardEnv    bool
	port          int
	extensionsAPI string // host:port
	runtimeAPI    string // host:port the proxy forwards to
	extensionName string
	logLevel      slog.Level
	logJSON       bool
	roots         systemRoots
	function      eventContext // what the environment tells about the function
}

// readConfig reads the configuration through getenv. It never fails: each problem is a line that names the variable,
// what is wrong with it and what is done instead.
func readConfig(getenv func(string) string) (cfg config, problems []string) {
	problem := func(name, format string, args ...any) {
		problems = append(problems, name+" "+fmt.Sprintf(format, args...))
	}
	// choice returns the index of a variable's value among words, the first being the default.
	choice := func(name string, words ...string) int {
		value := strings.ToLower(getenv(name))
		for i, w := range words {
			if value == w || value == "" {
				return i
			}
		}
		problem(name, "is %q, not one of %s; using %s", value, strings.Join(words, ", "), words[0])
		return 0
	}
	cfg.off = choice("LIVE_LAMBDA", "on", "off") == 1
	cfg.offlineError = choice("LIVE_LAMBDA_OFFLINE", "deployed", "error") == 1
	cfg.toRuntime = choice("LIVE_LAMBDA_DELIVERY", "caller", "runtime") == 1
	cfg.forwardEnv = choice("LIVE_LAMBDA_FORWARD_ENV", "off", "on") == 1
	cfg.logJSON = strings.EqualFold(getenv("AWS_LAMBDA_LOG_FORMAT"), "JSON")
	levelName := "LIVE_LAMBDA_LOG_LEVEL"
	if getenv(levelName) == "" {
		levelName = "AWS_LAMBDA_LOG_LEVEL"
	}
	// Lambda's own levels have two more. https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
	levels := map[string]slog.Level{"": slog.LevelInfo, "TRACE": slog.LevelDebug, "DEBUG": slog.LevelDebug,
		"INFO": slog.LevelInfo, "WARN": slog.LevelWarn, "ERROR": slog.LevelError, "FATAL": slog.LevelError}
	var ok bool
	if cfg.logLevel, ok = levels[strings.ToUpper(getenv(levelName))]; !ok {
		problem(levelName, "is %q, not one of debug, info, warn, error; using info", getenv(levelName))
	}
	if s := getenv("LIVE_LAMBDA_ACCEPT_TIMEOUT"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			problem("LIVE_LAMBDA_ACCEPT_TIMEOUT", "is %q, not a positive duration like 3s or 1500ms; waiting without it", s)
		} else {
			cfg.acceptTimeout = d
		}
	}
	cfg.port = 8082
	if s := getenv("LRAP_LISTENER_PORT"); s != "" && !isPort(s) {
		problem("LRAP_LISTENER_PORT", "is %q, not a port from 1 to 65535; using %d", s, cfg.port)
	} else if s != "" {
		cfg.port, _ = strconv.Atoi(s)
	}
	cfg.extensionsAPI = getenv("AWS_LAMBDA_RUNTIME_API")
	cfg.runtimeAPI = cfg.extensionsAPI
	if s := getenv("LRAP_RUNTIME_API_ENDPOINT"); s != "" {
		if host, port, err := net.SplitHostPort(s); err != nil || !isHost(host) || !isPort(port) {
			problem("LRAP_RUNTIME_API_ENDPOINT", "is %q, not host:port; using %s", s, cfg.runtimeAPI)
		} else {
			cfg.runtimeAPI = s
		}
	}
	// As Go's own crypto/x509 looks for them.
	cfg.roots.files = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"}
	cfg.roots.dirs = []string{"/etc/ssl/certs", "/etc/pki/tls/certs"}
	if file := getenv("SSL_CERT_FILE"); file != "" {
		cfg.roots.files = []string{file}
	}
	if dirs := getenv("SSL_CERT_DIR"); dirs != "" {
		cfg.roots.dirs = strings.Split(dirs, ":")
	}
	cfg.extensionName = cmp.Or(getenv("AWS_LAMBDA_EXTENSION_NAME"), "live-lambda-extension")
	memory, _ := strconv.Atoi(getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"))
	cfg.function = eventContext{
		FunctionName:    getenv("AWS_LAMBDA_FUNCTION_NAME"),
		FunctionVersion: getenv("AWS_LAMBDA_FUNCTION_VERSION"),
		MemorySizeMB:    memory,
		Region:          getenv("AWS_REGION"),
		LogGroupName:    getenv("AWS_LAMBDA_LOG_GROUP_NAME"),
		LogStreamName:   getenv("AWS_LAMBDA_LOG_STREAM_NAME"),
	}
	if getenv("LIVE_LAMBDA_APPSYNC_HTTP_HOST") != "" {
		var err error
		if cfg.api, err = readAPI(getenv); err != nil {
			problems = append(problems, err.Error()+"; going without AppSync")
		}
	}
	return cfg, problems
}

// readAPI reads which Event API to use, and how.
func readAPI(getenv func(string) string) (*appsync, error) {
	const httpName, realtimeName = "LIVE_LAMBDA_APPSYNC_HTTP_HOST", "LIVE_LAMBDA_APPSYNC_REALTIME_HOST"
	a := &appsync{apiKey: getenv("LIVE_LAMBDA_APPSYNC_API_KEY")}
	var err error
	if a.http, err = parseHost(getenv(httpName), "/event"); err != nil {
		return nil, fmt.Errorf("%s %w", httpName, err)
	}
	realtime := strings.Replace(a.http.Host, ".appsync-api.", ".appsync-realtime-api.", 1) // a custom domain has one host
	if a.realtime, err = parseHost(cmp.Or(getenv(realtimeName), realtime), "/event/realtime"); err != nil {
		return nil, fmt.Errorf("%s %w", realtimeName, err)
	}
	a.realtime.Scheme = a.http.Scheme
	if a.realtime.Scheme == "http" && !loopback(a.realtime) {
		return nil, fmt.Errorf("%s is not a loopback host, and %s asks for no TLS", realtimeName, httpName)
	}
	a.region = cmp.Or(getenv("LIVE_LAMBDA_APPSYNC_REGION"), getenv("AWS_REGION"), regionOf(a.http.Host))
	a.namespace = cmp.Or(getenv("LIVE_LAMBDA_NAMESPACE"), "live-lambda")
	a.requests = "/" + a.namespace + "/requests"
	stage := getenv("LIVE_LAMBDA_STAGE")
	if stage != "" {
		a.requests += "/" + stage
	}
	switch {
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
	outside := func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}
	return s != "" && len(s) <= 50 && strings.IndexFunc(s, outside) < 0 && strings.Trim(s, "-") == s
}

// parseHost reads a host, a host with a port, or an URL, and returns the URL of path there.
func parseHost(s, path string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	s = strings.ToLower(s)
	s = strings.Replace(strings.Replace(s, "wss://", "https://", 1), "ws://", "http://", 1)
	u, err := url.Parse(s)
	switch {
	case err != nil || !isHost(u.Hostname()) || u.User != nil || u.Scheme != "https" && u.Scheme != "http",
		strings.HasSuffix(u.Host, ":"), u.Port() != "" && !isPort(u.Port()):
		return nil, errors.New("is not a host, host:port or https:// URL")
	case u.Scheme == "http" && !loopback(u):
		return nil, errors.New("asks for no TLS (http://), which only a loopback host may do")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: path}, nil
}

// isHost and isPort report whether s may be a host name or an IP address, and a port.
func isHost(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/\@?#%"<>`, r) })
}

func isPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return err == nil && port > 0
}

// loopback reports whether u's host is this machine itself.
func loopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// regionOf is the region in a standard host name, LABEL.appsync-api.REGION.amazonaws.com.
func regionOf(host string) string {
	if labels := strings.Split(host, "."); len(labels) > 3 && labels[1] == "appsync-api" {
		return labels[2]
	}
	return ""
}

// newLogger logs lines of text, or of JSON as Lambda's own, to w.
func newLogger(cfg config, w io.Writer) *slog.Logger {
	names := map[string]string{slog.TimeKey: "timestamp", slog.MessageKey: "message"}
	opts := &slog.HandlerOptions{Level: cfg.logLevel, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if cfg.logJSON {
			a.Key = cmp.Or(names[a.Key], a.Key)
		} else if a.Key == slog.TimeKey {
			return slog.Attr{} // CloudWatch Logs has its own
		}
		return a
	}}
	if cfg.logJSON {
		return slog.New(slog.NewJSONHandler(w, opts)).With("source", "live-lambda")
	}
	return slog.New(slog.NewTextHandler(prefixed{w}, opts))
}

// prefixed begins each line with the program's name, among those of the function.
type prefixed struct{ io.Writer }

func (p prefixed) Write(line []byte) (int, error) {
	_, err := p.Writer.Write(append([]byte("live-lambda "), line...))
	return len(line), err
}

// roleCredentials returns the credentials of the function's role as they are now: those in the environment, else,
// under SnapStart, those of the container credential endpoint.
// https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html
func roleCredentials(transport http.RoundTripper) func(context.Context) (credentials, error) {
	var mu sync.Mutex
	type expiring struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		Token           string
		Expiration      time.Time
	}
	var cached expiring
	return func(ctx context.Context) (credentials, error) {
		c := credentials{os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")}
		endpoint := os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
		if c.accessKeyID != "" && c.secretAccessKey != "" {
			return c, nil
		}
		if endpoint == "" {
			return c, errors.New("neither AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY nor AWS_CONTAINER_CREDENTIALS_FULL_URI is set")
		}
		mu.Lock()
		defer mu.Unlock()
		if time.Until(cached.Expiration) < 5*time.Minute {
			cached = expiring{}
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
			if err != nil {
				return c, errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is not an URL")
			}
			req.Header.Set("Authorization", os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"))
			resp, err := transport.RoundTrip(req)
			if err == nil {
				err = readAnswer(resp, "container credentials", &cached)
			}
			if err == nil && (cached.AccessKeyID == "" || cached.SecretAccessKey == "") {
				err = errors.New("container credentials: there are none in the answer")
			}
			if err != nil {
				cached.Expiration = time.Time{}
				return c, err
			}
		}
		return credentials{cached.AccessKeyID, cached.SecretAccessKey, cached.Token}, nil
	}
}

// newTransport is the way to AppSync. Dials end by themselves: net/http detaches them from the request that began them.
// With a TLS configuration of its own it speaks no HTTP/2, which has no WebSockets here.
func newTransport(cfg *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     cfg,
		TLSHandshakeTimeout: dialTimeout,
		IdleConnTimeout:     staleAfter,
	}
}

// extension is the program in the layer. It returns the exit status.
func extension() int {
	cfg, problems := readConfig(os.Getenv)
	if cfg.forwardEnv {
		cfg.function.Environment = map[string]string{}
		for _, s := range os.Environ() {
			name, value, _ := strings.Cut(s, "=")
			cfg.function.Environment[name] = value
		}
	}
	log := newLogger(cfg, os.Stderr)
	for _, p := range problems {
		log.Warn(p)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, cfg, log); err != nil {
		log.Error("cannot go on", "error", err)
		return 1
	}
	return 0
}

// run is the extension's life. The proxy listens before the extension registers, because the runtime starts right after
// that; the link to AppSync comes up beside it all.
func run(ctx context.Context, cfg config, log *slog.Logger) error {
	// No proxy, no compression, no timeout: this is the way to Lambda's own APIs, which may hold a call for weeks.
	lambda := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	x := &extensionsAPI{base: "http://" + cfg.extensionsAPI, transport: lambda}
	if cfg.off {
		if _, err := x.register(ctx, cfg.extensionName); err != nil {
			return err
		}
		return untilShutdown(ctx, x, log)
	}
	ln, listenErr := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.port)))
	p := &proxy{cfg: cfg, log: log, transport: lambda, open: map[string]*invocation{}}
	var wg sync.WaitGroup
	var stopInvocations context.CancelFunc
	p.life, stopInvocations = context.WithCancel(context.WithoutCancel(ctx))
	linkCtx, stopLink := context.WithCancel(context.WithoutCancel(ctx))
	defer stopInvocations()
	defer wg.Wait()
	defer stopLink()
	if cfg.api != nil && listenErr == nil {
		cfg.api.log, cfg.api.credentials = log, roleCredentials(lambda)
		cfg.api.transport = newTransport(cfg.roots.tlsConfig(cfg.api.realtime.Hostname()))
		p.tunnel = newTunnel(cfg.api)
		p.tunnel.buffered = cfg.toRuntime
		wg.Go(func() { p.tunnel.run(linkCtx) })
	}
	fn, err := x.register(ctx, cfg.extensionName)
	if err != nil {
		return err
	}
	if listenErr != nil {
		err := fmt.Errorf("cannot listen for the runtime on port %d: %w; set LRAP_LISTENER_PORT to a port that is free", cfg.port, listenErr)
		return errors.Join(err, x.initError(ctx, "LiveLambda.PortTaken", err))
	}
	// The function pays for memory: with Go's usual 100 a 6 MB event and answer take 6 times as much, so 3.7 times.
	debug.SetGCPercent(25)
	p.function(fn)
	log.Info("registered", "function", fn.Name, "port", cfg.port, "appsync", cfg.api != nil)
	server := &http.Server{Handler: p.handler(), MaxHeaderBytes: 2 << 20, DisableGeneralOptionsHandler: true, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	wg.Go(func() { server.Serve(ln) })
	err = untilShutdown(ctx, x, log)
	stopInvocations()
	p.wait() // local ends are told, so the link comes last
	server.Close()
	return err
}

// untilShutdown asks for the extension's events until SHUTDOWN. INVOKE needs nothing: the runtime's call of next, which
// the proxy holds, keeps the environment from freezing.
func untilShutdown(ctx context.Context, x *extensionsAPI, log *slog.Logger) error {
	for pause := firstBackoff; ; pause = min(2*pause, maxBackoff) {
		e, err := x.next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			log.Error("cannot get the extension's next event; trying again", "error", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		case e.EventType == "SHUTDOWN":
			log.Debug("shutting down", "reason", e.ShutdownReason)
			return nil
		}
		pause = firstBackoff
	}
}
