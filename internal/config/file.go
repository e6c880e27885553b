package config

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
)

// fileLayer reads a YAML file. Keys nobody knows are problems: a misspelt option that is silently
// ignored is a node that runs without it.
func fileLayer(path string, problems *problems) layer {
	l := newLayer()
	if path == "" {
		return l
	}
	source := "file " + path
	text, err := os.ReadFile(path)
	if err != nil {
		problems.add(source, "--config", "%v", err)
		return l
	}
	tree, err := yaml.Parser().Unmarshal(text)
	if err != nil {
		problems.add(source, "--config", "not valid YAML: %v", err)
		return l
	}
	l.flatten(tree, "", source, problems)
	return l
}

// flatten walks the sections of a file down to the options.
func (l layer) flatten(tree map[string]any, prefix, source string, problems *problems) {
	options, sections := keys()
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		key, v := prefix+name, tree[name]
		isOption, isSection := slices.Contains(options, key), slices.Contains(sections, key)
		// "http.port: 1" beside "http: {port: 2}" would make the outcome a matter of chance.
		if strings.Contains(name, ".") || !isOption && !isSection {
			problems.add(source, key, "unknown key%s", didYouMean(key, append(options, sections...)))
			continue
		}
		sub, isMap := v.(map[string]any)
		switch {
		case v == nil: // "http:" with everything below it commented out
		case isSection && isMap:
			l.flatten(sub, key+".", source, problems)
		case isSection:
			problems.add(source, key, "is a section, not a value")
		case isMap:
			problems.add(source, key, "is a value, not a section")
		default:
			l.values[key], l.names[key] = v, source
		}
	}
}

// keys lists the keys of all options and of all sections.
func keys() (options, sections []string) {
	for _, o := range Options() {
		options = append(options, o.Key)
		for i, c := range o.Key {
			if section := o.Key[:i]; c == '.' && !slices.Contains(sections, section) {
				sections = append(sections, section)
			}
		}
	}
	return options, sections
}

// didYouMean ends a message about an unknown name with the nearest known one, if one is near.
func didYouMean(name string, known []string) string {
	best, distance := "", 3
	if len(name) < 8 {
		distance = 2
	}
	for _, k := range known {
		d := editDistance(name, k)
		if d <= distance {
			best, distance = k, d-1
		}
	}
	for _, k := range known { // the section forgotten
		if best == "" && strings.HasSuffix(k, "."+name) {
			best = k
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
