package cluster

import (
	"errors"
	"fmt"

	"github.com/neogan74/konsul/raftstore"
)

// The errors of membership. Those that raftstore already has (ErrNotLeader,
// ErrNoLeader, ErrNotReady, ErrWrongCluster, ErrRemoved, ErrShuttingDown) are
// used as they are. None of these changed anything when it is returned.
var (
	// ErrUnknownMember: no node with that id belongs to the cluster.
	ErrUnknownMember = errors.New("no such member")
	// ErrLastVoter: the node is the only voter; without it there is no cluster.
	// To end the cluster, stop the node and clear its data directory.
	ErrLastVoter = errors.New("the last voter cannot leave")
	// ErrWouldLoseQuorum: of the voters that would remain, too few answer.
	ErrWouldLoseQuorum = errors.New("too few of the remaining voters answer")
	// ErrNotVoter: leadership can only be given to a voter.
	ErrNotVoter = errors.New("the node is not a voter")
	// ErrTransferFailed: the leader could not hand over and still leads.
	ErrTransferFailed = errors.New("leadership was not transferred")
	// ErrAddressInUse: another member answers at that Raft address, or may.
	ErrAddressInUse = errors.New("address is used by another member")
	// ErrMemberExists: a member has that id, and its data is in another directory.
	ErrMemberExists = errors.New("a member with this id exists, and this is not its data directory")
	// ErrUnreachable: no node answers at the address this node was told to join.
	ErrUnreachable = errors.New("no konsul node answers at this address")
	// ErrNotFormed: the node asked is not part of a cluster yet.
	ErrNotFormed = errors.New("not part of a cluster yet")
)

// InvalidError is a request that can never succeed as it is.
type InvalidError struct {
	Field string // name of the JSON field
	Why   string
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Why) }

// codes names errors where they leave the process: between nodes and in the
// "code" of HTTP answers to a joining node. The first match wins.
var codes = []struct {
	code string
	err  error
}{
	{"wrong_cluster", raftstore.ErrWrongCluster},
	{"removed", raftstore.ErrRemoved},
	{"not_leader", raftstore.ErrNotLeader},
	{"no_leader", raftstore.ErrNoLeader},
	{"shutting_down", raftstore.ErrShuttingDown},
	{"outcome_unknown", raftstore.ErrOutcomeUnknown},
	{"overloaded", raftstore.ErrOverloaded},
	{"disk_full", raftstore.ErrDiskFull},
	{"member_not_found", ErrUnknownMember},
	{"last_voter", ErrLastVoter},
	{"would_lose_quorum", ErrWouldLoseQuorum},
	{"not_voter", ErrNotVoter},
	{"transfer_failed", ErrTransferFailed},
	{"address_in_use", ErrAddressInUse},
	{"member_exists", ErrMemberExists},
	{"not_formed", ErrNotFormed},
	{"not_ready", raftstore.ErrNotReady},
}

// Code is the stable name of an error of this package or of raftstore, as
// http-api answers carry it; "" if it has none.
func Code(err error) string {
	var invalid *InvalidError
	if errors.As(err, &invalid) {
		return "bad_request"
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return ""
}

// remoteError is an error another node answered with: its text, and the
// sentinel its code stands for.
type remoteError struct {
	text string
	err  error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.err }

// fromCode is the error another node meant. An unknown code keeps the text.
func fromCode(code, field, text string) error {
	if code == "bad_request" {
		return &remoteError{text: text, err: &InvalidError{Field: field, Why: text}}
	}
	for _, c := range codes {
		if c.code == code {
			return &remoteError{text: text, err: c.err}
		}
	}
	return &remoteError{text: text}
}
