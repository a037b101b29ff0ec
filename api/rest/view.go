package rest

import (
	"net/url"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

var summaries = map[string]search.Summary{
	"": search.Whole, "false": search.Whole, "true": search.SummaryTrue, "text": search.SummaryText, "data": search.SummaryData,
}

// view reads which elements a client asks for (http://hl7.org/fhir/R4/http.html#parameters).
func view(rq *respond.Request) (record.View, error) {
	var v record.View
	if rq.Query == "" {
		return v, nil
	}
	q, err := url.ParseQuery(rq.Query)
	if err != nil {
		return v, errQuery
	}
	return viewOf(q)
}

func viewOf(q url.Values) (v record.View, err error) {
	var ok bool
	if v.Summary, ok = summaries[q.Get("_summary")]; !ok || len(q["_summary"]) > 1 {
		return v, outcome.New(outcome.Invalid, "_summary is true, text, data or false here, once")
	}
	for _, list := range q["_elements"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name == "" {
				return v, outcome.New(outcome.Invalid, "_elements is a list of elements, separated by commas")
			}
			v.Elements = append(v.Elements, name)
		}
	}
	slices.Sort(v.Elements)
	v.Elements = slices.Compact(v.Elements)
	if v.Summary != search.Whole && v.Elements != nil {
		return v, outcome.New(outcome.Invalid, "_summary and _elements exclude one another")
	}
	return v, nil
}
