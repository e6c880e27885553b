package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/raftstore"
)

const (
	// applyPatience bounds how long a chunk that was not applied is tried again: as long
	// as an election, or a queue that is full, may last.
	applyPatience = 30 * time.Second
	applyPause    = 100 * time.Millisecond
)

// add puts a key into the chunk, after sending the one that it does not fit into.
func (im *importer) add(key []byte, kv keyValue) error {
	if len(im.ops) == command.MaxOps || len(im.arena)+len(key)+len(kv.value) > cap(im.arena) {
		if err := im.flush(); err != nil {
			return err
		}
	}
	start := len(im.arena)
	im.arena = append(append(im.arena, key...), kv.value...)
	mid, end := start+len(key), len(im.arena)
	op := &im.slab[len(im.ops)]
	op.Reset()
	op.Kind, op.Key, op.Value = command.Op_SET, im.arena[start:mid:mid], im.arena[mid:end:end]
	op.Flags, op.Ttl = kv.flags, kv.ttl
	im.ops = append(im.ops, op)
	return nil
}

// flush applies the chunk, as one entry.
func (im *importer) flush() error {
	if len(im.ops) == 0 {
		return nil
	}
	defer func() { im.ops, im.arena = im.ops[:0], im.arena[:0] }()
	switch im.conflict {
	case skip:
		return im.applyNew(im.ops)
	case failAtIt:
		return im.applyAllNew(im.ops)
	}
	return im.applyKeys(im.ops)
}

// applyKeys writes ops whatever is there.
func (im *importer) applyKeys(ops []*command.Op) error {
	if !im.dry && len(ops) > 0 {
		res, err := im.apply(command.Type_TYPE_TXN, &command.Txn{Then: ops})
		if err != nil {
			return err
		}
		if res.Code != command.Result_OK {
			return refused(&command.Txn{Then: ops}, res)
		}
	}
	im.keys += uint64(len(ops))
	return nil
}

// applyNew writes those of ops that are not there. What somebody else creates between
// the look and the write makes the entry fail, and is found at the next look.
func (im *importer) applyNew(ops []*command.Op) error {
	for {
		absent, err := im.absent(ops)
		if err != nil {
			return err
		}
		im.skipped += uint64(len(ops) - len(absent))
		ops = absent
		conflict, err := im.create(ops)
		if err != nil || conflict < 0 {
			return err
		}
	}
}

// applyAllNew writes ops if none of them is there.
func (im *importer) applyAllNew(ops []*command.Op) error {
	if im.dry {
		absent, err := im.absent(ops)
		if err != nil {
			return err
		}
		for i, op := range ops {
			if i == len(absent) || absent[i] != op {
				return im.exists(op.Key)
			}
		}
	}
	conflict, err := im.create(ops)
	if err != nil {
		return err
	}
	if conflict >= 0 {
		return im.exists(ops[conflict].Key)
	}
	return nil
}

func (im *importer) exists(key []byte) error {
	im.inRecord = false // it was read long ago
	return &failure{status: http.StatusConflict, code: "exists", key: bytes.Clone(key),
		text: fmt.Sprintf("key %q exists already, and on_conflict=fail", clipName(key))}
}

// create writes ops on condition that none is there; conflict is the first that is, or -1.
func (im *importer) create(ops []*command.Op) (conflict int, err error) {
	if len(ops) == 0 {
		return -1, nil
	}
	if im.dry {
		im.keys += uint64(len(ops))
		return -1, nil
	}
	absent := new(uint64) // cas=0: it must not be there
	for _, op := range ops {
		op.Cas = absent
	}
	res, err := im.apply(command.Type_TYPE_TXN, &command.Txn{Then: ops})
	switch {
	case err != nil:
		return 0, err
	case res.Code == command.Result_CAS_CONFLICT && int(res.FailedOp) < len(ops):
		return int(res.FailedOp), nil
	case res.Code != command.Result_OK:
		return 0, refused(&command.Txn{Then: ops}, res)
	}
	im.keys += uint64(len(ops))
	return -1, nil
}

// absent are those of ops whose key is not there; of a key that is given twice the first.
func (im *importer) absent(ops []*command.Op) ([]*command.Op, error) {
	v, err := im.view()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	out := make([]*command.Op, 0, len(ops))
	seen := make(map[string]struct{}, len(ops))
	for _, op := range ops {
		if _, again := seen[string(op.Key)]; again {
			continue
		}
		seen[string(op.Key)] = struct{}{}
		there, err := exists(v, op.Key)
		if err != nil {
			return nil, err
		}
		if !there {
			out = append(out, op)
		}
	}
	return out, nil
}

func exists(v View, key []byte) (bool, error) {
	_, err := v.KV(key)
	if errors.Is(err, persistence.ErrKeyNotFound) {
		return false, nil
	}
	return err == nil, err
}

// view opens the newest version. What is not ready yet is waited for.
func (im *importer) view() (v View, err error) {
	err = im.patiently(func() error {
		ctx, cancel := context.WithTimeout(im.ctx, im.c.s.cfg.ReadTimeout)
		defer cancel()
		v, _, err = im.c.s.node.View(ctx, raftstore.ReadOptions{})
		return err
	})
	return v, err
}

// patiently tries again what is certainly not done, for a while.
func (im *importer) patiently(do func() error) error {
	deadline := time.Now().Add(applyPatience)
	for {
		err := do()
		if err == nil || !raftstore.NotApplied(err) || time.Now().After(deadline) || im.ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(applyPause):
		case <-im.ctx.Done():
			return err
		}
	}
}

// apply proposes one entry. Only what was certainly not applied is proposed again.
func (im *importer) apply(t command.Type, m proto.Message) (res *command.Result, err error) {
	err = im.patiently(func() error {
		// Not im.ctx: a node that is about to stop waits for its requests, and the outcome
		// of this one would be unknown for no reason.
		ctx, cancel := context.WithTimeout(im.c.r.Context(), im.c.s.cfg.WriteTimeout)
		defer cancel()
		res, err = im.c.s.node.Apply(ctx, t, m, "")
		return err
	})
	if err != nil {
		return nil, outcome(err)
	}
	im.index = res.Index
	return res, nil
}
