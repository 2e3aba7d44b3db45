package main

// extapi.go knows the Lambda Extensions API: registration, the extension's own events, and error reports. main.go alone
// calls it.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// extensionsAPI is one extension's view of the Extensions API at base, an URL without a path.
type extensionsAPI struct {
	base      string
	transport http.RoundTripper
	id        string // Lambda-Extension-Identifier, once registered
}

// function is what registration tells about the function.
type function struct {
	Name    string `json:"functionName"`
	Version string `json:"functionVersion"`
	Handler string `json:"handler"`
}

// apiStatus is an answer other than the one hoped for.
type apiStatus struct {
	call      string
	status    int
	errorType string
}

func (e *apiStatus) Error() string {
	return fmt.Sprintf("%s: %d %s %q", e.call, e.status, http.StatusText(e.status), e.errorType)
}

// register registers the extension under name, which must be its file's name in /opt/extensions, for INVOKE and
// SHUTDOWN. Where INVOKE is refused, as on Lambda Managed Instances, SHUTDOWN alone does.
func (x *extensionsAPI) register(ctx context.Context, name string) (fn function, err error) {
	for _, events := range []string{`["INVOKE","SHUTDOWN"]`, `["SHUTDOWN"]`} {
		var header http.Header
		header, err = x.call(ctx, http.MethodPost, "register", []byte(`{"events":`+events+`}`), &fn, "Lambda-Extension-Name", name)
		if refused, ok := err.(*apiStatus); ok && refused.status < http.StatusInternalServerError {
			continue
		}
		if err == nil {
			x.id = header.Get("Lambda-Extension-Identifier")
		}
		break
	}
	return fn, err
}

// extensionEvent is what the extension's next returns.
type extensionEvent struct {
	EventType      string `json:"eventType"`
	ShutdownReason string `json:"shutdownReason"`
	DeadlineMs     int64  `json:"deadlineMs"` // Unix time
}

// next waits for the extension's next event, for as long as the environment may be frozen.
func (x *extensionsAPI) next(ctx context.Context) (e extensionEvent, err error) {
	_, err = x.call(ctx, http.MethodGet, "event/next", nil, &e)
	return e, err
}

// initError reports that the extension cannot start; the process has to exit afterwards.
func (x *extensionsAPI) initError(ctx context.Context, errorType string, cause error) error {
	_, err := x.call(ctx, http.MethodPost, "init/error", errorJSON(errorType, cause.Error()), nil,
		"Lambda-Extension-Function-Error-Type", errorType)
	return err
}

// call makes one request and decodes a successful answer into result. headers are names and values.
func (x *extensionsAPI) call(ctx context.Context, method, path string, body []byte, result any, headers ...string) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, x.base+"/2020-01-01/extension/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if x.id != "" {
		req.Header.Set("Lambda-Extension-Identifier", x.id)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := x.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("extension/%s: %w", path, err)
	}
	return resp.Header, readAnswer(resp, "extension/"+path, result)
}

// readAnswer reads an answer of the Runtime or Extensions API: into result where it is a success and result is not
// nil, into an *apiStatus otherwise.
func readAnswer(resp *http.Response, call string, result any) error {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case resp.StatusCode >= 300:
		var e struct{ ErrorType string }
		json.Unmarshal(body, &e) // an answer that is not JSON has no error type
		return &apiStatus{call, resp.StatusCode, firstLine(e.ErrorType)}
	case err == nil && result != nil:
		err = json.Unmarshal(body, result)
	}
	if err != nil {
		return fmt.Errorf("%s: read the answer: %w", call, err)
	}
	return nil
}
