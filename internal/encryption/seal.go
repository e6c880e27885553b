package encryption

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Sealer encrypts small pieces that are kept one by one. It is for any goroutine.
type Sealer struct{ aead cipher.AEAD }

// SealOverhead is by how many bytes Seal makes a piece longer.
const SealOverhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

// newSealer takes XChaCha20-Poly1305: its nonces are long enough to be random for
// ever, whatever is restored, copied or written again under the same key.
func newSealer(key []byte) *Sealer {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err) // only a key of another length
	}
	return &Sealer{aead}
}

// Seal appends plain, encrypted, to dst. where is bound to it: Open fails with any other.
func (s *Sealer) Seal(dst, plain, where []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, chacha20poly1305.NonceSizeX)...)
	nonce := dst[at:]
	_, _ = rand.Read(nonce)
	return s.aead.Seal(dst, nonce, plain, where)
}

// Open appends to dst what Seal was given. It returns ErrDamaged if sealed or
// where differ from what they were.
func (s *Sealer) Open(dst, sealed, where []byte) ([]byte, error) {
	if len(sealed) < SealOverhead {
		return nil, fmt.Errorf("%w: %d bytes", ErrDamaged, len(sealed))
	}
	nonce, box := sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:]
	plain, err := s.aead.Open(dst, nonce, box, where)
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

// derive makes the key for one purpose out of a key for many.
func derive(secret []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, "konsul "+purpose, KeySize)
	if err != nil {
		panic(err) // only a length that SHA-256 cannot give
	}
	return key
}
