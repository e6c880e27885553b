package persistence

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestChangesAreWholeIndexes: one index that is larger than any limit comes alone
// and whole.
func TestChangesAreWholeIndexes(t *testing.T) {
	db := openTest(t, Options{InMemory: true, Badger: small})
	put(t, db, 1, "kv:before", "x")
	var pairs []string
	for i := range 500 {
		pairs = append(pairs, fmt.Sprintf("kv:k%03d", i), "x")
	}
	put(t, db, 2, pairs...)
	put(t, db, 3, "kv:after", "x")
	var sizes []int
	for after, more := uint64(0), true; more; {
		var page []Change
		var err error
		if page, more, err = changesPage(context.Background(), db, []byte("kv:"), after, 1<<40, 10); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page))
		after = page[len(page)-1].Index
	}
	if fmt.Sprint(sizes) != "[1 500 1]" {
		t.Fatal(sizes)
	}
}

// A scan goes over all that is newer than its start. Who is far behind does not do that for
// every page.
func TestABacklogIsReadInFewScans(t *testing.T) {
	db := filled(t, Options{InMemory: true, Badger: small}, 5000)
	b := db.Backlog(nil)
	page, complete, err := b.Next(t.Context(), 0, 5000, 100)
	if err != nil {
		t.Fatal(err)
	}
	read := len(page)
	for range cap(db.scans) { // nobody can scan any more
		leave, err := db.enterHistory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer leave()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for complete < 5000 {
		if page, complete, err = b.Next(ctx, complete, 5000, 100); err != nil {
			t.Fatal(err)
		}
		read += len(page)
	}
	if read != 5000 {
		t.Errorf("%d of 5000 changes", read)
	}
}

func TestChangesBoundTheirBytes(t *testing.T) {
	db := openTest(t, Options{InMemory: true, Badger: small})
	for i := uint64(1); i <= 40; i++ {
		put(t, db, i, fmt.Sprintf("kv:%d", i), strings.Repeat("v", 500_000))
	}
	page, more, err := changesPage(context.Background(), db, nil, 0, 40, 1000)
	if err != nil || !more || len(page) < 10 || len(page) > 17 {
		t.Fatalf("%d changes of half a MB, more: %v, %v", len(page), more, err)
	}
	page, more, err = changesPage(context.Background(), db, nil, page[len(page)-1].Index, 18, 1000)
	if err != nil || more || len(page) == 0 || page[len(page)-1].Index != 18 {
		t.Fatalf("%d changes, more: %v, %v", len(page), more, err)
	}
}

func TestScansOfTheHistoryEnd(t *testing.T) {
	db := filled(t, Options{InMemory: true, Badger: small}, 2000)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := changesPage(ctx, db, nil, 0, 2000, 10); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, _, err := db.Digest(ctx, 2000); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// With every place taken, others wait for theirs.
	for range cap(db.scans) {
		leave, err := db.enterHistory(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer leave()
	}
	if _, _, err := changesPage(ctx, db, nil, 0, 2000, 10); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if changed, err := db.ChangedSince(ctx, []byte("kv:k1"), true, 5); !changed || err != nil {
		t.Fatal("an exact key needs no place", changed, err)
	}
}

// A Backlog is never complete up to what is not published.
func TestABacklogEndsAtThePublished(t *testing.T) {
	db := openTest(t, Options{InMemory: true, Badger: small})
	db.Publish(10)
	_, complete, err := db.Backlog(nil).Next(context.Background(), 10, 20, 100)
	if err != nil || complete > 10 {
		t.Errorf("complete up to %d (%v), but only 10 is published", complete, err)
	}
}
