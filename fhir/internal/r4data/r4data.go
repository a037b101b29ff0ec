// Package r4data opens the official R4 files that tests compare against, where
// the machine has them.
package r4data

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing/fstest"

	"github.com/xi2/xz"
)

// The two sets of official files.
const (
	Definitions = "fhir-r4-definitions"
	Examples    = "fhir-r4-examples"
)

// Open gives a set's JSON files, as a folder or a .tar.xz of that name under
// CLOISTER_SHARED_DATA, else under shared/data beside the module. The error
// says where they were looked for; it wraps fs.ErrNotExist if they are not there.
func Open(set string) (fs.FS, error) {
	root := os.Getenv("CLOISTER_SHARED_DATA")
	if root == "" {
		module, err := moduleRoot()
		if err != nil {
			return nil, err
		}
		root = filepath.Join(filepath.Dir(module), "shared", "data")
	}
	folder := filepath.Join(root, set)
	if fi, err := os.Stat(folder); err == nil && fi.IsDir() {
		return os.DirFS(folder), nil
	}
	f, err := os.Open(folder + ".tar.xz") //nolint:gosec // a test's own data
	if err != nil {
		return nil, fmt.Errorf("official R4 files: %w (set CLOISTER_SHARED_DATA to their folder)", err)
	}
	defer func() { _ = f.Close() }()
	return unpack(f)
}

func unpack(r io.Reader) (fs.FS, error) {
	plain, err := xz.NewReader(r, 0)
	if err != nil {
		return nil, err
	}
	out := fstest.MapFS{}
	for archive := tar.NewReader(plain); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg || !strings.HasSuffix(h.Name, ".json") {
			continue
		}
		b, err := io.ReadAll(archive)
		if err != nil {
			return nil, err
		}
		out[path.Base(h.Name)] = &fstest.MapFile{Data: b}
	}
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("official R4 files: no go.mod above the test: %w", fs.ErrNotExist)
		}
		dir = up
	}
}
