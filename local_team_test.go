//go:build !layer

package main

// local_team_test.go has several local ends on one API, and wants each invocation run once, by the one that
// has its function.

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// teamRig is an API, an extension, and the local ends that join.
type teamRig struct {
	*localRig // without a local end of its own

	mu  sync.Mutex          // guards the following
	ran map[string][]string // who has run an invocation, by its request ID
}

// mate is one local end of a team. Its runtime is a goroutine.
type mate struct {
	*localRig
	team *teamRig
	name string
	work time.Duration // that an invocation takes; set before one comes
	end  func()        // ends it without a word
}

// teamBubble runs a test in a bubble, over both APIs. A message takes 40 ms.
func teamBubble(t *testing.T, test func(*teamRig)) {
	for _, graphql := range []bool{false, true} {
		t.Run(eventAPIOptions{graphql: graphql}.protocol(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newTestLocal(t, localOptions{})
				r.graphql = graphql
				ln := newPipeListener("example.com")
				r.serveAPI(ln, ln.dial, 20*time.Millisecond)
				r.tunnel = newTunnel(r.client(), "orders", false)
				r.background(r.tunnel.run)
				_, err := r.api.subscribers(r.ctx, presenceChannel, 1)
				if err != nil {
					t.Fatal(err)
				}
				test(&teamRig{localRig: r, ran: map[string][]string{}})
			})
		})
	}
}

// mateOptions are how an end joins.
type mateOptions struct {
	stage     string
	functions []string
	own       bool          // it runs the deployed handlers, whose files it does not have
	work      time.Duration // that an invocation takes
}

// join starts a local end, and waits until it hears requests.
func (r *teamRig) join(name string, o mateOptions) *mate {
	r.Helper()
	local := newTestLocal(r.T, localOptions{code: code{external: !o.own}, functions: o.functions})
	m := &mate{localRig: local, team: r, name: name, work: o.work}
	m.api = r.api
	m.lastID = r.lastID
	m.local.attach = newWorker(&pool{local: m.local, name: "attached runtime", external: true})
	m.local.attachServer = &http.Server{}
	m.routes = m.local.attach.routes()
	client := r.client()
	client.log = m.local.term.logger(0)
	if o.stage != "" {
		client.stage = o.stage
	}
	m.sub = newSubscriber(client, m.local)
	m.sub.presence.self.By = name + "@desk"
	m.sub.presence.takeBack = func() string { return "t and Enter take it back" }
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.ctx))
	var wg sync.WaitGroup
	wg.Go(func() { m.sub.run(ctx) })
	wg.Go(func() { m.runtime(ctx) })
	m.end = func() {
		cancel()
		wg.Wait()
	}
	r.Cleanup(m.end)
	m.out.wait(m.localRig, "waiting for invocations")
	return m
}

// runtime runs the invocations that come to an end.
func (m *mate) runtime(ctx context.Context) {
	defer func() {
		cut := recover() // what the server makes of a call that waits at the end
		if cut != nil && cut != http.ErrAbortHandler {
			panic(cut)
		}
	}()
	for {
		rec := m.call(ctx, "GET", "invocation/next", nil)
		id := rec.Header().Get("Lambda-Runtime-Aws-Request-Id")
		if ctx.Err() != nil || id == "" {
			return
		}
		m.team.mu.Lock()
		m.team.ran[id] = append(m.team.ran[id], m.name)
		m.team.mu.Unlock()
		sleep(ctx, m.work)
		m.call(ctx, "POST", "invocation/"+id+"/response", strings.NewReader(`"`+m.name+`"`))
	}
}

// leave ends it in order.
func (m *mate) leave() {
	m.local.shutDown(m.sub, nil, false)
	m.end()
}

// settle waits until all ends have heard of each other.
func settle() { time.Sleep(3 * time.Second) }

// wantRunBy invokes the function, and wants those ends to have run that, and one of them to have answered.
func (r *teamRig) wantRunBy(names ...string) (took time.Duration) {
	r.Helper()
	c := r.context()
	start := time.Now()
	g := r.invoke([]byte("1"), c)
	took = time.Since(start)
	answered := strings.Trim(string(g.body), `"`)
	settle() // another one may run it too
	r.mu.Lock()
	ran := slices.Sorted(slices.Values(r.ran[c.RequestID]))
	r.mu.Unlock()
	if !slices.Equal(ran, names) || !slices.Contains(names, answered) {
		r.Errorf("%v have run it and %s has answered, want %v", ran, answered, names)
	}
	return took
}

// wantTold wants that an end has told this so many times.
func (m *mate) wantTold(text string, times int) {
	m.Helper()
	synctest.Wait()
	if n := strings.Count(m.out.String(), text); n != times {
		m.Errorf("%s told %q %d times, want %d, in\n%s", m.name, text, n, times, m.out)
	}
}

// Ends come, go and take back, and many invocations come when they do.
func TestTeamRunsEachInvocationOnce(t *testing.T) {
	t.Parallel()
	const changes = 10
	period := 20 // invocations between two of them
	if os.Getenv("SOAK") != "" {
		period = 100
	}
	teamBubble(t, func(r *teamRig) {
		var mu sync.Mutex
		ends := map[string]*mate{} // guarded by mu
		join := func(name string) {
			m := r.join(name, mateOptions{work: 10 * time.Millisecond})
			mu.Lock()
			defer mu.Unlock()
			ends[name] = m
		}
		end := func(name string) *mate {
			mu.Lock()
			defer mu.Unlock()
			return ends[name]
		}
		join("ann")
		var wg sync.WaitGroup
		var ids []string
		for i := range changes * period {
			switch i {
			case period:
				wg.Go(func() { join("bob") })
			case 2 * period:
				wg.Go(func() { join("cid") })
			case 3 * period:
				end("ann").sub.presence.takeBackAll()
			case 4 * period:
				wg.Go(end("cid").leave)
			case 5 * period:
				wg.Go(end("ann").leave) // which has everything
			case 6 * period:
				wg.Go(func() { join("dan") })
			case 7 * period:
				end("bob").sub.presence.takeBackAll()
			case 8 * period:
				end("dan").sub.presence.takeBackAll()
			case 9 * period:
				wg.Go(end("dan").leave)
			}
			c := r.context()
			c.RequestID = fmt.Sprintf("%08d-0000-4000-8000-000000000000", i) // lines show the beginning
			ids = append(ids, c.RequestID)
			wg.Go(func() {
				call := r.tunnel.send(r.ctx, &call{
					channel: requestsChannel, event: []byte("1"), context: mustJSON(c), offline: time.Hour})
				defer call.finish()
				_, err := call.wait()
				if err != nil {
					r.Errorf("invocation %d: %v", i, err)
				}
			})
			pause := 20 * time.Millisecond
			if from := (i + period/2) % period; from < period/4 || from > 3*period/4 {
				pause = time.Second
			}
			time.Sleep(rand.N(pause))
		}
		wg.Wait()
		settle()
		r.mu.Lock()
		defer r.mu.Unlock()
		counts := map[string]int{}
		for i, id := range ids {
			if len(r.ran[id]) != 1 {
				r.Errorf("invocation %d was run by %q", i, r.ran[id])
			}
			for _, name := range r.ran[id] {
				counts[name]++
			}
		}
		// Each time that is about what came until the next change.
		for name, periods := range map[string]int{"ann": 3, "bob": 3, "cid": 1, "dan": 2} {
			if n := counts[name]; n < periods*period/3 || n > (periods+2)*period {
				r.Errorf("%s has run %d, want about %d: %v", name, n, periods*period, counts)
			}
		}
	})
}

func TestLaterEndTakesOverAndTheEarlierTakesBack(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		ann := r.join("ann", mateOptions{})
		settle()
		r.wantRunBy("ann")
		bob := r.join("bob", mateOptions{functions: []string{"ord*", "pay"}})
		settle()
		r.wantRunBy("bob")
		ann.wantTold("bob@desk has taken over ord*, pay since ", 1)
		ann.wantTold("invocations of orders go to bob@desk: t and Enter take it back", 1)
		bob.wantTold("ann@desk is here too since ", 1)
		bob.wantTold("for all functions; what both serve comes to this end", 1)
		ann.sub.presence.takeBackAll()
		settle()
		r.wantRunBy("ann")
		ann.wantTold("takes back ord*, pay from bob@desk", 1)
		bob.wantTold("ann@desk has taken over ord*, pay since ", 1)
		ann.leave()
		r.wantRunBy("bob")
		bob.wantTold("ann@desk has gone: invocations of ord*, pay come here again", 1)
	})
}

// Its clock is behind, or the other one's ahead.
func TestEndTakesBackFromOneWhoseClockIsAhead(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		ann := r.join("ann", mateOptions{})
		bob := r.join("bob", mateOptions{})
		ann.sub.presence.mu.Lock()
		ann.sub.presence.self.Since += time.Hour.Milliseconds()
		ann.sub.presence.mu.Unlock()
		ann.sub.presence.want()
		settle()
		r.wantRunBy("ann")
		bob.sub.presence.takeBackAll()
		settle()
		r.wantRunBy("bob")
	})
}

// The one at work is ended in order, and works on. The other one must not run that too.
func TestEndThatSaysByeFinishesWhatItHas(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		r.join("ann", mateOptions{})
		bob := r.join("bob", mateOptions{work: 20 * time.Second})
		settle()
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(5 * time.Second)
			bob.leave()
		})
		r.wantRunBy("bob")
		wg.Wait()
		if took := r.wantRunBy("ann"); took > time.Second {
			r.Errorf("the next one took %v", took)
		}
	})
}

// It was killed, and says nothing. The request that was left to it is taken.
func TestRequestOfAnEndThatDoesNotAnswerIsTaken(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		ann := r.join("ann", mateOptions{})
		bob := r.join("bob", mateOptions{})
		settle()
		bob.end()
		if took := r.wantRunBy("ann"); took > askTimeout+2*helloPause {
			r.Errorf("it took %v", took)
		}
		ann.wantTold("bob@desk does not answer: invocations of all functions come here again", 1)
		if took := r.wantRunBy("ann"); took > time.Second {
			r.Errorf("the next one took %v", took)
		}
	})
}

// The third one has it next.
func TestRequestOfAnEndThatDoesNotAnswerGoesToTheNextOne(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		r.join("ann", mateOptions{})
		settle()
		r.join("bob", mateOptions{})
		settle()
		cid := r.join("cid", mateOptions{})
		settle()
		cid.end()
		r.wantRunBy("bob")
	})
}

// An end that works for long is asked whether it is there, and is.
func TestEndThatWorksForLongKeepsItsRequest(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		ann := r.join("ann", mateOptions{})
		r.join("bob", mateOptions{work: time.Minute})
		settle()
		asks := r.count(`"ask":"`)
		r.wantRunBy("bob")
		if n := asks(); n < 5 || n > 7 {
			r.Errorf("it was asked %d times in a minute", n)
		}
		ann.end() // nobody else looks at what it keeps then
		if len(ann.sub.aside) != 0 || ann.sub.asideBytes != 0 {
			r.Errorf("%d requests, %d bytes are still kept", len(ann.sub.aside), ann.sub.asideBytes)
		}
	})
}

// count counts the messages of ends on the presence channel that have that text.
func (r *teamRig) count(text string) (n func() int) {
	var mu sync.Mutex
	count := 0
	r.api.intercept(func(f apiFrame) apiVerdict {
		if isPresence(f) && strings.Contains(f.events[0], text) {
			mu.Lock()
			count++
			mu.Unlock()
		}
		return apiVerdict{}
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return count
	}
}

// isPresence reports whether a frame is what an end says of itself, on its way to AppSync.
func isPresence(f apiFrame) bool {
	published := f.typ == "publish" || f.typ == "http_publish"
	return published && f.channel == presenceChannel && len(f.events) > 0
}

// lose loses what ends say that has that text.
func (r *teamRig) lose(text string) {
	r.api.intercept(func(f apiFrame) apiVerdict {
		if f.out && f.typ == "data" && f.channel == presenceChannel && strings.Contains(f.events[0], text) {
			return apiVerdict{replace: dropped}
		}
		return apiVerdict{}
	})
}

// Without a hello both run the invocation, and the first answer counts. Without a bye it is taken later.
func TestTeamWorksWithoutMessagesThatAreLost(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		r.join("ann", mateOptions{})
		r.lose(`bob@desk`)
		bob := r.join("bob", mateOptions{})
		settle()
		r.wantRunBy("ann", "bob")
		r.lose(`"bye"`)
		bob.sub.presence.want()
		settle()
		r.wantRunBy("bob")
		bob.leave()
		r.wantRunBy("ann")
	})
}

func TestStagesAndFunctionsOfOthersDoNotInterfere(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		ann := r.join("ann", mateOptions{functions: []string{"orders"}})
		settle()
		r.join("bob", mateOptions{stage: "bob"})
		pay := r.join("pay", mateOptions{functions: []string{"pay", "mail-*"}})
		settle()
		if took := r.wantRunBy("ann"); took > time.Second {
			r.Errorf("it took %v", took)
		}
		ann.wantTold("bob@desk", 0)
		ann.wantTold("pay@desk is here too since ", 1)
		ann.wantTold("for mail-*, pay\n", 1)
		pay.wantTold("ann@desk is here too since ", 1)
		ann.wantTold("taken over", 0)
	})
}

// The deployed functions' own handlers are served, but the later end does not have the file of this one.
func TestEndWithoutAHandlerLeavesItsFunctionToAnother(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		r.join("ann", mateOptions{})
		settle()
		bob := r.join("bob", mateOptions{own: true})
		settle()
		r.wantRunBy("ann")
		bob.wantTold("left alone: orders", 1)
		if took := r.wantRunBy("ann"); took > time.Second {
			r.Errorf("the next one took %v", took)
		}
	})
}

// What it has left to another end stays left, and it is still the same end.
func TestEndThatReconnectsIsTheSame(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		ann := r.join("ann", mateOptions{})
		bob := r.join("bob", mateOptions{work: 8 * time.Second})
		settle()
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(2 * time.Second)
			for _, m := range []*mate{ann, bob} {
				conn, _ := m.sub.current()
				conn.drop(io.ErrUnexpectedEOF)
			}
		})
		r.wantRunBy("bob")
		wg.Wait()
		r.wantRunBy("bob")
		ann.wantTold("bob@desk has taken over", 1)
		bob.wantTold("ann@desk is here too", 1)
	})
}

// leaderText is a hello of an end that is later than everybody: its clock is ahead, or it is hostile.
func leaderText(sender string, since int64) string {
	return fmt.Sprintf(`{"live_lambda":1,"type":"hello","request_id":"%s/hello","index":0,"last":true,`+
		`"sender":"%s","by":"\u001b[31mmallory\u202e@x","since":%d}`, sender, sender, since)
}

// Whoever may publish can keep an end from running requests for as long as it answers asks, and no longer.
func TestEndThatIsLaterThanEverybodyHasToAnswer(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		ann := r.join("ann", mateOptions{})
		settle()
		r.api.publish(presenceChannel, leaderText("mallory", maxSince))
		r.api.publish(presenceChannel, leaderText("nobody", maxSince+1))
		r.api.publish(presenceChannel, leaderText("nobody", -1))
		settle()
		if took := r.wantRunBy("ann"); took < askTimeout || took > askTimeout+2*helloPause {
			r.Errorf("it took %v", took)
		}
		ann.wantTold("?[31mmallory?@x has taken over", 1)
		ann.wantTold("field since is out of range", 2)
		r.api.publish(presenceChannel, leaderText("mallory", maxSince))
		settle()
		ann.sub.presence.takeBackAll()
		ann.wantTold("cannot take anything back from ?[31mmallory?@x", 1)
	})
}

func TestFloodOfHellosIsNoFloodOfLines(t *testing.T) {
	t.Parallel()
	teamBubble(t, func(r *teamRig) {
		ann := r.join("ann", mateOptions{})
		settle()
		start := time.Now().UnixMilli()
		for i := range 10 * maxPresence {
			r.api.publish(presenceChannel, leaderText(fmt.Sprintf("m%d", i), start+int64(i)))
		}
		settle()
		ann.wantTold("mallory", maxLines-1)
		ann.wantTold("more news of other local ends than can be shown", 1)
		ann.sub.presence.mu.Lock()
		if n := len(ann.sub.presence.others); n > maxPresence {
			r.Errorf("%d ends are remembered", n)
		}
		ann.sub.presence.mu.Unlock()
	})
}

// asideTest is a local end that leaves a request to another one.
type asideTest struct {
	name string
	then func(e *ear, c eventContext) // three seconds later
	runs int

	lasts time.Duration // the invocation; 0: for long
}

// A scripted end has everything, and a scripted extension says what becomes of the request.
func TestRequestThatWasLeftIsTakenIfNobodyHasIt(t *testing.T) {
	t.Parallel()
	hello := presenceText("hello", "")
	answer := func(e *ear) { e.api.publish(presenceChannel, hello) }
	bye := func(e *ear) {
		e.api.publish(presenceChannel, presenceText("bye", ""))
		time.Sleep(time.Second)
	}
	for _, test := range []asideTest{
		{name: "nothing happens, and nobody answers", then: func(*ear, eventContext) {}, runs: 1},
		{name: "the other answers", then: func(e *ear, _ eventContext) { answer(e) }},
		{
			name: "the other says bye, and may still work on it",
			then: func(e *ear, _ eventContext) { bye(e) },
		},
		{
			name: "the other says bye, and the request comes again",
			then: func(e *ear, c eventContext) {
				bye(e)
				e.ask(1, []byte("1"), c)
			},
			runs: 1,
		},
		{
			name: "the other says bye, and the request comes over a new link and then again",
			then: func(e *ear, c eventContext) {
				bye(e)
				e.ask(2, []byte("1"), c)
				time.Sleep(repeatRequest)
				e.ask(2, []byte("1"), c)
			},
			runs: 1,
		},
		{
			name: "the other says bye, and the request comes over a new link, which it may answer on",
			then: func(e *ear, c eventContext) {
				bye(e)
				e.ask(2, []byte("1"), c)
				e.ask(2, []byte("1"), c) // AppSync may deliver twice
			},
		},
		{
			name: "it is over",
			then: func(e *ear, c eventContext) {
				e.done(1, "answered")
				bye(e)
				e.ask(1, []byte("1"), c)
				e.ask(1, []byte("1"), c)
			},
		},
		{
			name: "a third one has accepted it",
			then: func(e *ear, c eventContext) {
				c.AcceptedBy = "c5d2"
				e.ask(1, []byte("1"), c)
			},
		},
		{
			name: "its deadline is over",
			then: func(e *ear, c eventContext) {
				answer(e)
				time.Sleep(6 * time.Second)
				bye(e)
				e.ask(1, []byte("1"), c)
			},
			lasts: 8 * time.Second,
		},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, hello) })
	}
}

// run begins with a request that is left.
func (test asideTest) run(t *testing.T, hello string) {
	localBubble(t, func(r *localRig) {
		time.Sleep(2 * helloPause)
		r.api.publish(presenceChannel, hello)
		synctest.Wait()
		e := r.newEar("aaaa")
		c := r.context()
		if test.lasts > 0 {
			c.DeadlineMs = time.Now().Add(test.lasts).UnixMilli()
		}
		e.ask(1, []byte("1"), c)
		e.ask(1, []byte("1"), c) // AppSync may deliver twice
		synctest.Wait()
		r.wantRan(0)
		time.Sleep(askTimeout - time.Millisecond)
		test.then(e, c)
		time.Sleep(4 * time.Second)
		r.wantRan(test.runs)
	})
}

func TestPatternsThatMayMeet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{a: "orders", b: "orders", want: true},
		{a: "orders", b: "pay"},
		{a: "ord*", b: "orders", want: true},
		{a: "orders", b: "ord?rs", want: true},
		{a: "ord*", b: "pay-*"},
		{a: "ord*", b: "*-dev", want: true},
		{a: "orders-*", b: "ord*", want: true},
	} {
		if got := mayMeet(tt.a, tt.b); got != tt.want {
			t.Errorf("%s and %s: %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}
