package label_test

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

const (
	icd    = "http://hl7.org/fhir/sid/icd-10-cm"
	icd9   = "http://hl7.org/fhir/sid/icd-9-cm"
	loinc  = "http://loinc.org"
	rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm"
	snomed = "http://snomed.info/sct"
	hcpcs  = "https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets"
)

func pairs(kv ...string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for i := 0; i+1 < len(kv); i += 2 {
			if !yield(kv[i], kv[i+1]) {
				return
			}
		}
	}
}

func set(t testing.TB, text string) label.Set {
	t.Helper()
	s, err := label.ParseSet(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// L47: medicines, services, instruments and diagnoses each give their labels,
// in every spelling of system and code.
func TestOfCode(t *testing.T) {
	for _, c := range []struct{ system, code, want string }{
		{icd, "F10.20", "ETH+SUD+ETHUD"}, {icd, "F10", "ETH+SUD+ETHUD"}, {icd, "F11.20", "ETH+SUD+OPIOIDUD"},
		{icd, "f1120", "ETH+SUD+OPIOIDUD"}, {"urn:oid:2.16.840.1.113883.6.90", "F14.10", "ETH+SUD"},
		{"https://hl7.org/fhir/sid/icd-10-cm/", "F32.1", "PSY+MH"}, {icd, "F32.1", "PSY+MH"}, {icd, "F41.1", "PSY+MH"}, {icd, "F43.10", "PSY+MH"},
		{icd, "F90.0", "PSY+MH"}, {icd, "F10-F19", "ETH+SUD+ETHUD"}, {icd, "B20", "HIV"}, {icd, "Z21", "HIV"}, {icd, "A51.0", "STD"},
		{icd, "O80", "PREGNANT"}, {icd, "O99.324", "ETH+SUD+PREGNANT"}, {icd, "T74.11XA", "SDV+VIO"}, {icd, "D57.1", "SICKLE"}, {icd, "K70.30", "ETH+SUD+ETHUD"},
		{icd, "R45.851", "PSY+MH"}, {icd, "J45.909", "-"}, {icd, "E11.9", "-"}, {icd, "I10", "-"},
		{"urn:oid:2.16.840.1.113883.6.4", "HZ30ZZZ", "ETH+SUD"}, {"urn:oid:2.16.840.1.113883.6.4", "GZ58ZZZ", "PSY+MH"},
		{icd9, "304.00", "ETH+SUD+OPIOIDUD"}, {icd9, "30400", "ETH+SUD+OPIOIDUD"}, {icd9, "305.20", "ETH+SUD+PSY"}, {icd9, "296.30", "PSY+MH"}, {icd9, "042", "HIV"}, {icd9, "42", "HIV"}, {icd9, "250.00", "-"},
		{rxnorm, "1819", "ETH+SUD+OPIOIDUD"}, {rxnorm, "6813", "ETH+SUD+OPIOIDUD"}, {rxnorm, "7243", "ETH+SUD"},
		{rxnorm, "3554", "ETH+SUD+ETHUD"}, {rxnorm, "82819", "ETH+SUD+ETHUD"}, {rxnorm, "351266", "ETH+SUD+OPIOIDUD"}, {rxnorm, "36437", "PSY"},
		{rxnorm, "312941", "PSY+MH"}, {rxnorm, "161", "-"},
		{hcpcs, "H0020", "ETH+SUD"}, {hcpcs, "G2067", "ETH+SUD"}, {hcpcs, "H0031", "PSY+MH"}, {hcpcs, "H0004", "BH"}, {hcpcs, "H0043", "BH"}, {hcpcs, "A0425", "-"},
		{"http://www.ama-assn.org/go/cpt", "99408", "ETH+SUD"}, {"http://www.ama-assn.org/go/cpt", "90837", "PSY+MH"}, {"http://www.ama-assn.org/go/cpt", "99213", "-"},
		{loinc, "44249-1", "PSY+MH"}, {loinc, "69737-5", "PSY+MH"}, {loinc, "93373-9", "PSY+MH"}, {loinc, "75624-7", "ETH+SUD"}, {loinc, "82667-7", "ETH+SUD"}, {loinc, "8480-6", "-"},
		{snomed, "7200002", "ETH+SUD+ETHUD"}, {snomed, "47505003", "PSY+MH"}, {snomed, "86406008", "HIV"}, {snomed, "44054006", "-"},
		{snomed + "/731000124108", "7200002", "ETH+SUD+ETHUD"},
		{"http://terminology.hl7.org/CodeSystem/v3-ActCode", "ETHUD", "ETHUD"},
		{"http://terminology.hl7.org/CodeSystem/v3-ActCode", "DVD", "BH+DVD"}, {"http://terminology.hl7.org/CodeSystem/v3-ActCode", "SCA", "SICKLE"},
		{icd, "F70", "PSY+MH+BH+COGN+DVD"}, {icd, "F03.90", "BH+COGN"}, {"http://hl7.org/fhir/sid/cvx", "61", "HIV"}, {"http://hl7.org/fhir/sid/cvx", "140", "-"},
		{rxnorm, "1010600", "ETH+SUD+OPIOIDUD"}, {rxnorm, "835726", "ETH+SUD+ETHUD"}, {rxnorm, "1483744", "ETH+SUD"},
		// Instruments by their URL.
		{label.URI, "http://loinc.org/q/69737-5|2.7", "PSY+MH"}, {label.URI, "Questionnaire/phq-9", "PSY+MH"}, {label.URI, "https://example.org/Questionnaire/us-bhp-AUDIT-C|1.0", "ETH+SUD+ETHUD"},
		{label.URI, "http://example.org/q/dast-10", "ETH+SUD"}, {label.URI, "http://example.org/q/C-SSRS-screener", "PSY+MH"}, {label.URI, "http://example.org/asam-criteria/", "ETH+SUD"},
		{label.URI, "http://example.org/q/gad7", "PSY+MH"}, {label.URI, "http://example.org/q/cage-aid", "ETH+SUD+ETHUD"},
		{label.URI, "http://example.org/q/auditory", "-"}, {label.URI, "http://example.org/audit/q", "-"}, {label.URI, "http://example.org/q/69737-5", "-"}, {label.URI, "urn:uuid:0b9b7f0e-6a3e-4b6d-9f62-7a0d53e6a0c4", "-"},
		// A source is never a matter of codes.
		{"http://terminology.hl7.org/CodeSystem/v3-ActCode", "PSYTHPN", "-"}, {"http://terminology.hl7.org/CodeSystem/v3-ActCode", "42CFRPart2", "-"},
		// Tobacco is left out.
		{icd, "F17.210", "-"}, {icd, "Z72.0", "-"}, {icd9, "305.1", "-"}, {rxnorm, "7407", "-"}, {loinc, "72166-2", "-"}, {snomed, "89765005", "-"}, {icd, "O99.330", "PREGNANT"},
		// Without a system the form decides; with an unknown one nothing does.
		{"", "F11.20", "ETH+SUD+OPIOIDUD"}, {"", "44249-1", "PSY+MH"}, {"", "H0020", "ETH+SUD"}, {"", "F17.210", "-"}, {"", "1819", "-"}, {"", "final", "-"}, {"", "", "-"},
		{"http://example.org/rooms", "F10", "-"}, {icd, "", "-"},
	} {
		if got := label.OfCode(c.system, c.code); got != set(t, c.want) {
			t.Errorf("OfCode(%q, %q) = %s, want %s", c.system, c.code, got, c.want)
		}
	}
}

func TestClassifySource(t *testing.T) {
	for name, c := range map[string]struct {
		typ  fhir.ResourceType
		code []string
		want string
	}{
		"P4 psychotherapy note":                {"DocumentReference", []string{fhir.NoteKind, "psychotherapy-note"}, "PSYTHPN"},
		"P4 as a Composition":                  {"Composition", []string{fhir.NoteKind, "psychotherapy-note", icd, "F32.1"}, "PSYTHPN+PSY+MH"},
		"S10 counseling note":                  {"DocumentReference", []string{fhir.NoteKind, "sud-counseling-note"}, "SUDCN"},
		"P1 a diagnosis is no note":            {"Condition", []string{fhir.NoteKind, "psychotherapy-note"}, "-"},
		"a note of another kind":               {"DocumentReference", []string{fhir.NoteKind, "progress-note"}, "-"},
		"the code of another system":           {"DocumentReference", []string{loinc, "psychotherapy-note"}, "-"},
		"S27 minor-consented care":             {"Encounter", []string{fhir.EncounterKind, "minor-consented"}, "MINORCONSENT"},
		"another encounter":                    {"Encounter", []string{fhir.EncounterKind, "group"}, "-"},
		"S1 the program":                       {"Organization", []string{fhir.OrganizationKind, "part2-program"}, "42CFRPart2"},
		"S1 a contained program":               {"Encounter", []string{fhir.OrganizationKind, "part2-program"}, "42CFRPart2"},
		"S2 a substance use code is no source": {"Condition", []string{icd, "F11.20"}, "ETH+SUD+OPIOIDUD"},
		"nothing":                              {"Observation", nil, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := label.Classify(label.Content{Type: c.typ, Codings: pairs(c.code...)}); got != set(t, c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	if label.Classify(label.Content{Type: "Patient"}) != 0 {
		t.Error("no codings, no labels")
	}
	program := pairs(fhir.OrganizationKind, "part2-program")
	for typ, want := range map[fhir.ResourceType]bool{"Organization": true, "Location": false} {
		if label.IsPart2Program(label.Content{Type: typ, Codings: program}) != want {
			t.Errorf("%s is a program: want %v", typ, want)
		}
	}
	if label.IsPart2Program(label.Content{Type: "Organization", Codings: pairs(fhir.OrganizationKind, "other", loinc, "part2-program")}) || label.IsPart2Program(label.Content{Type: "Organization"}) {
		t.Error("an ordinary organization is no program")
	}
}

func drawCodings(t *rapid.T) []string {
	one := rapid.SampledFrom([][2]string{
		{icd, "F32.1"}, {icd, "F11.20"}, {icd, "F17.2"}, {icd, "J45"}, {icd9, "304.00"}, {rxnorm, "1819"}, {loinc, "44249-1"}, {snomed, "7200002"},
		{fhir.NoteKind, "psychotherapy-note"}, {fhir.NoteKind, "sud-counseling-note"}, {fhir.EncounterKind, "minor-consented"}, {fhir.OrganizationKind, "part2-program"},
		{"", "F32.1"}, {"urn:x", "y"},
	})
	var out []string
	for _, p := range rapid.SliceOfN(one, 0, 5).Draw(t, "codings") {
		out = append(out, p[0], p[1])
	}
	return out
}

// The join of labels is a semilattice, and Classify is a homomorphism from
// codings to it: order and repetition say nothing, and a coding never takes a label away.
func TestClassifyIsAJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom([]fhir.ResourceType{"DocumentReference", "Condition", "Organization", "Encounter"}).Draw(t, "type")
		of := func(codes []string) label.Set {
			return label.Classify(label.Content{Type: typ, Codings: pairs(codes...)})
		}
		a, b, c := drawCodings(t), drawCodings(t), drawCodings(t)
		ab := of(slices.Concat(a, b))
		switch {
		case ab != of(a)|of(b):
			t.Fatalf("%s and %s together are %s", of(a), of(b), ab)
		case ab != of(slices.Concat(b, a)):
			t.Fatal("the order matters")
		case of(slices.Concat(a, a)) != of(a):
			t.Fatal("repetition matters")
		case of(slices.Concat(slices.Concat(a, b), c)) != of(slices.Concat(a, slices.Concat(b, c))):
			t.Fatal("grouping matters")
		case !ab.Has(of(a)):
			t.Fatal("a coding took a label away")
		}
		if back, err := label.ParseSet(ab.String()); err != nil || back != ab {
			t.Fatalf("%s reads back as %s, %v", ab, back, err)
		}
	})
}

func tree(t testing.TB, text string) *element.Node {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return node(v)
}

func node(v any) *element.Node {
	switch v := v.(type) {
	case map[string]any:
		n := element.NewObject()
		for _, k := range slices.Sorted(maps.Keys(v)) {
			n.Set(k, node(v[k]))
		}
		return n
	case []any:
		n := &element.Node{Kind: element.Array}
		for _, x := range v {
			n.Items = append(n.Items, node(x))
		}
		return n
	case string:
		return element.NewString(v)
	}
	return &element.Node{Kind: element.Number, Text: fmt.Sprint(v)}
}

const goodNote = `{"resourceType":"DocumentReference","type":{"coding":[{"system":"` + fhir.NoteKind + `","code":"psychotherapy-note"}]},
	"subject":{"reference":"Patient/1"},"author":[{"reference":"Practitioner/1"}],"context":{}%s}`

func TestNoteFaults(t *testing.T) {
	kind := `{"system":"` + fhir.NoteKind + `","code":"psychotherapy-note"}`
	for name, c := range map[string]struct {
		text string
		want string // paths
	}{
		"a note":                    {fmt.Sprintf(goodNote, ``), ""},
		"no note":                   {`{"resourceType":"DocumentReference","context":{"period":{}},"contained":[{}]}`, ""},
		"P1 session times":          {strings.Replace(fmt.Sprintf(goodNote, ``), `"context":{}`, `"context":{"period":{"start":"2026-01-01"}}`, 1), "DocumentReference.context.period"},
		"P1 encounter and modality": {strings.Replace(fmt.Sprintf(goodNote, ``), `"context":{}`, `"context":{"encounter":[{}],"event":[{}],"related":[{}]}`, 1), "DocumentReference.context.encounter DocumentReference.context.event DocumentReference.context.related"},
		"P1 contained prescription": {fmt.Sprintf(goodNote, `,"contained":[{"resourceType":"MedicationRequest"}]`), "DocumentReference.contained"},
		"P2 part of a document":     {fmt.Sprintf(goodNote, `,"relatesTo":[{}]`), "DocumentReference.relatesTo"},
		"P3 a patient's journal":    {strings.Replace(fmt.Sprintf(goodNote, ``), "Practitioner/1", "Patient/1", 1), "DocumentReference.author"},
		"P3 no author":              {strings.Replace(fmt.Sprintf(goodNote, ``), `"author":[{"reference":"Practitioner/1"}],`, "", 1), "DocumentReference.author"},
		"P3 one author of two":      {strings.Replace(fmt.Sprintf(goodNote, ``), `"Practitioner/1"}`, `"PractitionerRole/1"},{"reference":"Device/1"}`, 1), "DocumentReference.author"},
		"P1 a Composition":          {`{"resourceType":"Composition","type":{"coding":[` + kind + `]},"author":[{"reference":"Practitioner/1"}],"encounter":{},"event":[{}],"section":[{"entry":[{}],"section":[{"entry":[{}]}]}]}`, "Composition.encounter Composition.event Composition.section.entry Composition.section.section.entry"},
		"P1 hidden in a category":   {`{"resourceType":"DocumentReference","category":[{"coding":[` + kind + `]}],"author":[{"reference":"Practitioner/1"}]}`, "DocumentReference.type"},
		"P1 in another resource":    {`{"resourceType":"Observation","contained":[{"resourceType":"DocumentReference","type":{"coding":[` + kind + `]}}]}`, "Observation"},
		"S12 two kinds":             {`{"resourceType":"DocumentReference","type":{"coding":[` + kind + `,{"system":"` + fhir.NoteKind + `","code":"sud-counseling-note"}]},"author":[{"reference":"Practitioner/1"}]}`, "DocumentReference.type"},
		"an unknown kind":           {`{"resourceType":"DocumentReference","type":{"coding":[{"system":"` + fhir.NoteKind + `","code":"diary"}]},"author":[{"reference":"Practitioner/1"}]}`, "DocumentReference.type"},
	} {
		t.Run(name, func(t *testing.T) {
			var paths []string
			for _, i := range label.NoteFaults(tree(t, c.text)) {
				paths = append(paths, i.Path)
				if i.Text == "" || i.Warning {
					t.Errorf("%+v is no error", i)
				}
			}
			if got := strings.Join(paths, " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if label.NoteFaults(nil) != nil {
		t.Error("nothing has no faults")
	}
}

// The generated table holds every fact of the lists that it was made from,
// tobacco excepted.
func TestTableHoldsThePublishedLists(t *testing.T) {
	dir := os.Getenv("CLOISTER_SHARED_DATA")
	if dir == "" {
		dir = "../../../shared/data"
	}
	files, _ := filepath.Glob(filepath.Join(dir, "sensitive-codes", "*.csv"))
	if len(files) == 0 {
		t.Skip("no shared data: set CLOISTER_SHARED_DATA")
	}
	tobacco, total := 0, 0
	for _, f := range files {
		data, err := os.ReadFile(f) //nolint:gosec // the environment says where published files are
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(strings.ReplaceAll(string(data), "\r", ""), "\n") {
			if i == 0 || line == "" {
				continue
			}
			total++
			c := strings.Split(line, ",")
			if got, want := label.OfCode(c[1], c[2]), set(t, c[0]); !got.Has(want) {
				if want.Any(^(label.ETH | label.PSY)) {
					t.Errorf("%s: got %s", line, got)
				}
				tobacco++
			}
		}
	}
	if total < 8000 || tobacco > 60 {
		t.Errorf("%d facts, %d of them left out as tobacco", total, tobacco)
	}
}

func BenchmarkClassify(b *testing.B) {
	codings := pairs("http://terminology.hl7.org/CodeSystem/condition-category", "encounter-diagnosis", icd, "F32.1", snomed, "370143000", "", "final")
	b.ReportAllocs()
	for b.Loop() {
		label.Classify(label.Content{Type: "Condition", Codings: codings})
	}
}

func FuzzOfCode(f *testing.F) {
	f.Add(icd, "F32.1")
	f.Add("urn:oid:2.16.840.1.113883.6.103", "E.")
	f.Add("", "-1")
	f.Add("http://snomed.info/sct/", "\xff")
	f.Fuzz(func(t *testing.T, system, code string) {
		if s := label.OfCode(system, code); s.Any(label.Source) {
			t.Errorf("a code alone gives %s", s)
		}
	})
}
