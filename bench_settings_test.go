//go:build !layer

package main

// What the settings cost that decide who sees an event and who can read it, as ratios within one run:
// go test -run '^$' -bench 'Route|Mirror|Seal' -benchtime 1x

import (
	"bytes"
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// routeEvents are events of about 100 kB without a token.
func routeEvents() map[string][]byte {
	headers := map[string]string{}
	for i := range 20 {
		headers["x-header-"+strings.Repeat("a", i)] = strings.Repeat("a text, as people write it. ", 3)
	}
	order := map[string]any{"id": 12345, "state": "placed", "text": "the extra long text of an exotic order"}
	var orders []any
	for range 900 {
		orders = append(orders, order)
	}
	body, _ := json.Marshal(orders)
	inText, _ := json.Marshal(map[string]any{"headers": headers, "body": string(body)})
	return map[string][]byte{"hex": benchEvent(100_000), "fields": body, "fields in a string": inText}
}

// BenchmarkRoute compares the search for a token that is not there with the check that the event is JSON.
func BenchmarkRoute(b *testing.B) {
	took := func(do func()) func() float64 {
		return func() float64 {
			start := time.Now()
			do()
			return float64(time.Since(start).Microseconds())
		}
	}
	for name, event := range routeEvents() {
		for _, token := range []string{"x-live-lambda", "env", "to"} {
			b.Run(name+"/"+token, func(b *testing.B) {
				ratio(b, 200, "µs",
					took(func() {
						if routeOf(event, token) != "" {
							b.Fatal("found")
						}
					}),
					took(func() {
						if !json.Valid(event) {
							b.Fatal("not JSON")
						}
					}))
			})
		}
	}
}

// BenchmarkMirror compares an invocation with a mirror with one that the same program passes through, for
// want of a configuration. Paced ones are all mirrored; of the others most are beyond the publish rate.
func BenchmarkMirror(b *testing.B) {
	layer := buildLayer(b, "", "amd64")
	for _, bench := range []struct {
		name  string
		pause time.Duration
	}{{name: "paced", pause: 60 * time.Millisecond}, {name: "as fast as it goes"}} {
		b.Run(bench.name, func(b *testing.B) {
			api, env := benchAppSync(b)
			s := newBenchService(b, benchEvent(1<<10))
			mirrored := startBench(b, s, layer, append(env, "LIVE_LAMBDA_MODE=mirror")...)
			defer mirrored.kill()
			connected(b, api, 0)
			passed := startBench(b, s, layer)
			defer passed.kill()
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			took := func(p *benchProcess) func() float64 {
				return func() float64 {
					time.Sleep(bench.pause)
					start := time.Now()
					invokeThrough(b, client, s, p.proxy)
					return time.Since(start).Seconds() * 1e3
				}
			}
			ratio(b, 40, "ms", took(mirrored), took(passed))
			api.check(func(c *eventAPICounts) bool {
				b.ReportMetric(float64(c.events[requestsChannel]), "copies")
				return true
			})
		})
	}
}

// BenchmarkSeal compares a request of 100 kB on its way, written and read again, sealed and not.
func BenchmarkSeal(b *testing.B) {
	event := routeEvents()["fields in a string"]
	key := newSealer(bytes.Repeat([]byte("k"), keySize))
	through := func(s *sealer) func() float64 {
		return func() float64 {
			runtime.GC() // else each collection falls on the same one of the two
			start := time.Now()
			for text := range (part{Type: "request", RequestID: "0a/1", sealer: s}).compressed(event) {
				p, err := s.parse(string(text))
				if err != nil || len(p.data) == 0 {
					b.Fatal(err)
				}
			}
			return float64(time.Since(start).Microseconds())
		}
	}
	ratio(b, 200, "µs", through(key), through(nil))
}
