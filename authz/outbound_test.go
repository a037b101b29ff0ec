package authz_test

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
)

// lenient permits everything to whom everything is true of.
type lenient struct{}

const anyFact = authz.Treating | authz.Originator | authz.Consent | authz.Program | authz.Unrestricted

func (lenient) Version() string                             { return "1" }
func (lenient) Asked() []label.Set                          { return nil }
func (lenient) Permit(authz.Question) ([]authz.Fact, error) { return []authz.Fact{anyFact}, nil }

// However much the policy permits, no note of a session leaves in bulk, and neither does
// a class of records that nobody has classified yet.
func TestL28_NotesAreInNothingOutbound(t *testing.T) {
	policy := lenient{}
	known := classes{1: 0, 2: label.SUD, 3: label.PsychNote, 4: label.CounselingNote | label.Part2}
	e := authz.NewEngine(policy, &known, func() time.Time { return time.Unix(1e9, 0) })
	ctx := context.Background()
	p := authz.Principal{Tenant: 1, Subject: "test|x", Roles: []string{"therapist"}, Purpose: "TREAT", Scopes: smart.Parse("system/*.rs")}
	g, err := e.Authorize(ctx, p, fhir.SearchType, "DocumentReference")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := e.Reach(ctx, g, fhir.SearchType, "DocumentReference")
	if err != nil {
		t.Fatal(err)
	}
	if r := whole.Of("DocumentReference"); r.Notes() != label.Notes || len(r.Arms()) != 1 || len(r.Arms()[0].Classes) != 4 {
		t.Fatalf("the policy of this test permits too little: %v %v", r.Notes(), r.Arms())
	}
	out, err := e.Outbound(ctx, g, fhir.SearchType, "DocumentReference")
	if err != nil {
		t.Fatal(err)
	}
	r := out.Of("DocumentReference")
	if got := r.Arms(); r.Notes() != 0 || len(got) != 1 || !reflect.DeepEqual(got[0].Classes, []int16{1, 2}) {
		t.Errorf("outbound: notes %v, arms %v", r.Notes(), got)
	}
	for labels, want := range map[label.Set]bool{0: true, label.PsychNote: false, label.CounselingNote | label.SUD: false} {
		if ok, err := r.Admits(labels, anyFact); err != nil || ok != want {
			t.Errorf("%v: %v, %v", labels, ok, err)
		}
	}
}

// What goes on without its request does so for a client that acts for itself, and only in
// the words of its own token.
func TestOnlyBackendsAreFrozen(t *testing.T) {
	e := authz.NewEngine(&rule{version: "1", role: "hie", everybody: true}, &classes{1: 0}, func() time.Time { return time.Unix(1e9, 0) })
	ctx := context.Background()
	for scopes, want := range map[string]bool{
		"system/*.rs": true, "openid system/Patient.rs system/Observation.rs?status=final": true,
		"user/*.rs": false, "patient/*.rs": false, "system/*.rs user/Patient.r": false, "system/*.rs patient/Patient.r": false,
	} {
		p := authz.Principal{Tenant: 3, Subject: "iss|x", Client: "x", Roles: []string{"hie"}, Purpose: "TREAT", Patient: "1",
			Organizations: []fhir.ID{"tri"}, Scopes: smart.Parse(scopes), RequestID: "r", Expiry: time.Unix(2e9, 0)}
		g, err := e.Authorize(ctx, p, fhir.Operation, "")
		if err != nil {
			t.Fatal(err)
		}
		f, err := authz.Freeze(g)
		if (err == nil) != want {
			t.Errorf("%s: %v", scopes, err)
			continue
		}
		if !want {
			continue
		}
		text, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		var again authz.Frozen
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		got := again.Principal(func(s string) authz.Scopes { return smart.Parse(s) })
		p.Scopes, p.Patient, p.Expiry = smart.Parse(smart.Parse(scopes).String()), "", time.Time{}
		if !reflect.DeepEqual(got, p) || again.Policy != "1" {
			t.Errorf("%s: %+v, want %+v", scopes, got, p)
		}
	}
	if _, err := authz.Freeze(authz.Grant{}); err == nil {
		t.Error("the zero grant was frozen")
	}
}
