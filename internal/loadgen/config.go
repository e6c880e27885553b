package loadgen

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Workload is which operations are sent.
type Workload string

// The workloads. Mixed is Config.ReadPercent gets, the rest puts. Batch writes
// Config.BatchSize keys with each request. Watch is Config.Clients watchers of all keys
// and Config.Writers clients that put. The last two need an HTTPTarget.
const (
	WorkloadPut   Workload = "put"
	WorkloadGet   Workload = "get"
	WorkloadMixed Workload = "mixed"
	WorkloadBatch Workload = "batch"
	WorkloadWatch Workload = "watch"
)

// Workloads are all of them.
var Workloads = []string{string(WorkloadPut), string(WorkloadGet), string(WorkloadMixed), string(WorkloadBatch), string(WorkloadWatch)}

// The API's limits of a batch, and the defaults.
const (
	MaxBatchSize     = 1024
	maxBatchBytes    = 1 << 20
	DefaultBatchSize = 100
	MaxWriters       = 1024
	DefaultWriters   = 4
)

// Config is one run.
type Config struct {
	Target   Target
	Workload Workload
	// Clients is how many workers run at the same time; of the watch workload, how many watchers.
	Clients int
	// Duration or, if that is 0, Requests bounds the measured part.
	Duration time.Duration
	Requests int64
	// Warmup is load before the measured part that does not count.
	Warmup time.Duration
	// Keys is how many different keys are used, all equally often.
	Keys uint64
	// ValueSize is the length of the values written, in bytes.
	ValueSize int
	// ReadPercent is the share of gets of the mixed workload; 0 = 50.
	ReadPercent int
	// BatchSize is how many keys a request of the batch workload writes; 0 = DefaultBatchSize.
	BatchSize int
	// Writers is how many clients write in the watch workload; 0 = DefaultWriters.
	Writers int
	// Seed decides the sequence of operations.
	Seed uint64
	// Progress, if not nil, hears every ProgressEvery (0 = a second) how it goes.
	Progress      func(Progress)
	ProgressEvery time.Duration
}

// Progress is the state of a run.
type Progress struct {
	Elapsed   time.Duration // since the start of the measured part; negative in the warm-up
	Done      int64         // operations, warm-up included
	Errors    int64
	OpsPerSec float64 // since the last report
	Events    int64   // that arrived at the watchers of the watch workload, warm-up included
}

// Check reports the first thing that is wrong with the configuration.
func (c *Config) Check() error {
	switch {
	case c.Target == nil:
		return errors.New("no target")
	case !slices.Contains(Workloads, string(c.Workload)):
		return fmt.Errorf("workload %q: %s or %s", c.Workload, strings.Join(Workloads[:len(Workloads)-1], ", "), Workloads[len(Workloads)-1])
	case c.Clients < 1:
		return fmt.Errorf("%d clients: at least 1", c.Clients)
	case c.Duration < 0 || c.Requests < 0 || c.Duration == 0 && c.Requests == 0:
		return errors.New("a duration or a number of requests above 0 is needed")
	case c.Duration > 0 && c.Requests > 0:
		return errors.New("either a duration or a number of requests, not both")
	case c.Warmup < 0:
		return errors.New("the warm-up cannot be negative")
	case c.Keys < 1 || c.Keys > MaxKeys:
		return fmt.Errorf("%d keys: 1 to %d", c.Keys, uint64(MaxKeys))
	case c.ValueSize < 0:
		return errors.New("the value size cannot be negative")
	case c.ReadPercent < 0 || c.ReadPercent > 100:
		return errors.New("the share of reads is 0 to 100 percent")
	}
	switch c.Workload {
	case WorkloadBatch:
		return c.checkBatch()
	case WorkloadWatch:
		return c.checkWatch()
	}
	return nil
}

func (c *Config) checkBatch() error {
	size := c.batchSize()
	switch _, ok := c.Target.(*HTTPTarget); {
	case !ok:
		return errors.New("this target has no batches")
	case size < 1 || size > MaxBatchSize:
		return fmt.Errorf("batches of %d keys: 1 to %d", size, MaxBatchSize)
	case uint64(size) > c.Keys:
		return fmt.Errorf("batches of %d keys need at least as many keys, not %d", size, c.Keys)
	case size*c.ValueSize > maxBatchBytes:
		return fmt.Errorf("batches of %d values of %d bytes: a batch has at most 1 MiB", size, c.ValueSize)
	}
	return nil
}

func (c *Config) checkWatch() error {
	switch _, ok := c.Target.(*HTTPTarget); {
	case !ok:
		return errors.New("this target cannot be watched")
	case c.writers() < 1 || c.writers() > MaxWriters:
		return fmt.Errorf("%d writers: 1 to %d", c.writers(), MaxWriters)
	case c.ValueSize < stampSize:
		return fmt.Errorf("values of %d bytes: the watch workload needs %d to tell its writes apart", c.ValueSize, stampSize)
	}
	return nil
}

func (c *Config) batchSize() int {
	if c.BatchSize == 0 {
		return DefaultBatchSize
	}
	return c.BatchSize
}

func (c *Config) writers() int {
	if c.Writers == 0 {
		return DefaultWriters
	}
	return c.Writers
}

// loops is how many clients send operations.
func (c *Config) loops() int {
	if c.Workload == WorkloadWatch {
		return c.writers()
	}
	return c.Clients
}

// kinds are the kinds of operations that may occur.
func (c *Config) kinds() []Kind {
	if c.Workload == WorkloadBatch {
		return []Kind{Batch}
	}
	return []Kind{Get, Put}
}

// MaxKeys is how many different keys a run can have: their names have ten digits.
const MaxKeys = 10_000_000_000
