//go:build !layer

package main

// flags.go is the command line of every command: what its flags are, how it is read, its help, and where the
// configuration of the AppSync API comes from. It also has what commands print with: the console, and text
// that is safe for a terminal. In: arguments, and the environment. Out: words, settings, help, and exit
// status 2 for a command line that is not understood.

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
	"unsafe"
)

const (
	hostVariable   = "LIVE_LAMBDA_APPSYNC_HTTP_HOST"
	regionVariable = "LIVE_LAMBDA_APPSYNC_REGION"
	apiKeyVariable = "LIVE_LAMBDA_APPSYNC_API_KEY"
)

// noAPI is what to say if nothing names the AppSync API.
const noAPI = "the AppSync API is not set: give --stack, --host or " + hostVariable

// apiFlags are the flags that say which AppSync API to use, each with the variable that it wins over.
var apiFlags = []struct{ name, variable, usage string }{
	{name: "host", variable: hostVariable, usage: "the AppSync API's HTTP `domain`"},
	{
		name: "realtime-host", variable: "LIVE_LAMBDA_APPSYNC_REALTIME_HOST",
		usage: "its realtime `domain`, if that does not follow from the HTTP domain",
	},
	{name: "region", variable: regionVariable,
		usage: "its `region`, if it is not the one in its domain's name"},
	{name: "api-key", variable: apiKeyVariable, usage: "an API `key`, instead of IAM"},
	{name: "namespace", variable: "LIVE_LAMBDA_NAMESPACE",
		usage: "channel namespace, live-lambda if no `name` is given"},
	{name: "stage", variable: "LIVE_LAMBDA_STAGE", usage: "`name` of a request channel of its own"},
	{
		name: "route", variable: "LIVE_LAMBDA_ROUTE",
		usage: "`name` of the token in events that says which stage they are for",
	},
	{
		name: "protocol", variable: "LIVE_LAMBDA_APPSYNC_PROTOCOL",
		usage: "`protocol` of the API: events, or graphql for a GraphQL API",
	},
}

// console is where a command reads and writes.
type console struct {
	in       io.Reader
	asks     bool // somebody at a terminal can answer
	out, err io.Writer
}

func newConsole() *console {
	return &console{in: os.Stdin, asks: columns(os.Stdin) > 0, out: os.Stdout, err: os.Stderr}
}

// commandLine is the command line of one command.
type commandLine struct {
	*flag.FlagSet
	console        *console
	usage          string // what help begins with
	profile, stack string
	cliRegion      string            // of the AWS CLI, if the command has a flag for it
	keys           []string          // as --key gives them
	functionKeys   []string          // of functions, which count besides
	variables      map[string]string // by name, as the API's flags set them
	takesCommand   bool
	command        []string     // what follows "--", if it takesCommand
	shared         *sharedFlags // what live-lambda.json says; nil if the command does not read it
}

// commandLine begins a command's flags. usage is the head of its help.
func (t *console) commandLine(name, usage string) *commandLine {
	f := &commandLine{
		FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), console: t, usage: usage,
		variables: map[string]string{},
	}
	f.SetOutput(io.Discard) // parse says what is wrong, and prints the help
	return f
}

// addProfile adds --profile, for commands that use the AWS CLI.
func (f *commandLine) addProfile() {
	f.StringVar(&f.profile, "profile", "", "`name` of the AWS CLI's profile to use (AWS_PROFILE)")
}

// cli is the AWS CLI as the flags say.
func (f *commandLine) cli() awsCLI { return awsCLI{profile: f.profile, region: f.cliRegion} }

// addStack adds --stack.
func (f *commandLine) addStack() {
	f.StringVar(
		&f.stack, "stack", "", "`name` of a CloudFormation stack; its outputs set what is not set otherwise")
}

// addAPI adds the flags that say which AppSync API to use, and --profile.
func (f *commandLine) addAPI() {
	f.addProfile()
	f.addStack()
	for _, a := range apiFlags {
		f.addVariable(a.name, a.variable, a.usage)
	}
}

// addVariable adds a flag that wins over a variable.
func (f *commandLine) addVariable(name, variable, usage string) {
	f.Func(name, usage+" ("+variable+")", func(value string) error {
		f.variables[variable] = value
		return nil
	})
}

// parse reads args: flags and other words in any order, and what follows a "--" as the command. ok is false
// if the program is to exit with status.
func (f *commandLine) parse(args []string) (words []string, status int, ok bool) {
	i := slices.Index(args, "--")
	if f.takesCommand && i >= 0 {
		f.command = args[i+1:]
		args = args[:i]
		if len(f.command) == 0 {
			return nil, f.wrong("there is no command after --"), false
		}
	}
	for len(args) > 0 {
		err := f.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			f.help()
			return nil, 0, false
		}
		if err != nil {
			return nil, f.wrong("%s", oneDash.ReplaceAllString(err.Error(), "$1--")), false
		}
		args = f.Args()
		if len(args) > 0 {
			words = append(words, args[0])
			args = args[1:]
		}
	}
	err := f.readShared()
	if err != nil {
		return nil, f.wrong("%v", err), false
	}
	return words, 0, true
}

// oneDash finds the dash before a flag's name in the errors of package flag.
var oneDash = regexp.MustCompile(`^(flag provided but not defined: |flag needs an argument: |` +
	`invalid (?:boolean )?value "(?:[^"\\]|\\.)*" for (?:flag )?)-`)

// parseFlags is parse for a command that takes flags alone.
func (f *commandLine) parseFlags(args []string) (status int, ok bool) {
	words, status, ok := f.parse(args)
	if ok && len(words) > 0 {
		return f.wrong("there is no use for %q", words[0]), false
	}
	return status, ok
}

const (
	helpColumns = 80         // of a terminal
	helpMargin  = "        " // of a flag's text
)

// help prints the usage, and each flag with its text.
func (f *commandLine) help() {
	fmt.Fprint(f.console.out, fitted(f.usage))
	heading := "\nflags:\n"
	f.VisitAll(func(g *flag.Flag) {
		value, usage := flag.UnquoteUsage(g)
		if !slices.Contains([]string{"", "0", "false"}, g.DefValue) {
			usage += " (default " + g.DefValue + ")"
		}
		name := strings.TrimSpace(g.Name + " " + value)
		optional, isBool := g.Value.(interface{ IsBoolFlag() bool })
		if value != "" && isBool && optional.IsBoolFlag() {
			name = g.Name + "[=" + value + "]"
		}
		fmt.Fprintf(f.console.out, "%s  --%s\n%s", heading, name, broken(helpMargin, helpMargin, usage))
		heading = ""
	})
}

// fitted breaks the paragraphs of a usage into lines of helpColumns. An indented line stays one of its own.
func fitted(usage string) (text string) {
	var lines []string
	prose := false // the last line goes on
	for line := range strings.SplitSeq(usage, "\n") {
		begins := prose
		prose = line != "" && line[0] != ' ' && !strings.HasPrefix(line, "usage: ")
		if begins && prose {
			lines[len(lines)-1] += " " + line
		} else {
			lines = append(lines, line)
		}
	}
	for _, line := range lines {
		words := strings.TrimLeft(line, " ")
		margin := line[:len(line)-len(words)]
		text += broken(margin, margin+margin, words)
	}
	return text
}

// broken is text in lines of helpColumns, each behind a margin: the first one behind that of its own.
func broken(first, margin, text string) (lines string) {
	line := first
	for _, word := range strings.Fields(text) {
		switch {
		case line == first:
			line += word
		case utf8.RuneCountInString(line+" "+word) <= helpColumns:
			line += " " + word
		default:
			lines += line + "\n"
			line = margin + word
		}
	}
	return lines + line + "\n"
}

// wrong says what is wrong with the command line and returns the exit status.
func (f *commandLine) wrong(format string, args ...any) int {
	f.say("%s; see --help", fmt.Sprintf(format, args...))
	return 2
}

// failed says why the command failed and returns the exit status.
func (f *commandLine) failed(err error) int {
	f.say("%v", err)
	return 1
}

// say writes a line to standard error.
func (f *commandLine) say(format string, args ...any) {
	fmt.Fprintf(f.console.err, "live-lambda %s: %s\n", f.Name(), fmt.Sprintf(format, args...))
}

// getenv returns what reads the settings: from flags, else from the environment, else from the stack's
// outputs.
func (f *commandLine) getenv(ctx context.Context) (func(name string) string, error) {
	getenv := func(name string) string { return cmp.Or(f.variables[name], os.Getenv(name)) }
	if f.stack == "" {
		return getenv, nil
	}
	return stackGetenv(ctx, f.stack, f.cli(), getenv)
}

// regional is getenv with the region of a standard host name, LABEL.appsync-api.REGION.amazonaws.com, if none
// is set.
func regional(getenv func(string) string) func(string) string {
	return func(name string) string {
		value := getenv(name)
		if name == regionVariable && value == "" && getenv("AWS_REGION") == "" {
			return regionOf(strings.ToLower(getenv(hostVariable)))
		}
		return value
	}
}

// regionOf is the region in a standard host name, or empty.
func regionOf(host string) string {
	_, rest, _ := strings.Cut(host, ".appsync-api.")
	region, _, _ := strings.Cut(rest, ".")
	return region
}

// endpoint is the API that flags, environment and stack name, with the first of the keys that are set.
// Whatever else is wrong in these is an error too.
func (f *commandLine) endpoint(ctx context.Context) (e *endpoint, keys []*sealer, err error) {
	getenv, err := f.getenv(ctx)
	if err != nil {
		return nil, nil, err
	}
	keys, err = f.sealers(getenv)
	if err != nil {
		return nil, nil, err
	}
	cfg, problems := readConfig(regional(f.oneKey(getenv)))
	switch {
	case len(problems) > 0:
		return nil, nil, configError(problems)
	case cfg.api == nil:
		return nil, nil, errors.New(noAPI)
	}
	return cfg.api, keys, nil
}

// configError makes an error of what readConfig has found, which is worded for a function's log.
func configError(problems []string) error {
	return errors.New(strings.ReplaceAll(strings.Join(problems, "; "), "; going without AppSync", ""))
}

// ---- text ----

// columns is the width of a terminal, or 0 if f is none.
func columns(f *os.File) int {
	var size struct{ rows, columns, x, y uint16 }
	_, _, errno := syscall.Syscall(
		syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0
	}
	return max(int(size.columns), 20)
}

// plainText is foreign text without what a terminal would obey.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// clip cuts s to so many characters.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:max(n, 0)])
}

// shorten cuts s to so many characters, the last of which says that there was more.
func shorten(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return clip(s, n-1) + "…"
}

// bytesText writes a size for people: decimal units, as AWS's consoles do not.
func bytesText(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

const maxBy = 100 // characters of USER@HOST

// userAtHost is who runs this program, for people who share a function.
func userAtHost() string {
	host, _ := os.Hostname() // then there is none
	by := cmp.Or(os.Getenv("USER"), "somebody") + "@" + cmp.Or(host, "somewhere")
	return clip(plainText(by), maxBy)
}

func durationText(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
