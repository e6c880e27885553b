package fsm

import (
	"fmt"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// A restore in steps. The backup's file goes through the log into the state, piece by
// piece, under keys of its own, so that every replica has it, or gets it as it gets
// everything else; the COMMIT (restorecommit.go) makes it the state.

// applyRestore applies every step but the COMMIT, which is no ordinary entry.
func applyRestore(tx *entryTx, payload []byte) (*command.Result, error) {
	var m command.Restore
	if err := command.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decoding restore: %w", err)
	}
	res := &command.Result{Index: tx.Index(), Succeeded: true}
	under, err := restoring(tx)
	if err != nil {
		return nil, err
	}
	switch m.Step {
	case command.Restore_BEGIN:
		if under.Id == m.Id {
			return res, nil // again
		}
		if err := forgetPieces(tx); err != nil {
			return nil, err
		}
		return res, setUnder(tx, &record.Restore{Id: m.Id, Node: m.Node})
	case command.Restore_CHUNK:
		switch {
		case under.Id != m.Id || m.Seq > under.Chunks:
			return lost(res), nil
		case m.Seq < under.Chunks:
			return res, nil // again
		}
		tx.Set(persistence.RestoreChunkKey(m.Seq), m.Data)
		under.Chunks++
		return res, setUnder(tx, under)
	case command.Restore_ABORT:
		if under.Id != m.Id {
			return res, nil
		}
		tx.Delete(persistence.RestoreKey())
		return res, forgetPieces(tx)
	default:
		return nil, fmt.Errorf("%w: restore step %d", command.ErrUndecodable, m.Step)
	}
}

// restoring is the restore under way, a zero record if there is none.
func restoring(tx *entryTx) (*record.Restore, error) {
	rec := new(record.Restore)
	b, found, err := tx.Get(persistence.RestoreKey())
	if err != nil || !found {
		return rec, err
	}
	if err := persistence.DecodeRecord(b, rec); err != nil {
		return nil, fmt.Errorf("reading the restore under way: %w", err)
	}
	return rec, nil
}

func setUnder(tx *entryTx, rec *record.Restore) error {
	b, err := persistence.EncodeRecord(rec)
	if err != nil {
		return fmt.Errorf("encoding the restore under way: %w", err)
	}
	tx.Set(persistence.RestoreKey(), b)
	return nil
}

func forgetPieces(tx *entryTx) error {
	if _, err := tx.DeletePrefix(persistence.RestoreChunkPrefix(), nil); err != nil {
		return fmt.Errorf("removing the pieces of a restore: %w", err)
	}
	return nil
}

func lost(res *command.Result) *command.Result {
	res.Code, res.Succeeded = command.Result_RESTORE_LOST, false
	return res
}

// withoutPieces leaves out what nobody watches. It keeps the order and reuses changes.
func withoutPieces(changes []persistence.Change) []persistence.Change {
	kept := changes[:0]
	for _, c := range changes {
		if !persistence.OfRestore(c.Key) {
			kept = append(kept, c)
		}
	}
	return kept
}
