package config

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// minMemTable is the least memtable with which the largest log entry still fits one engine batch.
const minMemTable = 8 << 20

var nodeIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// check finds what is wrong with the values themselves and with their combination.
func (r *Result) check(p *problems) {
	say := func(key, msg string, args ...any) { p.add(r.sources[key], key, msg, args...) }
	r.checkHTTP(say)
	r.checkPersistence(say)
	r.checkDirs(say)
	r.checkEngine(say)
	r.checkRaftAddresses(say)
	r.checkCluster(say)
	r.checkPace(say)
	r.checkBackup(say)
	oneOf(say, "log.level", r.Log.Level, "trace", "debug", "info", "warn", "error")
	oneOf(say, "log.format", r.Log.Format, "text", "json")
}

type sayFunc func(key, msg string, args ...any)

func (r *Result) checkHTTP(say sayFunc) {
	if r.HTTP.Host == "" {
		say("http.host", "must not be empty; 0.0.0.0 listens on every address")
	}
	if r.HTTP.Port < 0 || r.HTTP.Port > 65535 {
		say("http.port", "%d is not a port (0 to 65535)", r.HTTP.Port)
	}
	if r.HTTP.AdvertiseAddr != "" {
		checkAdvertise(say, "http.advertise_addr", r.HTTP.AdvertiseAddr)
	} else if unspecified(r.HTTP.Host) && (len(r.Raft.Join) > 0 || r.Raft.BootstrapExpect != 1) {
		say("http.advertise_addr", "must be set when http.host is %s: other nodes need an address to reach this API", r.HTTP.Host)
	}
}

func (r *Result) checkPersistence(say sayFunc) {
	oneOf(say, "persistence.type", r.Persistence.Type, TypeBadger, TypeMemory)
	if r.Persistence.DataDir == "" {
		say("persistence.data_dir", "must not be empty")
	}
	if r.Persistence.BackupDir == "" {
		say("persistence.backup_dir", "must not be empty")
	}
	if d := r.Persistence.Maintenance; d != 0 && d < time.Second {
		say("persistence.maintenance_interval", "%v is too often; at least 1s, or 0 for never", d)
	}
	if !r.Persistence.WALEnabled && !r.InMemory() {
		say("persistence.wal_enabled", "cannot be false with type badger: the Raft log is the write-ahead log; to trade durability for speed set sync_writes to false")
	}
	if !r.InMemory() {
		return
	}
	key := "persistence.type"
	if !r.Persistence.Enabled {
		key = "persistence.enabled"
	}
	if len(r.Raft.Join) > 0 {
		say(key, "a node that keeps its data in memory cannot join a cluster (raft.join): a voter that forgets its log breaks the cluster's promise")
	}
	if r.Raft.BootstrapExpect > 1 {
		say(key, "a node that keeps its data in memory cannot be one of %d (raft.bootstrap_expect): a voter that forgets its log breaks the cluster's promise", r.Raft.BootstrapExpect)
	}
}

// minSchedule keeps a slip of the unit from filling the disk.
const minSchedule = time.Minute

func (r *Result) checkBackup(say sayFunc) {
	if s := r.Backup.Schedule; s < 0 || s > 0 && s < minSchedule {
		say("backup.schedule", "%v is too often; at least %v, or 0 for never", s, minSchedule)
	}
	if r.Backup.Keep < 0 {
		say("backup.keep", "must not be negative; 0 keeps all")
	}
	if !nodeIDPattern.MatchString(r.Backup.Node) {
		say("backup.node", "%q is not a node id; %s is for whichever node leads", r.Backup.Node, BackupByLeader)
	}
}

func (r *Result) checkEngine(say sayFunc) {
	b := r.Persistence.Badger
	// The engine's own bounds; it checks them too, but knows only its own names of them.
	within(say, "persistence.badger.memtable_size", b.MemTableSize, minMemTable, 1<<30)
	within(say, "persistence.badger.num_memtables", b.NumMemtables, 1, 64)
	within(say, "persistence.badger.l0_tables", b.L0Tables, 1, 64)
	within(say, "persistence.badger.vlog_size", b.VlogSize, 1<<20, 1<<30)
	within(say, "persistence.badger.prefetch_size", b.PrefetchCount, 0, 10000)
}

func (r *Result) checkRaftAddresses(say sayFunc) {
	host, port, err := splitAddr(r.Raft.BindAddr)
	if err != nil {
		say("raft.bind_addr", "%v", err)
		return
	}
	if r.Raft.AdvertiseAddr != "" {
		checkAdvertise(say, "raft.advertise_addr", r.Raft.AdvertiseAddr)
	} else if unspecified(host) {
		say("raft.advertise_addr", "must be set when raft.bind_addr is %s: other nodes cannot reach %s", r.Raft.BindAddr, host)
	}
	if port != 0 && strconv.Itoa(r.HTTP.Port) == strconv.Itoa(port) && (host == r.HTTP.Host || unspecified(host) || unspecified(r.HTTP.Host)) {
		say("raft.bind_addr", "%s is taken by the API (http.host, http.port)", r.Raft.BindAddr)
	}
}

func (r *Result) checkCluster(say sayFunc) {
	if r.Raft.NodeID != "" && !nodeIDPattern.MatchString(r.Raft.NodeID) {
		say("raft.node_id", "%q must be 1 to 128 of A-Z a-z 0-9 . _ -", r.Raft.NodeID)
	}
	for _, addr := range r.Raft.Join {
		if err := checkJoin(addr); err != nil {
			say("raft.join", "%v", err)
		}
	}
	expect := r.Raft.BootstrapExpect
	switch {
	case expect < 0:
		say("raft.bootstrap_expect", "%d must not be negative", expect)
	case expect > 1 && len(r.Raft.Join) == 0:
		say("raft.bootstrap_expect", "%d nodes can only find each other through raft.join", expect)
	case expect == 1 && len(r.Raft.Join) > 0:
		say("raft.bootstrap_expect", "1 together with raft.join would start a cluster of its own beside the one to join; leave it out to join, or set it to the number of new nodes")
	}
}

func (r *Result) checkPace(say sayFunc) {
	raft := r.Raft
	atLeast(say, "raft.snapshot_threshold", raft.SnapshotThreshold, 1)
	atLeast(say, "raft.trailing_logs", raft.TrailingLogs, 1)
	atLeast(say, "raft.snapshot_interval", raft.SnapshotInterval, 5*time.Millisecond)
	atLeast(say, "raft.heartbeat_timeout", raft.HeartbeatTimeout, 5*time.Millisecond)
	atLeast(say, "raft.leader_lease_timeout", raft.LeaderLeaseTimeout, 5*time.Millisecond)
	atLeast(say, "raft.commit_timeout", raft.CommitTimeout, time.Millisecond)
	within(say, "raft.max_append_entries", raft.MaxAppendEntries, 1, 1024)
	atLeast(say, "raft.snapshot_retention", raft.SnapshotRetention, 1)
	// Raft's own rules: a leader must give up before others may have elected the next one.
	if raft.ElectionTimeout < raft.HeartbeatTimeout {
		say("raft.election_timeout", "%v must not be less than raft.heartbeat_timeout (%v)", raft.ElectionTimeout, raft.HeartbeatTimeout)
	}
	if raft.LeaderLeaseTimeout > raft.HeartbeatTimeout {
		say("raft.leader_lease_timeout", "%v must not be more than raft.heartbeat_timeout (%v)", raft.LeaderLeaseTimeout, raft.HeartbeatTimeout)
	}
}

func oneOf(say sayFunc, key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		say(key, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
}

type number interface {
	~int | ~int64 | ~uint64
}

func atLeast[T number](say sayFunc, key string, value, least T) {
	if value < least {
		say(key, "%v is less than %v", value, least)
	}
}

func within[T number](say sayFunc, key string, value, least, most T) {
	atLeast(say, key, value, least)
	if value > most {
		say(key, "%v is more than %v", value, most)
	}
}

func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port", addr)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%q has no valid port (0 to 65535)", addr)
	}
	return host, port, nil
}

// checkAdvertise refuses addresses nobody can connect to.
func checkAdvertise(say sayFunc, key, addr string) {
	host, port, err := splitAddr(addr)
	switch {
	case err != nil:
		say(key, "%v", err)
	case unspecified(host):
		say(key, "%s is not an address others can connect to", addr)
	case port == 0:
		say(key, "%s needs a port other than 0", addr)
	}
}

// unspecified says whether a listener on host takes every address of the machine.
func unspecified(host string) bool {
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "" || ip != nil && ip.IsUnspecified()
}

// checkJoin takes host:port or an http URL without anything behind the port.
func checkJoin(addr string) error {
	hostport := addr
	if strings.Contains(addr, "://") {
		u, err := url.Parse(addr)
		if err != nil || u.Scheme != "http" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return fmt.Errorf("%q is not host:port or http://host:port", addr)
		}
		hostport = u.Host
	}
	host, port, err := splitAddr(hostport)
	if err != nil || host == "" || port == 0 {
		return fmt.Errorf("%q is not host:port or http://host:port", addr)
	}
	return nil
}
