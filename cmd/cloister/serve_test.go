package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// TestServeLetsAppsAndDirectoriesIn: serve with its own authorization server answers below /smart and /scim/v2, gives the roles that its
// configuration says, lets pages of apps read, and ends in order.
func TestServeLetsAppsAndDirectoriesIn(t *testing.T) {
	ctx := context.Background()
	dsn := cluster.NewDatabase(t, cluster.Template{})
	var out bytes.Buffer
	if err := parse(t, "migrate", "--database-url", dsn).Migrate.Run(ctx, &out); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "INSERT INTO record.tenant (slug, name) VALUES ('harbor', 'Harbor')"); err != nil {
		t.Fatal(err)
	}
	address, key := freeAddress(t), filepath.Join(t.TempDir(), "key.json")
	if err := parse(t, "keys", "create", key).Keys.Create.Run(&out); err != nil {
		t.Fatal(err)
	}
	const authKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	flags := []string{
		"serve", "--database-url", dsn, "--notes-key", "file:" + key, "--audit-key", auditKey(t), "--listen", address, "--base-url", "https://fhir.example.org/fhir", "--authorization-server", "embedded", "--auth-key", authKey,
		"--scim-roles", "harbor|Front Office|front-desk+biller", "--session-idle", "7m", "--patient-factor", "required", "--cors-origins", "https://portal.example.org",
	}
	bad := parse(t, append(flags, "--scim-roles", "elsewhere|x|biller")...)
	if err := bad.Serve.Run(ctx, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "CLOISTER_SCIM_ROLES") || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("a group of a practice that there is not: %v", err)
	}
	c := parse(t, flags...)
	_, _, stop := start(t, func(ctx context.Context, _ io.Writer, log *slog.Logger) error { return c.Serve.Run(ctx, log) })
	base := "http://" + address
	eventually(t, "the server", func() bool { status, _ := ask(t, base+"/fhir/metadata", ""); return status == http.StatusOK })
	for path, want := range map[string]int{
		"/fhir/.well-known/smart-configuration": 200, "/smart/.well-known/openid-configuration": 200, "/smart/keys": 200, "/smart/sign-in": 200, "/scim/v2/Users": 401, "/fhir/Patient": 401,
	} {
		if status, _ := ask(t, base+path, ""); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}

	out.Reset()
	if err := parse(t, "account", "scim-token", "--database-url", dsn, "--audit-key", flags[6], "--practice", "harbor").Account.ScimToken.Run(ctx, &out); err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(out.String())
	post := func(path, body string) map[string]any {
		t.Helper()
		rq, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/scim/v2"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		rq.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(rq)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		got := map[string]any{}
		if err := json.NewDecoder(res.Body).Decode(&got); err != nil || res.StatusCode != http.StatusCreated {
			t.Fatalf("%d %v %v", res.StatusCode, got, err)
		}
		return got
	}
	user := post("/Users", `{"userName":"ria@example.org","displayName":"Ria"}`)
	post("/Groups", fmt.Sprintf(`{"displayName":"front office","members":[{"value":%q}]}`, user["id"]))
	if at, _ := user["meta"].(map[string]any); at["location"] != fmt.Sprintf("https://fhir.example.org/scim/v2/Users/%v", user["id"]) {
		t.Errorf("%v", at)
	}
	var roles []string
	if err := conn.QueryRow(ctx, "SELECT m.roles FROM identity.membership m JOIN identity.account a ON a.id = m.account WHERE a.email = 'ria@example.org'").Scan(&roles); err != nil || strings.Join(roles, " ") != "biller front-desk" {
		t.Errorf("the group gives %v, %v", roles, err)
	}

	rq, err := http.NewRequestWithContext(ctx, http.MethodOptions, base+"/smart/token", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	rq.Header.Set("Origin", "https://portal.example.org")
	rq.Header.Set("Access-Control-Request-Method", "POST")
	res, err := http.DefaultClient.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.Header.Get("Access-Control-Allow-Origin") != "https://portal.example.org" {
		t.Errorf("an origin of the configuration cannot read tokens: %v", res.Header)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
