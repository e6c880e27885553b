package linear

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// Config is the load of a run.
type Config struct {
	Clients int
	Keys    int           // in use at a time
	KeyLife time.Duration // after which new keys are used: the judge's work grows with a key's history
	Think   time.Duration // pause between two operations of a client
	Timeout time.Duration // of one operation
}

// Default is a load that two processors can carry beside three nodes.
func Default() Config {
	return Config{Clients: 8, Keys: 3, KeyLife: 6 * time.Second, Think: 4 * time.Millisecond, Timeout: 4 * time.Second}
}

// Run starts clients that read and write a few keys through all nodes until
// the returned function is called, which waits for them and gives the history.
func Run(t testing.TB, c *harness.Cluster, o Config) (stop func() *History) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h := &History{started: time.Now()}
	var wg sync.WaitGroup
	for id := range o.Clients {
		cl := &client{id: id, h: h, nodes: c.Nodes, o: o, seen: map[string]seen{}}
		wg.Go(func() {
			for ctx.Err() == nil {
				cl.once()
				harness.Hold(ctx, time.Duration(rand.Int64N(int64(2*o.Think))))
			}
		})
	}
	stop = func() *History {
		cancel()
		wg.Wait()
		return h
	}
	t.Cleanup(func() { stop() })
	return stop
}

// seen is a value and the modify_index it has, as the last answer gave them.
type seen struct {
	value string
	index uint64
}

type client struct {
	id, n int
	h     *History
	nodes []*harness.Node
	o     Config
	seen  map[string]seen
}

// once does one random operation on one random key through one random node.
func (c *client) once() {
	ctx, cancel := context.WithTimeout(context.Background(), c.o.Timeout)
	defer cancel()
	node := c.nodes[rand.IntN(len(c.nodes))]
	key := fmt.Sprintf("lin/%d/%d", time.Since(c.h.started)/c.o.KeyLife, rand.IntN(c.o.Keys))
	c.n++
	value := fmt.Sprintf("%d.%d", c.id, c.n)
	switch p := rand.IntN(100); {
	case p < 45:
		c.get(ctx, node, key)
	case p < 75:
		c.put(ctx, node, input{kind: put, key: key, value: value}, "")
	case p < 95:
		was := c.seen[key]
		c.put(ctx, node, input{kind: cas, key: key, value: value, expect: was.value}, fmt.Sprintf("cas=%d", was.index))
	default:
		c.del(ctx, node, input{kind: del, key: key})
	}
}

func (c *client) get(ctx context.Context, node *harness.Node, key string) {
	call := c.h.now()
	e, err := node.Read(ctx, key, "")
	if err != nil && status(err) != 404 {
		c.h.drop()
		return
	}
	c.h.add(c.id, input{kind: get, key: key}, call, output{value: e.Value})
	c.seen[key] = seen{e.Value, e.ModifyIndex}
}

// put is a put or a cas.
func (c *client) put(ctx context.Context, node *harness.Node, in input, query string) {
	call := c.h.now()
	w, err := node.Put(ctx, in.key, []byte(in.value), query)
	switch {
	case err == nil:
		c.h.add(c.id, in, call, output{ok: true})
		c.seen[in.key] = seen{in.value, w.ModifyIndex}
	case status(err) == 409 && in.kind == cas:
		c.h.add(c.id, in, call, output{ok: false})
		delete(c.seen, in.key)
	case harness.OutcomeOf(err) == harness.NotDone:
		c.h.drop()
	default:
		c.h.add(c.id, in, call, output{unknown: true})
	}
}

func (c *client) del(ctx context.Context, node *harness.Node, in input) {
	call := c.h.now()
	was, err := node.Delete(ctx, in.key)
	switch {
	case err == nil:
		c.h.add(c.id, in, call, output{ok: was})
		delete(c.seen, in.key)
	case harness.OutcomeOf(err) == harness.NotDone:
		c.h.drop()
	default:
		c.h.add(c.id, in, call, output{unknown: true})
	}
}

func status(err error) int {
	if e := (*harness.APIError)(nil); errors.As(err, &e) {
		return e.Status
	}
	return 0
}
