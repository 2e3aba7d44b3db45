//go:build !layer

package main

// fake_lambda_http.go is what the APIs of the emulated Lambda share: the routes, the guard against web pages,
// replies and injected faults. Requests come in from the runtime and the extensions; the calls are in
// fake_lambda_runtimeapi.go and fake_lambda_extapi.go.

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
)

func (e *lambdaEnv) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, call lambdaCall) { mux.Handle(pattern, e.serve(call)) }
	always := func(pattern string, reply lambdaReply) {
		handle(pattern, func(http.ResponseWriter, *http.Request) lambdaReply { return reply })
	}
	always("GET /2018-06-01/ping", lambdaReply{status: http.StatusOK, body: []byte("pong")})
	handle("GET /2018-06-01/runtime/invocation/next", e.runtimeNext)
	handle("POST /2018-06-01/runtime/invocation/{id}/response", e.runtimeAnswer)
	handle("POST /2018-06-01/runtime/invocation/{id}/error", e.runtimeAnswer)
	handle("POST /2018-06-01/runtime/init/error", e.runtimeInitError)
	if e.snapStart {
		handle("GET /2018-06-01/runtime/restore/next", e.runtimeRestoreNext)
		handle("POST /2018-06-01/runtime/restore/error", e.runtimeInitError)
		handle("GET "+lambdaCredentialsPath, e.credentialsEndpoint)
	}
	handle("POST /2020-01-01/extension/register", e.extensionRegister)
	handle("GET /2020-01-01/extension/event/next", e.extensionNext)
	handle("POST /2020-01-01/extension/init/error", e.extensionError)
	handle("POST /2020-01-01/extension/exit/error", e.extensionError)
	// RIE's replies for APIs that it does not have, made so that extensions go on without them.
	always("PUT /2020-08-15/logs", lambdaRefusal(
		http.StatusAccepted, "Logs.NotSupported", "Logs API is not supported"))
	always("PUT /2022-07-01/telemetry", lambdaRefusal(
		http.StatusAccepted, "Telemetry.NotSupported", "Telemetry API is not supported"))
	return lambdaLoopback(mux)
}

// lambdaLoopback refuses what lambdaForeign finds.
func lambdaLoopback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		why := lambdaForeign(r)
		if why != "" {
			lambdaRefusal(http.StatusForbidden, "AccessDeniedException", "%s", why).send(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// lambdaForeign says why a request is to be refused, if a web page in this machine's browser could have sent
// it: to a name that was made to point here, or from any page.
func lambdaForeign(r *http.Request) (why string) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	switch {
	case host != "localhost" && !net.ParseIP(host).IsLoopback():
		return "the Host header is not a loopback address"
	case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "":
		return "not for browsers"
	}
	return ""
}

// lambdaCall is one call of the APIs; w is there for its connection's deadlines alone.
type lambdaCall func(w http.ResponseWriter, r *http.Request) lambdaReply

// lambdaReply is what comes back. The zero value breaks the connection off.
type lambdaReply struct {
	status int
	header map[string]string // values that are empty are left out
	body   []byte            // JSON, unless a Content-Type says otherwise
	refuse string            // the error type in body, if any
	sent   func()            // called when it is out
}

func lambdaJSON(status int, v any) lambdaReply {
	body, _ := json.Marshal(v)
	return lambdaReply{status: status, body: append(body, '\n')}
}

func lambdaRefusal(status int, errorType, format string, args ...any) lambdaReply {
	reply := lambdaJSON(status, map[string]string{
		"errorType":    errorType,
		"errorMessage": fmt.Sprintf(format, args...),
	})
	reply.refuse = errorType
	return reply
}

// lambdaExtensionRefusal is the Extensions API's one way to say no (RIE; the documentation lists 400 too).
func lambdaExtensionRefusal(errorType, format string, args ...any) lambdaReply {
	return lambdaRefusal(http.StatusForbidden, "Extension."+errorType, format, args...)
}

func lambdaNotAllowed(from, to string) lambdaReply {
	return lambdaRefusal(http.StatusForbidden, "InvalidStateTransition",
		"State transition from %s to %s failed for runtime. Error: State transition is not allowed", from, to)
}

var (
	lambdaAccepted  = lambdaJSON(http.StatusAccepted, map[string]string{"status": "OK"})
	lambdaTruncated = lambdaRefusal(
		http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
)

func (reply lambdaReply) send(w http.ResponseWriter) {
	if reply.status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	for name, value := range reply.header {
		if value != "" {
			w.Header().Set(name, value)
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(reply.body)))
	w.WriteHeader(reply.status)
	_, _ = w.Write(reply.body) // a client that is gone needs no reply
	if reply.sent != nil {
		_ = http.NewResponseController(w).Flush()
		reply.sent()
	}
}

// serve makes a call and replies, unless a fault is wanted.
func (e *lambdaEnv) serve(call lambdaCall) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var fault lambdaFault
		if e.fault != nil {
			fault = e.fault(r)
		}
		switch {
		case fault == lambdaFault{}:
			call(w, r).send(w)
			return
		case fault.late:
			lost := call(w, r)
			if lost.sent != nil {
				lost.sent()
			}
		default:
			e.recordFault(fault, r)
		}
		fault.reply().send(w)
	}
}

// recordFault records an answer that a fault keeps from being one.
func (e *lambdaEnv) recordFault(fault lambdaFault, r *http.Request) {
	id := r.PathValue("id")
	if id == "" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.record(lambdaEvent{
		name:      "answer",
		who:       "runtime",
		requestID: id,
		kind:      path.Base(r.URL.Path),
		status:    fault.status,
		header:    r.Header.Clone(),
	})
}

func (f lambdaFault) reply() lambdaReply {
	if f.drop {
		return lambdaReply{}
	}
	return lambdaRefusal(f.status, cmp.Or(f.errorType, "InternalServerError"), "injected fault")
}
