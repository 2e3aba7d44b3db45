//go:build !layer

package main

// fake_lambda_log_test.go tests the log that comes with an answer.

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// logOf invokes the helper and returns the log that comes with its answer.
func logOf(t *testing.T, env *lambdaEnv, do string) string {
	t.Helper()
	result, err := env.invoke(t.Context(), invokeRequest{payload: []byte(do), requestID: "id", tail: true})
	if err != nil {
		t.Fatal(err)
	}
	return string(result.log)
}

// All of it is there, though the pipe and the answer are two ways. Nothing of the invocation before is, which
// prints more than is read at once.
func TestLogTailHasWhatOneInvocationPrinted(t *testing.T) {
	t.Parallel()
	env := launchLambda(t, lambdaOptions{layerDir: lambdaLayer(t)})
	for i := range 10 {
		invokeLambda(t, env, "print "+strings.Repeat("zero\n", 10000))
		line := fmt.Sprint("line ", i)
		want := regexp.MustCompile(`^START RequestId: id Version: \$LATEST\n` + line + `\n` +
			`END RequestId: id\nREPORT RequestId: id\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\t` +
			`Memory Size: 128 MB(\tInit Duration: \d+\.\d\d ms)?\n$`)
		if log := logOf(t, env, "print "+line); !want.MatchString(log) {
			t.Fatalf("log of %s: %q", line, log)
		}
	}
}

func TestLogTailIsTheLast4KB(t *testing.T) {
	env := launchLambda(t, lambdaOptions{layerDir: lambdaLayer(t)})
	log := logOf(t, env, "print "+strings.Repeat("x", 5000)+"\nlast")
	if len(log) != 4096 || !strings.HasPrefix(log, "xxx") || !strings.Contains(log, "x\nlast\nEND ") {
		t.Errorf("log of %d bytes: %q", len(log), log)
	}
}

func TestLogTailHasWhatARuntimePrintedBeforeItEnded(t *testing.T) {
	env := launchLambda(t, lambdaOptions{layerDir: lambdaLayer(t)})
	if log := logOf(t, env, "print bye, exit"); !strings.Contains(log, "\nbye\nEND ") {
		t.Errorf("log %q", log)
	}
}

func TestLogComesIfItIsAskedFor(t *testing.T) {
	env := launchLambda(t, lambdaOptions{layerDir: lambdaLayer(t)})
	if result := invokeLambda(t, env, "print one"); result.log != nil {
		t.Errorf("log %q", result.log)
	}
}
