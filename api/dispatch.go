package api

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/api/transport"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/compartment"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/patch"
	"github.com/cloister-health/cloister/fhir/search"
)

// mount gives every row to the router; HEAD goes where GET goes.
func (s *server) mount(e *echo.Echo, table []route) {
	type place struct{ method, path string }
	rows := map[place][]route{}
	var order []place
	for _, r := range table {
		p := place{r.method, r.path}
		if rows[p] == nil {
			order = append(order, p)
		}
		rows[p] = append(rows[p], r)
	}
	for _, p := range order {
		h := s.dispatch(rows[p])
		e.Add(p.method, p.path, h)
		if p.method == http.MethodGet {
			e.Add(http.MethodHead, p.path, h)
		}
	}
}

// dispatch makes the Request of a row, authorizes it, and calls its handler.
func (s *server) dispatch(rows []route) echo.HandlerFunc {
	return func(c echo.Context) error {
		x, err := transport.Of(c)
		if err != nil {
			return err
		}
		ctx, r := x.Deadline(), x.Request()
		rq := &respond.Request{Base: s.Base, Query: r.URL.RawQuery}
		x.Asked = rq
		if err := headers(rq, r.Header); err != nil {
			return err
		}
		row := &rows[0]
		if row.stream {
			x.Head.Gzip = respond.Zipped(r.Header["Accept-Encoding"])
			if x.Head.NoBody {
				rq.Range = "" // it is defined for GET alone
			}
		} else if err := negotiate(x, rq.Query); err != nil {
			return err
		}
		if row.reads == bundle {
			if row, err = s.bundle(x, rq, rows); err != nil {
				return err
			}
		}
		if !row.open {
			if err := s.authorize(ctx, x, rq, row); err != nil {
				return err
			}
			if err := read(x, rq, row.reads); err != nil {
				return s.rest.Refuse(ctx, rq, err)
			}
			if err := idempotency(x, rq, row.reads); err != nil {
				return s.rest.Refuse(ctx, rq, err)
			}
		}
		x.Answer, err = row.handler(ctx, rq)
		return err
	}
}

// authorize issues the grant of the request, or refuses it. Permission comes
// first and depends on the caller alone; then a type or id that cannot exist is
// not found, like one that does not.
func (s *server) authorize(ctx context.Context, x *transport.Exchange, rq *respond.Request, row *route) error {
	rq.Interaction = row.interaction
	names, err := x.ParamNames(), error(nil)
	for i, value := range x.ParamValues() {
		ok := true
		switch names[i] {
		case "compartment":
			rq.Compartment.Type = fhir.ResourceType(value)
			ok = compartment.Known(rq.Compartment.Type)
		case "owner":
			rq.Compartment.ID = fhir.ID(value)
			ok = rq.Compartment.ID.Valid()
		case "type":
			if rq.Compartment.Type != "" && value == string(search.Every) {
				rq.Interaction = fhir.SearchSystem
				continue
			}
			if ok = fhir.ResourceType(value).Valid(); ok {
				rq.Type = fhir.ResourceType(value)
			}
		case "id":
			if ok = fhir.ID(value).Valid(); ok {
				rq.ID = fhir.ID(value)
			}
		case "file":
			rq.File = value
		case "vid":
			rq.Version, ok = fhir.ParseVersionID(value)
		}
		if !ok {
			err = outcome.New(outcome.NotFound, "")
		}
	}
	if row.typ != "" {
		rq.Type = row.typ
	}
	asked := rq.Type
	if row.interaction == fhir.Operation {
		asked = "" // its handler asks for what it is made of
	}
	if asked != "" || row.reads == bundle || rq.Interaction == fhir.Operation || authz.OnSystem(rq.Interaction) {
		g, denied := s.Engine.Authorize(ctx, x.Principal, rq.Interaction, asked)
		if denied == nil && row.needs != "" {
			_, denied = s.Engine.Extend(g, row.needs, rq.Type)
		}
		if rq.Grant = g; denied != nil {
			err = denied
		}
	}
	if err == nil {
		return nil
	}
	if !rq.Grant.Valid() {
		rq.Grant = s.Engine.Refused(x.Principal, rq.Interaction)
	}
	return s.rest.Refuse(ctx, rq, err)
}

// read takes in the body.
func read(x *transport.Exchange, rq *respond.Request, reads content) error {
	switch reads {
	case resource:
		body, err := body(x, respond.Readable)
		if err != nil {
			return err
		}
		rq.Content, err = codec.Parse(body)
		return err
	case patching:
		body, err := body(x, respond.ReadablePatch)
		if err != nil {
			return err
		}
		rq.Patch, err = patch.Parse(x.Request().Header.Get("Content-Type"), body)
		return err
	case candidate:
		if x.Request().ContentLength == 0 {
			return nil
		}
		body, err := body(x, respond.Readable)
		if err != nil {
			return err
		}
		if rq.Content, err = codec.Parse(body); err != nil {
			rq.Unfit = outcome.Of(err)
		}
		return nil
	case parameters:
		if x.Request().ContentLength == 0 {
			return nil
		}
		return read(x, rq, resource)
	case importing:
		return imported(x, rq)
	case hook:
		body, err := body(x, respond.Readable)
		if err != nil {
			return err
		}
		rq.Hook, err = codec.ReadJSON(body, codec.Limits{})
		return err
	case form:
		body, err := body(x, respond.ReadableForm)
		if err != nil {
			return err
		}
		rq.Form = string(body)
		return negotiate(x, rq.Form)
	}
	return nil
}

// imported takes in the body of an import: its manifest, or its lines, which are read later.
func imported(x *transport.Exchange, rq *respond.Request) error {
	h := x.Request().Header
	if types := h["Content-Type"]; len(types) == 1 && respond.ReadableLines(types[0]) {
		switch encoding := h.Get("Content-Encoding"); encoding {
		case "", "identity", "gzip":
			rq.Upload = &respond.Upload{Lines: x.Request().Body, Gzip: encoding == "gzip"}
			return nil
		}
		return outcome.New(outcome.MediaType, "send the lines as they are, or with the content encoding gzip")
	}
	body, err := body(x, respond.Readable)
	if err != nil {
		return err
	}
	rq.Manifest, err = codec.ReadJSON(body, codec.Limits{})
	return err
}

func body(x *transport.Exchange, readable func(string) bool) ([]byte, error) {
	types := x.Request().Header["Content-Type"]
	if len(types) != 1 || !readable(types[0]) {
		return nil, outcome.New(outcome.MediaType, "send a resource as application/fhir+json, a patch as that or as application/json-patch+json, and the form of a search as application/x-www-form-urlencoded, all in UTF-8")
	}
	b, err := x.Body()
	x.Digest = sha256.Sum256(b)
	return b, err
}

// idempotency reads the Idempotency-Key of a request that changes something,
// together with a digest of all that the request asks for. Other requests may be
// repeated as they are.
func idempotency(x *transport.Exchange, rq *respond.Request, reads content) error {
	r := x.Request()
	fields := r.Header["Idempotency-Key"]
	if fields == nil || r.Method == http.MethodGet || r.Method == http.MethodHead || reads == form || reads == parameters || reads == hook || reads == importing {
		return nil
	}
	value, ok := "", len(fields) == 1
	if ok {
		value, ok = respond.ParseKey(fields[0])
	}
	if !ok {
		return outcome.New(outcome.Invalid, "Idempotency-Key is one text of at most 255 visible characters, such as a UUID, in quotation marks")
	}
	h := sha256.New()
	for _, part := range []string{r.Method, r.URL.RequestURI(), string(x.Digest[:]), rq.IfMatch, rq.IfNoneMatch, rq.IfNoneExist} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	rq.Key = &respond.Key{Value: value, Request: [32]byte(h.Sum(nil))}
	return nil
}

// bundle reads the Bundle of a request to the base and finds the row that it asks for.
func (s *server) bundle(x *transport.Exchange, rq *respond.Request, rows []route) (*route, error) {
	b, err := body(x, respond.Readable)
	if err != nil {
		return nil, err
	}
	if rq.Content, rq.Faults, err = codec.ParseBatch(b, codec.Limits{Bytes: int(s.MaxBody)}); err != nil {
		return nil, err
	}
	kind := rq.Content.BundleType()
	if kind == "document" {
		kind = string(fhir.Transaction) // it is filed by one
	}
	for i := range rows {
		if kind == string(rows[i].interaction) {
			return &rows[i], nil
		}
	}
	return nil, outcome.New(outcome.Invalid, "what is posted to the base is a Bundle of type batch, transaction or document")
}

// negotiate finds the media type of the answer.
func negotiate(x *transport.Exchange, query string) error {
	format := ""
	if strings.Contains(query, "_format") || strings.Contains(query, "_pretty") {
		q, err := url.ParseQuery(query)
		if err != nil {
			return outcome.New(outcome.Invalid, "the query is not well-formed: escape reserved characters")
		}
		format = q.Get("_format")
		x.Head.Pretty = q.Get("_pretty") == "true"
	}
	t, ok := respond.Negotiate(x.Request().Header["Accept"], format)
	if !ok {
		return outcome.New(outcome.NotAcceptable, "this server writes application/fhir+json (FHIR 4.0) and nothing else")
	}
	x.Head.MediaType = t
	return nil
}

// headers copies what a handler may know of the header. A precondition that
// stands there twice is refused: to honour one of the two would be to ignore the other.
func headers(rq *respond.Request, h http.Header) error {
	for _, name := range []string{"If-Match", "If-None-Exist"} {
		if len(h[name]) > 1 {
			return outcome.New(outcome.Invalid, "If-Match and If-None-Exist may stand once each")
		}
	}
	rq.Conditions = respond.Conditions{
		IfMatch: h.Get("If-Match"), IfNoneMatch: strings.Join(h["If-None-Match"], ","),
		IfModifiedSince: h.Get("If-Modified-Since"), IfNoneExist: h.Get("If-None-Exist"),
	}
	if r := h["Range"]; len(r) == 1 {
		rq.Range, rq.IfRange = r[0], h.Get("If-Range")
	}
	if p := h["Prefer"]; p != nil {
		rq.Prefer = respond.ParsePrefer(p)
	}
	return nil
}
