package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

// listPage is how many keys one request of a long list asks for.
const (
	listPage       = 1000
	listValuesPage = 200
)

func kvList(f *kvFlags) *cobra.Command {
	var keysOnly, values bool
	cmd := &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List keys in byte order",
		Long: "List all keys, or those that start with PREFIX, in byte order, one per line; what is\n" +
			"not printable text is quoted. With --json print one array of keys, or of entries.",
		Example: "  konsul kv list\n  konsul kv list app/\n  konsul kv list app/ --values\n" +
			"  konsul kv list app/ --json",
		Args:              args(0, 1),
		ValidArgsFunction: completeKeys(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			if keysOnly && values {
				return usage(cmd, "either --keys-only or --values")
			}
			o := client.ListOptions{PageSize: listPage}
			if len(args) == 1 {
				o.Prefix = args[0]
			}
			what := strings.TrimSpace("kv list " + readable([]byte(o.Prefix)))
			return f.stream(cmd, what, func(c *client.Client) error {
				out := bufio.NewWriter(cmd.OutOrStdout())
				if err := list(cmd.Context(), out, c, o, values, f.json); err != nil {
					_ = out.Flush() // what is there so far; the error is what matters
					return err
				}
				return out.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&keysOnly, "keys-only", false, "print keys only (the default)")
	cmd.Flags().BoolVar(&values, "values", false, "print values, too")
	return cmd
}

func list(ctx context.Context, out *bufio.Writer, c *client.Client, o client.ListOptions, values, asJSON bool) error {
	print := lines(out)
	if asJSON {
		print = array(out)
	}
	if !values {
		for key, err := range c.Keys(ctx, o) {
			if err != nil {
				return err
			}
			if err := print([]string{key}, listedKey(key)); err != nil {
				return err
			}
		}
		return print(nil, nil)
	}
	o.PageSize = listValuesPage
	for entry, err := range c.List(ctx, o) {
		if err != nil {
			return err
		}
		if err := print([]string{entry.Key, string(entry.Value)}, entry); err != nil {
			return err
		}
	}
	return print(nil, nil)
}

// listedKey is a key in a JSON list: text, or an object if it is not UTF-8.
func listedKey(key string) any {
	if j := keyJSON(key); j.KeyEncoding != "" {
		return j
	}
	return key
}

// printer prints one item, as columns or as JSON; nil columns end the list.
type printer func(columns []string, item any) error

func lines(out io.Writer) printer {
	return func(columns []string, _ any) error {
		if columns == nil {
			return nil
		}
		readables := make([]string, len(columns))
		for i, column := range columns {
			readables[i] = readable([]byte(column))
		}
		_, err := fmt.Fprintln(out, strings.Join(readables, "  "))
		return err
	}
}

// array writes a JSON array item by item: a long list is never in memory as a whole.
func array(out io.Writer) printer {
	before := "["
	return func(columns []string, item any) error {
		if columns == nil {
			if before == "[" {
				before = "[]"
			} else {
				before = "\n]"
			}
			_, err := fmt.Fprintln(out, before)
			return err
		}
		var encoded bytes.Buffer
		if err := printJSON(&encoded, item); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out, "%s\n  %s", before, bytes.TrimSuffix(encoded.Bytes(), []byte("\n")))
		before = ","
		return err
	}
}
