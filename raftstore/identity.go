package raftstore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/neogan74/konsul/internal/statefile"
)

// The data directory's part that is ours:
//
//	LOCK          flock: one process at a time
//	node-id       this node's name, and a newline
//	incarnation   a random name of this directory, made with it; never changed
//	cluster.json  the cluster, and node id and incarnation once more, with a checksum
//	checkpoint.json  from where the next start goes on, see checkpoints
//	clean         present only after a clean shutdown
//	raft/         the log (raft-wal)
//	snapshots/    raft snapshots
const (
	lockFile        = "LOCK"
	nodeIDFile      = "node-id"
	incarnationFile = "incarnation"
	clusterFile     = "cluster.json"
	clusterFormat   = 1
	cleanFile       = "clean"
	raftDir         = "raft"
	snapshotDir     = "snapshots"
)

// clusterRecord is the content of cluster.json.
type clusterRecord struct {
	ClusterID string `json:"cluster_id"`
	// NodeID and Incarnation are what the files of their names have to say.
	NodeID      string `json:"node_id"`
	Incarnation string `json:"incarnation"`
	// Removed: this node knows that it was taken out of the cluster.
	Removed bool `json:"removed,omitempty"`
}

// identity is who this node is, on disk and in memory.
type identity struct {
	dir    string // "" = in memory
	nodeID string
	// incarnation tells this directory from any other that the same node id had
	// or will have: a member whose directory was lost must not be taken for itself.
	incarnation string

	mu  sync.RWMutex
	rec clusterRecord
}

// NodeID implements peer.Identity.
func (id *identity) NodeID() string { return id.nodeID }

// ClusterID implements peer.Identity.
func (id *identity) ClusterID() string {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.rec.ClusterID
}

func (id *identity) removed() bool {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.rec.Removed
}

// loadIdentity reads or makes the node id and reads cluster.json.
func loadIdentity(dir, configured string) (*identity, error) {
	id := &identity{dir: dir, nodeID: configured}
	if dir == "" {
		if id.nodeID == "" {
			id.nodeID = newID()
		}
		id.incarnation = newID()
		return id, nil
	}
	path := filepath.Join(dir, clusterFile)
	found, err := statefile.Read(path, clusterFormat, &id.rec)
	if errors.Is(err, statefile.ErrDamaged) {
		return nil, fmt.Errorf("%w: %w: %s", ErrDamaged, err, wayBack(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("reading cluster id: %w", err)
	}
	if found { // it was in a cluster, so the names are there, and these
		for file, want := range map[string]string{nodeIDFile: id.rec.NodeID, incarnationFile: id.rec.Incarnation} {
			if err := holds(filepath.Join(dir, file), want); err != nil {
				return nil, fmt.Errorf("%w: %w, by %s: put that there if you are sure, or else %s", ErrDamaged, err, path, wayBack(dir))
			}
		}
	}
	if err := id.loadNodeID(configured); err != nil {
		return nil, err
	}
	return id, id.loadIncarnation()
}

// holds says whether the file at path still has the name that was put there.
func holds(path, want string) error {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if have := strings.TrimSpace(string(b)); have != want {
		return fmt.Errorf("%s holds %q and should hold %q", path, have, want)
	}
	return nil
}

// NodeIDOf is the name of the node whose data directory dir is, also if one of the
// files that tell it is damaged, or MoveAside has moved them and did not end.
func NodeIDOf(dir string) (string, error) {
	id, err := nodeIDIn(dir)
	if err == nil {
		return id, nil
	}
	moving, merr := movingDir(dir)
	if merr != nil || moving == "" {
		return "", errors.Join(err, merr)
	}
	return nodeIDIn(moving)
}

func nodeIDIn(dir string) (string, error) {
	var rec clusterRecord
	if found, err := statefile.Read(filepath.Join(dir, clusterFile), clusterFormat, &rec); err == nil && found {
		return rec.NodeID, nil
	}
	b, err := os.ReadFile(filepath.Join(dir, nodeIDFile))
	if err != nil {
		return "", fmt.Errorf("reading node id: %w", err)
	}
	if id := strings.TrimSpace(string(b)); validID(id) {
		return id, nil
	}
	return "", fmt.Errorf("%w: %s does not hold a node id", ErrDamaged, filepath.Join(dir, nodeIDFile))
}

// ClusterIDOf is the cluster that the node whose data directory dir is belongs to, also
// if MoveAside did not end; "" if it is in none, or the file that tells it cannot be read.
func ClusterIDOf(dir string) string {
	places := []string{dir}
	if moving, err := movingDir(dir); err == nil && moving != "" {
		places = append(places, moving)
	}
	for _, place := range places {
		var rec clusterRecord
		if found, err := statefile.Read(filepath.Join(place, clusterFile), clusterFormat, &rec); err == nil && found {
			return rec.ClusterID
		}
	}
	return ""
}

func (id *identity) loadNodeID(configured string) error {
	path := filepath.Join(id.dir, nodeIDFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading node id: %w", err)
	}
	kept := strings.TrimSpace(string(b))
	switch {
	case kept != "" && !validID(kept):
		return fmt.Errorf("%w: %s does not hold a node id, but %q", ErrDamaged, path, kept)
	case kept == "" && configured == "":
		if err := id.mustBeNew(path); err != nil {
			return err
		}
		id.nodeID = newID()
	case kept == "":
	case configured == "" || configured == kept:
		id.nodeID = kept
		return nil
	default:
		return fmt.Errorf("%w: the configured node id is %q, but %s belongs to node %q: remove the setting, or "+
			"use another data directory for node %q", ErrBadConfig, configured, id.dir, kept, configured)
	}
	return writeDurably(path, []byte(id.nodeID+"\n"))
}

// mustBeNew refuses to make up a name for a node that had one: its cluster would
// not know it, and it would wait for ever.
func (id *identity) mustBeNew(path string) error {
	_, err := os.Stat(filepath.Join(id.dir, clusterFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading cluster id: %w", err)
	}
	return fmt.Errorf("%w: %s is missing or empty, but this node was in a cluster: configure the node id it had there, "+
		"or move %s away and join again as a new node", ErrDamaged, path, id.dir)
}

// validID: 1 to 128 of A-Z a-z 0-9 . _ -, as in the configuration.
func validID(id string) bool {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
	}
	return id != "" && len(id) <= 128 && !strings.ContainsFunc(id, func(r rune) bool { return !plain(r) })
}

// confirm holds cluster.json against the cluster that the newest snapshot is of;
// a cluster.json that is lost is made again from it.
func (id *identity) confirm(clusterID string) error {
	have := id.ClusterID()
	switch {
	case clusterID == "" || have == clusterID:
		return nil
	case have == "":
		return id.setCluster(clusterID)
	}
	return fmt.Errorf("%w: %s says cluster %s, but the data is of cluster %s",
		ErrDamaged, filepath.Join(id.dir, clusterFile), have, clusterID)
}

// loadIncarnation reads the directory's own name; a directory that has none, being
// new or of a version before there were any, gets one.
func (id *identity) loadIncarnation() error {
	path := filepath.Join(id.dir, incarnationFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading incarnation: %w", err)
	}
	if id.incarnation = strings.TrimSpace(string(b)); id.incarnation != "" {
		return nil
	}
	id.incarnation = newID()
	return writeDurably(path, []byte(id.incarnation+"\n"))
}

// setCluster records that this node belongs to a cluster; it is durable on
// return. Another cluster than the recorded one is refused.
func (id *identity) setCluster(clusterID string) error {
	if clusterID == "" || len(clusterID) > 255 {
		return fmt.Errorf("%w: cluster id must have 1 to 255 bytes", ErrBadConfig)
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	if have := id.rec.ClusterID; have != "" && have != clusterID {
		return fmt.Errorf("%w: this node is in %s, not in %s", ErrWrongCluster, have, clusterID)
	}
	rec := id.rec
	rec.ClusterID = clusterID
	return id.storeLocked(rec)
}

// setRemoved records whether this node was taken out of the cluster.
func (id *identity) setRemoved(removed bool) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.rec.Removed == removed {
		return nil
	}
	rec := id.rec
	rec.Removed = removed
	return id.storeLocked(rec)
}

func (id *identity) storeLocked(rec clusterRecord) error {
	if rec == id.rec {
		return nil
	}
	rec.NodeID, rec.Incarnation = id.nodeID, id.incarnation
	if id.dir != "" {
		if err := statefile.Write(filepath.Join(id.dir, clusterFile), clusterFormat, rec); err != nil {
			return err
		}
	}
	id.rec = rec
	return nil
}

// dirLock keeps other processes out of the data directory.
type dirLock struct{ f *os.File }

func lockDir(dir string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: another Konsul is running on %s", ErrLocked, dir)
		}
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return &dirLock{f}, nil
}

// LockDataDir keeps nodes, this process's own included, off a data directory until
// release is called. ErrLocked if one is running on it.
func LockDataDir(dir string) (release func(), err error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("locking data directory: %w", err)
	}
	l, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	return func() { _ = l.release() }, nil
}

func (l *dirLock) release() error {
	if l == nil {
		return nil
	}
	return l.f.Close()
}

// takeClean reports whether the last shutdown was clean, and forgets it: from
// now on this run has to end cleanly again.
func takeClean(dir string) (bool, error) {
	err := os.Remove(filepath.Join(dir, cleanFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("removing the mark of a clean shutdown: %w", err)
	}
	return true, syncDir(dir)
}

func markClean(dir string) error {
	return writeDurably(filepath.Join(dir, cleanFile), []byte("1\n"))
}

// writeDurably replaces a file atomically; it is on disk on return.
func writeDurably(path string, b []byte) error {
	if err := statefile.Replace(path, b); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}

func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
