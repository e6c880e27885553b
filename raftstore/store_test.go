package raftstore_test

import (
	"fmt"
	"testing"

	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

func TestWritesAndReadsOnEveryNode(t *testing.T) {
	c := raftstoretest.New(t, 3)
	for i := range 30 {
		key := fmt.Sprintf("k%d", i)
		c.Nodes[i%3].MustPut(key, "v")
		for _, n := range c.Nodes {
			if got := n.MustGet(key); got != "v" {
				t.Fatalf("%s on %s: %q", key, n.ID, got)
			}
		}
	}
	c.CheckEqual()
}

func TestSingleNodeComesBack(t *testing.T) {
	c := raftstoretest.New(t, 1)
	n := c.Nodes[0]
	index := n.MustPut("a", "1")
	n.Stop()
	n.Start()
	if got := n.MustGet("a"); got != "1" {
		t.Fatalf("got %q", got)
	}
	if got := n.MustPut("a", "2"); got <= index {
		t.Fatalf("index went from %d to %d", index, got)
	}
}

func TestInMemory(t *testing.T) {
	cfg := raftstoretest.Config(t, "mem")
	cfg.InMemory, cfg.DataDir = true, ""
	n := raftstoretest.Start(t, cfg)
	if err := n.Store.Bootstrap("c", []raftstore.Server{{ID: "mem", Address: n.Store.Addr(), Voter: true}}); err != nil {
		t.Fatal(err)
	}
	n.MustPut("a", "1")
	if got := n.MustGet("a"); got != "1" {
		t.Fatalf("got %q", got)
	}
}
