//go:build fault

// Package fault breaks what a cluster stands on: power, disks, the network. It
// needs root, xfsprogs, e2fsprogs, iproute2 and iptables: `make test-fault`, or
// `go test -tags fault ./test/fault` (-short for fewer rounds).
package fault

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/neogan74/konsul/test/harness"
)

const inside = "KONSUL_TEST_INSIDE_NAMESPACES"

// TestMain first starts itself again in a mount and a network namespace of its
// own: every mount, loop device, bridge and named namespace then goes with the
// last process, however the tests end.
func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		unshare, err := exec.LookPath("unshare")
		if err == nil {
			err = syscall.Exec(unshare, append([]string{"unshare", "--mount", "--net"}, os.Args...), append(os.Environ(), inside+"=1"))
		}
		fmt.Fprintln(os.Stderr, "the fault tests need root and unshare(1):", err)
		os.Exit(1)
	}
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "preparing the namespaces (are you root?):", err)
		os.Exit(1)
	}
	os.Exit(harness.Main(m))
}

func prepare() error {
	if err := sh("mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns"); err != nil {
		return err
	}
	return sh("ip link set lo up")
}

// sh runs a line of shell and returns its output in the error.
func sh(line string, args ...any) error {
	line = fmt.Sprintf(line, args...)
	if out, err := exec.Command("sh", "-ec", line).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pick returns the first value in the short form, else the second.
func pick[T any](short, long T) T {
	if testing.Short() {
		return short
	}
	return long
}
