//go:build cluster

package cluster

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/internal/snapshot"
	"github.com/neogan74/konsul/test/harness"
)

// backupModel is all that 64 writers were told: each write with its index.
type backupModel struct {
	mu      sync.Mutex
	writes  []modelWrite
	doubts  []string // keys, and prefixes, about which a writer does not know
	refused int
	newest  uint64
	wrong   []string
}

// modelWrite is one acknowledged write: what it did, in this order, at one index.
type modelWrite struct {
	index uint64
	ops   []modelOp
}

// modelOp is one operation as POST /txn takes it.
type modelOp struct {
	Op    string            `json:"op"`
	Key   string            `json:"key"`
	Value string            `json:"value,omitempty"`
	Flags uint64            `json:"flags,omitempty"`
	bytes []byte            // instead of Value, if it is no text
	sum   [sha256.Size]byte // of the value, which is forgotten when the write is booked
}

// modelEntry is a key as it must be. Of values there is the checksum.
type modelEntry struct {
	Sum            [sha256.Size]byte
	Create, Modify uint64
	Flags          uint64
}

// at is the state at an index: exactly the writes at or below it.
func (m *backupModel) at(index uint64) map[string]modelEntry {
	state := map[string]modelEntry{}
	for _, w := range m.writes {
		if w.index > index {
			break
		}
		for _, op := range w.ops {
			op.apply(state, w.index)
		}
	}
	maps.DeleteFunc(state, func(key string, _ modelEntry) bool { return m.doubtful(key) })
	return state
}

func (op modelOp) apply(state map[string]modelEntry, index uint64) {
	switch op.Op {
	case "set":
		e, was := state[op.Key]
		if !was {
			e.Create = index
		}
		e.Sum, e.Modify, e.Flags = op.sum, index, op.Flags
		state[op.Key] = e
	case "delete":
		delete(state, op.Key)
	case "delete_prefix":
		maps.DeleteFunc(state, func(key string, _ modelEntry) bool { return strings.HasPrefix(key, op.Key) })
	}
}

// forget keeps the checksum of the value only.
func (op modelOp) forget() modelOp {
	if op.bytes == nil {
		op.bytes = []byte(op.Value)
	}
	return modelOp{Op: op.Op, Key: op.Key, Flags: op.Flags, sum: sha256.Sum256(op.bytes)}
}

func (m *backupModel) doubtful(key string) bool {
	return slices.ContainsFunc(m.doubts, func(p string) bool { return strings.HasPrefix(key, p) })
}

// book notes what came of a write: ops if it succeeded, all that it might have touched if
// nobody knows.
func (m *backupModel) book(a *harness.Answer, err error, ops []modelOp, touched ...modelOp) {
	if err == nil && a.Status != http.StatusOK {
		err = a.Err()
	}
	did := make([]modelOp, len(ops))
	for i, op := range ops {
		did[i] = op.forget()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch harness.OutcomeOf(err) {
	case harness.Done:
		m.writes = append(m.writes, modelWrite{a.Index(), did})
		m.newest = max(m.newest, a.Index())
	case harness.NotDone:
		m.refused++
		if e := (*harness.APIError)(nil); errors.As(err, &e) && e.Status < 429 {
			m.wrong = append(m.wrong, err.Error())
		}
	default:
		for _, op := range append(ops, touched...) {
			m.doubts = append(m.doubts, op.Key)
		}
	}
}

// write does one write of a kind chosen at random; own are keys that only this writer
// has, the others are everybody's.
func (m *backupModel) write(ctx context.Context, n *harness.Node, own string, large int) {
	key := func() string { return fmt.Sprintf("model/all/%04d/", rand.IntN(pick(300, 3000))) }
	set := func(key string) modelOp {
		size := 256
		if large > 0 && rand.IntN(16) == 0 {
			size = large
		}
		return modelOp{Op: "set", Key: key, Value: harness.Text(size), Flags: uint64(rand.Uint32())}
	}
	mine := fmt.Sprintf("%s%d/", own, rand.IntN(8))
	switch rand.IntN(10) {
	case 0, 1, 2:
		op := set(key())
		a, err := n.SendJSON(ctx, http.MethodPut, harness.KeyPath(op.Key), map[string]any{"value": op.Value, "flags": op.Flags})
		m.book(a, err, []modelOp{op})
	case 3: // bytes that are no text
		op := modelOp{Op: "set", Key: mine, Flags: 7, bytes: make([]byte, 100+rand.IntN(100))}
		for i := range op.bytes {
			op.bytes[i] = byte(rand.Uint32())
		}
		a, err := n.Do(ctx, http.MethodPut, harness.KeyPath(op.Key)+"?flags=7", op.bytes, "Content-Type", "application/octet-stream")
		m.book(a, err, []modelOp{op})
	case 4, 5:
		op := modelOp{Op: "delete", Key: key()}
		a, err := n.Do(ctx, http.MethodDelete, harness.KeyPath(op.Key), nil)
		m.book(a, err, []modelOp{op})
	case 6:
		items, ops := map[string]string{}, []modelOp{}
		for range 1 + rand.IntN(10) {
			op := set(key())
			op.Flags = 0
			if _, twice := items[op.Key]; !twice {
				items[op.Key] = op.Value
				ops = append(ops, op)
			}
		}
		a, err := n.Post(ctx, "/batch/set", map[string]any{"items": items})
		m.book(a, err, ops)
	case 7:
		ops := []modelOp{{Op: "delete", Key: key()}, {Op: "delete", Key: mine}}
		a, err := n.Post(ctx, "/batch/delete", map[string]any{"keys": []string{ops[0].Key, ops[1].Key}})
		m.book(a, err, ops)
	default:
		m.txn(ctx, n, key(), []modelOp{set(key()), {Op: "delete", Key: mine}, set(mine), set(mine)},
			[]modelOp{{Op: "delete_prefix", Key: own}, set(key())})
	}
}

// txn does then if the key is there, and takes it away; else what else says, and sets it.
func (m *backupModel) txn(ctx context.Context, n *harness.Node, key string, then, other []modelOp) {
	then = append(then, modelOp{Op: "delete", Key: key})
	other = append(other, modelOp{Op: "set", Key: key, Value: "by a transaction", Flags: 1})
	a, err := n.Post(ctx, "/txn", map[string]any{
		"compare": []map[string]any{{"key": key, "target": "exists", "op": "=", "value": true}}, "then": then, "else": other,
	})
	if err != nil || a.Status != http.StatusOK {
		m.book(a, err, then, other...)
		return
	}
	var out struct{ Succeeded bool }
	if err = a.JSON(&out); err == nil && !out.Succeeded {
		then = other
	}
	m.book(a, err, then)
}

// modelBackup is a backup taken meanwhile.
type modelBackup struct {
	file         string
	index, since uint64
	base         *modelBackup // of an increment
	newest       uint64       // acknowledged before it was asked for
}

// chain is what to restore, the full one first.
func (b *modelBackup) chain() []string {
	if b.base == nil {
		return []string{b.file}
	}
	return append(b.base.chain(), b.file)
}

// Backups from all three nodes, full and as increments on those of any other, while 64
// writers put, delete, and send batches and transactions. Each is, restored into another
// cluster, exactly what was acknowledged at or below its index.
func TestBackupsUnderLoadAreTheStateAtTheirIndex(t *testing.T) {
	c, m := three(t), &backupModel{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writers sync.WaitGroup
	for w := range 64 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				one, done := context.WithTimeout(context.Background(), 15*time.Second)
				m.write(one, c.Nodes[(w+i)%3], fmt.Sprintf("model/own/%02d/", w), pick(0, 64<<10))
				done()
			}
		})
	}
	harness.Hold(ctx, pick(500*time.Millisecond, 5*time.Second))
	backups := takeBackups(t, c, m)
	cancel()
	writers.Wait()
	m.mu.Lock() // nobody writes any more
	defer m.mu.Unlock()
	slices.SortFunc(m.writes, func(a, b modelWrite) int { return cmp.Compare(a.index, b.index) })
	m.sane(t)
	other := harness.Start(t, harness.Options{Nodes: pick(1, 3)})
	for _, b := range backups {
		m.check(t, other, b)
	}
	t.Logf("%d backups of %d writes, of which %d by the first of them; %d refused, %d keys in doubt",
		len(backups), len(m.writes), len(m.writes)-m.after(backups[0].index), m.refused, len(m.doubts))
	if m.after(backups[0].index) < 500 {
		t.Error("there was little to get wrong")
	}
}

// sane: what the writers were told must make sense by itself.
func (m *backupModel) sane(t *testing.T) {
	t.Helper()
	for i, w := range m.writes {
		if w.index == 0 || i > 0 && w.index == m.writes[i-1].index {
			t.Fatalf("two writes were acknowledged at index %d", w.index)
		}
	}
	if len(m.wrong) > 0 {
		t.Errorf("%d answers that no client may see, such as %s", len(m.wrong), m.wrong[0])
	}
}

// after counts the writes after an index.
func (m *backupModel) after(index uint64) (n int) {
	for _, w := range m.writes {
		if w.index > index {
			n++
		}
	}
	return n
}

// takeBackups has every node make some, one after the other, and returns them by index.
func takeBackups(t *testing.T, c *harness.Cluster, m *backupModel) []*modelBackup {
	t.Helper()
	dir := t.TempDir()
	var all []*modelBackup
	var mu sync.Mutex
	var nodes sync.WaitGroup
	for i, n := range c.Nodes {
		nodes.Go(func() {
			for j := range pick(4, 10) {
				harness.Hold(t.Context(), pick(150*time.Millisecond, 2*time.Second))
				b := &modelBackup{file: filepath.Join(dir, fmt.Sprintf("%d-%d.snap", i, j))}
				m.mu.Lock()
				b.newest = m.newest
				m.mu.Unlock()
				mu.Lock()
				if j%3 != 0 { // of whichever node, and an increment of increments as well
					b.base = all[max(len(all)-5, 0):][rand.IntN(min(len(all), 5))]
					b.since = b.base.index
				}
				mu.Unlock()
				err := b.take(n, j%2 == 0)
				if e := (*harness.APIError)(nil); errors.As(err, &e) && e.Code == "compacted" && !testing.Short() {
					// So much was written that the history does not reach back to it: a full one, then.
					t.Logf("%s: %v", n.Name, err)
					b.base, b.since = nil, 0
					err = b.take(n, j%2 == 0)
				}
				if err != nil {
					t.Errorf("%s: a backup since %d: %v", n.Name, b.since, err)
					return
				}
				mu.Lock()
				all = append(all, b)
				mu.Unlock()
			}
		})
	}
	nodes.Wait()
	if t.Failed() {
		t.FailNow()
	}
	slices.SortFunc(all, func(a, b *modelBackup) int { return cmp.Compare(a.index, b.index) })
	return all
}

// take makes the backup, in the node's backup directory or as a stream.
func (b *modelBackup) take(n *harness.Node, stream bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if stream {
		a, err := n.Get(ctx, fmt.Sprintf("/snapshot?since=%d", b.since))
		if err == nil {
			err = a.Want(http.StatusOK)
		}
		if err != nil {
			return err
		}
		b.index = a.Index()
		return os.WriteFile(b.file, a.Body, 0o600)
	}
	name := filepath.Base(b.file)
	a, err := n.Post(ctx, "/backup", map[string]any{"path": name, "since": b.since})
	if err == nil {
		err = a.Want(http.StatusOK)
	}
	var out struct {
		Index uint64 `json:"index"`
		Size  int64  `json:"size_bytes"`
	}
	if err == nil {
		err = a.JSON(&out)
	}
	if err != nil {
		return err
	}
	b.index = out.Index
	body, err := os.ReadFile(filepath.Join(n.Dir, "backups", name))
	if err == nil && int64(len(body)) != out.Size {
		err = fmt.Errorf("%d bytes, and it said %d", len(body), out.Size)
	}
	return errors.Join(err, os.WriteFile(b.file, body, 0o600))
}

// check looks at the file, restores it into the other cluster and compares.
func (m *backupModel) check(t *testing.T, other *harness.Cluster, b *modelBackup) {
	t.Helper()
	if b.index < b.newest {
		t.Errorf("%s is of index %d, and %d had been acknowledged before it was asked for", filepath.Base(b.file), b.index, b.newest)
	}
	if err := b.within(); err != nil {
		t.Errorf("%s: %v", filepath.Base(b.file), err)
	}
	n := other.Nodes[rand.IntN(len(other.Nodes))]
	var names []string
	for _, file := range b.chain() {
		names = append(names, filepath.Base(file))
		if err := copyFile(file, filepath.Join(n.Dir, "backups", filepath.Base(file))); err != nil {
			t.Fatal(err)
		}
	}
	a, err := n.Post(harness.Context(t, time.Minute), "/restore", map[string]any{"path": names})
	if err == nil {
		err = a.Want(http.StatusOK)
	}
	if err != nil {
		t.Fatalf("restoring %v: %v", names, err)
	}
	for _, n := range other.Nodes {
		list, err := n.List(soon(t), "model/", "")
		if err != nil {
			t.Fatal(err)
		}
		want := m.at(b.index)
		if len(want) < 100 {
			t.Errorf("only %d keys to compare, %d are in doubt: the cluster was not well", len(want), len(m.doubts))
		}
		if bad := m.differences(want, list); len(bad) > 0 {
			t.Errorf("%v, the state at %d, on %s: %d of %d keys differ:\n%s", names, b.index, n.Name, len(bad), len(list), strings.Join(bad[:min(len(bad), 5)], "\n"))
		}
	}
}

// within: every record is of an index that the backup is about.
func (b *modelBackup) within() error {
	f, err := os.Open(b.file)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := snapshot.NewReader(f)
	if err != nil {
		return err
	}
	if h := r.Header(); h.Index != b.index || h.Since != b.since {
		return fmt.Errorf("its header says %d since %d, the answer said %d since %d", h.Index, h.Since, b.index, b.since)
	}
	for {
		rec, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case rec.Version > b.index || rec.Version <= b.since:
			return fmt.Errorf("%q of index %d is in a backup of %d since %d", rec.Key, rec.Version, b.index, b.since)
		}
	}
}

// differences compares what a cluster has with what it must have.
func (m *backupModel) differences(want map[string]modelEntry, list []harness.Entry) (bad []string) {
	for _, e := range list {
		if m.doubtful(e.Key) {
			continue
		}
		w, ok := want[e.Key]
		delete(want, e.Key)
		got := modelEntry{sha256.Sum256(e.Bytes()), e.CreateIndex, e.ModifyIndex, e.Flags}
		switch {
		case !ok:
			bad = append(bad, fmt.Sprintf("%s is there, made at %d, changed at %d", e.Key, e.CreateIndex, e.ModifyIndex))
		case got != w:
			bad = append(bad, fmt.Sprintf("%s was made at %d, changed at %d, flags %d; should be %d, %d, %d; value equal: %v",
				e.Key, got.Create, got.Modify, got.Flags, w.Create, w.Modify, w.Flags, got.Sum == w.Sum))
		}
	}
	for key, w := range want {
		bad = append(bad, fmt.Sprintf("%s is not there, made at %d, changed at %d", key, w.Create, w.Modify))
	}
	return bad
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

// The judge finds a write too much, one too few, and another index or flags.
func TestTheModelOfBackupsJudges(t *testing.T) {
	set := func(key, value string) modelOp { return modelOp{Op: "set", Key: key, Value: value}.forget() }
	m := &backupModel{writes: []modelWrite{
		{5, []modelOp{set("a", "1"), set("p/x", "1")}}, {7, []modelOp{set("a", "2"), {Op: "delete_prefix", Key: "p/"}}},
		{8, []modelOp{{Op: "delete", Key: "a"}, set("a", "3")}}, {9, []modelOp{set("doubt", "1")}},
	}, doubts: []string{"doubt"}}
	right := map[uint64]string{
		4: `[]`, 5: `[{"key":"a","value":"1","create_index":5,"modify_index":5},{"key":"p/x","value":"1","create_index":5,"modify_index":5}]`,
		7: `[{"key":"a","value":"2","create_index":5,"modify_index":7}]`, 9: `[{"key":"a","value":"3","create_index":8,"modify_index":8},{"key":"doubt"}]`,
	}
	for index, text := range right {
		for other, text2 := range right {
			var list []harness.Entry
			if err := json.Unmarshal([]byte(text2), &list); err != nil {
				t.Fatal(err)
			}
			if bad := m.differences(m.at(index), list); (len(bad) == 0) != (index == other) {
				t.Errorf("the state at %d, %s, compared with %s: %v", index, text, text2, bad)
			}
		}
	}
	if bad := m.differences(m.at(7), []harness.Entry{{Key: "a", Value: "2", CreateIndex: 5, ModifyIndex: 7, Flags: 1}}); len(bad) != 1 {
		t.Errorf("flags: %v", bad)
	}
}
