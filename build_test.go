package main_test

// build_test.go tests build.sh on a copy of the sources or, if only its decisions matter, on a copy with
// an empty program, which compiles in a second.
//
// The tests that run in parallel start build.sh through sh: a file that was just written may still be open in
// a process that another test is starting, and the kernel then refuses to execute it.

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	emptyProgram = "package main\n\nfunc main() {}\n"
	amd64Binary  = "extensions/bin/live-lambda-extension-go-amd64"
	arm64Binary  = "extensions/bin/live-lambda-extension-go-arm64"
	launcherFile = "extensions/live-lambda-extension"
)

func TestBuildMakesTheLayers(t *testing.T) {
	t.Parallel()
	needTools(t, "zip", "unzip")
	dir := t.TempDir()
	copySources(t, dir)
	out, code := runScript(t, script{dir: dir}, "sh", "build.sh")
	if code != 0 || strings.Count(out, "compiling linux/") != 2 {
		t.Fatalf("build.sh: exit status %d, %s", code, out)
	}

	t.Run("layout", func(t *testing.T) { checkLayout(t, dir) })
	t.Run("binaries", func(t *testing.T) { checkBinaries(t, dir) })
	t.Run("zips", func(t *testing.T) { checkZips(t, dir) })
	t.Run("sums", func(t *testing.T) { checkSums(t, dir) })
	t.Run("reproducible", func(t *testing.T) { checkReproducible(t, dir) })
}

func checkLayout(t *testing.T, dir string) {
	want := map[string]fs.FileMode{
		"go_extension.sha256":       0o644,
		amd64Binary:                 0o755,
		arm64Binary:                 0o755,
		"layer/extension/bootstrap": 0o755,
		"layer/extension/live-lambda-runtime-wrapper.sh": 0o755,
		"layer/extension/" + launcherFile:                0o755,
		"layer/extension/" + amd64Binary:                 0o755,
		"layer/extension/" + arm64Binary:                 0o755,
		"live-lambda-layer.zip":                          0o644,
		"live-lambda-layer-amd64.zip":                    0o644,
		"live-lambda-layer-arm64.zip":                    0o644,
		"SHA256SUMS":                                     0o644,
	}
	if got := modes(t, filepath.Join(dir, "dist")); !maps.Equal(got, want) {
		t.Errorf("dist holds %v, want %v", got, want)
	}
	for from, to := range map[string]string{
		"wrapper.sh":          "dist/layer/extension/live-lambda-runtime-wrapper.sh",
		"bootstrap.sh":        "dist/layer/extension/bootstrap",
		"dist/" + amd64Binary: "dist/layer/extension/" + amd64Binary,
		"dist/" + arm64Binary: "dist/layer/extension/" + arm64Binary,
	} {
		if !bytes.Equal(readFile(t, dir, from), readFile(t, dir, to)) {
			t.Errorf("%s is not %s", to, from)
		}
	}
	hash := string(readFile(t, dir, "dist/go_extension.sha256"))
	if len(hash) != 65 ||
		strings.Trim(hash, "0123456789abcdef") != "\n" {
		t.Errorf("go_extension.sha256 is %q, want one SHA-256", hash)
	}
	noLeftovers(t, dir)
}

func checkBinaries(t *testing.T, dir string) {
	for file, machine := range map[string]elf.Machine{
		amd64Binary: elf.EM_X86_64,
		arm64Binary: elf.EM_AARCH64,
	} {
		path := filepath.Join(dir, "dist", file)
		binary, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer binary.Close()
		if binary.Machine != machine || binary.Section(".symtab") != nil ||
			binary.Section(".debug_info") != nil {
			t.Errorf("%s: machine %v, sections %v; want %v, stripped", file, binary.Machine, binary.Sections,
				machine)
		}
		if libraries, err := binary.ImportedLibraries(); err != nil || len(libraries) != 0 {
			t.Errorf("%s needs %v, %v; want a static binary", file, libraries, err)
		}
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if settings["-tags"] != "layer,nethttpomithttp2" || settings["-trimpath"] != "true" ||
			settings["CGO_ENABLED"] != "0" || settings["vcs"] != "" {
			t.Errorf("%s was built with %v", file, settings)
		}
		pinned := "toolchain " + info.GoVersion +
			"\n"
		if !strings.Contains(string(readFile(t, dir, "go.mod")), pinned) {
			t.Errorf("%s was built by %s, which go.mod does not pin", file, info.GoVersion)
		}
	}
}

func checkZips(t *testing.T, dir string) {
	const bootstrap, wrapper = "layer/extension/bootstrap", "layer/extension/live-lambda-runtime-wrapper.sh"
	// the entries of each zip in their order, and the files in dist that they are
	for name, want := range map[string][][2]string{
		"live-lambda-layer.zip": {
			{"bootstrap", bootstrap},
			{amd64Binary, "layer/extension/" + amd64Binary},
			{arm64Binary, "layer/extension/" + arm64Binary},
			{launcherFile, "layer/extension/" + launcherFile},
			{"live-lambda-runtime-wrapper.sh", wrapper},
		},
		"live-lambda-layer-amd64.zip": {
			{"bootstrap", bootstrap},
			{launcherFile, amd64Binary},
			{"live-lambda-runtime-wrapper.sh", wrapper},
		},
		"live-lambda-layer-arm64.zip": {
			{"bootstrap", bootstrap},
			{launcherFile, arm64Binary},
			{"live-lambda-runtime-wrapper.sh", wrapper},
		},
	} {
		path := filepath.Join(dir, "dist", name)
		if out, err := exec.CommandContext(t.Context(), "unzip", "-tqq", path).CombinedOutput(); err != nil {
			t.Errorf("unzip -t %s: %v, %s", name, err, out)
		}
		archive := openZip(t, path)
		if len(archive.File) != len(want) {
			t.Errorf("%s has %d entries, want %v", name, len(archive.File), want)
			continue
		}
		for i, entry := range archive.File {
			data := readFile(t, dir, "dist/"+want[i][1])
			if entry.Name != want[i][0] || entry.CRC32 != crc32.ChecksumIEEE(data) ||
				entry.UncompressedSize64 != uint64(len(data)) {
				t.Errorf("%s: entry %d is %s of %d bytes; want %s, which is %s of %d bytes", name, i,
					entry.Name, entry.UncompressedSize64, want[i][0], want[i][1], len(data))
			}
		}
	}
}

func checkSums(t *testing.T, dir string) {
	var want strings.Builder
	for _, name := range []string{
		amd64Binary, arm64Binary, "live-lambda-layer-amd64.zip", "live-lambda-layer-arm64.zip",
		"live-lambda-layer.zip",
	} {
		fmt.Fprintf(&want, "%x  %s\n", sha256.Sum256(readFile(t, dir, "dist/"+name)), name)
	}
	if got := string(readFile(t, dir, "dist/SHA256SUMS")); got != want.String() {
		t.Errorf("SHA256SUMS is\n%swant\n%s", got, want.String())
	}
}

// checkReproducible builds the same sources in a place where all that could leave a trace is different.
func checkReproducible(t *testing.T, dir string) {
	other := filepath.Join(t.TempDir(), "an other place")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	copySources(t, other)
	writeFile(t, other, "vendor/modules.txt", "")
	// no revision that could be stamped: trying to fails
	writeFile(t, other, ".git/HEAD", "ref: refs/heads/main\n")
	err := filepath.WalkDir(other, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, time.Time{}, time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC))
	})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	for link, target := range map[string]string{
		"first":  "second",
		"second": filepath.Join(other, "build.sh"),
	} {
		if err := os.Symlink(target, filepath.Join(elsewhere, link)); err != nil {
			t.Fatal(err)
		}
	}

	env := []string{
		"TZ=Asia/Kathmandu", "LC_ALL=C.UTF-8", "SOURCE_DATE_EPOCH=1700000000", "ZIPOPT=-0", "CDPATH=/tmp",
		"CGO_ENABLED=1",
		"GOFLAGS=-mod=vendor -buildvcs=true -race", "GOAMD64=v3", "GOARM64=v9.0", "GOEXPERIMENT=nogreenteagc",
		"GOWORK=/nowhere",
		"GOROOT=/nowhere", "GOOS=plan9", "GODEBUG=http2client=0", "GO111MODULE=off", "GOTOOLCHAIN=local",
		"GOPATH=" + goEnv(t, "GOPATH"), "GOMODCACHE=" + goEnv(t, "GOMODCACHE"),
		"GOCACHE=" + goEnv(t, "GOCACHE"),
	}
	out, code := runScript(
		t, script{dir: elsewhere, env: env, unset: "HOME"}, "sh", "-c", "umask 077; exec sh first")
	if code != 0 || strings.Count(out, "compiling linux/") != 2 {
		t.Fatalf("build.sh: exit status %d, %s", code, out)
	}
	// The sums of everything that was made say it all; the hash decides about compiling, and must not depend
	// on place or time.
	for _, file := range []string{"dist/SHA256SUMS", "dist/go_extension.sha256"} {
		if a, b := readFile(t, dir, file), readFile(t, other, file); !bytes.Equal(a, b) {
			t.Errorf("%s differs:\n%s\n%s", file, a, b)
		}
	}
	if a, b := modes(t, filepath.Join(dir, "dist")),
		modes(t, filepath.Join(other, "dist")); !maps.Equal(a, b) {
		t.Errorf("dist holds %v, elsewhere %v", a, b)
	}
}

func TestBuildCompilesOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	needTools(t, "zip")
	dir, quick := emptySources(t), quickZip(t)
	writeFile(t, dir, "main_test.go", "package main\n")
	const tags = "-tags=layer,nethttpomithttp2"
	steps := []struct {
		name    string
		change  func()
		compile bool
	}{
		{name: "first build", change: func() {}, compile: true},
		{name: "nothing changed", change: func() {}},
		{name: "a binary removed", change: func() { remove(t, dir, "dist/"+arm64Binary) }, compile: true},
		{
			name: "the hash removed",
			change: func() {
				remove(t, dir, "dist/go_extension.sha256")
			},
			compile: true,
		},
		{
			name: "a binary damaged",
			change: func() {
				writeFile(t, dir, "dist/"+amd64Binary, "not a binary")
			},
			compile: true,
		},
		{
			name: "a source changed",
			change: func() {
				writeFile(t, dir, "main.go", emptyProgram+"// more\n")
			},
			compile: true,
		},
		{
			name: "a file renamed",
			change: func() {
				rename(t, dir, "main_test.go", "more_test.go")
			},
			compile: true,
		},
		{
			name: "go.mod changed",
			change: func() {
				writeFile(t, dir, "go.mod", string(readFile(t, dir, "go.mod"))+"\n// more\n")
			},
			compile: true,
		},
		{
			name: "go.sum changed",
			change: func() {
				writeFile(t, dir, "go.sum", string(readFile(t, dir, "go.sum"))+"\n")
			},
			compile: true,
		},
		{
			name: "another flag",
			change: func() {
				writeFile(t, dir, "build.sh",
					strings.Replace(string(readFile(t, dir, "build.sh")), tags, tags+",more", 1))
			},
			compile: true,
		},
		{
			name: "a wrapper changed",
			change: func() {
				writeFile(t, dir, "wrapper.sh", "#!/bin/sh\nexec \"$@\"\n")
			},
		},
		{name: "the sums removed", change: func() { remove(t, dir, "dist/SHA256SUMS") }},
	}
	for _, step := range steps {
		step.change()
		out, code := runScript(t, script{dir: dir, env: quick}, "sh", "build.sh")
		if code != 0 {
			t.Fatalf("%s: exit status %d, %s", step.name, code, out)
		}
		compiled, skipped := strings.Contains(out, "compiling linux/"),
			strings.Contains(out, "compiling skipped")
		if compiled != step.compile || skipped == step.compile {
			t.Errorf("%s: compile %v, but build.sh said\n%s", step.name, step.compile, out)
		}
		for _, file := range []string{amd64Binary, arm64Binary} {
			if _, err := buildinfo.ReadFile(filepath.Join(dir, "dist", file)); err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
		}
		if !bytes.Equal(
			readFile(t, dir, "wrapper.sh"),
			readFile(t, dir, "dist/layer/extension/live-lambda-runtime-wrapper.sh")) {
			t.Errorf("%s: the layer has another wrapper", step.name)
		}
	}
}

// What was there is nothing, or the whole of an older dist.
func TestFailedBuildLeavesDistAsItWas(t *testing.T) {
	t.Parallel()
	needTools(t, "zip")
	dir, quick := emptySources(t), quickZip(t)
	broken := filepath.Join(t.TempDir(), "bin") // comes first on PATH: a zip that fails half-way
	if err := os.Mkdir(broken, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, broken, "zip", "#!/bin/sh\necho 'zip: disk full' >&2\nexit 14\n")
	cases := []struct {
		name, path string
		files      map[string]string
		env        []string
		want       string
	}{
		{
			name:  "one architecture does not compile",
			files: map[string]string{"only_arm64.go": "package main\n\nvar x int = nothing\n"},
			want:  "build.sh: compiling linux/arm64 failed",
		},
		{name: "zip fails", path: broken + ":" + os.Getenv("PATH"), want: "zip: disk full"},
		{
			name: "no zip",
			path: toolsWithout(t, "zip"),
			want: "build.sh: zip is not installed; install it (apt-get install zip",
		},
		{name: "no go", path: toolsWithout(t, "go"), want: "build.sh: go is not on PATH; install go1."},
		{
			name:  "no toolchain",
			files: map[string]string{"go.mod": "module live-lambda\n\ngo 1.26.0\n"},
			want:  "build.sh: go.mod pins no toolchain",
		},
		{
			name:  "a toolchain that cannot be had",
			files: map[string]string{"go.mod": "module live-lambda\n\ngo 1.26.0\n\ntoolchain go1.26.999\n"},
			env:   []string{"GOPROXY=off"},
			want:  "build.sh: go.mod pins go1.26.999, which is neither installed nor could be fetched",
		},
		{
			name: "unknown type",
			env:  []string{"LIVE_LAMBDA_EXTENSION_TYPE=rust"},
			want: "build.sh: LIVE_LAMBDA_EXTENSION_TYPE is rust; want go or node",
		},
	}
	for _, before := range []string{"without a dist", "with a dist"} {
		if before == "with a dist" {
			if out, code := runScript(t, script{dir: dir, env: quick}, "sh", "build.sh"); code != 0 {
				t.Fatalf("build.sh: exit status %d, %s", code, out)
			}
			writeFile(t, dir, "main.go", emptyProgram+"// newer than dist\n")
		}
		dist := digests(t, filepath.Join(dir, "dist"))
		for _, c := range cases {
			kept := map[string][]byte{"go.mod": readFile(t, dir, "go.mod")}
			for name, text := range c.files {
				writeFile(t, dir, name, text)
			}
			env := c.env
			if c.path != "" {
				env = append(env, "PATH="+c.path)
			}
			out, code := runScript(t, script{dir: dir, env: env}, "sh", "build.sh")
			if code == 0 || !strings.Contains(out, c.want) {
				t.Errorf("%s, %s: exit status %d, want an error and %q in\n%s", c.name, before, code, c.want,
					out)
			}
			if now := digests(t, filepath.Join(dir, "dist")); !maps.Equal(now, dist) {
				t.Errorf("%s, %s: dist was %v and is %v", c.name, before, dist, now)
			}
			noLeftovers(t, dir)
			for name := range c.files {
				remove(t, dir, name)
			}
			writeFile(t, dir, "go.mod", string(kept["go.mod"]))
		}
	}
}

// Builds at the same time make one whole dist, and so does one that finds the dist of another in its way.
func TestBuildsAtTheSameTimeDoNotMix(t *testing.T) {
	t.Parallel()
	needTools(t, "zip", "unzip")
	dir := emptySources(t)
	t.Run("three at once", func(t *testing.T) { wantThreeBuildsAtOnce(t, dir) })
	t.Run("another's dist in the way", func(t *testing.T) { wantBuildAmongOthers(t, dir) })
}

// wantThreeBuildsAtOnce starts three builds in one directory.
func wantThreeBuildsAtOnce(t *testing.T, dir string) {
	quick := quickZip(t)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			out, code := runScript(t, script{dir: dir, env: quick}, "sh", "build.sh")
			if code != 0 {
				t.Errorf("run %d: exit status %d, %s", i, code, out)
			}
		})
	}
	wg.Wait()
	checkLayout(t, dir)
	checkZips(t, dir)
	checkSums(t, dir)
}

// wantBuildAmongOthers builds again, in the narrowest place, at will: the dist of another run appears before
// each of the first moves.
func wantBuildAmongOthers(t *testing.T, dir string) {
	move, err := exec.LookPath("mv")
	if err != nil {
		t.Fatal(err)
	}
	shim := t.TempDir()
	writeFile(t, shim, "mv", fmt.Sprintf(`#!/bin/sh
echo x >>%[1]s/moves
if [ "$(wc -l <%[1]s/moves)" -le 5 ]; then mkdir -p dist; echo another >dist/another; fi
exec %[2]s "$@"
`, shim, move))
	env := []string{"PATH=" + shim + ":" + os.Getenv("PATH")}
	out, code := runScript(t, script{dir: dir, env: env}, "./build.sh")
	moves := strings.Count(string(readFile(t, shim, "moves")), "x")
	if code != 0 || moves <= 5 {
		t.Fatalf("build.sh: exit status %d, %s", code, out)
	}
	checkLayout(t, dir)
}

// asNodeLayer is the environment of a build of another make's layer.
func asNodeLayer(entry string) []string {
	return []string{"LIVE_LAMBDA_EXTENSION_TYPE=node", "LIVE_LAMBDA_NODE_ENTRY=" + entry}
}

func TestNodeLayerNeedsAnEntry(t *testing.T) {
	needTools(t, "zip")
	build := filepath.Join(emptySources(t), "build.sh")
	caller := t.TempDir()
	for entry, want := range map[string]string{
		"":            "LIVE_LAMBDA_NODE_ENTRY is not set",
		"missing.mjs": "LIVE_LAMBDA_NODE_ENTRY is missing.mjs, which is no file",
		".":           "LIVE_LAMBDA_NODE_ENTRY is ., which is no file",
	} {
		out, code := runScript(t, script{dir: caller, env: asNodeLayer(entry)}, build)
		if code == 0 || !strings.Contains(out, want) {
			t.Errorf("entry %q: exit status %d, want %q in\n%s", entry, code, want, out)
		}
	}
}

func TestNodeLayerStartsTheEntry(t *testing.T) {
	t.Parallel()
	needTools(t, "zip")
	dir, caller := emptySources(t), t.TempDir()
	const entry = "console.log(process.pid, JSON.stringify(process.argv.slice(2)))\n"
	writeFile(t, caller, "my entry.mjs", entry)
	node := script{dir: caller, env: asNodeLayer("my entry.mjs")}
	out, code := runScript(t, node, filepath.Join(dir, "build.sh"))
	if code != 0 {
		t.Fatalf("build.sh: exit status %d, %s", code, out)
	}
	want := map[string]fs.FileMode{
		"go_extension.sha256":       0o644,
		amd64Binary:                 0o755,
		arm64Binary:                 0o755,
		"layer/extension/bootstrap": 0o755,
		"layer/extension/live-lambda-runtime-wrapper.sh":                0o755,
		"layer/extension/" + launcherFile:                               0o755,
		"layer/extension/extensions/bin/live-lambda-extension-node.mjs": 0o755,
		"live-lambda-layer.zip":                                         0o644,
		"SHA256SUMS":                                                    0o644,
	}
	files := modes(t, filepath.Join(dir, "dist"))
	if !maps.Equal(files, want) {
		t.Fatalf("dist holds %v, want %v", files, want)
	}
	packed := readFile(t, dir, "dist/layer/extension/extensions/bin/live-lambda-extension-node.mjs")
	if string(packed) != entry {
		t.Errorf("the entry became %q", packed)
	}
	wantNodeLauncher(t, filepath.Join(dir, "dist/layer/extension", launcherFile))
}

// wantNodeLauncher checks that the launcher becomes a node that is on PATH only, as in an image of one's own.
// In Lambda's own images it is /var/lang/bin/node.
func wantNodeLauncher(t *testing.T, launcher string) {
	t.Helper()
	fake := t.TempDir()
	writeFile(t, fake, "node", probe)
	entry := filepath.Join(filepath.Dir(launcher), "bin/live-lambda-extension-node.mjs")
	for _, shell := range shells(t) {
		command := append(slices.Clone(shell), launcher, "a b")
		got := runProbe(t, script{env: []string{"PATH=" + fake}}, command...)
		got.becameIt(t, shell, entry, "a b")
	}
	_, err := os.Stat("/var/lang/bin/node")
	if err == nil {
		return
	}
	out, code := runScript(t, script{env: []string{"PATH="}}, "/bin/sh", launcher)
	if code != 127 || !strings.Contains(out, "no node in /var/lang/bin nor on PATH") {
		t.Errorf("without node: exit status %d, %q", code, out)
	}
}

func TestVerifySaysHowAZipDiffers(t *testing.T) {
	t.Parallel()
	needTools(t, "zip", "unzip")
	dir, caller, quick := emptySources(t), t.TempDir(), quickZip(t)
	build := filepath.Join(dir, "build.sh")
	if out, code := runScript(t, script{dir: dir, env: quick}, "sh", "build.sh"); code != 0 {
		t.Fatalf("build.sh: exit status %d, %s", code, out)
	}
	both := filepath.Join(dir, "dist/live-lambda-layer.zip")
	arm64 := filepath.Join(dir, "dist/live-lambda-layer-arm64.zip")
	cases := []struct {
		name string
		zip  func() []byte
		want []string // said, with exit status 1; none: the zip is as it should be
	}{
		{name: "both", zip: func() []byte { return readFile(t, both, "") }},
		{
			name: "changed entries",
			zip: func() []byte {
				var changed []zipEntry
				for _, e := range zipEntries(t, both) {
					switch e.Name {
					case "bootstrap":
						changed = append(changed, e) // twice: which of them counts is up to who unpacks
					case amd64Binary:
						e.data[len(e.data)/2] ^= 1
					case arm64Binary:
						continue
					case launcherFile:
						e.SetMode(0o777)
					}
					changed = append(changed, e)
				}
				return zipOf(
					t, append(changed,
						zipEntry{FileHeader: zip.FileHeader{Name: "extensions/another-extension"}}))
			},
			want: []string{
				"     differs  bootstrap\n", "     differs  " + amd64Binary + "\n",
				"     missing  " + arm64Binary + "\n",
				"  other mode  " + launcherFile + "\n", "        same  live-lambda-runtime-wrapper.sh\n",
				"not expected  extensions/another-extension\n", "not expected  bootstrap\n",
			},
		},
		{
			name: "a byte of the binary of one architecture",
			zip: func() []byte {
				changed := zipEntries(t, arm64)
				changed[1].data[len(changed[1].data)/2] ^= 1
				return zipOf(t, changed)
			},
			want: []string{
				"comparing with live-lambda-layer-arm64.zip\n", "     differs  " + launcherFile + "\n",
				"entries that differ: 1\n",
			},
		},
		{
			name: "packed by another program",
			zip: func() []byte {
				return zipOf(t, zipEntries(t, both))
			},
			want: []string{"every entry of", "but the zip itself is not"},
		},
		{
			name: "no zip",
			zip: func() []byte {
				return []byte("PK, or not")
			},
			want: []string{"is not a zip that unzip can list"},
		},
	}
	dist := digests(t, filepath.Join(dir, "dist"))
	for _, c := range cases {
		writeFile(t, caller, "the zip.zip", string(c.zip()))
		out, code := runScript(t, script{dir: caller, env: quick}, "sh", build, "--verify", "the zip.zip")
		if c.want == nil &&
			(code != 0 || !strings.Contains(out, "is, byte for byte, what these sources build")) {
			t.Errorf("%s: exit status %d, %s", c.name, code, out)
		}
		for _, want := range c.want {
			if code != 1 || !strings.Contains(out, want) {
				t.Errorf("%s: exit status %d, want 1 and %q in\n%s", c.name, code, want, out)
			}
		}
	}
	if now := digests(t, filepath.Join(dir, "dist")); !maps.Equal(now, dist) {
		t.Errorf("verifying changed dist from %v to %v", dist, now)
	}
	noLeftovers(t, dir)

	t.Run("other sources", func(t *testing.T) {
		writeFile(t, dir, "main.go", "package main\n\nfunc main() { println() }\n")
		out, code := runScript(t, script{dir: caller, env: quick}, "sh", build, "--verify", both)
		if code != 1 || !strings.Contains(out, "differs  "+amd64Binary) ||
			!strings.Contains(out, "same  "+launcherFile) {
			t.Errorf("exit status %d, %s", code, out)
		}
	})
}

func TestWrongArgumentsPrintTheUsage(t *testing.T) {
	dir := emptySources(t)
	for _, c := range []struct {
		args []string
		code int
	}{
		{args: []string{"--help"}},
		{args: []string{"--verify"}, code: 2},
		{args: []string{"--verify", "a", "b"}, code: 2},
		{args: []string{"all"}, code: 2},
		{args: []string{""}, code: 2},
	} {
		out, code := runScript(t, script{dir: dir}, "./build.sh", c.args...)
		if code != c.code || !strings.HasPrefix(out, "usage: ./build.sh") {
			t.Errorf("build.sh %q: exit status %d, want %d and the usage, not\n%s", c.args, code, c.code, out)
		}
	}
}

// quickZip returns a PATH with a zip that compresses less: level 9 takes longer than all else with an empty
// program.
func quickZip(t *testing.T) []string {
	t.Helper()
	real, err := exec.LookPath("zip")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFile(t, dir, "zip", "#!/bin/sh\nexec "+real+" \"$@\" -1\n")
	return []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatalf("go env %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// copySources copies what build.sh reads.
func copySources(t *testing.T, dir string) {
	t.Helper()
	for _, pattern := range []string{"*.go", "*.sh", "go.mod", "go.sum"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s here: %v", pattern, err)
		}
		for _, name := range files {
			writeFile(t, dir, name, string(readFile(t, name, "")))
		}
	}
}

// emptySources returns a directory with the scripts and an empty program.
func emptySources(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"build.sh", "wrapper.sh", "bootstrap.sh", "go.mod", "go.sum"} {
		writeFile(t, dir, name, string(readFile(t, name, "")))
	}
	writeFile(t, dir, "main.go", emptyProgram)
	return dir
}

// elfHeader returns the first bytes of an executable: the ABI, the type and the machine are what differs.
func elfHeader(abi, kind byte, machine elf.Machine) string {
	header := append([]byte("\x7fELF\x02\x01\x01"), abi)
	header = append(header, make([]byte, 8)...)
	return string(append(header, kind, 0, byte(machine), 0, 1, 0, 0, 0, '\n'))
}

type zipEntry struct {
	zip.FileHeader
	data []byte
}

// openZip opens a zip that build.sh made, and checks what is the same of every entry.
func openZip(t *testing.T, path string) *zip.ReadCloser {
	t.Helper()
	archive, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { archive.Close() })
	for _, file := range archive.File {
		if file.Mode() != 0o755 || len(file.Extra) != 0 || file.Comment != "" ||
			file.ModifiedDate != 1<<5|1 || file.ModifiedTime != 0 {
			t.Errorf("%s: %s has mode %v, extra %x, comment %q, date %x %x", path, file.Name, file.Mode(),
				file.Extra, file.Comment, file.ModifiedDate, file.ModifiedTime)
		}
	}
	return archive
}

func zipEntries(t *testing.T, path string) []zipEntry {
	t.Helper()
	var entries []zipEntry
	for _, file := range openZip(t, path).File {
		content, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		content.Close()
		entries = append(entries, zipEntry{FileHeader: file.FileHeader, data: data})
	}
	return entries
}

func zipOf(t *testing.T, entries []zipEntry) []byte {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, entry := range entries {
		header := zip.FileHeader{
			Name:           entry.Name,
			Method:         zip.Deflate,
			CreatorVersion: entry.CreatorVersion,
			ExternalAttrs:  entry.ExternalAttrs,
		}
		file, err := archive.CreateHeader(&header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(entry.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// modes returns the files below a directory with their permissions.
func modes(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	files := map[string]fs.FileMode{}
	walk(t, dir, func(name string, info fs.FileInfo) { files[name] = info.Mode() })
	return files
}

// digests returns the files below a directory with their SHA-256; none if there is no directory.
func digests(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	walk(t, dir, func(name string, _ fs.FileInfo) {
		sum := sha256.Sum256(readFile(t, dir, name))
		files[name] = hex.EncodeToString(sum[:])
	})
	return files
}

func walk(t *testing.T, dir string, visit func(name string, info fs.FileInfo)) {
	t.Helper()
	if _, err := os.Stat(dir); os.IsNotExist(err) {
		return
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		visit(name, info)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// noLeftovers checks that build.sh removed what it worked in.
func noLeftovers(t *testing.T, dir string) {
	t.Helper()
	if left, err := filepath.Glob(filepath.Join(dir, ".build.*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, dir, from, to string) {
	t.Helper()
	if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
		t.Fatal(err)
	}
}
