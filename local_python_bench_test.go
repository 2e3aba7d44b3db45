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

// pythonBench is a directory with a handler, and the programs of which the times are taken.
type pythonBench struct {
	dir    string
	client string
	floor  string
	empty  string
}

func newPythonBench(b *testing.B) *pythonBench {
	b.Helper()
	dir := directoryOf(b, map[string]string{"app.py": pythonEcho, "floor.py": pythonFloor, "empty.py": ""})
	return &pythonBench{
		dir:    dir,
		client: pythonClientFile(b),
		floor:  filepath.Join(dir, "floor.py"),
		empty:  filepath.Join(dir, "empty.py"),
	}
}

// command runs one of the programs. Python may keep what it compiles.
func (p *pythonBench) command(b *testing.B, file, api string) *exec.Cmd {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), needPython(b).path, file)
	cmd.Dir = p.dir
	cmd.Env = slices.DeleteFunc(pythonEnv(p.dir, api, ""), func(s string) bool {
		return s == "PYTHONDONTWRITEBYTECODE=1"
	})
	return cmd
}

// A client's first start has Python compile it. The further ones have what was compiled.
func BenchmarkPythonStart(b *testing.B) {
	const pairs = 20
	p := newPythonBench(b)
	asked := make(chan time.Time, 1)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- time.Now()
		panic(http.ErrAbortHandler) // ends the process
	}))
	defer server.Close()
	start := func(file string) (begun time.Time) {
		cmd := p.command(b, file, server.Listener.Addr().String())
		begun = time.Now()
		err := cmd.Run()
		if err != nil {
			b.Fatalf("%s: %v", file, err)
		}
		return begun
	}
	var empties, firsts, furthers []time.Duration
	for b.Loop() {
		for range pairs {
			begun := start(p.empty)
			empties = append(empties, time.Since(begun))
			err := os.RemoveAll(filepath.Join(filepath.Dir(p.client), "__pycache__"))
			if err != nil {
				b.Fatal(err)
			}
			begun = start(p.client)
			firsts = append(firsts, (<-asked).Sub(begun))
			begun = start(p.client)
			furthers = append(furthers, (<-asked).Sub(begun))
		}
	}
	empty := medianDuration(empties)
	b.ReportMetric(float64(empty.Microseconds())/1000, "ms-empty")
	b.ReportMetric(float64(medianDuration(firsts))/float64(empty), "x-empty-first")
	b.ReportMetric(float64(medianDuration(furthers))/float64(empty), "x-empty-further")
}

func BenchmarkPythonInvocation(b *testing.B) {
	const pairs = 6
	p := newPythonBench(b)
	var floors, clients []time.Duration
	for b.Loop() {
		for range pairs {
			floors = append(floors, p.invocationTime(b, p.floor))
			clients = append(clients, p.invocationTime(b, p.client))
		}
	}
	floor := medianDuration(floors)
	client := medianDuration(clients)
	b.ReportMetric(float64(floor.Microseconds()), "µs-floor")
	b.ReportMetric(float64(client.Microseconds()), "µs-client")
	b.ReportMetric(float64(client)/float64(floor), "x-floor")
}

// invocationTime is how long a warm process takes for one event of 1 KB, from its answer to the one before.
func (p *pythonBench) invocationTime(b *testing.B, file string) time.Duration {
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
	cmd := p.command(b, file, server.Listener.Addr().String())
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
