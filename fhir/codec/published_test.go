package codec

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec/internal/shareddata"
	"github.com/cloister-health/cloister/fhir/outcome"
)

var update = flag.Bool("update", false, "write the golden files anew; read the difference before you commit it")

// golden compares lines with a committed file that begins with a comment.
func golden(t *testing.T, name, comment string, lines []string) {
	t.Helper()
	for _, l := range lines {
		if strings.Contains(l, "UNEXPLAINED") {
			t.Error(l)
		}
	}
	path := filepath.Join("testdata", name)
	got := comment + strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	known := map[string]bool{}
	for l := range strings.Lines(string(want)) {
		known[strings.TrimSuffix(l, "\n")] = true
	}
	for l := range strings.Lines(got) {
		if l = strings.TrimSuffix(l, "\n"); !known[l] {
			t.Errorf("new: %s", l)
		}
		delete(known, l)
	}
	for l := range known {
		t.Errorf("gone: %s", l)
	}
}

// summary is what a golden file keeps of a refusal: the paths without their
// positions and our reason, never a value.
func summary(err error) string {
	seen := map[string]bool{}
	var out []string
	for _, i := range outcome.Of(err).Issues {
		var b strings.Builder
		for n, part := range strings.Split(i.Path, "[") {
			if n > 0 {
				_, part, _ = strings.Cut(part, "]")
			}
			b.WriteString(part)
		}
		if s := b.String() + ": " + i.Text; !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return strings.Join(out, "; ")
}

func refusals(t *testing.T, files []shareddata.File) []string {
	t.Helper()
	var out []string
	for _, f := range files {
		r, err := Parse(f.Body)
		if err != nil {
			out = append(out, f.Name+"\t"+summary(err))
			continue
		}
		roundTrip(t, r, f.Body)
	}
	return out
}

func TestOfficialExamples(t *testing.T) {
	files := shareddata.Archive(t, "fhir-r4-examples.tar.xz")
	if len(files) < 400 {
		t.Fatalf("only %d examples", len(files))
	}
	golden(t, "examples.golden", `# Official R4 examples that are refused, with the rule of R4 that they break:
# txt-2 asks of a narrative to have content; the others refer to a type that the
# StructureDefinition does not list for that element.
`, refusals(t, files))
}

func TestBehavioralHealthExamples(t *testing.T) {
	golden(t, "us-bhp.golden", `# Examples of the US Behavioral Health Profiles that are refused. They were converted from XML: decimals and
# integers became strings, comments became fhir_comments; others have a date where an instant is due, a code with
# blanks at its ends.
`, refusals(t, shareddata.Archive(t, "us-bhp-examples.tar.xz")))
}

// The synthetic patients are accepted as they are: three of them and the two Bundles of organizations and
// practitioners, or all with CLOISTER_SLOW_TESTS set.
func TestSyntheticPatients(t *testing.T) {
	names, err := filepath.Glob(filepath.Join(shareddata.Folder(t), "synthea-120", "*.json.bz2"))
	if err != nil || len(names) == 0 {
		t.Skip("no synthetic patients here")
	}
	if os.Getenv("CLOISTER_SLOW_TESTS") == "" {
		names = names[:min(5, len(names))]
	}
	count := 0
	for _, name := range names {
		body := shareddata.Bzip2(t, name)
		r, err := ParseLimited(body, Limits{Bytes: 64 << 20})
		if err != nil {
			t.Errorf("%s: %s", filepath.Base(name), summary(err))
			continue
		}
		for _, e := range r.Entries() {
			if e.Resource == nil || e.Path == "" {
				t.Fatalf("%s: an entry without a resource", filepath.Base(name))
			}
			count++
			if !e.Resource.Type.Valid() {
				t.Fatal(e.Path)
			}
		}
		if len(body) < 1<<20 {
			roundTrip(t, r, body)
		}
		if r.BundleType() == "transaction" && len(r.References()) == 0 {
			t.Errorf("%s: no references", filepath.Base(name))
		}
	}
	t.Logf("%d resources of %d Bundles", count, len(names))
}
