package rest

import (
	"net/url"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir/search"
)

// Place opens the token of a page of what a path and a query list; nil is the first page.
func (s *Service) Place(rq *respond.Request, path string, self url.Values, token string) (*search.Cursor, error) {
	if token == "" {
		return nil, nil
	}
	c := rq.Grant.Caller()
	at, err := search.DecodeCursor(s.cursors, binding(c, path, encoded(self)), token, c.Now)
	if err != nil {
		return nil, err
	}
	return &at, nil
}

// Links are those of such a page; next is where the next one begins, if there is one.
func (s *Service) Links(rq *respond.Request, path string, self url.Values, token string, next *search.Cursor) respond.Links {
	c, query := rq.Grant.Caller(), encoded(self)
	l := respond.Links{Self: pageURL(rq.Base+path, query, token)}
	if next != nil {
		l.Next = pageURL(rq.Base+path, query, search.EncodeCursor(s.cursors, binding(c, path, query), *next, expiry(c.Now)))
	}
	return l
}
