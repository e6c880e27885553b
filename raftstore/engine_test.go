package raftstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/enginetest"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// calm: the suite takes an unknown outcome for a failure, so no election may come
// because the machine is busy.
func calm(_ int, c *raftstore.Config) {
	c.Heartbeat, c.Election, c.LeaderLease = 2*time.Second, 2*time.Second, 2*time.Second
}

func TestEngineOnTheLeader(t *testing.T) {
	c := raftstoretest.New(t, 3, calm)
	enginetest.Run(t, func(t *testing.T) persistence.Engine {
		t.Helper()
		return emptied(t, c.Leader())
	})
}

func TestEngineThroughAFollower(t *testing.T) {
	c := raftstoretest.New(t, 3, calm)
	enginetest.Run(t, func(t *testing.T) persistence.Engine {
		t.Helper()
		return emptied(t, c.Followers()[0])
	})
}

// emptied is the engine of a cluster without keys and services: the suite asks for a new one
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
	names, err := e.ListServices()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, "web") { // which may have expired
		if err := e.DeleteService(name); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}
