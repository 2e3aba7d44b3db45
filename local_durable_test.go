//go:build !layer

package main

// local_durable_test.go runs a durable function made with AWS's own SDK on the whole path. Lambda's two calls
// for such functions are answered here.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const executionARN = "arn:aws:lambda:us-east-1:123456789012:function:f:1/durable-execution/order-7/0f0f"

// execution is a durable execution as Lambda keeps it.
type execution struct {
	t *testing.T

	mu         sync.Mutex // guards the following
	token      int        // the number of the one that counts
	operations []*durableOperation
	states     int // calls of GetDurableExecutionState
}

// durableOperation is a step, a wait, or the execution itself.
// https://docs.aws.amazon.com/lambda/latest/api/API_Operation.html
type durableOperation struct {
	ID               string `json:"Id"`
	Type             string
	SubType          string `json:",omitempty"`
	Name             string `json:",omitempty"`
	Status           string
	StartTimestamp   int64
	ExecutionDetails *executionDetails `json:",omitempty"`
	StepDetails      *stepDetails      `json:",omitempty"`
	WaitDetails      *waitDetails      `json:",omitempty"`
}

type executionDetails struct{ InputPayload string }

type stepDetails struct{ Result string }

type waitDetails struct{ ScheduledEndTimestamp int64 }

// durableUpdate is one of a checkpoint's updates.
type durableUpdate struct {
	ID      string `json:"Id"`
	Type    string
	SubType string
	Action  string
	Name    string
	Payload string
}

func newExecution(t *testing.T, input string) (e *execution, endpoint string) {
	e = &execution{t: t, operations: []*durableOperation{{
		ID:               "0f0f",
		Type:             "EXECUTION",
		Status:           "STARTED",
		StartTimestamp:   time.Now().Unix(),
		ExecutionDetails: &executionDetails{InputPayload: input},
	}}}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return e, server.URL
}

// current is the token that counts. mu is held.
func (e *execution) current() string { return fmt.Sprint("token-", e.token) }

// event is the event of an invocation. With paged the handler has to fetch all operations but the first.
func (e *execution) event(paged bool) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	operations := e.operations
	marker := ""
	if paged {
		operations = operations[:1]
		marker = "1"
	}
	return string(mustJSON(map[string]any{
		"DurableExecutionArn":   executionARN,
		"CheckpointToken":       e.current(),
		"InitialExecutionState": map[string]any{"Operations": operations, "NextMarker": marker},
	}))
}

// ServeHTTP answers CheckpointDurableExecution and GetDurableExecutionState.
func (e *execution) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	base := "/2025-12-01/durable-executions/" + url.PathEscape(executionARN)
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	path := strings.ReplaceAll(r.URL.EscapedPath(), "%3A", ":")
	switch {
	case r.Method == "POST" && path == base+"/checkpoint":
		e.checkpoint(w, body)
	case r.Method == "GET" && path == base+"/state" && r.URL.Query().Get("Marker") == "1":
		e.states++
		w.Write(mustJSON(map[string]any{"Operations": e.operations[1:]}))
	default:
		e.t.Errorf("unexpected: %s %s", r.Method, r.URL)
		w.WriteHeader(http.StatusNotFound)
	}
}

// checkpoint spends the token and keeps the updates. mu is held.
func (e *execution) checkpoint(w http.ResponseWriter, body []byte) {
	var in struct {
		CheckpointToken string
		Updates         []durableUpdate
	}
	err := json.Unmarshal(body, &in)
	if err != nil || in.CheckpointToken != e.current() {
		w.Header().Set("X-Amzn-ErrorType", "InvalidParameterValueException")
		w.WriteHeader(http.StatusBadRequest)
		w.Write([]byte(`{"Type":"User","message":"Invalid checkpoint token"}`))
		return
	}
	e.token++
	for _, u := range in.Updates {
		e.update(u)
	}
	w.Write(mustJSON(map[string]any{
		"CheckpointToken":   e.current(),
		"NewExecutionState": map[string]any{"Operations": e.operations},
	}))
}

func (e *execution) update(u durableUpdate) {
	var o *durableOperation
	for _, known := range e.operations {
		if known.ID == u.ID {
			o = known
		}
	}
	if o == nil {
		o = &durableOperation{
			ID:             u.ID,
			Type:           u.Type,
			SubType:        u.SubType,
			Name:           u.Name,
			Status:         "STARTED",
			StartTimestamp: time.Now().Unix(),
		}
		e.operations = append(e.operations, o)
	}
	switch {
	case u.Action == "SUCCEED":
		o.Status = "SUCCEEDED"
		o.StepDetails = &stepDetails{Result: u.Payload}
	case u.Type == "WAIT":
		o.WaitDetails = &waitDetails{ScheduledEndTimestamp: time.Now().Add(time.Hour).Unix()}
	}
}

// elapse ends all waits.
func (e *execution) elapse() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range e.operations {
		if o.Type == "WAIT" {
			o.Status = "SUCCEEDED"
		}
	}
}

// told are the names and statuses of what the handler has done, and how often it has asked for that.
func (e *execution) told() (operations string, states int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range e.operations[1:] {
		operations += o.Name + " " + o.Status + ", "
	}
	return operations, e.states
}

// One execution is two invocations, because the handler waits between its steps. The second one replays the
// first step, which does not run again.
func TestDurableFunctionRunsOnTheLocalEnd(t *testing.T) {
	t.Parallel()
	directory := frameworks(t)
	e, endpoint := newExecution(t, `{"item":"tea"}`)
	p := startPath(t, lambdaOptions{handler: "durable.handler", timeout: time.Minute, noFreeze: true},
		map[string]string{"LIVE_LAMBDA_OFFLINE": "error"})
	p.shared = append(p.shared, "AWS_ENDPOINT_URL_LAMBDA="+endpoint)
	p.startLocal(t, "--map", "f="+directory)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	got := p.invoke(t, e.event(false))
	if string(got.payload) != `{"Status":"PENDING"}` {
		t.Fatalf("the answer is %s %s, want PENDING", got.payload, got.errorType)
	}
	operations, _ := e.told()
	if operations != "reserve SUCCEEDED, cool STARTED, " {
		t.Errorf("operations: %s", operations)
	}
	p.output.await(ctx, t, ", durable execution order-7\n", 1)

	e.elapse()
	got = p.invoke(t, e.event(true))
	want := `{"Status":"SUCCEEDED","Result":"{\"item\":\"tea\",\"reserved\":true,\"shipped\":true}"}`
	if string(got.payload) != want {
		t.Fatalf("the answer is %s %s, want %s", got.payload, got.errorType, want)
	}
	operations, states := e.told()
	if operations != "reserve SUCCEEDED, cool SUCCEEDED, ship SUCCEEDED, " || states != 1 {
		t.Errorf("operations: %s; asked for %d times", operations, states)
	}
	p.output.await(ctx, t, ", durable execution order-7, replay\n", 1)
	if n := strings.Count(p.output.String(), "reserving tea"); n != 1 {
		t.Errorf("the first step ran %d times", n)
	}
}

func TestDurableEventsAreToldFromOthers(t *testing.T) {
	const arn = `"DurableExecutionArn":"` + executionARN + `"`
	first := `{` + arn + `,"CheckpointToken":"t","InitialExecutionState":{"Operations":[{"Id":"0f0f"}]}}`
	for _, tt := range []struct {
		name  string
		event string
		want  string // empty: no durable execution
	}{
		{
			name:  "the first invocation",
			event: first,
			want:  ", durable execution order-7",
		},
		{
			name:  "a replay",
			event: strings.Replace(first, `[{`, `[{},{`, 1),
			want:  ", durable execution order-7, replay",
		},
		{
			name:  "a replay in pages",
			event: strings.Replace(first, `]}`, `],"NextMarker":"m"}`, 1),
			want:  ", durable execution order-7, replay",
		},
		{
			name:  "a name that is no name",
			event: strings.Replace(first, "order-7", `\u001b[31m\n`+strings.Repeat("x", 100), 1),
			want:  ", durable execution ?[31m?" + strings.Repeat("x", 58),
		},
		{name: "an ARN alone", event: `{` + arn + `}`},
		{name: "in a string", event: string(mustJSON(first))},
		{name: "without an execution", event: strings.Replace(first, "/durable-execution/", "/", 1)},
		{name: "no state", event: `{` + arn + `,"CheckpointToken":"t"}`},
		{name: "another event", event: `{"a":1}`},
		{name: "not JSON", event: `"DurableExecutionArn"}`},
	} {
		got := durableOf([]byte(tt.event)).text()
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Its token is spent, so Lambda would refuse the first checkpoint.
func TestInvokeRefusesARecordedDurableEvent(t *testing.T) {
	e := &execution{operations: []*durableOperation{{ID: "0f0f", Type: "EXECUTION", Status: "STARTED"}}}
	file := filepath.Join(t.TempDir(), "recorded.json")
	text := `{"event_payload":` + e.event(false) + `,"context":{"request_id":"r","function_name":"f"}}`
	err := os.WriteFile(file, []byte(text), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r := newTestLocal(t, localOptions{code: code{external: true}})
	c := r.command("", append([]string{"invoke", file, "--"}, testCommand("1")...)...)
	c.exit(2)
	want := file + " is an event of the durable execution order-7, and cannot run again: its checkpoint " +
		"token is spent; start a new execution, which `live-lambda local` gets"
	if !strings.Contains(c.stderr.String(), want) || c.stdout.String() != "" {
		t.Errorf("it printed %s%s", c.stdout, c.stderr)
	}
}
