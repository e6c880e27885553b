package raftstore

import (
	"errors"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are this node's own. Raft's go to a global registry of their own
// library, where two nodes in one process would share them and idle ones expire.
type metrics struct {
	reg prometheus.Registerer
	all []prometheus.Collector

	proposals     *prometheus.CounterVec
	rounds        *prometheus.CounterVec
	readers       prometheus.Counter
	roundTime     prometheus.Histogram
	appendTime    prometheus.Histogram
	appendEntries prometheus.Counter
	appendBytes   prometheus.Counter
	leaderChanges prometheus.Counter
	ticks         *prometheus.CounterVec
	expiryDelay   prometheus.Histogram
}

func newMetrics(s *Store) (*metrics, error) {
	m := &metrics{reg: s.cfg.Registerer}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "konsul", Subsystem: "raft", Name: name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "konsul", Subsystem: "raft", Name: name, Help: help}, []string{label})
		m.all = append(m.all, c)
		return c
	}
	histogram := func(name, help string) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "konsul", Subsystem: "raft", Name: name, Help: help,
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16)}) // 0.1 ms to 3.3 s
		m.all = append(m.all, h)
		return h
	}
	m.proposals = vec("proposals_total", "Writes asked of this node, by what became of them.", "outcome")
	m.rounds = vec("read_rounds_total", "Rounds that proved or asked for a read index.", "outcome")
	m.readers = counter("read_round_readers_total", "Readers served by read rounds.")
	m.roundTime = histogram("read_round_seconds", "How long a read round took.")
	m.appendTime = histogram("log_append_seconds", "How long an append to the log took, fsync included.")
	m.appendEntries = counter("log_appended_entries_total", "Entries appended to the log.")
	m.appendBytes = counter("log_appended_bytes_total", "Bytes of commands appended to the log.")
	m.leaderChanges = counter("leader_changes_total", "How often this node saw another leader than before.")
	m.ticks = vec("ticks_total", "Ticks this leader proposed to expire what is due, by what became of them.", "outcome")
	m.expiryDelay = histogram("expiry_delay_seconds", "On the leader: how long after the earliest deadline its tick was applied.")
	m.all = append(m.all, &stateCollector{s: s})
	if m.reg == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := m.reg.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister()
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}

func (m *metrics) proposed(err error) {
	label := "applied"
	switch {
	case err == nil:
	case errors.Is(err, ErrOutcomeUnknown):
		label = "unknown"
	case errors.Is(err, ErrOverloaded):
		label = "overloaded"
	default:
		label = "not_applied"
	}
	m.proposals.WithLabelValues(label).Inc()
}

func (m *metrics) round(readers int, took time.Duration, err error) {
	if err != nil {
		m.rounds.WithLabelValues("failed").Inc()
		return
	}
	m.rounds.WithLabelValues("ok").Inc()
	m.readers.Add(float64(readers))
	m.roundTime.Observe(took.Seconds())
}

func (m *metrics) appended(entries, bytes int, took time.Duration) {
	m.appendTime.Observe(took.Seconds())
	m.appendEntries.Add(float64(entries))
	m.appendBytes.Add(float64(bytes))
}

func (m *metrics) ticked(err error) {
	label := "applied"
	if err != nil {
		label = "failed"
	}
	m.ticks.WithLabelValues(label).Inc()
}

func (m *metrics) late(by time.Duration) { m.expiryDelay.Observe(by.Seconds()) }

func (m *metrics) leaderSeen(before, now leaderView) {
	if now.id != "" && now.id != before.id {
		m.leaderChanges.Inc()
	}
}

// stateCollector reads what raft knows when it is asked.
type stateCollector struct{ s *Store }

var stateDescs = struct {
	state, term, commit, applied, first, last, contact, peer, queue, free, snapshot, clock *prometheus.Desc
}{
	state:    desc("state", "1 for the state this node is in.", "state"),
	term:     desc("term", "The current term."),
	commit:   desc("commit_index", "The newest index known to be committed."),
	applied:  desc("applied_index", "The newest index visible to readers of this node."),
	first:    desc("log_first_index", "The first index in the log."),
	last:     desc("log_last_index", "The last index in the log."),
	contact:  desc("last_contact_seconds", "How long ago this node heard from a leader."),
	peer:     desc("peer_contact_seconds", "On the leader: age of the newest message a peer acknowledged.", "peer"),
	queue:    desc("proposals_in_flight", "Proposals on their way through raft."),
	free:     desc("disk_free_bytes", "Free space on the data directory's disk, as last measured."),
	snapshot: desc("snapshot_index", "The index of the newest durable snapshot."),
	clock: prometheus.NewDesc("konsul_cluster_time_seconds",
		"Cluster time, by which everything with a TTL expires; an estimate but on the leader.", nil, nil),
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("konsul_raft_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	d := &stateDescs
	for _, x := range []*prometheus.Desc{d.state, d.term, d.commit, d.applied, d.first, d.last, d.contact, d.peer, d.queue, d.free, d.snapshot, d.clock} {
		ch <- x
	}
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	s, d := c.s, &stateDescs
	select {
	case <-s.up:
	default:
		return // not open yet
	}
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	}
	now := s.State()
	for _, name := range []string{"leader", "follower", "candidate", "shutdown"} {
		v := 0.0
		if name == now {
			v = 1
		}
		gauge(d.state, v, name)
	}
	gauge(d.term, float64(s.Term()))
	gauge(d.commit, float64(s.CommitIndex()))
	gauge(d.applied, float64(s.AppliedIndex()))
	if first, err := s.logs.FirstIndex(); err == nil {
		gauge(d.first, float64(first))
	}
	gauge(d.last, float64(s.raft.LastIndex()))
	gauge(d.contact, max(s.LastContact(), 0).Seconds())
	gauge(d.queue, float64(s.gate.count.Load()))
	gauge(d.free, float64(s.disk.free.Load()))
	gauge(d.snapshot, float64(s.fsm.SnapshotIndex()))
	gauge(d.clock, time.Duration(s.ClusterTime()).Seconds())
	if s.raft.State() != raft.Leader {
		return
	}
	for _, id := range s.voters() {
		if age, ok := s.PeerContact(string(id)); ok {
			gauge(d.peer, age.Seconds(), string(id))
		}
	}
}
