//go:build !layer

package main

// fake_lambda_process_test.go tests the processes of the emulated Lambda: how they start, end, and fail.

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// One life of an environment with two extensions, from the init to the shutdown. What holds for each phase is
// in a function of its own: starting processes takes time.
func TestLambdaProcessesFromInitToShutdown(t *testing.T) {
	var output logLines
	env := launchLambda(t, lambdaOptions{
		layerDir:    lambdaLayer(t, "20-second", "10-first"),
		output:      &output,
		environment: map[string]string{"GREETING": "hello"},
	})
	if err := env.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantInitInOrder(t, env)
	waitStopped(t, env) // frozen until there is something to do
	wantRuntimeVariables(t, env, string(invokeLambda(t, env, "env").payload))
	frozen := 0
	_, err := env.waitFor(t.Context(), 0, func(ev lambdaEvent) bool {
		if ev.name == "frozen" {
			frozen++
		}
		return frozen == 2
	})
	if err != nil {
		t.Fatal(err)
	}
	waitStopped(t, env)
	exits := env.close()
	for _, exit := range exits {
		if exit.status != "exit status 0" || !exit.byItself {
			t.Errorf("%+v", exit)
		}
	}
	if len(exits) != 3 {
		t.Errorf("exits %+v", exits)
	}
	for _, want := range []string{
		"10-first: SHUTDOWN spindown\n", "20-second: SHUTDOWN spindown\n", "runtime: SIGTERM\n",
		"10-first: GREETING=hello\n", "10-first: _HANDLER=\n",
		"10-first: LAMBDA_TASK_ROOT=\n", "10-first: AWS_LAMBDA_LOG_GROUP_NAME=\n",
	} {
		if !strings.Contains(output.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, output.String())
		}
	}
}

// wantInitInOrder expects extensions to start in the order of their names, and the runtime when they have
// registered.
func wantInitInOrder(t *testing.T, env *lambdaEnv) {
	t.Helper()
	var names []string
	for _, ev := range env.events() {
		names = append(names, strings.TrimSpace(ev.name+" "+ev.who))
	}
	order(t, names, "extension launched 10-first", "extension launched 20-second", "runtime started",
		"runtime next runtime", "init done")
	order(t, names, "extension registered 10-first", "runtime started")
	order(t, names, "extension registered 20-second", "runtime started")
}

// wantRuntimeVariables looks into what a runtime says of its environment.
func wantRuntimeVariables(t *testing.T, env *lambdaEnv, variables string) {
	t.Helper()
	for name, want := range map[string]string{
		"GREETING":                        "hello",
		"_HANDLER":                        "index.handler",
		"AWS_LAMBDA_FUNCTION_NAME":        "function",
		"AWS_REGION":                      "us-east-1",
		"AWS_LAMBDA_RUNTIME_API":          env.addr,
		"LAMBDA_TASK_ROOT":                env.taskDir,
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_ACCESS_KEY_ID":               "ASIAEMULATEDLAMBDA00",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
		"HOME":                            "",
	} {
		value := variable(variables, name)
		if value != want {
			t.Errorf("%s=%q, want %q", name, value, want)
		}
	}
}

// A process that exits, or hangs, fails the invocation that runs, and the next one finds a new environment.
func TestLambdaProcessFailureFailsOneInvocation(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		do     string   // what the runtime does with the event
		id     string   // what the extension does with INVOKE
		layer  []string // extensions
		want   string   // error type
		says   string
		reason string // of the shutdown
	}{
		"runtime exits": {
			do: "exit 0", want: "Runtime.ExitError", says: "Runtime exited without providing a reason",
			reason: "failure"},
		"runtime crashes": {
			do: "exit 3", want: "Runtime.ExitError", says: "Runtime exited with error: exit status 3",
			reason: "failure"},
		"extension exits": {
			do: "hang", id: "crash", layer: []string{"ours"}, want: "Extension.Crash", says: "exit status 0",
			reason: "failure"},
		"runtime hangs": {
			do: "hang", want: "Sandbox.Timedout", says: "Task timed out after 0.30 seconds",
			reason: "timeout"},
		"runtime hangs with extension": {
			do: "hang", layer: []string{"ours"}, want: "Sandbox.Timedout",
			says: "Task timed out after 0.30 seconds", reason: "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			var output logLines
			o := lambdaOptions{output: &output}
			if row.layer != nil {
				o.layerDir = lambdaLayer(t, row.layer...)
			}
			env := launchLambda(t, o)
			if err := env.ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			req := invokeRequest{payload: []byte(row.do), requestID: cmp.Or(row.id, "now")}
			if row.reason == "timeout" { // passes whether or not it reaches the runtime in time
				req.timeout = 300 * time.Millisecond
			}
			result, err := env.invoke(t.Context(), req)
			if err != nil || result.errorType != row.want ||
				!strings.Contains(
					string(result.payload), "RequestId: "+req.requestID+" Error: "+row.says+`"`) {
				t.Errorf("result %+v with %s, %v", result, result.payload, err)
			}
			got := string(invokeLambda(t, env, "again").payload)
			if got != "did again" {
				t.Errorf("the invocation after the reset: %q", got)
			}
			env.close()
			if row.layer != nil && row.reason == "timeout" &&
				!strings.Contains(output.String(), "ours: SHUTDOWN "+row.reason+"\n") {
				t.Errorf("output %s", output.String())
			}
		})
	}
}

// It fails the invocation that meets it, and no more.
func TestLambdaRuntimeKilledWhileFrozenFailsOneInvocation(t *testing.T) {
	env := launchLambda(t, lambdaOptions{})
	if err := env.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(env.sb.runtime.cmd.Process.Pid, syscall.SIGKILL)
	<-env.sb.runtime.exited
	result := invokeLambda(t, env, "first")
	if result.errorType != "Runtime.ExitError" {
		t.Errorf("result %+v", result)
	}
	result = invokeLambda(t, env, "second")
	if string(result.payload) != "did second" {
		t.Errorf("result %+v", result)
	}
}

func TestLambdaInitSaysWhyItFails(t *testing.T) {
	write := func(dir, name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		writeScript(t, path, text, mode)
		return path
	}
	for name, row := range map[string]struct {
		options func(dir string) lambdaOptions
		want    string
		output  string
	}{
		"no bootstrap": {want: "Runtime.InvalidEntrypoint", options: func(dir string) lambdaOptions {
			return lambdaOptions{osOnly: true, taskDir: dir, layerDir: dir}
		}},
		"no such runtime": {want: "Runtime.InvalidEntrypoint", options: func(dir string) lambdaOptions {
			return lambdaOptions{runtime: []string{filepath.Join(dir, "none")}}
		}},
		"extension not executable": {want: "Extension.LaunchError", options: func(dir string) lambdaOptions {
			write(dir, "extensions/readme", "text", 0o644)
			return lambdaOptions{layerDir: dir, runtime: []string{"true"}}
		}},
		"eleven extensions": {want: "Extension.LaunchError", options: func(dir string) lambdaOptions {
			for i := range 11 {
				write(dir, fmt.Sprintf("extensions/x%d", i), "#!/bin/sh\nexec cat\n", 0o755)
			}
			return lambdaOptions{layerDir: dir, runtime: []string{"true"}}
		}},
		"extension exits": {want: "Extension.Crash", options: func(dir string) lambdaOptions {
			write(dir, "extensions/x", "#!/bin/sh\nexit 0\n", 0o755)
			return lambdaOptions{layerDir: dir, runtime: []string{"true"}}
		}},
		"wrapper missing": {want: "Runtime.ExitError: Runtime exited with error: exit status 127",
			output: "none: does not exist", options: func(dir string) lambdaOptions {
				return lambdaOptions{
					layerDir: dir, runtime: []string{"true"},
					environment: map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/none"}}
			}},
		"wrapper not executable": {want: "Runtime.ExitError: Runtime exited with error: exit status 126",
			output: "is not an executable", options: func(dir string) lambdaOptions {
				write(dir, "wrapper", "", 0o644)
				return lambdaOptions{
					layerDir: dir, runtime: []string{"true"},
					environment: map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}}
			}},
		"timeout": {want: "Sandbox.Timedout: Task timed out after 0.05 seconds",
			options: func(string) lambdaOptions {
				return lambdaOptions{external: []string{"never"}, initTimeout: 50 * time.Millisecond}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			var output logLines
			o := row.options(t.TempDir())
			o.output = &output
			env := startTestLambda(t, o)
			err := env.ready(t.Context())
			if err == nil || !strings.HasPrefix(err.Error(), row.want) {
				t.Errorf("ready: %v, want %s", err, row.want)
			}
			env.close()
			if !strings.Contains(output.String(), row.output) {
				t.Errorf("output %q, want %q", output.String(), row.output)
			}
		})
	}
}

func TestLambdaRunsExecWrapperOrBootstrap(t *testing.T) {
	t.Parallel()
	wrapper := "#!/bin/sh\nexport WRAPPED=yes\nexec \"$@\"\n"
	bootstrap := "#!/bin/sh\nexport WRAPPED=bootstrap\nexec " + strings.Join(lambdaHelper(), " ") + "\n"
	for name, row := range map[string]struct {
		osOnly    bool
		bootstrap string // the directory that has it
		wrapper   string
		want      string
	}{
		"managed":                  {wrapper: "/opt/wrapper", want: "yes"},
		"managed, no wrapper":      {want: ""},
		"bootstrap in the package": {osOnly: true, bootstrap: "task", want: "bootstrap"},
		"bootstrap in the layer":   {osOnly: true, bootstrap: "layer", want: "bootstrap"},
		"OS-only runtimes know no wrapper": {
			osOnly: true, bootstrap: "layer", wrapper: "/opt/none", want: "bootstrap"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := lambdaOptions{
				layerDir:    filepath.Join(dir, "layer"),
				taskDir:     filepath.Join(dir, "task"),
				osOnly:      row.osOnly,
				environment: map[string]string{},
			}
			writeScript(t, filepath.Join(dir, "layer", "wrapper"), wrapper, 0o755)
			writeScript(t, filepath.Join(dir, "task", "unused"), "", 0o644)
			if row.bootstrap != "" {
				writeScript(t, filepath.Join(dir, row.bootstrap, "bootstrap"), bootstrap, 0o755)
			}
			if row.wrapper != "" {
				o.environment["AWS_LAMBDA_EXEC_WRAPPER"] = row.wrapper
			}
			env := launchLambda(t, o)
			got := variable(string(invokeLambda(t, env, "env").payload), "WRAPPED")
			if got != row.want {
				t.Errorf("WRAPPED=%q, want %q", got, row.want)
			}
		})
	}
}

// That is at the end of the time, and with all that it started.
func TestLambdaShutdownKillsWhatDoesNotExit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeScript(
		t, filepath.Join(dir, "extensions", "ours"),
		"#!/bin/sh\nLAMBDA_HELPER_NAME=ours LAMBDA_HELPER_STUBBORN=1 exec "+strings.Join(lambdaHelper(), " ")+
			"\n", 0o755)
	env := launchLambda(t, lambdaOptions{layerDir: dir, shutdownTimeout: 300 * time.Millisecond})
	got := string(invokeLambda(t, env, "child").payload)
	if got != "did child" {
		t.Fatalf("got %q", got)
	}
	for _, exit := range env.close() { // returns although the runtime's child holds the output open
		if exit.name == "ours" && (exit.byItself || exit.status != "signal: killed") {
			t.Errorf("%+v", exit)
		}
	}
}

func TestLambdaCloseLetsWorkingProcessesExit(t *testing.T) {
	var output logLines
	var tasks sync.WaitGroup
	t.Cleanup(tasks.Wait) // comes after the environment's close
	env := launchLambda(t, lambdaOptions{layerDir: lambdaLayer(t, "ours"), output: &output})
	failed := make(chan invokeResult, 1)
	tasks.Go(func() {
		result, _ := env.invoke(context.Background(), invokeRequest{payload: []byte("hang")})
		failed <- result
	})
	for _, who := range []string{"runtime", "ours"} {
		_, err := env.waitFor(t.Context(), 0, func(ev lambdaEvent) bool {
			return ev.name == "event delivered" && ev.who == who
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	exits := env.close()
	result := <-failed
	if result.errorType != "Sandbox.Failure" {
		t.Errorf("result %+v", result)
	}
	want := []lambdaExit{
		{name: "ours", status: "exit status 0", byItself: true},
		{name: "runtime", status: "exit status 0", byItself: true}}
	if !slices.Equal(exits, want) || !strings.Contains(output.String(), "ours: SHUTDOWN spindown\n") {
		t.Errorf("exits %+v, output %s", exits, output.String())
	}
}
