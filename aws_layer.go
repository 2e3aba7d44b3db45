//go:build !layer

package main

// aws_layer.go is the command publish-layer, and how attach finds the version that it has published. In: the
// layer's zip, and what `aws` prints. Out: a layer version's ARN.

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"debug/elf"
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

func publishLayerCommand(args []string) int { return newConsole().publishLayer(args) }

const publishLayerHelp = `usage: live-lambda publish-layer [flags] ARCHITECTURE ...

Publishes the layer that ./build.sh has built for an architecture, x86_64 or arm64, as a new
version, and prints its ARN. attach takes the newest version by itself.

  --zip FILE      the layer, instead of dist/live-lambda-layer-amd64.zip or -arm64.zip
  --name NAME     the layer's name, instead of live-lambda-amd64 or live-lambda-arm64
  --profile NAME  profile of the AWS CLI
`

func (t *console) publishLayer(args []string) int {
	f := t.commandLine("publish-layer", publishLayerHelp)
	f.addProfile()
	file, name := f.String("zip", "", ""), f.String("name", "", "")
	words, status, ok := f.parse(args)
	switch {
	case !ok:
		return status
	case len(words) == 0:
		return f.wrong("for which architecture, x86_64 or arm64?")
	case len(words) > 1 && *file+*name != "":
		return f.wrong("--zip and --name are for one architecture")
	}
	for i, word := range words {
		words[i] = map[string]string{"amd64": "x86_64", "x86-64": "x86_64", "aarch64": "arm64"}[word]
		words[i] = cmp.Or(words[i], word)
		if goArch[words[i]] == "" {
			return f.wrong("the architecture %q is not x86_64 or arm64", word)
		}
	}
	for _, arch := range words {
		arn, err := awsCLI{
			f.profile}.publishLayer(context.Background(), arch, cmp.Or(*name, layerName+goArch[arch]),
			cmp.Or(*file, filepath.Join("dist", "live-lambda-layer-"+goArch[arch]+".zip")))
		if err != nil {
			fmt.Fprintf(t.err, "%s: %v\n", arch, err)
			status = 1
			continue
		}
		fmt.Fprintln(t.out, arn)
	}
	return status
}

func (a awsCLI) publishLayer(ctx context.Context, arch, name, file string) (arn string, err error) {
	if err := checkLayerZip(file, arch); err != nil {
		return "", err
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	var published struct{ LayerVersionArn string }
	err = a.run(ctx, &published, nil, "lambda", "publish-layer-version", "--layer-name", name, "--zip-file",
		"fileb://"+path,
		"--compatible-architectures", arch, "--description",
		"live-lambda: invocations run on a developer's machine")
	return published.LayerVersionArn, err
}

// checkLayerZip checks what would keep every function with this layer from starting: the extension is
// missing, cannot be executed, or is for another architecture. A launcher, which is a script, is for all of
// them.
func checkLayerZip(file, arch string) error {
	z, err := zip.OpenReader(file)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is not there; run ./build.sh first, or name the zip with --zip", file)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer z.Close()
	const name = "extensions/live-lambda-extension"
	i := slices.IndexFunc(z.File, func(f *zip.File) bool { return f.Name == name })
	if i < 0 || z.File[i].Mode()&0o111 == 0 {
		return fmt.Errorf("%s has no executable %s; it is not a layer that ./build.sh has built", file, name)
	}
	r, err := z.File[i].Open()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer r.Close()
	head, err := io.ReadAll(io.LimitReader(r, 20))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) || len(head) < 20 {
		return nil
	}
	machine := elf.Machine(uint16(head[18]) | uint16(head[19])<<8)
	if want := map[string]elf.Machine{
		"x86_64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]; machine != want {
		return fmt.Errorf("%s is for %s, not for %s", file, machine, arch)
	}
	return nil
}

// layerFor returns the ARN of the layer version to attach to a function of an architecture. layer is such an
// ARN, or a layer, whose newest version is taken; empty stands for the one that publish-layer publishes.
func (a awsCLI) layerFor(ctx context.Context, layer, arch string) (string, error) {
	if layerOf(layer) != layer {
		var version struct{ CompatibleArchitectures []string }
		if err := a.run(
			ctx, &version, nil, "lambda", "get-layer-version-by-arn", "--arn", layer); err != nil {
			return "", err
		}
		if fits := version.CompatibleArchitectures; len(fits) > 0 && !slices.Contains(fits, arch) {
			return "", fmt.
				Errorf("its architecture is %s, and layer %s is for %s: publish one with `live-lambda "+
					"publish-layer %s`",
					arch, layer, strings.Join(fits, " and "), arch)
		}
		return layer, nil
	}
	name := cmp.Or(layer, layerName+goArch[arch])
	var list struct {
		LayerVersions []struct {
			LayerVersionArn string
			Version         int
		}
	}
	err := a.run(
		ctx, &list, nil, "lambda", "list-layer-versions", "--layer-name", name, "--compatible-architecture",
		arch)
	if err != nil {
		return "", err
	}
	arn, newest := "", 0
	for _, v := range list.LayerVersions {
		if v.Version > newest {
			arn, newest = v.LayerVersionArn, v.Version
		}
	}
	if arn == "" {
		return "", fmt.Errorf(
			"there is no layer %s for %s: publish it with `live-lambda publish-layer %s`", name, arch, arch)
	}
	return arn, nil
}

// layerOf is the layer of a layer version's ARN: arn:aws:lambda:REGION:ACCOUNT:layer:NAME of …:NAME:VERSION.
func layerOf(arn string) string {
	if parts := strings.Split(arn, ":"); len(parts) == 8 {
		return strings.Join(parts[:7], ":")
	}
	return arn
}
