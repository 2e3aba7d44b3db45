//go:build !layer

package main

// aws_layer_test.go tests publish-layer against the fake of the AWS CLI.

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPublishLayer(t *testing.T) {
	header := func(machine byte) string {
		return "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 11) + string(rune(machine)) + "\x00rest"
	}
	amd64 := layerZip(t, 0o755, header(62))
	arm64 := layerZip(t, 0o755, "\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 11)+"\xb7\x00rest")
	launcher := layerZip(t, 0o755, "#!/bin/sh\n")
	notZip := filepath.Join(t.TempDir(), "x.zip")
	os.WriteFile(notZip, []byte("no zip"), 0o600)
	tests := []struct {
		name   string
		args   []string
		status int
		want   string // of both outputs
	}{
		{name: "arm64", args: []string{"arm64", "--zip", arm64},
			want: "arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:1\n"},
		{name: "again", args: []string{"--zip", arm64, "aarch64"},
			want: "arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-arm64:2\n"},
		{name: "x86_64", args: []string{"x86_64", "--zip", amd64, "--name", "mine"},
			want: "arn:aws:lambda:eu-west-1:123456789012:layer:mine:1\n"},
		{name: "amd64", args: []string{"amd64", "--zip", amd64},
			want: "arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-amd64:1\n"},
		{name: "a launcher is for both", args: []string{"x86_64", "--zip", launcher},
			want: "arn:aws:lambda:eu-west-1:123456789012:layer:live-lambda-amd64:2\n"},
		{name: "another architecture", args: []string{"x86_64", "--zip", arm64}, status: 1,
			want: "x86_64: " + arm64 + " is for EM_AARCH64, not for x86_64\n"},
		{name: "not executable", args: []string{"arm64", "--zip", layerZip(t, 0o644, header(62))}, status: 1,
			want: "arm64: ZIP has no executable extensions/live-lambda-extension; it is not a layer that ./" +
				"build.sh has built\n"},
		{name: "not a zip", args: []string{"arm64", "--zip", notZip}, status: 1,
			want: "arm64: " + notZip + ": zip: not a valid zip file\n"},
		{name: "not built", args: []string{"arm64", "x86_64"}, status: 1,
			want: "arm64: dist/live-lambda-layer-arm64.zip is not there; run ./build.sh first, or name the " +
				"zip " +
				"with --zip\n" +
				"x86_64: dist/live-lambda-layer-amd64.zip is not there; run ./build.sh first, or name the " +
				"zip " +
				"with --zip\n"},
		{name: "refused", args: []string{"arm64", "--zip", arm64, "--name", "a b"}, status: 1,
			want: "arm64: aws lambda publish-layer-version: ValidationException: 1 validation error " +
				"detected\n"},
	}
	f := newFakeAWS(t)
	t.Chdir(t.TempDir())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := f.run("publish-layer", tt.args...)
			want := strings.ReplaceAll(tt.want, "ZIP", tt.args[len(tt.args)-1])
			if r.status != tt.status || r.out+r.err != want {
				t.Errorf("got %d, %q and %q, want %d and %q", r.status, r.out, r.err, tt.status, want)
			}
		})
	}
	if got := f.layers["live-lambda-arm64"]; len(got) != 2 || !slices.Equal(got[1], []string{"arm64"}) {
		t.Errorf("published %v", got)
	}
}

// layerZip writes a zip with an extension.
func layerZip(t *testing.T, mode os.FileMode, content string) string {
	path := filepath.Join(t.TempDir(), "layer.zip")
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	header := &zip.FileHeader{Name: "extensions/live-lambda-extension", Method: zip.Deflate}
	header.SetMode(mode)
	w, err := z.CreateHeader(header)
	if err == nil {
		_, err = io.WriteString(w, content)
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		err = os.WriteFile(path, buf.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}
