package cli_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/neogan74/konsul/internal/encryption"
)

func TestKeygen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "konsul.key")
	run(t, "", "keygen", path).check(t, 0, "")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	keys, err := encryption.ReadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if o := run(t, "", "keygen", path); o.code != 1 {
		t.Errorf("a key was overwritten: %+v", o)
	}
	if again, err := encryption.ReadKeyFile(path); err != nil || again.ID() != keys.ID() {
		t.Errorf("the key has changed: %v", err)
	}
	printed := run(t, "", "keygen")
	if err := os.WriteFile(path, []byte(printed.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	if other, err := encryption.ReadKeyFile(path); err != nil || other.ID() == keys.ID() {
		t.Errorf("%q is no new key: %v", printed.stdout, err)
	}
	run(t, "", "keygen", "a", "b").check(t, 2, "")
}
