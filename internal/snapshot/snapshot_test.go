package snapshot

import (
	"bytes"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

var testHeader = Header{ClusterID: "c1", Index: 1000, CreatedAt: 1700000000000000000, Keys: 5, Services: 2}

// randomRecords makes n records in key order.
func randomRecords(seed uint64, n, maxValue int) []Record {
	r := rand.New(rand.NewPCG(seed, 1))
	records := make([]Record, n)
	for i := range records {
		value := make([]byte, r.IntN(maxValue+1))
		for j := range value {
			value[j] = byte(r.Uint32())
		}
		records[i] = Record{Key: fmt.Appendf(nil, "kv:%06d", i), Value: value, Version: 1 + r.Uint64N(1000)}
	}
	return records
}

func encode(tb testing.TB, h Header, records []Record) ([]byte, Footer) {
	tb.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, h)
	if err != nil {
		tb.Fatal(err)
	}
	for _, r := range records {
		if err := w.Write(r); err != nil {
			tb.Fatal(err)
		}
	}
	f, err := w.Close()
	if err != nil {
		tb.Fatal(err)
	}
	if f.Size != int64(buf.Len()) || f.Records != uint64(len(records)) {
		tb.Fatalf("footer %+v, file of %d bytes, %d records", f, buf.Len(), len(records))
	}
	return buf.Bytes(), f
}

// decode reads all of r.
func decode(r io.Reader) (Header, []Record, Footer, error) {
	sr, err := NewReader(r)
	if err != nil {
		return Header{}, nil, Footer{}, err
	}
	var records []Record
	for {
		rec, err := sr.Next()
		if errors.Is(err, io.EOF) {
			return sr.Header(), records, sr.Footer(), nil
		}
		if err != nil {
			return sr.Header(), records, Footer{}, err
		}
		rec.Key, rec.Value = bytes.Clone(rec.Key), bytes.Clone(rec.Value)
		records = append(records, rec)
	}
}

func equalRecords(a, b []Record) bool {
	return slices.EqualFunc(a, b, func(x, y Record) bool {
		return bytes.Equal(x.Key, y.Key) && bytes.Equal(x.Value, y.Value) && x.Version == y.Version && x.Deleted == y.Deleted
	})
}

func TestRoundTrip(t *testing.T) {
	large := []Record{
		{Key: bytes.Repeat([]byte{0}, MaxKeyLen), Value: bytes.Repeat([]byte("v"), MaxValueLen), Version: 1},
		{Key: []byte("a"), Version: 1000},
	}
	for name, records := range map[string][]Record{
		"empty": nil, "one": randomRecords(1, 1, 10), "many blocks": randomRecords(2, 3000, 2000), "the largest": large,
	} {
		file, footer := encode(t, testHeader, records)
		for how, r := range map[string]io.Reader{
			"whole": bytes.NewReader(file), "by bytes": iotest.OneByteReader(bytes.NewReader(file)), "with EOF": iotest.DataErrReader(bytes.NewReader(file)),
		} {
			h, got, f, err := decode(r)
			if err != nil || h != testHeader || !equalRecords(got, records) || f != footer {
				t.Errorf("%s, read %s: %v, header %+v, %d records, footer %+v, want %+v", name, how, err, h, len(got), f, footer)
			}
		}
	}
}

func TestSameInputGivesSameBytes(t *testing.T) {
	a, _ := encode(t, testHeader, randomRecords(3, 500, 1000))
	b, _ := encode(t, testHeader, randomRecords(3, 500, 1000))
	if !bytes.Equal(a, b) {
		t.Fatal("two snapshots of one state differ")
	}
}

func TestIncrement(t *testing.T) {
	h := testHeader
	h.Since = 400
	records := []Record{
		{Key: []byte("a"), Version: 401, Deleted: true}, {Key: []byte("b"), Version: 1000, Value: []byte("x")},
	}
	file, _ := encode(t, h, records)
	got, recs, _, err := decode(bytes.NewReader(file))
	if err != nil || got.Since != 400 || !equalRecords(recs, records) {
		t.Fatal(got, recs, err)
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, records := range map[string][]Record{
		"an empty key":                   {{Version: 1}},
		"a long key":                     {{Key: make([]byte, MaxKeyLen+1), Version: 1}},
		"a large value":                  {{Key: []byte("a"), Value: make([]byte, MaxValueLen+1), Version: 1}},
		"version 0":                      {{Key: []byte("a")}},
		"a version after the index":      {{Key: []byte("a"), Version: 1001}},
		"a deletion in a whole snapshot": {{Key: []byte("a"), Version: 1, Deleted: true}},
		"a key twice":                    {{Key: []byte("a"), Version: 1}, {Key: []byte("a"), Version: 2}},
		"keys out of order":              {{Key: []byte("b"), Version: 1}, {Key: []byte("a"), Version: 2}},
	} {
		w, err := NewWriter(io.Discard, testHeader)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range records {
			if err = w.Write(r); err != nil && i < len(records)-1 {
				t.Fatalf("%s: record %d: %v", name, i, err)
			}
		}
		if err == nil {
			t.Errorf("%s was taken", name)
		}
		if _, cerr := w.Close(); cerr == nil {
			t.Errorf("%s: Close finished the file", name)
		}
	}
}

func TestWriterReportsAFailingDisk(t *testing.T) {
	full := errors.New("disk full")
	for _, room := range []int{0, 10, 1000, 100_000} {
		w, err := NewWriter(&limitedWriter{room, full}, testHeader)
		for _, r := range randomRecords(1, 300, 3000) {
			if err == nil {
				err = w.Write(r)
			}
		}
		if err == nil {
			_, err = w.Close()
		}
		if !errors.Is(err, full) {
			t.Errorf("room for %d bytes: %v", room, err)
		}
	}
}

// A writer whose caller has given up must not go on writing to what the caller then closes.
func TestAbortEndsTheWriting(t *testing.T) {
	slow := &slowWriter{began: make(chan struct{}, 1)}
	w, err := NewWriter(slow, testHeader)
	if err != nil {
		t.Fatal(err)
	}
	slow.pause = 50 * time.Millisecond
	for _, r := range randomRecords(1, blockTarget/500, 3000) {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	<-slow.began // a block is being written
	w.Abort()
	written := slow.written // what the race detector knows about, too
	if written == 0 {
		t.Fatal("Abort did not wait for the block that was being written")
	}
	if err := w.Write(Record{Key: []byte("~"), Version: 1}); err == nil {
		t.Error("a record was taken after Abort")
	}
	if _, err := w.Close(); err == nil {
		t.Error("the file was finished after Abort")
	}
	if slow.written != written {
		t.Error("something was written after Abort")
	}
}

type slowWriter struct {
	pause   time.Duration
	began   chan struct{}
	written int
}

func (w *slowWriter) Write(b []byte) (int, error) {
	if w.pause > 0 {
		select {
		case w.began <- struct{}{}:
		default:
		}
		time.Sleep(w.pause)
		w.written += len(b)
	}
	return len(b), nil
}

type limitedWriter struct {
	room int
	err  error
}

func (w *limitedWriter) Write(b []byte) (int, error) {
	if w.room -= len(b); w.room < 0 {
		return 0, w.err
	}
	return len(b), nil
}

// TestDamageIsFound cuts a file at every length and flips every byte.
func TestDamageIsFound(t *testing.T) {
	file, _ := encode(t, testHeader, randomRecords(4, 60, 60))
	for n := range file {
		if _, _, _, err := decode(bytes.NewReader(file[:n])); !isFormatError(err) {
			t.Fatalf("cut after %d of %d bytes: %v", n, len(file), err)
		}
	}
	for i := range file {
		for _, flip := range []byte{1, 0x80, 0xff} {
			damaged := bytes.Clone(file)
			damaged[i] ^= flip
			if _, _, _, err := decode(bytes.NewReader(damaged)); !isFormatError(err) {
				t.Fatalf("byte %d of %d flipped by %#x: %v", i, len(file), flip, err)
			}
		}
	}
	if _, _, _, err := decode(bytes.NewReader(append(bytes.Clone(file), 0))); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a byte too many: %v", err)
	}
}

// TestDamageIsFoundInLargeFiles samples a file of many blocks.
func TestDamageIsFoundInLargeFiles(t *testing.T) {
	file, _ := encode(t, testHeader, randomRecords(5, 3000, 800))
	r := rand.New(rand.NewPCG(5, 5))
	for range 60 {
		i := r.IntN(len(file))
		if _, _, _, err := decode(bytes.NewReader(file[:i])); !isFormatError(err) {
			t.Fatalf("cut after %d: %v", i, err)
		}
		damaged := bytes.Clone(file)
		damaged[i] ^= byte(1 + r.IntN(255))
		if _, _, _, err := decode(bytes.NewReader(damaged)); !isFormatError(err) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
}

func isFormatError(err error) bool {
	return errors.Is(err, ErrNotSnapshot) || errors.Is(err, ErrTooNew) || errors.Is(err, ErrCorrupt)
}

func TestWrongBeginnings(t *testing.T) {
	file, _ := encode(t, testHeader, nil)
	newer := bytes.Clone(file)
	newer[9]++
	for _, c := range []struct {
		file string
		want error
	}{
		{"", ErrNotSnapshot}, {"hello, this is not one", ErrNotSnapshot}, {"KONSNAP", ErrNotSnapshot},
		{"KONSNAP\x00", ErrCorrupt}, {string(newer), ErrTooNew},
	} {
		if _, err := NewReader(strings.NewReader(c.file)); !errors.Is(err, c.want) {
			t.Errorf("%.20q: %v, want %v", c.file, err, c.want)
		}
	}
}

// TestInputErrorsAreNotCorruption: a connection that breaks says nothing about
// the file.
func TestInputErrorsAreNotCorruption(t *testing.T) {
	file, _ := encode(t, testHeader, randomRecords(6, 100, 100))
	broken := errors.New("connection reset")
	for _, n := range []int{0, 5, 12, 20, 100, len(file) - 10, len(file)} {
		_, _, _, err := decode(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || isFormatError(err) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// TestHostileFileIsCheap: what a file claims is checked before it is allocated.
func TestHostileFileIsCheap(t *testing.T) {
	file, _ := encode(t, testHeader, nil)
	header := file[:len(file)-49]
	bomb, _ := encode(t, testHeader, nil)
	huge := binary.BigEndian.AppendUint32(append(bytes.Clone(header), frameBlock), 1<<31)
	huge = binary.BigEndian.AppendUint32(huge, 1<<31)
	zip := zipBomb(t, header)
	longHeader := append(bytes.Clone(bomb[:10]), 0xff, 0xff, 0xff, 0xff)
	for name, f := range map[string][]byte{"huge block": huge, "zip bomb": zip, "long header": longHeader} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, _, err := decode(bytes.NewReader(f))
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
			t.Errorf("%s: %d bytes allocated", name, n)
		}
	}
}

// zipBomb is a block that unpacks to far more than it says.
func zipBomb(t *testing.T, header []byte) []byte {
	t.Helper()
	w, err := NewWriter(io.Discard, testHeader)
	if err != nil {
		t.Fatal(err)
	}
	packed := w.out.enc.EncodeAll(make([]byte, 256<<20), nil)
	f := append(bytes.Clone(header), frameBlock)
	f = binary.BigEndian.AppendUint32(f, uint32(len(packed)))
	f = binary.BigEndian.AppendUint32(f, 1000)
	return append(f, packed...)
}

// FuzzReader: no input may panic, hang or pass as a snapshot that writing the
// same records does not give back.
func FuzzReader(f *testing.F) {
	for seed, n := range []int{0, 1, 20} {
		file, _ := encode(f, testHeader, randomRecords(uint64(seed), n, 50))
		f.Add(file)
		f.Add(file[:len(file)/2])
	}
	h := testHeader
	h.Since = 1
	file, _ := encode(f, h, []Record{{Key: []byte("a"), Version: 2, Deleted: true}})
	f.Add(file)
	f.Fuzz(func(t *testing.T, file []byte) {
		h, records, footer, err := decode(bytes.NewReader(file))
		if err != nil {
			if !isFormatError(err) {
				t.Fatalf("a strange error: %v", err)
			}
			return
		}
		if footer.Records != uint64(len(records)) || footer.Size != int64(len(file)) {
			t.Fatalf("footer %+v of %d records, %d bytes", footer, len(records), len(file))
		}
		again, _ := encode(t, h, records)
		if _, back, _, err := decode(bytes.NewReader(again)); err != nil || !equalRecords(back, records) {
			t.Fatalf("written again: %v", err)
		}
	})
}

// FuzzRecords feeds the inside of a block, past the checksums.
func FuzzRecords(f *testing.F) {
	f.Add(appendRecord(nil, Record{Key: []byte("a"), Value: []byte("b"), Version: 3}))
	f.Add([]byte{0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, block []byte) {
		sr := &Reader{header: testHeader, rest: block}
		for len(sr.rest) > 0 {
			before := len(sr.rest)
			r, err := sr.parse()
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatal(err)
				}
				return
			}
			if len(sr.rest) >= before || len(r.Key) == 0 || len(r.Key) > MaxKeyLen || len(r.Value) > MaxValueLen {
				t.Fatalf("%d bytes left of %d, record %+v", len(sr.rest), before, r)
			}
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	records := randomRecords(1, 10000, 512)
	b.ReportAllocs()
	for range b.N {
		w, err := NewWriter(io.Discard, testHeader)
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range records {
			if err := w.Write(r); err != nil {
				b.Fatal(err)
			}
		}
		f, err := w.Close()
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(f.Bytes))
	}
}

func BenchmarkRead(b *testing.B) {
	file, footer := encode(b, testHeader, randomRecords(1, 10000, 512))
	b.SetBytes(int64(footer.Bytes))
	b.ReportAllocs()
	for range b.N {
		r, err := NewReader(bytes.NewReader(file))
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
	}
}

// What hardly shrinks is stored, and what follows and shrinks is compressed again.
func TestIncompressibleBlocksAreStored(t *testing.T) {
	random := randomRecords(3, 40, 100_000)
	var size int
	for _, r := range random {
		size += len(r.Value)
	}
	text := make([]Record, 40)
	for i := range text {
		text[i] = Record{Key: fmt.Appendf(nil, "text:%06d", i), Value: bytes.Repeat([]byte("all the same "), 8000), Version: 7}
	}
	records := slices.Concat(random, text)
	b, f := encode(t, testHeader, records)
	if most := int64(size + size/100 + 400_000); f.Size > most || f.Size < int64(size) {
		t.Errorf("a file of %d bytes, of which %d cannot be compressed", f.Size, size)
	}
	if _, got, _, err := decode(bytes.NewReader(b)); err != nil || !equalRecords(got, records) {
		t.Fatalf("%d records of %d: %v", len(got), len(records), err)
	}
	whole := 0
	for _, r := range random { // as they are in a file: between two blocks' edges
		if bytes.Contains(b, r.Value[:len(r.Value)/4]) {
			whole++
		}
	}
	if whole < len(random)/2 {
		t.Errorf("%d of %d random values are stored as they are", whole, len(random))
	}
}

// The largest record behind a block that is all but full, and does not compress.
func TestTheLargestBlockCanBeRead(t *testing.T) {
	var buf bytes.Buffer
	w, err := NewWriter(&buf, Header{Index: 1 << 60})
	if err != nil {
		t.Fatal(err)
	}
	random := func(n int) []byte { b := make([]byte, n); _, _ = crand.Read(b); return b }
	first := random(blockTarget - 20)
	key := append([]byte{0xff}, random(MaxKeyLen-1)...)
	for _, r := range []Record{{Key: []byte("a"), Value: first, Version: 1 << 60}, {Key: key, Value: random(MaxValueLen), Version: 1 << 60}} {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Verify(&buf); err != nil {
		t.Error(err)
	}
}
