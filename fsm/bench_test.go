package fsm_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	. "github.com/neogan74/konsul/fsm/fsmtest"
	"github.com/neogan74/konsul/internal/persistence"
)

// BenchmarkApplyBatch applies puts of 256 bytes to 10,000 keys, in batches as
// Raft gives them. The time is per put.
func BenchmarkApplyBatch(b *testing.B) {
	for _, size := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchmarkApply(b, size, "") })
	}
	b.Run("256,idempotency", func(b *testing.B) { benchmarkApply(b, 256, "key-") })
}

func benchmarkApply(b *testing.B, size int, idempotency string) {
	b.Helper()
	m := Open(b, persistence.Options{Dir: b.TempDir()})
	value := string(make([]byte, 256))
	data := make([][]byte, 10_000)
	for i := range data {
		data[i] = MustEncode(b, Command{Type: command.Type_TYPE_TXN,
			Message: &command.Txn{Then: []*command.Op{Set(fmt.Sprintf("bench/key-%06d", i), value)}}})
	}
	if idempotency != "" {
		data = make([][]byte, b.N)
		for i := range data {
			data[i] = MustEncode(b, Command{Type: command.Type_TYPE_TXN, Key: fmt.Sprint(idempotency, i),
				Message: &command.Txn{Then: []*command.Op{Set(fmt.Sprintf("bench/key-%06d", i%10_000), value)}}})
		}
	}
	batch := make([]*raft.Log, size)
	b.ReportAllocs()
	b.ResetTimer()
	index := uint64(0)
	for n := 0; n < b.N; n += size {
		for i := range batch {
			batch[i] = &raft.Log{Index: index + 1, Data: data[int(index)%len(data)]}
			index++
		}
		m.ApplyBatch(batch)
	}
}

// BenchmarkApplyWatched is the same with 1,000 idle watchers of other keys.
func BenchmarkApplyWatched(b *testing.B) {
	for _, watchers := range []int{0, 1000} {
		b.Run(fmt.Sprint(watchers), func(b *testing.B) {
			m := New(b)
			for i := range watchers {
				f := fsm.Filter{Key: fmt.Appendf(nil, "other/%d", i)}
				if i%2 == 0 {
					f = fsm.Filter{Prefix: fmt.Appendf(nil, "other/%d/", i)}
				}
				if _, err := m.Subscribe(f, 0); err != nil {
					b.Fatal(err)
				}
			}
			data := MustEncode(b, Command{Type: command.Type_TYPE_TXN, Message: &command.Txn{Then: []*command.Op{Set("key", "value")}}})
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				m.Apply(&raft.Log{Index: uint64(i + 1), Data: data})
			}
		})
	}
}

// BenchmarkIdleSubscription reports what one costs in memory, without the
// goroutine that waits in Next.
func BenchmarkIdleSubscription(b *testing.B) {
	const n = 1000
	m := New(b)
	var before, after runtime.MemStats
	total := uint64(0)
	for range b.N {
		subs := make([]*fsm.Subscription, n)
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range subs {
			sub, err := m.Subscribe(fsm.Filter{Key: fmt.Appendf(nil, "service/config/%06d", i)}, 0)
			if err != nil {
				b.Fatal(err)
			}
			subs[i] = sub
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		total += after.HeapAlloc - min(before.HeapAlloc, after.HeapAlloc)
		for _, sub := range subs {
			sub.Close()
		}
	}
	b.ReportMetric(float64(total)/float64(b.N)/n, "B/watcher")
}
