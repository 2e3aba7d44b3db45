package main

// route.go knows tokens in events. The token that LIVE_LAMBDA_ROUTE names says which stage an event is for.
// It may stand in a header, a cookie, a query parameter, baggage, an attribute of a message, a field, or in
// JSON within a string. So the event's text is searched, not its structure: the name, then what stands
// between a name and its value in all these places, then the value.

import (
	"bytes"
	"strings"
)

const (
	// What may stand between the token's name and its value, beside white space and backslashes.
	separators = "\":={[] \t\r\n"
	// Words that may stand there, with a space on each side. After one of these, commas may too. They are the
	// fields of a message's attribute: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
	betweenWords = " Type String StringValue stringValue Value DataType dataType stringListValues " +
		"binaryListValues "
	noValues = " null true false "
)

// routeOf returns the stage that the token of that name has in an event, empty if it has none. The first
// value counts. It takes a time that grows with the size of the event alone, whatever is in it.
func routeOf(event []byte, name string) (stage string) {
	for stage == "" {
		i := indexName(event, name)
		if i < 0 {
			break
		}
		// What valueAfter has passed over holds no value either: from any place in it a search would stop at
		// the same byte, or before it.
		stage, event = valueAfter(event[i+len(name):])
	}
	return stage
}

// indexName returns where a name stands in text as a word of its own, in any case of letters; -1 if nowhere.
func indexName(text []byte, name string) int {
	lower := name[0] | ' ' // of a letter; a digit stays what it is
	for i, c := range text[:max(len(text)-len(name)+1, 0)] {
		if c|' ' != lower {
			continue
		}
		end := i + len(name)
		longer := (i > 0 && inWord(text[i-1])) || (end < len(text) && inWord(text[end]))
		if !longer && strings.EqualFold(string(text[i:end]), name) {
			return i
		}
	}
	return -1
}

// inWord reports whether c may be part of a word. A name beside it is no word of its own.
func inWord(c byte) bool { return c == '_' || strings.IndexByte(segmentBytes, c) >= 0 }

// valueAfter returns the value that text, which follows a name, begins with, and the rest of text. The value
// is empty if what comes first is none.
func valueAfter(text []byte) (value string, rest []byte) {
	allowed := separators
	for len(text) > 0 {
		if strings.IndexByte(allowed, text[0]) >= 0 ||
			bytes.HasPrefix(text, []byte(`\\`)) || bytes.HasPrefix(text, []byte(`\"`)) {
			text = text[1:]
			continue
		}
		word := string(text[:len(text)-len(bytes.TrimLeft(text, segmentBytes))])
		switch {
		case word != "" && strings.Contains(betweenWords, " "+word+" "):
			allowed = separators + ","
			text = text[len(word):]
		case word == "" || !isSegment(word) || strings.Contains(noValues, " "+word+" "):
			return "", text
		default:
			return word, text
		}
	}
	return "", nil
}
