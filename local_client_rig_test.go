//go:build !layer

package main

// local_client_rig_test.go has what the rigs of both clients share: local_node.mjs and local_python.py run in
// the same function, and get events with the same headers.

import (
	"maps"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"
)

// clientFile returns the program that runs a language's client, as it ships, in a directory of its own.
func clientFile(t testing.TB, lang *language) string {
	t.Helper()
	clients := &clientFiles{directory: t.TempDir()}
	file, err := clients.file(lang)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// functionEnv is the environment of a function whose code is in directory, and whose Runtime API is at api.
func functionEnv(directory, api, handler string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"TZ=:UTC",
		"AWS_LAMBDA_RUNTIME_API=" + api,
		"LAMBDA_TASK_ROOT=" + directory,
		"_HANDLER=" + handler,
		"AWS_LAMBDA_FUNCTION_NAME=orders",
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/orders",
		"AWS_LAMBDA_LOG_STREAM_NAME=2026/01/02/[$LATEST]0123",
		"AWS_REGION=eu-west-1",
	}
}

// giveEvent answers a call of next. The headers come on top of the usual ones, of which an empty value
// removes one.
func giveEvent(rw http.ResponseWriter, id string, event []byte, headers map[string]string) {
	usual := map[string]string{
		"Lambda-Runtime-Aws-Request-Id":       id,
		"Lambda-Runtime-Deadline-Ms":          strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10),
		"Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:123456789012:function:orders",
		"Content-Type":                        "application/json",
		"Content-Length":                      strconv.Itoa(len(event)),
	}
	all := maps.Clone(usual)
	maps.Copy(all, headers)
	for name, value := range all {
		if value == "" && usual[name] != "" {
			rw.Header()[name] = nil // none of net/http's own either
			continue
		}
		rw.Header()[name] = []string{value} // as it is, not in Go's spelling only
	}
	rw.Write(event)
}
