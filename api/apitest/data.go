package apitest

import (
	"context"
	"io"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/snapshot"
	"github.com/neogan74/konsul/raftstore"
)

// Backup is api.Backuper's.
func (l *Local) Backup(ctx context.Context, w io.Writer, o raftstore.BackupOptions) (snapshot.Header, snapshot.Footer, error) {
	return l.FSM.Backup(ctx, w, o.Since, o.Begin)
}

// Restore is api.Backuper's. A backup that is ahead of the log is restored, but the log
// does not jump.
func (l *Local) Restore(ctx context.Context, src snapshot.Source) (uint64, error) {
	return raftstore.ProposeRestore(ctx, src, LocalID, func(_ context.Context, m *command.Restore) (*command.Result, error) {
		return l.Apply0(m, command.Type_TYPE_RESTORE), nil
	})
}

// Room is api.Backuper's.
func (l *Local) Room() error { return nil }
