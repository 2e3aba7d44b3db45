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
		"NODE_OPTIONS":            "--import evil",
		"LD_PRELOAD":              "evil",
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
		"NODE_OPTIONS":            "",
		"LD_PRELOAD":              os.Getenv("LD_PRELOAD"),
		"AWS_LAMBDA_EXEC_WRAPPER": "",
		"NODE_ENV":                "production",
		"TZ":                      ":UTC",
		"OF_THE_DEVELOPER":        "1",
	})
	if strings.HasSuffix(env["AWS_LAMBDA_RUNTIME_API"], ":9001") {
		t.Error("the runtime was sent to Lambda's own address")
	}
}

// What would load code, run commands or lead traffic elsewhere is not the function's to set. The rest is.
func TestVariablesThatLoadCodeStayOnLambda(t *testing.T) {
	setDevelopers(t)
	t.Setenv("HTTPS_PROXY", "http://mine.example.com:3128")
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("AWS_ENDPOINT_URL", "http://mine.example.com")
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	c := r.context()
	c.Environment = map[string]string{}
	for _, name := range strings.Fields(notTheFunctions) {
		c.Environment[name] = "evil"
	}
	for _, name := range strings.Fields(theFunctions) {
		c.Environment[name] = "the function's"
	}
	// These values only tell the code how to behave.
	c.Environment["ENV"] = "prod"
	c.Environment["NODE_ENV"] = "eu-1.test"
	c.Environment["GOMEMLIMIT"] = "1GiB"
	env := variablesOf(r, c)
	want := map[string]string{
		"ENV":         "prod",
		"NODE_ENV":    "eu-1.test",
		"GOMEMLIMIT":  "1GiB",
		"HTTPS_PROXY": "http://mine.example.com:3128",
		"GOFLAGS":     "-mod=mod",
	}
	wantVariables(t, env, want)
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
		if value == "evil" {
			t.Errorf("%s is the function's", name)
		}
	}
	for _, name := range strings.Fields(theFunctions) {
		wantVariables(t, env, map[string]string{name: "the function's"})
	}
}

// ENV is a file to shells, and NODE_ENV part of a file's name to some packages.
func TestValuesThatNameOtherFilesStayOnLambda(t *testing.T) {
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	c := r.context()
	c.Environment = map[string]string{"ENV": "$(evil)", "NODE_ENV": "../evil", "A": "1"}
	wantVariables(t, variablesOf(r, c), map[string]string{
		"ENV":      os.Getenv("ENV"),
		"NODE_ENV": os.Getenv("NODE_ENV"),
		"A":        "1",
	})
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
	PATH HOME PWD TMPDIR TMP USER _ LAMBDA_TASK_ROOT LAMBDA_RUNTIME_DIR LIVE_LAMBDA_STAGE LRAP_LISTENER_PORT
	XDG_CONFIG_HOME XDG_DATA_DIRS AWS_LAMBDA_RUNTIME_API AWS_LAMBDA_EXEC_WRAPPER
	AWS_LWA_LAMBDA_RUNTIME_API_PROXY AWS_XRAY_DAEMON_ADDRESS AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3
	AWS_ENDPOINT_URL_DYNAMODB AWS_CONTAINER_CREDENTIALS_FULL_URI AWS_EC2_METADATA_SERVICE_ENDPOINT
	AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE AWS_WEB_IDENTITY_TOKEN_FILE AWS_PROFILE AWS_DEFAULT_PROFILE
	AWS_CA_BUNDLE AWS_DATA_PATH AWS_CSM_HOST AWS_PAGER BOTO_CONFIG BOTOCORE_EXPERIMENTAL__PLUGINS NETRC
	NOPROXY HTTPS_PROXY HTTP_PROXY ALL_PROXY NO_PROXY https_proxy http_proxy all_proxy no_proxy Https_Proxy
	GLOBAL_AGENT_HTTP_PROXY HOSTALIASES SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE OPENSSL_CONF
	OPENSSL_MODULES OPENSSL_ENGINES REQUESTS_CA_BUNDLE CURL_CA_BUNDLE CURL_HOME WGETRC LD_PRELOAD
	LD_LIBRARY_PATH LD_AUDIT DYLD_INSERT_LIBRARIES GCONV_PATH GLIBC_TUNABLES LOCPATH MAGICK_CONFIGURE_PATH
	DBUS_SESSION_BUS_ADDRESS SHELL SHELLOPTS SHLVL IFS BASH_ENV BASH_FUNC_ls%% BASHOPTS PROMPT_COMMAND PS0
	PS1 PS2 PS3 PS4 PROMPT4 CDPATH ZDOTDIR FPATH MODULE_PATH NULLCMD HISTFILE fish_function_path LESS
	LESSOPEN LESSCLOSE MANPAGER PAGER EDITOR SUDO_EDITOR VISUAL BROWSER TERM TERMINFO TERMINFO_DIRS TERMCAP
	DOCKER_HOST KUBECONFIG SSH_AUTH_SOCK SSH_ASKPASS PUPPETEER_EXECUTABLE_PATH TAR_OPTIONS RSYNC_RSH SVN_SSH
	HGRCPATH GIT_SSH_COMMAND GIT_CONFIG_COUNT GIT_CONFIG_KEY_0 GIT_SSL_NO_VERIFY GIT_DIR GIT_EXEC_PATH
	GIT_EXTERNAL_DIFF GIT_TRACE GIT_ALLOW_PROTOCOL NVM_DIR VOLTA_HOME PYENV_HOOK_PATH RBENV_HOOK_PATH
	rvm_path ASDF_DIR MISE_ENV_FILE VIRTUAL_ENV NODE_OPTIONS NODE_PATH NODE_TLS_REJECT_UNAUTHORIZED
	NODE_EXTRA_CA_CERTS NODE_REDIRECT_WARNINGS NODE_V8_COVERAGE NODE_CONFIG_DIR NODE_DEBUG NODE_CHANNEL_FD
	TS_NODE_REQUIRE TS_NODE_COMPILER ESBUILD_BINARY_PATH SWC_BINARY_PATH NAPI_RS_NATIVE_LIBRARY_PATH
	PRISMA_QUERY_ENGINE_LIBRARY npm_config_registry NPM_CONFIG_REGISTRY Npm_Config_Script_Shell npm_execpath
	YARN_RC_FILENAME yarn_registry pnpm_config_registry COREPACK_NPM_REGISTRY NODEJS_ORG_MIRROR DENO_DIR
	DENO_CERT BUN_INSTALL BUN_OPTIONS PYTHONPATH PYTHONSTARTUP PYTHONWARNINGS PYTHON PY_SAX_PARSER
	PIP_INDEX_URL UV_INDEX_URL UV_PYTHON COVERAGE_PROCESS_START RUBYOPT RUBYLIB RUBYSHELL RUBYGEMS_GEMDEPS
	GEM_HOME GEM_PATH GEMRC BUNDLE_GEMFILE BUNDLER_ORIG_RUBYOPT PHPRC PHP_INI_SCAN_DIR COMPOSER_HOME
	XDEBUG_CONFIG BREF_AUTOLOAD_PATH PERL5OPT PERL5LIB PERL LUA_INIT LUA_PATH_5_4 R_PROFILE_USER ERL_FLAGS
	JAVA_TOOL_OPTIONS JAVA_HOME _JAVA_OPTIONS JDK_JAVA_OPTIONS JVM_OPTS SBT_OPTS MAVEN_OPTS MAVEN_ARGS
	MVNW_REPOURL GRADLE_OPTS GRADLE_USER_HOME ORG_GRADLE_PROJECT_x CLASSPATH JAVACMD
	LOG4J_CONFIGURATION_FILE DOTNET_STARTUP_HOOKS DOTNET_ROOT DOTNET_GCName DOTNET_CLI_HOME
	CORECLR_PROFILER_PATH COR_ENABLE_PROFILING COMPlus_GCName ASPNETCORE_HOSTINGSTARTUPASSEMBLIES
	MSBuildSDKsPath MSBUILDEXTENSIONSPATH msbuildloadallfiles NUGET_PACKAGES NuGetPackageRoot PreBuildEvent
	PREBUILDEVENT PostBuildEvent RunCommand RUNCOMMAND RunArguments RunWorkingDirectory StartProgram
	RestoreSources RestoreConfigFile CustomBeforeMicrosoftCommonProps CustomAfterMicrosoftCommonTargets
	BeforeMicrosoftNETSdkTargets DirectoryBuildPropsPath _DirectoryBuildPropsFile ImportDirectoryBuildProps
	AlternateCommonProps LanguageTargets CscToolPath CscToolExe CSharpCoreTargetsPath
	BaseIntermediateOutputPath OutputPath OutDir VCTargetsPath CompilerResponseFile
	MicrosoftNETBuildTasksAssembly NetCoreTargetingPackRoot GOFLAGS GOENV GOROOT GOPATH GOPROXY GOSUMDB
	GONOSUMDB GONOSUMCHECK GOTOOLCHAIN GOINSECURE GOPRIVATE GOWORK GOVCS GOAUTH GOBIN GOCACHE GOCACHEPROG
	GOMODCACHE GOTMPDIR GOTOOLDIR GOOS GOARCH GODEBUG GOCOVERDIR GO111MODULE GOEXPERIMENT GO_EXTLINK_ENABLED
	GCCGO CGO_CFLAGS CARGO CARGO_HOME CARGO_BUILD_RUSTC_WRAPPER RUSTC RUSTC_WRAPPER RUSTFLAGS RUSTDOC
	RUSTDOCFLAGS RUSTUP_TOOLCHAIN RUSTUP_DIST_SERVER RUSTUP_HOME RUST_TARGET_PATH PROTOC LIBCLANG_PATH
	BINDGEN_EXTRA_CLANG_ARGS CCACHE_PREFIX PYO3_PYTHON X86_64_UNKNOWN_LINUX_GNU_OPENSSL_DIR CC CXX CPP AR AS
	LD FC NM RANLIB CFLAGS CXXFLAGS LDFLAGS CC_x86_64-unknown-linux-gnu CXXFLAGS_aarch64_apple_darwin
	HOST_CC TARGET_AR PKG_CONFIG PKG_CONFIG_PATH HOST_PKG_CONFIG CMAKE CMAKE_TOOLCHAIN_FILE NINJA_STATUS
	MAKE MAKEFLAGS MAKEFILES GNUMAKEFLAGS MFLAGS CONFIG_SHELL COMPILER_PATH LIBRARY_PATH CPATH
	C_INCLUDE_PATH GCC_EXEC_PREFIX CCC_OVERRIDE_OPTIONS SDKROOT DEVELOPER_DIR`

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
	ImportBucket`
