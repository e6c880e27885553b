package main

import (
	"strings"
	"testing"
)

func TestTheTableHasMediansAndRatios(t *testing.T) {
	var all []measurement
	for i, ops := range []float64{300, 100, 200} {
		all = append(all,
			measurement{System: "konsul", Workload: "put", Clients: 64, Repetition: i, OpsPerSec: []float64{600, 150, 400}[i], P50: 1500, Failed: 1},
			measurement{System: "etcd", Workload: "put", Clients: 64, Repetition: i, OpsPerSec: ops})
	}
	m, ok := medians(all, "konsul", "put", 64)
	if !ok || m.OpsPerSec != 400 || m.P50 != 1500 || m.Failed != 3 {
		t.Fatalf("medians: %+v", m)
	}
	if _, ok := medians(all, "konsul", "get", 64); ok {
		t.Fatal("medians of nothing")
	}
	cfg, err := parse([]string{"-clients", "64", "-workloads", "put"})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	table(&b, cfg, []system{&konsul{}, &etcd{}}, all)
	if !strings.Contains(b.String(), "| put | 64 | konsul | 400 | **2.00** (1.50 to 2.00) |") {
		t.Error(b.String())
	}
}

// In a pair of measurements the first client of both systems meets the same kind of member.
func TestClientsBeginAtTheLeaderAndTurn(t *testing.T) {
	for n, want := range []string{"c a b", "a b c", "b c a", "c a b"} {
		if got := strings.Join(turned([]string{"b", "c", "a"}, "c", n), " "); got != want {
			t.Errorf("turn %d: %s, want %s", n, got, want)
		}
	}
}

func TestBadFlagsAreErrors(t *testing.T) {
	for _, args := range [][]string{{"-clients", "0"}, {"-clients", "x"}, {"-repetitions", "0"}, {"-keys", "0"}, {"-nope"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
