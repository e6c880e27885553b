package raftstore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

func stampOf(t *testing.T, n *raftstoretest.Node, index uint64) int64 {
	t.Helper()
	ext, err := n.Store.Extensions(index)
	if err != nil {
		t.Fatalf("entry %d of %s: %v", index, n.ID, err)
	}
	if len(ext) != 9 || ext[0] != 1 {
		t.Fatalf("entry %d of %s: extensions %x", index, n.ID, ext)
	}
	return int64(binary.BigEndian.Uint64(ext[1:]))
}

// Every node has the stamps of the leader, on disk, in order, also after a restart;
// and a node's own clock, an hour off here, never shows.
func TestStampsReachEveryLog(t *testing.T) {
	c := raftstoretest.New(t, 3, func(i int, cfg *raftstore.Config) {
		off := time.Duration(i-1) * time.Hour
		cfg.SetClock(func() time.Time { return time.Now().Add(off) })
	})
	began := time.Now()
	indexes := make([]uint64, 30)
	for i := range indexes {
		indexes[i] = c.Nodes[i%3].MustPut(fmt.Sprint(i), "v")
		if i%10 == 9 {
			c.MoveTo(c.Nodes[(i/10)%3])
		}
	}
	took := time.Since(began)
	c.CheckEqual()
	want := make([]int64, len(indexes))
	for i, index := range indexes {
		want[i] = stampOf(t, c.Nodes[0], index)
		if i > 0 && want[i] < want[i-1] {
			t.Errorf("the stamp of entry %d is %d, before that %d", index, want[i], want[i-1])
		}
	}
	if last := time.Duration(want[len(want)-1]); last <= 0 || last > took+raftstoretest.Patience {
		t.Errorf("cluster time is %s after %s", last, took)
	}
	for round := range 2 {
		for _, n := range c.Nodes {
			for i, index := range indexes {
				if got := stampOf(t, n, index); got != want[i] {
					t.Fatalf("round %d: %s has stamp %d for entry %d, want %d", round, n.ID, got, index, want[i])
				}
			}
			if round == 0 {
				n.Stop()
				n.Start()
			}
		}
		c.Leader()
	}
}

// All commands have a stamp, the first of a leader too, and none is before another
// one's: what a new leader gives a TTL before it is ready lives as long as any.
func TestStampsGrowAlongTheLog(t *testing.T) {
	c := raftstoretest.New(t, 3)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for w, n := range c.Nodes {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				_, _ = n.Put(fmt.Sprintf("%d-%d", w, i), "v")
			}
		})
	}
	for i := range 6 {
		c.MoveTo(c.Nodes[i%3])
	}
	stop()
	wg.Wait()
	n := c.Leader()
	end := n.MustPut("last", "v")
	terms := map[uint64]bool{}
	var last int64
	commands := 0
	for i := n.Store.FirstLogIndex(); i <= end; i++ {
		term, isCommand, err := n.Store.Entry(i)
		if err != nil {
			t.Fatal(err)
		}
		terms[term] = true
		if !isCommand {
			continue
		}
		commands++
		stamp := stampOf(t, n, i)
		if stamp < last {
			t.Fatalf("entry %d of term %d has stamp %d, before it %d", i, term, stamp, last)
		}
		last = stamp
	}
	t.Logf("%d commands in %d terms", commands, len(terms))
	if len(terms) < 4 {
		t.Errorf("%d terms only", len(terms))
	}
}

// A follower that gets the state as a snapshot goes on in the same time.
func TestTimeGoesOnAfterASnapshot(t *testing.T) {
	c := raftstoretest.New(t, 3, func(_ int, cfg *raftstore.Config) { cfg.TrailingLogs = 4 })
	away := c.Followers()[0]
	away.Stop()
	for i := range 20 {
		c.Leader().MustPut(fmt.Sprint(i), "v")
	}
	if err := c.Leader().Store.TakeSnapshot(context.Background()); err != nil {
		t.Fatal(err)
	}
	before := c.Leader().MustPut("before", "v")
	at := stampOf(t, c.Leader(), before)
	away.Start()
	if got := away.MustGet("before"); got != "v" {
		t.Fatal(got)
	}
	c.MoveTo(away)
	if after := stampOf(t, away, away.MustPut("after", "v")); after < at {
		t.Errorf("cluster time went from %d back to %d", at, after)
	}
}

// A backup of a cluster that is older, but has written less, brings a time that is ahead:
// the leader's clock goes on from there, or nothing would expire before it gets there.
func TestTimeGoesOnFromTheBackups(t *testing.T) {
	old := raftstoretest.New(t, 1).Nodes[0]
	time.Sleep(4 * time.Second) // how far it is ahead
	if _, err := old.Store.Apply(t.Context(), command.Type_TYPE_TXN, setTTL("late", time.Hour), ""); err != nil {
		t.Fatal(err)
	}
	full := save(t, old, 0)
	n := raftstoretest.New(t, 1).Nodes[0]
	for n.MustPut("b", "2") <= full.header.Index {
	}
	restore(t, n, full)
	if _, err := n.Store.Apply(t.Context(), command.Type_TYPE_TXN, setTTL("soon", 200*time.Millisecond), ""); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	raftstoretest.Eventually(t, func() error {
		if _, there := contents(t, n)["soon"]; there {
			return errors.New("it is still there")
		}
		return nil
	})
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("a TTL of 200 ms took %v", took)
	}
}
