//go:build !layer

package main

// aws_role_test.go tests aws_role.go. local_variables_test.go has how local uses it.

import (
	"encoding/json"
	"testing"
)

func TestTrustStatementNamesWhoAsked(t *testing.T) {
	const account = "arn:aws:iam::123456789012"
	const root = `{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"` + account + `:root"},` +
		`"Condition":{"ArnLike":{"aws:PrincipalArn":"` + account + `:role*/`
	for _, tt := range []struct{ caller, want string }{
		{
			caller: account + ":user/alice",
			want: `{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"` + account +
				`:user/alice"}}`,
		},
		{
			caller: "arn:aws:sts::123456789012:assumed-role/Developer/alice",
			want:   root + `Developer"}}}`,
		},
		{
			caller: "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Dev_0123456789abcdef/alice",
			want:   root + `AWSReservedSSO_Dev_0123456789abcdef"}}}`,
		},
		{
			caller: "arn:aws-cn:sts::123456789012:assumed-role/Developer/alice",
			want: `{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"arn:aws-cn:iam::` +
				`123456789012:root"},` +
				`"Condition":{"ArnLike":{"aws:PrincipalArn":"arn:aws-cn:iam::123456789012:role*/` +
				`Developer"}}}`,
		},
	} {
		got, _ := json.Marshal(trustStatement(tt.caller))
		if string(got) != tt.want {
			t.Errorf("%s: got %s, want %s", tt.caller, got, tt.want)
		}
	}
}

func TestSessionNameHasOnlyWhatSTSTakes(t *testing.T) {
	t.Setenv("USER", "zoë (a/b) 01234567890123456789012345678901234567890123456789")
	name := sessionName()
	if !validSessionName.MatchString(name) || len(name) != 64 {
		t.Errorf("got %q", name)
	}
}
