//go:build !layer

package main

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
)

func TestKeysAreReadFromFlagsElseFromTheVariable(t *testing.T) {
	for _, tt := range []struct {
		name     string
		flags    []string
		variable string
		want     []string // names of keys
		wantErr  string
	}{
		{name: "none"},
		{name: "variable", variable: testKey, want: []string{keyID(testKey)}},
		{name: "two", variable: testKey + ", " + otherKey, want: []string{keyID(testKey), keyID(otherKey)}},
		{name: "twice", variable: testKey + "," + testKey, want: []string{keyID(testKey)}},
		{name: "flag wins", flags: []string{otherKey}, variable: "nonsense", want: []string{keyID(otherKey)}},
		{name: "two flags", flags: []string{otherKey, testKey},
			want: []string{keyID(otherKey), keyID(testKey)}},
		{
			name: "short", flags: []string{testKey, "s3cr3t"},
			wantErr: "--key: number 2 of 2 is not 32 bytes in unpadded base64url, as `live-lambda key` " +
				"prints them",
		},
		{
			name: "padded", variable: testKey + "=",
			wantErr: "LIVE_LAMBDA_KEY: number 1 of 1 is not 32 bytes in unpadded base64url, as " +
				"`live-lambda key` prints them",
		},
		{
			name: "a comma too many", variable: testKey + ",",
			wantErr: "LIVE_LAMBDA_KEY: number 2 of 2 is not 32 bytes in unpadded base64url, as " +
				"`live-lambda key` prints them",
		},
		{
			name: "bits that are lost", variable: testKey[:42] + "9",
			wantErr: "LIVE_LAMBDA_KEY: number 1 of 1 is not 32 bytes in unpadded base64url, as " +
				"`live-lambda key` prints them",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &commandLine{keys: tt.flags}
			sealers, err := f.sealers(func(name string) string {
				return map[string]string{keyVariable: tt.variable}[name]
			})
			var got []string
			for _, s := range sealers {
				got = append(got, s.id)
			}
			said := ""
			if err != nil {
				said = err.Error()
			}
			if !slices.Equal(got, tt.want) || said != tt.wantErr {
				t.Errorf("got %q and %q, want %q and %q", got, said, tt.want, tt.wantErr)
			}
		})
	}
}

// No part of a key is printed, whatever is wrong with it.
func TestWrongKeyIsNotPrinted(t *testing.T) {
	t.Setenv(hostVariable, "example.com")
	t.Setenv("AWS_REGION", "eu-west-1")
	for _, variable := range []string{"", "s3cr3t", testKey + ",s3cr3t"} {
		t.Setenv(keyVariable, variable)
		for _, args := range []string{
			"local --config= --key s3cr3t -- true", "doctor --config= --key s3cr3t"} {
			var out bytes.Buffer
			c := &console{in: strings.NewReader(""), out: &out, err: &out}
			status := c.command(strings.Fields(args))
			if status == 0 || strings.Contains(out.String(), "s3cr3t") ||
				!strings.Contains(out.String(), "--key: number 1 of 1 is not 32 bytes") {
				t.Errorf("%s: status %d, printed %s", args, status, &out)
			}
		}
	}
}

func TestKeyPrintsANewKeyAndNothingElse(t *testing.T) {
	printed := map[string]bool{}
	for range 2 {
		var stdout, stderr bytes.Buffer
		c := &console{in: strings.NewReader(""), out: &stdout, err: &stderr}
		status := c.command([]string{"key"})
		line, ended := strings.CutSuffix(stdout.String(), "\n")
		key, err := base64.RawURLEncoding.Strict().DecodeString(line)
		if status != 0 || stderr.String() != "" || !ended || err != nil || len(key) != keySize {
			t.Errorf("status %d, printed %q and %q", status, &stdout, &stderr)
		}
		printed[line] = true
	}
	if len(printed) != 2 {
		t.Error("it printed the same key twice")
	}
}
