//go:build !layer

package main

// local_debug_test.go debugs handlers as an IDE does: over Node.js's inspector protocol, and over the Debug
// Adapter Protocol that debugpy speaks.
// https://chromedevtools.github.io/devtools-protocol/v8/Debugger/
// https://microsoft.github.io/debug-adapter-protocol/specification

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// debugMessage is what goes either way of both protocols, as far as the tests look at it.
type debugMessage struct {
	ID     int             `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`

	Seq       int             `json:"seq,omitempty"`
	Type      string          `json:"type,omitempty"`
	Command   string          `json:"command,omitempty"`
	Event     string          `json:"event,omitempty"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	Body      json.RawMessage `json:"body,omitempty"`
}

// inspector is a client of Node.js's inspector.
type inspector struct {
	*localRig
	conn *websocket.Conn
	last int
}

// inspect connects to the process that listens at a port, as soon as it does.
func (r *localRig) inspect(port int) *inspector {
	r.Helper()
	address := "127.0.0.1:" + strconv.Itoa(port)
	var targets []struct {
		URL string `json:"webSocketDebuggerUrl"`
	}
	r.out.wait(r, "Debugger listening on ws://"+address)
	resp, err := http.Get("http://" + address + "/json/list")
	if err == nil {
		err = json.NewDecoder(resp.Body).Decode(&targets)
		resp.Body.Close()
	}
	if err != nil || len(targets) != 1 {
		r.Fatalf("targets %v, %v", targets, err)
	}
	conn, err := websocket.Dial(targets[0].URL, "", "http://"+address)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { conn.Close() })
	return &inspector{localRig: r, conn: conn}
}

// do sends a command and returns when the process has answered.
func (i *inspector) do(method string, params any) {
	i.Helper()
	i.last++
	err := websocket.JSON.Send(i.conn, debugMessage{ID: i.last, Method: method, Params: mustJSON(params)})
	if err != nil {
		i.Fatal(err)
	}
	i.receive(func(m debugMessage) bool { return m.ID == i.last })
}

// receive reads messages until one is the wanted.
func (i *inspector) receive(wanted func(debugMessage) bool) {
	i.Helper()
	for {
		var m debugMessage
		err := websocket.JSON.Receive(i.conn, &m)
		if err != nil {
			i.Fatal(err)
		}
		if wanted(m) {
			return
		}
	}
}

// freeDebugPort is a port that was free a moment ago.
func freeDebugPort(t *testing.T) int {
	t.Helper()
	ln := listen(t)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// The deadline passes while the handler stands. The process is not ended, and takes the next event.
func TestNodeHandlerStopsAtABreakpointPastItsDeadline(t *testing.T) {
	needs(t, "node")
	directory := inDirectory(t, map[string]string{
		"app.mjs": "export const handler = async (event) => {\n  return event + 1;\n};\n",
	})
	port := freeDebugPort(t)
	r := newTestLocal(t, localOptions{
		code:     code{handler: "app.handler"},
		inspect:  true,
		debugged: true, debugPort: port, maxProcesses: 1,
	})
	_, body := r.reply(r.direct([]byte("1"), r.context()))
	if body != "2" {
		t.Fatalf("the first answer is %s", body)
	}
	i := r.inspect(port)
	i.do("Debugger.enable", struct{}{})
	i.do("Debugger.setBreakpointByUrl",
		map[string]any{"lineNumber": 1, "url": "file://" + directory + "/app.mjs"})
	c := r.context()
	late := r.direct([]byte("2"), c)
	i.receive(func(m debugMessage) bool { return m.Method == "Debugger.paused" })
	r.local.finish(late, overDeadline)
	next := r.direct([]byte("3"), r.context())
	i.do("Debugger.resume", struct{}{})
	i.receive(func(m debugMessage) bool { return m.Method == "Debugger.paused" })
	i.do("Debugger.resume", struct{}{})
	_, body = r.reply(next)
	if body != "4" {
		t.Errorf("the next answer is %s", body)
	}
	r.out.wait(r, "orders 00000000 late")
	r.out.wait(r, "debugger's port "+strconv.Itoa(port))
}

// adapter is a client of debugpy.
type adapter struct {
	*localRig
	conn net.Conn
	in   *bufio.Reader
	last int
}

// do sends a request.
func (a *adapter) do(command string, arguments any) {
	a.Helper()
	a.last++
	body := mustJSON(debugMessage{
		Seq: a.last, Type: "request", Command: command, Arguments: mustJSON(arguments)})
	_, err := fmt.Fprintf(a.conn, "Content-Length: %d\r\n\r\n%s", len(body), body)
	if err != nil {
		a.Fatal(err)
	}
}

// receive reads messages until one is of this event, or answers this command.
func (a *adapter) receive(what string) debugMessage {
	a.Helper()
	for {
		head, err := textproto.NewReader(a.in).ReadMIMEHeader()
		if err != nil {
			a.Fatalf("waiting for %s: %v; the terminal:\n%s", what, err, a.out)
		}
		length, _ := strconv.Atoi(head.Get("Content-Length"))
		body := make([]byte, length)
		_, err = io.ReadFull(a.in, body)
		if err != nil {
			a.Fatal(err)
		}
		var m debugMessage
		err = json.Unmarshal(body, &m)
		if err != nil {
			a.Fatal(err)
		}
		if m.Event == what || m.Command == what {
			return m
		}
	}
}

// useDebugpy has handlers below the working directory run by a python3 that has debugpy. Debian has it as a
// package for the python3 of the system, which may not be the one on PATH.
func useDebugpy(t *testing.T) {
	t.Helper()
	needs(t, "python3")
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import debugpy").Run() != nil {
			continue
		}
		file, err := exec.LookPath(python)
		if err == nil {
			err = os.MkdirAll(".venv/bin", 0o755)
		}
		if err == nil {
			err = os.Symlink(file, ".venv/bin/python")
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	unavailable(t, "debugpy")
}

func TestPythonHandlerStopsAtABreakpoint(t *testing.T) {
	directory := inDirectory(t, map[string]string{
		"app.py": "def handler(event, context):\n    return event + 1\n",
	})
	useDebugpy(t)
	port := freeDebugPort(t)
	r := newTestLocal(t, localOptions{
		code:    code{handler: "app.handler"},
		inspect: true, debugged: true, debugPort: port, maxProcesses: 1,
	})
	r.reply(r.direct([]byte("1"), r.context()))
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(port), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	a := &adapter{localRig: r, conn: conn, in: bufio.NewReader(conn)}
	a.do("initialize", map[string]any{"adapterID": "test", "linesStartAt1": true, "pathFormat": "path"})
	a.receive("initialize")
	a.do("attach", map[string]any{"justMyCode": true})
	a.receive("initialized")
	a.do("setBreakpoints", map[string]any{
		"source":      map[string]string{"path": directory + "/app.py"},
		"breakpoints": []map[string]int{{"line": 2}},
	})
	if m := a.receive("setBreakpoints"); !strings.Contains(string(m.Body), `"verified": true`) &&
		!strings.Contains(string(m.Body), `"verified":true`) {
		t.Fatalf("no breakpoint: %s", m.Body)
	}
	a.do("configurationDone", struct{}{})
	a.receive("configurationDone")
	q := r.direct([]byte("2"), r.context())
	m := a.receive("stopped")
	var stopped struct {
		Thread int `json:"threadId"`
	}
	json.Unmarshal(m.Body, &stopped)
	a.do("continue", map[string]int{"threadId": stopped.Thread})
	_, body := r.reply(q)
	if body != "3" {
		t.Errorf("the answer is %s", body)
	}
	if strings.Contains(r.out.String(), "Debugger warning") {
		t.Errorf("debugpy warns:\n%s", r.out)
	}
}

func TestDebuggerHasAPortOfItsOwnForEachFunction(t *testing.T) {
	inDirectory(t, map[string]string{"a.mjs": "", "b.mjs": "", "c.py": ""})
	for first, want := range map[int]string{
		0: "node --inspect=127.0.0.1:9229|node --inspect=127.0.0.1:9230|" +
			"python3 -Xfrozen_modules=off -m debugpy --listen 127.0.0.1:5678",
		9300: "node --inspect=127.0.0.1:9300|node --inspect=127.0.0.1:9301|" +
			"python3 -Xfrozen_modules=off -m debugpy --listen 127.0.0.1:9302",
	} {
		l := newLocal(localOptions{inspect: true, debugPort: first}, nil)
		for range 2 { // a function keeps its port
			var lines []string
			for function, handler := range []string{"a.handler", "a.handler", "c.handler"} {
				p, err := l.program(code{}, strconv.Itoa(function), handler)
				if err != nil {
					t.Fatal(err)
				}
				line := p.line()
				lines = append(lines, strings.Join(line[:len(line)-1], " "))
			}
			if got := strings.Join(lines, "|"); got != want {
				t.Errorf("from %d: %s, want %s", first, got, want)
			}
		}
		l.clients.remove()
	}
}

// A process that a debugger may have stopped is not ended after its deadline.
func TestDebuggedProcessOutlivesItsDeadline(t *testing.T) {
	for _, debugged := range []bool{false, true} {
		l := newLocal(localOptions{debugged: debugged}, nil)
		w := newWorker(&pool{local: l})
		l.mu.Lock()
		w.limit(&request{deadline: time.Now().Add(time.Hour)})
		limited := w.killing != nil
		w.spare()
		l.mu.Unlock()
		if limited == debugged {
			t.Errorf("debugged %t: limited %t", debugged, limited)
		}
	}
}
