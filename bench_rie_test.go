//go:build !layer

package main

// What the layer adds to a cold start, in AWS's own emulator of Lambda's environment:
//
//	go install github.com/aws/aws-lambda-runtime-interface-emulator/cmd/aws-lambda-rie@latest
//	TEST_LAMBDA_RIE=$(go env GOPATH)/bin/aws-lambda-rie go test -run '^$' -bench ColdStart -benchtime 1x
//
// The emulator finds extensions in /opt, so each run has a mount namespace with an /opt of its own, which
// takes root. It starts extension and runtime when the first invocation comes. Measured is the time from that
// invocation to its answer. With an API there is LIVE_LAMBDA_ROUTE, and the event has no token, so the
// deployed code answers at once: what is seen is the start alone, not the search for a local end.

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// These answer each event with the event itself.
const (
	rieGo = `package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
)

func main() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		next, err := http.Get(api + "next")
		if err != nil {
			panic(err)
		}
		event, _ := io.ReadAll(next.Body)
		next.Body.Close()
		id := next.Header.Get("Lambda-Runtime-Aws-Request-Id")
		resp, err := http.Post(api+id+"/response", "application/json", bytes.NewReader(event))
		if err != nil {
			panic(err)
		}
		resp.Body.Close()
	}
}
`
	rieNode = `const http = require("http");
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const call = (method, path, body) => new Promise((resolve, reject) => {
  const req = http.request({host, port, method, path: "/2018-06-01/runtime/invocation/" + path}, (res) => {
    const chunks = [];
    res.on("data", (chunk) => chunks.push(chunk));
    res.on("end", () => resolve({headers: res.headers, body: Buffer.concat(chunks)}));
  });
  req.on("error", reject);
  req.end(body);
});
(async () => {
  for (;;) {
    const next = await call("GET", "next");
    await call("POST", next.headers["lambda-runtime-aws-request-id"] + "/response", next.body);
  }
})();
`
	riePython = `import http.client, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    response = api.getresponse()
    event, request = response.read(), response.headers["Lambda-Runtime-Aws-Request-Id"]
    api.request("POST", "/2018-06-01/runtime/invocation/" + request + "/response", event)
    api.getresponse().read()
`
	// Picks a binary as other layers do that are for both architectures.
	rieLauncher = `#!/bin/sh
case $(uname -m) in
x86_64) arch=amd64 ;;
*) arch=arm64 ;;
esac
exec "${0%/*}/bin/live-lambda-extension-go-$arch" "$@"
`
)

// freeAddress is an address of the loopback interface that nothing listens at.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// writeProgram writes an executable file.
func writeProgram(tb testing.TB, path string, text []byte) {
	tb.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, text, 0o755)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// rieCase is one way to start a function.
type rieCase struct {
	name string
	opt  string // the directory that becomes /opt
	env  []string
}

// coldStart starts a function in the emulator and returns how many milliseconds its first invocation took.
func coldStart(b *testing.B, emulator string, c rieCase, command []string) float64 {
	address := freeAddress(b)
	_, port, _ := net.SplitHostPort(freeAddress(b))
	if len(c.env) > 0 {
		command = append([]string{"/opt/live-lambda-runtime-wrapper.sh"}, command...)
	}
	// All of it ends with its process 1, which the signal to unshare ends.
	cmd := exec.Command("unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child",
		"sh", "-c", `mount --bind "$0" /opt && exec "$@"`, c.opt, emulator, "--log-level", "error",
		"--runtime-interface-emulator-address", address, "--runtime-api-address", freeAddress(b)},
		command...)...)
	cmd.Dir = b.TempDir()
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "AWS_REGION=us-east-1",
		"LRAP_LISTENER_PORT=" + port,
		"AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret", "LIVE_LAMBDA_LOG_LEVEL=error"},
		c.env...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(end) {
			b.Fatal("the emulator does not listen: ", err)
		}
	}
	start := time.Now()
	resp, err := http.Post(
		"http://"+address+"/2015-03-31/functions/function/invocations", "application/json",
		strings.NewReader(`{"a":1}`))
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	took := time.Since(start)
	if err != nil || string(answer) != `{"a":1}` {
		b.Fatalf("%s: the answer is %q, %v", c.name, answer, err)
	}
	return took.Seconds() * 1e3
}

// rieCases are the ways that are compared, the one without the layer first.
func rieCases(b *testing.B) []rieCase {
	binary, err := os.ReadFile(buildLayer(b, "", "amd64"))
	if err != nil {
		b.Fatal(err)
	}
	wrapper, err := os.ReadFile("wrapper.sh")
	if err != nil {
		b.Fatal(err)
	}
	without, layer, launcher := b.TempDir(), b.TempDir(), b.TempDir()
	for _, opt := range []string{layer, launcher} {
		writeProgram(b, filepath.Join(opt, "live-lambda-runtime-wrapper.sh"), wrapper)
	}
	writeProgram(b, filepath.Join(layer, "extensions/live-lambda-extension"), binary)
	writeProgram(b, filepath.Join(launcher, "extensions/live-lambda-extension"), []byte(rieLauncher))
	writeProgram(b, filepath.Join(launcher, "extensions/bin/live-lambda-extension-go-amd64"), binary)
	_, reachable := benchAppSync(b)
	reachable = append(reachable, "LIVE_LAMBDA_ROUTE=live-lambda")
	return []rieCase{
		{name: "without", opt: without},
		{name: "unconfigured", opt: layer, env: []string{"LIVE_LAMBDA=on"}},
		{name: "reachable", opt: layer, env: reachable},
		{name: "unreachable", opt: layer, env: []string{
			"LIVE_LAMBDA_APPSYNC_HTTP_HOST=https://127.0.0.1:1", "LIVE_LAMBDA_ROUTE=live-lambda"}},
		{name: "launcher", opt: launcher, env: reachable},
	}
}

// rieCommands are the command lines of the runtimes that are here.
func rieCommands(b *testing.B) map[string][]string {
	commands := map[string][]string{"go": {buildLayer(b, rieGo, "amd64")}}
	if node, err := exec.LookPath("node"); err == nil {
		commands["node"] = []string{node, "-e", rieNode}
	}
	// What PATH has may be a script that looks for the interpreter.
	if python, err := exec.Command(
		"python3", "-c", "import sys; print(sys.executable)").Output(); err == nil {
		commands["python"] = []string{strings.TrimSpace(string(python)), "-c", riePython}
	}
	return commands
}

// BenchmarkColdStart compares the first invocation of functions with and without the layer.
func BenchmarkColdStart(b *testing.B) {
	emulator := os.Getenv("TEST_LAMBDA_RIE")
	if emulator == "" {
		b.Skip("TEST_LAMBDA_RIE does not name the binary of AWS's runtime interface emulator")
	}
	if out, err := exec.Command(
		"unshare", "--mount", "--pid", "--fork", "true").CombinedOutput(); err != nil {
		b.Skipf("no mount namespace can be made here, which takes root: %v %s", err, out)
	}
	cases := rieCases(b)
	for runtime, command := range rieCommands(b) {
		b.Run(runtime, func(b *testing.B) {
			took := map[string][]float64{}
			for range 15 {
				for _, c := range cases {
					took[c.name] = append(took[c.name], coldStart(b, emulator, c, command))
				}
			}
			lines := ""
			for _, c := range cases {
				values := took[c.name]
				middle := median(values)
				b.ReportMetric(middle-median(took["without"]), c.name+"-more-ms")
				lines += fmt.Sprintf("\n%-12s ms: minimum %.1f, median %.1f, maximum %.1f",
					c.name, slices.Min(values), middle, slices.Max(values))
			}
			b.Log(lines)
			b.ReportMetric(0, "ns/op") // not of interest
		})
	}
}
