package smart_test

import (
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-health/cloister/authz/app"
)

// Every token of an app that is registered with a release profile says so, and no app with users has one.
func TestTokensCarryTheReleaseProfile(t *testing.T) {
	w := newWorld(t)
	pump, err := w.store.App(t.Context(), "pump")
	if err != nil {
		t.Fatal(err)
	}
	x := app.App{ID: "cohort", Name: "Cohort", Auth: app.PrivateKeyJWT, JWKS: pump.JWKS, Grants: pump.Grants, Scopes: pump.Scopes, Purposes: pump.Purposes, Roles: pump.Roles, Profile: "safe-harbor", Registered: w.now()}
	if err := x.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := w.store.Register(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	w.approve("cohort", "harbor")
	for id, want := range map[string]string{"cohort": "safe-harbor", "pump": ""} {
		a := w.backend(w.assertion(func(c map[string]any, _ *jose.SignerOptions) { c["iss"], c["sub"] = id, id })).ok()
		if who, ok := w.accepts(t, a.str("access_token")); !ok || who.Profile != want {
			t.Errorf("%s: %v %q, want %q", id, ok, who.Profile, want)
		}
	}
	users, err := w.store.App(t.Context(), "chart")
	if err != nil {
		t.Fatal(err)
	}
	users.Profile = "safe-harbor"
	x.Profile = "Safe Harbor"
	if users.Validate() == nil || x.Validate() == nil {
		t.Error("a profile of an app with users, or of no such name, is registered")
	}
}
