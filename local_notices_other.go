//go:build !layer && !linux

package main

// local_notices_other.go is for macOS, whose own way (kqueue) takes an open file for each file that is
// watched: nothing is told.

type notices struct{}

func openNotices() *notices         { return nil }
func (n *notices) hear(string) bool { return false }
func (n *notices) any() bool        { return false }
func (n *notices) close()           {}
