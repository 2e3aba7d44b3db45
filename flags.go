//go:build !layer

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
	"unsafe"
)

// flags are the command line of a subcommand.
type flags struct {
	*flag.FlagSet
	usage string
	api   map[string]*string // by the variable that each flag corresponds to
	opts  localOptions
	term  struct{ json, verbose bool }

	watch   bool
	globs   []string
	timeout time.Duration
	name    string
}

// newFlags begins a subcommand's flags with those of every command.
func newFlags(command, usage string) *flags {
	f := &flags{
		FlagSet: flag.NewFlagSet(command, flag.ContinueOnError), usage: usage, api: map[string]*string{}}
	f.SetOutput(io.Discard) // parse tells what is wrong, and prints help
	f.opts.maps = map[string][]string{}
	f.opts.maxProcesses = 10
	f.BoolVar(&f.term.verbose, "verbose", false, "print events and answers")
	return f
}

func (f *flags) help() {
	fmt.Print(f.usage, "\n\nflags:\n")
	f.VisitAll(func(g *flag.Flag) {
		value, usage := flag.UnquoteUsage(g)
		if g.DefValue != "" && g.DefValue != "0" && g.DefValue != "false" {
			usage += " (default " + g.DefValue + ")"
		}
		fmt.Printf("  --%s\n        %s\n", strings.TrimSpace(g.Name+" "+value), usage)
	})
}

// handlers adds the flags of commands that run handlers.
func (f *flags) handlers() {
	f.IntVar(&f.opts.maxProcesses, "max-processes", f.opts.maxProcesses,
		"processes of one function at most; further invocations wait")
	f.IntVar(&f.opts.port, "port", 0, "port of the Runtime API where there is no COMMAND (default any)")
	f.StringVar(&f.opts.profile, "profile", "", "profile of the AWS CLI to use (AWS_PROFILE)")
}

// variable adds a flag that wins over an environment variable.
func (f *flags) variable(name, variable, usage string) {
	f.api[variable] = f.String(name, "", usage+" ("+variable+")")
}

// getenv is os.Getenv with the flags laid over.
func (f *flags) getenv(name string) string {
	if value := f.api[name]; value != nil && *value != "" {
		return *value
	}
	return os.Getenv(name)
}

// parse reads args up to a "--", flags and other words in any order, and what follows it as the command. ok
// is false where the program is to exit with status.
func (f *flags) parse(args []string) (words []string, status int, ok bool) {
	if i := slices.Index(args, "--"); i >= 0 {
		f.opts.command, args = args[i+1:], args[:i]
		if len(f.opts.command) == 0 {
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
			return nil, f.wrong("%v", err), false
		}
		args = f.Args()
		if len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	if f.opts.maxProcesses < 1 || f.opts.maxProcesses > allProcesses {
		return nil, f.wrong("--max-processes is not from 1 to %d", allProcesses), false
	}
	return words, 0, true
}

// wrong says what is wrong with the command line and returns the exit status.
func (f *flags) wrong(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, "live-lambda %s: %s; see --help\n", f.Name(), fmt.Sprintf(format, args...))
	return 2
}

// columns is the width of the terminal that f is, 0 where it is none.
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

func durationText(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

const (
	hostVariable   = "LIVE_LAMBDA_APPSYNC_HTTP_HOST"
	apiKeyVariable = "LIVE_LAMBDA_APPSYNC_API_KEY"
	layerName      = "live-lambda-" // and Go's name of the architecture
)

// console is where a command reads and writes.
type console struct {
	in       io.Reader
	asks     bool // somebody at a terminal can answer
	out, err io.Writer
}

func newConsole() *console {
	return &console{in: os.Stdin, asks: columns(os.Stdin) > 0, out: os.Stdout, err: os.Stderr}
}

// apiFlags are the flags that win over environment variables.
var apiFlags = []struct{ name, variable string }{
	{"host", hostVariable},
	{"realtime-host", "LIVE_LAMBDA_APPSYNC_REALTIME_HOST"},
	{"region", "LIVE_LAMBDA_APPSYNC_REGION"},
	{"api-key", apiKeyVariable},
	{"namespace", "LIVE_LAMBDA_NAMESPACE"},
	{"stage", "LIVE_LAMBDA_STAGE"},
	{"protocol", "LIVE_LAMBDA_APPSYNC_PROTOCOL"},
}

// apiHelp describes apiFlags, and --stack and --profile.
const apiHelp = `  --stack NAME          read what is not set below from the outputs of this CloudFormation stack
  --profile NAME        profile of the AWS CLI
  --host HOST           the AppSync API's HTTP domain      (LIVE_LAMBDA_APPSYNC_HTTP_HOST)
  --realtime-host HOST  its realtime domain                (LIVE_LAMBDA_APPSYNC_REALTIME_HOST)
  --region REGION       its region                         (LIVE_LAMBDA_APPSYNC_REGION)
  --api-key KEY         an API key instead of IAM          (LIVE_LAMBDA_APPSYNC_API_KEY)
  --namespace NAME      channel namespace, live-lambda     (LIVE_LAMBDA_NAMESPACE)
  --stage NAME          a request channel of its own       (LIVE_LAMBDA_STAGE)
  --protocol PROTOCOL   events or graphql                  (LIVE_LAMBDA_APPSYNC_PROTOCOL)
`

// commandLine is the command line of one subcommand.
type commandLine struct {
	*flag.FlagSet
	console        *console
	help           string
	profile, stack string
	variables      map[string]string // set by flags
}

func (t *console) commandLine(name, help string) *commandLine {
	f := &commandLine{
		FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), console: t, help: help,
		variables: map[string]string{}}
	f.SetOutput(io.Discard) // parse tells what is wrong, and prints help that is shorter than flag's own
	return f
}

func (f *commandLine) addProfile() { f.StringVar(&f.profile, "profile", "", "") }

func (f *commandLine) addAPI() {
	f.addProfile()
	f.StringVar(&f.stack, "stack", "", "")
	for _, a := range apiFlags {
		f.Func(a.name, "", func(s string) error { f.variables[a.variable] = s; return nil })
	}
}

// parse reads flags and other words in any order. ok is false where the command is to end with status.
func (f *commandLine) parse(args []string) (words []string, status int, ok bool) {
	for len(args) > 0 {
		err := f.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(f.console.out, f.help)
			return nil, 0, false
		}
		if err != nil {
			return nil, f.wrong("%v", err), false
		}
		if args = f.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	return words, 0, true
}

// wrong says what is wrong with the command line and returns the exit status.
func (f *commandLine) wrong(format string, args ...any) int {
	fmt.Fprintf(f.console.err, "live-lambda %s: %s; see --help\n", f.Name(), fmt.Sprintf(format, args...))
	return 2
}

// getenv returns what is set: by flags, else by the environment, else by the stack.
func (f *commandLine) getenv(ctx context.Context) (func(string) string, error) {
	getenv := func(name string) string { return cmp.Or(f.variables[name], os.Getenv(name)) }
	if f.stack == "" {
		return getenv, nil
	}
	return stackGetenv(ctx, f.stack, f.profile, getenv)
}

// regional is getenv with the region of a standard host name, LABEL.appsync-api.REGION.amazonaws.com, where
// none is set.
func regional(getenv func(string) string) func(string) string {
	return func(name string) string {
		value := getenv(name)
		if name == "LIVE_LAMBDA_APPSYNC_REGION" && value == "" && getenv("AWS_REGION") == "" {
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
