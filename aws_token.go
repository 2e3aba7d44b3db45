//go:build !layer

package main

// aws_token.go puts a token into an event, to where whoever invokes functions of that kind could have put it:
// then the event has the shape that the handler expects. Whether the layer finds it there, the layer's own
// rule says (route.go). In: an event. Out: the event with the token, and the places.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// stageToken is one that says for which stage an event is.
type stageToken struct {
	name  string // what LIVE_LAMBDA_ROUTE is set to
	stage string
}

// tokenShape is what an event, or a record in one, has that tells where a token goes.
type tokenShape struct {
	Headers           map[string]json.RawMessage // of an HTTP request
	MultiValueHeaders map[string]json.RawMessage // of an HTTP request
	RequestHeaders    map[string]json.RawMessage // of AppSync's authorization
	Request           struct {
		Headers map[string]json.RawMessage // of AppSync's resolvers
	}
	DetailType        *string                    `json:"detail-type"` // of EventBridge
	Detail            map[string]json.RawMessage // of EventBridge
	EventSource       string                     // of a record
	MessageAttributes map[string]json.RawMessage // of a message of SQS
	SNS               struct {
		MessageAttributes map[string]json.RawMessage
	}
	Records []tokenShape
}

// put returns the event with the token, and the places where it is. It returns an error if the layer would
// not find it there.
func (k stageToken) put(event []byte) (changed []byte, places []string, err error) {
	switch {
	case !isSegment(k.name) || k.name == "":
		return nil, nil,
			fmt.Errorf("nothing was sent: %s is %q, not 1 to 50 letters, digits and inner dashes",
				routeVariable, k.name)
	case !isSegment(k.stage):
		return nil, nil, fmt.Errorf("nothing was sent: %q is not a stage, 1 to 50 letters, digits and inner "+
			"dashes", k.stage)
	}
	for _, set := range k.changes(event) {
		c, err := readChange(set)
		if err == nil {
			event, err = c.in(event)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("put %s into the event at %s: %w", k.name, c.text, err)
		}
		places = append(places, c.text)
	}
	return event, places, k.check(event, len(places))
}

// check finds that the layer reads the stage in the event, which has the token at so many places, or says why
// not.
func (k stageToken) check(event []byte, places int) error {
	stage := routeOf(event, k.name)
	switch {
	case stage == k.stage:
		return nil
	case stage == "" && places == 0:
		return fmt.Errorf("nothing was sent: the event has no place for %s, as it is neither an object nor "+
			"a list of objects", k.name)
	case stage == "": // null, true or false
		return fmt.Errorf("nothing was sent: no stage can be called %s, because the layer takes that for no "+
			"name", k.stage)
	}
	return fmt.Errorf("nothing was sent: the first %s in the event says %s, not %s: take it out",
		k.name, stage, k.stage)
}

// changes are the values of --set that put the token into an event.
func (k stageToken) changes(event []byte) []string {
	if !bytes.HasPrefix(bytes.TrimSpace(event), []byte("[")) {
		return k.changesAt("", event)
	}
	var changes []string
	for i, item := range membersOf(bytes.TrimSpace(event)) {
		changes = append(changes, k.changesAt(fmt.Sprintf("[%d]", i), item.value)...)
	}
	return changes
}

// changesAt is changes for an object at a place of the event.
func (k stageToken) changesAt(place string, object []byte) []string {
	if !bytes.HasPrefix(bytes.TrimSpace(object), []byte("{")) {
		return nil
	}
	var s tokenShape
	json.Unmarshal(object, &s) // what has another type than is meant here stays zero
	changes := k.changesOf(s)
	for i, record := range s.Records {
		for _, change := range k.changesOf(record) {
			changes = append(changes, fmt.Sprintf("Records[%d].%s", i, change))
		}
	}
	if len(changes) == 0 {
		changes = []string{k.name + "=" + k.text()}
	}
	if place != "" {
		place += "."
	}
	for i := range changes {
		changes[i] = place + changes[i]
	}
	return changes
}

// changesOf is changes for an event or a record, none if it is of no kind that is known here.
func (k stageToken) changesOf(s tokenShape) []string {
	headers := k.headers(s)
	switch {
	case len(headers) > 0:
		return headers
	case s.DetailType != nil && s.Detail != nil:
		return []string{"detail." + k.name + "=" + k.text()}
	case s.EventSource == "aws:sqs":
		return []string{k.attribute("messageAttributes", s.MessageAttributes, fmt.Sprintf(
			`{"stringValue":%s,"stringListValues":[],"binaryListValues":[],"dataType":"String"}`, k.text()))}
	case s.EventSource == "aws:sns":
		return []string{k.attribute("Sns.MessageAttributes", s.SNS.MessageAttributes,
			fmt.Sprintf(`{"Type":"String","Value":%s}`, k.text()))}
	}
	return nil
}

// headers are the changes that set a header, in each form in which an event has headers.
func (k stageToken) headers(s tokenShape) []string {
	var changes []string
	for _, h := range []struct {
		place   string
		headers map[string]json.RawMessage
	}{
		{place: "headers", headers: s.Headers},
		{place: "multiValueHeaders", headers: s.MultiValueHeaders},
		{place: "requestHeaders", headers: s.RequestHeaders},
		{place: "request.headers", headers: s.Request.Headers},
	} {
		if h.headers != nil {
			changes = append(changes, k.header(h.place, h.headers))
		}
	}
	return changes
}

// header is the change that sets a header: in place of one of that name, and as a list if the others are.
func (k stageToken) header(place string, headers map[string]json.RawMessage) string {
	name := k.name
	value := k.text()
	for other, values := range headers {
		if strings.EqualFold(other, k.name) {
			name = other
		}
		if values[0] == '[' {
			value = "[" + k.text() + "]"
		}
	}
	return place + "." + name + "=" + value
}

// attribute is the change that sets a message's attribute.
func (k stageToken) attribute(place string, attributes map[string]json.RawMessage, value string) string {
	if attributes == nil {
		return fmt.Sprintf(`%s={%q:%s}`, place, k.name, value)
	}
	return fmt.Sprintf(`%s.%s=%s`, place, k.name, value)
}

// text is the stage as JSON.
func (k stageToken) text() string { return string(jsonText(k.stage)) }
