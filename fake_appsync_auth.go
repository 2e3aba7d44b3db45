//go:build !layer

package main

// fake_appsync_auth.go decides whether the emulated AppSync takes an operation: API keys, and signatures that
// are made again from what the client says it has signed.
//
// https://docs.aws.amazon.com/appsync/latest/eventapi/event-api-websocket-protocol.html

import (
	"cmp"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// encode is a publish as the service serialises it: what its signature is checked against.
func (m clientMessage) encode() []byte {
	size := 64 + len(m.Channel)
	for _, text := range m.Events {
		size += len(text) + len(text)/4 + 3
	}
	body := make([]byte, 0, size)
	body = append(body, `{"channel":`...)
	body = appendGson(body, m.Channel)
	body = append(body, `,"events":[`...)
	for i, text := range m.Events {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendGson(body, text)
	}
	return append(body, "]}"...)
}

// plainInGson tells the bytes that stand for themselves in appendGson's strings.
func plainInGson(b byte) bool {
	switch b {
	case '"', '\\', '<', '>', '&', '=', '\'':
		return false
	}
	return b >= ' ' && b < 0x7f
}

// appendGson appends s as a JSON string the way an HTML-safe serialiser (Gson's default) writes it. The
// service checks the signature of a WebSocket publish against its own serialisation, and refuses events with
// < or > that the client signed as they are. Whatever else serialisers disagree on is escaped here too.
// https://github.com/aws/aws-appsync-community/issues/400
func appendGson(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for len(s) > 0 {
		n := 0
		for n < len(s) && plainInGson(s[n]) {
			n++
		}
		dst = append(dst, s[:n]...)
		r, size := utf8.DecodeRuneInString(s[n:])
		s = s[n+size:]
		switch {
		case size == 0:
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r >= 0x10000:
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
	}
	return append(dst, '"')
}

// field returns a value of the authorization object; its names' case does not count.
func (m clientMessage) field(name string) string {
	for k, v := range m.Authorization {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// authorizeConnect checks the connection's authorization object.
func (a *eventAPI) authorizeConnect(protocols []string, query url.Values, host string) *apiRefusal {
	path := a.path()
	if a.opts.graphql {
		path += "/connect"
	}
	raw, refused := a.connectHeader(protocols, query)
	if refused != nil {
		return refused
	}
	var m clientMessage
	if raw != nil {
		if err := json.Unmarshal(raw, &m.Authorization); err != nil {
			return a.malformedHeader(err)
		}
		if !a.isHost(m.field("host"), host) {
			return a.refuse("BadRequestException", "The authorization object is for another host")
		}
	}
	return a.authorize(m.field, host, path, []byte("{}"))
}

// connectHeader decodes the connection's authorization object, which comes in a sub-protocol or, to a GraphQL
// API, in the query. It is nil if there is none.
func (a *eventAPI) connectHeader(protocols []string, query url.Values) ([]byte, *apiRefusal) {
	encoding := base64.RawURLEncoding
	encoded := ""
	for _, p := range protocols {
		s, ok := strings.CutPrefix(p, "header-")
		if ok {
			encoded = s
		}
	}
	if a.opts.graphql && encoded == "" && query.Has("header") {
		encoding = base64.StdEncoding
		encoded = query.Get("header")
		payload, err := base64.StdEncoding.DecodeString(query.Get("payload"))
		if err != nil || string(payload) != "{}" {
			return nil, a.refuse("BadRequestException", "The query's payload is not {}")
		}
	}
	if encoded == "" {
		return nil, nil
	}
	raw, err := encoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, a.malformedHeader(err)
	}
	return raw, nil
}

func (a *eventAPI) malformedHeader(err error) *apiRefusal {
	return a.refuse("BadRequestException", "Malformed authorization header: "+err.Error())
}

// isHost compares a host that a client names with the API's own; asked is the Host header it came with.
func (a *eventAPI) isHost(named, asked string) bool {
	return strings.EqualFold(bareHost(named), bareHost(cmp.Or(a.opts.host, asked)))
}

// bareHost is a host without its port and without brackets.
func bareHost(host string) string {
	bare, _, err := net.SplitHostPort(host)
	if err != nil {
		return strings.Trim(host, "[]")
	}
	return bare
}

// authorize checks one operation: field returns its authorization headers, asked is the Host header of the
// request or of the connection's upgrade, path and body are what a signature covers.
func (a *eventAPI) authorize(field func(string) string, asked, path string, body []byte) *apiRefusal {
	a.mu.Lock()
	apiKey := a.opts.apiKey
	a.mu.Unlock()
	key := field("x-api-key")
	if key != "" && apiKey != "" && subtle.ConstantTimeCompare([]byte(key), []byte(apiKey)) == 1 {
		return nil
	}
	header := field("authorization")
	if key != "" || header == "" {
		return a.unauthorized()
	}
	s, err := parseSigV4(header)
	if err != nil {
		return a.refuse("BadRequestException", err.Error())
	}
	keys, refused := a.signer(s.accessKeyID, field("x-amz-security-token"))
	if refused != nil {
		return refused
	}
	if err := a.verify(s, keys, field, asked, path, body); err != nil {
		return a.refuse("BadRequestException", err.Error())
	}
	if a.opts.denied {
		return a.unauthorized()
	}
	return nil
}

func (a *eventAPI) unauthorized() *apiRefusal {
	return a.refuse("UnauthorizedException", "You are not authorized to make this call.")
}

// signer returns the credentials of this access key and session token, or refuses them as AWS's services do.
// Temporary ones that accept has taken back have expired.
// https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
func (a *eventAPI) signer(accessKeyID, token string) (credentials, *apiRefusal) {
	a.mu.Lock()
	accepted := a.opts.credentials
	expired := a.expired
	a.mu.Unlock()
	same := func(c credentials) bool { return c.accessKeyID == accessKeyID && c.sessionToken == token }
	i := slices.IndexFunc(accepted, same)
	switch {
	case i >= 0:
		return accepted[i], nil
	case slices.ContainsFunc(expired, same):
		return credentials{}, a.refuse(
			"ExpiredTokenException", "The security token included in the request is expired")
	}
	return credentials{}, a.refuse(
		"UnrecognizedClientException", "The security token included in the request is invalid.")
}

// sigV4 is a parsed Authorization header.
type sigV4 struct {
	accessKeyID   string
	scope         string // DATE/REGION/SERVICE/aws4_request
	signature     string
	signedHeaders []string
}

var authorizationHeader = regexp.MustCompile(
	`^AWS4-HMAC-SHA256 Credential=([^/, ]+)/([^, ]+), ?SignedHeaders=([^, ]+), ?Signature=([0-9a-f]{64})$`)

func parseSigV4(header string) (sigV4, error) {
	p := authorizationHeader.FindStringSubmatch(header)
	if p == nil {
		return sigV4{}, errors.New("the Authorization header is not a Signature Version 4 signature")
	}
	s := sigV4{
		accessKeyID:   p[1],
		scope:         p[2],
		signedHeaders: strings.Split(p[3], ";"),
		signature:     p[4],
	}
	if !slices.IsSorted(s.signedHeaders) || !slices.Contains(s.signedHeaders, "host") {
		return sigV4{}, errors.New("SignedHeaders must be sorted and include host")
	}
	return s, nil
}

// verify makes the signature again from the headers that it says it covers. Every operation, a WebSocket's
// included, is signed as a POST. The layer's own authorization makes it, so this finds other keys and other
// bytes, but no mistake in the algorithm. What checks that are the signatures in sigv4_test.go, which AWS's
// own signers made.
func (a *eventAPI) verify(
	s sigV4, c credentials, field func(string) string, asked, path string, body []byte) error {
	date := field("x-amz-date")
	at, err := time.Parse(sigV4Time, date)
	if err != nil {
		return errors.New("x-amz-date is missing or not of the form YYYYMMDDTHHMMSSZ")
	}
	if err := checkSkew(at, time.Now().UTC().Add(a.opts.ahead)); err != nil {
		return err
	}
	if err := a.checkScope(s.scope, date); err != nil {
		return err
	}
	headers, err := a.signedHeaders(s, field, asked, len(body))
	if err != nil {
		return err
	}
	want := c.authorization(a.opts.region, date, path, headers, body)
	if strings.HasSuffix(want, "Signature="+s.signature) {
		return nil
	}
	return signatureMismatch(path, headers, body)
}

// sigV4Time is how signatures write a time.
const sigV4Time = "20060102T150405Z"

// checkSkew refuses a signature of another time, in AWS's own words.
// https://github.com/aws-amplify/amplify-js/issues/11480
// https://github.com/awslabs/aws-mobile-appsync-sdk-js/issues/620
func checkSkew(at, now time.Time) error {
	signed := at.Format(sigV4Time)
	clock := now.Format(sigV4Time)
	switch {
	case now.Sub(at) > quotaClockSkew:
		//lint:ignore ST1005 AppSync's own words
		return fmt.Errorf("Signature expired: %s is now earlier than %s (%s - 5 min.)",
			signed, now.Add(-quotaClockSkew).Format(sigV4Time), clock)
	case at.Sub(now) > quotaClockSkew:
		//lint:ignore ST1005 AppSync's own words
		return fmt.Errorf("Signature not yet current: %s is still later than %s (%s + 5 min.)",
			signed, now.Add(quotaClockSkew).Format(sigV4Time), clock)
	}
	return nil
}

// checkScope refuses a signature for another day, region or service, in AWS's own words.
// https://github.com/aws/aws-sdk-js/issues/792
func (a *eventAPI) checkScope(scope, date string) error {
	day, rest, _ := strings.Cut(scope, "/")
	region, service, _ := strings.Cut(rest, "/")
	switch {
	case day != date[:8]:
		//lint:ignore ST1005 AppSync's own words
		return fmt.Errorf("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date "+
			"from HTTP: '%s' != '%s', from '%s'.", day, date[:8], date)
	case region != a.opts.region:
		//lint:ignore ST1005 AppSync's own words
		return fmt.Errorf("Credential should be scoped to a valid region, not '%s'. ", region)
	case service != "appsync/aws4_request":
		//lint:ignore ST1005 AppSync's own words
		return errors.New("Credential should be scoped to correct service: 'appsync'. ")
	}
	return nil
}

// signedHeaders returns the values of the headers that a signature covers.
func (a *eventAPI) signedHeaders(s sigV4, field func(string) string, asked string, size int) (
	map[string]string, error) {
	headers := map[string]string{}
	for _, name := range s.signedHeaders {
		value := strings.Join(strings.Fields(field(name)), " ")
		switch {
		case name == "host":
			value = cmp.Or(value, asked) // over HTTPS it is the Host header itself
			if !a.isHost(value, asked) {
				return nil, errors.New("the signature is for another host")
			}
		case name == "content-length":
			value = cmp.Or(value, strconv.Itoa(size)) // the service is known to fill it in
		case value == "":
			return nil, fmt.Errorf("header %q is signed and not there", name)
		}
		headers[name] = value
	}
	return headers, nil
}

// signatureMismatch quotes the canonical request, token and all, as the service does: a client that logs it
// leaks it.
// https://github.com/aws-amplify/amplify-js/issues/14001
func signatureMismatch(path string, headers map[string]string, body []byte) error {
	canonical, _ := canonicalRequest(path, headers, body)
	//lint:ignore ST1005 AppSync's own words
	return fmt.Errorf("The request signature we calculated does not match the signature you provided. "+
		"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."+
		"\n\nThe Canonical String for this request should have been\n'%s'\n", canonical)
}
