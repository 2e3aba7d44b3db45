//go:build !layer

package main

// flags_test.go tests the command lines of all commands: what is refused, and what help says.

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestInfraCommandLines(t *testing.T) {
	usage := func(lines string) string { return "live-lambda " + lines + "; see --help\n" }
	tests := []struct {
		command string
		args    string
		want    string
	}{
		{"template", "--nope", usage("template: flag provided but not defined: -nope")},
		{"template", "x", usage(`template: what is "x"?`)},
		{"template", "--protocol mqtt", usage(`template: --protocol is "mqtt", not events or graphql`)},
		{"publish-layer", "", usage("publish-layer: for which architecture, x86_64 or arm64?")},
		{"publish-layer", "mips", usage(`publish-layer: the architecture "mips" is not x86_64 or arm64`)},
		{"publish-layer", "arm64 x86_64 --zip x",
			usage("publish-layer: --zip and --name are for one architecture")},
		{"attach", "", usage("attach: which function?")},
		{"attach", "f --nope", usage("attach: flag provided but not defined: -nope")},
		{"attach", "f:live",
			usage(`attach: "f:live" is not a function's name or ARN without version or alias; published ` +
				`versions cannot be changed`)},
		{"attach", "arn:aws:lambda:eu-west-1:123456789012:function:f:7",
			usage(`attach: "arn:aws:lambda:eu-west-1:123456789012:function:f:7" is not a function's name ` +
				`or ARN without version or alias; published versions cannot be changed`)},
		{"attach", "f",
			usage("attach: the AppSync API is not set: " +
				"give --stack, --host or LIVE_LAMBDA_APPSYNC_HTTP_HOST")},
		{"attach", "f --host 127.0.0.1:9",
			usage("attach: the AppSync API's host is this machine, which no function can reach")},
		{"attach", "f --host http://example.com",
			usage("attach: LIVE_LAMBDA_APPSYNC_HTTP_HOST asks for no TLS (http://), which only a loopback " +
				"host may do")},
		{"attach", "f --host example.com --stage a_b",
			usage(`attach: LIVE_LAMBDA_STAGE is "a_b", not 1 to 50 letters, digits and inner dashes`)},
		{"attach", "f --host example.com --set LIVE_LAMBDA_OFFLINE=maybe",
			usage(`attach: LIVE_LAMBDA_OFFLINE is "maybe", not deployed or error; using deployed`)},
		{"attach", "f --host example.com --set LIVE_LAMBDA_EXEC_WRAPPER=/opt/x",
			usage(`attach: invalid value "LIVE_LAMBDA_EXEC_WRAPPER=/opt/x" for flag -set: not NAME=VALUE ` +
				`of one of the layer's variables`)},
		{"attach", "f --host example.com --set TABLE=x",
			usage(`attach: invalid value "TABLE=x" for flag -set: not NAME=VALUE of one of the layer's ` +
				`variables`)},
		{"attach", "f --host example.com --set LIVE_LAMBDA_ATTACHED=x",
			usage(`attach: invalid value "LIVE_LAMBDA_ATTACHED=x" for flag -set: not NAME=VALUE of one of ` +
				`the layer's variables`)},
		{"attach", "f --host example.com --attach-policy",
			usage("attach: --attach-policy takes the policy from a stack: give --stack")},
		{"detach", "--yes", usage("detach: which function?")},
		{"detach", "f --stage x", usage("detach: flag provided but not defined: -stage")},
		{"doctor", "x", usage(`doctor: what is "x"?`)},
		{"doctor", "--nope", usage("doctor: flag provided but not defined: -nope")},
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
func TestInfraHelp(t *testing.T) {
	f := newFakeAWS(t)
	for command, flags := range map[string]string{
		"template":      "protocol",
		"publish-layer": "name profile zip",
		"attach": "api-key attach-policy host layer namespace profile protocol realtime-host region " +
			"set stack stage yes",
		"detach": "profile yes",
		"doctor": "api-key host namespace profile protocol realtime-host region stack stage",
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
		if got := strings.Join(found, " "); got != flags {
			t.Errorf("%s: help has %q, want %q", command, got, flags)
		}
		for _, line := range strings.Split(long.out, "\n") {
			if len(line) > 120 {
				t.Errorf("%s: help has a line of %d characters: %q", command, len(line), line)
			}
		}
		for _, name := range found {
			if r := f.run(command, "--"+name+"=false", "--not-there"); strings.Contains(
				r.err, "not defined: -"+name) {
				t.Errorf("%s takes no --%s: %s", command, name, r.err)
			}
		}
	}
}

func TestCommandLines(t *testing.T) {
	r := newTestLocal(t, localOptions{})
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
		{"", 0, "usage: live-lambda COMMAND"}, {"help", 0, "  invoke "}, {"--help", 0, "  local "},
		{"nonsense", 2, `there is no command "nonsense"`},
		{"local --help", 0, "--max-processes"},
		{"local --help", 0, "  --own-env\n        leave out the environment"},
		{"invoke --own-env", 2, "not defined"}, {"invoke --help", 0, "--timeout"},
		{"local --nonsense", 2, "not defined"},
		{"local -- true", 2, "LIVE_LAMBDA_APPSYNC_HTTP_HOST"},
		{"local --host a b -- true", 2, `what is "b"?`}, {"local --host a --", 2, "no command after --"},
		{"local --host a --max-processes 0", 2, "--max-processes"},
		{"local --host a --map x", 2, "NAME=COMMAND"}, {"local --host a --map [=x", 2, "syntax error"},
		{"local --host a --function [", 2, "syntax error"},
		{"local --host http://example.com", 2, "TLS"}, {"invoke /nonexistent -- true", 2, "no such file"},
		{"invoke " + event + " " + notJSON, 2, "It goes after --"},
		{"invoke " + event + " " + notJSON + " -- true", 2, "is not JSON"},
		{"sample --help", 0, "WHERE"}, {"sample", 2, "WHERE"}, {"demo --help", 0, "--listen"},
		{"demo a", 2, `what is "a"?`}, {"demo --listen 0.0.0.0:0", 2, "not an address on loopback"},
		{"demo --listen 127.0.0.1:99999", 2, "not an address on loopback"},
	} {
		c := r.command("", strings.Fields(tt.args)...)
		c.exit(tt.status)
		out := c.stdout
		if tt.status != 0 {
			out = c.stderr
		}
		if !strings.Contains(out.String(), tt.want) {
			t.Errorf("%q printed %q and %q, want %q", tt.args, c.stdout, c.stderr, tt.want)
		}
	}
}
