package postgres_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// TestSCIMTakesWhatDirectoriesSend: operations in the words of the directories that there are, which differ from those of RFC 7644.
func TestSCIMTakesWhatDirectoriesSend(t *testing.T) {
	h := newHouse(t)
	harbor, _ := h.directories()
	u := harbor.do("POST", "/Users", newUser, 201)
	at := "/Users/" + idOf(u)
	ops := func(text string) string {
		return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[` + text + `]}`
	}
	for _, c := range []struct {
		what, ops string
		attribute string
		want      any
	}{
		{"Entra ID writes booleans as words", `{"op":"Replace","path":"active","value":"False"}`, "active", false},
		{"and leaves the path out", `{"op":"Add","value":{"active":"True"}}`, "active", true},
		{"Okta sends an object", `{"op":"replace","value":{"id":"x","schemas":[],"active":false}}`, "active", false},
		{"as RFC 7644 has it", `{"op":"replace","path":"active","value":true}`, "active", true},
		{"with the schema in the path", `{"op":"replace","path":"urn:ietf:params:scim:schemas:core:2.0:User:active","value":true}`, "active", true},
		{"names one by one", `{"op":"Replace","path":"name.givenName","value":"Theresa May"},{"op":"Replace","path":"name.familyName","value":"Day"}`, "displayName", "Theresa May Day"},
		{"names as keys with dots", `{"op":"replace","value":{"name.givenName":"Tess","name.familyName":"Doe"}}`, "displayName", "Tess Doe"},
		{"the display name goes before the name", `{"op":"replace","value":{"displayName":"Tess D.","name":{"givenName":"T","familyName":"D"}}}`, "displayName", "Tess D."},
		{"what is not kept is no error", `{"op":"Add","path":"emails[type eq \"work\"].value","value":"t@example.org"},{"op":"Add","path":"title","value":"LCSW"},
			{"op":"Replace","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department","value":"x"},{"op":"Remove","path":"phoneNumbers[type eq \"mobile\"]"}`, "displayName", "Tess D."},
		{"what is taken away", `{"op":"Remove","path":"externalId"}`, "externalId", nil},
		{"what comes back", `{"op":"Add","path":"externalId","value":"e-2"}`, "externalId", "e-2"},
	} {
		if got := harbor.do("PATCH", at, ops(c.ops), 200)[c.attribute]; got != c.want {
			t.Errorf("%s: %s is %v, want %v", c.what, c.attribute, got, c.want)
		}
		if got := harbor.do("GET", at, "", 200)[c.attribute]; got != c.want {
			t.Errorf("%s: %s is kept as %v", c.what, c.attribute, got)
		}
	}
	for text, kind := range map[string]string{
		`{"op":"replace","path":"groups","value":[]}`:        "invalidPath",
		`{"op":"replace","path":"password","value":"x"}`:     "invalidPath",
		`{"op":"replace","path":"id","value":"x"}`:           "invalidPath",
		`{"op":"replace","path":"active","value":"perhaps"}`: "invalidValue",
		`{"op":"remove"}`:                                          "noTarget",
		`{"op":"remove","path":"active"}`:                          "mutability",
		`{"op":"replace","path":"userName","value":"other@x.com"}`: "mutability",
		`{"op":"move","path":"active"}`:                            "invalidSyntax",
		``:                                                         "invalidSyntax",
	} {
		if got := harbor.do("PATCH", at, ops(text), 400)["scimType"]; got != kind {
			t.Errorf("%s: %v, want %s", text, got, kind)
		}
	}

	g := harbor.do("POST", "/Groups", `{"displayName":"Clinicians","externalId":"g-1"}`, 201)
	group := "/Groups/" + idOf(g)
	members := func() int {
		list, _ := harbor.do("GET", group, "", 200)["members"].([]any)
		return len(list)
	}
	in := fmt.Sprintf(`{"value":%q}`, idOf(u))
	for _, c := range []struct {
		ops  string
		want int
	}{
		{`{"op":"Add","path":"members","value":[` + in + `]}`, 1},
		{`{"op":"Remove","path":"members","value":[` + in + `]}`, 0},
		{`{"op":"add","path":"members","value":` + in + `}`, 1},
		{`{"op":"remove","path":"members[value eq \"` + strings.ToUpper(idOf(u)) + `\"]"}`, 0},
		{`{"op":"replace","value":{"id":"x","displayName":"Clinicians","members":[` + in + `]}}`, 1},
		{`{"op":"remove","path":"members"}`, 0},
		{`{"op":"replace","path":"members","value":[` + in + `,{"value":"nobody"}]}`, 1},
	} {
		harbor.do("PATCH", group, ops(c.ops), 200)
		if got := members(); got != c.want {
			t.Errorf("%s: %d members, want %d", c.ops, got, c.want)
		}
	}
	harbor.do("PATCH", group, ops(`{"op":"remove"}`), 400)
	harbor.do("PATCH", group, ops(`{"op":"replace","path":"id","value":"x"}`), 400)
	if got := harbor.do("GET", group+"?excludedAttributes=members", "", 200); got["members"] != nil || got["displayName"] != "Clinicians" {
		t.Errorf("without its members: %v", got)
	}
	if got := harbor.do("GET", `/Groups?excludedAttributes=members,id&filter=displayName%20eq%20%22CLINICIANS%22`, "", 200); got["totalResults"] != 1.0 || strings.Contains(fmt.Sprint(got), "members") || !strings.Contains(fmt.Sprint(got), idOf(g)) {
		t.Errorf("a list without members: %v", got)
	}
}

// TestSCIMLists: filters and pages (RFC 7644, 3.4.2).
func TestSCIMLists(t *testing.T) {
	h := newHouse(t)
	harbor, lakeside := h.directories()
	var ids []string
	for i := range 5 {
		h.advance(time.Second)
		ids = append(ids, idOf(harbor.do("POST", "/Users", fmt.Sprintf(`{"userName":"u%d@example.org","externalId":"x%d"}`, i, i), 201)))
	}
	lakeside.do("POST", "/Users", `{"userName":"u9@example.org","externalId":"x1"}`, 201)
	page := func(query string) (got []string, out map[string]any) {
		out = harbor.do("GET", "/Users?"+query, "", 200)
		list, _ := out["Resources"].([]any)
		for _, x := range list {
			m, _ := x.(map[string]any)
			got = append(got, idOf(m))
		}
		return got, out
	}
	for _, c := range []struct {
		query       string
		want        []string
		total, from int
	}{
		{"", ids, 5, 1},
		{"startIndex=2&count=2", ids[1:3], 5, 2},
		{"startIndex=0&count=1", ids[:1], 5, 1},
		{"startIndex=-3", ids, 5, 1},
		{"startIndex=6", nil, 5, 6},
		{"count=0", nil, 5, 1},
		{"count=-1", nil, 5, 1},
		{"count=100000", ids, 5, 1},
		{`filter=userName%20eq%20%22U3@EXAMPLE.org%22`, ids[3:4], 1, 1},
		{`filter=USERNAME%20EQ%20%22u3@example.org%22`, ids[3:4], 1, 1},
		{`filter=externalId%20eq%20%22x1%22`, ids[1:2], 1, 1},
		{`filter=externalId%20eq%20%22X1%22`, nil, 0, 1}, // caseExact (RFC 7643, 3.1)
		{`filter=id%20eq%20%22` + ids[2] + `%22`, ids[2:3], 1, 1},
		{`filter=userName%20eq%20%22u9@example.org%22`, nil, 0, 1}, // another practice's
		{`filter=userName%20eq%20%22'%20OR%201=1--%22`, nil, 0, 1},
	} {
		got, out := page(c.query)
		if !slices.Equal(got, c.want) || out["totalResults"] != float64(c.total) || out["startIndex"] != float64(c.from) || out["itemsPerPage"] != float64(len(c.want)) {
			t.Errorf("%s: %v, %v of %v from %v", c.query, got, out["itemsPerPage"], out["totalResults"], out["startIndex"])
		}
	}
	for _, filter := range []string{`userName co "u"`, `userName eq u1`, `password eq "x"`, `userName eq "a" and externalId eq "b"`, `userName`, `eq`, `userName eq 1`} {
		r := harbor.do("GET", "/Users?filter="+strings.ReplaceAll(strings.ReplaceAll(filter, " ", "%20"), `"`, "%22"), "", 400)
		if r["scimType"] != "invalidFilter" {
			t.Errorf("%s: %v", filter, r)
		}
	}
}

// TestSCIMSaysWhatItIs: discovery (RFC 7644, 4) promises what there is, and every error is one of RFC 7644, 3.12.
func TestSCIMSaysWhatItIs(t *testing.T) {
	h := newHouse(t)
	harbor, _ := h.directories()
	config := harbor.do("GET", "/ServiceProviderConfig", "", 200)
	for what, want := range map[string]bool{"patch": true, "filter": true, "bulk": false, "sort": false, "etag": false, "changePassword": false} {
		if m, _ := config[what].(map[string]any); m["supported"] != want {
			t.Errorf("%s: %v", what, config[what])
		}
	}
	u := harbor.do("POST", "/Users", newUser, 201)
	if m, _ := u["meta"].(map[string]any); m["version"] != nil || m["location"] != "https://fhir.example.org/scim/v2/Users/"+idOf(u) {
		t.Errorf("there are no ETags, and a location: %v", m)
	}
	schemas := harbor.do("GET", "/Schemas", "", 200)
	types := harbor.do("GET", "/ResourceTypes", "", 200)
	if schemas["totalResults"] != 3.0 || types["totalResults"] != 2.0 {
		t.Errorf("%v %v", schemas, types)
	}
	// What resources say that they are is described, attribute by attribute.
	described := map[string]bool{"schemas": true, "id": true, "externalId": true, "meta": true}
	named, _ := u["schemas"].([]any)
	for _, id := range named {
		s := harbor.do("GET", "/Schemas/"+fmt.Sprint(id), "", 200)
		if s["id"] != id {
			t.Errorf("%v: %v", id, s)
		}
		described[fmt.Sprint(id)] = true
		list, _ := s["attributes"].([]any)
		for _, x := range list {
			m, _ := x.(map[string]any)
			described[fmt.Sprint(m["name"])] = true
		}
	}
	for name := range u {
		if !described[name] {
			t.Errorf("no schema describes %s", name)
		}
	}

	handler := harbor.h
	for _, c := range []struct {
		method, path, body, token string
		status                    int
		kind                      string
	}{
		{"GET", "/Users", "", "", 401, ""},
		{"GET", "/Users/nobody", "", harbor.token, 404, ""},
		{"GET", "/Schemas/urn:none", "", harbor.token, 404, ""},
		{"GET", "/Me", "", harbor.token, 404, ""},
		{"POST", "/Bulk", "{}", harbor.token, 404, ""},
		{"POST", "/Users", "{", harbor.token, 400, "invalidSyntax"},
		{"POST", "/Users", "{}", harbor.token, 400, "invalidValue"},
		{"POST", "/Users", newUser, harbor.token, 409, "uniqueness"},
		{"POST", "/Groups", `{"displayName":""}`, harbor.token, 400, "invalidValue"},
		{"POST", "/Users", `{"userName":"` + strings.Repeat("a", 1<<20) + `"}`, harbor.token, 413, ""},
	} {
		r := httptest.NewRequestWithContext(t.Context(), c.method, "/scim/v2"+c.path, strings.NewReader(c.body))
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		text, _ := io.ReadAll(w.Body)
		want := `"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"]`
		if w.Code != c.status || w.Header().Get("Content-Type") != "application/scim+json" || !strings.Contains(string(text), want) || !strings.Contains(string(text), fmt.Sprintf(`"status":"%d"`, c.status)) ||
			!strings.Contains(string(text), `"detail":"`) || (c.kind != "") != strings.Contains(string(text), `"scimType":"`+c.kind+`"`) {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, text)
		}
		if c.status == http.StatusUnauthorized && w.Header().Get("WWW-Authenticate") == "" {
			t.Error("a 401 without a challenge")
		}
	}
}

// grant makes one of an account in a practice, as an approval does.
func (h *house) grant(account string, m identity.Membership) string {
	h.t.Helper()
	ctx := h.t.Context()
	id, at := record.NewID(), h.now()
	if err := h.store.Register(ctx, app.App{ID: "chart", Auth: app.None, Registered: at}); err != nil && !errors.Is(err, smart.ErrTaken) {
		h.t.Fatal(err)
	}
	hash := sha256.Sum256([]byte(id))
	if err := h.store.PutTicket(ctx, smart.Ticket{Kind: smart.KindInteraction, Hash: hash, Body: []byte("{}"), Until: at.Add(time.Minute)}); err != nil {
		h.t.Fatal(err)
	}
	g := smart.Grant{ID: id, App: "chart", Account: account, Session: record.NewID(), Tenant: m.Tenant, Practice: m.Practice, User: m.User, Keep: smart.Offline, Created: at, Until: at.Add(time.Hour)}
	if err := h.store.BeginGrant(ctx, hash, g, smart.Code{Hash: hash, Grant: id, App: "chart", Until: at.Add(time.Minute)}); err != nil {
		h.t.Fatal(err)
	}
	return id
}

// TestAMembershipTakesItsGrantsAlong: whoever takes it away or changes it, and by whatever way, even where nothing else was told.
func TestAMembershipTakesItsGrantsAlong(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.account("tess@example.org", h.staff("harbor", "Practitioner/tess"), h.staff("lakeside", "Practitioner/tess"), h.patient("harbor", "Patient/tess"))
	a := must(h.Find(ctx, "tess@example.org"))(t)
	ids := map[string]string{}
	for _, m := range a.Memberships {
		ids[m.Practice+" "+m.User.String()] = h.grant(a.ID, m)
	}
	over := func(what string, want ...string) {
		t.Helper()
		keys := must(h.store.Ended(ctx, h.now().AddDate(-1, 0, 0)))(t)
		for name, id := range ids {
			if got := slices.Contains(keys, id); got != slices.Contains(want, name) {
				t.Errorf("%s: the grant of %s has ended: %v", what, name, got)
			}
		}
	}
	over("at first")
	staff := h.staff("harbor", "Practitioner/tess")
	if err := h.store.PutMembership(ctx, a.ID, staff); err != nil {
		t.Fatal(err)
	}
	over("the same again")
	staff.Organizations = []fhir.ID{"elsewhere"}
	if err := h.store.PutMembership(ctx, a.ID, staff); err != nil {
		t.Fatal(err)
	}
	over("other organizations", "harbor Practitioner/tess")
	if err := h.store.RemoveMemberships(ctx, a.ID, h.tenant["lakeside"]); err != nil {
		t.Fatal(err)
	}
	over("out of a practice", "harbor Practitioner/tess", "lakeside Practitioner/tess")
}
