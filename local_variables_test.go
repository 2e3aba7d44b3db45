//go:build !layer

package main

// local_variables_test.go tests `local --function-env`.

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestVariablesAreReadOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		var err error
		var notes []string
		v := &variableCache{
			read: func(context.Context, string) (awsVariables, error) {
				reads++
				return awsVariables{values: map[string]string{"A": strings.Repeat("x", reads)}}, err
			},
			note:  func(_ string, args ...any) { notes = append(notes, args[2].(string)) },
			known: map[string]knownVariables{},
		}
		for _, step := range []struct {
			after time.Duration
			err   error
			want  string
			reads int
			notes int
		}{
			{after: 0, want: "x", reads: 1},
			{after: 59 * time.Second, want: "x", reads: 1},
			{after: time.Second, want: "xx", reads: 2},
			{after: time.Minute, err: errors.New("denied"), want: "xx", reads: 3, notes: 1},
			{after: time.Second, err: errors.New("denied"), want: "xx", reads: 3, notes: 1},
			{after: time.Minute, err: errors.New("denied"), want: "xx", reads: 4, notes: 1},
			{after: time.Minute, want: "xxxxx", reads: 5, notes: 1},
		} {
			time.Sleep(step.after) // of the bubble's time
			err = step.err
			got := v.of(t.Context(), "orders")["A"]
			if got != step.want || reads != step.reads || len(notes) != step.notes {
				t.Errorf("%+v: got %q, %d reads, notes %q", step, got, reads, notes)
			}
		}
	})
}

// What requests use is read again before it is too old, so that they do not wait; what nothing uses is not.
func TestVariablesInUseAreKeptFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var orders, bills atomic.Int32
		reads := map[string]*atomic.Int32{"orders": &orders, "bills": &bills}
		v := newVariableCaches(localOptions{
			variables: func(_ context.Context, function string) (awsVariables, error) {
				reads[function].Add(1)
				return awsVariables{}, nil
			},
		}, nil)[0]
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			v.keepFresh(ctx, []string{"orders", "bills"})
			close(done)
		}()
		synctest.Wait()
		if orders.Load() != 1 || bills.Load() != 1 {
			t.Errorf("at the start there were %d and %d", orders.Load(), bills.Load())
		}
		for range 36 { // half an hour
			time.Sleep(50 * time.Second)
			synctest.Wait()
			before := orders.Load()
			v.of(ctx, "orders")
			if orders.Load() != before {
				t.Error("a request waited")
			}
		}
		if orders.Load() != 37 || bills.Load() != 18 {
			t.Errorf("after half an hour there were %d and %d", orders.Load(), bills.Load())
		}
		cancel()
		<-done
	})
}

// Credentials are read again before they expire. If that fails, they are taken until then.
func TestCredentialsAreReadAgainBeforeTheyExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		var err error
		caches := newVariableCaches(localOptions{
			role: func(context.Context, string) (awsVariables, error) {
				reads++
				return awsVariables{
					values:  map[string]string{"A": strings.Repeat("x", reads)},
					expires: time.Now().Add(time.Hour),
				}, err
			},
		}, func(string, ...any) {})
		for _, step := range []struct {
			after time.Duration
			err   error
			want  string
			reads int
		}{
			{after: 0, want: "x", reads: 1},
			{after: 44*time.Minute - 1, want: "x", reads: 1},
			{after: 1, want: "xx", reads: 2},
			{after: 44 * time.Minute, err: errors.New("denied"), want: "xx", reads: 3},
			{after: 16*time.Minute - 1, err: errors.New("denied"), want: "xx", reads: 4},
			{after: time.Minute, err: errors.New("denied"), want: "", reads: 5},
			{after: time.Minute, want: "xxxxxx", reads: 6},
		} {
			time.Sleep(step.after) // of the bubble's time
			err = step.err
			got := caches[0].of(t.Context(), "orders")["A"]
			if got != step.want || reads != step.reads {
				t.Errorf("%+v: got %q, %d reads", step, got, reads)
			}
		}
	})
}

// startReading starts the process, which is connected then and has these flags.
func (r *localRig) startReading(env []string, flags ...string) *started {
	args := append([]string{"local", "--config", ""}, flags...)
	args = append(args, "--host", "http://"+r.client().http.Host, "--region", "eu-west-1", "--")
	c := r.commandIn(env, "", append(args, testCommand("1")...)...)
	c.stdout.wait(r, "waiting for invocations")
	return c
}

// The variables are the function's, and this machine's credentials stay.
func TestFunctionEnvGivesProcessesTheFunctionsVariables(t *testing.T) {
	r, f, env := newAttachedAPI(t)
	f.function("orders", withVariables(map[string]any{
		"TABLE": secretValue, "PATH": "/nowhere", "LIVE_LAMBDA_STAGE": "x"}))
	f.turn()
	c := r.startReading(env, "--verbose", "--function-env")
	for range 2 {
		call := r.send(task{Do: "env"}, r.context())
		body := string(r.await(call).body)
		call.finish()
		var got []string
		err := json.Unmarshal([]byte(body), &got)
		if err != nil || !slices.Contains(got, "TABLE="+secretValue) ||
			slices.Contains(got, "PATH=/nowhere") ||
			!slices.Contains(got, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE") ||
			strings.Contains(body, "LIVE_LAMBDA_STAGE") {
			t.Errorf("%v: got %q", err, got)
		}
	}
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
	f.turn()
	f.wantCalls("get-function-configuration", f.calls)
}

// The role's credentials take the place of this machine's, and are not shown.
func TestAssumeRoleGivesProcessesTheRolesCredentials(t *testing.T) {
	r, f, env := newAttachedAPI(t)
	f.turn()
	c := r.startReading(append(env, "AWS_PROFILE=mine"), "--verbose", "--assume-role")
	for range 2 {
		call := r.send(task{Do: "env"}, r.context())
		body := string(r.await(call).body)
		call.finish()
		var got []string
		err := json.Unmarshal([]byte(body), &got)
		if err != nil || !slices.Contains(got, "AWS_ACCESS_KEY_ID=ASIAROLE") ||
			!slices.Contains(got, "AWS_SECRET_ACCESS_KEY="+secretValue) ||
			!slices.Contains(
				got, "AWS_SESSION_TOKEN=arn:aws:iam::123456789012:role/service/orders-role's token") ||
			strings.Contains(body, "AWS_PROFILE") {
			t.Errorf("%v: got %q", err, got)
		}
	}
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
	f.turn()
	f.wantCalls("get-function-configuration assume-role", f.calls)
	// --verbose prints the answer, which is the environment, and nothing else has it
	shown := c.stdout.String() + c.stderr.String()
	if strings.Count(shown, secretValue) != 2 {
		t.Errorf("the credentials are shown: %s", shown)
	}
}

func TestAssumeRoleSaysWhatTheTrustPolicyLacks(t *testing.T) {
	r, f, env := newAttachedAPI(t)
	f.denied = "assume-role"
	f.turn()
	c := r.startReading(env, "--assume-role")
	call := r.send(task{Do: "text", Text: "all the same"}, r.context())
	r.await(call).want(r, "", "all the same")
	call.finish()
	c.stdout.wait(r, "orders: its role's credentials are not taken: aws sts assume-role: AccessDenied: ")
	c.stdout.wait(r, "; add to the trust policy of role orders-role: {\"Effect\":\"Allow\",\"Action\":"+
		"\"sts:AssumeRole\",\"Principal\":{\"AWS\":\"arn:aws:iam::123456789012:root\"},"+
		"\"Condition\":{\"ArnLike\":"+
		"{\"aws:PrincipalArn\":\"arn:aws:iam::123456789012:role*/Developer\"}}}")
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
}

func TestFunctionEnvSaysWhyVariablesAreNotRead(t *testing.T) {
	r, f, env := newAttachedAPI(t)
	f.denied = "get-function-configuration"
	f.turn()
	c := r.startReading(env, "--function-env")
	call := r.send(task{Do: "text", Text: "all the same"}, r.context())
	r.await(call).want(r, "", "all the same")
	call.finish()
	c.stdout.wait(
		r, "orders: its variables are not read: aws lambda get-function-configuration: AccessDenied: ")
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
}

func TestProcessesAreReplacedWhenVariablesChange(t *testing.T) {
	t.Parallel()
	value := "one"
	r := newLocalRig(t, localOptions{
		code: code{command: testCommand("1")},
		variables: func(context.Context, string) (awsVariables, error) {
			return awsVariables{values: map[string]string{"TABLE": value}}, nil
		},
	})
	for _, next := range []string{"one", "two", "one"} { // the last is somebody's way back
		cache := r.local.variables[0]
		cache.mu.Lock()
		value = next
		clear(cache.known) // as when a minute has passed
		cache.mu.Unlock()
		q := newRequest(taskEvent(task{Do: "env"}), r.context())
		err := r.local.admit(q)
		if err != nil {
			t.Fatal(err)
		}
		r.local.submitWith(t.Context(), q)
		_, body := r.reply(q)
		if !strings.Contains(body, `"TABLE=`+next+`"`) {
			t.Errorf("want %s, got %s", next, body)
		}
	}
}
