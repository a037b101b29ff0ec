package operation

import (
	"context"
	"net/url"
	"strconv"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/api/rest"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/search"
)

// maxLast is the largest max of $lastn.
const maxLast = 100

// lastn answers Observation/$lastn with the latest observations of each code
// (http://hl7.org/fhir/R4/observation-operation-lastn.html).
func (s *Service) lastn(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	criteria := []string{"patient", "subject", "category", "code", "date", "status", "_count"}
	a, err := arguments(rq, append(criteria, "max", search.PageParam)...)
	if err != nil {
		return nil, err
	}
	if len(a.texts["patient"])+len(a.texts["subject"]) == 0 {
		return nil, outcome.New(outcome.Required, "the operation needs the parameter patient or subject")
	}
	last, err := a.text("max")
	if err != nil {
		return nil, err
	}
	n := 1
	if last != "" {
		if n, err = strconv.Atoi(last); err != nil || n < 1 || n > maxLast {
			return nil, outcome.New(outcome.Invalid, "the parameter max is a whole number from 1 to "+strconv.Itoa(maxLast))
		}
	}
	sub, err := s.as(rq, fhir.SearchType, "Observation")
	if err != nil {
		return nil, err
	}
	asked := url.Values{}
	for _, name := range criteria {
		if v := a.texts[name]; len(v) > 0 {
			asked[name] = v
		}
	}
	opt, err := s.pages.Searching(ctx, rq)
	if err != nil {
		return nil, err
	}
	q, _, err := search.Parse("Observation", asked, opt)
	if err != nil {
		return nil, err
	}
	self := q.Self()
	self.Set("max", strconv.Itoa(n))
	q.Last = n
	q.Sort = []search.Sort{{Param: "date", Type: search.Date, Descending: true}}
	token, err := a.text(search.PageParam)
	if err != nil {
		return nil, err
	}
	return s.pages.Page(ctx, sub, rest.Listing{Path: "/Observation/$lastn", Query: q, Self: self, Token: token})
}
