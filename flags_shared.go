//go:build !layer

package main

// flags_shared.go reads live-lambda.json, which keeps flags that a team shares. Its keys are names of flags,
// and handler and command, which stand for what has no name on a command line:
//
//	{"stack": "dev", "watch": true, "map": {"orders-*": "services/orders", "pay": "go run ./pay"}}
//
// The command line wins over the file, and so do the variables that stand for flags. The API is one thing: if
// any of the flags that say which one it is, or their variables, is set, the file's are left out.

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
)

const (
	sharedFile = "live-lambda.json"
	maxShared  = 1 << 20 // bytes of it
)

// notShared are flags that each developer sets, with the reason.
var notShared = map[string]string{
	"api-key":  "it is a secret; set " + apiKeyVariable,
	"config":   "it names this file",
	"env-file": "it is for one developer's debugger",
	"key":      "it is a secret; set " + keyVariable,
	"external": "it is for one developer's debugger",
	"inspect":  "it is for one developer's debugger",
	"port":     "it is for one developer's debugger",
	"force":    "it is for once",
	"yes":      "each developer is asked",
}

// sharedFlags is the file as one command reads it.
type sharedFlags struct {
	file    string   // its name; "": none is read
	all     bool     // the command has all flags that may be in the file, so that another key is an error
	except  []string // flags that mean something else to the command than to local
	handler string   // as on a command line
	command []string // as on a command line, after --
	used    []string // keys that were not overridden
}

// addShared has the command read the file. all and except are as in sharedFlags.
func (f *commandLine) addShared(all bool, except ...string) {
	f.shared = &sharedFlags{all: all, except: except}
	f.StringVar(&f.shared.file, "config", sharedFile,
		"read flags that a team shares from this `file`; with an empty name from none")
}

// words are those that the file adds to a command line without any.
func (s *sharedFlags) words() []string {
	if s.handler == "" {
		return nil
	}
	return []string{s.handler}
}

// readShared sets the flags that the file has and that neither the command line nor the environment sets. It
// is no error if there is no file, unless the command line names it.
func (f *commandLine) readShared() error {
	s := f.shared
	if s == nil || s.file == "" {
		return nil
	}
	set := f.alreadySet()
	values, err := readSharedFile(s.file)
	if errors.Is(err, fs.ErrNotExist) && !set["config"] {
		return nil
	}
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if set[key] {
			continue
		}
		err := f.takeShared(key, values[key])
		if err != nil {
			return fmt.Errorf("%s: %s: %w", s.file, key, err)
		}
	}
	return nil
}

// alreadySet returns the flags that the command line or the environment sets, and those that belong together
// with one of these.
func (f *commandLine) alreadySet() map[string]bool {
	set := map[string]bool{}
	for _, name := range f.shared.except {
		set[name] = true
	}
	f.Visit(func(g *flag.Flag) { set[g.Name] = true })
	if os.Getenv("AWS_PROFILE") != "" || os.Getenv("AWS_ACCESS_KEY_ID") != "" {
		set["profile"] = true
	}
	for _, a := range apiFlags {
		if os.Getenv(a.variable) != "" {
			set[a.name] = true
		}
	}
	// Stage and namespace are parts of an API's use, the others say which one it is.
	api := []string{"stack", "host", "realtime-host", "region", "protocol"}
	named := slices.ContainsFunc(api, func(name string) bool { return set[name] })
	for _, name := range api {
		set[name] = named
	}
	return set
}

// readSharedFile reads the file, a JSON object.
func readSharedFile(name string) (map[string]any, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxShared+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxShared {
		return nil, fmt.Errorf("%s is larger than %s", name, bytesText(maxShared))
	}
	var values map[string]any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(&values)
	if errors.As(err, new(*json.UnmarshalTypeError)) {
		return nil, fmt.Errorf("%s is not a JSON object of flags", name)
	}
	rest := bytes.TrimSpace(text[decoder.InputOffset():])
	if err == nil && len(rest) > 0 {
		err = errors.New("more text follows its end")
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not JSON: %w", name, err)
	}
	return values, nil
}

// takeShared takes the value of one key.
func (f *commandLine) takeShared(key string, value any) error {
	texts, err := sharedTexts(value)
	if err != nil {
		return err
	}
	reason := notShared[key]
	if reason != "" {
		return errors.New("does not belong in this file: " + reason)
	}
	switch key {
	case "handler":
		if len(texts) != 1 {
			return errors.New("must be a string")
		}
		f.shared.handler = texts[0]
		f.shared.used = append(f.shared.used, key)
		return nil
	case "command":
		_, list := value.([]any)
		if !list {
			return errors.New("must be a list of strings, the program and its arguments")
		}
		f.shared.command = texts
		f.shared.used = append(f.shared.used, key)
		return nil
	}
	if f.Lookup(key) == nil {
		if f.shared.all {
			return errors.New("there is no flag of that name")
		}
		return nil
	}
	for _, text := range texts {
		err := f.Set(key, text)
		if err != nil {
			return err
		}
	}
	f.shared.used = append(f.shared.used, key)
	return nil
}

// sharedTexts returns a value as the texts that would follow the flag on a command line: that of a string,
// a number, true or false, each of a list, or NAME=TEXT for each field of an object.
func sharedTexts(value any) ([]string, error) {
	switch v := value.(type) {
	case string:
		return []string{v}, nil
	case json.Number, bool:
		return []string{fmt.Sprint(v)}, nil
	case []any:
		return sharedList(v)
	case map[string]any:
		var texts []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			text, ok := v[name].(string)
			if !ok {
				return nil, fmt.Errorf("%s: must be a string", name)
			}
			texts = append(texts, name+"="+text)
		}
		return texts, nil
	}
	return nil, errors.New("must be a string, a number, true, false, a list or an object")
}

// sharedList returns the texts of a list.
func sharedList(values []any) ([]string, error) {
	var texts []string
	for _, value := range values {
		text, ok := value.(string)
		if !ok {
			return nil, errors.New("must be a list of strings")
		}
		texts = append(texts, text)
	}
	return texts, nil
}
