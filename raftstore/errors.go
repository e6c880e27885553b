package raftstore

import "errors"

// The one home of the errors of a replicated node. Everything that says "not
// applied" may be repeated; ErrOutcomeUnknown may not, except by a caller who
// knows that repeating does no harm (an idempotency key).
var (
	// ErrNoLeader: no leader is known, and none came in the time allowed. Not applied.
	ErrNoLeader = errors.New("no leader")
	// ErrNotLeader: only the leader can do this, and this node is not it (any more). Not applied.
	ErrNotLeader = errors.New("not the leader")
	// ErrNotReady: this node has not caught up with its own office or log yet. Not applied.
	ErrNotReady = errors.New("node is not ready")
	// ErrOverloaded: the bounded queue is full. Not applied.
	ErrOverloaded = errors.New("overloaded: the queue of proposals is full")
	// ErrShuttingDown: this node is stopping. Not applied.
	ErrShuttingDown = errors.New("node is shutting down")
	// ErrDiskFull: this node's disk is below its floor of free space. Not applied.
	ErrDiskFull = errors.New("disk is full: free space is below the floor")
	// ErrOutcomeUnknown: proposed, but whether it was or will be applied is not known.
	ErrOutcomeUnknown = errors.New("outcome unknown: it may or may not have been applied")
	// ErrWrongCluster: this node belongs to another cluster.
	ErrWrongCluster = errors.New("node belongs to another cluster")
	// ErrRemoved: this node was removed from the cluster. Not applied.
	ErrRemoved = errors.New("node was removed from the cluster")
	// ErrNotMember: the node is not (yet) a member of the cluster. Not applied.
	ErrNotMember = errors.New("node is not a member of the cluster")
	// ErrDamaged: what is on disk cannot be used; the text says what and how to come back.
	ErrDamaged = errors.New("data directory is damaged")
	// ErrLocked: another process uses the data directory.
	ErrLocked = errors.New("data directory is in use")
	// ErrBadConfig: a field of Config cannot be honoured.
	ErrBadConfig = errors.New("bad configuration")
)

// notApplied are the errors after which a command was certainly not applied.
var notApplied = []error{
	ErrNoLeader, ErrNotLeader, ErrNotReady, ErrOverloaded, ErrShuttingDown,
	ErrDiskFull, ErrWrongCluster, ErrRemoved, ErrNotMember,
}

// NotApplied reports whether err says that the command was not applied and
// never will be, so that repeating it is safe.
func NotApplied(err error) bool {
	if err == nil || errors.Is(err, ErrOutcomeUnknown) {
		return false
	}
	for _, e := range notApplied {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
