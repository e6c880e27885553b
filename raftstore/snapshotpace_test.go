package raftstore

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/snapshot"
)

// A snapshot from which the log goes on stays, however old; one that the log has left
// behind goes, and the newest never does.
func TestSnapshotsTheLogLeftBehindGo(t *testing.T) {
	for _, c := range []struct {
		first uint64
		want  string
	}{{1, "[30 20 10]"}, {11, "[30 20 10]"}, {12, "[30 20]"}, {21, "[30 20]"}, {22, "[30]"}, {1000, "[30]"}} {
		cfg := Config{DataDir: t.TempDir(), SnapshotRetention: 3}
		s, err := openSnapshots(cfg, nil, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		_, trans := raft.NewInmemTransport("here")
		for _, index := range []uint64{10, 20, 30} {
			sink, err := s.Create(1, index, 1, raft.Configuration{}, 1, trans)
			if err != nil {
				t.Fatal(err)
			}
			w, err := snapshot.NewWriter(sink, snapshot.Header{ClusterID: "test", Index: index})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if err := sink.Close(); err != nil {
				t.Fatal(err)
			}
		}
		s.reap(c.first)
		list, err := s.List()
		if err != nil {
			t.Fatal(err)
		}
		var left []uint64
		for _, meta := range list {
			left = append(left, meta.Index)
		}
		entries, err := os.ReadDir(filepath.Join(cfg.DataDir, snapshotDir))
		if err != nil || fmt.Sprint(left) != c.want || len(entries) != len(left) {
			t.Errorf("the log begins at %d: %v are left in %d directories, want %s", c.first, left, len(entries), c.want)
		}
	}
}

func TestPaceKnowsHowFarBytesGoBack(t *testing.T) {
	var p pace
	if _, known := p.within(1 << 30); known {
		t.Error("it knows something about nothing")
	}
	index := uint64(0)
	for range 2 * maxPaceMarks {
		p.note(logs(index+1, index+10, markBytes/10+1))
		index += 10
	}
	if n, known := p.within(100 << 20); !known || n < 980 || n > 1000 {
		t.Errorf("%d entries of 100 KiB in 100 MiB", n)
	}
	if n, known := p.within(1); !known || n != 0 {
		t.Errorf("%d entries in a byte", n)
	}
	if _, known := p.within(1 << 50); known {
		t.Error("more is known than was remembered")
	}
	if len(p.marks) > maxPaceMarks {
		t.Errorf("%d marks", len(p.marks))
	}
}
