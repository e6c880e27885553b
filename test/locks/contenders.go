// Package locks has contenders that fight for locks through all nodes, and a judge of
// whether a lock was ever held by two at once. The contenders live in one process, so
// that one monotonic clock orders what they did.
//
// A holder counts on its lock from the answer to its acquisition until a TTL after it
// sent the last renewal that was answered, or until it sends the release: what a
// careful client can know by its own clock. Within that time
//
//   - nobody else may count on the same lock;
//   - nobody may have shown a greater fencing token to the thing that the lock guards;
//   - the session may not end.
package locks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// Config is the load of a run.
type Config struct {
	Contenders int
	Locks      int
	TTL        time.Duration
	// Timeout of one request.
	Timeout time.Duration
}

// Default makes a few contenders for each lock, with sessions that an election can outlive.
func Default() Config {
	return Config{Contenders: 9, Locks: 3, TTL: time.Second, Timeout: 2 * time.Second}
}

// Run starts contenders until the returned function is called, which waits for them
// and gives the judge what they saw.
func Run(t testing.TB, c *harness.Cluster, o Config) (stop func() *Judge) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	j := newJudge()
	var wg sync.WaitGroup
	for i := range o.Contenders {
		k := &contender{j: j, nodes: c.Nodes, o: o, key: fmt.Sprintf("locks/%d", i%o.Locks)}
		wg.Go(func() {
			for ctx.Err() == nil {
				k.round(ctx)
			}
		})
	}
	stop = func() *Judge {
		cancel()
		wg.Wait()
		return j
	}
	t.Cleanup(func() { stop() })
	return stop
}

// contender has one session after the other and tries to hold one lock.
type contender struct {
	j     *Judge
	nodes []*harness.Node
	o     Config
	key   string

	session string
	// until is the end of the session by this contender's own clock: it may live
	// longer, but not shorter.
	until time.Duration
	renew time.Duration // when to renew next
}

// ask sends one request to some node and says when it was sent and answered.
func (k *contender) ask(send func(ctx context.Context, n *harness.Node) error) (sent, answered time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), k.o.Timeout)
	defer cancel()
	node := k.nodes[rand.IntN(len(k.nodes))]
	sent = k.j.now()
	err = send(ctx, node)
	answered = k.j.now()
	k.j.count(err)
	return sent, answered, err
}

// round is the life of one session.
func (k *contender) round(ctx context.Context) {
	delay := []time.Duration{0, 0, 200 * time.Millisecond}[rand.IntN(3)]
	sent, _, err := k.ask(func(ctx context.Context, n *harness.Node) (err error) {
		k.session, err = n.CreateSession(ctx, k.o.TTL, delay)
		return err
	})
	if err != nil {
		harness.Hold(ctx, 50*time.Millisecond)
		return
	}
	k.until, k.renew = sent+k.o.TTL, sent+k.o.TTL/3
	for ctx.Err() == nil && k.j.now() < k.until {
		if k.tryLock() {
			return
		}
		k.keep()
		harness.Hold(ctx, time.Duration(5+rand.IntN(30))*time.Millisecond)
	}
	_, _, _ = k.ask(func(ctx context.Context, n *harness.Node) error { return n.DestroySession(ctx, k.session) })
}

// keep renews the session when it is time to.
func (k *contender) keep() {
	if k.j.now() < k.renew {
		return
	}
	sent, answered, err := k.ask(func(ctx context.Context, n *harness.Node) error { return n.RenewSession(ctx, k.session) })
	k.notLost(answered, err, "a renewal")
	if err == nil {
		k.until, k.renew = sent+k.o.TTL, sent+k.o.TTL/3
	} else {
		k.renew = answered + k.o.TTL/20
	}
}

// notLost checks that the session is not denied while it must be alive.
func (k *contender) notLost(answered time.Duration, err error, what string) {
	if code(err) == "session_not_found" && answered < k.until {
		k.j.wrong("%s of session %s was answered %v before its TTL could have passed: %v", what, k.session, k.until-answered, err)
	}
}

// tryLock acquires, and if it did, holds the lock to the end of the session.
func (k *contender) tryLock() bool {
	token, start, ok := k.acquire()
	if !ok || start >= k.until {
		return false // nobody's, or too late to count on
	}
	h := &hold{key: k.key, session: k.session, token: token, start: start}
	k.hold(h)
	k.j.held(h)
	return true
}

func (k *contender) acquire() (token uint64, answered time.Duration, ok bool) {
	_, answered, err := k.ask(func(ctx context.Context, n *harness.Node) (err error) {
		token, err = n.Acquire(ctx, k.key, k.session, []byte(k.session))
		return err
	})
	k.notLost(answered, err, "an acquisition")
	return token, answered, err == nil
}

// endings are what holders do in the end.
var endings = []string{"release", "destroy", "abandon", "abandon"}

// hold uses what the lock guards until it gives the lock up, or its session's time is
// over by its own clock.
func (k *contender) hold(h *hold) {
	h.ending = endings[rand.IntN(len(endings))]
	enough := h.start + time.Duration(rand.Int64N(int64(3*k.o.TTL/2)))
	for {
		now := k.j.now()
		if now >= k.until {
			h.end, h.ending = k.until, h.ending+", expired"
			return
		}
		k.j.use(h, k.until)
		switch {
		case now < enough:
			k.keep()
		case h.ending == "abandon": // silent from now on
		default:
			k.giveUp(h)
			return
		}
		if rand.IntN(20) == 0 && now < enough {
			k.again(h)
		}
		harness.Hold(context.Background(), time.Duration(1+rand.IntN(20))*time.Millisecond)
	}
}

// again acquires what is held already: the same token, while the session lives.
func (k *contender) again(h *hold) {
	var token uint64
	_, answered, err := k.ask(func(ctx context.Context, n *harness.Node) (err error) {
		token, err = n.Acquire(ctx, k.key, k.session, []byte(k.session))
		return err
	})
	switch {
	case answered >= k.until:
	case err == nil && token != h.token:
		k.j.wrong("%s: session %s held it with token %d, and acquired it again with %d", k.key, k.session, h.token, token)
	case harness.OutcomeOf(err) == harness.NotDone && status(err) == http.StatusConflict:
		k.j.wrong("%s: session %s holds it with token %d, but: %v", k.key, k.session, h.token, err)
	}
}

// giveUp releases the lock or destroys the session; from the moment it is sent the
// holder counts on nothing.
func (k *contender) giveUp(h *hold) {
	sent, answered, err := k.ask(func(ctx context.Context, n *harness.Node) error {
		if h.ending == "destroy" {
			return n.DestroySession(ctx, k.session)
		}
		return n.Release(ctx, k.key, k.session)
	})
	h.end = min(sent, k.until)
	k.notLost(answered, err, h.ending)
	if code(err) == "not_holder" && answered < k.until {
		k.j.wrong("%s: session %s holds it with token %d, but: %v", k.key, k.session, h.token, err)
	}
}

func code(err error) string {
	if e := (*harness.APIError)(nil); errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func status(err error) int {
	if e := (*harness.APIError)(nil); errors.As(err, &e) {
		return e.Status
	}
	return 0
}
