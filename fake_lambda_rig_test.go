//go:build !layer

package main

// fake_lambda_rig_test.go is the player of the emulated Lambda's tests: a runtime and an extension of
// plain HTTP calls and, as processes, this test binary.

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

type lambdaPlayer struct {
	t      *testing.T
	env    *lambdaEnv
	client *http.Client
	seen   map[string]int
	tasks  sync.WaitGroup // what runs beside the test, which ends once the environment is closed
}

// played is the answer to a call; status 0 when the connection broke.
type played struct {
	status int
	header http.Header
	body   string
}

func (a played) id() string { return a.header.Get("Lambda-Runtime-Aws-Request-Id") }

func startTestLambda(t *testing.T, o lambdaOptions) *lambdaEnv {
	t.Helper()
	env, err := startLambda(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.close() })
	return env
}

// playLambda starts an environment without processes.
func playLambda(t *testing.T, o lambdaOptions) *lambdaPlayer {
	t.Helper()
	o.timeout = lambdaMaxTimeout
	o.initTimeout = cmp.Or(o.initTimeout, time.Hour)
	if o.shutdownTimeout == 0 {
		o.shutdownTimeout = 50 * time.Millisecond // nobody fetches SHUTDOWN
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	p := &lambdaPlayer{
		t:      t,
		client: &http.Client{Transport: transport},
		seen:   map[string]int{},
	}
	t.Cleanup(p.tasks.Wait) // comes after the environment's close
	p.env = startTestLambda(t, o)
	return p
}

func (p *lambdaPlayer) do(req *http.Request) played {
	response, err := p.client.Do(req)
	if err != nil {
		return played{body: err.Error()}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return played{body: err.Error()}
	}
	return played{status: response.StatusCode, header: response.Header, body: string(body)}
}

// call takes a path of the Runtime API, or a whole URL, and headers as names and values in turn.
func (p *lambdaPlayer) call(method, url string, body io.Reader, header ...string) played {
	if strings.HasPrefix(url, "/") {
		url = "http://" + p.env.addr + url
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	return p.do(req)
}

func (p *lambdaPlayer) get(path string, header ...string) played {
	return p.call("GET", path, nil, header...)
}

func (p *lambdaPlayer) post(path, body string, header ...string) played {
	return p.call("POST", path, strings.NewReader(body), header...)
}

func (p *lambdaPlayer) next() played { return p.get("/2018-06-01/runtime/invocation/next") }

func (p *lambdaPlayer) respond(id, body string, header ...string) played {
	return p.post("/2018-06-01/runtime/invocation/"+id+"/response", body, header...)
}

// stream answers as a runtime that streams does, with a trailer behind the answer.
func (p *lambdaPlayer) stream(id string, trailer http.Header, answer io.Reader) played {
	req, err := http.NewRequest(
		"POST", "http://"+p.env.addr+"/2018-06-01/runtime/invocation/"+id+"/response", io.NopCloser(answer))
	if err != nil {
		panic(err)
	}
	req.Header.Set(lambdaModeHeader, "streaming")
	req.Header.Set("Content-Type", "text/plain")
	req.Trailer = trailer
	return p.do(req)
}

// holdNext calls next without waiting for the event.
func (p *lambdaPlayer) holdNext() <-chan played {
	return p.hold(func() played { return p.next() })
}

func (p *lambdaPlayer) holdExtensionNext(id string) <-chan played {
	return p.hold(func() played {
		return p.get("/2020-01-01/extension/event/next", lambdaExtensionHeader, id)
	})
}

func (p *lambdaPlayer) hold(call func() played) <-chan played {
	answer := make(chan played, 1)
	p.tasks.Go(func() { answer <- call() })
	return answer
}

// serve starts a whole runtime: handle gives the call, the body and headers of the answer.
func (p *lambdaPlayer) serve(handle func(played) (call, body string, header []string)) {
	p.tasks.Go(func() {
		for {
			event := p.next()
			if event.status != 200 {
				return
			}
			call, body, header := handle(event)
			p.post("/2018-06-01/runtime/invocation/"+event.id()+"/"+call, body, header...)
		}
	})
}

func (p *lambdaPlayer) register(name string, events ...string) string {
	p.t.Helper()
	body, _ := json.Marshal(map[string][]string{"events": events})
	got := p.post("/2020-01-01/extension/register", string(body), "Lambda-Extension-Name", name)
	p.want(got, 200, "")
	return got.header.Get(lambdaExtensionHeader)
}

func (p *lambdaPlayer) invoke(req invokeRequest) <-chan invokeResult {
	result := make(chan invokeResult, 1)
	p.tasks.Go(func() {
		r, err := p.env.invoke(context.Background(), req) // close ends it
		if err != nil {
			r.functionError = err.Error()
		}
		result <- r
	})
	return result
}

// want checks status and errorType; an errorType comes with a message, in JSON that ends in a newline.
func (p *lambdaPlayer) want(got played, status int, errorType string) {
	p.t.Helper()
	var body struct{ ErrorType, ErrorMessage string }
	_ = json.Unmarshal([]byte(got.body), &body)
	if got.status != status || body.ErrorType != errorType {
		p.t.Fatalf("got %d %q, want %d %s", got.status, got.body, status, errorType)
	}
	if errorType != "" &&
		(body.ErrorMessage == "" || !strings.HasSuffix(got.body, "\n") ||
			got.header.Get("Content-Type") != "application/json") {
		p.t.Errorf("got %q as %s", got.body, got.header.Get("Content-Type"))
	}
}

// await waits for the next event of a name that this player has not awaited yet.
func (p *lambdaPlayer) await(name, who string) lambdaEvent {
	p.t.Helper()
	ev, err := p.env.waitFor(p.t.Context(), p.seen[name+who], func(ev lambdaEvent) bool {
		return ev.name == name && ev.who == who
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.seen[name+who] = ev.seq
	return ev
}

type chanWriter chan string

func (c chanWriter) Write(b []byte) (int, error) {
	c <- string(b)
	return len(b), nil
}

// order checks that want comes in this order, with anything between.
func order(t *testing.T, got []string, want ...string) {
	t.Helper()
	rest := got
	for _, name := range want {
		i := slices.Index(rest, name)
		if i < 0 {
			t.Fatalf("no %q in its place\ngot  %q\nwant %q", name, got, want)
		}
		rest = rest[i+1:]
	}
}

func lambdaHelper() []string {
	return []string{os.Args[0], "-test.run=^TestLambdaHelperProcess$"}
}

// launchLambda starts an environment whose runtime is the helper.
func launchLambda(t *testing.T, o lambdaOptions) *lambdaEnv {
	t.Helper()
	if o.environment == nil {
		o.environment = map[string]string{}
	}
	o.environment["LAMBDA_HELPER"] = "1"
	o.environment["GORACE"] = "atexit_sleep_ms=0" // else each exit takes a second under -race
	if !o.osOnly {
		o.runtime = lambdaHelper()
	}
	o.timeout = lambdaMaxTimeout
	o.initTimeout = time.Hour
	if o.shutdownTimeout == 0 {
		o.shutdownTimeout = time.Hour // everyone exits by itself
	}
	return startTestLambda(t, o)
}

func invokeLambda(t *testing.T, env *lambdaEnv, do string) invokeResult {
	t.Helper()
	result, err := env.invoke(t.Context(), invokeRequest{payload: []byte(do)})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// lambdaLayer is a layer directory with helpers as extensions.
func lambdaLayer(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "extensions", "ignored-directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		writeScript(
			t, filepath.Join(dir, "extensions", name),
			"#!/bin/sh\nLAMBDA_HELPER_NAME=${0##*/} exec "+strings.Join(lambdaHelper(), " ")+"\n", 0o755)
	}
	return dir
}

// writeScript holds back forks meanwhile: a child that inherited the open file would make the script "text
// file busy".
// https://go.dev/issue/22315
func writeScript(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// waitStopped returns when the kernel says that all of the environment's processes are stopped.
func waitStopped(t *testing.T, env *lambdaEnv) {
	t.Helper()
	for _, p := range env.current().processes {
		var status syscall.WaitStatus
		for !status.Stopped() {
			_, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
			if err != nil && err != syscall.EINTR {
				t.Fatal(err)
			}
		}
	}
}

func variable(environ, name string) string {
	for line := range strings.Lines(environ) {
		value, ok := strings.CutPrefix(line, name+"=")
		if ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// TestLambdaHelperProcess is no test: in a process of the emulator it is the runtime or an extension.
func TestLambdaHelperProcess(t *testing.T) {
	if os.Getenv("LAMBDA_HELPER") == "" {
		t.Skip("only as a process of the Lambda emulator")
	}
	name := os.Getenv("LAMBDA_HELPER_NAME")
	if name != "" {
		os.Exit(helperExtension(name))
	}
	os.Exit(helperRuntime())
}

func helperRuntime() int {
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go func() {
		<-terminate
		fmt.Println("runtime: SIGTERM")
		os.Exit(0)
	}()
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		response, err := http.Get(base + "next")
		if err != nil {
			return 9
		}
		event, _ := io.ReadAll(response.Body)
		do := string(event)
		answer := "did " + do
		switch {
		case do == "env":
			answer = strings.Join(os.Environ(), "\n")
		case do == "hang":
			helperBlock()
		case strings.HasPrefix(do, "print "):
			text, exits := strings.CutSuffix(do[6:], ", exit")
			fmt.Println(text)
			if exits {
				os.Exit(1)
			}
		case do == "child": // that outlives it, with the output open
			child := exec.Command("tail", "-f", "/dev/null")
			child.Stdout = os.Stdout
			child.Stderr = os.Stderr
			if child.Start() != nil {
				return 8
			}
		case strings.HasPrefix(do, "exit "):
			code, _ := strconv.Atoi(do[5:])
			os.Exit(code)
		}
		posted, err := http.Post(
			base+response.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "",
			strings.NewReader(answer))
		if err != nil {
			return 9
		}
		posted.Body.Close()
	}
}

func helperExtension(name string) int {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2020-01-01/extension/"
	call := func(method, path, body string, header ...string) (*http.Response, []byte) {
		req, _ := http.NewRequest(method, base+path, strings.NewReader(body))
		req.Header.Set(header[0], header[1])
		response, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println(name+":", err)
			os.Exit(9)
		}
		defer response.Body.Close()
		answer, _ := io.ReadAll(response.Body)
		return response, answer
	}
	for _, v := range []string{"GREETING", "_HANDLER", "LAMBDA_TASK_ROOT", "AWS_LAMBDA_LOG_GROUP_NAME"} {
		fmt.Printf("%s: %s=%s\n", name, v, os.Getenv(v))
	}
	registered, _ := call(
		"POST", "register", `{"events":["INVOKE","SHUTDOWN"]}`, "Lambda-Extension-Name", name)
	for {
		_, body := call(
			"GET", "event/next", "", lambdaExtensionHeader, registered.Header.Get(lambdaExtensionHeader))
		var event lambdaExtensionEvent
		_ = json.Unmarshal(body, &event)
		if event.EventType == "SHUTDOWN" {
			fmt.Printf("%s: SHUTDOWN %s\n", name, event.ShutdownReason)
			if os.Getenv("LAMBDA_HELPER_STUBBORN") != "" {
				helperBlock()
			}
			return 0
		}
		if event.RequestID == "crash" {
			return 0
		}
	}
}

func helperBlock() {
	never := make(chan os.Signal, 1)
	signal.Notify(never, syscall.SIGUSR1)
	<-never
}
