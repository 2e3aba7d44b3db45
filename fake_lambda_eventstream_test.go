//go:build !layer

package main

// fake_lambda_eventstream_test.go tests InvokeWithResponseStream of the emulated Lambda API. It decodes the
// messages by itself.

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// eventStreamEvent is one message: what its headers say, and its payload.
type eventStreamEvent struct {
	eventType   string
	contentType string
	payload     string
}

// readEventStream reads one message, and checks both checksums.
func readEventStream(r io.Reader) (event eventStreamEvent, err error) {
	prelude := make([]byte, 12)
	_, err = io.ReadFull(r, prelude)
	if err != nil {
		return event, err
	}
	rest := make([]byte, binary.BigEndian.Uint32(prelude)-12)
	_, err = io.ReadFull(r, rest)
	if err != nil {
		return event, err
	}
	end := len(rest) - 4
	whole := slices.Concat(prelude, rest[:end])
	if crc32.ChecksumIEEE(prelude[:8]) != binary.BigEndian.Uint32(prelude[8:]) ||
		crc32.ChecksumIEEE(whole) != binary.BigEndian.Uint32(rest[end:]) {
		return event, fmt.Errorf("a checksum of %q is wrong", whole)
	}
	split := binary.BigEndian.Uint32(prelude[4:])
	headers := map[string]string{}
	for h := rest[:split]; len(h) > 0; {
		name := string(h[1 : 1+h[0]])
		h = h[1+h[0]:]
		if h[0] != 7 {
			return event, fmt.Errorf("%s is no string", name)
		}
		length := 3 + binary.BigEndian.Uint16(h[1:])
		headers[name] = string(h[3:length])
		h = h[length:]
	}
	if len(headers) != 3 || headers[":message-type"] != "event" {
		return event, fmt.Errorf("headers %q", headers)
	}
	return eventStreamEvent{
		eventType:   headers[":event-type"],
		contentType: headers[":content-type"],
		payload:     string(rest[split:end]),
	}, nil
}

// readEventStreams reads messages to the end.
func readEventStreams(t *testing.T, r io.Reader) (events []eventStreamEvent) {
	t.Helper()
	for {
		event, err := readEventStream(r)
		if err == io.EOF {
			return events
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, event)
	}
}

// The bytes were made by a few lines of Python, and botocore's decoder took them.
func TestEventStreamMessageHasLengthsHeadersAndChecksums(t *testing.T) {
	want := "00000066000000541f56c869" +
		"0b3a6576656e742d7479706507000e496e766f6b65436f6d706c657465" +
		"0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e" +
		"0d3a6d6573736167652d747970650700056576656e74" +
		"7b7d" +
		"7006d467"
	got := hex.EncodeToString(eventStreamMessage("InvokeComplete", "application/json", []byte("{}")))
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

const ordersStream = "/2021-11-15/functions/orders/response-streaming-invocations"

func TestInvokeAPIStreamsAnswersAsTheyCome(t *testing.T) {
	p := playLambda(t, lambdaOptions{functionName: "orders", version: "7"})
	url := p.serveInvokes()
	body, send := io.Pipe()
	p.tasks.Go(func() { p.stream(p.next().id(), nil, body) })
	p.tasks.Go(func() { _, _ = io.WriteString(send, "one\n") })
	response, err := http.Post(url+ordersStream, "", strings.NewReader("1"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	h := response.Header
	if response.StatusCode != 200 || h.Get("Content-Type") != "application/vnd.amazon.eventstream" ||
		h.Get("X-Amz-Executed-Version") != "7" || h.Get("X-Amzn-Requestid") == "" {
		t.Errorf("%s, header %v", response.Status, h)
	}
	first, err := readEventStream(response.Body)
	if err != nil || first.eventType != "PayloadChunk" ||
		first.contentType != "application/octet-stream" || first.payload != "one\n" {
		t.Errorf("first %+v, %v", first, err)
	}
	_, _ = io.WriteString(send, "two\n") // only now
	send.Close()
	rest := readEventStreams(t, response.Body)
	want := []eventStreamEvent{
		{eventType: "PayloadChunk", contentType: "application/octet-stream", payload: "two\n"},
		{eventType: "InvokeComplete", contentType: "application/json", payload: "{}"},
	}
	if !slices.Equal(rest, want) {
		t.Errorf("rest %+v, want %+v", rest, want)
	}
}

func TestInvokeAPISaysBehindAStreamWhatHasFailed(t *testing.T) {
	for name, row := range map[string]struct {
		answer func(p *lambdaPlayer, id string)
		chunks string // before
		want   string
	}{
		"in the middle": {
			answer: func(p *lambdaPlayer, id string) {
				p.stream(id, http.Header{
					lambdaErrorTypeHeader: {"Function.Broke"},
					lambdaErrorBodyHeader: {
						base64.StdEncoding.EncodeToString([]byte(`{"errorType":"Broke"}`))},
				}, strings.NewReader("one"))
			},
			chunks: "one", want: `{"ErrorCode":"Unhandled","ErrorDetails":"{\"errorType\":\"Broke\"}"}`,
		},
		"before the first byte": {
			answer: func(p *lambdaPlayer, id string) {
				p.post("/2018-06-01/runtime/invocation/"+id+"/error", `{"errorType":"Broke"}`)
			},
			want: `{"ErrorCode":"Unhandled","ErrorDetails":"{\"errorType\":\"Broke\"}"}`,
		},
		"not at all, and not streamed": {
			answer: func(p *lambdaPlayer, id string) { p.respond(id, "one") },
			chunks: "one", want: `{}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := playLambda(t, lambdaOptions{functionName: "orders"})
			url := p.serveInvokes()
			p.tasks.Go(func() { row.answer(p, p.next().id()) })
			got := p.call("POST", url+ordersStream, strings.NewReader(`1`))
			events := readEventStreams(t, strings.NewReader(got.body))
			last := len(events) - 1
			var chunks bytes.Buffer
			for _, event := range events[:last] {
				chunks.WriteString(event.payload)
			}
			if got.status != 200 || chunks.String() != row.chunks || events[last].payload != row.want ||
				events[last].eventType != "InvokeComplete" {
				t.Errorf("got %d %+v", got.status, events)
			}
		})
	}
}
