package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/label"
)

func TestLabels(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	rows := file("rows.tsv", "HIV\tloinc\t1-1\n")
	set := file("set.json", `{"resourceType":"ValueSet","compose":{"include":[{"system":"http://loinc.org","concept":[{"code":"2-2"}]}]}}`)
	x, err := Labels{LabelSets: []string{rows, "SUD+ETH=" + set}}.Classifier()
	if err != nil || x.OfCode("http://loinc.org", "1-1") != label.HIV || x.OfCode("http://loinc.org", "2-2") != label.SUD|label.ETH {
		t.Fatalf("the sets are not read: %v", err)
	}
	if x, err := (Labels{}).Classifier(); err != nil || x.Version() != label.Default().Version() {
		t.Errorf("without settings the rules are others than the built-in ones: %v", err)
	}
	if x, err := (Labels{LabelTobacco: true}).Classifier(); err != nil || x.OfCode("http://hl7.org/fhir/sid/icd-10-cm", "F17.2") == 0 {
		t.Errorf("tobacco does not count: %v", err)
	}
	if x, err := (Labels{LabelUnknown: true}).Classifier(); err != nil || x.OfCode("http://example.org/x", "1") != label.Unclassified {
		t.Errorf("what is unknown is not protected: %v", err)
	}
	bad := file("bad.tsv", "HIV\tloinc\n\nNOPE\tloinc\t1\n")
	err = Labels{LabelSets: []string{filepath.Join(dir, "none"), bad, set}}.Check()
	for _, want := range []string{"cannot be read", "bad.tsv line 1", "bad.tsv line 3", "say what it is about"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
