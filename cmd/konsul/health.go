package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
	"github.com/neogan74/konsul/internal/cli"
)

// healthCommand asks a node whether it is ready and answers with its exit status: the health check of
// containers, where there is no curl. Without an address it asks the node that would be configured by
// the same environment.
func healthCommand() *cobra.Command {
	var addr string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Exit with 0 if the node is ready, 1 if not",
		Long: "Ask one node whether it is ready: whether it knows a leader and is caught up. Exit with 0\n" +
			"if it is, with 1 if not. Made for health checks in containers, where there is no curl.",
		Example: "  konsul health\n  konsul health --http-addr 10.0.0.2:8500 --timeout 1s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list := healthAddr(addr); strings.Contains(list, ",") {
				return &cli.ExitError{Code: exitUsage, Err: fmt.Errorf("health is about one node, and %s are several: name it with --http-addr ONE", list)}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			c, err := client.New(client.Config{Addresses: []string{healthAddr(addr)}, FailFast: true})
			if err != nil {
				return &cli.ExitError{Code: exitUsage, Err: err}
			}
			if err := c.Ready(ctx); err != nil {
				return &cli.ExitError{Code: exitFailed, Err: errors.New("not ready: " + cli.Reason(err))}
			}
			fmt.Fprintln(cmd.OutOrStdout(), "ready")
			return nil
		},
	}
	cmd.Flags().StringVar(&addr, "http-addr", "", "API address [KONSUL_HTTP_ADDR] (default http://127.0.0.1:8500, or KONSUL_HOST and KONSUL_PORT)")
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait for the answer")
	return cmd
}

func healthAddr(flag string) string {
	if flag != "" {
		return flag
	}
	if addr := os.Getenv("KONSUL_HTTP_ADDR"); addr != "" {
		return addr
	}
	host, port := os.Getenv("KONSUL_HOST"), os.Getenv("KONSUL_PORT")
	if host == "" && port == "" {
		return client.DefaultAddress
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "8500"
	}
	return "http://" + net.JoinHostPort(host, port)
}
