//go:build !layer

package main

// extapi_test.go tests extapi.go against a server that records its calls.

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestExtensionEventsUntilShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		invoke := `200 {"eventType":"INVOKE"}`
		answers := []string{
			`200 {}`, "", `500 {"errorType":"InternalServerError"}`, "200 {", invoke, invoke, "",
			`200 {"eventType":"NEW"}`, `200 {"eventType":"SHUTDOWN"}`}
		var asked []time.Duration // after the start
		start := time.Now()
		x := &extensionsAPI{base: "http://example.com", id: "id-1",
			transport: transportFunc(func(r *http.Request) (*http.Response, error) {
				asked = append(asked, time.Since(start))
				answer := answers[len(asked)-1]
				if answer == "" {
					return nil, errors.New("connection reset")
				}
				status, body := splitAnswer(answer)
				return httpAnswer(status, body), nil
			})}
		logs := new(logLines)
		if _, err := x.register(t.Context()); err != nil {
			t.Error(err)
		}
		x.awaitShutdown(t.Context(), logs.logger())
		var pauses []time.Duration
		for i := range len(asked) - 1 {
			pauses = append(pauses, asked[i+1]-asked[i])
		}
		if want := []time.Duration{
			0, time.Second, time.Second, time.Second, 0, 0, time.Second, 0}; !slices.Equal(pauses, want) {
			t.Errorf("pauses %v, want %v", pauses, want)
		}
		if got := strings.Count(logs.String(), "level=ERROR"); got != 4 {
			t.Errorf("%d errors logged, want 4:\n%s", got, logs)
		}
	})
}

// Its context ends: so does the wait for the next event, and a pause.
func TestExtensionEventsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, hang := range []bool{true, false} {
			ctx, cancel := context.WithCancel(t.Context())
			x := &extensionsAPI{base: "http://example.com",
				transport: transportFunc(func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodPost {
						return httpAnswer(200, "{}"), nil
					}
					if hang {
						<-r.Context().Done()
					}
					return nil, errors.New("cut off")
				})}
			done := make(chan bool)
			go func() {
				if _, err := x.register(ctx); err != nil {
					t.Error(err)
				}
				x.awaitShutdown(ctx, slog.New(slog.DiscardHandler))
				close(done)
			}()
			time.Sleep(time.Minute)
			cancel()
			<-done
		}
	})
}

func TestRegister(t *testing.T) {
	const both, shutdown = `{"events":["INVOKE","SHUTDOWN"]}`, `{"events":["SHUTDOWN"]}`
	const ok = `200 {"functionName":"f","functionVersion":"$LATEST","handler":"index.handler",` +
		`"accountId":"1"}`
	long := strings.Repeat("t", maxErrorType)
	tests := []struct {
		name    string
		answers []string
		bodies  []string
		err     string
	}{
		{name: "both events", answers: []string{ok}, bodies: []string{both}},
		{name: "INVOKE refused", answers: []string{`403 {"errorType":"Extension.InvalidEventType"}`, ok},
			bodies: []string{both, shutdown}},
		{name: "INVOKE refused with 400", answers: []string{`400 {}`, ok}, bodies: []string{both, shutdown}},
		{name: "refused", answers: []string{
			`403 {"errorType":"a"}`, `403 {"errorMessage":"m","errorType":"Extension.InvalidExtensionName"}`},
			bodies: []string{both, shutdown},
			err:    `extension/register: 403 Forbidden "Extension.InvalidExtensionName"`},
		{name: "500", answers: []string{`500 {"errorType":"x"}`, `500 {"errorType":"x"}`},
			bodies: []string{both, shutdown},
			err:    `extension/register: 500 Internal Server Error "x"`},
		{name: "500 after the refusal", answers: []string{`400 {}`, `500 {}`},
			bodies: []string{both, shutdown}, err: "500"},
		{name: "not JSON", answers: slices.Repeat([]string{`200 <html>`}, 2),
			bodies: []string{both, shutdown},
			err:    "extension/register: "},
		{name: "wrong types", answers: slices.Repeat([]string{`200 {"functionName":7}`}, 2),
			bodies: []string{both, shutdown},
			err:    "extension/register: "},
		{name: "endless", answers: slices.Repeat(
			[]string{"200 " + `{"functionName":"` + strings.Repeat("f", maxAnswer) + `"}`}, 2),
			bodies: []string{both, shutdown}, err: "extension/register: "},
		{name: "control characters",
			answers: []string{`403 {"errorType":"a\u001b[31m\nb"}`, `403 {"errorType":"a\u001b[31m\nb"}`},
			bodies:  []string{both, shutdown}, err: `extension/register: 403 Forbidden`},
		{name: "a type that fits in a message",
			answers: slices.Repeat([]string{`403 {"errorType":"` + long + `"}`}, 2),
			bodies:  []string{both, shutdown}, err: `extension/register: 403 Forbidden "` + long + `"`},
		{name: "a type that does not",
			answers: slices.Repeat([]string{`403 {"errorType":"` + long + `x"}`}, 2),
			bodies:  []string{both, shutdown}, err: `extension/register: 403 Forbidden`},
		{name: "no type", answers: slices.Repeat([]string{`403 Forbidden`}, 2),
			bodies: []string{both, shutdown},
			err:    `extension/register: 403 Forbidden`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			api := startExtensionsAPI(t, test.answers...)
			x := &extensionsAPI{
				base: api.URL, name: "live-lambda-extension", transport: http.DefaultTransport}
			fn, err := x.register(t.Context())
			var bodies []string
			for i := range test.bodies {
				call := api.seen(i)
				bodies = append(bodies, call.body)
				if got := call.header.Get("Lambda-Extension-Name"); call.what != "POST register" ||
					got != "live-lambda-extension" {
					t.Errorf("%s by %q", call.what, got)
				}
			}
			if api.want(slices.Repeat([]string{"POST register"}, len(test.bodies))...); !slices.Equal(
				bodies, test.bodies) {
				t.Errorf("asked with %q, want %q", bodies, test.bodies)
			}
			switch {
			case test.err != "" &&
				(err == nil || !strings.Contains(err.Error(), test.err) ||
					strings.HasSuffix(test.err, "Forbidden") && err.Error() != test.err ||
					strings.Contains(err.Error(), "\n")):
				t.Errorf("error %v, want %q", err, test.err)
			case test.err == "" &&
				(err != nil || fn != extensionAnswer{FunctionName: "f", Handler: "index.handler"} ||
					x.id != "id-1"):
				t.Errorf("got %v, id %q, %v", fn, x.id, err)
			}
		})
	}
}

func TestExtensionEvents(t *testing.T) {
	api := startExtensionsAPI(t, `200 {}`,
		`200 {"eventType":"INVOKE","deadlineMs":1581512138111,"requestId":"r"}`,
		`200 {"eventType":"SHUTDOWN","shutdownReason":"timeout","deadlineMs":676051}`,
		`403 {"errorType":"Extension.UnknownExtensionIdentifier"}`, `200 []`, `202 {}`,
		`403 {"errorType":"InvalidStateTransition"}`)
	x := &extensionsAPI{base: api.URL, transport: http.DefaultTransport}
	next := func(ctx context.Context) (extensionAnswer, error) {
		return x.call(ctx, http.MethodGet, "event/next", "", "")
	}
	if _, err := x.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []extensionAnswer{{EventType: "INVOKE"}, {EventType: "SHUTDOWN"}} {
		if got, err := next(t.Context()); err != nil || got != want {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	if _, err := next(t.Context()); err == nil ||
		err.Error() != `extension/event/next: 403 Forbidden "Extension.UnknownExtensionIdentifier"` {
		t.Errorf("refused: %v", err)
	}
	if _, err := next(t.Context()); err == nil ||
		!strings.Contains(err.Error(), "extension/event/next: json: ") {
		t.Errorf("not an object: %v", err)
	}
	if err := x.portTaken(
		t.Context(), errors.New(`port "8082" is taken`)); err.Error() != `port `+
		`"8082" is taken` {
		t.Error(err)
	}
	if err := x.portTaken(t.Context(), errors.New("again")); !strings.Contains(
		err.Error(), "InvalidStateTransition") {
		t.Errorf("refused: %v", err)
	}
	call := api.seen(5)
	if call.what != "POST init/error" ||
		call.body != `{"errorMessage":"port \"8082\" is taken","errorType":"LiveLambda.PortTaken"}` ||
		call.header.Get("Lambda-Extension-Function-Error-Type") != "LiveLambda.PortTaken" {
		t.Errorf("init error: %+v", call)
	}
	for i := 1; i < 7; i++ {
		if got := api.seen(i).header.Get("Lambda-Extension-Identifier"); got != "id-1" {
			t.Errorf("call %d identified by %q", i, got)
		}
	}
}

func TestExtensionsAPIGone(t *testing.T) {
	ln := listen(t)
	ln.Close()
	x := &extensionsAPI{base: "http://" + ln.Addr().String(), transport: http.DefaultTransport}
	next := func(ctx context.Context) (extensionAnswer, error) {
		return x.call(ctx, http.MethodGet, "event/next", "", "")
	}
	if _, err := x.register(t.Context()); err == nil ||
		!strings.HasPrefix(err.Error(), "extension/register: ") {
		t.Errorf("nobody listens: %v", err)
	}
	x.base = "http://%"
	if _, err := next(t.Context()); err == nil {
		t.Error("no URL: no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := next(ctx); err == nil {
		t.Error("cancelled: no error")
	}
}

// startExtensionsAPI answers one call after the other, each "STATUS BODY".
func startExtensionsAPI(t *testing.T, answers ...string) *recordingServer {
	s := &recordingServer{t: t}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := s.record(r)
		if n >= len(answers) {
			t.Errorf("call %d: %s", n, r.URL.Path)
			return
		}
		status, body := splitAnswer(answers[n])
		w.Header().Set("Lambda-Extension-Identifier", "id-1")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}
