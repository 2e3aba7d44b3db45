//go:build !layer

package main

// local_copy.go writes an invocation as a command for a shell: of curl, if it came from an HTTP request, and
// of the AWS CLI. Events come from outside, so nothing of them is anything but a text to the shell, and a
// text only to the command.

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const maxInline = 32 << 10 // bytes of a body or event that stands in a command as it is

// httpRequestEvent is the event of an HTTP request: API Gateway's of both versions, a function URL's, or an
// ALB's.
type httpRequestEvent struct {
	Headers         map[string]string   `json:"headers"`
	MultiHeaders    map[string][]string `json:"multiValueHeaders"`
	Body            string              `json:"body"`
	IsBase64Encoded bool                `json:"isBase64Encoded"`

	// of version 1 and an ALB
	HTTPMethod string              `json:"httpMethod"`
	Path       string              `json:"path"`
	Query      map[string]string   `json:"queryStringParameters"`
	MultiQuery map[string][]string `json:"multiValueQueryStringParameters"`

	// of version 2 and a function URL
	RawPath        string   `json:"rawPath"`
	RawQueryString string   `json:"rawQueryString"`
	Cookies        []string `json:"cookies"`

	RequestContext struct {
		ELB        json.RawMessage `json:"elb"`
		DomainName string          `json:"domainName"`
		Path       string          `json:"path"` // of version 1, with the stage
		HTTP       struct {
			Method string `json:"method"`
		} `json:"http"`
	} `json:"requestContext"`
}

// httpToken is what a method or a header's name may be.
var httpToken = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// hostText is what a host may be, with its port.
var hostText = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?$`)

// addedHeaders are those that curl, or what stands between it and the function, adds by itself.
var addedHeaders = regexp.MustCompile(`^(host|content-length|connection|transfer-encoding|via|forwarded|` +
	`accept-encoding|x-forwarded-.*|x-amzn-trace-id|x-amzn-tls-.*|x-amz-cf-id|cloudfront-.*)$`)

// copyAsCurl writes the HTTP request that has invoked i as a command of curl.
func copyAsCurl(i keptInvocation) (string, error) {
	var e httpRequestEvent
	json.Unmarshal(i.Event, &e) // leaves out what is of another type
	method := e.method()
	if !httpToken.MatchString(method) {
		return "", errors.New("the event is not of an HTTP request")
	}
	words := []string{"curl", "--globoff", "--path-as-is"}
	switch {
	case method == "HEAD":
		words = append(words, "--head")
	case method != "GET" || e.Body != "":
		words = append(words, "--request "+shellWord(method))
	}
	words = append(words, shellWord(e.url()))
	words = append(words, e.headerWords()...)
	before, data, err := e.bodyWords()
	if err != nil {
		return "", err
	}
	words = append(words, data...)
	return before + strings.Join(words, " \\\n  "), nil
}

// method is the request's; "" if there is none.
func (e *httpRequestEvent) method() string {
	if e.RequestContext.HTTP.Method != "" {
		return e.RequestContext.HTTP.Method
	}
	return e.HTTPMethod
}

// url is the request's URL.
func (e *httpRequestEvent) url() string {
	host := e.RequestContext.DomainName
	if host == "" {
		host = e.header("host")
	}
	if !hostText.MatchString(host) {
		host = "HOST" // for the developer to fill in
	}
	scheme := "https"
	if e.header("x-forwarded-proto") == "http" {
		scheme = "http"
	}
	path := "/" + strings.TrimPrefix(e.path(), "/")
	query := urlText(e.query(), "")
	if query != "" {
		query = "?" + query
	}
	return scheme + "://" + host + urlText(path, "?") + query
}

// path is the request's path, with the stage if the URL has it.
func (e *httpRequestEvent) path() string {
	switch {
	case e.RequestContext.HTTP.Method != "":
		return e.RawPath
	case e.RequestContext.Path != "":
		return e.RequestContext.Path
	}
	return e.Path
}

// query is the request's query. API Gateway's version 1 decodes it, an ALB does not.
func (e *httpRequestEvent) query() string {
	if e.RequestContext.HTTP.Method != "" {
		return e.RawQueryString
	}
	all := e.MultiQuery
	if len(all) == 0 {
		all = lists(e.Query)
	}
	encode := url.QueryEscape
	if e.RequestContext.ELB != nil {
		encode = func(s string) string { return s }
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, value := range all[name] {
			pairs = append(pairs, encode(name)+"="+encode(value))
		}
	}
	return strings.Join(pairs, "&")
}

// lists are values as lists of one.
func lists(one map[string]string) map[string][]string {
	all := map[string][]string{}
	for name, value := range one {
		all[name] = []string{value}
	}
	return all
}

// allHeaders are the request's headers.
func (e *httpRequestEvent) allHeaders() map[string][]string {
	all := e.MultiHeaders
	if len(all) == 0 {
		all = lists(e.Headers)
	}
	if len(e.Cookies) > 0 {
		all["cookie"] = []string{strings.Join(e.Cookies, "; ")}
	}
	return all
}

// header is the first value of a header, whose name is in small letters.
func (e *httpRequestEvent) header(name string) string {
	for n, values := range e.allHeaders() {
		if strings.ToLower(n) == name && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// headerWords are curl's arguments for the headers that it does not add by itself. One that is no header, or
// that would end a line, is left out.
func (e *httpRequestEvent) headerWords() []string {
	var words []string
	all := e.allHeaders()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, value := range all[name] {
			line := name + ": " + value
			if strings.TrimSpace(value) == "" {
				line = name + ";" // so curl sends an empty one
			}
			left := addedHeaders.MatchString(strings.ToLower(name))
			if !left && httpToken.MatchString(name) && inlineText(line) &&
				!strings.ContainsAny(line, "\n\t") {
				words = append(words, "--header "+shellWord(line))
			}
		}
	}
	if e.header("accept-encoding") != "" {
		words = append(words, "--compressed")
	}
	if e.Body != "" && e.header("content-type") == "" {
		words = append(words, "--header 'Content-Type:'") // else curl adds a form's
	}
	return words
}

// bodyWords are curl's arguments for the body, and what has to stand before curl to make it.
func (e *httpRequestEvent) bodyWords() (before string, words []string, err error) {
	if e.Body == "" {
		return "", nil, nil
	}
	body := []byte(e.Body)
	if e.IsBase64Encoded {
		body, err = base64.StdEncoding.DecodeString(e.Body)
		if err != nil {
			return "", nil, errors.New("the body of the event is not base64")
		}
	}
	if len(body) <= maxInline && inlineText(string(body)) {
		return "", []string{"--data-raw " + shellWord(string(body))}, nil
	}
	before = "printf %s " + shellWord(base64.StdEncoding.EncodeToString(body)) + " | base64 --decode | "
	return before, []string{"--data-binary @-"}, nil
}

// urlText is part of a URL, whose other characters than a URL may have are escaped, and more too. What is
// escaped already stays as it is.
func urlText(s, more string) string {
	const hex = "0123456789ABCDEF"
	var text strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || strings.IndexByte("\"#<>\\^`{|}"+more, c) >= 0 {
			text.WriteString("%" + string(hex[c>>4]) + string(hex[c&15]))
			continue
		}
		text.WriteByte(c)
	}
	return text.String()
}

// copyAsInvoke writes i as a command of the AWS CLI, of that major version, that invokes the deployed
// function with its event. A large event is to be in a file, whose name is file then.
func copyAsInvoke(i keptInvocation, version int, file string) string {
	c := i.Context
	name := c.InvokedFunctionARN
	if !strings.HasPrefix(name, "arn:") {
		name = c.FunctionName
	}
	words := append([]string{"aws lambda invoke"}, cliOption("--function-name", name)...)
	if c.Region != "" {
		words = append(words, cliOption("--region", c.Region)...)
	}
	if len(c.ClientContext) > 0 {
		words = append(words, "--client-context "+base64.StdEncoding.EncodeToString(c.ClientContext))
	}
	if c.TenantID != "" {
		words = append(words, cliOption("--tenant-id", c.TenantID)...)
	}
	words = append(words, payloadWords(i.Event, version, file)...)
	return strings.Join(append(words, "/dev/stdout"), " \\\n  ")
}

// cliOption is an option of the AWS CLI, whose value is none itself. If the CLI would read a file in place of
// the value, it is left out: who invokes may choose a tenant's ID.
func cliOption(name, value string) []string {
	switch {
	case strings.HasPrefix(value, "file://") || strings.HasPrefix(value, "fileb://"):
		return nil
	case strings.HasPrefix(value, "-"):
		return []string{name + "=" + shellWord(value)}
	}
	return []string{name + " " + shellWord(value)}
}

// payloadWords are the CLI's arguments for an event. Version 2 takes what stands in the command for base64 if
// it is not told otherwise; version 1 does not know how it could be told.
func payloadWords(event []byte, version int, file string) []string {
	if needsFile(event) {
		return []string{"--payload " + shellWord("fileb://"+file)}
	}
	words := cliOption("--payload", string(event))
	if version >= 2 {
		words = append(words, "--cli-binary-format raw-in-base64-out")
	}
	return words
}

// needsFile reports whether an event cannot stand in a command.
func needsFile(event []byte) bool { return len(event) > maxInline || !inlineText(string(event)) }

// inlineText reports whether s may stand in a command: a terminal that it is pasted into must not take a part
// of it for a key.
func inlineText(s string) bool {
	wrong := func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }
	return utf8.ValidString(s) && !strings.ContainsFunc(s, wrong)
}

// plainWord is a word that a shell takes as it is.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)

// oddInQuotes is what cannot stand between single quotes: a quote, and in fish a backslash before it, before
// another one or at the end.
var oddInQuotes = regexp.MustCompile(`\\\\+|\\?'|\\$`)

// shellWord is s as one word of a POSIX shell, and of fish.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	outside := func(odd string) string {
		for _, c := range []string{`\`, "'"} {
			odd = strings.ReplaceAll(odd, c, `\`+c)
		}
		return "'" + odd + "'"
	}
	return "'" + oddInQuotes.ReplaceAllStringFunc(s, outside) + "'"
}
