package snapshot

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Source gives the records of one state in strictly ascending order of key. Next
// returns io.EOF only when everything it gave is verified; a record is valid until
// the next call. A *Reader is one.
type Source interface {
	Header() Header
	Next() (Record, error)
}

// ErrChain means that files which are each whole do not fit together. It is
// wrapped with which ones and why.
var ErrChain = errors.New("these backups do not fit together")

// CheckChain checks that headers, in order, are a whole state and increments that
// each go on where the one before ends. names are for the error's text.
func CheckChain(headers []Header, names []string) error {
	if len(headers) == 0 {
		return fmt.Errorf("%w: there is none", ErrChain)
	}
	if h := headers[0]; h.Since != 0 {
		return fmt.Errorf("%w: %s is an increment since index %d: begin with a full backup", ErrChain, names[0], h.Since)
	}
	for i, h := range headers[1:] {
		before, name := headers[i], names[i+1]
		switch {
		case h.ClusterID != before.ClusterID:
			return fmt.Errorf("%w: %s is of cluster %q, %s of %q", ErrChain, name, h.ClusterID, names[i], before.ClusterID)
		case h.Since == 0:
			return fmt.Errorf("%w: %s is a full backup: only the first may be one", ErrChain, name)
		case h.Since != before.Index:
			return fmt.Errorf("%w: %s begins after index %d, but %s ends at %d", ErrChain, name, h.Since, names[i], before.Index)
		}
	}
	return nil
}

// Merge is a whole state and the increments on top of it, as one whole state. The
// last source with a key decides; deletions are left out.
type Merge struct {
	sources []Source
	heads   []head
	header  Header
	err     error
}

// head is the record a source stands at.
type head struct {
	record Record
	taken  bool // ask for the next one first
	ended  bool
}

// NewMerge merges sources, which fit together by CheckChain.
func NewMerge(sources []Source) *Merge {
	m := &Merge{sources: sources, heads: make([]head, len(sources))}
	for i := range m.heads {
		m.heads[i].taken = true
	}
	m.header = sources[len(sources)-1].Header()
	m.header.Since = 0
	return m
}

// Header implements Source: it is the last one's, of a whole state.
func (m *Merge) Header() Header { return m.header }

// Next implements Source.
func (m *Merge) Next() (Record, error) {
	for m.err == nil {
		r, ok := m.next()
		switch {
		case m.err != nil:
		case !ok:
			m.err = io.EOF
		case !r.Deleted:
			return r, nil
		}
	}
	return Record{}, m.err
}

// next is the newest record of the lowest key; false if there is none left.
func (m *Merge) next() (Record, bool) {
	best := -1
	for i := range m.heads {
		h := &m.heads[i]
		if h.taken && !h.ended {
			r, err := m.sources[i].Next()
			switch {
			case errors.Is(err, io.EOF):
				h.ended = true
			case err != nil:
				m.err = err
				return Record{}, false
			}
			h.record, h.taken = r, false
		}
		if h.ended {
			continue
		}
		if best < 0 || bytes.Compare(h.record.Key, m.heads[best].record.Key) <= 0 {
			best = i
		}
	}
	if best < 0 {
		return Record{}, false
	}
	r := m.heads[best].record
	for i := range m.heads {
		if h := &m.heads[i]; !h.ended && bytes.Equal(h.record.Key, r.Key) {
			h.taken = true
		}
	}
	return r, true
}

// Copy writes everything of src as one file to w.
func Copy(w io.Writer, src Source) (Footer, error) {
	sw, err := NewWriter(w, src.Header())
	if err != nil {
		return Footer{}, err
	}
	defer sw.Abort()
	for {
		r, err := src.Next()
		if errors.Is(err, io.EOF) {
			return sw.Close()
		}
		if err != nil {
			return Footer{}, err
		}
		if err := sw.Write(r); err != nil {
			return Footer{}, err
		}
	}
}

// Verify reads a whole file and returns what it says about itself. An error means:
// use nothing of it.
func Verify(r io.Reader) (Header, Footer, error) {
	sr, err := NewReader(r)
	if err != nil {
		return Header{}, Footer{}, err
	}
	for {
		if _, err := sr.Next(); errors.Is(err, io.EOF) {
			return sr.Header(), sr.Footer(), nil
		} else if err != nil {
			return Header{}, Footer{}, err
		}
	}
}

// PeekHeader reads the header of a file without taking it from r, whose buffer must have
// MaxHeaderBytes. It is not verified.
func PeekHeader(r *bufio.Reader) (Header, error) {
	fixed, err := r.Peek(fixedHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return Header{}, fmt.Errorf("reading snapshot: %w", err)
	}
	size := 0
	if len(fixed) == fixedHeader {
		size = int(min(binary.BigEndian.Uint32(fixed[10:]), maxHeaderLen))
	}
	front, err := r.Peek(fixedHeader + size)
	if err != nil && !errors.Is(err, io.EOF) {
		return Header{}, fmt.Errorf("reading snapshot: %w", err)
	}
	sr, err := NewReader(bytes.NewReader(front))
	if err != nil {
		return Header{}, err
	}
	return sr.Header(), nil
}
