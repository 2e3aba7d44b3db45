//go:build !layer

package main

// aws_layer.go is the command publish-layer, and how attach finds the version that it has published. In: the
// layer's zip, and what `aws` prints. Out: a layer version's ARN.

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// goArch has Go's names for Lambda's architectures, by which build.sh names the zips.
var goArch = map[string]string{"x86_64": "amd64", "arm64": "arm64"}

// lambdaArch has Lambda's names for what people call the architectures.
var lambdaArch = map[string]string{
	"x86_64": "x86_64", "amd64": "x86_64", "x86-64": "x86_64", "arm64": "arm64", "aarch64": "arm64",
}

const (
	layerName = "live-lambda-" // and Go's name of the architecture
	sumsFile  = "SHA256SUMS"   // that build.sh writes beside the zips
)

const publishLayerUsage = `usage: live-lambda publish-layer [flags] ARCHITECTURE ...

Publishes the layer for an architecture, x86_64 or arm64, as a new version, and prints its ARN. attach
takes the newest version by itself. The zip is the one beside this program, else the one in dist, there
or here, where ./build.sh puts it. Its hash must be one that this program knows: of a release that of
its own zips, else one that the ` + sumsFile + ` beside the zip names. It needs the permission
lambda:PublishLayerVersion.`

// publishFlags are what the flags of publish-layer set.
type publishFlags struct {
	zip   string // empty: looked for
	name  string // empty: the usual one
	force bool
}

// publishLayer is the command publish-layer.
func (t *console) publishLayer(args []string) int {
	f := t.commandLine("publish-layer", publishLayerUsage)
	f.addProfile()
	var o publishFlags
	f.StringVar(&o.zip, "zip", "", "the `file` to publish")
	f.StringVar(&o.name, "name", "", "the layer's `name` (default live-lambda-amd64 or live-lambda-arm64)")
	f.BoolVar(&o.force, "force", false, "publish the zip even if its hash is not known")
	words, status, ok := f.parse(args)
	if !ok {
		return status
	}
	if len(words) == 0 {
		return f.wrong("name an architecture: x86_64 or arm64")
	}
	if len(words) > 1 && o.zip+o.name != "" {
		return f.wrong("--zip and --name are for one architecture")
	}
	var arches []string
	for _, word := range words {
		arch := lambdaArch[word]
		if arch == "" {
			return f.wrong("the architecture %q is not x86_64 or arm64", word)
		}
		arches = append(arches, arch)
	}
	for _, arch := range arches {
		arn, err := awsCLI{profile: f.profile}.publishLayer(context.Background(), arch, o)
		if err != nil {
			fmt.Fprintf(t.err, "%s: %v\n", arch, err)
			status = 1
			continue
		}
		fmt.Fprintln(t.out, arn)
	}
	return status
}

// publishLayer publishes the layer for an architecture and returns the ARN of its new version.
func (a awsCLI) publishLayer(ctx context.Context, arch string, o publishFlags) (arn string, err error) {
	file, err := o.checkedZip(arch)
	if err != nil {
		return "", err
	}
	var published struct{ LayerVersionArn string }
	err = a.run(ctx, &published, nil, "lambda", "publish-layer-version",
		"--layer-name", cmp.Or(o.name, layerName+goArch[arch]), "--zip-file", "fileb://"+file,
		"--compatible-architectures", arch, "--description",
		"live-lambda: invocations run on a developer's machine")
	return published.LayerVersionArn, err
}

// checkedZip returns the path of the zip to publish, which has been checked.
func (o publishFlags) checkedZip(arch string) (file string, err error) {
	file = o.zip
	if file == "" {
		file, err = findLayerZip("live-lambda-layer-" + goArch[arch] + ".zip")
		if err != nil {
			return "", err
		}
	}
	err = checkLayerZip(file, arch)
	if err == nil && !o.force {
		err = checkHash(file)
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(file)
}

// findLayerZip looks for the zip of that name beside this program, then in dist, there and here.
func findLayerZip(name string) (string, error) {
	places := []string{"dist"}
	program, err := os.Executable()
	if err == nil {
		beside := filepath.Dir(program)
		places = []string{beside, filepath.Join(beside, "dist"), "dist"}
	}
	for _, directory := range places {
		file := filepath.Join(directory, name)
		_, err := os.Stat(file)
		if err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is in none of %s; run ./build.sh first, or name the zip with --zip",
		name, strings.Join(places, ", "))
}

// checkHash returns an error unless the zip's hash is known: of a release's program as one of its own zips,
// else by the SHA256SUMS beside the zip.
func checkHash(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	hash := sumOf(content)
	if releaseVersion != "" {
		for _, released := range releasedZips() {
			if released == hash {
				return nil
			}
		}
		return fmt.Errorf("%s is not of the release %s (its SHA-256 is %s): take the zip of that release, "+
			"or publish this one with --force", file, releaseVersion, hash)
	}
	sums, err := os.ReadFile(filepath.Join(filepath.Dir(file), sumsFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(string(sums)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[0] == hash {
			return nil
		}
	}
	return fmt.Errorf("no %s beside %s names its SHA-256, %s: build the layer with ./build.sh, or publish "+
		"this one with --force", sumsFile, file, hash)
}

// sumOf is the SHA-256 of a file, as SHA256SUMS has it.
func sumOf(content []byte) string { return fmt.Sprintf("%x", sha256.Sum256(content)) }

// extensionFile is the extension's place in a layer.
const extensionFile = "extensions/live-lambda-extension"

// checkLayerZip checks what would keep every function with this layer from starting: the extension is
// missing, cannot be executed, or is for another architecture. A launcher, which is a script, is for all of
// them.
func checkLayerZip(file, arch string) error {
	z, err := zip.OpenReader(file)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is not there", file)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer z.Close()
	i := slices.IndexFunc(z.File, func(f *zip.File) bool { return f.Name == extensionFile })
	if i < 0 || z.File[i].Mode()&0o111 == 0 {
		return fmt.Errorf(
			"%s has no executable %s; it is not a layer that ./build.sh has built", file, extensionFile)
	}
	head, err := readHead(z.File[i], 20) // e_machine is its last field
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) || len(head) < 20 {
		return nil
	}
	want := elf.EM_X86_64
	if arch == "arm64" {
		want = elf.EM_AARCH64
	}
	machine := elf.Machine(binary.LittleEndian.Uint16(head[18:]))
	if machine != want {
		return fmt.Errorf("%s is for another architecture, %s, not for %s", file, machine, arch)
	}
	return nil
}

// readHead returns the first n bytes of a file in a zip, or fewer if it has fewer.
func readHead(file *zip.File, n int64) ([]byte, error) {
	r, err := file.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, n))
}

// layerFor returns the ARN of the layer version to attach to a function of an architecture. layer is such an
// ARN, or a layer, whose newest version is taken; empty stands for the one that publish-layer publishes.
func (a awsCLI) layerFor(ctx context.Context, layer, arch string) (string, error) {
	isVersion := layerOf(layer) != layer
	if isVersion {
		return layer, a.checkLayerVersion(ctx, layer, arch)
	}
	name := cmp.Or(layer, layerName+goArch[arch])
	arn, err := a.newestLayer(ctx, name, arch)
	if err == nil && arn == "" {
		err = fmt.Errorf(
			"there is no layer %s for %s: publish it with `live-lambda publish-layer %s`", name, arch, arch)
	}
	return arn, err
}

// newestLayer returns the ARN of a layer's newest version for an architecture, empty if there is none.
func (a awsCLI) newestLayer(ctx context.Context, name, arch string) (arn string, err error) {
	var list struct {
		LayerVersions []struct {
			LayerVersionArn string
			Version         int
		}
	}
	err = a.run(ctx, &list, nil, "lambda", "list-layer-versions", "--layer-name", name,
		"--compatible-architecture", arch)
	newest := 0
	for _, v := range list.LayerVersions {
		if v.Version > newest {
			arn = v.LayerVersionArn
			newest = v.Version
		}
	}
	return arn, err
}

// checkLayerVersion returns an error if a layer version is not there, or is for another architecture. One
// that names no architecture is for all.
func (a awsCLI) checkLayerVersion(ctx context.Context, arn, arch string) error {
	var version struct{ CompatibleArchitectures []string }
	err := a.run(ctx, &version, nil, "lambda", "get-layer-version-by-arn", "--arn", arn)
	if err != nil {
		return err
	}
	fits := version.CompatibleArchitectures
	if len(fits) > 0 && !slices.Contains(fits, arch) {
		return fmt.Errorf("its architecture is %s, and layer %s is for %s: publish one with `live-lambda "+
			"publish-layer %s`", arch, arn, strings.Join(fits, " and "), arch)
	}
	return nil
}

// layerOf is the layer of a layer version's ARN: arn:aws:lambda:REGION:ACCOUNT:layer:NAME of …:NAME:VERSION.
func layerOf(arn string) string {
	parts := strings.Split(arn, ":")
	if len(parts) == 8 {
		return strings.Join(parts[:7], ":")
	}
	return arn
}
