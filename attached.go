//go:build !layer

package main

// attached.go has `local --attach` attach functions as attach and detach do, and `local --keys` read what
// functions have. It joins local_loan.go, which knows when, with the files aws_*, which know how.

import (
	"context"
)

// newLender returns what lends functions to local.
func newLender() lender {
	return lender{
		offer: func(t *console, yes bool) { t.offerLeft(context.Background(), yes) },
		keys: func(profile string, words []string) ([]string, error) {
			return awsCLI{profile: profile}.keysOf(context.Background(), words)
		},
		variables: func(ctx context.Context, profile, function string) (awsVariables, error) {
			values, err := awsCLI{profile: profile}.variablesOf(ctx, function)
			return awsVariables{values: values}, err
		},
		role: func(ctx context.Context, profile, function string) (awsVariables, error) {
			values, expires, err := awsCLI{profile: profile}.roleOf(ctx, function)
			return awsVariables{values: values, expires: expires}, err
		},
		prepare: func(t *console, f *commandLine, o loanFlags) (*loan, int) {
			b, status := t.borrow(f, o.words, attachFlags{
				yes:          o.yes,
				force:        o.force,
				seal:         o.seal,
				attachPolicy: !o.keepPolicy,
			})
			if b == nil {
				return nil, status
			}
			return b.loan(f), 0
		},
	}
}

// loan returns what local does with a borrowing.
func (b *borrowing) loan(f *commandLine) *loan {
	return &loan{
		functions: b.functions(),
		attach:    b.attach,
		lookup: func() func(name string) string {
			texts, _ := f.keyTexts(b.getenv)
			f.keys = nil // they are among those of lookup
			f.functionKeys = nil
			return b.lookup(texts)
		},
		keep:     b.keep,
		giveBack: b.giveBack,
	}
}
