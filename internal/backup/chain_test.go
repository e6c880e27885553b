package backup

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/snapshot"
)

// longChain is a full backup and increments in files, n together, each with values of size
// bytes that do not shrink, at keys that lie between those of the others.
func longChain(t *testing.T, keys *encryption.FileKeys, n, records, size int) (files []File, names []string) {
	t.Helper()
	dir := t.TempDir()
	rnd := rand.NewChaCha8([32]byte{1})
	value := make([]byte, size)
	for i := range n {
		name := filepath.Join(dir, fmt.Sprint(i))
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		h := snapshot.Header{ClusterID: "c", Index: uint64(i + 1), Since: uint64(i)}
		sealed := Seal(f, keys)
		w, err := snapshot.NewWriter(sealed, h)
		if err != nil {
			t.Fatal(err)
		}
		for k := range records {
			_, _ = rnd.Read(value)
			if err := w.Write(snapshot.Record{Key: fmt.Appendf(nil, "%06d/%06d", k, i), Version: h.Index, Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		_, err = w.Close()
		if err = errors.Join(err, sealed.Close()); err != nil {
			t.Fatal(err)
		}
		files, names = append(files, f), append(names, name)
	}
	return files, names
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A long chain takes one block for each of its files and little more, while all of them
// stand in the middle of one: a restore of 1000 files must not be what ends a node.
func TestALongChainTakesLittleMemory(t *testing.T) {
	for name, c := range map[string]struct {
		keys *encryption.FileKeys
		most int64 // KiB for each file; a block is 64
	}{"in the clear": {nil, 100}, "encrypted": {fileKeys(t), 180}} {
		t.Run(name, func(t *testing.T) {
			const n, records = 100, 150
			files, names := longChain(t, c.keys, n, records, 4096)
			chain, err := NewChain(t.Context(), c.keys, files, names)
			if err != nil {
				t.Fatal(err)
			}
			before := heap()
			src, err := chain.Source(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for range n * records / 2 {
				if _, err := src.Next(); err != nil {
					t.Fatal(err)
				}
			}
			if each := (heap() - before) / n >> 10; each > c.most {
				t.Errorf("%d KiB for each file, at most %d", each, c.most)
			} else {
				t.Logf("%d KiB for each file", each)
			}
			rest := 0
			for ; err == nil; rest++ {
				_, err = src.Next()
			}
			if !errors.Is(err, io.EOF) || rest-1 != n*records/2 {
				t.Errorf("%v after %d more records", err, rest-1)
			}
			if each := (heap() - before) / n >> 10; each > 8 {
				t.Errorf("%d KiB for each file that has ended", each)
			}
			runtime.KeepAlive(src)
		})
	}
}
