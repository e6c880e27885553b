package backup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/snapshot"
)

// File is one file of a chain: it is read twice, so it must be able to go back.
type File interface {
	io.Reader
	io.Seeker
}

// Chain is a full backup and the increments on top of it, verified and found to fit
// together.
type Chain struct {
	// Header is the whole's: of the last file, with Since 0.
	Header snapshot.Header
	// Bytes are the files' sizes together; Footers what they said, in order.
	Bytes   int64
	Footers []snapshot.Footer
	keys    *encryption.FileKeys
	files   []File
	names   []string
}

// NewChain reads every file from its beginning to its end, encrypted ones with keys.
// Errors name the file and wrap those of package snapshot and, for encrypted files, of
// package encryption; after one nothing must be used.
func NewChain(ctx context.Context, keys *encryption.FileKeys, files []File, names []string) (*Chain, error) {
	c := &Chain{keys: keys, files: files, names: names}
	var headers []snapshot.Header
	for i, f := range files {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, fmt.Errorf("reading %s: %w", names[i], err)
		}
		h, footer, err := c.verify(&ctxReader{ctx, f})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", names[i], err)
		}
		headers, c.Footers = append(headers, h), append(c.Footers, footer)
		c.Bytes += footer.Size
	}
	if err := snapshot.CheckChain(headers, names); err != nil {
		return nil, err
	}
	c.Header = headers[len(headers)-1]
	c.Header.Since = 0
	return c, nil
}

func (c *Chain) verify(r io.Reader) (snapshot.Header, snapshot.Footer, error) {
	clear, err := Unseal(r, c.keys)
	if err != nil {
		return snapshot.Header{}, snapshot.Footer{}, err
	}
	return snapshot.Verify(clear)
}

// Source reads the chain once more, as one whole state. The files are verified again
// while they are read: they could have changed. progress is told how many bytes of the
// files have been read; nil = nobody.
func (c *Chain) Source(ctx context.Context, progress func(int64)) (snapshot.Source, error) {
	read := new(int64)
	sources := make([]snapshot.Source, len(c.files))
	for i, f := range c.files {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, fmt.Errorf("reading %s: %w", c.names[i], err)
		}
		clear, err := Unseal(&countingReader{r: &ctxReader{ctx, f}, n: read, tell: progress}, c.keys)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.names[i], err)
		}
		r, err := snapshot.NewReader(clear)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.names[i], err)
		}
		sources[i] = &namedSource{Reader: r, name: c.names[i], want: c.Footers[i]}
	}
	return snapshot.NewMerge(sources), nil
}

// namedSource says which file an error is about, and that it is still the file that
// was verified.
type namedSource struct {
	*snapshot.Reader
	name string
	want snapshot.Footer
}

func (s *namedSource) Next() (snapshot.Record, error) {
	r, err := s.Reader.Next()
	switch {
	case errors.Is(err, io.EOF) && s.Footer() != s.want:
		return r, fmt.Errorf("%s: %w: it changed while it was read", s.name, snapshot.ErrCorrupt)
	case err != nil && !errors.Is(err, io.EOF):
		return r, fmt.Errorf("%s: %w", s.name, err)
	}
	return r, err
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *ctxReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

type countingReader struct {
	r    io.Reader
	n    *int64
	tell func(int64)
}

func (r *countingReader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	*r.n += int64(n)
	if r.tell != nil {
		r.tell(*r.n)
	}
	return n, err
}
