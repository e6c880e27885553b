//go:build cluster

package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// A start must not read the data: neither the engine's tables nor the newest snapshot.
// bench restart has the times; here is what was read.
func TestAStartDoesNotReadTheData(t *testing.T) {
	c := harness.Start(t, harness.Options{Nodes: 1})
	n := c.Nodes[0]
	const batches, perBatch, size = 300, 80, 12_000 // 288 MB
	r := rand.New(rand.NewPCG(1, 1))
	for i := range batches {
		items := make(map[string]string, perBatch)
		for j := range perBatch {
			items[fmt.Sprintf("bulk/%03d/%03d", i, j)] = letters(r, size)
		}
		a, err := n.Post(soon(t), "/batch/set", map[string]any{"items": items})
		if err == nil {
			err = a.Want(200)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	snapshotNow(t, n)
	n.Stop() // all of it in tables
	tables, err := filepath.Glob(filepath.Join(n.DataDir, "engine", "*", "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, path := range tables {
		total += fileSize(t, path)
	}
	if total < 250<<20 {
		t.Fatalf("the tables have %d MB", total>>20)
	}
	begin := time.Now()
	n.Start()
	n.WaitReady(60 * time.Second)
	took := time.Since(begin)
	unverified := int64(n.MustMetric("konsul_persistence_unverified_bytes"))
	read, err := harness.BytesRead(n.PID())
	if err != nil {
		t.Fatal(err)
	}
	// The last segment of the log is read, whatever there is; and what the background did meanwhile.
	if most := int64(100<<20) + total - unverified; unverified == 0 || read > most {
		t.Errorf("ready after %v, with %d of %d MB of tables to verify: read %d MB, allowed %d", took, unverified>>20, total>>20, read>>20, most>>20)
	}
	t.Logf("ready after %v: read %d MB, there are %d MB in tables", took, read>>20, total>>20)
	harness.Eventually(t, 60*time.Second, "the tables are verified", func() error {
		if left := n.MustMetric("konsul_persistence_unverified_bytes"); left > 0 {
			return fmt.Errorf("%.0f bytes are left", left)
		}
		return nil
	})
}

func letters(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(r.UintN(26))
	}
	return string(b)
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
