package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/search"
)

// What somebody would write by hand who asks nobody: one statement, no
// identity, no policy, no audit. It reads the same tables by the same indexes.
const (
	rawReadSQL   = `SELECT body FROM record.resource WHERE tenant = $1 AND type = $2 AND id = $3 AND shadow = 0`
	rawSearchSQL = `SELECT body FROM record.resource WHERE tenant = $1 AND type = $2 AND patient = $3 AND tokens @> ARRAY[$4::bigint] AND NOT deleted
ORDER BY updated DESC, id DESC LIMIT 20`
)

// rawHandler is the ceiling. codes are the index values of the codes that are searched.
func (b *bench) rawHandler(codes map[string]int64) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /fhir/{type}/{id}", func(w http.ResponseWriter, r *http.Request) {
		var body []byte
		t := fhir.ResourceType(r.PathValue("type")).Code()
		err := b.sql.QueryRow(r.Context(), rawReadSQL, b.tenant, t, r.PathValue("id")).Scan(&body)
		blob(w, body, err)
	})
	mux.HandleFunc("GET /fhir/{type}", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		body, err := b.rawSearch(r.Context(), fhir.ResourceType(r.PathValue("type")).Code(), q.Get("patient"), codes[q.Get("code")])
		blob(w, body, err)
	})
	return mux
}

func (b *bench) rawSearch(ctx context.Context, t int16, patient string, code int64) ([]byte, error) {
	rows, err := b.sql.Query(ctx, rawSearchSQL, b.tenant, t, patient, code)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer rows.Close()
	out := append(make([]byte, 0, 16<<10), `{"resourceType":"Bundle","type":"searchset","entry":[`...)
	for n := 0; rows.Next(); n++ {
		if n > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, `{"resource":`...), rows.RawValues()[0]...), '}') // pgx asks for jsonb as text
	}
	return append(out, `]}`...), rows.Err()
}

func blob(w http.ResponseWriter, body []byte, err error) {
	if err != nil {
		http.Error(w, "the raw side failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/fhir+json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// codeIndex is what the token index holds for a code of Observation.
func (b *bench) codeIndex(text string) (int64, error) {
	const t = fhir.ResourceType("Observation")
	q, _, err := search.Parse(t, url.Values{"code": {text}}, search.Options{})
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	if len(q.Where) != 1 || len(q.Where[0].Any) != 1 {
		return 0, errors.New("bench: a code is not one value")
	}
	return postgres.TokenIndex(b.tenant, t, q.Where[0].Any[0].Hash), nil
}
