package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

func kvWatch(f *kvFlags) *cobra.Command {
	var from uint64
	cmd := &cobra.Command{
		Use:   "watch [PREFIX]",
		Short: "Print changes as they happen",
		Long: "Print every change of a key that starts with PREFIX, or of any key, until you\n" +
			"interrupt it: index, put or delete, key and value. With --json one document per line.\n" +
			"A lost connection is resumed without a gap or a repeat.",
		Example: "  konsul kv watch\n  konsul kv watch app/\n" +
			"  konsul kv watch app/ --from 1042 --json    # everything after index 1042",
		Args:              args(0, 1),
		ValidArgsFunction: completeKeys(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := client.WatchOptions{From: from, OnDisconnect: lossReporter(cmd.ErrOrStderr())}
			if len(args) == 1 {
				o.Prefix = args[0]
			}
			what := strings.TrimSpace("kv watch " + readable([]byte(o.Prefix)))
			return f.stream(cmd, what, func(c *client.Client) error {
				return watch(cmd, c, o, f.json)
			})
		},
	}
	cmd.Flags().Uint64Var(&from, "from", 0, "start with the changes after this index (default: from now on)")
	return cmd
}

// lossReporter says that the connection is lost.
func lossReporter(out io.Writer) func(error) { return troubleReporter(out, "", "resuming") }

// troubleReporter says once in a while what goes wrong: while a node is down, every
// attempt to reach it reports the same.
func troubleReporter(out io.Writer, what, next string) func(error) {
	var mu sync.Mutex
	var last time.Time
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last) < 10*time.Second {
			return
		}
		last = time.Now()
		fmt.Fprintf(out, "konsul: %s%s; %s\n", what, Reason(err), next)
	}
}

func watch(cmd *cobra.Command, c *client.Client, o client.WatchOptions, asJSON bool) error {
	write := writeEvent
	if asJSON {
		write = writeEventJSON
	}
	return watchWith(cmd, c, o, write)
}

// watchWith writes events until the command is interrupted.
func watchWith(cmd *cobra.Command, c *client.Client, o client.WatchOptions, write func(io.Writer, client.Event) error) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	for event, err := range c.Watch(ctx, o) {
		if err != nil {
			if ctx.Err() != nil {
				return nil // interrupted: how a watch ends
			}
			return err
		}
		if err := write(out, event); err != nil {
			return fmt.Errorf("writing the output: %w", err)
		}
	}
	return nil
}

func writeEvent(out io.Writer, event client.Event) error {
	if event.Type == client.EventDelete {
		_, err := fmt.Fprintf(out, "%d  delete  %s\n", event.Index, readable([]byte(event.Key)))
		return err
	}
	_, err := fmt.Fprintf(out, "%d  %s  %s  %s\n", event.Index, event.Type, readable([]byte(event.Key)), readable(event.Entry.Value))
	return err
}

// eventLine is an event as a line of JSON.
type eventLine struct {
	Type  client.EventType `json:"type"`
	Index uint64           `json:"index"`
	jsonKey
	Entry *client.Entry `json:"entry,omitempty"`
}

func writeEventJSON(out io.Writer, event client.Event) error {
	line := eventLine{Type: event.Type, Index: event.Index, jsonKey: keyJSON(event.Key)}
	if event.Type == client.EventPut {
		line.Entry = &event.Entry
	}
	return printJSON(out, line)
}
