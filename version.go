//go:build !layer

package main

// version.go says which version this program is, and which layer zips belong to it.

import (
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// A release's build sets these two with -ldflags -X (see .ci/release). In any other build they are empty.
var (
	releaseVersion string // v1.2.3
	releaseZips    string // NAME=SHA256,NAME=SHA256: the layer zips of the same release, by file name
)

// releasedZips returns the hashes of the release's layer zips, in hexadecimal, by file name. It is empty if
// this program is not of a release.
func releasedZips() map[string]string {
	hashes := map[string]string{}
	for pair := range strings.SplitSeq(releaseZips, ",") {
		name, hash, ok := strings.Cut(pair, "=")
		if ok {
			hashes[name] = hash
		}
	}
	return hashes
}

// versionText is what --version prints: the version, the revision of the sources, Go's version, and of a
// release the hashes of its layer zips.
func versionText() string {
	version := releaseVersion
	revision := "unknown"
	info, ok := debug.ReadBuildInfo()
	if ok {
		modified := ""
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = ", with changes that are not committed"
			}
		}
		revision += modified
		if version == "" && info.Main.Version != "(devel)" {
			version = info.Main.Version // of `go install`
		}
	}
	if version == "" {
		version = "(built from sources)"
	}
	text := fmt.Sprintf("live-lambda %s\nrevision %s\n%s %s/%s\n",
		version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	hashes := releasedZips()
	for _, name := range slices.Sorted(maps.Keys(hashes)) {
		text += hashes[name] + "  " + name + "\n"
	}
	return text
}
