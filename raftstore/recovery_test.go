package raftstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

func tiny(_ int, c *raftstore.Config) {
	c.SnapshotThreshold, c.SnapshotInterval, c.TrailingLogs, c.QueueDepth = 50, 20*time.Millisecond, 10, 8
}

func TestFollowerCatchesUpBySnapshot(t *testing.T) {
	c := raftstoretest.New(t, 3, tiny)
	away := c.Followers()[0]
	away.MustPut("before", "1")
	away.Stop()
	leader := c.Leader()
	for i := range 300 {
		leader.MustPut(fmt.Sprintf("k%d", i%50), fmt.Sprint(i))
	}
	raftstoretest.Eventually(t, func() error {
		if first := leader.Store.FirstLogIndex(); first < 100 {
			return fmt.Errorf("the log still starts at %d", first)
		}
		return nil
	})
	away.Start()
	if got := away.MustGet("k49"); got != "299" {
		t.Fatalf("got %q", got)
	}
	c.CheckEqual()
	away.Stop() // and from what it installed
	away.Start()
	c.CheckEqual()
}

// restart with something done to the data directory in between.
func restart(t *testing.T, n *raftstoretest.Node, between func(dir string)) error {
	t.Helper()
	n.Stop()
	between(n.Config.DataDir)
	return n.TryStart()
}

func filled(t *testing.T, snapshot bool) *raftstoretest.Node {
	t.Helper()
	c := raftstoretest.New(t, 1, func(_ int, cfg *raftstore.Config) { cfg.TrailingLogs = 1 })
	n := c.Nodes[0]
	init := &command.ClusterInit{ClusterId: n.Store.ClusterID()}
	if _, err := n.Store.Apply(context.Background(), command.Type_TYPE_CLUSTER_INIT, init, ""); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		n.MustPut(fmt.Sprintf("k%d", i), "v")
	}
	if snapshot {
		if err := n.Store.TakeSnapshot(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	n.MustPut("last", "v")
	return n
}

func check(t *testing.T, n *raftstoretest.Node) {
	t.Helper()
	for _, key := range []string{"k0", "k19", "last"} {
		if got := n.MustGet(key); got != "v" {
			t.Errorf("%s = %q", key, got)
		}
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func TestEngineIsRebuilt(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		for name, damage := range map[string]func(dir string){
			"lost":           func(dir string) { remove(t, filepath.Join(dir, "engine")) },
			"CURRENT is bad": func(dir string) { write(t, filepath.Join(dir, "engine", "CURRENT"), "nonsense\n") },
			"state is bad":   func(dir string) { write(t, glob(t, dir, "engine/*/state.json")[0], "{") },
		} {
			t.Run(fmt.Sprintf("%s, snapshot %v", name, snapshot), func(t *testing.T) {
				n := filled(t, snapshot)
				if err := restart(t, n, damage); err != nil {
					t.Fatal(err)
				}
				check(t, n)
			})
		}
	}
}

func TestUncleanEndWithoutSync(t *testing.T) {
	n := filled(t, true)
	n.Config.SyncWrites = false
	if err := restart(t, n, func(dir string) { remove(t, filepath.Join(dir, "clean")) }); err != nil {
		t.Fatal(err)
	}
	check(t, n)
	if err := restart(t, n, func(string) {}); err != nil { // a clean one
		t.Fatal(err)
	}
	check(t, n)
}

func TestLostLogIsRefused(t *testing.T) {
	n := filled(t, false)
	err := restart(t, n, func(dir string) { remove(t, filepath.Join(dir, "raft")) })
	if !errors.Is(err, raftstore.ErrDamaged) {
		t.Fatalf("starting without the log: %v", err)
	}
	if !strings.Contains(err.Error(), n.Config.DataDir) {
		t.Errorf("the error does not say where: %v", err)
	}
}

// What a node cannot come back from without forgetting something is refused, and
// nothing is changed: with what was taken away put back, all is there.
func TestLostPartsAreRefused(t *testing.T) {
	for name, lose := range map[string]func(dir string){
		"the log": func(dir string) { remove(t, filepath.Join(dir, "raft")) },
		"the log and the engine": func(dir string) {
			remove(t, filepath.Join(dir, "raft"))
			remove(t, filepath.Join(dir, "engine"))
		},
		"what is in the log": func(dir string) {
			for _, path := range glob(t, dir, "raft/*.wal") {
				write(t, path, "")
			}
		},
		"the node id":          func(dir string) { remove(t, filepath.Join(dir, "node-id")) },
		"half of it":           func(dir string) { write(t, filepath.Join(dir, "node-id"), "\n") },
		"a node id in letters": func(dir string) { write(t, filepath.Join(dir, "node-id"), "\x00\x01n") },
		"its cluster": func(dir string) {
			write(t, filepath.Join(dir, "cluster.json"), `{"format":1,"cluster_id":"another"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := filled(t, true)
			n.Config.NodeID = ""
			whole := filepath.Join(t.TempDir(), "whole")
			dir := n.Config.DataDir
			err := restart(t, n, func(dir string) {
				if err := os.CopyFS(whole, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				lose(dir)
			})
			if !errors.Is(err, raftstore.ErrDamaged) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("starting without it: %v", err)
			}
			for _, part := range []string{"raft", "node-id", "cluster.json"} {
				remove(t, filepath.Join(dir, part))
				copyPart(t, filepath.Join(whole, part), filepath.Join(dir, part))
			}
			if err := n.TryStart(); err != nil {
				t.Fatalf("with all put back: %v", err)
			}
			check(t, n)
		})
	}
}

func copyPart(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		write(t, to, string(b))
	} else if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func TestLostClusterIDComesFromTheSnapshot(t *testing.T) {
	n := filled(t, true)
	was := n.Store.ClusterID()
	err := restart(t, n, func(dir string) { remove(t, filepath.Join(dir, "cluster.json")) })
	if err != nil {
		t.Fatal(err)
	}
	if got := n.Store.ClusterID(); got != was || got == "" {
		t.Errorf("cluster %q, was %q", got, was)
	}
	check(t, n)
}

func TestCorruptSnapshot(t *testing.T) {
	corrupt := func(dir string) {
		path := glob(t, dir, "snapshots/*/state.bin")[0]
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		write(t, path, string(b))
	}
	t.Run("the log does not reach back, the engine is lost", func(t *testing.T) {
		n := filled(t, true)
		err := restart(t, n, func(dir string) { corrupt(dir); remove(t, filepath.Join(dir, "engine")) })
		if !errors.Is(err, raftstore.ErrDamaged) {
			t.Fatalf("starting with a corrupt snapshot: %v", err)
		}
	})
	t.Run("the engine is sound", func(t *testing.T) {
		n := filled(t, true)
		if err := restart(t, n, corrupt); err != nil {
			t.Fatal(err)
		}
		check(t, n)
		raftstoretest.Eventually(t, func() error {
			if aside := glob(t, n.Config.DataDir, "damaged-snapshot-*"); len(aside) != 1 {
				return fmt.Errorf("set aside: %v", aside)
			}
			return n.Store.Degraded()
		})
		// The new one is whole.
		if err := restart(t, n, func(dir string) { remove(t, filepath.Join(dir, "engine")) }); err != nil {
			t.Fatal(err)
		}
		check(t, n)
	})
	t.Run("the log reaches back", func(t *testing.T) {
		c := raftstoretest.New(t, 1)
		n := c.Nodes[0]
		for _, key := range []string{"k0", "k19"} {
			n.MustPut(key, "v")
		}
		if err := n.Store.TakeSnapshot(context.Background()); err != nil {
			t.Fatal(err)
		}
		n.MustPut("last", "v")
		if err := restart(t, n, corrupt); err != nil {
			t.Fatal(err)
		}
		check(t, n)
	})
}

// Raft's metadata of a snapshot have no checksum of their own: if they contradict the
// record beside them nothing may start from them, though the data are whole.
func TestSnapshotWithOtherMetadata(t *testing.T) {
	edit := func(pattern, old, made string) func(dir string) {
		return func(dir string) {
			remove(t, filepath.Join(dir, "checkpoint.json"))
			remove(t, filepath.Join(dir, "engine"))
			path := glob(t, dir, pattern)[0]
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(b), old) {
				t.Fatalf("no %s in %s", old, b)
			}
			write(t, path, strings.Replace(string(b), old, made, 1))
		}
	}
	t.Run("raft's", func(t *testing.T) {
		n := filled(t, true)
		before, err := n.Store.Servers()
		if err != nil {
			t.Fatal(err)
		}
		for what, damage := range map[string]func(dir string){
			"the configuration": edit("snapshots/*/meta.json", `"Address":"`, `"Address":"9`),
			"the index":         edit("snapshots/*/meta.json", `"Index":2`, `"Index":1`),
			"the id":            edit("snapshots/*/meta.json", `"ID":"`, `"ID":"7`),
			"the size":          edit("snapshots/*/meta.json", `"Size":`, `"Size":1`),
			"the checksum": func(dir string) {
				path := glob(t, dir, "snapshots/*/meta.json")[0]
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				at := bytes.Index(b, []byte(`"CRC":"`)) + len(`"CRC":"`)
				if b[at]++; b[at] > 'z' || b[at] == '+'+1 || b[at] == '9'+1 || b[at] == 'Z'+1 {
					b[at] = 'k' // still base64
				}
				edit("snapshots/*/meta.json", `"CRC"`, `"CRC"`)(dir)
				write(t, path, string(b))
			},
			"the version": edit("snapshots/*/meta.json", `"Version":1`, `"Version":9`),
			"all of it":   func(dir string) { remove(t, glob(t, dir, "snapshots/*/meta.json")[0]) },
		} {
			if err := restart(t, n, damage); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			check(t, n)
			if after, err := n.Store.Servers(); err != nil || !slices.Equal(before, after) {
				t.Fatalf("%s: members %v, were %v: %v", what, after, before, err)
			}
		}
	})
	t.Run("raft's, and the data", func(t *testing.T) {
		n := filled(t, true)
		err := restart(t, n, func(dir string) {
			edit("snapshots/*/meta.json", `"Address":"`, `"Address":"9`)(dir)
			path := glob(t, dir, "snapshots/*/state.bin")[0]
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			write(t, path, string(b))
		})
		if !errors.Is(err, raftstore.ErrDamaged) || !strings.Contains(fmt.Sprint(err), "cluster reset") {
			t.Fatalf("started with another configuration: %v", err)
		}
	})
	t.Run("the record", func(t *testing.T) {
		n := filled(t, true)
		if err := restart(t, n, edit("snapshots/*/konsul.json", `"index"`, `"jndex"`)); err != nil {
			t.Fatal(err)
		}
		check(t, n)
		if aside := glob(t, n.Config.DataDir, "damaged-snapshot-*"); len(aside) != 0 {
			t.Errorf("the snapshot that it started from was set aside: %v", aside)
		}
	})
}

func TestLeftoversAreSwept(t *testing.T) {
	n := filled(t, true)
	err := restart(t, n, func(dir string) {
		if err := os.MkdirAll(filepath.Join(dir, "snapshots", "9-9-9.tmp"), 0o700); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if left := glob(t, n.Config.DataDir, "snapshots/*.tmp"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	check(t, n)
}

func TestIdentity(t *testing.T) {
	n := filled(t, false)
	n.Config.NodeID = "another"
	if err := restart(t, n, func(string) {}); !errors.Is(err, raftstore.ErrBadConfig) {
		t.Fatalf("another node id: %v", err)
	}
	n.Config.NodeID = ""
	n.Start()
	if got := n.Store.NodeID(); got != n.ID {
		t.Fatalf("node id %q", got)
	}
	if err := n.Store.SetClusterID("other"); !errors.Is(err, raftstore.ErrWrongCluster) {
		t.Fatalf("another cluster id: %v", err)
	}
	second := n.Config
	second.BindAddr = "127.0.0.1:0"
	if _, err := raftstore.Open(second); !errors.Is(err, raftstore.ErrLocked) {
		t.Fatalf("a second node on the directory: %v", err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A snapshot of a large engine is due when many bytes were written, not many entries: it
// takes as long as the engine is large. The log of a node that is restarted often, and
// counts anew each time, is cut as well.
func TestALargeEngineIsNotWrittenForFewBytes(t *testing.T) {
	const value = 256 << 10
	c := raftstoretest.New(t, 1, tiny, func(_ int, c *raftstore.Config) {
		c.SegmentSize = 1 << 20
		c.SetLargeEngine(8 << 20)
	})
	n := c.Nodes[0]
	big := func(count int) {
		for i := range count {
			n.MustPut(fmt.Sprint("big", i), strings.Repeat("v", value))
		}
	}
	big(80) // 20 MiB: two memtables
	raftstoretest.Eventually(t, func() error {
		if u, err := n.Store.DB().Usage(); err != nil || u.SST < 8<<20 {
			return fmt.Errorf("tables of %d bytes, %w", u.SST, err)
		}
		if have := n.Store.Raft().ReloadableConfig().SnapshotThreshold; have <= 50 {
			return fmt.Errorf("raft still takes a snapshot after %d entries", have)
		}
		return nil
	})
	time.Sleep(200 * time.Millisecond) // one may have been asked for before
	if err := n.Store.TakeSnapshot(context.Background()); err != nil {
		t.Fatal(err)
	}
	before := n.Store.SnapshotIndex()
	for i := range 200 {
		n.MustPut("small", fmt.Sprint(i))
	}
	time.Sleep(500 * time.Millisecond) // raft and overdue look every 20 to 40 ms
	if now := n.Store.SnapshotIndex(); now != before {
		t.Errorf("a snapshot at %d after the one at %d", now, before)
	}
	big(48) // 12 MiB
	if now := n.Store.SnapshotIndex(); now != before {
		t.Logf("a snapshot at %d already: less is shown", now)
	}
	if err := restart(t, n, func(string) {}); err != nil {
		t.Fatal(err)
	}
	raftstoretest.Eventually(t, func() error {
		if now := n.Store.SnapshotIndex(); now <= before+200 {
			return fmt.Errorf("the newest snapshot is still at %d", now)
		}
		return nil
	})
}
