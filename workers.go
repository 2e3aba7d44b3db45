//go:build !layer

package main

// workers.go runs handlers: for each function a queue of requests and the processes that take them, one
// request at a time each. Requests come in through submit; their replies are in them when request.news says
// so. A process is started when a request needs it, kept, and replaced when it exits; with it goes its whole
// process group.
//
// One mutex, local.mu, guards all of it: nothing that is done under it takes long. Each worker has one
// goroutine, which lives as long as its process, and those of its HTTP server.

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// between SIGTERM and SIGKILL; what Lambda gives a runtime beside an extension
	killPause    = 600 * time.Millisecond
	postPause    = 2 * time.Second        // for calls that an exited process has left to be read to their end
	firstRestart = 100 * time.Millisecond // after a process that failed to start, doubled with each in a row
	maxRestart   = 5 * time.Second
	allProcesses = 100  // of all functions together
	maxEvents    = 1000 // requests at hand at once
	maxPools     = 200  // functions
	// for a process that has answered to ask for more, before another is started
	breath       = 50 * time.Millisecond
	maxEventData = 256 << 20 // and bytes of their events
)

// Why nobody waits for an answer any more; the first three are outcomes that the extension tells.
const (
	overAnswered = "answered"
	overTimeout  = "timeout"
	overDeployed = "deployed"
	overDeadline = "deadline" // it has passed here, and nobody has told an outcome
)

// request is one event for a handler, and what becomes of it.
type request struct {
	id       string // Lambda's request ID
	event    []byte // until it is answered or over
	size     int    // of event
	context  eventContext
	deadline time.Time
	arrived  time.Time
	news     chan struct{} // reply, its data or over have changed

	// Under local.mu.
	pool       *pool
	generation int    // of its environment among those of the function
	identity   string // of its environment's other variables
	queued     bool   // it had to wait for a process
	reply      *reply // nil until the handler begins to answer
	over       string // why nobody waits for an answer; "" while somebody does
}

func newRequest(event []byte, c eventContext) *request {
	return &request{id: c.RequestID, event: event, size: len(event), context: c,
		deadline: time.UnixMilli(c.DeadlineMs),
		arrived:  time.Now(), news: make(chan struct{}, 1)}
}

// local runs the handlers of all functions.
type local struct {
	opts  localOptions
	term  *terminal
	quiet *log.Logger // for what net/http would log: a handler's connections may break as they like
	wg    sync.WaitGroup
	kill  chan struct{} // closed when processes shall end at once

	attach       *worker // the one without a process, where there is no command
	attachServer *http.Server

	mu       sync.Mutex
	pools    map[string]*pool
	live     map[*request]bool // not over, or with a reply that has not ended
	held     int               // bytes of their events
	stopping bool
	empty    chan struct{} // closed when stopping and nothing is live
}

// localOptions are what the developer asked for.
type localOptions struct {
	command      []string            // of functions that maps does not name
	maps         map[string][]string // commands by function name, which may be a pattern
	functions    []string            // patterns of those that are served; none: all
	maxProcesses int                 // of one function
	port         int                 // of the Runtime API without a command, 0: any
	profile      string
	record       string // directory
	ownEnv       bool   // whatever environment functions send
}

// pool is one function's requests and processes.
type pool struct {
	local     *local
	name      string
	command   []string // none: a debugger starts the runtime
	queue     []*request
	workers   []*worker
	seen      map[[32]byte]int // environments by fingerprint, counted as they were first seen
	failures  int              // starts that failed, in a row
	notBefore time.Time        // of the next start
	restart   *time.Timer      // for notBefore
}

// worker is one runtime: a process and its own Runtime API. Without a process, in attach mode, it serves
// whatever runtime comes.
type worker struct {
	pool       *pool
	identity   string
	generation int
	env        []string
	quit       chan struct{} // closed when the process shall end
	exited     chan struct{} // closed when it has ended; status then says how
	closed     chan struct{} // closed when its calls of next shall return
	status     string
	turn       chan struct{} // request is there for a call of next
	posted     chan struct{} // a call that answers has ended
	left       chan struct{} // closed when the last call has ended

	// Under local.mu.
	state    string
	sent     time.Time // when it last answered
	request  *request
	calls    int  // under way
	parked   int  // of them, those of next that wait
	shut     bool // no more calls
	stale    bool // to be replaced when it is ready
	outdated bool // to be retired then: there are newer credentials
	retired  bool // it shall end
	killing  *time.Timer
}

func newLocal(opts localOptions, term *terminal) *local {
	return &local{opts: opts, term: term, quiet: log.New(io.Discard, "", 0), kill: make(chan struct{}),
		pools: map[string]*pool{}, live: map[*request]bool{}, empty: make(chan struct{})}
}

// serves reports whether function is served here, and with which command: none in attach mode.
func (l *local) serves(function string) (command []string, ok bool) {
	for _, name := range slices.Sorted(maps.Keys(l.opts.maps)) {
		if matched, _ := path.Match(name, function); matched {
			return l.opts.maps[name], true
		}
	}
	if len(l.opts.maps) > 0 && len(l.opts.command) == 0 && len(l.opts.functions) == 0 {
		return nil, false
	}
	ok = len(l.opts.functions) == 0 || slices.ContainsFunc(l.opts.functions, func(pattern string) bool {
		matched, _ := path.Match(pattern, function)
		return matched
	})
	return l.opts.command, ok
}

// admit makes room for q, or says why there is none. What is admitted is submitted or settled.
func (l *local) admit(q *request) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopping:
		return errors.New("this end is stopping")
	case len(l.live) >= maxEvents || l.held+q.size > maxEventData:
		return fmt.Errorf(
			"%d invocations or %s of their events are at hand already", maxEvents, bytesText(maxEventData))
	}
	l.live[q] = true
	l.held += q.size
	return nil
}

// submit gives q to a handler, as soon as there is one for it.
func (l *local) submit(q *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q.over != "" {
		return
	}
	if l.opts.ownEnv { // before it tells processes apart
		q.context.Environment = nil
	}
	p := l.pools[q.context.FunctionName]
	if p == nil {
		command, _ := l.serves(q.context.FunctionName)
		p = &pool{local: l, name: q.context.FunctionName, command: command, seen: map[[32]byte]int{}}
		if len(l.pools) >= maxPools {
			maps.DeleteFunc(l.pools, func(_ string, p *pool) bool { return len(p.queue)+len(p.workers) == 0 })
		}
		l.pools[p.name] = p
		l.term.functions(len(l.pools))
	}
	q.pool = p
	p.classify(q)
	p.queue = append(p.queue, q)
	l.schedule(p)
	q.queued = slices.Contains(p.queue, q) && p.restart == nil
	queue := l.queueLength()
	if !q.queued && slices.Contains(p.queue, q) {
		queue--
	}
	l.term.arrived(q, queue)
}

// classify tells which processes may take q. Those whose environment differs in more than its variables'
// values may not; of the others those that are as new as q's or newer. A function's environments on Lambda
// differ in their credentials, and each lives on for a while beside newer ones.
func (p *pool) classify(q *request) {
	c := q.context
	q.identity = strings.Join(
		[]string{c.FunctionVersion, strconv.Itoa(c.MemorySizeMB), c.Region, c.Handler}, "\n")
	if len(p.seen) > 1000 {
		clear(p.seen)
		for _, w := range p.workers {
			w.generation = 0
		}
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(c.Environment)) {
		if name != "AWS_LAMBDA_LOG_STREAM_NAME" {
			fmt.Fprintf(h, "%q=%q\n", name, c.Environment[name])
		}
	}
	print := [32]byte(h.Sum(nil))
	if p.seen[print] == 0 {
		p.seen[print] = len(p.seen) + 1
		for _, w := range slices.Clone(p.workers) { // their credentials may end before the newer ones
			w.outdated = w.outdated || w.identity == q.identity
			if w.outdated && w.idle() {
				p.local.retire(w)
			}
		}
	}
	q.generation = p.seen[print]
}

// suits reports whether w may take q.
func (w *worker) suits(q *request) bool {
	return len(w.pool.command) == 0 || w.identity == q.identity && w.generation >= q.generation
}

func (w *worker) idle() bool { return w.state == stateReady && w.parked > 0 }

func (w *worker) starting() bool { return w.state == stateStarted || w.state == stateRestoring }

// schedule gives waiting requests to processes, and starts those that are missing. local.mu is held.
func (l *local) schedule(p *pool) {
	for len(p.queue) > 0 {
		q := p.queue[0]
		w := p.pick(q)
		if w == nil {
			return
		}
		p.queue = p.queue[1:]
		w.request = q
		if w.state == stateReady {
			w.run()
		} else {
			w.limit(q)
		}
	}
}

// scheduleFor gives w, which is ready, something to do. The one without a process serves all functions
// without a command. local.mu is held.
func (l *local) scheduleFor(w *worker) {
	if w != l.attach {
		l.schedule(w.pool)
		return
	}
	var first *pool
	for _, p := range l.pools {
		if len(p.command) == 0 && len(p.queue) > 0 &&
			(first == nil || p.queue[0].arrived.Before(first.queue[0].arrived)) {
			first = p
		}
	}
	if first != nil {
		l.schedule(first)
	}
}

// pick finds the worker that q goes to, or returns nil: q has to wait.
func (p *pool) pick(q *request) *worker {
	if len(p.command) == 0 {
		if w := p.local.attach; w != nil && w.idle() {
			return w
		}
		return nil
	}
	for _, w := range p.workers {
		if w.idle() && w.suits(q) {
			return w
		}
	}
	for _, w := range p.workers { // replacements that are still starting
		if w.starting() && w.request == nil && w.suits(q) && !w.retired {
			return w
		}
	}
	select {
	case <-p.local.kill:
		return nil
	default:
	}
	if wait := time.Until(p.startAt(q)); wait > 0 {
		if p.restart == nil {
			p.restart = time.AfterFunc(wait, func() { p.local.retry(p) })
		}
		return nil
	}
	if !p.makeRoom() {
		return nil
	}
	return p.local.start(p, q.identity, q.generation, p.local.environment(q))
}

// startAt is when another process may be started for q.
func (p *pool) startAt(q *request) time.Time {
	at := p.notBefore
	for _, w := range p.workers {
		if soon := w.sent.Add(breath); w.state == stateSent && w.suits(q) && !w.stale && soon.After(at) {
			at = soon
		}
	}
	return at
}

// retry schedules again after a pause.
func (l *local) retry(p *pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.restart = nil
	if !l.stopping || len(p.queue) > 0 {
		l.schedule(p)
	}
}

// makeRoom reports whether another process may be started, after having ended one that has nothing to do if
// need be.
func (p *pool) makeRoom() bool {
	l := p.local
	total := 0
	var other *worker
	for _, o := range l.pools {
		total += len(o.workers)
		if i := slices.IndexFunc(o.workers, (*worker).idle); i >= 0 && o != p {
			other = o.workers[i]
		}
	}
	var own *worker
	if i := slices.IndexFunc(p.workers, (*worker).idle); i >= 0 {
		own = p.workers[i]
	}
	switch {
	case len(p.workers) < l.opts.maxProcesses && total < allProcesses:
	case own != nil:
		l.retire(own)
	case len(p.workers) < l.opts.maxProcesses && other != nil:
		l.retire(other)
	default:
		return false
	}
	return true
}

func (l *local) queueLength() (n int) {
	for _, p := range l.pools {
		n += len(p.queue)
	}
	return n
}

// start starts a process. local.mu is held.
func (l *local) start(p *pool, identity string, generation int, env []string) *worker {
	w := newWorker(p)
	w.identity, w.generation, w.env = identity, generation, env
	p.workers = append(p.workers, w)
	l.wg.Go(w.live)
	return w
}

func newWorker(p *pool) *worker {
	return &worker{pool: p, state: stateStarted, quit: make(chan struct{}), exited: make(chan struct{}),
		closed: make(chan struct{}),
		turn:   make(chan struct{}, 1), posted: make(chan struct{}, 1), left: make(chan struct{})}
}

// retire ends a process that has nothing to do. local.mu is held.
func (l *local) retire(w *worker) {
	if w.retired {
		return
	}
	w.retired = true
	w.pool.workers = slices.DeleteFunc(w.pool.workers, func(o *worker) bool { return o == w })
	close(w.quit)
}

// replace ends a process and starts another in its place. local.mu is held.
func (l *local) replace(w *worker) {
	if w.retired {
		return
	}
	l.retire(w)
	if !l.stopping {
		l.start(w.pool, w.identity, w.generation, w.env)
	}
}

// killLate ends a process whose invocation has been over for a while.
func (l *local) killLate(w *worker, q *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.request == q && len(w.pool.command) > 0 {
		l.term.note(
			"%s: ended a process that did not come back from %s by its deadline", w.pool.name, short(q.id))
		l.retire(w)
	}
}

// answer gives q its reply; the first one counts. local.mu is held.
func (l *local) answer(q *request, rep *reply) {
	if q.over != "" || q.reply != nil {
		rep.data.close()
		return
	}
	q.reply = rep
	if rep.ended {
		l.end(q, rep)
	}
	notify(q.news)
}

// end is the end of q's reply. local.mu is held.
func (l *local) end(q *request, rep *reply) {
	rep.ended = true
	l.settle(q)
	if q.over == "" {
		l.term.ended(q, rep, l.queueLength())
	}
	notify(q.news)
}

// release gives up a request that was admitted and not submitted.
func (l *local) release(q *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(q)
}

// settle forgets what is needed no more of a request that is answered or over. local.mu is held.
func (l *local) settle(q *request) {
	if !l.live[q] {
		return
	}
	delete(l.live, q)
	l.held -= q.size
	q.event = nil
	if l.stopping && len(l.live) == 0 {
		close(l.empty)
	}
}

// finish says why nobody waits for q's answer any more.
func (l *local) finish(q *request, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q.over != "" {
		return
	}
	q.over = why
	if q.pool != nil {
		q.pool.queue = slices.DeleteFunc(q.pool.queue, func(o *request) bool { return o == q })
	}
	l.settle(q)
	if answered := q.reply != nil && q.reply.ended; !answered || why != overAnswered {
		l.term.over(q, answered, l.queueLength())
	}
	if q.reply != nil {
		q.reply.data.close()
	}
	notify(q.news)
}

// environment is a process's environment for requests like q, but for the address of its Runtime API.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
func (l *local) environment(q *request) []string {
	c := q.context
	env := map[string]string{}
	for _, s := range os.Environ() {
		name, value, _ := strings.Cut(s, "=")
		own := strings.HasPrefix(name, "LIVE_LAMBDA") || strings.HasPrefix(name, "LRAP_")
		if !own && (len(c.Environment) == 0 || !strings.HasPrefix(name, "AWS_")) {
			env[name] = value
		}
	}
	if l.opts.profile != "" && len(c.Environment) == 0 {
		env["AWS_PROFILE"] = l.opts.profile
	}
	for name, value := range c.Environment {
		if forwarded(name, value) {
			env[name] = value
		}
	}
	directory, _ := os.Getwd()
	for name, value := range map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME":        c.FunctionName,
		"AWS_LAMBDA_FUNCTION_VERSION":     c.FunctionVersion,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(cmp.Or(c.MemorySizeMB, 128)),
		"AWS_LAMBDA_LOG_GROUP_NAME":       c.LogGroupName,
		"AWS_LAMBDA_LOG_STREAM_NAME":      c.LogStreamName,
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_REGION":                      c.Region,
		"AWS_DEFAULT_REGION":              c.Region,
		"AWS_XRAY_CONTEXT_MISSING":        "LOG_ERROR",
		"LAMBDA_TASK_ROOT":                directory,
		"_HANDLER":                        c.Handler,
	} {
		if value != "" && !strings.Contains(value, "\x00") {
			env[name] = value
		}
	}
	list := make([]string, 0, len(env)+1)
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// forwarded reports whether a variable of the deployed function becomes the local process's too.
func forwarded(name, value string) bool {
	return name != "" && !strings.Contains(name, "=") && !strings.Contains(name+value, "\x00") &&
		(!notForwarded.MatchString(name) || forwardedStill.MatchString(name+"="+value))
}

// notForwarded are variables that stay on Lambda: whoever may publish requests could set those that make an
// interpreter, a shell, a compiler or the dynamic linker load code or run commands, and those that lead its
// traffic elsewhere. No list has every program's, hence --own-env. Names without a "(?i:" are those that
// programs read in this case only.
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
// ENV is "prod" to functions and a file to shells; NODE_ENV is part of a file's name to some packages.
var forwardedStill = regexp.MustCompile(`(?s)^((ENV|NODE_ENV|NODE_CONFIG_ENV|MIX_ENV)=[A-Za-z0-9_.,-]*|` +
	`(NODE_CONFIG|UV_THREADPOOL_SIZE|DOTNET_(ENVIRONMENT|SYSTEM_GLOBALIZATION_INVARIANT)|GO(GC|MEMLIMIT|` +
	`MAXPROCS|TRACEBACK))=.*)$`)

// live is a worker's life: its Runtime API, its process, and what both leave.
func (w *worker) live() {
	l := w.pool.local
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.gone(fmt.Sprintf("cannot listen for the runtime: %v", err), "LiveLambda.Local")
		return
	}
	server := w.runtimeAPI(ln)
	status, errorType := w.process(ln.Addr().String())
	w.status = status
	close(w.exited)
	l.mu.Lock()
	answering := w.state == stateAnswering
	l.mu.Unlock()
	if answering { // what it has sent is read to its end
		select {
		case <-w.posted:
		case <-l.kill:
		case <-time.After(postPause):
		}
	}
	w.shutDown(server)
	w.gone(status, errorType)
}

// shutDown ends w's Runtime API and waits for its calls.
func (w *worker) shutDown(server *http.Server) {
	l := w.pool.local
	l.mu.Lock()
	w.shut = true
	wait := w.calls > 0
	l.mu.Unlock()
	close(w.closed)
	server.Close()
	if wait {
		<-w.left
	}
}

// process runs the command until it ends and leaves nothing behind that it has started. It returns what ended
// it.
func (w *worker) process(addr string) (status, errorType string) {
	l := w.pool.local
	command := exec.Command(w.pool.command[0], w.pool.command[1:]...)
	own := "AWS_LAMBDA_RUNTIME_API=" + addr
	command.Env = append(slices.Clone(w.env), own)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, stderr, copied, err := w.outputs()
	if err != nil {
		return "cannot run it: " + err.Error(), "LiveLambda.Local"
	}
	command.Stdout, command.Stderr = stdout, stderr
	err = command.Start()
	stdout.Close()
	stderr.Close()
	if err != nil {
		copied()
		return err.Error(), "Runtime.InvalidEntrypoint"
	}
	group := -command.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	select {
	case err = <-ended:
	case <-l.kill:
		syscall.Kill(group, syscall.SIGKILL)
		err = <-ended
	case <-w.quit:
		syscall.Kill(group, syscall.SIGTERM)
		select {
		case err = <-ended:
		case <-l.kill:
			syscall.Kill(group, syscall.SIGKILL)
			err = <-ended
		case <-time.After(killPause):
			syscall.Kill(group, syscall.SIGKILL)
			err = <-ended
		}
	}
	syscall.Kill(group, syscall.SIGKILL) // what the process has started and left
	killStrays(own)
	copied()
	if err == nil {
		return "Runtime exited without providing a reason", "Runtime.ExitError"
	}
	return "Runtime exited with error: " + err.Error(), "Runtime.ExitError"
}

// killStrays ends what has left the process group, as a browser does that a handler starts detached. On Linux
// it is known by variable, which nothing but one worker's processes have in their environment; elsewhere it
// is not found.
func killStrays(variable string) {
	for range 10 { // those at hand may start others meanwhile
		found := false
		files, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is valid
		for _, file := range files {
			pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
			p, err := os.FindProcess(pid) // before the look: a process ID may be used again
			if err != nil {
				continue
			}
			environ, _ := os.ReadFile(file) // fails for those of others
			if strings.Contains("\x00"+string(environ), "\x00"+variable+"\x00") {
				found = p.Kill() == nil || found
			}
			p.Release()
		}
		if !found {
			return
		}
	}
}

// outputs are pipes for what a handler prints; copied waits until all of it has been passed on.
func (w *worker) outputs() (stdout, stderr *os.File, copied func(), err error) {
	var wg sync.WaitGroup
	var readers []*os.File
	files := make([]*os.File, 2)
	for i := range files {
		r, f, err := os.Pipe()
		if err != nil {
			for _, r := range append(readers, files[:i]...) {
				r.Close()
			}
			return nil, nil, nil, err
		}
		readers, files[i] = append(readers, r), f
		out := w.pool.local.term.output(w.pool.name, i == 1)
		wg.Go(func() {
			io.Copy(out, r)
			out.Close()
		})
	}
	return files[0], files[1], func() {
		late := time.AfterFunc(killPause, func() { // something that left the process group holds them open
			for _, r := range readers {
				r.SetReadDeadline(time.Now())
			}
		})
		defer late.Stop()
		wg.Wait()
		for _, r := range readers {
			r.Close()
		}
	}, nil
}

// exitReply is what the caller gets for an exit in the middle of its invocation.
func (w *worker) exitReply(q *request) *reply {
	return failureReply("Runtime.ExitError", "RequestId: "+q.id+" Error: "+w.status)
}

// gone is the end of a worker: its request is answered, and what it leaves to do is done by another.
func (w *worker) gone(status, errorType string) {
	l := w.pool.local
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.killing != nil {
		w.killing.Stop()
	}
	p := w.pool
	wanted := w.retired
	l.retire(w)
	starting := w.starting() || w.state == stateFailed
	busy := w.state == stateRunning || w.state == stateAnswering
	if q := w.request; q != nil && (starting || busy) {
		l.answer(q, failureReply(errorType, "RequestId: "+q.id+" Error: "+status))
	}
	switch {
	case wanted:
	case starting: // the next request that needs a process tries again
		p.backOff()
		l.term.note("%s: a process did not start: %s", p.name, status)
		l.term.restarted()
	case l.stopping:
	default:
		if !busy {
			l.term.note("%s: a process has exited: %s", p.name, status)
		}
		l.term.restarted()
		if w.state == stateReady { // it has done nothing since
			p.backOff()
		}
		if time.Now().After(p.notBefore) {
			l.start(p, w.identity, w.generation, w.env)
		}
	}
	l.schedule(p)
}

// backOff puts the next start off, for longer with each failure in a row. local.mu is held.
func (p *pool) backOff() {
	p.notBefore = time.Now().Add(min(firstRestart<<min(p.failures, 10), maxRestart))
	p.failures++
}

// failed answers the request of a worker that cannot start. local.mu is held.
func (w *worker) failed(rep *reply) {
	l := w.pool.local
	if q := w.request; q != nil {
		w.request = nil
		l.answer(q, rep)
	} else {
		l.term.note("%s: a process did not start: %s", w.pool.name, clean(rep.message))
	}
	if w == l.attach {
		w.state = stateStarted // the next runtime may do better
		return
	}
	w.killing = time.AfterFunc(exitPause, func() { // it should exit by itself
		l.mu.Lock()
		defer l.mu.Unlock()
		l.retire(w)
	})
}

// serveAttached serves, at addr, a runtime that somebody else starts, until close.
func (l *local) serveAttached() (addr string, err error) {
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(l.opts.port)))
	if err != nil {
		return "", fmt.Errorf("cannot listen for a runtime: %w; choose another --port", err)
	}
	l.attach = newWorker(&pool{local: l, name: "attached runtime"})
	l.attachServer = l.attach.runtimeAPI(ln)
	return ln.Addr().String(), nil
}

// stop lets what is at hand come to its end and takes nothing more. The channel is closed when nothing is
// left.
func (l *local) stop() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stopping {
		l.stopping = true
		if len(l.live) == 0 {
			close(l.empty)
		}
	}
	return l.empty
}

// endAll ends all processes at once. Callers that wait for an answer get an error.
func (l *local) endAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.kill)
	for q := range l.live {
		if q.reply == nil && q.pool != nil {
			l.answer(q, failureReply(
				"LiveLambda.Stopped", "the local end was stopped in the middle of the invocation"))
		}
	}
	for _, p := range l.pools {
		p.queue = nil
	}
}

// close ends all processes and waits for them.
func (l *local) close() {
	l.mu.Lock()
	l.stopping = true
	for _, p := range l.pools {
		for _, w := range slices.Clone(p.workers) {
			l.retire(w)
		}
		p.queue = nil
	}
	l.mu.Unlock()
	if l.attach != nil {
		l.attach.shutDown(l.attachServer)
	}
	l.wg.Wait()
}
