//go:build !layer

package main

// main_test.go tests main.go and the configuration: what an environment becomes, and how the extension
// starts and stops.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// withHost is the variable that a configuration for AppSync cannot do without. Others follow it.
const withHost = "LIVE_LAMBDA_APPSYNC_HTTP_HOST=events.example.com "

// checkConfig reads each environment of want, a variable or more, and compares what becomes of it.
func checkConfig(t *testing.T, what func(config) any, want map[string]any) {
	t.Helper()
	for env, value := range want {
		cfg, problems := readConfig(environ(env))
		if len(problems) > 0 {
			t.Errorf("%s: problems %q", env, problems)
			continue
		}
		if got := what(cfg); !reflect.DeepEqual(got, value) {
			t.Errorf("%s: got %v, want %v", env, got, value)
		}
	}
}

func TestLayerIsOnUnlessItIsSwitchedOff(t *testing.T) {
	checkConfig(t, func(c config) any { return c.off }, map[string]any{
		"":                false,
		"LIVE_LAMBDA=on":  false,
		"LIVE_LAMBDA=off": true,
		"LIVE_LAMBDA=OFF": true,
	})
}

func TestDeployedCodeRunsOfflineUnlessAnErrorIsWanted(t *testing.T) {
	checkConfig(t, func(c config) any { return c.offlineError }, map[string]any{
		"":                             false,
		"LIVE_LAMBDA_OFFLINE=deployed": false,
		"LIVE_LAMBDA_OFFLINE=error":    true,
	})
}

func TestAnswersGoToTheCallerUnlessTheRuntimeIsWanted(t *testing.T) {
	checkConfig(t, func(c config) any { return c.toRuntime }, map[string]any{
		"":                             false,
		"LIVE_LAMBDA_DELIVERY=caller":  false,
		"LIVE_LAMBDA_DELIVERY=runtime": true,
	})
}

func TestEnvironmentIsForwardedOnlyIfThatIsSwitchedOn(t *testing.T) {
	checkConfig(t, func(c config) any { return c.forwardEnv }, map[string]any{
		"":                            false,
		"LIVE_LAMBDA_FORWARD_ENV=off": false,
		"LIVE_LAMBDA_FORWARD_ENV=on LIVE_LAMBDA_KEY=" + testKey: true,
	})
}

// Whoever may subscribe could read it.
func TestEnvironmentIsNotForwardedUnsealed(t *testing.T) {
	env := map[string]string{"LIVE_LAMBDA_FORWARD_ENV": "on"}
	cfg, problems := readConfig(func(name string) string { return env[name] })
	if cfg.forwardEnv || len(problems) != 1 || !strings.Contains(problems[0], "without LIVE_LAMBDA_KEY") {
		t.Errorf("got %v, %q", cfg.forwardEnv, problems)
	}
}

func TestAcceptTimeoutIsADuration(t *testing.T) {
	checkConfig(t, func(c config) any { return c.accept }, map[string]any{
		"":                                  time.Duration(0),
		"LIVE_LAMBDA_ACCEPT_TIMEOUT=0s":     time.Duration(0),
		"LIVE_LAMBDA_ACCEPT_TIMEOUT=3s":     3 * time.Second,
		"LIVE_LAMBDA_ACCEPT_TIMEOUT=1500ms": 1500 * time.Millisecond,
	})
}

func TestListenerPortIs8082OrAnother(t *testing.T) {
	checkConfig(t, func(c config) any { return c.port }, map[string]any{
		"":                         "8082",
		"LRAP_LISTENER_PORT=1":     "1",
		"LRAP_LISTENER_PORT=65535": "65535",
	})
}

// Another proxy may stand between this one and Lambda. It serves the Runtime API, never the Extensions API.
func TestRuntimeAPIIsLambdasOrAnotherProxys(t *testing.T) {
	both := func(c config) any { return c.extensionsAPI + " " + c.runtimeAPI }
	checkConfig(t, both, map[string]any{
		"": "127.0.0.1:9001 127.0.0.1:9001",
		"LRAP_RUNTIME_API_ENDPOINT=127.0.0.1:9009":     "127.0.0.1:9001 127.0.0.1:9009",
		"LRAP_RUNTIME_API_ENDPOINT=[::1]:9009":         "127.0.0.1:9001 [::1]:9009",
		"LRAP_RUNTIME_API_ENDPOINT=169.254.100.1:8082": "127.0.0.1:9001 169.254.100.1:8082",
	})
}

func TestExtensionHasTheNameOfItsFile(t *testing.T) {
	checkConfig(t, func(c config) any { return c.extensionName }, map[string]any{
		"":                                "live-lambda-extension",
		"AWS_LAMBDA_EXTENSION_NAME=other": "other",
	})
}

func TestLogLevelIsItsOwnOrElseLambdas(t *testing.T) {
	checkConfig(t, func(c config) any { return c.logLevel }, map[string]any{
		"":                            slog.LevelInfo,
		"LIVE_LAMBDA_LOG_LEVEL=debug": slog.LevelDebug,
		"LIVE_LAMBDA_LOG_LEVEL=Info":  slog.LevelInfo,
		"LIVE_LAMBDA_LOG_LEVEL=WARN":  slog.LevelWarn,
		"LIVE_LAMBDA_LOG_LEVEL=error": slog.LevelError,
		"AWS_LAMBDA_LOG_LEVEL=TRACE":  slog.LevelDebug,
		"AWS_LAMBDA_LOG_LEVEL=WARN":   slog.LevelWarn,
		"AWS_LAMBDA_LOG_LEVEL=FATAL":  slog.LevelError,
		"AWS_LAMBDA_LOG_LEVEL=DEBUG LIVE_LAMBDA_LOG_LEVEL=warn": slog.LevelWarn,
	})
}

func TestLogIsTextUnlessLambdasIsJSON(t *testing.T) {
	checkConfig(t, func(c config) any { return c.logJSON }, map[string]any{
		"":                           false,
		"AWS_LAMBDA_LOG_FORMAT=Text": false,
		"AWS_LAMBDA_LOG_FORMAT=JSON": true,
	})
}

func TestRootsAreThoseOfSSLCertFile(t *testing.T) {
	checkConfig(t, func(c config) any { return c.roots }, map[string]any{
		"SSL_CERT_FILE=/a": []string{"/a"},
	})
}

func TestWithoutAHostThereIsNoAppSync(t *testing.T) {
	checkConfig(t, func(c config) any { return c.api == nil }, map[string]any{"": true})
}

func TestRequestsChannelHasNamespaceAndStage(t *testing.T) {
	requests := func(c config) any { return c.api.namespace + " " + c.api.requests(c.api.stage) }
	long := strings.Repeat("s", 50)
	checkConfig(t, requests, map[string]any{
		withHost: "live-lambda /live-lambda/requests",
		withHost + "LIVE_LAMBDA_NAMESPACE=default":                 "default /default/requests",
		withHost + "LIVE_LAMBDA_NAMESPACE=a LIVE_LAMBDA_STAGE=B-1": "a /a/requests/B-1",
		withHost + "LIVE_LAMBDA_STAGE=" + long: "live-lambda /live-lambda/requests/" +
			long,
	})
}

// With an API key nothing is signed, and no region is needed.
func TestRegionIsItsOwnOrElseTheFunctions(t *testing.T) {
	checkConfig(t, func(c config) any { return c.api.region }, map[string]any{
		withHost: "eu-west-1",
		withHost + "LIVE_LAMBDA_APPSYNC_REGION=us-east-2":            "us-east-2",
		withHost + "AWS_REGION= LIVE_LAMBDA_APPSYNC_API_KEY=da2-key": "",
	})
}

func TestAPIKeyIsRead(t *testing.T) {
	checkConfig(t, func(c config) any { return c.api.apiKey }, map[string]any{
		withHost: "",
		withHost + "LIVE_LAMBDA_APPSYNC_API_KEY=da2-key": "da2-key",
	})
}

func TestFunctionIsDescribedByLambdasVariables(t *testing.T) {
	checkConfig(t, func(c config) any { return c.function }, map[string]any{
		"AWS_LAMBDA_FUNCTION_NAME=f AWS_LAMBDA_FUNCTION_VERSION=7 " +
			"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512 " +
			"AWS_LAMBDA_LOG_GROUP_NAME=g AWS_LAMBDA_LOG_STREAM_NAME=s": map[string]any{
			"function_name":    "f",
			"function_version": "7",
			"memory_size_mb":   512,
			"aws_region":       "eu-west-1",
			"log_group_name":   "g",
			"log_stream_name":  "s",
		},
	})
}

// checkRefusedValues reads environments of which a variable, name, cannot be used. It wants one line for
// each: the line begins with the name and says what is used instead. The rest is as if name were not set.
func checkRefusedValues(t *testing.T, name, instead string, environments ...string) {
	t.Helper()
	want, _ := readConfig(environ(""))
	for _, env := range environments {
		cfg, problems := readConfig(environ(env))
		if len(problems) != 1 || !strings.HasPrefix(problems[0], name+" ") ||
			!strings.Contains(problems[0], instead) {
			t.Errorf("%s: problems %q, want one of %s that says %q", env, problems, name, instead)
		}
		if strings.Contains(strings.Join(problems, ""), "secret") {
			t.Errorf("%s: %q tells the password", env, problems)
		}
		cfg.function["aws_region"] = "eu-west-1" // which some of the environments clear
		if !reflect.DeepEqual(cfg, want) {
			t.Errorf("%s: got %+v, want the defaults", env, cfg)
		}
	}
}

func TestUnknownWordOfASwitchIsItsDefault(t *testing.T) {
	checkRefusedValues(t, "LIVE_LAMBDA", "using on", "LIVE_LAMBDA=no")
	checkRefusedValues(t, "LIVE_LAMBDA_OFFLINE", "using deployed", "LIVE_LAMBDA_OFFLINE=fail")
	checkRefusedValues(t, "LIVE_LAMBDA_DELIVERY", "using caller", "LIVE_LAMBDA_DELIVERY=both")
	checkRefusedValues(t, "LIVE_LAMBDA_FORWARD_ENV", "using off", "LIVE_LAMBDA_FORWARD_ENV=1")
}

func TestUnknownLogLevelIsLambdasOrInfo(t *testing.T) {
	checkRefusedValues(t, "LIVE_LAMBDA_LOG_LEVEL", "using info", "LIVE_LAMBDA_LOG_LEVEL=loud")
	checkRefusedValues(t, "LIVE_LAMBDA_LOG_LEVEL", "using INFO",
		"LIVE_LAMBDA_LOG_LEVEL=loud AWS_LAMBDA_LOG_LEVEL=INFO")
	checkRefusedValues(t, "AWS_LAMBDA_LOG_LEVEL", "using info", "AWS_LAMBDA_LOG_LEVEL=loud")
}

func TestBadAcceptTimeoutIsNone(t *testing.T) {
	checkRefusedValues(t, "LIVE_LAMBDA_ACCEPT_TIMEOUT", "using 0",
		"LIVE_LAMBDA_ACCEPT_TIMEOUT=3",
		"LIVE_LAMBDA_ACCEPT_TIMEOUT=soon",
		"LIVE_LAMBDA_ACCEPT_TIMEOUT=-1s")
}

func TestBadListenerPortIs8082(t *testing.T) {
	checkRefusedValues(t, "LRAP_LISTENER_PORT", "using 8082",
		"LRAP_LISTENER_PORT=http",
		"LRAP_LISTENER_PORT=0",
		"LRAP_LISTENER_PORT=65536",
		"LRAP_LISTENER_PORT=-1")
}

func TestBadRuntimeAPIEndpointIsLambdas(t *testing.T) {
	checkRefusedValues(t, "LRAP_RUNTIME_API_ENDPOINT", "using 127.0.0.1:9001",
		"LRAP_RUNTIME_API_ENDPOINT=9009",
		"LRAP_RUNTIME_API_ENDPOINT=http://127.0.0.1:9009",
		"LRAP_RUNTIME_API_ENDPOINT=127.0.0.1:",
		"LRAP_RUNTIME_API_ENDPOINT=:9009",
		"LRAP_RUNTIME_API_ENDPOINT=127.0.0.1:http",
		"LRAP_RUNTIME_API_ENDPOINT=a/b:1")
}

func TestRuntimeAPIEndpointIsNotThisProxyItself(t *testing.T) {
	checkRefusedValues(t, "LRAP_RUNTIME_API_ENDPOINT",
		"not another server's host:port; using 127.0.0.1:9001",
		"LRAP_RUNTIME_API_ENDPOINT=127.0.0.1:8082")
	checkRefusedValues(t, "LRAP_RUNTIME_API_ENDPOINT", "using 127.0.0.1:9001",
		"LRAP_RUNTIME_API_ENDPOINT=localhost:8082",
		"LRAP_RUNTIME_API_ENDPOINT=LocalHost:8082",
		"LRAP_RUNTIME_API_ENDPOINT=0.0.0.0:8082",
		"LRAP_RUNTIME_API_ENDPOINT=[::]:8082",
		"LRAP_RUNTIME_API_ENDPOINT=[::ffff:127.0.0.1]:8082",
		"LRAP_RUNTIME_API_ENDPOINT=127.1:8082")
}

func TestBadHostMeansGoingWithoutAppSync(t *testing.T) {
	checkRefusedValues(t, "LIVE_LAMBDA_APPSYNC_HTTP_HOST", "going without AppSync",
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST=https://",
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST=a:b",
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST=ftp://a",
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST=https://me:secret@a",
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST=me@a")
	checkRefusedValues(t, "LIVE_LAMBDA_APPSYNC_REALTIME_HOST", "going without AppSync",
		withHost+"LIVE_LAMBDA_APPSYNC_REALTIME_HOST=https://")
}

func TestOnlyLoopbackIsReachedWithoutTLS(t *testing.T) {
	checkRefusedValues(t, "LIVE_LAMBDA_APPSYNC_HTTP_HOST", "going without AppSync",
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST=http://events.example.com",
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST=ws://10.0.0.1",
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST=http://localhost.example.com")
	checkRefusedValues(t, "LIVE_LAMBDA_APPSYNC_REALTIME_HOST", "going without AppSync",
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST=http://127.0.0.1:1 LIVE_LAMBDA_APPSYNC_REALTIME_HOST=example.com",
		withHost+"LIVE_LAMBDA_APPSYNC_REALTIME_HOST=http://example.com")
}

func TestWithoutARegionNothingCanBeSigned(t *testing.T) {
	checkRefusedValues(t, "LIVE_LAMBDA_APPSYNC_REGION", "going without AppSync", withHost+"AWS_REGION=")
}

func TestUnknownProtocolMeansGoingWithoutAppSync(t *testing.T) {
	checkRefusedValues(t, "LIVE_LAMBDA_APPSYNC_PROTOCOL", "going without AppSync",
		withHost+"LIVE_LAMBDA_APPSYNC_PROTOCOL=mqtt")
}

func TestNamespaceAndStageAreSegmentsOfAChannel(t *testing.T) {
	long := strings.Repeat("n", 51)
	checkRefusedValues(t, "LIVE_LAMBDA_NAMESPACE", "going without AppSync",
		withHost+"LIVE_LAMBDA_NAMESPACE=a_b",
		withHost+"LIVE_LAMBDA_NAMESPACE=a/b",
		withHost+"LIVE_LAMBDA_NAMESPACE=-a",
		withHost+"LIVE_LAMBDA_NAMESPACE="+long)
	checkRefusedValues(t, "LIVE_LAMBDA_STAGE", "going without AppSync",
		withHost+"LIVE_LAMBDA_STAGE=*",
		withHost+"LIVE_LAMBDA_STAGE=dev-",
		withHost+"LIVE_LAMBDA_STAGE=ü",
		withHost+"LIVE_LAMBDA_STAGE="+long)
}

func TestEachBadVariableIsALine(t *testing.T) {
	_, problems := readConfig(
		environ("LIVE_LAMBDA=x LRAP_LISTENER_PORT=x LIVE_LAMBDA_OFFLINE=x LIVE_LAMBDA_APPSYNC_HTTP_HOST=a:b"))
	if len(problems) != 4 {
		t.Errorf("four faults: %q", problems)
	}
}

// The domains that AppSync gives an API.
const (
	awsHTTP     = "abcdefghijklmnopqrstuvwxyz.appsync-api.us-east-1.amazonaws.com"
	awsRealtime = "abcdefghijklmnopqrstuvwxyz.appsync-realtime-api.us-east-1.amazonaws.com"
)

// hostTest is what stands in the variables of the two hosts, and what becomes of it.
type hostTest struct {
	http, realtime         string
	wantHTTP, wantRealtime string
}

// check reads the configuration of a function whose own region is not known, and compares.
func (test hostTest) check(t *testing.T, wantRegion string) {
	t.Helper()
	cfg, problems := readConfig(regional(environ("AWS_REGION= LIVE_LAMBDA_APPSYNC_API_KEY=da2-key " +
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST=" + test.http +
		" LIVE_LAMBDA_APPSYNC_REALTIME_HOST=" + test.realtime)))
	if cfg.api == nil || len(problems) > 0 {
		t.Errorf("%s, %s: refused: %q", test.http, test.realtime, problems)
		return
	}
	if got := cfg.api.http.String(); got != test.wantHTTP {
		t.Errorf("%s, %s: HTTP %s, want %s", test.http, test.realtime, got, test.wantHTTP)
	}
	if got := cfg.api.realtime.String(); got != test.wantRealtime {
		t.Errorf("%s, %s: realtime %s, want %s", test.http, test.realtime, got, test.wantRealtime)
	}
	if got := cfg.api.region; got != wantRegion {
		t.Errorf("%s, %s: region %q, want %q", test.http, test.realtime, got, wantRegion)
	}
}

// Whatever is copied from the console, with or without scheme, path, query or port, names the same API.
func TestHostOfAppSyncsOwnDomainMayBeWrittenInManyWays(t *testing.T) {
	for _, written := range []struct{ http, realtime string }{
		{http: awsHTTP},
		{http: "https://" + awsHTTP},
		{http: "https://" + awsHTTP + "/event", realtime: awsRealtime},
		{http: "https://" + awsHTTP + "/?a=b#c", realtime: "wss://" + awsRealtime + "/event/realtime"},
		{http: "wss://" + awsHTTP, realtime: "https://" + awsRealtime},
		{http: strings.ToUpper("https://" + awsHTTP)},
		{http: "HTTPS://" + awsHTTP, realtime: "WSS://" + awsRealtime},
	} {
		hostTest{
			http:         written.http,
			realtime:     written.realtime,
			wantHTTP:     "https://" + awsHTTP + "/event",
			wantRealtime: "https://" + awsRealtime + "/event/realtime",
		}.check(t, "us-east-1")
	}
}

func TestRealtimeHostAndRegionFollowFromTheHTTPHost(t *testing.T) {
	hostTest{
		http:         awsHTTP + ":8443",
		wantHTTP:     "https://" + awsHTTP + ":8443/event",
		wantRealtime: "https://" + awsRealtime + ":8443/event/realtime",
	}.check(t, "us-east-1")
	hostTest{
		http:         "a.appsync-api.cn-north-1.amazonaws.com.cn",
		wantHTTP:     "https://a.appsync-api.cn-north-1.amazonaws.com.cn/event",
		wantRealtime: "https://a.appsync-realtime-api.cn-north-1.amazonaws.com.cn/event/realtime",
	}.check(t, "cn-north-1")
}

func TestCustomDomainHasBothEndpointsUnlessARealtimeHostIsNamed(t *testing.T) {
	hostTest{
		http:         "events.example.com",
		wantHTTP:     "https://events.example.com/event",
		wantRealtime: "https://events.example.com/event/realtime",
	}.check(t, "")
	hostTest{
		http:         "events.example.com",
		realtime:     "realtime.example.com:444",
		wantHTTP:     "https://events.example.com/event",
		wantRealtime: "https://realtime.example.com:444/event/realtime",
	}.check(t, "")
}

func TestLoopbackMayBeReachedWithoutTLS(t *testing.T) {
	for _, test := range []hostTest{
		{
			http:         "http://127.0.0.1:9000",
			wantHTTP:     "http://127.0.0.1:9000/event",
			wantRealtime: "http://127.0.0.1:9000/event/realtime",
		},
		{
			http:         "http://localhost:9000",
			wantHTTP:     "http://localhost:9000/event",
			wantRealtime: "http://localhost:9000/event/realtime",
		},
		{
			http:         "http://[::1]:9000",
			wantHTTP:     "http://[::1]:9000/event",
			wantRealtime: "http://[::1]:9000/event/realtime",
		},
		{
			http:         "ws://127.0.0.1:9000",
			realtime:     "ws://127.0.0.2:9001",
			wantHTTP:     "http://127.0.0.1:9000/event",
			wantRealtime: "http://127.0.0.2:9001/event/realtime",
		},
	} {
		test.check(t, "")
	}
}

func TestHTTPHostDecidesOnTLSForBoth(t *testing.T) {
	for _, test := range []hostTest{
		{
			http:         "http://127.0.0.1:9000",
			realtime:     "127.0.0.1:9001",
			wantHTTP:     "http://127.0.0.1:9000/event",
			wantRealtime: "http://127.0.0.1:9001/event/realtime",
		},
		{
			http:         "http://127.0.0.1:9000",
			realtime:     "wss://127.0.0.1:9001",
			wantHTTP:     "http://127.0.0.1:9000/event",
			wantRealtime: "http://127.0.0.1:9001/event/realtime",
		},
		{
			http:         "127.0.0.1:9000",
			realtime:     "ws://127.0.0.1:9001",
			wantHTTP:     "https://127.0.0.1:9000/event",
			wantRealtime: "https://127.0.0.1:9001/event/realtime",
		},
	} {
		test.check(t, "")
	}
}

// checkProtocol reads what a protocol's name and two hosts become. The URLs tell which protocol it is.
func checkProtocol(t *testing.T, protocol string, test hostTest) {
	t.Helper()
	cfg, problems := readConfig(
		environ("LIVE_LAMBDA_APPSYNC_HTTP_HOST=" + test.http + " LIVE_LAMBDA_APPSYNC_REALTIME_HOST=" +
			test.realtime + " LIVE_LAMBDA_APPSYNC_PROTOCOL=" + protocol))
	if cfg.api == nil || len(problems) > 0 {
		t.Errorf("%q, %+v: refused: %q", protocol, test, problems)
		return
	}
	if got := cfg.api.http.String(); got != test.wantHTTP {
		t.Errorf("%q, %+v: HTTP %s", protocol, test, got)
	}
	if got := cfg.api.realtime.String(); got != test.wantRealtime {
		t.Errorf("%q, %+v: realtime %s", protocol, test, got)
	}
	if want := strings.HasSuffix(test.wantHTTP, "/graphql"); cfg.api.graphql != want {
		t.Errorf("%q, %+v: graphql %v", protocol, test, cfg.api.graphql)
	}
}

func TestProtocolIsEventsUnlessSomethingSaysGraphQL(t *testing.T) {
	for _, test := range []struct{ protocol, http string }{
		{http: awsHTTP},
		{protocol: "events", http: awsHTTP},
		{protocol: "events", http: awsHTTP + "/graphql"},
		{http: awsHTTP + "/graphqls"},
	} {
		checkProtocol(t, test.protocol, hostTest{
			http:         test.http,
			wantHTTP:     "https://" + awsHTTP + "/event",
			wantRealtime: "https://" + awsRealtime + "/event/realtime",
		})
	}
}

// If the variable does not name the protocol, the path of either host does.
func TestProtocolIsGraphQLIfTheVariableOrAPathSaysSo(t *testing.T) {
	for _, test := range []struct{ protocol, http, realtime string }{
		{protocol: "graphql", http: awsHTTP},
		{protocol: "GraphQL", http: awsHTTP + "/event", realtime: awsRealtime},
		{http: awsHTTP + "/graphql"},
		{http: "https://" + awsHTTP + "/graphql/", realtime: "wss://" + awsRealtime + "/graphql"},
		{http: awsHTTP, realtime: "wss://" + awsRealtime + "/graphql"},
	} {
		checkProtocol(t, test.protocol, hostTest{
			http:         test.http,
			realtime:     test.realtime,
			wantHTTP:     "https://" + awsHTTP + "/graphql",
			wantRealtime: "https://" + awsRealtime + "/graphql",
		})
	}
}

func TestGraphQLOnACustomDomainHasARealtimePath(t *testing.T) {
	checkProtocol(t, "graphql", hostTest{
		http:         "api.example.com",
		wantHTTP:     "https://api.example.com/graphql",
		wantRealtime: "https://api.example.com/graphql/realtime",
	})
	checkProtocol(t, "", hostTest{
		http:         "api.example.com",
		realtime:     "wss://api.example.com/graphql/realtime",
		wantHTTP:     "https://api.example.com/graphql",
		wantRealtime: "https://api.example.com/graphql/realtime",
	})
	checkProtocol(t, "graphql", hostTest{
		http:         "http://127.0.0.1:9000",
		wantHTTP:     "http://127.0.0.1:9000/graphql",
		wantRealtime: "http://127.0.0.1:9000/graphql/realtime",
	})
}

// logged is what a logger of this configuration makes of four lines, without their times if it writes text.
func logged(cfg config) string {
	var out bytes.Buffer
	log := newLogger(cfg, &out)
	log.Debug("looked", "n", 1)
	log.Info("registered", "function", "f", "port", 8082)
	log.Warn("odd", "error", errors.New("two\nlines"))
	log.Error("bad")
	return regexp.MustCompile(`(?m)^time=\S{20,40} `).ReplaceAllString(out.String(), "")
}

var logLevels = []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

func TestLogHasOneLineOfTextForEachMessageFromItsLevelUp(t *testing.T) {
	text := []string{
		"level=DEBUG msg=looked source=live-lambda n=1\n",
		"level=INFO msg=registered source=live-lambda function=f port=8082\n",
		`level=WARN msg=odd source=live-lambda error="two\nlines"` + "\n",
		"level=ERROR msg=bad source=live-lambda\n",
	}
	for i, level := range logLevels {
		got, want := logged(config{logLevel: level}), strings.Join(text[i:], "")
		if got != want {
			t.Errorf("text at %v:\n%swant\n%s", level, got, want)
		}
	}
}

func TestLogHasOneObjectOfJSONForEachMessageFromItsLevelUp(t *testing.T) {
	for i, level := range logLevels {
		lines := strings.SplitAfter(strings.TrimSpace(logged(config{logLevel: level, logJSON: true})), "\n")
		if len(lines) != 4-i {
			t.Errorf("JSON at %v: %d lines, want %d", level, len(lines), 4-i)
		}
	}
	var line struct {
		Time     time.Time
		Level    string
		Msg      string
		Source   string
		Function string
		Port     int
	}
	first, _, _ := strings.Cut(logged(config{logJSON: true}), "\n")
	if err := json.Unmarshal([]byte(first), &line); err != nil {
		t.Fatal(err)
	}
	if line.Time.IsZero() || line.Level != "INFO" || line.Msg != "registered" ||
		line.Source != "live-lambda" || line.Function != "f" || line.Port != 8082 {
		t.Errorf("JSON: got %s", first)
	}
}

// The environment of an endpoint for credentials, as Lambda has it with SnapStart.
const containerEnv = "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9001/c"

// containerAnswer is what the endpoint says, and containerKeys what it means.
const containerAnswer = `{"AccessKeyId":"AKIDCONTAINER","SecretAccessKey":"container-secret",` +
	`"Token":"container-token","Expiration":"2100-01-01T00:00:00Z"}`

var containerKeys = credentials{
	accessKeyID:     "AKIDCONTAINER",
	secretAccessKey: "container-secret",
	sessionToken:    "container-token",
}

// readRoleCredentials reads the credentials of an environment once. If answer is empty, the endpoint must not
// be asked; or else it must be asked in the right way.
func readRoleCredentials(t *testing.T, env string, status int, answer string) (credentials, error) {
	t.Helper()
	cfg, _ := readConfig(environ("AWS_CONTAINER_AUTHORIZATION_TOKEN=container-token " + env))
	transport := transportFunc(func(r *http.Request) (*http.Response, error) {
		if answer == "" {
			t.Errorf("asked for %s", r.URL)
		}
		token := r.Header.Get("Authorization")
		if r.Method != "GET" || r.URL.Path != "/c" || token != "container-token" {
			t.Errorf("%s %s with token %q", r.Method, r.URL.Path, token)
		}
		return httpAnswer(status, answer), nil
	})
	got, err := roleCredentials(role(cfg.keys), transport)(t.Context())
	if err != nil &&
		(strings.Contains(err.Error(), "container-") || strings.Contains(err.Error(), "AKID")) {
		t.Errorf("%q tells secrets", err)
	}
	return got, err
}

func TestRoleCredentialsAreTheEnvironmentsOrElseTheEndpoints(t *testing.T) {
	tests := []struct {
		name   string
		env    string
		answer string
		want   credentials
	}{
		{
			name: "environment",
			env:  "AWS_ACCESS_KEY_ID=AKIDENV AWS_SECRET_ACCESS_KEY=s AWS_SESSION_TOKEN=t",
			want: credentials{accessKeyID: "AKIDENV", secretAccessKey: "s", sessionToken: "t"},
		},
		{
			name: "long-lived keys",
			env:  "AWS_ACCESS_KEY_ID=AKIDENV AWS_SECRET_ACCESS_KEY=s",
			want: credentials{accessKeyID: "AKIDENV", secretAccessKey: "s"},
		},
		{
			name: "environment first",
			env:  "AWS_ACCESS_KEY_ID=AKIDENV AWS_SECRET_ACCESS_KEY=s " + containerEnv,
			want: credentials{accessKeyID: "AKIDENV", secretAccessKey: "s"},
		},
		{
			name:   "endpoint",
			env:    containerEnv,
			answer: containerAnswer,
			want:   containerKeys,
		},
		{
			name:   "half of the environment",
			env:    "AWS_ACCESS_KEY_ID=AKIDENV " + containerEnv,
			answer: containerAnswer,
			want:   containerKeys,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := readRoleCredentials(t, test.env, 200, test.answer)
			if err != nil || got != test.want {
				t.Errorf("got %v, %v; want %v", got, err, test.want)
			}
		})
	}
}

func TestRoleCredentialsThatCannotBeReadAreAnErrorWithoutSecrets(t *testing.T) {
	tests := []struct {
		name   string
		env    string
		status int // 200 if it is 0
		answer string
		want   string // in the error
	}{
		{name: "nothing", want: "AWS_ACCESS_KEY_ID"},
		{name: "half", env: "AWS_ACCESS_KEY_ID=AKIDENV", want: "AWS_CONTAINER_CREDENTIALS_FULL_URI"},
		{
			name: "no URL",
			env:  "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://container-token@:x/",
			want: "not an URL",
		},
		{
			name:   "wrong token",
			env:    containerEnv,
			status: 404,
			answer: `{"errorType":"NotFound","errorMessage":"container-token"}`,
			want:   "container credentials: 404 Not Found \"NotFound\"",
		},
		{
			name:   "not JSON",
			env:    containerEnv,
			answer: "container-token",
			want:   "container credentials: invalid character",
		},
		{
			name:   "a string",
			env:    containerEnv,
			answer: `"container-token"`,
			want:   "container credentials: json: cannot unmarshal",
		},
		{
			name:   "no keys",
			env:    containerEnv,
			answer: `{"Token":"container-token"}`,
			want:   "container credentials: there are none",
		},
		{
			name:   "cut off",
			env:    containerEnv,
			answer: `{"AccessKeyId":"AKIDCONTAINER","SecretAccessKey":"container-sec`,
			want:   "container credentials: unexpected end",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := readRoleCredentials(t, test.env, cmp.Or(test.status, 200), test.answer)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestRoleCredentialsWithoutATokenDoNotKeepTheTokenBefore(t *testing.T) {
	answers := []string{
		`{"AccessKeyId":"A","SecretAccessKey":"s","Token":"t"}`,
		`{"AccessKeyId":"B","SecretAccessKey":"u"}`,
	}
	n := 0
	transport := transportFunc(func(*http.Request) (*http.Response, error) {
		n++
		return httpAnswer(200, answers[n-1]), nil
	})
	keys := roleCredentials(role{containerURI: "http://127.0.0.1:9001/c"}, transport)
	for _, want := range []credentials{
		{accessKeyID: "A", secretAccessKey: "s", sessionToken: "t"},
		{accessKeyID: "B", secretAccessKey: "u"},
	} {
		got, err := keys(t.Context())
		if got != want || err != nil {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
}

func TestSwitchedOffLayerListensOnNoPortAndAwaitsShutdown(t *testing.T) {
	taken := listen(t)
	api := startExtensionsAPI(
		t, `200 {"functionName":"f"}`, `200 {"eventType":"INVOKE"}`,
		`200 {"eventType":"SHUTDOWN","shutdownReason":"spindown"}`)
	cfg := config{
		off:           true,
		port:          port(taken),
		extensionsAPI: api.Listener.Addr().String(),
		extensionName: "live-lambda-extension",
	}
	if err := run(t.Context(), cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	api.want("POST register", "GET event/next", "GET event/next")
}

func TestTakenPortIsToldToLambda(t *testing.T) {
	taken := listen(t)
	api := startExtensionsAPI(t, `200 {"functionName":"f"}`, `202 {"status":"OK"}`)
	cfg := config{
		port:          port(taken),
		extensionsAPI: api.Listener.Addr().String(),
		extensionName: "live-lambda-extension",
	}
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

func TestTakenPortAndRefusedRegistrationAreBothTold(t *testing.T) {
	taken := listen(t)
	api := startExtensionsAPI(t, `500 {}`, `500 {}`, `403 {}`)
	cfg := config{
		port:          port(taken),
		extensionsAPI: api.Listener.Addr().String(),
		extensionName: "x",
	}
	err := run(t.Context(), cfg, slog.New(slog.DiscardHandler))
	api.want("POST register", "POST register", "POST init/error")
	for _, s := range []string{"LRAP_LISTENER_PORT", "extension/register: 500", "extension/init/error: 403"} {
		if err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("error %v does not tell of %s", err, s)
		}
	}
}

// A listener on one of this machine's other addresses takes the port only from who listens on all of them.
func TestProxyListensOnLoopbackAlone(t *testing.T) {
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
		port:          port(ln),
		extensionsAPI: api.Listener.Addr().String(),
		extensionName: "live-lambda-extension",
		function:      map[string]any{},
	}
	if err := run(t.Context(), cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	api.want("POST register", "GET event/next")
}

func TestExtensionUsesTheProcessorsOfItsMemory(t *testing.T) {
	for _, tt := range []struct{ memoryMB, seen, want int }{
		{memoryMB: 128, seen: 2, want: 1},
		{memoryMB: 1769, seen: 2, want: 1},
		{memoryMB: 1770, seen: 2, want: 2},
		{memoryMB: 3500, seen: 2, want: 2},
		{memoryMB: 10240, seen: 6, want: 6},
		{memoryMB: 32768, seen: 4, want: 4}, // Managed Instances have other shares
		{memoryMB: 128, seen: 1, want: 1},
		{memoryMB: 0, seen: 2, want: 1}, // not known
		{memoryMB: -5000, seen: 2, want: 1},
		{memoryMB: math.MaxInt, seen: 8, want: 8},
	} {
		got := processors(tt.memoryMB, tt.seen)
		if got != tt.want {
			t.Errorf("%d MB, %d seen: %d, want %d", tt.memoryMB, tt.seen, got, tt.want)
		}
	}
}

// The runtime starts once the extension has registered, so nothing may take the processor before.
func TestAppSyncIsNotDialledBeforeTheRegistration(t *testing.T) {
	var registered atomic.Bool
	dialled := make(chan bool, 1)
	appSync := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/other" {
			return
		}
		select {
		case dialled <- registered.Load():
		default: // it is tried again
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer appSync.Close()
	shutdown := make(chan struct{})
	lambda := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/register") {
			for range 100 { // a dial takes as long as one of these
				resp, err := http.Get(appSync.URL + "/other")
				if err != nil {
					t.Error(err)
					break
				}
				resp.Body.Close()
			}
			registered.Store(true)
			io.WriteString(w, `{"functionName":"f"}`)
			return
		}
		<-shutdown
		io.WriteString(w, `{"eventType":"SHUTDOWN","shutdownReason":"spindown"}`)
	}))
	defer lambda.Close()
	cfg, problems := readConfig(func(name string) string {
		return map[string]string{
			"AWS_LAMBDA_RUNTIME_API":        lambda.Listener.Addr().String(),
			"AWS_LAMBDA_FUNCTION_NAME":      "f",
			"LIVE_LAMBDA_APPSYNC_HTTP_HOST": appSync.URL,
			"LIVE_LAMBDA_APPSYNC_API_KEY":   "key",
			"AWS_REGION":                    "us-east-1",
		}[name]
	})
	if cfg.api == nil {
		t.Fatal(problems)
	}
	cfg.port = "0"
	ended := async(func() (bool, error) {
		return true, run(t.Context(), cfg, slog.New(slog.DiscardHandler))
	})
	if !<-dialled {
		t.Error("AppSync was dialled before the registration")
	}
	close(shutdown)
	if got := <-ended; got.err != nil {
		t.Error(got.err)
	}
}

func TestRefusedRegistrationEndsTheExtension(t *testing.T) {
	for _, answer := range []string{`403 {"errorType":"Extension.AlreadyRegistered"}`, `500 {}`} {
		api := startExtensionsAPI(t, answer, answer)
		cfg := config{port: "0", extensionsAPI: api.Listener.Addr().String(), extensionName: "x"}
		err := run(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), answer[:3]) {
			t.Errorf("%s: error %v", answer, err)
		}
	}
}

func TestTransportDoesNotKeepAConnectionWhoseServerSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		transport := newTransport()
		transport.TLSClientConfig = rootFiles{}.tlsConfig("example.com")
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

// base64 leaves line ends out.
func TestKeyOfLineEndsIsNoKey(t *testing.T) {
	for _, key := range []string{"\n", "\r\n", "\n" + testKey[:8]} {
		env := map[string]string{
			"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "example.com", "AWS_REGION": "us-east-1", "LIVE_LAMBDA_KEY": key,
		}
		cfg, problems := readConfig(func(name string) string { return env[name] })
		if cfg.api != nil || len(problems) != 1 {
			t.Errorf("%q: %v, %q", key, cfg.api, problems)
		}
	}
}
