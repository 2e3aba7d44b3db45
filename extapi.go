package main

// extapi.go knows the Lambda Extensions API: registration and the extension's own events. main.go alone calls it.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// extensionsAPI is one extension's view of the Extensions API at base, an URL without a path.
type extensionsAPI struct {
	base, name string // name of the extension: that of its file in /opt/extensions
	id         string // Lambda-Extension-Identifier, once registered
	transport  http.RoundTripper
}

// extensionAnswer is what the Extensions API says: of the function when the extension registers, or of the extension's next
// event.
type extensionAnswer struct{ FunctionName, Handler, EventType string }

// register registers the extension for INVOKE and SHUTDOWN; where that is refused, as on Lambda Managed Instances, for
// SHUTDOWN alone.
func (x *extensionsAPI) register(ctx context.Context) (fn extensionAnswer, err error) {
	for _, events := range []string{`["INVOKE","SHUTDOWN"]`, `["SHUTDOWN"]`} {
		if fn, err = x.call(ctx, http.MethodPost, "register", `{"events":`+events+`}`); err == nil {
			break
		}
	}
	return fn, err
}

// next waits for the extension's next event, for as long as the environment may be frozen.
func (x *extensionsAPI) next(ctx context.Context) (extensionAnswer, error) {
	return x.call(ctx, http.MethodGet, "event/next", "")
}

// initError reports why the extension, which has registered, cannot start; the process has to exit afterwards.
func (x *extensionsAPI) initError(ctx context.Context, errorType string, cause error) error {
	_, err := x.call(ctx, http.MethodPost, "init/error", string(errorJSON(errorType, cause.Error())), errorType)
	return err
}

// call makes one request; only one of init/error has an error type.
func (x *extensionsAPI) call(ctx context.Context, method, path, body string, errorType ...string) (answer extensionAnswer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, x.base+"/2020-01-01/extension/"+path, strings.NewReader(body))
	if err != nil {
		return answer, err
	}
	req.Header = http.Header{"Lambda-Extension-Name": {x.name}, "Lambda-Extension-Function-Error-Type": errorType, "Lambda-Extension-Identifier": strings.Fields(x.id)} // none at first
	resp, err := x.transport.RoundTrip(req)
	if err == nil {
		x.id = cmp.Or(resp.Header.Get("Lambda-Extension-Identifier"), x.id)
		err = readAnswer(resp, &answer)
	}
	if err != nil {
		err = fmt.Errorf("extension/%s: %w", path, err)
	}
	return answer, err
}

// readAnswer reads an answer of one of Lambda's APIs into answer, and makes an error of one that is not a success.
func readAnswer(resp *http.Response, answer any) error {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case resp.StatusCode >= 300:
		var e struct{ ErrorType string }
		json.Unmarshal(body, &e) // an answer that is not JSON has no error type
		err = fmt.Errorf("%d %s %q", resp.StatusCode, http.StatusText(resp.StatusCode), firstLine(e.ErrorType))
	case err == nil && resp.StatusCode != http.StatusAccepted: // which says it all
		err = json.Unmarshal(body, answer)
	}
	return err
}
