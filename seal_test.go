//go:build !layer

package main

// seal_test.go tests sealed messages: what they look like, and that nothing but what was sealed can be
// opened.

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
)

// newTestSealer makes a sealer of a key of 32 times the same byte.
func newTestSealer(b byte) *sealer { return newSealer(bytes.Repeat([]byte{b}, keySize)) }

// sealBy seals a message as docs/PROTOCOL.md says, with the cipher alone.
func sealBy(key byte, nonce, requestID, plain string) string {
	block, err := aes.NewCipher(bytes.Repeat([]byte{key}, keySize))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	sealed := aead.Seal([]byte(nonce), []byte(nonce), []byte(plain), []byte("live-lambda 1 "+requestID))
	return sealedText(requestID, newTestSealer(key).id, sealed)
}

func sealedText(requestID, key string, data []byte) string {
	return fmt.Sprintf(`{"live_lambda":1,"type":"sealed","request_id":"%s","key":"%s","data":"%s"}`,
		requestID, key, base64.RawURLEncoding.EncodeToString(data))
}

// accepted is a message of a local end about request 0a/1.
const acceptedText = `{"live_lambda":1,"type":"accepted","request_id":"0a/1","index":0,"last":true,` +
	`"sender":"a3f0"}`

func TestSealedMessageIsOpened(t *testing.T) {
	for name, p := range map[string]part{
		"without data": {Type: "accepted", RequestID: "0a/1", Last: true, Sender: "a3f0"},
		"with data": {
			Type: "response", RequestID: "0a/1", Index: 3, Sender: "a3f0", data: []byte("a\nb\n\x00\xff"),
			Headers: map[string]string{"Content-Type": "text/plain; é\n"},
		},
		"all of it": {Type: "response", RequestID: "0a/1", data: bytes.Repeat([]byte{7}, partData)},
		"hello": {
			Type: "hello", RequestID: "a3f0/hello", Sender: "a3f0", Functions: []string{"orders-*"}},
	} {
		t.Run(name, func(t *testing.T) {
			p.sealer = newTestSealer(1)
			event := string(p.encode(p.data))
			for _, secret := range []string{"a3f0\"", "response", "accepted", "text/plain", "orders"} {
				if strings.Contains(event, secret) {
					t.Errorf("%q can be read in %.300s", secret, event)
				}
			}
			var fields map[string]any
			if err := json.Unmarshal([]byte(event), &fields); err != nil || len(fields) != 5 {
				t.Errorf("it has the fields %v, %v", maps.Keys(fields), err)
			}
			other := newTestSealer(1) // the other end's
			got, err := other.parse(event)
			if err != nil {
				t.Fatal(err)
			}
			p.LiveLambda, p.sealer = 1.0, other
			got.text = ""
			if len(p.data) == 0 {
				got.data = nil
			}
			if !reflect.DeepEqual(*got, p) {
				t.Errorf("got %.300v, want %.300v", *got, p)
			}
		})
	}
}

func TestSealedMessageIsWhatTheCipherMakes(t *testing.T) {
	p, err := newTestSealer(1).parse(sealBy(1, "0123456789ab", "0a/1", acceptedText))
	if err != nil || p.Type != "accepted" || p.Sender != "a3f0" || p.text != acceptedText {
		t.Errorf("got %+v, %v", p, err)
	}
	first, second := part{Type: "probe", sealer: newTestSealer(1)}.event(),
		part{Type: "probe", sealer: newTestSealer(1)}.event()
	if bytes.Equal(first, second) {
		t.Error("the nonce is the same twice")
	}
	if id := newTestSealer(1).id; id != "72cd6e84" { // printf '\1%.0s' $(seq 32) | sha256sum
		t.Errorf("the key is %s", id)
	}
}

// Each message that is not as its sender has made it is dropped, with what is wrong with it, and nothing of
// what it says.
func TestMessageThatIsNotSealedAsItMustBeIsDropped(t *testing.T) {
	s := newTestSealer(1)
	whole := sealBy(1, "0123456789ab", "0a/1", acceptedText)
	short := func(size int) string { return sealedText("0a/1", s.id, make([]byte, size)) }
	const (
		notSealed = "it is not sealed, and LIVE_LAMBDA_KEY is set here"
		otherKey  = "it is sealed with a key that is not set here (LIVE_LAMBDA_KEY)"
		changed   = "it was changed on its way, or belongs to another request"
		recorded  = "it has come before: it was recorded, and sent again"
	)
	for name, test := range map[string]struct{ event, want string }{
		"no message":         {event: `{"by":"secret"}`, want: notSealed},
		"no JSON":            {event: `secret`, want: notSealed},
		"null":               {event: `null`, want: notSealed},
		"plain":              {event: acceptedText, want: notSealed},
		"a plain hello":      {event: presenceText("hello", ""), want: notSealed},
		"another key":        {event: sealBy(2, "0123456789ab", "0a/1", acceptedText), want: otherKey},
		"no key":             {event: strings.Replace(whole, s.id, "", 1), want: otherKey},
		"another key's name": {event: strings.Replace(whole, s.id, "00000000", 1), want: otherKey},
		"the name on another's": {
			event: strings.Replace(
				sealBy(2, "0123456789ab", "0a/1", acceptedText), newTestSealer(2).id, s.id, 1),
			want: changed},
		"another request":   {event: strings.Replace(whole, "0a/1", "0a/2", 1), want: changed},
		"of another in it":  {event: sealBy(1, "0123456789ac", "0a/2", acceptedText), want: changed},
		"no message in it":  {event: sealBy(1, "0123456789ad", "0a/1", `{"secret":1}`), want: changed},
		"nothing in it":     {event: sealBy(1, "0123456789ae", "0a/1", ``), want: changed},
		"sealed in sealed":  {event: sealBy(1, "0123456789af", "0a/1", whole)},
		"no data":           {event: short(0), want: changed},
		"less than a nonce": {event: short(nonceSize - 1), want: changed},
		"a nonce alone":     {event: short(nonceSize), want: changed},
		"less than a tag":   {event: short(nonceSize + 15), want: changed},
		"data that is none": {
			event: strings.Replace(whole, `"data":"`, `"data":"*`, 1),
			want:  "its field data is not unpadded base64url"},
		"a field of another type": {
			event: strings.Replace(whole, `"key"`, `"index":"secret","key"`, 1),
			want:  "its field index is of another type"},
		"recorded": {event: whole, want: recorded},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestSealer(1)
			if test.want == recorded {
				if _, err := s.parse(test.event); err != nil {
					t.Fatal(err)
				}
			}
			p, err := s.parse(test.event)
			if test.want == "" {
				if err != nil || p.Type != "sealed" {
					t.Errorf("got %+v, %v", p, err)
				}
				return
			}
			if err == nil || err.Error() != test.want {
				t.Errorf("error %v, want %s", err, test.want)
			}
			if p == nil {
				t.Error("it could be taken for a bare result")
			}
		})
	}
	_, err := (*sealer)(nil).parse(whole)
	if err == nil || err.Error() != otherKey {
		t.Errorf("without a key: error %v, want %s", err, otherKey)
	}
}

func TestNoBitOfASealedMessageMayChange(t *testing.T) {
	whole := sealBy(1, "0123456789ab", "0a/1", acceptedText)
	_, data, _ := strings.Cut(whole, `"data":"`)
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimSuffix(data, `"}`))
	if err != nil {
		t.Fatal(err)
	}
	s := newTestSealer(1)
	for i := range raw {
		for bit := range 8 {
			bad := bytes.Clone(raw)
			bad[i] ^= 1 << bit
			if _, err := s.parse(sealedText("0a/1", s.id, bad)); err != errChanged {
				t.Errorf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
	for size := range raw {
		if _, err := s.parse(sealedText("0a/1", s.id, raw[:size])); err != errChanged {
			t.Errorf("the first %d bytes: %v", size, err)
		}
	}
}

func TestNoncesThatAreRememberedAreBounded(t *testing.T) {
	s := newTestSealer(1)
	for i := range maxNonces {
		s.nonces[fmt.Sprintf("%012d", i)] = true
	}
	for i := range 2 {
		event := sealBy(1, fmt.Sprintf("abcdefghijk%d", i), "0a/1", acceptedText)
		if _, err := s.parse(event); err != nil {
			t.Fatal(err)
		}
		if _, err := s.parse(event); err != errRecorded {
			t.Errorf("it has come before: %v", err)
		}
	}
	before := sealBy(1, fmt.Sprintf("%012d", maxNonces-1), "0a/1", acceptedText)
	if _, err := s.parse(before); err != errRecorded {
		t.Errorf("the last one of those before: %v", err)
	}
	if len(s.nonces) != 2 || len(s.older) != maxNonces {
		t.Errorf("%d and %d are remembered", len(s.nonces), len(s.older))
	}
}

// What comes from elsewhere changes nothing, and the log has one line for each thing that is wrong.
func TestExtensionWithAKeyDropsWhatIsNotSealedWithIt(t *testing.T) {
	slow := func(d *delivery) localReply {
		time.Sleep(10 * time.Second)
		return respond(`{"by":"local"}`)
	}
	opts := rigOptions{env: map[string]string{"LIVE_LAMBDA_KEY": testKey}, local: &localEnd{handle: slow}}
	rigTest(t, "", opts, func(r *rig) {
		var ours string // a message that the local end has sent
		r.intercept(func(f rigFrame) apiVerdict {
			if f.step == "local publish accepted 0" && ours == "" {
				ours = f.events[0]
			}
			return apiVerdict{}
		})
		go func() {
			time.Sleep(time.Second)
			l, _ := r.link()
			r.proxy.tunnel.Lock()
			id := l.callID(r.proxy.tunnel.lastN)
			r.proxy.tunnel.Unlock()
			forged := part{Type: "response", RequestID: id, Last: true, Sender: "a3f0"}
			other := forged
			other.sealer = newTestSealer(2)
			for range 3 {
				for _, event := range []string{
					`{"by":"forged"}`,
					string(forged.encode([]byte(`{"by":"forged"}`))),
					string(other.encode([]byte(`{"by":"forged"}`))),
					ours,
					strings.Replace(
						string(other.encode([]byte(`{"by":"forged"}`))), other.sealer.id, l.sealer.id, 1),
				} {
					r.api.publish(l.channel(id), event)
				}
			}
		}()
		r.want(r.invoke(`1`), "local")
		log := r.log.String()
		for _, line := range []string{
			"it is not sealed", "it is sealed with a key that is not set here", "it was changed on its way",
			"it has come before",
		} {
			if n := strings.Count(log, line); n != 1 {
				r.t.Errorf("%d lines say that %s: %s", n, line, log)
			}
		}
		if strings.Contains(log, "forged") || strings.Contains(log, testKey) {
			r.t.Errorf("the log says too much: %s", log)
		}
	})
}

func TestExtensionWithAKeyHearsSealedHellosAlone(t *testing.T) {
	env := map[string]string{"LIVE_LAMBDA_KEY": testKey, "LIVE_LAMBDA_ACCEPT_TIMEOUT": "3s"}
	rigTest(t, "", rigOptions{noLocal: true, env: env}, func(r *rig) {
		r.want(r.invoke("1"), "deployed")
		l, _ := r.link()
		hello := part{Type: "hello", RequestID: "a3f0/hello", Last: true, Sender: "a3f0"}
		other := hello
		other.sealer = newTestSealer(2)
		for _, event := range []string{string(hello.event()), string(other.event())} {
			r.say(event)
			r.wantTook(r.invoke("2"), 0)
		}
		hello.sealer = l.sealer
		r.say(string(hello.event()))
		r.wantTook(r.invoke("3"), 3*time.Second)
	})
}

func TestExtensionWithoutAKeySaysThatAnAnswerIsSealed(t *testing.T) {
	opts := rigOptions{local: &localEnd{script: func(d *delivery) {
		p := part{Type: "accepted", RequestID: d.requestID(), Last: true, Sender: "a3f0",
			sealer: newTestSealer(1)}
		d.publish(p.event())
	}}, env: threeSeconds}
	rigTest(t, "", opts, func(r *rig) {
		r.want(r.invoke("1"), "deployed")
		r.wantLogged("it is sealed with a key that is not set here (LIVE_LAMBDA_KEY)")
	})
}

func FuzzSealed(f *testing.F) {
	f.Add(acceptedText, []byte("data"), 17, byte(4))
	f.Add(`{"live_lambda":1}`, []byte("\n"), 0, byte(0))
	f.Add(`{"request_id":"0a/1","event_payload":{"a":1},"context":{},"live_lambda":1}`, []byte{}, 99,
		byte(255))
	f.Fuzz(func(t *testing.T, object string, data []byte, at int, change byte) {
		s := newTestSealer(1)
		plain, err := parsePart(object)
		line := strings.ContainsAny(object, "\n")
		event := s.seal("0a/1", []byte(object), data)
		got, openErr := s.parse(string(event))
		if plain != nil && plain.RequestID == "0a/1" && !line {
			if (err == nil) != (openErr == nil) || got.text != object || !bytes.Equal(got.data, data) {
				t.Errorf("%q with %q became %+v, %v", object, data, got, openErr)
			}
		}
		if at < 0 || at >= len(event) || change == 0 {
			return
		}
		event[at] ^= change
		changed, err := newTestSealer(1).parse(string(event))
		if err == nil && changed.sealer != nil &&
			(changed.text != got.text || !bytes.Equal(changed.data, got.data)) {
			t.Errorf("byte %d was changed, and it is another message: %q", at, event)
		}
	})
}
