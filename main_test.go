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
