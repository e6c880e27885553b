package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/internal/config"
)

// prepareDataDir makes the data directory for the owner only, and tightens one that others could read:
// it holds every value in the clear.
func prepareDataDir(cfg *config.Result, log hclog.Logger) error {
	if cfg.InMemory() {
		return nil
	}
	dir := cfg.Persistence.DataDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the data directory (persistence.data_dir): %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("looking at the data directory (persistence.data_dir): %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
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
