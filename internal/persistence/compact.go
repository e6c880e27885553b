package persistence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/neogan74/konsul/internal/failpoint"
)

// Maintained says what a compaction or a garbage collection came to.
type Maintained struct {
	Before, After Usage
	Took          time.Duration
}

// gcRatio is the share of garbage from which a value log file is rewritten.
const gcRatio = 0.5

// CollectGarbage rewrites value log files that are mostly garbage. Ours are empty, see
// MaxRecordLen, so it has nothing to do but in an engine that another program wrote.
// When ctx ends, it goes on by itself and CollectGarbage returns ctx's error.
// Any goroutine may call it. Errors: ErrMaintaining, ErrClosed.
func (db *DB) CollectGarbage(ctx context.Context) (Maintained, error) {
	return db.maintain(ctx, opGC, func(ctx context.Context, g *generation) error {
		if g.dir == "" {
			return nil
		}
		for {
			failpoint.Hit("gc.before-file")
			err := g.bdb.RunValueLogGC(gcRatio)
			failpoint.Hit("gc.after-file")
			if errors.Is(err, badger.ErrNoRewrite) {
				return nil
			}
			if err == nil {
				err = db.interrupted(ctx)
			}
			if err != nil {
				return err
			}
		}
	})
}

// Compact rewrites the engine's tables into one level, without what is older than the
// history. Reads and writes go on; it costs reading and writing the whole engine once,
// and needs as much free disk as the tables take. Under heavy writes it takes until they
// pause. When ctx ends, it goes on by itself and Compact returns ctx's error.
// Any goroutine may call it. Errors: ErrMaintaining, ErrNoSpace, ErrClosed.
func (db *DB) Compact(ctx context.Context) (Maintained, error) {
	return db.maintain(ctx, opCompact, db.compact)
}

// maintain runs work, one at a time, in a goroutine that outlives ctx if it must: only the
// end of the engine ends it.
func (db *DB) maintain(ctx context.Context, op string, work func(context.Context, *generation) error) (m Maintained, err error) {
	select {
	case db.compacting <- struct{}{}:
	default:
		return m, ErrMaintaining
	}
	g, err := db.acquire()
	if err != nil {
		<-db.compacting
		return m, err
	}
	begin := time.Now()
	if m.Before, err = g.usage(); err != nil {
		g.release()
		<-db.compacting
		return m, err
	}
	done := make(chan error, 1)
	go func() {
		err := work(context.WithoutCancel(ctx), g)
		db.metrics.observe(op, begin, err)
		<-db.compacting
		g.release()
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		return m, ctx.Err()
	}
	m.Took = time.Since(begin)
	if err != nil {
		return m, err
	}
	m.After, err = db.Usage()
	return m, err
}

func (db *DB) compact(ctx context.Context, g *generation) error {
	if snapshot := db.newestSnapshot.Load(); snapshot > 0 {
		db.AdvanceFloor(snapshot)
	}
	if err := db.roomToCompact(g); err != nil {
		return fmt.Errorf("compacting: %w", err)
	}
	failpoint.Hit("compact.after-floor")
	before := db.written.versions.Load()
	// In a young engine the first round only brings all tables below level zero; see discard.
	for range 2 {
		all, err := db.flatten(ctx, g)
		if err != nil {
			return fmt.Errorf("compacting: %w", err)
		}
		if all {
			break
		}
	}
	if err := g.sound(); err != nil {
		return fmt.Errorf("compacting: %w", err)
	}
	_, versions := g.stored()
	counts := db.Counts()
	kept := int64(counts.Keys+counts.Services) + db.historyVersions(g) + db.written.versions.Load() - before
	db.others.Store(max(versions-kept, 0))
	return nil
}

// flatten brings all tables into one level, and says whether it has dropped all that it may.
func (db *DB) flatten(ctx context.Context, g *generation) (all bool, err error) {
	floor, flushed := g.floor.Load(), uint64(0)
	if floor > 0 {
		done, err := db.touch(ctx, g, floor)
		if err != nil {
			return false, err
		}
		if done {
			flushed = floor
		}
	}
	failpoint.Hit("compact.after-touch")
	db.floorMu.Lock()
	all = g.discard(flushed)
	db.floorMu.Unlock()
	if g.superseded.Load() {
		return false, errSuperseded
	}
	if err := g.bdb.Flatten(1); err != nil {
		return false, err
	}
	failpoint.Hit("compact.after-flatten")
	return all, nil
}

// roomToCompact: tables are written through memory maps, where a full disk is a SIGBUS.
func (db *DB) roomToCompact(g *generation) error {
	if g.dir == "" {
		return nil
	}
	free, err := freeBytes(g.dir)
	if err != nil {
		return err
	}
	used, err := g.usage()
	if err != nil {
		return err
	}
	if need := used.SST + db.opts.Badger.Headroom(); free < need {
		return fmt.Errorf("%w: %s has %d bytes left, a compaction needs %d", ErrNoSpace, g.dir, free, need)
	}
	return nil
}

// historyVersions is about how many versions the history may hold.
func (db *DB) historyVersions(g *generation) int64 {
	s, known := db.ages.since(g.floor.Load())
	if !known {
		return 0
	}
	return db.written.versions.Load() - s.versions
}

// The rule of scheduled compactions: garbage is more than a quarter of what is alive, and
// more than garbageBytes; and for quietTime less than quietRate bytes a second were
// written, because a busy engine compacts by itself.
const (
	garbageBytes = 32 << 20
	quietTime    = 15 * time.Second
	quietRate    = 1 << 20
)

// worthCompacting says whether a scheduled compaction should run now.
func (db *DB) worthCompacting(g *generation, now time.Time) bool {
	before, known := db.ages.before(now, quietTime)
	if !known || float64(db.written.bytes.Load()-before.bytes) > quietRate*now.Sub(before.at).Seconds() {
		return false
	}
	stored, versions := g.stored()
	counts := db.Counts()
	alive := int64(counts.Keys+counts.Services) + db.others.Load() + db.historyVersions(g)
	garbage := versions - alive
	return garbage > alive/4 && stored/max(versions, 1)*garbage > garbageBytes
}

// maintenance collects garbage and compacts on schedule, until Close.
func (db *DB) maintenance() {
	defer db.wg.Done()
	every := db.opts.MaintenanceInterval
	if every <= 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	// What it has begun is not waited for when the engine closes, but for what Close waits
	// for itself.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-db.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		select {
		case <-db.closing:
			return
		case <-tick.C:
			db.maintainOnce(ctx)
		}
	}
}

func (db *DB) maintainOnce(ctx context.Context) {
	if _, err := db.CollectGarbage(ctx); err != nil && !errors.Is(err, ErrMaintaining) && ctx.Err() == nil {
		db.log.Warn("collecting garbage", "error", err)
	}
	g, err := db.acquire()
	if err != nil {
		return
	}
	worth := db.worthCompacting(g, time.Now())
	g.release()
	if !worth {
		return
	}
	m, err := db.Compact(ctx)
	switch {
	case ctx.Err() != nil, errors.Is(err, ErrMaintaining):
	case err != nil:
		db.log.Warn("compacting", "error", err)
	default:
		db.log.Info("compacted", "before", m.Before.SST, "after", m.After.SST, "took", m.Took.Round(time.Millisecond))
	}
}
