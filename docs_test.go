//go:build !layer

package main

// docs_test.go compares the pages with the program: docs/REFERENCE.md has every variable, flag and error type
// and no other, links lead somewhere, and README.md stays short.

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

const (
	referencePage  = "docs/REFERENCE.md"
	maxReadmeWords = 1200
)

// ---- pages ----

// pageLine is one line of a page's text: what is in blocks of code between fences is left out.
type pageLine struct {
	text       string
	heading    int    // level of the heading that this line is; 0: none
	section    string // heading of level 2 that it stands under
	subsection string // heading of level 3
}

func readPage(t *testing.T, file string) []pageLine {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return pageLines(string(text))
}

func pageLines(text string) []pageLine {
	var lines []pageLine
	section, subsection := "", ""
	code := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		if fence {
			code = !code
		}
		if code || fence {
			continue
		}
		l := pageLine{text: line}
		marks, title, found := strings.Cut(line, " ")
		if found && marks != "" && strings.Trim(marks, "#") == "" {
			l.heading = len(marks)
		}
		switch l.heading {
		case 2:
			section, subsection = title, ""
		case 3:
			subsection = title
		}
		l.section, l.subsection = section, subsection
		lines = append(lines, l)
	}
	return lines
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// firstCells returns what stands as code in the first cells of a section's tables, by subsection.
func firstCells(lines []pageLine, section string) map[string][]string {
	cells := map[string][]string{}
	for _, l := range lines {
		row, isRow := strings.CutPrefix(l.text, "|")
		if !isRow || l.section != section {
			continue
		}
		first, _, _ := strings.Cut(row, "|")
		for _, span := range codeSpan.FindAllStringSubmatch(first, -1) {
			cells[l.subsection] = append(cells[l.subsection], span[1])
		}
	}
	return cells
}

// ---- sources ----

// literal is a string in a Go file.
type literal struct {
	file   string
	value  string
	getenv bool // it is the name of a variable that is read
}

// literals returns the strings in the program's Go files. Tests and emulators are left out.
func literals(t *testing.T) []literal {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var found []literal
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, "fake_") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, literalsOf(file, tree)...)
	}
	return found
}

func literalsOf(file string, tree *ast.File) []literal {
	var found []literal
	read := map[ast.Expr]bool{} // arguments of getenv
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if len(n.Args) > 0 && isGetenv(n.Fun) {
				read[n.Args[0]] = true
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				value, _ := strconv.Unquote(n.Value) // the parser took it
				found = append(found, literal{file: file, value: value, getenv: read[n]})
			}
		}
		return true
	})
	return found
}

// isGetenv reports whether a call of fun reads a variable: os.Getenv, or a function in its place.
func isGetenv(fun ast.Expr) bool {
	name := ""
	switch fun := fun.(type) {
	case *ast.Ident:
		name = fun.Name
	case *ast.SelectorExpr:
		name = fun.Sel.Name
	}
	return strings.EqualFold(name, "getenv") || name == "LookupEnv"
}

// ofLayer reports whether a Go file is part of the layer's build.
func ofLayer(t *testing.T, file string) bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return !strings.HasPrefix(string(text), "//go:build !layer\n")
}

// scriptText returns a shell script without its comments.
func scriptText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(string(text), "")
}

// ---- variables ----

const variablesSection = "Variables"

// documented is a variable that has to be in one of the tables.
type documented struct {
	name   string
	source string
	tables []string // none: any
}

var (
	// projectVariable are names that count wherever a string has them: each is read or set by this program,
	// or by a library for it.
	projectVariable = regexp.MustCompile(`\b(LIVE_LAMBDA(_[A-Z]+)*|LRAP(_[A-Z]+)+|AWS_LWA(_[A-Z]+)+|` +
		`AWS_LAMBDA_EXEC_WRAPPER|AWS_LAMBDA_EXTENSION_NAME|SSL_CERT_(FILE|DIR)|HTTPS_PROXY|https_proxy|` +
		`NO_PROXY)\b`)
	shellVariable = regexp.MustCompile(`\$\{?([A-Z_]{2,})\b`)

	// ofFunction are the tables of the variables that the layer reads.
	ofFunction = []string{"Variables of the function", "Variables that Lambda sets"}
)

// usedVariables returns the variables that the program and its scripts read, or set on functions.
func usedVariables(t *testing.T) []documented {
	t.Helper()
	var used []documented
	for _, l := range literals(t) {
		names := projectVariable.FindAllString(l.value, -1)
		if l.getenv {
			names = []string{l.value}
		}
		var tables []string
		if ofLayer(t, l.file) {
			tables = ofFunction
		}
		for _, name := range names {
			used = append(used, documented{name: name, source: l.file, tables: tables})
		}
	}
	return append(used, scriptVariables(t)...)
}

// scriptVariables returns the variables that the scripts use; of build.sh those alone that are meant for it.
func scriptVariables(t *testing.T) []documented {
	t.Helper()
	var used []documented
	for _, file := range []string{"wrapper.sh", "bootstrap.sh"} {
		for _, m := range shellVariable.FindAllStringSubmatch(scriptText(t, file), -1) {
			used = append(used, documented{name: m[1], source: file, tables: ofFunction})
		}
	}
	ofBuild := []string{"Variables of build.sh"}
	for _, name := range projectVariable.FindAllString(scriptText(t, "build.sh"), -1) {
		used = append(used, documented{name: name, source: "build.sh", tables: ofBuild})
	}
	return used
}

func TestReferenceHasEveryVariable(t *testing.T) {
	t.Parallel()
	tables := firstCells(readPage(t, referencePage), variablesSection)
	used := usedVariables(t)
	if len(used) < 50 {
		t.Fatalf("only %d uses of variables were found", len(used))
	}
	for _, v := range used {
		among := v.tables
		if len(among) == 0 {
			among = slices.Sorted(maps.Keys(tables))
		}
		if !slices.ContainsFunc(among, func(table string) bool {
			return slices.Contains(tables[table], v.name)
		}) {
			t.Errorf("%s uses %s, which %s has not under %q", v.source, v.name, referencePage, among)
		}
	}
}

func TestReferenceHasNoVariableThatNothingUses(t *testing.T) {
	t.Parallel()
	var sources []string
	for _, l := range literals(t) {
		sources = append(sources, l.value)
	}
	for _, file := range []string{"wrapper.sh", "bootstrap.sh", "build.sh"} {
		sources = append(sources, scriptText(t, file))
	}
	text := strings.Join(sources, "\n")
	for table, names := range firstCells(readPage(t, referencePage), variablesSection) {
		for _, name := range names {
			if !regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(text) {
				t.Errorf("%s has %s under %q, and nothing uses it", referencePage, name, table)
			}
		}
	}
}

// ---- commands ----

// commandHelp returns what `live-lambda COMMAND --help` prints.
func commandHelp(t *testing.T, c command) string {
	t.Helper()
	var out, errOut bytes.Buffer
	status := c.run(&console{out: &out, err: &errOut}, []string{"--help"})
	if status != 0 || errOut.Len() > 0 {
		t.Fatalf("%s --help: status %d, %q", c.name, status, errOut.String())
	}
	return out.String()
}

var flagName = regexp.MustCompile(`(?m)^(?:  )?--([a-z][a-z-]*)`)

// flagNames returns the flags at the beginnings of lines, sorted. What is further in is an example.
func flagNames(text string) []string {
	var names []string
	for _, m := range flagName.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return slices.Sorted(slices.Values(names))
}

func TestReferenceHasTheFlagsOfEveryCommand(t *testing.T) {
	tables := firstCells(readPage(t, referencePage), "Commands")
	flags := 0
	for _, c := range commands() {
		want := flagNames(commandHelp(t, c))
		got := flagNames(strings.Join(tables[c.name], "\n"))
		if !slices.Equal(got, want) {
			t.Errorf("%s has the flags %q of %s, whose help has %q", referencePage, got, c.name, want)
		}
		flags += len(want)
		delete(tables, c.name)
	}
	if flags < 50 {
		t.Errorf("only %d flags were found", flags)
	}
	for name := range tables {
		t.Errorf("%s has flags of %q, which is no command", referencePage, name)
	}
}

// ---- errors ----

var errorTypeName = regexp.MustCompile(`^(LiveLambda|Runtime|Function|Sandbox|Extension)\.[A-Za-z]+$`)

func TestReferenceHasEveryErrorType(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, l := range literals(t) {
		answers := ofLayer(t, l.file) || strings.HasPrefix(l.file, "local")
		if answers && errorTypeName.MatchString(l.value) {
			used[l.value] = true
		}
	}
	want := slices.Sorted(maps.Keys(used))
	got := slices.Sorted(slices.Values(firstCells(readPage(t, referencePage), "Errors")[""]))
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("%s has the error types\n%q, the code\n%q", referencePage, got, want)
	}
}

// ---- README.md ----

func TestReadmeIsShort(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if words := len(strings.Fields(string(text))); words > maxReadmeWords {
		t.Errorf("README.md has %d words; at most %d: the rest goes to docs", words, maxReadmeWords)
	}
}

// ---- links ----

var (
	pageLink    = regexp.MustCompile(`\[([^\]]*)\]\(([^)\s]+)\)`)
	elsewhere   = regexp.MustCompile(`^[a-z]+:`)
	headingMark = regexp.MustCompile(`^#+ +`)
)

// anchors returns the names by which GitHub's links find a page's headings: letters in lower case, digits,
// dashes and underscores stay, spaces become dashes, and the second heading of a name has -1 behind it.
func anchors(lines []pageLine) map[string]bool {
	found := map[string]bool{}
	for _, l := range lines {
		if l.heading == 0 {
			continue
		}
		title := headingMark.ReplaceAllString(l.text, "")
		title = pageLink.ReplaceAllString(title, "$1")
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, title)
		unique := name
		for n := 1; found[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", name, n)
		}
		found[unique] = true
	}
	return found
}

// links returns where a page's links lead. Their texts may go over several lines and have code in them.
func links(lines []pageLine) []string {
	var text strings.Builder
	for _, l := range lines {
		text.WriteString(codeSpan.ReplaceAllString(l.text, "code") + "\n")
	}
	var targets []string
	for _, m := range pageLink.FindAllStringSubmatch(text.String(), -1) {
		targets = append(targets, m[2])
	}
	return targets
}

// checkLink says what is wrong with a link of a page to a file of this project.
func checkLink(t *testing.T, page, target string) error {
	t.Helper()
	file, anchor, hasAnchor := strings.Cut(target, "#")
	path := page
	if file != "" {
		path = filepath.Join(filepath.Dir(page), file)
	}
	if _, err := os.Stat(path); err != nil {
		return err
	}
	if hasAnchor && !anchors(readPage(t, path))[anchor] {
		return fmt.Errorf("%s has no heading for #%s", path, anchor)
	}
	return nil
}

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, "README.md")
	if _, err := os.Stat("CONTRIBUTING.md"); err == nil {
		pages = append(pages, "CONTRIBUTING.md")
	}
	checked := 0
	for _, page := range pages {
		for _, target := range links(readPage(t, page)) {
			if elsewhere.MatchString(target) {
				continue
			}
			checked++
			if err := checkLink(t, page, target); err != nil {
				t.Errorf("%s links to %s: %v", page, target, err)
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d links were found", checked)
	}
}

func TestAnchorsAreGitHubs(t *testing.T) {
	lines := pageLines("# `local`, & [more](x.md)\n```sh\n# none\n```\n## Who's there?\n## Who's there?\n" +
		"### OS-only: Go, C++\n")
	got := slices.Sorted(maps.Keys(anchors(lines)))
	want := []string{"local--more", "os-only-go-c", "whos-there", "whos-there-1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
