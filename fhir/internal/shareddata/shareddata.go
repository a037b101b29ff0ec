// Package shareddata opens the published FHIR files that tests compare against, on a machine that has them.
package shareddata

import (
	"archive/tar"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/xi2/xz"
)

// Variable names the folder that holds the sets; without it that is the folder shared/data beside the module.
const Variable = "CLOISTER_SHARED_DATA"

// The sets of published files. A set is a folder, or a .tar.xz of that name.
const (
	Definitions      = "fhir-r4-definitions" // hl7.fhir.r4.core 4.0.1, one JSON file each
	Examples         = "fhir-r4-examples"    // the examples of the R4 specification
	BehavioralHealth = "us-bhp-examples"     // the examples of the US Behavioral Health Profiles
	Synthea          = "synthea-120"         // transaction Bundles of synthetic patients, .json.bz2
)

// Open gives the files of a set, all in one folder. The test is skipped where the set is not there.
func Open(t testing.TB, set string) fs.FS {
	t.Helper()
	dir, err := open(set)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Packages are the published packages, by the names that [File] takes.
var Packages = []string{"hl7.fhir.us.core-6.1.0.tgz", "hl7.fhir.us.core-7.0.0.tgz"}

// File gives the content of one file beside the sets; ok is false where it is not there.
func File(t testing.TB, name string) (body []byte, ok bool) {
	t.Helper()
	dir, err := folder()
	if err == nil {
		body, err = os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // tests name the file
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return body, true
}

// Files gives the names of the files in dir that end in .json or .json.bz2, sorted.
func Files(t testing.TB, dir fs.FS) []string {
	t.Helper()
	all, err := fs.ReadDir(dir, ".")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range all {
		if strings.HasSuffix(e.Name(), ".json") || strings.HasSuffix(e.Name(), ".json.bz2") {
			names = append(names, e.Name())
		}
	}
	return names
}

// Read gives the content of a file, uncompressed.
func Read(t testing.TB, dir fs.FS, name string) []byte {
	t.Helper()
	f, err := dir.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	var r io.Reader = f
	if strings.HasSuffix(name, ".bz2") {
		r = bzip2.NewReader(f)
	}
	body, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return body
}

// folder is where the sets are.
func folder() (string, error) {
	if dir := os.Getenv(Variable); dir != "" {
		return dir, nil
	}
	module, err := moduleRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(module), "shared", "data"), nil
}

// open wraps fs.ErrNotExist where the set is not there.
func open(set string) (fs.FS, error) {
	root, err := folder()
	if err != nil {
		return nil, err
	}
	sets := os.DirFS(root)
	if fi, err := fs.Stat(sets, set); err == nil && fi.IsDir() {
		return fs.Sub(sets, set)
	}
	f, err := sets.Open(set + ".tar.xz")
	if err != nil {
		return nil, fmt.Errorf("published files: %w (set %s to the folder that holds them)", err, Variable)
	}
	defer func() { _ = f.Close() }() // only read
	plain, err := xz.NewReader(f, 0)
	if err != nil {
		return nil, fmt.Errorf("%s.tar.xz: %w", set, err)
	}
	return unpack(plain)
}

// unpack keeps the JSON files of an archive, whatever folder they are in.
func unpack(r io.Reader) (fs.FS, error) {
	out := fstest.MapFS{}
	for archive := tar.NewReader(r); ; {
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
		name := path.Base(h.Name)
		if out[name] != nil {
			return nil, fmt.Errorf("%s is in the archive twice", name)
		}
		body, err := io.ReadAll(archive)
		if err != nil {
			return nil, err
		}
		out[name] = &fstest.MapFile{Data: body}
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
			return "", fmt.Errorf("published files: no go.mod above the test: %w", fs.ErrNotExist)
		}
		dir = up
	}
}
