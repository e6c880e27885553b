//go:build fault

package fault

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// powered is a cluster whose nodes each have a disk that can lose its power.
type powered struct {
	*harness.Cluster
	t     *testing.T
	disks []*disk
}

func newPowered(t *testing.T, nodes int, kind string, o harness.Options) *powered {
	t.Helper()
	p := &powered{t: t}
	for range nodes {
		p.disks = append(p.disks, newDisk(t, kind, 2048))
	}
	o.Nodes = nodes
	o.DataDir = func(i int) string { return filepath.Join(p.disks[i].mount, "data") }
	p.Cluster = harness.Start(t, o)
	return p
}

// cut takes the power from the nodes with these numbers at the same moment and
// gives it back: stop the file system, kill, mount again, start.
func (p *powered) cut(which ...int) {
	p.t.Helper()
	var wg sync.WaitGroup
	errs := make(chan error, 4*len(which))
	for _, i := range which {
		p.Nodes[i].MarkDown()
	}
	for _, i := range which {
		wg.Go(func() { errs <- p.disks[i].cutPower() })
	}
	wg.Wait()
	// The node may go on for a moment on a disk that takes nothing any more: what
	// it acknowledges now would be a lie.
	harness.Hold(p.t.Context(), time.Duration(rand.IntN(150))*time.Millisecond)
	for _, i := range which {
		wg.Go(func() {
			if err := p.Nodes[i].TryKill9(); err != nil {
				errs <- err
				return
			}
			errs <- p.disks[i].replug()
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		must(p.t, err)
	}
	for _, i := range which {
		p.Nodes[i].Start()
	}
}

// rounds cuts the power again and again under load and checks after each cut,
// and everything once more at the end.
func (p *powered) rounds(n int, which func(round int) []int) {
	p.t.Helper()
	var ledgers []*harness.Ledger
	for round := range n {
		load := p.StartWriters(fmt.Sprintf("power/%02d", round), 16, 256)
		harness.Hold(p.t.Context(), time.Duration(500+rand.IntN(1500))*time.Millisecond)
		nodes := which(round)
		p.cut(nodes...)
		p.WaitReady(60 * time.Second)
		load.Stop()
		p.t.Logf("round %d: power cut on %v", round+1, nodes)
		load.NoWrongErrors(p.t)
		p.Verify(p.t, load.Ledger)
		ledgers = append(ledgers, load.Ledger)
	}
	for _, l := range ledgers {
		p.Verify(p.t, l)
	}
}

// smallSnapshots makes snapshots happen between the cuts, so that their
// durability is tested with that of the log.
func smallSnapshots() map[string]string {
	return map[string]string{"KONSUL_RAFT_SNAPSHOT_THRESHOLD": "3000", "KONSUL_RAFT_TRAILING_LOGS": "500", "KONSUL_RAFT_SNAPSHOT_INTERVAL": "500ms"}
}

func TestPowerCutOnOneNode(t *testing.T) {
	p := newPowered(t, 3, "xfs", harness.Options{Env: smallSnapshots()})
	p.rounds(pick(2, 10), func(round int) []int {
		if round%2 == 0 { // every other time the leader
			for i, n := range p.Nodes {
				if n == p.Leader() {
					return []int{i}
				}
			}
		}
		return []int{rand.IntN(3)}
	})
}

func TestPowerCutOnAllNodes(t *testing.T) {
	for _, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			p := newPowered(t, 3, kind, harness.Options{Env: smallSnapshots()})
			p.rounds(pick(2, 10), func(int) []int { return []int{0, 1, 2} })
		})
	}
}

func TestPowerCutOnASingleNodeCluster(t *testing.T) {
	p := newPowered(t, 1, "xfs", harness.Options{Env: smallSnapshots()})
	p.rounds(pick(2, 10), func(int) []int { return []int{0} })
}

// With the log's fsync taken out the same test must fail: it shows that cuts cut
// and that the checker sees a loss.
func TestPowerCutWithoutFsyncIsNoticed(t *testing.T) {
	const tries = 5
	for try := range tries {
		noticed := false
		t.Run(fmt.Sprint("try ", try+1), func(t *testing.T) {
			p := newPowered(t, 3, "xfs", harness.Options{Variant: harness.Failpoints,
				Env: map[string]string{"KONSUL_FAILPOINTS": "raftlog.skip-fsync=on"}})
			load := p.StartWriters("nofsync", 16, 256)
			harness.Hold(t.Context(), 2*time.Second)
			for _, d := range p.disks { // as the kernel does by itself every half minute: so that there is a cluster left to ask
				must(t, d.flush())
			}
			harness.Hold(t.Context(), time.Second)
			p.cut(0, 1, 2)
			for _, n := range p.Nodes {
				if err := n.TryReady(15 * time.Second); err != nil {
					t.Logf("%v", err)
				}
			}
			load.Stop()
			noticed = lost(t, p.Check(load.Ledger))
		})
		if noticed {
			return
		}
	}
	t.Errorf("%d power cuts on all nodes without fsync lost nothing: the test does not test", tries)
}

// lost says whether the checker reports an acknowledged write that is gone: one that it
// did not find, or a state that ends before the last index that was acknowledged.
func lost(t *testing.T, bad []string) bool {
	t.Helper()
	if len(bad) > 0 {
		t.Logf("%d contradictions, the first: %s", len(bad), bad[0])
	}
	for _, b := range bad {
		if strings.Contains(b, ": lost ") || strings.Contains(b, "acknowledged at") || strings.Contains(b, "applied ") {
			return true
		}
	}
	return false
}
