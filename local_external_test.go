//go:build !layer

package main

// local_external_test.go tests what --external tells of the environment that a runtime wants.

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// readVariables reads lines of NAME=VALUE.
func readVariables(text string) map[string]string {
	env := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[name] = strings.Trim(value, "'")
	}
	return env
}

func TestExternalRuntimesEnvironmentIsWrittenToAFile(t *testing.T) {
	directory := inDirectory(t, nil)
	t.Setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
	t.Setenv("NO_PROXY", "example.org")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hush")
	t.Setenv("AWS_PROFILE", "mine")
	r := newTestLocal(t, localOptions{
		code:      code{external: true},
		functions: []string{"orders"},
		envFile:   "runtime.env",
	})
	err := r.local.prepare()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("runtime.env")
	if err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat("runtime.env")
	if info.Mode() != 0o600 || strings.Contains(string(text), "hush") {
		t.Errorf("%v:\n%s", info.Mode(), text)
	}
	if !strings.Contains(string(text), "\nAWS_LAMBDA_FUNCTION_VERSION='$LATEST'\n") {
		t.Errorf("a shell would lose the version:\n%s", text)
	}
	env := readVariables(string(text))
	wantVariables(t, env, map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME":  "orders",
		"AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/orders",
		"LAMBDA_TASK_ROOT":          directory,
		"NO_PROXY":                  "127.0.0.1,example.org,localhost",
		"no_proxy":                  "127.0.0.1,example.org,localhost",
		"TZ":                        ":UTC",
		"AWS_PROFILE":               "", // the debugger has one of its own
		"HTTPS_PROXY":               "",
	})
	api := env["AWS_LAMBDA_RUNTIME_API"]
	if !regexp.MustCompile(`^127\.0\.0\.1:[0-9]+$`).MatchString(api) {
		t.Errorf("the Runtime API is at %q", api)
	}
	r.out.wait(r, "with the environment in runtime.env; its Runtime API is at "+api)
}

func TestExternalRuntimesEnvironmentIsPrinted(t *testing.T) {
	inDirectory(t, nil)
	r := newTestLocal(t, localOptions{code: code{external: true}, profile: "dev"})
	err := r.local.prepare()
	if err != nil {
		t.Fatal(err)
	}
	r.out.wait(r, "start the runtime, in a debugger say, with this in its environment:\n")
	r.out.wait(r, "\n    AWS_LAMBDA_FUNCTION_NAME=function\n")
	r.out.wait(r, "\n    AWS_LAMBDA_RUNTIME_API=127.0.0.1:")
	r.out.wait(r, "\n    AWS_PROFILE=dev\n")
	r.out.wait(r, "\n    TZ=:UTC\n")
}

func TestEnvFileThatCannotBeWrittenIsAnError(t *testing.T) {
	directory := t.TempDir()
	r := newTestLocal(t, localOptions{code: code{external: true}, envFile: directory})
	for what, err := range map[string]error{
		"flags":       checkEnvFile(directory),
		"preparation": r.local.prepare(),
		"no parent":   checkEnvFile(directory + "/none/runtime.env"),
	} {
		if err == nil || !strings.Contains(err.Error(), "--env-file: ") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// The check changes no file that is there, and does not wait for the reader of a pipe.
func TestEnvFileIsOnlyCheckedAtFirst(t *testing.T) {
	inDirectory(t, map[string]string{"runtime.env": "A=1\n"})
	err := syscall.Mkfifo("pipe", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "runtime.env", "pipe", "new.env"} {
		err := checkEnvFile(name)
		if err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	text, err := os.ReadFile("runtime.env")
	if err != nil || string(text) != "A=1\n" {
		t.Errorf("it has %q, %v", text, err)
	}
}
