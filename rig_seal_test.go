//go:build !layer

package main

import (
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"
)

// testKey and otherKey are LIVE_LAMBDA_KEYs.
const (
	testKey  = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
	otherKey = "__________________________________________8"
)

// keyOf is the 32 bytes of a LIVE_LAMBDA_KEY.
func keyOf(text string) []byte {
	key, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return key
}

// keyID names a LIVE_LAMBDA_KEY.
func keyID(text string) string { return newSealer(keyOf(text)).id }

// sealersOf are new ones of these keys.
func sealersOf(keys ...string) (sealers []*sealer) {
	for _, key := range keys {
		sealers = append(sealers, newSealer(keyOf(key)))
	}
	return sealers
}

// Small and large requests and answers, both ends sealing: nothing but probes travels plain.
func TestSealedInvocationIsAnsweredByALocalEnd(t *testing.T) {
	t.Parallel()
	opts := rigOptions{
		env: map[string]string{"LIVE_LAMBDA_KEY": testKey},
		local: &localEnd{handle: func(d *delivery) localReply {
			return respond(`{"by":"local","of":` + string(d.event) + `}`)
		}},
	}
	rigTest(t, "", opts, func(r *rig) {
		r.intercept(func(f rigFrame) apiVerdict {
			for _, event := range f.events {
				if strings.Contains(event, "secret") || strings.Contains(event, `"by"`) {
					t.Errorf("%s travels plain: %q", f.step, event)
				}
			}
			return apiVerdict{}
		})
		for _, event := range []string{
			`"secret"`, `"secret` + string(randomText(400_000, "0123456789abcdef")) + `"`} {
			got := r.invoke(event)
			if got.what != "local" || !strings.Contains(string(got.payload), event) {
				t.Errorf("%d bytes: answered by %s", len(event), got.what)
			}
		}
	})
}

// A copy is handled, and nothing goes back.
func TestMirroredInvocationReachesALocalEnd(t *testing.T) {
	t.Parallel()
	opts := rigOptions{env: map[string]string{"LIVE_LAMBDA_MODE": "mirror"}, events: true}
	rigTest(t, "", opts, func(r *rig) {
		r.intercept(func(f rigFrame) apiVerdict {
			if f.step == "local publish" || strings.HasPrefix(f.step, "local publish ") {
				t.Errorf("the local end says something: %s", f.step)
			}
			return apiVerdict{}
		})
		got := r.invoke(`"copied"`)
		if got.what == "local" {
			t.Errorf("answered by %s", got.what)
		}
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.handled) != 1 {
			t.Errorf("the local end's handler ran %v", r.handled)
		}
	})
}
