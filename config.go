package main

// config.go knows the environment: it reads the variables, once, into one struct of plain data. main.go gives
// it the function that reads one of them. It uses nothing of the other files.
//
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	keySize = 32 // bytes of LIVE_LAMBDA_KEY: AES-256
	keyForm = "32 bytes in unpadded base64url, as `live-lambda key` prints them"
	// what a channel's segment may have:
	// https://docs.aws.amazon.com/appsync/latest/eventapi/channel-namespaces.html
	segmentBytes = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// config is what the environment says.
type config struct {
	off          bool // LIVE_LAMBDA=off: no proxy, no AppSync
	offlineError bool // LIVE_LAMBDA_OFFLINE=error: an invocation without a local end fails
	toRuntime    bool // LIVE_LAMBDA_DELIVERY=runtime: the runtime gets the answer as its event
	forwardEnv   bool // LIVE_LAMBDA_FORWARD_ENV=on: requests carry the function's environment
	// LIVE_LAMBDA_MODE=mirror: a local end gets copies, the deployed code answers
	mirror        bool
	until         time.Time      // LIVE_LAMBDA_UNTIL: from then on the deployed code answers
	accept        time.Duration  // LIVE_LAMBDA_ACCEPT_TIMEOUT; 0: as long as the invocation may last
	extensionsAPI string         // AWS_LAMBDA_RUNTIME_API: host:port
	runtimeAPI    string         // LRAP_RUNTIME_API_ENDPOINT: host:port that the proxy forwards to
	port          string         // LRAP_LISTENER_PORT: the proxy's, on the loopback interface
	extensionName string         // AWS_LAMBDA_EXTENSION_NAME: that of its file in /opt/extensions
	logLevel      slog.Level     // LIVE_LAMBDA_LOG_LEVEL, else AWS_LAMBDA_LOG_LEVEL
	logJSON       bool           // AWS_LAMBDA_LOG_FORMAT=JSON
	roots         []string       // SSL_CERT_FILE: files of root certificates; the first one there counts
	function      map[string]any // AWS_LAMBDA_FUNCTION_NAME and so on: for the context of requests
	keys          role           // AWS_ACCESS_KEY_ID and so on
	api           *endpoint      // LIVE_LAMBDA_APPSYNC_*; nil: not set, or of no use
}

// endpoint is one AppSync API, and how to use it.
type endpoint struct {
	http      *url.URL // LIVE_LAMBDA_APPSYNC_HTTP_HOST: for publishes over HTTPS
	realtime  *url.URL // LIVE_LAMBDA_APPSYNC_REALTIME_HOST: for WebSockets; http or https too
	graphql   bool     // LIVE_LAMBDA_APPSYNC_PROTOCOL: a GraphQL API, not an Event API
	region    string   // LIVE_LAMBDA_APPSYNC_REGION, else AWS_REGION: requests are signed for it
	apiKey    string   // LIVE_LAMBDA_APPSYNC_API_KEY: used instead of IAM
	namespace string   // LIVE_LAMBDA_NAMESPACE: the first segment of all channels
	stage     string   // LIVE_LAMBDA_STAGE: of the channel of requests
	route     string   // LIVE_LAMBDA_ROUTE: name of the token in events that tells the stage instead
	key       []byte   // LIVE_LAMBDA_KEY: that messages are sealed with; empty: they are not
}

// requests is the channel of requests: /NAMESPACE/requests[/STAGE].
func (e endpoint) requests(stage string) string {
	return strings.TrimSuffix("/"+e.namespace+"/requests/"+stage, "/")
}

// role is the credentials of the function's role or, under SnapStart, where they are to be had. Lambda does
// not change these variables while the process lives. What the endpoint tells does change.
// https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html
type role struct {
	accessKeyID     string // AWS_ACCESS_KEY_ID
	secretAccessKey string // AWS_SECRET_ACCESS_KEY
	sessionToken    string // AWS_SESSION_TOKEN
	containerURI    string // AWS_CONTAINER_CREDENTIALS_FULL_URI: of the endpoint that tells them
	containerToken  string // AWS_CONTAINER_AUTHORIZATION_TOKEN: what the endpoint wants to see
}

// readConfig reads the configuration through getenv. It never fails: each problem is a line that names the
// variable, what is wrong with it and what is done instead.
func readConfig(getenv func(string) string) (config, []string) {
	v := variables{getenv: getenv}
	memory, _ := strconv.Atoi(getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")) // 0: not known
	cfg := config{
		off:           v.second("LIVE_LAMBDA", "on", "off"),
		offlineError:  v.second("LIVE_LAMBDA_OFFLINE", "deployed", "error"),
		toRuntime:     v.second("LIVE_LAMBDA_DELIVERY", "caller", "runtime"),
		forwardEnv:    v.second("LIVE_LAMBDA_FORWARD_ENV", "off", "on"),
		mirror:        v.second("LIVE_LAMBDA_MODE", "take", "mirror"),
		extensionsAPI: getenv("AWS_LAMBDA_RUNTIME_API"),
		extensionName: cmp.Or(getenv("AWS_LAMBDA_EXTENSION_NAME"), "live-lambda-extension"),
		logLevel:      v.logLevel(),
		logJSON:       getenv("AWS_LAMBDA_LOG_FORMAT") == "JSON",
		function: map[string]any{
			"aws_region":       getenv("AWS_REGION"),
			"function_name":    getenv("AWS_LAMBDA_FUNCTION_NAME"),
			"function_version": getenv("AWS_LAMBDA_FUNCTION_VERSION"),
			"log_group_name":   getenv("AWS_LAMBDA_LOG_GROUP_NAME"),
			"log_stream_name":  getenv("AWS_LAMBDA_LOG_STREAM_NAME"),
			"memory_size_mb":   memory,
		},
		// By default, where Amazon Linux and Debian keep their root certificates.
		roots: strings.Split(cmp.Or(getenv("SSL_CERT_FILE"),
			"/etc/pki/tls/certs/ca-bundle.crt:/etc/ssl/certs/ca-certificates.crt"), ":"),
		keys: role{
			accessKeyID:     getenv("AWS_ACCESS_KEY_ID"),
			secretAccessKey: getenv("AWS_SECRET_ACCESS_KEY"),
			sessionToken:    getenv("AWS_SESSION_TOKEN"),
			containerURI:    getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
			containerToken:  getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
		},
	}
	accept := "0"
	if getenv("LIVE_LAMBDA_ROUTE") != "" { // then callers choose where requests go
		accept = "3s"
	}
	cfg.accept, _ = time.ParseDuration( // cannot fail: isDuration took it
		v.text("LIVE_LAMBDA_ACCEPT_TIMEOUT", accept, "a duration like 3s or 1500ms", isDuration))
	cfg.port = v.text("LRAP_LISTENER_PORT", "8082", "a port from 1 to 65535", isPort)
	// The proxy's port is known by now.
	cfg.runtimeAPI = v.text("LRAP_RUNTIME_API_ENDPOINT", cfg.extensionsAPI, "another server's host:port",
		cfg.isOtherServer)
	var err error
	cfg.until, err = time.Parse(time.RFC3339, cmp.Or(getenv("LIVE_LAMBDA_UNTIL"), "9999-12-31T23:59:59Z"))
	switch {
	case err != nil: // it is a fuse: the deployed code answers
		cfg.until = time.Time{} // has passed
		err = errors.New("LIVE_LAMBDA_UNTIL is not a time like 2030-12-31T18:00:00Z")
	case getenv("LIVE_LAMBDA_APPSYNC_HTTP_HOST") != "":
		cfg.api, err = readAPI(getenv)
	}
	if err != nil {
		v.problems = append(v.problems, err.Error()+"; going without AppSync")
	}
	if cfg.forwardEnv && getenv("LIVE_LAMBDA_KEY") == "" {
		v.problems = append(v.problems, "LIVE_LAMBDA_FORWARD_ENV is on, but without LIVE_LAMBDA_KEY the "+
			"environment is not sent")
		cfg.forwardEnv = false
	}
	return cfg, v.problems
}

// on names the settings that change who gets events or who can read them. All are off by default.
func (cfg config) on() (settings []string) {
	if cfg.api == nil {
		return nil
	}
	if cfg.mirror {
		settings = append(settings, "mirror")
	}
	if cfg.api.route != "" {
		settings = append(settings, "route "+cfg.api.route)
	}
	if cfg.until.Year() < 9999 {
		settings = append(settings, "until "+cfg.until.Format(time.RFC3339))
	}
	if len(cfg.api.key) > 0 {
		settings = append(settings, "sealed")
	}
	if cfg.forwardEnv {
		settings = append(settings, "with the environment")
	}
	return settings
}

// variables reads variables and collects what is wrong with them.
type variables struct {
	getenv   func(string) string
	problems []string
}

// text returns the value of a variable, or byDefault if it is not set or not valid. The default, in any case
// of letters, is valid.
func (v *variables) text(name, byDefault, want string, valid func(string) bool) string {
	value := cmp.Or(v.getenv(name), byDefault)
	if strings.EqualFold(value, byDefault) || valid(value) {
		return value
	}
	v.problems = append(v.problems,
		fmt.Sprintf("%s is %q, not %s; using %s", name, value, want, byDefault))
	return byDefault
}

// second reports whether a variable has the second of its two values. The first is the default.
func (v *variables) second(name, first, second string) bool {
	isSecond := func(s string) bool { return strings.EqualFold(s, second) }
	return isSecond(v.text(name, first, first+" or "+second, isSecond))
}

// logLevel returns the level of this program's log, by default that of the function's. Lambda has two levels
// that slog has not.
// https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
func (v *variables) logLevel() (level slog.Level) {
	var name string
	switch v.getenv("AWS_LAMBDA_LOG_LEVEL") {
	case "TRACE":
		name = "debug"
	case "FATAL":
		name = "error"
	default:
		name = v.text("AWS_LAMBDA_LOG_LEVEL", "info", "one of Lambda's log levels", isLevel)
	}
	name = v.text("LIVE_LAMBDA_LOG_LEVEL", name, "one of debug, info, warn, error", isLevel)
	level.UnmarshalText([]byte(name)) // cannot fail: isLevel took it
	return level
}

// isLevel reports whether s is a log level, in any case of letters.
func isLevel(s string) bool {
	return new(slog.Level).UnmarshalText([]byte(s)) == nil
}

// isDuration reports whether s is a duration that is not negative.
func isDuration(s string) bool {
	d, err := time.ParseDuration(s)
	return err == nil && d >= 0
}

// isPort reports whether s is a TCP port.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// isOtherServer reports whether address is the host:port of another server than the proxy, which listens at
// cfg.port of the loopback interface. A proxy that forwards to itself never answers. A host's name may stand
// for this machine, so only IP addresses that certainly do not may have the proxy's port.
func (cfg config) isOtherServer(address string) bool {
	u, err := url.Parse("http://" + address)
	if err != nil || u.Host != address || u.Hostname() == "" || u.Port() == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Port() != cfg.port || ip.IsGlobalUnicast() || ip.IsLinkLocalUnicast()
}

// readAPI reads which AppSync API to use, and how. Its error names the variable that is of no use.
//
// By default the realtime host is the one that AWS gives to that HTTP host; a custom domain is one host for
// both. If LIVE_LAMBDA_APPSYNC_PROTOCOL is not set, a host that was given with the path /graphql says that
// this is a GraphQL API. The paths are those of such an API, or of an Event API.
// https://docs.aws.amazon.com/appsync/latest/eventapi/event-api-websocket-protocol.html
// https://docs.aws.amazon.com/appsync/latest/devguide/real-time-websocket-client.html
func readAPI(getenv func(string) string) (*endpoint, error) {
	host, err := parseHost("LIVE_LAMBDA_APPSYNC_HTTP_HOST", getenv("LIVE_LAMBDA_APPSYNC_HTTP_HOST"))
	if err != nil {
		return nil, err
	}
	realtime, err := parseHost("LIVE_LAMBDA_APPSYNC_REALTIME_HOST", cmp.Or(
		getenv("LIVE_LAMBDA_APPSYNC_REALTIME_HOST"),
		strings.Replace(host.Host, ".appsync-api.", ".appsync-realtime-api.", 1)))
	if err != nil {
		return nil, err
	}
	realtime.Scheme = host.Scheme // TLS or not as the HTTP host says
	if realtime.Scheme == "http" && !loopback(realtime) {
		return nil, errors.New("LIVE_LAMBDA_APPSYNC_REALTIME_HOST is not a loopback host, and " +
			"LIVE_LAMBDA_APPSYNC_HTTP_HOST asks for no TLS")
	}

	protocol := strings.ToLower(getenv("LIVE_LAMBDA_APPSYNC_PROTOCOL"))
	if protocol == "" && strings.Contains(host.Path+realtime.Path+"/", "/graphql/") {
		protocol = "graphql"
	}
	switch protocol {
	case "", "events":
		host.Path = "/event"
		realtime.Path = "/event/realtime"
	case "graphql":
		host.Path = "/graphql"
		realtime.Path = "/graphql"
		if host.Host == realtime.Host { // a custom domain
			realtime.Path = "/graphql/realtime"
		}
	default:
		return nil, fmt.Errorf("LIVE_LAMBDA_APPSYNC_PROTOCOL is %q, not events or graphql", protocol)
	}

	for _, name := range []string{"LIVE_LAMBDA_NAMESPACE", "LIVE_LAMBDA_STAGE", "LIVE_LAMBDA_ROUTE"} {
		segment := getenv(name)
		if !isSegment(segment) {
			return nil, fmt.Errorf("%s is %q, not 1 to 50 letters, digits and inner dashes", name, segment)
		}
	}
	key := parseKey(getenv("LIVE_LAMBDA_KEY"))
	if key == nil && getenv("LIVE_LAMBDA_KEY") != "" {
		return nil, errors.New("LIVE_LAMBDA_KEY is not " + keyForm)
	}
	api := &endpoint{
		http:      host,
		realtime:  realtime,
		graphql:   protocol == "graphql",
		region:    cmp.Or(getenv("LIVE_LAMBDA_APPSYNC_REGION"), getenv("AWS_REGION")),
		apiKey:    getenv("LIVE_LAMBDA_APPSYNC_API_KEY"),
		namespace: cmp.Or(getenv("LIVE_LAMBDA_NAMESPACE"), "live-lambda"),
		stage:     getenv("LIVE_LAMBDA_STAGE"),
		route:     getenv("LIVE_LAMBDA_ROUTE"),
		key:       key,
	}
	if api.region+api.apiKey == "" {
		return nil, errors.New("LIVE_LAMBDA_APPSYNC_REGION is not set, and neither is AWS_REGION")
	}
	return api, nil
}

// parseKey reads a key that messages are sealed with; nil if text is none.
func parseKey(text string) []byte {
	key, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(key) != keySize {
		return nil
	}
	return key
}

// isSegment reports whether s may be one segment of a channel, or is empty because it is left out.
func isSegment(s string) bool {
	return len(s) <= 50 && strings.Trim(s, "-") == s && strings.Trim(s, segmentBytes) == ""
}

// parseHost reads the value of a variable that is a host, a host with a port, or an URL. Of an URL it
// keeps the scheme, the host and the path.
func parseHost(name, value string) (*url.URL, error) {
	value = strings.ToLower(value)
	if !strings.Contains(value, "://") {
		value = "https://" + value
	}
	u, err := url.Parse(strings.NewReplacer("wss://", "https://", "ws://", "http://").Replace(value))
	switch {
	case err != nil, u.Hostname() == "", u.User != nil, u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New(name + " is not a host, host:port or https:// URL") // it may hold a password
	case u.Scheme == "http" && !loopback(u):
		return nil, errors.New(name + " asks for no TLS (http://), which only a loopback host may do")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}, nil
}

// loopback reports whether u's host is this machine itself.
func loopback(u *url.URL) bool {
	return u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
}
