package persistence_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/enginetest"
)

func openBadger(t *testing.T, dir string, syncWrites bool) *persistence.BadgerEngine {
	t.Helper()
	e, err := persistence.NewBadgerEngine(dir, syncWrites, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestMemoryEngine(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) persistence.Engine {
		t.Helper()
		e := persistence.NewMemoryEngine()
		t.Cleanup(func() { _ = e.Close() })
		return e
	})
}

func TestBadgerEngine(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) persistence.Engine {
		t.Helper()
		return openBadger(t, t.TempDir(), false)
	})
}

func TestBadgerEngineSyncWrites(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) persistence.Engine {
		t.Helper()
		return openBadger(t, t.TempDir(), true)
	})
}

func TestEngineKeepsDataAcrossReopening(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		e := openBadger(t, dir, true)
		for i, key := range enginetest.OddKeys() {
			if round > 0 {
				value, err := e.Get(key)
				if err != nil || string(value) != strings.Repeat("v", i+round-1) {
					t.Fatalf("round %d, key %.20q: %.20q, %v", round, key, value, err)
				}
			}
			if err := e.Set(key, []byte(strings.Repeat("v", i+round))); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClosedEngineSaysSo(t *testing.T) {
	e := openBadger(t, t.TempDir(), false)
	tx, err := e.BeginTx()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tx.Set("a", nil), e.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}
	_, getErr := e.Get("a")
	_, listErr := e.List("")
	_, beginErr := e.BeginTx()
	for name, err := range map[string]error{
		"Get": getErr, "List": listErr, "BeginTx": beginErr, "Set": e.Set("a", nil), "Delete": e.Delete("a"), "Commit": tx.Commit(),
		"BatchSet": e.BatchSet(map[string][]byte{"a": nil}), "BatchDelete": e.BatchDelete([]string{"a"}),
	} {
		if !errors.Is(err, persistence.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
}

func TestSecondInstanceIsRefused(t *testing.T) {
	dir := t.TempDir()
	openBadger(t, dir, false)
	_, err := persistence.NewBadgerEngine(dir, false, hclog.NewNullLogger())
	if !errors.Is(err, persistence.ErrLocked) {
		t.Fatalf("%v, want ErrLocked", err)
	}
	for _, want := range []string{"failed to open BadgerDB: Cannot acquire directory lock", dir, "another instance"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestNewEngineChecksItsConfig(t *testing.T) {
	dir := t.TempDir()
	good := persistence.Config{Enabled: true, Type: "badger", DataDir: dir, SyncWrites: true, WALEnabled: true}
	for name, change := range map[string]func(*persistence.Config){
		"unknown type":       func(c *persistence.Config) { c.Type = "sqlite" },
		"no type":            func(c *persistence.Config) { c.Type = "" },
		"no write-ahead log": func(c *persistence.Config) { c.WALEnabled = false },
		"no directory":       func(c *persistence.Config) { c.DataDir = "" },
	} {
		cfg := good
		change(&cfg)
		if e, err := persistence.NewEngine(cfg, nil); !errors.Is(err, persistence.ErrBadConfig) {
			t.Errorf("%s: %v, %v, want ErrBadConfig", name, e, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "engine")); err == nil {
		t.Error("a refused configuration made files")
	}
	for name, c := range map[string]struct {
		cfg    persistence.Config
		memory bool
	}{
		"badger":          {good, false},
		"memory":          {persistence.Config{Enabled: true, Type: "memory"}, true},
		"disabled badger": {persistence.Config{Type: "badger", DataDir: dir}, true},
		"the zero Config": {persistence.Config{}, true},
	} {
		e, err := persistence.NewEngine(c.cfg, hclog.NewNullLogger())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, memory := e.(*persistence.MemoryEngine); memory != c.memory {
			t.Errorf("%s: got a %T", name, e)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
