package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
)

func txnCommand() *cobra.Command {
	f := &kvFlags{}
	cmd := &cobra.Command{
		Use:   "txn FILE|-",
		Short: "Run a transaction",
		Long: "Run a transaction from a file or standard input: if all of \"compare\" hold, the\n" +
			"operations of \"then\" run, else those of \"else\", all or none of them.\n" +
			"Exits with 0 whichever branch ran; the output says which.",
		Example: "  konsul txn move.json\n" +
			"  echo '{\"compare\":[{\"key\":\"lock\",\"target\":\"exists\",\"op\":\"=\",\"value\":false}],\n" +
			"         \"then\":[{\"op\":\"set\",\"key\":\"lock\",\"value\":\"me\"}],\n" +
			"         \"else\":[{\"op\":\"get\",\"key\":\"lock\"}]}' | konsul txn -",
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := readDocument(cmd, args[0])
			if err != nil {
				return err
			}
			return f.run(cmd, "txn "+args[0], func(c *client.Client) error {
				result, err := c.CommitJSON(cmd.Context(), doc)
				if err != nil {
					return err
				}
				return printTxn(cmd.OutOrStdout(), result, f.json)
			})
		},
	}
	f.register(cmd, defaultTimeout)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func readDocument(cmd *cobra.Command, name string) (doc []byte, err error) {
	if name == "-" {
		doc, err = io.ReadAll(cmd.InOrStdin())
	} else {
		doc, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, explain("reading the transaction", err)
	}
	if !json.Valid(doc) {
		return nil, usage(cmd, "txn %s: it is not valid JSON", name)
	}
	return doc, nil
}

func printTxn(out io.Writer, result client.TxnResult, asJSON bool) error {
	if asJSON {
		return printJSON(out, result)
	}
	branch := "then"
	if !result.Succeeded {
		branch = "else"
	}
	if _, err := fmt.Fprintf(out, "%q ran (index %d)\n", branch, result.Index); err != nil {
		return err
	}
	rows := [][]string{}
	for i, r := range result.Results {
		rows = append(rows, []string{fmt.Sprintf("%d:", i), describeResult(r)})
	}
	return table(out, rows)
}

func describeResult(r client.OpResult) string {
	switch {
	case r.Found:
		return fmt.Sprintf("%s = %s", readable([]byte(r.Entry.Key)), readable(r.Entry.Value))
	case r.Deleted > 0:
		return fmt.Sprintf("%d deleted", r.Deleted)
	case r.Entry.ModifyIndex > 0:
		return fmt.Sprintf("%s is set", readable([]byte(r.Entry.Key)))
	}
	return "nothing there"
}
