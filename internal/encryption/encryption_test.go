package encryption

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keyFile writes a key file with a new key for each number that is not known yet.
func keyFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readKeys(t *testing.T, lines ...string) *Keys {
	t.Helper()
	keys, err := ReadKeyFile(keyFile(t, lines...))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestKeyFile(t *testing.T) {
	a, b := NewKeyLine(), NewKeyLine()
	if a == b {
		t.Fatal("two new keys are equal")
	}
	keys := readKeys(t, "# in use\n", a, "\n", "  "+b)
	if len(keys.list) != 2 || keys.ID() != readKeys(t, a).ID() || keys.Exposed {
		t.Fatalf("%d keys, first %s, exposed %v", len(keys.list), keys.ID(), keys.Exposed)
	}
	short := base64.StdEncoding.EncodeToString(make([]byte, 16)) + "\n"
	many := make([]string, 0, maxKeys+1)
	for range maxKeys + 1 {
		many = append(many, NewKeyLine())
	}
	for name, path := range map[string]string{
		"empty": keyFile(t), "comment only": keyFile(t, "# none\n"), "not base64": keyFile(t, "secret!\n"),
		"too short": keyFile(t, short), "repeated": keyFile(t, a, a), "too many": keyFile(t, many...),
		"huge": keyFile(t, strings.Repeat("#\n", maxKeyFile)), "missing": filepath.Join(t.TempDir(), "none"), "directory": t.TempDir(),
	} {
		_, err := ReadKeyFile(path)
		if !errors.Is(err, ErrBadKeyFile) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret!") {
			t.Errorf("%s: the error quotes the file: %v", name, err)
		}
	}
}

func TestKeyFileMode(t *testing.T) {
	path := keyFile(t, NewKeyLine())
	for mode, want := range map[os.FileMode]struct{ ok, exposed bool }{
		0o600: {true, false}, 0o400: {true, false}, 0o440: {true, true}, 0o444: {true, true}, 0o620: {false, false}, 0o602: {false, false},
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		keys, err := ReadKeyFile(path)
		if (err == nil) != want.ok || (err == nil && keys.Exposed != want.exposed) {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
}

func TestSealer(t *testing.T) {
	s, other := newSealer(make([]byte, KeySize)), newSealer(bytes.Repeat([]byte{1}, KeySize))
	for _, plain := range [][]byte{nil, {0}, bytes.Repeat([]byte("x"), 70000)} {
		sealed := s.Seal([]byte("before"), plain, []byte("7"))[len("before"):]
		if len(sealed) != len(plain)+SealOverhead {
			t.Fatalf("%d bytes sealed to %d", len(plain), len(sealed))
		}
		got, err := s.Open(nil, sealed, []byte("7"))
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: %v", len(plain), err)
		}
		if bytes.Equal(sealed, s.Seal(nil, plain, []byte("7"))) {
			t.Error("sealing twice gives the same bytes")
		}
		for i := range min(len(sealed), 200) {
			broken := bytes.Clone(sealed)
			broken[i] ^= 1
			if _, err := s.Open(nil, broken, []byte("7")); !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
		}
		for name, err := range map[string]error{
			"elsewhere": second(s.Open(nil, sealed, []byte("8"))), "another key": second(other.Open(nil, sealed, []byte("7"))),
			"cut": second(s.Open(nil, sealed[:len(sealed)-1], []byte("7"))), "nothing": second(s.Open(nil, nil, []byte("7"))),
		} {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func second(_ []byte, err error) error { return err }

func encrypt(t *testing.T, keys *FileKeys, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := keys.Writer(&b)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decrypt(keys *FileKeys, file io.Reader) ([]byte, error) {
	r, err := keys.Reader(file)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestFiles(t *testing.T) {
	line := NewKeyLine()
	old := readKeys(t, line).Files()
	both := readKeys(t, NewKeyLine(), line).Files() // after the key was replaced
	other := readKeys(t, NewKeyLine()).Files()
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize + 17} {
		plain := bytes.Repeat([]byte("konsul"), size/6+1)[:size]
		file := encrypt(t, old, plain)
		if !Encrypted(file) || Encrypted([]byte("KONSNAP\x00")) || size > 100 && bytes.Contains(file, plain[:100]) {
			t.Fatalf("%d bytes are not encrypted", size)
		}
		if got := PlainSize(int64(len(file))); got != int64(size) {
			t.Errorf("PlainSize(%d) = %d, want %d", len(file), got, size)
		}
		for _, keys := range []*FileKeys{old, both} {
			if got, err := decrypt(keys, bytes.NewReader(file)); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
		if _, err := decrypt(other, bytes.NewReader(file)); !errors.Is(err, ErrWrongKey) || !strings.Contains(err.Error(), old.list[0].id) {
			t.Errorf("with another key: %v", err)
		}
	}
	broken := errors.New("connection broke")
	file := encrypt(t, old, make([]byte, 200000))
	_, err := decrypt(old, io.MultiReader(bytes.NewReader(file[:90000]), errReader{broken}))
	if !errors.Is(err, broken) || errors.Is(err, ErrDamaged) {
		t.Errorf("an error of the source: %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// TestFileDamage: no byte can be changed, and nothing cut off or added.
func TestFileDamage(t *testing.T) {
	keys := readKeys(t, NewKeyLine()).Files()
	plain := bytes.Repeat([]byte("konsul "), 30000)
	file := encrypt(t, keys, plain)
	rnd := rand.New(rand.NewPCG(1, 2))
	check := func(what string, file []byte) {
		t.Helper()
		if _, err := decrypt(keys, bytes.NewReader(file)); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrWrongKey) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for range 300 {
		broken, at := bytes.Clone(file), rnd.IntN(len(file))
		broken[at] ^= 1 << rnd.IntN(8)
		check(fmt.Sprint("byte ", at), broken)
	}
	for range 200 {
		n := rnd.IntN(len(file))
		check(fmt.Sprint("cut to ", n), file[:n])
	}
	for at := range int(headerSize) + nonceSize { // every byte of the header
		broken := bytes.Clone(file)
		broken[at] ^= 0x20
		check(fmt.Sprint("header byte ", at), broken)
	}
	check("a byte more", append(bytes.Clone(file), 0))
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	a, b := NewKeyLine(), NewKeyLine()
	open := func(fresh bool, lines ...string) (*Directory, string, error) {
		if len(lines) == 0 {
			return OpenDirectory(dir, nil, fresh)
		}
		return OpenDirectory(dir, readKeys(t, lines...), fresh)
	}
	if d, _, err := open(true); d != nil || err != nil {
		t.Fatalf("without a key: %v, %v", d, err)
	}
	if _, _, err := open(false, a); !errors.Is(err, ErrNotEncrypted) {
		t.Fatalf("data in the clear and a key: %v", err)
	}
	first, _, err := open(true, a)
	if err != nil {
		t.Fatal(err)
	}
	same := func(d *Directory) {
		t.Helper()
		if d == nil || !bytes.Equal(d.Engine(), first.Engine()) {
			t.Fatal("another data key")
		}
		sealed := first.Log().Seal(nil, []byte("entry"), nil)
		if plain, err := d.Log().Open(nil, sealed, nil); err != nil || string(plain) != "entry" {
			t.Fatalf("an entry of before: %v", err)
		}
		if _, err := decrypt(d.Files(), bytes.NewReader(encrypt(t, first.Files(), []byte("snapshot")))); err != nil {
			t.Fatalf("a snapshot of before: %v", err)
		}
	}
	if _, _, err := open(false); !errors.Is(err, ErrNoKey) {
		t.Errorf("encrypted and no key: %v", err)
	}
	if _, _, err := open(false, b); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
	d, replaced, err := open(false, a)
	if err != nil || replaced != "" {
		t.Fatalf("%v, replaced %q", err, replaced)
	}
	same(d)

	d, replaced, err = open(false, b, a) // the key is being replaced
	if err != nil || replaced != readKeys(t, a).ID() {
		t.Fatalf("%v, replaced %q", err, replaced)
	}
	same(d)
	d, replaced, err = open(false, b) // the old one is gone from the key file
	if err != nil || replaced != "" {
		t.Fatalf("%v, replaced %q", err, replaced)
	}
	same(d)
	if _, _, err := open(false, a); !errors.Is(err, ErrWrongKey) {
		t.Errorf("the old key still opens it: %v", err)
	}

	path := filepath.Join(dir, File)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"cut": string(text[:len(text)/2]), "empty": "", "changed": strings.Replace(string(text), `"data_key": "`, `"data_key": "AAAA`, 1),
		"newer": strings.Replace(string(text), `"format": 1`, `"format": 2`, 1),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := open(true, b)
		if newer := strings.Contains(name, "newer"); err == nil || newer == errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
