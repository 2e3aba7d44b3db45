//go:build !layer

package main

// proxy_stream_test.go tests streamed answers, and streams that end early.

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// streamed is a part of a streamed answer.
func streamed(d *delivery, index int, last bool, data string, trailers map[string]string) []byte {
	p := part{
		Type:      "response",
		RequestID: d.requestID(),
		Sender:    d.local.name,
		Index:     index,
		Last:      last,
		Trailers:  trailers,
	}
	if index == 0 {
		p.Headers = map[string]string{"Content-Type": "text/event-stream", modeHeader: "streaming"}
	}
	return p.encode([]byte(data))
}

// streamTest is an answer in parts, and what the caller gets of it.
type streamTest struct {
	name    string
	timeout time.Duration // of the function, if not a minute
	script  func(*delivery)
	want    string // the stream's pieces, with the seconds that they came after
	fails   string // with this error, in trailers
	told    string // to the local end
}

// run has the answer come in a rig of its own.
func (test streamTest) run(t *testing.T) {
	t.Helper()
	rigTest(t, test.name, rigOptions{local: &localEnd{script: test.script}}, func(r *rig) {
		w := &pieces{start: time.Now()}
		o := r.invokeRequest(invokeRequest{
			payload: []byte(`1`),
			timeout: cmp.Or(test.timeout, time.Minute),
			onResponse: func(h http.Header) io.Writer {
				w.header = h.Clone()
				return w
			},
		})
		got := strings.Join(w.got, " ")
		if got != test.want {
			r.t.Errorf("the caller got %q, want %q", got, test.want)
		}
		r.wantTrailer(o, test.fails)
		if w.header.Get("Content-Type") != "text/event-stream" ||
			w.header.Get(modeHeader) != "streaming" ||
			w.header.Get("Content-Length") != "" ||
			w.header.Get("X-Evil") != "" {
			r.t.Errorf("headers %v", w.header)
		}
		r.local.wantTold(test.told)
		r.local.script = nil
		r.want(r.invoke(`2`), "local")
	})
}

func TestStreamReachesTheCallerAsItComes(t *testing.T) {
	t.Parallel()
	for _, test := range []streamTest{
		{
			name: "as it comes",
			script: func(d *delivery) {
				d.publish(streamed(d, 0, false, "a", nil))
				time.Sleep(time.Second)
				d.publish(streamed(d, 1, false, "b", nil), streamed(d, 2, false, "", nil))
				time.Sleep(time.Second)
				d.publish(streamed(d, 3, true, "c", nil))
			},
			want: "0s:a 1s:b 2s:c",
			told: "answered",
		},
		{
			name: "at once",
			script: func(d *delivery) {
				d.publish(streamed(d, 0, true, "abc", nil))
			},
			want: "0s:abc",
			told: "answered",
		},
		{
			name: "empty",
			script: func(d *delivery) {
				d.publish(streamed(d, 0, true, "", nil))
			},
			told: "answered",
		},
		{
			name: "out of order and twice",
			script: func(d *delivery) {
				d.publish(streamed(d, 0, false, "a", nil), streamed(d, 2, false, "c", nil),
					streamed(d, 2, false, "c", nil))
				time.Sleep(time.Second)
				d.publish(streamed(d, 0, false, "a", nil), streamed(d, 1, false, "b", nil),
					streamed(d, 3, true, "d", nil), streamed(d, 3, true, "d", nil))
			},
			want: "0s:a 1s:b 1s:c 1s:d",
			told: "answered",
		},
	} {
		test.run(t)
	}
}

// What a handler says in trailers reaches the caller, but for what can be no header.
func TestStreamThatTheHandlerBreaksEndsWithItsError(t *testing.T) {
	t.Parallel()
	trailers := map[string]string{
		typeHeader:       "Runtime.Oops",
		bodyHeader:       "eyJlcnJvclR5cGUiOiJ4In0=",
		"X-Evil":         "1",
		"Content-Length": "7",
	}
	noHeaders := map[string]string{typeHeader: "Runtime.Oops\r\nX-Evil: 1", bodyHeader: "\x00"}
	for _, test := range []streamTest{
		{
			name: "broken by the handler",
			script: func(d *delivery) {
				d.publish(streamed(d, 0, false, "a", nil), streamed(d, 1, true, "", trailers))
			},
			want:  "0s:a",
			fails: "Runtime.Oops",
			told:  "answered",
		},
		{
			name: "broken with what is no header",
			script: func(d *delivery) {
				d.publish(streamed(d, 0, true, "a", noHeaders))
			},
			want: "0s:a",
			told: "answered",
		},
	} {
		test.run(t)
	}
}

func TestStreamThatDoesNotEndFails(t *testing.T) {
	t.Parallel()
	for _, test := range []streamTest{
		{
			name: "not ended, and silence",
			script: func(d *delivery) {
				d.publish(streamed(d, 0, false, "a", nil))
			},
			want:  "0s:a",
			fails: "LiveLambda.Gone",
			told:  "timeout",
		},
		{
			name: "not ended, and silence after a sign of life",
			script: func(d *delivery) {
				d.publish(streamed(d, 0, false, "a", nil))
				time.Sleep(10 * time.Second)
				d.say(localReply{part: part{Type: "accepted"}})
			},
			want:  "0s:a",
			fails: "LiveLambda.Gone",
			told:  "timeout",
		},
		{
			name: "a part that never comes",
			script: func(d *delivery) {
				d.publish(streamed(d, 0, false, "a", nil), streamed(d, 2, true, "c", nil))
			},
			want:  "0s:a",
			fails: "LiveLambda.Gone",
			told:  "timeout",
		},
		{
			name:    "not ended by the deadline",
			timeout: 5 * time.Second,
			script: func(d *delivery) {
				d.publish(streamed(d, 0, false, "a", nil))
			},
			want:  "0s:a",
			fails: "LiveLambda.NoAnswer",
			told:  "timeout",
		},
	} {
		test.run(t)
	}
}

// wantTrailer checks that an answer has ended with an error of a type in its trailers, or without one.
func (r *rig) wantTrailer(o invoked, errorType string) {
	r.t.Helper()
	told := r.lambda.completions(o.requestID)
	if len(told) != 1 || told[0].status != http.StatusAccepted {
		r.t.Fatalf("the Runtime API was told %d times: %v", len(told), told)
	}
	if o.trailer.Get(typeHeader) != errorType {
		r.t.Errorf("trailers %v, want an error of type %q", o.trailer, errorType)
	}
	for name := range o.trailer {
		if name != typeHeader && name != bodyHeader {
			r.t.Errorf("trailers %v", o.trailer)
		}
	}
	var e struct{ ErrorType, ErrorMessage string }
	body, err := base64.StdEncoding.DecodeString(o.trailer.Get(bodyHeader))
	if err != nil || errorType != "" && json.Unmarshal(body, &e) != nil {
		r.t.Errorf("the error's body is %q, %v", body, err)
	}
	if strings.HasPrefix(errorType, "LiveLambda.") && (e.ErrorType != errorType || e.ErrorMessage == "") {
		r.t.Errorf("the error's body is %q", body)
	}
}

// pieces notes what is written to it, and when.
type pieces struct {
	start  time.Time
	header http.Header
	got    []string
}

func (w *pieces) Write(p []byte) (int, error) {
	w.got = append(w.got, fmt.Sprintf("%v:%s", time.Since(w.start).Round(10*time.Millisecond), p))
	return len(p), nil
}

// The link ends in the middle of a stream: at each part of it, before or after.
func TestStreamOutlivesTheEndOfALink(t *testing.T) {
	t.Parallel()
	steps := []string{
		"extension data response 0",
		"extension data response 1",
		"extension data response 2",
		"local publish response 0",
		"local publish response 1",
		"local publish response 2",
	}
	for _, ending := range []apiEnding{closePolitely, resetConnection, goHalfOpen} {
		for _, step := range steps {
			for _, before := range []bool{true, false} {
				name := fmt.Sprint(ending, before, step)
				rigTest(t, name, rigOptions{}, func(r *rig) { endInAStream(r, step, ending, before) })
			}
		}
	}
}

// endInAStream ends a link at a step of a stream, and checks that the caller gets all of it.
func endInAStream(r *rig, step string, ending apiEnding, before bool) {
	r.want(r.invoke(`0`), "local")
	r.local.script = streamsSlowly
	r.endAt(step, ending, before)
	w := &pieces{start: time.Now()}
	o := r.invokeRequest(invokeRequest{
		payload:    []byte(`1`),
		onResponse: func(http.Header) io.Writer { return w },
	})
	var all strings.Builder
	for _, p := range w.got {
		_, piece, _ := strings.Cut(p, ":")
		all.WriteString(piece)
	}
	if all.String() != "abc" {
		r.t.Errorf("the caller got %q, want abc", w.got)
	}
	r.wantTrailer(o, "")
	r.local.script = nil
	r.want(r.invoke(`2`), "local")
}

// streamsSlowly streams three parts, a second apart, and repeats those it has until done.
func streamsSlowly(d *delivery) {
	d.say(localReply{part: part{Type: "accepted"}})
	for n := range 60 {
		for i := range min(n+1, 3) {
			d.publish(streamed(d, i, i == 2, "abc"[i:i+1], nil))
		}
		select {
		case <-time.After(time.Second):
		case <-d.over:
			return
		case <-d.ctx.Done():
			return
		}
	}
}

// The Runtime API ends, or refuses, a stream in the middle of it: the extension gives it up, and asks for the
// next event before the deadline is over.
func TestStreamThatTheRuntimeAPIEndsIsGivenUp(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		end  func(w http.ResponseWriter, r *http.Request)
	}{
		{name: "closed", end: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{name: "413", end: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(413) }},
		{name: "500", end: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }},
		{
			name: "no answer",
			end: func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			},
		},
	}
	long := &localEnd{script: func(d *delivery) {
		d.publish(streamed(d, 0, false, "a", nil))
		for i := 1; i < 120; i++ {
			time.Sleep(time.Second)
			d.publish(streamed(d, i, false, "b", nil))
		}
	}}
	for _, test := range tests {
		api := &streamEndAPI{end: test.end}
		opts := rigOptions{runtimeAPI: api, noRuntime: true, local: long}
		rigTest(t, test.name, opts, func(r *rig) {
			api.calls = 0
			api.deadline = time.Now().Add(time.Minute)
			api.again = make(chan struct{})
			r.runtime = r.startRuntime()
			<-api.again // the extension asks for the next event
			got := len(r.runtime.got())
			if got != 0 {
				r.t.Errorf("the deployed code got %d events", got)
			}
			if !strings.Contains(r.log.String(), "did not take the answer") {
				r.t.Errorf("nothing of it in the log: %s", r.log)
			}
			late := time.Since(api.deadline)
			if late > 0 {
				r.t.Errorf("the next event was asked for %v after the deadline", late)
			}
		})
	}
}

// streamEndAPI is a Runtime API with one event, which ends the answer to it after a byte.
type streamEndAPI struct {
	end      func(http.ResponseWriter, *http.Request)
	deadline time.Time
	calls    int
	again    chan struct{}
}

func (a *streamEndAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		io.ReadFull(r.Body, make([]byte, 1))
		a.end(w, r)
		return
	}
	a.calls++
	if a.calls == 1 {
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", "id-1")
		w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(a.deadline.UnixMilli()))
		io.WriteString(w, `{}`)
		return
	}
	close(a.again)
	<-r.Context().Done()
}
