//go:build !layer

package main

// aws_left.go remembers on this machine which functions a local end has attached for as long as it runs, and
// offers to undo that if the local end was killed before it could. In: a file of each local end, which is
// locked while that lives, however it ends. Out: questions, and updates.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

const maxRecord = 1 << 20 // bytes of a record's file

// record is what is known here of one local end that has attached functions.
type record struct {
	Local     string   `json:"local"` // name of the local end, as in an attachment
	Profile   string   `json:"profile,omitempty"`
	Region    string   `json:"region"`
	Functions []string `json:"functions"` // ARNs
}

// recordsDirectory is where the files are.
func recordsDirectory() (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "live-lambda", "attached"), err
}

// validLocal is the name of a local end, which names a file too.
var validLocal = regexp.MustCompile(`^[0-9a-f]{16}$`)

// write keeps a record, and returns its file, which is locked until it is closed.
func (r record) write() (*os.File, error) {
	directory, err := recordsDirectory()
	if err == nil {
		err = os.MkdirAll(directory, 0o700)
	}
	if err != nil {
		return nil, err
	}
	name := filepath.Join(directory, r.Local+".json")
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	text, _ := json.Marshal(r) // strings always marshal
	err = lock(file)
	if err == nil {
		_, err = file.Write(text)
	}
	if err != nil {
		file.Close()
		os.Remove(name)
		return nil, err
	}
	return file, nil
}

// lock locks a file, unless another process has it locked. The kernel unlocks it when the process ends.
func lock(file *os.File) error { return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// readRecord reads the record of a local end. running tells whether that lives.
func readRecord(local string) (r record, running bool, err error) {
	directory, err := recordsDirectory()
	if err != nil {
		return r, false, err
	}
	file, err := os.Open(filepath.Join(directory, local+".json"))
	if err != nil {
		return r, false, err
	}
	defer file.Close()
	if lock(file) != nil {
		return r, true, nil
	}
	text, err := io.ReadAll(io.LimitReader(file, maxRecord))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err == nil && r.Local != local {
		err = errors.New("it is not a record")
	}
	return r, false, err
}

// forget removes a record.
func (r record) forget() {
	directory, err := recordsDirectory()
	if err == nil {
		os.Remove(filepath.Join(directory, r.Local+".json"))
	}
}

// left returns the records of local ends that have been killed.
func left() []record {
	var all []record
	directory, err := recordsDirectory()
	if err != nil {
		return nil
	}
	entries, _ := os.ReadDir(directory) // there may be none
	for _, entry := range entries {
		local, isRecord := strings.CutSuffix(entry.Name(), ".json")
		if !isRecord || !validLocal.MatchString(local) {
			continue
		}
		r, running, err := readRecord(local)
		if err == nil && !running {
			all = append(all, r)
		}
	}
	return all
}

// names are the functions' names.
func (r record) names() string {
	var names []string
	for _, arn := range r.Functions {
		names = append(names, arn[strings.LastIndexByte(arn, ':')+1:])
	}
	return plainText(strings.Join(names, " "))
}

// offerLeft offers to undo what local ends that were killed have left, as far as this machine knows.
func (t *console) offerLeft(ctx context.Context, yes bool) {
	for _, r := range left() {
		t.offer(ctx, r, yes)
	}
}

// offer offers to undo what one local end has left, and does it if that is wanted.
func (t *console) offer(ctx context.Context, r record, yes bool) {
	cli := awsCLI{profile: r.Profile, region: r.Region}
	changes, all := t.planReturn(ctx, cli, r)
	if len(changes) == 0 {
		if all {
			r.forget()
		}
		return
	}
	if !yes && !t.asks {
		fmt.Fprintf(t.err, "a `live-lambda local` that was killed has left functions attached: `live-lambda "+
			"detach %s` undoes that\n", r.names())
		return
	}
	fmt.Fprintln(t.out, "a `live-lambda local` that was killed has left attached:")
	for _, c := range changes {
		t.show(c, c.diff())
	}
	if !yes && !t.ask("Undo what it has done to "+theseFunctions(len(changes))+"?") {
		return
	}
	status := t.carryOutAll(ctx, cli, changes, returning(r.Local), "as before")
	if status == 0 && all {
		r.forget()
	}
}

// planReturn plans the way back from what one local end has left. all is false if a function could not be
// looked at. A function that is there no more needs no way back.
func (t *console) planReturn(ctx context.Context, cli awsCLI, r record) (changes []*change, all bool) {
	all = true
	for _, arn := range r.Functions {
		c, err := cli.plan(ctx, arn, returning(r.Local))
		switch {
		case hasCode(err, "ResourceNotFoundException"):
		case err != nil:
			fmt.Fprintf(t.err, "a `live-lambda local` that was killed has left %s attached: %v\n",
				plainText(arn), err)
			all = false
		case !c.configured() || c.revoke != nil:
			c.name = c.before.FunctionName
			changes = append(changes, c)
		}
	}
	return changes, all
}
