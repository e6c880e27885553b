package fsmtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// Dump lists the registry as it is stored at an index, without the time, one line for
// each record, sorted: services, checks, sessions, and everything the system keeps
// about deadlines and locks.
func Dump(t testing.TB, db *persistence.DB, index uint64) []string {
	t.Helper()
	view, err := db.ViewAt(index)
	if err != nil {
		t.Fatalf("view at %d: %v", index, err)
	}
	defer view.Close()
	var lines []string
	for _, prefix := range []string{persistence.ServicePrefix, persistence.CheckPrefix, persistence.SessionPrefix,
		"sys:lease:", "sys:due:", "sys:gone:", "sys:delay:", "sys:held:"} {
		err := view.Scan([]byte(prefix), nil, func(key, value []byte) error {
			line, err := dumpRecord(prefix, key, value)
			lines = append(lines, line)
			return err
		})
		if err != nil {
			t.Fatalf("reading %q at %d: %v", prefix, index, err)
		}
	}
	slices.Sort(lines)
	return lines
}

func dumpRecord(prefix string, key, value []byte) (string, error) {
	var m proto.Message
	switch prefix {
	case persistence.ServicePrefix:
		m = new(record.Service)
	case persistence.CheckPrefix:
		m = new(record.Check)
	case persistence.SessionPrefix:
		m = new(record.Session)
	case "sys:due:":
		at, subject, _ := persistence.DueAt(key)
		return dumpDue(at, string(subject)), nil
	case "sys:held:":
		return string(key), nil
	default:
		l := new(record.Lease)
		err := persistence.DecodeRecord(value, l)
		return dumpLease(string(key), l.Deadline, l.Indexed), err
	}
	err := persistence.DecodeRecord(value, m)
	return dumpMessage(string(key), m), err
}

func dumpDue(at int64, subject string) string { return fmt.Sprintf("sys:due:%d %s", at, subject) }

func dumpLease(key string, deadline, indexed int64) string {
	return fmt.Sprintf("%s %d %d", key, deadline, indexed)
}

func dumpMessage(key string, m proto.Message) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return strings.TrimSpace(fmt.Sprintf("%s %x %v", key, b, err))
}
