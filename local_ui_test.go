//go:build !layer

package main

// local_ui_test.go tests who is let in to the inspector, what it answers, and its commands. The page itself
// is tested in a browser, by local_ui_page_test.go.

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// uiRig is an inspector, and whoever asks it.
type uiRig struct {
	*localRig
	ui     *uiServer
	cookie string
}

func newUIRig(t *testing.T) *uiRig {
	t.Helper()
	return newUIRigWith(t, localOptions{})
}

func newUIRigWith(t *testing.T, opts localOptions) *uiRig {
	t.Helper()
	r := &uiRig{localRig: newHistoryRig(t, opts)}
	err := r.local.inspect(uiFlag{on: true})
	if err != nil {
		t.Fatal(err)
	}
	r.ui = r.local.inspector
	r.cookie = r.ui.cookieName() + "=" + r.ui.session
	return r
}

// ask sends a request with the cookie and, in pairs, further headers; "" takes one away.
func (r *uiRig) ask(method, path, body string, headers ...string) (status int, text string, h http.Header) {
	r.Helper()
	host := "127.0.0.1:" + r.ui.port
	req, err := http.NewRequest(method, "http://"+host+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Cookie", r.cookie)
	req.Header.Set(keyHeader, r.ui.key)
	if method == "POST" {
		req.Header.Set("Origin", "http://"+host)
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		switch {
		case headers[i] == "Host":
			req.Host = headers[i+1]
		case headers[i+1] == "":
			req.Header.Del(headers[i])
		default:
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req) // follows no redirect
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, string(got), resp.Header
}

func TestInspectorLetsNobodyElseIn(t *testing.T) {
	t.Parallel()
	r := newUIRig(t)
	r.reply(r.direct(task{}, r.context()))
	again := `{"id":1}`
	for _, tt := range []struct {
		name    string
		method  string
		path    string
		headers []string
		status  int
		text    string
	}{
		{name: "the page", status: 200, text: "<title>live-lambda"},
		{name: "by another name of this machine", status: 200,
			headers: []string{"Host", "localhost:" + r.ui.port}},
		{name: "no cookie", headers: []string{"Cookie", ""}, status: 403,
			text: "opens only with the address"},
		{
			name:    "another cookie",
			path:    "/api/invocations/1/event",
			headers: []string{"Cookie", r.ui.cookieName() + "=" + strings.Repeat("A", len(r.ui.session))},
			status:  403,
		},
		{name: "a name that leads here", headers: []string{"Host", "evil.example:" + r.ui.port}, status: 421},
		{name: "a name without a port", headers: []string{"Host", "127.0.0.1"}, status: 421},
		{name: "another port", headers: []string{"Host", "127.0.0.1:1"}, status: 421},
		{name: "no name", headers: []string{"Host", "[::1]:" + r.ui.port}, status: 421},
		{
			name:    "another page reads",
			path:    "/api/events",
			headers: []string{"Sec-Fetch-Site", "same-site"},
			status:  403,
		},
		{
			name:    "another page reads, with its origin",
			path:    "/api/invocations/1",
			headers: []string{"Origin", "http://127.0.0.1:1"},
			status:  403,
		},
		{
			name: "another page embeds", headers: []string{
				"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"},
			status: 403,
		},
		{
			name:    "a link in another page",
			headers: []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"},
			status:  200,
		},
		{
			name:   "a link in another page, without the cookie",
			status: 200,
			headers: []string{
				"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Cookie", ""},
			text: `content="0; url=/"`,
		},
		{name: "this page acts", method: "POST", path: "/api/again", status: 200},
		{
			name:    "another page acts",
			method:  "POST",
			path:    "/api/again",
			headers: []string{"Origin", "https://evil.example"},
			status:  403,
		},
		{
			name:    "a page of another port acts",
			method:  "POST",
			path:    "/api/again",
			headers: []string{"Origin", "http://127.0.0.1:1"},
			status:  403,
		},
		{
			name:    "a page without an origin acts",
			method:  "POST",
			path:    "/api/again",
			headers: []string{"Origin", "null"},
			status:  403,
		},
		{name: "no page acts", method: "POST", path: "/api/again", headers: []string{"Origin", ""},
			status: 403},
		{
			name:    "a form acts",
			method:  "POST",
			path:    "/api/again",
			headers: []string{"Content-Type", "text/plain"},
			status:  415,
		},
		{
			name:    "another page acts, says the browser",
			method:  "POST",
			path:    "/api/again",
			headers: []string{"Sec-Fetch-Site", "same-site"},
			status:  403,
		},
		{
			name:    "it acts without the cookie",
			method:  "POST",
			path:    "/api/again",
			headers: []string{"Cookie", ""},
			status:  403,
		},
		{
			name:    "a server at another port, which gets the cookie too, acts",
			method:  "POST",
			path:    "/api/again",
			headers: []string{keyHeader, ""},
			status:  403,
		},
		{name: "it reads", path: "/api/events", headers: []string{keyHeader, "A"}, status: 403},
		{name: "it guesses", path: "/api/invocations/1?key=A", headers: []string{keyHeader, ""}, status: 403},
		{name: "reading acts", method: "GET", path: "/api/again", status: 405},
		{name: "another method", method: "DELETE", path: "/api/invocations/1", status: 403},
		{name: "no route", path: "/local_ui.go", status: 404},
		{name: "no such invocation", path: "/api/invocations/77", status: 404},
		{name: "no number", path: "/api/invocations/x/event", status: 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			method := tt.method
			if method == "" {
				method = "GET"
			}
			path := tt.path
			if path == "" {
				path = "/"
			}
			before := len(r.local.history.list())
			status, text, header := r.ask(method, path, again, tt.headers...)
			if status != tt.status || !strings.Contains(text, tt.text) {
				t.Errorf("%d %q, want %d %q", status, text, tt.status, tt.text)
			}
			if ran := len(r.local.history.list()) - before; ran > 0 && tt.status != 200 {
				t.Errorf("%d ran", ran)
			}
			if header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("another page may read it")
			}
			for name, value := range pageHeaders {
				if header.Get(name) != value {
					t.Errorf("%s: %q", name, header.Get(name))
				}
			}
		})
	}
	if strings.Contains(pageHeaders["Content-Security-Policy"], "unsafe") {
		t.Error("the policy lets scripts in")
	}
}

func TestAddressOfTheInspectorOpensOnce(t *testing.T) {
	r := newUIRig(t)
	first := strings.TrimPrefix(r.ui.link(), "http://127.0.0.1:"+r.ui.port)
	path := strings.TrimPrefix(r.ui.link(), "http://127.0.0.1:"+r.ui.port)
	r.out.wait(r.localRig, "inspector: http://127.0.0.1:"+r.ui.port+"/?token=")
	for _, tt := range []struct {
		name   string
		path   string
		cookie string
		status int
		to     string
	}{
		{name: "an earlier address", path: first, status: 403},
		{name: "a guess", path: "/?token=AAAA", status: 403},
		{name: "no token", path: "/?token=", status: 403},
		{name: "the address", path: path, status: 303, to: "/#key=" + r.ui.key},
		{name: "once more", path: path, status: 403},
		{name: "once more, by whoever has opened it", path: path, cookie: r.cookie, status: 303, to: "/"},
		{name: "no token any more", path: "/?token=", status: 403},
	} {
		status, text, header := r.ask("GET", tt.path, "", "Cookie", tt.cookie)
		if status != tt.status || status == 403 && !strings.Contains(text, "an earlier one") {
			t.Errorf("%s: %d %q, want %d", tt.name, status, text, tt.status)
		}
		cookie := header.Get("Set-Cookie")
		want := r.cookie + "; Path=/; HttpOnly; SameSite=Strict"
		if status == 303 && (cookie != want || header.Get("Location") != tt.to) {
			t.Errorf("%s: %q, to %q", tt.name, cookie, header.Get("Location"))
		}
		if status != 303 && cookie != "" {
			t.Errorf("%s: gets the cookie", tt.name)
		}
	}
	if len(r.ui.session) < 26 {
		t.Errorf("the cookie is %q", r.ui.session)
	}
}

// What a page gets of an invocation is what it was, byte for byte, and never a page itself.
func TestInspectorServesWhatInvocationsCarry(t *testing.T) {
	t.Parallel()
	r := newUIRig(t)
	event := []byte(`{"n": 12345678901234567890, "Do":"text","Type":"text/html","Text":"<script>"}`)
	c := r.context()
	c.Environment = map[string]string{"SECRET": "of the function"}
	q := r.direct(event, c)
	r.reply(q)
	r.local.finish(q, overAnswered)
	for _, tt := range []struct {
		path   string
		kind   string
		status int
		text   string
	}{
		{path: "/event", kind: "text/plain; charset=utf-8", status: 200, text: string(event)},
		{path: "/answer", kind: "application/octet-stream", status: 200, text: "<script>"},
		{path: "/error", kind: "text/plain; charset=utf-8", status: 410,
			text: "that is not kept: it was too large\n"},
		{path: "/curl", kind: "text/plain; charset=utf-8", status: 422,
			text: "the event is not of an HTTP request\n"},
	} {
		status, text, header := r.ask("GET", "/api/invocations/1"+tt.path, "")
		if status != tt.status || text != tt.text || header.Get("Content-Type") != tt.kind {
			t.Errorf("%s: %d %q %q", tt.path, status, text, header.Get("Content-Type"))
		}
	}
	_, text, _ := r.ask("GET", "/api/invocations/1/invoke", "")
	if !strings.Contains(text, "aws lambda invoke") {
		t.Errorf("invoke: %q", text)
	}
	_, text, _ = r.ask("GET", "/api/invocations/1", "")
	var d map[string]any
	json.Unmarshal([]byte(text), &d)
	if d["function"] != "orders" || d["event"] != true || d["answer"] != 8.0 ||
		strings.Contains(text, "SECRET") {
		t.Errorf("details: %s", text)
	}
}

func TestInspectorActs(t *testing.T) {
	r := newUIRig(t)
	q := r.direct(map[string]any{"a": 1}, r.context())
	r.reply(q)
	r.local.finish(q, overAnswered)
	t.Chdir(t.TempDir())
	err := os.Mkdir("directory.json", 0o700)
	if err != nil {
		t.Fatal(err)
	}
	large := `{"id":1,"event":"` + strings.Repeat(" ", maxAsked) + `"}`
	for _, tt := range []struct {
		name   string
		path   string
		body   string
		status int
		text   string
	}{
		{name: "again", path: "again", body: `{"id":1}`, status: 200, text: `{"id":2}`},
		{name: "edited", path: "again", body: `{"id":1,"event":"{\"b\":1}"}`, status: 200, text: `{"id":3}`},
		{name: "no JSON", path: "again", body: `{"id":1,"event":"{"}`, status: 409,
			text: "the event is not JSON"},
		{name: "too large", path: "again", body: large, status: 400, text: "too large"},
		{name: "no such invocation", path: "again", body: `{"id":9}`, status: 409,
			text: "there is no invocation 9"},
		{name: "not understood", path: "again", body: `{"no":1}`, status: 400, text: "not understood"},
		{name: "save", path: "save", body: `{"id":1,"name":"one"}`, status: 200, text: `{"file":"one.json"}`},
		{name: "is there", path: "save", body: `{"id":3,"name":"one.json"}`, status: 409,
			text: "there already"},
		{name: "over it", path: "save", body: `{"id":3,"name":"one","overwrite":true}`, status: 200},
		{name: "directory", path: "save", body: `{"id":3,"name":"directory"}`, status: 409,
			text: "there already"},
		{name: "over a directory", path: "save", body: `{"id":3,"name":"directory","overwrite":true}`,
			status: 422, text: "directory.json is no plain file, and stays"},
		{name: "elsewhere", path: "save", body: `{"id":1,"name":"../one"}`, status: 422, text: "plain name"},
		{name: "from the root", path: "save", body: `{"id":1,"name":"/tmp/one"}`, status: 422,
			text: "plain name"},
		{name: "hidden", path: "save", body: `{"id":1,"name":" .env"}`, status: 422, text: "plain name"},
		{name: "odd", path: "save", body: `{"id":1,"name":"a\u0000b"}`, status: 422, text: "plain name"},
		{name: "no name", path: "save", body: `{"id":1,"name":" "}`, status: 422, text: "which name"},
		{name: "save none", path: "save", body: `{"id":9,"name":"x"}`, status: 422,
			text: "no such invocation"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, text, _ := r.ask("POST", "/api/"+tt.path, tt.body)
			if status != tt.status || !strings.Contains(text, tt.text) {
				t.Errorf("%d %q, want %d %q", status, text, tt.status, tt.text)
			}
		})
	}
	files, _ := filepath.Glob("*")
	saved, _ := os.ReadFile("one.json")
	if len(files) != 2 || string(saved) != "{\"b\":1}\n" {
		t.Errorf("saved %q in %q", saved, files)
	}
	i := r.keptAnswer(3)
	if string(i.Event) != `{"b":1}` || i.Again != 1 {
		t.Errorf("edited: %+v %q", i.facts, i.Event)
	}
}

// A page that asks meanwhile is not told that all is well.
func TestInspectorThatEndsTakesNothingMore(t *testing.T) {
	r := newUIRig(t)
	r.ui.close()
	answer := httptest.NewRecorder()
	r.ui.guard(r.ui.routes()).ServeHTTP(answer, httptest.NewRequest("POST", "/api/again", nil))
	if answer.Code != 503 || !strings.Contains(answer.Body.String(), "ending") {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}

// Nothing is waited for that AWS has not said by then.
func TestInspectorEndsWhileVariablesAreRead(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	ended := make(chan error, 1)
	r := newUIRigWith(t, localOptions{
		variables: func(ctx context.Context, _ string) (awsVariables, error) {
			close(begun)
			<-ctx.Done()
			ended <- ctx.Err()
			return awsVariables{}, ctx.Err()
		},
	})
	r.reply(r.direct(task{Do: "pid"}, r.context()))
	var asking sync.WaitGroup
	asking.Go(func() {
		asked := httptest.NewRequest("POST", "/api/again", strings.NewReader(`{"id":1}`))
		asked.Host = "127.0.0.1:" + r.ui.port
		asked.Header.Set("Origin", "http://"+asked.Host)
		asked.Header.Set("Content-Type", "application/json")
		asked.Header.Set("Cookie", r.cookie)
		asked.Header.Set(keyHeader, r.ui.key)
		answer := httptest.NewRecorder()
		r.ui.guard(r.ui.routes()).ServeHTTP(answer, asked)
		if answer.Code != 409 || !strings.Contains(answer.Body.String(), "stopping") {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
	})
	<-begun
	r.local.close()
	asking.Wait()
	err := <-ended
	if err != context.Canceled {
		t.Errorf("reading ended with: %v", err)
	}
}

// listen follows the inspector's events. What next gives is the data of the next event of that name.
func (r *uiRig) listen() (next func(event string) string) {
	r.Helper()
	address := "http://127.0.0.1:" + r.ui.port + "/api/events?key=" + r.ui.key
	req, err := http.NewRequestWithContext(r.ctx, "GET", address, nil)
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Cookie", r.cookie)
	transport := &http.Transport{}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		resp.Body.Close()
		transport.CloseIdleConnections()
	})
	lines := bufio.NewReader(resp.Body)
	return func(event string) string {
		r.Helper()
		name := ""
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return err.Error()
			}
			if n, ok := strings.CutPrefix(line, "event: "); ok {
				name = strings.TrimSpace(n)
			}
			data, ok := strings.CutPrefix(line, "data: ")
			if ok && name == event {
				return data
			}
		}
	}
}

func TestInspectorTellsWhatHappens(t *testing.T) {
	t.Parallel()
	r := newUIRig(t)
	run := func() {
		q := r.direct(task{}, r.context())
		r.reply(q)
		r.local.finish(q, overAnswered)
	}
	run()
	next := r.listen()
	var all pageState
	json.Unmarshal([]byte(next("all")), &all)
	if ids(all.Facts) != "1" || !all.Runs || all.About != "stage dev" || all.Most != historyMost {
		t.Errorf("at first: %+v", all)
	}
	var hour hourPicture
	json.Unmarshal([]byte(next("hour")), &hour)
	if hour.Hour.Count != 1 || len(hour.Minutes) != 1 {
		t.Errorf("the hour: %+v", hour)
	}
	r.local.history.mu.Lock()
	r.local.history.most = 1
	r.local.history.mu.Unlock()
	run()
	var changes pageChanges
	for gone := 0; gone == 0 || len(changes.Facts) == 0 || changes.Facts[0].Done.IsZero(); {
		changes = pageChanges{}
		json.Unmarshal([]byte(next("changes")), &changes)
		gone += len(changes.Gone)
		for _, f := range changes.Facts {
			if f.ID != 2 {
				t.Errorf("told of %d", f.ID)
			}
		}
	}
	if changes.Dropped.Invocations != 1 {
		t.Errorf("dropped %+v", changes.Dropped)
	}
	r.ui.close() // ends what listens
	if got := next("never"); !strings.Contains(got, "EOF") {
		t.Errorf("at the end: %s", got)
	}
}

func TestLastHourIsCounted(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 30, 10, 0, time.UTC)
	entry := func(id int, ago time.Duration, outcome string, ms float64) entryChange {
		f := facts{ID: id, Answered: now.Add(-ago), Outcome: outcome, Ms: ms}
		return entryChange{Kind: changeChanged, Facts: f}
	}
	p := newLastHour()
	for i := range 100 {
		p.take(entry(i, 0, "ok", float64(i+1)))
	}
	p.take(entry(0, 0, "ok", 1)) // it is counted already
	p.take(entry(200, 30*time.Minute, "error", 5000.4))
	p.take(entry(201, 2*time.Hour, "ok", 1))
	p.take(entry(202, 0, "", 0))
	dropped := entry(1, 0, "ok", 2)
	dropped.Kind = changeDropped
	p.take(dropped)
	before := p.version()
	p.take(entry(2, 0, "timeout", 3)) // nobody took its answer
	got, version := p.hour(now)
	minute := now.Truncate(time.Minute).Unix()
	want := hourPicture{
		Hour: minuteFigures{Minute: minute, Count: 101, Errors: 2, P50: 51, P95: 96},
		Minutes: []minuteFigures{
			{Minute: minute - 1800, Count: 1, Errors: 1, P50: 5000, P95: 5000},
			{Minute: minute, Count: 100, Errors: 1, P50: 50, P95: 95},
		},
	}
	if string(mustJSON(got)) != string(mustJSON(want)) || version == before {
		t.Errorf("got  %s\nwant %s", mustJSON(got), mustJSON(want))
	}
}

func TestInspectorListensOnLoopbackOnly(t *testing.T) {
	for _, command := range [][]string{
		{"local", "--host", "http://127.0.0.1:1", "--ui=0.0.0.0:9100"},
		{"local", "--host", "http://127.0.0.1:1", "--ui=192.0.2.1:9100"},
		{"local", "--host", "http://127.0.0.1:1", "--ui=:9100"},
		{"local", "--host", "http://127.0.0.1:1", "--ui=127.0.0.1"},
		{"local", "--host", "http://127.0.0.1:1", "--ui=127.0.0.1:99999"},
		{"demo", "--ui=example.com:80"},
		{"ui", "--listen", "0.0.0.0:9100", "."},
	} {
		var out, errors strings.Builder
		status := (&console{out: &out, err: &errors}).command(command)
		if status != 2 || !strings.Contains(errors.String(), "for this machine alone") {
			t.Errorf("%q: status %d, %q", command, status, errors.String())
		}
	}
}

func TestInspectorSaysThatItsPortIsTaken(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = startInspector(newHistory(""), nil, "", ln.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("%v", err)
	}
}

// Nothing runs again, and the picture is of the hour in which they came.
func TestRecordingsOpenInTheInspector(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}, record: directory})
	r.local.keepHistory("")
	c := r.context()
	q := r.direct(task{Text: "recorded"}, c)
	r.local.record(q)
	r.reply(q)
	r.local.finish(q, overAnswered)
	r.local.recordEnd(q)
	write(t, directory, map[string]string{"other.json": "{}"})
	cmd := r.command("", "ui", directory)
	cmd.stdout.wait(
		r, "1 recording in "+directory+"; left out, as no recording: 1 file\ninspector: http://127.0.0.1:")
	cmd.stdout.wait(r, "token=")
	_, address, _ := strings.Cut(cmd.stdout.String(), "inspector: ")
	resp, err := http.Get(strings.TrimSpace(address)) // without a jar for the cookie
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("the page, without the cookie: %d", resp.StatusCode)
	}
	cmd.cmd.Process.Signal(syscall.SIGTERM)
	cmd.exit(0)

	h, _, err := readRecordings(directory)
	if err != nil {
		t.Fatal(err)
	}
	u, err := startInspector(h, nil, "recordings", "")
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	page := &uiRig{localRig: r, ui: u, cookie: u.cookieName() + "=" + u.session}
	if status, text, _ := page.ask("POST", "/api/again", `{"id":1}`); status != 409 ||
		!strings.Contains(text, "live-lambda invoke") {
		t.Errorf("again: %d %s", status, text)
	}
	next := page.listen()
	if got := next("all"); !strings.Contains(got, `"runs":false`) || !strings.Contains(got, c.RequestID) {
		t.Errorf("all: %s", got)
	}
	if got := next("hour"); !strings.Contains(got, `"count":1`) {
		t.Errorf("hour: %s", got)
	}
}
