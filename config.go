package main

// config.go knows the environment: it reads the variables into one struct. It uses nothing of the other files.

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
