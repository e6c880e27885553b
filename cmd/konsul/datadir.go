package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/internal/config"
	"github.com/neogan74/konsul/raftstore"
)

// prepareDataDir makes the data directory for the owner only, and tightens one that others could read:
// it holds every value in the clear.
func prepareDataDir(cfg *config.Result, log hclog.Logger) error {
	if cfg.InMemory() {
		return nil
	}
	dir := cfg.Persistence.DataDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return wrap("making the data directory (persistence.data_dir)", explainPermission(cfg, err))
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("looking at the data directory (persistence.data_dir): %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	// Somebody's home or /tmp, by a slip: taking it away from everybody else would be a bad surprise.
	if other := foreignFile(dir); other != "" {
		return fmt.Errorf("%w: persistence.data_dir (%s): %s is open to others and has %s in it, which is not Konsul's; give the node a directory of its own",
			config.ErrInvalid, cfg.Source("persistence.data_dir"), dir, other)
	}
	err = os.Chmod(dir, 0o700)
	if errors.Is(err, os.ErrPermission) {
		// Somebody else's directory that we may use; its owner decides.
		log.Warn("others may read the data directory, and this user may not change that", "dir", dir, "mode", info.Mode().Perm().String())
		return nil
	}
	if err != nil {
		return fmt.Errorf("closing the data directory to others (persistence.data_dir): %w", err)
	}
	log.Warn("others could read the data directory; its mode is 0700 now", "dir", dir, "was", info.Mode().Perm().String())
	return nil
}

// predecessorTime bounds the wait for a node that is still stopping. It is also how late a second
// node on one directory, started by mistake, is told so.
const predecessorTime = 5 * time.Second

// awaitPredecessor gives the node that was on the data directory before, and was just told to stop,
// the moment that it needs: `kill PID; konsul` is a restart. What goes wrong here is found, and
// explained, when the directory is opened.
func awaitPredecessor(cfg *config.Result, log hclog.Logger) {
	if cfg.InMemory() {
		return
	}
	for begin, said := time.Now(), false; ; time.Sleep(20 * time.Millisecond) {
		release, err := raftstore.LockDataDir(cfg.Persistence.DataDir)
		if err == nil {
			release()
		}
		if !errors.Is(err, raftstore.ErrLocked) || time.Since(begin) > predecessorTime {
			return
		}
		if !said {
			log.Info("waiting for the node that is running on the data directory to stop", "dir", cfg.Persistence.DataDir, "at_most", predecessorTime)
			said = true
		}
	}
}

// explainPermission says who may not use the data directory and what to change; other errors stay
// as they are.
func explainPermission(cfg *config.Result, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	who := fmt.Sprintf("user %d", os.Geteuid())
	if u, lookup := user.Current(); lookup == nil {
		who = "user " + u.Username
	}
	return fmt.Errorf("%w: %s needs to write there: make it the owner of %s, or choose another directory with --data-dir (persistence.data_dir, KONSUL_DATA_DIR)",
		err, who, cfg.Persistence.DataDir)
}

// foreignFile names something in dir that a node does not put there, if the directory was never a
// node's, or is a new one's after a reset. An empty file system counts as empty.
func foreignFile(dir string) string {
	if _, err := os.Stat(filepath.Join(dir, "node-id")); err == nil {
		return ""
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if !raftstore.Stays(e.Name()) {
			return e.Name()
		}
	}
	return ""
}
