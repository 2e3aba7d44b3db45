package main_test // of its own: nothing here needs the program's insides

// script_test.go runs the launcher, wrapper.sh and bootstrap.sh under every shell of this machine that a
// Lambda image may have as /bin/sh.

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// ---- the launcher ----

// What the launcher finds of the machine is simulated here.
func TestLauncherBecomesTheBinaryForTheMachine(t *testing.T) {
	t.Parallel()
	opt := layer(t)
	text := string(readFile(t, opt, launcherFile))
	machine := t.TempDir() // stands for the parts of / that the launcher looks at
	text = strings.NewReplacer(
		"-e /lib64/", "-e "+machine+"/lib64/", "-e /lib/", "-e "+machine+"/lib/", "/proc/self/exe",
		machine+"/exe",
	).Replace(text)
	simulated := filepath.Join(opt, "extensions", "simulated")
	writeFile(t, simulated, "", text)

	const (
		x86glibc = "lib64/ld-linux-x86-64.so.2"
		x86musl  = "lib/ld-musl-x86_64.so.1"
		armGlibc = "lib/ld-linux-aarch64.so.1"
		armMusl  = "lib/ld-musl-aarch64.so.1"
	)
	cases := []struct {
		files []string
		exe   string // the shell's executable, from its first byte
		want  string // the binary; "": none
	}{
		{files: []string{x86glibc}, want: "amd64"},
		{files: []string{x86musl}, want: "amd64"},
		{files: []string{armGlibc}, want: "arm64"},
		{files: []string{armMusl}, want: "arm64"},
		{files: []string{x86glibc, x86musl}, exe: elfHeader(0, 3, elf.EM_AARCH64), want: "amd64"},
		{files: []string{x86glibc, armGlibc}, exe: elfHeader(0, 3, elf.EM_X86_64), want: "amd64"},
		{files: []string{x86glibc, armGlibc}, exe: elfHeader(0, 3, elf.EM_AARCH64), want: "arm64"},
		{exe: elfHeader(0, 2, elf.EM_X86_64), want: "amd64"},
		{exe: elfHeader(3, 2, elf.EM_X86_64), want: "amd64"},
		{exe: elfHeader(0, 2, elf.EM_AARCH64), want: "arm64"},
		{exe: elfHeader(3, 2, elf.EM_AARCH64), want: "arm64"},
		{exe: "#!/bin/sh\n"},
		{files: nil, exe: "", want: ""},
	}
	for _, shell := range shells(t) {
		for _, c := range cases {
			if err := os.RemoveAll(machine); err != nil {
				t.Fatal(err)
			}
			for _, name := range c.files {
				writeFile(t, machine, name, "")
			}
			if c.exe != "" {
				writeFile(t, machine, "exe", c.exe)
			}
			command := append(slices.Clone(shell), simulated, "a", "b c", "")
			if c.want == "" {
				out, code := runScript(t, script{env: []string{"PATH="}}, command[0], command[1:]...)
				if code != 126 || !strings.Contains(out, "cannot tell x86_64 from arm64") ||
					strings.Count(out, "\n") != 1 {
					t.Errorf("%s, %v, %q: exit status %d, %q", shell, c.files, c.exe, code, out)
				}
				continue
			}
			got := runProbe(t, script{env: []string{"PATH="}}, command...)
			got.becameIt(t, shell, "a", "b c", "")
			want := filepath.Join(opt, "extensions/bin/live-lambda-extension-go-"+c.want)
			if got.name != want {
				t.Errorf("%s, %v, %q: became %s, want %s", shell, c.files, c.exe, got.name, want)
			}
		}
	}
}

// The launcher starts on this machine as Lambda starts it, and from its own directory.
func TestLauncherBecomesTheBinaryHere(t *testing.T) {
	launcher := filepath.Join(layer(t), launcherFile)
	for _, shell := range shells(t) {
		runProbe(t, script{env: []string{"PATH="}}, launcher, "x").becameIt(t, shell, "x")
		runProbe(t, script{dir: filepath.Dir(launcher), env: []string{"PATH="}},
			append(slices.Clone(shell), "live-lambda-extension", "x")...).becameIt(t, shell, "x")
	}
}

// Lambda starts every file in /opt/extensions: there must be no second one.
func TestLayerHasOneExtension(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join(layer(t), "extensions"))
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() {
			files = append(files, e.Name())
		}
	}
	if !slices.Equal(files, []string{"live-lambda-extension"}) {
		t.Errorf("files in extensions: %q", files)
	}
}

// ---- wrapper.sh ----

func TestWrapperPointsTheRuntimeAtTheProxy(t *testing.T) {
	t.Parallel()
	opt := layer(t)
	wrapper := filepath.Join(opt, "live-lambda-runtime-wrapper.sh")
	const real = "169.254.100.1:9001"
	const host = "LIVE_LAMBDA_APPSYNC_HTTP_HOST=events.example.com"
	cases := []struct {
		env  []string
		bare bool // host is not set
		want string
	}{
		{want: "127.0.0.1:8082"},
		// Nobody is there to send events to.
		{bare: true, want: real},
		{bare: true, env: []string{"LIVE_LAMBDA_APPSYNC_HTTP_HOST=", "LRAP_LISTENER_PORT=9009"}, want: real},
		{bare: true, env: []string{"LIVE_LAMBDA_OFFLINE=deployed"}, want: real},
		{bare: true, env: []string{"LIVE_LAMBDA_OFFLINE=error"}, want: "127.0.0.1:8082"},
		{bare: true, env: []string{"LIVE_LAMBDA_OFFLINE=Error"}, want: "127.0.0.1:8082"},
		{bare: true, env: []string{"LIVE_LAMBDA_OFFLINE=error", "LIVE_LAMBDA=off"}, want: real},
		// The runtime comes to the other proxy by this one.
		{bare: true, env: []string{"LRAP_RUNTIME_API_ENDPOINT=127.0.0.1:9000"}, want: "127.0.0.1:8082"},
		{env: []string{"LRAP_LISTENER_PORT="}, want: "127.0.0.1:8082"},
		{env: []string{"LRAP_LISTENER_PORT=9009"}, want: "127.0.0.1:9009"},
		{env: []string{"LRAP_LISTENER_PORT=1"}, want: "127.0.0.1:1"},
		{env: []string{"LRAP_LISTENER_PORT=65535"}, want: "127.0.0.1:65535"},
		{env: []string{"LRAP_LISTENER_PORT=0009009"}, want: "127.0.0.1:9009"},
		// What is no port: the extension logs it and listens on 8082.
		{env: []string{"LRAP_LISTENER_PORT=0"}, want: "127.0.0.1:8082"},
		{env: []string{"LRAP_LISTENER_PORT=65536"}, want: "127.0.0.1:8082"},
		{env: []string{"LRAP_LISTENER_PORT=18446744073709559625"}, want: "127.0.0.1:8082"},
		{env: []string{"LRAP_LISTENER_PORT=-1"}, want: "127.0.0.1:8082"},
		{env: []string{"LRAP_LISTENER_PORT=+9009"}, want: "127.0.0.1:8082"},
		{env: []string{"LRAP_LISTENER_PORT= 9009"}, want: "127.0.0.1:8082"},
		{env: []string{"LRAP_LISTENER_PORT=9009;exit"}, want: "127.0.0.1:8082"},
		{env: []string{"LRAP_LISTENER_PORT=0*"}, want: "127.0.0.1:8082"},
		{env: []string{"LRAP_LISTENER_PORT=eighty"}, want: "127.0.0.1:8082"},
		{env: []string{"LIVE_LAMBDA=on"}, want: "127.0.0.1:8082"},
		{env: []string{"LIVE_LAMBDA=perhaps"}, want: "127.0.0.1:8082"},
		{env: []string{"LIVE_LAMBDA="}, want: "127.0.0.1:8082"},
		{env: []string{"LIVE_LAMBDA=off"}, want: real},
		{env: []string{"LIVE_LAMBDA=OFF", "LRAP_LISTENER_PORT=9009"}, want: real},
		{env: []string{"LIVE_LAMBDA=Off"}, want: real},
	}
	for _, shell := range shells(t) {
		for _, c := range cases {
			env := append([]string{"PATH=", "AWS_LAMBDA_RUNTIME_API=" + real}, c.env...)
			if !c.bare {
				env = append(env, host)
			}
			got := runProbe(
				t, script{env: env},
				append(slices.Clone(shell), wrapper, probeFile(t, opt), "--flag", "two words", "", "$(x)",
					"*")...)
			got.becameIt(t, shell, "--flag", "two words", "", "$(x)", "*")
			if got.runtimeAPI != c.want {
				t.Errorf("%s, %q: the runtime is told %q, want %q", shell, c.env, got.runtimeAPI, c.want)
			}
		}
	}
}

func TestWrapperPassesTheExitStatusOn(t *testing.T) {
	wrapper := filepath.Join(layer(t), "live-lambda-runtime-wrapper.sh")
	env := []string{"AWS_LAMBDA_RUNTIME_API=169.254.100.1:9001"}
	_, code := runScript(t, script{env: env}, wrapper, "sh", "-c", "exit 42")
	if code != 42 {
		t.Errorf("the runtime's exit status 42 became %d", code)
	}
}

// chaining is the environment of a wrapper that is to start another one.
func chaining(further string, more ...string) []string {
	env := []string{"PATH=", "AWS_LAMBDA_RUNTIME_API=real:1", "LIVE_LAMBDA_APPSYNC_HTTP_HOST=a.example.com",
		"LIVE_LAMBDA_EXEC_WRAPPER=" + further}
	return append(env, more...)
}

func TestWrapperStartsAnotherWrapper(t *testing.T) {
	opt := layer(t)
	wrapper := filepath.Join(opt, "live-lambda-runtime-wrapper.sh")
	further := filepath.Join(opt, "another wrapper")
	writeFile(t, further, "",
		"#!/bin/sh\nexport AWS_LAMBDA_RUNTIME_API=\"seen $AWS_LAMBDA_RUNTIME_API\"\nexec \"$@\" added\n")
	cases := []struct {
		env  []string
		want string
		args []string
	}{
		{env: chaining(further), want: "seen 127.0.0.1:8082", args: []string{"two words", "added"}},
		{
			env:  chaining(further, "LIVE_LAMBDA=off"),
			want: "seen real:1",
			args: []string{"two words", "added"},
		},
		{env: chaining(""), want: "127.0.0.1:8082", args: []string{"two words"}},
		// itself: once is enough
		{env: chaining(wrapper), want: "127.0.0.1:8082", args: []string{"two words"}},
	}
	for _, shell := range shells(t) {
		command := append(slices.Clone(shell), wrapper, probeFile(t, opt), "two words")
		for _, c := range cases {
			got := runProbe(t, script{env: c.env}, command...)
			got.becameIt(t, shell, c.args...)
			if got.runtimeAPI != c.want {
				t.Errorf("%s, %q: the runtime is told %q, want %q", shell, c.env, got.runtimeAPI, c.want)
			}
		}
	}
}

func TestWrapperSaysWhyItCannotStartAnother(t *testing.T) {
	opt := layer(t)
	wrapper := filepath.Join(opt, "live-lambda-runtime-wrapper.sh")
	locked := filepath.Join(opt, "locked")
	writeFile(t, locked, "", "#!/bin/sh\n")
	err := os.Chmod(locked, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		path string
		code int
		said string
	}{
		{path: opt + "/missing", code: 127, said: "is no file"},
		{path: opt, code: 127, said: "is no file"},
		{path: locked, code: 126, said: "is not executable"},
	}
	for _, shell := range shells(t) {
		command := append(slices.Clone(shell), wrapper, probeFile(t, opt), "two words")
		for _, c := range cases {
			out, code := runScript(t, script{env: chaining(c.path)}, command[0], command[1:]...)
			said := "LIVE_LAMBDA_EXEC_WRAPPER is " + c.path + ", which " + c.said
			if code != c.code || !strings.Contains(out, said) {
				t.Errorf("%s, wrapper %s: exit status %d, %q", shell, c.path, code, out)
			}
		}
	}
}

// ---- bootstrap.sh ----

// bootstrapRig is a layer's bootstrap with a function and an image of its runtime.
type bootstrapRig struct {
	path  string // of the bootstrap
	task  string // LAMBDA_TASK_ROOT
	image string // LAMBDA_RUNTIME_DIR
}

func newBootstrapRig(t *testing.T) bootstrapRig {
	t.Helper()
	b := bootstrapRig{path: filepath.Join(layer(t), "bootstrap"), task: t.TempDir(), image: t.TempDir()}
	writeFile(t, b.task, "server", probe)
	writeFile(t, b.task, "bin/my server", probe)
	writeFile(t, b.task, "bootstrap", "#!/bin/sh\necho started again\n")
	writeFile(t, b.task, "data.txt", "text")
	err := os.Chmod(filepath.Join(b.task, "data.txt"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// env is the environment of a function with a handler.
func (b bootstrapRig) env(handler string, more ...string) []string {
	env := []string{
		"PATH=",
		"AWS_LAMBDA_RUNTIME_API=real:1", "LIVE_LAMBDA_APPSYNC_HTTP_HOST=a.example.com",
		"LAMBDA_TASK_ROOT=" + b.task,
		"LAMBDA_RUNTIME_DIR=" + b.image,
		"_HANDLER=" + handler,
	}
	return append(env, more...)
}

// started checks which program the bootstrap becomes, and the Runtime API that it is told.
func (b bootstrapRig) started(t *testing.T, shell []string, want, api string, env []string) {
	t.Helper()
	got := runProbe(t, script{env: env}, append(slices.Clone(shell), b.path)...)
	got.becameIt(t, shell)
	if got.name != want || got.runtimeAPI != api {
		t.Errorf("%s, %q: started %s with Runtime API %s, want %s, %s", shell, env, got.name,
			got.runtimeAPI, want, api)
	}
}

func TestBootstrapStartsTheHandler(t *testing.T) {
	t.Parallel()
	b := newBootstrapRig(t)
	server := b.task + "/server"
	own := b.task + "/bin/my server"
	for _, shell := range shells(t) {
		b.started(t, shell, server, "127.0.0.1:8082", b.env("server"))
		b.started(t, shell, own, "127.0.0.1:9009", b.env("bin/my server", "LRAP_LISTENER_PORT=9009"))
		b.started(t, shell, server, "real:1", b.env("server", "LIVE_LAMBDA=off"))
		// itself
		b.started(t, shell, server, "127.0.0.1:8082", b.env("server", "LIVE_LAMBDA_EXEC_WRAPPER="+b.path))
	}
}

func TestBootstrapSaysWhyItCannotStartTheHandler(t *testing.T) {
	b := newBootstrapRig(t)
	cases := []struct {
		handler string
		code    int
		said    string
	}{
		{
			handler: "missing",
			code:    127,
			said:    `the handler is "missing", but ` + b.task + " holds no program of that name",
		},
		{handler: "bin", code: 127, said: "holds no program of that name"},
		{handler: "", code: 127, said: "holds no program of that name"},
		{
			handler: "data.txt",
			code:    126,
			said:    b.task + "/data.txt, which the handler names, is not executable",
		},
		// or it would start itself for ever
		{handler: "bootstrap", code: 127, said: "under a name other than bootstrap"},
		{handler: "./bootstrap", code: 127, said: "under a name other than bootstrap"},
	}
	for _, shell := range shells(t) {
		command := append(slices.Clone(shell), b.path)
		for _, c := range cases {
			out, code := runScript(t, script{env: b.env(c.handler)}, command[0], command[1:]...)
			if code != c.code || !strings.Contains(out, c.said) || strings.Count(out, "\n") != 1 {
				t.Errorf("%s, handler %q: exit status %d, %q; want %d, %q", shell, c.handler, code, out,
					c.code, c.said)
			}
		}
	}
}

// A managed runtime's image has a bootstrap of its own, which a handler that names no program is for.
func TestBootstrapLeavesOtherHandlersToTheImage(t *testing.T) {
	b := newBootstrapRig(t)
	writeFile(t, b.image, "bootstrap", probe)
	image := b.image + "/bootstrap"
	for _, shell := range shells(t) {
		b.started(t, shell, image, "127.0.0.1:8082", b.env("function.handler"))
		b.started(t, shell, image, "127.0.0.1:8082", b.env("bootstrap"))
		b.started(t, shell, b.task+"/server", "127.0.0.1:8082", b.env("server"))
	}
}

// ---- helpers ----

// probe stands for what a script becomes. It prints its process ID, the page faults of its children (an
// executed program keeps the count of the one that executed it, so it is 0 only if no process was started on
// the way), the Runtime API's address, its name and its arguments.
const probe = `#!/bin/sh
stat='no /proc) 0 0 0 0 0 0 0 0 0'
if [ -r /proc/self/stat ]; then read -r stat </proc/self/stat; fi
printf '%s\n' "$$" "$stat" "${AWS_LAMBDA_RUNTIME_API-}" "$0" "$@"
`

type probed struct {
	started, pid     int // the process that was started, and the one that answered
	children         string
	runtimeAPI, name string
	args             []string
}

// becameIt checks that the probe was reached in the same process, with these arguments, and that no other was
// started.
func (p probed) becameIt(t *testing.T, shell []string, args ...string) {
	t.Helper()
	if p.pid != p.started {
		t.Errorf("%s: process %d was started, %d arrived", shell, p.started, p.pid)
	}
	if p.children != "0" {
		t.Errorf("%s: a process was started on the way: its page faults are %s", shell, p.children)
	}
	if !slices.Equal(p.args, args) {
		t.Errorf("%s: arguments %q, want %q", shell, p.args, args)
	}
}

func runProbe(t *testing.T, s script, command ...string) probed {
	t.Helper()
	cmd := s.command(t, command[0], command[1:]...)
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v, %s", command, err, errors.String())
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) < 4 {
		t.Fatalf("%q printed %q", command, out.String())
	}
	p := probed{started: cmd.Process.Pid, runtimeAPI: lines[2], name: lines[3], args: lines[4:]}
	if _, err := fmt.Sscan(lines[0], &p.pid); err != nil {
		t.Fatalf("%q printed %q: %v", command, out.String(), err)
	}
	// proc_pid_stat(5): after the name in parentheses field 3 is the state, field 11 cminflt.
	p.children = strings.Fields(lines[1][strings.LastIndex(lines[1], ")")+1:])[8]
	return p
}

// A probe that never sees a process would prove nothing.
func TestProbeSeesAProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc on this machine")
	}
	dir := t.TempDir()
	writeFile(t, dir, "forks", "#!/bin/sh\nx=$(:; echo \"$(echo x)\")\nexec \"$@\"\n")
	for _, shell := range shells(t) {
		got := runProbe(
			t, script{}, append(slices.Clone(shell), filepath.Join(dir, "forks"), probeFile(t, dir))...)
		if got.children == "0" || got.pid != got.started {
			t.Errorf("%s: %+v, want page faults of children", shell, got)
		}
	}
}

// script says where and with what environment a command runs.
type script struct {
	dir   string
	env   []string // beside this process's own
	unset string   // a variable that is taken out
}

func (s script) command(t *testing.T, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = s.dir
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		// What a developer has set for the layer must not change what the scripts do here.
		if name != s.unset && !strings.HasPrefix(name, "LIVE_LAMBDA") && !strings.HasPrefix(name, "LRAP_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, s.env...)
	return cmd
}

// runScript returns everything the command printed, and its exit status.
func runScript(t *testing.T, s script, name string, args ...string) (string, int) {
	t.Helper()
	cmd := s.command(t, name, args...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// shells are the command lines of the shells that may be /bin/sh in an image: this machine's, dash (Debian),
// bash (Amazon Linux) and busybox (Alpine), as far as they are installed.
func shells(t *testing.T) [][]string {
	var found [][]string
	for _, shell := range [][]string{{"sh"}, {"dash"}, {"bash", "--posix"}, {"busybox", "sh"}} {
		path, err := exec.LookPath(shell[0])
		if err != nil {
			t.Logf("%s is not installed here: not tried", shell[0])
			continue
		}
		found = append(found, append([]string{path}, shell[1:]...))
	}
	return found
}

// needTools skips a test whose tools are missing, except where .ci/run has installed them.
func needTools(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		} else if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed: %v", tool, err)
		}
		t.Skipf("%s is not installed: build.sh needs it", tool)
	}
}

// toolsWithout returns a PATH that has what build.sh uses, except one.
func toolsWithout(t *testing.T, missing string) string {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range strings.Fields(
		"sh cat sed find sort cut mktemp mkdir cp mv rm chmod touch wc grep readlink env id sha256sum " +
			"shasum perl go zip") {
		if path, err := exec.LookPath(tool); err == nil && tool != missing {
			if err := os.Symlink(path, filepath.Join(dir, tool)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// layer returns a directory as /opt is with the layer, its binaries being probes. The launcher is the one in
// build.sh.
func layer(t *testing.T) string {
	t.Helper()
	opt := t.TempDir()
	_, rest, _ := strings.Cut(string(readFile(t, "build.sh", "")), "go_launcher() {\n\tcat <<'END'\n")
	launcher, _, found := strings.Cut(rest, "\nEND\n")
	if !found {
		t.Fatal("build.sh has no go_launcher that prints a here-document")
	}
	writeFile(t, opt, launcherFile, launcher+"\n")
	writeFile(t, opt, amd64Binary, probe)
	writeFile(t, opt, arm64Binary, probe)
	writeFile(t, opt, "live-lambda-runtime-wrapper.sh", string(readFile(t, "wrapper.sh", "")))
	writeFile(t, opt, "bootstrap", string(readFile(t, "bootstrap.sh", "")))
	return opt
}

func probeFile(t *testing.T, dir string) string {
	t.Helper()
	writeFile(t, dir, "a probe", probe)
	return filepath.Join(dir, "a probe")
}

func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// writeFile writes a file that may be executed, with the directories above it.
func writeFile(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	syscall.ForkLock.RLock() // no other process has the file open when it is executed
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
