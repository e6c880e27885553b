package raftstore

import (
	"bytes"
	"errors"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/encryption"
)

// TestSealedEntries: an entry comes back as it was, and only in its own place.
func TestSealedEntries(t *testing.T) {
	keys, _, err := encryption.OpenDirectory(t.TempDir(), nil, true)
	if err != nil || keys != nil || newEntrySealer(keys) != nil {
		t.Fatal("a sealer without a key", err)
	}
	s := newEntrySealer(new(encryption.Directory)) // any key will do
	logs := []*raft.Log{
		{Index: 7, Term: 2, Type: raft.LogCommand, Data: []byte("command"), Extensions: []byte{1, 2}},
		{Index: 8, Term: 2, Type: raft.LogNoop},
	}
	sealed := s.seal(logs)
	if string(logs[0].Data) != "command" || bytes.Contains(sealed[0].Data, []byte("command")) || len(sealed[1].Data) != 0 {
		t.Fatalf("%q sealed to %q", logs[0].Data, sealed[0].Data)
	}
	for i, l := range sealed {
		l := *l
		if err := s.open(&l); err != nil || !bytes.Equal(l.Data, logs[i].Data) || !bytes.Equal(l.Extensions, logs[i].Extensions) {
			t.Errorf("entry %d: %q, %v", l.Index, l.Data, err)
		}
	}
	for name, change := range map[string]func(*raft.Log){
		"index": func(l *raft.Log) { l.Index++ }, "term": func(l *raft.Log) { l.Term++ },
		"type": func(l *raft.Log) { l.Type = raft.LogConfiguration }, "stamp": func(l *raft.Log) { l.Extensions = []byte{1, 3} },
		"data": func(l *raft.Log) { l.Data = append(bytes.Clone(l.Data), 0) }, "cut": func(l *raft.Log) { l.Data = l.Data[:5] },
	} {
		l := *sealed[0]
		change(&l)
		if err := s.open(&l); !errors.Is(err, ErrDamaged) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	var none *entrySealer
	if got := none.seal(logs); got[0] != logs[0] || none.open(logs[0]) != nil {
		t.Error("without encryption entries are not left alone")
	}
}
