//go:build !layer

package main

// soak_test.go draws faults at random, many times, and wants every invocation answered once.

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestSoak invokes again and again with faults drawn at random. SOAK=10000 is its full length; SOAK_SEED=N
// draws others.
func TestSoak(t *testing.T) { soakWith(t, rigOptions{local: &localEnd{}}) }

// TestSoakReal does the same with the developer's end that users have.
func TestSoakReal(t *testing.T) { soakWith(t, rigOptions{local: &localEnd{real: true}}) }

// TestSoakSealed does it with messages that are sealed.
func TestSoakSealed(t *testing.T) {
	env := map[string]string{"LIVE_LAMBDA_KEY": testKey}
	soakWith(t, rigOptions{local: &localEnd{real: true}, env: env})
}

// soakWith runs the rounds in a rig with these options.
func soakWith(t *testing.T, opts rigOptions) {
	n, _ := strconv.Atoi(cmp.Or(os.Getenv("SOAK"), "60"))
	seed, _ := strconv.ParseUint(cmp.Or(os.Getenv("SOAK_SEED"), "1"), 10, 64)
	t.Logf("SOAK=%d SOAK_SEED=%d", n, seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var apiFault atomic.Pointer[lambdaFault] // of the next answer
	opts.lambda.fault = func(r *http.Request) (f lambdaFault) {
		if r.Method != http.MethodPost {
			return f
		}
		next := apiFault.Swap(nil)
		if next != nil {
			f = *next
		}
		return f
	}
	rigTest(t, "", opts, func(r *rig) {
		s := &soak{rig: r, rng: rng, apiFault: &apiFault, others: r.stops, outcomes: map[string]int{}}
		var half uint64
		for i := range n {
			if i == n/2 {
				half = heap()
			}
			s.round(i)
			if r.t.Failed() {
				r.t.Fatalf("round %d, %s", i, s.fault)
			}
		}
		perRound := (int64(heap()) - int64(half)) / int64(max(1, n-n/2))
		r.t.Logf("%d invocations, %d with a fault: %v; %d bytes of heap more for each of the second half", n,
			s.faults, s.outcomes, perRound)
		if n >= 5000 && perRound > 200 {
			r.t.Error("memory grows")
		}
	})
}

// heap is how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// soak is a soak under way.
type soak struct {
	*rig
	rng      *rand.Rand
	apiFault *atomic.Pointer[lambdaFault]
	fault    string // of the round
	faults   int
	others   []func() // what stops all but the local end and the runtime
	outcomes map[string]int
	heard    atomic.Bool // the extension was told of a local end while it was refused for a while
}

// round invokes once, with a fault or without. Whatever happened, it leaves everything as it was.
func (s *soak) round(i int) {
	timeout := time.Duration(1+s.rng.IntN(60)) * time.Second
	work := timeout * time.Duration(max(0, s.rng.IntN(8)-4)) / 8 // most handlers take no time
	// The local end may still be at what the round before has given up.
	s.mu.Lock()
	s.local.handle = func(d *delivery) localReply {
		time.Sleep(work)
		return respond(`{"by":"local","event":` + string(d.event) + `}`)
	}
	s.mu.Unlock()
	s.fault = "no fault"
	s.heard.Store(false)
	undo := func() {}
	if s.rng.IntN(3) == 0 {
		s.faults++
		undo = s.draw()
	}
	sizes := []int{0, 1, 10, 100, 1000, 1000, 1000, 20_000}
	filler := strings.Repeat("x", sizes[s.rng.IntN(len(sizes))])
	event := fmt.Sprintf(`{"n":%d,"filler":"%s"}`, i, filler)
	o := s.invokeRequest(invokeRequest{payload: []byte(event), timeout: timeout})
	undo()
	s.outcomes[o.what]++
	s.check(o, event)
	s.mend()
	s.apiFault.Store(nil)
	if s.fault != "no fault" {
		time.Sleep(2 * missTimeout)
		s.ready()
		o := s.invoke(`"clean"`)
		if o.what != "local" {
			s.t.Errorf("after %s: %s, %s\n%s", s.fault, o.what, o.payload, s.log)
		}
	}
	s.forget()
}

// check checks that an invocation has one outcome, that it may have it, and that the answer is its own.
func (s *soak) check(o invoked, event string) {
	taken := 0
	for _, attempt := range s.lambda.completions(o.requestID) {
		if attempt.status == http.StatusAccepted {
			taken++
		}
	}
	s.mu.Lock()
	runs := s.handled["local "+o.requestID]
	s.mu.Unlock()
	switch {
	case taken != 1:
		s.t.Errorf("the Runtime API took %d answers: %v", taken, s.lambda.completions(o.requestID))
	case runs > 1:
		s.t.Errorf("the handler ran %d times", runs)
	case o.what == "local" && string(o.payload) != `{"by":"local","event":`+event+`}`:
		s.t.Errorf("the answer is another's: %.100s", o.payload)
	// what the local end said went with the connection
	case o.what == "deployed" && s.fault == "refused for a while" && !s.heard.Load():
	case o.what == "local" && s.fault != "no fault",
		o.what == "deployed" && runs == 0 && s.fault != "no fault",
		strings.HasPrefix(o.what, "LiveLambda.") && s.fault != "no fault":
	case o.what != "local":
		s.t.Errorf("%s after %v, %d runs: %s", o.what, o.took, runs, o.payload)
	}
}

// forget drops what the rig noted, which is not the extension's.
func (s *soak) forget() {
	s.mu.Lock()
	clear(s.handled)
	s.mu.Unlock()
	s.local.mu.Lock()
	clear(s.local.known)
	clear(s.local.done)
	clear(s.local.parts)
	s.local.mu.Unlock()
	s.runtime.mu.Lock()
	s.runtime.events, s.runtime.header = nil, nil
	s.runtime.mu.Unlock()
	s.log.reset()
	s.lambda.mu.Lock()
	s.lambda.log = nil
	s.lambda.mu.Unlock()
	s.api.update(func() {
		clear(s.api.counts.events)
		for _, c := range s.api.conns {
			if c.state == goHalfOpen {
				c.end() // the emulator keeps them for good
			}
		}
	})
	s.stops = append(slices.Clip(s.others), s.local.stop, s.runtime.stop)
}

// soakSteps are where a fault may happen.
var soakSteps = []string{
	"extension publish request 0",
	"extension publish_success request 0",
	"extension data accepted 0",
	"extension data response 0",
	"extension publish done 0",
	"local data request 0",
	"local publish accepted 0",
	"local publish_success accepted 0",
	"local publish response 0",
	"local publish_success response 0",
	"local data done 0",
}

// draw sets up a fault, once, at a step drawn at random, or somewhere else.
func (s *soak) draw() (undo func()) {
	step := soakSteps[s.rng.IntN(len(soakSteps))]
	n := 1 + s.rng.IntN(3)
	pause := time.Duration(s.rng.IntN(20_000)) * time.Millisecond
	switch s.rng.IntN(14) {
	case 0:
		s.frames("dropped", step, n, drop)
	case 1:
		s.frames("doubled", step, n, func(_ *rig, f rigFrame) apiVerdict {
			return apiVerdict{replace: [][]byte{f.raw, f.raw}}
		})
	case 2:
		s.frames("late", step, n, func(*rig, rigFrame) apiVerdict {
			until := make(chan struct{})
			time.AfterFunc(pause, func() { close(until) })
			return apiVerdict{until: until}
		})
	case 3, 4, 5:
		ending := s.drawEnding()
		s.frames(fmt.Sprint("before ending ", ending), step, n, func(*rig, rigFrame) apiVerdict {
			return apiVerdict{replace: dropped, after: ending}
		})
	case 6, 7:
		ending := s.drawEnding()
		s.frames(fmt.Sprint("after ending ", ending), step, n, func(*rig, rigFrame) apiVerdict {
			return apiVerdict{after: ending}
		})
	case 8:
		published := []string{"extension publish request 0", "local publish response 0"}
		types := []string{"LimitExceededError", "UnauthorizedException", "MessageProcessingError"}
		step = published[s.rng.IntN(len(published))]
		s.frames("rejected", step, n, reject(types[s.rng.IntN(len(types))]))
	case 9:
		s.fault = "an idle connection ends"
		s.endConnection(s.drawEnding())
	case 10:
		statuses := []int{400, 403, 413, 500}
		s.fault = "the Runtime API does not take the answer"
		s.apiFault.Store(&lambdaFault{
			status: statuses[s.rng.IntN(len(statuses))],
			late:   s.rng.IntN(2) == 0,
			drop:   s.rng.IntN(2) == 0,
		})
	case 11:
		s.fault = "the runtime starts again"
		done := after(pause/10, func() {
			s.runtime.stop()
			s.runtime = s.startRuntime()
		})
		return func() { <-done }
	case 12:
		s.fault = "the local end starts again"
		done := after(pause/10, func() {
			s.local.stop()
			old := s.local
			s.local = s.startLocal(&localEnd{real: old.real, handle: old.handle})
		})
		return func() { <-done }
	case 13:
		s.refuse([]int{401, 403, 429, 500}[n])
	}
	return func() {}
}

// frames has n frames of a step meet a fault.
func (s *soak) frames(name, step string, n int, f fault) {
	s.fault = name + " at " + step
	f = times(n, f)
	s.intercept(func(frame rigFrame) apiVerdict {
		if frame.step != step {
			return apiVerdict{}
		}
		return f(s.rig, frame)
	})
}

// drawEnding draws how a connection ends.
func (s *soak) drawEnding() apiEnding { return apiEnding(s.rng.IntN(3) + 1) }

// endConnection ends the extension's connection, or a local end's.
func (s *soak) endConnection(ending apiEnding) {
	_, conn := s.link()
	if s.rng.IntN(2) == 0 {
		conns, _ := s.api.subscribers(s.ctx, "/live-lambda/requests", 1)
		conn = conns[0]
	}
	s.api.do(conn, apiVerdict{after: ending})
}

// refuse ends a connection, and refuses the next ones.
func (s *soak) refuse(status int) {
	s.fault = "refused for a while"
	s.endConnection(resetConnection)
	s.intercept(func(f rigFrame) apiVerdict {
		if strings.HasPrefix(f.step, "extension data accepted") ||
			strings.HasPrefix(f.step, "extension data response") {
			s.heard.Store(true)
		}
		if f.typ == "upgrade" {
			return apiVerdict{status: status}
		}
		return apiVerdict{}
	})
}
