//go:build !layer

package main

// fake_lambda_sdk_test.go runs AWS's own clients against the emulated Lambda API: the SDKs for JavaScript and
// Go, and the AWS CLI, without credentials. Each is skipped if it is not there: `npm ci` in
// testdata/frameworks, `go mod download` in testdata/sdk-go, and aws on PATH or in the directory that
// TEST_AWS_CLI names.

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sdkLines are what both SDKs' programs print.
const sdkLines = `invoke|200|7||{"a":1}{"c":1}` + ordersARN + `:live|START
invoke|200|7|Unhandled|{"errorMessage":"no"}|
invoke|200|7|Unhandled|{"errorType":"Broke"}|
refused|InvalidRequestContentException|Could not parse request body into json
invoke|202||||
invoke|204|7|||
refused|ValidationException|1 validation error detected: Value 'Later' at 'invocationType' ` +
	`failed to satisfy constraint: Member must satisfy enum value set: [DryRun, RequestResponse, Event]
refused|ResourceNotFoundException|Function not found: arn:aws:lambda:us-east-1:123456789012:function:other
stream|200|7|one two|||START
stream|200|7|one |Unhandled|{"errorType":"Broke"}|START
stream|200|7||Unhandled|{"errorMessage":"no"}|START
refused|InvalidRequestContentException|Could not parse request body into json
`

// startOrders serves the function orders, whose runtime can stream, fail, and break a stream.
func startOrders(t *testing.T) (url string) {
	t.Helper()
	p := playLambda(t, lambdaOptions{functionName: "orders", version: "7"})
	url = p.serveInvokes()
	p.tasks.Go(func() {
		for event := p.next(); event.status == http.StatusOK; event = p.next() {
			p.order(event)
		}
	})
	return url
}

// order answers one event.
func (p *lambdaPlayer) order(event played) {
	switch event.body {
	case `"stream"`:
		p.stream(event.id(), nil, strings.NewReader("one two"))
	case `"break"`:
		p.stream(event.id(), http.Header{
			lambdaErrorTypeHeader: {"Function.Broke"},
			lambdaErrorBodyHeader: {base64.StdEncoding.EncodeToString([]byte(`{"errorType":"Broke"}`))},
		}, strings.NewReader("one "))
	case `"fail"`:
		p.post("/2018-06-01/runtime/invocation/"+event.id()+"/error", `{"errorMessage":"no"}`)
	default:
		p.respond(event.id(), event.body+event.header.Get("Lambda-Runtime-Client-Context")+
			event.header.Get("Lambda-Runtime-Invoked-Function-Arn"))
	}
}

// wantSDKLines runs a program with the URL of an emulated Lambda.
func wantSDKLines(t *testing.T, command *exec.Cmd) {
	t.Helper()
	command.Args = append(command.Args, startOrders(t))
	var warnings bytes.Buffer
	command.Stderr = &warnings
	out, err := command.Output()
	if err != nil || string(out) != sdkLines {
		t.Errorf("%v\n%s\nwant\n%s\n%s", err, out, sdkLines, warnings.String())
	}
}

func TestInvokeAPIServesTheSDKForJavaScript(t *testing.T) {
	t.Parallel()
	wantSDKLines(t, exec.Command("node", filepath.Join(frameworks(t), "sdk.mjs")))
}

func TestInvokeAPIServesTheSDKForGo(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "sdk")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".")
	build.Dir = "testdata/sdk-go"
	build.Env = append(os.Environ(), "GOPROXY=off") // nothing is fetched in a test
	out, err := build.CombinedOutput()
	if err != nil {
		unavailable(t, "AWS SDK for Go: run `go mod download` in testdata/sdk-go: "+string(out))
	}
	wantSDKLines(t, exec.Command(program))
}

// cliPath returns a shell's PATH that has the AWS CLI.
func cliPath(t *testing.T) (path string) {
	t.Helper()
	path = os.Getenv("PATH")
	if directory := os.Getenv("TEST_AWS_CLI"); directory != "" {
		return directory + string(os.PathListSeparator) + path
	}
	_, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("aws is not on PATH, and TEST_AWS_CLI does not name its directory")
	}
	return path
}

// bareShell runs a script on a machine where nothing is set for AWS.
func bareShell(t *testing.T, path, script string) (out string, err error) {
	t.Helper()
	shell := exec.Command("sh", "-c", script)
	shell.Env = []string{"PATH=" + path, "HOME=" + t.TempDir()}
	text, err := shell.CombinedOutput()
	return string(text), err
}

func TestInvokeAPIServesTheCLI(t *testing.T) {
	t.Parallel()
	path := cliPath(t)
	out, err := bareShell(t, path, `cd && printf '"break"' >event &&
aws lambda invoke --no-sign-request --endpoint-url `+startOrders(t)+
		` --region us-east-1 --function-name orders:live \
	--payload fileb://event --log-type Tail --output text \
	--query '[StatusCode, ExecutedVersion, FunctionError]' answer && cat answer`)
	want := "200\t7\tUnhandled\n" + `{"errorType":"Broke"}`
	if err != nil || out != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
}
