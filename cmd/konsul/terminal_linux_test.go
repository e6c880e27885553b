package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal is one with nobody at it: what is written to keyboard is read from the terminal.
func terminal(t *testing.T) (keyboard io.Writer, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { master.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { tty.Close() })
	return master, tty
}

// Whoever thinks about the question for longer than the cluster may take must not be told
// afterwards that the cluster did not answer in time.
func TestResetCanBeThoughtAbout(t *testing.T) {
	dir := t.TempDir()
	n := start(t, nil, "--node-id=n1", "--data-dir="+dir)
	cluster := n.status().ClusterID
	n.stop()
	left := make(chan struct{}, 1)
	others := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodDelete && r.URL.Path == "/cluster/leave/n1" {
			left <- struct{}{}
			fmt.Fprint(w, `{"message":"node left","node_id":"n1"}`)
			return
		}
		fmt.Fprintf(w, `{"cluster_id":%q,"node_id":"n2","state":"leader","leader_id":"n2","has_state":true}`, cluster)
	}))
	defer others.Close()
	keyboard, tty := terminal(t)
	const timeout = time.Second
	out, ended := &syncBuffer{}, make(chan int, 1)
	args := []string{"cluster", "reset", "--data-dir=" + dir, "--http-addr=" + others.URL, "--timeout=" + timeout.String()}
	go func() { ended <- run(t.Context(), args, program{stdin: tty, stdout: out, stderr: out}, func() {}) }()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "Go on?") }, patience, time.Millisecond, out)
	time.Sleep(timeout + timeout/5) // longer than all the time there is
	require.Empty(t, left, "it did not wait for the answer")
	fmt.Fprintln(keyboard, "yes")
	select {
	case code := <-ended:
		require.Zero(t, code, out)
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	require.Len(t, left, 1)
	aside, err := filepath.Glob(filepath.Join(dir, "damaged-*", "node-id"))
	require.NoError(t, err)
	require.Len(t, aside, 1)
}
