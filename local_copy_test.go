//go:build !layer

package main

// local_copy_test.go tests the commands that invocations are copied as: what they say, and what a shell makes
// of them.

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func init() {
	if os.Getenv("TEST_ARGUMENTS") != "" {
		input, _ := io.ReadAll(os.Stdin)
		os.Stdout.Write(mustJSON(map[string]any{"Arguments": os.Args[1:], "Input": input}))
		os.Exit(0)
	}
}

// shellArguments runs a command in a shell, in which curl and aws are this program, which prints its
// arguments and its standard input. It returns them.
func shellArguments(t *testing.T, command string) (arguments []string, input string) {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\nexec env TEST_ARGUMENTS=1 " + os.Args[0] + " \"$@\"\n"
	write(t, dir, map[string]string{"curl": script, "aws": script})
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%.500s: %v", command, err)
	}
	var told struct {
		Arguments []string
		Input     []byte
	}
	err = json.Unmarshal(out, &told)
	if err != nil {
		t.Fatalf("%.500s: printed %.500q", command, out)
	}
	files, _ := os.ReadDir(dir)
	if len(files) != 2 {
		t.Errorf("%.500s: it has left files", command)
	}
	return told.Arguments, string(told.Input)
}

func TestHTTPEventIsCopiedAsCurl(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		event string
		want  []string
		input string
	}{
		{
			name: "version 2",
			event: `{"version":"2.0","rawPath":"/orders/1","rawQueryString":"a=1&b=%20x",` +
				`"cookies":["s=1","t=2"],"headers":{"accept":"*/*","x-forwarded-for":"1.2.3.4",` +
				`"host":"api.example.com","accept-encoding":"gzip"},"requestContext":{` +
				`"domainName":"api.example.com","http":{"method":"GET","path":"/orders/1"}}}`,
			want: []string{"--globoff", "--path-as-is", "https://api.example.com/orders/1?a=1&b=%20x",
				"--header", "accept: */*", "--header", "cookie: s=1; t=2", "--compressed"},
		},
		{
			name: "version 1",
			event: `{"httpMethod":"POST","path":"/orders","headers":{"Content-Type":"application/json"},` +
				`"multiValueHeaders":{"Content-Type":["application/json"],"X-A":["1","2"]},` +
				`"multiValueQueryStringParameters":{"q":["a b","c&d"]},` +
				`"body":"{\"it\":\"it's\"}","isBase64Encoded":false,` +
				`"requestContext":{"path":"/prod/orders",` +
				`"domainName":"x.execute-api.eu-west-1.amazonaws.com"}}`,
			want: []string{"--globoff", "--path-as-is", "--request", "POST",
				"https://x.execute-api.eu-west-1.amazonaws.com/prod/orders?q=a+b&q=c%26d",
				"--header", "Content-Type: application/json", "--header", "X-A: 1", "--header", "X-A: 2",
				"--data-raw", `{"it":"it's"}`},
		},
		{
			name: "ALB",
			event: `{"requestContext":{"elb":{"targetGroupArn":"a"}},"httpMethod":"GET","path":"/",` +
				`"queryStringParameters":{"q":"a%20b"},` +
				`"headers":{"host":"lb.example.com:8080","x-forwarded-proto":"http"},"body":""}`,
			want: []string{"--globoff", "--path-as-is", "http://lb.example.com:8080/?q=a%20b"},
		},
		{
			name: "function URL, binary",
			event: `{"version":"2.0","rawPath":"/","headers":{"content-type":"image/png"},` +
				`"body":"AAEC/w==","isBase64Encoded":true,"requestContext":{` +
				`"domainName":"x.lambda-url.eu-west-1.on.aws","http":{"method":"PUT"}}}`,
			want: []string{"--globoff", "--path-as-is", "--request", "PUT",
				"https://x.lambda-url.eu-west-1.on.aws/", "--header", "content-type: image/png",
				"--data-binary", "@-"},
			input: "\x00\x01\x02\xff",
		},
		{
			name:  "HEAD, and no host",
			event: `{"httpMethod":"HEAD","path":"/a","headers":null,"body":null,"requestContext":{}}`,
			want:  []string{"--globoff", "--path-as-is", "--head", "https://HOST/a"},
		},
		{
			name: "body without a type that looks like a file",
			event: `{"httpMethod":"POST","path":"/","body":"@/etc/passwd","headers":{"X-Empty":""},` +
				`"requestContext":{"domainName":"a.b"}}`,
			want: []string{"--globoff", "--path-as-is", "--request", "POST", "https://a.b/",
				"--header", "X-Empty;", "--header", "Content-Type:", "--data-raw", "@/etc/passwd"},
		},
		{
			name: "hostile",
			event: `{"httpMethod":"GET","path":"/$(touch a)'` + "`touch b`" + `\u0000\n\"",` +
				`"headers":{"@/etc/passwd":"x","-o":"file","X":"'; touch c; '","Y":"a\r\nb",` +
				`"Z":"\u001b[31m",` +
				`"Ä":"x"},` +
				`"multiValueQueryStringParameters":{"'\\":["$HOME\n;"]},` +
				`"requestContext":{"domainName":"-oevil; touch d"}}`,
			want: []string{"--globoff", "--path-as-is",
				"https://HOST/$(touch%20a)'%60touch%20b%60%00%0A%22?%27%5C=%24HOME%0A%3B",
				"--header", "-o: file", "--header", "X: '; touch c; '"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			command, err := copyAsCurl(keptInvocation{Event: []byte(tt.event)})
			if err != nil {
				t.Fatal(err)
			}
			got, input := shellArguments(t, command)
			if !slices.Equal(got, tt.want) || input != tt.input {
				t.Errorf("curl gets\n%q with %q, want\n%q with %q", got, input, tt.want, tt.input)
			}
		})
	}
}

func TestWordIsOneWordInEveryShell(t *testing.T) {
	t.Chdir(t.TempDir())
	for s, want := range map[string]string{
		`plain`:                   `plain`,
		``:                        `''`,
		`it's`:                    `'it'\''s'`,
		`{"a":"\"b\nc"}`:          `'{"a":"\"b\nc"}'`,
		`\';touch ran;\'`:         `''\\\'';touch ran;'\\\'''`,
		`\\\';touch ran;'\`:       `''\\\\\\''\'';touch ran;'\'''\\''`,
		"a\\\\b\n!! `touch r` $x": "'a'\\\\\\\\'b\n!! `touch r` $x'",
	} {
		got := shellWord(s)
		if got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
		for _, shell := range []string{"sh", "bash", "zsh", "fish"} {
			_, err := exec.LookPath(shell)
			if err != nil {
				continue
			}
			out, err := exec.Command(shell, "-c", "printf %s "+got).CombinedOutput()
			if err != nil || string(out) != s {
				t.Errorf("%s: %q comes as %q, %v", shell, s, out, err)
			}
		}
	}
	files, _ := os.ReadDir(".")
	if len(files) > 0 {
		t.Errorf("it ran: %v", files)
	}
}

func TestLargeBodyReachesCurl(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("it's %s\n", maxInline)
	event := mustJSON(map[string]any{"httpMethod": "POST", "path": "/", "body": body})
	command, err := copyAsCurl(keptInvocation{Event: event})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "command") // too long for an argument, as for a line
	err = os.WriteFile(file, []byte(command), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	got, input := shellArguments(t, ". "+shellWord(file))
	if input != body || !slices.Contains(got, "@-") {
		t.Errorf("curl gets %q with %d bytes", got, len(input))
	}
}

func TestOtherEventsAreNotCopiedAsCurl(t *testing.T) {
	for _, event := range []string{
		`{"Records":[]}`,
		`null`,
		``,
		`{"httpMethod":"GET POST","path":"/"}`,
		`{"httpMethod":7}`,
		`{"httpMethod":"POST","path":"/","body":"!","isBase64Encoded":true}`,
	} {
		command, err := copyAsCurl(keptInvocation{Event: []byte(event)})
		if err == nil || command != "" {
			t.Errorf("%s: %q, %v", event, command, err)
		}
	}
}

func TestInvocationIsCopiedAsInvoke(t *testing.T) {
	t.Parallel()
	arn := "arn:aws:lambda:eu-west-1:123456789012:function:orders:live"
	for _, tt := range []struct {
		name    string
		event   string
		context eventContext
		version int
		want    []string
	}{
		{
			name:    "version 2",
			event:   `{"it":"it's $HOME"}`,
			context: eventContext{InvokedFunctionARN: arn, Region: "eu-west-1"},
			version: 2,
			want: []string{"lambda", "invoke", "--function-name", arn, "--region", "eu-west-1",
				"--payload", `{"it":"it's $HOME"}`, "--cli-binary-format", "raw-in-base64-out",
				"/dev/stdout"},
		},
		{
			name:    "version 1",
			event:   `1`,
			context: eventContext{FunctionName: "orders", TenantID: "t 1", ClientContext: []byte(`{"a":1}`)},
			version: 1,
			want: []string{"lambda", "invoke", "--function-name", "orders", "--client-context",
				"eyJhIjoxfQ==", "--tenant-id", "t 1", "--payload", "1", "/dev/stdout"},
		},
		{
			name:    "large",
			event:   `"` + strings.Repeat("x", maxInline) + `"`,
			context: eventContext{FunctionName: "orders"},
			version: 2,
			want: []string{"lambda", "invoke", "--function-name", "orders",
				"--payload", "fileb://my event.json", "/dev/stdout"},
		},
		{
			name:    "hostile",
			event:   "\"\u202e\"",
			context: eventContext{FunctionName: "--debug", Region: "-x"},
			version: 2,
			want: []string{"lambda", "invoke", "--function-name=--debug", "--region=-x",
				"--payload", "fileb://my event.json", "/dev/stdout"},
		},
		{
			name:    "a file that the CLI would read",
			event:   "-1e5",
			context: eventContext{FunctionName: "fileb://f", Region: "file://r", TenantID: "file:///a"},
			version: 1,
			want:    []string{"lambda", "invoke", "--payload=-1e5", "/dev/stdout"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := keptInvocation{Event: []byte(tt.event), Context: tt.context}
			got, _ := shellArguments(t, copyAsInvoke(i, tt.version, "my event.json"))
			if !slices.Equal(got, tt.want) {
				t.Errorf("aws gets\n%q, want\n%q", got, tt.want)
			}
		})
	}
}
