package postgres

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/search"
)

// order is the order of a search's matches: its sort keys, then type and
// logical id, which go the way of the first key, so that an index that holds it
// together with the id gives the order by itself.
type order struct {
	keys []search.Sort
}

var newestFirst = []search.Sort{{Param: "_lastUpdated", Type: search.Date, Descending: true}}

func orderOf(q search.Query) order {
	if len(q.Sort) == 0 {
		return order{newestFirst}
	}
	return order{q.Sort}
}

// keyColumn says that a key is a column of the resource of type t, or "".
func keyColumn(t fhir.ResourceType, s search.Sort) string {
	switch s.Param {
	case "_lastUpdated":
		return "updated"
	case "_id":
		return "id"
	default:
		if at, ok := search.ClinicalDate(t); ok && at == s.Param {
			return "at_lo"
		}
		return ""
	}
}

// nullable says that a resource can be without the key.
func nullable(s search.Sort) bool { return s.Param != "_lastUpdated" && s.Param != "_id" }

// keyType is the SQL type of a key.
func keyType(s search.Sort) string {
	switch s.Type {
	case search.Date:
		return "timestamptz"
	case search.Number, search.Quantity:
		return "double precision"
	default:
		return "text"
	}
}

// keys are the expressions of the keys for a resource of type t in alias: the
// least value, or the greatest one if the order descends.
func (k *compiler) keys(alias, schema string, t fhir.ResourceType, by order) []string {
	out := make([]string, len(by.keys))
	for i, s := range by.keys {
		out[i] = k.key(alias, schema, t, s)
	}
	return out
}

func (k *compiler) key(alias, schema string, t fhir.ResourceType, s search.Sort) string {
	if c := keyColumn(t, s); c != "" {
		return alias + "." + c
	}
	least := "min"
	if s.Descending {
		least = "max"
	}
	name := s.Param
	if s.Own != nil && s.Own.Key != "" {
		name = s.Own.Key
	}
	of := map[search.ParamType]string{search.Date: "lo", search.String: "text", search.Number: "unit_lo", search.Quantity: "unit_lo"}[s.Type]
	if of != "" {
		return "(SELECT " + least + "(i." + of + ") " + k.indexed(schema, indexTable(s.Type, 0), t, name) + " AND i.pk = " + alias + ".pk)"
	}
	var all, paths []string
	if s.Own != nil {
		paths = s.Own.SortPaths()
	} else if p, ok := search.Lookup(t, s.Param); ok {
		paths = p.SortPaths()
	}
	for _, path := range paths {
		all = append(all, "SELECT jsonb_path_query("+alias+".body, "+k.path(path)+", '{}', true) #>> '{}'")
	}
	if len(all) == 0 {
		return "NULL::text"
	}
	return "(SELECT " + least + `(j.v COLLATE "C") FROM (` + strings.Join(all, " UNION ALL ") + ") AS j(v))"
}

// place is where a page starts: among the keys of the rows, after or before a cursor.
type place struct {
	by        order
	at        *search.Cursor // nil: the beginning
	values    []any          // of at; nil for null
	reverse   bool           // rows come in the opposite order
	inclusive bool           // the place itself belongs to the page
	rows      bool           // rows that bear one id are in order, too
}

var errCursor = outcome.New(outcome.Invalid, "this page link is not valid here: start the search again").Because(errors.New("postgres: a cursor of another order"))

func placeOf(q search.Query) (place, error) {
	p := place{by: orderOf(q), at: q.After}
	if p.at == nil {
		return p, nil
	}
	p.reverse, p.rows = p.at.Backward, p.at.Row != 0
	if len(p.at.Keys) != len(p.by.keys) || !p.at.Type.Valid() {
		return p, errCursor
	}
	p.values = make([]any, len(p.at.Keys))
	for i, key := range p.at.Keys {
		if key.Null {
			if !nullable(p.by.keys[i]) {
				return p, errCursor
			}
			continue
		}
		v, err := readKey(p.by.keys[i], key.Text)
		if err != nil {
			return p, errCursor
		}
		p.values[i] = v
	}
	return p, nil
}

func readKey(s search.Sort, text string) (any, error) {
	switch keyType(s) {
	case "timestamptz":
		return time.Parse(time.RFC3339Nano, text)
	case "double precision":
		return strconv.ParseFloat(text, 64)
	default:
		return text, nil
	}
}

func writeKey(v any) search.Key {
	switch v := v.(type) {
	case *time.Time:
		if v != nil {
			return search.Key{Text: v.UTC().Format(time.RFC3339Nano)}
		}
	case *float64:
		if v != nil {
			return search.Key{Text: strconv.FormatFloat(*v, 'g', -1, 64)}
		}
	case *string:
		if v != nil {
			return search.Key{Text: *v}
		}
	}
	return search.Key{Null: true}
}

// descends says which way key i goes in the statement.
func (p place) descends(i int) bool { return p.by.keys[i].Descending != p.reverse }

// tie says which way type and id go in the statement.
func (p place) tie() bool { return p.descends(0) }

// clause is ORDER BY over expressions of the keys, type and id, and where that
// matters of the row beside the id. Keys before
// from are the same in all rows.
func (p place) clause(keys []string, typ, id string, from int) string {
	var terms []string
	for i := from; i < len(keys); i++ {
		s := keys[i]
		if p.descends(i) {
			s += " DESC"
		}
		// Resources without a value come last, and so first in reverse.
		if last := !p.reverse; nullable(p.by.keys[i]) && last == p.descends(i) {
			s += map[bool]string{true: " NULLS LAST", false: " NULLS FIRST"}[last]
		}
		terms = append(terms, s)
	}
	row := ""
	if p.rows {
		row = strings.TrimSuffix(id, "id") + "pk"
	}
	for _, s := range []string{typ, id, row} {
		if s == "" {
			continue
		}
		if p.tie() {
			s += " DESC"
		}
		terms = append(terms, s)
	}
	return " ORDER BY " + strings.Join(terms, ", ")
}

// beyond is the condition that a row of type t comes after the place. Keys
// before from are known to be those of the place; present says that the first
// key is never null here.
func (k *compiler) beyond(p place, t fhir.ResourceType, keys []string, id string, from int, present bool) string {
	at := func(i int) string {
		return k.q.named("place "+strconv.Itoa(i), func() any { return p.values[i] }) + "::" + keyType(p.by.keys[i])
	}
	further := map[bool]string{false: " > ", true: " < "}
	mine, its := t.Code(), p.at.Type.Code()
	// The rows that have all keys of the place: by type and id.
	op, self, last, tied := "", id, "", true
	switch {
	case mine == its:
		if op = further[p.tie()]; p.inclusive {
			op = strings.TrimSuffix(op, " ") + "= "
		}
		if last = k.q.named("place id", func() any { return string(p.at.ID) }); p.at.Row != 0 {
			self += ", " + strings.TrimSuffix(id, "id") + "pk"
			last += ", " + k.q.named("place row", func() any { return p.at.Row })
		}
	case (mine < its) != p.tie():
		tied = false
	}
	// An index takes one comparison of rows, or of the first key.
	bound := ""
	if from == 0 && present {
		switch first := further[p.descends(0)]; {
		case last != "" && len(keys) == 1:
			return " AND (" + keys[0] + ", " + self + ")" + op + "(" + at(0) + ", " + last + ")"
		case len(keys) == 1 && !tied:
			return " AND " + keys[0] + first + at(0)
		default:
			bound = " AND " + keys[0] + strings.TrimSuffix(first, " ") + "= " + at(0)
			if len(keys) == 1 {
				return bound
			}
		}
	}
	var ways []string
	same := ""
	for i := from; i < len(keys); i++ {
		equal, beyond := keys[i]+" IS NULL", ""
		switch null := nullable(p.by.keys[i]) && (i > 0 || !present); {
		case p.values[i] != nil:
			equal, beyond = keys[i]+" = "+at(i), keys[i]+further[p.descends(i)]+at(i)
			if null && !p.reverse {
				beyond = "(" + beyond + " OR " + keys[i] + " IS NULL)"
			}
		case p.reverse:
			beyond = keys[i] + " IS NOT NULL"
		}
		if beyond != "" {
			ways = append(ways, same+beyond)
		}
		same += equal + " AND "
	}
	switch {
	case last != "":
		ways = append(ways, same+"("+self+")"+op+"("+last+")")
	case tied:
		ways = append(ways, same+"true")
	}
	if len(ways) == 0 {
		return " AND false"
	}
	return bound + " AND (" + strings.Join(ways, " OR ") + ")"
}
