//go:build !layer

package main

// message_test.go tests message.go: ASCII JSON, and messages in parts.

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestPartWithABadFieldIsAnErrorThatNamesIt(t *testing.T) {
	for event, want := range map[string]string{
		`{"live_lambda":1,"type":7}`:                  "its field type is of another type",
		`{"live_lambda":1,"request_id":{}}`:           "its field request_id is of another type",
		`{"live_lambda":1,"index":"0"}`:               "its field index is of another type",
		`{"live_lambda":1,"index":1048576}`:           "its field index is out of range",
		`{"live_lambda":1,"headers":{"a":"b","c":4}}`: "its field headers is of another type",
		`{"live_lambda":1,"encoding":"br"}`:           "its field encoding is not gzip",
		`{"live_lambda":1,"data":"YQ=="}`:             "its field data is not unpadded base64url",
	} {
		if p, err := parsePart(event); p == nil || err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %q", event, err, want)
		}
	}
}

// It is said in the words of neither part: they are from outside.
func TestJoinerSaysHowAPartContradictsTheOthers(t *testing.T) {
	tests := []struct {
		had, then part
		want      string
	}{
		{
			had:  part{Type: "response"},
			then: part{Type: "error", Index: 1},
			want: "its type is another",
		},
		{
			had:  part{},
			then: part{Encoding: "gzip", Index: 1},
			want: "its encoding is another",
		},
		{
			had:  part{Index: 1, Last: true},
			then: part{Index: 2},
			want: "it comes after the last one",
		},
		{
			had:  part{Index: 2, Last: true},
			then: part{Index: 1, Last: true},
			want: "it is the last one, and one that comes after it is there",
		},
		{
			had:  part{Index: 2},
			then: part{Index: 1, Last: true},
			want: "it is the last one, and one that comes after it is there",
		},
	}
	for _, test := range tests {
		j := newJoiner(1000)
		if err := j.add(&test.had); err != nil {
			t.Fatal(err)
		}
		err := j.add(&test.then)
		if want := "it contradicts the other parts: " + test.want; err == nil || err.Error() != want {
			t.Errorf("%+v, then %+v: got %v, want %q", test.had, test.then, err, want)
		}
	}
}

// Nobody may take its rest any more. Whoever begins anew gets all of it.
func TestCompressedMessageMayBeLeftBeforeItsEnd(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 4*partData)
	rand.NewChaCha8([32]byte{5}).Read(noise)
	events := part{Type: "request", RequestID: "l/1"}.compressed(noise[:100], noise[100:])
	for taken := range 4 {
		var indexes []int
		for event := range events {
			indexes = append(indexes, checkPart(t, event).Index)
			if len(indexes) > taken {
				break
			}
		}
		for i, index := range indexes {
			if index != i {
				t.Errorf("parts %v", indexes)
			}
		}
	}
	j := newJoiner(5 * partData)
	for event := range events {
		if err := j.add(checkPart(t, event)); err != nil {
			t.Fatal(err)
		}
	}
	if body, err := j.message(4 * partData); err != nil || !bytes.Equal(body, noise) {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

// encoding/json takes what is not UTF-8 in a string. An event of that kind does not get here.
func TestASCIIJSONHasAMarkForEachByteThatIsNoCharacter(t *testing.T) {
	got := string(asciiJSON([]byte("\"a\xff\xed\xa0\x80b\"")))
	if got != `"a\ufffd\ufffd\ufffd\ufffdb"` {
		t.Error(got)
	}
}

func TestASCIIJSONHasTheSameTokensInPlainCharacters(t *testing.T) {
	tests := []struct{ in, want string }{
		{in: `{}`, want: `{}`}, {in: `[]`, want: `[]`}, {in: `""`, want: `""`}, {in: `null`, want: `null`},
		{in: `[{},[],{"":{}}]`, want: `[{},[],{"":{}}]`},
		{in: " \t\r\n{ \"a\" :\n[ 1 ,\t2 ] } ", want: `{"a":[1,2]}`},
		{in: `"a b  c"`, want: `"a b  c"`},
		{in: `{"z":1,"a":2,"z":3}`, want: `{"z":1,"a":2,"z":3}`},
		{in: `[12345678901234567890123,1.10,-0.0,1e400,1E+2,0.1000]`,
			want: `[12345678901234567890123,1.10,-0.0,1e400,1E+2,0.1000]`},
		{in: `"\u00fc\u00FC\/\"\\\b\f\n\r\t"`, want: `"\u00fc\u00FC\/\"\\\b\f\n\r\t"`},
		{in: `"\\u003c\\"`, want: `"\\u003c\\"`},
		{in: `"ü€"`, want: `"\u00fc\u20ac"`},
		{in: `{"ä":"ö"}`, want: `{"\u00e4":"\u00f6"}`},
		{in: `"😀"`, want: `"\ud83d\ude00"`}, {in: `"😀"`, want: `"\ud83d\ude00"`},
		{in: "\"\U0010ffff\U00010000\"", want: `"\udbff\udfff\ud800\udc00"`},
		{in: `"\ud83d"`, want: `"\ud83d"`}, {in: `"\ude00\ud83d x"`, want: `"\ude00\ud83d x"`},
		{in: "\"\ufffd\uffff\"", want: `"\ufffd\uffff"`},
		{in: `"<script>a&b='c'</script>"`,
			want: `"\u003cscript\u003ea\u0026b\u003d\u0027c\u0027\u003c/script\u003e"`},
		{in: "\"\u2028\u2029\x7f\u0080\ufeff\"", want: `"\u2028\u2029\u007f\u0080\ufeff"`},
		{in: `"!#$%()*+,-./:;?@[]^_` + "`" + `{|}~"`, want: `"!#$%()*+,-./:;?@[]^_` + "`" + `{|}~"`},
	}
	for _, test := range tests {
		got := string(asciiJSON([]byte(test.in)))
		if got != test.want {
			t.Errorf("%s: got %s, want %s", test.in, got, test.want)
		}
		checkASCIIJSON(t, []byte(test.in))
	}
}

// checkASCIIJSON checks what asciiJSON makes of valid JSON: the same tokens, in plain characters alone.
func checkASCIIJSON(t *testing.T, in []byte) {
	t.Helper()
	out := asciiJSON(in)
	checkPlain(t, out)
	if got, want := jsonTokens(t, out), jsonTokens(t, in); !slices.Equal(got, want) {
		t.Errorf("%q became %q: tokens %q, want %q", in, out, got, want)
	}
	if again := asciiJSON(out); !bytes.Equal(again, out) {
		t.Errorf("%q, the second time %q", out, again)
	}
}

// checkPlain checks that an event has no characters that serialisers write differently.
func checkPlain(t *testing.T, event []byte) {
	t.Helper()
	for b := range 256 {
		if b < ' ' || b > '~' || strings.IndexByte("<>&='", byte(b)) >= 0 {
			if i := bytes.IndexByte(event, byte(b)); i >= 0 {
				t.Fatalf("byte %d of an event is %#x", i, b)
			}
		}
	}
	if len(event) > maxEvent/2 { // the rest takes long, and is the same for small ones
		return
	}
	if !json.Valid(event) {
		t.Fatalf("an event of %d bytes is not JSON", len(event))
	}
	quoted, err := json.Marshal(string(event))
	if err != nil || len(quoted) != escapedLen(event) {
		t.Fatalf("%v; %d bytes escaped, counted %d", err, len(quoted), escapedLen(event))
	}
}

// jsonTokens lists the tokens of a JSON text.
func jsonTokens(t *testing.T, in []byte) (tokens []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(in))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err == io.EOF {
			return tokens
		}
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		tokens = append(tokens, fmt.Sprintf("%T %v", token, token))
	}
}

// splitChecked is the parts of a response, which must be as few as they may be.
func splitChecked(t *testing.T, p part, body []byte) (parts []*part) {
	t.Helper()
	for event := range p.split(body) {
		parts = append(parts, checkPart(t, event))
	}
	if want := max(1, (len(body)+partData-1)/partData); len(parts) != want {
		t.Errorf("%d bytes: %d parts, want %d", len(body), len(parts), want)
	}
	return parts
}

func TestMessageOfAnySizeIsTheSameSplitAndJoinedInAnyOrder(t *testing.T) {
	t.Parallel()
	noise := make([]byte, maxPayload)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	text := bytes.Repeat([]byte(`{"name":"value <&> ü","n":12345678901234567890},`), maxPayload/40)
	check := func(name string, content []byte) {
		body, encoding := compress(content)
		if (encoding == "gzip") != (len(content) > gzipAbove) {
			t.Errorf("%d bytes have encoding %q", len(content), encoding)
		}
		p := part{
			Type:      "response",
			RequestID: "0123456789abcdef01234567/18446744073709551615",
			Encoding:  encoding,
			Sender:    "0123456789abcdef",
			Headers:   map[string]string{"Content-Type": "application/json"},
		}
		for order, parts := range orders(splitChecked(t, p, body)) {
			got, first := joinParts(t, parts)
			if !bytes.Equal(got, content) || first.Headers["Content-Type"] != "application/json" {
				t.Errorf("%d bytes of %s, %s: got %d others, headers %v", len(content), name, order, len(got),
					first.Headers)
			}
		}
	}
	for _, size := range []int{
		0, 1, 2, partData - 1, partData, partData + 1, 5 * partData, 5*partData + 1,
		gzipAbove - 1, gzipAbove, gzipAbove + 1, maxEvent - 1, maxEvent, maxEvent + 1,
		maxPayload,
	} {
		check("noise", noise[:size])
		if size <= maxEvent+1 || size == maxPayload {
			check("text", text[:size])
		}
	}
}

// checkPart checks the event of a part, which must be within the limits, and parses it.
func checkPart(t *testing.T, event []byte) *part {
	t.Helper()
	if escapedLen(event) > maxEvent {
		t.Fatalf("an event of %d bytes", escapedLen(event))
	}
	checkPlain(t, event)
	p, err := parsePart(string(event))
	if p == nil || err != nil {
		t.Fatalf("an event of %d bytes: %v, %v", len(event), p, err)
	}
	return p
}

// orders is the parts shuffled, with each twice, and if they are few backwards too.
func orders(parts []*part) iter.Seq2[string, []*part] {
	return func(yield func(string, []*part) bool) {
		twice := slices.Concat(parts, parts)
		r := rand.New(rand.NewPCG(1, uint64(len(parts))))
		r.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
		if !yield("shuffled, twice", twice) || len(parts) >= 10 {
			return
		}
		backwards := slices.Clone(parts)
		slices.Reverse(backwards)
		yield("backwards", backwards)
	}
}

// joinParts joins the parts of one message, as they come.
func joinParts(t *testing.T, parts []*part) ([]byte, *part) {
	t.Helper()
	j := newJoiner(maxPayload + maxEvent)
	if j.complete() {
		t.Error("complete before the first part")
	}
	seen := map[int]bool{}
	for _, p := range parts {
		if err := j.add(p); err != nil {
			t.Fatalf("part %d: %v", p.Index, err)
		}
		seen[p.Index] = true
		all := j.last >= 0 && len(seen) == j.last+1
		if j.complete() != all {
			t.Fatalf("complete is %v after %d parts of %d", j.complete(), len(seen), j.last+1)
		}
	}
	body, err := j.message(maxPayload)
	if err != nil {
		t.Fatal(err)
	}
	return body, j.first
}

func TestSplitMessageMayBeLeftBeforeItsEnd(t *testing.T) {
	for range (part{Type: "response"}).split(make([]byte, 5*partData)) {
		break
	}
}

func TestPartIsWrittenWithoutFieldsThatItDoesNotHave(t *testing.T) {
	response := part{
		Type:      "response",
		RequestID: "l/1",
		Headers:   map[string]string{"Content-Type": "a<b"},
	}
	last := part{
		Type:      "response",
		RequestID: "l/1",
		Index:     2,
		Last:      true,
		Trailers:  map[string]string{"T": "'"},
		Data:      "x", // is what encode is given instead
	}
	failed := part{
		Type:      "error",
		RequestID: "l/1",
		Encoding:  "gzip",
		ErrorType: "ü",
		XRayCause: "\x00\xff",
	}
	tests := []struct {
		event []byte
		want  string
	}{
		{
			event: part{Type: "accepted", RequestID: "l/1", Sender: "s"}.event(),
			want: `{"live_lambda":1,"type":"accepted","request_id":"l/1","index":0,"last":true,` +
				`"sender":"s"}`,
		},
		{
			event: part{Type: "done", RequestID: "l/1", Outcome: "answered"}.event(),
			want: `{"live_lambda":1,"type":"done","request_id":"l/1","index":0,"last":true,` +
				`"outcome":"answered"}`,
		},
		{
			event: response.encode([]byte{0xff, 0xef}),
			want: `{"live_lambda":1,"type":"response","request_id":"l/1","index":0,"last":false,` +
				`"headers":{"Content-Type":"a\u003cb"},"data":"_-8"}`,
		},
		{
			event: last.encode(nil),
			want: `{"live_lambda":1,"type":"response","request_id":"l/1","index":2,"last":true,` +
				`"trailers":{"T":"\u0027"}}`,
		},
		{
			event: failed.encode([]byte("a")),
			want: `{"live_lambda":1,"type":"error","request_id":"l/1","index":0,"last":false,` +
				`"encoding":"gzip","error_type":"\u00fc","xray_cause":"\u0000\ufffd","data":"YQ"}`,
		},
	}
	for _, test := range tests {
		if string(test.event) != test.want {
			t.Errorf("got %s\nwant %s", test.event, test.want)
		}
		checkPlain(t, test.event)
	}
}

// Only the exact key makes a message of version 1, whatever else a result holds.
func TestEventThatIsNotOfVersion1IsABareResult(t *testing.T) {
	for _, bare := range []string{
		"", "null", "true", "0", "1", `"x"`, `"live_lambda"`, `"\"live_lambda\":1"`, "[]",
		`[{"live_lambda":1}]`, "{}", `{"a":1}`, "{", "not JSON",
		`{"live_lambda":2}`, `{"live_lambda":"1"}`, `{"live_lambda":1.0}`, `{"live_lambda":10}`,
		`{"live_lambda":null}`, `{"live_lambda":[1]}`, `{"live_lambda":true}`,
		`{"LIVE_LAMBDA":1}`, `{"Live_Lambda":1,"type":"response"}`, `{"a":{"live_lambda":1}}`,
		`{"a":{"live_lambda":1},"LIVE_LAMBDA":1}`, `{"LIVE_LAMBDA":1,"x":["live_lambda"]}`,
		`{"live_lambda ":1}`, `{"live_lambda":1`, `{"live_lambda":1}}`, `{"live_lambda":1,"live_lambda":2}`,
		"{\"live_lambda\":1,\"a\":\"\xff\"", strings.Repeat("[", 20_000),
	} {
		if p, err := parsePart(bare); p != nil || err != nil {
			t.Errorf("%.50q: got %+v, %v; want a bare result", bare, p, err)
		}
	}
}

func TestEventOfVersion1WithABadFieldIsAShortError(t *testing.T) {
	for _, bad := range []string{
		`{"live_lambda":1,"type":7}`, `{"live_lambda":1,"request_id":{}}`, `{"live_lambda":1,"index":"0"}`,
		`{"live_lambda":1,"index":0.5}`, `{"live_lambda":1,"index":1e300}`,
		`{"live_lambda":1,"index":-1}`, `{"live_lambda":1,"index":1048576}`,
		`{"live_lambda":1,"index":9223372036854775807}`, `{"live_lambda":1,"index":9223372036854775808}`,
		`{"live_lambda":1,"last":"true"}`, `{"live_lambda":1,"last":1}`, `{"live_lambda":1,"headers":[]}`,
		`{"live_lambda":1,"headers":{"a":1}}`, `{"live_lambda":1,"trailers":"x"}`,
		`{"live_lambda":1,"encoding":"br"}`, `{"live_lambda":1,"encoding":"GZIP"}`,
		`{"live_lambda":1,"data":"YQ=="}`, `{"live_lambda":1,"data":"+/"}`, `{"live_lambda":1,"data":"a"}`,
		`{"live_lambda":1,"data":"YR"}`, `{"live_lambda":1,"data":7}`, `{"type":[],"live_lambda":1}`,
	} {
		if p, err := parsePart(bad); p == nil || err == nil || len(err.Error()) > 100 {
			t.Errorf("%s: got %+v, %v; want an error", bad, p, err)
		}
	}
}

func TestBadFieldDoesNotHideWhoseMessageItIs(t *testing.T) {
	p, err := parsePart(`{"live_lambda":1,"index":"x","type":"response","request_id":"l/1"}`)
	if err == nil || p == nil || p.RequestID != "l/1" || p.Type != "response" {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestEventOfVersion1MayHaveMoreFieldsAndNulls(t *testing.T) {
	for _, good := range []string{
		`{"live_lambda":1}`, ` {"live_lambda" : 1 , "type" : null } `,
		`{"type":"accepted","live_lambda":1,"unknown":{"a":[1]}}`,
		`{"live_lambda":1,"index":1048575,"last":true}`,
		`{"live_lambda":1,"data":""}`, `{"live_lambda":1,"encoding":"gzip","data":"YQ"}`,
		`{"live_lambda":1,"headers":null}`,
	} {
		if p, err := parsePart(good); p == nil || err != nil || p.Data != "" {
			t.Errorf("%s: got %+v, %v; want a part", good, p, err)
		}
	}
}

// testPart is a part with one byte of data.
func testPart(index int, last bool) *part {
	return &part{Type: "response", Index: index, Last: last, data: []byte("x")}
}

func TestPartThatContradictsTheOthersIsNotKept(t *testing.T) {
	otherType := testPart(1, true)
	otherType.Type = "error"
	otherEncoding := testPart(0, false)
	otherEncoding.Encoding = "gzip"
	tests := []struct {
		name      string
		had, then *part
	}{
		{name: "another type", had: testPart(0, false), then: otherType},
		{name: "another encoding", had: testPart(1, true), then: otherEncoding},
		{name: "one behind the last", had: testPart(2, true), then: testPart(3, false)},
		{name: "a second last beyond", had: testPart(2, true), then: testPart(3, true)},
		{name: "a second last before", had: testPart(2, true), then: testPart(1, true)},
		{name: "a last before another", had: testPart(2, false), then: testPart(1, true)},
	}
	for _, test := range tests {
		j := newJoiner(1 << 20)
		if err := j.add(test.had); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		size, waiting := j.size, len(j.waiting)
		err := j.add(test.then)
		if err == nil || !strings.Contains(err.Error(), "it contradicts") {
			t.Errorf("%s: error %v", test.name, err)
		}
		if j.size != size || len(j.waiting) != waiting {
			t.Errorf("%s: it was kept", test.name)
		}
	}
}

// Parts may be repeated. A part that is there already is dropped without a word.
func TestPartThatComesTwiceIsNoError(t *testing.T) {
	tests := []struct {
		name      string
		had, then *part
	}{
		{name: "a duplicate", had: testPart(1, false), then: testPart(1, false)},
		{name: "a duplicate that says it is the last", had: testPart(1, false), then: testPart(1, true)},
		{name: "the last again", had: testPart(1, true), then: testPart(1, true)},
		{name: "another index", had: testPart(1, true), then: testPart(0, false)},
	}
	for _, test := range tests {
		j := newJoiner(1 << 20)
		for _, p := range []*part{test.had, test.then} {
			if err := j.add(p); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	}
}

// fillJoiner adds the parts 1 to 99 of 2,000 bytes to a joiner of 10,000, and returns it and how many it
// keeps.
func fillJoiner(t *testing.T) (j *joiner, kept int) {
	t.Helper()
	j = newJoiner(10_000)
	for index := 1; index < 100; index++ {
		err := j.add(&part{Index: index, data: make([]byte, 2000)})
		if err == nil {
			kept++
		} else if !errors.Is(err, errTooBig) {
			t.Fatal(err)
		}
		if j.size > j.limit {
			t.Fatalf("%d bytes wait", j.size)
		}
	}
	return j, kept
}

func TestJoinerKeepsNoMoreThanItsLimitOfPartsThatWait(t *testing.T) {
	if _, kept := fillJoiner(t); kept != 3 {
		t.Errorf("%d parts wait, want 3", kept)
	}
}

func TestFullJoinerHasAPlaceForTheNextPart(t *testing.T) {
	j, _ := fillJoiner(t)
	if err := j.add(&part{Index: 0, data: make([]byte, 20_000)}); err != nil {
		t.Errorf("the next part: %v", err)
	}
	read, err := io.ReadAll(j)
	if err != errMissing || len(read) != 26_000 || j.size != 0 || j.complete() {
		t.Errorf("read %d bytes, %v; %d wait, complete %v", len(read), err, j.size, j.complete())
	}
	err = j.add(&part{Index: 2, data: make([]byte, 2000)})
	if err != nil || j.size != 0 {
		t.Errorf("a part that was read: %v, %d bytes", err, j.size)
	}
	err = j.add(&part{Index: 4, Last: true})
	if err != nil || !j.complete() {
		t.Errorf("the last part: %v, complete %v", err, j.complete())
	}
	if read, err := io.ReadAll(j); err != nil || len(read) != 0 {
		t.Errorf("the last part: %d bytes, %v", len(read), err)
	}
}

// What else a part holds is in no limit.
func TestJoinerKeepsTheDataOfAPartThatWaitsAndNothingElse(t *testing.T) {
	before := heap()
	j := newJoiner(maxPayload)
	long := strings.Repeat("x", 100<<10)
	const parts = 25
	for index := range parts {
		written := part{
			Type:      "response",
			Index:     index,
			Headers:   map[string]string{"Content-Type": long},
			ErrorType: long,
		}
		p, err := parsePart(string(written.encode([]byte("x"))))
		if err != nil {
			t.Fatal(err)
		}
		if err := j.add(p); err != nil {
			t.Fatal(err)
		}
	}
	if got := int64(heap() - before); got > 1<<20 {
		t.Errorf("%d parts of 200 KB keep %d bytes", parts, got)
	}
	if body, err := io.ReadAll(j); len(body) != parts || j.first.ErrorType != long {
		t.Errorf("read %d bytes, %v", len(body), err)
	}
}

func TestLimitOfAMessageCountsWhatItIsJoinedAndDecompressed(t *testing.T) {
	t.Parallel()
	content := make([]byte, maxPayload+1)
	for _, size := range []int{0, 1, maxPayload - 1, maxPayload, maxPayload + 1} {
		for encoding, data := range map[string][]byte{
			"":     content[:size],
			"gzip": gzipTimes(content[:size], 1),
		} {
			j := newJoiner(maxPayload)
			if err := j.add(&part{Encoding: encoding, Last: true, data: data}); err != nil {
				t.Fatal(err)
			}
			body, err := j.message(maxPayload)
			if errors.Is(err, errTooBig) != (size > maxPayload) || err == nil && len(body) != size {
				t.Errorf("%d bytes %s: got %d, %v", size, encoding, len(body), err)
			}
		}
	}
}

func TestBrokenGzipIsAnError(t *testing.T) {
	noise := make([]byte, 1000)
	rand.NewChaCha8([32]byte{3}).Read(noise)
	whole := gzipTimes(noise, 1)
	flipped := slices.Clone(whole)
	flipped[len(flipped)-8] ^= 1 // of the checksum
	for name, data := range map[string][]byte{
		"empty":          {},
		"no gzip":        []byte("hello"),
		"header only":    whole[:10],
		"cut off":        whole[:len(whole)/2],
		"no checksum":    whole[:len(whole)-8],
		"wrong checksum": flipped,
		"rubbish behind": slices.Concat(whole, []byte("rubbish")),
	} {
		j := newJoiner(1 << 20)
		if err := j.add(&part{Encoding: "gzip", Last: true, data: data}); err != nil {
			t.Fatal(err)
		}
		if body, err := j.message(maxPayload); err == nil || errors.Is(err, errTooBig) {
			t.Errorf("%s: %d bytes, %v", name, len(body), err)
		}
	}
}

func TestGzipBombCostsNoMoreThanWhatItMayBecome(t *testing.T) {
	bomb := gzipTimes(make([]byte, 1<<20), 32)
	lies := slices.Clone(bomb)
	binary.LittleEndian.PutUint32(lies[len(lies)-4:], 1) // of its length
	for name, data := range map[string][]byte{"bomb": bomb, "a bomb that lies": lies} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		j := newJoiner(maxPayload)
		if err := j.add(&part{Encoding: "gzip", Last: true, data: data}); err != nil {
			t.Fatal(err)
		}
		body, err := j.message(maxPayload)
		if !errors.Is(err, errTooBig) || len(body) > maxPayload+1 {
			t.Errorf("%s: %d bytes, %v", name, len(body), err)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 8*maxPayload {
			t.Errorf("%s: %d bytes of gzip took %d bytes of memory", name, len(bomb), got)
		}
	}
}

// gzipTimes is content, so many times.
func gzipTimes(content []byte, times int) []byte {
	var buf bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	for range times {
		zw.Write(content)
	}
	zw.Close()
	return buf.Bytes()
}

func TestFirstLineIsShortAndPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "",
		"a":                             "a",
		"a\nb":                          "a",
		"\nb":                           "",
		strings.Repeat("x", 161):        strings.Repeat("x", 160),
		strings.Repeat("x", 160) + "\n": strings.Repeat("x", 160),
		"é\x7fc\n":                      "é",
		"a\u00a0b\u009bc":               "a\u00a0b",
	} {
		if got := firstLine(in); got != want {
			t.Errorf("%.10q: got %q", in, got)
		}
	}
}
