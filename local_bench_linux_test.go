//go:build !layer

package main

// local_bench_linux_test.go measures what the developer's end costs: while nothing happens, and while much
// comes at once.
//
//	go test -run - -bench 'IdleLocal|ManyAtOnce' -benchtime 1x .

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	settleFor = 3 * time.Second // after the start, until it is idle
	idleFor   = 6 * time.Second // is measured
)

// BenchmarkIdleLocal reports which part of a core `local` uses while nothing happens. The project has 20,000
// files, half of them in node_modules.
func BenchmarkIdleLocal(b *testing.B) {
	for _, tt := range []struct {
		name     string
		flags    []string
		terminal bool
		page     bool
	}{
		{name: "plain"},
		{name: "terminal", terminal: true},
		{name: "inspector-open", flags: []string{"--ui"}, page: true},
		{name: "watch", flags: []string{"--watch"}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			p := startPath(b, lambdaOptions{}, nil)
			if len(tt.flags) > 0 {
				b.Chdir(largeProject(b))
			}
			pid := p.startIdle(b, tt.terminal, tt.flags...)
			if tt.page {
				browser := startBrowser(b)
				page := browser.open(b, 1440, 900, p.inspectorLink(b))
				page.sees("body", "")
			}
			time.Sleep(settleFor)
			for b.Loop() {
				begun := time.Now()
				before := processorTime(b, pid)
				time.Sleep(idleFor)
				used := processorTime(b, pid) - before
				b.ReportMetric(100*used.Seconds()/time.Since(begun).Seconds(), "%core")
				b.ReportMetric(0, "ns/op") // not of interest
			}
		})
	}
}

// largeProject makes a directory of 20,000 files in 1,000 directories, half of them in node_modules.
func largeProject(t testing.TB) (root string) {
	t.Helper()
	root = t.TempDir()
	for _, top := range []string{"src", "node_modules"} {
		for i := range 500 {
			directory := filepath.Join(
				root, top, fmt.Sprint("a", i%5), fmt.Sprint("b", i%50), fmt.Sprint("c", i))
			files := map[string]string{}
			for j := range 20 {
				files[fmt.Sprintf("file%d.js", j)] = "export const n = " + strconv.Itoa(j) + ";\n"
			}
			write(t, directory, files)
		}
	}
	return root
}

// startIdle starts a local end, on a terminal or not, and returns its process ID when it has subscribed.
func (p *wholePath) startIdle(b *testing.B, terminal bool, flags ...string) (pid int) {
	b.Helper()
	command := []string{"--", filepath.Join(p.dir, "live-lambda"), "sample", sampleEcho}
	if !terminal {
		return p.startLocal(b, append(flags, command...)...).Process.Pid
	}
	person, program := openTerminal(b)
	arguments := slices.Concat([]string{"local"}, flags, command)
	cmd := exec.Command(filepath.Join(p.dir, "live-lambda"), arguments...)
	cmd.Env = append(p.shared, "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err := cmd.Start()
	program.Close()
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		io.Copy(p.output, person) // until the program has ended
		cmd.Wait()
	}()
	b.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		<-ended
	})
	_, err = p.api.subscribers(b.Context(), "/live-lambda/requests", 1)
	if err != nil {
		b.Fatal(err)
	}
	return cmd.Process.Pid
}

// inspectorLink waits for the inspector's address in what has been printed.
func (p *wholePath) inspectorLink(b *testing.B) string {
	b.Helper()
	p.output.await(b.Context(), b, "http://127.0.0.1:", 1)
	_, rest, _ := strings.Cut(p.output.String(), "http://127.0.0.1:")
	link, _, _ := strings.Cut(rest, "\n")
	return "http://127.0.0.1:" + strings.Fields(link)[0]
}

// BenchmarkManyAtOnce gives one local end 10 and 200 invocations at once, of a Node.js handler that waits
// 500 ms, and as many one after the other, of the same handler, which does not wait then. AppSync takes 25 ms
// for each message in each direction. It reports how many times as long as the handlers wait all of it takes,
// and the processor time of `local` for one invocation: at once, and as a ratio to one after the other.
func BenchmarkManyAtOnce(b *testing.B) {
	needs(b, "node")
	for _, n := range []int{10, 200} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			p := startPathOver(b, eventAPIOptions{delay: 25 * time.Millisecond}, lambdaOptions{}, nil)
			c := p.newCrowd(b)
			b.Chdir(directoryOf(b, map[string]string{"index.mjs": crowdHandler}))
			local := &benchProcess{cmd: p.startLocal(b, "index.handler")}
			c.invoke(1, 0) // finds out that the handler starts
			for b.Loop() {
				alone := processorTime(b, local.cmd.Process.Pid)
				for range n {
					c.invoke(1, 0)
				}
				alone = processorTime(b, local.cmd.Process.Pid) - alone
				files := watchFiles(local.cmd.Process.Pid)
				used := processorTime(b, local.cmd.Process.Pid)
				begun := time.Now()
				c.invoke(n, 500*time.Millisecond)
				took := time.Since(begun)
				used = processorTime(b, local.cmd.Process.Pid) - used
				waits := time.Duration((n+9)/10) * 500 * time.Millisecond
				b.ReportMetric(took.Seconds(), "s")
				b.ReportMetric(float64(took)/float64(waits), "/waits")
				b.ReportMetric(milliseconds(used)/float64(n), "cpu-ms/invocation")
				b.ReportMetric(float64(used)/float64(alone), "cpu/one-by-one")
				b.ReportMetric(float64(c.processes()), "processes")
				b.ReportMetric(float64(files()), "files")
				b.ReportMetric(local.memory(b, "VmHWM")/1024, "MiB")
				b.ReportMetric(0, "ns/op") // not of interest
			}
		})
	}
}

// watchFiles counts how many files a process has open, until it is asked how many there were at most.
func watchFiles(pid int) (most func() int) {
	done := make(chan struct{})
	counted := make(chan int)
	go func() {
		n := 0
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			n = max(n, len(open))
			select {
			case <-ticker.C:
			case <-done:
				counted <- n
				return
			}
		}
	}()
	return func() int {
		close(done)
		return <-counted
	}
}
