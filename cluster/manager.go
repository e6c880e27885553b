// Package cluster makes nodes a cluster: who forms it, who joins and leaves,
// who may vote, where everybody is reached, and how an operation that only the
// leader can do gets there. See DESIGN.md.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/internal/statefile"
	"github.com/neogan74/konsul/raftstore"
)

// caller asks other nodes; *peer.Client.
type caller interface {
	Call(ctx context.Context, addr string, method uint16, body []byte) ([]byte, error)
}

// Manager is one node's membership. Its methods may be called at any time and
// from any goroutine; Run does the work that nobody asks for.
type Manager struct {
	cfg   Config
	log   hclog.Logger
	time  timing
	store Store
	peers caller
	http  *httpClient
	votes *votes
	said  *progress
	// members reads the member records, by id.
	members func() (map[string]*record.Member, error)

	// broken is what New found wrong.
	broken error
	// opMu makes changes of membership by this node, as leader, one at a time.
	opMu sync.Mutex
	// changed has something when a change has left the leader duties, maybe.
	changed chan struct{}
	// formMu makes taking over a cluster id one at a time.
	formMu sync.Mutex
	// made is when the manager was.
	made    time.Time
	trouble trouble

	// Of Run's first part alone: since when this node could propose, and the
	// highest round another proposer used.
	turnSince time.Time
	highest   uint64
}

// New makes a node's manager and registers its methods with the store's peer
// server. What is wrong with cfg or with cluster-state.json, Run returns.
func New(cfg Config, store *raftstore.Store) *Manager {
	m := newManager(cfg, store, store.PeerClient())
	m.register(store.PeerServer())
	return m
}

func newManager(cfg Config, store Store, peers caller) *Manager {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.NodeID == "" {
		cfg.NodeID = store.NodeID()
	}
	cfg.Join = cleanList(cfg.Join)
	log := cfg.Logger.Named("cluster")
	m := &Manager{cfg: cfg, log: log, time: defaultTiming(), store: store, peers: peers, http: newHTTPClient(cfg.HTTP), changed: make(chan struct{}, 1), made: time.Now()}
	m.said = newProgress(log, m.time.repeat)
	m.members = func() (map[string]*record.Member, error) { return memberRecords(store) }
	m.votes, m.broken = openVotes(cfg.DataDir)
	if errors.Is(m.broken, statefile.ErrDamaged) && store.HasState() {
		// What it said while the cluster was agreed on does not matter to a node that is in it.
		log.Warn("a damaged file is made anew: this node is in its cluster already", "error", m.broken)
		m.broken = nil
	}
	for _, a := range cfg.Join {
		if _, err := baseURL(a); err != nil && m.broken == nil {
			m.broken = err
		}
	}
	return m
}

func cleanList(in []string) []string {
	var out []string
	for _, a := range in {
		if a = strings.TrimSpace(a); a != "" {
			out = append(out, a)
		}
	}
	return out
}

// Run brings the node into a cluster and keeps it there until ctx ends. It
// returns nil then, and an error only if the node can never work as it is. A
// removed node keeps running, so that it can say what it is; see Removed.
func (m *Manager) Run(ctx context.Context) error {
	if m.broken != nil {
		return m.broken
	}
	work, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { m.duties(work) })
	if err := m.enter(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	wg.Go(func() { m.watchPlace(work) })
	m.watchOwn(ctx)
	return nil
}

// Joined says whether this node is in its cluster's configuration, as far as
// it knows, and was not removed.
func (m *Manager) Joined() bool {
	if m.store.Removed() || !m.store.HasState() {
		return false
	}
	servers, err := m.store.Servers()
	if err != nil {
		return false
	}
	self, _ := find(servers, m.cfg.NodeID, "")
	return self != nil
}

// Removed says whether this node was removed from its cluster.
func (m *Manager) Removed() bool { return m.store.Removed() }

// markRemoved stops serving; durable when it returns.
func (m *Manager) markRemoved() error {
	if m.store.Removed() {
		return nil
	}
	if err := m.store.MarkRemoved(); err != nil {
		return fmt.Errorf("recording the removal: %w", err)
	}
	m.sayRemoved()
	return nil
}

func (m *Manager) sayRemoved() {
	m.said.say(hclog.Error, "removed", m.removedError().Error())
}

func (m *Manager) removedError() error {
	return fmt.Errorf("this node was removed from cluster %s and serves no more; to let it join again, stop it, clear its data directory %s and start it: %w",
		m.store.ClusterID(), m.cfg.DataDir, raftstore.ErrRemoved)
}
