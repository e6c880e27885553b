//go:build cluster

package cluster

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// idleWatcherBytes bounds the memory of one idle watcher, its connection included.
const idleWatcherBytes = 64 << 10

// idleConn opens a watch on a connection of its own and returns it after the headers.
func idleConn(t *testing.T, n *harness.Node, prefix string, buffer int) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", n.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if buffer > 0 {
		_ = conn.(*net.TCPConn).SetReadBuffer(buffer)
	}
	if _, err := fmt.Fprintf(conn, "GET /watch?prefix=%s HTTP/1.1\r\nHost: %s\r\n\r\n", prefix, n.HTTP); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 12)
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 200" {
		t.Fatalf("opening a watch: %q %v", head, err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	return conn
}

// 1,000 idle watchers cost little memory, and nothing when others' keys change.
func TestAThousandIdleWatchersCostLittle(t *testing.T) {
	const watchers = 1000
	c := three(t)
	n := c.Nodes[0]
	loadFor(t, c, "warm", 2*time.Second)
	before := n.Memory()
	for i := range watchers {
		idleConn(t, n, fmt.Sprintf("idle/%d/", i), 0)
	}
	after := n.Memory()
	each := (after - before) / watchers
	t.Logf("resident before %d KiB, with %d watchers %d KiB: %d bytes each", before>>10, watchers, after>>10, each)
	if each > idleWatcherBytes {
		t.Errorf("an idle watcher costs %d bytes, allowed are %d", each, idleWatcherBytes)
	}
	rate, cpu := loadFor(t, c, "unrelated", pick(3*time.Second, 10*time.Second))
	t.Logf("with the watchers idle: %d writes/s, %s of processor time per write on this node", rate, cpu)
}

// loadFor writes for d and returns the rate and the processor time of node 1 per write.
func loadFor(t *testing.T, c *harness.Cluster, prefix string, d time.Duration) (perSecond int, cpu time.Duration) {
	t.Helper()
	used := c.Nodes[0].CPU()
	load := c.StartWriters(prefix, 16, 100)
	harness.Hold(t.Context(), d)
	load.Stop()
	n := max(load.Acked(), 1)
	return int(float64(n) / d.Seconds()), (c.Nodes[0].CPU() - used) / time.Duration(n)
}

// Consumers that never read are cut off, while others see everything and nothing
// is kept for them: 20 times the 50 MB they do not take would be 1 GB.
func TestConsumersThatNeverReadAreCutOff(t *testing.T) {
	c := three(t)
	n := c.Nodes[0]
	const writes, consumers = 250, 20
	putLarge(t, n, 2*writes) // caches, memtables and the engine's buffers are as large as they get
	before := n.Memory()

	from := mustPut(t, n, "slow/first", "1")
	var dead []net.Conn
	for range consumers {
		dead = append(dead, idleConn(t, n, "slow/", 4096))
	}
	live := follow(t, "the reader beside them", "slow/", from, n)
	end := putLarge(t, n, writes)
	if got := len(live.upTo(t, end)); got != writes {
		t.Errorf("the live watcher saw %d of %d", got, writes)
	}
	grown := n.Memory() - before
	t.Logf("memory before %d MiB, grown by %d MiB", before>>20, grown>>20)
	if grown > 800<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	for _, conn := range dead {
		wantCutOff(t, conn, 120*time.Second)
	}
}

// putLarge writes values of 200 KiB over ten keys and returns the last index.
func putLarge(t *testing.T, n *harness.Node, writes int) (last uint64) {
	t.Helper()
	value := strings.Repeat("x", 200<<10)
	for i := range writes {
		last = mustPut(t, n, fmt.Sprintf("slow/%d", i%10), value)
	}
	return last
}

// wantCutOff waits until the server has given up on the connection, and checks that
// it had not sent everything.
func wantCutOff(t *testing.T, conn net.Conn, d time.Duration) {
	t.Helper()
	local := conn.LocalAddr().String()
	begin := time.Now()
	harness.Eventually(t, d, "the server to give up the connection of the one that does not read", func() error {
		if peerHasIt(local) {
			return fmt.Errorf("it is still open from %s", local)
		}
		return nil
	})
	t.Logf("cut off %s after the last write", time.Since(begin).Round(time.Second))
}
