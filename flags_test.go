//go:build !layer

package main

// flags_test.go tests the command lines of all commands: what is refused, and what help says.

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCommandLineThatIsWrongSaysHow(t *testing.T) {
	usage := func(lines string) string { return "live-lambda " + lines + "; see --help\n" }
	const notOwn = "--set is not NAME=VALUE of one of the layer's variables, " +
		"AWS_LWA_LAMBDA_RUNTIME_API_PROXY, " +
		"LIVE_LAMBDA, LIVE_LAMBDA_ACCEPT_TIMEOUT, LIVE_LAMBDA_APPSYNC_API_KEY, " +
		"LIVE_LAMBDA_APPSYNC_HTTP_HOST, LIVE_LAMBDA_APPSYNC_PROTOCOL, LIVE_LAMBDA_APPSYNC_REALTIME_HOST, " +
		"LIVE_LAMBDA_APPSYNC_REGION, LIVE_LAMBDA_DELIVERY, LIVE_LAMBDA_FORWARD_ENV, LIVE_LAMBDA_KEY, " +
		"LIVE_LAMBDA_LOG_LEVEL, LIVE_LAMBDA_MODE, LIVE_LAMBDA_NAMESPACE, LIVE_LAMBDA_OFFLINE, " +
		"LIVE_LAMBDA_ROUTE, LIVE_LAMBDA_STAGE, LIVE_LAMBDA_UNTIL, LRAP_LISTENER_PORT, " +
		"LRAP_RUNTIME_API_ENDPOINT"
	const notLife = "not a time from 1m to 720h, like 2h or 90m"
	tests := []struct {
		command string
		args    string
		want    string
	}{
		{command: "template", args: "--nope", want: usage("template: flag provided but not defined: --nope")},
		{command: "template", args: "x", want: usage(`template: there is no use for "x"`)},
		{command: "template", args: "--protocol mqtt",
			want: usage(`template: --protocol is "mqtt", not events or graphql`)},
		{command: "publish-layer", want: usage("publish-layer: name an architecture: x86_64 or arm64")},
		{command: "publish-layer", args: "mips",
			want: usage(`publish-layer: the architecture "mips" is not x86_64 or arm64`)},
		{command: "publish-layer", args: "arm64 x86_64 --zip x",
			want: usage("publish-layer: --zip and --name are for one architecture")},
		{command: "attach", want: usage("attach: name a function")},
		{command: "attach", args: "f --nope", want: usage("attach: flag provided but not defined: --nope")},
		{command: "attach", args: "f:live",
			want: usage(`attach: "f:live" is not a function's name or ARN without version or alias; ` +
				`published ` +
				`versions cannot be changed`)},
		{command: "attach", args: "arn:aws:lambda:eu-west-1:123456789012:function:f:7",
			want: usage(`attach: "arn:aws:lambda:eu-west-1:123456789012:function:f:7" is not a function's ` +
				`name ` +
				`or ARN without version or alias; published versions cannot be changed`)},
		{command: "attach", args: "f",
			want: usage("attach: the AppSync API is not set: " +
				"give --stack, --host or LIVE_LAMBDA_APPSYNC_HTTP_HOST")},
		{command: "attach", args: "f --host 127.0.0.1:9",
			want: usage("attach: the AppSync API's host is this machine, which no function can reach")},
		{command: "attach", args: "f --host http://example.com",
			want: usage("attach: LIVE_LAMBDA_APPSYNC_HTTP_HOST asks for no TLS (http://), which only a " +
				"loopback " +
				"host may do")},
		{command: "attach", args: "f --host example.com --stage a_b",
			want: usage(`attach: LIVE_LAMBDA_STAGE is "a_b", not 1 to 50 letters, digits and inner dashes`)},
		{command: "attach", args: "f --host example.com --set LIVE_LAMBDA_OFFLINE=maybe",
			want: usage(`attach: LIVE_LAMBDA_OFFLINE is "maybe", not deployed or error; using deployed`)},
		{command: "attach", args: "f --host example.com --set LIVE_LAMBDA_EXEC_WRAPPER=/opt/x",
			want: usage("attach: --set LIVE_LAMBDA_EXEC_WRAPPER: " + notOwn)},
		{command: "attach", args: "f --host example.com --set TABLE=x",
			want: usage("attach: --set TABLE: " + notOwn)},
		{command: "attach", args: "f --host example.com --set LIVE_LAMBDA_ACEPT_TIMEOUT=3s",
			want: usage("attach: --set LIVE_LAMBDA_ACEPT_TIMEOUT: " + notOwn)},
		{command: "attach", args: "f --host example.com --set LIVE_LAMBDA_STAGE=",
			want: usage("attach: --set LIVE_LAMBDA_STAGE: " + notOwn)},
		{command: "attach", args: "f --host example.com --set LIVE_LAMBDA_ATTACHED=x",
			want: usage("attach: --set LIVE_LAMBDA_ATTACHED: " + notOwn)},
		{command: "attach", args: "f --host example.com --set LIVE_LAMBDA_KEYS=" + secretValue,
			want: usage("attach: --set LIVE_LAMBDA_KEYS: " + notOwn)},
		{command: "attach", args: "f --host example.com --set " + secretValue,
			want: usage("attach: " + notOwn)},
		{command: "attach", args: "f --host example.com --seal --set LIVE_LAMBDA_KEY=" + secretValue,
			want: usage(
				"attach: --seal makes a key for each function, and --set names one in LIVE_LAMBDA_KEY")},
		{command: "attach", args: "f --host example.com --for 59s",
			want: usage(`attach: invalid value "59s" for flag --for: ` + notLife)},
		{command: "attach", args: "f --host example.com --for 721h",
			want: usage(`attach: invalid value "721h" for flag --for: ` + notLife)},
		{command: "attach", args: "f --host example.com --for tomorrow",
			want: usage(`attach: invalid value "tomorrow" for flag --for: ` + notLife)},
		{command: "attach", args: "arn:aws:lambda:eu-west-1:123456789012:web-function/shop",
			want: usage(`attach: "arn:aws:lambda:eu-west-1:123456789012:web-function/shop" is a Web ` +
				`Function, ` +
				`which takes no layer and no events: live-lambda is for functions with a handler`)},
		{command: "attach", args: "tag:=x", want: usage(`attach: "tag:=x" is not tag:KEY=VALUE or tag:KEY`)},
		{command: "attach", args: "stack:", want: usage(`attach: "stack:" is not stack:NAME`)},
		{command: "attach", args: "orders-[",
			want: usage(`attach: "orders-[" is not a shell pattern: syntax error in pattern`)},
		{command: "attach", args: "f --host example.com --attach-policy",
			want: usage("attach: --attach-policy knows no policy: give --stack, or set " +
				"LIVE_LAMBDA_FUNCTION_POLICY_ARN")},
		{command: "detach", args: "--yes", want: usage("detach: name a function")},
		{command: "detach", args: "--all f",
			want: usage(`detach: --all stands for all functions, so there is no use for "f"`)},
		{command: "status", args: "f", want: usage(`status: there is no use for "f"`)},
		{command: "detach", args: "f --stage x",
			want: usage("detach: flag provided but not defined: --stage")},
		{command: "doctor", args: "x y", want: usage(`doctor: there is no use for "y"`)},
		{command: "attach", args: "f --host example.com --set LIVE_LAMBDA_MODE=copy",
			want: usage(`attach: LIVE_LAMBDA_MODE is "copy", not take or mirror; using take`)},
		{command: "attach", args: "f --host example.com --set LIVE_LAMBDA_UNTIL=tomorrow",
			want: usage("attach: LIVE_LAMBDA_UNTIL is not a time like 2030-12-31T18:00:00Z")},
		{command: "attach", args: "f --host example.com --set LIVE_LAMBDA_ROUTE=x_dev",
			want: usage(
				`attach: LIVE_LAMBDA_ROUTE is "x_dev", not 1 to 50 letters, digits and inner dashes`)},
		{command: "attach", args: "f --host example.com --set LIVE_LAMBDA_KEY=" + secretValue,
			want: usage("attach: LIVE_LAMBDA_KEY is not 32 bytes in unpadded base64url, as `live-lambda " +
				"key` prints them")},
		{command: "key", args: "x", want: usage(`key: there is no use for "x"`)},
		{command: "doctor", args: "--nope", want: usage("doctor: flag provided but not defined: --nope")},
	}
	f := newFakeAWS(t)
	for _, tt := range tests {
		t.Run(tt.command+" "+tt.args, func(t *testing.T) {
			r := f.run(tt.command, strings.Fields(tt.args)...)
			if r.status != 2 || r.out != "" || r.err != tt.want {
				t.Errorf("got status %d, %q and %q, want 2 and %q", r.status, r.out, r.err, tt.want)
			}
		})
	}
	if len(f.calls) > 0 {
		t.Errorf("aws was called: %v", f.calls)
	}
}

// Every flag that a command takes stands in its help, and no other.
func TestHelpHasEveryFlag(t *testing.T) {
	f := newFakeAWS(t)
	for command, flags := range map[string]string{
		"template":      "protocol",
		"publish-layer": "force name profile zip",
		"attach": "api-key attach-policy for force host layer mirror namespace profile protocol " +
			"realtime-host region route seal set stack stage yes",
		"detach": "all profile yes",
		"status": "json profile stack",
		"doctor": "api-key config host key namespace profile protocol realtime-host region route stack stage",
		"key":    "",
	} {
		long, short := f.run(command, "--help"), f.run(command, "-h")
		if long.status != 0 || long.err != "" || long != short {
			t.Errorf("%s: got %+v for --help and %+v for -h", command, long, short)
		}
		var found []string
		for _, m := range regexp.MustCompile(`(?m)^  --([a-z-]+)`).FindAllStringSubmatch(long.out, -1) {
			found = append(found, m[1])
		}
		slices.Sort(found)
		got := strings.Join(found, " ")
		if got != flags {
			t.Errorf("%s: help has %q, want %q", command, got, flags)
		}
		for _, name := range found {
			r := f.run(command, "--"+name+"=false", "--not-there")
			if strings.Contains(r.err, "not defined: --"+name) {
				t.Errorf("%s takes no --%s: %s", command, name, r.err)
			}
		}
	}
}

// A terminal breaks a longer line in the middle of a word.
func TestHelpFitsATerminal(t *testing.T) {
	var out strings.Builder
	f := newFakeAWS(t)
	out.WriteString(f.run("--help").out)
	for _, c := range commands() {
		out.WriteString(commandHelp(t, c))
	}
	for line := range strings.Lines(out.String()) {
		if utf8.RuneCountInString(line) > helpColumns+len("\n") {
			t.Errorf("help has the line %q", line)
		}
	}
}

// What the function's processes print has nothing to do with it.
func TestDemoSaysWhatToDoIfThePortIsTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := newFakeAWS(t).run("demo", "--listen", ln.Addr().String())
	if r.status != 1 || !strings.HasSuffix(r.err, ": address already in use: choose another port\n") {
		t.Errorf("got %+v", r)
	}
}

func TestHelpKeepsIndentedLines(t *testing.T) {
	word := strings.Repeat("w", 60)
	got := fitted("usage: a\n" + word + "\n" + word + "\n  b " + word + " " + word + "\nc\nd")
	want := "usage: a\n" + word + "\n" + word + "\n  b " + word + "\n    " + word + "\nc d\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCommandLineSaysWhatIsWrongOrHelps(t *testing.T) {
	t.Setenv(hostVariable, "")
	t.Setenv("AWS_LAMBDA_RUNTIME_API", "")
	event, notJSON := filepath.Join(t.TempDir(), "event"), filepath.Join(t.TempDir(), "command")
	if err := errors.Join(
		os.WriteFile(event, []byte("1"), 0o600),
		os.WriteFile(notJSON, []byte("#!/bin/sh"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   string
		status int
		want   string
	}{
		{want: "usage: live-lambda COMMAND"}, {args: "help", want: "  invoke "},
		{args: "--help", want: "  local "}, {args: "help attach", want: "usage: live-lambda attach "},
		{args: "help nonsense", status: 2, want: `there is no command "nonsense"`},
		{args: "local --port for", status: 2, want: `invalid value "for" for flag --port: parse error`},
		{args: "local --own-env=-x", status: 2, want: `invalid boolean value "-x" for --own-env: `},
		{args: "local --port", status: 2, want: "flag needs an argument: --port; see --help"},
		{args: "nonsense", status: 2, want: `there is no command "nonsense"`},
		{args: "local --help", want: "--max-processes"},
		{args: "local --help", want: "  --own-env\n        leave out the environment"},
		{args: "invoke --own-env", status: 2, want: "not defined"},
		{args: "invoke --help", want: "--timeout"},
		{
			args: "invoke " + event + " src/none.handler", status: 2,
			want: "src/none.handler: no such file or directory; a HANDLER goes before the FILEs",
		},
		{args: "local --nonsense", status: 2, want: "not defined"},
		{args: "local -- true", status: 2, want: "LIVE_LAMBDA_APPSYNC_HTTP_HOST"},
		{args: "local --host a b -- true", status: 2, want: `no use for "b" beside a command`},
		{args: "local --host a --", status: 2, want: "no command after --"},
		{args: "local --host a --max-processes 0", status: 2, want: "--max-processes"},
		{args: "local --host a --map x", status: 2, want: "NAME=COMMAND"},
		{args: "local --host a --map [=x", status: 2, want: "syntax error"},
		{args: "local --host a --function [", status: 2, want: "syntax error"},
		{args: "local --host http://example.com", status: 2, want: "TLS"},
		{args: "invoke /nonexistent -- true", status: 2, want: "no such file"},
		{args: "invoke " + event + " " + notJSON, status: 2, want: "a command after --"},
		{args: "invoke " + event + " " + notJSON + " -- true", status: 2, want: "is not JSON"},
		{args: "sample --help", want: "WHERE"}, {args: "sample", status: 2, want: "WHERE"},
		{args: "demo --help", want: "--listen"},
		{args: "demo a", status: 2, want: "a is no HANDLER"},
		{args: "demo a b", status: 2, want: `there is no use for "b"; a command goes after --`},
		{args: "local --host a b c", status: 2, want: `there is no use for "c"; a command goes after --`},
		{args: "local --host a --external b", status: 2, want: "beside a command or --external"},
		{args: "local --host a --external -- sh", status: 2, want: "--external starts no command"},
		{args: "local --host a -- nosuchcommand", status: 2,
			want: "there is no command nosuchcommand on PATH"},
		{args: "local --host a --env-file x -- sh", status: 2,
			want: "--env-file and --port go with --external"},
		{args: "local --host a --external --env-file /nonexistent/x", status: 2, want: "--env-file: open /"},
		{args: "invoke --external --env-file / " + event, status: 2, want: "--env-file: open /"},
		{args: "local --host a --port 7 -- sh", status: 2, want: "--env-file and --port go with --external"},
		{args: "local --host a --external --port 70000", status: 2, want: "--port is not from 0 to 65535"},
		{args: "local --host a --inspect=x -- sh", status: 2, want: "not a port"},
		{args: "local --host a --inspect=70000 -- sh", status: 2, want: "not a port"},
		{args: "local --config /nonexistent", status: 2, want: "no such file"},
		{args: "invoke missing.handler " + event, status: 2, want: "no file for the handler missing.handler"},
		{args: "demo --set LIVE_LAMBDA_ROUTE=x", status: 2, want: "--set goes with --listen"},
		{args: "demo --listen 127.0.0.1:0 --set LIVE_LAMBDA_ROUTE=x_y", status: 2,
			want: `LIVE_LAMBDA_ROUTE is "x_y", not 1 to 50 letters`},
		{args: "demo --listen 127.0.0.1:0 --set A=x", status: 2, want: "not NAME=VALUE of one of"},
		{args: "demo --concurrency 0", status: 2, want: "--concurrency is 0, not from 1 to 100"},
		{args: "demo --concurrency 101", status: 2, want: "--concurrency is 101, not from 1 to 100"},
		{args: "demo --listen 127.0.0.1:0 --set LRAP_LISTENER_PORT=9009", status: 2,
			want: "LRAP_LISTENER_PORT goes with --concurrency 1"},
		{args: "demo --listen 0.0.0.0:0", status: 2, want: "not an address on loopback"},
		{args: "demo --listen 127.0.0.1:99999", status: 2, want: "not an address on loopback"},
	} {
		var stdout, stderr bytes.Buffer
		c := &console{in: strings.NewReader(""), out: &stdout, err: &stderr}
		status := c.command(strings.Fields(tt.args))
		out := stdout.String()
		if tt.status != 0 {
			out = stderr.String()
		}
		if status != tt.status || !strings.Contains(out, tt.want) {
			t.Errorf("%q: status %d, printed %q and %q, want %d and %q",
				tt.args, status, stdout.String(), stderr.String(), tt.status, tt.want)
		}
	}
}
