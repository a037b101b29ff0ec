package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/demo"
	"github.com/cloister-health/cloister/cmd/cloister/internal/issuer"
	"github.com/cloister-health/cloister/cmd/cloister/internal/signin"
)

// compared are the patients of the page of comparison, and as whom it reads.
func compared(people []clinic.Persona) []demo.Patient {
	of := func(persona string) string {
		i := slices.IndexFunc(people, func(p clinic.Persona) bool { return p.Name == persona })
		if i < 0 {
			return ""
		}
		return people[i].Claims.Patient
	}
	return []demo.Patient{
		{ID: of("patient"), Name: "Nora Bergstrom", About: "A patient of the general program. Her therapist keeps psychotherapy notes.", As: []demo.Viewer{
			{Persona: "therapist", About: "Treats her, and wrote the psychotherapy notes."},
			{Persona: "psychiatrist", About: "Prescribes for her. The notes are their author’s alone."},
			{Persona: "colleague", About: "A therapist of the same program, who does not treat her."},
			{Persona: "patient", About: "Herself. There is no right of access to psychotherapy notes."},
			{Persona: "hie", About: "An exchange: what the general program shares for treatment."},
		}},
		{ID: of("sud-patient"), Name: "Colin Whitaker", About: "A patient of the SUD program (42 CFR Part 2). His consent names the exchange, and nobody else outside.", As: []demo.Viewer{
			{Persona: "sud-counselor", About: "Works in the program."},
			{Persona: "therapist", About: "Works outside of the program: not even that he is a patient is hers to know."},
			{Persona: "sud-patient", About: "Himself."},
			{Persona: "hie", About: "The exchange, by his consent."},
		}},
	}
}

// shownPatients are those whom an EHR would show when it launches the app.
func shownPatients(people []clinic.Persona) []issuer.Patient {
	var out []issuer.Patient
	for _, p := range compared(people) {
		out = append(out, issuer.Patient{ID: p.ID, Name: p.Name})
	}
	return out
}

// demoClient is the client_id of the demo app. A registration stays in the database, and so each address has its own.
func demoClient(l net.Listener) string {
	const usual = 8082
	if a, ok := l.Addr().(*net.TCPAddr); ok && a.Port != usual {
		return fmt.Sprintf("%s-%d", demo.Client, a.Port)
	}
	return demo.Client
}

// register makes the demo app known, and lets both practices use it. An app of that name from an earlier start is the same.
func register(ctx context.Context, s *signin.SignIn, tenant func(string) (int32, bool), client, origin string, more []string) error {
	a := app.App{
		ID: client, Name: "PHQ-9 trend", Publisher: "Cloister", Auth: app.None, Redirects: []string{origin + "/"}, Loopback: true,
		Origins: slices.Concat([]string{origin}, more), Grants: []string{app.Code, app.Refresh}, Scopes: demo.Scopes(),
		Purposes: []string{"TREAT", "PATRQT"}, Registered: time.Now().UTC(),
	}
	if err := a.Validate(); err != nil {
		return fmt.Errorf("the demo app: %w", err)
	}
	if err := s.Store.Register(ctx, a); err != nil && !errors.Is(err, smart.ErrTaken) {
		return fmt.Errorf("the demo app: %w", err)
	}
	for _, p := range clinic.Practices() {
		id, ok := tenant(p.Slug)
		if !ok {
			continue
		}
		if err := s.Store.ApproveApp(ctx, client, app.Approval{Tenant: id, Practice: p.Slug, By: "cloister dev", At: time.Now().UTC()}); err != nil {
			return fmt.Errorf("the demo app: %w", err)
		}
	}
	return nil
}

// launcher is what an EHR does: it hands over which patient it shows, and opens the app with the handle that it gets.
func launcher(iss *issuer.Issuer, people []clinic.Persona, base, authorization, client, demoURL string) func(ctx context.Context, persona, patient string) (string, error) {
	return func(ctx context.Context, persona, patient string) (string, error) {
		i := slices.IndexFunc(people, func(p clinic.Persona) bool { return p.Name == persona })
		if i < 0 {
			return "", errors.New("there is no such persona")
		}
		c := claims(people[i].Claims)
		c.Scope = "launch " + c.Scope
		token, err := iss.Mint(c, time.Minute)
		if err != nil {
			return "", err //nolint:wrapcheck // says where it is from
		}
		body, err := json.Marshal(map[string]any{"client_id": client, "patient": patient, "need_patient_banner": true})
		if err != nil {
			return "", err //nolint:wrapcheck // plain strings
		}
		rq, err := http.NewRequestWithContext(ctx, http.MethodPost, authorization+"/launch", bytes.NewReader(body))
		if err != nil {
			return "", err //nolint:wrapcheck // our own URL
		}
		rq.Header.Set("Authorization", "Bearer "+token)
		rq.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(rq)
		if err != nil {
			return "", err //nolint:wrapcheck // says what it did
		}
		defer func() { _ = res.Body.Close() }()
		var got struct{ Launch string }
		if err := json.NewDecoder(res.Body).Decode(&got); err != nil || res.StatusCode != http.StatusCreated {
			return "", fmt.Errorf("the launch was answered with %d", res.StatusCode)
		}
		return demoURL + "/launch.html?" + url.Values{"iss": {base}, "launch": {got.Launch}}.Encode(), nil
	}
}
