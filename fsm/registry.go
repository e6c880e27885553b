package fsm

import (
	"slices"
)

// watcher is one party that wants to hear about a target. Its fields belong to
// the hub's lock: written by whoever holds it for writing, or, by the one
// goroutine that consumes the watcher, under the read lock.
type watcher struct {
	target
	// cursor: everything up to it has been consumed.
	cursor uint64
	// pending: there may be something for this watcher above cursor. While it is
	// false the watcher is complete up to the ring's last index, however old its
	// cursor: nothing that matches has happened since. So a watcher that is idle
	// for a million entries has not fallen behind.
	pending bool
	// err, once set, is what the watcher gets from now on.
	err error
	// wake holds a token after pending or err was set.
	wake chan struct{}

	bucket *bucket
	pos    int // in bucket.watchers
}

// notify tells the watcher about a matching change. Changes are told in order.
func (w *watcher) notify(index uint64) {
	if w.pending || index <= w.cursor {
		return
	}
	w.cursor = max(w.cursor, index-1)
	w.pending = true
	w.signal()
}

func (w *watcher) fail(err error) {
	if w.err == nil {
		w.err = err
	}
	w.signal()
}

func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// registry finds the watchers of a key: one look-up for those of exactly that
// key, and one per distinct length of a watched prefix. What nobody watches
// costs nothing more, however many watch other keys.
type registry struct {
	exact    map[string]*bucket
	prefixes map[string]*bucket
	lengths  []prefixLength // ordered
	count    int
}

// bucket holds the watchers of one target.
type bucket struct {
	key      string
	watchers []*watcher
}

// prefixLength counts the buckets in prefixes with keys of one length.
type prefixLength struct{ length, buckets int }

func newRegistry() registry {
	return registry{exact: make(map[string]*bucket), prefixes: make(map[string]*bucket)}
}

func (r *registry) add(w *watcher) {
	m := r.prefixes
	if w.exact {
		m = r.exact
	}
	b, ok := m[string(w.stored)]
	if !ok {
		b = &bucket{key: string(w.stored)}
		m[b.key] = b
		if !w.exact {
			r.countLength(len(b.key), 1)
		}
	}
	w.bucket, w.pos = b, len(b.watchers)
	b.watchers = append(b.watchers, w)
	r.count++
}

// remove forgets a watcher; a second time does nothing.
func (r *registry) remove(w *watcher) {
	b := w.bucket
	if b == nil {
		return
	}
	last := len(b.watchers) - 1
	b.watchers[w.pos] = b.watchers[last]
	b.watchers[w.pos].pos = w.pos
	b.watchers[last] = nil
	b.watchers = b.watchers[:last]
	w.bucket = nil
	r.count--
	if last > 0 {
		return
	}
	if w.exact {
		delete(r.exact, b.key)
		return
	}
	delete(r.prefixes, b.key)
	r.countLength(len(b.key), -1)
}

func (r *registry) countLength(length, by int) {
	i, found := slices.BinarySearchFunc(r.lengths, length, func(p prefixLength, l int) int { return p.length - l })
	if !found {
		r.lengths = slices.Insert(r.lengths, i, prefixLength{length: length})
	}
	if r.lengths[i].buckets += by; r.lengths[i].buckets == 0 {
		r.lengths = slices.Delete(r.lengths, i, i+1)
	}
}

// notify tells the watchers of a stored key.
func (r *registry) notify(stored []byte, index uint64) {
	if b, ok := r.exact[string(stored)]; ok {
		b.notify(index)
	}
	for _, p := range r.lengths {
		if p.length > len(stored) {
			return
		}
		if b, ok := r.prefixes[string(stored[:p.length])]; ok {
			b.notify(index)
		}
	}
}

func (b *bucket) notify(index uint64) {
	for _, w := range b.watchers {
		w.notify(index)
	}
}

// failAll gives every watcher a last error and forgets it.
func (r *registry) failAll(err error) {
	for _, m := range []map[string]*bucket{r.exact, r.prefixes} {
		for _, b := range m {
			for _, w := range b.watchers {
				w.bucket = nil
				w.fail(err)
			}
		}
	}
	*r = newRegistry()
}
