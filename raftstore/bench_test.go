package raftstore_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// production has the timings and sizes of a real node.
func production(_ int, c *raftstore.Config) {
	d := raftstore.Config{}
	c.Heartbeat, c.Election, c.LeaderLease, c.CommitTimeout, c.SegmentSize = d.Heartbeat, d.Election, d.LeaderLease, d.CommitTimeout, d.SegmentSize
	c.Badger = d.Badger
}

// clients runs fn from so many goroutines until b.N calls are done.
func clients(b *testing.B, n int, fn func(i int64) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				if err := fn(i); err != nil {
					b.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func BenchmarkThreeNodes(b *testing.B) {
	c := raftstoretest.New(b, 3, production)
	value := strings.Repeat("v", 256)
	leader, follower := c.Leader(), c.Followers()[0]
	leader.MustPut("k", value)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	read := func(n *raftstoretest.Node) func(int64) error {
		return func(int64) error {
			v, _, err := n.Store.View(ctx, raftstore.ReadOptions{})
			if err != nil {
				return err
			}
			defer v.Close()
			_, err = v.KV([]byte("k"))
			return err
		}
	}
	write := func(n *raftstoretest.Node) func(int64) error {
		return func(i int64) error {
			_, err := n.Store.Apply(ctx, 1, raftstoretest.Set(fmt.Sprintf("k%d", i%100_000), value), "")
			return err
		}
	}
	for _, n := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("write/leader/%d", n), func(b *testing.B) { clients(b, n, write(leader)) })
		b.Run(fmt.Sprintf("write/follower/%d", n), func(b *testing.B) { clients(b, n, write(follower)) })
		b.Run(fmt.Sprintf("read/leader/%d", n), func(b *testing.B) { clients(b, n, read(leader)) })
		b.Run(fmt.Sprintf("read/follower/%d", n), func(b *testing.B) { clients(b, n, read(follower)) })
	}
}
