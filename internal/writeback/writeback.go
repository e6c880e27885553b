// Package writeback has large files written to the disk while they grow. Left alone the
// kernel keeps gigabytes in memory, and the fsync at the end then writes them all at
// once: every fsync of the log waits behind that, and with it every write.
package writeback

import (
	"io"
	"os"
)

// step is how much is begun at a time. At most two steps are under way: whoever writes
// faster than the disk waits for it here, a little at a time.
const step = 4 << 20

// Pacer follows one growing file. It is for one goroutine.
type Pacer struct {
	f            *os.File
	size, begun  int64
	begin, await func(f *os.File, from, n int64)
}

// NewPacer follows f, which may be any open file of the one that grows, from its start.
func NewPacer(f *os.File) *Pacer { return &Pacer{f: f, begin: beginRange, await: awaitRange} }

// Grown tells that n more bytes were appended. Nothing is durable on return: that is
// what fsync is for, which also tells of errors.
func (p *Pacer) Grown(n int) {
	p.size += int64(n)
	for p.size-p.begun >= step {
		p.begin(p.f, p.begun, step)
		if p.begun >= step {
			p.await(p.f, p.begun-step, step)
		}
		p.begun += step
	}
}

// Writer appends to a file and has it written back as it grows.
type Writer struct {
	f *os.File
	p *Pacer
}

var _ io.Writer = (*Writer)(nil)

// NewWriter appends to f, which is empty.
func NewWriter(f *os.File) *Writer { return &Writer{f, NewPacer(f)} }

// Write implements io.Writer.
func (w *Writer) Write(b []byte) (int, error) {
	n, err := w.f.Write(b)
	w.p.Grown(n)
	return n, err
}
