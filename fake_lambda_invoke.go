//go:build !layer

package main

// fake_lambda_invoke.go is the Lambda API's Invoke for emulated functions, without authentication, to
// loopback names only. HTTP requests come in and become invocations; answers go out, streamed ones as they
// come.
//
// https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// serveInvoke serves Invoke for some functions.
//
// A convenience that Lambda has not: what a function streams reaches the caller as it comes. An error in the
// middle then shows in the trailer X-Amz-Function-Error. Asynchronous invocations are not retried.
func serveInvoke(envs ...*lambdaEnv) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/{name}/invocations",
		func(w http.ResponseWriter, r *http.Request) {
			name, qualifier := lambdaFunction(r)
			i := slices.IndexFunc(envs, func(e *lambdaEnv) bool { return e.functionName == name })
			if i < 0 {
				lambdaAPIError(
					w, http.StatusNotFound, "ResourceNotFoundException", "Function not found: "+name)
				return
			}
			envs[i].serveInvocation(w, r, qualifier)
		})
	return lambdaLoopback(mux)
}

// lambdaFunction reads which function a request invokes: NAME, ACCOUNT:function:NAME or the ARN, each with
// :QUALIFIER or not. The query's Qualifier comes first.
func lambdaFunction(r *http.Request) (name, qualifier string) {
	name = r.PathValue("name")
	_, rest, ok := strings.Cut(name, "function:")
	if ok {
		name = rest
	}
	name, qualifier, _ = strings.Cut(name, ":")
	return name, cmp.Or(r.URL.Query().Get("Qualifier"), qualifier)
}

func lambdaAPIError(w http.ResponseWriter, status int, errorType, message string) {
	w.Header().Set("X-Amzn-Errortype", errorType)
	lambdaJSON(status, map[string]string{"Type": "User", "message": message}).send(w)
}

func (e *lambdaEnv) serveInvocation(w http.ResponseWriter, r *http.Request, qualifier string) {
	kind := cmp.Or(r.Header.Get("X-Amz-Invocation-Type"), "RequestResponse")
	limit := int64(lambdaMaxRequest)
	if kind == "Event" {
		limit = lambdaMaxAsync
	}
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		lambdaAPIError(w, http.StatusRequestEntityTooLarge, "RequestTooLargeException",
			fmt.Sprintf("Request must be smaller than %d bytes for the InvokeFunction operation", limit))
		return
	}
	req, err := lambdaInvokeRequest(r, payload, qualifier)
	if err != nil {
		lambdaAPIError(w, http.StatusBadRequest, "InvalidRequestContentException", err.Error())
		return
	}
	w.Header().Set("X-Amzn-Requestid", req.requestID)
	switch kind {
	case "RequestResponse":
		e.serveAnswer(w, r, req)
	case "Event":
		e.serveAsync(w, req)
	case "DryRun":
		w.WriteHeader(http.StatusNoContent)
	default:
		lambdaAPIError(w, http.StatusBadRequest, "InvalidParameterValueException",
			"X-Amz-Invocation-Type: want RequestResponse, Event or DryRun")
	}
}

// lambdaInvokeRequest is the invocation that a request asks for. An empty body is an empty object.
func lambdaInvokeRequest(r *http.Request, payload []byte, qualifier string) (invokeRequest, error) {
	clientContext, err := lambdaClientContext(r.Header.Get("X-Amz-Client-Context"))
	if err != nil {
		return invokeRequest{}, err
	}
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	if !json.Valid(payload) {
		//lint:ignore ST1005 Lambda's own words
		return invokeRequest{}, errors.New("Could not parse request body into json")
	}
	return invokeRequest{
		payload:       payload,
		qualifier:     qualifier,
		clientContext: clientContext,
		requestID:     newUUID(),
		traceID:       r.Header.Get("X-Amzn-Trace-Id"),
		tenantID:      r.Header.Get("X-Amz-Tenant-Id"),
	}, nil
}

// serveAsync accepts an invocation that nobody waits for, if there is room for one more.
func (e *lambdaEnv) serveAsync(w http.ResponseWriter, req invokeRequest) {
	select {
	case e.async <- struct{}{}:
		e.spawn(func() {
			_, _ = e.invoke(context.Background(), req) // nobody asks what comes of it; the record has it
			<-e.async
		})
		w.WriteHeader(http.StatusAccepted)
	default:
		lambdaAPIError(w, http.StatusTooManyRequests, "TooManyRequestsException", "Rate Exceeded.")
	}
}

// lambdaClientContext decodes the header into one line of JSON.
func lambdaClientContext(header string) (string, error) {
	//lint:ignore ST1005 Lambda's own words
	errInvalid := errors.New("Client context must be a valid Base64-encoded JSON object")
	raw, err := base64.StdEncoding.DecodeString(header)
	if err != nil {
		return "", errInvalid
	}
	if len(raw) == 0 {
		return "", nil
	}
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return "", errInvalid
	}
	return line.String(), nil
}

// serveAnswer invokes the function and sends its answer.
func (e *lambdaEnv) serveAnswer(w http.ResponseWriter, r *http.Request, req invokeRequest) {
	w.Header().Set("X-Amz-Executed-Version", e.version)
	req.onResponse = func(h http.Header) io.Writer {
		if h.Get(lambdaModeHeader) != "streaming" {
			return nil
		}
		return e.beginStream(w, h)
	}
	result, err := e.invoke(r.Context(), req)
	if errors.Is(err, errLambdaClosed) {
		lambdaAPIError(w, http.StatusInternalServerError, "ServiceException", err.Error())
		return
	}
	if err != nil { // the caller is gone
		return
	}
	if result.functionError != "" {
		w.Header().Set("X-Amz-Function-Error", result.functionError)
	}
	if result.streamed {
		result.setTrailer(w.Header())
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
		return
	}
	w.Header().Set("Content-Type", cmp.Or(result.contentType, "application/json"))
	_, _ = w.Write(result.payload)
}

// beginStream sends the headers of a streamed answer, and returns the writer of what follows. A caller that
// does not read must not hold the function, so there is a deadline.
func (e *lambdaEnv) beginStream(w http.ResponseWriter, h http.Header) io.Writer {
	w.Header().Set("Content-Type", cmp.Or(h.Get("Content-Type"), "application/octet-stream"))
	w.Header().Set("Trailer", "X-Amz-Function-Error, "+lambdaErrorTypeHeader+", "+lambdaErrorBodyHeader)
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(e.timeout))
	_ = control.Flush()
	return lambdaFlusher{w: w, control: control}
}

// setTrailer says behind a streamed answer how the function failed, if it did.
func (result *invokeResult) setTrailer(h http.Header) {
	if result.functionError == "" {
		return
	}
	errorBody := result.trailer.Get(lambdaErrorBodyHeader)
	if errorBody == "" {
		errorBody = base64.StdEncoding.EncodeToString(result.payload)
	}
	h.Set(lambdaErrorTypeHeader, result.errorType)
	h.Set(lambdaErrorBodyHeader, errorBody)
}

// lambdaFlusher sends each part of an answer as it comes.
type lambdaFlusher struct {
	w       io.Writer
	control *http.ResponseController
}

func (f lambdaFlusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	return n, errors.Join(err, f.control.Flush())
}
