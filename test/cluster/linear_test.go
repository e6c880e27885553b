//go:build cluster

package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
	"github.com/neogan74/konsul/test/linear"
)

var errNone = errors.New("none yet")

// Gets, puts, deletes and compare-and-sets through all nodes are linearizable
// while nodes are paused, killed and made to hand over the leadership.
func TestLinearizableUnderFaults(t *testing.T) {
	faults := map[string]func(t *testing.T, c *harness.Cluster){
		"pause": pauseLeader, "kill": killLeader, "transfer": transferLeader, "all": anyFault,
	}
	for _, name := range pick([]string{"all"}, []string{"pause", "kill", "transfer", "all"}) {
		t.Run(name, func(t *testing.T) {
			c := three(t)
			stop := linear.Run(t, c, linear.Default())
			for end := time.Now().Add(pick(12*time.Second, 60*time.Second)); time.Now().Before(end); {
				harness.Hold(t.Context(), time.Duration(300+rand.IntN(1200))*time.Millisecond)
				faults[name](t, c)
			}
			c.WaitReady(30 * time.Second)
			stop().Check(t)
			c.SameDigest()
		})
	}
}

func anyFault(t *testing.T, c *harness.Cluster) {
	t.Helper()
	switch rand.IntN(5) {
	case 0:
		killLeader(t, c)
	case 1:
		transferLeader(t, c)
	case 2: // any node, for a short time: late messages rather than an election
		n := c.Other()
		n.Pause()
		harness.Hold(t.Context(), time.Duration(50+rand.IntN(500))*time.Millisecond)
		n.Resume()
	default:
		pauseLeader(t, c)
	}
}

func pauseLeader(t *testing.T, c *harness.Cluster) {
	t.Helper()
	n := c.Leader()
	n.Pause()
	harness.Hold(t.Context(), time.Duration(200+rand.IntN(3000))*time.Millisecond)
	n.Resume()
}

func killLeader(t *testing.T, c *harness.Cluster) {
	t.Helper()
	n := c.Leader()
	n.Kill9()
	harness.Hold(t.Context(), time.Duration(rand.IntN(2000))*time.Millisecond)
	n.Start()
	n.WaitReady(30 * time.Second)
}

func transferLeader(t *testing.T, c *harness.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	a, err := c.Other().Post(ctx, "/cluster/transfer", struct{}{})
	if err != nil {
		t.Logf("transfer: %v", err) // the node may have been resumed a moment ago
		return
	}
	if a.Status >= 500 && a.Status != 503 && a.Status != 504 {
		t.Errorf("transfer: %v", a.Err())
	}
}

// A leader that was asleep while another took over must never serve what it
// last knew: it is asked at the very moment it wakes, by many connections that
// were open before, which the old leader's own view would answer at once.
func TestAResumedLeaderServesNothingStale(t *testing.T) {
	c := three(t)
	for round := range pick(6, 30) {
		old := c.Leader()
		key := fmt.Sprintf("stale/%d", round)
		mustPut(t, old, key, "old")
		warm(t, old, key)
		old.Pause()
		harness.Hold(t.Context(), time.Duration(200+rand.IntN(800))*time.Millisecond)
		early := readers(old, key, 8) // in the socket buffers while it sleeps
		harness.Hold(t.Context(), time.Duration(800+rand.IntN(pick(2000, 4200)))*time.Millisecond)
		index := writeElsewhere(t, c, old, key)
		written := time.Now()
		old.Resume()
		late := readers(old, key, 8)
		if n := judge(t, early, written, index) + judge(t, late, written, index); n == 0 {
			t.Errorf("round %d: no read was answered", round)
		}
		old.WaitReady(30 * time.Second)
	}
}

// answer is what one linearizable read said and when it was asked.
type answer struct {
	asked time.Time
	entry harness.Entry
	err   error
}

// readers starts n readers of key that read again and again until the new value
// was seen or ten seconds have passed.
func readers(node *harness.Node, key string, n int) chan answer {
	out := make(chan answer, 1<<16)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	left := make(chan struct{}, n)
	for range n {
		go func() {
			defer func() { left <- struct{}{} }()
			for again := 0; ctx.Err() == nil && again < 50; {
				asked := time.Now()
				e, err := node.Read(ctx, key, "")
				out <- answer{asked, e, err}
				if e.Value == "new" {
					again++
				}
				if err != nil {
					harness.Hold(ctx, 5*time.Millisecond)
				}
			}
		}()
	}
	go func() {
		for range n {
			<-left
		}
		cancel()
		close(out)
	}()
	return out
}

// judge counts the answers; one that was asked after the new value was
// acknowledged and gives the old one is the failure this test looks for. (A read
// asked before may legally be answered by either.)
func judge(t *testing.T, answers chan answer, written time.Time, index uint64) (good int) {
	t.Helper()
	for a := range answers {
		if a.err != nil {
			continue
		}
		if a.asked.After(written) && (a.entry.Value != "new" || a.entry.ModifyIndex != index) {
			t.Fatalf("asked %s after the new value was acknowledged at %d, the old leader said %q at %d",
				a.asked.Sub(written), index, a.entry.Value, a.entry.ModifyIndex)
		}
		good++
	}
	return good
}

// warm opens connections to the node, so that the reads after its sleep do not wait for new ones.
func warm(t *testing.T, n *harness.Node, key string) {
	t.Helper()
	for a := range oneReadEach(n, key, 8) {
		if a.err != nil {
			t.Fatal(a.err)
		}
	}
}

// oneReadEach is one read on each of n connections at once.
func oneReadEach(node *harness.Node, key string, n int) chan answer {
	out := make(chan answer, n)
	done := make(chan struct{}, n)
	for range n {
		go func() {
			e, err := node.Read(context.Background(), key, "")
			out <- answer{time.Now(), e, err}
			done <- struct{}{}
		}()
	}
	for range n {
		<-done
	}
	close(out)
	return out
}

// writeElsewhere writes the new value through the nodes that are awake.
func writeElsewhere(t *testing.T, c *harness.Cluster, not *harness.Node, key string) (index uint64) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, "a write through the new leader", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		w, err := c.Other(not).Put(ctx, key, []byte("new"), "")
		index = w.ModifyIndex
		return err
	})
	return index
}
