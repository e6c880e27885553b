package encryption

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/neogan74/konsul/internal/statefile"
)

// File is the name of the file, in the data directory, that holds the directory's
// data key, encrypted with a master key.
const File = "encryption.json"

// dirFile is what is in it.
type dirFile struct {
	Format int `json:"format"`
	// MasterKey is the id of the key that DataKey is sealed with.
	MasterKey string `json:"master_key"`
	DataKey   []byte `json:"data_key"`
}

const dirFormat = 1

// Directory holds the keys of one data directory. They stay the same as long as
// the directory lives: replacing the master key only seals the data key anew.
type Directory struct{ secret []byte }

// OpenDirectory opens or makes the data key of the data directory dir. keys is nil
// if no key file is configured; then nil is returned for a directory that is not
// encrypted. fresh says that nothing has been stored in dir yet.
//
// If the key in use is another than the one the data key is sealed with, and that
// one is also among keys, the data key is sealed with the new one, durably: then the old one
// may leave the key file. replaced is the id of the old one.
//
// Errors: ErrNoKey, ErrWrongKey, ErrNotEncrypted, ErrDamaged; of the file system.
// To be called by the owner of the directory's lock.
func OpenDirectory(dir string, keys *Keys, fresh bool) (d *Directory, replaced string, err error) {
	path := filepath.Join(dir, File)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && keys == nil:
		return nil, "", nil
	case errors.Is(err, fs.ErrNotExist) && !fresh:
		return nil, "", fmt.Errorf("%s %w: start it without persistence.encryption.key_file; "+
			"to encrypt it, move the data directory away and let the node join again, or restore a backup into an empty one", dir, ErrNotEncrypted)
	case errors.Is(err, fs.ErrNotExist):
		d = &Directory{secret: make([]byte, KeySize)}
		_, _ = rand.Read(d.secret)
		return d, "", d.write(path, keys)
	case err != nil:
		return nil, "", fmt.Errorf("reading the data key: %w", err)
	case keys == nil:
		return nil, "", fmt.Errorf("%s is %w", dir, ErrNoKey)
	}
	d, sealedWith, err := readDirectory(text, keys)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	if sealedWith == keys.ID() {
		return d, "", nil
	}
	return d, sealedWith, d.write(path, keys)
}

func readDirectory(text []byte, keys *Keys) (*Directory, string, error) {
	var f dirFile
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if f.Format != dirFormat {
		return nil, "", fmt.Errorf("format %d is not known to this version, which knows %d: use the version that wrote it, or a newer one", f.Format, dirFormat)
	}
	key := keys.find(f.MasterKey)
	if key == nil {
		return nil, "", fmt.Errorf("%w: it needs the key with the id %q, the key file has %q", ErrWrongKey, printable(f.MasterKey), keys.ID())
	}
	secret, err := newSealer(derive(key.secret, "data key")).Open(nil, f.DataKey, []byte(f.MasterKey))
	if err != nil || len(secret) != KeySize {
		return nil, "", fmt.Errorf("%w: the data key cannot be opened", ErrDamaged)
	}
	return &Directory{secret: secret}, f.MasterKey, nil
}

// write replaces the file in one step; it is durable on return.
func (d *Directory) write(path string, keys *Keys) error {
	key := keys.list[0]
	text, err := json.MarshalIndent(dirFile{
		Format: dirFormat, MasterKey: key.id,
		DataKey: newSealer(derive(key.secret, "data key")).Seal(nil, d.secret, []byte(key.id)),
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := statefile.Replace(path, append(text, '\n')); err != nil {
		return fmt.Errorf("writing the data key: %w", err)
	}
	return nil
}

// Engine is the key of the storage engine; nil of a nil directory.
func (d *Directory) Engine() []byte {
	if d == nil {
		return nil
	}
	return derive(d.secret, "engine")
}

// Log seals the entries of the Raft log.
func (d *Directory) Log() *Sealer { return newSealer(derive(d.secret, "log")) }

// Files are the keys of the Raft snapshots in the directory.
func (d *Directory) Files() *FileKeys {
	return &FileKeys{list: []masterKey{{id: keyID(d.secret), secret: derive(d.secret, "snapshots")}}}
}
