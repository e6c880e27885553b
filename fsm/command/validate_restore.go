package command

import "crypto/sha256"

// MaxRestoreChunk is how many bytes of a backup's file one entry carries.
const MaxRestoreChunk = 512 << 10

func (m *Restore) validate() error {
	if err := checkName("id", m.Id, MaxNodeIDLen); err != nil {
		return err
	}
	switch m.Step {
	case Restore_BEGIN:
		return checkName("node", m.Node, MaxNodeIDLen)
	case Restore_CHUNK:
		if len(m.Data) == 0 || len(m.Data) > MaxRestoreChunk {
			return &LimitError{What: "data", Limit: MaxRestoreChunk, Got: len(m.Data)}
		}
		return nil
	case Restore_COMMIT:
		if len(m.Sha256) != sha256.Size {
			return &InvalidError{Field: "sha256", Problem: "is not one"}
		}
		return nil
	case Restore_ABORT:
		return nil
	default:
		return &InvalidError{Field: "step", Problem: "is missing or unknown"}
	}
}
