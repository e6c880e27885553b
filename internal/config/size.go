package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written like 64MB. Units are powers of 1024 with or without the i
// (64MB = 64MiB = 67,108,864 bytes), as storage engines count; a bare number is bytes.
type Size int64

// units from the largest to the smallest, so that printing finds the largest exact one first.
var units = []struct {
	name  string
	bytes int64
}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}}

// ParseSize reads a size. Fractions are not taken: every size in use is a whole number of some unit.
func ParseSize(s string) (Size, error) {
	digits := strings.TrimSpace(strings.ToUpper(s))
	factor := int64(1)
	unit := strings.TrimLeft(digits, "0123456789")
	digits = strings.TrimSuffix(digits, unit)
	unit = strings.TrimSpace(unit)
	known := unit == "" || unit == "B"
	for _, u := range units {
		if unit == u.name || unit == u.name[:1] || unit == u.name[:1]+"IB" {
			factor, known = u.bytes, true
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if !known || err != nil || n > math.MaxInt64/factor {
		return 0, fmt.Errorf("%q is not a size like 64MB", s)
	}
	return Size(n * factor), nil
}

// String prints the size in the largest unit that divides it, so that it reads back as the same number.
func (s Size) String() string {
	for _, u := range units {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
