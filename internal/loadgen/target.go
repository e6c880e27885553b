package loadgen

import (
	"context"
	"errors"
)

// Kind is what an operation does.
type Kind uint8

// The kinds of operations.
const (
	Get Kind = iota
	Put
	Batch // a put of many keys, all or none
	kinds
)

func (k Kind) String() string {
	switch k {
	case Put:
		return "put"
	case Batch:
		return "batch"
	default:
		return "get"
	}
}

// Op is one operation.
type Op struct {
	Kind Kind
	// Key is the number of the key, from 0 up to Config.Keys; the target names it.
	Key uint64
	// Value is what a put writes; it must not be kept or changed.
	Value []byte
	// Items are what a batch writes, instead of Key and Value; the same goes for them. No
	// key is there twice.
	Items []Item

	// counted: it is part of the measurement, not of the warm-up.
	counted bool
}

// Item is one key of a batch.
type Item struct {
	Key   uint64
	Value []byte
}

// Worker is one client of a store, with a connection of its own. One goroutine uses it.
type Worker interface {
	// Do runs one operation to its end. After an error the worker must be usable again:
	// it reconnects by itself. The context is that of the whole run, always the same.
	Do(ctx context.Context, op *Op) error
	Close() error
}

// Target makes workers.
type Target interface {
	// NewWorker connects the client with this number, from 0. The context is that of
	// the whole run; when it ends, a Do under way must return soon.
	NewWorker(ctx context.Context, id int) (Worker, error)
}

// CodedError is an error that says under which name it is counted.
type CodedError interface {
	error
	ErrorCode() string
}

func codeOf(err error) string {
	var coded CodedError
	switch {
	case errors.As(err, &coded):
		return coded.ErrorCode()
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "error"
}
