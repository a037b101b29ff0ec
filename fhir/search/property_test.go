package search

import (
	neturl "net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// minimal is the smallest resource that path selects from, and the search value that finds it.
func minimal(rt fhir.ResourceType, p *Param, path *path) (*element.Node, string) {
	target := fhir.ResourceType("Patient")
	if p.Targets != nil {
		target = p.Targets[0]
	}
	value, query := sample(path.leaf, target)
	if p.Type == Composite {
		value = element.NewObject()
		var parts []string
		for _, c := range p.components {
			part, query := sample(c.paths[0].leaf, "DocumentReference")
			wrap(part, c.paths[0].steps, func(f element.Field) { value.Fields = append(value.Fields, f) })
			parts = append(parts, Escape(query))
		}
		query = strings.Join(parts, "$")
	} else {
		query = Escape(query)
	}
	root := element.NewObject(element.Field{Name: "resourceType", Value: element.NewString(string(rt))})
	if len(path.steps) == 0 {
		root.Fields = append(root.Fields, value.Fields...)
	} else {
		wrap(value, path.steps, func(f element.Field) { root.Fields = append(root.Fields, f) })
	}
	return root, query
}

// wrap puts value where steps lead to.
func wrap(value *element.Node, steps []step, put func(element.Field)) {
	for i := len(steps) - 1; i >= 0; i-- {
		st := steps[i]
		if st.key != "" {
			value.Set(st.key, element.NewString(st.value))
		}
		if st.extended != "" {
			value.Set("extension", element.NewObject(element.Field{Name: "url", Value: element.NewString(st.extended)}))
		}
		// Odd steps stand in an array, so that both spellings are walked.
		if i%2 == 1 || st.first {
			value = &element.Node{Kind: element.Array, Items: []*element.Node{value}}
		}
		if i == 0 {
			put(element.Field{Name: st.name, Value: value})
			return
		}
		value = element.NewObject(element.Field{Name: st.name, Value: value})
	}
}

func sample(l leaf, target fhir.ResourceType) (*element.Node, string) {
	object := func(name, v string) *element.Node {
		return element.NewObject(element.Field{Name: name, Value: element.NewString(v)})
	}
	ref := string(target) + "/x1"
	switch l {
	case leafBoolean, leafTruth:
		return &element.Node{Kind: element.Bool, Text: "true"}, "true"
	case leafCoding:
		return object("code", "x1"), "x1"
	case leafCodeableConcept:
		return element.NewObject(element.Field{Name: "coding", Value: &element.Node{Kind: element.Array, Items: []*element.Node{object("code", "x1")}}}), "x1"
	case leafIdentifier, leafContactPoint:
		return object("value", "x1"), "x1"
	case leafReference:
		return object("reference", ref), ref
	case leafResource:
		n := object("id", "x1")
		n.Set("resourceType", element.NewString(string(target)))
		return n, ref
	case leafURI, leafCanonical:
		return element.NewString("urn:x1"), "urn:x1"
	case leafDate:
		return element.NewString("2024-05-06"), "2024-05-06"
	case leafPeriod:
		return object("start", "2024-05-06"), "ge2024-05-06"
	case leafTiming:
		return element.NewObject(element.Field{Name: "event", Value: &element.Node{Kind: element.Array, Items: []*element.Node{element.NewString("2024-05-06")}}}), "2024-05-06"
	case leafNumber:
		return &element.Node{Kind: element.Number, Text: "7.50"}, "7.5"
	case leafQuantity, leafMoney:
		return element.NewObject(element.Field{Name: "value", Value: &element.Node{Kind: element.Number, Text: "7.50"}}), "7.5"
	case leafRange:
		return element.NewObject(element.Field{Name: "low", Value: element.NewObject(element.Field{Name: "value", Value: element.NewNumber(7)})}), "ge8"
	case leafSampledData:
		n := object("data", "1 E 3")
		n.Set("origin", element.NewObject(element.Field{Name: "value", Value: element.NewNumber(5)}))
		return n, "gt7.5"
	case leafHumanName:
		return object("family", "x1"), "x1"
	case leafAddress:
		return object("city", "x1"), "x1"
	default:
		return element.NewString("x1"), "x1"
	}
}

// word draws texts full of the characters that search URLs give a meaning to.
func word(t *rapid.T, label string) string {
	return rapid.StringOfN(rapid.RuneFrom([]rune(`ab|,\$ é&=+%#/:"`)), 1, 12, -1).Draw(t, label)
}

// TestFoundByItsOwnValues: a resource is found by every coding, identifier,
// reference, date and text that it holds, whatever characters they are of.
func TestFoundByItsOwnValues(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		system, code, value := word(rt, "system"), word(rt, "code"), word(rt, "value")
		text := word(rt, "text")
		id := rapid.StringMatching(`[A-Za-z0-9.-]{1,64}`).Draw(rt, "id")
		target := rapid.SampledFrom([]string{"Patient", "Group", "Device", "Location"}).Draw(rt, "target")
		day := time.Unix(rapid.Int64Range(-3e9, 3e9).Draw(rt, "day"), 0).UTC()
		date := day.Format(rapid.SampledFrom([]string{"2006", "2006-01", "2006-01-02", "2006-01-02T15:04:05Z", "2006-01-02T15:04:05.000-07:00"}).Draw(rt, "layout"))
		s := func(name, v string) element.Field { return element.Field{Name: name, Value: element.NewString(v)} }
		o := func(name string, fields ...element.Field) element.Field {
			return element.Field{Name: name, Value: element.NewObject(fields...)}
		}
		root := element.NewObject(
			s("resourceType", "Observation"),
			o("code", o("coding", s("system", system), s("code", code))),
			o("identifier", s("system", system), s("value", value)),
			o("subject", s("reference", target+"/"+id)),
			s("effectiveDateTime", date), s("valueString", text),
		)
		x := Extract("Observation", root)
		queries := []neturl.Values{
			{"code": {Escape(code)}}, {"code": {Escape(system) + "|" + Escape(code)}}, {"code": {Escape(system) + "|"}},
			{"identifier": {Escape(value)}}, {"identifier": {Escape(system) + "|" + Escape(value)}},
			{"subject": {id}}, {"subject": {target + "/" + id}}, {"subject:" + target: {id}},
			{"date": {date}}, {"date": {"le" + date}}, {"date": {"ap" + date}},
			{"code": {"other," + Escape(code)}, "subject": {"none," + id}},
		}
		if Normalise(text) != "" {
			queries = append(queries, neturl.Values{"value-string": {Escape(text)}}, neturl.Values{"value-string:exact": {Escape(text)}},
				neturl.Values{"value-string:contains": {Escape(text)}})
		}
		for _, v := range queries {
			v, err := neturl.ParseQuery(v.Encode())
			if err != nil {
				rt.Fatal(err)
			}
			q, _, err := Parse("Observation", v, Options{})
			if err != nil {
				rt.Fatalf("%v: %v", v, err)
			}
			if !matches(q, x) {
				rt.Fatalf("not found by %v", v)
			}
		}
		if !slices.Contains(keys(x.Refs), TargetHash(fhir.Ref{Type: fhir.ResourceType(target), ID: fhir.ID(id)})) {
			rt.Fatal("the bare target is not in the index")
		}
	})
}

// TestOthersAreNotFound: hashes of different parts never meet.
func TestOthersAreNotFound(t *testing.T) {
	if hash(kindSystemCode, "p", "a", "bc") == hash(kindSystemCode, "p", "ab", "c") || hash(kindCode, "p", "ab") == hash(kindCode, "pa", "b") {
		t.Error("parts run into each other")
	}
	rapid.Check(t, func(rt *rapid.T) {
		a, b := word(rt, "a"), word(rt, "b")
		c, d := word(rt, "c"), word(rt, "d")
		if (a != c || b != d) && hash(kindSystemCode, "code", a, b) == hash(kindSystemCode, "code", c, d) {
			rt.Fatal("two tokens share a key")
		}
		if hash(kindCode, "code", a) == hash(kindSystem, "code", a) || hash(kindCode, "code", a) == hash(kindCode, "category", a) {
			rt.Fatal("two kinds share a key")
		}
	})
}

func TestNormaliseProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.String().Draw(rt, "s")
		n := Normalise(s)
		if Normalise(n) != n {
			rt.Fatalf("not idempotent: %q, %q, %q", s, n, Normalise(n))
		}
		if strings.TrimSpace(n) != n || strings.Contains(n, "  ") || !utf8.ValidString(n) {
			rt.Fatalf("white space or encoding is left: %q", n)
		}
	})
	for in, want := range map[string]string{
		"": "", "  Zoë\t\nÅNGSTRÖM ": "zoe angstrom", "İstanbul": "istanbul", "e\u0301": "e", "STRASSE": "strasse", "\x00a\u0085b": "a b",
		"already plain": "already plain", "trailing ": "trailing", "a  b": "a b",
	} {
		if got := Normalise(in); got != want {
			t.Errorf("Normalise(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestInstants(t *testing.T) {
	for in, want := range map[string][2]string{
		"2024":                                {"2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"},
		"2024-12":                             {"2024-12-01T00:00:00Z", "2025-01-01T00:00:00Z"},
		"2024-02-29":                          {"2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"},
		"2024-02-29T23:30":                    {"2024-02-29T23:30:00Z", "2024-02-29T23:31:00Z"},
		"2024-02-29T23:30:10":                 {"2024-02-29T23:30:10Z", "2024-02-29T23:30:11Z"},
		"2024-02-29T23:30:10-05:30":           {"2024-03-01T05:00:10Z", "2024-03-01T05:00:11Z"},
		"2016-12-31T23:59:60Z":                {"2016-12-31T23:59:59Z", "2017-01-01T00:00:00Z"},
		"2024-01-01T00:00:00.25Z":             {"2024-01-01T00:00:00.25Z", "2024-01-01T00:00:00.26Z"},
		"2024-01-01T00:00:00.123456789Z":      {"2024-01-01T00:00:00.123456Z", "2024-01-01T00:00:00.123457Z"},
		"0001-01-01T00:00:00+14:00":           {"0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000001Z"},
		"9999":                                {"9999-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"},
		"9999-12-31T23:59:59.999999999-12:00": {"9999-12-31T23:59:59.999998Z", "9999-12-31T23:59:59.999999Z"},
	} {
		lo, hi, ok := Instants(in)
		if !ok || !lo.Equal(at(want[0])) || !hi.Equal(at(want[1])) {
			t.Errorf("%s: %v %v %v", in, lo, hi, ok)
		}
	}
	for _, in := range []string{"", "24", "20240101", "2024-", "2024-1", "2024-00", "2024-01-00", "2023-02-29", "2024-01-01T", "2024-01-01T24:00", "2024-01-01T10:60", "2024-01-01T10:00:61",
		"2024-01-01T10:00:00z", "2024-01-01T10:00:00+1:00", "2024-01-01T10:00:00+14:01", "2024-01-01 10:00:00", "２０２４", "-2024", "2024-01-01T10:00:00Z "} {
		if lo, hi, ok := Instants(in); ok {
			t.Errorf("%q was read as %v, %v", in, lo, hi)
		}
	}
}

func FuzzInstants(f *testing.F) {
	for _, s := range []string{"2024", "2024-02-29T23:30:10.5-05:30", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:60-14:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lo, hi, ok := Instants(s)
		if ok && (!lo.Before(hi) || lo.Before(Earliest) || hi.After(Latest)) {
			t.Fatalf("%q: [%v, %v)", s, lo, hi)
		}
	})
}
