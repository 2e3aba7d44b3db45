//go:build !layer

package main

// local_variables.go is `local --function-env`: a handler's process gets the variables that the function has,
// as its configuration tells them, so that nothing of them passes AppSync. They are kept in memory alone, and
// are never printed or recorded.

import (
	"context"
	"sync"
	"time"
)

const (
	variablesLife    = time.Minute      // how long they are taken as they were read
	variablesTimeout = 10 * time.Second // to read them; callers wait meanwhile
	maxVariables     = maxPools         // functions whose variables are kept
)

// variablesReader reads a function's variables. Its error does not have any.
type variablesReader func(ctx context.Context, function string) (map[string]string, error)

// variableCache knows the variables of functions.
type variableCache struct {
	read variablesReader
	note func(format string, args ...any)

	mu    sync.Mutex // held while one function's are read, so that each is read once; guards the following
	known map[string]knownVariables
}

// knownVariables are those of one function.
type knownVariables struct {
	values  map[string]string
	read    time.Time // when that was tried last
	problem string    // why it failed then
}

// of returns a function's variables, which are read again if it is time. If that fails, they are as they
// were.
func (v *variableCache) of(ctx context.Context, function string) map[string]string {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, known := v.known[function]
	if known && time.Since(k.read) < variablesLife {
		return k.values
	}
	if !known && len(v.known) >= maxVariables {
		clear(v.known)
	}
	ctx, cancel := context.WithTimeout(ctx, variablesTimeout)
	defer cancel()
	values, err := v.read(ctx, function)
	if ctx.Err() == context.Canceled { // this end is to end, which says nothing about the function
		return k.values
	}
	before := k.problem
	k.problem = ""
	k.read = time.Now()
	if err == nil {
		k.values = values
	} else {
		k.problem = err.Error()
	}
	if k.problem != "" && k.problem != before {
		v.note("%s: its variables are not read: %v", nameText(function), err)
	}
	v.known[function] = k
	return k.values
}

// submitWith submits q with the variables of its function, unless q has brought an environment.
func (l *local) submitWith(ctx context.Context, q *request) {
	if l.variables != nil && len(q.context.Environment) == 0 {
		q.variables = l.variables.of(ctx, q.context.FunctionName)
	}
	l.submit(q)
}
