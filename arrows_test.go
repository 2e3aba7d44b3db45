//go:build !layer

package main_test

// arrows_test.go holds which file may use which other file's names.

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// rule says which files' names a file may use beside its own. Files are named without .go here.
type rule struct {
	file string
	uses string
}

// houses are the groups of files whose arrows are held, each in the build that it is looked at in. A file
// that no rule names may use what it likes; TestArrows wants a rule for each file of the layer.
var houses = []struct {
	name  string
	tags  string
	rules []rule
}{
	{
		name: "the layer",
		tags: layerTags,
		rules: []rule{
			{file: "main", uses: "config extapi proxy tunnel appsync"},
			{file: "main_layer", uses: "main"},
			{file: "proxy", uses: "config tunnel route appsync lambdaapi"},
			{file: "tunnel", uses: "config bare message seal appsync lambdaapi"},
			{file: "bare", uses: "config tunnel message appsync lambdaapi"},
			{file: "appsync", uses: "config message seal lambdaapi sigv4 ws roots"},
			{file: "ws", uses: "roots"},
			{file: "extapi", uses: "lambdaapi"},
			{file: "config"},
			{file: "lambdaapi"},
			{file: "message", uses: "seal"},
			{file: "seal", uses: "config message"},
			{file: "route", uses: "config"},
			{file: "sigv4"},
			{file: "roots"},
		},
	},
}

// arrow is a use, in one file, of a name that another one declares: of a package-level declaration, a field
// or a method.
type arrow struct {
	from, to string // without .go
	name     string
	position token.Position
}

func (a arrow) String() string {
	return fmt.Sprintf(
		"%s:%d: %s uses %s, which %s declares", a.position.Filename, a.position.Line, a.from, a.name, a.to)
}

// checked is a package that has been type-checked.
type checked struct {
	fset *token.FileSet
	pkg  *types.Package
	info *types.Info
}

// check parses and type-checks the files of a package. sources has their text by name.
func check(sources map[string][]byte, imports types.Importer, fset *token.FileSet) (checked, error) {
	c := checked{fset: fset, info: &types.Info{Uses: map[*ast.Ident]types.Object{}}}
	var files []*ast.File
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		file, err := parser.ParseFile(fset, name, sources[name], parser.SkipObjectResolution)
		if err != nil {
			return c, err
		}
		files = append(files, file)
	}
	config := types.Config{Importer: imports}
	pkg, err := config.Check("main", fset, files, c.info)
	c.pkg = pkg
	return c, err
}

// checkBuild type-checks the program as it is built with these tags. The packages that it imports come from
// the compiler's own export data.
func checkBuild(t *testing.T, tags string) checked {
	t.Helper()
	exports := map[string]string{}
	for line := range strings.Lines(
		goList(t, tags, "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".")) {
		path, file, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		exports[path] = file
	}
	lookup := func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, errors.New("go list names no export data")
		}
		return os.Open(exports[path])
	}
	sources := map[string][]byte{}
	for _, name := range builtFiles(t, tags) {
		sources[name] = readFile(t, name, "")
	}
	fset := token.NewFileSet()
	c, err := check(sources, importer.ForCompiler(fset, "gc", lookup), fset)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// arrows returns the uses of other files' names, in the order of the files and their lines. What is promoted
// from an embedded struct belongs to the file that declares it.
func (c checked) arrows() []arrow {
	var found []arrow
	// fields and methods too: the names behind the dots and before the colons
	for name, object := range c.info.Uses {
		if object.Pkg() != c.pkg || !object.Pos().IsValid() {
			continue
		}
		a := arrow{
			from:     c.fileOf(name.Pos()),
			to:       c.fileOf(object.Pos()),
			name:     name.Name,
			position: c.fset.Position(name.Pos()),
		}
		if a.from != a.to {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, func(a, b arrow) int {
		return cmp.Or(
			cmp.Compare(a.position.Filename, b.position.Filename),
			cmp.Compare(a.position.Offset, b.position.Offset))
	})
	return found
}

// fileOf returns the name, without .go, of the file that a position is in.
func (c checked) fileOf(pos token.Pos) string {
	return strings.TrimSuffix(c.fset.Position(pos).Filename, ".go")
}

// forbidden returns the arrows that the rules do not allow.
func forbidden(found []arrow, rules []rule) []arrow {
	allowed := map[string][]string{}
	for _, r := range rules {
		allowed[r.file] = strings.Fields(r.uses)
	}
	return slices.DeleteFunc(slices.Clone(found), func(a arrow) bool {
		uses, held := allowed[a.from]
		return !held || slices.Contains(uses, a.to)
	})
}

func TestArrows(t *testing.T) {
	t.Parallel()
	for _, house := range houses {
		for _, a := range forbidden(checkBuild(t, house.tags).arrows(), house.rules) {
			t.Errorf("%s: %s", house.name, a)
		}
		if house.tags != layerTags {
			continue
		}
		for _, file := range builtFiles(t, house.tags) {
			name := strings.TrimSuffix(file, ".go")
			if !slices.ContainsFunc(house.rules, func(r rule) bool { return r.file == name }) {
				t.Errorf("%s: no rule says which files' names %s may use", house.name, file)
			}
		}
	}
}

// wings are the parts of the developer's program, and whose names the files of each may use beside their own
// wing's. "*" stands for everybody's.
var wings = []struct {
	name  string
	files string // patterns; a file belongs to the first wing that has one for it
	uses  string
}{
	{
		name:  "layer",
		files: "main config proxy lambdaapi extapi tunnel bare message seal route appsync sigv4 ws roots",
	},
	{name: "shared", files: "flags flags_* events events_* aws_cli version", uses: "layer"},
	{name: "local", files: "local local_*", uses: "layer shared"},
	{name: "aws", files: "aws_*", uses: "layer shared"},
	{name: "fake", files: "fake_*", uses: "layer"},
	{name: "top", files: "main_developer attached demo", uses: "*"},
}

// wingOf returns the wing of a file that is named without .go, -1 if it has none.
func wingOf(file string) int {
	for i, wing := range wings {
		for pattern := range strings.FieldsSeq(wing.files) {
			matches, _ := path.Match(pattern, file) // the patterns are valid
			if matches {
				return i
			}
		}
	}
	return -1
}

func TestArrowsBetweenWings(t *testing.T) {
	t.Parallel()
	for _, file := range builtFiles(t, "") {
		if wingOf(strings.TrimSuffix(file, ".go")) < 0 {
			t.Errorf("%s belongs to no wing", file)
		}
	}
	for _, a := range checkBuild(t, "").arrows() {
		from, to := wingOf(a.from), wingOf(a.to)
		if from < 0 || to < 0 || from == to {
			continue
		}
		uses := strings.Fields(wings[from].uses)
		if !slices.Contains(uses, "*") && !slices.Contains(uses, wings[to].name) {
			t.Errorf("wing %s uses wing %s: %s", wings[from].name, wings[to].name, a)
		}
	}
}

// Each file may use names of one other. Each has one arrow too many: of a function, of a field that is
// promoted from an embedded struct, and of a method.
func TestArrowIsForbiddenUnlessARuleAllowsIt(t *testing.T) {
	sources := map[string][]byte{
		"one.go": []byte(`package main

type wide struct{ record }

var value wide

func main() {
	helper()
}
`),
		"two.go": []byte(`package main

func helper() int {
	return value.field
}

func (wide) method() {}
`),
		"three.go": []byte(`package main

type record struct{ field int }

func count() {
	value.method()
}
`),
	}
	c, err := check(sources, nil, token.NewFileSet())
	if err != nil {
		t.Fatal(err)
	}
	rules := []rule{{file: "one", uses: "three"}, {file: "two", uses: "one"}, {file: "three", uses: "one"}}
	var got []string
	for _, a := range forbidden(c.arrows(), rules) {
		got = append(got, a.String())
	}
	want := []string{
		"one.go:8: one uses helper, which two declares",
		"three.go:6: three uses method, which two declares",
		"two.go:4: two uses field, which three declares",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if free := forbidden(c.arrows(), nil); len(free) != 0 {
		t.Errorf("without a rule %v is forbidden", free)
	}
}
