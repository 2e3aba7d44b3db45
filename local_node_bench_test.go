//go:build !layer

package main

// local_node_bench_test.go measures what the Node.js client costs.
//
//	go test -run - -bench Node .
//	RIC=DIRECTORY go test -run - -bench NodeInvocation .   beside AWS's own client

import (
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// How long it takes until the client asks for its first event, and how many times as long as Node.js takes
// until a script runs that does next to nothing.
func BenchmarkNodeStart(b *testing.B) {
	node := needs(b, "node")
	root := directoryOf(b, map[string]string{
		"bare.mjs":  "import {writeSync} from 'node:fs'; writeSync(1, '.')",
		"index.mjs": answersESM("here"),
	})
	client := []string{clientFile(b, nodeLanguage)}
	n := newNodeRuntime(b)
	var bare, own []time.Duration
	for b.Loop() {
		for range 20 { // the first of all reads Node.js from the disk
			bare = append(bare, timeToRun(b, node, filepath.Join(root, "bare.mjs")))
			begun := time.Now()
			n.run(root, "index.handler", client)
			<-n.asked
			own = append(own, time.Since(begun))
			n.stop()
		}
	}
	reportTimes(b, own, bare, "ms/start", "/bare-node")
}

// timeToRun is the time until a script prints something. Its environment is what the client has, because
// variables such as NODE_EXTRA_CA_CERTS cost time.
func timeToRun(b *testing.B, node, script string) time.Duration {
	begun := time.Now()
	command := exec.Command(node, script)
	root := filepath.Dir(script)
	command.Env = append(functionEnv(root, "", ""), "HOME="+root)
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	_, err = io.ReadFull(out, make([]byte, 1))
	took := time.Since(begun)
	if err == nil {
		err = command.Wait()
	}
	if err != nil {
		b.Fatal(err)
	}
	return took
}

// How long a warm invocation takes, and how many times as long as one with AWS's own client.
func BenchmarkNodeInvocation(b *testing.B) {
	for _, size := range []struct {
		name  string
		event string
	}{
		{name: "small", event: `{"a":1}`},
		{name: "100KB", event: `"` + string(slices.Repeat([]byte("x"), 100_000)) + `"`},
	} {
		b.Run(size.name, func(b *testing.B) {
			root := directoryOf(
				b, map[string]string{"index.js": "exports.handler = async (event) => event;\n"})
			own := newNodeRuntime(b)
			own.run(root, "index.handler", []string{clientFile(b, nodeLanguage)})
			runtimes := []*nodeRuntime{own}
			if awsClient() != "" {
				aws := newNodeRuntime(b)
				aws.run(root, "index.handler", awsArguments("index.handler"))
				runtimes = append(runtimes, aws)
			}
			times := make([][]time.Duration, len(runtimes))
			for b.Loop() {
				for range 20 {
					for i, n := range runtimes {
						times[i] = append(times[i], n.measure(50, size.event))
					}
				}
			}
			for i := range times {
				times[i] = times[i][len(times[i])/4:] // the compiler has done its work by then
			}
			var aws []time.Duration
			if len(times) > 1 {
				aws = times[1]
			}
			reportTimes(b, times[0], aws, "ms/50-invocations", "/aws-lambda-ric")
		})
	}
}

// measure makes invocations, one after the other.
func (n *nodeRuntime) measure(count int, event string) time.Duration {
	begun := time.Now()
	for range count {
		_, ok := n.invoke(nodeEvent{id: "1", event: event})
		if !ok {
			n.t.Fatal("no answer")
		}
	}
	return time.Since(begun)
}

// reportTimes reports the quarter point of times, and its ratio to that of others.
func reportTimes(b *testing.B, times, others []time.Duration, unit, ratio string) {
	slices.Sort(times)
	slices.Sort(others)
	quarter := times[len(times)/4]
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(quarter.Microseconds())/1000, unit)
	if len(others) > 0 {
		b.ReportMetric(float64(quarter)/float64(others[len(others)/4]), ratio)
	}
}
