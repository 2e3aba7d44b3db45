//go:build !layer

package main

// local_take_back_linux_test.go runs `local` on a terminal.

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// openTerminal opens a terminal: the end that a person sits at, and the program's.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		unavailable(t, "/dev/ptmx")
	}
	t.Cleanup(func() { person.Close() })
	var number, unlock int32
	for request, value := range map[uintptr]*int32{
		syscall.TIOCSPTLCK: &unlock,
		syscall.TIOCGPTN:   &number,
	} {
		_, _, errno := syscall.Syscall(
			syscall.SYS_IOCTL, person.Fd(), request, uintptr(unsafe.Pointer(value)))
		if errno != 0 {
			t.Fatal(errno)
		}
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return person, program
}

// What is typed before there is something to take back is dropped, so it is typed until it is heard.
func TestTAndEnterTakeBackFunctions(t *testing.T) {
	r := newRemoteRig(t)
	person, program := openTerminal(t)
	c := exec.Command(os.Args[0], "local", "--host", "http://"+r.client().http.Host,
		"--region", "eu-west-1", "--function", "orders", "--", "cat")
	c.Env = append(os.Environ(), "TEST_MAIN=1", "NO_COLOR=1", "AWS_ACCESS_KEY_ID=AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY=secret", "AWS_SESSION_TOKEN=")
	c.Stdin, c.Stdout, c.Stderr = program, program, program
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err := c.Start()
	program.Close()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	shown := &screen{new: make(chan struct{}, 1)}
	go func() {
		defer close(ended)
		io.Copy(shown, person) // until the program has ended
		c.Wait()
	}()
	defer func() {
		c.Process.Kill()
		<-ended
	}()
	shown.wait(r, "waiting for invocations")
	hello := leaderText("mallory", time.Now().Add(time.Hour).UnixMilli())
	r.api.publish(presenceChannel, hello)
	shown.wait(r, "has taken over orders since")
	shown.wait(r, "t and Enter take it back")
	stop := make(chan struct{})
	var typing sync.WaitGroup
	typing.Go(func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			io.WriteString(person, "what\nt\n")
			select {
			case <-ticker.C:
			case <-stop:
				return
			}
		}
	})
	defer typing.Wait()
	defer close(stop)
	shown.wait(r, "takes back orders from ?[31mmallory?@x")
}
