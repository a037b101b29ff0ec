package api

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/profile"
	"github.com/cloister-health/cloister/fhir/record"
)

// oneProfile is a Source of one profile of Patient, which requires a gender.
type oneProfile struct{ profile.Nothing }

func (oneProfile) Find(_ context.Context, _ fhir.ResourceType, canonical string) (*element.Node, bool, error) {
	if canonical != "https://example.org/gendered" {
		return nil, false, nil
	}
	n, err := codec.ReadJSON([]byte(`{"resourceType":"StructureDefinition","url":"https://example.org/gendered","type":"Patient","snapshot":{"element":[
		{"id":"Patient","path":"Patient","min":0,"max":"*"},{"id":"Patient.gender","path":"Patient.gender","min":1,"max":"1","type":[{"code":"code"}]}]}}`), codec.DefaultLimits)
	return n, err == nil, err
}

// holding is the clinic with a validator, whose writes are held to mode.
func (c *clinic) holding(t *testing.T, mode profile.Mode) http.Handler {
	t.Helper()
	policy, err := pdp.New(pdp.Embedded())
	if err != nil {
		t.Fatal(err)
	}
	engine := authz.NewEngine(policy, c.store, c.now)
	v := profile.New(oneProfile{}, oneProfile{}, c.now)
	h, err := New(Config{
		Base: "https://clinic.example/fhir", Engine: engine, Gate: record.NewGate(engine, c.store, c.now).Explaining(c.store).Holding(v.Door(mode)), Store: c.store, Authenticator: c,
		Ready: c.store.Ping, Version: "test", Released: clock(), Deadline: time.Minute, MaxBody: 1 << 20, Cursors: [32]byte{1}, Validator: v,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})), Now: c.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestValidate(t *testing.T) {
	c := newClinic(t)
	c.Handler = c.holding(t, profile.Off)
	parameters := func(parts ...string) string {
		return `{"resourceType":"Parameters","parameter":[` + strings.Join(parts, ",") + `]}`
	}
	const good = `{"resourceType":"Patient","gender":"male"}`
	resource := func(r string) string { return `{"name":"resource","resource":` + r + `}` }
	code := func(name, v string) string { return `{"name":"` + name + `","valueCode":"` + v + `"}` }
	asked := `{"name":"profile","valueUri":"https://example.org/gendered"}`
	for _, x := range []struct {
		name, method, path, token, body string
		status                          int
		has                             string
	}{
		{"valid", "POST", "/fhir/Patient/$validate", "therapist", good, 200, `"information"`},
		{"invalid for R4", "POST", "/fhir/Patient/$validate", "therapist", `{"resourceType":"Patient","gender":"none","x":1}`, 200, `"Patient.gender"`},
		{"no JSON", "POST", "/fhir/Patient/$validate", "therapist", `{`, 200, `"structure"`},
		{"an invariant", "POST", "/fhir/Patient/$validate", "therapist", `{"resourceType":"Patient","contact":[{"gender":"male"}]}`, 200, `pat-1`},
		{"wrapped", "POST", "/fhir/Patient/$validate", "therapist", parameters(resource(good), code("mode", "create")), 200, `"information"`},
		{"wrapped and invalid", "POST", "/fhir/Patient/$validate", "therapist", parameters(resource(`{"resourceType":"Patient","gender":"none"}`)), 200, `resource.gender`},
		{"a profile", "POST", "/fhir/Patient/$validate", "therapist", parameters(resource(`{"resourceType":"Patient","active":true}`), asked), 200, `required by the profile`},
		{"a profile in the query", "POST", "/fhir/Patient/$validate?profile=https://example.org/gendered", "therapist", `{"resourceType":"Patient","active":true}`, 200, `required by the profile`},
		{"a profile that is met", "POST", "/fhir/Patient/$validate", "therapist", parameters(resource(good), asked, code("mode", "profile")), 200, `"information"`},
		{"an unknown profile", "POST", "/fhir/Patient/$validate", "therapist", parameters(resource(good), `{"name":"profile","valueUri":"https://example.org/none"}`), 200, `"error"`},
		{"an unknown profile that it declares", "POST", "/fhir/Patient/$validate", "therapist", `{"resourceType":"Patient","meta":{"profile":["https://example.org/none"]}}`, 200, `"warning"`},
		{"a reference to what is hidden", "POST", "/fhir/Patient/$validate", "therapist", `{"resourceType":"Patient","link":[{"other":{"reference":"Patient/bert"},"type":"refer"}]}`, 200, `"information"`},
		{"a reference to what is absent", "POST", "/fhir/Patient/$validate", "therapist", `{"resourceType":"Patient","link":[{"other":{"reference":"Patient/none"},"type":"refer"}]}`, 200, `"information"`},
		{"the stored", "GET", "/fhir/Patient/anna/$validate", "therapist", "", 200, `"information"`},
		{"the stored, posted", "POST", "/fhir/Patient/anna/$validate", "therapist", parameters(asked), 200, `required by the profile`},
		{"the stored against a profile", "GET", "/fhir/Patient/anna/$validate?profile=https://example.org/gendered", "therapist", "", 200, `required by the profile`},
		{"a delete", "GET", "/fhir/Patient/anna/$validate?mode=delete", "therapist", "", 200, `"information"`},
		{"a hidden one", "GET", "/fhir/Patient/bert/$validate", "therapist", "", 404, ""},
		{"a hidden one, to delete", "GET", "/fhir/Patient/bert/$validate?mode=delete", "therapist", "", 404, ""},
		{"another id", "POST", "/fhir/Patient/anna/$validate", "therapist", `{"resourceType":"Patient","id":"bert"}`, 200, `not the id in the path`},
		{"a hidden one as the place of a resource", "POST", "/fhir/Patient/bert/$validate", "therapist", `{"resourceType":"Patient","id":"bert"}`, 200, `"information"`},
		{"an absent one as the place of a resource", "POST", "/fhir/Patient/none/$validate", "therapist", `{"resourceType":"Patient","id":"none"}`, 200, `"information"`},
		{"nothing", "POST", "/fhir/Patient/$validate", "therapist", "", 400, ""},
		{"another type", "POST", "/fhir/Patient/$validate", "therapist", `{"resourceType":"Person"}`, 400, ""},
		{"a mode that is none", "POST", "/fhir/Patient/$validate", "therapist", parameters(resource(good), code("mode", "x")), 400, ""},
		{"a delete of a type", "POST", "/fhir/Patient/$validate", "therapist", parameters(code("mode", "delete")), 400, ""},
		{"no profile for the mode", "POST", "/fhir/Patient/$validate", "therapist", parameters(resource(good), code("mode", "profile")), 422, ""},
		{"an unknown parameter", "POST", "/fhir/Patient/$validate", "therapist", parameters(resource(good), code("x", "x")), 400, ""},
		{"Parameters themselves", "POST", "/fhir/Parameters/$validate", "therapist", parameters(code("x", "x")), 200, `"information"`},
		{"nobody", "POST", "/fhir/Patient/$validate", "", good, 401, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			a := c.do(t, call{method: x.method, path: x.path, token: x.token, body: x.body, header: http.Header{"Content-Type": {"application/fhir+json"}}})
			if a.Code != x.status || !strings.Contains(a.Body.String(), x.has) {
				t.Errorf("%d, want %d and %s\n%s", a.Code, x.status, x.has, a.Body)
			}
			if !strings.Contains(a.Body.String(), `"OperationOutcome"`) || strings.Contains(a.Body.String(), "Anna") {
				t.Errorf("%s", a.Body)
			}
		})
	}
	hidden, absent := c.do(t, call{method: "GET", path: "/fhir/Patient/bert/$validate", token: "therapist"}), c.do(t, call{method: "GET", path: "/fhir/Patient/none/$validate", token: "therapist"})
	if hidden.Body.String() != absent.Body.String() {
		t.Errorf("hidden %s\nabsent %s", hidden.Body, absent.Body)
	}
}

func TestValidationOfWrites(t *testing.T) {
	c := newClinic(t)
	const declared = `"meta":{"profile":["https://example.org/gendered"]}`
	const bad = `{"resourceType":"Patient","id":"anna",` + declared + `}`
	const unknown = `{"resourceType":"Patient","id":"anna","meta":{"profile":["https://example.org/none"]},"gender":"male"}`
	const good = `{"resourceType":"Patient","id":"anna",` + declared + `,"gender":"male"}`
	bundle := func(kind, r string) string {
		return `{"resourceType":"Bundle","type":"` + kind + `","entry":[{"resource":` + r + `,"request":{"method":"PUT","url":"Patient/anna"}}]}`
	}
	for _, x := range []struct {
		mode profile.Mode
		body string
		put  int // status of an update
		says string
	}{
		{profile.Off, bad, 200, ""},
		{profile.Off, unknown, 200, ""},
		{profile.Warn, bad, 200, "required by the profile"},
		{profile.Warn, unknown, 200, "not installed"},
		{profile.Warn, good, 200, ""},
		{profile.Enforce, bad, 422, "required by the profile"},
		{profile.Enforce, unknown, 422, "not installed"},
		{profile.Enforce, good, 200, ""},
	} {
		t.Run(x.mode.String(), func(t *testing.T) {
			c.Handler = c.holding(t, x.mode)
			header := http.Header{"Content-Type": {"application/fhir+json"}, "Prefer": {"return=OperationOutcome"}}
			a := c.do(t, call{method: "PUT", path: "/fhir/Patient/anna", token: "front-desk", body: x.body, header: header})
			if a.Code != x.put || !strings.Contains(a.Body.String(), x.says) || x.says == "" && strings.Contains(a.Body.String(), `"warning"`) {
				t.Errorf("update: %d, want %d and %q\n%s", a.Code, x.put, x.says, a.Body)
			}
			if strings.Contains(a.Body.String(), `"error"`) != (x.put >= 400) {
				t.Errorf("update: %d with %s", a.Code, a.Body)
			}
			if a = c.do(t, call{method: "POST", path: "/fhir", token: "front-desk", body: bundle("transaction", x.body), header: header}); a.Code != x.put || !strings.Contains(a.Body.String(), x.says) {
				t.Errorf("transaction: %d, want %d and %q\n%s", a.Code, x.put, x.says, a.Body)
			}
			if a = c.do(t, call{method: "POST", path: "/fhir", token: "front-desk", body: bundle("batch", x.body), header: header}); a.Code != 200 || !strings.Contains(a.Body.String(), x.says) {
				t.Errorf("batch: %d, want %q\n%s", a.Code, x.says, a.Body)
			}
		})
	}
}
