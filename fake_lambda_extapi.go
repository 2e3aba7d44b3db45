//go:build !layer

package main

// fake_lambda_extapi.go is the Extensions API of the emulated Lambda: extensions register here, ask for
// events, and report errors.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

type lambdaExtension struct {
	name, id                   string
	external, invoke, shutdown bool // what it is and registered for
	called, waiting            bool // next: at least once; now
	busy                       bool // INVOKE is out and next not called since
	told                       bool // an event is being written to it
	failed                     bool // it reported init/error or exit/error
	event                      *lambdaExtensionEvent
}

type lambdaExtensionEvent struct {
	EventType          string            `json:"eventType"`
	ShutdownReason     string            `json:"shutdownReason,omitempty"`
	DeadlineMs         int64             `json:"deadlineMs"`
	RequestID          string            `json:"requestId,omitempty"`
	InvokedFunctionArn string            `json:"invokedFunctionArn,omitempty"`
	Tracing            map[string]string `json:"tracing,omitempty"`
}

func (e *lambdaEnv) extensionRegister(_ http.ResponseWriter, r *http.Request) lambdaReply {
	var body struct {
		Events            []string `json:"events"`
		ConfigurationKeys []string `json:"configurationKeys"`
	}
	name := r.Header.Get("Lambda-Extension-Name")
	if name == "" {
		return lambdaRefused("InvalidExtensionName", "Empty extension name")
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, lambdaMaxPayload))
	if err == nil {
		err = json.Unmarshal(raw, &body)
	}
	if err == nil && len(body.ConfigurationKeys) > 0 {
		err = errors.New("configurationKeys are deprecated; use environment variables instead")
	}
	if err != nil {
		return lambdaRefusal(http.StatusForbidden, "InvalidRequestFormat", "%v", err)
	}
	id, refusal := e.register(name, body.Events)
	if refusal.status != 0 {
		return refusal
	}
	answer := map[string]string{
		"functionName": e.functionName, "functionVersion": e.version, "handler": e.handler}
	for feature := range strings.SplitSeq(r.Header.Get("Lambda-Extension-Accept-Feature"), ",") {
		if strings.TrimSpace(feature) == "accountId" {
			answer["accountId"] = e.account
		}
	}
	reply := lambdaJSON(http.StatusOK, answer)
	reply.header = map[string]string{lambdaExtensionHeader: id}
	return reply
}

// register takes a name that is no file in extensions/ for an internal extension, which runs in the runtime's
// process.
func (e *lambdaEnv) register(name string, events []string) (id string, refusal lambdaReply) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sb := e.sb
	x := &lambdaExtension{name: name, id: lambdaUUID(), external: slices.Contains(sb.external, name)}
	for _, event := range events {
		switch {
		case event == "INVOKE" && e.managed():
			return "", lambdaRefused("InvalidEventType", "INVOKE: not supported with Managed Instances")
		case event == "SHUTDOWN" && !x.external:
			return "", lambdaRefused(
				"InvalidEventType", "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension")
		case event != "INVOKE" && event != "SHUTDOWN":
			return "", lambdaRefused("InvalidEventType", "%s: InvalidEventType", event)
		}
	}
	known := len(sb.external)
	for _, other := range sb.extensions {
		if !other.external {
			known++
		}
	}
	switch {
	case !x.external && sb.state != lambdaStarted:
		return "", lambdaRefused("RegistrationClosed", "Extension registration closed already")
	case sb.extension(name) != nil:
		return "", lambdaRefused("InvalidExtensionState", "Extension with this name already registered")
	case !x.external && known >= lambdaMaxExtensions:
		return "", lambdaRefused("TooManyExtensions", "Extension limit (%d) reached", lambdaMaxExtensions)
	}
	x.invoke, x.shutdown = slices.Contains(events, "INVOKE"), slices.Contains(events, "SHUTDOWN")
	sb.extensions = append(sb.extensions, x)
	e.record(lambdaEvent{name: "extension registered", who: name})
	return x.id, lambdaReply{}
}

var lambdaUUIDPattern = regexp.MustCompile(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)

// identify finds the extension that a call is from. e.mu is held.
func (e *lambdaEnv) identify(r *http.Request) (*lambdaExtension, lambdaReply) {
	id := r.Header.Get(lambdaExtensionHeader)
	i := slices.IndexFunc(e.sb.extensions, func(x *lambdaExtension) bool { return x.id == id })
	switch {
	case id == "":
		return nil, lambdaRefused("MissingExtensionIdentifier", "Missing %s header", lambdaExtensionHeader)
	case !lambdaUUIDPattern.MatchString(id):
		return nil, lambdaRefused("InvalidExtensionIdentifier", "Invalid %s", lambdaExtensionHeader)
	case i < 0:
		return nil, lambdaRefused("UnknownExtensionIdentifier", "Unknown extension %s", id)
	}
	return e.sb.extensions[i], lambdaReply{}
}

// extensionNext delivers an event once, unlike the runtime's next.
func (e *lambdaEnv) extensionNext(_ http.ResponseWriter, r *http.Request) lambdaReply {
	e.mu.Lock()
	defer e.mu.Unlock()
	x, refusal := e.identify(r)
	if refusal.status != 0 {
		return refusal
	}
	if x.waiting || x.failed {
		return lambdaRefused("InvalidExtensionState", "next is not allowed now for extension %s", x.name)
	}
	sb := e.sb
	x.waiting, x.called, x.busy = true, true, x.event != nil
	e.record(lambdaEvent{name: "extension next", who: x.name})
	err := e.await(r.Context(), func() bool { return sb.over || x.event != nil && r.Context().Err() == nil })
	x.waiting = false
	if err != nil || sb.over {
		return lambdaReply{}
	}
	event := x.event
	x.event, x.told = nil, true
	e.record(lambdaEvent{
		name: "event delivered", who: x.name, requestID: event.RequestID, detail: event.EventType})
	reply := lambdaJSON(http.StatusOK, event)
	if event.EventType == "INVOKE" {
		reply.header = map[string]string{"Lambda-Extension-Event-Identifier": lambdaUUID()}
	}
	reply.sent = func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		x.told = false
		e.wake()
	}
	return reply
}

// extensionError serves /extension/init/error, allowed until the first next, and /extension/exit/error.
func (e *lambdaEnv) extensionError(_ http.ResponseWriter, r *http.Request) lambdaReply {
	e.mu.Lock()
	defer e.mu.Unlock()
	fatal, errorType := "Extension.ExitError", r.Header.Get("Lambda-Extension-Function-Error-Type")
	if strings.HasSuffix(r.URL.Path, "/init/error") {
		fatal = "Extension.InitError"
	}
	x, refusal := e.identify(r)
	switch {
	case refusal.status != 0:
		return refusal
	case errorType == "":
		return lambdaRefused("MissingHeader", "Lambda-Extension-Function-Error-Type not found")
	case fatal == "Extension.InitError" && x.called:
		return lambdaRefused(
			"InvalidExtensionState", "init/error is not allowed after next for extension %s", x.name)
	}
	x.failed = true
	e.fail(e.sb, &lambdaFailure{errorType: fatal, message: errorType})
	return lambdaAccepted
}
