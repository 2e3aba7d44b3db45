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

// useGraphQL makes an API's client one of a GraphQL API.
func useGraphQL(a *appsync, realtimePath string) {
	a.graphql = true
	a.http.Path = "/graphql"
	a.realtime.Path = realtimePath
	a.dialect = a.endpoint.dialect()
}

// connectGraphQL connects with the credentials of a vector, and checks the handshake, which is signed.
func connectGraphQL(t *testing.T, c credentials) (*session, *peer) {
	t.Helper()
	ln := newPipeListener("example.com")
	a := graphqlVectors[0].api(ln, c)
	useGraphQL(a, "/graphql")
	done := async(func() (*session, error) { return a.connect(t.Context()) })
	p := acceptPeer(t, ln)
	offered := strings.Split(p.request.Header.Get("Sec-WebSocket-Protocol"), ", ")
	if len(offered) != 2 || offered[0] != "graphql-ws" || p.request.RequestURI != "/graphql" {
		t.Fatalf("%s, sub-protocols %q", p.request.RequestURI, offered)
	}
	encoded, _ := strings.CutPrefix(offered[1], "header-")
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	got, want := jsonStrings(t, raw), graphqlVectors[0].authorization(c)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("connect: got %v, %v; want %v", got, err, want)
	}
	p.upgrade("graphql-ws")
	p.operation("connection_init")
	p.say(`{"type":"connection_ack","payload":{"connectionTimeoutMs":300000}}`)
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.value, p
}

// checkStart checks the message that starts a subscription, which is signed for its query, and returns its
// ID.
func checkStart(t *testing.T, message string, c credentials) string {
	t.Helper()
	var start struct {
		Type, ID string
		Payload  struct {
			Data       string
			Extensions struct{ Authorization map[string]string }
		}
	}
	if err := json.Unmarshal([]byte(message), &start); err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{
		"accept":           "application/json, text/javascript",
		"content-encoding": "amz-1.0",
		"content-type":     "application/json; charset=UTF-8",
		"host":             vectorHost,
		"x-amz-date":       vectorAmzDate,
	}
	if c.sessionToken != "" {
		headers["x-amz-security-token"] = c.sessionToken
	}
	signed := c.authorization("us-east-1", vectorAmzDate, "/graphql", headers, []byte(start.Payload.Data))
	if start.Type != "start" || start.ID == "" ||
		start.Payload.Data != strings.Replace(graphqlSubscription, "NAME", "/live-lambda/a", 1) ||
		start.Payload.Extensions.Authorization["Authorization"] != signed {
		t.Errorf("got %s", message)
	}
	return start.ID
}

func TestGraphQLSessionSignsItsHandshakeAndItsSubscriptions(t *testing.T) {
	t.Parallel()
	onVectorDate(t, func(t *testing.T) {
		for _, c := range graphqlVectors[0].credentials() {
			s, p := connectGraphQL(t, c)
			events := make(chan string, 1)
			subscribed := asyncError(func() error {
				return s.subscribe(t.Context(), ackTimeout, "/live-lambda/a", func(event string) {
					events <- event
				})
			})
			_, message := p.read()
			id := checkStart(t, message, c)
			p.say(`{"type":"start_ack","id":%q}`, id)
			if err := <-subscribed; err != nil {
				t.Fatal(err)
			}
			p.say(`{"type":"data","id":%q,"payload":{"data":{"subscribe":{"name":"/live-lambda/a",`+
				`"data":"{\"a\":1}"}}}}`, id)
			if event := <-events; event != `{"a":1}` {
				t.Errorf("got event %s", event)
			}
			s.conn.close()
		}
	})
}

// Publishes to a GraphQL API are mutations over HTTPS. Their connection is given up when it has been idle, or
// there is a new WebSocket: what was before that may be dead.
func TestGraphQLPublishesShareAConnectionUntilItIsIdleOrTheLinkIsNew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api, ln := startTestAPI(t, eventAPIOptions{graphql: true})
		var dials atomic.Int64
		a := newTestAPI(ln)
		useGraphQL(a, "/graphql/realtime")
		a.transport = &http.Transport{
			IdleConnTimeout: staleAfter,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				dials.Add(1)
				return ln.dial(ctx, network, address)
			},
		}
		defer a.transport.CloseIdleConnections()
		connect := func() *session {
			s, err := a.connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.conn.close)
			return s
		}
		publish := func(s *session, wantDials int64) {
			t.Helper()
			for i := range 50 {
				err := s.publish(t.Context(), "/live-lambda/a", asBytes([]string{fmt.Sprint(i)}), awaited)
				if err != nil {
					t.Fatal(err)
				}
			}
			if got := dials.Load(); got != wantDials {
				t.Errorf("%d dials, want %d", got, wantDials)
			}
		}

		s := connect()
		publish(s, 2) // one dial is the WebSocket's
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

func TestGraphQLPublishReturnsWhatAppSyncSays(t *testing.T) {
	t.Parallel()
	tests := []struct {
		answer  string
		want    string // how the error begins; none: it succeeds
		refused bool
	}{
		{answer: `200 {"data":{"publish":{"name":"/a","data":"1"}}}`},
		{answer: `200 {"data":{"publish":null}}`, want: `AppSync failed to publish: OK ""`},
		{answer: `200 {"data":null}`, want: `AppSync failed to publish: OK ""`},
		{
			answer: `200 {"data":{"publish":null},"errors":[{"path":["publish"],"errorType":"Unauthorized",` +
				`"message":"Not Authorized to access publish on type Mutation"}]}`,
			want: `AppSync refused to publish: Unauthorized "Not Authorized to access publish on type ` +
				`Mutation"; grant appsync:GraphQL on ` +
				`arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID/types/Mutation/fields/publish`,
			refused: true,
		},
		{
			answer: `200 {"data":null,"errors":[{"message":"Validation error of type FieldUndefined"}]}`,
			want:   `AppSync failed to publish: no error type "Validation error of type FieldUndefined"`,
		},
		{
			answer: `401 {"errors":[{"errorType":"UnauthorizedException","message":"Permission denied"}]}`,
			want: `AppSync refused to publish: UnauthorizedException "Permission denied"; grant ` +
				`appsync:GraphQL`,
			refused: true,
		},
		{
			answer: `429 {"errors":[{"errorType":"LimitExceededError","message":"Rate limit exceeded"}]}`,
			want:   `AppSync failed to publish: LimitExceededError "Rate limit exceeded"`,
		},
	}
	for _, test := range tests {
		t.Run(test.answer, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener("example.com")
				a := newTestAPI(ln)
				useGraphQL(a, a.realtime.Path)
				done := asyncError(func() error {
					return a.publishHTTPS(t.Context(), ackTimeout, []byte(`{"query":""}`))
				})
				p := acceptPeer(t, ln)
				if err := p.answer(test.answer); err != nil {
					t.Error(err)
				}
				err := <-done
				checkError(t, err, test.want)
				if err != nil && (!strings.HasPrefix(err.Error(), test.want) ||
					strings.Contains(err.Error(), "; grant") != test.refused) {
					t.Errorf("got %v, want %s", err, test.want)
				}
			})
		})
	}
}
