//go:build cluster

package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// The same Idempotency-Key through different nodes gives the first answer and
// applies nothing: a compare-and-set that succeeded once does not fail the second time.
func TestTheSameIdempotencyKeyAppliesOnce(t *testing.T) {
	c := three(t)
	for i := range pick(10, 50) {
		key, id := fmt.Sprint("idem/", i), fmt.Sprintf("order-%d", i)
		first, err := c.Nodes[i%3].Put(soon(t), key, []byte("first"), "cas=0", "Idempotency-Key", id)
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, c.Nodes[(i+1)%3], key, "in between")
		for _, n := range c.Nodes {
			again, err := n.Put(soon(t), key, []byte("first"), "cas=0", "Idempotency-Key", id)
			if err != nil || again != first {
				t.Fatalf("%s: the first answer was %+v, again %+v (%v)", n.Name, first, again, err)
			}
		}
		if err := wantValue(c.Nodes[i%3], key, "in between", 0); err != nil {
			t.Fatal(err)
		}
	}
	c.SameDigest()
}

// A client that does not know what became of its write sends it again with the
// same key until it has an answer, across kills of the leader: a counter moved by
// compare-and-set in a transaction then counts each step once.
func TestRetriesWithAKeyCountOnceAcrossKills(t *testing.T) {
	c := three(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	steps := make(chan int, 1)
	go func() { steps <- count(ctx, c) }()
	for range pick(3, 10) {
		harness.Hold(ctx, 1500*time.Millisecond)
		leader := c.Leader()
		leader.Restart()
		leader.WaitReady(30 * time.Second)
	}
	cancel()
	done := <-steps
	list, err := c.Nodes[0].List(soon(t), "count/", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d steps", done)
	for i, e := range list {
		if e.CreateIndex != e.ModifyIndex {
			t.Fatalf("%s was applied twice: %+v", e.Key, e)
		}
		if want := fmt.Sprintf("count/%06d", i); e.Key != want {
			t.Fatalf("step %d is %s", i, e.Key)
		}
	}
	if len(list) < done || len(list) > done+1 {
		t.Fatalf("%d steps were acknowledged, %d are there", done, len(list))
	}
	c.SameDigest()
}

// count writes one key after the other, each "only if absent" and repeated with
// its idempotency key through the next node until it is acknowledged: without the
// memory of the state machine a repeat would get 409.
func count(ctx context.Context, c *harness.Cluster) (done int) {
	nodes := c.Nodes
	for try := 0; ; try++ {
		one, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		_, err := nodes[try%3].Put(one, fmt.Sprintf("count/%06d", done), []byte("x"), "cas=0", "Idempotency-Key", fmt.Sprintf("step-%d", done))
		cancel()
		switch {
		case err == nil:
			done++
		case status(err) == 409:
			return -done - 1 // found by the caller: more keys than steps
		default:
			harness.Hold(ctx, 20*time.Millisecond)
		}
		if ctx.Err() != nil {
			return done
		}
	}
}
