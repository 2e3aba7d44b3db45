//go:build !layer

package main

// events_set_test.go tests changes of one value in a JSON document.

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSetChangesOneValueAndNothingElse(t *testing.T) {
	const document = ` {"z": 1.50, "a":{"x-dev":"b","n":null} , "list":[ {"b":"{\"c\": [1,2]}"}, 7e2 ],` +
		`"d.e":"<&>", "a":{"k":"ü"},"s":"text"}`
	tests := []struct {
		name string
		set  string
		want string // in place of the document's text at from
		from string
	}{
		{name: "a number", set: "z=2", from: "1.50", want: "2"},
		{name: "a number's digits", set: "z=2.500", from: "1.50", want: "2.500"},
		{name: "a string", set: "z=two words", from: "1.50", want: `"two words"`},
		{name: "a string that looks like a number", set: `z="2"`, from: "1.50", want: `"2"`},
		{name: "nothing", set: "z=", from: "1.50", want: `""`},
		{name: "null", set: "z=null", from: "1.50", want: "null"},
		{name: "an object", set: `z={"q":[ ]}`, from: "1.50", want: `{"q":[ ]}`},
		{name: "an equals sign in the value", set: "z=a=b", from: "1.50", want: `"a=b"`},
		{name: "what web pages escape", set: "z=<&>", from: "1.50", want: `"<&>"`},
		{name: "the last of two keys", set: "a.k=v", from: `"ü"`, want: `"v"`},
		{name: "a new key", set: "a.x-dev=b", from: `"ü"`, want: `"ü","x-dev":"b"`},
		{name: "an item", set: "list[1]=x", from: "7e2", want: `"x"`},
		{name: "the next item", set: "list[2]=x", from: "7e2 ", want: `7e2,"x"`},
		{name: "a key with a dot", set: `["d.e"]=1`, from: `"<&>"`, want: "1"},
		{name: "JSON in a string", set: "list[0].b.c[1]=3", from: `{\"c\": [1,2]}`, want: `{\"c\":[1,3]}`},
		{name: "JSON in place of JSON in a string", set: `list[0].b={"d":1}`, from: `{\"c\": [1,2]}`,
			want: `{\"d\":1}`},
		{name: "a list in place of JSON in a string", set: `list[0].b=[1]`, from: `{\"c\": [1,2]}`,
			want: `[1]`},
		{name: "text in place of JSON in a string", set: `list[0].b=hello`, from: `"{\"c\": [1,2]}"`,
			want: `"hello"`},
		{name: "JSON in place of text", set: `s={"d":1}`, from: `"text"`, want: `{"d":1}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := readChange(tt.set)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.in([]byte(document))
			want := strings.Replace(document, tt.from, tt.want, 1)
			if err != nil || withoutSpace(t, got) != withoutSpace(t, []byte(want)) {
				t.Errorf("got %s, %v, want %s", got, err, want)
			}
		})
	}
}

// withoutSpace is JSON without white space between its tokens.
func withoutSpace(t *testing.T, document []byte) string {
	t.Helper()
	var text strings.Builder
	inString := false
	for i, c := range string(document) {
		if c == '"' && (i == 0 || document[i-1] != '\\') {
			inString = !inString
		}
		if inString || c != ' ' {
			text.WriteRune(c)
		}
	}
	if !json.Valid(document) {
		t.Errorf("not JSON: %s", document)
	}
	return text.String()
}

func TestSetReplacesAWholeDocumentsItem(t *testing.T) {
	c, err := readChange("[0].a=1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.in([]byte(`[{"b":2},3]`))
	if err != nil || string(got) != `[{"b":2,"a":1},3]` {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestSetSaysAtWhichPlaceThePathDoesNotFit(t *testing.T) {
	const document = `{"a":{"b":[1,true,null,"x",{}]},"c":{}}`
	tests := []struct{ set, want string }{
		{set: "d.e=1", want: "the event has no d; it has a, c"},
		{set: "a.d.e=1", want: "a has no d; it has b"},
		{set: "c.d.e=1", want: "c has no d; it is empty"},
		{set: "a[0]=1", want: "a is an object, so there is no [0] in it"},
		{set: "a.b.c=1", want: "a.b is a list, so there is no c in it"},
		{set: "a.b[0].c=1", want: "a.b[0] is a number, so there is no c in it"},
		{set: "a.b[1].c=1", want: "a.b[1] is true, so there is no c in it"},
		{set: "a.b[2].c=1", want: "a.b[2] is null, so there is no c in it"},
		{set: "a.b[3][0]=1", want: "a.b[3] is a string, so there is no [0] in it"},
		{set: "a.b[6]=1", want: "there is no [6] in a.b, a list of length 5"},
		{set: "a.b[5].c=1", want: "there is no [5] in a.b, a list of length 5"},
	}
	for _, tt := range tests {
		c, err := readChange(tt.set)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.in([]byte(document))
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.set, got, err, tt.want)
		}
	}
}

func TestSetRefusesWhatIsNoPath(t *testing.T) {
	for _, text := range []string{
		"", "=", "=1", "a", "a.=1", "a..b=1", ".a=1", "a[=1", "a[]=1", "a[x]=1", "a[-1]=1", "a[1=1", `a["b=1`,
		`a["\x"]=1`, "a[0]b=1", "a[9999999999]=1",
	} {
		c, err := readChange(text)
		if err != errNoChange {
			t.Errorf("%q: got %+v, %v", text, c, err)
		}
	}
}
