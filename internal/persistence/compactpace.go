package persistence

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// compactionPace makes compactions give way to writes. Badger does one in up to five parts
// at once, each of which makes tables as fast as it can: on few processors nothing else
// runs for a second or more, several times a minute, and every write waits. So while there
// are writes the parts take turns, and rest after each table; until level zero fills up, for
// it does not get smaller before the compaction ends, and writes would wait for that. While
// Flatten is at work, which goes through the whole engine, nothing else makes it smaller.
type compactionPace struct {
	bdb       atomic.Pointer[badger.DB] // nil until it is open
	published *atomic.Uint64
	closing   <-chan struct{}
	// scans are the readings of the whole state under way. They take what writes leave, so
	// compactions wait for their end, as long as there is time.
	scans atomic.Int32
	// slack is below how many tables on level zero there is time.
	slack int

	mu    sync.Mutex
	seen  uint64    // what was published when it was looked at last
	wrote time.Time // when that was other than before
	free  time.Time // when the rests that were given out end
}

const (
	// compactionRest is how long is rested after a table, by how long it took.
	compactionRest = 2.0
	// quietCompaction is after how long without writes nobody is in the way.
	quietCompaction = time.Second
	// maxCompactionRest bounds what one part waits for its turn.
	maxCompactionRest = time.Second
	// scanPoll is how often it is looked whether a scan has ended.
	scanPoll = 100 * time.Millisecond
	// compactionSlack is how many tables more than start a compaction leave it time.
	compactionSlack = 3
	// flattener is the number of Flatten's compactor, and flattenSlack its slack.
	flattener    = 175
	flattenSlack = 3
)

// compactionSlackOf is the slack of an engine in which start tables on level zero start a
// compaction: less than three times as many, with which writes wait.
func compactionSlackOf(start int) int { return min(start+compactionSlack, 3*start-1) }

// made is called when a part of a compaction, of a compactor, has gone through what makes
// one table.
func (p *compactionPace) made(compactor int, took time.Duration) {
	slack := p.slack
	if compactor == flattener {
		slack = flattenSlack
	}
	bdb := p.bdb.Load()
	if bdb == nil {
		return
	}
	rest := p.turn(time.Now(), took)
	for rest > 0 && bdb.Levels()[0].NumTables < slack {
		t := time.NewTimer(rest)
		select {
		case <-t.C:
		case <-p.closing:
			t.Stop()
			return
		}
		if rest = 0; p.scans.Load() > 0 && p.busy(time.Now()) {
			rest = scanPoll
		}
	}
}

// busy says whether there are writes to give way to.
func (p *compactionPace) busy(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if published := p.published.Load(); published != p.seen {
		p.seen, p.wrote = published, now
	}
	return now.Sub(p.wrote) <= quietCompaction
}

// turn is how long to rest from now on.
func (p *compactionPace) turn(now time.Time, took time.Duration) time.Duration {
	if !p.busy(now) {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(took) * compactionRest))
	if latest := now.Add(maxCompactionRest); p.free.After(latest) {
		p.free = latest
	}
	return p.free.Sub(now)
}
