package profile_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

// world is a Source and a Terminology of definitions in memory: as much of them as these tests need.
type world struct {
	bodies map[string][]byte // type + " " + url
	trees  map[string]*element.Node
	sets   map[string]*set
}

func newWorld() *world {
	return &world{map[string][]byte{}, map[string]*element.Node{}, map[string]*set{}}
}

// head reads type and url of a definition without reading it all.
func (w *world) add(t testing.TB, body []byte) {
	t.Helper()
	n, err := codec.ReadJSON(body, codec.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if u := n.Get("url").String(); u != "" {
		key := n.Get("resourceType").String() + " " + u
		w.bodies[key] = body
	}
}

func (w *world) Find(_ context.Context, t fhir.ResourceType, canonical string) (*element.Node, bool, error) {
	url, version, _ := strings.Cut(canonical, "|")
	key := string(t) + " " + url
	n := w.trees[key]
	if n == nil {
		body, ok := w.bodies[key]
		if !ok {
			return nil, false, nil
		}
		var err error
		if n, err = codec.ReadJSON(body, codec.DefaultLimits); err != nil {
			return nil, false, err
		}
		w.trees[key] = n
	}
	if version != "" && n.Get("version").String() != version {
		return nil, false, nil
	}
	return n, true, nil
}

// set is the expansion of a value set.
type set struct {
	known bool
	codes map[[2]string]bool
}

func (w *world) Member(ctx context.Context, valueSet, system, code string) (in, known bool, err error) {
	url, _, _ := strings.Cut(valueSet, "|")
	s := w.expand(ctx, url, 0)
	if system == "" {
		for k := range s.codes {
			if k[1] == code {
				return true, s.known, nil
			}
		}
	}
	in = s.codes[[2]string{system, code}]
	return in, s.known || in, nil
}

func (w *world) expand(ctx context.Context, url string, depth int) *set {
	if s := w.sets[url]; s != nil {
		return s
	}
	s := &set{known: true, codes: map[[2]string]bool{}}
	w.sets[url] = s
	n, ok, err := w.Find(ctx, "ValueSet", url)
	if !ok || err != nil || depth > 10 || n.Get("compose").Get("exclude") != nil {
		s.known = false
		return s
	}
	for _, inc := range n.Get("compose").Get("include").List() {
		system := inc.Get("system").String()
		for _, v := range inc.Get("valueSet").List() {
			u, _, _ := strings.Cut(v.String(), "|")
			sub := w.expand(ctx, u, depth+1)
			s.known = s.known && sub.known
			for k := range sub.codes {
				s.codes[k] = true
			}
		}
		switch {
		case inc.Get("filter") != nil:
			s.known = false
		case inc.Get("concept") != nil:
			s.concepts(system, inc.Get("concept"))
		case system != "":
			cs, ok, err := w.Find(ctx, "CodeSystem", system)
			if !ok || err != nil || cs.Get("content").String() != "complete" {
				s.known = false
				continue
			}
			s.concepts(system, cs.Get("concept"))
		}
	}
	return s
}

func (s *set) concepts(system string, list *element.Node) {
	for _, x := range list.List() {
		s.codes[[2]string{system, x.Get("code").String()}] = true
		s.concepts(system, x.Get("concept"))
	}
}

// pack reads the definitions of a package, and the examples in it.
func (w *world) pack(t testing.TB, name string) (examples map[string][]byte) {
	t.Helper()
	body, ok := shareddata.File(t, name)
	if !ok {
		t.Skip("the package " + name + " is not here")
	}
	zr, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	examples = map[string][]byte{}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return examples
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(h.Name, ".json") {
			continue
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		switch dir := path.Dir(h.Name); {
		case dir == "package/example":
			examples[path.Base(h.Name)] = content
		case dir == "package" && definitionFile(path.Base(h.Name)):
			w.add(t, content)
		}
	}
}

func definitionFile(name string) bool {
	for _, p := range []string{"StructureDefinition-", "ValueSet-", "CodeSystem-"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// core reads the definitions of R4.
func (w *world) core(t testing.TB) fs.FS {
	t.Helper()
	dir := shareddata.Open(t, shareddata.Definitions)
	for _, name := range shareddata.Files(t, dir) {
		if definitionFile(name) {
			w.add(t, shareddata.Read(t, dir, name))
		}
	}
	return dir
}
