//go:build !layer

package main

// fake_lambda_invoke.go is Invoke and InvokeWithResponseStream of the Lambda API, for an emulated function,
// without authentication, to loopback names only. HTTP requests come in and become invocations; answers go
// out. What a request says is read in fake_lambda_request.go.
//
// https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
// https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
//
// Asynchronous invocations are not retried, and there are no queues or destinations behind them.

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// lambdaAPIError is a refusal of the Lambda API. Its status codes, and which key has the message, are those
// of the API's model, https://github.com/aws/api-models-aws/tree/main/models/lambda.
type lambdaAPIError struct {
	status    int
	errorType string
	message   string
}

func (e *lambdaAPIError) Error() string { return e.errorType + ": " + e.message }

func lambdaRefuse(status int, errorType, format string, args ...any) *lambdaAPIError {
	return &lambdaAPIError{status: status, errorType: errorType, message: fmt.Sprintf(format, args...)}
}

// send sends the error as AWS's clients read it: the type in a header, and the message in JSON.
// https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html#operation-error-serialization
func (e *lambdaAPIError) send(w http.ResponseWriter) {
	w.Header().Set("X-Amzn-Errortype", e.errorType)
	body := map[string]string{"message": e.message}
	switch e.errorType {
	case "ResourceNotFoundException":
		body = map[string]string{"Type": "User", "Message": e.message}
	case "ServiceException":
		body = map[string]string{"Type": "Service", "Message": e.message}
	case "AccessDeniedException":
		body = map[string]string{"Message": e.message}
	case "ValidationException":
	case "TooManyRequestsException":
		body["Type"] = "User"
		body["Reason"] = "ConcurrentInvocationLimitExceeded"
	default:
		body["Type"] = "User"
	}
	lambdaJSON(e.status, body).send(w)
}

// serveInvoke serves both calls for one function.
func serveInvoke(f *lambdaFleet) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amzn-Requestid", newUUID())
		call, err := f.readCall(r)
		if err == nil {
			err = f.serveCall(w, r, call)
		}
		if err == nil || r.Context().Err() != nil { // the caller has its answer, or is gone
			return
		}
		lambdaAsAPIError(err).send(w)
	})
}

// lambdaAsAPIError is what the API says to an error.
func lambdaAsAPIError(err error) *lambdaAPIError {
	var refused *lambdaAPIError
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, errLambdaBusy):
		return lambdaRefuse(http.StatusTooManyRequests, "TooManyRequestsException", "Rate Exceeded.")
	}
	return lambdaRefuse(http.StatusInternalServerError, "ServiceException", "%v", err)
}

// serveCall carries out what a call asks for. After an error nothing has been sent.
func (f *lambdaFleet) serveCall(w http.ResponseWriter, r *http.Request, call lambdaInvokeCall) error {
	call.request.requestID = w.Header().Get("X-Amzn-Requestid")
	if call.kind == "Event" {
		if !f.invokeLater(call.request) {
			return errLambdaBusy
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	w.Header().Set("X-Amz-Executed-Version", f.version)
	switch {
	case call.kind == "DryRun":
		w.WriteHeader(http.StatusNoContent)
		return nil
	case call.streams:
		return f.serveStream(w, r, call.request)
	}
	return f.serveAnswer(w, r, call.request)
}

// serveAnswer invokes the function and sends its answer in one piece. A function that streams is waited for,
// so that an error in the middle of its stream shows as one.
func (f *lambdaFleet) serveAnswer(w http.ResponseWriter, r *http.Request, req invokeRequest) error {
	result, err := f.invoke(r.Context(), req)
	if err != nil {
		return err
	}
	h := w.Header()
	body := result.payload
	h.Set("Content-Type", cmp.Or(result.contentType, "application/json"))
	if result.functionError != "" {
		h.Set("X-Amz-Function-Error", result.functionError)
		h.Set("Content-Type", "application/json")
		body = result.errorBody()
	}
	if req.tail {
		h.Set("X-Amz-Log-Result", lambdaLogResult(result.log))
	}
	_, _ = w.Write(body)
	return nil
}

// lambdaLogResult is the end of a log as the API has it.
func lambdaLogResult(log []byte) string { return base64.StdEncoding.EncodeToString(log) }

// errorBody is the JSON of the error that a function has answered with, if need be in its stream's trailer.
func (result *invokeResult) errorBody() []byte {
	body, err := base64.StdEncoding.DecodeString(result.trailer.Get(lambdaErrorBodyHeader))
	if err != nil || len(body) == 0 {
		return result.payload
	}
	return body
}

// serveStream invokes the function and sends its answer as it comes.
func (f *lambdaFleet) serveStream(w http.ResponseWriter, r *http.Request, req invokeRequest) error {
	stream := lambdaEventStream{w: w, timeout: f.timeout}
	req.onResponse = func(http.Header) io.Writer {
		stream.begin()
		return stream
	}
	result, err := f.invoke(r.Context(), req)
	if err != nil {
		return err
	}
	if !result.streamed {
		stream.begin()
	}
	stream.complete(result)
	return nil
}
