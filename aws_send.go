//go:build !layer

package main

// aws_send.go is the command send: it invokes a deployed function through the AWS CLI, once, and says who has
// answered as far as the function's log tells. In: an event, and for whom it is. Out: the answer on standard
// output, the end of the log on standard error.

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

const sendUsage = `usage: live-lambda send [flags] FUNCTION [FILE]

Invokes a deployed function, a name or an ARN, through the AWS CLI. FILE has an
event, or what ` + "`live-lambda local --record`" + ` has kept. --event names a sample
in its place; without either, or if FILE is -, the event is read from standard
input. The answer goes to standard output, the end of the function's log to
standard error, with a line that says who has answered: a local end or the
deployed code. The exit status is 1 if the function failed.
  live-lambda send my-function --event sqs --set 'Records[0].body.total=5'

If the function has a ` + routeVariable + ` and a stage is set, the token that
names the stage is put into the event: as a header, as an attribute of a message
of SQS or SNS, into the detail of EventBridge, else as a field of the event.

The function is invoked once: what the AWS CLI would try again fails.

It needs these permissions, the least first:
  lambda:InvokeFunction
  lambda:GetFunctionConfiguration for --stage without --route
  cloudformation:DescribeStacks for --stack`

// sendFlags are what the flags of send set, but for those that stand for variables.
type sendFlags struct {
	event     eventFlags
	qualifier string // version or alias; empty: none
}

// add adds the flags to f.
func (o *sendFlags) add(f *commandLine) {
	o.event.add(f)
	f.StringVar(&o.qualifier, "qualifier", "", "invoke this `version` or alias of the function")
	f.addVariable("stage", stageVariable, "`name` of the stage whose token goes into the event")
	f.addVariable("route", routeVariable, "`name` of the token, if it is not to be looked up")
	f.addStack()
	f.addProfile()
	f.StringVar(&f.cliRegion, "region", "", "the function's `region`, if it is not the AWS CLI's")
	f.addShared(false, "stack", "region") // they are for the AppSync API
}

// send is the command send.
func (t *console) send(args []string) int {
	f := t.commandLine("send", sendUsage)
	var o sendFlags
	o.add(f)
	words, status, ok := f.parse(args)
	if !ok {
		return status
	}
	err := checkTarget(words)
	if err != nil {
		return f.wrong("%v", err)
	}
	event, err := o.read(t, words[1:])
	if err != nil {
		return f.wrong("%v", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	event, err = addressed(ctx, f, o.target(words[0]), event)
	if err != nil {
		return f.failed(err)
	}
	result, err := f.cli().invoke(ctx, words[0], o.qualifier, event)
	if err != nil {
		return f.failed(err)
	}
	return result.show(f, words[0])
}

// Names and ARNs are of these, with a version or alias or without.
var functionName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_:$.-]*$`)

// checkTarget checks the words of a command line: a function, and one FILE at most.
func checkTarget(words []string) error {
	if len(words) == 0 {
		return errors.New("name a function")
	}
	name := words[0]
	several := strings.HasPrefix(name, tagWord) || strings.HasPrefix(name, stackWord)
	switch {
	case several || !functionName.MatchString(name):
		return fmt.Errorf("%q is not the name or the ARN of one function", name)
	case len(words) > 2:
		return fmt.Errorf("there is no use for %q", words[2])
	}
	return nil
}

// read reads the event, of the file that is named or of what stands for it.
func (o *sendFlags) read(t *console, named []string) ([]byte, error) {
	files, err := o.event.files(named)
	if err != nil {
		return nil, err
	}
	file := files[0]
	if file == "-" && t.asks {
		fmt.Fprintln(t.err, "type the event, and Ctrl-D behind it")
	}
	text, err := o.event.read(t.in, file)
	if err != nil {
		return nil, err
	}
	if file == "-" {
		file = "standard input"
	}
	if !json.Valid(text) {
		return nil, fmt.Errorf("%s is not JSON", file)
	}
	return o.event.change(eventIn(text))
}

// eventIn is the event of a recording, or the text itself if it is none.
func eventIn(text []byte) []byte {
	if !recorded(text) {
		return text
	}
	var r struct {
		Event json.RawMessage `json:"event_payload"`
	}
	json.Unmarshal(text, &r) // it is valid
	return r.Event
}

// target is the function with its version or alias, as --function-name takes them.
func (o *sendFlags) target(function string) string {
	if o.qualifier == "" {
		return function
	}
	return function + ":" + o.qualifier
}

// ---- for whom it is ----

// addressed returns the event with the token for the stage that is set. If none is set, that is the event.
func addressed(ctx context.Context, f *commandLine, function string, event []byte) ([]byte, error) {
	getenv, err := f.getenv(ctx)
	if err != nil {
		return nil, err
	}
	stage := getenv(stageVariable)
	if stage == "" {
		return event, nil
	}
	route := getenv(routeVariable)
	if route == "" {
		route, err = f.cli().tokenOf(ctx, function, stage)
		if err != nil || route == "" {
			return event, err
		}
	}
	event, places, err := stageToken{name: route, stage: stage}.put(event)
	if err == nil {
		f.say("for stage %s the event has the token %s, at %s", stage, route, strings.Join(places, ", "))
	}
	return event, err
}

// tokenOf is the name of the token that tells a function's stages. It is empty if the function needs none,
// because all its events are for the stage.
func (a awsCLI) tokenOf(ctx context.Context, function, stage string) (string, error) {
	f, err := a.configuration(ctx, function)
	if err != nil {
		return "", fmt.Errorf("find the token for stage %s: %w; or give --route NAME", stage, err)
	}
	variables := f.Environment.Variables
	switch {
	case f.Environment.Error != nil:
		return "", fmt.Errorf("find the token for stage %s: the function's variables cannot be read (%s): "+
			"give --route NAME", stage, plainText(f.Environment.Error.ErrorCode))
	case variables[routeVariable] != "":
		return variables[routeVariable], nil
	case variables[stageVariable] == stage:
		return "", nil
	}
	return "", fmt.Errorf("nothing was sent: %s has no %s and not the stage %s, so the event would not come "+
		"there: run live-lambda attach with --route NAME or --stage %s, or send without a stage",
		function, routeVariable, stage, stage)
}

// ---- the invocation ----

// sendResult is what comes back from a function.
// https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
type sendResult struct {
	FunctionError string // empty if it has not failed
	LogResult     string // the last 4 kB of its log, in base64; empty if there is none

	payload []byte // its answer
}

// sendTimeout is how many seconds an answer is waited for: longer than any function may take.
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances.html
const sendTimeout = "5460"

// invoke invokes a function, once. The event goes through standard input, which other users of this machine
// cannot see, and as bytes (fileb://), which both versions of the AWS CLI take.
func (a awsCLI) invoke(ctx context.Context, function, qualifier string, event []byte) (*sendResult, error) {
	directory, err := os.MkdirTemp("", "live-lambda-send")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(directory)
	answer := filepath.Join(directory, "answer")
	args := []string{
		"lambda", "invoke", answer, "--function-name", function, "--payload", "fileb:///dev/stdin",
		"--log-type", "Tail", "--cli-read-timeout", sendTimeout,
	}
	if qualifier != "" {
		args = append(args, "--qualifier", qualifier)
	}
	var r sendResult
	a.once = true
	err = a.run(ctx, &r, event, args...)
	if hasCode(err, "ResourceNotFoundException") {
		return nil, fmt.Errorf("%w; check the name, and the AWS CLI's region and profile", err)
	}
	if err != nil {
		return nil, err
	}
	r.payload, err = os.ReadFile(answer)
	return &r, err
}

// show prints the log, the answer and who has answered. It returns the exit status.
func (r *sendResult) show(f *commandLine, function string) int {
	log, _ := base64.StdEncoding.DecodeString(r.LogResult) // what is no base64 is no log
	f.console.showLog(string(log))
	f.console.out.Write(r.payload)
	if !bytes.HasSuffix(r.payload, []byte("\n")) && (json.Valid(r.payload) || columns(os.Stdout) > 0) {
		fmt.Fprintln(f.console.out)
	}
	f.say("%s", whoAnswered(string(log)))
	if r.FunctionError == "" {
		return 0
	}
	return f.failed(fmt.Errorf("%s: the function failed (%s): %s", function, plainText(r.FunctionError),
		r.failure()))
}

// failure is the function's error, as far as its answer has one.
func (r *sendResult) failure() string {
	var said struct{ ErrorType, ErrorMessage string }
	json.Unmarshal(r.payload, &said) // it may be anything
	return reasonLine(said.ErrorType, said.ErrorMessage)
}

// showLog prints a log on standard error, without what a terminal would obey.
func (t *console) showLog(log string) {
	for line := range strings.Lines(log) {
		fields := strings.Split(strings.TrimRight(line, "\r\n"), "\t")
		for i, field := range fields {
			fields[i] = plainText(field)
		}
		fmt.Fprintln(t.err, strings.Join(fields, "\t"))
	}
}

// ---- the log ----

const maxReason = 500 // characters of a reason or a message that are printed

// layerLine is what the layer logs when it has looked at an invocation.
type layerLine struct {
	Source    string `json:"source"`
	Msg       string `json:"msg"`
	RequestID string `json:"request_id"`
	Outcome   string `json:"outcome"`
	ErrorType string `json:"error_type"`
	Reason    string `json:"reason"`
}

// outcomeTexts say who has answered, by the layer's outcomes.
var outcomeTexts = map[string]string{
	"answered": "a local end answered",
	"error":    "a local end answered, with an error",
	"stream":   "a local end answered, with a stream",
	"runtime":  "a local end answered, and the deployed code got that as its event",
	"deployed": "the deployed code ran",
	"mirrored": "the deployed code ran; a copy of the event has gone out",
	"failed":   "no local end's answer arrived, and the layer answered",
}

// whoAnswered says who has answered, as far as the end of the log tells.
func whoAnswered(log string) string {
	if log == "" {
		return "who has answered is not known: no log came back"
	}
	l, ok := layerLineIn(log)
	text := outcomeTexts[l.Outcome]
	if !ok || text == "" {
		return "who has answered is not known: the end of the log has no line of the layer about it; " +
			"if a local end has, its terminal shows it"
	}
	return strings.TrimSuffix(text+": "+reasonLine(l.ErrorType, l.Reason), ": ")
}

// reasonLine is an error's type, if there is one, and why.
func reasonLine(errorType, reason string) string {
	return plainText(clip(strings.Trim(errorType+": "+reason, ": "), maxReason))
}

// layerLineIn finds the layer's line about the invocation whose log this is. Its first lines may belong to
// the one before, because the layer logs what it has done when that is over.
func layerLineIn(log string) (layerLine, bool) {
	var last layerLine
	found := false
	id := requestIDIn(log)
	for line := range strings.Lines(log) {
		l := readLayerLine(line)
		if l.Source == "live-lambda" && l.Msg == "invocation" && (id == "" || l.RequestID == id) {
			last = l
			found = true
		}
	}
	return last, found
}

// What Lambda itself logs has the request ID, as text or as JSON.
// https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html
var platformID = regexp.MustCompile(
	`(?m)^(?:(?:START|END|REPORT) RequestId: |\{.*"type":"platform\.\w+".*"requestId":")([0-9A-Za-z-]+)`)

// requestIDIn is the request ID of the invocation whose log this is, empty if Lambda has logged nothing.
func requestIDIn(log string) string {
	all := platformID.FindAllStringSubmatch(log, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}

// What the layer logs as text is NAME=VALUE, and quoted if that is not one word.
var logField = regexp.MustCompile(`(\w+)=("(?:[^"\\]|\\.)*"|\S*)`)

// readLayerLine reads a line that the layer may have logged, as text or as JSON.
func readLayerLine(line string) layerLine {
	var l layerLine
	if json.Unmarshal([]byte(line), &l) == nil {
		return l
	}
	fields := map[string]string{}
	for _, m := range logField.FindAllStringSubmatch(line, -1) {
		value, err := strconv.Unquote(m[2])
		if err != nil {
			value = m[2]
		}
		fields[m[1]] = value
	}
	return layerLine{
		Source:    fields["source"],
		Msg:       fields["msg"],
		RequestID: fields["request_id"],
		Outcome:   fields["outcome"],
		ErrorType: fields["error_type"],
		Reason:    fields["reason"],
	}
}
