package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

func clusterCommand() *cobra.Command {
	f := &kvFlags{}
	cmd := group("cluster", "See and change the cluster's nodes",
		"See and change the cluster's nodes.",
		clusterStatus(f), clusterPeers(f), clusterJoin(f), clusterLeave(f), clusterTransfer(f), clusterSnapshot(f))
	f.register(cmd, adminTimeout)
	cmd.PersistentFlags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func clusterStatus(f *kvFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show how a node sees the cluster",
		Example: "  konsul cluster status\n  konsul cluster status --http-addr 127.0.0.1:8502",
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, "cluster status", func(c *client.Client) error {
				status, err := c.Status(cmd.Context())
				if err != nil {
					return err
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), status)
				}
				return printStatus(cmd.OutOrStdout(), status)
			})
		},
	}
}

// stateRemoved is the state of a node that has left for good.
const stateRemoved = "removed"

func printStatus(out io.Writer, s client.Status) error {
	leader := "none"
	if s.LeaderID != "" {
		leader = s.LeaderID + " (" + s.LeaderAddr + ")"
	}
	err := table(out, [][]string{
		{"cluster", s.ClusterID},
		{"node", s.NodeID + " (" + s.State + ")"},
		{"leader", leader},
		{"term", number(s.Term)},
		{"commit index", number(s.CommitIndex)},
		{"applied index", number(s.AppliedIndex)},
	})
	switch {
	case err != nil:
	case s.State == stateRemoved:
		_, err = fmt.Fprintln(out, "\nremoved from its cluster: to come back it needs an empty data directory")
	case !s.HasState && s.LeaderID == "":
		_, err = fmt.Fprintln(out, "\nnot in a cluster yet: "+howToGetIn(s))
	}
	if err != nil || len(s.Peers) == 0 {
		return err
	}
	fmt.Fprintln(out)
	return printPeers(out, s.Peers)
}

// howToGetIn says what a node without a cluster waits for.
func howToGetIn(s client.Status) string {
	if s.BootstrapExpect > 1 {
		return fmt.Sprintf("it waits until it has found %d new nodes at the addresses in raft.join", s.BootstrapExpect)
	}
	return fmt.Sprintf("it joins when a node in raft.join lets it, or with `konsul cluster join ADDR --http-addr %s`", s.APIAddress)
}

func clusterPeers(f *kvFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "peers",
		Short:   "List the cluster's nodes",
		Example: "  konsul cluster peers\n  konsul cluster peers --json",
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, "cluster peers", func(c *client.Client) error {
				peers, err := c.Peers(cmd.Context())
				if err != nil {
					return err
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), map[string]any{"peers": peers})
				}
				return printPeers(cmd.OutOrStdout(), peers)
			})
		},
	}
}

func printPeers(out io.Writer, peers []client.Peer) error {
	rows := [][]string{{"NODE", "RAFT ADDRESS", "API ADDRESS", "ROLE", "HEALTHY", "APPLIED", "LAST CONTACT"}}
	for _, p := range peers {
		contact := fmt.Sprintf("%d ms", p.LastContactMS)
		if p.Leader || p.LastContactMS < 0 {
			contact = "-"
		}
		applied := number(p.AppliedIndex)
		if p.AppliedIndex == 0 && p.LastContactMS < 0 { // it does not answer
			applied = "-"
		}
		rows = append(rows, []string{p.ID, p.Address, p.APIAddress, role(p), yesNo(p.Healthy), applied, contact})
	}
	return table(out, rows)
}

func role(p client.Peer) string {
	switch {
	case p.Leader:
		return "leader"
	case p.Voter:
		return "voter"
	}
	return "non-voter"
}

func clusterJoin(f *kvFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "join ADDR",
		Short: "Make a node join the cluster at ADDR",
		Long: "Make the node at --http-addr join the cluster that has a node with the API address\n" +
			"ADDR. Run it against the node that shall join; it must not hold data of its own.",
		Example: "  konsul cluster join 10.0.0.1:8500 --http-addr 10.0.0.4:8500",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, "cluster join "+args[0], func(c *client.Client) error {
				if status, ok := memberAlready(cmd.Context(), c, args[0]); ok {
					return f.done(cmd, map[string]any{"cluster_id": status.ClusterID, "node_id": status.NodeID, "leader_id": status.LeaderID},
						fmt.Sprintf("%s is a member of the cluster %s already", status.NodeID, status.ClusterID))
				}
				joined, err := c.JoinTo(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), joined)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s has joined the cluster %s\n", joined.NodeID, joined.ClusterID)
				return err
			})
		},
	}
}

// memberAlready reports whether the asked node belongs to the cluster of the node at
// addr. Whatever goes wrong here, the join itself will tell.
func memberAlready(ctx context.Context, c *client.Client, addr string) (client.Status, bool) {
	there, err := c.Node(addr)
	if err != nil {
		return client.Status{}, false
	}
	its, err := there.Status(ctx)
	if err != nil || its.ClusterID == "" {
		return client.Status{}, false
	}
	own, err := c.Status(ctx)
	return own, err == nil && own.HasState && own.State != stateRemoved && own.ClusterID == its.ClusterID
}

func clusterLeave(f *kvFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "leave [ID]",
		Short: "Remove a node from the cluster",
		Long: "Remove the node with this id, or the node at --http-addr, from the cluster. A leader\n" +
			"hands over first.",
		Example:           "  konsul cluster leave n4\n  konsul cluster leave --http-addr 10.0.0.4:8500",
		Args:              args(0, 1),
		ValidArgsFunction: completeNodes(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			if n := len(f.config().Addresses); len(args) == 0 && n > 1 {
				return usage(cmd, "which of the nodes at the %d addresses is to leave? Name it: %s ID", n, cmd.CommandPath())
			}
			return f.run(cmd, "cluster leave", func(c *client.Client) error {
				id, err := nodeArg(cmd, c, args)
				if err != nil {
					return err
				}
				if err := c.Leave(cmd.Context(), id); err != nil {
					return err
				}
				return f.done(cmd, map[string]any{"left": id}, id+" has left the cluster")
			})
		},
	}
}

// nodeArg is the node named on the command line, or the one that is asked.
func nodeArg(cmd *cobra.Command, c *client.Client, args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	status, err := c.Status(cmd.Context())
	return status.NodeID, err
}

func clusterTransfer(f *kvFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "transfer [ID]",
		Short:   "Move the leadership to a node",
		Long:    "Move the leadership to the node with this id, or to the one that is best caught up.",
		Example: "  konsul cluster transfer\n  konsul cluster transfer n2",
		Args:    args(0, 1),

		ValidArgsFunction: completeNodes(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			to := ""
			if len(args) == 1 {
				to = args[0]
			}
			return f.run(cmd, "cluster transfer", func(c *client.Client) error {
				leader, err := c.Transfer(cmd.Context(), to)
				if err != nil {
					return err
				}
				if leader == "" {
					leader = to
				}
				text := "the leadership has moved"
				if leader != "" {
					text = leader + " leads now"
				}
				return f.done(cmd, map[string]any{"leader_id": leader}, text)
			})
		},
	}
}

func clusterSnapshot(f *kvFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "snapshot",
		Short:   "Make the leader take a Raft snapshot",
		Long:    "Make the leader take a Raft snapshot now, so that its log can be shortened.",
		Example: "  konsul cluster snapshot",
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, "cluster snapshot", func(c *client.Client) error {
				index, err := c.Snapshot(cmd.Context())
				if err != nil {
					return err
				}
				return f.done(cmd, map[string]any{"index": index}, fmt.Sprintf("snapshot taken at index %d", index))
			})
		},
	}
}

// done reports a success.
func (f *kvFlags) done(cmd *cobra.Command, doc map[string]any, text string) error {
	if f.json {
		return printJSON(cmd.OutOrStdout(), doc)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}
