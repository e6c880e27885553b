package backup

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/snapshot"
)

func fileKeys(t *testing.T) *encryption.FileKeys {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(encryption.NewKeyLine()), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := encryption.ReadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys.Files()
}

// TestEncryptedBackups: they hold nothing in the clear, are listed and read with the
// key only, and no byte of them can be changed, cut off or added. A directory with a
// key reads those from before it had one, too.
func TestEncryptedBackups(t *testing.T) {
	d, keys := open(t), fileKeys(t)
	save(t, d, "before.snap", at(3, 0))
	d.Encrypt(keys)
	saved := save(t, d, "a.snap", at(5, 1))
	file, err := os.ReadFile(filepath.Join(d.abs, saved.Name))
	if err != nil {
		t.Fatal(err)
	}
	if !encryption.Encrypted(file) || bytes.Contains(file, []byte("KONSNAP")) {
		t.Fatal("it is not encrypted")
	}
	if list, err := d.List(); err != nil || len(list) != 2 || list[1].Header.Index != 5 {
		t.Fatalf("%+v, %v", list, err)
	}
	read := func(keys *encryption.FileKeys, file []byte) error {
		c, err := NewChain(t.Context(), keys, []File{bytes.NewReader(file)}, []string{"a"})
		if err != nil {
			return err
		}
		src, err := c.Source(t.Context(), nil)
		if err != nil {
			return err
		}
		f, err := snapshot.Copy(io.Discard, src)
		if err == nil && f.Records != 10 {
			t.Errorf("%d records", f.Records)
		}
		return err
	}
	if err := read(keys, file); err != nil {
		t.Fatal(err)
	}
	if err := read(nil, file); !errors.Is(err, encryption.ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
	if err := read(fileKeys(t), file); !errors.Is(err, encryption.ErrWrongKey) {
		t.Errorf("with another key: %v", err)
	}
	if list, err := open(t).List(); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		broken, i := bytes.Clone(file), rnd.IntN(len(file))
		broken[i] ^= 1 << rnd.IntN(8)
		if read(keys, broken) == nil {
			t.Fatalf("byte %d was changed and nobody noticed", i)
		}
	}
	for range 500 {
		if n := rnd.IntN(len(file)); read(keys, file[:n]) == nil {
			t.Fatalf("cut to %d bytes and nobody noticed", n)
		}
	}
	if read(keys, append(bytes.Clone(file), 0)) == nil {
		t.Error("a byte more and nobody noticed")
	}
}

// Scheduled backups under a key that is no longer there may be anybody's: they stay, and
// the log names them with every backup.
func TestScheduledBackupsUnderARetiredKey(t *testing.T) {
	d := open(t)
	d.Encrypt(fileKeys(t))
	for i := range 2 {
		if _, err := d.SaveScheduled(stream(at(uint64(i+1), i), 1), 2, hclog.NewNullLogger()); err != nil {
			t.Fatal(err)
		}
	}
	retired := names(t, d)
	d.Encrypt(fileKeys(t))
	var said bytes.Buffer
	log := hclog.New(&hclog.LoggerOptions{Output: &said})
	for i := range 4 {
		said.Reset()
		if _, err := d.SaveScheduled(stream(at(uint64(i+10), i+10), 1), 2, log); err != nil {
			t.Fatal(err)
		}
		for _, name := range retired {
			if strings.Count(said.String(), filepath.Base(name)) != 1 {
				t.Errorf("the log does not name %s: %s", name, said.String())
			}
		}
	}
	if left := names(t, d); len(left) != 4 || !slices.Equal(left[:2], retired) {
		t.Errorf("left: %v", left)
	}
}
