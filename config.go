package main

// config.go knows the environment: it reads the variables, once, into one struct of plain data. main.go gives
// it the function that reads one of them. It uses nothing of the other files.
//
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Variables that are read, or named in a message, in more than one place.
const (
	runtimeAPIVariable   = "AWS_LAMBDA_RUNTIME_API" // set by Lambda: host:port of its APIs
	lambdaRegionVariable = "AWS_REGION"             // set by Lambda: the function's region
	portVariable         = "LRAP_LISTENER_PORT"
	httpHostVariable     = "LIVE_LAMBDA_APPSYNC_HTTP_HOST"
	realtimeHostVariable = "LIVE_LAMBDA_APPSYNC_REALTIME_HOST"
	regionVariable       = "LIVE_LAMBDA_APPSYNC_REGION"
)

// defaultRoots are where Amazon Linux and Debian keep their root certificates, with colons between.
const defaultRoots = "/etc/pki/tls/certs/ca-bundle.crt:/etc/ssl/certs/ca-certificates.crt"

// config is what the environment says.
type config struct {
	off           bool           // LIVE_LAMBDA=off: no proxy, no AppSync
	offlineError  bool           // LIVE_LAMBDA_OFFLINE=error: an invocation without a local end fails
	toRuntime     bool           // LIVE_LAMBDA_DELIVERY=runtime: the runtime gets the answer as its event
	forwardEnv    bool           // LIVE_LAMBDA_FORWARD_ENV=on: requests carry the function's environment
	accept        time.Duration  // LIVE_LAMBDA_ACCEPT_TIMEOUT; 0: as long as the invocation may last
	extensionsAPI string         // AWS_LAMBDA_RUNTIME_API: host:port
	runtimeAPI    string         // LRAP_RUNTIME_API_ENDPOINT: host:port that the proxy forwards to
	port          string         // LRAP_LISTENER_PORT: the proxy's, on the loopback interface
	extensionName string         // AWS_LAMBDA_EXTENSION_NAME: that of its file in /opt/extensions
	logLevel      slog.Level     // LIVE_LAMBDA_LOG_LEVEL, else AWS_LAMBDA_LOG_LEVEL
	logJSON       bool           // AWS_LAMBDA_LOG_FORMAT=JSON
	roots         []string       // SSL_CERT_FILE: files of root certificates; the first one there counts
	function      map[string]any // AWS_LAMBDA_FUNCTION_NAME and so on: for the context of requests
	keys          roleKeys       // AWS_ACCESS_KEY_ID and so on
	api           *apiConfig     // LIVE_LAMBDA_APPSYNC_*; nil: not set, or of no use
}

// apiConfig is which AppSync API to use, and how.
type apiConfig struct {
	http      *url.URL // LIVE_LAMBDA_APPSYNC_HTTP_HOST: for publishes over HTTPS
	realtime  *url.URL // LIVE_LAMBDA_APPSYNC_REALTIME_HOST: for WebSockets; http or https too
	graphql   bool     // LIVE_LAMBDA_APPSYNC_PROTOCOL: a GraphQL API, not an Event API
	region    string   // LIVE_LAMBDA_APPSYNC_REGION, else AWS_REGION: requests are signed for it
	apiKey    string   // LIVE_LAMBDA_APPSYNC_API_KEY: used instead of IAM
	namespace string   // LIVE_LAMBDA_NAMESPACE: the first segment of all channels
	requests  string   // LIVE_LAMBDA_STAGE: the channel of requests, /NAMESPACE/requests[/STAGE]
}

// roleKeys are the credentials of the function's role or, under SnapStart, where they are to be had. Lambda
// does not change them while the process lives.
// https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html
type roleKeys struct {
	accessKeyID     string // AWS_ACCESS_KEY_ID
	secretAccessKey string // AWS_SECRET_ACCESS_KEY
	sessionToken    string // AWS_SESSION_TOKEN
	containerURI    string // AWS_CONTAINER_CREDENTIALS_FULL_URI: of the endpoint that tells them
	containerToken  string // AWS_CONTAINER_AUTHORIZATION_TOKEN: what the endpoint wants to see
}

// readConfig reads the configuration through getenv. It never fails: each problem is a line that names the
// variable, what is wrong with it and what is done instead.
func readConfig(getenv func(string) string) (config, []string) {
	v := &variables{getenv: getenv}
	cfg := config{
		off:           v.second("LIVE_LAMBDA", "on", "off"),
		offlineError:  v.second("LIVE_LAMBDA_OFFLINE", "deployed", "error"),
		toRuntime:     v.second("LIVE_LAMBDA_DELIVERY", "caller", "runtime"),
		forwardEnv:    v.second("LIVE_LAMBDA_FORWARD_ENV", "off", "on"),
		extensionsAPI: getenv(runtimeAPIVariable),
		extensionName: cmp.Or(getenv("AWS_LAMBDA_EXTENSION_NAME"), "live-lambda-extension"),
		logJSON:       strings.EqualFold(getenv("AWS_LAMBDA_LOG_FORMAT"), "JSON"),
		roots:         strings.Split(cmp.Or(getenv("SSL_CERT_FILE"), defaultRoots), ":"),
		function:      readFunction(getenv),
		keys: roleKeys{
			accessKeyID:     getenv("AWS_ACCESS_KEY_ID"),
			secretAccessKey: getenv("AWS_SECRET_ACCESS_KEY"),
			sessionToken:    getenv("AWS_SESSION_TOKEN"),
			containerURI:    getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
			containerToken:  getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
		},
	}
	level := parsed(v, "AWS_LAMBDA_LOG_LEVEL", "info", "one of Lambda's log levels", parseLambdaLevel)
	cfg.logLevel = parsed(v, "LIVE_LAMBDA_LOG_LEVEL", level, "one of debug, info, warn, error", parseLevel)
	cfg.accept = parsed(v, "LIVE_LAMBDA_ACCEPT_TIMEOUT", "0", "a duration like 3s or 1500ms", parseDuration)
	cfg.port = parsed(v, portVariable, "8082", "a port from 1 to 65535", parsePort)
	cfg.runtimeAPI = parsed(v, "LRAP_RUNTIME_API_ENDPOINT", cfg.extensionsAPI, "another server's host:port",
		func(s string) (string, bool) { return s, s == cfg.extensionsAPI || isOtherServer(s, cfg.port) })
	if getenv(httpHostVariable) != "" {
		api, err := readAPI(getenv)
		if err != nil {
			v.problems = append(v.problems, err.Error()+"; going without AppSync")
		}
		cfg.api = api
	}
	return cfg, v.problems
}

// variables reads variables and collects what is wrong with them.
type variables struct {
	getenv   func(string) string
	problems []string
}

// parsed returns the value of a variable, or of its default if parse does not take the variable's.
func parsed[T any](v *variables, name, byDefault, want string, parse func(string) (T, bool)) T {
	text := cmp.Or(v.getenv(name), byDefault)
	value, ok := parse(text)
	if !ok {
		v.problems = append(v.problems,
			fmt.Sprintf("%s is %q, not %s; using %s", name, text, want, byDefault))
		value, _ = parse(byDefault)
	}
	return value
}

// second reports whether a variable has the second of its two values. The first is the default.
func (v *variables) second(name, first, second string) bool {
	return parsed(v, name, first, first+" or "+second, func(s string) (isSecond, ok bool) {
		isSecond = strings.EqualFold(s, second)
		return isSecond, isSecond || strings.EqualFold(s, first)
	})
}

// parseLambdaLevel returns slog's name of one of Lambda's levels, of which there are two more.
// https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
func parseLambdaLevel(s string) (string, bool) {
	s = strings.NewReplacer("TRACE", "debug", "FATAL", "error").Replace(s)
	_, ok := parseLevel(s)
	return s, ok
}

// parseLevel reads a log level in any case.
func parseLevel(s string) (slog.Level, bool) {
	var level slog.Level
	err := level.UnmarshalText([]byte(s))
	return level, err == nil
}

// parseDuration reads a duration that is not negative.
func parseDuration(s string) (time.Duration, bool) {
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= 0
}

// parsePort takes a TCP port.
func parsePort(s string) (string, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return s, err == nil && n > 0
}

// isOtherServer reports whether address is the host:port of another server than the proxy, which listens at
// proxyPort of the loopback interface. A proxy that forwards to itself never answers. A host's name may stand
// for this machine, so only IP addresses that certainly do not may have the proxy's port.
func isOtherServer(address, proxyPort string) bool {
	u, err := url.Parse("http://" + address)
	if err != nil || u.Host != address || u.Hostname() == "" || u.Port() == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Port() != proxyPort || ip.IsGlobalUnicast() || ip.IsLinkLocalUnicast()
}

// readFunction returns what Lambda says of the function, under the names that a request's context has for it.
func readFunction(getenv func(string) string) map[string]any {
	memory, _ := strconv.Atoi(getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")) // 0: not known
	return map[string]any{
		"aws_region":       getenv(lambdaRegionVariable),
		"function_name":    getenv("AWS_LAMBDA_FUNCTION_NAME"),
		"function_version": getenv("AWS_LAMBDA_FUNCTION_VERSION"),
		"log_group_name":   getenv("AWS_LAMBDA_LOG_GROUP_NAME"),
		"log_stream_name":  getenv("AWS_LAMBDA_LOG_STREAM_NAME"),
		"memory_size_mb":   memory,
	}
}

// readAPI reads which AppSync API to use, and how. Its error names the variable that is of no use.
func readAPI(getenv func(string) string) (*apiConfig, error) {
	host, realtime, err := readHosts(getenv)
	if err != nil {
		return nil, err
	}
	graphql, protocolErr := readProtocol(getenv, host, realtime)
	namespace, namespaceErr := readSegment(getenv, "LIVE_LAMBDA_NAMESPACE", "live-lambda")
	stage, stageErr := readSegment(getenv, "LIVE_LAMBDA_STAGE", "")
	err = cmp.Or(protocolErr, namespaceErr, stageErr)
	if err != nil {
		return nil, err
	}
	api := &apiConfig{
		http:      host,
		realtime:  realtime,
		graphql:   graphql,
		region:    cmp.Or(getenv(regionVariable), getenv(lambdaRegionVariable)),
		apiKey:    getenv("LIVE_LAMBDA_APPSYNC_API_KEY"),
		namespace: namespace,
		requests:  strings.TrimSuffix("/"+namespace+"/requests/"+stage, "/"),
	}
	if api.region == "" && api.apiKey == "" {
		return nil, fmt.Errorf("%s is not set, and neither is %s", regionVariable, lambdaRegionVariable)
	}
	return api, nil
}

// readHosts reads where the API is. The paths of the URLs are what parseHost leaves of them. By default the
// realtime host is the one that AWS gives to that HTTP host; a custom domain is one host for both.
func readHosts(getenv func(string) string) (host, realtime *url.URL, err error) {
	host, err = parseHost(httpHostVariable, getenv(httpHostVariable))
	if err != nil {
		return nil, nil, err
	}
	byDefault := strings.Replace(host.Scheme+"://"+host.Host, ".appsync-api.", ".appsync-realtime-api.", 1)
	realtime, err = parseHost(realtimeHostVariable, cmp.Or(getenv(realtimeHostVariable), byDefault))
	if err != nil {
		return nil, nil, err
	}
	realtime.Scheme = host.Scheme // TLS or not as the HTTP host says
	if realtime.Scheme == "http" && !loopback(realtime) {
		return nil, nil, fmt.Errorf("%s is not a loopback host, and %s asks for no TLS",
			realtimeHostVariable, httpHostVariable)
	}
	return host, realtime, nil
}

// readProtocol reports whether the API is a GraphQL API, and gives both URLs the paths of such an API or of
// an Event API. If the variable is not set, a URL that was given with the path /graphql says that it is one.
// https://docs.aws.amazon.com/appsync/latest/eventapi/event-api-websocket-protocol.html
// https://docs.aws.amazon.com/appsync/latest/devguide/real-time-websocket-client.html
func readProtocol(getenv func(string) string, host, realtime *url.URL) (graphql bool, err error) {
	const name = "LIVE_LAMBDA_APPSYNC_PROTOCOL"
	protocol := strings.ToLower(getenv(name))
	switch protocol {
	case "events":
	case "graphql":
		graphql = true
	case "":
		graphql = host.Path == "graphql" || realtime.Path == "graphql"
	default:
		return false, fmt.Errorf("%s is %q, not events or graphql", name, protocol)
	}
	switch {
	case !graphql:
		host.Path, realtime.Path = "/event", "/event/realtime"
	case host.Host == realtime.Host: // a custom domain
		host.Path, realtime.Path = "/graphql", "/graphql/realtime"
	default:
		host.Path, realtime.Path = "/graphql", "/graphql"
	}
	return graphql, nil
}

// readSegment reads a variable that is one segment of a channel, if it is set or has a default.
func readSegment(getenv func(string) string, name, byDefault string) (string, error) {
	segment := cmp.Or(getenv(name), byDefault)
	if segment != "" && !isSegment(segment) {
		return "", fmt.Errorf("%s is %q, not 1 to 50 letters, digits and inner dashes", name, segment)
	}
	return segment, nil
}

// isSegment reports whether s may be one segment of a channel.
// https://docs.aws.amazon.com/appsync/latest/eventapi/channel-namespaces.html
func isSegment(s string) bool {
	const characters = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	return s != "" && len(s) <= 50 && strings.Trim(s, "-") == s && strings.Trim(s, characters) == ""
}

// parseHost reads the value of a variable that is a host, a host with a port, or an URL. It returns scheme,
// host and the first segment of the path, without a slash.
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
	path, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: path}, nil
}

// loopback reports whether u's host is this machine itself.
func loopback(u *url.URL) bool {
	return u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
}
