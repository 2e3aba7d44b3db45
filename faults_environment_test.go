//go:build !layer

package main

// faults_environment_test.go has the execution environment freeze, restore, rotate credentials, shut down
// and time out.

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The environment was frozen for minutes: the socket is dead, nobody has said so, and the wall clock is
// ahead.
func TestFrozenEnvironmentNoticesADeadLink(t *testing.T) {
	t.Parallel()
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

// Copies of one snapshot count their invocations alike, and have a name each.
func TestCopiesOfASnapshotGetTheirOwnAnswers(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{}, func(r *rig) {
		copies := make([]*tunnel, 3)
		ctx, cancel := context.WithCancel(r.ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		for i := range copies {
			copies[i] = newTunnel(r.proxy.tunnel.api, "function", false)
			wg.Go(func() { copies[i].run(ctx) })
		}
		r.local.handle = func(d *delivery) localReply { return respond(string(d.event)) }
		names := map[string]bool{}
		for range 10 {
			for i, c := range copies {
				about := fmt.Appendf(
					nil, `{"request_id":"%d-%d","deadline_ms":9000000000000}`, i, len(names))
				call := c.send(r.ctx, &call{
					channel: requestsChannel, event: fmt.Append(nil, i), context: about,
					offline: time.Minute})
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

var (
	firstKeys  = credentials{accessKeyID: "AKIDONE", secretAccessKey: "one", sessionToken: "token-1"}
	secondKeys = credentials{accessKeyID: "AKIDTWO", secretAccessKey: "two", sessionToken: "token-2"}
)

// withKeys are the options of a rig whose extension signs with the first keys, which AppSync takes.
func withKeys() rigOptions {
	return rigOptions{
		env:         map[string]string{"LIVE_LAMBDA_APPSYNC_API_KEY": ""},
		credentials: firstKeys,
		api:         eventAPIOptions{credentials: []credentials{firstKeys}, region: "us-east-1"},
	}
}

// signing has the extension of a rig sign with the first keys.
func signing(o rigOptions) rigOptions {
	keys := withKeys()
	keys.fault = o.fault
	maps.Copy(keys.env, o.env)
	return keys
}

// The function's log is where its owner looks, and another secret needs another mend than a permission.
func TestExtensionsLogSaysWhatIsWrongWithSignatures(t *testing.T) {
	t.Parallel()
	otherSecret := firstKeys
	otherSecret.secretAccessKey = "other"
	for _, test := range []struct {
		name   string
		change func(*rigOptions)
		log    string
	}{
		{
			name:   "another secret access key",
			change: func(o *rigOptions) { o.credentials = otherSecret },
			log:    "; the secret access key is not the one of this access key: set both anew",
		},
		{
			name:   "an unknown access key",
			change: func(o *rigOptions) { o.credentials = secondKeys },
			log:    "; AWS does not know these credentials: get new ones",
		},
		{
			name: "an expired token",
			change: func(o *rigOptions) {
				o.before = func(r *rig) { r.api.accept("da2-key") }
			},
			log: "; the credentials have expired: get new ones",
		},
		{
			name:   "a clock that is behind",
			change: func(o *rigOptions) { o.api.ahead = 6 * time.Minute },
			log:    "; the clock here is wrong: set it",
		},
		{
			name:   "a clock that is ahead",
			change: func(o *rigOptions) { o.api.ahead = -6 * time.Minute },
			log:    "; the clock here is wrong: set it",
		},
		{
			name:   "another region",
			change: func(o *rigOptions) { o.env["LIVE_LAMBDA_APPSYNC_REGION"] = "eu-west-1" },
			log:    "; the region is not the API's: set LIVE_LAMBDA_APPSYNC_REGION",
		},
		{
			name:   "a missing permission",
			change: func(o *rigOptions) { o.api.denied = true },
			log:    "grant appsync:EventConnect on arn:aws:appsync:us-east-1:ACCOUNT:apis/API_ID,",
		},
	} {
		opts := withKeys()
		opts.noLink = true
		test.change(&opts)
		rigTest(t, test.name, opts, func(r *rig) {
			r.want(r.invoke(`1`), "deployed")
			r.wantLogged(test.log)
			if !strings.HasPrefix(test.log, "grant ") && strings.Contains(r.log.String(), "grant ") {
				r.t.Errorf("the log says what to grant:\n%s", r.log)
			}
		})
	}
}

// Credentials are read at each operation.
func TestCredentialsMayChange(t *testing.T) {
	t.Parallel()
	rigTest(t, "", withKeys(), func(r *rig) {
		r.want(r.invoke(`1`), "local")
		r.api.accept("da2-key", secondKeys)
		r.credentials.Store(&secondKeys)
		r.want(r.invoke(`2`), "local")
	})
}

func TestCredentialsThatChangeTooLateRunDeployedCode(t *testing.T) {
	t.Parallel()
	rigTest(t, "with a link", withKeys(), func(r *rig) {
		r.want(r.invoke(`1`), "local")
		r.api.accept("da2-key", secondKeys)
		o := r.invoke(`2`)
		if o.what != "deployed" || o.took != 0 {
			r.t.Errorf("got %s after %v, want deployed at once", o.what, o.took)
		}
		time.Sleep(missTimeout)
		r.credentials.Store(&secondKeys)
		r.want(r.invoke(`3`), "local")
	})
	rigTest(t, "for a new connection", withKeys(), func(r *rig) {
		r.want(r.invoke(`1`), "local")
		r.api.accept("da2-key", secondKeys)
		r.api.do(2, apiVerdict{after: resetConnection})
		synctest.Wait()
		time.Sleep(time.Second)
		r.want(r.invoke(`2`), "deployed")
		r.credentials.Store(&secondKeys)
		time.Sleep(refusedPause)
		r.want(r.invoke(`3`), "local")
	})
}

func TestMissingCredentialsRunDeployedCode(t *testing.T) {
	t.Parallel()
	rigTest(t, "", withKeys(), func(r *rig) {
		r.want(r.invoke(`1`), "local")
		r.credentials.Store(nil)
		o := r.invokeRequest(invokeRequest{payload: []byte(`2`), timeout: 10 * time.Second})
		r.want(o, "deployed")
		if o.took.Round(time.Second) != 5*time.Second {
			r.t.Errorf("it took %v, want 5s", o.took)
		}
		r.credentials.Store(&firstKeys)
		time.Sleep(missTimeout)
		r.want(r.invoke(`3`), "local")
	})
}

// If there is time, the caller of the invocation hears of the shutdown, and so does the local end.
func TestShutdownFailsTheInvocationUnderWay(t *testing.T) {
	t.Parallel()
	shutdown := func(r *rig) {
		r.t.Helper()
		done := after(time.Second, r.stopExtension)
		o := r.invoke(`1`)
		<-done
		r.want(o, "LiveLambda.NoAnswer")
		if o.took != time.Second ||
			!strings.Contains(string(o.payload), "the execution environment shut down") {
			r.t.Errorf("after %v: %s", o.took, o.payload)
		}
	}
	waits := &localEnd{handle: func(d *delivery) localReply {
		<-d.over
		return respond(`1`)
	}}
	rigTest(t, "accepted", rigOptions{local: waits}, func(r *rig) {
		shutdown(r)
		r.local.wantTold("timeout")
	})
	rigTest(t, "not accepted", rigOptions{noLocal: true}, shutdown)
}

// The runtime's call of next is still held then.
func TestShutdownBetweenInvocationsIsNoError(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{}, func(r *rig) {
		r.want(r.invoke(`1`), "local")
		synctest.Wait()
		r.stopExtension()
		synctest.Wait()
		if strings.Contains(r.log.String(), "level=ERROR") {
			r.t.Errorf("the log has %s", r.log)
		}
	})
}

// onLoopback is a rig whose AppSync is on loopback, for tests of run, with a local end. They start an
// environment and the extension themselves.
func onLoopback(t *testing.T, local *localEnd) *rig {
	t.Helper()
	r := &rig{
		t:       t,
		ctx:     t.Context(),
		net:     &pipeNetwork{real: true},
		log:     &logBook{},
		handled: map[string]int{},
	}
	ln := listen(t)
	r.url = "http://" + ln.Addr().String()
	r.api = startEventAPI(ln, eventAPIOptions{apiKey: "da2-key"})
	r.stops = append(r.stops, r.api.close)
	r.local = r.startLocal(local)
	return r
}

// listeningOn is the configuration of an extension between the runtime and a Runtime API.
func (r *rig) listeningOn(runtimeAPI string) config {
	r.t.Helper()
	return r.config(
		map[string]string{"AWS_LAMBDA_RUNTIME_API": runtimeAPI, "LRAP_LISTENER_PORT": ownPort(r.t)})
}

// The extension's whole life on loopback, in this process: registration, with INVOKE or, if that is refused,
// without it, an invocation, and SHUTDOWN in the middle of another one, which the emulated environment fails
// itself.
func TestRunServesInvocationsUntilShutdown(t *testing.T) {
	t.Parallel()
	t.Run("concurrency 1", func(t *testing.T) { testRunServesInvocationsUntilShutdown(t, 1) })
	t.Run("concurrency 2", func(t *testing.T) { testRunServesInvocationsUntilShutdown(t, 2) })
}

func testRunServesInvocationsUntilShutdown(t *testing.T, concurrency int) {
	accepted := make(chan struct{})
	r := onLoopback(t, &localEnd{handle: func(d *delivery) localReply {
		if string(d.event) == "2" {
			close(accepted)
			<-d.ctx.Done()
		}
		return respond(`{"by":"local"}`)
	}})
	defer r.close()
	r.concurrency = concurrency
	var err error
	r.lambda, err = startLambda(t.Context(), lambdaOptions{
		external:       []string{"live-lambda-extension"},
		maxConcurrency: concurrency,
		timeout:        time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := r.listeningOn(r.lambda.addr)
	r.proxyAddr = fmt.Sprint("127.0.0.1:", cfg.port)
	ended := make(chan error, 1)
	go func() { ended <- run(r.ctx, cfg, newLogger(cfg, r.log)) }()
	_, err = r.lambda.waitFor(r.ctx, 0, func(e lambdaEvent) bool { return e.name == "extension registered" })
	if err != nil {
		t.Fatal(err)
	}
	r.startRuntime()
	r.want(r.invoke(`1`), "local")

	var cut invoked
	done := after(0, func() { cut = r.invoke(`2`) })
	<-accepted
	r.lambda.close()
	<-done
	err = <-ended
	if err != nil {
		t.Errorf("run ended with %v", err)
	}
	if cut.what != "Sandbox.Failure" {
		t.Errorf("the invocation cut short ended with %s: %s", cut.what, cut.payload)
	}
	// Two requests have come, and done if the extension has heard of accepted.
	err = r.api.wait(t.Context(), func(n *eventAPICounts) bool {
		return n.open == 1 && n.events["/live-lambda/requests"] >= 3
	})
	if err != nil {
		t.Error(err)
	}
}

// shutdownAPI is Lambda to the extension. It gives one event, and SHUTDOWN when it is told to, and takes
// what comes: the emulated environment would fail the invocation itself.
type shutdownAPI struct {
	*httptest.Server
	registered chan struct{}
	shutdown   chan struct{}
	told       chan string // calls that complete the invocation
}

func startShutdownAPI() *shutdownAPI {
	a := &shutdownAPI{
		registered: make(chan struct{}),
		shutdown:   make(chan struct{}),
		told:       make(chan string, 10),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2020-01-01/extension/register", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"functionName":"f"}`)
		close(a.registered)
	})
	mux.HandleFunc("GET /2020-01-01/extension/event/next", func(w http.ResponseWriter, _ *http.Request) {
		<-a.shutdown
		io.WriteString(w, `{"eventType":"SHUTDOWN","shutdownReason":"spindown"}`)
	})
	mux.HandleFunc("GET "+nextPath, func(w http.ResponseWriter, _ *http.Request) {
		deadline := time.Now().Add(time.Minute)
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", "id-1")
		w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(deadline.UnixMilli()))
		io.WriteString(w, `1`)
	})
	mux.HandleFunc("POST "+invocationPath+"{id}/{what}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		a.told <- fmt.Sprintf("%s %s %s %s %v", r.PathValue("id"), r.PathValue("what"),
			r.Header.Get(typeHeader), body, err)
		w.WriteHeader(http.StatusAccepted)
	})
	a.Server = httptest.NewServer(mux)
	return a
}

// SHUTDOWN comes while a local end has an invocation and has not answered it: before run returns, the Runtime
// API has an error.
func TestRunTellsOfTheShutdownBeforeItReturns(t *testing.T) {
	t.Parallel()
	taken := make(chan struct{})
	r := onLoopback(t, &localEnd{handle: func(d *delivery) localReply {
		close(taken)
		<-d.ctx.Done()
		return respond(`1`)
	}})
	defer r.close()
	lambda := startShutdownAPI()
	defer lambda.Close()
	cfg := r.listeningOn(lambda.Listener.Addr().String())
	ended := async(func() (bool, error) { return true, run(r.ctx, cfg, newLogger(cfg, r.log)) })
	select {
	case <-lambda.registered:
	case got := <-ended:
		t.Fatal(got.err)
	}
	next := async(func() (*http.Response, error) {
		return http.Get(fmt.Sprint("http://127.0.0.1:", cfg.port, nextPath))
	})
	select {
	case <-taken:
	case got := <-next:
		t.Errorf("the runtime got %v, %v; the log:\n%s", got.value, got.err, r.log)
	}
	close(lambda.shutdown)
	got := <-ended
	if got.err != nil {
		t.Errorf("run ended with %v", got.err)
	}
	lambda.Close()
	close(lambda.told)
	var told []string
	for call := range lambda.told {
		told = append(told, call)
	}
	want := `id-1 error LiveLambda.NoAnswer {"errorMessage":"live-lambda: the execution environment shut ` +
		`down before there was an answer","errorType":"LiveLambda.NoAnswer"} <nil>`
	if !slices.Equal(told, []string{want}) {
		t.Errorf("the Runtime API was told %q, want %q", told, want)
	}
}

// Lambda's own deadline passes, whatever the extension thinks: the environment is reset.
func TestEnvironmentWorksAfterLambdaTimedOut(t *testing.T) {
	t.Parallel()
	rigTest(t, "", rigOptions{}, func(r *rig) {
		expire := make(chan struct{})
		r.local.handle = func(d *delivery) localReply {
			if string(d.event) == "1" {
				close(expire)
				time.Sleep(time.Minute)
			}
			return respond(`{"by":"local"}`)
		}
		o := r.invokeRequest(invokeRequest{payload: []byte(`1`), expire: expire})
		if o.what != "Sandbox.Timedout" {
			r.t.Errorf("got %s", o.what)
		}
		r.want(r.invoke(`2`), "local")
		time.Sleep(2 * time.Minute) // the late answer comes
		r.want(r.invoke(`3`), "local")
		r.wantHandled(3)
	})
}

// Many invocations come at once, as on Managed Instances.
func TestInvocationsAtOnceHaveTheirOwnAnswers(t *testing.T) {
	t.Parallel()
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
		err := r.api.wait(r.ctx, func(c *eventAPICounts) bool {
			return c.busiest <= publishesPerSecond && c.connections == 2
		})
		if err != nil {
			r.t.Error(err)
		}
	})
}
