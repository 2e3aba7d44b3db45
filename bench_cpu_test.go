//go:build !layer

package main

// What an invocation that goes to a developer costs the function: the processor time of the extension alone.
//
// A function with 128 MB has 7 % of a core, so its caller waits 14 times as long as the figures here say.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// processorTime is what a process has used so far: all of its threads that live, and the Go runtime ends
// hardly any.
func processorTime(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if len(files) == 0 {
		tb.Skip("no /proc with schedstat on this system, or the process has ended")
	}
	total := 0
	for _, file := range files {
		text, _ := os.ReadFile(file) // the thread may have ended
		used, _, _ := strings.Cut(string(text), " ")
		n, _ := strconv.Atoi(used)
		total += n
	}
	return time.Duration(total)
}

// cpu is the processor time that the process has used so far, in milliseconds.
func (p *benchProcess) cpu(tb testing.TB) float64 {
	return processorTime(tb, p.cmd.Process.Pid).Seconds() * 1e3
}

// linkBench is an extension whose invocations a local end answers with the event itself.
type linkBench struct {
	b       *testing.B
	service *benchService
	process *benchProcess
	idle    float64 // resident memory in KiB, before the first invocation
}

// startLinkBench starts the extension, an AppSync and a local end for it. They end with the benchmark.
func startLinkBench(b *testing.B, binary string, event []byte) *linkBench {
	api, env := benchAppSync(b)
	s := newBenchService(b, event)
	p := startBench(b, s, binary, env...)
	b.Cleanup(func() { p.kill() })
	connected(b, api, 0)
	idle := p.memory(b, "VmRSS")
	b.Cleanup(startEcho(b, env))
	client := &http.Client{Transport: &http.Transport{}}
	held := make(chan struct{})
	go func() { // the runtime, which is held all the time
		defer close(held)
		if resp, err := client.Get(p.proxy + nextPath); err == nil {
			resp.Body.Close()
		}
	}()
	b.Cleanup(func() {
		p.kill() // which ends its call
		client.CloseIdleConnections()
		<-held
	})
	return &linkBench{b: b, service: s, process: p, idle: idle}
}

// invoke runs an invocation after pause, and returns the processor time that the extension has taken for it
// by then, in milliseconds. What it does after the answer counts for the next one.
func (l *linkBench) invoke(pause time.Duration) float64 {
	before := l.process.cpu(l.b)
	time.Sleep(pause)
	l.service.invoked <- struct{}{}
	<-l.service.answered
	return l.process.cpu(l.b) - before
}

// mean is the mean of what n calls of f return.
func mean(n int, f func() float64) float64 {
	sum := 0.0
	for range n {
		sum += f()
	}
	return sum / float64(n)
}

// validTime is how long encoding/json takes to look whether event is valid, in milliseconds.
func validTime(event []byte) float64 {
	rounds := 1 + (4<<20)/len(event)
	start := time.Now()
	for range rounds {
		json.Valid(event)
	}
	return time.Since(start).Seconds() * 1e3 / float64(rounds)
}

// BenchmarkLinkCPU measures the processor time of an invocation that a local end of version 1 answers with
// the event itself, and reports it as a multiple of what json.Valid takes for the same bytes. With
// BENCH_BEFORE, the path of another build of the layer, that one takes turns with it.
func BenchmarkLinkCPU(b *testing.B) {
	// Two publishes each: faster ones would go over HTTPS.
	const pause = 2 * time.Second / publishesPerSecond
	layer := buildLayer(b, "", "amd64")
	for _, bench := range []struct {
		name  string
		event []byte
		runs  int // in each of the rounds
	}{
		{name: "1KB", event: benchEvent(1<<10 - 64), runs: 6},
		{name: "100KB", event: benchEvent(100<<10 - 64), runs: 6},
		{name: "100KB-records", event: []byte(benchRecords(100 << 10)), runs: 6},
		{name: "6MB", event: benchEvent(6<<20 - 64), runs: 2},
		{name: "6MB-records", event: []byte(benchRecords(6_200_000)), runs: 2},
	} {
		b.Run(bench.name, func(b *testing.B) {
			builds := []*linkBench{startLinkBench(b, layer, bench.event)}
			if before := os.Getenv("BENCH_BEFORE"); before != "" {
				builds = append(builds, startLinkBench(b, before, bench.event))
			}
			cpu := make([][]float64, len(builds))
			var valid []float64
			for round := range 6 {
				for i, build := range builds {
					took := mean(bench.runs, func() float64 { return build.invoke(pause) })
					if round > 0 { // the first one warms up
						cpu[i] = append(cpu[i], took)
					}
				}
				valid = append(valid, validTime(bench.event))
			}
			for i, prefix := range []string{"", "before-"}[:len(builds)] {
				b.ReportMetric(median(cpu[i]), prefix+"cpu-ms")
				b.ReportMetric(slices.Min(cpu[i]), prefix+"min-cpu-ms")
				b.ReportMetric(slices.Max(cpu[i]), prefix+"max-cpu-ms")
			}
			b.ReportMetric(median(cpu[0])/median(valid), "json-valids")
			if len(builds) > 1 {
				b.ReportMetric(median(cpu[0])/median(cpu[1]), "of-before")
			}
			b.ReportMetric(0, "ns/op") // not of interest
		})
	}
}
