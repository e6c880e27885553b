package loadgen

import (
	"errors"
	"fmt"
	"time"
)

// Workload is which operations are sent.
type Workload string

// The workloads. Mixed is Config.ReadPercent gets, the rest puts.
const (
	WorkloadPut   Workload = "put"
	WorkloadGet   Workload = "get"
	WorkloadMixed Workload = "mixed"
)

// Config is one run.
type Config struct {
	Target   Target
	Workload Workload
	// Clients is how many workers run at the same time.
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
}

// Check reports the first thing that is wrong with the configuration.
func (c *Config) Check() error {
	switch {
	case c.Target == nil:
		return errors.New("no target")
	case c.Workload != WorkloadPut && c.Workload != WorkloadGet && c.Workload != WorkloadMixed:
		return fmt.Errorf("workload %q: put, get or mixed", c.Workload)
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
	return nil
}

// MaxKeys is how many different keys a run can have: their names have ten digits.
const MaxKeys = 10_000_000_000
