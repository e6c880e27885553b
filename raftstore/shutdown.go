package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// raftStopTimeout bounds the wait for raft's goroutines: one that hangs in a
// broken disk must not keep the process.
const raftStopTimeout = 10 * time.Second

// Shutdown stops the node: no new work, leadership handed over, the transport,
// raft, the state machine and the files closed, in that order. It returns when
// all is down, or says what would not stop. The data directory is then free, and
// marked as cleanly left if nothing failed. Later calls wait for the first and
// return its result. ctx bounds only the polite part.
func (s *Store) Shutdown(ctx context.Context) error {
	s.closeOnce.Do(func() {
		s.shutErr = s.shutdown(ctx)
		close(s.shutDone)
	})
	<-s.shutDone
	return s.shutErr
}

// Close is Shutdown with a default bound.
func (s *Store) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.RequestTimeout)
	defer cancel()
	return s.Shutdown(ctx)
}

func (s *Store) shutdown(ctx context.Context) error {
	close(s.closing)      // 1. new requests are refused; those under way go on
	s.handOver(ctx)       // 2. so that the others need not wait for an election
	s.drain(ctx)          // 3. raft forgets futures that are queued when it stops
	s.fsm.StopSnapshots() // 4. raft would wait for one to be written
	errs := []error{s.disconnect()}
	errs = append(errs, s.stopRaft())
	close(s.stop)
	errs = append(errs, s.stopOwn())
	if !s.cfg.InMemory && errors.Join(errs...) == nil {
		// So that the next start has nothing to apply again.
		if err := s.points.take(); err != nil {
			s.log.Warn("no checkpoint was taken; the next start takes longer", "error", err)
		}
	}
	if m := s.logs.detach(); m != nil && errors.Join(errs...) == nil {
		errs = append(errs, m.leave())
	} else if m != nil {
		errs = append(errs, m.close())
	}
	errs = append(errs, s.fsm.Close(), s.db.Close(), s.logs.Close())
	s.metrics.unregister()
	err := errors.Join(errs...)
	if err == nil && !s.cfg.InMemory {
		err = markClean(s.cfg.DataDir)
	}
	return errors.Join(err, s.lock.release())
}

// handOver gives leadership to another voter if this node leads.
func (s *Store) handOver(ctx context.Context) {
	if s.raft.State() != raft.Leader || len(s.voters()) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*s.cfg.Election)
	defer cancel()
	if err := await(ctx, s.raft.LeadershipTransfer()); err != nil {
		s.log.Warn("handing over leadership before stopping failed", "error", err)
	}
}

// drain waits for proposals and read rounds under way. They end by themselves:
// applied, or with the leadership, which is lost when no majority answers.
func (s *Store) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 4*(s.cfg.LeaderLease+s.cfg.Heartbeat))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.gate.count.Load() > 0 || s.reads.busy() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) disconnect() error {
	s.client.Close()
	if s.trans == nil {
		return nil
	}
	return errors.Join(s.trans.Close(), s.streams.Close())
}

func (s *Store) stopRaft() error {
	done := make(chan error, 1)
	go func() { done <- s.raft.Shutdown().Error() }()
	select {
	case err := <-done:
		return err
	case <-time.After(raftStopTimeout):
		return fmt.Errorf("stopping raft: not done after %s", raftStopTimeout)
	}
}

// stopOwn waits for this package's goroutines.
func (s *Store) stopOwn() error {
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(raftStopTimeout):
		return fmt.Errorf("stopping the node: a request under way does not end")
	}
}
