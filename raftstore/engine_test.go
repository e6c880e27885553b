package raftstore_test

import (
	"errors"
	"testing"

	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/enginetest"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

func TestEngineOnTheLeader(t *testing.T) {
	c := raftstoretest.New(t, 3)
	enginetest.Run(t, func(t *testing.T) persistence.Engine { return emptied(t, c.Leader()) })
}

func TestEngineThroughAFollower(t *testing.T) {
	c := raftstoretest.New(t, 3)
	enginetest.Run(t, func(t *testing.T) persistence.Engine { return emptied(t, c.Followers()[0]) })
}

// emptied is the engine of a cluster without keys: the suite asks for a new one
// for each test, and a new cluster each time would take long.
func emptied(t *testing.T, n *raftstoretest.Node) persistence.Engine {
	t.Helper()
	e := n.Store.Engine()
	raftstoretest.Eventually(t, func() error {
		keys, err := e.List("")
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := e.BatchDelete(keys[:min(len(keys), persistence.MaxOps)]); err != nil {
			return err
		}
		return errors.New("there are still keys")
	})
	t.Cleanup(func() { _ = e.Close() })
	return e
}
