//go:build !layer

package main

// aws_doctor_function.go is what doctor looks at if a function is named: whether the function can be invoked,
// whether it is attached, and to the API that doctor tries, and whether its deployed code starts. An event
// reaches a local end only when the deployed code has started. In: what `aws` says of the function's
// configuration and log. Out: lines as those of doctor's other steps. Of the log only the kind of a failure
// and its time are printed, of the function's variables only what the layer reads.

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// functionSteps are tried after the API's own.
var functionSteps = []doctorStep{
	{name: "function", needs: nil, try: (*doctor).checkFunction},
	{name: "layer", needs: []string{"function"}, try: (*doctor).checkLayer},
	{name: "function's API", needs: []string{"function", "configuration"}, try: (*doctor).checkFunctionAPI},
	{name: "start", needs: []string{"function"}, try: (*doctor).checkStart},
}

// doctorNote is what a step says if it could not look. That is no failure.
type doctorNote string

func (n doctorNote) Error() string { return string(n) }

// ---- the configuration ----

// checkFunction reads the function's configuration. It finds that the function can be invoked, or says why
// not.
func (d *doctor) checkFunction(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	f, err := d.cli.configuration(ctx, d.function)
	if err != nil {
		return "", err
	}
	d.config = f
	if f.State != "Active" {
		return "", fmt.Errorf("its state is %s (%s), so it cannot be invoked; %s", f.State,
			reasonText(f.StateReasonCode, f.StateReason),
			cmp.Or(stateTodo[f.State], "wait until it is Active"))
	}
	if f.LastUpdateStatus == "Failed" {
		return "", fmt.Errorf("its last update has failed (%s), so it runs what was there before; repair "+
			"that and update it again",
			reasonText(f.LastUpdateStatusReasonCode, f.LastUpdateStatusReason))
	}
	return fmt.Sprintf("%s is Active, last update %s", f.FunctionName, f.LastUpdateStatus), nil
}

// stateTodo has what to do about a function's state if waiting does not help.
var stateTodo = map[string]string{
	"Failed":   "repair that and create it anew",
	"Inactive": "it was idle for long: invoke it, which wakes it, and run this again",
}

// reasonText is why Lambda says that a function is as it is.
func reasonText(code, reason string) string {
	if code == "" && reason == "" {
		return "no reason given"
	}
	return strings.Trim(code+": "+clip(reason, 300), ": ")
}

// checkLayer finds the function's layers, and that its runtime starts through the layer's wrapper, or says
// what to attach.
func (d *doctor) checkLayer(context.Context) (string, error) {
	f := &d.config
	if f.PackageType == "Image" {
		return "", doctorNote("not known of a container image: docs/DEPLOY.md says under Container images " +
			"what has to be in it")
	}
	if err := f.fits(); err != nil {
		return "", err
	}
	if err := f.attached(); err != nil {
		return "", err
	}
	layers := f.layers()
	for i, arn := range layers {
		layers[i] = strings.TrimPrefix(arn[strings.LastIndex(arn, ":layer:")+1:], "layer:")
	}
	return strings.Join(layers, ", "), nil
}

// attached says what keeps the function's runtime from using the layer. If attach has not added the layer, it
// may have any name, so only the wrapper tells.
func (f *functionConfig) attached() error {
	layers := f.layers()
	if len(layers) == 0 {
		return errors.New("it has no layer: run live-lambda attach")
	}
	variables := f.Environment.Variables
	a, err := readAttachment(variables)
	if err != nil {
		return err
	}
	if a != nil && a.layerIn(layers) < 0 {
		return fmt.Errorf("%s, which attach has added, is gone: run live-lambda attach again", a.Layer)
	}
	wrapped := variables[wrapperVariable] == wrapperPath || variables[adapterVariable] != ""
	if !wrapped && !f.osOnly() {
		return fmt.Errorf("its variable %s is not %s, so its runtime goes past the layer: run live-lambda "+
			"attach", wrapperVariable, wrapperPath)
	}
	return nil
}

// checkFunctionAPI finds that the function's variables name the API that doctor tries, or says in what they
// differ.
func (d *doctor) checkFunctionAPI(context.Context) (string, error) {
	f := &d.config
	if f.PackageType == "Image" && f.Environment.Variables[hostVariable] == "" {
		return "", doctorNote("not known of a container image, which may set variables itself")
	}
	cfg, err := f.settings()
	if err != nil {
		return "", err
	}
	api := cfg.api
	region := regionOf(api.http.Host)
	if region != "" && region != api.region && api.apiKey == "" {
		return "", fmt.Errorf("its requests are signed for %s, and its API is in %s: set its variable %s=%s",
			api.region, region, regionVariable, region)
	}
	if api.route != "" {
		api.stage = d.api.stage // the events tell it
	}
	its := apiText(*api)
	tried := apiText(d.api.endpoint)
	if its != tried {
		return "", fmt.Errorf("it has %s, and doctor has tried %s: attach it to this one, or give doctor "+
			"and local the function's", its, tried)
	}
	if err := cmp.Or(d.fitsKey(*api), d.fitsRoute(*api)); err != nil {
		return "", err
	}
	if !time.Now().Before(cfg.until) {
		return "", fmt.Errorf("its LIVE_LAMBDA_UNTIL has passed, at %s, so the deployed code answers: set a "+
			"later time, or take it out", cfg.until.Format(time.RFC3339))
	}
	return "the one that was tried" + settingsText(cfg), nil
}

// settings reads the function's variables as the extension does.
func (f *functionConfig) settings() (cfg config, err error) {
	if err := f.readable(); err != nil {
		return cfg, err
	}
	cfg, problems := readConfig(f.getenv)
	switch {
	case len(problems) > 0:
		err = configError(problems)
	case cfg.off:
		err = errors.New("its variable LIVE_LAMBDA is off, so the layer does nothing: take it out")
	case cfg.api == nil:
		err = fmt.Errorf("its variable %s is not set: run live-lambda attach", hostVariable)
	}
	return cfg, err
}

// fitsKey says in what the function's key and the keys that are set here differ.
func (d *doctor) fitsKey(its endpoint) error {
	if len(its.key) == 0 {
		if len(d.keys) == 0 {
			return nil
		}
		return fmt.Errorf("it has no LIVE_LAMBDA_KEY, and what is not sealed with %s is dropped here: set "+
			"that key of the function too, or none here", keysText(d.keys))
	}
	id := newSealer(its.key).id
	if slices.ContainsFunc(d.keys, func(s *sealer) bool { return s.id == id }) {
		return nil
	}
	return fmt.Errorf("its messages are sealed with the key %s, which is not set here: give it with --key "+
		"or LIVE_LAMBDA_KEY", id)
}

// fitsRoute says why a function's requests do not come to this stage.
func (d *doctor) fitsRoute(its endpoint) error {
	own := d.api.route
	switch {
	case its.route == "" && own != "":
		return fmt.Errorf("it has no LIVE_LAMBDA_ROUTE, so all its requests come here, and %s is set here: "+
			"set it of the function too, or not here", own)
	case its.route != "" && own != "" && !strings.EqualFold(its.route, own):
		return fmt.Errorf("its LIVE_LAMBDA_ROUTE is %s, and here it is %s: give --route %s",
			its.route, own, its.route)
	case its.route != "" && d.api.stage == "":
		return fmt.Errorf("with its LIVE_LAMBDA_ROUTE=%s nothing comes to an end without a stage: give "+
			"--stage NAME, and send the header %q", its.route, its.route+": NAME")
	}
	return nil
}

// settingsText tells those of a function's settings that are on.
func settingsText(cfg config) string {
	text := ""
	if len(cfg.api.key) > 0 {
		text += ", sealed with the key " + newSealer(cfg.api.key).id
	}
	if cfg.api.route != "" {
		text += fmt.Sprintf(", for requests with %q", cfg.api.route+": "+cfg.api.stage)
	}
	if cfg.mirror {
		text += ", as copies only (LIVE_LAMBDA_MODE=mirror), whose answers are not used"
	}
	if cfg.until.Year() < 9999 {
		text += ", until " + cfg.until.Format(time.RFC3339)
	}
	return text
}

// getenv looks up what the layer reads as the function does.
func (f *functionConfig) getenv(name string) string {
	if name == "AWS_REGION" {
		return f.region()
	}
	if !ownVariable(name) {
		return ""
	}
	return f.Environment.Variables[name]
}

// apiText is what two ends must have in common to meet.
func apiText(e endpoint) string {
	return fmt.Sprintf("%s%s, realtime host %s, channel %s", e.http.Host, e.http.Path, e.realtime.Host,
		e.requests(e.stage))
}

// ---- the log ----

const (
	logWindow    = time.Hour        // how far back the log is read
	leastWindow  = 30 * time.Second // there is no less, however much has been logged
	maxLogEvents = 1000             // are read at once
	logTimeout   = time.Minute      // CloudWatch Logs searches a large log for long
)

// startPattern finds the lines that tell how the function's environments have started, as text and as JSON:
// Lambda's reports, and the runtimes' own lines, since a report may leave the error's type out.
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
const startPattern = `?INIT_REPORT ?RESTORE_REPORT ?"Init Duration" ` +
	`?"platform.initReport" ?"platform.restoreReport" ?initDurationMs ` +
	`?"Runtime.ImportModuleError" ?"Runtime.UserCodeSyntaxError" ?"Runtime.HandlerNotFound" ` +
	`?"Runtime.MalformedHandlerName" ?"LiveLambda.PortTaken"`

// namedTypes are what runtimes and the extension call failures of an init, and of nothing else. They say more
// than the reports, which may have Runtime.Unknown, Runtime.ExitError or Extension.InitError in their place.
const namedTypes = `(Runtime\.ImportModuleError|Runtime\.UserCodeSyntaxError|Runtime\.HandlerNotFound|` +
	`Runtime\.MalformedHandlerName|LiveLambda\.PortTaken)`

var (
	startStatus = regexp.MustCompile(`\bStatus: (\w{1,20})`)
	startType   = regexp.MustCompile(`\bError Type: ([\w.]{1,80})`)
	plainType   = regexp.MustCompile(`^[\w.]{1,80}$`)
	namedType   = regexp.MustCompile(`^` + namedTypes + `$`)
	namingLine  = regexp.MustCompile(`(?:^\[ERROR\] |"errorType": ?"|\bError Type: )` + namedTypes + `\b`)
)

// logEvent is one line of a log.
type logEvent struct {
	LogStreamName string
	Timestamp     int64 // ms since 1970
	Message       string
}

// start is what one line says about how an environment has started.
type start struct {
	at     time.Time
	failed bool
	kind   string // of the failure: an error's type, or timeout
}

// checkStart reads the function's log. It finds that the deployed code has started when this was tried last,
// or says with which failure it has not.
func (d *doctor) checkStart(ctx context.Context) (string, error) {
	group := d.config.logGroup()
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	events, window, err := d.cli.startEvents(ctx, group)
	switch {
	case hasCode(err, "ResourceNotFoundException"):
		return "", doctorNote("not known: there is no log " + group +
			", so the function has not run yet, or its role may not write logs")
	case hasCode(err, "AccessDeniedException", "AccessDenied"):
		return "", doctorNote("not known: to read the log, grant logs:FilterLogEvents on " + group)
	case err != nil:
		return "", err
	}
	good, bad := lastStarts(events)
	if good.at.IsZero() && bad.at.IsZero() {
		return fmt.Sprintf("none in the last %s of %s, so none that failed", window, group), nil
	}
	return startText(good, bad, group)
}

// startText says how the last start has gone.
func startText(good, bad start, group string) (string, error) {
	if !good.at.After(bad.at) {
		return "", fmt.Errorf("%s at %s: %s", bad.kind, bad.time(), bad.todo(group))
	}
	found := "the deployed code has started, last at " + good.time()
	if !bad.at.IsZero() {
		found += "; before that " + bad.kind + " at " + bad.time()
	}
	return found, nil
}

// startEvents reads the lines of the last hour that tell how environments have started. CloudWatch Logs gives
// the oldest first, so if there are too many, it reads less of the past. It returns how much.
func (a awsCLI) startEvents(ctx context.Context, group string) ([]logEvent, time.Duration, error) {
	for window := logWindow; ; window /= 10 {
		var page struct {
			Events    []logEvent
			NextToken string // if there are more
		}
		since := time.Now().Add(-window).UnixMilli()
		err := a.run(ctx, &page, nil, "logs", "filter-log-events",
			"--log-group-name", group,
			"--start-time", strconv.FormatInt(since, 10),
			"--filter-pattern", startPattern,
			"--max-items", strconv.Itoa(maxLogEvents))
		if err != nil || page.NextToken == "" || window/10 < leastWindow {
			return page.Events, window, err
		}
	}
}

// lastStarts returns the last start that went well and the last one that failed; a time is zero if there is
// none.
func lastStarts(events []logEvent) (good, bad start) {
	named := map[string]string{} // the type that was named last, by stream
	for _, e := range events {
		s, ok := e.start()
		if !ok {
			continue
		}
		if !s.failed {
			good = s
			continue
		}
		if namedType.MatchString(s.kind) {
			named[e.LogStreamName] = s.kind
		}
		if s.kind != "timeout" {
			s.kind = cmp.Or(named[e.LogStreamName], s.kind)
		}
		bad = s
	}
	return good, bad
}

// start reads a line; ok is false if it says nothing about a start.
func (e logEvent) start() (s start, ok bool) {
	s.at = time.UnixMilli(e.Timestamp)
	status, kind, ok := startReport(e.Message)
	switch {
	case !ok:
		s.kind = submatch(namingLine, e.Message)
		s.failed = s.kind != ""
		return s, s.failed
	case status == "" || status == "success":
		return s, true
	case status == "timeout":
		s.kind = status
	case plainType.MatchString(kind):
		s.kind = kind
	default:
		s.kind = "Runtime.Unknown"
	}
	s.failed = true
	return s, true
}

// startReport reads Lambda's report of an init or a restore: its status, which text leaves out if all went
// well, and the type of its error. The report of an environment's first invocation is one too: the init
// before it went well, whatever became of the invocation.
func startReport(message string) (status, kind string, ok bool) {
	switch {
	case strings.HasPrefix(message, "INIT_REPORT "), strings.HasPrefix(message, "RESTORE_REPORT "):
		return submatch(startStatus, message), submatch(startType, message), true
	case strings.HasPrefix(message, "REPORT RequestId: "):
		return "", "", strings.Contains(message, "Init Duration: ")
	}
	return startReportJSON(message)
}

// startReportJSON is startReport for functions that log in JSON.
func startReportJSON(message string) (status, kind string, ok bool) {
	var event struct {
		Type   string
		Record struct {
			Status, ErrorType string
			Metrics           struct{ InitDurationMs float64 }
		}
	}
	err := json.Unmarshal([]byte(message), &event)
	if err != nil {
		return "", "", false
	}
	switch event.Type {
	case "platform.initReport", "platform.restoreReport":
		return event.Record.Status, event.Record.ErrorType, true
	case "platform.report":
		return "", "", event.Record.Metrics.InitDurationMs > 0
	}
	return "", "", false
}

// submatch is what the first parentheses of an expression find, or empty.
func submatch(expression *regexp.Regexp, s string) string {
	found := expression.FindStringSubmatch(s)
	if found == nil {
		return ""
	}
	return found[1]
}

func (s start) time() string { return s.at.UTC().Format(time.RFC3339) }

// todo is what a failure means, and what to do.
func (s start) todo(group string) string {
	const lost = ", so nothing reaches a local end; "
	const story = " (docs/DEPLOY.md: The deployed code must start)"
	switch {
	case s.kind == "LiveLambda.PortTaken":
		return "another program of the function has the proxy's port" + lost +
			"set its variable LRAP_LISTENER_PORT to one that is free"
	case strings.HasPrefix(s.kind, "Extension."):
		return "an extension does not start" + lost + "the log " + group + " says which, and why"
	case s.kind == "timeout":
		return "the deployed code takes longer to start than Lambda allows, and until then nothing reaches " +
			"a local end; load dependencies inside of the handler" + story
	}
	return "the deployed code does not start" + lost +
		"repair its init, or load dependencies inside of the handler" + story
}
