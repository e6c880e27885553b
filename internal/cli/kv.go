package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

// kvFlags are what all kv commands share.
type kvFlags struct {
	connection
	json bool
}

func kvCommand() *cobra.Command {
	f := &kvFlags{}
	cmd := group("kv", "Read, write, list and watch keys",
		"Read, write, list and watch keys. A key is any bytes; \"/\" has no meaning of its own.",
		kvGet(f), kvPut(f), kvDelete(f), kvList(f), kvWatch(f))
	f.register(cmd, defaultTimeout)
	cmd.PersistentFlags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func kvGet(f *kvFlags) *cobra.Command {
	var raw, stale, detail bool
	var at uint64
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Print the value of a key",
		Long: "Print the value of a key, byte for byte; a newline is added only on a terminal.\n" +
			"With --json, or with --detail as a table, print the whole entry: also its indexes, how\n" +
			"long it still lives, and which session holds it. Exits with 3 if the key is not there.",
		Example: "  konsul kv get app/config\n  konsul kv get app/logo > logo.png\n  konsul kv get jobs/cleanup --detail\n" +
			"  konsul kv get app/config --at 1042    # as it was at index 1042",
		Args:              keyArgs(1, 1),
		ValidArgsFunction: completeKeys(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			var options []client.ReadOption
			if stale {
				options = append(options, client.Stale())
			}
			if cmd.Flags().Changed("at") {
				options = append(options, client.At(at))
			}
			return f.run(cmd, "kv get "+readable([]byte(args[0])), func(c *client.Client) error {
				entry, err := c.Get(cmd.Context(), args[0], options...)
				if err != nil {
					return err
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), entry)
				}
				if detail {
					return printEntry(cmd.OutOrStdout(), entry)
				}
				return writeValue(cmd.OutOrStdout(), entry.Value, raw)
			})
		},
	}
	cmd.Flags().BoolVar(&detail, "detail", false, "print all that is kept about the key")
	cmd.Flags().BoolVar(&raw, "raw", false, "never add a newline, also on a terminal")
	cmd.Flags().BoolVar(&stale, "stale", false, "read what the node has, without asking the leader")
	cmd.Flags().Uint64Var(&at, "at", 0, "read the past: the state at this index")
	return cmd
}

func writeValue(w io.Writer, value []byte, raw bool) error {
	if _, err := w.Write(value); err != nil {
		return err
	}
	if raw || !isTerminal(w) {
		return nil
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// printEntry is an entry for people; what it does not have is left out.
func printEntry(out io.Writer, e client.Entry) error {
	rows := [][]string{
		{"key", readable([]byte(e.Key))},
		{"value", readable(e.Value)},
		{"create index", number(e.CreateIndex)},
		{"modify index", number(e.ModifyIndex)},
		{"flags", number(e.Flags)},
	}
	if e.ExpiresIn > 0 {
		rows = append(rows, []string{"expires in", e.ExpiresIn.String()})
	}
	if e.LockIndex > 0 {
		holder := e.Session
		if holder == "" {
			holder = "nobody"
		}
		rows = append(rows, []string{"lock index", number(e.LockIndex)}, []string{"held by session", holder})
	}
	return table(out, rows)
}

func kvPut(f *kvFlags) *cobra.Command {
	var cas, flags uint64
	var ttl time.Duration
	var acquire, release string
	cmd := &cobra.Command{
		Use:   "put KEY VALUE|-|@FILE",
		Short: "Write a key",
		Long: "Write a key. VALUE is the text itself, - for standard input, or @FILE for a file's\n" +
			"contents. For a text that starts with @, or is -, use standard input; before one that\n" +
			"starts with -, put --.",
		Example: "  konsul kv put app/config on\n  konsul kv put app/logo @logo.png\n" +
			"  date | konsul kv put app/started -\n" +
			"  konsul kv put app/offset -- -5\n" +
			"  konsul kv put app/config off --cas 1042    # only if nobody changed it since index 1042\n" +
			"  konsul kv put app/lock me --cas 0          # only if it is not there yet\n" +
			"  konsul kv put app/seen now --ttl 10m       # it expires\n" +
			"  konsul kv put jobs/leader $HOSTNAME --acquire $SESSION    # see konsul session, konsul lock",
		Args:              keyArgs(2, 2),
		ValidArgsFunction: completeKeys(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := notEmpty(cmd, "acquire", "release"); err != nil {
				return err
			}
			value, err := readValue(cmd, args[1])
			if err != nil {
				return err
			}
			var options []client.WriteOption
			if cmd.Flags().Changed("cas") {
				options = append(options, client.CAS(cas))
			}
			if cmd.Flags().Changed("flags") {
				options = append(options, client.Flags(flags))
			}
			if cmd.Flags().Changed("ttl") {
				options = append(options, client.TTL(ttl))
			}
			if acquire != "" && release != "" {
				return usage(cmd, "either --acquire or --release")
			}
			name := readable([]byte(args[0]))
			return f.run(cmd, "kv put "+name, func(c *client.Client) error {
				put := func() (client.PutResult, error) { return c.Put(cmd.Context(), args[0], value, options...) }
				done := "set"
				switch {
				case acquire != "":
					done = "set and held"
					put = func() (client.PutResult, error) { return c.Acquire(cmd.Context(), args[0], value, acquire, options...) }
				case release != "":
					done = "set and released"
					put = func() (client.PutResult, error) {
						return c.PutAndRelease(cmd.Context(), args[0], value, release, options...)
					}
				}
				result, err := put()
				if err != nil {
					return err
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), struct {
						jsonKey
						client.PutResult
					}{keyJSON(args[0]), result})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is %s (index %d)\n", name, done, result.ModifyIndex)
				return err
			})
		},
	}
	cmd.Flags().Uint64Var(&cas, "cas", 0, "write only if the key's modify_index is this; 0 = only if it is not there")
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long the key lives (default: until it is deleted)")
	cmd.Flags().StringVar(&acquire, "acquire", "", "write only if this session can hold the key, and make it the holder")
	cmd.Flags().StringVar(&release, "release", "", "write only if this session holds the key, and release it")
	cmd.Flags().Uint64Var(&flags, "flags", 0, "a number kept with the entry, for your own use")
	return cmd
}

// readValue is VALUE, -, or @FILE.
func readValue(cmd *cobra.Command, arg string) ([]byte, error) {
	switch {
	case arg == "-":
		value, err := io.ReadAll(cmd.InOrStdin())
		return value, explain("reading standard input", err)
	case strings.HasPrefix(arg, "@"):
		value, err := os.ReadFile(arg[1:])
		return value, explain("reading the value", err)
	}
	return []byte(arg), nil
}

func kvDelete(f *kvFlags) *cobra.Command {
	var prefix bool
	cmd := &cobra.Command{
		Use:   "delete KEY",
		Short: "Remove a key, or all keys with a prefix",
		Long: "Remove a key; it is no error if it is not there. With --prefix remove every key that\n" +
			"starts with KEY, all at once.",
		Example:           "  konsul kv delete app/config\n  konsul kv delete app/ --prefix",
		Args:              args(1, 1),
		ValidArgsFunction: completeKeys(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, "kv delete "+readable([]byte(args[0])), func(c *client.Client) error {
				if prefix {
					return deletePrefix(cmd, f, c, args[0])
				}
				return deleteKey(cmd, f, c, args[0])
			})
		},
	}
	cmd.Flags().BoolVar(&prefix, "prefix", false, "remove every key that starts with KEY")
	return cmd
}

func deleteKey(cmd *cobra.Command, f *kvFlags, c *client.Client, key string) error {
	deleted, err := c.Delete(cmd.Context(), key)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(cmd.OutOrStdout(), struct {
			jsonKey
			Deleted bool `json:"deleted"`
		}{keyJSON(key), deleted})
	}
	text := "%s is deleted\n"
	if !deleted {
		text = "%s was not there\n"
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), text, readable([]byte(key)))
	return err
}

func deletePrefix(cmd *cobra.Command, f *kvFlags, c *client.Client, prefix string) error {
	if prefix == "" {
		return usage(cmd, "an empty prefix would delete every key")
	}
	n, err := c.DeletePrefix(cmd.Context(), prefix)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(cmd.OutOrStdout(), map[string]any{"deleted": n})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d keys are deleted\n", n)
	return err
}

// keyArgs are arguments of which the first is a key.
func keyArgs(least, most int) cobra.PositionalArgs {
	count := args(least, most)
	return func(cmd *cobra.Command, args []string) error {
		if err := count(cmd, args); err != nil {
			return err
		}
		if args[0] == "" {
			return usage(cmd, "the key is empty")
		}
		return nil
	}
}

// run makes the client, runs fn with it and explains what went wrong. The context of cmd
// ends after --timeout from then on.
func (c *connection) run(cmd *cobra.Command, what string, fn func(*client.Client) error) error {
	return c.stream(cmd, what, func(made *client.Client) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
		defer cancel()
		cmd.SetContext(ctx)
		return fn(made)
	})
}

// stream is run for what may take any time, in many answers.
func (c *connection) stream(cmd *cobra.Command, what string, fn func(*client.Client) error) error {
	made, err := c.client(cmd)
	if err != nil {
		return err
	}
	return explain(what, fn(made))
}
