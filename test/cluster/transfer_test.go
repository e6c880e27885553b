//go:build cluster

package cluster

import (
	"bufio"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// transferMemory bounds what an import or export may take above an idle node.
const transferMemory = 300 << 20

// Export and import take the memory of a chunk and of the engine at work, on every node,
// however many keys there are.
func TestImportAndExportTakeLittleMemory(t *testing.T) {
	keys := pick(400_000, 10_000_000)
	c := three(t)
	follower := c.Other(c.Leader())
	mustPut(t, follower, "first", "1")
	idle := memories(c)

	report := watchMemory(t, c, idle, "import")
	body, into := io.Pipe()
	sums := make(chan uint64, 1)
	go func() {
		sum, err := writeExport(into, keys)
		_ = into.CloseWithError(err)
		sums <- sum
	}()
	begin := time.Now()
	resp, err := http.Post("http://"+follower.HTTP+"/import", "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(answer), fmt.Sprintf(`"kv":%d`, keys)) {
		t.Fatalf("import: %v, %d %s", err, resp.StatusCode, answer)
	}
	_ = resp.Body.Close()
	want := <-sums
	report(time.Since(begin))

	report = watchMemory(t, c, idle, "export")
	begin = time.Now()
	if resp, err = http.Get("http://" + follower.HTTP + "/export?prefix=transfer/"); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, n, err := readExport(resp.Body)
	if err != nil || n != keys || got != want {
		t.Fatalf("export: %d keys with sum %x, want %d with %x: %v", n, got, keys, want, err)
	}
	report(time.Since(begin))
}

// memories is what each node has resident, after some idle seconds.
func memories(c *harness.Cluster) (all []int64) {
	time.Sleep(2 * time.Second)
	for _, n := range c.Nodes {
		all = append(all, n.Memory())
	}
	return all
}

// watchMemory looks at the nodes' memory until the function that it returns is called.
func watchMemory(t *testing.T, c *harness.Cluster, idle []int64, what string) func(took time.Duration) {
	t.Helper()
	most := make([]int64, len(c.Nodes))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			for i, n := range c.Nodes {
				most[i] = max(most[i], n.Memory()-idle[i])
			}
		}
	})
	return func(took time.Duration) {
		t.Helper()
		close(stop)
		wg.Wait()
		for i, n := range most {
			t.Logf("%s: %s had at most %d MiB more than idle (%d MiB)", what, c.Nodes[i].Name, n>>20, idle[i]>>20)
			if n > transferMemory {
				t.Errorf("%s: %s took %d MiB more than when idle, allowed are %d", what, c.Nodes[i].Name, n>>20, transferMemory>>20)
			}
		}
		t.Logf("%s: %v", what, took.Round(time.Millisecond))
	}
}

// writeExport writes what an export of n keys looks like, and returns a sum of them.
func writeExport(w io.Writer, n int) (uint64, error) {
	out := bufio.NewWriterSize(w, 64<<10)
	sum := fnv.New64a()
	value := make([]byte, 0, 256)
	_, _ = out.WriteString(`{"kv":{`) // errors stay with out until Flush
	for i := range n {
		key := fmt.Appendf(nil, "transfer/%09d", i)
		value = value[:0]
		for x := uint64(i) * 0x9e3779b97f4a7c15; len(value) < 100; x = x*6364136223846793005 + 1442695040888963407 {
			value = fmt.Appendf(value, "%016x", x)
		}
		if i > 0 {
			_ = out.WriteByte(',')
		}
		_, _ = fmt.Fprintf(out, "\n%q:%q", key, value)
		_, _ = sum.Write(key)
		_, _ = sum.Write(value)
	}
	_, _ = out.WriteString("\n},\"services\":{}}")
	return sum.Sum64(), out.Flush()
}

// readExport reads an export and returns the same sum, and the number of keys.
func readExport(r io.Reader) (sum uint64, n int, err error) {
	h := fnv.New64a()
	dec := json.NewDecoder(bufio.NewReaderSize(r, 64<<10))
	for range 3 { // {"kv":{
		if _, err := dec.Token(); err != nil {
			return 0, 0, err
		}
	}
	for ; dec.More(); n++ {
		for range 2 {
			token, err := dec.Token()
			if err != nil {
				return 0, n, err
			}
			text, ok := token.(string)
			if !ok {
				return 0, n, fmt.Errorf("entry %d has %v", n, token)
			}
			_, _ = io.WriteString(h, text)
		}
	}
	for { // the end, and that it is one
		if _, err := dec.Token(); err == io.EOF {
			return h.Sum64(), n, nil
		} else if err != nil {
			return 0, n, err
		}
	}
}
