//go:build !layer

package main

// appsync_connect_test.go tests how appsync.go connects, what ends that, and when it tries again. Time is
// synctest's.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"
)

// connecting is a client that has dialled and said connection_init. What it becomes comes on done.
type connecting struct {
	peer *peer
	done chan asyncResult[*session]
	logs *logLines
}

// beginConnect dials, accepts the WebSocket and takes connection_init.
func beginConnect(t *testing.T) *connecting {
	t.Helper()
	ln := newPipeListener("example.com")
	a := newTestAPI(ln)
	c := &connecting{logs: new(logLines)}
	a.log = c.logs.logger()
	c.done = async(func() (*session, error) { return a.connect(t.Context()) })
	c.peer = acceptPeer(t, ln)
	c.peer.upgrade("aws-appsync-event-ws")
	c.peer.operation("connection_init")
	synctest.Wait()
	return c
}

// failed waits until the client has given up and left the connection, and returns why. Nothing secret is
// told.
func (c *connecting) failed() error {
	c.peer.t.Helper()
	left := asyncError(func() error { c.peer.drain(); return nil })
	r := <-c.done
	<-left
	if r.err == nil {
		c.peer.t.Fatal("connected")
	}
	if strings.Contains(r.err.Error(), "\n") {
		c.peer.t.Errorf("an error of more than one line: %q", r.err)
	}
	if said := fmt.Sprint(r.err, c.logs); strings.Contains(said, testToken) {
		c.peer.t.Errorf("told too much: %s", said)
	}
	return r.err
}

func TestConnectReturnsWhenTheConnectionIsAcknowledged(t *testing.T) {
	t.Parallel()
	for _, says := range [][]string{
		{`{"type":"connection_ack","connectionTimeoutMs":300000}`},
		{
			`{"type":"ka"}`,
			`{"type":"frobnicate","id":"x"}`,
			`{"type":"data","id":"1","event":"1"}`,
			`{"type":"connection_ack"}`,
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := beginConnect(t)
			for _, m := range says {
				c.peer.say("%s", m)
			}
			left := asyncError(func() error { c.peer.drain(); return nil })
			r := <-c.done
			if r.err != nil || r.value.ctx.Err() != nil {
				t.Fatalf("error %v", r.err)
			}
			if said := c.logs.String(); strings.Contains(said, testToken) {
				t.Errorf("told too much: %s", said)
			}
			r.value.conn.close()
			<-left
		})
	}
}

// connectionError is a connection_error of AppSync's, in its own words.
func connectionError(errorType, message string) string {
	return fmt.Sprintf(`{"type":"connection_error","errors":[{"errorType":"%s","message":"%s"}]}`, errorType,
		message)
}

// These are errRefused: there is nothing to try again soon.
func TestConnectThatAppSyncRefusesSaysWhatToGrant(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		says string
		want string
	}{
		{
			name: "unauthorized",
			says: connectionError("UnauthorizedException", "You are not authorized to make this call."),
			want: `AppSync refused to connect: UnauthorizedException "You are not authorized to make this ` +
				`call."; grant appsync:EventConnect on arn:aws:appsync:eu-west-1:ACCOUNT:apis/API_ID, and ` +
				`check host and namespace`,
		},
		{
			name: "with an id",
			says: `{"type":"connection_error","id":"7","errors":[{"errorType":"UnauthorizedException"}]}`,
			want: "AppSync refused to connect",
		},
		{
			name: "wrong signature",
			says: connectionError("BadRequestException", `The request signature does not match.\n`+
				`The Canonical String should have been\nx-amz-security-token:`+testToken),
			want: `BadRequestException "The request signature does not match."`,
		},
		{
			name: "wrong secret",
			says: connectionError("BadRequestException",
				"The request signature we calculated does not match the signature you provided."),
			want: `provided."; the secret access key is not the one of this access key`,
		},
		{
			name: "wrong secret, as other services name it",
			says: connectionError("InvalidSignatureException", "The request signature we calculated does "+
				"not match the signature you provided."),
			want: `provided."; the secret access key is not the one of this access key`,
		},
		{
			name: "expired token",
			says: connectionError(
				"ExpiredTokenException", "The security token included in the request is expired"),
			want: `is expired"; the credentials have expired: get new ones`,
		},
		{
			name: "expired token, of another type",
			says: connectionError("UnrecognizedClientException",
				"The security token included in the request is expired"),
			want: `is expired"; the credentials have expired: get new ones`,
		},
		{
			name: "unknown access key",
			says: connectionError("UnrecognizedClientException",
				"The security token included in the request is invalid."),
			want: `is invalid."; AWS does not know these credentials`,
		},
		{
			name: "clock behind",
			says: connectionError("BadRequestException",
				"Signature expired: 20000101T000000Z is now earlier "+
					"than 20000101T000100Z (20000101T000600Z - 5 min.)"),
			want: `min.)"; the clock here is wrong`,
		},
		{
			name: "clock ahead",
			says: connectionError("InvalidSignatureException", "Signature not yet current: 20000101T000000Z"),
			want: `00Z"; the clock here is wrong`,
		},
		{
			name: "wrong region",
			says: connectionError("BadRequestException",
				"Credential should be scoped to a valid region, not "+
					"'us-east-1'. "),
			want: `'us-east-1'. "; the region is not the API's: set LIVE_LAMBDA_APPSYNC_REGION`,
		},
		{
			name: "missing permission, as IAM tells it",
			says: connectionError("AccessDeniedException", "User: u is not authorized to perform: "+
				"appsync:EventConnect"),
			want: `EventConnect"; grant appsync:EventConnect on arn:aws:appsync:eu-west-1:ACCOUNT:apis/` +
				`API_ID,`,
		},
		{
			name: "malformed",
			says: connectionError("BadRequestException", "Malformed authorization header"),
			want: `header"; check host, region, clock and key`,
		},
		{
			name: "a long line",
			says: connectionError("BadRequestException", strings.Repeat("m", 300)+testToken),
			want: `"` + strings.Repeat("m", 160) + `"`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := beginConnect(t)
				c.peer.say("%s", test.says)
				err := c.failed()
				checkError(t, err, test.want)
				if !errors.Is(err, errRefused) {
					t.Errorf("%v is no refusal", err)
				}
			})
		})
	}
}

func TestRefusalCountsThoughTheConnectionEndsRightAfterIt(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*peer){
		"closed": func(p *peer) {
			// The client may have gone by then.
			p.nc.Write(webSocketFrame(true, websocket.CloseFrame, []byte("\x03\xe9going away")))
		},
		"cut off": func(p *peer) { p.nc.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := beginConnect(t)
				c.peer.say("%s", connectionError("UnauthorizedException", "no"))
				end(c.peer)
				err := c.failed()
				checkError(t, err, "AppSync refused to connect: UnauthorizedException")
				if !errors.Is(err, errRefused) {
					t.Errorf("%v is no refusal", err)
				}
			})
		})
	}
}

// These are not errRefused: they may pass.
func TestConnectFailsIfAppSyncDoesNotAcknowledge(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(*peer)
		want string
	}{
		{
			name: "not JSON",
			do:   func(p *peer) { p.say(`not JSON`) },
			want: "invalid character",
		},
		{
			name: "no errors",
			do:   func(p *peer) { p.say(`{"type":"connection_error"}`) },
			want: `AppSync failed to connect: no error type ""`,
		},
		{
			name: "busy",
			do: func(p *peer) {
				p.say(`{"type":"error","errors":[{"errorType":"LimitExceededError",` +
					`"message":"Rate limit exceeded"}]}`)
			},
			want: `AppSync failed to connect: LimitExceededError "Rate limit exceeded"`,
		},
		{
			name: "closed",
			do: func(p *peer) {
				p.nc.Write(webSocketFrame(true, websocket.CloseFrame, []byte("\x03\xe9going away")))
			},
			want: "the connection ended: EOF",
		},
		{
			name: "cut off",
			do:   func(p *peer) { p.nc.Close() },
			want: "the connection ended: EOF",
		},
		{
			name: "silence",
			do:   func(p *peer) {},
			want: "15s",
		},
		{
			name: "keep-alives alone",
			do: func(p *peer) {
				for range 10 {
					p.say(`{"type":"ka"}`)
					time.Sleep(time.Second)
				}
			},
			want: "no connection_ack within 15s",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := beginConnect(t)
				test.do(c.peer)
				err := c.failed()
				checkError(t, err, test.want)
				if errors.Is(err, errRefused) {
					t.Errorf("%v is a refusal", err)
				}
			})
		})
	}
}

// Without a frame for so long, this end must have slept: the session is of no more use. After
// connectionTimeoutMs the connection is dead.
func TestSessionIsSpentWhenItIsQuietAndDeadAfterAppSyncsTimeout(t *testing.T) {
	t.Parallel()
	for ack, want := range map[string]time.Duration{
		`{"type":"connection_ack","connectionTimeoutMs":300000}`: 5 * time.Minute,
		`{"type":"connection_ack","connectionTimeoutMs":120000}`: 2 * time.Minute,
		`{"type":"connection_ack"}`:                              5 * time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener("example.com")
			s, p := connectSessionWith(t, ln, newTestAPI(ln), ack)
			for range 5 { // keep-alives keep it up
				time.Sleep(want - time.Second)
				p.say(`{"type":"ka"}`)
			}
			start := time.Now()
			time.Sleep(staleAfter)
			if s.spent() {
				t.Errorf("%s: spent after %v", ack, staleAfter)
			}
			time.Sleep(time.Millisecond)
			if !s.spent() {
				t.Errorf("%s: not spent after more than %v", ack, staleAfter)
			}
			<-s.ctx.Done()
			why := context.Cause(s.ctx)
			if time.Since(start) != want || why.Error() != "nothing received for "+want.String() {
				t.Errorf("%s: after %v: %v", ack, time.Since(start), why)
			}
		})
	}
}

// connectAnswered connects to a server that answers the handshake so, and returns the error.
func connectAnswered(t *testing.T, answer string) (err error) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener("example.com")
		done := async(func() (*session, error) { return newTestAPI(ln).connect(t.Context()) })
		p := acceptPeer(t, ln)
		p.write("HTTP/1.1 " + strings.Replace(answer, "\r\n", "\r\nConnection: close\r\n", 1))
		p.nc.Close()
		err = (<-done).err
	})
	return err
}

// What a handler of the API says is no refusal by AppSync, even if it speaks as AppSync does.
func TestMessageInTheWordsOfARefusalIsNoRefusal(t *testing.T) {
	t.Parallel()
	a := &appsync{endpoint: endpoint{region: "eu-west-1"}}
	for _, message := range []string{"Unauthorized", `"Forbidden "`, `BadRequestException "x"`} {
		err := a.refusal("publish", apiError{ErrorType: "CustomError", Message: message})
		checkError(t, err, "AppSync failed to publish: CustomError")
		if errors.Is(err, errRefused) {
			t.Errorf("%v is a refusal", err)
		}
	}
}

func TestHandshakeThatAppSyncRefusesSaysWhatToGrant(t *testing.T) {
	t.Parallel()
	tests := []struct {
		answer string
		want   string // after "AppSync refused to connect: the server refuses the WebSocket: "
	}{
		{
			answer: "401 Unauthorized\r\n\r\n{\"message\":\"no\"}",
			want:   `401 Unauthorized "{\"message\":\"no\"}"; grant appsync:EventConnect`,
		},
		{
			answer: "403 Forbidden\r\n\r\n<html>",
			want:   `403 Forbidden "<html>"; grant`,
		},
		{
			answer: "401 Unauthorized\r\n\r\nno\nno",
			want:   `401 Unauthorized "no"; grant`,
		},
		{
			answer: "403 Forbidden\r\n\r\n" + strings.Repeat("x", 4000),
			want:   `403 Forbidden "` + strings.Repeat("x", 160) + `"; grant`,
		},
		{
			answer: "400 Bad Request\r\n\r\n",
			want:   `400 Bad Request`,
		},
	}
	for _, test := range tests {
		err := connectAnswered(t, test.answer)
		checkError(t, err, "AppSync refused to connect: the server refuses the WebSocket: "+test.want)
		if !errors.Is(err, errRefused) {
			t.Errorf("%.40q: %v is no refusal", test.answer, err)
		}
	}
}

func TestHandshakeThatFailsForOtherReasonsIsNoRefusal(t *testing.T) {
	t.Parallel()
	tests := []struct {
		answer string
		want   string // after "AppSync failed to connect: the server refuses the WebSocket: "
	}{
		{answer: "599 x\r\n\r\n", want: `599  ""`},
		{answer: "302 Found\r\nLocation: http://other/\r\n\r\n", want: `302 Found ""`},
		{answer: "101 Switching Protocols\r\n\r\n", want: `101 Switching Protocols ""`},
		{answer: "404 Not Found\r\n\r\n", want: `404 Not Found`},
		{answer: "429 Too Many Requests\r\n\r\n", want: `429 Too Many Requests`},
		{answer: "503 Service Unavailable\r\n\r\nbusy", want: `503 Service Unavailable "busy"`},
	}
	for _, test := range tests {
		err := connectAnswered(t, test.answer)
		checkError(t, err, "AppSync failed to connect: the server refuses the WebSocket: "+test.want)
		if errors.Is(err, errRefused) {
			t.Errorf("%q: %v is a refusal", test.answer, err)
		}
	}
}

func TestConnectSaysThatCredentialsCannotBeRead(t *testing.T) {
	t.Parallel()
	a := newTestAPI(nil)
	a.credentials = func(context.Context) (credentials, error) { return credentials{}, errors.New("none") }
	_, err := a.connect(t.Context())
	if err == nil || err.Error() != "read AWS credentials: none" {
		t.Errorf("no credentials: %v", err)
	}
}

// failingDials runs an API until a hundred dials have failed with err, and returns the pauses between them
// and what was logged.
func failingDials(t *testing.T, err error) (pauses []time.Duration, logs *logLines) {
	t.Helper()
	logs = new(logLines)
	a := newTestAPI(nil)
	a.log = logs.logger()
	ctx, cancel := context.WithCancel(t.Context())
	var at []time.Time
	a.credentials = func(context.Context) (credentials, error) {
		at = append(at, time.Now())
		if len(at) == 100 {
			cancel()
		}
		return credentials{}, err
	}
	a.run(ctx, func(*session) (bool, error) { return false, nil }, func(error) {})
	if time.Since(at[99]) != 0 {
		t.Error("run waits after the end")
	}
	for i := range 99 {
		pauses = append(pauses, at[i+1].Sub(at[i]))
	}
	return pauses, logs
}

// checkBackoff checks that pauses, less what each has at least, are drawn from 0 up to a bound that doubles.
func checkBackoff(t *testing.T, pauses []time.Duration, least time.Duration) {
	t.Helper()
	low, high, bound := 0, 0, firstBackoff
	for i, pause := range pauses {
		pause -= least
		switch {
		case pause < 0 || pause >= bound:
			t.Errorf("pause %d: %v, at most %v", i, pause, bound)
		case pause < bound/4:
			low++
		case pause > bound*3/4:
			high++
		}
		bound = min(2*bound, maxBackoff)
	}
	if low == 0 || high == 0 { // each misses with a probability of 1 in 10^12
		t.Errorf("%d pauses in the first quarter, %d in the last", low, high)
	}
}

func TestDialsThatFailAreFurtherAndFurtherApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pauses, logs := failingDials(t, errors.New("connection refused"))
		checkBackoff(t, pauses, 0)
		if n := strings.Count(logs.String(), "level=WARN"); n != 1 {
			t.Errorf("told %d times, want once:\n%s", n, logs)
		}
	})
}

func TestDialsThatAppSyncRefusesAreTenSecondsApartAtLeast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pauses, logs := failingDials(t, fmt.Errorf("%w to connect", errRefused))
		checkBackoff(t, pauses, refusedPause)
		if n := strings.Count(logs.String(), "level=WARN"); n != 1 {
			t.Errorf("told %d times, want once:\n%s", n, logs)
		}
	})
}

func TestMinuteWithoutAFrameRightAfterTheAckEndsNothing(t *testing.T) {
	t.Parallel()
	for _, ack := range []string{
		`{"type":"connection_ack","connectionTimeoutMs":300000}`,
		`{"type":"connection_ack","connectionTimeoutMs":-5}`,
	} {
		synctest.Test(t, func(t *testing.T) {
			c := beginConnect(t)
			c.peer.say("%s", ack)
			r := <-c.done
			if r.err != nil {
				t.Fatal(r.err)
			}
			defer r.value.conn.close()
			time.Sleep(time.Minute)
			if r.value.ctx.Err() != nil {
				t.Errorf("%s: %v", ack, context.Cause(r.value.ctx))
			}
		})
	}
}
