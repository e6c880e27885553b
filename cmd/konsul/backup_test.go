package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neogan74/konsul/internal/snapshot"
)

// The command line as a door: what is not a file is neither replaced by a backup, nor
// written through, nor waited for; and names on the node are the node's to judge.
func TestBackupCommandsTakeFilesOnly(t *testing.T) {
	t.Chdir(t.TempDir())
	n := start(t, nil, "--data-dir=data", "--persistence-backup-dir=backups")
	defer n.stop()
	konsul := func(args ...string) (int, string) {
		t.Helper()
		type result struct {
			code int
			text string
		}
		ended := make(chan result, 1)
		go func() {
			code, out, errs := command(t, nil, append([]string{"backup", "--http-addr", n.url}, args...)...)
			ended <- result{code, out + errs}
		}()
		select {
		case r := <-ended:
			return r.code, r.text
		case <-time.After(patience):
			t.Fatalf("konsul backup %q does not end", args)
			return 0, ""
		}
	}
	works := func(args ...string) {
		t.Helper()
		code, text := konsul(args...)
		require.Zero(t, code, text)
	}
	n.put("a", "saved")
	works("save", "good.snap")
	works("save", "new/deep/good.snap")
	works("save", "--on-node", "good.snap")
	n.put("a", "newer")

	require.NoError(t, os.MkdirAll("sub", 0o700))
	require.NoError(t, os.WriteFile("precious", []byte("precious"), 0o600))
	require.NoError(t, os.Symlink("precious", "link"))
	require.NoError(t, os.Symlink("nothing", "dangling"))
	require.NoError(t, os.Symlink("../precious", "backups/link"))
	require.NoError(t, syscall.Mkfifo("pipe", 0o600))
	require.NoError(t, syscall.Mkfifo("backups/pipe", 0o600))
	before := found(t)
	for _, name := range []string{"sub", "sub/", "new-one/", ".", "..", "sub/..", "/", "link", "dangling", "pipe", "/dev/null", "a\nb", "a\x00b", "precious/x",
		strings.Repeat("a", 300), ".konsul-0011223344556677.tmp"} {
		code, text := konsul("save", name)
		require.Equal(t, 1, code, "%q: %s", name, text)
		require.Equal(t, 1, strings.Count(text, "\n"), "%q: %s", name, text)
		require.Equal(t, before, found(t), "after saving to %q", name)
	}
	for _, args := range [][]string{
		{"save", "--on-node", "../precious"}, {"save", "--on-node", "link"}, {"save", "--on-node", "pipe"}, {"save", "--on-node", "/etc/x"}, {"save", "--on-node", "a\nb"},
		{"restore", "--on-node", "../precious"}, {"restore", "--on-node", "link"}, {"restore", "--on-node", "pipe"}, {"restore", "--on-node", "/etc/passwd"}, {"restore", "--on-node", ""},
		{"restore", "sub"}, {"restore", "precious"}, {"restore", "dangling"}, {"restore", "/dev/null"}, {"restore", "/dev/zero"}, {"restore", ""}, {"restore", "a\x00b"}, {"restore", "good.snap", "good.snap"},
		{"restore", "precious", "--data-dir", "other"}, {"inspect", "sub"}, {"inspect", "precious"}, {"inspect", "/dev/zero"}, {"inspect", ""},
	} {
		code, text := konsul(args...)
		require.Contains(t, []int{1, 3}, code, "%q: %s", args, text)
		require.Equal(t, before, found(t), "after %q", args)
	}
	_, value, _ := command(t, nil, "kv", "get", "a", "--http-addr", n.url)
	require.Contains(t, value, "newer")
	works("restore", "good.snap")
	_, value, _ = command(t, nil, "kv", "get", "a", "--http-addr", n.url)
	require.Contains(t, value, "saved")
}

// What a crash left of a backup may be what fills the disk: it goes also when the node
// cannot start.
func TestAStartThatFailsRemovesUnfinishedBackups(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.MkdirAll("data/damaged-20260101T000000Z.moving", 0o700)) // a reset that was interrupted
	require.NoError(t, os.Mkdir("backups", 0o700))
	require.NoError(t, os.WriteFile("backups/.konsul-0011223344556677.tmp", []byte("half"), 0o600))
	n, _ := launch(t, nil, "--port=0", "--raft-bind-addr=127.0.0.1:0", "--data-dir=data", "--persistence-backup-dir=backups")
	require.Equal(t, 1, n.wait())
	require.Contains(t, n.stderr.String(), "reset` was interrupted")
	left, err := os.ReadDir("backups")
	require.NoError(t, err)
	require.Empty(t, left)
}

// A new cluster with the backup directory of one that was lost saves its own and leaves
// those that are there.
func TestAScheduleInTheDirectoryOfALostCluster(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.MkdirAll("backups/scheduled", 0o700))
	now := time.Now()
	old := "backups/scheduled/konsul-" + now.UTC().Format("20060102T150405Z") + "-104211.snap"
	f, err := os.Create(old)
	require.NoError(t, err)
	w, err := snapshot.NewWriter(f, snapshot.Header{ClusterID: "lost", Index: 104211, CreatedAt: now.UnixNano()})
	require.NoError(t, err)
	_, err = w.Close()
	require.NoError(t, err)
	require.NoError(t, f.Close())
	n := start(t, []string{"KONSUL_BACKUP_SCHEDULE=1m", "KONSUL_BACKUP_KEEP=1"}, "--data-dir=data", "--persistence-backup-dir=backups")
	defer n.stop()
	require.Eventually(t, func() bool { // the schedule looks every 6 s
		left, err := filepath.Glob("backups/scheduled/*.snap")
		return err == nil && len(left) == 2 && strings.Contains(n.stderr.String(), "scheduled backup saved")
	}, patience, 50*time.Millisecond)
	require.FileExists(t, old)
}

// found is what is there, but for the node's own data.
func found(t *testing.T) (all []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == "data" {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			path += " " + info.Mode().String() + " " + info.ModTime().String()
		}
		all = append(all, path)
		return err
	})
	require.NoError(t, err)
	return all
}
