package signin_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/fhir"
)

// child is a patient of harbor, and what makes her mother her representative.
func child(id, name, born, more string, active bool) []string {
	return []string{
		fmt.Sprintf(`{"resourceType":"Patient","id":%q,"name":[{"family":"Moreno","given":[%q]}],"birthDate":%q%s}`, id, name, born, more),
		fmt.Sprintf(`{"resourceType":"RelatedPerson","id":"mother-of-%s","active":%v,"patient":{"reference":"Patient/%s"},
"relationship":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-RoleCode","code":"MTH"}]}],"name":[{"family":"Moreno","given":["Paz"]}]}`, id, active, id),
	}
}

// TestThePickerOfAMotherHoldsWhomSheStandsFor: a proxy with several children chooses among those whom the FHIR API shows her, and nothing that
// she sends brings her another one: no teenager in care of her own, no child who came of age, none from whom the practice keeps her, no stranger.
func TestThePickerOfAMotherHoldsWhomSheStandsFor(t *testing.T) {
	h := newHouse(t)
	shown := map[string]string{"kid-ana": "Ana", "kid-ben": "Ben"}
	hidden := map[string]string{"teen-cleo": "Cleo", "grown-dario": "Dario", "kept-eva": "Eva"}
	var all []string
	for id, name := range shown {
		all = append(all, child(id, name, "2017-05-03", "", true)...)
	}
	// What the patient herself consented to alone is hers to tell: here that she is a patient at all (42 CFR 2.14).
	alone := fmt.Sprintf(`,"meta":{"tag":[{"system":%q,"code":"minor-consented"}]}`, fhir.EncounterKind)
	all = append(all, child("teen-cleo", "Cleo", "2010-05-03", alone, true)...)
	all = append(all, child("grown-dario", "Dario", "2008-03-01", "", true)...) // eighteen since yesterday
	all = append(all, child("kept-eva", "Eva", "2016-05-03", "", false)...)     // 45 CFR 164.502(g)(5)
	h.put("harbor", all...)
	tenant, _ := h.records.Tenant("harbor")
	const email = "paz@example.org"
	a := identity.Account{Name: "Paz", Email: email}
	for _, list := range []map[string]string{shown, hidden} {
		for id := range list {
			a.Memberships = append(a.Memberships, identity.Membership{Tenant: tenant, Practice: "harbor", User: fhir.Ref{Type: "RelatedPerson", ID: fhir.ID("mother-of-" + id)}, Roles: []string{"proxy"}})
		}
	}
	if _, err := h.Identity.Create(context.Background(), "test", a, password); err != nil {
		t.Fatal(err)
	}
	b := h.browser()
	p := b.signIn(b.authorize(), email)
	offered := func(p page) (out []string) {
		for _, m := range button.FindAllStringSubmatch(p.body, -1) {
			out = append(out, m[1])
		}
		slices.Sort(out)
		return out
	}
	if got := offered(p); !slices.Equal(got, []string{"kid-ana", "kid-ben"}) || strings.Contains(p.body, `type="search"`) {
		t.Fatalf("offered are %v", got)
	}
	for _, name := range hidden {
		if strings.Contains(p.body, name) {
			t.Errorf("the page names %s", name)
		}
	}
	strangers := []string{"teen-cleo", "grown-dario", "kept-eva", persona(t, "patient").Claims.Patient, persona(t, "minor-patient").Claims.Patient}
	absent := b.submit(p, "/patient", "patient", string(sample.Absent()))
	for _, id := range append(slices.Clone(strangers), "", "../kid-ana", "kid-ana/x") {
		if got := b.submit(p, "/patient", "patient", id); got.status != http.StatusUnprocessableEntity || got.body != absent.body {
			t.Errorf("%q is answered with %d, somebody who never was with %d, not byte for byte the same", id, got.status, absent.status)
		}
	}

	// The choice is kept in her browser, where she can write what she likes.
	consent := b.submit(p, "/patient", "patient", "kid-ben")
	if !strings.Contains(consent.body, "Ben Moreno") {
		t.Fatalf("%d %s", consent.status, consent.body)
	}
	here, err := url.Parse(h.base + "/smart/")
	if err != nil {
		t.Fatal(err)
	}
	forge := func(patient string) {
		for _, c := range b.client.Jar.Cookies(here) {
			text, err := base64.RawURLEncoding.DecodeString(c.Value)
			kept := map[string]string{}
			if err != nil || json.Unmarshal(text, &kept) != nil || kept["i"] == "" {
				continue
			}
			kept["p"] = patient
			if text, err = json.Marshal(kept); err != nil {
				t.Fatal(err)
			}
			b.client.Jar.SetCookies(here, []*http.Cookie{{Name: c.Name, Value: base64.RawURLEncoding.EncodeToString(text), Path: "/smart/"}})
			return
		}
		t.Fatal("no cookie holds the choice")
	}
	for _, id := range strangers {
		forge(id)
		if got := b.submit(consent, consent.url.Path, "answer", "yes"); got.left() != nil || slices.Contains(offered(got), id) {
			t.Errorf("%s is approved: %d %s", id, got.status, got.header.Get("Location"))
		}
	}
	forge("kid-ben")
	got := h.granted(b, consent)
	if got["patient"] != "kid-ben" || claimsOf(t, got["access_token"])["fhirUser"] != h.base+"/fhir/RelatedPerson/mother-of-kid-ben" {
		t.Errorf("the token is about %v, of %v", got["patient"], claimsOf(t, got["access_token"])["fhirUser"])
	}
	for id, want := range map[string]int{"kid-ben": http.StatusOK, "kid-ana": http.StatusNotFound, "teen-cleo": http.StatusNotFound, "grown-dario": http.StatusNotFound, "kept-eva": http.StatusNotFound} {
		if status := h.read("Patient/"+id, got["access_token"]); status != want {
			t.Errorf("a token about kid-ben: Patient/%s is answered with %d, want %d", id, status, want)
		}
	}
}

// TestThePickerReadsForThePurposeOfTheApp: an app for payment shows whom a biller reaches for payment; treatment is not its purpose, nor hers.
func TestThePickerReadsForThePurposeOfTheApp(t *testing.T) {
	h := newHouse(t)
	for id, purpose := range map[string]string{"claims": "HPAYMT", "charts": "TREAT"} {
		h.register(app.App{ID: id, Name: id, Auth: app.None, Redirects: []string{redirect}, Grants: []string{app.Code, app.Refresh}, Scopes: scopes, Purposes: []string{purpose, "PATRQT"}, Registered: noon})
	}
	h.account("greta@harbor.example", "biller")
	h.account("elena@harbor.example", "therapist")
	nora := persona(t, "patient").Claims.Patient
	for _, c := range []struct {
		client, email string
		shown         bool
	}{
		{"claims", "greta@harbor.example", true}, {"charts", "greta@harbor.example", false},
		{"claims", "elena@harbor.example", false}, {"charts", "elena@harbor.example", true},
	} {
		b := h.browser()
		p := b.signIn(b.authorize("client_id", c.client), c.email)
		p = b.submit(p, "/patients", "name", "Bergstrom")
		if got := strings.Contains(p.body, nora); got != c.shown {
			t.Errorf("%s with %s: the picker shows the patient: %v", c.email, c.client, got)
			continue
		}
		if !c.shown {
			continue
		}
		// And whom it shows, the app's token reaches.
		p = b.submit(p, "/patient", "patient", nora)
		back := b.submit(p, p.url.Path, "answer", "yes")
		status, got := h.token(back, url.Values{"grant_type": {"authorization_code"}, "code": {back.left().Get("code")}, "redirect_uri": {redirect}, "code_verifier": {verifier}, "client_id": {c.client}})
		if status != http.StatusOK || h.read("Patient/"+nora, got["access_token"]) != http.StatusOK {
			t.Errorf("%s with %s: %d %v", c.email, c.client, status, got)
		}
	}
}
