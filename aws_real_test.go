//go:build !layer

package main

// aws_real_test.go runs the real AWS CLI against an emulated control plane on loopback: the account of the
// fake, as Lambda, IAM, CloudFormation and the tagging API tell it over HTTP. It takes a minute, so it runs
// only if TEST_AWS_CLI names the directory that the AWS CLI is in.

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// controlPlane answers for a fake's account.
type controlPlane struct {
	fake     *fakeAWS
	requests int      // lists of functions that were asked for; guarded by the fake's mu
	events   []string // that functions were invoked with; guarded by the fake's mu
}

// needsRealCLI returns the directory that the AWS CLI is in.
func needsRealCLI(t *testing.T) string {
	directory := os.Getenv("TEST_AWS_CLI")
	if directory == "" {
		t.Skip("TEST_AWS_CLI does not name the AWS CLI's directory")
	}
	return directory
}

// withRealCLI has the real AWS CLI, which is in directory, see the account of a fake.
func withRealCLI(t *testing.T, f *fakeAWS, directory string) *controlPlane {
	p := &controlPlane{fake: f}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"PATH":             directory + string(os.PathListSeparator) + os.Getenv("PATH"),
		"AWS_ENDPOINT_URL": server.URL, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1",
	} {
		t.Setenv(name, value)
	}
	for _, name := range []string{"AWS_PROFILE", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "") // back to what it is, after the test
		os.Unsetenv(name)
	}
	return p
}

// ServeHTTP has the fake carry out what is asked for. Of each three lists of functions it throttles one.
func (p *controlPlane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.fake.mu.Lock()
	defer p.fake.mu.Unlock()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	list := len(parts) == 2 && parts[1] == "functions"
	if list {
		p.requests++
	}
	switch {
	case list && p.requests%3 == 2:
		answerHTTP(w, serviceError254("ListFunctions", "TooManyRequestsException", "Rate exceeded"))
	case list:
		p.listFunctions(w, r.URL.Query().Get("Marker"))
	case len(parts) > 2 && parts[1] == "functions":
		p.function(w, r.Method, parts, body)
	case len(parts) == 4 && parts[1] == "layers" && r.Method == http.MethodPost:
		p.publishLayer(w, parts[2], body)
	case len(parts) == 4 && parts[1] == "layers":
		answerHTTP(w, p.fake.listLayerVersions(fakeOptions{
			"--layer-name":              parts[2],
			"--compatible-architecture": r.URL.Query().Get("CompatibleArchitecture"),
		}, ""))
	case len(parts) == 2 && parts[1] == "layers":
		answerHTTP(w, p.fake.getLayerVersion(fakeOptions{"--arn": r.URL.Query().Get("Arn")}, ""))
	case strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".GetResources"):
		p.getResources(w, body)
	default:
		p.query(w, body)
	}
}

// listFunctions answers with a page of at most 50, as Lambda.
func (p *controlPlane) listFunctions(w http.ResponseWriter, marker string) {
	start, _ := strconv.Atoi(marker) // 0 for the first page
	var names []string
	for name := range p.fake.functions {
		names = append(names, name)
	}
	slices.Sort(names)
	page := map[string]any{}
	if start+50 < len(names) {
		page["NextMarker"] = strconv.Itoa(start + 50)
	}
	functions := []any{}
	for _, name := range names[start:min(start+50, len(names))] {
		functions = append(functions, p.fake.decoded(name))
	}
	page["Functions"] = functions
	answerHTTP(w, printed(page))
}

// function reads or changes one function.
func (p *controlPlane) function(w http.ResponseWriter, method string, parts []string, body []byte) {
	name, _ := url.PathUnescape(parts[2])
	name, _, _ = strings.Cut(name, ":") // without its version
	options := fakeOptions{"--function-name": name}
	switch {
	case parts[len(parts)-1] == "invocations":
		p.invoke(w, name, body)
	case len(parts) == 3: // what `aws lambda wait` asks for
		p.fake.waitUpdated(options, "")
		answer := p.fake.getFunction(options, "")
		answer.out = `{"Configuration":` + answer.out + "}"
		answerHTTP(w, answer)
	case method == http.MethodPut:
		var update struct {
			RevisionID          string `json:"RevisionId"`
			Layers, Environment json.RawMessage
		}
		json.Unmarshal(body, &update) // what is missing, the fake refuses
		options["--revision-id"] = update.RevisionID
		options["--layers"] = string(update.Layers)
		options["--environment"] = "file:///dev/stdin"
		answerHTTP(w, p.fake.updateFunction(options, string(asciiJSON(update.Environment))))
	default:
		answerHTTP(w, p.fake.getFunction(options, ""))
	}
}

// publishLayer has the fake read the zip from a file, as the AWS CLI does.
func (p *controlPlane) publishLayer(w http.ResponseWriter, name string, body []byte) {
	var request struct {
		Content                 struct{ ZipFile []byte }
		CompatibleArchitectures []string
	}
	json.Unmarshal(body, &request) // what is missing, the fake refuses
	zip := filepath.Join(p.fake.t.TempDir(), "layer.zip")
	os.WriteFile(zip, request.Content.ZipFile, 0o600)
	answerHTTP(w, p.fake.publishLayerVersion(fakeOptions{
		"--layer-name":               name,
		"--zip-file":                 "fileb://" + zip,
		"--compatible-architectures": strings.Join(request.CompatibleArchitectures, ","),
	}, ""))
}

// invoke answers as a function, and keeps the event.
func (p *controlPlane) invoke(w http.ResponseWriter, name string, event []byte) {
	p.events = append(p.events, string(event))
	if p.fake.functions[name] == nil {
		answerHTTP(w, serviceError254("Invoke", "ResourceNotFoundException", "Function not found: %s", name))
		return
	}
	said := p.fake.invoked
	if said.functionError != "" {
		w.Header().Set("X-Amz-Function-Error", said.functionError)
	}
	w.Header().Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString([]byte(said.log)))
	if said.answer == "" {
		w.WriteHeader(http.StatusInternalServerError)
	}
	io.WriteString(w, said.answer)
}

func (p *controlPlane) getResources(w http.ResponseWriter, body []byte) {
	var request struct {
		TagFilters          json.RawMessage
		ResourceTypeFilters []string
	}
	json.Unmarshal(body, &request)
	answerHTTP(w, p.fake.getResources(fakeOptions{
		"--tag-filters":           string(request.TagFilters),
		"--resource-type-filters": strings.Join(request.ResourceTypeFilters, ","),
	}, ""))
}

// query answers calls of IAM, CloudFormation and STS, which are forms and answered in XML.
func (p *controlPlane) query(w http.ResponseWriter, body []byte) {
	form, _ := url.ParseQuery(string(body))
	options := fakeOptions{
		"--role-name": form.Get("RoleName"), "--policy-arn": form.Get("PolicyArn"),
		"--entity-filter": form.Get("EntityFilter"), "--stack-name": form.Get("StackName"),
		"--template-body": "file:///dev/stdin", "--capabilities": form.Get("Capabilities.member.1"),
		"--role-arn": form.Get("RoleArn"), "--role-session-name": form.Get("RoleSessionName"),
	}
	for name, known := range fakeCommands {
		waits := strings.Contains(name, " wait ") // for an operation that another command is for
		if waits || known.operation != form.Get("Action") {
			continue
		}
		answer := known.run(p.fake, options, form.Get("TemplateBody"))
		if answer.status != 0 {
			said := newAWSError("", answer.err, io.EOF)
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, "<ErrorResponse><Error>%s</Error></ErrorResponse>",
				xmlText(map[string]any{"Code": said.code, "Message": said.message}))
			return
		}
		var value any
		json.Unmarshal([]byte(answer.out), &value) // there may be nothing
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, "<%[1]sResponse><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>", known.operation,
			xmlText(value))
	}
}

// xmlText writes a value as the query protocol does: items of a list are members.
func xmlText(value any) string {
	var text strings.Builder
	switch v := value.(type) {
	case map[string]any:
		for name, field := range v {
			fmt.Fprintf(&text, "<%[1]s>%[2]s</%[1]s>", name, xmlText(field))
		}
	case []any:
		for _, item := range v {
			fmt.Fprintf(&text, "<member>%s</member>", xmlText(item))
		}
	case string:
		xml.EscapeText(&text, []byte(v))
	}
	return text.String()
}

// answerHTTP answers as a service what the fake answers as the AWS CLI.
func answerHTTP(w http.ResponseWriter, a fakeAnswer) {
	if a.status == 0 {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, a.out)
		return
	}
	said := newAWSError("", a.err, io.EOF)
	status := map[string]int{
		"ResourceNotFoundException":   http.StatusNotFound,
		"PreconditionFailedException": http.StatusPreconditionFailed,
		"ResourceConflictException":   http.StatusConflict,
		"TooManyRequestsException":    http.StatusTooManyRequests,
	}[said.code]
	w.Header().Set("x-amzn-ErrorType", said.code)
	w.WriteHeader(max(status, http.StatusBadRequest))
	json.NewEncoder(w).Encode(map[string]string{"message": said.message})
}

// All that attach, status and detach ask for, in an account of 500 functions, of which 3 are attached.
func TestRealCLIAttachesListsAndDetaches(t *testing.T) {
	directory := needsRealCLI(t)
	f := newFakeAWS(t)
	p := withRealCLI(t, f, directory)
	for i := range 500 {
		f.function(fmt.Sprintf("plain-%03d", i), functionKinds["with variables of ours"])
	}
	f.function("orders-get", functionKinds["with everything"])
	f.function("orders-put", functionKinds["with both wrappers"])
	f.function("bills", nil)
	f.tags["bills"] = map[string]string{"team": "bills & co"}
	f.resources["shop"] = []fakeResource{
		{ResourceType: "AWS::Lambda::Function", PhysicalResourceID: "orders-put",
			ResourceStatus: "CREATE_COMPLETE"},
	}
	before := f.snapshot()
	r := f.run("attach", "--stack", "dev", "--attach-policy", "--seal", "--for", "2h", "--yes",
		"orders-g*", "tag:team=bills & co", "stack:shop")
	if r.status != 0 ||
		!strings.HasSuffix(r.out, "\norders-get: attached\nbills: attached\norders-put: attached\n") {
		t.Fatalf("attach: got %+v", r)
	}
	p.requests = 0
	r = f.run("status", "--stack", "dev")
	if r.status != 0 || !strings.HasSuffix(r.out, "\n3 functions carry the layer; nothing is odd\n") {
		t.Errorf("status: got %+v", r)
	}
	if p.requests != 11+5 { // pages, and those that were throttled
		t.Errorf("status asked for %d pages", p.requests)
	}
	r = f.run("detach", "--all", "--yes")
	if r.status != 0 ||
		!strings.HasSuffix(r.out, "\nbills: detached\norders-get: detached\norders-put: detached\n") {
		t.Errorf("detach: got %+v", r)
	}
	f.want(before)
	r = f.run("attach", "--stack", "dev", "--yes", "gone")
	if r.status != 1 || !strings.HasPrefix(r.err,
		"gone: aws lambda get-function-configuration: ResourceNotFoundException: Function not found: ") {
		t.Errorf("attach gone: got %+v", r)
	}
}

// From nothing to an invocation and back: what is made stays, and the function is as before.
func TestRealCLILendsAFunctionFromNothing(t *testing.T) {
	directory := needsRealCLI(t)
	r, f, env := newAttachedAPI(t)
	withRealCLI(t, f, directory)
	withZip(t)
	f.stacks["dev"] = append(f.stacks["dev"],
		fakeOutput{OutputKey: "LiveLambdaAppsyncRealtimeHost", OutputValue: "events.example.com"})
	before := string(f.functions["orders"].config)
	f.turn()
	c := r.commandIn(env, "", append([]string{"local", "--attach", "orders", "--assume-role", "--yes", "--"},
		testCommand("1")...)...)
	c.stdout.wait(r, "waiting for invocations")
	call := r.send(task{Do: "env"}, r.context())
	body := string(r.await(call).body)
	call.finish()
	if !strings.Contains(body, `"AWS_ACCESS_KEY_ID=ASIAROLE"`) || !strings.Contains(body, secretValue) {
		t.Errorf("the process has %s", body)
	}
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
	f.turn()
	after := string(f.functions["orders"].config)
	if after != before || f.stacks[usualStack] == nil || len(f.layers[layerName+"arm64"]) != 3 {
		t.Errorf("it left %s, stacks %v, layers %v", after, f.stacks, f.layers)
	}
	t.Log(c.stdout.String())
}

// The event is not ASCII and larger than a pipe, and the log says that the deployed code has run.
func TestRealCLISends(t *testing.T) {
	directory := needsRealCLI(t)
	f := newFakeAWS(t)
	p := withRealCLI(t, f, directory)
	f.function("orders", map[string]any{"Environment": map[string]any{
		"Variables": map[string]any{routeVariable: "x-dev"}}})
	f.invoked = fakeInvocation{
		answer: `{"ok":"ü"}`,
		log:    layerText("11-22", "outcome=deployed ms=1 reason=late") + "REPORT RequestId: 11-22\n",
	}
	event := `{"text":"` + strings.Repeat("ü", 1<<20) + `"}`
	f.answer = event
	r := f.run("send", "orders", "--stage", "alice", "--qualifier", "live", "--region", "eu-west-2")
	const told = "live-lambda send: for stage alice the event has the token x-dev, at x-dev\n"
	const ran = "live-lambda send: the deployed code ran: late\n"
	want := result{out: `{"ok":"ü"}` + "\n", err: told + f.invoked.log + ran}
	if r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
	sent := strings.TrimSuffix(event, "}") + `,"x-dev":"alice"}`
	if len(p.events) != 1 || p.events[0] != sent {
		t.Errorf("%d events, and the event is not what was sent", len(p.events))
	}
	f.invoked = fakeInvocation{answer: `{"errorMessage":"late"}`, functionError: "Unhandled"}
	r = f.run("send", "orders", "--event", "iot")
	const failed = "live-lambda send: orders: the function failed (Unhandled): late\n"
	if r.status != 1 || !strings.HasSuffix(r.err, failed) {
		t.Errorf("got %+v", r)
	}
}

// An invocation that has failed on the way may have happened.
func TestRealCLISendsOnce(t *testing.T) {
	directory := needsRealCLI(t)
	f := newFakeAWS(t)
	p := withRealCLI(t, f, directory)
	f.function("orders", nil)
	r := f.run("send", "orders", "--event", "iot")
	if r.status != 1 || r.out != "" || len(p.events) != 1 {
		t.Errorf("got %+v, and %d events", r, len(p.events))
	}
}
