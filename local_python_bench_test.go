//go:build !layer

package main

// What the Python client costs, as ratios within one run:
// go test -run '^$' -bench Python -benchtime 1x
//
// A start is compared with that of an empty file, an invocation with a loop over Python's http.client that
// does nothing else. Each figure pairs one run with the other, again and again, and reports the ratio of the
// medians; absolute values are of this machine.

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// pythonFloor is the least that a client of the Runtime API does, with what Python brings along.
const pythonFloor = `import http.client, json, os
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
	connection.request("GET", "/2018-06-01/runtime/invocation/next")
	try:
		response = connection.getresponse()
	except ConnectionError:
		os._exit(0)
	event = json.loads(response.read())
	request_id = response.headers["Lambda-Runtime-Aws-Request-Id"]
	body = json.dumps(event).encode()
	connection.request("POST", f"/2018-06-01/runtime/invocation/{request_id}/response", body)
	connection.getresponse().read()
`

// pythonBench is a directory with a handler, the client, a file that imports it, the floor and an empty file.
func pythonBench(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	client, err := os.ReadFile("local_python.py")
	if err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]string{
		"app.py":                 pythonEcho,
		"client/local_python.py": string(client),
		"client/start.py":        "import local_python\nlocal_python.main()\n",
		"floor.py":               pythonFloor,
		"empty.py":               "",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// benchCommand runs a file of the directory. Python may keep what it compiles.
func benchCommand(b *testing.B, dir, file, api string) *exec.Cmd {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), needPython(b).path, filepath.Join(dir, file))
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(pythonEnv(dir, api, ""), func(s string) bool {
		return s == "PYTHONDONTWRITEBYTECODE=1"
	})
	return cmd
}

func BenchmarkPythonStart(b *testing.B) {
	const pairs = 40
	dir := pythonBench(b)
	first := make(chan time.Time, 1)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		first <- time.Now()
		panic(http.ErrAbortHandler) // ends the process
	}))
	defer server.Close()
	times := map[string][]time.Duration{}
	for b.Loop() {
		for range pairs {
			for _, file := range []string{"empty.py", "client/local_python.py", "client/start.py"} {
				cmd := benchCommand(b, dir, file, server.Listener.Addr().String())
				begun := time.Now()
				if err := cmd.Run(); err != nil {
					b.Fatalf("%s: %v", file, err)
				}
				ended := time.Now()
				if file != "empty.py" {
					ended = <-first
				}
				times[file] = append(times[file], ended.Sub(begun))
			}
		}
	}
	empty := medianDuration(times["empty.py"])
	b.ReportMetric(float64(empty.Microseconds())/1000, "ms-empty")
	b.ReportMetric(
		float64(medianDuration(times["client/local_python.py"]))/float64(empty), "x-empty-as-a-script")
	b.ReportMetric(float64(medianDuration(times["client/start.py"]))/float64(empty), "x-empty-imported")
}

func BenchmarkPythonInvocation(b *testing.B) {
	const pairs = 10
	dir := pythonBench(b)
	times := map[string][]time.Duration{}
	for b.Loop() {
		for range pairs {
			for _, file := range []string{"floor.py", "client/start.py"} {
				times[file] = append(times[file], invocationTime(b, dir, file))
			}
		}
	}
	floor := medianDuration(times["floor.py"])
	client := medianDuration(times["client/start.py"])
	b.ReportMetric(float64(floor.Microseconds()), "µs-floor")
	b.ReportMetric(float64(client.Microseconds()), "µs-client")
	b.ReportMetric(float64(client)/float64(floor), "x-floor")
}

// invocationTime is how long a warm process takes for one event of 1 KB, from its answer to the one before.
func invocationTime(b *testing.B, dir, file string) time.Duration {
	b.Helper()
	const warm, events = 100, 2000
	event := []byte(`{"items":["` + string(bytes.Repeat([]byte(`0123456789","`), 78)) + `"]}`)
	var begun, ended time.Time
	handed := 0 // the process asks for one at a time
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			io.Copy(io.Discard, r.Body)
			rw.WriteHeader(http.StatusAccepted)
			return
		}
		switch handed {
		case warm:
			begun = time.Now()
		case warm + events:
			ended = time.Now()
			panic(http.ErrAbortHandler) // ends the process
		}
		handed++
		rw.Header().Set("Lambda-Runtime-Aws-Request-Id", strconv.Itoa(handed))
		rw.Header().Set("Lambda-Runtime-Deadline-Ms", "4102444800000")
		rw.Header().Set("Content-Type", "application/json")
		rw.Write(event)
	}))
	defer server.Close()
	cmd := benchCommand(b, dir, file, server.Listener.Addr().String())
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s: %v", file, err)
	}
	server.Close()
	return ended.Sub(begun) / events
}

func medianDuration(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
