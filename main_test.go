//go:build !layer

package main

// main_test.go tests main.go and the configuration: what an environment becomes, and how the extension
// starts and stops.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadConfig(t *testing.T) {
	off := func(c config) any { return c.off }
	offlineError := func(c config) any { return c.offlineError }
	toRuntime := func(c config) any { return c.toRuntime }
	forwardEnv := func(c config) any { return c.forwardEnv }
	accept := func(c config) any { return c.accept }
	port := func(c config) any { return c.port }
	runtimeAPI := func(c config) any { return c.extensionsAPI + " " + c.runtimeAPI }
	name := func(c config) any { return c.extensionName }
	level := func(c config) any { return c.logLevel }
	logJSON := func(c config) any { return c.logJSON }
	roots := func(c config) any { return c.roots }
	requests := func(c config) any { return c.api.namespace + " " + c.api.requests }
	region := func(c config) any { return c.api.region }
	apiKey := func(c config) any { return c.api.apiKey }
	const api = "LIVE_LAMBDA_APPSYNC_HTTP_HOST=events.example.com "
	tests := []struct {
		env  string
		what func(config) any
		want any
	}{
		{what: off, want: false},
		{env: "LIVE_LAMBDA=on", what: off, want: false},
		{env: "LIVE_LAMBDA=off", what: off, want: true},
		{env: "LIVE_LAMBDA=OFF", what: off, want: true},
		{what: offlineError, want: false},
		{env: "LIVE_LAMBDA_OFFLINE=deployed", what: offlineError, want: false},
		{env: "LIVE_LAMBDA_OFFLINE=error", what: offlineError, want: true},
		{what: toRuntime, want: false},
		{env: "LIVE_LAMBDA_DELIVERY=caller", what: toRuntime, want: false},
		{env: "LIVE_LAMBDA_DELIVERY=runtime", what: toRuntime, want: true},
		{what: forwardEnv, want: false},
		{env: "LIVE_LAMBDA_FORWARD_ENV=off", what: forwardEnv, want: false},
		{env: "LIVE_LAMBDA_FORWARD_ENV=on", what: forwardEnv, want: true},
		{what: accept, want: time.Duration(0)},
		{env: "LIVE_LAMBDA_ACCEPT_TIMEOUT=0s", what: accept, want: time.Duration(0)},
		{env: "LIVE_LAMBDA_ACCEPT_TIMEOUT=3s", what: accept, want: 3 * time.Second},
		{env: "LIVE_LAMBDA_ACCEPT_TIMEOUT=1500ms", what: accept, want: 1500 * time.Millisecond},
		{what: port, want: "8082"},
		{env: "LRAP_LISTENER_PORT=1", what: port, want: "1"},
		{env: "LRAP_LISTENER_PORT=65535", what: port, want: "65535"},
		{what: runtimeAPI, want: "127.0.0.1:9001 127.0.0.1:9001"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=127.0.0.1:9009", what: runtimeAPI,
			want: "127.0.0.1:9001 127.0.0.1:9009"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=[::1]:9009", what: runtimeAPI, want: "127.0.0.1:9001 [::1]:9009"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=169.254.100.1:8082", what: runtimeAPI,
			want: "127.0.0.1:9001 169.254.100.1:8082"},
		{what: name, want: "live-lambda-extension"},
		{env: "AWS_LAMBDA_EXTENSION_NAME=other", what: name, want: "other"},
		{what: level, want: slog.LevelInfo},
		{env: "LIVE_LAMBDA_LOG_LEVEL=debug", what: level, want: slog.LevelDebug},
		{env: "LIVE_LAMBDA_LOG_LEVEL=Info", what: level, want: slog.LevelInfo},
		{env: "LIVE_LAMBDA_LOG_LEVEL=WARN", what: level, want: slog.LevelWarn},
		{env: "LIVE_LAMBDA_LOG_LEVEL=error", what: level, want: slog.LevelError},
		{env: "AWS_LAMBDA_LOG_LEVEL=TRACE", what: level, want: slog.LevelDebug},
		{env: "AWS_LAMBDA_LOG_LEVEL=WARN", what: level, want: slog.LevelWarn},
		{env: "AWS_LAMBDA_LOG_LEVEL=FATAL", what: level, want: slog.LevelError},
		{env: "AWS_LAMBDA_LOG_LEVEL=DEBUG LIVE_LAMBDA_LOG_LEVEL=warn", what: level, want: slog.LevelWarn},
		{what: logJSON, want: false},
		{env: "AWS_LAMBDA_LOG_FORMAT=Text", what: logJSON, want: false},
		{env: "AWS_LAMBDA_LOG_FORMAT=JSON", what: logJSON, want: true},
		{env: "SSL_CERT_FILE=/a", what: roots, want: []string{"/a"}},
		{what: func(c config) any { return c.api == nil }, want: true},
		{env: api, what: requests, want: "live-lambda /live-lambda/requests"},
		{env: api + "LIVE_LAMBDA_NAMESPACE=default", what: requests, want: "default /default/requests"},
		{env: api + "LIVE_LAMBDA_NAMESPACE=a LIVE_LAMBDA_STAGE=B-1", what: requests,
			want: "a /a/requests/B-1"},
		{env: api + "LIVE_LAMBDA_STAGE=" + strings.Repeat("s", 50), what: requests,
			want: "live-lambda /live-lambda/requests/" + strings.Repeat("s", 50)},
		{env: api, what: region, want: "eu-west-1"},
		{env: api + "LIVE_LAMBDA_APPSYNC_REGION=us-east-2", what: region, want: "us-east-2"},
		{env: api, what: apiKey, want: ""},
		{env: api + "LIVE_LAMBDA_APPSYNC_API_KEY=da2-key", what: apiKey, want: "da2-key"},
		{env: api + "AWS_REGION= LIVE_LAMBDA_APPSYNC_API_KEY=da2-key", what: region, want: ""},
		{env: "AWS_LAMBDA_FUNCTION_NAME=f AWS_LAMBDA_FUNCTION_VERSION=7 " +
			"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512 " +
			"AWS_LAMBDA_LOG_GROUP_NAME=g AWS_LAMBDA_LOG_STREAM_NAME=s",
			what: func(c config) any { return c.function },
			want: map[string]any{
				"function_name": "f", "function_version": "7", "memory_size_mb": 512,
				"aws_region": "eu-west-1", "log_group_name": "g", "log_stream_name": "s"}},
	}
	for _, test := range tests {
		cfg, problems := readConfig(environ(test.env))
		if len(problems) > 0 {
			t.Errorf("%s: problems %q", test.env, problems)
			continue
		}
		if got := test.what(cfg); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.env, got, test.want)
		}
	}
}

// What cannot be used is one line that names the variable and what is used instead.
func TestReadConfigProblems(t *testing.T) {
	const api = "LIVE_LAMBDA_APPSYNC_HTTP_HOST=events.example.com "
	long := strings.Repeat("n", 51)
	tests := []struct{ env, name, instead string }{
		{env: "LIVE_LAMBDA=no", name: "LIVE_LAMBDA", instead: "using on"},
		{env: "LIVE_LAMBDA_OFFLINE=fail", name: "LIVE_LAMBDA_OFFLINE", instead: "using deployed"},
		{env: "LIVE_LAMBDA_DELIVERY=both", name: "LIVE_LAMBDA_DELIVERY", instead: "using caller"},
		{env: "LIVE_LAMBDA_FORWARD_ENV=1", name: "LIVE_LAMBDA_FORWARD_ENV", instead: "using off"},
		{env: "LIVE_LAMBDA_LOG_LEVEL=loud", name: "LIVE_LAMBDA_LOG_LEVEL", instead: "using info"},
		{env: "LIVE_LAMBDA_LOG_LEVEL=loud AWS_LAMBDA_LOG_LEVEL=INFO", name: "LIVE_LAMBDA_LOG_LEVEL",
			instead: "using INFO"},
		{env: "AWS_LAMBDA_LOG_LEVEL=loud", name: "AWS_LAMBDA_LOG_LEVEL", instead: "using info"},
		{env: "LIVE_LAMBDA_ACCEPT_TIMEOUT=3", name: "LIVE_LAMBDA_ACCEPT_TIMEOUT", instead: "using 0"},
		{env: "LIVE_LAMBDA_ACCEPT_TIMEOUT=soon", name: "LIVE_LAMBDA_ACCEPT_TIMEOUT", instead: "using 0"},
		{env: "LIVE_LAMBDA_ACCEPT_TIMEOUT=-1s", name: "LIVE_LAMBDA_ACCEPT_TIMEOUT", instead: "using 0"},
		{env: "LRAP_LISTENER_PORT=http", name: "LRAP_LISTENER_PORT", instead: "using 8082"},
		{env: "LRAP_LISTENER_PORT=0", name: "LRAP_LISTENER_PORT", instead: "using 8082"},
		{env: "LRAP_LISTENER_PORT=65536", name: "LRAP_LISTENER_PORT", instead: "using 8082"},
		{env: "LRAP_LISTENER_PORT=-1", name: "LRAP_LISTENER_PORT", instead: "using 8082"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=9009", name: "LRAP_RUNTIME_API_ENDPOINT",
			instead: "using 127.0.0.1:9001"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=http://127.0.0.1:9009", name: "LRAP_RUNTIME_API_ENDPOINT",
			instead: "using 127.0.0.1:9001"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=127.0.0.1:", name: "LRAP_RUNTIME_API_ENDPOINT",
			instead: "using 127.0.0.1:9001"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=:9009", name: "LRAP_RUNTIME_API_ENDPOINT",
			instead: "using 127.0.0.1:9001"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=127.0.0.1:http", name: "LRAP_RUNTIME_API_ENDPOINT",
			instead: "using 127.0.0.1:9001"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=a/b:1", name: "LRAP_RUNTIME_API_ENDPOINT",
			instead: "using 127.0.0.1:9001"},
		// itself
		{env: "LRAP_RUNTIME_API_ENDPOINT=127.0.0.1:8082", name: "LRAP_RUNTIME_API_ENDPOINT",
			instead: "not another server's host:port; using 127.0.0.1:9001"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=localhost:8082", name: "LRAP_RUNTIME_API_ENDPOINT",
			instead: "using 127.0.0.1:9001"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=LocalHost:8082", name: "LRAP_RUNTIME_API_ENDPOINT",
			instead: "using 127.0.0.1:9001"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=0.0.0.0:8082", name: "LRAP_RUNTIME_API_ENDPOINT",
			instead: "using 127.0.0.1:9001"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=[::]:8082", name: "LRAP_RUNTIME_API_ENDPOINT",
			instead: "using 127.0.0.1:9001"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=[::ffff:127.0.0.1]:8082", name: "LRAP_RUNTIME_API_ENDPOINT",
			instead: "using 127.0.0.1:9001"},
		{env: "LRAP_RUNTIME_API_ENDPOINT=127.1:8082", name: "LRAP_RUNTIME_API_ENDPOINT",
			instead: "using 127.0.0.1:9001"},
		{env: "LIVE_LAMBDA_APPSYNC_HTTP_HOST=https://", name: "LIVE_LAMBDA_APPSYNC_HTTP_HOST",
			instead: "going without AppSync"},
		{env: "LIVE_LAMBDA_APPSYNC_HTTP_HOST=a:b", name: "LIVE_LAMBDA_APPSYNC_HTTP_HOST",
			instead: "going without AppSync"},
		{env: "LIVE_LAMBDA_APPSYNC_HTTP_HOST=ftp://a", name: "LIVE_LAMBDA_APPSYNC_HTTP_HOST",
			instead: "going without AppSync"},
		{env: "LIVE_LAMBDA_APPSYNC_HTTP_HOST=https://me:secret@a", name: "LIVE_LAMBDA_APPSYNC_HTTP_HOST",
			instead: "going without AppSync"},
		{env: "LIVE_LAMBDA_APPSYNC_HTTP_HOST=me@a", name: "LIVE_LAMBDA_APPSYNC_HTTP_HOST",
			instead: "going without AppSync"},
		{env: "LIVE_LAMBDA_APPSYNC_HTTP_HOST=http://events.example.com",
			name:    "LIVE_LAMBDA_APPSYNC_HTTP_HOST",
			instead: "going without AppSync"},
		{env: "LIVE_LAMBDA_APPSYNC_HTTP_HOST=ws://10.0.0.1", name: "LIVE_LAMBDA_APPSYNC_HTTP_HOST",
			instead: "going without AppSync"},
		{env: "LIVE_LAMBDA_APPSYNC_HTTP_HOST=http://localhost.example.com",
			name:    "LIVE_LAMBDA_APPSYNC_HTTP_HOST",
			instead: "going without AppSync"},
		{env: "LIVE_LAMBDA_APPSYNC_HTTP_HOST=http://127.0.0.1:1 " +
			"LIVE_LAMBDA_APPSYNC_REALTIME_HOST=example.com",
			name: "LIVE_LAMBDA_APPSYNC_REALTIME_HOST", instead: "going without AppSync"},
		{env: api + "LIVE_LAMBDA_APPSYNC_REALTIME_HOST=https://", name: "LIVE_LAMBDA_APPSYNC_REALTIME_HOST",
			instead: "going without AppSync"},
		{env: api + "LIVE_LAMBDA_APPSYNC_REALTIME_HOST=http://example.com",
			name:    "LIVE_LAMBDA_APPSYNC_REALTIME_HOST",
			instead: "going without AppSync"},
		{env: api + "AWS_REGION=", name: "LIVE_LAMBDA_APPSYNC_REGION", instead: "going without AppSync"},
		{env: api + "LIVE_LAMBDA_APPSYNC_PROTOCOL=mqtt", name: "LIVE_LAMBDA_APPSYNC_PROTOCOL",
			instead: "going without AppSync"},
		{env: api + "LIVE_LAMBDA_NAMESPACE=a_b", name: "LIVE_LAMBDA_NAMESPACE",
			instead: "going without AppSync"},
		{env: api + "LIVE_LAMBDA_NAMESPACE=a/b", name: "LIVE_LAMBDA_NAMESPACE",
			instead: "going without AppSync"},
		{env: api + "LIVE_LAMBDA_NAMESPACE=-a", name: "LIVE_LAMBDA_NAMESPACE",
			instead: "going without AppSync"},
		{env: api + "LIVE_LAMBDA_NAMESPACE=" + long, name: "LIVE_LAMBDA_NAMESPACE",
			instead: "going without AppSync"},
		{env: api + "LIVE_LAMBDA_STAGE=*", name: "LIVE_LAMBDA_STAGE", instead: "going without AppSync"},
		{env: api + "LIVE_LAMBDA_STAGE=dev-", name: "LIVE_LAMBDA_STAGE", instead: "going without AppSync"},
		{env: api + "LIVE_LAMBDA_STAGE=ü", name: "LIVE_LAMBDA_STAGE", instead: "going without AppSync"},
		{env: api + "LIVE_LAMBDA_STAGE=" + long, name: "LIVE_LAMBDA_STAGE", instead: "going without AppSync"},
	}
	want, _ := readConfig(environ(""))
	for _, test := range tests {
		cfg, problems := readConfig(environ(test.env))
		if len(problems) != 1 || !strings.HasPrefix(problems[0], test.name+" ") ||
			!strings.Contains(problems[0], test.instead) {
			t.Errorf("%s: problems %q, want one of %s that says %q", test.env, problems, test.name,
				test.instead)
		}
		if strings.Contains(strings.Join(problems, ""), "secret") {
			t.Errorf("%s: %q tells the password", test.env, problems)
		}
		if cfg.function["aws_region"] = "eu-west-1"; !reflect.DeepEqual(cfg, want) {
			t.Errorf("%s: got %+v, want the defaults", test.env, cfg)
		}
	}
	_, problems := readConfig(
		environ("LIVE_LAMBDA=x LRAP_LISTENER_PORT=x LIVE_LAMBDA_OFFLINE=x LIVE_LAMBDA_APPSYNC_HTTP_HOST=a:b"))
	if len(problems) != 4 {
		t.Errorf("four faults: %q", problems)
	}
}

func TestReadConfigHosts(t *testing.T) {
	const label = "abcdefghijklmnopqrstuvwxyz"
	const http, realtime = label + ".appsync-api.us-east-1.amazonaws.com",
		label + ".appsync-realtime-api.us-east-1.amazonaws.com"
	tests := []struct{ http, realtime, wantHTTP, wantRealtime, wantRegion string }{
		{http: http, wantHTTP: "https://" + http + "/event",
			wantRealtime: "https://" + realtime + "/event/realtime", wantRegion: "us-east-1"},
		{http: http + ":8443", wantHTTP: "https://" + http + ":8443/event",
			wantRealtime: "https://" + realtime + ":8443/event/realtime", wantRegion: "us-east-1"},
		{http: "https://" + http, wantHTTP: "https://" + http + "/event",
			wantRealtime: "https://" + realtime + "/event/realtime",
			wantRegion:   "us-east-1"},
		{http: "https://" + http + "/event", realtime: realtime, wantHTTP: "https://" + http + "/event",
			wantRealtime: "https://" + realtime + "/event/realtime", wantRegion: "us-east-1"},
		{http: "https://" + http + "/?a=b#c", realtime: "wss://" + realtime + "/event/realtime",
			wantHTTP:     "https://" + http + "/event",
			wantRealtime: "https://" + realtime + "/event/realtime", wantRegion: "us-east-1"},
		{http: "wss://" + http, realtime: "https://" + realtime, wantHTTP: "https://" + http + "/event",
			wantRealtime: "https://" + realtime + "/event/realtime", wantRegion: "us-east-1"},
		{http: strings.ToUpper("https://" + http), wantHTTP: "https://" + http + "/event",
			wantRealtime: "https://" + realtime + "/event/realtime", wantRegion: "us-east-1"},
		{http: "HTTPS://" + http, realtime: "WSS://" + realtime, wantHTTP: "https://" + http + "/event",
			wantRealtime: "https://" + realtime + "/event/realtime", wantRegion: "us-east-1"},
		{http: "a.appsync-api.cn-north-1.amazonaws.com.cn",
			wantHTTP:     "https://a.appsync-api.cn-north-1.amazonaws.com.cn/event",
			wantRealtime: "https://a.appsync-realtime-api.cn-north-1.amazonaws.com.cn/event/realtime",
			wantRegion:   "cn-north-1"},
		{http: "events.example.com", wantHTTP: "https://events.example.com/event",
			wantRealtime: "https://events.example.com/event/realtime"},
		{http: "events.example.com", realtime: "realtime.example.com:444",
			wantHTTP:     "https://events.example.com/event",
			wantRealtime: "https://realtime.example.com:444/event/realtime"},
		{http: "http://127.0.0.1:9000", wantHTTP: "http://127.0.0.1:9000/event",
			wantRealtime: "http://127.0.0.1:9000/event/realtime"},
		{http: "http://localhost:9000", wantHTTP: "http://localhost:9000/event",
			wantRealtime: "http://localhost:9000/event/realtime"},
		{http: "http://[::1]:9000", wantHTTP: "http://[::1]:9000/event",
			wantRealtime: "http://[::1]:9000/event/realtime"},
		{http: "ws://127.0.0.1:9000", realtime: "ws://127.0.0.2:9001",
			wantHTTP:     "http://127.0.0.1:9000/event",
			wantRealtime: "http://127.0.0.2:9001/event/realtime"},
		// TLS or not as the HTTP host says.
		{http: "http://127.0.0.1:9000", realtime: "127.0.0.1:9001", wantHTTP: "http://127.0.0.1:9000/event",
			wantRealtime: "http://127.0.0.1:9001/event/realtime"},
		{http: "http://127.0.0.1:9000", realtime: "wss://127.0.0.1:9001",
			wantHTTP:     "http://127.0.0.1:9000/event",
			wantRealtime: "http://127.0.0.1:9001/event/realtime"},
		{http: "127.0.0.1:9000", realtime: "ws://127.0.0.1:9001", wantHTTP: "https://127.0.0.1:9000/event",
			wantRealtime: "https://127.0.0.1:9001/event/realtime"},
	}
	for _, test := range tests {
		cfg, problems :=
			readConfig(regional(environ("AWS_REGION= LIVE_LAMBDA_APPSYNC_API_KEY=da2-key " +
				"LIVE_LAMBDA_APPSYNC_HTTP_HOST=" +
				test.http + " LIVE_LAMBDA_APPSYNC_REALTIME_HOST=" + test.realtime)))
		if cfg.api == nil || len(problems) > 0 {
			t.Errorf("%s, %s: refused: %q", test.http, test.realtime, problems)
			continue
		}
		if got := cfg.api.http.String(); got != test.wantHTTP {
			t.Errorf("%s, %s: HTTP %s, want %s", test.http, test.realtime, got, test.wantHTTP)
		}
		if got := cfg.api.realtime.String(); got != test.wantRealtime {
			t.Errorf("%s, %s: realtime %s, want %s", test.http, test.realtime, got, test.wantRealtime)
		}
		if got := cfg.api.region; got != test.wantRegion {
			t.Errorf("%s, %s: region %q, want %q", test.http, test.realtime, got, test.wantRegion)
		}
	}
}

// The protocol is a GraphQL API's where the variable says so, or else a host that ends in /graphql.
func TestReadConfigProtocol(t *testing.T) {
	const label = "abcdefghijklmnopqrstuvwxyz"
	const http, realtime = label + ".appsync-api.us-east-1.amazonaws.com", label +
		".appsync-realtime-api.us-east-1.amazonaws.com"
	for _, test := range []struct{ protocol, http, realtime, wantHTTP, wantRealtime string }{
		{http: http, wantHTTP: "https://" + http + "/event",
			wantRealtime: "https://" + realtime + "/event/realtime"},
		{protocol: "events", http: http, wantHTTP: "https://" + http + "/event",
			wantRealtime: "https://" + realtime + "/event/realtime"},
		{protocol: "events", http: http + "/graphql", wantHTTP: "https://" + http + "/event",
			wantRealtime: "https://" + realtime + "/event/realtime"},
		{protocol: "graphql", http: http, wantHTTP: "https://" + http + "/graphql",
			wantRealtime: "https://" + realtime + "/graphql"},
		{protocol: "GraphQL", http: http + "/event", realtime: realtime,
			wantHTTP:     "https://" + http + "/graphql",
			wantRealtime: "https://" + realtime + "/graphql"},
		{http: http + "/graphql", wantHTTP: "https://" + http + "/graphql",
			wantRealtime: "https://" + realtime + "/graphql"},
		{http: "https://" + http + "/graphql/", realtime: "wss://" + realtime + "/graphql",
			wantHTTP: "https://" + http + "/graphql", wantRealtime: "https://" + realtime + "/graphql"},
		{http: http, realtime: "wss://" + realtime + "/graphql", wantHTTP: "https://" + http + "/graphql",
			wantRealtime: "https://" + realtime + "/graphql"},
		{http: http + "/graphqls", wantHTTP: "https://" + http + "/event",
			wantRealtime: "https://" + realtime + "/event/realtime"},
		{protocol: "graphql", http: "api.example.com", wantHTTP: "https://api.example.com/graphql",
			wantRealtime: "https://api.example.com/graphql/realtime"},
		{http: "api.example.com", realtime: "wss://api.example.com/graphql/realtime",
			wantHTTP:     "https://api.example.com/graphql",
			wantRealtime: "https://api.example.com/graphql/realtime"},
		{protocol: "graphql", http: "http://127.0.0.1:9000", wantHTTP: "http://127.0.0.1:9000/graphql",
			wantRealtime: "http://127.0.0.1:9000/graphql/realtime"},
	} {
		cfg, problems := readConfig(
			environ("LIVE_LAMBDA_APPSYNC_HTTP_HOST=" + test.http + " LIVE_LAMBDA_APPSYNC_REALTIME_HOST=" +
				test.realtime + " LIVE_LAMBDA_APPSYNC_PROTOCOL=" + test.protocol))
		if cfg.api == nil || len(problems) > 0 {
			t.Errorf("%+v: refused: %q", test, problems)
			continue
		}
		if got := cfg.api.http.String() + " " + cfg.api.realtime.String(); got != test.wantHTTP+" "+
			test.wantRealtime || cfg.api.graphql != strings.HasSuffix(test.wantHTTP, "/graphql") {
			t.Errorf("%+v: got %s, graphql %v", test, got, cfg.api.graphql)
		}
	}
}

func TestNewLogger(t *testing.T) {
	say := func(cfg config) string {
		var out bytes.Buffer
		log := newLogger(cfg, &out)
		log.Debug("looked", "n", 1)
		log.Info("registered", "function", "f", "port", 8082)
		log.Warn("odd", "error", errors.New("two\nlines"))
		log.Error("bad")
		return regexp.MustCompile(`(?m)^time=\S{20,40} `).ReplaceAllString(out.String(), "")
	}
	text := []string{
		"level=DEBUG msg=looked source=live-lambda n=1\n",
		"level=INFO msg=registered source=live-lambda function=f port=8082\n",
		`level=WARN msg=odd source=live-lambda error="two\nlines"` + "\n",
		"level=ERROR msg=bad source=live-lambda\n",
	}
	for i, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if got, want := say(config{logLevel: level}), strings.Join(text[i:], ""); got != want {
			t.Errorf("text at %v:\n%swant\n%s", level, got, want)
		}
		lines := strings.SplitAfter(strings.TrimSpace(say(config{logLevel: level, logJSON: true})), "\n")
		if len(lines) != 4-i {
			t.Errorf("JSON at %v: %d lines, want %d", level, len(lines), 4-i)
		}
	}
	var line struct {
		Time                         time.Time
		Level, Msg, Source, Function string
		Port                         int
	}
	first, _, _ := strings.Cut(say(config{logJSON: true}), "\n")
	if err := json.Unmarshal([]byte(first), &line); err != nil {
		t.Fatal(err)
	}
	if line.Time.IsZero() || line.Level != "INFO" || line.Msg != "registered" ||
		line.Source != "live-lambda" || line.Function != "f" || line.Port != 8082 {
		t.Errorf("JSON: got %s", first)
	}
}

func TestRoleCredentials(t *testing.T) {
	const keys = `{"AccessKeyId":"AKIDCONTAINER","SecretAccessKey":"container-secret",` +
		`"Token":"container-token","Expiration":%q}`
	tests := []struct {
		name   string
		env    string
		answer string // of the endpoint; none: it must not be asked
		status int
		want   credentials
		err    string
	}{
		{name: "environment", env: "AWS_ACCESS_KEY_ID=AKIDENV AWS_SECRET_ACCESS_KEY=s AWS_SESSION_TOKEN=t",
			want: credentials{accessKeyID: "AKIDENV", secretAccessKey: "s", sessionToken: "t"}},
		{name: "long-lived keys", env: "AWS_ACCESS_KEY_ID=AKIDENV AWS_SECRET_ACCESS_KEY=s",
			want: credentials{accessKeyID: "AKIDENV", secretAccessKey: "s"}},
		{name: "environment first",
			env: "AWS_ACCESS_KEY_ID=AKIDENV AWS_SECRET_ACCESS_KEY=s " +
				"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9001/c",
			want: credentials{accessKeyID: "AKIDENV", secretAccessKey: "s"}},
		{name: "endpoint", env: "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9001/c",
			answer: fmt.Sprintf(keys, "2100-01-01T00:00:00Z"),
			want: credentials{
				accessKeyID: "AKIDCONTAINER", secretAccessKey: "container-secret",
				sessionToken: "container-token"}},
		{name: "half of the environment",
			env:    "AWS_ACCESS_KEY_ID=AKIDENV AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9001/c",
			answer: fmt.Sprintf(keys, "2100-01-01T00:00:00Z"),
			want: credentials{accessKeyID: "AKIDCONTAINER", secretAccessKey: "container-secret",
				sessionToken: "container-token"}},
		{name: "nothing", err: "AWS_ACCESS_KEY_ID"},
		{name: "half", env: "AWS_ACCESS_KEY_ID=AKIDENV", err: "AWS_CONTAINER_CREDENTIALS_FULL_URI"},
		{name: "no URL", env: "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://container-token@:x/",
			err: "not an URL"},
		{name: "wrong token", env: "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9001/c", status: 404,
			answer: `{"errorType":"NotFound","errorMessage":"container-token"}`,
			err:    "there are none in the answer: 404"},
		{name: "not JSON", env: "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9001/c",
			answer: "container-token", err: "container credentials: there are none"},
		{name: "a string", env: "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9001/c",
			answer: `"container-token"`, err: "container credentials: there are none"},
		{name: "no keys", env: "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9001/c",
			answer: `{"Token":"container-token"}`, err: "container credentials: there are none"},
		{name: "cut off", env: "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9001/c",
			answer: `{"AccessKeyId":"AKIDCONTAINER","SecretAccessKey":"container-sec`,
			err:    "container credentials: there are none"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg, _ := readConfig(environ("AWS_CONTAINER_AUTHORIZATION_TOKEN=container-token " + test.env))
			transport := transportFunc(func(r *http.Request) (*http.Response, error) {
				if test.answer == "" {
					t.Errorf("asked for %s", r.URL)
				}
				if got := r.Header.Get("Authorization"); r.Method != "GET" || r.URL.Path != "/c" ||
					got != "container-token" {
					t.Errorf("%s %s with token %q", r.Method, r.URL.Path, got)
				}
				return httpAnswer(cmp.Or(test.status, 200), test.answer), nil
			})
			got, err := roleCredentials(role(cfg.keys), transport)(t.Context())
			if test.err == "" && (err != nil || got != test.want) {
				t.Errorf("got %v, %v; want %v", got, err, test.want)
			}
			if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if err != nil &&
				(strings.Contains(err.Error(), "container-") || strings.Contains(err.Error(), "AKID")) {
				t.Errorf("%q tells secrets", err)
			}
		})
	}
}

func TestRunOff(t *testing.T) {
	taken := listen(t)
	api := startExtensionsAPI(
		t, `200 {"functionName":"f"}`, `200 {"eventType":"INVOKE"}`,
		`200 {"eventType":"SHUTDOWN","shutdownReason":"spindown"}`)
	cfg := config{
		off: true, port: port(taken), extensionsAPI: api.Listener.Addr().String(),
		extensionName: "live-lambda-extension"}
	if err := run(t.Context(), cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	api.want("POST register", "GET event/next", "GET event/next")
}

func TestRunPortTaken(t *testing.T) {
	taken := listen(t)
	api := startExtensionsAPI(t, `200 {"functionName":"f"}`, `202 {"status":"OK"}`)
	cfg := config{
		port: port(taken), extensionsAPI: api.Listener.Addr().String(),
		extensionName: "live-lambda-extension"}
	err := run(t.Context(), cfg, slog.New(slog.DiscardHandler))
	api.want("POST register", "POST init/error")
	told := api.seen(1)
	for _, s := range []string{"port " + cfg.port + ":", "LRAP_LISTENER_PORT"} {
		if err == nil || !strings.Contains(err.Error(), s) || !strings.Contains(told.body, s) {
			t.Errorf("error %v, told Lambda %s; want both to name %s", err, told.body, s)
		}
	}
	if got := told.header.Get("Lambda-Extension-Function-Error-Type"); got != "LiveLambda.PortTaken" {
		t.Errorf("error type %q", got)
	}
}

// Neither the port nor the registration: both are told.
func TestRunPortTakenAndRefused(t *testing.T) {
	taken := listen(t)
	api := startExtensionsAPI(t, `500 {}`, `500 {}`, `403 {}`)
	err := run(t.Context(),
		config{port: port(taken), extensionsAPI: api.Listener.Addr().String(), extensionName: "x"},
		slog.New(slog.DiscardHandler))
	api.want("POST register", "POST register", "POST init/error")
	for _, s := range []string{"LRAP_LISTENER_PORT", "extension/register: 500", "extension/init/error: 403"} {
		if err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("error %v does not tell of %s", err, s)
		}
	}
}

// The port is taken at another of this machine's addresses: that matters only to who listens on all of them.
func TestRunListensOnLoopback(t *testing.T) {
	ln := listen(t)
	for _, host := range []string{"127.0.0.2", "::1"} { // all interfaces of IPv4, or of both, and of IPv6
		other, err := net.Listen("tcp", net.JoinHostPort(host, port(ln)))
		if err != nil {
			t.Log("not shown with "+host+":", err) // which not every machine has
			continue
		}
		defer other.Close()
	}
	ln.Close()
	api := startExtensionsAPI(
		t, `200 {"functionName":"f"}`, `200 {"eventType":"SHUTDOWN","shutdownReason":"spindown"}`)
	cfg := config{
		port: port(ln), extensionsAPI: api.Listener.Addr().String(), extensionName: "live-lambda-extension",
		function: map[string]any{}}
	if err := run(t.Context(), cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	api.want("POST register", "GET event/next")
}

func TestRunRefused(t *testing.T) {
	for _, answer := range []string{`403 {"errorType":"Extension.AlreadyRegistered"}`, `500 {}`} {
		api := startExtensionsAPI(t, answer, answer)
		cfg := config{port: "0", extensionsAPI: api.Listener.Addr().String(), extensionName: "x"}
		if err := run(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil ||
			!strings.Contains(err.Error(), answer[:3]) {
			t.Errorf("%s: error %v", answer, err)
		}
	}
}

// An answer without a token is not completed with the token of the answer before.
func TestRoleCredentialsKeepNothingOld(t *testing.T) {
	answers := []string{
		`{"AccessKeyId":"A","SecretAccessKey":"s","Token":"t"}`, `{"AccessKeyId":"B","SecretAccessKey":"u"}`}
	n := 0
	transport := transportFunc(func(*http.Request) (*http.Response, error) {
		n++
		return httpAnswer(200, answers[n-1]), nil
	})
	keys := roleCredentials(role{containerURI: "http://127.0.0.1:9001/c"}, transport)
	if got, err := keys(
		t.Context()); got != (credentials{accessKeyID: "A", secretAccessKey: "s", sessionToken: "t"}) ||
		err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := keys(t.Context()); got != (credentials{accessKeyID: "B", secretAccessKey: "u"}) ||
		err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// A server that takes a connection and then says nothing does not keep it for ever.
func TestTransportGivesUpDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		transport := newTransport()
		secureTransport(transport, []string{}, "example.com")
		transport.DialContext = ln.dial
		dialled := dial(t.Context(), transport, "https://example.com/", nil)
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		ended := async(func() (int64, error) { return io.Copy(io.Discard, nc) })
		<-dialled
		select {
		case <-ended:
		case <-time.After(24 * time.Hour):
			t.Error("still open a day after the dial was given up")
		}
	})
}
