//go:build !layer

package main

// fake_graphql_test.go tests the emulated GraphQL API with a client of its own, and with what AWS's client
// library sends.

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	graphqlSubscription = `{"query":"subscription($name:String!){subscribe(name:$name){name data}}",` +
		`"variables":{"name":"NAME"}}`
	graphqlMutation = `{"query":"mutation($name:String!,$data:AWSJSON!){publish(name:$name,` +
		`data:$data){name data}}","variables":{"name":"NAME","data":"DATA"}}`
)

// graphqlStart is a start message, authorized by auth, an authorization object.
func graphqlStart(id, operation, auth string) string {
	return fmt.Sprintf(
		`{"id":%q,"type":"start","payload":{"data":%s,"extensions":{"authorization":%s}}}`, id,
		apiQuote(operation), auth)
}

// graphqlTest runs a test against an emulated GraphQL API with the API key da2-key.
func graphqlTest(
	t *testing.T, name string, opts eventAPIOptions, test func(*testing.T, *eventAPI, *pipeListener)) {
	t.Helper()
	opts.graphql = true
	opts.apiKey = "da2-key"
	eventAPITest(t, name, opts, test)
}

// graphqlClient connects to path, which may have a query.
func (l *pipeListener) graphqlClient(t testing.TB, path, protocols string) *eventAPIClient {
	t.Helper()
	config := websocketConfig(l.host, protocols)
	config.Location.Path, config.Location.RawQuery, _ = strings.Cut(path, "?")
	return dialConfig(t, func() (net.Conn, error) { return l.dial(t.Context(), "", "") }, config)
}

// graphqlReady connects and begins.
func (l *pipeListener) graphqlReady(t testing.TB) *eventAPIClient {
	t.Helper()
	c := l.graphqlClient(t, "/graphql/realtime", "graphql-ws, "+graphqlHeader(apiKeyAuth))
	c.send(`{"type":"connection_init"}`)
	c.want("connection_ack 300000")
	return c
}

func graphqlHeader(auth string) string {
	return "header-" + base64.RawURLEncoding.EncodeToString([]byte(auth))
}

// graphqlSubscriptionToA subscribes to /a.
var graphqlSubscriptionToA = strings.Replace(graphqlSubscription, "NAME", "/a", 1)

func TestGraphQLAPIAcceptsOrRefusesMessages(t *testing.T) {
	t.Parallel()
	operation := func(query, variables string) string {
		return graphqlStart("s", `{"query":`+apiQuote(query)+`,"variables":`+variables+`}`, apiKeyAuth)
	}
	subscription := graphqlSubscriptionToA
	tests := []struct{ name, send, want string }{
		{name: "start", send: graphqlStart("s", subscription, apiKeyAuth), want: "start_ack s"},
		{name: "with a name, an alias and commas",
			send: operation(`subscription Sub($n: String!,) { `+
				`x: subscribe(name: $n) { __typename, d: data name } }`,
				`{"n":"/a"}`),
			want: "start_ack s"},
		{name: "with a value in its place",
			send: operation(`subscription { subscribe(name: "\u002fa") { name data } }`, `{}`),
			want: "start_ack s"},
		{name: "no authorization", send: graphqlStart("s", subscription, `{}`),
			want: "error s UnauthorizedException"},
		{name: "another key",
			send: graphqlStart("s", subscription, `{"host":"example.com","x-api-key":"no"}`),
			want: "error s UnauthorizedException"},
		{name: "no id", send: graphqlStart("", subscription, apiKeyAuth), want: "error BadRequestException"},
		{name: "no payload", send: `{"type":"start","id":"s"}`, want: "error s UnauthorizedException"},
		{name: "a payload that is not JSON", send: graphqlStart("s", `{`, apiKeyAuth),
			want: "error s MalformedHttpRequestException"},
		{name: "a query that is no GraphQL", send: operation(`subscription {`, `{}`),
			want: "error s MalformedHttpRequestException"},
		{name: "a string that is not valid",
			send: operation(`subscription { subscribe(name: "\q") { name } }`, `{}`),
			want: "error s MalformedHttpRequestException"},
		{name: "two fields",
			send: operation(
				`subscription { subscribe(name: "/a") { name } subscribe(name: "/b") { name } }`, `{}`),
			want: "error s MalformedHttpRequestException"},
		{name: "a query", send: operation(`{ getChannel { name } }`, `{}`), want: "error s"},
		{name: "a mutation", send: graphqlStart("s", graphqlMutation, apiKeyAuth), want: "error s"},
		{name: "an unknown field", send: operation(`subscription { onMsg(room: "r") { data } }`, `{}`),
			want: "error s"},
		{name: "an unknown field of Channel",
			send: operation(`subscription { subscribe(name: "/a") { id } }`, `{}`),
			want: "error s"},
		{name: "nothing selected", send: operation(`subscription { subscribe(name: "/a") }`, `{}`),
			want: "error s"},
		{name: "no name", send: operation(`subscription { subscribe { name } }`, `{}`), want: "error s"},
		{name: "an unknown argument",
			send: operation(`subscription { subscribe(name: "/a", data: "1") { name } }`, `{}`),
			want: "error s"},
		{name: "a variable without a value",
			send: operation(`subscription($n:String!) { subscribe(name: $n) { name } }`, `{}`),
			want: "error s"},
		{name: "a variable that is null",
			send: operation(`subscription($n:String!) { subscribe(name: $n) { name } }`, `{"n":null}`),
			want: "error s"},
		{name: "a variable of another type",
			send: operation(`subscription($n:String) { subscribe(name: $n) { name } }`, `{"n":"/a"}`),
			want: "error s"},
		{name: "stop of nothing", send: `{"type":"stop","id":"s"}`, want: "error s UnknownOperationError"},
		{name: "publish, as to an Event API",
			send: `{"type":"publish","id":"p","channel":"/live-lambda/a","events":["1"],` + keyField + `}`,
			want: "error p UnsupportedOperation"},
		{name: "subscribe, as to an Event API",
			send: `{"type":"subscribe","id":"p","channel":"/live-lambda/a",` + keyField + `}`,
			want: "error p UnsupportedOperation"},
		{name: "not JSON", send: `{"type":`, want: "error BadRequestException"},
	}
	for _, tt := range tests {
		graphqlTest(t, tt.name, eventAPIOptions{}, func(t *testing.T, _ *eventAPI, ln *pipeListener) {
			c := ln.graphqlReady(t)
			c.send(tt.send)
			c.want(tt.want)
		})
	}
}

func TestGraphQLAPILimitsSubscriptionsOfAConnection(t *testing.T) {
	t.Parallel()
	graphqlTest(t, "", eventAPIOptions{}, func(t *testing.T, _ *eventAPI, ln *pipeListener) {
		c := ln.graphqlReady(t)
		subscription := graphqlSubscriptionToA
		for i := range 200 {
			c.send(graphqlStart(fmt.Sprint(i), subscription, apiKeyAuth))
			c.want(fmt.Sprint("start_ack ", i))
		}
		c.send(graphqlStart("0", subscription, apiKeyAuth))
		c.want("error 0 DuplicatedOperationError")
		c.send(graphqlStart("200", subscription, apiKeyAuth))
		c.want("error 200 MaxSubscriptionsReachedError")
		c.send(`{"type":"stop","id":"7"}`)
		c.want("complete 7")
		c.send(graphqlStart("200", subscription, apiKeyAuth))
		c.want("start_ack 200")
	})
}

func TestGraphQLAPIIgnoresWhatComesBeforeInit(t *testing.T) {
	t.Parallel()
	graphqlTest(t, "", eventAPIOptions{}, func(t *testing.T, _ *eventAPI, ln *pipeListener) {
		c := ln.graphqlClient(t, "/graphql/realtime", "graphql-ws, "+graphqlHeader(apiKeyAuth))
		c.send(graphqlStart("s", graphqlSubscriptionToA, apiKeyAuth))
		c.want("ka")
		c.send(`{"type":"connection_init"}`)
		c.want("connection_ack 300000")
	})
}

// A subscriber gets what the mutation has selected, if it has selected the name that is subscribed to.
func TestGraphQLAPIDeliversWhatTheMutationSelects(t *testing.T) {
	t.Parallel()
	const (
		named   = `mutation($n:String!,$d:AWSJSON!){publish(name:$n,data:$d){name data}}`
		unnamed = `mutation($n:String!,$d:AWSJSON!){publish(name:$n,data:$d){data}}`
	)
	publish := func(query, name, data string) string {
		return `{"query":` + apiQuote(query) + `,"variables":{"n":` + apiQuote(name) + `,"d":` +
			apiQuote(data) + `}}`
	}
	data := func(n int) string { return `"` + strings.Repeat("x", n) + `"` }
	overhead := len(`{"data":{"subscribe":{"name":"/a","data":"\"\""}}}`)
	tests := []struct{ name, publish, want string }{
		{name: "selected", publish: publish(named, "/a", ` {"b":1, "a":"é"} `),
			want: `data s {"subscribe":{"data":"{\"a\":\"é\",\"b\":1}","name":"/a"}}`},
		{name: "numbers change", publish: publish(named, "/a", `12345678901234567890`),
			want: `data s {"subscribe":{"data":"12345678901234567000","name":"/a"}}`},
		{name: "the name is not selected", publish: publish(unnamed, "/a", `1`)},
		{name: "the data is not selected",
			publish: publish(strings.Replace(named, "name data", "name", 1), "/a", `1`),
			want:    `data s {"subscribe":null}`},
		{name: "another channel", publish: publish(named, "/a/b", `1`)},
		{name: "a name without its slash", publish: publish(named, "a", `1`)},
		{name: "as large as may be", publish: publish(named, "/a", data(quotaEventBytes-overhead)),
			want: `data s {"subscribe":{"data":"\"` + strings.Repeat("x", quotaEventBytes-overhead) +
				`\"","name":"/a"}}`},
		{name: "too large is dropped without a word",
			publish: publish(named, "/a", data(quotaEventBytes-overhead+1))},
	}
	for _, tt := range tests {
		graphqlTest(t, tt.name, eventAPIOptions{}, func(t *testing.T, api *eventAPI, ln *pipeListener) {
			c := ln.graphqlReady(t)
			c.send(graphqlStart("s", graphqlSubscriptionToA, apiKeyAuth))
			c.want("start_ack s")
			status, raw := ln.postTo(t, "/graphql", http.Header{"X-Api-Key": {"da2-key"}}, tt.publish)
			var result struct {
				Data   struct{ Publish map[string]string }
				Errors []any
			}
			err := json.Unmarshal(raw, &result)
			if err != nil || status != "200" || result.Errors != nil ||
				result.Data.Publish == nil {
				t.Errorf("the mutation's result is %s %.200s", status, raw)
			}
			api.publish("/a", `"end"`)
			want := []string{`data s {"subscribe":{"data":"\"end\"","name":"/a"}}`}
			if tt.want != "" {
				want = append([]string{tt.want}, want...)
			}
			c.want(want...)
		})
	}
}

func TestGraphQLAPIEncodesAWSJSONTwiceIfAsked(t *testing.T) {
	t.Parallel()
	graphqlTest(t, "", eventAPIOptions{documentedData: true},
		func(t *testing.T, api *eventAPI, ln *pipeListener) {
			c := ln.graphqlReady(t)
			c.send(graphqlStart("s", graphqlSubscriptionToA, apiKeyAuth))
			c.want("start_ack s")
			api.publish("/a", `{"a":"b"}`)
			c.want(`data s {"subscribe":{"data":"\"{\\\"a\\\":\\\"b\\\"}\"","name":"/a"}}`)
		})
}

// A mutation's errors come in a 200, those of the request in another status.
func TestGraphQLAPIAnswersMutations(t *testing.T) {
	t.Parallel()
	mutation := strings.Replace(graphqlMutation, "NAME", "/a", 1)
	tests := []struct{ name, key, body, want string }{
		{name: "good", key: "da2-key", body: strings.Replace(mutation, "DATA", `{\"a\":1}`, 1),
			want: `200 {"data":{"publish":{"name":"/a","data":"{\"a\":1}"}}}`},
		{name: "data that is not JSON", key: "da2-key", body: strings.Replace(mutation, "DATA", `{`, 1),
			want: `200 {"data":null,"errors":[{"locations":null,"message":"Variable 'data' has an invalid ` +
				`value. ` +
				`Unable to parse it as valid JSON.","path":null}]}`},
		{name: "data that is an object", key: "da2-key",
			body: strings.Replace(mutation, `"DATA"`, `{"a":1}`, 1),
			want: `200 {"data":null,"errors":[{"locations":null,"message":"Variable 'data' has an invalid ` +
				`value.","path":null}]}`},
		{name: "a subscription", key: "da2-key", body: graphqlSubscription,
			want: `200 {"data":null,"errors":[{"locations":null,"message":"Validation error of type ` +
				`FieldUndefined: Field 'subscribe' in type 'subscription' is undefined here","path":null}]}`},
		{name: "another key", key: "no", body: mutation,
			want: `401 {"errors":[{"errorType":"UnauthorizedException","message":"You are not authorized ` +
				`to make ` +
				`this call."}]}`},
		{name: "not JSON", key: "da2-key", body: `{`,
			want: `400 {"errors":[{"errorType":"MalformedHttpRequestException","message":"Request body ` +
				`malformed."}]}`},
		{name: "not GraphQL", key: "da2-key", body: `{"query":"mutation ("}`,
			want: `400 {"errors":[{"errorType":"MalformedHttpRequestException","message":"Unable to parse ` +
				`GraphQL query: EOF where \"$\" is expected"}]}`},
	}
	for _, tt := range tests {
		graphqlTest(t, tt.name, eventAPIOptions{}, func(t *testing.T, _ *eventAPI, ln *pipeListener) {
			status, raw := ln.postTo(t, "/graphql", http.Header{"X-Api-Key": {tt.key}}, tt.body)
			got := status + " " + string(raw)
			if got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// ---- handshake and signatures ----

func TestGraphQLAPIAuthorizesConnections(t *testing.T) {
	t.Parallel()
	query := func(header, payload string) string {
		return "/graphql/realtime?" + url.Values{"header": {header}, "payload": {payload}}.Encode()
	}
	padded := base64.StdEncoding.EncodeToString([]byte(apiKeyAuth + "  "))
	tests := []struct{ name, path, protocols, want string }{
		{name: "sub-protocol", path: "/graphql/realtime",
			protocols: "graphql-ws, " + graphqlHeader(apiKeyAuth),
			want:      "connection_ack 300000"},
		{name: "at the realtime host's path", path: "/graphql",
			protocols: "graphql-ws, " + graphqlHeader(apiKeyAuth),
			want:      "connection_ack 300000"},
		{name: "query", path: query(padded, "e30="), protocols: "graphql-ws", want: "connection_ack 300000"},
		{name: "query without padding", path: query(strings.TrimRight(padded, "="), "e30="),
			protocols: "graphql-ws",
			want:      "connection_error BadRequestException"},
		{name: "query with another payload", path: query(padded, "W10="), protocols: "graphql-ws",
			want: "connection_error BadRequestException"},
		{name: "query without payload", path: "/graphql/realtime?header=" + url.QueryEscape(padded),
			protocols: "graphql-ws",
			want:      "connection_error BadRequestException"},
		{name: "query with another key",
			path: query(base64.StdEncoding.EncodeToString([]byte(`{"host":"example.com","x-api-key":"no"}`)),
				"e30="), protocols: "graphql-ws", want: "connection_error UnauthorizedException"},
		{name: "another host", path: "/graphql/realtime",
			protocols: "graphql-ws, " + graphqlHeader(`{"host":"example.org","x-api-key":"da2-key"}`),
			want:      "connection_error BadRequestException"},
		{name: "nothing", path: "/graphql/realtime", protocols: "graphql-ws",
			want: "connection_error UnauthorizedException"},
	}
	for _, tt := range tests {
		graphqlTest(t, tt.name, eventAPIOptions{}, func(t *testing.T, _ *eventAPI, ln *pipeListener) {
			c := ln.graphqlClient(t, tt.path, tt.protocols)
			c.wantConnection(tt.want)
		})
	}
}

// The vectors are what AWS's own signers sign: connect and start, accepted in either handshake, and not for
// one another.
func TestGraphQLAPIAcceptsVectors(t *testing.T) {
	t.Parallel()
	for _, v := range graphqlVectors {
		for _, c := range v.credentials() {
			onVectorDate(t, func(t *testing.T) {
				ln := newPipeListener(vectorHost)
				api := startEventAPI(ln, eventAPIOptions{
					graphql:     true,
					credentials: []credentials{c},
					region:      "us-east-1",
				})
				defer api.close()
				auth := string(mustJSON(v.authorization(c)))
				connect := string(mustJSON(graphqlVectors[0].authorization(c)))
				query := "payload=e30=&header=" +
					url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(connect)))
				clients := []*eventAPIClient{
					ln.graphqlClient(t, "/graphql", "graphql-ws, "+graphqlHeader(connect)),
					ln.graphqlClient(t, "/graphql?"+query, "graphql-ws"),
				}
				for _, w := range clients {
					w.send(`{"type":"connection_init"}`)
					w.want("connection_ack 300000")
					w.send(graphqlStart("sub-0001", graphqlVectors[1].body, auth))
					if v.path == "/graphql" {
						w.want("error sub-0001") // authorized, and this schema has no such field
					} else {
						w.want("error sub-0001 BadRequestException")
					}
				}
				w := ln.graphqlClient(
					t, "/graphql",
					"graphql-ws, "+graphqlHeader(string(mustJSON(graphqlVectors[1].authorization(c)))))
				w.want("connection_error BadRequestException")
			})
		}
	}
}

// Frames of AWS's aws-appsync-subscription-link 4.0.3 for Apollo Client, as it sent them to this emulator
// with fictitious credentials: the second sub-protocol and the start message.
const (
	clientHeader = "header-eyJhY2NlcHQiOiJhcHBsaWNhdGlvbi9qc29uLCB0ZXh0L2phdmFzY3JpcHQiLCJjb250ZW50L" +
		"WVuY29kaW5nIjoiYW16LTEuMCIsImNvbnRlbnQtdHlwZSI6ImFwcGxpY2F0aW9uL2pzb247IGNoYXJzZ" +
		"XQ9VVRGLTgiLCJob3N0IjoiMTI3LjAuMC4xOjM1MDAzIiwieC1hbXotZGF0ZSI6IjIwMjYxMTI1VDE3N" +
		"TExMVoiLCJYLUFtei1TZWN1cml0eS1Ub2tlbiI6ImRlbW8tdG9rZW4iLCJBdXRob3JpemF0aW9uIjoiQ" +
		"VdTNC1ITUFDLVNIQTI1NiBDcmVkZW50aWFsPUFLSURFWEFNUExFLzIwMjYxMTI1L3VzLWVhc3QtMS9hc" +
		"HBzeW5jL2F3czRfcmVxdWVzdCwgU2lnbmVkSGVhZGVycz1hY2NlcHQ7Y29udGVudC1lbmNvZGluZztjb" +
		"250ZW50LXR5cGU7aG9zdDt4LWFtei1kYXRlO3gtYW16LXNlY3VyaXR5LXRva2VuLCBTaWduYXR1cmU9Y" +
		"mU3ODlkZDlkZTY0ZjhjYzBmMTU1MTk2ZGQzMTZiNjg1MGM5YWMyN2E5Y2U2NWEwNDI2NGMyZDk5OWNkN" +
		"zEzNSJ9"
	clientStart = `{"id":"2db55595-216e-44fb-b2fc-a90f9f0daeb9",` +
		`"payload":{"data":"{\"query\":\"subscription Sub($name: String!) {\\n  subscribe(name: $name) ` +
		`{\\n    name\\n    data\\n    __typename\\n  }\\n}\",\"variables\":{\"name\":\"/live-lambda/` +
		`requests\"}}","extensions":{"authorization":{"accept":"application/json, text/javascript",` +
		`"content-encoding":"amz-1.0","content-type":"application/json; charset=UTF-8",` +
		`"host":"127.0.0.1:35003","x-amz-date":"20261125T175111Z","X-Amz-Security-Token":"demo-token",` +
		`"Authorization":"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261125/us-east-1/appsync/aws4_request, ` +
		`SignedHeaders=accept;content-encoding;content-type;host;x-amz-date;x-amz-security-token, ` +
		`Signature=2761df55e36c25a663d4f1089c55510bbdc3d89698653b981a18d0414ef7628a",` +
		`"x-amz-user-agent":"aws-amplify/4.0.2"}}},"type":"start"}`
)

// clientKeys signed the frames.
var clientKeys = credentials{
	accessKeyID:     "AKIDEXAMPLE",
	secretAccessKey: "demo-secret",
	sessionToken:    "demo-token",
}

// sleepUntilClientFrames brings a bubble's fake time to when the frames were signed.
func sleepUntilClientFrames() {
	time.Sleep(time.Until(time.Date(2026, 11, 25, 17, 51, 11, 0, time.UTC)))
}

func TestGraphQLAPIAcceptsFramesOfAClientLibrary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sleepUntilClientFrames()
		ln := newPipeListener("127.0.0.1:35003")
		api := startEventAPI(ln, eventAPIOptions{
			graphql:     true,
			credentials: []credentials{clientKeys},
			region:      "us-east-1",
		})
		defer api.close()
		c := ln.graphqlClient(t, "/graphql/realtime", "graphql-ws, "+clientHeader)
		c.send(`{"type":"connection_init"}`)
		c.want("connection_ack 300000")
		c.send(clientStart)
		c.want("start_ack 2db55595-216e-44fb-b2fc-a90f9f0daeb9")
		api.publish("/live-lambda/requests", `"x"`)
		c.want(`data 2db55595-216e-44fb-b2fc-a90f9f0daeb9 {"subscribe":{"__typename":"Channel",` +
			`"data":"\"x\"","name":"/live-lambda/requests"}}`)
		c.send(strings.Replace(clientStart, "/live-lambda/requests", "/live-lambda/other", 1))
		c.want("error 2db55595-216e-44fb-b2fc-a90f9f0daeb9 BadRequestException")
	})
}

// This program's own frames have the fields that the client library's have.
func TestGraphQLFramesHaveTheFieldsOfAClientLibrary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sleepUntilClientFrames()
		peers := newPipeListener("127.0.0.1:35003")
		a := newTestAPI(peers)
		a.graphql = true
		a.http.Host = "127.0.0.1:35003"
		a.http.Path = "/graphql"
		a.realtime.Path = "/graphql/realtime"
		a.region = "us-east-1"
		a.dialect = a.endpoint.dialect()
		a.credentials = func(context.Context) (credentials, error) { return clientKeys, nil }
		done := async(func() (*session, error) { return a.connect(t.Context()) })
		p := acceptPeer(t, peers)
		_, header, _ := strings.Cut(p.request.Header.Get("Sec-WebSocket-Protocol"), ", ")
		p.upgrade("graphql-ws")
		p.operation("connection_init")
		p.say(`{"type":"connection_ack","payload":{"connectionTimeoutMs":300000}}`)
		s := (<-done).value
		subscribed := async(func() (bool, error) {
			return true, s.subscribe(t.Context(), ackTimeout, a.requests(a.stage), func(string) {})
		})
		_, start := p.read()
		frames := []struct{ ours, theirs string }{
			{ours: decodedHeader(t, header), theirs: decodedHeader(t, clientHeader)},
			{ours: start, theirs: clientStart},
		}
		for _, frame := range frames {
			ours := fieldsOf(t, frame.ours)
			// neither needed nor signed
			theirs := slices.DeleteFunc(fieldsOf(t, frame.theirs), func(f string) bool {
				return strings.Contains(f, "x-amz-user-agent")
			})
			if !slices.Equal(ours, theirs) {
				t.Errorf("got\n%q, the library has\n%q", ours, theirs)
			}
		}
		s.conn.close()
		<-subscribed
	})
}

func decodedHeader(t *testing.T, protocol string) string {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(protocol, "header-"))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// fieldsOf lists the fields of a message, those of the JSON in its strings too, with the values that do not
// vary.
func fieldsOf(t *testing.T, message string) (fields []string) {
	var walk func(path string, v any)
	walk = func(path string, v any) {
		var inner any
		switch v := v.(type) {
		case map[string]any:
			for name, value := range v {
				walk(path+"/"+name, value)
			}
			return
		case string:
			if strings.HasPrefix(v, "{") && json.Unmarshal([]byte(v), &inner) == nil {
				walk(path, inner)
				return
			}
			if strings.HasSuffix(path, "/Authorization") {
				v, _, _ = strings.Cut(v, "Signature=")
			}
			if strings.HasSuffix(path, "/host") {
				v, _, _ = strings.Cut(v, ":") // the library names the port
			}
			if !strings.HasSuffix(path, "/query") && path != "/id" {
				path += "=" + v
			}
		}
		fields = append(fields, path)
	}
	var v any
	if err := json.Unmarshal([]byte(message), &v); err != nil {
		t.Fatal(err)
	}
	walk("", v)
	slices.Sort(fields)
	return fields
}
