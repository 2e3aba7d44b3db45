//go:build !layer

package main

// protocol_test.go reads docs/PROTOCOL.md with the parsers of the code.

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// protocolPage is docs/PROTOCOL.md.
func protocolPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// protocolExamples is what stands in the page's blocks of JSON.
func protocolExamples(t *testing.T) (examples []string) {
	t.Helper()
	for _, block := range regexp.MustCompile("(?ms)^```json\n(.*?)^```$").FindAllStringSubmatch(
		protocolPage(t), -1) {
		if !json.Valid([]byte(block[1])) {
			t.Errorf("not JSON: %s", block[1])
		}
		examples = append(examples, block[1])
	}
	return examples
}

// pageExamples is what the page's examples are together.
type pageExamples struct {
	kinds    map[string]int     // how many there are: a message's type, a publish's dialect
	messages map[string]*joiner // by type and request ID
	requests map[string]string  // in one event, by request ID
}

// readExamples reads the page's examples. Each must be what the program itself reads and, but for line breaks
// between tokens, what it writes.
func readExamples(t *testing.T) *pageExamples {
	t.Helper()
	e := &pageExamples{
		kinds:    map[string]int{},
		messages: map[string]*joiner{},
		requests: map[string]string{},
	}
	for _, text := range protocolExamples(t) {
		var publish struct {
			Channel   string
			Events    []string
			Query     string
			Variables struct{ Name, Data string }
		}
		if err := json.Unmarshal([]byte(text), &publish); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		switch {
		case publish.Query != "":
			e.addMutation(t, text, publish.Variables.Name, publish.Variables.Data)
		case publish.Events != nil:
			for _, event := range publish.Events {
				e.addPublish(t, publish.Channel, event)
			}
		default:
			e.addMessage(t, text)
		}
	}
	return e
}

// addMessage checks a message.
func (e *pageExamples) addMessage(t *testing.T, text string) *part {
	t.Helper()
	event := string(asciiJSON([]byte(text)))
	p, err := parsePart(event)
	if p == nil || err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if !validRequestID.MatchString(p.RequestID) {
		t.Errorf("%s: the request ID is no part of a channel", text)
	}
	if p.Type == "" {
		e.kinds["a request in one event"]++
		e.requests[p.RequestID] = event
		checkProtocolRequest(t, event)
		return p
	}
	e.kinds[p.Type]++
	if p.Type == "sealed" {
		checkSealed(t, p)
		return p
	}
	written := p.encode(p.data)
	if p.Type == "hello" || p.Type == "bye" {
		written = encodePresence(t, event)
	}
	if string(written) != event {
		t.Errorf("the page has\n%s\nthe program writes\n%s", event, written)
	}
	key := p.Type + " " + p.RequestID
	if e.messages[key] == nil {
		e.messages[key] = newJoiner(maxPayload)
	}
	if err := e.messages[key].add(p); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	return p
}

// checkSealed checks the test vector with the standard library alone, and as an end with that key opens it.
func checkSealed(t *testing.T, p *part) {
	t.Helper()
	block, err := aes.NewCipher(keyOf(testKey))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab}
	page := protocolPage(t)
	_, plaintext, _ := strings.Cut(page, "a line feed, and `{\"ok\":true}`:\n\n```\n")
	line, _, _ := strings.Cut(plaintext, "\n")
	want := aead.Seal(nonce, nonce, []byte(line+"\n"+`{"ok":true}`), []byte("live-lambda 1 "+p.RequestID))
	digest := sha256.Sum256(keyOf(testKey))
	if !bytes.Equal(p.data, want) || p.Key != hex.EncodeToString(digest[:4]) {
		t.Errorf("the page has %x with the key %s, want %x", p.data, p.Key, want)
	}
	const nonceInWords = "a0 a1 a2 a3 a4 a5 a6 a7 a8\na9 aa ab"
	if !strings.Contains(page, "`"+testKey+"`") || !strings.Contains(page, nonceInWords) {
		t.Error("the page does not have the key or the nonce")
	}
	opened, err := sealersOf(testKey)[0].parse(p.text)
	if err != nil || string(opened.data) != `{"ok":true}` {
		t.Errorf("opened as %+v, %v", opened, err)
	}
	opened.sealer = nil
	if got := string(opened.encode(nil)); got != line {
		t.Errorf("inside is %s, want %s", got, line)
	}
}

// encodePresence reads and writes a hello or a bye as a local end does.
func encodePresence(t *testing.T, event string) []byte {
	t.Helper()
	var m presenceMessage
	decoder := json.NewDecoder(strings.NewReader(event))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&m)
	if err != nil {
		t.Errorf("%s: %v", event, err)
	}
	return slices.Collect(newKeyring(nil, nil).encode(m))[0]
}

// addPublish checks an event of a publish to an Event API.
func (e *pageExamples) addPublish(t *testing.T, channel, event string) {
	t.Helper()
	e.kinds["a publish"]++
	p := e.addMessage(t, event)
	if channel != "/live-lambda/response/"+p.RequestID {
		t.Errorf("%s is not the channel of %s", channel, p.RequestID)
	}
}

// addMutation checks a publish to a GraphQL API, whose channel is the link's.
func (e *pageExamples) addMutation(t *testing.T, text, channel, event string) {
	t.Helper()
	e.kinds["a mutation"]++
	p := e.addMessage(t, event)
	m := graphqlOperation("mutation", []byte(text))
	if m.refused != nil || m.Channel != channel || !m.selected.has("name") || !m.selected.has("data") {
		t.Errorf("%s: %v", text, m.refused)
	}
	link, _, _ := strings.Cut(p.RequestID, "/")
	if channel != "/live-lambda/response/"+link {
		t.Errorf("%s is not the channel of %s", channel, p.RequestID)
	}
}

func TestProtocolExamplesAreOfEveryKindAndWhatTheProgramWrites(t *testing.T) {
	e := readExamples(t)
	for _, kind := range []string{
		"a publish", "a mutation", "a request in one event",
		"request", "accepted", "response", "error", "done", "probe", "hello", "bye",
		"sealed",
	} {
		if e.kinds[kind] == 0 {
			t.Errorf("there is no example of %s", kind)
		}
	}
}

func TestProtocolExamplesInPartsAreWholeMessages(t *testing.T) {
	e := readExamples(t)
	for key, j := range e.messages {
		kind, id, _ := strings.Cut(key, " ")
		if !j.complete() {
			t.Errorf("%s is not complete", key)
			continue
		}
		body, err := j.message(maxPayload)
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		if kind == "request" && string(body) != e.requests[id] {
			t.Errorf("the request in parts is %s, in one event %s", body, e.requests[id])
		}
		if kind == "error" && !json.Valid(body) {
			t.Errorf("an error is %s", body)
		}
	}
}

// checkProtocolRequest checks a request as a local end does, and that it has no field that one would not
// know.
func checkProtocolRequest(t *testing.T, event string) {
	t.Helper()
	m, err := parseRequest([]byte(event))
	if err != nil {
		t.Fatalf("%s: %v", event, err)
	}
	if _, err := newRequestFrom(m.Event, m.Context); err != nil {
		t.Errorf("%s: %v", event, err)
	}
	decoder := json.NewDecoder(strings.NewReader(event))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(new(extensionRequest)); err != nil {
		t.Errorf("%s: %v", event, err)
	}
}

// The data that the page shows decoded is what the examples have.
func TestProtocolSaysInWordsWhatTheExamplesDataIs(t *testing.T) {
	page := protocolPage(t)
	shown := 0
	for _, text := range protocolExamples(t) {
		p, _ := parsePart(text)
		if p == nil || len(p.data) == 0 || p.Encoding != "" || p.Type == "sealed" {
			continue
		}
		shown++
		if !strings.Contains(page, "`"+string(p.data)+"`") {
			t.Errorf("the page does not say that data is %s", p.data)
		}
	}
	if shown == 0 {
		t.Error("no example has data")
	}
}

// The tables have every field of a message and of a request's context.
func TestProtocolHasEveryFieldOfAMessage(t *testing.T) {
	page := protocolPage(t)
	for _, message := range []any{part{}, eventContext{}, extensionRequest{}, presenceMessage{}} {
		typ := reflect.TypeOf(message)
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if name != "" && !strings.Contains(page, "`"+name+"`") {
				t.Errorf("the page does not have the field %s of %s", name, typ)
			}
		}
	}
}

// The page's numbers are the program's.
func TestProtocolHasTheProgramsNumbers(t *testing.T) {
	page := protocolPage(t)
	for what, n := range map[string]int{
		"data of a part": partData, "a waiting part": partOverhead, "the last index": maxParts - 1,
		"an event": maxEvent, "a publish": maxPublish, "a message of AppSync's": maxMessage,
		"a response": maxPayload, "parts of a response": maxPayload + maxEvent,
		"a stream": maxStream, "parts of a stream": streamWindow,
		"an answer that is compressed": gzipAbove, "a header": maxHeaderText,
		"a request beside its event": maxContext, "requests in parts": maxOpenBytes,
		"parts that are repeated": repairBytes, "a second of a request's way": slowestUplink,
		"a hello": maxHello,
	} {
		digits := fmt.Sprint(n)
		for i := len(digits) - 3; i > 0; i -= 3 {
			digits = digits[:i] + "," + digits[i:]
		}
		if !regexp.MustCompile(`\b` + digits + `\b`).MatchString(page) {
			t.Errorf("the page does not say that %s has %s", what, digits)
		}
	}
}
