package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
)

// Disk is a [Sink] in one directory, which nobody else may read. What is in it is encrypted.
type Disk struct{ root *os.Root }

// OpenDisk opens a directory, and makes it where it is not there.
func OpenDisk(dir string) (*Disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("export: others may read or write %s (mode %s): chmod 700 it", dir, info.Mode())
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return &Disk{root}, nil
}

// Close closes the directory.
func (d *Disk) Close() error { return d.root.Close() }

const suffix = ".part"

var objectName = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Named reports whether an object of a [Sink] can have that name: a UUID.
func Named(name string) bool { return objectName.MatchString(name) }

func file(name string) (string, error) {
	if !Named(name) {
		return "", errors.New("export: an object without a name of ours")
	}
	return name + suffix, nil
}

// Create implements [Sink].
func (d *Disk) Create(_ context.Context, name string) (io.WriteCloser, error) {
	path, err := file(name)
	if err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return &durable{f, d}, nil
}

// durable is a file that survives a crash once it is closed.
type durable struct {
	*os.File
	d *Disk
}

// Close makes the content durable, and the name of it.
func (f *durable) Close() error {
	err := errors.Join(f.Sync(), f.File.Close())
	dir, opened := f.d.root.Open(".")
	if opened != nil {
		return errors.Join(err, opened)
	}
	return errors.Join(err, dir.Sync(), dir.Close())
}

// Open implements [Sink].
func (d *Disk) Open(_ context.Context, name string) (io.ReadCloser, error) {
	path, err := file(name)
	if err != nil {
		return nil, err
	}
	f, err := d.root.Open(path)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return f, nil
}

// Remove implements [Sink].
func (d *Disk) Remove(_ context.Context, name string) error {
	path, err := file(name)
	if err != nil {
		return err
	}
	if err := d.root.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}
