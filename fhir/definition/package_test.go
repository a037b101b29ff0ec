package definition

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

// packed makes a .tgz of names and contents.
func packed(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	a := tar.NewWriter(z)
	for _, h := range headers {
		body := h.Linkname
		if h.Typeflag == 0 {
			h.Typeflag, h.Linkname, h.Size = tar.TypeReg, "", int64(len(body))
		}
		h.Mode = 0o600
		if err := a.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(a, body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// entry is a regular file; the body travels in Linkname until it is packed.
func entry(name, body string) tar.Header { return tar.Header{Name: name, Linkname: body} }

const about = `{"name":"test.terms","version":"1.2.0","fhirVersions":["4.0.1"],"dependencies":{"hl7.fhir.r4.core":"4.0.1"}}`

func vs(url, version string) string {
	return `{"resourceType":"ValueSet","url":"` + url + `","version":"` + version + `","status":"active","text":{"status":"generated","div":"<div>long</div>"}}`
}

func TestReadTakesTheDefinitionsAndNothingElse(t *testing.T) {
	p, err := Read(bytes.NewReader(packed(t,
		entry("package/.index.json", "not read"),
		entry("package/ValueSet-b.json", "\ufeff"+vs("http://x/vs/b", "1.0")),
		entry("package/package.json", about),
		entry("package/ValueSet-a.json", vs("http://x/vs/a", "2")),
		entry("package/Patient-p.json", `{"resourceType":"Patient","id":"p"}`),
		entry("package/NamingSystem-n.json", `{"resourceType":"NamingSystem","uniqueId":[{"type":"oid","value":"1.2.3"},{"type":"uri","value":"http://x/old"},{"type":"uri","value":"http://x/ns","preferred":true}]}`),
		entry("package/ValueSet-nameless.json", `{"resourceType":"ValueSet","status":"active"}`),
		entry("package/example/ValueSet-e.json", vs("http://x/vs/e", "1")),
		entry("package/readme.txt", "hello"),
		tar.Header{Name: "package/link.json", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
	)), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if p.ID() != "test.terms#1.2.0" || p.Dependencies["hl7.fhir.r4.core"] != "4.0.1" || !slices.Equal(p.FHIRVersions, []string{"4.0.1"}) {
		t.Errorf("%+v", p)
	}
	var got []string
	for _, a := range p.Artifacts {
		got = append(got, string(a.Type)+" "+a.URL+" "+a.Version)
		if bytes.Contains(a.Body, []byte("div")) {
			t.Errorf("%s has its narrative", a.URL)
		}
	}
	if want := []string{"NamingSystem http://x/ns ", "ValueSet http://x/vs/a 2", "ValueSet http://x/vs/b 1.0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReadRefuses(t *testing.T) {
	small := Limits{Files: 3, File: 200, Total: 4000}
	ok := entry("package/package.json", about)
	long := strings.Repeat(" ", 300)
	for name, c := range map[string]struct {
		body []byte
		want string
	}{
		"no gzip":         {[]byte("hello"), "not packed with gzip"},
		"no tar":          {zipped(t, strings.Repeat("x", 1000)), "not a package"},
		"no manifest":     {packed(t, entry("package/a.json", vs("http://x", "1"))), "no package.json"},
		"no name":         {packed(t, entry("package/package.json", `{"version":"1"}`)), "does not say"},
		"odd name":        {packed(t, entry("package/package.json", `{"name":"a#b","version":"1"}`)), "does not say"},
		"path":            {packed(t, ok, entry("package/../../etc/a.json", "{}")), "leads out"},
		"backslash":       {packed(t, ok, entry(`package\..\a.json`, "{}")), "leads out"},
		"bad JSON":        {packed(t, ok, entry("package/a.json", `{"a":`)), "a.json"},
		"repeated name":   {packed(t, ok, entry("package/a.json", `{"resourceType":"ValueSet","resourceType":"CodeSystem"}`)), "twice"},
		"two of one":      {packed(t, ok, entry("package/a.json", vs("http://x", "1")), entry("package/b.json", vs("http://x", "1"))), "another ValueSet http://x|1"},
		"many files":      {packed(t, ok, entry("a", ""), entry("b", ""), entry("c", "")), "more than 3 files"},
		"long file":       {packed(t, ok, entry("package/a.json", long)), "longer than 200"},
		"long altogether": {packed(t, ok, entry("package/x.txt", strings.Repeat("x", 9000))), "more than 4000 bytes"},
		"deep":            {packed(t, ok, entry("package/a.json", strings.Repeat("[", 180))), "a.json"},
	} {
		l := small
		if name == "two of one" {
			l = DefaultLimits
		}
		_, err := Read(bytes.NewReader(c.body), l)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := Parse([]byte(strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1))); err == nil || !strings.Contains(err.Error(), "levels") {
		t.Errorf("deep: %v", err)
	}
}

func zipped(t *testing.T, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := io.WriteString(z, s)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestLoadReadsBothLayoutsOfADirectory(t *testing.T) {
	for _, below := range []string{"", "package"} {
		dir := t.TempDir()
		for name, text := range map[string]string{"package.json": about, "a.json": vs("http://x/vs/a", "1")} {
			if err := os.MkdirAll(filepath.Join(dir, below), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, below, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p, err := Load(dir, DefaultLimits)
		if err != nil || len(p.Artifacts) != 1 {
			t.Errorf("%q: %+v %v", below, p, err)
		}
	}
	tgz := filepath.Join(t.TempDir(), "x.tgz")
	if err := os.WriteFile(tgz, packed(t, entry("package/package.json", about)), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := Load(tgz, DefaultLimits); err != nil || p.Name != "test.terms" {
		t.Errorf("%+v %v", p, err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none"), DefaultLimits); err == nil {
		t.Error("a path that is not there")
	}
	if _, err := ReadDir(fstest.MapFS{"a.json": {Data: []byte("{}")}}, DefaultLimits); err == nil || !strings.Contains(err.Error(), "package.json") {
		t.Errorf("%v", err)
	}
}

// What Parse has read, written and read again, is the same tree.
func FuzzParse(f *testing.F) {
	for _, s := range []string{vs("http://x", "1"), `{"a":[1,2.50,-3e4,true,false,null,"\u00e4\n"],"b":{}}`, `[]`, `{"a":1,"a":2}`, "{\"a\":\"\xff\"}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Parse([]byte(s))
		if err != nil {
			return
		}
		first := n.AppendJSON(nil)
		again, err := Parse(first)
		if err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second := again.AppendJSON(nil); !bytes.Equal(first, second) {
			t.Fatalf("%s became %s", first, second)
		}
	})
}

func TestPublishedDefinitions(t *testing.T) {
	p, err := ReadDir(shareddata.Open(t, shareddata.Definitions), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	size, counts := 0, map[fhir.ResourceType]int{}
	for _, a := range p.Artifacts {
		size += len(a.Body)
		counts[a.Type]++
	}
	t.Logf("%s: %d definitions, %d bytes, %v", p.ID(), len(p.Artifacts), size, counts)
	if counts["ValueSet"] < 1300 || counts["CodeSystem"] < 1000 || counts["StructureDefinition"] < 650 || counts["SearchParameter"] < 1390 {
		t.Error(counts)
	}
	s := NewSet(p)
	for _, c := range []struct {
		t   fhir.ResourceType
		url string
	}{
		{"StructureDefinition", "http://hl7.org/fhir/StructureDefinition/Patient|4.0.1"}, {"CodeSystem", "http://terminology.hl7.org/CodeSystem/v3-ActCode"},
		{"ValueSet", "http://hl7.org/fhir/ValueSet/administrative-gender"}, {"SearchParameter", "http://hl7.org/fhir/SearchParameter/individual-birthdate"},
	} {
		n, ok, err := s.Find(context.Background(), c.t, c.url)
		if url, _, _ := strings.Cut(c.url, "|"); err != nil || !ok || n.Get("url").String() != url {
			t.Errorf("%s %s: %t %v", c.t, c.url, ok, err)
		}
	}
}
