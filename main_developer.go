//go:build !layer

package main

// main_developer.go starts the developer's program: one of its commands or, if Lambda has started it, the
// extension.

import (
	"fmt"
	"io"
	"os"
	"slices"
)

// main of the developer's build. The layer's build has its own, in main_layer.go.
func main() {
	if startedByLambda() {
		os.Exit(extension())
	}
	os.Exit(newConsole().command(os.Args[1:]))
}

// command is one of the program's commands. run returns the exit status: 0 if all is as asked for, 1 if
// something failed, was refused or not confirmed, 2 for a command line that is not understood.
type command struct {
	name    string
	summary string
	run     func(t *console, args []string) int
}

func commands() []command {
	return []command{
		{name: "local", summary: "run a deployed function's invocations on this machine",
			run: func(t *console, args []string) int { return t.local(args, newLender()) }},
		{name: "who", summary: "print who runs local, for which stage and functions", run: (*console).who},
		{name: "invoke", summary: "run an event on this machine, without AWS", run: (*console).invoke},
		{name: "events", summary: "list and print sample events of AWS's services", run: (*console).events},
		{name: "send", summary: "invoke a deployed function with an event", run: (*console).send},
		{name: "ui", summary: "show what local --record has kept, as a page", run: (*console).ui},
		{name: "demo", summary: "show the whole path on this machine, without AWS", run: (*console).demo},
		{name: "doctor", summary: "try the AppSync API and say what is missing", run: (*console).doctor},
		{
			name: "template", summary: "print a CloudFormation template of the AppSync API",
			run: (*console).template,
		},
		{name: "publish-layer", summary: "publish the layer's zip", run: (*console).publishLayer},
		{name: "attach", summary: "attach the layer to functions", run: (*console).attach},
		{name: "detach", summary: "undo attach", run: (*console).detach},
		{name: "status", summary: "list the functions that carry the layer", run: (*console).status},
		{name: "key", summary: "print a new key, to seal messages with", run: (*console).key},
		{name: "sample", summary: "a handler to try things with", run: (*console).sample},
	}
}

// command runs one of the commands, or prints help or the version.
func (t *console) command(args []string) int {
	name := "help"
	if len(args) > 0 {
		name = args[0]
		args = args[1:]
	}
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if i >= 0 {
		return all[i].run(t, args)
	}
	asksHelp := name == "help" && len(args) > 0
	if asksHelp {
		return t.command([]string{args[0], "--help"})
	}
	switch name {
	case "help", "-h", "-help", "--help":
		help(t.out)
		return 0
	case "version", "-version", "--version":
		fmt.Fprint(t.out, versionText())
		return 0
	}
	fmt.Fprintf(t.err, "live-lambda: there is no command %q\n\n", name)
	help(t.err)
	return 2
}

// help lists the commands.
func help(out io.Writer) {
	fmt.Fprint(out, `live-lambda makes a deployed AWS Lambda function run on this machine.

usage: live-lambda COMMAND [flags] ...

`)
	for _, c := range commands() {
		fmt.Fprintf(out, "  %-13s  %s\n", c.name, c.summary)
	}
	fmt.Fprint(out, `
`+"`live-lambda COMMAND --help`"+` tells more, and `+"`live-lambda --version`"+` which
version this is. In a function's layer, where AWS_LAMBDA_RUNTIME_API is set, the
program without arguments is the extension.
`)
}
