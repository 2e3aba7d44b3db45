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
			read: func(context.Context, string) (map[string]string, error) {
				reads++
				return map[string]string{"A": strings.Repeat("x", reads)}, err
			},
			note:  func(_ string, args ...any) { notes = append(notes, args[1].(error).Error()) },
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

// The variables are the function's, and this machine's credentials stay.
func TestFunctionEnvGivesProcessesTheFunctionsVariables(t *testing.T) {
	r, f, env := newAttachedAPI(t)
	f.function("orders", withVariables(map[string]any{
		"TABLE": secretValue, "PATH": "/nowhere", "LIVE_LAMBDA_STAGE": "x"}))
	f.turn()
	c := r.commandIn(env, "",
		append([]string{"local", "--config", "", "--verbose", "--function-env", "--host",
			"http://" + r.client().http.Host, "--region", "eu-west-1", "--"}, testCommand("1")...)...)
	c.stdout.wait(r, "waiting for invocations")
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

func TestFunctionEnvSaysWhyVariablesAreNotRead(t *testing.T) {
	r, f, env := newAttachedAPI(t)
	f.denied = "get-function-configuration"
	f.turn()
	c := r.commandIn(env, "", append([]string{"local", "--config", "", "--function-env", "--host",
		"http://" + r.client().http.Host, "--region", "eu-west-1", "--"}, testCommand("1")...)...)
	c.stdout.wait(r, "waiting for invocations")
	call := r.send(task{Do: "text", Text: "all the same"}, r.context())
	r.await(call).want(r, "", "all the same")
	call.finish()
	c.stdout.wait(
		r, "orders: its variables are not read: aws lambda get-function-configuration: AccessDenied: ")
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
}

func TestProcessesAreReplacedWhenVariablesChange(t *testing.T) {
	value := "one"
	r := newLocalRig(t, localOptions{
		code: code{command: testCommand("1")},
		variables: func(context.Context, string) (map[string]string, error) {
			return map[string]string{"TABLE": value}, nil
		},
	})
	for _, next := range []string{"one", "two"} {
		cache := r.local.variables
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
