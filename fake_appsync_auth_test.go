//go:build !layer

package main

// fake_appsync_auth_test.go tests which handshakes and operations the emulated AppSync authorizes.

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// headerProtocol is the sub-protocol that carries an authorization object.
func headerProtocol(auth string) string {
	return "header-" + base64.RawURLEncoding.EncodeToString([]byte(auth))
}

func TestEventAPIAuthorizesConnections(t *testing.T) {
	tests := []struct{ name, protocols, want string }{
		{name: "as AWS has it", protocols: "aws-appsync-event-ws, " + headerProtocol(apiKeyAuth),
			want: "connection_ack 300000"},
		{name: "the other way round", protocols: headerProtocol(apiKeyAuth) + ",aws-appsync-event-ws",
			want: "connection_ack 300000"},
		{name: "white space and a port",
			protocols: "aws-appsync-event-ws, " +
				headerProtocol(` {"x-api-key": "da2-key", "host": "EXAMPLE.com:443" } `+"\n"),
			want: "connection_ack 300000"},
		{name: "padded", protocols: "aws-appsync-event-ws, " + headerProtocol(apiKeyAuth+"  ") + "=",
			want: "connection_error BadRequestException"},
		{name: "not base64", protocols: "aws-appsync-event-ws, header-a!b",
			want: "connection_error BadRequestException"},
		{name: "not JSON", protocols: "aws-appsync-event-ws, " + headerProtocol(`{"host":`),
			want: "connection_error BadRequestException"},
		{name: "no host", protocols: "aws-appsync-event-ws, " + headerProtocol(`{"x-api-key":"da2-key"}`),
			want: "connection_error BadRequestException"},
		{name: "other host",
			protocols: "aws-appsync-event-ws, " +
				headerProtocol(`{"host":"example.org","x-api-key":"da2-key"}`),
			want: "connection_error BadRequestException"},
		{name: "other key",
			protocols: "aws-appsync-event-ws, " + headerProtocol(`{"host":"example.com","x-api-key":"da2"}`),
			want:      "connection_error UnauthorizedException"},
		{name: "nothing", protocols: "aws-appsync-event-ws", want: "connection_error UnauthorizedException"},
	}
	for _, tt := range tests {
		eventAPITest(t, tt.name,
			eventAPIOptions{apiKey: "da2-key"}, func(t *testing.T, api *eventAPI, ln *pipeListener) {
				c := ln.clientWith(t, tt.protocols)
				c.wantConnection(tt.want)
			})
	}
}

func TestEventAPIRefusesUpgradesWithoutItsSubProtocol(t *testing.T) {
	eventAPITest(t, "", eventAPIOptions{apiKey: "da2-key"},
		func(t *testing.T, api *eventAPI, ln *pipeListener) {
			got := ln.upgrade(t, "graphql-ws, "+headerProtocol(apiKeyAuth))
			if got != 400 {
				t.Errorf("got status %d, want 400", got)
			}
		})
}

// vectorPublishMessage is the message that vectorPublish signs, up to its authorization.
const vectorPublishMessage = `{"type":"publish","id":"pub-0001","channel":"/default/room-1",` +
	`"events":["{\"seq\":1,\"data\":\"AAEC_-8\"}"],"authorization":`

func TestEventAPIAcceptsVectorsOfALongLivedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, ln := startVectorAPI(t, vectorCreds)
		defer api.close()
		ln.client(t, vectorAuth(vectorConnectLen, "length"))
		c := ln.client(t, vectorAuth(vectorConnect))
		c.send(`{"type":"subscribe","id":"sub-0001","channel":"/default/room-1/*","authorization":` +
			vectorAuth(vectorSubscribe) + `}`)
		c.want("subscribe_success sub-0001")
		c.send(vectorPublishMessage + vectorAuth(vectorPublish) + `}`)
		c.want("publish_success pub-0001 ok 0")
		c.send(`{"type":"publish","id":"pub-0002","channel":"/default/room-1","events":["{\"seq\":1,` +
			`\"data\":\"AAEC_-8\"}","{\"seq\":2,\"data\":\"c2Vjb25k\"}"],"authorization":` +
			vectorAuth(vectorPublishTwo) + `}`)
		c.want("publish_success pub-0002 ok 0,1")
		// The service's serialiser escapes what this client signed as it is.
		c.send(`{"type":"publish","id":"pub-0003","channel":"/default/room-1",` +
			`"events":["{\"html\":\"<b>a & b</b>\"}"],"authorization":` + vectorAuth(vectorRawHTML) + `}`)
		c.want("publish_error pub-0003 BadRequestException")
		c.send(vectorPublishMessage + vectorAuth(vectorSubscribe) + `}`)
		c.want("publish_error pub-0001 BadRequestException")
	})
}

func TestEventAPIAcceptsTheVectorOfAnHTTPSPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, ln := startVectorAPI(t, vectorCreds)
		defer api.close()
		header := http.Header{
			"Content-Type": {"application/json"},
			"X-Amz-Date":   {"20150830T123600Z"},
			"Authorization": {
				"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/appsync/aws4_request, " +
					"SignedHeaders=content-type;host;x-amz-date, Signature=" + vectorHTTP},
		}
		body := `{"channel":"/default/room-1","events":["{\"seq\":1,\"data\":\"AAEC_-8\"}"]}`
		got := ln.post(t, header, body)
		if !strings.HasPrefix(got, "200") {
			t.Errorf("HTTPS publish: got %s, want 200", got)
		}
		got = ln.post(t, header, body+" ")
		if !strings.HasPrefix(got, "400 error BadRequestException") {
			t.Errorf("HTTPS publish of other bytes: got %s, want 400", got)
		}
	})
}

func TestEventAPIAcceptsVectorsOfASessionToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withToken := vectorCreds
		withToken.sessionToken = vectorToken
		api, ln := startVectorAPI(t, withToken)
		defer api.close()
		c := ln.client(t, vectorAuth(vectorConnectToken, "token"))
		c.send(vectorPublishMessage + vectorAuth(vectorPublishToken, "token") + `}`)
		c.want("publish_success pub-0001 ok 0")
		c.send(vectorPublishMessage + vectorAuth(vectorPublish) + `}`)
		c.want("publish_error pub-0001 UnrecognizedClientException")
		api.accept("", vectorCreds) // the temporary credentials are over
		c.send(vectorPublishMessage + vectorAuth(vectorPublishToken, "token") + `}`)
		c.want("publish_error pub-0001 ExpiredTokenException")
	})
}

// startVectorAPI starts an API at the vectors' date: fake time begins in 2000.
func startVectorAPI(t *testing.T, creds credentials) (*eventAPI, *pipeListener) {
	time.Sleep(time.Until(vectorDate))
	ln := newPipeListener(vectorHost)
	api := startEventAPI(ln, eventAPIOptions{
		credentials: []credentials{creds},
		region:      "us-east-1",
		namespaces:  []string{"default"},
	})
	return api, ln
}

func TestEventAPIChecksSignatures(t *testing.T) {
	auth := vectorAuth(vectorConnect)
	tests := []struct {
		name string
		auth string
		late time.Duration // between signing and use
		opts eventAPIOptions
		want string
	}{
		{name: "good", auth: auth},
		{name: "just in time", auth: auth, late: 5 * time.Minute},
		{name: "stale", auth: auth, late: 5*time.Minute + 1, want: "BadRequestException"},
		{name: "other signature", auth: vectorAuth(vectorSubscribe), want: "BadRequestException"},
		{name: "other region", auth: auth, opts: eventAPIOptions{region: "eu-west-1"},
			want: "BadRequestException"},
		{name: "other host", auth: auth, opts: eventAPIOptions{host: "events.example.com"},
			want: "BadRequestException"},
		{name: "other secret", auth: auth,
			opts: eventAPIOptions{
				credentials: []credentials{{accessKeyID: "AKIDEXAMPLE", secretAccessKey: "no"}}},
			want: "BadRequestException"},
		{name: "second of two keys", auth: auth,
			opts: eventAPIOptions{
				credentials: []credentials{{accessKeyID: "AKIDOTHER", secretAccessKey: "no"}, vectorCreds}}},
		{name: "other key", auth: auth,
			opts: eventAPIOptions{
				credentials: []credentials{{accessKeyID: "AKIDOTHER", secretAccessKey: "no"}}},
			want: "UnrecognizedClientException"},
		{name: "API key only", auth: auth,
			opts: eventAPIOptions{apiKey: "da2-key", credentials: []credentials{}},
			want: "UnrecognizedClientException"},
		{name: "no permission", auth: auth, opts: eventAPIOptions{denied: true},
			want: "UnauthorizedException"},
		{name: "header changed", auth: strings.Replace(auth, "amz-1.0", "amz-1.1", 1),
			want: "BadRequestException"},
		{name: "header missing", auth: strings.Replace(auth, `"accept":`, `"accepted":`, 1),
			want: "BadRequestException"},
		{name: "date missing", auth: strings.Replace(auth, `"x-amz-date":`, `"date":`, 1),
			want: "BadRequestException"},
		{name: "host not signed", auth: strings.Replace(auth, "host;", "", 1), want: "BadRequestException"},
		{name: "not sorted",
			auth: strings.Replace(auth, "accept;content-encoding", "content-encoding;accept", 1),
			want: "BadRequestException"},
		{name: "no signature", auth: strings.Replace(auth, "Signature=", "Sig=", 1),
			want: "BadRequestException"},
		{name: "empty", auth: `{"host":"` + vectorHost + `"}`, want: "UnauthorizedException"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(vectorDate) + tt.late)
				if tt.opts.credentials == nil {
					tt.opts.credentials = []credentials{vectorCreds}
				}
				if tt.opts.region == "" {
					tt.opts.region = "us-east-1"
				}
				ln := newPipeListener(vectorHost)
				api := startEventAPI(ln, tt.opts)
				defer api.close()
				c := ln.client(t, tt.auth)
				if tt.want != "" {
					c.want("connection_error " + tt.want)
					c.wantEnd(errGoodbye)
					return
				}
				c.send(`{"type":"connection_init"}`)
				c.want("connection_ack 300000")
			})
		})
	}
}

// The signature of a WebSocket publish is checked over the service's own serialisation, in which only some
// characters stand for themselves; how the client wrote them in its message does not matter.
func TestEventAPISerialisesEventsItself(t *testing.T) {
	tests := []struct {
		event, signedAs string // as they stand inside a JSON string
		ok              bool
	}{
		{event: `[1,\"a\\u003c\\\\\",{}]`, signedAs: `[1,\"a\\u003c\\\\\",{}]`, ok: true},
		{event: `\u005b\u0031\u005d`, signedAs: `[1]`, ok: true},
		{event: `\"\u003c\u003e\u0026\u003d\u0027\"`, signedAs: `\"\u003c\u003e\u0026\u003d\u0027\"`,
			ok: true},
		{event: `\"<>&='\"`, signedAs: `\"\u003c\u003e\u0026\u003d\u0027\"`, ok: true},
		{event: `\"<\"`, signedAs: `\"<\"`},
		{event: `\">\"`, signedAs: `\">\"`},
		{event: `\"&\"`, signedAs: `\"&\"`},
		{event: `\"=\"`, signedAs: `\"=\"`},
		{event: `\"'\"`, signedAs: `\"'\"`},
		{event: `\"é\"`, signedAs: `\"é\"`},
		{event: `\"😀\"`, signedAs: `\"\ud83d\ude00\"`, ok: true},
		{event: `\"😀\"`, signedAs: `\"😀\"`},
		{event: `[1,\n2]`, signedAs: `[1,\n2]`},
		{event: `[1,\n2]`, signedAs: `[1,\u000a2]`, ok: true},
		{event: `[1]`, signedAs: `[1] `},
	}
	for _, tt := range tests {
		t.Run(tt.event+" as "+tt.signedAs, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, ln := startVectorAPI(t, vectorCreds)
				defer api.close()
				c := ln.client(t, vectorAuth(vectorConnect))
				body := `{"channel":"/default/a","events":["` + tt.signedAs + `"]}`
				// This client signs no more than it must.
				headers := map[string]string{"host": vectorHost}
				auth := `{"host":"` + vectorHost + `","x-amz-date":"20150830T123600Z","authorization":"` +
					vectorCreds.authorization(
						"us-east-1", "20150830T123600Z", "/event", headers, []byte(body)) + `"}`
				c.send(`{"type":"publish","id":"p","channel":"/default/a","events":["` + tt.event +
					`"],"authorization":` + auth + `}`)
				want := "publish_error p BadRequestException"
				if tt.ok {
					want = "publish_success p ok 0"
				}
				c.want(want)
			})
		})
	}
}
