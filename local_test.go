//go:build !layer

package main

// local_test.go runs the command local, as a process: interrupts, ends, which functions it serves.

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// It also says what it waits for, and sums up.
func TestInterruptLetsRunningInvocationsFinish(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	c := r.startLocal(append([]string{"--"}, testCommand("1")...)...)
	r.invoke(task{}, r.context())
	g := r.newGate("gate")
	call := r.send(task{Do: "wait", File: g.file, Text: "last"}, r.context())
	f, err := os.OpenFile(g.file, os.O_WRONLY, 0) // when the handler has come
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Process.Signal(os.Interrupt)
	c.stdout.wait(r, "waiting for orders 00000000; interrupt once more")
	f.Close()
	r.await(call).want(r, "", `"last"`)
	call.finish()
	c.exit(0)
	if !strings.Contains(c.stdout.String(), " 2 invocations, 0 errors, median ") {
		t.Errorf("it printed\n%s", c.stdout)
	}
}

// The callers hear of it. With --json each line of all that is an object.
func TestSecondInterruptEndsEverything(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	c := r.startLocal(append([]string{"--json", "--"}, testCommand("1")...)...)
	fifo := r.newGate("hang")
	call := r.send(task{Do: "hang", File: fifo.file}, r.context())
	f := openRead(t, fifo)
	c.cmd.Process.Signal(syscall.SIGTERM)
	c.stdout.wait(r, "interrupt once more")
	c.cmd.Process.Signal(os.Interrupt)
	g := r.await(call)
	if g.errorType != "LiveLambda.Stopped" {
		t.Errorf("the caller got %q", g.errorType)
	}
	call.finish()
	io.Copy(io.Discard, f)
	c.exit(1)
	for line := range strings.Lines(c.stdout.String()) {
		var e report
		err := json.Unmarshal([]byte(line), &e)
		if err != nil || e.Type == "" || e.Time.IsZero() {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// Several functions have processes of their own, and what these print is marked. A function that is not
// served is left alone. --verbose shows events.
func TestLocalServesTheFunctionsThatFlagsName(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	args := []string{
		"--verbose",
		"--function", "ord*",
		"--map", "pay=exec env TEST_RUNTIME=1 " + os.Args[0],
		"--",
	}
	c := r.startLocal(append(args, testCommand("1")...)...)
	as := func(name string) eventContext {
		c := r.context()
		c.FunctionName = name
		return c
	}
	r.invoke(task{Do: "print", Text: "one\n"}, as("orders"))
	c.stdout.wait(r, "\none\n")
	alone := r.send(task{}, as("stock"))
	c.stdout.wait(r, "left alone: invocations of stock")
	r.invoke(task{Do: "print", Text: "two\nthree\n"}, as("pay"))
	c.stdout.wait(r, "pay | two\npay | three\n")
	alone.t.Lock()
	if alone.heardOn != nil {
		t.Error("an invocation that is not served was accepted")
	}
	alone.t.Unlock()
	c.stdout.wait(r, "    event: {\n")
	c.cmd.Process.Signal(os.Interrupt)
	c.exit(0)
}

// inShutDown runs a test in a bubble, which also notices a goroutine that is left behind.
func inShutDown(t *testing.T, test func(r *localRig, s *subscriber)) {
	synctest.Test(t, func(t *testing.T) {
		r := newTestLocal(t, localOptions{code: code{external: true}})
		test(r, newSubscriber(nil, r.local))
	})
}

// Another secret needs another mend than a permission. Credentials that have expired are doctor's test.
func TestLocalSaysWhatIsWrongWithSignatures(t *testing.T) {
	t.Parallel()
	keys := credentials{accessKeyID: "AKIDEXAMPLE", secretAccessKey: "secret"}
	otherSecret := credentials{accessKeyID: "AKIDEXAMPLE", secretAccessKey: "other"}
	r := newTestLocal(t, localOptions{code: code{external: true}})
	for _, tt := range []struct {
		api  eventAPIOptions
		want string
	}{
		{
			api:  eventAPIOptions{credentials: []credentials{otherSecret}, region: "eu-west-1"},
			want: "; the secret access key is not the one of this access key: set both anew\n",
		},
		{
			api:  eventAPIOptions{credentials: nil, region: "eu-west-1"},
			want: "; AWS does not know these credentials: get new ones\n",
		},
		{
			api: eventAPIOptions{
				credentials: []credentials{keys}, region: "eu-west-1", ahead: 6 * time.Minute},
			want: "; the clock here is wrong: set it\n",
		},
		{
			api:  eventAPIOptions{credentials: []credentials{keys}, region: "us-east-1"},
			want: "; the region is not the API's: set LIVE_LAMBDA_APPSYNC_REGION\n",
		},
		{
			api:  eventAPIOptions{credentials: []credentials{keys}, region: "eu-west-1", denied: true},
			want: "; grant appsync:EventConnect on arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID, and ",
		},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		api := startEventAPI(ln, tt.api)
		t.Cleanup(api.close)
		c := r.command(
			"", "local", "--host", "http://"+ln.Addr().String(), "--region", "eu-west-1", "--", "cat")
		c.stdout.wait(r, tt.want)
		c.cmd.Process.Signal(os.Interrupt)
		c.exit(0)
	}
}

// It runs many times because a choice among several ready channels would be drawn.
func TestHangupWithNothingAtHandIsNoFailure(t *testing.T) {
	for range 50 {
		inShutDown(t, func(r *localRig, s *subscriber) {
			status := r.local.shutDown(s, make(chan os.Signal), true)
			if status != 0 || strings.Contains(r.out.String(), "ending everything") {
				t.Errorf("the exit status is %d; it printed %q", status, r.out)
			}
		})
	}
}

func TestHangupEndsWhatIsAtHand(t *testing.T) {
	inShutDown(t, func(r *localRig, s *subscriber) {
		err := r.local.admit(newRequest(nil, r.context()))
		if err != nil {
			t.Fatal(err)
		}
		status := r.local.shutDown(s, make(chan os.Signal), true)
		if status != 1 {
			t.Errorf("the exit status is %d", status)
		}
	})
}

// That nobody reads what is printed is no interrupt.
func TestInterruptWaitsForWhatIsAtHand(t *testing.T) {
	inShutDown(t, func(r *localRig, s *subscriber) {
		q := newRequest(nil, r.context())
		err := r.local.admit(q)
		if err != nil {
			t.Fatal(err)
		}
		signals := make(chan os.Signal)
		ended := make(chan int)
		go func() { ended <- r.local.shutDown(s, signals, false) }()
		time.Sleep(2 * oneInterrupt) // of the bubble's time
		signals <- syscall.SIGPIPE
		r.local.release(q)
		status := <-ended
		if status != 0 {
			t.Errorf("the exit status is %d", status)
		}
	})
}

// stuck is a terminal that takes nothing until it is closed.
type stuck chan struct{}

func (s stuck) Write([]byte) (int, error) {
	<-s
	return 0, os.ErrClosed
}

// What a handler has printed waits for it, and so does the handler's end.
func TestInterruptEndsWhatWaitsForATerminalThatStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := make(stuck)
		term, _ := newScreenTerminal(0)
		term.out = out
		term.start()
		l := newLocal(localOptions{}, term)
		l.wg.Go(func() {
			o := term.output("orders", false)
			for range 10 * maxPrinted {
				io.WriteString(o, "a line\n")
			}
			o.Close()
		})
		signals := make(chan os.Signal)
		closed := make(chan struct{})
		go func() {
			l.closeBefore(signals)
			term.close()
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("nobody has interrupted it, and nothing is written")
		default:
			signals <- os.Interrupt
		}
		<-closed
		close(out)
	})
}

// The terminal is a pipe that nobody reads any more. It is interrupted again and again, because it cannot say
// that it has heard.
func TestInterruptsEndEverythingIfNobodyReads(t *testing.T) {
	t.Parallel()
	r := newRemoteRig(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	g := r.newGate("prints")
	cmd := exec.
		Command(os.Args[0], "local", "--host", "http://"+r.client().http.Host, "--region", "eu-west-1",
			"--", "sh", "-c", `: >"$0"; exec yes`, g.file)
	cmd.Env = append(os.Environ(), "TEST_MAIN=1", "AWS_ACCESS_KEY_ID=AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY=secret", "AWS_SESSION_TOKEN=")
	cmd.Stdout = writer
	cmd.Stderr = writer
	err = cmd.Start()
	writer.Close()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	_, err = r.api.subscribers(r.ctx, "/live-lambda/requests", 2) // it and the rig's own
	if err != nil {
		t.Fatal(err)
	}
	call := r.send(task{}, r.context())
	io.Copy(io.Discard, openRead(t, g)) // until the handler begins to print
	for range 300 {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
			call.finish()
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
	cmd.Process.Kill()
	<-ended
	t.Error("it hangs")
}

// The line of the connection ends with it.
func TestLocalSaysWhatToSendForARequestToComeHere(t *testing.T) {
	for _, tt := range []struct {
		api  endpoint
		want string
	}{
		{api: endpoint{stage: "alice"}},
		{api: endpoint{stage: "alice", route: "X-Dev"}, want: `; send the header "X-Dev: alice"`},
		{
			api: endpoint{route: "x-dev"},
			want: `; with LIVE_LAMBDA_ROUTE=x-dev nothing comes there: give --stage NAME, and send the ` +
				`header "x-dev: NAME"`,
		},
	} {
		if got := routeText(tt.api); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.api, got, tt.want)
		}
	}
}
