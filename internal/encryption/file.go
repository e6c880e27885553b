package encryption

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// Encrypted files are in the format of age (age-encryption.org/v1): a header with
// the file's own key, sealed, then ChaCha20-Poly1305 in chunks of 64 KiB, so that they
// are written and read as streams and a change, a cut or an addition is found. The
// header's only stanza is ours: "konsul" and the id of the key that sealed it.
const (
	fileMagic  = "age-encryption.org/v1\n"
	stanzaType = "konsul"
	chunkSize  = 64 << 10
	chunkExtra = 16 // the tag of a chunk
	nonceSize  = 16 // between header and chunks
)

// FileKeys encrypt and decrypt files. They are for any goroutine.
type FileKeys struct{ list []masterKey }

// Files are the keys for files that leave the data directory: backups. They are
// encrypted under the master key itself, so that any node with the key file reads them.
// Nil for nil.
func (k *Keys) Files() *FileKeys {
	if k == nil {
		return nil
	}
	f := new(FileKeys)
	for _, key := range k.list {
		f.list = append(f.list, masterKey{id: key.id, secret: derive(key.secret, "files")})
	}
	return f
}

// Encrypted says whether a file that begins with head, of 22 bytes or more, is
// encrypted.
func Encrypted(head []byte) bool { return bytes.HasPrefix(head, []byte(fileMagic)) }

// HeadSize is how much of a file Encrypted wants to see.
const HeadSize = len(fileMagic)

// Writer encrypts what is written to it. The file is complete when Close has
// returned without an error; dst is not closed.
func (k *FileKeys) Writer(dst io.Writer) (io.WriteCloser, error) {
	w, err := age.Encrypt(dst, stanza{&k.list[0]})
	if err != nil {
		return nil, fmt.Errorf("beginning an encrypted file: %w", err)
	}
	return w, nil
}

// Reader decrypts src. Every byte it gives is as it was written; at the end it
// gives ErrDamaged instead of io.EOF if something is missing. Errors: ErrWrongKey,
// ErrDamaged, those of src.
func (k *FileKeys) Reader(src io.Reader) (io.Reader, error) {
	own := &sourceErr{r: src}
	identity := &identity{keys: k}
	r, err := age.Decrypt(own, identity)
	switch {
	case err == nil:
		return &fileReader{r: r, src: own}, nil
	case own.err != nil:
		return nil, own.err
	case identity.foreign != "":
		return nil, fmt.Errorf("%w: %s", ErrWrongKey, identity.foreign)
	}
	return nil, fmt.Errorf("%w: its header: %w", ErrDamaged, err)
}

// PlainSize is how many bytes a file of these keys with size bytes decrypts to;
// headers are all of the same length. A size that no file has gives 0.
func PlainSize(size int64) int64 {
	body := size - headerSize - nonceSize
	chunks := (body + chunkSize + chunkExtra - 1) / (chunkSize + chunkExtra)
	return max(0, body-chunks*chunkExtra)
}

// headerSize is measured, not counted: it is the library's.
var headerSize = func() int64 {
	var b bytes.Buffer
	keys := FileKeys{list: []masterKey{{id: keyID(nil), secret: make([]byte, KeySize)}}}
	w, err := keys.Writer(&b)
	if err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return int64(b.Len()) - nonceSize - chunkExtra
}()

// fileReader names what can go wrong while reading.
type fileReader struct {
	r   io.Reader
	src *sourceErr
}

func (f *fileReader) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	switch {
	case err == nil || errors.Is(err, io.EOF):
	case f.src.err != nil:
		err = f.src.err
	default:
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return n, err
}

// sourceErr remembers an error of the source, which is not damage.
type sourceErr struct {
	r   io.Reader
	err error
}

func (s *sourceErr) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		s.err = err
	}
	return n, err
}

// stanza is an age.Recipient: it seals a file's key.
type stanza struct{ key *masterKey }

func (s stanza) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	body := newSealer(s.key.secret).Seal(nil, fileKey, []byte(s.key.id))
	return []*age.Stanza{{Type: stanzaType, Args: []string{s.key.id}, Body: body}}, nil
}

// identity is an age.Identity: it finds the key that a file's key was sealed with.
type identity struct {
	keys    *FileKeys
	foreign string // what is known of a key that is not ours
}

func (i *identity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type != stanzaType || len(s.Args) != 1 {
			i.foreign = "not with one of Konsul's"
			continue
		}
		for _, key := range i.keys.list {
			if key.id != s.Args[0] {
				continue
			}
			fileKey, err := newSealer(key.secret).Open(nil, s.Body, []byte(key.id))
			if err != nil {
				return nil, err
			}
			i.foreign = ""
			return fileKey, nil
		}
		i.foreign = fmt.Sprintf("it needs the key with the id %q", printable(s.Args[0]))
	}
	return nil, age.ErrIncorrectIdentity
}

// printable keeps an id out of a damaged file from being long or odd.
func printable(id string) string {
	if b, err := hex.DecodeString(id); err != nil || len(b) > sha256.Size {
		return "?"
	}
	return id
}
