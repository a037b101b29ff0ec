package smart_test

import (
	"strings"
	"testing"
	"time"
)

func TestStandaloneLaunch(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "fhirUser", "launch/patient", "patient/Observation.rs", "offline_access")
	a := f.tokens(w.patient, "anna")
	if a.str("patient") != "anna" || a.str("token_type") != "Bearer" || a.body["expires_in"] != 300.0 || a.body["need_patient_banner"] != true || !strings.HasPrefix(a.str("smart_style_url"), issuer) {
		t.Errorf("%s", a.text)
	}
	if a.str("scope") != f.form.Get("scope") {
		t.Errorf("scope %q", a.str("scope"))
	}
	id := claims(t, a.str("id_token"))
	if id["iss"] != issuer || id["aud"] != "chart" || id["nonce"] != "n-0S6_WzA2Mj" || id["sub"] != w.patient.account.ID || id["fhirUser"] != fhirAt+"/Patient/anna" {
		t.Errorf("%v", id)
	}
	who, ok := w.accepts(t, a.str("access_token"))
	if !ok || who.Patient != "anna" || who.User.String() != "Patient/anna" || who.Purpose != "PATRQT" || who.Tenant != w.slugs["harbor"] || who.Client != "chart" || len(who.Roles) != 1 || who.Roles[0] != "patient" || !who.SignedIn.Equal(w.patient.session.SignedIn) {
		t.Errorf("%v %+v", ok, who)
	}
	if _, ok := w.accepts(t, a.str("id_token")); ok {
		t.Error("an ID token opens the FHIR API")
	}
	w.pass(4 * time.Minute)
	if err := w.ended.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := f.refresh(a.str("refresh_token")).ok()
	if b.str("refresh_token") == a.str("refresh_token") || b.str("refresh_token") == "" || b.str("patient") != "anna" {
		t.Errorf("%s", b.text)
	}
}
