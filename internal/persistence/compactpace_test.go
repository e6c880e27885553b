package persistence

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

func TestCompactionsTakeTurns(t *testing.T) {
	var published atomic.Uint64
	p := &compactionPace{published: &published}
	now := time.Unix(1, 0)
	took := 20 * time.Millisecond
	if rest := p.turn(now, took); rest != 0 {
		t.Errorf("without writes: %v", rest)
	}
	published.Add(1)
	for i := 1; i <= 3; i++ { // three parts at the same time
		if rest, want := p.turn(now, took), time.Duration(float64(i)*compactionRest*float64(took)); rest != want {
			t.Errorf("part %d rests %v, want %v", i, rest, want)
		}
	}
	if rest := p.turn(now, time.Hour); rest != maxCompactionRest {
		t.Errorf("a long one rests %v", rest)
	}
	if rest := p.turn(now.Add(quietCompaction+1), took); rest != 0 {
		t.Errorf("when nobody has written for a while: %v", rest)
	}
}

// With as many tables on level zero as make writes wait there is no time.
func TestCompactionsDoNotRestWhileWritesWait(t *testing.T) {
	for start := 1; start < 20; start++ {
		if slack, stall := compactionSlackOf(start), 3*start; slack >= stall {
			t.Errorf("%d tables start a compaction, %d make writes wait: rests below %d", start, stall, slack)
		}
	}
}

// Badger has no place for it, so it hangs on what Badger logs.
func TestCompactionsRest(t *testing.T) {
	db := openTest(t, Options{Dir: t.TempDir(), Badger: BadgerOptions{MemTableSize: minMemTableSize, NumLevelZeroTables: 3}})
	g, index := db.gen.Load(), uint64(0)
	for !hasTable(g, func(t badger.TableInfo) bool { return t.Level > 0 }) {
		index = fillMemtable(t, db, index)
	}
	g.pace.mu.Lock()
	rested := !g.pace.free.IsZero()
	g.pace.mu.Unlock()
	if !rested {
		t.Error("the compaction did not rest")
	}
	// While somebody reads everything it waits for the end of that.
	g.pace.scans.Add(1)
	put(t, db, index+1, "kv:key", "value")
	begin, done := time.Now(), make(chan struct{})
	go func() {
		g.pace.made(0, time.Microsecond)
		close(done)
	}()
	select {
	case <-done:
		if n := g.bdb.Levels()[0].NumTables; n < g.pace.slack {
			t.Errorf("it went on after %v, with %d tables on level zero", time.Since(begin), n)
		}
	case <-time.After(3 * scanPoll):
	}
	g.pace.scans.Add(-1)
	<-done
}
