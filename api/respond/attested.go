package respond

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record"
)

// Attested answers $sign and $revoke: 200 with the place of the new version, and with the
// copy for whoever signed (45 CFR 164.508(c)(4)), a Bundle of type collection with the
// Consent and its Provenance as far as the caller may read them. Where the Consent waits for
// further signatures, an OperationOutcome says who has signed and who has not.
func Attested(rc record.Receipt, copies []record.Released, a record.Attestation) Response {
	x := attested[record.Released]{rc: rc, copies: copies}
	if len(a.Awaited) > 0 {
		x.waits = "signed by: " + names(a.Signed) + "; it permits nothing until it is signed by: " + names(a.Awaited)
	}
	return x
}

func names(list []consent.Signer) string {
	var b strings.Builder
	for i, x := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(x))
	}
	return b.String()
}

type attested[R released] struct {
	rc     record.Receipt
	copies []R
	waits  string // what is said of further signatures, or ""
}

func (x attested[R]) build(m *message, rq *Request) error {
	if err := allHeld(rq, x.copies); err != nil {
		return err
	}
	m.status = http.StatusOK
	m.ref = x.rc.Ref
	m.location = rq.Base + "/" + x.rc.Ref.String() + "/_history/" + x.rc.Version.String()
	m.version(x.rc.Version, x.rc.Updated)
	if len(x.copies) == 0 {
		if rq.Prefer.Return == OperationOutcome {
			m.done(cmp.Or(x.waits, "the resource is stored"))
		}
		return nil
	}
	m.str(`{"resourceType":"Bundle","type":"collection","timestamp":"`)
	m.instant(x.rc.Updated)
	m.str(`"`)
	said := ""
	if x.waits != "" {
		said = `{"resource":{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational","diagnostics":"` + x.waits + `"}]}}`
	}
	return collect(m, rq, x.copies, said)
}

// Found answers an operation with Parameters of the server's own making about released
// resources.
func Found(parameters *element.Node, of ...record.Released) Response {
	return found[record.Released]{parameters, of}
}

// JSON answers with JSON of the server's own making that is no FHIR resource.
func JSON(n *element.Node) Response {
	return document{http.StatusOK, n.AppendJSON(nil), "application/json", ""}
}

type found[R released] struct {
	parameters *element.Node
	of         []R
}

func (x found[R]) build(m *message, rq *Request) error {
	if err := allHeld(rq, x.of); err != nil {
		return err
	}
	m.status = http.StatusOK
	m.body = x.parameters.AppendJSON(m.body)
	return nil
}
