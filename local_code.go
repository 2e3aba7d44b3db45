//go:build !layer

package main

// local_code.go says what runs a function's events on this machine: a command, a runtime that somebody else
// starts, or a handler in a file, which one of the two clients beside this file runs (local_node.mjs,
// local_python.py). In: what the developer named, and the deployed function's own handler. Out: a program,
// that is a command line and a directory, or an error that says where a file was looked for.
//
// Nothing here is under local.mu: it looks at files.

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

//go:embed local_node.mjs
var nodeClient []byte

//go:embed local_python.py
var pythonClient []byte

// code is what the developer has named to run a function's events. If it has neither a command nor a handler
// and is not external, the deployed function's own handler runs, in the directory.
type code struct {
	command   []string // a program that speaks the Runtime API
	handler   string   // a path and a name in that file, as Lambda's setting: src/orders.handler
	file      string   // in which handler was found
	directory string   // of handlers; "": the working directory
	external  bool     // somebody else, a debugger say, starts the runtime
}

// take completes c with what f has read: words, of which one may be a HANDLER, and a command. If there is
// neither, nor --external, live-lambda.json may name them. It returns an error if they do not go together, or
// what they name is not there.
func (c *code) take(f *commandLine, words []string) error {
	c.command = f.command
	if len(words) == 0 && c.ways() == 0 && f.shared != nil {
		c.command = f.shared.command
		err := c.takeWords(f.shared.words())
		if err != nil {
			return fmt.Errorf("%s: %w", f.shared.file, err)
		}
		return nil
	}
	return c.takeWords(words)
}

// takeWords completes c, which may have a command, with words, of which one may be a HANDLER.
func (c *code) takeWords(words []string) error {
	switch {
	case len(words) > 1:
		return fmt.Errorf(
			"there is no use for %q; a command goes after --, a value of a flag after its =", words[1])
	case c.ways() > 1:
		return errors.New("--external starts no command")
	case len(words) == 1 && c.ways() > 0:
		return fmt.Errorf("there is no use for %q beside a command or --external", words[0])
	case len(words) == 1:
		var err error
		c.handler, c.file, err = namedHandler(words[0])
		return err
	case len(c.command) > 0:
		return checkCommand(c.command)
	}
	return nil
}

// ways counts the ways in which it says what is to run.
func (c code) ways() int {
	n := 0
	for _, named := range []bool{c.external, c.handler != "", len(c.command) > 0} {
		if named {
			n++
		}
	}
	return n
}

// program is what a process of a function runs.
type program struct {
	argv      []string
	directory string // absolute
	debugPort int    // a debugger may come there; 0: none

	// The following are zero if a command runs.
	handler  string
	language *language
}

// line returns the command line.
func (p *program) line() []string {
	if p.debugPort == 0 {
		return p.argv
	}
	return slices.Insert(slices.Clone(p.argv), 1, p.language.debugFlags(p.debugPort)...)
}

// language is one that handlers are run in.
type language struct {
	name       string
	extensions []string // of files, in the order in which they are tried
	debugPort  int      // that debuggers of this language expect

	// splitAt finds the dot in a handler's last path element that stands before the function's name. Lambda's
	// runtime of Node.js takes the first, because a function may be in an object, that of Python the last,
	// because a module may be in a package.
	// https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html
	// https://docs.aws.amazon.com/lambda/latest/dg/python-handler.html
	splitAt func(base, separator string) int
}

var (
	nodeLanguage = &language{
		name:       "Node.js",
		extensions: []string{"/index.js", ".js", ".mjs", ".cjs", ".ts", ".mts", ".cts"},
		splitAt:    strings.Index,
		debugPort:  9229,
	}
	pythonLanguage = &language{
		name:       "Python",
		extensions: []string{".py", "/__init__.py"},
		splitAt:    strings.LastIndex,
		debugPort:  5678,
	}
)

// errNoHandler is wrapped by what findHandler says about a name that cannot be a handler's.
var errNoHandler = errors.New("is no HANDLER, a path and a function's name like src/orders.handler")

// program returns what runs events of a function that is deployed with that handler. It returns no error and
// no program for external code. What is only tried is for no function, and takes no debugger's port.
func (l *local) program(c code, function, deployed string) (*program, error) {
	directory, err := filepath.Abs(c.directory)
	if err != nil {
		return nil, err
	}
	switch {
	case c.external:
		return nil, nil
	case len(c.command) > 0:
		return &program{argv: c.command, directory: directory}, nil
	}
	handler := c.handler
	if handler == "" {
		handler = deployed
	}
	if handler == "" {
		return nil, errors.New(
			"it is not known which handler is deployed: set _HANDLER, or name a HANDLER or a COMMAND")
	}
	if c.handler == "" && !own(handler) {
		return nil, fmt.Errorf(
			"the deployed handler %s is not in a file of your own: name a HANDLER or a COMMAND", handler)
	}
	lang, _, err := findHandler(directory, handler)
	if err != nil {
		return nil, err
	}
	client, err := l.clients.file(lang)
	if err != nil {
		return nil, err
	}
	p := &program{
		argv:      []string{lang.interpreter(directory), client},
		directory: directory,
		handler:   handler,
		language:  lang,
	}
	if l.opts.inspect && function != "" {
		p.debugPort, err = l.debugPorts.of(function, lang)
	}
	return p, err
}

// own reports whether a handler's name leads neither into node_modules nor into a hidden directory. A name
// that comes with a request, from whoever may publish, has the file that it names run.
func own(handler string) bool {
	for element := range strings.SplitSeq(filepath.ToSlash(handler), "/") {
		hidden := strings.HasPrefix(element, ".") && element != "."
		if hidden || element == "node_modules" {
			return false
		}
	}
	return true
}

// findHandler looks for a handler's file below directory, out of which its name must not lead. The file is
// relative to the directory.
func findHandler(directory, handler string) (lang *language, file string, err error) {
	if !filepath.IsLocal(handler) {
		return nil, "", fmt.Errorf("%s leads out of %s, where a HANDLER has to be", handler, directory)
	}
	var looked []string
	for _, lang := range []*language{nodeLanguage, pythonLanguage} {
		files := lang.files(handler)
		if files == nil {
			return nil, "", fmt.Errorf("%s %w", handler, errNoHandler)
		}
		for _, file := range files {
			info, err := os.Stat(filepath.Join(directory, file))
			if err == nil && info.Mode().IsRegular() {
				return lang, file, nil
			}
		}
		looked = append(looked, files...)
	}
	return nil, "", fmt.Errorf(
		"no file for the handler %s in %s: looked for %s", handler, directory, strings.Join(looked, ", "))
}

// files returns the files, relative to the directory of a function's code, in which a handler may be. It
// returns none if the name cannot be a handler's.
func (lang *language) files(handler string) []string {
	folder, base := path.Split(handler)
	dot := lang.splitAt(base, ".")
	if dot <= 0 || dot == len(base)-1 {
		return nil
	}
	module := base[:dot]
	if lang == pythonLanguage {
		module = strings.ReplaceAll(module, ".", "/")
	}
	var files []string
	for _, extension := range lang.extensions {
		files = append(files, folder+module+extension)
	}
	return files
}

// interpreter returns the program that runs this language. Python's is that of the virtual environment of
// the code or of the shell, if there is one.
func (lang *language) interpreter(directory string) string {
	if lang == nodeLanguage {
		return "node"
	}
	for _, environment := range virtualEnvironments(directory) {
		file := filepath.Join(environment, "bin", "python")
		_, err := os.Stat(file)
		if err == nil {
			return file
		}
	}
	return "python3"
}

// virtualEnvironments returns where a virtual environment of Python may be: .venv in the directory of the
// code and in those above it up to the working directory, then the one that the shell has activated.
func virtualEnvironments(directory string) []string {
	var list []string
	working, err := os.Getwd()
	for above := directory; err == nil; above = filepath.Dir(above) {
		list = append(list, filepath.Join(above, ".venv"))
		inside := strings.HasPrefix(above, working+string(filepath.Separator))
		if !inside {
			break
		}
	}
	active := os.Getenv("VIRTUAL_ENV")
	if active != "" {
		list = append(list, active)
	}
	return list
}

// clientFiles are the clients as files that an interpreter can run.
type clientFiles struct {
	guard *guard // removes them if this program is killed

	mu        sync.Mutex // guards the following
	directory string     // "" until one is needed
}

// startPython is the program that runs Python's client: Python keeps what it has compiled of a module, not of
// a program.
const startPython = "import local_python\nlocal_python.main()\n"

// file returns the path of the program that runs a language's client.
func (f *clientFiles) file(lang *language) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := "local_node.mjs"
	if lang == pythonLanguage {
		name = "start_python.py"
	}
	file := filepath.Join(f.directory, name)
	if f.directory != "" {
		_, err := os.Stat(file)
		if err == nil {
			return file, nil
		}
	}
	err := f.write()
	if err != nil {
		return "", fmt.Errorf("cannot write the client that runs %s handlers: %w", lang.name, err)
	}
	return filepath.Join(f.directory, name), nil
}

// write writes the clients into a directory. It makes one if there is none yet, or none any more: systems
// clean up the directories of temporary files. f.mu is held.
func (f *clientFiles) write() error {
	_, err := os.Stat(f.directory)
	if f.directory == "" || errors.Is(err, fs.ErrNotExist) {
		f.directory, err = os.MkdirTemp("", "live-lambda-")
		if err == nil {
			f.directory, err = filepath.Abs(f.directory) // TMPDIR may be relative
		}
		if err != nil {
			return err
		}
		f.guard.remove(f.directory)
	}
	files := map[string][]byte{
		"local_node.mjs":  nodeClient,
		"local_python.py": pythonClient,
		"start_python.py": []byte(startPython),
	}
	for name, text := range files {
		err := os.WriteFile(filepath.Join(f.directory, name), text, 0o600)
		if err != nil {
			return err
		}
	}
	return nil
}

// remove removes the files.
func (f *clientFiles) remove() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.directory != "" {
		os.RemoveAll(f.directory)
	}
}

// readCode reads what --map names for a function: a directory, a HANDLER, or a shell command.
func readCode(value string) (code, error) {
	info, err := os.Stat(value)
	if err == nil && info.IsDir() {
		return code{directory: value}, nil
	}
	handler, file, err := namedHandler(value)
	if err == nil {
		return code{handler: handler, file: file}, nil
	}
	command := code{command: []string{"/bin/sh", "-c", value}}
	oneWord := !strings.ContainsAny(value, " \t\n"+shellCharacters)
	if !oneWord {
		return command, checkShellCommand(value)
	}
	_, notFound := exec.LookPath(value)
	if notFound != nil {
		return code{}, fmt.Errorf("%s is no directory and no command, and as a HANDLER: %w", value, err)
	}
	return command, checkShellScript(value)
}

// shellCharacters mean something to a shell, so a word with one of them is for the shell to read.
const shellCharacters = ";&|<>()$`\\\"'*?[#~=%"

// codeExtensions are those of files in which a handler may be.
func codeExtensions() []string {
	return slices.Concat(nodeLanguage.extensions, pythonLanguage.extensions)
}

// notAHandler says what to write in place of a file's name.
func notAHandler(file string) error {
	extension := path.Ext(file)
	if !slices.Contains(codeExtensions(), extension) {
		return fmt.Errorf("%s is a file, and no HANDLER; a program goes after --", file)
	}
	name := strings.TrimSuffix(file, extension)
	return fmt.Errorf("%s is a file; a HANDLER names a function in it, as %s.handler does", file, name)
}

// namedHandler checks a HANDLER that the developer has named, and makes it relative to the working directory,
// as the file is in which it was found.
func namedHandler(word string) (handler, file string, err error) {
	info, err := os.Stat(word)
	if err == nil && !info.IsDir() {
		return "", "", notAHandler(word)
	}
	working, err := os.Getwd()
	if err != nil {
		return "", "", err
	}
	handler = filepath.Clean(word)
	if filepath.IsAbs(handler) {
		handler, err = filepath.Rel(working, handler)
		if err != nil {
			return "", "", err
		}
	}
	_, file, err = findHandler(working, handler)
	return handler, file, err
}
