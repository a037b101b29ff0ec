package smart_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/fhir"
)

// The conformance kits of SMART App Launch and of ONC's criterion (g)(10) ask a token endpoint for less than it needs.
func TestTokenRequestsThatLackAParameter(t *testing.T) {
	w := newWorld(t)
	for _, client := range []string{"chart", "desk"} {
		f := w.flow(client, "openid", "user/Patient.rs", "offline_access")
		for _, name := range []string{"code", "redirect_uri", "grant_type"} {
			v := f.exchange("x")
			v.Del(name)
			w.post(t, "/token", f.basic, v).wants(400, "invalid_request")
			v.Set(name, "")
			w.post(t, "/token", f.basic, v).wants(400, "invalid_request")
		}
		a := f.tokens(w.therapist, "")
		v := f.with(url.Values{"grant_type": {"refresh_token"}})
		w.post(t, "/token", f.basic, v).wants(400, "invalid_request")
		for why, token := range map[string]string{"an access token": a.str("access_token"), "an ID token": a.str("id_token"), "nothing that was given": strings.Repeat("A", 43)} {
			if b := f.refresh(token); b.status != 400 || b.str("error") != "invalid_grant" {
				t.Errorf("%s as refresh token: %d %s", why, b.status, b.text)
			}
		}
		f.refresh(a.str("refresh_token")).ok() // none of these ended anything
	}
	w.post(t, "/revoke", "desk:desk-secret", url.Values{}).wants(400, "invalid_request")
	w.post(t, "/introspect", "desk:desk-secret", url.Values{}).wants(400, "invalid_request")
}

// granular are the scopes by category of (g)(10) (HTI-1, US Core 6.1 and later) for Condition and Observation.
var granular = []string{
	"patient/Condition.rs?category=http://terminology.hl7.org/CodeSystem/condition-category|encounter-diagnosis",
	"patient/Condition.rs?category=http://terminology.hl7.org/CodeSystem/condition-category|problem-list-item",
	"patient/Condition.rs?category=http://hl7.org/fhir/us/core/CodeSystem/condition-category|health-concern",
	"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory",
	"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|social-history",
	"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|survey",
	"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|vital-signs",
	"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|clinical-test",
	"patient/Observation.rs?category=http://hl7.org/fhir/us/core/CodeSystem/us-core-category|sdoh",
}

// TestGranularScopesGoThrough from the request to the resource server, in the words of the request, and no wider there than they are: for an
// app that registered them, and for one that registered more.
func TestGranularScopesGoThrough(t *testing.T) {
	w := newWorld(t)
	narrow := app.App{
		ID: "narrow", Name: "Narrow", Auth: app.None, Redirects: []string{redirect}, Grants: []string{app.Code, app.Refresh}, Purposes: []string{"PATRQT"}, Registered: w.now(),
		Scopes: append([]string{"launch/patient", "offline_access", "patient/Patient.rs"}, granular...),
	}
	if err := narrow.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := w.store.Register(t.Context(), narrow); err != nil {
		t.Fatal(err)
	}
	w.approve("narrow", "harbor")
	for _, client := range []string{"chart", "narrow"} {
		scopes := append([]string{"launch/patient", "offline_access", "patient/Patient.rs"}, granular...)
		f := w.flow(client, scopes...)
		a := f.tokens(w.patient, "anna")
		b := f.refresh(a.str("refresh_token")).ok()
		less := f.refresh(b.str("refresh_token"), "scope", granular[3]).ok()
		f.refresh(less.str("refresh_token"), "scope", "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|imaging").wants(400, "invalid_scope")
		for _, x := range []struct {
			answer
			want   []string
			opened int
		}{{a, scopes, 1}, {b, scopes, 1}, {less, granular[3:4], 0}} {
			if got := strings.Fields(x.str("scope")); !slices.Equal(got, x.want) {
				t.Errorf("%s: granted %v, want %v", client, got, x.want)
			}
			who, ok := w.accepts(t, x.str("access_token"))
			if !ok {
				t.Fatal("not accepted")
			}
			for _, i := range []fhir.Interaction{fhir.Read, fhir.SearchType} { // read and search are opened alike
				for typ, want := range map[fhir.ResourceType]int{"Observation": 1, "Condition": x.opened} {
					open := who.Scopes.Allow(typ, i)
					if len(open) != want || want > 0 && (open[0].Where == nil || !open[0].PatientOnly) {
						t.Errorf("%s: %s of %s is open by %v", client, i, typ, open)
					}
				}
				if open := who.Scopes.Allow("Procedure", i); len(open) > 0 {
					t.Errorf("%s: Procedure is open", client)
				}
			}
			if len(who.Scopes.Allow("Observation", fhir.Create)) > 0 {
				t.Errorf("%s: Observations can be made", client)
			}
		}
	}
	f := w.flow("narrow", "launch/patient", "patient/Observation.rs", "patient/Condition.rs", "patient/Encounter.rs")
	a := f.tokens(w.patient, "anna") // what it asks for more widely is cut down to what it registered
	for _, s := range strings.Fields(a.str("scope")) {
		if s != "launch/patient" && !strings.Contains(s, "?category=") {
			t.Errorf("granted %s", s)
		}
	}
}

// TestScopesOfTheFirstVersion are answered in the words of the request (SMART App Launch 2.2, permission-v1).
func TestScopesOfTheFirstVersion(t *testing.T) {
	w := newWorld(t)
	a := w.flow("chart", "launch/patient", "openid", "fhirUser", "patient/Patient.read", "patient/Observation.read").tokens(w.patient, "anna")
	if a.str("scope") != "launch/patient openid fhirUser patient/Patient.read patient/Observation.read" {
		t.Error(a.text)
	}
	who, ok := w.accepts(t, a.str("access_token"))
	if !ok || !allow(who.Scopes, "Observation") || len(who.Scopes.Allow("Observation", fhir.Read)) != 1 || allow(who.Scopes, "Condition") || len(who.Scopes.Allow("Observation", fhir.Update)) > 0 {
		t.Errorf("%v %+v", ok, who.Scopes)
	}
	b := w.flow("chart", "launch/patient", "patient/Observation.write", "patient/*.read").tokens(w.patient, "anna")
	if b.str("scope") != "launch/patient patient/*.read" { // nothing to write was registered
		t.Error(b.text)
	}
}
