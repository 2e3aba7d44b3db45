//go:build !layer

package main

// aws_layer_test.go tests publish-layer against the fake of the AWS CLI.

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// publishTest is one run of publish-layer.
type publishTest struct {
	name   string
	args   []string
	status int
	want   string // of both outputs; ZIP stands for the last argument
}

func (tt publishTest) check(t *testing.T, f *fakeAWS) {
	t.Run(tt.name, func(t *testing.T) {
		r := f.run("publish-layer", tt.args...)
		want := strings.ReplaceAll(tt.want, "ZIP", tt.args[len(tt.args)-1])
		if r.status != tt.status || r.out+r.err != want {
			t.Errorf("got %d, %q and %q, want %d and %q", r.status, r.out, r.err, tt.status, want)
		}
	})
}

// elfFile begins as an executable for a machine.
func elfFile(machine elf.Machine) string {
	return "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 11) + string([]byte{byte(machine), 0}) + "rest"
}

func TestPublishLayerPrintsTheARN(t *testing.T) {
	amd64 := layerZip(t, 0o755, elfFile(elf.EM_X86_64))
	arm64 := layerZip(t, 0o755, elfFile(elf.EM_AARCH64))
	launcher := layerZip(t, 0o755, "#!/bin/sh\n")
	f := newFakeAWS(t)
	clear(f.layers)
	for _, tt := range []publishTest{
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
		{name: "refused by Lambda", args: []string{"arm64", "--zip", arm64, "--name", "a b"}, status: 1,
			want: "arm64: aws lambda publish-layer-version: ValidationException: 1 validation error " +
				"detected\n"},
	} {
		tt.check(t, f)
	}
	got := f.layers["live-lambda-arm64"]
	if len(got) != 2 || !slices.Equal(got[1], []string{"arm64"}) {
		t.Errorf("published %v", got)
	}
}

func TestPublishLayerRefusesWhatCannotStart(t *testing.T) {
	arm64 := layerZip(t, 0o755, elfFile(elf.EM_AARCH64))
	notZip := filepath.Join(t.TempDir(), "x.zip")
	err := os.WriteFile(notZip, []byte("no zip"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f := newFakeAWS(t)
	clear(f.layers)
	for _, tt := range []publishTest{
		{name: "another architecture", args: []string{"x86_64", "--zip", arm64}, status: 1,
			want: "x86_64: ZIP is for another architecture, EM_AARCH64, not for x86_64\n"},
		{name: "not executable", args: []string{"arm64", "--zip", layerZip(t, 0o644, elfFile(elf.EM_X86_64))},
			status: 1,
			want: "arm64: ZIP has no executable extensions/live-lambda-extension; it is not a layer that " +
				"./build.sh has built\n"},
		{name: "not a zip", args: []string{"arm64", "--zip", notZip}, status: 1,
			want: "arm64: ZIP: zip: not a valid zip file\n"},
		{name: "not there", args: []string{"arm64", "--zip", "nowhere.zip"}, status: 1,
			want: "arm64: nowhere.zip is not there\n"},
	} {
		tt.check(t, f)
	}
	if len(f.layers) > 0 {
		t.Errorf("published %v", f.layers)
	}
}

// Beside the test's program there is no zip.
func TestPublishLayerLooksInDist(t *testing.T) {
	f := newFakeAWS(t)
	t.Chdir(t.TempDir())
	r := f.run("publish-layer", "arm64")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Dir(program)
	want := "arm64: live-lambda-layer-arm64.zip is in none of " + beside + ", " + beside +
		"/dist, dist; run " +
		"./build.sh first, or name the zip with --zip\n"
	if r.status != 1 || r.out+r.err != want {
		t.Errorf("got %d and %q, want 1 and %q", r.status, r.out+r.err, want)
	}
	err = os.Rename(filepath.Dir(layerZip(t, 0o755, elfFile(elf.EM_AARCH64))), "dist")
	if err == nil {
		err = os.Rename("dist/layer.zip", "dist/live-lambda-layer-arm64.zip")
	}
	if err != nil {
		t.Fatal(err)
	}
	r = f.run("publish-layer", "arm64")
	if r.status != 0 {
		t.Errorf("got %d and %q", r.status, r.err)
	}
}

func TestPublishLayerRefusesAHashThatItDoesNotKnow(t *testing.T) {
	file := layerZip(t, 0o755, elfFile(elf.EM_AARCH64))
	err := os.WriteFile(filepath.Join(filepath.Dir(file), sumsFile), []byte("0123  layer.zip\n\nx\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f := newFakeAWS(t)
	want := "arm64: no SHA256SUMS beside " + file + " names its SHA-256, " + hashOf(t, file) +
		": build the layer with ./build.sh, or publish this one with --force\n"
	r := f.run("publish-layer", "arm64", "--zip", file)
	if r.status != 1 || r.err != want {
		t.Errorf("got %d and %q, want 1 and %q", r.status, r.err, want)
	}
	r = f.run("publish-layer", "arm64", "--zip", file, "--force")
	if r.status != 0 {
		t.Errorf("got %d and %q with --force", r.status, r.err)
	}
}

// What a SHA256SUMS says beside the zip does not matter to a release: whoever has changed the one may have
// changed the other.
func TestReleasePublishesItsOwnZipsAlone(t *testing.T) {
	own := layerZip(t, 0o755, elfFile(elf.EM_AARCH64))
	other := layerZip(t, 0o755, elfFile(elf.EM_AARCH64)+"more")
	defer func(version, zips string) {
		releaseVersion, releaseZips = version, zips
	}(releaseVersion, releaseZips)
	releaseVersion = "v1.2.3"
	releaseZips = "live-lambda-layer-amd64.zip=00,live-lambda-layer-arm64.zip=" + hashOf(t, own)
	f := newFakeAWS(t)
	r := f.run("publish-layer", "arm64", "--zip", own)
	if r.status != 0 {
		t.Errorf("got %d and %q for its own zip", r.status, r.err)
	}
	want := "arm64: " + other + " is not of the release v1.2.3 (its SHA-256 is " + hashOf(t, other) +
		"): take the zip of that release, or publish this one with --force\n"
	r = f.run("publish-layer", "arm64", "--zip", other)
	if r.status != 1 || r.err != want {
		t.Errorf("got %d and %q, want 1 and %q", r.status, r.err, want)
	}
	version := f.run("--version")
	lines := strings.Split(version.out, "\n")
	if lines[0] != "live-lambda v1.2.3" ||
		!slices.Contains(lines, hashOf(t, own)+"  live-lambda-layer-arm64.zip") {
		t.Errorf("--version prints %q", version.out)
	}
}

func TestVersionNamesRevisionAndGo(t *testing.T) {
	r := newFakeAWS(t).run("--version")
	want := regexp.MustCompile(
		`^live-lambda .+\nrevision .+\n` + regexp.QuoteMeta(runtime.Version()) + ` \w+/\w+\n$`)
	if r.status != 0 || !want.MatchString(r.out) {
		t.Errorf("got %d and %q", r.status, r.out)
	}
}

func hashOf(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(content))
}

// layerZip writes layer.zip, with one file in it, and the SHA256SUMS that names it, into a directory of their
// own.
func layerZip(t *testing.T, mode os.FileMode, content string) string {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	header := &zip.FileHeader{Name: extensionFile, Method: zip.Deflate}
	header.SetMode(mode)
	w, err := z.CreateHeader(header)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "layer.zip")
	_, err = io.WriteString(w, content)
	err = errors.Join(err, z.Close(), os.WriteFile(path, buf.Bytes(), 0o600))
	sums := fmt.Sprintf("%x  layer.zip\n", sha256.Sum256(buf.Bytes()))
	err = errors.Join(err, os.WriteFile(filepath.Join(filepath.Dir(path), sumsFile), []byte(sums), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return path
}
