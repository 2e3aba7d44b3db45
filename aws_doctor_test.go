//go:build !layer

package main

// aws_doctor_test.go tests what doctor says of APIs that lack one thing each.

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var doctorKeys = credentials{
	accessKeyID: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/" + secretValue,
	sessionToken: "token-" + secretValue}

// doctorFor makes a doctor for an API at base, with dial in place of the network unless it is nil.
func doctorFor(t testing.TB, base string, dial func(context.Context, string, string) (net.Conn, error)) (
	*doctor, *bytes.Buffer) {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	out := &bytes.Buffer{}
	d := &doctor{
		out:       out,
		transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{}},
		source:    "the test",
		sizes:     [3]int{1 << 10, 20_000, 170_000},
	}
	d.lookup = func(_ context.Context, host string) ([]string, error) { return []string{"192.0.2.1"}, nil }
	d.credentials = func(context.Context) (credentials, error) { return doctorKeys, nil }
	d.configure = func(context.Context) (*endpoint, error) {
		return &endpoint{
			http:      &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/event"},
			realtime:  &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/event/realtime"},
			region:    "eu-west-1",
			namespace: "live-lambda",
			stage:     "alice",
		}, nil
	}
	return d, out
}

const doctorAllWell = "" +
	`ok    configuration    example.com, namespace live-lambda, region eu-west-1, stage alice
ok    names            example.com is 192.0.2.1
ok    proxy            none
ok    TLS              none, as http:// asks for
ok    clock            within 5s of the server's
ok    credentials      from the test, temporary
ok    connect          example.com in 0 ms
ok    subscribe        /live-lambda/requests/alice and /live-lambda/response/NAME/*
ok    publish          taken in 0 ms
ok    publish (HTTPS)  taken in 0 ms
ok    delivery         the subscription delivers, after 0 ms
ok    round trip       1.0 kB (events: 1) in 0 ms
ok    round trip       20.0 kB (events: 1) in 0 ms
ok    round trip       170.0 kB (events: 2) in 0 ms
`

// wellFrom is what is printed from a step on when all is well.
func wellFrom(step string) string {
	return doctorAllWell[strings.Index(doctorAllWell, "ok    "+step+"  "):]
}

// notTried is what is printed of steps that need one that has failed.
func notTried(without string, names ...string) (lines string) {
	for _, name := range names {
		lines += "-     " + (name + strings.Repeat(" ", 17))[:17] + "not tried without " + without + "\n"
	}
	return lines
}

// What is not tried if there is no session, if the doctor cannot subscribe or nothing is delivered.
var (
	withoutSession      = notTried("connect", "subscribe", "publish")
	withoutDelivery     = notTried("delivery", "round trip")
	withoutSubscription = notTried("subscribe", "delivery") + withoutDelivery
)

// withoutConfiguration is printed behind the configuration that has failed.
var withoutConfiguration = notTried(
	"configuration", "names", "proxy", "TLS", "clock", "credentials", "connect") +
	withoutSession + notTried("configuration", "publish (HTTPS)") + withoutSubscription

const (
	doctorNamespace     = "/channelNamespace/live-lambda"
	doctorNotAuthorized = `: UnauthorizedException "You are not authorized to make this call."`
)

// toGrant is the end of a line that says which permission is missing.
func toGrant(action, resource string) string {
	return "; grant " + action + " on arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID" + resource +
		", and check host and namespace\n"
}

// doctorCase is what is wrong with an API, or with the way to it, and what is printed then.
type doctorCase struct {
	name  string
	opts  eventAPIOptions
	wrong func(*doctor, *eventAPI, *pipeListener)
	from  string // the step from which on
	want  string // is printed, instead of what is when all is well
}

func testDoctor(t *testing.T, tests []doctorCase) {
	for _, tt := range tests {
		tt.opts.region = "eu-west-1"
		tt.opts.credentials = []credentials{doctorKeys}
		eventAPITest(t, tt.name, tt.opts, func(t *testing.T, api *eventAPI, ln *pipeListener) {
			d, out := doctorFor(t, "http://example.com", ln.dial)
			tt.wrong(d, api, ln)
			ok := d.run(t.Context())
			d.transport.CloseIdleConnections()
			well, _, _ := strings.Cut(doctorAllWell, "ok    "+tt.from+"  ")
			compareDoctor(t, d, out.String(), well+tt.want)
			if ok != !strings.Contains(out.String(), "FAIL") {
				t.Errorf("all well: got %t", ok)
			}
		})
	}
}

func nothingWrong(*doctor, *eventAPI, *pipeListener) {}

// configuredWith has the configuration changed.
func configuredWith(change func(*endpoint)) func(*doctor, *eventAPI, *pipeListener) {
	return func(d *doctor, _ *eventAPI, _ *pipeListener) {
		configure := d.configure
		d.configure = func(ctx context.Context) (*endpoint, error) {
			api, err := configure(ctx)
			change(api)
			return api, err
		}
	}
}

// interceptedBy has the API's frames judged.
func interceptedBy(judge func(apiFrame) apiVerdict) func(*doctor, *eventAPI, *pipeListener) {
	return func(_ *doctor, api *eventAPI, _ *pipeListener) { api.intercept(judge) }
}

// answerWith has every answer of a type replaced by a refusal.
func answerWith(typ, refusal, errorType string) func(apiFrame) apiVerdict {
	return func(f apiFrame) (v apiVerdict) {
		if f.out && f.typ == typ {
			v.replace = [][]byte{
				[]byte(`{"type":` + refusal + `,"id":"` + f.id + `","errors":[{"errorType":"` + errorType +
					`","message":"You are not authorized to make this call."}]}`)}
		}
		return v
	}
}

func TestDoctorSaysWhatItFound(t *testing.T) {
	t.Parallel()
	testDoctor(t, []doctorCase{
		{
			name:  "all is well",
			opts:  eventAPIOptions{},
			wrong: nothingWrong,
			from:  "configuration",
			want:  doctorAllWell,
		},
		{
			name:  "the real sizes",
			opts:  eventAPIOptions{},
			wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) { d.sizes = roundTrips },
			from:  "round trip",
			want: "ok    round trip       1.0 kB (events: 1) in 0 ms\n" +
				"ok    round trip       150.0 kB (events: 1) in 0 ms\n" +
				"ok    round trip       1.0 MB (events: 7) in 0 ms\n",
		},
		{
			name:  "slow network",
			opts:  eventAPIOptions{delay: 20 * time.Millisecond, activation: 600 * time.Millisecond},
			wrong: nothingWrong,
			from:  "connect",
			want: `ok    connect          example.com in 40 ms
ok    subscribe        /live-lambda/requests/alice and /live-lambda/response/NAME/*
ok    publish          taken in 40 ms
ok    publish (HTTPS)  taken in 40 ms
ok    delivery         the subscription delivers, after 620 ms
ok    round trip       1.0 kB (events: 1) in 40 ms
ok    round trip       20.0 kB (events: 1) in 40 ms
ok    round trip       170.0 kB (events: 2) in 40 ms
`,
		},
		{
			name:  "event as an array",
			opts:  eventAPIOptions{documentedData: true},
			wrong: nothingWrong,
			from:  "configuration",
			want:  doctorAllWell,
		},
		{
			name:  "two hosts",
			opts:  eventAPIOptions{host: "example.com"},
			wrong: configuredWith(func(api *endpoint) { api.realtime.Host = "rt.example.com" }),
			from:  "names",
			want: strings.NewReplacer(
				"example.com is 192.0.2.1", "example.com is 192.0.2.1, rt.example.com is 192.0.2.1",
				"example.com in", "rt.example.com in",
			).Replace(wellFrom("names")),
		},
		{
			name:  "route",
			opts:  eventAPIOptions{},
			wrong: configuredWith(func(api *endpoint) { api.route = "x-dev" }),
			from:  "configuration",
			want:  strings.Replace(doctorAllWell, "stage alice\n", "stage alice, route x-dev\n", 1),
		},
		{
			name:  "two keys",
			opts:  eventAPIOptions{},
			wrong: sealedWith(testKey, otherKey),
			from:  "configuration",
			want: strings.NewReplacer(
				"stage alice\n", "stage alice, the keys 630dcd29, "+keyID(otherKey)+"\n",
			).Replace(doctorAllWell),
		},
		{
			name:  "API key",
			opts:  eventAPIOptions{apiKey: "da2-" + secretValue},
			wrong: configuredWith(func(api *endpoint) { api.apiKey = "da2-" + secretValue }),
			from:  "credentials",
			want:  strings.Replace(wellFrom("credentials"), "from the test, temporary", "an API key", 1),
		},
	})
}

// sealedWith has the doctor use keys. The API must see nothing but probes and what is sealed.
func sealedWith(keys ...string) func(*doctor, *eventAPI, *pipeListener) {
	return func(d *doctor, api *eventAPI, ln *pipeListener) {
		d.keys = sealersOf(keys...)
		configuredWith(func(e *endpoint) { e.key = keyOf(keys[0]) })(d, api, ln)
		api.intercept(func(f apiFrame) apiVerdict {
			for _, event := range f.events {
				p, _ := parsePart(event)
				if p.Type != "sealed" && p.Type != "probe" {
					return apiVerdict{replace: [][]byte{}}
				}
			}
			return apiVerdict{}
		})
	}
}

func TestDoctorSaysWhatToConfigure(t *testing.T) {
	testDoctor(t, []doctorCase{
		{
			name: "not configured",
			opts: eventAPIOptions{},
			wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) {
				d.configure = func(context.Context) (*endpoint, error) {
					return nil, errors.New("what to do")
				}
			},
			from: "configuration",
			want: "FAIL  configuration    what to do\n" + withoutConfiguration,
		},
		{
			name: "another region",
			opts: eventAPIOptions{},
			wrong: configuredWith(func(api *endpoint) {
				api.http.Host = "x.appsync-api.us-east-1.amazonaws.com"
			}),
			from: "configuration",
			want: "FAIL  configuration    requests would be signed for eu-west-1, and " +
				"x.appsync-api.us-east-1.amazonaws.com is in us-east-1: " +
				"give --region us-east-1, or set LIVE_LAMBDA_APPSYNC_REGION\n" + withoutConfiguration,
		},
	})
}

func TestDoctorSaysWhichNameIsNotFound(t *testing.T) {
	testDoctor(t, []doctorCase{{
		name: "unknown name",
		opts: eventAPIOptions{},
		wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) {
			d.lookup = func(_ context.Context, host string) ([]string, error) {
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
		},
		from: "names",
		want: "FAIL  names            example.com is not found: lookup example.com: no such host; " +
			"check the name, and this machine's DNS\n" +
			"ok    proxy            none\n" + notTried("names", "TLS", "clock") +
			"ok    credentials      from the test, temporary\n" + notTried("names", "connect") +
			withoutSession + notTried("names", "publish (HTTPS)") + withoutSubscription,
	}})
}

func TestDoctorSaysThatThereIsNoWayOut(t *testing.T) {
	testDoctor(t, []doctorCase{{
		name:  "unreachable",
		opts:  eventAPIOptions{},
		wrong: func(_ *doctor, _ *eventAPI, ln *pipeListener) { ln.Close() },
		from:  "TLS",
		want: "FAIL  TLS              example.com: connection refused; check the host and the way " +
			"out to port 443; if that takes a proxy, set HTTPS_PROXY\n" +
			notTried("TLS", "clock") + "ok    credentials      from the test, temporary\n" +
			notTried("TLS", "connect") + withoutSession + notTried("TLS", "publish (HTTPS)") +
			withoutSubscription,
	}})
}

func TestDoctorSaysWhichCredentialsDoNotDo(t *testing.T) {
	testDoctor(t, []doctorCase{
		{
			name: "no credentials",
			opts: eventAPIOptions{},
			wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) {
				d.credentials = func(context.Context) (credentials, error) {
					return credentials{}, errors.New("run aws sso login")
				}
			},
			from: "credentials",
			want: "FAIL  credentials      run aws sso login\n" + notTried("credentials", "connect") +
				withoutSession + notTried("credentials", "publish (HTTPS)") + withoutSubscription,
		},
		{
			name: "long-lived credentials that are not accepted",
			opts: eventAPIOptions{},
			wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) {
				d.credentials = func(context.Context) (credentials, error) {
					return credentials{accessKeyID: "AKIDOTHER", secretAccessKey: secretValue}, nil
				}
			},
			from: "credentials",
			want: "ok    credentials      from the test, long-lived\n" +
				doctorRefused(`UnrecognizedClientException "The security token included in the request is `+
					`invalid."; AWS does not know these credentials: get new ones`),
		},
	})
}

// doctorRefused is printed, from connect on, if AppSync refuses signatures and says so.
func doctorRefused(said string) string {
	return "FAIL  connect          AppSync refused to connect: " + said + "\n" + withoutSession +
		"FAIL  publish (HTTPS)  AppSync refused to publish: " + said + "\n" + withoutSubscription
}

func TestDoctorSaysWhatIsWrongWithSignatures(t *testing.T) {
	testDoctor(t, []doctorCase{
		{
			name: "another secret access key",
			opts: eventAPIOptions{},
			wrong: func(d *doctor, _ *eventAPI, _ *pipeListener) {
				d.credentials = func(context.Context) (credentials, error) {
					other := doctorKeys
					other.secretAccessKey = "other" + secretValue
					return other, nil
				}
			},
			from: "connect",
			want: doctorRefused(`BadRequestException "The request signature we calculated does not match ` +
				`the signature you provided. Check your AWS Secret Access Key and signing method. Consult ` +
				`the service document"; the secret access key is not the one of this access key: set both ` +
				`anew`),
		},
		{
			name:  "credentials that have expired",
			opts:  eventAPIOptions{},
			wrong: func(_ *doctor, api *eventAPI, _ *pipeListener) { api.accept("") },
			from:  "connect",
			want: doctorRefused(`ExpiredTokenException "The security token included in the request is ` +
				`expired"; the credentials have expired: get new ones`),
		},
		{
			name:  "a clock that is behind",
			opts:  eventAPIOptions{ahead: 6 * time.Minute},
			wrong: nothingWrong,
			from:  "connect",
			want: doctorRefused(`BadRequestException "Signature expired: 20000101T000000Z is now earlier ` +
				`than 20000101T000100Z (20000101T000600Z - 5 min.)"; the clock here is wrong: set it`),
		},
		{
			name:  "a clock that is ahead",
			opts:  eventAPIOptions{ahead: -6 * time.Minute},
			wrong: nothingWrong,
			from:  "connect",
			want: doctorRefused(`BadRequestException "Signature not yet current: 20000101T000000Z is still ` +
				`later than 19991231T235900Z (19991231T235400Z + 5 min.)"; the clock here is wrong: set it`),
		},
		{
			name: "another region",
			opts: eventAPIOptions{},
			wrong: func(d *doctor, api *eventAPI, ln *pipeListener) {
				configuredWith(func(c *endpoint) { c.region = "us-east-1" })(d, api, ln)
			},
			from: "configuration",
			want: strings.ReplaceAll(doctorAllWell[:strings.Index(doctorAllWell, "ok    connect")],
				"region eu-west-1", "region us-east-1") +
				doctorRefused(`BadRequestException "Credential should be scoped to a valid region, not `+
					`'us-east-1'. "; the region is not the API's: set LIVE_LAMBDA_APPSYNC_REGION`),
		},
		{
			name:  "credentials that may do nothing",
			opts:  eventAPIOptions{denied: true},
			wrong: nothingWrong,
			from:  "connect",
			want: "FAIL  connect          AppSync refused to connect" + doctorNotAuthorized +
				toGrant("appsync:EventConnect", "") + withoutSession +
				"FAIL  publish (HTTPS)  AppSync refused to publish" + doctorNotAuthorized +
				toGrant("appsync:EventPublish", doctorNamespace) + withoutSubscription,
		},
		{
			name:  "another API key",
			opts:  eventAPIOptions{apiKey: "da2-other"},
			wrong: configuredWith(func(api *endpoint) { api.apiKey = "da2-" + secretValue }),
			from:  "credentials",
			want: "ok    credentials      an API key\n" +
				doctorRefused(doctorNotAuthorized[2:]+"; check that the API key is this API's and has not "+
					"expired, and host and namespace"),
		},
	})
}

func TestDoctorSaysWhichPermissionIsMissing(t *testing.T) {
	const unauthorized = "UnauthorizedException"
	noSubscribe := "FAIL  subscribe        AppSync refused to subscribe" + doctorNotAuthorized +
		toGrant("appsync:EventSubscribe", doctorNamespace)
	noPublish := "FAIL  publish          AppSync refused to publish" + doctorNotAuthorized +
		toGrant("appsync:EventPublish", doctorNamespace)
	testDoctor(t, []doctorCase{
		{
			name:  "subscribe is refused",
			opts:  eventAPIOptions{},
			wrong: interceptedBy(answerWith("subscribe_success", `"subscribe_error"`, unauthorized)),
			from:  "subscribe",
			want: noSubscribe + "ok    publish          taken in 0 ms\n" +
				"ok    publish (HTTPS)  taken in 0 ms\n" + withoutSubscription,
		},
		{
			name:  "publish is refused",
			opts:  eventAPIOptions{},
			wrong: interceptedBy(answerWith("publish_success", `"publish_error"`, unauthorized)),
			from:  "publish",
			want: noPublish + "ok    publish (HTTPS)  taken in 0 ms\n" +
				notTried("publish", "delivery") + withoutDelivery,
		},
		{
			name: "publish over HTTPS is refused",
			opts: eventAPIOptions{},
			wrong: interceptedBy(func(f apiFrame) (v apiVerdict) {
				if f.typ == "http_publish" {
					v.status = http.StatusForbidden
				}
				return v
			}),
			from: "publish (HTTPS)",
			want: `FAIL  publish (HTTPS)  AppSync refused to publish: Forbidden ""` +
				toGrant("appsync:EventPublish", doctorNamespace) + wellFrom("delivery"),
		},
		{
			name:  "no namespace",
			opts:  eventAPIOptions{namespaces: []string{"default"}},
			wrong: nothingWrong,
			from:  "subscribe",
			want: noSubscribe + noPublish +
				"FAIL  publish (HTTPS)  AppSync refused to publish" + doctorNotAuthorized +
				toGrant("appsync:EventPublish", doctorNamespace) + withoutSubscription,
		},
	})
}

func TestDoctorSaysThatNothingIsDelivered(t *testing.T) {
	testDoctor(t, []doctorCase{{
		name: "nothing is delivered",
		opts: eventAPIOptions{},
		wrong: interceptedBy(func(f apiFrame) (v apiVerdict) {
			if f.out && f.typ == "data" {
				v.replace = dropped
			}
			return v
		}),
		from: "delivery",
		want: "FAIL  delivery         nothing has come back within 15s of what AppSync has taken: look for " +
			"a handler or resolver of the API that drops events\n" + withoutDelivery,
	}})
}

func TestDoctorSaysWhichMessagesAreLost(t *testing.T) {
	testDoctor(t, []doctorCase{{
		name: "large events are lost",
		opts: eventAPIOptions{},
		wrong: interceptedBy(func(f apiFrame) (v apiVerdict) {
			if f.out && f.typ == "data" && len(f.raw) > 10_000 {
				v.replace = dropped
			}
			return v
		}),
		from: "round trip",
		want: "ok    round trip       1.0 kB (events: 1) in 0 ms\n" +
			"FAIL  round trip       20.0 kB were taken and have not come back within 15.3 s\n" +
			"FAIL  round trip       170.0 kB were taken and have not come back within 17.6 s\n",
	}})
}

// withOtherData changes the first character of an event's data.
func withOtherData(f apiFrame) (v apiVerdict) {
	const data = `\"data\":\"`
	i := bytes.Index(f.raw, []byte(data))
	if !f.out || i < 0 {
		return v
	}
	i += len(data)
	raw := bytes.Clone(f.raw)
	if raw[i] == 'Q' {
		raw[i] = 'R'
	} else {
		raw[i] = 'Q'
	}
	v.replace = [][]byte{raw}
	return v
}

func TestDoctorSaysThatEventsAreChanged(t *testing.T) {
	const changed = " came back changed: look for a handler or resolver of the API that changes events\n"
	testDoctor(t, []doctorCase{{
		name:  "events come back changed",
		opts:  eventAPIOptions{},
		wrong: interceptedBy(withOtherData),
		from:  "round trip",
		want: "FAIL  round trip       1.0 kB" + changed +
			"FAIL  round trip       20.0 kB" + changed +
			"FAIL  round trip       170.0 kB" + changed,
	}})
}

func TestDoctorSaysThatTheConnectionEnded(t *testing.T) {
	testDoctor(t, []doctorCase{{
		name: "the connection is lost",
		opts: eventAPIOptions{},
		wrong: interceptedBy(func(f apiFrame) (v apiVerdict) {
			if f.typ == "publish" {
				v.after = resetConnection
				v.replace = dropped
			}
			return v
		}),
		from: "publish",
		want: "FAIL  publish          the connection ended: EOF\n" +
			"ok    publish (HTTPS)  taken in 0 ms\n" + notTried("publish", "delivery") + withoutDelivery,
	}})
}

// doctorGraphQLWell is doctorAllWell for a GraphQL API.
var doctorGraphQLWell = strings.NewReplacer(
	"stage alice", "a GraphQL API, stage alice",
	"NAME/*", "NAME",
).Replace(doctorAllWell)

// testDoctorGraphQL compares what is printed for a GraphQL API with which something is wrong.
func testDoctorGraphQL(t *testing.T, name string, wrong func(*eventAPI), want string) {
	opts := eventAPIOptions{graphql: true, region: "eu-west-1", credentials: []credentials{doctorKeys}}
	eventAPITest(t, name, opts, func(t *testing.T, api *eventAPI, ln *pipeListener) {
		d, out := doctorFor(t, "http://example.com", ln.dial)
		configuredWith(func(a *endpoint) {
			a.graphql = true
			a.http.Path = "/graphql"
			a.realtime.Path = "/graphql/realtime"
		})(d, api, ln)
		wrong(api)
		ok := d.run(t.Context())
		d.transport.CloseIdleConnections()
		compareDoctor(t, d, out.String(), want)
		if ok != (want == doctorGraphQLWell) {
			t.Errorf("all well: got %t", ok)
		}
	})
}

func TestDoctorTriesAGraphQLAPIInTheSameSteps(t *testing.T) {
	t.Parallel()
	testDoctorGraphQL(t, "all is well", func(*eventAPI) {}, doctorGraphQLWell)
	noNamespaces := func(api *eventAPI) { api.opts.namespaces = nil }
	testDoctorGraphQL(t, "an Event API's namespace is not looked for", noNamespaces, doctorGraphQLWell)
}

// Publishes are mutations in both of the steps.
func TestDoctorSaysThatMutationsAreRefused(t *testing.T) {
	refuse := func(f apiFrame) (v apiVerdict) {
		if f.typ == "http_publish" {
			v.status = http.StatusOK
			v.wire = []byte(
				`{"data":{"publish":null},"errors":[{"path":["publish"],"errorType":"Unauthorized",` +
					`"message":"Not Authorized to access publish on type Mutation"}]}`)
		}
		return v
	}
	refused := `AppSync refused to publish: Unauthorized "Not Authorized to access publish on type ` +
		`Mutation"` + toGrant("appsync:GraphQL", "/types/Mutation/fields/publish")
	before, _, _ := strings.Cut(doctorGraphQLWell, "ok    publish  ")
	testDoctorGraphQL(t, "may not publish", func(api *eventAPI) { api.intercept(refuse) },
		before+"FAIL  publish          "+refused+"FAIL  publish (HTTPS)  "+refused+
			notTried("publish", "delivery")+withoutDelivery)
}

// compareDoctor compares what was printed, with NAME for the doctor's own channel.
func compareDoctor(t *testing.T, d *doctor, got, want string) {
	t.Helper()
	if d.session != nil {
		got = strings.ReplaceAll(got, d.session.name, "NAME")
	}
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if strings.Contains(got, secretValue) {
		t.Error("a secret is shown")
	}
}

func TestDoctorComparesClocks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		skew time.Duration // of the server
		want string
	}{
		{name: "none", want: "ok    clock            within 5s of the server's"},
		{name: "a little ahead", skew: 4 * time.Second,
			want: "ok    clock            within 5s of the server's"},
		{name: "a little behind", skew: -4 * time.Second,
			want: "ok    clock            within 5s of the server's"},
		{name: "an hour behind", skew: time.Hour,
			want: "FAIL  clock            this machine is 1h0m0s behind the server: set its clock; AppSync " +
				"refuses signatures that are minutes off, and invocations look too old or too young here"},
		{name: "a minute ahead", skew: -61 * time.Second,
			want: "FAIL  clock            this machine is 1m0s ahead of the server: set its clock; AppSync " +
				"refuses signatures that are minutes off, and invocations look too old or too young here"},
		{name: "no date", skew: -1, want: "FAIL  clock            example.com does not tell its date"},
	}
	for _, tt := range tests {
		eventAPITest(t, tt.name, eventAPIOptions{region: "eu-west-1", credentials: []credentials{doctorKeys}},
			func(t *testing.T, api *eventAPI, _ *pipeListener) {
				ln := newPipeListener("example.com")
				server := &http.
					Server{ConnContext: api.server.ConnContext,
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						w.Header()["Date"] = nil
						if tt.skew != -1 {
							w.Header().Set("Date", time.Now().Add(tt.skew).UTC().Format(http.TimeFormat))
						}
						api.server.Handler.ServeHTTP(w, r)
					})}
				var wg sync.WaitGroup
				wg.Go(func() { server.Serve(ln) })
				d, out := doctorFor(t, "http://example.com", ln.dial)
				ok := d.run(t.Context())
				d.transport.CloseIdleConnections()
				server.Close()
				wg.Wait()
				// A clock that is wrong keeps nothing from being tried.
				want := strings.Replace(
					doctorAllWell, "ok    clock            within 5s of the server's", tt.want, 1)
				compareDoctor(t, d, out.String(), want)
				if ok != strings.HasPrefix(tt.want, "ok") {
					t.Errorf("all well: got %t", ok)
				}
			})
	}
}

func doctorLine(out, name string) string {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line[min(6, len(line)):], name+" ") {
			return strings.TrimSuffix(line, "\n")
		}
	}
	return ""
}

// doctorTLS returns a certificate for example.com and roots that trust it; both are valid in a bubble of fake
// time, too.
func doctorTLS(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	model := httptest.NewTLSServer(http.NotFoundHandler())
	defer model.Close()
	roots := x509.NewCertPool()
	roots.AddCert(model.Certificate())
	// tickets need a pipe with a buffer
	return &tls.Config{Certificates: model.TLS.Certificates, SessionTicketsDisabled: true}, roots
}

// doctorTLSCase is how TLS is spoken, and the step's line then.
type doctorTLSCase struct {
	name   string
	base   string
	server *tls.Config    // nil for no TLS
	roots  *x509.CertPool // that this machine trusts
	ok     bool
	want   string
}

func testDoctorTLS(t *testing.T, tt doctorTLSCase) {
	t.Run(tt.name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			pipes := newPipeListener("example.com")
			ln := net.Listener(pipes)
			if tt.server != nil {
				ln = tls.NewListener(ln, tt.server)
			}
			api := startEventAPI(
				ln, eventAPIOptions{region: "eu-west-1", credentials: []credentials{doctorKeys}})
			defer api.close()
			d, out := doctorFor(t, tt.base, pipes.dial)
			d.transport.TLSClientConfig.RootCAs = tt.roots
			ok := d.run(t.Context())
			d.transport.CloseIdleConnections()
			line := doctorLine(out.String(), "TLS")
			if ok != tt.ok || line != tt.want {
				t.Errorf("got %t\n%s", ok, out)
			}
		})
	})
}

func TestDoctorShowsTheCertificate(t *testing.T) {
	server, roots := doctorTLS(t)
	testDoctorTLS(t, doctorTLSCase{
		name:   "trusted",
		base:   "https://example.com",
		server: server,
		roots:  roots,
		ok:     true,
		want: "ok    TLS              TLS 1.3, certificate of example.com *.example.com until " +
			"2084-01-29",
	})
}

func TestDoctorSaysWhyTLSFails(t *testing.T) {
	server, roots := doctorTLS(t)
	tests := []doctorTLSCase{
		{
			name:   "unknown authority",
			base:   "https://example.com",
			server: server,
			roots:  x509.NewCertPool(),
			want: "FAIL  TLS              example.com: tls: failed to verify certificate: " +
				"x509: certificate signed by unknown authority; if a proxy opens TLS, put its root " +
				"certificate where SSL_CERT_FILE or SSL_CERT_DIR says",
		},
		{
			name:   "another name",
			base:   "https://example.org",
			server: server,
			roots:  roots,
			want: "FAIL  TLS              example.org: tls: failed to verify certificate: " +
				"x509: certificate is valid for example.com, *.example.com, not example.org; check the host",
		},
		{
			name:   "no TLS there",
			base:   "https://example.com",
			server: nil,
			roots:  roots,
			want: "FAIL  TLS              example.com: tls: first record does not look like a TLS " +
				"handshake; what answers there does not speak TLS",
		},
	}
	for _, tt := range tests {
		testDoctorTLS(t, tt)
	}
}

// connectProxy is a proxy that knows CONNECT alone. Unless user is empty, it serves that user alone.
func connectProxy(user string, dial func(context.Context, string, string) (net.Conn, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user != "" &&
			r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(user)) {
			http.Error(w, "", http.StatusProxyAuthRequired)
			return
		}
		up, err := dial(r.Context(), "tcp", r.Host)
		if err != nil {
			http.Error(w, "", http.StatusBadGateway)
			return
		}
		defer up.Close()
		down, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer down.Close()
		io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		var wg sync.WaitGroup
		wg.Go(func() {
			defer up.Close()
			io.Copy(up, buffered)
		})
		io.Copy(down, up)
		down.Close()
		wg.Wait()
	})
}

// doctorProxyCase is a proxy, which is the only way out, and the line of one step.
type doctorProxyCase struct {
	name  string
	user  string // that the proxy wants, USER:PASSWORD
	proxy string // what the environment says
	ok    bool
	step  string
	want  string
}

func testDoctorProxy(t *testing.T, tests []doctorProxyCase) {
	server, roots := doctorTLS(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testDoctorBehind(t, tt, server, roots) })
		})
	}
}

func testDoctorBehind(t *testing.T, tt doctorProxyCase, server *tls.Config, roots *x509.CertPool) {
	pipes, proxyPipes := newPipeListener("example.com"), newPipeListener("proxy.example")
	api := startEventAPI(
		tls.NewListener(pipes, server),
		eventAPIOptions{region: "eu-west-1", credentials: []credentials{doctorKeys}})
	defer api.close()
	proxy := &http.Server{Handler: connectProxy(tt.user, pipes.dial)}
	var wg sync.WaitGroup
	wg.Go(func() { proxy.Serve(proxyPipes) })
	d, out := doctorFor(t, "https://example.com",
		func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasPrefix(addr, "proxy.example:") {
				return proxyPipes.dial(ctx, network, addr)
			}
			return nil, syscall.ECONNREFUSED // there is no other way out
		})
	d.transport.TLSClientConfig.RootCAs = roots
	d.transport.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(tt.proxy) }
	ok := d.run(t.Context())
	d.transport.CloseIdleConnections()
	proxy.Close()
	wg.Wait()
	line := doctorLine(out.String(), tt.step)
	if ok != tt.ok || line != tt.want {
		t.Errorf("got %t\n%s\nwant %s", ok, out, tt.want)
	}
	if strings.Contains(out.String(), secretValue) {
		t.Errorf("a secret is shown: %s", out)
	}
}

func TestDoctorGoesThroughTheProxy(t *testing.T) {
	t.Parallel()
	testDoctorProxy(t, []doctorProxyCase{
		{
			name:  "open",
			proxy: "http://proxy.example:3128",
			ok:    true,
			step:  "proxy",
			want:  "ok    proxy            proxy.example:3128",
		},
		{
			name:  "its name is looked up",
			proxy: "http://proxy.example",
			ok:    true,
			step:  "names",
			want:  "ok    names            proxy.example is 192.0.2.1",
		},
		{
			name:  "with a password",
			user:  "user:" + secretValue,
			proxy: "http://user:" + secretValue + "@proxy.example",
			ok:    true,
			step:  "proxy",
			want:  "ok    proxy            proxy.example:80, with user name",
		},
	})
}

func TestDoctorSaysWhyTheProxyIsNoWay(t *testing.T) {
	testDoctorProxy(t, []doctorProxyCase{
		{
			name:  "without the password",
			user:  "user:" + secretValue,
			proxy: "http://proxy.example",
			step:  "TLS",
			want: "FAIL  TLS              example.com: Proxy Authentication Required; put user name and " +
				"password into HTTPS_PROXY",
		},
		{
			name:  "gone",
			proxy: "http://gone.example:3128",
			step:  "proxy",
			want: "FAIL  proxy            connection refused; check HTTPS_PROXY, or name example.com in " +
				"NO_PROXY",
		},
		{
			name:  "no URL",
			proxy: "http://user:" + secretValue + "@[::1",
			step:  "proxy",
			want: "FAIL  proxy            HTTPS_PROXY (or https_proxy) is not an URL like http://" +
				"USER:PASSWORD@HOST:PORT",
		},
	})
}

func TestProxyWithoutPortHasItsSchemes(t *testing.T) {
	for proxy, want := range map[string]string{
		"http://proxy.example":         "proxy.example:80",
		"https://proxy.example":        "proxy.example:443",
		"socks5://proxy.example":       "proxy.example:1080",
		"socks5h://proxy.example":      "proxy.example:1080",
		"https://proxy.example:3128":   "proxy.example:3128",
		"http://user:x@[2001:db8::1]/": "[2001:db8::1]:80",
	} {
		u, err := url.Parse(proxy)
		if err != nil {
			t.Fatal(err)
		}
		got := proxyAddress(u)
		if got != want {
			t.Errorf("%s: got %s, want %s", proxy, got, want)
		}
	}
}

// net/http passes over a proxy that is no URL, and says nothing.
func TestDoctorNamesAProxyVariableThatIsNoURL(t *testing.T) {
	u := &url.URL{Scheme: "https", Host: "example.com"}
	d := &doctor{api: &appsync{endpoint: endpoint{http: u, realtime: u}}, transport: new(http.Transport)}
	for _, tt := range []struct{ name, value, want string }{
		{name: "HTTPS_PROXY", value: "http://user:" + secretValue + "%@proxy.example",
			want: "none: HTTPS_PROXY is not an URL"},
		{name: "https_proxy", value: "http://" + secretValue + "%@proxy.example",
			want: "none: https_proxy is not an URL"},
		{name: "HTTPS_PROXY", value: "192.0.2.1:3128", want: "none"}, // which net/http understands
		{name: "HTTPS_PROXY", want: "none"},
	} {
		t.Setenv("HTTPS_PROXY", "")
		t.Setenv("https_proxy", "")
		t.Setenv(tt.name, tt.value)
		found, err := d.checkProxy(t.Context())
		if err != nil || !strings.HasPrefix(found, tt.want) || tt.want == "none" && found != tt.want ||
			strings.Contains(found, secretValue) {
			t.Errorf("%s: got %q, %v; want %q", tt.name, found, err, tt.want)
		}
	}
}

// startDoctorAPI starts an API that takes the key da2-secretValue, and returns its host:port.
func startDoctorAPI(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	api := startEventAPI(ln, eventAPIOptions{apiKey: "da2-" + secretValue})
	t.Cleanup(api.close)
	return ln.Addr().String()
}

// The whole command, configured by flags, by a stack, and not at all.
func TestDoctorCommandSaysWhatIsConfigured(t *testing.T) {
	f := newFakeAWS(t)
	addr := startDoctorAPI(t)
	base := "http://" + addr
	f.stacks["here"] = []fakeOutput{
		{OutputKey: "LiveLambdaAppsyncHttpHost", OutputValue: base},
		{OutputKey: "LiveLambdaAppsyncRegion", OutputValue: "eu-west-1"}}
	tests := []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{name: "flags",
			args: []string{"--host", base, "--region", "eu-west-1", "--api-key", "da2-" + secretValue},
			want: "ok    configuration    " + addr +
				", namespace live-lambda, region eu-west-1\n"},
		{name: "stack", args: []string{"--stack", "here", "--api-key", "da2-" + secretValue, "--stage", "me"},
			want: "ok    configuration    " + addr +
				", namespace live-lambda, region eu-west-1, stage me\n"},
		{name: "wrong key", args: []string{"--stack", "here", "--api-key", "da2-other"}, status: 1,
			want: "ok    configuration    "},
		{name: "no stack", args: []string{"--stack", "gone"}, status: 1,
			want: `FAIL  configuration    read the outputs of stack "gone": aws cloudformation ` +
				`describe-stacks: ` +
				`ValidationError: Stack with id gone does not exist` + "\n"},
		{name: "nothing", status: 1,
			want: "FAIL  configuration    the AppSync API is not set: give --stack, --host or " +
				"LIVE_LAMBDA_APPSYNC_HTTP_HOST\n"},
		{name: "wrong", args: []string{"--host", base, "--stage", "a_b"}, status: 1,
			want: `FAIL  configuration    LIVE_LAMBDA_STAGE is "a_b", ` +
				"not 1 to 50 letters, digits and inner dashes\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := f.run("doctor", tt.args...)
			if r.status != tt.status || !strings.HasPrefix(r.out, tt.want) || r.err != "" {
				t.Errorf("got %d\n%s%s\nwant %d\n%s", r.status, r.out, r.err, tt.status, tt.want)
			}
		})
	}
}
