package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

// What a command needs that another package adds below one of ours, to be like its neighbours.

// Connect is the client of a command that has the flags of its neighbours: --http-addr,
// --token and --timeout, which is returned as well. What is wrong with them is wrong usage.
func Connect(cmd *cobra.Command) (*client.Client, time.Duration, error) {
	var c connection
	for name, value := range map[string]*string{"http-addr": &c.addr, "token": &c.token} {
		var err error
		if *value, err = cmd.Flags().GetString(name); err != nil {
			return nil, 0, err
		}
	}
	var err error
	if c.timeout, err = cmd.Flags().GetDuration("timeout"); err != nil {
		return nil, 0, err
	}
	if len(c.config().Addresses) == 0 {
		return nil, 0, usage(cmd, "--http-addr is needed")
	}
	made, err := c.client(cmd)
	return made, c.timeout, err
}

// Usage is an error of the person who typed the command.
func Usage(cmd *cobra.Command, format string, values ...any) error {
	return usage(cmd, format, values...)
}

// Explain makes one line of an error of the client: what failed, why, what to do next.
func Explain(what string, err error) error { return explain(what, err) }

// PrintJSON prints what --json asks for: one document on one line.
func PrintJSON(cmd *cobra.Command, v any) error { return printJSON(cmd.OutOrStdout(), v) }
