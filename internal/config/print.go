package config

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Print writes the configuration as YAML that reads back as the same, each value with its source in
// a comment.
func (r *Result) Print(w io.Writer) error {
	var b strings.Builder
	var open []string
	for _, o := range Options() {
		path := strings.Split(o.Key, ".")
		sections, name := path[:len(path)-1], path[len(path)-1]
		for depth, section := range sections {
			if depth >= len(open) || open[depth] != section {
				fmt.Fprintf(&b, "%s%s:\n", indent(depth), section)
				open = append(open[:depth:depth], section)
			}
		}
		open = open[:len(sections)]
		line := fmt.Sprintf("%s%s: %s", indent(len(sections)), name, yamlValue(o, o.Get(&r.Config)))
		fmt.Fprintf(&b, "%-44s # %s\n", line, r.sources[o.Key])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func indent(depth int) string { return strings.Repeat("  ", depth) }

// yamlValue quotes whatever a YAML reader could take for something else. Go's quoting of these
// values is YAML's.
func yamlValue(o Option, v any) string {
	switch v := v.(type) {
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case string:
		return strconv.Quote(v)
	default:
		return format(v)
	}
}
