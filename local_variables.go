//go:build !layer

package main

// local_variables.go is `local --function-env` and `--assume-role`: a handler's process gets the variables
// that the function has, as its configuration tells them, and its role's credentials, from STS, so that
// nothing of them passes AppSync. They are kept in memory alone, and are never printed or recorded.

import (
	"context"
	"maps"
	"sync"
	"time"
)

const (
	variablesLife    = time.Minute      // how long they are taken as they were read, unless they expire
	variablesUse     = 15 * time.Minute // how long after a request they are kept fresh
	variablesTimeout = 10 * time.Second // to read them; callers wait meanwhile
	maxVariables     = maxPools         // functions whose variables are kept
	// before credentials expire, others are read: what begins with them lasts 15 minutes at most
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html
	longestInvocation = 16 * time.Minute
)

// awsVariables are what a function's processes get in their environment.
type awsVariables struct {
	values  map[string]string
	expires time.Time // they are worth nothing then; zero: they stay good
}

// variablesReader reads a function's variables. Its error does not have any.
type variablesReader func(ctx context.Context, function string) (awsVariables, error)

// variableCache knows the variables of functions.
type variableCache struct {
	read    variablesReader
	problem string // what it is if they cannot be read
	note    func(format string, args ...any)

	reading sync.Mutex // held while a function's are read, so that each is read once

	mu    sync.Mutex // guards the following
	known map[string]knownVariables
}

// knownVariables are those of one function.
type knownVariables struct {
	awsVariables
	again  time.Time // when to read them again
	reason string    // why that failed last
	used   time.Time // when a request last wanted them
}

// of returns a function's variables, which are read if they are not known, or not any more. If that fails,
// they are as they were, unless they have expired.
func (v *variableCache) of(ctx context.Context, function string) map[string]string {
	values, fresh := v.fresh(function)
	if fresh {
		return values
	}
	v.reading.Lock()
	defer v.reading.Unlock()
	values, fresh = v.fresh(function) // somebody else may have read them meanwhile
	if fresh {
		return values
	}
	return v.reread(ctx, function)
}

// fresh returns what is known of a function, and whether that need not be read again.
func (v *variableCache) fresh(function string) (values map[string]string, fresh bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, known := v.known[function]
	if !known {
		return nil, false
	}
	k.used = time.Now()
	v.known[function] = k
	return k.values, k.used.Before(k.again)
}

// reread reads a function's variables. v.reading is held.
func (v *variableCache) reread(ctx context.Context, function string) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, variablesTimeout)
	defer cancel()
	read, err := v.read(ctx, function)
	ending := ctx.Err() == context.Canceled // this end is to end, which says nothing about the function
	v.mu.Lock()
	defer v.mu.Unlock()
	k, known := v.known[function]
	if ending {
		return k.values
	}
	if !known && len(v.known) >= maxVariables {
		clear(v.known)
	}
	if !known {
		k.used = time.Now()
	}
	before := k.reason
	k.take(read, err)
	v.known[function] = k
	if k.reason != "" && k.reason != before {
		v.note("%s: %s: %s", nameText(function), v.problem, k.reason)
	}
	return k.values
}

// keepFresh reads the variables of these functions, and until ctx is done those of functions in use, so that
// requests do not wait for that.
func (v *variableCache) keepFresh(ctx context.Context, functions []string) {
	for _, function := range functions {
		v.of(ctx, function)
	}
	ticker := time.NewTicker(variablesLife - variablesTimeout)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		for _, function := range v.due() {
			v.reading.Lock()
			v.reread(ctx, function)
			v.reading.Unlock()
		}
	}
}

// due are the functions in use whose variables are to be read again before keepFresh looks the next time.
func (v *variableCache) due() (functions []string) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	for function, k := range v.known {
		if now.Sub(k.used) < variablesUse && k.again.Before(now.Add(variablesLife)) {
			functions = append(functions, function)
		}
	}
	return functions
}

// newVariableCaches returns what options ask for.
func newVariableCaches(o localOptions, note func(format string, args ...any)) (all []*variableCache) {
	if o.variables != nil {
		all = append(all, &variableCache{read: o.variables, problem: "its variables are not read"})
	}
	if o.role != nil {
		all = append(all, &variableCache{read: o.role, problem: "its role's credentials are not taken"})
	}
	for _, v := range all {
		v.note = note
		v.known = map[string]knownVariables{}
	}
	return all
}

// take takes what was read, or why it was not.
func (k *knownVariables) take(read awsVariables, err error) {
	now := time.Now()
	k.again = now.Add(variablesLife)
	k.reason = ""
	if err != nil {
		k.reason = err.Error()
		if !k.expires.IsZero() && !now.Before(k.expires) {
			k.awsVariables = awsVariables{}
		}
		return
	}
	k.awsVariables = read
	renew := read.expires.Add(-longestInvocation)
	if renew.After(now) {
		k.again = renew
	}
}

// submitWith submits q with the variables of its function, unless q has brought an environment, and to the
// code as it is now.
func (l *local) submitWith(ctx context.Context, q *request) {
	if len(q.context.Environment) == 0 {
		q.variables = l.variablesFor(ctx, q.context.FunctionName)
	}
	l.lookAhead()
	l.submit(q)
}

// variablesFor returns what the caches know of a function.
func (l *local) variablesFor(ctx context.Context, function string) map[string]string {
	all := map[string]string{}
	for _, v := range l.variables {
		maps.Copy(all, v.of(ctx, function))
	}
	return all
}
