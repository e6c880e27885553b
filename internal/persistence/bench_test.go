package persistence

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/internal/snapshot"
)

// benchValue is what a put of 256 bytes stores.
func benchRecord(b *testing.B, index uint64) []byte {
	b.Helper()
	v, err := EncodeRecord(&record.KV{Value: randomBytes(index, 256), CreateIndex: index, ModifyIndex: index})
	if err != nil {
		b.Fatal(err)
	}
	return v
}

// BenchmarkCommit measures one entry: a read and a write of one key, as a put
// does, in batches.
func BenchmarkCommit(b *testing.B) {
	for _, batch := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			db := openTest(b, Options{Dir: b.TempDir()})
			b.ReportAllocs()
			index := uint64(0)
			random := rand.New(rand.NewPCG(1, 2))
			before := cpuTime(b)
			for index < uint64(b.N) {
				u := db.NewUpdate(index + 1)
				for range batch {
					index++
					tx := u.At(index)
					key := KVKey(fmt.Appendf(nil, "bench/%08d", random.IntN(100_000)))
					if _, _, err := tx.Get(key); err != nil {
						b.Fatal(err)
					}
					tx.Set(key, benchRecord(b, index))
				}
				if _, err := u.Commit(index); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(index), "cpu-ns/op")
			b.ReportMetric(peakHeap(), "peak-MiB")
		})
	}
}

// cpuTime is what the process used so far, flushes and compactions included.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakHeap is the most memory Go ever had from the system, in MiB. The pages of
// tables and logs that are mapped come and go beside it, as the system likes.
func peakHeap() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.Sys) / (1 << 20)
}

// benchDB holds n keys of 256 bytes.
func benchDB(b *testing.B, n uint64) *DB {
	b.Helper()
	db := openTest(b, Options{Dir: b.TempDir()})
	for i := uint64(1); i <= n; {
		u := db.NewUpdate(i)
		for end := min(i+256, n+1); i < end; i++ {
			u.At(i).Set(KVKey(fmt.Appendf(nil, "bench/%08d", i)), benchRecord(b, i))
		}
		if _, err := u.Commit(i - 1); err != nil {
			b.Fatal(err)
		}
	}
	return db
}

func BenchmarkViewGet(b *testing.B) {
	db := benchDB(b, 100_000)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		v, err := db.View()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.KV(fmt.Appendf(nil, "bench/%08d", 1+i*2654435761%100_000)); err != nil {
			b.Fatal(err)
		}
		v.Close()
	}
}

func BenchmarkScan1000(b *testing.B) {
	for _, prefetch := range []int{0, 100} {
		b.Run(fmt.Sprintf("prefetch=%d", prefetch), func(b *testing.B) {
			db := benchDB(b, 100_000)
			db.opts.Badger.PrefetchSize = prefetch
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				v, err := db.View()
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				err = v.Scan([]byte(KVPrefix), nil, func(_, _ []byte) error {
					if n++; n == 1000 {
						return ErrStop
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
				v.Close()
			}
		})
	}
}

func BenchmarkSnapshot(b *testing.B) {
	db := benchDB(b, 200_000)
	b.ResetTimer()
	for range b.N {
		s, err := db.Snapshot(db.Published())
		if err != nil {
			b.Fatal(err)
		}
		f, err := s.WriteTo(context.Background(), io.Discard, snapshot.Header{})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(f.Bytes))
		s.Close()
	}
}

func BenchmarkReplace(b *testing.B) {
	db := benchDB(b, 200_000)
	s, err := db.Snapshot(db.Published())
	if err != nil {
		b.Fatal(err)
	}
	file := &memFile{}
	f, err := s.WriteTo(context.Background(), file, snapshot.Header{})
	if err != nil {
		b.Fatal(err)
	}
	s.Close()
	b.SetBytes(int64(f.Bytes))
	b.ResetTimer()
	for range b.N {
		if _, err := db.Replace(context.Background(), file.reader()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	db := benchDB(b, 200_000)
	b.ResetTimer()
	for range b.N {
		if _, _, err := db.Digest(context.Background(), db.Published()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyTables(b *testing.B) {
	db := benchDB(b, 200_000)
	if err := db.gen.Load().bdb.Flatten(1); err != nil {
		b.Fatal(err)
	}
	u, err := db.Usage()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(u.SST)
	b.ResetTimer()
	for range b.N {
		if err := verifyTables(context.Background(), db.gen.Load().dir, nil, true, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// What a watcher costs that is 200,000 changes behind.
func BenchmarkCatchUp(b *testing.B) {
	db := benchDB(b, 200_000)
	b.ResetTimer()
	for range b.N {
		backlog, read := db.Backlog(nil), 0
		for after := uint64(0); after < db.Published(); {
			page, complete, err := backlog.Next(context.Background(), after, db.Published(), 4096)
			if err != nil {
				b.Fatal(err)
			}
			read, after = read+len(page), complete
		}
		b.ReportMetric(float64(read)/b.Elapsed().Seconds()*float64(b.N), "changes/s")
	}
}
