package account

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// patient is one of the picker: what tells namesakes apart, and no more.
type patient struct {
	ID    fhir.ID
	Name  string
	Birth string // as people write it, "3 May 1988"; "" if unknown
}

// shown is how many patients one search of the picker shows.
const shown = 20

// patients asks the FHIR API in this process, as a client of the user's own: what the answer holds, and that it
// was given, is decided and recorded as for any other client.
func (p *Pages) patients(ctx context.Context, a smart.Approval, query url.Values) ([]patient, bool, error) {
	query.Set("_elements", "name,birthDate")
	query.Set("_count", fmt.Sprint(shown))
	body, status, err := p.ask(ctx, a, "/fhir/Patient?"+query.Encode())
	if err != nil {
		return nil, false, err
	}
	if status != http.StatusOK {
		return nil, false, odd("the search for patients", status)
	}
	var bundle struct {
		Link []struct {
			Relation string `json:"relation"`
		} `json:"link"`
		Entry []struct {
			Resource person `json:"resource"`
		} `json:"entry"`
	}
	if err := json.Unmarshal(body, &bundle); err != nil {
		return nil, false, errors.New("account: the search for patients was answered with something else than a Bundle")
	}
	var out []patient
	for _, e := range bundle.Entry {
		if e.Resource.Type == "Patient" {
			out = append(out, e.Resource.patient())
		}
	}
	more := false
	for _, l := range bundle.Link {
		more = more || l.Relation == "next"
	}
	return out, more, nil
}

// patient reads one. It is there for the user, or it is not: why not, nobody is told.
func (p *Pages) patient(ctx context.Context, a smart.Approval, id fhir.ID) (patient, bool, error) {
	if !id.Valid() {
		return patient{}, false, nil
	}
	body, status, err := p.ask(ctx, a, "/fhir/Patient/"+string(id)+"?_elements=name,birthDate")
	switch {
	case err != nil:
		return patient{}, false, err
	case status == http.StatusNotFound || status == http.StatusGone || status == http.StatusForbidden:
		return patient{}, false, nil
	case status != http.StatusOK:
		return patient{}, false, odd("the read of a patient", status)
	}
	var x person
	if err := json.Unmarshal(body, &x); err != nil || x.Type != "Patient" {
		return patient{}, false, errors.New("account: the read of a patient was answered with something else")
	}
	return x.patient(), true, nil
}

// odd is an answer of the API that the pages did not expect. A user can only try again.
func odd(what string, status int) error {
	return outcome.New(outcome.Unavailable, "this does not work at the moment: try again later").Because(fmt.Errorf("account: %s was answered with %d", what, status))
}

func (p *Pages) ask(ctx context.Context, a smart.Approval, target string) ([]byte, int, error) {
	token, err := p.Server.UserToken(ctx, a)
	if err != nil {
		return nil, 0, err
	}
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, p.origin+target, http.NoBody) //nolint:gosec // it goes to a handler in this process, and nowhere
	if err != nil {
		return nil, 0, fmt.Errorf("account: %w", err)
	}
	rq.RequestURI = target
	rq.RemoteAddr = "127.0.0.1:0"
	rq.Header.Set("Authorization", "Bearer "+token)
	rq.Header.Set("Accept", "application/fhir+json")
	answer := &recorder{header: http.Header{}}
	p.FHIR.ServeHTTP(answer, rq)
	if answer.status == 0 {
		answer.status = http.StatusOK
	}
	return answer.body.Bytes(), answer.status, nil
}

// recorder takes the answer of a handler in this process.
type recorder struct {
	header http.Header
	body   bytes.Buffer
	status int
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

// person is the part of a Patient that the picker shows.
type person struct {
	Type string  `json:"resourceType"`
	ID   fhir.ID `json:"id"`
	Name []struct {
		Use    string   `json:"use"`
		Text   string   `json:"text"`
		Family string   `json:"family"`
		Given  []string `json:"given"`
	} `json:"name"`
	Birth string `json:"birthDate"`
}

func (x person) patient() patient {
	out := patient{ID: x.ID, Name: "Patient without a name", Birth: birthday(x.Birth)}
	for _, n := range x.Name {
		name := strings.TrimSpace(strings.Join(n.Given, " ") + " " + n.Family)
		if name == "" {
			name = n.Text
		}
		if name != "" && n.Use != "old" && n.Use != "nickname" {
			out.Name = name
			break
		}
	}
	return out
}

func birthday(s string) string {
	for layout, as := range map[string]string{"2006-01-02": "2 January 2006", "2006-01": "January 2006", "2006": "2006"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.Format(as)
		}
	}
	return ""
}
