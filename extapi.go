package main

// extapi.go knows the Extensions API: registration and the extension's own events. Only main.go uses it.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// identifierHeader is given at registration, and then says at each call whose it is.
const identifierHeader = "Lambda-Extension-Identifier"

// extensionsAPI is one extension's view of the Extensions API.
type extensionsAPI struct {
	base      string // URL of the API, without a path
	name      string // of the extension: that of its file in /opt/extensions
	id        string // what Lambda knows the extension by, once it is registered
	transport http.RoundTripper
}

// extensionAnswer is what the Extensions API says: of the function when the extension registers, or of the
// extension's next event.
type extensionAnswer struct{ FunctionName, Handler, EventType string }

// register registers the extension. Lambda Managed Instances refuse INVOKE: then it is for SHUTDOWN alone.
func (x *extensionsAPI) register(ctx context.Context) (extensionAnswer, error) {
	header := http.Header{"Lambda-Extension-Name": {x.name}}
	fn, err := x.call(ctx, http.MethodPost, "register", header, `{"events":["INVOKE","SHUTDOWN"]}`)
	if err != nil {
		fn, err = x.call(ctx, http.MethodPost, "register", header, `{"events":["SHUTDOWN"]}`)
	}
	return fn, err
}

// awaitShutdown asks for the extension's events until SHUTDOWN or the end of ctx. INVOKE needs nothing: the
// runtime's call of next, which the proxy holds, keeps the environment from freezing.
func (x *extensionsAPI) awaitShutdown(ctx context.Context, log *slog.Logger) {
	for ctx.Err() == nil {
		event, err := x.next(ctx)
		if event.EventType == "SHUTDOWN" {
			return
		}
		if err != nil {
			log.Error("cannot get the extension's next event; trying again", "error", err)
			sleep(ctx, time.Second)
		}
	}
}

// next waits for the extension's next event, for as long as the environment may be frozen.
func (x *extensionsAPI) next(ctx context.Context) (extensionAnswer, error) {
	return x.call(ctx, http.MethodGet, "event/next", http.Header{identifierHeader: {x.id}}, "")
}

// initError reports why the extension cannot start, and returns that. The process has to exit then.
func (x *extensionsAPI) initError(ctx context.Context, errorType string, cause error) error {
	header := http.Header{identifierHeader: {x.id}, "Lambda-Extension-Function-Error-Type": {errorType}}
	_, err := x.call(ctx, http.MethodPost, "init/error", header, string(errorJSON(errorType, cause.Error())))
	return errors.Join(cause, err)
}

// call makes one call of the API. path goes on after /extension/, body is JSON, if there is any.
func (x *extensionsAPI) call(ctx context.Context, method, path string, header http.Header, body string) (
	answer extensionAnswer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, x.base+"/2020-01-01/extension/"+path,
		strings.NewReader(body))
	if err != nil {
		return answer, err
	}
	req.Header = header
	resp, err := roundTrip(x.transport, req, &answer)
	if err != nil {
		return answer, fmt.Errorf("extension/%s: %w", path, err)
	}
	x.id = cmp.Or(resp.Header.Get(identifierHeader), x.id)
	return answer, nil
}
