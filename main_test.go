//go:build !layer

package main

// main_test.go tests the layer's five files, in their order: main.go, proxy.go, extapi.go, appsync.go, ws.go.
// Below come the helpers. Time is synctest's wherever time matters; the other end is the emulator of
// emulator.go or, where single bytes matter, the test itself.

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"
	"weak"

	"golang.org/x/net/websocket"
)

// ---- main.go ----

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
		{"", off, false},
		{"LIVE_LAMBDA=on", off, false},
		{"LIVE_LAMBDA=off", off, true},
		{"LIVE_LAMBDA=OFF", off, true},
		{"", offlineError, false},
		{"LIVE_LAMBDA_OFFLINE=deployed", offlineError, false},
		{"LIVE_LAMBDA_OFFLINE=error", offlineError, true},
		{"", toRuntime, false},
		{"LIVE_LAMBDA_DELIVERY=caller", toRuntime, false},
		{"LIVE_LAMBDA_DELIVERY=runtime", toRuntime, true},
		{"", forwardEnv, false},
		{"LIVE_LAMBDA_FORWARD_ENV=off", forwardEnv, false},
		{"LIVE_LAMBDA_FORWARD_ENV=on", forwardEnv, true},
		{"", accept, time.Duration(0)},
		{"LIVE_LAMBDA_ACCEPT_TIMEOUT=0s", accept, time.Duration(0)},
		{"LIVE_LAMBDA_ACCEPT_TIMEOUT=3s", accept, 3 * time.Second},
		{"LIVE_LAMBDA_ACCEPT_TIMEOUT=1500ms", accept, 1500 * time.Millisecond},
		{"", port, "8082"},
		{"LRAP_LISTENER_PORT=1", port, "1"},
		{"LRAP_LISTENER_PORT=65535", port, "65535"},
		{"", runtimeAPI, "127.0.0.1:9001 127.0.0.1:9001"},
		{"LRAP_RUNTIME_API_ENDPOINT=127.0.0.1:9009", runtimeAPI, "127.0.0.1:9001 127.0.0.1:9009"},
		{"LRAP_RUNTIME_API_ENDPOINT=[::1]:9009", runtimeAPI, "127.0.0.1:9001 [::1]:9009"},
		{"LRAP_RUNTIME_API_ENDPOINT=169.254.100.1:8082", runtimeAPI, "127.0.0.1:9001 169.254.100.1:8082"},
		{"", name, "live-lambda-extension"},
		{"AWS_LAMBDA_EXTENSION_NAME=other", name, "other"},
		{"", level, slog.LevelInfo},
		{"LIVE_LAMBDA_LOG_LEVEL=debug", level, slog.LevelDebug},
		{"LIVE_LAMBDA_LOG_LEVEL=Info", level, slog.LevelInfo},
		{"LIVE_LAMBDA_LOG_LEVEL=WARN", level, slog.LevelWarn},
		{"LIVE_LAMBDA_LOG_LEVEL=error", level, slog.LevelError},
		{"AWS_LAMBDA_LOG_LEVEL=TRACE", level, slog.LevelDebug},
		{"AWS_LAMBDA_LOG_LEVEL=WARN", level, slog.LevelWarn},
		{"AWS_LAMBDA_LOG_LEVEL=FATAL", level, slog.LevelError},
		{"AWS_LAMBDA_LOG_LEVEL=DEBUG LIVE_LAMBDA_LOG_LEVEL=warn", level, slog.LevelWarn},
		{"", logJSON, false},
		{"AWS_LAMBDA_LOG_FORMAT=Text", logJSON, false},
		{"AWS_LAMBDA_LOG_FORMAT=JSON", logJSON, true},
		{"SSL_CERT_FILE=/a", roots, []string{"/a"}},
		{"", func(c config) any { return c.api == nil }, true},
		{api, requests, "live-lambda /live-lambda/requests"},
		{api + "LIVE_LAMBDA_NAMESPACE=default", requests, "default /default/requests"},
		{api + "LIVE_LAMBDA_NAMESPACE=a LIVE_LAMBDA_STAGE=B-1", requests, "a /a/requests/B-1"},
		{api + "LIVE_LAMBDA_STAGE=" + strings.Repeat("s", 50), requests,
			"live-lambda /live-lambda/requests/" + strings.Repeat("s", 50)},
		{api, region, "eu-west-1"},
		{api + "LIVE_LAMBDA_APPSYNC_REGION=us-east-2", region, "us-east-2"},
		{api, apiKey, ""},
		{api + "LIVE_LAMBDA_APPSYNC_API_KEY=da2-key", apiKey, "da2-key"},
		{api + "AWS_REGION= LIVE_LAMBDA_APPSYNC_API_KEY=da2-key", region, ""},
		{"AWS_LAMBDA_FUNCTION_NAME=f AWS_LAMBDA_FUNCTION_VERSION=7 AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512 " +
			"AWS_LAMBDA_LOG_GROUP_NAME=g AWS_LAMBDA_LOG_STREAM_NAME=s",
			func(c config) any { return c.function },
			map[string]any{
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
		{"LIVE_LAMBDA=no", "LIVE_LAMBDA", "using on"},
		{"LIVE_LAMBDA_OFFLINE=fail", "LIVE_LAMBDA_OFFLINE", "using deployed"},
		{"LIVE_LAMBDA_DELIVERY=both", "LIVE_LAMBDA_DELIVERY", "using caller"},
		{"LIVE_LAMBDA_FORWARD_ENV=1", "LIVE_LAMBDA_FORWARD_ENV", "using off"},
		{"LIVE_LAMBDA_LOG_LEVEL=loud", "LIVE_LAMBDA_LOG_LEVEL", "using info"},
		{"LIVE_LAMBDA_LOG_LEVEL=loud AWS_LAMBDA_LOG_LEVEL=INFO", "LIVE_LAMBDA_LOG_LEVEL", "using INFO"},
		{"AWS_LAMBDA_LOG_LEVEL=loud", "AWS_LAMBDA_LOG_LEVEL", "using info"},
		{"LIVE_LAMBDA_ACCEPT_TIMEOUT=3", "LIVE_LAMBDA_ACCEPT_TIMEOUT", "using 0"},
		{"LIVE_LAMBDA_ACCEPT_TIMEOUT=soon", "LIVE_LAMBDA_ACCEPT_TIMEOUT", "using 0"},
		{"LIVE_LAMBDA_ACCEPT_TIMEOUT=-1s", "LIVE_LAMBDA_ACCEPT_TIMEOUT", "using 0"},
		{"LRAP_LISTENER_PORT=http", "LRAP_LISTENER_PORT", "using 8082"},
		{"LRAP_LISTENER_PORT=0", "LRAP_LISTENER_PORT", "using 8082"},
		{"LRAP_LISTENER_PORT=65536", "LRAP_LISTENER_PORT", "using 8082"},
		{"LRAP_LISTENER_PORT=-1", "LRAP_LISTENER_PORT", "using 8082"},
		{"LRAP_RUNTIME_API_ENDPOINT=9009", "LRAP_RUNTIME_API_ENDPOINT", "using 127.0.0.1:9001"},
		{"LRAP_RUNTIME_API_ENDPOINT=http://127.0.0.1:9009", "LRAP_RUNTIME_API_ENDPOINT",
			"using 127.0.0.1:9001"},
		{"LRAP_RUNTIME_API_ENDPOINT=127.0.0.1:", "LRAP_RUNTIME_API_ENDPOINT", "using 127.0.0.1:9001"},
		{"LRAP_RUNTIME_API_ENDPOINT=:9009", "LRAP_RUNTIME_API_ENDPOINT", "using 127.0.0.1:9001"},
		{"LRAP_RUNTIME_API_ENDPOINT=127.0.0.1:http", "LRAP_RUNTIME_API_ENDPOINT", "using 127.0.0.1:9001"},
		{"LRAP_RUNTIME_API_ENDPOINT=a/b:1", "LRAP_RUNTIME_API_ENDPOINT", "using 127.0.0.1:9001"},
		// itself
		{"LRAP_RUNTIME_API_ENDPOINT=127.0.0.1:8082", "LRAP_RUNTIME_API_ENDPOINT",
			"not another server's host:port; using 127.0.0.1:9001"},
		{"LRAP_RUNTIME_API_ENDPOINT=localhost:8082", "LRAP_RUNTIME_API_ENDPOINT", "using 127.0.0.1:9001"},
		{"LRAP_RUNTIME_API_ENDPOINT=LocalHost:8082", "LRAP_RUNTIME_API_ENDPOINT", "using 127.0.0.1:9001"},
		{"LRAP_RUNTIME_API_ENDPOINT=0.0.0.0:8082", "LRAP_RUNTIME_API_ENDPOINT", "using 127.0.0.1:9001"},
		{"LRAP_RUNTIME_API_ENDPOINT=[::]:8082", "LRAP_RUNTIME_API_ENDPOINT", "using 127.0.0.1:9001"},
		{"LRAP_RUNTIME_API_ENDPOINT=[::ffff:127.0.0.1]:8082", "LRAP_RUNTIME_API_ENDPOINT",
			"using 127.0.0.1:9001"},
		{"LRAP_RUNTIME_API_ENDPOINT=127.1:8082", "LRAP_RUNTIME_API_ENDPOINT", "using 127.0.0.1:9001"},
		{"LIVE_LAMBDA_APPSYNC_HTTP_HOST=https://", "LIVE_LAMBDA_APPSYNC_HTTP_HOST", "going without AppSync"},
		{"LIVE_LAMBDA_APPSYNC_HTTP_HOST=a:b", "LIVE_LAMBDA_APPSYNC_HTTP_HOST", "going without AppSync"},
		{"LIVE_LAMBDA_APPSYNC_HTTP_HOST=ftp://a", "LIVE_LAMBDA_APPSYNC_HTTP_HOST", "going without AppSync"},
		{"LIVE_LAMBDA_APPSYNC_HTTP_HOST=https://me:secret@a", "LIVE_LAMBDA_APPSYNC_HTTP_HOST",
			"going without AppSync"},
		{"LIVE_LAMBDA_APPSYNC_HTTP_HOST=me@a", "LIVE_LAMBDA_APPSYNC_HTTP_HOST", "going without AppSync"},
		{"LIVE_LAMBDA_APPSYNC_HTTP_HOST=http://events.example.com", "LIVE_LAMBDA_APPSYNC_HTTP_HOST",
			"going without AppSync"},
		{"LIVE_LAMBDA_APPSYNC_HTTP_HOST=ws://10.0.0.1", "LIVE_LAMBDA_APPSYNC_HTTP_HOST",
			"going without AppSync"},
		{"LIVE_LAMBDA_APPSYNC_HTTP_HOST=http://localhost.example.com", "LIVE_LAMBDA_APPSYNC_HTTP_HOST",
			"going without AppSync"},
		{"LIVE_LAMBDA_APPSYNC_HTTP_HOST=http://127.0.0.1:1 LIVE_LAMBDA_APPSYNC_REALTIME_HOST=example.com",
			"LIVE_LAMBDA_APPSYNC_REALTIME_HOST", "going without AppSync"},
		{api + "LIVE_LAMBDA_APPSYNC_REALTIME_HOST=https://", "LIVE_LAMBDA_APPSYNC_REALTIME_HOST",
			"going without AppSync"},
		{api + "LIVE_LAMBDA_APPSYNC_REALTIME_HOST=http://example.com", "LIVE_LAMBDA_APPSYNC_REALTIME_HOST",
			"going without AppSync"},
		{api + "AWS_REGION=", "LIVE_LAMBDA_APPSYNC_REGION", "going without AppSync"},
		{api + "LIVE_LAMBDA_APPSYNC_PROTOCOL=mqtt", "LIVE_LAMBDA_APPSYNC_PROTOCOL", "going without AppSync"},
		{api + "LIVE_LAMBDA_NAMESPACE=a_b", "LIVE_LAMBDA_NAMESPACE", "going without AppSync"},
		{api + "LIVE_LAMBDA_NAMESPACE=a/b", "LIVE_LAMBDA_NAMESPACE", "going without AppSync"},
		{api + "LIVE_LAMBDA_NAMESPACE=-a", "LIVE_LAMBDA_NAMESPACE", "going without AppSync"},
		{api + "LIVE_LAMBDA_NAMESPACE=" + long, "LIVE_LAMBDA_NAMESPACE", "going without AppSync"},
		{api + "LIVE_LAMBDA_STAGE=*", "LIVE_LAMBDA_STAGE", "going without AppSync"},
		{api + "LIVE_LAMBDA_STAGE=dev-", "LIVE_LAMBDA_STAGE", "going without AppSync"},
		{api + "LIVE_LAMBDA_STAGE=ü", "LIVE_LAMBDA_STAGE", "going without AppSync"},
		{api + "LIVE_LAMBDA_STAGE=" + long, "LIVE_LAMBDA_STAGE", "going without AppSync"},
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
		{http, "", "https://" + http + "/event", "https://" + realtime + "/event/realtime", "us-east-1"},
		{http + ":8443", "", "https://" + http + ":8443/event",
			"https://" + realtime + ":8443/event/realtime", "us-east-1"},
		{"https://" + http, "", "https://" + http + "/event", "https://" + realtime + "/event/realtime",
			"us-east-1"},
		{"https://" + http + "/event", realtime, "https://" + http + "/event",
			"https://" + realtime + "/event/realtime", "us-east-1"},
		{"https://" + http + "/?a=b#c", "wss://" + realtime + "/event/realtime", "https://" + http + "/event",
			"https://" + realtime + "/event/realtime", "us-east-1"},
		{"wss://" + http, "https://" + realtime, "https://" + http + "/event",
			"https://" + realtime + "/event/realtime", "us-east-1"},
		{strings.ToUpper("https://" + http), "", "https://" + http + "/event",
			"https://" + realtime + "/event/realtime", "us-east-1"},
		{"HTTPS://" + http, "WSS://" + realtime, "https://" + http + "/event",
			"https://" + realtime + "/event/realtime", "us-east-1"},
		{"a.appsync-api.cn-north-1.amazonaws.com.cn", "",
			"https://a.appsync-api.cn-north-1.amazonaws.com.cn/event",
			"https://a.appsync-realtime-api.cn-north-1.amazonaws.com.cn/event/realtime", "cn-north-1"},
		{"events.example.com", "", "https://events.example.com/event",
			"https://events.example.com/event/realtime", ""},
		{"events.example.com", "realtime.example.com:444", "https://events.example.com/event",
			"https://realtime.example.com:444/event/realtime", ""},
		{"http://127.0.0.1:9000", "", "http://127.0.0.1:9000/event", "http://127.0.0.1:9000/event/realtime",
			""},
		{"http://localhost:9000", "", "http://localhost:9000/event", "http://localhost:9000/event/realtime",
			""},
		{"http://[::1]:9000", "", "http://[::1]:9000/event", "http://[::1]:9000/event/realtime", ""},
		{"ws://127.0.0.1:9000", "ws://127.0.0.2:9001", "http://127.0.0.1:9000/event",
			"http://127.0.0.2:9001/event/realtime", ""},
		// TLS or not as the HTTP host says.
		{"http://127.0.0.1:9000", "127.0.0.1:9001", "http://127.0.0.1:9000/event",
			"http://127.0.0.1:9001/event/realtime", ""},
		{"http://127.0.0.1:9000", "wss://127.0.0.1:9001", "http://127.0.0.1:9000/event",
			"http://127.0.0.1:9001/event/realtime", ""},
		{"127.0.0.1:9000", "ws://127.0.0.1:9001", "https://127.0.0.1:9000/event",
			"https://127.0.0.1:9001/event/realtime", ""},
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
		{"", http, "", "https://" + http + "/event", "https://" + realtime + "/event/realtime"},
		{"events", http, "", "https://" + http + "/event", "https://" + realtime + "/event/realtime"},
		{"events", http + "/graphql", "", "https://" + http + "/event",
			"https://" + realtime + "/event/realtime"},
		{"graphql", http, "", "https://" + http + "/graphql", "https://" + realtime + "/graphql"},
		{"GraphQL", http + "/event", realtime, "https://" + http + "/graphql",
			"https://" + realtime + "/graphql"},
		{"", http + "/graphql", "", "https://" + http + "/graphql", "https://" + realtime + "/graphql"},
		{"", "https://" + http + "/graphql/", "wss://" + realtime + "/graphql",
			"https://" + http + "/graphql", "https://" + realtime + "/graphql"},
		{"", http, "wss://" + realtime + "/graphql", "https://" + http + "/graphql",
			"https://" + realtime + "/graphql"},
		{"", http + "/graphqls", "", "https://" + http + "/event", "https://" + realtime + "/event/realtime"},
		{"graphql", "api.example.com", "", "https://api.example.com/graphql",
			"https://api.example.com/graphql/realtime"},
		{"", "api.example.com", "wss://api.example.com/graphql/realtime", "https://api.example.com/graphql",
			"https://api.example.com/graphql/realtime"},
		{"graphql", "http://127.0.0.1:9000", "", "http://127.0.0.1:9000/graphql",
			"http://127.0.0.1:9000/graphql/realtime"},
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

// FuzzReadConfig: whatever the environment says, the function can go on.
func FuzzReadConfig(f *testing.F) {
	f.Add("LIVE_LAMBDA=off")
	f.Add("LIVE_LAMBDA_APPSYNC_HTTP_HOST=https://a.appsync-api.us-east-1.amazonaws.com/event " +
		"LIVE_LAMBDA_STAGE=dev LIVE_LAMBDA_LOG_LEVEL=x")
	f.Add("LIVE_LAMBDA_APPSYNC_HTTP_HOST=http://[::1%25lo]:1 LIVE_LAMBDA_APPSYNC_REALTIME_HOST=ws://ws://" +
		"localhost")
	f.Add("LIVE_LAMBDA_ACCEPT_TIMEOUT=9223372036s LRAP_LISTENER_PORT=08082 LRAP_RUNTIME_API_ENDPOINT=:")
	f.Add("LIVE_LAMBDA_NAMESPACE=\x00 LIVE_LAMBDA_OFFLINE=\n AWS_LAMBDA_FUNCTION_MEMORY_SIZE=1e9")
	f.Fuzz(func(t *testing.T, env string) {
		cfg, problems := readConfig(environ(env))
		for _, p := range problems {
			name, _, _ := strings.Cut(p, " ")
			if environ(env)(name) == "" && name != "LIVE_LAMBDA_APPSYNC_REGION" &&
				name != "LIVE_LAMBDA_APPSYNC_REALTIME_HOST" {
				t.Errorf("%q is about a variable that is not set", p)
			}
			if strings.ContainsAny(p, "\n\r") {
				t.Errorf("%q is more than one line", p)
			}
		}
		if cfg.port == "" || len(strings.TrimLeft(cfg.port, "0")) > 5 || cfg.accept < 0 ||
			cfg.extensionName == "" {
			t.Errorf("port %s, accept timeout %v, name %q", cfg.port, cfg.accept, cfg.extensionName)
		}
		if a := cfg.api; a != nil {
			for _, u := range []*url.URL{a.http, a.realtime} {
				if again, err := url.Parse(u.String()); err != nil || again.Host != u.Host ||
					u.Hostname() == "" {
					t.Errorf("the URL %q: %v", u, err)
				}
				if u.Scheme != "https" && !(u.Scheme == "http" && loopback(u)) {
					t.Errorf("no TLS to %q", u)
				}
			}
			if !publishChannel.MatchString(a.requests) {
				t.Errorf("requests go to %q", a.requests)
			}
		}
	})
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
			want: credentials{"AKIDENV", "s", "t"}},
		{name: "long-lived keys", env: "AWS_ACCESS_KEY_ID=AKIDENV AWS_SECRET_ACCESS_KEY=s",
			want: credentials{"AKIDENV", "s", ""}},
		{name: "environment first",
			env: "AWS_ACCESS_KEY_ID=AKIDENV AWS_SECRET_ACCESS_KEY=s " +
				"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9001/c",
			want: credentials{"AKIDENV", "s", ""}},
		{name: "endpoint", env: "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9001/c",
			answer: fmt.Sprintf(keys, "2100-01-01T00:00:00Z"),
			want:   credentials{"AKIDCONTAINER", "container-secret", "container-token"}},
		{name: "half of the environment",
			env:    "AWS_ACCESS_KEY_ID=AKIDENV AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9001/c",
			answer: fmt.Sprintf(keys, "2100-01-01T00:00:00Z"),
			want:   credentials{"AKIDCONTAINER", "container-secret", "container-token"}},
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

func TestExtensionEventsUntilShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		invoke := `200 {"eventType":"INVOKE"}`
		answers := []string{
			`200 {}`, "", `500 {"errorType":"InternalServerError"}`, "200 {", invoke, invoke, "",
			`200 {"eventType":"NEW"}`, `200 {"eventType":"SHUTDOWN"}`}
		var asked []time.Duration // after the start
		start := time.Now()
		x := &extensionsAPI{base: "http://example.com", id: "id-1",
			transport: transportFunc(func(r *http.Request) (*http.Response, error) {
				asked = append(asked, time.Since(start))
				answer := answers[len(asked)-1]
				if answer == "" {
					return nil, errors.New("connection reset")
				}
				status, body := splitAnswer(answer)
				return httpAnswer(status, body), nil
			})}
		logs := new(logLines)
		if _, err := x.register(t.Context()); err != nil {
			t.Error(err)
		}
		x.awaitShutdown(t.Context(), logs.logger())
		var pauses []time.Duration
		for i := range len(asked) - 1 {
			pauses = append(pauses, asked[i+1]-asked[i])
		}
		if want := []time.Duration{
			0, time.Second, time.Second, time.Second, 0, 0, time.Second, 0}; !slices.Equal(pauses, want) {
			t.Errorf("pauses %v, want %v", pauses, want)
		}
		if got := strings.Count(logs.String(), "level=ERROR"); got != 4 {
			t.Errorf("%d errors logged, want 4:\n%s", got, logs)
		}
	})
}

// Its context ends: so does the wait for the next event, and a pause.
func TestExtensionEventsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, hang := range []bool{true, false} {
			ctx, cancel := context.WithCancel(t.Context())
			x := &extensionsAPI{base: "http://example.com",
				transport: transportFunc(func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodPost {
						return httpAnswer(200, "{}"), nil
					}
					if hang {
						<-r.Context().Done()
					}
					return nil, errors.New("cut off")
				})}
			done := make(chan bool)
			go func() {
				if _, err := x.register(ctx); err != nil {
					t.Error(err)
				}
				x.awaitShutdown(ctx, slog.New(slog.DiscardHandler))
				close(done)
			}()
			time.Sleep(time.Minute)
			cancel()
			<-done
		}
	})
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
	if got, err := keys(t.Context()); got != (credentials{"A", "s", "t"}) || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := keys(t.Context()); got != (credentials{"B", "u", ""}) || err != nil {
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

// ---- extapi.go ----

func TestRegister(t *testing.T) {
	const both, shutdown = `{"events":["INVOKE","SHUTDOWN"]}`, `{"events":["SHUTDOWN"]}`
	const ok = `200 {"functionName":"f","functionVersion":"$LATEST","handler":"index.handler",` +
		`"accountId":"1"}`
	long := strings.Repeat("t", maxErrorType)
	tests := []struct {
		name    string
		answers []string
		bodies  []string
		err     string
	}{
		{"both events", []string{ok}, []string{both}, ""},
		{"INVOKE refused", []string{`403 {"errorType":"Extension.InvalidEventType"}`, ok},
			[]string{both, shutdown}, ""},
		{"INVOKE refused with 400", []string{`400 {}`, ok}, []string{both, shutdown}, ""},
		{"refused", []string{
			`403 {"errorType":"a"}`, `403 {"errorMessage":"m","errorType":"Extension.InvalidExtensionName"}`},
			[]string{both, shutdown}, `extension/register: 403 Forbidden "Extension.InvalidExtensionName"`},
		{"500", []string{`500 {"errorType":"x"}`, `500 {"errorType":"x"}`}, []string{both, shutdown},
			`extension/register: 500 Internal Server Error "x"`},
		{"500 after the refusal", []string{`400 {}`, `500 {}`}, []string{both, shutdown}, "500"},
		{"not JSON", slices.Repeat([]string{`200 <html>`}, 2), []string{both, shutdown},
			"extension/register: "},
		{"wrong types", slices.Repeat([]string{`200 {"functionName":7}`}, 2), []string{both, shutdown},
			"extension/register: "},
		{"endless", slices.Repeat(
			[]string{"200 " + `{"functionName":"` + strings.Repeat("f", maxAnswer) + `"}`}, 2),
			[]string{both, shutdown}, "extension/register: "},
		{"control characters",
			[]string{`403 {"errorType":"a\u001b[31m\nb"}`, `403 {"errorType":"a\u001b[31m\nb"}`},
			[]string{both, shutdown}, `extension/register: 403 Forbidden`},
		{"a type that fits in a message", slices.Repeat([]string{`403 {"errorType":"` + long + `"}`}, 2),
			[]string{both, shutdown}, `extension/register: 403 Forbidden "` + long + `"`},
		{"a type that does not", slices.Repeat([]string{`403 {"errorType":"` + long + `x"}`}, 2),
			[]string{both, shutdown}, `extension/register: 403 Forbidden`},
		{"no type", slices.Repeat([]string{`403 Forbidden`}, 2), []string{both, shutdown},
			`extension/register: 403 Forbidden`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			api := startExtensionsAPI(t, test.answers...)
			x := &extensionsAPI{
				base: api.URL, name: "live-lambda-extension", transport: http.DefaultTransport}
			fn, err := x.register(t.Context())
			var bodies []string
			for i := range test.bodies {
				call := api.seen(i)
				bodies = append(bodies, call.body)
				if got := call.header.Get("Lambda-Extension-Name"); call.what != "POST register" ||
					got != "live-lambda-extension" {
					t.Errorf("%s by %q", call.what, got)
				}
			}
			if api.want(slices.Repeat([]string{"POST register"}, len(test.bodies))...); !slices.Equal(
				bodies, test.bodies) {
				t.Errorf("asked with %q, want %q", bodies, test.bodies)
			}
			switch {
			case test.err != "" &&
				(err == nil || !strings.Contains(err.Error(), test.err) ||
					strings.HasSuffix(test.err, "Forbidden") && err.Error() != test.err ||
					strings.Contains(err.Error(), "\n")):
				t.Errorf("error %v, want %q", err, test.err)
			case test.err == "" &&
				(err != nil || fn != extensionAnswer{FunctionName: "f", Handler: "index.handler"} ||
					x.id != "id-1"):
				t.Errorf("got %v, id %q, %v", fn, x.id, err)
			}
		})
	}
}

func TestExtensionEvents(t *testing.T) {
	api := startExtensionsAPI(t, `200 {}`,
		`200 {"eventType":"INVOKE","deadlineMs":1581512138111,"requestId":"r"}`,
		`200 {"eventType":"SHUTDOWN","shutdownReason":"timeout","deadlineMs":676051}`,
		`403 {"errorType":"Extension.UnknownExtensionIdentifier"}`, `200 []`, `202 {}`,
		`403 {"errorType":"InvalidStateTransition"}`)
	x := &extensionsAPI{base: api.URL, transport: http.DefaultTransport}
	next := func(ctx context.Context) (extensionAnswer, error) {
		return x.call(ctx, http.MethodGet, "event/next", "", "")
	}
	if _, err := x.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []extensionAnswer{{EventType: "INVOKE"}, {EventType: "SHUTDOWN"}} {
		if got, err := next(t.Context()); err != nil || got != want {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	if _, err := next(t.Context()); err == nil ||
		err.Error() != `extension/event/next: 403 Forbidden "Extension.UnknownExtensionIdentifier"` {
		t.Errorf("refused: %v", err)
	}
	if _, err := next(t.Context()); err == nil ||
		!strings.Contains(err.Error(), "extension/event/next: json: ") {
		t.Errorf("not an object: %v", err)
	}
	if err := x.portTaken(
		t.Context(), errors.New(`port "8082" is taken`)); err.Error() != `port `+
		`"8082" is taken` {
		t.Error(err)
	}
	if err := x.portTaken(t.Context(), errors.New("again")); !strings.Contains(
		err.Error(), "InvalidStateTransition") {
		t.Errorf("refused: %v", err)
	}
	call := api.seen(5)
	if call.what != "POST init/error" ||
		call.body != `{"errorMessage":"port \"8082\" is taken","errorType":"LiveLambda.PortTaken"}` ||
		call.header.Get("Lambda-Extension-Function-Error-Type") != "LiveLambda.PortTaken" {
		t.Errorf("init error: %+v", call)
	}
	for i := 1; i < 7; i++ {
		if got := api.seen(i).header.Get("Lambda-Extension-Identifier"); got != "id-1" {
			t.Errorf("call %d identified by %q", i, got)
		}
	}
}

func TestExtensionsAPIGone(t *testing.T) {
	ln := listen(t)
	ln.Close()
	x := &extensionsAPI{base: "http://" + ln.Addr().String(), transport: http.DefaultTransport}
	next := func(ctx context.Context) (extensionAnswer, error) {
		return x.call(ctx, http.MethodGet, "event/next", "", "")
	}
	if _, err := x.register(t.Context()); err == nil ||
		!strings.HasPrefix(err.Error(), "extension/register: ") {
		t.Errorf("nobody listens: %v", err)
	}
	x.base = "http://%"
	if _, err := next(t.Context()); err == nil {
		t.Error("no URL: no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := next(ctx); err == nil {
		t.Error("cancelled: no error")
	}
}

// ---- appsync.go: signing ----

// vector is an operation and its signatures, computed with AWS's own signers: botocore, @smithy/signature-v4
// and aws-sdk-go-v2 agree on each. Date and keys, which are fictitious, stand in emulator_test.go.
type vector struct {
	name, host, region, body string
	static, session          string // signatures with a static key, and with a session token besides
	path                     string // where not /event
}

const vectorAmzDate = "20150830T123600Z"

var webSocketVectors = []vector{
	{"connect", vectorHost, "us-east-1", `{}`,
		"f35d466179f2489e92e6bc2c98d72a5853528c0aeb8d94b175bc02ffb27db6a9",
		"e256d9c29f4adfa32b0ea7931f7d4d1c378f351e2fa8ee4f81d1f44b4e9ed3f9", ""},
	{"connect to a custom domain", "events.example.com", "eu-west-1", `{}`,
		"fd2b343d79305b2b4111435e4a80c93ba8dc9f1210bdf5cb805df12f53355138",
		"2b78d34e5a66effd0026a958d4f6e88d0e5c484c6a541d3b4fdfdb44cb366e4c", ""},
	{"subscribe", vectorHost, "us-east-1", `{"channel":"/default/room-1/*"}`,
		"d9d7f92d467d6c06920e7c9a95ab8177d739cd76248bc30def92094ad0faad9a",
		"9fb78013c79c6ad7b4ad131faa2986819610b22fd9ef9b88463cb85cffa50f9a", ""},
	{"publish one", vectorHost, "us-east-1",
		`{"channel":"/default/room-1","events":["{\"seq\":1,\"data\":\"AAEC_-8\"}"]}`,
		"e36f9b6d88d4c4f84a42763244a6bd9ac6bcd3c7a0122c6ecd9ac69c4ee26822",
		"404b3bf68acf4bdb8ac1784a7597a1293497d0c188b2dbd7d775ee5e84bb0eda", ""},
	{"publish two", vectorHost, "us-east-1",
		`{"channel":"/default/room-1","events":["{\"seq\":1,\"data\":\"AAEC_-8\"}","{\"seq\":2,` +
			`\"data\":\"c2Vjb25k\"}"]}`,
		"e98f8b370e8fd3adbc2b37f0c8d4515a8f8386401ecf0fa1bfb638eec3a27be4",
		"86bc7932f4e8465b8e3c4f45838a334d106753ea2ff9a378822e251059b75fec", ""},
}

var graphqlVectors = []vector{
	{"connect", vectorHost, "us-east-1", `{}`,
		"b22d5c186453cddc1c835192b637078fe24e668fe7baee77b51cd7ca5f87634e",
		"467f13902fd73710d1882e32df25c9837cd31a6069c64062d609a05984640274", "/graphql/connect"},
	{"start", vectorHost, "us-east-1",
		`{"query":"subscription S { onMsg(room: \"r\") { data } }","variables":{}}`,
		"7d36df0f4979f99e3d5b74de1f1f2ba1cc814af4377997b261b1ce5354042f10",
		"b9d64f7bbbe2b2609ad2ba89de9e1a0b34987046433bcc389302b407024a8a7c", "/graphql"},
}

// This program sends neither, and the arithmetic is the same: an event that is not escaped, and the length
// signed too.
var otherVectors = []vector{
	{"publish of HTML", vectorHost, "us-east-1",
		`{"channel":"/default/room-1","events":["{\"html\":\"<b>a & b</b>\"}"]}`,
		"0be21895a4586a08abf294b589c5b1f0ba2bd7aa35f56edfca80710740030d8f",
		"33f31bbdb2ca77edda346e8d3f10875f9d6c297fa87a29ea104de63a3c11f52b", ""},
	{"connect with content-length", vectorHost, "us-east-1", `{}`,
		"3fbffcc6d66df8e7513a87a1473087d9c0bc6ecb7ef53fe52fd61ac09635d3b3",
		"23171de487ce387e690cfc1c3665ff4ec7c86c7ff87ea048672c0732b7fc59fb", ""},
}

var httpVector = vector{"publish over HTTPS", vectorHost, "us-east-1",
	`{"channel":"/default/room-1","events":["{\"seq\":1,\"data\":\"AAEC_-8\"}"]}`,
	"b16aa82ceefa5f0b57a265a2fdc1286dc55277a4018eac5c3d5ffe78deb137c6",
	"2bf4825ede12f50b62baf6da09dfce435dc250e573d9d2b163e2faca9784070f", ""}

// credentials are those of the vector's signatures.
func (v vector) credentials() []credentials {
	session := vectorCreds
	session.sessionToken = vectorToken
	return []credentials{vectorCreds, session}
}

// authorization is the object that authorises the vector's operation on a WebSocket.
func (v vector) authorization(c credentials) map[string]string {
	object := map[string]string{
		"accept":           "application/json, text/javascript",
		"content-encoding": "amz-1.0",
		"content-type":     "application/json; charset=UTF-8",
		"host":             v.host,
		"x-amz-date":       vectorAmzDate,
		"Authorization":    v.header("accept;content-encoding;content-type;host;x-amz-date", c),
	}
	if c.sessionToken != "" {
		object["X-Amz-Security-Token"] = c.sessionToken
	}
	return object
}

func (v vector) header(signed string, c credentials) string {
	signature := v.static
	if c.sessionToken != "" {
		signed, signature = signed+";x-amz-security-token", v.session
	}
	return "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/" + v.region +
		"/appsync/aws4_request, SignedHeaders=" + signed + ", Signature=" + signature
}

// onVectorDate runs a test at the time that the vectors were signed for.
func onVectorDate(t *testing.T, test func(*testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(vectorDate))
		test(t)
	})
}

func (v vector) api(ln *pipeListener, c credentials) *appsync {
	a := newTestAPI(ln)
	a.http.Scheme, a.http.Host, a.region = "http", v.host+":8443", v.region // the port is not signed
	a.credentials = func(context.Context) (credentials, error) { return c, nil }
	return a
}

func TestAuthorizeVectors(t *testing.T) {
	onVectorDate(t, func(t *testing.T) {
		for _, v := range slices.Concat(webSocketVectors, graphqlVectors, otherVectors[:1]) {
			for _, c := range v.credentials() {
				got, err := v.api(nil, c).authorize(
					t.Context(), cmp.Or(v.path, "/event"), []byte(v.body), true)
				if want := v.authorization(c); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %v, %v; want %v", v.name, got, err, want)
				}
			}
		}
	})
}

func TestAuthorizationSignsTheHeadersGiven(t *testing.T) {
	v := otherVectors[1]
	for _, c := range v.credentials() {
		headers := map[string]string{"accept": "application/json, text/javascript",
			"content-encoding": "amz-1.0", "content-length": "2",
			"content-type": "application/json; charset=UTF-8", "host": v.host,
			"x-amz-date": vectorAmzDate}
		if c.sessionToken != "" {
			headers["x-amz-security-token"] = c.sessionToken
		}
		got := c.authorization(v.region, vectorAmzDate, "/event", headers, []byte(v.body))
		if want := v.header(
			"accept;content-encoding;content-length;content-type;host;x-amz-date", c); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}

// What goes out on a WebSocket is signed as the vectors are: the handshake's sub-protocol and both
// operations.
func TestSessionVectors(t *testing.T) {
	onVectorDate(t, func(t *testing.T) {
		for _, c := range webSocketVectors[0].credentials() {
			ln := newPipeListener("example.com")
			s, p := connectSession(t, ln, webSocketVectors[0].api(ln, c))
			offered := strings.Split(p.request.Header.Get("Sec-WebSocket-Protocol"), ", ")
			if len(offered) != 2 || offered[0] != "aws-appsync-event-ws" {
				t.Fatalf("sub-protocols %q", offered)
			}
			encoded, _ := strings.CutPrefix(offered[1], "header-")
			raw, err := base64.RawURLEncoding.DecodeString(encoded)
			if got, want := jsonStrings(t, raw),
				webSocketVectors[0].authorization(c); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("connect: got %v, %v; want %v", got, err, want)
			}
			for _, v := range webSocketVectors[2:] {
				var body clientMessage
				if err := json.Unmarshal([]byte(v.body), &body); err != nil {
					t.Fatal(err)
				}
				done := async(func() (bool, error) {
					if body.Events == nil {
						return true, s.subscribe(t.Context(), ackTimeout, body.Channel, func(string) {})
					}
					return true, s.publish(t.Context(), body.Channel, asBytes(body.Events), true)
				})
				m := p.operation(strings.Fields(v.name)[0])
				if !reflect.DeepEqual(m.Authorization, v.authorization(c)) || m.Channel != body.Channel ||
					!slices.Equal(m.Events, body.Events) {
					t.Errorf("%s: got %+v", v.name, m)
				}
				p.say(`{"type":"%s_success","id":"%s"}`, m.Type, m.ID)
				if r := <-done; r.err != nil {
					t.Error(r.err)
				}
			}
		}
	})
}

func TestPublishHTTPSVectors(t *testing.T) {
	onVectorDate(t, func(t *testing.T) {
		for _, c := range httpVector.credentials() {
			ln := newPipeListener("example.com")
			a := httpVector.api(ln, c)
			done := async(func() (bool, error) {
				return true, a.publishHTTPS(t.Context(), ackTimeout, []byte(httpVector.body))
			})
			p := acceptPeer(t, ln)
			body, err := io.ReadAll(p.request.Body)
			if err != nil || string(body) != httpVector.body {
				t.Errorf("body %s, %v", body, err)
			}
			h := p.request.Header
			got := []string{
				p.request.Method, p.request.RequestURI, p.request.Host, h.Get("Content-Type"),
				h.Get("X-Amz-Date"), h.Get("X-Amz-Security-Token"), h.Get("Authorization")}
			want := []string{
				"POST", "/event", vectorHost, "application/json", vectorAmzDate, c.sessionToken,
				httpVector.header("content-type;host;x-amz-date", c)}
			if !slices.Equal(got, want) {
				t.Errorf("got %q\nwant %q", got, want)
			}
			p.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 29\r\n\r\n" +
				`{"successful":[],"failed":[]}`)
			if r := <-done; r.err != nil {
				t.Error(r.err)
			}
		}
	})
}

func TestAuthorizeAPIKey(t *testing.T) {
	a := newTestAPI(nil)
	a.http.Host, a.apiKey = vectorHost+":443", "da2-key"
	got, err := a.authorize(t.Context(), "/event", []byte("{}"), true)
	// what AWS's page lists, and nothing else
	if want := map[string]string{"host": vectorHost, "x-api-key": "da2-key"}; err != nil ||
		!maps.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}

// Credentials are read at every signing.
func TestAuthorizeReadsCredentials(t *testing.T) {
	a := newTestAPI(nil)
	n := 0
	a.credentials = func(context.Context) (credentials, error) {
		if n++; n == 3 {
			return credentials{}, errors.New("the endpoint is gone")
		}
		return credentials{fmt.Sprint("AKID", n), "s", ""}, nil
	}
	for _, want := range []string{"AKID1", "AKID2", ""} {
		object, err := a.authorize(t.Context(), "/event", []byte("{}"), true)
		if want == "" {
			if err == nil || err.Error() != "read AWS credentials: the endpoint is gone" {
				t.Errorf("error %v", err)
			}
		} else if got := object["Authorization"]; err != nil ||
			!strings.Contains(got, "Credential="+want+"/") {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
}

// FuzzAuthorization: the canonical form never panics, the same input has the same signature, and any change
// another.
func FuzzAuthorization(f *testing.F) {
	f.Add("AKIDEXAMPLE", "secret", "us-east-1", vectorAmzDate, "/event", "host", "example.com", []byte("{}"))
	f.Add("", "", "", "", "", "", "", []byte(nil))
	f.Add("a\nb", "\xff", "ü", "2015", "/ event?\n", ":", "a\r\nb: c", []byte{0})
	f.Fuzz(func(t *testing.T, key, secret, region, date, path, name, value string, body []byte) {
		c := credentials{key, secret, ""}
		headers := map[string]string{name: value}
		got := c.authorization(region, date, path, headers, body)
		if again := c.authorization(region, date, path, headers, body); got != again {
			t.Errorf("%q, then %q", got, again)
		}
		signature := got[strings.LastIndex(got, "=")+1:]
		if !strings.HasPrefix(got, "AWS4-HMAC-SHA256 Credential="+key+"/") || len(signature) != 64 ||
			strings.Trim(signature, "0123456789abcdef") != "" {
			t.Errorf("got %q", got)
		}
		for i, other := range []string{
			c.authorization(region, date, path, headers, append(slices.Clone(body), 'x')),
			c.authorization(region, date, path, map[string]string{name: value + "x"}, body),
			c.authorization(region, date, path+"x", headers, body),
			c.authorization(region+"x", date, path, headers, body),
			credentials{key, secret + "x", ""}.authorization(region, date, path, headers, body),
		} {
			if strings.HasSuffix(other, signature) {
				t.Errorf("change %d has the same signature", i)
			}
		}
	})
}

// ---- appsync.go: JSON that every serialiser writes alike ----

func TestASCIIJSON(t *testing.T) {
	tests := []struct{ in, want string }{
		{`{}`, `{}`}, {`[]`, `[]`}, {`""`, `""`}, {`null`, `null`}, {`[{},[],{"":{}}]`, `[{},[],{"":{}}]`},
		{" \t\r\n{ \"a\" :\n[ 1 ,\t2 ] } ", `{"a":[1,2]}`},
		{`"a b  c"`, `"a b  c"`},
		{`{"z":1,"a":2,"z":3}`, `{"z":1,"a":2,"z":3}`},
		{`[12345678901234567890123,1.10,-0.0,1e400,1E+2,0.1000]`,
			`[12345678901234567890123,1.10,-0.0,1e400,1E+2,0.1000]`},
		{`"\u00fc\u00FC\/\"\\\b\f\n\r\t"`, `"\u00fc\u00FC\/\"\\\b\f\n\r\t"`},
		{`"\\u003c\\"`, `"\\u003c\\"`},
		{`"ü€"`, `"\u00fc\u20ac"`},
		{`{"ä":"ö"}`, `{"\u00e4":"\u00f6"}`},
		{`"😀"`, `"\ud83d\ude00"`}, {`"😀"`, `"\ud83d\ude00"`},
		{"\"\U0010ffff\U00010000\"", `"\udbff\udfff\ud800\udc00"`},
		{`"\ud83d"`, `"\ud83d"`}, {`"\ude00\ud83d x"`, `"\ude00\ud83d x"`},
		{"\"\ufffd\uffff\"", `"\ufffd\uffff"`},
		{`"<script>a&b='c'</script>"`, `"\u003cscript\u003ea\u0026b\u003d\u0027c\u0027\u003c/script\u003e"`},
		{"\"\u2028\u2029\x7f\u0080\ufeff\"", `"\u2028\u2029\u007f\u0080\ufeff"`},
		{`"!#$%()*+,-./:;?@[]^_` + "`" + `{|}~"`, `"!#$%()*+,-./:;?@[]^_` + "`" + `{|}~"`},
	}
	for _, test := range tests {
		got := string(asciiJSON([]byte(test.in)))
		if got != test.want {
			t.Errorf("%s: got %s, want %s", test.in, got, test.want)
		}
		checkASCIIJSON(t, []byte(test.in))
	}
}

func FuzzASCIIJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,2.50,-0,1e400,true,null],"a":"\ud83d<ü\u2028\\\""}`, ` "😀" `, `"\\\""`, "\"\x7f\"",
		`[[[[]]]]`, `"\u005c"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if json.Valid(in) && utf8.Valid(in) {
			checkASCIIJSON(t, in)
		}
	})
}

// checkASCIIJSON checks what asciiJSON makes of valid JSON: the same tokens, in plain characters alone.
func checkASCIIJSON(t *testing.T, in []byte) {
	t.Helper()
	out := asciiJSON(in)
	checkPlain(t, out)
	if got, want := jsonTokens(t, out), jsonTokens(t, in); !slices.Equal(got, want) {
		t.Errorf("%q became %q: tokens %q, want %q", in, out, got, want)
	}
	if again := asciiJSON(out); !bytes.Equal(again, out) {
		t.Errorf("%q, the second time %q", out, again)
	}
}

// checkPlain checks that an event has no characters that serialisers write differently.
func checkPlain(t *testing.T, event []byte) {
	t.Helper()
	for b := range 256 {
		if b < ' ' || b > '~' || strings.IndexByte("<>&='", byte(b)) >= 0 {
			if i := bytes.IndexByte(event, byte(b)); i >= 0 {
				t.Fatalf("byte %d of an event is %#x", i, b)
			}
		}
	}
	if len(event) > maxEvent/2 { // the rest takes long, and is the same for small ones
		return
	}
	if !json.Valid(event) {
		t.Fatalf("an event of %d bytes is not JSON", len(event))
	}
	quoted, err := json.Marshal(string(event))
	if err != nil || len(quoted) != escapedLen(event) {
		t.Fatalf("%v; %d bytes escaped, counted %d", err, len(quoted), escapedLen(event))
	}
}

// jsonTokens lists the tokens of a JSON text.
func jsonTokens(t *testing.T, in []byte) (tokens []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(in))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err == io.EOF {
			return tokens
		}
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		tokens = append(tokens, fmt.Sprintf("%T %v", token, token))
	}
}

// ---- appsync.go: publishes ----

func TestPublishesGroup(t *testing.T) {
	for n := range 12 {
		var events []string
		for i := range n {
			events = append(events, fmt.Sprintf(`{"n":%d}`, i))
		}
		var got []string
		var groups []int
		for body := range newTestAPI(nil).publishes("/live-lambda/a", asBytes(events)) {
			m := publishBody(t, body, "/live-lambda/a")
			groups = append(groups, len(m))
			got = append(got, m...)
		}
		want := slices.Repeat([]int{5}, n/5)
		if n%5 > 0 {
			want = append(want, n%5)
		}
		if !slices.Equal(groups, want) || !slices.Equal(got, events) {
			t.Errorf("%d events: groups %v, want %v; events %q", n, groups, want, got)
		}
	}
}

func TestPublishesStop(t *testing.T) {
	for range newTestAPI(nil).publishes("/a/b", asBytes(slices.Repeat([]string{"1"}, 11))) {
		break // a publish that fails asks for no more
	}
}

func TestPublishesSize(t *testing.T) {
	const channel = "/live-lambda/a"
	// Five events: four of 228,000 bytes as they are escaped, and one that brings them and what precedes it
	// to total bytes.
	five := func(total int) []string {
		before := len(`{"channel":"","events":[`) + len(channel) + 4*228_000 + len(`,,,,`)
		return append(slices.Repeat([]string{eventOf(228_000)}, 4), eventOf(total-before))
	}
	tests := []struct {
		name   string
		events []string
		want   []int
	}{
		{"limit-1", five(maxPublish - 1), []int{5}},
		{"limit", five(maxPublish), []int{5}},
		{"limit+1", five(maxPublish + 1), []int{4, 1}},
		{"five of the largest events", slices.Repeat([]string{eventOf(maxEvent)}, 6), []int{4, 2}},
		{"quotes count twice", slices.Repeat([]string{`"` + strings.Repeat(`\"`, 57_499) + `x"`}, 6),
			[]int{4, 2}},
	}
	for _, test := range tests {
		var got []int
		for body := range newTestAPI(nil).publishes(channel, asBytes(test.events)) {
			got = append(got, len(publishBody(t, body, channel)))
			if len(body) > maxPublish+len(`]}`) {
				t.Errorf("%s: a body of %d bytes", test.name, len(body))
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: groups %v, want %v", test.name, got, test.want)
		}
	}
}

// The whole message stays below AppSync's limit, with the longest session token and channel too.
func TestPublishFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		a := newTestAPI(ln)
		a.credentials = func(context.Context) (credentials, error) {
			return credentials{"AKIDEXAMPLE", "secret", strings.Repeat("t", 4096)}, nil
		}
		s, p := connectSession(t, ln, a)
		channel := "/live-lambda" + strings.Repeat("/"+strings.Repeat("c", 50), 4)
		events := slices.Repeat([]string{eventOf((maxPublish - 300) / 5)}, 5)
		done := async(func() (bool, error) {
			return true, s.publish(t.Context(), channel, asBytes(events), true)
		})
		_, frame := p.read()
		if len(frame) > 1_150_000 || len(frame) < maxPublish-300 {
			t.Errorf("a frame of %d bytes", len(frame))
		}
		var m clientMessage
		if err := json.Unmarshal([]byte(frame), &m); err != nil || len(m.Events) != 5 ||
			m.Channel != channel {
			t.Errorf("%d events to %q, %v", len(m.Events), m.Channel, err)
		}
		p.say(`{"type":"publish_success","id":"%s"}`, m.ID)
		if r := <-done; r.err != nil {
			t.Error(r.err)
		}
	})
}

// eventOf is an event of size bytes as it is escaped in a publish.
func eventOf(size int) string { return `"` + strings.Repeat("x", size-6) + `"` }

func publishBody(t *testing.T, body []byte, channel string) []string {
	t.Helper()
	var m struct {
		Channel string
		Events  []string
	}
	if err := json.Unmarshal(body, &m); err != nil || m.Channel != channel {
		t.Fatalf("%d bytes for %q: %v", len(body), m.Channel, err)
	}
	// compact, nothing else in it
	if want, _ := json.Marshal(map[string]any{"channel": channel, "events": m.Events}); !bytes.Equal(
		body, want) {
		t.Fatalf("a body of %d bytes, want %d", len(body), len(want))
	}
	return m.Events
}

// ---- appsync.go: parts ----

func TestSplitAndJoin(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, maxPayload)
	random.Read(noise)
	text := bytes.Repeat([]byte(`{"name":"value <&> ü","n":12345678901234567890},`), maxPayload/40)
	for _, size := range []int{
		0, 1, 2, partData - 1, partData, partData + 1, 5 * partData, 5*partData + 1,
		gzipAbove - 1, gzipAbove, gzipAbove + 1, maxEvent - 1, maxEvent, maxEvent + 1,
		maxPayload,
	} {
		for name, content := range map[string][]byte{"noise": noise[:size], "text": text[:size]} {
			if name == "text" && size > maxEvent+1 && size != maxPayload {
				continue
			}
			body, encoding := compress(content[:size])
			if (encoding == "gzip") != (size > gzipAbove) {
				t.Errorf("%d bytes have encoding %q", size, encoding)
			}
			p := part{Type: "response", RequestID: "0123456789abcdef01234567/18446744073709551615",
				Encoding: encoding, Sender: "0123456789abcdef",
				Headers: map[string]string{"Content-Type": "application/json"}}
			var parts []*part
			for event := range p.split(body) {
				parts = append(parts, checkPart(t, event))
			}
			if want := max(1, (len(body)+partData-1)/partData); len(parts) != want {
				t.Errorf("%d bytes of %s: %d parts, want %d", size, name, len(parts), want)
			}
			for order, parts := range orders(parts) {
				got, first := joinParts(t, parts)
				if !bytes.Equal(got, content) || first.Headers["Content-Type"] != "application/json" {
					t.Errorf("%d bytes of %s, %s: got %d others, headers %v", size, name, order, len(got),
						first.Headers)
				}
			}
		}
	}
}

// checkPart checks the event of a part, which must be within the limits, and parses it.
func checkPart(t *testing.T, event []byte) *part {
	t.Helper()
	if escapedLen(event) > maxEvent {
		t.Fatalf("an event of %d bytes", escapedLen(event))
	}
	checkPlain(t, event)
	p, err := parsePart(string(event))
	if p == nil || err != nil {
		t.Fatalf("an event of %d bytes: %v, %v", len(event), p, err)
	}
	return p
}

// orders is the parts shuffled, with each twice, and where they are few backwards too.
func orders(parts []*part) iter.Seq2[string, []*part] {
	return func(yield func(string, []*part) bool) {
		backwards, twice := slices.Clone(parts), slices.Concat(parts, parts)
		slices.Reverse(backwards)
		r := rand.New(rand.NewPCG(1, uint64(len(parts))))
		r.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
		_ = yield("shuffled, twice", twice) && len(parts) < 10 && yield("backwards", backwards)
	}
}

// joinParts joins the parts of one message, as they come.
func joinParts(t *testing.T, parts []*part) ([]byte, *part) {
	t.Helper()
	j := newJoiner(maxPayload + maxEvent)
	if j.complete() {
		t.Error("complete before the first part")
	}
	seen := map[int]bool{}
	for _, p := range parts {
		if err := j.add(p); err != nil {
			t.Fatalf("part %d: %v", p.Index, err)
		}
		seen[p.Index] = true
		if all := j.last >= 0 && len(seen) == j.last+1; j.complete() != all {
			t.Fatalf("complete is %v after %d parts of %d", j.complete(), len(seen), j.last+1)
		}
	}
	body, err := j.message(maxPayload)
	if err != nil {
		t.Fatal(err)
	}
	return body, j.first
}

func TestSplitStops(t *testing.T) {
	for range (part{Type: "response"}).split(make([]byte, 5*partData)) {
		break
	}
}

func TestPartEvents(t *testing.T) {
	tests := []struct {
		event []byte
		want  string
	}{
		{part{Type: "accepted", RequestID: "l/1", Sender: "s"}.event(),
			`{"live_lambda":1,"type":"accepted","request_id":"l/1","index":0,"last":true,"sender":"s"}`},
		{part{Type: "done", RequestID: "l/1", Outcome: "answered"}.event(),
			`{"live_lambda":1,"type":"done","request_id":"l/1","index":0,"last":true,"outcome":"answered"}`},
		{part{Type: "response", RequestID: "l/1", Headers: map[string]string{"Content-Type": "a<b"}}.encode(
			[]byte{0xff, 0xef}),
			`{"live_lambda":1,"type":"response","request_id":"l/1","index":0,"last":false,` +
				`"headers":{"Content-Type":"a\u003cb"},"data":"_-8"}`},
		{part{Type: "response", RequestID: "l/1", Index: 2, Last: true, Trailers: map[string]string{"T": "'"},
			Data: "x"}.encode(nil),
			`{"live_lambda":1,"type":"response","request_id":"l/1","index":2,"last":true,` +
				`"trailers":{"T":"\u0027"}}`},
		{part{Type: "error", RequestID: "l/1", Encoding: "gzip", ErrorType: "ü", XRayCause: "\x00\xff"}.
			encode([]byte("a")),
			`{"live_lambda":1,"type":"error","request_id":"l/1","index":0,"last":false,"encoding":"gzip",` +
				`"error_type":"\u00fc","xray_cause":"\u0000\ufffd","data":"YQ"}`},
	}
	for _, test := range tests {
		if string(test.event) != test.want {
			t.Errorf("got %s\nwant %s", test.event, test.want)
		}
		checkPlain(t, test.event)
	}
}

func TestParsePart(t *testing.T) {
	for _, bare := range []string{
		"", "null", "true", "0", "1", `"x"`, `"live_lambda"`, `"\"live_lambda\":1"`, "[]",
		`[{"live_lambda":1}]`, "{}", `{"a":1}`, "{", "not JSON",
		`{"live_lambda":2}`, `{"live_lambda":"1"}`, `{"live_lambda":1.0}`, `{"live_lambda":10}`,
		`{"live_lambda":null}`, `{"live_lambda":[1]}`, `{"live_lambda":true}`,
		`{"LIVE_LAMBDA":1}`, `{"Live_Lambda":1,"type":"response"}`, `{"a":{"live_lambda":1}}`,
		`{"live_lambda ":1}`, `{"live_lambda":1`, `{"live_lambda":1}}`, `{"live_lambda":1,"live_lambda":2}`,
		"{\"live_lambda\":1,\"a\":\"\xff\"", strings.Repeat("[", 20_000),
	} {
		if p, err := parsePart(bare); p != nil || err != nil {
			t.Errorf("%.50q: got %+v, %v; want a bare result", bare, p, err)
		}
	}
	for _, bad := range []string{
		`{"live_lambda":1,"type":7}`, `{"live_lambda":1,"request_id":{}}`, `{"live_lambda":1,"index":"0"}`,
		`{"live_lambda":1,"index":0.5}`, `{"live_lambda":1,"index":1e300}`,
		`{"live_lambda":1,"index":-1}`, `{"live_lambda":1,"index":1048576}`,
		`{"live_lambda":1,"index":9223372036854775807}`, `{"live_lambda":1,"index":9223372036854775808}`,
		`{"live_lambda":1,"last":"true"}`, `{"live_lambda":1,"last":1}`, `{"live_lambda":1,"headers":[]}`,
		`{"live_lambda":1,"headers":{"a":1}}`, `{"live_lambda":1,"trailers":"x"}`,
		`{"live_lambda":1,"encoding":"br"}`, `{"live_lambda":1,"encoding":"GZIP"}`,
		`{"live_lambda":1,"data":"YQ=="}`, `{"live_lambda":1,"data":"+/"}`, `{"live_lambda":1,"data":"a"}`,
		`{"live_lambda":1,"data":"YR"}`, `{"live_lambda":1,"data":7}`, `{"type":[],"live_lambda":1}`,
	} {
		if p, err := parsePart(bad); p == nil || err == nil || len(err.Error()) > 100 {
			t.Errorf("%s: got %+v, %v; want an error", bad, p, err)
		}
	}
	// A wrong field does not hide whose message it is.
	if p, err := parsePart(
		`{"live_lambda":1,"index":"x","type":"response","request_id":"l/1"}`); err == nil || p == nil ||
		p.RequestID != "l/1" || p.Type != "response" {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, good := range []string{
		`{"live_lambda":1}`, ` {"live_lambda" : 1 , "type" : null } `,
		`{"type":"accepted","live_lambda":1,"unknown":{"a":[1]}}`,
		`{"live_lambda":1,"index":1048575,"last":true}`,
		`{"live_lambda":1,"data":""}`, `{"live_lambda":1,"encoding":"gzip","data":"YQ"}`,
		`{"live_lambda":1,"headers":null}`,
	} {
		if p, err := parsePart(good); p == nil || err != nil || p.Data != "" {
			t.Errorf("%s: got %+v, %v; want a part", good, p, err)
		}
	}
}

func TestJoinerRefuses(t *testing.T) {
	p := func(index int, last bool) *part {
		return &part{Type: "response", Index: index, Last: last, data: []byte("x")}
	}
	with := func(q *part, change func(*part)) *part { change(q); return q }
	tests := []struct {
		name string
		had  []*part
		then *part
		want string // "": taken, or dropped without a word
	}{
		{"another type", []*part{p(0, false)}, with(p(1, true), func(p *part) { p.Type = "error" }),
			"it contradicts"},
		{"another encoding", []*part{p(1, true)}, with(p(0, false), func(p *part) { p.Encoding = "gzip" }),
			"it contradicts"},
		{"it contradicts", []*part{p(2, true)}, p(3, false), "it contradicts"},
		{"a second last beyond", []*part{p(2, true)}, p(3, true), "it contradicts"},
		{"a second last before", []*part{p(2, true)}, p(1, true), "it contradicts"},
		{"a last before another", []*part{p(2, false)}, p(1, true), "it contradicts"},
		{"a duplicate", []*part{p(1, false)}, p(1, false), ""},
		{"a duplicate that says it is the last", []*part{p(1, false)}, p(1, true), ""},
		{"the last again", []*part{p(1, true)}, p(1, true), ""},
		{"another index", []*part{p(1, true)}, p(0, false), ""},
	}
	for _, test := range tests {
		j := newJoiner(1 << 20)
		for _, q := range test.had {
			if err := j.add(q); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		size, waiting := j.size, len(j.waiting)
		err := j.add(test.then)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
		if err != nil && (j.size != size || len(j.waiting) != waiting) {
			t.Errorf("%s: it was kept", test.name)
		}
	}
}

// Parts that wait for an earlier one stay within the limit; the one that is next always has a place.
func TestJoinerLimit(t *testing.T) {
	j := newJoiner(10_000)
	data := make([]byte, 2000)
	kept := 0
	for index := 1; index < 100; index++ {
		err := j.add(&part{Index: index, data: data})
		if err == nil {
			kept++
		} else if !errors.Is(err, errTooBig) {
			t.Fatal(err)
		}
		if j.size > j.limit {
			t.Fatalf("%d bytes wait", j.size)
		}
	}
	if kept != 3 {
		t.Errorf("%d parts wait, want 3", kept)
	}
	if err := j.add(&part{Index: 0, data: make([]byte, 20_000)}); err != nil {
		t.Errorf("the next part: %v", err)
	}
	if read, err := io.ReadAll(j); err != errMissing || len(read) != 26_000 || j.size != 0 || j.complete() {
		t.Errorf("read %d bytes, %v; %d wait, complete %v", len(read), err, j.size, j.complete())
	}
	if err := j.add(&part{Index: 2, data: data}); err != nil || j.size != 0 {
		t.Errorf("a part that was read: %v, %d bytes", err, j.size)
	}
	if err := j.add(&part{Index: 4, Last: true}); err != nil || !j.complete() {
		t.Errorf("the last part: %v, complete %v", err, j.complete())
	}
	if read, err := io.ReadAll(j); err != nil || len(read) != 0 {
		t.Errorf("the last part: %d bytes, %v", len(read), err)
	}
}

// Of a part that waits nothing is kept but its data: what else it may hold is in no limit.
func TestJoinerKeepsDataAlone(t *testing.T) {
	before := heap()
	j := newJoiner(maxPayload)
	long := strings.Repeat("x", 100<<10)
	for index := range 100 {
		p, err := parsePart(
			string(part{
				Type: "response", Index: index, Headers: map[string]string{"Content-Type": long},
				ErrorType: long}.encode([]byte("x"))))
		if err != nil {
			t.Fatal(err)
		}
		if err := j.add(p); err != nil {
			t.Fatal(err)
		}
	}
	if got := int64(heap() - before); got > 4<<20 {
		t.Errorf("100 parts of 200 KB keep %d bytes", got)
	}
	if body, err := io.ReadAll(j); len(body) != 100 || j.first.ErrorType != long {
		t.Errorf("read %d bytes, %v", len(body), err)
	}
}

// Lambda's limit counts what a message is when it is joined and decompressed.
func TestJoinLimit(t *testing.T) {
	content := make([]byte, maxPayload+1)
	for _, size := range []int{0, 1, maxPayload - 1, maxPayload, maxPayload + 1} {
		for encoding, data := range map[string][]byte{
			"": content[:size], "gzip": gzipTimes(content[:size], 1)} {
			j := newJoiner(maxPayload)
			if err := j.add(&part{Encoding: encoding, Last: true, data: data}); err != nil {
				t.Fatal(err)
			}
			if body, err := j.message(maxPayload); errors.Is(err, errTooBig) != (size > maxPayload) ||
				err == nil && len(body) != size {
				t.Errorf("%d bytes %s: got %d, %v", size, encoding, len(body), err)
			}
		}
	}
}

func TestJoinBroken(t *testing.T) {
	gz := func(content []byte) []byte { return gzipTimes(content, 1) }
	noise := make([]byte, 1000)
	rand.NewChaCha8([32]byte{3}).Read(noise)
	whole := gz(noise)
	flipped := slices.Clone(whole)
	flipped[len(flipped)-8] ^= 1 // of the checksum
	for name, data := range map[string][]byte{
		"empty": {}, "no gzip": []byte("hello"), "header only": whole[:10], "cut off": whole[:len(whole)/2],
		"no checksum":    whole[:len(whole)-8],
		"wrong checksum": flipped, "rubbish behind": slices.Concat(whole, []byte("rubbish")),
	} {
		j := newJoiner(1 << 20)
		if err := j.add(&part{Encoding: "gzip", Last: true, data: data}); err != nil {
			t.Fatal(err)
		}
		if body, err := j.message(maxPayload); err == nil || errors.Is(err, errTooBig) {
			t.Errorf("%s: %d bytes, %v", name, len(body), err)
		}
	}
}

// A gzip bomb costs no more than what it may become.
func TestJoinBomb(t *testing.T) {
	bomb := gzipTimes(make([]byte, 1<<20), 32)
	lies := slices.Clone(bomb)
	binary.LittleEndian.PutUint32(lies[len(lies)-4:], 1) // of its length
	for name, data := range map[string][]byte{"bomb": bomb, "a bomb that lies": lies} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		j := newJoiner(maxPayload)
		if err := j.add(&part{Encoding: "gzip", Last: true, data: data}); err != nil {
			t.Fatal(err)
		}
		if body, err := j.message(maxPayload); !errors.Is(err, errTooBig) || len(body) > maxPayload+1 {
			t.Errorf("%s: %d bytes, %v", name, len(body), err)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 8*maxPayload {
			t.Errorf("%s: %d bytes of gzip took %d bytes of memory", name, len(bomb), got)
		}
	}
}

// gzipTimes is content, so many times.
func gzipTimes(content []byte, times int) []byte {
	var buf bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	for range times {
		zw.Write(content)
	}
	zw.Close()
	return buf.Bytes()
}

// FuzzParts: whatever arrives, parsing and joining stay within their limits and agree with each other. The
// lines of the input are events.
func FuzzParts(f *testing.F) {
	events := func(p part, body []byte) (lines string) {
		for event := range p.split(body) {
			lines = string(event) + "\n" + lines // the last comes first
		}
		return lines
	}
	f.Add(events(
		part{Type: "response", RequestID: "l/1", Headers: map[string]string{"Content-Type": "text/plain"}},
		[]byte("hello")))
	f.Add(events(part{Type: "error", Encoding: "gzip", ErrorType: "T"}, gzipTimes([]byte("hello"), 3)))
	f.Add(string(part{Type: "response", Index: 1, Last: true}.encode([]byte("b"))) + "\n" +
		string(part{Type: "response"}.encode([]byte("a"))))
	f.Add(`{"live_lambda":1,"index":1048575,"last":true}` + "\n" + `{"live_lambda":1,"index":1048575}` +
		"\n" + `{"live_lambda":1,"index":0}`)
	f.Add(`{"live_lambda":1,"index":2}` + "\n" + `{"live_lambda":1,"index":1,"last":true}`)
	f.Add(`{"live_lambda":1,"data":"YQ","encoding":"gzip","last":true}` + "\n" + `[{"live_lambda":1}]` +
		"\n" + `{"live_lambda":2}`)
	f.Fuzz(func(t *testing.T, lines string) {
		j := newJoiner(4096)
		for line := range strings.Lines(lines) {
			p, err := parsePart(line)
			switch {
			case p == nil && err != nil:
				t.Fatalf("an error of a bare result: %v", err)
			case p == nil:
			case err == nil:
				if p.Index < 0 || p.Index >= 1<<20 || len(p.data) > len(line) {
					t.Fatalf("%q was parsed as %+v", line, p)
				}
				checkPlain(t, p.encode(p.data))
				if again, err := parsePart(string(p.encode(p.data))); err != nil ||
					!bytes.Equal(again.data, p.data) || again.Index != p.Index || again.Last != p.Last {
					t.Fatalf("%q was encoded, then parsed as %+v, %v", line, again, err)
				}
				j.add(p)
			}
			size := 0
			for index, data := range j.waiting {
				size += len(data) + partOverhead
				if index < j.next || j.last >= 0 && index > j.last {
					t.Fatalf("part %d waits, of %d to %d", index, j.next, j.last)
				}
			}
			if size != j.size || size > j.limit+len(line)+partOverhead {
				t.Fatalf("%d bytes wait, counted %d", size, j.size)
			}
		}
		if !j.complete() {
			return
		}
		if body, err := j.message(maxPayload); err == nil && len(body) > maxPayload {
			t.Fatalf("joined %d bytes", len(body))
		}
	})
}

// Only the exact key makes a message of version 1, whatever else a result holds.
func TestParsePartOtherCase(t *testing.T) {
	for _, bare := range []string{
		`{"a":{"live_lambda":1},"LIVE_LAMBDA":1}`, `{"LIVE_LAMBDA":1,"x":["live_lambda"]}`} {
		if p, err := parsePart(bare); p != nil || err != nil {
			t.Errorf("%s: %+v, %v", bare, p, err)
		}
	}
}

// ---- appsync.go: one session ----

func TestConnect(t *testing.T) {
	const foreign = `{"type":"connection_error","errors":[{"errorType":"%s","message":"%s"}]}`
	tests := []struct {
		name string
		says []string // after connection_init; the last is followed by silence
		then string   // "close", "cut": what the server does then
		err  string
		no   bool // AppSync lets this end not in: nothing to try again soon
	}{
		{name: "ack", says: []string{`{"type":"connection_ack","connectionTimeoutMs":300000}`}},
		{name: "ack behind others",
			says: []string{
				`{"type":"ka"}`, `{"type":"frobnicate","id":"x"}`, `{"type":"data","id":"1","event":"1"}`,
				`{"type":"connection_ack"}`}},
		{name: "not JSON", says: []string{`not JSON`}, err: "invalid character"},
		{name: "unauthorized",
			says: []string{
				fmt.Sprintf(foreign, "UnauthorizedException", "You are not authorized to make this call.")},
			no: true,
			err: `AppSync refused to connect: UnauthorizedException "You are not authorized to make this ` +
				`call."; grant appsync:EventConnect on arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID, and ` +
				`check host, region, clock and key`},
		{name: "unauthorized, and closed",
			says: []string{fmt.Sprintf(foreign, "UnauthorizedException", "no")}, then: "close", no: true,
			err: "AppSync refused to connect: UnauthorizedException"},
		{name: "unauthorized, and cut off",
			says: []string{fmt.Sprintf(foreign, "UnauthorizedException", "no")}, then: "cut", no: true,
			err: "AppSync refused to connect: UnauthorizedException"},
		{name: "with an id",
			says: []string{
				`{"type":"connection_error","id":"7","errors":[{"errorType":"UnauthorizedException"}]}`},
			no: true, err: "AppSync refused to connect"},
		{name: "wrong signature",
			says: []string{
				fmt.Sprintf(
					foreign, "BadRequestException",
					`The request signature does not match.\nThe Canonical String should have `+
						`been\nx-amz-security-token:`+testToken)}, no: true,
			err: `BadRequestException "The request signature does not match."`},
		{name: "a long line",
			says: []string{fmt.Sprintf(foreign, "BadRequestException", strings.Repeat("m", 300)+testToken)},
			no:   true, err: `"` + strings.Repeat("m", 160) + `"`},
		{name: "no errors", says: []string{`{"type":"connection_error"}`},
			err: `AppSync failed to connect: no error type ""`},
		{name: "busy",
			says: []string{
				`{"type":"error","errors":[{"errorType":"LimitExceededError","message":"Rate limit ` +
					`exceeded"}]}`},
			err: `AppSync failed to connect: LimitExceededError "Rate limit exceeded"`},
		{name: "closed", then: "close", err: "the connection ended: EOF"},
		{name: "cut off", then: "cut", err: "the connection ended: EOF"},
		{name: "silence", err: "15s"},
		{name: "keep-alives alone", says: slices.Repeat([]string{`{"type":"ka"}`}, 10),
			err: "no connection_ack within 15s"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln, logs := newPipeListener("example.com"), new(logLines)
				a := newTestAPI(ln)
				a.log = logs.logger()
				done := async(func() (*session, error) { return a.connect(t.Context()) })
				p := acceptPeer(t, ln)
				p.upgrade("aws-appsync-event-ws")
				p.operation("connection_init")
				synctest.Wait()
				for _, m := range test.says {
					p.say("%s", m)
					if len(test.says) == 10 {
						time.Sleep(time.Second)
					}
				}
				switch test.then {
				case "close":
					// the client may have gone
					p.nc.Write(webSocketFrame(true, websocket.CloseFrame, []byte("\x03\xe9going away")))
				case "cut":
					p.nc.Close()
				}
				ended := async(func() (bool, error) { p.drain(); return true, nil })
				r := <-done
				if test.err == "" {
					if r.err != nil || (r.value.ctx.Err() != nil) {
						t.Fatalf("error %v", r.err)
					}
					r.value.conn.close()
				} else if r.err == nil || !strings.Contains(r.err.Error(), test.err) ||
					errors.Is(r.err, errRefused) != test.no {
					t.Errorf("error %v, refused %v; want %s, %v", r.err, errors.Is(r.err, errRefused),
						test.err, test.no)
				}
				if said := fmt.Sprint(r.err, logs); strings.Contains(said, testToken) ||
					strings.Contains(fmt.Sprint(r.err), "\n") {
					t.Errorf("told too much: %s", said)
				}
				<-ended // this end has left
			})
		})
	}
}

// Without a frame for so long that this end must have slept a session is of no more use; after
// connectionTimeoutMs the connection is dead.
func TestSessionKeepAlive(t *testing.T) {
	for ack, want := range map[string]time.Duration{
		`{"type":"connection_ack","connectionTimeoutMs":300000}`: 5 * time.Minute,
		`{"type":"connection_ack","connectionTimeoutMs":120000}`: 2 * time.Minute,
		`{"type":"connection_ack"}`:                              5 * time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener("example.com")
			s, p := connectSessionWith(t, ln, newTestAPI(ln), ack)
			for range 5 { // keep-alives keep it up
				time.Sleep(want - time.Second)
				p.say(`{"type":"ka"}`)
			}
			start := time.Now()
			time.Sleep(staleAfter)
			if s.spent() {
				t.Errorf("%s: spent after %v", ack, staleAfter)
			}
			if time.Sleep(time.Millisecond); !s.spent() {
				t.Errorf("%s: not spent after more than %v", ack, staleAfter)
			}
			if <-s.ctx.Done(); time.Since(start) != want ||
				context.Cause(s.ctx).Error() != "nothing received for "+want.String() {
				t.Errorf("%s: after %v: %v", ack, time.Since(start), context.Cause(s.ctx))
			}
		})
	}
}

func TestConnectFails(t *testing.T) {
	tests := []struct {
		answer, err string
		no          bool
	}{
		{"401 Unauthorized\r\n\r\n{\"message\":\"no\"}",
			`AppSync refused to connect: the server refuses the WebSocket: 401 Unauthorized ` +
				`"{\"message\":\"no\"}"; grant appsync:EventConnect`, true},
		{"403 Forbidden\r\n\r\n<html>",
			`AppSync refused to connect: the server refuses the WebSocket: 403 Forbidden "<html>"; grant`,
			true},
		{"401 Unauthorized\r\n\r\nno\nno",
			`AppSync refused to connect: the server refuses the WebSocket: 401 Unauthorized "no"; grant`,
			true},
		{"403 Forbidden\r\n\r\n" + strings.Repeat("x", 4000),
			`the server refuses the WebSocket: 403 Forbidden "` + strings.Repeat("x", 160) + `"; grant`,
			true},
		{"599 x\r\n\r\n", `AppSync failed to connect: the server refuses the WebSocket: 599  ""`, false},
		{"302 Found\r\nLocation: http://other/\r\n\r\n",
			`AppSync failed to connect: the server refuses the WebSocket: 302 Found ""`, false},
		{"101 Switching Protocols\r\n\r\n",
			`AppSync failed to connect: the server refuses the WebSocket: 101 Switching Protocols ""`,
			false},
		{"400 Bad Request\r\n\r\n",
			`AppSync refused to connect: the server refuses the WebSocket: 400 Bad Request`, true},
		{"404 Not Found\r\n\r\n",
			`AppSync failed to connect: the server refuses the WebSocket: 404 Not Found`, false},
		{"429 Too Many Requests\r\n\r\n", `the server refuses the WebSocket: 429 Too Many Requests`, false},
		{"503 Service Unavailable\r\n\r\nbusy",
			`the server refuses the WebSocket: 503 Service Unavailable "busy"`, false},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener("example.com")
			done := async(func() (*session, error) { return newTestAPI(ln).connect(t.Context()) })
			p := acceptPeer(t, ln)
			p.write("HTTP/1.1 " + strings.Replace(test.answer, "\r\n", "\r\nConnection: close\r\n", 1))
			p.nc.Close()
			if r := <-done; r.err == nil || !strings.Contains(r.err.Error(), test.err) ||
				errors.Is(r.err, errRefused) != test.no {
				t.Errorf("error %v, refused %v; want %s, %v", r.err, errors.Is(r.err, errRefused), test.err,
					test.no)
			}
		})
	}
	a := newTestAPI(nil)
	a.credentials = func(context.Context) (credentials, error) { return credentials{}, errors.New("none") }
	if _, err := a.connect(t.Context()); err == nil || err.Error() != "read AWS credentials: none" {
		t.Errorf("no credentials: %v", err)
	}
}

// The answers to a subscribe and to a publish.
func TestSessionOperations(t *testing.T) {
	const success = `{"type":"KIND_success","id":"ID"}`
	tests := []struct {
		name, kind string
		says       []string
		then, err  string
		no, over   bool // refused; the connection is over
	}{
		{name: "success", kind: "subscribe", says: []string{success}},
		{name: "success behind others", kind: "subscribe",
			says: []string{`{"type":"ka"}`, `{"type":"subscribe_success","id":"other"}`,
				`{"type":"data","id":"ID","event":"1"}`,
				`{"type":"broadcast_error","id":"ID","errors":[{"errorType":"MessageProcessingError",` +
					`"message":"m"}]}`, `{"type":"frobnicate"}`, success}},
		{name: "refused", kind: "subscribe",
			says: []string{
				`{"type":"subscribe_error","id":"ID","errors":[{"errorType":"UnauthorizedException",` +
					`"message":"no\n` + testToken + `"}]}`}, no: true,
			err: `AppSync refused to subscribe: UnauthorizedException "no"; grant appsync:EventSubscribe ` +
				`on arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID/channelNamespace/live-lambda, and`},
		{name: "too many", kind: "subscribe",
			says: []string{
				`{"type":"subscribe_error","id":"ID","errors":[{"errorType":"MaxSubscriptionsReachedError",` +
					`"message":"m"}]}`},
			err: `AppSync failed to subscribe: MaxSubscriptionsReachedError "m"`},
		{name: "no answer", kind: "subscribe", over: true, err: "no subscribe_success within 15s"},
		{name: "closed", kind: "subscribe", then: "close", over: true, err: "the connection ended: EOF"},

		{name: "success", kind: "publish",
			says: []string{
				`{"type":"publish_success","id":"ID",` +
					`"successful":[{"identifier":"u","index":0}],"failed":[]}`}},
		{name: "success twice", kind: "publish", says: []string{success, success}},
		{name: "refused", kind: "publish",
			says: []string{
				`{"type":"publish_error","id":"ID","errors":[{"errorType":"UnauthorizedException",` +
					`"message":"no"}]}`}, no: true,
			err: `AppSync refused to publish: UnauthorizedException "no"; grant appsync:EventPublish on ` +
				`arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID/channelNamespace/live-lambda, and`},
		{name: "busy", kind: "publish",
			says: []string{
				`{"type":"publish_error","id":"ID","errors":[{"errorType":"LimitExceededError",` +
					`"message":"Rate limit exceeded"}]}`},
			err: `AppSync failed to publish: LimitExceededError "Rate limit exceeded"`},
		{name: "malformed", kind: "publish",
			says: []string{
				`{"type":"error","id":"ID","errors":[{"errorType":"UnsupportedOperation","message":"m"}]}`},
			err: "UnsupportedOperation"},
		{name: "an event failed", kind: "publish",
			says: []string{
				`{"type":"publish_success","id":"ID","successful":[],"failed":[{"identifier":"u","index":0,` +
					`"code":"EventTooLargeException","message":"too large\n` + testToken + `"}]}`},
			err: `AppSync failed to publish: EventTooLargeException "too large"`},
		{name: "no answer", kind: "publish", over: true, err: "no publish_success within 2"},
		{name: "another's answer", kind: "publish",
			says: []string{
				`{"type":"publish_success","id":"999"}`, `{"type":"publish_success"}`,
				`{"type":"publish_success","id":7}`}, over: true, err: "no publish_success within 2"},
		{name: "cut off", kind: "publish", then: "cut", over: true, err: "the connection ended: EOF"},
	}
	for _, test := range tests {
		t.Run(test.kind+" "+test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln, logs := newPipeListener("example.com"), new(logLines)
				a := newTestAPI(ln)
				a.log = logs.logger()
				s, p := connectSession(t, ln, a)
				done := async(func() (bool, error) {
					if test.kind == "subscribe" {
						return true, s.subscribe(t.Context(), ackTimeout, "/live-lambda/a", func(string) {})
					}
					return true, s.publish(t.Context(), "/live-lambda/a", asBytes([]string{`"event"`}), true)
				})
				m := p.operation(test.kind)
				for _, says := range test.says {
					p.say("%s", strings.NewReplacer("KIND", test.kind, "ID", m.ID).Replace(says))
				}
				switch test.then {
				case "close":
					p.frame(true, websocket.CloseFrame, "\x03\xe9")
				case "cut":
					p.nc.Close()
				}
				r := <-done
				if (r.err == nil) != (test.err == "") ||
					r.err != nil && !strings.Contains(r.err.Error(), test.err) ||
					errors.Is(r.err, errRefused) != test.no {
					t.Errorf("error %v, refused %v; want %q, %v", r.err, errors.Is(r.err, errRefused),
						test.err, test.no)
				}
				synctest.Wait()
				if (s.ctx.Err() != nil) != test.over {
					t.Errorf("connection over: %v, want %v", (s.ctx.Err() != nil), test.over)
				}
				if said := fmt.Sprint(r.err, logs); strings.Contains(said, testToken) {
					t.Errorf("told too much: %s", said)
				}
			})
		})
	}
}

// Five groups go out before the first is answered; answers may come in any order, and the first error counts.
func TestPublishPipelined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		s, p := connectSession(t, ln, newTestAPI(ln))
		publish := func() chan asyncResult[bool] {
			return async(func() (bool, error) {
				return true,
					s.publish(t.Context(), "/live-lambda/a", asBytes(slices.Repeat([]string{"1"}, 11)), true)
			})
		}
		done := publish()
		ids := []string{p.operation("publish").ID, p.operation("publish").ID, p.operation("publish").ID}
		for _, id := range []string{ids[2], ids[0], ids[1]} {
			p.say(`{"type":"publish_success","id":"%s"}`, id)
		}
		if r := <-done; r.err != nil {
			t.Error(r.err)
		}
		done = publish()
		ids = append(ids, p.operation("publish").ID, p.operation("publish").ID, p.operation("publish").ID)
		p.say(`{"type":"publish_success","id":"%s"}`, ids[3])
		p.say(`{"type":"publish_error","id":"%s","errors":[{"errorType":"InvalidInputError"}]}`, ids[4])
		if r := <-done; r.err == nil || !strings.Contains(r.err.Error(), "InvalidInputError") {
			t.Error(r.err)
		}
		slices.Sort(ids)
		if len(slices.Compact(ids)) != 6 {
			t.Errorf("IDs %q are not all different", ids)
		}
	})
}

func TestSessionCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		s, p := connectSession(t, ln, newTestAPI(ln))
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("no more use for it")
		done := async(func() (bool, error) {
			return true, s.publish(ctx, "/live-lambda/a", asBytes([]string{"1"}), true)
		})
		m := p.operation("publish")
		cancel(why)
		if r := <-done; !errors.Is(r.err, why) {
			t.Error(r.err)
		}
		p.say(`{"type":"publish_success","id":"%s"}`, m.ID) // too late, and harmless
		synctest.Wait()
		s.mu.Lock()
		if len(s.waits) > 0 {
			t.Errorf("replies are waited for: %v", s.waits)
		}
		s.mu.Unlock()
		if s.ctx.Err() != nil {
			t.Errorf("connection over: %v", context.Cause(s.ctx))
		}
	})
}

func TestSessionData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, logs := newPipeListener("example.com"), new(logLines)
		a := newTestAPI(ln)
		a.log = logs.logger()
		s, p := connectSession(t, ln, a)
		got := make(chan string, 100)
		subscribe := func(name string) string {
			done := async(func() (bool, error) {
				return true, s.subscribe(t.Context(), ackTimeout, "/live-lambda/"+name, func(event string) {
					got <- name + " " + event
				})
			})
			m := p.operation("subscribe")
			p.say(`{"type":"subscribe_success","id":"%s"}`, m.ID)
			if r := <-done; r.err != nil || m.Channel != "/live-lambda/"+name {
				t.Fatal(m.Channel, r.err)
			}
			return m.ID
		}
		one, two := subscribe("one"), subscribe("two")
		tests := []struct{ say, want string }{
			{`{"type":"data","id":"` + one + `","event":"{\"a\":[1,\"ü\"]}"}`, `one {"a":[1,"ü"]}`},
			{`{"event":"2","id":"` + two + `","type":"data","more":{"a":[]}}`, "two 2"},
			{`{"type":"data","id":"` + one + `","event":["[3]"]}`, "one [3]"},
			{`{"type":"data","id":"` + one + `","event": [ "4" ] }`, "one 4"},
			{`{"type":"data","id":"` + one + `","event":["4","5"]}`, ""},
			{`{"type":"data","id":"` + one + `","event":[]}`, ""},
			{`{"type":"data","id":"` + one + `","event":{"marked":1}}`, ""},
			{`{"type":"data","id":"` + one + `","event":7}`, ""},
			{`{"type":"data","id":"` + one + `","event":["marked",7]}`, ""},
			{`{"type":"data","id":"` + one + `"}`, ""},
			{`{"type":"data","id":"unknown","event":"marked"}`, ""},
			{`{"type":"data","event":"marked"}`, ""},
			{`["marked"]`, ""}, {`"marked"`, ""}, {`7 `, ""}, {`null`, ""}, {``, ""}, {`{}`, ""},
			{`{"type":"ka"}`, ""}, {`{"type":"frobnicate","id":"` + one + `","event":"marked"}`, ""},
			{`{"type":"unsubscribe_success","id":"` + two + `"}`, ""},
			{`{"type":"broadcast_error","id":"` + one +
				`","errors":[{"errorType":"MessageProcessingError","message":"first\nmarked"}]}`, ""},
			{`{"type":"error","errors":[{"errorType":"UnsupportedOperation","message":"x\nmarked"}]}`, ""},
			{`{"type":"data","id":"` + one + `","event":"last"}`, "one last"},
		}
		for _, test := range tests {
			p.say("%s", test.say)
			synctest.Wait()
			var all []string
			for len(got) > 0 {
				all = append(all, <-got)
			}
			if said := strings.Join(all, "|"); said != test.want {
				t.Errorf("%.60s: got %q, want %q", test.say, said, test.want)
			}
		}
		if said := logs.String(); strings.Contains(said, "marked") ||
			!strings.Contains(said, "MessageProcessingError") ||
			!strings.Contains(said, "UnsupportedOperation") {
			t.Errorf("log:\n%s", said)
		}
		if s.ctx.Err() != nil {
			t.Error(context.Cause(s.ctx))
		}
	})
}

// Twenty publishes a second leave on the WebSocket; what is over goes out over HTTPS, signed.
func TestPublishRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, ln := startTestAPI(t, eventAPIOptions{})
		s, err := newTestAPI(ln).connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.conn.close()
		published := func() (webSocket, https int) {
			api.wait(t.Context(), func(c *eventAPICounts) bool {
				webSocket, https = c.publishes[1], c.publishes[0]
				return true
			})
			return
		}
		publish := func(n int) {
			for range n {
				if err := s.publish(
					t.Context(), "/live-lambda/a", asBytes([]string{`{"a":1}`}), true); err != nil {
					t.Fatal(err)
				}
			}
		}
		steps := []struct {
			pass             time.Duration
			publishes        int
			webSocket, https int
		}{{0, 20, 20, 0}, {0, 1, 20, 1}, {time.Second - 1, 1, 20, 2}, {1, 15, 35, 2},
			{500 * time.Millisecond, 10, 40, 7}, {500 * time.Millisecond, 20, 55, 12},
			{time.Second, 25, 75, 17}}
		for i, step := range steps {
			time.Sleep(step.pass)
			synctest.Wait() // for the slots of a second ago to be free
			publish(step.publishes)
			if webSocket, https := published(); webSocket != step.webSocket || https != step.https {
				t.Errorf("step %d: %d over the WebSocket, %d over HTTPS; want %d, %d", i, webSocket, https,
					step.webSocket, step.https)
			}
		}
		api.wait(t.Context(), func(c *eventAPICounts) bool {
			if c.busiest > publishesPerSecond || c.events["/live-lambda/a"] != 92 || len(c.errors) > 0 {
				t.Errorf("at most %d a second; events %v; errors %v", c.busiest, c.events, c.errors)
			}
			return true
		})
	})
}

func TestPublishHTTPSAnswers(t *testing.T) {
	tests := []struct {
		name, answer, err string
		no                bool
	}{
		{"success", `200 {"failed":[],"successful":[{"identifier":"u","index":0}]}`, "", false},
		{"an event failed",
			`200 {"failed":[{"identifier":"u","index":0,"code":"EventTooLargeException","message":"m"}],` +
				`"successful":[]}`, `AppSync failed to publish: EventTooLargeException "m"`, false},
		{"unauthorized",
			`401 {"errors":[{"errorType":"UnauthorizedException","message":"first\n` + testToken + `"}]}`,
			`AppSync refused to publish: UnauthorizedException "first"; grant`, true},
		{"forbidden without a word", `403 `, `AppSync refused to publish: Forbidden ""; grant`, true},
		{"HTML", `400 <html>` + testToken, `AppSync refused to publish: Bad Request ""; grant`, true},
		{"busy", `429 {"errors":[{"errorType":"LimitExceededError","message":"m"}]}`,
			`AppSync failed to publish: LimitExceededError "m"`, false},
		{"busy without a word", `429 `, `AppSync failed to publish: Too Many Requests ""`, false},
		{"broken", `503 no`, `AppSync failed to publish: Service Unavailable ""`, false},
		{"redirected", `302 `, `AppSync failed to publish: Found ""`, false},
		{"not JSON", `200 <html>`, "invalid character", false},
		{"endless", `200 {"x":"` + strings.Repeat("x", 3<<20) + `"}`, "unexpected end of JSON input", false},
		{"cut off", ``, "EOF", false},
		{"silence", `-`, "context deadline exceeded", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener("example.com")
				done := async(func() (bool, error) {
					return true,
						newTestAPI(ln).publishHTTPS(
							t.Context(), ackTimeout, []byte(`{"channel":"/a/b","events":["1"]}`))
				})
				p := acceptPeer(t, ln)
				io.ReadAll(p.request.Body)
				if test.answer != "" && test.answer != "-" {
					status, body := splitAnswer(test.answer)
					answer := async(func() (int, error) {
						return fmt.Fprintf(
							p.nc, "HTTP/1.1 %d %s\r\nLocation: /x\r\nConnection: close\r\nContent-Length: "+
								"%d\r\n\r\n%s", status, http.StatusText(status), len(body), body)
					})
					defer func() { p.nc.Close(); <-answer }()
				} else if test.answer == "" {
					p.nc.Close()
				}
				r := <-done
				if (r.err == nil) != (test.err == "") || r.err != nil &&
					!strings.Contains(r.err.Error(), test.err) || errors.Is(r.err, errRefused) != test.no {
					t.Errorf("error %v, refused %v; want %q, %v", r.err,
						errors.Is(r.err, errRefused), test.err, test.no)
				}
				if r.err != nil &&
					(strings.Contains(r.err.Error(), testToken) || strings.Contains(r.err.Error(), "\n")) {
					t.Errorf("told too much: %v", r.err)
				}
			})
		})
	}
}

// streamingCall is a call that a local end has begun to answer with a stream: data has come, in the last part
// or not.
func streamingCall(ctx context.Context, t *testing.T, data string, last bool) *call {
	t.Helper()
	tn := newTunnel(newTestAPI(nil), false)
	c := tn.send(ctx, []byte("1"), []byte(`{"a":1}`), 0, time.Hour)
	tn.mu.Lock()
	defer tn.mu.Unlock()
	err := c.take(&link{session: &session{}}, &part{
		Type: "response", Last: last, Headers: map[string]string{modeHeader: "streaming"},
		data: []byte(data)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A stream ends with its call, whatever of it has come: else a slow reader could make it outlast the
// deadline.
func TestCallReadEnds(t *testing.T) {
	ctx, cancel := context.WithDeadlineCause(
		t.Context(), time.Now().Add(time.Hour), errors.New("shortly before its deadline"))
	defer cancel()
	c := streamingCall(ctx, t, "some of it", false)
	if n, err := c.Read(make([]byte, 4)); n != 4 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	c.cancel(&failure{"LiveLambda.NoAnswer", "it is over"})
	if n, err := c.Read(make([]byte, 4)); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
	if f := c.failed(); f == nil || c.trailer.Get(typeHeader) != "LiveLambda.NoAnswer" {
		t.Errorf("broken %v, trailers %v", f, c.trailer)
	}
}

// A stream whose last part has come and is not read to its end is given up with its call all the same: what
// of it is not passed on must not be missing in a response that looks whole. The runs differ in which of two
// ready channels is drawn.
func TestCallReadEndsBeforeTheLastPartIsRead(t *testing.T) {
	for range 30 {
		c := streamingCall(t.Context(), t, "all of it", true)
		if n, err := c.Read(make([]byte, 3)); n != 3 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		c.cancel(&failure{"LiveLambda.Gone", "it is over"})
		if n, err := c.Read(make([]byte, 100)); n != 0 || err != io.EOF {
			t.Errorf("read %d, %v", n, err)
		}
		if f := c.failed(); f == nil || c.trailer.Get(typeHeader) != "LiveLambda.Gone" {
			t.Fatalf("broken %v, trailers %v", f, c.trailer)
		}
	}
}

// A stream that has been read to its end is whole, whatever becomes of its call then.
func TestCallReadEndsAfterTheLastPartIsRead(t *testing.T) {
	c := streamingCall(t.Context(), t, "all of it", true)
	if n, err := c.Read(make([]byte, 100)); n != 9 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	c.cancel(&failure{"LiveLambda.Gone", "it is over"})
	if n, err := c.Read(make([]byte, 100)); n != 0 || err != io.EOF || c.failed() != nil ||
		c.trailer.Get(typeHeader) != "" {
		t.Errorf("read %d, %v, broken %v, trailers %v", n, err, c.failed(), c.trailer)
	}
}

// net/http's errors quote what they could not read; no line of the log does.
func TestLogQuotesNothing(t *testing.T) {
	for _, answer := range []string{
		"marked\r\n\r\n", "HTTP/1.1 marked\r\n\r\n", "HTTP/marked 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nmarked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n marked\r\nmarked {\"a\":1}\r\n\r\n"} {
		_, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
		if err == nil {
			t.Errorf("%q can be read", answer)
			continue
		}
		var lines strings.Builder
		for _, json := range []bool{false, true} {
			log := newLogger(config{logJSON: json, logLevel: slog.LevelDebug}, &lines)
			log.Error("a message", "error", fmt.Errorf("transport: %w", err), "reason", err.Error())
			slog.NewLogLogger(log.Handler(), slog.LevelDebug).Printf("reverse proxy: %v", err)
		}
		if got := lines.String(); strings.Contains(got, "marked") ||
			strings.Count(got, "malformed message") != 6 {
			t.Errorf("%v: logged\n%s", err, got)
		}
	}
}

// FuzzReceive: whatever AppSync sends, the reader lives, and the log has no more than a short line of it,
// which tells nothing of an event.
func FuzzReceive(f *testing.F) {
	const id = "0123456789abcdef01234567"
	data := func(event any) []byte {
		return mustJSON(map[string]any{"type": "data", "id": "1", "event": event})
	}
	f.Add([]byte(`{"type":"ka"}`))
	f.Add([]byte(`{"type":"connection_ack","connectionTimeoutMs":300000}`))
	f.Add([]byte(
		`{"type":"connection_error","errors":[{"errorType":"UnauthorizedException","message":"a\nb"}]}`))
	f.Add([]byte(`{"type":"publish_success","id":"2","failed":[{"index":0,"code":"c"}],"successful":[]}`))
	f.Add(data("7"))
	f.Add(data([]string{`{"a":1}`, `"x"`}))
	f.Add(data(string(part{Type: "accepted", RequestID: id + "/1"}.event())))
	f.Add(data(string(
		part{Type: "response", RequestID: id + "/1", Last: true,
			Headers: map[string]string{"Lambda-Runtime-Function-Response-Mode": "streaming"}}.encode(
			[]byte("a")))))
	f.Add(data(string(
		part{Type: "error", RequestID: id + "/1", Encoding: "gzip", ErrorType: "T", Last: true}.encode(
			gzipTimes([]byte("{}"), 1)))))
	f.Add(data(string(part{Type: "probe", RequestID: id + "/probe"}.event())))
	f.Add(data(string(part{Type: "response", RequestID: id + "/9", Last: true}.event())))
	f.Add(data(string(part{Type: "acce\x7fted", RequestID: id + "/1", Last: true}.event())))
	f.Add([]byte(`{"type":"data","id":"3","event":"null"}`))
	f.Add([]byte(`{"type":"data","id":"2"}`)) // the ID of an operation that waits
	for _, kind := range []string{"BadRequest\x01", "Busy\x01"} {
		f.Add(mustJSON(
			map[string]any{
				"type":   "error",
				"errors": []apiError{{strings.Repeat(kind, 200), "", strings.Repeat("\x01", 500)}}}))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		logs := new(logLines)
		a := newTestAPI(nil)
		a.log = logs.logger()
		ctx, fail := context.WithCancelCause(t.Context())
		fail(errors.New("closed"))
		tn := newTunnel(a, false)
		s := newSession(a)
		s.name = id
		s.conn = &wsConn{ctx: ctx, fail: fail, out: make(chan outgoing)}
		s.ctx, s.drop = ctx, fail
		s.expect("")
		s.expect("2")
		l := &link{session: s, t: tn}
		c := &call{t: tn, mu: &tn.mu, n: 1, link: l, ctx: t.Context(), cancel: func(error) {}, phase: sent,
			changed: make(chan struct{}, 1), parts: map[string]*joiner{}, context: []byte(`{"a":1}`)}
		tn.calls[1], tn.lastN = c, 9
		s.subs["1"] = func(event string) { p, err := parsePart(event); l.receiveEvent(event, p, err) }
		s.subs["3"] = func(event string) {
			tn.mu.Lock()
			defer tn.mu.Unlock()
			c.takeBare(l, event, true)
		}
		marked := "marked, not to be told " + string(raw)
		cut := part{
			Type: "response", RequestID: id + "/1", Encoding: "gzip", Last: true,
			Headers: map[string]string{"Content-Type": marked}}
		messages := [][]byte{
			raw, data(marked), data(string(cut.encode([]byte(marked)))), data([]string{marked, marked}),
			mustJSON(map[string]any{"type": "data", "id": "3", "event": marked})}
		for _, message := range slices.Concat(messages, messages) { // twice: nothing may block the reader
			before := len(logs.String())
			s.receive(json.NewDecoder(bytes.NewReader(message)))
			line, end := strings.CutSuffix(logs.String()[before:], "\n")
			if line == "" && !end {
				continue
			}
			// AppSync's words are cut, but may be escaped twice.
			if !end || !strings.HasPrefix(line, "time=") || len(line) > 2000 ||
				strings.ContainsFunc(line, unicode.IsControl) {
				t.Errorf("log line %q", line)
			}
			if !bytes.Equal(message, raw) && strings.Contains(line, "marked") {
				t.Errorf("it tells of an event: %s", line)
			}
		}
		if c.answer != nil && c.answer.size > maxPayload {
			t.Errorf("an answer of %d bytes", c.answer.size)
		}
	})
}

// A minute without a frame, right after connection_ack, ends nothing.
func TestSessionQuietAfterAck(t *testing.T) {
	for _, ack := range []string{
		`{"type":"connection_ack","connectionTimeoutMs":300000}`,
		`{"type":"connection_ack","connectionTimeoutMs":-5}`} {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener("example.com")
			done := async(func() (*session, error) { return newTestAPI(ln).connect(t.Context()) })
			p := acceptPeer(t, ln)
			p.upgrade("aws-appsync-event-ws")
			p.operation("connection_init")
			p.say("%s", ack)
			r := <-done
			if r.err != nil {
				t.Fatal(r.err)
			}
			defer r.value.conn.close()
			time.Sleep(time.Minute)
			if r.value.ctx.Err() != nil {
				t.Errorf("%s: %v", ack, context.Cause(r.value.ctx))
			}
		})
	}
}

// ---- appsync.go: the tunnel's link ----

// A subscription may be confirmed before it delivers: the link is ready when a probe has come back.
func TestTunnelReady(t *testing.T) {
	for _, test := range []struct {
		opts        eventAPIOptions
		ready       time.Duration
		least, most int // probes
	}{
		{eventAPIOptions{}, 0, 1, 1},
		{eventAPIOptions{activation: 2 * time.Second}, 2 * time.Second, 8, 10},
		{eventAPIOptions{activation: 200 * time.Millisecond, otherData: true}, 250 * time.Millisecond, 2, 2},
		{eventAPIOptions{delay: 25 * time.Millisecond}, 150 * time.Millisecond, 1, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			c := startTunnel(t, test.opts, nil)
			if _, err := c.ready(time.Minute); err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			synctest.Wait()
			if took < test.ready || took > test.ready+probeEvery {
				t.Errorf("%+v: ready after %v, want %v", test.opts, took, test.ready)
			}
			l := c.link()
			c.api.wait(t.Context(), func(n *eventAPICounts) bool {
				if got := n.events["/live-lambda/response/"+l.name+"/probe"]; got < test.least ||
					got > test.most || n.connections != 1 {
					t.Errorf("%+v: %d probes on %d connections, want %d to %d", test.opts, got, n.connections,
						test.least, test.most)
				}
				return true
			})
			if said := c.logs.String(); strings.Count(
				said, "msg=connected source=live-lambda host=example.com") != 1 {
				t.Errorf("log:\n%s", said)
			}
		})
	}
}

// A subscription that never delivers is given up, and tried again on another connection.
func TestTunnelNeverReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, func(f apiFrame) apiVerdict {
			if f.typ == "data" && f.conn == 1 {
				return apiVerdict{replace: dropped}
			}
			return apiVerdict{}
		})
		if _, err := c.ready(5 * time.Second); err == nil || err.Error() != "still connecting" {
			t.Error(err)
		}
		if _, err := c.ready(time.Minute); err != nil {
			t.Error(err)
		}
		if said := c.logs.String(); !strings.Contains(
			said, `msg="not connected" source=live-lambda host=example.com error="the subscription does `+
				`not deliver"`) {
			t.Errorf("log:\n%s", said)
		}
	})
}

// A link whose round trip is longer than the pause between probes becomes ready as well, whatever comes
// first: AppSync's answer to the publish or the event.
func TestTunnelReadySlowly(t *testing.T) {
	for _, delay := range []time.Duration{
		50 * time.Millisecond, 130 * time.Millisecond, 300 * time.Millisecond} {
		for _, late := range []time.Duration{0, 20 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				var c *tunnelTest
				started := make(chan struct{})
				c = startTunnel(t, eventAPIOptions{delay: delay}, func(f apiFrame) apiVerdict {
					if f.typ != "data" || late == 0 {
						return apiVerdict{}
					}
					time.AfterFunc(late, func() {
						<-started
						c.api.do(f.conn, apiVerdict{replace: [][]byte{f.raw}})
					})
					return apiVerdict{replace: dropped}
				})
				close(started)
				start := time.Now()
				if _, err := c.ready(time.Minute); err != nil {
					t.Fatal(err)
				}
				if took, most := time.Since(start), 8*delay+late+2*probeEvery; took > most {
					t.Errorf("round trip %v, events %v later: ready after %v, at most %v", 2*delay, late,
						took, most)
				}
			})
		}
	}
}

// Each connection has a name of its own: what was meant for the one before reaches nobody.
func TestTunnelNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		names := map[string]bool{}
		for n := range 3 {
			if _, err := c.ready(time.Minute); err != nil {
				t.Fatal(err)
			}
			name := c.link().name
			if names[name] || len(name) != 32 || strings.Trim(name, "0123456789abcdef") != "" {
				t.Errorf("name %q after %v", name, names)
			}
			names[name] = true
			if _, err := c.api.subscribers(t.Context(), "/live-lambda/response/"+name+"/*", 1); err != nil {
				t.Error(err)
			}
			c.api.do(n+1, apiVerdict{after: resetConnection})
			synctest.Wait()
		}
		if got := strings.Count(
			c.logs.String(),
			`level=WARN msg="not connected" source=live-lambda host=example.com error="the connection `+
				`ended: EOF"`); got != 3 {
			t.Errorf("log:\n%s", c.logs)
		}
	})
}

// After more than 90 s by the wall clock without a frame, this end was frozen: a new connection before the
// next use.
func TestTunnelStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{keepAlive: time.Hour, timeout: time.Hour}, nil)
		if _, err := c.ready(time.Minute); err != nil {
			t.Fatal(err)
		}
		first := c.link()
		time.Sleep(staleAfter - time.Second)
		if out := c.send(`1`); c.link() != first {
			t.Errorf("after %v: another link", staleAfter)
		} else {
			out.finish()
		}
		time.Sleep(staleAfter + time.Millisecond)
		out := c.send(`2`)
		defer out.finish()
		c.tunnel.mu.Lock()
		if c.tunnel.link == first {
			t.Error("the stale link is used")
		}
		c.tunnel.mu.Unlock()
		if l, err := c.ready(time.Second); err != nil || l == first {
			t.Errorf("no new link at once: %v", err)
		}
		if said := c.logs.String(); strings.Contains(said, "WARN") {
			t.Errorf("log:\n%s", said)
		}
	})
}

// A connection is replaced before its 24 hours are over, when no invocation is out.
func TestTunnelRetires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		if _, err := c.ready(time.Minute); err != nil {
			t.Fatal(err)
		}
		first := c.link()
		time.Sleep(retireAfter - time.Second)
		out := c.send(`{}`)
		time.Sleep(time.Minute)
		if other := c.send(`{}`); c.link() != first {
			t.Error("retired too early, or while an invocation was out")
		} else {
			other.finish()
		}
		out.finish()
		c.send(`{}`).finish()
		if l, err := c.ready(time.Second); err != nil || l == first {
			t.Errorf("not retired: %v", err)
		}
		second := c.link()
		time.Sleep(retireAfter + 31*time.Minute) // not used for all that time
		if l := c.link(); l == second {
			t.Error("not retired before AppSync would end it")
		}
		if said := c.logs.String(); strings.Contains(said, "WARN") {
			t.Errorf("log:\n%s", said)
		}
	})
}

// A refusal is not tried again faster than every 10 s, told once, and ready does not wait for it.
func TestTunnelRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{apiKey: "other", delay: 10 * time.Millisecond}, nil)
		start := time.Now()
		for time.Since(start) < 34*time.Second {
			time.Sleep(time.Second)
			if _, err := c.ready(time.Minute); !errors.Is(err, errRefused) ||
				!strings.Contains(err.Error(), "appsync:EventConnect") {
				t.Fatal(err)
			}
		}
		c.api.wait(t.Context(), func(n *eventAPICounts) bool {
			if n.connections > 4 || n.connections < 3 {
				t.Errorf("%d connections in 34 s", n.connections)
			}
			return true
		})
		if said := c.logs.String(); strings.Count(said, "not connected") != 1 {
			t.Errorf("log:\n%s", said)
		}
		c.api.accept("", testCredentials)
		time.Sleep(refusedPause + maxBackoff)
		if _, err := c.ready(0); err != nil {
			t.Error(err)
		}
	})
}

// The namespace's permissions count as well: no subscription, or no publish.
func TestTunnelMayNot(t *testing.T) {
	for action, typ := range map[string]string{
		"appsync:EventSubscribe": "subscribe", "appsync:EventPublish": "publish"} {
		synctest.Test(t, func(t *testing.T) {
			c := startTunnel(t, eventAPIOptions{}, func(f apiFrame) apiVerdict {
				if f.typ == typ+"_success" {
					return apiVerdict{
						replace: [][]byte{
							[]byte(`{"type":"` + typ + `_error","id":"` + f.id +
								`","errors":[{"errorType":"UnauthorizedException","message":"m"}]}`)}}
				}
				return apiVerdict{}
			})
			time.Sleep(25 * time.Second)
			_, err := c.ready(time.Minute)
			if !errors.Is(err, errRefused) ||
				!strings.Contains(
					err.Error(),
					"grant "+action+
						" on arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID/channelNamespace/live-lambda") {
				t.Errorf("%s: %v", action, err)
			}
			c.api.wait(t.Context(), func(n *eventAPICounts) bool {
				if n.connections != 3 {
					t.Errorf("%s: %d connections in 25 s", action, n.connections)
				}
				return true
			})
		})
	}
}

// ---- appsync.go: calls ----

func TestCallAnswered(t *testing.T) {
	streaming := map[string]string{
		"Lambda-Runtime-Function-Response-Mode": "streaming", "Content-Type": "text/html"}
	large := bytes.Repeat([]byte(`{"a":"b"}`), 60_000)
	tests := []struct {
		name     string
		answer   part
		body     []byte
		buffered bool
		want     received
	}{
		{"response", part{Type: "response", Headers: map[string]string{"Content-Type": "text/plain"}},
			[]byte("\x00\xff"), false,
			received{contentType: "text/plain", body: "\x00\xff"}},
		{"empty response", part{Type: "response"}, nil, false, received{}},
		{"large response", part{Type: "response"}, large, false, received{body: string(large)}},
		{"error", part{Type: "error", ErrorType: "Error", XRayCause: "{}"}, []byte(`{"errorType":"Error"}`),
			false, received{errorType: "Error", xrayCause: "{}", body: `{"errorType":"Error"}`}},
		{"error without a type", part{Type: "error"}, []byte(`{}`), false, received{body: "{}"}},
		{"stream, collected", part{Type: "response", Headers: streaming}, []byte("<p>"), true,
			received{contentType: "text/html", body: "<p>"}},
		{"stream that broke, collected",
			part{Type: "response", Headers: streaming,
				Trailers: map[string]string{
					"Lambda-Runtime-Function-Error-Type": "E", "Lambda-Runtime-Function-Error-Body": "e30="}},
			[]byte("<p>"), true, received{errorType: "E", body: "{}"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startTunnel(t, eventAPIOptions{}, nil)
				c.tunnel.buffered = test.buffered
				out := c.send(`{"key":"<v>"}`)
				req := c.request()
				if string(req.EventPayload) != `{"key":"\u003cv\u003e"}` ||
					string(req.Context) != `{"request_id":"aws"}` || req.RequestID != c.link().name+"/1" ||
					req.LiveLambda != 1 {
					t.Errorf("request %+v", req)
				}
				synctest.Wait()
				if accepted, a, err := c.look(out); accepted || a != nil || err != nil {
					t.Errorf("before: accepted %v, %v, %v", accepted, a, err)
				}
				time.Sleep(time.Second)
				c.local(part{Type: "accepted", RequestID: req.RequestID}, nil)
				synctest.Wait()
				if accepted, a, _ := c.look(out); !accepted || a != nil {
					t.Errorf("accepted %v, %v", accepted, a)
				}
				test.answer.RequestID = req.RequestID
				body := test.body
				if body, test.answer.Encoding = compress(body); test.answer.Trailers != nil {
					test.answer.Last = true
				}
				c.local(test.answer, body)
				if got := c.await(out); !reflect.DeepEqual(got, test.want) {
					t.Errorf("got %+v\nwant %+v", got, test.want)
				}
				out.finish()
				if done := c.done(); done.RequestID != req.RequestID || done.Outcome != "answered" ||
					!done.Last {
					t.Errorf("done: %+v", done)
				}
				if len(c.tunnel.calls) != 0 {
					t.Errorf("%d calls left", len(c.tunnel.calls))
				}
			})
		})
	}
}

// Nobody is told of the end of an invocation that nobody accepted.
func TestCallNotAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		c.request()
		time.Sleep(time.Minute)
		out.finish()
		synctest.Wait()
		if len(c.events) != 0 {
			t.Errorf("published %s", <-c.events)
		}
	})
}

// Events that fit in one message go as they are, larger ones in parts.
func TestCallRequestSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		if _, err := c.ready(time.Minute); err != nil {
			t.Fatal(err)
		}
		l := c.link()
		empty := &call{t: c.tunnel, mu: &c.tunnel.mu, n: 1, event: []byte(`""`), context: []byte("{}")}
		var overhead int
		events, _ := empty.request(l)
		for event := range events {
			overhead = escapedLen(event)
		}
		noise := make([]byte, 1<<20)
		rand.NewChaCha8([32]byte{4}).Read(noise)
		for _, test := range []struct {
			event string
			parts int // 0: one event that is no part
		}{
			{`""`, 0}, {strings.Repeat(" ", 100_000) + "{}", 0},
			{`"` + strings.Repeat("x", maxEvent-overhead-1) + `"`, 0},
			{`"` + strings.Repeat("x", maxEvent-overhead) + `"`, 0},
			{`"` + strings.Repeat("x", maxEvent-overhead+1) + `"`, 1},
			{`"` + strings.Repeat("<", (maxEvent-overhead)/7) + `"`, 0},
			{`"` + strings.Repeat("<", (maxEvent-overhead)/7+1) + `"`, 1},
			{`"` + strings.Repeat("x", maxEvent-3) + `"`, 1},
			{`"` + strings.Repeat("x", maxEvent-2) + `"`, 1},
			{`"` + strings.Repeat("x", maxEvent-1) + `"`, 1},
			{`"` + base64.StdEncoding.EncodeToString(noise) + `"`, 7},
		} {
			out := &call{
				t: c.tunnel, mu: &c.tunnel.mu, n: 1, event: []byte(test.event), context: []byte(`{}`)}
			var events [][]byte
			all, inParts := out.request(l)
			for event := range all {
				checkPlain(t, event)
				events = append(events, event)
			}
			want := `{"request_id":"` + l.name + `/1","event_payload":` + test.event +
				`,"context":{},"live_lambda":1}`
			if test.parts == 0 {
				if want = string(asciiJSON([]byte(want))); len(events) != 1 || string(events[0]) != want ||
					escapedLen(events[0]) > maxEvent || inParts {
					t.Errorf("event of %d bytes: %d messages", len(test.event), len(events))
				}
				continue
			}
			var parts []*part
			for _, event := range events {
				parts = append(parts, checkPart(t, event))
			}
			got, first := joinParts(t, parts)
			if string(got) != want || first.Type != "request" || first.RequestID != l.name+"/1" || !inParts ||
				len(events) < test.parts {
				t.Errorf("event of %d bytes: %d bytes in %d parts, %s", len(test.event), len(got),
					len(events), first.Type)
			}
		}
	})
}

// A server that knows nothing of version 1 answers with the handler's bare result, any JSON value.
func TestCallBareResult(t *testing.T) {
	for _, eventAsArray := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := startTunnel(t, eventAPIOptions{otherData: eventAsArray}, nil)
			for n, result := range []string{
				`{"statusCode":200,"body":"ü"}`, `null`, `"live_lambda"`, `7`, `[]`, `{"live_lambda":2}`} {
				out := c.send(`{}`)
				req := c.request()
				c.api.publish("/live-lambda/response/"+req.RequestID, "no JSON")
				c.api.publish("/live-lambda/response/"+req.RequestID, result)
				want := received{contentType: "application/json", body: result}
				if got := c.await(out); !reflect.DeepEqual(got, want) {
					t.Errorf("%d: got %+v, want %+v", n, got, want)
				}
				out.finish()
			}
		})
	}
}

// A local end accepts in the very instant in which the wait for that ends: it has accepted.
func TestCallAcceptedInTheLastInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		if _, err := c.ready(time.Minute); err != nil {
			t.Fatal(err)
		}
		out := c.tunnel.send(t.Context(), []byte(`1`), []byte(`{}`), time.Second, linkTimeout)
		id := c.request().RequestID
		waited := async(out.wait)
		synctest.Wait()
		c.tunnel.mu.Lock()
		time.Sleep(time.Second) // the timer has fired, and needs the lock
		err := out.take(out.link, &part{Type: "accepted", RequestID: id, Last: true})
		c.tunnel.mu.Unlock()
		time.Sleep(time.Second)
		if err != nil || out.ctx.Err() != nil {
			t.Errorf("%v, ended with %v", err, context.Cause(out.ctx))
		}
		c.local(part{Type: "response", RequestID: id}, []byte("2"))
		if r := <-waited; r.err != nil || readAll(r.value.body) != "2" {
			t.Errorf("got %v, %v", r.value, r.err)
		}
		out.finish()
	})
}

// JSON that is nested too deep is dropped with a line, wherever it stands in a message; as an answer's own
// bytes it is none of this program's business.
func TestCallDeepJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`{}`)
		id := c.request().RequestID
		synctest.Wait() // the link is there before the log says so
		nested := func(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }
		answer := func(field string) string {
			return `{"live_lambda":1,"type":"response","request_id":"` + id + `","index":0,"last":true,` +
				field + `}`
		}
		for _, event := range []string{
			nested(20_000),
			`{"live_lambda":` + nested(20_000) + `}`,
			answer(`"x":` + nested(20_000)),
			answer(`"headers":` + nested(9_000)),
			answer(`"data":` + nested(9_000)),
			answer(`"index":` + strings.Repeat(`{"a":`, 9_000) + "1" + strings.Repeat("}", 9_000)),
		} {
			before := strings.Count(c.logs.String(), "\n")
			c.api.publish("/live-lambda/response/"+id, event)
			synctest.Wait()
			if _, a, err := c.look(out); a != nil || err != nil {
				t.Fatalf("%.80s: %+v, %v", event, a, err)
			}
			if said := strings.Split(c.logs.String(), "\n")[before:]; len(said) != 2 ||
				!strings.Contains(said[0], "dropped") || len(said[0]) > 300 {
				t.Errorf("%.80s: said %q, want one line", event, said)
			}
		}
		deep := nested(1_000_000)
		c.local(part{Type: "response", RequestID: id}, []byte(deep))
		if got := c.await(out); got.body != deep {
			t.Errorf("the answer has %d bytes, want %d", len(got.body), len(deep))
		}
		out.finish()
	})
}

// Several invocations out at once: each has its own bare result, whatever the order.
func TestCallBareResultsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		var out []*call
		var ids []string
		for n := range 5 {
			out = append(out, c.send(fmt.Sprint(n)))
			req := c.request()
			ids = append(ids, req.RequestID)
			if string(req.EventPayload) != fmt.Sprint(n) {
				t.Errorf("request %d: %s", n, req.EventPayload)
			}
		}
		for _, n := range []int{3, 0, 4, 2, 1} {
			c.api.publish("/live-lambda/response/"+ids[n], fmt.Sprint(10+n))
			synctest.Wait()
			for m, o := range out {
				if _, a, _ := c.look(o); (a == nil) && m == n {
					t.Errorf("call %d got nothing", m)
				}
			}
		}
		for n, o := range out {
			if got := c.await(o); got.body != fmt.Sprint(10+n) {
				t.Errorf("call %d got %s", n, got.body)
			}
			o.finish()
		}
	})
}

// The late bare result of an invocation that is over is not the next one's.
func TestCallLateBareResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		first := c.send(`1`)
		old := c.request().RequestID
		first.finish()
		second := c.send(`2`)
		id := c.request().RequestID
		c.api.publish("/live-lambda/response/"+old, `"late"`)
		synctest.Wait()
		if _, a, _ := c.look(second); a != nil {
			t.Fatalf("got %+v", a)
		}
		c.api.publish("/live-lambda/response/"+id, `"own"`)
		if a := c.await(second); a.body != `"own"` {
			t.Errorf("got %s", a.body)
		}
		second.finish()
	})
	// Nor is that of a second server, which comes before the local end has accepted the next one.
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		first := c.send(`1`)
		old := c.request().RequestID
		c.local(part{Type: "response", RequestID: old}, []byte(`"own"`))
		c.await(first)
		first.finish()
		c.done()
		second := c.send(`2`)
		id := c.request().RequestID
		c.api.publish("/live-lambda/response/"+old, `"late"`)
		time.Sleep(time.Second / 2)
		c.local(part{Type: "accepted", RequestID: id}, nil)
		time.Sleep(time.Second)
		if _, a, _ := c.look(second); a != nil {
			t.Fatalf("got %+v", a)
		}
		c.local(part{Type: "response", RequestID: id}, []byte(`"own"`))
		if a := c.await(second); a.body != `"own"` {
			t.Errorf("got %s", a.body)
		}
		second.finish()
		c.done()
		third := c.send(`3`) // a server that knows nothing of version 1 is alone now
		id = c.request().RequestID
		c.api.publish("/live-lambda/response/"+id, `"alone"`)
		synctest.Wait()
		kept := third.heldBack // alone: who may publish must not fill the memory
		c.api.publish("/live-lambda/response/"+id, `"again"`)
		synctest.Wait()
		if kept == nil || third.heldBack != kept {
			t.Error("not one bare result is held back")
		}
		if a := c.await(third); a.body != `"alone"` {
			t.Errorf("got %s", a.body)
		}
		third.finish()
	})
}

// Where no `accepted` comes, the request goes out again every 2 s; but only where that cannot make a handler
// run twice.
func TestCallRepeats(t *testing.T) {
	large := `"` + strings.Repeat("x", maxEvent) + `"`
	for _, test := range []struct {
		name, event string
		versioned   bool
		want        int // messages in 9 s
	}{
		{"unknown local end", `1`, false, 1},
		{"local end of version 1", `1`, true, 5},
		{"in parts", large, false, 5},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := startTunnel(t, eventAPIOptions{}, nil)
			if test.versioned {
				first := c.send(`0`)
				c.local(part{Type: "response", RequestID: c.request().RequestID}, []byte("0"))
				c.await(first)
				first.finish()
				c.done()
			}
			out := c.send(test.event)
			time.Sleep(9 * time.Second)
			if got := len(c.events); got != test.want {
				t.Errorf("%s: %d messages in 9 s, want %d", test.name, got, test.want)
			}
			for range len(c.events) - 1 {
				<-c.events
			}
			p, err := parsePart(<-c.events)
			id := c.link().name + fmt.Sprintf("/%d", out.n)
			if test.name == "in parts" && (err != nil || p.RequestID != id || p.Type != "request") {
				t.Errorf("%s: %+v, %v", test.name, p, err)
			}
			c.local(part{Type: "accepted", RequestID: id}, nil)
			time.Sleep(9 * time.Second)
			if got := len(c.events); got != 0 {
				t.Errorf("%s: %d messages after it was accepted", test.name, got)
			}
			out.finish()
		})
	}
}

// After a reconnect the request goes out again, under the new link's name.
func TestCallReconnects(t *testing.T) {
	for _, accepted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := startTunnel(t, eventAPIOptions{}, nil)
			out := c.send(`1`)
			old := c.request().RequestID
			if accepted {
				c.local(part{Type: "accepted", RequestID: old}, nil)
				synctest.Wait()
			}
			c.api.do(1, apiVerdict{after: resetConnection})
			again := c.request()
			if again.RequestID == old || again.RequestID != c.link().name+"/1" ||
				string(again.EventPayload) != "1" {
				t.Errorf("accepted %v: %s, then %+v", accepted, old, again)
			}
			c.local(part{Type: "response", RequestID: old}, []byte("old")) // nobody listens there any more
			c.local(part{Type: "response", RequestID: again.RequestID}, []byte("new"))
			if a := c.await(out); a.body != "new" {
				t.Errorf("accepted %v: got %s", accepted, a.body)
			}
			out.finish()
			if done := c.done(); done.RequestID != again.RequestID {
				t.Errorf("done: %+v", done)
			}
		})
	}
}

// While an invocation is out, a link that has been silent for 6 s is probed, and dead if nothing comes back
// within 2 s.
func TestCallProbesQuietLink(t *testing.T) {
	for _, dead := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := startTunnel(t, eventAPIOptions{keepAlive: time.Hour, timeout: time.Hour}, nil)
			out := c.send(`1`)
			c.local(part{Type: "accepted", RequestID: c.request().RequestID}, nil)
			synctest.Wait()
			synctest.Wait() // the publish has been answered
			first := c.link()
			if dead {
				c.api.do(1, apiVerdict{after: goHalfOpen})
			}
			time.Sleep(quietTimeout + publishTimeout - time.Millisecond)
			if c.link() != first || (first.ctx.Err() != nil) {
				t.Errorf("dead %v: given up too early", dead)
			}
			time.Sleep(time.Second)
			if gone := (first.ctx.Err() != nil); gone != dead {
				t.Errorf("dead %v: given up %v", dead, gone)
			}
			c.api.wait(t.Context(), func(n *eventAPICounts) bool {
				if got := n.events["/live-lambda/response/"+first.name+"/probe"]; !dead && got != 2 ||
					n.connections != 1 && !dead {
					t.Errorf("%d probes on %d connections", got, n.connections)
				}
				return true
			})
			if dead {
				c.request() // again, on the new connection
			}
			out.finish()
		})
	}
}

// AppSync does not take the request: what a person must mend is told at once, what passes is tried again.
func TestCallNotTaken(t *testing.T) {
	failed := `"type":"publish_success","failed":[{"index":0,"code":"EventTooLargeException"}]`
	tests := []struct {
		answer string // to the first publish of a request, or to all where that means an error
		err    string // "": tried again
	}{
		{`"type":"publish_error","errors":[{"errorType":"UnauthorizedException","message":"m"}]`,
			"AppSync refused to publish: UnauthorizedException"},
		{`"type":"publish_error","errors":[{"errorType":"InvalidInputError","message":"m"}]`,
			`InvalidInputError "m"`},
		{failed, "EventTooLargeException"},
		{`"type":"publish_error","errors":[{"errorType":"LimitExceededError","message":"m"}]`, ""},
		{`"type":"publish_error","errors":[{"errorType":"MessageProcessingError"}]`, ""},
		{`"type":"error","errors":[]`, ""},
		{`"type":"publish_error","errors":[{"errorType":"MessageProcessingError","message":"again"}]`,
			`MessageProcessingError "again"`},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			var asked atomic.Int32
			c := startTunnel(t, eventAPIOptions{}, func(f apiFrame) apiVerdict {
				if !f.out && f.channel == "/live-lambda/requests" && (asked.Load() == 0 || test.err != "") {
					asked.Add(1)
					return apiVerdict{replace: [][]byte{[]byte(`{"type":"ask","id":"` + f.id + `"}`)}}
				}
				if f.typ == "error" && strings.Contains(string(f.raw), "UnsupportedOperation") {
					return apiVerdict{replace: [][]byte{[]byte(`{"id":"` + f.id + `",` + test.answer + `}`)}}
				}
				return apiVerdict{}
			})
			start := time.Now()
			out := c.send(`1`)
			if test.err == "" {
				c.request()
				if took := time.Since(start); took < retryPublish || took > retryPublish+10*time.Millisecond {
					t.Errorf("%s: again after %v, want %v", test.answer, took, retryPublish)
				}
			} else {
				_, err := out.wait()
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%s: %v", test.answer, err)
				}
				if took := time.Since(start); errors.Is(err, errRefused) != (took == 0) ||
					took > linkTimeout+time.Second {
					t.Errorf("%s: told after %v, %d tries", test.answer, took, asked.Load())
				}
				tries := asked.Load()
				time.Sleep(time.Minute)
				if asked.Load() > tries+1 || len(c.events) > 0 {
					t.Errorf("%s: tried again", test.answer)
				}
			}
			out.finish()
		})
	}
}

// Two local ends answer: the first that begins an answer gives it, whole.
func TestCallTwoLocalEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id := c.request().RequestID
		body := bytes.Repeat([]byte("a"), partData+1)
		other := bytes.Repeat([]byte("b"), partData+1)
		var one, two []string
		for event := range (part{Type: "response", RequestID: id, Sender: "one"}).split(body) {
			one = append(one, string(event))
		}
		for event := range (part{Type: "error", RequestID: id, Sender: "two", Encoding: "gzip"}).split(
			other) {
			two = append(two, string(event))
		}
		for _, event := range []string{
			string(part{Type: "accepted", RequestID: id, Sender: "two"}.event()), one[1], two[0], two[1],
			one[1], one[0]} {
			c.api.publish("/live-lambda/response/"+id, event)
		}
		if a := c.await(out); a.body != string(body) || a.errorType != "" {
			t.Errorf("got %d bytes, %s", len(a.body), a.errorType)
		}
		out.finish()
	})
}

// Parts of several invocations, interleaved and out of order.
func TestCallsInterleaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		var out []*call
		var events [][2]string // channel and event
		var bodies [][]byte
		for n := range 4 {
			out = append(out, c.send(fmt.Sprint(n)))
			id := c.request().RequestID
			bodies = append(bodies, bytes.Repeat([]byte{byte('a' + n)}, (n+1)*partData))
			for event := range (part{Type: "response", RequestID: id}).split(bodies[n]) {
				events = append(events, [2]string{"/live-lambda/response/" + id, string(event)})
			}
		}
		r := rand.New(rand.NewPCG(5, 5))
		r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		for _, e := range events {
			c.api.publish(e[0], e[1])
		}
		for n, o := range out {
			if a := c.await(o); a.body != string(bodies[n]) {
				t.Errorf("call %d: %d bytes", n, len(a.body))
			}
			o.finish()
		}
	})
}

// An answer above Lambda's limit is what Lambda would make of it.
func TestCallTooLarge(t *testing.T) {
	for name, answers := range map[string]func(id string) iter.Seq[[]byte]{
		"bomb": func(id string) iter.Seq[[]byte] {
			return part{
				Type: "response", RequestID: id, Encoding: "gzip"}.split(gzipTimes(make([]byte, 1<<20), 7))
		},
		"parts": func(id string) iter.Seq[[]byte] {
			return part{
				Type: "response", RequestID: id, Index: 1}.from(1, make([]byte, maxPayload+2*maxEvent))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startTunnel(t, eventAPIOptions{}, nil)
				out := c.send(`1`)
				id, l := c.request().RequestID, c.link()
				for event := range answers(id) {
					c.receive(l, string(event))
				}
				a := c.await(out)
				if a.errorType != "Function.ResponseSizeTooLarge" ||
					!strings.Contains(a.body, "6291556 bytes") || !json.Valid([]byte(a.body)) {
					t.Errorf("got %s %s", a.errorType, a.body)
				}
				out.finish()
			})
		})
	}
}

// from is split, but for the parts before index.
func (p part) from(index int, body []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		n := 0
		for event := range p.split(body) {
			if n++; n > index && !yield(event) {
				return
			}
		}
	}
}

// A stream can be read as soon as its first part is there.
func TestCallStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id := c.request().RequestID
		headers := map[string]string{
			"Lambda-Runtime-Function-Response-Mode": "streaming", "Content-Type": "text/plain"}
		say := func(index int, data string, more ...func(*part)) {
			p := part{Type: "response", RequestID: id, Index: index}
			for _, change := range more {
				change(&p)
			}
			c.api.publish("/live-lambda/response/"+id, string(p.encode([]byte(data))))
			synctest.Wait()
		}
		say(1, "two")
		if _, a, _ := c.look(out); a != nil {
			t.Errorf("an answer without part 0: %+v", a)
		}
		say(0, "one", func(p *part) { p.Headers = headers })
		if a, err := out.wait(); err != nil || a.size >= 0 || a.contentType != "text/plain" {
			t.Fatalf("got %+v, %v", a, err)
		}
		read := make(chan string, 100)
		go func() { // ends with the stream
			var b [100]byte
			for {
				n, err := out.Read(b[:])
				if n > 0 {
					read <- string(b[:n])
				}
				if err != nil {
					read <- err.Error()
					return
				}
			}
		}()
		want := func(pieces ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for len(read) > 0 {
				got = append(got, <-read)
			}
			if !slices.Equal(got, pieces) {
				t.Errorf("read %q, want %q", got, pieces)
			}
		}
		want("one", "two")
		say(1, "again")
		want()
		say(4, "last", func(p *part) {
			p.Last = true
			p.Trailers = map[string]string{"Lambda-Runtime-Function-Error-Type": "E"}
		})
		say(3, "four")
		want()
		say(2, "") // an empty part is passed over
		want("four", "last", "EOF")
		if out.trailer.Get("Lambda-Runtime-Function-Error-Type") != "E" {
			t.Errorf("trailers %v", out.trailer)
		}
		out.finish()
		c.done()
	})
}

// A part of a stream without data is waited behind, not taken for its end or for a fault.
func TestCallStreamEmptyParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id, l := c.request().RequestID, c.link()
		say := func(index int, data string) {
			p := part{Type: "response", RequestID: id, Index: index, Last: index == 3,
				Headers: map[string]string{modeHeader: "streaming"}}
			c.receive(l, string(p.encode([]byte(data))))
		}
		say(0, "")
		read := async(func() (string, error) {
			all, err := io.ReadAll(out)
			return string(all), err
		})
		for index, data := range []string{"", "", "data", ""} {
			synctest.Wait()
			say(index, data)
		}
		if got := <-read; got.value != "data" || got.err != nil ||
			len(out.trailer.Get(typeHeader)) > 0 {
			t.Errorf("read %q, %v, trailers %v", got.value, got.err, out.trailer)
		}
		out.finish()
	})
}

// A local end hears of the end of an invocation by the ID that it knows, also if the link is new by then.
func TestCallDoneNamesTheRequestThatWasHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id, first := c.request().RequestID, c.link()
		c.local(part{Type: "response", RequestID: id}, []byte("2"))
		c.await(out)
		first.drop(errors.New("the link is cut"))
		synctest.Wait()
		if l, err := c.ready(time.Minute); err != nil || l == first {
			t.Fatalf("no new link: %v", err)
		}
		out.finish()
		if done := c.done(); done.RequestID != id || done.Outcome != "answered" {
			t.Errorf("done: %+v, want it for %s", done, id)
		}
	})
}

// What is large goes with finish, though stopped timers keep the call for a while; a Read that is late still
// finds the trailers.
func TestCallFinishKeepsNothingLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id := c.request().RequestID
		c.local(part{Type: "response", RequestID: id}, []byte("2"))
		c.await(out)
		out.finish()
		if out.event != nil || out.answer != nil || out.parts != nil {
			t.Errorf("kept: event %q, answer %v, parts %v", out.event, out.answer, out.parts)
		}
		c.done()
		out = c.send(`1`)
		stream := part{
			Type: "response", RequestID: c.request().RequestID, Last: true,
			Headers: map[string]string{modeHeader: "streaming"}}
		c.local(stream, nil)
		if _, err := out.wait(); err != nil {
			t.Fatal(err)
		}
		out.finish()
		if n, err := out.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("late: read %d, %v", n, err)
		}
	})
}

// Parts of a stream that are too far ahead are dropped without harm: they will be repeated.
func TestCallStreamWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id, l := c.request().RequestID, c.link()
		say := func(index int, data []byte) {
			p := part{Type: "response", RequestID: id, Index: index,
				Headers: map[string]string{"Lambda-Runtime-Function-Response-Mode": "streaming"}}
			c.receive(l, string(p.encode(data)))
		}
		say(0, []byte("x"))
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		data := make([]byte, partData)
		for index := 2; index < 70; index++ {
			say(index, data)
			if out.stream.size > streamWindow {
				t.Fatalf("%d bytes wait", out.stream.size)
			}
		}
		if a, err := out.wait(); err != nil || a.size >= 0 {
			t.Errorf("%+v, %v", a, err)
		}
		kept := len(out.stream.waiting)
		say(1, data)
		read, err := io.ReadAll(out.stream)
		if len(read) != (kept+1)*partData || err != errMissing || kept < 45 {
			t.Errorf("read %d bytes, %v; %d parts waited", len(read), err, kept)
		}
		out.finish()
	})
}

// Parts that do not fit together are dropped, and the answer's repetition gets another chance.
func TestCallBrokenAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id := c.request().RequestID
		for _, data := range [][]byte{[]byte("marked, not gzip"), gzipTimes([]byte("good"), 1)} {
			c.api.publish(
				"/live-lambda/response/"+id,
				string(part{Type: "response", RequestID: id, Encoding: "gzip", Last: true}.encode(data)))
			synctest.Wait()
			c.look(out)
		}
		if _, a, err := c.look(out); err != nil || a == nil || readAll(a.body) != "good" {
			t.Errorf("got %+v, %v", a, err)
		}
		if said := c.logs.String(); strings.Count(said, "level=WARN") != 1 ||
			strings.Contains(said, "marked") {
			t.Errorf("log:\n%s", said)
		}
		out.finish()
	})
}

// What anybody may publish on the namespace does no harm, and what it says is in no log line.
func TestCallHostileMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id := c.request().RequestID
		name := c.link().name
		for _, hostile := range []string{
			`{"live_lambda":1,"type":"response","request_id":"ID","index":"marked"}`,
			`{"live_lambda":1,"type":"response","request_id":"ID","index":1048576}`,
			`{"live_lambda":1,"type":"response","request_id":"ID","data":"marked!"}`,
			`{"live_lambda":1,"type":"response","request_id":"ID","encoding":"marked"}`,
			`{"live_lambda":1,"type":"request","request_id":"ID","last":true}`,
			`{"live_lambda":1,"type":"done","request_id":"ID","last":true}`,
			`{"live_lambda":1,"type":"probe","request_id":"ID/1"}`,
			`{"live_lambda":1,"type":"probe","request_id":"other/probe"}`,
			`{"live_lambda":1,"type":"\u001b[31m\nlevel=ERROR","request_id":"ID"}`,
			`{"live_lambda":1,"type":"response","request_id":"NAME/2","last":true}`,
			`{"live_lambda":1,"type":"response","request_id":"NAME/1/2","last":true}`,
			`{"live_lambda":1,"type":"response","request_id":"NAME/-1","last":true}`,
			`{"live_lambda":1,"type":"response","request_id":"NAME/18446744073709551616","last":true}`,
			`{"live_lambda":1,"type":"response","request_id":"NAME","last":true}`,
			`{"live_lambda":1,"type":"response","request_id":"marked/1","last":true}`,
			`{"live_lambda":1,"type":"response","request_id":"/","last":true}`,
			`{"live_lambda":1,"last":true}`,
			`{"live_lambda":1`, `{"marked`, ``,
		} {
			c.api.publish(
				"/live-lambda/response/"+id, strings.NewReplacer("ID", id, "NAME", name).Replace(hostile))
			synctest.Wait()
			if _, a, err := c.look(out); a != nil || err != nil {
				t.Fatalf("%s: got %+v, %v", hostile, a, err)
			}
		}
		if said := c.logs.String(); strings.Contains(said, "marked") ||
			strings.Contains(said, "level=ERROR") || strings.Contains(said, "\x1b") {
			t.Errorf("log:\n%s", said)
		}
		c.local(part{Type: "response", RequestID: id}, []byte("fine"))
		if a := c.await(out); a.body != "fine" {
			t.Errorf("got %s", a.body)
		}
		out.finish()
	})
}

// A part of a local end that has gone does not keep another's whole answer from counting.
func TestCallStrayPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startTunnel(t, eventAPIOptions{}, nil)
		out := c.send(`1`)
		id := c.request().RequestID
		c.local(part{Type: "accepted", RequestID: id, Sender: "good"}, nil)
		c.api.publish(
			"/live-lambda/response/"+id,
			string(part{Type: "response", RequestID: id, Index: 5, Sender: "gone"}.encode([]byte("x"))))
		synctest.Wait()
		c.local(part{Type: "response", RequestID: id, Sender: "good"}, []byte("answer"))
		synctest.Wait()
		if _, a, _ := c.look(out); a == nil {
			t.Error("the whole answer does not count after a stray part")
		}
		out.finish()
	})
}

// ---- ws.go ----

func TestWebSocketMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, got := openWebSocket(t)
		if h := p.request.Header; p.request.RequestURI != "/event/realtime" ||
			p.request.Host != "example.com" || h.Get("Upgrade") != "websocket" ||
			h.Get("Sec-WebSocket-Protocol") != "chat, header-x" || h.Get("Sec-WebSocket-Version") != "13" ||
			h.Get("Sec-WebSocket-Extensions") != "" {
			t.Errorf("handshake %s %s %v", p.request.Host, p.request.RequestURI, h)
		}
		long := strings.Repeat("x", 70_000)
		tests := []struct {
			name string
			say  func()
			want []string
		}{
			{"text", func() { p.say(`{"m":"hello"}`) }, []string{"hello"}},
			{"empty", func() { p.say("") }, nil},
			{"white space", func() { p.say(" \n") }, nil},
			{"binary", func() { p.frame(true, websocket.BinaryFrame, `{"m":"bytes"}`) }, []string{"bytes"}},
			{"16-bit length", func() { p.say(`{"m":"%s"}`, long[:126]) }, []string{long[:126]}},
			{"64-bit length", func() { p.say(`{"m":"%s"}`, long) }, []string{long}},
			{"as large as may be", func() {
				p.say(`{"m":"%s"}`, strings.Repeat("x", maxMessage-100))
			}, []string{strings.Repeat("x", maxMessage-100)}},
			{"small after large", func() { p.say(`{"m":"small"}`) }, []string{"small"}},
			{"two in one packet", func() {
				p.write(string(
					slices.Concat(
						webSocketFrame(true, 1, []byte(`{"m":"a"}`)),
						webSocketFrame(true, 1, []byte(`{"m":"b"}`)))))
			}, []string{"a", "b"}},
			{"byte by byte", func() {
				for _, b := range webSocketFrame(true, websocket.TextFrame, []byte(`{"m":"slow"}`)) {
					p.nc.Write([]byte{b})
				}
			}, []string{"slow"}},
			{"fragments", func() {
				p.frame(false, websocket.TextFrame, `{"m":"a`)
				p.frame(false, websocket.ContinuationFrame, "")
				p.frame(false, websocket.ContinuationFrame, "b")
				p.frame(true, websocket.ContinuationFrame, `c"}`)
			}, []string{"abc"}},
			{"fragments around a pong", func() {
				p.frame(false, websocket.TextFrame, `{"m":"a`)
				p.frame(true, websocket.PongFrame, "unasked")
				p.frame(true, websocket.ContinuationFrame, `b"}`)
			}, []string{"ab"}},
			{"fragments around a ping", func() {
				p.frame(false, websocket.TextFrame, `{"m":"a`)
				p.frame(true, websocket.PingFrame, "are you there?")
				if opcode, payload := p.read(); opcode != websocket.PongFrame || payload != "are you there?" {
					t.Errorf("pong: opcode %d, %q", opcode, payload)
				}
				p.frame(true, websocket.ContinuationFrame, `b"}`)
			}, []string{"ab"}},
		}
		for _, test := range tests {
			test.say()
			synctest.Wait()
			var all []string
			for len(got) > 0 {
				all = append(all, <-got)
			}
			if !slices.Equal(all, test.want) {
				t.Errorf("%s: got %d messages, %.40q; want %d", test.name, len(all), all, len(test.want))
			}
		}
		for _, payload := range []string{"", "x", strings.Repeat("x", 125)} {
			p.frame(true, websocket.PingFrame, payload)
			if opcode, got := p.read(); opcode != websocket.PongFrame || got != payload {
				t.Errorf("pong: opcode %d, %q", opcode, got)
			}
		}
		for _, want := range []string{"hello", strings.Repeat("y", 1_150_000)} {
			sent := async(func() (bool, error) { return true, c.send(t.Context(), []byte(want)) })
			if opcode, got := p.read(); opcode != websocket.TextFrame || got != want {
				t.Errorf("sent %d bytes: opcode %d, %d bytes", len(want), opcode, len(got))
			}
			if r := <-sent; r.err != nil {
				t.Error(r.err)
			}
		}
		closed := async(func() (bool, error) { c.close(); return true, nil })
		if opcode, payload := p.read(); opcode != websocket.CloseFrame || payload != "\x03\xe8" {
			t.Errorf("close: opcode %d, %q", opcode, payload)
		}
		<-closed
		p.drain()
		if err := c.send(t.Context(), []byte("late")); err.Error() != "closed by this end" ||
			c.ctx.Err() == nil {
			t.Errorf("send after close: %v", err)
		}
		c.close() // twice does no harm
	})
}

// How a connection ends is told by its error.
func TestWebSocketEnds(t *testing.T) {
	large := strings.Repeat("x", maxMessage)
	tests := []struct {
		name string
		do   func(*peer)
		want string
	}{
		{"closing frame", func(p *peer) {
			p.frame(true, websocket.CloseFrame, "\x03\xe9restarting\n")
		}, "EOF"},
		{"closing frame without a code", func(p *peer) { p.frame(true, websocket.CloseFrame, "") }, "EOF"},
		{"closing frame between fragments", func(p *peer) {
			p.frame(false, websocket.TextFrame, `"a`)
			p.frame(true, websocket.CloseFrame, "\x03\xe8")
		}, "unexpected EOF"},
		{"cut off", func(p *peer) { p.nc.Close() }, "EOF"},
		{"cut off in a message", func(p *peer) { p.write("\x81\x05\"e"); p.nc.Close() }, "unexpected EOF"},
		{"cut off between fragments", func(p *peer) {
			p.frame(false, websocket.TextFrame, `"e`)
			p.nc.Close()
		}, "unexpected EOF"},
		{"cut off in a header", func(p *peer) { p.write("\x81"); p.nc.Close() }, "EOF"},
		{"not JSON", func(p *peer) {
			p.say("marked")
		}, "invalid character 'm' looking for beginning of value"},
		{"too deep", func(p *peer) {
			p.nc.Write(webSocketFrame(true, 1, []byte(strings.Repeat("[", 20_000))))
		}, "exceeded max depth"},
		{"too large", func(p *peer) {
			p.nc.Write(webSocketFrame(true, 1, []byte(`"`+large)))
		}, "incoming message larger than 2097152 bytes"},
		{"too large in fragments", func(p *peer) {
			p.nc.Write(webSocketFrame(false, 1, []byte(`"`+large[:maxMessage/2])))
			p.nc.Write(webSocketFrame(true, 0, []byte(large[:maxMessage/2])))
		}, "incoming message larger than 2097152 bytes"},
		{"white space without end", func(p *peer) {
			for range 5 {
				p.nc.Write(webSocketFrame(true, 1, bytes.Repeat([]byte(" "), maxMessage/4)))
			}
		}, "incoming message larger than 2097152 bytes"},
		{"silence", func(*peer) {}, "nothing received for 5m0s"},
		{"silence in a frame", func(p *peer) { p.write("\x81\x05\"e") }, "nothing received for 5m0s"},
		{"masked", func(p *peer) { p.write("\x81\x83\x00\x00\x00\x00\"x\"") }, "EOF"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p, got := openWebSocket(t)
				drained := async(func() (bool, error) { p.drain(); return true, nil })
				test.do(p)
				<-c.ctx.Done()
				if !strings.Contains(context.Cause(c.ctx).Error(), test.want) {
					t.Errorf("error %v, want %s", context.Cause(c.ctx), test.want)
				}
				if err := c.send(t.Context(), []byte("x")); err != context.Cause(c.ctx) {
					t.Errorf("send afterwards: %v", err)
				}
				c.close()
				<-drained // the connection is closed at this end too
				if len(got) > 0 {
					t.Errorf("a message: %q", <-got)
				}
			})
		})
	}
}

// Frames of any kind are a sign of life.
func TestWebSocketIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := openWebSocket(t)
		c.idle.Store(int64(time.Minute))
		p.say(`{"m":"x"}`) // the new limit counts from the next frame on
		for range 3 {
			time.Sleep(time.Minute - 1)
			p.frame(true, websocket.PongFrame, "")
			synctest.Wait()
			if got := time.Now().UnixNano(); c.heard.Load() != got {
				t.Errorf("last frame %d, now %d", c.heard.Load(), got)
			}
		}
		start := time.Now()
		<-c.ctx.Done()
		if took := time.Since(start); took != time.Minute ||
			context.Cause(c.ctx).Error() != "nothing received for 1m0s" {
			t.Errorf("after %v: %v", took, context.Cause(c.ctx))
		}
	})
}

// A connection that has ended is kept by nothing.
func TestWebSocketIsCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended []weak.Pointer[wsConn]
		for range 3 {
			ln := newPipeListener("example.com")
			dialled := dial(
				t.Context(), &http.Transport{DialContext: ln.dial}, "http://example.com/event/realtime", nil)
			p := acceptPeer(t, ln)
			p.upgrade("chat")
			r := <-dialled
			if r.err != nil {
				t.Fatal(r.err)
			}
			go p.drain()
			r.value.close()
			p.nc.Close()
			ended = append(ended, weak.Make(r.value))
		}
		time.Sleep(2 * closeTimeout)
		synctest.Wait()
		runtime.GC()
		runtime.GC()
		held := 0
		for _, c := range ended {
			if c.Value() != nil {
				held++
			}
		}
		if held > 1 { // the last one may still be on the stack
			t.Errorf("%d of %d are still held", held, len(ended))
		}
	})
}

// A ping is answered, however long ago the last message was sent.
func TestWebSocketLatePing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := openWebSocket(t)
		c.idle.Store(int64(5 * time.Minute))
		sent := async(func() (bool, error) { return true, c.send(t.Context(), []byte("x")) })
		p.read()
		<-sent
		p.say(`{"m":"y"}`)
		time.Sleep(2 * time.Minute)
		p.frame(true, websocket.PingFrame, "still there?")
		if opcode, payload := p.read(); opcode != websocket.PongFrame || payload != "still there?" ||
			(c.ctx.Err() != nil) {
			t.Errorf("pong: opcode %d, %q; ended %v", opcode, payload, (c.ctx.Err() != nil))
		}
	})
}

// A peer that takes nothing is gone after a while; the wait for it, its context's end and close release
// everyone.
func TestWebSocketStuckPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := openWebSocket(t)
		c.idle.Store(int64(5 * time.Minute))
		p.frame(true, websocket.PongFrame, "")
		start := time.Now()
		first := async(func() (bool, error) { return true, c.send(t.Context(), []byte("stuck")) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.send(ctx, []byte("behind")); !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(start) != time.Second {
			t.Errorf("second send: %v after %v", err, time.Since(start))
		}
		if r := <-first; r.err == nil || time.Since(start) != writeTimeout {
			t.Errorf("first send: %v after %v", r.err, time.Since(start))
		}
		<-c.ctx.Done()
		c.close()
		p.nc.Close()
	})
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := openWebSocket(t)
		stuck := async(func() (bool, error) { return true, c.send(t.Context(), []byte("stuck")) })
		synctest.Wait()
		start := time.Now()
		c.close()
		if took := time.Since(start); took > closeTimeout {
			t.Errorf("close took %v", took)
		}
		if r := <-stuck; r.err == nil {
			t.Error("the stuck send succeeded")
		}
		p.nc.Close()
	})
}

func TestWebSocketRefused(t *testing.T) {
	const accept = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: " +
		"Upgrade\r\nSec-WebSocket-Accept: KEY\r\n"
	tests := []struct {
		name, answer, want string
		text               *string // of a noUpgrade
	}{
		{name: "401", answer: "HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nno\nno",
			want: "the server refuses the WebSocket: 401 Unauthorized", text: new("no\nno")},
		{name: "403", answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 16\r\n\r\n{\"message\":\"no\"}",
			want: "the server refuses the WebSocket: 403 Forbidden", text: new(`{"message":"no"}`)},
		{name: "500", answer: "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n",
			want: "the server refuses the WebSocket: 500 Internal Server Error", text: new("")},
		{name: "599", answer: "HTTP/1.1 599 x\r\nContent-Length: 0\r\n\r\n",
			want: "the server refuses the WebSocket: 599 ", text: new("")},
		{name: "200", answer: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
			want: "the server refuses the WebSocket: 200 OK", text: new("<html>")},
		{name: "302", answer: "HTTP/1.1 302 Found\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n",
			want: "the server refuses the WebSocket: 302 Found", text: new("")},
		{name: "long",
			answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 4000),
			want:   "the server refuses the WebSocket: 403 Forbidden", text: new(strings.Repeat("x", 1024))},
		{name: "text that does not end",
			answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nno",
			want:   "the server refuses the WebSocket: 403 Forbidden", text: new("no")},
		{name: "no upgrade", answer: "HTTP/1.1 101 Switching Protocols\r\n\r\n",
			want: "the server refuses the WebSocket: 101 Switching Protocols", text: new("")},
		{name: "other upgrade",
			answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: " +
				"Upgrade\r\nSec-WebSocket-Accept: KEY\r\n\r\n", want: "missing or bad upgrade"},
		{name: "other sub-protocol", answer: accept + "Sec-WebSocket-Protocol: other\r\n\r\n",
			want: "missing or bad WebSocket-Protocol"},
		{name: "extension", answer: accept + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
			want: "unsupported extensions"},
		{name: "wrong key", answer: strings.Replace(accept, "KEY", "d3Jvbmc=", 1) + "\r\n",
			want: "mismatch challenge/response"},
		{name: "empty", answer: "", want: "EOF"},
		{name: "not HTTP", answer: "SSH-2.0-OpenSSH_9.2\r\n",
			want: `malformed HTTP response "SSH-2.0-OpenSSH_9.2"`},
		{name: "half an answer", answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso",
			want: "unexpected EOF"},
		{name: "sub-protocol chosen", answer: accept + "Sec-WebSocket-Protocol: header-x\r\n\r\n", want: ""},
		{name: "no sub-protocol chosen", answer: accept + "\r\n", want: ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener("example.com")
				dialled := dial(
					t.Context(), &http.Transport{DialContext: ln.dial, DisableKeepAlives: true},
					"http://example.com/event/realtime", nil)
				p := acceptPeer(t, ln)
				answered := async(func() (int, error) {
					return io.WriteString(p.nc, strings.Replace(test.answer, "KEY", p.accept(), 1))
				})
				switch test.name {
				case "empty", "not HTTP", "half an answer":
					<-answered
					p.nc.Close()
				}
				r := <-dialled
				if test.want == "" {
					if r.err != nil {
						t.Fatal(r.err)
					}
					go p.drain()
					r.value.close()
					return
				}
				if r.err == nil || !strings.Contains(r.err.Error(), test.want) ||
					strings.Contains(r.err.Error(), "\n") {
					t.Errorf("error %v, want %s", r.err, test.want)
				}
				var refused noUpgrade
				if errors.As(r.err, &refused) != (test.text != nil) || test.text != nil &&
					(refused.text != *test.text || refused.Error() != test.want || r.err != refused) {
					t.Errorf("refused with %q, error %q", refused.text, r.err)
				}
				p.drain() // this end has closed the connection
			})
		})
	}
}

// A server that never answers: after 15 s, or when the context ends.
func TestWebSocketHandshakeHangs(t *testing.T) {
	for _, limit := range []time.Duration{time.Minute, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener("example.com")
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			start := time.Now()
			dialled := dial(
				ctx, &http.Transport{DialContext: ln.dial, DisableKeepAlives: true}, "http://example.com/",
				nil)
			p := acceptPeer(t, ln)
			if r := <-dialled; !errors.Is(r.err, context.DeadlineExceeded) ||
				time.Since(start) != min(limit, dialTimeout) {
				t.Errorf("after %v: %v", time.Since(start), r.err)
			}
			p.drain()
		})
	}
	synctest.Test(t, func(t *testing.T) { // nobody even takes the connection
		start := time.Now()
		ln := newPipeListener("example.com")
		defer ln.Close() // net/http goes on dialling
		transport := &http.Transport{DialContext: ln.dial}
		if r := <-dial(t.Context(), transport, "http://example.com/", nil); !errors.Is(
			r.err, context.DeadlineExceeded) || time.Since(start) != dialTimeout {
			t.Errorf("after %v: %v", time.Since(start), r.err)
		}
	})
}

// Over real sockets, against x/net's server: many senders at once, each message whole, and echoed once.
func TestWebSocketEcho(t *testing.T) {
	for _, secure := range []bool{false, true} {
		server := startEchoServer(t, secure)
		const senders, messages = 8, 50
		got := make(chan string, senders*messages)
		r := <-dial(t.Context(), server.Client().Transport.(*http.Transport), server.URL, func(m string) {
			got <- m
		})
		if r.err != nil {
			t.Fatal(r.err)
		}
		var wg sync.WaitGroup
		for n := range senders {
			wg.Go(func() {
				for m := range messages {
					if err := r.value.send(
						t.Context(),
						fmt.Appendf(nil, `{"m":"%d %d %s"}`, n, m, strings.Repeat("x", n*m*7))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		seen := map[string]int{}
		for range senders * messages {
			seen[<-got]++
		}
		for n := range senders {
			for m := range messages {
				if want := fmt.Sprintf("%d %d %s", n, m, strings.Repeat("x", n*m*7)); seen[want] != 1 {
					t.Errorf("message %d of sender %d came %d times", m, n, seen[want])
				}
			}
		}
		r.value.close()
	}
}

func TestWebSocketReset(t *testing.T) {
	ln := listen(t)
	dialled := dial(t.Context(), &http.Transport{}, "http://"+ln.Addr().String(), nil)
	p := acceptPeer(t, ln)
	p.upgrade("chat")
	r := <-dialled
	if r.err != nil {
		t.Fatal(r.err)
	}
	p.nc.(*net.TCPConn).SetLinger(0)
	p.nc.Close()
	<-r.value.ctx.Done()
	if err := context.Cause(r.value.ctx); err == nil ||
		!strings.Contains(err.Error(), "connection reset by peer") {
		t.Error(err)
	}
	r.value.close()

	ln.Close()
	if r := <-dial(t.Context(), &http.Transport{}, "http://"+ln.Addr().String(), nil); r.err == nil ||
		!strings.Contains(r.err.Error(), "connection refused") {
		t.Errorf("nobody listens: %v", r.err)
	}
}

// A server's certificate has to lead to one of the system's roots, as crypto/tls would have it.
func TestCertificates(t *testing.T) {
	root, other := newCertificate(t, "Root", nil), newCertificate(t, "Other", nil)
	forged := newCertificate(t, "Root", nil) // the same name, another key
	middle := newCertificate(t, "Middle", root)
	leaf := newCertificate(t, "events.example.com", root)
	deep := newCertificate(t, "events.example.com", middle)
	wildcard := newCertificate(t, "*.example.com", root)
	expired := newCertificate(t, "events.example.com", root, func(c *x509.Certificate) {
		c.NotAfter = time.Now().Add(-time.Hour)
	})
	early := newCertificate(t, "events.example.com", root, func(c *x509.Certificate) {
		c.NotBefore = time.Now().Add(time.Hour)
	})
	client := newCertificate(t, "events.example.com", root, func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	self := newCertificate(t, "events.example.com", nil)
	noCA := newCertificate(t, "events.example.com", leaf) // by one that must not issue

	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), []byte(root.pem()), 0o600); err != nil {
		t.Fatal(err)
	}
	bundle := file("bundle.pem", "# Other\n"+other.pem()+"\n# Root\n"+root.pem()+self.pem())
	odd := file("odd.pem",
		"-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n-----BEGIN "+
			"CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"+
			strings.ReplaceAll(root.pem(), "\n", "\r\n")+"-----BEGIN CERTIFICATE-----\nAAAA")
	missing := filepath.Join(dir, "missing.pem")

	tests := []struct {
		name  string
		roots rootFiles
		host  string
		chain []*certificate
		want  string
	}{
		{"good", rootFiles{bundle}, "events.example.com", []*certificate{leaf}, ""},
		{"with an intermediate", rootFiles{bundle}, "events.example.com", []*certificate{deep, middle}, ""},
		{"with the root", rootFiles{bundle}, "events.example.com", []*certificate{deep, middle, root}, ""},
		{"in any order", rootFiles{bundle}, "events.example.com", []*certificate{deep, root, other, middle},
			""},
		{"wildcard", rootFiles{bundle}, "events.example.com", []*certificate{wildcard}, ""},
		{"the second file", rootFiles{missing, bundle}, "events.example.com", []*certificate{leaf}, ""},
		{"a directory is no file", rootFiles{dir, bundle}, "events.example.com", []*certificate{leaf}, ""},
		{"an odd file", rootFiles{odd}, "events.example.com", []*certificate{leaf}, ""},
		{"its own root", rootFiles{bundle}, "events.example.com", []*certificate{self}, ""},
		{"only the first file counts", rootFiles{file("b", other.pem()), bundle}, "events.example.com",
			[]*certificate{leaf}, "unknown authority"},
		{"no intermediate", rootFiles{bundle}, "events.example.com", []*certificate{deep},
			"unknown authority"},
		{"a root of the same name", rootFiles{file("c", forged.pem())}, "events.example.com",
			[]*certificate{leaf}, "unknown authority"},
		{"a root that the server sends", rootFiles{file("d", other.pem())}, "events.example.com",
			[]*certificate{leaf, root}, "unknown authority"},
		{"self-signed", rootFiles{file("e", root.pem())}, "events.example.com", []*certificate{self},
			"unknown authority"},
		{"by a server's certificate", rootFiles{bundle}, "events.example.com", []*certificate{noCA, leaf},
			"unknown authority"},
		{"another name", rootFiles{bundle}, "events.example.org", []*certificate{leaf},
			"certificate is valid for events.example.com, not events.example.org"},
		{"not below the wildcard", rootFiles{bundle}, "a.events.example.com", []*certificate{wildcard},
			"certificate is valid for"},
		{"expired", rootFiles{bundle}, "events.example.com", []*certificate{expired}, "expired"},
		{"not valid yet", rootFiles{bundle}, "events.example.com", []*certificate{early}, "not yet valid"},
		{"for clients", rootFiles{bundle}, "events.example.com", []*certificate{client},
			"incompatible key usage"},
	}
	for _, test := range tests {
		var chain []*x509.Certificate
		for _, c := range test.chain {
			chain = append(chain, c.Certificate)
		}
		if err := test.roots.tlsConfig("").VerifyConnection(
			tls.ConnectionState{
				ServerName: test.host, PeerCertificates: chain}); (err == nil) != (test.want == "") ||
			err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// The configuration that the program uses, over real connections.
func TestWebSocketCertificates(t *testing.T) {
	root := newCertificate(t, "Root", nil)
	leaf := newCertificate(t, "events.example.com", root)
	server := startEchoServer(t, true, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: leaf.key})
	file := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(file, []byte(root.pem()), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := startEchoServer(t, false)
	other := newCertificate(t, "127.0.0.1", root, func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = nil, []net.IP{{127, 0, 0, 1}}
	})
	address := startEchoServer(
		t, true, tls.Certificate{Certificate: [][]byte{other.Raw}, PrivateKey: other.key})
	for _, test := range []struct {
		name, host string
		to         *httptest.Server
		file, want string
	}{
		{"good", "events.example.com", server, file, ""},
		{"good for an address", "127.0.0.1", address, file, ""},
		{"unknown authority", "events.example.com", server, file + "x",
			"certificate signed by unknown authority"},
		{"another name", "events.example.org", server, file,
			"certificate is valid for events.example.com, not events.example.org"},
		{"an address", "127.0.0.1", server, file, "cannot validate certificate for 127.0.0.1"},
		{"another address", "127.0.0.2", address, file, "certificate is valid for 127.0.0.1, not 127.0.0.2"},
		{"no TLS at all", "events.example.com", plain, file, "does not look like a TLS handshake"},
	} {
		roots := rootFiles{test.file}
		transport :=
			&http.Transport{TLSClientConfig: roots.tlsConfig(test.host),
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, test.to.Listener.Addr().String())
				}}
		r := <-dial(t.Context(), transport, "https://"+test.host, nil)
		if (r.err == nil) != (test.want == "") ||
			r.err != nil &&
				(!strings.Contains(r.err.Error(), test.want) || strings.Contains(r.err.Error(), "\n")) {
			t.Errorf("%s: %v, want %q", test.name, r.err, test.want)
		}
		if r.err == nil {
			r.value.close()
		}
	}
}

// HTTPS_PROXY: a tunnel through a proxy, with and without a password.
func TestWebSocketProxy(t *testing.T) {
	server := startEchoServer(t, true)
	for _, test := range []struct{ user, answer, err string }{
		{"", "200", ""},
		{"me:p%40ss@", "200", ""},
		{"", "407 Proxy Authentication Required", "Proxy Authentication Required"},
		{"me:p%40ss@", "403 Forbidden", "Forbidden"},
		{"", "502 Bad Gateway", "Bad Gateway"},
	} {
		proxy := startConnectProxy(t, test.answer)
		address, err := url.Parse("http://" + test.user + proxy.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		transport := server.Client().Transport.(*http.Transport).Clone()
		transport.Proxy = http.ProxyURL(address) // ProxyFromEnvironment leaves loopback alone
		got := make(chan string, 1)
		r := <-dial(t.Context(), transport, server.URL, func(m string) { got <- m })
		asked := proxy.seen(0)
		if want := "CONNECT " + server.Listener.Addr().String(); asked.what != want {
			t.Errorf("asked %q, want %q", asked.what, want)
		}
		user, password,
			ok := (&http.Request{Header: http.Header{"Authorization": asked.header["Proxy-Authorization"]}}).
			BasicAuth()
		if ok != (test.user != "") || ok && (user != "me" || password != "p@ss") {
			t.Errorf("proxy authorization of %q: %q, %q, %v", test.user, user, password, ok)
		}
		if test.err != "" {
			if r.err == nil || !strings.Contains(r.err.Error(), test.err) ||
				strings.Contains(r.err.Error(), "ss@") {
				t.Errorf("%s: %v", test.answer, r.err)
			}
			continue
		}
		if r.err != nil {
			t.Fatal(r.err)
		}
		if err := r.value.send(t.Context(), []byte(`{"m":"through"}`)); err != nil || <-got != "through" {
			t.Error(err)
		}
		r.value.close()
	}
}

// Dials that fail are further and further apart, with full jitter, and those that AppSync refuses 10 s at
// least.
func TestDialsBackOff(t *testing.T) {
	for _, refused := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			logs := new(logLines)
			a := newTestAPI(nil)
			a.log = logs.logger()
			var at []time.Time
			ctx, cancel := context.WithCancel(t.Context())
			a.credentials = func(context.Context) (credentials, error) {
				if at = append(at, time.Now()); len(at) == 100 {
					cancel()
				}
				if refused {
					return credentials{}, fmt.Errorf("%w to connect", errRefused)
				}
				return credentials{}, errors.New("connection refused")
			}
			a.run(ctx, func(*session) (bool, error) { return false, nil }, func(error) {})
			if time.Since(at[99]) != 0 {
				t.Error("run waits after the end")
			}
			low, high, bound := 0, 0, firstBackoff
			for i := range 99 {
				pause := at[i+1].Sub(at[i])
				if refused {
					pause -= refusedPause
				}
				switch {
				case pause < 0 || pause >= bound:
					t.Errorf("refused %v, pause %d: %v, at most %v", refused, i, pause, bound)
				case pause < bound/4:
					low++
				case pause > bound*3/4:
					high++
				}
				bound = min(2*bound, maxBackoff)
			}
			if low == 0 || high == 0 { // each misses with a probability of 1 in 10^12
				t.Errorf("%d pauses in the first quarter, %d in the last", low, high)
			}
			if n := strings.Count(logs.String(), "level=WARN"); n != 1 {
				t.Errorf("told %d times, want once:\n%s", n, logs)
			}
		})
	}
}

func TestFirstLine(t *testing.T) {
	for in, want := range map[string]string{"": "", "a": "a", "a\nb": "a", "\nb": "",
		strings.Repeat("x", 161):        strings.Repeat("x", 160),
		strings.Repeat("x", 160) + "\n": strings.Repeat("x", 160),
		"é\x7fc\n":                      "é", "a\u00a0b\u009bc": "a\u00a0b"} {
		if got := firstLine(in); got != want {
			t.Errorf("%.10q: got %q", in, got)
		}
	}
}

// ---- helpers: environment, logs, goroutines ----

// environ is an environment of NAME=VALUE pairs, separated by spaces, with what Lambda always sets below
// them.
func environ(pairs string) func(string) string {
	values := map[string]string{"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "AWS_REGION": "eu-west-1"}
	for _, pair := range strings.Split(pairs, " ") {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	return func(name string) string { return values[name] }
}

// logLines keeps what is logged.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) logger() *slog.Logger {
	return newLogger(config{logLevel: slog.LevelDebug}, l)
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

type asyncResult[T any] struct {
	value T
	err   error
}

// async calls f; the channel brings what it returns.
func async[T any](f func() (T, error)) chan asyncResult[T] {
	done := make(chan asyncResult[T], 1)
	go func() {
		value, err := f()
		done <- asyncResult[T]{value, err}
	}()
	return done
}

func asBytes(events []string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, e := range events {
			if !yield([]byte(e)) {
				return
			}
		}
	}
}

func jsonStrings(t *testing.T, raw []byte) (object map[string]string) {
	t.Helper()
	if err := json.Unmarshal(raw, &object); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return object
}

// ---- helpers: HTTP ----

// transportFunc is an http.RoundTripper.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func httpAnswer(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: fmt.Sprint(status, " ", http.StatusText(status)), Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body))}
}

// splitAnswer takes an answer, "200 BODY", apart.
func splitAnswer(answer string) (status int, body string) {
	code, body, _ := strings.Cut(answer, " ")
	fmt.Sscan(code, &status)
	return status, body
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func port(ln net.Listener) string { return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port) }

// recordingServer is an HTTP server that keeps what it was asked.
type recordingServer struct {
	*httptest.Server
	t     *testing.T
	mu    sync.Mutex
	calls []recordedCall
}

type recordedCall struct {
	what   string // method and path, without the API's prefix
	header http.Header
	body   string
}

// record keeps a call and returns its number.
func (s *recordingServer) record(r *http.Request) int {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	what := r.Method + " " + strings.TrimPrefix(cmp.Or(r.URL.Path, r.Host), "/2020-01-01/extension/")
	s.calls = append(s.calls, recordedCall{what, r.Header.Clone(), string(body)})
	return len(s.calls) - 1
}

// seen returns a call, counted from 0.
func (s *recordingServer) seen(n int) recordedCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n >= len(s.calls) {
		s.t.Fatalf("%d calls, want one more", n)
	}
	return s.calls[n]
}

func (s *recordingServer) want(calls ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for _, c := range s.calls {
		got = append(got, c.what)
	}
	if !slices.Equal(got, calls) {
		s.t.Errorf("calls %q, want %q", got, calls)
	}
}

// startExtensionsAPI answers one call after the other, each "STATUS BODY".
func startExtensionsAPI(t *testing.T, answers ...string) *recordingServer {
	s := &recordingServer{t: t}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := s.record(r)
		if n >= len(answers) {
			t.Errorf("call %d: %s", n, r.URL.Path)
			return
		}
		status, body := splitAnswer(answers[n])
		w.Header().Set("Lambda-Extension-Identifier", "id-1")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}

// startConnectProxy is an HTTP proxy that opens tunnels, or refuses to, with a status.
func startConnectProxy(t *testing.T, status string) *recordingServer {
	s := &recordingServer{t: t}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.record(r)
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer client.Close()
		fmt.Fprintf(client, "HTTP/1.1 %s\r\n\r\n", status)
		if status != "200" {
			return
		}
		server, err := net.Dial("tcp", r.Host)
		if err != nil {
			t.Error(err)
			return
		}
		defer server.Close()
		back := async(func() (int64, error) { defer client.Close(); return io.Copy(client, server) })
		io.Copy(server, client)
		server.Close()
		<-back
	}))
	t.Cleanup(s.Close)
	return s
}

// startEchoServer is x/net's WebSocket server, which says back what it is told.
func startEchoServer(t *testing.T, secure bool, certificates ...tls.Certificate) *httptest.Server {
	handler := websocket.Server{
		Handshake: func(config *websocket.Config, _ *http.Request) error {
			config.Protocol = config.Protocol[:1]
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			for message := ""; websocket.Message.Receive(ws, &message) == nil; {
				websocket.Message.Send(ws, message)
			}
		},
	}
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if s.TLS = (&tls.Config{Certificates: certificates}); secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// certificate is one, with its key.
type certificate struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// newCertificate issues a certificate for name, by itself where issuer is nil.
func newCertificate(
	t *testing.T, name string, issuer *certificate, changes ...func(*x509.Certificate)) *certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if strings.Contains(name, ".") {
		c.DNSNames, c.ExtKeyUsage = []string{name}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	} else {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	for _, change := range changes {
		change(c)
	}
	by := &certificate{c, key}
	if issuer != nil {
		by = issuer
	}
	der, err := x509.CreateCertificate(crand.Reader, c, by.Certificate, key.Public(), by.key)
	if err == nil {
		c, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &certificate{c, key}
}

func (c *certificate) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// ---- helpers: a WebSocket's other end, played by the test ----

// peer is the server's end of one connection, byte for byte.
type peer struct {
	t       *testing.T
	nc      net.Conn
	r       *bufio.Reader
	request *http.Request // what the client asked first
}

func acceptPeer(t *testing.T, ln net.Listener) *peer {
	t.Helper()
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	p := &peer{t: t, nc: nc, r: bufio.NewReader(nc)}
	if p.request, err = http.ReadRequest(p.r); err != nil {
		t.Fatal(err)
	}
	return p
}

// accept answers the handshake's challenge (RFC 6455, section 4.2.2).
func (p *peer) accept() string {
	sum := sha1.Sum(
		[]byte(p.request.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (p *peer) upgrade(protocol string) {
	p.t.Helper()
	p.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: " +
		"Upgrade\r\nSec-WebSocket-Accept: " + p.accept() +
		"\r\nSec-WebSocket-Protocol: " + protocol + "\r\n\r\n")
}

func (p *peer) write(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.nc, text); err != nil {
		p.t.Error(err)
	}
}

func (p *peer) frame(final bool, opcode byte, payload string) {
	p.t.Helper()
	p.write(string(webSocketFrame(final, opcode, []byte(payload))))
}

// say sends one text message.
func (p *peer) say(format string, args ...any) {
	p.t.Helper()
	p.frame(true, websocket.TextFrame, fmt.Sprintf(format, args...))
}

// read returns the client's next frame, which must be whole and masked.
func (p *peer) read() (opcode byte, payload string) {
	p.t.Helper()
	var head [14]byte
	n := 2
	if _, err := io.ReadFull(p.r, head[:2]); err != nil {
		p.t.Fatal(err)
	}
	switch head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if _, err := io.ReadFull(p.r, head[2:n+4]); err != nil {
		p.t.Fatal(err)
	}
	size := uint64(head[1] & 0x7f)
	if n == 4 {
		size = uint64(binary.BigEndian.Uint16(head[2:]))
	} else if n == 10 {
		size = binary.BigEndian.Uint64(head[2:])
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(p.r, body); err != nil {
		p.t.Fatal(err)
	}
	for i := range body {
		body[i] ^= head[n+i%4]
	}
	if head[0]&0xf0 != 0x80 || head[1]&0x80 == 0 {
		p.t.Errorf("frame header %x: not final, or not masked", head[:2])
	}
	return head[0] & 0x0f, string(body)
}

// drain reads until the client has closed the connection.
func (p *peer) drain() { io.Copy(io.Discard, p.r) }

// operation reads the client's next message, which must be an AppSync operation of this type.
func (p *peer) operation(typ string) (m clientMessage) {
	p.t.Helper()
	opcode, payload := p.read()
	if err := json.Unmarshal([]byte(payload), &m); err != nil || opcode != websocket.TextFrame ||
		m.Type != typ {
		p.t.Fatalf("got opcode %d, %s, %v; want %s", opcode, payload, err, typ)
	}
	return m
}

// dial opens a WebSocket to a URL. handle gets the M of each message.
func dial(ctx context.Context, transport *http.Transport, target string,
	handle func(string)) chan asyncResult[*wsConn] {
	return async(func() (*wsConn, error) {
		u, err := url.Parse(target)
		if err != nil {
			return nil, err
		}
		return dialWebSocket(ctx, transport, u, []string{"chat", "header-x"},
			func(decoder *json.Decoder) error {
				var m struct{ M string }
				err := decoder.Decode(&m)
				if err == nil && handle != nil {
					handle(m.M)
				}
				return err
			})
	})
}

// openWebSocket returns both ends of a WebSocket, and what comes in at the client's.
func openWebSocket(t *testing.T) (*wsConn, *peer, chan string) {
	t.Helper()
	ln := newPipeListener("example.com")
	got := make(chan string, 100)
	dialled := dial(
		t.Context(), &http.Transport{DialContext: ln.dial}, "http://example.com/event/realtime",
		func(m string) { got <- m })
	p := acceptPeer(t, ln)
	p.upgrade("chat")
	r := <-dialled
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(r.value.close)
	return r.value, p, got
}

// ---- helpers: AppSync ----

const testToken = "marked-session-token"

var testCredentials = credentials{"AKIDTEST", "test-secret", testToken}

// newTestAPI is a client of the API that ln serves as example.com.
func newTestAPI(ln *pipeListener) *appsync {
	var transport *http.Transport
	if ln != nil {
		transport = &http.Transport{DialContext: ln.dial, DisableKeepAlives: true}
	}
	return newAppSync(
		endpoint{
			http:      &url.URL{Scheme: "http", Host: "example.com", Path: "/event"},
			realtime:  &url.URL{Scheme: "http", Host: "example.com", Path: "/event/realtime"},
			region:    "eu-west-1",
			namespace: "live-lambda",
			requests:  "/live-lambda/requests",
		},
		nil, transport,
		func(context.Context) (credentials, error) { return testCredentials, nil },
		slog.New(slog.DiscardHandler))
}

// startTestAPI is the emulator, for newTestAPI.
func startTestAPI(t *testing.T, opts eventAPIOptions) (*eventAPI, *pipeListener) {
	ln := newPipeListener("example.com")
	opts.region = "eu-west-1"
	if opts.apiKey == "" {
		opts.credentials = []credentials{testCredentials}
	}
	api := startEventAPI(ln, opts)
	t.Cleanup(api.close)
	return api, ln
}

// connectSession connects to AppSync, played by the test.
func connectSession(t *testing.T, ln *pipeListener, a *appsync) (*session, *peer) {
	t.Helper()
	return connectSessionWith(t, ln, a, `{"type":"connection_ack","connectionTimeoutMs":300000}`)
}

func connectSessionWith(t *testing.T, ln *pipeListener, a *appsync, ack string) (*session, *peer) {
	t.Helper()
	done := async(func() (*session, error) { return a.connect(t.Context()) })
	p := acceptPeer(t, ln)
	p.upgrade("aws-appsync-event-ws")
	p.operation("connection_init")
	p.say("%s", ack)
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(r.value.conn.close)
	p.say(`{"type":"ka"}`) // the acknowledged timeout counts from the next frame on
	return r.value, p
}

// tunnelTest is a running tunnel, and the local end of its calls, played by the test.
type tunnelTest struct {
	t      *testing.T
	api    *eventAPI
	tunnel *tunnel
	logs   *logLines
	events chan string // published on the requests channel
}

// startTunnel runs a tunnel to an emulator whose frames hook judges.
func startTunnel(t *testing.T, opts eventAPIOptions, hook func(apiFrame) apiVerdict) *tunnelTest {
	api, ln := startTestAPI(t, opts)
	c := &tunnelTest{t: t, api: api, logs: new(logLines), events: make(chan string, 1000)}
	api.intercept(func(f apiFrame) apiVerdict {
		var v apiVerdict
		if hook != nil {
			v = hook(f)
		}
		var m clientMessage
		if !f.out && f.channel == "/live-lambda/requests" && v.replace == nil &&
			json.Unmarshal(f.raw, &m) == nil {
			for _, event := range m.Events {
				c.events <- event
			}
		}
		return v
	})
	a := newTestAPI(ln)
	a.log = c.logs.logger()
	c.tunnel = newTunnel(a, false)
	ctx, cancel := context.WithCancel(t.Context())
	over := async(func() (bool, error) { c.tunnel.run(ctx); return true, nil })
	t.Cleanup(func() { cancel(); <-over })
	return c
}

// link is the tunnel's, as it is.
func (c *tunnelTest) link() *link {
	c.t.Helper()
	c.tunnel.mu.Lock()
	defer c.tunnel.mu.Unlock()
	if c.tunnel.link == nil {
		c.t.Fatal("no link")
	}
	return c.tunnel.link
}

// ready waits for the link. Its error is why there is none, after wait or where AppSync refuses it.
func (c *tunnelTest) ready(wait time.Duration) (*link, error) {
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		c.tunnel.mu.Lock()
		l, err := c.tunnel.link, c.tunnel.err
		c.tunnel.mu.Unlock()
		if l != nil || errors.Is(err, errRefused) || time.Since(start) > wait {
			return l, err
		}
	}
}

// send begins a call that waits for `accepted` without a limit.
func (c *tunnelTest) send(event string) *call {
	return c.tunnel.send(c.t.Context(), []byte(event), []byte(`{"request_id":"aws"}`), 0, linkTimeout)
}

// receive hands an event to the tunnel, as the link's subscription does.
func (c *tunnelTest) receive(l *link, event string) {
	p, err := parsePart(event)
	l.receiveEvent(event, p, err)
}

// requestMessage is a request that fits in one event.
type requestMessage struct {
	RequestID    string          `json:"request_id"`
	EventPayload json.RawMessage `json:"event_payload"`
	Context      json.RawMessage `json:"context"`
	LiveLambda   int             `json:"live_lambda"`
}

// request is the next event on the requests channel, a request.
func (c *tunnelTest) request() (m requestMessage) {
	c.t.Helper()
	event := <-c.events
	if err := json.Unmarshal([]byte(event), &m); err != nil || m.EventPayload == nil {
		c.t.Fatalf("got %s, %v; want a request", event, err)
	}
	return m
}

// done is the next event on the requests channel, which tells the end of an invocation.
func (c *tunnelTest) done() *part {
	c.t.Helper()
	event := <-c.events
	p, err := parsePart(event)
	if err != nil || p == nil || p.Type != "done" {
		c.t.Fatalf("got %s, %v; want done", event, err)
	}
	return p
}

// local publishes a message of the local end.
func (c *tunnelTest) local(p part, body []byte) {
	if p.Last {
		c.api.publish("/live-lambda/response/"+p.RequestID, string(p.encode(body)))
		return
	}
	for event := range p.split(body) {
		c.api.publish("/live-lambda/response/"+p.RequestID, string(event))
	}
}

// look returns whether a local end has accepted, the answer if there is one, and why the call has ended.
func (c *tunnelTest) look(out *call) (accepted bool, a *answer, err error) {
	c.tunnel.mu.Lock()
	defer c.tunnel.mu.Unlock()
	return out.heardOn != nil, out.answer, context.Cause(out.ctx)
}

// received is an answer.
type received struct{ contentType, errorType, xrayCause, body string }

// readAll is what r gives, or the error.
func readAll(r io.Reader) string {
	all, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	return string(all)
}

// await waits for the call's answer.
func (c *tunnelTest) await(out *call) received {
	c.t.Helper()
	late := time.AfterFunc(time.Minute, func() { out.cancel(nil) })
	defer late.Stop()
	a, err := out.wait()
	if err != nil {
		c.t.Fatalf("%v; log:\n%s", err, c.logs)
	}
	return received{a.contentType, a.errorType, a.xrayCause, readAll(a.body)}
}
