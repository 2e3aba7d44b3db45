//go:build !layer

package main

// local_invoke_test.go runs the command invoke, as a process.

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What --record keeps, invoke runs; and it runs any event.
func TestInvoke(t *testing.T) {
	r := newRemoteRig(t)
	directory := filepath.Join(t.TempDir(), "events")
	c := r.startLocal(append([]string{"--record", directory, "--"}, testCommand("1")...)...)
	recorded := r.context()
	recorded.Environment = map[string]string{"AWS_SECRET_ACCESS_KEY": "hush"}
	r.invoke([]byte(`{"Do":"headers","n":1.0}`), recorded)
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
	files, err := filepath.Glob(directory + "/*.json")
	if err != nil || len(files) != 1 {
		t.Fatalf("recorded %v, %v", files, err)
	}
	text, _ := os.ReadFile(files[0])
	if info, _ := os.Stat(files[0]); info.Mode() != 0o600 || bytes.Contains(text, []byte("hush")) ||
		!bytes.Contains(text, []byte(`{"Do":"headers","n":1.0}`)) {
		t.Errorf("recorded, with %v: %s", info.Mode(), text)
	}

	run := append([]string{"--"}, testCommand("1")...)
	c = r.command("", append([]string{"invoke", files[0]}, run...)...)
	c.exit(0)
	if out := c.stdout.String(); !strings.Contains(out, recorded.RequestID) ||
		!strings.Contains(out, recorded.InvokedFunctionARN) {
		t.Errorf("invoke printed %s", out)
	}
	for _, tt := range []struct {
		stdin  string
		status int
		stdout string
	}{
		{stdin: `{"a":1}`, stdout: `{"a":1}`},
		{stdin: `{"event_payload":1,"context":{},"more":2}`,
			stdout: `{"event_payload":1,"context":{},"more":2}`},
		{stdin: `{"Do":"error","Text":"{\"errorType\":\"E\",\"errorMessage\":\"m\"}","Type":"E"}`, status: 1,
			stdout: `{"errorType":"E","errorMessage":"m"}`},
		{stdin: `{"Do":"exit","Code":7}`, status: 1, stdout: `exit status 7`},
		{stdin: `{"Do":"stream","Pieces":["one","two"]}`, stdout: `onetwo`},
		{stdin: `{"Do":"stream","Pieces":["one"],"Text":"{\"errorType\":\"E\",\"errorMessage\":\"broken ` +
			`off\"}"}`, status: 1,
			stdout: `one`},
		{stdin: `{"Do":"print","Text":"to stderr"}`, stdout: `null`},
		{stdin: `not JSON`, status: 2},
	} {
		c := r.command(tt.stdin, append([]string{"invoke"}, run...)...)
		c.exit(tt.status)
		if out := c.stdout.String(); out != tt.stdout &&
			!(tt.status == 1 && strings.Contains(out, tt.stdout)) {
			t.Errorf("%s: printed %q, want %q", tt.stdin, out, tt.stdout)
		}
		if strings.Contains(tt.stdin, "broken off") &&
			!strings.Contains(c.stderr.String(), "the function failed: E: broken off") {
			t.Errorf("%s: said %q", tt.stdin, c.stderr)
		}
	}
}
