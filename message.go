package main

// message.go knows this program's own messages, which travel as AppSync's events: the event of an invocation
// on its way to the developer, the response on its way back, and what the two ends say about them.
//
//	type      from       says                           fields, beside request_id, index and last
//	(none)    extension  a request, in one event        event_payload, context; none of type, index and last
//	request   extension  a request, gzipped, in parts   encoding, data
//	accepted  local end  the request has come, whole    sender
//	response  local end  the handler's response         sender, encoding, data, headers, trailers
//	error     local end  the handler's error, as JSON   sender, encoding, data, error_type, xray_cause
//	done      extension  the invocation is over         outcome
//	hello     local end  it hears requests from now on  sender, stage, functions, ask
//	bye       local end  it hears no more of them       the same
//	probe     both       to itself: this comes through
//	sealed    both       another message (seal.go)      key, data; none of index and last
//
// A part is one event. The data of a message's parts, joined by index, is what the message carries.
// docs/PROTOCOL.md describes all of it.

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Sizes of messages: bytes, but for maxParts.
const (
	partData     = 165_000 // of data in one part: 220,000 in base64url, which leaves 10,000 for the rest
	partOverhead = 512     // that a part which waits is counted with, beside its data
	streamWindow = 8 << 20 // of a stream's parts that wait while an earlier one is missing
	maxParts     = 1 << 20 // of one message
)

// asciiJSON returns src, JSON in UTF-8, with the same tokens and no white space between them; nothing if src
// is not JSON. AppSync checks the signature of a publish against its own serialisation of the events, so a
// character that serialisers may write in different ways becomes \uXXXX.
// https://github.com/aws/aws-appsync-community/issues/400
func asciiJSON(src []byte) []byte {
	if !json.Valid(src) {
		return nil
	}
	return appendASCII(make([]byte, 0, len(src)), src)
}

// appendASCII appends to dst what asciiJSON makes of src, which is valid JSON, or a piece of it that begins
// and ends outside of strings.
func appendASCII(dst, src []byte) []byte {
	inString := false
	size := 0
	for i := 0; i < len(src); i += size {
		c := src[i]
		size = 1
		switch {
		case c == '\\': // and what it escapes, which may be a quotation mark
			dst = append(dst, c, src[i+1])
			size = 2
		case c <= ' ' && !inString: // white space
		// In ASCII, = stands between < and >.
		case c <= '~' && (c < '<' || c > '>') && c != '&' && c != '\'':
			dst = append(dst, c)
			if c == '"' {
				inString = !inString
			}
		default:
			var r rune
			r, size = utf8.DecodeRune(src[i:])
			for _, unit := range utf16.AppendRune(nil, r) {
				dst = hex.AppendEncode(append(dst, `\u`...), []byte{byte(unit >> 8), byte(unit)})
			}
		}
	}
	return dst
}

// part is one event of version 1. A request that fits in one event is read as a part without a type.
type part struct {
	LiveLambda any               `json:"live_lambda"` // the version, 1
	Type       string            `json:"type"`
	RequestID  string            `json:"request_id"`           // LINK/N; a probe has a name of its own
	Index      int               `json:"index"`                // from 0
	Last       bool              `json:"last"`                 // no part has a higher index
	Encoding   string            `json:"encoding,omitempty"`   // gzip if the joined data is gzipped
	Headers    map[string]string `json:"headers,omitempty"`    // of a response, in part 0
	Trailers   map[string]string `json:"trailers,omitempty"`   // of a stream that broke, in the last part
	ErrorType  string            `json:"error_type,omitempty"` // of an error, in part 0
	XRayCause  string            `json:"xray_cause,omitempty"` // of an error, in part 0
	Outcome    string            `json:"outcome,omitempty"`    // of done: answered or timeout
	Sender     string            `json:"sender,omitempty"`     // a local end's name; two may answer
	Stage      string            `json:"stage,omitempty"`      // of hello: of the requests that are heard
	Functions  []string          `json:"functions,omitempty"`  // of hello: shell patterns; none: all
	Ask        string            `json:"ask,omitempty"`        // of hello: a local end that it asks
	Key        string            `json:"key,omitempty"`        // of sealed: names the key
	Data       string            `json:"data,omitempty"`       // unpadded base64url

	data   []byte  // Data, decoded by parsePart, which empties Data
	text   string  // the event that it was read from, or what was sealed in that
	sealer *sealer // that it is sealed with; nil: it is not
}

// event returns p as the only part of its message, without data.
func (p part) event() []byte {
	p.Last = true
	return p.encode(nil)
}

// encode returns p, with data, as an event. Data may be large and is plain in base64url, so only the rest of
// p goes through encoding/json and asciiJSON.
func (p part) encode(data []byte) []byte {
	p.LiveLambda = 1
	p.Data = ""
	object, _ := json.Marshal(p) // strings, numbers and maps of strings always marshal
	event := appendASCII(nil, object)
	if p.sealer != nil {
		return p.sealer.seal(p.RequestID, event, data)
	}
	if len(data) == 0 {
		return event
	}
	event = append(event[:len(event)-1], `,"data":"`...)
	event = base64.RawURLEncoding.AppendEncode(event, data)
	return append(event, `"}`...)
}

// compressed returns the events of one message, whose data is the pieces, one after the other, gzipped. The
// level is the fastest one, because an invocation waits. A part is handed on as soon as it is full. No
// part gets too large: gzip writes less than 64 KiB at a time, and a part has room for more than that.
// https://www.rfc-editor.org/rfc/rfc1951#section-3.2.4
func (p part) compressed(pieces ...[]byte) iter.Seq[[]byte] {
	p.Encoding = "gzip"
	return func(yield func([]byte) bool) {
		w := &partWriter{p, yield}
		full := bufio.NewWriterSize(w, partData)
		zw, _ := gzip.NewWriterLevel(full, gzip.BestSpeed) // the level is valid
		for _, piece := range pieces {
			zw.Write(piece) // after an error of w, full writes nothing more to it
		}
		zw.Close()
		w.Last = true
		full.Flush() // there is something left: full hands on a part when more comes, not before
	}
}

// partWriter makes a part of each write and hands it on.
type partWriter struct {
	part  // the next one, but for its data
	yield func(event []byte) bool
}

// Write returns an error if nobody takes the parts any more.
func (w *partWriter) Write(b []byte) (int, error) {
	if w.yield(w.encode(b)) {
		w.Index++
		return len(b), nil
	}
	return 0, io.ErrClosedPipe
}

// parsePart reads an event. It returns nil, without an error, if the event is no message of version 1: then
// it is a bare result. If a field has a bad value, the error names the field, and the part has what could be
// read.
func parsePart(event string) (*part, error) {
	raw := []byte(event)
	// encoding/json takes a struct's keys in any case, a map's only as they are. An event that begins as
	// encode writes it is not read twice.
	if !strings.HasPrefix(event, `{"live_lambda":1,`) {
		var fields map[string]json.RawMessage
		json.Unmarshal(raw, &fields) // leaves fields empty if event is not an object
		if string(fields["live_lambda"]) != "1" {
			return nil, nil
		}
	}
	p := &part{text: event}
	err := json.Unmarshal(raw, p)
	// A number in an any is a float64. The event may only begin like a message, or have the key twice.
	if p.LiveLambda != 1.0 {
		return nil, nil
	}
	var wrong *json.UnmarshalTypeError // which does not keep encoding/json from reading the other fields
	if errors.As(err, &wrong) {
		return p, fmt.Errorf("its field %s is of another type", wrong.Field)
	}
	p.data, err = base64.RawURLEncoding.Strict().DecodeString(p.Data)
	p.Data = ""
	switch {
	case err != nil:
		return p, errors.New("its field data is not unpadded base64url")
	case p.Index < 0 || p.Index >= maxParts:
		return p, errors.New("its field index is out of range")
	case p.Encoding != "" && p.Encoding != "gzip":
		return p, errors.New("its field encoding is not gzip")
	}
	return p, nil
}

// joiner joins the parts of one message, in whatever order they come. It is not safe for concurrent use.
type joiner struct {
	limit    int               // bytes that may wait; the part that is read next may go beyond
	size     int               // bytes that wait: data, and partOverhead for each part
	waiting  map[int][]byte    // by index, the data of parts that have come and have not been read
	next     int               // index of the part that is read next
	highest  int               // of all indexes that have come
	last     int               // index of the last part; maxParts, which no part has, until that has come
	first    *part             // part 0; until that has come, the part that came first; before that, nil
	trailers map[string]string // of the last part
	rest     bytes.Reader      // of the data that is being read
}

// newJoiner returns a joiner that keeps at most limit bytes waiting.
func newJoiner(limit int) *joiner {
	return &joiner{limit: limit, last: maxParts, waiting: map[int][]byte{}}
}

// errTooBig is the error of a message, or a part of one, that is beyond a limit.
var errTooBig = errors.New("larger than Lambda allows")

// add keeps p, unless it has come before. It returns an error if p contradicts the parts that have come, and
// errTooBig if there is no room for it.
func (j *joiner) add(p *part) error {
	if j.first == nil {
		j.first = p
	}
	_, waits := j.waiting[p.Index]
	size := j.size + len(p.data) + partOverhead
	switch {
	case waits || p.Index < j.next:
		return nil
	case p.Type != j.first.Type:
		return errors.New("it contradicts the other parts: its type is another")
	case p.Encoding != j.first.Encoding:
		return errors.New("it contradicts the other parts: its encoding is another")
	case p.Index > j.last:
		return errors.New("it contradicts the other parts: it comes after the last one")
	case p.Last && p.Index < j.highest:
		return errors.New(
			"it contradicts the other parts: it is the last one, and one that comes after it is there")
	case size > j.limit && p.Index != j.next:
		return errTooBig
	}
	j.waiting[p.Index] = p.data
	p.text = "" // it may be large
	j.size = size
	j.highest = max(j.highest, p.Index)
	if p.Index == 0 {
		j.first = p
	}
	if p.Last {
		j.last = p.Index
		j.trailers = p.Trailers
	}
	return nil
}

// complete reports whether all parts have come, the last one and each before it.
func (j *joiner) complete() bool { return len(j.waiting) == j.last+1-j.next }

// ended reports whether all parts have come and been read.
func (j *joiner) ended() bool { return j.next > j.last && j.rest.Len() == 0 }

// ready reports whether Read has data to return, or the end. It takes nothing from Read: a caller that may
// have to give up looks first, and what it does not read then is not lost.
func (j *joiner) ready() bool {
	for j.rest.Len() == 0 { // a part may be empty
		data, come := j.waiting[j.next]
		if !come {
			return j.ended()
		}
		delete(j.waiting, j.next)
		j.next++
		j.size -= len(data) + partOverhead
		j.rest.Reset(data)
	}
	return true
}

// errMissing is Read's error for a part that is next and has not come yet.
var errMissing = errors.New("a part is missing")

// Read reads the data of the parts by index, and does not decompress it. It returns errMissing if the next
// part has not come yet, and io.EOF after the last one.
func (j *joiner) Read(b []byte) (int, error) {
	if j.ready() {
		return j.rest.Read(b) // io.EOF if nothing is left: if ready reports true, that is the end
	}
	return 0, errMissing
}

// message reads a complete message, decompressed. It returns errTooBig if that has more than limit bytes, and
// an error of package gzip if it cannot be decompressed.
func (j *joiner) message(limit int) ([]byte, error) {
	size := j.size
	var r io.Reader = j
	if j.first.Encoding == "gzip" {
		// The last four bytes say how much it is decompressed (RFC 1952, ISIZE). If that is not true, reading
		// takes more memory, within the limit.
		if end := j.waiting[j.last]; len(end) >= 4 {
			size = int(binary.LittleEndian.Uint32(end[len(end)-4:]))
		}
		zr, err := gzip.NewReader(j)
		if err != nil {
			return nil, err
		}
		r = zr
	}
	body := bytes.NewBuffer(make([]byte, 0, min(size, limit+1)+bytes.MinRead))
	n, err := body.ReadFrom(io.LimitReader(r, int64(limit)+1))
	if n > int64(limit) {
		err = errTooBig
	}
	return body.Bytes(), err
}

// firstLine returns the beginning of a text from outside, short enough for a log, up to a control character,
// of which log/slog does not escape all.
func firstLine(s string) string {
	s = s[:min(len(s), 160)]
	for i, r := range s {
		if r < ' ' || r > '~' && r < '\u00a0' {
			return s[:i]
		}
	}
	return s
}
