// Konsul is a clustered key-value store. Without arguments this program is a node of it; its other
// commands talk to one. See the README.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/neogan74/konsul/internal/cli"
)

// program is what the process gets from the outside; tests bring their own.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            []string
	// signals asks the agent to stop (SIGTERM, SIGINT) or to read its configuration again (SIGHUP).
	signals <-chan os.Signal
	// started is called once the node serves, with the address of its API; may be nil.
	started func(apiAddr string)
}

func main() {
	signals := make(chan os.Signal, 4)
	os.Exit(run(context.Background(), os.Args[1:], program{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Environ(), signals: signals,
	}, func() { signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) }))
}

// run is the whole program; it returns the exit status. notify is called by the agent when it is
// ready for signals: the other commands keep the default, which is to end at once.
func run(ctx context.Context, args []string, p program, notify func()) int {
	root := rootCommand(p, notify)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	return cli.Execute(ctx, root, args)
}
