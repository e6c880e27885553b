package raftstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/backup"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/snapshot"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// saved is a backup in memory.
type saved struct {
	file   []byte
	header snapshot.Header
}

func save(t *testing.T, n *raftstoretest.Node, since uint64) saved {
	t.Helper()
	var b bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), raftstoretest.Patience)
	defer cancel()
	h, _, err := n.Store.Backup(ctx, &b, raftstore.BackupOptions{Since: since})
	if err != nil {
		t.Fatalf("backup since %d on %s: %v", since, n.ID, err)
	}
	return saved{b.Bytes(), h}
}

func chain(t *testing.T, files ...saved) *backup.Chain {
	t.Helper()
	var in []backup.File
	var names []string
	for i, f := range files {
		in = append(in, bytes.NewReader(f.file))
		names = append(names, fmt.Sprint("file ", i))
	}
	c, err := backup.NewChain(t.Context(), nil, in, names)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func restore(t *testing.T, n *raftstoretest.Node, files ...saved) uint64 {
	t.Helper()
	src, err := chain(t, files...).Source(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*raftstoretest.Patience)
	defer cancel()
	index, err := n.Store.Restore(ctx, src)
	if err != nil {
		t.Fatalf("restoring through %s: %v", n.ID, err)
	}
	return index
}

// contents are the users' keys on a node, with their indexes.
func contents(t *testing.T, n *raftstoretest.Node) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), raftstoretest.Patience)
	defer cancel()
	v, _, err := n.Store.View(ctx, raftstore.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	out := map[string]string{}
	var keys [][]byte
	if err := v.ScanKeys([]byte(persistence.KVPrefix), nil, func(stored []byte) error {
		key, _ := persistence.UserKey(bytes.Clone(stored))
		keys = append(keys, key)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		kv, err := v.KV(key)
		if err != nil {
			t.Fatal(err)
		}
		out[string(key)] = fmt.Sprintf("%s %d %d", kv.Value, kv.CreateIndex, kv.ModifyIndex)
	}
	return out
}

func wantContents(t *testing.T, n *raftstoretest.Node, want map[string]string) {
	t.Helper()
	got := contents(t, n)
	if len(got) != len(want) {
		t.Errorf("%s: %d keys, want %d", n.ID, len(got), len(want))
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %s is %q, want %q", n.ID, k, got[k], v)
		}
	}
}

func initCluster(t *testing.T, c *raftstoretest.Cluster, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), raftstoretest.Patience)
	defer cancel()
	if _, err := c.Leader().Store.Apply(ctx, command.Type_TYPE_CLUSTER_INIT, &command.ClusterInit{ClusterId: id}, ""); err != nil {
		t.Fatal(err)
	}
}

// churn writes and deletes at random.
func churn(t *testing.T, c *raftstoretest.Cluster, seed uint64, n int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range n {
		node := c.Nodes[rnd.IntN(len(c.Nodes))]
		key := fmt.Sprintf("key-%02d", rnd.IntN(50))
		if rnd.IntN(3) > 0 {
			node.MustPut(key, fmt.Sprint("value ", rnd.Uint64()))
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), raftstoretest.Patience)
		_, err := node.Store.Apply(ctx, command.Type_TYPE_TXN, &command.Txn{Then: []*command.Op{{Kind: command.Op_DELETE, Key: []byte(key)}}}, "")
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A chain of increments with deletions, restored into the running cluster it is of.
func TestRestoreIntoTheSameCluster(t *testing.T) {
	c := raftstoretest.New(t, 3)
	initCluster(t, c, raftstoretest.ClusterID)
	churn(t, c, 1, 100)
	full := save(t, c.Nodes[0], 0)
	var incs []saved
	since := full.header.Index
	for i := range 3 {
		churn(t, c, uint64(10+i), 40)
		inc := save(t, c.Nodes[i], since) // from another node each time
		incs, since = append(incs, inc), inc.header.Index
	}
	want := contents(t, c.Nodes[0])
	before := c.Leader().MustPut("later", "x")
	churn(t, c, 99, 50)

	sub, err := c.Nodes[1].Store.FSM().Subscribe(fsm.Filter{}, before)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	index := restore(t, c.Followers()[0], append([]saved{full}, incs...)...)
	if index <= before {
		t.Errorf("restored at %d, which is not after %d", index, before)
	}
	for _, n := range c.Nodes {
		wantContents(t, n, want)
	}
	c.CheckEqual()
	for _, n := range c.Nodes {
		oneEngine(t, n)
	}
	if err := drain(t, sub); !errors.Is(err, fsm.ErrReset) {
		t.Errorf("a watcher ended with %v, want ErrReset", err)
	}
	if _, err := c.Nodes[1].Store.FSM().Subscribe(fsm.Filter{}, before); !errors.Is(err, persistence.ErrCompacted) {
		t.Errorf("a watch from before: %v, want compacted", err)
	}
	for _, n := range c.Nodes {
		if id := n.Store.FSM().ClusterID(); id != raftstoretest.ClusterID {
			t.Errorf("%s is in cluster %q now", n.ID, id)
		}
	}
	if after := c.Leader().MustPut("after", "y"); after <= index {
		t.Errorf("a write after it has index %d, restored at %d", after, index)
	}
	if _, err := tryBackup(t, c.Nodes[0], since); !errors.Is(err, persistence.ErrCompacted) {
		t.Errorf("an increment that reaches back behind the restore: %v", err)
	}
	restartAll(t, c)
	want["after"] = contents(t, c.Nodes[0])["after"]
	for _, n := range c.Nodes {
		wantContents(t, n, want)
	}
	c.CheckEqual()
}

func tryBackup(t *testing.T, n *raftstoretest.Node, since uint64) (snapshot.Header, error) {
	t.Helper()
	var b bytes.Buffer
	h, _, err := n.Store.Backup(t.Context(), &b, raftstore.BackupOptions{Since: since})
	return h, err
}

// drain reads a subscription to its end.
func drain(t *testing.T, sub *fsm.Subscription) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), raftstoretest.Patience)
	defer cancel()
	for {
		if _, _, err := sub.Next(ctx); err != nil {
			return err
		}
	}
}

func restartAll(t *testing.T, c *raftstoretest.Cluster) {
	t.Helper()
	for _, n := range c.Nodes {
		n.Stop()
	}
	for _, n := range c.Nodes {
		n.Start()
	}
	c.Leader()
}

// A backup of a cluster with a long log goes into new clusters with short ones: the
// index jumps, on all nodes, and stays there after restarts and for joiners.
func TestRestoreIntoANewCluster(t *testing.T) {
	old := raftstoretest.New(t, 1)
	initCluster(t, old, "old")
	churn(t, old, 1, 300)
	for old.Nodes[0].MustPut("last", "z") < 400 {
	}
	full := save(t, old.Nodes[0], 0)
	want := contents(t, old.Nodes[0])
	for _, size := range []int{1, 3} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			c := raftstoretest.New(t, size)
			initCluster(t, c, raftstoretest.ClusterID)
			c.Nodes[0].MustPut("mine", "goes")
			index := restore(t, c.Nodes[size-1], full)
			if index <= full.header.Index {
				t.Errorf("restored at %d, the backup is of %d", index, full.header.Index)
			}
			for _, n := range c.Nodes {
				wantContents(t, n, want)
				if id := n.Store.FSM().ClusterID(); id != raftstoretest.ClusterID {
					t.Errorf("%s is in cluster %q now", n.ID, id)
				}
			}
			c.CheckEqual()
			if after := c.Nodes[0].MustPut("after", "y"); after <= index {
				t.Errorf("a write after it has index %d, restored at %d", after, index)
			}
			restartAll(t, c)
			c.Nodes[0].MustPut("again", "y")
			c.CheckEqual()

			cfg := raftstoretest.Config(t, "joiner")
			joiner := raftstoretest.Start(t, cfg)
			if err := joiner.Store.SetClusterID(raftstoretest.ClusterID); err != nil {
				t.Fatal(err)
			}
			if err := c.Leader().Store.AddNonvoter(t.Context(), joiner.ID, joiner.Store.Addr()); err != nil {
				t.Fatal(err)
			}
			c.Nodes = append(c.Nodes, joiner)
			c.CheckEqual()
			for _, k := range []string{"after", "again"} {
				want[k] = contents(t, c.Nodes[0])[k]
			}
			wantContents(t, joiner, want)
			for _, k := range []string{"after", "again"} {
				delete(want, k)
			}
		})
	}
}

// Writers go on through the restore: what is acknowledged before the restore is gone,
// what is acknowledged after it is there, and the nodes agree.
func TestRestoreUnderLoad(t *testing.T) {
	for name, ahead := range map[string]bool{"of this cluster": false, "of one that is ahead": true} {
		t.Run(name, func(t *testing.T) {
			c := raftstoretest.New(t, 3)
			initCluster(t, c, raftstoretest.ClusterID)
			churn(t, c, 1, 60)
			from := c
			if ahead {
				from = raftstoretest.New(t, 1)
				churn(t, from, 1, 2000)
			}
			full := save(t, from.Nodes[0], 0)
			type ack struct {
				key   string
				index uint64
			}
			var mu sync.Mutex
			var acks []ack
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for w := range 6 {
				node := c.Nodes[w%3]
				wg.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						key := fmt.Sprintf("load/%d/%d", w, i)
						if index, err := node.Put(key, "v"); err == nil {
							mu.Lock()
							acks = append(acks, ack{key, index})
							mu.Unlock()
						}
					}
				})
			}
			acked := func() int { mu.Lock(); defer mu.Unlock(); return len(acks) }
			grow := func(by int) {
				n := acked() + by
				raftstoretest.Eventually(t, func() error {
					if acked() < n {
						return errors.New("the writers do not get on")
					}
					return nil
				})
			}
			grow(50)
			index := restore(t, c.Nodes[0], full)
			grow(50)
			close(stop)
			wg.Wait()
			c.CheckEqual()
			got := contents(t, c.Nodes[2])
			for _, a := range acks {
				_, there := got[a.key]
				if there != (a.index > index) {
					t.Fatalf("%s, acknowledged at %d, is there: %v; restored at %d", a.key, a.index, there, index)
				}
			}
		})
	}
}

// What a restore that was given up has left in the state goes.
func TestAnUnfinishedRestoreIsTidiedUp(t *testing.T) {
	c := raftstoretest.New(t, 3)
	churn(t, c, 1, 20)
	full := save(t, c.Nodes[0], 0)
	want := contents(t, c.Nodes[0])
	broken := &breaking{Source: source(t, full), after: 5}
	if _, err := c.Nodes[1].Store.Restore(t.Context(), broken); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	noPieces(t, c)
	// One whose node died: nobody is carrying it out.
	for _, m := range []*command.Restore{
		{Step: command.Restore_BEGIN, Id: "gone", Node: c.Nodes[2].ID},
		{Step: command.Restore_CHUNK, Id: "gone", Data: bytes.Repeat([]byte("x"), 1000)},
	} {
		if _, err := c.Nodes[0].Store.Apply(t.Context(), command.Type_TYPE_RESTORE, m, ""); err != nil {
			t.Fatal(err)
		}
	}
	noPieces(t, c)
	wantContents(t, c.Nodes[0], want)
}

func source(t *testing.T, f saved) snapshot.Source {
	t.Helper()
	src, err := chain(t, f).Source(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

var errBroken = errors.New("broken")

// breaking fails after some records.
type breaking struct {
	snapshot.Source
	after int
}

func (b *breaking) Next() (snapshot.Record, error) {
	if b.after--; b.after < 0 {
		return snapshot.Record{}, errBroken
	}
	return b.Source.Next()
}

func noPieces(t *testing.T, c *raftstoretest.Cluster) {
	t.Helper()
	raftstoretest.Eventually(t, func() error {
		v, err := c.Leader().Store.DB().View()
		if err != nil {
			return err
		}
		defer v.Close()
		return v.ScanKeys(persistence.RestoreKey(), nil, func(key []byte) error { return fmt.Errorf("%q is left", key) })
	})
}

// A backup taken while writers write holds exactly what was acknowledged at or below
// its index.
func TestBackupUnderLoadIsConsistent(t *testing.T) {
	c := raftstoretest.New(t, 3)
	type ack struct {
		key   string
		index uint64
	}
	acks := make([][]ack, 6)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range acks {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprintf("load/%d/%d", w, i)
				acks[w] = append(acks[w], ack{key, c.Nodes[w%3].MustPut(key, "v")})
			}
		})
	}
	var backups []saved
	since := uint64(0)
	for i := range 8 {
		b := save(t, c.Nodes[i%3], since)
		if i > 0 && b.header.Index < since {
			t.Fatalf("a backup at %d after one at %d", b.header.Index, since)
		}
		backups, since = append(backups, b), b.header.Index
	}
	close(stop)
	wg.Wait()
	for n := range backups {
		src, err := chain(t, backups[:n+1]...).Source(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		has := map[string]uint64{}
		for {
			r, err := src.Next()
			if err != nil {
				break
			}
			if key, ok := persistence.UserKey(r.Key); ok {
				has[string(key)] = r.Version
			}
		}
		at := backups[n].header.Index
		for _, a := range slices.Concat(acks...) {
			if got := has[a.key]; (a.index <= at) != (got == a.index) {
				t.Fatalf("backup %d, of index %d: %s, acknowledged at %d, is in it at %d", n, at, a.key, a.index, got)
			}
		}
	}
}

// Cluster time does not go back with the data, and what was set in it comes along.
func TestRestoreKeepsTime(t *testing.T) {
	c := raftstoretest.New(t, 1)
	n := c.Nodes[0]
	n.MustPut("a", "1")
	full := save(t, n, 0)
	before := n.Store.ClusterTime()
	restore(t, n, full)
	if after := n.Store.ClusterTime(); after < before {
		t.Fatalf("cluster time went from %v back to %v", time.Duration(before), time.Duration(after))
	}
}

// oneEngine waits until the engine that a restore replaced is gone.
func oneEngine(t *testing.T, n *raftstoretest.Node) {
	t.Helper()
	raftstoretest.Eventually(t, func() error {
		dirs, err := filepath.Glob(filepath.Join(n.Config.DataDir, "engine", "[0-9]*"))
		if err == nil && len(dirs) != 1 {
			err = fmt.Errorf("engines of %s: %v", n.ID, dirs)
		}
		return err
	})
}
