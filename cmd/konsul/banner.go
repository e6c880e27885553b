package main

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

// announceStart logs what is known before anything is opened.
func (n *node) announceStart() {
	n.log.Info("konsul is starting", "version", programVersion(), "go", runtime.Version(), "pid", os.Getpid())
	if n.cfg.InMemory() {
		n.log.Warn("everything is in memory and gone when this node stops (persistence.enabled, persistence.type)")
	} else if !n.cfg.Persistence.SyncWrites {
		n.log.Warn("sync_writes is off: a power cut can lose acknowledged writes (persistence.sync_writes)")
	}
	if n.cfg.BackupsWithData() {
		n.log.Warn("backups are kept in the data directory: what happens to that happens to them, and `konsul cluster reset` moves them aside (persistence.backup_dir)")
	}
	if free, need := n.cfg.Persistence.MinFreeSpace, n.cfg.Headroom(); !n.cfg.InMemory() && free > 0 && free < need {
		n.log.Warn("min_free_space is less than the engine needs with this tuning: on a full disk writes may be taken that then wait (persistence.min_free_space)",
			"min_free_space", free.String(), "needed", need.String())
	}
}

// announceNode logs who and where the node is, once its data directory has told.
func (n *node) announceNode() {
	n.log.Info("addresses", "api", n.apiAddr(), "api_advertised", n.advertisedAPI(),
		"raft", n.cfg.Raft.BindAddr, "raft_advertised", n.store.Addr())
	clusterID := n.store.ClusterID()
	if clusterID == "" {
		clusterID = "none yet"
	}
	n.log.Info("node", "id", n.store.NodeID(), "cluster_id", clusterID, "bootstrap_expect", n.cfg.Raft.BootstrapExpect,
		"join", slices.Concat([]string{}, n.cfg.Raft.Join))
	n.log.Info("storage", "data_dir", n.dataDir(), "durability", n.durability(), "encrypted", n.cfg.Persistence.Encryption.KeyFile != "")
}

func (n *node) dataDir() string {
	if n.cfg.InMemory() {
		return "none"
	}
	dir, err := filepath.Abs(n.cfg.Persistence.DataDir)
	if err != nil {
		return n.cfg.Persistence.DataDir
	}
	return dir
}

// durability says in words what an acknowledged write survives.
func (n *node) durability() string {
	switch {
	case n.cfg.InMemory():
		return "none: memory only"
	case n.cfg.Persistence.SyncWrites:
		return "fsync before a write is acknowledged"
	default:
		return "no fsync: survives a crash of the process, not a power cut"
	}
}
