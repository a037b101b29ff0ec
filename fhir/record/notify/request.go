package notify

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/compartment"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/search"
)

const backport = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"

// Profile is that of a topic-based Subscription in R4.
const Profile = backport + "backport-subscription"

// The extensions of the backport.
const (
	filterCriteria = backport + "backport-filter-criteria"
	payloadContent = backport + "backport-payload-content"
	heartbeat      = backport + "backport-heartbeat-period"
	timeout        = backport + "backport-timeout"
	maxCount       = backport + "backport-max-count"
	channelType    = backport + "backport-channel-type"
)

// SecretExtension holds the secret of a subscription, in the answer that makes it and in no other.
const SecretExtension = fhir.Canonical + "/StructureDefinition/webhook-secret"

// Content is how much of a resource is told.
type Content string

// The contents of a notification (Subscriptions R5 Backport, "Payload Types").
const (
	Empty        Content = "empty"
	IDOnly       Content = "id-only"
	FullResource Content = "full-resource"
)

func (c Content) valid() bool { return c == Empty || c == IDOnly || c == FullResource }

// Header is a header field that a client wants to see in what it is sent.
type Header struct{ Name, Value string }

// order is what a Subscription asks for.
type order struct {
	topic    Topic
	types    []fhir.ResourceType
	filters  map[fhir.ResourceType][]string // queries, all of which must hold
	channel  Channel
	endpoint string
	headers  []Header
	content  Content
	beat     int // seconds, 0: none
	timeout  int // seconds
	most     int
	end      time.Time
	off      bool
}

// faults collects what is wrong with a Subscription.
type faults struct{ issues []outcome.Issue }

func (f *faults) add(c outcome.Category, path, text string) {
	f.issues = append(f.issues, outcome.Issue{Category: c, Path: "Subscription" + path, Text: text})
}

func (f *faults) err() error {
	if f.issues == nil {
		return nil
	}
	return &outcome.Error{Issues: f.issues}
}

// extensions calls each with the extensions of n and their places.
func extensions(n *element.Node, path string, each func(url string, x *element.Node, path string)) {
	for i, x := range n.Get("extension").List() {
		each(x.Get("url").String(), x, path+".extension["+strconv.Itoa(i)+"]")
	}
}

// read reads a Subscription that the codec has accepted, and tells everything that is wrong with it at once.
func read(root *element.Node, now time.Time) (order, error) {
	o := order{most: otherwise, timeout: allowed, end: now.Add(forever)}
	f := &faults{}
	switch status := root.Get("status").String(); Status(status) {
	case Requested, Active:
	case Off:
		o.off = true
	default:
		f.add(outcome.BusinessRule, ".status", "send the status requested, or off; the others are for the server")
	}
	o.readCriteria(f, root)
	o.readChannel(f, root.Get("channel"))
	if text := root.Get("end").String(); text != "" {
		if _, end, ok := search.Instants(text); ok && end.After(now) {
			o.end = end.UTC()
		} else {
			f.add(outcome.Value, ".end", "end is an instant that is to come")
		}
	}
	return o, f.err()
}

func (o *order) readCriteria(f *faults, root *element.Node) {
	var known bool
	if o.topic, known = topicOf(root.Get("criteria").String()); !known {
		names := make([]string, len(Topics))
		for i, t := range Topics {
			names[i] = t.URL
		}
		f.add(outcome.BusinessRule, ".criteria", "the criteria of a topic-based Subscription is the canonical url of a topic; here these are "+strings.Join(names, ", "))
	}
	o.filters = map[fhir.ResourceType][]string{}
	if o.topic.Type != "" {
		o.filters[o.topic.Type] = nil
	}
	n := 0
	extensions(root.Get("_criteria"), ".criteria", func(u string, x *element.Node, path string) {
		if u != filterCriteria {
			return
		}
		n++
		name, query, _ := strings.Cut(x.Get("valueString").String(), "?")
		t := fhir.ResourceType(name)
		switch {
		case !t.Valid() || o.topic.Type != "" && o.topic.Type != t:
			f.add(outcome.BusinessRule, path, "a filter begins with a resource type that the topic is about, such as Encounter?patient=Patient/1")
			return
		case query != "" && !plain(query):
			f.add(outcome.BusinessRule, path, "a filter is made of search parameters alone, such as Observation?status=final")
		}
		o.filters[t] = append(o.filters[t], query)
	})
	switch {
	case n > MaxFilters:
		f.add(outcome.TooCostly, ".criteria", fmt.Sprintf("a Subscription takes at most %d filters", MaxFilters))
	case len(o.filters) == 0 && known:
		f.add(outcome.Required, ".criteria", "this topic needs a filter (extension backport-filter-criteria) for each resource type, such as Observation or Observation?category=laboratory")
	}
	for t := range o.filters {
		o.types = append(o.types, t)
	}
	slices.Sort(o.types)
}

// plain reports a query without parameters that say how to answer.
func plain(query string) bool {
	values, err := url.ParseQuery(query)
	if err != nil {
		return false
	}
	for name := range values {
		switch base, _, _ := strings.Cut(name, ":"); base {
		case "", "_include", "_revinclude", "_count", "_sort", "_total", "_summary", "_elements", "_contained", "_containedType", "_format", "_pretty", search.PageParam:
			return false
		}
	}
	return true
}

func (o *order) readChannel(f *faults, c *element.Node) {
	o.channel = Channel(c.Get("type").String())
	switch there := c.Get("endpoint").String() != ""; {
	case o.channel != RestHook && o.channel != WebSocket:
		f.add(outcome.BusinessRule, ".channel.type", "the channel is rest-hook or websocket: there is no other one here")
	case o.channel == RestHook && !there:
		f.add(outcome.Required, ".channel.endpoint", "a rest-hook needs an endpoint")
	case o.channel == WebSocket && there:
		f.add(outcome.BusinessRule, ".channel.endpoint", "a websocket has no endpoint: its client connects to this server")
	case o.channel == WebSocket && c.Get("header") != nil:
		f.add(outcome.BusinessRule, ".channel.header", "a websocket has no header fields")
	}
	extensions(c.Get("_type"), ".channel.type", func(u string, _ *element.Node, path string) {
		if u == channelType {
			f.add(outcome.BusinessRule, path, "there are no further types of channel here")
		}
	})
	o.endpoint = c.Get("endpoint").String()
	for i, h := range c.Get("header").List() {
		name, value, ok := strings.Cut(h.String(), ":")
		if x := (Header{strings.TrimSpace(name), strings.TrimSpace(value)}); ok && x.fit() {
			o.headers = append(o.headers, x)
			continue
		}
		f.add(outcome.BusinessRule, fmt.Sprintf(".channel.header[%d]", i), "a header field is written as Name: value, in visible characters, and is none of those that the connection or this server sets")
	}
	if len(o.headers) > MaxHeaders {
		f.add(outcome.TooCostly, ".channel.header", fmt.Sprintf("a channel takes at most %d header fields", MaxHeaders))
	}
	if p := c.Get("payload").String(); p != "application/fhir+json" {
		f.add(outcome.BusinessRule, ".channel.payload", "the payload is application/fhir+json")
	}
	extensions(c.Get("_payload"), ".channel.payload", func(u string, x *element.Node, path string) {
		if u != payloadContent {
			return
		}
		if o.content = Content(x.Get("valueCode").String()); !o.content.valid() {
			f.add(outcome.CodeInvalid, path, "the content is empty, id-only or full-resource")
			o.content = Empty
		}
	})
	if o.content == "" {
		f.add(outcome.Required, ".channel.payload", "the payload needs its content (extension backport-payload-content): empty, id-only or full-resource")
	}
	extensions(c, ".channel", func(u string, x *element.Node, path string) {
		number := func(name string, least, most int, to *int) {
			n, err := strconv.Atoi(literal(x.Get(name)))
			if err != nil || n < least || n > most {
				f.add(outcome.BusinessRule, path, fmt.Sprintf("%s is a number between %d and %d", name, least, most))
				return
			}
			*to = n
		}
		switch u {
		case heartbeat:
			number("valueUnsignedInt", MinBeat, MaxBeat, &o.beat)
		case timeout:
			number("valueUnsignedInt", 1, MaxTimeout, &o.timeout)
		case maxCount:
			number("valuePositiveInt", 1, MaxCount, &o.most)
		}
	})
}

// token is a name of a header field (RFC 9110, 5.6.2).
var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$")

// taken are header fields that the connection or this server sets, in lower case.
var taken = []string{
	"accept-encoding", "connection", "content-encoding", "content-length", "content-type", "cookie", "date", "expect", "forwarded", "host", "keep-alive", "link",
	"redisclosure-notice", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "via", "http2-settings",
}

// fit reports whether a client may have a header field.
func (h Header) fit() bool {
	name := strings.ToLower(h.Name)
	if !token.MatchString(h.Name) || slices.Contains(taken, name) || len(h.Value) > 4096 {
		return false
	}
	for _, p := range []string{"webhook-", "proxy-", "x-forwarded-", "sec-", "access-control-"} {
		if strings.HasPrefix(name, p) {
			return false
		}
	}
	for _, c := range []byte(h.Value) {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	return true
}

// query is the search for those of these resources of a type that the filters select; ok is
// false where any will do.
func (o *order) query(t fhir.ResourceType, ids []fhir.ID, opt search.Options) (q search.Query, ok bool, err error) {
	var where []search.Criterion
	for _, text := range o.filters[t] {
		values, err := url.ParseQuery(text)
		if err != nil {
			return q, false, outcome.New(outcome.Invalid, "a filter does not read")
		}
		if len(values) == 0 {
			continue
		}
		part, _, err := search.Parse(t, values, opt)
		if err != nil {
			return q, false, err
		}
		where = append(where, part.Legs[0].Where...)
	}
	if where == nil {
		return q, false, nil
	}
	if q, _, err = search.Parse(t, url.Values{"_sort": {"_id"}}, opt); err != nil {
		return q, false, err
	}
	c := search.Criterion{Param: "_id", Type: search.Token}
	for _, id := range ids {
		c.Any = append(c.Any, search.Value{ID: id})
	}
	l := &q.Legs[0]
	l.Where = append(append(l.Where, c), where...)
	q.Count = search.MaxCount
	return q, true, nil
}

// options are how filters are read now.
func (s *Service) options(ctx context.Context, g authz.Grant) (search.Options, error) {
	opt := search.Options{Base: s.Base, Now: s.Now(), Context: ctx, Membership: compartment.Membership, Terminology: s.Terminology}
	r, err := s.Engine.Plan(ctx, g, fhir.Read, "SearchParameter")
	if err != nil {
		return opt, err
	}
	opt.Registry, err = s.Records.Parameters(ctx, r)
	return opt, err
}

// check refuses what could not be carried out for a caller.
func (s *Service) check(ctx context.Context, g authz.Grant, o order) error {
	f := &faults{}
	if err := s.Hooks.Check(o.endpoint, o.headers); o.channel == RestHook && err != nil {
		f.add(outcome.BusinessRule, ".channel.endpoint", err.Error())
	}
	opt, err := s.options(ctx, g)
	if err != nil {
		return err
	}
	for _, t := range o.types {
		if _, err := s.Engine.Extend(g, fhir.SearchType, t); err != nil {
			return err
		}
		if _, _, err := o.query(t, []fhir.ID{"x"}, opt); err != nil {
			for _, i := range outcome.Of(err).Issues {
				f.add(outcome.BusinessRule, ".criteria", i.Text)
			}
		}
	}
	return f.err()
}

// literal is the text of a number.
func literal(n *element.Node) string {
	if n == nil {
		return ""
	}
	return n.Text
}
