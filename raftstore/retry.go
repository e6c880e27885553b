package raftstore

import (
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

const retryLook = 500 * time.Millisecond

// isHeartbeat tells raft's heartbeats from its replication, as raft's own
// transport does.
func isHeartbeat(r *raft.AppendEntriesRequest) bool {
	return len(r.Entries) == 0 && r.PrevLogEntry == 0 && r.PrevLogTerm == 0 && r.LeaderCommitIndex == 0
}

// sendWhenUp sends a message of replication. If the follower cannot be reached it waits
// for a heartbeat to get through and sends it once more. Raft itself would wait
// twice as long after each failure, up to 10 s, and so leave a follower that has
// come back without entries for that long. A message may be sent late or twice:
// it only says what this leader's log holds.
func (t *transport) sendWhenUp(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	start := time.Now()
	err := t.NetworkTransport.AppendEntries(id, peerAt(id, target), args, resp)
	if err == nil || !t.waitUp(id, args.Term, start) {
		return err
	}
	if again := t.NetworkTransport.AppendEntries(id, peerAt(id, target), args, resp); again != nil {
		return errors.Join(err, again)
	}
	return nil
}

// waitUp returns true when a heartbeat sent after since has been answered, and
// false if there is nobody to wait for (any more).
func (t *transport) waitUp(id raft.ServerID, term uint64, since time.Time) bool {
	look := time.NewTicker(retryLook)
	defer look.Stop()
	for {
		serving := t.serving.Load()
		if serving == nil || !(*serving)(term, id) || t.muted.Load() {
			return false
		}
		at, moved := t.acks.lastOr(id)
		if at.After(since) {
			return true
		}
		select {
		case <-moved:
		case <-look.C:
		case <-t.stop:
			return false
		}
	}
}
