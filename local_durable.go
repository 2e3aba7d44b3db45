//go:build !layer

package main

// local_durable.go knows the events of durable functions: of which execution an invocation is one, and
// whether it is a replay.
//
// https://docs.aws.amazon.com/lambda/latest/dg/durable-functions.html

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// durable is what is told of an invocation of a durable execution. It is zero for all others.
type durable struct {
	name   string // of the execution, as part of its ARN
	replay bool   // the handler runs again, past what it has done in earlier invocations
}

// maxExecutionName is how many characters of an execution's name are shown. Lambda allows 64.
const maxExecutionName = 64

// durableOf reads the durable execution from an event. An execution begins with one operation, which is
// itself. Events that are not durable are not parsed.
func durableOf(event []byte) durable {
	if !bytes.Contains(event, []byte(`"DurableExecutionArn"`)) {
		return durable{}
	}
	var e struct {
		DurableExecutionArn   string
		CheckpointToken       string
		InitialExecutionState *struct {
			Operations []struct{}
			NextMarker string
		}
	}
	err := json.Unmarshal(event, &e)
	if err != nil || e.CheckpointToken == "" || e.InitialExecutionState == nil {
		return durable{}
	}
	_, path, _ := strings.Cut(e.DurableExecutionArn, "/durable-execution/")
	name, _, _ := strings.Cut(path, "/")
	if name == "" {
		return durable{}
	}
	return durable{
		name:   clip(plainText(name), maxExecutionName),
		replay: len(e.InitialExecutionState.Operations) > 1 || e.InitialExecutionState.NextMarker != "",
	}
}

// text ends the line of an invocation that is one of the execution's.
func (d durable) text() string {
	switch {
	case d.name == "":
		return ""
	case d.replay:
		return ", durable execution " + d.name + ", replay"
	}
	return ", durable execution " + d.name
}

// spent says why an event that was recorded cannot run again.
func (d durable) spent(file string) error {
	return fmt.Errorf("%s is an event of the durable execution %s, and cannot run again: its checkpoint "+
		"token is spent; start a new execution, which `live-lambda local` gets", file, d.name)
}
