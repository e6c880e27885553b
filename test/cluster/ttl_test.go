//go:build cluster

package cluster

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// A TTL is never early, and at most 1.5 s late, where nothing fails.
func TestTTLWithoutFaults(t *testing.T) {
	c := three(t)
	l := startLives(t, c, 3*time.Second)
	harness.Hold(t.Context(), pick(5*time.Second, 20*time.Second))
	l.judge(t, 1500*time.Millisecond)
	c.SameDigest()
}

// Ten leaders in a row are killed with -9. Nothing goes early, nor later than the
// outages and 2 s.
func TestTTLWhileLeadersAreKilled(t *testing.T) {
	c := three(t)
	l := startLives(t, c, 5*time.Second)
	probe := c.StartWriters("probe", 4, 16)
	for range pick(3, 10) {
		harness.Hold(t.Context(), time.Second)
		leader := c.Leader()
		killed := time.Now()
		leader.Kill9()
		l.outageSince(t, killed, c.Other(leader))
		leader.Start()
		leader.WaitReady(30 * time.Second)
	}
	probe.Stop()
	probe.NoWrongErrors(t)
	l.judge(t, 2*time.Second)
	c.Verify(t, probe.Ledger)
}

// The leader sleeps for 5 s; another leads meanwhile, and the first one's clock has
// gone on. Then it leads again.
func TestTTLWhileTheLeaderSleeps(t *testing.T) {
	c := three(t)
	l := startLives(t, c, 8*time.Second)
	for range pick(1, 4) {
		harness.Hold(t.Context(), time.Second)
		leader := c.Leader()
		paused := time.Now()
		leader.Pause()
		l.outageSince(t, paused, c.Other(leader))
		harness.Hold(t.Context(), 5*time.Second-time.Since(paused))
		leader.Resume()
		leader.WaitReady(30 * time.Second)
		harness.Eventually(t, 30*time.Second, leader.Name+" to lead again", func() error {
			if now, err := c.TryLeader(); err != nil || now == leader {
				return err
			}
			_, err := c.Leader().SendJSON(soon(t), http.MethodPost, "/cluster/transfer", map[string]string{"to": leader.ID()})
			return fmt.Errorf("not yet: %w", err)
		})
	}
	l.judge(t, 2*time.Second)
	c.SameDigest()
}

// outageSince waits until another node takes a write after a fault, and books the time
// between.
func (l *lives) outageSince(t *testing.T, fault time.Time, other *harness.Node) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, "a write after the fault", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err := other.Put(ctx, "outage", []byte("over"), "")
		return err
	})
	end := time.Now()
	t.Logf("a write after %s", end.Sub(fault).Round(time.Millisecond))
	l.out(fault, end)
}

// services is how many there are in the storm and in the steady state.
const services = 10000

// register registers all services from many clients at once; ttl is asked for each.
func register(t *testing.T, c *harness.Cluster, ttl func() time.Duration) {
	t.Helper()
	each(t, 48, func(i int) error {
		body := map[string]any{"address": "10.0.0.1", "port": 8000 + i%1000, "tags": []string{"v1"}, "ttl": ttl().String()}
		a, err := c.Nodes[i%len(c.Nodes)].SendJSON(soon(t), http.MethodPut, fmt.Sprintf("/services/service-%d", i), body)
		if err == nil {
			err = a.Want(http.StatusOK)
		}
		return err
	})
}

// each calls fn for every service from so many goroutines.
func each(t *testing.T, clients int, fn func(i int) error) {
	t.Helper()
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < services && failed.Load() == 0; i = int(next.Add(1) - 1) {
				if err := fn(i); err != nil {
					failed.Add(1)
					t.Errorf("service %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() > 0 {
		t.FailNow()
	}
}

const servicesMetric = "konsul_persistence_services"

// 10,000 services expire at the same moment while 16 writers go on: no election, no
// write that fails.
func TestAStormOfExpiries(t *testing.T) {
	c := three(t)
	n := c.Nodes[0]
	at := time.Now().Add(pick(20*time.Second, 60*time.Second))
	register(t, c, func() time.Duration { return time.Until(at).Round(time.Millisecond) })
	harness.Eventually(t, 10*time.Second, "all services on "+n.Name, func() error {
		if got := n.MustMetric(servicesMetric); got != services {
			return fmt.Errorf("%v services", got)
		}
		return nil
	})
	left := time.Until(at)
	if left < 2*time.Second {
		t.Fatalf("registering took too long: %s are left", left)
	}
	t.Logf("%d services registered, %s before they expire", services, left.Round(time.Second))
	before, err := n.Status(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	harness.Hold(t.Context(), left-2*time.Second)
	load := c.StartWriters("storm", 16, 256)
	harness.Hold(t.Context(), time.Until(at)-200*time.Millisecond) // the answer takes a while as well
	if got := n.MustMetric(servicesMetric); got != services {
		t.Errorf("%v of %d services are left before they are due", got, services)
	}
	harness.Eventually(t, 60*time.Second, "all services to expire", func() error {
		if got := n.MustMetric(servicesMetric); got != 0 {
			return fmt.Errorf("%v are left", got)
		}
		return nil
	})
	took := time.Since(at)
	harness.Hold(t.Context(), time.Second)
	load.Stop()
	end := time.Now()
	after, err := n.Status(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("all expired within %s; %d writes beside them, the longest pause %s", took.Round(10*time.Millisecond),
		load.Acked(), load.LongestGap(at.Add(-time.Second), end).Round(time.Millisecond))
	if before.Term != after.Term || before.LeaderID != after.LeaderID {
		t.Errorf("an election: leader %s in term %d, then %s in term %d", before.LeaderID, before.Term, after.LeaderID, after.Term)
	}
	if len(load.Errors) > 0 {
		t.Errorf("writes failed: %v", load.Errors)
	}
	load.NoWrongErrors(t)
	c.Verify(t, load.Ledger)
}

// 10,000 services with a TTL of 10 s, each with a heartbeat every 5 s: what that costs.
func TestTenThousandHeartbeats(t *testing.T) {
	const ttl, every = 10 * time.Second, 5 * time.Second
	c := three(t)
	register(t, c, func() time.Duration { return time.Minute })
	each(t, 48, func(i int) error { return heartbeat(c, i) }) // warm
	register(t, c, func() time.Duration { return ttl })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var beats, failed atomic.Int64
	var wg sync.WaitGroup
	const clients = 50
	for w := range clients {
		wg.Go(func() {
			for round := time.Now(); ctx.Err() == nil; round = round.Add(every) {
				for i := w; i < services && ctx.Err() == nil; i += clients {
					due := round.Add(every * time.Duration(i) / services)
					harness.Hold(ctx, time.Until(due))
					if err := heartbeat(c, i); err != nil && ctx.Err() == nil {
						failed.Add(1)
						t.Errorf("heartbeat of service %d: %v", i, err)
						return
					}
					beats.Add(1)
				}
			}
		})
	}
	harness.Hold(ctx, 2*every) // every service has been renewed
	start, from, used := time.Now(), beats.Load(), make([]time.Duration, len(c.Nodes))
	for i, n := range c.Nodes {
		used[i] = n.CPU()
	}
	ticks := c.Leader().MustMetric("konsul_raft_ticks_total")
	harness.Hold(ctx, pick(5*time.Second, 60*time.Second))
	took, done := time.Since(start), beats.Load()-from
	var sum time.Duration
	for i, n := range c.Nodes {
		cpu := n.CPU() - used[i]
		sum += cpu
		t.Logf("%s: %.0f%% of a core, %d MiB of memory", n.Name, 100*cpu.Seconds()/took.Seconds(), n.Memory()>>20)
	}
	t.Logf("%.0f heartbeats/s, %.1f ticks/s: %.0f%% of a core on three nodes together, %s for each heartbeat",
		float64(done)/took.Seconds(), (c.Leader().MustMetric("konsul_raft_ticks_total")-ticks)/took.Seconds(),
		100*sum.Seconds()/took.Seconds(), (sum / time.Duration(max(done, 1))).Round(time.Microsecond))
	if got := c.Nodes[0].MustMetric(servicesMetric); got != services {
		t.Errorf("%v of %d services are left, though all were renewed", got, services)
	}
	cancel()
	wg.Wait()
	c.SameDigest()
}

func heartbeat(c *harness.Cluster, i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	a, err := c.Nodes[i%len(c.Nodes)].Do(ctx, http.MethodPut, fmt.Sprintf("/services/service-%d/heartbeat", i), nil)
	if err == nil {
		err = a.Want(http.StatusOK)
	}
	return err
}
