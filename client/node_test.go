package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/client"
	"github.com/neogan74/konsul/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// TestRealCluster is the client against three real nodes.
func TestRealCluster(t *testing.T) {
	cluster := harness.Start(t, harness.Options{Nodes: 3})
	c := newClient(t, client.Config{Addresses: strings.Split(cluster.Addresses(), ","), AutoIdempotency: true, RetryTimeout: 30 * time.Second})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	t.Run("odd keys and values survive every path", func(t *testing.T) { oddKeys(ctx, t, c) })
	t.Run("conditions", func(t *testing.T) { conditions(ctx, t, c) })
	t.Run("blocking reads", func(t *testing.T) { blockingRead(ctx, t, c) })
	t.Run("cluster", func(t *testing.T) { clusterCalls(ctx, t, c, cluster) })
	t.Run("services", func(t *testing.T) { services(ctx, t, c) })
	t.Run("checks of nodes", func(t *testing.T) { nodeChecks(ctx, t, c) })
	t.Run("sessions and locks", func(t *testing.T) { sessionsAndLocks(ctx, t, c) })
	t.Run("a lock and a service outlive the leader", func(t *testing.T) { helpersOutlive(ctx, t, c, cluster) })
	t.Run("a killed leader", func(t *testing.T) { killedLeader(ctx, t, c, cluster) })
}

func oddKeys(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	want := map[string][]byte{}
	for i, key := range []string{"plain", "a//b", "../x", "./y", "%2F", "a b+c", "?q#f", "/lead", "trail/", "\x00", "\xff\xfe/", "😀",
		"http://h/p", strings.Repeat("k", client.MaxKeyLen-4)} {
		want["odd/"+key[:min(len(key), client.MaxKeyLen-4)]] = [][]byte{{}, []byte("text <&>"), {0, 0xff}, bytes.Repeat([]byte{'v'}, 512<<10)}[i%4]
	}
	var start client.Meta
	if _, err := c.Put(ctx, "before", nil, client.WithMeta(&start)); err != nil {
		t.Fatal(err)
	}
	for key, value := range want {
		if _, err := c.Put(ctx, key, value, client.Flags(7)); err != nil {
			t.Fatalf("put %q: %v", key, err)
		}
		if entry, err := c.Get(ctx, key); err != nil || !bytes.Equal(entry.Value, value) || entry.Flags != 7 {
			t.Fatalf("get %q: %+v, %v", key, entry, err)
		}
	}
	same := func(how string, got map[string][]byte) {
		t.Helper()
		if !maps.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: %d keys, want %d: %.200q", how, len(got), len(want), slices.Sorted(maps.Keys(got)))
		}
	}
	got := map[string][]byte{}
	for entry, err := range c.List(ctx, client.ListOptions{Prefix: "odd/", PageSize: 3, OneVersion: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got[entry.Key] = entry.Value
	}
	same("list", got)
	var keys []string
	for key, err := range c.Keys(ctx, client.ListOptions{Prefix: "odd/", PageSize: 5}) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if !slices.Equal(keys, slices.Sorted(maps.Keys(want))) {
		t.Errorf("keys %.200q", keys)
	}
	got, missing, err := c.BatchGet(ctx, append(keys, "odd/none\xff"))
	if err != nil || !slices.Equal(missing, []string{"odd/none\xff"}) {
		t.Errorf("batch get: missing %q, %v", missing, err)
	}
	same("batch get", got)
	got = map[string][]byte{}
	for event, err := range c.Watch(ctx, client.WatchOptions{Prefix: "odd/", From: start.Index}) {
		if err != nil {
			t.Fatal(err)
		}
		if got[event.Key] = event.Entry.Value; len(got) == len(want) {
			break
		}
	}
	same("watch", got)
	small := map[string][]byte{}
	txn := c.Txn()
	for key, value := range want {
		if len(value) < 1000 {
			small[key] = append(value, '!')
			txn.If(client.CompareValue(key, "=", value)).Then(client.OpGet(key))
		}
	}
	result, err := txn.Commit(ctx)
	if err != nil || !result.Succeeded || len(result.Results) != len(small) {
		t.Fatalf("transaction: %+v, %v", result, err)
	}
	if _, err := c.BatchSet(ctx, small); err != nil {
		t.Fatal(err)
	}
	maps.Copy(want, small)
	got, _, err = c.BatchGet(ctx, keys)
	if err != nil {
		t.Fatal(err)
	}
	same("batch set", got)
	if n, err := c.BatchDelete(ctx, keys[:3]); err != nil || n != 3 {
		t.Errorf("batch delete: %d, %v", n, err)
	}
	if deleted, err := c.Delete(ctx, keys[3]); err != nil || !deleted {
		t.Errorf("delete: %v, %v", deleted, err)
	}
	if n, err := c.DeletePrefix(ctx, "odd/"); err != nil || n != len(want)-4 {
		t.Errorf("delete prefix: %d, %v", n, err)
	}
}

func conditions(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	put, err := c.Put(ctx, "cond", []byte("1"), client.CAS(0))
	if err != nil {
		t.Fatal(err)
	}
	for name, cas := range map[string]uint64{"absent": 0, "older": put.ModifyIndex - 1} {
		if _, err := c.Put(ctx, "cond", nil, client.CAS(cas)); !client.IsCASConflict(err) {
			t.Errorf("put if %s: %v", name, err)
		}
	}
	if _, err := c.Delete(ctx, "cond", client.CAS(put.ModifyIndex+1)); !client.IsCASConflict(err) {
		t.Errorf("delete: %v", err)
	}
	_, err = c.Txn().Then(client.OpGet("cond"), client.OpSet("cond", nil).WithCAS(0)).Commit(ctx)
	var failed *client.Error
	if !errors.As(err, &failed) || !client.IsCASConflict(err) || failed.Op != 1 || failed.ModifyIndex != put.ModifyIndex {
		t.Errorf("transaction: %+v", err)
	}
	if _, err := c.Get(ctx, "none"); !client.IsNotFound(err) {
		t.Errorf("get: %v", err)
	}
	if entry, err := c.Get(ctx, "cond", client.At(put.ModifyIndex)); err != nil || entry.ModifyIndex != put.ModifyIndex {
		t.Errorf("get the past: %+v, %v", entry, err)
	}
	if _, err := c.Put(ctx, "cond", make([]byte, 512<<10+1)); err == nil || client.IsNotApplied(err) {
		t.Errorf("too large: %v", err)
	}
}

func blockingRead(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	put, err := c.Put(ctx, "block", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		entry, err := c.Get(ctx, "block", client.Wait(put.ModifyIndex, time.Minute))
		if err == nil && string(entry.Value) != "2" {
			err = fmt.Errorf("value %q", entry.Value)
		}
		done <- err
	}()
	if _, err := c.Put(ctx, "block", []byte("2")); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func clusterCalls(ctx context.Context, t *testing.T, c *client.Client, cluster *harness.Cluster) {
	t.Helper()
	peers, err := c.Peers(ctx)
	if err != nil || len(peers) != 3 {
		t.Fatalf("peers %+v, %v", peers, err)
	}
	leader, err := c.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	to := peers[slices.IndexFunc(peers, func(p client.Peer) bool { return p.ID != leader.ID })]
	if got, err := c.Transfer(ctx, to.ID); err != nil || got != to.ID {
		t.Errorf("transfer to %s: %s, %v", to.ID, got, err)
	}
	if _, err := c.Snapshot(ctx); err != nil {
		t.Errorf("snapshot: %v", err)
	}
	var meta client.Meta
	if _, err := c.Put(ctx, "digest", nil, client.WithMeta(&meta)); err != nil {
		t.Fatal(err)
	}
	digests := map[client.Digest]bool{}
	for _, n := range cluster.Nodes {
		one, err := c.Node(n.HTTP)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := one.Digest(ctx, meta.Index)
		if err != nil {
			t.Fatal(err)
		}
		digests[digest] = true
		if health, err := one.Health(ctx); err != nil || health.Status != "healthy" {
			t.Errorf("%s: health %+v, %v", n.Name, health, err)
		}
		if err := one.Ready(ctx); err != nil {
			t.Errorf("%s: %v", n.Name, err)
		}
	}
	if len(digests) != 1 {
		t.Errorf("digests differ: %v", digests)
	}
	if err := c.Leave(ctx, "nobody"); !client.IsNotFound(err) {
		t.Errorf("leave: %v", err)
	}
}

// killedLeader writes through a leader's death: with idempotency keys every write
// succeeds, and a watch sees each exactly once, in order.
func killedLeader(ctx context.Context, t *testing.T, c *client.Client, cluster *harness.Cluster) {
	t.Helper()
	const writes = 150
	var start client.Meta
	if _, err := c.Put(ctx, "start", nil, client.WithMeta(&start)); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		for i := range writes {
			// One key, conditional on the write before: a write applied twice would fail.
			if _, err := c.Put(ctx, fmt.Sprintf("kill/%04d", i), []byte("v"), client.CAS(0)); err != nil {
				written <- fmt.Errorf("write %d: %w", i, err)
				return
			}
			if i == writes/3 {
				leader, err := cluster.TryLeader()
				if err == nil {
					err = leader.TryKill9()
				}
				if err != nil {
					written <- err
					return
				}
			}
		}
		written <- nil
	}()
	seen := 0
	for event, err := range c.Watch(ctx, client.WatchOptions{Prefix: "kill/", From: start.Index}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("kill/%04d", seen); event.Key != want {
			t.Fatalf("event of %s, want %s", event.Key, want)
		}
		if seen++; seen == writes {
			break
		}
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}
