//go:build !layer

package main

// local_keys_test.go tests a local end that has keys: what it opens, with what it answers, and what it drops.

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSealedRequestIsAnsweredWithItsOwnKey(t *testing.T) {
	sealedBubble(t, []string{testKey, otherKey}, func(r *localRig) {
		for i, key := range []string{testKey, otherKey} {
			e := r.newSealedEar(fmt.Sprint("link", i), key)
			p := e.answer(1, r.context(), "sealed")
			if string(p.data) != "sealed" || p.sealer == nil {
				t.Errorf("answered %q", p.data)
			}
			e.done(1, "answered")
			synctest.Wait()
			if r.sub.talking() != 0 {
				t.Error("it has not heard that the invocation is over")
			}
		}
		r.wantRan(2)
	})
}

// The function's key has been changed while its extension lives on in another environment, for instance.
func TestRepeatedRequestIsAnsweredWithTheKeyThatItCameWithLast(t *testing.T) {
	sealedBubble(t, []string{testKey, otherKey}, func(r *localRig) {
		one, two := r.newSealedEar("aaaa", testKey), r.newSealedEar("bbbb", otherKey)
		c := r.context()
		id := one.begin(1, c)
		two.ask(7, []byte("1"), c)
		two.hear(7, "accepted")
		r.respond(id, strings.NewReader(`"x"`), 202)
		two.hear(7, "response")
		two.done(7, "answered")
		r.wantRan(1)
	})
}

func TestSealedStreamComesWhole(t *testing.T) {
	sealedBubble(t, []string{testKey}, func(r *localRig) {
		s := r.newSealedEar("aaaa", testKey).newStream(r.context(), 202)
		s.write("one")
		s.want(0, "one", 0)
		s.write("two")
		s.want(1, "two", streamPause)
		s.end(nil)
		s.last()
	})
}

// Large ones travel in parts, gzipped; the local end is the program's own.
func TestSealedInvocationsOfAnySizeComeBackFromTheProgramsLocalEnd(t *testing.T) {
	t.Parallel()
	opts := rigOptions{
		env: map[string]string{keyVariable: testKey},
		local: &localEnd{real: true, handle: func(d *delivery) localReply {
			return respond(`{"by":"local","of":` + string(d.event) + `}`)
		}},
	}
	rigTest(t, "", opts, func(r *rig) {
		for _, size := range []int{1, 160_000, 171_000, 172_000, 230_000, 1_000_000} {
			event := `"` + string(randomText(size, "0123456789abcdef")) + `"`
			got := r.invoke(event)
			if got.what != "local" || !strings.Contains(string(got.payload), event) {
				t.Errorf("%d bytes: answered by %s", size, got.what)
			}
		}
	})
}

// tampered has the end of what is sealed changed.
func tampered(event string) string {
	i := len(event) - len(`A"}`) - 1
	other := "A"
	if event[i] == 'A' {
		other = "B"
	}
	return event[:i] + other + event[i+1:]
}

// Each has a line of its own, once, with nothing of the message in it, and runs nothing.
func TestWhatCannotBeOpenedIsDroppedWithALine(t *testing.T) {
	t.Parallel()
	const secret = `"s3cr3t"`
	plain := func(e *ear) string { return requestText(`"aaaa/1"`, secret, validContext(nil)) }
	sealed := func(key string) func(*ear) string {
		return func(e *ear) string {
			return string(sealersOf(key)[0].seal("aaaa/1", []byte(plain(e)), nil))
		}
	}
	const notSealed = "dropped what is not sealed, because a key is set here: whoever has sent it, a " +
		"function " +
		"or another local end, has no LIVE_LAMBDA_KEY"
	const changed = "dropped a sealed message: it was changed on its way, belongs to another request, or " +
		"its key only looks like one that is set here"
	for _, tt := range []struct {
		name    string
		keys    []string
		message func(*ear) string
		want    string
	}{
		{name: "not sealed", keys: []string{testKey}, message: plain, want: notSealed},
		{
			name: "no message of this program", keys: []string{testKey},
			message: func(*ear) string { return secret }, want: notSealed,
		},
		{
			name: "another key", keys: []string{testKey}, message: sealed(otherKey),
			want: "dropped what is sealed with the key " + keyID(otherKey) +
				", which is not set here: give it " +
				"with --key or LIVE_LAMBDA_KEY",
		},
		{
			name: "a key, and none here", message: sealed(testKey),
			want: "dropped what is sealed with the key 630dcd29, which is not set here: give it with " +
				"--key or " +
				"LIVE_LAMBDA_KEY",
		},
		{
			name: "a key with a bad name", keys: []string{testKey},
			message: func(e *ear) string {
				return strings.Replace(sealed(testKey)(e), `"630dcd29"`, `"s3cr3t\u001b["`, 1)
			},
			want: "dropped what is sealed with a key without a valid name, which is not set here: give it " +
				"with " +
				"--key or LIVE_LAMBDA_KEY",
		},
		{
			name: "tampered", keys: []string{testKey, otherKey},
			message: func(e *ear) string { return tampered(sealed(otherKey)(e)) },
			want:    changed,
		},
		{
			name: "moved to another request", keys: []string{testKey},
			message: func(e *ear) string {
				return strings.Replace(sealed(testKey)(e), "aaaa/1", "aaaa/2", 1)
			},
			want: changed,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sealedBubble(t, tt.keys, func(r *localRig) {
				e := r.newSealedEar("link", append(tt.keys, "")[0])
				for range 3 {
					r.api.publish("/live-lambda/requests", tt.message(e))
				}
				e.begin(9, r.context())
				r.wantRan(1)
				if n := strings.Count(r.out.String(), tt.want+"\n"); n != 1 {
					t.Errorf("written %d times: %q in\n%s", n, tt.want, r.out)
				}
				if strings.Contains(r.out.String(), "s3cr3t") || strings.Contains(r.out.String(), "aaaa") {
					t.Errorf("the terminal has of the message:\n%s", r.out)
				}
			})
		})
	}
}

// Whoever has recorded a request, and sends it again, runs nothing: not while it runs, not when it is over.
func TestRecordedRequestRunsNothing(t *testing.T) {
	sealedBubble(t, []string{testKey}, func(r *localRig) {
		e := r.newSealedEar("aaaa", testKey)
		c := r.context()
		recorded := e.request(1, []byte("1"), c)
		r.api.publish("/live-lambda/requests", recorded)
		e.hear(1, "accepted")
		id, _ := r.next()
		r.api.publish("/live-lambda/requests", recorded)
		r.respond(id, strings.NewReader("1"), 202)
		e.until(1, "response")
		e.done(1, "answered")
		r.api.publish("/live-lambda/requests", recorded)
		e.ask(1, []byte("1"), c) // sealed anew, as the extension repeats it
		e.answer(2, r.context(), "2")
		r.wantRan(2)
		const want = "dropped a sealed message that has come before: it was recorded, and sent again\n"
		if n := strings.Count(r.out.String(), want); n != 1 {
			t.Errorf("written %d times: %q in\n%s", n, want, r.out)
		}
	})
}

// Anybody who may publish can make up names of keys.
func TestLinesAboutOtherKeysAreFew(t *testing.T) {
	sealedBubble(t, []string{testKey}, func(r *localRig) {
		for i := range 10 * maxOtherKeys {
			r.sub.receive(fmt.Sprintf(
				`{"live_lambda":1,"type":"sealed","request_id":"a/1","key":"%08x","data":"AAAA"}`, i))
		}
		r.newSealedEar("aaaa", testKey).begin(1, r.context())
		synctest.Wait()
		if n := strings.Count(r.out.String(), "which is not set here"); n != maxOtherKeys {
			t.Errorf("%d lines, want %d", n, maxOtherKeys)
		}
	})
}

// Parts of one request that are sealed with several keys come from several ends.
func TestPartsOfARequestHaveOneKey(t *testing.T) {
	sealedBubble(t, []string{testKey, otherKey}, func(r *localRig) {
		body, encoding := compress([]byte(requestText(`"aaaa/1"`, `"`+strings.Repeat("x", 20_000)+`"`,
			validContext(nil))))
		for i, key := range []string{testKey, otherKey} {
			half := body[i*len(body)/2 : (i+1)*len(body)/2]
			p := part{Type: "request", RequestID: "aaaa/1", Index: i, Last: i == 1, Encoding: encoding,
				sealer: sealersOf(key)[0]}
			r.sub.receive(string(p.encode(half)))
		}
		r.newSealedEar("aaaa", testKey).begin(2, r.context())
		r.wantRan(1)
		r.out.wait(r, "a request whose parts are not sealed with one key")
	})
}

// Whoever may publish could set variables of a process here.
func TestEnvironmentIsTakenFromSealedRequestsOnly(t *testing.T) {
	for _, key := range []string{"", testKey} {
		t.Run(key, func(t *testing.T) {
			keys := slices.DeleteFunc([]string{key}, func(key string) bool { return key == "" })
			sealedBubble(t, keys, func(r *localRig) {
				e := r.newSealedEar("aaaa", key)
				for n := range 2 {
					c := r.context()
					c.Environment = map[string]string{"TABLE": "t"}
					e.ask(n, []byte("1"), c)
					e.hear(n, "accepted")
				}
				synctest.Wait()
				r.local.mu.Lock()
				defer r.local.mu.Unlock()
				for q := range r.local.live {
					if (q.context.Environment["TABLE"] == "t") != (key != "") {
						t.Errorf("the environment is %v", q.context.Environment)
					}
				}
				lines := strings.
					Count(r.out.String(), "left out the environment that came with a request: it "+
						"was not sealed; set LIVE_LAMBDA_KEY of the function and here\n")
				if lines != 1-len(keys) || len(r.local.live) != 2 {
					t.Errorf("%d lines, and %d requests, in\n%s", lines, len(r.local.live), r.out)
				}
			})
		})
	}
}

// sealedPresence runs a test with a local end that has those keys. said has what it says, opened with any of
// them, with the key that it was sealed with.
func sealedPresence(t *testing.T, keys []string, test func(r *localRig, said chan string)) {
	sealedBubble(t, keys, func(r *localRig) {
		said := make(chan string, 100)
		time.Sleep(2 * helloPause)
		r.api.intercept(func(f apiFrame) apiVerdict {
			if (f.typ == "publish" || f.typ == "http_publish") && f.channel == presenceChannel {
				for _, event := range f.events {
					said <- openedPresence(event, keys)
				}
			}
			return apiVerdict{}
		})
		test(r, said)
	})
}

// openedPresence names what a message of a local end says, and its key.
func openedPresence(event string, keys []string) string {
	p, _ := newKeyring(sealersOf(keys...), nil).parse(event)
	var m presenceMessage
	json.Unmarshal([]byte(p.text), &m)
	if p.sealer == nil {
		return m.Type + " " + m.By
	}
	return m.Type + " " + m.By + " " + p.sealer.id
}

// saidSoon is all that is said within the next seconds.
func saidSoon(said chan string) (all []string) {
	time.Sleep(2 * helloPause)
	for len(said) > 0 {
		all = append(all, <-said)
	}
	return all
}

func TestHelloAndByeAreSaidOnceWithEachKey(t *testing.T) {
	t.Setenv("USER", "alice")
	sealedPresence(t, []string{testKey, otherKey}, func(r *localRig, said chan string) {
		each := func(what string) []string {
			by := what + " " + userAtHost() + " "
			return []string{by + keyID(testKey), by + keyID(otherKey)}
		}
		for _, key := range []string{testKey, otherKey} { // the second one is no news
			hello := sealersOf(key)[0].seal("a3f0/hello", []byte(presenceText("hello", "")), nil)
			r.api.publish(presenceChannel, string(hello))
		}
		if got := saidSoon(said); !slices.Equal(got, each("hello")) {
			t.Errorf("it said %q, want %q", got, each("hello"))
		}
		r.local.shutDown(r.sub, nil, true)
		if got := saidSoon(said); !slices.Equal(got, each("bye")) {
			t.Errorf("it said %q, want %q", got, each("bye"))
		}
	})
}

// Functions of a team may have keys of their own: that is no reason for a line.
func TestPresenceThatCannotBeOpenedIsDropped(t *testing.T) {
	sealedPresence(t, []string{testKey}, func(r *localRig, said chan string) {
		hello := presenceText("hello", "")
		other := string(sealersOf(otherKey)[0].seal("a3f0/hello", []byte(hello), nil))
		own := string(sealersOf(testKey)[0].seal("a3f0/hello", []byte(hello), nil))
		before := r.out.String()
		r.api.publish(presenceChannel, other)
		synctest.Wait()
		if r.out.String() != before {
			t.Errorf("another key is told:\n%s", r.out)
		}
		notBase64 := strings.Replace(own, `"data":"`, `"data":"=`, 1)
		for _, message := range []string{hello, "hello", hello, tampered(own), notBase64} {
			r.api.publish(presenceChannel, message)
		}
		if got := saidSoon(said); len(got) > 0 {
			t.Errorf("it said %q", got)
		}
		for _, want := range []string{
			"dropped what is not sealed",
			"dropped a sealed message: it was changed",
			"dropped a sealed message that is not valid: its field data is not unpadded base64url",
		} {
			if n := strings.Count(r.out.String(), want); n != 1 {
				t.Errorf("written %d times: %q in\n%s", n, want, r.out)
			}
		}
	})
}

// Whatever else is wrong with it.
func TestUnsealedHelloWithABadFieldIsDropped(t *testing.T) {
	for name, field := range map[string]string{
		"encoding": `,"encoding":"x"`, "data": `,"data":"="`, "index": `,"index":-1`,
	} {
		t.Run(name, func(t *testing.T) {
			sealedBubble(t, []string{testKey}, func(r *localRig) {
				e := r.newSealedEar("aaaa", testKey)
				r.api.publish(presenceChannel, strings.Replace(
					presenceText("hello", field), `"since":17`, `"since":3017`, 1))
				settle()
				e.ask(1, []byte("1"), r.context())
				time.Sleep(2 * time.Second)
				if len(e.parts) == 0 {
					t.Errorf("the request is left to who has no key:\n%s", r.out)
				}
			})
		})
	}
}
