//go:build !layer

package main

// faults_environment_test.go has the execution environment freeze, restore, rotate credentials, shut down
// and time out.

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The environment was frozen for minutes: the socket is dead, nobody has said so, and the wall clock is
// ahead.
func TestFrozen(t *testing.T) {
	for _, ending := range []apiEnding{stayOpen, goHalfOpen, resetConnection, closePolitely} {
		frozen := func(r *rig) {
			r.want(r.invoke(`1`), "local")
			l, conn := r.link()
			r.api.do(conn, apiVerdict{after: ending})
			synctest.Wait()                           // whatever was on its way has come
			l.conn.heard.Add(-int64(5 * time.Minute)) // as it looks to whoever wakes up
			o := r.invoke(`2`)
			r.want(o, "local")
			if o.took > time.Second {
				r.t.Errorf("it took %v to find out", o.took)
			}
			r.wantHandled(2)
		}
		for _, real := range []bool{false, true} {
			opts := rigOptions{
				env:   map[string]string{"LIVE_LAMBDA_ACCEPT_TIMEOUT": "3s"},
				local: &localEnd{real: real},
			}
			rigTest(t, fmt.Sprint(ending, " real ", real), opts, frozen)
		}
	}
}

// Two copies of one snapshot count their invocations alike, and have a name each.
func TestCopiesOfASnapshot(t *testing.T) {
	rigTest(t, "", rigOptions{}, func(r *rig) {
		copies := make([]*tunnel, 3)
		ctx, cancel := context.WithCancel(r.ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		for i := range copies {
			copies[i] = newTunnel(r.proxy.tunnel.api, false)
			wg.Go(func() { copies[i].run(ctx) })
		}
		r.local.handle = func(d *delivery) localReply { return respond(string(d.event)) }
		names := map[string]bool{}
		for range 10 {
			for i, c := range copies {
				call := c.send(
					r.ctx, fmt.Append(nil, i),
					fmt.Appendf(nil, `{"request_id":"%d-%d","deadline_ms":9000000000000}`, i, len(names)), 0,
					time.Minute)
				a, err := call.wait()
				if err != nil {
					r.t.Fatal(err)
				}
				l := call.link
				if names[l.name] || !isSegment(l.name) || len(l.name) < 16 {
					r.t.Errorf("the link's name is %q", l.name)
				}
				names[l.name] = true
				if readAll(a.body) != fmt.Sprint(i) {
					r.t.Errorf("copy %d got another answer than its own", i)
				}
				call.finish()
				l.drop(errRetired)
				synctest.Wait()
			}
		}
	})
}

// Credentials are read at each operation: they change, and they end.
func TestCredentialsChange(t *testing.T) {
	first, second := credentials{accessKeyID: "AKIDONE", secretAccessKey: "one", sessionToken: "token-1"},
		credentials{accessKeyID: "AKIDTWO", secretAccessKey: "two", sessionToken: "token-2"}
	opts := rigOptions{
		env:         map[string]string{"LIVE_LAMBDA_APPSYNC_API_KEY": ""},
		credentials: first,
		api:         eventAPIOptions{credentials: []credentials{first}, region: "us-east-1"},
	}
	rigTest(t, "in time", opts, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		r.api.accept("da2-key", second)
		r.credentials.Store(&second)
		r.want(r.invoke(`2`), "local")
	})
	rigTest(t, "too late", opts, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		r.api.accept("da2-key", second)
		if o := r.invoke(`2`); o.what != "deployed" || o.took != 0 {
			r.t.Errorf("got %s after %v, want deployed at once", o.what, o.took)
		}
		time.Sleep(missTimeout)
		r.credentials.Store(&second)
		r.want(r.invoke(`3`), "local")
	})
	rigTest(t, "too late for a new connection", opts, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		r.api.accept("da2-key", second)
		r.api.do(2, apiVerdict{after: resetConnection})
		synctest.Wait()
		time.Sleep(time.Second)
		r.want(r.invoke(`2`), "deployed")
		r.credentials.Store(&second)
		time.Sleep(refusedPause)
		r.want(r.invoke(`3`), "local")
	})
	rigTest(t, "there are none", opts, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		r.credentials.Store(nil)
		o := r.invokeRequest(invokeRequest{payload: []byte(`2`), timeout: 10 * time.Second})
		if r.want(o, "deployed"); o.took.Round(time.Second) != 5*time.Second {
			r.t.Errorf("it took %v, want 5s", o.took)
		}
		r.credentials.Store(&first)
		time.Sleep(missTimeout)
		r.want(r.invoke(`3`), "local")
	})
}

// SHUTDOWN in the middle of an invocation: its caller hears of it, if there is time, and so does the local
// end.
func TestShutdownDuringAnInvocation(t *testing.T) {
	for _, accepted := range []bool{true, false} {
		rigTest(t, fmt.Sprint("accepted ", accepted), rigOptions{noLocal: !accepted}, func(r *rig) {
			if accepted {
				r.local.handle = func(d *delivery) localReply { <-d.over; return respond(`1`) }
			}
			done := after(time.Second, r.stopExtension)
			o := r.invoke(`1`)
			<-done
			r.want(o, "LiveLambda.NoAnswer")
			if o.took != time.Second ||
				!strings.Contains(string(o.payload), "the execution environment shut down") {
				r.t.Errorf("after %v: %s", o.took, o.payload)
			}
			if accepted {
				r.local.wantTold("timeout")
			}
		})
	}
	rigTest(t, "between invocations", rigOptions{}, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		synctest.Wait()
		r.stopExtension()
		synctest.Wait()
		// the runtime's call of next is held still
		if log := r.log.String(); strings.Contains(log, "level=ERROR") {
			r.t.Errorf("the log has %s", log)
		}
	})
}

// The extension's whole life on loopback, in this process: registration, with INVOKE or where that is refused
// without, an invocation, and SHUTDOWN in the middle of another one, which the emulated environment fails
// itself.
func TestRunUntilShutdown(t *testing.T) {
	for _, concurrency := range []int{1, 2} {
		t.Run(fmt.Sprint("concurrency ", concurrency), func(t *testing.T) {
			r := &rig{
				t:           t,
				ctx:         t.Context(),
				net:         &pipeNetwork{real: true},
				log:         &logBook{},
				handled:     map[string]int{},
				concurrency: concurrency,
			}
			defer r.close()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			r.url = "http://" + ln.Addr().String()
			r.api = startEventAPI(ln, eventAPIOptions{apiKey: "da2-key"})
			r.stops = append(r.stops, r.api.close)
			accepted := make(chan struct{})
			r.local = r.startLocal(&localEnd{handle: func(d *delivery) localReply {
				if string(d.event) == "2" {
					close(accepted)
					<-d.ctx.Done()
				}
				return respond(`{"by":"local"}`)
			}})
			r.lambda, err = startLambda(
				t.Context(),
				lambdaOptions{
					external:       []string{"live-lambda-extension"},
					maxConcurrency: concurrency,
					timeout:        time.Minute,
				})
			if err != nil {
				t.Fatal(err)
			}
			port, err := freePort()
			if err != nil {
				t.Fatal(err)
			}
			cfg := r.config(
				map[string]string{"AWS_LAMBDA_RUNTIME_API": r.lambda.addr, "LRAP_LISTENER_PORT": port})
			r.proxyAddr = fmt.Sprint("127.0.0.1:", cfg.port)
			ended := make(chan error, 1)
			go func() { ended <- run(r.ctx, cfg, newLogger(cfg, r.log)) }()
			if _, err := r.lambda.waitFor(r.ctx, 0, func(ev lambdaEvent) bool {
				return ev.name == "extension registered"
			}); err != nil {
				t.Fatal(err)
			}
			r.startRuntime()
			r.want(r.invoke(`1`), "local")
			var cut invoked
			done := after(0, func() { cut = r.invoke(`2`) })
			<-accepted
			r.lambda.close()
			<-done
			if err := <-ended; err != nil {
				t.Errorf("run ended with %v", err)
			}
			if cut.what != "Sandbox.Failure" {
				t.Errorf("the invocation cut short ended with %s: %s", cut.what, cut.payload)
			}
			if err := r.api.wait(t.Context(), func(n *eventAPICounts) bool {
				return n.open == 1 && n.events["/live-lambda/requests"] >= 3
			}); err != nil {
				t.Error(err) // two requests, and done where the extension has heard of accepted
			}
		})
	}
}

// SHUTDOWN while a local end has an invocation and has not answered it: before run returns, the Runtime API
// has an error. The emulated environment fails such an invocation itself, so this one gives SHUTDOWN and
// takes what comes.
func TestRunTellsOfShutdown(t *testing.T) {
	r := &rig{
		t:       t,
		ctx:     t.Context(),
		net:     &pipeNetwork{real: true},
		log:     &logBook{},
		handled: map[string]int{},
	}
	defer r.close()
	ln := listen(t)
	r.url = "http://" + ln.Addr().String()
	r.api = startEventAPI(ln, eventAPIOptions{apiKey: "da2-key"})
	r.stops = append(r.stops, r.api.close)
	taken := make(chan struct{})
	r.local = r.startLocal(&localEnd{handle: func(d *delivery) localReply {
		close(taken)
		<-d.ctx.Done()
		return respond(`1`)
	}})

	registered, shutdown, told := make(chan struct{}), make(chan struct{}), make(chan string, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2020-01-01/extension/register", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"functionName":"f"}`)
		close(registered)
	})
	mux.HandleFunc("GET /2020-01-01/extension/event/next", func(w http.ResponseWriter, _ *http.Request) {
		<-shutdown
		io.WriteString(w, `{"eventType":"SHUTDOWN","shutdownReason":"spindown"}`)
	})
	mux.HandleFunc("GET "+nextPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", "id-1")
		w.Header().Set(
			"Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(time.Minute).UnixMilli(), 10))
		io.WriteString(w, `1`)
	})
	mux.HandleFunc("POST "+invocationPath+"{id}/{what}", func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		told <- fmt.Sprintf(
			"%s %s %s %s %v", req.PathValue("id"), req.PathValue("what"), req.Header.Get(typeHeader), body,
			err)
		w.WriteHeader(http.StatusAccepted)
	})
	lambda := httptest.NewServer(mux)
	defer lambda.Close()

	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	cfg := r.config(
		map[string]string{
			"AWS_LAMBDA_RUNTIME_API": lambda.Listener.Addr().String(),
			"LRAP_LISTENER_PORT":     port,
		})
	ended := async(func() (bool, error) { return true, run(r.ctx, cfg, newLogger(cfg, r.log)) })
	select {
	case <-registered:
	case got := <-ended:
		t.Fatal(got.err)
	}
	next := async(func() (*http.Response, error) { return http.Get("http://127.0.0.1:" + port + nextPath) })
	select {
	case <-taken:
	case got := <-next:
		t.Errorf("the runtime got %v, %v; the log:\n%s", got.value, got.err, r.log)
	}
	close(shutdown)
	if got := <-ended; got.err != nil {
		t.Errorf("run ended with %v", got.err)
	}
	lambda.Close()
	close(told)
	var got []string
	for call := range told {
		got = append(got, call)
	}
	want := `id-1 error LiveLambda.NoAnswer {"errorMessage":"live-lambda: the execution environment shut ` +
		`down before there was an answer","errorType":"LiveLambda.NoAnswer"} <nil>`
	if !slices.Equal(got, []string{want}) {
		t.Errorf("the Runtime API was told %q, want %q", got, want)
	}
}

// Lambda's own deadline passes, whatever the extension thinks: the environment is reset.
func TestLambdaTimesOut(t *testing.T) {
	rigTest(t, "", rigOptions{}, func(r *rig) {
		expire := make(chan struct{})
		r.local.handle = func(d *delivery) localReply {
			if string(d.event) == "1" {
				close(expire)
				time.Sleep(time.Minute)
			}
			return respond(`{"by":"local"}`)
		}
		o := r.invokeRequest(
			invokeRequest{payload: []byte(`1`), expire: expire})
		if o.what != "Sandbox.Timedout" {
			r.t.Errorf("got %s", o.what)
		}
		r.want(r.invoke(`2`), "local")
		time.Sleep(2 * time.Minute) // the late answer comes
		r.want(r.invoke(`3`), "local")
		r.wantHandled(3)
	})
}

// Many invocations at once, as on Managed Instances: each has its own answer.
func TestManyAtOnce(t *testing.T) {
	rigTest(t, "", rigOptions{lambda: lambdaOptions{maxConcurrency: 8}}, func(r *rig) {
		r.local.handle = func(d *delivery) localReply {
			time.Sleep(time.Duration(len(d.event)) * time.Second)
			return respond(string(d.event))
		}
		r.each(40, func(i int) {
			event := strings.Repeat("7", 1+i%5) + fmt.Sprint(i)
			r.want(r.invoke(event), event)
		})
		r.wantHandled(40)
		if err := r.api.wait(r.ctx, func(c *eventAPICounts) bool {
			return c.busiest <= publishesPerSecond && c.connections == 2
		}); err != nil {
			r.t.Error(err)
		}
	})
}
