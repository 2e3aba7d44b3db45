package main_test // of its own: nothing here needs the program's insides

// Tests of build.sh, wrapper.sh and bootstrap.sh: each runs the script itself. Those of build.sh work on a
// copy of the sources, or, where only its decisions matter, on a copy with an empty program, which compiles
// in a second. The scripts that end up in a layer run under every shell of this machine that a Lambda image
// may have as /bin/sh.

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

// ---- build.sh ----

// The tests that run in parallel start build.sh through sh: a file that was just written may still be open in
// a process that another test is starting, and the kernel then refuses to execute it.

func TestBuild(t *testing.T) {
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
	if hash := string(readFile(t, dir, "dist/go_extension.sha256")); len(hash) != 65 ||
		strings.Trim(hash, "0123456789abcdef") != "\n" {
		t.Errorf("go_extension.sha256 is %q, want one SHA-256", hash)
	}
	noLeftovers(t, dir)
}

func checkBinaries(t *testing.T, dir string) {
	for file, machine := range map[string]elf.Machine{
		amd64Binary: elf.EM_X86_64, arm64Binary: elf.EM_AARCH64} {
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
		if pinned := "toolchain " + info.GoVersion +
			"\n"; !strings.Contains(string(readFile(t, dir, "go.mod")), pinned) {
			t.Errorf("%s was built by %s, which go.mod does not pin", file, info.GoVersion)
		}
	}
}

func checkZips(t *testing.T, dir string) {
	const bootstrap, wrapper = "layer/extension/bootstrap", "layer/extension/live-lambda-runtime-wrapper.sh"
	// the entries of each zip in their order, and the files in dist that they are
	for name, want := range map[string][][2]string{
		"live-lambda-layer.zip": {
			{"bootstrap", bootstrap}, {amd64Binary, "layer/extension/" + amd64Binary},
			{arm64Binary, "layer/extension/" + arm64Binary},
			{launcherFile, "layer/extension/" + launcherFile}, {"live-lambda-runtime-wrapper.sh", wrapper},
		},
		"live-lambda-layer-amd64.zip": {
			{"bootstrap", bootstrap}, {launcherFile, amd64Binary},
			{"live-lambda-runtime-wrapper.sh", wrapper}},
		"live-lambda-layer-arm64.zip": {
			{"bootstrap", bootstrap}, {launcherFile, arm64Binary},
			{"live-lambda-runtime-wrapper.sh", wrapper}},
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
		"live-lambda-layer.zip"} {
		fmt.Fprintf(&want, "%x  %s\n", sha256.Sum256(readFile(t, dir, "dist/"+name)), name)
	}
	if got := string(readFile(t, dir, "dist/SHA256SUMS")); got != want.String() {
		t.Errorf("SHA256SUMS is\n%swant\n%s", got, want.String())
	}
}

// checkReproducible builds the same sources where everything that could leave a trace is different.
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
		"first": "second", "second": filepath.Join(other, "build.sh")} {
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
		{"first build", func() {}, true},
		{"nothing changed", func() {}, false},
		{"a binary removed", func() { remove(t, dir, "dist/"+arm64Binary) }, true},
		{"the hash removed", func() { remove(t, dir, "dist/go_extension.sha256") }, true},
		{"a binary damaged", func() { writeFile(t, dir, "dist/"+amd64Binary, "not a binary") }, true},
		{"a source changed", func() { writeFile(t, dir, "main.go", emptyProgram+"// more\n") }, true},
		{"a file renamed", func() { rename(t, dir, "main_test.go", "more_test.go") }, true},
		{"go.mod changed", func() {
			writeFile(t, dir, "go.mod", string(readFile(t, dir, "go.mod"))+"\n// more\n")
		}, true},
		{"go.sum changed", func() {
			writeFile(t, dir, "go.sum", string(readFile(t, dir, "go.sum"))+"\n")
		}, true},
		{"another flag", func() {
			writeFile(t, dir, "build.sh",
				strings.Replace(string(readFile(t, dir, "build.sh")), tags, tags+",more", 1))
		}, true},
		{"a wrapper changed", func() { writeFile(t, dir, "wrapper.sh", "#!/bin/sh\nexec \"$@\"\n") }, false},
		{"the sums removed", func() { remove(t, dir, "dist/SHA256SUMS") }, false},
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

// A failed build leaves what was there: nothing, or the whole of an older dist.
func TestFailedBuild(t *testing.T) {
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
		{"one architecture does not compile", "",
			map[string]string{"only_arm64.go": "package main\n\nvar x int = nothing\n"}, nil,
			"build.sh: compiling linux/arm64 failed"},
		{"zip fails", broken + ":" + os.Getenv("PATH"), nil, nil, "zip: disk full"},
		{"no zip", toolsWithout(t, "zip"), nil, nil,
			"build.sh: zip is not installed; install it (apt-get install zip"},
		{"no go", toolsWithout(t, "go"), nil, nil, "build.sh: go is not on PATH; install go1."},
		{"no toolchain", "", map[string]string{"go.mod": "module live-lambda\n\ngo 1.26.0\n"}, nil,
			"build.sh: go.mod pins no toolchain"},
		{"a toolchain that cannot be had", "",
			map[string]string{"go.mod": "module live-lambda\n\ngo 1.26.0\n\ntoolchain go1.26.999\n"},
			[]string{"GOPROXY=off"},
			"build.sh: go.mod pins go1.26.999, which is neither installed nor could be fetched"},
		{"unknown type", "", nil, []string{"LIVE_LAMBDA_EXTENSION_TYPE=rust"},
			"build.sh: LIVE_LAMBDA_EXTENSION_TYPE is rust; want go or node"},
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

func TestBuildsAtTheSameTime(t *testing.T) {
	needTools(t, "zip", "unzip")
	dir, quick := emptySources(t), quickZip(t)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if out, code := runScript(t, script{dir: dir, env: quick}, "sh", "build.sh"); code != 0 {
				t.Errorf("run %d: exit status %d, %s", i, code, out)
			}
		})
	}
	wg.Wait()
	checkLayout(t, dir)
	checkZips(t, dir)
	checkSums(t, dir)

	// The narrowest place, at will: another run's dist appears before each of the first moves.
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
	out, code := runScript(
		t, script{dir: dir, env: []string{"PATH=" + shim + ":" + os.Getenv("PATH")}}, "./build.sh")
	if code != 0 || strings.Count(string(readFile(t, shim, "moves")), "x") <= 5 {
		t.Fatalf("build.sh: exit status %d, %s", code, out)
	}
	checkLayout(t, dir)
}

func TestBuildNodeLayer(t *testing.T) {
	needTools(t, "zip")
	dir, caller := emptySources(t), t.TempDir()
	build := filepath.Join(dir, "build.sh")
	const entry = "console.log(process.pid, JSON.stringify(process.argv.slice(2)))\n"
	writeFile(t, caller, "my entry.mjs", entry)

	for name, want := range map[string]string{
		"":             "LIVE_LAMBDA_NODE_ENTRY is not set",
		"missing.mjs":  "LIVE_LAMBDA_NODE_ENTRY is missing.mjs, which is no file",
		".":            "LIVE_LAMBDA_NODE_ENTRY is ., which is no file",
		"my entry.mjs": "",
	} {
		out, code := runScript(
			t, script{dir: caller,
				env: []string{"LIVE_LAMBDA_EXTENSION_TYPE=node", "LIVE_LAMBDA_NODE_ENTRY=" + name}}, build)
		if want == "" && code != 0 || want != "" && (code == 0 || !strings.Contains(out, want)) {
			t.Errorf("entry %q: exit status %d, want %q in\n%s", name, code, want, out)
		}
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
	if got := modes(t, filepath.Join(dir, "dist")); !maps.Equal(got, want) {
		t.Fatalf("dist holds %v, want %v", got, want)
	}
	if got := readFile(t, dir, "dist/layer/extension/extensions/bin/live-lambda-extension-node.mjs"); string(
		got) != entry {
		t.Errorf("the entry became %q", got)
	}

	// A node that is on PATH only, as in an image of one's own; in Lambda's own images it is
	// /var/lang/bin/node.
	fake := t.TempDir()
	launcher := filepath.Join(dir, "dist/layer/extension", launcherFile)
	writeFile(t, fake, "node", probe)
	for _, shell := range shells(t) {
		got := runProbe(
			t, script{env: []string{"PATH=" + fake}}, append(slices.Clone(shell), launcher, "a b")...)
		got.becameIt(
			t, shell, filepath.Join(filepath.Dir(launcher), "bin/live-lambda-extension-node.mjs"), "a b")
	}
	if _, err := os.Stat("/var/lang/bin/node"); err == nil {
		return
	}
	out, code := runScript(t, script{env: []string{"PATH="}}, "/bin/sh", launcher)
	if code != 127 || !strings.Contains(out, "no node in /var/lang/bin nor on PATH") {
		t.Errorf("without node: exit status %d, %q", code, out)
	}
}

func TestVerify(t *testing.T) {
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
		{"both", func() []byte { return readFile(t, both, "") }, nil},
		{"changed entries", func() []byte {
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
		}, []string{
			"     differs  bootstrap\n", "     differs  " + amd64Binary + "\n",
			"     missing  " + arm64Binary + "\n",
			"  other mode  " + launcherFile + "\n", "        same  live-lambda-runtime-wrapper.sh\n",
			"not expected  extensions/another-extension\n", "not expected  bootstrap\n",
		}},
		{"a byte of the binary of one architecture", func() []byte {
			changed := zipEntries(t, arm64)
			changed[1].data[len(changed[1].data)/2] ^= 1
			return zipOf(t, changed)
		}, []string{
			"comparing with live-lambda-layer-arm64.zip\n", "     differs  " + launcherFile + "\n",
			"entries that differ: 1\n"}},
		{"packed by another program", func() []byte {
			return zipOf(t, zipEntries(t, both))
		}, []string{"every entry of", "but the zip itself is not"}},
		{"no zip", func() []byte {
			return []byte("PK, or not")
		}, []string{"is not a zip that unzip can list"}},
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

	writeFile(t, dir, "main.go", "package main\n\nfunc main() { println() }\n")
	out, code := runScript(t, script{dir: caller, env: quick}, "sh", build, "--verify", both)
	if code != 1 || !strings.Contains(out, "differs  "+amd64Binary) ||
		!strings.Contains(out, "same  "+launcherFile) {
		t.Errorf("other sources: exit status %d, %s", code, out)
	}
}

func TestBuildUsage(t *testing.T) {
	dir := emptySources(t)
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"--help"}, 0}, {[]string{"--verify"}, 2}, {[]string{"--verify", "a", "b"}, 2},
		{[]string{"all"}, 2}, {[]string{""}, 2},
	} {
		out, code := runScript(t, script{dir: dir}, "./build.sh", c.args...)
		if code != c.code || !strings.HasPrefix(out, "usage: ./build.sh") {
			t.Errorf("build.sh %q: exit status %d, want %d and the usage, not\n%s", c.args, code, c.code, out)
		}
	}
}

// ---- the launcher ----

func TestLauncherBecomesTheBinary(t *testing.T) {
	opt := layer(t)
	launcher := filepath.Join(opt, launcherFile)
	text := string(readFile(t, launcher, ""))
	machine := t.TempDir() // stands for the parts of / that the launcher looks at
	text = strings.NewReplacer(
		"-e /lib64/", "-e "+machine+"/lib64/", "-e /lib/", "-e "+machine+"/lib/", "/proc/self/exe",
		machine+"/exe",
	).Replace(text)
	simulated := filepath.Join(opt, "extensions", "simulated")
	writeFile(t, simulated, "", text)

	const x86glibc, x86musl, armGlibc, armMusl = "lib64/ld-linux-x86-64.so.2", "lib/ld-musl-x86_64.so.1",
		"lib/ld-linux-aarch64.so.1", "lib/ld-musl-aarch64.so.1"
	cases := []struct {
		files []string
		exe   string // the shell's executable, from its first byte
		want  string // the binary; "": none
	}{
		{[]string{x86glibc}, "", "amd64"},
		{[]string{x86musl}, "", "amd64"},
		{[]string{armGlibc}, "", "arm64"},
		{[]string{armMusl}, "", "arm64"},
		{[]string{x86glibc, x86musl}, elfHeader(0, 3, elf.EM_AARCH64), "amd64"},
		{[]string{x86glibc, armGlibc}, elfHeader(0, 3, elf.EM_X86_64), "amd64"},
		{[]string{x86glibc, armGlibc}, elfHeader(0, 3, elf.EM_AARCH64), "arm64"},
		{nil, elfHeader(0, 2, elf.EM_X86_64), "amd64"},
		{nil, elfHeader(3, 2, elf.EM_X86_64), "amd64"},
		{nil, elfHeader(0, 2, elf.EM_AARCH64), "arm64"},
		{nil, elfHeader(3, 2, elf.EM_AARCH64), "arm64"},
		{nil, "#!/bin/sh\n", ""},
		{nil, "", ""},
	}
	for _, shell := range shells(t) {
		for _, c := range cases {
			if err := os.RemoveAll(machine); err != nil {
				t.Fatal(err)
			}
			for _, name := range c.files {
				writeFile(t, machine, name, "")
			}
			if c.exe != "" {
				writeFile(t, machine, "exe", c.exe)
			}
			command := append(slices.Clone(shell), simulated, "a", "b c", "")
			if c.want == "" {
				out, code := runScript(t, script{env: []string{"PATH="}}, command[0], command[1:]...)
				if code != 126 || !strings.Contains(out, "cannot tell x86_64 from arm64") ||
					strings.Count(out, "\n") != 1 {
					t.Errorf("%s, %v, %q: exit status %d, %q", shell, c.files, c.exe, code, out)
				}
				continue
			}
			got := runProbe(t, script{env: []string{"PATH="}}, command...)
			got.becameIt(t, shell, "a", "b c", "")
			if want := filepath.Join(
				opt, "extensions/bin/live-lambda-extension-go-"+c.want); got.name != want {
				t.Errorf("%s, %v, %q: became %s, want %s", shell, c.files, c.exe, got.name, want)
			}
		}
		// The real one on this machine, started as Lambda does and from its own directory.
		runProbe(t, script{env: []string{"PATH="}}, launcher, "x").becameIt(t, shell, "x")
		runProbe(t, script{dir: filepath.Dir(launcher), env: []string{"PATH="}},
			append(slices.Clone(shell), "live-lambda-extension", "x")...).becameIt(t, shell, "x")
	}
}

// Lambda starts every file in /opt/extensions: there must be no second one.
func TestOneExtensionInTheLayer(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join(layer(t), "extensions"))
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() {
			files = append(files, e.Name())
		}
	}
	if !slices.Equal(files, []string{"live-lambda-extension"}) {
		t.Errorf("files in extensions: %q", files)
	}
}

// ---- wrapper.sh ----

func TestWrapperPointsTheRuntimeAtTheProxy(t *testing.T) {
	opt := layer(t)
	wrapper := filepath.Join(opt, "live-lambda-runtime-wrapper.sh")
	const real = "169.254.100.1:9001"
	cases := []struct {
		env  []string
		want string
	}{
		{nil, "127.0.0.1:8082"},
		{[]string{"LRAP_LISTENER_PORT="}, "127.0.0.1:8082"},
		{[]string{"LRAP_LISTENER_PORT=9009"}, "127.0.0.1:9009"},
		{[]string{"LRAP_LISTENER_PORT=1"}, "127.0.0.1:1"},
		{[]string{"LRAP_LISTENER_PORT=65535"}, "127.0.0.1:65535"},
		{[]string{"LRAP_LISTENER_PORT=0009009"}, "127.0.0.1:9009"},
		// What is no port: the extension logs it and listens on 8082.
		{[]string{"LRAP_LISTENER_PORT=0"}, "127.0.0.1:8082"},
		{[]string{"LRAP_LISTENER_PORT=65536"}, "127.0.0.1:8082"},
		{[]string{"LRAP_LISTENER_PORT=18446744073709559625"}, "127.0.0.1:8082"},
		{[]string{"LRAP_LISTENER_PORT=-1"}, "127.0.0.1:8082"},
		{[]string{"LRAP_LISTENER_PORT=+9009"}, "127.0.0.1:8082"},
		{[]string{"LRAP_LISTENER_PORT= 9009"}, "127.0.0.1:8082"},
		{[]string{"LRAP_LISTENER_PORT=9009;exit"}, "127.0.0.1:8082"},
		{[]string{"LRAP_LISTENER_PORT=0*"}, "127.0.0.1:8082"},
		{[]string{"LRAP_LISTENER_PORT=eighty"}, "127.0.0.1:8082"},
		{[]string{"LIVE_LAMBDA=on"}, "127.0.0.1:8082"},
		{[]string{"LIVE_LAMBDA=perhaps"}, "127.0.0.1:8082"},
		{[]string{"LIVE_LAMBDA="}, "127.0.0.1:8082"},
		{[]string{"LIVE_LAMBDA=off"}, real},
		{[]string{"LIVE_LAMBDA=OFF", "LRAP_LISTENER_PORT=9009"}, real},
		{[]string{"LIVE_LAMBDA=Off"}, real},
	}
	for _, shell := range shells(t) {
		for _, c := range cases {
			env := append([]string{"PATH=", "AWS_LAMBDA_RUNTIME_API=" + real}, c.env...)
			got := runProbe(
				t, script{env: env},
				append(slices.Clone(shell), wrapper, probeFile(t, opt), "--flag", "two words", "", "$(x)",
					"*")...)
			got.becameIt(t, shell, "--flag", "two words", "", "$(x)", "*")
			if got.runtimeAPI != c.want {
				t.Errorf("%s, %q: the runtime is told %q, want %q", shell, c.env, got.runtimeAPI, c.want)
			}
		}
	}
	if _, code := runScript(
		t, script{env: []string{"AWS_LAMBDA_RUNTIME_API=" + real}}, wrapper, "sh", "-c",
		"exit 42"); code != 42 {
		t.Errorf("the runtime's exit status 42 became %d", code)
	}
}

func TestWrapperChainsAnother(t *testing.T) {
	opt := layer(t)
	wrapper := filepath.Join(opt, "live-lambda-runtime-wrapper.sh")
	further := filepath.Join(opt, "another wrapper")
	writeFile(t, further, "",
		"#!/bin/sh\nexport AWS_LAMBDA_RUNTIME_API=\"seen $AWS_LAMBDA_RUNTIME_API\"\nexec \"$@\" added\n")
	locked := filepath.Join(opt, "locked")
	writeFile(t, locked, "", "#!/bin/sh\n")
	if err := os.Chmod(locked, 0o644); err != nil {
		t.Fatal(err)
	}
	env := func(further string, more ...string) []string {
		return append(
			[]string{"PATH=", "AWS_LAMBDA_RUNTIME_API=real:1", "LIVE_LAMBDA_EXEC_WRAPPER=" + further},
			more...)
	}
	for _, shell := range shells(t) {
		command := append(slices.Clone(shell), wrapper, probeFile(t, opt), "two words")
		for _, c := range []struct {
			env  []string
			want string
			args []string
		}{
			{env(further), "seen 127.0.0.1:8082", []string{"two words", "added"}},
			{env(further, "LIVE_LAMBDA=off"), "seen real:1", []string{"two words", "added"}},
			{env(""), "127.0.0.1:8082", []string{"two words"}},
			{env(wrapper), "127.0.0.1:8082", []string{"two words"}}, // itself: once is enough
		} {
			got := runProbe(t, script{env: c.env}, command...)
			got.becameIt(t, shell, c.args...)
			if got.runtimeAPI != c.want {
				t.Errorf("%s, %q: the runtime is told %q, want %q", shell, c.env, got.runtimeAPI, c.want)
			}
		}
		for path, want := range map[string]struct {
			code int
			said string
		}{
			opt + "/missing": {127, "is no file"},
			opt:              {127, "is no file"},
			locked:           {126, "is not executable"},
		} {
			out, code := runScript(t, script{env: env(path)}, command[0], command[1:]...)
			if code != want.code ||
				!strings.Contains(out, "LIVE_LAMBDA_EXEC_WRAPPER is "+path+", which "+want.said) {
				t.Errorf("%s, wrapper %s: exit status %d, %q", shell, path, code, out)
			}
		}
	}
}

// ---- bootstrap.sh ----

func TestBootstrapStartsTheHandler(t *testing.T) {
	opt := layer(t)
	task, image := t.TempDir(), t.TempDir()
	writeFile(t, task, "server", probe)
	writeFile(t, task, "bin/my server", probe)
	writeFile(t, task, "bootstrap", "#!/bin/sh\necho started again\n")
	writeFile(t, task, "data.txt", "text")
	if err := os.Chmod(filepath.Join(task, "data.txt"), 0o644); err != nil {
		t.Fatal(err)
	}
	env := func(handler string, more ...string) []string {
		return append(
			[]string{"PATH=", "AWS_LAMBDA_RUNTIME_API=real:1", "LAMBDA_TASK_ROOT=" + task,
				"LAMBDA_RUNTIME_DIR=" + image, "_HANDLER=" + handler}, more...)
	}
	for _, shell := range shells(t) {
		command := append(slices.Clone(shell), filepath.Join(opt, "bootstrap"))
		refused := func(handler string, code int, said string) {
			t.Helper()
			out, got := runScript(t, script{env: env(handler)}, command[0], command[1:]...)
			if got != code || !strings.Contains(out, said) || strings.Count(out, "\n") != 1 {
				t.Errorf("%s, handler %q: exit status %d, %q; want %d, %q", shell, handler, got, out, code,
					said)
			}
		}
		started := func(want, api string, env []string) {
			t.Helper()
			got := runProbe(t, script{env: env}, command...)
			got.becameIt(t, shell)
			if got.name != want || got.runtimeAPI != api {
				t.Errorf("%s, %q: started %s with Runtime API %s, want %s, %s", shell, env, got.name,
					got.runtimeAPI, want, api)
			}
		}
		started(task+"/server", "127.0.0.1:8082", env("server"))
		started(task+"/bin/my server", "127.0.0.1:9009", env("bin/my server", "LRAP_LISTENER_PORT=9009"))
		started(task+"/server", "real:1", env("server", "LIVE_LAMBDA=off"))
		// itself
		started(task+"/server", "127.0.0.1:8082",
			env("server", "LIVE_LAMBDA_EXEC_WRAPPER="+filepath.Join(opt, "bootstrap")))
		refused("missing", 127, `the handler is "missing", but `+task+" holds no program of that name")
		refused("bin", 127, "holds no program of that name")
		refused("", 127, "holds no program of that name")
		refused("data.txt", 126, task+"/data.txt, which the handler names, is not executable")
		refused("bootstrap", 127, "under a name other than bootstrap") // or it would start itself for ever
		refused("./bootstrap", 127, "under a name other than bootstrap")

		writeFile(t, image, "bootstrap", probe)
		started(image+"/bootstrap", "127.0.0.1:8082", env("function.handler"))
		started(image+"/bootstrap", "127.0.0.1:8082", env("bootstrap"))
		started(task+"/server", "127.0.0.1:8082", env("server"))
		remove(t, image, "bootstrap")
	}
}

// ---- helpers ----

// probe stands for what a script becomes. It prints its process ID, the page faults of its children (an
// executed program keeps the count of the one that executed it, so it is 0 only if no process was started on
// the way), the Runtime API's address, its name and its arguments.
const probe = `#!/bin/sh
stat='no /proc) 0 0 0 0 0 0 0 0 0'
if [ -r /proc/self/stat ]; then read -r stat </proc/self/stat; fi
printf '%s\n' "$$" "$stat" "${AWS_LAMBDA_RUNTIME_API-}" "$0" "$@"
`

type probed struct {
	started, pid     int // the process that was started, and the one that answered
	children         string
	runtimeAPI, name string
	args             []string
}

// becameIt checks that the probe was reached in the same process, with these arguments, and that no other was
// started.
func (p probed) becameIt(t *testing.T, shell []string, args ...string) {
	t.Helper()
	if p.pid != p.started {
		t.Errorf("%s: process %d was started, %d arrived", shell, p.started, p.pid)
	}
	if p.children != "0" {
		t.Errorf("%s: a process was started on the way: its page faults are %s", shell, p.children)
	}
	if !slices.Equal(p.args, args) {
		t.Errorf("%s: arguments %q, want %q", shell, p.args, args)
	}
}

func runProbe(t *testing.T, s script, command ...string) probed {
	t.Helper()
	cmd := s.command(t, command[0], command[1:]...)
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v, %s", command, err, errors.String())
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) < 4 {
		t.Fatalf("%q printed %q", command, out.String())
	}
	p := probed{started: cmd.Process.Pid, runtimeAPI: lines[2], name: lines[3], args: lines[4:]}
	if _, err := fmt.Sscan(lines[0], &p.pid); err != nil {
		t.Fatalf("%q printed %q: %v", command, out.String(), err)
	}
	// proc_pid_stat(5): after the name in parentheses field 3 is the state, field 11 cminflt.
	p.children = strings.Fields(lines[1][strings.LastIndex(lines[1], ")")+1:])[8]
	return p
}

// A probe that never sees a process would prove nothing.
func TestProbeSeesAProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc on this machine")
	}
	dir := t.TempDir()
	writeFile(t, dir, "forks", "#!/bin/sh\nx=$(:; echo \"$(echo x)\")\nexec \"$@\"\n")
	for _, shell := range shells(t) {
		got := runProbe(
			t, script{}, append(slices.Clone(shell), filepath.Join(dir, "forks"), probeFile(t, dir))...)
		if got.children == "0" || got.pid != got.started {
			t.Errorf("%s: %+v, want page faults of children", shell, got)
		}
	}
}

// script says where and with what environment a command runs.
type script struct {
	dir   string
	env   []string // beside this process's own
	unset string   // a variable that is taken out
}

func (s script) command(t *testing.T, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = s.dir
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		// What a developer has set for the layer must not change what the scripts do here.
		if name != s.unset && !strings.HasPrefix(name, "LIVE_LAMBDA") && !strings.HasPrefix(name, "LRAP_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, s.env...)
	return cmd
}

// runScript returns everything the command printed, and its exit status.
func runScript(t *testing.T, s script, name string, args ...string) (string, int) {
	t.Helper()
	cmd := s.command(t, name, args...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// shells are the command lines of the shells that may be /bin/sh in an image: this machine's, dash (Debian),
// bash (Amazon Linux) and busybox (Alpine), as far as they are installed.
func shells(t *testing.T) [][]string {
	var found [][]string
	for _, shell := range [][]string{{"sh"}, {"dash"}, {"bash", "--posix"}, {"busybox", "sh"}} {
		path, err := exec.LookPath(shell[0])
		if err != nil {
			t.Logf("%s is not installed here: not tried", shell[0])
			continue
		}
		found = append(found, append([]string{path}, shell[1:]...))
	}
	return found
}

// needTools skips a test whose tools are missing, except where .ci/run has installed them.
func needTools(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		} else if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed: %v", tool, err)
		}
		t.Skipf("%s is not installed: build.sh needs it", tool)
	}
}

// toolsWithout returns a PATH that has what build.sh uses, except one.
func toolsWithout(t *testing.T, missing string) string {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range strings.Fields(
		"sh cat sed find sort cut mktemp mkdir cp mv rm chmod touch wc grep readlink env id sha256sum " +
			"shasum perl go zip") {
		if path, err := exec.LookPath(tool); err == nil && tool != missing {
			if err := os.Symlink(path, filepath.Join(dir, tool)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
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

// layer returns a directory as /opt is with the layer, its binaries being probes. The launcher is the one in
// build.sh.
func layer(t *testing.T) string {
	t.Helper()
	opt := t.TempDir()
	_, rest, _ := strings.Cut(string(readFile(t, "build.sh", "")), "go_launcher() {\n\tcat <<'END'\n")
	launcher, _, found := strings.Cut(rest, "\nEND\n")
	if !found {
		t.Fatal("build.sh has no go_launcher that prints a here-document")
	}
	writeFile(t, opt, launcherFile, launcher+"\n")
	writeFile(t, opt, amd64Binary, probe)
	writeFile(t, opt, arm64Binary, probe)
	writeFile(t, opt, "live-lambda-runtime-wrapper.sh", string(readFile(t, "wrapper.sh", "")))
	writeFile(t, opt, "bootstrap", string(readFile(t, "bootstrap.sh", "")))
	return opt
}

func probeFile(t *testing.T, dir string) string {
	t.Helper()
	writeFile(t, dir, "a probe", probe)
	return filepath.Join(dir, "a probe")
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
		entries = append(entries, zipEntry{file.FileHeader, data})
	}
	return entries
}

func zipOf(t *testing.T, entries []zipEntry) []byte {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, entry := range entries {
		header := zip.FileHeader{
			Name: entry.Name, Method: zip.Deflate, CreatorVersion: entry.CreatorVersion,
			ExternalAttrs: entry.ExternalAttrs}
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

func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// writeFile writes a file that may be executed, with the directories above it.
func writeFile(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
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
