//go:build !layer

package main

// main_developer.go starts the developer's program: it runs one of its commands or, if Lambda has started it,
// the extension.

import (
	"fmt"
	"os"
)

// main of the developer's build runs a command or, if Lambda has started it, the extension.
func main() {
	if startedByLambda() {
		os.Exit(extension())
	}
	os.Exit(runCommand(os.Args[1:]))
}

// command is one of the program's subcommands.
type command struct {
	name, summary string
	run           func(args []string) int
}

func commands() []command {
	return []command{
		{"local", "run a deployed function's invocations on this machine", localCommand},
		{"invoke", "run an event on this machine, without AWS", invokeCommand},
		{"demo", "show the whole path on this machine, without AWS", demoCommand},
		{"doctor", "try the AppSync API and say what is missing", doctorCommand},
		{"template", "print a CloudFormation template of the AppSync API", templateCommand},
		{"publish-layer", "publish the layer's zip", publishLayerCommand},
		{"attach", "attach the layer to functions", attachCommand},
		{"detach", "undo attach", detachCommand},
		{"sample", "a handler to try things with", sampleCommand},
	}
}

// runCommand runs a subcommand and returns the exit status: 2 for a command line that is not understood.
func runCommand(args []string) int {
	name := "help"
	if len(args) > 0 {
		name = args[0]
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(args[1:])
		}
	}
	out, status := os.Stdout, 0
	if name != "help" && name != "-h" && name != "-help" && name != "--help" {
		fmt.Fprintf(os.Stderr, "live-lambda: there is no command %q\n\n", name)
		out, status = os.Stderr, 2
	}
	fmt.Fprint(out,
		"live-lambda makes a deployed AWS Lambda function run on this machine.\n\nusage: live-lambda "+
			"COMMAND [flags] ...\n\n")
	for _, c := range commands() {
		fmt.Fprintf(out, "  %-13s %s\n", c.name, c.summary)
	}
	fmt.Fprint(out,
		"\n`live-lambda COMMAND --help` tells more. In a function's layer, where AWS_LAMBDA_RUNTIME_API is "+
			"set,\n"+
			"the program without arguments is the extension.\n")
	return status
}
