package fsm_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	. "github.com/neogan74/konsul/fsm/fsmtest"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/snapshot"
)

// persist takes a snapshot into a new sink.
func persist(t *testing.T, m *Machine) *Sink {
	t.Helper()
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Release()
	sink := &Sink{}
	if err := snap.Persist(sink); err != nil {
		t.Fatal(err)
	}
	if !sink.Closed || sink.Cancelled {
		t.Fatalf("closed %v, cancelled %v", sink.Closed, sink.Cancelled)
	}
	return sink
}

func TestSnapshotOfNothing(t *testing.T) {
	m := New(t)
	sink := persist(t, m)
	other := New(t)
	other.Txn(Set("k", "v"))
	if err := other.Restore(sink.Reader()); err != nil {
		t.Fatal(err)
	}
	if other.DB.Published() != 0 || other.MustDigest(0) != m.MustDigest(0) {
		t.Errorf("published %d", other.DB.Published())
	}
}

func TestSnapshotHeader(t *testing.T) {
	m := New(t)
	m.Do(Command{Type: command.Type_TYPE_CLUSTER_INIT, Message: &command.ClusterInit{ClusterId: "c1"}})
	m.Txn(Set("a", "1"), Set("b", "2"))
	m.Txn(Delete("a"))
	m.Apply(m.Skip())
	r, err := snapshot.NewReader(bytes.NewReader(persist(t, m).Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	h := r.Header()
	if h.ClusterID != "c1" || h.Index != 4 || h.Keys != 1 || h.Services != 0 {
		t.Errorf("header %+v", h)
	}
	if age := time.Since(time.Unix(0, h.CreatedAt)); age < 0 || age > time.Minute {
		t.Errorf("made %v ago", age)
	}
	if got := m.SnapshotIndex(); got != 4 {
		t.Errorf("newest snapshot %d", got)
	}
	if got := m.DB.DurableIndex(); got < 4 {
		t.Errorf("the snapshot was finalised while only %d was durable", got)
	}
}

// Everything up to the snapshot is durable before the snapshot is final.
func TestDurableBeforeClose(t *testing.T) {
	m := New(t)
	m.Txn(Set("a", "1"))
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Release()
	var durable uint64
	sink := &Sink{CloseFunc: func() error { durable = m.DB.DurableIndex(); return nil }}
	if err := snap.Persist(sink); err != nil || durable != 1 {
		t.Errorf("durable up to %d at close, error %v", durable, err)
	}
}

func TestAFailingSinkLeavesNothing(t *testing.T) {
	broken := errors.New("broken")
	for name, sink := range map[string]*Sink{
		"write": {WriteFunc: func([]byte) (int, error) { return 0, broken }},
		"short": {WriteFunc: func(b []byte) (int, error) { return len(b) / 2, nil }},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(t)
			m.Txn(Set("a", strings.Repeat("x", 1000)))
			snap, err := m.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			err = snap.Persist(sink)
			snap.Release()
			if !errors.Is(err, broken) && !errors.Is(err, io.ErrShortWrite) {
				t.Errorf("error %v", err)
			}
			if sink.Closed || !sink.Cancelled {
				t.Errorf("closed %v, cancelled %v", sink.Closed, sink.Cancelled)
			}
			if m.SnapshotIndex() != 0 {
				t.Errorf("newest snapshot %d", m.SnapshotIndex())
			}
			persist(t, m) // and the next one works
		})
	}
	t.Run("close", func(t *testing.T) {
		m := New(t)
		m.Txn(Set("a", "1"))
		snap, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Release()
		err = snap.Persist(&Sink{CloseFunc: func() error { return broken }})
		if !errors.Is(err, broken) || m.SnapshotIndex() != 0 {
			t.Errorf("error %v, newest snapshot %d", err, m.SnapshotIndex())
		}
	})
}

func TestCloseStopsASnapshot(t *testing.T) {
	m := New(t)
	m.Txn(Set("a", "1"))
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Release()
	m.FSM.Close()
	sink := &Sink{}
	if err := snap.Persist(sink); err == nil || !sink.Cancelled {
		t.Errorf("error %v, cancelled %v", err, sink.Cancelled)
	}
}

func TestADamagedSnapshotEndsTheProcess(t *testing.T) {
	m := New(t)
	m.Txn(Set("a", "1"))
	good := persist(t, m).Bytes()
	for name, b := range map[string][]byte{
		"cut":   good[:len(good)-1],
		"empty": {},
		"bit":   append(append([]byte(nil), good[:len(good)/2]...), append([]byte{good[len(good)/2] ^ 1}, good[len(good)/2+1:]...)...),
	} {
		t.Run(name, func(t *testing.T) {
			if cause := dies(t, func(f *fsm.FSM) { f.Restore(io.NopCloser(bytes.NewReader(b))) }); cause == nil {
				t.Error("no cause")
			}
		})
	}
}

// indexed is what a snapshot store gives that knows the index.
type indexed struct {
	io.ReadCloser
	index uint64
}

func (i indexed) SnapshotIndex() uint64 { return i.index }

type wrapper struct{ io.ReadCloser }

func (w wrapper) WrappedReadCloser() io.ReadCloser { return w.ReadCloser }

// A backup put into a running cluster takes effect at a new index: whoever has
// seen an older one has seen another state, and must be told.
func TestRestoreAtAHigherIndex(t *testing.T) {
	m := New(t)
	m.Txn(Set("a", "1"))
	sink := persist(t, m)
	m.Txn(Set("a", "2"))
	m.Txn(Set("a", "3"))
	if err := m.Restore(wrapper{indexed{sink.Reader(), 9}}); err != nil {
		t.Fatal(err)
	}
	if got := m.DB.Published(); got != 9 {
		t.Errorf("published %d, want 9", got)
	}
	var c *persistence.CompactedError
	if _, err := m.Subscribe(fsm.Filter{}, 3); !errors.As(err, &c) || c.Oldest != 9 {
		t.Errorf("subscribing from before: %v", err)
	}
	if err := m.WaitChange(t.Context(), fsm.Filter{}, 3); err != nil {
		t.Errorf("waiting from before: %v", err)
	}
	subscribe(t, m, fsm.Filter{}, 9)
}
