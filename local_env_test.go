//go:build !layer

package main

// local_env_test.go tests which variables a handler's process gets.

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// variablesOf runs an invocation with this context, and returns the environment of its process.
func variablesOf(r *localRig, c eventContext) map[string]string {
	r.Helper()
	_, body := r.reply(r.direct(task{Do: "env"}, c))
	var list []string
	json.Unmarshal([]byte(body), &list)
	env := map[string]string{}
	for _, s := range list {
		name, value, _ := strings.Cut(s, "=")
		env[name] = value
	}
	return env
}

// wantVariables checks variables; one that is not set is empty.
func wantVariables(t testing.TB, env, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if env[name] != value {
			t.Errorf("%s is %q, want %q", name, env[name], value)
		}
	}
}

// setDevelopers sets what a developer may have in the environment.
func setDevelopers(t *testing.T) {
	t.Helper()
	t.Setenv("AWS_PROFILE", "mine")
	t.Setenv("AWS_ACCESS_KEY_ID", "MINE")
	t.Setenv("LIVE_LAMBDA_APPSYNC_API_KEY", "da2-secret")
	t.Setenv("OF_THE_DEVELOPER", "1")
	t.Setenv("TZ", "America/Lima")
	t.Setenv("AWS_EXECUTION_ENV", "CloudShell")
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"} {
		t.Setenv(name, "")
		t.Setenv(strings.ToLower(name), "")
	}
}

// If the function sends no environment, the developer's AWS settings are what a handler needs.
func TestHandlerHasTheDevelopersVariablesAndLambdas(t *testing.T) {
	setDevelopers(t)
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	env := variablesOf(r, r.context())
	directory, _ := os.Getwd()
	wantVariables(t, env, map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME":        "orders",
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
		"AWS_REGION":                      "eu-west-1",
		"_HANDLER":                        "index.handler",
		"LAMBDA_TASK_ROOT":                directory,
		"PWD":                             directory,
		"TZ":                              ":UTC",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/orders",
		"AWS_EXECUTION_ENV":               "",
		"NO_PROXY":                        "",
		"AWS_PROFILE":                     "mine",
		"AWS_ACCESS_KEY_ID":               "MINE",
		"OF_THE_DEVELOPER":                "1",
		"LIVE_LAMBDA_APPSYNC_API_KEY":     "",
	})
	if !strings.HasPrefix(env["AWS_LAMBDA_RUNTIME_API"], "127.0.0.1:") {
		t.Errorf("AWS_LAMBDA_RUNTIME_API is %q", env["AWS_LAMBDA_RUNTIME_API"])
	}
}

// Programs differ in which of the two names they read.
func TestDevelopersProxyIsNotForLoopback(t *testing.T) {
	for proxy, want := range map[string]string{"": "own", "https_proxy": "127.0.0.1,localhost,own"} {
		env := map[string]string{"NO_PROXY": "own", proxy: "http://proxy.example.com"}
		exemptLoopback(env)
		if env["NO_PROXY"] != want {
			t.Errorf("with %q: NO_PROXY is %q, want %q", proxy, env["NO_PROXY"], want)
		}
	}
	env := map[string]string{"HTTP_PROXY": "p", "NO_PROXY": "a, localhost", "no_proxy": "b"}
	exemptLoopback(env)
	wantVariables(t, env, map[string]string{
		"NO_PROXY": "127.0.0.1,a,b,localhost", "no_proxy": "127.0.0.1,a,b,localhost"})
}

func TestLogStreamIsMadeUpInLambdasForm(t *testing.T) {
	stream := madeUpLogStream("7")
	if !regexp.MustCompile(`^20\d\d/[01]\d/[0-3]\d/\[7\][0-9a-f]{32}$`).MatchString(stream) {
		t.Error(stream)
	}
}

func TestFunctionsVariablesReplaceTheDevelopersAWSSettings(t *testing.T) {
	setDevelopers(t)
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	c := r.context()
	c.Environment = map[string]string{
		"TABLE":                   "t",
		"AWS_ACCESS_KEY_ID":       "ROLE",
		"AWS_SECRET_ACCESS_KEY":   "s",
		"AWS_SESSION_TOKEN":       "1",
		"PATH":                    "/lambda",
		"NODE_OPTIONS":            "--enable-source-maps",
		"JAVA_TOOL_OPTIONS":       "-Xshare:off -javaagent:/opt/tracer.jar",
		"TEMPLATES":               "/var/task/templates",
		"URL":                     "https://example.com/opt/in",
		"AWS_LAMBDA_RUNTIME_API":  "127.0.0.1:9001",
		"AWS_LAMBDA_EXEC_WRAPPER": "/opt/x",
		"NODE_ENV":                "production",
		"TZ":                      ":UTC",
		"ZERO\x00":                "1", // no process can have it
		"":                        "1",
	}
	env := variablesOf(r, c)
	wantVariables(t, env, map[string]string{
		"TABLE":                   "t",
		"AWS_ACCESS_KEY_ID":       "ROLE",
		"AWS_SESSION_TOKEN":       "1",
		"AWS_PROFILE":             "",
		"PATH":                    os.Getenv("PATH"),
		"NODE_OPTIONS":            "--enable-source-maps",
		"JAVA_TOOL_OPTIONS":       os.Getenv("JAVA_TOOL_OPTIONS"),
		"TEMPLATES":               "",
		"URL":                     "https://example.com/opt/in",
		"AWS_LAMBDA_EXEC_WRAPPER": "",
		"NODE_ENV":                "production",
		"TZ":                      ":UTC",
		"OF_THE_DEVELOPER":        "1",
	})
	if strings.HasSuffix(env["AWS_LAMBDA_RUNTIME_API"], ":9001") {
		t.Error("the runtime was sent to Lambda's own address")
	}
}

// Lambda's places and addresses, proxies, certificates and this program's own settings are not the function's
// to set here. The rest is.
func TestVariablesThatMakeNoSenseElsewhereStayOnLambda(t *testing.T) {
	setDevelopers(t)
	t.Setenv("HTTPS_PROXY", "http://mine.example.com:3128")
	t.Setenv("AWS_CONFIG_FILE", "/home/me/.aws/config")
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	c := r.context()
	c.Environment = map[string]string{}
	for _, name := range strings.Fields(notTheFunctions) {
		c.Environment[name] = "of Lambda"
	}
	for _, name := range strings.Fields(theFunctions) {
		c.Environment[name] = "the function's"
	}
	env := variablesOf(r, c)
	wantVariables(t, env, map[string]string{"HTTPS_PROXY": "http://mine.example.com:3128"})
	for _, name := range strings.Fields(notTheFunctions) {
		switch name {
		case "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "_": // the process has its own
			continue
		case "NO_PROXY", "no_proxy": // this machine's, because there is a proxy
			wantVariables(t, env, map[string]string{name: "127.0.0.1,localhost"})
			continue
		}
		own := strings.HasPrefix(name, "LIVE_LAMBDA") || strings.HasPrefix(name, "LRAP_")
		value := os.Getenv(name)
		if own || strings.HasPrefix(name, "AWS_") {
			value = "" // it is not the developer's either
		}
		wantVariables(t, env, map[string]string{name: value})
	}
	for name, value := range env {
		if value == "of Lambda" {
			t.Errorf("%s is the function's", name)
		}
	}
	for _, name := range strings.Fields(theFunctions) {
		wantVariables(t, env, map[string]string{name: "the function's"})
	}
}

// Nothing is the function's then, and new credentials restart nothing.
func TestOwnEnvLeavesOutWhatFunctionsSend(t *testing.T) {
	setDevelopers(t)
	t.Setenv("AWS_ENDPOINT_URL", "http://mine.example.com")
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}, ownEnv: true, profile: "dev"})
	c := r.context()
	c.Environment = map[string]string{
		"TABLE":             "t",
		"OF_THE_DEVELOPER":  "2",
		"AWS_ACCESS_KEY_ID": "ROLE",
		"AWS_SESSION_TOKEN": "1",
	}
	env := variablesOf(r, c)
	wantVariables(t, env, map[string]string{
		"TABLE":                    "",
		"OF_THE_DEVELOPER":         "1",
		"AWS_ACCESS_KEY_ID":        "", // SDKs would take it before the profile
		"AWS_SESSION_TOKEN":        "",
		"AWS_PROFILE":              "dev",
		"AWS_ENDPOINT_URL":         "http://mine.example.com",
		"AWS_LAMBDA_FUNCTION_NAME": "orders",
	})

	address := env["AWS_LAMBDA_RUNTIME_API"] // of this process alone
	c = r.context()
	c.Environment = map[string]string{"AWS_SESSION_TOKEN": "2"}
	wantVariables(t, variablesOf(r, c), map[string]string{"AWS_LAMBDA_RUNTIME_API": address})
}

// notTheFunctions are variables that have to be left out of what a function sends.
const notTheFunctions = `
	PATH HOME PWD OLDPWD TMPDIR TMP TEMP USER LOGNAME SHLVL _ LAMBDA_TASK_ROOT LAMBDA_RUNTIME_DIR
	LIVE_LAMBDA LIVE_LAMBDA_KEY LIVE_LAMBDA_STAGE LRAP_LISTENER_PORT AWS_LAMBDA_RUNTIME_API
	AWS_LAMBDA_EXEC_WRAPPER AWS_LAMBDA_MAX_CONCURRENCY AWS_LAMBDA_METADATA_TOKEN
	AWS_LWA_LAMBDA_RUNTIME_API_PROXY AWS_XRAY_DAEMON_ADDRESS _AWS_XRAY_DAEMON_PORT _X_AMZN_TRACE_ID
	AWS_CONTAINER_CREDENTIALS_FULL_URI AWS_CONTAINER_AUTHORIZATION_TOKEN AWS_EC2_METADATA_SERVICE_ENDPOINT
	AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE AWS_WEB_IDENTITY_TOKEN_FILE AWS_PROFILE AWS_DEFAULT_PROFILE
	HTTPS_PROXY HTTP_PROXY ALL_PROXY NO_PROXY https_proxy http_proxy all_proxy no_proxy Https_Proxy
	GRPC_PROXY AWS_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
	NODE_EXTRA_CA_CERTS HTTPLIB2_CA_CERTS GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`

// theFunctions are variables that handlers need, some of which look like others.
const theFunctions = `
	TABLE_NAME TableName LOG_LEVEL DATABASE_URL STAGE ENVIRONMENT RUNTIME REGION DEBUG PORT API_KEY
	ConnectionStrings__Default ASPNETCORE_ENVIRONMENT POWERTOOLS_SERVICE_NAME POWERTOOLS_METRICS_NAMESPACE
	AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_EXECUTION_ENV AWS_LAMBDA_LOG_LEVEL
	AWS_NODEJS_CONNECTION_REUSE_ENABLED AWS_RETRY_MODE AWS_MAX_ATTEMPTS AWS_USE_FIPS_ENDPOINT TZ LANG LC_ALL
	NODE_CONFIG UV_THREADPOOL_SIZE DOTNET_ENVIRONMENT GOMAXPROCS RUST_LOG RUST_BACKTRACE RAILS_ENV
	DJANGO_SETTINGS_MODULE APP_ENV SPRING_PROFILES_ACTIVE GOOGLE_API_KEY GIT_SHA GIT_COMMIT GIT_BRANCH
	DOCKER_IMAGE SSH_HOST HISTORY_TABLE LESSON_TABLE PROMPT_BUCKET CC_EMAIL GST_RATE TERMS_URL N_RETRIES
	COLLECT_METRICS COVERAGE_TABLE MAKER_ID PATH_PREFIX HOME_URL RESTORE_BUCKET RUN_COMMAND OUTPUT_PATH
	ALARM_TARGETS DB_PROXY RDS_PROXY_ENDPOINT HOSTNAME DD_ENV OTEL_SERVICE_NAME MALLOC_ARENA_MAX StartDate
	ImportBucket ENV NODE_ENV NODE_OPTIONS NODE_PATH NODE_TLS_REJECT_UNAUTHORIZED PYTHONPATH PYTHONWARNINGS
	RUBYOPT GEM_PATH PERL5LIB JAVA_TOOL_OPTIONS CLASSPATH DOTNET_STARTUP_HOOKS AWS_ENDPOINT_URL
	AWS_ENDPOINT_URL_DYNAMODB AWS_DATA_PATH BOTO_CONFIG BASH_ENV EDITOR GIT_SSH_COMMAND GOFLAGS OPENSSL_CONF
	PIP_INDEX_URL npm_config_registry KUBECONFIG MAKEFLAGS XDG_CONFIG_HOME`
