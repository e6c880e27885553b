package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagError says in the words of the person who typed it what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		if cmd.Name() == "put" {
			return usage(cmd, "%w; a value that begins with - comes after --, as in: %s KEY -- -5", err, cmd.CommandPath())
		}
	case errors.As(err, &unknown):
		if near := nearestFlag(cmd.Flags(), unknown.GetSpecifiedName()); near != "" {
			return usage(cmd, "%w, did you mean --%s?", err, near)
		}
	case errors.As(err, &invalid):
		if wanted := kinds[invalid.GetFlag().Value.Type()]; wanted != "" {
			return usage(cmd, "--%s %q: it must be %s", invalid.GetFlag().Name, invalid.GetValue(), wanted)
		}
	}
	return usage(cmd, "%w", err)
}

// notEmpty refuses flags that are given without a value. Most often a script's variable
// is not set, and what is done without the flag is not what was meant: a put without
// the lock, or the end of all instances.
func notEmpty(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return usage(cmd, "--%s is empty: is a variable not set?", name)
		}
	}
	return nil
}

// kinds says what a flag of a type takes; types that explain themselves are not here.
var kinds = map[string]string{
	"uint64":   "a number, 0 or more",
	"int":      "a number",
	"int64":    "a number",
	"bool":     "true or false",
	"duration": "a duration such as 500ms, 30s or 2m",
}

// nearestFlag is the flag that was probably meant, or "".
func nearestFlag(flags *pflag.FlagSet, typed string) string {
	typed = strings.ReplaceAll(strings.ToLower(typed), "_", "-")
	best, least := "", 3 // more than two slips are another word
	if len(typed) < 4 {
		least = 2
	}
	flags.VisitAll(func(f *pflag.Flag) {
		d := distance(typed, f.Name)
		if d < least || d == least && best != "" && f.Name < best {
			best, least = f.Name, d
		}
	})
	return best
}

// distance is how many letters must be put in, left out, replaced, or swapped with
// their neighbour to make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// elsewhere are commands that people look for at the top.
var elsewhere = map[string]string{
	"get": "kv get", "put": "kv put", "set": "kv put", "delete": "kv delete", "list": "kv list", "watch": "kv watch",
	"status": "cluster status", "peers": "cluster peers", "members": "cluster peers", "nodes": "cluster peers",
	"join": "cluster join", "leave": "cluster leave", "transfer": "cluster transfer", "snapshot": "cluster snapshot",
	"server": "agent", "start": "agent", "restore": "backup restore", "backups": "backup list", "save": "backup save",
	"services": "service list", "register": "service register", "deregister": "service deregister", "heartbeat": "service heartbeat",
	"sessions": "session list", "elect": "lock",
}

// unknownCommand makes one line of cobra's error about a command that root has not;
// other errors stay as they are.
func unknownCommand(root *cobra.Command, err error) error {
	var exit *ExitError
	var typed string
	if errors.As(err, &exit) {
		return err
	}
	if _, scanErr := fmt.Sscanf(err.Error(), "unknown command %q", &typed); scanErr != nil {
		return usage(root, "%w", err)
	}
	near := elsewhere[typed]
	if near == "" {
		if others := root.SuggestionsFor(typed); len(others) > 0 {
			near = others[0]
		}
	}
	if near == "" {
		return usage(root, "unknown command %q", typed)
	}
	return usage(root, "unknown command %q, did you mean `%s %s`?", typed, root.Name(), near)
}
