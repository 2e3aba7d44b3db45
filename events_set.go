//go:build !layer

package main

// events_set.go changes one value in a JSON document, as --set says. Nothing else of the document's text
// changes: keys keep their order, and numbers their digits. In: PATH=VALUE, and a document. Out: the document
// with the value, or an error that says at which place the path does not fit.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// eventChange is one --set.
type eventChange struct {
	text  string // of the path
	path  []pathStep
	value json.RawMessage
}

// pathStep leads from a value to one in it.
type pathStep struct {
	key     string // of an object
	index   int    // of a list
	isIndex bool   // the step is an index, not a key
}

// What a path is made of: .KEY, [N] and ["KEY"].
var pathStepText = regexp.MustCompile(`^(?:\.([^.\[\]="]+)|\[(\d{1,9})\]|\[("(?:[^"\\]|\\.)*")\])`)

var errNoChange = errors.New(`it is not PATH=VALUE, like Records[0].body=hello or detail["a.b"]=5`)

// readChange reads PATH=VALUE.
func readChange(text string) (eventChange, error) {
	var c eventChange
	rest := text
	if !strings.HasPrefix(text, "[") {
		rest = "." + text
	}
	for {
		m := pathStepText.FindStringSubmatch(rest)
		if m == nil {
			break
		}
		step, err := readStep(m[1], m[2], m[3])
		if err != nil {
			return c, errNoChange
		}
		c.path = append(c.path, step)
		rest = rest[len(m[0]):]
	}
	value, ok := strings.CutPrefix(rest, "=")
	if !ok || len(c.path) == 0 {
		return c, errNoChange
	}
	c.text = strings.TrimSuffix(text, rest)
	c.value = []byte(value)
	if !json.Valid(c.value) {
		c.value = jsonText(value)
	}
	return c, nil
}

// readStep reads one step: a key as it is, an index, or a key in quotes; the others are empty.
func readStep(key, index, quoted string) (pathStep, error) {
	var err error
	step := pathStep{key: key}
	switch {
	case index != "":
		step.isIndex = true
		step.index, err = strconv.Atoi(index)
	case quoted != "":
		err = json.Unmarshal([]byte(quoted), &step.key)
	}
	return step, err
}

// jsonText is text as a JSON string. What json.Marshal escapes for web pages stays as it is.
func jsonText(text string) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.Encode(text) // strings always encode
	return bytes.TrimSpace(out.Bytes())
}

// in returns the document with the value at the path.
func (c eventChange) in(document []byte) ([]byte, error) { return c.follow(document, 0) }

// follow returns value, which the first so many steps of the path lead to, as it is after the change.
func (c eventChange) follow(value json.RawMessage, steps int) (json.RawMessage, error) {
	value = bytes.TrimSpace(value)
	inner := jsonWithin(value)
	switch {
	case steps == len(c.path) && inner != nil && isContainer(c.value):
		return jsonText(string(c.value)), nil // JSON in a string stays in one
	case steps == len(c.path):
		return c.value, nil
	case inner != nil:
		changed, err := c.follow(inner, steps)
		return jsonText(string(changed)), err
	case value[0] == '{' && !c.path[steps].isIndex:
		return c.inObject(value, steps)
	case value[0] == '[' && c.path[steps].isIndex:
		return c.inList(value, steps)
	}
	return nil, fmt.Errorf("%s is %s, so there is no %s in it", c.place(steps), kindOf(value),
		c.path[steps])
}

// inObject is follow for an object. If a key is there twice, readers take the last one.
func (c eventChange) inObject(object json.RawMessage, steps int) (json.RawMessage, error) {
	members := membersOf(object)
	step := c.path[steps]
	at := len(members)
	for i, m := range members {
		if m.name() == step.key {
			at = i
		}
	}
	if at == len(members) {
		if steps+1 < len(c.path) {
			return nil, fmt.Errorf("%s has no %s; %s", c.place(steps), step, namesText(members))
		}
		members = append(members, member{key: jsonText(step.key), value: c.value})
	}
	changed, err := c.follow(members[at].value, steps+1)
	members[at].value = changed
	return joined('{', members, '}'), err
}

// inList is follow for a list.
func (c eventChange) inList(list json.RawMessage, steps int) (json.RawMessage, error) {
	items := membersOf(list)
	at := c.path[steps].index
	if at > len(items) || at == len(items) && steps+1 < len(c.path) {
		return nil, fmt.Errorf("there is no %s in %s, a list of length %d", c.path[steps], c.place(steps),
			len(items))
	}
	if at == len(items) {
		items = append(items, member{value: c.value})
	}
	changed, err := c.follow(items[at].value, steps+1)
	items[at].value = changed
	return joined('[', items, ']'), err
}

// ---- texts ----

// member is a member of an object, or an item of a list, which has no key. Both are JSON as it was written.
type member struct{ key, value json.RawMessage }

func (m member) name() string {
	var name string
	json.Unmarshal(m.key, &name) // it is valid
	return name
}

// membersOf returns what is in an object or a list, which is valid JSON.
func membersOf(value json.RawMessage) []member {
	var members []member
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.Token() // the brace or bracket
	for decoder.More() {
		var m member
		if value[0] == '{' {
			before := decoder.InputOffset()
			decoder.Token()
			m.key = bytes.TrimLeft(value[before:decoder.InputOffset()], ", \t\r\n")
		}
		decoder.Decode(&m.value)
		members = append(members, m)
	}
	return members
}

// joined is an object or a list of these members.
func joined(first byte, members []member, last byte) json.RawMessage {
	text := []byte{first}
	for i, m := range members {
		if i > 0 {
			text = append(text, ',')
		}
		if m.key != nil {
			text = append(append(text, m.key...), ':')
		}
		text = append(text, m.value...)
	}
	return append(text, last)
}

// jsonWithin is the object or list that a string has as its text, nil if value is no such string.
func jsonWithin(value json.RawMessage) json.RawMessage {
	var text string
	if value[0] != '"' || json.Unmarshal(value, &text) != nil {
		return nil
	}
	inner := json.RawMessage(text)
	if !json.Valid(inner) || !isContainer(inner) {
		return nil
	}
	return inner
}

// isContainer reports whether JSON is an object or a list.
func isContainer(value json.RawMessage) bool {
	value = bytes.TrimSpace(value)
	return len(value) > 0 && (value[0] == '{' || value[0] == '[')
}

// place is the part of the path before so many steps, for people.
func (c eventChange) place(steps int) string {
	text := ""
	for _, step := range c.path[:steps] {
		if !step.isIndex && text != "" {
			text += "."
		}
		text += step.String()
	}
	if text == "" {
		return "the event"
	}
	return text
}

func (s pathStep) String() string {
	if s.isIndex {
		return fmt.Sprintf("[%d]", s.index)
	}
	return plainText(s.key)
}

// kindOf is what a value is, for people.
func kindOf(value json.RawMessage) string {
	switch value[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 'n':
		return "null"
	case 't', 'f':
		return string(value)
	}
	return "a number"
}

const maxMembers = 300 // characters of the names of an object's members in an error

// namesText says which members an object has.
func namesText(members []member) string {
	if len(members) == 0 {
		return "it is empty"
	}
	var names []string
	for _, m := range members {
		names = append(names, plainText(m.name()))
	}
	return "it has " + clip(strings.Join(slices.Compact(names), ", "), maxMembers)
}
