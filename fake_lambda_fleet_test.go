//go:build !layer

package main

// fake_lambda_fleet_test.go tests how the emulated function comes to its environments, and who waits.

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// testFleet is a function whose environments are started and do nothing.
func testFleet(t *testing.T, limit int) *lambdaFleet {
	t.Helper()
	f, err := newLambdaFleet(
		lambdaOptions{functionName: "orders"}, limit,
		func(context.Context) (*lambdaEnv, error) { return &lambdaEnv{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// mustTake takes an environment that must be there, or come.
func mustTake(t *testing.T, f *lambdaFleet) *lambdaEnv {
	t.Helper()
	env, err := f.take(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func TestFleetHasAsManyEnvironmentsAsInvocationsAtOnce(t *testing.T) {
	f := testFleet(t, 10)
	one := mustTake(t, f)
	f.release(one)
	if mustTake(t, f) != one {
		t.Error("another environment was started, and one was idle")
	}
	two := mustTake(t, f)
	f.release(one)
	f.release(two)
	if mustTake(t, f) != two || mustTake(t, f) != one || len(f.envs) != 2 {
		t.Errorf("%d environments; want the one that became free last, and then the other", len(f.envs))
	}
}

// They get environments in the order in which they came, and for as long as some become free.
func TestInvocationsOverTheLimitWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := testFleet(t, 1)
		env := mustTake(t, f)
		var got []int
		var mu sync.Mutex
		for i := range 20 {
			go func() {
				mustTake(t, f)
				mu.Lock()
				defer mu.Unlock()
				got = append(got, i)
			}()
			synctest.Wait()
		}
		for range 20 {
			time.Sleep(lambdaPatience - time.Second)
			f.release(env)
			synctest.Wait()
		}
		if !slices.IsSorted(got) || len(got) != 20 {
			t.Errorf("turns %v", got)
		}
	})
}

func TestInvocationIsRefusedIfNoEnvironmentBecomesFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := testFleet(t, 1)
		mustTake(t, f)
		start := time.Now()
		w := httptest.NewRecorder()
		r := httptest.NewRequest(
			http.MethodPost, "http://localhost/2015-03-31/functions/orders/invocations",
			strings.NewReader("1"))
		serveInvoke(f).ServeHTTP(w, r)
		want := `{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}` +
			"\n"
		if w.Code != http.StatusTooManyRequests || w.Body.String() != want ||
			w.Header().Get("X-Amzn-Errortype") != "TooManyRequestsException" ||
			time.Since(start) != lambdaPatience {
			t.Errorf("after %v: %d %s", time.Since(start), w.Code, w.Body)
		}
		_, err := f.take(t.Context(), false)
		if !errors.Is(err, errLambdaBusy) || time.Since(start) != lambdaPatience {
			t.Errorf("the next one: %v after %v, want the same at once", err, time.Since(start))
		}
	})
}

// The queue of asynchronous invocations keeps them until they can run.
func TestAsynchronousInvocationWaitsAsLongAsItTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := testFleet(t, 1)
		env := mustTake(t, f)
		got := make(chan *lambdaEnv)
		go func() {
			later, _ := f.take(t.Context(), true)
			got <- later
		}()
		time.Sleep(100 * lambdaPatience)
		f.release(env)
		if <-got != env {
			t.Error("it was refused")
		}
	})
}

func TestWaitForAnEnvironmentEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := testFleet(t, 1)
		env := mustTake(t, f)
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		result := make(chan error, 1)
		go func() {
			_, err := f.take(ctx, false)
			result <- err
		}()
		synctest.Wait()
		cancel(gone)
		if err := <-result; !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		f.release(env)
		if mustTake(t, f) != env {
			t.Error("the environment went to one who is gone")
		}
	})
}

func TestFleetStartsAnotherIfOneDoesNotStart(t *testing.T) {
	f := testFleet(t, 1)
	start := f.start
	broken := errors.New("broken")
	f.start = func(context.Context) (*lambdaEnv, error) { return nil, broken }
	_, err := f.take(t.Context(), false)
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	f.start = start
	mustTake(t, f)
}

// One has an invocation, one is idle, and one starts while the others end.
func TestFleetEndsAllItsEnvironments(t *testing.T) {
	starting := make(chan struct{})
	goOn := make(chan struct{})
	f, err := newLambdaFleet(lambdaOptions{}, 3, func(ctx context.Context) (*lambdaEnv, error) {
		if ctx.Err() != nil { // the third one
			close(starting)
			<-goOn
		}
		return startLambda(t.Context(), lambdaOptions{shutdownTimeout: time.Millisecond})
	})
	if err != nil {
		t.Fatal(err)
	}
	mustTake(t, f)
	idle := mustTake(t, f)
	third, cancel := context.WithCancel(t.Context())
	cancel()
	var tasks sync.WaitGroup
	tasks.Go(func() { _, _ = f.take(third, false) })
	<-starting
	f.release(idle)
	tasks.Go(f.close)
	<-f.closed
	close(goOn)
	tasks.Wait()
	for i, env := range f.envs {
		select {
		case <-env.closed:
		default:
			t.Errorf("environment %d was not ended", i)
		}
	}
	_, err = f.invoke(t.Context(), invokeRequest{})
	if len(f.envs) != 3 || !errors.Is(err, errLambdaClosed) || f.invokeLater(invokeRequest{}) {
		t.Errorf("%d environments, %v", len(f.envs), err)
	}
}

// The second one runs to its end while the first one is under way.
func TestFleetRunsInvocationsAtOnce(t *testing.T) {
	players := make(chan *lambdaPlayer, 2)
	f, err := newLambdaFleet(lambdaOptions{}, 2, func(context.Context) (*lambdaEnv, error) {
		p := playLambda(t, lambdaOptions{})
		players <- p
		return p.env, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	invoke := func() <-chan string {
		answer := make(chan string, 1)
		go func() { // ends with its answer, or with close
			result, _ := f.invoke(context.Background(), invokeRequest{payload: []byte("1")})
			answer <- string(result.payload)
		}()
		return answer
	}
	outer := invoke()
	first := <-players
	outerID := first.next().id()
	inner := invoke()
	second := <-players
	second.respond(second.next().id(), "inner")
	if got := <-inner; got != "inner" {
		t.Errorf("the second one: %q", got)
	}
	first.respond(outerID, "outer")
	if got := <-outer; got != "outer" {
		t.Errorf("the first one: %q", got)
	}
}
