//go:build !layer

package main

// appsync_graphql_test.go tests the session of appsync.go over a GraphQL API.

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// What goes out to a GraphQL API, field by field: the handshake, messages, and mutations, signed for what
// they are.
func TestGraphQLSession(t *testing.T) {
	onVectorDate(t, func(t *testing.T) {
		for _, c := range graphqlVectors[0].credentials() {
			ln := newPipeListener("example.com")
			a := graphqlVectors[0].api(ln, c)
			a.graphql, a.http.Path, a.realtime.Path = true, "/graphql", "/graphql"
			a.dialect = a.endpoint.dialect()
			done := async(func() (*session, error) { return a.connect(t.Context()) })
			p := acceptPeer(t, ln)
			offered := strings.Split(p.request.Header.Get("Sec-WebSocket-Protocol"), ", ")
			if len(offered) != 2 || offered[0] != "graphql-ws" || p.request.RequestURI != "/graphql" {
				t.Fatalf("%s, sub-protocols %q", p.request.RequestURI, offered)
			}
			encoded, _ := strings.CutPrefix(offered[1], "header-")
			raw, err := base64.RawURLEncoding.DecodeString(encoded)
			if got, want := jsonStrings(t, raw),
				graphqlVectors[0].authorization(c); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("connect: got %v, %v; want %v", got, err, want)
			}
			p.upgrade("graphql-ws")
			p.operation("connection_init")
			p.say(`{"type":"connection_ack","payload":{"connectionTimeoutMs":300000}}`)
			s := (<-done).value
			if s == nil {
				t.Fatal("no session")
			}
			events := make(chan string, 1)
			subscribed := async(func() (bool, error) {
				return true, s.subscribe(t.Context(), ackTimeout, "/live-lambda/a", func(event string) {
					events <- event
				})
			})
			var start struct {
				Type, ID string
				Payload  struct {
					Data       string
					Extensions struct{ Authorization map[string]string }
				}
			}
			_, message := p.read()
			if err := json.Unmarshal([]byte(message), &start); err != nil {
				t.Fatal(err)
			}
			want := strings.Replace(graphqlSubscription, "NAME", "/live-lambda/a", 1)
			headers := map[string]string{
				"accept": "application/json, text/javascript", "content-encoding": "amz-1.0",
				"content-type": "application/json; charset=UTF-8", "host": vectorHost,
				"x-amz-date": vectorAmzDate}
			if c.sessionToken != "" {
				headers["x-amz-security-token"] = c.sessionToken
			}
			signed := c.authorization(
				"us-east-1", vectorAmzDate, "/graphql", headers, []byte(start.Payload.Data))
			if start.Type != "start" || start.ID == "" || start.Payload.Data != want ||
				start.Payload.Extensions.Authorization["Authorization"] != signed {
				t.Errorf("got %s", message)
			}
			p.say(`{"type":"start_ack","id":%q}`, start.ID)
			if r := <-subscribed; r.err != nil {
				t.Fatal(r.err)
			}
			p.say(`{"type":"data","id":%q,"payload":{"data":{"subscribe":{"name":"/live-lambda/a",`+
				`"data":"{\"a\":1}"}}}}`, start.ID)
			if event := <-events; event != `{"a":1}` {
				t.Errorf("got event %s", event)
			}
			s.conn.close()
		}
	})
}

// Publishes to a GraphQL API are mutations on a connection that is kept, until it has been idle or there is a
// new WebSocket: what was before that may be dead.
func TestGraphQLPublishesOverHTTPS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, ln := startTestAPI(t, eventAPIOptions{graphql: true})
		var dials atomic.Int64
		a := newTestAPI(ln)
		a.graphql, a.http.Path, a.realtime.Path = true, "/graphql", "/graphql/realtime"
		a.dialect = a.endpoint.dialect()
		a.transport =
			&http.Transport{IdleConnTimeout: staleAfter,
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					dials.Add(1)
					return ln.dial(ctx, network, address)
				}}
		defer a.transport.CloseIdleConnections()
		publish := func(s *session, want int64) {
			t.Helper()
			for i := range 50 {
				if err := s.publish(
					t.Context(), "/live-lambda/a", asBytes([]string{fmt.Sprint(i)}), true); err != nil {
					t.Fatal(err)
				}
			}
			if got := dials.Load(); got != want {
				t.Errorf("%d dials, want %d", got, want)
			}
		}
		connect := func() *session {
			s, err := a.connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.conn.close)
			return s
		}
		s := connect()
		publish(s, 2)
		time.Sleep(staleAfter + time.Second)
		publish(s, 3)
		publish(connect(), 5)
		api.wait(t.Context(), func(c *eventAPICounts) bool {
			if c.publishes[0] != 150 || c.connections != 2 || len(c.publishes) != 1 ||
				c.events["/live-lambda/a"] != 150 {
				t.Errorf("publishes %v, events %v", c.publishes, c.events)
			}
			return true
		})
	})
}

func TestGraphQLPublishHTTPSAnswers(t *testing.T) {
	for _, tt := range []struct {
		answer, err string
		refused     bool
	}{
		{answer: `200 {"data":{"publish":{"name":"/a","data":"1"}}}`},
		{answer: `200 {"data":{"publish":null}}`, err: `AppSync failed to publish: OK ""`},
		{answer: `200 {"data":null}`, err: `AppSync failed to publish: OK ""`},
		{answer: `200 {"data":{"publish":null},"errors":[{"path":["publish"],"errorType":"Unauthorized",` +
			`"message":"Not Authorized to access publish on type Mutation"}]}`,
			err: `AppSync refused to publish: Unauthorized "Not Authorized to access publish on type ` +
				`Mutation"; ` +
				`grant appsync:GraphQL on arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID/types/Mutation/` +
				`fields/publish`, refused: true},
		{answer: `200 {"data":null,"errors":[{"message":"Validation error of type FieldUndefined"}]}`,
			err: `AppSync failed to publish: no error type "Validation error of type FieldUndefined"`},
		{answer: `401 {"errors":[{"errorType":"UnauthorizedException","message":"Permission denied"}]}`,
			err: `AppSync refused to publish: UnauthorizedException "Permission denied"; grant ` +
				`appsync:GraphQL`,
			refused: true},
		{answer: `429 {"errors":[{"errorType":"LimitExceededError","message":"Rate limit exceeded"}]}`,
			err: `AppSync failed to publish: LimitExceededError "Rate limit exceeded"`},
	} {
		t.Run(tt.answer, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener("example.com")
				a := newTestAPI(ln)
				a.graphql, a.http.Path = true, "/graphql"
				a.dialect = a.endpoint.dialect()
				done := async(func() (bool, error) {
					return true, a.publishHTTPS(t.Context(), ackTimeout, []byte(`{"query":""}`))
				})
				p := acceptPeer(t, ln)
				status, body := splitAnswer(tt.answer)
				p.write(fmt.Sprintf(
					"HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", status,
					http.StatusText(status), len(body), body))
				err := (<-done).err
				if (err == nil) != (tt.err == "") ||
					err != nil &&
						(!strings.HasPrefix(err.Error(), tt.err) ||
							strings.Contains(err.Error(), "; grant") != tt.refused) {
					t.Errorf("got %v, want %s", err, tt.err)
				}
			})
		})
	}
}
