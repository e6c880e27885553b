package raftstore

import (
	"context"
	"io"

	"github.com/neogan74/konsul/internal/backup"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/snapshot"
)

// Backup implements persistence.Engine; the file is this node's.
func (e *Engine) Backup(path string) error {
	if e.closed.Load() {
		return persistence.ErrClosed
	}
	dir, name, err := backup.Locate(e.store.cfg.BackupDir, path)
	if err != nil {
		return err
	}
	dir.Encrypt(e.store.cfg.Encryption.Files())
	dir.KeepRoom(BackupRoom(e.store.cfg.DataDir, e.store.cfg.MinFreeSpace))
	_, err = dir.Save(func(w io.Writer) (snapshot.Header, snapshot.Footer, error) {
		return e.store.Backup(context.Background(), w, BackupOptions{})
	}, func(snapshot.Header) string { return name })
	return engineError(err)
}

// Restore implements persistence.Engine, for the whole cluster.
func (e *Engine) Restore(path string) error {
	if e.closed.Load() {
		return persistence.ErrClosed
	}
	dir, name, err := backup.Locate(e.store.cfg.BackupDir, path)
	if err != nil {
		return err
	}
	dir.Encrypt(e.store.cfg.Encryption.Files())
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	ctx := context.Background()
	chain, err := backup.NewChain(ctx, dir.Keys(), []backup.File{f}, []string{path})
	if err != nil {
		return err
	}
	src, err := chain.Source(ctx, nil)
	if err != nil {
		return err
	}
	_, err = e.store.Restore(ctx, src)
	return engineError(err)
}
