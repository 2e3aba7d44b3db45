//go:build !layer

package main

// local_env.go makes the environment of a handler's process: this machine's, with the function's laid over
// it.

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// environment returns a process's environment for requests like q, but for the address of its Runtime API.
func (l *local) environment(q *request) []string {
	function := q.context.Environment
	env := developersEnvironment(len(function) > 0)
	env["PWD"] = q.program.directory
	l.adapt(env, len(function) > 0)
	for name, value := range function {
		if forwarded(name, value) {
			env[name] = value
		}
	}
	for name, value := range lambdasEnvironment(q.context, q.program) {
		if value != "" && !strings.Contains(value, "\x00") {
			env[name] = value
		}
	}
	return assignments(env)
}

// assignments are variables as processes take them, NAME=VALUE, in the order of their names.
func assignments(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// developersEnvironment returns what this program has in its environment, without its own settings. If the
// function sends its environment, the AWS settings are to be the function's alone.
func developersEnvironment(functionSends bool) map[string]string {
	env := map[string]string{}
	for _, s := range os.Environ() {
		name, value, _ := strings.Cut(s, "=")
		own := strings.HasPrefix(name, "LIVE_LAMBDA") || strings.HasPrefix(name, "LRAP_")
		replaced := name == "AWS_EXECUTION_ENV" || functionSends && strings.HasPrefix(name, "AWS_")
		if !own && !replaced {
			env[name] = value
		}
	}
	return env
}

// adapt changes the developer's environment into a runtime's: Lambda's time zone, no proxy for this machine,
// and the credentials of --profile, unless the function sends its own.
func (l *local) adapt(env map[string]string, functionSends bool) {
	env["TZ"] = lambdasTimeZone
	exemptLoopback(env)
	if l.opts.profile == "" || functionSends {
		return
	}
	env["AWS_PROFILE"] = l.opts.profile
	// SDKs would take these first.
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		delete(env, name)
	}
}

// exemptLoopback keeps calls of the Runtime API, and of what else is on this machine, from the developer's
// proxy, if there is one. Programs differ in which of the two names they read.
func exemptLoopback(env map[string]string) {
	proxies := []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"}
	proxied := slices.ContainsFunc(proxies, func(name string) bool { return env[name] != "" })
	if !proxied {
		return
	}
	exempt := strings.FieldsFunc(
		env["NO_PROXY"]+","+env["no_proxy"], func(r rune) bool { return r == ',' || r == ' ' })
	exempt = append(exempt, "127.0.0.1", "localhost")
	slices.Sort(exempt)
	list := strings.Join(slices.Compact(exempt), ",")
	env["NO_PROXY"] = list
	env["no_proxy"] = list
}

// lambdasTimeZone is what TZ is on Lambda.
const lambdasTimeZone = ":UTC"

// lambdasEnvironment returns the variables that Lambda sets, as far as they mean something here. A value is
// empty if it is not known. The clients of local_code.go add AWS_EXECUTION_ENV, for they know the language's
// version.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
func lambdasEnvironment(c eventContext, p *program) map[string]string {
	return map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME":        c.FunctionName,
		"AWS_LAMBDA_FUNCTION_VERSION":     c.FunctionVersion,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(cmp.Or(c.MemorySizeMB, 128)),
		"AWS_LAMBDA_LOG_GROUP_NAME":       cmp.Or(c.LogGroupName, "/aws/lambda/"+c.FunctionName),
		"AWS_LAMBDA_LOG_STREAM_NAME":      cmp.Or(c.LogStreamName, madeUpLogStream(c.FunctionVersion)),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_REGION":                      c.Region,
		"AWS_DEFAULT_REGION":              c.Region,
		"AWS_XRAY_CONTEXT_MISSING":        "LOG_ERROR",
		"LAMBDA_TASK_ROOT":                p.directory,
		"_HANDLER":                        cmp.Or(p.handler, c.Handler),
	}
}

// madeUpLogStream is a log stream's name in Lambda's form, for a function that does not send its own.
func madeUpLogStream(version string) string {
	id := make([]byte, 16)
	rand.Read(id)
	return fmt.Sprintf("%s/[%s]%x", time.Now().UTC().Format("2006/01/02"), cmp.Or(version, "$LATEST"), id)
}

// forwarded reports whether a variable of the deployed function becomes the local process's too.
func forwarded(name, value string) bool {
	valid := name != "" && !strings.Contains(name, "=") && !strings.Contains(name+value, "\x00")
	if !valid {
		return false
	}
	return !notForwarded.MatchString(name) || forwardedStill.MatchString(name+"="+value)
}

// notForwarded are variables that stay on Lambda. Whoever may publish requests could set variables that make
// an interpreter, a shell, a compiler or the dynamic linker load code or run commands, and variables that
// lead a program's traffic elsewhere. No list has those of every program, hence --own-env. Names without a
// "(?i:" are those that programs read in this case only.
var notForwarded = regexp.MustCompile(`(?s)^(` + strings.Join([]string{
	// Places and addresses that exist on Lambda only, and what concerns this program.
	`_|PATH|HOME|PWD|OLDPWD|TMPDIR|TMP|TEMP|USER|LOGNAME|XDG_.*|LIVE_LAMBDA.*|LRAP_.*|LAMBDA_(RUNTIME_DIR|` +
		`TASK_ROOT)|_X_AMZN_TRACE_ID`,
	`AWS_LAMBDA_(RUNTIME_API|EXEC_WRAPPER|MAX_CONCURRENCY|METADATA_.*|DOTNET_PREJIT)|` +
		`AWS_LWA_LAMBDA_RUNTIME_API_PROXY|AWS_XRAY_DAEMON_ADDRESS|_AWS_XRAY_.*`,
	// Where AWS SDKs and the AWS CLI take settings and credentials from, and where signed calls go.
	`AWS_(CONTAINER|EC2_METADATA|CSM)_.*|AWS_(CONFIG|SHARED_CREDENTIALS|CREDENTIAL.*|` +
		`WEB_IDENTITY_TOKEN)_FILE|AWS_(DEFAULT_)?PROFILE|AWS_CA_BUNDLE`,
	`AWS_ENDPOINT_URL.*|AWS_IGNORE_CONFIGURED_ENDPOINT_URLS|AWS_DATA_PATH|AWS_LOGIN_CACHE_DIRECTORY|` +
		`AWS_PAGER|BOTO(CORE)?_.*`,
	// Proxies, name resolution and trust in certificates: a VPC's are of no use here.
	`(?i:(GLOBAL_AGENT_|CGI_)?(HTTPS?|ALL|NO|FTP|WSS?|SOCKS|GRPC)_PROXY|NOPROXY)|NETRC|HOSTALIASES|` +
		`LOCALDOMAIN|RES_OPTIONS`,
	`SSL_CERT_(FILE|DIR)|SSLKEYLOGFILE|OPENSSL_.*|REQUESTS_CA_BUNDLE|HTTPLIB2_CA_CERTS|` +
		`GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`,
	// The dynamic linker, libc and libraries that load modules.
	`LD_.*|DYLD_.*|GLIBC_.*|MALLOC_TRACE|GCONV_PATH|LOCPATH|NLSPATH|TEXTDOMAIN.*|TZDIR|NIX_.*`,
	`MAGICK_.*|GIO_.*|GTK_.*|GST_(PLUGIN|REGISTRY).*|GDAL_(PYTHON_)?DRIVER_PATH|ODBC(SYS|INST)?INI|` +
		`LIBMYSQL_.*|DBUS_.*|KRB5_CONFIG`,
	// Shells.
	`SHELL|SHELLOPTS|SHLVL|IFS|ENV|BASH_.*|BASHOPTS|PROMPT_COMMAND|PROMPT[2-4]|PS[0-4]|CDPATH|GLOBIGNORE|` +
		`EXECIGNORE|POSIXLY_CORRECT|INPUTRC|FCEDIT|MAIL(PATH|CHECK)`,
	`ZDOTDIR|FPATH|MODULE_PATH|(READ)?NULLCMD|HISTFILE|fish_.*`,
	// Programs that others start: pagers, editors, terminals, browsers, containers.
	`(MAN|SYSTEMD_)?PAGER|MANOPT|MANPATH|LESS(OPEN|CLOSE|KEY.*|EDIT|ECHO|HISTFILE|GLOBALTAGS|METAESCAPE)?|` +
		`(SUDO_|SYSTEMD_|SVN_|HG)?EDITOR|VISUAL|(VIM|EX)INIT|BROWSER|TERM|TERMINFO.*|TERMCAP|` +
		`TERM_PROGRAM.*|DISPLAY|XAUTHORITY`,
	`SSH_(AUTH_SOCK|AGENT_PID|ASKPASS.*|SK_PROVIDER)|SUDO_ASKPASS|GNUPGHOME|DOCKER_(HOST|CONFIG|CONTEXT|` +
		`CERT_PATH|TLS.*|CLI_.*)|CONTAINER_HOST|KUBECONFIG|CLOUDSDK_.*|(PUPPETEER|PLAYWRIGHT)_.*|` +
		`CHROME_(PATH|BIN)`,
	// What fetches and unpacks.
	`CURL_.*|(SYSTEM_)?WGETRC|TAR_OPTIONS|RSYNC_.*|SVN_SSH|CVS_RSH|HG|HGRCPATH|BZR_.*|BRZ_.*|FOSSIL_.*`,
	`GIT_(SSH|SSL|HTTP|CONFIG|TRACE|PROXY|PROTOCOL|REDIRECT|ATTR).*|GIT_(MAN_VIEWER|DIFFTOOL_EXTCMD|EDITOR|` +
		`SEQUENCE_EDITOR|PAGER|EXEC_PATH|ASKPASS|EXTERNAL_DIFF|TEMPLATE_DIR|ALLOW_PROTOCOL)`,
	`GIT_(DIR|COMMON_DIR|WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|NAMESPACE)`,
	// What manages versions of languages; each comes as a wrapper of node, python3, ruby and so on.
	`(NVM|FNM|VOLTA|NODENV|PYENV|RBENV|GOENV|JENV|PHPENV|PLENV|ASDF|MISE|SDKMAN|CONDA|PIPENV|PIPX|POETRY|` +
		`PDM|HATCH)_.*|(?i:RVM_.*)|N_PREFIX|VIRTUAL_ENV.*`,
	// Node.js, Deno, Bun, and what they run first.
	`NODE_.*|TS_NODE_.*|TSX_TSCONFIG_PATH|ESBUILD_.*|BABEL_CACHE_PATH|SWC(RC|_.*)|NAPI_RS_.*|` +
		`PRISMA_(.*_(LIBRARY|BINARY)|ENGINES_.*)|ELECTRON_.*|VSCODE_.*`,
	`(?i:NPM_.*|PNPM_.*|YARN_.*)|NODEJS_ORG_MIRROR|COREPACK_.*|DENO_.*|BUN_.*`,
	// Python, Ruby, PHP, Perl, and others.
	`_?PYTHON.*|__PYVENV_LAUNCHER__|PYDEVD_.*|_?PIP_.*|UV_.*|PY_SAX_PARSER|SETUPTOOLS_.*|DISTUTILS_.*|` +
		`PEP517_.*|MAILCAPS|COVERAGE_(PROCESS_.*|RCFILE|FILE|CORE)|IPYTHONDIR`,
	`RUBY(OPT|LIB|SHELL|PATH|GEMS_.*|_DEBUG_.*)|RDBG_.*|GEM_.*|GEMRC|BUNDLER?_.*|IRBRC`,
	`PHPRC|PHP_INI_.*|COMPOSER_.*|XDEBUG_.*|BREF_AUTOLOAD_PATH|PERL.*`,
	`LUA_.*|R_(HOME|PROFILE|ENVIRON|LIBS|DEFAULT_PACKAGES).*|JULIA_.*|ERL_.*|ELIXIR_.*|MIX_.*|HEX_(HOME|` +
		`MIRROR.*|API_URL|CACERTS.*|UNSAFE.*)|GHC(RTS|_.*)`,
	// Java.
	`_?JAVA_.*|JDK_.*|(IBM|OPENJ9)_JAVA_OPTIONS|JAVACMD|JVM_OPTS|CLASSPATH|(MAVEN|MVN|MVNW|M2|GRADLE|SBT|` +
		`LEIN|ANT|JBANG|COURSIER)_.*|ORG_GRADLE_.*|LOG4J_CONFIGURATION_FILE|OTEL_JAVAAGENT_.*`,
	// .NET. MSBuild takes every variable as a property, in any case; these are those of Microsoft's own
	// targets.
	`DOTNET_.*|CORECLR_.*|COR_.*|COMPlus_.*|MONO_(PATH|GAC_PREFIX|CFG_DIR|CONFIG|ENV_OPTIONS|PROFILE)|` +
		`ASPNETCORE_HOSTINGSTARTUP.*|OTEL_DOTNET_.*`,
	`(?i:_?(MSBUILD|NUGET).*|_?(RESTORE|CUSTOM(BEFORE|AFTER)|(BEFORE|AFTER)MICROSOFT|FORCEIMPORT|IMPORT(BY|` +
		`USER|DIRECTORY|PROJECT)|DIRECTORY(BUILD|PACKAGES|SOLUTION))[A-Z0-9]+)`,
	`(?i:(RUN|START)(COMMAND|ACTION|PROGRAM|ARGUMENTS|WORKINGDIRECTORY)|NETCORE[A-Z]*ROOT)`,
	`(?i:_?[A-Z0-9]+(BUILDEVENT|TARGETS|PROPS|(TARGETS|PROPS|TASKS?|TOOLS?|SDKS?|EXTENSIONS|OUTPUT|SEARCH|` +
		`HOST)(PATHS?|DIR|DIRECTORY|ROOT|EXE|FILE)|RESPONSEFILE|TASKS?ASSEMBLY(FILE)?)|OUTPUTPATH|OUTDIR)`,
	// Go, but for what tunes a program that runs.
	`GO[A-Z0-9]*|GOROOT_.*|GO_EXTLINK_ENABLED|GCCGO.*|CGO_.*`,
	// Rust, and what build scripts run.
	`CARGO(_.*)?|RUST(C|FLAGS|DOC|UP_).*|RUST_TARGET_PATH|PROTOC(_.*)?|PYO3_.*|LIBCLANG_.*|CLANG_.*|` +
		`BINDGEN_.*|LLVM_.*|S?CCACHE_.*|DISTCC_.*|VCPKG_.*|AWS_LC_SYS_.*|.*_OPENSSL_(NO_VENDOR|STATIC|LIBS|` +
		`.*DIR)`,
	// Compilers, linkers, make. A target's name may follow, in lower case.
	`((HOST|TARGET)_)?(CC|CXX|CPP|AR|AS|LD|FC|F77|NM|RANLIB|STRIP|OBJCOPY|NVCC|M4|(C|CPP|CXX|F|FC|AR|AS|LD|` +
		`RANLIB|M)FLAGS)(_[a-z].*)?|LDSHARED|ARCHFLAGS|CROSS_COMPILE|COMPILER_PATH|CCC_OVERRIDE_OPTIONS`,
	`(.*_)?PKG_CONFIG(_.*)?|CMAKE(_.*)?|NINJA_.*|(GNU)?MAKE(FLAGS|FILES|LEVEL|SHELL|OBJDIR.*|SYSPATH|` +
		`CONF)?|CONFIG_(SHELL|SITE)`,
	`LIBRARY_PATH|CPATH|(C|CPLUS|OBJC|OBJCPLUS)_INCLUDE_PATH|GCC_(EXEC_PREFIX|COLORS|COMPARE_DEBUG)|` +
		`COLLECT_(GCC|LTO).*|DEPENDENCIES_OUTPUT|SUNPRO_DEPENDENCIES|SDKROOT|DEVELOPER_DIR|TOOLCHAINS|` +
		`XCODE_.*|xcrun_.*`,
}, "|") + `)$`)

// forwardedStill are those of notForwarded, as NAME=VALUE, that only tell the function's code how to behave.
// ENV is "prod" to functions, but a file to shells. NODE_ENV is part of a file's name to some packages.
var forwardedStill = regexp.MustCompile(`(?s)^((ENV|NODE_ENV|NODE_CONFIG_ENV|MIX_ENV)=[A-Za-z0-9_.,-]*|` +
	`(NODE_CONFIG|UV_THREADPOOL_SIZE|DOTNET_(ENVIRONMENT|SYSTEM_GLOBALIZATION_INVARIANT)|GO(GC|MEMLIMIT|` +
	`MAXPROCS|TRACEBACK))=.*)$`)
