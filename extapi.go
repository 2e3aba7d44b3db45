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
	"net"
	"net/http"
	"strings"
	"time"
)

// maxBroken is how many connections in a row must fail for the Extensions API to be gone.
const maxBroken = 10

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

// register registers the extension for INVOKE and SHUTDOWN. If Lambda refuses that, as Managed Instances do,
// it registers for SHUTDOWN alone, and if that fails too, its error is the one that counts.
func (x *extensionsAPI) register(ctx context.Context) (extensionAnswer, error) {
	fn, err := x.call(ctx, "POST", "register", "", `{"events":["INVOKE","SHUTDOWN"]}`)
	if err != nil {
		fn, err = x.call(ctx, "POST", "register", "", `{"events":["SHUTDOWN"]}`)
	}
	return fn, err
}

// awaitShutdown asks for the extension's events until SHUTDOWN or the end of ctx. Each is waited for as long
// as the environment may be frozen. There is nothing to do for INVOKE: the runtime's call of next, which the
// proxy holds, keeps the environment from freezing.
//
// If one connection after the other is refused or breaks, that is the error: an emulator has died, and its
// extension must not outlive it.
func (x *extensionsAPI) awaitShutdown(ctx context.Context, log *slog.Logger) error {
	broken := 0
	for ctx.Err() == nil {
		event, err := x.call(ctx, "GET", "event/next", "", "")
		if event.EventType == "SHUTDOWN" {
			return nil
		}
		if errors.As(err, new(*net.OpError)) {
			broken++
		} else {
			broken = 0
		}
		if broken == maxBroken {
			return err
		}
		if err != nil {
			log.Error("cannot get the extension's next event; trying again", "error", err)
			sleep(ctx, time.Second)
		}
	}
	return nil
}

// portTaken reports why the extension cannot start, and returns that. Lambda takes no report of an extension
// that is not registered. The process has to exit then.
func (x *extensionsAPI) portTaken(ctx context.Context, cause error) error {
	_, refused := x.register(ctx)
	_, err := x.call(ctx, "POST", "init/error", "LiveLambda.PortTaken",
		string(errorJSON("LiveLambda.PortTaken", cause.Error())))
	return errors.Join(cause, refused, err)
}

// call makes one call of the API. path goes on after /extension/. If there is no body, which is JSON, or no
// error type, they are empty.
func (x *extensionsAPI) call(ctx context.Context, method, path, errorType, body string) (
	answer extensionAnswer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, x.base+"/2020-01-01/extension/"+path,
		strings.NewReader(body))
	if err != nil {
		return answer, err
	}
	req.Header.Set("Lambda-Extension-Name", x.name)
	setHeader(req.Header, "Lambda-Extension-Identifier", x.id)
	setHeader(req.Header, "Lambda-Extension-Function-Error-Type", errorType)
	resp, err := roundTrip(x.transport, req, &answer)
	if err != nil {
		return answer, fmt.Errorf("extension/%s: %w", path, err)
	}
	x.id = cmp.Or(resp.Header.Get("Lambda-Extension-Identifier"), x.id)
	return answer, nil
}
