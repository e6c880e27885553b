package persistence

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"
)

// A table that a compaction cannot make is left out by Badger without a word, and those
// that it was made of are removed. The engine is condemned then, at once and for later.
func TestALostTableIsNoticed(t *testing.T) {
	told := make(damageLog, 1)
	dir := t.TempDir()
	db, index := overwrittenDB(t, Options{Dir: dir, History: noHistoryAtAll, Damaged: told.note}, 10000, 2, 1000)
	g := db.gen.Load()
	var newest uint64
	for _, tab := range g.bdb.Tables() {
		newest = max(newest, tab.ID)
	}
	for id := newest + 2; id < newest+60; id += 2 { // a name that is taken stands for a file that cannot be made
		if err := os.WriteFile(table.NewFilename(id, g.dir), []byte("in the way"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := db.Compact(t.Context()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("compacted, from %+v to %+v: %v", m.Before, m.After, err)
	}
	if _, n, err := db.Digest(t.Context(), index); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%d of 10000 records are shown: %v", n, err)
	}
	told.wait(t)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir, Badger: small}, hclog.NewNullLogger()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("opened again: %v", err)
	}
}

// What compactions that go on at the same time are found to have made, also when the MANIFEST
// was made anew meanwhile.
func TestCompactionsAreSeen(t *testing.T) {
	const lost = "the last one lost a table"
	for name, c := range map[string]struct {
		// events: "b1" a table begun by compactor 1, "d1" its end, "f1" its failure, "m32" a
		// compaction in the MANIFEST that made 3 tables of 2, "m10" a memtable's, "n" a new MANIFEST.
		events string
		want   bool
	}{
		"one":                      {"b1 b1 m10 m23 d1", false},
		"one, " + lost:             {"b1 b1 m13 d1", true},
		"all tables lost":          {"b1 m02 d1", true},
		"nothing was left":         {"m02 d1", false},
		"two at a time":            {"b1 b2 b1 m12 m23 d1 d2", false},
		"two at a time, " + lost:   {"b1 b2 b1 m12 m13 d2 d1", true},
		"hidden by another":        {"b1 b1 b2 b2 m13 m23 d1 d2", true},
		"one failed":               {"b1 b1 f1 b1 m12 d1", false},
		"a new MANIFEST":           {"b1 b2 m12 n d1 m12 d2", false},
		"behind a new one":         {"b1 n d1 b1 b1 m23 d1", false},
		"behind it, " + lost:       {"b1 n d1 b1 b1 m13 d1", true},
		"two behind it, " + lost:   {"b1 b2 n d2 m12 d1 b1 b1 m13 d1", true},
		"many":                     {strings.Repeat("b0 b1 m12 b1 m22 d1 d0 ", 20), false},
		"many, and " + lost:        {strings.Repeat("b0 b1 m12 b1 m22 d1 d0 ", 20) + "b0 m01 d0", true},
		"an unfinished last entry": {"b1 m12 p d1", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, badger.ManifestFilename)
			write := func(path string, b []byte) {
				t.Helper()
				f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if _, err := f.Write(b); err != nil {
					t.Fatal(err)
				}
			}
			write(path, []byte(manifestStart))
			found := false
			seen := newCompactions(dir, func(error) { found = true })
			defer seen.close()
			if err := seen.open(); err != nil {
				t.Fatal(err)
			}
			for event := range strings.FieldsSeq(c.events) {
				id := 0
				if len(event) > 1 {
					id = int(event[1] - '0')
				}
				switch event[0] {
				case 'b':
					seen.debug("[%d] LOG Compact. Added %d keys. Skipped %d keys. Iteration took: %v", []any{id, uint64(7), uint64(0), time.Second})
					seen.debug("[%d] LOG Compact. Added %d keys. Skipped %d keys. Iteration took: %v", []any{id, uint64(0), uint64(9), time.Second})
				case 'd':
					seen.debug(compactionDone, []any{id, 5})
				case 'f':
					seen.warning("[Compactor: %d] LOG Compact FAILED with error: %+v: %+v", []any{id, errors.ErrUnsupported, nil})
				case 'm':
					write(path, changes(t, id, int(event[2]-'0')))
				case 'n':
					write(path+".new", append([]byte(manifestStart), changes(t, 5, 0)...))
					if err := os.Rename(path+".new", path); err != nil {
						t.Fatal(err)
					}
				case 'p':
					b := changes(t, 1, 1)
					write(path, b[:len(b)-1])
				}
			}
			if found != c.want {
				t.Errorf("a lost table was found: %v", found)
			}
		})
	}
}

// manifestStart is what a MANIFEST begins with.
const manifestStart = "Bdgr\x00\x00\x00\x08"

// changes is an entry of a MANIFEST.
func changes(t *testing.T, created, deleted int) []byte {
	t.Helper()
	var set []*pb.ManifestChange
	for i := range created {
		set = append(set, put6(uint64(100+i)))
	}
	for i := range deleted {
		set = append(set, drop(uint64(1+i)))
	}
	return changeSet(t, set...)
}

// What was in the wrong order is so wherever it is on level zero, whatever it was merged with.
func TestTablesInTheWrongOrderAreFollowed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, badger.ManifestFilename)
	if err := os.WriteFile(path, manifest(t, put0(5), put0(6), put0(7)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCompactions(dir, func(err error) { t.Error(err) })
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	defer c.close()
	expect := func(when string, want bool) {
		t.Helper()
		if got := c.mistrusted(); got != want {
			t.Errorf("%s: mistrusted: %v, want %v", when, got, want)
		}
	}
	expect("by themselves", false)
	c.mistrust()
	expect("at the start", true)
	change := func(changes ...*pb.ManifestChange) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.Write(changeSet(t, changes...))
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	change(drop(5), put6(9))
	change(put0(10))
	expect("one has gone down, and a memtable has become a table", true)
	change(drop(7), drop(10), put0(11))
	change(drop(6), put6(12))
	expect("one was merged with it, and the others have gone down", true)
	change(drop(11), put6(13))
	change(put0(14))
	expect("all have gone down", false)

	c.mistrust()
	again := path + ".new"
	if err := os.WriteFile(again, manifest(t, put6(9), put0(15), put0(16)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(again, path); err != nil {
		t.Fatal(err)
	}
	expect("the MANIFEST was made anew: of what these were made is not known", true)
	change(drop(15), put6(17))
	expect("one is left", true)
	change(drop(16), put6(18))
	expect("all have gone down again", false)
}

func put0(id uint64) *pb.ManifestChange {
	return &pb.ManifestChange{Id: id, Op: pb.ManifestChange_CREATE}
}
func put6(id uint64) *pb.ManifestChange {
	return &pb.ManifestChange{Id: id, Op: pb.ManifestChange_CREATE, Level: 6}
}
func drop(id uint64) *pb.ManifestChange {
	return &pb.ManifestChange{Id: id, Op: pb.ManifestChange_DELETE}
}

// manifest is a MANIFEST of one set of changes.
func manifest(t *testing.T, changes ...*pb.ManifestChange) []byte {
	t.Helper()
	return append([]byte(manifestStart), changeSet(t, changes...)...)
}

func changeSet(t *testing.T, changes ...*pb.ManifestChange) []byte {
	t.Helper()
	body, err := proto.Marshal(&pb.ManifestChangeSet{Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	return append(binary.BigEndian.AppendUint32(head, crc32.Checksum(body, y.CastagnoliCrcTable)), body...)
}
