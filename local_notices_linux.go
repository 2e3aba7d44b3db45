//go:build !layer

package main

// local_notices_linux.go has the system tell that something changes in directories (inotify). What has
// changed it does not ask: local_watch.go looks.

import (
	"slices"
	"syscall"
)

// noticedChanges are those that a file's times, size or place show.
const noticedChanges = syscall.IN_MODIFY | syscall.IN_CLOSE_WRITE | syscall.IN_ATTRIB |
	syscall.IN_CREATE | syscall.IN_DELETE | syscall.IN_MOVED_FROM | syscall.IN_MOVED_TO |
	syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF

// telling are the file systems that tell of changes, because all of them pass this system, but for what is
// written through memory (mmap). Of what changes behind a network's file system or a shared directory,
// nothing is told.
// https://man7.org/linux/man-pages/man2/statfs.2.html
var telling = []int64{
	0xef53,     // ext2, ext3, ext4
	0x58465342, // XFS
	0x9123683e, // Btrfs
	0xf2f52010, // F2FS
	0x2fc12fc1, // ZFS
	0x01021994, // tmpfs
	0x794c7630, // overlayfs
}

// notices are what the system tells. One goroutine uses them at a time. If nil, they tell nothing.
type notices struct{ file int }

// openNotices returns nil if the system gives none: it has a limit for each user.
func openNotices() *notices {
	file, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		return nil
	}
	return &notices{file: file}
}

// hear reports whether the system tells from now on of all that changes in a directory, but not of what
// changes in those below.
func (n *notices) hear(directory string) bool {
	if n == nil {
		return false
	}
	var system syscall.Statfs_t
	err := syscall.Statfs(directory, &system)
	if err != nil || !slices.Contains(telling, int64(system.Type)) {
		return false
	}
	_, err = syscall.InotifyAddWatch(n.file, directory, noticedChanges)
	return err == nil
}

// any reports whether the system has told something since it was asked last.
func (n *notices) any() bool {
	if n == nil {
		return false
	}
	told := false
	text := make([]byte, 64<<10)
	for {
		size, err := syscall.Read(n.file, text)
		switch {
		case err == syscall.EINTR:
		case err != nil || size == 0:
			return told
		default:
			told = true
		}
	}
}

func (n *notices) close() {
	if n != nil {
		syscall.Close(n.file)
	}
}
