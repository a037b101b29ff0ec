package terms_test

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
)

const good = `{
  "agreements": [{"reference": "Contract/dua-7", "recipients": ["registry"], "from": "2026-01-01", "until": "2027-01-01"}],
  "determinations": [{"reference": "DocumentReference/expert-2", "recipients": ["registry"], "from": "2026-01-01", "until": "2027-01-01",
    "k": 11, "days": 30, "quasiIdentifiers": ["gender", "birth-year"], "yearBand": 10}],
  "codes": {"https://practice.example/own": ["a", "b"]},
  "questionnaires": {"https://practice.example/intake": ["1", "2"]}
}`

func TestParseRefuses(t *testing.T) {
	if _, err := terms.Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]string{
		"no JSON":                    {`{`, `[`},
		"another field":              {`"agreements"`, `"agreement"`},
		"something behind":           {"\n}", "\n} {}"},
		"no reference":               {`"Contract/dua-7"`, `""`},
		"no such type":               {`"Contract/dua-7"`, `"Contracts/dua-7"`},
		"nobody":                     {`["registry"], "from": "2026-01-01", "until": "2027-01-01"}`, `[], "from": "2026-01-01", "until": "2027-01-01"}`},
		"a recipient without a name": {`["registry"]`, `[""]`},
		"no day":                     {`"from": "2026-01-01"`, `"from": "2026"`},
		"the wrong way round":        {`"until": "2027-01-01"`, `"until": "2025-01-01"`},
		"k":                          {`"k": 11`, `"k": 10`},
		"days":                       {`"days": 30`, `"days": 367`},
		"a band":                     {`"yearBand": 10`, `"yearBand": -1`},
		"a quasi-identifier":         {`"birth-year"`, `"birth-day"`},
		"twice":                      {`"birth-year"`, `"gender"`},
		"no codes":                   {`["a", "b"]`, `[]`},
		"no system":                  {`"https://practice.example/own"`, `"own"`},
		"no question":                {`["1", "2"]`, `["1", ""]`},
	} {
		text := strings.Replace(good, c[0], c[1], 1)
		if text == good {
			t.Fatal(name)
		}
		if _, err := terms.Parse([]byte(text)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// A release to somebody goes by the document that names her and is in force, and by no other.
func TestD4_164_514_e_4_TheDocumentIsInForce(t *testing.T) {
	x, err := terms.Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	at := func(day string) time.Time {
		d, err := time.Parse(time.RFC3339, day)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		profile, client, at, reference string
	}{
		{"limited-data-set", "registry", "2026-01-01T00:00:00Z", "Contract/dua-7"},
		{"limited-data-set", "registry", "2026-12-31T23:59:59Z", "Contract/dua-7"},
		{"limited-data-set", "registry", "2025-12-31T23:59:59Z", ""},
		{"limited-data-set", "registry", "2027-01-01T00:00:00Z", ""},
		{"limited-data-set", "other", "2026-06-01T00:00:00Z", ""},
		{"limited-data-set", "", "2026-06-01T00:00:00Z", ""},
		{"expert-determination", "registry", "2026-06-01T00:00:00Z", "DocumentReference/expert-2"},
		{"expert-determination", "other", "2026-06-01T00:00:00Z", ""},
		{"safe-harbor", "anybody", "2030-01-01T00:00:00Z", "/"},
	} {
		p, _ := deident.Named(c.profile)
		g, err := x.For(p, c.client, at(c.at))
		if (err == nil) != (c.reference != "") || err == nil && g.Reference.String() != strings.TrimPrefix(c.reference, "/") || (g.Expert != nil) != (c.profile == "expert-determination" && err == nil) {
			t.Errorf("%+v: %v %v", c, g, err)
		}
		if err == nil && (len(g.Codes) != 1 || len(g.Answers) != 1) {
			t.Errorf("%+v: %v", c, g)
		}
	}
	p, _ := deident.Named("expert-determination")
	before, _ := x.For(p, "registry", at("2026-06-01T00:00:00Z"))
	x.Determinations[0].Days = 31
	if after, _ := x.For(p, "registry", at("2026-06-01T00:00:00Z")); before.Digest == after.Digest {
		t.Error("another determination is not another")
	}
}

func TestLoad(t *testing.T) {
	tenant := func(slug string) (int32, bool) { return 7, slug == "harbor" }
	var p terms.Practices
	if len(p.Of(7).Agreements) != 0 {
		t.Error("nobody has laid down anything yet")
	}
	dir := fstest.MapFS{"harbor/releases.json": {Data: []byte(good)}, "harbor/policy.csv": {}, "meadow/policy.csv": {}, "README": {}}
	if err := p.Load(dir, tenant); err != nil || len(p.Of(7).Agreements) != 1 || len(p.Of(8).Agreements) != 0 {
		t.Errorf("%v %v", err, p.Of(7))
	}
	for name, bad := range map[string]fstest.MapFS{"no such practice": {"meadow/releases.json": {Data: []byte(good)}}, "faulty": {"harbor/releases.json": {Data: []byte("{")}}} {
		if err := p.Load(bad, tenant); err == nil || len(p.Of(7).Agreements) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
