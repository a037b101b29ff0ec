// Package shareddata opens published FHIR data for tests, where a machine has it.
package shareddata

import (
	"archive/tar"
	"compress/bzip2"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/xi2/xz"
)

// Variable names the folder of the data; without it the folder shared/data
// beside the module is tried.
const Variable = "CLOISTER_SHARED_DATA"

// Folder is where the data is; the test is skipped where there is none.
func Folder(t testing.TB) string {
	t.Helper()
	dir := os.Getenv(Variable)
	if dir == "" {
		root, err := os.Getwd()
		for err == nil {
			if _, e := os.Stat(filepath.Join(root, "go.mod")); e == nil {
				break
			}
			if root == filepath.Dir(root) {
				err = errors.New("no go.mod above")
			}
			root = filepath.Dir(root)
		}
		if err != nil {
			t.Skip(err)
		}
		dir = filepath.Join(root, "..", "shared", "data")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no published data here: set %s to its folder", Variable)
	}
	return dir
}

// File is one file of an archive.
type File struct {
	Name string // without folders
	Body []byte
}

// Archive reads the .json files of a .tar.xz of the folder, in order of their names.
func Archive(t testing.TB, name string) []File {
	t.Helper()
	f, err := os.Open(filepath.Join(Folder(t), name))
	if err != nil {
		t.Skip(err)
	}
	defer func() { _ = f.Close() }()
	x, err := xz.NewReader(f, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []File
	for r := tar.NewReader(x); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || !strings.HasSuffix(h.Name, ".json") {
			continue
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, File{path.Base(h.Name), body})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// Bzip2 reads one compressed file.
func Bzip2(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	body, err := io.ReadAll(bzip2.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	return body
}
