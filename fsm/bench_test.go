package fsm_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

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

// BenchmarkHeartbeat renews 10,000 services with a TTL of 10 s, each once in 3 s of
// cluster time, in batches as Raft gives them; every 100 ms of it there is a tick. The
// time is per heartbeat, ticks included; tick-us is that of a tick alone.
func BenchmarkHeartbeat(b *testing.B) {
	const services, batchSize = 10_000, 16
	m := Open(b, persistence.Options{Dir: b.TempDir()})
	now, index := int64(time.Second), uint64(0)
	beats := make([][]byte, services)
	entry := func(data []byte) *raft.Log {
		index++
		return &raft.Log{Index: index, Data: data, Extensions: command.EncodeStamp(now)}
	}
	for i := range beats {
		id := fmt.Sprintf("web-%05d", i)
		m.Apply(entry(MustEncode(b, Command{Type: command.Type_TYPE_SERVICE_SET, Message: &command.ServiceSet{
			Name: "web", Id: id, Node: "n1", Address: "10.0.0.1", Port: 80, Tags: []string{"a"}, Ttl: int64(10 * time.Second)}})))
		beats[i] = MustEncode(b, Command{Type: command.Type_TYPE_HEARTBEAT, Message: &command.Heartbeat{Name: "web", Id: id}})
		now += int64(3*time.Second) / services
	}
	tick := MustEncode(b, Command{Type: command.Type_TYPE_TICK, Message: &command.Tick{}})
	var ticks int
	var inTicks, worst time.Duration
	nextTick := now
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += batchSize {
		batch := make([]*raft.Log, batchSize)
		for i := range batch {
			batch[i] = entry(beats[(n+i)%services])
			now += int64(3*time.Second) / services
		}
		m.ApplyBatch(batch)
		if now >= nextTick {
			begin := time.Now()
			if res := m.Apply(entry(tick)).(*command.Result); res.Count != 0 {
				b.Fatalf("%d services expired", res.Count)
			}
			took := time.Since(begin)
			inTicks, worst, ticks = inTicks+took, max(worst, took), ticks+1
			nextTick = now + int64(100*time.Millisecond)
			m.NextDeadline()
		}
	}
	b.ReportMetric(float64(inTicks.Microseconds())/float64(max(ticks, 1)), "tick-us")
	b.ReportMetric(float64(worst.Microseconds()), "worst-tick-us")
}

// BenchmarkExpiry ends 10,000 services that are due at once. The time is per service.
func BenchmarkExpiry(b *testing.B) {
	const services = 10_000
	m := Open(b, persistence.Options{Dir: b.TempDir()})
	index, now := uint64(0), int64(time.Second)
	apply := func(c Command) *command.Result {
		index++
		return m.Apply(&raft.Log{Index: index, Data: MustEncode(b, c), Extensions: command.EncodeStamp(now)}).(*command.Result)
	}
	var worst time.Duration
	for n := 0; n < b.N; n += services {
		b.StopTimer()
		for i := range services {
			apply(Command{Type: command.Type_TYPE_SERVICE_SET, Message: &command.ServiceSet{Name: "web", Id: fmt.Sprint(i), Ttl: int64(10 * time.Second)}})
		}
		now += int64(time.Minute)
		b.StartTimer()
		for more := true; more; {
			begin := time.Now()
			more = apply(Command{Type: command.Type_TYPE_TICK, Message: &command.Tick{}}).More
			worst = max(worst, time.Since(begin))
		}
	}
	b.ReportMetric(float64(worst.Microseconds()), "worst-tick-us")
}
