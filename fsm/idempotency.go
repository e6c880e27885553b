package fsm

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// Answers given under an idempotency key are part of the replicated state, so
// that a client may retry after a leader change, a restart or a restore:
//
//	sys:idem:<key>        request hash, encoded Result, index
//	sys:idem-queue:<seq>  key and size; seq is dense, oldest first
//	sys:idem-window       count, bytes, first seq
//
// Remembering and forgetting follow from the log alone: the oldest answers go
// as soon as a new one makes the window pass command.IdempotencyMaxAnswers or
// command.IdempotencyMaxBytes.

// applyOnce applies an entry that carries an idempotency key, or answers with
// what the first entry under that key was answered. A refusal (CAS_CONFLICT)
// is an answer as well: a retry must not succeed where the first try failed,
// because the client may have acted on the failure.
func applyOnce(tx *entryTx, key string, e command.Entry, h handler) (*command.Result, error) {
	hash := requestHash(e)
	b, found, err := tx.Get(persistence.IdempotencyKey(key))
	if err != nil {
		return nil, fmt.Errorf("reading idempotency key: %w", err)
	}
	if found {
		return rememberedResult(tx, b, hash[:])
	}
	res, err := h(tx, e.Payload)
	if err != nil {
		return nil, err
	}
	return res, remember(tx, key, hash[:], res)
}

// requestHash identifies what was asked for: type and payload, not the header. Nor
// does it matter which node was asked to register a service or to make a session: a
// client that got no answer tries again elsewhere.
func requestHash(e command.Entry) (sum [sha256.Size]byte) {
	h := sha256.New()
	h.Write([]byte{byte(e.Type)})
	payload := e.Payload
	switch e.Type {
	case command.Type_TYPE_SERVICE_SET, command.Type_TYPE_SESSION_CREATE:
		payload = without(payload, fieldNode)
	}
	h.Write(payload)
	h.Sum(sum[:0])
	return sum
}

// fieldNode is the number of node in ServiceSet and in SessionCreate.
const fieldNode = 3

// without is an encoded message less one of its fields.
func without(message []byte, field protowire.Number) []byte {
	kept := make([]byte, 0, len(message))
	for len(message) > 0 {
		number, _, n := protowire.ConsumeField(message)
		if n < 0 {
			return append(kept, message...) // malformed: the handler says so
		}
		if number != field {
			kept = append(kept, message[:n]...)
		}
		message = message[n:]
	}
	return kept
}

func rememberedResult(tx *entryTx, stored, hash []byte) (*command.Result, error) {
	var rec record.Idempotency
	if err := persistence.DecodeRecord(stored, &rec); err != nil {
		return nil, fmt.Errorf("reading idempotency key: %w", err)
	}
	if subtle.ConstantTimeCompare(rec.RequestHash, hash) != 1 {
		return &command.Result{Code: command.Result_KEY_REUSED, Index: tx.Index()}, nil
	}
	res := new(command.Result)
	if err := proto.Unmarshal(rec.Result, res); err != nil {
		return nil, fmt.Errorf("decoding remembered result: %w", err)
	}
	return res, nil
}

// remember stores an answer and forgets the oldest ones over the bounds.
func remember(tx *entryTx, key string, hash []byte, res *command.Result) error {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(res)
	if err != nil {
		return fmt.Errorf("encoding result: %w", err)
	}
	window, err := readWindow(tx)
	if err != nil {
		return err
	}
	err = setRecord(tx, persistence.IdempotencyKey(key), &record.Idempotency{
		RequestHash: hash, Result: encoded, Index: tx.Index(),
	})
	if err != nil {
		return err
	}
	size := uint64(len(key) + len(encoded))
	err = setRecord(tx, persistence.IdempotencyQueueKey(window.First+window.Count),
		&record.IdempotencyQueue{Key: key, Bytes: size})
	if err != nil {
		return err
	}
	window.Count++
	window.Bytes += size
	for window.Count > command.IdempotencyMaxAnswers || window.Bytes > command.IdempotencyMaxBytes {
		if err := forgetOldest(tx, window); err != nil {
			return err
		}
	}
	return setRecord(tx, persistence.IdempotencyWindowKey(), window)
}

func readWindow(tx *entryTx) (*record.IdempotencyWindow, error) {
	window := new(record.IdempotencyWindow)
	b, found, err := tx.Get(persistence.IdempotencyWindowKey())
	if err != nil {
		return nil, fmt.Errorf("reading idempotency window: %w", err)
	}
	if !found {
		return window, nil
	}
	if err := persistence.DecodeRecord(b, window); err != nil {
		return nil, fmt.Errorf("reading idempotency window: %w", err)
	}
	return window, nil
}

func forgetOldest(tx *entryTx, window *record.IdempotencyWindow) error {
	stored := persistence.IdempotencyQueueKey(window.First)
	b, found, err := tx.Get(stored)
	if err != nil {
		return fmt.Errorf("reading idempotency queue: %w", err)
	}
	if !found {
		return fmt.Errorf("idempotency queue: sequence number %d is missing", window.First)
	}
	var oldest record.IdempotencyQueue
	if err := persistence.DecodeRecord(b, &oldest); err != nil {
		return fmt.Errorf("reading idempotency queue: %w", err)
	}
	tx.Delete(stored)
	tx.Delete(persistence.IdempotencyKey(oldest.Key))
	window.First++
	window.Count--
	window.Bytes -= oldest.Bytes
	return nil
}
