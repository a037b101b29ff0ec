package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir"
)

// family is one kind of request, as a client sends it. The server may not
// know some of it: then the report says that it is not supported.
type family struct {
	name string
	path string // {1}, {2} ... stand for the columns of sample, escaped for a query
	// sample picks values from the loaded data. $1 is the practice and $2 the
	// member whose patients count ("" for all), see mine.
	sample string
	page   bool // the SQL of the answer is measured by hand, too
}

// mine limits a selection to the patients of a caller who sees only hers.
const mine = ` AND ($2 = '' OR r.patient IN (SELECT rel.patient FROM record.relation rel WHERE rel.tenant = r.tenant AND rel.member = $2 AND rel.kind = 1))`

const (
	readFamily   = "read by id"
	searchFamily = "search by patient and code"
	wideFamily   = "page of 100 of a patient"

	// What half of a frequent code exceeds grows with the data: a page is the newest of it.
	halfQuantity  = "quantity, half of a code"
	halfComposite = "composite, half of a code"
)

// some is a selection of current resources of one type, the same one in each run.
func some(t, columns, where string) string {
	return "SELECT " + columns + " FROM record.resource r WHERE r.tenant = $1 AND r.type = {" + t + "} AND NOT r.deleted AND " + where + mine
}

// pairs are patients and codes of which they have several.
const pairs = `SELECT r.patient, c->>'system' || '|' || (c->>'code') FROM record.resource r, jsonb_array_elements(r.body->'code'->'coding') c
WHERE r.tenant = $1 AND r.type = {Observation} AND NOT r.deleted AND r.patient IN (SELECT r.patient FROM record.resource r WHERE r.tenant = $1 AND r.type = {Observation}` + mine + ` ORDER BY r.pk LIMIT 30000)
AND c->>'code' IS NOT NULL AND c->>'system' IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1`

// frequent are the codes of Observations with a value, those of which there is
// more than a page, with their median: of a bounded number of rows, so that a
// large data set does not take longer to sample.
const frequent = `SELECT code, v FROM (SELECT c->>'system' || '|' || (c->>'code') AS code, percentile_cont(0.5) WITHIN GROUP (ORDER BY (body#>>'{valueQuantity,value}')::float8)::numeric(12, 2)::text AS v, count(*) AS n
FROM (SELECT r.body FROM record.resource r WHERE r.tenant = $1 AND r.type = {Observation} AND NOT r.deleted AND r.body ? 'valueQuantity'` + mine + ` ORDER BY r.pk LIMIT 60000) AS o, jsonb_array_elements(body->'code'->'coding') c GROUP BY 1) AS f
WHERE n > 60 ORDER BY n DESC, code LIMIT 40`

// matched is how many resources the rare values below are exceeded by, on any data set.
const matched = "60"

// exceeding are codes with a value that so many Observations exceed.
const exceeding = `SELECT code, v FROM (SELECT c->>'system' || '|' || (c->>'code') AS code, r.body#>>'{valueQuantity,value}' AS v,
  row_number() OVER (PARTITION BY c->>'system', c->>'code' ORDER BY (r.body#>>'{valueQuantity,value}')::float8 DESC) AS n
FROM record.resource r, jsonb_array_elements(r.body->'code'->'coding') c WHERE r.tenant = $1 AND r.type = {Observation} AND NOT r.deleted AND r.body ? 'valueQuantity'` + mine + `) AS x WHERE n = ` + matched + ` AND v IS NOT NULL`

// exceedingUnits tells units apart as the index does, for which mg/g and {score} are one.
const exceedingUnits = `SELECT v, unit FROM (SELECT r.body#>>'{valueQuantity,value}' AS v, (r.body#>>'{valueQuantity,system}') || '|' || (r.body#>>'{valueQuantity,code}') AS unit,
  row_number() OVER (PARTITION BY i.unit ORDER BY i.unit_lo DESC) AS n
FROM record.resource_quantity i JOIN record.resource r ON r.pk = i.pk WHERE i.tenant = $1 AND i.type = {Observation} AND i.param = 'value-quantity' AND NOT r.deleted` + mine + `) AS x WHERE n = ` + matched + ` AND unit IS NOT NULL`

// families are the searches of R4 that a client asks for most. Each finds a page
// or what belongs to one patient, so that its answer has the same size on a
// larger data set, but for those of which ten times as many match.
var families = []family{
	{searchFamily, "Observation?patient={1}&code={2}&_count=20", pairs, true},
	{"string", "Patient?family={1}&_count=20", some("Patient", "r.body#>>'{name,0,family}'", "r.body#>>'{name,0,family}' IS NOT NULL"), true},
	{"token", "Observation?code={1}&_count=20", frequent, true},
	{"token of a patient", "Condition?patient={1}&clinical-status=active&_count=20", some("Condition", "DISTINCT r.patient", "r.patient IS NOT NULL"), true},
	{"date", "Observation?patient={1}&date={2}&_count=20", some("Observation", "r.patient, left(r.body->>'effectiveDateTime', 10)", "r.patient IS NOT NULL AND r.body ? 'effectiveDateTime'"), true},
	{"date range", "Encounter?date=ge{1}&date=lt{2}&_count=20", some("Encounter", "DISTINCT left(r.body#>>'{period,start}', 4) || '-01-01', left(r.body#>>'{period,start}', 4) || '-12-31'", "r.body#>>'{period,start}' IS NOT NULL"), true},
	{"quantity", "Observation?value-quantity=gt{1}|{2}&_count=20", exceedingUnits, true},
	{halfQuantity, "Observation?code={1}&value-quantity=gt{2}&_count=20", frequent, true},
	{"reference", "Observation?encounter={1}&_count=20", some("Observation", "DISTINCT r.body#>>'{encounter,reference}'", "r.body#>>'{encounter,reference}' IS NOT NULL"), true},
	{"chain", "Observation?patient.identifier={1}&_count=20", some("Patient", "(r.body#>>'{identifier,0,system}') || '|' || (r.body#>>'{identifier,0,value}')", "r.body#>>'{identifier,0,system}' IS NOT NULL AND r.body#>>'{identifier,0,value}' IS NOT NULL"), true},
	{"_has", "Patient?_has:Condition:patient:code={1}&_count=20", `SELECT code FROM (SELECT c->>'system' || '|' || (c->>'code') AS code, count(*) AS n FROM (` +
		some("Condition", "r.body", "true") + ` ORDER BY r.pk LIMIT 20000) AS o, jsonb_array_elements(body->'code'->'coding') c GROUP BY 1) AS f WHERE n > 20 ORDER BY n DESC LIMIT 40`, true},
	{"_include", "Observation?patient={1}&_include=Observation:encounter&_count=20", some("Patient", "r.id", "true"), false},
	{"_revinclude", "Encounter?_id={1}&_revinclude=Observation:encounter", some("Encounter", "r.id", "true"), false},
	{"sort, selective", "Observation?patient={1}&_sort=-date&_count=20", some("Patient", "r.id", "true"), true},
	{"sort, a code", "Observation?code={1}&_sort=-date&_count=20", frequent, true},
	{"sort, everything", "Observation?status=final&_sort=-date&_count=20", "SELECT '' WHERE $1::integer > 0 AND $2::text IS NOT NULL", true},
	{"count", "Observation?patient={1}&_summary=count", some("Patient", "r.id", "true"), true},
	{"composite", "Observation?code-value-quantity={1}$gt{2}&_count=20", exceeding, true},
	{halfComposite, "Observation?code-value-quantity={1}$gt{2}&_count=20", frequent, true},
	{wideFamily, "Observation?patient={1}&_count=100", some("Patient", "r.id", "true"), true},
	{"history", "Patient/{1}/_history", some("Patient", "r.id", "true"), false},
	{"$everything", "Patient/{1}/$everything?_count=100", some("Patient", "r.id", "true"), false},
}

const (
	maxReads = 3000 // resources that are read in turns
	maxAsked = 300  // requests of a family that are sent in turns
	leastRaw = 5    // requests with the same answer on both sides, below which nothing is compared
)

// workload is a family's requests, in the same order for all sides.
type workload struct {
	family
	cloister []string // paths
	raw      []string // paths of the raw side; none: it cannot be asked for the same
	status   int      // where the server does not support it: what it answered; else 0
	entries  float64  // mean number of entries of an answer
}

var typeName = regexp.MustCompile(`\{[A-Z][A-Za-z]+\}`)

// paths samples the data set for a family.
func (b *bench) paths(ctx context.Context, f family, member string) ([]string, error) {
	sql := typeName.ReplaceAllStringFunc(f.sample, func(name string) string {
		return strconv.Itoa(int(fhir.ResourceType(name[1 : len(name)-1]).Code()))
	})
	rows, err := b.sql.Query(ctx, "SELECT * FROM ("+sql+") AS s ORDER BY md5(s::text) LIMIT "+strconv.Itoa(maxAsked), b.tenant, member)
	if err != nil {
		return nil, fmt.Errorf("bench: %s: %w", f.name, err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return nil, fmt.Errorf("bench: %s: %w", f.name, err)
		}
		path := "/fhir/" + f.path
		for i, v := range values {
			text, _ := v.(string)
			path = strings.ReplaceAll(path, "{"+strconv.Itoa(i+1)+"}", url.QueryEscape(text))
		}
		out = append(out, path)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("bench: %s: %w", f.name, err)
	}
	return out, nil
}

// supported asks the first request of a family: a search must come back with
// every parameter in its self link, because an unknown one may be ignored.
func supported(c *client, request []byte, path string) (status int, ok bool, err error) {
	if status, err = c.do(request); err != nil || status != http.StatusOK {
		return status, false, err
	}
	_, query, found := strings.Cut(path, "?")
	if !found || strings.Contains(path, "$") && !strings.Contains(path, "Observation?") {
		return status, true, nil
	}
	var doc struct {
		Link []struct{ Relation, URL string }
	}
	if err := json.Unmarshal(c.body.Bytes(), &doc); err != nil {
		return status, false, fmt.Errorf("bench: %s: %w", path, err)
	}
	asked, err := url.ParseQuery(query)
	if err != nil {
		return status, false, fmt.Errorf("bench: %w", err)
	}
	for _, l := range doc.Link {
		if l.Relation != "self" {
			continue
		}
		self, err := url.Parse(l.URL)
		if err != nil {
			return status, false, fmt.Errorf("bench: %w", err)
		}
		asked.Del("_count") // the default may be left out
		for name := range asked {
			if !self.Query().Has(name) {
				return status, false, nil
			}
		}
		return status, true, nil
	}
	return status, false, nil
}
