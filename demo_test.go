//go:build !layer

package main

// demo_test.go runs the command demo, as a process.

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// runDemo runs the command demo and returns what it printed.
func runDemo(t *testing.T, args ...string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(
		filepath.Join(dir, "live-lambda"), append([]string{"demo"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("demo: %v\n%s", err, out)
	}
	return string(out)
}

func TestDemoEmulatesAnEventAPIByDefault(t *testing.T) {
	t.Parallel()
	out := runDemo(t)
	if !strings.Contains(out, "AppSync Events, on loopback") {
		t.Errorf("without a flag:\n%s", out)
	}
}

func TestDemoIgnoresWhatIsSetForAnotherAPI(t *testing.T) {
	for name, value := range map[string]string{
		"LIVE_LAMBDA_STAGE":                  "alice",
		"LIVE_LAMBDA_NAMESPACE":              "other",
		"LIVE_LAMBDA_APPSYNC_REALTIME_HOST":  "127.0.0.1:1",
		"AWS_PROFILE":                        "nobody",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/credentials",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN":  "token",
	} {
		t.Setenv(name, value)
	}
	out := runDemo(t)
	if !strings.Contains(out, `"message":"hello from this machine"`) {
		t.Errorf("the local handler did not answer:\n%s", out)
	}
}

// First the local handler answers, then, without it, the deployed code.
func TestDemoShowsAnswersOfBothHandlers(t *testing.T) {
	t.Parallel()
	overBoth(t, testDemo)
}

func testDemo(t *testing.T, over eventAPIOptions) {
	out := runDemo(t, "--protocol", over.protocol())
	for _, want := range []string{
		"AWS is emulated", `"message":"hello from this machine"`,
		`"message":"hello from the deployed code"`,
		"\n  live-lambda local --attach FUNCTION src/orders.handler\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in:\n%s", want, out)
		}
	}
}

const shellRuntime = `
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
headers=$(mktemp)
trap 'rm -f "$headers"' EXIT
while event=$(curl -sS -D "$headers" "$api/next"); do
	id=$(tr -d '\r' <"$headers" | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
	curl -sS -o /dev/null -d "{\"shell\":$event}" "$api/$id/response"
done`

func TestDemoRunsARuntimeThatIsAShellScript(t *testing.T) {
	t.Parallel()
	needs(t, "curl")
	out := runDemo(t, "--", "sh", "-c", shellRuntime)
	if !strings.Contains(out, `{"shell":{"name":"you"}}`) {
		t.Errorf("the shell runtime did not answer:\n%s", out)
	}
}

func TestDemoReturnsALargeEvent(t *testing.T) {
	t.Parallel()
	overBoth(t, testDemoLargeEvent)
}

func testDemoLargeEvent(t *testing.T, over eventAPIOptions) {
	file := filepath.Join(t.TempDir(), "event.json")
	event := benchEvent(6<<20 - 100)
	if err := os.WriteFile(file, event, 0o600); err != nil {
		t.Fatal(err)
	}
	out := runDemo(t, "--protocol", over.protocol(), "--event", file)
	if !strings.Contains(out, fmt.Sprintf("equals the event, token for token (%d bytes)", len(event))) {
		t.Errorf("the event did not come back:\n%s", out)
	}
}

// listeningDemo is `demo --listen`, with a handler if one is given.
type listeningDemo struct {
	*exec.Cmd
	url     string
	out     *bufio.Reader
	printed []string // lines that have been read
}

func startListeningDemo(t *testing.T, handler ...string) *listeningDemo {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	port := ownPort(t)
	d := &listeningDemo{url: "http://127.0.0.1:" + port + "/2015-03-31/functions/demo/invocations"}
	d.Cmd = exec.Command(
		filepath.Join(dir, "live-lambda"),
		append([]string{"demo", "--listen", "127.0.0.1:" + port}, handler...)...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d.Stdout = w
	d.Stderr = w
	d.out = bufio.NewReader(r)
	err = d.Start()
	w.Close()
	t.Cleanup(func() { r.Close() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Process.Signal(syscall.SIGTERM) })
	d.await(t, "--function-name demo")
	return d
}

// await reads what the demo prints up to a line with text, and returns the line.
func (d *listeningDemo) await(t *testing.T, text string) string {
	t.Helper()
	for {
		line, err := d.out.ReadString('\n')
		if err != nil {
			t.Fatalf("the demo ended without %q", text)
		}
		d.printed = append(d.printed, line)
		if strings.Contains(line, text) {
			return line
		}
	}
}

// end interrupts the demo and waits for its end.
func (d *listeningDemo) end(t *testing.T) {
	t.Helper()
	d.Process.Signal(os.Interrupt)
	io.Copy(io.Discard, d.out)
	if err := d.Wait(); err != nil {
		t.Errorf("demo --listen: %v", err)
	}
}

// Two developers with two tokens, and a request without one. It prints what to run, and no key.
func TestDemoSendsRequestsToTheStageThatTheirTokenNames(t *testing.T) {
	d := startListeningDemo(t, "--set", "LIVE_LAMBDA_ROUTE=x-dev", "--set", keyVariable+"="+testKey)
	command := ""
	for !strings.Contains(command, " sample ") {
		line := d.await(t, "  ")
		if strings.Contains(line, testKey) {
			t.Errorf("it prints the key: %s", line)
		}
		assignment, isOne := strings.CutPrefix(line, "  export ")
		if isOne {
			name, value, _ := strings.Cut(strings.TrimSpace(assignment), "=")
			t.Setenv(name, strings.Replace(value, "KEY", testKey, 1))
		}
		command = line
	}
	bob := exec.Command("sh", "-c", "exec "+command)
	out, err := bob.StdoutPipe()
	if err == nil {
		err = bob.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), `send the header "x-dev: bob"`) {
	}
	for _, tt := range []struct{ event, want string }{
		{event: `{"headers":{"x-dev":"alice"}}`, want: "this machine"},
		{event: `{"headers":{"X-Dev":"bob"}}`, want: "bob"},
		{event: `{"name":"you"}`, want: "the deployed code"},
	} {
		resp, err := http.Post(d.url, "application/json", strings.NewReader(tt.event))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.Contains(string(body), `"hello from `+tt.want+`"`) {
			t.Errorf("%s: %s, want that of %s", tt.event, body, tt.want)
		}
	}
	bob.Process.Signal(os.Interrupt)
	io.Copy(io.Discard, out)
	bob.Wait()
	d.end(t)
}

// It stays up for that, at any port.
func TestDemoServesTheInspector(t *testing.T) {
	t.Parallel()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	out := &screen{new: make(chan struct{}, 1)}
	cmd := exec.Command(filepath.Join(dir, "live-lambda"), "demo", "--ui")
	cmd.Stdout = out
	cmd.Stderr = out
	err = cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	out.await(t.Context(), t, " inspector: http://127.0.0.1:", 1)
	out.await(t.Context(), t, "takes invocations, until an interrupt", 1)
	cmd.Process.Signal(os.Interrupt)
	err = cmd.Wait()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDemoTakesInvocations(t *testing.T) {
	t.Parallel()
	d := startListeningDemo(t)
	resp, err := http.Post(d.url, "application/json", strings.NewReader(`[1]`))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !sameJSON(body, []byte(`{"event":[1],"message":"hello from this machine"}`)) ||
		resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", resp.Status, body)
	}
	d.end(t)
}

// Commands that are printed work as they are, on a machine where nobody has set up AWS.
func TestDemoPrintsCommandsThatWork(t *testing.T) {
	t.Parallel()
	needs(t, "curl")
	d := startListeningDemo(t)
	printed := strings.Join(d.printed, "")
	_, commands, _ := strings.Cut(printed, "until an interrupt:\n\n")
	curl, aws, found := strings.Cut(commands, "\n")
	if !found {
		t.Fatalf("no two commands in:\n%s", printed)
	}
	out, err := bareShell(t, os.Getenv("PATH"), curl)
	if err != nil || !strings.Contains(out, `{"event":{"name":"you"},"message":"hello from this machine"}`) {
		t.Errorf("%s\n%s%v", curl, out, err)
	}
	path := cliPath(t)
	out, err = bareShell(t, path, aws)
	if err != nil || !strings.Contains(out, `{"event":{},"message":"hello from this machine"}`) ||
		!strings.Contains(out, `"StatusCode": 200`) {
		t.Errorf("%s\n%s%v", aws, out, err)
	}
	d.end(t)
}

// selfInvokingRuntime answers "outer" with what the function itself makes of "inner", in brackets.
const selfInvokingRuntime = `
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
function=$AWS_ENDPOINT_URL_LAMBDA/2015-03-31/functions/$AWS_LAMBDA_FUNCTION_NAME/invocations
headers=$(mktemp)
trap 'rm -f "$headers"' EXIT
while event=$(curl -sS -D "$headers" "$api/next"); do
	id=$(tr -d '\r' <"$headers" | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
	[ "$event" = '"inner"' ] || event="[$(curl -sS -d '"inner"' "$function")]"
	curl -sS -o /dev/null -d "$event" "$api/$id/response"
done`

// With one environment it would wait for itself.
func TestDemoRunsAHandlerThatInvokesItsOwnFunction(t *testing.T) {
	t.Parallel()
	needs(t, "curl")
	d := startListeningDemo(t, "--", "sh", "-c", selfInvokingRuntime)
	resp, err := http.Post(d.url, "application/json", strings.NewReader(`"outer"`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != `["inner"]` {
		t.Errorf("the caller got %s, %v", body, err)
	}
	d.end(t)
}

func TestDemoAnswersAfterOneInterrupt(t *testing.T) {
	t.Parallel()
	checkDemoAnswersAfter(t, os.Interrupt)
}

// It comes if the terminal's window is closed.
func TestDemoAnswersAfterAHangup(t *testing.T) {
	// The demo ignores it if this process was started so, under nohup say, unless this process hears of it.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	checkDemoAnswersAfter(t, syscall.SIGHUP)
}

func checkDemoAnswersAfter(t *testing.T, sig os.Signal) {
	t.Helper()
	needs(t, "curl")
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	d := startListeningDemo(t, "--", "sh", "-c",
		`api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
id=$(curl -sS -o /dev/null -D - "$api/next" | tr -d '\r' |
	sed -n 's/^Lambda-Runtime-Aws-Request-Id: //ip')
cat <'`+fifo+`'; curl -sS -d '"done"' "$api/$id/response"`)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		resp, err := http.Post(d.url, "application/json", strings.NewReader(`{}`))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != `"done"` {
			t.Errorf("the caller got %q, %v", body, err)
		}
	})
	f, err := os.OpenFile(fifo, os.O_WRONLY, 0) // when the handler is at work
	if err != nil {
		t.Fatal(err)
	}
	d.Process.Signal(sig)
	d.await(t, "interrupt once more")
	f.Close()
	io.Copy(io.Discard, d.out)
	if err := d.Wait(); err != nil {
		t.Errorf("demo --listen: %v", err)
	}
}

// The second interrupt reaches the local end, which ends a handler that would not come to its end.
func TestDemoEndsItsHandlerAfterTwoInterrupts(t *testing.T) {
	t.Parallel()
	needs(t, "curl")
	d := startListeningDemo(
		t, "--", "sh", "-c",
		`curl -sS -o /dev/null "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next"; echo `+
			`"process $$"; exec sleep 1000`)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url, strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
	})
	_, text, _ := strings.Cut(strings.TrimSpace(d.await(t, "process ")), "process ")
	handler, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	d.Process.Signal(os.Interrupt)
	d.await(t, "interrupt once more")
	d.end(t)
	if syscall.Kill(handler, 0) == nil {
		t.Error("the handler outlived the demo")
		syscall.Kill(handler, syscall.SIGKILL)
	}
}
