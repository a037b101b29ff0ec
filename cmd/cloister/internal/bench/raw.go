package bench

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"

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

const mediaType = "application/fhir+json"

// rawHandler is the ceiling. codes are the index values of the codes that are searched.
func (b *bench) rawHandler(codes map[string]int64) http.Handler {
	e := echo.New()
	e.GET("/fhir/:type/:id", func(c echo.Context) error {
		var body []byte
		t := fhir.ResourceType(c.Param("type")).Code()
		if err := b.sql.QueryRow(c.Request().Context(), rawReadSQL, b.tenant, t, c.Param("id")).Scan(&body); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		return c.Blob(http.StatusOK, mediaType, body)
	})
	e.GET("/fhir/:type", func(c echo.Context) error {
		t := fhir.ResourceType(c.Param("type")).Code()
		rows, err := b.sql.Query(c.Request().Context(), rawSearchSQL, b.tenant, t, c.QueryParam("patient"), codes[c.QueryParam("code")])
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		defer rows.Close()
		out := append(make([]byte, 0, 16<<10), `{"resourceType":"Bundle","type":"searchset","entry":[`...)
		for n := 0; rows.Next(); n++ {
			if n > 0 {
				out = append(out, ',')
			}
			out = append(append(append(out, `{"resource":`...), rows.RawValues()[0]...), '}') // pgx asks for jsonb as text
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		return c.Blob(http.StatusOK, mediaType, append(out, `]}`...))
	})
	return e
}

// codeIndex is what the token index holds for a code of Observation.
func (b *bench) codeIndex(text string) (int64, error) {
	const t = fhir.ResourceType("Observation")
	q, _, err := search.Parse(t, url.Values{"code": {text}}, search.Options{})
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	where := q.Legs[0].Where
	if len(where) != 1 || len(where[0].Any) != 1 {
		return 0, errors.New("bench: a code is not one value")
	}
	return postgres.TokenIndex(b.tenant, t, where[0].Any[0].Hash), nil
}
