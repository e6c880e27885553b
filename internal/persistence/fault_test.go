//go:build failpoints

package persistence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestChildReplaces replaces the engine in its directory by snapshot "snap".
func TestChildReplaces(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		return // not a child
	}
	file, err := os.Open(filepath.Join(dir, "snap"))
	if err != nil {
		t.Fatal(err)
	}
	db := openTest(t, Options{Dir: dir, Badger: small})
	if _, err := db.Replace(context.Background(), file); err != nil {
		t.Fatal(err)
	}
}

// TestKilledWhileReplacing kills the process between every two steps: the old
// engine is there or the new one, whole, and nothing else.
func TestKilledWhileReplacing(t *testing.T) {
	source := newMachine(t, 5, Options{InMemory: true, Badger: small})
	source.grow(200, 2000)
	file := takeSnapshot(t, source.db, 200, testSnapshotHeader)
	newSum := source.model.digest(200)
	source.close()
	for _, c := range []struct {
		point string
		isNew bool
	}{
		{"replace.after-mkdir", false}, {"replace.after-fill", false}, {"replace.after-sync", false},
		{"replace.before-switch", false}, {"replace.after-switch", true}, {"replace.after-swap", true},
	} {
		dir, oldSum := closedEngine(t, 40)
		if err := os.WriteFile(filepath.Join(dir, "snap"), file, 0o600); err != nil {
			t.Fatal(err)
		}
		err := child(t, "TestChildReplaces", dir, "KONSUL_FAILPOINTS="+c.point+"=kill").Run()
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("%s: the child was not killed: %v", c.point, err)
		}
		db, err := Open(Options{Dir: dir, Badger: small}, nil)
		if err != nil {
			t.Fatalf("%s: %v", c.point, err)
		}
		want, index := oldSum, uint64(40)
		if c.isNew {
			want, index = newSum, 200
		}
		if db.Published() != index || db.DurableIndex() != index || mustDigest(t, db, index) != want {
			t.Errorf("%s: the engine is at %d, want %d", c.point, db.Published(), index)
		}
		if got := engineFiles(t, dir); len(got) != 3 {
			t.Errorf("%s: left behind: %v", c.point, got)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestKilledWhileMakingDurable kills the process between every two steps: what the files say of
// the logs is true at each, and the next life is not told of damage.
func TestKilledWhileMakingDurable(t *testing.T) {
	for _, point := range []string{"durable.after-sync", "durable.after-marks", "durable.after-state"} {
		dir := t.TempDir()
		for range 2 { // the second life begins with the first one's marks
			err := child(t, "TestChildApplies", dir, "KONSUL_FAILPOINTS="+point+"=kill").Run()
			if err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("%s: the child was not killed: %v", point, err)
			}
		}
		judge(t, dir, 0)
	}
}

// run runs a command that must succeed.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s\nthis test needs root, mkfs.xfs, xfs_io and loop devices", name, strings.Join(args, " "), err, out)
	}
}

// powerCut runs the child on a file system of its own, cuts its power, and opens
// what is left on the disk. survived is nil if the engine is as good as promised.
func powerCut(t *testing.T, rounds int, env ...string) (survived error) {
	t.Helper()
	base := t.TempDir()
	image, mount := filepath.Join(base, "disk"), filepath.Join(base, "mnt")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "truncate", "-s", "2G", image)
	run(t, "mkfs.xfs", "-q", image)
	run(t, "mount", "-o", "loop", image, mount)
	mounted := true
	defer func() {
		if mounted {
			run(t, "umount", mount)
		}
	}()
	cmd, lastDurable := startApplying(t, mount, rounds, env...)
	<-time.After(37 * time.Millisecond)
	run(t, "xfs_io", "-x", "-c", "shutdown", mount) // without -f: the log is not flushed
	_ = cmd.Process.Kill()
	durable := lastDurable()
	run(t, "umount", mount)
	run(t, "mount", "-o", "loop", image, mount)
	return examine(mount, durable)
}

// examine is judge, short and without failing the test: is what was promised as
// durable there?
func examine(dir string, durable uint64) error {
	o := killOptions
	o.Dir = dir
	db, err := Open(o, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	if got := db.DurableIndex(); got < durable {
		return fmt.Errorf("durable index is %d, promised %d", got, durable)
	}
	index := db.DurableIndex()
	m := newModel()
	for i, e := range fixedLog(1, int(index)) {
		m.apply(uint64(i+1), e)
	}
	sum, n, err := db.Digest(context.Background(), index)
	if err != nil {
		return err
	}
	if sum != m.digest(index) {
		return fmt.Errorf("at %d: another state, %d records, want %d", index, n, len(m.at(index)))
	}
	return nil
}

// TestPowerCut: what MakeDurable returned for survives a power cut.
func TestPowerCut(t *testing.T) {
	for round := range 6 {
		if err := powerCut(t, 1+2*round); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
}

// TestPowerCutNeedsTheFsync: the test above would notice if MakeDurable did not
// sync.
func TestPowerCutNeedsTheFsync(t *testing.T) {
	for range 6 {
		if err := powerCut(t, 6, "KONSUL_FAILPOINTS=engine.skip-fsync=on"); err != nil {
			t.Logf("noticed: %v", err)
			return
		}
	}
	t.Error("six power cuts without an fsync lost nothing: the test proves nothing")
}

// TestDiskFull fills a small disk: applying waits, nothing faults, and it goes on
// by itself when there is space.
func TestDiskFull(t *testing.T) {
	mount := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", mount)
	t.Cleanup(func() { run(t, "umount", mount) })
	db := openTest(t, Options{Dir: mount, Badger: small})
	ballast := filepath.Join(mount, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 180<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	const n = 6000 // 120 MB: more than is left
	done := make(chan error, 1)
	go func() {
		for i := uint64(1); i <= n; i++ {
			u := db.NewUpdate(i)
			u.At(i).Set(fmt.Appendf(nil, "kv:%05d", i), randomBytes(i, 20_000))
			if _, err := u.Commit(i); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	waits := func() bool {
		db.space.mu.Lock()
		defer db.space.mu.Unlock()
		return db.space.warned
	}
	eventually(t, "applying waits for space", waits)
	at := db.Published()
	if v, err := db.View(); err != nil || v.Index() != at {
		t.Fatal(err)
	} else if _, found, err := v.Get([]byte("kv:00001")); !found || err != nil {
		t.Fatal("a full disk must not stop reading", found, err)
	} else {
		v.Close()
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if at >= n {
		t.Fatal("it never waited")
	}
	v, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= n; i++ {
		if value, found, err := v.Get(fmt.Appendf(nil, "kv:%05d", i)); !found || err != nil || !bytes.Equal(value, randomBytes(i, 20_000)) {
			t.Fatalf("key %d after the disk was full: %v, %v", i, found, err)
		}
	}
	v.Close()
}

// TestReplaceOnAFullDisk: an error, and the old engine; no fault.
func TestReplaceOnAFullDisk(t *testing.T) {
	source := openTest(t, Options{InMemory: true, Badger: small})
	for i := uint64(1); i <= 3000; i++ {
		put(t, source, i, fmt.Sprintf("kv:%05d", i), string(randomBytes(i, 20_000)))
	}
	file := takeSnapshot(t, source, 3000, testSnapshotHeader)
	for _, size := range []string{"50m", "60m", "70m", "80m"} {
		mount := t.TempDir()
		run(t, "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", mount)
		t.Cleanup(func() { run(t, "umount", mount) })
		db := filled(t, Options{Dir: mount, Badger: small}, 20)
		before := mustDigest(t, db, 20)
		if _, err := db.Replace(context.Background(), bytes.NewReader(file)); !errors.Is(err, ErrNoSpace) {
			t.Fatalf("%s: %v", size, err)
		}
		if mustDigest(t, db, 20) != before || len(engineFiles(t, mount)) != 3 {
			t.Fatalf("%s: %v", size, engineFiles(t, mount))
		}
	}
}
