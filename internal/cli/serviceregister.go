package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

// registerFlags are the flags of `konsul service register`.
type registerFlags struct {
	*kvFlags
	service   client.Service
	meta      []string
	http, tcp client.CheckSpec
	ttl       client.CheckSpec
	interval  time.Duration
	wait      time.Duration
	keepAlive bool
}

func serviceRegister(shared *kvFlags) *cobra.Command {
	f := &registerFlags{kvFlags: shared}
	cmd := &cobra.Command{
		Use:   "register NAME",
		Short: "Register an instance of a service",
		Long: "Register an instance of a service, or replace it. With --ttl it expires unless a\n" +
			"heartbeat comes in time. With --keep-alive the command stays in the foreground, sends\n" +
			"the heartbeats, registers again if the instance was lost, and deregisters it when it is\n" +
			"interrupted (SIGINT, SIGTERM, SIGHUP).\n\n" +
			"HTTP and TCP checks are run by the node that takes the registration; a TTL check is\n" +
			"reported with `konsul service check`.",
		Example: "  konsul service register web --address 10.0.0.7 --port 80 --tag primary --meta zone=a\n" +
			"  konsul service register web --id web-2 --address 10.0.0.8 --port 80 --ttl 30s\n" +
			"  konsul service register web --address 10.0.0.7 --port 80 --check-http http://10.0.0.7/health --check-interval 5s\n" +
			"  konsul service register web --address 10.0.0.7 --port 80 --keep-alive",
		Args:              args(1, 1),
		ValidArgsFunction: completeServices(shared),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.service.Name = args[0]
			if err := f.complete(cmd); err != nil {
				return err
			}
			what := "service register " + readable([]byte(args[0]))
			if f.keepAlive {
				return f.stream(cmd, what, func(c *client.Client) error { return f.stay(cmd, c) })
			}
			return f.run(cmd, what, func(c *client.Client) error {
				result, err := c.Register(cmd.Context(), f.service)
				if err != nil {
					return err
				}
				return f.registered(cmd, result)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.service.ID, "id", "", "id of the instance (default: the name)")
	flags.StringVar(&f.service.Address, "address", "", "where it serves: an address or host name")
	flags.IntVar(&f.service.Port, "port", 0, "where it serves: the port; 0 if it has none")
	flags.DurationVar(&f.service.TTL, "ttl", 0, "how long it lives without a heartbeat (default: until it is deregistered; 30s with --keep-alive)")
	flags.StringArrayVar(&f.service.Tags, "tag", nil, "a tag; may be repeated")
	flags.StringArrayVar(&f.meta, "meta", nil, "KEY=VALUE, for your own use; may be repeated")
	flags.StringVar(&f.http.HTTP, "check-http", "", "URL to GET: 2xx passes, 429 warns, all else is critical")
	flags.StringVar(&f.tcp.TCP, "check-tcp", "", "HOST:PORT to connect to")
	flags.DurationVar(&f.ttl.TTL, "check-ttl", 0, "critical unless 'konsul service check NAME ttl' comes this often")
	flags.DurationVar(&f.interval, "check-interval", 0, "how often the HTTP and TCP checks run (default 10s)")
	flags.DurationVar(&f.wait, "check-timeout", 0, "how long they wait for an answer (default 5s)")
	flags.BoolVar(&f.keepAlive, "keep-alive", false, "stay, send heartbeats, and deregister when interrupted")
	return cmd
}

// complete checks the flags and makes a registration of them.
func (f *registerFlags) complete(cmd *cobra.Command) error {
	if err := notEmpty(cmd, "id", "check-http", "check-tcp"); err != nil {
		return err
	}
	if f.service.Address == "" {
		return usage(cmd, "--address is missing: where does it serve?")
	}
	if f.service.Port < 0 || f.service.Port > 65535 {
		return usage(cmd, "--port %d: it must be 0 to 65535", f.service.Port)
	}
	meta, err := metaPairs(cmd, f.meta)
	if err != nil {
		return err
	}
	f.service.Meta = meta
	runs := f.http.HTTP != "" || f.tcp.TCP != ""
	if !runs && (f.interval != 0 || f.wait != 0) {
		return usage(cmd, "--check-interval and --check-timeout are for --check-http and --check-tcp")
	}
	for _, spec := range []client.CheckSpec{f.http, f.tcp} {
		if spec.HTTP != "" || spec.TCP != "" {
			spec.Interval, spec.Timeout = f.interval, f.wait
			f.service.Checks = append(f.service.Checks, spec)
		}
	}
	if f.ttl.TTL != 0 {
		f.service.Checks = append(f.service.Checks, f.ttl)
	}
	if !cmd.Flags().Changed("port") {
		return usage(cmd, "--port is missing: where does it serve? (0 if it has none)")
	}
	return nil
}

// metaPairs reads KEY=VALUE.
func metaPairs(cmd *cobra.Command, texts []string) (map[string]string, error) {
	pairs := make(map[string]string, len(texts))
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, usage(cmd, "--meta %q: it must be KEY=VALUE", text)
		}
		if _, twice := pairs[key]; twice {
			return nil, usage(cmd, "--meta %s is given twice", key)
		}
		pairs[key] = value
	}
	return pairs, nil
}

func (f *registerFlags) registered(cmd *cobra.Command, result client.RegisterResult) error {
	if f.json {
		return printJSON(cmd.OutOrStdout(), result)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is registered (index %d)\n", instanceName(result.Name, result.ID), result.ModifyIndex)
	return err
}

// stay keeps the instance alive until it is interrupted.
func (f *registerFlags) stay(cmd *cobra.Command, c *client.Client) error {
	interrupted, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	name := instanceName(f.service.Name, f.service.ID)
	r, err := c.KeepAlive(interrupted, f.service, client.KeepAliveOptions{
		OnTrouble: troubleReporter(cmd.ErrOrStderr(), "the heartbeat of "+name+" failed: ", "trying again"),
		OnRegister: func(result client.RegisterResult) {
			fmt.Fprintf(cmd.ErrOrStderr(), "konsul: %s was gone and is registered again (index %d)\n", name, result.ModifyIndex)
		},
	})
	if err != nil {
		return err
	}
	if err := f.registered(cmd, r.RegisterResult); err != nil {
		return err
	}
	<-interrupted.Done()
	stop() // a second interrupt ends the program at once
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), f.timeout)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		return fmt.Errorf("deregistering: %w", err)
	}
	if f.json {
		return nil
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is deregistered\n", name)
	return err
}
