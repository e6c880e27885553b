package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// Ledger is what writers were told about their writes: each writes keys that
// nobody else writes, once.
type Ledger struct {
	mu      sync.Mutex
	Prefix  string
	acked   map[string]Ack
	unknown map[string]string // key -> value; it may be there
	refused map[string]bool   // it must not be there
	Errors  map[string]int    // by text, documented ones and broken connections of nodes that were down
	Wrong   []string          // errors no client may see
}

// Ack is an acknowledged write.
type Ack struct {
	Value      string
	Index      uint64
	Start, End time.Time
}

// Load is a set of running writers.
type Load struct {
	*Ledger
	nodes  []*Node // those there at the start; later ones join without its traffic
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// StartWriters starts n writers that write to all nodes in turn until Stop.
// Values are size bytes of text.
func (c *Cluster) StartWriters(prefix string, n, size int) *Load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{nodes: slices.Clone(c.Nodes), cancel: cancel, Ledger: &Ledger{
		Prefix: prefix, acked: map[string]Ack{}, unknown: map[string]string{}, refused: map[string]bool{}, Errors: map[string]int{},
	}}
	for w := range n {
		l.wg.Go(func() { l.run(ctx, w, size) })
	}
	c.t.Cleanup(l.Stop)
	return l
}

// Stop ends the writers after their present write.
func (l *Load) Stop() {
	l.cancel()
	l.wg.Wait()
}

func (l *Load) run(ctx context.Context, w, size int) {
	for i := 0; ctx.Err() == nil; i++ {
		node := l.nodes[(w+i)%len(l.nodes)]
		key := fmt.Sprintf("%s/%02d/%07d", l.Prefix, w, i)
		if l.write(node, key, Text(size)) != nil {
			Hold(ctx, 20*time.Millisecond) // a node that is down refuses at once
		}
	}
}

// write sends one write and books what came of it.
func (l *Load) write(node *Node, key, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	start := time.Now()
	w, err := node.Put(ctx, key, []byte(value), "")
	end := time.Now()
	if err == nil && w.ModifyIndex == 0 {
		err = errors.New("acknowledged without an index")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch OutcomeOf(err) {
	case Done:
		l.acked[key] = Ack{value, w.ModifyIndex, start, end}
		return nil
	case NotDone:
		l.refused[key] = true
	default:
		l.unknown[key] = value
	}
	l.book(node, err, start, end)
	return err
}

// book sorts an error into the expected and the forbidden ones.
func (l *Load) book(node *Node, err error, start, end time.Time) {
	if e := (*APIError)(nil); errors.As(err, &e) {
		text := fmt.Sprintf("%d %s", e.Status, e.Code)
		l.Errors[text]++
		if !Documented(e) || e.Status < 429 {
			l.Wrong = append(l.Wrong, node.Name+": "+e.Error())
		}
		return
	}
	l.Errors["connection: "+node.Name]++
	if !node.down.overlaps(start, end) {
		l.Wrong = append(l.Wrong, fmt.Sprintf("%s was up from %s to %s: %v", node.Name, start.Format("05.000"), end.Format("05.000"), err))
	}
}

// Acked is the number of acknowledged writes so far.
func (l *Ledger) Acked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// Acks is a copy of what was acknowledged so far.
func (l *Ledger) Acks() map[string]Ack {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[string]Ack, len(l.acked))
	for k, a := range l.acked {
		m[k] = a
	}
	return m
}

// Unknowns is a copy of the writes that may or may not be there.
func (l *Ledger) Unknowns() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[string]string, len(l.unknown))
	for k, v := range l.unknown {
		m[k] = v
	}
	return m
}

// Gap is how long after t the first write that was begun after t was acknowledged.
func (l *Ledger) Gap(t time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	best := time.Duration(1<<63 - 1)
	for _, a := range l.acked {
		if a.Start.After(t) {
			best = min(best, a.End.Sub(t))
		}
	}
	return best
}

// NoWrongErrors fails the test if a client saw something that is not documented.
func (l *Ledger) NoWrongErrors(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%d acknowledged, %d refused, %d unknown; errors: %v", len(l.acked), len(l.refused), len(l.unknown), l.Errors)
	for i, w := range l.Wrong {
		if i == 10 {
			t.Errorf("... and %d more", len(l.Wrong)-i)
			break
		}
		t.Error("a client saw: " + w)
	}
}

// Text is n bytes of random text.
func Text(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[rand.IntN(len(letters))]
	}
	return string(b)
}

// LongestGap is the longest time between from and to in which no write was acknowledged.
func (l *Ledger) LongestGap(from, to time.Time) (longest time.Duration) {
	l.mu.Lock()
	ends := []time.Time{from, to}
	for _, a := range l.acked {
		if a.End.After(from) && a.End.Before(to) {
			ends = append(ends, a.End)
		}
	}
	l.mu.Unlock()
	slices.SortFunc(ends, time.Time.Compare)
	for i := 1; i < len(ends); i++ {
		longest = max(longest, ends[i].Sub(ends[i-1]))
	}
	return longest
}
