package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

func sessionCommand() *cobra.Command {
	f := &kvFlags{}
	cmd := group("session", "Create, renew and end sessions, which can hold keys",
		"Create, renew and end sessions. A session holds keys (konsul kv put --acquire) until it\n"+
			"releases them, is destroyed, or has not been renewed for its TTL. `konsul lock` does\n"+
			"all of it around a command.",
		sessionCreate(f), sessionRenew(f), sessionDestroy(f), sessionGet(f), sessionList(f))
	f.register(cmd, defaultTimeout)
	cmd.PersistentFlags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func sessionCreate(f *kvFlags) *cobra.Command {
	var spec client.SessionSpec
	var behavior string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a session and print its id",
		Long: "Create a session and print its id. When it is destroyed or expires, its keys are\n" +
			"released or deleted, and nobody else may hold them for the lock delay.",
		Example: "  konsul session create --ttl 30s --name backup\n" +
			"  SESSION=$(konsul session create --ttl 1m) && konsul kv put jobs/backup $HOSTNAME --acquire $SESSION",
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if behavior != string(client.ReleaseKeys) && behavior != string(client.DeleteKeys) {
				return usage(cmd, "--behavior %q: release or delete", behavior)
			}
			spec.Behavior = client.Behavior(behavior)
			if cmd.Flags().Changed("lock-delay") && spec.LockDelay == 0 {
				spec.LockDelay = -1 // none, and not the default
			}
			return f.run(cmd, "session create", func(c *client.Client) error {
				session, err := c.CreateSession(cmd.Context(), spec)
				if err != nil {
					return err
				}
				doc := map[string]any{"id": session.ID, "modify_index": session.ModifyIndex}
				if spec.TTL > 0 {
					doc["ttl"] = spec.TTL.String()
				}
				return f.done(cmd, doc, session.ID)
			})
		},
	}
	cmd.Flags().DurationVar(&spec.TTL, "ttl", 0, "how long it lives without being renewed (default: until it is destroyed)")
	cmd.Flags().StringVar(&spec.Name, "name", "", "a name, for people")
	cmd.Flags().StringVar(&behavior, "behavior", string(client.ReleaseKeys), "what becomes of its keys: release or delete")
	cmd.Flags().DurationVar(&spec.LockDelay, "lock-delay", 0, "how long its keys stay free after it is lost (default 15s)")
	completeValues(cmd, "behavior", "release", "delete")
	return cmd
}

func sessionRenew(f *kvFlags) *cobra.Command {
	return &cobra.Command{
		Use:               "renew ID",
		Short:             "Start the TTL of a session anew",
		Long:              "Start the TTL of a session anew. Exits with 3 if it has ended.",
		Example:           "  konsul session renew $SESSION",
		Args:              args(1, 1),
		ValidArgsFunction: completeSessions(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, "session renew "+readable([]byte(args[0])), func(c *client.Client) error {
				if err := c.RenewSession(cmd.Context(), args[0]); err != nil {
					return err
				}
				return f.done(cmd, map[string]any{"id": args[0]}, args[0]+" is renewed")
			})
		},
	}
}

func sessionDestroy(f *kvFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "destroy ID",
		Short: "End a session",
		Long: "End a session: its keys are released or deleted, and nobody else may hold them for the\n" +
			"lock delay. Exits with 3 if it has ended already.",
		Example:           "  konsul session destroy $SESSION",
		Args:              args(1, 1),
		ValidArgsFunction: completeSessions(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, "session destroy "+readable([]byte(args[0])), func(c *client.Client) error {
				if err := c.DestroySession(cmd.Context(), args[0]); err != nil {
					return err
				}
				return f.done(cmd, map[string]any{"id": args[0]}, args[0]+" is destroyed")
			})
		},
	}
}

func sessionGet(f *kvFlags) *cobra.Command {
	return &cobra.Command{
		Use:               "get ID",
		Short:             "Show a session",
		Long:              "Show a session. Exits with 3 if it has ended.",
		Example:           "  konsul session get $SESSION --json",
		Args:              args(1, 1),
		ValidArgsFunction: completeSessions(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, "session get "+readable([]byte(args[0])), func(c *client.Client) error {
				session, err := c.Session(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), session)
				}
				return printSessions(cmd.OutOrStdout(), []client.Session{session})
			})
		},
	}
}

func sessionList(f *kvFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the sessions",
		Example: "  konsul session list\n  konsul session list --json",
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, "session list", func(c *client.Client) error {
				sessions, err := c.Sessions(cmd.Context())
				if err != nil {
					return err
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), map[string]any{"sessions": list0(sessions)})
				}
				return printSessions(cmd.OutOrStdout(), sessions)
			})
		},
	}
}

func printSessions(out io.Writer, sessions []client.Session) error {
	if len(sessions) == 0 {
		return nil
	}
	rows := [][]string{{"ID", "NAME", "TTL", "EXPIRES IN", "BEHAVIOR", "LOCK DELAY", "KEYS", "NODE"}}
	for _, s := range sessions {
		ttl, expires := "-", "-"
		if s.TTL > 0 {
			ttl, expires = s.TTL.String(), s.ExpiresIn.Round(100*time.Millisecond).String()
		}
		rows = append(rows, []string{s.ID, dash(s.Name), ttl, expires, string(s.Behavior), s.LockDelay.String(), fmt.Sprint(s.Held), dash(s.Node)})
	}
	return table(out, rows)
}
