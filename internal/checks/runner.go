// Package checks runs the HTTP and TCP checks of the services that are registered
// on this node, and of the node itself, and has changes of their status replicated.
// DESIGN.md explains how.
package checks

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/raftstore"
)

// Node is what the runner needs of the node it runs on; a *raftstore.Store is one.
type Node interface {
	NodeID() string
	FSM() *fsm.FSM
	DB() *persistence.DB
	// Ready is nil when the node has everything that was committed when it was asked.
	Ready(ctx context.Context) error
	IsLeader() bool
	LeaderChanges() <-chan struct{}
	Servers() ([]raftstore.Server, error)
	// PeerContact is, on the leader, how long ago a peer was last heard of.
	PeerContact(id string) (time.Duration, bool)
	// Apply has a command replicated.
	Apply(ctx context.Context, t command.Type, m proto.Message, idempotencyKey string) (*command.Result, error)
}

const (
	// atOnce is how many checks run at the same time; the others wait.
	atOnce = 64
	// proposals is how many changes of a status are on their way at the same time.
	proposals = 16
	// proposalTime bounds the wait for one.
	proposalTime = 10 * time.Second
	// soon is when the first run of a check that was just registered is at the
	// latest, and when one is run again whose change could not be replicated.
	soon = time.Second
)

// Runner runs checks from Start to Close.
type Runner struct {
	node  Node
	log   hclog.Logger
	probe func(ctx context.Context, c *record.Check) result

	metrics *metrics
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	run     chan struct{} // a token for each check that runs
	send    chan struct{} // and for each proposal

	absentAfter, absentEvery time.Duration // the constants, but for tests

	mu     sync.Mutex
	closed bool
	tasks  map[owner]map[string]*task // by the id of the check
}

// owner is whose checks they are: those of a service instance, or this node's.
type owner struct{ service, instance string }

// Start begins to follow the state, as soon as the node is ready, and to run what it
// says. Metrics are registered with reg, nil for none.
func Start(node Node, log hclog.Logger, reg prometheus.Registerer) (*Runner, error) {
	r := newRunner(node, log, newProber().run)
	var err error
	if r.metrics, err = newMetrics(r, reg); err != nil {
		return nil, err
	}
	r.start()
	return r, nil
}

func (r *Runner) start() {
	r.wg.Go(r.follow)
	r.wg.Go(r.watchAbsent)
}

func newRunner(node Node, log hclog.Logger, probe func(context.Context, *record.Check) result) *Runner {
	r := &Runner{node: node, log: log.Named("checks"), probe: probe,
		run: make(chan struct{}, atOnce), send: make(chan struct{}, proposals), tasks: make(map[owner]map[string]*task),
		absentAfter: absentAfter, absentEvery: absentEvery}
	r.metrics, _ = newMetrics(r, nil)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Close stops all checks and returns when nothing of them is left. To be called
// before the node is closed.
func (r *Runner) Close() {
	r.mu.Lock()
	r.closed = true
	for _, tasks := range r.tasks {
		for _, t := range tasks {
			t.end()
		}
	}
	r.tasks = nil
	r.mu.Unlock()
	r.cancel()
	r.wg.Wait()
	r.metrics.unregister()
}

// Count is how many checks this node runs.
func (r *Runner) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, tasks := range r.tasks {
		n += len(tasks)
	}
	return n
}

// active says whether a check is one that nodes run.
func active(c *record.Check) bool {
	kind := command.Check_Kind(c.Kind)
	return kind == command.Check_HTTP || kind == command.Check_TCP
}

// set makes the checks of o what the state says; the first run of a new one is at
// a random time within spread, if its interval is not shorter.
func (r *Runner) set(o owner, list []*record.Check, spread time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	have := r.tasks[o]
	next := make(map[string]*task, len(list))
	for _, c := range list {
		if !active(c) {
			continue
		}
		t := have[c.Id]
		if t != nil && sameCheck(t.check, c) {
			delete(have, c.Id)
			t.is(c)
		} else {
			t = r.newTask(o, c, spread)
		}
		next[c.Id] = t
	}
	for _, t := range have {
		t.end()
	}
	if len(next) == 0 {
		delete(r.tasks, o)
		return
	}
	r.tasks[o] = next
}

// keep ends the checks of all owners that are not in known.
func (r *Runner) keep(known map[owner]bool) {
	r.mu.Lock()
	var gone []owner
	for o := range r.tasks {
		if !known[o] {
			gone = append(gone, o)
		}
	}
	r.mu.Unlock()
	for _, o := range gone {
		r.set(o, nil, 0)
	}
}

// sameCheck says whether a check goes on as the one that runs.
func sameCheck(a, b *record.Check) bool {
	return a.CreateIndex == b.CreateIndex && a.Kind == b.Kind && a.Target == b.Target && a.Interval == b.Interval &&
		a.Timeout == b.Timeout && a.PassingAfter == b.PassingAfter && a.CriticalAfter == b.CriticalAfter
}

// propose has a result replicated.
func (r *Runner) propose(ctx context.Context, u *command.CheckUpdate) (*command.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, proposalTime)
	defer cancel()
	return r.node.Apply(ctx, command.Type_TYPE_CHECK_UPDATE, u, "")
}

func jitter(within time.Duration) time.Duration {
	if within <= 0 {
		return 0
	}
	return rand.N(within)
}
