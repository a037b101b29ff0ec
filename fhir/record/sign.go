package record

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/signature"
)

// Signing is what somebody who signs, or revokes, a Consent says with it.
type Signing struct {
	IfMatch fhir.VersionID // 0: no precondition
	// Authority says why a RelatedPerson may sign for the patient (45 CFR 164.508(c)(1)(vi),
	// 42 CFR 2.14, 2.15): parent, guardian or executor. A patient who signs for herself needs none.
	Authority string
	AsWitness bool     // the signer saw others sign, and signs for nobody
	Witness   fhir.Ref // whom a signer names as having seen it, or zero
	Reason    string   // of a revocation, or ""
	// Standing is that of the version that is signed, and Person its patient.
	Standing Standing
	Person   Person
}

// Attestation is a signature, or a revocation, that was let in: changes that are to be committed
// together, and of a Consent who has signed it then and whose signatures it waits for.
type Attestation struct {
	Changes         []Cleared
	Signed, Awaited []consent.Signer
}

// Sign adds the signature of the holder of gr to a Consent that waits for it, together
// with the Provenance that carries it. It becomes active with the last signature that it asks for, and waits
// on until then: a witness alone, or one of minor and parent (S28, 42 CFR 2.14(c)), makes it permit nothing. What was
// changed after somebody signed it is signed anew by everybody. It is refused where the Consent, once active,
// would not be valid: the outcome then names every defect (42 CFR 2.31(a), 45 CFR 164.508(c)).
func (g *Gate) Sign(ctx context.Context, gr authz.Grant, current Sealed, s Signing) (Attestation, error) {
	if g.keys == nil {
		return Attestation{}, authz.ErrDenied
	}
	under := fhir.SignConsent
	if s.AsWitness {
		under = fhir.WitnessConsent
	}
	was, by, err := g.open(ctx, gr, under, current, s)
	if err != nil {
		return Attestation{}, err
	}
	if status := was.Root.Get("status").String(); status != "proposed" && status != "draft" {
		return Attestation{}, outcome.At(outcome.Conflict, "Consent.status", "the Consent does not wait for a signature: one that is proposed or a draft does")
	}
	if err := s.apart(by, gr.Caller().Subject); err != nil {
		return Attestation{}, err
	}
	d, err := codec.ConsentDirective(was)
	if err != nil {
		return Attestation{}, err
	}
	if consent.AsksForParent(d.Kind()) && !s.AsWitness {
		// Who may see such a Consent has no authority by that; and who may not see how old the patient is
		// does not know who has to sign.
		if by.patient != (fhir.Ref{}) && !d.NeedsParent() || vault.Head(s.Person.Record).Ref.Type != "Patient" {
			return Attestation{}, authz.ErrDenied
		}
	}
	now := g.now().UTC().Truncate(time.Second)
	parent, err := g.needsParent(ctx, gr, d.Kind(), s.Person, now)
	switch {
	case err != nil:
		return Attestation{}, err
	case parent && !d.NeedsParent():
		return Attestation{}, outcome.At(outcome.BusinessRule, "Consent.policy", "the patient is a minor, and a parent signs, too (42 CFR 2.14(c)): a form that says so is to be signed")
	}
	if len(s.Standing.Signatures) == 0 {
		unsign(was.Root)
	}
	by.sign(was.Root, s.Authority, now)
	if faults := unsignable(was, d.Patient, now); len(faults) > 0 {
		return Attestation{}, &outcome.Error{Issues: faults}
	}
	if d, err = codec.ConsentDirective(was); err != nil {
		return Attestation{}, err
	}
	signed, awaited := consent.Signers(d)
	was.Root.Set("status", element.NewString("proposed"))
	if len(awaited) == 0 {
		was.Root.Set("status", element.NewString("active"))
	}
	kind := signature.Consent
	if s.AsWitness {
		kind = signature.ConsentWitness
	}
	changes, err := g.attest(ctx, gr, attestation{
		under: under, content: was, version: vault.Head(current).Version, by: by, at: now, Signing: s, kind: kind,
		activity: code("http://terminology.hl7.org/CodeSystem/v3-DocumentCompletion", "LA", "legally authenticated"),
	})
	return Attestation{changes, signed, awaited}, err
}

// apart keeps the signatures of a Consent those of different people.
func (s Signing) apart(by signer, subject string) error {
	for _, x := range s.Standing.Signatures {
		if !x.by(by.who, subject) {
			continue
		}
		if (x.Role == roleWitness) != s.AsWitness {
			return outcome.New(outcome.BusinessRule, "a witness is somebody else than those whose signatures the witness saw")
		}
		return outcome.At(outcome.Conflict, "Consent.performer", "the Consent waits for the signature of somebody else: this one is there already")
	}
	switch {
	case s.Witness != (fhir.Ref{}) && s.Witness == by.who:
		return outcome.New(outcome.BusinessRule, "a witness is somebody else than those whose signatures the witness saw")
	case s.AsWitness && len(s.Standing.signedBy(false)) == 0:
		return outcome.At(outcome.Conflict, "Consent.performer", "nobody has signed the Consent yet, so there is nothing that a witness has seen")
	}
	return nil
}

// Revoke makes of an active Consent an inactive one, which permits nothing from the next
// request on (42 CFR 2.31(a)(6), 45 CFR 164.508(b)(5)), together with the Provenance
// that says who revoked it, and why. Nothing else of the Consent changes: it stays the
// evidence for what was disclosed in reliance on it.
func (g *Gate) Revoke(ctx context.Context, gr authz.Grant, current Sealed, s Signing) (Attestation, error) {
	was, by, err := g.open(ctx, gr, fhir.RevokeConsent, current, s)
	if err != nil {
		return Attestation{}, err
	}
	if was.Root.Get("status").String() != "active" {
		return Attestation{}, outcome.At(outcome.Conflict, "Consent.status", "the Consent is not active, so there is nothing to revoke")
	}
	was.Root.Set("status", element.NewString("inactive"))
	changes, err := g.attest(ctx, gr, attestation{
		under: fhir.RevokeConsent, content: was, version: vault.Head(current).Version, by: by, at: g.now().UTC().Truncate(time.Second), Signing: s, kind: signature.Author,
		activity: code("http://terminology.hl7.org/CodeSystem/v3-DataOperation", "NULLIFY", "nullify"),
	})
	return Attestation{Changes: changes}, err
}

// signer is who acts on a Consent.
type signer struct {
	who     fhir.Ref
	patient fhir.Ref // zero where the signer is the patient, a witness, or acts for the practice
	role    string   // patient, witness, or the authority by which the signer acts for the patient
}

// open discloses a Consent to one who is about to change it, and says for whom she acts.
func (g *Gate) open(ctx context.Context, gr authz.Grant, under fhir.Interaction, current Sealed, s Signing) (*codec.Resource, signer, error) {
	h, by := vault.Head(current), signer{who: gr.Caller().User}
	if h.Ref.Type != "Consent" || by.who == (fhir.Ref{}) {
		return nil, by, authz.ErrDenied
	}
	if _, err := g.decider.Extend(gr, under, h.Ref.Type); err != nil {
		return nil, by, err
	}
	read, err := g.decider.Extend(gr, fhir.Read, h.Ref.Type)
	if err != nil {
		return nil, by, err
	}
	if err := g.disclose(ctx, read, h.Ref.Type, current); err != nil {
		return nil, by, err
	}
	switch {
	case h.Deleted:
		return nil, by, outcome.New(outcome.Deleted, "the resource was deleted")
	case s.IfMatch != 0 && s.IfMatch != h.Version:
		return nil, by, outcome.New(outcome.Precondition, "the resource has changed since the version that If-Match names: read it again")
	}
	was, err := opened(ctx, current)
	if err != nil {
		return nil, by, err
	}
	d, err := codec.ConsentDirective(was)
	if err != nil {
		return nil, by, err
	}
	switch {
	case under == fhir.WitnessConsent:
		by.role = roleWitness
		if s.Authority != "" || by.who.Type == "Patient" {
			return nil, by, outcome.New(outcome.Invalid, "a witness is a Practitioner or a RelatedPerson, and signs by no authority")
		}
	case under == fhir.SignConsent && by.who.Type == "Patient":
		by.role = "patient"
	}
	if by.who.Type == "RelatedPerson" && under != fhir.WitnessConsent {
		by.patient, by.role = d.Patient, s.Authority
		switch s.Authority {
		case "parent", "guardian", "executor":
		default:
			return nil, by, outcome.New(outcome.Required, "whoever acts for the patient says by what authority (45 CFR 164.508(c)(1)(vi)): the parameter authority is parent, guardian or executor")
		}
	}
	return was, by, nil
}

// sign writes into a Consent that by signed it. The moment of the Consent is that of the last signature which is not a witness's.
func (by signer) sign(root *element.Node, authority string, at time.Time) {
	if by.role == roleWitness {
		states(root, "witnessed")
		return
	}
	root.Set("dateTime", instant(at))
	root.Set("performer", list(append(root.Get("performer").List(), reference(by.who))...))
	root.Set("verification", list(append(root.Get("verification").List(), element.NewObject(
		element.Field{Name: "verified", Value: &element.Node{Kind: element.Bool, Text: "true"}},
		element.Field{Name: "verifiedWith", Value: reference(by.who)},
		element.Field{Name: "verificationDate", Value: instant(at)},
	))...))
	if by.patient != (fhir.Ref{}) {
		states(root, "authority-"+authority)
	}
}

// states adds a statement to a Consent that has not made it.
func states(root *element.Node, statement string) {
	uri := fhir.ConsentStatement + "#" + statement
	policies := root.Get("policy").List()
	if !slices.ContainsFunc(policies, func(p *element.Node) bool { return p.Get("uri").String() == uri }) {
		root.Set("policy", list(append(policies[:len(policies):len(policies)], element.NewObject(element.Field{Name: "uri", Value: element.NewString(uri)}))...))
	}
}

// unsign takes out what a Consent says of signatures that this server did not make, or that it no longer bears.
func unsign(root *element.Node) {
	root.Delete("performer")
	root.Delete("verification")
	policies := slices.DeleteFunc(slices.Clone(root.Get("policy").List()), func(p *element.Node) bool {
		return p.Get("uri").String() == fhir.ConsentStatement+"#witnessed"
	})
	root.Delete("policy")
	if len(policies) > 0 {
		root.Set("policy", list(policies...))
	}
}

// unsignable says why a Consent would permit nothing although everybody had signed it whose signature it waits for.
func unsignable(r *codec.Resource, patient fhir.Ref, at time.Time) []outcome.Issue {
	signed := r.Clone()
	d, err := codec.ConsentDirective(signed)
	if err != nil {
		return outcome.Of(err).Issues
	}
	_, awaited := consent.Signers(d)
	for _, x := range awaited {
		switch x {
		case consent.SignerPatient:
			signer{who: patient}.sign(signed.Root, "", at)
		case consent.SignerParent:
			signer{who: fhir.Ref{Type: "RelatedPerson", ID: "parent"}, patient: patient}.sign(signed.Root, "parent", at)
		case consent.SignerWitness:
			signer{role: roleWitness}.sign(signed.Root, "", at)
		}
	}
	signed.Root.Set("status", element.NewString("active"))
	return defects(signed)
}

// defects says why a Consent would permit nothing although it is meant to. Of the Consent's
// content nothing is in it.
func defects(r *codec.Resource) []outcome.Issue {
	d, err := codec.ConsentDirective(r)
	if err != nil {
		return outcome.Of(err).Issues
	}
	var out []outcome.Issue
	for _, text := range consent.Compile(d, Labels).Defects {
		out = append(out, outcome.Issue{Category: outcome.BusinessRule, Path: defectPath(text), Text: text})
	}
	return out
}

// defectPath is the element that a defect is about.
func defectPath(text string) string {
	for _, x := range []struct{ begins, path string }{
		{"42 CFR 2.31(a)(1)", "patient"}, {"42 CFR 2.31(a)(2)", "organization"}, {"42 CFR 2.31(a)(3)", "provision"},
		{"42 CFR 2.31(a)(4)", "provision.actor"}, {"42 CFR 2.31(a)(5)", "provision.purpose"}, {"42 CFR 2.31(a)(6)", "source"},
		{"42 CFR 2.31(a)(7)", "provision.period"}, {"42 CFR 2.31(a)(8)", "performer"}, {"42 CFR 2.31(a)(9)", "dateTime"},
		{"45 CFR 164.508(c)(1)(i):", "provision"}, {"45 CFR 164.508(c)(1)(ii):", "organization"}, {"45 CFR 164.508(c)(1)(iii)", "provision.actor"},
		{"45 CFR 164.508(c)(1)(iv)", "provision.purpose"}, {"45 CFR 164.508(c)(1)(v):", "provision.period"}, {"45 CFR 164.508(c)(1)(vi)", "performer"},
		{"45 CFR 164.508(c)(2)", "policy"}, {"42 CFR 2.31(a)(10)", "policy"},
		{"category", "category"}, {"provision.type", "provision.type"}, {"provision.action", "provision.action"}, {"provision.period", "provision.period"},
	} {
		if strings.HasPrefix(text, x.begins) {
			return "Consent." + x.path
		}
	}
	return "Consent"
}

// attestation is a change of a Consent that a Provenance records.
type attestation struct {
	Signing
	under    fhir.Interaction
	content  *codec.Resource
	version  fhir.VersionID // of the Consent before the change
	by       signer
	at       time.Time
	kind     string // Signature.type
	activity *element.Node
}

// attest admits the change of the Consent and the Provenance that records and, where there is
// a key, signs it.
func (g *Gate) attest(ctx context.Context, gr authz.Grant, a attestation) ([]Cleared, error) {
	ref := a.content.Ref()
	p, err := g.provenance(a)
	if err != nil {
		return nil, err
	}
	change := Change{Interaction: fhir.Patch, under: a.under, Ref: ref, Content: a.content, IfMatch: a.version}
	if a.under != fhir.RevokeConsent {
		change.signature = &vault.Signature{Role: a.by.role, Who: a.by.who, Subject: gr.Caller().Subject, At: a.at, First: len(a.Standing.Signatures) == 0}
	}
	changed, err := g.admit(ctx, gr, change)
	if err != nil {
		return nil, err
	}
	made, err := g.admit(ctx, gr, Change{Interaction: fhir.Create, under: a.under, Ref: p.Ref(), Content: p})
	if err != nil {
		return nil, err
	}
	return []Cleared{changed, made}, nil
}

// provenance makes the Provenance of a. Its targets are the version of the Consent that the
// change makes, and the patient, in whose compartment R4 puts it by that alone.
func (g *Gate) provenance(a attestation) (*codec.Resource, error) {
	as := code("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "author", "Author")
	if a.by.role == roleWitness {
		as = code("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "WIT", "witness")
	}
	agent := element.NewObject(element.Field{Name: "type", Value: concept(as)}, element.Field{Name: "who", Value: reference(a.by.who)})
	if a.by.patient != (fhir.Ref{}) {
		role := element.NewObject(element.Field{Name: "text", Value: element.NewString(a.Authority)})
		agent.Fields = slices.Insert(agent.Fields, 1, element.Field{Name: "role", Value: list(role)})
		agent.Set("onBehalfOf", reference(a.by.patient))
	}
	agents := list(agent)
	if a.Witness != (fhir.Ref{}) {
		agents.Items = append(agents.Items, element.NewObject(
			element.Field{Name: "type", Value: concept(code("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "WIT", "witness"))},
			element.Field{Name: "who", Value: reference(a.Witness)},
		))
	}
	targets := list(element.NewObject(element.Field{Name: "reference", Value: element.NewString(a.content.Ref().String() + "/_history/" + NewVersion)}))
	if patient, ok := codec.LocalRef(a.content.Root.Get("patient").Get("reference").String()); ok {
		targets.Items = append(targets.Items, reference(patient))
	}
	root := element.NewObject(
		element.Field{Name: "resourceType", Value: element.NewString("Provenance")},
		element.Field{Name: "id", Value: element.NewString(NewID())},
		element.Field{Name: "target", Value: targets},
		element.Field{Name: "occurredDateTime", Value: instant(a.at)},
		element.Field{Name: "recorded", Value: instant(a.at)},
	)
	if a.Reason != "" {
		root.Set("reason", list(element.NewObject(element.Field{Name: "text", Value: element.NewString(a.Reason)})))
	}
	root.Set("activity", concept(a.activity))
	root.Set("agent", agents)
	if g.keys != nil {
		s, err := g.signature(a)
		if err != nil {
			return nil, err
		}
		root.Set("signature", list(s))
	}
	r, err := codec.Check(root)
	if err != nil { // what the signer says stands in it as text
		return nil, err
	}
	return r, nil
}

func (g *Gate) signature(a attestation) (*element.Node, error) {
	c := signature.Claims{Type: a.kind, Who: a.by.who.String(), OnBehalf: a.by.patient.String(), Witness: a.Witness.String(), At: a.at, Canonical: codec.Canonicalization}
	jws, err := g.keys.Sign(a.content.Canonical(), c)
	if err != nil {
		return nil, outcome.New(outcome.Internal, "the server failed; its log says why").Because(err)
	}
	s := element.NewObject(
		element.Field{Name: "type", Value: list(code(signature.Types, a.kind, signature.Display(a.kind)))},
		element.Field{Name: "when", Value: instant(a.at)},
		element.Field{Name: "who", Value: reference(a.by.who)},
	)
	if a.by.patient != (fhir.Ref{}) {
		s.Set("onBehalfOf", reference(a.by.patient))
	}
	s.Set("targetFormat", element.NewString("application/fhir+json;canonicalization="+codec.Canonicalization))
	s.Set("sigFormat", element.NewString(signature.Format))
	s.Set("data", element.NewString(base64.StdEncoding.EncodeToString([]byte(jws))))
	return s, nil
}

func list(items ...*element.Node) *element.Node {
	return &element.Node{Kind: element.Array, Items: items}
}

func reference(r fhir.Ref) *element.Node {
	return element.NewObject(element.Field{Name: "reference", Value: element.NewString(r.String())})
}

func code(system, code, display string) *element.Node {
	return element.NewObject(
		element.Field{Name: "system", Value: element.NewString(system)},
		element.Field{Name: "code", Value: element.NewString(code)},
		element.Field{Name: "display", Value: element.NewString(display)},
	)
}

func concept(codings ...*element.Node) *element.Node {
	return element.NewObject(element.Field{Name: "coding", Value: list(codings...)})
}

func instant(t time.Time) *element.Node { return element.NewString(t.UTC().Format(time.RFC3339)) }
