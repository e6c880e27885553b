package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/neogan74/konsul/client"
)

// The environment's names for the connection flags.
const (
	envAddr  = "KONSUL_HTTP_ADDR"
	envToken = "KONSUL_TOKEN"
)

// patience is how long a command goes on trying what was not applied: an election takes
// seconds, and a person is waiting.
const patience = 10 * time.Second

// The defaults of --timeout: more than a node itself waits for its cluster, and for
// what moves nodes or data about.
const (
	defaultTimeout = 30 * time.Second
	adminTimeout   = 90 * time.Second
)

// Commands are the commands of the client side, to be added to the root.
func Commands(version string) []*cobra.Command {
	return []*cobra.Command{
		kvCommand(), txnCommand(), serviceCommand(), sessionCommand(), lockCommand(), exportCommand(), importCommand(),
		clusterCommand(), benchCommand(),
		keygenCommand(), versionCommand(version), completionCommand(),
	}
}

// Prepare makes a root command report wrong usage the way this package does: errors
// come back from Execute, unprinted, and say which command's help to read.
func Prepare(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(flagError)
}

// connection is where and as whom a command asks, and how long it waits.
type connection struct {
	addr, token string
	timeout     time.Duration
}

// register adds the flags that all client commands have, to cmd and those below it.
// timeout is the default of --timeout.
func (c *connection) register(cmd *cobra.Command, timeout time.Duration) {
	c.registerOn(cmd.PersistentFlags(), timeout)
	cmd.SetFlagErrorFunc(flagError)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
}

func (c *connection) registerOn(flags *pflag.FlagSet, timeout time.Duration) {
	flags.StringVar(&c.addr, "http-addr", "",
		"API address, or several separated by commas for fail-over ["+envAddr+"] (default "+client.DefaultAddress+")")
	flags.StringVar(&c.token, "token", "", "token sent with every request ["+envToken+"]")
	flags.DurationVar(&c.timeout, "timeout", timeout, "how long to wait for an answer")
}

// config resolves flag, environment and default, in this order.
func (c *connection) config() client.Config {
	addr, token := c.addr, c.token
	if addr == "" {
		addr = os.Getenv(envAddr)
	}
	if token == "" {
		token = os.Getenv(envToken)
	}
	cfg := client.Config{Token: token, FailFast: true, RetryTimeout: min(patience, c.timeout)}
	for one := range strings.SplitSeq(addr, ",") {
		if one = strings.TrimSpace(one); one != "" {
			cfg.Addresses = append(cfg.Addresses, one)
		}
	}
	// One address that hangs must leave time for the next.
	share := c.timeout / time.Duration(max(len(cfg.Addresses), 1))
	cfg.Timeout = min(c.timeout, max(share, client.DefaultTimeout))
	return cfg
}

// client makes the client of one command; a bad address is wrong usage.
func (c *connection) client(cmd *cobra.Command) (*client.Client, error) {
	if c.timeout <= 0 {
		return nil, usage(cmd, "--timeout %v: it must be more than 0", c.timeout)
	}
	cfg := c.config()
	cfg.OnRetry = retryReporter(cmd.ErrOrStderr())
	made, err := client.New(cfg)
	if err != nil {
		return nil, usage(cmd, "%w", err)
	}
	return made, nil
}

// group is a command that only holds others.
func group(use, short, long string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long}
	cmd.AddCommand(subs...)
	var names []string
	for _, sub := range subs {
		names = append(names, sub.Name())
	}
	// Without a Run of its own cobra would print the help and exit 0 for a typing error.
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		choice := strings.Join(names, ", ")
		if len(args) == 0 {
			return usage(cmd, "which command? One of %s", choice)
		}
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return usage(cmd, "unknown command %q, did you mean %q?", args[0], near[0])
		}
		return usage(cmd, "unknown command %q, there are %s", args[0], choice)
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	return cmd
}

// args checks the number of arguments; names are what they are called in the usage line.
func args(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage(cmd, "an argument is missing: %s", cmd.UseLine())
		case len(args) > most:
			return usage(cmd, "too many arguments: %s", cmd.UseLine())
		}
		return nil
	}
}

// ExitError is a failed command with the exit code it asks for. Without Err there is
// nothing to say: the code is that of a program that was run.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Code)
	}
	return e.Err.Error()
}
func (e *ExitError) Unwrap() error { return e.Err }

// The exit codes.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
)

// ExitCode is the exit code for the error of Execute. What is not an ExitError comes
// from cobra (an unknown command of the root) and is wrong usage.
func ExitCode(err error) int {
	var exit *ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Code
	}
	return exitUsage
}

// usage is an error of the person who typed the command.
func usage(cmd *cobra.Command, format string, values ...any) error {
	err := fmt.Errorf(format, values...)
	return &ExitError{Code: exitUsage, Err: fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
}
