package main

// extapi.go knows the Lambda Extensions API: registration and the extension's own events. main.go alone calls it.
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

// extensionsAPI is one extension's view of the Extensions API at base, an URL without a path.
type extensionsAPI struct {
	base, name string // name of the extension: that of its file in /opt/extensions
	id         string // Lambda-Extension-Identifier, once registered
	transport  http.RoundTripper
}

// extensionAnswer is what the Extensions API says: of the function when the extension registers, or of the extension's next
// event.
type extensionAnswer struct{ FunctionName, Handler, EventType string }

// run registers the extension, tells registered of the function or why it is refused, and then asks for the extension's
// events until SHUTDOWN or the end of ctx, each for as long as the environment may be frozen. INVOKE needs nothing: the
// runtime's call of next, which the proxy holds, keeps the environment from freezing. An error of registered ends it all.
func (x *extensionsAPI) run(ctx context.Context, log *slog.Logger, registered func(extensionAnswer, error) error) error {
	answer, err := x.call(ctx, http.MethodPost, "register", `{"events":["INVOKE","SHUTDOWN"]}`)
	if err != nil { // Lambda Managed Instances have no INVOKE
		answer, err = x.call(ctx, http.MethodPost, "register", `{"events":["SHUTDOWN"]}`)
	}
	err = registered(answer, err)
	for lost := error(nil); err == nil && answer.EventType != "SHUTDOWN" && ctx.Err() == nil; {
		if answer, lost = x.call(ctx, http.MethodGet, "event/next", ""); lost != nil {
			log.Error("cannot get the extension's next event; trying again", "error", lost)
			sleep(ctx, time.Second)
		}
	}
	return err
}

// initError reports why the extension cannot start, and returns that; the process has to exit.
func (x *extensionsAPI) initError(ctx context.Context, errorType string, cause error) error {
	_, err := x.call(ctx, http.MethodPost, "init/error", string(errorJSON(errorType, cause.Error())), errorType)
	return errors.Join(cause, err)
}

// call makes one request; only one of init/error has an error type.
func (x *extensionsAPI) call(ctx context.Context, method, path, body string, errorType ...string) (answer extensionAnswer, err error) {
	header := http.Header{"Lambda-Extension-Name": {x.name}, "Lambda-Extension-Function-Error-Type": errorType, "Lambda-Extension-Identifier": strings.Fields(x.id)} // none at first
	resp, err := exchange(ctx, x.transport, method, x.base+"/2020-01-01/extension/"+path, header, nil, strings.NewReader(body), &answer)
	if err != nil {
		return answer, fmt.Errorf("extension/%s: %w", path, err)
	}
	x.id = cmp.Or(resp.Header.Get("Lambda-Extension-Identifier"), x.id)
	return answer, nil
}
