package loadgen

import (
	"testing"
	"time"
)

func TestStamps(t *testing.T) {
	run := newRunID()
	want := stamp{writer: 513, counted: true, seq: 1<<62 + 5, sent: time.Hour}
	value := make([]byte, stampSize)
	want.put(value, run)
	if got, ok := stampOf(value, run); !ok || got != want {
		t.Errorf("read %+v (%v), wrote %+v", got, ok, want)
	}
	for _, other := range [][]byte{nil, value[:stampSize-1], []byte("not a stamp, but as long as one..")} {
		if s, ok := stampOf(other, run); ok {
			t.Errorf("%q is %+v", other, s)
		}
	}
	if _, ok := stampOf(value, newRunID()); ok {
		t.Error("another run's was taken")
	}
}

// TestTally judges what a watcher saw of two writers, of which the first has sent five
// writes and the second one. Each letter and digit is an event, "r" is a reset.
func TestTally(t *testing.T) {
	type counts struct{ events, missing, duplicates, outOfOrder, skipped int64 }
	for name, tc := range map[string]struct {
		saw        string
		failed     []uint64
		sent       uint64 // by the first writer at the reset
		incomplete bool
		want       counts
	}{
		"everything":                        {saw: "12a345", want: counts{events: 6}},
		"nothing":                           {want: counts{missing: 6}},
		"nothing, but it was interrupted":   {incomplete: true},
		"one lost":                          {saw: "12a45", want: counts{events: 5, missing: 1}},
		"one lost, and interrupted":         {saw: "12a4", incomplete: true, want: counts{events: 4, missing: 1}},
		"the first two lost":                {saw: "a345", want: counts{events: 4, missing: 2}},
		"the last lost":                     {saw: "1234a", want: counts{events: 5, missing: 1}},
		"one twice":                         {saw: "122345a", want: counts{events: 6, duplicates: 1}},
		"one again later":                   {saw: "1234a52", want: counts{events: 6, duplicates: 1}},
		"two swapped":                       {saw: "13245a", want: counts{events: 6, outOfOrder: 1}},
		"a late one twice":                  {saw: "132245a", want: counts{events: 6, outOfOrder: 1, duplicates: 1}},
		"one that failed":                   {saw: "1a345", failed: []uint64{2}, want: counts{events: 5}},
		"one that failed and was there":     {saw: "12345a", failed: []uint64{2}, want: counts{events: 6}},
		"one that failed and was late":      {saw: "1345a2", failed: []uint64{2}, want: counts{events: 6}},
		"one that failed and was twice":     {saw: "13425a2", failed: []uint64{2}, want: counts{events: 6, duplicates: 1}},
		"the last failed":                   {saw: "1234a", failed: []uint64{5}, want: counts{events: 5}},
		"one lost, one failed":              {saw: "145a", failed: []uint64{3}, want: counts{events: 4, missing: 1}},
		"a reset without a loss":            {saw: "12r345a", sent: 2, want: counts{events: 6}},
		"a reset that skips":                {saw: "1r45a", sent: 3, want: counts{events: 4, skipped: 2}},
		"a reset that skips a failed one":   {saw: "1r45a", sent: 3, failed: []uint64{3}, want: counts{events: 4, skipped: 1}},
		"a reset, and one lost":             {saw: "1r5a", sent: 3, want: counts{events: 3, skipped: 2, missing: 1}},
		"a reset, and the end lost":         {saw: "12ar", sent: 4, want: counts{events: 3, skipped: 2, missing: 1}},
		"a reset while one was on its way":  {saw: "1r345a", sent: 3, want: counts{events: 5, skipped: 1}},
		"a reset that hands something back": {saw: "12r2345a", sent: 2, want: counts{events: 6, duplicates: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			tally, index := newTally(2), uint64(0)
			for _, saw := range tc.saw {
				index++
				switch {
				case saw == 'r':
					tally.reset(func(writer int) uint64 { return []uint64{tc.sent, 0}[writer] })
				case saw >= 'a':
					tally.add(index, "k", stamp{writer: 1, seq: uint64(saw-'a') + 1, counted: true}, 0)
				default:
					tally.add(index, "k", stamp{seq: uint64(saw - '0'), counted: true}, 0)
				}
			}
			writers := []*stamper{{failed: tc.failed}, {}}
			writers[0].sent.Store(5)
			writers[1].sent.Store(1)
			v := tally.judge(writers, !tc.incomplete)
			got := counts{tally.events, v.missing, tally.duplicates, v.outOfOrder, v.skipped}
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestTallyChecksTheOrderOfIndexesAndOfKeysWithin(t *testing.T) {
	tally := newTally(2)
	for i, e := range []struct {
		index uint64
		key   string
	}{{5, "b"}, {5, "c"}, {5, "a"}, {7, "a"}, {6, "a"}} {
		tally.add(e.index, e.key, stamp{seq: uint64(i) + 1, counted: i > 0}, time.Second)
	}
	if tally.disorder != 2 || tally.events != 4 || tally.delivery.TotalCount() != 4 {
		t.Errorf("%+v", tally)
	}
}
