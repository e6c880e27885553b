package client

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// OpResult is what one operation of a transaction did. Which fields are set depends
// on the operation.
type OpResult struct {
	// Found: of a get, the key was there, and Entry is it.
	Found bool
	Entry Entry
	// Deleted is how many keys a delete or delete_prefix removed.
	Deleted int

	raw json.RawMessage
}

// MarshalJSON gives the result as the server wrote it.
func (r OpResult) MarshalJSON() ([]byte, error) {
	if r.raw == nil {
		return []byte("{}"), nil
	}
	return r.raw, nil
}

// UnmarshalJSON reads one of "results".
func (r *OpResult) UnmarshalJSON(b []byte) error {
	var j struct {
		Found   *bool           `json:"found"`
		Value   *string         `json:"value"`
		Deleted json.RawMessage `json:"deleted"`
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	if err := json.Unmarshal(b, &r.Entry); err != nil {
		return err
	}
	r.raw = bytes.Clone(b)
	r.Found = j.Value != nil
	if j.Found != nil {
		r.Found = *j.Found
	}
	switch {
	case len(j.Deleted) == 0, bytes.Equal(j.Deleted, []byte("false")):
	case bytes.Equal(j.Deleted, []byte("true")):
		r.Deleted = 1
	default:
		if err := json.Unmarshal(j.Deleted, &r.Deleted); err != nil {
			return fmt.Errorf("decoding deleted: %w", err)
		}
	}
	return nil
}
