package raftstore

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

var (
	errMuted        = errors.New("not sent: this node has given up its leadership")
	errNotFlushed   = errors.New("refused: this node's log is not on its disk")
	errNotCandidate = errors.New("not sent: this node does not stand for election")
)

// transport stands between raft and raft's own network transport.
//
//   - It counts acknowledgements for the read proof (acks.go).
//   - It keeps a node that cannot take writes from standing for election, and a
//     leader whose disk hangs from holding on to its office by heartbeats, which
//     raft sends from other goroutines than the stuck one.
//   - It lets a heartbeat bypass the main goroutine, as raft wants it to, only
//     if that cannot change anything but the time of last contact: the node is a
//     follower in the heartbeat's term. Every other heartbeat goes through the
//     main goroutine like any message. Raft changes term and state in the bypass
//     without a lock; a heartbeat of an old term could otherwise undo the new
//     term in which this node has just voted.
type transport struct {
	*raft.NetworkTransport
	acks  *acks
	flush *flusher

	// mayStand says whether this node may ask for votes.
	mayStand func() bool
	// muted: messages of the leader are not sent.
	muted atomic.Bool
	// plain says whether a heartbeat of term may bypass the main goroutine.
	plain atomic.Pointer[func(term uint64) bool]
	// heard is told the leader's commit index of each message that was accepted, and when it came.
	heard atomic.Pointer[func(commit uint64, at time.Time)]
	// serving says whether this node leads in term and id is a member.
	serving atomic.Pointer[func(term uint64, id raft.ServerID) bool]
	// hold is for a test: called with an answer in hand, before anybody sees it.
	hold atomic.Pointer[func(raft.ServerID, *raft.AppendEntriesRequest)]
	rpcs chan raft.RPC
	stop chan struct{}
	once sync.Once
	wg   sync.WaitGroup
}

// The interfaces that raft looks for; without WithPreVote it would switch
// pre-votes off, without WithClose nobody would close the connections.
var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
	_ raft.WithClose   = (*transport)(nil)
)

func newTransport(inner *raft.NetworkTransport, acks *acks, flush *flusher, mayStand func() bool) *transport {
	t := &transport{
		NetworkTransport: inner, acks: acks, flush: flush, mayStand: mayStand,
		rpcs: make(chan raft.RPC), stop: make(chan struct{}),
	}
	t.wg.Add(1)
	go t.pump()
	return t
}

// Consumer implements raft.Transport.
func (t *transport) Consumer() <-chan raft.RPC { return t.rpcs }

// pump passes messages on to raft's main goroutine.
func (t *transport) pump() {
	defer t.wg.Done()
	for {
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			if _, ok := rpc.Command.(*raft.TimeoutNowRequest); ok && !t.mayStand() {
				rpc.Respond(nil, errNotCandidate)
				continue
			}
			if t.flush.all() != nil {
				// A former leader must not acknowledge what it failed to write.
				rpc.Respond(nil, errNotFlushed)
				continue
			}
			t.listen(rpc.Command)
			t.pass(rpc)
		case <-t.stop:
			return
		}
	}
}

func (t *transport) pass(rpc raft.RPC) {
	select {
	case t.rpcs <- rpc:
	case <-t.stop:
		rpc.Respond(nil, raft.ErrTransportShutdown)
	}
}

// tell hands raft a message of the leader that came another way, and says whether
// raft took it.
func (t *transport) tell(m *raft.AppendEntriesRequest) bool {
	if t.flush.all() != nil { // like pump
		return false
	}
	back := make(chan raft.RPCResponse, 1)
	t.pass(raft.RPC{Command: m, RespChan: back})
	select {
	case resp := <-back:
		r, ok := resp.Response.(*raft.AppendEntriesResponse)
		return ok && resp.Error == nil && r.Success
	case <-t.stop:
		return false
	}
}

// listen notes the commit index that the leader of this node's term claims. That
// is true of the leader whether or not raft can use the message.
func (t *transport) listen(cmd any) {
	req, ok := cmd.(*raft.AppendEntriesRequest)
	heard, plain := t.heard.Load(), t.plain.Load()
	if ok && req.LeaderCommitIndex > 0 && heard != nil && plain != nil && (*plain)(req.Term) {
		(*heard)(req.LeaderCommitIndex, time.Now())
	}
}

// SetHeartbeatHandler implements raft.Transport.
func (t *transport) SetHeartbeatHandler(fast func(raft.RPC)) {
	t.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		req, ok := rpc.Command.(*raft.AppendEntriesRequest)
		plain := t.plain.Load()
		if ok && plain != nil && (*plain)(req.Term) {
			fast(rpc)
			return
		}
		t.pass(rpc)
	})
}

// AppendEntries implements raft.Transport; heartbeats take this way too, and are
// what the read proof counts.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.muted.Load() {
		return errMuted
	}
	if !isHeartbeat(args) {
		if err := t.sendWhenUp(id, target, args, resp); err != nil {
			return err
		}
		return t.onDisk(args)
	}
	sent := t.acks.sending()
	if err := t.NetworkTransport.AppendEntries(id, peerAt(id, target), args, resp); err != nil {
		return err
	}
	if hold := t.hold.Load(); hold != nil {
		(*hold)(id, args)
	}
	if resp.Success && resp.Term == args.Term {
		t.acks.received(id, args.Term, sent)
	}
	return nil
}

// onDisk returns when this node has on disk what a follower has acknowledged: only
// then may raft hear of it, see flusher.
func (t *transport) onDisk(args *raft.AppendEntriesRequest) error {
	if n := len(args.Entries); n > 0 {
		return t.flush.wait(args.Entries[n-1].Index)
	}
	return nil
}

// AppendEntriesPipeline implements raft.Transport. Its answers are not counted:
// heartbeats are enough.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	if t.muted.Load() {
		return nil, errMuted
	}
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, peerAt(id, target))
	if err != nil {
		return nil, err // also that the transport has pipelines switched off, which raft looks for
	}
	return newPipeline(inner, t.onDisk), nil
}

// RequestVote implements raft.Transport.
func (t *transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if !t.mayStand() {
		return errNotCandidate
	}
	return t.NetworkTransport.RequestVote(id, peerAt(id, target), args, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if !t.mayStand() {
		return errNotCandidate
	}
	return t.NetworkTransport.RequestPreVote(id, peerAt(id, target), args, resp)
}

// InstallSnapshot implements raft.Transport.
func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if t.muted.Load() {
		return errMuted
	}
	return t.NetworkTransport.InstallSnapshot(id, peerAt(id, target), args, resp, data)
}

// TimeoutNow implements raft.Transport.
func (t *transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.NetworkTransport.TimeoutNow(id, peerAt(id, target), args, resp)
}

// Close implements raft.WithClose. Idempotent.
func (t *transport) Close() error {
	t.once.Do(func() { close(t.stop) })
	err := t.NetworkTransport.Close()
	t.NetworkTransport.CloseStreams() // what was returned to the pool before
	t.wg.Wait()
	if err != nil {
		return fmt.Errorf("closing transport: %w", err)
	}
	return nil
}
