package checks

import (
	"context"
	"time"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// task is one check that runs now and then. Its fields are under the runner's lock.
type task struct {
	r     *Runner
	owner owner
	check *record.Check // not changed
	// have is the status in the state, silent that it came without an output.
	have   command.Check_Status
	silent bool
	streak streak
	timer  *time.Timer
	ctx    context.Context // ends with the task
	cancel context.CancelFunc
}

// newTask makes a task whose timer runs; the lock is held.
func (r *Runner) newTask(o owner, c *record.Check, spread time.Duration) *task {
	t := &task{r: r, owner: o, check: c}
	t.is(c)
	t.ctx, t.cancel = context.WithCancel(r.ctx)
	t.timer = time.AfterFunc(jitter(min(spread, time.Duration(c.Interval))), t.fire)
	return t
}

// is takes what the state says of the check; the lock is held.
func (t *task) is(c *record.Check) {
	t.have, t.silent = command.Check_Status(c.Status), c.Output == ""
}

// end forgets the task; the lock is held. A run under way ends soon, and its result
// is dropped.
func (t *task) end() {
	t.cancel()
	t.timer.Stop()
}

// begin reports whether the task is still wanted, and if so, that Close waits for it.
func (t *task) begin() bool {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	if t.ctx.Err() != nil {
		return false
	}
	t.r.wg.Add(1)
	return true
}

// fire is one run, from the timer. The next is an interval after this one began.
func (t *task) fire() {
	if !t.begin() {
		return
	}
	defer t.r.wg.Done()
	next := time.Now().Add(time.Duration(t.check.Interval))
	res, ok := t.probe()
	if ok && !t.tell(res) {
		next = time.Now().Add(jitter(min(soon, time.Duration(t.check.Interval))))
	}
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	if t.ctx.Err() == nil {
		t.timer.Reset(max(time.Until(next), 0))
	}
}

// probe runs the check when it is its turn; false if the task ended first.
func (t *task) probe() (result, bool) {
	select {
	case t.r.run <- struct{}{}:
	case <-t.ctx.Done():
		return result{}, false
	}
	defer func() { <-t.r.run }()
	ctx, cancel := context.WithTimeout(t.ctx, time.Duration(t.check.Timeout))
	defer cancel()
	res := t.r.probe(ctx, t.check)
	if t.ctx.Err() != nil {
		return result{}, false
	}
	t.r.metrics.ran(res.status)
	return res, true
}

// tell judges a result and has a change of the status replicated, and also the first
// result that is as registered: until then nothing says why. False means that
// this was not possible: the check is then run again soon, and its status of then told.
func (t *task) tell(res result) bool {
	t.r.mu.Lock()
	t.streak.add(res.status)
	news := t.streak.flips(t.have, res.status, t.check.PassingAfter, t.check.CriticalAfter) ||
		t.silent && t.have == res.status && res.output != ""
	t.r.mu.Unlock()
	if !news {
		return true
	}
	select {
	case t.r.send <- struct{}{}:
	case <-t.ctx.Done():
		return true
	}
	defer func() { <-t.r.send }()
	answer, err := t.r.propose(t.ctx, t.update(res))
	switch {
	case t.ctx.Err() != nil:
		return true
	case err != nil:
		t.r.log.Warn("a change of a check could not be replicated and is tried again",
			"service", t.owner.service, "instance", t.owner.instance, "check", t.check.Id, "status", res.status, "error", err)
		return false
	case answer.Code != command.Result_OK:
		// Gone or registered anew: the state will tell.
		t.r.log.Debug("a result came too late", "check", t.check.Id, "answer", answer.Code)
		return true
	}
	return true // what the status is now, the state tells
}

func (t *task) update(res result) *command.CheckUpdate {
	u := &command.CheckUpdate{Id: t.check.Id, Status: res.status, Output: res.output, CreateIndex: t.check.CreateIndex}
	if t.owner.service == "" {
		u.Node = t.r.node.NodeID()
	} else {
		u.Service, u.Instance = t.owner.service, t.owner.instance
	}
	return u
}
