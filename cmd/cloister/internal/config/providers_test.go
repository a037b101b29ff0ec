package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const providerFile = `{"title": "Harbor", "issuer": "https://id.harbor.example", "client_id": "c", "client_secret_file": "harbor.secret", "practices": ["harbor"]}`

func files(more ...string) fstest.MapFS {
	out := fstest.MapFS{"harbor.secret": {Data: []byte("canary-secret\n")}, "empty.secret": {}, "two.secret": {Data: []byte("canary\nlines")}, "notes.txt": {}}
	for i := 0; i+1 < len(more); i += 2 {
		out[more[i]] = &fstest.MapFile{Data: []byte(more[i+1])}
	}
	return out
}

func TestProvidersAreRead(t *testing.T) {
	env := func(name string) string { return map[string]string{"LAKESIDE_SECRET": "from the variable"}[name] }
	list, err := ReadProviders(files("harbor.json", providerFile, "lakeside.json", `{
		"title": "Lakeside", "issuer": "https://id.lakeside.example", "client_id": "d", "client_secret_env": "LAKESIDE_SECRET", "practices": ["lakeside"],
		"scopes": ["openid", "groups"], "role_claim": ["realm_access", "roles"], "roles": {"T": ["therapist"]}, "second_factor": "own", "email_verified": "always"
	}`), env, false)
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	a, b := list[0], list[1]
	if a.Name != "harbor" || string(a.Secret) != "canary-secret" || !slices.Equal(a.Scopes, []string{"email", "profile"}) || a.Assurance.Own || a.Claims.Trusted || a.Claims.Roles != nil {
		t.Errorf("%+v", a)
	}
	if b.Name != "lakeside" || string(b.Secret) != "from the variable" || !slices.Equal(b.Scopes, []string{"groups"}) || !b.Assurance.Own || !b.Claims.Trusted || !slices.Equal(b.Claims.Roles, []string{"realm_access", "roles"}) {
		t.Errorf("%+v", b)
	}
}

// Each fault names the file and the field, and no secret.
func TestFaultsOfProviders(t *testing.T) {
	change := func(old, text string) string {
		out := strings.Replace(providerFile, old, text, 1)
		if out == providerFile {
			t.Fatal(old)
		}
		return out
	}
	for _, c := range []struct{ field, text string }{
		{"title", change(`"Harbor"`, `""`)},
		{"issuer", change("https://id", "http://id")},
		{"issuer", change("https://id.harbor.example", "http://127.0.0.1:8090")},
		{"client_id", change(`"c"`, `""`)},
		{"client_secret_file", change("harbor.secret", "absent.secret")},
		{"client_secret_file", change("harbor.secret", "empty.secret")},
		{"client_secret_file", change("harbor.secret", "two.secret")},
		{"client_secret_env", change(`"client_secret_file": "harbor.secret"`, `"client_secret_env": "NOT_SET"`)},
		{"client_secret_file", change(`"client_secret_file": "harbor.secret",`, ``)},
		{"client_secret_env", change(`"practices"`, `"client_secret_env": "X", "practices"`)},
		{"practices", change(`["harbor"]`, `[]`)},
		{"second_factor", change(`"practices"`, `"second_factor": "none", "practices"`)},
		{"email_verified", change(`"practices"`, `"email_verified": "yes", "practices"`)},
		{"max_age", change(`"practices"`, `"max_age": "soon", "practices"`)},
		{"roles", change(`"practices"`, `"role_claim": "groups", "practices"`)},
		{"roles", change(`"practices"`, `"role_claim": "groups", "roles": {"All": ["patient"]}, "practices"`)},
		{"role_claim", change(`"practices"`, `"role_claim": 7, "practices"`)},
		{"issuers", change(`"issuer"`, `"issuers"`)}, // a field that is none
		{"something after", providerFile + providerFile},
	} {
		_, err := ReadProviders(files("harbor.json", c.text), func(string) string { return "" }, false)
		if err == nil || !strings.Contains(err.Error(), "harbor.json: ") || !strings.Contains(err.Error(), c.field) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", c.field, err)
		}
	}
	if _, err := ReadProviders(files("a.json", providerFile, "b.json", providerFile), os.Getenv, false); err == nil || !strings.Contains(err.Error(), "b.json: issuer is that of a.json") {
		t.Errorf("two with one issuer: %v", err)
	}
	if _, err := ReadProviders(files("Har bor.json", providerFile), os.Getenv, false); err == nil || !strings.Contains(err.Error(), "name") {
		t.Errorf("a name for no address: %v", err)
	}
	if _, err := ReadProviders(files(), os.Getenv, false); err == nil {
		t.Error("a directory without providers")
	}
	if _, err := ReadProviders(files("harbor.json", change("https://id.harbor.example", "http://127.0.0.1:8090")), os.Getenv, true); err != nil {
		t.Errorf("on this machine, for dev: %v", err)
	}
	// All at once.
	if _, err := ReadProviders(files("a.json", change(`"Harbor"`, `""`), "b.json", change(`"c"`, `""`)), os.Getenv, false); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("%v", err)
	}
}

func TestProvidersOfServe(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"harbor.json": providerFile, "harbor.secret": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	on := Authorization{Server: Embedded, Identity: people, Providers: Providers{dir}}
	if err := on.Check(); err != nil {
		t.Error(err)
	}
	on.Server = "none"
	if err := on.Check(); err == nil || !strings.Contains(err.Error(), "CLOISTER_PROVIDERS") {
		t.Errorf("without the authorization server: %v", err)
	}
	on.Server, on.ProviderDir = Embedded, filepath.Join(dir, "absent")
	if err := on.Check(); err == nil || !strings.Contains(err.Error(), "CLOISTER_PROVIDERS") {
		t.Errorf("no such directory: %v", err)
	}
}
