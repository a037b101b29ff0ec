package label_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

func readSet(t testing.TB, name, labels, text string) label.ValueSet {
	t.Helper()
	v, err := label.ReadValueSet(name, labels, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const localDrugs = "http://example.org/drugs"

func operators(t testing.TB) *label.Classifier {
	t.Helper()
	return label.New(label.Options{Tobacco: true, Unknown: true, Sets: []label.ValueSet{
		readSet(t, "rows.tsv", "", "# ours\nSUD+ETH\t"+localDrugs+"/|2\tbup met\nHIV\ticd-10-cm\tZ99.1\n"),
	}})
}

// The reasons of a coding give its labels, under every policy.
func TestReasonsGiveTheLabels(t *testing.T) {
	all := []*label.Classifier{label.Default(), operators(t)}
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SampledFrom(all).Draw(t, "classifier")
		typ := rapid.SampledFrom([]fhir.ResourceType{"DocumentReference", "Condition", "Organization"}).Draw(t, "type")
		system := rapid.SampledFrom([]string{icd, icd9, loinc, rxnorm, snomed, hcpcs, actCode, label.URI, "", localDrugs, "http://hl7.org/fhir/sid/ndc", fhir.NoteKind, fhir.OrganizationKind}).Draw(t, "system")
		code := rapid.OneOf(
			rapid.StringMatching(`[FTOZ][0-9]{2}(\.[0-9]{1,3})?`), rapid.StringMatching(`[23][0-9]{2}(\.[0-9]{1,2})?`),
			rapid.SampledFrom([]string{"1819", "44249-1", "7407", "7200002", "F17.210", "305.1", "H0020", "SPI", "http://loinc.org/q/69737-5", "q/phq-9", "bup", "psychotherapy-note", "part2-program", "x"}),
		).Draw(t, "code")
		var s label.Set
		for _, r := range x.Reasons(typ, system, code) {
			if r.Labels == 0 || r.Rule == "" || r.Basis == "" {
				t.Fatalf("%+v says nothing", r)
			}
			s |= r.Labels
		}
		if got := x.Classify(label.Content{Type: typ, Codings: pairs(system, code)}); got != s {
			t.Fatalf("%s|%s is %s, and the reasons say %s", system, code, got, s)
		}
		// An operator's sets and switches add, and take nothing away.
		house := label.Classify(label.Content{Type: typ, Codings: pairs(system, code)})
		if !all[1].Classify(label.Content{Type: typ, Codings: pairs(system, code)}).Has(house) {
			t.Fatalf("%s|%s is %s, and less for an operator", system, code, house)
		}
	})
}

func TestReasons(t *testing.T) {
	for _, c := range []struct {
		system, code string
		want         []string
	}{
		{icd, "F11.20", []string{"ETH+SUD+OPIOIDUD icd-10-cm F11 own"}},
		{icd, "T40.5X1A", []string{"ETH icd-10-cm T405 SAMHSA C2S 2017"}},
		{rxnorm, "1007053", []string{"SUD rxnorm 1007053 ASU SHARES"}},
		{"", "44250-9", []string{"PSY+MH loinc 44250-9 own"}},
		{label.URI, "http://example.org/q/phq-9", []string{"PSY+MH instrument phq own", "PSY+MH instrument phq9 own"}},
		{fhir.OrganizationKind, "part2-program", []string{"42CFRPart2 part2-program 42 CFR 2.11"}},
		{icd, "F17.210", nil},
		{"http://example.org/x", "F11", nil},
		{"", "final", nil},
	} {
		var got []string
		for _, r := range label.Default().Reasons("Condition", c.system, c.code) {
			got = append(got, r.Labels.String()+" "+r.Rule+" "+r.Basis)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s|%s: %q, want %q", c.system, c.code, got, c.want)
		}
	}
}

func TestPolicySwitches(t *testing.T) {
	x, house := operators(t), label.Default()
	for _, c := range []struct{ system, code, house, want string }{
		{icd, "F17.210", "-", "ETH+PSY"},
		{icd9, "305.1", "-", "ETH+PSY"},
		{icd, "F10.20", "ETH+SUD+ETHUD", "ETH+SUD+ETHUD"},
		{icd, "Z99.1", "-", "HIV"}, // in an operator's set
		{icd, "Z99.12", "-", "HIV"},
		{localDrugs, "bup", "-", "ETH+SUD+UNCLASSIFIED"},
		{localDrugs, "aspirin", "-", "UNCLASSIFIED"},
		{"http://hl7.org/fhir/sid/ndc", "12496-1208-1", "-", "UNCLASSIFIED"},
		{"http://terminology.hl7.org/CodeSystem/condition-clinical", "active", "-", "-"},
		{"http://unitsofmeasure.org", "mg", "-", "-"},
		{"", "final", "-", "-"},
		{icd, "J45", "-", "-"},
	} {
		if got := house.OfCode(c.system, c.code); got != set(t, c.house) {
			t.Errorf("%s|%s is %s by default, want %s", c.system, c.code, got, c.house)
		}
		if got := x.OfCode(c.system, c.code); got != set(t, c.want) {
			t.Errorf("%s|%s is %s for the operator, want %s", c.system, c.code, got, c.want)
		}
	}
	if set(t, "UNCLASSIFIED").Confidentiality() != label.Restricted {
		t.Error("what is coded in an unknown system is not R")
	}
}

// The version follows every decision, and nothing else.
func TestVersion(t *testing.T) {
	rows := func(text string) label.Options {
		return label.Options{Sets: []label.ValueSet{readSet(t, "x", "", text)}}
	}
	seen := map[string]int{}
	for i, o := range []label.Options{{}, {Tobacco: true}, {Unknown: true}, {Tobacco: true, Unknown: true},
		rows("SUD\tloinc\t1-1"), rows("HIV\tloinc\t1-1"), rows("SUD\tloinc\t1-2"), rows("SUD\tsnomed\t1-1"), rows("SUD\tloinc\t1-1 1-2")} {
		v := label.New(o).Version()
		if j, ok := seen[v]; ok {
			t.Errorf("options %d and %d have one version, %s", j, i, v)
		}
		seen[v] = i
		if label.New(o).Version() != v || len(v) != 16 {
			t.Errorf("the version %s is not of the rules alone", v)
		}
	}
	if label.New(rows("# a comment\nSUD\tloinc\t1-1\n")).Version() != label.New(rows("SUD\tloinc\t1-1")).Version() {
		t.Error("a comment makes another version")
	}
	if label.Default().Version() != label.New(label.Options{}).Version() {
		t.Error("the default has another version")
	}
}

func TestReadValueSet(t *testing.T) {
	compose := `{"resourceType":"ValueSet","url":"http://example.org/vs","version":"3","compose":{"include":[
		{"system":"http://loinc.org","concept":[{"code":"1-1"},{"code":"2-2"}]},{"system":"` + localDrugs + `","concept":[{"code":"a"}]}]}}`
	v := readSet(t, "c.json", "SUD+ETH", compose)
	x := label.New(label.Options{Sets: []label.ValueSet{v}})
	if v.Codes() != 3 || x.OfCode(loinc, "2-2") != label.SUD|label.ETH || x.OfCode(localDrugs, "a") != label.SUD|label.ETH || x.OfCode(localDrugs, "b") != 0 {
		t.Error("the codes of compose are not labelled")
	}
	if r := x.Reasons("Observation", loinc, "1-1"); len(r) != 1 || r[0].Basis != "http://example.org/vs|3" {
		t.Errorf("%+v", r)
	}
	v = readSet(t, "e.json", "HIV", `{"resourceType":"ValueSet","compose":{"include":[{"system":"http://loinc.org","filter":[{}]}]},"expansion":{"total":2,"contains":[
		{"abstract":true,"system":"http://loinc.org","code":"9-9","contains":[{"system":"http://loinc.org","code":"1-1"}]},{"system":"http://loinc.org","code":"2-2"}]}}`)
	if x := label.New(label.Options{Sets: []label.ValueSet{v}}); x.OfCode(loinc, "1-1") != label.HIV || x.OfCode(loinc, "2-2") != label.HIV || x.OfCode(loinc, "9-9") != 0 {
		t.Error("the codes of an expansion are not labelled")
	}
	for name, c := range map[string]struct{ labels, text, want string }{
		"fields":               {"", "SUD\tloinc\n", "x line 1: 2 fields"},
		"all faults":           {"", "SUD\tloinc\t1-1\nNOPE\tloinc\t1-1\n\nSUD\tnowhere\t1", "x line 2: label: unknown label \"NOPE\"\nlabel: x line 4: \"nowhere\" is neither"},
		"a source":             {"", "PSYTHPN\tloinc\t1-1", "a code alone gives no PSYTHPN"},
		"no label":             {"", "-\tloinc\t1-1", "it has no label"},
		"no codes":             {"", "SUD\tloinc\t ", "it has no codes"},
		"empty":                {"", "# nothing\n", "has no rules"},
		"labels twice":         {"SUD", "SUD\tloinc\t1-1", "names labels on each line"},
		"no labels":            {"", compose, "say what it is about"},
		"a source of a set":    {"42CFRPart2", compose, "a code alone gives no 42CFRPart2"},
		"another resource":     {"SUD", `{"resourceType":"CodeSystem"}`, "no ValueSet"},
		"broken JSON":          {"SUD", "{\n\"resourceType\":\n,}", "x line 3"},
		"a wrong type":         {"SUD", "{\"resourceType\":\"ValueSet\",\n\"compose\":7}", "x line 2"},
		"a filter":             {"SUD", `{"resourceType":"ValueSet","compose":{"include":[{"system":"http://loinc.org","filter":[{}]}]}}`, "compose.include[0] does not list"},
		"another set":          {"SUD", `{"resourceType":"ValueSet","compose":{"include":[{"valueSet":["http://x"]}]}}`, "compose.include[0] does not list"},
		"an exclusion":         {"SUD", `{"resourceType":"ValueSet","compose":{"include":[{"system":"http://loinc.org","concept":[{"code":"1-1"}]}],"exclude":[{}]}}`, "compose.exclude"},
		"no system":            {"SUD", `{"resourceType":"ValueSet","compose":{"include":[{"concept":[{"code":"1-1"}]}]}}`, "include[0].concept[0] has no code system"},
		"no code":              {"SUD", `{"resourceType":"ValueSet","expansion":{"contains":[{"system":"http://loinc.org"}]}}`, "contains[0] has no code"},
		"part of an expansion": {"SUD", `{"resourceType":"ValueSet","expansion":{"total":900,"contains":[{"system":"http://loinc.org","code":"1-1"}]}}`, "has 1 of 900"},
		"nothing":              {"SUD", `{"resourceType":"ValueSet"}`, "has no codes"},
	} {
		v, err := label.ReadValueSet("x", c.labels, []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || v.Codes() != 0 {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// What others state raises, and makes nothing a record of a program here.
func TestStated(t *testing.T) {
	for _, c := range []struct {
		codings []string
		want    string
	}{
		{nil, "-"},
		{[]string{actCode, "42CFRPart2"}, "42CFRPart2-RECEIVED"},
		{[]string{actCode, "SUD", actCode, "HIV"}, "SUD+HIV"},
		{[]string{fhir.SecurityLabel, "MINORCONSENT"}, "MINORCONSENT"},
		{[]string{actCode, "PSYTHPN"}, "PSY+MH"},
		{[]string{fhir.SecurityLabel, "SUDCN"}, "ETH+SUD"},
		{[]string{"http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "U"}, "-"},
		{[]string{actCode, "NORDSCLCD", "http://example.org", "SUD", "", ""}, "-"},
	} {
		if got := label.Stated(pairs(c.codings...)); got != set(t, c.want) {
			t.Errorf("%v states %s, want %s", c.codings, got, c.want)
		}
	}
}
