// Package encryption keeps what Konsul has on disk from those who have the disk
// but not the key: master keys from a key file, the data key of a data directory,
// sealed log entries and encrypted files. DESIGN.md says what is protected and what is not.
package encryption

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// KeySize is the length of every key, in bytes.
const KeySize = 32

// maxKeys and maxKeyFile bound a key file: one key in use and the ones before it.
const (
	maxKeys    = 16
	maxKeyFile = 64 << 10
)

var (
	// ErrBadKeyFile is wrapped by every error about the key file itself.
	ErrBadKeyFile = errors.New("bad key file")
	// ErrNoKey means that what is to be read is encrypted and no key was given.
	ErrNoKey = errors.New("encrypted, but no key is configured (persistence.encryption.key_file)")
	// ErrWrongKey means that none of the keys given is the one it was encrypted with.
	ErrWrongKey = errors.New("encrypted with another key")
	// ErrNotEncrypted means that a key was given for a directory that holds data in the clear.
	ErrNotEncrypted = errors.New("holds data that is not encrypted")
	// ErrDamaged means that what was encrypted has been changed or cut since.
	ErrDamaged = errors.New("encrypted data is damaged")
)

// masterKey is one line of a key file.
type masterKey struct {
	id     string
	secret []byte
}

// Keys are the master keys of a key file. The first encrypts; all of them
// decrypt, so that a key can be replaced without losing what the one before it
// encrypted. They are for any goroutine.
type Keys struct {
	list []masterKey
	// Exposed says that users other than the owner can read the file.
	Exposed bool
}

// NewKeyLine makes a random key as a line of a key file.
func NewKeyLine() string {
	secret := make([]byte, KeySize)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the process instead
	return base64.StdEncoding.EncodeToString(secret) + "\n"
}

// ReadKeyFile reads the key file at path: one key a line, 32 bytes in base64, the
// one in use first; empty lines and those with # are left out. Errors wrap
// ErrBadKeyFile, and never quote the file.
func ReadKeyFile(path string) (*Keys, error) {
	keys, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrBadKeyFile, path, err)
	}
	return keys, nil
}

func readKeyFile(path string) (*Keys, error) {
	f, err := os.Open(path)
	if err != nil {
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Mode().Perm()&0o022 != 0:
		return nil, errors.New("other users can write to it: chmod 600")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxKeyFile)
	}
	keys, err := parseKeys(text)
	if err != nil {
		return nil, err
	}
	keys.Exposed = info.Mode().Perm()&0o044 != 0
	return keys, nil
}

func parseKeys(text []byte) (*Keys, error) {
	keys := new(Keys)
	for i, line := range bytes.Split(text, []byte("\n")) {
		s := strings.TrimSpace(string(line))
		if s == "" || strings.HasPrefix(s, "#") {
			continue
		}
		secret, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil || len(secret) != KeySize {
			return nil, fmt.Errorf("line %d is not %d bytes in base64; make a key with: konsul keygen", i+1, KeySize)
		}
		key := masterKey{id: keyID(secret), secret: secret}
		if keys.find(key.id) != nil {
			return nil, fmt.Errorf("line %d repeats a key", i+1)
		}
		if keys.list = append(keys.list, key); len(keys.list) > maxKeys {
			return nil, fmt.Errorf("more than %d keys", maxKeys)
		}
	}
	if len(keys.list) == 0 {
		return nil, errors.New("no key in it; make one with: konsul keygen")
	}
	return keys, nil
}

// keyID names a key without telling it.
func keyID(secret []byte) string {
	sum := sha256.Sum256(append([]byte("konsul master key "), secret...))
	return hex.EncodeToString(sum[:8])
}

// ID names the key that encrypts. It is no secret.
func (k *Keys) ID() string { return k.list[0].id }

func (k *Keys) find(id string) *masterKey {
	for i := range k.list {
		if k.list[i].id == id {
			return &k.list[i]
		}
	}
	return nil
}
