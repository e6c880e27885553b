package raftstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// masterKeys reads a key file of these lines.
func masterKeys(t *testing.T, lines ...string) *encryption.Keys {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	var text []byte
	for _, line := range lines {
		text = append(text, line...)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := encryption.ReadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestEncryptedNodes runs a cluster of an encrypted leader, one with another key
// and one without: log, engine and snapshots of the encrypted ones hold nothing in
// the clear, snapshots pass between all of them, and a key can be replaced.
func TestEncryptedNodes(t *testing.T) {
	lines := []string{encryption.NewKeyLine(), encryption.NewKeyLine()}
	c := raftstoretest.New(t, 3, func(i int, cfg *raftstore.Config) {
		tiny(i, cfg)
		if i < len(lines) {
			cfg.Encryption = masterKeys(t, lines[i])
		}
	})
	// Each in turn is behind the others' logs and takes a snapshot of one of the other two.
	const secret = "the secret is out"
	written := 0
	for _, behind := range c.Nodes {
		behind.Stop()
		leader := c.Leader()
		for range 150 {
			written++
			leader.MustPut(fmt.Sprintf("secret key %d", written), secret)
		}
		behind.Start()
		c.CheckEqual()
	}
	for _, n := range c.Nodes {
		if err := n.Store.TakeSnapshot(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range c.Nodes {
		n.Stop()
		clear := clearFiles(t, n.Config.DataDir, "secret key", secret)
		if encrypted := i < len(lines); encrypted != (len(clear) == 0) {
			t.Errorf("%s, encrypted %v: in the clear: %v", n.ID, encrypted, clear)
		}
	}

	// What does not open, and that it changes nothing.
	first, plain := c.Nodes[0], c.Nodes[2]
	for name, want := range map[string]struct {
		keys *encryption.Keys
		err  error
	}{
		"no key":      {nil, encryption.ErrNoKey},
		"another key": {masterKeys(t, lines[1]), encryption.ErrWrongKey},
	} {
		first.Config.Encryption = want.keys
		if err := first.TryStart(); !errors.Is(err, want.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	plain.Config.Encryption = masterKeys(t, lines[0])
	if err := plain.TryStart(); !errors.Is(err, encryption.ErrNotEncrypted) {
		t.Errorf("a key for data in the clear: %v", err)
	}

	// The key is replaced: new and old, then the new one alone.
	next := encryption.NewKeyLine()
	plain.Config.Encryption = nil
	first.Config.Encryption = masterKeys(t, next, lines[0])
	for _, n := range c.Nodes {
		n.Start()
	}
	c.CheckEqual()
	first.Stop()
	first.Config.Encryption = masterKeys(t, lines[0])
	if err := first.TryStart(); !errors.Is(err, encryption.ErrWrongKey) {
		t.Errorf("the old key alone: %v", err)
	}
	first.Config.Encryption = masterKeys(t, next)
	meta := glob(t, first.Config.DataDir, "snapshots/*/meta.json")
	for _, path := range meta { // made anew from the records, and the files as they are
		remove(t, path)
	}
	first.Start()
	if again := glob(t, first.Config.DataDir, "snapshots/*/meta.json"); len(meta) == 0 || len(again) < len(meta) {
		t.Errorf("snapshots' metadata: %v, were %v", again, meta)
	}
	c.Leader().MustPut("after", "it")
	c.CheckEqual()
	if got := first.MustGet("secret key 1"); got != secret {
		t.Errorf("got %q", got)
	}
}

// TestLostDataKey: without encryption.json nothing can be read any more, and nothing is overwritten.
func TestLostDataKey(t *testing.T) {
	c := raftstoretest.New(t, 1, func(_ int, cfg *raftstore.Config) { cfg.Encryption = masterKeys(t, encryption.NewKeyLine()) })
	n := c.Nodes[0]
	n.MustPut("k", "value")
	err := restart(t, n, func(dir string) {
		if err := os.Rename(filepath.Join(dir, encryption.File), filepath.Join(dir, "away")); err != nil {
			t.Fatal(err)
		}
	})
	if !errors.Is(err, encryption.ErrNotEncrypted) {
		t.Errorf("without its data key: %v", err)
	}
	n.Config.Encryption = nil
	if err := n.TryStart(); err == nil {
		t.Error("an encrypted directory was opened without a key")
	}
}

// clearFiles lists the files under dir that hold one of the words.
func clearFiles(t *testing.T, dir string, words ...string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, w := range words {
			if bytes.Contains(b, []byte(w)) {
				found = append(found, path)
				break
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
