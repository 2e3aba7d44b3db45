//go:build !layer

package main

// local_external.go is what `--external` tells: where the Runtime API is, and which environment a runtime
// wants that a debugger starts.

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// attachRuntime listens for a runtime that somebody else starts, says where, and with which environment it is
// to be started.
func (l *local) attachRuntime() error {
	addr, err := l.serveAttached()
	if err != nil {
		return err
	}
	env, err := l.externalEnvironment(addr)
	if err != nil {
		return err
	}
	if l.opts.envFile == "" {
		l.term.list("start the runtime, in a debugger say, with this in its environment:", env)
		return nil
	}
	var text strings.Builder
	for _, assignment := range env {
		name, value, _ := strings.Cut(assignment, "=")
		text.WriteString(name + "=" + quoted(value) + "\n")
	}
	err = os.WriteFile(l.opts.envFile, []byte(text.String()), 0o600)
	if err != nil {
		return fmt.Errorf("--env-file: %w", err)
	}
	l.term.note("start the runtime, in a debugger say, with the environment in %s; its Runtime API is at %s",
		l.opts.envFile, addr)
	return nil
}

// checkEnvFile returns an error if the environment could not be written into a file. It may make that, and
// leaves what it has. A pipe or a device is not opened, because who reads it would take that for the end.
func checkEnvFile(name string) error {
	info, err := os.Stat(name)
	if name == "" || err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("--env-file: %w", err)
	}
	return file.Close()
}

// quoted returns a value as shells and those who read such files take it: $LATEST is no variable.
func quoted(value string) string {
	if strings.ContainsAny(value, " $[]*?;&|<>()`\"\\#~") && !strings.Contains(value, "'") {
		return "'" + value + "'"
	}
	return value
}

// externalEnvironment returns the variables that an external runtime wants beside those that its debugger
// gives it. No event has come yet, so some are made up.
func (l *local) externalEnvironment(addr string) ([]string, error) {
	directory, err := filepath.Abs(l.opts.code.directory)
	if err != nil {
		return nil, err
	}
	c := madeUpContext()
	c.FunctionName = l.onlyFunction()
	c.Region = l.opts.region
	env := lambdasEnvironment(c, &program{directory: directory})
	env["AWS_LAMBDA_RUNTIME_API"] = addr
	own := developersEnvironment(false)
	delete(own, "AWS_PROFILE") // without --profile it is the debugger's business
	l.adapt(own, false)
	for _, name := range []string{"AWS_PROFILE", "NO_PROXY", "no_proxy", "TZ"} {
		env[name] = own[name]
	}
	maps.DeleteFunc(env, func(_, value string) bool { return value == "" })
	return assignments(env), nil
}

// onlyFunction returns the function that is served, if it is one, else the name "function".
func (l *local) onlyFunction() string {
	if len(l.opts.functions) == 1 {
		return nameOf(l.opts.functions[0])
	}
	return nameOf("*")
}

// nameOf returns a pattern if it is a name, else the name "function".
func nameOf(pattern string) string {
	if strings.ContainsAny(pattern, `*?[\`) {
		return "function"
	}
	return pattern
}
