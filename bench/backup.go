package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/neogan74/konsul/client"
	"github.com/neogan74/konsul/internal/loadgen"
)

// backupRun measures a backup of a cluster of three and what writes notice of it:
//
//	go run ./bench backup -system konsul -dir D -keys 4000000 -only load
//	go run ./bench backup -system konsul -dir D -keys 4000000 -only measure
type backupRun struct {
	cfg     config
	system  string
	only    string
	clients int
	settle  time.Duration
	before  time.Duration
	rounds  int
}

func runBackup(ctx context.Context, args []string) error {
	b := backupRun{}
	f := flag.NewFlagSet("bench backup", flag.ContinueOnError)
	f.StringVar(&b.cfg.binary, "konsul", "bin/konsul", "the Konsul binary")
	f.StringVar(&b.cfg.dir, "dir", "", "where the data goes; it is kept")
	f.StringVar(&b.system, "system", "konsul", "konsul or etcd")
	f.StringVar(&b.only, "only", "", "load or measure; default both")
	f.Uint64Var(&b.cfg.keys, "keys", 4_000_000, "keys to load")
	f.IntVar(&b.cfg.valueSize, "value-size", 256, "bytes; random, so that they cannot be compressed")
	f.IntVar(&b.clients, "clients", 64, "writers while a backup is taken")
	f.DurationVar(&b.settle, "settle", 20*time.Second, "rest after the start and a first backup, in which members check their data")
	f.DurationVar(&b.before, "before", 8*time.Second, "load before each backup, for comparison")
	f.IntVar(&b.rounds, "rounds", 5, "backups to take, alone and under load; medians are printed")
	if err := f.Parse(args); err != nil {
		return err
	}
	if b.cfg.dir == "" {
		return errors.New("backup: -dir is missing")
	}
	b.cfg.systems = []string{b.system}
	b.cfg.dir = filepath.Join(b.cfg.dir, fmt.Sprint(b.cfg.valueSize))
	all, err := startAll(ctx, &b.cfg)
	for _, s := range all {
		defer s.stop()
	}
	if err != nil {
		return err
	}
	if b.only != "measure" {
		if err := b.load(ctx, all[0]); err != nil {
			return err
		}
	}
	if b.only == "load" {
		return nil
	}
	return b.measure(ctx, all[0])
}

// load writes every key once, in batches, over 8 connections to the leader.
func (b *backupRun) load(ctx context.Context, s system) error {
	begin := time.Now()
	var set func(keys []string, values [][]byte) error
	most := 128 // etcd's limit of a transaction
	switch s := s.(type) {
	case *konsul:
		most = 1000
		c, err := client.New(client.Config{Addresses: []string{s.leader}})
		if err != nil {
			return err
		}
		set = func(keys []string, values [][]byte) error {
			items := make(map[string][]byte, len(keys))
			for i, key := range keys {
				items[key] = values[i]
			}
			_, err := c.BatchSet(ctx, items)
			return err
		}
	case *etcd:
		c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: loadStreams}}
		set = func(keys []string, values [][]byte) error {
			puts := make([]any, len(keys))
			for i, key := range keys {
				puts[i] = map[string]any{"requestPut": map[string][]byte{"key": []byte(key), "value": values[i]}}
			}
			return post(c, "http://"+s.leader+"/v3/kv/txn", map[string]any{"success": puts}, nil)
		}
	}
	if err := b.fill(max(1, min(most, 800_000/(b.cfg.valueSize+50))), set); err != nil {
		return err
	}
	fmt.Printf("%s: loaded %d keys of %d bytes in %v\n", s.name(), b.cfg.keys, b.cfg.valueSize, time.Since(begin).Round(time.Second))
	return nil
}

const loadStreams = 4

func (b *backupRun) fill(batch int, set func(keys []string, values [][]byte) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, loadStreams)
	for w := range loadStreams {
		rnd := rand.NewChaCha8([32]byte{byte(w)})
		wg.Go(func() {
			for from := w * batch; from < int(b.cfg.keys); from += loadStreams * batch {
				var keys []string
				var values [][]byte
				for k := from; k < min(from+batch, int(b.cfg.keys)); k++ {
					value := make([]byte, b.cfg.valueSize)
					_, _ = rnd.Read(value) // never fails
					keys, values = append(keys, fmt.Sprintf("bench/%010d", k)), append(values, value)
				}
				err := set(keys, values)
				for tries := 1; err != nil && tries < 10; tries++ { // writing twice does no harm
					time.Sleep(time.Second)
					err = set(keys, values)
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// save takes a backup from a member that does not lead, and returns its size.
func (b *backupRun) save(ctx context.Context, s system, file string) (int64, error) {
	switch s := s.(type) {
	case *konsul:
		address := s.addresses[0]
		if address == s.leader {
			address = s.addresses[1]
		}
		c, err := client.New(client.Config{Addresses: []string{address}})
		if err != nil {
			return 0, err
		}
		made, err := c.SaveBackup(ctx, filepath.Base(file), client.BackupOptions{})
		return made.SizeBytes, err
	case *etcd:
		address := s.addresses[0]
		if address == s.leader {
			address = s.addresses[1]
		}
		cmd := exec.CommandContext(ctx, "etcdctl", "--endpoints", address, "--command-timeout", "10m", "snapshot", "save", file)
		cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
		info, err := os.Stat(file)
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}
	return 0, errors.New("unknown system")
}

func (b *backupRun) measure(ctx context.Context, s system) error {
	gb := float64(b.cfg.keys) * float64(b.cfg.valueSize+len("bench/0000000000")) / 1e9
	file := filepath.Join(b.cfg.dir, "backup-"+s.name())
	// Right after its start a member reads and checks all of its data in any case.
	if _, err := b.save(ctx, s, file); err != nil {
		return err
	}
	sleep(ctx, b.settle)
	var alone []float64
	for range b.rounds {
		begin := time.Now()
		size, err := b.save(ctx, s, file)
		if err != nil {
			return err
		}
		alone = append(alone, time.Since(begin).Seconds()/gb)
		fmt.Printf("%s, %.2f GB in values of %d bytes: alone %.1f s/GB, file %d MB\n", s.name(), gb, b.cfg.valueSize, alone[len(alone)-1], size>>20)
	}
	rounds, err := b.underLoad(ctx, s, func() error { _, err := b.save(ctx, s, file); return err })
	if err != nil {
		return err
	}
	var took, before, meanwhile, share []float64
	for _, r := range rounds {
		took, before, meanwhile = append(took, r.took.Seconds()/gb), append(before, r.before), append(meanwhile, r.meanwhile)
		share = append(share, 100*r.meanwhile/r.before)
		fmt.Printf("beside %d writers: %.1f s/GB, puts %.0f/s before, %.0f/s meanwhile\n", b.clients, r.took.Seconds()/gb, r.before, r.meanwhile)
	}
	fmt.Printf("| %s | %d B | %.1f s/GB | %.1f s/GB | %.0f/s | %.0f/s (%.0f %%) |\n", s.name(), b.cfg.valueSize,
		middle(alone), middle(took), middle(before), middle(meanwhile), middle(share))
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// loadedBackup is one backup under load: how long it took, and the puts a second.
type loadedBackup struct {
	took              time.Duration
	before, meanwhile float64
}

// underLoad takes backups while others write, with pauses between.
func (b *backupRun) underLoad(ctx context.Context, s system, backup func() error) (rounds []loadedBackup, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var done atomic.Int64
	load := loadgen.Config{Target: s.target(false, false), Workload: loadgen.WorkloadPut, Clients: b.clients, Duration: time.Hour,
		Keys: 10_000, ValueSize: 256, ProgressEvery: 20 * time.Millisecond, Progress: func(p loadgen.Progress) { done.Store(p.Done) }}
	ended := make(chan error, 1)
	go func() {
		_, err := loadgen.Run(ctx, load)
		cancel()
		ended <- err
	}()
	sleep(ctx, 2*time.Second)
	for len(rounds) < b.rounds && ctx.Err() == nil {
		begin, first := time.Now(), done.Load()
		sleep(ctx, b.before)
		from, second := time.Now(), done.Load()
		if err := backup(); err != nil {
			return nil, err
		}
		to, third := time.Now(), done.Load()
		rounds = append(rounds, loadedBackup{to.Sub(from),
			float64(second-first) / from.Sub(begin).Seconds(), float64(third-second) / to.Sub(from).Seconds()})
	}
	cancel()
	if err := <-ended; err != nil && len(rounds) < b.rounds { // else it ended because we say so
		return nil, err
	}
	return rounds, nil
}
