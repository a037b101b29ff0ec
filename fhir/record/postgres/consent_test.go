package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
)

// part2Consent is a Consent with every element that 42 CFR 2.31(a) asks for.
type part2Consent struct {
	id, status, kind, effect, recipient, start, end string
	purposes                                        []string
	programs                                        []string
}

func (c part2Consent) String() string {
	var purposes, programs []string
	for _, p := range c.purposes {
		purposes = append(purposes, "{'system':'http://terminology.hl7.org/CodeSystem/v3-ActReason','code':'"+p+"'}")
	}
	for _, p := range c.programs {
		programs = append(programs, "{'reference':'Organization/"+p+"'}")
	}
	who := "{'reference':'" + c.recipient + "'}"
	if class, ok := strings.CutPrefix(c.recipient, "class:"); ok {
		who = "{'identifier':{'system':'" + fhir.RecipientClass + "','value':'" + class + "'}}"
	}
	var bounds []string
	if c.start != "" {
		bounds = append(bounds, "'start':'"+c.start+"'")
	}
	if c.end != "" {
		bounds = append(bounds, "'end':'"+c.end+"'")
	}
	period := ""
	if len(bounds) > 0 {
		period = "'period':{" + strings.Join(bounds, ",") + "},"
	}
	return fmt.Sprintf("{'resourceType':'Consent','id':'%s','status':'%s','scope':{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/consentscope','code':'patient-privacy'}]},"+
		"'category':[{'coding':[{'system':'%s','code':'%s'}]}],'patient':{'reference':'Patient/anna'},'dateTime':'2025-06-01','performer':[{'reference':'Patient/anna'}],"+
		"'organization':[%s],'sourceAttachment':{'title':'signed form'},'policyRule':{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v3-ActCode','code':'OPTIN'}]},"+
		"'provision':{'type':'%s',%s'actor':[{'role':{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v3-ParticipationType','code':'IRCP'}]},'reference':%s}],'purpose':[%s]}}",
		c.id, c.status, fhir.ConsentKind, c.kind, strings.Join(programs, ","), c.effect, period, who, strings.Join(purposes, ","))
}

func specific() part2Consent {
	return part2Consent{id: "c", status: "active", kind: "part2-specific", effect: "permit", recipient: "Organization/hie",
		end: "2027-01-01", purposes: []string{"TREAT"}, programs: []string{"sud"}}
}

// A revocation counts from the next read on, on every path.
func TestConsentOpensAndRevocationCloses(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'hie','name':'Exchange'}")
	h.load(encounter("e1", "sud"))
	obs := h.load(strings.Replace(observation(",'encounter':{'reference':'Encounter/e1'}"), "{", "{'id':'o1',", 1))
	hie := h.as("hie", "TREAT", "", "hie")
	if h.sees(hie, obs) {
		t.Fatal("a Part 2 record leaves its program without consent (42 CFR 2.33)")
	}
	h.load(specific().String())
	if !h.sees(hie, obs) {
		t.Fatal("a valid consent does not open the record (42 CFR 2.33(a)(1))")
	}
	other := h.as("hie", "TREAT", "", "other")
	if h.sees(other, obs) || h.sees(h.as("hie", "HPAYMT", "", "hie"), obs) {
		t.Fatal("the consent opens the record for another recipient or purpose")
	}
	revoked := specific()
	revoked.status = "inactive"
	h.load(revoked.String())
	if h.sees(hie, obs) {
		t.Fatal("a revoked consent still opens the record (42 CFR 2.31(a)(6))")
	}
	h.load(specific().String())
	denied := specific()
	denied.id, denied.effect = "d", "deny"
	h.load(denied.String())
	if h.sees(hie, obs) {
		t.Fatal("a denial does not override a permit")
	}
	if err := h.delete(h.operator(), fhir.Ref{Type: "Consent", ID: "d"}); err != nil {
		t.Fatal(err)
	}
	if !h.sees(hie, obs) {
		t.Fatal("a deleted denial still denies")
	}
	h.clock.Store(time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC).UnixMilli())
	if h.sees(hie, obs) {
		t.Fatal("an expired consent still opens the record")
	}
}

// The consent fact in SQL is the pure function of package consent, on random
// consents and callers.
func TestConsentFactAgreesWithItsDefinition(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'hie','name':'Exchange'}")
	h.load(strings.Replace(sud, "'id':'sud'", "'id':'sud2'", 1))
	records := map[fhir.Ref][]fhir.ID{}
	for i, programs := range [][]fhir.ID{{"sud"}, {"sud2"}, {"sud", "sud2"}} {
		id := fmt.Sprintf("b%d", i)
		refs := ""
		for _, p := range programs {
			refs += fmt.Sprintf(",{'reference':'Organization/%s'}", p)
		}
		ref := h.load("{'resourceType':'Observation','id':'" + id + "','status':'final','code':{'text':'x'},'subject':{'reference':'Patient/anna'},'performer':[" + refs[1:] + "]}")
		records[ref] = programs
	}
	r := rand.New(rand.NewPCG(3, 4))
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	covered := 0
	for range 40 {
		var grants []consent.Directive
		for i := range 3 {
			c := part2Consent{
				id: fmt.Sprintf("c%d", i), status: pick("active", "active", "inactive"), effect: pick("permit", "permit", "permit", "deny"),
				start: pick("", "", "2026-02-01", "2026-06-01"), end: pick("2026-12-31", "2026-12-31", "2026-02-15"),
				programs: [][]string{{"sud"}, {"sud2"}, {"sud", "sud2"}, {}}[r.IntN(4)],
			}
			if c.kind = pick("part2-tpo", "part2-specific"); c.kind == "part2-tpo" {
				c.recipient, c.purposes = pick("class:treating-providers", "class:payers", "Organization/hie"), []string{"TREAT", "HPAYMT", "HOPERAT"}
			} else {
				c.recipient, c.purposes = pick("Organization/hie", "Practitioner/dora"), []string{pick("TREAT", "HPAYMT")}
			}
			text := strings.Replace(c.String(), "'organization':[],", "", 1)
			h.load(text)
			d, err := codec.ConsentDirective(h.resource(text))
			if err != nil {
				t.Fatal(err)
			}
			grants = append(grants, d)
		}
		for _, p := range []authz.Principal{
			h.as("hie", "TREAT", "", "hie"), h.as("therapist", "TREAT", "Practitioner/dora"), h.as("hie", "TREAT", "", "none"),
		} {
			who := consent.Caller{User: p.User, Organizations: p.Organizations, Roles: p.Roles}
			for ref, programs := range records {
				want := consent.Evaluate(grants, record.Labels, consent.Request{
					Record: consent.Record{Ref: ref, Patient: "anna", Programs: programs, Labels: uint32(label.Part2)}, Caller: who, Purpose: p.Purpose, At: h.now(),
				}).Permitted
				if got := h.sees(p, ref); got != want {
					t.Fatalf("%s %v of %v: the store says %v, the definition %v\n%+v", p.Roles, p.Organizations, programs, got, want, grants)
				}
				if want {
					covered++
				}
			}
		}
	}
	if covered < 20 {
		t.Fatalf("only %d decisions were permits: the comparison says too little", covered)
	}
}
