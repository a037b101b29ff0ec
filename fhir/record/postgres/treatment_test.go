package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

const performer = "[{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v3-ParticipationType','code':'PPRF'}]}]"

// session is an Encounter of bert, whom nobody treats otherwise, with emil. The house stands at noon of 2026-03-01.
func session(id, status, period, member string) string {
	return "{'resourceType':'Encounter','id':'" + id + "','status':'" + status + "','class':{'code':'AMB'},'subject':{'reference':'Patient/bert'},'period':" + period +
		",'participant':[{'type':" + performer + ",'individual':{'reference':'" + member + "'}}]}"
}

func attended(status, start, end, member string) string {
	return "{'resourceType':'Appointment','id':'visit','status':'" + status + "','start':'" + start + "','end':'" + end + "','participant':[{'actor':{'reference':'Patient/bert'},'status':'accepted'}," +
		"{'actor':{'reference':'" + member + "'},'status':'accepted'}]}"
}

// treats is a CareTeam of bert with emil, in that state, time and seat.
func treats(status, period, seat string) string {
	return "{'resourceType':'CareTeam','id':'berts','status':" + status + ",'subject':{'reference':'Patient/bert'}," + period + ",'participant':[{'member':{'reference':'Practitioner/emil'}" + seat + "}]}"
}

const (
	emilRole = "{'resourceType':'PractitionerRole','id':'role','active':true,'practitioner':{'reference':'Practitioner/emil'}}"
	emilTeam = "{'resourceType':'CareTeam','id':'emils','status':'active','participant':[{'member':{'reference':'Practitioner/emil'}}]}"
)

// Each event of care gives the relation within its window, and neither before nor after
// (45 CFR 164.506(c)).
func TestTreatingByEventsOfCare(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	const never, always = "0001-01-01T00:00:00Z", "2100-01-01T00:00:00Z"
	for name, c := range map[string]struct {
		load        []string
		from, until string
	}{
		"encounter":            {[]string{session("s", "finished", "{'start':'2026-03-02T10:00:00Z','end':'2026-03-02T10:59:59Z'}", "Practitioner/emil")}, "2026-03-02T10:00:00Z", "2026-04-01T11:00:00Z"},
		"encounter of a role":  {[]string{emilRole, session("s", "finished", "{'start':'2026-03-02T10:00:00Z','end':'2026-03-02T10:59:59Z'}", "PractitionerRole/role")}, "2026-03-02T10:00:00Z", "2026-04-01T11:00:00Z"},
		"encounter under way":  {[]string{session("s", "in-progress", "{'start':'2026-03-02T10:00:00Z'}", "Practitioner/emil")}, "2026-03-02T10:00:00Z", always},
		"encounter cancelled":  {[]string{session("s", "cancelled", "{'start':'2026-03-02T10:00:00Z','end':'2026-03-02T10:59:59Z'}", "Practitioner/emil")}, never, never},
		"appointment":          {[]string{attended("booked", "2026-03-20T10:00:00Z", "2026-03-20T10:59:59Z", "Practitioner/emil")}, "2026-03-13T10:00:00Z", "2026-03-21T11:00:00Z"},
		"appointment missed":   {[]string{attended("noshow", "2026-03-20T10:00:00Z", "2026-03-20T10:59:59Z", "Practitioner/emil")}, never, never},
		"appointment in error": {[]string{attended("entered-in-error", "2026-03-20T10:00:00Z", "2026-03-20T10:59:59Z", "Practitioner/emil")}, never, never},
		"episode, its manager": {[]string{"{'resourceType':'EpisodeOfCare','id':'e','status':'active','patient':{'reference':'Patient/bert'},'period':{'start':'2026-03-02','end':'2026-03-09'},'careManager':{'reference':'Practitioner/emil'}}"}, "2026-03-02T00:00:00Z", "2026-03-10T00:00:00Z"},
		"episode, its team":    {[]string{emilTeam, "{'resourceType':'EpisodeOfCare','id':'e','status':'active','patient':{'reference':'Patient/bert'},'period':{'start':'2026-03-02','end':'2026-03-09'},'team':[{'reference':'CareTeam/emils'}]}"}, "2026-03-02T00:00:00Z", "2026-03-10T00:00:00Z"},
		"episode, a team of another patient's": {[]string{strings.Replace(emilTeam, "'participant'", "'subject':{'reference':'Patient/anna'},'participant'", 1),
			"{'resourceType':'EpisodeOfCare','id':'e','status':'active','patient':{'reference':'Patient/bert'},'period':{'start':'2026-03-02'},'team':[{'reference':'CareTeam/emils'}]}"}, never, never},
		"episode, a team of supervision": {[]string{strings.NewReplacer("'2026-03-02'", "'2026-03-01'", "dora", "carl").Replace(supervision), "{'resourceType':'EpisodeOfCare','id':'e','status':'active','patient':{'reference':'Patient/bert'},'period':{'start':'2026-03-02'},'team':[{'reference':'CareTeam/up'}]}"}, never, never},
		"team":                           {[]string{treats("'active'", "'period':{'start':'2026-03-02','end':'2026-03-20'}", "")}, "2026-03-02T00:00:00Z", "2026-03-21T00:00:00Z"},
		"team, a seat":                   {[]string{treats("'active'", "'period':{'start':'2026-03-02','end':'2026-03-20'}", ",'period':{'start':'2026-03-04','end':'2026-03-09'}")}, "2026-03-04T00:00:00Z", "2026-03-10T00:00:00Z"},
		"team, not yet":                  {[]string{treats("'proposed'", "'period':{'start':'2026-03-02'}", "")}, never, never},
		"team, in error":                 {[]string{treats("'entered-in-error'", "'period':{'start':'2026-03-02'}", "")}, never, never},
		"referral":                       {[]string{"{'resourceType':'ServiceRequest','id':'sr','status':'active','intent':'order','subject':{'reference':'Patient/bert'},'authoredOn':'2026-03-02','occurrencePeriod':{'end':'2026-03-09'},'performer':[{'reference':'Practitioner/emil'}]}"}, "2026-03-02T00:00:00Z", "2026-04-09T00:00:00Z"},
		"referral ended":                 {[]string{"{'resourceType':'ServiceRequest','id':'sr','status':'revoked','intent':'order','subject':{'reference':'Patient/bert'},'authoredOn':'2026-03-02','performer':[{'reference':'Practitioner/emil'}]}"}, never, never},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := clinic(t)
			for _, r := range c.load {
				h.load(r)
			}
			emil := h.as("therapist", "TREAT", "Practitioner/emil")
			bert := fhir.Ref{Type: "Patient", ID: "bert"}
			for _, x := range []struct {
				at   time.Time
				want bool
			}{
				{at(c.from).Add(-time.Second), false}, {at(c.from), c.from != never}, {at(c.until).Add(-time.Second), c.until != never}, {at(c.until), false},
			} {
				if x.at.Before(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)) {
					x.at = time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC) // a case that is never
				}
				if x.at.After(at("2099-01-01T00:00:00Z")) {
					continue
				}
				h.clock.Store(x.at.UnixMilli())
				if got := h.sees(emil, bert); got != x.want {
					t.Errorf("at %v: treating is %v, want %v", x.at, got, x.want)
				}
			}
		})
	}
}

// A role that ends takes along whom it stood for; one that begins brings her.
func TestTreatingFollowsThePractitionerRole(t *testing.T) {
	h := clinic(t)
	h.load(session("s", "in-progress", "{'start':'2026-02-20'}", "PractitionerRole/role"))
	emil, bert := h.as("therapist", "TREAT", "Practitioner/emil"), fhir.Ref{Type: "Patient", ID: "bert"}
	for i, c := range []struct {
		text string
		want bool
	}{
		{emilRole, true},
		{strings.Replace(emilRole, "true", "false", 1), false},
		{emilRole, true},
		{strings.Replace(emilRole, "emil", "dora", 1), false},
		{strings.Replace(emilRole, "'practitioner'", "'period':{'end':'2026-02-01'},'practitioner'", 1), false},
		{strings.Replace(emilRole, "'practitioner'", "'period':{'end':'2026-12-01'},'practitioner'", 1), true},
	} {
		h.load(c.text)
		if got := h.sees(emil, bert); got != c.want {
			t.Errorf("step %d: treating is %v, want %v", i, got, c.want)
		}
	}
	h.load(strings.Replace(session("s", "in-progress", "{'start':'2026-02-20'}", "PractitionerRole/role"), "in-progress", "cancelled", 1))
	if h.sees(emil, bert) {
		t.Error("a cancelled Encounter goes on through the role")
	}
}

// Nobody writes her way in: who may assign care is who gives it already, or who
// arranges it for the practice, and not for herself.
func TestNobodyWritesHerWayInByAnEventOfCare(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'PractitionerRole','id':'mine','active':true,'practitioner':{'reference':'Practitioner/emil'}}")
	him := fhir.Ref{Type: "Patient", ID: "bert"}
	emil, dora := h.as("therapist", "TREAT", "Practitioner/emil"), h.as("therapist", "TREAT", "Practitioner/dora")
	open := session("", "in-progress", "{'start':'2026-02-20'}", "Practitioner/emil")
	open = strings.Replace(open, "'id':'',", "", 1)
	book := func(member string) string {
		return strings.Replace(attended("booked", "2026-03-02T10:00:00Z", "2026-03-02T11:00:00Z", member), "'id':'visit',", "", 1)
	}
	// A patient whom she does not see is none: the reference does not resolve.
	_, err := h.create(emil, open)
	h.wantStatus("an Encounter of a patient whom she does not treat", err, 422)

	// An exchange brings in an Encounter, and with it nobody.
	hie := h.as("hie", "TREAT", "", "hie")
	h.mustCreate(hie, open)
	if h.sees(emil, him) {
		t.Fatal("an exchange gave a therapist access")
	}
	// Nor does one whose user is the therapist herself.
	h.mustCreate(h.as("hie", "TREAT", "Practitioner/emil", "hie"), open)
	if h.sees(emil, him) {
		t.Fatal("a therapist gave herself access through an exchange")
	}
	// Nor does one whose user treated the patient once.
	h.load(strings.NewReplacer("'team'", "'team-bert'", "anna", "bert", "'participant'", "'period':{'end':'2026-02-10'},'participant'").Replace(team))
	if h.count("SELECT count(*) FROM record.relation WHERE patient = 'bert' AND member = 'Practitioner/dora'") != 1 {
		t.Fatal("the ended relation is not there: this is no test")
	}
	h.mustCreate(h.as("hie", "TREAT", "Practitioner/dora", "hie"), open)
	if h.sees(emil, him) {
		t.Fatal("who treated the patient once gave a colleague access")
	}
	// Nor does one whose user stands for the patient, and treats nobody.
	h.load("{'resourceType':'RelatedPerson','id':'rp','active':true,'patient':{'reference':'Patient/bert'},'relationship':[{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v3-RoleCode','code':'HPOWATT'}]}]}")
	if !h.sees(h.as("proxy", "PATRQT", "RelatedPerson/rp"), him) {
		t.Fatal("the representative does not stand for the patient: this is no test")
	}
	h.mustCreate(h.as("hie", "TREAT", "RelatedPerson/rp", "hie"), open)
	if h.sees(emil, him) {
		t.Fatal("who stands for the patient made somebody treat him")
	}
	desk := func(user string) authz.Principal { return h.as("front-desk", "HOPERAT", user) }
	for _, member := range []string{"Practitioner/emil", "PractitionerRole/mine"} {
		// Without a look into the directory the reference would not resolve, and nothing be shown.
		h.mustCreate(desk("Practitioner/emil"), book(member))
		if h.sees(emil, him) {
			t.Fatalf("a therapist who also works at the desk gave herself access as %s", member)
		}
	}
	// The desk books for others.
	h.mustCreate(desk("Practitioner/dora"), book("Practitioner/emil"))
	if !h.sees(emil, him) {
		t.Fatal("an appointment that the desk booked gives no access")
	}
	// Who treats a patient may bring a colleague in, and stay herself.
	if h.sees(dora, him) {
		t.Fatal("dora treats bert already: the case shows nothing")
	}
	h.mustCreate(emil, strings.Replace(open, "Practitioner/emil", "Practitioner/dora", 1))
	if !h.sees(dora, him) {
		t.Fatal("a colleague who was brought in has no access")
	}
	// A transaction cannot use the relation that it brings.
	h.load(strings.Replace(bert, "bert", "carl", 1))
	_, err = h.write(emil,
		record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: "Encounter"}, Content: h.resource(strings.Replace(open, "Patient/bert", "Patient/carl", 1))},
		record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: "Observation"}, Content: h.resource(strings.Replace(observation(""), "anna", "carl", 1))})
	if err == nil {
		t.Fatal("a transaction used the relation that it brought")
	}
}

// Only who practises treats: a relative, an organization and the patient belong to a team and
// have no relation of treatment by it. Nor does a resource under an id that another one has, unseen
// by who chose it, stand for anybody.
func TestWhoTreatsNobody(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'RelatedPerson','id':'rp','active':true,'patient':{'reference':'Patient/bert'}}")
	h.load("{'resourceType':'CareTeam','id':'berts','status':'active','subject':{'reference':'Patient/bert'},'participant':[{'member':{'reference':'RelatedPerson/rp'}},{'member':{'reference':'Organization/sud'}},{'member':{'reference':'Patient/bert'}},{'member':{'reference':'Practitioner/dora'}}]}")
	if n := h.count("SELECT count(*) FROM record.relation WHERE patient = 'bert' AND member <> 'RelatedPerson/rp' OR patient = 'bert' AND kind = 1"); n != 1 {
		t.Errorf("%d relations of treatment, want that of the practitioner", n)
	}

	h.load("{'resourceType':'PractitionerRole','id':'theirs','active':true,'practitioner':{'reference':'Practitioner/dora'},'organization':{'reference':'Organization/sud'}}")
	h.load(session("s", "in-progress", "{'start':'2026-02-20'}", "PractitionerRole/theirs"))
	admin := h.as("practice-admin", "HOPERAT", "Practitioner/emil")
	if h.sees(admin, fhir.Ref{Type: "PractitionerRole", ID: "theirs"}) {
		t.Fatal("the role of a program is seen outside of it: this is no test")
	}
	if _, err := h.update(admin, strings.Replace(emilRole, "'role'", "'theirs'", 1), upsert); err != nil {
		t.Fatal(err)
	}
	if n := h.count("SELECT count(*) FROM record.relation WHERE patient = 'bert' AND member = 'Practitioner/emil'"); n != 0 {
		t.Error("a role under the id of a hidden one made somebody treat")
	}
	if n := h.count("SELECT count(*) FROM record.membership WHERE whole = 'PractitionerRole/theirs' AND member = 'Practitioner/dora'"); n != 1 {
		t.Error("the hidden role no longer stands for whose it is")
	}
}

// A program's records stay the program's: an Encounter there gives a clinician
// outside of it nothing of them (42 CFR 2.12(c)(3)), and who works for one program
// does not see what two hold.
func TestS38_2_12_c_3_TreatingOpensNoProgram(t *testing.T) {
	h := clinic(t)
	h.load(strings.Replace(sud, "'id':'sud'", "'id':'sud2'", 1))
	h.load(strings.Replace(session("s", "in-progress", "{'start':'2026-02-20'}", "Practitioner/emil"), "'participant'", "'serviceProvider':{'reference':'Organization/sud'},'participant'", 1))
	both := h.load("{'resourceType':'Observation','id':'both','status':'final','code':{'text':'x'},'subject':{'reference':'Patient/bert'},'performer':[{'reference':'Organization/sud'},{'reference':'Organization/sud2'}]}")
	encounter, bert := fhir.Ref{Type: "Encounter", ID: "s"}, fhir.Ref{Type: "Patient", ID: "bert"}
	for _, c := range []struct {
		orgs                  []fhir.ID
		patient, session, all bool
	}{
		{nil, true, false, false},
		{[]fhir.ID{"sud"}, true, true, false},
		{[]fhir.ID{"sud2"}, true, false, false},
		{[]fhir.ID{"sud", "sud2"}, true, true, true},
	} {
		p := h.as("therapist", "TREAT", "Practitioner/emil", c.orgs...)
		if h.sees(p, bert) != c.patient || h.sees(p, encounter) != c.session || h.sees(p, both) != c.all {
			t.Errorf("organizations %v: patient %v, session %v, of both programs %v", c.orgs, h.sees(p, bert), h.sees(p, encounter), h.sees(p, both))
		}
	}
}

// What has ended is not kept, and what ends is cleared away.
func TestEndedRelationsAreForgotten(t *testing.T) {
	h := clinic(t)
	h.load(session("old", "finished", "{'start':'2025-03-02','end':'2025-03-02'}", "Practitioner/emil"))
	h.load(session("new", "finished", "{'start':'2026-02-20','end':'2026-02-20'}", "Practitioner/emil"))
	if n := h.count("SELECT count(*) FROM record.relation WHERE member = 'Practitioner/emil'"); n != 1 {
		t.Fatalf("%d relations, want the one that holds", n)
	}
	h.clock.Add((60 * 24 * time.Hour).Milliseconds())
	if _, err := h.store.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := h.count("SELECT count(*) FROM record.relation WHERE member = 'Practitioner/emil'"); n != 0 {
		t.Errorf("%d relations are kept beyond their end", n)
	}
	if n := h.count("SELECT count(*) FROM record.relation WHERE member = 'Practitioner/dora'"); n != 1 {
		t.Error("the relation of a CareTeam without an end is gone")
	}
}
