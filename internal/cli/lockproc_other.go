//go:build unix && !linux

package cli

import "syscall"

// dieTogether: only Linux can do it.
func dieTogether(*syscall.SysProcAttr) {}
