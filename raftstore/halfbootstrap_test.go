package raftstore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// raft.BootstrapCluster writes the term, then the first entry. A crash in between leaves a
// term and no configuration: the node has "state", and cannot be bootstrapped again.
func TestAHalfBootstrapIsRepeated(t *testing.T) {
	cfg := Config{NodeID: "n1", DataDir: filepath.Join(t.TempDir(), "d"), BindAddr: "127.0.0.1:0", SyncWrites: true, Registerer: prometheus.NewRegistry()}.withDefaults()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	id, err := loadIdentity(cfg.DataDir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if err := id.setCluster("c"); err != nil { // as Bootstrap does first
		t.Fatal(err)
	}
	l, err := openLog(cfg, nil, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.raw().SetUint64(keyCurrentTerm, 1); err != nil { // crash here
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.HasState() {
		t.Error("it says that it has state, so cluster does not form")
	}
	if err := s.Bootstrap("c", []Server{{ID: "n1", Address: s.Addr(), Voter: true}}); err != nil {
		t.Error(err)
	}
}
