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

// lambdaExtension is one that has registered. The environment's mu guards it.
type lambdaExtension struct {
	name     string
	id       string
	external bool // it is a process of its own
	invoke   bool // it has registered for INVOKE
	shutdown bool // it has registered for SHUTDOWN
	called   bool // it has called next at least once
	waiting  bool // it is in next
	busy     bool // INVOKE is out, and it has not called next since
	told     bool // an event is being written to it
	failed   bool // it reported init/error or exit/error
	event    *lambdaExtensionEvent
}

// lambdaExtensionEvent is what next gives to an extension.
type lambdaExtensionEvent struct {
	EventType          string            `json:"eventType"`
	ShutdownReason     string            `json:"shutdownReason,omitempty"`
	DeadlineMs         int64             `json:"deadlineMs"`
	RequestID          string            `json:"requestId,omitempty"`
	InvokedFunctionArn string            `json:"invokedFunctionArn,omitempty"`
	Tracing            map[string]string `json:"tracing,omitempty"`
}

// invokeEvent tells an extension of an invocation.
func (e *lambdaEnv) invokeEvent(inv *lambdaInvocation) *lambdaExtensionEvent {
	return &lambdaExtensionEvent{
		EventType:          "INVOKE",
		DeadlineMs:         inv.deadline.UnixMilli(),
		RequestID:          inv.requestID,
		InvokedFunctionArn: e.arn(inv.qualifier),
		Tracing:            map[string]string{"type": "X-Amzn-Trace-Id", "value": inv.traceID},
	}
}

func (e *lambdaEnv) extensionRegister(_ http.ResponseWriter, r *http.Request) lambdaReply {
	name := r.Header.Get("Lambda-Extension-Name")
	if name == "" {
		return lambdaExtensionRefusal("InvalidExtensionName", "Empty extension name")
	}
	events, err := lambdaReadRegistration(r)
	if err != nil {
		return lambdaRefusal(http.StatusForbidden, "InvalidRequestFormat", "%v", err)
	}
	id, refusal := e.register(name, events)
	if refusal.status != 0 {
		return refusal
	}
	answer := map[string]string{
		"functionName":    e.functionName,
		"functionVersion": e.version,
		"handler":         e.handler,
	}
	for feature := range strings.SplitSeq(r.Header.Get("Lambda-Extension-Accept-Feature"), ",") {
		if strings.TrimSpace(feature) == "accountId" {
			answer["accountId"] = e.account
		}
	}
	reply := lambdaJSON(http.StatusOK, answer)
	reply.header = map[string]string{lambdaExtensionHeader: id}
	return reply
}

// lambdaReadRegistration reads which events an extension registers for.
func lambdaReadRegistration(r *http.Request) ([]string, error) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, lambdaMaxPayload))
	if err != nil {
		return nil, err
	}
	var body struct {
		Events            []string `json:"events"`
		ConfigurationKeys []string `json:"configurationKeys"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, err
	}
	if len(body.ConfigurationKeys) > 0 {
		return nil, errors.New("configurationKeys are deprecated; use environment variables instead")
	}
	return body.Events, nil
}

// register adds an extension. If no file in extensions/ has its name, it is an internal one, which runs in
// the runtime's process.
func (e *lambdaEnv) register(name string, events []string) (id string, refusal lambdaReply) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sb := e.sb
	x := &lambdaExtension{
		name:     name,
		id:       newUUID(),
		external: slices.Contains(sb.external, name),
		invoke:   slices.Contains(events, "INVOKE"),
		shutdown: slices.Contains(events, "SHUTDOWN"),
	}
	refusal = e.checkEvents(x, events)
	if refusal.status == 0 {
		refusal = sb.checkRegistration(x)
	}
	if refusal.status != 0 {
		return "", refusal
	}
	sb.extensions = append(sb.extensions, x)
	e.record(lambdaEvent{name: "extension registered", who: name})
	return x.id, lambdaReply{}
}

// checkEvents refuses the events that an extension may not register for.
func (e *lambdaEnv) checkEvents(x *lambdaExtension, events []string) (refusal lambdaReply) {
	const errorType = "InvalidEventType"
	for _, event := range events {
		switch {
		case event == "INVOKE" && e.managed():
			return lambdaExtensionRefusal(errorType, "INVOKE: not supported with Managed Instances")
		case event == "SHUTDOWN" && !x.external:
			return lambdaExtensionRefusal(
				errorType, "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension")
		case event != "INVOKE" && event != "SHUTDOWN":
			return lambdaExtensionRefusal(errorType, "%s: InvalidEventType", event)
		}
	}
	return lambdaReply{}
}

// checkRegistration refuses an extension that comes too late, twice, or after too many others. The
// environment's mu is held.
func (sb *lambdaSandbox) checkRegistration(x *lambdaExtension) (refusal lambdaReply) {
	known := len(sb.external)
	for _, other := range sb.extensions {
		if !other.external {
			known++
		}
	}
	switch {
	case !x.external && sb.state != lambdaStarted:
		return lambdaExtensionRefusal("RegistrationClosed", "Extension registration closed already")
	case sb.extension(x.name) != nil:
		return lambdaExtensionRefusal("InvalidExtensionState", "Extension with this name already registered")
	case !x.external && known >= lambdaMaxExtensions:
		return lambdaExtensionRefusal(
			"TooManyExtensions", "Extension limit (%d) reached", lambdaMaxExtensions)
	}
	return lambdaReply{}
}

var lambdaUUIDPattern = regexp.MustCompile(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)

// identify finds the extension that a call is from. e.mu is held.
func (e *lambdaEnv) identify(r *http.Request) (*lambdaExtension, lambdaReply) {
	id := r.Header.Get(lambdaExtensionHeader)
	i := slices.IndexFunc(e.sb.extensions, func(x *lambdaExtension) bool { return x.id == id })
	switch {
	case id == "":
		return nil, lambdaExtensionRefusal(
			"MissingExtensionIdentifier", "Missing %s header", lambdaExtensionHeader)
	case !lambdaUUIDPattern.MatchString(id):
		return nil, lambdaExtensionRefusal("InvalidExtensionIdentifier", "Invalid %s", lambdaExtensionHeader)
	case i < 0:
		return nil, lambdaExtensionRefusal("UnknownExtensionIdentifier", "Unknown extension %s", id)
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
		return lambdaExtensionRefusal(
			"InvalidExtensionState", "next is not allowed now for extension %s", x.name)
	}
	sb := e.sb
	x.waiting = true
	x.called = true
	x.busy = x.event != nil
	e.record(lambdaEvent{name: "extension next", who: x.name})
	gone := e.await(r.Context(), func() bool {
		return sb.over || x.event != nil && r.Context().Err() == nil
	})
	x.waiting = false
	if gone != nil || sb.over {
		return lambdaReply{}
	}
	return e.extensionEvent(x)
}

// extensionEvent is the reply that takes an extension its event. e.mu is held.
func (e *lambdaEnv) extensionEvent(x *lambdaExtension) lambdaReply {
	event := x.event
	x.event = nil
	x.told = true
	e.record(lambdaEvent{
		name:      "event delivered",
		who:       x.name,
		requestID: event.RequestID,
		detail:    event.EventType,
	})
	reply := lambdaJSON(http.StatusOK, event)
	if event.EventType == "INVOKE" {
		reply.header = map[string]string{"Lambda-Extension-Event-Identifier": newUUID()}
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
	x, refusal := e.identify(r)
	if refusal.status != 0 {
		return refusal
	}
	reported := r.Header.Get("Lambda-Extension-Function-Error-Type")
	if reported == "" {
		return lambdaExtensionRefusal("MissingHeader", "Lambda-Extension-Function-Error-Type not found")
	}
	fatal := "Extension.ExitError"
	if strings.HasSuffix(r.URL.Path, "/init/error") {
		fatal = "Extension.InitError"
	}
	if fatal == "Extension.InitError" && x.called {
		return lambdaExtensionRefusal(
			"InvalidExtensionState", "init/error is not allowed after next for extension %s", x.name)
	}
	x.failed = true
	e.fail(e.sb, &lambdaFailure{errorType: fatal, message: reported})
	return lambdaAccepted
}
