package loadgen

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// WatchResult is what the watchers of the watch workload saw. An event is a counted
// write at one watcher, so without failures there are Watchers times as many as
// requests. What went wrong is counted in the warm-up, too.
type WatchResult struct {
	Watchers int   `json:"watchers"`
	Writers  int   `json:"writers"`
	Events   int64 `json:"events"`
	// EventsPerSec is over the time from the end of the warm-up to the last event.
	EventsPerSec float64 `json:"events_per_s"`
	// Delivery is from just before a write is sent (not from its acknowledgement, which
	// an event may overtake) to the event in the hands of a watcher.
	Delivery Latency `json:"delivery_us"`
	// Missing are acknowledged writes that a watcher never saw, Duplicates what it saw
	// again, OutOfOrder what came after a later write. All are 0 unless something is broken.
	Missing    int64 `json:"missing"`
	Duplicates int64 `json:"duplicates"`
	OutOfOrder int64 `json:"out_of_order"`
	// Ended are watchers that gave up with an error.
	Ended int64 `json:"ended"`
	// Resets (the data was replaced) and Compactions (the history no longer reaches
	// back, also for a watcher that is too slow) are watches that had to begin anew, and
	// Skipped the events that were lost by that.
	Resets      int64 `json:"resets"`
	Compactions int64 `json:"compactions"`
	Skipped     int64 `json:"skipped"`
	// Disconnects are lost connections and attempts to resume them that failed.
	Disconnects int64 `json:"disconnects"`
	// Foreign are events of changes that others made to the keys.
	Foreign int64 `json:"foreign"`
	// Interrupted: the run was ended before all events had had time to arrive; those at
	// the end count as nothing.
	Interrupted bool `json:"interrupted"`

	lastError string
}

// Err says what went wrong, nil if each watcher saw each write once and in order.
func (w *WatchResult) Err() error {
	var wrong []string
	if w.Missing+w.Duplicates+w.OutOfOrder > 0 {
		wrong = append(wrong, fmt.Sprintf("events: %d missing, %d duplicates, %d out of order", w.Missing, w.Duplicates, w.OutOfOrder))
	}
	if w.Ended > 0 {
		wrong = append(wrong, fmt.Sprintf("%d of %d watchers ended early", w.Ended, w.Watchers))
	}
	if len(wrong) == 0 {
		return nil
	}
	if w.lastError != "" {
		wrong = append(wrong, w.lastError)
	}
	return errors.New(strings.Join(wrong, "; "))
}

// result is called when all writers and watchers are through.
func (a *audience) result(r *run) *WatchResult {
	out := &WatchResult{Watchers: len(a.watchers), Writers: len(a.writers)}
	if a.lastErr != nil {
		out.lastError = a.lastErr.Error()
	}
	all, last, overflow := newHistogram(), time.Duration(0), time.Duration(0)
	for _, w := range a.watchers {
		t := w.tally
		all.Merge(t.delivery)
		last, overflow = max(last, t.last), max(overflow, t.overflow)
		complete := w.ended || !a.interrupted
		v := t.judge(a.writers, complete)
		out.Interrupted = out.Interrupted || !complete
		out.Events += t.events
		out.Missing += v.missing
		out.OutOfOrder += v.outOfOrder
		out.Skipped += v.skipped
		out.Duplicates += t.duplicates
		out.Foreign += t.foreign
		out.Resets += w.resets
		out.Compactions += w.compactions
		out.Disconnects += w.disconnects
		if w.err != nil {
			out.Ended++
			out.lastError = w.err.Error()
		}
	}
	out.Delivery = latencyOf(all)
	if overflow > 0 {
		out.Delivery.Max = overflow.Microseconds()
	}
	begin := r.base.Sub(a.epoch) + r.cfg.Warmup
	out.EventsPerSec = perSecond(out.Events, (last - begin).Seconds())
	return out
}
