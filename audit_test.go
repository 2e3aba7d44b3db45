//go:build !layer

package main_test // of its own: nothing here needs the program's insides

// The measures of the code: how much the layer is to read (tokens), how wide a line is, which file uses which
// other file's names, and whether docs/AUDIT.md says the truth about all that. None of them counts lines: a
// limit on lines is met by putting more on each.

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
)

const (
	// layerFiles are the files that the layer's binary is built from, in the order in which they are best
	// read: the way of an event. docs/AUDIT.md lists them in this order.
	layerFiles = "main_layer.go main.go config.go extapi.go lambdaapi.go proxy.go tunnel.go bare.go " +
		"message.go seal.go route.go appsync.go sigv4.go ws.go roots.go"

	layerTags = "layer,nethttpomithttp2" // as in build.sh

	// maxLayerTokens is how much there may be to read in the layer's files: 17,000 for what it did at first,
	// 800 for presence, 1,800 for routes, copies, an end by the clock, and sealed messages, and 400 for less
	// processor time and garbage (docs/COSTS.md).
	maxLayerTokens = 20_020

	maxColumns = 110
	tabColumns = 4

	auditPage = "docs/AUDIT.md"
)

var updateAudit = flag.Bool("audit.update", false, "have TestAudit rewrite what it computes in "+auditPage)

// ---- what the layer is built from ----

// goList runs go list for the build with these tags; none is the developer's build. The layer runs on Linux,
// so its files are those of Linux wherever this test runs.
func goList(t *testing.T, tags string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-tags=" + tags}, args...)...)
	cmd.Env = append(os.Environ(), "GOOS=linux")
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %q: %v, %s", args, err, problems.String())
	}
	return string(out)
}

// builtFiles returns the files that go builds the program from, sorted by name.
func builtFiles(t *testing.T, tags string) []string {
	t.Helper()
	return strings.Fields(goList(t, tags, "-f", `{{join .GoFiles " "}}`, "."))
}

func TestLayerFiles(t *testing.T) {
	t.Parallel()
	want := slices.Sorted(strings.FieldsSeq(layerFiles))
	if got := builtFiles(t, layerTags); !slices.Equal(got, want) {
		t.Errorf("the layer is built from %s; want %s", got, want)
	}
	// .ci/run has a list of its own, so that it checks the rules for every file without this test.
	var listed []string
	for line := range strings.Lines(string(readFile(t, ".ci", "run"))) {
		value, found := strings.CutPrefix(line, "entry_files=")
		if !found {
			value, found = strings.CutPrefix(line, "inner_files=")
		}
		if found {
			listed = append(listed, strings.Fields(strings.Trim(value, "'\n"))...)
		}
	}
	slices.Sort(listed)
	if !slices.Equal(listed, want) {
		t.Errorf("entry_files and inner_files of .ci/run are %s; want %s", listed, want)
	}
}

// ---- tokens ----

// lexeme is one token of a Go file, or one comment.
type lexeme struct {
	kind   token.Token
	text   string // empty for operators
	offset int    // in the file, in bytes
	line   int    // from 1
}

// isSource reports whether somebody wrote l as code: comments are none, nor are the semicolons that Go's
// scanner inserts at the ends of lines.
func (l lexeme) isSource() bool {
	return l.kind != token.COMMENT && (l.kind != token.SEMICOLON || l.text != "\n")
}

// scan returns everything in a Go file, comments too.
func scan(source []byte) ([]lexeme, error) {
	file := token.NewFileSet().AddFile("", -1, len(source))
	var problems scanner.ErrorList
	var s scanner.Scanner
	s.Init(file, source, problems.Add, scanner.ScanComments)
	var all []lexeme
	for {
		pos, kind, text := s.Scan()
		if kind == token.EOF {
			return all, problems.Err()
		}
		all = append(all, lexeme{kind: kind, text: text, offset: file.Offset(pos), line: file.Line(pos)})
	}
}

// weight is how much there is to read in a file.
type weight struct {
	file      string
	tokens    int
	lines     int // that have a token
	widest    int // columns
	functions []functionWeight
}

type functionWeight struct {
	name   string // a method's is its own, without its type's
	tokens int
}

func weigh(file string, source []byte) (weight, error) {
	all, err := scan(source)
	if err != nil {
		return weight{}, err
	}
	w := weight{file: file}
	lines := map[int]bool{}
	var offsets []int
	for _, l := range all {
		if l.isSource() {
			lines[l.line] = true
			offsets = append(offsets, l.offset)
		}
	}
	w.tokens, w.lines = len(offsets), len(lines)
	for line := range strings.Lines(string(source)) {
		w.widest = max(w.widest, columns(strings.TrimSuffix(line, "\n")))
	}

	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, file, source, parser.SkipObjectResolution)
	if err != nil {
		return weight{}, err
	}
	for _, declared := range tree.Decls {
		function, ok := declared.(*ast.FuncDecl)
		if !ok {
			continue
		}
		from, _ := slices.BinarySearch(offsets, fset.Position(function.Pos()).Offset)
		to, _ := slices.BinarySearch(offsets, fset.Position(function.End()).Offset)
		w.functions = append(w.functions, functionWeight{name: function.Name.Name, tokens: to - from})
	}
	return w, nil
}

// weighTogether returns the weight of all files as if they were one.
func weighTogether(files []weight) weight {
	all := weight{file: "all"}
	for _, w := range files {
		all.tokens += w.tokens
		all.lines += w.lines
		all.widest = max(all.widest, w.widest)
		all.functions = append(all.functions, w.functions...)
	}
	return all
}

// median returns how many tokens the function in the middle has, and largest the largest one; zeros without
// functions.
func (w weight) median() int {
	if len(w.functions) == 0 {
		return 0
	}
	return w.bySize()[len(w.functions)/2].tokens
}

func (w weight) largest() functionWeight {
	if len(w.functions) == 0 {
		return functionWeight{}
	}
	return w.bySize()[len(w.functions)-1]
}

// bySize returns the functions, the smallest first.
func (w weight) bySize() []functionWeight {
	return slices.SortedStableFunc(slices.Values(w.functions), func(a, b functionWeight) int {
		return cmp.Compare(a.tokens, b.tokens)
	})
}

func weighFiles(t *testing.T, files []string) []weight {
	t.Helper()
	var weights []weight
	for _, file := range files {
		w, err := weigh(file, readFile(t, file, ""))
		if err != nil {
			t.Fatal(err)
		}
		weights = append(weights, w)
	}
	return weights
}

// The table is for whoever changes the layer. Of its figures the tokens of all files have a limit, and the
// widest line, which TestColumns checks: the others are there to be looked at.
func TestLayerTokens(t *testing.T) {
	t.Parallel()
	weights := weighFiles(t, builtFiles(t, layerTags))
	all := weighTogether(weights)
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "file\ttokens\tlines\ttokens a line\twidest\tfunctions\tmedian\tlargest\t")
	for _, w := range append(weights, all) {
		perLine := float64(w.tokens) / float64(max(w.lines, 1))
		largest := w.largest()
		fmt.Fprintf(out, "%s\t%d\t%d\t%.1f\t%d\t%d\t%d\t%s %d\t\n", w.file, w.tokens, w.lines, perLine,
			w.widest, len(w.functions), w.median(), largest.name, largest.tokens)
	}
	out.Flush()
	t.Logf("%d tokens, at most %d\n%s", all.tokens, maxLayerTokens, table.String())
	if all.tokens > maxLayerTokens {
		t.Errorf("the layer's files have %d tokens; at most %d", all.tokens, maxLayerTokens)
	}
}

func TestWeightCountsWhatSomebodyWroteAsCode(t *testing.T) {
	const source = `package p

// A comment is free,
// however long it is.
func small() {}

type t struct{ a, b int } // so is this one

func (t) large(n int) int {
	return n + 1 // and the semicolon after the 1
}

func middle() { small(); small() }
`
	w, err := weigh("p.go", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	want := weight{
		file:   "p.go",
		tokens: 2 + 6 + 9 + 16 + 13,
		lines:  7,
		widest: 4 + len("return n + 1 // and the semicolon after the 1"),
		functions: []functionWeight{
			{name: "small", tokens: 6}, {name: "large", tokens: 16}, {name: "middle", tokens: 13},
		},
	}
	if !reflect.DeepEqual(w, want) {
		t.Errorf("got %+v, want %+v", w, want)
	}
	if w.median() != 13 || w.largest().name != "large" {
		t.Errorf("median %d, largest %v; want 13, large", w.median(), w.largest())
	}
}

// ---- columns ----

// columns is how wide a line looks with a tab stop every tabColumns.
func columns(line string) int {
	width := 0
	for _, r := range line {
		if r == '\t' {
			width += tabColumns - width%tabColumns
		} else {
			width++
		}
	}
	return width
}

// tooWide returns the lines of a Go file that are wider than maxColumns. Three kinds of lines may be, because
// nobody could break them:
//
//   - A line that a raw string literal of several lines is on: the literal's part of it does not count,
//     because a line break there would change the text. What stands before and after it does.
//   - A comment on a line of its own that is one URL and nothing else.
//   - One string literal on a line of its own, with operators and punctuation at most, whose text is one
//     word: it has no space, comma, semicolon or line break to be cut at. A long URL is such a word.
func tooWide(source []byte) ([]int, error) {
	all, err := scan(source)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(source), "\n")
	counted := slices.Clone(lines) // without the parts of raw string literals of several lines
	on := map[int][]lexeme{}       // what begins on a line, but for punctuation
	for _, l := range all {
		pieces := strings.Split(l.text, "\n")
		switch {
		case l.kind == token.STRING && len(pieces) > 1:
			for i, piece := range pieces {
				// If the same text stands on the line twice, it does not matter which of the two goes.
				counted[l.line-1+i] = strings.Replace(counted[l.line-1+i], piece, "", 1)
			}
		case !l.kind.IsOperator():
			on[l.line] = append(on[l.line], l)
		}
	}
	var wide []int
	for i, line := range lines {
		if columns(counted[i]) <= maxColumns {
			continue
		}
		if alone := on[i+1]; counted[i] == line && len(alone) == 1 && isOneWord(line, alone[0]) {
			continue
		}
		wide = append(wide, i+1)
	}
	return wide, nil
}

// isOneWord reports whether the only thing on a line beside punctuation is a comment that is one URL, with no
// punctuation either, or a string literal that is one word.
func isOneWord(line string, l lexeme) bool {
	switch l.kind {
	case token.COMMENT:
		url, found := strings.CutPrefix(strings.TrimSpace(line), "// https://")
		return found && !strings.ContainsAny(url, " \t")
	case token.STRING:
		text, err := strconv.Unquote(l.text)
		return err == nil && !strings.ContainsAny(text, " \t\r\n,;")
	}
	return false
}

func TestColumns(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files here: %v", err)
	}
	for _, file := range files {
		source := readFile(t, file, "")
		wide, err := tooWide(source)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		lines := strings.Split(string(source), "\n")
		for _, n := range wide {
			t.Errorf("%s:%d: %d columns with tabs of %d; at most %d", file, n, columns(lines[n-1]),
				tabColumns, maxColumns)
		}
	}
}

func TestLineIsTooWideUnlessNobodyCouldBreakIt(t *testing.T) {
	long := strings.Repeat("word ", 30)
	key := strings.Repeat("0123456789", 12)
	cases := []struct {
		name string
		code string // after the line "package p"
		wide bool   // its line 2, which is the code's first
	}{
		{name: "a wide call", code: `var x = f(` + strings.Repeat("argument, ", 20) + `)`, wide: true},
		{name: "110 columns", code: "// " + strings.Repeat("x", 107)},
		{name: "111 columns", code: "// " + strings.Repeat("x", 108), wide: true},
		{name: "110 characters of more bytes", code: "// " + strings.Repeat("é", 107)},
		{name: "a tab fills up to its stop", code: "//\t" + strings.Repeat("x", 106)},
		{name: "one more after a tab", code: "//\t" + strings.Repeat("x", 107), wide: true},
		{name: "the first line of a raw string", code: "var x = `" + long + "\n`"},
		{name: "a line inside a raw string", code: long + "`"},
		{name: "a wide call with a raw string of lines",
			code: "var x = f(" + strings.Repeat("argument, ", 20) + "`a\nb`)", wide: true},
		{name: "a wide call after a raw string of lines",
			code: "b`, " + strings.Repeat("argument, ", 20) + ")", wide: true},
		{name: "a raw string of one line", code: "var x = `" + long + "`", wide: true},
		{name: "a raw string of words on its line", code: "`" + long + "`)", wide: true},
		{name: "a comment with an URL alone", code: "// https://example.com/" + key},
		{name: "a comment with words before the URL", code: "// see https://example.com/" + key, wide: true},
		{name: "a comment with words after the URL", code: "// https://example.com/" + key + " says so",
			wide: true},
		{name: "an URL after a brace", code: "} // https://example.com/" + key, wide: true},
		{name: "an URL after code", code: "var x = 1 // https://example.com/" + key, wide: true},
		{name: "a long comment", code: "// " + long, wide: true},
		{name: "a long block comment", code: "/* " + long + " */", wide: true},
		{name: "a string of words on its line", code: `"` + long + `",`, wide: true},
		{name: "a string of a list on its line", code: `"` + key + "," + key + `",`, wide: true},
		{name: "a string of two lines on its line", code: `"` + key + `\n` + key + `",`, wide: true},
		{name: "a string of one word on its line", code: `"` + key + `",`},
		{name: "a string of one word with a name before it", code: `var x = "` + key + `"`, wide: true},
		{name: "a string of one word with a comment", code: `"` + key + `", // key`, wide: true},
		{name: "two strings on a line", code: `"` + key + `", "` + key + `"`, wide: true},
	}
	for _, c := range cases {
		before := "package p\n"
		if strings.Count(c.code, "`") == 1 {
			before = "package p; var y = `\n"
		}
		wide, err := tooWide([]byte(before + c.code + "\n"))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := slices.Contains(wide, 2); got != c.wide || len(wide) > 1 {
			t.Errorf("%s: lines %d are too wide; want line 2 to be: %t", c.name, wide, c.wide)
		}
	}
}

// ---- docs/AUDIT.md ----

// reaching are the packages that lead out of the process, or change how it runs. .ci/run holds the list of
// all packages that the layer's files import.
const reaching = "crypto/tls crypto/x509 golang.org/x/net/websocket net net/http net/http/httputil os " +
	"runtime runtime/debug"

// harmless are the names in these packages that reach nothing: they are values, or make values of values.
// What is in neither list appears in docs/AUDIT.md. Constants, fields and methods never do: a file that has a
// connection and does not make it has been given it.
const harmless = "crypto/tls.ConnectionState crypto/x509.Certificate crypto/x509.NewCertPool " +
	"crypto/x509.VerifyOptions golang.org/x/net/websocket.Config golang.org/x/net/websocket.Conn " +
	"net.Conn net.ErrClosed net.Error net.IP net.JoinHostPort net.OpError net.ParseIP net.SplitHostPort " +
	"net/http.Error net/http.ErrAbortHandler net/http.Handler net/http.HandlerFunc net/http.Header " +
	"net/http.MaxBytesReader net/http.NewRequestWithContext net/http.NewResponseController " +
	"net/http.NoBody net/http.ReadRequest net/http.ReadResponse net/http.Request net/http.Response " +
	"net/http.ResponseWriter net/http.StatusText net/http/httputil.DumpResponse " +
	"net/http/httputil.ProxyRequest"

// reach returns the names through which a file reaches something, sorted.
func (c checked) reach(file string) []string {
	found := map[string]bool{}
	for name, object := range c.info.Uses {
		pkg := object.Pkg()
		if c.fset.Position(name.Pos()).Filename != file || pkg == nil || object.Parent() != pkg.Scope() ||
			!contains(reaching, pkg.Path()) || contains(harmless, pkg.Path()+"."+object.Name()) {
			continue
		}
		if _, constant := object.(*types.Const); !constant {
			found[pkg.Name()+"."+object.Name()] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// contains reports whether word is one of words.
func contains(words, word string) bool {
	return slices.Contains(strings.Fields(words), word)
}

// uses returns the names of the files whose names a file uses, in the order of layerFiles.
func (c checked) uses(file string) []string {
	used := map[string]bool{}
	for _, a := range c.arrows() {
		if a.from+".go" == file {
			used[a.to+".go"] = true
		}
	}
	var found []string
	for f := range strings.FieldsSeq(layerFiles) {
		if used[f] {
			found = append(found, strings.TrimSuffix(f, ".go"))
		}
	}
	return found
}

// auditRow is a row of a table in docs/AUDIT.md, whose first cell names a file. Cells that are empty here are
// written by hand there.
type auditRow struct {
	file  string
	cells []string // after the first
}

// from completes the row with the handwritten cells of a line that is a row for the same file.
func (r auditRow) from(line string) string {
	written := strings.Split(strings.Trim(line, "|\n"), "|")
	for i, cell := range r.cells {
		if cell != "" && i+1 < len(written) {
			written[i+1] = " " + cell + " "
		}
	}
	return "|" + strings.Join(written, "|") + "|\n"
}

// auditRows returns the rows of the two tables, in their order: what each file weighs, knows and uses, and
// what it reaches.
func auditRows(t *testing.T) []auditRow {
	t.Helper()
	c := checkBuild(t, layerTags)
	built := builtFiles(t, layerTags)
	var files []string
	for file := range strings.FieldsSeq(layerFiles) {
		if slices.Contains(built, file) { // TestLayerFiles says what is missing
			files = append(files, file)
		}
	}
	var rows []auditRow
	weights := weighFiles(t, files)
	for _, w := range weights {
		uses := cmp.Or(strings.Join(c.uses(w.file), ", "), "nothing")
		rows = append(rows, auditRow{
			file:  "[" + w.file + "](../" + w.file + ")",
			cells: []string{thousands(w.tokens), "", uses},
		})
	}
	rows = append(rows, auditRow{file: "all", cells: []string{thousands(weighTogether(weights).tokens)}})
	for _, file := range files {
		through := "nothing"
		if names := c.reach(file); len(names) > 0 {
			through = "`" + strings.Join(names, "`, `") + "`"
		}
		rows = append(rows, auditRow{file: file, cells: []string{"", through}})
	}
	return rows
}

// thousands writes n as 16,079, for numbers below a million.
func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// The tables of docs/AUDIT.md have each file of the layer once, in reading order, and what can be computed of
// them is true. After a change of the layer `go test -run TestAudit . -audit.update` writes the new figures.
func TestAudit(t *testing.T) {
	t.Parallel()
	page := strings.SplitAfter(string(readFile(t, auditPage, "")), "\n")
	changed := false
	next := 0 // where in the page the next row may stand
	for _, row := range auditRows(t) {
		var found []int
		for i, line := range page {
			if strings.HasPrefix(line, "| "+row.file+" |") {
				found = append(found, i)
			}
		}
		if len(found) != 1 || found[0] < next {
			t.Errorf("%s has %d rows for %s, one is wanted, in the order of layerFiles", auditPage,
				len(found), row.file)
			continue
		}
		at := found[0]
		next = at + 1
		want := row.from(page[at])
		switch {
		case page[at] == want:
		case *updateAudit:
			page[at] = want
			changed = true
		default:
			t.Errorf("%s:%d should be\n%s", auditPage, at+1, want)
		}
	}
	if changed {
		if err := os.WriteFile(auditPage, []byte(strings.Join(page, "")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAuditNamesTheDependencyAsGoSumDoes(t *testing.T) {
	page := strings.Split(string(readFile(t, auditPage, "")), "\n")
	module, found := strings.CutPrefix(string(readFile(t, "go.sum", "")), "golang.org/x/net ")
	sum, _, _ := strings.Cut(module, "\n")
	version, hash, _ := strings.Cut(sum, " ")
	want := fmt.Sprintf("dep   golang.org/x/net  %s  %s", version, hash)
	isWanted := func(line string) bool { return strings.TrimSpace(line) == want }
	if !found || !slices.ContainsFunc(page, isWanted) {
		t.Errorf("%s does not say, as go.sum does, %q", auditPage, want)
	}
}

// The commands that docs/AUDIT.md shows print what it shows: those in its blocks of the kind console, each on
// a line that begins with $. They are run one after the other in one shell.
func TestAuditCommands(t *testing.T) {
	t.Parallel()
	type command struct{ line, want string }
	var commands []command
	inside := false
	for line := range strings.Lines(string(readFile(t, auditPage, ""))) {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console\n"
		case inside && strings.HasPrefix(line, "$ "):
			commands = append(commands, command{line: strings.TrimPrefix(line, "$ ")})
		case inside && len(commands) > 0:
			commands[len(commands)-1].want += line
		}
	}
	if len(commands) == 0 {
		t.Fatalf("%s shows no commands", auditPage)
	}
	const mark = "---- the next command ----"
	var program strings.Builder
	for _, c := range commands {
		program.WriteString(c.line + "echo '" + mark + "'\n")
	}
	out, status := runScript(t, script{env: []string{"GOOS=linux"}}, "sh", "-c", program.String())
	got := strings.Split(out, mark+"\n")
	if status != 0 || len(got) != len(commands)+1 {
		t.Fatalf("exit status %d, %s", status, out)
	}
	for i, c := range commands {
		if got[i] != c.want {
			t.Errorf("%s shows\n$ %s%sbut what comes is\n%s", auditPage, c.line, c.want, got[i])
		}
	}
}
