//go:build fault

package fault

import (
	"errors"
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

// cutAs is what becomes of the processes in a power cut.
type cutAs string

const (
	// Frozen, also in the midst of a sync, and never to go on: what a power cut is.
	frozen cutAs = "the nodes frozen before"
	// A node that goes on for a moment on a disk that takes nothing any more: what it
	// acknowledges now would be a lie. A sync that is under way in the moment in which a
	// file system shuts down may say that all is well, and what it wrote is gone.
	goingOn cutAs = "the nodes going on"
)

// cut takes the power from the nodes with these numbers at the same moment and
// gives it back: stop the file system, kill, mount again, start.
func (p *powered) cut(as cutAs, which ...int) {
	p.t.Helper()
	for _, i := range which {
		p.Nodes[i].MarkDown()
	}
	if as == frozen {
		p.each(which, func(i int) error { return p.Nodes[i].Freeze() })
	}
	p.each(which, func(i int) error { return p.disks[i].cutPower() })
	if as == goingOn {
		harness.Hold(p.t.Context(), time.Duration(rand.IntN(150))*time.Millisecond)
	}
	p.each(which, func(i int) error {
		if err := p.Nodes[i].TryKill9(); err != nil {
			return err
		}
		return p.disks[i].replug()
	})
	for _, i := range which {
		p.Nodes[i].Start()
	}
}

// each does the same with all these nodes at once, and fails the test if one fails.
func (p *powered) each(which []int, do func(i int) error) {
	p.t.Helper()
	errs := make([]error, len(which))
	var wg sync.WaitGroup
	for k, i := range which {
		wg.Go(func() { errs[k] = do(i) })
	}
	wg.Wait()
	must(p.t, errors.Join(errs...))
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
		as := []cutAs{goingOn, frozen}[(round+round/2)%2] // which() may alternate too
		p.cut(as, nodes...)
		p.WaitReady(60 * time.Second)
		load.Stop()
		p.t.Logf("round %d: power cut on %v, %s", round+1, nodes, as)
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
	for _, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			p := newPowered(t, 1, kind, harness.Options{Env: smallSnapshots()})
			p.rounds(pick(2, 10), func(int) []int { return []int{0} })
		})
	}
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
			// Few writes, so that no node has flushed its engine: one whose engine is ahead
			// of its log refuses to start, which notices the loss too, but not by the checker.
			load := p.StartWriters("nofsync", 4, 256)
			harness.Hold(t.Context(), 500*time.Millisecond)
			for _, d := range p.disks { // as the kernel does by itself every half minute: so that there is a cluster left to ask
				must(t, d.flush())
			}
			harness.Hold(t.Context(), 300*time.Millisecond)
			p.cut(frozen, 0, 1, 2)
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
