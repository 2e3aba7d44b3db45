//go:build !layer

package main

// fake_appsync_test.go tests the emulated Event API with a client of its own, so that no mistake of
// appsync.go hides in it.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// ---- the service's answers and limits ----

// apiExchange is a message to the emulator, in which AUTH stands for an authorization, and a digest of its
// answer.
type apiExchange struct {
	name string
	send string
	want string
}

// wantExchanges sends each message on a connection of its own.
func wantExchanges(t *testing.T, tests []apiExchange) {
	t.Helper()
	for _, tt := range tests {
		eventAPITest(t, tt.name, eventAPIOptions{apiKey: "da2-key"},
			func(t *testing.T, api *eventAPI, ln *pipeListener) {
				c := ln.client(t, apiKeyAuth)
				c.send(strings.Replace(tt.send, "AUTH", keyField, 1))
				c.want(tt.want)
			})
	}
}

func TestEventAPIRefusesUnknownMessages(t *testing.T) {
	t.Parallel()
	wantExchanges(t, []apiExchange{
		{name: "init", send: `{"type":"connection_init"}`, want: "connection_ack 300000"},
		{name: "unknown type", send: `{"type":"frobnicate","id":"1"}`, want: "error 1 UnsupportedOperation"},
		{name: "no type", send: `{}`, want: "error UnsupportedOperation"},
		{name: "not JSON", send: `{"type":`, want: "error BadRequestException"},
		{name: "not an object", send: `7`, want: "error BadRequestException"},
	})
}

// The channel's pattern, the namespace, the authorization and the ID decide.
func TestEventAPIConfirmsOrRefusesSubscriptions(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 50)
	wantExchanges(t, []apiExchange{
		{name: "subscribe", send: `{"type":"subscribe","id":"s","channel":"/live-lambda/a",AUTH}`,
			want: "subscribe_success s"},
		{name: "subscribe to a wildcard",
			send: `{"type":"subscribe","id":"s","channel":"/live-lambda/a/*",AUTH}`,
			want: "subscribe_success s"},
		{name: "subscribe to a namespace",
			send: `{"type":"subscribe","id":"s","channel":"/live-lambda/*",AUTH}`,
			want: "subscribe_success s"},
		{name: "subscribe without slashes",
			send: `{"type":"subscribe","id":"s","channel":"live-lambda",AUTH}`,
			want: "subscribe_success s"},
		{name: "five segments",
			send: `{"type":"subscribe","id":"s","channel":"/live-lambda/a/b/c/` + long + `/",AUTH}`,
			want: "subscribe_success s"},
		{name: "six segments", send: `{"type":"subscribe","id":"s","channel":"/live-lambda/a/b/c/d/e",AUTH}`,
			want: "subscribe_error s BadRequestException"},
		{name: "six segments with the wildcard",
			send: `{"type":"subscribe","id":"s","channel":"/live-lambda/a/b/c/d/*",AUTH}`,
			want: "subscribe_error s BadRequestException"},
		{name: "segment of 51",
			send: `{"type":"subscribe","id":"s","channel":"/live-lambda/a` + long + `",AUTH}`,
			want: "subscribe_error s BadRequestException"},
		{name: "underscore", send: `{"type":"subscribe","id":"s","channel":"/live-lambda/a_b",AUTH}`,
			want: "subscribe_error s BadRequestException"},
		{name: "outer dash", send: `{"type":"subscribe","id":"s","channel":"/live-lambda/a-",AUTH}`,
			want: "subscribe_error s BadRequestException"},
		{name: "empty segment", send: `{"type":"subscribe","id":"s","channel":"/live-lambda//a",AUTH}`,
			want: "subscribe_error s BadRequestException"},
		{name: "wildcard in the middle",
			send: `{"type":"subscribe","id":"s","channel":"/live-lambda/*/a",AUTH}`,
			want: "subscribe_error s BadRequestException"},
		{name: "wildcard in a segment",
			send: `{"type":"subscribe","id":"s","channel":"/live-lambda/a*",AUTH}`,
			want: "subscribe_error s BadRequestException"},
		{name: "wildcard alone", send: `{"type":"subscribe","id":"s","channel":"/*",AUTH}`,
			want: "subscribe_error s BadRequestException"},
		{name: "no channel", send: `{"type":"subscribe","id":"s",AUTH}`,
			want: "subscribe_error s BadRequestException"},
		{name: "other namespace", send: `{"type":"subscribe","id":"s","channel":"/default/a",AUTH}`,
			want: "subscribe_error s UnauthorizedException"},
		{name: "no authorization", send: `{"type":"subscribe","id":"s","channel":"/live-lambda/a"}`,
			want: "subscribe_error s UnauthorizedException"},
		{name: "wrong key",
			send: `{"type":"subscribe","id":"s","channel":"/live-lambda/a",` +
				`"authorization":{"x-api-key":"no"}}`,
			want: "subscribe_error s UnauthorizedException"},
		{name: "subscribe without id", send: `{"type":"subscribe","channel":"/live-lambda/a",AUTH}`,
			want: "error BadRequestException"},
		{name: "id with a space", send: `{"type":"subscribe","id":"a b","channel":"/live-lambda/a",AUTH}`,
			want: "subscribe_error a b BadRequestException"},
		{name: "id of 129", send: `{"type":"unsubscribe","id":"` + strings.Repeat("i", 129) + `"}`,
			want: "unsubscribe_error " + strings.Repeat("i", 129) + " BadRequestException"},
		{name: "unsubscribe unknown", send: `{"type":"unsubscribe","id":"s"}`,
			want: "unsubscribe_error s UnknownOperationError"},
	})
}

func TestEventAPIConfirmsOrRefusesPublishes(t *testing.T) {
	t.Parallel()
	wantExchanges(t, []apiExchange{
		{name: "publish",
			send: `{"type":"publish","id":"p","channel":"/live-lambda/a","events":["{\"a\":1}","null"],` +
				`AUTH}`, want: "publish_success p ok 0,1"},
		{name: "five events",
			send: `{"type":"publish","id":"p","channel":"/live-lambda/a","events":["1","2","3","4","5"],` +
				`AUTH}`,
			want: "publish_success p ok 0,1,2,3,4"},
		{name: "six events",
			send: `{"type":"publish","id":"p","channel":"/live-lambda/a","events":["1","2","3","4","5",` +
				`"6"],AUTH}`,
			want: "publish_error p InvalidInputError"},
		{name: "no events", send: `{"type":"publish","id":"p","channel":"/live-lambda/a","events":[],AUTH}`,
			want: "publish_error p InvalidInputError"},
		{name: "event not JSON",
			send: `{"type":"publish","id":"p","channel":"/live-lambda/a","events":["1","hello"],AUTH}`,
			want: "publish_error p BadRequestException"},
		{name: "event not a string",
			send: `{"type":"publish","id":"p","channel":"/live-lambda/a","events":[{"a":1}],AUTH}`,
			want: "publish_error p BadRequestException"},
		{name: "event null",
			send: `{"type":"publish","id":"p","channel":"/live-lambda/a","events":[null],AUTH}`,
			want: "publish_error p BadRequestException"},
		{name: "publish to a wildcard",
			send: `{"type":"publish","id":"p","channel":"/live-lambda/*","events":["1"],AUTH}`,
			want: "publish_error p BadRequestException"},
		{name: "publish to another namespace",
			send: `{"type":"publish","id":"p","channel":"/default/a","events":["1"],AUTH}`,
			want: "publish_error p UnauthorizedException"},
		{name: "publish unauthorized",
			send: `{"type":"publish","id":"p","channel":"/live-lambda/a","events":["1"]}`,
			want: "publish_error p UnauthorizedException"},
	})
}

// An event that is too large fails alone, a publish that is too large as a whole.
func TestEventAPILimitsTheBytesOfPublishes(t *testing.T) {
	t.Parallel()
	event := func(n int) string { return `"` + strings.Repeat("x", n-2) + `"` } // n bytes of JSON
	wantExchanges(t, []apiExchange{
		{name: "largest event",
			send: `{"type":"publish","id":"p","channel":"/live-lambda/a","events":[` +
				apiQuote(event(240_000)) +
				`],AUTH}`, want: "publish_success p ok 0"},
		{name: "too large an event among others",
			send: `{"type":"publish","id":"p","channel":"/live-lambda/a","events":["1",` +
				apiQuote(event(240_001)) + `,"2"],AUTH}`,
			want: "publish_success p ok 0,2 failed 1:EventTooLargeException"},
		{name: "bytes count, not characters",
			send: `{"type":"publish","id":"p","channel":"/live-lambda/a","events":["\"` +
				strings.Repeat("ü", 119_999) + `x\""],AUTH}`,
			want: "publish_success p failed 0:EventTooLargeException"},
		{name: "too large a publish",
			send: `{"type":"publish","id":"p","channel":"/live-lambda/a","events":[` +
				strings.Repeat(apiQuote(event(240_000))+",", 4) + apiQuote(event(240_000)) + `],AUTH}`,
			want: "publish_error p BadRequestException"},
	})
}

func TestEventAPIAnswersPublishesOverHTTPS(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, key, body, want string }{
		{name: "good", key: "da2-key", body: `{"channel":"/live-lambda/a","events":["1","2"]}`,
			want: "200 ok 0,1"},
		{name: "too large an event", key: "da2-key",
			body: `{"channel":"/live-lambda/a","events":["1","` + strings.Repeat("1", 240_001) + `"]}`,
			want: "200 ok 0 failed 1:EventTooLargeException"},
		{name: "other key", key: "no", body: `{"channel":"/live-lambda/a","events":["1"]}`,
			want: "401 error UnauthorizedException"},
		{name: "no key", body: `{"channel":"/live-lambda/a","events":["1"]}`,
			want: "401 error UnauthorizedException"},
		{name: "other namespace", key: "da2-key", body: `{"channel":"/a/b","events":["1"]}`,
			want: "401 error UnauthorizedException"},
		{name: "six events", key: "da2-key",
			body: `{"channel":"/live-lambda/a","events":["1","2","3","4","5","6"]}`,
			want: "400 error InvalidInputError"},
		{name: "not JSON", key: "da2-key", body: `{`, want: "400 error BadRequestException"},
	}
	for _, tt := range tests {
		eventAPITest(t,
			tt.name, eventAPIOptions{apiKey: "da2-key"}, func(t *testing.T, api *eventAPI, ln *pipeListener) {
				got := ln.post(t, http.Header{"X-Api-Key": {tt.key}}, tt.body)
				if got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			})
	}
}

func TestEventAPILimitsSubscriptionsOfAConnection(t *testing.T) {
	t.Parallel()
	eventAPITest(t, "", eventAPIOptions{apiKey: "da2-key"},
		func(t *testing.T, api *eventAPI, ln *pipeListener) {
			c := ln.client(t, apiKeyAuth)
			for i := range 200 {
				c.subscribe(fmt.Sprint(i), "/live-lambda/a")
			}
			c.ask("subscribe", "0", "/live-lambda/b", "subscribe_error 0 DuplicatedOperationError")
			c.ask("subscribe", "200", "/live-lambda/b", "subscribe_error 200 MaxSubscriptionsReachedError")
			c.ask("unsubscribe", "7", "", "unsubscribe_success 7")
			c.ask("unsubscribe", "7", "", "unsubscribe_error 7 UnknownOperationError")
			c.subscribe("200", "/live-lambda/b")
		})
}

func TestEventAPILimitsPublishesASecond(t *testing.T) {
	t.Parallel()
	eventAPITest(t, "", eventAPIOptions{apiKey: "da2-key"},
		func(t *testing.T, api *eventAPI, ln *pipeListener) {
			c, other := ln.client(t, apiKeyAuth), ln.client(t, apiKeyAuth)
			for i := range 25 {
				c.publish(fmt.Sprint(i), "/live-lambda/a", "1")
				time.Sleep(10 * time.Millisecond)
			}
			c.ask("publish", "26", "/live-lambda/a", "publish_error 26 LimitExceededError")
			other.publish("27", "/live-lambda/a", "1") // the quota is each connection's own
			got := ln.post(t, nil, `{"channel":"/live-lambda/a","events":["1"]}`)
			if !strings.HasPrefix(got, "200") {
				t.Errorf("HTTPS publish: got %s, want 200", got)
			}
			time.Sleep(751 * time.Millisecond) // the first of the 25 is a second old, and one more
			c.publish("28", "/live-lambda/a", "1")
			err := api.wait(t.Context(), func(n *eventAPICounts) bool {
				return n.publishes[1] == 27 && n.publishes[2] == 1 && n.publishes[0] == 1 &&
					n.busiest == 26 &&
					n.events["/live-lambda/a"] == 28 && n.errors["LimitExceededError"] == 1 &&
					n.connections == 2 && n.open == 2
			})
			if err != nil {
				t.Error(err)
			}
		})
}

func TestEventAPIEndsAConnectionAfterOneDay(t *testing.T) {
	t.Parallel()
	eventAPITest(t, "",
		eventAPIOptions{apiKey: "da2-key", keepAlive: 9 * time.Hour, timeout: 12 * time.Hour},
		func(t *testing.T, api *eventAPI, ln *pipeListener) {
			start := time.Now()
			c := ln.client(t, apiKeyAuth)
			c.send(`{"type":"connection_init"}`)
			c.want("connection_ack 43200000", "ka", "ka")
			c.wantEnd(errGoodbye)
			got := time.Since(start)
			if got != 24*time.Hour {
				t.Errorf("connection lasted %v, want 24h", got)
			}
		})
}

func TestEventAPIDeliversToMatchingSubscriptions(t *testing.T) {
	t.Parallel()
	for _, array := range []bool{false, true} {
		eventAPITest(t, fmt.Sprintf("array=%v", array),
			eventAPIOptions{apiKey: "da2-key", documentedData: array},
			func(t *testing.T, api *eventAPI, ln *pipeListener) {
				c, other := ln.client(t, apiKeyAuth), ln.client(t, apiKeyAuth)
				c.subscribe("exact", "live-lambda/r/1/") // outer slashes do not count
				c.subscribe("deep", "/live-lambda/*")
				other.subscribe("parent", "/live-lambda/r/1/*")
				other.subscribe("sibling", "/live-lambda/r/11")

				c.send(`{"type":"publish","id":"p","channel":"/live-lambda/r/1","events":["{\"n\":1}",` +
					`"\"<é&\u2028>\""],` + keyField + `}`)
				c.wantAll(`data deep "\"<é&\u2028>\""`, `data deep "{\"n\":1}"`,
					`data exact "\"<é&\u2028>\""`,
					`data exact "{\"n\":1}"`, "publish_success p ok 0,1")
				api.publish("/live-lambda/r/1/2/3", "not JSON")
				other.want(`data parent "not JSON"`)
				c.want(`data deep "not JSON"`)
			})
	}
}

func TestEventAPIDeliversAfterTheActivation(t *testing.T) {
	t.Parallel()
	eventAPITest(t, "",
		eventAPIOptions{apiKey: "da2-key", activation: 2 * time.Second},
		func(t *testing.T, api *eventAPI, ln *pipeListener) {
			c := ln.client(t, apiKeyAuth)
			c.subscribe("s", "/live-lambda/a")
			time.Sleep(2*time.Second - 1)
			api.publish("/live-lambda/a", "1")
			time.Sleep(time.Nanosecond)
			api.publish("/live-lambda/a", "2")
			c.want(`data s "2"`)
		})
}

// What is on its way does not wait for what went before it.
func TestEventAPIDelaysMessagesInAPipeline(t *testing.T) {
	t.Parallel()
	eventAPITest(t, "", eventAPIOptions{apiKey: "da2-key", delay: 25 * time.Millisecond},
		func(t *testing.T, api *eventAPI, ln *pipeListener) {
			c := ln.client(t, apiKeyAuth)
			start := time.Now()
			for i := range 10 {
				c.send(fmt.Sprintf(
					`{"type":"publish","id":"%d","channel":"/live-lambda/a","events":["1"],%s}`, i, keyField))
			}
			for i := range 10 {
				c.want(fmt.Sprintf("publish_success %d ok 0", i))
			}
			ln.post(t, nil, `{"channel":"/live-lambda/a","events":["1"]}`)
			got := time.Since(start)
			if got != 100*time.Millisecond {
				t.Errorf("ten publishes at once and one over HTTPS took %v, want 100ms", got)
			}
		})
}

func TestEventAPIEndsSlowReaders(t *testing.T) {
	t.Parallel()
	eventAPITest(t, "", eventAPIOptions{apiKey: "da2-key"},
		func(t *testing.T, api *eventAPI, ln *pipeListener) {
			slow, quick := ln.client(t, apiKeyAuth), ln.client(t, apiKeyAuth)
			slow.subscribe("s", "/live-lambda/a")
			quick.subscribe("q", "/live-lambda/a")
			const n = 2 * outQueue
			start := time.Now()
			go func() {
				for range n {
					api.publish("/live-lambda/a", "1")
				}
			}()
			for range n {
				quick.want(`data q "1"`)
			}
			got := time.Since(start)
			if got != slowReader {
				t.Errorf("the quick reader waited %v for the slow one, want %v once", got, slowReader)
			}
			conns, err := api.subscribers(t.Context(), "/live-lambda/*", 1)
			if err != nil || !slices.Equal(conns, []int{2}) {
				t.Errorf("connections left %v, %v; want [2]", conns, err)
			}
		})
}

// BenchmarkEventAPI publishes 1.15 MB in five events over HTTP, and reads them on a WebSocket.
func BenchmarkEventAPI(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	api := startEventAPI(ln, eventAPIOptions{apiKey: "da2-key", host: "example.com"})
	defer api.close()
	c := dialEventAPI(b, func() (net.Conn, error) {
		return net.Dial("tcp", ln.Addr().String())
	}, "example.com", apiKeyAuth)
	c.subscribe("s", "/live-lambda/a")
	event := apiQuote(`{"data":"` + strings.Repeat("x", 229_900) + `"}`)
	body := `{"channel":"/live-lambda/a","events":[` + strings.Repeat(event+",", 4) + event + `]}`
	b.SetBytes(int64(len(body)))
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for range 5 * b.N {
			c.receive()
		}
	})
	for range b.N {
		req, err := http.NewRequest(
			http.MethodPost, "http://"+ln.Addr().String()+"/event", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("X-Api-Key", "da2-key")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// ---- faults ----

func TestEventAPICarriesOutVerdicts(t *testing.T) {
	t.Parallel()
	success := func(f apiFrame) bool { return f.typ == "publish_success" }
	request := func(f apiFrame) bool { return f.typ == "publish" }
	data := func(f apiFrame) bool { return f.typ == "data" }
	published := []string{`data s "1"`, "publish_success p ok 0"}
	ping := []byte{'h', 'i'}
	text := []byte(`{"type":"data","id":"s","event":"\"in three frames\""}`)
	tests := []struct {
		name    string
		hit     func(apiFrame) bool
		verdict apiVerdict
		want    []string
		end     error
	}{
		{name: "pass", hit: data, verdict: apiVerdict{}, want: published},
		{name: "drop the request", hit: request, verdict: apiVerdict{replace: dropped}},
		{name: "drop the event", hit: data, verdict: apiVerdict{replace: dropped}, want: published[1:]},
		{name: "drop the answer", hit: success, verdict: apiVerdict{replace: dropped}, want: published[:1]},
		{name: "double the event", hit: data, verdict: apiVerdict{replace: [][]byte{dataOne, dataOne}},
			want: []string{published[0], published[0], published[1]}},
		{name: "another answer", hit: success,
			verdict: apiVerdict{replace: [][]byte{
				[]byte(`{"type":"publish_error","id":"p","errors":[{"errorType":"LimitExceededError"}]}`)}},
			want: []string{published[0], "publish_error p LimitExceededError"}},
		{name: "another request", hit: request,
			verdict: apiVerdict{replace: [][]byte{[]byte(`{"type":"unsubscribe","id":"s"}`), []byte(`]`)}},
			want:    []string{"unsubscribe_success s", "error BadRequestException"}},
		{name: "frames and pings", hit: data,
			verdict: apiVerdict{replace: dropped,
				wire: slices.Concat(
					webSocketFrame(false, 1, text[:9]), webSocketFrame(true, 9, ping),
					webSocketFrame(false, 0, text[9:20]), webSocketFrame(true, 0, text[20:]))},
			want: []string{`data s "\"in three frames\""`, published[1]}},
		{name: "close before the request", hit: request,
			verdict: apiVerdict{replace: dropped, after: closePolitely}, end: errGoodbye},
		{name: "close after the request", hit: request, verdict: apiVerdict{after: closePolitely},
			want: published, end: errGoodbye},
		{name: "close after the event", hit: data, verdict: apiVerdict{after: closePolitely},
			want: published[:1], end: errGoodbye},
		{name: "not JSON", hit: data, verdict: apiVerdict{replace: [][]byte{[]byte(`{"type":`)}},
			want: []string{"not JSON", published[1]}},
		{name: "reset before the request", hit: request,
			verdict: apiVerdict{replace: dropped, after: resetConnection}, end: syscall.ECONNRESET},
		{name: "reset instead of the event", hit: data,
			verdict: apiVerdict{replace: dropped, after: resetConnection}, end: syscall.ECONNRESET},
		{name: "half-open at the request", hit: request,
			verdict: apiVerdict{replace: dropped, after: goHalfOpen}, end: errSilent},
		{name: "half-open after the event", hit: data, verdict: apiVerdict{after: goHalfOpen},
			want: published[:1], end: errSilent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			api := startEventAPI(ln, eventAPIOptions{apiKey: "da2-key"})
			defer api.close()
			c := dialEventAPI(t, func() (net.Conn, error) {
				return net.Dial("tcp", ln.Addr().String())
			}, "127.0.0.1", strings.Replace(apiKeyAuth, "example.com", "127.0.0.1", 1))
			c.subscribe("s", "/live-lambda/a")
			api.intercept(func(f apiFrame) apiVerdict {
				if tt.hit(f) {
					return tt.verdict
				}
				return apiVerdict{}
			})
			c.send(`{"type":"publish","id":"p","channel":"/live-lambda/a","events":["1"],` + keyField + `}`)
			c.want(tt.want...)
			c.wantEnding(api, tt.end)
		})
	}
}

// wantEnding expects what a verdict has made of the client's connection, the only one: nil if it goes on.
func (c *eventAPIClient) wantEnding(api *eventAPI, want error) {
	c.t.Helper()
	switch want {
	case nil:
		c.send(`{"type":"connection_init"}`) // nothing more comes before its answer
		c.want("connection_ack 300000")
	case errSilent:
		err := api.wait(c.t.Context(), func(n *eventAPICounts) bool { return n.open == 0 })
		if err != nil {
			c.t.Fatal(err)
		}
		c.send(`{"type":"connection_init"}`)
		c.nc.SetReadDeadline(time.Now()) // what had been written would be here
		raw, err := c.tryReceive()
		if !isTimeout(err) {
			c.t.Errorf("got %q, %v from a half-open connection", raw, err)
		}
	default:
		c.wantEnd(want)
	}
}

func TestEventAPIHoldsFrames(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{"publish", "publish_success"} {
		eventAPITest(t, typ, eventAPIOptions{apiKey: "da2-key"},
			func(t *testing.T, api *eventAPI, ln *pipeListener) {
				c, other := ln.client(t, apiKeyAuth), ln.client(t, apiKeyAuth)
				release := make(chan struct{})
				api.intercept(func(f apiFrame) apiVerdict {
					if f.conn == 1 && f.typ == typ && f.id == "1" {
						return apiVerdict{until: release}
					}
					return apiVerdict{}
				})
				for i := 1; i <= 3; i++ {
					c.send(fmt.Sprintf(
						`{"type":"publish","id":"%d","channel":"/live-lambda/a","events":["1"],%s}`, i,
						keyField))
				}
				start := time.Now()
				other.publish("4", "/live-lambda/a", "1")
				got := time.Since(start)
				if got != 0 {
					t.Errorf("the other connection was held for %v", got)
				}
				time.AfterFunc(time.Hour, func() { close(release) })
				c.want("publish_success 1 ok 0", "publish_success 2 ok 0", "publish_success 3 ok 0")
				got = time.Since(start)
				if got != time.Hour {
					t.Errorf("held for %v, want 1h", got)
				}
			})
	}
}

func TestEventAPIActsOnConnections(t *testing.T) {
	t.Parallel()
	eventAPITest(t, "",
		eventAPIOptions{apiKey: "da2-key"}, func(t *testing.T, api *eventAPI, ln *pipeListener) {
			var clients []*eventAPIClient
			for range 4 {
				clients = append(clients, ln.client(t, apiKeyAuth))
				clients[len(clients)-1].subscribe("s", "/live-lambda/a")
			}
			conns, err := api.subscribers(t.Context(), "/live-lambda/a", 4)
			want := []int{1, 2, 3, 4}
			if err != nil || !slices.Equal(conns, want) {
				t.Fatalf("subscribers: %v, %v; want %v", conns, err, want)
			}
			if !api.do(1,
				apiVerdict{wire: webSocketFrame(true, 9, nil), replace: [][]byte{[]byte(`{"type":"ka"}`)}}) {
				t.Error("connection 1 is not open")
			}
			clients[0].want("ka")
			api.do(2, apiVerdict{after: closePolitely})
			clients[1].wantEnd(errGoodbye)
			api.do(3, apiVerdict{after: resetConnection})
			clients[2].wantEnd(io.EOF)
			api.do(4, apiVerdict{after: goHalfOpen})
			if api.do(4, apiVerdict{}) || api.do(5, apiVerdict{}) {
				t.Error("do found a connection that is half-open, or none")
			}
			api.publish("/live-lambda/a", "1")
			clients[0].want(`data s "1"`)
			conns, _ = api.subscribers(t.Context(), "/live-lambda/*", 0)
			if !slices.Equal(conns, []int{1}) {
				t.Errorf("subscribers left: %v, want [1]", conns)
			}
		})
}

func TestEventAPIWaitsAsLongAsTheContext(t *testing.T) {
	t.Parallel()
	eventAPITest(t, "", eventAPIOptions{apiKey: "da2-key"},
		func(t *testing.T, api *eventAPI, ln *pipeListener) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := api.subscribers(ctx, "/live-lambda/a", 1)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
			}
		})
}

func TestEventAPICarriesOutVerdictsOnUpgrades(t *testing.T) {
	t.Parallel()
	eventAPITest(t, "", eventAPIOptions{apiKey: "da2-key"},
		func(t *testing.T, api *eventAPI, ln *pipeListener) {
			api.intercept(func(f apiFrame) apiVerdict {
				switch {
				case f.typ != "upgrade":
					return apiVerdict{}
				case f.conn < 3:
					return apiVerdict{status: 402 + f.conn}
				case f.conn == 3:
					return apiVerdict{until: make(chan struct{})}
				case f.conn == 4:
					return apiVerdict{replace: dropped}
				case f.conn == 5:
					return apiVerdict{after: resetConnection}
				}
				return apiVerdict{}
			})
			var got []int
			for range 5 {
				got = append(got, ln.upgrade(t, "aws-appsync-event-ws, "+headerProtocol(apiKeyAuth)))
			}
			if !slices.Equal(got, []int{403, 404, 0, 0, 0}) {
				t.Errorf("statuses of the upgrades: %v, want 403, 404, none in time, none, none", got)
			}
			c := ln.client(t, apiKeyAuth)
			c.publish("p", "/live-lambda/a", "1")
		})
}

// What is behind an ack that never comes is answered.
func TestEventAPIDropsTheConnectionAck(t *testing.T) {
	t.Parallel()
	eventAPITest(t, "", eventAPIOptions{apiKey: "da2-key"},
		func(t *testing.T, api *eventAPI, ln *pipeListener) {
			api.intercept(func(f apiFrame) apiVerdict {
				if f.typ == "connection_ack" {
					return apiVerdict{replace: dropped}
				}
				return apiVerdict{}
			})
			c := ln.client(t, apiKeyAuth)
			c.send(`{"type":"connection_init"}`)
			c.publish("p", "/live-lambda/a", "1")
		})
}

// A publish that is refused has not happened; one whose reply is lost has.
func TestEventAPICarriesOutVerdictsOnHTTPSPublishes(t *testing.T) {
	t.Parallel()
	eventAPITest(t, "", eventAPIOptions{apiKey: "da2-key"},
		func(t *testing.T, api *eventAPI, ln *pipeListener) {
			body := `{"channel":"/live-lambda/a","events":["1"]}`
			api.intercept(func(f apiFrame) apiVerdict {
				if f.typ == "http_publish" && f.channel == "/live-lambda/a" {
					return apiVerdict{status: 429}
				}
				return apiVerdict{}
			})
			got := ln.post(t, nil, body)
			if got != "429" {
				t.Errorf("HTTPS publish: got %s, want 429", got)
			}
			api.intercept(func(apiFrame) apiVerdict { return apiVerdict{after: resetConnection} })
			got = ln.post(t, nil, body)
			if got != "EOF" {
				t.Errorf("HTTPS publish: got %s, want EOF", got)
			}
			api.intercept(nil)
			got = ln.post(t, nil, body)
			if got != "200 ok 0" {
				t.Errorf("HTTPS publish: got %s, want 200", got)
			}
			err := api.wait(t.Context(), func(n *eventAPICounts) bool {
				return n.events["/live-lambda/a"] == 2
			})
			if err != nil {
				t.Error(err)
			}
		})
}

// A reset shows as such to a client that speaks TLS.
func TestEventAPIResetsConnectionsBelowTLS(t *testing.T) {
	t.Parallel()
	https := httptest.NewTLSServer(nil) // for its certificate
	defer https.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	api := startEventAPI(
		tls.NewListener(tcp, &tls.Config{Certificates: https.TLS.Certificates}),
		eventAPIOptions{apiKey: "da2-key"})
	defer api.close()
	trust := https.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	trust.ServerName = "example.com"
	c := dialEventAPI(t, func() (net.Conn, error) {
		return tls.Dial("tcp", tcp.Addr().String(), trust)
	}, "example.com", apiKeyAuth)
	c.subscribe("s", "/live-lambda/a")
	api.do(1, apiVerdict{after: resetConnection})
	c.wantEnd(syscall.ECONNRESET)
}

// A client that says goodbye right after a publish has published, and hears a goodbye.
func TestEventAPIWorksThroughWhatItRead(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		eventAPITest(t, fmt.Sprintf("silent=%v", silent),
			eventAPIOptions{apiKey: "da2-key", delay: time.Second},
			func(t *testing.T, api *eventAPI, ln *pipeListener) {
				c := ln.client(t, apiKeyAuth)
				c.send(`{"type":"publish","id":"p","channel":"/live-lambda/a","events":["1"],` + keyField +
					`}`)
				if silent {
					c.nc.Close()
				} else {
					c.ws.WriteClose(1000)
					c.want("publish_success p ok 0")
					c.wantEnd(errGoodbye)
				}
				err := api.wait(t.Context(), func(n *eventAPICounts) bool {
					return n.events["/live-lambda/a"] == 1 && n.open == 0
				})
				if err != nil {
					t.Error(err)
				}
			})
	}
}

// The bubble fails the test if a goroutine is left.
func TestEventAPICloseEndsWhateverHangs(t *testing.T) {
	t.Parallel()
	eventAPITest(t, "", eventAPIOptions{
		apiKey: "da2-key"}, func(t *testing.T, api *eventAPI, ln *pipeListener) {
		never := make(chan struct{})
		var hung sync.WaitGroup
		held := 0
		api.intercept(func(f apiFrame) apiVerdict {
			switch {
			case f.conn == 4 && f.typ == "upgrade", f.typ == "http_publish",
				f.conn == 1 && f.typ == "publish", f.conn == 2 && f.typ == "publish_success":
				held++
				return apiVerdict{until: never}
			case f.conn == 3 && f.typ == "publish":
				held++
				return apiVerdict{after: goHalfOpen}
			}
			return apiVerdict{}
		})
		for range 3 {
			c := ln.client(t, apiKeyAuth)
			c.send(`{"type":"publish","id":"p","channel":"/live-lambda/a","events":["1"],` + keyField + `}`)
		}
		hung.Go(func() {
			got := ln.upgrade(t, "aws-appsync-event-ws")
			if got != 0 {
				t.Errorf("upgrade: status %d, want none", got)
			}
		})
		hung.Go(func() {
			got := ln.post(t, nil, `{"channel":"/live-lambda/a","events":["1"]}`)
			if got != "EOF" {
				t.Errorf("HTTPS publish: got %s, want EOF", got)
			}
		})
		synctest.Wait()
		start := time.Now()
		api.close()
		hung.Wait()
		got := time.Since(start)
		if got != 0 || held != 5 {
			t.Errorf("close took %v with %d held, want 0s with 5", got, held)
		}
		_, err := ln.dial(t.Context(), "", "")
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial after close: %v", err)
		}
	})
}
