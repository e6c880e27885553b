//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// filler writes keys in batches, with values that compress no better than text does.
type filler struct {
	keys, size int
	written    atomic.Int64
}

const (
	fillBatch   = 500
	fillWorkers = 4
)

func fillKey(i int) string { return fmt.Sprintf("fill/%09d", i) }

// live is how many bytes of keys and values there are at the end.
func (f *filler) live() int64 { return int64(f.keys) * int64(f.size+len(fillKey(0))) }

// run writes n keys: in order, or any of them.
func (f *filler) run(t *testing.T, node *harness.Node, n int, any bool) {
	t.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	for w := range fillWorkers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), uint64(w)))
			for {
				from := int(next.Add(fillBatch)) - fillBatch
				if from >= n || t.Failed() {
					return
				}
				items := map[string]string{}
				for i := from; i < min(from+fillBatch, n); i++ {
					key := i % f.keys
					if any {
						key = r.IntN(f.keys)
					}
					items[fillKey(key)] = text(r, f.size)
				}
				if err := f.set(node, items); err != nil {
					t.Error(err)
					return
				}
				f.written.Add(int64(len(items)))
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// text is n letters and digits.
func text(r *rand.Rand, n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	b := make([]byte, n)
	for i := 0; i < n; {
		for x, k := r.Uint64(), 0; k < 10 && i < n; k, i = k+1, i+1 {
			b[i] = letters[x&63]
			x >>= 6
		}
	}
	return string(b)
}

func (f *filler) set(node *harness.Node, items map[string]string) error {
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(map[string]any{"items": items}); err != nil {
		return err
	}
	// A node may be overloaded for a moment, or its disk be slow: nothing was applied then.
	for deadline := time.Now().Add(time.Minute); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		a, err := node.Do(ctx, http.MethodPost, "/batch/set", body.Bytes(), "Content-Type", "application/json")
		cancel()
		if err != nil {
			return err
		}
		if a.Status == http.StatusOK {
			return nil
		}
		if err := a.Err(); a.Status != http.StatusTooManyRequests && a.Status != http.StatusServiceUnavailable || time.Now().After(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// A store that is overwritten again and again ends with at most three times of what is
// alive on its disk, without anybody doing anything. In the short form what does not grow
// with the data (preallocated logs) is allowed for.
func TestOverwriteIsBounded(t *testing.T) {
	f := &filler{keys: pick(50_000, 1_000_000), size: pick(512, 256)}
	writes := pick(500_000, 20_000_000)
	limit := 3 * f.live()
	env := settings()
	if testing.Short() {
		limit += 192 << 20 // two segments of the log, the memtables', and the history that a small store may have
		env["KONSUL_MAINTENANCE_INTERVAL"] = "5s"
	}
	c := harness.Start(t, harness.Options{Nodes: 1, Env: env})
	n := c.Nodes[0]
	begin := time.Now()
	f.run(t, n, f.keys, false)
	peak := atomic.Int64{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				peak.Store(max(peak.Load(), harness.DiskUse(t, n.DataDir)))
			}
		}
	})
	f.run(t, n, writes, true)
	close(stop)
	wg.Wait()
	took := time.Since(begin)
	end := harness.DiskUse(t, n.DataDir)
	t.Logf("%d writes of %d bytes in %v (%.0f/s); alive %d MB; peak %d MB, at the end %d MB (%.2f times)",
		f.written.Load(), f.size, took.Round(time.Second), float64(f.written.Load())/took.Seconds(), f.live()>>20, peak.Load()>>20, end>>20, float64(end)/float64(f.live()))
	settle := time.Now()
	harness.Eventually(t, pick(2*time.Minute, 15*time.Minute), "the disk to be at most three times what is alive", func() error {
		if now := harness.DiskUse(t, n.DataDir); now > limit {
			return fmt.Errorf("%d MB, at most %d: %s", now>>20, limit>>20, diskParts(n))
		}
		return nil
	})
	now := harness.DiskUse(t, n.DataDir)
	t.Logf("after %v %d MB (%.2f times): %s", time.Since(settle).Round(time.Second), now>>20, float64(now)/float64(f.live()), diskParts(n))
}

// diskParts is what /health says about the disk.
func diskParts(n *harness.Node) string {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	a, err := n.Do(ctx, http.MethodGet, "/health", nil)
	if err != nil {
		return err.Error()
	}
	var h struct {
		Persistence struct{ Disk map[string]int64 }
	}
	if err := a.JSON(&h); err != nil {
		return err.Error()
	}
	for part, size := range h.Persistence.Disk {
		h.Persistence.Disk[part] = size >> 20
	}
	return fmt.Sprintf("%v MB", h.Persistence.Disk)
}
