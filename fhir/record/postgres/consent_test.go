package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
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

// P16, S7: a Consent that lacks what the law asks for is stored as evidence, grants
// nothing, and the one who stores it is told why.
func TestS7_P16_DeficientConsentIsStoredAndGrantsNothing(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'hie','name':'Exchange'}")
	h.load(encounter("e1", "sud"))
	obs := h.load(strings.Replace(observation(",'encounter':{'reference':'Encounter/e1'}"), "{", "{'id':'o1',", 1))
	officer := h.as("privacy-officer", "HOPERAT", "Practitioner/olga", "sud")
	store := func(text string) (advice []outcome.Issue) {
		t.Helper()
		r := h.resource(text)
		if _, err := h.write(officer, record.Change{Interaction: fhir.Update, Ref: r.Ref(), Content: r, Upsert: true, Advice: &advice}); err != nil {
			t.Fatal(err)
		}
		return advice
	}
	unsigned := strings.Replace(specific().String(), "'performer':[{'reference':'Patient/anna'}],", "", 1)
	advice := store(unsigned)
	if len(advice) != 1 || !advice[0].Warning || !strings.Contains(advice[0].Text, "42 CFR 2.31(a)(8)") {
		t.Errorf("the advice is %+v", advice)
	}
	if _, err := h.read(officer, fhir.Ref{Type: "Consent", ID: "c"}); err != nil {
		t.Errorf("it is not stored: %v", err)
	}
	hie := h.as("hie", "TREAT", "", "hie")
	if h.sees(hie, obs) {
		t.Error("an unsigned consent opens the record")
	}
	if advice = store(specific().String()); len(advice) > 0 || !h.sees(hie, obs) {
		t.Errorf("signed, it is %+v, and opens nothing", advice)
	}
}

// S9: a revocation holds for every read that starts after it is committed: the next
// page, a link to a page from before, and reads at the same moment.
func TestS9_2_31_a_6_RevocationIsVisibleAtOnce(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'hie','name':'Exchange'}")
	h.load(encounter("e1", "sud"))
	for i := range 6 {
		h.load(strings.Replace(observation(",'encounter':{'reference':'Encounter/e1'}"), "{", fmt.Sprintf("{'id':'o%d',", i), 1))
	}
	hie := h.as("hie", "TREAT", "", "hie")
	revoked := specific()
	revoked.status = "inactive"
	h.load(specific().String())

	page := func(after *search.Cursor) record.Page {
		t.Helper()
		_, r, err := h.plan(hie, fhir.SearchType, "Observation")
		if err != nil {
			t.Fatal(err)
		}
		q, err := parseQuery("Observation", "_count=2")
		if err != nil {
			t.Fatal(err)
		}
		q.After = after
		p, err := h.store.Search(context.Background(), authz.ReachOf(r), q)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := page(nil)
	if len(first.Entries) != 2 || !first.More {
		t.Fatalf("the first page has %d entries", len(first.Entries))
	}
	link := first.Last
	if second := page(&link); len(second.Entries) != 2 {
		t.Fatalf("the second page has %d entries", len(second.Entries))
	}
	h.load(revoked.String())
	if second := page(&link); len(second.Entries) != 0 || second.More {
		t.Errorf("after the revocation the second page has %d entries", len(second.Entries))
	}

	for range 8 {
		h.load(specific().String())
		var over atomic.Bool
		var readers sync.WaitGroup
		var stale atomic.Int32
		for range 4 {
			readers.Go(func() {
				for range 12 {
					after := over.Load()
					_, r, err := h.plan(hie, fhir.Read, "Observation")
					if err != nil {
						continue
					}
					_, err = h.store.Read(context.Background(), r, "o1")
					if err == nil && after {
						stale.Add(1)
					}
				}
			})
		}
		h.load(revoked.String())
		over.Store(true)
		readers.Wait()
		if stale.Load() > 0 {
			t.Fatalf("%d reads that began after the revocation still saw the record", stale.Load())
		}
	}
}

// The access record names the Consents on which a disclosure rests, and only
// where it rests on them.
func TestAccessRecordNamesConsents(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'hie','name':'Exchange'}")
	h.load(encounter("e1", "sud"))
	obs := h.load(strings.Replace(observation(",'encounter':{'reference':'Encounter/e1'}"), "{", "{'id':'o1',", 1))
	h.load(specific().String())
	to := specific()
	to.id, to.recipient = "d", "Practitioner/dora"
	h.load(to.String())
	for want, p := range map[string]authz.Principal{
		"{Consent/c}": h.as("hie", "TREAT", "", "hie"),
		"{}":          h.as("therapist", "TREAT", "Practitioner/dora", "sud"),
		"{Consent/d}": h.as("therapist", "TREAT", "Practitioner/dora"),
	} {
		if _, err := h.read(p, obs); err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		var got string
		h.query("SELECT consents::text FROM audit.event WHERE subject = $1 AND entities = '{Observation/o1/_history/1}' ORDER BY at DESC, id DESC LIMIT 1", []any{p.Subject}, &got)
		if got != want {
			t.Errorf("%v: %s, want %s", p.Organizations, got, want)
		}
		h.tick()
	}
}
