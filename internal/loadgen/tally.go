package loadgen

import (
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// tally is what one watcher has seen. What was lost or came late is judged at the end,
// when it is known which writes failed.
type tally struct {
	writers []seen
	// index and key of the last event: the next has a higher index or, within one, a higher key.
	index uint64
	key   string

	events     int64 // of counted writes, each once
	duplicates int64
	disorder   int64 // an index that was not the next one
	foreign    int64 // of others' changes

	delivery *hdrhistogram.Histogram
	overflow time.Duration
	last     time.Duration // when the last counted event arrived
}

// seen is what a watcher has seen of one writer.
type seen struct {
	last uint64 // the highest number
	// floor: at the last reset of the watch the writer was here; what is missing up to it
	// the watcher was told that it would miss.
	floor uint64
	gaps  []gap
	late  []uint64 // numbers out of gaps that came after higher ones
}

// gap is numbers that were passed over.
type gap struct {
	from, to uint64
	excused  bool
}

func newTally(writers int) *tally {
	return &tally{writers: make([]seen, writers), delivery: newHistogram()}
}

// add counts an event, which arrived at this time.
func (t *tally) add(index uint64, key string, s stamp, arrived time.Duration) {
	w := &t.writers[s.writer]
	switch {
	case s.seq > w.last:
		w.gaps = w.pass(w.gaps, w.last+1, s.seq-1)
		w.last = s.seq
		if index < t.index || index == t.index && key <= t.key {
			t.disorder++
		}
	case w.passed(s.seq) && !slices.Contains(w.late, s.seq):
		w.late = append(w.late, s.seq)
	default:
		t.duplicates++
		return
	}
	t.index, t.key = index, key
	if s.counted {
		t.events++
		t.last = arrived
		t.overflow = max(t.overflow, observe(t.delivery, arrived-s.sent))
	}
}

// reset begins anew after the watch was told that it has missed something; what a
// writer has not sent yet is not part of that.
func (t *tally) reset(sent func(writer int) uint64) {
	for i := range t.writers {
		t.writers[i].floor = sent(i)
	}
	t.index, t.key = 0, ""
}

// pass adds the numbers between two to the gaps.
func (w *seen) pass(gaps []gap, from, to uint64) []gap {
	if from <= to && from <= w.floor {
		gaps = append(gaps, gap{from, min(to, w.floor), true})
		from = w.floor + 1
	}
	if from <= to {
		gaps = append(gaps, gap{from, to, false})
	}
	return gaps
}

func (w *seen) passed(seq uint64) bool {
	return slices.ContainsFunc(w.gaps, func(g gap) bool { return g.from <= seq && seq <= g.to })
}

// verdict is what was wrong.
type verdict struct {
	missing    int64 // acknowledged and never seen
	outOfOrder int64
	skipped    int64 // missing, but a reset said so
}

// judge compares with what the writers know. complete: everything has had its time to
// arrive; otherwise what comes after the last event is left out.
func (t *tally) judge(writers []*stamper, complete bool) verdict {
	v := verdict{outOfOrder: t.disorder}
	for i, writer := range writers {
		w := &t.writers[i]
		gaps := w.gaps
		if complete {
			gaps = w.pass(slices.Clone(gaps), w.last+1, writer.sent.Load())
		}
		late := slices.DeleteFunc(slices.Clone(w.late), func(seq uint64) bool {
			_, failed := slices.BinarySearch(writer.failed, seq)
			return failed // it was applied later than its writer knew, in whatever order
		})
		slices.Sort(late)
		v.outOfOrder += int64(len(late))
		for _, g := range gaps {
			n := int64(g.to-g.from+1) - within(writer.failed, g) - within(late, g)
			if g.excused {
				v.skipped += n
			} else {
				v.missing += n
			}
		}
	}
	return v
}

// within is how many of the sorted numbers are in the gap.
func within(sorted []uint64, g gap) int64 {
	from, _ := slices.BinarySearch(sorted, g.from)
	to, _ := slices.BinarySearch(sorted, g.to+1)
	return int64(to - from)
}
