//go:build !layer

package main

// fake_lambda_process.go is the processes of the emulated Lambda, extensions and the runtime: how they are
// launched, signalled and reaped, and what variables they see. Each leads a process group of its own.
//
// Goroutines: two for each process. One waits for its exit, the other copies its output.
//
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// extensionPaths are the entries of /opt/extensions that are not directories, by name: each is an external
// extension.
func (e *lambdaEnv) extensionPaths() (paths []string, err error) {
	if e.layerDir == "" {
		return nil, nil
	}
	dir := filepath.Join(e.layerDir, "extensions")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list extensions: %w", err)
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			paths = append(paths, filepath.Join(dir, entry.Name()))
		}
	}
	return paths, nil
}

// lambdaProcess is an extension or the runtime, leader of a process group of its own.
type lambdaProcess struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{} // closed once cmd.ProcessState is set
	// killed says that kill came before it had exited. The goroutine that stops the sandbox alone uses it.
	killed bool
	output *lambdaOutput
}

// launchExtensions starts them one after another without waiting for any. e.mu is held.
func (e *lambdaEnv) launchExtensions(sb *lambdaSandbox) {
	paths, err := e.extensionPaths()
	if err == nil && len(sb.external) > lambdaMaxExtensions {
		err = errors.New("TooManyExtensions")
	}
	for _, p := range paths {
		if err != nil {
			break
		}
		name := filepath.Base(p)
		_, err = e.launch(sb, lambdaCommand{
			name: name,
			argv: []string{p},
			dir:  "/",
			env:  e.variables(false),
		})
		e.record(lambdaEvent{name: "extension launched", who: name})
	}
	if err != nil {
		e.fail(sb, &lambdaFailure{errorType: "Extension.LaunchError", message: err.Error()})
	}
}

// launchRuntime starts the runtime's process, unless the caller plays it. e.mu is held.
func (e *lambdaEnv) launchRuntime(sb *lambdaSandbox) {
	e.record(lambdaEvent{name: "runtime started"})
	argv := e.runtimeCommand()
	if len(argv) == 0 {
		return
	}
	p, err := e.launch(sb, lambdaCommand{
		name: "runtime",
		argv: argv,
		dir:  e.taskDir,
		env:  e.variables(true),
	})
	if err != nil {
		e.fail(sb, &lambdaFailure{errorType: "Runtime.InvalidEntrypoint", message: err.Error()})
		return
	}
	sb.runtime = p
}

// runtimeCommand is what the runtime's process runs. It is empty if the caller plays the runtime.
func (e *lambdaEnv) runtimeCommand() []string {
	if e.osOnly {
		return []string{e.bootstrap()}
	}
	wrapper := e.environment["AWS_LAMBDA_EXEC_WRAPPER"]
	if wrapper == "" || len(e.runtime) == 0 {
		return e.runtime
	}
	return append([]string{"/bin/sh", "-c", lambdaWrapperScript, e.inLayer(wrapper)}, e.runtime...)
}

// lambdaWrapperScript does what the managed runtimes' own bootstrap scripts do with AWS_LAMBDA_EXEC_WRAPPER.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-modify.html#runtime-wrapper
const lambdaWrapperScript = `[ -f "$0" ] || { echo "$0: does not exist"; exit 127; }
[ -x "$0" ] || { echo "$0: is not an executable"; exit 126; }
exec "$0" "$@"`

// inLayer maps a path in /opt to the layer directory.
func (e *lambdaEnv) inLayer(p string) string {
	rest, inOpt := strings.CutPrefix(p, "/opt/")
	if inOpt && e.layerDir != "" {
		return filepath.Join(e.layerDir, rest)
	}
	return p
}

// bootstrap is the task directory's if that has one, or else the layer's, whether it is there or not.
func (e *lambdaEnv) bootstrap() string {
	own := filepath.Join(e.taskDir, "bootstrap")
	_, err := os.Stat(own)
	if err != nil && e.layerDir != "" {
		return filepath.Join(e.layerDir, "bootstrap")
	}
	return own
}

// lambdaCommand is what one process runs.
type lambdaCommand struct {
	name string // in the record
	argv []string
	dir  string
	env  []string
}

// launch starts one process with its output as lines. e.mu is held.
func (e *lambdaEnv) launch(sb *lambdaSandbox, c lambdaCommand) (*lambdaProcess, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("output of %s: %w", c.name, err)
	}
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Dir = c.dir
	cmd.Env = c.env
	cmd.Stdout = w
	cmd.Stderr = w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	output := &lambdaOutput{env: e, pipe: r}
	p := &lambdaProcess{name: c.name, cmd: cmd, exited: make(chan struct{}), output: output}
	sb.processes = append(sb.processes, p)
	sb.waits.Go(output.copy)
	sb.waits.Go(func() { e.reap(sb, p, r) })
	return p, nil
}

// reap waits for a process to exit, ends what it left in its group, and fails the sandbox: outside of a
// shutdown any exit is fatal, whatever the status.
func (e *lambdaEnv) reap(sb *lambdaSandbox, p *lambdaProcess, output *os.File) {
	_ = p.cmd.Wait() // the status is in ProcessState
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	// a process that left the group may hold it open for ever
	_ = output.SetReadDeadline(time.Now().Add(time.Second))
	e.mu.Lock()
	defer e.mu.Unlock()
	close(p.exited)
	state := p.cmd.ProcessState
	e.record(lambdaEvent{name: "process exited", who: p.name, detail: state.String()})
	failure := &lambdaFailure{errorType: "Extension.Crash", message: state.String()}
	if p == sb.runtime {
		failure.errorType = "Runtime.ExitError"
		failure.message = "Runtime exited with error: " + state.String()
		if state.Success() {
			failure.message = "Runtime exited without providing a reason"
		}
	}
	e.fail(sb, failure)
}

// signal reaches the whole group. If its leader is gone, it does nothing: the number may be another's by now.
func (p *lambdaProcess) signal(s syscall.Signal) {
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// waitUntil returns when the process has exited, or at the deadline.
func (p *lambdaProcess) waitUntil(deadline time.Time) {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
	}
}

// kill ends the process if there is one and it has not exited, and waits for that.
func (p *lambdaProcess) kill() {
	if p == nil {
		return
	}
	select {
	case <-p.exited:
	default:
		p.killed = true
		p.signal(syscall.SIGKILL)
		<-p.exited
	}
}

// variables are the environment of the runtime, or of an extension, which sees less. PATH has this machine's
// directories: interpreters are not in /var/lang here. e.mu is held.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
func (e *lambdaEnv) variables(runtime bool) []string {
	v := map[string]string{
		"PATH": os.Getenv("PATH"),
		"LANG": "en_US.UTF-8",
		"TZ":   ":UTC",
	}
	if e.layerDir != "" {
		v["PATH"] = filepath.Join(e.layerDir, "bin") + ":" + v["PATH"]
		v["LD_LIBRARY_PATH"] = filepath.Join(e.layerDir, "lib")
	}
	maps.Copy(v, e.environment)
	maps.Copy(v, e.ownVariables())
	maps.Copy(v, e.credentialVariables())
	if runtime {
		maps.Copy(v, e.runtimeVariables())
	}
	list := make([]string, 0, len(v))
	for name, value := range v {
		list = append(list, name+"="+value)
	}
	return list
}

// ownVariables are those that Lambda sets for every process. A function cannot change them.
func (e *lambdaEnv) ownVariables() map[string]string {
	v := map[string]string{
		"AWS_REGION":                      e.region,
		"AWS_DEFAULT_REGION":              e.region,
		"AWS_LAMBDA_RUNTIME_API":          e.addr,
		"AWS_LAMBDA_FUNCTION_NAME":        e.functionName,
		"AWS_LAMBDA_FUNCTION_VERSION":     e.version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(e.memoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  e.initType,
	}
	if e.managed() {
		v["AWS_LAMBDA_MAX_CONCURRENCY"] = strconv.Itoa(e.maxConcurrency)
	}
	return v
}

// credentialVariables are credentials or, with SnapStart, where there are some. e.mu is held.
func (e *lambdaEnv) credentialVariables() map[string]string {
	if e.snapStart {
		return map[string]string{
			"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://" + e.addr + lambdaCredentialsPath,
			"AWS_CONTAINER_AUTHORIZATION_TOKEN":  e.token,
		}
	}
	return map[string]string{
		"AWS_ACCESS_KEY_ID":     e.credentials.accessKeyID,
		"AWS_SECRET_ACCESS_KEY": e.credentials.secretAccessKey,
		"AWS_SESSION_TOKEN":     e.credentials.sessionToken,
	}
}

// runtimeVariables are those that no extension sees.
func (e *lambdaEnv) runtimeVariables() map[string]string {
	v := map[string]string{
		"_HANDLER":           e.handler,
		"LAMBDA_TASK_ROOT":   e.taskDir,
		"LAMBDA_RUNTIME_DIR": "/var/runtime",
	}
	if !e.snapStart {
		day := time.Now().UTC().Format("2006/01/02/")
		v["AWS_LAMBDA_LOG_GROUP_NAME"] = "/aws/lambda/" + e.functionName
		v["AWS_LAMBDA_LOG_STREAM_NAME"] = day + "[" + e.version + "]" + strings.ReplaceAll(e.token, "-", "")
	}
	return v
}
