package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
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

const (
	actReason = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
	actCode   = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
	part      = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
)

func coding(system, code string) string { return "{'system':'" + system + "','code':'" + code + "'}" }

// randomProvision is the JSON of a provision without its braces.
func randomProvision(r *rand.Rand, depth int) string {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	var out []string
	maybe := func(text string) {
		if r.IntN(4) == 0 {
			out = append(out, text)
		}
	}
	maybe("'actor':[{'role':{'coding':[" + coding(part, "IRCP") + "]},'reference':" + pick(
		"{'reference':'Organization/hie'}", "{'reference':'Organization/net'}", "{'reference':'Practitioner/dora'}", "{'reference':'PractitionerRole/role'}",
		"{'reference':'CareTeam/team'}", "{'reference':'Group/group'}", "{'identifier':{'system':'urn:npi','value':'1'}}",
		"{'identifier':{'system':'"+fhir.RecipientClass+"','value':'treating-providers'}}") + "}]")
	maybe("'purpose':[" + coding(actReason, pick("TREAT", "COC", "HPAYMT")) + "]")
	maybe("'securityLabel':[" + coding(actCode, pick("42CFRPart2", "SUD", "HIV", "PSY")) + "]")
	maybe("'securityLabel':[" + coding("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", pick("N", "R", "V")) + "]")
	maybe("'class':[" + pick(coding("http://hl7.org/fhir/resource-types", "Observation"), coding("http://hl7.org/fhir/resource-types", "Encounter"), coding("http://loinc.org", "11488-4")) + "]")
	maybe("'code':[{'coding':[" + coding("http://loinc.org", pick("44261-6", "11488-4")) + "]}]")
	maybe("'dataPeriod':{" + pick("'start':'2026-02'", "'end':'2026-01-15'", "'start':'2026-01-10','end':'2026-01-10'", "'start':'2026-01-10T12:00:00Z'") + "}")
	maybe("'period':{" + pick("'start':'2026-02-01'", "'end':'2026-02'", "'end':'2026'") + "}")
	maybe("'data':[{'meaning':'" + pick("instance", "related", "dependents", "authoredby") + "','reference':{'reference':'" + pick("Observation/o1", "Encounter/e1", "Practitioner/dora") + "'}}]")
	maybe("'action':[{'coding':[" + coding("http://terminology.hl7.org/CodeSystem/consentaction", pick("disclose", "correct")) + "]}]")
	if depth > 0 {
		var nested []string
		for range r.IntN(3) {
			nested = append(nested, "{'type':'"+pick("permit", "deny")+"'"+randomProvision(r, depth-1)+"}")
		}
		if nested != nil {
			out = append(out, "'provision':["+strings.Join(nested, ",")+"]")
		}
	}
	seen := map[string]bool{}
	text := ""
	for _, o := range out {
		if name, _, _ := strings.Cut(o, ":"); !seen[name] {
			seen[name] = true
			text += "," + o
		}
	}
	return text
}

func randomConsent(r *rand.Rand, id string) string {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	c := specific()
	c.id, c.kind = id, pick("part2-specific", "part2-specific", "part2-tpo", "hipaa-authorization", "restriction")
	c.status, c.effect = pick("active", "active", "active", "active", "inactive"), pick("permit", "permit", "permit", "deny")
	c.recipient = pick("Organization/hie", "Organization/net", "Practitioner/dora", "CareTeam/team", "Group/group", "PractitionerRole/role")
	c.programs = [][]string{{"sud"}, {"sud"}, {"sud", "sud2"}}[r.IntN(3)]
	c.purposes = [][]string{{"TREAT"}, {"TREAT", "HPAYMT"}, {"HPAYMT"}}[r.IntN(3)]
	if c.kind == "part2-tpo" {
		c.recipient, c.purposes, c.effect = pick("class:treating-providers", "Organization/hie"), []string{"TREAT", "HPAYMT", "HOPERAT"}, "permit"
	}
	owed := c.kind == "restriction" && c.effect == "deny" && r.IntN(2) == 0
	if owed { // asked for, and not agreed to: it says that the service was paid for in full
		c.status, c.recipient = "proposed", pick("class:payers", "Organization/hie", "Organization/net", "Practitioner/bill")
		c.purposes = [][]string{{"HPAYMT"}, {"TREAT", "HPAYMT"}, {"TREAT"}}[r.IntN(3)]
	}
	nested := ""
	for range r.IntN(3) {
		nested += ",{'type':'" + pick("permit", "deny", "deny") + "'" + randomProvision(r, 2) + "}"
	}
	text := c.String()
	if owed {
		text = strings.Replace(text, "'policyRule'", "'policy':[{'uri':'"+fhir.ConsentStatement+"#paid-in-full'}],'policyRule'", 1)
	}
	if nested != "" {
		text = strings.TrimSuffix(text, "}}") + ",'provision':[" + nested[1:] + "]}}"
	}
	return text
}

// records of every sort that a criterion tells apart.
func recordsForConsents(h *house) map[fhir.Ref]consent.Record {
	h.load("{'resourceType':'Organization','id':'net','name':'Network'}")
	h.load("{'resourceType':'Organization','id':'hie','name':'Exchange','identifier':[{'system':'urn:npi','value':'1'}],'partOf':{'reference':'Organization/net'}}")
	h.load(strings.Replace(sud, "'id':'sud'", "'id':'sud2'", 1))
	h.load("{'resourceType':'PractitionerRole','id':'role','practitioner':{'reference':'Practitioner/dora'},'period':{'end':'2026-03-31'}}")
	h.load("{'resourceType':'CareTeam','id':'team','status':'active','participant':[{'member':{'reference':'PractitionerRole/role'}}]}")
	h.load("{'resourceType':'Group','id':'group','type':'practitioner','actual':true,'member':[{'entity':{'reference':'Practitioner/dora'}}]}")
	const about = "'subject':{'reference':'Patient/anna'}"
	jan := func(d int) consent.Period {
		return consent.Period{Start: time.Date(2026, 1, d, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 1, d+1, 0, 0, 0, 0, time.UTC)}
	}
	out := map[fhir.Ref]consent.Record{}
	add := func(text string, programs []fhir.ID, labels label.Set, x consent.Record) fhir.Ref {
		c := h.resource(text)
		x.Codes = []consent.Code{}
		for s, code := range c.Codings() {
			if s != "" {
				x.Codes = append(x.Codes, consent.Code{System: s, Code: code})
			}
		}
		for _, l := range c.References() {
			if ref, ok := codec.LocalRef(l.Node.Text); ok {
				x.References = append(x.References, ref)
			}
		}
		x.Ref, x.Patient, x.Programs, x.Labels = h.load(text), "anna", programs, uint32(labels)
		x.Source = consent.Source{Part2: labels.Any(label.Part2)}
		out[x.Ref] = x
		return x.Ref
	}
	from := func(program string) string { return "{'reference':'Organization/" + program + "'}" }
	add("{'resourceType':'Encounter','id':'e1','status':'finished','class':{'code':'AMB'},"+about+",'period':{'start':'2026-01-10','end':'2026-01-20'},'serviceProvider':"+from("sud")+"}",
		[]fhir.ID{"sud"}, label.Part2, consent.Record{Date: consent.Period{Start: jan(10).Start, End: jan(20).End}})
	add("{'resourceType':'Observation','id':'o1','status':'final','code':{'coding':["+coding("http://loinc.org", "44261-6")+"]},"+about+",'effectiveDateTime':'2026-01-10','encounter':{'reference':'Encounter/e1'}}",
		[]fhir.ID{"sud"}, label.Part2|label.OfCode("http://loinc.org", "44261-6"), consent.Record{Date: jan(10)})
	add("{'resourceType':'Observation','id':'o2','status':'final','code':{'coding':["+coding("http://loinc.org", "8480-6")+"]},"+about+",'performer':["+from("sud")+","+from("sud2")+"]}",
		[]fhir.ID{"sud", "sud2"}, label.Part2, consent.Record{})
	add("{'resourceType':'DocumentReference','id':'d1','status':'current','type':{'coding':["+coding("http://loinc.org", "11488-4")+"]},"+about+",'custodian':"+from("sud")+",'author':[{'reference':'Practitioner/dora'}],'content':[{'attachment':{'title':'x'}}]}",
		[]fhir.ID{"sud"}, label.Part2, consent.Record{})
	add("{'resourceType':'Condition','id':'hiv','code':{'coding':["+coding("http://hl7.org/fhir/sid/icd-10-cm", "B20")+"]},"+about+"}", nil, label.OfCode("http://hl7.org/fhir/sid/icd-10-cm", "B20"), consent.Record{})
	for ref, x := range out {
		for other, y := range out {
			if slices.Contains(y.References, ref) {
				x.ReferredBy = append(x.ReferredBy, other)
			}
		}
		out[ref] = x
	}
	return out
}

// The facts consent and unrestricted in SQL are what the pure function says, on
// random consents with exceptions of any depth.
func TestConsentFactsAgreeWithEvaluate(t *testing.T) {
	h := clinic(t)
	records := recordsForConsents(h)
	seed := uint64(time.Now().UnixNano()) // any will do, and it is told
	r := rand.New(rand.NewPCG(seed, 4))
	callers := map[string]struct {
		principal authz.Principal
		caller    consent.Caller
	}{
		"hie": {h.as("hie", "TREAT", "", "hie"), consent.Caller{Organizations: []fhir.ID{"hie", "net"}, Identifiers: []consent.Code{{System: "urn:npi", Code: "1"}}}},
		"dora": {h.as("therapist", "TREAT", "Practitioner/dora"), consent.Caller{User: fhir.Ref{Type: "Practitioner", ID: "dora"},
			ActsAs: []fhir.Ref{{Type: "PractitionerRole", ID: "role"}, {Type: "CareTeam", ID: "team"}, {Type: "Group", ID: "group"}}}},
		"stranger": {h.as("hie", "TREAT", "", "none"), consent.Caller{Organizations: []fhir.ID{"none"}}},
		"biller":   {h.as("biller", "HPAYMT", "Practitioner/bill"), consent.Caller{User: fhir.Ref{Type: "Practitioner", ID: "bill"}}},
		"plan":     {h.as("biller", "HPAYMT", "", "hie"), consent.Caller{Organizations: []fhir.ID{"hie", "net"}, Identifiers: []consent.Code{{System: "urn:npi", Code: "1"}}}},
	}
	permits, restricts, owed := 0, 0, 0
	// Chance draws few restrictions that bind: there are rounds until enough was compared.
	for round := 0; round < 20 || (permits < 10 || restricts < 3 || owed < 2) && round < 400; round++ {
		var directives []consent.Directive
		var texts []string
		for i := range 3 {
			text := randomConsent(r, fmt.Sprintf("c%d", i))
			h.load(text)
			d, err := codec.ConsentDirective(h.resource(text))
			if err != nil {
				t.Fatal(err)
			}
			directives, texts = append(directives, d), append(texts, text)
		}
		for name, c := range callers {
			for ref, x := range records {
				_, restriction, err := h.plan(c.principal, fhir.Read, ref.Type)
				if err != nil || restriction.Empty() {
					continue
				}
				asks := false
				for _, a := range restriction.Arms() {
					asks = asks || a.Needs.Has(authz.Consent)
				}
				want := consent.Evaluate(directives, record.Labels, consent.Request{Record: x, Caller: c.caller, Purpose: c.principal.Purpose, At: h.now()})
				var by []string
				for _, p := range want.PermittedBy {
					by = append(by, string(p.ID))
				}
				slices.Sort(by)
				facts, consents, err := h.store.FactsOf(context.Background(), restriction, ref.ID, authz.Consent|authz.Unrestricted)
				if err != nil {
					t.Fatal(err)
				}
				if facts.Has(authz.Unrestricted) == want.Restricted {
					t.Fatalf("seed %d round %d: %s and %s: unrestricted is %v in SQL\n%s\n%v", seed, round, name, ref, facts.Has(authz.Unrestricted), strings.Join(texts, "\n"), want.Sentences())
				}
				if want.Restricted {
					restricts++
				}
				asked := slices.DeleteFunc(slices.Clone(directives), func(d consent.Directive) bool { return d.Status != "proposed" })
				if consent.Evaluate(asked, record.Labels, consent.Request{Record: x, Caller: c.caller, Purpose: c.principal.Purpose, At: h.now()}).Restricted {
					owed++
				}
				if !asks || !h.store.AsksForConsent(context.Background(), restriction, ref.ID) {
					continue
				}
				if facts.Has(authz.Consent) != want.Permitted || want.Permitted && !slices.Equal(consents, by) {
					t.Fatalf("seed %d round %d: %s and %s: consent is %v by %v in SQL, and %v by %v\n%s\n%v\n%+v", seed, round, name, ref, facts.Has(authz.Consent), consents, want.Permitted, by, strings.Join(texts, "\n"), want.Sentences(), x)
				}
				if want.Permitted {
					permits++
				}
			}
		}
	}
	if permits < 10 || restricts < 3 || owed < 2 {
		t.Errorf("%d permits and %d restrictions, %d of them not agreed to: the comparison says too little", permits, restricts, owed)
	}
}
