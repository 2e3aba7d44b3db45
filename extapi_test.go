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

// Whatever goes wrong on the way is told, and tried again a second later.
func TestExtensionAsksForEventsUntilShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		invoke := `200 {"eventType":"INVOKE"}`
		answers := []string{
			`200 {}`, "", `500 {"errorType":"InternalServerError"}`, "200 {", invoke, invoke, "",
			`200 {"eventType":"NEW"}`, `200 {"eventType":"SHUTDOWN"}`,
		}
		var asked []time.Duration // after the start
		start := time.Now()
		transport := func(r *http.Request) (*http.Response, error) {
			asked = append(asked, time.Since(start))
			answer := answers[len(asked)-1]
			if answer == "" {
				return nil, errors.New("connection reset")
			}
			status, body := splitAnswer(answer)
			return httpAnswer(status, body), nil
		}
		x := &extensionsAPI{base: "http://example.com", id: "id-1", transport: transportFunc(transport)}
		logs := new(logLines)
		if _, err := x.register(t.Context()); err != nil {
			t.Error(err)
		}
		if err := x.awaitShutdown(t.Context(), logs.logger()); err != nil {
			t.Error(err)
		}
		var pauses []time.Duration
		for i := range len(asked) - 1 {
			pauses = append(pauses, asked[i+1]-asked[i])
		}
		const s = time.Second
		if want := []time.Duration{0, s, s, s, 0, 0, s, 0}; !slices.Equal(pauses, want) {
			t.Errorf("pauses %v, want %v", pauses, want)
		}
		if got := strings.Count(logs.String(), "level=ERROR"); got != 4 {
			t.Errorf("%d errors logged, want 4:\n%s", got, logs)
		}
	})
}

// refusedConnection is the error of a call to a port that nobody listens on.
func refusedConnection(t *testing.T) error {
	t.Helper()
	ln := listen(t)
	ln.Close()
	req, _ := http.NewRequest(http.MethodGet, "http://"+ln.Addr().String(), nil)
	_, err := new(http.Transport).RoundTrip(req)
	if err == nil {
		t.Fatal("somebody listens on a port that was closed")
	}
	return err
}

// An emulator may die without a word. Nine refused connections say nothing, and ten only in a row.
func TestExtensionEndsWhenTheExtensionsAPIIsGone(t *testing.T) {
	gone := refusedConnection(t)
	for _, tt := range []struct {
		name    string
		refused int // before the API answers once; after that it does not
		calls   int
		logged  int
	}{
		{name: "at once", refused: 10, calls: 10, logged: 9},
		{name: "it comes back once", refused: 9, calls: 9 + 1 + 10, logged: 18},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				transport := func(r *http.Request) (*http.Response, error) {
					calls++
					if calls == tt.refused+1 {
						return httpAnswer(200, `{"eventType":"INVOKE"}`), nil
					}
					return nil, gone
				}
				x := &extensionsAPI{base: "http://example.com", transport: transportFunc(transport)}
				logs := new(logLines)
				err := x.awaitShutdown(t.Context(), logs.logger())
				if !errors.Is(err, gone) || calls != tt.calls {
					t.Errorf("after %d calls, want %d, it ends with %v", calls, tt.calls, err)
				}
				if n := strings.Count(logs.String(), "level=ERROR"); n != tt.logged {
					t.Errorf("%d lines, want %d", n, tt.logged)
				}
			})
		})
	}
}

func TestWaitForShutdownEndsWithItsContext(t *testing.T) {
	answers := map[string]func(*http.Request) (*http.Response, error){
		"while it waits for the next event": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, errors.New("cut off")
		},
		"in a pause": func(r *http.Request) (*http.Response, error) {
			return nil, errors.New("cut off")
		},
	}
	for name, next := range answers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				transport := func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodPost {
						return httpAnswer(200, "{}"), nil
					}
					return next(r)
				}
				x := &extensionsAPI{base: "http://example.com", transport: transportFunc(transport)}
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
			})
		})
	}
}

// What the extension asks for: events of both kinds, or SHUTDOWN alone.
const (
	bothEvents   = `{"events":["INVOKE","SHUTDOWN"]}`
	shutdownOnly = `{"events":["SHUTDOWN"]}`
)

// registerWith registers with an API that gives these answers, one after the other, and checks what it is
// asked.
func registerWith(t *testing.T, answers, wantBodies []string) (*extensionsAPI, extensionAnswer, error) {
	t.Helper()
	api := startExtensionsAPI(t, answers...)
	x := &extensionsAPI{base: api.URL, name: "live-lambda-extension", transport: http.DefaultTransport}
	fn, err := x.register(t.Context())
	var bodies []string
	for i := range wantBodies {
		call := api.seen(i)
		bodies = append(bodies, call.body)
		name := call.header.Get("Lambda-Extension-Name")
		if call.what != "POST register" || name != "live-lambda-extension" {
			t.Errorf("%s by %q", call.what, name)
		}
	}
	api.want(slices.Repeat([]string{"POST register"}, len(wantBodies))...)
	if !slices.Equal(bodies, wantBodies) {
		t.Errorf("asked with %q, want %q", bodies, wantBodies)
	}
	return x, fn, err
}

// Lambda Managed Instances refuse INVOKE.
func TestExtensionRegistersForBothEventsOrElseForShutdown(t *testing.T) {
	const ok = `200 {"functionName":"f","functionVersion":"$LATEST","handler":"index.handler",` +
		`"accountId":"1"}`
	tests := []struct {
		name    string
		answers []string
		bodies  []string
	}{
		{name: "both events", answers: []string{ok}, bodies: []string{bothEvents}},
		{
			name:    "INVOKE refused",
			answers: []string{`403 {"errorType":"Extension.InvalidEventType"}`, ok},
			bodies:  []string{bothEvents, shutdownOnly},
		},
		{
			name:    "INVOKE refused with 400",
			answers: []string{`400 {}`, ok},
			bodies:  []string{bothEvents, shutdownOnly},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			x, fn, err := registerWith(t, test.answers, test.bodies)
			want := extensionAnswer{FunctionName: "f", Handler: "index.handler"}
			if err != nil || fn != want || x.id != "id-1" {
				t.Errorf("got %v, id %q, %v", fn, x.id, err)
			}
		})
	}
}

// The error type is quoted if it is printable and fits in a message.
func TestRegistrationThatFailsTwiceSaysWhatLambdaSaid(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("t", maxErrorType)
	twice := func(answer string) []string { return []string{answer, answer} }
	tests := []struct {
		name    string
		answers []string
		want    string // in the error, or the whole of it
		whole   bool
	}{
		{
			name: "refused",
			answers: []string{
				`403 {"errorType":"a"}`,
				`403 {"errorMessage":"m","errorType":"Extension.InvalidExtensionName"}`,
			},
			want: `extension/register: 403 Forbidden "Extension.InvalidExtensionName"`,
		},
		{
			name:    "500",
			answers: twice(`500 {"errorType":"x"}`),
			want:    `extension/register: 500 Internal Server Error "x"`,
		},
		{
			name:    "500 after the refusal",
			answers: []string{`400 {}`, `500 {}`},
			want:    "500",
		},
		{name: "not JSON", answers: twice(`200 <html>`), want: "extension/register: "},
		{name: "wrong types", answers: twice(`200 {"functionName":7}`), want: "extension/register: "},
		{
			name:    "endless",
			answers: twice(`200 {"functionName":"` + strings.Repeat("f", maxAnswer) + `"}`),
			want:    "extension/register: ",
		},
		{
			name:    "control characters",
			answers: twice(`403 {"errorType":"a\u001b[31m\nb"}`),
			want:    `extension/register: 403 Forbidden`,
			whole:   true,
		},
		{
			name:    "a type that fits in a message",
			answers: twice(`403 {"errorType":"` + long + `"}`),
			want:    `extension/register: 403 Forbidden "` + long + `"`,
		},
		{
			name:    "a type that does not",
			answers: twice(`403 {"errorType":"` + long + `x"}`),
			want:    `extension/register: 403 Forbidden`,
			whole:   true,
		},
		{
			name:    "no type",
			answers: twice(`403 Forbidden`),
			want:    `extension/register: 403 Forbidden`,
			whole:   true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := registerWith(t, test.answers, []string{bothEvents, shutdownOnly})
			checkError(t, err, test.want)
			if test.whole && err != nil && err.Error() != test.want {
				t.Errorf("error %q, want %q", err, test.want)
			}
		})
	}
}

// registered registers with an API that gives these answers afterwards.
func registered(t *testing.T, answers ...string) (*extensionsAPI, *recordingServer) {
	t.Helper()
	api := startExtensionsAPI(t, append([]string{`200 {}`}, answers...)...)
	x := &extensionsAPI{base: api.URL, transport: http.DefaultTransport}
	if _, err := x.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	return x, api
}

// next asks for the next event.
func (x *extensionsAPI) next(ctx context.Context) (extensionAnswer, error) {
	return x.call(ctx, http.MethodGet, "event/next", "", "")
}

// wantIdentified checks that n calls after the registration carry the identifier that it gave.
func wantIdentified(t *testing.T, api *recordingServer, n int) {
	t.Helper()
	for i := range n {
		if got := api.seen(i + 1).header.Get("Lambda-Extension-Identifier"); got != "id-1" {
			t.Errorf("call %d identified by %q", i+1, got)
		}
	}
}

func TestNextEventIsInvokeOrShutdown(t *testing.T) {
	x, api := registered(t,
		`200 {"eventType":"INVOKE","deadlineMs":1581512138111,"requestId":"r"}`,
		`200 {"eventType":"SHUTDOWN","shutdownReason":"timeout","deadlineMs":676051}`)
	for _, want := range []extensionAnswer{{EventType: "INVOKE"}, {EventType: "SHUTDOWN"}} {
		if got, err := x.next(t.Context()); err != nil || got != want {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	wantIdentified(t, api, 2)
}

func TestNextEventThatCannotBeReadIsAnError(t *testing.T) {
	x, api := registered(t, `403 {"errorType":"Extension.UnknownExtensionIdentifier"}`, `200 []`)
	_, err := x.next(t.Context())
	const refused = `extension/event/next: 403 Forbidden "Extension.UnknownExtensionIdentifier"`
	if err == nil || err.Error() != refused {
		t.Errorf("refused: %v", err)
	}
	_, err = x.next(t.Context())
	if err == nil || !strings.Contains(err.Error(), "extension/event/next: json: ") {
		t.Errorf("not an object: %v", err)
	}
	wantIdentified(t, api, 2)
}

func TestInitErrorHasItsTypeInHeaderAndBody(t *testing.T) {
	x, api := registered(t, `200 {}`, `202 {}`, `200 {}`, `403 {"errorType":"InvalidStateTransition"}`)
	why := errors.New(`port "8082" is taken`)
	if err := x.portTaken(t.Context(), why); err.Error() != `port "8082" is taken` {
		t.Error(err)
	}
	err := x.portTaken(t.Context(), errors.New("again"))
	if !strings.Contains(err.Error(), "InvalidStateTransition") {
		t.Errorf("refused: %v", err)
	}
	call := api.seen(2)
	if call.what != "POST init/error" ||
		call.body != `{"errorMessage":"port \"8082\" is taken","errorType":"LiveLambda.PortTaken"}` ||
		call.header.Get("Lambda-Extension-Function-Error-Type") != "LiveLambda.PortTaken" {
		t.Errorf("init error: %+v", call)
	}
	wantIdentified(t, api, 2)
}

func TestExtensionsAPIThatCannotBeReachedIsAnError(t *testing.T) {
	ln := listen(t)
	ln.Close()
	x := &extensionsAPI{base: "http://" + ln.Addr().String(), transport: http.DefaultTransport}
	_, err := x.register(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "extension/register: ") {
		t.Errorf("nobody listens: %v", err)
	}
	x.base = "http://%"
	if _, err := x.next(t.Context()); err == nil {
		t.Error("no URL: no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.next(ctx); err == nil {
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
