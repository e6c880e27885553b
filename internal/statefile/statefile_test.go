package statefile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

type record struct {
	Index uint64 `json:"index"`
	Name  string `json:"name"`
}

func TestReadAndWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.json")
	var got record
	if found, err := Read(path, 1, &got); found || err != nil {
		t.Fatal(found, err)
	}
	want := record{7, "n1 <&>"}
	if err := Write(path, 1, want); err != nil {
		t.Fatal(err)
	}
	if found, err := Read(path, 1, &got); !found || err != nil || got != want {
		t.Fatal(found, err, got)
	}
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("left behind", err)
	}
}

// What a kill leaves of a file goes, and nothing else does.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	if err := Sweep(filepath.Join(dir, "none")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"record.json", "record.json.tmp", "tmp", ".konsul-1.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "1-2-3.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"record.json": true, "record.json.tmp": false, "tmp": true, ".konsul-1.tmp": true, "1-2-3.tmp": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.json")
	if err := Write(path, 2, record{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, 1, &record{}); !errors.Is(err, ErrTooNew) {
		t.Fatal(err)
	}
}

// TestEveryFlippedBit: no bit of a file can change what is read from it.
func TestEveryFlippedBit(t *testing.T) {
	want := record{123456, "node-1"}
	whole, err := Encode(1, want)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for bit := range 8 {
			b := append([]byte{}, whole...)
			b[i] ^= 1 << bit
			var got record
			if err := Decode(b, 1, &got); err == nil && got != want || errors.Is(err, ErrTooNew) {
				t.Fatalf("byte %d, bit %d: read %+v, %v", i, bit, got, err)
			}
		}
	}
	for n := range whole[:len(whole)-1] {
		var got record
		if err := Decode(whole[:n], 1, &got); err == nil && got != want {
			t.Fatalf("cut off at %d: read %+v", n, got)
		}
	}
}
