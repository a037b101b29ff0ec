package audit_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// shape is what a profile of IHE BALP 1.1 asks for beside R4
// (https://profiles.ihe.net/ITI/BALP/, the StructureDefinitions of these names).
type shape struct {
	subtypes       []string // one of them, with its display where it is create or delete
	action         string
	client, server string // agent.type, each exactly once, with who and network and nothing that names a person
	user           []string
	data           bool // exactly one entity of type 2 is the record; else it is the query
	patient        bool
}

var dataSources = []string{"AUT", "INF", "CST"} // BALP, value set of who writes

func shapes() map[string]shape {
	out := map[string]shape{
		"Read":   {[]string{"read", "vread"}, "R", "110152", "110153", []string{"IRCP"}, true, false},
		"Query":  {[]string{"search-type", "search-system"}, "E", "110153", "110152", []string{"IRCP"}, false, false},
		"Create": {[]string{"create"}, "C", "110153", "110152", dataSources, true, false},
		"Update": {[]string{"update", "patch"}, "U", "110153", "110152", dataSources, true, false},
		"Delete": {[]string{"delete"}, "D", "110150", "custodian", dataSources, true, false},
	}
	for name, s := range out {
		if !s.patient {
			s.patient = true
			out["Patient"+name] = s
		}
	}
	return out
}

func code(concept *element.Node) string {
	if c := concept.Get("coding").List(); len(c) == 1 {
		return c[0].Get("code").String()
	}
	return concept.Get("code").String()
}

// faults are the constraints of a profile that an AuditEvent breaks.
func (s shape) faults(n *element.Node) (out []string) {
	fail := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	one := func(list, typ string) *element.Node {
		var found []*element.Node
		for _, x := range n.Get(list).List() {
			if code(x.Get("type")) == typ {
				found = append(found, x)
			}
		}
		if len(found) != 1 {
			fail("%d of %s %s", len(found), list, typ)
			return element.NewObject()
		}
		return found[0]
	}
	none := func(x *element.Node, names ...string) {
		for _, name := range names {
			if x.Get(name) != nil {
				fail("%s is there", name)
			}
		}
	}
	sub := n.Get("subtype").List()
	if len(sub) != 1 || !strings.Contains(" "+strings.Join(s.subtypes, " ")+" ", " "+code(sub[0])+" ") || sub[0].Get("display").String() != code(sub[0]) || sub[0].Get("system").String() != "http://hl7.org/fhir/restful-interaction" {
		fail("subtype")
	}
	if code(n.Get("type")) != "rest" || n.Get("action").String() != s.action || n.Get("outcome").String() != "0" || n.Get("recorded") == nil || n.Get("source").Get("observer") == nil {
		fail("type, action, outcome, recorded or source")
	}
	for _, typ := range []string{s.client, s.server} {
		a := one("agent", typ)
		if a.Get("who") == nil || a.Get("network") == nil || a.Get("requestor") == nil {
			fail("agent %s: who, network, requestor", typ)
		}
		none(a, "role", "altId", "name", "location", "policy", "media", "purposeOfUse")
	}
	users := 0
	for _, a := range n.Get("agent").List() {
		if strings.Contains(" "+strings.Join(s.user, " ")+" ", " "+code(a.Get("type"))+" ") {
			users++
			if a.Get("who") == nil || a.Get("requestor").Text != "true" {
				fail("the user")
			}
			none(a, "altId", "location", "policy", "media", "network")
		}
	}
	if users > 1 {
		fail("%d users", users)
	}
	x := one("entity", "2")
	if s.data {
		if x.Get("what").Get("reference") == nil || code(x.Get("role")) != "4" {
			fail("the record")
		}
		none(x, "lifecycle", "name", "query", "detail")
	} else {
		if x.Get("_query") == nil && x.Get("query") == nil || code(x.Get("role")) != "24" {
			fail("the query")
		}
		none(x, "what", "lifecycle", "detail", "name")
	}
	if s.patient {
		p := one("entity", "1")
		if !strings.HasPrefix(p.Get("what").Get("reference").String(), "Patient/") || code(p.Get("role")) != "1" {
			fail("the patient")
		}
		none(p, "lifecycle", "securityLabel", "name", "query", "detail")
	}
	if r := one("entity", "XrequestId"); r.Get("what").Get("identifier").Get("value") == nil {
		fail("the request")
	}
	return out
}

// Each AuditEvent that names a profile keeps what it asks for, and those that cannot name none.
func TestProfilesOfBALPAreKept(t *testing.T) {
	const prefix = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
	seen := map[string]bool{}
	for _, i := range []fhir.Interaction{fhir.Read, fhir.VRead, fhir.SearchType, fhir.SearchSystem, fhir.Create, fhir.Update, fhir.Patch, fhir.Delete, fhir.HistoryInstance, fhir.HistoryType, fhir.Operation, fhir.Batch, fhir.Transaction} {
		for _, patient := range []fhir.ID{"", "anna"} {
			for _, outcome := range []audit.Outcome{audit.Success, audit.Refused} {
				for n := range 3 {
					for _, session := range []string{"", "s"} {
						for _, withheld := range []bool{false, true} {
							e := audit.Event{ID: "e", At: time.Unix(0, 0), Interaction: i, Outcome: outcome, Caller: authz.Caller{Subject: "s", Client: "app", Roles: []string{"therapist"}, User: fhir.Ref{Type: "Practitioner", ID: "p"}, Purpose: "TREAT", PolicyVersion: "1", RequestID: "r"}}
							for range n {
								e.Entities = append(e.Entities, audit.Entity{Ref: fhir.Ref{Type: "Observation", ID: "o"}, Version: 1, Patient: patient, Session: session})
							}
							got := audit.Told{Event: e, ID: "e", Patient: patient, Withheld: withheld, Consents: []fhir.ID{"c"}}.Render()
							what := fmt.Sprintf("%s of %q, outcome %s, %d records, session %q", i, patient, outcome, n, session)
							profile := ""
							for _, p := range got.Get("meta").Get("profile").List() {
								profile = strings.TrimPrefix(p.String(), prefix)
							}
							if profile == "" {
								if outcome == audit.Success && n == 1 && session == "" && !strings.HasPrefix(string(i), "history") && i != fhir.Operation && i != fhir.Batch && i != fhir.Transaction {
									t.Errorf("%s names no profile", what)
								}
								continue
							}
							s, known := shapes()[profile]
							if !known {
								t.Fatalf("%s: %s", what, profile)
							}
							seen[profile] = true
							if faults := s.faults(got); faults != nil {
								t.Errorf("%s, %s: %v\n%s", what, profile, faults, got.AppendJSON(nil))
							}
							if withheld && strings.Contains(string(got.AppendJSON(nil)), "therapist") {
								t.Errorf("%s: who is withheld is told of", what)
							}
						}
					}
				}
			}
		}
	}
	if len(seen) != len(shapes()) {
		t.Errorf("seen: %v", seen)
	}
}

// The decision that a consent was: BALP, Consent Authorized Decision.
func TestTheDecisionOfAConsent(t *testing.T) {
	e := audit.Event{ID: "e", At: time.Unix(0, 0), Interaction: fhir.Read, Outcome: audit.Success, Caller: authz.Caller{Subject: "s", Client: "app", Roles: []string{"hie"}, Purpose: "TREAT", PolicyVersion: "1", RequestID: "r"},
		Entities: []audit.Entity{{Ref: fhir.Ref{Type: "Observation", ID: "o"}, Version: 1, Patient: "anna"}}}
	hie := audit.Party{Ref: fhir.Ref{Type: "Organization", ID: "hie"}, Name: "Exchange"}
	n := audit.Told{Event: e, ID: "e", Patient: "anna", Consents: []fhir.ID{"c"}, Of: []audit.Party{hie}, Decision: true}.Render()
	text := string(n.AppendJSON(nil))
	var agents, entities []string
	for _, a := range n.Get("agent").List() {
		agents = append(agents, code(a.Get("type")))
		for _, name := range []string{"altId", "location", "media", "policy"} {
			if a.Get(name) != nil {
				t.Errorf("%s of %s", name, code(a.Get("type")))
			}
		}
	}
	for _, x := range n.Get("entity").List() {
		entities = append(entities, code(x.Get("type")))
	}
	if !strings.Contains(text, "IHE.BasicAudit.AuthZconsent") || strings.Join(agents, " ") != "IRCP 110150 PROV authserver" || strings.Join(entities, " ") != "1 Consent" ||
		code(n.Get("type")) != "110113" || code(n.Get("subtype").List()[0]) != "AuthZ-Consent" || n.Get("action").String() != "E" || strings.Contains(text, "Observation") {
		t.Error(text)
	}
	// Whose organization is not known names no profile, which asks for it.
	if text := string(audit.Told{Event: e, ID: "e", Patient: "anna", Consents: []fhir.ID{"c"}, Decision: true}.Render().AppendJSON(nil)); strings.Contains(text, `"meta"`) {
		t.Error(text)
	}
}

func TestIDsOfParts(t *testing.T) {
	const event = "b6534ed9-19de-8459-9966-691305bee1a0"
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	seen := map[string]bool{}
	for _, patient := range []fhir.ID{"", "anna", "bert"} {
		for _, decision := range []bool{false, true} {
			id := audit.PartID(event, at, patient, decision && patient != "")
			got, then, ok := audit.EventOf(id)
			if !ok || got != event || !then.Equal(at) || !fhir.ID(id).Valid() {
				t.Errorf("%s: %s %s %v", id, got, then, ok)
			}
			seen[id] = true
		}
	}
	if len(seen) != 5 {
		t.Errorf("%v", seen)
	}
	for _, id := range []string{"", event, event + "-", event + "--1", event + "-ZZ", event[:35] + "g-1", event + "-zzzzzzzzzzzzzz"} {
		if got, _, ok := audit.EventOf(id); ok {
			t.Errorf("%s is %s", id, got)
		}
	}
}
