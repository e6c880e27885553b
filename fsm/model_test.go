package fsm_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/fsm/fsmtest"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/snapshot"
)

// history is a random log with what the model makes of it.
type history struct {
	logs  []*raft.Log
	want  []*command.Result // nil for a configuration
	model *fsmtest.Model
}

// newHistory makes n entries; now and then one is a configuration.
func newHistory(t *testing.T, seed uint64, n int) history {
	t.Helper()
	g := fsmtest.NewGenerator(seed, 24)
	h := history{model: fsmtest.NewModel()}
	for i := 1; i <= n; i++ {
		l := &raft.Log{Index: uint64(i), Term: 1}
		if g.Rand.IntN(30) == 0 {
			l.Type = raft.LogConfiguration
			h.model.Skip()
			h.want = append(h.want, nil)
		} else {
			c := g.Next(h.model)
			l.Data, l.Extensions = fsmtest.MustEncode(t, c), c.Extensions()
			h.want = append(h.want, h.model.Apply(c))
		}
		h.logs = append(h.logs, l)
	}
	return h
}

// sizes gives batch sizes from 1 to most.
func (h history) sizes(seed uint64, most int) func() int {
	g := fsmtest.NewGenerator(seed, 1)
	return func() int { return 1 + g.Rand.IntN(most) }
}

func (h history) checkResults(t *testing.T, from int, got []*command.Result) {
	t.Helper()
	for i, res := range got {
		want := h.want[from+i]
		if want == nil && res == nil {
			continue
		}
		if !proto.Equal(res, want) {
			t.Fatalf("entry %d answered\n%s\nwant\n%s", from+i+1, prototext.Format(res), prototext.Format(want))
		}
	}
}

// checkState compares the keys at an index with the model's.
func (h history) checkState(t *testing.T, m *fsmtest.Machine, index uint64) {
	t.Helper()
	view, err := m.DB.ViewAt(index)
	if err != nil {
		t.Fatalf("view at %d: %v", index, err)
	}
	defer view.Close()
	got := map[string]fsmtest.KV{}
	err = view.Scan([]byte(persistence.KVPrefix), nil, func(key, _ []byte) error {
		user, _ := persistence.UserKey(key)
		kv, err := view.KV(user)
		if err != nil {
			return err
		}
		got[string(user)] = fsmtest.KV{Value: string(kv.Value), Flags: kv.Flags, Create: kv.CreateIndex, Modify: kv.ModifyIndex,
			Lock: kv.LockIndex, Session: kv.Session, Deadline: kv.Deadline}
		return nil
	})
	if err != nil {
		t.Fatalf("scan at %d: %v", index, err)
	}
	want := h.model.States[index]
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("state at %d:\n%v\nwant\n%v", index, got, want)
	}
	if now, err := view.Time(); err != nil || now != h.model.Times[index] {
		t.Fatalf("time at %d: %d, %v, want %d", index, now, err, h.model.Times[index])
	}
	dump, known := h.model.Dumps[index]
	if index == h.model.Index {
		dump, known = h.model.Dump(), true
	}
	if known {
		checkDump(t, fsmtest.Dump(t, m.DB, index), dump, index)
	}
}

// checkDump says which lines of two dumps differ.
func checkDump(t *testing.T, got, want []string, index uint64) {
	t.Helper()
	for _, line := range got {
		if _, found := slices.BinarySearch(want, line); !found {
			t.Errorf("the registry at %d has %q", index, line)
		}
	}
	for _, line := range want {
		if _, found := slices.BinarySearch(got, line); !found {
			t.Errorf("the registry at %d has not %q", index, line)
		}
	}
	if len(got) != len(want) || t.Failed() {
		t.Fatalf("%d records in the registry at %d, want %d", len(got), index, len(want))
	}
}

// digests are taken every step entries, and at the end.
func digests(m *fsmtest.Machine, from, to, step uint64) map[uint64][32]byte {
	sums := map[uint64][32]byte{}
	for i := from; i < to; i += step {
		sums[i] = m.MustDigest(i)
	}
	sums[to] = m.MustDigest(to)
	return sums
}

func checkDigests(t *testing.T, m *fsmtest.Machine, want map[uint64][32]byte, from uint64) {
	t.Helper()
	for i, sum := range want {
		if i >= from && m.MustDigest(i) != sum {
			t.Fatalf("digest at %d differs", i)
		}
	}
}

func TestModel(t *testing.T) {
	const n = 1500
	met := map[command.Result_Code]int{}
	var ended uint64
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(t, seed, n)
			for _, res := range h.want {
				met[res.GetCode()]++
				ended += res.GetCount()
			}
			m := fsmtest.New(t)
			h.checkResults(t, 0, m.ApplyIn(h.logs, h.sizes(seed, 12)))
			if got := m.DB.Published(); got != n {
				t.Fatalf("published %d, want %d", got, n)
			}
			for i := uint64(0); i <= n; i += 50 {
				h.checkState(t, m, i)
			}
			if got := m.ClusterID(); got != h.model.Cluster {
				t.Errorf("cluster id %q, want %q", got, h.model.Cluster)
			}
			h.checkMembers(t, m)
			if got, want := m.DB.Counts().Keys, uint64(len(h.model.Keys())); got != want {
				t.Errorf("%d keys counted, want %d", got, want)
			}
			if got, want := m.DB.Counts().Services, uint64(len(h.model.Registry.Services)); got != want {
				t.Errorf("%d services counted, want %d", got, want)
			}
		})
	}
	// The histories are worth something only if they meet what can happen.
	for code, name := range command.Result_Code_name {
		switch command.Result_Code(code) {
		case command.Result_RESULT_TOO_LARGE, command.Result_LIMIT,
			command.Result_RESTORING, command.Result_RESTORE_LOST, command.Result_RESTORE_REFUSED: // tests of their own
		default:
			if met[command.Result_Code(code)] < 10 {
				t.Errorf("%s was answered %d times", name, met[command.Result_Code(code)])
			}
		}
	}
	t.Logf("answers %v, %d records ended", met, ended)
}

func (h history) checkMembers(t *testing.T, m *fsmtest.Machine) {
	t.Helper()
	view, err := m.DB.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	members, err := m.Members(view)
	if err != nil {
		t.Fatal(err)
	}
	if len(members) != len(h.model.Members) {
		t.Fatalf("members %v, want %v", members, h.model.Members)
	}
	for _, got := range members {
		want := h.model.Members[got.Id]
		if got.RaftAddress != want.GetRaftAddress() || got.ApiAddress != want.GetApiAddress() || got.WantVoter != want.GetWantVoter() ||
			got.Incarnation != want.GetIncarnation() {
			t.Errorf("member %v, want %v", got, want)
		}
	}
}

// However the log is cut into batches, answers and every version are the same.
func TestBatchBoundariesDoNotMatter(t *testing.T) {
	const n = 900
	h := newHistory(t, 7, n)
	one := fsmtest.New(t)
	h.checkResults(t, 0, one.ApplyIn(h.logs, func() int { return 1 }))
	want := digests(one, 0, n, 10)
	for _, most := range []int{2, 7, 64, n} {
		m := fsmtest.New(t)
		h.checkResults(t, 0, m.ApplyIn(h.logs, h.sizes(uint64(most), most)))
		checkDigests(t, m, want, 0)
	}
}

// A restarted node replays entries onto an engine that has them, and more.
func TestReplayOntoAnEngineThatIsAhead(t *testing.T) {
	const n, from = 900, 400
	h := newHistory(t, 11, n)
	m := fsmtest.New(t)
	m.ApplyIn(h.logs, h.sizes(1, 16))
	want := digests(m, 0, n, 25)
	for round := range uint64(3) {
		h.checkResults(t, from, m.ApplyIn(h.logs[from:], h.sizes(round+2, 16)))
		checkDigests(t, m, want, 0)
	}
}

func TestReplayAfterReopening(t *testing.T) {
	const n, durable = 900, 300
	h := newHistory(t, 13, n)
	o := persistence.Options{Dir: t.TempDir()}
	m := fsmtest.Open(t, o)
	m.ApplyIn(h.logs, h.sizes(1, 16))
	want := digests(m, 0, n, 25)
	if err := m.DB.MakeDurable(t.Context(), durable); err != nil {
		t.Fatal(err)
	}
	m.Stop()

	m = fsmtest.Open(t, o)
	if got := m.DB.MaxVersion(); got == 0 {
		t.Fatal("the engine lost everything")
	}
	start := m.DB.Published()
	if start > durable {
		t.Fatalf("published %d at start, but only %d is durable", start, durable)
	}
	h.checkResults(t, int(start), m.ApplyIn(h.logs[start:], h.sizes(2, 5)))
	checkDigests(t, m, want, 0)
	h.checkState(t, m, n)
}

// restorable says that nothing the state machine writes is refused in a backup.
func restorable(t *testing.T, sink *fsmtest.Sink) {
	t.Helper()
	r, err := snapshot.NewReader(sink.Reader())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for src := persistence.Checked(r); ; {
		rec, err := src.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(string(rec.Key), ":")
		if kind == "sys" {
			kind, _, _ = strings.Cut(strings.TrimPrefix(string(rec.Key), "sys:"), ":")
		}
		seen[kind] = true
	}
	for _, kind := range []string{"kv", "svc", "chk", "ses", "time", "lease", "due", "idem", "idem-queue", "idem-window"} {
		if !seen[kind] {
			t.Errorf("no record of kind %s to look at", kind)
		}
	}
}

func TestSnapshotAndRestoreInTheMiddle(t *testing.T) {
	const n, middle = 900, 450
	h := newHistory(t, 17, n)
	m := fsmtest.New(t)
	m.ApplyIn(h.logs[:middle], h.sizes(1, 16))
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	// Writes go on between Snapshot and Persist.
	m.ApplyIn(h.logs[middle:], h.sizes(2, 16))
	want := digests(m, middle, n, 25)
	sink := &fsmtest.Sink{}
	if err := snap.Persist(sink); err != nil {
		t.Fatal(err)
	}
	snap.Release()
	restorable(t, sink)

	other := fsmtest.New(t)
	other.ApplyIn(newHistory(t, 99, 200).logs, h.sizes(3, 16)) // to be forgotten
	if err := other.Restore(sink.Reader()); err != nil {
		t.Fatal(err)
	}
	if got := other.DB.Published(); got != middle {
		t.Fatalf("published %d, want %d", got, middle)
	}
	if got, want := other.DB.Counts().Keys, uint64(len(h.model.States[middle])); got != want {
		t.Errorf("%d keys counted, want %d", got, want)
	}
	h.checkResults(t, middle, other.ApplyIn(h.logs[middle:], h.sizes(4, 16)))
	checkDigests(t, other, want, middle)
	h.checkState(t, other, n)
}
