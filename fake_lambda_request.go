//go:build !layer

package main

// fake_lambda_request.go reads the requests of the emulated Lambda API: which call it is, which function it
// is for, how it is to be invoked, and the event. What AWS refuses, it refuses in AWS's words.
//
// https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
// https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
// https://docs.aws.amazon.com/lambda/latest/api/CommonErrors.html

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Paths, which have the function's name between them, and the size of the client context in base64.
const (
	// https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_RequestSyntax
	lambdaInvokePath   = "/2015-03-31/functions/"
	lambdaInvokeSuffix = "/invocations"

	// https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
	lambdaStreamPath   = "/2021-11-15/functions/"
	lambdaStreamSuffix = "/response-streaming-invocations"

	// https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_RequestParameters
	lambdaMaxClientContext = 3583
)

// lambdaMaxIgnored is how many bytes of an event that is too large are read to no purpose. It is not Lambda's
// number.
const lambdaMaxIgnored = 64 * 1024 * 1024

// lambdaInvokeCall is what one request asks for.
type lambdaInvokeCall struct {
	streams bool   // it is InvokeWithResponseStream
	kind    string // RequestResponse, Event or DryRun
	request invokeRequest
}

// readCall reads a request, or returns how AWS refuses it.
func (f *lambdaFleet) readCall(r *http.Request) (lambdaInvokeCall, error) {
	foreign := lambdaForeign(r)
	if foreign != "" {
		return lambdaInvokeCall{}, lambdaRefuse(http.StatusForbidden, "AccessDeniedException", "%s", foreign)
	}
	call, function, err := lambdaReadPath(r)
	if err != nil {
		return call, err
	}
	qualifier, err := f.readFunction(function, r.URL.Query().Get("Qualifier"))
	if err != nil {
		return call, err
	}
	if err := call.readHeaders(r.Header); err != nil {
		return call, err
	}
	call.request.qualifier = qualifier
	call.request.payload, err = call.readEvent(r)
	return call, err
}

// lambdaReadPath tells the two calls apart, and what stands for the function. Of another path, and of another
// method, AWS says that it cannot tell what to authorize.
func lambdaReadPath(r *http.Request) (call lambdaInvokeCall, function string, err error) {
	path := strings.TrimSuffix(r.URL.EscapedPath(), "/")
	function, isInvoke := lambdaBetween(path, lambdaInvokePath, lambdaInvokeSuffix)
	if !isInvoke {
		function, call.streams = lambdaBetween(path, lambdaStreamPath, lambdaStreamSuffix)
	}
	function, err = url.PathUnescape(function)
	if r.Method != http.MethodPost || err != nil || function == "" {
		return call, "", lambdaRefuse(http.StatusForbidden, "AccessDeniedException",
			"Unable to determine service/operation name to be authorized: here is Invoke, which is POST "+
				"%sNAME%s, and InvokeWithResponseStream, POST %sNAME%s, and nothing else",
			lambdaInvokePath, lambdaInvokeSuffix, lambdaStreamPath, lambdaStreamSuffix)
	}
	return call, function, nil
}

// lambdaBetween returns the one segment of a path that stands between prefix and suffix.
func lambdaBetween(path, prefix, suffix string) (segment string, found bool) {
	rest, hasPrefix := strings.CutPrefix(path, prefix)
	segment, hasSuffix := strings.CutSuffix(rest, suffix)
	if !hasPrefix || !hasSuffix || strings.Contains(segment, "/") {
		return "", false
	}
	return segment, true
}

// The patterns that AWS names in its refusals.
// https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_RequestParameters
const (
	lambdaFunctionSyntax = `(arn:(aws[a-zA-Z-]*)?:lambda:)?` +
		`([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?` +
		`([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?`
	lambdaQualifierSyntax = `\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+`
)

var (
	lambdaFunctionPattern  = regexp.MustCompile(`^(?:` + lambdaFunctionSyntax + `)$`)
	lambdaQualifierPattern = regexp.MustCompile(`^(?:` + lambdaQualifierSyntax + `)$`)
)

// lambdaMaxFunctionName is the longest name, partial or full ARN of a function.
// https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_RequestParameters
const lambdaMaxFunctionName = 170

// lambdaInvalid says that a parameter does not fit its shape.
func lambdaInvalid(value, parameter, want string) error {
	return lambdaRefuse(http.StatusBadRequest, "ValidationException",
		"1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: Member must %s",
		value, parameter, want)
}

// readFunction reads which function a request is for: its name, its ARN or a part of that, each with
// :QUALIFIER or not. It must be this one. It returns the qualifier, which may stand apart.
func (f *lambdaFleet) readFunction(function, apart string) (qualifier string, err error) {
	parts := lambdaFunctionPattern.FindStringSubmatch(function)
	switch {
	case len(function) > lambdaMaxFunctionName:
		return "", lambdaInvalid(
			function, "functionName",
			"have length less than or equal to "+strconv.Itoa(lambdaMaxFunctionName))
	case parts == nil:
		return "", lambdaInvalid(
			function, "functionName", "satisfy regular expression pattern: "+lambdaFunctionSyntax)
	case apart != "" && !lambdaQualifierPattern.MatchString(apart):
		return "", lambdaInvalid(
			apart, "qualifier", "satisfy regular expression pattern: "+lambdaQualifierSyntax)
	}
	region := strings.TrimSuffix(parts[3], ":")
	account := strings.TrimSuffix(parts[8], ":")
	qualifier = parts[12]
	if apart != "" && qualifier != "" && apart != qualifier {
		return "", lambdaRefuse(http.StatusBadRequest, "InvalidParameterValueException",
			"The derived qualifier from the function name does not match the specified qualifier.")
	}
	qualifier = cmp.Or(apart, qualifier)
	return qualifier, f.find(region, account, parts[10], qualifier)
}

// find returns an error if that is not this function. Each alias stands for the version that there is.
func (f *lambdaFleet) find(region, account, name, qualifier string) error {
	arn := lambdaARN(f.region, f.account, name, qualifier)
	_, notNumber := strconv.ParseUint(qualifier, 10, 64)
	switch {
	case region != "" && region != f.region:
		return lambdaRefuse(http.StatusNotFound, "ResourceNotFoundException",
			"Functions from '%s' are not reachable in this region ('%s')", region, f.region)
	case account != "" && account != f.account:
		return lambdaRefuse(http.StatusForbidden, "AccessDeniedException",
			"account %s is not authorized to perform: lambda:InvokeFunction on resource: %s", f.account,
			lambdaARN(f.region, account, name, qualifier))
	case name != f.functionName, notNumber == nil && qualifier != f.version:
		return lambdaRefuse(http.StatusNotFound, "ResourceNotFoundException", "Function not found: %s", arn)
	}
	return nil
}

// readHeaders reads how the function is to be invoked.
func (c *lambdaInvokeCall) readHeaders(h http.Header) error {
	c.kind = cmp.Or(h.Get("X-Amz-Invocation-Type"), "RequestResponse")
	kinds := []string{"DryRun", "RequestResponse"}
	if !c.streams {
		kinds = append(kinds, "Event")
	}
	if err := lambdaEnum(c.kind, "invocationType", kinds...); err != nil {
		return err
	}
	logType := cmp.Or(h.Get("X-Amz-Log-Type"), "None")
	if err := lambdaEnum(logType, "logType", "None", "Tail"); err != nil {
		return err
	}
	id := h.Get("X-Amzn-Requestid")
	if id != "" && !lambdaUUIDPattern.MatchString(id) {
		return lambdaInvalidContent("x-amzn-RequestId is not a UUID")
	}
	context, err := lambdaClientContext(h.Get("X-Amz-Client-Context"))
	if err != nil {
		return lambdaInvalidContent(err.Error())
	}
	c.request.traceID = h.Get("X-Amzn-Trace-Id")
	c.request.tenantID = h.Get("X-Amz-Tenant-Id")
	if c.kind == "RequestResponse" { // an asynchronous invocation gets neither
		c.request.clientContext = context
		c.request.tail = logType == "Tail"
	}
	return nil
}

// lambdaEnum returns an error if value is none of a parameter's values.
func lambdaEnum(value, parameter string, values ...string) error {
	if slices.Contains(values, value) {
		return nil
	}
	return lambdaInvalid(
		value, parameter, "satisfy enum value set: ["+strings.Join(values, ", ")+"]")
}

// lambdaInvalidContent says that the event or a header cannot be read.
func lambdaInvalidContent(message string) error {
	return lambdaRefuse(http.StatusBadRequest, "InvalidRequestContentException", "%s", message)
}

// lambdaClientContext decodes the header into one line of JSON.
func lambdaClientContext(header string) (string, error) {
	//lint:ignore ST1005 Lambda's own words
	errInvalid := errors.New("Client context must be a valid Base64-encoded JSON object")
	if len(header) > lambdaMaxClientContext {
		return "", errors.New(
			"Client context must be at most " + strconv.Itoa(lambdaMaxClientContext) + " bytes of base64")
	}
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

// readEvent reads the body. An empty one is an empty object.
func (c *lambdaInvokeCall) readEvent(r *http.Request) ([]byte, error) {
	if !lambdaMayBeJSON(r.Header.Get("Content-Type")) {
		return nil, lambdaRefuse(http.StatusUnsupportedMediaType, "UnsupportedMediaTypeException",
			"The content type of the Invoke request body is not JSON.")
	}
	limit := int64(lambdaMaxRequest)
	if c.kind == "Event" {
		limit = lambdaMaxAsync
	}
	event, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	switch {
	case int64(len(event)) > limit:
		// A client that is cut off while it sends would not see the answer.
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, lambdaMaxIgnored))
		return nil, lambdaRefuse(http.StatusRequestEntityTooLarge, "RequestTooLargeException",
			"Request must be smaller than %d bytes for the InvokeFunction operation", limit)
	case err != nil:
		return nil, lambdaInvalidContent("Could not read the request body: " + err.Error())
	case len(event) == 0:
		return []byte("{}"), nil
	case !json.Valid(event):
		return nil, lambdaInvalidContent("Could not parse request body into json")
	}
	return event, nil
}

// lambdaMayBeJSON reports whether a body of this type may be an event. AWS's clients send bytes, and curl a
// form, unless they are told otherwise.
func lambdaMayBeJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	switch mediaType {
	case "application/json", "application/octet-stream", "binary/octet-stream",
		"application/x-www-form-urlencoded":
		return err == nil
	}
	return err == nil && strings.HasSuffix(mediaType, "+json")
}
