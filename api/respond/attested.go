package respond

import (
	"net/http"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record"
)

// Attested answers $sign and $revoke: 200 with the place of the new version, and with the
// copy for whoever signed (45 CFR 164.508(c)(4)), a Bundle of type collection with the
// Consent and its Provenance as far as the caller may read them.
func Attested(rc record.Receipt, copies []record.Released) Response {
	return attested[record.Released]{rc, copies}
}

type attested[R released] struct {
	rc     record.Receipt
	copies []R
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
			m.done("the resource is stored")
		}
		return nil
	}
	m.str(`{"resourceType":"Bundle","type":"collection","timestamp":"`)
	m.instant(x.rc.Updated)
	m.str(`"`)
	return collect(m, rq, x.copies)
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
