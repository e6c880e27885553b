package cluster

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/raftstore"
)

// When all is in order nothing is read again, however long it stays so; a
// change is seen at once all the same. The calm pace is set to never.
func TestACalmLeaderDoesNothing(t *testing.T) {
	store, err := raftstore.Open(raftstore.Config{
		NodeID: "a", DataDir: t.TempDir(), BindAddr: "127.0.0.1:0", InMemory: true, Badger: persistence.DefaultBadgerOptions(),
		Registerer: prometheus.NewRegistry(), Fatal: func(err error) { panic(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	m := newManager(Config{RaftAddr: store.Addr(), APIAddr: "127.0.0.1:1", BootstrapExpect: 1}, store, store.PeerClient())
	m.time.calm = time.Hour
	var reads atomic.Int64
	m.members = func() (map[string]*record.Member, error) { reads.Add(1); return memberRecords(store) }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	calm := func() {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for {
			before := reads.Load()
			if err := pause(t.Context(), 4*m.time.announce); err != nil {
				t.Fatal(err)
			}
			records, err := memberRecords(store)
			if err == nil && len(records) == 1 && reads.Load() == before {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d records, %v, read %d times within %s", len(records), err, reads.Load()-before, 4*m.time.announce)
			}
		}
	}
	calm()
	if _, err := m.Join(t.Context(), JoinRequest{NodeID: "b", Address: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	joined := reads.Load()
	for deadline := time.Now().Add(10 * time.Second); reads.Load() < joined+4; {
		if time.Now().After(deadline) {
			t.Fatal("nobody looks after the joiner")
		}
		_ = pause(t.Context(), 10*time.Millisecond)
	}
	if err := m.Leave(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	calm()
}
