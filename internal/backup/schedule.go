package backup

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Schedule saves a full backup every so often, on the node whose turn it is, and keeps
// the newest ones.
type Schedule struct {
	Dir *Dir
	// Cluster is the id of the cluster whose backups they are, "" as long as there is none.
	// Those of another one in Dir do not count.
	Cluster func() string
	// Every is how long after the last one in Dir the next is due, by the wall clock.
	Every time.Duration
	Keep  int
	// Mine says whether this node is the one that saves them, now.
	Mine func() bool
	// Save streams a backup of the state as of now.
	Save func(context.Context) Stream
	Log  hclog.Logger
	// Look is how often it is looked at; default: a tenth of Every, 1 s to 1 min.
	Look time.Duration

	pause time.Duration // after the last failure; 0 = it went well
	again time.Time     // when what failed is tried again
}

// maxPause bounds the pause after a failure: what keeps a backup from being saved is
// mostly a full disk, which each try would fill again.
const maxPause = time.Hour

// Run works until ctx ends. A backup that failed is tried again with the next look, then
// after a pause that doubles each time, up to an hour or Every.
func (s *Schedule) Run(ctx context.Context) {
	if s.Every <= 0 {
		return
	}
	tick := time.NewTicker(s.look())
	defer tick.Stop()
	for {
		if s.Mine() {
			s.perhaps(ctx)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Schedule) look() time.Duration {
	if s.Look > 0 {
		return s.Look
	}
	return min(max(s.Every/10, time.Second), time.Minute)
}

func (s *Schedule) perhaps(ctx context.Context) {
	cluster := s.Cluster()
	if cluster == "" || time.Now().Before(s.again) {
		return
	}
	// One from the future (the clock was ahead) must not stop the schedule.
	last, err := s.Dir.LastScheduled(cluster, time.Now())
	if err != nil {
		s.Log.Error("looking for the last scheduled backup", "error", err)
		return
	}
	if !last.IsZero() && time.Since(last) < s.Every {
		return
	}
	begin := time.Now()
	saved, err := s.Dir.SaveScheduled(s.Save(ctx), s.Keep, s.Log)
	switch {
	case err == nil:
		s.pause = 0
		s.Log.Info("scheduled backup saved", "name", saved.Name, "index", saved.Header.Index, "bytes", saved.Footer.Size, "took", time.Since(begin))
	case ctx.Err() == nil:
		s.pause = min(max(2*s.pause, s.look()), s.Every, maxPause)
		s.again = time.Now().Add(s.pause)
		s.Log.Error("a scheduled backup failed; it is tried again", "in", s.pause, "error", err)
	}
}
