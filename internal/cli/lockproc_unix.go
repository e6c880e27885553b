//go:build unix

package cli

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// forwarded are the signals passed on to a command, but those that this program was
// told to ignore (nohup, a background job), which its command then ignores as well.
func forwarded() (signals []os.Signal) {
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2} {
		if !signal.Ignored(s) {
			signals = append(signals, s)
		}
	}
	return signals
}

// ends: the signal ends the waiting for a lock.
func ends(s os.Signal) bool { return s != syscall.SIGUSR1 && s != syscall.SIGUSR2 }

func signalNumber(s os.Signal) int {
	if number, ok := s.(syscall.Signal); ok {
		return int(number)
	}
	return 0
}

// inGroup gives the command a process group of its own. If this program has the
// terminal, the command gets it: it can read, and Ctrl-C goes to it directly. Ctrl-Z
// does nothing then, because a command that holds a lock should not stop. restore
// takes the terminal back.
func inGroup(cmd *exec.Cmd) (restore func()) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieTogether(cmd.SysProcAttr)
	in, ok := cmd.Stdin.(*os.File)
	if !ok || !isTerminal(in) {
		return func() {}
	}
	tty := int(in.Fd())
	if group, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP); err != nil || group != unix.Getpgrp() {
		return func() {}
	}
	cmd.SysProcAttr.Foreground, cmd.SysProcAttr.Ctty = true, tty
	signal.Ignore(syscall.SIGTSTP)
	return func() {
		signal.Ignore(syscall.SIGTTOU) // what a process in the background gets for this
		_ = unix.IoctlSetPointerInt(tty, unix.TIOCSPGRP, unix.Getpgrp())
		signal.Reset(syscall.SIGTTOU, syscall.SIGTSTP)
	}
}

// signalGroup sends a signal to the command and what it started.
func signalGroup(p *os.Process, s os.Signal) {
	number, ok := s.(syscall.Signal)
	if !ok {
		return
	}
	// It may be gone already; the group is the child's own, so nobody else is meant.
	if err := syscall.Kill(-p.Pid, number); err != nil && !errors.Is(err, syscall.ESRCH) {
		_ = p.Signal(s)
	}
}

func terminateGroup(p *os.Process) {
	signalGroup(p, syscall.SIGTERM)
	signalGroup(p, syscall.SIGCONT) // a stopped one would not notice
}

func killGroup(p *os.Process) { signalGroup(p, syscall.SIGKILL) }

// exitStatus is as shells have it.
func exitStatus(state *os.ProcessState) int {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exitBySignal + int(ws.Signal())
	}
	return state.ExitCode()
}
