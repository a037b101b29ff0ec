package notify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record"
)

// kind is the type of a notification (http://hl7.org/fhir/ValueSet/subscription-notification-type).
type kind string

const (
	handshake   kind = "handshake"
	beat        kind = "heartbeat"
	happened    kind = "event-notification"
	queryStatus kind = "query-status"
	queryEvents kind = "query-event"
)

// notification is what is written about a subscription.
type notification struct {
	base    string
	x       *Subscription
	topic   string
	kind    kind
	content Content
	events  []shown
	at      time.Time
}

// noticed reports that the notice of 42 CFR 2.32 goes with it.
func (n *notification) noticed() bool {
	for _, e := range n.events {
		if e.out != nil && len(e.out.Scopes()) > 0 {
			return true
		}
	}
	return false
}

func (n *notification) url() string { return n.base + "/Subscription/" + n.x.ID }

// uuid names something by what it is about: a UUID of version 8 (RFC 9562, 5.8).
func uuid(about ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(about, "\n")))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	x := hex.EncodeToString(sum[:16])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// name is the same for each try to deliver the same thing.
func (n *notification) name() string {
	about := []string{n.x.ID, string(n.kind), strconv.FormatInt(n.x.Sent, 10)}
	if n.kind == happened {
		for _, e := range n.events {
			about = append(about, strconv.FormatInt(e.Number, 10))
		}
	} else {
		about = append(about, n.x.Spoke.UTC().Format(time.RFC3339Nano), strconv.Itoa(int(n.x.Version)))
	}
	return uuid(about...)
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func field(b *bytes.Buffer, name, text string) {
	b.WriteString(`"` + name + `":`)
	b.Write(element.AppendQuoted(nil, text))
}

// parameter begins a parameter with a primitive value; its object is not closed.
func parameter(b *bytes.Buffer, name, kind, text string) {
	b.WriteString(`{"name":"` + name + `",`)
	field(b, "value"+kind, text)
}

func reference(b *bytes.Buffer, name, url string) {
	b.WriteString(`{"name":"` + name + `","valueReference":{`)
	field(b, "reference", url)
	b.WriteString(`}}`)
}

// status writes the Parameters that tell of the subscription (profile backport-subscription-status-r4).
func (n *notification) status(b *bytes.Buffer, id string) {
	b.WriteString(`{"resourceType":"Parameters","id":"` + id + `","meta":{"profile":["` + backport + `backport-subscription-status-r4"]},"parameter":[`)
	reference(b, "subscription", n.url())
	if n.content != Empty {
		b.WriteString(",")
		parameter(b, "topic", "Canonical", n.topic)
		b.WriteString("}")
	}
	for _, p := range [][3]string{{"status", "Code", string(n.x.Status)}, {"type", "Code", string(n.kind)}, {"events-since-subscription-start", "String", strconv.FormatInt(n.x.Events, 10)}} {
		b.WriteString(",")
		parameter(b, p[0], p[1], p[2])
		b.WriteString("}")
	}
	for _, e := range n.events {
		b.WriteString(`,{"name":"notification-event","part":[`)
		parameter(b, "event-number", "String", strconv.FormatInt(e.Number, 10))
		b.WriteString("}")
		if e.out != nil {
			b.WriteString(",")
			parameter(b, "timestamp", "Instant", instant(e.At))
			b.WriteString("}")
			if n.content != Empty {
				b.WriteString(",")
				reference(b, "focus", n.base+"/"+string(e.Type)+"/"+string(e.ID))
			}
		}
		b.WriteString("]}")
	}
	if n.x.Reason != "" {
		b.WriteString(`,{"name":"error","valueCodeableConcept":{"coding":[{"system":"` + fhir.Canonical + `/CodeSystem/subscription-error","code":"` + string(n.x.Reason) + `"}]}}`)
	}
	b.WriteString(`]}`)
}

// write writes the Bundle (profile backport-subscription-notification-r4).
func (n *notification) write() ([]byte, error) {
	var b bytes.Buffer
	name := n.name()
	b.WriteString(`{"resourceType":"Bundle","id":"` + name + `","meta":{"profile":["` + backport + `backport-subscription-notification-r4"]`)
	if c := n.confidentiality(); c != 0 {
		b.WriteString(`,"security":[` + obligation.Confidentiality(c) + `]`)
	}
	b.WriteString(`},"type":"history","timestamp":"` + instant(n.at) + `","entry":[`)
	id := uuid(name, "status")
	b.WriteString(`{"fullUrl":"urn:uuid:` + id + `","resource":`)
	n.status(&b, id)
	b.WriteString(`,"request":{"method":"GET",`)
	field(&b, "url", n.url()+"/$status")
	b.WriteString(`},"response":{"status":"200"}}`)
	explained := map[fhir.ID]bool{}
	for _, e := range n.events {
		if e.out == nil || n.content == Empty {
			continue
		}
		if err := n.entry(&b, e.out, explained); err != nil {
			return nil, err
		}
	}
	b.WriteString(`]}`)
	return b.Bytes(), nil
}

func (n *notification) form() record.Form { return record.Form{Base: n.base} }

// confidentiality is the highest of what is told, or zero.
func (n *notification) confidentiality() (c label.Confidentiality) {
	for _, e := range n.events {
		if e.out != nil && n.content != Empty && !e.out.Deleted() {
			c = max(c, e.out.Confidentiality(n.form()))
		}
	}
	return c
}

func (n *notification) entry(b *bytes.Buffer, r *record.Released, explained map[fhir.ID]bool) error {
	b.WriteString(`,{`)
	field(b, "fullUrl", n.base+"/"+r.Ref().String())
	method, place, status := "PUT", r.Ref().String(), "200"
	switch {
	case r.Deleted():
		method, status = "DELETE", "204"
	case r.Created():
		method, place, status = "POST", string(r.Ref().Type), "201"
	}
	if n.content == FullResource && !r.Deleted() {
		b.WriteString(`,"resource":`)
		if err := r.Render(b, n.form()); err != nil {
			return err
		}
	}
	b.WriteString(`,"request":{"method":"` + method + `","url":"` + place + `"},"response":{"status":"` + status + `"`)
	if n.content == FullResource {
		b.WriteString(`,"etag":"W/\"` + r.Version().String() + `\"","lastModified":"` + instant(r.Updated()) + `"`)
	}
	explain(b, n.base, r.Scopes(), explained)
	b.WriteString(`}}`)
	return nil
}

// explain writes, for each consent that something is disclosed under, what it permits, once
// in a Bundle (42 CFR 2.32(b)).
func explain(b *bytes.Buffer, base string, scopes []obligation.Scope, explained map[fhir.ID]bool) {
	first := true
	for _, s := range scopes {
		if explained[s.Consent] {
			continue
		}
		explained[s.Consent] = true
		if first {
			b.WriteString(`,"outcome":{"resourceType":"OperationOutcome","issue":[`)
		} else {
			b.WriteString(`,`)
		}
		first = false
		b.WriteString(`{"severity":"information","code":"informational","details":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"NORDSCLCD"}],"text":`)
		b.Write(element.AppendQuoted(nil, obligation.ShortNotice))
		b.WriteString(`},"diagnostics":`)
		b.Write(element.AppendQuoted(nil, base+"/Consent/"+string(s.Consent)+" - "+s.Explain()))
		b.WriteString(`}`)
	}
	if !first {
		b.WriteString(`]}`)
	}
}
