//go:build !layer

package main

// fake_lambda_fleet.go is the environments of one emulated function: each has one invocation at a time, so
// there are as many as invocations at once have needed, up to a limit. They stay, idle, until close.
//
// Over the limit AWS refuses an invocation, and its clients try again. Here it waits, because a developer's
// machine is smaller than AWS, and curl tries nothing again. It waits as long as others come to their end; if
// none has for a while, those that are under way may themselves wait for it, and it is refused as on AWS.
//
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html
//
// Goroutines: one after each invocation, until its environment is free, and one for each asynchronous
// invocation; close waits for all of them.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// These two are not Lambda's numbers.
const (
	lambdaPatience   = 10 * time.Second // for an environment, if none becomes free
	lambdaAsyncQueue = 1000             // asynchronous invocations that are not over
)

// errLambdaBusy says that all environments are at work, and that none has become free for a while.
var errLambdaBusy = errors.New("invoke: no environment has become free")

// lambdaFleet is a function with its environments.
type lambdaFleet struct {
	lambdaOptions                                           // the function's, which all environments share
	start         func(context.Context) (*lambdaEnv, error) // makes one more
	limit         int                                       // at most so many
	async         chan struct{}                             // takes one for each asynchronous invocation
	closed        chan struct{}                             // closed when no new invocations are taken
	work          sync.WaitGroup                            // starts of environments, and the goroutines
	closeOnce     sync.Once

	mu      sync.Mutex // guards the following
	closing bool
	count   int               // of environments that there are, or that start
	envs    []*lambdaEnv      // that have started
	idle    []*lambdaEnv      // the last one to have become free is the last
	waiting []chan *lambdaEnv // invocations that wait for one, oldest first
	moved   time.Time         // when an environment was last taken or given back
}

// newLambdaFleet returns the function that o describes, as yet without an environment.
func newLambdaFleet(
	o lambdaOptions, limit int, start func(context.Context) (*lambdaEnv, error)) (*lambdaFleet, error) {
	o, err := o.withDefaults()
	return &lambdaFleet{
		lambdaOptions: o,
		start:         start,
		limit:         limit,
		async:         make(chan struct{}, lambdaAsyncQueue),
		closed:        make(chan struct{}),
	}, err
}

// invoke runs one invocation in an environment that is free, that is made for it, or that becomes free.
func (f *lambdaFleet) invoke(ctx context.Context, req invokeRequest) (invokeResult, error) {
	env, err := f.take(ctx, false)
	if err != nil {
		return invokeResult{}, err
	}
	return f.run(ctx, env, req)
}

// run runs one invocation in an environment that was taken, and has that given back.
func (f *lambdaFleet) run(ctx context.Context, env *lambdaEnv, req invokeRequest) (invokeResult, error) {
	defer f.spawn(func() {
		env.rest()
		f.release(env)
	})
	return env.invoke(ctx, req)
}

// warm has the first environment start before there is an invocation for it.
func (f *lambdaFleet) warm(ctx context.Context) error {
	env, err := f.take(ctx, false)
	if err == nil {
		f.release(env)
	}
	return err
}

// invokeLater runs an invocation that nobody waits for. It returns false if there are too many.
func (f *lambdaFleet) invokeLater(req invokeRequest) bool {
	select {
	case f.async <- struct{}{}:
	default:
		return false
	}
	return f.spawn(func() {
		ctx := context.Background()
		env, err := f.take(ctx, true)
		if err == nil {
			_, _ = f.run(ctx, env, req) // nobody asks what comes of it; the record has it
		}
		<-f.async
	})
}

// spawn starts work that close waits for, unless close has begun.
func (f *lambdaFleet) spawn(work func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closing {
		f.work.Go(work)
	}
	return !f.closing
}

// take returns an environment for one invocation, which release takes back. A patient one waits for it as
// long as it takes.
func (f *lambdaFleet) take(ctx context.Context, patient bool) (*lambdaEnv, error) {
	f.mu.Lock()
	last := len(f.idle) - 1
	switch {
	case f.closing:
		f.mu.Unlock()
		return nil, errLambdaClosed
	case last >= 0:
		env := f.idle[last]
		f.idle = f.idle[:last]
		f.moved = time.Now()
		f.mu.Unlock()
		return env, nil
	case f.count < f.limit:
		f.count++
		f.work.Add(1)
		f.moved = time.Now()
		f.mu.Unlock()
		defer f.work.Done()
		return f.add(ctx)
	}
	turn := make(chan *lambdaEnv, 1)
	f.waiting = append(f.waiting, turn)
	f.mu.Unlock()
	return f.wait(ctx, turn, patient)
}

// add starts the environment that take has counted.
func (f *lambdaFleet) add(ctx context.Context) (*lambdaEnv, error) {
	env, err := f.start(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.count--
		return nil, fmt.Errorf("start an environment: %w", err)
	}
	f.envs = append(f.envs, env) // close, if it has begun, waits for this and ends it
	return env, nil
}

// wait returns the environment that comes by turn, or an error if none does.
func (f *lambdaFleet) wait(ctx context.Context, turn chan *lambdaEnv, patient bool) (*lambdaEnv, error) {
	for {
		var late <-chan time.Time
		if !patient {
			late = time.After(f.patience())
		}
		var err error
		select {
		case env := <-turn:
			return env, nil
		case <-late:
			if f.patience() > 0 {
				continue
			}
			err = errLambdaBusy
		case <-ctx.Done():
			err = fmt.Errorf("wait for %s to be free: %w", f.functionName, context.Cause(ctx))
		case <-f.closed:
			err = errLambdaClosed
		}
		f.giveUp(turn)
		return nil, err
	}
}

// patience is how much longer a wait may take if no environment becomes free.
func (f *lambdaFleet) patience() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Until(f.moved.Add(lambdaPatience))
}

// giveUp takes a wait back. An environment that has come meanwhile is for the next one.
func (f *lambdaFleet) giveUp(turn chan *lambdaEnv) {
	f.mu.Lock()
	f.waiting = slices.DeleteFunc(f.waiting, func(c chan *lambdaEnv) bool { return c == turn })
	f.mu.Unlock()
	select {
	case env := <-turn:
		f.release(env)
	default:
	}
}

// release takes an environment back that is free again.
func (f *lambdaFleet) release(env *lambdaEnv) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.moved = time.Now()
	if len(f.waiting) == 0 {
		f.idle = append(f.idle, env)
		return
	}
	f.waiting[0] <- env
	f.waiting = f.waiting[1:]
}

// close ends all environments at once, as their own close does. It returns when nothing is left.
func (f *lambdaFleet) close() {
	f.closeOnce.Do(func() {
		f.mu.Lock()
		f.closing = true
		close(f.closed)
		f.mu.Unlock()
		f.closeAll()
		f.work.Wait()
		f.closeAll() // those that were about to start
	})
}

func (f *lambdaFleet) closeAll() {
	f.mu.Lock()
	envs := slices.Clone(f.envs)
	f.mu.Unlock()
	var ends sync.WaitGroup
	for _, env := range envs {
		ends.Go(func() { env.close() })
	}
	ends.Wait()
}
