package fsm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/fsm/fsmtest"
)

func filterMatches(f fsm.Filter, c fsmtest.Change) bool {
	key := c.Key
	switch {
	case f.Services:
		return c.Service != ""
	case f.Service != "":
		return strings.HasPrefix(c.Service, f.Service+"/")
	case c.Service != "":
		return false
	}
	if f.Key != nil {
		return key == string(f.Key)
	}
	return strings.HasPrefix(key, string(f.Prefix))
}

// wanted is what a watcher of f must see after an index.
func (h history) wanted(f fsm.Filter, after uint64) []fsmtest.Change {
	var want []fsmtest.Change
	for _, c := range h.model.Changes {
		if c.Index > after && filterMatches(f, c) {
			want = append(want, c)
		}
	}
	return want
}

func toChange(ev fsm.Event) fsmtest.Change {
	if ev.Name != "" {
		return fsmtest.Change{Index: ev.Index, Service: ev.Name + "/" + ev.ID, Deleted: ev.Deleted}
	}
	return fsmtest.Change{Index: ev.Index, Key: string(ev.Key), Deleted: ev.Deleted, Value: string(ev.Record.GetValue())}
}

// follower consumes a subscription and checks it against the model as it goes.
type follower struct {
	h      history
	m      *fsmtest.Machine
	filter fsm.Filter
	rand   *rand.Rand
	cursor uint64 // complete up to here
	want   []fsmtest.Change
}

func (h history) follow(m *fsmtest.Machine, f fsm.Filter, from, seed uint64) *follower {
	return &follower{h: h, m: m, filter: f, rand: rand.New(rand.NewPCG(seed, 2)), cursor: from, want: h.wanted(f, from)}
}

// run reads until everything up to the end has come, leaving and resuming now
// and then.
func (w *follower) run(ctx context.Context) error {
	for len(w.want) > 0 {
		sub, err := w.m.Subscribe(w.filter, w.cursor)
		if err != nil {
			return fmt.Errorf("subscribing from %d: %w", w.cursor, err)
		}
		err = w.consume(ctx, sub, 1+w.rand.IntN(40))
		sub.Close()
		if err != nil {
			return fmt.Errorf("%+v from %d: %w", w.filter, w.cursor, err)
		}
	}
	return nil
}

func (w *follower) consume(ctx context.Context, sub *fsm.Subscription, rounds int) error {
	for ; rounds > 0 && len(w.want) > 0; rounds-- {
		events, complete, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		if err := w.take(events, complete); err != nil {
			return err
		}
		if got := sub.Progress(); got < complete {
			return fmt.Errorf("progress %d after %d", got, complete)
		} else if w.rand.IntN(3) == 0 {
			// What progress says must be as good a place to resume from.
			w.cursor = got
			if len(w.want) > 0 && w.want[0].Index <= got {
				return fmt.Errorf("progress %d, but %+v has not come", got, w.want[0])
			}
		}
		for range w.rand.IntN(20) {
			runtime.Gosched()
		}
	}
	return nil
}

func (w *follower) take(events []fsm.Event, complete uint64) error {
	if len(events) == 0 || complete < events[len(events)-1].Index || complete <= w.cursor && complete != 0 {
		return fmt.Errorf("%d events, complete up to %d", len(events), complete)
	}
	for _, ev := range events {
		if len(w.want) == 0 {
			return fmt.Errorf("too many: %+v", toChange(ev))
		}
		if got := toChange(ev); got != w.want[0] {
			return fmt.Errorf("got %+v, want %+v", got, w.want[0])
		}
		w.want = w.want[1:]
	}
	if len(w.want) > 0 && w.want[0].Index <= complete {
		return fmt.Errorf("complete up to %d, but %+v has not come", complete, w.want[0])
	}
	w.cursor = complete
	return nil
}

var filters = []fsm.Filter{
	{Services: true},
	{Service: "web"},
	{}, {Prefix: []byte("a/")}, {Prefix: []byte("a/1")}, {Prefix: []byte("b\x00")}, {Prefix: []byte("c")},
	{Key: []byte("a/0")}, {Key: []byte("a/5/b")}, {Key: []byte("c3")}, {Key: []byte("a/1")},
}

// Watchers that start anywhere, leave, resume and lag see every change once and
// in order, while entries are applied, some of them a second time.
func TestWatchersMissNothing(t *testing.T) {
	const n = 3000
	for i, ring := range []int{3, 50, 50, 400, 100_000} {
		t.Run(fmt.Sprint(ring), func(t *testing.T) {
			h := newHistory(t, uint64(20+i), n)
			m := fsmtest.New(t)
			m.SetRing(ring, 1<<20)
			m.ApplyIn(h.logs[:n/4], h.sizes(1, 8))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			var wg sync.WaitGroup
			for i := range 4 * len(filters) {
				from := uint64(i) * n / 90 // some are ahead of what is applied
				w := h.follow(m, filters[i%len(filters)], from, uint64(i))
				wg.Go(func() {
					if err := w.run(ctx); err != nil {
						t.Error(err)
					}
				})
			}
			m.ApplyIn(h.logs[n/4:n/2], h.sizes(2, 8))
			m.ApplyIn(h.logs[n/3:n/2], h.sizes(3, 8)) // again
			m.ApplyIn(h.logs[n/3:], h.sizes(4, 8))
			wg.Wait()
			if m.Watchers() != 0 {
				t.Errorf("%d watchers left", m.Watchers())
			}
			if a, b, c := m.Registered(); a+b+c != 0 {
				t.Errorf("left in the registry: %d keys, %d prefixes, %d lengths", a, b, c)
			}
		})
	}
}

func next(t *testing.T, sub *fsm.Subscription) ([]fsm.Event, uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	events, complete, err := sub.Next(ctx)
	if err != nil {
		t.Fatalf("next: %v", err)
	}
	return events, complete
}

func subscribe(t *testing.T, m *fsmtest.Machine, f fsm.Filter, from uint64) *fsm.Subscription {
	t.Helper()
	sub, err := m.Subscribe(f, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	return sub
}

// idle says that nothing is there to read.
func idle(t *testing.T, sub *fsm.Subscription) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if events, _, err := sub.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, %v", events, err)
	}
}

func TestEventsOfOneEntryComeTogetherOrderedByKey(t *testing.T) {
	m := fsmtest.New(t)
	m.Txn(fsmtest.Set("x", "0"), fsmtest.Set("gone", "0"))
	sub := subscribe(t, m, fsm.Filter{}, 1)
	m.Txn(fsmtest.Set("z", "1"), fsmtest.Delete("gone"), fsmtest.Set("a", "1"), fsmtest.Set("a", "2"),
		fsmtest.Set("never", "1"), fsmtest.Delete("never"), fsmtest.Delete("absent"))
	events, complete := next(t, sub)
	var got []string
	for _, ev := range events {
		got = append(got, fmt.Sprintf("%d %s %v %s", ev.Index, ev.Key, ev.Deleted, ev.Record.GetValue()))
	}
	if want := "[2 a false 2 2 gone true  2 z false 1]"; fmt.Sprint(got) != want || complete != 2 {
		t.Errorf("got %v, complete %d; want %v", got, complete, want)
	}
}

// An idle watcher is not behind, however much has happened elsewhere.
func TestAnIdleWatcherDoesNotFallBehind(t *testing.T) {
	m := fsmtest.New(t)
	m.SetRing(4, 1<<20)
	sub := subscribe(t, m, fsm.Filter{Key: []byte("quiet")}, 0)
	for range 100 {
		m.Txn(fsmtest.Set("loud", "1"))
	}
	idle(t, sub)
	if got := sub.Progress(); got != 100 {
		t.Errorf("progress %d, want 100", got)
	}
	m.Txn(fsmtest.Set("quiet", "1"))
	for range 2 {
		m.Txn(fsmtest.Set("loud", "1"))
	}
	if base := m.RingBase(); base < 90 || base > 101 {
		t.Fatalf("ring base %d", base)
	}
	events, complete := next(t, sub)
	if len(events) != 1 || events[0].Index != 101 || complete != 103 {
		t.Errorf("%v, complete %d", events, complete)
	}
}

// One entry with more changes than the ring holds is served from history.
func TestAnEntryLargerThanTheRing(t *testing.T) {
	m := fsmtest.New(t)
	m.SetRing(10, 1<<20)
	sub := subscribe(t, m, fsm.Filter{Prefix: []byte("k")}, 0)
	var ops []*command.Op
	for i := range 600 {
		ops = append(ops, fsmtest.Set(fmt.Sprintf("k%03d", i), "v"))
	}
	m.Txn(ops...)
	m.Txn(fsmtest.DeletePrefix("k"))
	for index := uint64(1); index <= 2; {
		events, complete := next(t, sub)
		if len(events)%600 != 0 {
			t.Fatalf("an index was split: %d events up to %d", len(events), complete)
		}
		index = complete + 1
	}
	idle(t, sub)
}

func TestRestoreEndsSubscriptions(t *testing.T) {
	m := fsmtest.New(t)
	m.Txn(fsmtest.Set("k", "1"))
	sink := persist(t, m)
	busy, waiting := subscribe(t, m, fsm.Filter{}, 0), subscribe(t, m, fsm.Filter{}, 1)
	done := make(chan error, 1)
	go func() {
		_, _, err := waiting.Next(t.Context())
		done <- err
	}()
	if err := m.Restore(sink.Reader()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, fsm.ErrReset) {
		t.Errorf("waiting: %v", err)
	}
	if _, _, err := busy.Next(t.Context()); !errors.Is(err, fsm.ErrReset) {
		t.Errorf("busy: %v", err)
	}
	again := subscribe(t, m, fsm.Filter{}, 1)
	m.Txn(fsmtest.Set("k", "2"))
	if events, _ := next(t, again); len(events) != 1 || events[0].Index != 2 {
		t.Errorf("got %v", events)
	}
}

func TestClosing(t *testing.T) {
	m := fsmtest.New(t)
	sub := subscribe(t, m, fsm.Filter{}, 0)
	done := make(chan error, 1)
	go func() {
		_, _, err := sub.Next(t.Context())
		done <- err
	}()
	sub.Close()
	if err := <-done; !errors.Is(err, fsm.ErrUnsubscribed) {
		t.Errorf("after Close of the subscription: %v", err)
	}
	other := subscribe(t, m, fsm.Filter{}, 0)
	m.FSM.Close()
	if _, _, err := other.Next(t.Context()); !errors.Is(err, fsm.ErrClosed) {
		t.Errorf("after Close of the machine: %v", err)
	}
	if _, err := m.Subscribe(fsm.Filter{}, 0); !errors.Is(err, fsm.ErrClosed) {
		t.Errorf("subscribing after Close: %v", err)
	}
	if err := m.WaitChange(t.Context(), fsm.Filter{}, 0); !errors.Is(err, fsm.ErrClosed) {
		t.Errorf("waiting after Close: %v", err)
	}
}

// A subscription may start with entries this node has not applied yet.
func TestSubscribingAheadOfThisNode(t *testing.T) {
	m := fsmtest.New(t)
	sub := subscribe(t, m, fsm.Filter{}, 3)
	for range 5 {
		m.Txn(fsmtest.Set("k", "1"))
	}
	events, complete := next(t, sub)
	if len(events) != 2 || events[0].Index != 4 || complete != 5 {
		t.Errorf("got %v up to %d", events, complete)
	}
}

// during runs a function when the snapshot is first read.
type during struct {
	io.ReadCloser
	once sync.Once
	fn   func()
}

func (d *during) Read(b []byte) (int, error) {
	d.once.Do(d.fn)
	return d.ReadCloser.Read(b)
}

// Nobody can begin to watch while the state is being replaced: what it is told
// could be of either.
func TestNobodySubscribesDuringARestore(t *testing.T) {
	m := fsmtest.New(t)
	m.Txn(fsmtest.Set("k", "1"))
	sub := subscribe(t, m, fsm.Filter{}, 0)
	err := m.Restore(&during{ReadCloser: persist(t, m).Reader(), fn: func() {
		if _, err := m.Subscribe(fsm.Filter{}, 0); !errors.Is(err, fsm.ErrReset) {
			t.Errorf("subscribing: %v", err)
		}
		if _, _, err := sub.Next(t.Context()); !errors.Is(err, fsm.ErrReset) {
			t.Errorf("subscribed: %v", err)
		}
		if err := m.WaitChange(t.Context(), fsm.Filter{}, 1); err != nil {
			t.Errorf("waiting: %v", err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	subscribe(t, m, fsm.Filter{}, 1)
}
