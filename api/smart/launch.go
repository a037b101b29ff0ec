package smart

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// launchRequest is what an EHR posts to /launch, all of it optional.
type launchRequest struct {
	Client    string          `json:"client_id"` // the only app that may use the handle
	Patient   fhir.ID         `json:"patient"`
	Encounter fhir.ID         `json:"encounter"`
	Context   json.RawMessage `json:"fhirContext"`
	Intent    string          `json:"intent"`
	Banner    *bool           `json:"need_patient_banner"`
	StyleURL  string          `json:"smart_style_url"`
}

const (
	maxContext = 32
	maxIntent  = 128
)

// makeLaunch answers POST /launch: the EHR of the host hands over what it shows, and gets a handle for the parameter launch. Its
// user's token needs the scope launch; the handle is for that user, in that practice.
func (s *Server) makeLaunch(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || len(r.Header.Values("Authorization")) != 1 {
		return badToken()
	}
	who, err := s.Authenticator.Authenticate(ctx, token)
	var public *outcome.Error
	if errors.As(err, &public) && public.Status() == http.StatusServiceUnavailable {
		return unavailable(err)
	}
	if err != nil || !slices.Contains(scopesOf(token), scopeLaunch) {
		return badToken()
	}
	q, err := readLaunch(r.Body)
	if err != nil {
		return err
	}
	practice, ok := practiceOf(token)
	if tenant, known := s.Practices.Tenant(practice); !ok || !known || tenant != who.Tenant {
		return badToken()
	}
	body, err := json.Marshal(launch{
		Tenant: who.Tenant, Practice: practice, Subject: who.Subject, User: who.User, Client: q.Client,
		Patient: q.Patient, Encounter: q.Encounter, Context: q.Context, Intent: q.Intent, Banner: q.Banner, StyleURL: q.StyleURL,
	})
	if err != nil {
		return err //nolint:wrapcheck // logged as it is
	}
	text, hash := secret()
	if err := s.Store.PutTicket(ctx, Ticket{KindLaunch, hash, body, s.Now().Add(launchLife)}); err != nil {
		return unavailable(err)
	}
	return answer(w, http.StatusCreated, map[string]any{"launch": text, "iss": s.FHIRBase, "expires_in": int(launchLife.Seconds())})
}

func readLaunch(body io.Reader) (launchRequest, error) {
	var q launchRequest
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil || d.More() {
		return q, badRequest("the body is no JSON object with client_id, patient, encounter, fhirContext, intent, need_patient_banner and smart_style_url alone")
	}
	switch {
	case q.Patient != "" && !q.Patient.Valid() || q.Encounter != "" && !q.Encounter.Valid():
		return q, badRequest("patient and encounter are logical ids")
	case len(q.Intent) > maxIntent || strings.ContainsFunc(q.Intent, func(r rune) bool { return r < ' ' || r > '~' }):
		return q, badRequest("intent is a short code")
	case q.StyleURL != "" && !strings.HasPrefix(q.StyleURL, "https://") || len(q.StyleURL) > maxParameter:
		return q, badRequest("smart_style_url is an https URL")
	}
	if len(q.Context) == 0 || string(q.Context) == "null" {
		q.Context = nil
		return q, nil
	}
	// SMART App Launch 2.2, fhirContext: each names a resource, a canonical or an identifier; patient and encounter are not among them.
	var list []map[string]json.RawMessage
	if json.Unmarshal(q.Context, &list) != nil || len(list) > maxContext {
		return q, badRequest("fhirContext is a list of objects")
	}
	for _, x := range list {
		if x["reference"] == nil && x["canonical"] == nil && x["identifier"] == nil {
			return q, badRequest("each fhirContext has a reference, a canonical or an identifier")
		}
		var ref string
		if x["reference"] != nil && (json.Unmarshal(x["reference"], &ref) != nil || !relative(ref)) {
			return q, badRequest("a reference of fhirContext is relative, such as ImagingStudy/123")
		}
	}
	return q, nil
}

func relative(text string) bool {
	_, ok := fhir.ParseRef(text)
	return ok
}

// claimsIn reads claims of a token that was verified before.
func claimsIn(token string, into any) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	return err == nil && json.Unmarshal(payload, into) == nil
}

func scopesOf(token string) []string {
	var c struct {
		Scope string `json:"scope"`
	}
	if !claimsIn(token, &c) {
		return nil
	}
	return strings.Split(c.Scope, " ")
}

func practiceOf(token string) (string, bool) {
	var c struct {
		Practice string `json:"practice"`
	}
	return c.Practice, claimsIn(token, &c) && c.Practice != ""
}
