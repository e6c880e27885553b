package config

import (
	"path/filepath"
	"slices"
	"strings"
)

// checkDirs keeps backups and the node's own files apart: names in the backup directory are anybody's
// who may ask for a backup, and one called node-id would be the end of the node. A directory
// of their own below data_dir does no such harm; see Result.BackupsWithData.
func (r *Result) checkDirs(say sayFunc) {
	p := r.Persistence
	if p.DataDir == "" || p.BackupDir == "" {
		return // said already
	}
	data, backups := realPath(p.DataDir), realPath(p.BackupDir)
	var how string
	switch {
	case data == backups:
		how = "is"
	case liesIn(backups, data) && ownDir(backups[len(strings.TrimSuffix(data, "/"))+1:]):
		how = "lies among the node's own files in"
	case liesIn(data, backups):
		how = "contains"
	default:
		return
	}
	say("persistence.backup_dir", "%s %s persistence.data_dir (%s): backups need a directory apart from the node's own files", p.BackupDir, how, p.DataDir)
}

// ownDir says whether a path below data_dir is in one of the directories that a node has there.
func ownDir(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return slices.Contains([]string{"engine", "raft", "snapshots", "spool"}, first) ||
		strings.HasPrefix(first, "damaged-") || strings.HasPrefix(first, "before-recovery-")
}

// BackupsWithData says whether backups are kept in the data directory, where they share its fate.
func (r *Result) BackupsWithData() bool {
	return !r.InMemory() && liesIn(realPath(r.Persistence.BackupDir), realPath(r.Persistence.DataDir))
}

// realPath is path from the root on, without links as far as it is there already.
func realPath(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return filepath.Clean(path)
	}
	for there, rest := abs, ""; ; there, rest = filepath.Dir(there), filepath.Join(filepath.Base(there), rest) {
		if linked, err := filepath.EvalSymlinks(there); err == nil {
			return filepath.Join(linked, rest)
		}
		if there == filepath.Dir(there) {
			return abs
		}
	}
}

// liesIn says whether path lies in dir.
func liesIn(path, dir string) bool {
	return strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
