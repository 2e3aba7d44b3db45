//go:build !layer

package main

// fake_graphql.go is what the emulated AppSync does otherwise where it is a GraphQL API: the real-time
// messages, the mutation, and as much of GraphQL as they take. The schema is AWS's own for generic publish
// and subscribe (graphqlSchema), resolved without a data source. In: what clients send. Out: the same in
// Event APIs' words, as fake_appsync.go has it, and the way back.
//
// https://docs.aws.amazon.com/appsync/latest/devguide/real-time-websocket-client.html
// https://docs.aws.amazon.com/appsync/latest/devguide/tutorial-local-resolvers-js.html

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/scanner"
)

// ---- messages ----

// graphqlMessage reads a client's message. Its type is that of an Event API's.
func graphqlMessage(raw []byte) (m clientMessage) {
	var in struct {
		Type, ID string
		Payload  struct {
			Data       string
			Extensions struct{ Authorization map[string]string }
		}
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		m.fault = &apiError{ErrorType: "BadRequestException", Message: "Malformed message: " + err.Error()}
		return m
	}
	if in.Type == "start" {
		m = graphqlOperation("subscription", []byte(in.Payload.Data))
	}
	m.Type = map[string]string{
		"connection_init": in.Type, "start": "subscribe", "stop": "unsubscribe"}[in.Type]
	m.ID, m.Authorization, m.signed = in.ID, in.Payload.Extensions.Authorization, []byte(in.Payload.Data)
	return m
}

// graphqlAnswer is a message to a client.
func graphqlAnswer(answer apiAnswer) []byte {
	var out struct {
		Type    string `json:"type"`
		ID      string `json:"id,omitempty"`
		Payload any    `json:"payload,omitempty"`
	}
	out.ID = answer.ID
	switch answer.Type {
	case "subscribe_success":
		out.Type = "start_ack"
	case "unsubscribe_success":
		out.Type = "complete"
	case "subscribe_error", "unsubscribe_error":
		out.Type = "error"
	default:
		out.Type = answer.Type
	}
	if answer.Errors != nil {
		out.Payload = map[string]any{"errors": answer.Errors}
	} else if answer.ConnectionTimeoutMs != 0 {
		out.Payload = map[string]any{"connectionTimeoutMs": answer.ConnectionTimeoutMs}
	}
	return mustJSON(out)
}

// graphqlData is the message that brings a subscription what a mutation has selected, or nil: AppSync
// compares a subscription's arguments with what the mutation has selected, and drops without a word what is
// too large.
// https://github.com/aws/aws-appsync-community/issues/33
func graphqlData(id string, subscribed, published selection, channel, text string, twice bool) []byte {
	if !published.has("name") {
		return nil
	}
	if twice {
		text = string(mustJSON(text))
	}
	payload := subscribed.result(published, channel, text)
	if len(payload) > quotaEventBytes {
		return nil
	}
	return slices.Concat([]byte(`{"id":"`+id+`","type":"data","payload":`), payload, []byte{'}'})
}

// graphqlResult answers a mutation.
func graphqlResult(m clientMessage, fault *apiError) []byte {
	if fault != nil {
		return mustJSON(
			map[string]any{
				"data":   nil,
				"errors": []map[string]any{{"path": nil, "locations": nil, "message": fault.Message}}})
	}
	return m.selected.result(m.selected, m.Channel, m.Events[0])
}

// ---- operations ----

// selection is what an operation selects: its only field, and of the Channel that this is. A field has its
// name in the schema and in the result.
type selection struct {
	root   string
	fields [][2]string
}

// wholeChannel selects everything.
var wholeChannel = selection{"publish", [][2]string{{"name", "name"}, {"data", "data"}}}

func (s selection) has(field string) bool {
	return slices.ContainsFunc(s.fields, func(f [2]string) bool { return f[0] == field })
}

// result is an operation's result of a Channel of which only the fields that published has are known.
func (s selection) result(published selection, name, data string) []byte {
	out := fmt.Appendf(nil, `{"data":{%q:{`, s.root)
	for i, f := range s.fields {
		value := map[string]string{"name": name, "data": data, "__typename": "Channel"}[f[0]]
		if f[0] != "__typename" && !published.has(f[0]) {
			message := fmt.Sprintf(
				"Cannot return null for non-nullable type within parent 'Channel' (/%s/%s)", s.root, f[1])
			return mustJSON(
				map[string]any{
					"data": map[string]any{s.root: nil},
					"errors": []map[string]any{
						{"path": []string{s.root, f[1]}, "locations": nil, "message": message}}})
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, mustJSON(f[1])...), ':'), mustJSON(value)...)
	}
	return append(out, "}}}"...)
}

// graphqlOperation reads the JSON object of an operation of that kind, whose only field takes the channel's
// name and, in a mutation, its data, AWSJSON: that is parsed and, here, written anew as a JavaScript runtime
// might, with numbers that are floating-point and keys in another order.
// https://docs.aws.amazon.com/appsync/latest/devguide/scalars.html
func graphqlOperation(kind string, body []byte) (m clientMessage) {
	var in struct {
		Query     string
		Variables map[string]json.RawMessage
	}
	invalid := func(format string, args ...any) { m.fault = &apiError{Message: fmt.Sprintf(format, args...)} }
	if err := json.Unmarshal(body, &in); err != nil {
		m.fault = &apiError{ErrorType: "MalformedHttpRequestException", Message: "Request body malformed."}
		return m
	}
	p := newGraphQLParser(in.Query)
	o, err := p.operation()
	if err != nil {
		m.fault = &apiError{
			ErrorType: "MalformedHttpRequestException",
			Message:   "Unable to parse GraphQL query: " + err.Error()}
		return m
	}
	field := map[string]string{"mutation": "publish", "subscription": "subscribe"}[kind]
	want := map[string]string{"name": "String!"}
	if kind == "mutation" {
		want["data"] = "AWSJSON!"
	}
	if o.kind != kind || o.field != field {
		invalid("Validation error of type FieldUndefined: Field '%s' in type '%s' is undefined here", o.field,
			o.kind)
		return m
	}
	if len(o.selected.fields) == 0 {
		invalid("Validation error of type SubSelectionRequired: Sub selection required for type Channel of "+
			"field %s", field)
	}
	for _, f := range o.selected.fields {
		if !slices.Contains([]string{"name", "data", "__typename"}, f[0]) {
			invalid("Validation error of type FieldUndefined: Field '%s' in type 'Channel' is undefined",
				f[0])
		}
	}
	for name := range o.arguments {
		if want[name] == "" {
			invalid("Validation error of type UnknownArgument: Unknown field argument %s", name)
		}
	}
	values := map[string]string{}
	for name, typ := range want {
		argument, given := o.arguments[name]
		if given && argument.variable != "" && o.variables[argument.variable] != typ {
			invalid("Validation error of type VariableTypeMismatch: Variable %s is not of type '%s'",
				argument.variable, typ)
		}
		var value *string
		switch {
		case !given:
			invalid("Validation error of type MissingFieldArgument: Missing field argument %s", name)
		case argument.variable == "":
			value = &argument.text
		case json.Unmarshal(in.Variables[argument.variable], &value) != nil || value == nil:
			value = nil
			invalid("Variable '%s' has an invalid value.", argument.variable)
		}
		if value != nil {
			values[name] = *value
		}
	}
	m.Channel, m.selected = values["name"], o.selected
	var parsed any
	if data, ok := values["data"]; ok && json.Unmarshal([]byte(data), &parsed) != nil {
		invalid("Variable 'data' has an invalid value. Unable to parse it as valid JSON.")
	} else if ok {
		m.Events = []string{string(mustJSON(parsed))}
	}
	return m
}

// graphqlQuery is one operation with one field.
type graphqlQuery struct {
	kind      string
	variables map[string]string // their types
	field     string
	arguments map[string]graphqlValue
	selected  selection
}

// graphqlValue is a variable's name, or a string.
type graphqlValue struct{ variable, text string }

// graphqlParser reads a document of one operation with one field, without fragments, directives and default
// values, which no client of this schema needs. Its methods panic with an error.
// https://spec.graphql.org/October2021/#sec-Document-Syntax
type graphqlParser struct {
	scanner scanner.Scanner
	token   rune // the next one
}

func newGraphQLParser(query string) *graphqlParser {
	p := &graphqlParser{}
	p.scanner.Init(strings.NewReader(query))
	p.scanner.Mode = scanner.ScanIdents | scanner.ScanStrings
	p.scanner.Whitespace = scanner.GoWhitespace | 1<<',' // commas mean nothing
	p.scanner.Error = func(*scanner.Scanner, string) {}  // such a token fits nowhere
	p.next()
	return p
}

func (p *graphqlParser) next() { p.token = p.scanner.Scan() }

// is takes the next token if it is that one.
func (p *graphqlParser) is(token rune) bool {
	if p.token != token {
		return false
	}
	p.next()
	return true
}

func (p *graphqlParser) want(token rune) {
	if !p.is(token) {
		panic(fmt.Errorf("%s where %s is expected", scanner.TokenString(p.token), scanner.TokenString(token)))
	}
}

func (p *graphqlParser) name() string {
	name := p.scanner.TokenText()
	p.want(scanner.Ident)
	return name
}

func (p *graphqlParser) operation() (o graphqlQuery, err error) {
	defer func() {
		if e := recover(); e != nil {
			err = e.(error)
		}
	}()
	o = graphqlQuery{kind: "query", variables: map[string]string{}, arguments: map[string]graphqlValue{}}
	if p.token == scanner.Ident {
		o.kind = p.name()
		if p.token == scanner.Ident {
			p.name()
		}
		if p.is('(') {
			for !p.is(')') {
				p.want('$')
				variable := p.name()
				p.want(':')
				if o.variables[variable] = p.name(); p.is('!') {
					o.variables[variable] += "!"
				}
			}
		}
	}
	p.want('{')
	o.field, o.selected.root = p.field()
	if p.is('(') {
		for !p.is(')') {
			argument := p.name()
			p.want(':')
			o.arguments[argument] = p.value()
		}
	}
	if p.is('{') {
		for !p.is('}') {
			field, key := p.field()
			o.selected.fields = append(o.selected.fields, [2]string{field, key})
		}
	}
	p.want('}')
	p.want(scanner.EOF)
	return o, nil
}

// field reads a field's name, and the one that it has in the result.
func (p *graphqlParser) field() (field, key string) {
	key = p.name()
	if p.is(':') {
		return p.name(), key
	}
	return key, key
}

func (p *graphqlParser) value() graphqlValue {
	if p.is('$') {
		return graphqlValue{variable: p.name()}
	}
	var text string
	err := json.Unmarshal([]byte(p.scanner.TokenText()), &text) // the escapes are the same
	if p.want(scanner.String); err != nil {
		panic(errors.New("a string that is not valid"))
	}
	return graphqlValue{text: text}
}
