package signin_test

import (
	"context"
	"testing"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/fhir"
)

// Work that goes on without its token ends when the app may not do any more what the token let it.
func TestStandingOfAnApp(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	h.register(app.App{
		ID: "exchange", Name: "Exchange", Auth: app.PrivateKeyJWT, JWKSURI: "https://exchange.example/jwks", Grants: []string{app.ClientCredentials},
		Scopes: []string{"system/Patient.rs", "system/Observation.rs"}, Purposes: []string{"TREAT"}, Roles: []string{"hie"}, Organizations: []fhir.ID{"tri"}, Registered: noon,
	})
	tenant, _ := h.records.Tenant("harbor")
	good := authz.Frozen{
		Tenant: tenant, Subject: h.base + "/smart|exchange", Client: "exchange", Roles: []string{"hie"}, Purpose: "TREAT", Organizations: []fhir.ID{"tri"}, Scopes: "system/Patient.rs",
	}
	for name, c := range map[string]struct {
		change func(*authz.Frozen)
		want   bool
	}{
		"as it is registered":   {func(*authz.Frozen) {}, true},
		"another issuer's":      {func(f *authz.Frozen) { f.Subject, f.Client = "https://id.example.org|x", "x" }, true},
		"no such app":           {func(f *authz.Frozen) { f.Client = "nobody" }, false},
		"another practice":      {func(f *authz.Frozen) { f.Tenant = 99 }, false},
		"more scopes":           {func(f *authz.Frozen) { f.Scopes = "system/*.rs" }, false},
		"another role":          {func(f *authz.Frozen) { f.Roles = []string{"hie", "therapist"} }, false},
		"a release profile":     {func(f *authz.Frozen) { f.Profile = "safe-harbor" }, false},
		"another purpose":       {func(f *authz.Frozen) { f.Purpose = "HPAYMT" }, false},
		"another organization":  {func(f *authz.Frozen) { f.Organizations = []fhir.ID{"other"} }, false},
		"an app that has users": {func(f *authz.Frozen) { f.Client = appID }, false},
	} {
		f := good
		c.change(&f)
		if err := h.Standing(ctx, f); (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One with a release profile is not let do without it.
	h.register(app.App{
		ID: "analytics", Name: "Analytics", Auth: app.PrivateKeyJWT, JWKSURI: "https://analytics.example/jwks", Grants: []string{app.ClientCredentials},
		Scopes: []string{"system/Patient.rs"}, Purposes: []string{"TREAT"}, Roles: []string{"hie"}, Organizations: []fhir.ID{"tri"}, Profile: "safe-harbor", Registered: noon,
	})
	for profile, want := range map[string]bool{"safe-harbor": true, "limited-data-set": false, "": false} {
		f := good
		f.Subject, f.Client, f.Profile = h.base+"/smart|analytics", "analytics", profile
		if err := h.Standing(ctx, f); (err == nil) != want {
			t.Errorf("release profile %q: %v", profile, err)
		}
	}
	if _, err := h.Store.EndGrants(ctx, smart.End{App: "exchange", Practice: "harbor"}, noon); err != nil {
		t.Fatal(err)
	}
	if err := h.Standing(ctx, good); err == nil {
		t.Error("an app goes on whose approval was withdrawn")
	}
}
