package fsm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	. "github.com/neogan74/konsul/fsm/fsmtest"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/snapshot"
)

// restoreSteps are the entries of a restore of file.
func restoreSteps(id string, file []byte) (steps []*command.Restore) {
	steps = append(steps, &command.Restore{Step: command.Restore_BEGIN, Id: id, Node: "n"})
	sum := sha256.Sum256(file)
	seq := uint64(0)
	for rest := file; len(rest) > 0; seq++ {
		n := min(len(rest), command.MaxRestoreChunk)
		steps = append(steps, &command.Restore{Step: command.Restore_CHUNK, Id: id, Seq: seq, Data: rest[:n]})
		rest = rest[n:]
	}
	return append(steps, &command.Restore{Step: command.Restore_COMMIT, Id: id, Chunks: seq, Sha256: sum[:]})
}

// mortal is a state machine that notes what it dies of before it panics.
func mortal(t *testing.T) (db *persistence.DB, f *fsm.FSM, cause *error) {
	t.Helper()
	db, err := persistence.Open(persistence.Options{InMemory: true, Registerer: prometheus.NewRegistry()}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	cause = new(error)
	f, err = fsm.New(db, hclog.NewNullLogger(), prometheus.NewRegistry(), fsm.WithFatal(func(err error) { *cause = err }))
	if err != nil {
		t.Fatal(err)
	}
	return db, f, cause
}

// A COMMIT that cannot be judged ends the process through WithFatal.
func TestACommitThatCannotBeJudged(t *testing.T) {
	db, f, cause := mortal(t)
	u := db.NewUpdate(1)
	u.At(1).Set(persistence.ResetKey(), []byte{9}) // stands for a read that fails
	if _, err := u.Commit(1); err != nil {
		t.Fatal(err)
	}
	commit := &command.Restore{Step: command.Restore_COMMIT, Id: "r", Chunks: 1, Sha256: make([]byte, 32)}
	data := MustEncode(t, Command{Type: command.Type_TYPE_RESTORE, Message: commit})
	defer func() {
		p := recover()
		if *cause == nil {
			t.Errorf("fatal was not told; panic: %v", p)
		}
	}()
	f.ApplyBatch([]*raft.Log{{Index: 2, Data: data}})
}

// A backup in a format that only newer versions know is what those of a cluster that is being
// upgraded restore: to refuse it would make this replica differ. It waits for its upgrade, as
// for an entry that it does not know. Pieces that did not arrive as sent are refused by all.
func TestARestoreInAnUnknownFormat(t *testing.T) {
	m := Open(t, persistence.Options{InMemory: true})
	m.Txn(Set("k", "v"))
	var b bytes.Buffer
	if _, _, err := m.Backup(context.Background(), &b, 0, nil); err != nil {
		t.Fatal(err)
	}
	newer := b.Bytes()
	newer[9]++ // the format
	steps := restoreSteps("r", newer)
	last := len(steps) - 1
	wrong := &command.Restore{Step: command.Restore_COMMIT, Id: "r", Chunks: steps[last].Chunks, Sha256: make([]byte, sha256.Size)}
	for _, s := range append(steps[:last:last], wrong) {
		res := m.Do(Command{Type: command.Type_TYPE_RESTORE, Message: s})
		if s == wrong && res.Code != command.Result_RESTORE_REFUSED {
			t.Errorf("pieces that did not arrive as sent: %v", res.Code)
		}
	}
	_, f, cause := mortal(t)
	defer func() {
		_ = recover()
		if !errors.Is(*cause, snapshot.ErrTooNew) {
			t.Errorf("died of %v", *cause)
		}
	}()
	for i, s := range steps {
		f.ApplyBatch([]*raft.Log{{Index: uint64(i + 1), Data: MustEncode(t, Command{Type: command.Type_TYPE_RESTORE, Message: s})}})
	}
}

// A blocking read with an index from before a restore answers at once, also after a restart.
func TestABlockingReadAfterARestoreAndARestart(t *testing.T) {
	dir := t.TempDir()
	m := Open(t, persistence.Options{Dir: dir})
	m.Txn(Set("k", "old"))
	var b bytes.Buffer
	if _, _, err := m.Backup(context.Background(), &b, 0, nil); err != nil {
		t.Fatal(err)
	}
	seen := m.Txn(Set("k", "new")).Index
	for _, s := range restoreSteps("r", b.Bytes()) {
		m.Do(Command{Type: command.Type_TYPE_RESTORE, Message: s})
	}
	ask := func(m *Machine) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return m.WaitChange(ctx, fsm.Filter{Key: []byte("k")}, seen)
	}
	if err := ask(m); err != nil {
		t.Fatalf("before the restart: %v", err)
	}
	m.Stop()
	m = Open(t, persistence.Options{Dir: dir})
	if err := ask(m); err != nil {
		t.Fatalf("after the restart: %v (the key's value is another one than at index %d)", err, seen)
	}
}
