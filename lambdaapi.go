package main

// lambdaapi.go knows the Runtime API's paths and headers, Lambda's limits, and what both of its APIs have in
// common: errors and one exchange. It uses nothing of the other files.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// The Runtime API, and Lambda's limits.
const (
	// Paths. https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
	nextPath       = "/2018-06-01/runtime/invocation/next" // GET: the next event
	invocationPath = "/2018-06-01/runtime/invocation/"     // POST; ID/response or ID/error follows

	// Headers, and trailers of a stream that broke.
	// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
	idHeader    = "Lambda-Runtime-Invocation-Id"             // of one attempt; the answer repeats it
	modeHeader  = "Lambda-Runtime-Function-Response-Mode"    // of a response: "streaming"
	typeHeader  = "Lambda-Runtime-Function-Error-Type"       // of an error, or a trailer: CATEGORY.REASON
	bodyHeader  = "Lambda-Runtime-Function-Error-Body"       // a trailer: the error's JSON, in base64
	causeHeader = "Lambda-Runtime-Function-Xray-Error-Cause" // of an error: JSON for X-Ray

	// Limits. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	maxPayload   = 6*1024*1024 + 100               // bytes of an event, and of a buffered response
	maxStream    = 200 << 20                       // bytes of a streamed response
	tooLargeType = "Function.ResponseSizeTooLarge" // Lambda's error type for a larger response
	noDeadline   = 90 * time.Minute                // if an event names none: the longest timeout

	// This program's own limits, in bytes.
	maxAnswer     = 2 << 20  // of what Lambda says to a call
	maxErrorType  = 160      // of an error type that goes into a message
	maxHeaderText = 64 << 10 // of a header's value from a local end
)

// failure is an invocation's end without an answer of a local end: an error of this program's own.
type failure struct{ errorType, message string }

func (f *failure) Error() string { return f.message }

// errorJSON is Lambda's JSON of an error.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-invokeerror
func errorJSON(errorType, message string) []byte {
	// Strings always marshal.
	body, _ := json.Marshal(map[string]string{"errorType": errorType, "errorMessage": message})
	return body
}

// roundTrip makes one request and reads the JSON of its answer into what `into` points to. If there is no
// answer, the error is rt's. If the answer is no success, or not JSON, there is an error as well as the
// answer. It quotes nothing of the answer but the error's type, if that is fit for a line of a log.
func roundTrip(rt http.RoundTripper, req *http.Request, into any) (*http.Response, error) {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	status := resp.StatusCode
	if err == nil && status != http.StatusAccepted { // which says it all
		err = json.Unmarshal(body, into)
	}
	if status >= 300 {
		var e struct{ ErrorType string }
		json.Unmarshal(body, &e) // what is not JSON names no type
		err = fmt.Errorf("%d %s", status, http.StatusText(status))
		if printable(e.ErrorType) && len(e.ErrorType) <= maxErrorType {
			err = fmt.Errorf("%w %q", err, e.ErrorType)
		}
	}
	return resp, err
}

// setHeader sets a header, if value may be the value of one.
func setHeader(h http.Header, name, value string) {
	if printable(value) {
		h.Set(name, value)
	}
}

// printable reports whether s may be the value of a header.
func printable(s string) bool {
	return s != "" && len(s) <= maxHeaderText &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
