//go:build cluster

// Package cluster runs whole clusters of real processes: `make test-cluster`,
// or `go test -tags cluster ./test/cluster` (-short for the form that CI uses
// on every change). DESIGN.md in the directory above says what each suite shows.
package cluster

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// pick returns the first value in the short form, else the second.
func pick[T any](short, long T) T {
	if testing.Short() {
		return short
	}
	return long
}

// three starts three nodes.
func three(t *testing.T, env ...string) *harness.Cluster {
	t.Helper()
	return harness.Start(t, harness.Options{Nodes: 3, Env: settings(env...)})
}

// settled starts three nodes and waits until they write nothing of their own any
// more: each announces its addresses soon after it has joined.
func settled(t *testing.T) *harness.Cluster {
	t.Helper()
	c := three(t)
	last, since := uint64(0), time.Now()
	harness.Eventually(t, 30*time.Second, "the index to stand still", func() error {
		s, err := c.Nodes[0].Status(soon(t))
		if err == nil && (s.AppliedIndex != last || time.Since(since) < 2*time.Second) {
			err = fmt.Errorf("applied %d, before %d", s.AppliedIndex, last)
		}
		if s.AppliedIndex != last {
			last, since = s.AppliedIndex, time.Now()
		}
		return err
	})
	return c
}

// settings makes a map of names and values given alternately.
func settings(env ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i+1 < len(env); i += 2 {
		m[env[i]] = env[i+1]
	}
	return m
}

// soon is a context for one request.
func soon(t testing.TB) context.Context {
	t.Helper()
	return harness.Context(t, 15*time.Second)
}

// mustPut writes through node and returns the index.
func mustPut(t testing.TB, n *harness.Node, key, value string) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	w, err := n.Put(ctx, key, []byte(value), "")
	if err != nil {
		t.Fatalf("%s: put %q: %v", n.Name, key, err)
	}
	return w.ModifyIndex
}

// wantValue reads linearizably through node and compares value and index (0: any).
func wantValue(n *harness.Node, key, value string, index uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	e, err := n.Read(ctx, key, "")
	if err != nil {
		return fmt.Errorf("%s: get %q: %w", n.Name, key, err)
	}
	if e.Value != value || index > 0 && e.ModifyIndex != index {
		return fmt.Errorf("%s: get %q: %.60q at %d, want %.60q at %d", n.Name, key, e.Value, e.ModifyIndex, value, index)
	}
	return nil
}
