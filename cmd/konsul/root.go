package main

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/neogan74/konsul/internal/cli"
	"github.com/neogan74/konsul/internal/config"
)

// Exit statuses of the agent; those of the client's commands are in internal/cli.
const (
	exitFailed = 1
	exitUsage  = 2
)

// rootCommand is `konsul`: the agent, and everything else below it.
func rootCommand(p program, notify func()) *cobra.Command {
	version := programVersion()
	root := agentCommand(p, notify, "konsul")
	root.Short = "A replicated key-value store"
	root.Long = "Konsul is a replicated key-value store.\n\n" +
		"Without a command it runs a node, as `konsul agent` does: a durable single-node cluster in ./data\n" +
		"on 127.0.0.1:8500 if nothing else is said. `konsul agent --help` lists all options."
	root.Example = "  konsul                                # a node on 127.0.0.1:8500, data in ./data\n" +
		"  konsul --port 8600 --data-dir /var/lib/konsul\n" +
		"  konsul kv put color blue && konsul kv get color\n" +
		"  konsul cluster status"
	root.Version = version
	root.SetVersionTemplate("konsul {{.Version}}\n")
	root.Args = nil // cobra's own rule for roots: an unknown command is an error with a suggestion
	keepShort(root.Flags())
	cli.Prepare(root)

	agent := agentCommand(p, notify, "agent")
	agent.Short = "Run a node (the default)"
	agent.Long = "Run a node.\n\n" +
		"Every option can be given as a flag, an environment variable (in brackets) or a key of the\n" +
		"configuration file, in this order of precedence. The flag is the key with dashes: raft.node_id is\n" +
		"--raft-node-id. --print-config shows the result and where each value came from."
	agent.Example = "  konsul agent\n" +
		"  konsul agent --config /etc/konsul/konsul.yaml --print-config\n" +
		"  konsul agent --bootstrap-expect 3 --join node1:8500,node2:8500,node3:8500 \\\n" +
		"    --host 0.0.0.0 --http-advertise-addr node1:8500 --raft-bind-addr 0.0.0.0:7000 --raft-advertise-addr node1:7000\n" +
		"  KONSUL_LOG_FORMAT=json konsul agent"
	root.AddCommand(agent, healthCommand())
	root.AddCommand(cli.Commands(version)...)
	offlineCommands(root)
	root.AddCommand(cli.BackupCommand(restoreOffline))
	return root
}

func agentCommand(p program, notify func(), use string) *cobra.Command {
	var file string
	var printOnly bool
	cmd := &cobra.Command{Use: use + " [flags]", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (YAML) [KONSUL_CONFIG]")
	cmd.Flags().BoolVar(&printOnly, "print-config", false, "print the configuration and where each value came from, and exit")
	flags := config.Register(cmd.Flags())
	cmd.Flags().SortFlags = false
	completeValues(cmd, "log-level", "trace", "debug", "info", "warn", "error")
	completeValues(cmd, "log-format", "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		load := func() (*config.Result, error) {
			return config.Load(config.Input{File: file, Env: p.env, Flags: flags})
		}
		cfg, err := load()
		if err != nil {
			return &cli.ExitError{Code: exitUsage, Err: err}
		}
		if printOnly {
			return cfg.Print(cmd.OutOrStdout())
		}
		notify()
		return failed(newAgent(cfg, load, p).run(cmd.Context()))
	}
	return cmd
}

// completeValues offers the values of a flag to the shell.
func completeValues(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // no such flag: a slip in this package
	}
}

// failed gives an error the exit status of something that went wrong while running; a configuration
// that only the parts themselves could find wrong keeps that of wrong usage.
func failed(err error) error {
	var exit *cli.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return err
	case errors.Is(err, config.ErrInvalid):
		return &cli.ExitError{Code: exitUsage, Err: err}
	}
	return &cli.ExitError{Code: exitFailed, Err: err}
}

// keepShort hides all but the everyday options from the help of bare `konsul`.
func keepShort(flags *pflag.FlagSet) {
	everyday := map[string]bool{"config": true, "print-config": true, "log-level": true, "leave-on-terminate": true}
	for _, o := range config.Options() {
		everyday[o.Alias] = true
	}
	flags.VisitAll(func(f *pflag.Flag) { f.Hidden = !everyday[f.Name] })
}
