package cli

import (
	"os"
	"os/exec"
)

// Windows has neither process groups nor signals of this kind: an interrupt goes to the
// command directly, and losing the lock kills it.

func forwarded() []os.Signal { return []os.Signal{os.Interrupt} }

func ends(os.Signal) bool { return true }

func signalNumber(os.Signal) int { return 2 }

func inGroup(*exec.Cmd) (restore func()) { return func() {} }

func signalGroup(*os.Process, os.Signal) {}

func terminateGroup(p *os.Process) { killGroup(p) }

func killGroup(p *os.Process) { _ = p.Kill() } // it may be gone already

func exitStatus(state *os.ProcessState) int { return state.ExitCode() }
