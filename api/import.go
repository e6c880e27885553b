package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/neogan74/konsul/api/internal/jsonwire"
	"github.com/neogan74/konsul/fsm/command"
)

const (
	// maxRecord bounds one key or value of an import as JSON, which may spend six bytes
	// on one.
	maxRecord = maxPutBody
	// chunkBytes bounds the keys and values of one entry of the log, with room for what
	// stands around them.
	chunkBytes = command.MaxEntryBytes - 64*command.MaxOps
	// readPatience bounds the wait for the next bytes of an import.
	readPatience = time.Minute
)

// conflict is what an import does with a key that exists.
type conflict string

const (
	overwrite conflict = "overwrite"
	skip      conflict = "skip"
	failAtIt  conflict = "fail"
)

// importData is POST /import. The body is read record by record and applied in chunks,
// each one entry of the log; the next is read when the one before is acknowledged. So it
// takes the memory of a chunk, whatever its length, and is not atomic: an error says how
// far it came. Importing again is harmless.
func (c *call) importData() error {
	im := importer{c: c, conflict: overwrite}
	if err := im.takeQuery(); err != nil {
		return err
	}
	if ct := c.r.Header.Get("Content-Type"); ct != "" && !isJSON(ct, mediaForm) {
		return unsupported("content type %q is not supported: send application/json", ct)
	}
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return unsupported("content encoding %q is not supported", enc)
	}
	if len(c.r.Header["Idempotency-Key"]) > 0 {
		return badRequest("Idempotency-Key is not for an import, which is many writes; importing again is harmless")
	}
	leave, err := c.enterTransfer()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := c.waitContext()
	defer cancel()
	im.ctx = ctx
	im.in = jsonwire.NewStream(&patientBody{c: c}, maxRecord)
	if err := im.run(); err != nil {
		return im.failure(err)
	}
	return im.answer()
}

func (im *importer) takeQuery() (err error) {
	q := &im.c.query
	if im.dry, err = q.flag("dry_run"); err != nil {
		return err
	}
	if policy, given := q.text("on_conflict"); given {
		im.conflict = conflict(policy)
	}
	switch im.conflict {
	case overwrite, skip, failAtIt:
	default:
		return badRequest("parameter on_conflict must be overwrite, skip or fail")
	}
	prefix, _ := q.text("prefix")
	im.prefix = []byte(prefix)
	if err := checkKeyLen("parameter prefix", len(prefix)); err != nil {
		return err
	}
	return q.done()
}

// patientBody is the request's body; each read has its own deadline, and a failure is
// known as one of the connection.
type patientBody struct{ c *call }

func (b *patientBody) Read(p []byte) (int, error) {
	if b.c.s.draining() {
		return 0, errDraining
	}
	_ = http.NewResponseController(b.c.w).SetReadDeadline(time.Now().Add(readPatience))
	n, err := b.c.r.Body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.c.bodyError(err)
	}
	return n, err
}

// importer reads the document and applies it.
type importer struct {
	c        *call
	ctx      context.Context
	in       *jsonwire.Stream
	dry      bool
	conflict conflict
	prefix   []byte

	// The chunk being gathered. arena holds its keys and values and never moves.
	ops   []*command.Op
	slab  []command.Op
	arena []byte

	// What was applied; in a dry run, what would have been.
	keys, services, skipped uint64
	index                   uint64 // of the last entry applied

	// The record being read, for errors.
	record   []byte
	recordAt int64
	inRecord bool
}

// sections are the members of the document.
var sections = [...]string{"kv", "kv_base64", "services"}

func (im *importer) run() error {
	im.arena = make([]byte, 0, chunkBytes)
	im.slab = make([]command.Op, command.MaxOps)
	var seen [len(sections)]bool
	members := [len(sections)]func(name []byte) error{
		func(key []byte) error { return im.key(key, false) },
		func(key []byte) error { return im.key(key, true) },
		im.service,
	}
	err := im.in.Object(func(name []byte) error {
		for i, section := range sections {
			if string(name) != section {
				continue
			}
			if seen[i] {
				return badRequest("field %q is given twice", section)
			}
			seen[i] = true
			return im.in.Object(members[i])
		}
		return badRequest("unknown field %q: there are kv, kv_base64 and services", clipName(name))
	})
	if err == nil {
		err = im.in.End()
	}
	if err != nil {
		return err
	}
	return im.flush()
}

// clipName keeps a hostile name from filling an answer.
func clipName(name []byte) []byte { return name[:min(len(name), 64)] }

// key takes one member of kv or kv_base64.
func (im *importer) key(name []byte, coded bool) error {
	im.begin(name)
	k := blob{bytes: im.record, given: true}
	if coded {
		k.encoding = "base64"
	}
	key, err := k.decode("key")
	if err != nil {
		return err
	}
	im.record = append(im.record[:0], key...)
	if err := checkKey("key", im.record); err != nil {
		return err
	}
	r, err := im.in.Value()
	if err != nil {
		return err
	}
	v, err := importValue(r)
	if err != nil {
		return err
	}
	if bytes.HasPrefix(im.record, im.prefix) {
		err = im.add(im.record, v)
	}
	im.inRecord = err != nil && im.inRecord
	return err
}

// begin notes the record that errors are about.
func (im *importer) begin(name []byte) {
	im.record = append(im.record[:0], name...)
	im.recordAt = im.in.Offset()
	im.inRecord = true
}

// keyValue is what a key has.
type keyValue struct {
	value []byte
	flags uint64
	ttl   int64
}

// importValue reads a string, or the object that /export writes.
func importValue(r *jsonwire.Reader) (kv keyValue, err error) {
	var v blob
	if r.Kind() != '{' {
		err = v.read(r)
	} else {
		err = r.Object(func(name []byte) (err error) {
			switch string(name) {
			case "value":
				return v.read(r)
			case "encoding":
				return v.readEncoding(r)
			case "flags":
				kv.flags, err = r.Uint()
				return err
			case "ttl":
				kv.ttl, err = readDuration(r, "ttl")
				return err
			}
			return r.Unknown(name)
		})
	}
	if err == nil {
		err = r.End()
	}
	switch {
	case err != nil:
		return kv, err
	case !v.given:
		return kv, badRequest("value is missing")
	}
	if kv.value, err = v.decode("the value"); err != nil {
		return kv, err
	}
	if err := checkTTL("ttl", kv.ttl); err != nil {
		return kv, err
	}
	return kv, checkValue("value", kv.value)
}

func (im *importer) answer() error {
	c := im.c
	message := "Import completed successfully"
	if im.dry {
		message = "Dry run: nothing was imported"
	}
	leader, _, _ := c.s.node.Leader()
	c.describe(max(im.index, c.s.node.Published()), leader)
	c.out = append(append(append(c.out[:0], `{"message":"`...), message...), '"')
	c.out = appendUint(c.out, `,"kv":`, im.keys)
	c.out = appendUint(c.out, `,"services":`, im.services)
	c.out = appendUint(c.out, `,"skipped":`, im.skipped)
	c.out = append(c.out, '}')
	c.prompt()
	return c.json(http.StatusOK)
}

// prompt gives the answer to a request that took long its own time.
func (c *call) prompt() {
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(c.s.cfg.SendTimeout))
}

// failure says where the import ended and how far it had come. Chunks before the one
// with the mistake are applied, and it alone is not.
func (im *importer) failure(err error) error {
	if errors.Is(err, errClientGone) {
		return err
	}
	var syntax *jsonwire.SyntaxError
	var long *jsonwire.TooLongError
	if errors.As(err, &long) {
		err = tooLarge("value", command.MaxValueLen) // even if all of it was escaped
	}
	f := *im.c.failure(err)
	offset := im.recordAt
	if errors.As(err, &syntax) {
		offset = int64(syntax.Offset)
		f.text = "malformed JSON: " + syntax.Problem()
	}
	if f.status == http.StatusBadRequest || f.status == http.StatusRequestEntityTooLarge {
		line := im.in.Line(offset)
		where := fmt.Sprintf("line %d (byte %d)", line, offset)
		if im.inRecord {
			f.key = bytes.Clone(im.record)
			where += fmt.Sprintf(", %q", clipName(im.record))
		}
		f.text = where + ": " + f.text
		f.numbers = append(f.numbers[:len(f.numbers):len(f.numbers)], number{"line", uint64(line)}, number{"offset", uint64(offset)})
	}
	f.text += "; " + im.sofar(f.code == "outcome_unknown")
	f.numbers = append(f.numbers[:len(f.numbers):len(f.numbers)],
		number{"kv", im.keys}, number{"services", im.services}, number{"skipped", im.skipped})
	im.c.prompt()
	return &f
}

// sofar says what was done before an import failed.
func (im *importer) sofar(unknown bool) string {
	switch done := im.keys + im.services; {
	case im.dry:
		return "nothing was imported (dry run)"
	case unknown:
		return fmt.Sprintf("%d keys and %d services were imported, and up to %d more may have been", im.keys, im.services, command.MaxOps)
	case done == 0:
		return "nothing was imported"
	}
	return fmt.Sprintf("%d keys and %d services were imported before", im.keys, im.services)
}
