package consent_test

import (
	"testing"
	"time"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
)

// answers of a criterion: a permit asks for surely, a denial for not never.
const (
	neverMatches   = "no"
	perhapsMatches = "perhaps"
	surelyMatches  = "yes"
)

// criterion says how surely a provision that narrow narrows covers a record, by what a permit and a denial so narrowed do.
func criterion(t *testing.T, narrow func(*consent.Provision), record func(*consent.Record)) string {
	t.Helper()
	q := ask(func(q *consent.Request) { record(&q.Record) })
	p := specific()
	narrow(&p.Root)
	d := denying(specific())
	narrow(&d.Root)
	permits, denies := permitted(q, p), !permitted(q, specific(), d)
	switch {
	case permits && denies:
		return surelyMatches
	case denies:
		return perhapsMatches
	case !permits:
		return neverMatches
	}
	return "a permit that no denial matches"
}

// The criteria of a provision, one by one: what the record says, what it says otherwise, and what it does not say.
func TestCriteria(t *testing.T) {
	day := func(n int) time.Time { return signed.AddDate(0, 0, n) }
	between := func(a, b time.Time) consent.Period { return consent.Period{Start: a, End: b} }
	dated := func(p consent.Period) func(*consent.Provision) {
		return func(x *consent.Provision) { x.DataPeriod = p }
	}
	at := func(p consent.Period) func(*consent.Record) { return func(r *consent.Record) { r.Date = p } }
	class := func(codes ...consent.Code) func(*consent.Provision) {
		return func(x *consent.Provision) { x.Classes = codes }
	}
	is := func(t fhir.ResourceType, codes ...consent.Code) func(*consent.Record) {
		return func(r *consent.Record) { r.Ref, r.Codes = fhir.Ref{Type: t, ID: "x"}, codes }
	}
	coded := func(r *consent.Record) { r.Codes = []consent.Code{lab} }
	code := func(x *consent.Provision) { x.Codes = []consent.Code{lab} }
	observation := consent.Code{System: resourceType, Code: "Observation"}
	meaning := func(what string, ref fhir.Ref) func(*consent.Provision) {
		return func(x *consent.Provision) { x.Data = []consent.Datum{{Meaning: what, Reference: ref}} }
	}
	self := func(*consent.Record) {}
	for name, c := range map[string]struct {
		narrow func(*consent.Provision)
		record func(*consent.Record)
		want   string
	}{
		"no period of data":            {dated(consent.Period{}), at(consent.Period{}), surelyMatches},
		"a record without a date":      {dated(between(day(1), day(9))), at(consent.Period{}), perhapsMatches},
		"a record without an end":      {dated(between(day(1), day(9))), at(consent.Period{Start: day(2)}), perhapsMatches},
		"a record without a start":     {dated(between(day(1), day(9))), at(consent.Period{End: day(2)}), perhapsMatches},
		"within":                       {dated(between(day(1), day(9))), at(between(day(2), day(3))), surelyMatches},
		"the whole of it":              {dated(between(day(1), day(9))), at(between(day(1), day(9))), surelyMatches},
		"before":                       {dated(between(day(1), day(9))), at(between(day(0), day(1))), neverMatches},
		"after":                        {dated(between(day(1), day(9))), at(between(day(9), day(10))), neverMatches},
		"over its start":               {dated(between(day(1), day(9))), at(between(day(0), day(2))), perhapsMatches},
		"over its end":                 {dated(between(day(1), day(9))), at(between(day(8), day(10))), perhapsMatches},
		"over both":                    {dated(between(day(1), day(9))), at(between(day(0), day(10))), perhapsMatches},
		"from its start on":            {dated(consent.Period{Start: day(1)}), at(between(day(1), day(300))), surelyMatches},
		"before its start":             {dated(consent.Period{Start: day(1)}), at(between(day(0), day(1))), neverMatches},
		"over its start, no end":       {dated(consent.Period{Start: day(1)}), at(between(day(0), day(2))), perhapsMatches},
		"until its end":                {dated(consent.Period{End: day(9)}), at(between(day(1), day(9))), surelyMatches},
		"after its end":                {dated(consent.Period{End: day(9)}), at(between(day(9), day(10))), neverMatches},
		"over its end, no start":       {dated(consent.Period{End: day(9)}), at(between(day(8), day(10))), perhapsMatches},
		"a type":                       {class(observation), is("Observation"), surelyMatches},
		"another type":                 {class(observation), is("Encounter"), neverMatches},
		"a type, or a document":        {class(observation, lab), is("Observation"), surelyMatches},
		"a document":                   {class(lab), is("DocumentReference", lab), surelyMatches},
		"a composition":                {class(lab), is("Composition", lab), surelyMatches},
		"another document":             {class(lab), is("DocumentReference", otherLab), neverMatches},
		"no document":                  {class(lab), is("Observation", lab), neverMatches},
		"a document among types":       {class(observation), is("DocumentReference", lab), neverMatches},
		"a document that has no codes": {class(lab), is("DocumentReference"), perhapsMatches},
		"a code":                       {code, coded, surelyMatches},
		"another code":                 {code, func(r *consent.Record) { r.Codes = []consent.Code{otherLab} }, neverMatches},
		"no code":                      {code, func(r *consent.Record) { r.Codes = []consent.Code{} }, neverMatches},
		"codes that nobody knows":      {code, func(r *consent.Record) { r.Codes = nil }, perhapsMatches},
		"no codes asked, none known":   {func(*consent.Provision) {}, func(r *consent.Record) { r.Codes = nil }, surelyMatches},
		"the instance":                 {meaning("instance", obs), self, surelyMatches},
		"another instance":             {meaning("instance", encounter), func(r *consent.Record) { r.References = []fhir.Ref{encounter} }, neverMatches},
		"related, itself":              {meaning("related", obs), self, surelyMatches},
		"related":                      {meaning("related", encounter), func(r *consent.Record) { r.ReferredBy = []fhir.Ref{encounter} }, surelyMatches},
		"related the other way":        {meaning("related", encounter), func(r *consent.Record) { r.References = []fhir.Ref{encounter} }, neverMatches},
		"dependents, itself":           {meaning("dependents", obs), self, surelyMatches},
		"dependents":                   {meaning("dependents", encounter), func(r *consent.Record) { r.References = []fhir.Ref{encounter} }, surelyMatches},
		"dependents the other way":     {meaning("dependents", encounter), func(r *consent.Record) { r.ReferredBy = []fhir.Ref{encounter} }, neverMatches},
		"authored by":                  {meaning("authoredby", doctor), func(r *consent.Record) { r.Author = doctor }, surelyMatches},
		"authored by who is mentioned": {meaning("authoredby", doctor), func(r *consent.Record) { r.References = []fhir.Ref{doctor} }, perhapsMatches},
		"authored by somebody else":    {meaning("authoredby", doctor), self, neverMatches},
	} {
		if got := criterion(t, c.narrow, c.record); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Whom, what for and what a provision names, where it is not understood in full or names somebody else than a recipient.
func TestWhoAndWhatAProvisionNames(t *testing.T) {
	identified := func(system, code string) consent.Actor {
		return consent.Actor{Role: []consent.Code{{System: roles, Code: "IRCP"}}, Identifier: consent.Code{System: system, Code: code}}
	}
	caller := func(q *consent.Request) {
		q.Caller.Identifiers = []consent.Code{{System: "urn:npi", Code: "1"}, {System: "", Code: "1"}, {System: "urn:npi", Code: ""}}
	}
	for _, c := range []struct {
		actor consent.Actor
		want  bool
	}{{identified("urn:npi", "1"), true}, {identified("urn:npi", ""), false}, {identified("", "1"), false}, {identified("urn:npi", "2"), false}} {
		d := specific()
		d.Root.Actors = []consent.Actor{c.actor}
		if got := permitted(ask(caller), d); got != c.want {
			t.Errorf("%+v: %v", c.actor.Identifier, got)
		}
	}
	// A denial is for whom it names in whatever role, but that of the custodian; a permit for recipients.
	for role, want := range map[consent.Code][2]bool{
		{System: roles, Code: "IRCP"}: {true, true}, {System: roles, Code: "AUT"}: {false, true}, {System: roles, Code: "CST"}: {false, false}, {System: "urn:x", Code: "CST"}: {false, true},
	} {
		d := specific()
		d.Root.Actors = []consent.Actor{{Role: []consent.Code{role}, Reference: doctor}}
		if got := permitted(ask(), d); got != want[0] {
			t.Errorf("a permit for %v: %v", role, got)
		}
		other := ask(func(q *consent.Request) { q.Caller = exchange() })
		given := specific()
		given.Root.Actors = []consent.Actor{to(hie)}
		if named := permitted(other, given, denying(d)); named != want[1] { // who is not named is not denied
			t.Errorf("a denial for %v: %v", role, named)
		}
	}
	d := denying(specific())
	d.Root.Purposes = purposes("HPAYMT", "NOPE")
	if permitted(ask(), specific(), d) {
		t.Error("a denial for a purpose that nobody understands denies for some")
	}
	d = denying(specific())
	d.Root.Classes = []consent.Code{{System: "urn:x", Code: "Encounter"}, {System: resourceType, Code: "Encounter"}}
	if !permitted(ask(), specific(), d) {
		t.Error("a denial of encounters denies an observation")
	}
	encounters := ask(func(q *consent.Request) { q.Record.Ref = encounter })
	d.Root.Classes = d.Root.Classes[:1]
	if !permitted(encounters, specific(), d) {
		t.Error("a code of another system is a type")
	}
	d.Root.Classes = []consent.Code{{System: resourceType, Code: "Nothing"}}
	if permitted(ask(), specific(), d) {
		t.Error("a denial of a type that nobody knows denies nothing")
	}
	for effect, want := range map[string]bool{"permit": false, "deny": true} {
		d := specific()
		d.Root.Type, d.Root.Actions = effect, []consent.Code{{System: actions, Code: "use"}}
		if got := len(compile(d).Grants) > 0; got != want {
			t.Errorf("%s of use: %v", effect, got)
		}
	}
}
