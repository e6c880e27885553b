//go:build cluster

package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// change is what a watcher must see of one change of one key.
type change struct {
	index uint64
	typ   string
	key   string
	value string
}

func (c change) String() string {
	return fmt.Sprintf("%d %s %q %.20q", c.index, c.typ, c.key, c.value)
}

// watcher follows a prefix through one node after the other, resuming with
// Last-Event-ID as the contract allows, and books every event it was sent.
type watcher struct {
	name     string
	nodes    []*harness.Node // tried in turn
	query    string
	mu       sync.Mutex
	complete uint64 // everything up to here was seen
	seen     []change
	resumed  int
	failure  error
	hook     func(change) // told of each change when it is seen, if not nil
	stop     context.CancelFunc
	done     chan struct{}
}

// follow starts a watcher of prefix at the changes after index from.
func follow(t *testing.T, name, prefix string, from uint64, nodes ...*harness.Node) *watcher {
	t.Helper()
	return followWith(t, nil, name, prefix, from, nodes...)
}

// followWith is follow with a hook.
func followWith(t *testing.T, hook func(change), name, prefix string, from uint64, nodes ...*harness.Node) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{name: name, nodes: nodes, query: "prefix=" + prefix, complete: from, hook: hook, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for i := 0; ctx.Err() == nil && w.failure == nil; i++ {
			w.connection(ctx, w.nodes[i%len(w.nodes)])
			harness.Hold(ctx, 20*time.Millisecond)
		}
	}()
	t.Cleanup(w.end)
	return w
}

func (w *watcher) end() {
	w.stop()
	<-w.done
}

// connection reads one stream until it breaks. Events of the index that the
// last stream broke in come again from its start; those seen already are skipped here,
// so that any other repeat shows.
func (w *watcher) connection(ctx context.Context, n *harness.Node) {
	w.mu.Lock()
	last, skip := w.complete, w.newer(w.complete)
	w.mu.Unlock()
	query := w.query
	if last == 0 {
		query += "&from=0"
	}
	s, err := n.Watch(ctx, query, last)
	if err != nil {
		if e := status(err); e != 0 && e < 500 && e != 429 {
			w.fail(fmt.Errorf("%s: opening after %d: %w", n.Name, last, err))
		}
		return
	}
	defer s.Close()
	w.connected()
	for {
		e, err := s.Next()
		if err != nil {
			return
		}
		if e.Type == "error" {
			if !strings.Contains(e.Data, "shutting_down") && !strings.Contains(e.Data, "reset") {
				w.fail(fmt.Errorf("%s: after %d: error event %s", n.Name, last, e.Data))
			}
			return
		}
		if e.Type == "put" || e.Type == "delete" {
			skip = w.book(e, skip)
		}
	}
}

// newer is what was seen of indexes after complete. Call it with mu held.
func (w *watcher) newer(complete uint64) []change {
	i, _ := slices.BinarySearchFunc(w.seen, complete+1, func(c change, i uint64) int { return int(int64(c.index) - int64(i)) })
	return slices.Clone(w.seen[i:])
}

func (w *watcher) book(e harness.Event, skip []change) []change {
	c := change{e.ID, e.Type, e.Entry.Key, string(e.Entry.Bytes())}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(skip) > 0 && skip[0] == c {
		return skip[1:]
	}
	if n := len(w.seen); n > 0 && w.seen[n-1].index < c.index {
		w.complete = w.seen[n-1].index
	}
	w.seen = append(w.seen, c)
	if w.hook != nil {
		w.hook(c)
	}
	return nil
}

func (w *watcher) connected() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resumed++
}

func (w *watcher) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failure = err
}

// upTo waits until the watcher has seen index or later, and returns what it saw up to it.
func (w *watcher) upTo(t *testing.T, index uint64) []change {
	t.Helper()
	harness.Eventually(t, 60*time.Second, fmt.Sprintf("%s to see index %d", w.name, index), func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.failure != nil {
			return harness.Stop(w.failure)
		}
		if n := len(w.seen); n == 0 || w.seen[n-1].index < index {
			return fmt.Errorf("%d events, complete to %d", n, w.complete)
		}
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.seen), func(c change) bool { return c.index > index })
}

// ordered checks that events come by index and, within one, by key, once each.
func ordered(list []change) error {
	for i := 1; i < len(list); i++ {
		a, b := list[i-1], list[i]
		if a.index > b.index || a.index == b.index && a.key >= b.key {
			return fmt.Errorf("out of order or twice: %s, then %s", a, b)
		}
	}
	return nil
}

// sameEvents compares what two watchers saw.
func sameEvents(a, b []change) error {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Errorf("event %d: %s here, %s there", i, a[i], b[i])
		}
	}
	if len(a) != len(b) {
		return fmt.Errorf("%d events here, %d there", len(a), len(b))
	}
	return nil
}
