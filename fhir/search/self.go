package search

import (
	"net/url"
	"strconv"
	"strings"
)

// Shown is the name of a parameter as an error may repeat it: quoted if it
// looks like one, else a phrase, because what stands there may be anything.
func Shown(name string) string {
	if len(name) == 0 || len(name) > 80 {
		return "with that name"
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case i > 0 && (c >= '0' && c <= '9' || c == '-' || c == ':' || c == '.'):
		default:
			return "with that name"
		}
	}
	return strconv.Quote(name)
}

// Self gives the parameters of q in one canonical form: those that the search
// has followed, for the self link of its Bundle (R4 search, 3.1.1.5.1). What
// has read q reads q again from it: [Parse], [ParseSystem] or
// [ParseCompartment], with the same Options.
func (q Query) Self() url.Values {
	v := url.Values{}
	if len(q.Asked) > 0 {
		names := make([]string, len(q.Asked))
		for i, t := range q.Asked {
			names[i] = string(t)
		}
		v.Set("_type", strings.Join(names, ","))
	}
	if len(q.Legs) > 0 {
		for _, c := range q.Legs[0].Where {
			if c.Name != "" {
				v.Add(c.Name, c.Literal)
			}
		}
	}
	for _, i := range q.Includes {
		v.Add(i.Name, i.Literal)
	}
	if len(q.Sort) > 0 {
		keys := make([]string, len(q.Sort))
		for i, s := range q.Sort {
			keys[i] = s.Param
			if s.Descending {
				keys[i] = "-" + s.Param
			}
		}
		v.Set("_sort", strings.Join(keys, ","))
	}
	switch {
	case q.Count == 0:
		v.Set("_summary", "count")
	case q.Count != DefaultCount:
		v.Set("_count", strconv.Itoa(q.Count))
	}
	switch {
	case q.Total == Estimate:
		v.Set("_total", "estimate")
	case q.Total == Accurate && q.Count > 0:
		v.Set("_total", "accurate")
	}
	switch q.Summary {
	case SummaryTrue:
		v.Set("_summary", "true")
	case SummaryText:
		v.Set("_summary", "text")
	case SummaryData:
		v.Set("_summary", "data")
	}
	if len(q.Elements) > 0 {
		v.Set("_elements", strings.Join(q.Elements, ","))
	}
	return v
}
