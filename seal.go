package main

// seal.go knows sealed messages: events that nobody can read or make without a key that both ends have
// (LIVE_LAMBDA_KEY). Neither AppSync nor other subscribers of the namespace have it. message.go writes a
// message before it is sealed here, and reads it when it has been opened.
//
//	{"live_lambda":1,"type":"sealed","request_id":"LINK/N","key":"1a2b3c4d","data":"…"}
//
// data is a nonce of 12 random bytes, and what AES-256-GCM makes of the message. The request ID is
// authenticated with it, so that a message is of no use for another request. docs/PROTOCOL.md describes all
// of it, and has a test vector.
//
// https://csrc.nist.gov/pubs/sp/800/38/d/final

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

const (
	nonceSize = 12     // bytes, at the beginning of what is sealed
	maxNonces = 10_000 // that are remembered at least; requests that are so many messages ago are over
)

// Why a message is dropped.
var errNotSealed = errors.New("it is not sealed, and LIVE_LAMBDA_KEY is set here")
var errOtherKey = errors.New("it is sealed with a key that is not set here (LIVE_LAMBDA_KEY)")
var errRecorded = errors.New("it has come before: it was recorded, and sent again")
var errChanged = errors.New("it was changed on its way, or belongs to another request")

// sealer seals messages with one key, and opens them. If it is nil, messages are not sealed.
type sealer struct {
	id   string      // of the key: the first 8 hexadecimal digits of its SHA-256
	aead cipher.AEAD // puts a random nonce before what it seals
	// Of messages that parse has opened, and of those before them. One goroutine at a time may call it.
	nonces, older map[string]bool
}

// newSealer makes a sealer of a key; none of an empty one. A key of another size does not get here: whoever
// reads one checks it. Yet it must not look like none.
func newSealer(key []byte) *sealer {
	if len(key) == 0 {
		return nil
	}
	block, _ := aes.NewCipher(key[:keySize])
	aead, _ := cipher.NewGCMWithRandomNonce(block) // neither can fail: the size is right, and this is AES
	return &sealer{
		id: fmt.Sprintf("%x", sha256.Sum256(key))[:8], aead: aead, nonces: map[string]bool{}}
}

// seal returns a message as an event. object is its JSON, in one line and without its data. The request ID
// needs no escapes in JSON.
func (s *sealer) seal(requestID string, object, data []byte) []byte {
	if len(data) > 0 {
		object = fmt.Appendf(object, "\n%s", data)
	}
	event := fmt.Appendf(nil, `{"live_lambda":1,"type":"sealed","request_id":"%s","key":"%s","data":"`,
		requestID, s.id)
	sealed := s.aead.Seal(nil, nil, object, []byte("live-lambda 1 "+requestID))
	return append(base64.RawURLEncoding.AppendEncode(event, sealed), `"}`...)
}

// parse reads an event as parsePart does, and opens it if it is sealed. Probes never are. If there is a key,
// what is not sealed with it is an error.
func (s *sealer) parse(event string) (*part, error) {
	p, err := parsePart(event)
	sealed := p != nil && p.Type == "sealed"
	switch {
	case p != nil && p.Type == "probe", !sealed && s == nil:
		return p, err
	case !sealed: // whatever else is wrong with it
		return &part{}, errNotSealed
	case err != nil:
		return p, err
	case s == nil || s.id != p.Key:
		return p, errOtherKey
	}
	plain, err := s.aead.Open(nil, nil, p.data, []byte("live-lambda 1 "+p.RequestID))
	if err != nil {
		return p, errChanged
	}
	nonce := string(p.data[:nonceSize])
	if s.nonces[nonce] || s.older[nonce] { // whoever repeats a message seals it anew
		return p, errRecorded
	}
	if len(s.nonces) == maxNonces {
		s.older, s.nonces = s.nonces, map[string]bool{}
	}
	s.nonces[nonce] = true
	object, data, _ := bytes.Cut(plain, []byte("\n"))
	inner, err := parsePart(string(object))
	if inner == nil || inner.RequestID != p.RequestID {
		return p, errChanged
	}
	inner.data = data
	inner.sealer = s
	return inner, err
}
