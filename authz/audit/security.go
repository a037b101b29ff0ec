package audit

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// Security is an event that concerns no record: somebody signs in, an app gets a token, a
// grant is revoked. It names its agents by ids and codes alone: no e-mail address, no text that
// anybody typed, no secret.
type Security struct {
	ID      string // UUID, also the id of the AuditEvent
	At      time.Time
	Tenant  int32 // 0: of no practice, such as a sign-in to an account that there is not
	Kind    Kind
	Outcome Outcome
	Reason  Reason // of a refusal
	Account string // UUID of whom it concerns, or ""
	User    fhir.Ref
	By      string // who did it, where that was somebody else: the UUID of an account or the id of a client
	Client  string // the app (client_id), or ""
	Session string // the session or the grant, or ""
	Methods []string
	Address netip.Addr
}

// Kind says what happened.
type Kind string

// The kinds.
const (
	SignIn          Kind = "sign-in"
	SignOut         Kind = "sign-out"
	Locked          Kind = "locked"
	FactorAdded     Kind = "factor-added"
	FactorRemoved   Kind = "factor-removed"
	PasswordChanged Kind = "password-changed"
	RecoveryAsked   Kind = "recovery-asked"
	Invited         Kind = "invited"
	AccountCreated  Kind = "account-created"
	AccountLinked   Kind = "account-linked" // to an external identity
	AccountDisabled Kind = "account-disabled"
	AccountEnabled  Kind = "account-enabled"
	RolesChanged    Kind = "roles-changed" // of a membership, its beginning and its end included
	SessionsEnded   Kind = "sessions-ended"

	AppRegistered Kind = "app-registered"
	AppApproved   Kind = "app-approved"
	AppRefused    Kind = "app-refused"
	GrantGiven    Kind = "grant-given"
	GrantRefused  Kind = "grant-refused"
	GrantRevoked  Kind = "grant-revoked"
	TokenIssued   Kind = "token-issued"
	TokenRefused  Kind = "token-refused"
	TokenReused   Kind = "token-reused" // a code or a refresh token that had been used: what came of it is revoked
	KeysRotated   Kind = "keys-rotated"

	MonthDropped Kind = "trail-month-dropped" // of the audit trail, at the end of retention; Session is the month

	// What an operator is about to do.
	RecordsImported  Kind = "records-imported"
	RecordsRelabeled Kind = "records-relabeled"
	NotesEncrypted   Kind = "notes-encrypted"
	NoteKeysRotated  Kind = "note-keys-rotated" // the keys that wrap those of notes
	PackageInstalled Kind = "package-installed"
	PoliciesRead     Kind = "policies-read" // by a running server, anew
)

// Reason says why something was refused, as a code.
type Reason string

// The reasons.
const (
	ReasonUnknown      Reason = "unknown"       // no such account or app
	ReasonDisabled     Reason = "disabled"      // account or app
	ReasonCredential   Reason = "credential"    // password, code or passkey is not the right one
	ReasonReplay       Reason = "replay"        // it was used before
	ReasonClone        Reason = "clone"         // the counter of a passkey went back
	ReasonThrottled    Reason = "throttled"     // too many attempts
	ReasonFactor       Reason = "factor"        // the second factor is missing
	ReasonUnlinked     Reason = "unlinked"      // an external identity of nobody
	ReasonProvider     Reason = "provider"      // the answer of an identity provider is not good
	ReasonExpired      Reason = "expired"       //
	ReasonClient       Reason = "client"        // client authentication failed
	ReasonRedirect     Reason = "redirect"      // not a registered redirect URI
	ReasonScope        Reason = "scope"         // more than is registered
	ReasonGrant        Reason = "grant"         // the code or the refresh token is not good
	ReasonProof        Reason = "proof"         // PKCE
	ReasonUser         Reason = "user"          // she said no
	ReasonNotPermitted Reason = "not-permitted" // by policy or by the practice
)

// system of the kinds and reasons, which are our own.
const systemSecurity = "https://cloister.health/fhir/CodeSystem/security-event"

// The event types of DICOM (PS3.16, CID 400 to 403).
const (
	dicomAuthentication = "110114"
	dicomAlert          = "110113"
	dicomImport         = "110107"
)

// kinds gives each kind its DICOM type, the DICOM subtype that fits, or "", and AuditEvent.action.
var kinds = map[Kind]struct{ typ, subtype, action string }{
	SignIn:           {dicomAuthentication, "110122", "E"},
	SignOut:          {dicomAuthentication, "110123", "E"},
	Locked:           {dicomAlert, "", "E"},
	FactorAdded:      {dicomAlert, "110137", "C"},
	FactorRemoved:    {dicomAlert, "110137", "D"},
	PasswordChanged:  {dicomAlert, "110137", "U"},
	RecoveryAsked:    {dicomAlert, "110137", "E"},
	Invited:          {dicomAlert, "110137", "E"},
	AccountCreated:   {dicomAlert, "110137", "C"},
	AccountLinked:    {dicomAlert, "110137", "U"},
	AccountDisabled:  {dicomAlert, "110137", "U"},
	AccountEnabled:   {dicomAlert, "110137", "U"},
	RolesChanged:     {dicomAlert, "110136", "U"},
	SessionsEnded:    {dicomAuthentication, "110123", "E"},
	AppRegistered:    {dicomAlert, "110129", "C"},
	AppApproved:      {dicomAlert, "110129", "U"},
	AppRefused:       {dicomAlert, "110129", "U"},
	GrantGiven:       {dicomAuthentication, "", "C"},
	GrantRefused:     {dicomAuthentication, "", "C"},
	GrantRevoked:     {dicomAuthentication, "", "D"},
	TokenIssued:      {dicomAuthentication, "", "E"},
	TokenRefused:     {dicomAuthentication, "", "E"},
	TokenReused:      {dicomAlert, "", "E"},
	KeysRotated:      {dicomAlert, "110129", "U"},
	MonthDropped:     {dicomAlert, "", "D"},
	RecordsImported:  {dicomImport, "", "C"},
	RecordsRelabeled: {dicomAlert, "110136", "U"},
	NotesEncrypted:   {dicomAlert, "110129", "U"},
	NoteKeysRotated:  {dicomAlert, "110129", "U"},
	PackageInstalled: {dicomAlert, "110129", "C"},
	PoliciesRead:     {dicomAlert, "110136", "U"},
}

// Known says that k is one of the kinds above.
func (k Kind) Known() bool { _, ok := kinds[k]; return ok }

// Kinds lists the kinds in the order of their names. The caller owns the slice.
func Kinds() []Kind {
	out := make([]Kind, 0, len(kinds))
	for k := range kinds {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// RenderSecurity gives the R4 AuditEvent of s, in the coding of DICOM's audit messages with our
// kind as a further subtype.
func RenderSecurity(s Security) *element.Node {
	k := kinds[s.Kind]
	subtypes := []*element.Node{coding(systemSecurity, string(s.Kind))}
	if k.subtype != "" {
		subtypes = append([]*element.Node{coding(systemDICOM, k.subtype)}, subtypes...)
	}
	n := element.NewObject(
		str("resourceType", "AuditEvent"),
		str("id", s.ID),
		field("type", coding(systemDICOM, k.typ)),
		field("subtype", list(subtypes...)),
		str("action", k.action),
		str("recorded", s.At.UTC().Format(time.RFC3339Nano)),
		str("outcome", string(s.Outcome)),
	)
	if s.Reason != "" {
		n.Set("outcomeDesc", element.NewString(string(s.Reason)))
	}
	n.Set("agent", list(securityAgents(s)...))
	n.Set("source", element.NewObject(field("observer", element.NewObject(str("display", observer)))))
	var entities []*element.Node
	if s.Account != "" && s.By != "" { // somebody else acted: the account is what it was done to
		entities = append(entities, element.NewObject(
			field("what", element.NewObject(field("identifier", element.NewObject(str("value", s.Account))))),
			field("type", coding(systemEntityType, "1")),
		))
	}
	if s.Session != "" || len(s.Methods) > 0 {
		var details []*element.Node
		if s.Session != "" {
			what := "session"
			if s.Kind == MonthDropped {
				what = "month"
			}
			details = append(details, act(what, s.Session))
		}
		for _, m := range s.Methods {
			details = append(details, act("method", m))
		}
		entities = append(entities, element.NewObject(field("type", coding(systemEntityType, "2")), field("detail", list(details...))))
	}
	if entities != nil {
		n.Set("entity", list(entities...))
	}
	return n
}

// securityAgents are who acted, and the app through which.
func securityAgents(s Security) []*element.Node {
	actor := s.Account
	if s.By != "" {
		actor = s.By
	}
	var out []*element.Node
	if actor != "" || s.Client == "" {
		who := element.NewObject(field("identifier", element.NewObject(str("value", actor))))
		if actor == "" {
			who = element.NewObject(str("display", "unknown"))
		} else if u := s.User.String(); u != "" && s.By == "" && s.User.Type != "Person" { // R4 has no Person as agent.who
			who.Set("reference", element.NewString(u))
		}
		out = append(out, element.NewObject(
			field("who", who),
			field("requestor", &element.Node{Kind: element.Bool, Text: strconv.FormatBool(true)}),
		))
	}
	if s.Client != "" {
		out = append(out, element.NewObject(
			field("type", element.NewObject(field("coding", list(coding(systemDICOM, "110150"))))),
			field("who", element.NewObject(field("identifier", element.NewObject(str("value", s.Client))))),
			field("requestor", &element.Node{Kind: element.Bool, Text: strconv.FormatBool(len(out) == 0)}),
		))
	}
	if s.Address.IsValid() {
		out[0].Set("network", element.NewObject(str("address", s.Address.String()), str("type", "2")))
	}
	return out
}
