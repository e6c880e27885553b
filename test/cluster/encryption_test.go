//go:build cluster

package cluster

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// An encrypted node: nothing of what it was told is to be found in its directories,
// not even after kill -9; its backup comes back with the key and with nothing else, in a
// data directory that is encrypted as well; and the key can be replaced.
func TestEncryptedAtRest(t *testing.T) {
	const secret = "the-secret-is-out"
	c := harness.New(t, harness.Options{Nodes: 1})
	n := c.Nodes[0]
	key, next := filepath.Join(n.Dir, "konsul.key"), filepath.Join(n.Dir, "next.key")
	backups := filepath.Join(n.Dir, "backups")
	konsul := func(code int, args ...string) string {
		t.Helper()
		cmd := exec.Command(n.Binary(), append(args, "--http-addr="+n.HTTP)...)
		if args[0] == "keygen" {
			cmd = exec.Command(n.Binary(), args...)
		}
		cmd.Dir = n.Dir
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("konsul %s: exit %d, want %d: %s", strings.Join(args, " "), got, code, out)
		}
		return string(out)
	}
	konsul(0, "keygen", key)
	konsul(0, "keygen", next)
	n.SetEnv("KONSUL_ENCRYPTION_KEY_FILE", key)
	n.SetEnv("KONSUL_BACKUP_DIR", backups)
	n.Start()
	n.WaitReady(30 * time.Second)
	for _, k := range []string{"a", "b", secret} {
		if _, err := n.Put(soon(t), k, []byte(secret+" "+k), ""); err != nil {
			t.Fatal(err)
		}
	}
	konsul(0, "cluster", "snapshot")
	konsul(0, "backup", "save", "--on-node", "a.snap")
	konsul(0, "backup", "save", "here.snap", "--key-file", key)
	if out := konsul(0, "backup", "list"); !strings.Contains(out, "a.snap") {
		t.Errorf("the list does not have it: %s", out)
	}
	n.Kill9()
	nothingOf(t, n.Dir, secret)

	n.SetEnv("KONSUL_ENCRYPTION_KEY_FILE", next)
	n.Start()
	stopsWith(t, n, "encrypted with another key")
	n.SetEnv("KONSUL_ENCRYPTION_KEY_FILE", "")
	n.Start()
	stopsWith(t, n, "no key is configured")

	// Both keys, the new one first; then the new one alone.
	both := append(read(t, next), read(t, key)...)
	if err := os.WriteFile(filepath.Join(n.Dir, "both.key"), both, 0o600); err != nil {
		t.Fatal(err)
	}
	n.SetEnv("KONSUL_ENCRYPTION_KEY_FILE", filepath.Join(n.Dir, "both.key"))
	n.Start()
	n.WaitReady(30 * time.Second)
	n.Stop()
	n.SetEnv("KONSUL_ENCRYPTION_KEY_FILE", next)
	n.Start()
	n.WaitReady(30 * time.Second)
	if e, err := n.Read(soon(t), "a", ""); err != nil || string(e.Bytes()) != secret+" a" {
		t.Fatalf("%q, %v", e.Bytes(), err)
	}
	n.Stop()

	// The backup needs the key it was saved with.
	snap := filepath.Join(backups, "a.snap")
	if out := konsul(1, "backup", "inspect", snap); !strings.Contains(out, "--key-file") {
		t.Errorf("without a key: %s", out)
	}
	konsul(1, "backup", "inspect", snap, "--key-file", next)
	konsul(0, "backup", "inspect", snap, "--key-file", key)
	konsul(0, "backup", "inspect", "here.snap", "--key-file", key)
	other := harness.New(t, harness.Options{Nodes: 1}).Nodes[0]
	konsul(0, "backup", "restore", snap, "--key-file", key, "--data-dir", other.DataDir)
	nothingOf(t, other.DataDir, secret)
	other.SetEnv("KONSUL_ENCRYPTION_KEY_FILE", key)
	other.Start()
	other.WaitReady(30 * time.Second)
	if e, err := other.Read(soon(t), secret, ""); err != nil || string(e.Bytes()) != secret+" "+secret {
		t.Fatalf("%q, %v", e.Bytes(), err)
	}
}

// stopsWith waits for a node to give up and say why.
func stopsWith(t *testing.T, n *harness.Node, why string) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, n.Name+" to give up", func() error {
		if n.Running() {
			return os.ErrProcessDone
		}
		return nil
	})
	if !bytes.Contains(read(t, n.LogFile), []byte(why)) {
		t.Errorf("its log does not say %q", why)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// nothingOf looks for a word in all files below a directory.
func nothingOf(t *testing.T, dir, word string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		if bytes.Contains(read(t, path), []byte(word)) {
			t.Errorf("%s holds it in the clear", path)
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files, %v", files, err)
	}
}
