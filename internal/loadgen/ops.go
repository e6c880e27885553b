package loadgen

import "math/rand/v2"

// values are what puts write: letters and digits (so that a JSON answer carries them
// as they are) that do not compress, cut from one long piece at changing places.
type values struct {
	pool []byte
	size int
}

const valueSpread = 4096

func newValues(size int, seed uint64) *values {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	random := rand.New(rand.NewPCG(seed, 0x76616c756573))
	pool := make([]byte, size+valueSpread)
	for i := 0; i < len(pool); {
		for bits, n := random.Uint64(), 0; n < 10 && i < len(pool); n++ {
			pool[i] = letters[bits&63]
			bits >>= 6
			i++
		}
	}
	return &values{pool: pool, size: size}
}

func (v *values) at(n uint64) []byte {
	from := n % valueSpread
	return v.pool[from : from+uint64(v.size)]
}

// opSource is the sequence of operations of one client.
type opSource struct {
	random *rand.PCG
	values *values
	keys   uint64
	// reads of every 100 operations are gets.
	reads uint64
	// items is what a batch has; it is reused for the next.
	items []Item
}

func newOpSource(cfg *Config, v *values, id int) opSource {
	s := opSource{random: rand.NewPCG(cfg.Seed, uint64(id)), values: v, keys: cfg.Keys}
	switch cfg.Workload {
	case WorkloadGet:
		s.reads = 100
	case WorkloadMixed:
		s.reads = uint64(cfg.ReadPercent)
	case WorkloadBatch:
		s.items = make([]Item, cfg.batchSize())
	}
	return s
}

func (s *opSource) next(op *Op) {
	op.Key = s.random.Uint64() % s.keys
	op.Kind, op.Value = Put, nil
	draw := s.random.Uint64()
	if s.items != nil {
		s.batch(op, draw)
		return
	}
	if draw%100 < s.reads {
		op.Kind = Get
		return
	}
	op.Value = s.values.at(draw >> 32)
}

// batch makes a batch of the drawn key and others at equal distances from it: all over
// the keys, and none twice, which in one request would be one write less.
func (s *opSource) batch(op *Op, draw uint64) {
	step := s.keys / uint64(len(s.items))
	for i := range s.items {
		n := uint64(i)
		s.items[i] = Item{Key: (op.Key + n*step) % s.keys, Value: s.values.at(draw>>32 + n)}
	}
	op.Kind, op.Items = Batch, s.items
}
