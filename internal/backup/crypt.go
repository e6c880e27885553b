package backup

import (
	"bufio"
	"io"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/snapshot"
)

// Encrypt makes backups saved from now on encrypted, and those that are readable.
// To be called before the directory is in use; nil keys change nothing.
func (d *Dir) Encrypt(keys *encryption.FileKeys) { d.keys = keys }

// Keys are those given to Encrypt, nil for none.
func (d *Dir) Keys() *encryption.FileKeys {
	if d == nil {
		return nil
	}
	return d.keys
}

// Seal returns what encrypts what is written to it, to w, and must be closed; without
// keys it is w itself. Nothing is written to w before the first byte is.
func Seal(w io.Writer, keys *encryption.FileKeys) io.WriteCloser {
	if keys == nil {
		return plain{w}
	}
	return &sealing{to: w, keys: keys}
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

type sealing struct {
	to   io.Writer
	keys *encryption.FileKeys
	w    io.WriteCloser
}

func (s *sealing) Write(b []byte) (int, error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	return s.w.Write(b)
}

func (s *sealing) begin() (err error) {
	if s.w == nil {
		s.w, err = s.keys.Writer(s.to)
	}
	return err
}

// Close writes the end, without which the file is damaged.
func (s *sealing) Close() error {
	if err := s.begin(); err != nil {
		return err
	}
	return s.w.Close()
}

// Unseal returns the backup in r, decrypted if it is encrypted. Errors, here or while
// reading: encryption.ErrNoKey, ErrWrongKey, ErrDamaged.
func Unseal(r io.Reader, keys *encryption.FileKeys) (io.Reader, error) {
	b := bufio.NewReaderSize(r, snapshot.BufferSize)
	head, err := b.Peek(encryption.HeadSize)
	switch {
	case !encryption.Encrypted(head):
		_ = err // whoever reads on finds out what is wrong
		return b, nil
	case keys == nil:
		return nil, encryption.ErrNoKey
	}
	return keys.Reader(b)
}
