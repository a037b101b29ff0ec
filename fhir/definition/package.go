package definition

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// Package is the conformance content of one FHIR NPM package
// (https://confluence.hl7.org/display/FHIR/NPM+Package+Specification).
type Package struct {
	Name, Version string
	FHIRVersions  []string
	Dependencies  map[string]string // name -> version
	Artifacts     []Artifact        // in the order of their file names
}

// ID is name#version.
func (p *Package) ID() string { return p.Name + "#" + p.Version }

// Artifact is one conformance resource of a package.
type Artifact struct {
	Type    fhir.ResourceType
	URL     string
	Version string // business version, "" if it has none
	Body    []byte // compact JSON without narrative
}

// Limits bound what is read of one package.
type Limits struct {
	Files int   // entries of the archive, whatever they are
	File  int64 // bytes of one file, unpacked
	Total int64 // bytes of all entries together, unpacked
}

// DefaultLimits leave room for the largest published packages.
var DefaultLimits = Limits{Files: 100_000, File: 64 << 20, Total: 1 << 30}

const manifest = "package.json"

// Load reads a package from a path: a .tgz file, or a directory that holds
// package.json and the resources, itself or in a folder named package.
func Load(name string, l Limits) (*Package, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("definition: %w", err)
	}
	if info.IsDir() {
		return ReadDir(os.DirFS(name), l)
	}
	f, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("definition: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	return Read(f, l)
}

// Read reads a .tgz. Nothing is written anywhere: the names in the archive only
// say which of its files are meant, and those with a path out of it are refused.
func Read(r io.Reader, l Limits) (*Package, error) {
	plain, err := gzip.NewReader(r)
	if err != nil {
		return nil, errors.New("definition: this is not a package: it is not packed with gzip (.tgz)")
	}
	bounded := &io.LimitedReader{R: plain, N: l.Total + 1}
	b := builder{limits: l}
	for archive := tar.NewReader(bounded); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if bounded.N <= 0 {
				return nil, fmt.Errorf("definition: the package unpacks to more than %d bytes", l.Total)
			}
			return nil, fmt.Errorf("definition: this is not a package: %w", err)
		}
		if b.entries++; b.entries > l.Files {
			return nil, fmt.Errorf("definition: the package has more than %d files", l.Files)
		}
		if slices.Contains(strings.FieldsFunc(h.Name, func(r rune) bool { return r == '/' || r == '\\' }), "..") {
			return nil, fmt.Errorf("definition: %q leads out of the package", h.Name)
		}
		dir, file := path.Split(strings.TrimPrefix(h.Name, "./"))
		if h.Typeflag != tar.TypeReg || dir != "package/" {
			continue
		}
		if err := b.add(file, h.Size, archive); err != nil {
			return nil, err
		}
	}
	return b.finish()
}

// ReadDir reads a package that lies unpacked in dir.
func ReadDir(dir fs.FS, l Limits) (*Package, error) {
	if sub, err := fs.Sub(dir, "package"); err == nil {
		if _, err := fs.Stat(sub, manifest); err == nil {
			dir = sub
		}
	}
	files, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("definition: %w", err)
	}
	if len(files) > l.Files {
		return nil, fmt.Errorf("definition: the package has more than %d files", l.Files)
	}
	b := builder{limits: l}
	for _, e := range files {
		if !e.Type().IsRegular() {
			continue
		}
		if err := b.open(dir, e); err != nil {
			return nil, err
		}
	}
	return b.finish()
}

func (b *builder) open(dir fs.FS, e fs.DirEntry) error {
	info, err := e.Info()
	if err != nil {
		return fmt.Errorf("definition: %w", err)
	}
	f, err := dir.Open(e.Name())
	if err != nil {
		return fmt.Errorf("definition: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	return b.add(e.Name(), info.Size(), f)
}

// New makes a package of resources, as from files; it is for tests and for
// definitions that a program brings along.
func New(name, version string, bodies ...string) (*Package, error) {
	b := builder{limits: DefaultLimits, manifest: true, p: Package{Name: name, Version: version}}
	for i, body := range bodies {
		if err := b.resource(fmt.Sprintf("%05d.json", i), []byte(body)); err != nil {
			return nil, err
		}
	}
	return b.finish()
}

type builder struct {
	limits   Limits
	entries  int
	total    int64
	manifest bool
	p        Package
	found    []file
}

type file struct {
	name string
	Artifact
}

func (b *builder) add(name string, size int64, r io.Reader) error {
	if path.Ext(name) != ".json" || strings.HasPrefix(name, ".") {
		return nil
	}
	if size > b.limits.File {
		return fmt.Errorf("definition: %s is longer than %d bytes", name, b.limits.File)
	}
	if b.total += size; b.total > b.limits.Total {
		return fmt.Errorf("definition: the package unpacks to more than %d bytes", b.limits.Total)
	}
	body, err := io.ReadAll(io.LimitReader(r, b.limits.File+1))
	if err != nil {
		return fmt.Errorf("definition: %s: %w", name, err)
	}
	if int64(len(body)) > b.limits.File {
		return fmt.Errorf("definition: %s is longer than %d bytes", name, b.limits.File)
	}
	if name == manifest {
		return b.identify(body)
	}
	return b.resource(name, body)
}

// identify reads package.json.
func (b *builder) identify(body []byte) error {
	n, err := Parse(body)
	if err != nil {
		return fmt.Errorf("definition: %s: %w", manifest, err)
	}
	b.manifest = true
	b.p.Name, b.p.Version = n.Get("name").String(), n.Get("version").String()
	for _, list := range []string{"fhirVersions", "fhir-version-list"} {
		if len(b.p.FHIRVersions) > 0 {
			break
		}
		for _, v := range n.Get(list).List() {
			b.p.FHIRVersions = append(b.p.FHIRVersions, v.String())
		}
	}
	if d := n.Get("dependencies"); d != nil {
		b.p.Dependencies = make(map[string]string, len(d.Fields))
		for _, f := range d.Fields {
			b.p.Dependencies[f.Name] = f.Value.String()
		}
	}
	return nil
}

func (b *builder) resource(name string, body []byte) error {
	n, err := Parse(body)
	if err != nil {
		return fmt.Errorf("definition: %s: %w", name, err)
	}
	t := fhir.ResourceType(n.Get("resourceType").String())
	if !slices.Contains(Types, t) {
		return nil
	}
	url := n.Get("url").String()
	if t == "NamingSystem" {
		url = uniqueID(n)
	}
	if url == "" || strings.Contains(url, "|") {
		return nil // nothing can refer to it
	}
	n.Delete("text")
	b.found = append(b.found, file{name, Artifact{Type: t, URL: url, Version: n.Get("version").String(), Body: n.AppendJSON(nil)}})
	return nil
}

// uniqueID is by what a NamingSystem is found, which has no url in R4: its
// preferred URI, else its first, else its OID as urn:oid:.
func uniqueID(n *element.Node) string {
	best, oid := "", ""
	for _, u := range n.Get("uniqueId").List() {
		value := u.Get("value").String()
		switch u.Get("type").String() {
		case "uri":
			if p := u.Get("preferred"); best == "" || p != nil && p.Text == "true" {
				best = value
			}
		case "oid":
			oid = "urn:oid:" + strings.TrimPrefix(value, "urn:oid:")
		}
	}
	if best == "" {
		return oid
	}
	return best
}

func (b *builder) finish() (*Package, error) {
	if !b.manifest {
		return nil, errors.New("definition: this is not a package: it has no package.json")
	}
	if !plainName(b.p.Name) || !plainName(b.p.Version) {
		return nil, errors.New("definition: package.json does not say name and version of the package")
	}
	slices.SortStableFunc(b.found, func(x, y file) int { return strings.Compare(x.name, y.name) })
	seen := map[Entry]bool{}
	for _, f := range b.found {
		e := Entry{Type: f.Type, URL: f.URL, Version: f.Version}
		if seen[e] {
			return nil, fmt.Errorf("definition: %s: the package has another %s %s", f.name, f.Type, e.Canonical())
		}
		seen[e] = true
		b.p.Artifacts = append(b.p.Artifacts, f.Artifact)
	}
	return &b.p, nil
}

// plainName holds names and versions to what npm allows, so that name#version reads one way only.
func plainName(s string) bool {
	return s != "" && len(s) <= 214 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_+@/") == ""
}
