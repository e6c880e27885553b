package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

// completionTime is how long a person waits after pressing the tab key.
const completionTime = time.Second

// completeKeys offers the keys of a running node up to the next "/"; without a node it
// offers nothing, quickly.
func completeKeys(f *kvFlags) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault // the value of a put may be a file
		}
		c, err := client.New(f.config())
		if err != nil {
			return nil, none
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionTime)
		defer cancel()
		o := client.ListOptions{Prefix: typed, Separator: "/", PageSize: 200}
		page, err := c.ListKeys(ctx, o, client.Stale())
		if err != nil {
			return nil, none
		}
		return page.Keys, none | cobra.ShellCompDirectiveNoSpace
	}
}

// completeNodes offers the ids of the cluster's nodes, in the same way.
func completeNodes(f *kvFlags) cobra.CompletionFunc {
	return completeFirst(f, func(ctx context.Context, c *client.Client) (ids []string, _ error) {
		peers, err := c.Peers(ctx)
		for _, p := range peers {
			ids = append(ids, cobra.CompletionWithDesc(p.ID, role(p)))
		}
		return ids, err
	})
}

// completeServices offers the names of services, in the same way.
func completeServices(f *kvFlags) cobra.CompletionFunc {
	return completeFirst(f, func(ctx context.Context, c *client.Client) ([]string, error) {
		return c.Services(ctx, client.Stale())
	})
}

// completeSessions offers the ids of sessions, in the same way.
func completeSessions(f *kvFlags) cobra.CompletionFunc {
	return completeFirst(f, func(ctx context.Context, c *client.Client) (ids []string, _ error) {
		sessions, err := c.Sessions(ctx, client.Stale())
		for _, s := range sessions {
			ids = append(ids, cobra.CompletionWithDesc(s.ID, s.Name))
		}
		return ids, err
	})
}

// completeFirst offers what ask finds, for the first argument.
func completeFirst(f *kvFlags, ask func(context.Context, *client.Client) ([]string, error)) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		c, err := client.New(f.config())
		if err != nil || len(args) > 0 {
			return nil, none
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionTime)
		defer cancel()
		found, err := ask(ctx, c)
		if err != nil {
			return nil, none
		}
		return found, none
	}
}

// completeValues offers the values of a flag of cmd.
func completeValues(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // no such flag: a slip in this package
	}
}
