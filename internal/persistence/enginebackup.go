package persistence

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/neogan74/konsul/internal/backup"
	"github.com/neogan74/konsul/internal/snapshot"
)

// Backup implements Engine.
func (s *standalone) Backup(path string) error {
	dir, name, err := backup.Locate(s.backupDir, path)
	if err != nil {
		return err
	}
	if s.db.closed.Load() {
		return ErrClosed
	}
	_, err = dir.Save(s.stream, func(snapshot.Header) string { return name })
	return err
}

func (s *standalone) stream(w io.Writer) (h snapshot.Header, f snapshot.Footer, err error) {
	s.mu.Lock() // the counts are of this index
	counts, index := s.db.Counts(), s.db.Published()
	view, err := s.db.Snapshot(index)
	s.mu.Unlock()
	if err != nil {
		return h, f, err
	}
	defer view.Close()
	h = snapshot.Header{Index: index, CreatedAt: time.Now().UnixNano(), Keys: counts.Keys, Services: counts.Services}
	f, err = view.WriteTo(context.Background(), w, h)
	return h, f, err
}

// Restore implements Engine.
func (s *standalone) Restore(path string) error {
	dir, name, err := backup.Locate(s.backupDir, path)
	if err != nil {
		return err
	}
	if s.db.closed.Load() {
		return ErrClosed
	}
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	ctx := context.Background()
	chain, err := backup.NewChain(ctx, nil, []backup.File{f}, []string{path})
	if err != nil {
		return err
	}
	src, err := chain.Source(ctx, nil)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db.closed.Load() {
		return ErrClosed
	}
	// Versions go on from above both.
	h := chain.Header
	h.ClusterID, h.Index = "", max(h.Index, s.next)
	if err := s.db.ReplaceFrom(ctx, NewRestored(Checked(src), h, nil, s.now())); err != nil {
		return fmt.Errorf("restoring %s: %w", path, err)
	}
	s.next = h.Index + 1
	return s.restartServices()
}

// restartServices goes on in the time of a state that is new; mu is held.
func (s *standalone) restartServices() error {
	v, err := s.db.View()
	if err != nil {
		return err
	}
	defer v.Close()
	t, err := v.time()
	if err != nil {
		return err
	}
	s.base, s.opened = t.Now, time.Now()
	s.keepTidy() // there may be deadlines
	return nil
}
