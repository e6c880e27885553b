package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/internal/encryption"
)

func keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen [FILE]",
		Short: "Make a key for encryption at rest",
		Long: "Make a random key for encryption at rest, in a new FILE that only its owner can read, or on standard output.\n" +
			"A node takes it with --persistence-encryption-key-file FILE, from its first start on. All nodes that shall read\n" +
			"each other's backups need the same key. Keep a copy: without the key the data is lost.\n\n" +
			"To replace a key, put a new line before the old one, restart the nodes one after the other, and remove the old\n" +
			"line when no backup needs it any more.",
		Example: "  konsul keygen konsul.key\n  konsul agent --persistence-encryption-key-file konsul.key",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			line := encryption.NewKeyLine()
			if len(args) == 0 {
				_, err := fmt.Fprint(cmd.OutOrStdout(), line)
				return err
			}
			if err := writeKeyFile(args[0], line); err != nil {
				return &ExitError{Code: exitFailed, Err: err}
			}
			return nil
		},
	}
}

// writeKeyFile never overwrites: a key that is lost takes the data with it.
func writeKeyFile(path, line string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists and is left as it is: a key that is overwritten takes its data with it; choose another name", path)
	}
	if err != nil {
		return fmt.Errorf("writing the key: %w", err)
	}
	_, err = f.WriteString(line)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("writing the key: %w", err), os.Remove(path))
	}
	return nil
}
