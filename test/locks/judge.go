package locks

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// hold is one time of holding a lock, as its holder knows it.
type hold struct {
	key, session string
	token        uint64
	start, end   time.Duration
	ending       string
}

func (h hold) String() string {
	return fmt.Sprintf("session %s with token %d from %v to %v (%s)", h.session, h.token, h.start, h.end, h.ending)
}

// Judge is what all contenders saw.
type Judge struct {
	mu      sync.Mutex
	started time.Time
	holds   []hold
	// tokens is the greatest token that was shown to what each lock guards.
	tokens  map[string]uint64
	uses    int
	answers map[string]int
	faults  []string
}

func newJudge() *Judge {
	return &Judge{started: time.Now(), tokens: map[string]uint64{}, answers: map[string]int{}}
}

// now is the time on the clock that all contenders share.
func (j *Judge) now() time.Duration { return time.Since(j.started) }

func (j *Judge) wrong(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults = append(j.faults, fmt.Sprintf("at %v: ", j.now())+fmt.Sprintf(format, args...))
}

// count books an answer.
func (j *Judge) count(err error) {
	text := "ok"
	if err != nil {
		if text = code(err); text == "" {
			text = "connection"
		}
	}
	j.mu.Lock()
	j.answers[text]++
	j.mu.Unlock()
	if status(err) == 500 {
		j.wrong("%v", err)
	}
}

// use shows the holder's token to what the lock guards, which knows the greatest it
// has seen. A holder that still counts on its lock must not come second.
func (j *Judge) use(h *hold, until time.Duration) {
	j.mu.Lock()
	seen := j.tokens[h.key]
	j.tokens[h.key] = max(seen, h.token)
	j.uses++
	late := j.now() >= until
	j.mu.Unlock()
	if seen > h.token && !late {
		j.wrong("%s: token %d came after token %d, though its holder counts on it until %v", h.key, h.token, seen, until)
	}
}

func (j *Judge) held(h *hold) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.holds = append(j.holds, *h)
}

// Holds is how many times locks were held so far.
func (j *Judge) Holds() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.holds)
}

// Check fails the test if a lock was held by two at once, or if fewer than least were held.
func (j *Judge) Check(t testing.TB, least int) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	endings := map[string]int{}
	for _, h := range j.holds {
		endings[h.ending]++
	}
	t.Logf("%d times held, %d uses; ended by %v; answers %v", len(j.holds), j.uses, endings, j.answers)
	faults := append(slices.Clone(j.faults), overlaps(j.holds)...)
	for i, fault := range faults {
		if i == 10 {
			t.Errorf("... and %d more", len(faults)-i)
			break
		}
		t.Error(fault)
	}
	if len(j.holds) < least {
		t.Errorf("locks were held %d times, want at least %d", len(j.holds), least)
	}
}

// overlaps says which holds of the same lock are not one after the other, in the order
// of their tokens.
func overlaps(holds []hold) (faults []string) {
	sorted := slices.Clone(holds)
	slices.SortFunc(sorted, func(a, b hold) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.token, b.token), cmp.Compare(a.start, b.start))
	})
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		if a.key == b.key && (a.token == b.token || a.end > b.start) {
			faults = append(faults, fmt.Sprintf("%s: held by %v and by %v", a.key, a, b))
		}
	}
	return faults
}

// Settled says that a lock can be had by a new session through every node: what was
// held when the load ended is free again.
func Settled(t testing.TB, c *harness.Cluster, o Config) {
	t.Helper()
	for i := range o.Locks {
		key := fmt.Sprintf("locks/%d", i)
		var last uint64
		for _, n := range c.Nodes {
			last = grab(t, n, key, last)
		}
	}
}

// grab holds a lock for a moment; the token is greater than the last one.
func grab(t testing.TB, n *harness.Node, key string, last uint64) (token uint64) {
	t.Helper()
	ctx := harness.Context(t, time.Minute)
	session, err := n.CreateSession(ctx, 30*time.Second, 0)
	if err != nil {
		t.Fatalf("%s: making a session: %v", n.Name, err)
	}
	harness.Eventually(t, 15*time.Second, key+" to be free on "+n.Name, func() (err error) {
		token, err = n.Acquire(ctx, key, session, []byte("settled"))
		return err
	})
	if token <= last {
		t.Fatalf("%s: %s has token %d after %d", n.Name, key, token, last)
	}
	e, err := n.Read(ctx, key, "")
	if err != nil || e.LockIndex != token || e.Session != session {
		t.Fatalf("%s: %s: %+v, %v; want token %d of session %s", n.Name, key, e, err, token, session)
	}
	if err := n.Release(ctx, key, session); err != nil {
		t.Fatalf("%s: releasing %s: %v", n.Name, key, err)
	}
	if err := n.DestroySession(ctx, session); err != nil {
		t.Fatalf("%s: destroying a session: %v", n.Name, err)
	}
	return token
}
