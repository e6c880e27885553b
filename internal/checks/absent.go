package checks

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

const (
	// absentAfter: a node that has answered nothing to the leader for this long runs
	// no checks that anybody could believe.
	absentAfter = 30 * time.Second
	// absentEvery is how often the leader looks; that costs no read of the state.
	absentEvery = 5 * time.Second
)

// watchAbsent has this node, while it leads, set the checks of nodes that are gone to
// critical: who should run them cannot.
func (r *Runner) watchAbsent() {
	for {
		changed := r.node.LeaderChanges()
		if r.node.IsLeader() {
			r.lead()
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			return
		}
	}
}

// lead looks until this node leads no more. Services are read only when the nodes that are
// there are others than before, or one that was not there was heard of since: it may have
// come, said something, and gone again between two looks.
func (r *Runner) lead() {
	tick := time.NewTicker(r.absentEvery)
	defer tick.Stop()
	began, done := time.Now(), marked{}
	for r.node.IsLeader() {
		if there, err := r.present(time.Since(began)); err != nil {
			r.log.Warn("cannot see who is a member", "error", err)
		} else if key := strings.Join(there, "/"); key != done.there || r.heardSince(done) {
			now := time.Now()
			if absent, err := r.markAbsent(there); err == nil {
				done = marked{key, now, absent}
			} else if r.ctx.Err() == nil && r.node.IsLeader() {
				r.log.Warn("marking the checks of absent nodes failed and is tried again", "error", err)
			}
		}
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			return
		}
	}
}

// marked says for which members, and when, the checks of nodes that were absent were set to
// critical.
type marked struct {
	there  string
	at     time.Time
	absent []string
}

// heardSince says whether one of the absent nodes has answered since, or just before: what
// it said may have been on its way.
func (r *Runner) heardSince(m marked) bool {
	return slices.ContainsFunc(m.absent, func(id string) bool {
		silent, heard := r.node.PeerContact(id)
		return heard && silent < time.Since(m.at)+r.absentEvery
	})
}

// present are the members that this leader hears of, ordered. It needs some time in
// office to say that it does not.
func (r *Runner) present(inOffice time.Duration) ([]string, error) {
	servers, err := r.node.Servers()
	if err != nil {
		return nil, err
	}
	var there []string
	for _, s := range servers {
		silent, heard := r.node.PeerContact(s.ID)
		if s.ID == r.node.NodeID() || inOffice < r.absentAfter || (heard && silent < r.absentAfter) {
			there = append(there, s.ID)
		}
	}
	slices.Sort(there)
	return there, nil
}

// markAbsent sets every active check whose node is not there to critical, and returns the
// nodes. The first error is returned; the rest is done nevertheless.
func (r *Runner) markAbsent(there []string) (absent []string, err error) {
	updates, absent, err := r.orphans(there)
	if err != nil || len(updates) == 0 {
		return absent, err
	}
	r.log.Info("nodes that run checks are absent; their checks become critical", "checks", len(updates))
	var wg sync.WaitGroup
	errs := make(chan error, len(updates))
	for _, u := range updates {
		select {
		case r.send <- struct{}{}:
		case <-r.ctx.Done():
			return nil, r.ctx.Err()
		}
		wg.Go(func() {
			defer func() { <-r.send }()
			if _, err := r.propose(r.ctx, u); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	return absent, <-errs
}

// orphans are the updates for the active checks whose node is not there, if they are
// not critical already, and these nodes.
func (r *Runner) orphans(there []string) (out []*command.CheckUpdate, absent []string, err error) {
	view, err := r.node.DB().View()
	if err != nil {
		return nil, nil, err
	}
	defer view.Close()
	add := func(node string, u *command.CheckUpdate, c *record.Check) {
		if slices.Contains(there, node) || !active(c) {
			return
		}
		if !slices.Contains(absent, node) {
			absent = append(absent, node)
		}
		if command.Check_Status(c.Status) == command.Check_CRITICAL {
			return
		}
		u.Id, u.CreateIndex, u.Status = c.Id, c.CreateIndex, command.Check_CRITICAL
		u.Output = fmt.Sprintf("node %s, which runs this check, is no member, or has not been heard of for %s", node, r.absentAfter)
		out = append(out, u)
	}
	err = view.Services(func(in persistence.Instance) error {
		for _, c := range in.Checks {
			add(in.Node, &command.CheckUpdate{Service: in.Name, Instance: in.Id}, c)
		}
		return r.ctx.Err()
	})
	if err != nil {
		return nil, nil, err
	}
	err = view.NodeChecks("", func(node string, c *record.Check) error {
		add(node, &command.CheckUpdate{Node: node}, c)
		return nil
	})
	return out, absent, err
}
