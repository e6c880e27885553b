package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neogan74/konsul/client"
)

// status is what a node says of itself and its cluster.
func (n *testNode) status() (s client.Status) {
	n.t.Helper()
	resp, err := http.Get(n.url + "/cluster/status")
	require.NoError(n.t, err)
	defer resp.Body.Close()
	require.NoError(n.t, json.NewDecoder(resp.Body).Decode(&s))
	return s
}

func (n *testNode) members() (ids []string) {
	n.t.Helper()
	for _, p := range n.status().Peers {
		ids = append(ids, p.ID)
	}
	return ids
}

// A node whose data is moved aside while it is still a member would be one without a vote for ever:
// only its own cluster, with a leader, is asked.
func TestResetAsksTheNodesOwnCluster(t *testing.T) {
	dirs := t.TempDir()
	dir := func(name string) string { return filepath.Join(dirs, name) }
	node := func(name string, args ...string) *testNode {
		t.Helper()
		return start(t, nil, append(args, "--node-id="+name, "--data-dir="+dir(name), "--persistence-backup-dir="+dir(name+"-backups"))...)
	}
	n1 := node("n1")
	n2, n3, n4 := node("n2", "--join="+n1.url), node("n3", "--join="+n1.url), node("n4", "--join="+n1.url)
	other := node("other")
	fresh, started := launch(t, nil, "--port=0", "--raft-bind-addr=127.0.0.1:0", "--bootstrap-expect=0", "--data-dir="+dir("fresh"))
	select {
	case addr := <-started:
		fresh.url = "http://" + addr
	case <-time.After(patience):
		t.Fatal("it does not serve")
	}
	n4.stop()
	n3.stop()
	reset := func(name string, asked *testNode, more ...string) (code int, text string) {
		t.Helper()
		code, stdout, stderr := command(t, nil, append([]string{"cluster", "reset", "--yes", "--data-dir=" + dir(name), "--http-addr=" + asked.url}, more...)...)
		return code, stdout + stderr
	}
	refused := func(name string, asked *testNode, says ...string) {
		t.Helper()
		code, text := reset(name, asked)
		require.Equal(t, 1, code, text)
		for _, want := range says {
			require.Contains(t, text, want)
		}
		aside, err := filepath.Glob(filepath.Join(dir(name), "damaged-*"))
		require.NoError(t, err)
		for _, path := range aside {
			require.Equal(t, ".moving", filepath.Ext(path))
		}
	}
	refused("n3", fresh, "is in no cluster", "name other nodes")
	refused("n3", other, "is of cluster "+n1.status().ClusterID, "name other nodes")
	// A reset that was interrupted when it had moved the names.
	moving := filepath.Join(dir("n3"), "damaged-20260102-030405.moving")
	require.NoError(t, os.Mkdir(moving, 0o700))
	for _, name := range []string{"node-id", "cluster.json"} {
		require.NoError(t, os.Rename(filepath.Join(dir("n3"), name), filepath.Join(moving, name)))
	}
	refused("n3", other, "is of cluster "+n1.status().ClusterID)
	require.ElementsMatch(t, []string{"n1", "n2", "n3", "n4"}, n1.members())

	code, stdout, stderr := command(t, nil, "cluster", "reset", "--yes", "--json", "--data-dir="+dir("n3"), "--http-addr="+n2.url+",")
	require.Zero(t, code, stderr)
	require.JSONEq(t, `{"node_id":"n3","moved_to":"`+strings.TrimSuffix(moving, ".moving")+`"}`, stdout)
	require.Empty(t, stderr)
	require.ElementsMatch(t, []string{"n1", "n2", "n4"}, n1.members())
	code, text := reset("n3", fresh)
	require.Zero(t, code, text)
	require.Contains(t, text, "Nothing to do")

	// And one that was interrupted when the node had left.
	code, _, stderr = command(t, nil, "cluster", "leave", "n4", "--http-addr="+n1.url)
	require.Zero(t, code, stderr)
	code, text = reset("n4", n1)
	require.Zero(t, code, text)

	n2.stop()
	require.Eventually(t, func() bool { return n1.status().LeaderID == "" }, patience, 10*time.Millisecond)
	code, text = reset("n2", n1, "--timeout=2s")
	require.Equal(t, 1, code, text)
	require.Contains(t, text, "nothing was changed here")
	require.FileExists(t, filepath.Join(dir("n2"), "node-id"))
	for _, n := range []*testNode{n1, other, fresh} {
		n.cancel()
		require.Zero(t, n.wait())
	}
}

func TestRecoverSaysWhatItDidInJSON(t *testing.T) {
	dir := t.TempDir()
	n := start(t, nil, "--node-id=n1", "--data-dir="+dir)
	cluster := n.status().ClusterID
	n.stop()
	peers := filepath.Join(t.TempDir(), "peers.json")
	require.NoError(t, os.WriteFile(peers, []byte(`[{"id":"n1","address":"127.0.0.1:7000"}]`), 0o600))
	code, stdout, stderr := command(t, nil, "cluster", "recover", "--yes", "--json", "--data-dir="+dir, "--peers="+peers)
	require.Zero(t, code, stderr)
	var said struct {
		NodeID    string `json:"node_id"`
		ClusterID string `json:"cluster_id"`
		Index     uint64
		KeptIn    string `json:"kept_in"`
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &said), stdout)
	require.Equal(t, "n1", said.NodeID)
	require.Equal(t, cluster, said.ClusterID)
	require.NotZero(t, said.Index)
	require.DirExists(t, said.KeptIn)
}
