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
	return func(cmd *cobra.Command, args []string, _ string) (ids []string, _ cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		c, err := client.New(f.config())
		if err != nil || len(args) > 0 {
			return nil, none
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionTime)
		defer cancel()
		peers, err := c.Peers(ctx)
		if err != nil {
			return nil, none
		}
		for _, p := range peers {
			ids = append(ids, cobra.CompletionWithDesc(p.ID, role(p)))
		}
		return ids, none
	}
}

// completeValues offers the values of a flag of cmd.
func completeValues(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // no such flag: a slip in this package
	}
}
