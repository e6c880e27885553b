package api_test

import (
	"bufio"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/neogan74/konsul/api/apitest"
)

// memory is what the process uses after a collection, in bytes, and its goroutines.
func memory() (used uint64, goroutines int) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse, runtime.NumGoroutine()
}

// TestIdleWatchers: a thousand watches cost little, and nothing once they are gone.
func TestIdleWatchers(t *testing.T) {
	const n = 1000
	s, _ := apitest.StartLocal(t)
	s.Put("/kv/a", "x").Want(200)
	before, goroutines := memory()
	var conns []net.Conn
	for i := range n {
		conn, err := net.Dial("tcp", s.HTTP.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		fmt.Fprintf(conn, "GET /watch?key=k%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
		r := bufio.NewReaderSize(conn, 16)
		if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("watch %d: %q, %v", i, line, err)
		}
	}
	until(t, "all watches are open", func() bool { return strings.Contains(string(s.Get("/metrics").Body), "konsul_watchers 1000") })
	with, _ := memory()
	each := (int64(with) - int64(before)) / n
	t.Logf("%d bytes for each idle watch, both ends of its connection included", each)
	if each > 64<<10 {
		t.Errorf("an idle watch costs %d bytes", each)
	}
	for _, conn := range conns {
		conn.Close()
	}
	until(t, "no watch is left", func() bool { return strings.Contains(string(s.Get("/metrics").Body), "konsul_watchers 0") })
	until(t, "no goroutine is left", func() bool {
		_, now := memory()
		return now <= goroutines+5
	})
}
