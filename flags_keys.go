//go:build !layer

package main

// flags_keys.go knows the keys that messages are sealed with, at the developer's end, which may have several:
// one of each function, say. In: --key, or LIVE_LAMBDA_KEY. Out: what seals and opens with them. It also has
// the command key, which makes a new one. No key is ever printed, but for a new one.

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

const keyVariable = "LIVE_LAMBDA_KEY"

// addKeys adds --key. What is wrong with a value is found by sealers: package flag would print the value.
func (f *commandLine) addKeys() {
	f.Func("key",
		"a `KEY` that functions seal messages with; may be repeated (LIVE_LAMBDA_KEY, commas between "+
			"several)",
		func(value string) error {
			f.keys = append(f.keys, value)
			return nil
		})
}

// keyTexts are the keys as --key gives them, or if it gives none LIVE_LAMBDA_KEY, and which of these it was.
// Those of functions follow.
func (f *commandLine) keyTexts(getenv func(string) string) (texts []string, from string) {
	if len(f.keys) > 0 {
		return slices.Concat(f.keys, f.functionKeys), "--key"
	}
	value := getenv(keyVariable)
	if value != "" {
		texts = strings.Split(value, ",")
	}
	return append(texts, f.functionKeys...), keyVariable
}

// sealers returns what seals and opens with the keys that are set; none if none is. Its error does not have
// what is set.
func (f *commandLine) sealers(getenv func(string) string) (sealers []*sealer, err error) {
	texts, from := f.keyTexts(getenv)
	for i, text := range texts {
		key := parseKey(strings.TrimSpace(text))
		if key == nil {
			return nil, fmt.Errorf("%s: number %d of %d is not %s", from, i+1, len(texts), keyForm)
		}
		s := newSealer(key)
		twice := slices.ContainsFunc(sealers, func(o *sealer) bool { return o.id == s.id })
		if !twice {
			sealers = append(sealers, s)
		}
	}
	return sealers, nil
}

// oneKey is getenv with the first of the keys alone: readConfig takes one, as the extension has it.
func (f *commandLine) oneKey(getenv func(string) string) func(string) string {
	texts, _ := f.keyTexts(getenv)
	first := strings.TrimSpace(append(texts, "")[0])
	return withVariable(getenv, keyVariable, first)
}

// withVariable is getenv with another value of one variable.
func withVariable(getenv func(string) string, name, value string) func(string) string {
	return func(asked string) string {
		if asked == name {
			return value
		}
		return getenv(asked)
	}
}

// keysText names keys by their digits.
func keysText(sealers []*sealer) string {
	var ids []string
	for _, s := range sealers {
		ids = append(ids, s.id)
	}
	if len(ids) == 1 {
		return "the key " + ids[0]
	}
	return "the keys " + strings.Join(ids, ", ")
}

const keyUsage = `usage: live-lambda key

Prints a new key, for LIVE_LAMBDA_KEY of a function and of those who run ` + "`live-lambda local`" + ` for it.
Their messages are sealed with it then: whoever has it can read and make them.`

// key is the command key.
func (t *console) key(args []string) int {
	f := t.commandLine("key", keyUsage)
	status, ok := f.parseFlags(args)
	if !ok {
		return status
	}
	fmt.Fprintln(t.out, newKey())
	return 0
}

// newKey returns a new key, as LIVE_LAMBDA_KEY has it.
func newKey() string {
	key := make([]byte, keySize)
	rand.Read(key) // never fails
	return base64.RawURLEncoding.EncodeToString(key)
}
