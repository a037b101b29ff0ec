package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/api/scim"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
)

// directory is a client of /scim/v2.
type directory struct {
	t     *testing.T
	h     http.Handler
	token string
}

func (d directory) do(method, path, body string, status int) map[string]any {
	d.t.Helper()
	r := httptest.NewRequestWithContext(d.t.Context(), method, "/scim/v2"+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+d.token)
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	text, _ := io.ReadAll(w.Body)
	if w.Code != status {
		d.t.Fatalf("%s %s: %d %s, want %d", method, path, w.Code, text, status)
	}
	var out map[string]any
	if len(text) > 0 {
		if err := json.Unmarshal(text, &out); err != nil || w.Header().Get("Content-Type") != "application/scim+json" {
			d.t.Fatalf("%s: %v", text, err)
		}
	}
	return out
}

func idOf(resource map[string]any) string { s, _ := resource["id"].(string); return s }

func (h *house) directories() (harbor, lakeside directory) {
	h.t.Helper()
	handler := scim.Handler(scim.Config{
		Store: h.store, Accounts: h.Service, Base: "https://fhir.example.org/scim/v2", Now: h.now,
		Roles: map[string][]string{"clinicians": {"therapist"}, "supervisors": {"supervisor"}},
	})
	for slug, d := range map[string]*directory{"harbor": &harbor, "lakeside": &lakeside} {
		*d = directory{h.t, handler, "token of " + slug}
		if err := h.store.PutDirectory(h.t.Context(), h.tenant[slug], slug, scim.TokenHash(d.token), h.now()); err != nil {
			h.t.Fatal(err)
		}
	}
	return harbor, lakeside
}

const newUser = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"Tess@Example.org","externalId":"e-1","name":{"givenName":"Tess","familyName":"Doe"},"active":true,
"urn:cloister:params:scim:schemas:extension:member:2.0:User":{"fhirUser":"Practitioner/tess","organizations":["org"]}}`

func TestSCIMProvisions(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	harbor, lakeside := h.directories()
	u := harbor.do("POST", "/Users", newUser, 201)
	id := idOf(u)
	if u["userName"] != "tess@example.org" || u["displayName"] != "Tess Doe" || u["active"] != true {
		t.Errorf("%v", u)
	}
	harbor.do("POST", "/Users", newUser, 409)
	if a := must(h.Find(ctx, "tess@example.org"))(t); len(a.Memberships) > 0 {
		t.Error("a member without a role")
	}
	g := harbor.do("POST", "/Groups", fmt.Sprintf(`{"displayName":"Clinicians","members":[{"value":%q}]}`, id), 201)
	a := must(h.Find(ctx, "tess@example.org"))(t)
	if len(a.Memberships) != 1 || a.Memberships[0].User.String() != "Practitioner/tess" || !slices.Equal(a.Memberships[0].Roles, []string{"therapist"}) || len(a.Memberships[0].Organizations) != 1 {
		t.Fatalf("%+v", a)
	}
	// What one practice has, another does not find.
	lakeside.do("GET", "/Users/"+id, "", 404)
	lakeside.do("PATCH", "/Users/"+id, `{"Operations":[{"op":"replace","path":"active","value":false}]}`, 404)
	lakeside.do("DELETE", "/Groups/"+idOf(g), "", 404)
	for q, want := range map[string]float64{
		`userName eq "TESS@example.org"`: 1, `externalId eq "e-1"`: 1, `userName eq "x"`: 0, "": 1,
	} {
		if got := harbor.do("GET", "/Users?filter="+strings.NewReplacer(" ", "%20", `"`, "%22").Replace(q), "", 200)["totalResults"]; got != want {
			t.Errorf("%s: %v", q, got)
		}
		if got := lakeside.do("GET", "/Users?filter="+strings.NewReplacer(" ", "%20", `"`, "%22").Replace(q), "", 200)["totalResults"]; got != 0.0 {
			t.Errorf("lakeside, %s: %v", q, got)
		}
	}
	for _, q := range []string{"userName%20co%20%22x%22", "password%20eq%20%22x%22", "userName%20eq%20x"} {
		harbor.do("GET", "/Users?filter="+q, "", 400)
	}
	if got := harbor.do("GET", "/Groups?filter=displayName%20eq%20%22clinicians%22", "", 200)["totalResults"]; got != 1.0 {
		t.Errorf("groups: %v", got)
	}

	// She comes by her provider, which says that the address is verified.
	_, err := h.External(ctx, external("tess", "tess@example.org", false, "mfa"), home)
	wantErr(t, err, identity.ErrUnlinked)
	in := func() identity.Step {
		return must(h.External(ctx, external("tess", "tess@example.org", true, "mfa"), home))(t)
	}
	over := func(s identity.Step, why string) {
		t.Helper()
		if _, _, err := h.Current(ctx, s.Token); !errors.Is(err, identity.ErrSession) {
			t.Errorf("%s: the session goes on (%v)", why, err)
		}
	}
	first := in()
	group := "/Groups/" + idOf(g)
	harbor.do("PATCH", "/Users/"+id, `{"Operations":[{"op":"replace","path":"displayName","value":"Tess D."}]}`, 200)
	must2(h.Current(ctx, first.Token))(t) // a name takes nothing away
	harbor.do("PATCH", "/Users/"+id, `{"Operations":[{"op":"Replace","path":"active","value":"False"}]}`, 200)
	over(first, "deactivated")
	if !slices.Contains(h.ended(), identity.Ended{Account: a.ID}) || !h.recorded("harbor", audit.RolesChanged, "") {
		t.Error("what was granted goes on, or is not in the audit trail")
	}
	_, err = h.External(ctx, external("tess", "", false, "mfa"), home)
	wantErr(t, err, identity.ErrUnlinked)
	harbor.do("PATCH", "/Users/"+id, `{"Operations":[{"op":"replace","value":{"active":true}}]}`, 200)
	second := in()
	harbor.do("PATCH", group, fmt.Sprintf(`{"Operations":[{"op":"remove","path":"members[value eq \"%s\"]"}]}`, id), 200)
	over(second, "out of the group")
	harbor.do("PATCH", group, fmt.Sprintf(`{"Operations":[{"op":"add","path":"members","value":[{"value":%q}]}]}`, id), 200)
	third := in()
	harbor.do("PUT", group, `{"displayName":"Visitors","members":[{"value":"`+id+`"}]}`, 200) // a group that gives no role
	over(third, "the group gives no role")
	harbor.do("PUT", group, `{"displayName":"Supervisors","members":[{"value":"`+id+`"}]}`, 200)
	fourth := in()
	if _, a, _ := h.Current(ctx, fourth.Token); len(a.Memberships) != 1 || !slices.Equal(a.Memberships[0].Roles, []string{"supervisor"}) {
		t.Errorf("%+v", a)
	}
	harbor.do("DELETE", group, "", 204)
	over(fourth, "the group is gone")
	harbor.do("DELETE", "/Users/"+id, "", 204)
	harbor.do("GET", "/Users/"+id, "", 404)
}

// TestSCIMSpeaksForItsPracticeAlone: what a directory does to somebody does nothing to what she is elsewhere, or as a patient.
func TestSCIMSpeaksForItsPracticeAlone(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	harbor, _ := h.directories()
	h.account("tess@example.org", h.staff("lakeside", "Practitioner/t"), h.patient("harbor", "Patient/tess"))
	u := harbor.do("POST", "/Users", newUser, 201)
	g := harbor.do("POST", "/Groups", fmt.Sprintf(`{"displayName":"Clinicians","members":[{"value":%q}]}`, u["id"]), 201)
	if a := must(h.Find(ctx, "tess@example.org"))(t); len(a.Memberships) != 3 || a.Name != "Somebody" {
		t.Errorf("%+v", a)
	}
	harbor.do("DELETE", "/Users/"+idOf(u), "", 204)
	a := must(h.Find(ctx, "tess@example.org"))(t)
	if len(a.Memberships) != 2 || a.Disabled {
		t.Errorf("%+v", a)
	}
	if got := harbor.do("GET", "/Groups/"+idOf(g), "", 200)["members"]; fmt.Sprint(got) != "[]" {
		t.Errorf("%v", got)
	}
}

func TestSCIMAsksForItsToken(t *testing.T) {
	h := newHouse(t)
	harbor, _ := h.directories()
	for _, token := range []string{"", "wrong", "token of nobody"} {
		stranger := directory{t, harbor.h, token}
		for _, route := range []string{"GET /Users", "POST /Users", "GET /Users/x", "PUT /Users/x", "PATCH /Users/x", "DELETE /Users/x", "GET /Groups", "POST /Groups", "GET /ServiceProviderConfig", "GET /ResourceTypes", "GET /nothing"} {
			method, path, _ := strings.Cut(route, " ")
			stranger.do(method, path, "{}", 401)
		}
	}
	harbor.do("GET", "/ServiceProviderConfig", "", 200)
	harbor.do("GET", "/ResourceTypes", "", 200)
	harbor.do("GET", "/nothing", "", 404)
	harbor.do("POST", "/Users", "{", 400)
	harbor.do("POST", "/Users", `{"userName":"no address"}`, 400)
	harbor.do("POST", "/Users", `{"userName":"a@example.org","urn:cloister:params:scim:schemas:extension:member:2.0:User":{"fhirUser":"Patient/anna"}}`, 400)
	// A new token takes the place of the old one.
	if err := h.store.PutDirectory(t.Context(), h.tenant["harbor"], "harbor", scim.TokenHash("another"), h.now()); err != nil {
		t.Fatal(err)
	}
	harbor.do("GET", "/Users", "", 401)
}
