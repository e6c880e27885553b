package cluster

import (
	"context"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/raftstore"
)

// leaderStore is a leader that only counts.
type leaderStore struct {
	Store
	applied  uint64
	promoted []string
}

func (s *leaderStore) NodeID() string       { return "leader" }
func (s *leaderStore) AppliedIndex() uint64 { return s.applied }
func (s *leaderStore) Apply(context.Context, command.Type, proto.Message, string) (*command.Result, error) {
	s.applied++
	return &command.Result{Index: s.applied}, nil
}
func (s *leaderStore) Promote(_ context.Context, id string) error {
	s.promoted = append(s.promoted, id)
	return nil
}

func TestAJoinerVotesOnlyWhenItHasCaughtUp(t *testing.T) {
	type round struct{ leader, joiner uint64 } // applied indexes; joiner 0 = no answer
	for _, c := range []struct {
		name   string
		want   bool // it may vote
		rounds []round
		prom   int // in which round it gets its vote, if it does
	}{
		{name: "keeps up", rounds: []round{{10, 11}, {12, 12}, {13, 13}, {14, 14}}, want: true, prom: 4},
		{name: "a little behind under load", rounds: []round{{100, 99}, {5000, 200}, {9000, 8800}, {14000, 13500}}, want: true, prom: 4},
		{name: "installs a snapshot", rounds: []round{{1e6, 3}, {1e6, 3}, {1e6, 3}, {1e6, 3}, {1e6, 3}, {1e6, 3}}, want: true},
		{name: "falls back before it was steady", rounds: []round{{10, 11}, {11, 11}, {9000, 11}, {9000, 11}, {9000, 9000}, {9000, 9000}}, want: true},
		{name: "catches up late", rounds: []round{{9000, 1}, {9000, 5000}, {9000, 9001}, {9000, 9001}, {9000, 9001}}, want: true, prom: 5},
		{name: "stops answering", rounds: []round{{10, 11}, {11, 11}, {11, 11}, {11, 0}, {11, 0}}, want: true},
		{name: "shall not vote", rounds: []round{{10, 11}, {11, 11}, {11, 11}, {11, 11}, {11, 11}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &leaderStore{}
			m := newManager(Config{NodeID: "leader"}, s, nil)
			servers := []raftstore.Server{{ID: "leader", Voter: true}, {ID: "new"}}
			records := map[string]*record.Member{"new": {Id: "new", WantVoter: c.want}}
			p := &promoter{}
			for i, r := range c.rounds {
				s.applied = r.leader
				infos := map[string]nodeInfo{}
				if r.joiner > 0 {
					infos["new"] = nodeInfo{ID: "new", Applied: r.joiner}
				}
				if err := m.promote(t.Context(), p, servers, records, infos); err != nil {
					t.Fatal(err)
				}
				if got, want := len(s.promoted) > 0, c.prom > 0 && i+1 >= c.prom; got != want {
					t.Fatalf("after round %d: promoted %v, want %v", i+1, got, want)
				}
				if len(s.promoted) > 0 {
					break
				}
			}
		})
	}
}
