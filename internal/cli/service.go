package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

func serviceCommand() *cobra.Command {
	f := &kvFlags{}
	cmd := group("service", "Register, find and watch services",
		"Register, find and watch services. A service has a name and any number of instances,\n"+
			"each with an id, an address, a port, and checks that say whether it is healthy.",
		serviceRegister(f), serviceGet(f), serviceList(f), serviceWatch(f), serviceHeartbeat(f), serviceCheck(f), serviceDeregister(f))
	f.register(cmd, defaultTimeout)
	cmd.PersistentFlags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func serviceGet(f *kvFlags) *cobra.Command {
	var healthy, stale bool
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Show the instances of a service",
		Long: "Show the live instances of a service. Exits with 3 if there are none, because the\n" +
			"service was never registered, or because its TTL has passed.",
		Example: "  konsul service get web\n  konsul service get web --healthy --json",
		Args:    args(1, 1),

		ValidArgsFunction: completeServices(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			options := healthyOrStale(healthy, stale)
			return f.run(cmd, "service get "+readable([]byte(args[0])), func(c *client.Client) error {
				instances, err := c.Service(cmd.Context(), args[0], options...)
				if err != nil {
					return err
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), struct {
						Name      string            `json:"name"`
						Instances []client.Instance `json:"instances"`
					}{args[0], list0(instances)})
				}
				return printInstances(cmd.OutOrStdout(), instances, false)
			})
		},
	}
	cmd.Flags().BoolVar(&healthy, "healthy", false, "only instances without a critical check")
	cmd.Flags().BoolVar(&stale, "stale", false, "read what the node has, without asking the leader")
	return cmd
}

func healthyOrStale(healthy, stale bool) (options []client.ReadOption) {
	if healthy {
		options = append(options, client.Healthy())
	}
	if stale {
		options = append(options, client.Stale())
	}
	return options
}

// list0 is an empty list in JSON instead of null.
func list0[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func serviceList(f *kvFlags) *cobra.Command {
	var healthy, stale, detail bool
	var tags, meta []string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the services",
		Long: "List the names of the services that have a live instance, or with --detail their\n" +
			"instances. Of several --tag and --meta, all must hold.",
		Example: "  konsul service list\n  konsul service list --tag primary --meta zone=a --healthy\n" +
			"  konsul service list --detail",
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			options := healthyOrStale(healthy, stale)
			for _, tag := range tags {
				options = append(options, client.Tag(tag))
			}
			pairs, err := metaPairs(cmd, meta)
			if err != nil {
				return err
			}
			for key, value := range pairs {
				options = append(options, client.ServiceMeta(key, value))
			}
			return f.run(cmd, "service list", func(c *client.Client) error {
				if detail {
					return listInstances(cmd, f, c, options)
				}
				names, err := c.Services(cmd.Context(), options...)
				if err != nil {
					return err
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), map[string]any{"services": list0(names)})
				}
				for _, name := range names {
					if _, err := fmt.Fprintln(cmd.OutOrStdout(), name); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "only instances with this tag; may be repeated")
	cmd.Flags().StringArrayVar(&meta, "meta", nil, "only instances with this KEY=VALUE; may be repeated")
	cmd.Flags().BoolVar(&healthy, "healthy", false, "only instances without a critical check")
	cmd.Flags().BoolVar(&detail, "detail", false, "list the instances, too")
	cmd.Flags().BoolVar(&stale, "stale", false, "read what the node has, without asking the leader")
	return cmd
}

func listInstances(cmd *cobra.Command, f *kvFlags, c *client.Client, options []client.ReadOption) error {
	instances, err := c.Instances(cmd.Context(), options...)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(cmd.OutOrStdout(), map[string]any{"instances": list0(instances)})
	}
	return printInstances(cmd.OutOrStdout(), instances, true)
}

// printInstances writes a table; names is whether the services' names are in it.
func printInstances(out io.Writer, instances []client.Instance, names bool) error {
	if len(instances) == 0 {
		return nil
	}
	rows := [][]string{{"ID", "ADDRESS", "HEALTH", "EXPIRES IN", "TAGS", "META", "NODE"}}
	for _, i := range instances {
		expires := "-"
		if i.TTL > 0 {
			expires = i.ExpiresIn.Round(100 * time.Millisecond).String()
		}
		rows = append(rows, []string{i.ID, address(i), health(i), expires, dash(strings.Join(i.Tags, ",")), dash(metaText(i.Meta)), dash(i.Node)})
	}
	if names {
		rows[0] = append([]string{"SERVICE"}, rows[0]...)
		for n, i := range instances {
			rows[n+1] = append([]string{i.Name}, rows[n+1]...)
		}
	}
	for _, row := range rows[1:] {
		for i, text := range row {
			row[i] = readable([]byte(text))
		}
	}
	return table(out, rows)
}

func address(i client.Instance) string {
	if strings.Contains(i.Address, ":") {
		return "[" + i.Address + "]:" + strconv.Itoa(i.Port)
	}
	return i.Address + ":" + strconv.Itoa(i.Port)
}

// health is "healthy", or the checks that do not pass.
func health(i client.Instance) string {
	var bad []string
	for _, check := range i.Checks {
		if check.Status != client.Passing {
			bad = append(bad, check.ID+" "+string(check.Status))
		}
	}
	switch {
	case i.Healthy && len(bad) == 0:
		return "healthy"
	case i.Healthy:
		return "healthy (" + strings.Join(bad, ", ") + ")"
	case len(bad) == 0:
		return "unhealthy (a check of its node)"
	}
	return "unhealthy (" + strings.Join(bad, ", ") + ")"
}

func metaText(meta map[string]string) string {
	var pairs []string
	for key, value := range meta {
		pairs = append(pairs, key+"="+value)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func serviceHeartbeat(f *kvFlags) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "heartbeat NAME",
		Short: "Renew the TTL of an instance",
		Long: "Renew the TTL of an instance. Exits with 3 if it has expired or was never registered:\n" +
			"register it again then.",
		Example:           "  konsul service heartbeat web\n  konsul service heartbeat web --id web-2",
		Args:              args(1, 1),
		ValidArgsFunction: completeServices(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := notEmpty(cmd, "id"); err != nil {
				return err
			}
			return f.run(cmd, "service heartbeat "+readable([]byte(args[0])), func(c *client.Client) error {
				if err := c.Heartbeat(cmd.Context(), args[0], id); err != nil {
					return err
				}
				return f.done(cmd, map[string]any{"name": args[0], "id": orName(id, args[0])}, instanceName(args[0], id)+" is renewed")
			})
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "id of the instance (default: the name)")
	return cmd
}

func orName(id, name string) string {
	if id == "" {
		return name
	}
	return id
}

// instanceName is an instance in a sentence.
func instanceName(name, id string) string {
	if id == "" || id == name {
		return readable([]byte(name))
	}
	return readable([]byte(name + "/" + id))
}

func serviceDeregister(f *kvFlags) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "deregister NAME",
		Short: "Remove a service, or one instance of it",
		Long: "Remove all instances of a service, or with --id one of them. Exits with 3 if there\n" +
			"is none.",
		Example:           "  konsul service deregister web\n  konsul service deregister web --id web-2",
		Args:              args(1, 1),
		ValidArgsFunction: completeServices(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := notEmpty(cmd, "id"); err != nil {
				return err
			}
			return f.run(cmd, "service deregister "+readable([]byte(args[0])), func(c *client.Client) error {
				if err := c.Deregister(cmd.Context(), args[0], id); err != nil {
					return err
				}
				doc := map[string]any{"name": args[0]}
				if id != "" {
					doc["id"] = id
				}
				return f.done(cmd, doc, instanceName(args[0], id)+" is deregistered")
			})
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "id of the instance (default: all)")
	return cmd
}

func serviceCheck(f *kvFlags) *cobra.Command {
	var id, status, output string
	cmd := &cobra.Command{
		Use:   "check NAME CHECK",
		Short: "Report the result of a TTL check",
		Long: "Report the result of a TTL check of an instance: passing, warning (it still serves) or\n" +
			"critical. It must come at least as often as the TTL of the check says.",
		Example: "  konsul service check web ttl --status passing\n" +
			"  konsul service check web ttl --id web-2 --status critical --output \"out of memory\"",
		Args:              args(2, 2),
		ValidArgsFunction: completeServices(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch s := client.CheckStatus(status); s {
			case client.Passing, client.Warning, client.Critical:
			default:
				return usage(cmd, "--status %q: passing, warning or critical", status)
			}
			if err := notEmpty(cmd, "id"); err != nil {
				return err
			}
			what := "service check " + readable([]byte(args[0])) + " " + readable([]byte(args[1]))
			return f.run(cmd, what, func(c *client.Client) error {
				if err := c.UpdateCheck(cmd.Context(), args[0], id, args[1], client.CheckStatus(status), output); err != nil {
					return err
				}
				return f.done(cmd, map[string]any{"name": args[0], "id": orName(id, args[0]), "check": args[1], "status": status},
					fmt.Sprintf("check %s of %s is %s", readable([]byte(args[1])), instanceName(args[0], id), status))
			})
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "id of the instance (default: the name)")
	cmd.Flags().StringVar(&status, "status", string(client.Passing), "passing, warning or critical")
	cmd.Flags().StringVar(&output, "output", "", "what the check says, for people; at most 4 KiB are kept")
	completeValues(cmd, "status", "passing", "warning", "critical")
	return cmd
}
