package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// Told is one access as one reader of the trail may know it: what she may not know is not
// in it. An access to records of several patients is told once for each.
type Told struct {
	Event    Event // with the entities that are told, all of the one Patient if there is one
	ID       string
	Patient  fhir.ID
	Withheld bool      // who asked may not be known
	Name     string    // of who asked, or ""
	Of       []Party   // the organizations for which she asked, that may be known
	Consents []fhir.ID // on which it rests, that may be known
	// Decision says that it is the decision by consent that is told, not the access itself.
	Decision bool
}

// PartID is the id of what is told of an event about one patient. It says nothing of what else
// the event holds, and whoever reads it again gets the same. The moment of the event is in it,
// by which the trail is ordered.
func PartID(event string, at time.Time, patient fhir.ID, decision bool) string {
	id := event + "-" + strconv.FormatInt(at.UnixMicro(), 36)
	if patient == "" {
		return id
	}
	sum := sha256.Sum256([]byte(event + "|" + strconv.FormatBool(decision) + "|" + string(patient)))
	return id + "-" + hex.EncodeToString(sum[:5])
}

// EventOf is the event that an AuditEvent of this id tells of, and its moment.
func EventOf(id string) (event string, at time.Time, ok bool) {
	const uuid = 36
	if len(id) <= uuid || id[uuid] != '-' {
		return "", at, false
	}
	for i := range uuid {
		c := id[i]
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", at, false
		}
	}
	text, _, _ := strings.Cut(id[uuid+1:], "-")
	micro, err := strconv.ParseInt(text, 36, 52)
	if err != nil || micro < 0 || strconv.FormatInt(micro, 36) != text {
		return "", at, false
	}
	return id[:uuid], time.UnixMicro(micro).UTC(), true
}

// The patterns of IHE's Basic Audit Log Patterns (https://profiles.ihe.net/ITI/BALP).
const (
	balp             = "https://profiles.ihe.net/ITI/BALP/"
	systemParticipat = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
	systemParty      = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
	systemAuthority  = "http://terminology.hl7.org/CodeSystem/extra-security-role-type"
	systemRoleClass  = "http://terminology.hl7.org/CodeSystem/v3-RoleClass"
	systemBasicAudit = balp + "CodeSystem/BasicAuditEntityType"
	systemAuthZ      = balp + "CodeSystem/AuthZsubType"
	absent           = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

	dicomSource      = "110153"
	dicomDestination = "110152"
	dicomApplication = "110150"
)

// SystemRole is the system of the roles in AuditEvent.agent.role.
const SystemRole = fhir.Canonical + "/CodeSystem/role"

// pattern is how BALP tells of an interaction.
type pattern struct {
	profile        string // "" where it has none
	client, server *element.Node
	user           *element.Node
}

func typed(system, code string) *element.Node {
	return element.NewObject(field("coding", list(coding(system, code))))
}

func patternOf(i fhir.Interaction) pattern {
	source, destination := typed(systemDICOM, dicomSource), typed(systemDICOM, dicomDestination)
	recipient, author := typed(systemParticipat, "IRCP"), typed(systemParticipat, "AUT")
	switch i {
	case fhir.Read, fhir.VRead:
		return pattern{"Read", destination, source, recipient}
	case fhir.HistoryInstance, fhir.HistoryType, fhir.HistorySystem:
		return pattern{"", destination, source, recipient}
	case fhir.SearchType, fhir.SearchSystem:
		return pattern{"Query", source, destination, recipient}
	case fhir.Create:
		return pattern{"Create", source, destination, author}
	case fhir.Update, fhir.Patch:
		return pattern{"Update", source, destination, author}
	case fhir.Delete:
		return pattern{"Delete", typed(systemDICOM, dicomApplication), typed(systemParty, "custodian"), author}
	default:
		return pattern{"", source, destination, recipient}
	}
}

// profile is the one whose constraints all hold, or "": BALP has none for what came to
// nothing, and in the patterns of a single record there is exactly one.
func (t Told) profile(p pattern) string {
	if p.profile == "" || t.Event.Outcome != Success || p.profile != "Query" && len(t.Event.Entities) != 1 ||
		slices.ContainsFunc(t.Event.Entities, func(x Entity) bool { return x.Session != "" }) {
		return ""
	}
	of := ""
	if t.Patient != "" {
		of = "Patient"
	}
	return balp + "StructureDefinition/IHE.BasicAudit." + of + p.profile
}

// Render gives the R4 AuditEvent of t.
func (t Told) Render() *element.Node {
	if t.Decision {
		return t.decision()
	}
	e := t.Event
	p := patternOf(e.Interaction)
	code := subtype(e.Interaction)
	n := t.head(t.profile(p), coding(systemEventType, "rest"),
		element.NewObject(str("system", systemInteraction), str("code", code), str("display", code)), actions[e.Interaction])
	agents := []*element.Node{t.user(p.user), t.client(p.client), machine(p.server)}
	if e.Caller.PolicyVersion != "" {
		decided := machine(typed(systemAuthority, "authserver"))
		decided.Delete("network")
		decided.Set("policy", list(element.NewString(PolicyURN+e.Caller.PolicyVersion)))
		agents = append(agents, decided)
	}
	n.Set("agent", list(agents...))
	n.Set("source", source())
	if entities := t.entities(p); entities != nil {
		n.Set("entity", list(entities...))
	}
	return n
}

// PolicyURN is what comes before the version of a policy in AuditEvent.agent.policy.
const PolicyURN = "urn:cloister:policy:"

func source() *element.Node {
	return element.NewObject(field("observer", element.NewObject(str("display", observer))))
}

// head is what stands before the agents.
func (t Told) head(profile string, typ, sub *element.Node, action string) *element.Node {
	n := element.NewObject(str("resourceType", "AuditEvent"), str("id", t.ID))
	if profile != "" {
		n.Set("meta", element.NewObject(field("profile", list(element.NewString(profile)))))
	}
	n.Set("type", typ)
	n.Set("subtype", list(sub))
	if action != "" {
		n.Set("action", element.NewString(action))
	}
	n.Set("recorded", element.NewString(instant(t.Event.At)))
	n.Set("outcome", element.NewString(string(t.Event.Outcome)))
	n.Set("purposeOfEvent", list(element.NewObject(field("coding", list(coding(systemPurpose, t.Event.Caller.Purpose))))))
	return n
}

// user is who asked: the person, or the service that acts for itself.
func (t Told) user(typ *element.Node) *element.Node {
	c := t.Event.Caller
	n := element.NewObject(field("type", typ))
	if len(c.Roles) > 0 && !t.Withheld {
		var roles []*element.Node
		for _, r := range c.Roles {
			roles = append(roles, element.NewObject(field("coding", list(coding(SystemRole, r))), str("text", r)))
		}
		n.Set("role", list(roles...))
	}
	who := element.NewObject(str("display", "withheld"))
	if !t.Withheld {
		who = element.NewObject(field("identifier", element.NewObject(str("value", c.Subject))))
		if u := c.User.String(); u != "" && c.User.Type != "Person" { // R4 has no Person as agent.who
			who.Set("reference", element.NewString(u))
		}
		if t.Name != "" {
			who.Set("display", element.NewString(t.Name))
		}
	}
	n.Set("who", who)
	n.Set("requestor", boolean(true))
	return n
}

// client is the app through which she asked, or what acted for itself.
func (t Told) client(typ *element.Node) *element.Node {
	n := element.NewObject(field("type", typ))
	switch c := t.Event.Caller; {
	case c.Client != "":
		n.Set("who", element.NewObject(field("identifier", element.NewObject(str("value", c.Client)))))
	default:
		n.Set("who", element.NewObject(str("display", "not registered")))
	}
	n.Set("requestor", boolean(false))
	n.Set("network", unknownNetwork())
	return n
}

// machine is this server in a part of it.
func machine(typ *element.Node) *element.Node {
	return element.NewObject(field("type", typ), field("who", element.NewObject(str("display", observer))),
		field("requestor", boolean(false)), field("network", unknownNetwork()))
}

// unknownNetwork says that addresses are not recorded: BALP wants the element.
func unknownNetwork() *element.Node {
	return element.NewObject(field("extension", list(element.NewObject(str("url", absent), str("valueCode", "unknown")))))
}

func boolean(b bool) *element.Node {
	return &element.Node{Kind: element.Bool, Text: strconv.FormatBool(b)}
}

// entities are the records, whose they are, what was asked, and of which request.
func (t Told) entities(p pattern) (out []*element.Node) {
	e := t.Event
	query := p.profile == "Query" && e.Outcome == Success
	for _, x := range e.Entities {
		typ := coding(systemEntityType, "2")
		if query { // of type 2 there is the query alone
			typ = coding(systemResources, string(x.Ref.Type))
		}
		what := x.Ref.String()
		if x.Version > 0 {
			what += "/_history/" + x.Version.String()
		}
		n := entity(what, typ, field("role", coding(systemObjectRole, "4")))
		if x.Session != "" {
			n.Set("detail", list(act("emergency", x.Session)))
		}
		out = append(out, n)
	}
	for _, id := range t.Consents {
		out = append(out, entity("Consent/"+string(id), coding(systemResources, "Consent")))
	}
	if t.Patient != "" {
		out = append(out, t.patient())
	}
	if query {
		// What was searched for may itself tell of a patient, and is not recorded.
		out = append(out, element.NewObject(field("type", coding(systemEntityType, "2")), field("role", coding(systemObjectRole, "24")),
			field("_query", element.NewObject(field("extension", list(element.NewObject(str("url", absent), str("valueCode", "masked"))))))))
	}
	for _, id := range e.Acts {
		kind := "exception"
		if e.Type == "Patient" { // exceptions are those of a practice, emergencies of a patient
			kind = "emergency"
		}
		out = append(out, element.NewObject(field("detail", list(act(kind, id)))))
	}
	if id := e.Caller.RequestID; id != "" && len(out) > 0 {
		out = append(out, element.NewObject(field("what", element.NewObject(field("identifier", element.NewObject(str("value", id))))),
			field("type", coding(systemBasicAudit, "XrequestId"))))
	}
	return out
}

func (t Told) patient() *element.Node {
	return entity("Patient/"+string(t.Patient), coding(systemEntityType, "1"), field("role", coding(systemObjectRole, "1")))
}

// decision is the AuditEvent of the decision that a consent was (BALP, Consent Authorized
// Decision). Its profile asks for the organization of who asked, which is not always known.
func (t Told) decision() *element.Node {
	profile := ""
	if len(t.Of) == 1 {
		profile = balp + "StructureDefinition/IHE.BasicAudit.AuthZconsent"
	}
	n := t.head(profile, coding(systemDICOM, dicomAlert), coding(systemAuthZ, "AuthZ-Consent"), "E")
	agents := []*element.Node{t.user(typed(systemParticipat, "IRCP")), t.client(typed(systemDICOM, dicomApplication))}
	for _, o := range t.Of {
		who := element.NewObject(str("reference", o.Ref.String()))
		if o.Name != "" {
			who.Set("display", element.NewString(o.Name))
		}
		agents = append(agents, element.NewObject(field("type", typed(systemRoleClass, "PROV")), field("who", who), field("requestor", boolean(false))))
	}
	authorizer := machine(typed(systemAuthority, "authserver"))
	authorizer.Delete("network")
	n.Set("agent", list(append(agents, authorizer)...))
	n.Set("source", source())
	entities := []*element.Node{t.patient()}
	for _, id := range t.Consents {
		entities = append(entities, entity("Consent/"+string(id), coding(systemResources, "Consent")))
	}
	n.Set("entity", list(entities...))
	return n
}
