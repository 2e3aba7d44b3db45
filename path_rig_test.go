//go:build !layer

package main

// path_rig_test.go is the rig of processes: the extension, the wrapper and deployed runtime behind it,
// `live-lambda local` and the handler are processes of their own. Lambda and AppSync are the emulators.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// buildDirectory makes, when it is first needed, the directory of what is built once for a whole run.
var buildDirectory = sync.OnceValues(func() (dir string, err error) {
	dir, err = os.MkdirTemp("", "live-lambda-test")
	buildDirectoryMade = dir
	return dir, err
})

// buildDirectoryMade is what TestMain removes, if it is not empty.
var buildDirectoryMade string

// programs builds, when the first test needs them, the layer's extension and the developer's program. All
// tests share the result.
var programs = sync.OnceValues(func() (dir string, err error) {
	dir, err = buildDirectory()
	if err != nil {
		return "", err
	}
	for name, tags := range map[string]string{"extension": "layer,nethttpomithttp2", "live-lambda": ""} {
		cmd := exec.Command("go", "build", "-tags", tags, "-o", filepath.Join(dir, name), ".")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	return dir, nil
})

// TestMain has the processes that tests start end at once. Under -race each end of a process would take a
// second otherwise. Tests wait for their processes more than they compute: so twice as many run at once as
// there are processors, unless -parallel on the command line, which is read after this, says how many.
func TestMain(m *testing.M) {
	flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	status := m.Run()
	if buildDirectoryMade != "" {
		os.RemoveAll(buildDirectoryMade)
	}
	os.Exit(status)
}

// pathKeys are the credentials of the function and of the local end. No log may have a part of them.
var pathKeys = credentials{
	accessKeyID:     "AKIDEXAMPLE",
	secretAccessKey: "marked-secret-key",
	sessionToken:    "marked-session-token",
}

// wholePath is one function with the layer, an AppSync API, and what the processes have printed.
type wholePath struct {
	api    *eventAPI
	env    *lambdaEnv
	host   string // of the API
	dir    string // of the programs
	output *screen
	shared []string // environment of the local end
}

// overBoth runs a test over an Event API and over a GraphQL API, for startPathOver.
func overBoth(t *testing.T, test func(t *testing.T, over eventAPIOptions)) {
	for _, over := range []eventAPIOptions{{}, {graphql: true}} {
		t.Run(over.protocol(), func(t *testing.T) { test(t, over) })
	}
}

// protocol is the value of LIVE_LAMBDA_APPSYNC_PROTOCOL for such an API.
func (o eventAPIOptions) protocol() string {
	if o.graphql {
		return "graphql"
	}
	return "events"
}

// startPath starts a function whose deployed code says that it is deployed. variables come on top of the
// layer's own.
func startPath(t testing.TB, o lambdaOptions, variables map[string]string) *wholePath {
	return startPathOver(t, eventAPIOptions{}, o, variables)
}

// startPathOver does it with an AppSync API that has options.
func startPathOver(
	t testing.TB, api eventAPIOptions, o lambdaOptions, variables map[string]string) *wholePath {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	p := &wholePath{dir: dir, output: &screen{new: make(chan struct{}, 1)}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the processes have printed:\n%s", p.output)
		}
	})
	p.startAPI(t, api)
	o.layerDir = cmp.Or(o.layerDir, t.TempDir())
	linkLayer(t, dir, o.layerDir)
	p.startFunction(t, api, o, variables)
	p.shared = append(
		os.Environ(),
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST=http://"+p.host,
		"LIVE_LAMBDA_APPSYNC_PROTOCOL="+api.protocol(),
		"AWS_REGION=us-east-1")
	p.shared = append(p.shared, inEnvironment(pathKeys)...)
	return p
}

// startAPI starts the AppSync API on loopback.
func (p *wholePath) startAPI(t testing.TB, o eventAPIOptions) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.host = ln.Addr().String()
	o.credentials = []credentials{pathKeys}
	o.region = "us-east-1"
	p.api = startEventAPI(ln, o)
	t.Cleanup(p.api.close)
}

// linkLayer makes a directory what /opt is with the layer, by links to the program and to the scripts.
func linkLayer(t testing.TB, programs, opt string) {
	t.Helper()
	err := os.MkdirAll(filepath.Join(opt, "extensions"), 0o755)
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		filepath.Join(programs, "extension"): "extensions/live-lambda-extension",
		"wrapper.sh":                         "live-lambda-runtime-wrapper.sh",
		"bootstrap.sh":                       "bootstrap",
	} {
		from, err := filepath.Abs(from)
		if err != nil {
			t.Fatal(err)
		}
		err = os.Symlink(from, filepath.Join(opt, to))
		if err != nil {
			t.Fatal(err)
		}
	}
}

// givenPorts are those that ownPort has given.
var givenPorts sync.Map

// ownPort is a free port that no other test gets, however long it takes until something listens there.
func ownPort(t testing.TB) string {
	t.Helper()
	for {
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		_, given := givenPorts.LoadOrStore(port, true)
		if !given {
			return port
		}
	}
}

// startFunction starts the execution environment. o.layerDir has the layer.
func (p *wholePath) startFunction(
	t testing.TB, api eventAPIOptions, o lambdaOptions, variables map[string]string) {
	t.Helper()
	o.functionName = "f"
	o.output = p.output
	o.credentials = forLambda(pathKeys)
	o.environment = map[string]string{
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST": "http://" + p.host,
		"LIVE_LAMBDA_APPSYNC_PROTOCOL":  api.protocol(),
		"LRAP_LISTENER_PORT":            ownPort(t),
		"AWS_LAMBDA_EXEC_WRAPPER":       filepath.Join(o.layerDir, "live-lambda-runtime-wrapper.sh"),
	}
	maps.Copy(o.environment, variables)
	if o.runtime == nil {
		o.runtime = []string{filepath.Join(p.dir, "live-lambda"), "sample", "deployed"}
	}
	env, err := startLambda(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	p.env = env
	t.Cleanup(func() { env.close() })
}

// forLambda are credentials as the emulated environment takes them.
func forLambda(keys credentials) lambdaCredentials {
	return lambdaCredentials{
		accessKeyID:     keys.accessKeyID,
		secretAccessKey: keys.secretAccessKey,
		sessionToken:    keys.sessionToken,
	}
}

// inEnvironment are credentials as environment variables.
func inEnvironment(keys credentials) []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + keys.accessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + keys.secretAccessKey,
		"AWS_SESSION_TOKEN=" + keys.sessionToken,
	}
}

// startEcho starts a local end whose handler returns its event.
func (p *wholePath) startEcho(t testing.TB) {
	t.Helper()
	p.startLocal(t, "--", filepath.Join(p.dir, "live-lambda"), "sample", sampleEcho)
}

// startLocal starts `live-lambda local` with arguments and returns when it has subscribed.
func (p *wholePath) startLocal(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(filepath.Join(p.dir, "live-lambda"), append([]string{"local"}, args...)...)
	cmd.Env = p.shared
	cmd.Stdout = p.output
	cmd.Stderr = p.output
	err := cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		err := cmd.Wait()
		if err != nil {
			t.Errorf("live-lambda local: %v", err)
		}
	})
	_, err = p.api.subscribers(t.Context(), "/live-lambda/requests", 1)
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

// invoke invokes the function and checks that this completed exactly once.
func (p *wholePath) invoke(t testing.TB, payload string) invokeResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result, err := p.env.invoke(ctx, invokeRequest{payload: []byte(payload)})
	if err != nil {
		t.Fatalf("invoke: %v\n%s", err, p.output)
	}
	n := len(p.env.completions(result.requestID))
	if n != 1 {
		t.Errorf("%d completions of one invocation", n)
	}
	return result
}

// wantDeployed invokes the function and checks that the deployed code has answered.
func (p *wholePath) wantDeployed(t testing.TB, event string) {
	t.Helper()
	got := p.invoke(t, event)
	if !sameJSON(got.payload, []byte(deployedAnswer(event))) {
		t.Fatalf("answer %s %s, want the deployed code's to %s", got.payload, got.errorType, event)
	}
}

// deployedAnswer is what the deployed code returns for an event.
func deployedAnswer(event string) string {
	return `{"event":` + event + `,"message":"hello from deployed"}`
}

// awaitEvent waits until the environment has noted an event of a name.
func (p *wholePath) awaitEvent(t testing.TB, name string) {
	t.Helper()
	_, err := p.env.waitFor(t.Context(), 0, func(e lambdaEvent) bool { return e.name == name })
	if err != nil {
		t.Fatal(err)
	}
}

// sameJSON compares two JSON texts token for token.
func sameJSON(a, b []byte) bool {
	return json.Valid(a) && json.Valid(b) && bytes.Equal(asciiJSON(a), asciiJSON(b))
}
