package harness

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Verify fails the test unless every running node has exactly what the ledger says.
func (c *Cluster) Verify(t testing.TB, l *Ledger) {
	t.Helper()
	if bad := c.Check(l); len(bad) > 0 {
		t.Fatalf("%d contradictions to what the writers were told:\n%s", len(bad), strings.Join(bad[:min(len(bad), 10)], "\n"))
	}
}

// Check compares each running node's own state (stale reads of one version that
// holds every acknowledged index) with the ledger: acknowledged writes are there with
// their value and index, refused ones are not, unknown ones have their value or are absent.
func (c *Cluster) Check(l *Ledger) (bad []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var newest uint64
	for _, a := range l.acked {
		newest = max(newest, a.Index)
	}
	found := make([][]string, len(c.Nodes))
	var wg sync.WaitGroup
	for i, n := range c.Nodes {
		if n.Running() {
			wg.Go(func() { found[i] = l.against(n, newest) })
		}
	}
	wg.Wait()
	for _, f := range found {
		bad = append(bad, f...)
	}
	if d, err := c.TrySameDigest(); err != nil {
		bad = append(bad, fmt.Sprintf("digest %+v: %v", d, err))
	}
	return bad
}

// against compares one node's own state, when it has applied newest, with the ledger.
func (l *Ledger) against(n *Node, newest uint64) []string {
	entries, err := n.ownState(l.Prefix+"/", newest)
	if err != nil {
		return []string{fmt.Sprintf("%s: reading its state: %v", n.Name, err)}
	}
	return l.compare(n.Name, entries)
}

// ownState waits until the node has applied index and lists what it has itself.
func (n *Node) ownState(prefix string, index uint64) (map[string]Entry, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	err := Poll(30*time.Second, func() error {
		s, err := n.Status(ctx)
		if err == nil && s.AppliedIndex < index {
			err = fmt.Errorf("applied %s, want %s", strconv.FormatUint(s.AppliedIndex, 10), strconv.FormatUint(index, 10))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	list, err := n.List(ctx, prefix, "consistency=stale")
	if err != nil {
		return nil, err
	}
	m := make(map[string]Entry, len(list))
	for _, e := range list {
		if _, twice := m[e.Key]; twice {
			return nil, fmt.Errorf("key %q is listed twice", e.Key)
		}
		m[e.Key] = e
	}
	return m, nil
}

func (l *Ledger) compare(node string, have map[string]Entry) (bad []string) {
	for key, a := range l.acked {
		e, ok := have[key]
		switch {
		case !ok:
			bad = append(bad, fmt.Sprintf("%s: lost %s, acknowledged at index %d", node, key, a.Index))
		case e.Value != a.Value || e.ModifyIndex != a.Index:
			bad = append(bad, fmt.Sprintf("%s: %s is at index %d, acknowledged at %d; value equal: %v", node, key, e.ModifyIndex, a.Index, e.Value == a.Value))
		}
	}
	for key, e := range have {
		if l.refused[key] {
			bad = append(bad, fmt.Sprintf("%s: %s was refused as not applied, but is there at index %d", node, key, e.ModifyIndex))
		}
		if v, ok := l.unknown[key]; ok && v != e.Value {
			bad = append(bad, fmt.Sprintf("%s: %s has a value nobody wrote", node, key))
		}
	}
	return bad
}
