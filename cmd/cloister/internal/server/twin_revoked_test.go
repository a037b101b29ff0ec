package server_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/api"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
)

// consented is a persona who reads a patient's records under a consent, and has
// turned pages of answers that hold them.
type consented struct {
	*twins
	patient, consent known
	only             []known // what she sees by the consent and no other way
	lesser           []known // what she sees more of by the consent
	first            []call  // the searches whose pages she turned
	turned           []call  // further pages of them, after and before the one that she looked at
	total            map[fhir.ResourceType]int
}

var (
	pageLinks = regexp.MustCompile(`"relation":\s*"(?:next|previous)",\s*"url":\s*"([^"]+)"`)
	totals    = regexp.MustCompile(`"total":\s*(\d+)`)
)

func total(a answer) int {
	m := totals.FindStringSubmatch(a.body)
	if m == nil {
		return -1
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

func further(a answer) (out []call) {
	for _, m := range pageLinks.FindAllStringSubmatch(a.body, -1) {
		if u, err := url.Parse(strings.ReplaceAll(m[1], `\u0026`, "&")); err == nil {
			out = append(out, call{method: "GET", path: u.RequestURI()})
		}
	}
	return out
}

// shown are the records that an answer shows or mentions. The links of an answer repeat what was asked for.
func (c *consented) shown(a answer) (out []fhir.Ref) {
	for _, k := range c.only {
		if strings.Contains(a.body, k.ref.String()+`"`) || strings.Contains(a.body, `"id": "`+string(k.ref.ID)+`"`) || len(k.canaries) > 0 && strings.Contains(a.body, k.canaries[0]) {
			out = append(out, k.ref)
		}
	}
	return out
}

// underConsent looks at records of the patient of that given name while the consent is in force, on both
// databases and on those beside them.
func underConsent(t *testing.T, name, given string, wrap func(*server.Core) api.Store, beside ...*house) *consented {
	t.Helper()
	p, _ := persona(name)
	c := &consented{twins: newClones(t, p, wrap), patient: found(t, given, "Patient"), consent: found(t, given, "Consent"), total: map[fhir.ResourceType]int{}}
	mentioning, _ := shared()
	for _, s := range sampleRecords() {
		if s.given != given || s.practice != p.Practice {
			continue
		}
		a := c.check(t, get("/"+s.ref.String()))
		switch {
		case a.status != http.StatusOK || a.header.Get("Redisclosure-Notice") == "":
		case slices.Contains(mentioning, s.ref):
			c.lesser = append(c.lesser, s.known)
		default:
			c.only = append(c.only, s.known)
		}
	}
	// A second version of one record makes a second page of its history.
	problem := c.any(t, "Condition")
	res, err := codec.Parse([]byte(with(t, problem.json, "language", "en")))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range append(beside, c.full, c.twin) {
		if err := h.load(p.Practice, res); err != nil {
			t.Fatal(err)
		}
	}
	id, nora := string(c.patient.ref.ID), string(found(t, "Nora", "Patient").ref.ID)
	c.first = append(c.first, get("/Patient/"+id+"/$everything?_count=3"), get("/"+problem.ref.String()+"/_history?_count=1"))
	for _, rt := range []fhir.ResourceType{"Condition", "Encounter", "Observation", "MedicationRequest"} {
		at := "/" + string(rt)
		c.total[rt] = total(c.check(t, get(at+"?patient="+id+"&_summary=count")))
		c.first = append(c.first, get(at+"?patient="+id+"&_count=1&_total=accurate"), get(at+"?patient="+id+","+nora+"&_count=2&_sort=-_lastUpdated&_total=accurate&_include=*&_revinclude=*"),
			get("/Patient/"+id+at+"?_count=1&_total=accurate"), get(at+"/_history?_count=3"))
	}
	showed := 0
	for _, q := range c.first {
		for _, second := range further(c.check(t, q)) {
			a := c.check(t, second)
			if len(c.shown(a)) > 0 && a.header.Get("Redisclosure-Notice") != "" {
				showed++
			}
			c.turned = append(append(c.turned, second), further(a)...)
		}
	}
	t.Logf("%d records by the consent alone, %d links, %d of %d second pages show some", len(c.only), len(c.turned), showed, len(c.first))
	if len(c.only) < 20 || showed < 5 {
		t.Fatal("the persona is no test of a consent")
	}
	return c
}

func (c *consented) any(t *testing.T, rt fhir.ResourceType) known {
	t.Helper()
	for _, k := range c.only {
		if k.ref.Type == rt {
			return k
		}
	}
	t.Fatalf("no %s by the consent alone", rt)
	return known{}
}

// revoke ends the consent on both databases, and removes from the one what the persona does not see since.
func (c *consented) revoke(t *testing.T) {
	t.Helper()
	for _, h := range []*house{c.full, c.twin} {
		if a := h.post("privacy-officer", "/"+c.consent.ref.String()+"/$revoke", paramsOf("reason", "valueString", "letter of the patient")); a.status != http.StatusOK {
			t.Fatalf("revoke: %d %s", a.status, a.body)
		}
	}
	c.excise(t)
}

// S9 (42 CFR 2.31(a)(6)): a consent that is revoked between two pages is not in
// the second: it is the page of a database without what she saw by the consent.
// Channels of leaks: L5, L6, L7, L8, L9, L12, L54.
func TestTwinConsentRevokedBetweenPages(t *testing.T) {
	for name, given := range map[string]string{"hie": "Colin", "therapist": "Daniel"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := underConsent(t, name, given, nil)
			c.revoke(t)
			gone := func(q call) answer {
				a := c.check(t, q)
				if s := c.shown(a); len(s) > 0 || a.header.Get("Redisclosure-Notice") != "" {
					t.Errorf("%s after the consent was revoked: %v %v\n%.1500s", q.path, s, a.header, a.body)
				}
				return a
			}
			for _, q := range c.turned {
				gone(q)
			}
			for _, q := range c.first {
				c.follow(t, gone(q))
			}
			id := string(c.patient.ref.ID)
			for rt, before := range c.total {
				want := before
				for _, k := range c.only {
					if k.ref.Type == rt {
						want--
					}
				}
				if n := total(gone(get("/" + string(rt) + "?patient=" + id + "&_summary=count"))); n != want || n == before {
					t.Errorf("%s: %d in all, want %d of %d", rt, n, want, before)
				}
			}
			for i, k := range c.only {
				at := "/" + k.ref.String()
				paths := []string{at}
				if i%8 == 0 || k.ref == c.any(t, "Condition").ref {
					paths = append(paths, at+"/_history/1", at+"/_history/2", at+"/_history")
					gone(get("/" + string(k.ref.Type) + "?_id=" + string(k.ref.ID) + "&_include=*&_total=accurate"))
				}
				for _, path := range paths {
					if a := gone(get(path)); a.status != http.StatusNotFound {
						t.Errorf("%s after the consent was revoked: %d", path, a.status)
					}
				}
			}
			for _, k := range c.lesser {
				if a := gone(get("/" + k.ref.String())); a.status != http.StatusOK {
					t.Errorf("%s, of which she sees a part: %d", k.ref, a.status)
				}
			}
			if (len(c.lesser) > 0) != (name == "therapist") {
				t.Errorf("%d records of which a part is seen by the consent", len(c.lesser))
			}
		})
	}
}
