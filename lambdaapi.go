package main

// lambdaapi.go knows Lambda's APIs as far as proxy.go and extapi.go share them: paths, headers, errors, one exchange.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// The Runtime API's paths and headers.
const (
	nextPath       = "/2018-06-01/runtime/invocation/next"
	invocationPath = "/2018-06-01/runtime/invocation/"
	modeHeader     = "Lambda-Runtime-Function-Response-Mode"
	typeHeader     = "Lambda-Runtime-Function-Error-Type"
	bodyHeader     = "Lambda-Runtime-Function-Error-Body"
	causeHeader    = "Lambda-Runtime-Function-Xray-Error-Cause"
	idHeader       = "Lambda-Runtime-Invocation-Id"
	tooLargeType   = "Function.ResponseSizeTooLarge" // Lambda's type of the error of an answer that is larger than it allows

	noDeadline    = 15 * time.Minute // where an event names none: the longest timeout a function can have
	maxHeaderText = 64 << 10         // bytes of a header value from a local end
)

// failure is an invocation's end without an answer of a local end: an error of this program's own.
type failure struct{ errorType, message string }

func (f *failure) Error() string { return f.message }

// errorJSON is Lambda's JSON of an error.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-invokeerror
func errorJSON(errorType, message string) []byte {
	body, _ := json.Marshal(map[string]string{"errorType": errorType, "errorMessage": message}) // strings always marshal
	return body
}

// exchange makes one request and reads the JSON of its answer into answer. It returns an error where there is no answer, and
// one beside the answer that is not a success or not JSON. A host among the headers is sent instead of the URL's.
func exchange(ctx context.Context, transport http.RoundTripper, method, target string, header, trailer http.Header, body io.Reader, answer any) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	req.Header, req.Trailer, req.Host = header, trailer, header.Get("Host")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage))
	if err == nil && resp.StatusCode != http.StatusAccepted { // which says it all
		err = json.Unmarshal(read, answer)
	}
	if resp.StatusCode >= 300 {
		var e struct{ ErrorType string }
		json.Unmarshal(read, &e) // an answer that is not JSON has no error type
		err = fmt.Errorf("%d %s %q", resp.StatusCode, http.StatusText(resp.StatusCode), firstLine(e.ErrorType))
	}
	return resp, err
}

// printable reports whether s may be the value of a header.
func printable(s string) bool {
	return s != "" && len(s) <= maxHeaderText && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) { await(ctx, ctx, time.After(d)) }
