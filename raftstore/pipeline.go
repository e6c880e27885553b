package raftstore

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

var errPipelineFailed = errors.New("not sent: an earlier message of this pipeline failed")

// pipeline stands between raft's replication and the transport's pipeline, so that
// a refused message ends it. Raft reads no further answers after the first that is
// not a success, but may go on sending; with two messages in flight the transport's
// channels have no room, so its decoder waits for raft to read and raft, in
// AppendEntries, for the decoder: for ever, while heartbeats keep the follower quiet
// (hashicorp/raft issue 612; a follower whose disk failed for a moment was left without
// entries until the leader changed).
//
// Here answers are always taken: those after the first bad one are thrown away, and
// AppendEntries fails from then on, which makes raft start anew.
type pipeline struct {
	raft.AppendPipeline
	// onDisk holds an answer back until this node has the entries on disk.
	onDisk func(*raft.AppendEntriesRequest) error
	out    chan raft.AppendFuture
	failed atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func newPipeline(inner raft.AppendPipeline, onDisk func(*raft.AppendEntriesRequest) error) *pipeline {
	p := &pipeline{AppendPipeline: inner, onDisk: onDisk, out: make(chan raft.AppendFuture), closed: make(chan struct{})}
	go p.drain()
	return p
}

// drain ends with Close.
func (p *pipeline) drain() {
	for {
		select {
		case f := <-p.AppendPipeline.Consumer():
			p.deliver(f)
		case <-p.closed:
			return
		}
	}
}

func (p *pipeline) deliver(f raft.AppendFuture) {
	if p.failed.Load() {
		return // nobody reads any more
	}
	// The future is complete, so Error does not wait.
	if f.Error() != nil || !f.Response().Success {
		p.failed.Store(true)
	} else if p.onDisk(f.Request()) != nil {
		p.failed.Store(true)
		return // the process is ending
	}
	select {
	case p.out <- f:
	case <-p.closed:
	}
}

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.failed.Load() {
		return nil, errPipelineFailed
	}
	return p.AppendPipeline.AppendEntries(args, resp)
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.out }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.AppendPipeline.Close()
}
