//go:build !layer

package main

// What the extension costs, as ratios within one run: go test -run '^$' -bench . -benchtime 1x
//
// The floor is a small Go program, built with the layer's flags, that listens, registers with the Extensions
// API and forwards with httputil.ReverseProxy, and knows nothing of AppSync. Each figure pairs one run of the
// extension with one of the floor, again and again, and reports the ratio of the medians; absolute values are
// of this machine.

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// floorSource is the floor. With LEAST it forwards by the least that net/http can do: no whole proxy.
// linkSource only links what the layer cannot do without, for the size of its binary.
const (
	floorSource = `package main

import (
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
)

type least string

func (host least) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = r.Clone(r.Context())
	r.URL.Scheme = "http"
	r.URL.Host = string(host)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
	resp.Body.Close()
}

func main() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API")
	target, _ := url.Parse(api)
	ln, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("LRAP_LISTENER_PORT"))
	if err != nil {
		panic(err)
	}
	events := strings.NewReader("{\"events\":[\"INVOKE\",\"SHUTDOWN\"]}")
	req, _ := http.NewRequest("POST", api+"/2020-01-01/extension/register", events)
	req.Header.Set("Lambda-Extension-Name", "live-lambda-extension")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	var handler http.Handler = httputil.NewSingleHostReverseProxy(target)
	if os.Getenv("LEAST") != "" {
		handler = least(target.Host)
	}
	go http.Serve(ln, handler)
	req, _ = http.NewRequest("GET", api+"/2020-01-01/extension/event/next", nil)
	req.Header.Set("Lambda-Extension-Identifier", resp.Header.Get("Lambda-Extension-Identifier"))
	http.DefaultClient.Do(req)
}
`
	linkSource = `package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"golang.org/x/net/websocket"
)

func main() {
	var v map[string]any
	json.Unmarshal([]byte(os.Args[1]), &v)
	b, _ := json.Marshal(v)
	ws, err := websocket.Dial(os.Args[2], "", "http://localhost")
	fmt.Println(string(b), err)
	websocket.Message.Send(ws, "x")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{}}}
	client.Get(os.Args[3])
	http.ListenAndServe("127.0.0.1:0", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
}
`
)

// builtLayers is what buildLayer has built, by source and architecture. Benchmarks run one at a time.
var builtLayers = map[[2]string]string{}

// buildLayer compiles source, or the layer if that is empty, with the layer's flags: once for all benchmarks.
func buildLayer(tb testing.TB, source, goarch string) string {
	tb.Helper()
	if built := builtLayers[[2]string{source, goarch}]; built != "" {
		return built
	}
	common, err := buildDirectory()
	if err != nil {
		tb.Fatal(err)
	}
	dir, err := os.MkdirTemp(common, "layer")
	if err != nil {
		tb.Fatal(err)
	}
	out := filepath.Join(dir, "binary")
	cmd := exec.Command(
		"go", "build", "-trimpath", "-buildvcs=false", "-tags", "layer,nethttpomithttp2", "-ldflags",
		"-s -w -buildid=", "-o", out, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch)
	if source != "" {
		for _, f := range []string{"go.mod", "go.sum"} {
			b, err := os.ReadFile(f)
			if err != nil {
				tb.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, f), b, 0o644); err != nil {
				tb.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o644); err != nil {
			tb.Fatal(err)
		}
		cmd.Dir = dir
	}
	if b, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("go build: %v\n%s", err, b)
	}
	builtLayers[[2]string{source, goarch}] = out
	return out
}

// benchService is Lambda's side of the benchmarks: registration, and next and response of the Runtime API.
type benchService struct {
	*httptest.Server
	registered chan time.Time
	event      []byte
	invoked    chan struct{} // an event may be handed out
	answered   chan struct{}
	stop       chan struct{}
}

func newBenchService(tb testing.TB, event []byte) *benchService {
	s := &benchService{
		registered: make(chan time.Time, 1), event: event, invoked: make(chan struct{}, 1),
		answered: make(chan struct{}, 1), stop: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2020-01-01/extension/register", func(w http.ResponseWriter, r *http.Request) {
		s.registered <- time.Now()
		w.Header().Set("Lambda-Extension-Identifier", "0b5ed4b1-2c6c-4bd4-a2d1-6f6bd2b4f4a0")
		io.WriteString(w, `{"functionName":"f","functionVersion":"$LATEST","handler":"h"}`)
	})
	mux.HandleFunc("GET /2020-01-01/extension/event/next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-s.stop:
		case <-r.Context().Done():
		}
	})
	n := 0
	mux.HandleFunc("GET "+nextPath, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-s.invoked:
		case <-s.stop:
			return
		case <-r.Context().Done():
			return
		}
		n++
		h := w.Header()
		h.Set("Lambda-Runtime-Aws-Request-Id", strconv.Itoa(n))
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(time.Minute).UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:f")
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(s.event)))
		w.Write(s.event)
	})
	mux.HandleFunc("POST "+invocationPath+"{id}/{what}", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, `{"status":"OK"}`)
		s.answered <- struct{}{}
	})
	s.Server = httptest.NewServer(mux)
	tb.Cleanup(func() { close(s.stop); s.CloseClientConnections(); s.Close() })
	return s
}

// benchProcess is a started extension, or floor.
type benchProcess struct {
	cmd   *exec.Cmd
	proxy string
	took  time.Duration // from exec to registration
}

func startBench(tb testing.TB, s *benchService, binary string, env ...string) *benchProcess {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close()
	p := &benchProcess{cmd: exec.Command(binary), proxy: "http://127.0.0.1:" + port}
	p.cmd.Env = append([]string{"AWS_LAMBDA_RUNTIME_API=" + s.Listener.Addr().String(),
		"LRAP_LISTENER_PORT=" + port, "AWS_REGION=us-east-1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128",
		"AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret", "LIVE_LAMBDA_LOG_LEVEL=error",
		"GOGC=" + os.Getenv("GOGC"), "GODEBUG=" + os.Getenv("GODEBUG")}, env...)
	p.cmd.Stderr = os.Stderr
	start := time.Now()
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	select {
	case at := <-s.registered:
		p.took = at.Sub(start)
	case <-time.After(30 * time.Second):
		p.kill()
		tb.Fatal("no registration")
	}
	return p
}

// kill ends the process and returns the CPU time it used.
func (p *benchProcess) kill() time.Duration {
	p.cmd.Process.Signal(syscall.SIGKILL)
	p.cmd.Wait()
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// memory is a value in KiB from the process's status: VmRSS or VmHWM.
func (p *benchProcess) memory(tb testing.TB, name string) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		tb.Skip("no /proc on this system: ", err)
	}
	_, rest, _ := strings.Cut(string(b), name+":")
	kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		tb.Fatal(err)
	}
	return kb
}

// untilIdle waits until the process has used no CPU for a while.
func (p *benchProcess) untilIdle(tb testing.TB) {
	ticks := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", p.cmd.Process.Pid))
		if err != nil {
			tb.Skip("no /proc on this system: ", err)
		}
		return strings.Fields(string(b))[0]
	}
	for last := ""; ; {
		now := ticks()
		if now == last {
			return
		}
		last = now
		time.Sleep(100 * time.Millisecond)
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// ratio runs measure and floor in turn and reports the ratio of their medians, and the medians.
func ratio(b *testing.B, rounds int, unit string, measure, floor func() float64) {
	both := inTurn(rounds, measure, floor)
	ours, theirs := both[0], both[1]
	b.ReportMetric(ours/theirs, "ratio")
	b.ReportMetric(ours, unit)
	b.ReportMetric(theirs, "floor-"+unit)
	b.ReportMetric(0, "ns/op") // not of interest
}

// inTurn takes these measures in turn, again and again, and returns the median of each.
func inTurn(rounds int, measures ...func() float64) (medians []float64) {
	values := make([][]float64, len(measures))
	for range rounds {
		for i, measure := range measures {
			values[i] = append(values[i], measure())
		}
	}
	for _, v := range values {
		medians = append(medians, median(v))
	}
	return medians
}

// benchAppSync is the emulator behind TLS, with a certificate of its own among the system's.
func benchAppSync(b *testing.B) (api *eventAPI, env []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	template.Subject.CommonName = "benchmark"
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		b.Fatal(err)
	}
	var bundle []byte
	for _, f := range []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"} {
		if bundle, err = os.ReadFile(f); err == nil {
			break
		}
	}
	file := filepath.Join(b.TempDir(), "bundle.pem")
	bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	if err := os.WriteFile(file, bundle, 0o644); err != nil {
		b.Fatal(err)
	}
	ln, err := tls.Listen(
		"tcp", "127.0.0.1:0",
		&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		b.Fatal(err)
	}
	api = startEventAPI(
		ln, eventAPIOptions{
			credentials: []credentials{{accessKeyID: "AKIDEXAMPLE", secretAccessKey: "secret"}},
			region:      "us-east-1"})
	b.Cleanup(api.close)
	return api, []string{
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST=https://" + ln.Addr().String(), "SSL_CERT_FILE=" + file}
}

// connected waits until one more extension has a link that delivers.
func connected(b *testing.B, api *eventAPI, before int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := api.wait(ctx, func(c *eventAPICounts) bool { return probes(c) > before }); err != nil {
		b.Fatal("no link: ", err)
	}
}

func probes(c *eventAPICounts) (n int) {
	for channel, events := range c.events {
		if strings.HasSuffix(channel, "/probe") {
			n += events
		}
	}
	return n
}

func BenchmarkStart(b *testing.B) {
	floor, layer := buildLayer(b, floorSource, "amd64"), buildLayer(b, "", "amd64")
	s := newBenchService(b, nil)
	_, reachable := benchAppSync(b)
	for name, env := range map[string][]string{
		"unconfigured": nil,
		"reachable":    reachable,
		"unreachable":  {"LIVE_LAMBDA_APPSYNC_HTTP_HOST=https://127.0.0.1:1"},
	} {
		b.Run(name, func(b *testing.B) {
			took := func(binary string, env []string) func() float64 {
				return func() float64 {
					p := startBench(b, s, binary, env...)
					defer p.kill()
					return p.took.Seconds() * 1e3
				}
			}
			ratio(b, 40, "ms", took(layer, env), took(floor, nil))
		})
	}
}

func BenchmarkIdle(b *testing.B) {
	floor, layer := buildLayer(b, floorSource, "amd64"), buildLayer(b, "", "amd64")
	s := newBenchService(b, nil)
	api, reachable := benchAppSync(b)
	run := func(
		value func(p *benchProcess) float64, binary string, linked bool, env ...string) func() float64 {
		return func() float64 {
			before := 0
			api.wait(b.Context(), func(c *eventAPICounts) bool { before = probes(c); return true })
			p := startBench(b, s, binary, env...)
			defer p.kill()
			if linked {
				connected(b, api, before)
			}
			p.untilIdle(b)
			return value(p)
		}
	}
	cpu := func(p *benchProcess) float64 { return p.kill().Seconds() * 1e3 }
	rss := func(p *benchProcess) float64 { return p.memory(b, "VmRSS") / 1024 }
	b.Run("cpu/link", func(b *testing.B) {
		ratio(b, 10, "cpu-ms", run(cpu, layer, true, reachable...), run(cpu, floor, false))
	})
	b.Run("cpu/unconfigured", func(b *testing.B) {
		ratio(b, 10, "cpu-ms", run(cpu, layer, false), run(cpu, floor, false))
	})
	b.Run("rss/link", func(b *testing.B) {
		ratio(b, 5, "MiB", run(rss, layer, true, reachable...), run(rss, floor, false))
	})
	b.Run("rss/unconfigured", func(b *testing.B) {
		ratio(b, 5, "MiB", run(rss, layer, false), run(rss, floor, false))
	})
}

// invokeThrough plays the runtime for one invocation: next, then response with the event.
func invokeThrough(tb testing.TB, client *http.Client, s *benchService, proxy string) {
	s.invoked <- struct{}{}
	resp, err := client.Get(proxy + nextPath)
	if err != nil {
		tb.Fatal(err)
	}
	event, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || len(event) != len(s.event) {
		tb.Fatalf("event of %d bytes: %v", len(event), err)
	}
	resp, err = client.Post(
		proxy+invocationPath+resp.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "application/json",
		bytes.NewReader(event))
	if err != nil {
		tb.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	<-s.answered
}

// benchEvent is a JSON event of about size bytes that does not compress well.
func benchEvent(size int) []byte {
	raw := make([]byte, size/2)
	rand.Read(raw)
	event, _ := json.Marshal(map[string]string{"data": fmt.Sprintf("%x", raw)})
	return event
}

// BenchmarkPassThrough compares an invocation that the deployed code answers with one through the floor, and
// with the least that net/http can do: if nothing is configured, and if the event has no token that a
// developer asked for. Then the extension reads the whole event first.
func BenchmarkPassThrough(b *testing.B) {
	floor, layer := buildLayer(b, floorSource, "amd64"), buildLayer(b, "", "amd64")
	for name, size := range map[string]int{"1KB": 1 << 10, "6MB": 6 << 20} {
		b.Run("unconfigured/"+name, func(b *testing.B) {
			s := newBenchService(b, benchEvent(size-64))
			ours := startBench(b, s, layer)
			benchPassed(b, s, ours, floor)
		})
		b.Run("route/"+name, func(b *testing.B) {
			api, env := benchAppSync(b)
			s := newBenchService(b, benchEvent(size-64))
			ours := startBench(b, s, layer, append(env, "LIVE_LAMBDA_ROUTE=x-live-lambda")...)
			connected(b, api, 0)
			benchPassed(b, s, ours, floor)
		})
	}
}

// benchPassed sends invocations through ours and both floors, and ends ours.
func benchPassed(b *testing.B, s *benchService, ours *benchProcess, floor string) {
	theirs := startBench(b, s, floor)
	least := startBench(b, s, floor, "LEAST=1")
	defer ours.kill()
	defer theirs.kill()
	defer least.kill()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	took := func(p *benchProcess) func() float64 {
		return func() float64 {
			start := time.Now()
			invokeThrough(b, client, s, p.proxy)
			return time.Since(start).Seconds() * 1e3
		}
	}
	rounds := 1_000
	if len(s.event) > 1<<20 {
		rounds = 40
	}
	medians := inTurn(rounds, took(ours), took(theirs), took(least))
	b.ReportMetric(medians[0], "ms")
	b.ReportMetric(medians[0]/medians[1], "ratio")
	b.ReportMetric(medians[0]/medians[2], "of-least")
	b.ReportMetric(ours.memory(b, "VmHWM")/1024, "peak-MiB")
	b.ReportMetric(0, "ns/op") // not of interest
}

// BenchmarkLink compares one invocation through the link, answered by a local end that echoes, with the bare
// round trip of the same bytes over one WebSocket.
func BenchmarkLink(b *testing.B) {
	layer := buildLayer(b, "", "amd64")
	bare := httptest.NewServer(websocket.Handler(func(ws *websocket.Conn) { io.Copy(ws, ws) }))
	defer bare.Close()
	for name, size := range map[string]int{"1KB": 1 << 10, "100KB": 100 << 10, "6MB": 6 << 20} {
		b.Run(name, func(b *testing.B) {
			l := startLinkBench(b, layer, benchEvent(size-64))
			s, p := l.service, l.process
			ws, err := websocket.Dial(strings.Replace(bare.URL, "http", "ws", 1), "", "http://localhost")
			if err != nil {
				b.Fatal(err)
			}
			defer ws.Close()
			rounds := 1_000
			switch {
			case size > 1<<20:
				rounds = 10
			case size > 10<<10:
				rounds = 200
			}
			ratio(b, rounds, "ms", func() float64 {
				start := time.Now()
				s.invoked <- struct{}{}
				<-s.answered
				return time.Since(start).Seconds() * 1e3
			}, func() float64 {
				start := time.Now()
				ws.Write(s.event)
				if _, err := io.ReadFull(ws, make([]byte, len(s.event))); err != nil {
					b.Fatal(err)
				}
				return time.Since(start).Seconds() * 1e3
			})
			b.ReportMetric(p.memory(b, "VmHWM")/1024, "peak-MiB")
			b.ReportMetric((p.memory(b, "VmHWM")-l.idle)*1024/float64(len(s.event)), "growth/payload")
			p.untilIdle(b) // what is left is given back right after the answer
			b.ReportMetric(p.memory(b, "VmRSS")/1024, "after-MiB")
		})
	}
}

// echo is a local end without processes: it answers each request with its event.
type echo struct {
	b    *testing.B
	s    *session
	wg   sync.WaitGroup
	open map[string]*joiner // requests whose parts are coming, by ID; the session's reader alone uses it
}

// startEcho connects an echo to the AppSync of env.
func startEcho(b *testing.B, env []string) (stop func()) {
	values := map[string]string{"AWS_REGION": "us-east-1"}
	for _, s := range env {
		name, value, _ := strings.Cut(s, "=")
		values[name] = value
	}
	cfg, problems := readConfig(func(name string) string { return values[name] })
	if cfg.api == nil {
		b.Fatal(problems)
	}
	keys := func(context.Context) (credentials, error) {
		return credentials{accessKeyID: "AKIDEXAMPLE", secretAccessKey: "secret"}, nil
	}
	api := newAppSync(*cfg.api, cfg.roots, new(http.Transport), keys, newLogger(cfg, os.Stderr))
	ctx, cancel := context.WithCancel(b.Context())
	s, err := api.connect(ctx)
	if err != nil {
		b.Fatal(err)
	}
	e := &echo{b: b, s: s, open: map[string]*joiner{}}
	receive := func(event string) { e.receive(ctx, event) }
	if err := s.subscribe(ctx, ackTimeout, api.requests(api.stage), receive); err != nil {
		b.Fatal(err)
	}
	return func() {
		cancel()
		s.conn.close()
		e.wg.Wait()
	}
}

// receive takes a request, or a part of one.
func (e *echo) receive(ctx context.Context, event string) {
	p, err := parsePart(event)
	if err != nil || p == nil || p.Type == "done" {
		return
	}
	if p.Type == "" {
		e.wg.Go(func() { e.answer(ctx, []byte(event)) })
		return
	}
	j := e.open[p.RequestID]
	if j == nil {
		j = newJoiner(8 << 20)
		e.open[p.RequestID] = j
	}
	if err := j.add(p); err != nil {
		e.b.Error(err)
	}
	if !j.complete() {
		return
	}
	delete(e.open, p.RequestID)
	message, err := j.message(8 << 20)
	if err != nil {
		e.b.Error(err)
	}
	e.wg.Go(func() { e.answer(ctx, message) })
}

// answer accepts a request, and answers it.
func (e *echo) answer(ctx context.Context, request []byte) {
	var req struct {
		RequestID string          `json:"request_id"`
		Event     json.RawMessage `json:"event_payload"`
	}
	if err := json.Unmarshal(request, &req); err != nil {
		e.b.Error(err)
		return
	}
	channel := "/live-lambda/response/" + req.RequestID
	accepted := part{Type: "accepted", RequestID: req.RequestID}.event()
	e.s.publish(ctx, channel, slices.Values([][]byte{accepted}), awaited)
	body, encoding := compress(req.Event)
	response := part{Type: "response", RequestID: req.RequestID, Encoding: encoding}
	e.s.publish(ctx, channel, response.split(body), awaited)
}

// BenchmarkInvocation counts what one invocation of 1 KB allocates in the extension, between the Runtime
// API's answer to next and the answer that it gets. Runtime, Runtime API and AppSync are a few lines here;
// what these allocate counts too.
func BenchmarkInvocation(b *testing.B) {
	event := benchEvent(1 << 10)
	b.Run("pass-through", func(b *testing.B) { benchPassThrough(b, event) })
	b.Run("link", func(b *testing.B) { benchLink(b, event) })
}

// countAllocations reports what one call of invoke allocates.
func countAllocations(b *testing.B, invoke func()) {
	invoke()
	const runs = 1_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ReportMetric(testing.AllocsPerRun(runs, invoke), "allocs/invocation")
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/runs, "B/invocation")
	b.ReportMetric(0, "ns/op") // not of interest
}

// nextAnswer is the Runtime API's answer to next.
func nextAnswer(event []byte) *http.Response {
	deadline := strconv.FormatInt(time.Now().Add(time.Minute).UnixMilli(), 10)
	return &http.Response{
		StatusCode:    http.StatusOK,
		ContentLength: int64(len(event)),
		Body:          io.NopCloser(bytes.NewReader(event)),
		Header: http.Header{
			"Content-Type":                  {"application/json"},
			"Lambda-Runtime-Aws-Request-Id": {"id"},
			"Lambda-Runtime-Deadline-Ms":    {deadline},
		},
	}
}

// benchProxy is a proxy whose Runtime API hands out this event. answers counts the responses that it gets.
func benchProxy(ctx context.Context, event []byte) (p *proxy, answers *int) {
	answers = new(int)
	runtimeAPI := func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodGet {
			return nextAnswer(event), nil
		}
		if strings.HasSuffix(r.URL.Path, "/response") {
			*answers++
		}
		_, err := io.Copy(io.Discard, r.Body)
		return httpAnswer(http.StatusAccepted, ""), err
	}
	o := config{
		runtimeAPI: "127.0.0.1:9001",
		function:   map[string]any{"function_name": "f"},
		api:        &endpoint{namespace: "live-lambda"},
		until:      time.Now().AddDate(1, 0, 0),
	}
	return newProxy(ctx, o, transportFunc(runtimeAPI), nil, slog.New(slog.DiscardHandler)), answers
}

// benchPassThrough counts an invocation that the deployed code answers.
func benchPassThrough(b *testing.B, event []byte) {
	p, _ := benchProxy(b.Context(), event)
	handler := p.handler()
	w := &discardResponse{header: http.Header{}}
	get := httptest.NewRequest("GET", nextPath, nil)
	post := httptest.NewRequest("POST", invocationPath+"id/response", bytes.NewReader(event))
	countAllocations(b, func() {
		handler.ServeHTTP(w, get)
		clear(w.header)
		post.Body = io.NopCloser(bytes.NewReader(event))
		handler.ServeHTTP(w, post)
		clear(w.header)
	})
}

// benchLink counts an invocation that a local end answers.
func benchLink(b *testing.B, event []byte) {
	ctx, cancel := context.WithCancelCause(b.Context())
	defer cancel(nil)
	p, answers := benchProxy(ctx, event)
	a := newTestAPI(nil)
	s := newSession(a)
	s.name = "0a"
	s.conn = &wsConn{ctx: ctx, fail: cancel, out: make(chan outgoing)}
	s.ctx = ctx
	s.drop = cancel
	s.slots = make(chan struct{}, 1<<20)
	p.tunnel = newTunnel(a, "function", false)
	l := &link{session: s, t: p.tunnel}
	p.tunnel.set(l, nil)
	l.subs["s"] = func(event string) {
		part, err := parsePart(event)
		l.receiveEvent(event, part, err)
	}
	l.conn.heard.Store(time.Now().UnixNano())
	go answerOnLink(ctx, b, l, base64.RawURLEncoding.EncodeToString(event))
	invoked := 0
	countAllocations(b, func() {
		invoked++
		inv := newInvocation(nextAnswer(event))
		inv.key = strconv.Itoa(invoked)
		if !p.serve(inv) || *answers != invoked {
			b.Fatalf("%d answers to %d invocations", *answers, invoked)
		}
	})
}

// answerOnLink is AppSync and a local end in one: it takes each publish, and answers each request with data.
func answerOnLink(ctx context.Context, b *testing.B, l *link, data string) {
	say := func(format string, args ...any) {
		l.conn.heard.Store(time.Now().UnixNano())
		message := strings.NewReader(fmt.Sprintf(format, args...))
		if err := l.receive(json.NewDecoder(message)); err != nil {
			b.Error(err)
		}
	}
	requests := 0
	for {
		var next outgoing
		select {
		case next = <-l.conn.out:
		case <-ctx.Done():
			return
		}
		close(next.written)
		_, rest, _ := strings.Cut(string(next.message), `"id":"`)
		id, _, publish := strings.Cut(rest, `"`)
		if publish {
			say(`{"type":"publish_success","id":"%s"}`, id)
		}
		if !bytes.Contains(next.message, []byte("event_payload")) {
			continue
		}
		requests++
		say(`{"type":"data","id":"s","event":"{\"live_lambda\":1,\"type\":\"accepted\",`+
			`\"request_id\":\"0a/%d\",\"last\":true}"}`, requests)
		say(`{"type":"data","id":"s","event":"{\"live_lambda\":1,\"type\":\"response\",`+
			`\"request_id\":\"0a/%d\",\"last\":true,\"data\":\"%s\"}"}`, requests, data)
	}
}

// benchRecords is a list of orders, as JSON of about size bytes.
func benchRecords(size int) string {
	var records strings.Builder
	for n := 0; records.Len() < size; n++ {
		id := make([]byte, 16)
		rand.Read(id)
		fmt.Fprintf(&records,
			`,{"orderId":"%x","customer":{"id":%d,"name":"Customer %d","vip":%t},"items":[{"sku":"A-%d",`+
				`"quantity":%d,"price":%d.95}],"placedAt":"2026-01-%02dT%02d:30:00Z"}`,
			id, 100_000+n, n%977, n%7 == 0, n%4_999, 1+n%5, 10+n%90, 1+n%28, n%24)
	}
	return `{"orders":[` + records.String()[1:] + `]}`
}

// BenchmarkDistance compares invocations of 6 MB with small ones over the whole path, if AppSync takes 25 ms
// for each message in each direction: how many round trips of a message and its answer they take more, and
// how often the local end or the extension has published in a second.
func BenchmarkDistance(b *testing.B) {
	const delay = 25 * time.Millisecond
	incompressible := make([]byte, 4600<<10)
	rand.Read(incompressible)
	for name, event := range map[string]string{
		"6MB-records":        benchRecords(6_200_000),
		"6MB-incompressible": `{"data":"` + base64.StdEncoding.EncodeToString(incompressible) + `"}`,
	} {
		b.Run(name, func(b *testing.B) {
			p := startPathOver(b, eventAPIOptions{delay: delay}, lambdaOptions{timeout: time.Minute}, nil)
			p.startLocal(b, "--", filepath.Join(p.dir, "live-lambda"), "sample", sampleEcho)
			took := func(event string) float64 {
				start := time.Now()
				if got := p.invoke(b, event); string(got.payload) != event {
					b.Fatalf("%d bytes came back of %d", len(got.payload), len(event))
				}
				return time.Since(start).Seconds() * 1e3
			}
			took("{}") // starts the handler
			var small, large []float64
			for range 7 {
				small = append(small, took("{}"))
				large = append(large, took(event))
			}
			roundTrip := 4 * delay.Seconds() * 1e3 // there and back: four messages
			b.ReportMetric(median(small), "small-ms")
			b.ReportMetric(median(large), "large-ms")
			b.ReportMetric(median(small)/roundTrip, "round-trips")
			b.ReportMetric((median(large)-median(small))/roundTrip, "round-trips-more")
			p.api.wait(b.Context(), func(c *eventAPICounts) bool {
				b.ReportMetric(float64(c.busiest), "publishes/s")
				return true
			})
			b.ReportMetric(0, "ns/op") // not of interest
		})
	}
}

// BenchmarkStream sends 200 MB through the whole path as one streamed answer and reports how much more memory
// that takes at both ends at most.
func BenchmarkStream(b *testing.B) {
	const size = 200 << 20
	p := startPath(b, lambdaOptions{timeout: 10 * time.Minute}, nil)
	local := &benchProcess{cmd: p.startLocal(b, "--", "sh", "-c", `
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while id=$(curl -sS -o /dev/null -D - "$api/next" | tr -d '\r' |
	sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p'); do
	head -c `+strconv.Itoa(size)+
		` /dev/zero | curl -sS -o /dev/null -X POST -H 'Transfer-Encoding: chunked' \
			-H 'Lambda-Runtime-Function-Response-Mode: streaming' -T - "$api/$id/response"
done`)}
	p.env.mu.Lock()
	extension := &benchProcess{cmd: p.env.sb.processes[0].cmd}
	p.env.mu.Unlock()
	before := []float64{extension.memory(b, "VmHWM"), local.memory(b, "VmHWM")}
	start, taken := time.Now(), int64(0)
	result, err :=
		p.env.invoke(b.Context(),
			invokeRequest{payload: []byte("{}"), onResponse: func(http.Header) io.Writer {
				return writerFunc(func(piece []byte) (int, error) {
					taken += int64(len(piece))
					return len(piece), nil
				})
			}})
	if err != nil || result.errorType != "" || taken != size {
		b.Fatalf("%d bytes, %+v, %v", taken, result, err)
	}
	b.ReportMetric((extension.memory(b, "VmHWM")-before[0])/1024, "extension-MiB-more")
	b.ReportMetric((local.memory(b, "VmHWM")-before[1])/1024, "local-MiB-more")
	b.ReportMetric(time.Since(start).Seconds(), "s")
	b.ReportMetric(0, "ns/op") // not of interest
}

// writerFunc is a function that is an io.Writer.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// discardResponse is an http.ResponseWriter that keeps nothing.
type discardResponse struct{ header http.Header }

func (w *discardResponse) Header() http.Header         { return w.header }
func (w *discardResponse) Write(b []byte) (int, error) { return len(b), nil }
func (w *discardResponse) WriteHeader(int)             {}

func BenchmarkSize(b *testing.B) {
	for _, goarch := range []string{"amd64", "arm64"} {
		b.Run(goarch, func(b *testing.B) {
			size := func(source string) float64 {
				info, err := os.Stat(buildLayer(b, source, goarch))
				if err != nil {
					b.Fatal(err)
				}
				return float64(info.Size())
			}
			ratio(b, 1, "bytes", func() float64 {
				return size("")
			}, func() float64 { return size(linkSource) })
		})
	}
}
