//go:build !layer

package main

// path_kinds_test.go tests the whole path with other kinds of function: OS-only ones, beside other proxies,
// with SnapStart, and on Managed Instances.

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// eachPath runs a kind of function twice, each time in an environment of its own that prepare makes ready:
// with a local end, which answers, and without an API, so that the deployed code does.
func eachPath(
	t *testing.T, over eventAPIOptions, prepare func(t *testing.T) (lambdaOptions, map[string]string),
	then func(t *testing.T, p *wholePath, local bool)) {
	t.Helper()
	t.Run("local", func(t *testing.T) {
		o, variables := prepare(t)
		o.timeout = 30 * time.Second
		p := startPathOver(t, over, o, variables)
		p.startEcho(t)
		for range 2 {
			got := p.invoke(t, `[1]`)
			if !sameJSON(got.payload, []byte(`[1]`)) {
				t.Fatalf("answer %s %s, want [1]", got.payload, got.errorType)
			}
		}
		if then != nil {
			then(t, p, true)
		}
	})
	t.Run("deployed", func(t *testing.T) {
		o, variables := prepare(t)
		o.timeout = 30 * time.Second
		variables["LIVE_LAMBDA_APPSYNC_HTTP_HOST"] = ""
		p := startPathOver(t, over, o, variables)
		for range 2 {
			p.wantDeployed(t, `[1]`)
		}
		if then != nil {
			then(t, p, false)
		}
	})
}

// ---- OS-only functions ----

// deployedProgram writes a program without arguments that is the deployed code, as OS-only runtimes have it.
func deployedProgram(t *testing.T, name string) {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	writeScript(t, name, "#!/bin/sh\nexec "+filepath.Join(dir, "live-lambda")+" sample deployed\n", 0o755)
}

// The handler of a function on provided.al2023 names the program that the layer's bootstrap starts.
func TestBootstrapOfTheLayerStartsOSOnlyFunction(t *testing.T) {
	t.Parallel()
	overBoth(t, testBootstrapOfTheLayerStartsOSOnlyFunction)
}

func testBootstrapOfTheLayerStartsOSOnlyFunction(t *testing.T, over eventAPIOptions) {
	eachPath(t, over, func(t *testing.T) (lambdaOptions, map[string]string) {
		task := t.TempDir()
		deployedProgram(t, filepath.Join(task, "main"))
		return lambdaOptions{osOnly: true, taskDir: task, handler: "main"}, map[string]string{}
	}, nil)
}

// The bootstrap that docs/DEPLOY.md shows needs no handler, and starts the deployed code alone if the layer
// is taken off the function.
func TestBootstrapOfTheDocsStartsOSOnlyFunction(t *testing.T) {
	t.Parallel()
	overBoth(t, testBootstrapOfTheDocsStartsOSOnlyFunction)
}

func testBootstrapOfTheDocsStartsOSOnlyFunction(t *testing.T, over eventAPIOptions) {
	bootstrap := bootstrapOfTheDocs(t)
	start := func(t *testing.T, wrapper string) *wholePath {
		task := t.TempDir()
		deployedProgram(t, filepath.Join(task, "main"))
		text := strings.Replace(bootstrap, "/opt/live-lambda-runtime-wrapper.sh", wrapper, 1)
		writeScript(t, filepath.Join(task, "bootstrap"), text, 0o755)
		osOnly := lambdaOptions{
			osOnly:  true,
			taskDir: task,
			handler: "whatever",
			timeout: 30 * time.Second,
		}
		p := startPathOver(t, over, osOnly, nil)
		p.startEcho(t)
		return p
	}
	t.Run("with the layer's wrapper", func(t *testing.T) {
		wrapper, err := filepath.Abs("wrapper.sh")
		if err != nil {
			t.Fatal(err)
		}
		p := start(t, wrapper)
		got := p.invoke(t, `[1]`)
		if !sameJSON(got.payload, []byte(`[1]`)) {
			t.Errorf("answer %s %s, want [1]", got.payload, got.errorType)
		}
	})
	t.Run("without the layer's wrapper", func(t *testing.T) {
		p := start(t, filepath.Join(t.TempDir(), "not there"))
		p.wantDeployed(t, `[1]`) // past the proxy
	})
}

// bootstrapOfTheDocs is the script that docs/DEPLOY.md shows.
func bootstrapOfTheDocs(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("docs/DEPLOY.md")
	if err != nil {
		t.Fatal(err)
	}
	const head = "#!/bin/sh\n"
	_, script, _ := strings.Cut(string(page), "```sh\n"+head)
	script, _, _ = strings.Cut(script, "```")
	if !strings.Contains(script, "\nwrapper=/opt/live-lambda-runtime-wrapper.sh\n") {
		t.Fatalf("the bootstrap of docs/DEPLOY.md is %q", script)
	}
	return head + script
}

// ---- beside other Runtime API proxies ----

// startOtherProxy is another Runtime API proxy, which forwards to whatever to returns and records what it
// forwarded.
func startOtherProxy(t *testing.T, to func() string) (address string, forwarded func() string) {
	t.Helper()
	var seen screen
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: to()})
			seen.Write([]byte(r.In.Method + " " + path.Base(r.In.URL.Path) + "\n"))
		},
		// The environment ends while it waits in next.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	s := httptest.NewServer(proxy)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String(), seen.String
}

// twoInvocations is what another proxy forwards of two invocations that the deployed code answers.
const twoInvocations = "GET next\nPOST response\nGET next\nPOST response\n"

// LRAP_RUNTIME_API_ENDPOINT names the other proxy, which then gets what this one sends to the Runtime API.
func TestProxyWorksInFrontOfAnotherProxy(t *testing.T) {
	t.Parallel()
	overBoth(t, testProxyWorksInFrontOfAnotherProxy)
}

func testProxyWorksInFrontOfAnotherProxy(t *testing.T, over eventAPIOptions) {
	var forwarded func() string
	eachPath(t, over, func(t *testing.T) (lambdaOptions, map[string]string) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var other string
		other, forwarded = startOtherProxy(t, ln.Addr().String)
		return lambdaOptions{listener: ln}, map[string]string{"LRAP_RUNTIME_API_ENDPOINT": other}
	}, func(t *testing.T, p *wholePath, _ bool) {
		got := forwarded()
		if !strings.HasPrefix(got, twoInvocations) {
			t.Errorf("the other proxy forwarded %q", got)
		}
	})
}

// The runtime comes to the other proxy by a wrapper of that one. LRAP_RUNTIME_API_ENDPOINT may then name this
// proxy: the variable is meant for the other.
func TestProxyWorksBehindAnotherProxy(t *testing.T) {
	t.Parallel()
	overBoth(t, testProxyWorksBehindAnotherProxy)
}

func testProxyWorksBehindAnotherProxy(t *testing.T, over eventAPIOptions) {
	var forwarded func() string
	eachPath(t, over, func(t *testing.T) (lambdaOptions, map[string]string) {
		port := ownPort(t)
		this := "127.0.0.1:" + port
		var other string
		other, forwarded = startOtherProxy(t, func() string { return this })
		wrapper := filepath.Join(t.TempDir(), "wrapper")
		text := "#!/bin/sh\nexport AWS_LAMBDA_RUNTIME_API=" + other + "\nexec \"$@\"\n"
		writeScript(t, wrapper, text, 0o755)
		return lambdaOptions{}, map[string]string{
			"LIVE_LAMBDA_EXEC_WRAPPER":  wrapper,
			"LRAP_LISTENER_PORT":        port,
			"LRAP_RUNTIME_API_ENDPOINT": this,
		}
	}, func(t *testing.T, p *wholePath, local bool) {
		got := forwarded()
		if local && got != "GET next\n" { // this proxy still holds the runtime's first call of next
			t.Errorf("the other proxy forwarded %q, want one call of next", got)
		}
		if !local && !strings.HasPrefix(got, twoInvocations) {
			t.Errorf("the other proxy forwarded %q, want %q", got, twoInvocations)
		}
	})
}

// webAdapter does what Lambda Web Adapter does: an extension that is the runtime as soon as the web server is
// up, which Lambda starts as the runtime. It takes the Runtime API's address from a variable of its own.
// https://aws.github.io/aws-lambda-web-adapter/features/request-interception.html
const webAdapter = `#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension
id=$(curl -sS -D - -o /dev/null -H 'Lambda-Extension-Name: lambda-adapter' -d '{"events":[]}' \
	"$api/register" | tr -d '\r' | sed -n 's/^Lambda-Extension-Identifier: //p')
curl -sS -H "Lambda-Extension-Identifier: $id" "$api/event/next" &
read -r _ <"$SERVER"
AWS_LAMBDA_RUNTIME_API=${AWS_LWA_LAMBDA_RUNTIME_API_PROXY#http://}
export AWS_LAMBDA_RUNTIME_API
exec "$PROGRAM" sample deployed
`

func TestWebAdapterWorksWithTheLayer(t *testing.T) {
	t.Parallel()
	overBoth(t, testWebAdapterWorksWithTheLayer)
}

func testWebAdapterWorksWithTheLayer(t *testing.T, over eventAPIOptions) {
	needs(t, "curl")
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	eachPath(t, over, func(t *testing.T) (lambdaOptions, map[string]string) {
		port := ownPort(t)
		opt := t.TempDir()
		writeScript(t, filepath.Join(opt, "extensions", "lambda-adapter"), webAdapter, 0o755)
		server := filepath.Join(opt, "server")
		err = syscall.Mkfifo(server, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		webServer := []string{"sh", "-c", `echo up >"$SERVER"; exec sleep 60`}
		return lambdaOptions{layerDir: opt, runtime: webServer}, map[string]string{
			"SERVER":                           server,
			"LRAP_LISTENER_PORT":               port,
			"AWS_LWA_LAMBDA_RUNTIME_API_PROXY": "http://127.0.0.1:" + port,
			"PROGRAM":                          filepath.Join(dir, "live-lambda"),
		}
	}, nil)
}

// ---- SnapStart ----

// SnapStart: there are no credentials in the environment, others after the restore, and a connection that did
// not survive it.
func TestFunctionWorksAfterTheRestoreOfASnapshot(t *testing.T) {
	t.Parallel()
	overBoth(t, testFunctionWorksAfterTheRestoreOfASnapshot)
}

func testFunctionWorksAfterTheRestoreOfASnapshot(t *testing.T, over eventAPIOptions) {
	needs(t, "curl")
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	// The runtime waits for the gate: without it the snapshot might be taken before there is a link.
	gate := filepath.Join(t.TempDir(), "gate")
	err = syscall.Mkfifo(gate, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	script := "cat '" + gate + "' && " +
		`curl -sS -o /dev/null "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/restore/next" && ` +
		`exec "$0" sample deployed`
	p := startPathOver(t, over, lambdaOptions{
		snapStart: true,
		runtime:   []string{"sh", "-c", script, filepath.Join(dir, "live-lambda")},
		timeout:   30 * time.Second,
	}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	before := p.links(ctx, t)
	p.output.await(ctx, t, "msg=connected", 1) // with the credentials from before the snapshot
	err = os.WriteFile(gate, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = p.env.ready(ctx)
	if err != nil {
		t.Fatal(err)
	}

	// The snapshot is taken. What follows is what a restore finds.
	restored := credentials{
		accessKeyID:     "AKIDRESTORED",
		secretAccessKey: "restored",
		sessionToken:    "restored-token",
	}
	p.env.setCredentials(forLambda(restored))
	p.api.accept("", restored)
	p.api.do(before[0], apiVerdict{after: resetConnection})
	p.shared = append(p.shared, inEnvironment(restored)...)
	p.startEcho(t)
	got := p.invoke(t, `[1]`)
	if string(got.payload) != `[1]` || got.restore == 0 {
		t.Fatalf("answer %s %s, restore %v", got.payload, got.errorType, got.restore)
	}
	after := p.links(ctx, t)
	if slices.Contains(after, before[0]) {
		t.Errorf("connections %v before, %v after", before, after)
	}
}

// links are the numbers of the connections that wait for answers.
func (p *wholePath) links(ctx context.Context, t *testing.T) []int {
	t.Helper()
	conns, err := p.api.subscribers(ctx, "/live-lambda/response/*", 1)
	if err != nil {
		t.Fatal(err)
	}
	return conns
}

// A hook that fails after the restore: the caller gets what the runtime says of it.
func TestErrorOfARestoreHookReachesTheCaller(t *testing.T) {
	t.Parallel()
	overBoth(t, testErrorOfARestoreHookReachesTheCaller)
}

func testErrorOfARestoreHookReachesTheCaller(t *testing.T, over eventAPIOptions) {
	needs(t, "curl")
	const script = `api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/restore
curl -sS -o /dev/null "$api/next"
curl -sS -o /dev/null -H 'Lambda-Runtime-Function-Error-Type: Runtime.AfterRestore' \
	-d '{"errorMessage":"hook"}' "$api/error"
exit 1`
	p := startPathOver(t, over, lambdaOptions{
		snapStart: true,
		runtime:   []string{"sh", "-c", script},
		timeout:   30 * time.Second,
	}, nil)
	got, err := p.env.invoke(t.Context(), invokeRequest{payload: []byte(`[1]`)})
	if err != nil {
		t.Fatal(err)
	}
	if got.errorType != "Runtime.AfterRestore" || string(got.payload) != `{"errorMessage":"hook"}` {
		t.Errorf("answer %s %s", got.payload, got.errorType)
	}
}

// ---- Managed Instances ----

// Lambda Managed Instances refuse a registration for INVOKE, and several runtime processes ask for next at
// once. Each of many invocations has its own answer, from a local end and from the deployed code.
func TestManagedInstanceServesManyInvocationsAtOnce(t *testing.T) {
	t.Parallel()
	overBoth(t, testManagedInstanceServesManyInvocationsAtOnce)
}

func testManagedInstanceServesManyInvocationsAtOnce(t *testing.T, over eventAPIOptions) {
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	const script = `for i in 1 2 3 4 5 6 7; do "$0" sample deployed & done; exec "$0" sample deployed`
	runtime := []string{"sh", "-c", script, filepath.Join(dir, "live-lambda")}
	eachPath(t, over, func(*testing.T) (lambdaOptions, map[string]string) {
		return lambdaOptions{maxConcurrency: 8, runtime: runtime}, map[string]string{}
	}, func(t *testing.T, p *wholePath, local bool) {
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				event := fmt.Sprintf(`{"n":%d}`, i)
				want := event
				if !local {
					want = deployedAnswer(event)
				}
				got, err := p.env.invoke(t.Context(), invokeRequest{payload: []byte(event)})
				if err != nil || !sameJSON(got.payload, []byte(want)) {
					t.Errorf("got %s %s %v, want %s", got.payload, got.errorType, err, want)
				}
				n := len(p.env.completions(got.requestID))
				if n != 1 {
					t.Errorf("%d completions of one invocation", n)
				}
			})
		}
		wg.Wait()
	})
}
