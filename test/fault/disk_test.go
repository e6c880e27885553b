//go:build fault

package fault

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

// disk is a file system of its own on a file: it can lose its power or run full
// without anybody else noticing.
type disk struct {
	t     testing.TB
	image string
	mount string
}

// newDisk makes and mounts a file system ("xfs", "ext4").
func newDisk(t testing.TB, kind string, megabytes int) *disk {
	t.Helper()
	dir := t.TempDir()
	d := &disk{t: t, image: filepath.Join(dir, "image"), mount: filepath.Join(dir, "mnt")}
	must(t, os.Mkdir(d.mount, 0o700))
	must(t, sh("truncate -s %dM %s && mkfs.%s -q %s", megabytes, d.image, kind, d.image))
	must(t, d.attach())
	t.Cleanup(func() {
		if err := sh("umount %s", d.mount); err != nil {
			t.Errorf("cleaning up: %v", err)
			_ = sh("umount -l %s", d.mount)
		}
	})
	return d
}

// attach mounts the disk; the loop device goes by itself with the mount.
func (d *disk) attach() error { return sh("mount -o loop,noatime %s %s", d.image, d.mount) }

// The ioctl that makes xfs and ext4 stop at once: nothing reaches the device
// after it, what was not fsynced is lost (as `xfs_io -x -c shutdown` does).
const (
	iocGoingDown = 0x8004587d // _IOR('X', 125, uint32)
	noLogFlush   = 2
)

// cutPower stops the file system; processes that use it get I/O errors from now on.
func (d *disk) cutPower() error {
	f, err := os.Open(d.mount)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := uint32(noLogFlush)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), iocGoingDown, uintptr(unsafe.Pointer(&flags)))
	if errno != 0 {
		return fmt.Errorf("shutting down %s: %w", d.mount, errno)
	}
	return nil
}

// A node asks by a read whether a sync that succeeded is to be believed.
func TestAFileSystemThatHasShutDownRefusesReads(t *testing.T) {
	for _, kind := range []string{"xfs", "ext4"} {
		d := newDisk(t, kind, 512)
		f, err := os.Create(filepath.Join(d.mount, "f"))
		must(t, err)
		defer f.Close()
		_, err = f.WriteString("in the page cache")
		must(t, err)
		must(t, f.Sync())
		b := make([]byte, 1)
		_, err = f.ReadAt(b, 0)
		must(t, err)
		must(t, d.cutPower())
		if _, err := f.ReadAt(b, 0); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: reading after it has shut down: %v, want EIO", kind, err)
		}
		must(t, f.Close())
	}
}

// flush writes everything to the device that is not there yet.
func (d *disk) flush() error { return sh("sync -f %s", d.mount) }

// replug unmounts and mounts again: the page cache is gone, the journal is replayed.
func (d *disk) replug() error {
	if err := sh("umount %s", d.mount); err != nil {
		return err
	}
	return d.attach()
}

// fill takes the space to the last byte and returns the file that holds it.
func (d *disk) fill() (string, error) {
	path := filepath.Join(d.mount, "ballast")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for size := len(buf); size > 0; {
		_, err := f.Write(buf[:size])
		if err == nil {
			err = f.Sync() // delayed allocation: ENOSPC may show only here
		}
		switch {
		case errors.Is(err, syscall.ENOSPC):
			size /= 16
		case err != nil:
			return "", err
		}
	}
	return path, nil
}
