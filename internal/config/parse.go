package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parse turns what a layer says (text from flags and the environment, a scalar or list from YAML)
// into the type of the option's field. The error says what is wrong with the value; the caller adds
// which option and which layer.
func (o Option) parse(raw any) (any, error) {
	switch o.Kind {
	case KindString:
		return parseString(raw)
	case KindList:
		return parseList(raw)
	}
	s := strings.TrimSpace(fmt.Sprint(raw))
	switch o.Kind {
	case KindBool:
		return parseBool(s)
	case KindInt:
		n, err := strconv.Atoi(s)
		return n, orSay(err, "%q is not a whole number", s)
	case KindUint:
		n, err := strconv.ParseUint(s, 10, 64)
		return n, orSay(err, "%q is not a whole number of at least 0", s)
	case KindDuration:
		d, err := time.ParseDuration(s)
		return d, orSay(err, "%q is not a duration like 500ms, 30s or 5m", s)
	default:
		return ParseSize(s)
	}
}

// parseString insists on text: an unquoted YAML number has already lost what was written (007 is 7).
func parseString(raw any) (string, error) {
	s, ok := raw.(string)
	if !ok {
		return "", fmt.Errorf("%v is not text; put it in quotes", raw)
	}
	return s, nil
}

// parseBool takes true and false and nothing like them: YAML versions disagree about yes, on and y.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is not true or false", s)
}

// parseList takes a YAML list or text separated by commas. Empty parts are dropped, so a trailing
// comma left by a template does no harm.
func parseList(raw any) ([]string, error) {
	var parts []string
	switch v := raw.(type) {
	case string:
		parts = strings.Split(v, ",")
	case []any:
		for _, item := range v {
			s, err := parseString(item)
			if err != nil {
				return nil, err
			}
			parts = append(parts, s)
		}
	default:
		return nil, fmt.Errorf("%v is not a list", raw)
	}
	var list []string
	for _, p := range parts {
		if p = strings.TrimSpace(p); p != "" {
			list = append(list, p)
		}
	}
	return list, nil
}

// orSay replaces a parser's error by one for people.
func orSay(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// format is the inverse of parse for scalars: what --print-config and the help show.
func format(v any) string {
	switch v := v.(type) {
	case time.Duration:
		return formatDuration(v)
	case []string:
		return strings.Join(v, ",")
	default:
		return fmt.Sprint(v)
	}
}

// formatDuration drops the zero parts that Duration.String adds (5m0s is 5m).
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
