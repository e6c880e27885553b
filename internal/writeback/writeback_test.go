package writeback

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestEveryStepIsBegunOnceAndWaitedForAfterTheNext(t *testing.T) {
	var did []string
	note := func(what string) func(*os.File, int64, int64) {
		return func(_ *os.File, from, n int64) { did = append(did, fmt.Sprintf("%s %d+%d", what, from>>20, n>>20)) }
	}
	p := &Pacer{begin: note("begin"), await: note("await")}
	p.Grown(step - 1)
	if len(did) != 0 {
		t.Errorf("before a step was full: %v", did)
	}
	p.Grown(1)
	p.Grown(2*step + 5)
	want := []string{"begin 0+4", "begin 4+4", "await 0+4", "begin 8+4", "await 4+4"}
	if !slices.Equal(did, want) {
		t.Errorf("%v, want %v", did, want)
	}
}

func TestWhatIsWrittenIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := NewWriter(f)
	part := bytes.Repeat([]byte("0123456789abcdef"), step/24)
	var want []byte
	for range 5 {
		if n, err := w.Write(part); err != nil || n != len(part) {
			t.Fatal(n, err)
		}
		want = append(want, part...)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d: %v", len(got), len(want), err)
	}
}
