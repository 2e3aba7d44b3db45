//go:build !layer

package main

// local_debug.go lets a debugger attach to handlers: the interpreters' flags, and a port for each function.

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// debugFlags have an interpreter listen for a debugger.
// https://nodejs.org/en/learn/getting-started/debugging
// https://github.com/microsoft/debugpy#debugpy-cli-usage
func (lang *language) debugFlags(port int) []string {
	address := "127.0.0.1:" + strconv.Itoa(port)
	if lang == nodeLanguage {
		return []string{"--inspect=" + address}
	}
	// Without the option debugpy warns that it may miss breakpoints.
	return []string{"-Xfrozen_modules=off", "-m", "debugpy", "--listen", address}
}

// debugPorts gives each function a port of its own for its debugger: it has one process.
type debugPorts struct {
	first int // 0: the one that debuggers of the language expect

	mu    sync.Mutex // guards the following
	ports map[string]int
}

// of returns a function's port. It returns an error if there is none left.
func (d *debugPorts) of(function string, lang *language) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	port := d.ports[function]
	if port != 0 {
		return port, nil
	}
	port = d.first
	if port == 0 {
		port = lang.debugPort
	}
	for slices.Contains(slices.Collect(maps.Values(d.ports)), port) {
		port++
	}
	if port > 65535 {
		return 0, errors.New("there is no port left for another function's debugger")
	}
	d.ports[function] = port
	return port, nil
}

// inDebugTerminal reports whether this program was started in a terminal whose programs a debugger attaches
// to by itself, as IDEs have it.
// https://code.visualstudio.com/docs/nodejs/nodejs-debugging#_auto-attach
func inDebugTerminal() bool {
	return os.Getenv("VSCODE_INSPECTOR_OPTIONS") != "" ||
		strings.Contains(os.Getenv("NODE_OPTIONS"), "--inspect")
}
