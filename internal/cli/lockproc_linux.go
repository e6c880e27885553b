package cli

import "syscall"

// dieTogether makes the kernel kill the command when this program is gone, however it went.
func dieTogether(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
