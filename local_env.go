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
	// the credentials are the function's, and so is all that SDKs read beside them
	functionsOwn := len(function) > 0 || q.variables["AWS_ACCESS_KEY_ID"] != ""
	env := developersEnvironment(functionsOwn)
	env["PWD"] = q.program.directory
	l.adapt(env, functionsOwn)
	for _, values := range []map[string]string{q.variables, function} {
		for name, value := range values {
			if forwarded(name, value) {
				env[name] = value
			}
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
// function's credentials are there, the AWS settings are to be the function's alone.
func developersEnvironment(functionsOwn bool) map[string]string {
	env := map[string]string{}
	for _, s := range os.Environ() {
		name, value, _ := strings.Cut(s, "=")
		own := strings.HasPrefix(name, "LIVE_LAMBDA") || strings.HasPrefix(name, "LRAP_")
		replaced := name == "AWS_EXECUTION_ENV" || functionsOwn && strings.HasPrefix(name, "AWS_")
		if !own && !replaced {
			env[name] = value
		}
	}
	return env
}

// adapt changes the developer's environment into a runtime's: Lambda's time zone, no proxy for this machine,
// and the credentials of --profile, unless the function's own are there.
func (l *local) adapt(env map[string]string, functionsOwn bool) {
	env["TZ"] = lambdasTimeZone
	exemptLoopback(env)
	if l.opts.profile == "" || functionsOwn {
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
	return valid && !notForwarded.MatchString(name) && !placeOnLambda.MatchString(value)
}

// notForwarded are variables that stay on Lambda, because they make no sense on another machine. The others
// are as trustworthy as the function: its environment is taken from sealed requests only.
var notForwarded = regexp.MustCompile(`^(` + strings.Join([]string{
	// Places that exist on Lambda only.
	`_|PATH|HOME|PWD|OLDPWD|TMPDIR|TMP|TEMP|USER|LOGNAME|SHLVL|LAMBDA_(RUNTIME_DIR|TASK_ROOT)`,
	`AWS_(CONFIG|SHARED_CREDENTIALS|WEB_IDENTITY_TOKEN)_FILE|AWS_(DEFAULT_)?PROFILE`,
	// Lambda's addresses, and what is true of its environment only.
	`AWS_LAMBDA_(RUNTIME_API|EXEC_WRAPPER|MAX_CONCURRENCY|METADATA_.*)|AWS_LWA_LAMBDA_RUNTIME_API_PROXY`,
	`AWS_XRAY_DAEMON_ADDRESS|_AWS_XRAY_.*|_X_AMZN_TRACE_ID|AWS_(CONTAINER|EC2_METADATA)_.*`,
	// Proxies, and files of certificates: a VPC's.
	`(?i:(HTTPS?|ALL|NO|FTP|WSS?|SOCKS|GRPC)_PROXY)`,
	`SSL_CERT_(FILE|DIR)|(AWS|REQUESTS|CURL)_CA_BUNDLE|NODE_EXTRA_CA_CERTS|HTTPLIB2_CA_CERTS|` +
		`GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`,
	// What concerns this program.
	`LIVE_LAMBDA.*|LRAP_.*`,
}, "|") + `)$`)

// placeOnLambda finds directories of Lambda's in a value: those of the code, of layers, and of runtimes. What
// is set for a layer, NODE_OPTIONS=--require=/opt/tracer.js, would keep processes from starting here.
var placeOnLambda = regexp.MustCompile(`(^|[:;,= ])/(opt|var/(task|runtime|lang))([/:;, ]|$)`)
