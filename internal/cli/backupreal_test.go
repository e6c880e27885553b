//go:build linux

package cli_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// An interrupt ends a backup that is being saved, and a restore that is being sent. What
// there was of the file goes.
func TestAnInterruptLeavesNoUnfinishedBackup(t *testing.T) {
	unignore(t)
	whole := aBackup(t, 100)
	sending, hang := make(chan struct{}, 1), make(chan struct{})
	at := handler(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			_, _ = io.Copy(io.Discard, r.Body)
			sending <- struct{}{}
		} else {
			_, _ = w.Write(whole[:len(whole)-1])
			w.(http.Flusher).Flush()
		}
		<-hang
	})
	defer close(hang)
	konsul := func(dir string, args ...string) (end func(os.Signal) string) {
		var said strings.Builder
		cmd := exec.Command(harness.Binary(t, harness.Plain), append(args, at)...)
		cmd.Dir, cmd.Stderr, cmd.WaitDelay = dir, &said, 5*time.Second
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return func(s os.Signal) string {
			t.Helper()
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
			defer late.Stop()
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("%v: exit %d: %s", args, code, said.String())
			}
			return said.String()
		}
	}
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		dir := t.TempDir()
		end := konsul(dir, "backup", "save", "a.snap")
		harness.Eventually(t, 20*time.Second, "the backup to begin", func() error {
			if left, err := filepath.Glob(filepath.Join(dir, ".konsul-*.tmp")); err != nil || len(left) != 1 {
				return errors.New("not yet")
			}
			return nil
		})
		end(s)
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("after %v: left behind: %v, %v", s, left, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.snap"), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	end := konsul(dir, "backup", "restore", "a.snap")
	<-sending
	if said := end(os.Interrupt); !strings.Contains(said, "interrupt") || !strings.Contains(said, "may or may not") {
		t.Errorf("it says %q", said)
	}
}
