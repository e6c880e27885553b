package fsm_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/fsm"
	. "github.com/neogan74/konsul/fsm/fsmtest"
)

// values gathers what the registry holds of ours: a counter's or gauge's value,
// a histogram's number of observations.
func values(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		name, ours := strings.CutPrefix(f.GetName(), "konsul_fsm_")
		if !ours {
			continue
		}
		m := f.GetMetric()[0]
		got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return got
}

func TestMetrics(t *testing.T) {
	m := New(t)
	if got := values(t, m.Metrics)["last_snapshot_age_seconds"]; got != -1 {
		t.Errorf("age of no snapshot is %v", got)
	}
	subscribe(t, m, fsm.Filter{}, 0)
	m.Txn(Set("a", "1"), Set("b", "1"))
	m.Txn(Get("a"))
	m.Apply(m.Skip())
	sink := persist(t, m)
	got := values(t, m.Metrics)
	if err := m.Restore(sink.Reader()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		"applied_total": 2, "apply_batch_size": 2, "apply_duration_seconds": 2, "events_total": 2,
		"watchers": 1, "published_index": 3, "last_snapshot_index": 3,
		"snapshot_duration_seconds": 1, "snapshot_size_bytes": float64(sink.Len()),
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if age := got["last_snapshot_age_seconds"]; age < 0 || age > 60 {
		t.Errorf("age of the snapshot is %v", age)
	}
	after := values(t, m.Metrics)
	if after["restore_duration_seconds"] != 1 || after["watchers"] != 0 {
		t.Errorf("after a restore: %v", after)
	}
}
