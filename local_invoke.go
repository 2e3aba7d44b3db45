//go:build !layer

package main

// local_invoke.go is the command invoke. local_save.go has the recordings of events that it takes.

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// recording is what invoke takes of a file of --record.
type recording struct {
	Event   json.RawMessage `json:"event_payload"`
	Context *eventContext   `json:"context"`
}

const invokeUsage = `usage: live-lambda invoke [flags] [HANDLER] [FILE ...]
       [-- COMMAND [ARGUMENT ...]]

Runs each FILE, an event or what ` + "`live-lambda local --record`" + ` has kept, with HANDLER or COMMAND and
prints the answers. Both are as for local; the first word is a HANDLER if there is no file of that name.
Without either it runs the handler that was deployed, as the recording has it, from the working directory.
Without a FILE, or if it is -, it reads an event from standard input, or takes the
sample that --event names:
  live-lambda invoke --event sqs --set 'Records[0].body.total=5' app.handler
What the handler prints goes to standard error. The exit status is 1 if the function failed.`

// invokeFlags are what the flags of invoke set.
type invokeFlags struct {
	localOptions
	event    eventFlags
	verbose  bool
	function string        // the function's name; empty: the recorded one
	timeout  time.Duration // the function's
}

// invoke is the command invoke.
func (t *console) invoke(args []string) int {
	f := t.commandLine("invoke", invokeUsage)
	f.addProfile()
	var o invokeFlags
	o.addHandlers(f)
	f.addShared(false, "function")
	o.event.add(f)
	f.BoolVar(&o.verbose, "verbose", false, "print events and answers")
	f.StringVar(
		&o.function, "function", "", "the function's `name` (default the recorded one, else function)")
	f.DurationVar(&o.timeout, "timeout", 15*time.Minute, "the function's timeout")
	words, status, ok := f.parse(args)
	if !ok {
		return status
	}
	if o.function != "" {
		o.functions = []string{o.function} // whose environment --external tells
	}
	handler, files := o.cut(words, len(f.command) > 0)
	err := o.take(f, handler)
	if err != nil {
		return f.wrong("%v", err)
	}
	files, err = o.event.files(files)
	if err != nil {
		return f.wrong("%v", err)
	}
	texts, err := o.readFiles(files)
	switch {
	case err != nil && o.code.ways() == 0 && len(files) > 1:
		return f.wrong("%v; a HANDLER goes before the FILEs, a command after --", err)
	case err != nil:
		return f.wrong("%v", err)
	}
	term := newTerminal(os.Stderr, os.Stderr)
	term.silent = !o.verbose
	term.verbose = o.verbose
	term.start()
	defer term.close()
	l := newLocal(o.localOptions, term)
	ctx, stop := signal.NotifyContext(
		context.Background(),
		os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop() // not before close: a further signal would end this program, and leave the handlers behind
	defer l.close()
	defer context.AfterFunc(ctx, term.giveUp)() // handlers end even if nobody takes what they print
	return l.invokeAll(ctx, o, files, texts)
}

// cut cuts the words of the command line into a HANDLER, if the first is one, and files.
func (o invokeFlags) cut(words []string, command bool) (handler, files []string) {
	if command || o.code.external || len(words) == 0 || words[0] == "-" {
		return nil, words
	}
	_, err := os.Stat(words[0])
	// take says what to write in its place
	isCode := slices.Contains(codeExtensions(), filepath.Ext(words[0]))
	if err == nil && !isCode {
		return nil, words
	}
	return words[:1], words[1:]
}

// readFiles reads the files' texts. It returns an error if one of them cannot be read, or is no event.
// Signals are not caught yet: standard input may never end.
func (o invokeFlags) readFiles(files []string) ([][]byte, error) {
	var texts [][]byte
	for _, file := range files {
		text, err := o.event.read(os.Stdin, file)
		if err != nil {
			return nil, err
		}
		_, err = o.readEvent(file, text)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// invokeAll runs the events of the files one after the other, until ctx is done. It returns the exit status.
func (l *local) invokeAll(ctx context.Context, o invokeFlags, files []string, texts [][]byte) (status int) {
	if o.code.external {
		err := l.attachRuntime()
		if err != nil {
			l.term.note("%v", err)
			return 1
		}
	}
	lines := len(files) > 1 || columns(os.Stdout) > 0
	for i, file := range files {
		if ctx.Err() != nil {
			return 1
		}
		q, err := o.readEvent(file, texts[i]) // anew: its deadline counts from here
		if err == nil {
			err = l.invoke(ctx, q, os.Stdout, lines)
		}
		if err != nil {
			l.term.note("%v", err)
			status = 1
		}
	}
	return status
}

// readEvent reads one event or recording, which a file has as its text. The deadline counts from now.
func (o invokeFlags) readEvent(file string, text []byte) (*request, error) {
	if !json.Valid(text) {
		if file == "-" {
			file = "standard input, in place of a FILE before --,"
		}
		return nil, fmt.Errorf("%s is not JSON", file)
	}
	c := madeUpContext()
	if recorded(text) {
		r := recording{Context: &c}
		err := json.Unmarshal(text, &r)
		if err != nil {
			return nil, fmt.Errorf("%s: its context is not valid: %w", file, err)
		}
		text = r.Event
	}
	text, err := o.event.change(text)
	if err != nil {
		return nil, err
	}
	execution := durableOf(text)
	if execution.name != "" {
		return nil, execution.spent(file)
	}
	c.FunctionName = cmp.Or(o.function, c.FunctionName, "function")
	c.InvokedFunctionARN = cmp.Or(
		c.InvokedFunctionARN, "arn:aws:lambda:"+c.Region+":000000000000:function:"+c.FunctionName)
	c.DeadlineMs = time.Now().Add(o.timeout).UnixMilli()
	return newRequestFrom(text, c)
}

// madeUpContext is the context of an event that has none.
func madeUpContext() eventContext {
	id := make([]byte, 16)
	rand.Read(id)
	return eventContext{
		RequestID:       fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
		FunctionVersion: "$LATEST",
		MemorySizeMB:    128,
		Region:          cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1"),
		Handler:         os.Getenv("_HANDLER"),
	}
}

// invoke runs q and writes the response to w, a stream as it comes. JSON ends its line, and with lines
// whatever else it is. It returns an error if the function failed.
func (l *local) invoke(ctx context.Context, q *request, w io.Writer, lines bool) error {
	timeout, cancel := context.WithDeadline(ctx, q.deadline)
	defer cancel()
	err := l.admit(q)
	if err != nil {
		return err
	}
	l.submit(q)
	out := &lastByte{to: w}
	var written int64
	for {
		rep, _, ended := l.look(q)
		if rep != nil && (rep.streamed || ended) {
			n, err := rep.copyTo(out, written)
			if err != nil {
				return fmt.Errorf("print the response: %w", err)
			}
			written += n
		}
		if ended {
			if out.last != '\n' && (lines || rep.isJSON()) {
				io.WriteString(w, "\n")
			}
			l.finish(q, overAnswered)
			return rep.failure(q.context.FunctionName)
		}
		select {
		case <-q.news:
		case <-timeout.Done():
			l.finish(q, unheard(ctx))
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			return fmt.Errorf("%s: the function has not answered within its timeout", q.context.FunctionName)
		}
	}
}

// lastByte knows the last byte that has been written through it.
type lastByte struct {
	to   io.Writer
	last byte
}

func (b *lastByte) Write(p []byte) (int, error) {
	if len(p) > 0 {
		b.last = p[len(p)-1]
	}
	return b.to.Write(p)
}

// isJSON reports whether the reply is JSON. A runtime that is a script may leave its Content-Type to curl.
func (rep *reply) isJSON() bool {
	kind, _, _ := mime.ParseMediaType(rep.headers["Content-Type"])
	switch kind {
	case "application/json":
		return true
	case "", "application/x-www-form-urlencoded":
		return rep.kind == "error" || rep.size == int64(len(rep.head)) && json.Valid(rep.head)
	}
	return false
}

// failure returns an error if the reply is one, or a stream that broke.
func (rep *reply) failure(function string) error {
	if rep.failed() {
		return fmt.Errorf("%s: the function failed: %s", function, cmp.Or(rep.message, rep.errorType))
	}
	return nil
}

// copyTo writes what has come of the reply beyond the bytes already written, and returns how much that is.
func (rep *reply) copyTo(w io.Writer, written int64) (int64, error) {
	if rep.streamed {
		return io.Copy(w, io.NewSectionReader(&rep.data, written, rep.data.length()-written))
	}
	r, err := rep.body()
	if err != nil {
		return 0, err
	}
	return io.Copy(w, r)
}
