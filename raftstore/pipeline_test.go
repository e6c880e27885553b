package raftstore

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// tightPipeline has no room for anything, as the transport's with two messages in flight.
type tightPipeline struct {
	asked, done chan raft.AppendFuture
	stop        chan struct{}
	answer      func(*raft.AppendEntriesRequest) (success bool, err error)
}

type answered struct {
	raft.AppendFuture
	req  *raft.AppendEntriesRequest
	resp *raft.AppendEntriesResponse
	err  error
}

func (a *answered) Error() error                          { return a.err }
func (a *answered) Request() *raft.AppendEntriesRequest   { return a.req }
func (a *answered) Response() *raft.AppendEntriesResponse { return a.resp }

func newTightPipeline(answer func(*raft.AppendEntriesRequest) (bool, error)) *tightPipeline {
	p := &tightPipeline{asked: make(chan raft.AppendFuture), done: make(chan raft.AppendFuture), stop: make(chan struct{}), answer: answer}
	go func() {
		for {
			select {
			case f := <-p.asked:
				a := f.(*answered)
				a.resp.Success, a.err = p.answer(a.req)
				select {
				case p.done <- a:
				case <-p.stop:
					return
				}
			case <-p.stop:
				return
			}
		}
	}()
	return p
}

func (p *tightPipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	f := &answered{req: req, resp: resp}
	select {
	case p.asked <- f:
		return f, nil
	case <-p.stop:
		return nil, raft.ErrPipelineShutdown
	}
}
func (p *tightPipeline) Consumer() <-chan raft.AppendFuture { return p.done }
func (p *tightPipeline) Close() error                       { close(p.stop); return nil }

// Raft reads up to the first bad answer and goes on sending for a while: that must
// not block, and must end with an error.
func TestAPipelineEndsAfterARefusedMessage(t *testing.T) {
	for name, bad := range map[string]struct {
		success bool
		err     error
	}{"refused": {false, nil}, "broken": {false, errors.New("connection reset")}} {
		t.Run(name, func(t *testing.T) {
			p := newPipeline(newTightPipeline(func(r *raft.AppendEntriesRequest) (bool, error) {
				if r.Term >= 3 {
					return bad.success, bad.err
				}
				return true, nil
			}), func(*raft.AppendEntriesRequest) error { return nil })
			read := make(chan uint64, 1)
			go func() {
				for f := range p.Consumer() { // as raft's pipelineDecode
					if !f.Response().Success {
						read <- f.Request().Term
						return
					}
				}
			}()
			ended := make(chan error, 1)
			go func() {
				for term := uint64(1); ; term++ {
					if _, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: term}, new(raft.AppendEntriesResponse)); err != nil {
						ended <- err
						return
					}
				}
			}()
			limit := time.After(10 * time.Second)
			for range 2 {
				select {
				case term := <-read:
					if term != 3 {
						t.Errorf("the first bad answer is that of message %d", term)
					}
				case err := <-ended:
					if !errors.Is(err, errPipelineFailed) {
						t.Errorf("sending ended with %v", err)
					}
				case <-limit:
					t.Fatal("sender or reader is stuck")
				}
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
