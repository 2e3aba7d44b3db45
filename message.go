package main

// message.go knows this program's own messages, which travel as AppSync's events.

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"
)

// Sizes of this program's own messages, in bytes.
const (
	partData   = 165_000           // of data in one part: 220,000 in base64url, which leaves 8,000 for the rest
	maxPayload = 6*1024*1024 + 100 // Lambda's limit for events and buffered responses
	maxStream  = 200 << 20         // and for streamed ones
)

// asciiJSON is src, which must be valid JSON in UTF-8, token for token, without the white space between them. AppSync
// checks a WebSocket publish against its own serialisation of the events, so the characters inside strings that
// serialisers disagree on (< > & = ' and whatever is not printable ASCII) are written as \uXXXX.
// https://github.com/aws/aws-appsync-community/issues/400
func asciiJSON(src []byte) (dst []byte) {
	var compact bytes.Buffer
	json.Compact(&compact, src) // what is not valid stays out
	for _, r := range compact.String() {
		if r >= ' ' && r <= '~' && r != '<' && r != '>' && r != '&' && r != '=' && r != '\'' {
			dst = append(dst, byte(r))
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			dst = fmt.Appendf(dst, `\u%04x`, unit)
		}
	}
	return dst
}

// part is one message of version 1, or one piece of it: everything but a request that fits in one event.
type part struct {
	LiveLambda any               `json:"live_lambda"` // 1
	Type       string            `json:"type"`        // request, accepted, response, error, done, probe
	RequestID  string            `json:"request_id"`
	Index      int               `json:"index"`
	Last       bool              `json:"last"`
	Encoding   string            `json:"encoding,omitempty"` // gzip where the joined data is
	Headers    map[string]string `json:"headers,omitempty"`  // in part 0 of a response
	Trailers   map[string]string `json:"trailers,omitempty"` // in the last part of a stream that broke
	ErrorType  string            `json:"error_type,omitempty"`
	XRayCause  string            `json:"xray_cause,omitempty"`
	Outcome    string            `json:"outcome,omitempty"` // of done: answered, timeout, deployed
	Sender     string            `json:"sender,omitempty"`  // a local end's random name: two may answer one request
	Data       string            `json:"data,omitempty"`    // unpadded base64url

	data []byte // Data, decoded
}

// encode writes p, with data, as an event.
func (p part) encode(data []byte) []byte {
	p.LiveLambda, p.Data = 1, ""
	head, _ := json.Marshal(p) // strings, numbers and maps of strings always marshal
	event := asciiJSON(head)
	if len(data) == 0 {
		return event
	}
	event = append(event[:len(event)-1], `,"data":"`...)
	return append(base64.RawURLEncoding.AppendEncode(event, data), `"}`...)
}

// compressed cuts the pieces together, gzipped, into the events of one message. The fastest level: an invocation waits
// for it.
func (p part) compressed(pieces ...[]byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var buf bytes.Buffer
		zw, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed) // the level is valid
		p.Encoding = "gzip"
		goOn := true
		cut := func() {
			for ; goOn && buf.Len() > partData; p.Index++ {
				goOn = yield(p.encode(buf.Next(partData)))
			}
		}
		for _, piece := range pieces {
			for chunk := range slices.Chunk(piece, 64<<10) { // never all of it at once
				zw.Write(chunk)
				cut()
			}
		}
		zw.Close()
		if cut(); goOn {
			p.Last = true
			yield(p.encode(buf.Bytes()))
		}
	}
}

// parsePart reads an event. It returns nil where the event is not a message of version 1 but a bare result, and an error
// where it claims to be one and is not valid.
func parsePart(event string) (*part, error) {
	p := new(part)
	var exact map[string]json.RawMessage // encoding/json takes a struct's keys in any case
	if !strings.HasPrefix(event, `{"live_lambda":1,`) && (json.Unmarshal([]byte(event), &exact) != nil || string(exact["live_lambda"]) != "1") {
		return nil, nil
	}
	err := json.Unmarshal([]byte(event), p) // a field of the wrong type does not keep it from the others
	if p.LiveLambda != 1.0 {                // not JSON after all, or the key comes twice
		return nil, nil
	}
	if err == nil {
		p.data, err = base64.RawURLEncoding.Strict().DecodeString(p.Data)
	}
	if p.Data = ""; err != nil || p.Index < 0 || p.Index >= 1<<20 || p.Encoding != "" && p.Encoding != "gzip" {
		return p, errors.New("a field has a value that it must not have")
	}
	return p, nil
}

// errTooBig says that a message is larger than Lambda allows.
var errTooBig = fmt.Errorf("larger than %d bytes", maxPayload)

// joiner puts the parts of one message together again, whatever order they come in. It is not safe for concurrent use.
type joiner struct {
	limit, size int            // bytes of parts that may wait, and that do
	waiting     map[int][]byte // by index, data of parts that have come and were not read; of the others no more is kept
	next, last  int            // index of the part to read next; of the last part once it has come, else -1
	first       *part          // part 0, once it has come, else any: what all parts have in common
	trailers    map[string]string
	rest        []byte // of the part that is being read
}

// add keeps p unless it has come before. It returns an error where p contradicts what has come, errTooBig where it is
// more than the limit; the part that is read next always has a place.
func (j *joiner) add(p *part) error {
	if j.waiting == nil {
		j.waiting, j.last, j.first = map[int][]byte{}, -1, p
	}
	_, twice := j.waiting[p.Index]
	size := j.size + len(p.data) + 512 // for the part itself
	switch {
	case p.Index < j.next || twice:
		return nil
	case p.Type != j.first.Type, p.Encoding != j.first.Encoding, j.last >= 0 && (p.Index > j.last || p.Last),
		p.Last && slices.ContainsFunc(slices.Collect(maps.Keys(j.waiting)), func(index int) bool { return index > p.Index }):
		return errors.New("it contradicts the other parts")
	case size > j.limit && p.Index != j.next:
		return errTooBig
	}
	j.waiting[p.Index], j.size = p.data, size
	if p.Index == 0 {
		j.first = p
	}
	if p.Last {
		j.last, j.trailers = p.Index, p.Trailers
	}
	return nil
}

// complete reports whether all parts have come.
func (j *joiner) complete() bool { return j.last >= 0 && len(j.waiting) == j.last+1-j.next }

// ended reports whether all of the message has been read.
func (j *joiner) ended() bool { return len(j.rest) == 0 && j.last >= 0 && j.next > j.last }

// ready reports whether Read has something to say: data, or the end.
func (j *joiner) ready() bool {
	for len(j.rest) == 0 && !j.ended() {
		data, there := j.waiting[j.next]
		if !there {
			return false
		}
		delete(j.waiting, j.next)
		j.rest, j.size, j.next = data, j.size-len(data)-512, j.next+1
	}
	return true
}

// errMissing says that the next part has not come yet.
var errMissing = errors.New("a part is missing")

// Read reads the data of the parts in order, as they are; errMissing where one has to come first.
func (j *joiner) Read(b []byte) (int, error) {
	switch {
	case !j.ready():
		return 0, errMissing
	case j.ended():
		return 0, io.EOF
	}
	n := copy(b, j.rest)
	j.rest = j.rest[n:]
	return n, nil
}

// message reads a complete message of at most limit bytes, decompressed, or returns errTooBig.
func (j *joiner) message(limit int) ([]byte, error) {
	r, size, err := io.Reader(j), j.size, error(nil)
	if j.first.Encoding == "gzip" {
		// Its last four bytes say how much it is (RFC 1952, ISIZE); where that is not true it takes more memory to read.
		if end := j.waiting[j.last]; len(end) >= 4 {
			size = int(binary.LittleEndian.Uint32(end[len(end)-4:]))
		}
		if r, err = gzip.NewReader(j); err != nil {
			return nil, err
		}
	}
	body := bytes.NewBuffer(make([]byte, 0, min(size, limit+1)+bytes.MinRead))
	n, err := body.ReadFrom(io.LimitReader(r, int64(limit)+1))
	if n > int64(limit) {
		err = errTooBig
	}
	return body.Bytes(), err
}

// isControl reports whether r is a control character. Not all of them does log/slog escape.
func isControl(r rune) bool { return r < ' ' || r > '~' && r < '\u00a0' }

// firstLine is the beginning of a text from outside, up to a control character, short enough for a log line.
func firstLine(s string) string { return s[:strings.IndexFunc(s[:min(len(s), 160)]+"\n", isControl)] }

// event is p as the only part of its message, without data.
func (p part) event() []byte {
	p.Last = true
	return p.encode(nil)
}
