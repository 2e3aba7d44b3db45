//go:build !layer

package main

//lint:file-ignore ST1005 errors are AppSync's own words

// fake_graphql.go is what the emulated AppSync does differently if it is a GraphQL API: the real-time
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
		Type    string
		ID      string
		Payload struct {
			Data       string
			Extensions struct{ Authorization map[string]string }
		}
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		m.refused = &apiRefusal{ErrorType: "BadRequestException",
			Message: "Malformed message: " + err.Error()}
		return m
	}
	switch in.Type {
	case "connection_init":
		m.Type = in.Type
	case "start":
		m = graphqlOperation("subscription", []byte(in.Payload.Data))
		m.Type = "subscribe"
	case "stop":
		m.Type = "unsubscribe"
	}
	m.ID = in.ID
	m.Authorization = in.Payload.Extensions.Authorization
	m.signed = []byte(in.Payload.Data)
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
// too large. With twice the data is encoded once more.
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
func graphqlResult(m clientMessage, refused *apiRefusal) []byte {
	if refused == nil {
		return m.selected.result(m.selected, m.Channel, m.Events[0])
	}
	return mustJSON(map[string]any{
		"data": nil,
		"errors": []map[string]any{
			{"path": nil, "locations": nil, "message": refused.Message},
		},
	})
}

// ---- operations ----

// selection is what an operation selects: its only field, and of the Channel that this is.
type selection struct {
	root   string
	fields []selectedField
}

// selectedField is a field of a Channel.
type selectedField struct {
	name string // in the schema
	key  string // in the result
}

// wholeChannel selects everything.
var wholeChannel = selection{
	root: "publish",
	fields: []selectedField{
		{name: "name", key: "name"},
		{name: "data", key: "data"},
	},
}

func (s selection) has(field string) bool {
	return slices.ContainsFunc(s.fields, func(f selectedField) bool { return f.name == field })
}

// result is an operation's result of a Channel of which only the fields that published has are known.
func (s selection) result(published selection, name, data string) []byte {
	out := fmt.Appendf(nil, `{"data":{%q:{`, s.root)
	for i, f := range s.fields {
		var value string
		switch f.name {
		case "name":
			value = name
		case "data":
			value = data
		case "__typename":
			value = "Channel"
		}
		if f.name != "__typename" && !published.has(f.name) {
			return s.unknown(f)
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, mustJSON(f.key)...)
		out = append(out, ':')
		out = append(out, mustJSON(value)...)
	}
	return append(out, "}}}"...)
}

// unknown is an operation's result if a field that it selects has no value: every field must have one.
func (s selection) unknown(f selectedField) []byte {
	message := fmt.Sprintf(
		"Cannot return null for non-nullable type within parent 'Channel' (/%s/%s)", s.root, f.key)
	return mustJSON(map[string]any{
		"data": map[string]any{s.root: nil},
		"errors": []map[string]any{
			{"path": []string{s.root, f.key}, "locations": nil, "message": message},
		},
	})
}

// graphqlOperation reads the JSON object of an operation of that kind, mutation or subscription.
func graphqlOperation(kind string, body []byte) (m clientMessage) {
	var in struct {
		Query     string
		Variables map[string]json.RawMessage
	}
	if err := json.Unmarshal(body, &in); err != nil {
		m.refused = &apiRefusal{
			ErrorType: "MalformedHttpRequestException", Message: "Request body malformed."}
		return m
	}
	o, err := newGraphQLParser(in.Query).operation()
	if err != nil {
		m.refused = &apiRefusal{
			ErrorType: "MalformedHttpRequestException",
			Message:   "Unable to parse GraphQL query: " + err.Error(),
		}
		return m
	}
	m, err = o.message(kind, in.Variables)
	if err != nil {
		m.refused = &apiRefusal{Message: err.Error()}
	}
	return m
}

// message is the operation in an Event API's words. Its only field takes the channel's name and, in a
// mutation, its data.
func (o graphqlQuery) message(kind string, variables map[string]json.RawMessage) (
	m clientMessage, err error) {
	if err := o.validate(kind); err != nil {
		return m, err
	}
	m.selected = o.selected
	m.Channel, err = o.argument("name", "String!", variables)
	if err != nil || kind == "subscription" {
		return m, err
	}
	data, err := o.argument("data", "AWSJSON!", variables)
	if err != nil {
		return m, err
	}
	event, err := rewriteAWSJSON(data)
	if err != nil {
		return m, err
	}
	m.Events = []string{event}
	return m, nil
}

// validate says what the schema does not allow in an operation of that kind.
func (o graphqlQuery) validate(kind string) error {
	field := "publish"
	arguments := []string{"name", "data"}
	if kind == "subscription" {
		field = "subscribe"
		arguments = []string{"name"}
	}
	if o.kind != kind || o.field != field {
		return fmt.Errorf(
			"Validation error of type FieldUndefined: Field '%s' in type '%s' is undefined here",
			o.field, o.kind)
	}
	if len(o.selected.fields) == 0 {
		return fmt.Errorf("Validation error of type SubSelectionRequired: "+
			"Sub selection required for type Channel of field %s", field)
	}
	for _, f := range o.selected.fields {
		if !slices.Contains([]string{"name", "data", "__typename"}, f.name) {
			return fmt.Errorf(
				"Validation error of type FieldUndefined: Field '%s' in type 'Channel' is undefined", f.name)
		}
	}
	for name := range o.arguments {
		if !slices.Contains(arguments, name) {
			return fmt.Errorf("Validation error of type UnknownArgument: Unknown field argument %s", name)
		}
	}
	return nil
}

// argument returns the value of an argument of that type, which may be a variable's.
func (o graphqlQuery) argument(name, typ string, variables map[string]json.RawMessage) (string, error) {
	argument, given := o.arguments[name]
	if !given {
		return "", fmt.Errorf(
			"Validation error of type MissingFieldArgument: Missing field argument %s", name)
	}
	if argument.variable == "" {
		return argument.text, nil
	}
	if o.variables[argument.variable] != typ {
		return "", fmt.Errorf(
			"Validation error of type VariableTypeMismatch: Variable %s is not of type '%s'",
			argument.variable, typ)
	}
	var value *string
	err := json.Unmarshal(variables[argument.variable], &value)
	if err != nil || value == nil {
		return "", fmt.Errorf("Variable '%s' has an invalid value.", argument.variable)
	}
	return *value, nil
}

// rewriteAWSJSON parses a mutation's data and writes it anew as a JavaScript runtime might: with numbers that
// are floating-point, and keys in another order.
// https://docs.aws.amazon.com/appsync/latest/devguide/scalars.html
func rewriteAWSJSON(data string) (string, error) {
	var parsed any
	if err := json.Unmarshal([]byte(data), &parsed); err != nil {
		return "", errors.New("Variable 'data' has an invalid value. Unable to parse it as valid JSON.")
	}
	return string(mustJSON(parsed)), nil
}

// graphqlQuery is one operation with one field.
type graphqlQuery struct {
	kind      string
	variables map[string]string // their types
	field     string
	arguments map[string]graphqlValue
	selected  selection
}

// graphqlValue is an argument: a variable's name, or a string.
type graphqlValue struct {
	variable string // empty if it is a string
	text     string
}

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

// want takes the next token, which must be that one.
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

// operation reads the document.
func (p *graphqlParser) operation() (o graphqlQuery, err error) {
	defer func() {
		e := recover()
		if e != nil {
			err = e.(error)
		}
	}()
	o.kind = "query"
	o.variables = map[string]string{}
	if p.token == scanner.Ident {
		o.kind = p.name()
		if p.token == scanner.Ident { // the operation's own name
			p.name()
		}
		o.variables = p.variables()
	}
	p.want('{')
	root := p.field()
	o.field = root.name
	o.arguments = p.arguments()
	o.selected = selection{root: root.key, fields: p.fields()}
	p.want('}')
	p.want(scanner.EOF)
	return o, nil
}

// variables reads the declarations of variables, if there are any, and returns their types by name.
func (p *graphqlParser) variables() map[string]string {
	types := map[string]string{}
	if !p.is('(') {
		return types
	}
	for !p.is(')') {
		p.want('$')
		variable := p.name()
		p.want(':')
		types[variable] = p.name()
		if p.is('!') {
			types[variable] += "!"
		}
	}
	return types
}

// arguments reads a field's arguments, if it has any.
func (p *graphqlParser) arguments() map[string]graphqlValue {
	values := map[string]graphqlValue{}
	if !p.is('(') {
		return values
	}
	for !p.is(')') {
		name := p.name()
		p.want(':')
		values[name] = p.value()
	}
	return values
}

// fields reads what is selected of a field, if anything is.
func (p *graphqlParser) fields() (fields []selectedField) {
	if !p.is('{') {
		return nil
	}
	for !p.is('}') {
		fields = append(fields, p.field())
	}
	return fields
}

// field reads a field's name, and the one that it has in the result.
func (p *graphqlParser) field() selectedField {
	key := p.name()
	if p.is(':') {
		return selectedField{name: p.name(), key: key}
	}
	return selectedField{name: key, key: key}
}

// value reads a variable's name or a string.
func (p *graphqlParser) value() graphqlValue {
	if p.is('$') {
		return graphqlValue{variable: p.name()}
	}
	var text string
	err := json.Unmarshal([]byte(p.scanner.TokenText()), &text) // the escapes are the same
	p.want(scanner.String)
	if err != nil {
		panic(errors.New("a string that is not valid"))
	}
	return graphqlValue{text: text}
}
