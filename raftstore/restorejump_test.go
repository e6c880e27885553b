package raftstore_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// A snapshot that began before the index jumps, and ends after it, would be raft's newest.
func TestASnapshotDoesNotOutliveTheJump(t *testing.T) {
	old := raftstoretest.New(t, 1).Nodes[0]
	for old.MustPut("a", "1") < 300 {
	}
	full := save(t, old, 0)
	for name, whole := range map[string]bool{"one that is being written fails": false, "one that is whole ends first": true} {
		t.Run(name, func(t *testing.T) {
			n := raftstoretest.New(t, 1).Nodes[0]
			n.MustPut("b", "2")
			snap, err := n.Store.BeginSnapshot()
			if err != nil {
				t.Fatal(err)
			}
			var released atomic.Bool
			if whole {
				if err := snap.Persist(discardSink{}); err != nil {
					t.Fatal(err)
				}
				go func() {
					time.Sleep(time.Second)
					released.Store(true)
					snap.Release()
				}()
			}
			index := restore(t, n, full)
			if whole != released.Load() {
				t.Errorf("jumped when it was released: %v", released.Load())
			}
			if !whole {
				if err := snap.Persist(discardSink{}); err == nil {
					t.Error("it is a snapshot of the state before")
				}
				snap.Release()
			}
			if after := n.MustPut("c", "3"); after <= index {
				t.Errorf("a write after it has index %d, restored at %d", after, index)
			}
			if err := n.Store.Raft().Snapshot().Error(); err != nil {
				t.Errorf("the next one: %v", err)
			}
		})
	}
}

type discardSink struct{}

func (discardSink) Write(b []byte) (int, error) { return len(b), nil }
func (discardSink) Close() error                { return nil }
func (discardSink) ID() string                  { return "discarded" }
func (discardSink) Cancel() error               { return nil }
