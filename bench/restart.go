package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// restart measures how long a single node with much data takes from its start to its
// first answer: `go run ./bench restart -keys 1000000`.
type restart struct {
	binary, dir, system string
	keys                int
	valueSize, batch    int
	writes              time.Duration
	cold                bool
}

// restartNode is one system, as a single node.
type restartNode interface {
	argv(dir string) []string
	env(dir string) []string
	// fill writes keys from..to in one request.
	fill(c *http.Client, keys []string, values [][]byte) error
	// ready is nil when the node answers a linearizable read.
	ready(c *http.Client) error
}

func runRestart(ctx context.Context, args []string) error {
	r := restart{}
	f := flag.NewFlagSet("bench restart", flag.ContinueOnError)
	f.StringVar(&r.binary, "konsul", "bin/konsul", "the Konsul binary")
	f.StringVar(&r.dir, "dir", "", "where the data goes; it is kept, and used again by the next run (default: a temporary one)")
	f.StringVar(&r.system, "system", "konsul", "konsul or etcd")
	f.IntVar(&r.keys, "keys", 1_000_000, "keys to load")
	f.IntVar(&r.valueSize, "value-size", 256, "bytes")
	f.IntVar(&r.batch, "batch", 1000, "keys in a request while loading")
	f.DurationVar(&r.writes, "writes", 5*time.Second, "of single puts before a kill")
	f.BoolVar(&r.cold, "cold", false, "empty the system's page cache before each start (needs root)")
	if err := f.Parse(args); err != nil {
		return err
	}
	if r.dir == "" {
		dir, err := os.MkdirTemp(".", ".bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		r.dir = dir
	}
	return r.run(ctx)
}

func (r *restart) run(ctx context.Context) (err error) {
	if r.dir, err = filepath.Abs(r.dir); err != nil {
		return err
	}
	var n restartNode
	switch r.system {
	case "konsul":
		if r.binary, err = filepath.Abs(r.binary); err != nil {
			return err
		}
		n = konsulNode{r.binary}
	case "etcd":
		n = etcdNode{}
	default:
		return fmt.Errorf("system %q: konsul or etcd", r.system)
	}
	dir := filepath.Join(r.dir, fmt.Sprintf("%s-%d", r.system, r.keys))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	p, _, err := r.start(ctx, n, dir, c)
	if err != nil {
		return err
	}
	defer func() { _ = p.Kill() }() // the run is over
	loaded := filepath.Join(dir, "loaded")
	if _, err := os.Stat(loaded); err != nil {
		if err := r.load(ctx, n, c); err != nil {
			return err
		}
		if err := os.WriteFile(loaded, nil, 0o600); err != nil {
			return err
		}
	}
	fmt.Printf("%s, %d keys of %d bytes, %d MB on disk\n", r.system, r.keys, r.valueSize, diskUse(dir)>>20)
	for _, how := range []string{"clean stop", "kill -9 while writing", "kill -9"} {
		if err := r.end(ctx, n, c, p, how); err != nil {
			return err
		}
		var took time.Duration
		if p, took, err = r.start(ctx, n, dir, c); err != nil {
			return err
		}
		read, err := harness.BytesRead(p.PID())
		if err != nil {
			return err
		}
		fmt.Printf("| %s | %d | %s | %.2f s | %d MB read |\n", r.system, r.keys, how, took.Seconds(), read>>20)
	}
	return p.Terminate(60 * time.Second)
}

// end ends the node.
func (r *restart) end(ctx context.Context, n restartNode, c *http.Client, p *harness.Process, how string) error {
	switch how {
	case "clean stop":
		return p.Terminate(60 * time.Second)
	case "kill -9":
		return p.Kill()
	}
	ctx, cancel := context.WithTimeout(ctx, r.writes)
	defer cancel()
	var wg sync.WaitGroup
	var done atomic.Int64
	for w := range 64 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			for ctx.Err() == nil {
				if n.fill(c, []string{restartKey(rng.IntN(r.keys))}, [][]byte{text(rng, r.valueSize)}) == nil {
					done.Add(1)
				}
			}
		})
	}
	<-ctx.Done()
	err := p.Kill()
	wg.Wait()
	fmt.Printf("killed after %d single puts\n", done.Load())
	return err
}

// start starts the node and returns when it is ready, and how long that took.
func (r *restart) start(ctx context.Context, n restartNode, dir string, c *http.Client) (*harness.Process, time.Duration, error) {
	if r.cold {
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
			return nil, 0, fmt.Errorf("emptying the page cache: %w", err)
		}
	}
	begin := time.Now()
	log := filepath.Join(dir, "log")
	p, err := harness.StartProcess(n.argv(dir), append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, n.env(dir)...), dir, log)
	if err != nil {
		return nil, 0, err
	}
	for {
		err := n.ready(c)
		if err == nil {
			return p, time.Since(begin), nil
		}
		if !p.Running() || ctx.Err() != nil || time.Since(begin) > 10*time.Minute {
			_ = p.Kill()
			return nil, 0, fmt.Errorf("it does not get ready (%w); its log is %s", errors.Join(err, ctx.Err()), log)
		}
		time.Sleep(5 * time.Millisecond) // the measure's grain
	}
}

func (r *restart) load(ctx context.Context, n restartNode, c *http.Client) error {
	begin := time.Now()
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(2, uint64(w)))
			for ctx.Err() == nil && failed.Load() == 0 {
				to := int(next.Add(int64(r.batch)))
				var keys []string
				var values [][]byte
				for i := to - r.batch; i < min(to, r.keys); i++ {
					keys, values = append(keys, restartKey(i)), append(values, text(rng, r.valueSize))
				}
				if len(keys) == 0 {
					return
				}
				if err := n.fill(c, keys, values); err != nil {
					failed.Add(1)
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	fmt.Printf("loaded in %.0f s\n", time.Since(begin).Seconds())
	return errors.Join(<-errs, ctx.Err())
}

func restartKey(i int) string { return fmt.Sprintf("restart/%012d", i) }

// text is random, and as JSON takes it.
func text(rng *rand.Rand, n int) []byte {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	b := make([]byte, n)
	for i := 0; i < n; {
		for v, j := rng.Uint64(), 0; j < 10 && i < n; i, j = i+1, j+1 {
			b[i] = letters[v>>(6*j)&63]
		}
	}
	return b
}

func diskUse(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error { // only for people
		if info, ierr := d.Info(); err == nil && ierr == nil && !d.IsDir() && !strings.HasSuffix(path, ".wal") {
			n += harness.Blocks(info)
		}
		return nil
	})
	return n
}

func post(c *http.Client, url string, body any, into any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	resp, err := c.Post(url, "application/json", bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(answer, into)
	}
	return err
}

const konsulRestart, etcdRestart = "127.9.3.1", "127.9.4.1"

type konsulNode struct{ binary string }

func (n konsulNode) argv(string) []string { return []string{n.binary, "agent"} }

func (n konsulNode) env(dir string) []string {
	return []string{"KONSUL_HOST=" + konsulRestart, "KONSUL_RAFT_BIND_ADDR=" + konsulRestart + ":7000", "KONSUL_DATA_DIR=" + filepath.Join(dir, "data")}
}

func (n konsulNode) fill(c *http.Client, keys []string, values [][]byte) error {
	items := make(map[string]string, len(keys))
	for i, key := range keys {
		items[key] = string(values[i])
	}
	return post(c, "http://"+konsulRestart+":8500/batch/set", map[string]any{"items": items}, nil)
}

func (n konsulNode) ready(c *http.Client) error {
	resp, err := c.Get("http://" + konsulRestart + ":8500/health/ready")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

type etcdNode struct{}

func (etcdNode) argv(dir string) []string {
	client, peer := "http://"+etcdRestart+":2379", "http://"+etcdRestart+":2380"
	return []string{"etcd", "--name", "m1", "--data-dir", filepath.Join(dir, "data"), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "m1=" + peer,
		"--quota-backend-bytes", strconv.Itoa(32 << 30), "--max-txn-ops", "4096", "--log-level", "error", "--logger", "zap"}
}

func (etcdNode) env(string) []string { return nil }

func (etcdNode) fill(c *http.Client, keys []string, values [][]byte) error {
	puts := make([]any, len(keys))
	for i, key := range keys {
		puts[i] = map[string]any{"requestPut": map[string]string{
			"key": base64.StdEncoding.EncodeToString([]byte(key)), "value": base64.StdEncoding.EncodeToString(values[i]),
		}}
	}
	return post(c, "http://"+etcdRestart+":2379/v3/kv/txn", map[string]any{"success": puts}, nil)
}

func (etcdNode) ready(c *http.Client) error {
	key := base64.StdEncoding.EncodeToString([]byte(restartKey(0)))
	return post(c, "http://"+etcdRestart+":2379/v3/kv/range", map[string]string{"key": key}, nil)
}
