package fsm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/internal/snapshot"
)

// restoreGap is how far above a backup's index the state counts again if the backup is
// ahead of the log, as one of an older cluster is. Raft's log has to get there first,
// by a jump (raftstore), and every entry before it has no effect: so it does not matter
// which of these entries a replica has seen, and a jump that a crash undid on some
// replicas leaves all of them with the same state. It is larger than the number of
// entries that may be appended while the jump is made. A constant of the format.
const restoreGap = 1 << 16

// isRestoreCommit says whether an entry is a COMMIT, without decoding others.
func isRestoreCommit(l *raft.Log) bool {
	if l.Type != raft.LogCommand || len(l.Data) < 2 || command.Type(l.Data[1]) != command.Type_TYPE_RESTORE {
		return false
	}
	_, ok := commitOf(l)
	return ok
}

func commitOf(l *raft.Log) (*command.Restore, bool) {
	entry, err := command.Decode(l.Data)
	if err != nil {
		return nil, false
	}
	m := new(command.Restore)
	if err := command.Unmarshal(entry.Payload, m); err != nil {
		return nil, false
	}
	return m, m.Step == command.Restore_COMMIT
}

// parts hands out a batch in runs of ordinary entries, to apply, and deals with what
// stands between them: COMMITs, and entries that have no effect.
func (f *FSM) parts(logs []*raft.Log, answers []any, apply func([]*raft.Log, []any)) {
	for len(logs) > 0 {
		n := 0
		switch {
		case logs[0].Index <= f.reset.Load():
			for n < len(logs) && logs[n].Index <= f.reset.Load() {
				n++
			}
			f.passOver(logs[:n], answers[:n])
		case isRestoreCommit(logs[0]):
			n = 1
			answers[0] = f.commitRestore(logs[0])
		default:
			for n < len(logs) && !isRestoreCommit(logs[n]) {
				n++
			}
			apply(logs[:n], answers[:n])
		}
		logs, answers = logs[n:], answers[n:]
	}
}

// passOver answers entries that a restore has left without effect, or that are
// applied again from before it.
func (f *FSM) passOver(logs []*raft.Log, answers []any) {
	for i, l := range logs {
		if l.Type == raft.LogCommand {
			answers[i] = &command.Result{Code: command.Result_RESTORING, Index: l.Index}
		}
	}
	f.passed.Store(logs[len(logs)-1].Index)
}

// commitRestore applies a COMMIT. What it answers follows from the state before and the
// entry alone, as with any other; but it is written as a whole new engine.
func (f *FSM) commitRestore(l *raft.Log) *command.Result {
	start := time.Now()
	res, err := f.tryCommit(l)
	if err != nil {
		f.die(fmt.Errorf("applying entry %d, a restore: %w", l.Index, err))
	}
	if res.Code == command.Result_OK {
		f.metrics.restored(time.Since(start))
		f.log.Warn("the state was replaced by a backup", "entry", l.Index, "index", res.Index, "duration", time.Since(start))
	}
	return res
}

func (f *FSM) tryCommit(l *raft.Log) (*command.Result, error) {
	m, _ := commitOf(l)
	stamp, err := command.DecodeStamp(l.Extensions)
	if err != nil {
		return nil, err
	}
	before := l.Index - 1
	f.db.Publish(before)
	view, err := f.db.ViewAt(before)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	res, header, err := f.judge(view, m, l.Index)
	if err != nil {
		return nil, err
	}
	if res.Code != command.Result_OK || header == nil {
		f.db.Publish(l.Index)
		f.applied = max(f.applied, l.Index)
		f.hub.emit(nil, l.Index)
		return res, nil
	}
	failpoint.Hit("restore.before-replace")
	for {
		src, err := f.newState(view, m, *header, stamp, l.Index)
		if err != nil {
			return nil, err
		}
		err = f.replaceBy(src, l.Index)
		if err == nil {
			res.Index = src.Header().Index
			return res, nil
		}
		// An entry of the log cannot be refused, so it waits.
		if !persistence.IsNoSpace(err) || f.ctx.Err() != nil {
			return nil, err
		}
		f.log.Error("a restore waits for space on the disk", "entry", l.Index, "error", err)
		time.Sleep(noSpacePause)
	}
}

// judge decides whether a COMMIT is carried out: header is nil if it was already, or
// is not. It reads every piece to the end.
func (f *FSM) judge(view *persistence.View, m *command.Restore, index uint64) (*command.Result, *snapshot.Header, error) {
	res := &command.Result{Index: index, Succeeded: true}
	last, err := view.LastReset()
	if err != nil {
		return nil, nil, err
	}
	if last.Restore == m.Id && m.Id != "" {
		res.Index = last.Index // again
		return res, nil, nil
	}
	under, err := view.Restoring()
	if err != nil {
		return nil, nil, err
	}
	if under == nil || under.Id != m.Id || under.Chunks != m.Chunks {
		return lost(res), nil, nil
	}
	sum := sha256.New()
	file := io.TeeReader(&pieces{view: view, n: m.Chunks}, sum)
	h, footer, err := snapshot.Verify(file)
	if errors.Is(err, snapshot.ErrTooNew) {
		if _, err := io.Copy(io.Discard, file); err != nil {
			return nil, nil, err
		}
		if bytes.Equal(sum.Sum(nil), m.Sha256) {
			return nil, nil, err // as with an unknown entry: newer nodes carry it out
		}
	}
	switch {
	case refusable(err), err == nil && (h.Since != 0 || footer.Records == 0 && h.Index == 0):
	case err != nil:
		return nil, nil, err
	case bytes.Equal(sum.Sum(nil), m.Sha256):
		return res, &h, nil
	}
	res.Code, res.Succeeded = command.Result_RESTORE_REFUSED, false
	return res, nil, nil
}

// refusable errors are about the pieces' content, which is the same on every replica. So is
// a format that this version does not know, but a newer one does: it is refused only if the
// pieces are not what was sent, which every version finds.
func refusable(err error) bool {
	return errors.Is(err, snapshot.ErrCorrupt) || errors.Is(err, snapshot.ErrNotSnapshot) || errors.Is(err, snapshot.ErrTooNew)
}

// pieces reads the pieces of the restore under way as one file.
type pieces struct {
	view *persistence.View
	seq  uint64
	n    uint64
	rest []byte
}

func (p *pieces) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.seq == p.n {
			return 0, io.EOF
		}
		piece, found, err := p.view.Get(persistence.RestoreChunkKey(p.seq))
		if err != nil {
			return 0, err
		}
		if !found {
			return 0, fmt.Errorf("%w: piece %d of a restore is missing", persistence.ErrCorrupt, p.seq)
		}
		p.rest = piece
		p.seq++
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// newState is the state after a COMMIT: the backup's data, with what belongs to this
// cluster in place of what belonged to the backup's, and a cluster time that is not
// before either's.
func (f *FSM) newState(view *persistence.View, m *command.Restore, h snapshot.Header, stamp int64, index uint64) (snapshot.Source, error) {
	r, err := snapshot.NewReader(&pieces{view: view, n: m.Chunks})
	if err != nil {
		return nil, err
	}
	own, err := ownRecords(view)
	if err != nil {
		return nil, err
	}
	at := index
	if h.Index >= index {
		at = h.Index + restoreGap
	}
	reset, err := persistence.EncodeRecord(&record.Reset{
		Index: at, Entry: index, Restore: m.Id, BackupCluster: h.ClusterID, BackupIndex: h.Index,
	})
	if err != nil {
		return nil, err
	}
	own = append(own, snapshot.Record{Key: persistence.ResetKey(), Version: at, Value: reset})
	id, err := clusterID(view)
	if err != nil {
		return nil, err
	}
	now, err := view.Time() // as this cluster may have given it out
	if err != nil {
		return nil, err
	}
	return persistence.NewRestored(r, snapshot.Header{
		ClusterID: id, Index: at, CreatedAt: h.CreatedAt, Keys: h.Keys, Services: h.Services,
	}, own, max(now, stamp)), nil
}

// ownRecords are what belongs to the cluster: its id and its members.
func ownRecords(view *persistence.View) ([]snapshot.Record, error) {
	var own []snapshot.Record
	keep := func(key, value []byte) error {
		if !persistence.OfCluster(key) || persistence.OfRestore(key) || bytes.Equal(key, persistence.ResetKey()) {
			return nil
		}
		version, err := view.VersionOf(key)
		own = append(own, snapshot.Record{Key: bytes.Clone(key), Version: version, Value: bytes.Clone(value)})
		return err
	}
	err := view.Scan(persistence.ClusterKey(), nil, keep)
	if err == nil {
		err = view.Scan(persistence.MemberPrefix(), nil, keep)
	}
	return own, err
}

// noSpacePause is between two tries while the disk is full.
const noSpacePause = 5 * time.Second

// replaceBy makes src the state as of its header's index. A shutdown waits for it.
func (f *FSM) replaceBy(src snapshot.Source, entry uint64) error {
	at := src.Header().Index
	f.hub.suspend()
	if err := f.db.ReplaceFrom(context.Background(), src); err != nil {
		return err
	}
	f.applied = at
	f.passed.Store(entry)
	f.reset.Store(at)
	if err := f.startClock(); err != nil {
		return err
	}
	f.hub.resume(at)
	failpoint.Hit("restore.after-replace")
	return nil
}

// loadReset takes the last restore from a state that is new to this node.
func (f *FSM) loadReset() error {
	view, err := f.db.View()
	if err != nil {
		return fmt.Errorf("reading the last restore: %w", err)
	}
	defer view.Close()
	last, err := view.LastReset()
	if err != nil {
		return err
	}
	f.reset.Store(last.Index)
	f.passed.Store(last.Entry) // it was applied; what came after it is in what is published
	return nil
}

// Reset is the index from which on entries count since the last restore; 0 = there
// was none. While the log has not got there, entries have no effect.
func (f *FSM) Reset() uint64 { return f.reset.Load() }

// LogApplied is the newest index of the log that was applied here, as far as known. It
// is the published one, except between a restore and the index from which it counts.
func (f *FSM) LogApplied() uint64 {
	if published := f.db.Published(); published != f.reset.Load() {
		return published
	}
	return f.passed.Load()
}

// hasReset says whether a snapshot is of the state that a restore left and that nothing
// has changed since: what raft is given to jump ahead (see restoreGap). Then there is
// nothing to replace.
func (f *FSM) hasReset(in *bufio.Reader) (snapshot.Header, bool) {
	reset := f.reset.Load()
	if reset == 0 || f.db.Published() != reset {
		return snapshot.Header{}, false
	}
	h, err := snapshot.PeekHeader(in)
	return h, err == nil && h.Index == reset && h.ClusterID == f.ClusterID()
}
