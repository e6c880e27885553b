package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/internal/peer"
	"github.com/neogan74/konsul/internal/persistence"
)

func logs(from, to uint64, size int) []*raft.Log {
	var out []*raft.Log
	for i := from; i <= to; i++ {
		out = append(out, &raft.Log{Index: i, Term: i, Data: make([]byte, size)})
	}
	return out
}

func held(c *logCache) string {
	var low, high uint64
	for i := uint64(1); i < 40_000; i++ {
		var l raft.Log
		if !c.get(i, &l) {
			continue
		}
		if l.Index != i {
			return fmt.Sprintf("index %d gives %d", i, l.Index)
		}
		if low == 0 {
			low = i
		}
		high = i
	}
	return fmt.Sprintf("%d-%d", low, high)
}

func TestLogCache(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(c *logCache)
		want string
	}{
		{"empty", func(*logCache) {}, "0-0"},
		{"some", func(c *logCache) { c.add(logs(5, 9, 1)) }, "5-9"},
		{"in two steps", func(c *logCache) { c.add(logs(5, 9, 1)); c.add(logs(10, 12, 1)) }, "5-12"},
		{"after a gap", func(c *logCache) { c.add(logs(5, 9, 1)); c.add(logs(20, 21, 1)) }, "20-21"},
		{"a suffix is cut off and replaced", func(c *logCache) {
			c.add(logs(5, 9, 1))
			c.truncate(8, 9)
			c.add(logs(8, 8, 1))
		}, "5-8"},
		{"a prefix goes", func(c *logCache) { c.add(logs(5, 9, 1)); c.truncate(1, 7) }, "8-9"},
		{"all goes", func(c *logCache) { c.add(logs(5, 9, 1)); c.truncate(1, 100) }, "0-0"},
		{"all goes and it goes on", func(c *logCache) {
			c.add(logs(5, 9, 1))
			c.truncate(5, 9)
			c.add(logs(10, 10, 1))
		}, "10-10"},
		{"more than it holds", func(c *logCache) { c.add(logs(1, cacheEntries+10, 1)) }, fmt.Sprintf("11-%d", cacheEntries+10)},
		{"more bytes than it may", func(c *logCache) { c.add(logs(1, 100, 1<<20)) }, "70-100"},
	} {
		c := newLogCache()
		test.do(c)
		if got := held(c); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		c.truncate(0, 1<<60)
		if c.bytes != 0 {
			t.Errorf("%s: %d bytes left in the books", test.name, c.bytes)
		}
	}
}

func TestVoteIsOneRecord(t *testing.T) {
	inner := raft.NewInmemStore()
	open := func() *stableStore {
		s, err := newStableStore(func() raft.StableStore { return inner })
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	vote := func(s *stableStore) string {
		term, err := s.GetUint64(keyLastVoteTerm)
		must(err)
		cand, err := s.Get(keyLastVoteCand)
		must(err)
		return fmt.Sprintf("%d %s", term, cand)
	}
	s := open()
	if got := vote(s); got != "0 " {
		t.Errorf("a new store: %q", got)
	}
	must(s.SetUint64(keyLastVoteTerm, 3))
	must(s.Set(keyLastVoteCand, []byte("a")))
	must(s.SetUint64(keyLastVoteTerm, 4))
	s = open() // it crashed before the candidate came
	if got := vote(s); got != "3 a" {
		t.Errorf("after half a vote: %q", got)
	}
	must(s.SetUint64(keyLastVoteTerm, 4))
	must(s.Set(keyLastVoteCand, []byte("b")))
	if got := vote(open()); got != "4 b" {
		t.Errorf("after a vote: %q", got)
	}
	if err := open().Set(keyLastVoteCand, []byte("c")); err == nil {
		t.Error("a candidate without a term was taken")
	}
}

func TestTermNeverGoesBack(t *testing.T) {
	s, err := newStableStore(func() raft.StableStore { return raft.NewInmemStore() })
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		term uint64
		ok   bool
	}{{1, true}, {5, true}, {5, true}, {4, false}, {6, true}} {
		if err := s.SetUint64(keyCurrentTerm, step.term); (err == nil) != step.ok {
			t.Errorf("term %d: %v", step.term, err)
		}
	}
}

func TestAcks(t *testing.T) {
	a := newAcks()
	voters := []raft.ServerID{"me", "b", "c"}
	confirmed := func(term, seq uint64) bool {
		ok, _ := a.confirmed("me", voters, term, seq)
		return ok
	}
	before := a.sending()
	seq := a.begin()
	a.received("b", 7, before)
	if confirmed(7, seq) {
		t.Error("an acknowledgement of a message sent before the round confirmed it")
	}
	a.received("b", 6, a.sending())
	if confirmed(7, seq) || confirmed(6, seq) {
		t.Error("an acknowledgement of an old term counted")
	}
	_, next := a.confirmed("me", voters, 7, seq)
	a.received("c", 7, a.sending())
	if !confirmed(7, seq) {
		t.Error("a majority did not confirm")
	}
	select {
	case <-next:
	default:
		t.Error("who waited was not told")
	}
	a.received("c", 7, before) // a late answer takes nothing back
	if !confirmed(7, seq) {
		t.Error("a late answer undid a confirmation")
	}
	if confirmed(8, seq) {
		t.Error("an acknowledgement counted for a later term")
	}
	if ok, _ := a.confirmed("me", []raft.ServerID{"me"}, 9, a.begin()); !ok {
		t.Error("the only voter needs nobody")
	}
	if ok, _ := a.confirmed("me", []raft.ServerID{"b"}, 9, 1); ok {
		t.Error("a node without a vote confirmed itself")
	}
}

func TestOutcomes(t *testing.T) {
	for _, test := range []struct {
		raft error
		want error
	}{
		{raft.ErrNotLeader, ErrNotLeader},
		{raft.ErrLeadershipTransferInProgress, ErrNotLeader},
		{raft.ErrEnqueueTimeout, ErrOverloaded},
		{raft.ErrAbortedByRestore, ErrOverloaded},
		{ErrDiskFull, ErrDiskFull},
		{raft.ErrLeadershipLost, ErrOutcomeUnknown},
		{raft.ErrRaftShutdown, ErrOutcomeUnknown},
		{errors.New("EIO"), ErrOutcomeUnknown},
	} {
		got := outcome(test.raft)
		if !errors.Is(got, test.want) {
			t.Errorf("%v became %v", test.raft, got)
		}
		if NotApplied(got) == errors.Is(got, ErrOutcomeUnknown) {
			t.Errorf("%v: applied or not?", got)
		}
		var wire *peer.Error
		if !errors.As(EncodeError(got), &wire) || !errors.Is(DecodeError(wire), test.want) {
			t.Errorf("%v lost its meaning on the wire", got)
		}
	}
}

func TestKth(t *testing.T) {
	ages := []time.Duration{5, 1, 4, 2}
	for k, want := range map[int]time.Duration{1: 1, 2: 2, 4: 5} {
		if got := kth(append([]time.Duration(nil), ages...), k); got != want {
			t.Errorf("kth %d = %d", k, got)
		}
	}
}

// newLog is an empty log on disk.
func newLog(t *testing.T, fatal func(error)) *logStore {
	t.Helper()
	s, err := openLog(Config{DataDir: t.TempDir(), SyncWrites: true, Fatal: fatal}.withDefaults(), nil, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// nineEntries is a log on disk with entries 1 to 9.
func nineEntries(t *testing.T, fatal func(error)) *logStore {
	t.Helper()
	s := newLog(t, fatal)
	if err := s.StoreLogs(logs(1, 9, 1)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAppliedEntriesAreNeverCutOff(t *testing.T) {
	var ended error
	s := nineEntries(t, func(err error) { ended = err })
	s.applied = func() uint64 { return 7 }
	if err := s.DeleteRange(8, 9); err != nil || ended != nil {
		t.Fatalf("cutting off what was not applied: %v, %v", err, ended)
	}
	if err := s.DeleteRange(7, 7); !errors.Is(err, ErrDamaged) || ended == nil {
		t.Fatalf("cutting off what was applied: %v, %v", err, ended)
	}
	if s.termOf(7) != 7 || s.termOf(8) != 0 {
		t.Fatalf("the log has terms %d and %d at 7 and 8", s.termOf(7), s.termOf(8))
	}
	if err := s.DeleteRange(1, 3); err != nil {
		t.Fatalf("cutting off what a snapshot covers: %v", err)
	}
	// The entry at the snapshot's own index stays, or no start could go on from a checkpoint.
	for range 2 {
		if first, err := s.FirstIndex(); err != nil || first != 3 {
			t.Fatalf("the log begins at %d (%v), the snapshot ends at 3", first, err)
		}
		if err := s.DeleteRange(3, 3); err != nil {
			t.Fatal(err)
		}
	}
}

// Raft goes on with what it knew of the log when it could not be cut; on the disk it is.
func TestALogThatCouldNotBeCutEndsTheNode(t *testing.T) {
	var ended error
	s := nineEntries(t, func(err error) { ended = err })
	next := filepath.Join(s.dir, fmt.Sprintf("%020d-%016x.wal", 8, 1)) // where raft-wal goes on
	if err := os.Mkdir(next, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(8, 9); err == nil {
		t.Fatal("there was a directory in the way")
	}
	if ended == nil {
		t.Fatal("the node goes on")
	}
}

// A log that ends too early is removed only if a snapshot has all of it and what is missing.
func TestALogWithAGapIsKept(t *testing.T) {
	var ended error
	s := nineEntries(t, func(err error) { ended = err })
	s.covered = func() uint64 { return 11 }
	if err := s.StoreLogs(logs(13, 13, 1)); !errors.Is(err, ErrDamaged) || ended == nil {
		t.Fatalf("entry 12 is nowhere: %v, %v", err, ended)
	}
	if first, err := s.FirstIndex(); first != 1 || err != nil {
		t.Fatalf("the log begins at %d, %v", first, err)
	}
	ended = nil
	if err := s.StoreLogs(logs(12, 12, 1)); err != nil || ended != nil {
		t.Fatalf("a snapshot has all before it: %v, %v", err, ended)
	}
	if first, err := s.FirstIndex(); first != 12 || err != nil {
		t.Fatalf("the log begins at %d, %v", first, err)
	}
}

// An engine that waits for space makes the disk full, whatever the floor says.
func TestDiskIsFullWhenTheEngineWaits(t *testing.T) {
	d := newDiskWatch(t.TempDir(), 1, hclog.NewNullLogger())
	waits, calls := true, 0
	d.starved, d.onFull = func() bool { return waits }, func() { calls++ }
	d.check()
	d.check()
	if !d.full() || calls != 1 {
		t.Errorf("full %v, told %d times", d.full(), calls)
	}
	waits = false
	d.check()
	if d.full() {
		t.Error("still full")
	}
}

// A batch that begins where one was left to be synced, and was cut off, is another.
func TestAppendingEndsWithEachBatch(t *testing.T) {
	s := newLog(t, nil)
	leads := true
	s.setMay(func([]*raft.Log) bool { return leads })
	store := func(from, to uint64) {
		t.Helper()
		if err := s.StoreLogs(logs(from, to, 1)); err != nil {
			t.Fatal(err)
		}
		if err := s.flush.all(); err != nil {
			t.Fatal(err)
		}
		if since := s.appending.Load(); since != 0 {
			t.Errorf("after entries %d to %d it is still appending", from, to)
		}
	}
	store(1, 3) // a new segment is synced at once
	store(4, 6)
	if !s.flush.left {
		t.Error("the sync was not left to go on")
	}
	if err := s.DeleteRange(4, 6); err != nil {
		t.Fatal(err)
	}
	leads = false
	store(4, 5)
}

// Damage in the engine that is found while an entry is applied ends the node with the
// same words as damage that is found elsewhere.
func TestCannotApplyForDamage(t *testing.T) {
	var got error
	s := &Store{cfg: Config{Fatal: func(err error) { got = err }}}
	s.cannotApply(fmt.Errorf("entry 7: %w", persistence.ErrCorrupt))
	if !errors.Is(got, ErrDamaged) || !errors.Is(got, persistence.ErrCorrupt) || !strings.Contains(got.Error(), "start the node again") {
		t.Errorf("got %v", got)
	}
	other := errors.New("entry 7 is unknown")
	if s.cannotApply(other); !errors.Is(got, other) || errors.Is(got, ErrDamaged) {
		t.Errorf("got %v", got)
	}
}

// A log that begins behind a snapshot (as after one was installed) and conflicts with the
// leader's from its first entry on.
func TestAppliedEntriesAreNeverCutOffFromTheFirst(t *testing.T) {
	var ended error
	s := newLog(t, func(err error) { ended = err })
	if err := s.StoreLogs(logs(11, 19, 1)); err != nil {
		t.Fatal(err)
	}
	s.covered = func() uint64 { return 10 }
	s.applied = func() uint64 { return 15 }
	if err := s.DeleteRange(11, 19); !errors.Is(err, ErrDamaged) || ended == nil {
		t.Errorf("cutting off what was applied: %v, %v", err, ended)
	}
}

// On a full disk nothing is cut off that raft, which believes in it, could not replace.
func TestAFullDiskCutsNothingOff(t *testing.T) {
	s := newLog(t, nil)
	if err := s.StoreLogs(logs(11, 19, 1)); err != nil {
		t.Fatal(err)
	}
	s.covered = func() uint64 { return 10 }
	s.applied = func() uint64 { return 10 }
	s.full = func() bool { return true }
	if err := s.DeleteRange(11, 19); !errors.Is(err, ErrDiskFull) {
		t.Errorf("cutting a whole log off: %v", err)
	}
	if last, err := s.LastIndex(); err != nil || last != 19 {
		t.Errorf("the last entry is %d, %v", last, err)
	}
}

// A backup leaves a quarter more than the floor, on the file system that it is written to.
func TestBackupRoom(t *testing.T) {
	dir := t.TempDir()
	_, free, _, err := persistence.DiskSpace(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		floor int64
		dir   string
		want  error
	}{
		"plenty":                      {free / 4, dir, nil},
		"above the floor, not enough": {free * 9 / 10, dir, ErrDiskFull},
		"below the floor":             {2 * free, dir, ErrDiskFull},
		"no floor":                    {0, dir, nil},
		"nobody knows":                {2 * free, dir + "/none", nil},
		"another file system":         {2 * free, "/proc", nil},
	} {
		if err := BackupRoom(dir, c.floor)(c.dir); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// The state that is put beside for a jump is not written to a disk that is full.
func TestNoJumpOnAFullDisk(t *testing.T) {
	s, err := Open(Config{NodeID: "n", InMemory: true, BindAddr: "127.0.0.1:0", Logger: hclog.NewNullLogger(), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown(t.Context())
	s.disk.low.Store(true)
	if err := s.jump(); !errors.Is(err, ErrDiskFull) {
		t.Errorf("jumped: %v", err)
	}
}
