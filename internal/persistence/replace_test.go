package persistence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/neogan74/konsul/internal/snapshot"
)

// engineFiles lists what the engine's root holds.
func engineFiles(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, EngineDir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestReplace(t *testing.T) {
	for name, memory := range map[string]bool{"on disk": false, "in memory": true} {
		t.Run(name, func(t *testing.T) {
			source := newMachine(t, 21, Options{InMemory: true, Badger: small})
			source.grow(300, 3000)
			file := takeSnapshot(t, source.db, 250, snapshot.Header{ClusterID: "c1", Keys: 11, Services: 12})

			dir := t.TempDir()
			o := Options{Dir: dir, InMemory: memory, Badger: small}
			db := filled(t, o, 50)
			old, err := db.View()
			if err != nil {
				t.Fatal(err)
			}
			h, err := db.Replace(context.Background(), bytes.NewReader(file))
			if err != nil || h.Index != 250 || h.ClusterID != "c1" {
				t.Fatal(h, err)
			}
			if db.Published() != 250 || db.Floor() != 250 || db.DurableIndex() != 250 || db.Counts() != (Counts{11, 12}) {
				t.Fatal(db.Published(), db.Floor(), db.DurableIndex(), db.Counts())
			}
			if mustDigest(t, db, 250) != source.model.digest(250) {
				t.Fatal("the state is another one")
			}
			// The view that was open reads on; then its files go.
			if v, found, err := old.Get([]byte("kv:k1")); string(v) != "41" || !found || err != nil {
				t.Fatal(string(v), found, err)
			}
			old.Close()
			if !memory {
				if got := fmt.Sprint(engineFiles(t, dir)); got != "[2 CURRENT LOCK]" {
					t.Fatal(got)
				}
			}
			// The log goes on from the snapshot.
			target := &machine{t: t, r: source.r, o: o, db: db, model: source.model, log: source.log, applied: 250}
			target.applyTo(300)
			target.check(300)
			target.check(250)
			target.check(277)
			if _, err := db.ViewAt(249); !errors.Is(err, ErrCompacted) {
				t.Fatal(err)
			}
			if !memory {
				target.reopen()
				target.check(300)
				target.close()
			}
			source.close()
		})
	}
}

// TestReplaceWithNothing: a snapshot at index 0, as an empty cluster makes.
func TestReplaceWithNothing(t *testing.T) {
	empty := openTest(t, Options{InMemory: true, Badger: small})
	file := takeSnapshot(t, empty, 0, snapshot.Header{})
	db := filled(t, Options{Dir: t.TempDir(), Badger: small}, 20)
	if _, err := db.Replace(context.Background(), bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	if _, n, err := db.Digest(context.Background(), 0); n != 0 || err != nil || db.Published() != 0 {
		t.Fatal(n, err, db.Published())
	}
	put(t, db, 1, "kv:a", "1")
}

// TestReplaceRefusesDamage: the old engine stays, and nothing of the new is left.
func TestReplaceRefusesDamage(t *testing.T) {
	source := filled(t, Options{InMemory: true, Badger: small}, 30)
	file := takeSnapshot(t, source, 30, snapshot.Header{})
	increment := takeSnapshot(t, source, 30, snapshot.Header{Since: 10})
	flipped := bytes.Clone(file)
	flipped[len(file)/2] ^= 1
	broken := errors.New("connection reset")
	dir := t.TempDir()
	db := filled(t, Options{Dir: dir, Badger: small}, 20)
	before := mustDigest(t, db, 20)
	for name, c := range map[string]struct {
		file []byte
		tail error
		want error
	}{
		"cut off":             {file[:len(file)-5], nil, snapshot.ErrCorrupt},
		"flipped":             {flipped, nil, snapshot.ErrCorrupt},
		"not one":             {[]byte("hello, this is something else"), nil, snapshot.ErrNotSnapshot},
		"an increment":        {increment, nil, nil},
		"a broken connection": {file[:len(file)-5], broken, broken},
	} {
		r := iotest.OneByteReader(bytes.NewReader(c.file))
		if c.tail != nil {
			r = &failingReader{r, c.tail}
		}
		if _, err := db.Replace(context.Background(), r); err == nil || (c.want != nil && !errors.Is(err, c.want)) {
			t.Errorf("%s: %v", name, err)
		}
		if mustDigest(t, db, 20) != before || db.Published() != 20 {
			t.Fatalf("%s: the old state is gone", name)
		}
		if got := fmt.Sprint(engineFiles(t, dir)); got != "[1 CURRENT LOCK]" {
			t.Fatalf("%s: left behind: %s", name, got)
		}
	}
	put(t, db, 21, "kv:a", "goes on")
}

type failingReader struct {
	r   interface{ Read([]byte) (int, error) }
	err error
}

func (f *failingReader) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err != nil {
		err = f.err
	}
	return n, err
}

// TestIncrements: a full snapshot and what changed since make the later state.
func TestIncrements(t *testing.T) {
	m := newMachine(t, 33, Options{InMemory: true, Badger: small})
	defer m.close()
	m.grow(300, 300)
	state := map[string]snapshot.Record{}
	for _, h := range []snapshot.Header{{Index: 100}, {Index: 200, Since: 100}, {Index: 300, Since: 200}} {
		r, err := snapshot.NewReader(bytes.NewReader(takeSnapshot(t, m.db, h.Index, h)))
		if err != nil {
			t.Fatal(err)
		}
		for {
			rec, err := r.Next()
			if err != nil {
				break
			}
			if rec.Deleted {
				delete(state, string(rec.Key))
				continue
			}
			rec.Value = bytes.Clone(rec.Value)
			state[string(rec.Key)] = rec
		}
		want := m.model.at(h.Index)
		for key, v := range want {
			if got, ok := state[key]; !ok || !bytes.Equal(got.Value, v.Value) || got.Version != v.Index {
				t.Fatalf("at %d: %q is %+v", h.Index, key, got)
			}
		}
		if len(state) != len(want) {
			t.Fatalf("at %d: %d records, want %d", h.Index, len(state), len(want))
		}
	}
}

func TestSnapshotWhileWriting(t *testing.T) {
	m := newMachine(t, 34, Options{Dir: t.TempDir(), Badger: small})
	defer m.close()
	m.grow(200, 20000)
	s, err := m.db.Snapshot(200)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	var buf bytes.Buffer
	go func() {
		_, err := s.WriteTo(context.Background(), &buf, snapshot.Header{})
		done <- err
	}()
	m.grow(300, 20000)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := s.WriteTo(context.Background(), &buf, snapshot.Header{}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	copied := openTest(t, Options{InMemory: true, Badger: small})
	if _, err := copied.Replace(context.Background(), &buf); err != nil {
		t.Fatal(err)
	}
	if mustDigest(t, copied, 200) != m.model.digest(200) {
		t.Fatal("the snapshot is of another state")
	}
}

// What waits for disk space lets go of an engine that was replaced: its files may be what takes it.
func TestWaitingForSpaceEndsWithTheEngine(t *testing.T) {
	db := filled(t, Options{Dir: t.TempDir(), Badger: small}, 50)
	file := takeSnapshot(t, db, 50, testSnapshotHeader)
	g, err := db.acquire()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		defer g.release()
		done <- db.space.wait(db, g, 1<<60)
	}()
	eventually(t, "it waits for space", func() bool {
		db.space.mu.Lock()
		defer db.space.mu.Unlock()
		return db.space.warned
	})
	if _, err := db.Replace(t.Context(), bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it ends", func() bool { return len(done) > 0 })
	if err := <-done; !errors.Is(err, errSuperseded) {
		t.Fatal(err)
	}
	if db.ShortOfSpace() {
		t.Error("the disk counts as full for ever")
	}
	eventually(t, "the old engine is gone", func() bool { _, err := os.Stat(g.dir); return errors.Is(err, os.ErrNotExist) })
}
