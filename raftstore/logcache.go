package raftstore

import (
	"sync"

	"github.com/hashicorp/raft"
)

const (
	cacheEntries = 8192
	cacheBytes   = 32 << 20
)

// logCache keeps the newest entries in memory, for replication and for the
// state machine. Unlike raft.LogCache it is bounded in bytes too: 8192 values
// of 512 KiB would be 4 GiB.
type logCache struct {
	mu    sync.RWMutex
	ring  [cacheEntries]raft.Log // copies: raft's own are parts of futures, with their answers
	low   uint64                 // lowest index held; low > high means empty
	high  uint64
	bytes int
}

func newLogCache() *logCache { return &logCache{low: 1} }

func (c *logCache) get(index uint64, into *raft.Log) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if index < c.low || index > c.high {
		return false
	}
	*into = c.ring[index%cacheEntries]
	return true
}

// kind is the type of an entry, without copying it.
func (c *logCache) kind(index uint64) (raft.LogType, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if index < c.low || index > c.high {
		return 0, false
	}
	return c.ring[index%cacheEntries].Type, true
}

// add appends entries that are in the store. They follow each other.
func (c *logCache) add(logs []*raft.Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range logs {
		if l.Index != c.high+1 || c.low > c.high {
			c.resetLocked()
			c.low, c.high = l.Index, l.Index-1
		}
		if c.high-c.low+1 == cacheEntries {
			c.dropLocked()
		}
		c.high = l.Index
		c.ring[l.Index%cacheEntries] = *l
		c.bytes += cost(l)
		for c.bytes > cacheBytes && c.low < c.high {
			c.dropLocked()
		}
	}
}

// truncate forgets the entries from min to max, which leave the store.
func (c *logCache) truncate(from, to uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.low > c.high || to < c.low || from > c.high {
		return
	}
	if from > c.low {
		for c.high >= from { // the end goes: a conflicting suffix
			slot := &c.ring[c.high%cacheEntries]
			c.bytes -= cost(slot)
			*slot = raft.Log{}
			c.high--
		}
		return
	}
	for c.low <= to && c.low <= c.high {
		c.dropLocked()
	}
}

func (c *logCache) dropLocked() {
	slot := &c.ring[c.low%cacheEntries]
	c.bytes -= cost(slot)
	*slot = raft.Log{}
	c.low++
}

func (c *logCache) resetLocked() {
	for c.low <= c.high {
		c.dropLocked()
	}
	c.bytes = 0
}

func cost(l *raft.Log) int { return len(l.Data) + len(l.Extensions) + 128 }
