package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

func serviceWatch(f *kvFlags) *cobra.Command {
	var from uint64
	cmd := &cobra.Command{
		Use:   "watch [NAME]",
		Short: "Print changes of services as they happen",
		Long: "Print every change of an instance of the service, or of any service, until you\n" +
			"interrupt it: index, put or delete, instance, address and health. An expiry is a delete;\n" +
			"a heartbeat is no change. With --json one document per line. A lost connection is\n" +
			"resumed without a gap or a repeat.",
		Example:           "  konsul service watch\n  konsul service watch web\n  konsul service watch web --from 1042 --json",
		Args:              args(0, 1),
		ValidArgsFunction: completeServices(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := client.WatchOptions{Services: true, From: from, OnDisconnect: lossReporter(cmd.ErrOrStderr())}
			if len(args) == 1 {
				o.Services, o.Service = false, args[0]
			}
			write := writeServiceEvent
			if f.json {
				write = writeServiceEventJSON
			}
			what := strings.TrimSpace("service watch " + readable([]byte(o.Service)))
			return f.stream(cmd, what, func(c *client.Client) error { return watchWith(cmd, c, o, write) })
		},
	}
	cmd.Flags().Uint64Var(&from, "from", 0, "start with the changes after this index (default: from now on)")
	return cmd
}

func writeServiceEvent(out io.Writer, event client.Event) error {
	line := fmt.Sprintf("%d  %s  %s", event.Index, event.Type, readable([]byte(event.Key)))
	if event.Type == client.EventPut {
		line += "  " + readable([]byte(address(*event.Instance))) + "  " + health(*event.Instance)
	}
	_, err := fmt.Fprintln(out, line)
	return err
}

func writeServiceEventJSON(out io.Writer, event client.Event) error {
	line := struct {
		Type     client.EventType `json:"type"`
		Index    uint64           `json:"index"`
		Name     string           `json:"name"`
		ID       string           `json:"id"`
		Instance *client.Instance `json:"instance,omitempty"`
	}{Type: event.Type, Index: event.Index, Name: event.Instance.Name, ID: event.Instance.ID}
	if event.Type == client.EventPut {
		line.Instance = event.Instance
	}
	return printJSON(out, line)
}
