//go:build cluster

package cluster

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// Data directories that earlier versions wrote are in test/testdata, each with what a
// node must find in it. KONSUL_WRITE_TESTDATA=NAME makes one of the version at hand.
const testdata = "../testdata"

// expected is what stands beside a data directory.
type expected struct {
	Index   uint64            `json:"index"`
	Digest  string            `json:"digest"`
	Records uint64            `json:"records"`
	Entries map[string]string `json:"entries"` // key -> what GET /kv/key answers
	Answers map[string]string `json:"answers"` // path -> what it answers
}

// reads are compared as they are answered.
var reads = []string{"/services", "/services?detail=true&tag=blue", "/kv?prefix=dir/&limit=100"}

func TestDataOfEarlierVersions(t *testing.T) {
	if name := os.Getenv("KONSUL_WRITE_TESTDATA"); name != "" {
		writeTestdata(t, filepath.Join(testdata, name))
	}
	archives, err := filepath.Glob(filepath.Join(testdata, "data-*.tar.gz"))
	if err != nil || len(archives) == 0 {
		t.Fatal("no data directories of earlier versions", err)
	}
	for _, path := range archives {
		t.Run(filepath.Base(path), func(t *testing.T) { readTestdata(t, path) })
	}
}

func readTestdata(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(strings.TrimSuffix(path, ".tar.gz") + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var want expected
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	c := harness.New(t, harness.Options{Nodes: 1})
	n := c.Nodes[0]
	if err := unpack(path, n.DataDir); err != nil {
		t.Fatal(err)
	}
	for range 2 { // once as it is, once as this version left it
		n.Start()
		n.WaitReady(60 * time.Second)
		d, err := n.Digest(soon(t), want.Index)
		if err != nil {
			t.Fatal(err)
		}
		if d.Digest != want.Digest || d.Records != want.Records {
			t.Errorf("the state at %d is another: %d records, %s; it was %d, %s", want.Index, d.Records, d.Digest, want.Records, want.Digest)
		}
		got := look(t, n, want.Entries)
		for key, answer := range want.Entries {
			if got.Entries[key] != answer {
				t.Errorf("%q is %s, it was %s", key, got.Entries[key], answer)
			}
		}
		for path, answer := range want.Answers {
			if withoutTime(got.Answers[path]) != withoutTime(answer) {
				t.Errorf("%s answers %s, it was %s", path, got.Answers[path], answer)
			}
		}
		mustPut(t, n, "written by a later version", "v")
		snapshotNow(t, n)
		n.Stop()
	}
	n.Start()
	n.WaitReady(60 * time.Second)
}

// withoutTime takes out of an answer what counts down.
func withoutTime(answer string) string {
	var v any
	if json.Unmarshal([]byte(answer), &v) != nil {
		return answer
	}
	drop(v)
	b, _ := json.Marshal(v) // it came from JSON
	return string(b)
}

func drop(v any) {
	switch x := v.(type) {
	case map[string]any:
		delete(x, "expires_in")
		for _, inner := range x {
			drop(inner)
		}
	case []any:
		for _, inner := range x {
			drop(inner)
		}
	}
}

// look asks for everything that is compared.
func look(t *testing.T, n *harness.Node, keys map[string]string) expected {
	t.Helper()
	out := expected{Entries: map[string]string{}, Answers: map[string]string{}}
	get := func(path string) string {
		a, err := n.Get(soon(t), path)
		if err != nil {
			t.Fatal(err)
		}
		return withoutTime(string(a.Body))
	}
	for key := range keys {
		out.Entries[key] = get(harness.KeyPath(key))
	}
	for _, path := range reads {
		out.Answers[path] = get(path)
	}
	return out
}

// writeTestdata fills a node with some of everything and packs its data directory.
func writeTestdata(t *testing.T, to string) {
	t.Helper()
	c := harness.New(t, harness.Options{Nodes: 1})
	n := c.Nodes[0]
	for k, v := range settings("BADGER_MEMTABLE_SIZE", "8MB", "KONSUL_RAFT_NODE_ID", "n1", "KONSUL_RAFT_TRAILING_LOGS", "20") {
		n.SetEnv(k, v)
	}
	n.Start()
	n.WaitReady(60 * time.Second)
	keys := fillWithSome(t, n, func(map[string]string) { snapshotNow(t, n) })
	want := look(t, n, keys)
	d, err := n.Digest(soon(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	want.Index, want.Digest, want.Records = d.Index, d.Digest, d.Records
	n.Stop()
	b, err := json.MarshalIndent(want, "", " ")
	if err == nil {
		err = os.MkdirAll(testdata, 0o750)
	}
	if err == nil {
		err = os.WriteFile(to+".json", append(b, '\n'), 0o600)
	}
	if err == nil {
		err = pack(n.DataDir, to+".tar.gz")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// fillWithSome writes some of everything and returns the keys; between is called with
// those written so far when a part of it is there.
func fillWithSome(t *testing.T, n *harness.Node, between func(keys map[string]string)) map[string]string {
	t.Helper()
	do := func(method, path string, body any, header ...string) *harness.Answer {
		t.Helper()
		var raw []byte
		switch b := body.(type) {
		case nil:
		case []byte:
			raw = b
		default:
			var err error
			if raw, err = json.Marshal(b); err != nil {
				t.Fatal(err)
			}
			header = append(header, "Content-Type", "application/json")
		}
		a, err := n.Do(soon(t), method, path, raw, header...)
		if err == nil && a.Status/100 != 2 {
			err = a.Err()
		}
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		return a
	}
	keys := map[string]string{}
	put := func(key string, body any, header ...string) {
		keys[key] = ""
		do("PUT", harness.KeyPath(key), body, header...)
	}
	for i := range 60 {
		put(fmt.Sprintf("dir/%02d", i), map[string]any{"value": fmt.Sprint("value ", i), "flags": i})
	}
	put("binary", []byte{0, 255, 1, 254}, "Content-Type", "application/octet-stream")
	put("over and over", map[string]any{"value": "first"})
	put("over and over", map[string]any{"value": "second"})
	put("a ttl", map[string]any{"value": "for a long time", "ttl": "87600h"})
	put("once", map[string]any{"value": "only"}, "Idempotency-Key", "the same")
	put("gone", map[string]any{"value": "soon"})
	do("DELETE", harness.KeyPath("gone"), nil)
	do("POST", "/batch/set", map[string]any{"items": map[string]string{"batch/a": "1", "batch/b": "2"}})
	between(keys)
	// And behind the snapshot, in the log alone, or in an increment.
	do("PUT", "/services/web", map[string]any{"id": "web-1", "address": "10.0.0.1", "port": 80, "tags": []string{"blue"}, "meta": map[string]string{"zone": "a"}, "ttl": "24h"})
	do("PUT", "/services/web", map[string]any{"id": "web-2", "address": "10.0.0.2", "port": 80})
	do("PUT", "/services/old", map[string]any{"address": "10.0.0.3", "port": 1})
	do("DELETE", "/services/old", nil)
	session, err := n.CreateSession(soon(t), 23*time.Hour, 0)
	if err != nil {
		t.Fatal(err)
	}
	keys["locked"] = ""
	if _, err := n.Acquire(soon(t), "locked", session, []byte("by a session")); err != nil {
		t.Fatal(err)
	}
	put("last", map[string]any{"value": "of all"})
	return keys
}

func pack(dir, to string) (err error) {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(z)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		return err
	}
	return errors.Join(w.Close(), z.Close(), f.Close())
}

func unpack(from, dir string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.Clean("/"+h.Name))
		if h.FileInfo().IsDir() {
			if err := os.MkdirAll(path, 0o700); err != nil {
				return err
			}
			continue
		}
		b, err := io.ReadAll(r)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o700)
		}
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			return err
		}
	}
}
