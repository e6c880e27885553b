package persistence

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
)

// machine is an engine and the model it must agree with, and the log of entries.
type machine struct {
	t       *testing.T
	r       *rand.Rand
	o       Options
	db      *DB
	model   *model
	log     []entry // entry i has index i+1
	applied uint64  // by the engine, in this life of it
	counted bool    // Counts are exact: they were set since the engine was opened
}

func newMachine(t *testing.T, seed uint64, o Options) *machine {
	t.Helper()
	m := &machine{t: t, r: rand.New(rand.NewPCG(seed, 1)), o: o, model: newModel(), counted: true}
	m.open()
	return m
}

func (m *machine) open() {
	m.t.Helper()
	db, err := Open(m.o, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.db = db
}

func (m *machine) close() {
	m.t.Helper()
	if err := m.db.Close(); err != nil {
		m.t.Fatal(err)
	}
}

// grow makes n more log entries and applies them.
func (m *machine) grow(n int, maxValue int) {
	m.t.Helper()
	for range n {
		e := randomEntry(m.r, maxValue)
		m.log = append(m.log, e)
		m.model.apply(uint64(len(m.log)), e)
	}
	m.applyTo(uint64(len(m.log)))
}

// applyTo applies the log up to index, in batches of any size, and checks what
// Commit says it changed.
func (m *machine) applyTo(index uint64) {
	m.t.Helper()
	for m.applied < index {
		first := m.applied + 1
		last := min(index, m.applied+1+m.r.Uint64N(40))
		u := m.db.NewUpdate(first)
		for i := first; i <= last; i++ {
			m.log[i-1].run(u.At(i))
		}
		changes, err := u.Commit(last)
		if err != nil {
			m.t.Fatal(err)
		}
		want := m.model.between("", first-1, last)
		checkChanges(m.t, "Commit", changes, want)
		m.applied = last
	}
	if m.counted && m.db.Counts() != m.model.counts(index) {
		m.t.Fatalf("counts at %d: %+v, want %+v", index, m.db.Counts(), m.model.counts(index))
	}
}

func checkChanges(t *testing.T, what string, got, want []Change) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d changes, want %d", what, len(got), len(want))
	}
	for i := range got {
		g, w := got[i], want[i]
		if g.Index != w.Index || string(g.Key) != string(w.Key) || string(g.Value) != string(w.Value) || g.Deleted != w.Deleted {
			t.Fatalf("%s: change %d is %d %q deleted=%v, want %d %q deleted=%v", what, i, g.Index, g.Key, g.Deleted, w.Index, w.Key, w.Deleted)
		}
	}
}

// replay applies the log again from an index that the history still holds, as a
// start does from its snapshot, onto an engine that is ahead.
func (m *machine) replay(from uint64) {
	m.t.Helper()
	end := m.applied
	m.applied = from
	m.db.SetCounts(m.model.counts(from))
	m.counted = true
	m.applyTo(end)
}

// reopen ends the engine's life and begins another at what is durable, with a
// replay of the rest; or of part of it, for the log may end anywhere.
func (m *machine) reopen() {
	m.t.Helper()
	end, durable := m.applied, m.db.DurableIndex()
	m.close()
	m.open()
	if got := m.db.DurableIndex(); got != durable {
		m.t.Fatalf("durable index is %d after reopening, was %d", got, durable)
	}
	if got := m.db.Published(); got != max(durable, m.db.Floor()) {
		m.t.Fatalf("published is %d after reopening, durable %d", got, durable)
	}
	if durable > 0 {
		m.check(durable)
	}
	m.applied = end
	m.replay(durable)
}

func (m *machine) flatten() {
	m.t.Helper()
	if err := m.db.gen.Load().bdb.Flatten(1); err != nil {
		m.t.Fatal(err)
	}
}

// snapshot is what a Raft snapshot does: durable, then history may go.
func (m *machine) snapshot() {
	m.t.Helper()
	if err := m.db.MakeDurable(context.Background(), m.applied); err != nil {
		m.t.Fatal(err)
	}
	m.db.AdvanceFloor(m.applied)
}

// check compares the engine at index with the model, record by record.
func (m *machine) check(index uint64) {
	m.t.Helper()
	sum, n, err := m.db.Digest(context.Background(), index)
	if err != nil {
		m.t.Fatal(err)
	}
	if int(n) != len(m.model.at(index)) || sum != m.model.digest(index) {
		m.diff(index)
	}
}

func (m *machine) diff(index uint64) {
	m.t.Helper()
	v, err := m.db.ViewAt(index)
	if err != nil {
		m.t.Fatal(err)
	}
	defer v.Close()
	want := m.model.at(index)
	_ = v.Scan(nil, nil, func(key, value []byte) error {
		if w, ok := want[string(key)]; !ok || string(w.Value) != string(value) {
			m.t.Errorf("at %d: %q has %d bytes; in the model: %v, %d bytes", index, key, len(value), ok, len(w.Value))
		}
		delete(want, string(key))
		return nil
	})
	for key := range want {
		m.t.Errorf("at %d: %q is missing", index, key)
	}
	m.t.Fatalf("the engine differs from the model at %d (applied %d, floor %d)", index, m.applied, m.db.Floor())
}

// checkPast compares a few indexes of the history, and the changes after them.
func (m *machine) checkPast() {
	m.t.Helper()
	floor := m.db.Floor()
	for range 4 {
		index := floor + m.r.Uint64N(m.applied-floor+1)
		m.check(index)
		m.checkPages(index)
		m.checkChangedSince(index)
	}
	if floor > 0 {
		var compacted *CompactedError
		if _, err := m.db.ViewAt(floor - 1); !errors.As(err, &compacted) || compacted.Oldest != floor {
			m.t.Fatalf("a view below the floor %d: %v", floor, err)
		}
		if _, _, err := changesPage(context.Background(), m.db, nil, floor-1, m.applied, 10); !errors.Is(err, ErrCompacted) {
			m.t.Fatalf("changes below the floor %d: %v", floor, err)
		}
	}
	if _, err := m.db.ViewAt(m.applied + 1); !errors.Is(err, ErrFutureIndex) {
		m.t.Fatalf("a view of the future: %v", err)
	}
}

var modelPrefixes = []string{"", "kv:", "kv:a/", "kv:a/1", "svc:", "nobody"}

// checkPages reads the changes after index page by page.
func (m *machine) checkPages(index uint64) {
	m.t.Helper()
	prefix := modelPrefixes[m.r.IntN(len(modelPrefixes))]
	limit := 1 + m.r.IntN(30)
	b := m.db.Backlog([]byte(prefix))
	b.ahead = 1 + m.r.IntN(60)
	var got []Change
	for after := index; after < m.applied; {
		upTo := m.applied
		if m.r.IntN(3) == 0 {
			upTo -= m.r.Uint64N(upTo - after)
		}
		page, complete, err := b.Next(context.Background(), after, upTo, limit)
		if err != nil {
			m.t.Fatal(err)
		}
		if complete <= after || complete > upTo || len(page) > 0 && page[len(page)-1].Index > complete {
			m.t.Fatalf("%d changes after %d, complete up to %d of %d", len(page), after, complete, upTo)
		}
		if len(page) > limit && page[0].Index != page[len(page)-1].Index {
			m.t.Fatalf("%d changes of several indexes, limit %d", len(page), limit)
		}
		got, after = append(got, page...), complete
		if m.r.IntN(10) == 0 && after > index { // a reader that does not go on where it was
			b.after = 0
		}
	}
	checkChanges(m.t, "Changes", got, m.model.between(prefix, index, m.applied))
}

func (m *machine) checkChangedSince(index uint64) {
	m.t.Helper()
	for _, prefix := range modelPrefixes {
		got, err := m.db.ChangedSince(context.Background(), []byte(prefix), false, index)
		if want := len(m.model.between(prefix, index, m.applied)) > 0; err != nil || got != want {
			m.t.Fatalf("ChangedSince(%q, %d) = %v, %v, want %v", prefix, index, got, err, want)
		}
	}
	for key, versions := range m.model.versions {
		got, err := m.db.ChangedSince(context.Background(), []byte(key), true, index)
		if want := versions[len(versions)-1].Index > index; err != nil || got != want {
			m.t.Fatalf("ChangedSince(%q exactly, %d) = %v, %v, want %v", key, index, got, err, want)
		}
	}
}

// TestEngineBehavesLikeAMap runs random lives of an engine: growing, replaying the
// same entries onto an engine that is ahead, reopening, losing the end of the log's
// effects, compacting and trimming history, and compares it with the model at
// random indexes.
func TestEngineBehavesLikeAMap(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, 4} {
		for _, memory := range []bool{false, true} {
			if memory && seed > 2 {
				continue
			}
			o := Options{Badger: small, History: History{MinAge: 1, MinIndexes: 150, MaxIndexes: 400}, InMemory: memory}
			if !memory {
				o.Dir = t.TempDir()
			}
			m := newMachine(t, seed, o)
			for range 60 {
				m.turn()
			}
			m.checkPast()
			m.close()
		}
	}
}

func (m *machine) turn() {
	m.t.Helper()
	switch n := m.r.IntN(10); {
	case n < 4:
		m.grow(1+m.r.IntN(60), []int{20, 300, 30000}[m.r.IntN(3)])
	case n < 6 && m.applied > 0:
		from := m.db.Floor()
		m.replay(from + m.r.Uint64N(m.applied-from+1))
	case n == 6 && !m.o.InMemory:
		m.reopen()
	case n == 7:
		m.snapshot()
	case n == 8:
		m.flatten()
	default:
		m.checkPast()
	}
}

// TestReplayOntoAnEngineThatIsAhead is the rule that everything stands on, alone:
// the second half applied twice, with flushes between, changes nothing.
func TestReplayOntoAnEngineThatIsAhead(t *testing.T) {
	m := newMachine(t, 7, Options{Dir: t.TempDir(), Badger: small})
	m.grow(400, 30000)
	before := map[uint64][32]byte{}
	for i := uint64(0); i <= 400; i += 25 {
		before[i] = mustDigest(t, m.db, i)
	}
	for range 2 {
		m.replay(200)
		m.flatten()
		m.close()
		m.open()
		m.applied, m.counted = 400, false
		m.db.Publish(400)
		m.replay(200)
	}
	after := map[uint64][32]byte{}
	for i := range before {
		after[i] = mustDigest(t, m.db, i)
	}
	if !reflect.DeepEqual(before, after) {
		t.Fatal("a replay changed the past")
	}
	m.check(400)
	m.close()
}

// TestDeletedKeysStayDeleted compacts deletions away and looks for ghosts: Badger
// before 4.9.4 let old values resurface.
func TestDeletedKeysStayDeleted(t *testing.T) {
	m := newMachine(t, 9, Options{Dir: t.TempDir(), Badger: small, History: History{MinAge: 1, MinIndexes: 1, MaxIndexes: 1}})
	for range 6 {
		m.grow(150, 60000)
		e := entry{{kind: "delete prefix", key: "kv:"}}
		m.log = append(m.log, e)
		m.model.apply(uint64(len(m.log)), e)
		m.applyTo(uint64(len(m.log)))
		m.snapshot()
		m.flatten()
		m.check(m.applied)
		m.reopen()
		m.flatten()
		m.check(m.applied)
		if c := m.db.Counts(); c.Keys != 0 {
			t.Fatalf("%d keys after all were deleted", c.Keys)
		}
	}
	m.close()
}
