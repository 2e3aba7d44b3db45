//go:build !layer

package main

// fake_lambda_extapi_test.go plays extensions in process against the emulated Lambda.

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestLambdaRegistersOrRefusesExtensions(t *testing.T) {
	invoke, both := `{"events":["INVOKE"]}`, `{"events":["INVOKE","SHUTDOWN"]}`
	for name, row := range map[string]struct {
		options lambdaOptions
		names   []string // registered one after another; the last is the one that counts
		body    string
		ready   bool // only after the runtime's next
		errType string
	}{
		"external":  {names: []string{"ours"}, body: both},
		"no events": {names: []string{"ours"}, body: `{}`},
		"no name": {
			names: []string{""}, body: both, errType: "Extension.InvalidExtensionName"},
		"empty body": {names: []string{"ours"}, body: ``, errType: "InvalidRequestFormat"},
		"configuration keys": {
			names: []string{"ours"}, body: `{"configurationKeys":["x"]}`, errType: "InvalidRequestFormat"},
		"unknown event": {
			names: []string{"ours"}, body: `{"events":["FREEZE"]}`, errType: "Extension.InvalidEventType"},
		"internal": {names: []string{"inner"}, body: invoke},
		"internal and SHUTDOWN": {
			names: []string{"inner"}, body: both, errType: "Extension.InvalidEventType"},
		"internal, too late": {
			names: []string{"inner"}, body: invoke, ready: true, errType: "Extension.RegistrationClosed"},
		"twice": {
			names: []string{"ours", "ours"}, body: both, errType: "Extension.InvalidExtensionState"},
		"internal twice": {
			names: []string{"inner", "inner"}, body: invoke, errType: "Extension.InvalidExtensionState"},
		"INVOKE with Managed Instances": {
			options: lambdaOptions{maxConcurrency: 2}, names: []string{"ours"}, body: both,
			errType: "Extension.InvalidEventType"},
		"eleventh": {
			names: []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}, body: invoke,
			errType: "Extension.TooManyExtensions"},
	} {
		t.Run(name, func(t *testing.T) {
			row.options.external = []string{"ours"}
			p := playLambda(t, row.options)
			if row.ready {
				p.holdNext()
				p.await("runtime next", "runtime")
			}
			var got played
			for _, name := range row.names {
				got = p.post(
					"/2020-01-01/extension/register", row.body, "Lambda-Extension-Name", name,
					"Lambda-Extension-Accept-Feature", "x, accountId")
			}
			if row.errType != "" {
				p.want(got, 403, row.errType)
				return
			}
			p.want(got, 200, "")
			want := `{"accountId":"123456789012","functionName":"function","functionVersion":"$LATEST",` +
				`"handler":"index.handler"}` + "\n"
			if got.body != want {
				t.Errorf("got %s, want %s", got.body, want)
			}
		})
	}
}

func TestLambdaRefusesExtensionCallsOutOfTurn(t *testing.T) {
	p := playLambda(t, lambdaOptions{external: []string{"ours"}})
	id := p.register("ours", "INVOKE", "SHUTDOWN")
	const (
		next      = "/2020-01-01/extension/event/next"
		initError = "/2020-01-01/extension/init/error"
		exitError = "/2020-01-01/extension/exit/error"
	)
	p.want(p.get(next), 403, "Extension.MissingExtensionIdentifier")
	p.want(p.get(next, lambdaExtensionHeader, "x"), 403, "Extension.InvalidExtensionIdentifier")
	p.want(p.get(next, lambdaExtensionHeader, newUUID()), 403, "Extension.UnknownExtensionIdentifier")
	p.want(p.post(initError, "", lambdaExtensionHeader, id), 403, "Extension.MissingHeader")
	p.want(p.post(exitError, "", lambdaExtensionHeader, newUUID()), 403,
		"Extension.UnknownExtensionIdentifier")
	p.holdExtensionNext(id)
	p.await("extension next", "ours")
	p.want(p.get(next, lambdaExtensionHeader, id), 403, "Extension.InvalidExtensionState") // one at a time
	p.want(p.post(
		initError, "", lambdaExtensionHeader, id, "Lambda-Extension-Function-Error-Type", "Extension.X"), 403,
		"Extension.InvalidExtensionState")
	p.want(p.post(
		exitError, "", lambdaExtensionHeader, id, "Lambda-Extension-Function-Error-Type", "Extension.X"), 202,
		"")
	err := p.env.ready(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Extension.ExitError") {
		t.Errorf("ready: %v", err)
	}
}

func TestLambdaExtensionInitErrorFailsTheInit(t *testing.T) {
	p := playLambda(t, lambdaOptions{external: []string{"ours"}})
	id := p.register("ours")
	p.want(p.post(
		"/2020-01-01/extension/init/error", "", lambdaExtensionHeader, id,
		"Lambda-Extension-Function-Error-Type", "Extension.X"), 202, "")
	err := p.env.ready(t.Context())
	if err == nil || err.Error() != "Extension.InitError: Extension.X" {
		t.Errorf("ready: %v", err)
	}
}

func TestLambdaExtensionHoldsThePhaseOpen(t *testing.T) {
	p := playLambda(t, lambdaOptions{external: []string{"ours"}, shutdownTimeout: time.Minute})
	id := p.register("ours", "INVOKE", "SHUTDOWN")
	event := p.holdExtensionNext(id)
	expire := make(chan struct{})
	invoked := p.invoke(invokeRequest{requestID: "now", expire: expire})
	p.next()
	<-event
	p.want(p.respond("now", "fine"), 202, "")
	result := <-invoked
	if string(result.payload) != "fine" {
		t.Errorf("result %+v", result)
	}
	p.holdNext()
	close(expire)
	ev := p.await("invoke failed", "")
	if ev.detail != "Sandbox.Timedout" { // never called next
		t.Errorf("event %+v", ev)
	}
	var shutdown struct{ EventType, ShutdownReason string }
	_ = json.Unmarshal([]byte((<-p.holdExtensionNext(id)).body), &shutdown)
	if shutdown.EventType != "SHUTDOWN" || shutdown.ShutdownReason != "timeout" {
		t.Errorf("got %+v", shutdown)
	}
	p.await("shutdown done", "")
	p.want(p.get("/2020-01-01/extension/event/next", lambdaExtensionHeader, id), 403,
		"Extension.UnknownExtensionIdentifier")
}

func TestLambdaSupportsNeitherTelemetryNorLogs(t *testing.T) {
	p := playLambda(t, lambdaOptions{})
	p.want(p.call("PUT", "/2022-07-01/telemetry", nil), 202, "Telemetry.NotSupported")
	p.want(p.call("PUT", "/2020-08-15/logs", nil), 202, "Logs.NotSupported")
}
