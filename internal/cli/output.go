package cli

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
)

// IsTerminal reports whether a person is looking at file, or typing into it.
func IsTerminal(file *os.File) bool {
	return isatty.IsTerminal(file.Fd()) || isatty.IsCygwinTerminal(file.Fd())
}

// isTerminal reports whether a person is looking.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && IsTerminal(file)
}

// printJSON writes one document on one line.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// table writes aligned columns.
func table(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		if _, err := io.WriteString(tw, strings.Join(row, "\t")+"\n"); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// readable gives text as it is and anything else quoted, so that one line stays one
// line and a terminal is not sent control characters.
func readable(b []byte) string {
	if !utf8.Valid(b) || len(b) > 0 && (b[0] == '"' || b[0] == ' ' || b[len(b)-1] == ' ') {
		return strconv.Quote(string(b))
	}
	for _, r := range string(b) {
		if !unicode.IsPrint(r) {
			return strconv.Quote(string(b))
		}
	}
	return string(b)
}

// jsonKey is a key in JSON, as the HTTP API writes it: base64 if it is not UTF-8.
type jsonKey struct {
	Key         string `json:"key"`
	KeyEncoding string `json:"key_encoding,omitempty"`
}

func keyJSON(key string) jsonKey {
	if utf8.ValidString(key) {
		return jsonKey{Key: key}
	}
	return jsonKey{base64.StdEncoding.EncodeToString([]byte(key)), "base64"}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
