//go:build !layer

package main

// local_told_test.go tests that what becomes of a request is told to the history, and that it runs again.

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newHistoryRig starts a local end without AppSync, which keeps a history. Its handlers are testRuntime.
func newHistoryRig(t *testing.T, opts localOptions) *localRig {
	t.Helper()
	opts.code.command = testCommand("1")
	r := newTestLocal(t, opts)
	r.local.keepHistory("dev")
	return r
}

// kept waits until the entry of that ID is as it is wanted, and returns it.
func (r *localRig) kept(id int, wanted func(keptInvocation) bool) keptInvocation {
	r.Helper()
	f, _ := r.local.history.follow()
	defer f.close()
	for {
		i, found := r.local.history.get(id)
		if found && wanted(i) {
			return i
		}
		f.next(r.ctx)
		if r.ctx.Err() != nil {
			r.Fatalf("entry %d is %+v; the terminal:\n%s", id, i.facts, r.out)
		}
	}
}

// keptAnswer waits until that entry has an outcome.
func (r *localRig) keptAnswer(id int) keptInvocation {
	r.Helper()
	return r.kept(id, func(i keptInvocation) bool { return !i.running() })
}

// printed is what the handler has printed.
func (i keptInvocation) printed() string {
	var text strings.Builder
	for _, p := range i.Printed {
		text.WriteString(p.Text)
	}
	return text.String()
}

func TestHistoryHasWhatTheHandlerMakesOfAnEvent(t *testing.T) {
	t.Parallel()
	r := newHistoryRig(t, localOptions{})
	large := strings.Repeat("x", gzipAbove+1)
	for _, tt := range []struct {
		name        string
		do          task
		answer      string
		contentType string
		outcome     string
		errorType   string
		errorJSON   string // a part of it
		text        string // a part of it
		printed     string
		streamed    bool
	}{
		{
			name:        "response",
			do:          task{Do: "text", Text: "<p>", Type: "text/html"},
			answer:      "<p>",
			contentType: "text/html",
			outcome:     "ok",
		},
		{
			name:        "large response",
			do:          task{Do: "text", Text: large, Type: "text/html"},
			answer:      large,
			contentType: "text/html",
			outcome:     "ok",
		},
		{
			name:    "printed",
			do:      task{Do: "print", Text: "to be seen\n"},
			answer:  "null",
			outcome: "ok",
			printed: "to be seen\n",
		},
		{
			name:      "error",
			do:        task{Do: "error", Text: `{"errorType":"E","errorMessage":"m"}`, Type: "E"},
			outcome:   "error",
			errorType: "E",
			errorJSON: `{"errorType":"E","errorMessage":"m"}`,
			text:      "E: m",
		},
		{
			name:      "large error",
			do:        task{Do: "error", Text: `{"errorMessage":"` + large + `"}`, Type: "E"},
			outcome:   "error",
			errorType: "E",
			errorJSON: large + `"}`,
			text:      "xxx",
		},
		{
			name:      "too large",
			do:        task{Do: "size", Size: maxPayload + 1},
			outcome:   "error",
			errorType: "Function.ResponseSizeTooLarge",
			errorJSON: "exceeded maximum",
			text:      "Response payload size",
		},
		{
			name:      "exit",
			do:        task{Do: "exit", Code: 7},
			outcome:   "error",
			errorType: "Runtime.ExitError",
			errorJSON: "exit status 7",
			text:      "exit status 7",
		},
		{
			name:        "stream",
			do:          task{Do: "stream", Pieces: []string{"one", "two"}, Type: "text/plain"},
			answer:      "onetwo",
			contentType: "text/plain",
			outcome:     "ok",
			streamed:    true,
		},
		{
			name: "stream that breaks",
			do: task{Do: "stream", Pieces: []string{"one"}, Type: "text/plain",
				Text: `{"errorType":"E","errorMessage":"m"}`},
			answer:      "one",
			contentType: "text/plain",
			outcome:     "error",
			errorType:   "Function.Middle",
			errorJSON:   `{"errorType":"E","errorMessage":"m"}`,
			text:        "E: m",
			streamed:    true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := r.on(t)
			c := r.context()
			c.Environment = map[string]string{"SECRET": "hush"}
			q := r.direct(tt.do, c)
			r.reply(q)
			r.local.finish(q, overAnswered)
			i := r.kept(q.entry.id, func(i keptInvocation) bool {
				return !i.Done.IsZero() && i.PrintedBytes >= int64(len(tt.printed))
			})
			if string(i.Answer) != tt.answer || i.Headers["Content-Type"] != tt.contentType {
				t.Errorf("answer %.100q with %v", i.Answer, i.Headers)
			}
			if i.Outcome != tt.outcome || i.ErrorType != tt.errorType || !strings.Contains(i.Text, tt.text) {
				t.Errorf("outcome %q %q %q", i.Outcome, i.ErrorType, i.Text)
			}
			if !strings.Contains(string(i.Error), tt.errorJSON) || (tt.errorJSON == "") != (i.Error == nil) {
				t.Errorf("error %.200q", i.Error)
			}
			if i.printed() != tt.printed {
				t.Errorf("printed %q", i.printed())
			}
			if i.Streamed != tt.streamed || tt.streamed != (len(i.Pieces) > 0) {
				t.Errorf("streamed: %v, in %v", i.Streamed, i.Pieces)
			}
			if string(i.Event) != string(taskEvent(tt.do)) || i.EventBytes != int64(len(i.Event)) {
				t.Errorf("event %.100q", i.Event)
			}
			if i.RequestID != c.RequestID || i.Function != "orders" || i.Stage != "dev" || i.Again != 0 {
				t.Errorf("facts %+v", i.facts)
			}
			if i.Context.Environment != nil || i.Context.TraceID != c.TraceID {
				t.Errorf("context %+v", i.Context)
			}
			inOrder := !i.Arrived.After(i.Started) && !i.Started.After(i.Answered) &&
				!i.Answered.After(i.Done)
			if i.Started.IsZero() || !inOrder || i.Ms <= 0 {
				t.Errorf("times %+v", i.facts)
			}
			if tt.answer != "" && (i.FirstByte.Before(i.Started) || i.FirstByte.After(i.Answered)) {
				t.Errorf("the first byte came at %v", i.FirstByte)
			}
		})
	}
}

// Two processes print at once, and one prints in turn for several invocations.
func TestPrintedTextBelongsToItsInvocation(t *testing.T) {
	t.Parallel()
	r := newHistoryRig(t, localOptions{})
	for range 10 {
		one := r.direct(task{Do: "print", Text: "one\n"}, r.context())
		two := r.direct(task{Do: "print", Text: "two\n"}, r.context())
		r.reply(one)
		r.reply(two)
		for q, want := range map[*request]string{one: "one\n", two: "two\n"} {
			i := r.kept(q.entry.id, func(i keptInvocation) bool { return i.PrintedBytes > 0 })
			if i.printed() != want {
				t.Errorf("%d printed %q, want %q", i.ID, i.printed(), want)
			}
		}
	}
}

// What is told by the extension, and what nobody tells.
func TestHistoryHasHowAnInvocationEnds(t *testing.T) {
	for _, tt := range []struct {
		over    string
		outcome string
		text    string
	}{
		{over: overTimeout, outcome: "timeout", text: "the caller got an error"},
		{over: overDeployed, outcome: "deployed", text: "the deployed code answers"},
		{over: overAnswered, outcome: "elsewhere", text: "another local end has answered"},
		{over: overDeadline, outcome: "timeout", text: "deadline passed, the caller got an error"},
		{over: overStopped, outcome: "unknown", text: "this end stopped before it had an answer"},
	} {
		r := newHistoryRig(t, localOptions{code: code{external: true}})
		q := r.direct([]byte(`1`), r.context())
		r.local.finish(q, tt.over)
		i, _ := r.local.history.get(1)
		if i.Outcome != tt.outcome || i.Text != tt.text || i.Over != tt.over || i.Done.IsZero() {
			t.Errorf("%s: %+v", tt.over, i.facts)
		}
	}
}

// The whole way, with and without a key.
func TestHistoryHasTheLegsOfAnInvocation(t *testing.T) {
	for _, key := range []string{"", testKey} {
		t.Run("key "+key, func(t *testing.T) {
			localBubbleWith(t, false, strings.Fields(key), func(r *localRig) {
				r.local.keepHistory("")
				e := r.newSealedEar("aaaa", key)
				event := `{"httpMethod":"GET","path":"/orders"}`
				synctest.Wait()
				e.ask(1, []byte(event), r.context())
				time.Sleep(time.Second)
				id, _ := r.next()
				time.Sleep(time.Second)
				r.respond(id, strings.NewReader(`"late"`), 202)
				time.Sleep(time.Second)
				e.done(1, overAnswered)
				synctest.Wait()
				i, _ := r.local.history.get(1)
				var legs []string
				for _, at := range []time.Time{i.Accepted, i.Started, i.FirstByte, i.Answered, i.Done} {
					legs = append(legs, fmt.Sprint(at.Sub(i.Arrived).Round(time.Second).Seconds()))
				}
				if got := strings.Join(legs, " "); got != "0 1 2 2 3" {
					t.Errorf("accepted, started, first byte, answered, done after %s s", got)
				}
				if i.Outcome != "ok" || i.Over != overAnswered || i.Caller != "GET /orders" {
					t.Errorf("facts %+v", i.facts)
				}
				if i.Sealed != (key != "") || string(i.Answer) != `"late"` {
					t.Errorf("facts %+v, answer %q", i.facts, i.Answer)
				}
			})
		})
	}
}

func TestHistoryHasCopiesAndLateAnswers(t *testing.T) {
	localBubbleOver(t, false, func(r *localRig) {
		r.local.keepHistory("")
		e := r.newSealedEar("aaaa", "")
		synctest.Wait() // a copy that comes before it is known who else is there is left to others
		c := r.context()
		c.Mirror = true
		e.ask(1, []byte(`1`), c)
		synctest.Wait()
		id, _ := r.next()
		r.respond(id, strings.NewReader(`2`), 202)
		c = r.context()
		e.ask(2, []byte(`1`), c)
		synctest.Wait()
		id, _ = r.next()
		e.done(2, overTimeout)
		synctest.Wait()
		r.respond(id, strings.NewReader(`2`), 400)
		synctest.Wait()
		first, _ := r.local.history.get(1)
		if !first.Mirror || first.Outcome != "ok" || first.Over != overMirrored || first.Text != mirrorText {
			t.Errorf("the copy: %+v", first.facts)
		}
		second, _ := r.local.history.get(2)
		if second.Outcome != "timeout" || !second.Late {
			t.Errorf("the late one: %+v", second.facts)
		}
	})
}

func TestWithoutHistoryNothingIsKept(t *testing.T) {
	t.Parallel()
	r := newTestLocal(t, localOptions{code: code{command: testCommand("1")}})
	q := r.direct(task{Do: "print", Text: "x"}, r.context())
	r.reply(q)
	if q.entry != nil || r.local.history != nil {
		t.Error("it is kept")
	}
}

// The process, which is kept, runs it with its own context, and nobody else hears of it.
func TestInvocationRunsAgain(t *testing.T) {
	r := newHistoryRig(t, localOptions{})
	c := r.context()
	c.Environment = map[string]string{"OF_FUNCTION": "yes"}
	q := r.direct(task{Do: "pid"}, c)
	_, pid := r.reply(q)
	r.local.finish(q, overAnswered)
	id, err := r.local.again(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	i := r.kept(id, func(i keptInvocation) bool { return !i.Done.IsZero() })
	if id != 2 || i.Again != 1 || i.Outcome != "ok" || string(i.Answer) != pid {
		t.Errorf("again: %+v, answer %q, want process %s", i.facts, i.Answer, pid)
	}
	if i.RequestID == c.RequestID || i.Context.InvokedFunctionARN != c.InvokedFunctionARN {
		t.Errorf("again: %+v", i.Context)
	}
	r.out.wait(r, "running, runs #1 again\n")

	id, err = r.local.again(2, []byte(`{"Do":"env"}`))
	if err != nil {
		t.Fatal(err)
	}
	i = r.kept(id, func(i keptInvocation) bool { return !i.Done.IsZero() })
	if !strings.Contains(string(i.Answer), `"OF_FUNCTION=yes"`) || i.Again != 2 {
		t.Errorf("edited: %+v, answer %.300q", i.facts, i.Answer)
	}
	if string(i.Event) != `{"Do":"env"}` {
		t.Errorf("edited: event %q", i.Event)
	}
}

// Files have changed meanwhile.
func TestInvocationRunsAgainThroughNewCode(t *testing.T) {
	t.Parallel()
	r := newHistoryRig(t, localOptions{})
	_, pid := r.reply(r.direct(task{Do: "pid"}, r.context()))
	r.local.restartAll("index.js")
	id, err := r.local.again(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	i := r.keptAnswer(id)
	if i.Outcome != "ok" || string(i.Answer) == pid {
		t.Errorf("answer %q, from process %s", i.Answer, pid)
	}
}

func TestInvocationThatCannotRunAgainSaysWhy(t *testing.T) {
	t.Parallel()
	durable := `{"DurableExecutionArn":"arn:aws:lambda:r:1:function:f:1/durable-execution/n/1",` +
		`"CheckpointToken":"t","InitialExecutionState":{"Operations":[{}]}}`
	r := newHistoryRig(t, localOptions{})
	r.reply(r.direct(task{Do: "pid"}, r.context()))
	r.local.history.add(keptInvocation{}, nil)
	for _, tt := range []struct {
		name  string
		id    int
		event []byte
		want  string
	}{
		{name: "unknown", id: 7, want: "there is no invocation 7 any more"},
		{name: "not JSON", id: 1, event: []byte("{"), want: "not JSON"},
		{name: "durable", id: 1, event: []byte(durable), want: "checkpoint token is spent"},
		{name: "too large", id: 1, event: []byte(`"` + strings.Repeat("x", maxPayload) + `"`),
			want: "larger"},
		{name: "not kept", id: 2, want: "not kept"},
	} {
		id, err := r.local.again(tt.id, tt.event)
		if err == nil || id != 0 || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %d, %v", tt.name, id, err)
		}
	}
	if got := ids(r.local.history.list()); got != "2 1" {
		t.Errorf("entries %s", got)
	}
}

// Its deadline is as far away as that of the first one was, in whole seconds.
func TestDeadlineOfAnotherRunIsMadeUp(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	for _, tt := range []struct {
		length time.Duration
		want   time.Duration
	}{
		{length: 2900 * time.Millisecond, want: 3 * time.Second},
		{length: 3 * time.Second, want: 3 * time.Second},
		{length: 15 * time.Minute, want: 15 * time.Minute},
		{length: 0, want: time.Second},
		{length: -time.Hour, want: time.Second},
	} {
		i := keptInvocation{facts: facts{Arrived: now, Deadline: now.Add(tt.length)}}
		i.Context = eventContext{Mirror: true, AcceptUntilMs: 1, AcceptedBy: "x", DeployedMs: 1}
		later := now.Add(time.Hour)
		c := i.againContext(later)
		if got := time.UnixMilli(c.DeadlineMs).Sub(later); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.length, got, tt.want)
		}
		if c.Mirror || c.AcceptUntilMs != 0 || c.AcceptedBy != "" || c.DeployedMs != 0 || c.RequestID == "" {
			t.Errorf("context %+v", c)
		}
	}
}

// Nobody got an error: there is no caller.
func TestRunThatTakesTooLongEnds(t *testing.T) {
	localBubbleOver(t, false, func(r *localRig) {
		r.local.keepHistory("")
		c := r.context()
		c.DeadlineMs = time.Now().Add(3 * time.Second).UnixMilli()
		q := r.direct([]byte(`1`), c)
		r.local.finish(q, overAnswered)
		id, err := r.local.again(1, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		i, _ := r.local.history.get(id)
		if i.Outcome != "timeout" || i.Text != "deadline passed" || i.Done.Sub(i.Arrived) != 3*time.Second {
			t.Errorf("it is %+v", i.facts)
		}
		r.wantNothingHeld()
	})
}

// This end does not wait for it, and it does not go on when this end is closed.
func TestRunEndsWithThisEnd(t *testing.T) {
	r := newHistoryRig(t, localOptions{})
	r.reply(r.direct(task{Do: "pid"}, r.context()))
	gate := r.newGate("gate")
	id, err := r.local.again(1, mustJSON(task{Do: "wait", File: gate.file}))
	if err != nil {
		t.Fatal(err)
	}
	r.kept(id, func(i keptInvocation) bool { return !i.Started.IsZero() })
	r.local.history.close()
	i, _ := r.local.history.get(id)
	if i.Outcome != "unknown" || i.Over != overStopped {
		t.Errorf("it is %+v", i.facts)
	}
	_, err = r.local.again(1, nil)
	if err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("then: %v", err)
	}
}

// Somebody changes the code and runs the same event again, without --watch.
func TestRunGoesThroughTheCodeAsItIsNow(t *testing.T) {
	t.Chdir(t.TempDir())
	writeText(t, "app.py", "handler = lambda event, context: 'old'\n")
	r := newTestLocal(t, localOptions{code: code{handler: "app.handler"}})
	r.local.keepHistory("")
	r.local.firstLook(nil)
	_, body := r.reply(r.direct([]byte(`1`), r.context()))
	if body != `"old"` {
		t.Fatalf("got %s", body)
	}
	for _, want := range []string{`"newer"`, `"the newest"`, `"the newest"`} {
		writeText(t, "app.py", "handler = lambda event, context: "+want+"\n")
		id, err := r.local.again(1, nil)
		if err != nil {
			t.Fatal(err)
		}
		i := r.kept(id, func(i keptInvocation) bool { return !i.running() })
		if string(i.Answer) != want {
			t.Errorf("got %s, want %s", i.Answer, want)
		}
	}
}
