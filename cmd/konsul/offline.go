package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
	"github.com/neogan74/konsul/internal/cli"
	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/raftstore"
)

// The commands that work on the data directory of a node that does not run. They are here and not in
// internal/cli, which knows nothing but the HTTP API.

// offlineCommands adds them to `konsul cluster`.
func offlineCommands(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.Name() == "cluster" {
			cmd.AddCommand(recoverCommand(), resetCommand())
		}
	}
}

// offline are the flags that these commands share.
type offline struct {
	dataDir, keyFile string
	yes              bool
}

func (o *offline) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.dataDir, "data-dir", "", "the node's data directory (needed)")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "do not ask")
	cmd.SilenceUsage = true
}

// wantsJSON: the flag is one of all commands of `konsul cluster`.
func wantsJSON(cmd *cobra.Command) bool {
	asked, err := cmd.Flags().GetBool("json")
	return err == nil && asked
}

// people is where what is said goes that is not the result. With --json the result alone is on standard
// output, and errors alone on standard error, unless there is a question.
func (o *offline) people(cmd *cobra.Command) io.Writer {
	switch {
	case !wantsJSON(cmd):
		return cmd.OutOrStdout()
	case o.yes:
		return io.Discard
	}
	return cmd.ErrOrStderr()
}

// agreed asks on the terminal whether to go on.
func (o *offline) agreed(cmd *cobra.Command) error {
	if o.yes {
		return nil
	}
	stdin, isFile := cmd.InOrStdin().(*os.File)
	if !isFile || !cli.IsTerminal(stdin) {
		return errors.New("nobody is there to ask: repeat the command with --yes if this is right")
	}
	fmt.Fprint(o.people(cmd), "Go on? Type yes: ")
	answer, err := bufio.NewReader(stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(answer) != "yes" {
		return errors.New("nothing was changed: the answer was not yes; --yes does not ask")
	}
	return nil
}

// peerEntry is one line of a peers file.
type peerEntry struct {
	ID         string `json:"id"`
	Address    string `json:"address"`
	APIAddress string `json:"api_address"` // known to the cluster's own records; here for people
	Voter      *bool  `json:"voter"`
	NonVoter   bool   `json:"non_voter"`
}

func readPeers(path string) ([]raftstore.Server, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the peers file: %w", err)
	}
	var entries []peerEntry
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&entries); err != nil {
		return nil, fmt.Errorf("%s: %w: it must be a list like [{\"id\":\"n1\",\"address\":\"10.0.0.1:7000\"}]", path, err)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%s names no node", path)
	}
	var servers []raftstore.Server
	for _, e := range entries {
		voter := !e.NonVoter
		if e.Voter != nil {
			voter = *e.Voter
		}
		servers = append(servers, raftstore.Server{ID: e.ID, Address: e.Address, Voter: voter})
	}
	return servers, nil
}

func recoverCommand() *cobra.Command {
	o := &offline{}
	var peers string
	cmd := &cobra.Command{
		Use:   "recover --data-dir DIR --peers FILE",
		Short: "Give a node new peers after a majority was lost for good",
		Long: "Give a node that is not running new peers, after the majority of its cluster was lost for good.\n\n" +
			"All that this node has counts from then on; writes that only the lost nodes had are lost. Choose the node\n" +
			"with the highest applied index. The peers file is JSON, with this node in it:\n\n" +
			"  [{\"id\":\"n1\",\"address\":\"10.0.0.1:7000\"}]\n\n" +
			"address is the Raft address. Start the node then, and let the others join it with empty data directories.\n" +
			"That is the way for other survivors as well. (Those that are in the file, too, must be recovered with the same\n" +
			"file before any of them is started, and be started together.)\n" +
			"What the command changes is kept in DIR/before-recovery-TIME.",
		Example: "  konsul cluster recover --data-dir /var/lib/konsul --peers peers.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.dataDir == "" || peers == "" {
				return cli.Usage(cmd, "--data-dir and --peers are needed")
			}
			for _, name := range []string{"http-addr", "token", "timeout"} {
				if cmd.Flags().Changed(name) {
					return cli.Usage(cmd, "--%s is not for this command, which asks no node", name)
				}
			}
			return failed(wrap("cluster recover", runRecover(cmd, o, peers)))
		},
	}
	o.register(cmd)
	cmd.Flags().StringVar(&peers, "peers", "", "file with the new peers (needed)")
	cmd.Flags().StringVar(&o.keyFile, "key-file", os.Getenv("KONSUL_ENCRYPTION_KEY_FILE"), "key file of an encrypted node [KONSUL_ENCRYPTION_KEY_FILE]")
	return cmd
}

func runRecover(cmd *cobra.Command, o *offline, peers string) error {
	servers, err := readPeers(peers)
	if err != nil {
		return err
	}
	cfg := raftstore.Config{DataDir: o.dataDir, SyncWrites: true, Logger: hclog.New(&hclog.LoggerOptions{
		Name: "konsul", Level: hclog.Warn, Output: cmd.ErrOrStderr(),
	})}
	if o.keyFile != "" {
		if cfg.Encryption, err = encryption.ReadKeyFile(o.keyFile); err != nil {
			return err
		}
	}
	out := o.people(cmd)
	r, err := raftstore.Recover(cmd.Context(), cfg, servers, func(r raftstore.Recovery) error {
		fmt.Fprintf(out, "Node %s of cluster %s has entries up to %d.\n", r.NodeID, r.ClusterID, r.Index)
		fmt.Fprintf(out, "Its peers are  %s\nthey become    %s\n", names(r.Before), names(r.After))
		fmt.Fprintln(out, "Whatever only the others had is lost. The nodes that are left out must never be started again with their data.\n"+
			"Indexes go on far behind those that were given out; the next backup must be a full one.")
		return o.agreed(cmd)
	})
	if err != nil {
		return err
	}
	if wantsJSON(cmd) {
		return cli.PrintJSON(cmd, map[string]any{"node_id": r.NodeID, "cluster_id": r.ClusterID, "index": r.Index, "kept_in": r.Backup})
	}
	fmt.Fprintf(out, "Done. What was changed is kept in %s. Start the node; let the others join it with empty data directories.\n", r.Backup)
	return nil
}

func names(servers []raftstore.Server) string {
	var all []string
	for _, s := range servers {
		name := s.ID + " (" + s.Address
		if !s.Voter {
			name += ", no vote"
		}
		all = append(all, name+")")
	}
	return strings.Join(all, ", ")
}

func resetCommand() *cobra.Command {
	o := &offline{}
	cmd := &cobra.Command{
		Use:   "reset --data-dir DIR --http-addr OTHER-NODES",
		Short: "Make a node with a damaged data directory a new one",
		Long: "Make a node that does not start, because its data is damaged, a new one that gets everything from the others.\n\n" +
			"The cluster at --http-addr, which must be the node's own and have a leader, is told that the node has left; then all\n" +
			"that is in the data directory is moved to DIR/damaged-TIME. Start the node with raft.join set: it joins and catches up. Remove\n" +
			"damaged-TIME when it has. If the command is interrupted, repeat it; the node does not start before.",
		Example: "  konsul cluster reset --data-dir /var/lib/konsul --http-addr node2:8500,node3:8500",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.dataDir == "" {
				return cli.Usage(cmd, "--data-dir is needed")
			}
			c, timeout, err := cli.Connect(cmd)
			if err != nil {
				return err
			}
			return failed(wrap("cluster reset", runReset(cmd, o, c, timeout)))
		},
	}
	o.register(cmd)
	return cmd
}

func runReset(cmd *cobra.Command, o *offline, c *client.Client, timeout time.Duration) error {
	release, err := raftstore.LockDataDir(o.dataDir)
	if err != nil {
		return err
	}
	defer release()
	out := o.people(cmd)
	if to, moved := raftstore.MovedAside(o.dataDir); moved {
		fmt.Fprintf(out, "Nothing to do: the old data is in %s already.\n", to)
		return movedTo(cmd, "", to)
	}
	id, err := raftstore.NodeIDOf(o.dataDir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	status, err := c.Status(ctx)
	cancel()
	if err != nil {
		return cli.Explain("asking the cluster", err)
	}
	if err := mayRemove(status, id, raftstore.ClusterIDOf(o.dataDir)); err != nil {
		return err
	}
	fmt.Fprintf(out, "Node %s leaves cluster %s, and all data in %s is moved aside.\n", id, status.ClusterID, o.dataDir)
	if err := o.agreed(cmd); err != nil {
		return err
	}
	// The time for it begins now: somebody may have thought about the answer for long.
	ctx, cancel = context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	// The leader decides, and there must be one: the list of the node that was asked may be old.
	if err := c.Leave(ctx, id); err != nil && !notAMember(err) {
		return cli.Explain(fmt.Sprintf("removing node %s from its cluster, nothing was changed here", id), err)
	}
	failpoint.Hit("reset.after-leave")
	to, err := raftstore.MoveAside(o.dataDir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Done. The old data is in %s. Start the node with raft.join set to the others; remove the old data when it has caught up.\n", to)
	return movedTo(cmd, id, to)
}

// movedTo is the result for --json.
func movedTo(cmd *cobra.Command, id, to string) error {
	if !wantsJSON(cmd) {
		return nil
	}
	return cli.PrintJSON(cmd, struct {
		NodeID  string `json:"node_id,omitempty"`
		MovedTo string `json:"moved_to"`
	}{id, to})
}

// mayRemove refuses what would leave node id a member of the cluster that it is of: to ask a node
// that does not know it. clusterID is that of its data directory, "" if that cannot be told any more.
func mayRemove(asked client.Status, id, clusterID string) error {
	switch {
	case !asked.HasState || asked.State == "removed":
		return fmt.Errorf("node %s at --http-addr is in no cluster: name other nodes of the cluster that node %s is in", asked.NodeID, id)
	case clusterID != "" && asked.ClusterID != clusterID:
		return fmt.Errorf("--http-addr leads to cluster %s, but the data directory is of cluster %s: name other nodes of that one", asked.ClusterID, clusterID)
	case asked.NodeID == id:
		return fmt.Errorf("--http-addr leads to node %s itself: name other nodes of its cluster", id)
	}
	return nil
}

// notAMember: as after a reset that was interrupted when the node had left.
func notAMember(err error) bool {
	var answer *client.Error
	return errors.As(err, &answer) && answer.Code == "member_not_found"
}
