// Package demo serves a small SMART app, which shows how the PHQ-9 of a patient developed, and what of her record
// its user does not see.
//
// It is for cloister dev alone. Its pages are files without anything of the server in them: what they show comes
// over SMART App Launch and the FHIR API, as for any app.
package demo

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
)

//go:embed static
var files embed.FS

// Client is the client_id of the app at its usual address.
const Client = "phq9-trend"

// Scopes are what the app asks for at most.
func Scopes() []string {
	return []string{
		"openid", "fhirUser", "launch", "launch/patient", "offline_access",
		"patient/Patient.rs", "patient/Observation.rs", "patient/Condition.rs", "patient/DocumentReference.rs",
	}
}

// Patient is one whose record the page of comparison shows, as several people see it.
type Patient struct {
	ID    string   `json:"id"`
	Name  string   `json:"name"`
	About string   `json:"about"`
	As    []Viewer `json:"as"`
}

// Viewer is somebody as whom the page of comparison reads.
type Viewer struct {
	Persona string `json:"persona"` // name at the issuer of cloister dev
	About   string `json:"about"`
}

// Config says where everything is.
type Config struct {
	FHIR     string // base URL of the API
	Issuer   string // of the tokens of personas, by which the page of comparison reads
	Client   string // client_id
	Patients []Patient
}

// Handler serves the app.
func Handler(c Config) (http.Handler, error) {
	static, err := fs.Sub(files, "static")
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	settings, err := json.Marshal(map[string]any{"fhir": c.FHIR, "issuer": c.Issuer, "client": c.Client, "scopes": Scopes(), "patients": c.Patients})
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	policy := "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' " + origin(c.FHIR) + " " + origin(c.Issuer) +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	pages := http.FileServerFS(static)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A web page whose name was made to resolve to 127.0.0.1 comes with that name as Host.
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "this app answers to its own machine only", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		if r.URL.Path == "/config.json" {
			h.Set("Content-Type", "application/json")
			_, _ = w.Write(settings) // a client that went away is not our fault
			return
		}
		pages.ServeHTTP(w, r)
	}), nil
}

// origin is scheme and host of a URL that was checked before.
func origin(url string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	host, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + host
}
