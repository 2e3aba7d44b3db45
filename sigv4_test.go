//go:build !layer

package main

// sigv4_test.go tests signatures against those that AWS's own signers made: botocore, @smithy/signature-v4
// and aws-sdk-go-v2 agree on each. Date and keys are fictitious.

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Signatures of fictitious credentials, made with AWS's own signers: botocore, @smithy/signature-v4,
// aws-sdk-go-v2.
var (
	vectorDate  = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	vectorHost  = "abcdefghijklmnopqrstuvwxyz.appsync-api.us-east-1.amazonaws.com"
	vectorCreds = credentials{
		accessKeyID: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
	vectorToken = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3QtMSJ+token/for+tests=="
)

const (
	vectorConnect    = "f35d466179f2489e92e6bc2c98d72a5853528c0aeb8d94b175bc02ffb27db6a9"
	vectorSubscribe  = "d9d7f92d467d6c06920e7c9a95ab8177d739cd76248bc30def92094ad0faad9a"
	vectorPublish    = "e36f9b6d88d4c4f84a42763244a6bd9ac6bcd3c7a0122c6ecd9ac69c4ee26822"
	vectorPublishTwo = "e98f8b370e8fd3adbc2b37f0c8d4515a8f8386401ecf0fa1bfb638eec3a27be4"
	vectorHTTP       = "b16aa82ceefa5f0b57a265a2fdc1286dc55277a4018eac5c3d5ffe78deb137c6"
	vectorRawHTML    = "0be21895a4586a08abf294b589c5b1f0ba2bd7aa35f56edfca80710740030d8f"
	// These sign content-length or a session token too.
	vectorConnectLen   = "3fbffcc6d66df8e7513a87a1473087d9c0bc6ecb7ef53fe52fd61ac09635d3b3"
	vectorConnectToken = "e256d9c29f4adfa32b0ea7931f7d4d1c378f351e2fa8ee4f81d1f44b4e9ed3f9"
	vectorPublishToken = "404b3bf68acf4bdb8ac1784a7597a1293497d0c188b2dbd7d775ee5e84bb0eda"
)

// vectorAuth is the authorization object of a vector.
func vectorAuth(signature string, more ...string) string {
	signed := "accept;content-encoding;content-type;host;x-amz-date"
	fields := `"accept":"application/json, text/javascript","content-encoding":"amz-1.0",` +
		`"content-type":"application/json; charset=UTF-8",` +
		`"host":"` + vectorHost + `","x-amz-date":"20150830T123600Z",`
	if slices.Contains(more, "token") {
		signed += ";x-amz-security-token"
		fields += `"X-Amz-Security-Token":"` + vectorToken + `",`
	}
	if slices.Contains(more, "length") {
		signed = strings.Replace(signed, ";content-type", ";content-length;content-type", 1)
	}
	return `{` + fields +
		`"Authorization":"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/appsync/aws4_request, ` +
		`SignedHeaders=` + signed + `, Signature=` + signature + `"}`
}

// vector is an operation and its signatures.
type vector struct {
	name    string
	host    string
	region  string
	body    string
	static  string // the signature with a static key
	session string // the signature with a session token besides
	path    string // /event if it is empty
}

const vectorAmzDate = "20150830T123600Z"

var webSocketVectors = []vector{
	{name: "connect", host: vectorHost, region: "us-east-1", body: `{}`,
		static:  "f35d466179f2489e92e6bc2c98d72a5853528c0aeb8d94b175bc02ffb27db6a9",
		session: "e256d9c29f4adfa32b0ea7931f7d4d1c378f351e2fa8ee4f81d1f44b4e9ed3f9"},
	{name: "connect to a custom domain", host: "events.example.com", region: "eu-west-1", body: `{}`,
		static:  "fd2b343d79305b2b4111435e4a80c93ba8dc9f1210bdf5cb805df12f53355138",
		session: "2b78d34e5a66effd0026a958d4f6e88d0e5c484c6a541d3b4fdfdb44cb366e4c"},
	{name: "subscribe", host: vectorHost, region: "us-east-1", body: `{"channel":"/default/room-1/*"}`,
		static:  "d9d7f92d467d6c06920e7c9a95ab8177d739cd76248bc30def92094ad0faad9a",
		session: "9fb78013c79c6ad7b4ad131faa2986819610b22fd9ef9b88463cb85cffa50f9a"},
	{name: "publish one", host: vectorHost, region: "us-east-1",
		body:    `{"channel":"/default/room-1","events":["{\"seq\":1,\"data\":\"AAEC_-8\"}"]}`,
		static:  "e36f9b6d88d4c4f84a42763244a6bd9ac6bcd3c7a0122c6ecd9ac69c4ee26822",
		session: "404b3bf68acf4bdb8ac1784a7597a1293497d0c188b2dbd7d775ee5e84bb0eda"},
	{name: "publish two", host: vectorHost, region: "us-east-1",
		body: `{"channel":"/default/room-1","events":["{\"seq\":1,\"data\":\"AAEC_-8\"}","{\"seq\":2,` +
			`\"data\":\"c2Vjb25k\"}"]}`,
		static:  "e98f8b370e8fd3adbc2b37f0c8d4515a8f8386401ecf0fa1bfb638eec3a27be4",
		session: "86bc7932f4e8465b8e3c4f45838a334d106753ea2ff9a378822e251059b75fec"},
}

var graphqlVectors = []vector{
	{name: "connect", host: vectorHost, region: "us-east-1", body: `{}`,
		static:  "b22d5c186453cddc1c835192b637078fe24e668fe7baee77b51cd7ca5f87634e",
		session: "467f13902fd73710d1882e32df25c9837cd31a6069c64062d609a05984640274",
		path:    "/graphql/connect"},
	{name: "start", host: vectorHost, region: "us-east-1",
		body:    `{"query":"subscription S { onMsg(room: \"r\") { data } }","variables":{}}`,
		static:  "7d36df0f4979f99e3d5b74de1f1f2ba1cc814af4377997b261b1ce5354042f10",
		session: "b9d64f7bbbe2b2609ad2ba89de9e1a0b34987046433bcc389302b407024a8a7c", path: "/graphql"},
}

// This program sends neither, and the arithmetic is the same: an event that is not escaped, and the length
// signed too.
var otherVectors = []vector{
	{name: "publish of HTML", host: vectorHost, region: "us-east-1",
		body:    `{"channel":"/default/room-1","events":["{\"html\":\"<b>a & b</b>\"}"]}`,
		static:  "0be21895a4586a08abf294b589c5b1f0ba2bd7aa35f56edfca80710740030d8f",
		session: "33f31bbdb2ca77edda346e8d3f10875f9d6c297fa87a29ea104de63a3c11f52b"},
	{name: "connect with content-length", host: vectorHost, region: "us-east-1", body: `{}`,
		static:  "3fbffcc6d66df8e7513a87a1473087d9c0bc6ecb7ef53fe52fd61ac09635d3b3",
		session: "23171de487ce387e690cfc1c3665ff4ec7c86c7ff87ea048672c0732b7fc59fb"},
}

var httpVector = vector{name: "publish over HTTPS", host: vectorHost, region: "us-east-1",
	body:    `{"channel":"/default/room-1","events":["{\"seq\":1,\"data\":\"AAEC_-8\"}"]}`,
	static:  "b16aa82ceefa5f0b57a265a2fdc1286dc55277a4018eac5c3d5ffe78deb137c6",
	session: "2bf4825ede12f50b62baf6da09dfce435dc250e573d9d2b163e2faca9784070f"}

// credentials are those of the vector's signatures.
func (v vector) credentials() []credentials {
	session := vectorCreds
	session.sessionToken = vectorToken
	return []credentials{vectorCreds, session}
}

// authorization is the object that authorises the vector's operation on a WebSocket.
func (v vector) authorization(c credentials) map[string]string {
	object := map[string]string{
		"accept":           "application/json, text/javascript",
		"content-encoding": "amz-1.0",
		"content-type":     "application/json; charset=UTF-8",
		"host":             v.host,
		"x-amz-date":       vectorAmzDate,
		"Authorization":    v.header("accept;content-encoding;content-type;host;x-amz-date", c),
	}
	if c.sessionToken != "" {
		object["X-Amz-Security-Token"] = c.sessionToken
	}
	return object
}

// header is the Authorization header of the vector's operation, for these signed headers.
func (v vector) header(signed string, c credentials) string {
	signature := v.static
	if c.sessionToken != "" {
		signed += ";x-amz-security-token"
		signature = v.session
	}
	return "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/" + v.region +
		"/appsync/aws4_request, SignedHeaders=" + signed + ", Signature=" + signature
}

// onVectorDate runs a test at the time that the vectors were signed for.
func onVectorDate(t *testing.T, test func(*testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(vectorDate))
		test(t)
	})
}

// api is a client of the API that the vector was signed for. ln serves it.
func (v vector) api(ln *pipeListener, c credentials) *appsync {
	a := newTestAPI(ln)
	a.http.Scheme = "http"
	a.http.Host = v.host + ":8443" // the port is not signed
	a.region = v.region
	a.credentials = func(context.Context) (credentials, error) { return c, nil }
	return a
}

func TestAuthorizationIsWhatAWSsSignersMake(t *testing.T) {
	onVectorDate(t, func(t *testing.T) {
		for _, v := range slices.Concat(webSocketVectors, graphqlVectors, otherVectors[:1]) {
			for _, c := range v.credentials() {
				path := cmp.Or(v.path, "/event")
				got, err := v.api(nil, c).authorize(t.Context(), path, []byte(v.body), true)
				if want := v.authorization(c); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %v, %v; want %v", v.name, got, err, want)
				}
			}
		}
	})
}

func TestAuthorizationSignsTheHeadersThatItIsGiven(t *testing.T) {
	v := otherVectors[1]
	for _, c := range v.credentials() {
		headers := map[string]string{
			"accept":           "application/json, text/javascript",
			"content-encoding": "amz-1.0",
			"content-length":   "2",
			"content-type":     "application/json; charset=UTF-8",
			"host":             v.host,
			"x-amz-date":       vectorAmzDate,
		}
		if c.sessionToken != "" {
			headers["x-amz-security-token"] = c.sessionToken
		}
		got := c.authorization(v.region, vectorAmzDate, "/event", headers, []byte(v.body))
		want := v.header("accept;content-encoding;content-length;content-type;host;x-amz-date", c)
		if got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}

func TestHandshakeIsSignedInASubProtocol(t *testing.T) {
	onVectorDate(t, func(t *testing.T) {
		for _, c := range webSocketVectors[0].credentials() {
			ln := newPipeListener("example.com")
			_, p := connectSession(t, ln, webSocketVectors[0].api(ln, c))
			offered := strings.Split(p.request.Header.Get("Sec-WebSocket-Protocol"), ", ")
			if len(offered) != 2 || offered[0] != "aws-appsync-event-ws" {
				t.Fatalf("sub-protocols %q", offered)
			}
			encoded, _ := strings.CutPrefix(offered[1], "header-")
			raw, err := base64.RawURLEncoding.DecodeString(encoded)
			got, want := jsonStrings(t, raw), webSocketVectors[0].authorization(c)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("connect: got %v, %v; want %v", got, err, want)
			}
		}
	})
}

func TestOperationsOnAWebSocketAreSigned(t *testing.T) {
	onVectorDate(t, func(t *testing.T) {
		for _, c := range webSocketVectors[0].credentials() {
			ln := newPipeListener("example.com")
			s, p := connectSession(t, ln, webSocketVectors[0].api(ln, c))
			for _, v := range webSocketVectors[2:] {
				var body clientMessage
				if err := json.Unmarshal([]byte(v.body), &body); err != nil {
					t.Fatal(err)
				}
				done := asyncError(func() error {
					if body.Events == nil {
						return s.subscribe(t.Context(), ackTimeout, body.Channel, func(string) {})
					}
					return s.publish(t.Context(), body.Channel, asBytes(body.Events), awaited)
				})
				m := p.operation(strings.Fields(v.name)[0])
				if !reflect.DeepEqual(m.Authorization, v.authorization(c)) || m.Channel != body.Channel ||
					!slices.Equal(m.Events, body.Events) {
					t.Errorf("%s: got %+v", v.name, m)
				}
				p.say(`{"type":"%s_success","id":"%s"}`, m.Type, m.ID)
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
	})
}

func TestPublishOverHTTPSIsSigned(t *testing.T) {
	onVectorDate(t, func(t *testing.T) {
		for _, c := range httpVector.credentials() {
			ln := newPipeListener("example.com")
			a := httpVector.api(ln, c)
			done := asyncError(func() error {
				return a.publishHTTPS(t.Context(), ackTimeout, []byte(httpVector.body))
			})
			p := acceptPeer(t, ln)
			body, err := io.ReadAll(p.request.Body)
			if err != nil || string(body) != httpVector.body {
				t.Errorf("body %s, %v", body, err)
			}
			h := p.request.Header
			got := []string{
				p.request.Method, p.request.RequestURI, p.request.Host, h.Get("Content-Type"),
				h.Get("X-Amz-Date"), h.Get("X-Amz-Security-Token"), h.Get("Authorization"),
			}
			want := []string{
				"POST", "/event", vectorHost, "application/json", vectorAmzDate, c.sessionToken,
				httpVector.header("content-type;host;x-amz-date", c),
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %q\nwant %q", got, want)
			}
			if err := p.answer(`200 {"successful":[],"failed":[]}`); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// AWS's page lists these two fields.
func TestAuthorizationByAPIKeyHasHostAndKeyAlone(t *testing.T) {
	a := newTestAPI(nil)
	a.http.Host = vectorHost + ":443"
	a.apiKey = "da2-key"
	got, err := a.authorize(t.Context(), "/event", []byte("{}"), true)
	want := map[string]string{"host": vectorHost, "x-api-key": "da2-key"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestCredentialsAreReadAtEverySigning(t *testing.T) {
	a := newTestAPI(nil)
	n := 0
	a.credentials = func(context.Context) (credentials, error) {
		n++
		if n == 3 {
			return credentials{}, errors.New("the endpoint is gone")
		}
		return credentials{accessKeyID: fmt.Sprint("AKID", n), secretAccessKey: "s"}, nil
	}
	for _, want := range []string{"AKID1", "AKID2"} {
		object, err := a.authorize(t.Context(), "/event", []byte("{}"), true)
		if got := object["Authorization"]; err != nil || !strings.Contains(got, "Credential="+want+"/") {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
	_, err := a.authorize(t.Context(), "/event", []byte("{}"), true)
	if err == nil || err.Error() != "read AWS credentials: the endpoint is gone" {
		t.Errorf("error %v", err)
	}
}
