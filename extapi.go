package main

// extapi.go knows the Lambda Extensions API: registration, the extension's own events, and error reports. main.go alone
// calls it.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// extensionsAPI is one extension's view of the Extensions API at base, an URL without a path.
type extensionsAPI struct {
	base, name string // name of the extension: that of its file in /opt/extensions
	id         string // Lambda-Extension-Identifier, once registered
	transport  http.RoundTripper
}

// extensionAnswer is what the Extensions API says: of the function when the extension registers, of the extension's next event,
// or of an error.
type extensionAnswer struct{ FunctionName, FunctionVersion, Handler, EventType, ShutdownReason, ErrorType string }

// register registers the extension for INVOKE and SHUTDOWN; where that is refused, as on Lambda Managed Instances, for
// SHUTDOWN alone.
func (x *extensionsAPI) register(ctx context.Context) (fn extensionAnswer, err error) {
	for _, events := range []string{`["INVOKE","SHUTDOWN"]`, `["SHUTDOWN"]`} {
		if fn, err = x.call(ctx, http.MethodPost, "register", []byte(`{"events":`+events+`}`), ""); err == nil {
			break
		}
	}
	return fn, err
}

// next waits for the extension's next event, for as long as the environment may be frozen.
func (x *extensionsAPI) next(ctx context.Context) (extensionAnswer, error) {
	return x.call(ctx, http.MethodGet, "event/next", nil, "")
}

// initError reports that the extension cannot start; the process has to exit afterwards.
func (x *extensionsAPI) initError(ctx context.Context, errorType string, cause error) error {
	_, err := x.call(ctx, http.MethodPost, "init/error", errorJSON(errorType, cause.Error()), errorType)
	return err
}

// call makes one request.
func (x *extensionsAPI) call(ctx context.Context, method, path string, body []byte, errorType string) (answer extensionAnswer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, x.base+"/2020-01-01/extension/"+path, bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	for name, value := range map[string]string{"Name": x.name, "Identifier": x.id, "Function-Error-Type": errorType} {
		if value != "" {
			req.Header.Set("Lambda-Extension-"+name, value)
		}
	}
	resp, err := x.transport.RoundTrip(req)
	if err == nil {
		x.id = cmp.Or(resp.Header.Get("Lambda-Extension-Identifier"), x.id)
		answer, err = readAnswer(resp)
	}
	if err != nil {
		err = fmt.Errorf("extension/%s: %w", path, err)
	}
	return answer, err
}

// readAnswer reads an answer of the Runtime or Extensions API, and makes an error of one that is not a success.
func readAnswer(resp *http.Response) (answer extensionAnswer, err error) {
	defer resp.Body.Close()
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer)
	if resp.StatusCode >= 300 {
		err = fmt.Errorf("%d %s %q", resp.StatusCode, http.StatusText(resp.StatusCode), firstLine(answer.ErrorType))
	}
	return answer, err
}
