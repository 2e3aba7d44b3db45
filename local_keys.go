//go:build !layer

package main

// local_keys.go opens what comes sealed, with whichever of this end's keys it is sealed with, and says once
// of each cause why it drops what cannot be opened. Nothing of a message stands in such a line, but for the
// name of its key.

import (
	"encoding/json"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"sync"
)

const maxOtherKeys = 20 // that a line is written about

// keyring is this end's keys.
type keyring struct {
	sealers []*sealer
	term    *terminal

	mu       sync.Mutex      // guards the following, and what sealers have opened
	reported map[string]bool // what has been written, and is not to be written again
	others   int             // lines about keys that this end has not
}

func newKeyring(sealers []*sealer, term *terminal) *keyring {
	return &keyring{sealers: sealers, term: term, reported: map[string]bool{}}
}

// parse reads an event as sealer.parse does, with the key that its part names.
func (k *keyring) parse(event string) (*part, error) {
	if len(k.sealers) == 0 {
		return (*sealer)(nil).parse(event)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p, err := k.sealers[0].parse(event)
	if err != errOtherKey {
		return p, err
	}
	for _, s := range k.sealers[1:] {
		if s.id == p.Key {
			return s.parse(event)
		}
	}
	return p, err
}

// open reads an event. opened is false if it was not to be opened here, which has been written then. An error
// is another one of parse's. Of a key that is not here nothing is written if others may well have it.
func (k *keyring) open(event string, othersMay bool) (p *part, opened bool, err error) {
	p, err = k.parse(event)
	switch err {
	case errOtherKey:
		if !othersMay {
			k.tellOtherKey(p.Key)
		}
	case errNotSealed:
		k.once("dropped what is not sealed, because a key is set here: whoever has sent it, a function or " +
			"another local end, has no LIVE_LAMBDA_KEY")
	case errChanged:
		k.once("dropped a sealed message: it was changed on its way, belongs to another request, or its " +
			"key only looks like one that is set here")
	case errRecorded:
		k.once("dropped a sealed message that has come before: it was recorded, and sent again")
	default:
		return p, true, err
	}
	return nil, false, nil
}

// openPresence returns what an end says of itself, opened if it came sealed; false if it was not to be opened
// here. Functions of a team may well have keys of their own, so of other keys nothing is written.
func (k *keyring) openPresence(event string) (text string, opened bool) {
	p, opened, err := k.open(event, true)
	if err != nil && len(k.sealers) > 0 {
		k.once("dropped a sealed message that is not valid: " + err.Error())
		return "", false
	}
	if p == nil {
		return event, opened
	}
	return p.text, opened
}

// encode returns what this end says of itself: sealed with each of its keys, so that all hear it who have one
// of them, or as it is if there is none.
func (k *keyring) encode(m presenceMessage) iter.Seq[[]byte] {
	object, _ := json.Marshal(m) // strings and numbers always marshal
	object = asciiJSON(object)
	if len(k.sealers) == 0 {
		return slices.Values([][]byte{object})
	}
	return func(yield func([]byte) bool) {
		for _, s := range k.sealers {
			if !yield(s.seal(m.RequestID, object, nil)) {
				return
			}
		}
	}
}

// validKeyID is the name of a key.
var validKeyID = regexp.MustCompile(`^[0-9a-f]{8}$`)

// tellOtherKey says that messages are sealed with a key that this end has not. Anybody may make names up.
func (k *keyring) tellOtherKey(id string) {
	name := "a key without a valid name"
	if validKeyID.MatchString(id) {
		name = "the key " + id
	}
	text := fmt.Sprintf("dropped what is sealed with %s, which is not set here: give it with --key or "+
		"LIVE_LAMBDA_KEY", name)
	k.mu.Lock()
	told := k.reported[text] || k.others == maxOtherKeys
	if !told {
		k.others++
	}
	k.mu.Unlock()
	if !told {
		k.once(text)
	}
}

// once writes a line, if it has not been written.
func (k *keyring) once(text string) {
	k.mu.Lock()
	told := k.reported[text]
	k.reported[text] = true
	k.mu.Unlock()
	if !told {
		k.term.note("%s", text)
	}
}
